"""deploy.py of a package: the view of its template, and the text.

There is such a file only where [deploy] asks for another model than the trained one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from generator.ir.deploy import ADAPTER_PARTS, Matrix, left, linears, tables
from generator.ir.head import units
from generator.ir.job import Job
from generator.ir.ops import merges
from generator.ir.plans import FeaturePlan, ImagePlan
from generator.render import calibrate, data, guard
from generator.render.text import fill, py

FILE = "deploy.py"
WHAT = {
    "int8": "its linears multiply whole numbers of eight bits",
    "int8-static": "its linears multiply whole numbers in fixed steps",
    "int8-weights": "the weights of its linears have eight bits",
    "int4-weights": "the weights of its linears have four bits",
    "bf16": "its weights are rounded to bfloat16",
}
BESIDE = {
    "redirect_stderr": (data.STDLIB, "from contextlib"),
    "statistics": (data.STDLIB, "import statistics"),
    "time": (data.STDLIB, "import time"),
    "TemporaryDirectory": (data.STDLIB, "from tempfile"),
    "F": (data.INSTALLED, "import torch.nn.functional as F"),
    "nn": (data.INSTALLED, "from torch"),
    "merge": (data.OWN, "from .model"),
    "digest": (data.OWN, "from .train"),
    "measure": (data.OWN, "from .train"),
    "save": (data.OWN, "from .train"),
    "DEVICE": (data.OWN, "from .train"),
}


# What quantize_aware.py has where training rounds, and deploy.py elsewhere.
ROUNDING = (
    *("LINEARS", "TABLES", "GROUP", "SMALLEST", "Ranges", "write_ranges"),
    *("rounded", "halved", "grouped", "multiplied", "steps_of", "in_steps"),
)


@dataclass(frozen=True)
class DeployView:
    """All that deploy.py.j2 and its partials read. Strings of code are marked as such."""

    name: str
    program: str
    work: str
    kind: str
    what: str  # prose
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    linears: tuple[str, ...]  # code: lines of the tuple of their names
    tables: tuple[str, ...]
    units: tuple[str, ...]  # names of tensors that stay as they are in bfloat16
    scale: str  # code: what of a model a regression's loss is measured in; "" for 1
    plain: tuple[str, ...]  # code: of the names of linears that merging makes plain
    parts: str  # code: all names of what is rounded to whole numbers
    adapters: tuple[str, ...]  # ends of names of tensors
    linear: str  # code: the class
    linear_partial: str
    rounding: tuple[str, ...]  # partials of functions that round what linears have
    aware_rounding: tuple[str, ...]  # the same, where quantize_aware.py has them
    aware_classes: str  # code: of the layers in it
    aware_parts: str  # code: what of the model is rounded
    round_linear: str  # code: the function
    group: int  # 0 where rows have one step
    bias: str  # "all", "some" or "none" of the linears
    whole: bool  # whole numbers rather than another type
    rounds: bool  # of eight bits
    packs: bool
    quick: bool  # it is meant to be faster
    merges: bool
    cuda: bool
    autocast: str  # code: the type that it computes in; "" where it does not
    device: str
    inputs: str  # code
    home: str  # code: back from the device
    where: str  # code: words of what it is measured on
    casts: bool  # inputs are numbers too
    angles: bool  # tables of them are to be in the type of the weights
    timed: int
    inspecting: str  # code: what leaves out rows as in training; "" where nothing does
    calibrated: bool  # calibrate.py says how its logits become answers
    exported: bool  # export.py has rounded linears of its own
    letter: str  # of how many numbers a row gets
    regression: bool
    multi_label: bool
    static: bool  # inputs are rounded by ranges that are known beforehand
    range: str  # what chooses them
    calibration_rows: int  # training rows that it looks at
    aware: bool  # quantize_aware.py has what is rounded, and how
    waits: bool  # training rounds from a step on that is not the first


def asked(job: Job) -> bool:
    """Whether the model that predicts is another than the trained one."""
    return job.deploy.lowered


def parts(job: Job) -> list[str]:
    """The names of the tuples of what is rounded to whole numbers."""
    if job.deploy.quantize == "none":
        return []
    both = (("LINEARS", linears(job)), ("TABLES", tables(job)))
    return [name for name, some in both if some]


def static(job: Job) -> bool:
    """Whether inputs of linears are rounded by ranges that are known beforehand."""
    return job.deploy.static and bool(linears(job))


def trained_in(job: Job) -> str:
    """The module that reads what training wrote."""
    return "deploy" if asked(job) else "predict"


def exported_as_products(job: Job) -> bool:
    """Whether export.py writes products of whole numbers for other programs."""
    graphs = any(kind != "transformers" for kind in job.export.to)
    return graphs and job.deploy.quantize == "int8"


def kind(job: Job) -> str:
    """What the deployed model is kept in."""
    plan = job.deploy
    return plan.quantize if plan.quantize != "none" else plan.precision


def biased(some: Sequence[Matrix]) -> Literal["all", "some", "none"]:
    """Which linears have a bias."""
    biases = {one.bias for one in some}
    return "some" if len(biases) > 1 else "all" if True in biases else "none"


def deployed_as(job: Job) -> str:
    """What the model that predicts is, in words; "" where it is the trained one."""
    return WHAT[kind(job)] if asked(job) else ""


def render(job: Job) -> str:
    """The source of deploy.py, not yet formatted."""
    view = deploy_view(job)
    body = fill("partials/deploy_body.j2", view)
    beside = {name: (data.OWN, "from .data") for name in data.names(job)}
    beside |= {**calibrate.IMPORT, **guard.IMPORT}
    found = data.imports(body, {**beside, **BESIDE, **rounding(job)})
    return fill("deploy.py.j2", replace(view, imports=found))


def rounding(job: Job) -> Mapping[str, tuple[int, str]]:
    """Where names of what is rounded and how come from, if not from deploy.py."""
    if not job.deploy.quantize_aware:
        return {}
    return dict.fromkeys(ROUNDING, (data.OWN, "from .quantize_aware"))


def deploy_view(job: Job) -> DeployView:
    plan = job.deploy
    whole, four = plan.quantize != "none", plan.quantize == "int4-weights"
    cuda, images = job.target.device == "cuda", isinstance(job.data.inputs, ImagePlan)
    rounded, table = (linears(job), tables(job)) if whole else ((), ())
    group = plan.grouped if rounded else 0
    rounding_partials = (_rounding(plan.quantize),) if group or static(job) else ()
    names = parts(job)
    return DeployView(
        name=job.name,
        program=f"python -m {job.name}.deploy",
        work=f"runs/{job.name}",
        kind=kind(job),
        what=WHAT[kind(job)],
        imports=(),
        linears=tuple(_lines([one.name for one in rounded])),
        tables=tuple(one.name for one in table),
        units=() if whole else units(job.model),
        scale=next(iter(units(job.model)), ""),
        plain=tuple(_lines(left(job, [one.name for one in rounded]))),
        parts=(
            "*" + ", *".join(names)
            if len(names) > 1
            else f"*{names[0]}," if names else ""
        ),
        adapters=ADAPTER_PARTS if merges(job.model) else (),
        linear="Int4Linear" if four else "Int8Linear",
        linear_partial=f"partials/deploy_{plan.quantize.replace('-', '_')}.j2",
        rounding=() if plan.quantize_aware else rounding_partials,
        aware_rounding=rounding_partials,
        aware_parts=", ".join([*names, *["GROUP"] * (group > 0)]),
        aware_classes=" | ".join(
            name
            for name, some in (("AwareLinear", rounded), ("AwareTable", table))
            if some
        ),
        round_linear="halved" if four else "grouped" if group else "rounded",
        group=group,
        bias=biased(rounded),
        whole=whole,
        rounds=bool(table) or whole and not group and not four,
        packs=plan.quantize in ("int8", "int8-static") and bool(rounded),
        quick=plan.quick,
        merges=merges(job.model),
        cuda=cuda,
        autocast=job.target.half if whole else "",
        device=job.target.device,
        inputs="inputs" if cuda else "batch.inputs",
        home=".cpu()" if cuda else "",
        where=(
            "torch.cuda.get_device_name()"
            if cuda
            else 'f"{torch.get_num_threads()} threads"'
        ),
        casts=not whole and (images or job.data.features != FeaturePlan()),
        angles=not whole
        and any(op.kind == "rope_tables" for m in job.model.modules for op in m.ops),
        timed=64 if images else 256,
        inspecting=guard.as_in_training(job, "args.work"),
        calibrated=calibrate.asked(job),
        exported=len(rounded) > 0 and exported_as_products(job),
        letter="K" if job.task != "regression" else "targets",
        regression=job.task == "regression",
        multi_label=job.task == "multi-label",
        static=static(job),
        range=plan.range,
        calibration_rows=plan.calibration_rows,
        aware=plan.quantize_aware,
        waits=plan.quantize_after > 0 or static(job),
    )


def _rounding(quantize: str) -> str:
    """The partial of the functions that round."""
    return {
        "int8-static": "partials/deploy_static.j2",
        "int8-weights": "partials/deploy_grouped.j2",
        "int4-weights": "partials/deploy_halved.j2",
    }[quantize]


def _lines(names: Sequence[str]) -> Iterator[str]:
    """Names as items of a tuple in code, those of equal blocks in a row at once."""
    parts = [_parted(name) for name in names]
    by_block = [(key, [p for *_, p in some]) for key, some in groupby(parts, _block)]
    runs: list[tuple[str, list[int], list[str]]] = []
    for (stem, number), own in by_block:
        if runs and number >= 0 and runs[-1][0] == stem and runs[-1][2] == own:
            runs[-1][1].append(number)
        else:
            runs.append((stem, [number], own))
    for stem, numbers, own in runs:
        if numbers == [-1]:
            yield from map(py, own)
        elif len(numbers) == 1:
            yield from (py(f"{stem}.{numbers[0]}.{part}") for part in own)
        else:
            blocks = (
                f"range({numbers[0]}, {numbers[-1] + 1})"
                if numbers == [*range(numbers[0], numbers[-1] + 1)]
                else py(tuple(numbers))
            ).replace("range(0, ", "range(")
            yield f'*(f"{stem}.{{i}}.{{part}}" for i in {blocks} for part in {py(tuple(own))})'


def _parted(name: str) -> tuple[str, int, str]:
    """The list that a name's block is in, its number there, and the rest of the name."""
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), -1)
    if at < 0:
        return "", -1, name
    return ".".join(parts[:at]), int(parts[at]), ".".join(parts[at + 1 :])


def _block(parted: tuple[str, int, str]) -> tuple[str, int]:
    return parted[:2]
