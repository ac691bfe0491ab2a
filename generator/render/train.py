"""train.py of a package: the view of its template, and the text.

The template chooses among fixed texts by the flags of the view, and repeats its lists.
Rules over the names of parameters (which decay, how deep each lies, which are frozen)
are found here and checked against the IR, name by name, before they are written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from generator.ir.cut import Division, blocks_before, divisions
from generator.ir.dims import Dim, dim
from generator.ir.head import classifier, units
from generator.ir.job import Job, ParameterInfo, Value, parameters
from generator.ir.plans import AugmentPlan, FeaturePlan, ImagePlan, TextPlan
from generator.ir.stages import by_stage, covers
from generator.render import calibrate, deploy, guard, quantize_aware
from generator.render.data import clean_view, columns_at
from generator.render.inside import InsideView, inside_view
from generator.render.sizes import Sizes
from generator.render.text import fill, listed, prose, py

Literals = bool | int | float | str | tuple

PURPOSES = {
    "text-classification": "text classification",
    "image-classification": "image classification",
    "multi-label": "multi-label classification",
    "regression": "regression",
}
LOSSES: Mapping[str, Literal["cross-entropy", "bce", "mse"]] = {
    "text-classification": "cross-entropy",
    "image-classification": "cross-entropy",
    "multi-label": "bce",
    "regression": "mse",
}
METRICS = {
    "cross-entropy": "partials/train_metrics_labels.j2",
    "bce": "partials/train_metrics_multilabel.j2",
    "mse": "partials/train_metrics_regression.j2",
}
# From so many labels on there is no matrix of all pairs, which would be millions of
# numbers in each evaluation, but the pairs that are most often confused.
MANY_LABELS = 50
MANY = "partials/train_metrics_many_labels.j2"
SCORES = {
    "cross-entropy": 'e["accuracy"]',
    "bce": 'e["micro_f1"]',
    "mse": '-e["mse"]',
}
# What may change between a run and its resumption; the other constants may not.
FREE = {"SAVE_EVERY", "MAX_BAD_STEPS", "KEEP", "LOG_EVERY", "CONFUSED"}


@dataclass(frozen=True)
class OnceView:
    """What is run once over the rows, and how what it gives is kept in files."""

    teacher: bool  # it is the teacher, and else what is frozen
    stages: bool  # each has files of its own
    # Stages keep different numbers of vectors of a row, so that each says how many.
    varied: bool
    by_token: bool  # each token has a vector; else each row has so many
    inside: str  # code: what of the teacher is kept beside its answers; "" for nothing
    shape: str  # of what a batch gives
    in_file: str
    mend: str  # what of the spec makes it smaller; "" for nothing
    half: str  # code: the type that autocast computes it in; "" where it does not
    computed: str  # what changes it beside the source: the device and the precision
    who: str
    what: str
    doc: str
    begins: str
    key_doc: str
    source: str  # the file that it stands in
    # Code
    keep: str  # what the functions are called
    runs: str
    key: str
    model: str  # its type
    gives: str  # that of what is kept of a split
    kind: str  # that of its numbers
    run: str  # what is called
    prefix: str  # what it takes of a batch
    width: str  # numbers of a token, or of a row
    viewed: str  # the shape of a file


@dataclass(frozen=True)
class CacheView(OnceView):
    """How what a frozen prefix gives is kept, and what goes on from it."""

    some: bool  # there are stages that keep nothing
    mapped: str  # the shape of all that is kept
    # Code
    suffix: str  # what the suffix takes of a batch
    moved: str  # what follows where a batch is taken


@dataclass(frozen=True)
class TrainView:
    """All that train.py.j2 and its partials read. Strings of code are marked as such."""

    package: str
    program: str
    title: str
    purpose: str
    work: str
    weights_usage: str  # what the examples of the docstring say behind the module
    weights_help: str
    weights_else: str  # code: with where it is by default; "" where it has to be said
    text: bool  # counts tokens
    unit: Literal["tokens", "examples"]
    labels: bool  # LABELS is read
    constants: tuple[tuple[str, Literals, str], ...]  # name, value, why
    tables: tuple[tuple[str, tuple, str], ...]  # the same, of more than a line
    features: bool  # the head reads what features.py makes
    cleans: bool  # rows are cleaned, which is of the recipe too
    inspecting: str  # code: what looks at rows before training; "" where nothing does
    # Names, by line, of the constants that a run shares with its resumption.
    recipe: tuple[tuple[str, ...], ...]
    loss: Literal["cross-entropy", "bce", "mse"]
    metrics_partial: str
    score: str  # code: what of an evaluation `e` is the better the larger
    criterion: str  # code
    standard: str  # code: of a loss that neither weighs labels nor is focal
    criterion_doc: str
    balanced: bool
    weighted: bool
    accumulate: int
    share: str  # code: how much a batch of an accumulated step counts
    share_doc: str
    step_loss: str  # code: the loss of a step
    inputs: str  # code: what forward takes
    targets: str  # code
    clip: bool
    schedule: Literal["linear", "cosine", "constant"]
    schedule_doc: str
    warmup: bool
    optimizer_doc: str
    decay_groups: bool  # some parameters decay and some do not
    decay: str  # code: the decay of a group, or of all where there are none
    depth_rule: Literal["", "blocks", "table"]
    block_prefix: str
    embedding_prefixes: str | tuple[str, ...]  # as startswith takes them
    deepest: int
    stages: tuple[str, ...]  # code: the fields of each; none is training in one go
    not_trained: str  # code: of a name, whether it is frozen; "" where nothing is
    calibrated: (
        bool  # calibrate.py is for what is trained, and not for a deployed model
    )
    still: bool  # modules that the spec freezes run in evaluation mode
    mode: str  # code: what ends an evaluation; "" where the loop does it itself
    lr: str  # code: the highest of the schedule
    warmup_part: str  # code
    stage_argument: (
        str  # code: how functions that depend on a stage take it, and a comma
    )
    numbered: str  # code: the stage's part of a line of the log, and a comma
    over: str  # code: whether a stage, or all of it, is at its end
    cache: CacheView | None
    beside: str  # code: names of files that lie beside the weights
    teacher: OnceView | None
    inside: InsideView | None
    projected: bool  # hidden states are, to the width of the teacher's
    steps: str  # code: the type of what a step runs
    taught: str  # code: how a step takes what is learned from the teacher, and a comma
    lessons: str  # code: that, as it is given
    optimized: str  # code: all that trains, where it is not told apart
    config: bool  # Config is read
    calls: bool  # Callable is
    teacher_name: str
    teacher_weights: str
    answers: str  # code: what the teacher says of a batch
    once: bool  # there is a cache, or a teacher, whose answers are kept alike
    average: bool  # a moving average of the weights is evaluated and saved
    evaluated: str  # code: the model that is
    suffix: str  # code: what of it goes on from what is kept
    evaluating: str  # code
    saving: str  # code
    early_stopping: bool
    max_bad_steps: int
    cuda: bool
    plans: bool  # rows of many lengths in 16 bits, which cuDNN's attention would take
    device: str
    half: str  # code: the type that autocast computes in; "" where it does not
    backward: str  # code
    scaled: bool  # whose range is so small that losses are scaled
    compile: bool
    forward: str  # code: what a step is given
    model: str  # code
    value: str  # code: the loss as a number
    augmented: bool  # there is an augment.py
    rows: str  # code: the rows that it changes; "" where it changes none
    batch_count: str  # code: the batches of an epoch
    batches: str  # code: those that are left of it
    drawn: bool  # the rows of an epoch are drawn
    mixes: Literal["", "inputs", "logits"]  # what of rows in pairs
    mixed_inputs: str  # code: what forward takes, mixed or not
    mixed_targets: str  # code
    focal: bool
    functional: bool  # it takes functions of torch
    smoothing: bool
    targets_doc: str  # prose
    standardised: bool  # answers are learned in standard deviations of the targets
    head: str  # code: what of the model gives them
    head_bias: bool  # its last layer has a bias
    taken_over: bool  # it came with the checkpoint, and goes on answering as it did
    aware: bool  # there is a quantize_aware.py
    aware_when: str  # prose: the steps that round
    aware_from: str  # code: the first of them; "" where it is the first of all
    ranges: bool  # of what linears are given, which training follows


@dataclass(frozen=True)
class Groups:
    """How the names of parameters tell apart what is trained alike."""

    some_decay: bool
    no_decay: tuple[str, ...]  # ends of names; of none where nothing decays
    plain: str  # what these are, in words
    frozen: tuple[str, ...]  # beginnings of names, or else
    trained: tuple[str, ...]  # those of what is not frozen, where they are fewer
    blocks: tuple[str, tuple[str, ...]] | None  # what comes ahead of a block's number
    depths: tuple[
        tuple[str, int], ...
    ]  # beginnings of names, where there is no such rule


def render(job: Job) -> str:
    """The source of train.py, not yet formatted."""
    return fill("train.py.j2", train_view(job))


def train_view(job: Job) -> TrainView:
    """The view of a job. ValueError where the recipe does not fit the task."""
    plan, target = job.train, job.target
    loss = LOSSES[job.task]
    _check(job, loss)
    groups = _groups(job)

    source = job.backbone.source
    required = source.startswith(("package:", "hf:"))
    model = "Model() if found else load_pretrained(args.weights)"
    weighted = plan.class_weights != "none"
    balanced = plan.class_weights == "balanced"
    cuda = target.device == "cuda"
    text = isinstance(job.data.inputs, TextPlan)
    augment, focal = job.data.augment, plan.loss == "focal"
    mixes = _mixes(augment, text)
    decay_groups, layered = len(groups.no_decay) > 0, plan.layer_decay != 1
    constants, tables = _constants(job, groups)

    head = classifier(job.model) if units(job.model) else None
    cut = divisions(job)
    still = any(one.frozen for one in by_stage(job))
    staged = len(job.stages) > 0
    aware, ranges = quantize_aware.asked(job), deploy.static(job)
    if aware:
        model = f"quantize_aware.prepare({model})"
        fresh = f"{model}.to(DEVICE)" if cuda else model
    else:
        fresh = f"({model})" + ".to(DEVICE)" * cuda
    inside = inside_view(job) if job.distill.inside else None
    projected = inside is not None and inside.projected
    steps = "Model" if inside and inside.heard == "model" else "Callable"
    not_trained = _not_trained(groups, staged and still)
    where = "batch.targets" + (".to(DEVICE, non_blocking=True)" if cuda else "")
    # Of mixed targets, none of which is one label, the loss is the mean over rows.
    weighted_share = weighted and loss == "cross-entropy" and not mixes
    return TrainView(
        package=job.name,
        program=f"python -m {job.name}.train",
        title=job.model.title,
        purpose=PURPOSES[job.task],
        work=f"runs/{job.name}",
        weights_usage=" --weights FOLDER" if required else "",
        weights_help=(
            "the backbone: a file or a folder"
            if required
            else f"the backbone, if not {prose(source)}".replace("%", "%%")
        ),
        weights_else="" if required else f"args.weights or args.root / {py(source)}",
        text=text,
        unit="tokens" if text else "examples",
        labels=loss != "mse",
        constants=constants,
        tables=tables,
        features=job.data.features != FeaturePlan(),
        cleans=len(clean_view(job.data).asked) > 0,
        inspecting=guard.inspecting(job) if guard.wanted(job) else "",
        recipe=_lines(
            [
                *(name for name, _, _ in (*constants, *tables) if name not in FREE),
                *["STAGES"] * staged,
            ]
        ),
        loss=loss,
        metrics_partial=MANY if _many_labels(job) else METRICS[loss],
        score='-e["loss"]' if head else SCORES[loss],
        criterion=(
            f"StandardisedError(model.{head.call.name}.scale)"
            if head
            else _criterion(loss, weighted, plan.label_smoothing > 0, focal)
        ),
        standard=_criterion(loss, False, plan.label_smoothing > 0, False),
        criterion_doc=_criterion_doc(loss, weighted, balanced, focal),
        balanced=balanced,
        weighted=weighted,
        accumulate=plan.accumulate,
        share=(
            f'criterion.get_buffer("weight").gather(0, {where}).sum()'
            if weighted_share
            else "len(batch.rows)"
        ),
        share_doc="the weights of its labels" if weighted_share else "its rows",
        step_loss=(
            "total"
            if plan.accumulate > 1
            else "loss.detach()" if cuda else "loss.item()"
        ),
        inputs="inputs" if cuda else "batch.inputs",
        targets="targets" if cuda else "batch.targets",
        clip=plan.clip > 0,
        schedule=plan.schedule,
        schedule_doc=_schedule_doc(job),
        warmup=any(one.train.warmup > 0 for one in by_stage(job)),
        optimizer_doc=_optimizer_doc(groups, layered),
        decay_groups=decay_groups,
        decay=(
            "decay"
            if decay_groups and layered
            else "WEIGHT_DECAY" if groups.some_decay else "0.0"
        ),
        depth_rule=("blocks" if groups.blocks else "table") if layered else "",
        block_prefix=groups.blocks[0] if groups.blocks else "",
        embedding_prefixes=_starts(groups.blocks[1]) if groups.blocks else (),
        deepest=max(p.depth for p in parameters(job)),
        stages=_stages(job),
        not_trained=not_trained,
        calibrated=calibrate.asked(job) and not job.deploy.lowered,
        still=still,
        mode=(
            "model.train()" if not still else "" if staged else "training_mode(model)"
        ),
        lr="stage.lr" if staged else "LR",
        warmup_part="stage.warmup" if staged else "WARMUP",
        stage_argument="stage: Stage, " if staged else "",
        numbered='"stage": number, ' if staged else "",
        over="over" if staged else "state.done",
        cache=_cache(job, cut) if cut else None,
        beside=", ".join(
            py(name)
            for name, there in (
                ("features.json", job.data.features != FeaturePlan()),
                ("deployed.safetensors", job.deploy.lowered),
                ("deployed.json", job.deploy.lowered),
                ("calibration.json", calibrate.asked(job)),
                ("ranges.json", ranges),
            )
            if there
        ),
        teacher=_taught(job, inside) if job.distill.teacher else None,
        inside=inside,
        projected=projected,
        steps=steps,
        taught=_lessons(job, inside, typed=True),
        lessons=_lessons(job, inside, typed=False),
        optimized=_optimized(not_trained != "", projected),
        config=len(cut) > 0 or inside is not None and inside.config,
        calls="Callable" in steps or len(cut) > 0 or staged,
        teacher_name=job.distill.teacher,
        teacher_weights=f"runs/{job.distill.teacher}/model.safetensors",
        answers=(
            "lesson.answers"
            if inside
            else "taught[batch.rows]" + ".to(DEVICE, non_blocking=True)" * cuda
        ),
        once=len(cut) > 0 or job.distill.teacher != "",
        average=plan.ema > 0,
        evaluated="average" if plan.ema else "model",
        suffix=_suffix_of(plan.ema > 0, staged),
        evaluating=_every(plan.evaluate_every, "EVALUATE_EVERY"),
        saving=_every(plan.save_every, "SAVE_EVERY"),
        early_stopping=plan.early_stopping > 0,
        max_bad_steps=plan.max_bad_steps,
        cuda=cuda,
        plans=cuda and target.half != "" and text,
        device=target.device,
        half=target.half,
        backward=(
            "scaler.scale(loss).backward()"
            if target.precision == "fp16"
            else "loss.backward()"
        ),
        scaled=target.precision == "fp16",
        compile=target.compile,
        value="value" if cuda else "loss",
        forward=_forward(job, target.compile),
        model=fresh,
        augmented=augment != AugmentPlan(),
        rows=_rows(augment),
        batch_count=(
            "rows.batch_count(epoch)"
            if augment.paraphrase
            else "data.batch_count(train, epoch)"
        ),
        batches=(
            "train.batches(state.epoch, state.batch)"
            if cut
            else (
                "rows.batches(state.epoch, state.batch)"
                if augment.rows
                else "data.batches(train, state.epoch, state.batch)"
            )
        ),
        drawn=plan.sampling == "balanced",
        mixes=mixes,
        mixed_inputs="inputs" if cuda or mixes == "inputs" else "batch.inputs",
        mixed_targets="targets" if cuda or mixes == "inputs" else "batch.targets",
        focal=focal,
        functional=focal
        and (loss == "bce" or not mixes)
        or job.distill.teacher != ""
        and not (head is not None and (inside is None or inside.masked)),
        smoothing=plan.label_smoothing > 0,
        targets_doc=(
            "f32 (B, K)" if mixes or loss == "bce" else "the numbers of labels, i64 (B)"
        ),
        standardised=head is not None,
        head=head.call.name if head else "",
        head_bias=head is not None and head.has_bias,
        taken_over=head is not None and head.taken_over,
        aware=aware,
        aware_when=_aware_when(job),
        aware_from=_aware_from(job),
        ranges=aware and ranges,
    )


def _check(job: Job, loss: str) -> None:
    """ValueError where the recipe does not fit the task, or trains nothing."""
    plan = job.train
    if plan.class_weights != "none" and loss == "mse":
        raise ValueError("class weights have no meaning in a regression")
    if loss == "mse" and (plan.loss == "focal" or plan.sampling == "balanced"):
        raise ValueError("a regression has no labels that could be rare")
    if plan.label_smoothing and loss != "cross-entropy":
        raise ValueError("label smoothing is for tasks of one label a row")
    for one in by_stage(job):
        if all(p.frozen for p in parameters(one)):
            raise ValueError("every parameter is frozen: there is nothing to train")


def _starts(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """What `str.startswith` is given: one name, or several."""
    return names[0] if len(names) == 1 else names


def _groups(job: Job) -> Groups:
    infos, plan = parameters(job), job.train
    decaying = infos
    if job.stages:  # which say by themselves what they freeze
        infos = parameters(replace(job, frozen=()))
    frozen = prefixes(
        [p.path for p in infos if p.frozen], [p.path for p in infos if not p.frozen]
    )
    trained = parts(
        [p.path for p in infos if not p.frozen], [p.path for p in infos if p.frozen]
    )
    if len(frozen) <= len(trained) or (job.frozen and not job.stages):
        trained = ()  # what is frozen is said more shortly, or has to be said
    if trained:
        decaying = tuple(p for p in infos if not p.frozen)
    some_decay = plan.weight_decay > 0 and any(
        p.decay and not (trained and p.frozen) for p in infos
    )
    no_decay = suffixes(
        [p.path for p in decaying if not p.decay], [p.path for p in decaying if p.decay]
    )
    layered = plan.layer_decay != 1
    blocks = block_rule(infos) if layered else None
    return Groups(
        some_decay=some_decay,
        no_decay=no_decay if some_decay else (),
        plain=_plain(p for p in decaying if not p.decay),
        frozen=frozen,
        trained=trained,
        blocks=blocks,
        depths=() if blocks or not layered else depth_table(infos),
    )


def _plain(infos: Iterable[ParameterInfo]) -> str:
    """What parameters without weight decay are, in words, by the ends of their names."""
    words = {"bias": "biases", "weight": "norms"}  # of no other layer's weight
    ends = {p.path.rpartition(".")[2] for p in infos}
    others = [f"{end}s" for end in sorted(ends - words.keys())]
    found = [*(word for end, word in words.items() if end in ends), *others]
    return listed(found, "and")


def _aware_when(job: Job) -> str:
    if job.deploy.quantize_after:
        return f"steps behind the first {100 * job.deploy.quantize_after:g}%"
    return "each step but the first" if deploy.static(job) else "each step"


def _aware_from(job: Job) -> str:
    """Code: the first step that rounds; ranges of inputs are there after one at the least."""
    if not quantize_aware.asked(job):
        return ""
    part = "QUANTIZE_AFTER * steps" if job.deploy.quantize_after else ""
    if deploy.static(job):
        return f"max(1, {part})" if part else "1"
    return part


def _mixes(plan: AugmentPlan, text: bool) -> Literal["", "inputs", "logits"]:
    if not (plan.mixup or plan.cutmix):
        return ""
    return "logits" if text else "inputs"


def _rows(plan: AugmentPlan) -> str:
    """Code for the rows that augment.py changes, with what it takes for it."""
    if not plan.rows:
        return ""
    given = ["train"]
    if plan.synonym_swap:
        given.append("augment.read_synonyms(args.root)")
    if plan.paraphrase:
        given.append("*augment.read_paraphrases(args.root, work, splits)")
    return f"augment.Rows({', '.join(given)})"


def _forward(job: Job, compiled: bool) -> str:
    if job.stages:
        return "compiled" if compiled else "forward"
    return "forward" if compiled else "model.suffix" if job.model.cut else "model"


def _suffix_of(average: bool, staged: bool) -> str:
    """Code for what of the model that is evaluated goes on from what is kept."""
    if staged:
        return "averaged" if average else "forward"
    return "average.suffix" if average else "model.suffix"


def _not_trained(groups: Groups, by_stage: bool) -> str:
    """Code: whether the parameter of a name is frozen, in a stage or in all of training."""
    found = []
    if groups.trained:
        found.append('set(TRAINED).isdisjoint(name.split("."))')
    elif groups.frozen:
        found.append("name.startswith(FROZEN)")
    if by_stage:
        found.append("name.startswith(stage.frozen)")
    return " or ".join(found)


def _stages(job: Job) -> tuple[str, ...]:
    """The fields of each stage, without those that would be alike in every job of its kind.

    What an adapter freezes, in all of training, is not said again.
    """
    cut, found = divisions(job), []
    paths = [p.path for p in parameters(job)]
    for stage, one in zip(job.stages, by_stage(job)):
        inside = [path for path in paths if covers(stage.frozen, path)]
        fields: dict[str, Literals] = {"epochs": stage.epochs, "lr": stage.lr}
        if any(other.warmup for other in job.stages):
            fields["warmup"] = stage.warmup
        if any(other.frozen for other in job.stages):
            outside = [path for path in paths if path not in inside]
            fields["frozen"] = prefixes(inside, outside)
        if cut:
            fields["kept"] = blocks_before(one.model)
        if _varied(cut):
            fields["positions"] = _positions(one, stage.cut) if stage.cut else 0
        found.append(", ".join(f"{name}={py(x)}" for name, x in fields.items()))
    return tuple(found)


def _positions(job: Job, cut: str) -> int:
    """How many vectors of a row are kept; 0 is one for each of its tokens."""
    positions = job.model.main.types[cut].shape[1]
    return 0 if positions == dim("T") else positions.value(job.model.sizes)


def _kept_shapes(cuts: Sequence[Division]) -> list[tuple[Dim, ...]]:
    """Of each cut what is kept of a row: positions and their width, or a vector's width."""
    return [cut.suffix.inputs[0].type.shape[1:] for cut in cuts]


def _varied(cuts: Sequence[Division]) -> bool:
    return len(set(_kept_shapes(cuts))) > 1


def _cache(job: Job, cuts: Sequence[Division]) -> CacheView:
    prefix, suffix = cuts[0].prefix, cuts[0].suffix
    names = [v.name for v in job.model.main.inputs]
    *positions, width = _kept_shapes(cuts)[0]
    sizes = Sizes(job.model)
    varied = _varied(cuts)
    by_token = any(shape[0] == dim("T") for shape in _kept_shapes(cuts))
    cuda, half = job.target.device == "cuda", job.train.cache == "bf16"
    several = positions if not by_token else []
    many = math.prod(n.value(job.model.sizes) for n in several)
    wide = sizes.python(width, "Config")
    row = ", ".join([*(str(n.value(job.model.sizes)) for n in several), wide])
    rest = [*_of_batch(names, suffix.inputs[1:], "batch.inputs"), ""]
    other = "" if half else 'cache = "bf16" or '
    target = job.target
    if half and not cuda:  # what is kept in bf16 anyway is computed in it too
        target = replace(target, precision="bf16")
    shapes = [sizes.shape(c.suffix.inputs[0].type.shape) for c in cuts]
    if varied:
        many = 1
        mapped, in_file = "(vectors, C)", "row after row"
    else:
        mapped = "(tokens, C)" if by_token else f"(rows, {many}, C)"
        if not positions:
            mapped = f"(rows, {sizes.shape([width])[1:-1]})"
        in_file = "token after token" if by_token else "row after row"
    return CacheView(
        teacher=False,
        stages=len(job.stages) > 0,
        who="frozen blocks",
        what="what the frozen blocks give",
        doc="What the frozen blocks give for each split, from files in `folder`.",
        begins="They are run",
        key_doc="A hash of the frozen weights, the source that runs them, the rows and "
        "CACHE.",
        source="model.py",
        keep="keep",
        runs="run_frozen",
        key="cache_key",
        model="Model",
        gives="Kept",
        kind="getattr(torch, CACHE)",
        varied=varied,
        inside="",
        some=any(not one.model.cut for one in by_stage(job)),
        by_token=by_token,
        shape=" or ".join(dict.fromkeys(shapes)),
        mapped=mapped,
        in_file=in_file,
        mend=f'{other}cache = "off" in [train]',
        half=target.half,
        computed=f"{target.device} {target.precision}",
        run="prefix" if cuda or job.stages else "model.prefix",
        prefix=", ".join(
            _of_batch(names, prefix.inputs, "inputs" if cuda else "batch.inputs")
        ),
        suffix=_suffix(job, rest),
        width=f"{many} * {wide}" if many > 1 else wide,
        viewed=f"(-1, {wide})" if varied else f"(-1, {row})",
        moved=((".to(DEVICE)" if cuda else "") + ".float()") if half else "",
    )


def _lessons(job: Job, inside: InsideView | None, typed: bool) -> str:
    """What a step is told of the teacher, as it takes it or as it is given, and a comma."""
    if not job.distill.teacher:
        return ""
    told: dict[str, tuple[str, str]] = {}
    if inside and inside.heard == "pupil":
        told["pupil"] = "Model", "model"
    if inside and inside.projected:
        told["projections"] = "nn.ModuleList", "projections"
    told["taught"] = "Taught" if inside else "Tensor", "taught"
    return "".join(
        f"{name}: {kind}, " if typed else f"{value}, "
        for name, (kind, value) in told.items()
    )


def _optimized(told_apart: bool, projected: bool) -> str:
    if told_apart:
        return "trained"
    if projected:
        return "[*model.parameters(), *projections.parameters()]"
    return "model.parameters()"


def _taught(job: Job, inside: InsideView | None) -> OnceView:
    """How what the teacher says is kept."""
    cuda = job.target.device == "cuda"
    return OnceView(
        inside=inside.constants if inside else "",
        teacher=True,
        stages=False,
        varied=False,
        by_token=False,
        shape="(B, K)",
        in_file="row after row",
        mend="",
        half=job.target.half,
        computed=f"{job.target.device} {job.target.precision}",
        who="teacher",
        what="what the teacher says",
        doc=(
            "What the teacher says of each split, and has inside, from files in `folder`."
            if inside
            else "What the teacher says of each split (rows, K), from files in `folder`."
        ),
        begins="It is asked",
        key_doc="A hash of the teacher's weights, its source and the rows.",
        source="teacher.py",
        keep="ask",
        runs="run_teacher",
        key="answers_key",
        model="teacher.Model",
        gives="Taught" if inside else "Tensor",
        kind="torch.float32",
        run="model",
        prefix="*inputs" if cuda else "*batch.inputs",
        width="teacher.Config.labels",
        viewed="(-1, teacher.Config.labels)",
    )


def _suffix(job: Job, rest: list[str]) -> str:
    """What the suffix takes: `rest` are those of a batch, of which images make none."""
    if isinstance(job.data.inputs, ImagePlan) and rest[0]:
        return f"(x, {columns_at(job, 'self.split.columns', '[rows]')})"
    return f"(x, {', '.join(rest).rstrip(', ')})" if rest[0] else "(x,)"


def _of_batch(names: list[str], read: Sequence[Value], inputs: str) -> list[str]:
    """Those of a batch's inputs that a part of the model takes, as arguments."""
    if [v.name for v in read] == names:
        return [f"*{inputs}"]
    return [f"{inputs}[{names.index(v.name)}]" for v in read]


def _lines(names: list[str]) -> tuple[tuple[str, ...], ...]:
    """Names by lines that `f" {NAME=} {NAME=}"` fits in, indented by eight."""
    lines: list[list[str]] = [[]]
    for name in names:
        if sum(len(n) + 4 for n in [*lines[-1], name]) > 77:
            lines.append([])
        lines[-1].append(name)
    return tuple(map(tuple, lines))


def _every(steps: int, constant: str) -> str:
    return f"state.step % {constant} == 0" if steps else "state.batch == 0"


def _many_labels(job: Job) -> bool:
    one = LOSSES[job.task] == "cross-entropy"
    return one and len(job.labels) >= MANY_LABELS


def _constants(
    job: Job, groups: Groups
) -> tuple[tuple[tuple[str, Literals, str], ...], tuple[tuple[str, tuple, str], ...]]:
    """The block of constants: those of one line with their reasons, then the tuples."""
    plan = job.train
    decays = plan.weight_decay > 0 and any(p.decay for p in parameters(job))
    staged = len(job.stages) > 0
    lines: list[tuple[str, Literals, str] | None] = [
        ("EPOCHS", plan.epochs, "") if not staged else None,
        ("LR", plan.lr, "the highest of the schedule") if not staged else None,
        (
            ("WARMUP", plan.warmup, "part of all steps")
            if plan.warmup and not staged
            else None
        ),
        ("WEIGHT_DECAY", plan.weight_decay, "") if decays else None,
        (
            (
                "LAYER_DECAY",
                plan.layer_decay,
                "of LR, for each block further from the head",
            )
            if plan.layer_decay != 1
            else None
        ),
        ("CLIP", plan.clip, "the largest norm of the gradient") if plan.clip else None,
        (
            ("ACCUMULATE", plan.accumulate, "batches to an optimizer step")
            if plan.accumulate > 1
            else None
        ),
        ("LABEL_SMOOTHING", plan.label_smoothing, "") if plan.label_smoothing else None,
        ("GAMMA", plan.gamma, "of the focal loss") if plan.loss == "focal" else None,
        *_of_teacher(job),
        (
            ("EMA", plan.ema, "what the average of the weights keeps in a step")
            if plan.ema
            else None
        ),
        (
            ("PATIENCE", plan.early_stopping, "evaluations without a better score")
            if plan.early_stopping
            else None
        ),
        (
            ("EVALUATE_EVERY", plan.evaluate_every, "steps")
            if plan.evaluate_every
            else None
        ),
        ("SAVE_EVERY", plan.save_every, "steps") if plan.save_every else None,
        (
            (
                "QUANTIZE_AFTER",
                job.deploy.quantize_after,
                "part of all steps, ahead of the first that rounds",
            )
            if job.deploy.quantize_after
            else None
        ),
        (
            (
                "CACHE",
                "float32" if plan.cache == "fp32" else "bfloat16",
                "torch's type of what the frozen blocks gave",
            )
            if divisions(job)
            else None
        ),
        ("KEEP", 2, "checkpoints"),
        (
            ("CONFUSED", 20, "pairs of labels that are shown")
            if _many_labels(job)
            else None
        ),
        ("MAX_BAD_STEPS", plan.max_bad_steps, "not finite, and so skipped"),
        (
            ("LOG_EVERY", 10, "steps; reading the loss waits for the device")
            if job.target.device == "cuda"
            else None
        ),
    ]
    tables: list[tuple[str, tuple, str]] = []
    if isinstance(plan.class_weights, tuple):
        tables.append(
            ("CLASS_WEIGHTS", plan.class_weights, "How much each of LABELS counts.")
        )
    if 0 < len(groups.no_decay) <= 3:
        lines.append(("NO_DECAY", groups.no_decay, f"ends of names: {groups.plain}"))
    elif groups.no_decay:
        why = f"Ends of the names of what does not decay: {groups.plain}."
        tables.append(("NO_DECAY", groups.no_decay, why))
    if groups.trained:
        lines.append(("TRAINED", groups.trained, "parts of the names of what trains"))
    elif groups.frozen:
        why = "Starts of the names of parameters that are not trained."
        tables.append(("FROZEN", groups.frozen, why))
    if job.distill.pairs:
        why = "Blocks that learn from one of the teacher's: own, and the teacher's."
        tables.append(("PAIRS", job.distill.pairs, why))
    if job.distill.related:
        why = "What has relations to learn: columns of a linear, and of the teacher's."
        tables.append(("RELATED", job.distill.related, why))
    if groups.depths:
        why = "How far parameters are from the input, by the starts of their names."
        tables.append(("DEPTHS", groups.depths, why))
    return tuple(line for line in lines if line), tuple(tables)


def _of_teacher(job: Job) -> Iterator[tuple[str, Literals, str]]:
    plan = job.distill
    if not plan.teacher:
        return
    yield "TEACHER", plan.weight, "the teacher's part of the loss"
    if job.task != "regression":
        yield "TEMPERATURE", plan.temperature, "what logits are divided by for it"
    if plan.hidden:
        yield "HIDDEN", plan.hidden, "what the distance of hidden states counts"
    if plan.attention:
        yield "ATTENTION", plan.attention, "what the divergence of relations counts"
        yield "RELATIONS", plan.heads, "the heads of those"


def _criterion(loss: str, weighted: bool, smoothing: bool, focal: bool) -> str:
    if focal:
        return f"FocalLoss({'weight' * weighted})"
    match loss:
        case "cross-entropy":
            options = ["weight=weight"] * weighted
            options += ["label_smoothing=LABEL_SMOOTHING"] * smoothing
            return f"nn.CrossEntropyLoss({', '.join(options)})"
        case "bce":
            return f"nn.BCEWithLogitsLoss({'pos_weight=weight' * weighted})"
    return "nn.MSELoss()"


def _criterion_doc(loss: str, weighted: bool, balanced: bool, focal: bool) -> str:
    if focal:
        return (
            "Focal loss; a label counts by the inverse of how often rows have it."
            if balanced
            else "Focal loss; each label counts by CLASS_WEIGHTS."
        )
    match loss, weighted, balanced:
        case "cross-entropy", True, True:
            return (
                "Cross-entropy in which every label counts the same, rare or frequent."
            )
        case "cross-entropy", True, False:
            return "Cross-entropy in which each label counts by CLASS_WEIGHTS."
        case "cross-entropy", _, _:
            return "Cross-entropy of logits (B, K) and targets (B)."
        case "bce", True, True:
            return (
                "Binary cross-entropy; a label counts as much where it is as where not."
            )
        case "bce", True, False:
            return "Binary cross-entropy; where a label is, it counts by CLASS_WEIGHTS."
        case "bce", _, _:
            return "Binary cross-entropy of logits (B, K) and targets (B, K)."
    return "Mean squared error of guesses (B, K) and targets (B, K)."


def _schedule_doc(job: Job) -> str:
    end = {
        "linear": "falls to 0 along a line",
        "cosine": "falls to 0 along half a cosine",
        "constant": "stays",
    }[job.train.schedule]
    where = "In a stage it " if job.stages else ""
    if any(one.train.warmup for one in by_stage(job)):
        words = f"{where}rises from 0 in the warm-up, then {end}."
    else:
        words = f"{where}starts at {'its lr' if where else 'LR'} and {end}."
    return words[0].upper() + words[1:]


def _optimizer_doc(groups: Groups, layered: bool) -> str:
    match len(groups.no_decay) > 0, layered:
        case True, True:
            return (
                "AdamW by groups of parameters: those far from the head learn slowly."
            )
        case True, False:
            return f"AdamW, whose weight decay leaves out {groups.plain}."
        case False, True:
            return "AdamW; parameters far from the head learn slowly."
    return "AdamW, alike for every parameter."


# Rules over names. Each is checked on every name before it is returned.


def suffixes(inside: Iterable[str], outside: Iterable[str]) -> tuple[str, ...]:
    """Few and short endings that all of `inside` and none of `outside` have.

    An ending starts where a word does, behind a dot or an underscore. ValueError where
    a name of `inside` is itself an ending of one of `outside`.
    """
    left, others = sorted(set(inside)), tuple(outside)
    found: list[str] = []
    while left:
        options = {
            ending
            for name in left
            for ending in _endings(name)
            if not any(other.endswith(ending) for other in others)
        }
        if not options:
            raise ValueError(f"no ending tells these from the rest: {left}")
        best = min(
            options,
            key=lambda e: (-sum(name.endswith(e) for name in left), len(e), e),
        )
        found.append(best)
        left = [name for name in left if not name.endswith(best)]
    return tuple(sorted(found))


def _endings(name: str) -> list[str]:
    starts = [0, *(i + 1 for i, c in enumerate(name) if c in "._")]
    return [name[i:] for i in starts if i < len(name)]


def prefixes(inside: Iterable[str], outside: Iterable[str]) -> tuple[str, ...]:
    """The shortest paths of modules, with their dots, that hold `inside` and no other.

    A parameter whose module holds others too stands by its full name; ValueError where
    that is the start of another name.
    """
    others = tuple(outside)
    found: dict[str, None] = {}
    for name in inside:
        at = [i + 1 for i, c in enumerate(name) if c == "."] + [len(name)]
        starts = (name[:i] for i in at)
        found[
            _first(starts, lambda s: not any(o.startswith(s) for o in others), name)
        ] = None
    return tuple(found)


def parts(inside: Iterable[str], outside: Iterable[str]) -> tuple[str, ...]:
    """Few words between the dots of names that all of `inside` and none of `outside` have.

    None at all where no words tell them apart.
    """
    others = {part for name in outside for part in name.split(".")}
    left = {name: set(name.split(".")) - others for name in inside}
    found: list[str] = []
    while left:
        counts = Counter(p for own in left.values() for p in own if not p.isdigit())
        if not counts:
            return ()
        best = min(counts, key=lambda part: (-counts[part], part))
        found.append(best)
        left = {name: own for name, own in left.items() if best not in own}
    return tuple(sorted(found))


def _first(options: Iterable[str], fits: Callable[[str], bool], name: str) -> str:
    for option in options:
        if fits(option):
            return option
    raise ValueError(f"the name {name} is the start of another one")


def depth_table(infos: tuple[ParameterInfo, ...]) -> tuple[tuple[str, int], ...]:
    """Starts of names with the depth of what they hold, the longest first."""
    table: dict[str, int] = {}
    for depth in sorted({p.depth for p in infos}):
        inside = [p.path for p in infos if p.depth == depth]
        outside = [p.path for p in infos if p.depth != depth]
        table |= dict.fromkeys(prefixes(inside, outside), depth)
    return tuple(sorted(table.items(), key=lambda row: (-len(row[0]), row[0])))


def block_rule(
    infos: tuple[ParameterInfo, ...],
) -> tuple[str, tuple[str, ...]] | None:
    """The start of blocks' names, and of the embeddings', where depth follows from them.

    With ("blocks.", ("embedding.",)), `blocks.4.` is at depth 5, `embedding.` at 0, and
    everything else is the head's. None where names and depths do not go together so.
    """
    deepest = max(p.depth for p in infos)
    stems = {
        ".".join(parts[:i]) + "."
        for parts in (p.path.split(".") for p in infos)
        for i, part in enumerate(parts)
        if part.isdigit()
    }
    embedding = prefixes(
        [p.path for p in infos if p.depth == 0],
        [p.path for p in infos if p.depth != 0],
    )

    def depth(name: str, stem: str) -> int | None:
        if name.startswith(stem):
            number = name.removeprefix(stem).split(".")[0]
            return int(number) + 1 if number.isdigit() else None
        return 0 if name.startswith(embedding) else deepest

    for stem in sorted(stems, key=lambda s: (len(s), s)):
        if all(depth(p.path, stem) == p.depth for p in infos):
            return stem, embedding
    return None
