"""teacher.py of a package: the model of another job, which this one learns from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from generator.ir.job import Job
from generator.render.model import described, model_view, summary
from generator.render.text import fill

FILE = "teacher.py"


@dataclass(frozen=True)
class TeacherView:
    """All that teacher.py.j2 reads. Strings of code are marked as such."""

    doc: tuple[str, ...]
    classes: str  # code: the model, as model.py of the teacher's own package has it
    factors: tuple[str, ...]  # code: of a rotary embedding
    # What the classes use.
    torch: bool
    functional: bool
    math: bool
    callable: bool
    partial: bool


def render(pupil: str, job: Job) -> str:
    """The source of teacher.py in the package `pupil`, not yet formatted."""
    return fill("teacher.py.j2", teacher_view(pupil, job))


def teacher_view(pupil: str, job: Job) -> TeacherView:
    model = model_view(job)
    classes = fill("partials/model_classes.j2", model)
    return TeacherView(
        doc=tuple(
            described(
                f"The teacher of {pupil}, which is the model of the job {job.name}: "
                f"{summary(job)}.",
                "those that training in that job wrote, by `load_trained`.",
                job,
            )
        ),
        classes=classes.strip("\n"),
        factors=model.rope.factors if model.rope else (),
        torch=_uses("torch", classes),
        functional=_uses("F", classes),
        math=_uses("math", classes),
        callable="Callable[" in classes,
        partial="partial(" in classes,
    )


def _uses(module: str, source: str) -> bool:
    return re.search(rf"\b{module}\.[a-z]", source) is not None
