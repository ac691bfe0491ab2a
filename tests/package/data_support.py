"""Packages for tests of data.py and predict.py: jobs of every kind, and a tiny model."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from textwrap import dedent
from types import ModuleType
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from generator.ir.job import Backbone, Job, Model
from generator.ir.plans import DataPlan, ImagePlan, TargetPlan, TextPlan, TrainPlan
from generator.render import augment, data, guard, predict, rows

WORDS = ("a", "fine", "dull", "film", "plot", "the", "best", "worst", "of", "year")
SINGLE = TextPlan(columns=("text",), max_tokens=12, pad_id=3, token_types=False)
PAIR = replace(SINGLE, columns=("first", "second"))
TYPED = replace(PAIR, token_types=True)
IMAGE = ImagePlan(
    column="image",
    resize=(8, 10),
    resize_mode="exact",
    resample="bicubic",
    crop=None,
    rescale=1 / 255,
    mean=(0.5, 0.4, 0.3),
    std=(0.5, 0.2, 0.1),
)
TRAIN = TrainPlan(
    epochs=1,
    batch=4,
    batch_tokens=0,
    lr=1e-3,
    schedule="linear",
    warmup=0.1,
    weight_decay=0.01,
    layer_decay=1.0,
    clip=1.0,
    accumulate=1,
    label_smoothing=0.0,
    class_weights="none",
    early_stopping=0,
    seed=7,
    evaluate_every=0,
    save_every=0,
    max_bad_steps=3,
)
_numbers = itertools.count()


def make_job(
    inputs: TextPlan | ImagePlan = SINGLE,
    *,
    task: Any = "text-classification",
    labels: tuple[str, ...] = ("no", "yes"),
    files: tuple[str, str | None, str | None] = ("train.csv", "valid.csv", "test.csv"),
    device: Any = "cpu",
    precision: Any = "fp32",
    train: Mapping[str, Any] | None = None,
    **plan: Any,
) -> Job:
    """A job with a name of its own; other keywords replace fields of its DataPlan."""
    formats = sorted({f.rsplit(".", 1)[1] for f in files if f})
    return Job(
        name=f"package_{next(_numbers)}",
        task=task,
        labels=labels,
        backbone=Backbone("weights", None, None, "tiny"),
        model=Model("Tiny encoder", (), (), (), (), ()),
        data=DataPlan(
            **{
                "train": files[0],
                "valid": files[1],
                "test": files[2],
                "valid_fraction": 0.2,
                "test_fraction": 0.1,
                "formats": tuple(formats),
                "inputs": inputs,
                "label": ("label",),
                "separator": ";",
                **plan,
            }
        ),
        train=replace(TRAIN, **(train or {})),
        target=TargetPlan(device=device, precision=precision, compile=False),
    )


def write_package(folder: Path, job: Job, tokenizer: Tokenizer | None = None) -> Path:
    """data.py and predict.py as rendered, with a tiny model beside them."""
    package = folder / job.name
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(data.render(job))
    (package / "rows.py").write_text(rows.render(job))
    (package / "predict.py").write_text(predict.render(job))
    if augment.asked(job):
        (package / "augment.py").write_text(augment.render(job))
    if guard.wanted(job):
        (package / guard.FILE).write_text(guard.render(job))
    images = isinstance(job.data.inputs, ImagePlan)
    outputs = len(job.data.label) if job.task == "regression" else len(job.labels)
    model = IMAGE_MODEL if images else TEXT_MODEL
    (package / "model.py").write_text(
        f"{model}\nLABELS = {job.labels!r}\nOUTPUTS = {outputs}\n"
    )
    if not images:
        (tokenizer or tiny_tokenizer()).save(str(package / "tokenizer.json"))
    return package


def load_package(
    folder: Path, job: Job, tokenizer: Tokenizer | None = None
) -> tuple[ModuleType, ModuleType]:
    """Its data and predict, imported."""
    write_package(folder, job, tokenizer)
    sys.path.insert(0, str(folder))
    try:
        return (
            importlib.import_module(f"{job.name}.data"),
            importlib.import_module(f"{job.name}.predict"),
        )
    finally:
        sys.path.remove(str(folder))


def tiny_tokenizer() -> Tokenizer:
    """Words in white space, between [CLS] and [SEP]; it pads by itself, if let."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    found = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    found.post_processor = processors.BertProcessing(  # type: ignore[assignment]
        ("[SEP]", 2), ("[CLS]", 1)
    )
    found.enable_padding(length=64, pad_id=3, pad_token="[PAD]")
    return found


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def quarantined(work: Path) -> list[dict[str, Any]]:
    lines = (work / "quarantine.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def some_texts(count: int, longest: int = 9) -> list[str]:
    """Different texts of 3 to `longest` words."""
    random = Random(count)
    made: dict[str, None] = {}
    while len(made) < count:
        made[" ".join(random.choices(WORDS, k=random.randint(3, longest)))] = None
    return list(made)


TEXT_MODEL = dedent('''
    """The mean of the vectors of real tokens, and a layer on it."""

    import torch
    from torch import Tensor, nn


    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(64, 16)
            self.kind = nn.Embedding(2, 16)
            self.label = nn.Linear(16, OUTPUTS)
            nn.init.normal_(self.label.weight)

        def forward(self, ids: Tensor, *rest: Tensor | None) -> Tensor:
            *types, mask = rest or (None,)
            x = self.token(ids) + sum(self.kind(t) for t in types)
            if mask is None:
                return self.label(x.mean(1))
            assert mask.dtype == torch.bool
            return self.label((x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))
    ''')
IMAGE_MODEL = dedent('''
    """The mean colour, and a layer on it."""

    from torch import Tensor, nn


    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.label = nn.Linear(3, OUTPUTS)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.label(pixels.mean((2, 3)))
    ''')
