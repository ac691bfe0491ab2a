"""An edit: the outputs or inputs of chosen linears are multiplied by vectors that train.

%_ = linear k(%x)    becomes    %_ = ia3_linear k(%x) of="output"

(IA)3 (Liu et al., 2022). The vectors are ones at first, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from generator.ir.dims import Type
from generator.ir.job import Job, Module, ParameterDef
from generator.ir.sources import Init, Source
from generator.ir.weightmap import WeightMap
from generator.passes.adapting import (
    PLACE,
    adapted,
    freeze,
    linears,
    operation,
    parameter,
)

ONE = Init("constant", 1.0)


def run(
    job: Job,
    *,
    on: Sequence[str],
    inputs: Sequence[str],
    blocks: Sequence[int] | None = None,
) -> tuple[Job, WeightMap]:
    """The job with a vector for each linear of `on`; it scales the input of `inputs`."""
    changed: dict[str, Module] = {}
    sources: dict[str, Source] = {}
    for one in linears(job.model, on, blocks):
        module = changed.get(one.module, job.model.by_name[one.module])
        of = "input" if one.name in inputs or one.path in inputs else "output"
        wide, inner = parameter(module, f"{one.op}.weight").type.shape
        op = operation(module, one.op)
        size = inner if of == "input" else wide
        gain = ParameterDef(f"{one.op}.gain", Type("f32", (size,)), "norm", ONE, PLACE)
        sources[f"{one.path}.gain"] = ONE
        op = replace(op, kind="ia3_linear", place=PLACE, attrs=(("of", of),))
        changed[one.module] = adapted(module, one.op, op, [gain])
    edited = freeze(job.model.with_modules(changed))
    return replace(job, model=edited), WeightMap(sources)
