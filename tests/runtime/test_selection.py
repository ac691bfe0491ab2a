"""Scores of hand-made numbers, of which it is known which ones tell something."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from sklearn.feature_selection import (
    SelectKBest,
    VarianceThreshold,
    f_classif,
    f_regression,
    mutual_info_classif,
)
from sklearn.linear_model import lars_path

from generator.runtime import selection
from generator.spec.select import By

TOLD, COPIES, STILL = (1, 4), ((1, 6), (4, 7)), 5


def made(rows: int = 300) -> tuple[Any, Any]:
    """Eight numbers: two tell the label, two repeat them less well, one never changes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 8))
    y = (2 * x[:, 1] + x[:, 4] + 0.5 * random.normal(size=rows) > 0).astype(np.int64)
    for of, copy in COPIES:
        x[:, copy] = x[:, of] + 0.2 * random.normal(size=rows)
    x[:, STILL] = 3.0
    return x.astype(np.float32), y


def best(found: Any, count: int) -> set[int]:
    return set(np.argsort(-np.asarray(found), kind="stable")[:count].tolist())


@pytest.mark.parametrize("by", get_args(By))
def test_one_score_for_each_number_and_always_the_same(by):
    x, y = made()
    found = selection.scores(by, "text-classification", x, y)
    assert len(found) == 8 and np.isfinite(found).all()
    assert found == selection.scores(by, "text-classification", x.copy(), y)


def test_scores_are_scikit_learns():
    x, y = made()
    moving = [i for i in range(8) if i != STILL]
    found = selection.scores("anova", "text-classification", x, y)
    assert np.allclose(np.take(found, moving), f_classif(x[:, moving], y)[0], rtol=1e-3)
    oracle: Any = (
        SelectKBest(f_classif, k=4).fit(x[:, moving], y).get_support(indices=True)
    )
    assert best(found, 4) == {moving[i] for i in oracle}
    found = selection.scores("mutual-information", "text-classification", x, y)
    assert np.allclose(found, mutual_info_classif(x.astype(float), y, random_state=0))
    found = selection.scores("variance", "text-classification", x, y)
    oracle = VarianceThreshold().fit(x.astype(float)).variances_
    assert np.allclose(found, oracle)


def test_what_never_changes_tells_nothing():
    x, y = made()
    for by in ("variance", "anova", "l1"):
        found = selection.scores(by, "text-classification", x, y)
        assert found[STILL] == min(found)


def test_a_lasso_takes_up_what_tells_most_first():
    x, y = made()
    found = selection.scores("l1", "text-classification", x, y)
    assert sorted(found) == list(range(1, 9))
    moving = [i for i in range(8) if i != STILL]
    scaled = (x[:, moving] - x[:, moving].mean(0)) / x[:, moving].std(0)
    _, active, _ = lars_path(scaled.astype(float), y - y.mean(), method="lasso")
    for count in (1, 2, 3):
        assert best(found, count) == {moving[i] for i in active[:count]}
    assert set(TOLD) <= best(found, 4)


def test_of_numbers_that_say_the_same_the_one_that_tells_more_stays():
    x, y = made()
    found = selection.scores("correlation", "text-classification", x, y)
    telling = selection.scores("anova", "text-classification", x, y)
    for pair in COPIES:
        stays, goes = sorted(pair, key=lambda i: -telling[i])
        assert found[goes] < found[stays]
    assert {found[6], found[7], found[1], found[4]} > {0.0, 1.0}  # the first to go
    # No two that are left are as alike as any that has gone.
    kept = sorted(best(found, 6) - {STILL})
    alike = np.abs(np.corrcoef(x[:, kept].T)) - np.eye(len(kept))
    assert alike.max() < 0.5


@pytest.mark.parametrize("by", get_args(By))
def test_several_labels_and_numbers(by):
    x, y = made()
    several = np.stack([y, 1 - y], 1).astype(np.float32)
    assert len(selection.scores(by, "multi-label", x, several)) == 8
    target = (x[:, 1] - x[:, 4])[:, None]
    found = selection.scores(by, "regression", x, target)
    if by in ("anova", "l1", "mutual-information"):
        assert best(found, 4) == {1, 4, 6, 7}
    if by == "anova":
        moving = [i for i in range(8) if i != STILL]
        oracle = f_regression(x[:, moving].astype(float), target[:, 0].astype(float))
        assert np.allclose(np.take(found, moving), oracle[0], rtol=1e-6)
    three = np.digitize(x[:, 1], [-0.5, 0.5])
    assert 1 in best(selection.scores(by, "text-classification", x, three), 8)
