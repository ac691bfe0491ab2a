"""An edit: behind parts of a block a narrow detour, added to what passes, that trains.

%_ = call ff(%x)    becomes    %_ = call ff(%x)
                               %_.2 = call ff_adapter(%_)

Houlsby et al. (2019): x + up(activation(down(x))). `up` is zero at first, so that nothing
changes until it trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from generator.errors import fail
from generator.ir.dims import Dim, Type
from generator.ir.emit import Emitter
from generator.ir.job import Instance, Job, Model, Module, Op, ParameterDef, Value
from generator.ir.sources import Init, Source
from generator.ir.weightmap import WeightMap
from generator.passes.adapting import PLACE, freeze, named, unknown, with_size

DOC = "What passes, and a narrow detour that is added to it."
WEIGHT, ZERO = Init("normal", 0.02), Init("constant", 0.0)


def run(
    job: Job,
    *,
    on: Sequence[str],
    width: int,
    activation: str,
    blocks: Sequence[int] | None = None,
) -> tuple[Job, WeightMap]:
    """The job with detours of `width` behind the parts `on` of its blocks."""
    model, A = with_size(job.model, "A", "adapter", width)
    sources: dict[str, Source] = {}
    for name, some in named(model, on, blocks):
        for number in some:
            block = model.blocks[number]
            before = model.by_name[block.module]
            calls = {op.name: op for op in before.ops if op.kind == "call"}
            parts = [n for n in calls if not n.endswith("_adapter")]
            if name not in parts:
                raise unknown("part", name, parts)
            if f"{name}_adapter" in calls:
                raise fail(
                    "G253",
                    f"{block.name}.{name} has an adapter already",
                    help="leave one of the two out",
                )
            kind = calls[name].results[0].type
            detour = _detour(model, kind, A, activation)
            after = _behind(before, calls[name], detour)
            at = model.modules.index(before)
            modules = (*model.modules[:at], detour, after, *model.modules[at + 1 :])
            model = replace(model, modules=modules)
            path = f"{block.name}.{name}_adapter"
            sources |= {f"{path}.{p.name}": p.source for p in detour.parameters}
    return replace(job, model=freeze(model)), WeightMap(sources)


def _detour(model: Model, kind: Type, A: Dim, activation: str) -> Module:
    C = kind.shape[-1]
    number = sum(m.name.startswith("Adapter") for m in model.modules)
    parameters = (
        ParameterDef("down.weight", Type("f32", (A, C)), "matrix", WEIGHT, PLACE),
        ParameterDef("down.bias", Type("f32", (A,)), "bias", ZERO, PLACE),
        ParameterDef("up.weight", Type("f32", (C, A)), "matrix", ZERO, PLACE),
        ParameterDef("up.bias", Type("f32", (C,)), "bias", ZERO, PLACE),
    )
    module = Module(f"Adapter{number}", (Value("x", kind),), (), (), parameters)
    e = Emitter(model, replace(module, doc=DOC), {})

    def linear(name: str, x: str) -> str:
        stub = Value("_", Type("f32", ()))
        return e.put(Op("linear", (stub,), (), name, (), PLACE), [x])[0]

    stub = Value("_", kind)
    bend = Op("activation", (stub,), (), "", (("kind", activation),), PLACE)
    (y,) = e.put(bend, [linear("down", "x")])
    return e.done([e.new("add", ["x", linear("up", y)], "_", PLACE)])


def _behind(block: Module, call: Op, detour: Module) -> Module:
    """The block with a detour between a call and what reads its result."""
    (result,) = call.results
    number = 2
    while f"{result.base}.{number}" in block.types:
        number += 1
    value = replace(result, name=f"{result.base}.{number}")
    name = f"{call.name}_adapter"
    ops: list[Op] = []
    for op in block.ops:
        args = (value.name if a == result.name else a for a in op.args)
        ops.append(replace(op, args=tuple(args)))
        if op is call:
            ops.append(Op("call", (value,), (result.name,), name, (), PLACE))
    return replace(
        block,
        ops=tuple(ops),
        outputs=tuple(value.name if o == result.name else o for o in block.outputs),
        instances=(*block.instances, Instance(name, detour.name)),
    )
