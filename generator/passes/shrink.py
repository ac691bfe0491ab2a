"""What prune-ffn and prune-heads share: fewer units of a size in some blocks.

A unit is dropped where it is made, on the rows of some weights, and where it is read, on
the columns of others. What it would have given is then missing, which is what the
reference computes with those columns set to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from generator.errors import fail
from generator.ir.dims import Dim, Type, dim
from generator.ir.job import (
    Job,
    KeptList,
    Model,
    Module,
    Op,
    ParameterDef,
    Value,
    parameters,
)
from generator.ir.sources import Checkpoint, Parameter, Source, Take
from generator.ir.weightmap import WeightMap

Kept = Mapping[int, Sequence[int]]  # by block: entries of an axis, ascending
# Of a block and a dimension, what is kept of it and a word for it; None for all.
Lists = Callable[[int, Dim], tuple[str, tuple[int, ...]] | None]


def shrink(
    job: Job,
    sizes: Mapping[str, int],
    lists: Lists,
    blocks: Sequence[int],
) -> tuple[Job, WeightMap]:
    """The job with other `sizes` in these blocks, and what `lists` says of each kept."""
    model = job.model
    every = len(blocks) == len(model.blocks)
    symbols = {old: old if every else _free(model, old) for old in sizes}
    changed: dict[str, Source] = {}
    masked: list[tuple[str, str]] = []
    kept_lists: dict[str, tuple[int, ...]] = {}
    infos = {p.path: p for p in parameters(job)}
    modules: dict[str, Module] = {}
    for number in blocks:
        instance = model.blocks[number]
        for module, path in _below(model, instance.module, f"{instance.name}."):
            kept = []
            for p in module.parameters:
                p, taken = _cut(p, number, lists)
                for axis, word, index in taken:
                    name = path + word
                    kept_lists[name] = index
                    whole = changed.get(path + p.name, Parameter(path + p.name))
                    changed[path + p.name] = Take(whole, axis, name, index)
                    source = infos[path + p.name].source
                    if not isinstance(source, Checkpoint):
                        raise fail(
                            "G233",
                            f"{path}{p.name.rpartition('.')[0]} was edited before",
                            help="prune first, or leave that block out",
                        )
                    if axis == 1:
                        masked.append((source.key, name))
                kept.append(p)
            new = {old: dim(symbol) for old, symbol in symbols.items()}
            modules[module.name] = _renamed(
                replace(module, parameters=tuple(kept)), new
            )
    dims = []
    for d in model.dims:
        if d.symbol in sizes and every:
            dims.append(replace(d, size=sizes[d.symbol]))
            continue
        dims.append(d)
        if d.symbol in sizes:
            size = sizes[d.symbol]
            dims.append(
                replace(d, symbol=symbols[d.symbol], size=size, name=f"{d.name}_{size}")
            )
    every_list = (*model.lists, *(KeptList(n, i) for n, i in kept_lists.items()))
    model = replace(model, dims=tuple(dims), lists=every_list).with_modules(modules)
    reference = replace(job.reference, masked=(*job.reference.masked, *masked))
    return replace(job, model=model, reference=reference), WeightMap(changed)


def chosen(job: Job, blocks: Sequence[int] | None) -> tuple[int, ...]:
    """The blocks that an edit is for; all where it names none."""
    count = len(job.model.blocks)
    if blocks is None:
        return tuple(range(count))
    if wrong := [i for i in blocks if i >= count]:
        raise fail(
            "G230",
            f"there is no block {wrong[0]}: the model has {count}, from 0",
            help=f"the last is {count - 1}",
        )
    return tuple(sorted(set(blocks)))


def _below(model: Model, name: str, path: str) -> Iterator[tuple[Module, str]]:
    module = model.by_name[name]
    yield module, path
    for instance in module.instances:
        yield from _below(model, instance.module, f"{path}{instance.name}.")


def _cut(
    p: ParameterDef,
    number: int,
    lists: Lists,
) -> tuple[ParameterDef, list[tuple[int, str, tuple[int, ...]]]]:
    taken = []
    for axis, d in enumerate(p.type.shape):
        if found := lists(number, d):
            word, index = found
            p = replace(p, source=Take(p.source, axis, word))
            taken.append((axis, word, index))
    return p, taken


def _free(model: Model, symbol: str) -> str:
    """A symbol like this one that no dimension has."""
    taken = {d.symbol for d in model.dims}
    number = 2
    while f"{symbol}{number}" in taken:
        number += 1
    return f"{symbol}{number}"


def _renamed(module: Module, new: Mapping[str, Dim]) -> Module:
    """The module with other symbols in all of its types and attributes."""

    def kind(t: Type) -> Type:
        return replace(t, shape=tuple(d.substitute(new) for d in t.shape))

    def value(v: Value) -> Value:
        return replace(v, type=kind(v.type))

    def attr(a):
        if isinstance(a, Dim):
            return a.substitute(new)
        if isinstance(a, tuple):
            return tuple(attr(one) for one in a)
        return a

    def op(o: Op) -> Op:
        attrs = tuple((k, attr(a)) for k, a in o.attrs)
        return replace(o, results=tuple(map(value, o.results)), attrs=attrs)

    return replace(
        module,
        inputs=tuple(map(value, module.inputs)),
        ops=tuple(map(op, module.ops)),
        parameters=tuple(replace(p, type=kind(p.type)) for p in module.parameters),
    )
