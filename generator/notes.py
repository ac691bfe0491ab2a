"""What a user is told of a job beside its files: by `gen build`, in the order of the job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

from generator.facts import Facts
from generator.ir.deploy import weight_bytes
from generator.ir.dims import dim
from generator.ir.head import selection
from generator.ir.job import Job, added, parameters
from generator.ir.plans import TextPlan
from generator.ir.sources import Init
from generator.ir.stages import cuts
from generator.passes.prune_width import of_rms


def notes(job: Job, facts: Facts) -> list[str]:
    """What to tell of a finished job."""
    return [
        *_of_parameters(job),
        *_of_deployment(job),
        *_of_training(job),
        *_of_places(job, facts),
    ]


def _of_parameters(job: Job) -> Iterator[str]:
    """Which are trained, new, or left of more."""
    infos = parameters(job)
    brought = added(job)
    if brought:
        trained = [p for p in infos if not p.frozen]
        count, every = (sum(prod(p.shape) for p in some) for some in (trained, infos))
        head = {p.path.split(".")[0] for p in trained if p not in brought}
        own = sum(prod(p.shape) for p in trained if p in brought)
        yield (
            f"of {every:,} parameters {count:,} train, {count / every:.1%}: "
            + (f"the adapters, {own:,}, and " if own else "")
            + f"{', '.join(sorted(head))}; the rest is frozen"
        )
        if still := {_block(p.path) for p in brought if p.frozen}:
            yield (
                f"the adapters in {', '.join(sorted(still))} are frozen with what they are "
                "in, and never change anything: `blocks` of their edit leaves them out"
            )
    new = sorted(
        {
            p.path.rpartition(".")[0]
            for p in infos
            if isinstance(p.source, Init) and p not in brought
        }
    )
    if new:
        yield f"newly initialised, for training to fill: {', '.join(new)}"
    if job.reference.width:
        total, width = job.reference.width, job.model.sizes["C"]
        yield (
            f"of the width {width} of {total} channels stay: "
            + (
                "the model computes what the backbone computes with the others masked, "
                "its norms rescaled"
                if of_rms(job.model)
                else "its layer norms take mean and variance over these alone, so that "
                "it is the backbone at that width, its weights cut likewise, and not the "
                "backbone with the others masked"
            )
        )
    if of := selection(job.model):
        yield (
            f"of the {of.total} numbers of a row's vector the head reads "
            f"{len(job.model.kept[of.name])}, those that score highest on training rows"
        )


def _block(path: str) -> str:
    """The block that a parameter is in: blocks.3 of blocks.3.attention.q.lora_a."""
    found = re.match(r".*?\.\d+", path)
    return found[0] if found else path


def _of_deployment(job: Job) -> Iterator[str]:
    if job.deploy.lowered:
        plan = job.deploy
        kind = plan.quantize if plan.quantize != "none" else plan.precision
        whole = 4 * sum(prod(p.shape) for p in parameters(job))
        yield (
            f"deployed as {kind}: weights of {weight_bytes(job) / 1e6:,.1f} MB, and not "
            f"the {whole / 1e6:,.1f} MB of the trained model"
        )
    if job.deploy.quantize_aware:
        after = 100 * job.deploy.quantize_after
        yield (
            "training rounds what predicts is rounded"
            + (f", behind the first {after:g}% of its steps" if after else "")
            + ": a step takes longer, and what is evaluated is the rounded model"
        )


def _of_training(job: Job) -> Iterator[str]:
    """Its stages, what is frozen and what is kept for it, and what makes it slower."""
    whole = "all that trains" if job.stages and added(job) else "everything"
    for number, stage in enumerate(job.stages, 1):
        yield (
            f"stage {number} of {len(job.stages)} trains "
            + (f"all but {', '.join(stage.frozen)}" if stage.frozen else whole)
        )
    if job.frozen and not job.stages:
        yield (
            f"frozen, and so run in evaluation mode, without dropout: "
            f"{', '.join(job.frozen)}"
        )
    each = [_kept(job, cut) for cut in cuts(job)]
    if each:
        when = "the first epoch of a stage" if job.stages else "the first epoch"
        yield (
            f"what is frozen runs once, before {when}, and training goes on "
            f"from what it gave, which takes {' or '.join(each)} in the work "
            'folder; cache = "off" in [train] runs it in every step'
        )
    if room := _room_of_teacher(job):
        yield (
            f"what {job.distill.teacher} has inside for a training row is kept in the work "
            f"folder, which takes {room}"
        )
    if "attention_dropout" in job.model.constants:
        yield (
            "attention_dropout is on: it rules out flash attention, and a step is slower"
        )


def _of_places(job: Job, facts: Facts) -> Iterator[str]:
    """What was not at hand, or is on this machine alone."""
    if isinstance(job.data.inputs, TextPlan) and facts.tokenizer is None:
        yield (
            "the tokenizer was not at hand: the package has no tokenizer.json until "
            "`gen facts --complete` has fetched it"
        )
    paths = [job.backbone.source, job.data.train, job.data.valid, job.data.test]
    if absolute := [path for path in paths if path and path.startswith("/")]:
        yield (
            f"{', '.join(absolute)} stands in the package as the spec says it, and is "
            "good on this machine alone: a path from the spec's own folder, or from "
            "--root, would be good on others"
        )
    if not facts.card.verified:
        yield (
            "the facts are unverified: `gen facts --complete` checks them against the "
            "checkpoint, where it is at hand"
        )


def unread(imported: Job, job: Job) -> str:
    """What to tell of further positions that no row comes to; "" where rows do."""
    inputs = job.data.inputs
    bound = next(d.bound for d in imported.model.dims if d.symbol == "T")
    if not isinstance(inputs, TextPlan) or not job.reference.positions:
        return ""
    if bound is None or inputs.max_tokens > bound:
        return ""
    return (
        f"rows are cut to max_tokens = {inputs.max_tokens}, and the backbone reads {bound} "
        "as it is: none comes to the positions of extend-positions. max_tokens in [data] "
        "makes rows longer"
    )


def _kept(job: Job, cut: str) -> str:
    """How much room what a prefix gives takes, and for what."""
    _, *places, width = job.model.main.types[cut].shape
    room = width.value(job.model.sizes) * (4 if job.train.cache == "fp32" else 2)
    if not places:
        return f"{room:,} bytes a row"
    (positions,) = places
    if positions == dim("T"):
        return f"{room:,} bytes a token"
    count = positions.value(job.model.sizes)
    each = "a row" if count == 1 else f"for each of {count} positions of a row"
    return f"{room:,} bytes {each}"


def _room_of_teacher(job: Job) -> str:
    """How much room what is kept of the teacher's inside takes; "" where it is nothing."""
    plan = job.distill
    if not plan.inside:
        return ""
    states = 2 * plan.width
    of_row = states * plan.one_position
    of_token = states * (len(plan.pairs) - plan.one_position)
    of_token += 2 * sum(stop - start for _, (_, start, stop) in plan.related)
    parts = [f"{of_token:,} bytes a token"] * (of_token > 0)
    return " and ".join(parts + [f"{of_row:,} bytes a row"] * (of_row > 0))
