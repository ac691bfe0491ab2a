"""What is measured of a candidate is what its own predict.py would do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runtime_support import write_job
from torch import nn

from generator.runtime import build as building
from generator.runtime import search_speed
from generator.runtime.build import load_spec
from generator.runtime.search import _job
from generator.runtime.search_trial import Trial, autocast, identify
from generator.search.space import unedited


@pytest.mark.parametrize(
    ("target", "weights", "found"),
    [("fp32", "fp32", torch.float32), ("bf16", "fp32", torch.bfloat16)],
)
def test_a_model_runs_in_the_precision_of_its_predictions(
    target: str, weights: str, found: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    model = nn.Linear(8, 8)
    model.register_forward_hook(lambda _, __, x: seen.append(x.dtype))
    monkeypatch.setattr(search_speed, "model_of", lambda _: model)
    contender = {
        "inputs": [("float32", [2, 8])],
        "device": "cpu",
        "autocast": autocast(target, weights),
    }
    search_speed.batch({}, contender)()
    assert seen == [found]


def test_what_is_short_is_repeated_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, done = [0.0], [0, 0]
    monkeypatch.setattr(search_speed.time, "perf_counter", lambda: clock[0])

    def work(i: int, seconds: float) -> None:
        done[i] += 1
        clock[0] += seconds

    works = [lambda: work(0, 0.25), lambda: work(1, 0.5)]
    # So often as the second can in that time.
    assert search_speed.timed(works, 3, 2.0) == [[0.25] * 3, [0.5] * 3]
    assert done == [1 + 3 * 4, 1 + 4 + 3 * 4]
    assert search_speed.timed(works, 3, 0.0) == [[0.25] * 3, [0.5] * 3]
    assert done == [1 + 3 * 4 + 1 + 3, 1 + 4 + 3 * 4 + 1 + 3]


def test_a_call_that_is_disturbed_makes_no_round_shorter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(search_speed.time, "perf_counter", lambda: clock[0])
    taken = iter(
        [1.0, 0.125, 0.875]
    )  # the others of which were waiting for a processor

    def work() -> None:
        clock[0] += next(taken)

    assert search_speed.often(work, 2.0) == 16


@pytest.mark.parametrize("batch", [3, 8])
def test_each_contender_predicts_the_same_rows(batch: int, tmp_path: Path) -> None:
    """However many it has in a batch, and not the shortest alone."""
    path = write_job(tmp_path, rows=20)
    path.write_text(path.read_text().replace("batch = 8", f"batch = {batch}"))
    spec_file = load_spec(path)
    job = _job(spec_file, None)
    building.build(building.plan(spec_file, job.facts, tmp_path))
    contender = {"name": "tiny_job", "parent": str(tmp_path), "device": "cpu"}
    data = search_speed.module(contender, "data")
    whole = data.load_rows(tmp_path, tmp_path / "a")["train"]
    taken = search_speed.every(data.load_rows, "train", 7)(tmp_path, tmp_path / "b")
    rows = [row.text for row in taken["train"]]
    assert rows == [row.text for row in whole][::3] and len(rows) == 7


def test_weights_of_sixteen_bits_need_no_autocast() -> None:
    assert not autocast("bf16", "bf16")


def test_the_unedited_package_is_built_where_another_machine_did_that_trial(
    tmp_path: Path,
) -> None:
    job = _job(load_spec(write_job(tmp_path, rows=8)), None)
    _, compiled = identify(unedited(job.spec_file.text), job)
    setting: Any = SimpleNamespace(
        job=job,
        work=tmp_path,
        unedited=compiled,
        folder=lambda number: tmp_path / "trials" / str(number),
        search=SimpleNamespace(latency_batch=1, latency_tokens=8),
    )
    trial = Trial(setting, SimpleNamespace(number=5), lambda: True, 1.0)  # type: ignore[arg-type]
    contender = trial._unedited()
    model = search_speed.model_of(contender)
    assert model(torch.ones(1, 4, dtype=torch.int64)).isfinite().all()
