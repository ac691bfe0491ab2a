"""What reading a table that stands in a list, or in another table, is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from generator.errors import quote
from generator.spec.entries import Entry
from generator.spec.places import Path
from generator.spec.state import State
from generator.spec.value import read_given
from generator.spec.words import toml

Known = Mapping[str, Entry]  # the keys of a table by name


def read_required(
    inner: State, known: Known, table: Mapping[str, Any], of: str
) -> None:
    """The values of the keys that are there; those are missing that are required."""
    for name, entry in known.items():
        if name in table:
            read_given(inner, entry, table[name])
        elif entry.key.required:
            add_missing(inner, entry, f"missing key {quote(name)} in [[{of}]]")


def add_missing(inner: State, entry: Entry, message: str) -> None:
    inner.add(
        "G005",
        (entry.section,),
        message,
        label="below this line",
        help=f"add {entry.name} = {toml(entry.key.example)}",
    )


def add_unknown(
    inner: State,
    known: Known,
    path: tuple[str, str],
    where: str,
    help: str,
    elsewhere: str = "",
) -> None:
    """Tell of a key that is none of `known`; `elsewhere` is the help where none of these
    seems to be meant."""
    from generator.spec.suggest import fold, near

    _, name = path
    also = {word: e.name for e in known.values() for word in e.key.also}
    meant = near(name, known) or also.get(fold(name))
    inner.add(
        "G004",
        path,
        f"unknown key {quote(name)} in {where}",
        label=f'did you mean "{meant}"?' if meant else "",
        help=help if meant else elsewhere or help,
        at="key",
    )


def values_of(inner: State, known: Known) -> dict[str, Any]:
    """What was read, by the names of fields."""
    return {
        entry.attribute: inner.values[entry.path]
        for entry in known.values()
        if entry.path in inner.values
    }


def hand_on(inner: State, state: State, *place: str | int) -> None:
    """Put the problems of a table among those of the spec, where the table is."""
    for problem in inner.problems:
        path: Path = (*place, *problem.path[1:])
        state.problems.append(replace(problem, path=path))
