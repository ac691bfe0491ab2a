"""Which parts of a job's model are kept as whole numbers, where [deploy] has it so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from generator.ir.dims import Dim
from generator.ir.emit import parameter_types
from generator.ir.job import Job, Model, Module, parameters
from generator.ir.ops import ADAPTED, merges
from generator.ir.plans import DeployPlan
from generator.ir.sources import Tie
from generator.ir.stages import covers

FEWEST = 8  # inputs and outputs of a linear whose product is worth it
LONGEST = 1024  # rows that a table must have for its room to matter
# What names of tensors end in that merging leaves without a use.
ADAPTER_PARTS = (".lora_a", ".lora_b", ".magnitude", ".gain")


@dataclass(frozen=True)
class Matrix:
    """A weight of the whole model, by the path of the layer that has it."""

    name: str
    kind: str  # of the operation that reads it
    rows: int
    columns: int
    bias: bool


def linears(job: Job) -> tuple[Matrix, ...]:
    """The linears of the blocks that are rounded. The head reads one vector of a row, and
    would gain nothing."""
    blocks = [block for one in job.model.blocks for block, *_ in one.each()]
    return tuple(
        one
        for one in matrices(job.model)
        if one.kind != "embedding"
        and covers(blocks, one.name)
        and not covers(job.deploy.leave, one.name)
        and min(one.rows, one.columns) >= FEWEST
    )


def tables(job: Job) -> tuple[Matrix, ...]:
    """The tables of vectors that are rounded."""
    return tuple(
        one
        for one in matrices(job.model)
        if one.kind == "embedding"
        and not covers(job.deploy.leave, one.name)
        and one.rows >= LONGEST
    )


def left(job: Job, rounded: Sequence[str]) -> list[str]:
    """The names of linears with adapters in them, beside those that are rounded."""
    return [
        one.name
        for one in matrices(job.model)
        if one.kind in ADAPTED and one.name not in rounded
    ]


def weight_bytes(job: Job) -> int:
    """Of the tensors that the model that predicts has."""
    merged = ADAPTER_PARTS if merges(job.model) and job.deploy.lowered else ()
    kept = [
        p
        for p in parameters(job)
        if not (p.path.endswith(merged) or isinstance(p.source, Tie))
    ]
    count = sum(prod(p.shape) for p in kept)
    if job.deploy.precision == "bf16":
        return 2 * count
    total = 4 * count
    if job.deploy.quantize == "none":
        return total
    for one in linears(job):
        total += rounded_bytes(one, job.deploy) - 4 * one.rows * one.columns
    return total - sum(one.rows * (3 * one.columns - 4) for one in tables(job))


def rounded_bytes(one: Matrix, plan: DeployPlan) -> int:
    """Of the weight of a linear that is rounded, with its steps."""
    inputs = 8 if plan.static else 0  # their least and their largest
    if group := plan.grouped:  # of which the last may be filled up
        room = group // 2 if plan.quantize == "int4-weights" else group
        return inputs + one.rows * -(-one.columns // group) * (room + 4)
    return inputs + one.rows * (one.columns + 4)


def matrices(model: Model) -> Iterator[Matrix]:
    """Every linear and every table of vectors, in the order of the state dict."""

    def walk(module: Module, path: str, scope: Mapping[str, Dim]) -> Iterator[Matrix]:
        for op in module.ops:
            if op.kind in ("linear", "embedding", *ADAPTED):
                types = parameter_types(module.parameters, op.name)
                rows, columns = types["weight"].substitute(scope).sizes(model.sizes)
                yield Matrix(path + op.name, op.kind, rows, columns, "bias" in types)
        for instance in module.instances:
            inner = model.by_name[instance.module]
            for name, *_ in instance.each():
                yield from walk(inner, f"{path}{name}.", instance.within(scope))

    yield from walk(model.main, "", {})
