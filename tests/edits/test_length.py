"""model.py of an edited job is at most a fifth longer than that of the unedited one."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from generated import source_of
from generator.ir.job import Job
from generator.passes import EDITS
from tests.edits.support import edited, make

BLOCKS = 6
SOME = ((3, 4), (1, 3))  # neighbours, and a block that is not edited between them
# The other post-norm encoders differ in their embeddings and heads, which edits leave
# alone.
QUICK, SLOW = "bert", ("llama", "vit")
LONGEST = 1.2
# The longest class of an adapted linear, whose constructor takes a dropout besides, which
# is no default.
DORA_WITH_DROPOUT = 1.24
# The first and the last block, which is one by itself, for edits that add a class.
APART = (0, 5)
ADDING = ("adapter", "dora", "low-rank")
FIVE = ("attention.q", "attention.k", "attention.v", "ff.up", "ff.down")


# What edits of images and positions take.
PLAIN: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 16, "patch_size": 8},
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}},
}


@cache
def plain(kind: str) -> Job:
    return make(kind, num_hidden_layers=BLOCKS, **PLAIN.get(kind, {})).job


@cache
def length(kind: str) -> int:
    return source_of(plain(kind)).count("\n")


def arguments(
    job: Job, do: str, blocks: tuple[int, ...] | None
) -> list[dict[str, Any]]:
    """What an edit is given: as the spec has it by default, where it says so."""
    sizes, at = job.model.sizes, blocks or range(BLOCKS)
    heads, hidden = sizes["H"], sizes["F"]
    groups = sizes.get("G", heads)
    rank = {"rank": 2, "alpha": 4.0, "dropout": 0.0}

    def first(count: int) -> dict[str, Any]:
        return {"kept": {b: tuple(range(count)) for b in at}}

    def low_rank(*on: str) -> dict[str, Any]:
        return {"on": on, "rank": 2, "blocks": blocks}

    of_blocks: dict[str, list[dict[str, Any]]] = {
        "prune-ffn": [first(hidden // 2)],
        "prune-heads": [first(max(1, groups // 2))],
        "widen-ffn": [
            {"to": 2 * hidden, "noise": noise, "blocks": blocks}
            for noise in (0.0, 0.01)
        ],
        "widen-heads": [{"to": 2 * heads, "blocks": blocks}],
        "low-rank": [
            low_rank("ff.up", "ff.down"),
            low_rank("attention.q"),
            low_rank(*FIVE),
            low_rank(*FIVE, "attention.out"),
        ],
        "lora": [{"on": ("attention.q", "attention.v"), "blocks": blocks, **rank}],
        "dora": [
            {"on": ("attention.q", "attention.v"), "blocks": blocks, **rank},
            {
                "on": ("attention.q", "attention.v"),
                "blocks": blocks,
                **rank,
                "dropout": 0.1,
            },
        ],
        "ia3": [
            {
                "on": ("attention.k", "attention.v", "ff.down"),
                "inputs": ("ff.down",),
                "blocks": blocks,
            }
        ],
        "adapter": [
            {
                "on": ("attention", "ff"),
                "width": 3,
                "activation": "gelu",
                "blocks": blocks,
            }
        ],
        "add-layers": [{"after": tuple(at)}],
        "keep-layers": [{"layers": tuple(at)}],
    }
    of_the_model: dict[str, list[dict[str, Any]]] = {
        "trim-vocab": [{"kept": tuple(range(sizes.get("V", 1) - 1))}],
        "prune-width": [{"kept": tuple(range(max(1, 3 * sizes["C"] // 4)))}],
        "extend-positions": [{"to": 9999, "by": None, "max_tokens": 9999}],
        "resize-image": [{"size": (24, 32)}],
        "pool": [
            {"kind": kind} for kind in ("first", "last", "mean", "max", "attention")
        ],
        "head": [{"kind": "mlp", "dropout": 0.2}, {"dropout": 0.3, "samples": 5}],
    }
    assert {*of_blocks, *of_the_model} == set(EDITS)
    if do == "prune-heads" and groups == 1:
        return []
    if do in of_blocks:
        return of_blocks[do]
    return of_the_model[do] if blocks is None else []


# An architecture that blocks cannot be added to, one without tokens, and pools that a
# model has already.
REFUSED = {
    ("bert", "add-layers"),
    *((kind, "resize-image") for kind in ("bert", "llama")),
    ("vit", "trim-vocab"),
    ("vit", "extend-positions"),
}
POOLED = {("vit", "first"), ("vit", "last"), ("llama", "first"), ("llama", "last")}


CASES = [
    pytest.param(kind, do, id=f"{kind}-{do}", marks=marks)
    for kind, marks in {QUICK: (), **dict.fromkeys(SLOW, pytest.mark.slow)}.items()
    for do in EDITS
    if (kind, do) not in REFUSED
]


@pytest.mark.parametrize(("kind", "do"), CASES)
@pytest.mark.parametrize("blocks", [None, *SOME, APART], ids=str)
def test_an_edit_makes_the_model_little_longer(kind, do, blocks) -> None:
    if blocks == APART and do not in ADDING:
        return
    for given in arguments(plain(kind), do, blocks):
        if (kind, given.get("kind")) in POOLED:
            continue
        lines = source_of(edited(plain(kind), do, **given)).count("\n")
        most = DORA_WITH_DROPOUT if do == "dora" and given["dropout"] else LONGEST
        assert lines <= most * length(kind), (given, lines, length(kind))


def class_names(source: str) -> set[str]:
    return {line for line in source.splitlines() if line.startswith("class ")}


@pytest.mark.parametrize("do", ["lora", "dora", "ia3", "low-rank"])
@pytest.mark.parametrize("kind", [QUICK, "llama"])
def test_blocks_with_other_linears_are_of_the_same_class(kind, do) -> None:
    """They are given what makes those linears, and one class of such is all that is new."""
    given = arguments(plain(kind), do, SOME[1])[-1]
    source = source_of(edited(plain(kind), do, **given))
    new = class_names(source) - class_names(source_of(plain(kind)))
    assert len(new) == 1 and "Linear(" in new.pop()
    assert "Callable[..., nn.Module]" in source and "Attention2" not in source


def test_two_adapters_in_several_blocks_are_told_apart() -> None:
    """Of two ranks, in different blocks and on different linears."""
    job, rank = plain(QUICK), {"alpha": 4.0, "dropout": 0.0}
    job = edited(job, "lora", on=("attention.q",), blocks=(0, 1), rank=1, **rank)
    job = edited(job, "lora", on=("attention.q",), blocks=(2,), rank=2, **rank)
    job = edited(
        job, "ia3", on=("attention.v", "ff.down"), inputs=("ff.down",), blocks=(1, 2)
    )
    source = source_of(job)
    assert "Attention2" not in source and "Block2" not in source
    for linear in ("rank=c.rank,", "rank=c.rank2,", 'of="output"', 'of="input"'):
        assert linear in source, source


def test_sizes_of_some_blocks_are_data() -> None:
    """Blocks, attentions and feed-forwards of other sizes have no class of their own."""
    job = plain("llama")
    before = source_of(job)
    classes = [line for line in before.splitlines() if line.startswith("class ")]
    for do in ("prune-heads", "prune-ffn", "widen-ffn"):
        blocks = {"prune-heads": (1, 3), "prune-ffn": (2, 3), "widen-ffn": (4,)}[do]
        given, *_ = arguments(job, do, blocks)
        job = edited(job, do, **given)
    after = source_of(job)
    assert [x for x in after.splitlines() if x.startswith("class ")] == classes
    assert "for heads, key_heads, hidden in" in after
