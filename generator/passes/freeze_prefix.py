"""Where a model is frozen from its input on, it is cut behind the last frozen block.

sub blocks.0 = Block keys "encoder.layer.{i}." count 6
%x.2 = repeat blocks.0(%x)

becomes, where the embedding and four blocks are frozen,

cut %x.3
sub blocks.0 = Block keys "encoder.layer.{i}." count 4
sub blocks.4 = Block keys "encoder.layer.{i}." count 2
%x.3 = repeat blocks.0(%x)
%x.2 = repeat blocks.4(%x.3)

Nothing up to the cut has a gradient or draws dropout, so that it gives the same for a row
in every epoch: train.py runs it once, and keeps what it gives. The stages of a training
freeze different parts: each has a cut of its own, all in the one model.
"""

from __future__ import annotations

from dataclasses import replace

from generator.ir.cut import CALLS, owned, reaching, trained
from generator.ir.job import Instance, Job, Model, Module, Op, Value, next_free
from generator.ir.stages import by_stage
from generator.ir.weightmap import WeightMap


def run(job: Job) -> tuple[Job, WeightMap]:
    """Parameters keep their names and values."""
    if job.train.cache == "off":
        return job, WeightMap()
    if not job.stages:
        model, cut = _cut(job)
        return replace(job, model=replace(model, cut=cut)), WeightMap()
    model, stages = job.model, []
    for plan, one in zip(job.stages, by_stage(job), strict=True):
        model, cut = _cut(replace(one, model=model))
        stages.append(replace(plan, cut=cut))
    return replace(job, model=model, stages=tuple(stages)), WeightMap()


def _cut(job: Job) -> tuple[Model, str]:
    """The model, perhaps with a repeat as two, and the value to cut it at; "" is none."""
    if not job.frozen:
        return job.model, ""
    main, cut = _divided(job)
    if not _is_alone(main, cut):
        return job.model, ""
    return job.model.with_modules({main.name: main}), cut


def _divided(job: Job) -> tuple[Module, str]:
    """The main module, no call of it frozen in part, and the value to cut it at.

    "" is no value: the first blocks are not frozen, or what is before them is not.
    """
    main, cut = job.model.main, ""
    for op in main.ops:
        paths = owned(main, op)
        frozen = 0
        while frozen < len(paths) and not trained(job, paths[frozen : frozen + 1]):
            frozen += 1
        if op.kind == "repeat" and 0 < frozen < len(paths):
            main, op = _split(main, op, frozen)
            return main, op.results[0].name
        if frozen < len(paths):
            break
        if op.kind in CALLS and main.instance(op.name).depth > 0:
            cut = op.results[0].name
    return main, cut


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
    if not cut or len(main.types[cut].shape) != 3:
        return False
    before, after = reaching(main, (cut,)), reaching(main, main.outputs, cut)
    return not any(op in before and owned(main, op) for op in after)
