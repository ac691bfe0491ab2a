"""What edits that add adapters share: finding what they go on, and freezing the rest."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from generator.errors import GenError, fail, quote
from generator.ir.dims import Dim, dim
from generator.ir.job import (
    Const,
    ConstDef,
    DimDef,
    Instance,
    Model,
    Module,
    Op,
    ParameterDef,
)
from generator.ir.ops import ADAPTED
from generator.ir.sources import Init, Norms
from generator.passes.chosen_blocks import chosen, there

PLACE = "edit"  # what adapters are there for


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block. Before grouping its module stands once."""

    module: str  # the module that holds it
    op: str
    name: str  # within its block: "attention.q"
    path: str  # in the model: "blocks.3.attention.q"


def linears(
    model: Model, on: Sequence[str], blocks: Sequence[int] | None
) -> tuple[Linear, ...]:
    """The plain linears that `on` names, in `blocks` or in all.

    A name is one within a block, "attention.q", or in the model, "blocks.3.ff.up". What
    is not there is a GenError: G250, or G253 where it has an adapter.
    """
    inside = {n: tuple(_linears(model, b)) for n, b in enumerate(model.blocks)}
    found: dict[str, Linear] = {}
    for name, some in named(model, on, blocks):
        for number in some:
            known = {one.name: (one, op) for one, op in inside[number]}
            if name not in known:
                raise unknown("linear layer", name, known)
            one, op = known[name]
            if op.kind in ADAPTED or one.path in found:
                raise fail(
                    "G253",
                    f"{one.path} has an adapter already",
                    help="put the two on different layers, or leave one of them out",
                )
            found[one.path] = one
    return tuple(found.values())


def named(
    model: Model, on: Sequence[str], blocks: Sequence[int] | None
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each of `on` as a name within a block, with the numbers of the blocks meant."""
    stem = model.blocks[0].name.rpartition(".")[0]
    numbers = tuple(model.blocks.index(one) for one in chosen(model, blocks))
    for name in on:
        head, _, rest = name.partition(".")
        number, _, inner = rest.partition(".")
        if head == stem and number.isdigit() and inner:
            there(model, [int(number)])
            yield inner, (int(number),)
        else:
            yield name, numbers


def unknown(what: str, name: str, known: Collection[str]) -> GenError:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return fail(
        "G250",
        f"a block has no {what} {quote(name)}",
        label=f'did you mean "{near[0]}"?' if near else "",
        help=f"there are {', '.join(known)}",
    )


def _linears(model: Model, block: Instance) -> Iterator[tuple[Linear, Op]]:
    def walk(module: Module, path: str) -> Iterator[tuple[Linear, Op]]:
        for op in module.ops:
            if op.kind == "call":
                inner = model.by_name[module.instance(op.name).module]
                yield from walk(inner, f"{path}{op.name}.")
            elif op.kind == "linear" or op.kind in ADAPTED:
                name = path + op.name
                full = f"{block.name}.{name}"
                yield Linear(module.name, op.name, name, full), op

    yield from walk(model.by_name[block.module], "")


def parameter(module: Module, name: str) -> ParameterDef:
    return next(p for p in module.parameters if p.name == name)


def adapted(
    module: Module, linear: str, change: Op, added: Sequence[ParameterDef]
) -> Module:
    """The module with another operation for a linear, and parameters beside its own."""
    held = [p.name.rpartition(".")[0] == linear for p in module.parameters]
    at = len(held) - held[::-1].index(True)  # behind the last of the linear's
    parameters = (*module.parameters[:at], *added, *module.parameters[at:])
    ops = tuple(change if op.name == linear else op for op in module.ops)
    return replace(module, parameters=parameters, ops=ops)


def operation(module: Module, linear: str) -> Op:
    return next(op for op in module.ops if op.name == linear)


def with_size(model: Model, symbol: str, name: str, size: int) -> tuple[Model, Dim]:
    """A dimension of this size, one that there is or a new one."""
    number = 1
    while d := next((d for d in model.dims if d.symbol == symbol), None):
        if d.size == size:
            return model, dim(symbol)
        number += 1
        symbol, name = f"{symbol[0]}{number}", f"{name.rstrip('0123456789')}{number}"
    doc = name.replace("_", " ")
    added = DimDef(symbol, size, name, doc=doc)
    return replace(model, dims=(*model.dims, added)), dim(symbol)


def with_number(model: Model, name: str, value: float) -> tuple[Model, Const]:
    """A constant of this value, one that there is or a new one."""
    number, stem = 1, name
    while name in model.constants:
        if model.constants[name] == value:
            return model, Const(name)
        number += 1
        name = f"{stem}{number}"
    return replace(model, consts=(*model.consts, ConstDef(name, value))), Const(name)


def freeze(model: Model) -> Model:
    """Nothing trains but what no tensor is read into, and the head.

    The head is all that stands behind the blocks: a pooler and a last norm are of it.
    """
    last = max(b.depth for b in model.blocks)
    todo = [i.module for i in model.main.instances if i.depth > last]
    head: set[str] = set()
    while todo:
        head.add(name := todo.pop())
        todo += [i.module for i in model.by_name[name].instances]

    def change(p: ParameterDef) -> ParameterDef:
        return replace(p, frozen=not isinstance(p.source, (Init, Norms)))

    return model.with_modules(
        {
            m.name: replace(m, parameters=tuple(map(change, m.parameters)))
            for m in model.modules
            if m.name not in head
        }
    )
