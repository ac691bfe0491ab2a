"""Whatever is read, a GenError with good places is the worst that happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_strategies import broken_specs, quick, write_toml

from generator.errors import GenError, render_diagnostics
from generator.spec import decode_spec, read_spec

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "specs" / "movie_sentiment.toml").read_text()
many = settings(quick, max_examples=300)


def survives(text: str) -> None:
    """Reads a text; whatever is said of it has a place in it and can be shown."""
    try:
        read_spec(text, "s.toml")
    except GenError as error:
        assert error.diagnostics
        lines = text.removeprefix("\ufeff").split("\n")
        for d in error.diagnostics:
            assert d.place is not None
            assert 1 <= d.place.line <= len(lines)
            assert 1 <= d.place.column <= len(lines[d.place.line - 1]) + 1
            assert d.place.width >= 1
            assert d.message.isprintable() and d.label.isprintable()
        shown = render_diagnostics(error.diagnostics, {"s.toml": text})
        # Nothing of a spec reaches a terminal as a command to it.
        assert all(c.isprintable() or c in "\n\u200c\u200d" for c in shown)
        assert shown.count("error[G") >= len(error.diagnostics)
        places = [(d.place.line, d.place.column) for d in error.diagnostics if d.place]
        assert places == sorted(places)
        # The same is said each time.
        with pytest.raises(GenError) as again:
            read_spec(text, "s.toml")
        assert again.value.diagnostics == error.diagnostics


@many
@given(st.binary(max_size=80))
def test_bytes(data: bytes) -> None:
    try:
        text = decode_spec(data, "s.toml")
    except GenError as error:
        assert [d.code for d in error.diagnostics] == ["G002"]
        return
    survives(text)


@many
@given(st.text(max_size=80))
def test_text(text: str) -> None:
    survives(text)


# The marks of TOML, and words of a spec, in any order.
pieces = st.sampled_from(
    [
        *"[]{}=.,#'\"\\\n\r\t 0-_eE:+",
        '"""',
        "'''",
        "[[",
        "]]",
        "\r\n",
        "true",
        "inf",
        "nan",
    ]
    + [
        "name",
        "train",
        "lr",
        "labels",
        "data",
        "\\u",
        "\\U0010FFFF",
        "1979-05-27",
        "日本",
    ]
    + ["\u202e", "\x00", "\x7f", "\ufeff", "1_000", "0x", "T07:32:00Z", "é"]
)


@many
@given(st.lists(pieces, max_size=25).map("".join))
def test_marks_of_toml(text: str) -> None:
    survives(text)


@many
@given(st.data())
def test_a_spec_with_cuts_and_insertions(data: st.DataObject) -> None:
    text = DEMO
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 12, len(text))))
        other = data.draw(st.integers(0, len(text)))
        between = data.draw(st.one_of(pieces, st.just(text[other : other + 25])))
        text = text[:start] + between + text[end:]
    survives(text)


@quick
@given(broken_specs())
def test_broken_specs(values: dict[str, object]) -> None:
    survives(write_toml(values))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a = " + "[" * 100_000,
        "a = " + "{a = " * 20_000,
        "a = " + "{a = " * 20_000 + "1" + "}" * 20_000,
        "a = " + "[" * 20_000 + "]" * 20_000,
        "a" + ".a" * 4_000 + " = 1\na = 1",
        "a" + ".a" * 4_000 + " = 1",
        "name = " + '"' * 1001,
        "\n" * 10_000 + "x",
        "labels = [" + '"a",' * 3_000 + "]",
        "seed = 0x" + "f" * 50_000,
        "lr = 1e999999999",
        "lr = 1" + "0" * 4000,
        "a = '''" + "\n" * 1000,
        "[a" * 500 + "]" * 500,
    ],
    ids=range(15),
)
def test_large(text: str) -> None:
    survives(text)
