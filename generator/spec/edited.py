"""Reads the [[edit]] tables of a spec, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generator.errors import quote
from generator.spec.edits import EDITS, Edit
from generator.spec.entries import edit_entries
from generator.spec.state import State
from generator.spec.table import add_missing, add_unknown, hand_on, values_of
from generator.spec.value import read_given
from generator.spec.words import kind, listed, toml

EDIT = "edit"  # the name of the tables


def read_edits(state: State, value: Any) -> tuple[Edit, ...]:
    """The edits; what is wrong with them is added to the problems."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        state.add(
            "G006",
            (EDIT,),
            f"{EDIT} must be a list of tables, not {kind(value)}",
            label="write [[edit]], in double brackets, above each",
            at="key",
        )
        return ()
    found = [_edit(state, number, table) for number, table in enumerate(value)]
    return tuple(one for one in found if one is not None)


def _edit(state: State, number: int, table: Mapping[str, Any]) -> Edit | None:
    do = table.get("do")
    if do is None:
        state.add(
            "G005",
            (EDIT, number),
            'missing key "do" in [[edit]]',
            label="below this line",
            help=f"add do = {toml(next(iter(EDITS)))}, or another of `gen list edits`",
        )
        return None
    if not isinstance(do, str) or do not in EDITS:
        _unknown(state, number, do)
        return None
    known = edit_entries(do)
    given = frozenset(f"{EDIT}.{name}" for name in table if name in known)
    inner = State(state.task, given)
    help = f"the keys of {do} are {listed([*known], 'and')}"
    for name in table:
        if name not in known and name != "do":
            add_unknown(inner, known, (EDIT, name), f"[[edit]] of {do}", help)
    for name, entry in known.items():
        if name in table:
            read_given(inner, entry, table[name])
    one_of = EDITS[do].ONE_OF
    if one_of and not any(name in table for name in one_of):
        examples = listed([f"{n} = {toml(known[n].key.example)}" for n in one_of])
        inner.add(
            "G005",
            (EDIT,),
            f"{do} needs {listed([quote(n) for n in one_of])}",
            label="below this line",
            help=f"add {examples}",
        )
    for name, entry in known.items():
        if entry.key.required and name not in table:
            add_missing(inner, entry, f"{do} needs {quote(name)}")
    hand_on(inner, state, EDIT, number)
    return None if inner.problems else EDITS[do](**values_of(inner, known))


def _unknown(state: State, number: int, do: Any) -> None:
    path = (EDIT, number, "do")
    if not isinstance(do, str):
        state.add("G006", path, f"do must be a string, not {kind(do)}")
        return
    from generator.spec.suggest import near

    meant = near(do, EDITS, 0.5)
    state.add(
        "G012",
        path,
        f"unknown edit {quote(do)}",
        label=f'did you mean "{meant}"?' if meant else "",
        help=f"there are {listed([quote(name) for name in EDITS], 'and')}",
    )
