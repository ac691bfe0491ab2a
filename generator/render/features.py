"""features.py of a package: the view of its template, and the text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from generator.ir.job import Job
from generator.ir.plans import FeaturePlan, TextPlan
from generator.render import data
from generator.render.data import INSTALLED, STDLIB
from generator.render.text import fill

# Names that data.py's table of imports does not have.
BESIDE = {
    "Mapping": (STDLIB, "from collections.abc"),
    "datetime": (STDLIB, "from datetime"),
    "time": (STDLIB, "from datetime"),
    "timedelta": (STDLIB, "from datetime"),
    "UTC": (STDLIB, "from datetime"),
    "re2": (INSTALLED, "import re2"),
}


@dataclass(frozen=True)
class FeaturesView:
    """All that features.py.j2 and its partials read. Strings of code are marked as such."""

    name: str
    thing: str  # prose: text, pair or image
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    dates: tuple[str, ...]
    columns: str  # code: all of these
    missing: tuple[str, ...]
    most: int
    patterns: tuple[str, ...]
    traits: tuple[str, ...]  # partials
    of_text: tuple[str, ...]  # code: a number of a text, each
    scaled: tuple[str, ...]
    missable: tuple[int, ...]
    picked: bool  # what some rows have is wanted, as `forward` takes it
    fitted_doc: str  # prose
    raw_doc: str
    numbers_note: str
    read_args: str  # code
    read_of: str  # prose
    raw_args: str  # code
    fitted_args: str  # code
    parts: str  # code: of the numbers of rows
    columns_args: str  # code
    differ: str  # code: whether a file is of other features


def asked(job: Job) -> bool:
    """Whether the head of a job reads more than the backbone's vector."""
    return job.data.features != FeaturePlan()


def render(job: Job) -> str:
    """The source of features.py, not yet formatted."""
    return fill("features.py.j2", features_view(job))


def features_view(job: Job) -> FeaturesView:
    plan, texts = job.data.features, job.data.texts
    scaled = plan.scaled(texts)
    first = len(plan.numeric)
    days = (first + 2 * i + 1 for i in range(len(plan.dates)))
    missable = (*range(first), *days)
    kinds = {
        "NUMERIC": plan.numeric,
        "CATEGORICAL": plan.categorical,
        "DATES": plan.dates,
    }
    named = [name for name, columns in kinds.items() if columns]
    read = ["fields: Mapping[str, Any]"] * bool(named)
    read += ["*texts: str"] * bool(plan.text or plan.patterns)
    cycles = ["cycles"] * bool(plan.dates)
    here = data.beside(job)
    numbers = {
        "raw": "(*numbers, *cycles)" if plan.dates else "tuple(numbers)",
        "columns": "numbers.float()",
    }
    differ = ["names != SCALED"] * bool(scaled)
    differ += ["columns != CATEGORICAL"] * bool(plan.categorical)
    nothing = ["nan"] * bool(missable) + ['""'] * bool(plan.categorical)
    view = FeaturesView(
        name=job.name,
        thing=_thing(job),
        imports=(),
        numeric=plan.numeric,
        categorical=plan.categorical,
        dates=plan.dates,
        columns=(
            named[0]
            if len(named) == 1
            else f"({', '.join(f'*{name}' for name in named)})" if named else ""
        ),
        missing=job.data.clean.missing if named else (),
        most=plan.categories,
        patterns=plan.patterns,
        traits=tuple(f"partials/features_{trait}.j2" for trait in plan.text),
        of_text=tuple(f"{trait}(text)" for trait in plan.text),
        scaled=scaled,
        missable=missable,
        picked=not texts or job.data.augment.rows,
        fitted_doc=(
            "Means, deviations and categories"
            if plan.categorical
            else "Means and deviations"
        ),
        raw_doc=_raw_doc(nothing),
        numbers_note="SCALED, then the cycles of DATES" if plan.dates else "SCALED",
        read_args=", ".join(read),
        read_of="" if not texts or len(read) < 2 else " in columns and text",
        raw_args=", ".join(numbers["raw"] if x == "numbers" else x for x in here),
        fitted_args=", ".join(
            "tuple(means), tuple(deviations)" if x == "numbers" else "tuple(categories)"
            for x in here
        ),
        parts=", ".join(["scaled", *cycles, "missing"]),
        columns_args=", ".join(
            numbers["columns"] if x == "numbers" else x for x in here
        ),
        differ=" or ".join(differ),
    )
    body = fill("partials/features_body.j2", view)
    return replace(view, imports=data.imports(body, BESIDE))


def _raw_doc(nothing: list[str]) -> str:
    where = f"; {' or '.join(nothing)} where it says nothing" if nothing else ""
    return f"What a row says{where}."


def _thing(job: Job) -> str:
    inputs = job.data.inputs
    if not isinstance(inputs, TextPlan):
        return "image"
    return "texts" if len(inputs.columns) == 2 else "text"
