"""What is known of a key of the spec beside its type and its default."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from generator.ir.plans import Task
from generator.spec.rules import Rule

TASKS: tuple[Task, ...] = typing.get_args(Task)
TEXT_TASKS: tuple[Task, ...] = ("text-classification", "multi-label", "regression")
IMAGE_TASKS: tuple[Task, ...] = ("image-classification",)
ONE_LABEL_TASKS: tuple[Task, ...] = ("text-classification", "image-classification")
LABEL_TASKS: tuple[Task, ...] = (*ONE_LABEL_TASKS, "multi-label")

LARGEST = 2**63 - 1  # of an integer in TOML


@dataclass(frozen=True)
class Key:
    """What is known of a key beside its type and default.

    A key outside `tasks` is an error in a spec of another task, and its field keeps its
    default. A key of `required` tasks has no default there. Where the key `unless` is
    given, this one contradicts it, and its field is None.
    """

    doc: str  # a sentence or two, plain text
    example: Any
    toml: str = ""  # the name in the file, where the field's own cannot be it
    unit: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    rule: Rule | None = None  # what its strings must look like
    few: Mapping[str, int] = field(default_factory=dict)  # items, by task
    many: int | None = None  # the most items of a list
    single: bool = False  # a value alone stands for a list of one
    lists: tuple[Task, ...] = TASKS  # where a list may be written, if `single`
    tasks: tuple[Task, ...] = TASKS
    required: tuple[Task, ...] = ()
    unless: str = ""
    also: tuple[str, ...] = ()  # what other tools call it, for suggestions
    spellings: Mapping[str, str] = field(default_factory=dict)  # of choices


def about(doc: str, example: Any, **facts: Any) -> dict[str, Any]:
    """The metadata of a field that is a key of the spec; `also` is a line of words."""
    also = tuple(facts.pop("also", "").split())
    return {"key": Key(doc, example, also=also, **facts)}


def section(doc: str) -> dict[str, Any]:
    """The metadata of a field that is a table of the spec."""
    return {"section": doc}
