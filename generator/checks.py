"""What a spec asks for of a model that cannot have it: seen once the model is finished."""

from __future__ import annotations

import difflib
import json

from generator.errors import fail
from generator.ir.deploy import linears, matrices, rounded_bytes, tables
from generator.ir.job import Job
from generator.ir.ops import merges
from generator.ir.plans import FeaturePlan, ImagePlan
from generator.ir.stages import by_stage, covers, cuts
from generator.spec import SpecFile


def check_augment(spec_file: SpecFile, job: Job) -> None:
    """What frozen blocks gave for a row is kept: the row must stay as it is. And what the
    head reads beside an image does not mix."""
    plan, images = job.data.augment, isinstance(job.data.inputs, ImagePlan)
    if images and (plan.mixup or plan.cutmix) and job.data.features != FeaturePlan():
        raise fail(
            "G272",
            "images cannot be mixed where the head reads columns beside them",
            place=spec_file.place(
                "data.augment.mixup" if plan.mixup else "data.augment.cutmix"
            ),
            label="of two categories there is no mixture",
            help="remove it, or [features]",
        )
    if not (plan.rows or images and (plan.mixup or plan.cutmix)) or not cuts(job):
        return
    given = [key for key in spec_file.given if key.startswith("data.augment.")]
    raise fail(
        "G271",
        "rows cannot be changed in each epoch where what is frozen runs over them once",
        place=spec_file.place(min(given)),
        label="what the frozen blocks give is kept, of the rows as they are",
        help='cache = "off" in [train] runs the frozen blocks in every step',
    )


def check_deploy(spec_file: SpecFile, job: Job) -> None:
    """What is left alone is there, and something is not."""
    plan = job.deploy
    if plan.quantize == "none":
        return
    if plan.quantize in ("int8", "int8-static") and job.target.device != "cpu":
        raise fail(
            "G282",
            f'quantize "{plan.quantize}" is for a processor, and the target is '
            f"{job.target.device}",
            place=spec_file.place("deploy.quantize"),
            label="its products of whole numbers are a CPU's",
            help='quantize = "int8-weights" takes as little room',
        )
    names = [one.name for one in matrices(job.model)]
    for number, path in enumerate(plan.leave):
        if any(covers((path,), name) for name in names):
            continue
        parts = [name.split(".") for name in names]
        known = {".".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}
        near = difflib.get_close_matches(path, sorted(known), n=1, cutoff=0.5)
        raise fail(
            "G280",
            f'the model has no linear in "{path}"',
            place=spec_file.place(f"deploy.leave[{number}]"),
            label=f'did you mean "{near[0]}"?' if near else "",
            help=f"linears are {', '.join(names[:4])} and so on",
        )
    if not linears(job) and not tables(job):
        raise fail(
            "G281",
            "leave names every linear, so that nothing is quantised",
            place=spec_file.place("deploy.leave" if plan.leave else "deploy.quantize"),
            help="leave less alone, or remove [deploy]",
        )
    before = sum(4 * one.rows * one.columns for one in linears(job))
    after = sum(rounded_bytes(one, plan) for one in linears(job))
    if plan.group and after >= before:
        raise fail(
            "G347",
            f"in groups of {plan.group} linears take more room than they have in fp32",
            place=spec_file.place("deploy.group"),
            label=f"{after:,} bytes for {before:,}: the last group of a row is filled up",
            help="give a smaller one, or leave it out",
        )
    if plan.quantize_aware:
        _check_aware(spec_file, job)


def _check_aware(spec_file: SpecFile, job: Job) -> None:
    """What is rounded in training is there in training, and what is looked at trains."""
    place = spec_file.place("deploy.quantize_aware")
    if merges(job.model):
        raise fail(
            "G385",
            "training cannot round weights that adapters are merged into at its end",
            place=place,
            label="what is rounded to predict is their sum, which training never has",
            help="remove it, or the adapters",
        )
    frozen = [path for one in by_stage(job) for path in one.frozen if one.deploy.static]
    still = [one.name for one in linears(job) if covers(frozen, one.name)]
    if still:
        raise fail(
            "G386",
            f'the ranges of "int8-static" are followed in training, and {still[0]} is '
            "frozen",
            place=place,
            label="what is frozen runs as in prediction, where no range is followed",
            help=f"leave = {json.dumps(sorted(frozen))} keeps it as it is; or give "
            'quantize = "int8", whose ranges follow from each row',
        )
