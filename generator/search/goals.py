"""Objectives and constraints of a search, and which of its points are worth keeping."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from generator.spec.rules import UNITS

Direction = Literal["maximize", "minimize"]
Values = Mapping[str, float]


@dataclass(frozen=True)
class Objective:
    """What a candidate is measured by."""

    name: str
    direction: Direction
    unit: str  # of its values
    cheap: bool  # whether it is known before any training

    def better(self, a: float, b: float) -> bool:
        return a > b if self.direction == "maximize" else a < b


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective("metric", "maximize", "", cheap=False),
        Objective("latency", "minimize", "ms", cheap=True),
        Objective("throughput", "maximize", "rows/s", cheap=True),
        Objective("memory", "minimize", "MB", cheap=True),
        Objective("parameters", "minimize", "", cheap=True),
        Objective("disk", "minimize", "MB", cheap=True),
        Objective("training_time", "minimize", "s", cheap=False),
    )
}


@dataclass(frozen=True)
class Constraint:
    """An objective that must be at least, or at most, `factor` times what the unedited
    candidate has, and `more`."""

    text: str
    objective: str
    least: bool
    factor: float
    more: float

    def bound(self, unedited: Values) -> float | None:
        """The number; None while what it depends on is not known."""
        if not self.factor:
            return self.more
        if self.objective not in unedited:
            return None
        return self.factor * unedited[self.objective] + self.more

    def broken(self, values: Values, unedited: Values) -> float:
        """How far values are outside; 0 where they are within, or not known."""
        bound = self.bound(unedited)
        if bound is None or self.objective not in values:
            return 0.0
        value = values[self.objective]
        return max(0.0, bound - value if self.least else value - bound)


_PARTS = re.compile(
    r" *(?P<objective>\w+) *(?P<sense><=|>=) *"
    r"(?:(?:(?P<times>[0-9.e-]+) *[*] *)?(?P<unedited>unedited)"
    r"(?: *(?P<sign>[+-]) *(?P<by>[0-9.e-]+) *(?P<by_unit>[^ ]*))?"
    r"|(?P<number>[0-9.e-]+) *(?P<unit>[^ ]*)) *"
)


def constraint(text: str) -> Constraint:
    """What the text of a constraint says, which the reader has looked at."""
    found = _PARTS.fullmatch(text)
    assert found is not None, text
    factor, more, units = 0.0, 0.0, UNITS[found["objective"]]
    if found["unedited"]:
        factor = float(found["times"] or 1)
        if found["by"]:
            more = float(found["by"]) * units[found["by_unit"]]
            more = -more if found["sign"] == "-" else more
    else:
        more = float(found["number"]) * units[found["unit"]]
    return Constraint(text, found["objective"], found["sense"] == ">=", factor, more)


def dominates(a: Values, b: Values, objectives: Sequence[Objective]) -> bool:
    """Whether `a` is nowhere worse than `b`, and somewhere better."""
    worse = any(o.better(b[o.name], a[o.name]) for o in objectives)
    return not worse and any(o.better(a[o.name], b[o.name]) for o in objectives)


def front(points: Mapping[int, Values], objectives: Sequence[Objective]) -> list[int]:
    """The points that no other dominates, in their order; of equal ones the first."""
    found = []
    for number, values in points.items():
        beaten = any(
            dominates(other, values, objectives)
            or n < number
            and all(other[o.name] == values[o.name] for o in objectives)
            for n, other in points.items()
            if n != number
        )
        if not beaten:
            found.append(number)
    return found


def ranks(
    points: Mapping[int, Values], objectives: Sequence[Objective]
) -> dict[int, int]:
    """How many fronts have to be taken away before a point is in one."""
    left, found, rank = dict(points), dict[int, int](), 0
    while left:
        best = front(left, objectives)
        found |= dict.fromkeys(best, rank)
        left = {n: v for n, v in left.items() if n not in best}
        rank += 1
    return found


def promoted(
    number: int, points: Mapping[int, Values], objectives: Sequence[Objective]
) -> bool:
    """Whether a point is in the better half of all, by rank; of few, whether it is not
    dominated by a whole front."""
    found = ranks(points, objectives)
    better = sum(rank < found[number] for rank in found.values())
    return better < math.ceil(len(found) / 2)


def spread(
    points: Mapping[int, Values], objectives: Sequence[Objective], count: int
) -> list[int]:
    """At most so many points: the best of each objective, then whichever is furthest from
    those that are taken, in parts of each objective's range."""
    if len(points) <= count:
        return list(points)
    places = {n: _scaled(v, points, objectives) for n, v in points.items()}
    taken: list[int] = []
    for o in objectives:
        signs = 1 if o.direction == "maximize" else -1
        best = max(points, key=lambda n, o=o, s=signs: (s * points[n][o.name], -n))
        if best not in taken and len(taken) < count:
            taken.append(best)
    while len(taken) < count:
        rest = [n for n in points if n not in taken]
        taken.append(
            max(rest, key=lambda n: min(math.dist(places[n], places[t]) for t in taken))
        )
    return [n for n in points if n in taken]


def _scaled(
    values: Values, points: Mapping[int, Values], objectives: Sequence[Objective]
) -> tuple[float, ...]:
    found = []
    for o in objectives:
        every = [v[o.name] for v in points.values()]
        low, high = min(every), max(every)
        found.append((values[o.name] - low) / (high - low) if high > low else 0.0)
    return tuple(found)


def hypervolume(
    points: Sequence[Values], reference: Values, objectives: Sequence[Objective]
) -> float:
    """The volume that points dominate, up to a reference point that is worse than all."""
    signs = [1.0 if o.direction == "minimize" else -1.0 for o in objectives]
    names = [o.name for o in objectives]
    far = [s * reference[n] for s, n in zip(signs, names, strict=True)]
    rows = [[s * p[n] for s, n in zip(signs, names, strict=True)] for p in points]
    inside = [row for row in rows if all(x < f for x, f in zip(row, far, strict=True))]
    return _volume(inside, far)


def _volume(rows: Sequence[Sequence[float]], far: Sequence[float]) -> float:
    """Slices along the last coordinate, each the volume of what is below it."""
    if not rows:
        return 0.0
    if len(far) == 1:
        return far[0] - min(row[0] for row in rows)
    levels = sorted({row[-1] for row in rows})
    total = 0.0
    for low, high in zip(levels, [*levels[1:], far[-1]], strict=True):
        below = [row[:-1] for row in rows if row[-1] <= low]
        total += (high - low) * _volume(below, far[:-1])
    return total
