"""What edits of some blocks have in common: which blocks, and their sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from generator.errors import GenError, fail
from generator.ir.dims import Dim, Type, dim
from generator.ir.job import Attr, DimDef, Instance, Model, Module, Value


def chosen(model: Model, blocks: Sequence[int] | None) -> tuple[Instance, ...]:
    """The blocks of these numbers, all of them without; GenError where one is not there."""
    every = model.blocks
    if blocks is None:
        return every
    in_order(blocks, "blocks")
    there(model, blocks)
    return tuple(every[i] for i in blocks)


def in_order(blocks: Sequence[int], key: str) -> None:
    """GenError where numbers of blocks, the value of `key`, do not ascend."""
    ordered = sorted(set(blocks))
    if list(blocks) != ordered:
        raise fail("G240", "the blocks are not in order", help=f"{key} = {ordered}")


def there(model: Model, blocks: Iterable[int]) -> None:
    """GenError where the model has no block of one of these numbers."""
    count = len(model.blocks)
    if wrong := [i for i in blocks if i >= count]:
        raise fail(
            "G240",
            f"there is no block {wrong[0]}: the model has {count}, from 0",
            help=f"the last is {count - 1}",
        )


def too_many(n: int, count: int) -> GenError:
    """What is said where `n` of `count` blocks are to stay."""
    return fail("G240", f"the model has {count} blocks, not {n}", help=f"n = {count}")


def further_dim(model: Model, symbol: str, size: int) -> tuple[Model, str]:
    """The model with a dimension beside `symbol` for some blocks, and what it is called.

    `F2`, the field `hidden_2`, stands beside `F`, the field `hidden`. One of that size
    that is there already serves.
    """
    by_symbol = {d.symbol: d for d in model.dims}
    first = by_symbol[symbol]
    number, name = 1, symbol
    while name in by_symbol:
        if by_symbol[name].size == size:
            return model, name
        number += 1
        name = f"{symbol}{number}"
    doc = f"{first.doc} of some blocks"
    new = DimDef(name, size, f"{first.name}_{number}", doc=doc)
    last = max(i for i, d in enumerate(model.dims) if family(d.symbol) == symbol)
    dims = (*model.dims[: last + 1], new, *model.dims[last + 1 :])
    return replace(model, dims=dims), name


def family(symbol: str) -> str:
    """`F` of `F` itself, `F2`, `F3`: dimensions of one meaning in different blocks."""
    return symbol.rstrip("0123456789")


def symbols_in(module: Module, symbol: str) -> set[str]:
    """The dimensions beside `symbol`, itself included, that a module's types name."""
    kinds = [*module.types.values(), *(p.type for p in module.parameters)]
    named = {name for kind in kinds for d in kind.shape for name in d.names}
    return {name for name in named if family(name) == symbol}


def with_dims(module: Module, new: Mapping[str, str]) -> Module:
    """The module with other names for some of its dimensions."""
    names = {old: dim(name) for old, name in new.items()}
    return each_dim(module, lambda d: d.substitute(names))


def each_dim(module: Module, change: Callable[[Dim], Dim]) -> Module:
    """The module with `change` made to each of its dimensions, in a fixed order."""

    def kind(t: Type) -> Type:
        return replace(t, shape=tuple(change(d) for d in t.shape))

    def value(v: Value) -> Value:
        return replace(v, type=kind(v.type))

    def attr(a: Attr) -> Attr:
        match a:
            case Dim():
                return change(a)
            case tuple():
                return tuple(
                    change(d) if isinstance(d, Dim) else d for d in a
                )  # type: ignore[return-value]
        return a

    return replace(
        module,
        inputs=tuple(map(value, module.inputs)),
        instances=tuple(
            replace(
                i, sizes=tuple((name, str(change(dim(size)))) for name, size in i.sizes)
            )
            for i in module.instances
        ),
        parameters=tuple(replace(p, type=kind(p.type)) for p in module.parameters),
        ops=tuple(
            replace(
                op,
                results=tuple(map(value, op.results)),
                attrs=tuple((k, attr(a)) for k, a in op.attrs),
            )
            for op in module.ops
        ),
    )
