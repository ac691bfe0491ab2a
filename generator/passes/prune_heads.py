"""An edit: the least important heads of attention are left in the checkpoint.

Where query heads share key heads they go in whole groups. Exact to the reference with
those heads masked.
"""

from __future__ import annotations

from dataclasses import replace

from generator.errors import fail
from generator.ir.dims import Dim, dim
from generator.ir.job import Job
from generator.ir.weightmap import WeightMap
from generator.passes.shrink import Kept, shrink

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
    return shrink(job, new, lists, sorted(kept))


def _rows(kept, width: int) -> tuple[int, ...]:
    return tuple(unit * width + i for unit in kept for i in range(width))
