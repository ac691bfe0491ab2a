"""An edit: the tokens that the training data does not use are left in the checkpoint.

Texts whose tokens are all kept have the same logits; what the others become is counted by
`gen facts --vocabulary`. The tokenizer is trimmed beside it (generator/vocab.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from generator.errors import fail
from generator.ir.job import Job, KeptList, Module, Op, ParameterDef
from generator.ir.plans import TextPlan
from generator.ir.sources import Parameter, Source, Take
from generator.ir.weightmap import WeightMap, paths_of

NAME = "vocab"  # of the list of kept ids


def run(job: Job, *, kept: Sequence[int]) -> tuple[Job, WeightMap]:
    """The job with the token ids `kept` alone, ascending, and renumbered from 0."""
    inputs = job.data.inputs
    if not isinstance(inputs, TextPlan):
        raise fail("G231", "a job of images has no vocabulary", help="remove the edit")
    model, index = job.model, tuple(kept)
    if kept_tokens(job):
        raise fail(
            "G231", "the vocabulary is trimmed already", help="remove one of two"
        )
    new = {old: i for i, old in enumerate(index)}
    changed: dict[str, Source] = {}
    lists: dict[str, tuple[int, ...]] = {}
    paths = paths_of(model)
    modules: dict[str, Module] = {}
    for module in model.modules:
        tables = {f"{op.name}.weight" for op in module.ops if _reads_tokens(op)}

        def cut(p: ParameterDef) -> ParameterDef:
            return replace(p, source=Take(p.source, 0, NAME))

        modules[module.name] = replace(
            module,
            parameters=tuple(
                cut(p) if p.name in tables else p for p in module.parameters
            ),
            ops=tuple(_renumbered(op, new) for op in module.ops),
        )
        for path in paths[module.name]:
            for table in tables:
                name = path + NAME
                lists[name] = index
                changed[path + table] = Take(Parameter(path + table), 0, name, index)
    dims = tuple(
        replace(d, size=len(index)) if d.symbol == "V" else d for d in model.dims
    )
    every = (*model.lists, *(KeptList(name, one) for name, one in lists.items()))
    model = replace(model, dims=dims, lists=every).with_modules(modules)
    data = replace(job.data, inputs=replace(inputs, pad_id=new[inputs.pad_id]))
    return replace(job, model=model, data=data), WeightMap(changed)


def kept_tokens(job: Job) -> tuple[int, ...]:
    """The ids, as the backbone numbers them, of the tokens that are kept; () for all."""
    for one in job.model.lists:
        if one.name.rpartition(".")[2] == NAME:
            return one.index
    return ()


def _reads_tokens(op: Op) -> bool:
    return op.kind == "embedding" and op.args == ("ids",)


def _renumbered(op: Op, new: dict[int, int]) -> Op:
    """An operation that knows the padding token by its id."""
    padding = op.attrs_dict.get("padding")
    if not isinstance(padding, int) or new[padding] == padding:
        return op
    if op.kind == "token_places":  # its rows start after the id that it had
        raise fail(
            "G231",
            f"the padding token has the id {padding} here and would have {new[padding]}: "
            "positions of this architecture start after it",
            help="keep every token with a smaller id, by `keep`",
        )
    attrs = tuple((k, new[padding] if k == "padding" else v) for k, v in op.attrs)
    return replace(op, attrs=attrs)
