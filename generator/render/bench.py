"""bench.py of a package: the view of its template, and the text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from generator.cost import Flops, costliest, describe
from generator.ir.cut import blocks_before
from generator.ir.job import Job, added, parameters
from generator.ir.ops import merges
from generator.ir.plans import FeaturePlan, ImagePlan, TextPlan
from generator.ir.sources import keys
from generator.ir.stages import by_stage
from generator.render import calibrate, data, deploy, quantize_aware, train
from generator.render.data import INSTALLED, OWN, STDLIB
from generator.render.text import fill, py

# Names that data.py's table of imports does not have.
BESIDE: Mapping[str, tuple[int, str]] = {
    "ArgumentParser": (STDLIB, "from argparse"),
    "Namespace": (STDLIB, "from argparse"),
    "math": (STDLIB, "import math"),
    "multiprocessing": (STDLIB, "import multiprocessing"),
    "shutil": (STDLIB, "import shutil"),
    "os": (STDLIB, "import os"),
    "resource": (STDLIB, "import resource"),
    "statistics": (STDLIB, "import statistics"),
    "subprocess": (STDLIB, "import subprocess"),
    "time": (STDLIB, "import time"),
    "defaultdict": (STDLIB, "from collections"),
    "Callable": (STDLIB, "from collections.abc"),
    "StringIO": (STDLIB, "from io"),
    "product": (STDLIB, "from itertools"),
    "TemporaryDirectory": (STDLIB, "from tempfile"),
    "save_file": (INSTALLED, "from safetensors.torch"),
    "nn": (INSTALLED, "from torch"),
    "GradScaler": (INSTALLED, "from torch.amp"),
    "AdamW": (INSTALLED, "from torch.optim"),
    "LambdaLR": (INSTALLED, "from torch.optim.lr_scheduler"),
    "load_pretrained": (OWN, "from .model"),
    "Predictor": (OWN, "from .predict"),
    "lowered": (OWN, "from .deploy"),
    "LINEARS": (OWN, "from .deploy"),
    "quantize_aware": (OWN, "from ."),
    "merge": (OWN, "from .model"),
    **{
        name: (OWN, "from .data")
        for name in (
            "DataError",
            "MAX_TOKENS",
            "PAD",
            "Quarantine",
            "Split",
            "batch_of",
            "encode",
            "epoch_order",
            "read",
            "split_of",
            "tokenizer",
        )
    },
    **{
        name: (OWN, "from .train")
        for name in (
            "CLASS_WEIGHTS",
            "STAGES",
            "DEVICE",
            "LABEL_SMOOTHING",
            "keep",
            "keep_memory",
            "LR",
            "FocalLoss",
            "StandardisedError",
            "make_criterion",
            "make_optimizer",
            "set_up_cuda",
            "step",
            "training_mode",
        )
    },
}


# The same where training learns from a teacher.
TAUGHT: Mapping[str, tuple[int, str]] = {
    "teacher": (OWN, "from ."),
    "ask": (OWN, "from .train"),
    "make_projections": (OWN, "from .train"),
}
# The same where the head reads what features.py makes.
FEATURES: Mapping[str, tuple[int, str]] = {
    **{
        name: (OWN, "from .features") for name in ("FILE", "columns_of", "fit", "write")
    },
    "pixels": (OWN, "from .data"),
}


@dataclass(frozen=True)
class BenchView:
    """All that bench.py.j2 reads. Strings of code are marked as such."""

    package: str
    program: str
    kept_in: str  # code: the argument that says where rows are kept
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    calibrated: bool  # predict.py reads what calibrate.py writes
    # Prose of the docstring
    about: str
    of_tokens: str
    floor: str
    forward_formula: str
    rest_formula: str
    backward_formula: str
    memory_doc: str
    batch_doc: str
    head: str  # code: of the table
    # What is measured
    text: bool
    forward: tuple[int, int, int]
    rest: tuple[int, int, int]  # what a step has of forward
    backward: tuple[int, int, int]
    predict: tuple[int, int, int] | None  # where it is not forward
    coefficients: str  # code: a comment
    longest: int
    rows: int  # of a round
    frozen: tuple[str, ...]
    still: bool  # modules that the spec freezes run in evaluation mode
    weights_help: str  # code
    weights_else: str  # code
    # The package's side
    criterion: str  # code
    their_criterion: str  # code: transformers', which know no focal loss
    step_argument: str  # code
    scaled: bool  # losses are, as those of fp16 have to be
    lessons: str  # code: what a step is told of a teacher, and a comma
    projected: bool  # hidden states are, to the width of the teacher's
    model: str  # code: what a step is given
    whole: str  # code: the same before it is compiled
    kept: bool  # what is frozen has run before
    # Code; of a training in stages the steps are those of one.
    stage: str
    stage_argument: str
    stage_doc: str
    mode: str  # code: what sets the mode of training
    highest: str  # code: the learning rate
    compile: bool
    cuda: bool
    half: str  # code: the type that autocast computes in; "" where it does not
    device: str
    device_name: str  # code
    to_device: str  # code
    cold_to_device: str  # code
    criterion_to_device: str  # code
    targets_to_device: str  # code
    product_kind: str
    product_size: int
    product_options: str  # code
    # transformers' side
    auto: str  # code
    imported: str  # code: a line
    processor_arguments: str  # code
    outputs: int
    sizes: tuple[tuple[str, int | tuple[int, ...]], ...]  # of its configuration
    deployed: bool  # predictions are another model's than the trained one
    static: bool  # which has ranges of inputs
    loaded: str  # code: the model that trains
    merges: bool  # with adapters in the weights
    processor: tuple[tuple[str, str], ...]  # code: sizes that its processor is told
    no_dropout: bool
    attention_dropout: float
    types: bool
    pair: bool
    features: str  # code: what transformers pads
    texts: str  # code
    texts_given: str  # code
    types_asked: str  # code
    beside: bool  # the head reads what features.py makes
    split_of: str  # code: the split of `rows`
    field: str  # code: of a Row
    text_type: str  # code
    joined: str  # code: the texts of some rows as one
    cold_row: str  # code: what predict is given


def render(job: Job) -> str:
    """The source of bench.py, not yet formatted."""
    return fill("bench.py.j2", bench_view(job))


def bench_view(job: Job) -> BenchView:
    recipe, cost = train.train_view(job), describe(job)
    chosen = costliest(job)
    one, number = by_stage(job)[chosen], f"STAGES[{chosen}]"
    staged, cut = len(job.stages) > 0, one.model.cut != ""
    whole = "model.suffix" + (f"_{blocks_before(one.model)}" if staged else "")
    whole = whole if cut else "model"
    plan = job.data.inputs
    text = isinstance(plan, TextPlan)
    types = text and plan.token_types
    pair = text and len(plan.columns) == 2
    cuda, half = job.target.device == "cuda", job.target.half
    consts = job.model.constants
    dropouts = [v for name, v in consts.items() if name.endswith("dropout")]
    batch = "kept.batch(some)" if cut else "batch_of(split, some)"
    beside = job.data.features != FeaturePlan()
    criterion = "make_criterion(split)" if recipe.weighted else recipe.criterion
    auto = (
        "AutoModelForSequenceClassification"
        if text
        else "AutoModelForImageClassification"
    )
    view = BenchView(
        package=job.name,
        kept_in=", args.folder" if data.kept_in_files(job.data) else "",
        deployed=deploy.asked(job),
        merges=merges(job.model),
        static=deploy.static(job),
        loaded=(
            "quantize_aware.prepare(load_pretrained(args.weights))"
            if quantize_aware.asked(job)
            else "load_pretrained(args.weights)"
        ),
        program=f"python -m {job.name}.bench",
        imports=(),
        about=_about(text, job.target.precision, len(added(job)) > 0, beside),
        calibrated=calibrate.asked(job),
        of_tokens=" of T tokens" if text else "",
        floor=_floor(text),
        forward_formula=formula(cost.forward),
        rest_formula=formula(cost.rest),
        backward_formula=formula(cost.backward),
        memory_doc="" if cuda else "; Python, torch and the rows count too",
        batch_doc="largest batch" if text else "first batch",
        head="{'tokens/s':>11}{'padding':>9}" if text else "",
        text=text,
        forward=_coefficients(cost.forward),
        rest=_coefficients(cost.rest),
        backward=_coefficients(cost.backward),
        predict=_coefficients(cost.predict) if merges(job.model) else None,
        coefficients="  # FLOPs of a row: 1, T, T**2" if text else "  # FLOPs of a row",
        longest=_longest(job),
        rows=256,
        frozen=frozen_keys(one),
        still=recipe.still,
        stage=number if staged else "",
        stage_argument=", STAGE" if staged else "",
        stage_doc=_stage_doc(job, chosen) if staged else "",
        mode=(
            f"training_mode(model{', STAGE' if staged else ''})"
            if recipe.still
            else "model.train()"
        ),
        highest="STAGE.lr" if staged else "LR",
        weights_help=(
            f"help={py(recipe.weights_help)}"
            if recipe.weights_else
            else 'required=True, help="the backbone: a file or a folder"'
        ),
        weights_else=recipe.weights_else,
        criterion=criterion,
        their_criterion=(
            recipe.standard if recipe.focal or recipe.standardised else criterion
        ),
        scaled=recipe.scaled,
        lessons=recipe.lessons,
        projected=recipe.projected,
        step_argument=(f"[{batch}]" if recipe.accumulate > 1 else batch),
        model="forward" if recipe.compile else whole,
        whole=whole,
        kept=cut,
        compile=recipe.compile,
        cuda=cuda,
        half=half,
        device=job.target.device,
        device_name="torch.cuda.get_device_name()" if cuda else py("CPU"),
        to_device=".to(DEVICE)" if cuda else "",
        cold_to_device='.to("cuda")' if cuda else "",
        criterion_to_device=".to(DEVICE)" if cuda and recipe.weighted else "",
        targets_to_device=".to(DEVICE, non_blocking=True)" if cuda else "",
        product_kind=f" in {job.target.precision}" if half else "",
        product_size=8192 if cuda else 2048,
        product_options=(", device=DEVICE" if cuda else "")
        + (f", dtype={half}" if half else ""),
        auto=auto,
        imported=data.import_line(
            "from transformers", ["AutoConfig", auto, *["AutoTokenizer"] * text], 84
        ),
        processor_arguments=_processor_arguments(job),
        outputs=len(job.labels),
        sizes=tuple(_sizes(job)),
        processor=(
            tuple(data.processor_sizes(plan))
            if isinstance(plan, ImagePlan) and job.reference.size
            else ()
        ),
        no_dropout=not any(dropouts),
        attention_dropout=float(consts.get("attention_dropout", 0.0)),
        types=types,
        pair=pair,
        features=(
            '{"input_ids": [ids[i] for i in some]'
            + (', "token_type_ids": [kinds[i] for i in some]}' if types else "}")
        ),
        texts=(
            "map(list, zip(*(rows[i].text for i in some.tolist())))"
            if pair
            else "[rows[i].text for i in some.tolist()]"
        ),
        types_asked=', "return_token_type_ids": True' if types else "",
        texts_given="*texts" if pair else "texts",
        beside=beside,
        split_of=(
            "split_of(rows, fit([row.raw for row in rows]))"
            if beside
            else "split_of(rows)"
        ),
        field="text" if text else "image",
        text_type="tuple[str, str]" if pair else "str",
        joined=(
            '(" ".join(a for a, _ in some), " ".join(b for _, b in some))'
            if pair
            else '" ".join(some)'
        ),
        cold_row=_cold_row(job),
    )
    body = fill("partials/bench_body.j2", view)
    return replace(
        view,
        imports=data.imports(
            body,
            {
                **BESIDE,
                **(FEATURES if beside else {}),
                **(calibrate.IMPORT if view.calibrated else {}),
                **(TAUGHT if view.lessons else {}),
            },
        ),
    )


def _about(text: bool, precision: str, adapters: bool, beside: bool) -> str:
    unasked = ["rows in random order"] * text
    unasked += ["the attention dropout of the checkpoint"] + ["fp32"] * (
        precision != "fp32"
    )
    best = ["rows grouped by length"] * text
    best += ["the attention dropout of this job"] + [precision] * (precision != "fp32")
    return _paragraph(
        "Every round takes some batches of an epoch"
        + (", short and long ones alike," if text else "")
        + " and gives their rows to each contender in turn. `transformers, defaults` is "
        f"what its Trainer does unasked: {' and '.join(unasked)}. `transformers, best` "
        f"has {' and '.join(best)}. All have the fused AdamW, clipping, a schedule, the "
        "same other dropout, as many rows in a batch and as many threads. "
        + (
            "Training starts from token ids, prediction from texts."
            if text
            else "Images are decoded in all of it."
        )
        + (" transformers has no adapters: it trains every weight." if adapters else "")
        + f" transformers reads the {'text' if text else 'image'} alone." * beside
    )


def _stage_doc(job: Job, chosen: int) -> str:
    return _paragraph(
        f"Training is that of stage {chosen + 1} of {len(job.stages)}, the one whose steps "
        "take the most memory."
    )


def _floor(text: bool) -> str:
    return _paragraph(
        "The floor is the time that they take"
        + (", without padding," if text else "")
        + " at the rate of a large product, which is measured between the rounds. Medians "
        "are printed, with the quartiles in brackets."
    )


def _paragraph(words: str) -> str:
    return textwrap.fill(words, 88, break_on_hyphens=False)


def formula(flops: Flops) -> str:
    """`296448 + 17694720 T + 7680 T**2`, without what is zero."""
    terms = ((flops.constant, ""), (flops.per_token, " T"), (flops.per_pair, " T**2"))
    shown = [f"{factor:,}{what}" for factor, what in terms if factor]
    return " + ".join(shown) or "0"


def _coefficients(flops: Flops) -> tuple[int, int, int]:
    return flops.constant, flops.per_token, flops.per_pair


def _longest(job: Job) -> int:
    bounds = [d.bound for d in job.model.dims if d.symbol == "T" and d.bound]
    return bounds[0] if bounds else 0


def frozen_keys(job: Job) -> tuple[str, ...]:
    """Parts of the checkpoint's keys that say which parameters are frozen.

    A key up to the last dot at which every parameter under it is frozen too. Beside
    adapters, which transformers does not have, it trains every weight.
    """
    infos = parameters(job)
    if added(job):
        return ()
    frozen = [k for p in infos if p.frozen for k in keys(p.source)]
    trained = [k for p in infos if not p.frozen for k in keys(p.source)]
    found = []
    for key in frozen:
        parts = key.split(".")
        for n in range(1, len(parts) + 1):
            prefix = ".".join(parts[:n]) + ("." if n < len(parts) else "")
            if not any(k.startswith(prefix) for k in trained):
                found.append(prefix)
                break
        else:
            raise ValueError(f"{key} is frozen and trained")
    return tuple(dict.fromkeys(found))


def _sizes(job: Job) -> Iterator[tuple[str, int | tuple[int, ...]]]:
    """Sizes of transformers' model where they are to be others than the checkpoint's."""
    if job.reference.positions:
        yield "max_position_embeddings", job.reference.positions
    if job.reference.size:
        yield "image_size", job.reference.size
    if job.reference.chunked:
        yield "chunk_size_feed_forward", 0


def _processor_arguments(job: Job) -> str:
    plan = job.data.inputs
    if isinstance(plan, TextPlan):
        own = f"[: {len(plan.columns)}]" if job.data.features.columns else ""
        return f"*row{own}, truncation=True, max_length={plan.max_tokens}"
    return "Image.open(row[0])"


def _cold_row(job: Job) -> str:
    """Code: a row of which no column says more than it has to."""
    plan = job.data.inputs
    if isinstance(plan, TextPlan):
        values = [(column, '"A few words."') for column in plan.columns]
    else:
        values = [(plan.column, "str(Path(rows[0].image).resolve())")]
    values += [(column, "None") for column in job.data.features.columns]
    return "{" + ", ".join(f"{py(column)}: {value}" for column, value in values) + "}"
