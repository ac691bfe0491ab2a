"""What prune-ffn and prune-heads share: fewer units of a size in some blocks.

A unit is dropped where it is made, on the rows of some weights, and where it is read, on
the columns of others. What it would have given is then missing, which is what the
reference computes with those columns set to zero. Where a unit of zero weights would give
a constant, its bias, the bias of what reads it takes that up, and the reference has those
weights set to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from generator.errors import GenError, fail
from generator.ir.dims import Dim
from generator.ir.job import Job, KeptList, Module, ParameterDef, inside, parameters
from generator.ir.sources import Checkpoint, Fold, Parameter, Source, Take
from generator.ir.weightmap import WeightMap
from generator.passes.chosen_blocks import further_dim, with_dims

Kept = Mapping[int, Sequence[int]]  # by block: entries of an axis, ascending
# Of a block and a dimension, what is kept of it and a word for it; None for all.
Lists = Callable[[int, Dim], tuple[str, tuple[int, ...]] | None]


@dataclass(frozen=True)
class Constant:
    """In a module, what its units give of a linear's bias alone, and what reads them."""

    made: str  # the linear; each unit gives its bias where its weights are zero
    read: str
    times: int  # as `Fold` has them
    width: int

    def parameters(
        self, module: Module
    ) -> tuple[ParameterDef, ParameterDef, ParameterDef]:
        """The bias that takes it up, and the matrix and the vector that it is of."""
        named = {p.name: p for p in module.parameters}
        return (
            named[f"{self.read}.bias"],
            named[f"{self.read}.weight"],
            named[f"{self.made}.bias"],
        )


def shrink(
    job: Job,
    sizes: Mapping[str, int],
    lists: Lists,
    blocks: Sequence[int],
    constant: Callable[[Module], Constant | None] = lambda module: None,
) -> tuple[Job, WeightMap]:
    """The job with other `sizes` in these blocks, and what `lists` says of each kept.

    `constant` says of a module what the units that go leave behind.
    """
    model, symbols = job.model, {old: old for old in sizes}
    if len(blocks) == len(model.blocks):
        dims = (replace(d, size=sizes.get(d.symbol, d.size)) for d in model.dims)
        model = replace(model, dims=tuple(dims))
    else:
        for old, size in sizes.items():
            model, symbols[old] = further_dim(model, old, size)
    changed: dict[str, Source] = {}
    masked: list[tuple[str, str]] = []
    masked_rows: list[tuple[str, str]] = []
    kept_lists: dict[str, tuple[int, ...]] = {}
    infos = {p.path: p for p in parameters(job)}
    modules: dict[str, Module] = {}
    for number in blocks:
        instance, before = model.blocks[number], len(changed)
        for path, _, module in inside(model, instance):
            path = f"{instance.name}.{path}"
            kept, left = [], constant(module)
            for p in module.parameters:
                of = path + p.name
                for axis, word, index in _cuts(p, number, lists):
                    name = path + word
                    kept_lists[name] = index
                    changed[of] = Take(
                        changed.get(of, Parameter(of)), axis, name, index
                    )
                    key = _uncut(infos[of].source, axis)
                    if key is None:
                        raise _edited(of.rpartition(".")[0])
                    p = replace(p, source=Take(p.source, axis, word))
                    if left and axis == 0 and p.name == f"{left.made}.weight":
                        masked_rows.append((key, name))
                    elif axis == 1 and not left:
                        masked.append((key, name))
                if left and p.name == f"{left.read}.bias":
                    bias, matrix, vector = left.parameters(module)
                    for _, word, index in _cuts(matrix, number, lists):
                        fold = Fold(
                            bias.source,
                            matrix.source,
                            vector.source,
                            left.times,
                            left.width,
                            word,
                        )
                        p = replace(p, source=fold)
                        changed[of] = replace(
                            fold,
                            bias=Parameter(of),
                            matrix=Parameter(path + matrix.name),
                            vector=Parameter(path + vector.name),
                            name=path + word,
                            index=index,
                        )
                kept.append(p)
            modules[module.name] = with_dims(
                replace(module, parameters=tuple(kept)), symbols
            )
        if len(changed) == before:  # its units are of another size than those scored
            raise _edited(instance.name)
    every = (*model.lists, *(KeptList(n, i) for n, i in kept_lists.items()))
    model = replace(model, lists=every).with_modules(modules)
    reference = replace(
        job.reference,
        masked=(*job.reference.masked, *masked),
        masked_rows=(*job.reference.masked_rows, *masked_rows),
    )
    return replace(job, model=model, reference=reference), WeightMap(changed)


def _edited(what: str) -> GenError:
    return fail(
        "G233",
        f"{what} was edited before",
        help="prune first, or leave that block out",
    )


def _cuts(
    p: ParameterDef, number: int, lists: Lists
) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """The axes of a parameter that lose entries, with the word and what is kept."""
    for axis, d in enumerate(p.type.shape):
        if found := lists(number, d):
            yield axis, *found


def _uncut(source: Source, axis: int) -> str | None:
    """The tensor of the checkpoint that a source is, but for what is left out of other
    axes; None where it is something else."""
    while isinstance(source, Take) and source.axis != axis:
        source = source.of
    return source.key if isinstance(source, Checkpoint) else None
