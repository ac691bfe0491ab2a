"""Each pass: what it does to the text of a job, and that it keeps what it says it keeps.

The `.gir` files beside this hold a job before and after a pass; GEN_REFRESH=1 writes them
anew. Both halves are executed by the interpreter, which shares nothing with the passes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracle import batches_of, job_of, tiny
from test_generated_models import KINDS
from torch import Tensor
from transformers import BertConfig, LlamaConfig

from generator.errors import GenError
from generator.ir.cut import halves
from generator.ir.job import Job, parameters
from generator.ir.sources import Concatenate, Parameter, Row, Rows
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from generator.ir.weightmap import WeightMap
from generator.passes import BY_NAME, EDITS, NAMING, PASSES, run, steps
from generator.runtime.interpret import evaluate_source, load
from generator.runtime.interpret import run as interpret

HERE = Path(__file__).parent
SPLIT = "\n# ---------------------------------------------------------------- after\n\n"


def bert() -> Job:
    config = BertConfig(
        vocab_size=17,
        hidden_size=6,
        num_attention_heads=2,
        num_hidden_layers=3,
        intermediate_size=10,
        max_position_embeddings=9,
    )
    _, card, tensors = tiny(config)
    return job_of(card, tensors)


def frozen() -> Job:
    """Of three blocks the embedding and the first are frozen."""
    return replace(bert(), frozen=("embedding", "blocks.0"))


def of_sizes() -> Job:
    """Three blocks of which the second has other heads, units and weights."""
    job = bert()
    for edit, arguments in (
        ("prune-ffn", {"kept": {1: (0, 2, 3, 7)}}),
        ("widen-heads", {"to": 3, "blocks": (1,)}),
    ):
        job, _ = EDITS[edit].run(job, **arguments)
    return job


def llama() -> Job:
    config = LlamaConfig(
        vocab_size=17,
        hidden_size=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        intermediate_size=10,
        max_position_embeddings=9,
        pad_token_id=0,
    )
    _, card, tensors = tiny(config)
    return job_of(card, tensors)


PAIRS: dict[str, tuple[str, Callable[[], Job], tuple[str, ...]]] = {
    "only_needed_positions": ("only-needed-positions", bert, ()),
    "only_needed_positions_by_row": ("only-needed-positions", llama, ()),
    "fuse_qkv": ("fuse-qkv", bert, ("only-needed-positions",)),
    "fuse_qkv_grouped": ("fuse-qkv", llama, ()),
    "drop_unread_weights": ("drop-unread-weights", bert, ()),
    "draw_masks_by_bits": ("draw-masks-by-bits", bert, ()),
    "group_blocks": (
        "group-blocks",
        bert,
        ("only-needed-positions", "fuse-qkv", "drop-unread-weights"),
    ),
    "group_blocks_of_sizes": ("group-blocks", of_sizes, ("fuse-qkv",)),
    "freeze_prefix": ("freeze-prefix", frozen, NAMING),
}


def random_tensors(job: Job, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for t in job.model.tensors:
        noise = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        # Of a size at which no softmax saturates, where gradients would be all rounding.
        found[t.key] = noise / t.shape[-1] ** 0.5 if len(t.shape) > 1 else noise / 2
    return found


def mapped(weights: WeightMap, after: Job, old: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters after a pass from those before, by its weight map."""
    return {
        info.path: evaluate_source(weights.source(info.path), old, info.shape)
        for info in parameters(after)
    }


def assert_preserves(
    before: Job, after: Job, weights: WeightMap, seed: int = 0
) -> None:
    """Function, gradient and trajectory, in fp64, through the weight map."""
    old = load(before, random_tensors(before, seed))
    new = mapped(weights, after, old)
    from_checkpoint = load(after, random_tensors(before, seed))
    for path, value in new.items():  # the sources and the weight map agree
        assert torch.equal(value, from_checkpoint[path]), path
    batches = list(batches_of(before, None, seed))
    for batch in batches:
        assert_close(interpret(after, new, batch), interpret(before, old, batch))
    for rate in (0.0, 0.1):  # the gradient, then three steps of AdamW
        a = {k: t.clone().requires_grad_() for k, t in old.items()}
        b = {k: t.clone().requires_grad_() for k, t in new.items()}
        optimizers = [
            torch.optim.AdamW(list(x.values()), lr=rate / 10, weight_decay=0.1)
            for x in (a, b)
        ]
        for batch in batches[:3]:
            for job, state, optimizer in (
                (before, a, optimizers[0]),
                (after, b, optimizers[1]),
            ):
                optimizer.zero_grad()
                interpret(job, state, batch).pow(2).sum().backward()
            grads = {
                k: torch.zeros_like(t) if t.grad is None else t.grad
                for k, t in a.items()
            }
            total = torch.stack([g.norm() for g in grads.values()]).norm()
            for info in parameters(after):
                want = evaluate_source(weights.source(info.path), grads, info.shape)
                got = b[info.path].grad
                got = torch.zeros_like(want) if got is None else got
                assert_close(got, want, floor=1e-6 * float(total), what=info.path)
            if rate:
                # Where a gradient is truly zero, rounding alone would move a weight.
                for state in (a, b):
                    for t in state.values():
                        if t.grad is not None:
                            t.grad[t.grad.abs() < 1e-9 * float(total)] = 0
                for optimizer in optimizers:
                    optimizer.step()
        final = {k: t.detach() for k, t in a.items()}
        for path, value in mapped(weights, after, final).items():
            assert_close(b[path].detach(), value, tolerance=1e-7, what=path)


def assert_close(
    got: Tensor, want: Tensor, *, floor: float = 0.0, tolerance=1e-9, what="logits"
) -> None:
    scale = max(float(want.norm()), floor, 1e-30)
    far = float((got - want).norm()) / scale
    assert far <= tolerance, f"{what} differs by {far:.3g}"


@pytest.mark.parametrize("case", PAIRS)
def test_text_before_and_after(case):
    name, make, first = PAIRS[case]
    before, _ = run(make(), first)
    after, weights = run(before, [name])
    text = print_job(before) + SPLIT + print_job(after)
    path = HERE / f"{case}.gir"
    if os.environ.get("GEN_REFRESH"):
        path.write_text(text, encoding="utf-8")
    stored = path.read_text(encoding="utf-8")
    assert text == stored
    halves = [parse_job(half) for half in stored.split(SPLIT)]
    assert halves == [before, after]
    assert_preserves(halves[0], halves[1], weights)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_every_pass_keeps_function_gradient_and_trajectory(kind, seed):
    draw = random.Random(f"passes-{kind}-{seed}")
    _, card, tensors = tiny(KINDS[kind](draw), seed=seed)
    task = "image-classification" if kind == "vit" else "text-classification"
    before = job_of(card, tensors, task)
    whole = WeightMap()
    job = before
    for step in steps(before):
        if parse_job(print_job(step.job)) != job:
            assert_preserves(job, step.job, step.weights, seed)
        job, whole = step.job, whole.then(step.weights)
    assert_preserves(before, job, whole, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_passes_are_idempotent_before_grouping(kind):
    _, card, tensors = tiny(KINDS[kind](random.Random(kind)))
    task = "image-classification" if kind == "vit" else "text-classification"
    names = [p.name for p in PASSES if p.ensures is None and p.name in NAMING]
    once, _ = run(job_of(card, tensors, task), names)
    twice, weights = run(once, names)
    assert twice == once
    assert not weights.changed


def swap_parts(job: Job) -> Job:
    """Query for key: well typed, so that only execution can tell."""

    def change(source):
        if isinstance(source, Concatenate) and len(source.parts) > 1:
            first, second, *rest = source.parts
            return Concatenate((second, first, *rest))
        return source

    return _sources(job, change)


def other_row(job: Job) -> Job:
    def change(source):
        if isinstance(source, Row):
            return replace(source, index=1)
        return source

    return _sources(job, change)


def _sources(job: Job, change) -> Job:
    modules = {
        m.name: replace(
            m,
            parameters=tuple(replace(p, source=change(p.source)) for p in m.parameters),
        )
        for m in job.model.modules
    }
    return replace(job, model=job.model.with_modules(modules))


def other_token(job: Job) -> Job:
    """The classifier reads another position than the first."""
    modules = {}
    for m in job.model.modules:
        if m.name.startswith("FirstTokenBlock"):
            ops = tuple(o for o in m.ops)
            narrow = [o for o in ops if o.kind == "narrow"]
            # The residual is that of the attention's result, not of the input.
            attention = next(o for o in ops if o.kind == "call")
            ops = tuple(
                (
                    replace(o, args=(attention.results[0].name, o.args[1]))
                    if o.kind == "add" and o.args[0] == narrow[0].results[0].name
                    else o
                )
                for o in ops
                if o is not narrow[0]
            )
            modules[m.name] = replace(m, ops=ops)
    return replace(job, model=job.model.with_modules(modules))


def other_keys(job: Job) -> Job:
    """A loop that reads the blocks from the end."""
    main = job.model.main
    instances = tuple(
        replace(i, keys=i.keys.replace("{i}", "0")) if i.count > 1 else i
        for i in main.instances
    )
    return replace(
        job,
        model=job.model.with_modules({main.name: replace(main, instances=instances)}),
    )


def other_members(job: Job) -> Job:
    """The block before the cut is the one behind it, and the other way round."""
    main = job.model.main
    a, b = (main.instance(f"blocks.{i}") for i in range(2))
    swapped = {a: replace(a, keys=b.keys), b: replace(b, keys=a.keys)}
    instances = tuple(swapped.get(i, i) for i in main.instances)
    changed = {main.name: replace(main, instances=instances)}
    return replace(job, model=job.model.with_modules(changed))


def other_weights(job: Job) -> Job:
    """The block of other sizes keeps them, and reads what the first one reads."""
    main = job.model.main
    instances = tuple(replace(i, sources=()) for i in main.instances)
    changed = {main.name: replace(main, instances=instances)}
    return replace(job, model=job.model.with_modules(changed))


def other_sizes(job: Job) -> Job:
    """Its heads are as many as the first one's."""
    main = job.model.main
    instances = tuple(
        replace(i, sizes=tuple((name, name) for name, _ in i.sizes))
        for i in main.instances
    )
    changed = {main.name: replace(main, instances=instances)}
    return replace(job, model=job.model.with_modules(changed))


@pytest.mark.parametrize(
    "name, make, plant",
    [
        ("fuse-qkv", bert, swap_parts),
        ("drop-unread-weights", bert, other_row),
        ("only-needed-positions", bert, other_token),
        ("group-blocks", bert, other_keys),
        ("group-blocks", of_sizes, other_weights),
        ("group-blocks", of_sizes, other_sizes),
        ("freeze-prefix", frozen, other_members),
    ],
)
def test_a_planted_fault_is_seen(name, make, plant):
    first = [p.name for p in PASSES][: [p.name for p in PASSES].index(name)]
    before, _ = run(make(), first)
    after, weights = run(before, [name])
    assert_preserves(before, after, weights)
    wrong = plant(after)
    assert wrong != after
    with pytest.raises((AssertionError, GenError)):
        verify(wrong)
        assert_preserves(before, wrong, weights)


def members(job: Job) -> dict[str, int]:
    return {i.name: i.count for i in job.model.main.instances}


@pytest.mark.parametrize(
    "count, cut, want",
    [
        (1, "x.6", {"blocks.0": 1, "blocks.1": 3, "blocks.4": 1}),
        (2, "x.6", {"blocks.0": 2, "blocks.2": 2, "blocks.4": 1}),
        (3, "x.6", {"blocks.0": 3, "blocks.3": 1, "blocks.4": 1}),
        (4, "x.5", {"blocks.0": 4, "blocks.4": 1}),
        (5, "x.7", {"blocks.0": 4, "blocks.4": 1}),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_where_a_model_is_cut(count, cut, want, named):
    """By whole blocks, whatever else is frozen further on or within the next."""
    config = BertConfig(
        vocab_size=17,
        hidden_size=6,
        num_attention_heads=2,
        num_hidden_layers=5,
        intermediate_size=10,
        max_position_embeddings=9,
    )
    _, card, tensors = tiny(config)
    paths = ["embedding", *(f"blocks.{i}" for i in range(count))]
    paths += ["classifier.pool", f"blocks.{count}.ff"][: 1 + (count < 5)] * named
    shaped, _ = run(replace(job_of(card, tensors), frozen=tuple(paths)), NAMING)
    after, weights = run(shaped, ["freeze-prefix"])
    found = members(after)
    assert {k: v for k, v in found.items() if k.startswith("blocks.")} == want
    kinds = {op.name: op.kind for op in after.model.main.ops if op.name in want}
    assert kinds == {k: "repeat" if n > 1 else "call" for k, n in want.items()}
    results = [r.name for op in after.model.main.ops for r in op.results]
    assert after.model.cut in results
    assert_preserves(shaped, after, weights)
    prefix, suffix = halves(after.model)
    assert [v.name for v in prefix.inputs] == ["ids", "mask"]
    rest = ["mask"] if count < 5 else []
    assert [v.name for v in suffix.inputs] == [after.model.cut, *rest]
    # The pass has nothing to do in a model that it has cut.
    assert run(after, ["freeze-prefix"])[0] == after


@pytest.mark.parametrize(
    "paths, cache",
    [
        ((), "fp32"),
        (("embedding",), "fp32"),
        (("blocks.0",), "fp32"),
        (("embedding.token", "blocks.0"), "fp32"),
        (("embedding", "blocks.1", "blocks.2"), "fp32"),
        (("embedding", "blocks.0.attention"), "bf16"),
        (("embedding", "blocks.0"), "off"),
    ],
)
def test_what_is_frozen_and_no_prefix_is_not_cut(paths, cache):
    job = bert()
    job = replace(job, frozen=paths, train=replace(job.train, cache=cache))
    shaped, _ = run(job, NAMING)
    after, _ = run(shaped, ["freeze-prefix"])
    assert after == shaped and not after.model.cut


def test_unknown_passes_and_wrong_levels_are_errors():
    job = bert()
    with pytest.raises(GenError, match='no pass "fold"'):
        run(job, ["fold"])
    shaped, _ = run(job)
    with pytest.raises(GenError, match="takes a job that is imported or optimised"):
        run(shaped, ["fuse-qkv"])
    with pytest.raises(GenError, match="takes a job that is shaped, not imported"):
        run(job, ["freeze-prefix"])
    assert list(BY_NAME) == [p.name for p in PASSES]


def test_weight_maps_compose():
    a = WeightMap(
        {"ab": Concatenate((Parameter("a"), Parameter("b")))}, frozenset("ab")
    )
    b = WeightMap({"top": Rows(Parameter("ab"), 0, 2)}, frozenset({"ab"}))
    both = a.then(b)
    assert both.source("top") == Rows(
        Concatenate((Parameter("a"), Parameter("b"))), 0, 2
    )
    assert both.source("other") == Parameter("other")
    cut = WeightMap({"p": Rows(Parameter("p"), 1, 3)})
    joined = WeightMap({"q": Concatenate((Parameter("p"), Parameter("r")))})
    both = cut.then(joined)  # p is read by q, and is still there
    assert both.source("p") == Rows(Parameter("p"), 1, 3)
    assert both.source("q") == Concatenate((both.source("p"), Parameter("r")))
