"""Searches of other jobs than texts with one label, to their tested fronts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from runtime_support import (
    gen,
    tiny_bert,
    write_backbone,
    write_job,
    write_photos,
)

from generator.runtime.programs import Programs

SEARCH = """
[search]
objectives = ["metric", "{}"]
space = "none"
trials = 1
rungs = [1.0]
seeds = 1
points = 1
{}

[[search.vary]]
key = "prune-ffn.keep"
choices = ["off"]

[[search.vary]]
key = "train.lr"
low = 1e-3
high = 2e-3
"""
CONFIG = tiny_bert(
    num_hidden_layers=2, num_attention_heads=4, hidden_size=32, intermediate_size=64
)


def changed(
    folder: Path, change: Callable[[int, dict[str, str]], Mapping[str, str]]
) -> None:
    """The rows of a job with other columns."""
    for path in (folder / "rows").glob("*.csv"):
        with open(path, newline="") as file:
            rows = [change(i, row) for i, row in enumerate(csv.DictReader(file))]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)


def several(folder: Path) -> Path:
    """Texts that may have both labels, and of which more is known."""
    edit = {
        "text-classification": "multi-label",
        'label = "label"\n': 'label = "label"\nseparator = ";"\n',
    }
    path = write_job(folder, config=CONFIG, rows=32, edit=edit)

    def change(i: int, row: dict[str, str]) -> Mapping[str, str]:
        both = {"good": "good;bad" if i % 3 == 0 else "good", "bad": "bad"}
        return {**row, "label": both.get(row["label"], ""), "place": str(i % 7)}

    changed(folder, change)
    path.write_text(path.read_text() + '\n[features]\nnumeric = ["place"]\n')
    write_backbone(folder / "small", tiny_bert(num_hidden_layers=1))
    text = path.read_text().replace("tiny_job", "tiny_small")
    path.with_name("small.toml").write_text(text.replace('"backbone"', '"small"'))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "objective", "smaller"),
    [(write_photos, "parameters", False), (several, "memory", True)],
)
def test_a_search_of_another_job(
    write: Callable[[Path], Path],
    objective: str,
    smaller: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write(tmp_path / "job")
    beside = 'smaller = "small.toml"' * smaller
    path.write_text(path.read_text() + SEARCH.format(objective, beside))
    work = tmp_path / "work"
    assert gen("search", path, "--work", work, "--quiet") == 0
    found = json.loads((work / "search.json").read_text())
    names = ["unedited", "probe", *["smaller"] * smaller]
    assert [t["baseline"] for t in found["trials"]] == [*names, None]
    if smaller:
        assert ["backbone.from", "backbone", "small"] in found["trials"][2]["diff"]
    *baselines, last = (t["state"] for t in found["trials"])
    assert {*baselines} == {"complete"} and last in ("complete", "pruned")
    for trial in found["trials"]:
        facts = trial["facts"]
        if objective == "memory":
            assert trial["values"]["memory"] == facts["memory_measured"] / 1e6 > 0
        if trial["state"] == "complete":
            assert facts["training_memory_measured"] > 0
    assert "| trial |" in (work / "search.md").read_text()
    (point,) = found["front"]
    assert point["certificate"] == "holds"
    assert len(point["test"]["metric"]["seeds"]) == found["end"]["seeds"] == 1
    # What predicts is whole there, with what was fitted beside the weights.
    folder = Path(point["folder"])
    (name,) = (path.parent.name for path in folder.glob("*/predict.py"))
    rows = (
        "--input",
        path.parent / "rows" / "test.csv",
        "--output",
        tmp_path / "found",
    )
    weights = ("--weights", folder / "model.safetensors")
    assert Programs(folder, name).module("predict", *rows, *weights).code == 0
