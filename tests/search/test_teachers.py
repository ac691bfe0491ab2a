"""Teachers of a search: which there are, who trains them, and what is shared of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runtime_support import write_job

from generator.compile import draft
from generator.errors import GenError
from generator.runtime import gather
from generator.runtime.build import facts_for, load_spec
from generator.runtime.programs import Ended
from generator.runtime.ready import find
from generator.runtime.search import _job
from generator.runtime.search_front import _with_teachers
from generator.runtime.search_job import RESULT, TRAINED, Job
from generator.runtime.search_teach import KEPT, Untaught, keep, lend, taught
from generator.search.space import TEACHER
from generator.spec.alter import alter

DISTILL = '\n[train.distill]\nteacher = "tiny_teacher.toml"\nhidden = 1.0\n'
KEEP = '[[edit]]\ndo = "keep-layers"\nn = 1\n\n[train]\n'
SEARCH = """
[search]
objectives = ["metric", "parameters"]
space = "none"
trials = 1
rungs = [1.0]
seeds = 1
points = 1

[[search.vary]]
key = "{key}"
choices = {choices}
"""


def write(folder: Path, key: str, choices: str, distill: str = DISTILL) -> Path:
    write_job(folder, name="tiny_teacher", rows=32)
    path = write_job(folder, rows=32, edit={"[train]\n": KEEP})
    search = SEARCH.format(key=key, choices=choices)
    path.write_text(path.read_text() + distill + search)
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A search whose spec has a teacher, with another one among its choices."""
    folder = tmp_path_factory.mktemp("job")
    write_job(folder, name="tiny_other", rows=32)
    choices = f'["tiny_other.toml", "{TEACHER}"]'
    return _job(load_spec(write(folder, "train.distill.teacher", choices)), None)


def named(job: Job, teacher: str) -> str:
    return job.spec_file.text.replace("tiny_teacher.toml", teacher)


@pytest.mark.parametrize(
    ("teacher", "name", "blocks"),
    [
        ("tiny_teacher.toml", "tiny_teacher", 2),
        ("tiny_other.toml", "tiny_other", 2),
        (TEACHER, "tiny_job_unedited", 2),
    ],
)
def test_a_candidate_has_the_teacher_that_it_names(
    teacher: str, name: str, blocks: int, job: Job
) -> None:
    compiled = draft(*job.read(named(job, teacher), "spec.toml"))
    assert compiled.job.distill.teacher == name
    (source,) = (d.data for d in compiled.drafts if d.path == "teacher.py")
    assert f"blocks: int = {blocks}".encode() in source
    (spec,) = (d.data for d in compiled.drafts if d.path == "teacher.toml")
    assert f'name = "{name}"'.encode() in spec and b"[search]" not in spec


def test_a_point_builds_in_its_own_folder(job: Job, tmp_path: Path) -> None:
    """Its backbone and its teacher's lie in folders, whose way is another from there."""
    folder = tmp_path / "front" / "1"
    moved, way = job.elsewhere(folder), job.way(folder)
    assert way is not None and (folder / way).resolve() == job.weights.parent.resolve()
    folder.mkdir(parents=True)
    path = folder / "spec.toml"
    path.write_text(alter(job.spec_file.text, {"backbone.from": way}))
    spec_file, facts = moved.read(path.read_text(), str(path))
    gather.save_facts(facts, gather.facts_folder(folder, spec_file.spec.name))
    _with_teachers(folder, moved, spec_file)
    there = load_spec(path)
    assert draft(there, facts_for(there)).drafts == draft(spec_file, facts).drafts
    assert find(there, facts)[1].samefile(job.weights)


def test_no_other_is_a_teacher(job: Job, tmp_path: Path) -> None:
    with pytest.raises(GenError) as caught:
        job.read(named(job, "tiny_nobody.toml"), "spec.toml")
    assert caught.value.diagnostics[0].code == "G551"
    path = write(tmp_path, "train.distill.teacher", '["tiny_nobody.toml"]')
    with pytest.raises(GenError) as caught:
        _job(load_spec(path), None)
    (found,) = caught.value.diagnostics
    assert found.code == "G551" and found.place is not None
    assert "tiny_nobody.toml" in found.message


class Programs:
    """Trainings that leave what a real one leaves, and what each was told."""

    def __init__(self, code: int = 0) -> None:
        self.told: list[tuple[str, list[str]]] = []
        self.code = code

    def __call__(self, folder: Path, name: str, given: list[str | Path]) -> Ended:
        arguments = list(map(str, given))
        self.told.append((name, arguments))
        assert (folder / name / "train.py").is_file()
        if not self.code:
            work = Path(arguments[arguments.index("--work") + 1])
            (work / TRAINED).write_bytes(b"weights")
            (work / RESULT).write_text("{}")
        return Ended(self.code, "first\nno room\n", False)


def test_each_machine_trains_what_it_lacks_once(job: Job, tmp_path: Path) -> None:
    work, run = tmp_path / "runs" / "search", Programs()
    first = work / "trials/0/work"

    def told(teacher: str) -> list[str | Path]:
        text = named(job, teacher)
        return taught(work, first, job, text, run, lambda: True)

    for _ in range(2):
        flag, path = told("tiny_teacher.toml")
        assert flag == "--teacher"
        assert path == (work / "teachers/tiny_teacher/work" / TRAINED).resolve()
    ((name, arguments),) = run.told
    assert name == "tiny_teacher" and arguments[1:3] == ["tiny_teacher", "1"]
    assert "--teacher" not in arguments

    # The unedited model is trained too, where another machine did trial 0; it learns.
    _, path = told(TEACHER)
    assert Path(path).parts[-3:] == ("tiny_job_unedited", "work", TRAINED)
    name, arguments = run.told[1]
    assert name == "tiny_job_unedited" and len(run.told) == 2
    assert arguments[-2:] == [
        "--teacher",
        str((work / "teachers/tiny_teacher/work" / TRAINED).resolve()),
    ]

    # Here it was this one; and gen run has trained the other.
    ended = work.parent / "tiny_other"
    for folder in (first, ended):
        folder.mkdir(parents=True)
        (folder / TRAINED).touch()
        (folder / RESULT).touch()
    assert told(TEACHER)[1] == (first / TRAINED).resolve()
    assert told("tiny_other.toml")[1] == (ended / TRAINED).resolve()
    assert len(run.told) == 2
    alone = job.spec_file.text.replace(DISTILL, "")
    assert taught(work, first, job, alone, run, lambda: True) == []


def test_a_training_that_was_stopped_begins_again(job: Job, tmp_path: Path) -> None:
    text = named(job, "tiny_teacher.toml")
    with pytest.raises(Untaught, match="tiny_teacher cannot be trained: no room"):
        taught(tmp_path, tmp_path / "0", job, text, Programs(1), lambda: True)
    left = tmp_path / "teachers/tiny_teacher/work" / TRAINED
    left.touch()  # of one that did not come to its end
    run = Programs()
    taught(tmp_path, tmp_path / "0", job, text, run, lambda: True)
    assert len(run.told) == 1 and left.read_bytes() == b"weights"


def test_what_was_said_is_shared_and_takes_room_once(tmp_path: Path) -> None:
    own, shared, next_ = (tmp_path / name for name in ("own", "shared", "next"))
    keep(own, shared)  # nothing was said
    lend(shared, next_)
    assert not shared.exists() and not next_.exists()
    own.mkdir()
    for i in range(KEPT + 2):
        (own / f"train-{i}").write_text(str(i))
        os.utime(own / f"train-{i}", (i, i))
    keep(own, shared)
    keep(own, shared)
    names = [f"train-{i}" for i in range(2, KEPT + 2)]
    assert sorted(p.name for p in shared.iterdir()) == names
    lend(shared, next_)
    assert (next_ / "train-3").samefile(own / "train-3")
    (next_ / "train-3").unlink()
    assert (shared / "train-3").read_text() == "3"


def run(path: Path, *more: str | Path) -> dict[str, Any]:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "generator", "search", path, "--json", *more]
    ended = subprocess.run(
        list(map(str, command)),
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not ended.returncode, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
def test_a_search_with_a_teacher_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, "train.lr", "[1e-3, 5e-3]")
    found = run(path, "--work", tmp_path / "work")
    assert {t["state"] for t in found["trials"]} <= {"complete", "pruned", "duplicate"}
    assert found["trials"][0]["state"] == "complete"
    assert (tmp_path / "work/teachers/tiny_teacher/work" / RESULT).is_file()
    assert len(list((tmp_path / "work/teacher-1").iterdir())) >= 1
    (point,) = found["front"]
    assert point["certificate"] == "holds"
    folder = Path(point["folder"])
    assert load_spec(folder / "spec.toml").teacher is not None


@pytest.mark.slow
def test_a_machine_that_joins_trains_the_unedited_model(tmp_path: Path) -> None:
    """Its work folder has nothing of trial 0, which another one did."""
    path = write(tmp_path, "train.distill.teacher", f'["{TEACHER}"]', distill="")
    more = '\n[[search.vary]]\nkey = "train.lr"\nlow = 1e-3\nhigh = 1e-2\n'
    path.write_text(path.read_text() + more)
    storage = f"sqlite:///{tmp_path}/search.db"
    given = ("--storage", storage, "--no-test")
    run(path, "--work", tmp_path / "one", "--trials", "1", *given)
    assert not (tmp_path / "one/teachers").exists()  # trial 0 is there
    found = run(path, "--work", tmp_path / "two", "--trials", "2", *given)
    trials = [t for t in found["trials"] if t["params"]]
    assert [t["state"] for t in trials] == ["complete"] * 2, trials
    folder = tmp_path / "two/teachers/tiny_job_unedited/work"
    assert (folder / TRAINED).is_file() and not (tmp_path / "two/trials/0").exists()
