"""A regression whose last layer answers in standard deviations of its targets.

%_.2: f32[B,K] = linear label(%_.1)              becomes
%_.2: f32[B,K] = linear label(%_.1)
%_.3: f32[B,K] = rescale(%_.2)

What it multiplies by and adds are 1 and 0 until training sets them, so that it is exact
then. They are no parameters: what came with the checkpoint is loaded as before.
"""

from __future__ import annotations

from dataclasses import replace

from generator.ir.emit import Emitter
from generator.ir.head import classifier
from generator.ir.job import Attr, Job
from generator.ir.sources import Init
from generator.ir.weightmap import WeightMap

PLACE = "train.standardise"


def run(job: Job) -> tuple[Job, WeightMap]:
    """The job with its answers brought to the units of the targets.

    A last layer of the checkpoint answers in those units already: it is `taken_over`, and
    changed by as much when they are set.
    """
    model, found = job.model, classifier(job.model)
    sources = {p.name: p.source for p in found.module.parameters}
    taken = not isinstance(sources[f"{found.label.name}.weight"], Init)
    attrs: dict[str, Attr] = {"taken_over": True} if taken else {}
    emitter = Emitter(model, found.module, model.by_name)
    for op in found.module.ops:
        emitter.put(op, op.args)
    answers = found.label.results[0].name
    module = emitter.done([emitter.new("rescale", [answers], "_", PLACE, **attrs)])
    model = model.with_modules({module.name: module})
    return replace(job, model=model), WeightMap()
