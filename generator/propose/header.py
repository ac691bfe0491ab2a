"""Whether the first line of a table is a row of data, and no names of columns."""

from __future__ import annotations

from generator.errors import GenError, fail, quote
from generator.propose.facts import DATE, ColumnFacts, TableFacts, kind_of

WORDS = 4  # in a text, from which on it is no usual name of a column


def check_header(table: TableFacts, file: str) -> None:
    """GenError (G531) where what should be names are cells like those below, one of them
    beyond doubt: a number over numbers, a date over dates, a value of the column."""
    if not file.endswith((".csv", ".tsv")) or not table.columns:
        return
    if not all(map(_like_a_cell, table.columns)):
        return
    if any(map(_surely_a_cell, table.columns)):
        names = ", ".join(quote(column.name, 40) for column in table.columns[:8])
        raise _no_names(file, names + ", ..." * (len(table.columns) > 8))


def _no_names(file: str, names: str) -> GenError:
    return fail(
        "G531",
        f"the first line of {file} is a row, where the names of its columns should be: "
        f"{names}",
        help="put a line of names above it, such as label,text; as it is that row would "
        "be lost",
    )


def _like_a_cell(column: ColumnFacts) -> bool:
    name = column.name.strip()
    return not name or _surely_a_cell(column) or len(name.split()) >= WORDS


def _surely_a_cell(column: ColumnFacts) -> bool:
    name = column.name.strip()
    if not name or not column.present:
        return False
    if column.only("integer", "number"):
        return kind_of(name) in ("integer", "number")
    if DATE.fullmatch(name):
        return column.only("text")
    return bool(column.values) and name in column.values
