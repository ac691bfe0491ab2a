"""A spec is given other values where they stand, and loses its search without a trace."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_strategies import quick, valid_specs, write_toml

from generator.spec.alter import alter, value_at, without_search

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.toml"))
SPEC = """\
#:schema ../docs/spec.schema.json
name = "job"  # its name

[train]
lr = 5e-5  # the highest
batch = 32

# The second half goes.
[[edit]]
do = "keep-layers"
n = 3

[[edit]]
do = "prune-ffn"
keep = 0.5

[target]
device = "cpu"
"""


def test_a_value_is_replaced_where_it_stands() -> None:
    after = alter(SPEC, {"train.lr": 2e-5, "edit[1].keep": 0.25})
    expected = SPEC.replace("5e-5", "2e-05").replace("keep = 0.5", "keep = 0.25")
    assert after == expected


def test_a_key_that_is_not_there_stands_below_its_header() -> None:
    after = alter(SPEC, {"train.epochs": 2, "deploy.quantize": "int8", "task": "x"})
    assert after.startswith(
        SPEC.split("\n\n[train]")[0] + '\n\ntask = "x"\n[train]\nepochs'
    )
    assert after.endswith('device = "cpu"\n\n[deploy]\nquantize = "int8"\n')


def test_a_list_of_tables_is_replaced_as_a_whole() -> None:
    tables = [{"do": "head", "kind": "mlp"}, {"do": "lora", "on": ["a", "b"]}]
    after = alter(SPEC, {"edit": tables})
    assert tomllib.loads(after)["edit"] == tables
    assert "half" not in after and "[target]" in after
    assert "edit" not in tomllib.loads(alter(SPEC, {"edit": None}))


def test_a_key_is_taken_out() -> None:
    assert alter(SPEC, {"train.batch": None}) == SPEC.replace("batch = 32\n", "")
    assert alter(SPEC, {"train.warmup": None, "data.clean.case": None}) == SPEC


@pytest.mark.parametrize(
    ("text", "changes", "values"),
    [
        ("train = { lr = 1, batch = 2 }", {"train.lr": 3}, {"lr": 3, "batch": 2}),
        ("train = { lr = 1 }", {"train.batch": 2}, {"lr": 1, "batch": 2}),
        ("train = {}", {"train.batch": 2}, {"batch": 2}),
        ("train = { lr = 1, batch = 2 }", {"train.lr": None}, {"batch": 2}),
        ("train.lr = 1", {"train.batch": 2}, {"lr": 1, "batch": 2}),
        ("[train]", {"train.batch": 2}, {"batch": 2}),
        ("", {"train.batch": 2}, {"batch": 2}),
    ],
)
def test_however_a_table_is_written(
    text: str, changes: dict[str, Any], values: dict[str, Any]
) -> None:
    assert tomllib.loads(alter(text, changes))["train"] == values


@quick
@given(valid_specs(), st.data())
def test_other_values_stay(values: dict[str, Any], data: st.DataObject) -> None:
    text = write_toml(values)
    tables = [n for n, v in values.items() if isinstance(v, dict) and v]
    path = data.draw(
        st.sampled_from([*(f"{t}.{n}" for t in tables for n in values[t])])
    )
    new = data.draw(st.sampled_from([1, 'a \\ "b"', 0.5, [1, 2], ["\u00e9"], True]))
    after = tomllib.loads(alter(text, {path: new}))
    assert value_at(after, path) == new
    table, name = path.split(".")
    after[table][name] = values[table][name]
    assert after == tomllib.loads(text)


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_a_search_leaves_no_trace(path: Path) -> None:
    text = without_search(path.read_text())
    search = "\n# What varies.\n[search]\ntrials = 3\n"
    vary = '\n# This too.\n[[search.vary]]\nkey = "train.lr"\nchoices = [1, 2]\n'
    assert without_search(text + search) == text
    assert without_search(text + search + vary + vary) == text
    first = text.index("\n[")
    assert without_search(text[:first] + search + vary + text[first:]) == text
