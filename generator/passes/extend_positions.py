"""An edit: a model of texts has more positions, and reads longer rows.

param position.weight: f32[P,C] = ckpt "position"
    becomes  tile(ckpt "position", 1024, 0)   or   stretch(ckpt "position", 1024, 0)
%cos, %sin = rope_tables(%ids) kind="default" theta=10000.0
    becomes  rope_tables(%ids) factor=2.0 kind="linear" theta=10000.0

Learned positions are repeated, as those of Longformer were (Beltagy, Peters and Cohan, 2020,
section 5), or interpolated; rows of a table that stand ahead of position 0, as padding has,
stay. Of rotary ones the angles are made smaller. With tile alone the old lengths compute what
they computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from generator.errors import fail
from generator.ir.job import Attr, Job, Module, Op
from generator.ir.plans import TextPlan
from generator.ir.sources import Parameter, Source, Stretch, Tile
from generator.ir.weightmap import WeightMap, paths_of

Way = Literal["tile", "interpolate", "linear", "ntk", "yarn"]
LEARNED: Mapping[str, type[Tile | Stretch]] = {
    "tile": Tile,
    "interpolate": Stretch,
}
ROTARY = ("linear", "ntk", "yarn")


def run(
    job: Job, *, to: int, by: Way | None = None, max_tokens: int | None = None
) -> tuple[Job, WeightMap]:
    """The job with positions for `to` tokens, and rows of up to `max_tokens` of them."""
    inputs, model = job.data.inputs, job.model
    if not isinstance(inputs, TextPlan):
        raise fail(
            "G266",
            "extend-positions is for texts, and this job is of images",
            help='do = "resize-image" takes larger ones',
        )
    now = next(d.bound for d in model.dims if d.symbol == "T")
    if job.reference.positions or now is None:
        raise fail(
            "G263", "the positions are extended already", help="remove one of the two"
        )
    if to <= now:
        raise fail(
            "G263",
            f"the model has {now} positions: {to} is no more",
            help=f"to = {now + 1}, or more; max_tokens in [data] makes rows shorter",
        )
    tables = [(m, name) for m in model.modules if (name := _table(m))]
    by = by or ("tile" if tables else "yarn")
    kinds = tuple(LEARNED) if tables else ROTARY
    if by not in kinds:
        what = "learned" if tables else "rotary"
        raise fail(
            "G264",
            f"positions of this model are {what}, and {by} is not for them",
            help=f"by is {', '.join(kinds[:-1])} or {kinds[-1]}",
        )
    sources: dict[str, Source] = {}
    if tables:
        ((module, table),) = tables
        job, sources, rows = _longer_table(job, module, table, to - now, by)
    else:
        job, rows = _scaled(job, now, to, by), to
    dims = tuple(replace(d, bound=to) if d.symbol == "T" else d for d in job.model.dims)
    longest = min(max_tokens or inputs.max_tokens, to)
    return (
        replace(
            job,
            model=replace(job.model, dims=dims),
            data=replace(job.data, inputs=replace(inputs, max_tokens=longest)),
            reference=replace(job.reference, positions=rows),
        ),
        WeightMap(sources),
    )


def _table(module: Module) -> str:
    """The parameter that has a row for each position; "" where there is none."""
    places = {
        r.name for op in module.ops if op.kind == "token_places" for r in op.results
    }
    for op in module.ops:
        if op.kind == "positions" or op.kind == "embedding" and places & {*op.args}:
            return f"{op.name}.weight"
    return ""


def _longer_table(
    job: Job, module: Module, table: str, more: int, by: Way
) -> tuple[Job, dict[str, Source], int]:
    """The job with `more` rows in the table, its source, and how many rows there are."""
    model = job.model
    (old,) = (p for p in module.parameters if p.name == table)
    size = old.type.shape[0].value(model.sizes)
    now = next(d.bound for d in model.dims if d.symbol == "T")
    assert now is not None
    first = size - now  # rows ahead of position 0
    if by == "interpolate" and now < 2:
        raise fail("G264", "there is nothing between one position", help='by = "tile"')
    made = LEARNED[by]
    parameters = tuple(
        replace(p, source=made(p.source, size + more, first)) if p is old else p
        for p in module.parameters
    )
    model = model.with_modules({module.name: replace(module, parameters=parameters)})
    dims = tuple(
        replace(d, size=size + more) if {d.symbol} == old.type.shape[0].names else d
        for d in model.dims
    )
    (at,) = paths_of(model)[module.name]
    sources: dict[str, Source] = {
        at + table: made(Parameter(at + table), size + more, first)
    }
    return replace(job, model=replace(model, dims=dims)), sources, size + more


def _scaled(job: Job, now: int, to: int, by: Way) -> Job:
    """The job with angles that turn as far over `to` positions as over `now` before."""
    changed = {}
    for module in job.model.modules:
        ops = tuple(
            (
                _with_smaller_angles(job, op, now, to, by)
                if op.kind == "rope_tables"
                else op
            )
            for op in module.ops
        )
        if ops != module.ops:
            changed[module.name] = replace(module, ops=ops)
    return replace(job, model=job.model.with_modules(changed))


def _with_smaller_angles(job: Job, op: Op, now: int, to: int, by: Way) -> Op:
    attrs: dict[str, Any] = dict(op.attrs)
    if attrs["kind"] != "default":
        raise fail(
            "G264",
            f"the checkpoint's own angles are scaled already ({attrs['kind']})",
            help="leave the edit out, or take a checkpoint whose are not",
        )
    factor, theta = to / now, attrs["theta"]
    new: dict[str, Attr]
    match by:
        case "linear":  # Chen et al. (2023): position interpolation
            new = {"kind": "linear", "factor": factor}
        case "yarn":  # Peng et al. (2023), with their defaults, which are transformers'
            new = {
                "kind": "yarn",
                "factor": factor,
                "attention_factor": 0.1 * math.log(factor) + 1.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "original_positions": now,
                "truncate": True,
            }
        case _:  # the slowest pair is stretched by the factor, the fastest not at all
            width = attrs["width"].value(job.model.sizes)
            if width < 4:
                raise fail(
                    "G264",
                    "heads of one pair have one frequency, and ntk needs two",
                    help='by = "linear"',
                )
            new = {"theta": theta * factor ** (width / (width - 2))}
    return replace(op, attrs=tuple(sorted({**attrs, **new}.items())))
