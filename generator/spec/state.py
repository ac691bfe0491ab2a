"""What is found out while the values of a spec are gone through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from generator.spec.places import Path


@dataclass(frozen=True)
class Problem:
    """A diagnostic to be: `path` and `at` become its place once that is worked out."""

    code: str
    path: Path
    message: str
    label: str = ""
    help: str = ""
    at: Literal["key", "value"] = "value"


@dataclass
class State:
    """What is known while the values are gone through."""

    task: str | None  # None where the file gives none that is known
    given: frozenset[str]  # paths of the known keys that are in the file
    problems: list[Problem] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)  # by path, read
    suggested: set[str] = field(default_factory=set)

    def add(self, code: str, path: Path, message: str, **rest: Any) -> None:
        self.problems.append(Problem(code, path, message, **rest))
