"""Reads the [[train.stage]] tables of a spec, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generator.spec.entries import section_entries, stage_entries
from generator.spec.model import Stage
from generator.spec.state import State
from generator.spec.table import Known, add_unknown, hand_on, read_required, values_of
from generator.spec.words import kind, listed

SECTION, STAGE = "train", "stage"
STAGES = f"{SECTION}.{STAGE}"
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
    known, inner = stage_entries(), State(state.task, frozenset())
    for name in table:
        if name not in known:
            _unknown_key(inner, known, name)
    read_required(inner, known, table, STAGES)
    hand_on(inner, state, SECTION, STAGE, number)
    return None if inner.problems else Stage(**values_of(inner, known))


def _unknown_key(inner: State, known: Known, name: str) -> None:
    elsewhere = ""
    if name in section_entries(SECTION):
        elsewhere = "for all stages it stands in [train], above the first of them"
    help = f"the keys of a stage are {listed([*known], 'and')}"
    add_unknown(inner, known, (STAGES, name), f"[[{STAGES}]]", help, elsewhere)
