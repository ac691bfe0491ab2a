"""Linears that read the same value and make heads become one, with fewer, larger products.

%_: f32[B,T,H*D] = linear q(%x)    and k, v      becomes
%_: f32[B,T,3*H*D] = linear qkv(%x)
%q, %k, %v = heads(%_) heads=#[H,H,H] width=#D

Where an edit of some blocks leaves theirs apart, those of the others stay apart too: all
are one class then, of which a reader has to know one form, and not two.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from generator.ir.dims import Dim, Type
from generator.ir.emit import parameter_types
from generator.ir.job import Job, Model, Module, Op, ParameterDef, Value
from generator.ir.sources import Concatenate, Parameter, Source
from generator.ir.weightmap import WeightMap, paths_of
from generator.passes.chosen_blocks import family


def run(job: Job) -> tuple[Job, WeightMap]:
    changed: dict[str, Module] = {}
    sources: dict[str, Source] = {}
    dropped: set[str] = set()
    paths = paths_of(job.model)
    apart = _apart(job.model)
    for module in job.model.modules:
        after = module
        for group in _divided(_groups(module), apart):
            after = _fuse(after, group)
            for path in paths[module.name]:
                for suffix in parameter_types(module.parameters, group[0][0].name):
                    old = [f"{path}{linear.name}.{suffix}" for linear, _ in group]
                    new = f"{path}{_name(group)}.{suffix}"
                    sources[new] = Concatenate(tuple(Parameter(o) for o in old))
                    dropped.update(old)
        if after is not module:
            changed[module.name] = after
    read = frozenset(dropped)
    return replace(job, model=job.model.with_modules(changed)), WeightMap(sources, read)


Group = list[tuple[Op, Op]]  # a linear and the heads that it makes
Pair = frozenset[str]  # the names of two linears


def _groups(module: Module) -> list[Group]:
    """Those that may be joined: same operand, same head width, all or none with bias,
    all or none frozen. One that an adapter is part of stays apart."""
    uses = Counter(a for op in module.ops for a in op.args)
    uses.update(module.outputs)
    maker = {op.results[0].name: op for op in module.ops if op.kind == "linear"}
    found: dict[object, Group] = defaultdict(list)
    for op in module.ops:
        if op.kind != "heads" or len(op.results) != 1:
            continue
        linear = maker.get(op.args[0])
        if linear is None or uses[op.args[0]] != 1:
            continue
        stem = linear.name + "."
        held = frozenset(
            (p.name.removeprefix(stem), p.frozen)
            for p in module.parameters
            if p.name.startswith(stem)
        )
        found[linear.args, op.attrs_dict["width"], held].append((linear, op))
    return [group for group in found.values() if len(group) > 1]


def _apart(model: Model) -> frozenset[Pair]:
    """Linears that some blocks could join, and others of their kind cannot."""
    found: dict[str, list[frozenset[Pair]]] = defaultdict(list)
    for module in model.modules:
        pairs = (pair for group in _groups(module) for pair in _pairs(group))
        found[family(module.name)].append(frozenset(pairs))
    differing = (
        frozenset().union(*each) - each[0].intersection(*each)
        for each in found.values()
    )
    return frozenset().union(*differing)


def _pairs(group: Group) -> Iterator[Pair]:
    for (a, _), (b, _) in combinations(group, 2):
        yield frozenset({a.name, b.name})


def _divided(groups: list[Group], apart: frozenset[Pair]) -> Iterator[Group]:
    """The groups without those that stay apart; what is left alone is no group."""
    for group in groups:
        parts: list[Group] = []
        for one in group:
            with_it = (p for p in parts if apart.isdisjoint(_pairs([*p, one])))
            if (part := next(with_it, None)) is None:
                parts.append(part := [])
            part.append(one)
        yield from (part for part in parts if len(part) > 1)


def _name(group: Group) -> str:
    return "".join(linear.name for linear, _ in group)


def _fuse(module: Module, group: Group) -> Module:
    name = _name(group)
    linears = [linear for linear, _ in group]
    heads = [op for _, op in group]
    by_name = {p.name: p for p in module.parameters}

    fused = []
    for suffix in parameter_types(module.parameters, linears[0].name):
        parts = [by_name[f"{linear.name}.{suffix}"] for linear in linears]
        rows = Dim(())
        for part in parts:
            rows = rows + part.type.shape[0]
        shape = (rows, *parts[0].type.shape[1:])
        source = Concatenate(tuple(part.source for part in parts))
        fused.append(
            ParameterDef(
                f"{name}.{suffix}",
                Type("f32", shape),
                parts[0].role,
                source,
                parts[0].place,
                parts[0].frozen,
            )
        )
    old = {
        f"{linear.name}.{p.name.rpartition('.')[2]}"
        for linear in linears
        for p in fused
    }
    first = next(i for i, p in enumerate(module.parameters) if p.name in old)
    kept = [p for p in module.parameters if p.name not in old]
    parameters = (*kept[:first], *fused, *kept[first:])

    total = fused[0].type.shape[0]
    stem = linears[0].results[0]
    product = Value(stem.name, Type("f32", (*stem.type.shape[:-1], total)))
    linear = replace(linears[0], results=(product,), name=name)
    counts = tuple(d for op in heads for d in op.attrs_dict["heads"])  # type: ignore
    split = replace(
        heads[0],
        results=tuple(r for op in heads for r in op.results),
        args=(product.name,),
        attrs=(("heads", counts), ("width", heads[0].attrs_dict["width"])),
    )
    ops: list[Op] = []
    for op in module.ops:
        if op is linears[0]:
            ops += [linear, split]
        elif op not in linears and op not in heads:
            ops.append(op)
    return replace(module, parameters=parameters, ops=tuple(ops))
