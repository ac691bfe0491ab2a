"""An edit: beside chosen linears a product of low rank, which trains in their place.

%_ = linear q(%x)    becomes    %_ = lora_linear q(%x) scale=$lora_scale

LoRA (Hu et al., 2021) adds scale * x A^T B^T to x W^T + b. DoRA (Liu et al., 2024) also
has the length of each row of W + scale * B A as a parameter. B is zero at first, so that
nothing changes until it trains; A starts as PEFT has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from generator.errors import fail
from generator.ir.dims import Type
from generator.ir.job import Attr, Job, Module, ParameterDef, parameters
from generator.ir.sources import Init, Norms, Parameter, Source
from generator.ir.weightmap import WeightMap
from generator.passes.adapting import (
    PLACE,
    adapted,
    freeze,
    linears,
    operation,
    parameter,
    with_number,
    with_size,
)

Kind = Literal["lora_linear", "dora_linear"]
KAIMING = Init("kaiming", 5**0.5)
ZERO = Init("constant", 0.0)


def run(
    job: Job,
    kind: Kind,
    *,
    on: Sequence[str],
    rank: int,
    alpha: float,
    dropout: float,
    blocks: Sequence[int] | None = None,
) -> tuple[Job, WeightMap]:
    """The job with adapters of `rank` on the linears `on`, scaled by alpha / rank."""
    chosen = linears(job.model, on, blocks)
    model, R = with_size(job.model, "R", "rank", rank)
    model, scale = with_number(model, "lora_scale", alpha / rank)
    attrs: list[tuple[str, Attr]] = [("scale", scale)]
    if dropout:
        model, drop = with_number(model, "lora_dropout", dropout)
        attrs.insert(0, ("dropout", drop))
    infos = {p.path: p.source for p in parameters(job)}
    changed: dict[str, Module] = {}
    sources: dict[str, Source] = {}
    for one in chosen:
        module = changed.get(one.module, model.by_name[one.module])
        weight = parameter(module, f"{one.op}.weight")
        most = min(weight.type.sizes(model.sizes))
        if rank > most:
            raise fail(
                "G252",
                f"{one.path} is {' by '.join(map(str, weight.type.sizes(model.sizes)))}"
                f", and no rank above {most} adds to it",
                help=f"rank = {most}",
            )
        if kind == "dora_linear" and isinstance(infos[f"{one.path}.weight"], Init):
            raise fail(
                "G254",
                f"{one.path} starts at 0, and its rows have no direction",
                help="lora, or leave the copies of add-layers out by blocks",
            )
        wide, inner = weight.type.shape
        op = operation(module, one.op)
        added = [
            ParameterDef(
                f"{one.op}.lora_a", Type("f32", (R, inner)), "matrix", KAIMING, PLACE
            ),
            ParameterDef(
                f"{one.op}.lora_b", Type("f32", (wide, R)), "matrix", ZERO, PLACE
            ),
        ]
        sources |= {f"{one.path}.lora_a": KAIMING, f"{one.path}.lora_b": ZERO}
        if kind == "dora_linear":
            length = ParameterDef(
                f"{one.op}.magnitude",
                Type("f32", (wide,)),
                "norm",
                Norms(weight.source),
                PLACE,
            )
            added.append(length)
            before = Parameter(f"{one.path}.weight")
            sources[f"{one.path}.magnitude"] = Norms(before)
        op = replace(op, kind=kind, place=PLACE, attrs=tuple(attrs))
        changed[one.module] = adapted(module, one.op, op, added)
    edited = freeze(model.with_modules(changed))
    return replace(job, model=edited), WeightMap(sources)


lora = partial(run, kind="lora_linear")
dora = partial(run, kind="dora_linear")
