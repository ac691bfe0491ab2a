"""`gen data`: what became of rows, counted, on a page for people and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runtime_support import write_job

from generator.cli import main
from generator.runtime import data_report, guarded
from generator.runtime.data_counts import fitted, label_counts, spreads


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """A job of which some rows cannot be used: one without a label that is known, one
    without a text, and one whose text the test has too."""
    folder = tmp_path_factory.mktemp("data_report")
    spec = write_job(folder)
    train, test = folder / "rows/train.csv", folder / "rows/test.csv"
    shared = test.read_text().splitlines()[1]
    with train.open("a") as file:
        file.write('"call 030 1234567, a@b.org",other\n ,good\n' + shared + "\n")
    return spec


@pytest.fixture(scope="module")
def found(job, tmp_path_factory) -> dict:
    work = tmp_path_factory.mktemp("work")
    out = tmp_path_factory.mktemp("out")
    arguments = [str(job), "--work", str(work), "--out", str(out), "--json"]
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as said:
        assert main(["data", *arguments]) == 0
    return json.loads(said.getvalue())


def test_every_row_is_used_or_put_aside(found, job) -> None:
    lines = (job.parent / "rows/train.csv").read_text().splitlines()[1:]
    aside = [(one["reason"], sum(one["files"].values())) for one in found["put_aside"]]
    train = found["splits"]["train"]
    in_train = sum(one["files"].get("rows/train.csv", 0) for one in found["put_aside"])
    assert train["rows"] + in_train == len(lines)
    reasons = {reason for reason, _ in aside}
    assert "unknown label 'other'" in reasons
    assert "the text is also in test" in reasons
    assert '"text" is empty or not a text' in reasons


def test_labels_and_lengths_are_those_of_the_rows(found, job) -> None:
    lines = (job.parent / "rows/valid.csv").read_text().splitlines()[1:]
    valid = found["splits"]["valid"]
    assert (
        sum(valid["labels"].values())
        == valid["rows"]
        == sum(valid["lengths"]["counts"])
    )
    assert valid["labels"]["good"] <= sum(line.endswith(",good") for line in lines)
    longest = max(len(line.rsplit(",", 1)[0].split()) for line in lines) + 2
    assert valid["lengths"]["quantiles"]["1.0"] <= longest


def test_the_page_shows_what_was_put_aside_without_what_is_personal(found) -> None:
    html = Path(found["report"]["html"]).read_text()
    text = Path(found["report"]["markdown"]).read_text()
    for page in (html, text):
        assert "unknown label" in page
        assert "a@b.org" not in page and "1234567" not in page
    assert "http" not in re.sub(r"<!doctype html>", "", html)  # nothing from elsewhere
    assert html.count("<svg") == 2


def test_a_job_whose_rows_cannot_serve_is_told_why(job, tmp_path, capfd) -> None:
    arguments = ["--work", str(tmp_path / "w"), "--out", str(tmp_path / "out")]
    assert main(["data", str(job), "--root", str(tmp_path), *arguments]) == 1
    assert "--root is the folder that paths start from" in capfd.readouterr().err


def test_spreads_have_common_edges() -> None:
    found = spreads({"a": torch.tensor([1, 2, 2, 9]), "b": torch.tensor([100])})
    assert found["a"]["edges"] == found["b"]["edges"]
    assert sum(found["a"]["counts"]) == 4 and sum(found["b"]["counts"]) == 1
    assert found["a"]["quantiles"]["1.0"] == 9 and found["a"]["mean"] == 3.5
    same = spreads({"a": torch.tensor([0.5, 0.5])})["a"]
    assert sum(same["counts"]) == 2


def test_labels_of_several_are_counted_one_by_one() -> None:
    assert label_counts(torch.tensor([[1.0, 0, 1], [1, 0, 0]]), 3) == [2, 0, 1]
    assert label_counts(torch.tensor([2, 0, 2]), 4) == [1, 0, 2, 0]


def test_features_are_told_as_they_were_fitted() -> None:
    """Of columns and texts, with what each split lacks of them; and which numbers stay."""
    features = SimpleNamespace(
        SCALED=("age", "length of text"), MISSABLE=(0,), CATEGORICAL=("a", "b"), MOST=2
    )
    known = SimpleNamespace(
        means=(4.0, 2.5), deviations=(0.0, 0.5), categories=(("x", "y"), ("z",))
    )
    # What is standardised, the turns of a date, what is missing.
    numbers = torch.tensor([[0.1, 0.2, -0.5, 0.0], [0.0, 0.3, -0.5, 1.0]])
    rows = {
        "train": torch.tensor([[1, 4], [2, 4]]),
        "test": torch.tensor([[0, 4], [1, 3]]),
    }
    splits = {
        split: SimpleNamespace(
            fitted=known, columns=SimpleNamespace(numbers=numbers, categories=some)
        )
        for split, some in rows.items()
    }
    told = fitted(features, splits)
    assert [one["missing"] for one in told["numbers"]] == [
        {"train": 0.5, "test": 0.5},
        {},
    ]
    assert told["categories"] == [
        {"column": "a", "known": ("x", "y"), "unknown": {"train": 0.0, "test": 0.5}},
        {"column": "b", "known": ("z",), "unknown": {"train": 0.0, "test": 0.5}},
    ]
    about = {"features": told, "splits": dict.fromkeys(splits)}
    scaled, categories = data_report.feature_tables(about)
    assert scaled.rows[0] == ("age", "4", "0", "50.0%", "50.0%")
    assert "says nothing" in scaled.note
    assert scaled.rows[1] == ("length of text", "2.5", "0.5", "", "")
    assert categories.rows[1] == ("b", "z", "0.0%", "50.0%")
    told["categories"][1]["known"] = [f"shop {i}" for i in range(100)]
    _, categories = data_report.feature_tables(about)
    assert categories.rows[1][1].endswith(", shop 39 and 60 more")
    words = data_report.chosen({"by": "anova", "kept": list(range(2, 90)), "of": 384})
    assert "Of the 384 numbers" in words and "reads 88" in words
    assert "2, 3, 4" in words and words.endswith(", 41, ...")
    assert data_report.feature_tables({"splits": {}}) == ()


def test_excerpts_are_short_and_hide_numbers() -> None:
    text = data_report.excerpt(
        "write to max@mail.example or +49 (30) 123-4567 " + "x" * 999
    )
    assert "max" not in text and "123" not in text and len(text) <= data_report.ROOM


def test_rows_that_the_guard_took_out_stay_out(tmp_path: Path) -> None:
    """Whatever reads the rows of a run again sees those that were trained on."""
    told = {
        "sizes": {"train": 3},
        "leaving": {"train": {"1": ["leaks: why", "a note"]}},
    }
    (tmp_path / "guard.json").write_text(json.dumps(told))

    def load_splits(root, work, inspect=None):
        return inspect

    checked = SimpleNamespace(load_splits=load_splits)
    inspect = guarded.taken_out(checked, tmp_path)["inspect"]
    assert inspect({"train": [0, 1, 2]}) == {"train": {1: ("leaks: why", "a note")}}
    assert inspect({"train": [0, 1]}) == {}  # what was found is of other rows
    plain = SimpleNamespace(load_splits=lambda root, work: None)
    assert guarded.taken_out(plain, tmp_path) == {}
    assert guarded.taken_out(checked, tmp_path / "elsewhere") == {}
