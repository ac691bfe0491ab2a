"""augment.py of a package: the view of its template, and the text.

There is such a file only where [data.augment] asks for anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace

from generator.ir.job import Job
from generator.ir.plans import AugmentPlan, FeaturePlan, ImagePlan, TextPlan
from generator.render import data
from generator.render.text import fill

# Fields that say what the tokenizer is like, and not what was asked for.
FOUND = ("begins", "continues", "mask")
IMPORTS = {
    "replace": (data.STDLIB, "from dataclasses"),
    "Random": (data.STDLIB, "from random"),
    "F": (data.INSTALLED, "import torch.nn.functional as F"),
    "Beta": (data.INSTALLED, "from torch.distributions"),
    "v2": (data.INSTALLED, "from torchvision.transforms"),
    "data": (data.OWN, "from ."),
}


@dataclass(frozen=True)
class AugmentView:
    """All that augment.py.j2 and its partials read. Strings of code are marked as such."""

    name: str
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    asked: tuple[str, ...]  # a line for each setting
    rows: bool  # rows are changed, beside mixing them
    images: bool
    prefetch: bool  # batches are made by threads
    cuda: bool
    # Texts
    features: bool  # the head reads more of a row
    taken: str  # code: that of some rows
    types: bool  # tokens have them
    cleans: bool  # texts are rewritten before they are used
    dropout: float
    swap: float
    synonyms: str
    words: bool  # words are told apart
    begins: str
    continues: str
    span_mask: float
    span_tokens: int
    mask: str
    paraphrase: float
    paraphrases: str
    reader: str  # code
    lists: bool  # a cell of the paraphrases may hold several
    # Images
    policy: str
    operations: int
    magnitude: int
    erase: float
    # Rows in pairs
    mixup: float
    cutmix: float
    one_hot: bool  # targets are numbers of labels


def asked(job: Job) -> bool:
    """Whether rows are changed, so that there is an augment.py."""
    return job.data.augment != AugmentPlan()


def render(job: Job) -> str:
    """The source of augment.py, not yet formatted."""
    view = _view(job)
    body = fill("partials/augment_body.j2", view)
    return fill(
        "augment.py.j2", replace(view, imports=data.imports(body, beside=IMPORTS))
    )


def settings(plan: AugmentPlan) -> tuple[str, ...]:
    """A line for each setting that is not off, as the spec has it."""
    return tuple(
        f"{f.name} = {json.dumps(value)}"
        for f in fields(plan)
        if (value := getattr(plan, f.name)) != f.default and f.name not in FOUND
    )


def _view(job: Job) -> AugmentView:
    plan, inputs = job.data.augment, job.data.inputs
    images = isinstance(inputs, ImagePlan)
    cuda = job.target.device == "cuda"
    reader = data.reader_of(plan.paraphrases, job.data) if plan.paraphrases else ""
    return AugmentView(
        name=job.name,
        imports=(),
        asked=settings(plan),
        rows=plan.rows,
        images=images,
        prefetch=images or cuda,
        cuda=cuda,
        features=job.data.features != FeaturePlan(),
        taken=data.columns_at(job, "self.split.columns", "[rows]"),
        types=isinstance(inputs, TextPlan) and inputs.token_types,
        cleans=len(data.steps_of(job.data)) > 0,
        dropout=plan.word_dropout,
        swap=plan.synonym_swap,
        synonyms=plan.synonyms,
        words=plan.words,
        begins=plan.begins,
        continues=plan.continues,
        span_mask=plan.span_mask,
        span_tokens=plan.span_tokens,
        mask=plan.mask,
        paraphrase=plan.paraphrase,
        paraphrases=plan.paraphrases,
        reader=reader,
        lists=reader not in data.TABLES,
        policy=plan.policy,
        operations=plan.operations,
        magnitude=plan.magnitude,
        erase=plan.erase,
        mixup=plan.mixup,
        cutmix=plan.cutmix,
        one_hot=job.task in ("text-classification", "image-classification"),
    )
