"""Products of whole numbers whose inputs have steps that are known beforehand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_cache import fill
from test_certificate import one_thread  # noqa: F401
from whole_support import Whole

from generator.ir.plans import DeployPlan, Range
from generator.runtime import search_speed, search_train
from tests.deploy.test_deploy import assert_certified, assert_size, edited, make

STATIC = DeployPlan("int8-static", calibration_rows=8)


def opened(folder: Path, **more: Any) -> tuple[Whole, Any, Any]:
    """A package, its deploy.py, and a model of random weights."""
    made = make("bert", replace(STATIC, **more), folder)
    torch.manual_seed(1)
    return made, made.module("deploy"), made.module("model").Model().eval()


def given(rows: int = 6) -> list[tuple]:
    """Inputs of a model, a batch of them."""
    ids = torch.randint(4, 14, (rows, 9), generator=torch.Generator().manual_seed(2))
    return [(ids, None)]


def test_the_ends_are_those_of_what_linears_are_given(tmp_path: Path) -> None:
    _, deploy, trained = opened(tmp_path, range="min-max")
    ranges = deploy.observed(trained, given())
    assert list(ranges) == list(deploy.LINEARS)
    x = trained.embedding(given()[0][0])  # what the first linear of the blocks reads
    low, high = ranges[deploy.LINEARS[0]]
    assert (low, high) == (x.min().item(), x.max().item())
    assert not any(m._forward_pre_hooks for m in trained.modules())  # none is left


@pytest.mark.parametrize("kind", ["mse", "percentile"])
def test_outliers_are_cut(kind: Range, tmp_path: Path) -> None:
    _, deploy, _ = opened(tmp_path, range=kind)
    x = torch.randn(500_000, generator=torch.Generator().manual_seed(3))
    x[0] = 14.0
    low, high = x.min().item(), x.max().item()
    counts = torch.histc(x, deploy.BINS, low, high).double()
    ends = deploy.narrowed(counts, low, high)
    assert low <= ends[0] < -3.5 and 3.5 < ends[1] < 9
    if kind == "percentile":
        inside = ((x >= ends[0]) & (x <= ends[1])).double().mean().item()
        assert deploy.KEPT <= inside < 1

    def error(low: float, high: float) -> float:
        step, zero = deploy.steps_of(low, high)
        kept = (deploy.in_steps(x, step, zero).floor() - zero) * step
        return (kept - x).square().mean().item()

    if kind == "mse":  # by what is counted, and so nearly the least of them
        tried = [part / 100 * high for part in range(5, 101, 5)]
        best = min(error(max(low, -most), most) for most in tried)
        assert error(*ends) < 1.05 * best
    # Of numbers without outliers hardly any is left out.
    x = torch.linspace(-1, 3, 10_000)
    counts = torch.histc(x, deploy.BINS, -1, 3).double()
    ends = deploy.narrowed(counts, -1.0, 3.0)
    assert ends[0] == pytest.approx(-1, abs=0.05) and ends[1] == pytest.approx(
        3, abs=0.05
    )


def test_what_is_beyond_is_the_end_and_zero_stays(tmp_path: Path) -> None:
    _, deploy, trained = opened(tmp_path)
    ranges = dict.fromkeys(deploy.LINEARS, (-0.3, 1.7))
    deployed = deploy.assemble(deploy.lowered(trained, ranges))
    layer = deployed.get_submodule(deploy.LINEARS[0])
    assert torch.equal(layer(torch.zeros(2, 24)), layer.bias.expand(2, -1))
    step, zero = layer.given
    assert step == pytest.approx(2 / 255) and zero == round(0.3 / step)
    x = torch.zeros(4, 24)
    x[0], x[1], x[2], x[3] = 9.0, (255 - zero) * step, -9.0, -zero * step
    found = layer(x)
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], found[3])
    assert (found[0] - found[2]).abs().max() > 0.1
    nothing = deploy.assemble(
        deploy.lowered(trained, dict.fromkeys(ranges, (0.0, 0.0)))
    )
    assert nothing(*given()[0]).isfinite().all()


@pytest.mark.parametrize("kind", ["mse", "percentile", "min-max"])
def test_the_certificate(kind: Range, tmp_path: Path) -> None:
    made = make("vit", replace(STATIC, range=kind), tmp_path)
    found = assert_certified(made)
    assert_size(made)
    assert 0.4 < found["inputs rounded, in steps"].measured
    made = edited("lora", STATIC, tmp_path / "other")
    assert_certified(made)
    assert_size(made)


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, deploy, trained = opened(tmp_path)
    fill(tmp_path, made, "bert")
    work = tmp_path / "work"
    work.mkdir()
    save_file(trained.state_dict(), work / "model.safetensors")
    flags = ["--root", str(tmp_path), "--work", str(work)]
    assert deploy.main([*flags, "--anyway"]) == 0
    said = json.loads((work / "deployed.json").read_text())
    dynamic = said["dynamic"]
    assert dynamic["valid"]["trained"] == said["valid"]["trained"]
    assert {"valid", "test", "times_as_fast", "better"} == dynamic.keys()
    assert "with a step for each row of the inputs, test:" in capsys.readouterr().out
    written = (work / "ranges.json").read_text()
    ranges = json.loads(written)
    assert ranges["by"] == "mse, 8 rows" and len(ranges["weights"]) == 64
    assert ranges["ranges"].keys() == {*deploy.LINEARS}
    predictor = made.module("predict").Predictor(work / "deployed.safetensors")
    assert len(predictor.predict(["a fine film", "the worst"])) == 2

    # They are read where they are of these weights, and not where they are of others.
    ranges["ranges"] = dict.fromkeys(deploy.LINEARS, (-7.0, 7.0))
    (work / "ranges.json").write_text(json.dumps(ranges))
    files = [work / name for name in ("model.safetensors", "deployed.safetensors")]
    train = made.module("data").load_splits(tmp_path, tmp_path / "rows").train
    found = deploy.find_ranges(trained, train, *files)
    assert found[deploy.LINEARS[0]] == [-7.0, 7.0]
    with torch.no_grad():
        trained.get_submodule(deploy.LINEARS[0]).weight[0, 0] += 1
    found = deploy.find_ranges(trained, train, *files)
    assert found[deploy.LINEARS[0]] != [-7.0, 7.0]
    again = json.loads((work / "ranges.json").read_text())
    assert again["weights"] != ranges["weights"]
    for damaged in ("", "[]", "{}"):
        (work / "ranges.json").write_text(damaged)
        with pytest.raises(ValueError, match="ranges.json holds no ranges: remove it"):
            deploy.find_ranges(trained, train, *files)
    # Of fewer rows than a batch has there is one batch, and not none.
    assert len(deploy.some(train, 1)) == 1


def test_it_is_refused_where_each_row_by_itself_does_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, deploy, trained = opened(tmp_path)
    fill(tmp_path, made, "bert")
    work = tmp_path / "work"
    work.mkdir()
    save_file(trained.state_dict(), work / "model.safetensors")
    made.edit("deploy", "more.mean() > 2 * more.std()", "1 > 0 * more.std()")
    deploy = made.module("deploy")
    flags = ["--root", str(tmp_path), "--work", str(work)]
    assert deploy.main(flags) == deploy.SLOWER
    assert not (work / "deployed.safetensors").exists()
    assert 'quantize = "int8"' in capsys.readouterr().err
    assert json.loads((work / "deployed.json").read_text())["dynamic"]["better"]


def test_worse_is_more_than_chance(tmp_path: Path) -> None:
    made, deploy, _ = opened(tmp_path)
    fill(tmp_path, made, "bert")
    split = made.module("data").load_splits(tmp_path, tmp_path / "rows").train
    right = {}
    for batch in made.module("data").evaluation_batches(split):
        for ids, target in zip(batch.inputs[0], batch.targets, strict=True):
            right[tuple(ids.tolist())] = int(target)

    class Answers(torch.nn.Module):
        """Right but for some rows."""

        def __init__(self, wrong: int) -> None:
            super().__init__()
            self.wrong = {*list(right)[:wrong]}

        def forward(self, ids: torch.Tensor, *_: Any) -> torch.Tensor:
            rows = [tuple(row.tolist()) for row in ids]
            answers = [right[row] ^ (row in self.wrong) for row in rows]
            return torch.nn.functional.one_hot(torch.tensor(answers), 2).float()

    assert deploy.better(Answers(0), Answers(20), split)
    assert not deploy.better(Answers(0), Answers(1), split)
    assert not deploy.better(Answers(20), Answers(0), split)
    assert not deploy.better(Answers(20), Answers(20), split)


def test_a_search_deploys_it(tmp_path: Path) -> None:
    made, _, trained = opened(tmp_path)
    fill(tmp_path, made, "bert")
    work = tmp_path / "work"
    work.mkdir()
    save_file(trained.state_dict(), work / "model.safetensors")
    figures = search_train.deployed(made.job.name, tmp_path, work)
    assert figures is not None and 0 <= figures["accuracy"] <= 1
    held = load_file(work / "deployed.safetensors")
    ranges = json.loads((work / "ranges.json").read_text())["ranges"]
    for name, ends in ranges.items():
        assert held[f"{name}.range"].tolist() == pytest.approx(ends)
    contender = {
        "parent": str(tmp_path),
        "name": made.job.name,
        "weights": str(made.weights),
        "trained": str(tmp_path / "other/model.safetensors"),
        "deployed": str(tmp_path / "other/deployed.safetensors"),
    }
    model = search_speed.model_of(contender)  # of what nobody has trained
    assert model(*given()[0]).isfinite().all()
