"""Files read from a checkpoint, and written beside a spec. Every failure is a GenError."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from io import BufferedReader
from pathlib import Path

from generator.errors import GenError, fail

MEBIBYTE = 1 << 20


def open_file(path: Path, file: str) -> BufferedReader:
    """Open a regular file for reading; links are followed, as a hub's cache needs.

    Pipes, devices and sockets are refused before they are opened: opening one can hang.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise fail(
                "G113",
                f"{file} is not a regular file",
                help="put the file itself there",
            )
        return path.open("rb")
    except OSError as error:
        raise fail(
            "G113",
            f"{file} cannot be read: {error.strerror or error}",
            help=(
                "it is a link to a file that is gone; fetch the file again"
                if path.is_symlink()
                else "check that it is there and that you may read it"
            ),
        ) from None


def file_size(path: Path, file: str) -> int:
    """Size in bytes."""
    with open_file(path, file) as handle:
        return os.fstat(handle.fileno()).st_size


def read_small(path: Path, file: str, limit: int) -> bytes:
    """The whole of a file of at most `limit` bytes."""
    with open_file(path, file) as handle:
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise too_large(file, limit)
    return data


def too_large(file: str, limit: int) -> GenError:
    """The error for a file that should be small and is not."""
    return fail(
        "G113",
        f"{file} is larger than {limit // MEBIBYTE} MiB, more than such a file can need",
        help="check that it is the file it claims to be",
    )


def hash_file(path: Path, file: str) -> str:
    """SHA-256 in hexadecimal, streamed (90 MB take about 0.1 s)."""
    with open_file(path, file) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_if_changed(path: Path, data: bytes) -> bool:
    """Write atomically; a file that already says so keeps its time. True if written."""
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp leaves it to its owner only
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
