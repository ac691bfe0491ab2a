"""The printed IR is all that rendering needs: architectures may be deleted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from generator.compile import compile, draft
from generator.ir.text import print_job
from generator.spec import read_spec
from tests.building.build_support import (
    REPOSITORY,
    copy_of_compiler,
    full_facts,
    image_facts,
    run_gen,
    text_facts,
    tree_of,
)
from tests.building.test_injection import bland_text

TEXT = (REPOSITORY / "specs" / "movie_sentiment.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def without_archs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiler that knows no architecture."""
    folder = tmp_path_factory.mktemp("compiler")
    return copy_of_compiler(folder, without=["generator/archs"])


def test_opt_and_render_give_the_files_of_a_build(without_archs: Path, tmp_path: Path):
    spec_file = read_spec(TEXT, "spec.toml")
    compiled = draft(spec_file, full_facts())
    job = tmp_path / "job.gir"
    job.write_text(print_job(compiled.imported), encoding="utf-8")
    shaped = run_gen("opt", job, cwd=tmp_path, tree=without_archs)
    assert shaped.returncode == 0, shaped.stderr
    assert shaped.stdout == print_job(compiled.job)
    out = tmp_path / "out"
    done = run_gen(
        "render", "--out", out, cwd=tmp_path, tree=without_archs, input=shaped.stdout
    )
    assert done.returncode == 0, done.stderr
    built = compile(spec_file, full_facts())
    assert tree_of(out) == {n: d for n, d in built.items() if n.endswith(".py")}
    # To standard output they go one after another, under a line with their name.
    shown = run_gen(
        "render", "-", cwd=tmp_path, tree=without_archs, input=shaped.stdout
    )
    assert all(f" {name}\n" in shown.stdout for name in tree_of(out))
    assert built["model.py"].decode() in shown.stdout


RENDER = """
import hashlib, json, sys
from generator.ir.text import parse_job
from generator.passes import run
from generator.render.package import render_python
found = {}
for name, text in json.load(sys.stdin).items():
    job, _ = run(parse_job(text))
    for one in render_python(job):
        found[f"{name}/{one.path}"] = hashlib.sha256(one.data).hexdigest()
assert "generator.archs" not in sys.modules
print(json.dumps(found))
"""


def test_jobs_of_every_kind_render_from_their_text_alone(without_archs: Path):
    texts, want = {}, {}
    for kind in ("text", "pair", "separator", "regression", "image"):
        facts = image_facts() if kind == "image" else text_facts()
        text = bland_text(kind, **{"backbone.from": facts.card.source})
        compiled = draft(read_spec(text, "spec.toml"), facts)
        # What the spec asks for beside the backbone is in the text.
        asked = [s.job for s in compiled.steps if s.name in ("features", "standardise")]
        texts[kind] = print_job([compiled.imported, *asked][-1])
        for one in compiled.drafts:
            if one.python:
                want[f"{kind}/{one.path}"] = hashlib.sha256(one.data).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        cwd=without_archs,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == want


@pytest.mark.parametrize("name", ['x"""', "os; import os", "class", "a-b", "é", ""])
def test_a_name_in_ir_text_is_held_to_the_same(tmp_path: Path, name: str):
    """IR text may come from anywhere too: a name there is no way around the spec's."""
    job = draft(read_spec(TEXT, "spec.toml"), full_facts()).job
    text = print_job(job)
    assert "movie_sentiment" in text
    (tmp_path / "job.gir").write_text(text.replace("movie_sentiment", name), "utf-8")
    done = run_gen("render", "job.gir", cwd=tmp_path)
    assert done.returncode == 2 and "error[" in done.stderr, done.stdout[:200]
    assert "Traceback" not in done.stderr


def test_rendering_refuses_what_is_not_shaped(tmp_path: Path):
    job = draft(read_spec(TEXT, "spec.toml"), full_facts()).imported
    done = run_gen("render", "-", cwd=tmp_path, input=print_job(job))
    assert done.returncode == 2 and "error[G307]" in done.stderr
