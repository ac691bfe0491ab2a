"""The stages of a training, each as a job of its own.

What is asked of a training in one go (what it freezes, where the model is cut, what a step
costs) is asked of each of these jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from generator.ir.job import Job


def by_stage(job: Job) -> tuple[Job, ...]:
    """The job of each stage alone; the job itself where it has none."""
    if not job.stages:
        return (job,)
    return tuple(
        replace(
            job,
            model=replace(job.model, cut=stage.cut),
            train=replace(
                job.train, epochs=stage.epochs, lr=stage.lr, warmup=stage.warmup
            ),
            frozen=stage.frozen,
            stages=(),
        )
        for stage in job.stages
    )


def cuts(job: Job) -> tuple[str, ...]:
    """The values that the model is cut at, in the order of the model."""
    wanted = {one.model.cut for one in by_stage(job)}
    main = job.model.main
    return tuple(r.name for op in main.ops for r in op.results if r.name in wanted)


def always_frozen(frozen: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The paths that every one of some lists of frozen modules covers."""
    paths = dict.fromkeys(path for some in frozen for path in some)
    found = [p for p in paths if all(covers(some, p) for some in frozen)]
    return tuple(
        p
        for p in found
        if not any(covers((other,), p) for other in found if other != p)
    )


def covers(modules: Sequence[str], path: str) -> bool:
    """Whether a path is one of some modules, or lies in one."""
    return any(path == m or path.startswith(m + ".") for m in modules)
