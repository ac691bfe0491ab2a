"""Which column is the text, which the label, and so what the task is.

By name where a name tells, else by what is in the columns. Whatever decided is said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from generator.errors import Diagnostic, GenError, fail, quote
from generator.ir.plans import Task
from generator.propose.cells import written_list
from generator.propose.facts import (
    DATE,
    LONGEST_VALUE,
    MOST_VALUES,
    ColumnFacts,
    TableFacts,
    kind_of,
    label_name,
    label_names,
    mark_of,
)
from generator.propose.header import check_header
from generator.propose.names import (
    IMAGES,
    LABELS,
    NEVER_LABELS,
    NUMBERS,
    PAIRS,
    TEXTS,
    name_rank,
    words_of,
)
from generator.spec.rules import COLUMN, LABEL, check_string
from generator.spec.words import listed

SEPARATORS = (";", "|", ",")
_COMMA = re.compile(r"[+-]?\d+(\.\d{3})*,\d+", re.ASCII)  # for a point
# With a sign of money, of a part or a unit, or with commas between thousands.
_DRESSED = re.compile(
    r"[^\w\s.,]{0,3}\s*[+-]?\d+(,\d{3})*(\.\d+)?\s*([^\w\s.,]{1,3}|[A-Za-z]{1,4})?",
    re.ASCII,
)

FEW_NUMBERS = 20  # whole numbers of at most so many values are labels
MOSTLY = 0.95  # of the cells are numbers: then the others are gaps, such as "n/a"
ROWS_A_VALUE = 2.0  # what comes less often on average is no label
WORDS = 3.0  # on average, from which on a column reads as text
COUNTED = 50  # rows, from which on it is no chance that all have another whole number
SPACED = 3  # cells for each word that they are made of: labels with spaces between them
FEW_TEXTS = 20  # rows for each value, from which on a column is hardly the text
LABEL_WORDS = 5.0  # on average, up to which a value reads as a label


@dataclass(frozen=True)
class Chosen:
    """The columns that count. `text` has one or two, or none where `image` is given."""

    task: Task
    label: str
    text: tuple[str, ...]
    image: str | None
    separator: str | None  # of the labels in a cell
    why_task: str
    why_label: str
    why_input: str
    held: bool = False  # the image is in the row, in bytes
    # Columns of 0 and 1, one for each label, of which `label` is the first.
    flags: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that say what is to be learned."""
        return self.flags or (self.label,)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.image,) if self.image is not None else self.text


@dataclass(frozen=True)
class Target:
    """A column that could be the label."""

    column: str
    task: Task
    separator: str | None
    why: str  # of the task, what is said of the column


@dataclass(frozen=True)
class Asked:
    """Columns that the user names: those of the label, and the text or the two of a pair."""

    label: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


UNASKED = Asked()


def choose(table: TableFacts, file: str, asked: Asked = UNASKED) -> Chosen:
    """The columns; GenError where they have no names (G531), none could be the label
    (G524), the label is always the same (G525), or there is neither text nor image (G526).
    """
    check_header(table, file)
    _there(table, file, asked)
    image = _image(table) if not asked.text else None
    texts = [c.name for c in table.columns if _reads_as_text(c, table)]
    if asked.label:
        best, flags, others = *_asked_label(table, file, asked, image), []
    else:
        targets = _targets(table, file, asked, image, texts)
        best = min(targets, key=lambda t: _preference(t, table))
        flags = _flags(table, targets, best) if texts or not image else ()
        others = [t.column for t in targets if t is not best]
    if flags:
        return _of_flags(table, flags, _texts(table, best.column, texts, file, asked))
    why = _why_label(best, others, asked)
    if image is not None and best.task == "text-classification":
        return _of_image(table, image, best, why)
    text, why_input = _texts(table, best.column, texts, file, asked)
    kind = "a pair of texts" if len(text) == 2 else "a text"
    return Chosen(
        best.task,
        best.column,
        text,
        None,
        best.separator,
        f"each row has {kind}, and {quote(best.column)} {best.why}",
        why,
        why_input,
    )


def _of_flags(
    table: TableFacts, flags: tuple[str, ...], input: tuple[tuple[str, ...], str]
) -> Chosen:
    text, why_input = input
    names = ", ".join(map(quote, flags[:8])) + ", ..." * (len(flags) > 8)
    return Chosen(
        "multi-label",
        flags[0],
        text,
        None,
        None,
        f"{len(flags)} columns say 0 or 1 each, so that a row may have several labels",
        f"{names}: a row has the label of each column that is 1. {_marked(table, flags)}",
        why_input,
        flags=flags,
    )


def _of_image(table: TableFacts, image: str, best: Target, why: str) -> Chosen:
    held = image in table.held
    return Chosen(
        "image-classification",
        best.column,
        (),
        image,
        None,
        f"{quote(image)} {'has images' if held else 'names image files'}, and each "
        "row has one label",
        why,
        (
            "its cells are images themselves, in bytes"
            if held
            else "its cells are paths of image files that are there"
        ),
        held=held,
    )


def _why_label(best: Target, others: Sequence[str], asked: Asked) -> str:
    if asked.label:
        return f"as --label says; it {best.why}"
    told = name_rank(best.column, LABELS) < len(LABELS)
    why = f"{'its name says it, and' if told else 'no name tells;'} it {best.why}"
    if others:
        shown = ", ".join(map(quote, others[:8])) + ", ..." * (len(others) > 8)
        why += f". Could be the label too, by --label: {shown}"
    return why


# What the user names -----------------------------------------------------------------


def _there(table: TableFacts, file: str, asked: Asked) -> None:
    names = [c.name for c in table.columns]
    for option, columns in (("--label", asked.label), ("--text", asked.text)):
        for name in columns:
            if name not in names:
                raise fail(
                    "G532",
                    f"{option} names the column {quote(name)}, which {file} does not have",
                    help=f"it has {listed([*map(quote, names[:20])], 'and')}"
                    + ", and more" * (len(names) > 20),
                )
    if len(asked.text) > 2:
        raise fail(
            "G532",
            f"--text names {len(asked.text)} columns",
            help="a row has a text, or a pair of two; join others in a column of the file",
        )
    if both := [name for name in asked.text if name in asked.label]:
        raise fail(
            "G532",
            f"{quote(both[0])} cannot be both the text and the label",
            help="name another column after --text or --label",
        )


def _asked_label(
    table: TableFacts, file: str, asked: Asked, image: str | None
) -> tuple[Target, tuple[str, ...]]:
    """What the named column is as a label, and several that are one for each label."""
    columns = [table.column(name) for name in asked.label]
    if len(columns) > 1:
        for column in columns:
            if not _is_flag(column):
                raise _no_such_label(column, file, "it is not 0 or 1 in all rows")
        target = Target(columns[0].name, "multi-label", None, "has 0 and 1")
        return target, asked.label
    found = _target(columns[0], table)
    if isinstance(found, str):
        raise _no_such_label(columns[0], file, found)
    if image and found.task != "text-classification":
        raise _no_such_label(
            columns[0], file, f"it {found.why}, and an image has one label"
        )
    return found, ()


def _no_such_label(column: ColumnFacts, file: str, why: str) -> GenError:
    return fail(
        "G532",
        f"{quote(column.name)} of {file} cannot be the label: {why}",
        help="name another column after --label",
    )


# Labels ------------------------------------------------------------------------------


def _targets(
    table: TableFacts,
    file: str,
    asked: Asked,
    image: str | None,
    texts: Sequence[str],
) -> list[Target]:
    """The columns that could be the label, one at least."""
    telling = [t for t in texts if name_rank(t, TEXTS) < len(TEXTS)]
    inputs = {*(asked.text or telling), *([image] if image else [])}
    targets: list[Target] = []
    refused: list[tuple[ColumnFacts, str]] = []
    for column in table.columns:
        if column.name not in inputs:
            found = _not_meant(column, table) or _target(column, table)
            if isinstance(found, str):
                refused.append((column, found))
            elif image and not texts and found.task != "text-classification":
                refused.append((column, f"it {found.why}, and an image has one label"))
            else:
                targets.append(found)
    _one_class(targets, table, file)
    _written_out(targets, table, file)
    if not targets:
        raise _no_label(refused, file)
    return targets


def _preference(target: Target, table: TableFacts) -> tuple[int, bool, int, int]:
    """The best name first; without one what most rows have, labels before numbers, and
    the last column."""
    tasks = ("text-classification", "multi-label", "regression")
    rank, column = name_rank(target.column, LABELS), table.column(target.column)
    sparse = 2 * column.missing > table.rows
    place = -table.columns.index(column)
    return rank, sparse, tasks.index(target.task), place


def _not_meant(column: ColumnFacts, table: TableFacts) -> str:
    """Why nobody would mean it as the label, by its name or as it counts rows."""
    words = set(words_of(column.name))
    told = name_rank(column.name, LABELS) < len(LABELS)
    if not told and words & NEVER_LABELS:
        return "its name is not that of a label"
    cells = table.cells(column.name)
    apart = column.only("integer") and len({*map(str, cells)}) == len(cells)
    if apart and len(cells) >= COUNTED and not told and not words & NUMBERS:
        return "every row has another whole number, as an identifier has"
    return ""


def _target(column: ColumnFacts, table: TableFacts) -> Target | str:
    """What the column would be as a label, or why it cannot be one."""
    found = _as_target(column, table)
    if not isinstance(found, str):
        return found
    cells = table.cells(column.name)
    if number := _mostly(_COMMA, cells):
        return f"{found}; numbers have a point in them, not a comma as {quote(number)}"
    if column.kinds.get("text") and (number := _mostly(_DRESSED, cells)):
        return f"{found}; numbers stand alone, without what is around them in {quote(number)}"
    return found


def _mostly(form: re.Pattern[str], cells: Sequence[Any]) -> str | None:
    """The first cell, where nearly all are of a form."""
    found = [c for c in cells if isinstance(c, str) and form.fullmatch(c.strip())]
    return found[0] if found and len(found) >= MOSTLY * len(cells) else None


def _as_target(column: ColumnFacts, table: TableFacts) -> Target | str:
    name = column.name
    if check_string(COLUMN, name):
        return "its name cannot stand in a spec"
    if not column.present:
        return "it is empty"
    if column.values and all(DATE.fullmatch(v.strip()) for v in column.values):
        return "it holds dates"
    if column.kinds.get("date"):
        return "it holds dates"
    if column.kinds.get("other") or column.kinds.get("image"):
        return "it holds neither text nor numbers nor lists"
    if column.kinds.get("list"):
        return _several(column, table, ";") or "its lists are not lists of labels"
    count = column.kinds.get("integer", 0) + column.kinds.get("number", 0)
    numbers = count >= MOSTLY * column.present
    if not numbers:
        if shown := written_list(table.cells(name)):
            return f"its lists are written out as text, {quote(shown, 60)}"
        for mark in SEPARATORS:
            if found := _several(column, table, mark):
                return found
        if found := _spaced(column, table):
            return found
    if column.values is None:
        if numbers:
            return _number(column)
        return f"it has more than {MOST_VALUES:,} values, or long ones"
    if len(column.values) == 1:
        if column.missing:
            return f"rows have {quote(next(iter(column.values)))} or nothing: 1 and 0 would be labels"
        return "all rows have the same value"
    if numbers and not _names_classes(column):
        return _number(column)
    return _classes(column)


def _number(column: ColumnFacts) -> Target:
    return Target(
        column.name,
        "regression",
        None,
        f"holds numbers from {column.low:g} to {column.high:g}",
    )


def _names_classes(column: ColumnFacts) -> bool:
    """Whether numbers are names of labels: few of them, or counted through from 0 or 1."""
    values = [float(v) for v in column.values or () if kind_of(v) != "text"]
    if any(v % 1 for v in values):  # as infinity has, too
        return False
    if len(values) <= FEW_NUMBERS:
        return column.present >= ROWS_A_VALUE * len(values)
    counted = {*values} in ({*range(len(values))}, {*range(1, len(values) + 1)})
    often = column.present >= 4 * len(values)
    return counted and often and not set(words_of(column.name)) & NUMBERS


def _classes(column: ColumnFacts) -> Target | str:
    values = column.values or {}
    if bad := next((v for v in values if check_string(LABEL, v)), None):
        return f"the value {quote(bad)} cannot be a label of a spec"
    if column.present < ROWS_A_VALUE * len(values):
        return f"it has {len(values):,} values in {column.present:,} rows"
    words = sum(len(v.split()) * n for v, n in values.items()) / column.present
    if words > LABEL_WORDS and len(values) > 2:
        return "its values are as long as texts"
    why = f"has {len(values):,} values"
    if len(values) > 2 and column.only("integer", "number"):
        why += ', taken for names; if they are amounts, task = "regression" is for them'
    return Target(column.name, "text-classification", None, why)


def _several(column: ColumnFacts, table: TableFacts, separator: str) -> Target | None:
    """The column as several labels a row, where its cells look like it."""
    rows = [label_names(cell, separator) for cell in table.cells(column.name)]
    more = sum(len(row) > 1 for row in rows)
    lists = bool(column.kinds.get("list"))
    if not rows or more < (1 if lists else max(2, len(rows) / 20)):
        return None
    counts = Counter(name for row in rows for name in row)
    # A place such as "Paris, France" is one value: its parts come together always.
    whole = {tuple(sorted(row)) for row in rows}
    if len(counts) > MOST_VALUES or (not lists and len(counts) >= len(whole)):
        return None
    words = sum(len(name.split()) * n for name, n in counts.items()) / counts.total()
    if counts.total() < 2 * len(counts) or words > 3:
        return None
    if any(len(n) > LONGEST_VALUE or check_string(LABEL, n) for n in counts):
        return None
    how = "has lists" if lists else f"has cells with {quote(separator)} in them"
    mark = separator if not lists else _mark_that_none_has(counts)
    if mark is None:
        return None
    return Target(column.name, "multi-label", mark, f"{how}, of {len(counts):,} labels")


def _spaced(column: ColumnFacts, table: TableFacts) -> Target | None:
    """The column as labels with spaces between them, where its name is that of labels and
    few words make many cells: names such as "very good" have about as many words as there
    are names."""
    if name_rank(column.name, LABELS) == len(LABELS):
        return None
    cells = {c for c in table.cells(column.name) if isinstance(c, str)}
    words = {word for cell in cells for word in cell.split()}
    if SPACED * len(words) > len(cells):
        return None
    return _several(column, table, " ")


def _flags(
    table: TableFacts, targets: Sequence[Target], best: Target
) -> tuple[str, ...]:
    """The columns of 0 and 1 that are labels of one row together; none where another
    column is the label, or one of them is by its name and few stand beside it."""
    found = [
        t.column
        for t in targets
        if t.task == "text-classification" and _is_flag(table.column(t.column))
    ]
    named = [name for name in found if name_rank(name, LABELS) < len(LABELS)]
    if best.column not in found or len(found) < (3 if len(named) == 1 else 2):
        return ()
    fit = all(check_string(LABEL, name) is None for name in found)
    return tuple(found) if fit else ()


def _is_flag(column: ColumnFacts) -> bool:
    """Whether all cells say 0 or 1, and both come."""
    said = {mark_of(value) for value in column.values or ()}
    return said == {False, True} and not column.missing


def _marked(table: TableFacts, flags: Sequence[str]) -> str:
    """How many of them are 1 in a row."""
    counts = Counter(
        sum(mark_of(row.get(f)) is True for f in flags) for row in table.sample
    )
    rows = counts.total()
    if counts[1] == rows:
        return (
            "Exactly one is 1 in all rows looked at: one column with their names would "
            "make it a task of one label"
        )
    several = rows - counts[0] - counts[1]
    shown = [
        f"{n / rows:.0%}" if 200 * n > rows else f"{n:,}" for n in (several, counts[0])
    ]
    return f"Of {rows:,} rows {shown[0]} have several, {shown[1]} none"


def _mark_that_none_has(names: Counter[str]) -> str | None:
    """A separator for the spec: lists need none, and no label may hold it."""
    return next(
        (m for m in (*SEPARATORS, "||", "\u241f") if not _holds(names, m)), None
    )


def _holds(names: Counter[str], mark: str) -> bool:
    return any(mark in name for name in names)


def _one_class(targets: Sequence[Target], table: TableFacts, file: str) -> None:
    """GenError where a column that is named as the label has one value alone."""
    named = [t for t in targets if name_rank(t.column, LABELS) < len(LABELS)]
    for column in table.columns:
        single = column.values is not None and len(column.values) == 1
        if named or not single or name_rank(column.name, LABELS) >= len(LABELS) // 2:
            continue
        value = next(iter(column.values or ()))
        raise GenError(
            [
                Diagnostic(
                    "G525",
                    f"all rows of {file} have the same value in {quote(column.name)}, "
                    f"{quote(value)}",
                    help="add rows with another label: from one there is nothing to learn",
                )
            ]
        )


def _written_out(targets: Sequence[Target], table: TableFacts, file: str) -> None:
    """GenError where the column with the best name of a label has lists as texts, since
    another one is hardly meant."""
    found = {c.name: written_list(table.cells(c.name)) for c in table.columns}
    best = min((name_rank(t.column, LABELS) for t in targets), default=len(LABELS))
    for name, shown in found.items():
        if shown is not None and name_rank(name, LABELS) < best:
            raise fail(
                "G524",
                f"column {quote(name)} of {file} is named as a label, and its lists are "
                f"written out as text: {quote(shown)}",
                help="write the labels of a row with ; between them, or save lists as "
                "such, in a .jsonl or .parquet file",
            )


def _no_label(refused: Sequence[tuple[ColumnFacts, str]], file: str) -> GenError:
    shown = [f"{quote(c.name)}: {why}" for c, why in refused[:12]]
    return GenError(
        [
            Diagnostic(
                "G524",
                f"no column of {file} could be a label",
                help="\n".join(
                    ["add one, with a value that comes in several rows", *shown]
                ),
            )
        ]
    )


# Texts and images --------------------------------------------------------------------


def _image(table: TableFacts) -> str | None:
    there = [
        c.name for c in table.columns if c.name in table.images or c.name in table.held
    ]
    return min(there, key=lambda name: name_rank(name, IMAGES), default=None)


def _reads_as_text(column: ColumnFacts, table: TableFacts) -> bool:
    """Whether it may be read: mostly text, and several words or a name that says so."""
    if column.name in table.images or check_string(COLUMN, column.name):
        return False
    if column.kinds.get("text", 0) * 2 < column.present or not column.present:
        return False
    if not {"list", "date", "image", "other"}.isdisjoint(column.kinds):
        return False
    rank = name_rank(column.name, LABELS)
    if rank < len(LABELS) // 2:  # "label" itself
        return False
    named = name_rank(column.name, TEXTS) < len(TEXTS) and rank == len(LABELS)
    return named or _words(column.name, table) >= WORDS


def _words(name: str, table: TableFacts) -> float:
    cells: Iterator[Any] = (c for c in table.cells(name) if isinstance(c, str))
    counts = [_length(cell) for cell in cells]
    return sum(counts) / len(counts) if counts else 0.0


def _length(text: str) -> float:
    """Words, by white space or, where a script has none, by two characters."""
    other = sum(c >= "\u0e00" and c.isalpha() for c in text)
    return max(len(text.split()), other / 2)


def _texts(
    table: TableFacts, label: str, texts: Sequence[str], file: str, asked: Asked
) -> tuple[tuple[str, ...], str]:
    """The text, or the two of a pair, and why."""
    if asked.text:
        return asked.text, "as --text says"
    found = [t for t in texts if t != label]
    if not found:  # short ones: those with the most values
        rest = [
            c
            for c in table.columns
            if c.name != label and c.only("text", "integer", "number")
        ]
        rest = [
            c for c in rest if c.kinds.get("text", 0) and c.name not in table.images
        ]
        rest = [c for c in rest if not check_string(COLUMN, c.name)]
        if not rest:
            raise _no_input(table, file)
        values = {c.name: len({*map(label_name, table.cells(c.name))}) for c in rest}
        many = [name for name in values if 2 * values[name] >= max(values.values())]
        best = max(many, key=lambda name: (_words(name, table), values[name]))
        cells = len(table.cells(best))
        if cells >= COUNTED and values[best] * FEW_TEXTS <= cells and _held(table):
            raise _no_input(table, file)
        why = "of the columns that hold text and have many values it has the most words"
        return (best,), why
    if pair := _pair(found):
        return pair, "by their names they belong together"
    best = min(found, key=lambda t: (name_rank(t, TEXTS), -_words(t, table)))
    why = f"it has {_words(best, table):.0f} words in a row on average"
    others = [t for t in found if t != best]
    if others:
        why += (
            f". Text too: {', '.join(map(quote, others[:8]))}; a pair is a list of two"
        )
    return (best,), why


def _held(table: TableFacts) -> list[str]:
    """The columns of objects or bytes, of which nothing is read."""
    return [quote(c.name) for c in table.columns if c.kinds.get("other")]


def _no_input(table: TableFacts, file: str) -> GenError:
    help = (
        "add a column of texts, or one of paths that start from the folder of the file"
    )
    if others := _held(table):
        help += (
            f". In {', '.join(others[:8])} are objects or bytes: give texts in them a "
            "column of their own, and write images to files; --text names a column of "
            "short texts"
        )
    message = f"no column of {file} holds texts, or names image files that are there"
    return GenError([Diagnostic("G526", message, help=help)])


def _pair(texts: Sequence[str]) -> tuple[str, str] | None:
    names = {"_".join(words_of(t)): t for t in texts}
    for a, b in PAIRS:
        if a in names and b in names:
            return names[a], names[b]
    for name, text in names.items():
        for first, second in (("1", "2"), ("a", "b"), ("left", "right")):
            other = re.sub(rf"(?<![^\W_]){first}(?![^\W_])", second, name, count=1)
            if other != name and other in names:
                return text, names[other]
    return None
