"""Modules that are equal but for sizes, and for where their weights come from.

module FeedForward3(%x..)                        module FeedForward(%x..) sizes F
  param up.weight: f32[F,C] = ckpt "up"     become   param up.weight: f32[F,C] = ckpt "up"
module FeedForward4(%x..)                        with F=F and F=F2 where they stood, and the
  param up.weight: f32[F2,C] = take(..)          second's sources
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from generator.ir.dims import Dim, dim
from generator.ir.job import Model, Module
from generator.ir.sources import ZERO, Source
from generator.passes.chosen_blocks import each_dim, family, with_dims

Sizes = tuple[tuple[str, str], ...]  # an instance's


@dataclass(frozen=True)
class Shared:
    """One module for its members, and the sizes that each of them gives it."""

    module: Module
    members: tuple[Module, ...]
    sizes: tuple[Sizes, ...]


def outline(model: Model, module: Module) -> object:
    """What modules that may be one have in common: all but names, sizes and sources."""
    body = with_dims(module, {symbol: family(symbol) for symbol in model.sizes})
    return family(module.name), _without_sources(body)


def _without_sources(module: Module) -> Module:
    return replace(
        module,
        name="",
        parameters=tuple(replace(p, source=ZERO) for p in module.parameters),
        instances=tuple(replace(i, sources=()) for i in module.instances),
    )


def shared(model: Model, members: Sequence[Module]) -> Iterator[Shared]:
    """The first of modules of one outline, with sizes where they differ.

    Sizes are named after the model's dimensions. Where those are too few, what is of the
    same sizes is shared.
    """
    rows = list(zip(*map(_symbols, members), strict=True))
    differing = {family(row[0]) for row in rows if len(set(row)) > 1}
    free = {
        base: [d.symbol for d in model.dims if d.name and family(d.symbol) == base]
        for base in differing
    }
    names: dict[tuple[str, ...], str] = {}  # by what each member has there
    for row in dict.fromkeys(rows):
        base = family(row[0])
        if base not in differing:
            continue
        if not free[base]:
            equal: dict[Module, list[Module]] = {}
            for member in members:
                equal.setdefault(_without_sources(member), []).append(member)
            for some in equal.values():
                yield from shared(model, some)
            return
        names[row] = free[base].pop(0)
    at = {d.symbol: i for i, d in enumerate(model.dims)}
    ordered = sorted(names.items(), key=lambda item: at[item[1]])
    new = iter([names[row] if row in names else row[0] for row in rows])
    module = each_dim(members[0], lambda d: _renamed(d, [next(new) for _ in _of(d)]))
    yield Shared(
        replace(module, sizes=tuple(name for _, name in ordered)),
        tuple(members),
        tuple(
            tuple((name, row[i]) for row, name in ordered) for i in range(len(members))
        ),
    )


def _of(d: Dim) -> list[str]:
    """The names in a dimension, in the order of its terms."""
    return [name for names, _ in d.terms for name in names]


def _symbols(module: Module) -> list[str]:
    found: list[str] = []

    def read(d: Dim) -> Dim:
        found.extend(_of(d))
        return d

    each_dim(module, read)
    return found


def _renamed(d: Dim, new: Sequence[str]) -> Dim:
    """The dimension with other names, one for each in it."""
    names, total = iter(new), Dim(())
    for old, n in d.terms:
        term = Dim((((), n),))
        for _ in old:
            term = term * dim(next(names))
        total = total + term
    return total


def sources(modules: Mapping[str, Module], module: Module) -> dict[str, Source]:
    """Where the parameters of a module and of those in it come from, by their paths."""
    found = {p.name: p.source for p in module.parameters}
    for instance in module.instances:
        for path, source in sources(modules, modules[instance.module]).items():
            found[f"{instance.name}.{path}"] = source
        found |= {f"{instance.name}.{path}": s for path, s in instance.sources}
    return found
