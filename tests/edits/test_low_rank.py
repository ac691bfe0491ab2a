"""low-rank: equal to transformers with its own weights cut to the rank."""

from __future__ import annotations

import pytest
import torch

from generated import assert_same, generated, source_of
from generator.ir.job import parameters
from generator.passes import EDITS
from generator.passes import run as run_passes
from tests.edits.support import (
    as_cut,
    as_edited,
    as_mapped,
    edited,
    make,
    refused,
    trains,
)
from tests.oracle import batches_of
from tests.parity.test_generated_models import KINDS

FF = ("ff.up", "ff.down")
ATTENTION = ("attention.q", "attention.v", "attention.out")
CASES = [
    {"on": FF, "rank": 2},
    {"on": ("ff.down", *ATTENTION), "rank": 2, "blocks": (0, 2)},
]


def same(made, job, folder, tolerance: float = 1e-9):
    model, module = generated(job, made.tensors, folder)
    cut = as_cut(made.tensors, job)
    with as_edited(made, job) as theirs:
        assert_same(
            model,
            job,
            theirs,
            cut,
            names=made.names,
            loaded=made.tensors,
            tolerance=tolerance,
        )
    model.load_state_dict(model.state_dict(), strict=True)
    return model, module


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_to_the_reference_cut_to_the_rank(kind, case, tmp_path) -> None:
    made = make(kind, num_hidden_layers=3)
    model, _ = same(made, edited(made.job, "low-rank", **case), tmp_path)
    trains(model, made.job)


@pytest.mark.parametrize("kind", KINDS)
def test_at_full_rank_the_model_is_the_reference(kind, tmp_path) -> None:
    made = make(kind, num_hidden_layers=2)
    sizes = made.job.model.sizes
    rank = min(sizes["C"], sizes["F"])
    job = edited(made.job, "low-rank", on=FF, rank=rank)
    model, _ = generated(job, made.tensors, tmp_path)
    with as_edited(made, made.job) as theirs:
        assert_same(model, job, theirs, made.tensors, tolerance=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_a_weight_is_the_tail_of_its_singular_values(
    kind, tmp_path
) -> None:
    made = make(kind, num_hidden_layers=2)
    job = edited(made.job, "low-rank", on=FF, rank=2)
    model, _ = generated(job, made.tensors, tmp_path)
    state = model.state_dict()
    assert len(job.reference.ranks) == 4
    names = [f"blocks.{i}.{linear}" for i in range(2) for linear in FF]
    for (key, rank), name in zip(job.reference.ranks, names, strict=True):
        weight = made.tensors[key]
        product = state[f"{name}.expand.weight"] @ state[f"{name}.reduce.weight"]
        tail = torch.linalg.svdvals(weight)[rank:].norm()
        error = (weight - product).norm()
        assert float(error) == pytest.approx(float(tail), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_first", [True, False])
def test_with_keep_layers_in_both_orders(kind, keep_first, tmp_path) -> None:
    made = make(kind, num_hidden_layers=4)
    keep = ("keep-layers", {"layers": (1, 3)})
    factor = ("low-rank", {"on": FF, "rank": 2})
    job = made.job
    for do, arguments in (keep, factor) if keep_first else (factor, keep):
        job = edited(job, do, **arguments)
    same(made, job, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_twice_with_another_rank(kind, tmp_path) -> None:
    made = make(kind, num_hidden_layers=2)
    job = edited(made.job, "low-rank", on=("ff.up",), rank=2)
    job = edited(job, "low-rank", on=("ff.down",), rank=1, blocks=(0,))
    assert {d.name: d.size for d in job.model.dims if d.symbol[0] == "R"} == {
        "rank": 2,
        "rank_2": 1,
    }
    same(made, job, tmp_path)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_with_an_adapter_on_a_factor(kind, tmp_path) -> None:
    """Which is then no plain linear: the two are written out."""
    made = make(kind, num_hidden_layers=3)
    job = edited(made.job, "low-rank", on=FF, rank=2, blocks=(0, 1))
    lora = {"rank": 1, "alpha": 1.0, "dropout": 0.0}
    job = edited(job, "lora", on=("ff.up.reduce",), blocks=(1,), **lora)
    assert "self.up.expand(self.up.reduce(x))" in source_of(job)
    model, module = generated(job, made.tensors, tmp_path)
    before = edited(made.job, "low-rank", on=FF, rank=2, blocks=(0, 1))
    plain, _ = generated(before, made.tensors, tmp_path)
    for batch in batches_of(job):
        logits = plain(*batch.values())
        assert torch.equal(model(*batch.values()), logits)
        torch.testing.assert_close(module.merge(model)(*batch.values()), logits)
    model.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_map_says_what_the_sources_say(kind) -> None:
    made = make(kind, num_hidden_layers=3)
    job, weights = EDITS["low-rank"].run(made.job, on=FF, rank=2, blocks=(0, 1))
    as_mapped(made.job, job, weights, made.tensors)


def test_linears_that_are_factored_are_not_joined_with_others() -> None:
    made = make("bert", num_hidden_layers=1)
    job = edited(made.job, "low-rank", on=("attention.k",), rank=2)
    after, _ = run_passes(job, ["fuse-qkv"])
    names = {p.path for p in parameters(after) if p.path.startswith("blocks.0.att")}
    assert {n.split(".", 3)[3].rpartition(".")[0] for n in names} >= {
        "k.reduce",
        "k.expand",
        "qv",
    }


@pytest.mark.parametrize(
    "on, joined",
    [
        (("attention.q",), {"q", "kv"}),
        (("attention.q", "attention.v"), {"q", "k", "v"}),
    ],
)
def test_all_blocks_join_what_all_of_them_can(on, joined) -> None:
    """Also those that were not edited, so that one class serves all."""
    made = make("bert", num_hidden_layers=3)
    job = edited(made.job, "low-rank", on=on, rank=2, blocks=(1,))
    after, _ = run_passes(job, ["fuse-qkv"])
    for number in (0, 2):
        start = f"blocks.{number}.attention."
        names = {p.path.removeprefix(start).split(".")[0] for p in parameters(after)}
        assert names >= joined and not names & {"qkv", "qk", "qv"}


def test_the_source_is_at_most_a_fifth_longer() -> None:
    made = make("bert", num_hidden_layers=4)
    job = edited(made.job, "low-rank", on=FF, rank=2)
    before, after = (len(source_of(j).splitlines()) for j in (made.job, job))
    assert after <= 1.2 * before


def test_what_cannot_be_factored() -> None:
    made = make("bert", num_hidden_layers=3)
    sizes = made.job.model.sizes
    most = min(sizes["C"], sizes["F"])
    code, message, mend = refused("low-rank", made.job, on=("ff.gate",), rank=2)
    assert (code, message) == ("G241", 'blocks.0 has no linear "ff.gate"')
    assert mend == (
        "there are attention.q, attention.k, attention.v, attention.out, ff.up, ff.down"
    )
    code, message, mend = refused("low-rank", made.job, on=("ff.up",), rank=most + 1)
    assert (code, mend) == ("G242", f"rank = {most}")
    assert message == f"blocks.0.ff.up has rank {most} at most, not {most + 1}"
    found = refused("low-rank", made.job, on=("ff.up",), rank=2, blocks=(1, 3))
    assert found == (
        "G240",
        "there is no block 3: the model has 3, from 0",
        "the last is 2",
    )
    found = refused("low-rank", made.job, on=("ff.up",), rank=2, blocks=(1, 0))
    assert found == ("G240", "the blocks are not in order", "blocks = [0, 1]")


@pytest.mark.parametrize(
    "do, arguments",
    [("low-rank", {"on": ("ff.up",), "rank": 2}), ("widen-ffn", {"by": 1.5})],
)
def test_what_an_edit_above_has_changed(do, arguments) -> None:
    made = make("bert", num_hidden_layers=2)
    job = edited(made.job, do, **arguments)
    name = "ff.up.reduce" if do == "low-rank" else "ff.up"
    code, message, mend = refused("low-rank", job, on=(name,), rank=2)
    assert code == "G241" and message.startswith(f"blocks.0.{name} is a weight of the")
    assert mend == "write low-rank above that edit, or leave it out of on"
