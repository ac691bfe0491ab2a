"""Every architecture through the whole compiler: equal to transformers, and readable."""

from __future__ import annotations

import inspect
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import batches_of, call_oracle, distance, job_of, tiny
from transformers import (
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    LlamaConfig,
    PreTrainedConfig,
    RobertaConfig,
    ViTConfig,
)

from generated import assert_same, generated, source_of

ROPES: list[dict[str, Any] | None] = [
    None,
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "dynamic", "factor": 2.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
]


def encoder(kind: Any, draw: random.Random) -> PreTrainedConfig:
    """A random small encoder: odd widths, 1 to 5 blocks, an odd vocabulary."""
    heads = draw.choice([1, 2, 3, 5])
    width = heads * draw.choice([2, 6, 7])
    activation = draw.choice(["gelu", "gelu_new", "relu", "silu", "gelu_pytorch_tanh"])
    blocks, hidden = draw.randint(1, 5), draw.choice([5, 24, 37])
    vocab, positions = draw.choice([41, 73, 101]), draw.choice([19, 40])
    if kind is DistilBertConfig:
        return DistilBertConfig(
            vocab_size=vocab,
            dim=width,
            n_heads=heads,
            n_layers=blocks,
            hidden_dim=hidden,
            max_position_embeddings=positions,
            activation=draw.choice(["gelu", "relu"]),
        )
    more: dict[str, Any] = {}
    if kind is ElectraConfig:
        more["embedding_size"] = draw.choice([width, 10])
    if kind is ErnieConfig:
        more["use_task_id"] = draw.random() < 0.5
    if kind is RobertaConfig:
        more["pad_token_id"] = 1
    return kind(
        vocab_size=vocab,
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=blocks,
        intermediate_size=hidden,
        max_position_embeddings=positions,
        hidden_act=activation,
        **more,
    )


def vit(draw: random.Random) -> ViTConfig:
    heads = draw.choice([1, 2, 3])
    patch = draw.choice([4, 8])
    return ViTConfig(
        hidden_size=heads * draw.choice([6, 7]),
        num_attention_heads=heads,
        num_hidden_layers=draw.randint(1, 4),
        intermediate_size=draw.choice([5, 30]),
        image_size=(patch * draw.randint(1, 4), patch * draw.randint(1, 4)),
        patch_size=patch,
        qkv_bias=draw.random() < 0.7,
        hidden_act=draw.choice(["gelu", "relu", "quick_gelu"]),
    )


def llama(draw: random.Random) -> LlamaConfig:
    groups = draw.choice([1, 2, 3])
    key_heads = draw.choice([1, 2])
    heads = groups * key_heads
    rope = draw.choice(ROPES)
    more: dict[str, Any] = (
        {} if rope is None else {"rope_parameters": {"rope_theta": 1e4, **rope}}
    )
    return LlamaConfig(
        vocab_size=draw.choice([41, 97]),
        hidden_size=heads * draw.choice([4, 6]),
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=draw.choice([None, 8]),
        num_hidden_layers=draw.randint(1, 4),
        intermediate_size=draw.choice([5, 30]),
        max_position_embeddings=64,
        attention_bias=draw.random() < 0.4,
        mlp_bias=draw.random() < 0.4,
        tie_word_embeddings=draw.random() < 0.5,
        pad_token_id=0,
        **more,
    )


KINDS = {
    "bert": lambda draw: encoder(BertConfig, draw),
    "roberta": lambda draw: encoder(RobertaConfig, draw),
    "distilbert": lambda draw: encoder(DistilBertConfig, draw),
    "electra": lambda draw: encoder(ElectraConfig, draw),
    "ernie": lambda draw: encoder(ErnieConfig, draw),
    "vit": vit,
    "llama": llama,
}


def check(kind: str, seed: int, folder: Path, spelt: bool = False) -> None:
    draw = random.Random(f"{kind}-{seed}")
    labels = ("negative", "positive", "neutral")[: draw.choice([2, 3])]
    theirs, card, tensors = tiny(KINDS[kind](draw), labels, seed=seed)
    image = kind == "vit"
    task = "image-classification" if image else "text-classification"
    pair = kind in ("bert", "ernie", "electra") and draw.random() < 0.4
    job = job_of(card, tensors, task, labels, pair=pair)
    model, _ = generated(job, tensors, folder)
    assert_same(model, job, theirs, tensors, spelt=spelt)
    model.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_model_computes_what_transformers_computes(kind, seed, tmp_path):
    check(kind, seed, tmp_path)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"vit"}))
def test_the_padding_token_spelt_out_in_a_text(kind, seed, tmp_path):
    check(kind, seed, tmp_path, spelt=True)


def test_a_llama_without_a_padding_token_reads_the_last_token(tmp_path):
    """transformers takes its rows one by one, with 0 as a token like any other."""
    theirs, card, tensors = tiny(llama(random.Random(3)), seed=3)
    theirs.config.pad_token_id = None
    job = job_of({**card, "pad_token_id": None}, tensors)
    model, _ = generated(job, tensors, tmp_path)
    ids = torch.tensor([[4, 0, 7, 9], [5, 0, 0, 0], [0, 0, 0, 0]])
    mask = torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True] + [False] * 3])
    lengths = mask.sum(1).tolist()
    with torch.no_grad():
        want = torch.cat(
            [
                call_oracle(theirs, {"ids": row[None, :n]})["logits"]
                for row, n in zip(ids, lengths, strict=True)
            ]
        )
        assert distance(model(ids, mask), want) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_of_a_cut_model_are_the_whole(kind, tmp_path):
    """Bit for bit, wherever it is cut, and as the model that is not."""
    config = KINDS[kind](random.Random(f"{kind}-cut"))
    blocks = config.num_hidden_layers = 4
    if kind == "distilbert":
        config.n_layers = blocks
    _, card, tensors = tiny(config, seed=4)
    task = "image-classification" if kind == "vit" else "text-classification"
    job = job_of(card, tensors, task)
    uncut, _ = generated(job, tensors, tmp_path)
    assert not hasattr(uncut, "prefix")
    for count in range(1, blocks + 1):
        frozen = ("embedding", *(f"blocks.{i}" for i in range(count)))
        model, _ = generated(replace(job, frozen=frozen), tensors, tmp_path)
        model.load_state_dict(uncut.state_dict())  # a new head is random
        for batch in batches_of(job, None, 0):
            given = {
                k: t.double() if t is not None and t.is_floating_point() else t
                for k, t in batch.items()
            }

            def taken(part, given=given):
                names = inspect.signature(part).parameters
                return {name: given[name] for name in names if name in given}

            with torch.no_grad():
                want = uncut(**given)
                x = model.prefix(**taken(model.prefix))
                assert torch.equal(model(**given), want)
                assert torch.equal(model.suffix(x, **taken(model.suffix)), want)
        if kind == "vit":
            assert list(inspect.signature(model.suffix).parameters) == ["x"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
@pytest.mark.parametrize("kind", KINDS)
def test_random_sizes(kind, seed, tmp_path):
    check(kind, seed, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_fp32_logits_are_within_1e5(kind, tmp_path):
    theirs, card, tensors = tiny(KINDS[kind](random.Random(5)), seed=5)
    task = "image-classification" if kind == "vit" else "text-classification"
    job = job_of(card, tensors, task)
    model, module = generated(job, tensors, tmp_path)
    single = module.Model()
    single.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    single.eval()
    theirs = theirs.float()
    for batch in batches_of(job, None, 0):
        inputs = [
            t.float() if t is not None and t.is_floating_point() else t
            for t in batch.values()
        ]
        with torch.no_grad():
            want = call_oracle(theirs, batch)["logits"]
            got = single(*inputs)
        assert torch.allclose(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_is_formatted_and_names_no_other_job(kind):
    _, card, tensors = tiny(KINDS[kind](random.Random(2)))
    task = "image-classification" if kind == "vit" else "text-classification"
    text = source_of(job_of(card, tensors, task))
    assert "transformers" not in text and "generator" not in text
    assert max(len(line) for line in text.splitlines()) <= 88
