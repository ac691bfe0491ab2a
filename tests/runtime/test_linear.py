"""Probes of hand-made vectors, against scikit-learn and against formulas written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from generator.runtime import linear

SIZES = {"text-classification": 3, "multi-label": 2, "regression": 2}


def made(task: str, rows: int = 120, seed: int = 0) -> tuple[Any, Any]:
    """Vectors of which a part tells the target, on scales that differ."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 7)) * 10.0 ** np.arange(-3, 4) + 5
    true = np.random.default_rng(99).normal(size=(7, SIZES[task])) / 10.0 ** np.arange(
        -3, 4
    ).reshape(-1, 1)
    y = (x - 5) @ true + 0.3 * random.normal(size=(rows, SIZES[task]))
    if task == "text-classification":
        return x, y.argmax(1)
    return x, (y > 0).astype(np.float32) if task == "multi-label" else y


@pytest.mark.parametrize("task", SIZES)
def test_a_probe_is_scikit_learns(task):
    x, y = made(task)
    probe = linear.fit(task, SIZES[task], x, y, 0.1)
    if task == "regression":
        oracle = make_pipeline(StandardScaler(), Ridge(alpha=10)).fit(x, y)
        theirs = oracle.predict(x)
    else:
        one = LogisticRegression(C=0.1, max_iter=1000)
        model = OneVsRestClassifier(one) if task == "multi-label" else one
        oracle = make_pipeline(StandardScaler(), model).fit(x, y)
        theirs = oracle.decision_function(x)
    assert np.allclose(probe.logits(x), theirs, atol=2e-3)


def test_labels_that_no_row_has_are_never_told():
    x, y = made("text-classification")
    few = y != 2
    probe = linear.fit("text-classification", 4, x[few], y[few], 0.1)
    assert set(probe.logits(x).argmax(1)) <= {0, 1}
    one = linear.fit("text-classification", 3, x[y == 1], y[y == 1], 0.1)
    assert set(one.logits(x).argmax(1)) == {1}
    z, has = made("multi-label")
    has[:, 0], has[:, 1] = 1, 0
    found = linear.fit("multi-label", 2, z, has, 0.1).logits(z)
    assert (found[:, 0] > 0).all() and (found[:, 1] < 0).all()


def test_a_channel_that_never_changes_does_no_harm():
    x, y = made("text-classification")
    x[:, 2] = 4.25
    logits = linear.fit("text-classification", 3, x, y, 0.1).logits(x + 1e-3)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("task", SIZES)
def test_strength_is_chosen_on_the_validation_rows_alone(task):
    train, valid = made(task), made(task, seed=1)
    _, far = linear.chosen(task, SIZES[task], train, valid)
    each = [linear.fit(task, SIZES[task], *train, s) for s in linear.strengths(task)]
    losses = [linear.loss(task, one.logits(valid[0]), valid[1]) for one in each]
    assert far == min(losses)
    # What is fitted does not see them: mean, deviation and weights are the same.
    other, _ = linear.chosen(task, SIZES[task], train, (valid[0] + 1, valid[1]))
    same = next(one for one in each if one.strength == other.strength)
    assert np.array_equal(other.weights, same.weights)
    assert np.array_equal(other.mean, train[0].mean(0))


def test_losses_and_scores_are_those_of_their_definitions():
    random = np.random.default_rng(3)
    logits, y = random.normal(size=(50, 3)), random.integers(0, 3, 50)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert linear.loss("text-classification", logits, y) == pytest.approx(
        log_loss(y, chances)
    )
    assert linear.score("text-classification", logits, y) == np.mean(
        logits.argmax(1) == y
    )
    has = (random.random((50, 3)) > 0.5).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-logits))
    terms = has * np.log(sigmoid) + (1 - has) * np.log(1 - sigmoid)
    assert linear.loss("multi-label", logits, has) == pytest.approx(-terms.mean())
    assert linear.score("multi-label", logits, has) == pytest.approx(
        f1_score(has, logits > 0, average="micro")
    )
    truth = logits + random.normal(size=(50, 3))
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(logits.T, truth.T, strict=True)]
    assert linear.score("regression", logits, truth) == pytest.approx(np.mean(r))
    assert linear.loss("regression", logits, truth) == pytest.approx(
        np.square(logits - truth).mean()
    )


def guesses(right: Any, targets: Any) -> Any:
    """Logits that tell the target of the rows which are to be right."""
    told = np.where(right, targets, 1 - targets)
    return np.eye(2)[told]


def test_what_is_better_worse_or_level_on_the_same_rows():
    random = np.random.default_rng(4)
    y = random.integers(0, 2, 400)
    poor, good = random.random(400) < 0.7, random.random(400) < 0.85
    first, second = guesses(poor, y), guesses(good, y)
    found = linear.compared("text-classification", first, second, y)
    assert found.verdict == "better"
    assert found.low < found.second - found.first < found.high
    # Of the difference of paired rows the standard error has a formula.
    error = np.std(good.astype(float) - poor) / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.p is not None and found.p < 1e-4
    turned = linear.compared("text-classification", second, first, y)
    assert turned.verdict == "worse"
    same = linear.compared("text-classification", first, first, y)
    assert (same.verdict, same.low, same.high, same.p) == ("level", 0, 0, 1)
    assert found == linear.compared("text-classification", first, second, y)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_scores_are_compared_too(task):
    _, y = made(task, 200)
    noise = np.random.default_rng(5).normal(size=y.shape)
    close, far = (np.asarray(y, float) - 0.5 + n * noise for n in (0.1, 3.0))
    found = linear.compared(task, far, close, y)
    assert found.verdict == "better" and found.p is None


@pytest.mark.parametrize(("rows", "width"), [(40, 6), (12, 30)])
def test_logme_is_the_largest_evidence(rows, width):
    random = np.random.default_rng(1)
    x = random.normal(size=(rows, width))
    y = x @ random.normal(size=width) + random.normal(size=rows)

    def unlikely(logs: Any) -> float:
        alpha, beta = np.exp(logs)
        spread = x @ x.T / alpha + np.eye(rows) / beta
        return -float(multivariate_normal.logpdf(y, np.zeros(rows), spread)) / rows

    tried = [minimize(unlikely, start, method="Nelder-Mead").fun
             for start in ((-2, -1), (0, 0), (2, 2), (-1, 3))]  # fmt: skip
    found = linear.log_evidence(x, y, 1, "regression")
    assert found == pytest.approx(-min(tried), abs=1e-6)


def test_logme_ranks_vectors_by_what_they_tell():
    x, y = made("text-classification")
    noise = np.random.default_rng(6).normal(size=x.shape)
    more, less = (
        linear.log_evidence(v, y, 3, "text-classification") for v in (x, noise)
    )
    assert more > less


def test_folds_have_every_row_out_once():
    parts = list(linear.folds(23, 5, seed=1))
    assert sorted(np.concatenate([out for _, out in parts])) == list(range(23))
    assert all(not set(a) & set(b) and len(a) + len(b) == 23 for a, b in parts)
    again = list(linear.folds(23, 5, seed=1))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(parts, again, strict=True))
