"""quantize_aware.py of a package: the layers that round while the model trains.

What is rounded, and how, stands there and not in deploy.py, which then has it from there.
"""

from __future__ import annotations

from dataclasses import replace

from generator.ir.job import Job
from generator.render import data
from generator.render.deploy import BESIDE, deploy_view
from generator.render.text import fill

FILE = "quantize_aware.py"


def asked(job: Job) -> bool:
    """Whether training computes with rounded numbers."""
    return job.deploy.quantize_aware


def render(job: Job) -> str:
    """The source of quantize_aware.py, not yet formatted."""
    view = deploy_view(job)
    body = fill("partials/quantize_aware_body.j2", view)
    model = {"Model": (data.OWN, "from .model")}
    return fill(
        "quantize_aware.py.j2",
        replace(view, imports=data.imports(body, {**BESIDE, **model})),
    )
