"""What the head is told of a row beside its text: read, fitted, joined, the same in use."""

from __future__ import annotations

import csv
import json
import math
import random
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from data_support import quarantined, write_csv, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import batches_of
from safetensors.torch import load_file
from test_cache import fill
from test_certificate import CASES
from whole_support import Whole, whole

from generated import generated
from generator import passes
from generator.errors import GenError
from generator.ir.job import Job
from generator.ir.plans import CleanPlan, FeaturePlan, GuardPlan, ImagePlan
from generator.passes import join_features, select_features
from generator.render.predict import example
from generator.runtime.interpret import run as interpret
from tests.edits import support as edits_support

EVERY = FeaturePlan(
    numeric=("price",),
    categorical=("shop", "kind"),
    dates=("written",),
    text=("length", "capitals", "digits", "punctuation"),
    patterns=("[?]", "(a+)+b"),
    categories=3,
)
OWN = {"width": 3, "hidden": 7, "dropout": 0.1}
ROW = {
    "text": "A film?",
    "price": "2",
    "shop": "a",
    "kind": "x",
    "written": "2024-03-04",
}


def joined(plan: FeaturePlan, **own: Any) -> Callable[[Job], Job]:
    return lambda job: join_features.run(job, plan, **own)[0]


def make(case: str, folder: Path, plan: FeaturePlan, own: dict, **more: Any) -> Whole:
    config, sizes, options = CASES[case]
    options = {"head": "new", **options, "labels": ("no", "yes"), **more}
    return whole(folder, config(**sizes), **options, edit=joined(plan, **own))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("features")
    return make("bert", folder, EVERY, OWN, recipe={"epochs": 1})


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of which some columns say nothing."""
    draw = random.Random(seed)
    return [
        {
            "text": f"{draw.choice(['a fine', 'A dull?', 'the 2nd'])} film {seed} {i}",
            "price": draw.choice(["", str(round(draw.uniform(0, 50), 2))]),
            "shop": draw.choice(["a", "b", ""]),
            "kind": draw.choice("vwxyz"),
            "written": draw.choice(["", "2023-01-02T03:04:05+02:00", "2024-02-29"]),
        }
        for i in range(count)
    ]


def write(folder: Path, splits: Mapping[str, Iterable[dict[str, Any]]]) -> Path:
    for name, some in splits.items():
        labelled = [row | {"label": ("no", "yes")[i % 2]} for i, row in enumerate(some)]
        header = list(labelled[0])
        write_csv(folder / f"{name}.csv", [header, *(r.values() for r in labelled)])
    return folder


def some_splits() -> dict[str, list[dict[str, Any]]]:
    return {"train": rows(24, 1), "valid": rows(6, 2), "test": rows(6, 3)}


def fitted(made: Whole, *values: dict[str, Any]) -> Any:
    features = made.module("features")
    return features.fit([features.read(ROW | v, (ROW | v)["text"]) for v in values])


def columns(made: Whole, fit: Any, **values: Any) -> tuple[list[float], list[int]]:
    """What a row is for `forward`: numbers and categories."""
    features = made.module("features")
    row = ROW | values
    found = features.columns_of([features.read(row, row["text"])], fit)
    return found.numbers[0].tolist(), found.categories[0].tolist()


# ----------------------------------------------------------------------- row by row


def test_numbers_are_standardised_and_missing_ones_are_the_mean(made: Whole) -> None:
    fit = fitted(made, {"price": "1"}, {"price": "5"}, {"price": ""})
    assert (fit.means[0], fit.deviations[0]) == (3.0, 2.0)
    names = made.module("features").SCALED
    missing = len(names) + 6  # behind what is standardised, and the turns of a date
    for value, number, absent in (("1", -1, 0), (7, 2, 0), ("", 0, 1), (None, 0, 1)):
        numbers, _ = columns(made, fit, price=value)
        assert (numbers[0], numbers[missing]) == (number, absent)
    for value in (math.nan, "nan", "  "):
        assert columns(made, fit, price=value)[0][missing] == 1


def test_statistics_are_exact_in_any_order_and_of_rows_in_parts(made: Whole) -> None:
    """More rows than are worked on at a time, of numbers whose sum depends on the order."""
    features, draw = made.module("features"), random.Random(0)
    values = [
        str(draw.choice([1e15, -1e15, 0.1, 3.0]) * draw.random()) for _ in range(9000)
    ]
    values[::7] = [""] * len(values[::7])
    raw = [features.read(ROW | {"price": v, "shop": v[:1]}, "A film?") for v in values]
    there = [float(v) for v in values if v]
    mean = math.fsum(there) / len(there)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in there) / len(there))
    first = features.fit(iter(raw))
    assert (first.means[0], first.deviations[0]) == (mean, deviation)
    draw.shuffle(raw)
    assert features.fit(raw) == first


def test_what_is_far_counts_as_ten_deviations(made: Whole) -> None:
    fit = fitted(made, {"price": "1"}, {"price": "5"})
    assert columns(made, fit, price=1e30)[0][0] == 10
    assert columns(made, fit, price="-1e30")[0][0] == -10


def test_a_constant_column_says_nothing(made: Whole) -> None:
    for value in ("0.1", str(0.7e18 / 3)):  # whose mean is rounded
        fit = fitted(made, *[{"price": value}] * 7)
        assert fit.deviations[0] == 0.0
        for later in (value, "0", "1e30", ""):
            assert columns(made, fit, price=later)[0][0] == 0
    none = fitted(made, *[{"price": ""}] * 3)
    assert (none.means[0], none.deviations[0]) == (0.0, 0.0)
    assert columns(made, none, price="")[0][0] == columns(made, none, price="7")[0][0]


@pytest.mark.parametrize("names", [("it's", "a\\b"), tuple("abcdefghijkl")])
def test_a_call_names_columns_where_they_are_few_and_plain(
    made: Whole, names: tuple[str, ...]
) -> None:
    def call(*columns: str) -> str:
        plan = replace(made.job.data, features=FeaturePlan(numeric=columns))
        return example(replace(made.job, data=plan))

    assert call("a", "b") == "Predictor().predict([{'text': ..., 'a': ..., 'b': ...}])"
    assert call(*names) == (
        "Predictor().predict(rows)  # dicts of TEXT and features.COLUMNS"
    )


def test_categories_are_those_of_the_training_rows(made: Whole) -> None:
    shops = ["b", "b", "b", "a", "a", "d", "c", ""]
    fit = fitted(made, *({"shop": shop, "kind": "x"} for shop in shops))
    assert fit.categories == (("b", "a", "c"), ("x",))  # 3 have a vector, ties by name
    found = {s: columns(made, fit, shop=s)[1][0] for s in ["b", "a", "c", "d", "e", ""]}
    assert found == {"b": 1, "a": 2, "c": 3, "d": 0, "e": 0, "": 0}
    # The second column has rows of its own in the table.
    assert columns(made, fit, kind="x")[1] == [2, 5]
    assert columns(made, fit, kind="y")[1] == [2, 4]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1", "1"),
        ("1.0", "1"),
        (-2, "-2"),
        ("-2.0", "-2"),
        ("1.5", "1.5"),
        ("v1.0", "v1.0"),
        (True, "true"),
        ("True", "true"),
        ("TRUE story", "TRUE story"),
        (" a ", "a"),
        (None, ""),
    ],
)
def test_a_category_is_the_same_in_every_format(made: Whole, value: Any, name: str):
    features = made.module("features")
    assert features.read(ROW | {"shop": value}, "x").categories[0] == name


@pytest.mark.parametrize(
    "value",
    [
        "2024-03-04T06:00",
        "2024-03-04T08:00:00+02:00",
        datetime(2024, 3, 4, 6),
        datetime(2024, 3, 4, 6, tzinfo=UTC),
    ],
)
def test_a_date_is_year_days_and_turns(made: Whole, value: Any) -> None:
    raw = made.module("features").read(ROW | {"written": value}, "x").numbers
    assert raw[1:3] == (2024.0, 19786.25)  # days of 1970 and after, and a quarter
    turns = [2 / 12, 0 / 7, 6 / 24]  # March, Monday, six o'clock
    want = [f(2 * math.pi * t) for t in turns for f in (math.sin, math.cos)]
    assert raw[-6:] == pytest.approx(want)


def test_a_date_without_a_time_and_none_at_all(made: Whole) -> None:
    features = made.module("features")
    day = features.read(ROW | {"written": date(2024, 3, 4)}, "x").numbers
    assert day == features.read(ROW | {"written": "2024-03-04"}, "x").numbers
    fit = fitted(
        made, {"written": "2024-03-04"}, {"written": "2024-03-06"}, {"written": ""}
    )
    numbers, _ = columns(made, fit, written="")
    assert numbers[1:3] == [0, 0] and numbers[-8:-2] == [0.0] * 6 and numbers[-1] == 1
    assert columns(made, fit, written="2024-03-04")[0][2] == -1


def test_numbers_of_a_text(made: Whole) -> None:
    text = "Ab1?! \u00c9\u3002 aab ab?"
    raw = made.module("features").read(ROW, text).numbers
    assert raw[3:9] == pytest.approx(
        [math.log1p(16), 2 / 16, 1 / 16, 4 / 16, math.log1p(2), math.log1p(2)]
    )


def test_patterns_take_a_time_that_grows_with_the_text_alone(made: Whole) -> None:
    features = made.module("features")
    start = time.process_time()
    raw = features.read(ROW, "a" * 200_000)  # Python's own would never end
    assert raw.numbers[8] == 0 and time.process_time() - start < 5
    assert features.read(ROW, "?" * 5000).numbers[7] == pytest.approx(math.log1p(1000))


BAD = [
    ("price", "cheap", '"price" is not a number'),
    ("price", "1_000", '"price" is not a number'),
    ("price", "inf", '"price" is infinite, or as good as'),
    ("price", "1e39", '"price" is infinite, or as good as'),
    ("written", "yesterday", '"written" is no date as ISO 8601 writes it'),
    ("written", "2024-02-30", '"written" is no date as ISO 8601 writes it'),
    ("written", "0001-01-01T00:00+10:00", '"written" is no date as ISO 8601 writes it'),
]
BAD_JSON = [
    ("price", True, '"price" is not a number'),
    ("price", [1], '"price" is not a number'),
    ("price", 10**400, '"price" is not a number'),
    ("shop", ["a"], '"shop" is no category, a text or a number'),
    ("written", 20240102, '"written" is no date as ISO 8601 writes it'),
]


def test_rows_that_cannot_be_used_leave_with_their_reasons(made: Whole, tmp_path: Path):
    splits = some_splits()
    splits["train"] += [
        ROW | {"text": f"bad {i}", column: value}
        for i, (column, value, _) in enumerate(BAD)
    ]
    splits["train"].append(ROW | {"text": "bytes", "shop": "\udcff"})
    write(tmp_path, {"valid": splits["valid"], "test": splits["test"]})
    with open(
        tmp_path / "train.csv", "w", errors="surrogateescape", newline=""
    ) as file:
        writer = csv.writer(file)
        writer.writerow([*ROW, "label"])
        for i, row in enumerate(splits["train"]):
            writer.writerow([*row.values(), ("no", "yes")[i % 2]])
    data = made.module("data")
    found = data.load_splits(tmp_path, tmp_path / "work")
    assert len(found.train) == 24
    left = quarantined(tmp_path / "work")
    assert [row["reason"] for row in left] == [
        *(reason for _, _, reason in BAD),
        '"shop" is not valid UTF-8',
    ]
    assert [row["line"] for row in left] == list(range(26, 34))


@pytest.mark.parametrize(("column", "value", "reason"), [*BAD, *BAD_JSON])
def test_a_value_of_the_wrong_kind(made: Whole, column: str, value: Any, reason: str):
    features = made.module("features")
    with pytest.raises(ValueError) as caught:
        features.read(ROW | {column: value}, "x")
    assert str(caught.value) == reason


def test_a_column_that_is_not_there(made: Whole, tmp_path: Path) -> None:
    features = made.module("features")
    with pytest.raises(ValueError, match='there is no "price"'):
        features.read({k: v for k, v in ROW.items() if k != "price"}, "x")
    data = made.module("data")
    splits = some_splits()
    splits["train"] = [
        {k: v for k, v in r.items() if k != "shop"} for r in splits["train"]
    ]
    write(tmp_path, splits)
    with pytest.raises(data.DataError, match='has no column "shop"'):
        data.load_splits(tmp_path, tmp_path / "work")


def test_dates_of_a_parquet_file(tmp_path: Path) -> None:
    """Of nanoseconds, of days, or with a zone, they are those of the same in a text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def edit(job: Job) -> Job:
        job = joined(FeaturePlan(dates=("written",)))(job)
        files = {name: f"{name}.parquet" for name in ("train", "valid", "test")}
        return replace(job, data=replace(job.data, formats=("parquet",), **files))

    config, sizes, _ = CASES["bert"]
    made = whole(tmp_path, config(**sizes), head="new", edit=edit, labels=("no", "yes"))
    data, features = made.module("data"), made.module("features")
    for kind, value, text in (
        (pa.timestamp("ns"), 1_700_000_000_000_000_001, "2023-11-14T22:13:20"),
        (pa.timestamp("s", "Asia/Tokyo"), 1_700_000_000, "2023-11-15T07:13:20+09:00"),
        (pa.date32(), 19675, "2023-11-14"),
    ):
        written = pa.array([value, None], kind)
        table = {"text": ["a", "b"], "label": ["no", "yes"], "written": written}
        pq.write_table(pa.table(table), tmp_path / "train.parquet")
        columns = ("text", "label", "written")
        found = [
            features.read(record.fields)
            for record in data.parquet_records(tmp_path / "train.parquet", columns)
        ]
        assert found[0] == features.read({"written": text})
        assert math.isnan(found[1].numbers[0])


# --------------------------------------------------------------------- what is fitted


def test_statistics_come_from_the_training_rows_alone(
    made: Whole, tmp_path: Path
) -> None:
    data = made.module("data")

    def found(splits: dict[str, list[dict[str, Any]]], name: str) -> tuple[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        write(folder, splits)
        some = data.load_splits(folder, folder / "work")
        made.module("features").write(some.train.fitted, folder / "features.json")
        return (folder / "features.json").read_text(), some

    splits = some_splits()
    before, first = found(splits, "first")
    extreme = {"price": "9999", "shop": "new", "kind": "new", "written": "1999-01-01"}
    other = {name: [r | extreme for r in splits[name]] for name in ("valid", "test")}
    after, second = found(splits | other, "second")
    assert before == after
    assert torch.equal(first.train.columns.numbers, second.train.columns.numbers)
    assert second.valid.columns.categories[:, 0].eq(0).all()
    # Nor does the order of the rows matter.
    turned, _ = found(splits | {"train": splits["train"][::-1]}, "third")
    assert turned == before
    about = json.loads(before)
    assert [one["name"] for one in about["numbers"]] == list(
        made.module("features").SCALED
    )
    assert about["categories"][0] == {"column": "shop", "known": ["b", "a"]}


values = st.fixed_dictionaries(
    {
        "text": st.text(min_size=1).filter(str.strip),
        "price": st.none() | st.floats(-1e6, 1e6) | st.integers(-99, 99),
        "shop": st.none() | st.sampled_from(["a", "b", "c", 1, "1"]),
        "kind": st.text(max_size=3),
        "written": st.none() | st.datetimes().map(datetime.isoformat),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(values, min_size=1, max_size=4), st.randoms())
def test_a_row_is_the_same_alone_and_in_any_format(made: Whole, some: list, draw: Any):
    """As training reads a whole CSV file, and prediction a line of JSON."""
    features = made.module("features")
    raw = [features.read(row, row["text"]) for row in some]
    fit = features.fit(raw)
    together = features.columns_of(raw, fit)
    for i, row in enumerate(some):
        texts = {k: "" if v is None else str(v) for k, v in row.items()}
        again = features.read(texts, row["text"])
        alone = features.columns_of([again], fit)
        for one, every in zip(alone, together):
            assert torch.equal(one[0], every[i])
    order = draw.sample(range(len(raw)), len(raw))
    assert features.fit([raw[i] for i in order]) == fit
    assert together.numbers.isfinite().all()


def test_what_stands_for_none_is_missing_in_columns_too(tmp_path: Path) -> None:
    def edit(job: Job) -> Job:
        job = joined(EVERY)(job)
        clean = CleanPlan(missing=("NA",))
        return replace(job, data=replace(job.data, clean=clean))

    config, sizes, _ = CASES["bert"]
    made = whole(tmp_path, config(**sizes), head="new", edit=edit)
    features = made.module("features")
    raw = features.read(ROW | {"price": "NA", "shop": " NA", "written": "NA"}, "x")
    assert math.isnan(raw.numbers[0]) and math.isnan(raw.numbers[2])
    assert raw.categories[0] == ""


@pytest.mark.parametrize(
    ("duplicates", "kept"), [("near", "files"), ("exact", "memory")]
)
def test_rows_that_say_other_things_in_columns_are_no_duplicates(
    tmp_path: Path, duplicates: Any, kept: Any
) -> None:
    """Nor contradictions. What is in another split leaves by its text alone."""

    def edit(job: Job) -> Job:
        plan = FeaturePlan(numeric=("price",), categorical=("shop",), text=("length",))
        job = joined(plan)(job)
        clean = CleanPlan(duplicates=duplicates)
        guard = GuardPlan(contradictions="quarantine")
        data = replace(job.data, clean=clean, guard=guard, rows=kept)
        return replace(job, data=data)

    config, sizes, _ = CASES["bert"]
    options = {"head": "new", "labels": ("no", "yes")}
    made = whole(tmp_path, config(**sizes), **options, edit=edit)
    film = {"text": "a fine film of the year", "shop": "a", "price": "1"}
    train = [
        *(film | {"label": "no"}, film | {"label": "no", "price": "1.0"}),
        *(film | {"label": "no", "price": "2"}, film | {"label": "no", "shop": ""}),
        *(film | {"label": "yes", "price": "3"}, film | {"label": "yes", "price": "2"}),
        {"text": "the other one", "price": "", "shop": "b", "label": "yes"},
        {"text": "of the test", "price": "5", "shop": "b", "label": "yes"},
    ]
    other = [{"text": "of the test", "price": "6", "shop": "a", "label": "no"}]
    other += [{"text": "seen by none", "price": "6", "shop": "a", "label": "yes"}]
    apart = [{**row, "text": f"only here {i}"} for i, row in enumerate(other)]
    for name, some in (("train", train), ("valid", apart), ("test", other)):
        header = ["text", "price", "shop", "label"]
        lines = [[row[column] for column in header] for row in some]
        write_csv(tmp_path / f"{name}.csv", [header, *lines])
    rows = made.module("data").load_rows(tmp_path, tmp_path / "work")
    assert [row.line for row in rows["train"]] == [2, 4, 5, 6, 7, 8]
    found = made.module("guard").contradictions(rows)
    assert sorted(one.row for one in found) == [1, 4]
    reasons = [row["reason"] for row in quarantined(tmp_path / "work")]
    assert any("the same columns and target" in reason for reason in reasons)


def test_decimals_of_a_table_are_numbers(made: Whole) -> None:
    raw = made.module("features").read(ROW | {"price": Decimal("2.5")}, "x")
    assert raw.numbers[0] == 2.5


# ------------------------------------------------------------- training and prediction


@pytest.fixture(scope="module")
def trained(made: Whole, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("trained"), some_splits())
    assert train(made, folder) == 0
    return folder


def train(made: Whole, folder: Path, *more: str) -> int:
    arguments = ["--root", folder, "--work", folder / "work", "--weights", made.weights]
    return made.module("train").main([*map(str, arguments), "--quiet", *more])


def test_training_moves_every_new_parameter(made: Whole, trained: Path) -> None:
    after = load_file(trained / "work" / "model.safetensors")
    before = made.module("model").load_pretrained(made.weights).state_dict()
    new = [n for n in after if n.startswith(("features.", "classifier.label"))]
    assert len(new) == 5
    wide = after["classifier.label.weight"]
    assert wide.shape == (2, made.job.model.sizes["C"] + 7)
    for name in new:
        assert after[name].isfinite().all()
        assert before[name].shape == after[name].shape
    made.module("model").Model().load_state_dict(after, strict=True)


def test_prediction_is_what_training_makes_of_the_same_rows(made: Whole, trained: Path):
    data, predict = made.module("data"), made.module("predict")
    split = data.load_splits(trained, trained / "work").test
    predictor = predict.Predictor(trained / "work" / "model.safetensors", batch=4)
    want = torch.empty(len(split), 2)
    with torch.inference_mode():
        for batch in data.evaluation_batches(split):
            want[batch.rows] = predictor.model(*batch.inputs).softmax(1)
    test = some_splits()["test"]
    answers = predictor.predict(test)
    found = torch.tensor([list(a.probabilities.values()) for a in answers])
    torch.testing.assert_close(found, want)
    # The columns matter, each of them.
    for column, value in (("price", "49"), ("shop", "b"), ("written", "1990-01-01")):
        other = predictor.predict([test[0] | {column: value}])[0]
        same = test[0][column] == value
        assert (other.probabilities == answers[0].probabilities) == same


def test_files_of_rows_are_answered(made: Whole, trained: Path, tmp_path: Path, capsys):
    predict = made.module("predict")
    weights = str(trained / "work" / "model.safetensors")
    test = some_splits()["test"]
    some = [{"id": 1, **row} for row in test]
    some += [{k: v for k, v in test[0].items() if k != "price"}, ROW | {"shop": {}}]
    write_jsonl(tmp_path / "rows.jsonl", some)
    out = tmp_path / "found.jsonl"
    arguments = ["--weights", weights, "--output", str(out), "--input"]
    assert predict.main([*arguments, str(tmp_path / "rows.jsonl")]) == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line.get("error") for line in lines] == [
        *[None] * 6,
        'there is no "price"',
        '"shop" is no category, a text or a number',
    ]
    write_csv(tmp_path / "rows.csv", [[*test[0]], *(row.values() for row in test)])
    assert predict.main([*arguments, str(tmp_path / "rows.csv")]) == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    for one, other in zip(again, lines):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
    write_csv(tmp_path / "less.csv", [["text", "prize"], ["a film", "1"]])
    assert predict.main([*arguments, str(tmp_path / "less.csv")]) == 2
    assert 'has no column "price"' in capsys.readouterr().err


def test_weights_need_what_was_fitted_beside_them(
    made: Whole, trained: Path, tmp_path: Path
) -> None:
    predict, features = made.module("predict"), made.module("features")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((trained / "work" / "model.safetensors").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"features\.json"):
        predict.Predictor(weights)
    about = json.loads((trained / "work" / features.FILE).read_text())
    for change, why in (
        (about | {"numbers": about["numbers"][1:]}, "other features"),
        ({"numbers": []}, "damaged"),
    ):
        (tmp_path / features.FILE).write_text(json.dumps(change))
        with pytest.raises(ValueError, match=why):
            predict.Predictor(weights)


def test_a_run_goes_on_with_the_rows_it_learned_from(made: Whole, tmp_path: Path):
    file, lock = tmp_path / "work" / "features.json", tmp_path / "work" / "lock"
    splits = some_splits()
    write(tmp_path, splits)
    assert train(made, tmp_path) == 0
    kept = file.read_text()
    write(tmp_path, splits | {"train": [r | {"price": "7"} for r in splits["train"]]})
    lock.unlink()  # which this process holds
    with pytest.raises(SystemExit, match="features="):
        train(made, tmp_path, "--resume")
    assert file.read_text() == kept  # as the weights beside it learned from it
    lock.unlink()
    assert train(made, tmp_path, "--fresh") == 0
    (aside,) = file.parent.glob("before-*")
    assert (aside / "features.json").read_text() == kept != file.read_text()


# ---------------------------------------------------------------------- the certificate

OF_IMAGES = replace(EVERY, text=(), patterns=())
QUICK = [
    ("bert", EVERY, OWN),
    ("bert, pairs", EVERY, {}),
    ("llama", FeaturePlan(numeric=("price",)), {}),
    ("roberta", FeaturePlan(categorical=("shop",)), {"hidden": 5}),
    ("vit", OF_IMAGES, OWN),
]
SLOW = [
    (case, plan if "vit" not in case else OF_IMAGES, own)
    for case in CASES
    for plan, own in ((EVERY, OWN), (FeaturePlan(numeric=("price",)), {}))
    if (case, plan, own) not in QUICK
]


def certified(made: Whole) -> list[Any]:
    test = made.module("test_model")
    test.write_reference(made.weights)
    return test.certificate(made.weights)


@pytest.mark.parametrize(("case", "plan", "own"), QUICK, ids=lambda x: str(x)[:8])
def test_certificate_holds(case: str, plan: FeaturePlan, own: dict, tmp_path: Path):
    found = certified(make(case, tmp_path, plan, own))
    assert [r for r in found if not r.holds or r.measured is None] == []
    assert len(found) >= 11


@pytest.mark.slow
@pytest.mark.parametrize(("case", "plan", "own"), SLOW, ids=lambda x: str(x)[:8])
def test_certificate_of_others_holds(case: str, plan: FeaturePlan, own: dict, tmp_path):
    test_certificate_holds(case, plan, own, tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "check"),
    [
        (
            "model",
            "numbers, self.category",
            "2 * numbers, self.category",
            "logits, fp64",
        ),
        ("model", "F.gelu(self.hidden(x))", "self.hidden(x)", "logits, fp64"),
        ("predict", "columns_of(raw,", "columns_of(raw[::-1],", "training and serving"),
    ],
)
def test_the_certificate_sees_a_fault(file, old, new, check, tmp_path: Path) -> None:
    made = make("bert", tmp_path, EVERY, OWN)
    test = made.module("test_model")
    test.write_reference(made.weights)
    made.edit(file, old, new)
    found = made.module("test_model").certificate(made.weights)
    wrong = [r.name for r in found if not r.holds]
    assert check in wrong


# --------------------------------------------------------------------- what is refused


def test_a_head_of_the_checkpoint_is_not_kept() -> None:
    """A spec with both is refused; a job with both has no layer to join."""
    with pytest.raises(GenError) as refused:
        joined(EVERY)(edits_support.make("bert").job)
    assert [d.code for d in refused.value.diagnostics] == ["G381"]
    from generator.spec import read_spec

    text = (
        'name = "j"\ntask = "text-classification"\nlabels = ["a", "b"]\n'
        '[backbone]\nfrom = "models/x"\nhead = "keep"\n'
        '[data]\ntrain = "a.csv"\ntext = "t"\nlabel = "l"\n'
        '[features]\nnumeric = ["x"]\n'
    )
    with pytest.raises(GenError) as caught:
        read_spec(text, "spec.toml")
    assert [d.code for d in caught.value.diagnostics] == ["G010"]


# --------------------------------------------------------- every architecture, and parts


def with_columns(folder: Path, made: Whole, case: str) -> list[dict[str, Any]]:
    """The files of rows with a price and a shop; the rows of the test."""
    fill(folder, made, "images" if case == "vit" else case.split(", ")[-1])
    header, more = [], []
    for name in ("train", "valid", "test"):
        with open(folder / f"{name}.csv", newline="") as file:
            header, *rest = csv.reader(file)
        more = [[*row, str(i), "ab"[i % 2]] for i, row in enumerate(rest)]
        write_csv(folder / f"{name}.csv", [[*header, "price", "shop"], *more])
    return [dict(zip([*header, "price", "shop"], row, strict=True)) for row in more]


KINDS = ("bert", "distilbert", "electra", "roberta", "llama", "vit")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "head", [{}, {"kind": "mlp", "dropout": 0.3, "samples": 2}], ids=str
)
def test_the_model_computes_what_the_interpreter_does(
    kind, head, tmp_path: Path
) -> None:
    tiny = edits_support.make(kind)
    plan, own = (EVERY, OWN) if kind != "vit" else (OF_IMAGES, OWN)
    job = joined(plan, **own)(edits_support.edited(tiny.job, "head", **head))
    model, _ = generated(job, tiny.tensors, tmp_path)
    after, weights = passes.run(job)
    edits_support.as_mapped(job, after, weights, tiny.tensors)
    state = dict(model.named_parameters())
    for batch in batches_of(job):
        given = edits_support.in_double(batch)
        want = interpret(after, state, given)
        torch.testing.assert_close(model(*given.values()), want)
        # Another row of the table of categories, or another number, is another answer.
        other = dict(given)
        other["numbers"] = given["numbers"] + 1
        assert not torch.allclose(model(*other.values()), want)


@pytest.mark.parametrize("case", ["bert", "vit"])
def test_a_frozen_prefix_is_kept_beside_what_the_head_reads(case: str, tmp_path: Path):
    plan = FeaturePlan(numeric=("price",), categorical=("shop",))
    made = make(
        case, tmp_path, plan, {"hidden": 5}, frozen=("embedding", "blocks"),
        recipe={"epochs": 1},
    )  # fmt: skip
    assert made.job.model.cut
    with_columns(tmp_path, made, case)
    assert train(made, tmp_path) == 0
    data, module = made.module("data"), made.module("train")
    split = data.load_splits(tmp_path, tmp_path / "again").valid
    model = made.module("model").Model()
    model.load_state_dict(load_file(tmp_path / "work" / "model.safetensors"))
    (kept,) = module.keep(model, {"valid": split}, tmp_path / "cache", quiet=True)
    model.eval()
    with torch.inference_mode():
        for whole_batch, part in zip(
            data.evaluation_batches(split), kept.evaluation_batches(), strict=True
        ):
            torch.testing.assert_close(
                model.suffix(*part.inputs), model(*whole_batch.inputs)
            )


@pytest.mark.parametrize("case", ["bert", "vit"])
def test_the_guard_looks_at_rows_with_columns(case: str, tmp_path: Path) -> None:
    def edit(job: Job) -> Job:
        job = joined(FeaturePlan(numeric=("price",)))(job)
        guard = GuardPlan(outliers="report")
        return replace(job, data=replace(job.data, guard=guard))

    config, sizes, options = CASES[case]
    options = {**options, "labels": ("no", "yes"), "head": "new"}
    made = whole(tmp_path, config(**sizes), **options, edit=edit)
    with_columns(tmp_path, made, case)
    assert train(made, tmp_path) == 0
    assert (tmp_path / "work" / "guard.json").is_file()


@pytest.mark.parametrize("case", ["bert, pairs", "electra", "vit"])
def test_features_join_what_is_chosen_of_the_vector(case: str, tmp_path: Path) -> None:
    """Two texts, a number, a category, and half of the backbone's numbers."""
    plan = FeaturePlan(numeric=("price",), categorical=("shop",))

    def edit(job: Job) -> Job:
        kept = tuple(range(0, job.model.sizes["C"], 2))
        job, _ = select_features.run(job, kept=kept)
        return joined(plan, width=3)(job)

    config, sizes, options = CASES[case]
    options = {**options, "labels": ("no", "yes"), "head": "new"}
    made = whole(tmp_path, config(**sizes), **options, edit=edit)
    label = made.job.model.by_name["Classifier"].parameters
    wide = next(p for p in label if p.source.__class__.__name__ == "Init")
    sizes = made.job.model.sizes
    assert wide.type.shape[1].value(sizes) == sizes["C"] // 2 + 1 + 1 + 3
    found = certified(made)
    assert [r for r in found if not r.holds or r.measured is None] == []
    rows_of_test = with_columns(tmp_path, made, case)
    assert train(made, tmp_path) == 0
    predictor = made.module("predict").Predictor(
        tmp_path / "work" / "model.safetensors"
    )
    row = rows_of_test[-1]
    if case == "vit":
        assert isinstance(made.job.data.inputs, ImagePlan)
        column = made.job.data.inputs.column
        row[column] = str(tmp_path / row[column])
    (answer,) = predictor.predict([row])
    assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("case", ["bert", "vit"])
def test_the_bench_takes_rows_with_columns(case: str, tmp_path: Path) -> None:
    plan = FeaturePlan(numeric=("price",), categorical=("shop",))
    made = make(case, tmp_path, plan, {"hidden": 5})
    with_columns(tmp_path, made, case)
    bench, folder = made.module("bench"), tmp_path / "bench"
    folder.mkdir()
    args = Namespace(
        root=tmp_path, weights=made.weights, reference=made.weights, folder=folder,
        against=None, tokens_per_row="real", longest=32,
    )  # fmt: skip
    bench.prepare(args)
    rows, split = bench.training_rows(args)
    taken = bench.batches_by_length(split)[:2]
    bench.enter(bench.OURS, "train", args, rows, split)(taken)
    answers = bench.enter(bench.OURS, "predict", args, rows, split)(taken)
    assert len(answers) == sum(map(len, taken))
    if case == "bert":
        args.tokens_per_row = "16"
        args.longest = 16
        rows, split = bench.training_rows(args)
        assert set(split.tokens.lengths.tolist()) == {16} and len(split) == len(rows)
