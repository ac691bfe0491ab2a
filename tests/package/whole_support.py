"""Whole packages of tiny random models, with the checkpoint folder they are made of.

made = whole(tmp_path, BertConfig(...))
made.module("test_model").certificate(made.weights)
"""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import black
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from generator import passes
from generator.ir.job import Job
from generator.ir.plans import StagePlan, TargetPlan, TextPlan
from generator.ir.stages import always_frozen
from generator.passes import standardise
from generator.render import (
    augment,
    bench,
    calibrate,
    certificate,
    data,
    deploy,
    features,
    guard,
    kept,
    model,
    predict,
    quantize_aware,
    rows,
    train,
)
from tests.oracle import job_of, saved, tiny, without_prefix

RENDERERS = {
    "model": model,
    "data": data,
    "rows": rows,
    "train": train,
    "predict": predict,
    "bench": bench,
    "test_model": certificate,
}
WORDS = ["a", "fine", "dull", "film", "plot", "the", "best", "worst", "of", "year"]
_numbers = itertools.count()


@dataclass(frozen=True)
class Whole:
    """A package that can be imported, and the weights that it is certified on."""

    job: Job
    package: Path
    weights: Path

    def module(self, name: str) -> Any:
        return importlib.import_module(f"{self.job.name}.{name}")

    def edit(self, file: str, old: str, new: str) -> None:
        """Plant a fault; the text that goes must stand there. Modules load anew."""
        path = self.package / f"{file}.py"
        source = path.read_text()
        assert old in source, f"{file}.py has no {old!r}"
        path.write_text(source.replace(old, new))
        for loaded in [n for n in sys.modules if n.startswith(f"{self.job.name}.")]:
            del sys.modules[loaded]
        # Bytecode tells sources apart by their size and the second they were written in.
        shutil.rmtree(self.package / "__pycache__", ignore_errors=True)
        importlib.invalidate_caches()


def whole(
    folder: Path,
    config: PreTrainedConfig,
    *,
    task: Any = "text-classification",
    labels: Sequence[str] = ("no", "yes"),
    bare: bool = False,
    device: Any = "cpu",
    precision: Any = "fp32",
    compile: bool = False,
    recipe: Mapping[str, Any] | None = None,
    frozen: tuple[str, ...] = (),
    stages: tuple[StagePlan, ...] = (),
    tidy: Sequence[str] = (),
    edits: Sequence[tuple[str, Mapping[str, Any]]] = (),
    standardised: bool = True,
    edit: Callable[[Job], Job] = lambda job: job,
    **request: Any,
) -> Whole:
    """Everything of a job; `bare` has the checkpoint be of the backbone alone.

    `tidy` names the files that are formatted as `gen build` formats them, which takes
    longer than all the rest. `edits` are applied in turn, each with its arguments,
    and `edit` behind them. A regression's targets are `standardised`.
    """
    oracle, card, tensors = tiny(config, labels)
    tensors = {k: t.float() for k, t in saved(oracle)[1].items()}
    if bare:
        tensors = without_prefix(oracle, tensors)
    job = job_of(card, tensors, task, labels, **request)
    plan = replace(
        job.data,
        train="train.csv",
        valid="valid.csv",
        test="test.csv",
        formats=("csv",),
    )
    if task == "regression":
        plan = replace(plan, label=tuple(labels))
    job = replace(
        job,
        name=f"whole_{next(_numbers)}",
        data=plan,
        train=replace(job.train, **{"batch": 4, **(recipe or {})}),
        target=TargetPlan(device, precision, compile),
        frozen=frozen,
    )
    if stages:
        job = replace(
            job,
            train=replace(job.train, epochs=sum(stage.epochs for stage in stages)),
            frozen=always_frozen([stage.frozen for stage in stages]),
            stages=stages,
        )
    for do, arguments in edits:
        job, _ = passes.EDITS[do].run(job, **arguments)
    job = edit(job)
    if task == "regression" and standardised:
        job, _ = standardise.run(job)
    job, _ = passes.run(job)
    weights = folder / "weights"
    weights.mkdir(parents=True)
    save_file(tensors, weights / "model.safetensors", {"format": "pt"})
    (weights / "config.json").write_text(json.dumps(card))
    package = write(folder, job, tidy)
    inputs = job.data.inputs
    if isinstance(inputs, TextPlan):
        words = tokenizer(inputs.pad_id)
        words.save(str(package / "tokenizer.json"))
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]"
        ).save_pretrained(weights)
    else:
        assert inputs.resize
        height, width = inputs.resize
        size = {"height": height, "width": width}
        ViTImageProcessorPil(size=size).save_pretrained(weights)
    return Whole(job, package, weights)


def write(folder: Path, job: Job, tidy: Sequence[str] = ()) -> Path:
    """The sources of a package, in a folder that can be imported from."""
    package = folder / job.name
    package.mkdir()
    (package / "__init__.py").touch()
    for name, renderer in RENDERERS.items():
        source = renderer.render(job)
        (package / f"{name}.py").write_text(
            formatted(source) if name in tidy else source
        )
    if deploy.asked(job):
        (package / deploy.FILE).write_text(deploy.render(job))
    if quantize_aware.asked(job):
        (package / quantize_aware.FILE).write_text(quantize_aware.render(job))
    if augment.asked(job):
        (package / "augment.py").write_text(augment.render(job))
    if calibrate.asked(job):
        (package / calibrate.FILE).write_text(calibrate.render(job))
    if features.asked(job):
        (package / "features.py").write_text(features.render(job))
    if guard.wanted(job):
        (package / guard.FILE).write_text(guard.render(job))
    if lists := kept.render(job):
        (package / kept.FILE).write_bytes(lists)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return package


def formatted(source: str) -> str:
    return black.format_str(source, mode=black.Mode())


def tokenizer(pad_id: int) -> Tokenizer:
    """Words in white space, between [CLS] and [SEP], with the padding where it is."""
    names = ["[UNK]", "[CLS]", "[SEP]", *WORDS]
    names.insert(pad_id, "[PAD]")
    found = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, "[UNK]"))
    found.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    found.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    found.post_processor = processors.BertProcessing(  # type: ignore[assignment]
        ("[SEP]", names.index("[SEP]")), ("[CLS]", names.index("[CLS]"))
    )
    return found
