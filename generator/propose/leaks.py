"""Columns that give the answer away: equal to the label, or enough to tell it alone."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from generator.propose.columns import Chosen
from generator.propose.facts import TableFacts, is_missing, label_name, mark_of

SURE = 0.99  # of the rows
OFTEN = 5  # rows with a value, from which on it tells something
FEWEST = 20  # rows of the sample, below which nothing is claimed
CORRELATED = 0.999
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Leak:
    """A column beside the label that a model must not read; `share` of rows it tells."""

    column: str
    how: Literal["equals", "spells", "tells", "orders"]
    share: float


def leaks(table: TableFacts, chosen: Chosen) -> tuple[Leak, ...]:
    """Such columns, over the sample. Of the chosen inputs it is asked whether they are the
    label, or have it in them as a word."""
    found = []
    answers = [_answer(row, chosen) for row in table.sample]
    for column in table.columns:
        if column.name in chosen.targets:
            continue
        pairs = [
            (row[column.name], answer)
            for row, answer in zip(table.sample, answers, strict=True)
            if not is_missing(row.get(column.name)) and not is_missing(answer)
        ]
        if len(pairs) >= FEWEST and (leak := _leak(column.name, pairs, chosen)):
            found.append(leak)
    return tuple(found)


def _answer(row: Mapping[str, Any], chosen: Chosen) -> Any:
    """What is to be learned of a row: its cell, or the names of its labels."""
    if not chosen.flags:
        return row.get(chosen.label)
    return [name for name in chosen.flags if mark_of(row.get(name))]


def _leak(column: str, pairs: Sequence[tuple[Any, Any]], chosen: Chosen) -> Leak | None:
    same = sum(label_name(a) == label_name(b) for a, b in pairs) / len(pairs)
    if same >= SURE:
        return Leak(column, "equals", same)
    if column in chosen.inputs:
        share = _spelled(pairs) if chosen.task == "text-classification" else 0.0
        return Leak(column, "spells", share) if share >= SURE else None
    if chosen.task == "regression":
        share = abs(_correlation(pairs))
        return Leak(column, "tells", share) if share >= CORRELATED else None
    names = [(label_name(a), str(b)) for a, b in pairs]
    share = _told(names)
    if share >= SURE:
        return Leak(column, "tells", share)
    if _in_order(pairs):
        return Leak(column, "orders", 1.0)
    return None


def _spelled(pairs: Sequence[tuple[Any, Any]]) -> float:
    """The part of rows whose text has its label as a word; 0 where texts have other labels
    as well, such as "a"."""
    rows = [(set(_WORD.findall(str(a).lower())), str(b).lower()) for a, b in pairs]
    labels = {label for _, label in rows}
    own = sum(label in words for words, label in rows)
    others = sum(bool((words & labels) - {label}) for words, label in rows)
    return own / len(rows) if 2 * others < len(rows) else 0.0


def _told(pairs: Sequence[tuple[str, str]]) -> float:
    """The part of rows whose label is the commonest one of their value; 0 where most
    values are rare, or a constant guess would be nearly as good."""
    by_value: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for value, label in pairs:
        by_value[value][label] += 1
    often = [c for c in by_value.values() if c.total() >= OFTEN]
    rows = sum(c.total() for c in often)
    if 2 * rows < len(pairs) or len(often) < 2:
        return 0.0
    told = sum(max(c.values()) for c in often) / rows
    guess = Counter(label for _, label in pairs).most_common(1)[0][1] / len(pairs)
    return told if 1 - told < (1 - guess) / 10 else 0.0


def _in_order(pairs: Sequence[tuple[Any, Any]]) -> bool:
    """Whether the rows, by a number of theirs, stand label by label."""
    try:
        rows = sorted((float(a), str(b)) for a, b in pairs)
    except (TypeError, ValueError, OverflowError):
        return False
    labels = Counter(label for _, label in rows)
    if len({a for a, _ in rows}) * 5 < len(rows) or len(rows) < 20 * len(labels):
        return False
    runs = 1 + sum(a[1] != b[1] for a, b in pairwise(rows))
    apart = 1 - sum((n / len(rows)) ** 2 for n in labels.values())
    by_chance = 1 + len(rows) * apart  # runs of rows in any order
    return 1 < runs <= min(2 * len(labels), by_chance / 10)


def _correlation(pairs: Sequence[tuple[Any, Any]]) -> float:
    try:
        rows = [(float(a), float(b)) for a, b in pairs]
    except (TypeError, ValueError, OverflowError):
        return 0.0
    a, b = (_centred([row[i] for row in rows]) for i in (0, 1))
    size = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / size if size else 0.0


def _centred(values: Sequence[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    return [v - mean for v in values]
