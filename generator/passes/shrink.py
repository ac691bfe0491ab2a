"""What prune-ffn and prune-heads share: fewer units of a size in some blocks.

A unit is dropped where it is made, on the rows of some weights, and where it is read, on
the columns of others. What it would have given is then missing, which is what the
reference computes with those columns set to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from generator.errors import GenError, fail
from generator.ir.dims import Dim
from generator.ir.job import Job, KeptList, Module, ParameterDef, parameters
from generator.ir.sources import Checkpoint, Parameter, Source, Take
from generator.ir.weightmap import WeightMap
from generator.passes.chosen_blocks import further_dim, inside, with_dims

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
    model, symbols = job.model, {old: old for old in sizes}
    if len(blocks) == len(model.blocks):
        dims = (replace(d, size=sizes.get(d.symbol, d.size)) for d in model.dims)
        model = replace(model, dims=tuple(dims))
    else:
        for old, size in sizes.items():
            model, symbols[old] = further_dim(model, old, size)
    changed: dict[str, Source] = {}
    masked: list[tuple[str, str]] = []
    kept_lists: dict[str, tuple[int, ...]] = {}
    infos = {p.path: p for p in parameters(job)}
    modules: dict[str, Module] = {}
    for number in blocks:
        instance, before = model.blocks[number], len(masked)
        for path, _, module in inside(model, instance):
            path = f"{instance.name}.{path}"
            kept = []
            for p in module.parameters:
                p, taken = _cut(p, number, lists)
                for axis, word, index in taken:
                    name, of = path + word, path + p.name
                    kept_lists[name] = index
                    changed[of] = Take(
                        changed.get(of, Parameter(of)), axis, name, index
                    )
                    source = infos[of].source
                    if not isinstance(source, Checkpoint):
                        raise _edited(of.rpartition(".")[0])
                    if axis == 1:
                        masked.append((source.key, name))
                kept.append(p)
            modules[module.name] = with_dims(
                replace(module, parameters=tuple(kept)), symbols
            )
        if len(masked) == before:  # its units are of another size than those scored
            raise _edited(instance.name)
    every = (*model.lists, *(KeptList(n, i) for n, i in kept_lists.items()))
    model = replace(model, lists=every).with_modules(modules)
    reference = replace(job.reference, masked=(*job.reference.masked, *masked))
    return replace(job, model=model, reference=reference), WeightMap(changed)


def _edited(what: str) -> GenError:
    return fail(
        "G233",
        f"{what} was edited before",
        help="prune first, or leave that block out",
    )


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
