"""calibrate.py of a package: the view of its template, and the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from generator.ir.job import Job
from generator.render import data, guard
from generator.render.text import fill

FILE = "calibrate.py"
# The module, for those that read what it writes.
IMPORT: Mapping[str, tuple[int, str]] = {"calibrate": (data.OWN, "from .")}

# By what a threshold is chosen: in words, and as code of tp, fp, fn and tn, f64 (N + 1).
F1 = "2 * tp / (2 * tp + fp + fn).clamp(min=1)"
METRICS: Mapping[str, tuple[str, str]] = {
    "f1": ("its F1", F1),
    "accuracy": ("how many are right", "(tp + tn) / n"),
    "balanced-accuracy": (
        "the mean of both recalls",
        "(tp / (tp + fn).clamp(min=1) + tn / (tn + fp).clamp(min=1)) / 2",
    ),
}
OF_BOTH = (
    "the mean F1 of both labels",
    f"({F1} + 2 * tn / (2 * tn + fp + fn).clamp(min=1)) / 2",
)


@dataclass(frozen=True)
class CalibrateView:
    """All that calibrate.py.j2 and its partial read. Strings of code are marked as such."""

    name: str
    program: str
    work: str
    title: str  # prose
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    temperature: bool
    thresholds: Literal["", "one", "labels"]
    metric: str  # code
    rejects: bool  # it counts rows that are rightly given another label
    metric_doc: str
    multi_label: bool
    activation: str  # code
    cuda: bool
    half: str  # code: the type that autocast computes in; "" where it does not
    autocast: str  # code: the kind of device
    home: str  # code: back from the device
    moved: str  # code: to the device
    casts: bool  # logits are in bfloat16
    deployed: bool  # the model that predicts is not the trained one
    load: str  # code: what loads the weights, and the module that has it
    loader: str
    weights: str  # the file that they are in
    writer: str  # prose: what writes it
    inspecting: str  # code: what leaves out rows as in training; "" where nothing does


def asked(job: Job) -> bool:
    return job.deploy.temperature or job.deploy.thresholds != "none"


def thresholds(job: Job) -> Literal["", "one", "labels"]:
    """Whether there are thresholds: one of two labels, or one for each."""
    if job.deploy.thresholds == "none":
        return ""
    return "labels" if job.task == "multi-label" else "one"


def render(job: Job) -> str:
    """The source of calibrate.py, not yet formatted."""
    view = calibrate_view(job)
    body = fill("partials/calibrate_body.j2", view)
    beside = {
        **guard.IMPORT,
        "asdict": (data.STDLIB, "from dataclasses"),
        "replace": (data.STDLIB, "from dataclasses"),
        "safe_open": (data.INSTALLED, "from safetensors"),
        "nn": (data.INSTALLED, "from torch"),
        "data": (data.OWN, "from ."),
    }
    return fill("calibrate.py.j2", replace(view, imports=data.imports(body, beside)))


def calibrate_view(job: Job) -> CalibrateView:
    kind, multi = thresholds(job), job.task == "multi-label"
    deployed, casts = job.deploy.lowered, job.deploy.precision == "bf16"
    cuda = job.target.device == "cuda"
    metric_doc, metric = METRICS.get(job.deploy.thresholds, ("", ""))
    if kind == "one" and job.deploy.thresholds == "f1":
        metric_doc, metric = OF_BOTH
    titles = {
        (True, ""): "The temperature",
        (True, "one"): "The temperature and the threshold",
        (True, "labels"): "The temperature and the thresholds",
        (False, "one"): "The threshold",
        (False, "labels"): "The thresholds",
    }
    return CalibrateView(
        name=job.name,
        program=f"python -m {job.name}.calibrate",
        work=f"runs/{job.name}",
        title=titles[job.deploy.temperature, kind],
        imports=(),
        temperature=job.deploy.temperature,
        thresholds=kind,
        metric=metric,
        rejects="tn" in metric,
        metric_doc=metric_doc,
        multi_label=multi,
        activation=".sigmoid()" if multi else ".softmax(1)",
        cuda=cuda,
        half="" if casts else job.target.half,
        autocast="device.type" if cuda else '"cpu"',
        home=".cpu()" if cuda else "",
        moved='.to("cuda")' if cuda else "",
        casts=casts,
        deployed=deployed,
        load="load_deployed" if deployed else "load_trained",
        loader="deploy" if deployed else "predict",
        weights="deployed.safetensors" if deployed else "model.safetensors",
        writer="deploy.py" if deployed else "training",
        inspecting=guard.as_in_training(job, "args.work"),
    )
