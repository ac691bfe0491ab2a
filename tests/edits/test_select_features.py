"""select-features: equal to all features and a head whose weights are zero elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import batches_of
from runtime_support import gen, last_json, tiny_bert, write_job
from safetensors.torch import load_file
from test_certificate import CASES
from whole_support import whole

from generated import generated
from generator.arguments import features_list
from generator.errors import GenError
from generator.ir.head import classifier, selection, vector
from generator.ir.job import Job, parameters
from generator.ir.sources import Init
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from generator.passes import run as run_passes
from generator.passes import select_features
from generator.render import kept as lists
from generator.runtime.interpret import load
from generator.runtime.interpret import run as interpret
from generator.runtime.programs import Programs
from tests.edits.support import as_mapped, edited, in_double, make
from tests.edits.test_scores import scores_of
from tests.parity.test_generated_models import KINDS

EDITS = {
    "as it is": (),
    "mean": (("pool", {"kind": "mean"}),),
    "mlp": (("head", {"kind": "mlp", "hidden": 5}),),
    "narrower": (("prune-width", {"kept": (0, 2, 3, 5)}),),
}


def every_other(job: Job) -> tuple[int, ...]:
    """Some numbers of the vector of a job."""
    found = classifier(job.model)
    total = found.module.types[vector(found)].shape[-1].value(job.model.sizes)
    return tuple(range(1, total, 2))


def selected(job: Job) -> Job:
    after, _ = select_features.run(job, kept=every_other(job))
    verify(after, after="select-features")
    assert parse_job(print_job(after)) == after
    return after


def made_with(kind: str, edits: str):
    made = make(kind)
    job = made.job
    for do, arguments in EDITS[edits]:
        if do == "prune-width":
            width = job.model.sizes["C"]
            arguments = {
                "kept": tuple(range(0, width, 2)) if width < 6 else (0, 2, 3, 5)
            }
        job = edited(job, do, **arguments)
    return made, job


SLOW = pytest.mark.slow
QUICK = ("bert", "vit")  # of the kinds, for what is much the same in all
EQUAL = [(kind, "as it is") for kind in KINDS] + [
    pytest.param(kind, edits, marks=() if kind in QUICK else SLOW)
    for kind in KINDS
    for edits in ("mean", "mlp")
]


@pytest.mark.parametrize(("kind", "edits"), EQUAL)
def test_equal_to_all_features_with_zeros_for_the_others(kind, edits, tmp_path) -> None:
    made, job = made_with(kind, edits)
    after = selected(job)
    index = torch.tensor(every_other(job))
    before, state = load(job, made.tensors), load(after, made.tensors)
    of = selection(after.model)
    assert of is not None
    matrix = state[of.matrix]
    assert matrix.shape[1] == len(index) and of.total == before[of.matrix].shape[1]
    wide = torch.zeros_like(before[of.matrix])
    before[of.matrix] = wide.index_copy(1, index, matrix)
    if edits != "as it is" or kind in ("vit", "llama", "roberta"):
        assert any(op.kind == "select" for m in after.model.modules for op in m.ops)
    if found := lists.render(after):
        (tmp_path / lists.FILE).write_bytes(found)
    model, _ = generated(after, made.tensors, tmp_path)
    done, _ = run_passes(after)
    for batch in batches_of(job):
        given = in_double(batch)
        want = interpret(job, before, given)
        torch.testing.assert_close(interpret(after, state, given), want)
        own = dict(model.named_parameters())
        with torch.no_grad():
            torch.testing.assert_close(
                model(*given.values()), interpret(done, own, given)
            )
    model.load_state_dict(model.state_dict(), strict=True)
    buffers = dict(model.named_buffers())
    for name in buffers.keys() & {"classifier.features"}:
        assert torch.equal(buffers[name], index)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_mapped(kind) -> None:
    made, job = made_with(kind, "as it is")
    after, weights = select_features.run(job, kept=every_other(job))
    fresh = {p.path for p in parameters(after) if isinstance(p.source, Init)}
    as_mapped(job, after, weights, made.tensors) if not fresh else None
    for path, source in weights.changed.items():
        assert isinstance(source, Init) == (path in fresh)


def test_a_dense_layer_of_the_checkpoint_loses_its_rows() -> None:
    made = make("bert")
    after = selected(made.job)
    assert not any(op.kind == "select" for m in after.model.modules for op in m.ops)
    shapes = {p.path: p.shape for p in parameters(after)}
    width, few = made.job.model.sizes["C"], len(every_other(made.job))
    assert shapes["classifier.pool.weight"] == (few, width)
    assert shapes["classifier.pool.bias"] == (few,)


def test_an_unread_feature_changes_nothing(tmp_path) -> None:
    """What the checkpoint has for it may be anything: it is never read."""
    made = make("bert")
    after = selected(made.job)
    state = load(after, made.tensors)
    other = dict(made.tensors)
    key = "bert.pooler.dense.weight"
    other[key] = other[key].clone()
    other[key][0] = 1e3  # number 0 is none of those that stay
    (batch,) = [*batches_of(after)][-1:]
    one = interpret(after, state, in_double(batch))
    assert torch.equal(interpret(after, load(after, other), in_double(batch)), one)


@pytest.mark.parametrize("count", [0, 1])
def test_as_many_as_there_are_cannot_be_chosen(count) -> None:
    job = make("bert").job
    width = job.model.sizes["C"]
    with pytest.raises(GenError) as caught:
        select_features.run(job, kept=range(width * count))
    (found,) = caught.value.diagnostics
    assert found.code == "G391" and f"{width} numbers" in found.message


CERTIFIED = [
    ("bert", "as it is"),
    ("llama", "narrower"),
    ("vit", "mlp"),
    pytest.param("bert", "mean", marks=SLOW),
    pytest.param("roberta", "as it is", marks=SLOW),
    pytest.param("llama", "as it is", marks=SLOW),
    pytest.param("vit", "narrower", marks=SLOW),
    pytest.param("distilbert", "as it is", marks=SLOW),
]


@pytest.mark.parametrize(("case", "edits"), CERTIFIED)
def test_certificate_holds(case: str, edits: str, tmp_path: Path) -> None:
    config, sizes, options = CASES[case]
    given: dict[str, Any] = {**options, "edits": EDITS[edits], "edit": selected}
    made = whole(tmp_path, config(**sizes), **given)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds or r.measured is None] == []


SELECT = '\n[features.select]\nby = "{}"\nkeep = {}\n'


def spec_with(folder: Path, by: str = "anova", keep: Any = 8, more: str = "") -> Path:
    spec = write_job(folder, config=tiny_bert())
    spec.write_text(spec.read_text() + SELECT.format(by, keep) + more)
    return spec


@pytest.mark.slow
def test_a_job_with_selection_whole(tmp_path, capsys) -> None:
    mean = '\n[[edit]]\ndo = "pool"\nkind = "mean"\n'
    spec, out = spec_with(tmp_path, keep=0.5, more=mean), tmp_path / "out"
    assert gen("build", spec, "--out", out) == 2
    said = capsys.readouterr().err
    assert "G390" in said and "gen calibrate" in said and 'by = "anova"' in said
    assert gen("calibrate", spec, "--quiet") == 0
    (name,) = scores_of(tmp_path)
    values = scores_of(tmp_path)[name]
    best = sorted(sorted(range(24), key=lambda i: (-values[i], i))[:12])
    work = tmp_path / "work"
    run = ("run", spec, "--out", out, "--work", work, "--no-bench", "--json")
    assert gen(*run) == 0
    figures = last_json(capsys.readouterr().out)
    assert figures["probe"]["width"] in (12, 24)
    assert [e["after"] for e in figures["edits"]][1:] == ["pool", "select-features"]
    trained = load_file(work / "model.safetensors")
    assert trained["classifier.features"].tolist() == best
    assert trained["classifier.label.weight"].shape == (2, 12)
    assert gen("check", spec, "--out", out, "--quiet") == 0
    # Scores are of these rows, edits and cleaning, and of no others.
    spec.write_text(spec.read_text().replace('"mean"', '"max"'))
    assert gen("build", spec, "--out", out) == 2
    assert "other vectors" in capsys.readouterr().err


TABLE = """\
[features]
numeric = ["price"]
categorical = ["shop"]
"""


def test_two_texts_a_number_and_a_category_with_selection(tmp_path, capsys) -> None:
    """Trains, predicts and certifies; what is not selected is of no consequence."""
    spec, out = spec_with(tmp_path, by="l1", keep=8), tmp_path / "out"
    text = spec.read_text().replace('text = "text"', 'text = ["text", "again"]')
    spec.write_text(text.replace("[features.select]", TABLE + "[features.select]"))
    for path in (tmp_path / "rows").iterdir():
        lines = path.read_text().splitlines()
        more = [
            f"{line},a {i % 3} film,{i % 7},{'ab'[i % 2]}"
            for i, line in enumerate(lines)
        ]
        path.write_text("\n".join([f"{lines[0]},again,price,shop", *more[1:]]) + "\n")
    assert gen("calibrate", spec, "--quiet") == 0
    (values,) = scores_of(tmp_path).values()
    assert len(values) == 24  # of the backbone's vector, and not of what joins it
    run = (
        "run",
        spec,
        "--out",
        out,
        "--work",
        tmp_path / "work",
        "--no-bench",
        "--json",
    )
    assert gen(*run) == 0, capsys.readouterr().err
    figures = last_json(capsys.readouterr().out)
    assert all(c["holds"] for c in figures["certificate"])
    assert sum(c["measured"] is not None for c in figures["certificate"]) >= 8
    # The probe has what rows have beside the vector, too: the price, whether it is missing,
    # and two shops.
    assert (figures["probe"]["width"], figures["probe"]["columns"]) == (24, 4)
    trained = load_file(tmp_path / "work" / "model.safetensors")
    kept = trained["classifier.features"].tolist()
    assert kept == sorted(sorted(range(24), key=lambda i: (-values[i], i))[:8])
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = last_json(capsys.readouterr().out)["checks"]
    assert all(c["holds"] for c in checks)
    assert "gradients, fp64" in {c["name"] for c in checks if c["measured"] is not None}
    predict = Programs(out, "tiny_job").module(
        "predict",
        *("--weights", tmp_path / "work" / "model.safetensors"),
        *("--input", tmp_path / "rows" / "test.csv"),
        output="keep",
    )
    assert predict.code == 0 and len(predict.output.splitlines()) >= 32


def test_scores_see_no_rows_but_those_of_training(tmp_path, capsys) -> None:
    found = []
    for name in ("one", "two"):
        spec = spec_with(tmp_path / name)
        if name == "two":
            for split in ("valid", "test"):
                path = spec.parent / "rows" / f"{split}.csv"
                lines = path.read_text().splitlines()
                path.write_text("\n".join([lines[0], *lines[3:]]) + "\n")
        assert gen("calibrate", spec, "--quiet") == 0
        found.append(scores_of(tmp_path / name))
    assert found[0] == found[1]


def test_the_name_of_scores_follows_from_what_they_are_of() -> None:
    made = make("bert")
    one = features_list("anova", made.job)
    pooled = edited(made.job, "pool", kind="mean")
    assert one != features_list("anova", pooled)
    assert one != features_list("l1", made.job)
    assert one == features_list("anova", made.job)
    # What is said of the tokenizer changes nothing: it is one of the files.
    inputs = replace(made.job.data.inputs, bare=True)
    framed = replace(made.job, data=replace(made.job.data, inputs=inputs))
    assert one == features_list("anova", framed)
