"""Reads a table of keys that stands in a section, such as [data.clean]."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from generator.errors import quote
from generator.spec.entries import Entry
from generator.spec.state import State
from generator.spec.value import read_given
from generator.spec.words import kind, listed


def read_inner(
    state: State, path: tuple[str, str], value: Any, known: Mapping[str, Entry]
) -> State | None:
    """The values of a table's keys and what is wrong with them; None where it is none."""
    section, name = path
    if not isinstance(value, dict):
        state.add(
            "G006",
            path,
            f"{name} must be a table, not {kind(value)}",
            label=f"write [{section}.{name}], in single brackets",
            at="key",
        )
        return None
    inner = State(state.task, frozenset())
    for key in value:
        if key in known:
            read_given(inner, known[key], value[key])
        else:
            _unknown_key(inner, path, key, known)
    return inner


def given(inner: State, known: Mapping[str, Entry]) -> dict[str, Any]:
    """The values that were read, by the fields that they are for."""
    return {
        e.attribute: inner.values[e.path]
        for e in known.values()
        if e.path in inner.values
    }


def hand_over(state: State, inner: State, path: tuple[str, str]) -> None:
    """Add the problems of a table to those of the spec."""
    for problem in inner.problems:
        state.problems.append(replace(problem, path=(*path, *problem.path[1:])))


def _unknown_key(
    state: State, path: tuple[str, str], name: str, known: Mapping[str, Entry]
) -> None:
    from generator.spec.suggest import fold, near

    also = {word: e.name for e in known.values() for word in e.key.also}
    meant = near(name, known) or also.get(fold(name))
    table = ".".join(path)
    state.add(
        "G004",
        (table, name),
        f"unknown key {quote(name)} in [{table}]",
        label=f'did you mean "{meant}"?' if meant else "",
        help=f"the keys of [{table}] are\n"
        + textwrap.fill(listed([*known], "and"), 72),
        at="key",
    )
