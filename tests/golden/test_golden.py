"""generated/ holds what the specs compile to, and nothing else.

GEN_REFRESH=1 pytest tests/golden     writes it anew, hand edits included
"""

from __future__ import annotations

import difflib
import functools
import os
import shutil
from pathlib import Path

import pytest

from generator.compile import compile
from generator.locking import LOCK
from generator.runtime.build import facts_for, load_spec
from generator.runtime.files import write_if_changed
from tests.building.build_support import REPOSITORY, tree_of

REFRESH = os.environ.get("GEN_REFRESH") == "1"
SPECS = sorted((REPOSITORY / "specs").glob("*.toml"))
Files = dict[str, bytes]


@functools.cache
def expected() -> Files:
    """Every file that generated/ should have, by its path there."""
    found: Files = {}
    for path in SPECS:
        spec_file = load_spec(path)
        files = compile(spec_file, facts_for(spec_file, allow_network=False))
        found |= {f"{spec_file.spec.name}/{name}": data for name, data in files.items()}
    return found


def differences(want: Files, folder: Path) -> list[str]:
    """What is missing, what is too much, and the first lines that differ."""
    have = tree_of(folder)
    said = [f"{name} is missing" for name in sorted(want.keys() - have.keys())]
    said += [
        f"{name} should not be there" for name in sorted(have.keys() - want.keys())
    ]
    for name in sorted(want.keys() & have.keys()):
        if want[name] != have[name]:
            there = have[name].decode(errors="replace").splitlines()
            compiled = want[name].decode(errors="replace").splitlines()
            shown = list(
                difflib.unified_diff(
                    there, compiled, "there", "compiled", lineterm="", n=0
                )
            )
            said.append("\n".join([f"{name} differs:", *(x[:200] for x in shown[:12])]))
    return said


def refresh(want: Files, folder: Path) -> None:
    """Have the folder hold these files and no others."""
    for name in tree_of(folder).keys() - want.keys():
        (folder / name).unlink()
    for name in sorted(want, key=lambda name: name.endswith(LOCK)):
        write_if_changed(folder / name, want[name])
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.name == "__pycache__":
            shutil.rmtree(path)
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def test_generated_is_what_the_specs_compile_to():
    folder = REPOSITORY / "generated"
    if REFRESH:
        refresh(expected(), folder)
    said = differences(expected(), folder)
    assert not said, "\n".join(
        [*said, "", "to refresh: GEN_REFRESH=1 pytest tests/golden"]
    )


def test_no_line_is_longer_than_black_allows():
    """Black leaves docstrings, comments and strings as they are: templates have to fit."""
    long = [
        f"{name}:{i}: {line}"
        for name, data in expected().items()
        if name.endswith(".py")
        for i, line in enumerate(data.decode().splitlines(), 1)
        if len(line) > 88
    ]
    assert not long, "\n".join(long)


def test_there_is_an_example_to_hold():
    assert len(SPECS) >= 3
    assert {name.split("/")[0] for name in expected()} >= {
        "movie_sentiment",
        "bert_base",
    }


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    refresh(expected(), tmp_path / "generated")
    assert differences(expected(), tmp_path / "generated") == []
    return tmp_path / "generated"


def test_a_stray_file_fails(copy: Path):
    (copy / "movie_sentiment" / "stray.py").write_text("")
    (copy / "old_job").mkdir()
    (copy / "old_job" / "model.py").write_text("")
    assert differences(expected(), copy) == [
        "movie_sentiment/stray.py should not be there",
        "old_job/model.py should not be there",
    ]


def test_a_missing_file_fails(copy: Path):
    (copy / "bert_base" / "data.py").unlink()
    assert differences(expected(), copy) == ["bert_base/data.py is missing"]


def test_a_changed_line_fails_and_is_shown(copy: Path):
    path = copy / "news_roberta" / "train.py"
    path.write_text(path.read_text().replace("LR = 3e-05", "LR = 3e-04"))
    (said,) = differences(expected(), copy)
    assert "news_roberta/train.py differs" in said
    assert "-LR = 3e-04" in said and "+LR = 3e-05" in said


def test_refreshing_mends_all_of_it_and_touches_nothing_else(copy: Path):
    kept = copy / "movie_sentiment" / "model.py"
    inode = kept.stat().st_ino
    (copy / "bert_base" / "data.py").unlink()
    (copy / "movie_sentiment" / "data.py").write_text("edited")
    (copy / "old_job" / "deep").mkdir(parents=True)
    (copy / "old_job" / "deep" / "model.py").write_text("")
    refresh(expected(), copy)
    assert differences(expected(), copy) == []
    assert not (copy / "old_job").exists()
    assert kept.stat().st_ino == inode
