"""gen.lock, which says what a package was built from: how it is read, and its seals."""

from __future__ import annotations

import hashlib
import json
from typing import Any

LOCK = "gen.lock"
LOCK_VERSION = 1


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_lock(data: bytes) -> dict[str, Any] | None:
    """A lock's content; None where it is none of ours."""
    try:
        content = json.loads(data)
    except ValueError:
        return None
    match content:
        case {"version": version, "files": dict(files)} if version == LOCK_VERSION:
            return content if all(map(_is_sealed, files.values())) else None
    return None


def _is_sealed(entry: Any) -> bool:
    match entry:
        case {"draft": str(), "seal": str()}:
            return True
    return False
