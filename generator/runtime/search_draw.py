"""Which candidate comes next: Optuna's samplers, as functions of the seed and the past.

A sampler here keeps nothing. It is made anew for each draw, with a seed of its own that
follows from the search's and the trial's number, and is shown the trials of the generations
before. So a draw can be made again anywhere: a worker that takes up the trial of one that
was killed draws the same candidate, and how fast trials end changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from generator.search.goals import Objective
from generator.search.space import Choice

optuna.logging.set_verbosity(logging.WARNING)


@dataclass(frozen=True)
class Past:
    """A trial that a sampler is shown: what it was, and what came of it, if anything did."""

    params: Mapping[str, Any]
    values: Mapping[str, float] | None  # None of one that ended without them
    broken: Mapping[str, float] = field(
        default_factory=dict
    )  # constraints, and how far
    attributes: Mapping[str, Any] = field(default_factory=dict)  # the sampler's own
    running: bool = False


@dataclass(frozen=True)
class Drawn:
    """A candidate, and what the sampler wants to know of it later."""

    params: dict[str, Any]
    attributes: dict[str, Any]


def draw(
    sampler: str,
    seed: Sequence[int],
    trials: int,
    past: Sequence[Past],
    choices: Sequence[Choice],
    objectives: Sequence[Objective],
) -> Drawn:
    """One candidate. `seed` is of numbers, such as the search's, the trial's, the draw's."""
    study = optuna.create_study(
        directions=[o.direction for o in objectives],
        sampler=_sampler(sampler, seed, trials),
    )
    known = {one.key: distribution(one) for one in choices}
    study.add_trials([_frozen(one, known, objectives) for one in past])
    with warnings.catch_warnings():
        # Of groups of conditional choices, which Optuna calls experimental.
        warnings.simplefilter("ignore")
        trial = study.ask()
        params = suggested(trial, choices)
    own = study.trials[trial.number]
    return Drawn(params, dict(own.system_attrs))


def suggested(trial: Trial, choices: Sequence[Choice]) -> dict[str, Any]:
    """A value of each choice whose conditions hold."""
    params: dict[str, Any] = {}
    for one in choices:
        if all(params.get(key) in values for key, values in one.when):
            params[one.key] = _suggest(trial, one)
    return params


def _suggest(trial: Trial, one: Choice) -> Any:
    if one.kind == "categorical":
        return trial.suggest_categorical(one.key, one.labels)
    if one.kind == "int":
        bounds = int(one.low), int(one.high)
        return trial.suggest_int(one.key, *bounds, step=int(one.step or 1), log=one.log)
    return trial.suggest_float(one.key, one.low, one.high, step=one.step, log=one.log)


def distribution(one: Choice) -> BaseDistribution:
    if one.kind == "categorical":
        return CategoricalDistribution(one.labels)
    if one.kind == "int":
        step = int(one.step or 1)
        return IntDistribution(int(one.low), int(one.high), one.log, step)
    return FloatDistribution(one.low, one.high, one.log, one.step)


def _sampler(name: str, seed: Sequence[int], trials: int) -> BaseSampler:
    whole = hashlib.sha256("/".join(map(str, seed)).encode()).digest()
    number = int.from_bytes(whole[:4], "big")
    if name == "random":
        return RandomSampler(number)
    if name == "nsga2":
        return NSGAIISampler(population_size=max(4, min(20, trials // 4)), seed=number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TPESampler(
            n_startup_trials=max(4, min(10, trials // 4)),
            multivariate=True,
            group=True,
            seed=number,
        )


def _frozen(
    one: Past,
    known: Mapping[str, BaseDistribution],
    objectives: Sequence[Objective],
) -> FrozenTrial:
    state = TrialState.COMPLETE
    if one.running:
        state = TrialState.RUNNING
    elif one.values is None:
        state = TrialState.FAIL
    params = {key: value for key, value in one.params.items() if key in known}
    values = [one.values[o.name] for o in objectives] if one.values else None
    return create_trial(
        state=state,
        values=values,
        params=params,
        distributions={key: known[key] for key in params},
        system_attrs=dict(one.attributes),
        constraints=dict(one.broken) if one.values else None,
    )


def important(
    records: Sequence[Mapping[str, Any]],
    choices: Sequence[Choice],
    objectives: Sequence[Objective],
    which: int,
) -> dict[str, float]:
    """How much each choice that all trials have decides about one objective, by fANOVA;
    parts of 1. Nothing where there are too few trials."""
    study = optuna.create_study(directions=[o.direction for o in objectives])
    known = {one.key: distribution(one) for one in choices}
    past = [Past(r["params"], r["values"]) for r in records]
    study.add_trials([_frozen(one, known, objectives) for one in past])
    values = {r["values"][objectives[which].name] for r in records}
    if len(records) < 4 or len(values) < 2:
        return {}
    found = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[which],
    )
    return {key: float(value) for key, value in found.items()}
