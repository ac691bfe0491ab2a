"""The view of a package's README.md: a model card with what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from generator.cost import Stage, describe
from generator.ir.head import units
from generator.ir.job import Job, added, parameters
from generator.ir.plans import DataPlan, FeaturePlan, TextPlan
from generator.ir.sources import Init
from generator.ir.stages import by_stage, cuts
from generator.render import deploy
from generator.render.text import fill, markdown

TASKS = {
    "text-classification": "text classification",
    "multi-label": "multi-label text classification",
    "regression": "regression on text",
    "image-classification": "image classification",
}


@dataclass(frozen=True)
class RowView:
    """A line of a table, both cells finished Markdown."""

    name: str
    value: str


@dataclass(frozen=True)
class CardView:
    name: str
    package: str
    title: str
    task: str
    facts: tuple[RowView, ...]
    recipe: tuple[RowView, ...]
    measured: tuple[RowView, ...]
    edits: tuple[tuple[str, ...], ...]  # a line of finished cells for each stage
    before: tuple[tuple[str, ...], ...]  # the same of steps of pruning that came before
    led: str  # how many these are, in words
    left: str  # where the last of them left its weights, in the work folder
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    deployed: str  # what the model that predicts is kept in; "" is the trained one
    exports: tuple[str, ...]  # kinds of what export.py writes
    features: bool  # the head reads more of a row
    cleaned: str  # what is done to texts
    text: bool
    outputs: str  # what the labels are called
    teacher: str  # the job that it learns from


def render(
    job: Job,
    measured: Mapping[str, Any] | None,
    stages: Sequence[Stage] = (),
    before: Sequence[Sequence[str]] = (),
) -> str:
    return fill("README.md.j2", card_view(job, measured, stages, before))


def card_view(
    job: Job,
    measured: Mapping[str, Any] | None,
    stages: Sequence[Stage] = (),
    before: Sequence[Sequence[str]] = (),
) -> CardView:
    inputs = job.data.inputs
    columns = inputs.columns if isinstance(inputs, TextPlan) else (inputs.column,)
    return CardView(
        name=markdown(job.name),
        package=job.name,
        title=markdown(job.model.title),
        task=TASKS[job.task],
        facts=tuple(_facts(job)),
        recipe=tuple(_recipe(job)),
        measured=tuple(_measured(measured or {})),
        edits=tuple(_stage(stage) for stage in stages),
        before=tuple(tuple(markdown(cell) for cell in row) for row in before),
        led="one step" if len(before) == 1 else f"{len(before)} steps",
        left=f"steps/{len(before)}/model",
        labels=tuple(markdown(label) for label in job.labels),
        columns=tuple(markdown(c) for c in (*columns, *job.data.features.columns)),
        deployed=deploy.deployed_as(job),
        exports=job.export.to,
        features=job.data.features != FeaturePlan(),
        cleaned=", ".join(_cleaned(job.data)),
        text=isinstance(inputs, TextPlan),
        teacher=job.distill.teacher,
        outputs="Targets" if job.task == "regression" else "Labels",
    )


def _cleaned(plan: DataPlan) -> Iterator[str]:
    """What is done to each text or image, in order."""
    clean = plan.clean
    if clean.unicode != "off":
        yield f"in the form {clean.unicode}"
    if clean.invisible:
        yield "without invisible characters"
    if clean.html:
        yield "HTML as text"
    if plan.guard.personal == "redact":
        yield "personal data redacted"
    if clean.mask:
        yield f"{', '.join(clean.mask)} masked"
    if clean.case != "off":
        yield "in small letters"
    if clean.whitespace:
        yield "runs of white space as one space"
    if clean.levels:
        yield "16 bits scaled to 8"
    if clean.alpha != "off":
        yield "transparent parts white"


def _stage(stage: Stage) -> tuple[str, ...]:
    cost = stage.cost
    return (
        stage.name,
        f"{cost.parameters:,}",
        f"{cost.predict(cost.tokens) / 1e9:,.3f}",
        f"{cost.train_bytes / 2**20:,.0f}",
        f"{cost.predict_bytes / 2**20:,.0f}",
    )


def _facts(job: Job) -> list[RowView]:
    inputs = job.data.inputs
    tokens = inputs.max_tokens if isinstance(inputs, TextPlan) else None
    cost = describe(job)  # of rows of that length
    infos = parameters(job)
    brought = added(job)
    new = sorted(
        {
            i.path.rpartition(".")[0]
            for i in infos
            if isinstance(i.source, Init) and i not in brought
        }
    )
    rows = [
        RowView("Backbone", markdown(job.backbone.source)),
        RowView(
            "Licence of the backbone", markdown(job.backbone.licence or "not stated")
        ),
        RowView("Parameters", f"{cost.parameters:,}"),
        RowView("of them trained", f"{cost.trained:,}"),
        RowView(
            f"FLOPs to predict a row{f' of {tokens} tokens' if tokens else ''}",
            f"{cost.predict(cost.tokens):,.0f}",
        ),
        RowView("Newly initialised", ", ".join(f"`{n}`" for n in new) or "nothing"),
    ]
    if brought:
        count = sum(prod(i.shape) for i in brought)
        rows.append(RowView("Parameters of adapters", f"{count:,}"))
    rows += [RowView(name, value) for name, value in _predicts(job) if value]
    if job.backbone.revision:
        rows.insert(1, RowView("Revision", markdown(job.backbone.revision)))
    return rows


def _predicts(job: Job) -> list[tuple[str, str]]:
    """What stands between the trained model and an answer; empty where nothing does."""
    plan, kept = job.deploy, deploy.deployed_as(job)
    if plan.leave:
        kept += f", but for {', '.join(f'`{name}`' for name in plan.leave)}"
    soft = "divided by a number that the validation rows fit best"
    given = "above thresholds" if job.task == "multi-label" else "by a threshold"
    chosen = f"{given}, chosen on the validation rows by {plan.thresholds}"
    return [
        ("Deployed", kept),
        ("Logits", soft if plan.temperature else ""),
        ("Labels are given", chosen if plan.thresholds != "none" else ""),
    ]


def _recipe(job: Job) -> list[RowView]:
    t = job.train
    batch = f"{t.batch} rows" if t.batch else f"{t.batch_tokens} tokens"
    if t.accumulate > 1:
        batch += f", {t.accumulate} batches a step"
    rows = [
        RowView("Epochs", str(t.epochs)),
        RowView("Batch", batch),
        *_rates(job),
        *_teacher(job),
        RowView("Weight decay", f"{t.weight_decay:g}"),
        RowView("Seed", str(t.seed)),
    ]
    rows += [RowView(name, value) for name, value in _unusual(job) if value]
    target = f"{job.target.device}, {job.target.precision}"
    if job.target.compile:
        target += ", torch.compile"
    return [*rows, RowView("Device", target)]


def _rates(job: Job) -> Iterator[RowView]:
    """How fast all of training learns, or each stage, with how long it is and on what."""
    for number, one in enumerate(by_stage(job), 1):
        t = one.train
        rate = f"{t.lr:g}, {t.schedule}, warm-up {t.warmup:g}"
        if not job.stages:
            yield RowView("Learning rate", rate)
            continue
        names = ", ".join(f"`{name}`" for name in one.frozen)
        trained = f"{describe(one).trained:,} parameters"
        trained += f", all but {names}" if names else ""
        epochs = f"{t.epochs} epoch{'s' if t.epochs > 1 else ''}"
        yield RowView(
            f"Stage {number}", f"{epochs}, learning rate {rate}; trains {trained}"
        )


def _teacher(job: Job) -> Iterator[RowView]:
    plan = job.distill
    if plan.teacher:
        soft = f", at temperature {plan.temperature:g}" * (job.task != "regression")
        yield RowView(
            "Teacher",
            f"the model of {markdown(plan.teacher)}, of {plan.parameters:,} parameters: "
            f"{plan.weight:g} of the loss{soft}",
        )
    if plan.hidden:
        pairs = ", ".join(f"{own} from {other}" for own, other in plan.pairs)
        yield RowView(
            "Hidden states",
            f"of blocks, {pairs} of the teacher's: their squared distance, times "
            f"{plan.hidden:g}",
        )
    if plan.attention:
        (own, _, _), (other, _, _) = plan.related[0]
        yield RowView(
            "Attention",
            f"{plan.heads} heads of relations, of `{own.rpartition('.')[0]}` from the "
            f"teacher's `{other.rpartition('.')[0]}`: their divergence, times "
            f"{plan.attention:g}",
        )


def _unusual(job: Job) -> list[tuple[str, str]]:
    """What a recipe may have beside; the value is empty where it has not."""
    t, constants = job.train, job.model.constants
    weights = t.class_weights
    if not isinstance(weights, str):
        weights = ", ".join(f"{w:g}" for w in weights)
    return [
        ("Layer decay", f"{t.layer_decay:g}" if t.layer_decay != 1 else ""),
        ("Loss", f"focal, gamma {t.gamma:g}" if t.loss == "focal" else ""),
        ("Rows of an epoch", "drawn, each label alike often" * (t.sampling != "all")),
        ("Label smoothing", f"{t.label_smoothing:g}" if t.label_smoothing else ""),
        ("Class weights", weights if weights != "none" else ""),
        ("Frozen", ", ".join(f"`{name}`" for name in job.frozen)),
        ("What the frozen part gave is kept in", t.cache if cuts(job) else ""),
        ("Trained", "the adapters and the head alone" if added(job) else ""),
        ("Moving average of the weights", f"{t.ema:g}" if t.ema else ""),
        ("Rounded in training", _rounded(job)),
        ("Targets are learned", "in standard deviations" if units(job.model) else ""),
        ("Early stopping", _patience(t.early_stopping)),
        *(
            (name.replace("_", " ").capitalize(), f"{value:g}")
            for name, value in sorted(constants.items())
            if name.endswith("dropout") and isinstance(value, float) and value
        ),
    ]


def _rounded(job: Job) -> str:
    plan = job.deploy
    if not plan.quantize_aware:
        return ""
    after = f", behind the first {100 * plan.quantize_after:g}% of the steps"
    return f"as it is deployed, {plan.quantize}{after if plan.quantize_after else ''}"


def _patience(evaluations: int) -> str:
    return f"after {evaluations} without a better score" if evaluations else ""


def _measured(measured: Mapping[str, Any]) -> list[RowView]:
    """What `gen run --record` wrote down: names and figures, one a line."""
    rows = []
    for name, value in sorted(measured.items()):
        if isinstance(value, float):
            rows.append(RowView(markdown(name), f"{value:.4g}"))
        elif isinstance(value, (int, str)) and not isinstance(value, bool):
            rows.append(RowView(markdown(name), markdown(str(value))))
    return rows
