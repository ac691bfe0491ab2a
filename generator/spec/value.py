"""Reads the value of one key: its type, its bounds, its choices, its strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from generator.errors import quote
from generator.spec.entries import (
    Anything,
    Choice,
    Entry,
    Flag,
    Items,
    Lists,
    Named,
    Number,
    Pairs,
    Shape,
    String,
    Whole,
)
from generator.spec.rules import check_string
from generator.spec.state import Path, State
from generator.spec.words import bounds, is_plain, kind, listed, toml, wanted


def read_given(state: State, entry: Entry, value: Any) -> None:
    """Reads the value of a key that is in the file, or tells what is wrong with it."""
    path: Path = (entry.section, entry.name) if entry.section else (entry.name,)
    if state.task and state.task not in entry.key.tasks:
        tasks = listed(entry.key.tasks, "and")
        state.add(
            "G011",
            path,
            f"{entry.name} has no meaning for {state.task}",
            label=f"it is for {tasks}",
            help="remove it",
            at="key",
        )
    unless = entry.key.unless
    if unless and f"{entry.section}.{unless}" in state.given:
        state.add(
            "G010",
            path,
            f"{entry.name} contradicts {unless}",
            label=f"{unless} is given too",
            help="remove one of the two",
            at="key",
        )
    before = len(state.problems)
    read = _value(state, entry, value, path)
    if len(state.problems) == before:
        state.values[entry.path] = read


def _value(state: State, entry: Entry, value: Any, path: Path) -> Any:
    """The value as its field holds it; what is wrong is added to the problems."""
    for shape in entry.shapes:
        match shape, value:
            case Items(item), list():
                return _list(state, entry, item, value, path)
            case Pairs(), list():
                return _pairs(state, entry, value, path)
            case Named(), dict():
                return tuple(value.items())
            case Lists(), dict():
                return _lists(state, entry, value, path)
            case Items(String()), str() if entry.key.single:
                return (_scalar(state, entry, value, path),)
            case Choice(values), str():
                return _choice(state, entry, values, value, path)
            case Whole(), int() if not isinstance(value, bool):
                return _scalar(state, entry, value, path)
            case Number(), int() | float() if not isinstance(value, bool):
                return _scalar(state, entry, value, path)
            case Flag(), bool():
                return value
            case String(), str():
                return _scalar(state, entry, value, path)
    _wrong_type(state, entry, value, path)
    return None


_ITEMS = {
    String: str,
    Whole: int,
    Number: (int, float),
    Anything: (bool, int, float, str, list, dict),
}


def _list(
    state: State,
    entry: Entry,
    item: Whole | Number | String | Anything,
    value: list[Any],
    path: Path,
) -> tuple[Any, ...] | None:
    key = entry.key
    if state.task and key.single and state.task not in key.lists:
        state.add(
            "G011",
            path,
            f"a list of {entry.name} columns has no meaning for {state.task}",
            label=f"a list is for {listed(key.lists, 'and')}",
            help=f"give one column: {entry.name} = {toml(key.example)}",
        )
        return None
    read = []
    for position, part in enumerate(value):
        allowed = _ITEMS[type(item)]
        flag = isinstance(part, bool) and not isinstance(item, Anything)
        if flag or not isinstance(part, allowed):
            (kinds,) = wanted(item)
            message = f"{entry.name}[{position}] must be {kinds}, not {kind(part)}"
            label = _without_quotes(part, item)
            if isinstance(item, String) and is_plain(part):
                label = f"write {toml(toml(part))}"
            state.add("G006", (*path, position), message, label=label)
        else:
            whole = isinstance(item, Anything)
            at = (*path, position)
            read.append(part if whole else _scalar(state, entry, part, at))
    few = min(key.few.values()) if state.task is None else key.few[state.task]
    if len(value) < few or key.many is not None and len(value) > key.many:
        has = f"{len(value)} item" + ("" if len(value) == 1 else "s")
        wants = f"at least {few}" if len(value) < few else f"at most {key.many}"
        by_task = len({key.few[task] for task in key.tasks if task in key.few}) > 1
        who = f"{state.task} needs" if state.task and by_task else "it needs"
        who = who if len(value) < few else "it may have"
        state.add("G008", path, f"{entry.name} has {has}", label=f"{who} {wants}")
    if isinstance(item, String):
        _distinct(state, entry, value, path)
    return tuple(read)


def _pairs(
    state: State, entry: Entry, value: list[Any], path: Path
) -> tuple[tuple[int, ...], ...]:
    """Pairs of integers within the bounds of the key; there is at least one."""
    if not value:
        state.add(
            "G008", path, f"{entry.name} has 0 items", label="it needs at least 1"
        )
    for position, part in enumerate(value):
        here = (*path, position)
        whole = isinstance(part, list) and all(type(number) is int for number in part)
        if not whole or len(part) != 2:
            got = f"a list of {len(part)}" if whole else kind(part)
            message = f"{entry.name}[{position}] must be a pair of integers, not {got}"
            state.add("G006", here, message)
            continue
        for number in part:
            _scalar(state, entry, number, here)
    return tuple(tuple(part) for part in value if isinstance(part, list))


def _lists(
    state: State, entry: Entry, value: dict[str, Any], path: Path
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names with the strings of each, in their order; no string stands twice."""
    found, seen = [], dict[str, str]()
    for name, strings in value.items():
        here = (*path, name)
        said = f"{quote(name)} of {entry.name}"
        if not isinstance(strings, list) or not strings:
            got = "an empty list" if strings == [] else kind(strings)
            message = f"{said} must be a list of strings, not {got}"
            state.add("G006", here, message)
            continue
        for position, part in enumerate(strings):
            at = (*here, position)
            if not isinstance(part, str):
                message = f"{said} must hold strings, not {kind(part)}"
                state.add("G006", at, message)
            elif entry.key.rule and (wrong := check_string(entry.key.rule, part)):
                message = f"{said} holds what {wrong.message}"
                state.add(wrong.code, at, message, label=wrong.label, help=wrong.help)
            elif seen.setdefault(part, name) != name or strings.index(part) < position:
                state.add(
                    "G013",
                    at,
                    f"{quote(part)} stands twice in {entry.name}",
                    label=f"it is of {quote(seen[part])} already",
                    help="remove one of the two",
                )
        found.append((name, tuple(strings)))
    return tuple(found)


def _distinct(state: State, entry: Entry, value: list[Any], path: Path) -> None:
    seen: dict[str, int] = {}
    for position, part in enumerate(value):
        if isinstance(part, str) and seen.setdefault(part, position) != position:
            state.add(
                "G013",
                (*path, position),
                f"{quote(part)} stands twice in {entry.name}",
                label=f"the first is {entry.name}[{seen[part]}]",
                help="remove one of the two",
            )


def _choice(
    state: State, entry: Entry, values: Sequence[str], value: str, path: Path
) -> str | None:
    if value in values:
        return value
    from generator.spec.suggest import fold, near

    key = entry.key
    meant = key.spellings.get(fold(value).replace("_", "-")) or near(value, values, 0.6)
    also = [s for s in entry.shapes if isinstance(s, Items)]
    known = listed([quote(v) for v in values] + ["a list of numbers" for _ in also])
    state.add(
        "G012",
        path,
        f"unknown {entry.name} {quote(value)}",
        label=f'did you mean "{meant}"?' if meant else "",
        help=f"{entry.name} is {known}",
    )
    return None


def _scalar(state: State, entry: Entry, value: str | float, path: Path) -> Any:
    """A string that keeps the key's rule, or a number within its bounds."""
    name = entry.name + (f"[{path[-1]}]" if isinstance(path[-1], int) else "")
    if isinstance(value, str):
        if entry.key.rule and (found := check_string(entry.key.rule, value)):
            message = f"{name} {found.message}"
            state.add(found.code, path, message, label=found.label, help=found.help)
        return value
    if not _within(entry, value):
        message = f"{name} must be {bounds(entry)}"
        message += f", not {value!r}" if is_plain(value) else ""
        state.add("G007", path, message, label=_off(entry, value))
        return value
    whole = Whole() in entry.shapes or Items(Whole()) in entry.shapes
    return value if whole else float(value)


def _within(entry: Entry, value: float) -> bool:
    key = entry.key
    # Written so that nan, which compares false with everything, is outside.
    return (
        (key.at_least is None or value >= key.at_least)
        and (key.above is None or value > key.above)
        and (key.at_most is None or value <= key.at_most)
        and (key.below is None or value < key.below)
    )


def _off(entry: Entry, value: float) -> str:
    """A word on which way a number is off, where that helps."""
    if isinstance(value, int) and not is_plain(value):
        return "this does not fit 64 bits"
    if value == 0 and entry.key.above == 0:
        return "0 is not above 0"
    one = 1 in (entry.key.at_most, entry.key.below)
    if 1 < value <= 100 and one and entry.name != "lr":
        return "this is a fraction, not a percentage or a count"
    return ""


def _wrong_type(state: State, entry: Entry, value: Any, path: Path) -> None:
    single: list[Shape] = [String()] if entry.key.single else []
    shapes = [*single, *entry.shapes]
    kinds = listed([word for shape in shapes for word in wanted(shape)])
    message = f"{entry.name} must be {kinds}, not {kind(value)}"
    label = ""
    for shape in entry.shapes:
        label = label or _without_quotes(value, shape)
    if isinstance(value, float) and Whole() in shapes and value.is_integer():
        label = f"write {int(value)}" if abs(value) < 1e15 else ""
    elif isinstance(value, str) and Items(String()) in shapes:
        label = f"write [{toml(value)}]"
    elif is_plain(value) and String() in shapes:
        label = f"write {toml(toml(value))}"
    elif isinstance(value, int) and Flag() in shapes and value in (0, 1):
        label = f"write {toml(bool(value))}"
    state.add("G006", path, message, label=label[:80])


def _without_quotes(value: Any, shape: Shape) -> str:
    """The hint for a number or a flag that was written as a string."""
    if not isinstance(value, str) or len(value) > 30:
        return ""
    word = value.strip()
    try:
        match shape:
            case Flag() if word.lower() in ("true", "false"):
                return f"write {word.lower()}, without quotes"
            case Whole() if word.isascii():
                return f"write {int(word)}, without quotes"
            case Number() if word.isascii():
                float(word)
                return f"write {word}, without quotes"
    except ValueError:
        return ""
    return ""
