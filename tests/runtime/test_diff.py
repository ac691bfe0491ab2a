"""`gen diff`: what differs between two jobs, and whether an old checkpoint loads."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime_support import SPECIAL, WORDS, gen, last_json, tiny_bert, write_job
from transformers import RobertaConfig

from generator.ir.job import parameters
from generator.ir.sources import Concatenate, Parameter, Rows
from generator.runtime.diff import sides
from generator.runtime.interpret import evaluate_source
from generator.runtime.migrate import migration

PAIR = {'text = "text"': 'text = ["text", "reply"]'}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def job(folder: Path, name: str, edit: Mapping[str, str] | None = None) -> Path:
    """A spec, with its facts beside it."""
    path = write_job(folder, name=name, edit=edit)
    assert gen("facts", path, "--quiet") == 0
    return path


def compared(a: Path, b: Path, capsys) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = gen("diff", a, b, "--json")
    return code, last_json(capsys.readouterr().out)


def test_the_same_spec_does_not_differ(folder, capsys):
    a = job(folder, "one")
    code, found = compared(a, a, capsys)
    assert code == 0
    assert found["same"] and found["load"] == "strict" and not found["notes"]
    assert gen("diff", a, a) == 0
    assert "the same model" in capsys.readouterr().out


def test_one_backbone_by_two_paths_is_no_difference(folder, capsys):
    """As a point of a search's front has it, in a folder of its own."""
    a = job(folder, "one")
    b = folder / "front" / "1" / "spec.toml"
    b.parent.mkdir(parents=True)
    text = a.read_text()
    assert 'from = "backbone"' in text
    b.write_text(text.replace('from = "backbone"', 'from = "../../backbone"'))
    code, found = compared(a, b, capsys)
    assert code == 0 and found["same"] and not found["words"]
    shutil.copytree(folder / "backbone", folder / "front" / "backbone")
    b.write_text(text.replace('from = "backbone"', 'from = "../backbone"'))
    assert compared(a, b, capsys)[1]["words"] == [
        "The backbone is ../backbone instead of backbone."
    ]


def test_a_setting_alone_leaves_the_model(folder, capsys):
    a = job(folder, "one")
    b = job(folder, "two", {"lr = 5e-3": "lr = 4e-3", "batch = 8": "batch = 4"})
    code, found = compared(a, b, capsys)
    assert code == 1 and found["load"] == "strict"
    assert found["settings"]["train.lr"] == [5e-3, 4e-3]
    assert found["settings"]["train.batch"] == [8, 4]
    assert "The learning rate is 0.004 instead of 0.005." in found["words"]
    assert gen("diff", a, b) == 1
    assert "The learning rate is 0.004 instead of 0.005." in capsys.readouterr().out
    assert not found["classes"] and not found["added"] and not found["removed"]
    assert set(found["cost"]) <= {"train_bytes", "predict_bytes"}


def test_another_label_is_another_head(folder, capsys):
    a = job(folder, "one")
    b = job(folder, "two", {'"good"]': '"good", "so-so"]'})
    code, found = compared(a, b, capsys)
    assert code == 1 and found["load"] == "no" and not found["loads"]
    assert found["reshaped"]["classifier.label.weight"] == [[2, 24], [3, 24]]
    assert any(
        "classifier.label.weight: its shape was" in line for line in found["why"]
    )
    assert gen("diff", a, b) == 1
    shown = capsys.readouterr().out
    assert "an old checkpoint does not load" in shown and "reshaped" in shown


def test_labels_in_another_order_load_and_mean_something_else(folder, capsys):
    a = job(folder, "one", {"[data]": 'head = "new"\n\n[data]'})
    edit = {'"bad", "good"': '"good", "bad"', "[data]": 'head = "new"\n\n[data]'}
    code, found = compared(a, job(folder, "two", edit), capsys)
    assert code == 1 and found["load"] == "strict"
    assert any("labels differ" in note for note in found["notes"])


def test_another_width_and_depth(folder, tmp_path, capsys):
    a = job(folder, "one")
    other = tmp_path / "other"
    config = tiny_bert(num_hidden_layers=3, intermediate_size=41)
    b = write_job(other, name="two", config=config)
    assert gen("facts", b, "--quiet") == 0
    _, found = compared(a, b, capsys)
    assert found["load"] == "no"
    assert any(path.startswith("blocks.2.") for path in found["added"])
    assert [37, 24] in [shapes[0] for shapes in found["reshaped"].values()]
    assert found["cost"]["parameters"][0] < found["cost"]["parameters"][1]
    assert "blocks.1.attention.qkv.weight" in found["added"]  # the last no longer


def test_a_map_makes_a_checkpoint_of_one_text_from_that_of_two(folder, capsys):
    """One text reads one row of the table of segments; two read both."""
    a, b = job(folder, "two_texts", PAIR), job(folder, "one_text")
    code, found = compared(a, b, capsys)
    assert code == 1 and found["load"] == "map"
    assert found["map"] and any("operations differ" in n for n in found["notes"])
    assert gen("diff", a, b) == 1
    assert "a map makes it one that does" in capsys.readouterr().out
    _, back = compared(b, a, capsys)
    assert back["load"] == "no"
    assert any("keeps only a part" in line for line in back["why"])


def test_the_map_is_right(folder, tmp_path):
    """It makes of one package's weights what the other loads of the same backbone."""
    a, b = job(folder, "two_texts", PAIR), job(folder, "one_text")
    gen("build", a, b, "--out", tmp_path / "out", "--quiet")
    weights = folder / "backbone" / "model.safetensors"
    old, new = (
        model_of(tmp_path / "out" / name).load_pretrained(weights).state_dict()
        for name in ("two_texts", "one_text")
    )
    moved = migration(*(side.compiled for side in sides(a, b)))
    assert moved.sources
    for path, want in new.items():
        if path.startswith("classifier.label"):
            continue  # of a new head, which each load draws
        source = moved.sources.get(path, Parameter(path))
        got = evaluate_source(source, old, want.shape)
        assert torch.equal(got, want), path


def model_of(package: Path) -> Any:
    name = f"diffed_{package.name}"
    spec = importlib.util.spec_from_file_location(name, package / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_what_fusing_joined_is_cut_apart_and_joined_again(folder):
    """A model as imported, unfused, from one that has query, key and value as one."""
    side, _ = sides(job(folder, "one"), job(folder, "one"))
    fused = side.compiled
    unfused = replace(fused, job=fused.imported, steps=())
    apart, together = migration(fused, unfused), migration(unfused, fused)
    assert together.kind == "map"
    assert any(isinstance(s, Rows) for s in apart.sources.values())
    assert any(isinstance(s, Concatenate) for s in together.sources.values())
    shapes = {p.path: p.shape for p in parameters(fused.job)}
    old = {path: torch.randn(shape) for path, shape in shapes.items()}
    imported = {}
    for p in parameters(fused.imported):
        if p.path not in apart.missing:
            source = apart.sources.get(p.path, Parameter(p.path))
            imported[p.path] = evaluate_source(source, old, p.shape)
            assert imported[p.path].shape == p.shape
    for path, shape in shapes.items():
        if path.startswith("blocks."):
            source = together.sources.get(path, Parameter(path))
            assert torch.equal(evaluate_source(source, imported, shape), old[path])


def test_a_joined_weight_of_another_shape_is_missing(folder, tmp_path):
    a = job(folder, "one")
    b = write_job(tmp_path / "other", name="two", config=tiny_bert(hidden_size=30))
    assert gen("facts", b, "--quiet") == 0
    moved = migration(*(side.compiled for side in sides(a, b)))
    assert moved.kind == "no" and not moved.sources
    assert "blocks.0.attention.qkv.weight" in moved.missing


def test_another_architecture(folder, tmp_path, capsys):
    a = job(folder, "one")
    config = RobertaConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=37,
        max_position_embeddings=22,
        pad_token_id=0,
    )
    b = write_job(tmp_path / "other", name="two", config=config)
    assert gen("facts", b, "--quiet") == 0
    code, found = compared(a, b, capsys)
    assert code == 1 and found["load"] == "no"
    assert found["settings"]["backbone.architecture"] == ["bert", "roberta"]


def test_a_package_is_compared_by_the_spec_in_it(folder, tmp_path, capsys):
    a, out = job(folder, "one"), tmp_path / "out"
    assert gen("build", a, "--out", out, "--quiet") == 0
    package = out / "one"
    before = sorted(p.relative_to(out) for p in out.rglob("*"))
    assert compared(a, package, capsys) == (0, compared(a, a, capsys)[1])
    a.write_text(a.read_text().replace("lr = 5e-3", "lr = 4e-3"))
    code, found = compared(package, a, capsys)
    assert code == 1 and found["settings"] == {"train.lr": [5e-3, 4e-3]}
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == before


def test_a_package_of_other_facts_is_noted(folder, tmp_path, capsys):
    a, out = job(folder, "one"), tmp_path / "out"
    assert gen("build", a, "--out", out, "--quiet") == 0
    (folder / "backbone" / "README.md").write_text("---\nlicense: mit\n---\n")
    assert gen("facts", a, "--refresh", "--quiet") == 0
    _, found = compared(a, out / "one", capsys)
    assert any("other facts" in note for note in found["notes"])


def test_nothing_is_written_where_facts_are_missing(folder, capsys):
    a = job(folder, "one")
    b = write_job(folder, name="two", edit={"lr = 5e-3": "lr = 4e-3"})
    code, found = compared(a, b, capsys)
    assert code == 1 and list(found["settings"]) == ["train.lr"]
    assert not (folder / "facts" / "two").exists()


def test_errors_are_exit_code_2(folder, tmp_path, capsys):
    a = job(folder, "one")
    assert gen("diff", a, tmp_path / "no.toml") == 2
    assert "no.toml" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert gen("diff", a, empty) == 2
    assert "spec.toml" in capsys.readouterr().err
    b = job(folder, "two")
    shutil.rmtree(folder / "facts" / "two")
    b.write_text(b.read_text().replace('"backbone"', '"elsewhere"'))
    assert gen("diff", a, b) == 2
    assert "G101" in capsys.readouterr().err


def test_what_an_edit_makes_new_is_no_other_new_part(folder, capsys):
    """Alike in how they start, the score and a bias are not each other's weights."""
    last = "lr = 5e-3"
    pool = f'{last}\n\n[[edit]]\ndo = "pool"\nkind = '
    mean, scored = (
        job(folder, "one", {last: pool + '"mean"'}),
        "classifier.score.weight",
    )
    attention = job(folder, "two", {last: pool + '"attention"'})
    fewer = '\n\n[[edit]]\ndo = "keep-layers"\nn = 1'
    short = job(folder, "three", {last: pool + '"attention"' + fewer})
    moved = migration(*(side.compiled for side in sides(mean, attention)))
    assert moved.kind == "no" and dict(moved.missing) == {scored: "it is new"}
    back = migration(*(side.compiled for side in sides(attention, mean)))
    assert back.kind == "map" and back.unused == (scored,)
    cut = migration(*(side.compiled for side in sides(attention, short)))
    assert cut.kind != "strict" and scored not in cut.missing


def test_a_teacher_is_read_with_its_pupil(folder, tmp_path, capsys):
    last = "lr = 5e-3"
    a = job(folder, "one")
    distill = f'{last}\n\n[train.distill]\nteacher = "one.toml"'
    b, out = job(folder, "two", {last: distill}), tmp_path / "out"
    code, found = compared(a, b, capsys)
    assert code == 1 and found["load"] == "strict"
    assert "train.distill.teacher is one.toml; it was not set." in found["words"]
    assert gen("build", b, "--out", out, "--quiet") == 0
    assert compared(b, out / "two", capsys)[0] == 0
    assert compared(out / "two", b, capsys)[0] == 0


def test_two_packages_have_their_teachers_with_them(folder, capsys):
    """Their specs name one that lies where these were, and not beside the packages."""
    last = "lr = 5e-3"
    job(folder, "one")
    distill = f'{last}\n\n[train.distill]\nteacher = "one.toml"\nweight = '
    for name, weight in (("two", "0.5"), ("three", "0.7")):
        path = job(folder, name, {last: distill + weight})
        assert gen("build", path, "--out", folder, "--quiet") == 0
    assert not (folder / "two/one.toml").exists()
    code, found = compared(folder / "two", folder / "three", capsys)
    assert code == 1 and found["load"] == "strict" and not found["classes"]
    assert found["settings"]["distill.weight"] == [0.5, 0.7]
    assert compared(folder / "two", folder / "two", capsys)[0] == 0
    # Of an earlier version, there is none.
    (folder / "two/teacher.toml").unlink()
    assert gen("diff", folder / "two", folder / "three") == 2
    assert "G285" in capsys.readouterr().err
    assert compared(folder / "two", folder / "two.toml", capsys)[0] == 0
