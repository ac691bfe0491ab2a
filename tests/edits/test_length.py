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
# Of some blocks these edits make others, of which both kinds are there to be read: one
# attention with a product for query, key and value, and one whose linears stand apart.
# To that comes the class of an adapted linear, which is longest for DoRA: it has the
# paper's rule for gradients, and is merged.
LONGER = {
    ("lora", True): 1.33,
    ("dora", True): 1.37,
    ("ia3", True): 1.42,
    ("dora", False): 1.24,
}


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
        "low-rank": [low_rank("ff.up", "ff.down"), low_rank("attention.q")],
        "lora": [{"on": ("attention.q", "attention.v"), "blocks": blocks, **rank}],
        "dora": [{"on": ("attention.q", "attention.v"), "blocks": blocks, **rank}],
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
@pytest.mark.parametrize("blocks", [None, *SOME], ids=str)
def test_an_edit_makes_the_model_little_longer(kind, do, blocks) -> None:
    for given in arguments(plain(kind), do, blocks):
        if (kind, given.get("kind")) in POOLED:
            continue
        lines = source_of(edited(plain(kind), do, **given)).count("\n")
        most = LONGER.get((do, blocks is not None), LONGEST)
        assert lines <= most * length(kind), (given, lines, length(kind))


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
