"""Packages to train in tests: a tiny encoder and its data, with train.py as rendered.

The model is the shape of the ones that are generated, two blocks of width 32. Its
parameters stand in the IR too, without operations, which train.py does not read.
"""

from __future__ import annotations

import importlib
import itertools
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from children import NAME

from generator.ir.dims import f32
from generator.ir.job import Backbone, Instance, Job, Model, Module, ParameterDef
from generator.ir.plans import (
    DataPlan,
    DistillPlan,
    ImagePlan,
    TargetPlan,
    TextPlan,
    TrainPlan,
)
from generator.ir.sources import Init
from generator.render.train import render

LABELS = ("negative", "positive", "neither")

PLAN = TrainPlan(
    epochs=2,
    batch=8,
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
    seed=3,
    evaluate_every=0,
    save_every=0,
    max_bad_steps=3,
)
TEXT = TextPlan(columns=("text",), max_tokens=16, pad_id=0, token_types=False)
IMAGE = ImagePlan(
    column="file",
    resize=(8, 8),
    resize_mode="exact",
    resample="bilinear",
    crop=None,
    rescale=1 / 255,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
DATA = DataPlan(
    train="train.csv",
    valid="valid.csv",
    test="test.csv",
    valid_fraction=0.1,
    test_fraction=0.1,
    formats=("csv",),
    inputs=TEXT,
    label=("label",),
    separator=";",
)


def tiny_job(
    *,
    task: Any = "text-classification",
    source: str = "weights",
    device: Any = "cpu",
    precision: Any = "fp32",
    compile: bool = False,
    frozen: tuple[str, ...] = (),
    distill: DistillPlan | None = None,
    **plan: Any,
) -> Job:
    """A job of the tiny encoder; other keywords replace fields of its TrainPlan."""
    return Job(
        name=NAME,
        task=task,
        labels=LABELS,
        backbone=Backbone(source, None, "Apache-2.0", "tiny"),
        model=encoder(),
        data=replace(DATA, inputs=IMAGE if task == "image-classification" else TEXT),
        train=replace(PLAN, **plan),
        target=TargetPlan(device=device, precision=precision, compile=compile),
        frozen=frozen,
        distill=distill or DistillPlan(),
    )


def encoder(blocks: int = 2, width: int = 32) -> Model:
    """The parameters of the tiny encoder, and where each lies."""

    def matrix(name: str, *shape: int) -> tuple[ParameterDef, ...]:
        return (
            ParameterDef(f"{name}.weight", f32(*shape), "matrix", Init("normal", 0.02)),
            ParameterDef(f"{name}.bias", f32(shape[0]), "bias", Init("constant", 0.0)),
        )

    def norm(name: str) -> tuple[ParameterDef, ...]:
        return (
            ParameterDef(f"{name}.weight", f32(width), "norm", Init("constant", 1.0)),
            ParameterDef(f"{name}.bias", f32(width), "bias", Init("constant", 0.0)),
        )

    def table(name: str, *shape: int) -> ParameterDef:
        return ParameterDef(name, f32(*shape), "embedding", Init("normal", 0.02))

    embedding = (
        table("token.weight", 60, width),
        table("position.weight", 16, width),
        table("token_type", width),
        *norm("norm"),
    )
    attention = (*matrix("qkv", 3 * width, width), *matrix("out", width, width))
    ff = (*matrix("up", 64, width), *matrix("down", width, 64))
    classifier = (*matrix("pool", width, width), *matrix("label", len(LABELS), width))
    modules = (
        Module("Embedding", (), (), (), embedding),
        Module("Attention", (), (), (), attention),
        Module("FeedForward", (), (), (), ff),
        Module(
            "Block",
            (),
            (),
            (),
            (*norm("attention_norm"), *norm("ff_norm")),
            (Instance("attention", "Attention"), Instance("ff", "FeedForward")),
        ),
        Module("Classifier", (), (), (), classifier),
        Module(
            "Model",
            (),
            (),
            (),
            (),
            (
                Instance("embedding", "Embedding", depth=0),
                Instance("blocks.0", "Block", keys="{i}.", depth=1, count=blocks),
                Instance("classifier", "Classifier", depth=blocks + 1),
            ),
        ),
    )
    return Model("Tiny encoder", (), (), (), (), modules)


def write_package(folder: Path, job: Job, name: str = NAME) -> Path:
    """The package of a job under `folder`, which is returned."""
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "train.py").write_text(render(job))
    (package / "data.py").write_text(_DATA.replace("TASK", repr(job.task)))
    (package / "model.py").write_text(_MODEL)
    return folder


def train_module(folder: Path, job: Job) -> Any:
    """train.py of the job, imported here, from a package that is its own."""
    name = f"tiny_{next(_NUMBERS)}"
    write_package(folder, job, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return importlib.import_module(f"{name}.train")


_NUMBERS = itertools.count()

_MODEL = dedent('''
    """A tiny encoder, in the shape of the generated ones."""

    from pathlib import Path

    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file
    from torch import Tensor, nn

    LABELS = ("negative", "positive", "neither")
    C, H = 32, 4


    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Embedding(60, C)
            self.position = nn.Embedding(16, C)
            self.token_type = nn.Parameter(torch.zeros(C))
            self.norm = nn.LayerNorm(C)
            self.dropout = nn.Dropout(0.1)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.token(ids) + self.token_type
            return self.dropout(self.norm(x + self.position.weight[: ids.shape[1]]))


    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(C, 3 * C)
            self.out = nn.Linear(C, C)

        def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
            B, T, _ = x.shape
            q, k, v = self.qkv(x).view(B, T, 3, H, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            return self.out(y.transpose(1, 2).reshape(B, T, C))


    class FeedForward(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(C, 64)
            self.down = nn.Linear(64, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(F.gelu(self.up(x)))


    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = Attention()
            self.attention_norm = nn.LayerNorm(C)
            self.ff = FeedForward()
            self.ff_norm = nn.LayerNorm(C)
            self.dropout = nn.Dropout(0.1)

        def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
            x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
            return self.ff_norm(x + self.dropout(self.ff(x)))


    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.Linear(C, C)
            self.dropout = nn.Dropout(0.1)
            self.label = nn.Linear(C, len(LABELS))

        def forward(self, x: Tensor) -> Tensor:
            return self.label(self.dropout(torch.tanh(self.pool(x[:, 0]))))


    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = Embedding()
            self.blocks = nn.ModuleList(Block() for _ in range(2))
            self.classifier = Classifier()

        def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
            mask = None if mask is None else mask[:, None, None, :]
            x = self.embedding(ids)
            for block in self.blocks:
                x = block(x, mask)
            return self.classifier(x)


    def load_pretrained(path: str | Path) -> Model:
        model = Model()
        if Path(path).exists():
            model.load_state_dict(load_file(path), strict=False)
        return model
    ''')

_DATA = dedent('''
    """Rows made up from a seed, by the interface of the generated data.py."""

    from collections.abc import Iterator
    from dataclasses import dataclass
    from pathlib import Path
    from typing import NamedTuple

    import torch
    from torch import Tensor

    SEED = 3
    BATCH = 8


    @dataclass(frozen=True)
    class Batch:
        inputs: tuple[Tensor | None, ...]
        targets: Tensor
        rows: list[int]
        tokens: int


    @dataclass(frozen=True)
    class Split:
        ids: Tensor
        lengths: Tensor
        targets: Tensor

        def __len__(self) -> int:
            return len(self.ids)


    class Splits(NamedTuple):
        train: Split
        valid: Split
        test: Split


    def made_up(rows: int, seed: int) -> Split:
        g = torch.Generator().manual_seed(seed)
        ids = torch.randint(1, 60, (rows, 12), generator=g)
        lengths = torch.randint(3, 13, (rows,), generator=g)
        labels = ids[:, 1] % 3
        if TASK == "multi-label":
            targets = torch.stack([ids[:, 1] % 2, ids[:, 2] % 2, ids[:, 1] % 3 > 0], 1)
            return Split(ids, lengths, targets.float())
        if TASK == "regression":
            return Split(ids, lengths, ids[:, 1:4].float() / 60)
        return Split(ids, lengths, labels)


    class DataError(Exception):
        pass


    def shown(text: str, room: int = 120) -> str:
        return text[:room]


    def load_splits(root: Path, work: Path) -> Splits:
        return Splits(made_up(93, 1), made_up(30, 2), made_up(31, 4))


    def batch_count(split: Split, epoch: int) -> int:
        return -(-len(split) // BATCH)


    def collate(split: Split, rows: list[int]) -> Batch:
        lengths = split.lengths[rows]
        width = int(lengths.max())
        mask = torch.arange(width) < lengths[:, None]
        ids = split.ids[rows][:, :width] * mask
        inputs = (ids, None if bool(mask.all()) else mask)
        return Batch(inputs, split.targets[rows], rows, int(lengths.sum()))


    def batches(split: Split, epoch: int, start: int = 0) -> Iterator[Batch]:
        g = torch.Generator().manual_seed(SEED * 1000 + epoch)
        order = torch.randperm(len(split), generator=g).tolist()
        for i in range(start, batch_count(split, epoch)):
            yield collate(split, order[i * BATCH : (i + 1) * BATCH])


    def evaluation_batches(split: Split) -> Iterator[Batch]:
        for i in range(0, len(split), 16):
            yield collate(split, list(range(i, min(i + 16, len(split)))))
    ''')
