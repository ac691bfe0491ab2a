"""What is written from the model and the codes is current, and complete."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from generator.codes import CODES, RANGES
from generator.spec import (
    Spec,
    json_schema,
    parse_source,
    read_spec,
    reference_markdown,
)
from generator.spec import source as sources
from generator.spec.__main__ import DOCS, derived, out_of_date
from generator.spec.edits import EDITS
from generator.spec.entries import (
    INNER,
    SECTION_ALIASES,
    SECTIONS,
    Choice,
    Items,
    Number,
    Whole,
    entries,
    section_entries,
)
from generator.spec.features import Features
from generator.spec.key import TASKS
from generator.spec.model import Data, Stage, Train
from generator.spec.rules import check_string
from generator.spec.search import Search
from generator.spec.words import toml

ROOT = Path(__file__).resolve().parents[2]


def test_docs_are_current() -> None:
    """If this fails: python -m generator.spec."""
    stale, orphans = out_of_date(DOCS)
    assert (list(stale), orphans) == ([], [])


def test_out_of_date_sees_changes(tmp_path: Path) -> None:
    for path, text in derived().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text.encode())
    assert out_of_date(tmp_path) == ({}, [])
    (tmp_path / "errors/G001.md").write_text("old")
    (tmp_path / "errors/G099.md").write_text("of no code")
    (tmp_path / "reference.md").unlink()
    stale, orphans = out_of_date(tmp_path)
    assert (sorted(stale), orphans) == (
        ["errors/G001.md", "reference.md"],
        ["errors/G099.md"],
    )


# Codes -------------------------------------------------------------------------------


def codes_in(folder: Path) -> dict[str, set[str]]:
    """The codes that the source has as strings, with the files they are in."""
    found: dict[str, set[str]] = {}
    for file in sorted(folder.rglob("*.py")):
        if file.name == "codes.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            code = node.value if isinstance(node, ast.Constant) else None
            if isinstance(code, str) and re.fullmatch(r"G\d{3}", code):
                found.setdefault(code, set()).add(file.name)
    return found


def test_every_code_that_is_raised_has_a_page() -> None:
    raised = codes_in(ROOT / "generator")
    assert {"G001", "G017"} <= set(raised)
    missing = {code: files for code, files in raised.items() if code not in CODES}
    assert not missing, "add them to generator/codes.py"
    for code in raised:
        assert (DOCS / "errors" / f"{code}.md").is_file()


def test_every_code_of_the_spec_is_raised() -> None:
    raised = codes_in(ROOT / "generator" / "spec")
    assert {c for c in CODES if c < "G100"} == set(raised)


def test_codes_are_in_their_ranges() -> None:
    assert sum(len(table) for _, _, table in RANGES) == len(CODES)
    for low, high, table in RANGES:
        assert all(re.fullmatch(r"G\d{3}", code) for code in table)
        assert all(low <= int(code[1:]) <= high for code in table)
        assert list(table) == sorted(table)
    for entry in CODES.values():
        assert entry.title and not entry.title.endswith(".")
        assert entry.text.strip()


# The model ---------------------------------------------------------------------------


# Lists of tables, and tables in tables, which have their own.
OWN_TABLES = (
    (Spec, "edit"),
    (Train, "stage"),
    (Data, "clean"),
    (Data, "guard"),
    (Data, "augment"),
    (Features, "select"),
    (Train, "distill"),
    (Train, "prune"),
    (Search, "vary"),
)


def test_every_field_is_a_key_or_a_table() -> None:
    for owner in SECTIONS.values():
        for f in dataclasses.fields(owner):
            if (owner, f.name) not in OWN_TABLES:
                assert set(f.metadata) in ({"key"}, {"section"})
    for owner in EDITS.values():
        assert owner.__doc__ and all(
            set(f.metadata) == {"key"} for f in dataclasses.fields(owner)
        )
    for table in (Stage, *INNER.values()):
        assert table.__doc__ and all(
            set(f.metadata) == {"key"} for f in dataclasses.fields(table)
        )
    tables = [f.name for f in dataclasses.fields(Spec) if "section" in f.metadata]
    assert ["", *tables] == list(SECTIONS)


@pytest.mark.parametrize("entry", entries(), ids=lambda e: e.path)
def test_what_is_said_of_a_key_holds(entry: typing.Any) -> None:
    key = entry.key
    assert key.doc.endswith(".") and key.doc[0].isupper() or key.doc[0] == '"'
    assert set(key.required) <= set(key.tasks) <= set(TASKS)
    scalars = [s.item if isinstance(s, Items) else s for s in entry.shapes]
    if any(isinstance(s, Whole | Number) for s in scalars):
        # Both ends, so that no number overflows anything later.
        assert (key.at_least is None) != (key.above is None)
        assert (key.at_most is None) != (key.below is None)
    if entry.listed:
        assert set(key.few) == set(TASKS)
    for shape in entry.shapes:
        if isinstance(shape, Choice):
            assert set(key.spellings.values()) <= set(shape.values)
            assert not set(key.spellings) & set(shape.values)
    if key.unless:
        assert key.unless in section_entries(entry.section)
    examples = key.example if isinstance(key.example, list) else [key.example]
    strings = [example for example in examples if isinstance(example, str)]
    for example in strings if key.rule else ():
        assert check_string(key.rule, example) is None


def test_names_of_other_tools_lead_to_one_key() -> None:
    for section in SECTIONS:
        own = section_entries(section)
        also = [word for entry in own.values() for word in entry.key.also]
        assert len(also) == len(set(also))
        assert not set(also) & set(own)
    assert set(SECTION_ALIASES.values()) <= set(SECTIONS)
    assert not set(SECTION_ALIASES) & set(SECTIONS)


def test_defaults_are_within_their_bounds() -> None:
    """A spec with each default written out is read, and is the Spec without them."""
    needed = {
        "": 'name = "job"\ntask = "{}"\n',
        "backbone": 'from = "models/x"\n',
        "data": 'train = "a.csv"\nlabel = "l"\n',
    }
    for task in TASKS:
        text, given = "", ""
        for section in SECTIONS:
            head = f"[{section}]\n" if section else ""
            lines = needed.get(section, "").format(task)
            for entry in section_entries(section).values():
                if (
                    task in entry.key.required
                    and not f"\n{entry.name} =" in f"\n{lines}"
                ):
                    lines += f"{entry.name} = {toml(entry.key.example)}\n"
            text += head + lines
            for entry in section_entries(section).values():
                written = f"\n{entry.name} =" in f"\n{lines}"
                if (
                    task in entry.key.tasks
                    and not written
                    and entry.default is not None
                ):
                    lines += f"{entry.name} = {toml(entry.default)}\n"
            given += head + lines
        assert read_spec(given, "a").spec == read_spec(text, "b").spec


def test_the_pages_name_every_key() -> None:
    page, schema = reference_markdown(), json_schema()
    for entry in entries():
        table = schema["properties"][entry.section] if entry.section else schema
        assert entry.name in table["properties"]
        assert f"### `{entry.name}`" in page
        assert f"`{entry.name} = {toml(entry.key.example)}`" in " ".join(page.split())
    assert all(len(line) <= 88 for line in page.split("\n") if not line.startswith("|"))
    json.dumps(schema, allow_nan=False)


# Sources of checkpoints --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models/bert", sources.FolderSource("models/bert")),
        ("C:/models/x", sources.FolderSource("C:/models/x")),
        ("package:a.b/c/d", sources.PackageSource("a.b", "c/d")),
        ("package:a", sources.PackageSource("a", "")),
        ("hf:o/n@main", sources.HubSource("o", "n", "main")),
        ("hf:o-x/n.y@refs/pr/1", sources.HubSource("o-x", "n.y", "refs/pr/1")),
    ],
)
def test_sources_are_taken_apart(text: str, expected: sources.Source) -> None:
    assert parse_source(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "hf:a", "hf:a/b", "package:/x", "package:a/../b", "~/x", "s3://x", "x.bin"],
)
def test_what_is_no_source(text: str) -> None:
    with pytest.raises(ValueError):
        parse_source(text)


# Imports -----------------------------------------------------------------------------


def test_reading_a_good_spec_imports_little() -> None:
    code = (
        "import sys, pathlib\n"
        "from generator.spec import read_spec\n"
        f"text = pathlib.Path({str(ROOT / 'specs/movie_sentiment.toml')!r}).read_text()\n"
        "spec_file = read_spec(text, 'movie_sentiment.toml')\n"
        "heavy = {'tree_sitter', 'jsonschema', 'torch', 'transformers', 'jinja2',"
        " 'numpy', 'difflib', 'argparse', 'libcst', 'black', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "spec_file.place('train.lr')\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n['tree_sitter']\n"


def test_the_example_is_the_demo() -> None:
    file = ROOT / "specs" / "movie_sentiment.toml"
    spec = read_spec(file.read_text(), str(file)).spec
    assert spec.name == file.stem
    for data in (spec.data.train, spec.data.valid, spec.data.test):
        assert data is not None
        with (file.parent / data).open(encoding="utf-8") as rows:
            assert next(rows) == f"{spec.data.text[0]},{spec.data.label[0]}\n"
    first_line = file.read_text().split("\n")[0]
    schema = file.parent / first_line.removeprefix("#:schema ")
    assert schema.resolve() == DOCS / "spec.schema.json"
