"""An edit: the least important heads of attention are left in the checkpoint.

Where query heads share key heads they go in whole groups. Exact to the reference with
those heads masked.

param out.bias: f32[C] = ckpt "o.bias"       becomes
param out.bias: f32[C] = fold(ckpt "o.bias", ckpt "o.weight", ckpt "v.bias", 1, 32, "heads")

Attention is a mean of values, so that what all values of a head have in common, their
bias, passes it unchanged: a head whose value weights are zero gives that bias, whatever is
attended to. Where values have a bias and the output has one, it takes that up, and a head
is masked to its value bias; elsewhere to zero. This holds in evaluation. In training,
dropout of attention would have scaled what a head passes on, from one row to the next.
"""

from __future__ import annotations

from dataclasses import replace

from generator.errors import fail
from generator.ir.dims import Dim, dim
from generator.ir.job import Job, Module, Op
from generator.ir.weightmap import WeightMap
from generator.passes.shrink import Constant, Kept, shrink

HEADS, GROUPS, WIDTH = "H", "G", "D"


def run(job: Job, *, kept: Kept) -> tuple[Job, WeightMap]:
    """The job with the groups `kept` of each block; without groups, its heads."""
    sizes = job.model.sizes
    (count,) = {len(index) for index in kept.values()}
    groups = sizes.get(GROUPS, sizes[HEADS])
    each, width = sizes[HEADS] // groups, sizes[WIDTH]
    if groups <= count:
        raise fail(
            "G233",
            f"attention has {sizes[HEADS]} heads, not more than {count * each}",
            help=f"keep fewer than {sizes[HEADS]}",
        )
    new = {HEADS: count * each}
    if GROUPS in sizes:
        new[GROUPS] = count

    def lists(block: int, d: Dim) -> tuple[str, tuple[int, ...]] | None:
        if d == dim(HEADS) * dim(WIDTH):
            return "heads", _rows(kept[block], each * width)
        if GROUPS in sizes and d == dim(GROUPS) * dim(WIDTH):
            return "key_heads", _rows(kept[block], width)
        return None

    # From here on the heads do not make up the width, and Config says how wide they are.
    dims = tuple(
        replace(d, name="head_width") if d.symbol == WIDTH else d
        for d in job.model.dims
    )
    job = replace(job, model=replace(job.model, dims=dims))

    def constant(module: Module) -> Constant | None:
        return _value_bias(module, each, width)

    return shrink(job, new, lists, sorted(kept), constant)


def _value_bias(module: Module, each: int, width: int) -> Constant | None:
    """What an attention's heads give whatever they attend to, where its output has a
    bias that can take it up."""
    made = {r.name: op for op in module.ops for r in op.results}
    read = {a: op for op in module.ops for a in op.args}
    names = {p.name for p in module.parameters}
    for op in module.ops:
        if op.kind == "attention":
            value = _back(made, op.args[2])
            out = read[read[op.results[0].name].results[0].name]
            if {f"{value.name}.bias", f"{out.name}.bias"} <= names:
                return Constant(value.name, out.name, each, width)
    return None


def _back(made: dict[str, Op], value: str) -> Op:
    """The operation with parameters that the heads `value` are made by."""
    op = made[value]
    while not op.name:
        op = made[op.args[0]]
    return op


def _rows(kept, width: int) -> tuple[int, ...]:
    return tuple(unit * width + i for unit in kept for i in range(width))
