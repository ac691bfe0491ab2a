"""What the guard of a run took out of its rows, for the programs that read them again."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any


def taken_out(data: Any, work: Path) -> dict[str, Any]:
    """What the guard of the run in a work folder took out, for `load_splits`."""
    file = work / "guard.json"
    if "inspect" not in signature(data.load_splits).parameters or not file.is_file():
        return {}
    known = json.loads(file.read_text())

    def inspect(rows: dict[str, Any]) -> dict[str, dict[int, tuple[str, str]]]:
        if {split: len(some) for split, some in rows.items()} != known["sizes"]:
            return {}  # it is of other rows
        return {
            split: {int(i): (reason, note) for i, (reason, note) in gone.items()}
            for split, gone in known["leaving"].items()
        }

    return {"inspect": inspect}
