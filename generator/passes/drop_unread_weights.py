"""Rows of a table that this job never reads are left in the checkpoint.

A token-type table of which only row 0 is read becomes that row.
"""

from __future__ import annotations

from dataclasses import replace

from generator.ir.dims import Type
from generator.ir.job import DimDef, Job, Model, Module, Op, ParameterDef
from generator.ir.sources import Parameter, Row, Source
from generator.ir.weightmap import WeightMap, paths_of


def run(job: Job) -> tuple[Job, WeightMap]:
    model = job.model
    sources: dict[str, Source] = {}
    dropped: set[str] = set()
    paths = paths_of(model)
    for name in [m.name for m in model.modules]:
        for op in model.by_name[name].ops:
            module = model.by_name[name]
            table = f"{op.name}.weight"
            if op.kind == "row":
                index = op.attrs_dict["index"]
                assert isinstance(index, int)
                model = model.with_modules({name: _to_row(module, op, index)})
                for path in paths[name]:
                    old = Parameter(path + table)
                    sources[path + op.name] = Row(old, index)
                    dropped.add(old.path)
    model = drop_unused_dims(model)
    return replace(job, model=model), WeightMap(sources, frozenset(dropped))


def _to_row(module: Module, op: Op, index: int) -> Module:
    def change(p: ParameterDef) -> ParameterDef:
        if p.name != f"{op.name}.weight":
            return p
        kind = Type("f32", p.type.shape[1:])
        return replace(p, name=op.name, type=kind, source=Row(p.source, index))

    return replace(
        module,
        parameters=tuple(map(change, module.parameters)),
        ops=tuple(
            replace(o, kind="parameter", attrs=()) if o is op else o for o in module.ops
        ),
    )


def drop_unused_dims(model: Model) -> Model:
    """Without the sizes that nothing has any more; Config is written from the rest."""
    used: set[str] = set()
    for module in model.modules:
        for kind in [*module.types.values(), *(p.type for p in module.parameters)]:
            for d in kind.shape:
                used |= d.names
        for op in module.ops:
            for _, value in op.attrs:
                for d in value if isinstance(value, tuple) else (value,):
                    used |= getattr(d, "names", frozenset())

    def keep(d: DimDef) -> bool:
        # The number of blocks is no type's, and Config has it all the same.
        return d.size is None or d.symbol in used or d.symbol == "L"

    return replace(model, dims=tuple(d for d in model.dims if keep(d)))
