"""The example beside an ONNX file prepares rows as training does, without torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import made
from PIL import Image
from whole_support import WORDS, Whole

from generator.ir.job import Job
from generator.ir.plans import CleanPlan, GuardPlan
from generator.render import export

CLEAN = CleanPlan(
    unicode="NFKC",
    invisible=True,
    html=True,
    mask=("url", "number"),
    case="lower",
    whitespace=True,
)
TEXTS = [
    "a <b>fine</b> film",
    "The  BEST plot of 2019, https://example.org/x",
    "dull\u200b &amp; worst " + " ".join(WORDS * 4),
    "mail me: someone@example.org",
]
# The library's own way of cutting these as a pair would take gigabytes.
LONG = ("best plot " * 4000, "worst of the year " * 3000)


def example(it: Whole) -> Any:
    """The example as a module, with what lies beside it in the package."""
    path = it.package / export.EXAMPLE
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (
            node.names
            if isinstance(node, ast.Import)
            else [ast.alias(node.module or "")]
        )
    }
    assert not imported & {"torch", it.job.name, "generator"}
    spec = importlib.util.spec_from_file_location(f"{it.job.name}_example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same(found: dict[str, np.ndarray], inputs: Sequence[torch.Tensor | None]) -> None:
    for value, expected in zip(found.values(), inputs, strict=True):
        if expected is None:  # every token is real
            assert value.all()
        else:
            assert np.array_equal(value, expected.numpy())


@pytest.mark.parametrize("case", ["bert", "bert, pairs"])
@pytest.mark.parametrize("clean", [False, True])
def test_texts(
    case: str, clean: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(job: Job) -> Job:
        guard = GuardPlan(personal="redact" if clean else "off")
        plan = replace(job.data, clean=CLEAN if clean else CleanPlan(), guard=guard)
        return replace(job, data=plan)

    it = made(tmp_path, case, to=("onnx",), edit=edit)
    data, module = it.module("data"), example(it)
    texts: list[Any] = [*TEXTS, *LONG]
    if "pairs" in case:
        texts = [*zip(TEXTS, reversed(TEXTS)), LONG]
    used = texts
    if clean:
        one = data.clean
        used = [(one(t[0]), one(t[1])) if "pairs" in case else one(t) for t in texts]
        assert used != texts
    tokens = data.encode(used)
    same(module.inputs_of(texts), data.collate(tokens, torch.arange(len(texts))))

    # A text without the other of its pair is not left out: nothing is answered.
    monkeypatch.setattr("sys.argv", ["example.py", *["a film"] * 3 * ("pairs" in case)])
    assert module.main() == 2


def test_plain_images_need_no_word_for_bad_ones(tmp_path: Path) -> None:
    it = made(tmp_path, "vit", to=("onnx",))
    assert not hasattr(example(it), "BadRow")


def test_images(tmp_path: Path) -> None:
    def edit(job: Job) -> Job:
        clean = CleanPlan(levels=True, alpha="white")
        return replace(job, data=replace(job.data, clean=clean))

    it = made(tmp_path, "vit", to=("onnx",), edit=edit)
    data, module = it.module("data"), example(it)
    draw = np.random.default_rng(0)
    paths = []
    for i, (mode, shape) in enumerate([("RGB", (9, 7, 3)), ("RGBA", (5, 8, 4))]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(draw.integers(0, 256, shape, np.uint8), mode).save(paths[-1])
    paths.append(str(tmp_path / "levels.png"))
    Image.fromarray(draw.integers(0, 65536, (6, 6), np.uint16)).save(paths[-1])
    (expected,) = data.collate([data.pixels(path) for path in paths])
    (found,) = module.inputs_of(paths).values()
    assert found.shape == tuple(expected.shape)
    assert np.abs(found - expected.numpy()).max() < 1e-6
