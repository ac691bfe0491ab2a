"""Reads the table [features.select] of a spec."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from generator.errors import quote
from generator.spec.entries import select_entries
from generator.spec.select import Select
from generator.spec.state import State
from generator.spec.value import read_given
from generator.spec.words import kind, listed, toml

SECTION, SELECT = "features", "select"


def read_select(state: State, value: Any) -> Select:
    """The selection; what is wrong with it is added to the problems."""
    if not isinstance(value, dict):
        state.add(
            "G006",
            (SECTION, SELECT),
            f"{SELECT} must be a table, not {kind(value)}",
            label=f"write [{SECTION}.{SELECT}], in single brackets",
            at="key",
        )
        return Select()
    known = select_entries()
    inner = State(state.task, frozenset())
    for name in value:
        if name in known:
            read_given(inner, known[name], value[name])
        else:
            _unknown_key(inner, name)
    for name, entry in known.items():
        if value and name not in value:
            inner.add(
                "G005",
                (entry.section,),
                f"missing key {quote(name)} in [{entry.section}]",
                label="below this line",
                help=f"add {name} = {toml(entry.key.example)}",
            )
    keep = inner.values.get(f"{SECTION}.{SELECT}.keep")
    if isinstance(keep, float) and keep >= 1 and not keep.is_integer():
        inner.add(
            "G007",
            (f"{SECTION}.{SELECT}", "keep"),
            f"keep {keep:g} is neither a whole number nor a part below 1",
            label=f"{keep:.0f}, or a number below 1",
        )
    for problem in inner.problems:
        path = (SECTION, SELECT, *problem.path[1:])
        state.problems.append(replace(problem, path=path))
    return Select(
        **{
            e.attribute: inner.values[e.path]
            for e in known.values()
            if e.path in inner.values
        }
    )


def _unknown_key(state: State, name: str) -> None:
    from generator.spec.suggest import fold, near

    known = select_entries()
    also = {word: e.name for e in known.values() for word in e.key.also}
    meant = near(name, known) or also.get(fold(name))
    state.add(
        "G004",
        (f"{SECTION}.{SELECT}", name),
        f"unknown key {quote(name)} in [{SECTION}.{SELECT}]",
        label=f'did you mean "{meant}"?' if meant else "",
        help=f"the keys of the selection are {listed([*known], 'and')}",
        at="key",
    )
