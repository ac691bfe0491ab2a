"""The dropout of models that train on a processor: its distribution and its gradient."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from oracle import job_of, tiny
from torch import nn
from transformers import BertConfig

from generated import draft_of, load_module
from generator.ir.job import Job
from generator.ir.plans import TargetPlan


def job(p: float = 0.3) -> Job:
    config = BertConfig(
        vocab_size=17,
        hidden_size=6,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=10,
        max_position_embeddings=9,
        hidden_dropout_prob=p,
    )
    _, card, tensors = tiny(config)
    return job_of(card, tensors)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder: Path = tmp_path_factory.mktemp("dropout")
    found = load_module(draft_of(job()), folder, "dropout_model")
    yield found
    del sys.modules["dropout_model"]


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_each_element_is_dropped_with_the_chance_asked_for(module, p):
    torch.manual_seed(0)
    n = 1_000_003  # no multiple of four
    kept = module.Dropout(p)(torch.ones(n)) != 0
    keep = round(2**16 * (1 - p)) / 2**16
    assert abs(keep - (1 - p)) <= 2**-17
    within = 5 * (p * (1 - p) / n) ** 0.5
    assert abs(kept.double().mean().item() - keep) < within
    for lane in range(4):  # those that are drawn as one number
        share = kept[lane::4].double().mean().item()
        assert abs(share - keep) < 2 * within
    for apart in (1, 2, 3, 4):  # and independently of each other
        both = (kept[apart:] & kept[:-apart]).double().mean().item()
        assert abs(both - keep**2) < 3 * within


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_kept_is_scaled_and_so_is_its_gradient(module, dtype):
    torch.manual_seed(1)
    x = torch.randn(5, 7, 3, dtype=dtype, requires_grad=True)
    y = module.Dropout(0.25)(x)
    assert y.dtype == dtype and y.shape == x.shape
    y.sum().backward()
    kept = y != 0
    scale = torch.tensor(1 / 0.75, dtype=dtype)
    assert torch.allclose(y, torch.where(kept, x * scale, 0), rtol=1e-2)
    assert x.grad is not None
    assert torch.equal(x.grad, kept * scale)
    assert 0 < kept.sum() < kept.numel()


def test_a_row_is_another_one_each_time_and_the_same_after_a_seed(module):
    dropout, x = module.Dropout(0.5), torch.ones(64)
    torch.manual_seed(2)
    a, b = dropout(x), dropout(x)
    torch.manual_seed(2)
    assert not torch.equal(a, b)
    assert torch.equal(a, dropout(x))


def test_no_element_is_dropped_in_prediction(module):
    x = torch.randn(4)
    assert module.Dropout(0.5).eval()(x) is x


def test_all_dropouts_of_the_model_are_of_this_kind(module):
    found = [m for m in module.Model().modules() if isinstance(m, nn.Dropout)]
    assert found and {type(m) for m in found} == {module.Dropout}


@pytest.mark.parametrize(
    ("target", "p"),
    [
        (TargetPlan("cuda", "fp32", False), 0.3),
        (TargetPlan("cpu", "fp32", True), 0.3),
        (TargetPlan("cpu", "fp32", False), 1e-6),  # it would round to never
    ],
)
def test_elsewhere_it_is_torchs_own(target, p):
    source = draft_of(replace(job(p), target=target))
    assert "class Dropout" not in source and "nn.Dropout(c.dropout)" in source
