"""What a report says of the cleaning: rows in and out by step and by split, examples."""

from __future__ import annotations

import json
from pathlib import Path

from generator.runtime import figures, tables

CLEANED = {
    "cleaning": ["html = true", 'duplicates = "exact"'],
    "files": {"train": "rows.csv", "test": "test.csv"},
    "read": {"rows.csv": 1200, "test.csv": 90},
    "rewritten": {"html": {"rows.csv": 7}, "whitespace": {}},
    "used": {"train": 1000, "valid": 150, "test": 89},
    "examples": {
        "html": [
            {"file": "rows.csv", "line": 3, "before": "a&amp;  b ", "after": "a& b"}
        ],
        "whitespace": [],
    },
}


def work_folder(folder: Path, *put_aside: tuple[str, str]) -> Path:
    """A work folder in which a run with a cleaning has been."""
    rows = [
        json.dumps({"file": file, "line": i, "reason": reason, "row": {}})
        for i, (file, reason) in enumerate(put_aside, 2)
    ]
    (folder / "quarantine.jsonl").write_text("".join(row + "\n" for row in rows))
    (folder / "cleaning.json").write_text(json.dumps(CLEANED))
    return folder


def test_rows_in_and_out_by_step_and_split(tmp_path: Path) -> None:
    """A part of the training file has no file of its own, and so no rows that came in."""
    twice = "the text is in train already, with the same target"
    put_aside = [("rows.csv", twice)] * 49 + [("test.csv", "not valid UTF-8")]
    found = figures.cleaning(work_folder(tmp_path, *put_aside))
    assert found is not None
    counts, examples = tables.cleaning(found)
    assert counts.head == ("", "train", "valid", "test")
    assert counts.rows == (
        ("read", "1,200", "", "90"),
        ("rewritten: html", "7", "", "0"),
        ("rewritten: whitespace", "0", "", "0"),
        (f"put aside: {twice}", "49", "", "0"),
        ("put aside: not valid UTF-8", "0", "", "1"),
        ("used", "1,000", "150", "89"),
    )
    assert "html = true" in counts.note and "quarantine.jsonl" in counts.note
    assert examples.rows == (
        ("html", "rows.csv:3", "a&amp;\u2423\u2423b\u2423", "a& b"),
    )


def test_many_reasons_are_summed_up(tmp_path: Path) -> None:
    reasons = [("rows.csv", f"unknown label '{i}'") for i in range(20)]
    found = figures.cleaning(work_folder(tmp_path, *reasons))
    assert found is not None
    counts, _ = tables.cleaning(found)
    assert counts.rows[-2] == ("put aside: 8 other reasons", "8", "", "0")
    assert len(counts.rows) == 3 + 12 + 2


def test_without_a_cleaning_there_is_nothing(tmp_path: Path) -> None:
    assert figures.cleaning(tmp_path) is None
