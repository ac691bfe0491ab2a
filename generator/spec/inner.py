"""Reads the tables in tables of a spec, such as [data.clean]."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from generator.spec.augmented import check_augment
from generator.spec.cleaned import check_clean
from generator.spec.distilled import check_distill
from generator.spec.entries import INNER, inner_entries
from generator.spec.pruned import check_prune
from generator.spec.selected import check_select
from generator.spec.state import State
from generator.spec.table import add_unknown, hand_on, values_of
from generator.spec.value import read_given
from generator.spec.words import kind, listed

# What no key of a table can tell by itself.
CHECKS: Mapping[str, Callable[[State], None]] = {
    "data.clean": check_clean,
    "data.augment": check_augment,
    "features.select": check_select,
    "train.distill": check_distill,
    "train.prune": check_prune,
}


def read_inner(state: State, table: str, value: Any) -> Any:
    """The dataclass of a table; what is wrong with it is added to the problems.

    `state` holds the values of the tables around.
    """
    owner, known = INNER[table], inner_entries(table)
    section, _, name = table.partition(".")
    if not isinstance(value, dict):
        state.add(
            "G006",
            (section, name),
            f"{name} must be a table, not {kind(value)}",
            label=f"write [{table}], in single brackets",
            at="key",
        )
        return owner()
    given = frozenset(f"{table}.{key}" for key in value)
    inner = State(state.task, given, values=dict(state.values))
    names = textwrap.fill(listed([*known], "and"), 72)
    for key in value:
        if key in known:
            read_given(inner, known[key], value[key])
        else:
            help = f"the keys of [{table}] are\n{names}"
            add_unknown(inner, known, (table, key), f"[{table}]", help)
    if table in CHECKS:
        CHECKS[table](inner)
    hand_on(inner, state, section, name)
    return owner(**values_of(inner, known))
