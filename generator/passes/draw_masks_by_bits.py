"""On a processor, dropout draws 16 random bits an element, four elements at a time.

There the drawing is nearly all of what `nn.Dropout` costs, a tenth of a step of a small
encoder; the chance to be dropped becomes the nearest of 65,536 steps. What a GPU or a
compiler draws by itself, inside the operation, stays theirs.
"""

from __future__ import annotations

from dataclasses import replace

from generator.ir.job import Const, Job, Model, Op
from generator.ir.weightmap import WeightMap

BITS = 16


def run(job: Job) -> tuple[Job, WeightMap]:
    if job.target.device != "cpu" or job.target.compile:
        return job, WeightMap()
    model = job.model
    changed = {
        module.name: replace(module, ops=tuple(_drawn(model, op) for op in module.ops))
        for module in model.modules
    }
    return replace(job, model=model.with_modules(changed)), WeightMap()


def _drawn(model: Model, op: Op) -> Op:
    if op.kind != "dropout" or "bits" in op.attrs_dict:
        return op
    p = op.attrs_dict["p"]
    chance = model.constants[p.name] if isinstance(p, Const) else p
    assert isinstance(chance, (int, float))
    # One that rounds to never or to always is no matter of drawing.
    if not 0 < round(2**BITS * chance) < 2**BITS:
        return op
    return replace(op, attrs=tuple(sorted([*op.attrs, ("bits", BITS)])))
