"""pool of several kinds and layers: transformers' states of every depth, pooled by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import batches_of, distance
from runtime_support import gen, tiny_bert, write_job
from test_certificate import CASES
from transformers import AutoModel
from whole_support import whole

from generated import assert_same, draft_of, generated
from generator.compile import draft
from generator.ir.cut import blocks_before, halves
from generator.ir.job import Job, parameters
from generator.ir.sources import Init
from generator.passes import EDITS, select_features
from generator.passes import run as run_passes
from generator.runtime import build, frozen
from generator.runtime.interpret import evaluate_source, load
from generator.runtime.interpret import run as interpret
from tests.edits.support import (
    edited,
    in_double,
    labels,
    make,
    refused,
    vectors,
    with_head,
)
from tests.parity.test_generated_models import KINDS

BLOCKS = 3
# What is read: the kinds, the layers as the spec says them, the layers from 0.
READS = {
    "means": (("mean",), (1, -1), (1, 3)),
    "two kinds": (("max", "mean"), (), (3,)),
    "one position": (("one",), (-1, -2), (2, 3)),
    "both": (("one", "mean"), (0, 2, -1), (0, 2, 3)),
}
QUICK = {("bert", case) for case in READS} | {("llama", "both"), ("vit", "both")}
PAIRS = [
    pytest.param(k, c, marks=() if (k, c) in QUICK else pytest.mark.slow)
    for k in KINDS
    for c in READS
]


def several(kind: str, case: str):
    """A tiny model, its job with several vectors, and what they are: kind and layer."""
    kinds, layers, counted = READS[case]
    one = "last" if kind in ("llama", "bert") else "first"
    kinds = tuple(one if k == "one" else k for k in kinds)
    made = make(kind, num_hidden_layers=BLOCKS)
    job = edited(made.job, "pool", kinds=kinds, layers=layers)
    return made, job, [(k, n) for n in counted for k in kinds]


def head_of(kind: str, read, then=labels):
    def head(states, mask, p):
        return then(
            torch.cat([vectors(kind, k, states[n], mask, p) for k, n in read], 1), p
        )

    return head


@pytest.mark.parametrize(("kind", "case"), PAIRS)
def test_equal_to_the_reference_pooled_by_hand(kind, case, tmp_path) -> None:
    made, job, read = several(kind, case)
    model, _ = generated(job, made.tensors, tmp_path)
    with with_head(made.theirs, job, head_of(kind, read), deep=True) as (theirs, new):
        assert_same(model, job, theirs, made.tensors, new=new)
    after, _ = run_passes(job)
    state = dict(model.named_parameters())
    batch = in_double([*batches_of(job)][-1])
    with torch.no_grad():
        want = interpret(after, state, batch)
        assert distance(model(*batch.values()), want) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_map_says_what_the_sources_say(kind) -> None:
    made, _, _ = several(kind, "both")
    job, weights = EDITS["pool"].run(made.job, kinds=("mean",), layers=(1, -1))
    old, new = load(made.job, made.tensors), load(job, made.tensors)
    for info in parameters(job):
        source = weights.source(info.path)
        if isinstance(source, Init):
            assert source == info.source
        else:
            assert torch.equal(evaluate_source(source, old, info.shape), new[info.path])
    left = {p.path for p in parameters(made.job)} - {p.path for p in parameters(job)}
    assert weights.dropped == left


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_behind_a_head_of_its_own(kind, tmp_path) -> None:
    """A head above is made as wide, and one below is of the vectors."""
    made = make(kind, num_hidden_layers=BLOCKS)
    mlp = {"kind": "mlp", "hidden": 5}
    pool = {"kinds": ("mean",), "layers": (1, -1)}
    below = edited(edited(made.job, "pool", **pool), "head", **mlp)
    above = edited(edited(made.job, "head", **mlp), "pool", **pool)
    # All but which edit has left out the old head's weights.
    sources = (draft_of(job) for job in (below, above))
    one, other = (source.replace("by head", "by pool") for source in sources)
    assert one == other
    model, _ = generated(below, made.tensors, tmp_path)
    assert model.classifier.hidden.weight.shape == (5, 2 * made.job.model.sizes["C"])


def frozen_to(job: Job, count: int) -> Job:
    main = job.model.main
    own = [p.name.rpartition(".")[0] or p.name for p in main.parameters]
    parts = [p for i in main.instances for p in i.each()]
    return replace(
        job, frozen=(*dict.fromkeys(own), *(n for n, _, far in parts if far <= count))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_of_a_row_is_its_vector(kind) -> None:
    _, job, read = several(kind, "means")
    done, _ = run_passes(frozen_to(job, BLOCKS))
    assert done.model.cut == "vector"
    _, suffix = halves(done.model)
    width = done.model.sizes["C"] * len(read)
    assert suffix.inputs[0].type.shape[1].value(done.model.sizes) == width
    # Frozen less far it is cut at positions, behind which those of block 1 are not read.
    done, _ = run_passes(frozen_to(job, 2))
    assert len(done.model.main.types[done.model.cut].shape) == 3
    assert blocks_before(done.model) == 1
    done, _ = run_passes(frozen_to(job, 0))
    assert done.model.cut == ""


def test_features_are_selected_of_all_vectors(tmp_path) -> None:
    made, job, read = several("vit", "means")
    total = made.job.model.sizes["C"] * len(read)
    index = tuple(range(1, total, 2))
    after, _ = select_features.run(job, kept=index)
    before, state = load(job, made.tensors), load(after, made.tensors)
    some = state["classifier.label.weight"]
    wide = torch.zeros_like(before["classifier.label.weight"])
    before["classifier.label.weight"] = wide.index_copy(1, torch.tensor(index), some)
    before["classifier.label.bias"] = state["classifier.label.bias"]
    for batch in map(in_double, batches_of(job)):
        want = interpret(job, before, batch)
        torch.testing.assert_close(interpret(after, state, batch), want)


@pytest.mark.parametrize(
    ("kind", "case", "message", "mend"),
    [
        ("bert", {"kind": "mean", "layers": (1, 2)}, "first 2 blocks", '"keep-layers"'),
        ("bert", {"kind": "mean", "layers": (4,)}, "layers has 4", "to 3"),
        ("bert", {"kind": "mean", "layers": (-5,)}, "layers has -5", "-1 is"),
        ("bert", {"kind": "attention", "layers": (0, -1)}, "learned", "first"),
        ("bert", {"kinds": ("mean", "max"), "dense": True}, "several", "leave out"),
        ("llama", {"kinds": ("first", "mean")}, "is causal", '"last"'),
        ("vit", {"kinds": ("last", "mean")}, "no last token", '"first"'),
    ],
)
def test_what_cannot_be_joined(kind, case, message, mend) -> None:
    code, said, help = refused("pool", make(kind, num_hidden_layers=BLOCKS).job, **case)
    assert code == "G260" and message in said and mend in help


def test_joined_once() -> None:
    _, job, _ = several("bert", "means")
    code, message, _ = refused("pool", job, kind="mean")
    assert code == "G260" and "already" in message


# From the spec to the certificate


@pytest.mark.parametrize(
    "case", ["bert, pairs", "llama", pytest.param("vit", marks=pytest.mark.slow)]
)
def test_certificate_holds(case: str, tmp_path: Path) -> None:
    config, sizes, options = CASES[case]
    kinds = ("last", "mean") if case != "vit" else ("first", "mean")
    edits = [("pool", {"kinds": kinds, "layers": (0, -1)})]
    made = whole(tmp_path, config(**sizes), **options, edits=edits)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds or r.measured is None] == []


POOL = '\n[[edit]]\ndo = "pool"\nkinds = ["mean", "first"]\nlayers = [1, -1]\n'


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    spec = write_job(folder, config=tiny_bert(num_hidden_layers=2))
    text = spec.read_text().replace("[train]\n", "[train]\nfreeze = 2\n")
    spec.write_text(text + POOL)
    return spec


def test_extracted_once_and_equal_to_transformers(spec, tmp_path) -> None:
    """The vectors of the rows, from one file, are transformers' states pooled by hand."""
    spec_file = build.load_spec(spec)
    facts = build.facts_for(spec_file)
    assert draft(spec_file, facts).job.model.cut == "vector"
    work = tmp_path / "work"
    work.mkdir()
    weights = spec.parent / "backbone" / "model.safetensors"
    where = (spec.parent, weights, work, work / "features")
    found = frozen.vectors(spec_file, facts, *where, frozen.Asked(splits=("train",)))
    one = found["train"]
    assert [*one.of] == [frozen.HEAD]
    assert len([*(work / "features").glob("*.f32")]) == 1
    model = AutoModel.from_pretrained(spec.parent / "backbone").eval()
    width = model.config.hidden_size
    rows = rows_of(spec, tmp_path)
    for i in range(0, len(one.rows), 5):
        row = int(one.rows[i])
        start, length = rows.tokens.starts[row], rows.tokens.lengths[row]
        with torch.inference_mode():
            ids = rows.tokens.ids[start : start + length].long()[None]
            states = model(ids, output_hidden_states=True).hidden_states
        want = [f for n in (1, 2) for f in (states[n][0].mean(0), states[n][0, 0])]
        assert one.of[frozen.HEAD][i].shape == (4 * width,)
        assert np.abs(one.of[frozen.HEAD][i] - torch.cat(want).numpy()).max() < 1e-6


def rows_of(spec: Path, folder: Path):
    from tests.runtime.test_features import package

    data = package(spec, folder, "joined_rows")
    return data.load_splits(spec.parent, folder / "rows").train


def test_blocks_are_not_counted_again(spec, tmp_path, capsys) -> None:
    text = spec.read_text()
    below = tmp_path / "below.toml"
    below.write_text(text + '\n[[edit]]\ndo = "keep-layers"\nn = 1\n')
    for name in ("backbone", "facts"):
        if (spec.parent / name).exists():
            (tmp_path / name).symlink_to(spec.parent / name)
    assert gen("build", below, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "G267" in said and "above pool" in said
