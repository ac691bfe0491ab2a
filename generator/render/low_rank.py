"""A linear and the one behind it, `up.reduce` and `up.expand`, as the one layer they are.

The two are operations of the job, as they have weights of their own. In the source they are
a `LowRankLinear` that stands where the linear stood, and the forward says one name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from generator.ir.emit import parameter_types
from generator.ir.job import Model, Module, Op, ParameterDef

KIND = "low_rank_linear"  # of the operation that stands for two, in the source alone
REDUCE, EXPAND = "reduce", "expand"


def with_pairs(model: Model) -> Model:
    """The model with one operation for each two such linears.

    One that an adapter was put on stays by itself, and so does its other half.
    """
    return model.with_modules({m.name: _paired(m) for m in model.modules})


def _paired(module: Module) -> Module:
    pairs = dict(_pairs(module))
    if not pairs:
        return module
    ops: list[Op] = []
    for op in module.ops:
        stem, _, half = op.name.rpartition(".")
        if stem not in pairs:
            ops.append(op)
        elif half == EXPAND:
            ops.append(replace(op, kind=KIND, name=stem, args=pairs[stem].args))
    parameters = [one for p in module.parameters for one in _merged(p, module, pairs)]
    return replace(module, ops=tuple(ops), parameters=tuple(parameters))


def _merged(
    p: ParameterDef, module: Module, pairs: Mapping[str, Op]
) -> Iterator[ParameterDef]:
    """A parameter as the layer has it: its weight is that of the linear, and `reduce`
    says the rank."""
    stem, half, last = (["", "", *p.name.split(".")])[-3:]
    if stem not in pairs:
        yield p
    elif last == "bias":
        yield replace(p, name=f"{stem}.bias")
    elif half == REDUCE:
        wide = parameter_types(module.parameters, f"{stem}.{EXPAND}")["weight"].shape[0]
        shape = (wide, p.type.shape[1])
        yield replace(p, name=f"{stem}.weight", type=replace(p.type, shape=shape))
        yield replace(p, name=f"{stem}.{REDUCE}")


def _pairs(module: Module) -> Iterator[tuple[str, Op]]:
    """The names of the pairs, each with its first half."""
    uses = Counter(a for op in module.ops for a in op.args)
    uses.update(module.outputs)
    linears = {op.name: op for op in module.ops if op.kind == "linear"}
    for name, first in linears.items():
        stem, _, half = name.rpartition(".")
        second = linears.get(f"{stem}.{EXPAND}")
        value = first.results[0].name
        if half == REDUCE and second and second.args == (value,) and uses[value] == 1:
            yield stem, first
