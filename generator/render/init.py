"""The view of `__init__.py`: the package's name for what a user imports first."""

from __future__ import annotations

from dataclasses import dataclass

from generator.ir.job import Job
from generator.render.text import fill, prose


@dataclass(frozen=True)
class InitView:
    name: str
    title: str


def render(job: Job) -> str:
    return fill("init.py.j2", InitView(prose(job.name), prose(job.model.title)))
