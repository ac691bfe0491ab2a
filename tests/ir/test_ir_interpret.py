"""The interpreter: each operation against torch's own, rotary tables and whole models
against transformers, and what it makes of a job beside its operations."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from generator.ir.job import Job, parameters
from generator.ir.ops import ACTIVATIONS, OPS, ROPE_KINDS
from generator.ir.text import parse_job
from generator.runtime import interpret
from generator.runtime.interpret import OPERATIONS, load, run, trace
from tests.ir.samples import bert_config, bert_headers, job_from
from tests.oracle import assert_parity, job_of, lifted, saved, tiny, without_prefix

CASES = Path(__file__).parent / "cases"
F64 = torch.float64


def case(name: str) -> Job:
    return parse_job((CASES / f"{name}.gir").read_text())


def rand(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1000 * len(shape) + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=F64)


def tensors_of(job: Job) -> dict[str, Tensor]:
    return {
        t.key: (
            torch.arange(math.prod(t.shape)).reshape(t.shape)
            if t.dtype == "I64"
            else rand(*t.shape, seed=i)
        )
        for i, t in enumerate(job.model.tensors)
    }


def evaluate(op: str, /, *operands: Tensor | None, params=None, **attrs) -> Any:
    here = interpret._Here(params or {}, attrs, F64, torch.device("cpu"))
    results = OPERATIONS[op](here, *operands)
    return results[0] if len(results) == 1 else results


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_it_has_every_operation_and_activation():
    assert set(OPERATIONS) == set(OPS)
    assert set(interpret.ACTIVATIONS) == set(ACTIVATIONS)


# ------------------------------------------------------------- operations against torch


def test_products_and_norms():
    x, w, b = rand(2, 3, 5), rand(4, 5), rand(4)
    close(evaluate("linear", x, params={"weight": w}), F.linear(x, w))
    close(evaluate("linear", x, params={"weight": w, "bias": b}), F.linear(x, w, b))
    gain, bias = rand(5), rand(5, seed=1)
    both = {"weight": gain, "bias": bias}
    want = F.layer_norm(x, (5,), gain, bias, 1e-3)
    close(evaluate("layer_norm", x, params=both, eps=1e-3), want)
    want = F.layer_norm(x, (5,), gain, None, 1e-3)
    close(evaluate("layer_norm", x, params={"weight": gain}, eps=1e-3), want)
    want = F.rms_norm(x, (5,), gain, 1e-3)
    close(evaluate("rms_norm", x, params={"weight": gain}, eps=1e-3), want)


def test_tables():
    table = {"weight": rand(7, 3)}
    ids = torch.tensor([[0, 6, 2], [1, 1, 5]])
    close(evaluate("embedding", ids, params=table), F.embedding(ids, table["weight"]))
    x = rand(2, 3, 3)
    close(evaluate("positions", x, params=table), table["weight"][:3])
    close(evaluate("row", params=table, index=4), table["weight"][4])
    close(evaluate("parameter", params={"": x}), x)


def test_elementwise():
    x, y = rand(2, 3, 4), rand(3, 4)
    close(evaluate("add", x, y), x + y)
    close(evaluate("multiply", x, y), x * y)
    close(evaluate("dropout", x, p=0.5), x)


@pytest.mark.parametrize(
    "kind, theirs",
    [
        ("gelu", F.gelu),
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
        ("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
        ("relu", F.relu),
        ("silu", F.silu),
        ("tanh", torch.tanh),
    ],
)
def test_activations(kind: str, theirs):
    x = torch.cat([rand(50) * 3, torch.tensor([0.0, -40.0, 40.0, -800.0, 800.0])])
    close(evaluate("activation", x.double(), kind=kind), theirs(x.double()))


def test_heads_and_back():
    x = rand(2, 3, 2 * 4 + 4 + 4)
    q, k, v = evaluate("heads", x, heads=(2, 1, 1), width=4)
    close(q, x[:, :, :8].view(2, 3, 2, 4).transpose(1, 2))
    close(k, x[:, :, 8:12].view(2, 3, 1, 4).transpose(1, 2))
    close(v, x[:, :, 12:].view(2, 3, 1, 4).transpose(1, 2))
    close(evaluate("merge_heads", q), x[:, :, :8])


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention(groups: int, causal: bool, masked: bool):
    q, k, v = rand(2, 4, 5, 3), rand(2, groups, 5, 3), rand(2, groups, 5, 3, seed=1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()[:, None, None, :]
    if causal and masked:
        return  # the operation takes no such operands
    want = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask if masked else None,
        is_causal=causal,
        enable_gqa=groups < 4,
    )
    given = (q, k, v, mask if masked else None)
    close(evaluate("attention", *given, causal=causal), want)


def test_attention_of_one_position():
    q, k = rand(2, 4, 1, 3), rand(2, 4, 5, 3)
    want = F.scaled_dot_product_attention(q, k, k)
    close(evaluate("attention", q, k, k, causal=False), want)


def test_attention_does_not_overflow():
    q = rand(1, 1, 3, 2) * 1e4
    assert torch.isfinite(evaluate("attention", q, q, q, causal=True)).all()


def test_choosing_positions():
    x, mask = rand(2, 4, 3), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    ids = torch.zeros(2, 4, dtype=torch.int64)
    close(evaluate("first", x), x[:, 0])
    close(evaluate("narrow", x), x[:, :1])
    close(evaluate("rescale", x[:, 0]), x[:, 0])
    close(evaluate("select", x[:, 0], by="kept", index=(0, 2)), x[:, 0, [0, 2]])
    assert evaluate("last_index", ids, mask).tolist() == [2, 0]
    assert evaluate("last_index", ids, None).tolist() == [3, 3]
    spelt = torch.tensor([[7, 1, 5, 1], [1, 1, 1, 1]])
    assert evaluate("last_index", spelt, None, padding=1).tolist() == [2, 0]
    short = torch.tensor([[True, True, False, False]] * 2)
    assert evaluate("last_index", spelt, short, padding=1).tolist() == [0, 0]
    index = torch.tensor([2, 0])
    close(evaluate("pick", x, index), torch.stack([x[0, 2:3], x[1, 0:1]]))
    table = rand(4, 5)
    close(evaluate("pick_rows", table, index), table[index].view(2, 1, 1, 5))
    assert evaluate("key_mask", None) is None
    close(evaluate("key_mask", mask), mask.view(2, 1, 1, 4))


def test_pooling_leaves_padding_out() -> None:
    x, mask = rand(2, 4, 3), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    scores = rand(2, 4, 1)
    rows = list(zip(x, scores, mask, strict=True))
    close(evaluate("mean", x), x.mean(1))
    close(evaluate("mean", x, None), x.mean(1))
    close(evaluate("mean", x, mask), torch.stack([r[m].mean(0) for r, _, m in rows]))
    close(evaluate("largest", x), x.amax(1))
    close(evaluate("largest", x, mask), torch.stack([r[m].amax(0) for r, _, m in rows]))
    close(evaluate("weighted_mean", x, scores), (scores.softmax(1) * x).sum(1))
    some = torch.stack([(s[m].softmax(0) * r[m]).sum(0) for r, s, m in rows])
    close(evaluate("weighted_mean", x, scores, mask), some)
    far = evaluate("weighted_mean", x, 1e4 * scores)
    assert torch.isfinite(far).all()
    close(evaluate("rest", x), x[:, 1:])


def test_vectors_of_a_row_joined() -> None:
    a, b = rand(2, 3), rand(2, 4)
    close(evaluate("join", a, b, a), torch.cat([a, b, a], 1))
    x = rand(2, 3, 4)
    close(evaluate("flatten", x), x.reshape(2, 12))


def test_keys_until_a_place() -> None:
    ids, index = torch.zeros(2, 3, dtype=torch.long), torch.tensor([1, 0])
    want = torch.tensor([[True, True, False], [True, False, False]])
    assert torch.equal(evaluate("keys_until", ids, index), want.view(2, 1, 1, 3))


def test_places_of_tokens_leave_the_padding_out() -> None:
    ids = torch.tensor([[7, 1, 5, 1], [4, 3, 2, 0]])
    assert evaluate("token_places", ids, padding=1).tolist() == [
        [2, 1, 3, 1],
        [2, 3, 4, 5],
    ]


def test_patches_are_a_strided_convolution():
    pixels, w, b = rand(2, 3, 6, 8), rand(5, 3, 2, 4), rand(5)
    want = F.conv2d(pixels, w, b, stride=(2, 4)).flatten(2).transpose(1, 2)
    given = {"weight": w, "bias": b}
    close(evaluate("patches", pixels, params=given, rows=3, columns=2), want)
    want = F.conv2d(pixels, w, stride=(2, 4)).flatten(2).transpose(1, 2)
    close(evaluate("patches", pixels, params={"weight": w}, rows=3, columns=2), want)


def test_prepend():
    x, token = rand(2, 3, 4), rand(4)
    want = torch.cat([token.expand(2, 1, 4), x], dim=1)
    close(evaluate("prepend", x, token), want)


# ------------------------------------------------------------------------- rotary tables

WIDTH = 8
ROPES = {
    # kind: transformers' parameters, and ours
    "default": ({}, {}),
    "linear": ({"factor": 4.0}, {"factor": 4.0}),
    "llama3": (
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        {
            "factor": 8.0,
            "low_frequency_factor": 1.0,
            "high_frequency_factor": 4.0,
            "original_positions": 64,
        },
    ),
    "yarn": (
        {"factor": 4.0, "original_max_position_embeddings": 64},
        {"factor": 4.0, "original_positions": 64},
    ),
    "yarn, all said": (
        {
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 8.0,
            "beta_slow": 2.0,
            "truncate": False,
            "attention_factor": 1.25,
        },
        {
            "factor": 4.0,
            "original_positions": 64,
            "beta_fast": 8.0,
            "beta_slow": 2.0,
            "truncate": False,
            "attention_factor": 1.25,
        },
    ),
    "longrope": (
        {
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "short_factor": [1.0, 1.5, 2.0, 3.0],
            "long_factor": [2.0, 3.0, 4.0, 5.0],
            "attention_factor": 1.5,
        },
        {"factors": (1.0, 1.5, 2.0, 3.0), "attention_factor": 1.5},
    ),
}


@pytest.mark.parametrize("name", ROPES)
@pytest.mark.parametrize("theta", [100.0, 10000.0])
def test_rotary_tables(name: str, theta: float):
    kind = name.split(",")[0]
    theirs, ours = ROPES[name]
    config = LlamaConfig(
        hidden_size=2 * WIDTH,
        num_attention_heads=2,
        max_position_embeddings=256,
        rope_parameters={"rope_type": kind, "rope_theta": theta, **theirs},
    )
    with lifted():
        rope = LlamaRotaryEmbedding(config)
        positions = torch.arange(40)[None]
        cos, sin = rope(torch.zeros(1, dtype=F64), positions)
    ids = torch.zeros(1, 40, dtype=torch.int64)
    attrs = {"kind": kind, "theta": theta, "width": WIDTH, **ours}
    got_cos, got_sin = evaluate("rope_tables", ids, **attrs)
    close(got_cos, cos[0])
    close(got_sin, sin[0])


def test_every_kind_of_rotation_is_tested():
    assert {name.split(",")[0] for name in ROPES} == set(ROPE_KINDS)
    assert set(ROPE_KINDS) - {"default"} <= set(ROPE_INIT_FUNCTIONS)


def test_rotation_turns_pairs():
    """It keeps lengths, and the product of two depends on their distance alone."""
    ids = torch.zeros(1, 9, dtype=torch.int64)
    cos, sin = evaluate("rope_tables", ids, kind="default", theta=100.0, width=8)
    x = rand(1, 1, 1, 8).expand(1, 1, 9, 8)
    turned = evaluate("rotate", x, cos, sin)[0, 0]
    close(turned.norm(dim=-1), x[0, 0].norm(dim=-1))
    close((turned[3] * turned[5]).sum(), (turned[6] * turned[8]).sum())
    # Pair (i, i + D/2) as a complex number, times e^(i angle).
    angles = torch.arange(9, dtype=F64)[:, None] * 100.0 ** (
        -torch.arange(4, dtype=F64) / 4
    )
    z = torch.complex(x[0, 0, :, :4], x[0, 0, :, 4:]) * torch.polar(
        torch.ones_like(angles), angles
    )
    close(turned, torch.cat([z.real, z.imag], -1))


# -------------------------------------------------------------------------- whole jobs


def test_a_decoder_reads_real_tokens_only():
    job = case("decoder")
    state = load(job, tensors_of(job))
    ids = torch.tensor([[3, 5, 7, 2], [4, 1, 0, 0]])
    types = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    both = run(job, state, {"ids": ids, "types": types, "mask": mask})
    for row, length in enumerate((4, 2)):
        cut = {
            "ids": ids[row : row + 1, :length],
            "types": types[row : row + 1, :length],
        }
        close(both[row : row + 1], run(job, state, cut))
    other = {"ids": torch.where(mask, ids, 9), "types": types, "mask": mask}
    assert torch.equal(both, run(job, state, other))


def test_a_repeat_is_one_call_after_another():
    job = case("decoder")
    state = load(job, tensors_of(job))
    inputs = {"ids": torch.tensor([[3, 5, 7]]), "types": torch.zeros(1, 3).long()}
    seen = trace(job, state, inputs)
    assert list(seen) == [
        "blocks.0.attention",
        "blocks.0",
        "blocks.1.attention",
        "blocks.1",
        "final",
        "logits",
    ]
    (main,) = [m for m in job.model.modules if m.name == "Model"]
    once = replace(main.instance("blocks.0"), count=1)
    twice = replace(once, name="blocks.1", depth=2)
    repeat = next(op for op in main.ops if op.kind == "repeat")
    x = repeat.results[0]
    first = replace(repeat, kind="call", results=(replace(x, name="x.9"),))
    second = replace(repeat, kind="call", name="blocks.1", args=("x.9", "cos", "sin"))
    ops = []
    for op in main.ops:
        ops += [first, second] if op is repeat else [op]
    unrolled = replace(
        main, ops=tuple(ops), instances=(once, twice, main.instance("final"))
    )
    other = replace(job, model=job.model.with_modules({"Model": unrolled}))
    assert [p.path for p in parameters(other)] == [p.path for p in parameters(job)]
    assert torch.equal(run(other, state, inputs), seen["logits"])


def test_tied_parameters_are_one():
    job = case("decoder")
    state = load(job, tensors_of(job))
    assert state["label.weight"] is state["type.weight"]
    leaves = {k: t.clone().requires_grad_() for k, t in state.items()}
    inputs = {"ids": torch.tensor([[3, 5]]), "types": torch.zeros(1, 2).long()}
    run(job, leaves, inputs).sum().backward()
    assert leaves["label.weight"].grad is None  # the one that it is tied to is read
    assert leaves["type.weight"].grad is not None
    without = {k: t for k, t in state.items() if k != "label.weight"}
    assert torch.equal(run(job, without, inputs), run(job, state, inputs))


def test_a_shared_block_is_traced_each_time():
    job = case("image")
    state = load(job, tensors_of(job))
    pixels = rand(2, 3, 6, 8)
    seen = trace(job, state, {"pixels": pixels})
    assert list(seen) == ["block", "block#2", "logits"]
    assert seen["logits"].shape == (2, 2)
    one = run(job, state, {"pixels": pixels[1:]})
    close(one, seen["logits"][1:])


def test_parameters_by_hand():
    """Sources of all kinds: image.gir has sums, rows and rows of rows."""
    job = case("image")
    tensors = tensors_of(job)
    state = load(job, tensors)
    close(state["block.q.weight"], tensors["q"] + tensors["q2"])
    close(state["block.kv.weight"], torch.cat([tensors["k"], tensors["v"]]))
    close(state["token"], tensors["token"][0, 0])
    close(state["position.weight"], tensors["position"][0])
    close(state["label.weight"], tensors["label"][1:3])
    assert state["block.norm.weight"].tolist() == [1.0] * 6
    assert list(state) == [p.path for p in parameters(job)]


def test_new_parameters_depend_on_seed_and_path_alone():
    config = bert_config()
    job = job_from(config, bert_headers(config), head="new")
    small = bert_config(num_hidden_layers=1)
    other = job_from(small, bert_headers(small), head="new")
    path = "classifier.label.weight"
    value = load(job, tensors_of(job))[path]
    assert torch.equal(load(other, tensors_of(other))[path], value)
    assert torch.equal(load(job, tensors_of(job))[path], value)
    assert not torch.equal(load(job, tensors_of(job), seed=1)[path], value)


def test_the_dtype_is_the_widest_of_the_checkpoint():
    job = case("small")
    tensors = tensors_of(job)
    assert {t.dtype for t in load(job, tensors).values()} == {F64}
    narrow = {
        k: t.bfloat16() if t.is_floating_point() else t for k, t in tensors.items()
    }
    assert {t.dtype for t in load(job, narrow).values()} == {torch.float32}
    state = {k: t.float() for k, t in load(job, tensors).items()}
    logits = run(job, state, {"ids": torch.tensor([[1, 2, 3]])})
    assert logits.dtype == torch.float32


def test_loading_copies():
    job = case("small")
    tensors = tensors_of(job)
    state = load(job, tensors)
    before = tensors["token"].clone()
    state["token.weight"].zero_()
    assert torch.equal(tensors["token"], before)


def test_an_input_that_must_be_there():
    job = case("small")
    state = load(job, tensors_of(job))
    with pytest.raises(ValueError, match='the model needs the input "ids"'):
        run(job, state, {"mask": None})


def test_it_works_on_the_printed_form(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    def spy(text: str, file: str = "job.gir") -> Job:
        read.append(text)
        return parse_job(text, file)

    monkeypatch.setattr(interpret, "parse_job", spy)
    interpret._parsed.cache_clear()
    job = case("small")
    state = load(job, tensors_of(job))
    run(job, state, {"ids": torch.tensor([[1, 2, 3]])})
    assert len(read) == 1 and read[0].startswith("gir 1\n")
    interpret._parsed.cache_clear()


# ------------------------------------------------------------- BERT against transformers

SIZES = [
    # blocks, width, heads, hidden, vocabulary, positions, activation
    (1, 6, 1, 5, 11, 3, "gelu"),
    (2, 12, 4, 17, 23, 9, "gelu_new"),
    (3, 21, 3, 40, 37, 17, "relu"),
    (2, 20, 5, 33, 29, 33, "quick_gelu"),
    (5, 10, 2, 7, 19, 8, "silu"),
    (2, 14, 7, 9, 13, 5, "tanh"),
]


def bert(sizes) -> BertConfig:
    blocks, width, heads, hidden, vocab, positions, activation = sizes
    return BertConfig(
        num_hidden_layers=blocks,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=hidden,
        vocab_size=vocab,
        max_position_embeddings=positions,
        hidden_act=activation,
    )


@pytest.mark.parametrize("sizes", SIZES, ids=[s[-1] for s in SIZES])
@pytest.mark.parametrize("pair", [False, True])
def test_bert_is_transformers_bert(sizes, pair: bool):
    model, card, tensors = tiny(bert(sizes), seed=sizes[0])
    job = job_of(card, tensors, pair=pair)
    worst = assert_parity(job, model)
    blocks = {f"blocks.{i}" for i in range(sizes[0])}
    assert blocks | {"embedding", "logits"} <= set(worst)
    # Each parameter of theirs was compared.
    assert {f"gradient of {n}" for n, _ in model.named_parameters()} <= set(worst)


def test_every_length():
    model, card, tensors = tiny(bert(SIZES[1]))
    job = job_of(card, tensors)
    assert_parity(job, model, lengths=[[n] for n in range(1, 10)])
    assert_parity(job, model, lengths=[[9, n] for n in range(1, 10)])


def test_the_two_attentions_of_transformers():
    model, card, tensors = tiny(bert(SIZES[2]), attention="sdpa")
    assert_parity(job_of(card, tensors), model)


def test_a_backbone_without_head_and_pooler():
    model, card, tensors = tiny(bert(SIZES[2]))
    bare = {k: t for k, t in without_prefix(model, tensors).items() if "pool" not in k}
    job = job_of(card, bare)
    new = {
        "classifier.pool.weight": "bert.pooler.dense.weight",
        "classifier.pool.bias": "bert.pooler.dense.bias",
        "classifier.label.weight": "classifier.weight",
        "classifier.label.bias": "classifier.bias",
    }
    assert_parity(job, model, tensors=bare, new=new)
    with pytest.raises(AssertionError, match="is new, and not said to be anything"):
        assert_parity(job, model, tensors=bare)


def test_fp32():
    model, card, _ = tiny(bert(SIZES[1]))
    model = model.float()
    _, tensors = saved(model)
    job = job_of(card, tensors)
    assert_parity(job, model, tolerance=1e-5, gradients=False)


# ------------------------------------------------------------------ the oracle's own test


@pytest.mark.parametrize("block", [0, 1])
def test_a_fault_names_the_first_block_that_differs(block: int):
    model, card, tensors = tiny(bert(SIZES[1]))
    with torch.no_grad():
        name = f"bert.encoder.layer.{block}.output.LayerNorm.bias"
        model.get_parameter(name)[3] += 1e-6
    job = job_of(card, tensors)
    with pytest.raises(AssertionError, match=f"blocks.{block} differs by"):
        assert_parity(job, model, tensors=tensors)


def test_a_fault_in_the_head_names_the_logits():
    model, card, tensors = tiny(bert(SIZES[1]))
    with torch.no_grad():
        model.get_parameter("bert.pooler.dense.bias")[0] += 1e-6
    with pytest.raises(AssertionError, match="logits differs by"):
        assert_parity(job_of(card, tensors), model, tensors=tensors)


def test_a_fault_in_a_gradient_alone():
    model, card, tensors = tiny(bert(SIZES[1]))
    name = "bert.encoder.layer.1.attention.self.value.weight"
    model.get_parameter(name).register_hook(lambda g: g * (1 + 1e-6))
    with pytest.raises(AssertionError, match=f"gradient of {name} differs by"):
        assert_parity(job_of(card, tensors), model)


def test_a_fault_where_only_padding_is_read():
    """A model that attends to padding differs in a batch with rows of two lengths."""
    model, card, tensors = tiny(bert(SIZES[1]))
    job = job_of(card, tensors)
    blind = []
    for module in job.model.modules:
        ops = tuple(
            replace(op, args=op.args[:3]) if op.kind == "attention" else op
            for op in module.ops
        )
        blind.append(replace(module, ops=ops))
    wrong = replace(job, model=replace(job.model, modules=tuple(blind)))
    assert_parity(wrong, model, lengths=[[4], [5, 5]])
    with pytest.raises(AssertionError, match=r"blocks.0 differs .*lengths \[5, 2\]"):
        assert_parity(wrong, model, lengths=[[5, 2]])
