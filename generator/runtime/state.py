"""Which stages of a run are finished, so that `--resume` does not do them again.

Kept in the work folder as stages.json. A stage counts as finished only for the package
and the weights that it was run with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generator.runtime.files import write_if_changed

FILE = "stages.json"


@dataclass
class Stages:
    """The stages of a work folder, by name."""

    work: Path
    key: str
    resume: bool
    seconds: dict[str, float] = field(default_factory=dict)  # of those done or skipped

    def finished(self, stage: str, result: Path) -> bool:
        """Whether the stage may be skipped: asked to resume, and its result is there."""
        entry = self._read().get(stage)
        if not (self.resume and entry and entry.get("key") == self.key):
            return False
        if not result.is_file():
            return False
        self.seconds[stage] = entry["seconds"]
        return True

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure a stage; what raises is neither timed nor finished."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    def finish(self, stage: str) -> None:
        """Write down that a timed stage is done."""
        entry = {"key": self.key, "seconds": self.seconds[stage]}
        stages = {**self._read(), stage: entry}
        data = json.dumps(stages, indent=1).encode() + b"\n"
        write_if_changed(self.work / FILE, data)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads((self.work / FILE).read_bytes())
        except (OSError, ValueError):
            return {}  # nothing is known to be finished, so nothing is skipped
        return found if isinstance(found, dict) else {}
