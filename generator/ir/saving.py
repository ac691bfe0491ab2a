"""Where the tensors of a checkpoint are in a trained model: its sources, read backwards.

A checkpoint that is saved anew has what was kept of it under its old names, and new
layers under the names that the plan of the export gives them. Blocks have the numbers
that they have here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from generator.ir.job import Job, Model, ParameterInfo, added, walk_parameters
from generator.ir.sources import (
    Checkpoint,
    Concatenate,
    Fold,
    Gain,
    Init,
    Left,
    Noise,
    Repeat,
    Resize,
    Right,
    Row,
    Shape,
    Share,
    Source,
    Stretch,
    Take,
    Tie,
    Tile,
    factors,
    shape_of,
)


class Unsaveable(ValueError):
    """A parameter that no tensor of such a checkpoint could hold; the message says why."""


@dataclass(frozen=True)
class Stored:
    """A parameter, and the tensors that it is in a checkpoint, joined along the first axis.

    `rows` are those of each. With `tables` it is a row of a table, and that perhaps of
    another: the row's number and how many there are, innermost first.
    """

    path: str
    keys: tuple[str, ...]
    rows: tuple[int, ...]
    tables: tuple[tuple[int, int], ...] = ()
    reduced: str = ""  # the path of the right factor, where it is a left one

    def shapes(self, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
        """The tensors with their shapes, by those of the parameters."""
        for key, rows in zip(self.keys, self.rows, strict=True):
            shape = (rows, *shapes[self.path][1:])
            if self.reduced:
                shape = (rows, shapes[self.reduced][1])
            for _, count in self.tables:
                shape = (count, *shape)
            yield key, shape


def stored(job: Job) -> tuple[Stored, ...]:
    """Every parameter that is left once adapters are merged into the weights.

    Unsaveable where one has no name there, or is something else than a whole tensor.
    """
    shapes = {t.key: t.shape for t in job.model.tensors}
    brought = {p.path for p in added(job)}
    named = {p.path: p for p in walk_parameters(_numbered(job.model))}
    found: list[Stored] = []
    right: dict[tuple[Source, int], str] = (
        {}
    )  # paths of right factors, by their product
    for info in walk_parameters(job.model):
        for made in factors(info.source):
            if isinstance(made, Right):
                right[made.of, made.rank] = info.path
    for info in walk_parameters(job.model):
        if info.path in {*brought, *right.values()} or isinstance(info.source, Tie):
            continue
        source = named[info.path].source
        one = Stored(
            info.path, *_parts(job, info, source, shapes), _tables(info, shapes)
        )
        for made in factors(info.source):
            one = replace(one, reduced=right[made.of, made.rank])
        found.append(one)
    keys = [key for one in found for key in one.keys]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise Unsaveable(f"two parameters are read from {twice[0]}")
    return tuple(found)


def _numbered(model: Model) -> Model:
    """The model with keys that have its own numbers of blocks, and no copies."""
    blocks = {block.name for block in model.blocks}

    def named(instance):
        if instance.name not in blocks:
            return instance
        keys, number = instance.keys, instance.name.rpartition(".")[2]
        if "{i}" not in keys:  # the last number in the keys of a block is its own
            keys = re.sub(r"\d+(?=\D*$)", number, keys)
        return replace(instance, keys=keys, zeros=())

    main = model.main
    instances = tuple(named(i) for i in main.instances)
    return model.with_modules({main.name: replace(main, instances=instances)})


def _parts(
    job: Job, info: ParameterInfo, named: Source, shapes: Mapping[str, Shape]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The keys of a parameter's tensors, and the rows of each."""
    match named:
        case Init():
            layer, _, part = info.path.rpartition(".")
            heads = dict(job.export.heads)
            if layer not in heads:
                raise Unsaveable(f"{info.path} is of a layer that it does not have")
            return (f"{heads[layer]}.{part}",), (info.shape[0],)
        case Concatenate(parts):
            # A copy starts from zeros: its tensors are as long as those of the original.
            of = info.source if isinstance(info.source, Concatenate) else named
            rows = tuple(shape_of(p, shapes, info.shape)[0] for p in of.parts)
            return tuple(_key(job, info, part) for part in parts), rows
    return (_key(job, info, named),), (info.shape[0],)


def _key(job: Job, info: ParameterInfo, source: Source) -> str:
    """The one tensor that a source is made of, under its name."""
    match source:
        case Checkpoint(key):
            base, heads = job.export.base, [name for _, name in job.export.heads]
            own = key.startswith((base, *(f"{head}." for head in heads)))
            return key if own else base + key
        case Take() | Repeat() | Share() | Noise() | Gain() | Left() | Row():
            return _key(job, info, source.of)
        case Tile() | Stretch() | Resize():
            return _key(job, info, source.of)
        case Fold(bias=bias):
            return _key(job, info, bias)
    raise Unsaveable(f"{info.path} is no tensor of it")


def _tables(
    info: ParameterInfo, shapes: Mapping[str, Shape]
) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    source = info.source
    while not isinstance(source, Checkpoint | Init | Concatenate | Fold | Tie):
        if isinstance(source, Row):
            found.append((source.index, shape_of(source.of, shapes, ())[0]))
        source = source.of  # type: ignore[union-attr]
    return tuple(found)
