"""From a checkpoint's configuration to a job's model: one folder an architecture.

A folder defines `MODEL_TYPES`, the names that it answers to in config.json, and
`build(request: Request) -> Imported`, and `SAVED: Saved`, what its classifier is saved as.
It is found by being here.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from generator.errors import fail


def names() -> tuple[str, ...]:
    """The folders here."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.ispkg))


def find(model_type: str | None) -> ModuleType:
    """The architecture of a configuration's model_type; GenError G201 where unknown."""
    folders = names()
    # The folder of that very name first, so that a build imports one and not all.
    for name in sorted(folders, key=lambda n: n != model_type):
        if model_type in module(name).MODEL_TYPES:
            return module(name)
    known = sorted(t for n in folders for t in module(n).MODEL_TYPES)
    raise fail(
        "G201",
        f"no architecture for model_type {model_type!r}",
        help=f"supported are {', '.join(known)}",
    )


def module(name: str) -> ModuleType:
    """The architecture in a folder."""
    return importlib.import_module(f"{__name__}.{name}")
