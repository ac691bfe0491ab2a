"""keep-layers: equal to transformers, and bitwise to our own model, with blocks skipped."""

from __future__ import annotations

import pytest
import torch
from oracle import batches_of

from generated import assert_same, generated
from generator.errors import GenError
from generator.ir.job import parameters
from generator.passes import EDITS
from generator.runtime.interpret import evaluate_source, load
from generator.runtime.interpret import run as interpret
from tests.edits.support import as_edited, edited, make
from tests.parity.test_generated_models import KINDS

CASES = [
    {"layers": (0, 2, 3)},
    {"layers": (3,)},
    {"layers": (0, 1, 2, 3, 4)},
    {"n": 3},
    {"n": 2, "choose": "first"},
    {"n": 2, "choose": "last"},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_to_the_reference_with_blocks_skipped(kind, case, tmp_path) -> None:
    made = make(kind, num_hidden_layers=5)
    job = edited(made.job, "keep-layers", **case)
    model, _ = generated(job, made.tensors, tmp_path)
    with as_edited(made, job) as theirs:
        assert_same(model, job, theirs, made.tensors, names=made.names)
    model.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_bitwise_equal_to_our_own_with_blocks_skipped(kind, tmp_path) -> None:
    made = make(kind, num_hidden_layers=4)
    (tmp_path / "whole").mkdir()
    (tmp_path / "edited").mkdir()
    whole, _ = generated(made.job, made.tensors, tmp_path / "whole")
    job = edited(made.job, "keep-layers", layers=(0, 3))  # the last reads one position
    model, _ = generated(job, made.tensors, tmp_path / "edited")
    del whole.blocks[1:3]
    for batch in batches_of(made.job):
        with torch.no_grad():
            assert torch.equal(model(*batch.values()), whole(*batch.values()))


def test_twice_is_once() -> None:
    made = make("bert", num_hidden_layers=6)
    first = edited(made.job, "keep-layers", layers=(0, 2, 3, 5))
    job = edited(first, "keep-layers", layers=(1, 3))
    assert job.reference == edited(made.job, "keep-layers", layers=(2, 5)).reference
    assert job.model == edited(made.job, "keep-layers", layers=(2, 5)).model


def test_all_of_them_is_none_of_it() -> None:
    made = make("bert", num_hidden_layers=3)
    assert edited(made.job, "keep-layers", n=3).model == made.job.model


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_map_says_what_the_sources_say(kind) -> None:
    made = make(kind, num_hidden_layers=4)
    job, weights = EDITS["keep-layers"].run(made.job, layers=(1, 3))
    old, new = load(made.job, made.tensors), load(job, made.tensors)
    infos = parameters(job)
    for info in infos:
        value = evaluate_source(weights.source(info.path), old, info.shape)
        assert torch.equal(value, new[info.path]), info.path
    left = {p.path for p in parameters(made.job)} - {p.path for p in infos}
    assert weights.dropped == left
    for batch in batches_of(job):  # and what is computed is what the map carries over
        carried = {
            i.path: evaluate_source(weights.source(i.path), old, i.shape) for i in infos
        }
        assert torch.equal(interpret(job, carried, batch), interpret(job, new, batch))


def test_layer_decay_counts_the_blocks_that_are_left() -> None:
    made = make("bert", num_hidden_layers=4)
    job = edited(made.job, "keep-layers", layers=(0, 3))
    depths = {
        p.path.split(".")[1]: p.depth for p in parameters(job) if "blocks" in p.path
    }
    assert depths == {"0": 1, "1": 2}
    assert {p.depth for p in parameters(job) if p.path.startswith("classifier")} == {3}


@pytest.mark.parametrize(
    ("case", "message", "mend"),
    [
        ({"layers": (0, 4)}, "no block 4: the model has 4", "the last is 3"),
        ({"layers": (2, 0)}, "not in order", "layers = [0, 2]"),
        ({"layers": (1, 1)}, "not in order", "layers = [1]"),
        ({"n": 5}, "has 4 blocks, not 5", "n = 4"),
    ],
)
def test_what_the_model_has_not(case, message, mend) -> None:
    made = make("bert", num_hidden_layers=4)
    with pytest.raises(GenError) as caught:
        EDITS["keep-layers"].run(made.job, **case)
    (found,) = caught.value.diagnostics
    assert found.code == "G240" and message in found.message and mend in found.help
