"""`gen guard`: what it finds, what it says, and its self-test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runtime_support import gen, write_job

from generator.runtime import figures, tables

FOUND = {
    "actions": {"leaks": "quarantine", "label_noise": "report"},
    "sizes": {"train": 1200, "valid": 150, "test": 89},
    "counts": {"leaks": {"train": 3}, "label_noise": {}},
    "worst": {
        "leaks": [
            {
                "split": "train",
                "file": "rows.csv",
                "line": 7,
                "score": 0.9,
                "note": "like line 3 of test.csv",
                "row": "ask  email",
            }
        ]
        * 9,
        "label_noise": [],
    },
}
RESULT = {"check": "leaks", "kind": "the same", "found": 50, "before": 2}


def test_what_was_found_is_counted_by_check_and_split() -> None:
    counts, worst = tables.guard(FOUND)
    assert counts.rows == (
        ("leaks", "quarantine", "3", "0", "0"),
        ("label_noise", "report", "0", "0", "0"),
    )
    assert "1,200 train, 150 valid, 89 test" in counts.note
    assert len(worst.rows) == tables.SUSPICIOUS
    assert worst.rows[0][:3] == ("leaks", "rows.csv:7", "like line 3 of test.csv")


def test_a_self_test_is_summed_up_over_its_seeds() -> None:
    some = [
        {**RESULT, "seed": 1, "planted": 50, "right": 50, "wrong": 0},
        {**RESULT, "seed": 2, "planted": 50, "right": 40, "wrong": 10},
        {**RESULT, "kind": "other", "seed": 1, "planted": 0, "right": 0, "wrong": 0},
    ]
    (table,) = tables.self_test(some)
    assert table.rows == (
        ("leaks", "the same", "100", "0.900", "0.900", "2"),
        ("leaks", "other", "0", "", "", "2"),
    )
    assert table.note.startswith("Seeds 1, 2")
    assert "no row was fit for it" in table.note and "Triggers" not in table.note
    few = [{**some[0], "check": "triggers", "planted": 8}]
    assert "put into 8 rows each time" in tables.self_test(few)[0].note
    some = [{**few[0], "planted": 40}]
    assert tables.self_test(some)[0].note.endswith("or true ones.")


def test_without_a_guard_there_is_nothing(tmp_path: Path) -> None:
    assert figures.guard(tmp_path) is None
    (tmp_path / "guard.json").write_text(json.dumps({**FOUND, "leaving": {}}))
    assert figures.guard(tmp_path) == FOUND


def guarded(folder: Path) -> Path:
    spec = write_job(folder)
    text = spec.read_text().replace(
        "[train]",
        '[data.guard]\ncontradictions = "quarantine"\nlabel_noise = "report"\n\n[train]',
    )
    spec.write_text(text)
    return spec


def test_a_job_without_checks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_job(tmp_path)
    assert gen("guard", spec, "--out", tmp_path / "out", "--work", tmp_path / "w") == 2
    assert "error[G529]" in capsys.readouterr().err
    assert not (tmp_path / "w" / "guard.json").exists()


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, given = guarded(tmp_path), [
        "--out",
        tmp_path / "out",
        "--work",
        tmp_path / "w",
    ]
    assert gen("guard", spec, *given, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    told = json.loads((tmp_path / "w" / "guard.json").read_text())
    assert found["counts"] == told["counts"] and found["sizes"]["train"] > 0
    data = (tmp_path / "rows" / "train.csv").read_bytes()
    assert gen("guard", spec, *given, "--self-test", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert {r["check"] for r in results} == {"contradictions", "label_noise"}
    contradictions = [r for r in results if r["check"] == "contradictions"]
    assert all(r["right"] == r["planted"] > 0 for r in contradictions)
    assert (tmp_path / "rows" / "train.csv").read_bytes() == data
    assert gen("guard", spec, *given) == 0
    assert "Rows that the guard found" in capsys.readouterr().out
    (tmp_path / "rows" / "train.csv").unlink()
    assert gen("guard", spec, *given, "--quiet") == 2
    assert "error[G530]" in capsys.readouterr().err
