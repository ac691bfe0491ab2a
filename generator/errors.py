"""What a user is told when something is wrong: a place, a stable code, and the mend."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A span of one line of a text file. Lines and columns count from 1.

    Columns are characters (code points), as editors count them. What they come to on a
    terminal, with tabs and wide characters, is worked out when a message is shown.
    """

    file: str
    line: int
    column: int
    width: int  # columns under the caret, at least 1


@dataclass(frozen=True)
class Diagnostic:
    """One message. `label` stands behind the caret, `help` on a line of its own.

    `code` is stable ("G012") and has a page of that name under docs/errors/.
    """

    code: str
    message: str
    place: Place | None = None
    label: str = ""
    help: str = ""
    severity: str = "error"


class GenError(Exception):
    """Carries every diagnostic that was found, never only the first."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("\n".join(d.message for d in diagnostics))
        self.diagnostics = tuple(diagnostics)


def fail(
    code: str,
    message: str,
    *,
    place: Place | None = None,
    label: str = "",
    help: str = "",
) -> GenError:
    """A GenError of one diagnostic: `raise fail("G101", "...", help="...")`."""
    return GenError([Diagnostic(code, message, place, label, help)])


def quote(text: str, limit: int = 60) -> str:
    """A string of the user's for a message: in double quotes, escaped, not too long."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if _plain(c) else _escape(c) for c in escaped) + '"'


def render_diagnostics(
    diagnostics: Sequence[Diagnostic], sources: Mapping[str, str]
) -> str:
    """Every message with its line of source, a blank line between two of them.

    `sources` gives the text of a file by the name that places have for it. A place in a
    file that is not there is named without its line. There is no newline at the end.
    """
    named = {d.place.file for d in diagnostics if d.place} & set(sources)
    lines = {file: sources[file].removeprefix("\ufeff").split("\n") for file in named}
    return "\n\n".join(_render(d, lines) for d in diagnostics)


def _render(diagnostic: Diagnostic, sources: Mapping[str, Sequence[str]]) -> str:
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {_shown(diagnostic.message)}"]
    label, place, gutter = _shown(diagnostic.label), diagnostic.place, 2
    if place is not None:
        gutter = len(str(place.line))
        file = _shown(place.file)
        lines.append(f"{' ' * gutter}--> {file}:{place.line}:{place.column}")
        source = sources.get(place.file, ())
        if 0 < place.line <= len(source):
            line = source[place.line - 1].removesuffix("\r")
            text, start, carets = _under(line, place.column, place.width)
            under = f"{' ' * start}{'^' * carets} {label}".rstrip()
            lines += [
                f"{' ' * gutter} |",
                f"{place.line} | {text}".rstrip(),
                f"{' ' * gutter} | {under}",
            ]
            label = ""
    for name, words in (("note", label), ("help", diagnostic.help)):
        if words:
            first, *rest = words.split("\n")
            lines.append(f"{' ' * gutter} = {name}: {_shown(first)}")
            lines += [f"{' ' * (gutter + 9)}{_shown(line)}" for line in rest]
    return "\n".join(lines)


_SHOWN_COLUMNS = 120  # longer lines are cut around the caret
_COLUMNS_BEFORE = 40  # what is kept left of the caret then


def _under(line: str, column: int, width: int) -> tuple[str, int, int]:
    """The line as shown, and where the carets start and how many: display columns."""
    first = min(max(column - 1, 0), len(line))
    last = min(first + max(width, 1), len(line))
    low, high = 0, len(line)
    if len(line) > _SHOWN_COLUMNS or _columns(_shown(line)) > _SHOWN_COLUMNS:
        low = first
        while low > 0 and _columns(_shown(line[low - 1 : first])) <= _COLUMNS_BEFORE:
            low -= 1
        high, room = low, _SHOWN_COLUMNS
        while high < len(line) and (room := room - _columns(_cell(line[high]))) >= 0:
            high += 1
    last = min(last, high)
    before = ("..." if low else "") + _shown(line[low:first])
    marked, after = _shown(line[first:last]), _shown(line[last:high])
    shown = before + marked + after + ("..." if high < len(line) else "")
    return shown, _columns(before), max(_columns(marked), 1)


def _plain(char: str) -> bool:
    """Whether a character may be written to a terminal as it is."""
    # The joiners are needed inside emoji and some scripts, and move no text about.
    return char.isprintable() or char in "\u200c\u200d"


def _escape(char: str) -> str:
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def _cell(char: str) -> str:
    """A character of a source line as shown: a terminal must not act on it."""
    if char == "\t":
        return "    "
    return char if _plain(char) else _escape(char)


def _shown(text: str) -> str:
    return "".join(_cell(c) for c in text)


def _columns(text: str) -> int:
    """How many columns of a terminal a text that `_cell` gave takes."""
    if text.isascii():
        return len(text)
    return sum(_char_columns(c) for c in text)


def _char_columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
