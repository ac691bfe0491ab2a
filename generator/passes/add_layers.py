"""An edit: copies of blocks behind them, which change nothing until they have learned.

sub blocks.1 = Block1 keys "h.1." depth 2        becomes
sub blocks.1 = Block1 keys "h.1." depth 2
sub blocks.2 = Block4 keys "h.1." depth 3 zeros attention.out.weight, ff.down.weight

A block that normalises before its halves gives x + attention(...) + ff(...). In a copy the
last layers of the halves start at 0, so that it gives x, exactly; their gradients are not 0,
and those of the other layers are not once these have moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from generator.errors import fail
from generator.ir.job import Instance, Job, Model, Module, Op, next_free, parameters
from generator.ir.sources import ZERO, Parameter, Source
from generator.ir.weightmap import WeightMap
from generator.passes.chosen_blocks import there


def run(job: Job, *, after: Sequence[int]) -> tuple[Job, WeightMap]:
    """The job with a copy behind each of the blocks `after`, from 0; twice for two."""
    model, blocks = job.model, job.model.blocks
    there(model, after)
    zeros = {i: tuple(_branches(model, blocks[i])) for i in sorted(set(after))}
    copies = Counter(after)
    # The old block that each new one is, or is a copy of.
    order = [i for i in range(len(blocks)) for _ in range(1 + copies[i])]
    numbers = _Numbers(blocks[0].name.rpartition(".")[0], order)
    model = _Copier(model, order, zeros).model()
    lists = (
        replace(one, name=name)
        for one in model.lists
        for name in numbers.every(one.name)
    )
    model = replace(model, lists=tuple(lists))
    reference = replace(
        job.reference,
        masked=tuple((k, numbers.first(n)) for k, n in job.reference.masked),
        masked_rows=tuple((k, numbers.first(n)) for k, n in job.reference.masked_rows),
        blocks=tuple(job.block_numbers[i] for i in order),
        total=job.reference.total or len(blocks),
    )
    edited = replace(job, model=model, reference=reference)
    return edited, WeightMap(dict(_sources(edited, order)))


@dataclass(frozen=True)
class _Numbers:
    """The names of lists of blocks, by the numbers that blocks then have."""

    stem: str
    order: Sequence[int]  # the old block that each new one is, or is a copy of

    def every(self, name: str) -> list[str]:
        """Those of the block that a list is of, and of its copies."""
        if not name.startswith(f"{self.stem}."):
            return [name]
        number, _, rest = name.removeprefix(f"{self.stem}.").partition(".")
        new = (i for i, old in enumerate(self.order) if old == int(number))
        return [f"{self.stem}.{i}.{rest}" for i in new]

    def first(self, name: str) -> str:
        return self.every(name)[0]


def _sources(edited: Job, order: Sequence[int]) -> Iterator[tuple[str, Source]]:
    """The parameters that have another name than before, or are a copy's."""
    stem = edited.model.blocks[0].name.rpartition(".")[0]
    for info in parameters(edited):
        for new, old in enumerate(order):
            start = f"{stem}.{new}."
            if info.path.startswith(start):
                rest = info.path.removeprefix(start)
                is_copy = new > 0 and order[new - 1] == old
                if is_copy and info.source == ZERO:
                    yield info.path, ZERO
                elif new != old:
                    yield info.path, Parameter(f"{stem}.{old}.{rest}")


def _branches(model: Model, block: Instance) -> Iterator[str]:
    """The parameters of the last layers of what a block adds to its input.

    GenError where it does something else to its input than to add to it.
    """
    module = model.by_name[block.module]
    made = {r.name: op for op in module.ops for r in op.results}
    value = module.outputs[0]
    while value != module.inputs[0].name:
        op = made[value]
        if op.kind != "add":
            raise fail(
                "G262",
                "the blocks of this model normalise what they give: with a layer in "
                "between, the function would be another one from the start",
                help="leave out add-layers: it is for models that normalise before "
                "attention and feed-forward",
            )
        value, branch = op.args
        last = made[branch]
        while last.kind == "dropout":
            last = made[last.args[0]]
        yield from _last(model, module, last)


def _last(model: Model, module: Module, op: Op) -> Iterator[str]:
    """The parameters of the linear layer that an operation or a call ends in."""
    path = ""
    while op.kind == "call":
        path += f"{op.name}."
        module = model.by_name[module.instance(op.name).module]
        (op,) = (o for o in module.ops if o.results[0].name == module.outputs[0])
    if op.kind != "linear":
        raise fail(
            "G262",
            f"a half of the block ends in {op.kind} of an edit above, which cannot "
            "start at 0",
            help="write add-layers above the edit that put it there",
        )
    yield from (path + p.name for p in module.parameters if _of(p.name, op))


def _of(name: str, op: Op) -> bool:
    return name.rpartition(".")[0] == op.name


class _Copier:
    """Writes the model with blocks in another order, each copy with its own modules."""

    def __init__(
        self, model: Model, order: Sequence[int], zeros: dict[int, tuple[str, ...]]
    ) -> None:
        self.before, self.order, self.zeros = model, order, zeros
        self.modules = list(model.modules[:-1])
        self.number = max(_number(m.name) for m in model.modules)

    def model(self) -> Model:
        before, order = self.before, self.order
        main, blocks = before.main, before.blocks
        stem = blocks[0].name.rpartition(".")[0]
        at = {block.name: i for i, block in enumerate(blocks)}
        instances: list[Instance] = []
        for instance in main.instances:
            if instance.name not in at:
                added = sum(
                    0 <= blocks[old].depth < instance.depth
                    for new, old in enumerate(order)
                    if self.is_copy(new)
                )
                instances.append(replace(instance, depth=instance.depth + added))
                continue
            for new, old in enumerate(order):
                if old == at[instance.name]:
                    one = replace(instance, name=f"{stem}.{new}")
                    if instance.depth >= 0:
                        one = replace(one, depth=instance.depth + new - old)
                    if self.is_copy(new):
                        copied = self.copy(before.by_name[instance.module]).name
                        one = replace(one, module=copied, zeros=self.zeros[old])
                    instances.append(one)
        main = replace(main, instances=tuple(instances), ops=tuple(self.ops(stem, at)))
        dims = tuple(
            replace(d, size=len(order)) if d.symbol == "L" else d for d in before.dims
        )
        return replace(before, dims=dims, modules=(*self.modules, main))

    def is_copy(self, new: int) -> bool:
        return new > 0 and self.order[new - 1] == self.order[new]

    def ops(self, stem: str, at: dict[str, int]) -> Iterator[Op]:
        """The main module's operations, with calls of the copies."""
        named = set(self.before.main.types)
        passed: dict[str, str] = (
            {}
        )  # what a block gave: what the last of its copies does
        for op in self.before.main.ops:
            op = replace(op, args=tuple(passed.get(a, a) for a in op.args))
            if op.name not in at:
                yield op
                continue
            old, result = at[op.name], op.results[0]
            given = result.name
            for new in (n for n, o in enumerate(self.order) if o == old):
                call = replace(op, name=f"{stem}.{new}")
                if self.is_copy(new):
                    name = next_free(result.name, named)
                    named.add(name)
                    args = (given, *op.args[1:])
                    made = (replace(result, name=name),)
                    call = replace(call, args=args, results=made)
                    given = name
                yield call
            passed[result.name] = given

    def copy(self, module: Module) -> Module:
        """A module under another name, with copies of those in it, written before it."""
        instances = tuple(
            replace(i, module=self.copy(self.before.by_name[i.module]).name)
            for i in module.instances
        )
        base = module.name.rstrip("0123456789")
        self.number += 1
        copied = replace(module, name=f"{base}{self.number}", instances=instances)
        self.modules.append(copied)
        return copied


def _number(name: str) -> int:
    """The number that a module's name ends in; 0 where it has none."""
    return int(name.removeprefix(name.rstrip("0123456789")) or 0)
