"""`duplicates = "near"` of a package: which rows leave, and why."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import Any

import pytest
from data_support import PAIR, load_package, make_job, quarantined, write_csv

from generator.ir.plans import CleanPlan

pytest.importorskip("datasketch")
NEAR = CleanPlan(duplicates="near")
LONG = "the plot of the film is dull, and the best of the year was not worth the while"


def load(folder: Path, rows: dict[str, list[list[str]]], **job: Any) -> Any:
    columns = ["first", "second"] if "inputs" in job else ["text"]
    for name, some in rows.items():
        write_csv(folder / f"{name}.csv", [[*columns, "label"], *some])
    found, _ = load_package(folder, make_job(clean=NEAR, **job))
    (folder / "work").mkdir(exist_ok=True)
    return found.load_rows(folder, folder / "work")


def test_the_rows_and_what_became_of_them(tmp_path: Path):
    rows = load(
        tmp_path,
        {
            "train": [
                [LONG, "no"],
                [LONG.upper() + "!", "no"],  # of the one above
                [LONG + " ...", "yes"],  # another target: stays
                ["a film of the year", "yes"],
                ["nothing like the others in any way, whatever one may say", "no"],
                ["it was the worst film of a long and dull year for films", "no"],
                [LONG.replace("dull", "fine") + " at all, as they say", "no"],
            ],
            "valid": [
                ["It was the worst film of a long and dull year for films.", "yes"]
            ],
            "test": [["A film of the year", "no"]],
        },
    )
    found = [
        (q["line"], q["reason"].split()[-1], q["row"]["like"])
        for q in quarantined(tmp_path / "work")
    ]
    assert found == [
        (3, "train", "line 2 of train.csv"),
        (5, "test", "line 2 of test.csv"),
        (7, "valid", "line 2 of valid.csv"),
    ]
    assert [row.line for row in rows["train"]] == [2, 4, 6, 8]
    assert len(rows["valid"]) == 1 and len(rows["test"]) == 1


def test_both_texts_of_a_pair_have_to_be_alike(tmp_path: Path):
    load(
        tmp_path,
        {
            "train": [
                [LONG, "it is fine", "no"],
                [LONG, "it is dull", "no"],
                [LONG + ".", "it is fine", "no"],
            ],
            "valid": [["a", "b", "yes"], ["c", "d", "no"]],
            "test": [["e", "f", "yes"], ["g", "h", "yes"]],
        }
        | {
            "train": [
                [LONG, "it is fine", "no"],
                [LONG, "it is dull", "no"],
                [LONG + ".", "it is fine", "no"],
                ["x", "y", "yes"],
            ]
        },
        inputs=PAIR,
    )
    (one,) = quarantined(tmp_path / "work")
    assert (one["line"], one["row"]["like"]) == (4, "line 2 of train.csv")
    assert one["reason"] == "nearly the same as another row of train"


def test_what_leaves_is_what_comparing_all_with_all_gives(tmp_path: Path):
    """On 300 texts, of which many are edits of others; in any order across splits."""
    random = Random(3)
    words = [f"{a}{b}" for a in "bcdfgh" for b in ("able", "ound", "ist", "ome")]
    base = [" ".join(random.choices(words, k=12)) for _ in range(60)]
    texts = []
    for text in base:
        for _ in range(5):
            parts = text.split()
            for _ in range(random.randint(0, 3)):
                parts[random.randrange(12)] = random.choice(words)
            texts.append(" ".join(parts))
    texts = [*dict.fromkeys(texts)]
    random.shuffle(texts)
    train, valid, test = texts[:200], texts[200:230], texts[230:]

    def grams(text: str) -> set[str]:
        return {text[i : i + 5] for i in range(len(text) - 4)}

    def near(a: str, b: str) -> bool:
        x, y = grams(a), grams(b)
        return len(x & y) >= 0.8 * len(x | y)

    staying = []
    for text in train:
        if not any(near(text, other) for other in (*valid, *test, *staying)):
            staying.append(text)
    assert 60 < len(staying) < 195
    label = itertools.cycle(["yes", "no"])
    splits = {
        "train": [[t, "yes"] for t in train] + [["no such text anywhere", "no"]],
        "valid": [[t, next(label)] for t in valid],
        "test": [[t, next(label)] for t in test],
    }
    rows = load(tmp_path, splits)
    assert [row.text for row in rows["train"]][:-1] == staying
    across = {
        q["row"]["text"]
        for q in quarantined(tmp_path / "work")
        if not q["reason"].endswith("of train")
    }
    assert across == {t for t in train if any(near(t, o) for o in (*valid, *test))}
