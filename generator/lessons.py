"""What a job learns of what its teacher has inside: which blocks, and which relations.

Hidden states are compared block by block (TinyBERT, Jiao et al. 2020), attention by the
relations of queries, keys and values (MiniLMv2, Wang et al. 2021), which are of tokens with
tokens, whatever heads and widths the two models have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

from generator.errors import fail
from generator.ir.dims import Dim, number
from generator.ir.inside import Attending, Columns, attending, blocks, positions
from generator.ir.job import Job, parameters
from generator.ir.stages import by_stage
from generator.spec import SpecFile

TABLE = "train.distill"
Pair = tuple[int, int]  # of blocks: the job's own, the teacher's
Written = tuple[str, int, int]  # of columns


@dataclass(frozen=True)
class Inside:
    """What is compared; see DistillPlan."""

    pairs: tuple[Pair, ...] = ()
    one_position: bool = False
    width: int = 0
    heads: int = 0
    related: tuple[tuple[Written, Written], ...] = ()


def inside(spec_file: SpecFile, job: Job, teacher: Job) -> Inside:
    """What the spec asks to be compared. GenError where it cannot be."""
    asked = spec_file.spec.train.distill
    if not (asked.hidden or asked.attention):
        return Inside()
    if job.target.compile:
        raise fail(
            "G284",
            "what a compiled model has inside is not heard",
            place=spec_file.place("target.compile"),
            label="hidden and attention in [train.distill] listen to it while it runs",
            help="remove compile, or both of them",
        )
    pairs = _pairs(spec_file, job, teacher)
    last, heads = pairs[-1], 0
    related: list[tuple[Written, Written]] = []
    if asked.attention:
        both = list(_related(spec_file, job, teacher, last))
        related = [(_written(own), _written(other)) for own, other in both]
        heads = _heads(spec_file, both)
    return Inside(
        pairs=pairs if asked.hidden else (),
        one_position=asked.hidden > 0
        and _positions(job, teacher, last) != ("all",) * 2,
        width=teacher.model.sizes["C"],
        heads=heads,
        related=tuple(related),
    )


def counterparts(job: Job, teacher: Job) -> tuple[Pair, ...]:
    """The teacher's block for blocks of the job, where none are given.

    Where the two keep blocks of one backbone, a block goes with itself; else the blocks of
    the shorter model go with those of the longer one evenly, the last with the last.
    """
    own, theirs = _numbers(job), _numbers(teacher)
    ascending = all(list(n) == sorted(set(n)) for n in (own, theirs))
    same = [(own.index(n), theirs.index(n)) for n in own if n in theirs]
    if job.backbone == teacher.backbone and ascending and same:
        return tuple(same)
    few, many = sorted((len(own), len(theirs)))
    spread = [((i + 1) * many // few - 1, i) for i in range(few)]
    return tuple((i, far) if len(own) == few else (far, i) for far, i in spread)


def _numbers(job: Job) -> tuple[int, ...]:
    """What number the checkpoint has each block under."""
    return job.reference.blocks or tuple(range(len(blocks(job.model))))


def _pairs(spec_file: SpecFile, job: Job, teacher: Job) -> tuple[Pair, ...]:
    """Those that are given, each of which has to fit, or else all that do."""
    given = spec_file.spec.train.distill.layers
    pairs = given or counterparts(job, teacher)
    unfit = {pair: why for pair in pairs if (why := _unfit(job, teacher, pair))}
    if given is not None:
        for before, pair in pairwise(given):
            if pair[0] <= before[0] or pair[1] <= before[1]:
                unfit.setdefault(pair, "layers ascend, in this job and in the teacher")
    if unfit and (given is not None or len(unfit) == len(pairs)):
        own, other = pair = next(iter(unfit))
        key = "hidden" if spec_file.spec.train.distill.hidden else "attention"
        at = f"layers[{given.index(pair)}]" if given is not None else key
        raise fail(
            "G283",
            f"block {own} cannot learn from block {other} of {teacher.name}",
            place=spec_file.place(f"{TABLE}.{at}"),
            label=unfit[pair],
            help=f"this job has {len(blocks(job.model))} blocks and the teacher "
            f"{len(blocks(teacher.model))}, from 0",
        )
    return tuple(pair for pair in pairs if pair not in unfit)


def _unfit(job: Job, teacher: Job, pair: Pair) -> str:
    """Why two blocks cannot be compared; "" where they can."""
    for one, block, whose in zip((job, teacher), pair, ("this job", "the teacher")):
        if block >= len(blocks(one.model)):
            return f"{whose} has no block {block}"
    if not _learns(job, pair[0]):
        return "all that leads to it is frozen"
    which = _positions(job, teacher, pair)
    if "last" in which and len(set(which)) > 1:
        return "one gives the last token of a row alone, and the other does not"
    own, other = _read(job), _read(teacher)
    if own != other and set(which) == {"all"}:
        return f"it gives {own} positions, and the teacher's {other}"
    return ""


def _positions(job: Job, teacher: Job, pair: Pair) -> tuple[str, str]:
    own, other = (blocks(m.model)[n] for m, n in zip((job, teacher), pair))
    return positions(job.model, own), positions(teacher.model, other)


def _read(job: Job) -> Dim:
    """How many positions the blocks read of a row."""
    main = job.model.main
    count = main.types[blocks(job.model)[0].op.args[0]].shape[1]
    return (
        count
        if count.names & job.model.varying
        else number(count.value(job.model.sizes))
    )


def _learns(job: Job, block: int) -> bool:
    """Whether something trains, in one stage at least, that a block's states follow from."""
    return any(
        not p.frozen and p.depth <= block + 1
        for one in by_stage(job)
        for p in parameters(one)
    )


def _related(
    spec_file: SpecFile, job: Job, teacher: Job, pair: Pair
) -> Iterator[tuple[Columns, Columns]]:
    """What of two blocks has relations, of each for all tokens."""
    own, other = (
        attending(one.model, blocks(one.model)[block])
        for one, block in zip((job, teacher), pair)
    )
    if own is None or other is None or _read(job) != _read(teacher):
        raise fail(
            "G284",
            f"block {pair[0]} and block {pair[1]} of {teacher.name} attend otherwise",
            place=spec_file.place(f"{TABLE}.attention"),
            label="their queries, keys and values are not those of linears for as many "
            "positions",
            help="remove attention",
        )
    for name in Attending.__dataclass_fields__:
        mine, theirs = getattr(own, name), getattr(other, name)
        if mine is not None and theirs is not None:
            yield mine, theirs


def _heads(spec_file: SpecFile, both: list[tuple[Columns, Columns]]) -> int:
    """Into how many parts all of them are cut."""
    widths = [columns.width for pair in both for columns in pair]
    asked = spec_file.spec.train.distill.relation_heads
    if asked is None:
        return gcd(both[-1][1].heads, *widths)
    if wrong := [width for width in widths if width % asked]:
        raise fail(
            "G284",
            f"{wrong[0]} columns cannot be cut into {asked} relation heads",
            place=spec_file.place(f"{TABLE}.relation_heads"),
            label=f"{gcd(*widths)} is the most that the two blocks have in common",
            help="a divisor of that, or remove it",
        )
    return asked


def _written(columns: Columns) -> Written:
    return columns.linear, columns.start, columns.stop
