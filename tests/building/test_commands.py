"""Building, checking, vendoring and comparing, through the command line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from generator.cli import main
from generator.runtime.build import load_spec

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = REPOSITORY / "specs" / "movie_sentiment.toml"
NAME = "movie_sentiment"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the example's spec and facts; the data stays where it is."""
    shutil.copy(SPEC, tmp_path / SPEC.name)
    facts = tmp_path / "facts" / NAME
    shutil.copytree(REPOSITORY / "specs" / "facts" / NAME, facts)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_what_is_generated_is_current():
    specs = [str(p) for p in sorted((REPOSITORY / "specs").glob("*.toml"))]
    out = str(REPOSITORY / "generated")
    assert main(["check", *specs, "--out", out, "--quiet"]) == 0
    names = {load_spec(Path(p)).spec.name for p in specs}
    assert {p.name for p in (REPOSITORY / "generated").iterdir()} == names


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_wherever_it_is_noticed(monkeypatch, capsys, number):
    """What writes to an open file is told no name."""

    def full(_: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("generator.listing.listing", full)
    assert main(["list", "tasks"]) == 2
    said = capsys.readouterr().err
    assert f"a file cannot be read or written: {os.strerror(number)}" in said


def test_a_vendored_package_imports_and_keeps_edits(project, capsys):
    parent = project / "theirs" / "inner"
    assert main(["vendor", str(project / SPEC.name), str(parent), "--quiet"]) == 0
    for folder in (parent.parent, parent):
        (folder / "__init__.py").write_text("")
    code = f"import theirs.inner.{NAME} as p; print(len(p.Model().state_dict()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 50
    assert (parent / NAME / "LICENCES.md").read_text().startswith("# Licences")
    edit(parent / NAME / "model.py", "0.1", "0.2")
    edit(project / SPEC.name, "5e-5", "4e-5")
    assert main(["vendor", str(project / SPEC.name), str(parent), "--quiet"]) == 2
    assert "edited by hand" in capsys.readouterr().err


def test_diff_tells_what_a_change_does(project, capsys):
    other = project / "other.toml"
    shutil.copy(project / SPEC.name, other)
    same = main(["diff", str(project / SPEC.name), str(other), "--json"])
    assert same == 0 and json.loads(capsys.readouterr().out)["same"]
    edit(other, '"positive"]', '"positive", "neutral"]')
    edit(other, "5e-5", "4e-5")
    assert main(["diff", str(project / SPEC.name), str(other), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["train.lr"] == [5e-5, 4e-5]
    assert found["reshaped"]["classifier.label.weight"] == [[2, 384], [3, 384]]
    assert not found["loads"]
    assert main(["diff", str(project / SPEC.name), str(other)]) == 1
    assert "an old checkpoint does not load" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gen {metadata.version('gen-compiler')}\n"
