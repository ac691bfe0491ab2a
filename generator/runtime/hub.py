"""A backbone on the hub: its facts by ranges, without the weights; the weights to run.

All traffic goes through huggingface_hub, so its settings hold (HF_ENDPOINT, HF_HOME,
HF_TOKEN, HF_HUB_OFFLINE). The revision of the spec is resolved to a commit once, and
everything after asks for that commit.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from generator.errors import Diagnostic, GenError, Place, fail
from generator.facts import CardFile, CardTensor
from generator.runtime.checkpoint import (
    CONFIG,
    TOKENIZER_LIMIT,
    LocalCheckpoint,
)
from generator.runtime.files import too_large
from generator.runtime.headers import read_header
from generator.runtime.weights import (
    find_weights,
)

PREFETCH = 1 << 17  # bytes of the first range; holds the header of most files
TIMEOUT = 20.0  # seconds without an answer
COMMIT = re.compile(r"[0-9a-f]{40}")
SOURCE = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@(?P<revision>[\w./-]+)",
    re.ASCII,
)
# Endings of what facts are gathered from, or a conversion needs, beside the weights.
BESIDE_WEIGHTS = (".json", ".txt", ".model", ".md")


@dataclass(frozen=True)
class HubCheckpoint:
    """One commit of a repository on the hub."""

    source: str
    repo: str  # "owner/name"
    asked: str  # the branch, tag or commit that was asked for
    revision: str  # the 40-digit commit that it names
    files: tuple[CardFile, ...]  # as the hub lists them; a hash only where it has one
    licence_name: str | None
    endpoint: str | None  # the hub's address; None for huggingface_hub's own setting
    cache: Path | None

    def names(self) -> frozenset[str]:
        return frozenset(f.name for f in self.files if "/" not in f.name)

    def label(self, name: str) -> str:
        return f"hf:{self.repo}/{name}"

    def size(self, name: str) -> int:
        size = self._file(name).size
        if size is None:
            raise fail(
                "G107",
                f"the hub does not say the size of {self.label(name)}",
                help="fetch the model into a folder and name that",
            )
        return size

    def read(self, name: str, limit: int) -> bytes:
        if self.size(name) > limit:
            raise too_large(self.label(name), limit)
        data = self.path(name).read_bytes()
        said = self._file(name).sha256
        if said is not None and hashlib.sha256(data).hexdigest() != said:
            raise fail(
                "G107",
                f"{self.label(name)} did not arrive as the hub has it",
                help=f"remove {self.path(name)} and try again",
            )
        return data

    def header(self, name: str) -> tuple[CardTensor, ...]:
        size = self.size(name)
        first = self._range(name, 0, min(PREFETCH, size))

        def read(offset: int, count: int) -> bytes:
            if offset + count <= len(first):
                return first[offset : offset + count]
            return self._range(name, offset, count)

        return read_header(read, size, self.label(name))

    def sha256(self, name: str) -> str | None:
        """The hub's own for files in Git LFS; small files are fetched and hashed."""
        file = self._file(name)
        if file.sha256 is not None or name.endswith(".safetensors"):
            return file.sha256
        return hashlib.sha256(self.read(name, TOKENIZER_LIMIT)).hexdigest()

    def licence(self) -> str | None:
        return self.licence_name

    def path(self, name: str) -> Path:
        import huggingface_hub

        with _explained(self.source, None):
            return Path(
                huggingface_hub.hf_hub_download(
                    self.repo,
                    name,
                    revision=self.revision,
                    endpoint=self.endpoint,
                    cache_dir=self.cache,
                )
            )

    def fetched(self) -> LocalCheckpoint:
        import huggingface_hub

        weights = find_weights(self)
        beside = (n for n in self.names() if n.endswith(BESIDE_WEIGHTS))
        wanted = [glob.escape(n) for n in (*weights.files, *sorted(beside))]
        # By the name that was asked for, so that the client notes which commit it means
        # and finds it without network later; by commit if it has moved since.
        for revision in dict.fromkeys((self.asked, self.revision)):
            with _explained(self.source, None):
                folder = huggingface_hub.snapshot_download(
                    self.repo,
                    revision=revision,
                    endpoint=self.endpoint,
                    cache_dir=self.cache,
                    allow_patterns=wanted,
                )
            if Path(folder).name == self.revision:
                break
        else:
            raise fail(
                "G107",
                f"the hub did not give {self.source} at commit {self.revision}",
                help="try again; check HF_ENDPOINT if it stays",
            )
        return LocalCheckpoint(self.source, Path(folder), self.revision)

    def _file(self, name: str) -> CardFile:
        return next(f for f in self.files if f.name == name)

    def _range(self, name: str, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`; stops reading where the hub sends more."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import (
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        url = hf_hub_url(
            self.repo, name, revision=self.revision, endpoint=self.endpoint
        )
        headers = build_hf_headers() | {
            "range": f"bytes={offset}-{offset + count - 1}",
            "accept-encoding": "identity",
        }
        found = bytearray()
        with (
            _explained(self.source, None),
            get_session().stream(
                "GET", url, headers=headers, timeout=TIMEOUT
            ) as answer,
        ):
            hf_raise_for_status(answer)
            # A server that ignores ranges answers 200 with the file from its start.
            skip = offset if answer.status_code == 200 else 0
            for chunk in answer.iter_bytes():
                found += chunk
                if len(found) >= skip + count:
                    break
        return bytes(found[skip : skip + count])


def open_hub(
    source: str,
    *,
    allow_network: bool,
    commit: str | None,
    place: Place | None,
    endpoint: str | None,
    cache: Path | None,
) -> HubCheckpoint | LocalCheckpoint:
    """The commit that `hf:owner/name@revision` means now; without network, from the cache.

    A branch or a tag is resolved to the commit that it names today, or to `commit`.
    """
    found = SOURCE.fullmatch(source)
    if found is None or ".." in source:
        raise fail(
            "G100",
            f'"{source}" is not of the form hf:owner/name@revision',
            place=place,
            help='such as "hf:google-bert/bert-base-uncased@main"; better, with a commit',
        )
    repo, revision = found["repo"], found["revision"]
    if commit is not None and not COMMIT.fullmatch(revision):
        revision = commit
    try:
        import huggingface_hub
    except ImportError:
        raise fail(
            "G107",
            f"{source} needs huggingface_hub, which is not installed here",
            place=place,
            help="pip install huggingface_hub; or fetch the model into a folder",
        ) from None
    if not allow_network:
        return _from_cache(source, repo, revision, place, endpoint, cache, None)
    try:
        with _explained(source, place):
            info = huggingface_hub.HfApi(endpoint=endpoint).model_info(
                repo, revision=revision, files_metadata=True, timeout=TIMEOUT
            )
    except GenError as error:
        if error.diagnostics[0].code != "G106":
            raise
        return _from_cache(source, repo, revision, place, endpoint, cache, error)
    sha = info.sha or ""
    if not COMMIT.fullmatch(sha) or (COMMIT.fullmatch(revision) and sha != revision):
        raise fail(
            "G107",
            f"the hub answered for {source} with the commit {sha!a:.60}",
            place=place,
            help="check HF_ENDPOINT: this is not how the hub answers",
        )
    files = (
        CardFile(
            s.rfilename,
            s.lfs.size if s.lfs else s.size,
            s.lfs.sha256 if s.lfs else None,
        )
        for s in info.siblings or ()
    )
    licence = getattr(info.card_data, "license", None)
    return HubCheckpoint(
        source,
        repo,
        revision,
        sha,
        tuple(sorted(files, key=lambda f: f.name)),
        licence if isinstance(licence, str) else None,
        endpoint,
        cache,
    )


def _from_cache(
    source: str,
    repo: str,
    revision: str,
    place: Place | None,
    endpoint: str | None,
    cache: Path | None,
    cause: GenError | None,
) -> LocalCheckpoint:
    """What an earlier run fetched of that revision, if the weights are among it."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                repo,
                revision=revision,
                local_files_only=True,
                allow_patterns=[CONFIG, "*.safetensors", "*.safetensors.index.json"],
                endpoint=endpoint,
                cache_dir=cache,
            )
        )
    except LocalEntryNotFoundError:
        folder = None
    if folder is None or not any(folder.glob("*.safetensors")):
        why = cause.diagnostics[0].message if cause else "the network was not allowed"
        raise GenError(
            [
                Diagnostic(
                    "G106",
                    f"{source} is not in the cache of the hub's client, and {why}",
                    place,
                    help=(
                        "run `gen facts SPEC` once where the hub can be reached and commit "
                        f"the facts; to run, fetch it with `hf download {repo} --revision "
                        f"{revision}`, or name a folder that holds it"
                    ),
                )
            ]
        ) from cause
    return LocalCheckpoint(source, folder, folder.name)


@contextmanager
def _explained(source: str, place: Place | None) -> Iterator[None]:
    """Say what the client's errors mean. Code G106 is: the hub cannot be reached."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise fail(
            "G104",
            f"{source} is given out only to those who asked its owner",
            place=place,
            help="accept its terms on the hub, then log in: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise fail(
            "G105",
            f"{source}: the hub has that model, but not that revision",
            place=place,
            help="name a branch, a tag or a commit that its page shows",
        ) from None
    except errors.RepositoryNotFoundError:
        raise fail(
            "G104",
            f"{source}: the hub shows no such model",
            place=place,
            help="check the name; for a private one log in first: hf auth login",
        ) from None
    except (
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        httpx.TransportError,
    ) as error:
        if isinstance(error, errors.OfflineModeIsEnabled):
            reason = "HF_HUB_OFFLINE forbids asking the hub"
        else:
            reason = f"the hub cannot be reached: {str(error) or type(error).__name__}"
        raise fail(
            "G106",
            reason[:300],
            place=place,
            help="try again where the hub can be reached, without HF_HUB_OFFLINE",
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise fail(
            "G106" if status >= 500 or status == 429 else "G107",
            f"the hub answered {source} with status {status}",
            place=place,
            help="try again later; if it stays, check HF_ENDPOINT and HF_TOKEN",
        ) from None
    except (errors.HFValidationError, ValueError) as error:
        raise fail(
            "G107",
            f"the hub's client refuses {source}: {error}",
            place=place,
            help="check the name, and HF_ENDPOINT",
        ) from None
