"""The moving average of the weights: what it is, and that a run with it resumes."""

from __future__ import annotations

import functools
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import children
import pytest
import test_stages
import torch
import train_support as support
from safetensors.torch import save_file
from test_train import check_equals_whole, tensors
from torch import Tensor
from train_support import tiny_job

EMA = 0.8
Weights = Mapping[str, Tensor]


def record_weights(train: Any) -> None:
    """Have the weights ahead of every step and behind it written into `steps`."""
    step, count = train.step, 0

    def recorded(model: Any, *rest: Any) -> Any:
        nonlocal count
        whole = getattr(model, "__self__", model)  # of a suffix
        for when in "ahead", "behind":
            if when == "behind":
                found = step(model, *rest)
            save_file(whole.state_dict(), Path("steps") / f"{when}-{count}")
        count += 1
        return found

    train.step = recorded


def by_hand(folder: Path, lengths: list[int]) -> tuple[Weights, Weights]:
    """The average that is best of those evaluated, and the last one, by its definition.

    Every stage has so many steps, and starts from the best average so far.
    """
    evaluations = json.loads((folder / "whole/result.json").read_text())["evaluations"]
    accuracy = {e["step"]: e["accuracy"] for e in evaluations}
    best: tuple[float, Weights] = (-1.0, {})
    mean: dict[str, Tensor] = {}
    ahead = 0
    for length in lengths:
        start = tensors(folder / "steps" / f"ahead-{ahead}")
        for name, x in best[1].items():
            torch.testing.assert_close(start[name].double(), x, rtol=1e-5, atol=1e-6)
        mean = {name: x.double() for name, x in start.items()}
        for n in range(length):
            keeps = min(EMA, (1 + n) / (10 + n))
            for name, x in tensors(folder / "steps" / f"behind-{ahead + n}").items():
                mean[name] = keeps * mean[name] + (1 - keeps) * x.double()
            found = accuracy.get(ahead + n + 1, -1.0)
            if found > best[0]:
                best = found, dict(mean)
        ahead += length
    assert len(list((folder / "steps").iterdir())) == 2 * ahead
    return best[1], mean


def check_by_hand(folder: Path, lengths: list[int]) -> None:
    best, last = by_hand(folder, lengths)
    saved = tensors(folder / "whole/model.safetensors")
    assert saved.keys() == best.keys()
    for name, x in saved.items():
        torch.testing.assert_close(x.double(), best[name], rtol=1e-5, atol=1e-6)
    if len(lengths) > 1:
        return  # the checkpoint behind the last stage has the best weights
    path = folder / f"whole/checkpoints/{sum(lengths):09}.safetensors"
    kept = {n: x for n, x in tensors(path).items() if n.startswith("average.")}
    assert kept and not any("embedding" in name for name in kept)  # which is frozen
    for name, x in kept.items():
        mean = last[name.removeprefix("average.")]
        torch.testing.assert_close(x.double(), mean, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, and in its folder `whole`, a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("package")
    job = tiny_job(save_every=5, evaluate_every=7, ema=EMA, frozen=("embedding",))
    support.write_package(folder, job)
    (folder / "steps").mkdir()
    assert children.run(folder, "--work", "whole", hook=record_weights) == 0
    return folder


def test_it_is_the_average_by_its_definition(package: Path) -> None:
    check_by_hand(package, [24])


@pytest.mark.parametrize("steps", [3, 15])
def test_it_resumes_as_it_was(steps: int, package: Path) -> None:
    work = f"signal-{steps}"
    hook = functools.partial(children.signal_at, steps, signal.SIGTERM)
    assert children.run(package, "--work", work, hook=hook) == 75
    assert children.run(package, "--work", work, "--resume") == 0
    check_equals_whole(package, work)


@pytest.mark.parametrize("cache", ["fp32", "off"])
def test_a_stage_starts_from_the_average(cache: str, tmp_path: Path) -> None:
    made = test_stages.make(tmp_path, recipe={"ema": EMA, "cache": cache})
    run = test_stages.runner(tmp_path, made)
    (tmp_path / "steps").mkdir()
    done = run("--work", "whole", hook=record_weights)
    assert done == 0, (tmp_path / "log").read_text()
    lines = test_stages.lines(tmp_path / "whole")
    steps = [line["stage"] for line in lines if "step" in line]
    check_by_hand(tmp_path, [steps.count(stage) for stage in (1, 2, 3)])
    hook = functools.partial(children.signal_at, 17, signal.SIGTERM)
    assert run("--work", "other", hook=hook) == 75
    assert run("--work", "other", "--resume") == 0
    check_equals_whole(tmp_path, "other")
