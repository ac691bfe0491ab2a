"""Reads the [[train.stage]] tables of a spec, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from generator.errors import quote
from generator.spec.entries import section_entries, stage_entries
from generator.spec.model import Stage
from generator.spec.state import State
from generator.spec.value import read_given
from generator.spec.words import kind, listed, toml

SECTION, STAGE = "train", "stage"
# What [train] cannot say beside stages, and why.
CLASHING = {
    "epochs": "every [[train.stage]] says how long it is",
    "freeze": "every [[train.stage]] says what it does not train",
    "early_stopping": "a stage runs to its end, and the next starts from the best weights",
}


def read_stages(state: State, value: Any) -> tuple[Stage, ...]:
    """The stages; what is wrong with them is added to the problems."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        state.add(
            "G006",
            (SECTION, STAGE),
            f"{STAGE} must be a list of tables, not {kind(value)}",
            label="write [[train.stage]], in double brackets, above each",
            at="key",
        )
        return ()
    for name, why in CLASHING.items():
        if value and f"{SECTION}.{name}" in state.given:
            state.add(
                "G010",
                (SECTION, name),
                f"{name} contradicts the stages",
                label=why,
                help="remove it here",
                at="key",
            )
    found = [_stage(state, number, table) for number, table in enumerate(value)]
    return tuple(one for one in found if one is not None)


def _stage(state: State, number: int, table: Mapping[str, Any]) -> Stage | None:
    known = stage_entries()
    inner = State(state.task, frozenset())
    for name in table:
        if name not in known:
            _unknown_key(inner, name)
    for name, entry in known.items():
        if name in table:
            read_given(inner, entry, table[name])
        elif entry.key.required:
            inner.add(
                "G005",
                (entry.section,),
                f"missing key {quote(name)} in [[train.stage]]",
                label="below this line",
                help=f"add {name} = {toml(entry.key.example)}",
            )
    for problem in inner.problems:
        path = (SECTION, STAGE, number, *problem.path[1:])
        state.problems.append(replace(problem, path=path))
    if inner.problems:
        return None
    return Stage(
        **{
            entry.attribute: inner.values[entry.path]
            for entry in known.values()
            if entry.path in inner.values
        }
    )


def _unknown_key(state: State, name: str) -> None:
    from generator.spec.suggest import fold, near

    known = stage_entries()
    also = {word: e.name for e in known.values() for word in e.key.also}
    meant = near(name, known) or also.get(fold(name))
    in_train = "for all stages it stands in [train], above the first of them"
    state.add(
        "G004",
        ("train.stage", name),
        f"unknown key {quote(name)} in [[train.stage]]",
        label=f'did you mean "{meant}"?' if meant else "",
        help=(
            in_train
            if not meant and name in section_entries(SECTION)
            else f"the keys of a stage are {listed([*known], 'and')}"
        ),
        at="key",
    )
