"""Which trials of a search count, which are its front, and how much the front covers.

A search is what stands in its search.json. All values are of the validation rows.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from generator.search import goals
from generator.search.goals import OBJECTIVES, Objective, Values

Trial = Mapping[str, Any]
SAMPLERS = {
    "tpe": "TPE",
    "nsga2": "NSGA-II",
    "random": "chance",
}


@dataclass(frozen=True)
class Bound:
    """A constraint, and what it comes to in this search; None while that is not known."""

    text: str
    value: float | None
    objective: str
    least: bool  # whether values are at least that, and else at most

    def holds(self, trial: Trial) -> bool | None:
        """None where the trial has no such value."""
        value = trial["values"].get(self.objective)
        if value is None or self.value is None:
            return None
        return value >= self.value if self.least else value <= self.value


@dataclass(frozen=True)
class Box:
    """What a front is measured in: between the worst and the best of each objective."""

    worst: Values
    best: Values


def objectives(found: Mapping[str, Any]) -> tuple[Objective, ...]:
    return tuple(OBJECTIVES[one["name"]] for one in found["objectives"])


def bounds(found: Mapping[str, Any]) -> tuple[Bound, ...]:
    known = []
    for one in found["constraints"]:
        meant = goals.constraint(one["text"])
        known.append(Bound(one["text"], one["bound"], meant.objective, meant.least))
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
    limits = bounds(found)
    return [
        trial
        for trial in finished(found)
        if trial.get("baseline") == "unedited"  # which the others are measured by
        or all(limit.holds(trial) is not False for limit in limits)
    ]


def front(trials: Sequence[Trial], wanted: Sequence[Objective]) -> list[Trial]:
    """Trials that no other one is better than, the best of the first objective first."""
    by_number = {trial["number"]: trial for trial in trials}
    values = {number: trial["values"] for number, trial in by_number.items()}
    kept = [by_number[number] for number in goals.front(values, wanted)]
    return sorted(kept, key=lambda trial: loss(trial, wanted[0]))


def loss(trial: Trial, objective: Objective) -> float:
    """The trial's value as one of which less is better."""
    value = trial["values"][objective.name]
    return -value if objective.direction == "maximize" else value


def best(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The trial with the best value."""
    return min(trials, key=lambda trial: loss(trial, objective), default=None)


def box(trials: Sequence[Trial], wanted: Sequence[Objective]) -> Box | None:
    """What all of them lie in; None where there are none."""
    if not trials:
        return None
    ends = []
    for end in (max, min):
        found = {o.name: end(trials, key=lambda t, o=o: loss(t, o)) for o in wanted}
        ends.append({name: trial["values"][name] for name, trial in found.items()})
    return Box(*ends)


def covered(trials: Sequence[Trial], wanted: Sequence[Objective], within: Box) -> float:
    """The part of the box that some trial is at least as good as: the hypervolume of
    the trials over that of the box. A side without length is left out."""
    sides = [o for o in wanted if within.worst[o.name] != within.best[o.name]]
    if not sides:
        return 0.0
    points = [trial["values"] for trial in trials]
    whole = goals.hypervolume([within.best], within.worst, sides)
    return goals.hypervolume(points, within.worst, sides) / whole


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


def best_so_far(
    trials: Sequence[Trial], objective: Objective, kept: Sequence[Trial]
) -> list[float]:
    """After each trial the best value until then, of those that are `kept`; not a number
    before the first of them."""
    numbers = {id(trial) for trial in kept}
    top, found = None, []
    for trial in trials:
        if id(trial) in numbers:
            top = best([trial] if top is None else [top, trial], objective)
        found.append(math.nan if top is None else top["values"][objective.name])
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
