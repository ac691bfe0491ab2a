"""Which trials of a search count, which are its front, and how much the front covers.

A search is what stands in its search.json. All values are of the validation rows.
"""

from __future__ import annotations

import datetime
import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

Trial = Mapping[str, Any]
CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)")


@dataclass(frozen=True)
class Objective:
    name: str
    maximised: bool
    unit: str

    def loss(self, value: float) -> float:
        """The value as one of which less is better."""
        return -value if self.maximised else value


@dataclass(frozen=True)
class Constraint:
    text: str
    bound: float | None
    objective: str  # "" where it is of none of the objectives
    most: bool  # whether the bound is the largest value that is allowed

    def holds(self, trial: Trial) -> bool | None:
        """None where the trial has no such value."""
        value = trial.get("values", {}).get(self.objective)
        if value is None or self.bound is None:
            return None
        return value <= self.bound if self.most else value >= self.bound


@dataclass(frozen=True)
class Box:
    """What a front is measured by: the best and the worst value of each objective."""

    best: tuple[float, ...]  # as losses
    worst: tuple[float, ...]


def objectives(found: Mapping[str, Any]) -> tuple[Objective, ...]:
    return tuple(
        Objective(o["name"], o["direction"].startswith("max"), o.get("unit") or "")
        for o in found["objectives"]
    )


def constraints(found: Mapping[str, Any]) -> tuple[Constraint, ...]:
    known = []
    for one in found.get("constraints", ()):
        match = CONSTRAINT.match(one["text"])
        name, most = (match[1], match[2].startswith("<")) if match else ("", True)
        known.append(Constraint(one["text"], one.get("bound"), name, most))
    return tuple(known)


def finished(found: Mapping[str, Any]) -> list[Trial]:
    """Trials that have a value for every objective, baselines among them."""
    return [trial for trial in found["trials"] if finished_one(trial, found)]


def finished_one(trial: Trial, found: Mapping[str, Any]) -> bool:
    values = trial.get("values") or {}
    known = all(is_number(values.get(o["name"])) for o in found["objectives"])
    return trial["state"] == "complete" and known


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def allowed(found: Mapping[str, Any]) -> list[Trial]:
    """Those of them that keep every constraint, as far as that can be told."""
    bounds = constraints(found)
    return [
        trial
        for trial in finished(found)
        if trial.get("baseline") == "unedited"  # which the others are measured by
        or all(bound.holds(trial) is not False for bound in bounds)
    ]


def losses(trial: Trial, wanted: Sequence[Objective]) -> tuple[float, ...]:
    """One for each objective; less is better in all."""
    return tuple(o.loss(trial["values"][o.name]) for o in wanted)


def front(trials: Sequence[Trial], wanted: Sequence[Objective]) -> list[Trial]:
    """Trials that no other one is better than: in one objective and no worse in others.

    Of trials with the same values the first stays. They are sorted by the first objective.
    """
    kept: list[tuple[tuple[float, ...], Trial]] = []
    for trial in sorted(trials, key=lambda trial: losses(trial, wanted)):
        point = losses(trial, wanted)
        # What is better than it comes before it, or something better still does.
        if not any(all(map(operator.le, other, point)) for other, _ in kept):
            kept.append((point, trial))
    return [trial for _, trial in kept]


def box(trials: Sequence[Trial], wanted: Sequence[Objective]) -> Box | None:
    """What all of them lie in; None where there are none."""
    columns = list(zip(*(losses(trial, wanted) for trial in trials), strict=True))
    if not columns:
        return None
    return Box(tuple(map(min, columns)), tuple(map(max, columns)))


def covered(trials: Sequence[Trial], wanted: Sequence[Objective], within: Box) -> float:
    """The part of the box that some trial is at least as good as: the hypervolume of
    the front over that of the box. A side without length is left out."""
    import numpy as np
    from optuna._hypervolume import compute_hypervolume

    sides = [i for i in range(len(wanted)) if within.worst[i] > within.best[i]]
    if not trials or not sides:
        return 0.0
    points = np.array([losses(trial, wanted) for trial in trials])[:, sides]
    best, worst = (np.array(end)[sides] for end in (within.best, within.worst))
    scaled = np.clip((points - best) / (worst - best), 0.0, 1.0)
    return float(compute_hypervolume(scaled, np.ones(len(sides))))


def in_time(trials: Sequence[Trial]) -> Iterator[tuple[float, Trial]]:
    """Trials by when they ended, each with the seconds for which any of them had been
    at work until then: breaks between two runs of a search do not count."""
    known = [
        (start, start + trial["seconds"], trial)
        for trial in trials
        if (start := began(trial)) is not None and is_number(trial.get("seconds"))
    ]
    spans: list[list[float]] = []
    for start, end, _ in sorted(known, key=lambda item: item[:2]):
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    for _, end, trial in sorted(known, key=lambda item: item[1]):
        yield sum(min(to, end) - start for start, to in spans if start < end), trial


def began(trial: Trial) -> float | None:
    """When a trial started, in seconds since 1970."""
    started = trial.get("started")
    return datetime.datetime.fromisoformat(started).timestamp() if started else None


def best_so_far(values: Sequence[float], maximised: bool) -> list[float]:
    found: list[float] = []
    for value in values:
        better = max if maximised else min
        found.append(better(found[-1], value) if found else value)
    return found


def changes(trial: Trial) -> list[str]:
    """What a trial's spec has otherwise than that of the search, a key or table each."""
    tables: dict[str, list[tuple[str, Any, Any]]] = {}
    for key, before, after in trial.get("diff") or ():
        table, dot, name = key.rpartition("].")
        tables.setdefault(table + dot.rstrip("."), []).append((name, before, after))
    return [words for table, keys in tables.items() for words in _changed(table, keys)]


def _changed(table: str, keys: Sequence[tuple[str, Any, Any]]) -> Iterator[str]:
    """The keys of a table that is one of several, as `edit[0]`, in one where all of it
    is new or gone."""
    if table and all(before is None for _, before, _ in keys):
        yield f"{table} = {label({name: after for name, _, after in keys})}"
    elif table and all(after is None for _, _, after in keys):
        yield f"without {table} = {label({name: before for name, before, _ in keys})}"
    else:
        for name, before, after in keys:
            key = f"{table}.{name}" if table else name
            if before is None:
                yield f"{key} = {label(after)}"
            else:
                yield f"{key}: {label(before)} → {label(after)}"


def label(value: Any) -> str:
    """A value of a spec, in few words."""
    match value:
        case None | []:
            return "nothing"
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.4g}"
        case {"do": do, **keys}:
            return " ".join([do, *(f"{k}={label(v)}" for k, v in keys.items())])
        case dict():
            return " ".join(f"{k}={label(v)}" for k, v in value.items())
        case list() | tuple():
            tables = all(isinstance(item, dict) for item in value)
            return (" + " if tables else ", ").join(map(label, value))
    return str(value)
