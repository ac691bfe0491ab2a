"""Packages of tiny models that export themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from test_certificate import CASES
from whole_support import Whole, whole

from generator import saved
from generator.archs.build import Request
from generator.facts import Card
from generator.ir.job import Job
from generator.ir.plans import ExportPlan, ImagePlan
from generator.render import export
from tests.oracle import batches_of

ALL = ("onnx", "torch", "transformers")


def made(
    folder: Path,
    case: str,
    *,
    to: tuple[Any, ...] = ALL,
    edit: Callable[[Job], Job] = lambda job: job,
    sizes: dict[str, Any] | None = None,
    **more: Any,
) -> Whole:
    """A package with what it is exported by. Unsaveable where it cannot be."""
    config, own, options = CASES[case]
    seen: list[Job] = []

    def planned(job: Job) -> Job:
        names = saved.names(job)
        plan = ExportPlan(to)
        if "transformers" in to:
            plan = ExportPlan(to, names.base, tuple(names.heads.items()))
        seen.append(edit(replace(job, export=plan)))
        return seen[-1]

    it = whole(
        folder, config(**{**own, **(sizes or {})}), edit=planned, **{**options, **more}
    )
    (it.package / export.FILE).write_text(export.render(it.job))
    (it.package / export.ABOUT).write_bytes(export.about(it.job))
    if "onnx" in to:
        (it.package / export.EXAMPLE).write_text(export.example(it.job))
    if "transformers" in to:
        for name, content in files(it, seen[-1]).items():
            (it.package / name).write_bytes(content)
    return it


def files(it: Whole, edited: Job) -> dict[str, bytes]:
    """What lies beside the weights of a checkpoint."""
    import json

    config = json.loads((it.weights / "config.json").read_text())
    inputs = it.job.data.inputs
    preprocessor = {"size": 1} if isinstance(inputs, ImagePlan) else None
    tokens = {"pad_token": "[PAD]", "unk_token": {"content": "[UNK]"}}
    card = Card("a/folder", None, None, config, (), (), preprocessor, tokens, False)
    request = Request(
        config=config,
        tensors=edited.model.tensors,
        task=it.job.task,
        labels=it.job.labels,
        head="auto",
        dropout=None,
        attention_dropout=0.0,
        pair=len(it.job.data.texts) == 2,
    )
    return saved.files(it.job, edited, card, request)


def trained(it: Whole) -> Any:
    """The model as if it had been trained: with random adapters and a random head."""
    model = it.module("model").load_pretrained(it.weights)
    random.seed(0)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():  # of a regression
            if name.endswith(("scale", "shift")):
                buffer += 100 * torch.rand_like(buffer)
    merge = getattr(it.module("model"), "merge", lambda model: model)
    return merge(model.eval()).eval()


def batches(it: Whole) -> Iterator[Any]:
    """Random rows, as the package's own batches."""
    batch = it.module("data").Batch
    fields = len(batch._fields)
    for inputs in batches_of(it.job, ((1,), (5, 3, 9, 1), (7, 7))):
        given = tuple(
            x.float() if x is not None and x.is_floating_point() else x
            for x in inputs.values()
        )
        rows = torch.arange(len(given[0]))  # type: ignore[arg-type]
        yield batch(given, rows, rows, *[0] * (fields - 3))
