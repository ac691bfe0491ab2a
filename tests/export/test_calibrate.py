"""Temperature and thresholds: that they are the best ones, and that predict.py uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import ALL, made
from safetensors.torch import save_file
from scipy.optimize import minimize_scalar
from sklearn.metrics import f1_score
from test_certificate import CASES
from whole_support import WORDS, Whole, whole

from generator.ir.job import Job
from generator.ir.plans import DeployPlan


def asking(**keys: Any) -> Callable[[Job], Job]:
    return lambda job: replace(job, deploy=DeployPlan(**keys))


def package(folder: Path, case: str, **keys: Any) -> Whole:
    config, sizes, options = CASES[case]
    return whole(folder, config(**sizes), **options, edit=asking(**keys))


def drawn(labels: int, rows: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are too sure of themselves, and the labels of their rows."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(rows, labels, generator=generator)
    targets = (z + torch.randn(rows, labels, generator=generator)).argmax(1)
    return 3 * z, targets


def test_the_temperature_is_the_best(tmp_path: Path) -> None:
    module = package(tmp_path, "bert", temperature=True).module("calibrate")
    logits, targets = drawn(2)

    def loss(t: float) -> float:
        return torch.nn.functional.cross_entropy(logits.double() / t, targets).item()

    best: Any = minimize_scalar(loss, bounds=(0.05, 20), method="bounded")
    found = module.temperature_of(logits, targets)
    assert found == pytest.approx(best.x, abs=1e-3) and found > 1.5
    before = module.figures_of(logits, targets, module.Calibration())
    after = module.figures_of(logits, targets, module.Calibration(found))
    assert after["nll"] == pytest.approx(loss(found), abs=1e-6)
    assert after["nll"] < before["nll"]
    assert after["ece"] < before["ece"] and after["accuracy"] == before["accuracy"]
    # By hand, bin by bin.
    p = (logits / found).softmax(1).max(1)
    off, right = 0.0, (p.indices == targets).numpy()
    numbers = np.minimum((p.values.numpy() * 15).astype(int), 14)
    for number in range(15):
        inside = numbers == number
        if inside.any():
            gap = right[inside].mean() - p.values.numpy()[inside].mean()
            off += inside.mean() * abs(gap)
    assert after["ece"] == pytest.approx(off, abs=1e-6)
    # All right: the likelihood grows for ever, and the temperature ends at its bound.
    sure = module.temperature_of(logits, logits.argmax(1))
    assert sure == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("metric", ["f1", "accuracy", "balanced-accuracy"])
def test_no_other_threshold_is_better(metric: str, tmp_path: Path) -> None:
    one = package(tmp_path / "one", "bert", thresholds=metric).module("calibrate")
    logits, targets = drawn(2)
    logits[:, 1] += 1.0  # biased
    p = one.probabilities(logits, one.Calibration())[:, 1]
    p[::7] = p[0]  # ties

    def score(threshold: float) -> float:
        guess = (p.double() > threshold).numpy()
        truth = targets.numpy() == 1
        match metric:
            case "f1":
                return float(f1_score(truth, guess, average="macro"))
            case "accuracy":
                return float((guess == truth).mean())
        return float((guess[truth].mean() + (~guess[~truth]).mean()) / 2)

    found = one.best_threshold(p, targets)
    tried = np.linspace(0, 1, 401)
    assert score(found) >= max(map(score, tried)) - 1e-12
    assert score(found) > score(0.5)


def test_thresholds_of_labels(tmp_path: Path) -> None:
    it = package(tmp_path, "bert, labels", temperature=True, thresholds="f1")
    module = it.module("calibrate")
    z, _ = drawn(3)
    targets = (z > torch.tensor([2.0, -1.0, 30.0])).float()  # the last is never there
    found = module.fitted(z, targets)
    assert (
        found.thresholds[0] > 0.5 > found.thresholds[1] and found.thresholds[2] == 0.5
    )
    after = module.figures_of(z, targets, found)
    truth, guess = targets.numpy(), module.given(module.probabilities(z, found), found)
    expected = f1_score(truth, guess.numpy(), average="macro")
    assert after["macro_f1"] == pytest.approx(expected)
    assert (
        after["micro_f1"]
        > module.figures_of(z, targets, module.Calibration())["micro_f1"]
    )


def rows(folder: Path) -> None:
    for split, start in (("train", 0), ("valid", 40), ("test", 60)):
        lines = [
            f"{WORDS[i % 10]} {WORDS[i % 7]} {WORDS[(i * i) % 9]} {i},{('no', 'yes')[i % 3 == 0]}"
            for i in range(start, start + 20)
        ]
        (folder / f"{split}.csv").write_text("text,label\n" + "\n".join(lines) + "\n")


def test_training_calibrates_and_predictions_follow(tmp_path: Path) -> None:
    edit = asking(temperature=True, thresholds="f1")
    it = made(tmp_path, "bert", to=ALL[:1], edit=edit, recipe={"epochs": 1, "lr": 1e-4})
    rows(tmp_path)
    work = tmp_path / "work"
    arguments = ["--root", tmp_path, "--work", work, "--weights", it.weights, "--quiet"]
    assert it.module("train").main([*map(str, arguments)]) == 0
    result = json.loads((work / "result.json").read_text())
    kept = json.loads((work / "calibration.json").read_text())
    assert result["calibration"] == kept and kept["bins"] == 15
    assert kept["valid"]["after"]["nll"] <= kept["valid"]["before"]["nll"] + 1e-9
    assert kept["valid"]["after"]["macro_f1"] >= kept["valid"]["before"]["macro_f1"]

    predictor = it.module("predict").Predictor(work / "model.safetensors")
    calibrate, data = it.module("calibrate"), it.module("data")
    splits = data.load_splits(tmp_path, work)
    logits, targets = calibrate.logits_of(predictor.model, splits.test)
    texts = [row.text for row in data.load_rows(tmp_path, work)["test"]]
    answers = predictor.predict(texts)
    t, threshold = kept["temperature"], kept["threshold"]
    for answer in answers:
        assert answer.label == ("no", "yes")[answer.probabilities["yes"] > threshold]
    right = [a.probabilities["yes"] for a in answers]
    assert sorted(right) == pytest.approx(
        sorted((logits / t).softmax(1)[:, 1].tolist()), abs=1e-6
    )
    after = calibrate.figures_of(logits, targets, predictor.calibration)
    assert after == pytest.approx(kept["test"]["after"])
    # Again by itself, and without it there are no answers.
    (work / "calibration.json").rename(tmp_path / "kept.json")
    with pytest.raises(FileNotFoundError, match="calibrate makes it"):
        it.module("predict").Predictor(work / "model.safetensors")
    wrong = json.dumps(kept | {"temperature": None})
    for damaged in ("", "[]", '{"temperature": 1.0}', wrong):
        (work / "calibration.json").write_text(damaged)
        with pytest.raises(ValueError, match="calibration.json is not of this job"):
            it.module("predict").Predictor(work / "model.safetensors")
    assert calibrate.main(["--root", str(tmp_path), "--work", str(work)]) == 0
    again = json.loads((work / "calibration.json").read_text())
    assert again["temperature"] == pytest.approx(t, rel=1e-4)
    assert calibrate.main(["--root", str(tmp_path), "--work", str(tmp_path / "x")]) == 2
    # That of another training answers nothing, and goes with no export.
    tensors, about = it.module("train").load(work / "model.safetensors")
    tensors["classifier.label.bias"] += 1
    it.module("train").save(work / "model.safetensors", tensors, about)
    with pytest.raises(ValueError, match="is of other weights .* makes it anew"):
        it.module("predict").Predictor(work / "model.safetensors")
    with pytest.raises(ValueError, match="is of other weights"):
        export = it.module("export").export
        export("onnx", work / "model.safetensors", work / "onnx", tmp_path, work)
    assert not (work / "onnx").exists()
    assert calibrate.main(["--root", str(tmp_path), "--work", str(work)]) == 0
    it.module("predict").Predictor(work / "model.safetensors")
    # Nor does that of a file that says nothing of itself, and is another.
    for bias in (2.0, 3.0):
        tensors["classifier.label.bias"] += bias
        save_file(tensors, tmp_path / "plain.safetensors")
        if bias == 2:
            calibrate.write(tmp_path / "plain.safetensors", calibrate.Calibration(), {})
            it.module("predict").Predictor(tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="is of other weights"):
        it.module("predict").Predictor(tmp_path / "plain.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["bert", "bert, labels", "vit"])
def test_the_certificate_of_calibrated_jobs(case: str, tmp_path: Path) -> None:
    it = package(tmp_path, case, temperature=True)
    found = it.module("test_model").certificate(it.weights)
    assert [r for r in found if not r.holds] == []
    assert any(
        r.name == "training and serving" and r.measured is not None for r in found
    )
