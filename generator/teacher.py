"""Whether a job can learn from another one: what the two have to have in common.

The teacher answers for the very rows that its pupil trains on, as the pupil's data.py
gives them; so both read them alike, and their answers are about the same labels.
"""

from __future__ import annotations

import json

from generator.errors import fail
from generator.ir.job import Job
from generator.ir.plans import FeaturePlan, ImagePlan, TextPlan
from generator.passes.trim_vocab import kept_tokens
from generator.spec import SpecFile

KEY = "train.distill.teacher"
# What of a tokenizer.json data.py sets by itself.
OURS = ("truncation", "padding")


def check_teacher(
    spec_file: SpecFile,
    job: Job,
    teacher: Job,
    tokenizers: tuple[bytes | None, bytes | None],
) -> None:
    """GenError where the teacher is not one that the job can learn from.

    `tokenizers` are the job's own and the teacher's.
    """
    place = spec_file.place(KEY)
    own, other = _answers(job), _answers(teacher)
    if own != other:
        raise fail(
            "G286",
            f"the teacher {teacher.name} answers another question",
            place=place,
            label=f"{other}, and this job is {own}",
            help="task and labels are the same in both specs, in the same order",
        )
    if why := _read_otherwise(job, teacher, tokenizers):
        raise fail(
            "G287",
            f"the teacher {teacher.name} reads rows in another way",
            place=place,
            label=why,
            help="the two read the same columns as the same tokens or pixels",
        )
    for one in (job, teacher):
        if one.data.features != FeaturePlan():
            raise fail(
                "G288",
                f"{one.name} is told more of a row than its text or image",
                place=place,
                label="what it is told is fitted on the rows of its own training",
                help="a teacher and its pupil have no [features]",
            )
    plan = job.data.augment
    if plan.rows or plan.mixup or plan.cutmix:
        given = [key for key in spec_file.given if key.startswith("data.augment.")]
        raise fail(
            "G289",
            "rows cannot be changed in each epoch where a teacher reads them once",
            place=spec_file.place(min(given)),
            label="what the teacher says is kept, of the rows as they are",
            help="remove [data.augment]; the teacher's own training may have it",
        )


def _answers(job: Job) -> str:
    return f"{job.task} of {', '.join(job.labels)}"


def _read_otherwise(
    job: Job, teacher: Job, tokenizers: tuple[bytes | None, bytes | None]
) -> str:
    """What the teacher reads otherwise, in words; "" where it reads the same."""
    match job.data.inputs, teacher.data.inputs:
        case TextPlan() as own, TextPlan() as other:
            if own.columns != other.columns:
                return f"it reads the columns {', '.join(other.columns)}"
            if own.max_tokens != other.max_tokens:
                return (
                    f"its rows have up to {other.max_tokens} tokens, those here up to "
                    f"{own.max_tokens}"
                )
            tokens = (own.pad_id, own.token_types), (other.pad_id, other.token_types)
            if tokens[0] != tokens[1] or _tokens(tokenizers[0]) != _tokens(
                tokenizers[1]
            ):
                return "it has another tokenizer"
            if kept_tokens(job) != kept_tokens(teacher):
                return "trim-vocab has numbered the tokens of one of the two anew"
        case ImagePlan() as own, ImagePlan() as other:
            if own != other:
                return "its images are prepared otherwise"
        case _:
            return "one reads texts and the other images"
    return ""


def _tokens(tokenizer: bytes | None) -> object:
    """What a tokenizer.json says of how texts become tokens."""
    if tokenizer is None:
        return None
    found = json.loads(tokenizer)
    return {name: value for name, value in found.items() if name not in OURS}
