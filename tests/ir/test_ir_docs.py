"""docs/ir.md says what the code does; the pages of the codes are those of the verifier."""

import re
from pathlib import Path
from typing import get_args

import generator.ir
from generator.codes import IR
from generator.ir.job import ROLES, Level
from generator.ir.ops import ACTIVATIONS, OPS, ROPE_NEEDS
from generator.ir.text import _PLANS

ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "ir.md").read_text()
SMALL = (Path(__file__).parent / "cases" / "small.gir").read_text()


def section(title: str) -> str:
    start = DOC.index(f"## {title}\n")
    stop = DOC.find("\n## ", start)
    return DOC[start : stop if stop > 0 else None]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a text, heads and rules left out."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return [c for c in cells if c[0].startswith("`")]


def test_every_operation_is_documented():
    found = [row for row in rows(section("Operations")) if len(row) == 6]
    table = {row[0].strip("`"): row for row in found}
    assert set(table) == set(OPS)
    for kind, op in OPS.items():
        _, _, _, parameters, attrs, meaning = table[kind]
        assert meaning
        named = re.findall(r"(\[?)`(\w+)`", parameters)
        must = tuple(name for bracket, name in named if not bracket)
        may = tuple(name for bracket, name in named if bracket)
        assert (must, may) == (tuple(n for n in op.parameters if n), op.optional), kind
        named = re.findall(r"(\[?)`(\w+)`", attrs)
        assert tuple(n for b, n in named if not b) == op.attrs, kind
        assert tuple(n for b, n in named if b) == op.optional_attrs, kind


def test_kinds_are_documented():
    text = section("Operations")
    for kind in ACTIVATIONS:
        assert f"`{kind}`" in text
    table = {r[0].strip("`"): r[1] for r in rows(text) if len(r) == 3}
    assert {
        k: tuple(re.findall(r"`(\w+)`", needs)) for k, needs in table.items()
    } == ROPE_NEEDS


def test_levels_roles_plans_and_sources_are_documented():
    assert [r[0].strip("`") for r in rows(section("Levels"))] == list(get_args(Level))
    grammar = section("The grammar")
    for word in (*ROLES, *_PLANS):
        assert f'"{word}"' in grammar
    sources = [r[0] for r in rows(section("Where weights come from"))]
    words = {re.match(r"`(\w+)", s)[1] for s in sources}  # type: ignore[index]
    assert words == {
        *(
            "ckpt",
            "old",
            "tie",
            "init",
            "cat",
            "sum",
            "rows",
            "row",
            "take",
            "transpose",
            "norms",
        ),
        *("repeat", "share", "noise", "left", "right", "fold", "gain"),
        *("tile", "stretch", "resize"),
    }
    for word in words:
        assert f'"{word}"' in grammar


def test_the_example_is_a_job_that_is_tested():
    example = re.search(r"```\n(model .*?)\n```", DOC, re.DOTALL)
    assert example and SMALL.endswith(example[1] + "\n")


def test_every_code_of_the_ir_has_an_entry_and_no_entry_is_left_over():
    used: set[str] = set()
    for file in Path(generator.ir.__file__).parents[1].rglob("*.py"):
        if file.name != "codes.py":
            used |= set(re.findall(r'"(G3\d\d)"', file.read_text()))
    assert set(IR) == used
