"""What is wrong with a text that is not TOML, where, and how to mend it."""

from __future__ import annotations

import re

from generator.errors import Diagnostic, Place
from generator.spec.places import PlaceIndex

_NUMBERED = re.compile(r"^(.*) \(at line (\d+), column (\d+)\)$", re.DOTALL)


def syntax_diagnostic(text: str, error: ValueError, index: PlaceIndex) -> Diagnostic:
    """A diagnostic of an error of tomllib, which has line and column in its message."""
    found = _NUMBERED.match(str(error))
    why = found.group(1) if found else str(error).partition(" (at ")[0]
    lines = text.split("\n")
    if digits := re.search(r"[0-9][0-9_]{3999,}", text) if not found else None:
        # Python refuses to read such a number, and does not say where it is.
        start = len(text[: digits.start()].encode())
        return _at(index.place((start, start + 1)), "this number is far too long")
    if found:
        line, column = int(found.group(2)), int(found.group(3))
    else:
        line, column = _last(lines)
    opener = _opener(index, line, column)
    if opener and ("Unclosed" in why or not found):
        rest = index.data[index.starts[opener.line - 1] :].decode(errors="replace")
        bracket = rest[opener.column - 1]
        return _at(opener, _UNCLOSED[bracket])
    # A place behind the end of a line, as of a value that is missing, is a space wide.
    source = lines[line - 1].removesuffix("\r") if line <= len(lines) else ""
    rest = source[column - 1 :]
    token = re.match(r"[^\s,#\]}=]+", rest)
    width = len(token.group()) if token else 1
    place = Place(index.file, line, column, width)
    if brackets := _brackets(lines[:line]):
        return _at(place, *brackets)
    return _at(place, *_mend(why, source, column, token.group() if token else ""))


_UNCLOSED = {
    "[": "this bracket is not closed",
    "{": "this brace is not closed: a table in braces ends on its own line",
    '"': "this string is not closed",
    "'": "this string is not closed",
}


def _at(place: Place, label: str, help: str = "") -> Diagnostic:
    return Diagnostic("G001", "the spec is not valid TOML", place, label, help)


def _last(lines: list[str]) -> tuple[int, int]:
    """Line and column behind the last word of a text."""
    for number in range(len(lines), 0, -1):
        if lines[number - 1].strip():
            return number, len(lines[number - 1].rstrip()) + 1
    return 1, 1


def _opener(index: PlaceIndex, line: int, column: int) -> Place | None:
    """The last bracket or quote before a place that the grammar found no end for."""
    before = [index.place(span) for span in index.openers]
    before = [p for p in before if (p.line, p.column) <= (line, column)]
    # In a list that is not closed, the header of the next table looks like a list in it.
    inner = [p for p in before if p.column > 1 or p is before[0]]
    return inner[-1] if inner else None


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")


def _brackets(lines: list[str]) -> tuple[str, str] | None:
    """Label and help where the last line is a header that stands above with the other
    brackets, which makes the one a table and the other a list of tables."""
    last = _HEADER.match(lines[-1]) if lines else None
    if last is None:
        return None
    for number, line in enumerate(lines[:-1], 1):
        found = _HEADER.match(line)
        if found and found[2] == last[2] and found[1] != last[1]:
            single = found[1] == "["
            return (
                f"it has {'single' if single else 'double'} brackets on line {number}",
                f"where there may be several it is [[{last[2]}]] each time",
            )
    return None


def _mend(why: str, source: str, column: int, token: str) -> tuple[str, str]:
    """Label and help for an error of tomllib, by its words and what stands there."""
    before = source[: column - 1].rstrip()
    if "Invalid value" in why or before.endswith("=") and "end of" in why:
        return _mend_value(token)
    if "Expected '='" in why:
        if source[column - 1 :].lstrip().startswith(":"):
            return 'a key is followed by "=", not ":"', ""
        return 'a key is followed by "=" and a value', ""
    if "Expected newline" in why:
        if re.search(r"=\s*[+-]?0$", before) and token[:1].isdigit():
            return "a number does not start with 0", ""
        if re.search(r"=\s*\d{4}$", before) and token.startswith("-"):
            return "this is no date", "text stands in quotes"
        if re.search(r"=\s*\d[\d_]*$", before) and re.match(r"[eE.]", token):
            return "this number is not complete", "write 0.5 or 5e-5"
        return (
            "nothing more may stand on this line",
            "one key and its value on each line",
        )
    if "Unescaped '\\'" in why:
        return (
            "a backslash means something else in double quotes",
            "write it twice, or use single quotes",
        )
    if "Illegal character" in why or "invalid character" in why:
        if column > len(source):
            return "the string does not end on its line", "close it with the same quote"
        return (
            "this character cannot stand here",
            r"write it as \uXXXX in double quotes",
        )
    if "Expected ']'" in why:
        return "the header of a table ends with a bracket: [train]", ""
    if "{" in before and column > len(source):
        return "a table in braces ends on the line that it starts on", ""
    if "Invalid statement" in why or "Invalid initial" in why:
        return "a key or a [table] is expected here", ""
    if "escape" in why.lower() or "hex" in why.lower() or "unicode" in why.lower():
        return "this is no character", r"\uXXXX takes four hexadecimal digits"
    if "declare" in why or "overwrite" in why or "mutate" in why or "redefine" in why:
        return "this was given before, in another form", "give each key and table once"
    words = why[:1].lower() + why[1:]
    return words[:100], ""


_PYTHON_WORDS = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false"}


def _mend_value(token: str) -> tuple[str, str]:
    if not token:
        return "a value is missing", "to leave a key at its default, remove its line"
    if token in _PYTHON_WORDS:
        return f"write {_PYTHON_WORDS[token]}", ""
    if token.lower() in ("none", "null", "nil"):
        return (
            "TOML has no such value",
            "to leave a key at its default, remove its line",
        )
    if re.fullmatch(r"[+-]?\.\d+([eE][+-]?\d+)?", token):
        return f"write {token.replace('.', '0.', 1)}", ""
    if token[0] in "\u201c\u201d\u2018\u2019\u00ab\u00bb":
        return "these are not the quotes of code", "strings stand in straight quotes"
    if re.fullmatch(r"[A-Za-z_][\w./:@-]*", token) and len(token) <= 60:
        return f'text stands in quotes: "{token}"', ""
    return "this is no value of TOML", ""
