"""Two edits: feed-forwards with more units, attentions with more heads (Net2Net).

param up.weight: f32[F,C] = ckpt "up"        becomes    repeat(ckpt "up", 8)
param down.weight: f32[C,F] = ckpt "down"    becomes    share(ckpt "down", 8)

Each new unit or head is a copy of one that was there. What reads the copies divides by
their number, so that the function stays what it was (Chen, Goodfellow and Shlens, 2016).
Noise in the copies, if any, breaks their symmetry: without it they learn the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from generator.errors import fail
from generator.ir.job import Instance, Job, Model, Module, ParameterDef, inside
from generator.ir.sources import Noise, Parameter, Repeat, Share, Source
from generator.ir.weightmap import WeightMap
from generator.passes.chosen_blocks import (
    chosen,
    family,
    further_dim,
    symbols_in,
    with_dims,
)


def ffn(
    job: Job,
    *,
    to: int | None = None,
    by: float | None = None,
    noise: float = 0.0,
    blocks: Sequence[int] | None = None,
) -> tuple[Job, WeightMap]:
    """The job with `to` units in the feed-forwards of `blocks`, or `by` times as many."""
    model = job.model
    wanted: dict[str, dict[str, int]] = (
        {}
    )  # by block: its dimensions and their new sizes
    for instance in chosen(model, blocks):
        (symbol,) = _symbols(model, instance, "F")
        now = model.sizes[symbol]
        size = round(now * by) if by is not None else to
        assert size is not None  # the spec has one of the two
        if size <= now:
            raise fail(
                "G243",
                f"{instance.name} has {now} units in its feed-forward: {size} is no more",
                help=f"to = {now + 1}, or more",
            )
        wanted[instance.name] = {symbol: size}
    return _widened(job, wanted, noise)


def heads(
    job: Job, *, to: int, noise: float = 0.0, blocks: Sequence[int] | None = None
) -> tuple[Job, WeightMap]:
    """The job with `to` query heads in the attentions of `blocks`."""
    model = job.model
    wanted: dict[str, dict[str, int]] = {}
    for instance in chosen(model, blocks):
        (symbol,) = _symbols(model, instance, "H")
        now = model.sizes[symbol]
        shared = _symbols(model, instance, "G")  # none where each head has its own keys
        group = now // model.sizes[shared[0]] if shared else 1
        if to <= now:
            raise fail(
                "G243",
                f"{instance.name} has {now} heads: {to} is no more",
                help=f"to = {now + group}, or more",
            )
        if to % group:
            near = max(round(to / group), now // group + 1) * group
            raise fail(
                "G243",
                f"{instance.name} has groups of {group} heads that share their keys: "
                f"{to} heads are no whole groups",
                help=f"to = {near}",
            )
        wanted[instance.name] = {symbol: to} | {g: to // group for g in shared}
    # The width of a head is no longer the model's width by the number of heads.
    dims = tuple(
        replace(d, name=d.name or "head_width") if d.symbol == "D" else d
        for d in model.dims
    )
    return _widened(replace(job, model=replace(model, dims=dims)), wanted, noise)


def _symbols(model: Model, instance: Instance, symbol: str) -> list[str]:
    """The dimensions beside `symbol` in a block: one of each kind, or none."""
    return sorted(
        {s for _, _, m in inside(model, instance) for s in symbols_in(m, symbol)}
    )


def _widened(
    job: Job, wanted: Mapping[str, Mapping[str, int]], noise: float
) -> tuple[Job, WeightMap]:
    """The job with dimensions of other sizes in some blocks."""
    before = job.model
    model = _resized(before, wanted)
    changed: dict[str, Module] = {}
    sources: dict[str, Source] = {}
    for instance in before.blocks:
        if instance.name not in wanted:
            continue
        names: dict[str, str] = {}
        for old, size in wanted[instance.name].items():
            if model.sizes[old] != size:
                model, names[old] = further_dim(model, family(old), size)
        for path, _, module in inside(before, instance):
            after = with_dims(module, names)
            parameters = []
            for p, new in zip(module.parameters, after.parameters, strict=True):
                sizes = p.type.sizes(before.sizes), new.type.sizes(model.sizes)
                if sizes[0] != sizes[1]:
                    at = f"{instance.name}.{path}{p.name}"
                    sources[at] = _copied(Parameter(at), p, *sizes, noise)
                    new = replace(new, source=_copied(p.source, p, *sizes, noise))
                parameters.append(new)
            changed[module.name] = replace(after, parameters=tuple(parameters))
    model = model.with_modules(changed)
    return replace(job, model=model), WeightMap(sources, frozenset())


def _resized(model: Model, wanted: Mapping[str, Mapping[str, int]]) -> Model:
    """The model with new sizes of the dimensions that all their blocks widen alike, but
    for those that one beside them has already."""
    sizes: dict[str, int] = {}
    taken = {(family(d.symbol), d.size) for d in model.dims}
    for d in model.dims:
        having = [b.name for b in model.blocks if d.symbol in _all_symbols(model, b)]
        new = {wanted.get(name, {}).get(d.symbol) for name in having}
        size = new.pop() if len(new) == 1 else None
        if size is not None and (family(d.symbol), size) not in taken:
            sizes[d.symbol] = size
    return replace(
        model,
        dims=tuple(replace(d, size=sizes.get(d.symbol, d.size)) for d in model.dims),
    )


def _all_symbols(model: Model, instance: Instance) -> set[str]:
    return {s for base in "FHG" for s in _symbols(model, instance, base)}


def _copied(
    source: Source,
    p: ParameterDef,
    before: tuple[int, ...],
    after: tuple[int, ...],
    noise: float,
) -> Source:
    """A source of a wider parameter: rows are repeated, and columns shared out."""
    if before[0] != after[0]:
        source = Repeat(source, after[0])
        if noise and p.role == "matrix":
            source = Noise(source, before[0], noise)
    if before[1:] != after[1:]:
        source = Share(source, after[1])
    return source
