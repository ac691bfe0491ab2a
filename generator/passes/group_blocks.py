"""Modules that are equal become one class, and calls in a row become a loop.

sub blocks.0 = Block0 keys "encoder.layer.0."    and 1, 2      becomes
sub blocks.0 = Block keys "encoder.layer.{i}." count 3

Where they differ in sizes the class takes those, `sizes F=F2`: see like_modules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from generator.ir.job import Instance, Job, Model, Module, Op
from generator.ir.sources import Source
from generator.ir.weightmap import WeightMap
from generator.passes.chosen_blocks import family
from generator.passes.like_modules import Sizes, outline, shared, sources


def run(job: Job) -> tuple[Job, WeightMap]:
    """Parameters keep their names and values."""
    model = _repeat(_merge(job.model))
    return replace(job, model=model, level="shaped"), WeightMap()


@dataclass(frozen=True)
class _Use:
    """What stands for a module: one that may be shared, with what is its own."""

    module: str
    sizes: Sizes
    sources: tuple[tuple[str, Source], ...]

    def of(self, instance: Instance) -> Instance:
        return replace(
            instance, module=self.module, sizes=self.sizes, sources=self.sources
        )


def _merge(model: Model) -> Model:
    """One module for all that are equal, named without the number of its block.

    Those that differ in sizes, or in where weights come from, are one too, and what
    differs is said where they stand.
    """
    kept: dict[str, Module] = {}  # by the name of the first of them
    uses: dict[str, _Use] = {}  # by the old name
    for level in _levels(model):
        alike: dict[object, list[Module]] = {}
        for module in level:
            instances = tuple(uses[i.module].of(i) for i in module.instances)
            module = replace(module, instances=instances)
            alike.setdefault(outline(model, module), []).append(module)
        for members in alike.values():
            for one in shared(model, members):
                kept[one.module.name] = one.module
                each = [sources(kept, member) for member in one.members]
                for member, sizes, own in zip(
                    one.members, one.sizes, each, strict=True
                ):
                    other = tuple((p, s) for p, s in own.items() if s != each[0][p])
                    uses[member.name] = _Use(one.module.name, sizes, other)
    return _named(model, kept)


def _levels(model: Model) -> list[list[Module]]:
    """The modules by how many they go deep, each behind those that it is made of."""
    deep: dict[str, int] = {}
    for module in model.modules:
        deep[module.name] = 1 + max(
            (deep[i.module] for i in module.instances), default=0
        )
    return [
        [m for m in model.modules if deep[m.name] == level]
        for level in sorted(set(deep.values()))
    ]


def _named(model: Model, kept: Mapping[str, Module]) -> Model:
    """The model with these modules, in their order, by names without numbers."""
    taken: Counter[str] = Counter()
    names: dict[str, str] = {}
    modules: list[Module] = []
    for old in model.modules:
        if old.name not in kept:
            continue
        base = family(old.name)
        taken[base] += 1
        names[old.name] = base if taken[base] == 1 else f"{base}{taken[base]}"
        module = kept[old.name]
        instances = tuple(replace(i, module=names[i.module]) for i in module.instances)
        modules.append(replace(module, name=names[old.name], instances=instances))
    return replace(model, modules=tuple(modules))


def _repeat(model: Model) -> Model:
    return model.with_modules({m.name: _repeat_in(m) for m in model.modules})


def _repeat_in(module: Module) -> Module:
    uses = Counter(a for op in module.ops for a in op.args)
    uses.update(module.outputs)
    ops: list[Op] = []
    instances = list(module.instances)
    run: list[Op] = []

    def close() -> None:
        if len(run) < 2:
            ops.extend(run)
        else:
            found = [module.instance(op.name) for op in run]
            at = instances.index(found[0])
            keys = _pattern(found)
            assert keys is not None  # a run holds only what has one
            instances[at] = replace(found[0], keys=keys, count=len(run))
            for other in found[1:]:
                instances.remove(other)
            ops.append(
                replace(
                    run[0], kind="repeat", results=run[-1].results, args=run[0].args
                )
            )
        run.clear()

    for op in module.ops:
        if op.kind != "call" or not op.args:
            close()
            ops.append(op)
            continue
        if run and not _follows(module, run, op, uses):
            close()
        run.append(op)
    close()
    return replace(module, ops=tuple(ops), instances=tuple(instances))


def _follows(module: Module, run: list[Op], op: Op, uses: Counter[str]) -> bool:
    """Whether a call goes on where a run of calls of the same module ends."""
    last = run[-1]
    a, b = module.instance(last.name), module.instance(op.name)
    result = last.results[0]
    return (
        a.module == b.module
        and (a.sizes, a.sources) == (b.sizes, b.sources)
        and a.zeros == b.zeros == ()  # a copy is loaded by itself
        and len(last.results) == len(op.results) == 1
        and op.args[0] == result.name
        and op.args[1:] == last.args[1:]
        and uses[result.name] == 1
        and module.types[last.args[0]] == result.type == op.results[0].type
        and _number(b.name) == _number(a.name) + 1
        and (a.depth < 0) == (b.depth < 0)
        and (a.depth < 0 or b.depth == a.depth + 1)
        and _pattern([*(module.instance(o.name) for o in run), b]) is not None
    )


def _number(name: str) -> int:
    last = name.rpartition(".")[2]
    return int(last) if last.isdigit() else -2


def _pattern(instances: list[Instance]) -> str | None:
    """The keys of all with `{i}` for the number of each; None where they differ."""
    first = instances[0]
    for match in re.finditer(r"\d+", first.keys):
        pattern = first.keys[: match.start()] + "{i}" + first.keys[match.end() :]
        if all(
            pattern.replace("{i}", str(_number(i.name))) == i.keys for i in instances
        ):
            return pattern
    return None
