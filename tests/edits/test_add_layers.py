"""add-layers: equal to transformers before training, and not a copy in vain after it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from oracle import batches_of, distance
from test_certificate import CASES
from whole_support import whole

from generated import assert_same, generated, source_of
from generator.errors import GenError
from generator.ir.job import parameters
from generator.passes import EDITS
from generator.passes import run as run_passes
from generator.runtime.interpret import evaluate_source, load
from generator.runtime.interpret import run as interpret
from tests.edits.support import as_edited, edited, in_double, make, refused
from tests.parity.test_generated_models import KINDS

PRE_NORM = ("llama", "vit")
CASES_OF_AFTER = [(0,), (1, 2), (2,), (0, 0, 2)]


@pytest.mark.parametrize("kind", PRE_NORM)
@pytest.mark.parametrize("after", CASES_OF_AFTER, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_the_function_does_not_change(kind, after, seed, tmp_path) -> None:
    made = make(kind, seed, num_hidden_layers=3)
    job = edited(made.job, "add-layers", after=after)
    model, _ = generated(job, made.tensors, tmp_path)
    assert len(model.blocks) == 3 + len(after) == job.model.sizes["L"]
    assert_same(model, job, made.theirs, made.tensors)
    model.load_state_dict(model.state_dict(), strict=True)
    (tmp_path / "whole").mkdir()
    whole, _ = generated(made.job, made.tensors, tmp_path / "whole")
    state = load(job, made.tensors)
    for batch in map(in_double, batches_of(job)):
        with torch.no_grad():
            want = whole(*batch.values())
            assert distance(model(*batch.values()), want) < 1e-12
            assert distance(interpret(job, state, batch), want) < 1e-9


@pytest.mark.parametrize("kind", PRE_NORM)
def test_a_copy_learns_by_itself(kind, tmp_path) -> None:
    """Its last layers have a gradient at once, and after a step the others have too."""
    made = make(kind, num_hidden_layers=2)
    job = edited(made.job, "add-layers", after=(0,))
    model, _ = generated(job, made.tensors, tmp_path)
    first, copy = (dict(model.blocks[i].named_parameters()) for i in (0, 1))
    for name in first:
        assert first[name].data_ptr() != copy[name].data_ptr()
    batch = in_double(list(batches_of(job))[-1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    moved = []
    for _ in range(2):
        before = {name: p.detach().clone() for name, p in copy.items()}
        optimizer.zero_grad()
        model(*batch.values()).square().sum().backward()
        moved.append({name for name, p in copy.items() if p.grad.abs().max() > 0})
        optimizer.step()
    assert moved[0] == {n for n in copy if n.startswith(("attention.out", "ff.down"))}
    assert len(moved[1]) > len(moved[0])
    assert any(not torch.equal(before[n], copy[n]) for n in moved[1])
    assert not torch.equal(first["ff.up.weight"], copy["ff.up.weight"])


@pytest.mark.parametrize("kind", PRE_NORM)
@pytest.mark.parametrize("keep", [(0, 1, 4), (1, 2), (0, 3)], ids=str)
def test_beside_fewer_blocks(kind, keep, tmp_path) -> None:
    """Blocks 0, 1, its copy, 2, 3: a copy changes nothing wherever it stands."""
    made = make(kind, num_hidden_layers=4)
    job = edited(made.job, "add-layers", after=(1,))
    job = edited(job, "keep-layers", layers=keep)
    model, _ = generated(job, made.tensors, tmp_path)
    with as_edited(made, job) as theirs:
        own = [i for i, b in enumerate(job.model.blocks) if not b.zeros]
        assert len(own) == sum(i != 2 for i in keep)
        assert_same(model, job, theirs, made.tensors)


@pytest.mark.parametrize("kind", PRE_NORM)
def test_adding_again(kind, tmp_path) -> None:
    made = make(kind, num_hidden_layers=2)
    job = made.job
    for after in ((0,), (1, 2)):
        job = edited(job, "add-layers", after=after)
    assert job.reference.blocks == (0, 0, 0, 1, 1)
    model, _ = generated(job, made.tensors, tmp_path)
    assert_same(model, job, made.theirs, made.tensors)
    fewer = edited(job, "keep-layers", layers=(0, 1))
    again = edited(fewer, "add-layers", after=(0, 1))
    model, _ = generated(again, made.tensors, tmp_path)
    assert len(model.blocks) == 4


@pytest.mark.parametrize("kind", PRE_NORM)
def test_the_weight_map_says_what_the_sources_say(kind) -> None:
    made = make(kind, num_hidden_layers=3)
    job, weights = EDITS["add-layers"].run(made.job, after=(0, 2))
    old, new = load(made.job, made.tensors), load(job, made.tensors)
    for info in parameters(job):
        value = evaluate_source(weights.source(info.path), old, info.shape)
        assert torch.equal(value.to(new[info.path].dtype), new[info.path]), info.path
    depths = [i.depth for i in job.model.blocks]
    assert depths == [1, 2, 3, 4, 5]
    last = [p.depth for p in parameters(job) if p.path.startswith("classifier")]
    assert set(last) == {6}


@pytest.mark.parametrize("kind", PRE_NORM)
def test_the_source_has_no_more_classes(kind) -> None:
    made = make(kind, num_hidden_layers=3)
    job = edited(made.job, "add-layers", after=(0, 1))
    before, after = source_of(made.job), source_of(job)
    assert before.count("class ") == after.count("class ")
    assert len(after.splitlines()) <= 1.2 * len(before.splitlines())
    words = " ".join(after.split())
    assert "Copies of blocks end in zeros, and change nothing yet." in words
    assert "dapters" not in words
    assert {m.name for m in run_passes(job)[0].model.modules} == {
        m.name for m in run_passes(made.job)[0].model.modules
    }


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - set(PRE_NORM)))
def test_blocks_that_normalise_their_sums_have_none_such(kind) -> None:
    with pytest.raises(GenError) as caught:
        EDITS["add-layers"].run(make(kind).job, after=(0,))
    (found,) = caught.value.diagnostics
    assert found.code == "G262" and "normalise what they give" in found.message


def test_a_block_that_is_not_there() -> None:
    with pytest.raises(GenError) as caught:
        EDITS["add-layers"].run(make("vit", num_hidden_layers=2).job, after=(2,))
    (found,) = caught.value.diagnostics
    assert found.code == "G240" and "the last is 1" in found.help


@pytest.mark.parametrize("case", ["llama", "vit"])
@pytest.mark.parametrize(
    "edits",
    [
        [("add-layers", {"after": (0,)})],
        [("add-layers", {"after": (1,)})],
        [("keep-layers", {"layers": (1,)}), ("add-layers", {"after": (0,)})],
        [("add-layers", {"after": (0, 1)}), ("pool", {"kind": "mean"})],
    ],
    ids=str,
)
def test_certificate_holds(case: str, edits, tmp_path: Path) -> None:
    config, sizes, options = CASES[case]
    made = whole(tmp_path, config(**sizes), **options, edits=edits)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds or r.measured is None] == []


@pytest.mark.parametrize("kind", ["llama", "vit"])
def test_a_copy_s_zeros_have_no_direction_for_dora(kind: str) -> None:
    job = edited(make(kind, num_hidden_layers=2).job, "add-layers", after=(0,))
    sizes = {"rank": 1, "alpha": 1.0, "dropout": 0.0}
    code, message, _ = refused("dora", job, on=("ff.down",), **sizes)
    assert code == "G254" and "blocks.1.ff.down" in message
    edited(job, "dora", on=("ff.down",), blocks=(0, 2), **sizes)
    edited(job, "lora", on=("ff.down",), **sizes)
