"""Where a model is divided: what never trains, and what goes on from there.

The cut names a value of the main module. What leads to it is the prefix; the suffix is
what leads from it, and from the inputs again, to the logits. What both need, such as a
mask or the tables of a rotation, both work out: it has no parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from generator.ir.job import Job, Model, Module, Op, Value, parameters
from generator.ir.stages import by_stage, cuts

CALLS = frozenset({"call", "repeat"})


@dataclass(frozen=True)
class Division:
    """A model that is cut, and its two halves."""

    model: Model
    blocks: int  # before the cut
    prefix: Module
    suffix: Module


def divisions(job: Job) -> tuple[Division, ...]:
    """One for each value that a job, or a stage of it, cuts the model at.

    The prefixes take the same inputs, and so do the suffixes, whichever they need.
    """
    models = {one.model.cut: one.model for one in by_stage(job)}
    parts = [(models[cut], *halves(models[cut])) for cut in cuts(job)]
    inputs = [
        {v.name for _, *both in parts for v in both[side].inputs} for side in (0, 1)
    ]
    before, after = (
        tuple(v for v in job.model.main.inputs if v.name in names) for names in inputs
    )
    return tuple(
        Division(
            model,
            blocks_before(model),
            replace(prefix, inputs=before),
            replace(suffix, inputs=(suffix.inputs[0], *after)),
        )
        for model, prefix, suffix in parts
    )


def blocks_before(model: Model) -> int:
    """How many blocks lead to the cut of a model; 0 where it has none."""
    return blocks_to(model.main, model.cut)


def blocks_to(main: Module, value: str) -> int:
    """How many blocks lead to a value of the main module."""
    calls = [op for op in reaching(main, (value,)) if op.kind in CALLS]
    parts = [main.instance(op.name) for op in calls]
    return max((one.depth + one.count - 1 for one in parts), default=0)


def halves(model: Model) -> tuple[Module, Module]:
    """The main module up to its cut, and from the cut on, as two modules.

    Both keep all instances and parameters. The suffix takes the cut before the inputs.
    """
    main, cut = model.main, model.cut
    before, after = reaching(main, (cut,)), reaching(main, main.outputs, cut)
    prefix = replace(main, inputs=_read(main, before), ops=before, outputs=(cut,))
    given = Value(cut, main.types[cut])
    suffix = replace(main, inputs=(given, *_read(main, after)), ops=after)
    return prefix, suffix


def reaching(main: Module, wanted: Iterable[str], given: str = "") -> tuple[Op, ...]:
    """The operations that `wanted` follows from, without those behind `given`."""
    needed = set(wanted) - {given}
    found: list[Op] = []
    for op in reversed(main.ops):
        if any(r.name in needed for r in op.results):
            found.append(op)
            needed |= set(op.args) - {given}
    return tuple(reversed(found))


def _read(main: Module, ops: Iterable[Op]) -> tuple[Value, ...]:
    """The inputs of the model that operations take."""
    args = {a for op in ops for a in op.args}
    return tuple(v for v in main.inputs if v.name in args)


def owned(main: Module, op: Op) -> tuple[str, ...]:
    """The paths under which an operation of the main module has its parameters."""
    if op.kind in CALLS:
        return tuple(name for name, _, _ in main.instance(op.name).each())
    return (op.name,) if op.name else ()


def trained(job: Job, paths: Iterable[str]) -> list[str]:
    """The parameters at or under `paths` that are not frozen."""
    under = tuple(f"{path}." for path in paths)
    return [
        p.path
        for p in parameters(job)
        if not p.frozen and f"{p.path}.".startswith(under)
    ]
