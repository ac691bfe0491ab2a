"""Of the numbers that feed the head some stay, and the head reads no others.

%_.3: f32[B,K] = linear label(%_.2)              becomes
%_.3: f32[B,W] = select(%_.2) by="features" width=#W
%_.4: f32[B,K] = linear label(%_.3)

Where the numbers come from a dense layer of the checkpoint, and what is behind it treats
each alone, the rows of the others are left out of it instead, and nothing is selected:

param pool.weight: f32[C,C] = ckpt "pool.weight"  becomes
param pool.weight: f32[W,C] = take(ckpt "pool.weight", 0, "features")

Exact: the model with all numbers and a head whose weights are zero for the others. Before
that layer a norm or a mean of squares reads all channels, so that none can be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from generator.errors import fail
from generator.ir.dims import Type, dim
from generator.ir.emit import Emitter
from generator.ir.head import SELECTED, Classifier, classifier, reader, vector
from generator.ir.job import DimDef, Job, KeptList, Module, Op, ParameterDef
from generator.ir.sources import Init, Parameter, Source, Take, keys
from generator.ir.weightmap import WeightMap

NAME = "features"  # of the list of those that stay
PLACE = "features.select.by"


def run(job: Job, *, kept: Sequence[int], cuts: bool = True) -> tuple[Job, WeightMap]:
    """The job whose head reads the numbers `kept` of its vector, ascending.

    With `cuts` a dense layer may lose rows. Where something will join the vector the head
    is ours alone, and is compared with one that reads all of what that layer gives.
    """
    index, model = tuple(kept), job.model
    found = classifier(model)
    value, read = vector(found), reader(found)
    total = found.module.types[value].shape[-1].value(model.sizes)
    if not 0 < len(index) < total:
        raise fail(
            "G391",
            f"the head reads {total} numbers, of which {len(index)} are to stay",
            help=f"keep = {max(1, total // 3)}, or any other below {total}",
        )
    dense = _dense(found, value) if cuts and not job.reference.head else None
    new = DimDef(SELECTED, len(index), "features", doc="selected features")
    model = replace(
        model,
        dims=(*model.dims, new),
        lists=(*model.lists, KeptList(NAME, index)),
    )
    axes = {f"{read.name}.weight": 1}
    if dense is not None:
        axes |= {f"{dense.name}.weight": 0, f"{dense.name}.bias": 0}
    parameters = tuple(
        _cut(p, axes[p.name]) if p.name in axes else p for p in found.module.parameters
    )
    emitter = Emitter(
        model, replace(found.module, parameters=parameters), model.by_name
    )
    module = _written(emitter, found, "" if dense else value)
    changed, masked = _weights(found, index, axes, read)
    reference = replace(job.reference, masked=(*job.reference.masked, *masked))
    model = model.with_modules({module.name: module})
    return replace(job, model=model, reference=reference), WeightMap(changed)


def _dense(found: Classifier, value: str) -> Op | None:
    """The linear layer that alone makes the vector, of which rows can be left out."""
    if found.joined:
        return None
    made = {r.name: op for op in found.module.ops for r in op.results}
    op = made[value]
    while op.kind == "activation":
        op = made[op.args[0]]
    linear = op.kind == "linear" and op.args == (found.pool.results[0].name,)
    return op if linear else None


def _cut(p: ParameterDef, axis: int) -> ParameterDef:
    shape = (*p.type.shape[:axis], dim(SELECTED), *p.type.shape[axis + 1 :])
    source = p.source if isinstance(p.source, Init) else Take(p.source, axis, NAME)
    return replace(p, type=Type(p.type.dtype, shape), source=source)


def _written(emitter: Emitter, found: Classifier, value: str) -> Module:
    """The module again; behind `value`, if that is one, with the selection of it."""
    names = {v.name: v.name for v in found.module.inputs}

    def select(given: Iterable[str]) -> None:
        if value in given:
            names[value] = emitter.new(
                "select", [names[value]], "_", PLACE, by=NAME, width=dim(SELECTED)
            )

    select([*names])
    for op in found.module.ops:
        emitted = emitter.put(op, [names[a] for a in op.args])
        results = [r.name for r in op.results]
        names |= zip(results, emitted, strict=True)
        select(results)
    return emitter.done([names[o] for o in found.module.outputs])


def _weights(
    found: Classifier, index: tuple[int, ...], axes: dict[str, int], read: Op
) -> tuple[dict[str, Source], list[tuple[str, str]]]:
    """What the parameters are of those before, and matrices of the reference that have
    zeros in the other columns."""
    changed: dict[str, Source] = {}
    masked: list[tuple[str, str]] = []
    for p in found.module.parameters:
        if p.name not in axes:
            continue
        path = f"{found.call.name}.{p.name}"
        if isinstance(p.source, Init):
            changed[path] = p.source
            continue
        changed[path] = Take(Parameter(path), axes[p.name], NAME, index)
        if p.name == f"{read.name}.weight":
            (key,) = keys(p.source)
            masked.append((key, NAME))
    return changed, masked
