"""The three ways to say where a checkpoint is: `from` in [backbone], taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Hub names and revisions: letters, digits and these marks; a revision may be a branch,
# a tag, refs/pr/1 or a commit. Segments start with a letter or digit: no "..", no "-x".
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MODULE = r"[A-Za-z_][A-Za-z0-9_]*"
HUB = rf"hf:{_WORD}/{_WORD}@{_WORD}(/{_WORD})*"
PACKAGE = rf"package:{_MODULE}(\.{_MODULE})*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+:"  # two letters or more: C:/models is a folder
WEIGHT_ENDINGS = (
    "safetensors",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "onnx",
    "h5",
    "json",
)
FOLDER = rf"(?!{SCHEME})(?!~(/|$))(?!.*\.({'|'.join(WEIGHT_ENDINGS)})$).+"


@dataclass(frozen=True)
class FolderSource:
    """A folder of files, resolved against --root."""

    path: str


@dataclass(frozen=True)
class PackageSource:
    """Files that an installed package carries: `package:module.sub/folder`."""

    module: str  # dotted
    path: str  # relative, with forward slashes; "" is the package's own folder


@dataclass(frozen=True)
class HubSource:
    """A repository on the Hugging Face hub: `hf:owner/name@revision`."""

    owner: str
    name: str
    revision: str


Source = FolderSource | PackageSource | HubSource


def parse_source(text: str) -> Source:
    """The parts of a `from` that the reader accepted; ValueError for any other text."""
    if re.fullmatch(HUB, text):
        repository, revision = text.removeprefix("hf:").split("@", 1)
        owner, name = repository.split("/")
        return HubSource(owner, name, revision)
    if re.fullmatch(PACKAGE, text):
        module, _, path = text.removeprefix("package:").partition("/")
        return PackageSource(module, path)
    if re.fullmatch(FOLDER, text):
        return FolderSource(text)
    raise ValueError(f"not a source of a checkpoint: {text!r}")
