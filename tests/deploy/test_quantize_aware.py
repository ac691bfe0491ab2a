"""Training that rounds: that it computes what is deployed, trains so, and resumes."""

from __future__ import annotations

import functools
import json
import signal
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import children
import pytest
import torch
from safetensors.torch import load_file
from test_cache import fill
from test_certificate import CASES, one_thread  # noqa: F401
from test_train import check_equals_whole
from whole_support import Whole, whole

from generator.ir.deploy import LONGEST
from generator.ir.plans import DeployPlan
from tests.deploy.test_deploy import assert_certified

AWARE = {
    "int8": DeployPlan("int8", quantize_aware=True),
    "int8-static": DeployPlan("int8-static", quantize_aware=True),
    "int8-weights": DeployPlan("int8-weights", quantize_aware=True),
    "int8-weights by 16": DeployPlan("int8-weights", group=16, quantize_aware=True),
    "int4-weights": DeployPlan("int4-weights", quantize_aware=True),
}
RANGE = (-2.5, 3.0)


def make(plan: DeployPlan, folder: Path, **more: Any) -> Whole:
    """A package whose table of tokens is rounded too."""
    config, sizes, options = CASES["bert"]
    return whole(
        folder,
        config(**{**sizes, "vocab_size": LONGEST}),
        **options,
        edit=lambda job: replace(job, deploy=plan),
        **more,
    )


def both(made: Whole) -> tuple[Any, Any, Any]:
    """The trained model, as it trains, and as it is deployed."""
    aware, deploy = made.module("quantize_aware"), made.module("deploy")
    torch.manual_seed(1)
    trained = made.module("model").Model().eval()
    ranges = [dict.fromkeys(deploy.LINEARS, RANGE)] * hasattr(deploy, "find_ranges")
    deployed = deploy.assemble(deploy.lowered(trained, *ranges))
    trains = made.module("model").Model()
    trains.load_state_dict(trained.state_dict())
    trains = aware.prepare(trains)
    for some in ranges:
        aware.set_ranges(trains, some)
    return trained, trains.eval(), deployed


@pytest.mark.parametrize("kind", AWARE)
def test_it_computes_what_is_deployed(kind: str, tmp_path: Path) -> None:
    made = make(AWARE[kind], tmp_path)
    trained, trains, deployed = both(made)
    deploy = made.module("deploy")
    for name in deploy.LINEARS:
        one, other = trains.get_submodule(name), deployed.get_submodule(name)
        x = torch.randn(3, 50, one.in_features) * 2
        with torch.no_grad():
            torch.testing.assert_close(one(x), other(x), rtol=1e-5, atol=1e-5)
    ids = torch.randint(4, LONGEST, (3, 9))
    with torch.no_grad():
        found, want = trains(ids, None), deployed(ids, None)
        assert trains.embedding.token(ids).equal(deployed.embedding.token(ids))
        # Of products an input that lies between two steps may go to either.
        assert (found - want).abs().max() < (1e-5 if "weights" in kind else 0.01)
        assert not torch.allclose(found, trained(ids, None), atol=1e-4)
    # What is saved is a plain model.
    assert trains.state_dict().keys() == trained.state_dict().keys()
    trained.load_state_dict(trains.state_dict())


@pytest.mark.parametrize("kind", ["int8", "int8-static", "int8-weights"])
def test_in_bf16_it_computes_what_is_deployed(kind: str, tmp_path: Path) -> None:
    made = make(AWARE[kind], tmp_path, precision="bf16")
    _, trains, deployed = both(made)
    layers = [m.get_submodule("blocks.0.ff.up") for m in (trains, deployed)]
    x = torch.randn(30, 24).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, want = (layer(x) for layer in layers)
    assert found.dtype == want.dtype
    near = 0.0 if "weights" in kind else 1e-5
    torch.testing.assert_close(found, want, rtol=near, atol=near)


def test_gradients_pass_through_the_rounding(tmp_path: Path) -> None:
    made = make(AWARE["int8-static"], tmp_path)
    _, trains, _ = both(made)
    layer = trains.get_submodule("blocks.0.ff.up")
    x = (4 * torch.randn(7, 24)).requires_grad_()
    y = layer(x)
    up = torch.randn_like(y)
    y.backward(up)
    aware = made.module("quantize_aware")
    weight = aware.kept(layer.weight.detach())
    step, zero = aware.steps_of(*RANGE)
    inside = (x > -zero * step) & (x < (255 - zero) * step)
    assert 0.2 < inside.double().mean() < 0.9
    torch.testing.assert_close(x.grad, (up @ weight) * inside)
    kept = (aware.in_steps(x.detach(), step, zero).floor() - zero) * step
    torch.testing.assert_close(layer.weight.grad, up.T @ kept)
    ids = torch.tensor([[5, 9, 9]])
    table = trains.embedding.token
    table(ids).sum().backward()
    counts = torch.bincount(ids[0], minlength=LONGEST).float()
    assert table.weight.grad.equal(counts[:, None].expand(-1, 24))


def test_it_compiles(tmp_path: Path) -> None:
    _, trains, _ = both(make(AWARE["int4-weights"], tmp_path))
    layer = trains.get_submodule("blocks.0.ff.up")
    x = torch.randn(5, 24)
    want = layer(x)
    want.sum().backward()
    gradient, layer.weight.grad = layer.weight.grad, None
    found = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    found.sum().backward()
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(layer.weight.grad, gradient)


def test_ranges_follow_what_is_seen(tmp_path: Path) -> None:
    made = make(replace(AWARE["int8-static"], quantize_after=0.5), tmp_path)
    aware = made.module("quantize_aware")
    model = aware.prepare(made.module("model").Model()).train()
    aware.switch(model, False)
    name = "blocks.1.ff.down"
    layer, seen = model.get_submodule(name), []
    plain = torch.nn.functional.linear
    for steps in range(3):
        x = torch.randn(5, layer.in_features)
        assert layer(x).equal(plain(x, layer.weight, layer.bias))  # it waits
        seen.append(torch.stack([x.min(), x.max()]))
        for other in aware.LINEARS:
            model.get_submodule(other).seen = layer.seen
        aware.follow(model, steps)
        torch.testing.assert_close(layer.range, torch.stack(seen).mean(0))
    x = torch.randn(5, layer.in_features)
    evaluated = layer.eval()(x)
    assert not evaluated.equal(plain(x, layer.weight, layer.bias))
    assert layer.seen.equal(seen[-1])  # and evaluations are not followed
    aware.switch(model.train(), True)
    assert layer(x).equal(evaluated)
    before = layer.range.clone()
    aware.follow(model, 10_000)
    torch.testing.assert_close(layer.range, before.lerp(layer.seen, 0.01))


@pytest.mark.parametrize("kind", ["int8", "int8-static", "int4-weights"])
def test_the_certificate(kind: str, tmp_path: Path) -> None:
    made = make(AWARE[kind], tmp_path)
    found = assert_certified(made)
    assert "linears as they train and as they are deployed" in found
    made.edit("quantize_aware", "through(self.weight, kept)", "self.weight")
    found = [*made.module("test_model").as_deployed(made.weights)]
    assert [one.name for one in found if not one.holds] == [
        "linears as they train and as they are deployed"
    ]


def trained(made: Whole, folder: Path) -> Callable[..., int]:
    fill(folder, made, "bert")
    flags = ("--weights", str(made.weights / "model.safetensors"))
    return functools.partial(children.run, folder, *flags, name=made.job.name)


def test_the_bench_trains_so(tmp_path: Path, monkeypatch: Any) -> None:
    made = fill(tmp_path, make(AWARE["int8-static"], tmp_path), "bert")
    bench, aware = made.module("bench"), made.module("quantize_aware")
    asked = Namespace(
        weights=made.weights,
        root=tmp_path,
        folder=tmp_path,
        tokens_per_row="real",
        against=None,
    )
    rows, split = bench.training_rows(asked)
    seen, kept = [], aware.kept
    monkeypatch.setattr(aware, "kept", lambda x: seen.append(x) or kept(x))
    bench.package("train", asked, rows, split)([torch.arange(4)])
    assert len(seen) == len(aware.LINEARS)
    bench.prepare(asked)
    assert bench.package("predict", asked, rows, split)([torch.arange(4)])


@pytest.mark.parametrize("kind", ["int8-static", "int4-weights"])
def test_it_trains_and_resumes_as_it_was(kind: str, tmp_path: Path) -> None:
    plan = replace(AWARE[kind], quantize_after=0.2, calibration_rows=8)
    recipe = {"epochs": 1, "ema": 0.8, "evaluate_every": 3, "save_every": 4}
    made = make(plan, tmp_path, recipe=recipe)
    run = trained(made, tmp_path)
    assert run("--work", "whole") == 0, (tmp_path / "log").read_text()
    hook = functools.partial(children.signal_at, 4, signal.SIGTERM)
    assert run("--work", "other", hook=hook) == 75
    assert run("--work", "other", "--resume") == 0
    check_equals_whole(tmp_path, "other")
    work = tmp_path / "whole"
    result = json.loads((work / "result.json").read_text())

    # What was evaluated is what deploy.py makes of the weights, and of the ranges.
    deploy, data = made.module("deploy"), made.module("data")
    files = work / "model.safetensors", work / "deployed.safetensors"
    model, splits = deploy.load_trained(files[0]), data.load_splits(tmp_path, work)
    ranges = []
    if kind == "int8-static":
        other = (tmp_path / "other/ranges.json").read_text()
        assert (work / "ranges.json").read_text() == other
        ranges = [deploy.find_ranges(model, splits.train, *files)]
        assert json.loads(other)["by"] == "training"
        assert ranges == [json.loads(other)["ranges"]]
    deployed = deploy.assemble(deploy.lowered(model, *ranges))
    for split in ("valid", "test"):
        found = deploy.compare(model, deployed, getattr(splits, split))["deployed"]
        assert found["loss"] == pytest.approx(result[split]["loss"], abs=2e-3)
    tensors = load_file(max((work / "checkpoints").iterdir()))
    kept = {name for name in tensors if name.startswith("range.")}
    names = deploy.LINEARS if kind == "int8-static" else ()
    assert kept == {f"range.{name}" for name in names}


def test_stages_and_what_is_frozen_round_too(tmp_path: Path) -> None:
    """What is frozen runs once, with its rounded weights."""
    made = make(
        AWARE["int4-weights"],
        tmp_path,
        frozen=("embedding", "blocks.0"),
        recipe={"epochs": 1},
    )
    assert made.job.model.cut
    run = trained(made, tmp_path)
    assert run("--work", "whole") == 0, (tmp_path / "log").read_text()
    work = tmp_path / "whole"
    deploy, data = made.module("deploy"), made.module("data")
    model = deploy.load_trained(work / "model.safetensors")
    deployed = deploy.assemble(deploy.lowered(model))
    splits = data.load_splits(tmp_path, work)
    result = json.loads((work / "result.json").read_text())
    for split in ("valid", "test"):
        found = deploy.compare(model, deployed, getattr(splits, split))["deployed"]
        assert found["loss"] == pytest.approx(result[split]["loss"], abs=1e-4)
    (file,) = (p for p in (work / "cache").iterdir() if p.name.startswith("valid"))
    batch = next(iter(data.evaluation_batches(splits.valid)))
    with torch.no_grad():
        x = deployed.prefix(*batch.inputs)
    kept = torch.from_file(str(file), size=file.stat().st_size // 4)
    row = int(batch.rows[0])
    start, length = (
        int(t[row]) for t in (splits.valid.tokens.starts, splits.valid.tokens.lengths)
    )
    kept = kept.view(-1, x.shape[-1])[start : start + length]
    torch.testing.assert_close(kept, x[0, :length], rtol=1e-5, atol=1e-5)
