"""A spec's text with some of its keys given other values; the rest stays as it is written.

    alter('[train]\\nlr = 5e-5  # high\\n', {"train.lr": 2e-5})
    '[train]\\nlr = 2e-05  # high\\n'

A value is replaced where it stands, and a key that is not there is added below its header.
Lines keep their places as far as that goes, and what results is a text to read like any.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from generator.spec.places import Path, PlaceIndex, Span, index_places
from generator.spec.words import toml

LISTS = ("edit", "train.stage")  # what is written as [[tables]]
SEARCH = "search"


def alter(text: str, changes: Mapping[str, Any]) -> str:
    """The text with these values, by path. None takes a key out."""
    for path, value in changes.items():
        parts = parts_of(path)
        if path in LISTS:
            text = _with_tables(text, parts, value or ())
        elif value is None:
            text = _without(text, parts)
        else:
            text = _with(text, parts, value)
    return text


def without_search(text: str) -> str:
    """The text without what is said of a search, and the comment right above it."""
    return _without_tables(text, (SEARCH,))


def value_at(values: Any, path: str) -> Any:
    """What tomllib's values have at a path; None where there is nothing."""
    for part in parts_of(path):
        if isinstance(part, int):
            if not isinstance(values, list) or part >= len(values):
                return None
            values = values[part]
        elif isinstance(values, dict) and part in values:
            values = values[part]
        else:
            return None
    return values


def parts_of(path: str) -> Path:
    """ "edit[0].keep" as ("edit", 0, "keep")."""
    parts = re.findall(r"[^.\[\]]+|\[\d+\]", path)
    return tuple(int(p[1:-1]) if p.startswith("[") else p for p in parts)


def _with(text: str, parts: Path, value: Any) -> str:
    index = index_places(text, "")
    if span := index.values.get(parts):
        return _spliced(index, span, toml(value))
    around, name = parts[:-1], str(parts[-1])
    line = f"{name} = {toml(value)}\n"
    if not around:  # ahead of the first table
        starts = [span[0] for span in index.headers.values()]
        at = min(starts, default=len(index.data))
        at = _above_comment(index.data, at)
        gap = "" if _ends_line(index.data[:at]) else "\n"
        return _spliced(index, (at, at), gap + line)
    if span := index.headers.get(around):
        end = index.data.find(b"\n", span[1])
        if end < 0:
            end = len(index.data)
            return _spliced(index, (end, end), f"\n{line}")
        return _spliced(index, (end + 1, end + 1), line)
    if span := index.values.get(around):  # a table in braces
        inside = index.data[span[0] + 1 : span[1] - 1].strip()
        pair = f" {line.strip()}" + ("," if inside else " ")
        at = span[0] + 1
        return _spliced(index, (at, at), pair)
    if (own := _dotted(index, around)) is not None:  # train.lr = 1, without a header
        prefix = ".".join(str(part) for part in around)
        return _spliced(index, (own, own), f"{prefix}.{line}")
    return _appended(
        text, [f"[{'.'.join(str(part) for part in around)}]", line.strip()]
    )


def _dotted(index: PlaceIndex, around: Path) -> int | None:
    """Where a line begins that gives a key of a table by dots."""
    for path, span in index.keys.items():
        if path[: len(around)] == around and len(path) > len(around):
            return index.data.rfind(b"\n", 0, span[0]) + 1
    return None


def _without(text: str, parts: Path) -> str:
    index = index_places(text, "")
    key, value = index.keys.get(parts), index.values.get(parts)
    if key is None or value is None:
        return _without_tables(text, parts) if parts in index.headers else text
    start = index.data.rfind(b"\n", 0, key[0]) + 1
    end = index.data.find(b"\n", value[1])
    end = len(index.data) if end < 0 else end + 1
    around = index.values.get(parts[:-1])
    if around is None:
        return _spliced(index, (start, end), "")
    values = value_at(tomllib.loads(text), _path(parts[:-1]))  # a table in braces
    rest = {name: other for name, other in values.items() if name != parts[-1]}
    return _spliced(index, around, toml(rest))


def _path(parts: Path) -> str:
    words = ""
    for part in parts:
        words += f"[{part}]" if isinstance(part, int) else f".{part}"
    return words.lstrip(".")


def _with_tables(text: str, parts: Path, tables: Sequence[Mapping[str, Any]]) -> str:
    """A list of tables, each under a header of its own, in the place of those before."""
    index = index_places(text, "")
    if parts in index.values:
        text = _without(text, parts)
    else:
        text = _without_tables(text, parts)
    for table in tables:
        lines = [f"{name} = {toml(value)}" for name, value in table.items()]
        text = _appended(text, [f"[[{_path(parts)}]]", *lines])
    return text


def _without_tables(text: str, parts: Path) -> str:
    """Without a table and all that is below it, the comment right above it included."""
    index = index_places(text, "")
    data = index.data
    if parts in index.values and parts in index.keys:
        return _without(text, parts)
    # Of a list of tables the list itself stands where its first table does.
    headers = sorted({(span, path) for path, span in index.headers.items()})
    starts = sorted({_above_comment(data, span[0]) for span, _ in headers})
    gone = {
        _above_comment(data, span[0])
        for span, path in headers
        if path[: len(parts)] == parts
    }
    if not gone:
        return text
    ends = dict(zip(starts, [*starts[1:], len(data)], strict=True))
    kept, at = b"", 0
    for start in sorted(gone):
        kept += data[at:start]
        at = ends[start]
    rest = data[at:]
    whole = kept + rest
    if not rest.strip():
        whole = kept.rstrip(b"\r\n") + (b"\n" if kept.strip() else b"")
    return whole.decode()


def _above_comment(data: bytes, start: int) -> int:
    """Where the comment begins that stands right above a place, or the place itself."""
    start = data.rfind(b"\n", 0, start) + 1
    while start:
        before = data.rfind(b"\n", 0, start - 1) + 1
        line = data[before:start].strip()
        if not line.startswith(b"#") or line.startswith(b"#:"):
            break
        start = before
    return start


def _appended(text: str, lines: Sequence[str]) -> str:
    gap = "" if _ends_line(text.encode()) else "\n"
    return text + gap + ("\n" if text.strip() else "") + "\n".join(lines) + "\n"


def _ends_line(data: bytes) -> bool:
    return not data or data.endswith(b"\n")


def _spliced(index: PlaceIndex, span: Span, new: str) -> str:
    data = index.data
    return (data[: span[0]] + new.encode() + data[span[1] :]).decode()
