"""The baseline of a run: a linear probe of the frozen backbone's vectors, beside what the
training made of it, on the same test rows.

A fine-tune that a probe does not lose to was not worth its time, and is told so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from generator.cost import describe
from generator.ir.job import Job
from generator.ir.stages import by_stage
from generator.runtime import frozen, linear
from generator.runtime.frozen import Asked, Vectors
from generator.runtime.ready import Ready

FOLDER = "features"  # of the work folder
SHARE = (
    0.1  # of the work of the training that all passes of the short probe may come to
)


def probe(
    ready: Ready, *, asked: Literal["short", "full"], quiet: bool
) -> dict[str, Any]:
    """The figures: "full" of all rows, "short" of so many that it takes little time.
    GenError where the frozen model cannot be run."""
    start = time.perf_counter()
    job = ready.plan.compiled.job
    trained = ready.work / "model.safetensors", ready.plan.folder
    # What the frozen part of a job gave is there already.
    cache = ready.work / "cache" if job.model.cut else None
    few = passes(job) if asked == "short" else 0.0
    found = frozen.vectors(
        ready.spec_file,
        ready.facts,
        ready.root,
        ready.weights,
        ready.work,
        ready.work / FOLDER,
        Asked(passes=few, trained=trained, cache=cache),
        quiet,
    )
    figures = compared(job.task, len(job.labels), found)
    figures["asked"] = asked
    figures["seconds"] = time.perf_counter() - start
    return figures


def passes(job: Job) -> float:
    """How many forward passes for each training row the short probe may take."""
    total = 0.0
    for one in by_stage(job):
        cost = describe(one)
        steps = one.train.epochs * cost.step(cost.tokens) + cost.prefix(cost.tokens)
        total += steps / max(1, cost.predict(cost.tokens))
    return SHARE * total


def compared(task: str, labels: int, found: Mapping[str, Vectors]) -> dict[str, Any]:
    """The probe of the vector that does best on the validation rows, tested."""
    train, valid, test = (found[name] for name in frozen.SPLITS)
    tried = {
        name: linear.chosen(
            task, labels, (x, train.targets), (valid.of[name], valid.targets)
        )
        for name, x in train.of.items()
    }
    vector = min(tried, key=lambda name: tried[name][1])
    probe, far = tried[vector]
    logits = probe.logits(test.of[vector])
    difference = linear.compared(task, logits, test.logits, test.targets)
    return {
        "score": linear.score_name(task),
        "vector": vector,
        "width": int(test.of[vector].shape[1]) - test.columns,
        "columns": test.columns,
        "strength": probe.strength,
        "valid_loss": far,
        "test_loss": linear.loss(task, logits, test.targets),
        "rows": {name: len(one.rows) for name, one in found.items()},
        "of": {name: one.size for name, one in found.items()},
        **asdict(difference),
        "verdict": difference.verdict,
    }
