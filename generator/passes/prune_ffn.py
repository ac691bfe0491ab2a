"""An edit: the least important units of the feed-forwards are left in the checkpoint.

Exact to the reference with those units masked. What a masked unit gave for its bias alone
is not folded into the bias of what reads it: that is exact only where all weights that go
into the unit are zero, as nothing then passes the activation but the bias.
"""

from __future__ import annotations

from generator.errors import fail
from generator.ir.dims import Dim, dim
from generator.ir.job import Job
from generator.ir.weightmap import WeightMap
from generator.passes.shrink import Kept, shrink

HIDDEN = "F"


def run(job: Job, *, kept: Kept) -> tuple[Job, WeightMap]:
    """The job with the units `kept` of each block's feed-forward, as many in each."""
    (size,) = {len(index) for index in kept.values()}
    if job.model.sizes[HIDDEN] <= size:
        raise fail(
            "G233",
            f"the feed-forwards have {job.model.sizes[HIDDEN]} units, not more than {size}",
            help=f"keep fewer than {job.model.sizes[HIDDEN]}",
        )

    def lists(block: int, d: Dim) -> tuple[str, tuple[int, ...]] | None:
        if d != dim(HIDDEN):
            return None
        return "hidden", tuple(kept[block])

    return shrink(job, {HIDDEN: size}, lists, sorted(kept))
