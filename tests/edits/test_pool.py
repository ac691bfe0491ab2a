"""pool: equal to transformers' last states, pooled by hand here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from oracle import batches_of, call_oracle, distance
from runtime_support import gen, last_json, write_job
from test_certificate import CASES
from torch import Tensor
from whole_support import whole

from generated import assert_same, draft_of, generated
from generator.errors import GenError
from generator.ir.job import parameters
from generator.ir.sources import Init
from generator.passes import EDITS
from generator.passes import run as run_passes
from generator.runtime.interpret import evaluate_source, load
from generator.runtime.interpret import run as interpret
from tests.edits.support import edited, in_double, labels, make, vectors, with_head
from tests.parity.test_generated_models import KINDS

POOLS = ("first", "last", "mean", "max", "attention")
# Those that a model does not have, or has already.
WITHOUT = {("vit", "first"), ("vit", "last"), ("llama", "first"), ("llama", "last")}
PAIRS = [(k, p) for k in KINDS for p in POOLS if (k, p) not in WITHOUT]


@pytest.mark.parametrize(("kind", "pool"), PAIRS)
def test_equal_to_the_reference_pooled_by_hand(kind, pool, tmp_path) -> None:
    made = make(kind)
    job = edited(made.job, "pool", kind=pool)
    assert job.reference.head
    model, _ = generated(job, made.tensors, tmp_path)
    if pool == "attention":
        assert not model.classifier.score.weight.any()  # it starts as the mean
        torch.nn.init.normal_(model.classifier.score.weight)

    def head(x, mask, p):
        return labels(vectors(kind, pool, x, mask, p), p)

    with with_head(made.theirs, job, head) as (theirs, new):
        assert_same(model, job, theirs, made.tensors, new=new)
    model.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize(("kind", "pool"), PAIRS)
def test_the_interpreter_says_the_same(kind, pool, tmp_path) -> None:
    made = make(kind)
    job = edited(made.job, "pool", kind=pool)
    model, _ = generated(job, made.tensors, tmp_path)
    after, _ = run_passes(job)
    state = dict(model.named_parameters())
    for batch in batches_of(job):
        given = in_double(batch)
        with torch.no_grad():
            want = interpret(after, state, given)
            assert distance(model(*given.values()), want) < 1e-9


@pytest.mark.parametrize(("kind", "pool"), PAIRS)
def test_padding_is_never_read(kind, pool, tmp_path) -> None:
    if kind == "vit":
        pytest.skip("images have none")
    made = make(kind)
    job = edited(made.job, "pool", kind=pool)
    model, _ = generated(job, made.tensors, tmp_path)
    for batch in map(in_double, batches_of(job)):
        mask = batch["mask"]
        if mask is None or mask.all():
            continue
        ids = batch["ids"].masked_fill(~mask, 3)
        with torch.no_grad():
            got = model(*{**batch, "ids": ids}.values())
            assert torch.equal(got, model(*batch.values()))
            for row, length in enumerate(mask.sum(1).tolist()):
                one = [t[row : row + 1, :length] for t in batch.values()]
                alone = model(*one[:-1], None)
                assert distance(alone, got[row : row + 1]) < 1e-9


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"llama", "vit"}))
def test_the_dense_layer_stays_where_it_is_asked_for(kind, tmp_path) -> None:
    made = make(kind)
    assert edited(made.job, "pool", kind="first", dense=True) == made.job
    job = edited(made.job, "pool", kind="mean", dense=True)
    assert not [p for p in parameters(job) if isinstance(p.source, Init)]
    model, _ = generated(job, made.tensors, tmp_path)
    activation = {
        "electra": torch.nn.functional.gelu,
        "distilbert": torch.relu,
    }.get(kind, torch.tanh)

    def head(x, mask, p):
        x = vectors(kind, "mean", x, mask, p)
        return labels(activation(x @ p["pool.weight"].T + p["pool.bias"]), p)

    with with_head(made.theirs, job, head) as (theirs, new):
        assert_same(model, job, theirs, made.tensors, new=new)


@pytest.mark.parametrize(("kind", "pool"), [("vit", "first"), ("llama", "last")])
def test_what_it_is_already_changes_nothing(kind, pool) -> None:
    job = make(kind).job
    assert edited(job, "pool", kind=pool) == job


@pytest.mark.parametrize(("kind", "pool"), PAIRS)
def test_only_one_position_is_computed_where_one_is_read(kind, pool) -> None:
    job = edited(make(kind, num_hidden_layers=2).job, "pool", kind=pool)
    prefix = {"first": "FirstToken", "last": "LastToken"}.get(pool)
    source = draft_of(job)
    assert ("FirstToken" in source) == (prefix == "FirstToken")
    assert ("LastToken" in source) == (prefix == "LastToken")


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_again_is_pooling_once(kind) -> None:
    made = make(kind)
    for one, other in (("mean", "attention"), ("attention", "max"), ("max", "mean")):
        twice = edited(edited(made.job, "pool", kind=one), "pool", kind=other)
        once = edited(made.job, "pool", kind=other)
        assert draft_of(twice) == draft_of(once)


@pytest.mark.parametrize("kind", KINDS)
def test_beside_fewer_blocks(kind, tmp_path) -> None:
    made = make(kind, num_hidden_layers=3)
    pool, keep = ("pool", {"kind": "mean"}), ("keep-layers", {"layers": (0, 2)})
    orders = ((pool, keep), (keep, pool))
    jobs = []
    for order in orders:
        job = made.job
        for do, arguments in order:
            job = edited(job, do, **arguments)
        jobs.append(job)
    assert jobs[0] == jobs[1]
    model, _ = generated(jobs[0], made.tensors, tmp_path)
    assert len(model.blocks) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_map_says_what_the_sources_say(kind) -> None:
    made = make(kind)
    job, weights = EDITS["pool"].run(made.job, kind="attention")
    old, new = load(made.job, made.tensors), load(job, made.tensors)
    for info in parameters(job):
        source = weights.source(info.path)
        if isinstance(source, Init):
            assert source == info.source
        else:
            assert torch.equal(evaluate_source(source, old, info.shape), new[info.path])
    left = {p.path for p in parameters(made.job)} - {p.path for p in parameters(job)}
    assert weights.dropped == left


@pytest.mark.parametrize("kind", KINDS)
def test_trains_as_by_hand(kind, tmp_path) -> None:
    made = make(kind)
    job = edited(made.job, "pool", kind="attention")
    model, _ = generated(job, made.tensors, tmp_path)

    def head(x, mask, p):
        return labels(vectors(kind, "attention", x, mask, p), p)

    batch = in_double(list(batches_of(job))[-1])
    with with_head(made.theirs, job, head) as (theirs, new):
        with torch.no_grad():
            for ours, name in new.items():
                theirs.get_parameter(name).copy_(model.get_parameter(ours))
        seen: list[Tensor] = []
        for _ in range(3):
            pair = [model(*batch.values()), call_oracle(theirs, batch)["logits"]]
            seen.append(pair[0].detach())
            assert distance(pair[0].detach(), pair[1].detach()) < 1e-9
            for net, logits in zip((model, theirs), pair):
                net.zero_grad()
                logits.square().sum().backward()
                with torch.no_grad():
                    for p in net.parameters():
                        if p.grad is not None:
                            p -= 1e-3 * p.grad
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize(
    ("kind", "case", "message", "mend"),
    [
        ("llama", {"kind": "first"}, "its attention is causal", '"last"'),
        ("vit", {"kind": "last"}, "no last token", '"first"'),
        ("llama", {"kind": "mean", "dense": True}, "no dense layer", "leave out"),
    ],
)
def test_what_the_model_has_not(kind, case, message, mend) -> None:
    with pytest.raises(GenError) as caught:
        EDITS["pool"].run(make(kind).job, **case)
    (found,) = caught.value.diagnostics
    assert found.code == "G260" and message in found.message and mend in found.help


# From the spec to the certificate


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("case", ["bert, pairs", "roberta", "electra", "llama", "vit"])
def test_certificate_holds(case: str, pool: str, tmp_path: Path) -> None:
    if (case, pool) in {("llama", "first"), ("vit", "last")}:
        return
    config, sizes, options = CASES[case]
    edits = [("pool", {"kind": pool})]
    made = whole(tmp_path, config(**sizes), **options, edits=edits)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds or r.measured is None] == []


def test_certificate_sees_a_wrong_head(tmp_path: Path) -> None:
    config, sizes, options = CASES["bert"]
    edits = [("pool", {"kind": "mean"})]
    made = whole(tmp_path, config(**sizes), **options, edits=edits)
    made.edit("model", "real.sum(dim=1) / mask", "x.sum(dim=1) / mask")
    found = made.module("test_model").certificate(made.weights)
    wrong = {r.name for r in found if not r.holds}
    assert {"logits, fp64", "gradients, fp64"} <= wrong
    assert "blocks, fp64" not in wrong


def test_from_the_spec_to_the_certificate(tmp_path, capsys) -> None:
    spec, out = write_job(tmp_path), tmp_path / "out"
    spec.write_text(spec.read_text() + '\n[[edit]]\ndo = "pool"\nkind = "avg"\n')
    assert gen("build", spec, "--out", out, "--quiet") == 2
    assert '"mean"' in capsys.readouterr().err
    spec.write_text(spec.read_text().replace('"avg"', '"mean"'))
    assert gen("build", spec, "--out", out, "--json") == 0
    (built,) = last_json(capsys.readouterr().out)
    assert "classifier.label" in " ".join(built["notes"])
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = {c["name"]: c for c in last_json(capsys.readouterr().out)["checks"]}
    for name in ("logits, fp64", "blocks, fp64", "gradients, fp64"):
        assert checks[name]["measured"] < 1e-9, name
