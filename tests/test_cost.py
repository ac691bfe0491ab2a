"""The cost model against what torch counts and keeps, on transformers' own models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, LlamaConfig, ViTConfig

from generator import passes
from generator.cost import Flops, describe
from generator.ir.job import Job
from generator.ir.plans import TargetPlan
from tests.oracle import job_of, tiny

ENCODER: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
DECODER: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 37,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "image_size": 12,
    "patch_size": 4,
}


def bert(**more: Any) -> tuple[Job, Any]:
    model, card, tensors = tiny(BertConfig(**ENCODER), attention="sdpa")
    return job_of(card, tensors, **more), model


def counted(model: Any, **inputs: Tensor) -> tuple[int, int]:
    """FLOPs of forward and backward, by torch's own counter; attention is products."""
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            logits = model(**inputs).logits
        with FlopCounterMode(display=False) as backward:
            logits.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def ids(rows: int, tokens: int) -> Tensor:
    return torch.randint(1, 53, (rows, tokens))


@pytest.mark.parametrize("tokens", [1, 7, 30])
def test_flops_of_an_encoder(tokens: int) -> None:
    job, model = bert()
    cost = describe(job)
    forward, backward = counted(model, input_ids=ids(2, tokens))
    assert 2 * cost.forward(tokens) == forward
    assert 2 * cost.backward(tokens) == backward
    assert cost.step(tokens) == cost.forward(tokens) + cost.backward(tokens)


def test_flops_with_frozen_blocks() -> None:
    job, model = bert()
    job = replace(job, frozen=("embedding", "blocks.0", "blocks.1"))
    base = model.bert
    for part in (base.embeddings, base.encoder.layer[0], base.encoder.layer[1]):
        part.requires_grad_(False)
    cost = describe(job)
    _, backward = counted(model, input_ids=ids(2, 9))
    assert 2 * cost.backward(9) == backward
    assert cost.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    # The first block that trains needs no gradient of what it is given.
    assert cost.backward(9) < 2 * cost.forward(9) / 2


def test_frozen_above_what_trains() -> None:
    """Gradients pass through frozen blocks, whose own are not worked out."""
    job, model = bert()
    job = replace(job, frozen=("blocks.1",))
    model.bert.encoder.layer[1].requires_grad_(False)
    _, backward = counted(model, input_ids=ids(2, 9))
    assert 2 * describe(job).backward(9) == backward


def test_flops_of_images() -> None:
    labels = ("cat", "dog", "owl")
    model, card, tensors = tiny(ViTConfig(**VISION), labels, attention="sdpa")
    cost = describe(job_of(card, tensors, "image-classification", labels))
    pixels = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    forward, backward = counted(model, pixel_values=pixels)
    assert (cost.forward.per_token, cost.forward.per_pair) == (0, 0)
    assert 2 * cost.forward(1) == forward
    assert 2 * cost.backward(1) == backward


def test_flops_of_a_decoder() -> None:
    """Grouped heads; the counter has all pairs of a causal attention, and we half."""
    model, card, tensors = tiny(LlamaConfig(**DECODER), attention="sdpa")
    cost = describe(job_of(card, tensors))
    T, blocks, width = 11, 2, 24
    forward, _ = counted(model, input_ids=ids(1, T))
    pairs, causal = T * T, T * (T + 1) // 2
    # The counter also has the head at every position, where it is read at one, and a
    # product of angles and positions.
    head = 2 * (T - 1) * width * 2
    angles = 2 * T * (width // 4 // 2)
    assert forward - head - angles == cost.forward(T) + blocks * 4 * width * (
        pairs - causal
    )


def test_passes_leave_less_to_do() -> None:
    job, _ = bert()
    after, _ = passes.run(job)
    before, less = describe(job), describe(after)
    assert less.forward(30) < before.forward(30)
    C, F, T = 24, 37, 30
    # In the last block queries, output, feed-forward: one position; one row of pairs.
    saved = (T - 1) * (2 * C * C + 2 * C * C + 4 * C * F) + 4 * C * (T * T - T)
    assert before.forward(T) - less.forward(T) == saved
    assert before.parameters - less.parameters == C  # of two token types, one row


@contextmanager
def recorded() -> Iterator[dict[int, int]]:
    """Bytes of the storages that autograd keeps, parameters left out."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if not isinstance(x, torch.nn.Parameter) and not x.is_leaf | (x.dim() == 0):
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield kept


def test_saved_activations() -> None:
    job, model = bert()
    model = model.float().train()
    rows, tokens = 4, 32
    with recorded() as kept:
        logits = model(input_ids=ids(rows, tokens)).logits
    measured = sum(kept.values())
    predicted = describe(job, tokens, rows).saved_bytes
    assert logits.requires_grad
    assert 0.9 * measured < predicted < 1.1 * measured


def test_memory_has_its_parts() -> None:
    job, _ = bert()
    cost = describe(job, 32, 4)
    assert cost.file_bytes == 4 * cost.parameters
    assert cost.train_bytes > 12 * cost.trained + cost.saved_bytes
    assert cost.file_bytes < cost.predict_bytes < cost.train_bytes
    frozen = describe(replace(job, frozen=("embedding", "blocks.0")), 32, 4)
    assert frozen.train_bytes < cost.train_bytes
    assert frozen.predict_bytes == cost.predict_bytes
    half = describe(replace(job, target=TargetPlan("cuda", "bf16", False)), 32, 4)
    assert half.saved_bytes < cost.saved_bytes
    larger = describe(job, 32, 8)
    assert larger.saved_bytes == 2 * cost.saved_bytes


def test_attention_dropout_keeps_the_weights() -> None:
    plain, _ = bert()
    _, card, tensors = tiny(BertConfig(**ENCODER))
    dropped = job_of(card, tensors, attention_dropout=0.1)
    more = describe(dropped, 64, 1).saved_bytes - describe(plain, 64, 1).saved_bytes
    assert more > 3 * 3 * 64 * 64 * 4  # heads, blocks, pairs


def test_flops_add_up() -> None:
    assert (Flops(1, 2, 3) + Flops(10, 20, 30))(2) == 11 + 22 * 2 + 33 * 4
