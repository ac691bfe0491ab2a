"""tree-sitter says where things stand and tomllib what they are; they must agree."""

from __future__ import annotations

import datetime
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_strategies import broken_specs, quick, write_toml

from generator.errors import Place
from generator.spec import read_spec
from generator.spec.places import Path, index_places
from generator.spec.words import toml

# Documents of every kind -------------------------------------------------------------

names = st.one_of(
    st.sampled_from(["a", "b", "c-d", "1", "é", 'q"', "x y", "", "a.b", "\\", "日本"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=4),
)
scalars = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.datetimes(
        min_value=datetime.datetime(1000, 1, 1), timezones=st.just(datetime.UTC)
    ).map(lambda d: d.replace(microsecond=0)),
    st.dates(min_value=datetime.date(1000, 1, 1)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=8,
)


def key(draw: st.DrawFn, name: str) -> str:
    bare = name.isascii() and name.replace("-", "a").isalnum()
    quoted = [toml(name)] if "'" in name or not name.isprintable() else [f"'{name}'"]
    return draw(st.sampled_from([*quoted, *([name] if bare else [])]))


def written(draw: st.DrawFn, value: Any) -> str:
    space = draw(st.sampled_from(["", " ", "  "]))
    match value:
        case datetime.date():
            return value.isoformat()
        case list():
            gap = draw(st.sampled_from(["", " ", "\n", " # ]\n"]))
            return f"[{gap}{', '.join(written(draw, v) for v in value)}{gap}]"
        case dict():
            pairs = [
                f"{key(draw, k)}{space}= {written(draw, v)}" for k, v in value.items()
            ]
            return f"{{{', '.join(pairs)}}}"
        case str() if draw(st.booleans()) and "'" not in value and value.isprintable():
            return f"'{value}'"
        case str() if draw(st.booleans()):
            return f'""{toml(value)}""'
    return toml(value)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A text that may break TOML's rule of defining each thing once."""
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        form = draw(
            st.sampled_from(["pair", "pair", "dotted", "table", "list", "note"])
        )
        parts = draw(st.lists(names, min_size=1, max_size=3))
        dotted = draw(st.sampled_from([".", " . "])).join(key(draw, p) for p in parts)
        indent = draw(st.sampled_from(["", "  ", "\t"]))
        if form == "note":
            lines.append(f"{indent}# a = [")
        elif form == "table":
            lines.append(f"{indent}[{dotted}]")
        elif form == "list":
            lines.append(f"{indent}[[ {dotted} ]] # x")
        else:
            left = dotted if form == "dotted" else key(draw, parts[0])
            lines.append(f"{indent}{left} = {written(draw, draw(values))}")
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Every value that holds no other, and every empty list or table."""
    inside = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not inside:
        return {path: value}
    return {
        k: v for name, part in inside for k, v in leaves(part, (*path, name)).items()
    }


@quick
@given(documents())
def test_tree_and_values_agree(text: str) -> None:
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        index_places(text, "f")  # whatever it is, it has places
        return
    index = index_places(text, "f")
    assert not index.repeats
    assert not index.errors
    for path, value in leaves(parsed).items():
        if path in index.values:
            start, end = index.values[path]
            source = index.data[start:end].decode()
            assert tomllib.loads(f"v = {source}")["v"] == value
        elif path:
            # An empty table has a header, or is what a header goes through.
            assert value == {} and (path in index.headers or path in index.keys)
        for length in range(1, len(path) + 1):
            head = path[:length]
            if isinstance(head[-1], str):
                assert head in index.keys or head in index.headers
    # And nothing is in the tree that is not in the values.
    for path in [*index.values, *index.headers, *index.keys]:
        found: Any = parsed
        for part in path:
            found = found[part]


@quick
@given(broken_specs())
def test_specs_have_a_place_for_each_value(broken: dict[str, Any]) -> None:
    text = write_toml(broken)
    index = index_places(text, "f")
    for name, value in tomllib.loads(text).items():
        assert (name,) in index.keys or (name,) in index.headers
        for inner in value if isinstance(value, dict) else ():
            assert (name, inner) in index.values and (name, inner) in index.keys


# Repeats -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a = 1\na = 2", ("a",)),
        ("[t]\nx = 1\n[t]\ny = 2", ("t",)),
        ("a = 1\n[a]\nx = 1", ("a",)),
        ("[t]\nx = 1\n'x' = 2", ("t", "x")),
        ('t.x = 1\nt."x" = 2', ("t", "x")),
        ("t = {x = 1, x = 2}", ("t", "x")),
    ],
)
def test_a_second_time_is_found(text: str, path: Path) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    (repeat,) = index_places(text, "f").repeats
    assert repeat.path == path


@pytest.mark.parametrize("text", ["[[t]]\nx = 1\n[[t]]\nx = 2", "[t.a]\n[t]\n[t.b]"])
def test_what_may_stand_twice(text: str) -> None:
    tomllib.loads(text)
    assert not index_places(text, "f").repeats


# Places of a spec --------------------------------------------------------------------

SPEC = '''\
#:schema x
name = "job"
task = "text-classification"
labels = [ # two
  "ä", "日本語",
  "c" ]
[backbone]
from = 'models/x'
  [data]
train = "a.csv"
text = ["t", "u"]  # a pair
label = """l
m"""
train.lr = 1
'''.replace('"""l\nm"""', '"l"').replace("train.lr = 1\n", "")


def test_places_of_keys_and_values() -> None:
    spec_file = read_spec(SPEC + "[train]\nlr = 1\n", "s.toml")

    def place(*path: Any) -> tuple[int, int, int]:
        found = spec_file.place(*path)
        assert found.file == "s.toml"
        return found.line, found.column, found.width

    assert place("name") == (2, 8, 5)
    assert place("name", "key") == (2, 1, 4)
    assert place("labels") == (4, 10, 7)  # to the end of its first line
    assert place("labels[0]") == (5, 3, 3)
    assert place("labels[1]") == (5, 8, 5)
    assert place("labels[2]") == (6, 3, 3)
    assert place("data.text[1]") == (11, 14, 3)
    assert place("data.text[7]") == (11, 8, 10)  # the list it would be in
    assert place("backbone.from") == (8, 8, 10)
    assert place("data", "key") == place("data") == (9, 3, 6)
    assert place("data.valid") == (9, 3, 6)  # a default: its table
    assert place("train.lr") == (14, 6, 1)
    assert place("train.epochs") == (13, 1, 7)
    assert place("target.device") == (1, 1, 1)  # no table: the first line
    assert place("target") == (1, 1, 1)


def test_places_of_other_forms() -> None:
    text = SPEC.replace("task", "train.'lr' = 1e-3\ntarget = { device = 'cuda' }\ntask")
    spec_file = read_spec(text, "s.toml")
    assert spec_file.place("train.lr") == Place("s.toml", 3, 14, 4)
    assert spec_file.place("train.lr", "key") == Place("s.toml", 3, 7, 4)
    assert spec_file.place("train.epochs") == Place("s.toml", 3, 1, 5)
    assert spec_file.place("target.device") == Place("s.toml", 4, 21, 6)


def test_a_byte_order_mark_moves_nothing() -> None:
    spec_file = read_spec("\ufeff" + SPEC[SPEC.index("name") :], "s.toml")
    assert spec_file.place("name") == Place("s.toml", 1, 8, 5)
