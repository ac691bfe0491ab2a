"""The passes: functions from job to job and weight map, one file each, in order.

Each states what it keeps: the function, the gradient of every weight, and the training
trajectory (in fp64, without dropout, under an optimizer that works element by element).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from generator.errors import fail
from generator.ir.job import Job, Level
from generator.ir.verify import verify
from generator.ir.weightmap import WeightMap
from generator.passes import (
    adapter,
    add_layers,
    draw_masks_by_bits,
    drop_unread_weights,
    extend_positions,
    freeze_prefix,
    fuse_qkv,
    group_blocks,
    ia3,
    keep_layers,
    lora,
    low_rank,
    new_head,
    only_needed_positions,
    pool_layers,
    prune_ffn,
    prune_heads,
    prune_width,
    resize_image,
    trim_vocab,
    widen,
)

Preserves = frozenset[str]
ALL: Preserves = frozenset({"function", "gradient", "trajectory"})


@dataclass(frozen=True)
class Pass:
    name: str
    run: Callable[[Job], tuple[Job, WeightMap]]
    preserves: Preserves
    requires: tuple[Level, ...]  # the levels that it takes
    ensures: Level | None  # the level that it leads to; None keeps it
    doc: str


PASSES: tuple[Pass, ...] = (
    Pass(
        "only-needed-positions",
        only_needed_positions.run,
        ALL,
        ("imported", "optimised"),
        None,
        "one query in the last block where the head reads one position",
    ),
    Pass(
        "fuse-qkv",
        fuse_qkv.run,
        ALL,
        ("imported", "optimised"),
        None,
        "one product for query, key and value",
    ),
    Pass(
        "drop-unread-weights",
        drop_unread_weights.run,
        ALL,
        ("imported", "optimised"),
        None,
        "no rows that this job never reads",
    ),
    Pass(
        "draw-masks-by-bits",
        draw_masks_by_bits.run,
        ALL,
        ("imported", "optimised"),
        None,
        "dropout from 16 random bits an element, where a processor draws them",
    ),
    Pass(
        "group-blocks",
        group_blocks.run,
        ALL,
        ("imported", "optimised"),
        "shaped",
        "one class for equal modules, one loop for calls in a row",
    ),
    Pass(
        "freeze-prefix",
        freeze_prefix.run,
        ALL,
        ("shaped",),
        None,
        "what is frozen from the input on runs once, and not in every step",
    ),
)
BY_NAME = {p.name: p for p in PASSES}
# Up to the names of the finished model, which `freeze` of a spec is about, and after.
NAMING = tuple(p.name for p in PASSES if "shaped" not in p.requires)
NAMED = tuple(p.name for p in PASSES if p.name not in NAMING)


@dataclass(frozen=True)
class Edit:
    """A change of structure that a spec asks for, ahead of all passes.

    `run` takes the job as imported or edited, and the keys of the spec by name.
    """

    name: str
    run: Callable[..., tuple[Job, WeightMap]]
    exact: str  # what the result is equal to
    doc: str


EDITS = {
    edit.name: edit
    for edit in (
        Edit(
            "keep-layers",
            keep_layers.run,
            "the reference with the other blocks skipped",
            "some blocks stay, the others are left out",
        ),
        Edit(
            "prune-ffn",
            prune_ffn.run,
            "the reference with the other units masked",
            "the most important units of the feed-forwards stay",
        ),
        Edit(
            "prune-heads",
            prune_heads.run,
            "the reference with the other heads masked, to their value biases",
            "the most important heads stay, in whole groups",
        ),
        Edit(
            "prune-width",
            prune_width.run,
            "with RMS norms the reference with the other channels masked, with layer norms "
            "the reference at that width",
            "the most important channels of the model's width stay",
        ),
        Edit(
            "add-layers",
            add_layers.run,
            "the reference, until the copies have learned",
            "copies of blocks, which change nothing at first",
        ),
        Edit(
            "trim-vocab",
            trim_vocab.run,
            "the reference on texts whose tokens are kept",
            "the tokens that the training data uses stay",
        ),
        Edit(
            "low-rank",
            low_rank.run,
            "the reference with its weights cut to the rank",
            "linears become two each, the factors of the nearest matrix of a rank",
        ),
        Edit(
            "widen-ffn",
            widen.ffn,
            "the reference, where there is no noise",
            "feed-forwards get copies of their units",
        ),
        Edit(
            "widen-heads",
            widen.heads,
            "the reference, where there is no noise",
            "attentions get copies of their heads",
        ),
        Edit(
            "lora",
            lora.lora,
            "the model without, until it trains; and PEFT's on the same weights",
            "a product of low rank beside linear layers trains in their place",
        ),
        Edit(
            "dora",
            lora.dora,
            "the model without, until it trains; and PEFT's on the same weights",
            "the same, with the lengths of the rows of the weights trained apart",
        ),
        Edit(
            "ia3",
            ia3.run,
            "the model without, until it trains; and PEFT's on the same weights",
            "vectors that scale linear layers train in their place",
        ),
        Edit(
            "adapter",
            adapter.run,
            "the model without, until it trains",
            "narrow detours behind parts of a block train in their place",
        ),
        Edit(
            "pool",
            pool_layers.run,
            "the reference's last states, pooled by hand",
            "one vector of a row: its first or last token, a mean, the largest values; of one "
            "block or of several, side by side",
        ),
        Edit(
            "extend-positions",
            extend_positions.run,
            "the reference with the same table of positions, or the same scaled angles",
            "longer rows: more positions, repeated, interpolated or scaled",
        ),
        Edit(
            "resize-image",
            resize_image.run,
            "the reference with its positions interpolated by itself",
            "images of another size, with the positions interpolated",
        ),
        Edit(
            "head",
            new_head.run,
            "the reference's last states, with the same head by hand",
            "other layers ahead of the labels",
        ),
    )
}


@dataclass(frozen=True)
class Step:
    """A job after a pass, and what the pass did to the weights."""

    name: str
    job: Job
    weights: WeightMap


def steps(job: Job, names: Sequence[str] | None = None) -> Iterator[Step]:
    """The job after each pass in turn, verified. Without names, all of them."""
    for name in names if names is not None else [p.name for p in PASSES]:
        if name not in BY_NAME:
            raise fail(
                "G305", f'no pass "{name}"', help=f"there are {', '.join(BY_NAME)}"
            )
        one = BY_NAME[name]
        if job.level not in one.requires:
            raise fail(
                "G306",
                f"the pass {name} takes a job that is {' or '.join(one.requires)}, "
                f"not {job.level}",
                help=f"run it {'after' if name in NAMED else 'before'} group-blocks",
            )
        job, weights = one.run(job)
        verify(job, after=name)
        yield Step(name, job, weights)


def run(job: Job, names: Sequence[str] | None = None) -> tuple[Job, WeightMap]:
    """The job after the passes, and their weight maps as one."""
    total = WeightMap()
    for step in steps(job, names):
        job, total = step.job, total.then(step.weights)
    return job, total
