"""How messages and pages write values, kinds of values and lists of words."""

from __future__ import annotations

import datetime
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


def toml(value: Any) -> str:
    """A value as TOML writes it, on one line: a string, number, flag or list."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return '"' + "".join(_toml_char(c) for c in value) + '"'
        case list() | tuple():
            return f"[{', '.join(toml(item) for item in value)}]"
        case dict():
            inside = ", ".join(f"{_name(k)} = {toml(v)}" for k, v in value.items())
            return f"{{ {inside} }}" if inside else "{}"
    raise TypeError(f"no TOML for {type(value).__name__}")


def _name(key: str) -> str:
    plain = key.isascii() and key.replace("-", "_").replace("_", "a").isalnum()
    return key if plain else toml(key)


def _toml_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def kind(value: Any) -> str:
    """What a user calls a value of this kind: "a string"."""
    match value:
        case bool():
            return toml(value)
        case str():
            return "a string"
        case int():
            return "an integer"
        case float():
            return "a float"
        case list():
            return "a list of tables" if is_table(value) else "a list"
        case dict():
            return "a table"
        case datetime.date() | datetime.time():
            return "a date or a time"
    raise AssertionError(type(value))


def is_table(value: Any) -> bool:
    """Whether it is a table, or a list of them."""
    tables = isinstance(value, list) and all(isinstance(part, dict) for part in value)
    return isinstance(value, dict) or tables and bool(value)


def is_plain(value: Any) -> bool:
    """Whether it is a number or a flag that is short to write."""
    return isinstance(value, bool | float) or (
        isinstance(value, int) and abs(value) < 2**63
    )


def listed(words: Sequence[str], last: str = "or") -> str:
    """Words in a sentence: "a, b or c"."""
    words = list(dict.fromkeys(words))
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def count(items: Sequence[Any], word: str) -> str:
    """How many: "1 label", "3 labels"."""
    return f"{len(items)} {word}" + ("" if len(items) == 1 else "s")


def bounds(entry: Entry) -> str:
    """The bounds of a number in words: "above 0 and at most 1"."""
    key = entry.key
    low = [("at least", key.at_least), ("above", key.above)]
    high = [("at most", key.at_most), ("below", key.below)]
    words = [f"{word} {_plain(x)}" for word, x in (*low, *high) if x is not None]
    return " and ".join(words)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def wanted(shape: Shape) -> list[str]:
    """What a value of a shape is, as alternatives for `listed`."""
    match shape:
        case Whole():
            return ["an integer"]
        case Number():
            return ["a number"]
        case Flag():
            return ["true", "false"]
        case String():
            return ["a string"]
        case Choice(values):
            return [quote(v) for v in values]
        case Items(item):
            many = {
                String(): "strings",
                Whole(): "integers",
                Number(): "numbers",
                Anything(): "values",
            }
            return [f"a list of {many[item]}"]
        case Pairs():
            return ["a list of pairs of integers"]
        case Lists():
            return ["a table of lists of strings"]
        case Named():
            return ["a table of values"]
        case Anything():
            return ["a value"]
    raise AssertionError(shape)
