"""Trained weights of a pruned model, put back into the shape of its checkpoint."""

from __future__ import annotations

import random

import pytest
import torch

from generator.ir.job import Job, parameters
from generator.ir.sources import Init
from generator.ir.text import parse_job, print_job
from generator.passes import NAMED, NAMING, steps
from generator.runtime.interpret import load, run
from generator.runtime.unpruned import unpruned
from tests.edits.support import Tiny, edited, make
from tests.oracle import batches_of
from tests.parity.test_generated_models import KINDS


def fewer(job: Job, draw: random.Random) -> Job:
    """The job with fewer units, heads, blocks and tokens, drawn."""
    blocks = range(len(job.model.blocks))
    for do, total in (
        ("prune-ffn", job.model.sizes["F"]),
        (
            "prune-heads",
            job.model.sizes.get("G", job.model.sizes["H"]),
        ),
    ):
        if total > 1:
            count = draw.randint(1, total - 1)
            kept = {b: tuple(sorted(draw.sample(range(total), count))) for b in blocks}
            job = edited(job, do, kept=kept)
    if len(blocks) > 1:
        job = edited(job, "keep-layers", n=len(blocks) - 1)
    return job


def shaped(job: Job) -> Job:
    *_, named = steps(job, NAMING)
    *_, done = steps(named.job, NAMED)
    return parse_job(print_job(done.job))


def trained(job: Job, made: Tiny, draw: random.Random) -> dict[str, torch.Tensor]:
    """Parameters of the job as training may leave them: all have moved."""
    generator = torch.Generator().manual_seed(draw.randrange(1 << 30))
    return {
        name: x + 0.1 * torch.randn(x.shape, generator=generator).to(x)
        for name, x in load(job, made.tensors).items()
    }


@pytest.mark.parametrize("kind", [*KINDS])
def test_what_was_trained_comes_back(kind):
    made, draw = make(kind), random.Random(kind)
    job = shaped(fewer(made.job, draw))
    state = trained(job, made, draw)
    found = unpruned(job, state, made.tensors)
    assert {k: x.shape for k, x in found.items()} == {
        k: x.shape for k, x in made.tensors.items()
    }
    again = load(job, found)
    for info in parameters(job):
        if not isinstance(info.source, Init):
            torch.testing.assert_close(
                again[info.path].double(), state[info.path].double(), rtol=0, atol=1e-6
            )


@pytest.mark.parametrize("kind", ["bert", "llama", "vit", "distilbert"])
def test_what_was_left_out_is_masked(kind):
    """The checkpoint's own model, whole, computes what the pruned one does."""
    made, draw = make(kind), random.Random(kind)
    units, heads = made.job.model.sizes["F"], made.job.model.sizes.get("G")
    heads = heads or made.job.model.sizes["H"]
    job = made.job
    for do, total in (("prune-ffn", units), ("prune-heads", heads)):
        kept = {
            b: tuple(sorted(draw.sample(range(total), max(1, total // 2))))
            for b in range(len(job.model.blocks))
        }
        job = edited(job, do, kept=kept)
    job = shaped(job)
    state = trained(job, made, draw)
    found = unpruned(job, state, made.tensors)
    whole = load(made.job, found)
    for info in parameters(made.job):  # which no checkpoint holds
        if isinstance(info.source, Init):
            whole[info.path] = state[info.path]
    for batch in batches_of(made.job):
        one, other = (
            run(each, {name: x.double() for name, x in some.items()}, batch)
            for each, some in ((job, state), (made.job, whole))
        )
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_channels_of_rms_norms_come_back_by_their_gains():
    made, draw = make("llama"), random.Random(0)
    total = made.job.model.sizes["C"]
    kept = tuple(sorted(draw.sample(range(total), total // 2)))
    job = shaped(edited(made.job, "prune-width", kept=kept))
    state = trained(job, made, draw)
    found = unpruned(job, state, made.tensors)
    whole = load(made.job, found)
    head = [p.path for p in parameters(made.job) if isinstance(p.source, Init)]
    for path in head:
        wide = torch.zeros_like(whole[path])
        wide[:, list(kept)] = state[path].to(wide)
        whole[path] = wide
    for batch in batches_of(made.job):
        one, other = run(job, state, batch), run(made.job, whole, batch)
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-5)


def test_a_source_that_cannot_be_read_backwards_is_refused():
    made = make("bert")
    job = shaped(
        edited(
            made.job,
            "low-rank",
            on=("ff.up",),
            rank=2,
            blocks=None,
        )
    )
    with pytest.raises(ValueError, match="cannot be read backwards"):
        unpruned(job, load(job, made.tensors), made.tensors)


def test_tensors_that_nothing_was_trained_of_stay():
    made = make("bert")
    job = shaped(edited(made.job, "keep-layers", n=1))
    state = load(job, made.tensors)
    found = unpruned(job, state, made.tensors)
    left = [u.key for u in job.model.unused]
    assert left
    assert all(torch.equal(found[k], made.tensors[k].float()) for k in left)
