"""Reads the table [data.guard] of a spec."""

from __future__ import annotations

from typing import Any

from generator.spec.entries import guard_entries
from generator.spec.guard import Guard
from generator.spec.inner import given, hand_over, read_inner
from generator.spec.state import State

SECTION, GUARD = "data", "guard"


def read_guard(state: State, value: Any) -> Guard:
    """The guard; what is wrong with it is added to the problems."""
    known = guard_entries()
    inner = read_inner(state, (SECTION, GUARD), value, known)
    if inner is None:
        return Guard()
    hand_over(state, inner, (SECTION, GUARD))
    return Guard(**given(inner, known))
