"""What a model has inside that another one can learn from: states, queries, keys, values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from generator.ir.cut import CALLS
from generator.ir.dims import Dim, number
from generator.ir.job import Instance, Model, Module, Op

Positions = Literal["all", "first", "last"]
LINEARS = frozenset({"linear", "lora_linear", "dora_linear", "ia3_linear"})


@dataclass(frozen=True)
class Columns:
    """Vectors of tokens: some columns of what a linear gives."""

    linear: str  # the path of its module
    start: int
    stop: int
    heads: int

    @property
    def width(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Attending:
    """What the attention of a block is made of; None is what not every token has."""

    queries: Columns | None
    keys: Columns | None
    values: Columns | None


@dataclass(frozen=True)
class BlockCall:
    """A block, and the operation of the main module that runs it."""

    path: str
    instance: Instance
    op: Op

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Of what it gives: the batch, positions, the width."""
        return self.op.results[0].type.shape


def blocks(model: Model) -> tuple[BlockCall, ...]:
    """Every block, in order."""
    ops = {op.name: op for op in model.main.ops if op.kind in CALLS}
    return tuple(
        BlockCall(path, instance, ops[instance.name])
        for instance in model.blocks
        for path, _, _ in instance.each()
    )


def positions(model: Model, block: BlockCall) -> Positions:
    """Which positions of a row a block gives something for."""
    if block.shape[1] != number(1):
        return "all"
    made = {r.name: op.kind for op in model.main.ops for r in op.results}
    picked = any(made.get(arg) == "last_index" for arg in block.op.args)
    return "last" if picked else "first"


def attending(model: Model, block: BlockCall) -> Attending | None:
    """The queries, keys and values of a block; None where linears do not give them."""
    module = model.by_name[block.instance.module]
    return _attending(model, module, f"{block.path}.", block.instance.within({}))


def _attending(
    model: Model, module: Module, path: str, scope: Mapping[str, Dim]
) -> Attending | None:
    for op in module.ops:
        if op.kind == "attention":
            sizes = model.sizes | {k: d.value(model.sizes) for k, d in scope.items()}
            parts = [_columns(module, path, value, sizes) for value in op.args[:3]]
            if not all(parts):
                return None
            every = [module.types[v].shape[2] != number(1) for v in op.args[:3]]
            return Attending(*(p if all_ else None for p, all_ in zip(parts, every)))
        if op.kind == "call":
            instance = module.instance(op.name)
            inner, within = model.by_name[instance.module], instance.within(scope)
            if found := _attending(model, inner, f"{path}{op.name}.", within):
                return found
    return None


def _columns(
    module: Module, path: str, value: str, sizes: Mapping[str, int]
) -> Columns | None:
    """The columns that heads were cut from, ahead of a norm or a rotation of theirs."""
    made = {r.name: op for op in module.ops for r in op.results}
    while value in made and made[value].kind != "heads":
        value = next(iter(made[value].args), "")
    if value not in made:
        return None
    cut = made[value]
    linear = made.get(cut.args[0])
    if linear is None or linear.kind not in LINEARS:
        return None
    counts, width = cut.attrs_dict["heads"], cut.attrs_dict["width"]
    assert isinstance(counts, tuple) and isinstance(width, Dim)
    each = [n.value(sizes) for n in counts if isinstance(n, Dim)]
    at, size = [r.name for r in cut.results].index(value), width.value(sizes)
    start = size * sum(each[:at])
    return Columns(f"{path}{linear.name}", start, start + size * each[at], each[at])
