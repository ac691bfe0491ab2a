"""head: equal to transformers' last states with the same head by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from oracle import batches_of
from test_certificate import CASES
from torch import nn
from whole_support import whole

from generated import assert_same, draft_of, generated
from generator.cost import describe
from generator.errors import GenError
from generator.ir.job import Job, parameters
from generator.ir.sources import Init
from generator.passes import EDITS
from generator.passes import run as run_passes
from generator.runtime.interpret import run as interpret
from tests.edits.support import edited, in_double, labels, make, vectors, with_head
from tests.parity.test_generated_models import KINDS

HEADS = [
    {},
    {"kind": "mlp"},
    {"kind": "mlp", "hidden": 7, "activation": "relu", "dropout": 0.2},
    {"kind": "mlp", "activation": "silu", "dropout": 0.0},
    {"dropout": 0.3, "samples": 5},
    {"kind": "mlp", "activation": "tanh", "dropout": 0.3, "samples": 2},
]
ACTIVATIONS = {
    "gelu": nn.GELU(),
    "relu": nn.ReLU(),
    "silu": nn.SiLU(),
    "tanh": nn.Tanh(),
}
READ = {"llama": "last"}  # where it is not the first


def by_hand(kind, case, pool=None):
    def head(x, mask, p):
        x = vectors(kind, pool or READ.get(kind, "first"), x, mask, p)
        if case.get("kind") == "mlp":
            x = x @ p["hidden.weight"].T + p["hidden.bias"]
            x = ACTIVATIONS[case.get("activation", "gelu")](x)
        return labels(x, p)

    return head


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", HEADS, ids=str)
def test_equal_to_the_reference_with_the_head_by_hand(kind, case, tmp_path) -> None:
    made = make(kind)
    job = edited(made.job, "head", **case)
    model, _ = generated(job, made.tensors, tmp_path)
    with with_head(made.theirs, job, by_hand(kind, case)) as (theirs, new):
        assert_same(model, job, theirs, made.tensors, new=new)
    model.load_state_dict(model.state_dict(), strict=True)
    after, _ = run_passes(job)
    for batch in batches_of(job):
        given = in_double(batch)
        with torch.no_grad():
            want = interpret(after, dict(model.named_parameters()), given)
            torch.testing.assert_close(model(*given.values()), want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [("pool", "head"), ("head", "pool")])
def test_beside_a_pooling(kind, order, tmp_path) -> None:
    made = make(kind)
    case = {"kind": "mlp", "hidden": 9}
    arguments = {"pool": {"kind": "max"}, "head": case}
    job = made.job
    for do in order:
        job = edited(job, do, **arguments[do])
    model, _ = generated(job, made.tensors, tmp_path)
    with with_head(made.theirs, job, by_hand(kind, case, "max")) as (theirs, new):
        assert_same(model, job, theirs, made.tensors, new=new)


@pytest.mark.parametrize("kind", KINDS)
def test_one_head_after_another_is_the_last(kind) -> None:
    made = make(kind)
    first = edited(made.job, "head", kind="mlp", hidden=5, dropout=0.5, samples=3)
    second = edited(first, "head", kind="mlp", hidden=6, dropout=0.1)
    once = edited(made.job, "head", kind="mlp", hidden=6, dropout=0.1)
    assert draft_of(second) == draft_of(once)
    assert describe(run_passes(second)[0]) == describe(run_passes(once)[0])


def test_all_of_it_is_new(tmp_path) -> None:
    made = make("bert")
    job = edited(made.job, "head", kind="mlp", hidden=4)
    new = {p.path for p in parameters(job) if isinstance(p.source, Init)}
    names = ("hidden.weight", "hidden.bias", "label.weight", "label.bias")
    assert new == {f"classifier.{name}" for name in names}
    left = {u.key for u in job.model.unused if u.reason == "left out by head"}
    assert left == {
        f"{stem}.{end}"
        for stem in ("bert.pooler.dense", "classifier")
        for end in ("weight", "bias")
    }


def test_samples_average_the_logits_of_several_masks(tmp_path) -> None:
    """In training: the logits of one mask differ more from each other than their mean."""
    made = make("bert")

    def spread(samples: int) -> float:
        job = edited(made.job, "head", dropout=0.5, samples=samples)
        folder = tmp_path / str(samples)
        folder.mkdir()
        torch.manual_seed(0)  # of the new weights, and of the masks
        model, module = generated(job, made.tensors, folder)
        assert ("mean_dropout" in vars(module)) == (samples > 1)
        model.classifier.train()
        batch = next(iter(batches_of(job)))
        with torch.no_grad():
            return float(
                torch.stack([model(*batch.values()) for _ in range(600)]).var(0).mean()
            )

    assert 6 < spread(1) / spread(9) < 13


def test_samples_keep_a_mask_each() -> None:
    made = make("bert")

    def kept(samples: int) -> int:
        job: Job = edited(made.job, "head", dropout=0.5, samples=samples)
        return describe(run_passes(job)[0], 8, 4).saved_bytes

    width = made.job.model.sizes["C"]
    assert kept(3) - kept(1) == 2 * 4 * 4 * width


@pytest.mark.parametrize(
    ("kind", "case", "message", "mend"),
    [
        ("bert", {"hidden": 4}, "a linear head has no hidden", '"mlp"'),
        ("bert", {"activation": "relu"}, "has no activation", '"mlp"'),
        ("llama", {"samples": 5}, "this head has none", "dropout = 0.1"),
        ("bert", {"samples": 5, "dropout": 0.0}, "this head has none", "leave out"),
    ],
)
def test_keys_that_contradict_each_other(kind, case, message, mend) -> None:
    with pytest.raises(GenError) as caught:
        EDITS["head"].run(make(kind).job, **case)
    (found,) = caught.value.diagnostics
    assert found.code == "G261" and message in found.message and mend in found.help


@pytest.mark.parametrize(
    "edits",
    [
        [("head", {"kind": "mlp", "hidden": 8, "dropout": 0.2, "samples": 3})],
        [("pool", {"kind": "attention"}), ("head", {"kind": "mlp"})],
        [("head", {}), ("keep-layers", {"n": 1})],
    ],
    ids=str,
)
@pytest.mark.parametrize("case", ["bert", "distilbert", "llama", "vit"])
def test_certificate_holds(case: str, edits, tmp_path: Path) -> None:
    config, sizes, options = CASES[case]
    made = whole(tmp_path, config(**sizes), **options, edits=edits)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds or r.measured is None] == []
