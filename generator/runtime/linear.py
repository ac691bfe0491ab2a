"""Linear probes of vectors, by scikit-learn, and what tells whether one model beats another.

A probe standardises the vectors with the mean and the deviation of the rows that it is
fitted on, and is a logistic regression on them (one for each label, where a row may have
several) or a ridge regression. How strongly it is held to zero is chosen on other rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Of a logistic regression the inverse of its penalty, weakest last; of a ridge likewise.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
STEPS = 300  # of a logistic regression at most: more change no figure that is shown
RARE = -30.0  # the log-probability of a label that no row of the fit has
RESAMPLES, LEVEL = 2000, 0.95  # of a bootstrap
NAMES = {"multi-label": "micro_f1", "regression": "pearson"}  # of what sums up a test


def score_name(task: str) -> str:
    return NAMES.get(task, "accuracy")


@dataclass(frozen=True)
class Probe:
    """What was fitted: logits are x scaled, times weights, plus bias."""

    task: str
    strength: float
    mean: Any  # (C)
    deviation: Any  # (C)
    weights: Any  # (K, C)
    bias: Any  # (K)

    def logits(self, x: Any) -> Any:
        """(N, K), fp64."""
        scaled = (np.asarray(x, np.float64) - self.mean) / self.deviation
        return scaled @ self.weights.T + self.bias


def fit(task: str, labels: int, x: Any, targets: Any, strength: float) -> Probe:
    """A probe of vectors (N, C). Targets are (N), or (N, K) of several labels or numbers."""
    x = np.asarray(x, np.float64)
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation < 1e-12 * max(1.0, np.abs(x).max(initial=0))] = 1.0
    scaled = (x - mean) / deviation
    if task == "regression":
        weights, bias = _ridge(scaled, np.reshape(targets, (len(x), -1)), strength)
    elif task == "multi-label":
        each = [_binary(scaled, column > 0.5, strength) for column in targets.T]
        weights, bias = np.stack([w for w, _ in each]), np.array([b for _, b in each])
    else:
        weights, bias = _classes(scaled, targets, labels, strength)
    return Probe(task, strength, mean, deviation, weights, bias)


def _ridge(x: Any, targets: Any, strength: float) -> tuple[Any, Any]:
    from sklearn.linear_model import Ridge

    found = Ridge(alpha=1 / strength).fit(x, targets)
    weights = np.reshape(found.coef_, (targets.shape[1], -1))
    return weights, np.reshape(found.intercept_, -1)


def _logistic(x: Any, targets: Any, strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=STEPS).fit(x, targets)


def _binary(x: Any, has: Any, strength: float) -> tuple[Any, float]:
    if has.all() or not has.any():  # nothing to tell apart
        return np.zeros(x.shape[1]), -RARE if has.all() else RARE
    found = _logistic(x, has, strength)
    return found.coef_[0], float(found.intercept_[0])


def _classes(x: Any, targets: Any, labels: int, strength: float) -> tuple[Any, Any]:
    weights, bias = np.zeros((labels, x.shape[1])), np.full(labels, RARE)
    there = np.unique(targets)
    if len(there) == 1:
        bias[there] = 0.0
        return weights, bias
    found = _logistic(x, targets, strength)
    if len(there) == 2:  # sklearn then has one line, of the second
        weights[there[1]] = found.coef_[0]
        bias[there] = 0.0, found.intercept_[0]
        return weights, bias
    weights[there], bias[there] = found.coef_, found.intercept_
    return weights, bias


def loss(task: str, logits: Any, targets: Any) -> float:
    """The mean loss that a job of this task trains with: what strengths are chosen by."""
    return float(losses(task, logits, targets).mean())


def losses(task: str, logits: Any, targets: Any) -> Any:
    """The loss of each row (N)."""
    if task == "regression":
        return np.square(logits - np.reshape(targets, logits.shape)).mean(1)
    if task == "multi-label":
        return (np.logaddexp(0, logits) - logits * targets).mean(1)
    top = logits.max(1)
    total = np.log(np.exp(logits - top[:, None]).sum(1)) + top
    return total - logits[np.arange(len(logits)), targets]


def strengths(task: str) -> tuple[float, ...]:
    return RIDGES if task == "regression" else STRENGTHS


def chosen(
    task: str, labels: int, train: tuple[Any, Any], valid: tuple[Any, Any]
) -> tuple[Probe, float]:
    """The probe of training rows with the least loss on validation rows, and that loss.

    Each of the two is vectors and targets. Of equal ones the one held to zero most. From
    the strongest penalty on, the first after which the loss is no smaller.
    """
    best: tuple[Probe, float] | None = None
    for strength in strengths(task):
        probe = fit(task, labels, *train, strength)
        far = loss(task, probe.logits(valid[0]), valid[1])
        if best is not None and far >= best[1]:
            break  # the weaker ones fit noise, and take the longest
        best = probe, far
    assert best is not None
    return best


# ----------------------------------------------------------------------------- comparing


def score(task: str, logits: Any, targets: Any) -> float:
    """Accuracy, micro F1 or Pearson's r, as the packages' own measure has them."""
    every = np.arange(len(logits))[None]
    return float(_scores(task, logits, targets, every)[0])


def _scores(task: str, logits: Any, targets: Any, draws: Any) -> Any:
    """The score of each draw (D, N) of row numbers."""
    if task == "regression":
        y = np.reshape(targets, logits.shape)
        return np.array([_pearson(logits[rows], y[rows]) for rows in draws])
    if task == "multi-label":
        guesses, truth = logits > 0, targets > 0.5
        hits = (guesses & truth).sum(1)
        marks = guesses.sum(1) + truth.sum(1)
        return 2 * hits[draws].sum(1) / np.maximum(marks[draws].sum(1), 1)
    return (logits.argmax(1) == targets)[draws].mean(1)


def _pearson(guesses: Any, targets: Any) -> float:
    x, y = guesses - guesses.mean(0), targets - targets.mean(0)
    unit = np.linalg.norm(y, axis=0)  # which may be very small
    x, y = (z / np.where(unit > 0, unit, 1) for z in (x, y))
    size = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    return float(((x * y).sum(0) / np.maximum(size, 1e-12)).mean())


@dataclass(frozen=True)
class Difference:
    """How much better the second of two models is on the same rows."""

    first: float
    second: float
    low: float  # of the interval of second - first
    high: float
    p: float | None  # McNemar's exact test, where rows have one label

    @property
    def verdict(self) -> str:
        """Of the second: "better", "worse", or "level" where the rows do not tell."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "level"


def compared(task: str, first: Any, second: Any, targets: Any) -> Difference:
    """Logits of two models for the same rows; a paired bootstrap over the rows."""
    random = np.random.default_rng(0)
    lows: list[Any] = []
    for some in _draws(random, len(targets)):
        a, b = (_scores(task, logits, targets, some) for logits in (first, second))
        lows.append(b - a)
    low, high = np.quantile(np.concatenate(lows), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    one, two = (score(task, logits, targets) for logits in (first, second))
    p = _mcnemar(task, first, second, targets)
    return Difference(one, two, float(low), float(high), p)


def interval(task: str, logits: Any, targets: Any) -> tuple[float, float]:
    """Of the score of one model, by a bootstrap over the rows."""
    draws = _draws(np.random.default_rng(0), len(targets))
    found = np.concatenate([_scores(task, logits, targets, some) for some in draws])
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _draws(random: Any, rows: int) -> Iterator[Any]:
    """RESAMPLES draws of as many rows, some at a time: memory stays small."""
    each = max(1, min(RESAMPLES, 10_000_000 // max(rows, 1)))
    for start in range(0, RESAMPLES, each):
        yield random.integers(0, rows, (min(each, RESAMPLES - start), rows))


def _mcnemar(task: str, first: Any, second: Any, targets: Any) -> float | None:
    if task in NAMES:
        return None
    from scipy.stats import binomtest

    right = [logits.argmax(1) == targets for logits in (first, second)]
    won, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


# --------------------------------------------------------------------- folds, and LogME


def folds(rows: int, count: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Row numbers in and out of each of `count` parts of a seeded order."""
    order = np.random.default_rng(seed).permutation(rows)
    for part in range(count):
        out = np.zeros(rows, dtype=bool)
        out[order[part::count]] = True
        yield np.flatnonzero(~out), np.flatnonzero(out)


def log_evidence(x: Any, targets: Any, labels: int, task: str) -> float:
    """LogME (You et al., 2021): the largest log evidence of a Bayesian linear model of
    vectors (N, C), for each row, the mean over labels.

    Weights are normal with precision alpha, noise with precision beta, and both are
    what makes the targets most probable, found by the fixed point of You et al. (2022).
    """
    x = np.asarray(x, np.float64)
    if task in NAMES:
        y = np.reshape(np.asarray(targets, np.float64), (len(x), -1))
    else:
        y = np.eye(labels)[np.asarray(targets)]
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return float(np.mean([_evidence(u, s**2, x.shape, column) for column in y.T]))


def _evidence(u: Any, squares: Any, shape: Sequence[int], y: Any) -> float:
    """Of one target (N), where x is (N, C) with left singular vectors u."""
    rows, width = shape
    along = np.square(u.T @ y)
    beside = max(float(y @ y - along.sum()), 0.0)  # what no weights can reach
    alpha = beta = 1.0
    for _ in range(200):
        shrunk = alpha + beta * squares
        gamma = float((beta * squares / shrunk).sum())
        weights = float((beta**2 * squares * along / shrunk**2).sum())
        error = float((alpha**2 * along / shrunk**2).sum()) + beside
        old = alpha / beta
        alpha = gamma / max(weights, 1e-12)
        beta = max(rows - gamma, 1e-12) / max(error, 1e-12)
        if abs(alpha / beta - old) <= 1e-6 * old:
            break
    shrunk = alpha + beta * squares
    weights = float((beta**2 * squares * along / shrunk**2).sum())
    error = float((alpha**2 * along / shrunk**2).sum()) + beside
    logs = np.log(shrunk).sum() + max(width - len(squares), 0) * np.log(alpha)
    total = width * np.log(alpha) + rows * np.log(beta) - rows * np.log(2 * np.pi)
    return float((total - logs - beta * error - alpha * weights) / 2 / rows)
