"""What of a finished model does not train: the paths that a job, or a stage of it, freezes."""

from __future__ import annotations

import difflib
from dataclasses import replace

from generator.errors import Diagnostic, GenError, fail
from generator.ir.job import Job, parameters
from generator.ir.plans import StagePlan
from generator.ir.stages import always_frozen, covers
from generator.spec import SpecFile


def with_frozen(spec_file: SpecFile, job: Job) -> Job:
    """The job with what it freezes, in each stage and in all of them."""
    train = spec_file.spec.train
    if not train.stage:
        frozen = _frozen(spec_file, job, "train.freeze", train.freeze)
        return replace(job, frozen=frozen)
    stages = tuple(
        StagePlan(
            epochs=stage.epochs,
            lr=float(train.lr if stage.lr is None else stage.lr),
            warmup=float(train.warmup if stage.warmup is None else stage.warmup),
            frozen=_frozen(
                spec_file, job, f"train.stage[{number}].freeze", stage.freeze
            ),
        )
        for number, stage in enumerate(train.stage)
    )
    frozen = always_frozen([stage.frozen for stage in stages])
    return replace(job, frozen=frozen, stages=stages)


def _frozen(
    spec_file: SpecFile, job: Job, key: str, freeze: tuple[str, ...] | int
) -> tuple[str, ...]:
    """The frozen paths, once each is seen to be a module of the finished model."""
    if freeze == 0:
        return ()
    if isinstance(freeze, int):
        return _first_blocks(spec_file, job, key, freeze)
    infos = parameters(job)
    modules: set[str] = set()
    for info in infos:
        parts = info.path.split(".")
        modules |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    found: list[Diagnostic] = []
    for i, path in enumerate(freeze):
        if path not in modules:
            near = difflib.get_close_matches(path, sorted(modules), n=1, cutoff=0.5)
            top = sorted({m.split(".")[0] for m in modules})
            found.append(
                Diagnostic(
                    "G222",
                    f'the model has no module "{path}"',
                    spec_file.place(f"{key}[{i}]"),
                    f'did you mean "{near[0]}"?' if near else "",
                    f"at the top are {', '.join(top)}",
                )
            )
    if found:
        raise GenError(found)
    if freeze and all(p.frozen or covers(freeze, p.path) for p in infos):
        raise fail(
            "G223",
            "every part of the model is frozen, so that nothing is left to train",
            place=spec_file.place(key),
            help="leave at least the classifier out of freeze",
        )
    return freeze


def _first_blocks(
    spec_file: SpecFile, job: Job, key: str, count: int
) -> tuple[str, ...]:
    """What lies no further from the input than the first `count` blocks."""
    main, blocks = job.model.main, job.model.sizes["L"]
    if count > blocks:
        has = f"{blocks} block{'s' if blocks > 1 else ''}"
        raise fail(
            "G224",
            f"the model has {has}, and freeze counts {count}",
            place=spec_file.place(key),
            label=f"at most {blocks}",
            help=f"freeze = {blocks}",
        )
    own = [p.name.rpartition(".")[0] or p.name for p in main.parameters]
    parts = [part for i in main.instances for part in i.each()]
    return (*dict.fromkeys(own), *(name for name, _, far in parts if far <= count))
