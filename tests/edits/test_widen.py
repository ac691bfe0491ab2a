"""widen-ffn and widen-heads: equal to transformers where there is no noise."""

from __future__ import annotations

import pytest
import torch
from oracle import batches_of

from generated import assert_same, generated, source_of
from generator.passes import EDITS
from generator.runtime.interpret import load
from tests.edits.support import (
    as_cut,
    as_edited,
    as_mapped,
    edited,
    make,
    refused,
    trains,
)
from tests.parity.test_generated_models import KINDS


def same(made, job, folder):
    model, _ = generated(job, made.tensors, folder)
    cut = as_cut(made.tensors, job)
    with as_edited(made, job) as theirs:
        assert_same(model, job, theirs, cut, names=made.names, loaded=made.tensors)
    model.load_state_dict(model.state_dict(), strict=True)
    return model


def more(job, blocks=None):
    """Arguments that widen: heads by half of their groups, as a number that is legal."""
    sizes = job.model.sizes
    group = sizes["H"] // sizes.get("G", sizes["H"])
    count = sizes["H"] // group
    return {"to": (count + max(1, count // 2)) * group, "blocks": blocks}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [None, (0, 2), (1,)], ids=str)
@pytest.mark.parametrize("by", [1.3, 2.6])
def test_wider_feed_forwards_compute_the_same(kind, blocks, by, tmp_path) -> None:
    made = make(kind, num_hidden_layers=3)
    job = edited(made.job, "widen-ffn", by=by, blocks=blocks)
    model = same(made, job, tmp_path)
    wide = [len(block.ff.up.weight) for block in model.blocks]
    now = made.job.model.sizes["F"]
    chosen = range(3) if blocks is None else blocks
    assert wide == [round(now * by) if i in chosen else now for i in range(3)]
    trains(model, made.job)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [None, (0, 2), (1,)], ids=str)
def test_more_heads_compute_the_same(kind, blocks, tmp_path) -> None:
    made = make(kind, num_hidden_layers=3)
    job = edited(made.job, "widen-heads", **more(made.job, blocks))
    trains(same(made, job, tmp_path), made.job)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_first", [True, False])
def test_with_keep_layers_in_both_orders(kind, keep_first, tmp_path) -> None:
    made = make(kind, num_hidden_layers=4)
    keep = ("keep-layers", {"layers": (1, 3)})
    widen = [
        ("widen-ffn", {"by": 1.5, "blocks": (1,)}),
        ("widen-heads", more(made.job, (0,))),
    ]
    job = made.job
    for do, arguments in (keep, *widen) if keep_first else (*widen, keep):
        job = edited(job, do, **arguments)
    same(made, job, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_over_factored_linears_and_twice(kind, tmp_path) -> None:
    made = make(kind, num_hidden_layers=3)
    job = edited(made.job, "low-rank", on=("ff.up", "ff.down", "attention.out"), rank=2)
    job = edited(job, "widen-ffn", by=1.5, blocks=(0, 1))
    job = edited(job, "widen-ffn", by=1.5, blocks=(1,))
    job = edited(job, "widen-heads", **more(made.job))
    same(made, job, tmp_path)


def test_blocks_of_one_size_share_a_dimension() -> None:
    made = make("bert", num_hidden_layers=3)
    size = made.job.model.sizes["F"] + 4
    one_by_one = edited(made.job, "widen-ffn", to=size, blocks=(0,))
    one_by_one = edited(one_by_one, "widen-ffn", to=size, blocks=(1, 2))
    at_once = edited(made.job, "widen-ffn", to=size)
    dims = [{d.name: d.size or 0 for d in j.model.dims} for j in (one_by_one, at_once)]
    assert dims[0]["hidden"] == dims[1]["hidden"] - 4 and dims[0]["hidden_2"] == size
    assert len(source_of(one_by_one)) == pytest.approx(
        len(source_of(at_once)), rel=0.01
    )


@pytest.mark.parametrize("do", ["widen-ffn", "widen-heads"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_map_says_what_the_sources_say(kind, do) -> None:
    made = make(kind, num_hidden_layers=3)
    arguments = {"by": 1.5} if do == "widen-ffn" else more(made.job)
    job, weights = EDITS[do].run(made.job, **{**arguments, "blocks": (0, 1)})
    as_mapped(made.job, job, weights, made.tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_in_the_copies_alone(kind, tmp_path) -> None:
    made = make(kind, num_hidden_layers=2)
    exact = edited(made.job, "widen-ffn", by=1.5)
    exact = edited(exact, "widen-heads", **more(made.job))
    noisy = edited(made.job, "widen-ffn", by=1.5, noise=0.01)
    noisy = edited(noisy, "widen-heads", **more(made.job), noise=0.01)
    torch.manual_seed(0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, _ = generated(exact, made.tensors, tmp_path / "a")
    b, _ = generated(noisy, made.tensors, tmp_path / "b")
    state = b.state_dict()
    now = made.job.model.sizes["F"]
    for name, value in a.state_dict().items():
        off = (state[name] - value).norm(dim=-1) if value.ndim == 2 else None
        if name.endswith(("ff.up.weight", "ff.gate.weight")):
            assert off is not None and not off[:now].any() and off[now:].all()
            ratio = (state[name] - value)[now:].std() / value[:now].std()
            assert 0.004 < float(ratio) < 0.025
        elif any(part in name for part in ("attention.q", "attention.k")):
            continue  # joined; the logits below say that they are near
        else:
            assert torch.equal(state[name], value), name
    for batch in batches_of(made.job):
        with torch.no_grad():
            one, other = a(*batch.values()), b(*batch.values())
        assert 0 < float((one - other).norm() / one.norm()) < 0.3
    once, again = load(noisy, made.tensors), load(noisy, made.tensors)
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    trains(b, made.job)


def test_copies_without_noise_stay_copies_and_with_noise_do_not(tmp_path) -> None:
    made = make("bert", num_hidden_layers=1)
    now = made.job.model.sizes["F"]
    for noise, alike in ((0.0, True), (0.1, False)):
        job = edited(made.job, "widen-ffn", to=now + 1, noise=noise)
        folder = tmp_path / str(alike)
        folder.mkdir()
        model, _ = generated(job, made.tensors, folder)
        trains(model, made.job)
        up = model.blocks[0].ff.up.weight
        assert torch.allclose(up[0], up[now], rtol=1e-12, atol=0) == alike


def test_what_cannot_be_widened() -> None:
    made = make("bert", num_hidden_layers=3)
    sizes = made.job.model.sizes
    now, heads = sizes["F"], sizes["H"]
    assert refused("widen-ffn", made.job, to=now) == (
        "G243",
        f"blocks.0 has {now} units in its feed-forward: {now} is no more",
        f"to = {now + 1}, or more",
    )
    found = refused("widen-ffn", made.job, by=1.0001)
    assert found[0] == "G243" and found[2] == f"to = {now + 1}, or more"
    assert refused("widen-heads", made.job, to=heads - 1) == (
        "G243",
        f"blocks.0 has {heads} heads: {heads - 1} is no more",
        f"to = {heads + 1}, or more",
    )
    found = refused("widen-ffn", made.job, by=2.0, blocks=(3,))
    assert found[0] == "G240" and found[2] == "the last is 2"


@pytest.mark.parametrize(
    ("to", "mend"), [(9, "to = 12"), (11, "to = 12"), (14, "to = 16")]
)
def test_heads_that_share_keys_come_in_groups(to, mend) -> None:
    made = make("llama", num_attention_heads=8, num_key_value_heads=2, hidden_size=32)
    sizes = made.job.model.sizes
    assert (sizes["H"], sizes["G"]) == (8, 2)
    found = refused("widen-heads", made.job, to=to)
    message = f"groups of 4 heads that share their keys: {to} heads are no whole groups"
    assert found == ("G243", f"blocks.0 has {message}", mend)


@pytest.mark.parametrize("do", ["widen-ffn", "widen-heads"])
def test_the_source_is_at_most_a_fifth_longer(do) -> None:
    made = make("bert", num_hidden_layers=4)
    arguments = {"by": 1.5} if do == "widen-ffn" else more(made.job)
    job = edited(made.job, do, **arguments)
    before, after = (len(source_of(j).splitlines()) for j in (made.job, job))
    assert after <= 1.2 * before
