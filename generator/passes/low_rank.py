"""An edit: linears of the blocks become two each, with a rank between them.

%y: f32[B,T,F] = linear up(%x)    becomes
%y.in: f32[B,T,R] = linear up.reduce(%x)
%y: f32[B,T,F] = linear up.expand(%y.in)

The two are the factors of the nearest matrix of that rank (Eckart and Young, 1936), each
with the same share of the singular values. The reference is the model whose own weights
are those matrices.

Where each linear has a rank of its own, those stay whole that two factors would make no
smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from generator.errors import fail, quote
from generator.ir.dims import Type, dim
from generator.ir.job import DimDef, Job, Model, Module, Op, ParameterDef, Value, inside
from generator.ir.sources import Checkpoint, Left, Parameter, Right, Source
from generator.ir.weightmap import WeightMap
from generator.passes.chosen_blocks import chosen, further_dim

SYMBOL = "R"  # of the rank
REDUCE, EXPAND = ".reduce", ".expand"


def run(
    job: Job,
    *,
    on: Sequence[str],
    rank: int | Mapping[str, int],
    blocks: Sequence[int] | None = None,
) -> tuple[Job, WeightMap]:
    """The job with the linears `on`, by their paths in a block, as two of rank `rank`:
    of one rank, or of that of each linear by its path in the model."""
    model = job.model
    instances = chosen(model, blocks)
    changed: dict[str, Module] = {}
    sources: dict[str, Source] = {}
    dropped: set[str] = set()
    ranks: list[tuple[str, int]] = []
    for instance in instances:
        linears = {
            path + op.name: (path, keys, module.name, op)
            for path, keys, module in inside(model, instance)
            for op in module.ops
            if op.kind == "linear"
        }
        for name in on:
            if name not in linears:
                raise fail(
                    "G241",
                    f"{instance.name} has no linear {quote(name)}",
                    help=f"there are {', '.join(linears)}",
                )
            path, keys, module_name, op = linears[name]
            module = changed.get(module_name, model.by_name[module_name])
            weight = next(p for p in module.parameters if p.name == f"{op.name}.weight")
            if not isinstance(weight.source, Checkpoint):
                raise fail(
                    "G241",
                    f"{instance.name}.{name} is a weight of the checkpoint no more: an "
                    "edit above has changed it",
                    help="write low-rank above that edit, or leave it out of on",
                )
            at = f"{instance.name}.{path}{op.name}"
            sizes = weight.type.sizes(model.sizes)
            if isinstance(rank, int):
                r = rank
            elif at not in rank:
                raise fail(
                    "G234",
                    f"the facts have no singular values of {at}",
                    help="gen calibrate SPEC",
                )
            elif (r := rank[at]) * sum(sizes) >= math.prod(sizes):
                continue
            if r > min(sizes):
                raise fail(
                    "G242",
                    f"{at} has rank {min(sizes)} at most, not {r}",
                    help=f"rank = {min(sizes)}",
                )
            model, symbol = _with_rank(model, r)
            changed[module_name] = _factored(module, op, r, symbol)
            ranks.append((keys + weight.source.key, r))
            old = Parameter(f"{at}.weight")
            sources[f"{at}{REDUCE}.weight"] = Right(old, r)
            sources[f"{at}{EXPAND}.weight"] = Left(old, r)
            dropped.add(old.path)
            if any(p.name == f"{op.name}.bias" for p in module.parameters):
                sources[f"{at}{EXPAND}.bias"] = Parameter(f"{at}.bias")
                dropped.add(f"{at}.bias")
    if not ranks:
        raise fail(
            "G242",
            "no linear would be smaller: so much of their energy takes too high a rank",
            help="a lower energy, or leave the edit out",
        )
    reference = replace(job.reference, ranks=(*job.reference.ranks, *ranks))
    return (
        replace(job, model=model.with_modules(changed), reference=reference),
        WeightMap(sources, frozenset(dropped)),
    )


def _with_rank(model: Model, rank: int) -> tuple[Model, str]:
    """The model with a dimension of this size, and what it is called."""
    if any(d.symbol == SYMBOL for d in model.dims):
        return further_dim(model, SYMBOL, rank)
    at = next(i for i, d in enumerate(model.dims) if d.symbol == "F") + 1
    new = DimDef(SYMBOL, rank, "rank", doc="rank")
    dims = (*model.dims[:at], new, *model.dims[at:])
    return replace(model, dims=dims), SYMBOL


def _factored(module: Module, op: Op, rank: int, symbol: str) -> Module:
    """The module with two linears for one."""
    reduce, expand = op.name + REDUCE, op.name + EXPAND
    parameters: list[ParameterDef] = []
    for p in module.parameters:
        if p.name == f"{op.name}.weight":
            wide, inner = p.type.shape
            first, second = Type("f32", (dim(symbol), inner)), Type(
                "f32", (wide, dim(symbol))
            )
            parameters += [
                replace(
                    p, name=f"{reduce}.weight", type=first, source=Right(p.source, rank)
                ),
                replace(
                    p, name=f"{expand}.weight", type=second, source=Left(p.source, rank)
                ),
            ]
        elif p.name == f"{op.name}.bias":
            parameters.append(replace(p, name=f"{expand}.bias"))
        else:
            parameters.append(p)
    taken = module.types
    number = next(n for n in range(1, len(taken) + 2) if f"_.{n}" not in taken)
    shape = (*module.types[op.args[0]].shape[:-1], dim(symbol))
    between = Value(f"_.{number}", Type("f32", shape))
    ops: list[Op] = []
    for one in module.ops:
        if one is op:
            ops += [
                replace(op, name=reduce, results=(between,)),
                replace(op, name=expand, args=(between.name,)),
            ]
        else:
            ops.append(one)
    return replace(module, parameters=tuple(parameters), ops=tuple(ops))
