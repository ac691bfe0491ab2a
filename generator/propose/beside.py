"""Columns beside the input and the label that `[features]` could tell the head of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from generator.errors import quote
from generator.propose.cells import none_among, stands_for_none
from generator.propose.columns import Chosen
from generator.propose.facts import ColumnFacts, TableFacts, kind_of
from generator.propose.leaks import Leak
from generator.propose.names import IDENTIFIERS, words_of
from generator.spec.rules import COLUMN, check_string

MOST_CATEGORIES = 100  # of a column, as [features] has it where it is not said
ROWS_A_CATEGORY = 10


def beside(table: TableFacts, chosen: Chosen, found: Sequence[Leak]) -> Iterator[str]:
    """A key of [features] for each kind of column that there is, as TOML, and what of
    [data.clean] they need."""
    taken = {*chosen.inputs, *chosen.targets, *(leak.column for leak in found)}
    rest = [c for c in table.columns if c.name not in taken and not _is_name(c)]
    kinds = (
        ("numeric", _is_number),
        ("categorical", _is_category),
        ("dates", _is_date),
    )
    gaps = Counter[str]()
    for key, fits in kinds:
        those = [c for c in rest if fits(c, table)]
        if those:
            yield f"{key} = {_listed([c.name for c in those])}"
        for column in those:
            gaps += none_among(
                c for c in table.cells(column.name) if isinstance(c, str)
            )
    if gaps:
        yield f"with missing = {_listed([*gaps])} in [data.clean], which are gaps there"


def _listed(names: Iterable[str]) -> str:
    return f"[{', '.join(quote(name, 1000) for name in names)}]"


def _is_name(column: ColumnFacts) -> bool:
    """Whether it only says which row it is, or cannot be named in a spec."""
    words = set(words_of(column.name))
    return bool(words & IDENTIFIERS) or check_string(COLUMN, column.name) is not None


def _is_number(column: ColumnFacts, table: TableFacts) -> bool:
    """Whether it has numbers, and nothing beside them but words for none."""
    if not column.only("integer", "number", "text") or column.low == column.high:
        return False
    cells = table.cells(column.name)
    rest = [c for c in cells if kind_of(c) == "text"]
    if len(rest) == len(cells) or not all(map(stands_for_none, rest)):
        return False
    apart = column.only("integer") and len({*map(str, cells)}) == len(cells)
    return not apart


def _is_category(column: ColumnFacts, table: TableFacts) -> bool:
    """Of whole numbers nobody knows whether they are: those are numbers here."""
    values = column.values or {}
    return (
        column.only("text", "flag")
        and 1 < len(values) <= MOST_CATEGORIES
        and column.present >= ROWS_A_CATEGORY * len(values)
    )


def _is_date(column: ColumnFacts, table: TableFacts) -> bool:
    if column.only("date"):
        return True
    cells = table.cells(column.name)
    return bool(cells) and all(map(_reads_as_date, cells))


def _reads_as_date(cell: object) -> bool:
    """As features.py of a package reads it; numbers such as 20240131 are none here."""
    try:
        return (
            isinstance(cell, str) and "-" in cell and bool(datetime.fromisoformat(cell))
        )
    except ValueError:
        return False
