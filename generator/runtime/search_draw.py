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
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from scipy.stats import qmc

from generator.search.goals import Objective
from generator.search.space import Choice

optuna.logging.set_verbosity(logging.ERROR)  # it warns of what would be quicker
LEARN = ("gp", "tpe")  # samplers that say the likely best of what they know
PATIENCE = 4  # draws of such a one, before chance draws


@dataclass(frozen=True)
class Past:
    """A trial that a sampler is shown: what it was, and what came of it, if anything did."""

    params: Mapping[str, Any]
    values: Mapping[str, float] | None  # None of one that ended without them
    # Constraints, and how far it is outside, or inside where that is below 0.
    broken: Mapping[str, float] = field(default_factory=dict)
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
    index: int,
    trials: int,
    past: Sequence[Past],
    choices: Sequence[Choice],
    objectives: Sequence[Objective],
) -> Drawn:
    """One candidate, which is the `index`th that is drawn. `seed` is of the search's number,
    the trial's, and the draw's, which is above 0 where those before were no news."""
    first, _, again = seed
    if sampler in LEARN and index < starts(trials) and not again:
        return Drawn(spread_evenly(first, index, choices), {})
    if sampler in LEARN and again >= PATIENCE:
        sampler = "random"  # whoever has learned says the same again
    shown, seen = choices, past
    if sampler == "gp":  # which knows of no conditions
        shown = [replace(one, when=()) for one in choices]
        seen = [replace(one, params=filled(one.params, choices)) for one in past]
    study = optuna.create_study(
        directions=[o.direction for o in objectives],
        sampler=_sampler(sampler, seed, trials),
    )
    known = {one.key: distribution(one) for one in choices}
    study.add_trials([_frozen(one, known, objectives) for one in seen])
    with warnings.catch_warnings():
        # Of groups of conditional choices, which Optuna calls experimental.
        warnings.simplefilter("ignore")
        trial = study.ask()
        params = suggested(trial, shown)
    own = study.trials[trial.number]
    return Drawn(active(params, choices), dict(own.system_attrs))


def starts(trials: int) -> int:
    """How many candidates are spread over the space before what they gave is learned from."""
    return max(4, min(10, trials // 4))


def spread_evenly(seed: int, index: int, choices: Sequence[Choice]) -> dict[str, Any]:
    """The `index`th of candidates that leave no part of the space out, each of the first
    few in another: points of a scrambled Sobol sequence."""
    sequence = qmc.Sobol(len(choices), rng=_number((seed,)))
    points = sequence.random_base2(index.bit_length())
    params = {
        one.key: _at(one, float(part))
        for one, part in zip(choices, points[index], strict=True)
    }
    return active(params, choices)


def filled(params: Mapping[str, Any], choices: Sequence[Choice]) -> dict[str, Any]:
    """Values with those in the middle for the choices whose conditions do not hold."""
    return {one.key: params.get(one.key, _at(one, 0.5)) for one in choices}


def active(params: Mapping[str, Any], choices: Sequence[Choice]) -> dict[str, Any]:
    """The values of the choices whose conditions hold."""
    found: dict[str, Any] = {}
    for one in choices:
        if all(found.get(key) in values for key, values in one.when):
            found[one.key] = params[one.key]
    return found


def _at(one: Choice, part: float) -> Any:
    """The value at a part of what a choice is among, from 0 to below 1."""
    if one.kind == "categorical":
        return one.labels[int(part * len(one.labels))]
    if one.log:
        value = one.low * (one.high / one.low) ** part
        return round(value) if one.kind == "int" else value
    step = one.step or (1 if one.kind == "int" else None)
    if step is None:
        return one.low + part * (one.high - one.low)
    count = int((one.high - one.low) / step + 1e-9) + 1
    value = one.low + int(part * count) * step
    return int(value) if one.kind == "int" else value


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


def _number(seed: Sequence[int]) -> int:
    whole = hashlib.sha256("/".join(map(str, seed)).encode()).digest()
    return int.from_bytes(whole[:4], "big")


def _sampler(name: str, seed: Sequence[int], trials: int) -> BaseSampler:
    number = _number(seed)
    if name == "random":
        return RandomSampler(number)
    if name == "nsga2":
        return NSGAIISampler(population_size=max(4, min(20, trials // 4)), seed=number)
    if name == "gp":
        return GPSampler(seed=number, n_startup_trials=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TPESampler(
            n_startup_trials=1, multivariate=True, group=True, seed=number
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
