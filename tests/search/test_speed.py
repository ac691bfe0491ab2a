"""What is measured of a candidate is what its own predict.py would do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runtime_support import write_job
from torch import nn

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
    search_speed.batch({"times": 2}, contender)()
    assert seen == [found, found]


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
