"""What holds of every text and every table: properties, tried on random ones."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from data_support import (
    SINGLE,
    load_package,
    make_job,
    quarantined,
    write_csv,
    write_jsonl,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_clean import EVERY, byte_tokenizer

from generator.ir.plans import CleanPlan

HOSTILE = (
    "<b>",
    "&amp;",
    "&#x200b;",
    "\u200d",
    "a@b.co",
    "www.a.b",
    "12",
    "\u0301",
    " ",
)
TEXTS = st.lists(st.characters() | st.sampled_from(HOSTILE), max_size=30).map("".join)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(
            ["a film", " a  film", "the plot", "the <b>plot</b>", "best", ""]
        )
        | TEXTS,
        st.sampled_from(["yes", "no", "no", "odd"]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    files = ("train.jsonl", "valid.jsonl", "test.jsonl")
    clean = CleanPlan(**{**vars(EVERY), "duplicates": "exact"})
    job = make_job(replace(SINGLE, max_tokens=400), files=files, clean=clean)
    folder = tmp_path_factory.mktemp("properties")
    return folder, *load_package(folder, job, byte_tokenizer())


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_cleaning_twice_changes_nothing_more(package: Any, text: str) -> None:
    _, module, _ = package
    try:
        once = module.clean(text)
    except module.BadRow:
        return
    changes: dict[str, Any] = {}
    assert module.clean(once, changes) == once and not changes


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=st.tuples(ROWS, ROWS, ROWS), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(package: Any, rows: Any, order: Any) -> None:
    """Which texts are used in which split, and which leave and why, as they were counted."""
    folder, module, _ = package
    always = (
        [("first", "yes"), ("second", "no")],
        [("third", "no")],
        [("fourth", "no")],
    )
    found = []
    for shuffled in (False, True):
        for name, some, more in zip(
            ("train", "valid", "test"), rows, always, strict=True
        ):
            some = [{"text": text, "label": label} for text, label in [*some, *more]]
            if shuffled:
                order.shuffle(some)
            write_jsonl(folder / f"{name}.jsonl", some)
        kept = module.load_rows(folder, folder / "work")
        used = {
            name: Counter((module.same(row), row.target) for row in some)
            for name, some in kept.items()
        }
        left = Counter(
            (row["file"], row["reason"], " ".join(row["row"].get("text", "").split()))
            for row in quarantined(folder / "work")
        )
        # Of two texts that differ in white space alone, either may be the first.
        about = json.loads((folder / "work/cleaning.json").read_text())
        counts = {step: dict(some) for step, some in about["rewritten"].items()}
        found.append((used, left, about["read"], about["used"], counts))
        total = sum(len(some) for some in kept.values()) + sum(left.values())
        assert total == sum(map(len, rows)) + 4  # none is lost
    assert found[0] == found[1]


def test_training_and_prediction_give_the_same_ids(
    package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 texts of characters from all of Unicode, in many parts by two processes."""
    folder, module, predict = package
    draw = random.Random(11)

    def one() -> str:
        if draw.random() < 0.2:
            return draw.choice(HOSTILE)
        code = draw.randrange(0x110000)
        return "x" if 0xD800 <= code < 0xE000 else chr(code)

    texts = ["".join(one() for _ in range(draw.randint(1, 20))) for _ in range(10_000)]
    write_jsonl(folder / "train.jsonl", [{"text": t, "label": "no"} for t in texts])
    monkeypatch.setattr(module, "PART", 700)
    monkeypatch.setattr(module, "CORES", 2)
    monkeypatch.setattr(module, "FORK_BYTES", 1)
    with open(folder / "aside", "w") as file:
        rows = module.read(folder, "train", module.Quarantine(file), folder / "ids")
    tokens = module.split_of(rows).tokens
    lines = (folder / "aside").read_text().splitlines()
    left = {json.loads(line)["line"] for line in lines}
    assert len(rows) + len(left) == 10_000 and len(rows) > 8_000

    seen: list[Any] = []
    monkeypatch.setattr(
        predict, "encode", lambda some: seen.append(module.encode(some)) or seen[-1]
    )
    monkeypatch.setattr(
        predict, "load_trained", lambda path: lambda ids, *_: torch.zeros(len(ids), 2)
    )
    records = list(itertools.chain(*predict.chunks(str(folder / "train.jsonl"))))
    answers = list(predict.answer(predict.Predictor(batch=512), records))
    assert {one["line"] for one in answers if "error" in one} == left
    assert torch.equal(seen[0].ids, tokens.ids)
    assert torch.equal(seen[0].lengths, tokens.lengths)


def test_what_is_split_does_not_depend_on_the_order(tmp_path: Path) -> None:
    """By fractions, with labels of each text that differ."""
    clean = CleanPlan(whitespace=True)
    module, _ = load_package(
        tmp_path, make_job(files=("train.csv", None, None), clean=clean)
    )
    rows = [
        [f"film {i % 60}{' ' * (i % 3)}!", ("yes", "no")[i % 7 > 2]] for i in range(200)
    ]
    found = []
    for step in (1, 3, 7):
        order = [rows[i * step % 200] for i in range(200)]
        write_csv(tmp_path / "train.csv", [["text", "label"], *order])
        kept = module.load_rows(tmp_path, tmp_path / "work")
        found.append(
            {
                name: Counter((r.text, r.target) for r in some)
                for name, some in kept.items()
            }
        )
    assert found[0] == found[1] == found[2]
