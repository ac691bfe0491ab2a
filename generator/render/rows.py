"""rows.py of a package, which has the view of data.py, and the text."""

from __future__ import annotations

from dataclasses import replace

from generator.ir.job import Job
from generator.render import data
from generator.render.text import fill


def render(job: Job) -> str:
    """The source of rows.py, not yet formatted."""
    view = data.data_view(job)
    beside = data.FEATURES if view.features else {}
    imports = data.imports(fill("partials/rows_body.j2", view), beside)
    return fill("rows.py.j2", replace(view, imports=imports))
