"""A wheel from the tree works elsewhere: it carries the templates and the schema."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from generator.compile import compile
from generator.spec import json_schema, read_spec
from tests.building.build_support import (
    NAME,
    REPOSITORY,
    SPEC,
    full_facts,
    project,
    run_gen,
    tree_of,
)

PARTS = ("generator", "templates", "docs", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, unpacked where the tree is not."""
    pytest.importorskip("hatchling")
    source = tmp_path_factory.mktemp("source")
    for name in PARTS:
        path = REPOSITORY / name
        ignore = shutil.ignore_patterns("__pycache__")
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignore)
        else:
            shutil.copy(path, source / name)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"]
    done = subprocess.run(
        build, cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_it_holds_what_it_should(installed: Path):
    packed = installed / "generator"
    assert tree_of(packed / "_templates") == tree_of(REPOSITORY / "templates")
    schema = json.loads((packed / "_schema" / "spec.schema.json").read_text())
    assert schema == json.loads(json.dumps(json_schema()))
    tops = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"generator"}
    (about,) = installed.glob("*.dist-info")
    assert "gen = generator.cli:main" in (about / "entry_points.txt").read_text()
    assert (about / "licenses" / "LICENSE").is_file()
    requires = [
        line.split(":")[1].split(";")[0].strip()
        for line in (about / "METADATA").read_text().splitlines()
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert {r.split(">")[0] for r in requires} == {
        "black", "jinja2", "tree-sitter", "tree-sitter-toml",
    }  # fmt: skip


def test_it_builds_the_same_bytes(installed: Path, tmp_path: Path):
    spec = project(tmp_path)
    done = run_gen("build", spec, "--out", "out", cwd=tmp_path, tree=installed)
    assert done.returncode == 0, done.stderr
    text = SPEC.read_text(encoding="utf-8")
    want = compile(read_spec(text, "spec.toml"), full_facts())
    assert tree_of(tmp_path / "out" / NAME) == want
    done = run_gen("check", spec, "--out", "out", cwd=tmp_path, tree=installed)
    assert done.returncode == 0 and "current" in done.stdout


def test_its_other_commands_find_what_they_need(installed: Path, tmp_path: Path):
    where = "import generator; print(generator.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(installed))
    schema = run_gen("schema", cwd=tmp_path, tree=installed)
    assert json.loads(schema.stdout) == json.loads(json.dumps(json_schema()))
    listed = run_gen("list", "archs", cwd=tmp_path, tree=installed)
    assert "bert" in listed.stdout
