"""What is known of a table: counts over all of its rows, and some of the rows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Kind = Literal["text", "integer", "number", "flag", "date", "list", "image", "other"]

MOST_VALUES = 1000  # of a column, that are counted one by one
LONGEST_VALUE = 200  # characters; what is longer is no label
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
# What image files begin with: PNG, JPEG, GIF, BMP, TIFF; WebP has its name behind.
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
MARKS = {"0": False, "false": False, "1": True, "true": True}  # as packages read them
DATE = re.compile(  # with a time or without
    r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4})([T ]\d\d?:\d\d.*)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class ColumnFacts:
    """A column of the training file. Counts are of all rows."""

    name: str
    missing: int
    kinds: Mapping[Kind, int]  # of the cells that are there
    # How often each value comes; None where there are more than MOST_VALUES, or long ones.
    values: Mapping[str, int] | None
    low: float | None = None  # of the numbers
    high: float | None = None

    @property
    def present(self) -> int:
        return sum(self.kinds.values())

    def only(self, *kinds: Kind) -> bool:
        """Whether all of its cells are of these kinds."""
        there = {kind for kind, count in self.kinds.items() if count}
        return bool(there) and there <= set(kinds)


@dataclass(frozen=True)
class TableFacts:
    """The training file. `sample` are rows drawn evenly from all; long cells are cut."""

    rows: int
    columns: tuple[ColumnFacts, ...]
    sample: tuple[Mapping[str, Any], ...]
    # Columns that name image files, and the part of those tried that are there.
    images: Mapping[str, float] = field(default_factory=dict)
    held: frozenset[str] = frozenset()  # columns of images themselves, in bytes

    def column(self, name: str) -> ColumnFacts:
        return next(c for c in self.columns if c.name == name)

    def cells(self, name: str) -> list[Any]:
        """The cells of the sample that are there."""
        found = (row.get(name) for row in self.sample)
        return [cell for cell in found if not is_missing(cell)]


@dataclass(frozen=True)
class SplitFacts:
    """A file, read for the chosen columns."""

    split: str  # "train", "valid" or "test"
    file: str  # as the spec has it
    rows: int
    usable: int  # with an input and a target
    labels: Mapping[str, int]  # usable rows that have each; empty for regression
    size: int = 0  # bytes


@dataclass(frozen=True)
class Overlap:
    """Inputs that come more than once. Counts are exact where `part` is 1.

    With more inputs than are remembered, `part` of them are followed, the same ones in
    every file, and the counts are those of the part divided by it.
    """

    part: float
    repeated: int  # training rows whose input another training row has too, but for one
    contrary: int  # inputs of the training file that have different labels
    shared: Mapping[tuple[str, str], int]  # inputs that are in both of two splits


@dataclass(frozen=True)
class RowFacts:
    """All files, read for the chosen columns."""

    splits: tuple[SplitFacts, ...]  # train first
    overlap: Overlap
    left: Mapping[
        str, int
    ]  # training rows of each label whose input is in no other split
    low: float = 0.0  # of the training targets of a regression
    high: float = 0.0
    mean: float = 0.0
    spread: float = 0.0  # standard deviation

    @property
    def train(self) -> SplitFacts:
        return self.splits[0]


@dataclass(frozen=True)
class BackboneFacts:
    """The backbone as far as it is at hand."""

    source: str
    why: str
    bound: int | None = None  # tokens that it reads
    width: int | None = None
    # Tokens of the sample's inputs, special ones included; None where its tokenizer is
    # not at hand.
    lengths: Sequence[int] | None = None


def is_missing(cell: Any) -> bool:
    """Whether there is nothing in a cell: none, not a number, or blank."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def kind_of(cell: Any) -> Kind:
    """The kind of a cell that is not missing; text that reads as a number is one."""
    match cell:
        case bool():
            return "flag"
        case int():
            return "integer"
        case float():
            return "number"
        case date():  # with a time or without
            return "date"
        case list():
            return "list"
        case bytes() | dict():
            return "other" if image_bytes(cell) is None else "image"
        case str():
            text = cell.strip() if len(cell) <= 40 else ""
            if _INTEGER.fullmatch(text):
                return "integer"
            return "number" if _NUMBER.fullmatch(text) else "text"
    return "other"


def image_bytes(cell: Any) -> bytes | None:
    """The image in a cell: bytes, or {bytes, path} as Hugging Face's datasets write it."""
    if isinstance(cell, dict) and set(cell) == {"bytes", "path"}:
        cell = cell["bytes"]
    if not isinstance(cell, bytes):
        return None
    known = cell.startswith(_IMAGES) or cell[:4] == b"RIFF" and cell[8:12] == b"WEBP"
    return cell if known else None


def mark_of(cell: Any) -> bool | None:
    """Whether a cell says 1 or 0, or true or false; None where it says neither."""
    return MARKS.get(str(cell).strip().lower().removesuffix(".0"))


def label_name(cell: Any) -> str:
    """The label that a generated package takes a cell for."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float):
        return str(cell).removesuffix(".0")
    return str(cell)


def label_names(cell: Any, separator: str) -> list[str]:
    """The labels of a cell that may hold several."""
    if isinstance(cell, list):
        return [label_name(one) for one in cell if not is_missing(one)]
    return [name for part in str(cell).split(separator) if (name := part.strip())]
