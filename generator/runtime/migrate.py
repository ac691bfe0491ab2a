"""Whether a model's trained weights can become another's: straight, by a map, or not.

Both models were imported from a backbone and went through passes, and the passes say
what became of each imported parameter. One model's weights are traced back to those, and
from there forward into the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from generator.compile import Compiled
from generator.ir.head import classifier, units
from generator.ir.job import parameters
from generator.ir.sources import (
    Concatenate,
    Fold,
    Gain,
    Init,
    Left,
    Noise,
    Norms,
    Parameter,
    Repeat,
    Resize,
    Right,
    Row,
    Rows,
    Shape,
    Share,
    Source,
    Stretch,
    Sum,
    Take,
    Tile,
    Transpose,
    leaves,
    map_children,
)

Kind = Literal["strict", "map", "no"]


@dataclass(frozen=True)
class Migration:
    """How a checkpoint of A becomes one of B."""

    kind: Kind
    sources: Mapping[str, Source]  # of B's parameters, those of A's that changed
    unused: tuple[str, ...]  # parameters of A that B does not read
    missing: Mapping[str, str]  # parameters of B that A does not have, and why
    alike: bool = True  # whether parts of the same name mean the same in both


class Missing(Exception):
    """A parameter that the old model does not hold."""


def migration(a: Compiled, b: Compiled) -> Migration:
    """From A's trained weights to B's."""
    old = {p.path: p.shape for p in parameters(a.job)}
    new = {p.path: p.shape for p in parameters(b.job)}
    was, now = units(a.job.model), units(b.job.model)
    if old == new and was == now:
        return Migration("strict", {}, (), {})
    if a.job.backbone.architecture != b.job.backbone.architecture:
        return Migration("no", {}, (), {}, alike=False)
    held = _Held(a, b)
    sources: dict[str, Source] = {}
    missing: dict[str, str] = {}
    for path, shape in new.items():
        try:
            source = b.weights.source(path)
            if isinstance(source, Init):  # an edit's: the same part in both, or none
                if a.weights.source(path) != source or old.get(path) != shape:
                    raise Missing("it is new")
                source = Parameter(path)
            else:
                source = held.source(source)
            sources[path] = source
        except Missing as why:
            missing[path] = str(why)
    if was != now:
        why = "it is new" if now else "the old model scales what it answers"
        missing |= dict.fromkeys(
            now or (f"{classifier(b.job.model).call.name}.label",), why
        )
    read = {path for source in sources.values() for path in _read(source)}
    return Migration(
        "no" if missing else "map",
        {p: s for p, s in sources.items() if s != Parameter(p)},
        tuple(p for p in old if p not in read),
        missing,
    )


def _source(compiled: Compiled, path: str) -> Source:
    """What a parameter is in terms of those imported; one that an edit brought, itself."""
    source = compiled.weights.source(path)
    return Parameter(path) if isinstance(source, (Init, Norms)) else source


def _brought(compiled: Compiled) -> dict[str, Shape]:
    """Parameters that edits brought."""
    return {
        p.path: p.shape
        for p in parameters(compiled.job)
        if _source(compiled, p.path) != compiled.weights.source(p.path)
    }


class _Held:
    """What A's trained weights hold of the parameters that were imported."""

    def __init__(self, a: Compiled, b: Compiled) -> None:
        self.old = {p.path: p.shape for p in parameters(a.imported)} | _brought(a)
        self.new = {p.path: p.shape for p in parameters(b.imported)} | _brought(b)
        self.by_source: dict[Source, Source] = {}
        for p in parameters(a.job):
            for held, where in self.walk(_source(a, p.path), Parameter(p.path)):
                self.by_source.setdefault(held, where)

    def walk(self, held: Source, where: Source) -> Iterator[tuple[Source, Source]]:
        """A source with the place that has its value, and what can be cut out of it."""
        if isinstance(held, Init):
            return  # another new part is not the same for being as new
        yield held, where
        match held:
            case Concatenate(parts):
                start = 0
                for part in parts:
                    stop = start + self.shape(part)[0]
                    yield from self.walk(part, Rows(where, start, stop))
                    start = stop
            case Transpose(of):
                yield of, Transpose(where)
            case Rows(of, 0, stop) if stop == self.shape(of)[0]:
                yield from self.walk(of, where)

    def shape(self, source: Source) -> Shape:
        """Of a source whose leaves are A's imported parameters."""
        match source:
            case Parameter(path):
                return self.old[path]
            case Concatenate(parts):
                first = self.shape(parts[0])
                return (sum(self.shape(p)[0] for p in parts), *first[1:])
            case Sum(parts):
                return self.shape(parts[0])
            case Rows(of, start, stop):
                return (stop - start, *self.shape(of)[1:])
            case Row(of=of):
                return self.shape(of)[1:]
            case Take(of, axis, _, index):
                inner = self.shape(of)
                return (*inner[:axis], len(index), *inner[axis + 1 :])
            case Transpose(of):
                return self.shape(of)[::-1]
            case Repeat(of, rows):
                return (rows, *self.shape(of)[1:])
            case Share(of, columns):
                return (self.shape(of)[0], columns)
            case Tile(of, rows) | Stretch(of, rows):
                return (rows, *self.shape(of)[1:])
            case Resize(of, before, after):
                inner = self.shape(of)
                return (inner[0] - prod(before) + prod(after), *inner[1:])
            case Noise(of=of) | Gain(of=of):
                return self.shape(of)
            case Fold(bias=bias):
                return self.shape(bias)
            case Left(of, rank):
                return (self.shape(of)[0], rank)
            case Right(of, rank):
                return (rank, self.shape(of)[1])
            case _:
                raise ValueError(f"a weight map has the leaf {source}")

    def source(self, wanted: Source) -> Source:
        """What B wants, in terms of A's weights. Missing where they do not hold it."""
        if isinstance(wanted, Parameter):
            self.expect(wanted.path)
        if wanted in self.by_source and self.agree(wanted):
            return self.by_source[wanted]
        match wanted:
            case Concatenate(parts):
                return Concatenate(tuple(map(self.source, parts)))
            case Sum(parts):
                return Sum(tuple(map(self.source, parts)))
            case Rows(of, start, stop):
                return Rows(self.source(of), start, stop)
            case Row(of, index):
                return Row(self.source(of), index)
            case Take(of=of):
                return replace(wanted, of=self.source(of))
            case Transpose(of):
                return Transpose(self.source(of))
            case Repeat() | Share() | Noise() | Left() | Right() | Gain():
                return replace(wanted, of=self.source(wanted.of))
            case Fold():
                return map_children(wanted, self.source)
            case Tile() | Stretch() | Resize():
                return replace(wanted, of=self.source(wanted.of))
            case Parameter(path):
                raise Missing(f"of {path}, the old model keeps only a part")
            case _:
                raise Missing("it is new")

    def agree(self, source: Source) -> bool:
        """Whether the imported parameters in it are of the same shapes in both."""
        return all(self.old.get(p) == self.new.get(p) for p in _read(source))

    def expect(self, path: str) -> None:
        if path not in self.old:
            raise Missing("the old model has no such part")
        if self.old[path] != self.new[path]:
            was, now = list(self.old[path]), list(self.new[path])
            raise Missing(f"its shape was {was} and is {now}")


def _read(source: Source) -> Iterator[str]:
    return (leaf.path for leaf in leaves(source) if isinstance(leaf, Parameter))
