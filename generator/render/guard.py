"""guard.py of a package: the view of its template, and the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from generator.ir.job import Job
from generator.ir.plans import ImagePlan, TextPlan
from generator.render import data
from generator.render.text import fill, prose, py

FILE = "guard.py"
# Of each check what a row that it finds is said to be, in the order in which they run.
WHY: Mapping[str, str] = {
    "contradictions": "the same {thing} with different targets",
    "leaks": "nearly the same as a row of the validation or the test",
    "triggers": "has what goes with one label suspiciously well",
    "spectral": "far out along the direction of its label",
    "label_noise": "a probe is confident of another label",
    "outliers": "far from where most training rows are",
    "personal": "has personal data or a secret",
    "formulas": "a spreadsheet would run it",
    "oversized": "of absurd size",
}
FEATURED = ("spectral", "label_noise", "outliers")  # by what the backbone makes of rows
OF_ROWS = ("personal", "formulas", "oversized")  # by a row alone
# What it takes to use `inspect` elsewhere.
IMPORT: Mapping[str, tuple[int, str]] = {
    "partial": (data.STDLIB, "from functools"),
    "guard": (data.OWN, "from ."),
}
BESIDE = {
    "partial": (data.STDLIB, "from functools"),
    "nn": (data.INSTALLED, "from torch"),
    "Mapping": (data.STDLIB, "from collections.abc"),
    "load_pretrained": (data.OWN, "from .model"),
}


@dataclass(frozen=True)
class CheckView:
    name: str
    action: str
    why: str  # prose
    features: bool  # whether it looks at features
    partial: str


@dataclass(frozen=True)
class GuardView:
    """All that guard.py.j2 and its partials read. Strings of code are marked as such."""

    name: str
    program: str
    work: str
    weights_usage: str  # prose
    weights_help: str
    load: str  # code
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    checks: tuple[CheckView, ...]
    featured: bool
    of_rows: tuple[str, ...]
    thing: str  # prose: text, pair or image
    places: str  # prose: what a row's features are the mean of
    text: str  # code: a row's, both of a pair in one
    excerpt: str  # code: what is shown of a row
    images: bool
    pair: bool
    cuda: bool
    target_type: str  # code
    target_shown: str  # code, in an f-string
    file_of: str  # code
    block: str  # code: the last of the model
    moved: str  # code: inputs where the model is
    more: bool  # the head reads more of a row
    compared: bool  # that says whether rows are the same, too
    key: str  # code: what makes a `row` the same as another
    key_type: str  # code


def wanted(job: Job) -> bool:
    """Whether a package has a guard.py."""
    return any(checks(job))


def checks(job: Job) -> Iterator[CheckView]:
    """The checks that a job asks for. What is redacted is not there to be found."""
    thing = data.data_thing(job.data)
    for name, why in WHY.items():
        action = getattr(job.data.guard, name)
        if action in ("report", "quarantine"):
            yield CheckView(
                name,
                action,
                why.format(thing=thing),
                name in FEATURED,
                f"partials/guard_{name}.j2",
            )


def weights(job: Job) -> str:
    """Code for the backbone's weights, in a program that has --root and --weights."""
    source = job.backbone.source
    if source.startswith(("package:", "hf:")):
        return "args.weights"
    return f"args.weights or args.root / {py(source)}"


def inspecting(job: Job) -> str:
    """Code for what looks at rows, in a program that has --root, --work and --weights."""
    given = f", weights={weights(job)}" if _featured(job) else ""
    return f"partial(guard.inspect, work=work{given})"


def as_in_training(job: Job, work: str) -> str:
    """Code for the same in a program that comes after training, whose guard.json lies in
    `work`; "" where nothing is looked at."""
    if not wanted(job):
        return ""
    given = ", weights=None" if _featured(job) else ""
    return f"partial(guard.inspect, work={work}{given})"


def _featured(job: Job) -> bool:
    return any(check.features for check in checks(job))


def _last_block(job: Job) -> str:
    return f"model.{job.model.blocks[-1].name.rpartition('.')[0]}[-1]"


def render(job: Job) -> str:
    """The source of guard.py, not yet formatted."""
    return fill("guard.py.j2", guard_view(job))


def guard_view(job: Job) -> GuardView:
    inputs = job.data.inputs
    images = isinstance(inputs, ImagePlan)
    pair = isinstance(inputs, TextPlan) and len(inputs.columns) == 2
    text = '" ".join(row.text)' if pair else "row.text"
    found = tuple(checks(job))
    featured = _featured(job)
    required = weights(job) == "args.weights"
    cuda = job.target.device == "cuda"
    compared = bool(data.compared(job.data))
    single = job.task not in ("multi-label", "regression")
    view = GuardView(
        name=job.name,
        program=f"python -m {job.name}.guard",
        work=f"runs/{job.name}",
        weights_usage=" --weights FOLDER" if featured and required else "",
        weights_help=(
            "the backbone: a file or a folder"
            if required
            else f"the backbone, if not {prose(job.backbone.source)}".replace("%", "%%")
        ),
        load="load_pretrained(weights)"
        + ('.to("cuda" if torch.cuda.is_available() else "cpu")' if cuda else ""),
        imports=(),
        checks=found,
        featured=featured,
        of_rows=tuple(c.name for c in found if c.name in OF_ROWS),
        thing=data.data_thing(job.data),
        places="patches" if images else "tokens",
        text=text,
        excerpt="str(row.image)" if images else f"shown(redacted({text}))",
        images=images,
        pair=pair,
        cuda=cuda,
        target_type="int" if single else "list[float]",
        target_shown="{LABELS[some[i].target]!r}" if single else "{some[i].target}",
        file_of=data.file_of(job.data),
        more=len(data.beside(job)) > 0,
        compared=compared,
        key="(identity(row), in_columns(row))" if compared else "identity(row)",
        key_type="tuple[bytes, str]" if compared else "bytes",
        block=_last_block(job) if featured else "",
        moved=(
            "(None if x is None else x.to(device) for x in batch.inputs)"
            if cuda
            else "batch.inputs"
        ),
    )
    body = fill("partials/guard_body.j2", view)
    beside = {name: (data.OWN, "from .data") for name in data.names(job)}
    return replace(
        view, imports=data.imports(body, {**data.FEATURES, **beside, **BESIDE})
    )
