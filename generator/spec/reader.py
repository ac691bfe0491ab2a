"""Reads a spec: text in, a Spec with the place of each value out. No I/O."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from generator.errors import Diagnostic, GenError, Place, fail
from generator.spec.check import check, given_paths
from generator.spec.model import Spec
from generator.spec.places import Path, PlaceIndex, Repeat, index_places
from generator.spec.state import Problem

LARGEST_SPEC = 1 << 20  # bytes; a list of 30,000 labels fits


@dataclass(frozen=True)
class SpecFile:
    """A spec that was read, and where all of it stands."""

    spec: Spec
    text: str
    file: str  # the name that places have for it
    given: frozenset[str]  # the keys that are in the file, as "train.lr"
    teacher: SpecFile | None = None  # that of [train.distill], once it is read too

    def place(self, path: str, part: Literal["key", "value"] = "value") -> Place:
        """Where "train.lr", "labels[1]" or "train" stands.

        For what is not in the file (a default) it is the header of its table, or the
        first line.
        """
        return self._index.at(_parts(path), part)

    @functools.cached_property
    def _index(self) -> PlaceIndex:
        return index_places(self.text, self.file)


def read_spec(text: str, file: str) -> SpecFile:
    """The spec in a text; `file` is what messages call it.

    Raises GenError with a diagnostic for everything that is wrong. A text that is not
    TOML ends the search there.
    """
    text = text.removeprefix("\ufeff")
    _readable(text, file)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        values, diagnostics = _mended(text, file, error)
    else:
        diagnostics = []
    if values is not None:
        spec, problems = check(values)
        if spec is not None and not diagnostics:
            return SpecFile(spec, text, file, given_paths(values))
        index = index_places(text, file)
        diagnostics += [_diagnostic(problem, index) for problem in problems]
    raise GenError(sorted(diagnostics, key=_order))


def decode_spec(data: bytes, file: str) -> str:
    """The text of a spec's bytes; a GenError where they are not UTF-8."""
    data = data.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors write
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = _behind(data[: error.start].decode(), file)
        raise fail(
            "G002",
            "the spec is not UTF-8",
            place=place,
            label=f"the byte 0x{data[error.start]:02X}",
            help="save the file as UTF-8",
        ) from None


def _readable(text: str, file: str) -> None:
    lone = re.search("[\ud800-\udfff]", text)
    if lone:
        raise fail(
            "G002",
            "the spec is not UTF-8",
            place=_behind(text[: lone.start()], file),
            label=f"half a character, U+{ord(lone.group()):04X}",
            help="save the file as UTF-8",
        )
    if len(text) > LARGEST_SPEC:
        raise fail(
            "G002",
            f"the spec has {len(text)} characters, the most is {LARGEST_SPEC}",
            place=Place(file, 1, 1, 1),
            help="rows belong into the files that [data] names",
        )


def _behind(before: str, file: str) -> Place:
    line = before.rpartition("\n")[2]
    return Place(file, before.count("\n") + 1, len(line) + 1, 1)


def _mended(
    text: str, file: str, error: ValueError | RecursionError
) -> tuple[dict[str, Any] | None, list[Diagnostic]]:
    """What can still be read of a text that tomllib refused, and why it was refused.

    Keys that stand twice do not keep the rest from being looked at: the second is left
    out. Anything else does.
    """
    index = index_places(text, file)
    diagnostics = [
        Diagnostic(
            "G003",
            f"{_name(repeat.path)} is given twice",
            index.place(repeat.span),
            f"given on line {index.place(repeat.first).line} already",
            _of_repeat(repeat, index.data),
        )
        for repeat in index.repeats
    ]
    if diagnostics:
        data = bytearray(index.data)
        for repeat in index.repeats:
            start, end = repeat.whole
            part = bytes(data[start:end])
            data[start:end] = bytes(b if b in b"\r\n" else 0x20 for b in part)
        text = data.decode()
        try:
            return tomllib.loads(text), diagnostics
        except (ValueError, RecursionError) as second:
            error = second
    return None, [*diagnostics, _refused(text, error, index)]


def _of_repeat(repeat: Repeat, data: bytes) -> str:
    """How to mend what stands twice."""
    if not repeat.header:
        return "remove one of the two"
    if data[slice(*repeat.first)].startswith(b"[["):
        return f"where there may be several it is [[{_name(repeat.path)}]] each time"
    return "put its keys under one header"


def _refused(
    text: str, error: ValueError | RecursionError, index: PlaceIndex
) -> Diagnostic:
    from generator.spec.syntax import syntax_diagnostic

    if isinstance(error, RecursionError):
        depths = [line.count("[") + line.count("{") for line in text.split("\n")]
        place = Place(index.file, depths.index(max(depths)) + 1, 1, 1)
        message = "the spec is not valid TOML"
        return Diagnostic("G001", message, place, "lists or tables are nested too deep")
    return syntax_diagnostic(text, error, index)


def _diagnostic(problem: Problem, index: PlaceIndex) -> Diagnostic:
    place = index.at(problem.path, problem.at)
    return Diagnostic(problem.code, problem.message, place, problem.label, problem.help)


def _order(diagnostic: Diagnostic) -> tuple[int, int, str]:
    place = diagnostic.place
    line, column = (place.line, place.column) if place else (0, 0)
    return line, column, diagnostic.code


def _parts(path: str) -> Path:
    """ "labels[1]" as ("labels", 1), "train.lr" as ("train", "lr")."""
    parts = re.findall(r"[^.\[\]]+|\[\d+\]", path)
    return tuple(int(p[1:-1]) if p.startswith("[") else p for p in parts)


def _name(path: Path) -> str:
    """A path as a message writes it."""
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{part}"
    return words.lstrip(".")[:80]
