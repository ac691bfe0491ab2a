"""Where a model is frozen from its input on, it is cut behind the last frozen block.

sub blocks.0 = Block keys "encoder.layer.{i}." count 6
%x.2 = repeat blocks.0(%x)

becomes, where the embedding and four blocks are frozen,

cut %x.3
sub blocks.0 = Block keys "encoder.layer.{i}." count 4
sub blocks.4 = Block keys "encoder.layer.{i}." count 2
%x.3 = repeat blocks.0(%x)
%x.2 = repeat blocks.4(%x.3)

Where vectors of several blocks are joined, and all that leads to them is frozen, the cut is
what joins them. Nothing up to the cut has a gradient or draws dropout, so that it gives the same for a row
in every epoch: train.py runs it once, and keeps what it gives. The stages of a training
freeze different parts: each has a cut of its own, all in the one model.
"""

from __future__ import annotations

from dataclasses import replace

from generator.ir.cut import CALLS, owned, reaching, trained
from generator.ir.head import classifier
from generator.ir.job import Instance, Job, Model, Module, Op, Value, next_free
from generator.ir.stages import by_stage
from generator.ir.weightmap import WeightMap


def run(job: Job) -> tuple[Job, WeightMap]:
    """Parameters keep their names and values."""
    if job.train.cache == "off":
        return job, WeightMap()
    if not job.stages:
        model, cut = _cut(job, vectors=True)
        return replace(job, model=replace(model, cut=cut)), WeightMap()
    cuts = _of_stages(job, vectors=True)
    if len({len(model.main.types[cut].shape) for model, cut in cuts if cut}) > 1:
        cuts = _of_stages(job, vectors=False)  # what is kept is all of one shape
    stages = tuple(
        replace(plan, cut=cut) for plan, (_, cut) in zip(job.stages, cuts, strict=True)
    )
    return replace(job, model=cuts[-1][0], stages=stages), WeightMap()


def _of_stages(job: Job, vectors: bool) -> list[tuple[Model, str]]:
    """For each stage the model, divided for all up to it, and the value to cut it at."""
    found: list[tuple[Model, str]] = []
    model = job.model
    for one in by_stage(job):
        model, cut = _cut(replace(one, model=model), vectors)
        found.append((model, cut))
    return found


def _cut(job: Job, vectors: bool) -> tuple[Model, str]:
    """The model, perhaps with a repeat as two, and the value to cut it at; "" is none.

    With `vectors` that may be the vectors of several blocks, joined.
    """
    if not job.frozen:
        return job.model, ""
    main, cuts = _divided(job, vectors)
    for cut in reversed(cuts):
        if _is_alone(main, cut):
            return job.model.with_modules({main.name: main}), cut
    return job.model, ""


def _divided(job: Job, vectors: bool) -> tuple[Module, list[str]]:
    """The main module, no call of it frozen in part, and the values to cut it at, the
    last of which has most ahead of it.

    None where the first blocks are not frozen, or what is before them is not.
    """
    main = job.model.main
    cuts: list[str] = []
    found = classifier(job.model)
    joins = found.pool if vectors and found.joined else None
    for op in main.ops:
        paths = owned(main, op)
        frozen = 0
        while frozen < len(paths) and not trained(job, paths[frozen : frozen + 1]):
            frozen += 1
        if op.kind == "repeat" and 0 < frozen < len(paths):
            main, op = _split(main, op, frozen)
            return main, [*cuts, op.results[0].name]
        if frozen < len(paths):
            break
        gives = op.kind in CALLS and main.instance(op.name).depth > 0
        if op == joins or gives and len(op.results[0].type.shape) == 3:
            cuts.append(op.results[0].name)
    return main, cuts


def _split(main: Module, op: Op, count: int) -> tuple[Module, Op]:
    """A repeat as two, of which the first, which is given too, has `count` members."""
    whole = main.instance(op.name)
    first, last = _members(whole, 0, count), _members(whole, count, whole.count)
    result = op.results[0]
    middle = Value(next_free(result.name, main.types), result.type)
    before = replace(op, kind=_kind(first), results=(middle,))
    args = (middle.name, *op.args[1:])
    after = replace(op, kind=_kind(last), name=last.name, args=args)
    at, where = main.instances.index(whole), main.ops.index(op)
    instances = (*main.instances[:at], first, last, *main.instances[at + 1 :])
    ops = (*main.ops[:where], before, after, *main.ops[where + 1 :])
    return replace(main, instances=instances, ops=ops), before


def _members(whole: Instance, start: int, stop: int) -> Instance:
    """Some in a row of those that an instance stands for."""
    name, keys, depth = list(whole.each())[start]
    if stop - start > 1:
        keys = whole.keys
    return replace(whole, name=name, keys=keys, depth=depth, count=stop - start)


def _kind(instance: Instance) -> str:
    return "repeat" if instance.count > 1 else "call"


def _is_alone(main: Module, cut: str) -> bool:
    """Whether nothing with parameters is on both sides of the cut."""
    before, after = reaching(main, (cut,)), reaching(main, main.outputs, cut)
    return not any(op in before and owned(main, op) for op in after)
