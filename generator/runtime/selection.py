"""Scores of the numbers of a vector, by which some are kept: statistics of training rows.

All are by scikit-learn, of rows that nothing else is fitted on; higher is better.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from generator.spec.select import By

ALPHAS, WEAKEST = 100, 1e-3  # penalties of a lasso's path; the last by the first


def scores(by: By, task: str, x: Any, targets: Any) -> tuple[float, ...]:
    """Of vectors (N, C) a score of each of the C numbers. Targets are (N), or (N, K) of
    several labels or numbers, over which scores are averaged."""
    x = np.asarray(x, np.float64)
    found = _BY[by](x, _columns(task, targets), task == "regression")
    return tuple(float(score) for score in np.nan_to_num(found, posinf=1e30))


def _columns(task: str, targets: Any) -> list[Any]:
    """What is told: one column of labels, or one for each of several labels or numbers."""
    targets = np.asarray(targets)
    if task in ("multi-label", "regression"):
        return list(np.reshape(targets, (len(targets), -1)).T)
    return [targets]


def _variance(x: Any, columns: list[Any], numbers: bool) -> Any:
    from sklearn.feature_selection import VarianceThreshold

    return np.var(x, 0) if np.ptp(x) == 0 else VarianceThreshold().fit(x).variances_


def _mutual_information(x: Any, columns: list[Any], numbers: bool) -> Any:
    from sklearn import feature_selection as of

    told: Callable[..., Any] = (
        of.mutual_info_regression if numbers else of.mutual_info_classif
    )
    return np.mean([told(x, y, random_state=0) for y in columns], 0)


def _anova(x: Any, columns: list[Any], numbers: bool) -> Any:
    """F of each number; 0 where it never changes, or nothing is to be told."""
    from sklearn.feature_selection import f_classif, f_regression

    told: Callable[..., Any] = f_regression if numbers else f_classif
    moving, found = np.ptp(x, axis=0) > 0, np.zeros(x.shape[1])
    columns = [y for y in columns if len(np.unique(y)) > 1]
    if columns and moving.any():
        with np.errstate(divide="ignore"):  # of what tells all, F is infinite
            each = [told(x[:, moving], y)[0] for y in columns]
        found[moving] = np.mean(np.nan_to_num(each, posinf=1e30), 0)
    return found


def _standardised(x: Any) -> Any:
    deviation = x.std(0)
    still = deviation < 1e-12
    return (x - x.mean(0)) / np.where(still, 1.0, deviation) * ~still


def _l1(x: Any, columns: list[Any], numbers: bool) -> Any:
    """From the last number that a lasso takes up to the first, as its penalty falls.

    Labels are told as numbers, one of 0 and 1 for each label.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lasso_path

    if not numbers and len(columns) == 1:
        columns = [columns[0] == label for label in np.unique(columns[0])][1:]
    y = _standardised(np.stack(columns, 1).astype(np.float64))
    x = _standardised(x)
    beside = np.linalg.norm(x.T @ y, axis=1) / len(x)
    strongest = max(float(beside.max()), 1e-12)  # from which on none is taken up
    alphas: Any = np.geomspace(strongest, strongest * WEAKEST, ALPHAS)
    y = y[:, 0] if y.shape[1] == 1 else y
    with warnings.catch_warnings():
        # Weak penalties may take long; by then what tells something is taken up.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, path, _ = lasso_path(x, y, alphas=alphas, max_iter=2000)
    sizes = np.abs(path) if path.ndim == 2 else np.linalg.norm(path, axis=0)
    taken = sizes > 0  # (C, ALPHAS)
    first = np.where(taken.any(1), taken.argmax(1), ALPHAS)
    size = np.where(taken.any(1), sizes[np.arange(len(x.T)), first % ALPHAS], 0.0)
    order = np.lexsort((np.arange(len(first)), -beside, -size, first))
    found = np.empty(len(first))
    found[order] = np.arange(len(first), 0, -1)
    return found


def _correlation(x: Any, columns: list[Any], numbers: bool) -> Any:
    """When each number leaves, if one of the two that are most alike leaves each time:
    the one that tells less by itself."""
    telling = _anova(x, columns, numbers)
    scaled = _standardised(x)
    alike = np.abs(scaled.T @ scaled) / len(x)
    np.fill_diagonal(alike, -1.0)
    found = np.full(len(alike), float(len(alike)))  # the last one stays
    for turn in range(len(alike) - 1):
        a, b = divmod(int(alike.argmax()), len(alike))
        gone = a if (telling[a], -a) < (telling[b], -b) else b
        found[gone] = turn
        alike[gone] = alike[:, gone] = -2.0
    return found


_BY: dict[By, Callable[[Any, list[Any], bool], Any]] = {
    "variance": _variance,
    "mutual-information": _mutual_information,
    "anova": _anova,
    "l1": _l1,
    "correlation": _correlation,
}
