"""Teachers of a search: each is trained once on a machine, and taken by every trial there.

A teacher is the unedited model, as the search trains it, or the model of a job that the
spec names. Where no trial here has left its weights, because another machine did the first
one, it is trained ahead of the first candidate that learns from it: with the same seed on
the same rows, so that nothing has to be carried from machine to machine.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from generator.runtime import build as building
from generator.runtime.programs import Ended
from generator.runtime.search_job import RESULT, TRAINED, Job, tidy
from generator.runtime.search_programs import Beat, alone, tried, why

FOLDER = "teachers"
KEPT = 4  # files of what teachers said, which trials of other blocks have others of
# Runs a program for the package of a name in a folder.
Run = Callable[[Path, str, list[str | Path]], Ended]


class Untaught(Exception):
    """A teacher cannot be trained, and why."""


def taught(
    work: Path, first: Path, job: Job, text: str, run: Run, beat: Beat
) -> list[str | Path]:
    """What train.py is told of a candidate's teacher, whose weights are there then.

    `work` is the search's folder, and `first` that of the unedited model's training.
    """
    named = tomllib.loads(text).get("train", {}).get("distill", {}).get("teacher")
    if named is None:
        return []
    teacher = job.teacher(named)
    name = teacher.spec_file.spec.name
    # Those of a job are where gen run trains it, if it has.
    ready = work.parent / name if named in job.teachers else first
    if not _trained(ready):
        folder = work / FOLDER / name
        ready = folder / "work"
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / "lock", beat):
            if not _trained(ready):
                above = taught(work, first, teacher, teacher.spec_file.text, run, beat)
                _train(teacher, folder, above, run)
    return ["--teacher", (ready / TRAINED).resolve()]


def _trained(work: Path) -> bool:
    return (work / RESULT).is_file() and (work / TRAINED).is_file()


def _train(job: Job, folder: Path, above: list[str | Path], run: Run) -> None:
    """Train a teacher to its end in a folder; one that was stopped there starts again."""
    name, work = job.spec_file.spec.name, folder / "work"
    building.build(building.plan(job.spec_file, job.facts, folder), force=True)
    program = Path(__file__).with_name("search_train.py")
    flags = ["--root", job.root.resolve(), "--work", work.resolve()]
    flags += ["--weights", job.weights.resolve(), "--quiet", *above]

    def train() -> Ended:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return run(folder, name, [program, name, "1", str(job.seed), *flags])

    ended = tried(train)
    if ended.code:
        said = why(ended, f"exit code {ended.code}")
        raise Untaught(f"its teacher {name} cannot be trained: {said}")
    tidy(work)


def lend(shared: Path, own: Path) -> None:
    """Have a training find what teachers said before. A file has two names then, and no
    second room: who is done with it takes one of them away."""
    if shared.is_dir():
        own.mkdir(parents=True, exist_ok=True)
        for path in shared.iterdir():
            _linked(path, own / path.name)


def keep(own: Path, shared: Path) -> None:
    """Have later trainings find what was said in this one; of other rows, or other blocks,
    only the newest."""
    if not own.is_dir():
        return
    shared.mkdir(parents=True, exist_ok=True)
    for path in own.iterdir():
        _linked(path, shared / path.name)
    times = []
    for path in shared.iterdir():
        with suppress(FileNotFoundError):  # another worker does the same
            times.append((path.stat().st_mtime, path))
    for _, path in sorted(times)[:-KEPT]:
        path.unlink(missing_ok=True)


def _linked(path: Path, other: Path) -> None:
    with suppress(FileExistsError, FileNotFoundError):
        os.link(path, other)
