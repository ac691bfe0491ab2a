"""Llama: parity with transformers in fp64, and what of a checkpoint is refused.

transformers computes Llama's norms, rotary tables and softmax in fp32 whatever the dtype
of the model. `tests.oracle` lifts its own code to fp64 while it builds and calls it, so
that the comparison is of two computations in fp64.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from generator.archs.build import ACTIVATIONS
from generator.archs.config import Config
from generator.errors import GenError
from generator.ir.job import Job, parameters
from generator.ir.plans import TextPlan
from generator.ir.sources import Checkpoint, Init
from tests.oracle import assert_parity, job_of, saved, tiny, without_prefix

SIZES: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# For the 16 pairs of a head of 32, so that a ramp over them has places to begin and end.
WIDE: dict[str, Any] = {**SIZES, "head_dim": 32, "num_hidden_layers": 1}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0 + i / 8 for i in range(16)],
    "long_factor": [2.0 + i for i in range(16)],
    "original_max_position_embeddings": 16,
}
ROPES: dict[str, dict[str, Any]] = {
    "old, plain": {"rope_theta": 500.0},
    "old, linear": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    "old, dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "old, llama3": {"rope_theta": 5e5, "rope_scaling": LLAMA3},
    "old, yarn": {"rope_theta": 1e4, "rope_scaling": YARN},
    "old, longrope": {"rope_scaling": LONGROPE},
    "plain": {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 3.0}},
    "dynamic": {"rope_parameters": {"rope_type": "dynamic", "factor": 3.0}},
    "llama3": {"rope_parameters": {**LLAMA3, "rope_theta": 1e3}},
    "yarn, whole pairs": {"rope_parameters": {**YARN, "rope_theta": 100.0}},
    "yarn, every key": {
        "rope_parameters": {
            **YARN,
            "rope_theta": 500.0,
            "beta_fast": 3.0,
            "beta_slow": 0.5,
            "mscale": 0.7,
            "mscale_all_dim": 0.4,
            "truncate": False,
        }
    },
    "yarn, a given temperature": {
        "rope_parameters": {**YARN, "attention_factor": 1.25, "beta_fast": 0}
    },
    "longrope": {"rope_parameters": {**LONGROPE, "rope_theta": 300.0}},
    "longrope, a given factor": {"rope_parameters": {**LONGROPE, "factor": 9.0}},
    "longrope, a given temperature": {
        "rope_parameters": {**LONGROPE, "attention_factor": 1.1}
    },
}


def parity(config: LlamaConfig, **more: Any) -> Job:
    model, card, tensors = tiny(config)
    job = job_of(card, tensors)
    assert_parity(job, model, **more)
    return job


def attrs_of(job: Job) -> dict[str, Any]:
    """Those of the rotary tables."""
    return next(op for op in job.model.main.ops if op.kind == "rope_tables").attrs_dict


def sizes(**changes: Any) -> dict[str, Any]:
    return {**SIZES, **changes}


# ------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("name", ROPES)
def test_every_rope(name: str) -> None:
    parity(LlamaConfig(**WIDE, **ROPES[name]))


@pytest.mark.parametrize("name", [n for n in ROPES if not n.startswith("old")])
def test_every_number_of_a_rope_counts(name: str) -> None:
    """A rope that is another by one attribute is seen not to be the model's."""
    model, card, tensors = tiny(LlamaConfig(**WIDE, **ROPES[name]))
    job = job_of(card, tensors)
    for attr, value in attrs_of(job).items():
        if attr not in ("kind", "width"):
            with pytest.raises(AssertionError, match="differs by"):
                wrong = _with_attr(job, attr, _changed(value))
                assert_parity(wrong, model, gradients=False)


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return (*value[:-1], value[-1] * 3) if isinstance(value, tuple) else value * 3


def _with_attr(job: Job, attr: str, value: Any) -> Job:
    ops = tuple(
        (
            replace(
                op, attrs=tuple((k, value if k == attr else v) for k, v in op.attrs)
            )
            if op.kind == "rope_tables"
            else op
        )
        for op in job.model.main.ops
    )
    main = replace(job.model.main, ops=ops)
    return replace(job, model=job.model.with_modules({main.name: main}))


@pytest.mark.parametrize("name", [n for n in ROPES if n.startswith("old")])
def test_the_old_form_is_read_as_it_was_written(name: str) -> None:
    """transformers 5 rewrites it, so that a saved config.json has the new form only."""
    model, card, tensors = tiny(LlamaConfig(**WIDE, **ROPES[name]))
    del card["rope_parameters"]
    assert_parity(job_of({**card, **ROPES[name]}, tensors), model)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"num_key_value_heads": 1}, id="one key head"),
        pytest.param({"num_key_value_heads": 4}, id="no groups"),
        pytest.param({"num_key_value_heads": None}, id="no groups, unsaid"),
        pytest.param({"head_dim": 10}, id="heads wider than the width"),
        pytest.param({"head_dim": 2}, id="heads of one pair"),
        pytest.param({"attention_bias": True}, id="attention bias"),
        pytest.param({"mlp_bias": True}, id="feed-forward bias"),
        pytest.param({"num_hidden_layers": 5, "vocab_size": 11}, id="5 blocks"),
        pytest.param({"num_hidden_layers": 1, "rms_norm_eps": 0.1}, id="1 block"),
        pytest.param({"max_position_embeddings": 1}, id="one position"),
        pytest.param({"pad_token_id": 52}, id="the last row is the padding"),
        pytest.param(
            {"hidden_size": 130, "num_attention_heads": 13, "num_key_value_heads": 13},
            id="width 130",
        ),
    ],
)
def test_every_part(changes: dict[str, Any]) -> None:
    parity(LlamaConfig(**sizes(**changes)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    parity(LlamaConfig(**sizes(hidden_act=activation, num_hidden_layers=1)))


def test_every_length() -> None:
    lengths = [(n, 1 + n // 2) for n in range(1, 25)]
    parity(LlamaConfig(**sizes(num_hidden_layers=1)), lengths=lengths)


@pytest.mark.parametrize("name", ROPES)
def test_in_fp32(name: str) -> None:
    """Against transformers as it is: nothing of it is lifted, nor its frequencies."""
    _, card, tensors = tiny(LlamaConfig(**WIDE, **ROPES[name]))
    fresh = LlamaConfig(**WIDE, **ROPES[name])
    model = LlamaForSequenceClassification(fresh).eval()
    tensors = {k: t.float() for k, t in tensors.items()}
    model.load_state_dict(tensors)
    job = job_of(card, tensors)
    assert_parity(job, model, tensors=tensors, tolerance=1e-5, gradients=False)


def test_the_backbone_alone_and_a_new_head() -> None:
    model, card, tensors = tiny(LlamaConfig(**SIZES))
    bare = without_prefix(model, tensors)
    job = job_of(card, bare)
    head = {p.path: p.source for p in parameters(job)}["classifier.label.weight"]
    assert head == Init("normal", 0.02)
    assert_parity(
        job, model, tensors=bare, new={"classifier.label.weight": "score.weight"}
    )


@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_of_the_language_model(tied: bool) -> None:
    """Its last layer is not read, whether it is the embedding's own table or not."""
    config = LlamaConfig(**SIZES, tie_word_embeddings=tied)
    model, card, tensors = tiny(config)
    theirs = saved(LlamaForCausalLM(config))[1]
    assert ("lm_head.weight" in theirs) != tied
    tensors = {
        **{k: t for k, t in tensors.items() if k != "score.weight"},
        **{k: t for k, t in theirs.items() if k == "lm_head.weight"},
    }
    job = job_of(card, tensors)
    unused = {u.key: u.reason for u in job.model.unused}
    assert unused == ({} if tied else {"lm_head.weight": "the head of pretraining"})
    new = {"classifier.label.weight": "score.weight"}
    assert_parity(job, model, tensors=tensors, new=new)


def test_frequencies_that_old_checkpoints_carry_are_unused() -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES))
    key = "model.layers.1.self_attn.rotary_emb.inv_freq"
    job = job_of(card, {**tensors, key: torch.ones(3)})
    assert [u.key for u in job.model.unused] == [key]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_sizes(seed: int) -> None:
    draw = random.Random(seed)
    key_heads = draw.choice([1, 1, 2, 3])
    heads = key_heads * draw.choice([1, 2, 3])
    head_width = 2 * draw.randint(1, 9)
    config = LlamaConfig(
        vocab_size=draw.randint(3, 99),
        # Of a width of 1 a norm is a sign, whose gradient is all cancellation.
        hidden_size=heads * draw.randint(4, 12),
        head_dim=head_width,
        num_hidden_layers=draw.randint(1, 5),
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        intermediate_size=draw.randint(1, 90),
        hidden_act=draw.choice(list(ACTIVATIONS)),
        max_position_embeddings=draw.randint(1, 70),
        pad_token_id=draw.randint(0, 2),
        attention_bias=draw.random() < 0.5,
        mlp_bias=draw.random() < 0.5,
        rms_norm_eps=10 ** draw.uniform(-8, -1),
        rope_parameters=_random_rope(draw, head_width),
    )
    parity(config)


def _random_rope(draw: random.Random, head_width: int) -> dict[str, Any]:
    theta = 10 ** draw.uniform(1, 6)
    original = draw.randint(2, 40)
    factors = {
        name: [draw.uniform(1, 9) for _ in range(head_width // 2)]
        for name in ("short_factor", "long_factor")
    }
    kinds: list[dict[str, Any]] = [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": draw.uniform(1, 9)},
        {**LLAMA3, "original_max_position_embeddings": original},
        {
            **YARN,
            "original_max_position_embeddings": original,
            "truncate": draw.random() < 0.5,
            "beta_fast": draw.uniform(1, 40),
        },
        {**LONGROPE, **factors, "original_max_position_embeddings": original},
    ]
    if head_width > 2:  # transformers divides by the width less 2
        kinds.append({"rope_type": "dynamic", "factor": draw.uniform(1, 9)})
    return {**draw.choice(kinds), "rope_theta": theta}


# --------------------------------------------------------------------- what is imported


def _bound(job: Job) -> int | None:
    return next(d.bound for d in job.model.dims if d.symbol == "T")


@pytest.mark.parametrize(
    ("name", "kind", "bound"),
    [
        ("plain", "default", 24),
        ("dynamic", "default", 24),  # it changes past 24 positions only
        ("yarn, every key", "yarn", 24),
        ("longrope", "longrope", 16),  # past it, all rows take the long factors
    ],
)
def test_kinds_and_bounds(name: str, kind: str, bound: int) -> None:
    _, card, tensors = tiny(LlamaConfig(**WIDE, **ROPES[name]))
    job = job_of(card, tensors)
    assert attrs_of(job)["kind"] == kind
    assert _bound(job) == bound


def test_the_positions_of_the_first_training_may_stand_outside() -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES, **ROPES["llama3"]))
    job = job_of({**card, "original_max_position_embeddings": 10}, tensors)
    assert attrs_of(job)["original_positions"] == 10


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, {"key_heads"}),
        ({"num_key_value_heads": 4}, set()),
        ({"head_dim": 10}, {"key_heads", "head_width"}),
    ],
)
def test_dimensions_are_named_where_they_are_free(
    changes: dict[str, Any], named: set[str]
) -> None:
    _, card, tensors = tiny(LlamaConfig(**sizes(**changes)))
    names = {d.name for d in job_of(card, tensors).model.dims} - {""}
    always = {"vocab", "blocks", "width", "heads", "hidden", "labels"}
    assert names == always | named


@pytest.mark.parametrize("pad", [None, -1])
def test_padding_without_an_id_is_0(pad: int | None) -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES))
    job = job_of({**card, "pad_token_id": pad}, tensors)
    assert isinstance(job.data.inputs, TextPlan)
    assert job.data.inputs.pad_id == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_text_that_spells_out_the_padding_token(seed: int) -> None:
    """Also at its end, where transformers reads the last other token."""
    model, card, tensors = tiny(LlamaConfig(**SIZES))
    job = job_of(card, tensors)
    assert_parity(job, model, tensors=tensors, gradients=False, seed=seed, spelt=True)


def test_attention_dropout_is_the_specs() -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES, attention_dropout=0.3))
    consts = job_of(card, tensors).model.constants
    assert "attention_dropout" not in consts
    job = job_of(card, tensors, attention_dropout=0.2)
    assert job.model.constants["attention_dropout"] == 0.2


def test_a_head_of_other_labels_is_replaced() -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES))
    labels = ("a", "b", "c")
    job = job_of(card, tensors, labels=labels)
    assert [u.key for u in job.model.unused] == ["score.weight"]
    kept = job_of(card, tensors)
    (source,) = (p.source for p in parameters(kept) if "label" in p.path)
    assert source == Checkpoint("score.weight")


def test_every_key_is_classified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of transformers' own class, and of files that older versions wrote."""
    seen: list[Config] = []
    finish = Config.finish
    monkeypatch.setattr(Config, "finish", lambda c: (seen.append(c), finish(c))[1])
    _, card, tensors = tiny(LlamaConfig(**SIZES))
    job_of(card, tensors)
    known = frozenset().union(*(c.known for c in seen))
    assert set(LlamaConfig().to_dict()) - known == set()
    assert {"rope_theta", "rope_scaling", "pretraining_tp"} <= known


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"hidden_act": "mish"}, "G203", "hidden_act = 'mish' is not supported"),
        ({"pretraining_tp": 2}, "G203", "pretraining_tp = 2 is not supported"),
        ({"hidden_size": 0}, "G202", "hidden_size is 0"),
        ({"hidden_size": "24"}, "G202", "hidden_size is '24'"),
        ({"num_hidden_layers": True}, "G202", "num_hidden_layers is True"),
        ({"hidden_size": 25}, "G202", "no multiple of 4 heads"),
        ({"num_key_value_heads": 3}, "G202", "num_key_value_heads 3 evenly"),
        ({"head_dim": 5}, "G202", "heads of 5 are not pairs"),
        ({"rms_norm_eps": float("nan")}, "G202", "rms_norm_eps is nan"),
        ({"rms_norm_eps": None}, "G202", "rms_norm_eps is None"),
        ({"attention_bias": "yes"}, "G202", "attention_bias is 'yes'"),
        ({"pad_token_id": 53}, "G202", "pad_token_id is 53"),
        ({"pad_token_id": "x"}, "G202", "pad_token_id is 'x'"),
        ({"quantization_config": {"bits": 4}}, "G203", "quantization_config"),
        ({"rope_scaling": "linear"}, "G202", "rope_scaling is 'linear'"),
        ({"rope_theta": 1}, "G202", "rope_theta is 1.0, and should be above 1"),
        ({"rope_theta": "x"}, "G202", "rope_theta is 'x'"),
        ({"partial_rotary_factor": 0.5}, "G203", "partial_rotary_factor = 0.5"),
    ],
)
def test_what_config_json_may_not_say(
    changes: dict[str, Any], code: str, said: str
) -> None:
    _refused({k: v for k, v in changes.items()}, code, said)


@pytest.mark.parametrize(
    ("table", "code", "said"),
    [
        ({"rope_type": "su"}, "G203", "rope_type = 'su' is not supported"),
        ({"type": "ntk", "factor": 2}, "G203", "rope_type = 'ntk' is not supported"),
        ({"rope_type": None}, "G203", "rope_type = None"),
        ({"rope_type": "linear"}, "G202", "factor is missing"),
        ({"rope_type": "linear", "factor": 0}, "G202", "factor is 0"),
        ({"rope_type": "dynamic", "factor": "2"}, "G202", "factor is '2'"),
        (
            {**LLAMA3, "low_freq_factor": 4.0},
            "G202",
            "low_freq_factor 4.0 is not below",
        ),
        ({"rope_type": "llama3", "factor": 8.0}, "G202", "high_freq_factor is missing"),
        (
            {**LLAMA3, "original_max_position_embeddings": 1.5},
            "G202",
            "original_max_position_embeddings is 1.5",
        ),
        ({**YARN, "truncate": 1}, "G202", "truncate is 1"),
        ({**YARN, "beta_fast": -1}, "G202", "beta_fast -1.0"),
        ({**YARN, "attention_factor": -0.5}, "G202", "attention_factor is -0.5"),
        ({**YARN, "mscale": "x", "mscale_all_dim": 1}, "G202", "mscale is 'x'"),
        ({**LONGROPE, "short_factor": [1.0, 2.0]}, "G202", "a list of 16 numbers"),
        ({**LONGROPE, "short_factor": [2, 0] * 8}, "G202", "short_factor: 1 is 0"),
        ({**LONGROPE, "short_factor": None}, "G202", "a list of 16 numbers"),
        ({**LLAMA3, "partial_rotary_factor": 0.5}, "G203", "partial_rotary_factor"),
        ({"full_attention": {"rope_type": "default"}}, "G202", "'full_attention'"),
    ],
)
@pytest.mark.parametrize("form", ["rope_scaling", "rope_parameters"])
def test_what_a_table_of_rope_may_not_say(
    form: str, table: dict[str, Any], code: str, said: str
) -> None:
    _refused({form: table}, code, said)


def _refused(changes: dict[str, Any], code: str, said: str) -> None:
    _, card, tensors = tiny(LlamaConfig(**WIDE))
    del card["rope_parameters"]
    with pytest.raises(GenError) as caught:
        job_of({**card, **changes}, tensors)
    found = [(d.code, d.message) for d in caught.value.diagnostics]
    assert any(c == code and said in message for c, message in found), found


def test_several_errors_are_told_at_once() -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES))
    bad = {"hidden_act": "mish", "vocab_size": -1, "rope_scaling": {"type": "x"}}
    with pytest.raises(GenError) as caught:
        job_of({**card, **bad}, tensors)
    assert len(caught.value.diagnostics) >= 3


def test_dropout_of_hidden_states_is_refused() -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES))
    with pytest.raises(GenError) as caught:
        job_of(card, tensors, dropout=0.1)
    assert caught.value.diagnostics[0].code == "G209"
    job_of(card, tensors, dropout=0.0)


@pytest.mark.parametrize(
    ("key", "shape", "code"),
    [
        ("model.layers.0.self_attn.k_proj.weight", (24, 24), "G207"),
        ("model.layers.0.mlp.gate_proj.bias", (37,), "G205"),
        ("model.layers.1.mlp.up_proj.weight", None, "G204"),
        ("model.embed_tokens.weight", None, "G204"),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    key: str, shape: tuple[int, ...] | None, code: str
) -> None:
    _, card, tensors = tiny(LlamaConfig(**SIZES))
    changed = {k: t for k, t in tensors.items() if k != key}
    if shape is not None:
        changed[key] = torch.zeros(shape)
    with pytest.raises(GenError) as caught:
        job_of(card, changed)
    assert [d.code for d in caught.value.diagnostics] == [code]
    assert key.removeprefix("model.") in caught.value.diagnostics[0].message
