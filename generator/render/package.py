"""The files of a package, as a table: a new output is a template and a line here."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generator.cost import Stage
from generator.ir.job import Job
from generator.render import (
    augment,
    bench,
    calibrate,
    certificate,
    data,
    deploy,
    export,
    features,
    guard,
    init,
    kept,
    model,
    predict,
    quantize_aware,
    readme,
    rows,
    teacher,
    train,
)

PYTHON: tuple[tuple[str, Callable[[Job], str]], ...] = (
    ("__init__.py", init.render),
    ("model.py", model.render),
    ("data.py", data.render),
    ("rows.py", rows.render),
    ("train.py", train.render),
    ("predict.py", predict.render),
    ("bench.py", bench.render),
    ("test_model.py", certificate.render),
)


@dataclass(frozen=True)
class Draft:
    """A file before formatting, which only Python goes through."""

    path: str
    data: bytes
    python: bool


def finished(one: Draft) -> bytes:
    """The file's bytes: Python goes through ast.parse and black with its own mode."""
    if not one.python:
        return one.data
    # A fifth of a second, which a build that changes nothing does not pay.
    from black import format_str
    from black.mode import Mode, TargetVersion

    text = one.data.decode()
    ast.parse(text)  # black takes more than Python does
    mode = Mode(target_versions={TargetVersion.PY311}, line_length=88)
    return format_str(text, mode=mode).encode()


def render_python(job: Job) -> tuple[Draft, ...]:
    """The source files, from the job alone."""
    files = dict(PYTHON)
    if guard.wanted(job):
        files[guard.FILE] = guard.render
    if features.asked(job):
        files["features.py"] = features.render
    if deploy.asked(job):
        files[deploy.FILE] = deploy.render
    if quantize_aware.asked(job):
        files[quantize_aware.FILE] = quantize_aware.render
    if augment.asked(job):
        files["augment.py"] = augment.render
    if calibrate.asked(job):
        files[calibrate.FILE] = calibrate.render
    if export.asked(job):
        files[export.FILE] = export.render
    if "onnx" in job.export.to:
        files[export.EXAMPLE] = export.example
    return tuple(
        Draft(path, render(job).encode(), True) for path, render in files.items()
    )


def render_package(
    job: Job,
    measured: Mapping[str, Any] | None,
    stages: Sequence[Stage] = (),
    before: Sequence[Sequence[str]] = (),
) -> tuple[Draft, ...]:
    """The source files and the model card: what was measured, what each edit changed, and
    a row for each step of pruning that came before."""
    card = readme.render(job, measured, stages, before)
    drafts = (*render_python(job), Draft("README.md", card.encode(), False))
    if {"onnx", "torch"} & {*job.export.to}:
        drafts += (Draft(export.ABOUT, export.about(job), False),)
    lists = kept.render(job)
    return drafts if lists is None else (*drafts, Draft(kept.FILE, lists, False))


def render_teacher(pupil: str, job: Job) -> Draft:
    """The model of the job that `pupil` learns from, as a file of the latter's package."""
    return Draft(teacher.FILE, teacher.render(pupil, job).encode(), True)
