"""Modules that differ only in what they are made of are one class, which is given that.

Of blocks with two kinds of attention, `Block(c, attention)` is told which. Where some
linears of some blocks have an adapter, `Attention(c, linear)` is told what makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from generator.ir.dims import Dim
from generator.ir.emit import parameter_types
from generator.ir.job import Attr, Instance, Model, Module, Op
from generator.ir.ops import ADAPTED
from generator.ir.sources import ZERO
from generator.render import low_rank

LINEARS = frozenset({"linear", low_rank.KIND, *ADAPTED})


@dataclass(frozen=True)
class Linear:
    """A kind of linear layer: what makes one, but for its sizes and its bias."""

    kind: str  # of the operation
    attrs: tuple[tuple[str, Attr], ...] = ()
    rank: Dim | None = None

    def within(self, scope: Mapping[str, Dim]) -> Linear:
        return replace(self, rank=self.rank and self.rank.substitute(scope))


Slot = tuple[
    str, str
]  # an operation or instance, and what its class calls it, if given
Given = Linear | str  # a kind of linear, or the name of a class


@dataclass(frozen=True)
class Argument:
    """What the constructor of a class is given: what makes linears, or a part's class."""

    name: str
    linears: tuple[str, ...]  # the operations that it is about; () of a part
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Classes:
    """The class of each module, and what its instances give it."""

    model: Model
    of: Mapping[str, str]  # by module
    sizes: Mapping[str, tuple[str, ...]]  # by class: those that it takes
    given: Mapping[str, tuple[Argument, ...]]  # by class

    def members(self, name: str) -> Iterator[Module]:
        return (m for m in self.model.modules if self.of[m.name] == name)

    def argument(self, module: Module, slot: Slot) -> Argument | None:
        """The argument of a module's class that fills a slot of it."""
        some = self.given[self.of[module.name]]
        return next((a for a in some if slot in a.slots), None)

    def values(self, name: str, scope: Mapping[str, Dim]) -> dict[str, Given]:
        """What a module is given by the names of arguments, where its sizes are `scope`."""
        module = self.model.by_name[name]
        return {
            a.name: _value(self, module, scope, a.slots[0])
            for a in self.given[self.of[name]]
        }


def classes(model: Model) -> Classes:
    """A class for each module but for those that are made of other parts alone."""
    found = Classes(model, {}, {}, {})
    for level in _levels(model):
        alike: dict[object, list[Module]] = {}
        for module in level:
            alike.setdefault(_but_for_parts(module, found), []).append(module)
        for members in alike.values():
            found = _with_class(found, members)
    return found


def _levels(model: Model) -> list[list[Module]]:
    """The modules, those that others are made of first."""
    deep: dict[str, int] = {}
    for module in model.modules:
        deep[module.name] = 1 + max(
            (deep[i.module] for i in module.instances), default=0
        )
    return [
        [m for m in model.modules if deep[m.name] == level]
        for level in sorted(set(deep.values()))
    ]


def _with_class(found: Classes, members: Sequence[Module]) -> Classes:
    """The classes with one more, for modules that are alike but for their parts."""
    name = members[0].name
    bare = members[0] if len(members) == 1 else _plain(members[0])
    found = replace(
        found,
        of={**found.of, **{module.name: name for module in members}},
        sizes={**found.sizes, name: _taken(bare, found)},
        given={**found.given, name: ()},
    )
    uses = [(m, scope) for m in members for scope in found.model.scopes[m.name]]
    columns: dict[tuple[Given, ...], list[tuple[Slot, tuple[str, ...]]]] = {}
    arguments: list[Argument] = []
    for slot, linears in _slots(found, members):
        values = tuple(_value(found, *use, slot) for use in uses)
        if linears:
            columns.setdefault(values, []).append((slot, linears))
        else:
            arguments.append(Argument(slot[1] or slot[0], (), (slot,)))
    for slots in columns.values():
        linears = tuple(dict.fromkeys(n for _, names in slots for n in names))
        called = "linear" if len(columns) == 1 else _joined(linears)
        arguments.append(Argument(called, linears, tuple(slot for slot, _ in slots)))
    return replace(found, given={**found.given, name: tuple(arguments)})


def _slots(
    found: Classes, members: Sequence[Module]
) -> Iterator[tuple[Slot, tuple[str, ...]]]:
    """Where modules of one class differ, with the linears that it is about."""
    first = members[0]
    for at, op in enumerate(first.ops):
        if op.kind not in LINEARS or len(members) == 1:
            continue
        each = {_linear(m, m.ops[at]) for m in members}
        ranks = {name for one in each if one.rank for name in one.rank.names}
        if len(each) > 1 or not ranks.isdisjoint(first.sizes):
            yield (op.name, ""), (op.name,)
    for at, instance in enumerate(first.instances):
        if len({found.of[m.instances[at].module] for m in members}) > 1:
            yield (instance.name, ""), ()
            continue
        for argument in found.given[found.of[instance.module]]:
            slot = (instance.name, argument.name)
            values = {
                _value(found, m, scope, slot)
                for m in members
                for scope in found.model.scopes[m.name]
            }
            if len(values) > 1:
                yield slot, argument.linears


def _value(
    found: Classes, module: Module, scope: Mapping[str, Dim], slot: Slot
) -> Given:
    name, inner = slot
    if op := next(
        (o for o in module.ops if o.name == name and o.kind in LINEARS), None
    ):
        return _linear(module, op).within(scope)
    instance = module.instance(name)
    if not inner:
        return found.of[instance.module]
    return found.values(instance.module, instance.within(scope))[inner]


def _linear(module: Module, op: Op) -> Linear:
    types = parameter_types(module.parameters, op.name)
    low = types.get("lora_a") or types.get(low_rank.REDUCE)
    return Linear(op.kind, op.attrs, low.shape[0] if low else None)


def _joined(names: Sequence[str]) -> str:
    """A name for several linears: `kv` of k and v, `up_down` of up and down."""
    letters = "".join(n for n in names if len(n) == 1)
    return "_".join(
        [*([letters] if letters else []), *(n for n in names if len(n) > 1)]
    )


def _but_for_parts(module: Module, found: Classes) -> object:
    """What modules of one class have in common."""
    plain = _plain(module)
    return replace(
        plain,
        name="",
        parameters=tuple(
            replace(p, source=ZERO, place="", frozen=False) for p in plain.parameters
        ),
        instances=tuple(_but_for_module(i, found) for i in plain.instances),
        sizes=_taken(plain, found),
    )


def _but_for_module(instance: Instance, found: Classes) -> Instance:
    # A class that is given something is called with it: it stands for no other.
    kind = found.of[instance.module]
    own = kind if found.given[kind] else ""
    sizes = tuple(s for s in instance.sizes if s[0] in found.sizes[kind])
    return replace(instance, module=own, keys="", sources=(), sizes=sizes)


def _plain(module: Module) -> Module:
    """The module with plain linears for those of low rank or with an adapter."""
    linears = {op.name for op in module.ops if op.kind in LINEARS}
    held = [p.name.rpartition(".") for p in module.parameters]
    return replace(
        module,
        ops=tuple(
            replace(op, kind="linear", attrs=(), place="") if op.name in linears else op
            for op in module.ops
        ),
        parameters=tuple(
            p
            for p, (stem, _, last) in zip(module.parameters, held, strict=True)
            if stem not in linears or last in ("weight", "bias")
        ),
    )


def _taken(module: Module, found: Classes) -> tuple[str, ...]:
    """The sizes of a module that something in it has, but for parts that take them not."""
    kinds = [*module.types.values(), *(p.type for p in module.parameters)]
    dims = [d for kind in kinds for d in kind.shape]
    for op in module.ops:
        for _, value in op.attrs:
            dims += [
                d
                for d in (value if isinstance(value, tuple) else (value,))
                if isinstance(d, Dim)
            ]
    named = {name for d in dims for name in d.names}
    for instance in module.instances:
        taken = found.sizes[found.of[instance.module]]
        named |= {given for size, given in instance.sizes if size in taken}
    return tuple(size for size in module.sizes if size in named)
