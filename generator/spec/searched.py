"""Reads the [[search.vary]] tables of a spec, and says what may vary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from generator.errors import quote
from generator.spec.entries import (
    EDIT_KEYS,
    SECTIONS,
    Entry,
    entries,
    inner_paths,
    stage_entries,
    vary_entries,
)
from generator.spec.search import Vary
from generator.spec.state import State
from generator.spec.value import read_given
from generator.spec.words import kind, listed, toml

SECTION, VARY = "search", "vary"
# What candidates must have in common to be compared, or what tells them apart.
FIXED = {
    "name": "it names the package of every candidate",
    "task": "candidates of different tasks cannot be compared",
    "labels": "candidates of different labels cannot be compared",
    "data.train": "candidates of different rows cannot be compared",
    "data.valid": "candidates of different rows cannot be compared",
    "data.test": "candidates of different rows cannot be compared",
    "data.valid_fraction": "candidates of different rows cannot be compared",
    "data.test_fraction": "candidates of different rows cannot be compared",
    "data.label": "candidates of different labels cannot be compared",
    "train.seed": "a lucky seed is no better model: `seeds` repeats the points that matter",
}
_EDIT_KEY = re.compile(r"edit\[\d+\]\.(.+)")
_STAGE_KEY = re.compile(r"train\.stage\[\d+\]\.(.+)")


def read_vary(state: State, value: Any) -> tuple[Vary, ...]:
    """What varies; what is wrong with it is added to the problems."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        state.add(
            "G006",
            (SECTION, VARY),
            f"{VARY} must be a list of tables, not {kind(value)}",
            label="write [[search.vary]], in double brackets, above each",
            at="key",
        )
        return ()
    read = [_vary(state, number, table) for number, table in enumerate(value)]
    found = [(number, one) for number, one in enumerate(read) if one is not None]
    seen: dict[str, int] = {}
    for number, one in found:
        if one.key in seen:
            state.add(
                "G013",
                (SECTION, VARY, number, "key"),
                f"{quote(one.key)} is varied twice",
                label="it is above already",
                help="put its choices into one [[search.vary]]",
            )
        seen.setdefault(one.key, number)
    for number, one in found:
        for key, _ in one.when:
            if key not in seen or key == one.key:
                state.add(
                    "G085",
                    (SECTION, VARY, number, "when"),
                    f"{quote(key)} is not varied, so that nothing can depend on it",
                    help=f"add a [[search.vary]] with key = {toml(key)}",
                )
    return tuple(one for _, one in found)


def _vary(state: State, number: int, table: Mapping[str, Any]) -> Vary | None:
    known = vary_entries()
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
                f"missing key {quote(name)} in [[search.vary]]",
                label="below this line",
                help=f"add {name} = {toml(entry.key.example)}",
            )
    values = {
        e.attribute: v for e in known.values() if (v := _of(inner, e)) is not None
    }
    if not inner.problems:
        _check(inner, Vary(**values))
    for problem in inner.problems:
        path = (SECTION, VARY, number, *problem.path[1:])
        state.problems.append(replace(problem, path=path))
    return None if inner.problems else Vary(**values)


def _of(state: State, entry: Entry) -> Any:
    return state.values.get(entry.path)


def _check(state: State, one: Vary) -> None:
    """What the keys of one cannot tell each by itself."""
    at = f"{SECTION}.{VARY}"
    if one.key in FIXED or one.key.split(".")[0] == SECTION:
        why = FIXED.get(one.key, "a search does not vary itself")
        state.add("G082", (at, "key"), f"{quote(one.key)} cannot be varied", label=why)
    elif not is_key(one.key):
        from generator.spec.suggest import near

        meant = near(one.key, varied_keys())
        state.add(
            "G082",
            (at, "key"),
            f"{quote(one.key)} is no key of a spec that can be varied",
            label=f'did you mean "{meant}"?' if meant else "",
            help='a key is written with its table, as in "train.lr"',
        )
    ranged = [name for name in ("low", "high") if getattr(one, name) is not None]
    if one.choices and (ranged or one.log or one.step is not None):
        state.add(
            "G083",
            (at, "choices"),
            "choices contradict a range",
            label="a key varies among choices or within a range",
            help="remove choices, or low, high, log and step",
            at="key",
        )
    elif not one.choices and len(ranged) < 2:
        state.add(
            "G083",
            (at,),
            f"{quote(one.key)} has neither choices nor a range",
            label="below this line",
            help="add low and high, or choices",
        )
    elif not one.choices:
        _check_range(state, one, at)


def _check_range(state: State, one: Vary, at: str) -> None:
    assert one.low is not None and one.high is not None
    wrong = ""
    if not one.low < one.high:
        wrong = f"low {one.low!r} is not below high {one.high!r}"
    elif one.log and one.low <= 0:
        wrong = "a range with log = true begins above 0"
    elif one.log and one.step is not None:
        wrong = "log and step contradict each other"
    elif one.step is not None and one.step > one.high - one.low:
        wrong = f"the step {one.step!r} is longer than the range"
    if wrong:
        state.add("G083", (at, "low"), wrong)


def is_key(path: str) -> bool:
    """Whether a spec may have a key of this path."""
    if found := _EDIT_KEY.fullmatch(path):
        return found[1] in EDIT_KEYS
    if found := _STAGE_KEY.fullmatch(path):
        return found[1] in stage_entries()
    return path in varied_keys()


def varied_keys() -> list[str]:
    """Every key that may vary, but for those of single edits and stages."""
    own = [e.path for e in entries() if e.section != SECTION and e.path not in FIXED]
    return [*own, *inner_paths(), "edit", "train.stage"]


def _unknown_key(state: State, name: str) -> None:
    from generator.spec.suggest import fold, near

    known = vary_entries()
    also = {word: e.name for e in known.values() for word in e.key.also}
    meant = near(name, known) or also.get(fold(name))
    state.add(
        "G004",
        (f"{SECTION}.{VARY}", name),
        f"unknown key {quote(name)} in [[search.vary]]",
        label=f'did you mean "{meant}"?' if meant else "",
        help=f"its keys are {listed([*known], 'and')}",
        at="key",
    )


assert set(FIXED) <= {e.path for e in entries()} and SECTION in SECTIONS
