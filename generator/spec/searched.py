"""Reads the [[search.vary]] tables of a spec, and says what may vary."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from generator.errors import quote
from generator.spec.edited import EDIT, read_edits
from generator.spec.edits import EDITS
from generator.spec.entries import (
    INNER,
    SECTIONS,
    Entry,
    Number,
    Whole,
    edit_entries,
    entries,
    inner_entries,
    inner_paths,
    stage_entries,
    vary_entries,
)
from generator.spec.search import Vary
from generator.spec.staged import STAGES, read_stages
from generator.spec.state import Path, State
from generator.spec.table import add_unknown, hand_on, read_required, values_of
from generator.spec.value import read_given
from generator.spec.words import kind, listed, toml

SECTION, VARY = "search", "vary"
DROPPING = (
    *("missing", "languages", "min_chars", "max_chars", "min_tokens", "too_long"),
    *("min_pixels", "max_pixels"),
)
LABELS = "candidates of different labels cannot be compared"
ROWS = "candidates of different rows cannot be compared"
STEPS = "candidates are trained in one go"
# What candidates must have in common to be compared, or what tells them apart.
FIXED = {
    "name": "it names the package of every candidate",
    "task": "candidates of different tasks cannot be compared",
    "labels": LABELS,
    "backbone.from": "candidates start from one backbone: `smaller` names another's spec",
    "data.train": ROWS,
    "data.valid": ROWS,
    "data.test": ROWS,
    "data.valid_fraction": ROWS,
    "data.test_fraction": ROWS,
    "data.label": LABELS,
    "data.separator": LABELS,
    "train.seed": "a lucky seed is no better model: `seeds` repeats the points that matter",
    "train.prune.steps": STEPS,
    "train.prune.recover": STEPS,
    "data.clean.labels": LABELS,
    # What these leave out is left out of the validation and the test, too.
    **{f"data.clean.{key}": ROWS for key in DROPPING},
    **{f"data.guard.{key}": ROWS for key in ("personal", "formulas", "oversized")},
}
NUMBERS = {Whole, Number}  # shapes of what may have a range
OFF = "off"  # among the choices of an edit's key: that there is no such edit
# What a list of tables is, as the one value of what varies.
LISTED = {
    EDIT: '[{ do = "keep-layers", n = 3 }]',
    STAGES: "[{ freeze = 4 }, { epochs = 2 }]",
}
_IN_LIST = re.compile(r"(edit|train\.stage)\[(\d+)\]\.(.+)")


@dataclass(frozen=True)
class Lists:
    """The tables of a spec that keys in lists are of."""

    edits: Sequence[Mapping[str, Any]]
    stages: Sequence[Mapping[str, Any]]


def read_vary(state: State, value: Any, lists: Lists) -> tuple[Vary, ...]:
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
    read = [_vary(state, number, table, lists) for number, table in enumerate(value)]
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
    by_key = {one.key: one for _, one in found}
    for number, one in found:
        for key, wanted in one.when:
            if key in by_key and not _may_be(by_key[key], wanted):
                state.add(
                    "G085",
                    (SECTION, VARY, number, "when"),
                    f"{quote(key)} is never {toml(wanted)}, so that {quote(one.key)} would "
                    "never vary",
                    help=f"{quote(key)} is {_among(by_key[key])}",
                )
    return tuple(one for _, one in found)


def _vary(
    state: State, number: int, table: Mapping[str, Any], lists: Lists
) -> Vary | None:
    known, inner = vary_entries(), State(state.task, frozenset())
    at, help = f"{SECTION}.{VARY}", f"its keys are {listed([*known], 'and')}"
    for name in table:
        if name not in known:
            add_unknown(inner, known, (at, name), f"[[{at}]]", help)
    read_required(inner, known, table, at)
    values = values_of(inner, known)
    if not inner.problems:
        _check(inner, Vary(**values), lists)
    hand_on(inner, state, SECTION, VARY, number)
    return None if inner.problems else Vary(**values)


def _may_be(one: Vary, value: Any) -> bool:
    """Whether a key that varies may have the value."""
    if one.choices:
        return value in one.choices
    if not isinstance(value, int | float) or one.low is None or one.high is None:
        return False
    return one.low <= value <= one.high


def _among(one: Vary) -> str:
    if one.choices:
        return listed([toml(value) for value in one.choices])
    return f"between {one.low} and {one.high}"


def _check(state: State, one: Vary, lists: Lists) -> None:
    """What the keys of one cannot tell each by itself."""
    at = f"{SECTION}.{VARY}"
    before = len(state.problems)
    _check_key(state, one.key, lists, at)
    known = len(state.problems) == before
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
    if known:
        _check_values(state, one, lists, at)


def _check_key(state: State, key: str, lists: Lists, at: str) -> None:
    """Whether the spec has such a key, and it may vary."""
    path = (at, "key")
    if key in FIXED or key.split(".")[0] == SECTION:
        why = FIXED.get(key, "a search does not vary itself")
        state.add("G082", path, f"{quote(key)} cannot be varied", label=why)
        return
    if found := _IN_LIST.fullmatch(key):
        tables = lists.edits if found[1] == EDIT else lists.stages
        if int(found[2]) >= len(tables):
            what = "edits" if found[1] == EDIT else "stages"
            last = f"{found[1]}[{len(tables) - 1}]"
            state.add(
                "G082",
                path,
                f"the spec has {len(tables)} {what}, and no {found[1]}[{found[2]}]",
                label=(
                    f"they are counted from 0, and the last is {last}" if tables else ""
                ),
                help="an edit that is to be there in some candidates is varied by its name, "
                'as in "prune-ffn.keep"',
            )
            return
    if sum(one.get("do") == key.split(".")[0] for one in lists.edits) > 1:
        do = key.split(".")[0]
        first = next(i for i, one in enumerate(lists.edits) if one.get("do") == do)
        state.add(
            "G082",
            path,
            f"the spec has several edits that do {do}",
            label="which of them?",
            help=f'say which by its place, as in "{EDIT}[{first}].{key.partition(".")[2]}"',
        )
    elif key not in (EDIT, STAGES) and entry_of(key, lists) is None:
        from generator.spec.suggest import near

        known = varied_keys()
        meant = next((k for k in known if k.endswith(f".{key}")), None)
        meant = meant or near(key, known)
        state.add(
            "G082",
            path,
            f"{quote(key)} is no key of a spec that can be varied",
            label=f'did you mean "{meant}"?' if meant else "",
            help='a key is written with its table, as in "train.lr", or with its edit, as '
            'in "prune-ffn.keep"',
        )


def _check_values(state: State, one: Vary, lists: Lists, at: str) -> None:
    """Whether the key can have the values."""
    given: list[tuple[Path, Any]] = [
        ((at, "choices", i), value) for i, value in enumerate(one.choices)
    ]
    for name in ("low", "high"):
        if (value := getattr(one, name)) is not None:
            given.append(((at, name), value))
    entry = entry_of(one.key, lists)
    if one.low is not None and not (entry and {*map(type, entry.shapes)} & NUMBERS):
        state.add(
            "G083",
            (at, "low"),
            f"{quote(one.key)} is no number, so that it has no range",
            help="say its values: choices = [...]",
            at="key",
        )
        return
    second = (one.low or 0) + (one.step or 0)
    if one.step is not None and one.high is not None and second <= one.high:
        given.append(((at, "step"), second))
    for i, value in enumerate(one.choices):
        if value in one.choices[:i]:
            state.add(
                "G013", (at, "choices", i), f"{toml(value)} stands twice in choices"
            )
    do, _, name = one.key.partition(".")
    for path, value in given:
        if do in EDITS and (value == OFF or name == "keep" and value in (1, 1.0)):
            continue  # there is no such edit then
        inner = State(state.task, frozenset())
        _reader(one.key, lists)(inner, value)
        for problem in inner.problems[:1]:  # the others are of the same value
            mend = (
                problem.help or f"what varies is {one.key}, which takes no such value"
            )
            state.problems.append(replace(problem, path=path, at="value", help=mend))


def _reader(key: str, lists: Lists) -> Callable[[State, Any], object]:
    """What reads a value of a key."""
    if key == EDIT:
        return read_edits
    if key == STAGES:
        return read_stages
    entry = entry_of(key, lists)
    assert entry is not None
    return lambda state, value: read_given(state, entry, value)


def _check_range(state: State, one: Vary, at: str) -> None:
    assert one.low is not None and one.high is not None
    wrong, mend = "", ""
    if not one.low < one.high:
        wrong = f"low {one.low!r} is not below high {one.high!r}"
        mend = f"low = {toml(one.high)} and high = {toml(one.low)}"
        mend = (
            mend
            if one.high < one.low
            else "remove it: a key with one value is no choice"
        )
    elif one.log and one.low <= 0:
        wrong = "a range with log = true begins above 0"
        mend = f"low = {one.high / 100:.0e}, or another small number; or leave out log"
    elif one.log and one.step is not None:
        wrong = "log and step contradict each other"
        mend = "leave out one of the two"
    elif one.step is not None and one.step > one.high - one.low:
        wrong = f"the step {one.step!r} is longer than the range"
        mend = f"step = {(one.high - one.low) / 4:.3g}, or choices"
    if wrong:
        state.add("G083", (at, "low"), wrong, help=mend)


def entry_of(path: str, lists: Lists) -> Entry | None:
    """The key of this path, where a spec may have it and it may vary."""
    if found := _IN_LIST.fullmatch(path):
        if found[1] != EDIT:
            return stage_entries().get(found[3])
        do = lists.edits[int(found[2])].get("do")
        return edit_entries(do).get(found[3]) if do in EDITS else None
    do, _, name = path.partition(".")
    if do in EDITS:
        return edit_entries(do).get(name)
    table, _, name = path.rpartition(".")
    if table in INNER:
        return inner_entries(table).get(name)
    return next((e for e in entries() if e.path == path and e.path not in FIXED), None)


def varied_keys() -> list[str]:
    """Every key that may vary, but for those of single stages and edits by their place."""
    own = [e.path for e in entries() if e.section != SECTION]
    edits = [f"{do}.{name}" for do in EDITS for name in edit_entries(do)]
    every = [*own, *inner_paths(), *edits, EDIT, STAGES]
    return [path for path in every if path not in FIXED]


# So that "head.kind" can only be of an edit.
assert not {*SECTIONS} & {*EDITS}
assert FIXED.keys() <= {*inner_paths(), *(e.path for e in entries())}
assert SECTION in SECTIONS
