"""ONNX and torch.export: read back, they answer as the model does, at any batch and length."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from export_support import batches, made, trained
from safetensors.torch import save_file
from test_certificate import CASES
from whole_support import WORDS, Whole

BOUND = 1e-5


def far(it: Whole, to: str, folder: Path) -> float:
    folder.mkdir()
    module, model = it.module("export"), trained(it)
    answer = getattr(module, f"to_{to}")(model, folder)
    return module.compared(answer, model, batches(it))["largest_difference"]


@pytest.mark.parametrize("case", ["bert, pairs", "vit"])
def test_torch_export(case: str, tmp_path: Path) -> None:
    assert far(made(tmp_path, case, to=("torch",)), "torch", tmp_path / "out") <= BOUND


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c not in ("bert, pairs", "vit")])
def test_torch_export_of_others(case: str, tmp_path: Path) -> None:
    assert far(made(tmp_path, case, to=("torch",)), "torch", tmp_path / "out") <= BOUND


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_onnx(case: str, tmp_path: Path) -> None:
    assert far(made(tmp_path, case, to=("onnx",)), "onnx", tmp_path / "out") <= BOUND


def rows(it: Whole, folder: Path) -> Path:
    """The files of a job of one text and two labels, and weights as training writes them."""
    for split, start in (("train", 0), ("valid", 40), ("test", 60)):
        lines = [
            f"{WORDS[i % 10]} {WORDS[i % 7]} {WORDS[(i * i) % 9]} {i},{('no', 'yes')[i % 2]}"
            for i in range(start, start + 20)
        ]
        (folder / f"{split}.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    weights = folder / "trained.safetensors"
    save_file(trained(it).state_dict(), weights)
    return weights


def test_the_program_and_its_example(tmp_path: Path, capsys) -> None:
    it = made(tmp_path, "bert", to=("onnx",))
    weights, out = rows(it, tmp_path), tmp_path / "out"
    arguments = ["--to", "onnx", "--root", tmp_path, "--weights", weights, "--out", out]
    arguments += ["--work", tmp_path / "work", "--rows", 30]
    assert it.module("export").main([*map(str, arguments)]) == 0
    figures = json.loads((out / "export.json").read_text())
    assert figures["labels_differ"] == 0 and figures["largest_difference"] <= BOUND
    assert 30 <= figures["rows"] <= 40
    texts = ["a fine film", "dull " * 30]
    # No torch is there: a module of that name ends the program that imports it.
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "torch.py").write_text("raise SystemExit('torch')")
    ended = subprocess.run(
        [sys.executable, out / "example.py", *texts],
        env={"PYTHONPATH": str(tmp_path / "none"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    expected = it.module("predict").Predictor(weights).predict(texts)
    for found, prediction in zip(answers, expected, strict=True):
        for label, probability in prediction.probabilities.items():
            assert found["probabilities"][label] == pytest.approx(probability, abs=1e-5)
    # A folder that is something else stays as it is, and so does an export that fails.
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").touch()
    with pytest.raises(SystemExit):
        it.module("export").main([*map(str, [*arguments[:-6], "--out", other])])
    assert [p.name for p in other.iterdir()] == ["mine"]
    module = it.module("export")
    # Labels are the model's where they are for all and its logits far away.
    module.WRITERS = {"onnx": lambda model, new: lambda *x: model(*x) + 1}
    before = (out / "export.json").read_text()
    assert module.main([*map(str, arguments)]) == 1
    assert "nothing is written" in capsys.readouterr().err
    assert (out / "export.json").read_text() == before
    # What is no number is no near one; and neither trial leaves anything.
    module.WRITERS = {"onnx": lambda model, new: lambda *x: model(*x) * torch.nan}
    assert module.main([*map(str, arguments)]) == 1
    assert not list(out.parent.glob("out-*"))
    # Beside an export, what is not of it stays.
    (out / "notes").touch()
    module.WRITERS = {"onnx": lambda model, new: model}
    assert module.main([*map(str, arguments)]) == 0
    assert (out / "notes").exists() and (out / "export.json").read_text() != before
