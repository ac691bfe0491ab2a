"""The pure part of `gen init`: whatever is in the data, the spec says it and is read."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.propose import (
    BackboneFacts,
    Chosen,
    ColumnFacts,
    Overlap,
    Proposal,
    RowFacts,
    SplitFacts,
    TableFacts,
    choose,
    leaks,
    propose,
    spec_text,
)
from generator.propose.recipe import backbone_for, estimated_tokens, other_script
from generator.spec import read_spec
from generator.spec.rules import COLUMN, LABEL, check_string

TASKS = ("text-classification", "multi-label", "regression", "image-classification")


def proposal(
    task: Any = "text-classification",
    labels: dict[str, int] | None = None,
    column: str = "label",
    count: int = 1000,
    **backbone: Any,
) -> Proposal:
    """What is proposed for a file of which this is known."""
    labels = {"a": count // 2, "b": count // 2} if labels is None else labels
    image = "file" if task == "image-classification" else None
    chosen = Chosen(
        task,
        column,
        () if image else ("text",),
        image,
        "|" if task == "multi-label" else None,
        "why",
        "why",
        "why",
    )
    sample = [{"text": "a film of the year", "file": "a.png", column: "a"}] * 30
    columns = tuple(ColumnFacts(n, 0, {"text": count}, None) for n in ("text", column))
    table = TableFacts(count, columns, tuple(sample))
    rows = RowFacts(
        (SplitFacts("train", "train.csv", count, count, labels),),
        Overlap(1.0, 0, 0, {}),
        labels,
        *(0.0, 1.0, 0.5, 0.1),
    )
    known = BackboneFacts("models/tiny", "why", **backbone)
    return propose("job", table, chosen, rows, (), known)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_spec(task):
    spec = read_spec(spec_text(proposal(task)), "job.toml").spec
    assert spec.task == task
    assert spec.labels == (("label",) if task == "regression" else ("a", "b"))


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(
    st.lists(
        names.filter(lambda n: check_string(LABEL, n) is None),
        min_size=2,
        max_size=5,
        unique=True,
    ),
    names.filter(
        lambda n: check_string(COLUMN, n) is None and n not in ("text", "file")
    ),
)
def test_any_label_and_column_comes_back(labels, column):
    text = spec_text(proposal(labels=dict.fromkeys(labels, 5), column=column))
    found = tomllib.loads(text)
    assert set(found["labels"]) == set(labels)
    assert found["data"]["label"] == column
    assert read_spec(text, "job.toml").spec.data.label == (column,)
    # No string of the data ends a comment, and no other key comes of it.
    assert set(found) == {"name", "task", "labels", "backbone", "data", "train"}
    keys = {"train", "rows", "valid_fraction", "test_fraction", "text", "label"}
    assert set(found["data"]) == keys | {"max_tokens"}


@pytest.mark.parametrize(
    ("count", "epochs", "batch"),
    [(20, 10, 8), (900, 10, 32), (3000, 5, 32), (40_000, 3, 32), (2_000_000, 1, 32)],
)
def test_more_rows_have_fewer_epochs(count, epochs, batch):
    made = proposal(count=count)
    assert (made.value("train.epochs"), made.value("train.batch")) == (epochs, batch)


@pytest.mark.parametrize(
    ("lengths", "bound", "tokens"),
    [
        ([5] * 100, 512, 16),
        ([100] * 99 + [500], 512, 104),
        ([400] * 100, 512, 400),
        ([900] * 100, 512, 512),
        ([900] * 100, None, 512),
        ([900] * 100, 77, 77),
    ],
)
def test_lengths(lengths, bound, tokens):
    made = proposal(lengths=lengths, bound=bound)
    assert made.value("data.max_tokens") == tokens


@pytest.mark.parametrize(
    ("width", "lr"),
    [(384, 5e-5), (128, 2e-4), (48, 4e-4), (768, 2e-5), (1024, 1e-5), (None, 2e-5)],
)
def test_wider_models_learn_more_slowly(width, lr):
    assert proposal(width=width).value("train.lr") == lr


@pytest.mark.parametrize(
    ("labels", "weights"),
    [({"a": 60, "b": 30}, None), ({"a": 90, "b": 30}, "balanced")],
)
def test_weights_where_labels_are_unbalanced(labels, weights):
    assert proposal(labels=labels).value("train.class_weights") == weights
    assert proposal("multi-label", labels).value("train.class_weights") is None


def test_numbers_are_in_their_order_and_the_rest_in_that_of_the_alphabet():
    labels: dict[str, int] = dict.fromkeys(
        ("nan", "10", "9", "-1.5", "b", "inf", "B"), 9
    )
    assert proposal(labels=labels).value("labels") == (
        *("-1.5", "9", "10", "B", "b", "inf", "nan"),
    )


def test_a_label_that_no_spec_can_hold_is_left_out_and_told():
    made = proposal("multi-label", {"a": 20, "b|c": 20, "d\te": 20, "f": 20})
    assert made.value("labels") == ("a", "f")
    assert any('"b|c"' in w and "left out" in w for w in made.warnings)


def test_backbones():
    assert backbone_for("image-classification", 0.0, True)[0].startswith(
        "hf:google/vit"
    )
    assert backbone_for("text-classification", 0.5, True)[0].startswith("hf:FacebookAI")
    assert backbone_for("text-classification", 0.0, True)[0].startswith("package:")
    assert backbone_for("regression", 0.0, False)[0].startswith("hf:sentence-tr")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Plain words, 12!", 0.0),
        ("café Łódź", 0.0),
        ("кино", 1.0),
        ("ab 映画", 0.5),
        ("", 0),
    ],
)
def test_scripts(text, share):
    assert other_script(iter([text])) == share


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [(("",), 2), (("one two three",), 6), (("映画はよい",), 9), (("a", "b"), 7)],
)
def test_an_estimate_of_tokens(texts, tokens):
    assert estimated_tokens(texts) == tokens


def test_a_column_is_no_leak_where_most_rows_have_one_label_anyway():
    rows = [
        {"text": f"a b {i}", "label": "xy"[i % 50 == 0], "k": "uv"[i % 2]}
        for i in range(500)
    ]
    columns = (
        ColumnFacts("text", 0, {"text": 500}, None),
        ColumnFacts("label", 0, {"text": 500}, {"x": 490, "y": 10}),
        ColumnFacts("k", 0, {"text": 500}, {"u": 250, "v": 250}),
    )
    table = TableFacts(500, columns, tuple(rows))
    assert leaks(table, choose(table, "a.csv")) == ()
