"""The form of messages: places, carets, and text that a terminal must not act on."""

from __future__ import annotations

import pytest

from generator.errors import (
    Diagnostic,
    GenError,
    Place,
    fail,
    quote,
    render_diagnostics,
)


def shown(line: str, column: int, width: int, label: str = "here") -> list[str]:
    """The line of source and the line under it."""
    place = Place("f", 1, column, width)
    text = render_diagnostics([Diagnostic("G999", "m", place, label)], {"f": line})
    return text.split("\n")[3:5]


def test_the_form_of_the_design() -> None:
    source = "\n" * 22 + 'do = "keep-layer"\n'
    diagnostic = Diagnostic(
        "G012",
        'unknown backbone edit "keep-layer"',
        Place("specs/movie_sentiment.toml", 23, 6, 12),
        'did you mean "keep-layers"?',
        "gen list edits",
    )
    expected = """\
error[G012]: unknown backbone edit "keep-layer"
  --> specs/movie_sentiment.toml:23:6
   |
23 | do = "keep-layer"
   |      ^^^^^^^^^^^^ did you mean "keep-layers"?
   = help: gen list edits"""
    files = {"specs/movie_sentiment.toml": source}
    assert render_diagnostics([diagnostic], files) == expected
    both = render_diagnostics([diagnostic, diagnostic], files)
    assert both == f"{expected}\n\n{expected}"


def test_without_a_source() -> None:
    place = Place("lost.toml", 7, 2, 1)
    diagnostic = Diagnostic(
        "G101", "gone", place, "was here", "look\nelsewhere", "warning"
    )
    expected = """\
warning[G101]: gone
 --> lost.toml:7:2
  = note: was here
  = help: look
          elsewhere"""
    assert render_diagnostics([diagnostic], {}) == expected
    # A line that the file does not have any more is left out in the same way.
    assert render_diagnostics([diagnostic], {"lost.toml": "a\nb"}) == expected


def test_without_a_place() -> None:
    error = fail("G101", "no such folder", help="give another")
    assert isinstance(error, GenError) and str(error) == "no such folder"
    expected = "error[G101]: no such folder\n   = help: give another"
    assert render_diagnostics(error.diagnostics, {}) == expected


@pytest.mark.parametrize(
    ("line", "column", "width", "expected"),
    [
        ("\ta = 1", 2, 1, ["1 |     a = 1", "  |     ^ here"]),
        ("a\t=\t1", 5, 1, ["1 | a    =    1", "  |           ^ here"]),
        ("日本 = 語", 6, 1, ["1 | 日本 = 語", "  |        ^^ here"]),
        ("e\u0301\u0301x = 1", 4, 1, ["1 | e\u0301\u0301x = 1", "  |  ^ here"]),
        ("👩\u200d👩 = 1", 7, 1, ["1 | 👩\u200d👩 = 1", "  |         ^ here"][:1]),
        ("a\u202eb = 1", 3, 1, ["1 | a\\u202Eb = 1", "  |        ^ here"]),
        ("a\x1b[31m", 2, 1, ["1 | a\\u001B[31m", "  |  ^^^^^^ here"]),
        ("abc", 4, 1, ["1 | abc", "  |    ^ here"]),
        ("abc", 9, 9, ["1 | abc", "  |    ^ here"]),
        ("", 1, 1, ["1 |", "  | ^ here"]),
        ("abc\r", 1, 9, ["1 | abc", "  | ^^^ here"]),
        ("\ufeffabc", 1, 1, ["1 | abc", "  | ^ here"]),
    ],
)
def test_carets(line: str, column: int, width: int, expected: list[str]) -> None:
    assert shown(line, column, width)[: len(expected)] == expected


@pytest.mark.parametrize("column", [1, 39, 41, 150, 300, 460, 500])
def test_long_lines_are_cut_around_the_caret(column: int) -> None:
    line = "".join(f"{i:>5}" for i in range(100))
    source, under = shown(line, column, 3)
    assert len(source) <= 4 + 3 + 40 + 120 + 3
    start = under.index("^")
    assert under[start:].startswith("^" * min(3, 501 - column) + " here")
    assert source[start : start + 3] == line[column - 1 : column + 2]
    assert source[4:7] == ("..." if column > 41 else line[:3])


def test_a_long_span_ends_with_what_is_shown() -> None:
    source, under = shown("[" + "x" * 1000 + "]", 1, 1002)
    assert source.endswith("...") and len(source) == 4 + 120 + 3
    assert under == "  | " + "^" * 120 + " here"


def test_nothing_is_a_command_to_the_terminal() -> None:
    nasty = "a\x1b[2J\r\u202e\u2028\x00"
    diagnostic = Diagnostic("G001", nasty, Place(nasty, 1, 1, 1), nasty, nasty)
    text = render_diagnostics([diagnostic], {nasty: nasty})
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.count("\n") == 5


def test_quote() -> None:
    assert quote("plain") == '"plain"'
    assert quote('a"b\\c') == '"a\\"b\\\\c"'
    assert quote("a\n\u202e日\U000e0001") == '"a\\u000A\\u202E日\\U000E0001"'
    assert quote("x" * 100) == '"' + "x" * 57 + '..."'
