"""Every message of the reader, whole, as a user sees it.

messages.txt holds specs and what is said of them. `UPDATE_GOLDEN=1 pytest tests/spec`
writes it anew; read the difference before keeping it.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from generator.codes import SPEC
from generator.errors import GenError, render_diagnostics
from generator.spec import decode_spec, read_spec

GOLDEN = Path(__file__).with_name("messages.txt")
CASE = re.compile(
    r"^######## (.*)\n((?:.*\n)*?)--------\n((?:.*\n)*?)(?=^########|\Z)", re.MULTILINE
)
FILE = "specs/job.toml"


def cases() -> dict[str, tuple[str, str]]:
    """Title to spec and messages."""
    text = GOLDEN.read_bytes().decode()
    return {title: (spec, said) for title, spec, said in CASE.findall(text)}


def said_of(spec: str) -> str:
    """What a user reads about a spec, and no message that is out of place."""
    try:
        read_spec(spec, FILE)
    except GenError as error:
        lines = spec.split("\n")
        for diagnostic in error.diagnostics:
            place = diagnostic.place
            assert place is not None
            assert 1 <= place.line <= len(lines)
            assert 1 <= place.column <= len(lines[place.line - 1]) + 1
            assert 1 <= place.width
        return render_diagnostics(error.diagnostics, {FILE: spec}) + "\n"
    return "nothing\n"


def test_titles_are_distinct() -> None:
    assert len(cases()) == GOLDEN.read_bytes().count(b"######## ")


@pytest.mark.skipif("UPDATE_GOLDEN" not in os.environ, reason="only on demand")
def test_update() -> None:
    blocks = [
        f"######## {title}\n{spec}--------\n{said_of(spec)}\n"
        for title, (spec, _) in cases().items()
    ]
    GOLDEN.write_bytes("".join(blocks).encode())


@pytest.mark.parametrize("title", cases())
def test_message(title: str) -> None:
    spec, expected = cases()[title]
    said = said_of(spec)
    assert said + "\n" == expected
    # The title begins with the code that the case is for.
    if code := re.match(r"G\d{3}", title):
        assert f"error[{code.group()}]" in said


def test_every_code_has_a_case() -> None:
    shown = set(re.findall(r"^error\[(G\d{3})\]", GOLDEN.read_text(), re.MULTILINE))
    assert shown | {"G002"} == set(SPEC)  # G002 is about bytes: below


@pytest.mark.parametrize(
    ("data", "line", "column", "label"),
    [
        (b"# ok\nx = \xff", 2, 5, "the byte 0xFF"),
        (b"\xef\xbb\xbf\xe9 = 1", 1, 1, "the byte 0xE9"),
        ("# \u00e9\n\u00e9".encode() + b"\xc3", 2, 2, "the byte 0xC3"),
        ("name = 1".encode("utf-16"), 1, 1, "the byte 0xFF"),
    ],
)
def test_not_utf8(data: bytes, line: int, column: int, label: str) -> None:
    with pytest.raises(GenError) as caught:
        decode_spec(data, FILE)
    (diagnostic,) = caught.value.diagnostics
    place = diagnostic.place
    assert diagnostic.code == "G002" and place is not None
    assert (place.line, place.column, diagnostic.label) == (line, column, label)
    assert diagnostic.help == "save the file as UTF-8"


def test_half_characters_and_size() -> None:
    with pytest.raises(GenError) as caught:
        read_spec("a = 1\nb = '\ud800'", FILE)
    assert render_diagnostics(caught.value.diagnostics, {}) == (
        "error[G002]: the spec is not UTF-8\n"
        " --> specs/job.toml:2:6\n"
        "  = note: half a character, U+D800\n"
        "  = help: save the file as UTF-8"
    )
    with pytest.raises(GenError) as caught:
        read_spec("#" * (1 << 20) + "\n", FILE)
    assert caught.value.diagnostics[0].code == "G002"
    assert "1048577 characters" in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    ("spec", "line", "column", "label"),
    [
        (
            "seed = 1\nx = [ 1, " + "9" * 5000 + " ]",
            2,
            10,
            "this number is far too long",
        ),
        ("x = 1\ny = " + "[" * 5000, 2, 1, "lists or tables are nested too deep"),
        ('name = "a\x01b"', 1, 10, "this character cannot stand here"),
        ("a = 1\r b = 2", 1, 6, "nothing more may stand on this line"),
    ],
)
def test_odd_texts(spec: str, line: int, column: int, label: str) -> None:
    with pytest.raises(GenError) as caught:
        read_spec(spec, FILE)
    (diagnostic,) = caught.value.diagnostics
    place = diagnostic.place
    assert diagnostic.code == "G001" and place is not None
    assert (place.line, place.column, diagnostic.label) == (line, column, label)


def test_braces_over_two_lines() -> None:
    """TOML 1.0 refuses them and TOML 1.1, which newer Pythons read, does not."""
    spec = "train = { lr = 1,\n  epochs = 3 }\n"
    try:
        tomllib.loads(spec)
    except tomllib.TOMLDecodeError:
        label = "^ a table in braces ends on the line that it starts on"
        assert label in said_of(spec)
    else:
        assert "error[G005]" in said_of(spec) and "error[G001]" not in said_of(spec)
