"""The same input gives the same bytes, and a small change a small difference."""

from __future__ import annotations

import difflib
import functools
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from generator.cli import main
from generator.compile import compile
from generator.facts import Facts
from generator.spec import explain_defaults, read_spec
from tests.building.build_support import (
    NAME,
    REPOSITORY,
    SPEC,
    full_facts,
    project,
    run_gen,
    tree_of,
)

TEXT = SPEC.read_text(encoding="utf-8")
HOSTILE = {
    "pyproject.toml": "[tool.black]\nline-length = 40\nskip-string-normalization = true\n"
    "skip-magic-trailing-comma = true\npreview = true\n[tool.isort]\nprofile = 'x'\n",
    ".editorconfig": "root = true\n[*]\nindent_style = tab\nend_of_line = crlf\n",
    "setup.cfg": "[flake8]\nmax-line-length = 20\n",
    "black.toml": "line-length = 40\n",
}
PLACES = [  # variables, umask and where it is started
    ({"PYTHONHASHSEED": "0", "TZ": "UTC", "LANG": "C", "LC_ALL": "C"}, 0o022),
    (
        {
            "PYTHONHASHSEED": "4242",
            "TZ": "Pacific/Chatham",
            "LANG": "tr_TR.UTF-8",
            "LC_ALL": "de_DE.ISO-8859-1",
            "PYTHONUTF8": "0",
            "BLACK_NUM_WORKERS": "3",
            "COLUMNS": "20",
            "SOURCE_DATE_EPOCH": "0",
        },
        0o077,
    ),
]
Files = dict[str, bytes]


# Facts that a package carries as they are.
GIVEN = ("tokenizer.json", "reference.safetensors")


def built(text: str, facts: Facts | None = None) -> Files:
    if text == TEXT and facts is None:
        return example()
    return compile(read_spec(text, "spec.toml"), facts or full_facts())


@functools.cache
def example() -> Files:
    return compile(read_spec(TEXT, "spec.toml"), full_facts())


def changed(text: str) -> dict[str, list[str]]:
    """The lines that go and come in each file, against the example's; not the lock's."""
    old, new = built(TEXT), built(text)
    assert old.keys() == new.keys()
    found: dict[str, list[str]] = {}
    for name in sorted(old.keys() - {"gen.lock"}):
        if old[name] != new[name]:
            before, after = (f.decode().splitlines() for f in (old[name], new[name]))
            moved = difflib.unified_diff(before, after, n=0, lineterm="")
            found[name] = [
                line[1:] for line in moved if re.match(r"[-+](?![-+])", line)
            ]
    return found


def test_two_builds_in_different_places_give_the_same_bytes(tmp_path: Path):
    trees = []
    for i, (variables, umask) in enumerate(PLACES):
        spec = project(tmp_path / str(i) / ("deep/er" if i else ""))
        out = spec.parent / "out"
        cwd = out if i else tmp_path
        for folder in (out, out / NAME) if i else (out,):
            folder.mkdir(parents=True)
        if i:
            for name, text in HOSTILE.items():
                for folder in (out, spec.parent, tmp_path / str(i)):
                    (folder / name).write_text(text)
        given = os.path.relpath(spec, cwd) if i else spec
        done = run_gen(
            "build", given, "--out", out, cwd=cwd, variables=variables, umask=umask
        )
        assert done.returncode == 0, done.stderr
        trees.append(tree_of(out / NAME))
    assert trees[0].keys() == trees[1].keys()
    assert [n for n in trees[0] if trees[0][n] != trees[1][n]] == []
    for name, data in trees[0].items():
        assert b"\r" not in data or name in GIVEN, name
        assert str(tmp_path).encode() not in data, f"{name} has a path of this machine"
    # And those of the function alone, in this very process.
    assert built(TEXT) == trees[0]


def test_no_clock_and_no_version_of_a_tool_is_in_a_package():
    versions = [metadata.version(name) for name in ("black", "jinja2")]
    for name, data in built(TEXT).items():
        if name in GIVEN or name == "spec.toml":
            continue
        text = data.decode()
        assert not re.search(r"\b20[2-9]\d-\d\d-\d\d\b", text), name
        assert not any(version in text for version in versions), name


def test_a_rebuild_leaves_every_file_as_it_is(tmp_path: Path):
    spec = project(tmp_path)
    args = ["build", str(spec), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(args) == 0
    files = sorted((tmp_path / "out").rglob("*"))
    for path in files:
        os.utime(path, ns=(10**18, 10**18))
    before = [(p, p.stat().st_mtime_ns, p.stat().st_ino) for p in files]
    assert main(args) == 0
    assert main([*args, "--force"]) == 0
    assert before == [(p, p.stat().st_mtime_ns, p.stat().st_ino) for p in files]
    assert sorted((tmp_path / "out").rglob("*")) == files


def test_a_change_rewrites_only_the_files_that_differ(tmp_path: Path):
    spec = project(tmp_path)
    args = ["build", str(spec), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(args) == 0
    folder = tmp_path / "out" / NAME
    before = {p.name: p.stat().st_ino for p in folder.iterdir()}
    spec.write_text(TEXT.replace("lr = 5e-5", "lr = 4e-5"))
    assert main(args) == 0
    now = {p.name: p.stat().st_ino for p in folder.iterdir()}
    assert {n for n in now if now[n] != before[n]} == {
        "train.py",
        "README.md",
        "spec.toml",
        "gen.lock",
    }


@pytest.mark.parametrize("name", ["good", "Positive", "ja", "x", "'+'", "très bien"])
def test_renaming_a_label_changes_only_lines_that_say_so(name: str):
    found = changed(TEXT.replace('"positive"', f'"{name}"'))
    assert set(found) == {"model.py", "README.md", "spec.toml"}
    for file, lines in found.items():
        shown = name.replace("+", "\\+") if file == "README.md" else name
        for line in lines:
            assert "positive" in line or shown in line, f"{file}: {line}"


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("lr = 5e-5", "lr = 4e-5", {"train.py": "^LR = ", "README.md": "Learning rate"}),
        ("epochs = 1", "epochs = 7", {"train.py": "^EPOCHS = ", "README.md": "Epochs"}),
        ("[target]", "seed = 5\n[target]", {"data.py": "^SEED = ", "README.md": "Seed"}),
        ("[target]", "max_bad_steps = 3\n[target]", {"train.py": "^MAX_BAD_STEPS = "}),
        ("[target]", "clip = 0.5\n[target]", {"train.py": "^CLIP = "}),
        (
            "[target]",
            "warmup = 0.2\n[target]",
            {"train.py": "^WARMUP = ", "README.md": "Learning rate"},
        ),
        (
            "[target]",
            "weight_decay = 0.02\n[target]",
            {"train.py": "^WEIGHT_DECAY = ", "README.md": "Weight decay"},
        ),
        ("batch = 32", "batch = 16", {"data.py": "^BATCH = ", "README.md": "Batch"}),
        (
            'train = "data/movie_snippets/train.csv"',
            'train = "data/movie_snippets/tr.csv"',
            {"data.py": "train.*csv"},
        ),
        ('text = "text"', 'text = "snippet"', {"data.py": "^TEXT = ",
         "bench.py": "snippet|\"text\"", "predict.py": "snippet|\"text\"",
         "README.md": "the column (snippet|text)[.]$"}),
    ],
)  # fmt: skip
def test_one_change_changes_its_own_lines_only(
    old: str, new: str, where: dict[str, str]
):
    assert old in TEXT
    found = changed(TEXT.replace(old, new, 1))
    found.pop("spec.toml")
    assert set(found) <= set(where), f"also {set(found) - set(where)}"
    for file, lines in found.items():
        for line in lines:
            assert re.search(where[file], line), f"{file}: {line}"
    assert any(found.values())


def reordered(text: str) -> str:
    """The same spec, its tables and keys turned round, with comments and blanks."""
    top, *tables = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    turned = [top, *reversed(tables)]
    blocks = []
    for block in turned:
        header = [x for x in block.splitlines() if x.startswith("[")]
        keys = [x for x in block.splitlines() if re.match(r"\w+ =", x)]
        lines = [*header, *(f"\n  {k}   # why not" for k in reversed(keys))]
        blocks.append("\n".join(lines) + "\n# and so on\n")
    return "# a comment\n" + "\n".join(blocks)


@pytest.mark.parametrize("form", ["reordered", "explained", "comments", "crlf"])
def test_how_a_spec_is_written_changes_spec_and_lock_only(form: str):
    spec_file = read_spec(TEXT, "spec.toml")
    text = {
        "reordered": reordered(TEXT),
        "explained": explain_defaults(spec_file),
        "comments": TEXT.replace("\n", "  # x\n") + "\n\n",
        "crlf": TEXT.replace("\n", "\r\n"),
    }[form]
    assert text != TEXT
    assert read_spec(text, "spec.toml").spec == spec_file.spec
    assert set(changed(text)) == {"spec.toml"}
    old, new = built(TEXT), built(text)
    lines = zip(old["gen.lock"].splitlines(), new["gen.lock"].splitlines(), strict=True)
    differ = [a for a, b in lines if a != b]
    assert len(differ) == 3  # the spec's hash, its draft and its seal


def test_the_name_of_a_spec_file_is_not_in_its_package():
    assert compile(read_spec(TEXT, "/a/b.toml"), full_facts()) == built(TEXT)


def test_what_a_run_measured_changes_the_card_alone():
    measured = {"test accuracy": 0.87654321, "examples a second": 120, "card": "none"}
    facts = replace(full_facts(), measured=measured)
    old, new = built(TEXT, replace(facts, measured=None)), built(TEXT, facts)
    assert {n for n in old if old[n] != new[n]} == {"README.md", "gen.lock"}
    card = new["README.md"].decode()
    assert (
        "| test accuracy | 0.8765 |" in card and "| examples a second | 120 |" in card
    )


def test_building_loads_no_heavy_module(tmp_path: Path):
    """Neither the first build of a job, nor one that has nothing to do, nor a check."""
    spec = project(tmp_path)
    heavy = {"torch", "transformers", "numpy", "libcst", "huggingface_hub", "tokenizers",
             "safetensors", "rich", "matplotlib"}  # fmt: skip
    for command in ("build", "build", "check"):
        code = (
            "import sys; from generator.cli import main; "
            f"code = main([{command!r}, {str(spec)!r}, '--out', {str(tmp_path / 'o')!r}]);"
            f"print(code, sorted({heavy!r} & sys.modules.keys()), "
            "'black' in sys.modules)"
        )
        first = command == "build" and not (tmp_path / "o").exists()
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        # Where nothing changed, nothing is formatted either.
        assert done.stdout.splitlines()[-1] == f"0 [] {first}"
