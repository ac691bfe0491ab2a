"""An edit: some blocks stay, the others are left in the checkpoint.

What a kept block reads is what the block before it gives, as if those between were not
there: exactly the reference with those blocks skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from generator.ir.job import Instance, Job, Model, Module, Unused, parameters
from generator.ir.sources import Parameter, Source, keys
from generator.ir.weightmap import WeightMap
from generator.passes.chosen_blocks import in_order, there, too_many

DROPPED = "left out by keep-layers"


def run(
    job: Job,
    *,
    layers: Sequence[int] | None = None,
    n: int | None = None,
    choose: str = "evenly",
) -> tuple[Job, WeightMap]:
    """The job with the blocks `layers`, from 0 and in order, or with `n` of them."""
    blocks = job.model.blocks
    kept = _chosen(job.model, layers, n, choose)
    stem = blocks[0].name.rpartition(".")[0]
    number = {blocks[old].name: new for new, old in enumerate(kept)}
    moved = {f"{stem}.{old}.": f"{stem}.{new}." for new, old in enumerate(kept)}
    model = _with_lists(_without(job.model, number), moved, stem)
    edited = replace(job, model=model)
    before = {p.path: p for p in parameters(job)}
    changed: dict[str, Source] = {}
    for new, old in enumerate(kept):
        start = f"{stem}.{old}."
        for path in before:
            if path.startswith(start) and new != old:
                changed[f"{stem}.{new}." + path.removeprefix(start)] = Parameter(path)
    after = {p.path: p for p in parameters(edited)}
    read = {key for p in after.values() for key in keys(p.source)}
    left = {
        key: Unused(key, DROPPED)
        for path, p in before.items()
        if path.startswith(f"{stem}.")
        for key in keys(p.source)
        if key not in read
    }
    unused = {u.key: u for u in model.unused} | left
    model = replace(
        model, unused=tuple(unused[t.key] for t in model.tensors if t.key in unused)
    )

    def still(masked: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return tuple((k, _moved(name, moved)) for k, name in masked if k in read)

    reference = replace(
        job.reference,
        masked=still(job.reference.masked),
        masked_rows=still(job.reference.masked_rows),
        blocks=tuple(job.block_numbers[old] for old in kept),
        total=job.reference.total or len(blocks),
    )
    return (
        replace(job, model=model, reference=reference),
        WeightMap(changed, frozenset(before.keys() - after.keys())),
    )


def _chosen(
    model: Model, layers: Sequence[int] | None, n: int | None, choose: str
) -> tuple[int, ...]:
    count = len(model.blocks)
    if layers is not None:
        in_order(layers, "layers")
        there(model, layers)
        return tuple(layers)
    assert n is not None  # the spec has one of the two
    if n > count:
        raise too_many(n, count)
    match choose:
        case "first":
            return tuple(range(n))
        case "last":
            return tuple(range(count - n, count))
    # The first and the last, and the rest spread between them.
    return tuple((i * (count - 1) + (n - 1) // 2) // max(n - 1, 1) for i in range(n))


def _without(model: Model, number: dict[str, int]) -> Model:
    """The model with the blocks that have a new number, under it."""
    main = model.main
    dropped = [b for b in model.blocks if b.name not in number]
    stem = model.blocks[0].name.rpartition(".")[0]

    def named(instance: Instance) -> Instance:
        if instance.name in number:
            instance = replace(instance, name=f"{stem}.{number[instance.name]}")
        above = sum(0 <= b.depth < instance.depth for b in dropped)
        return replace(instance, depth=instance.depth - above)

    gone = {b.name for b in dropped}
    passed: dict[str, str] = {}  # what a dropped block gives: what it takes
    ops = []
    for op in main.ops:
        op = replace(op, args=tuple(passed.get(a, a) for a in op.args))
        if op.name in gone:
            passed[op.results[0].name] = op.args[0]
            continue
        if op.name in number:
            op = replace(op, name=f"{stem}.{number[op.name]}")
        ops.append(op)
    edited = replace(
        main,
        ops=tuple(ops),
        instances=tuple(named(i) for i in main.instances if i.name not in gone),
        outputs=tuple(passed.get(o, o) for o in main.outputs),
    )
    dims = tuple(
        replace(d, size=len(number)) if d.symbol == "L" else d for d in model.dims
    )
    model = replace(model, dims=dims).with_modules({main.name: edited})
    return replace(model, modules=_used(model))


def _moved(name: str, moved: Mapping[str, str]) -> str:
    """A list's name with its block's new number."""
    for old, new in moved.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _with_lists(model: Model, moved: Mapping[str, str], stem: str) -> Model:
    """The model with the lists of its blocks, under their new numbers."""
    lists = [
        replace(one, name=_moved(one.name, moved))
        for one in model.lists
        if not one.name.startswith(f"{stem}.") or one.name.startswith(tuple(moved))
    ]
    return replace(model, lists=tuple(lists))


def _used(model: Model) -> tuple[Module, ...]:
    """The modules that the main one still reaches, in their order."""
    reached: set[str] = set()
    todo = [model.main.name]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [i.module for i in model.by_name[name].instances]
    return tuple(m for m in model.modules if m.name in reached)
