"""The order of a search: which trials there are to be, and what each of them is.

Trials come in generations, and a generation is drawn from the trials of those before. So a
trial is a function of its number and of what earlier generations gave, not of which worker
ends first. The first generation is the unedited spec, which gives the bounds; the second
the other baselines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from generator.runtime.search_draw import Drawn, Past, draw
from generator.search.goals import Constraint, Objective
from generator.search.space import Choice

GENERATION = 4  # trials that are drawn from the same past
DRAWS = 8  # of a trial, before it may be one that was there already
CEILING = 4  # times the trials that are asked for: duplicates and what is refused count
COUNTED = ("complete", "pruned", "failed")
Records = Mapping[int, Mapping[str, Any]]  # of trials that ended, by number


@dataclass(frozen=True)
class Candidate:
    """The spec of a trial, compiled as far as its identity: what trains the same has the
    same key."""

    text: str
    key: str
    refused: str = ""  # the compiler's message, where it makes nothing of it


@dataclass(frozen=True)
class Planned:
    """What a trial is."""

    number: int
    baseline: str | None
    params: dict[str, Any]
    candidate: Candidate
    attributes: dict[str, Any] = field(default_factory=dict)
    same_as: int | None = None  # an earlier trial with the same key


@dataclass
class Planner:
    """Plans trials, and remembers what it has planned."""

    sampler: str
    seed: int
    trials: int
    choices: Sequence[Choice]
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint]
    baselines: Sequence[tuple[str | None, Candidate]]  # the first is the unedited one
    candidate: Callable[[Mapping[str, Any]], Candidate]
    known: dict[int, Planned] = field(default_factory=dict)

    def generations(self, records: Records) -> list[tuple[int, int]]:
        """First numbers and ends of those that are open or done; the last may be open."""
        edges = [(0, 1)]
        most = len(self.baselines) + CEILING * self.trials
        while all(n in records for n in range(*edges[-1])):
            start = edges[-1][1]
            if start < len(self.baselines):
                edges.append((start, len(self.baselines)))
                continue
            counted = self.counted(records, start)
            size = min(GENERATION, self.trials - counted, most - start)
            if size <= 0:
                break
            edges.append((start, start + size))
        return edges

    def done(self, records: Records) -> bool:
        """Whether every trial that there is to be has ended."""
        return all(n in records for n in range(self.generations(records)[-1][1]))

    def counted(self, records: Records, end: int) -> int:
        """How many trials below a number count: those that cost time."""
        drawn = (n for n in range(len(self.baselines), end) if n in records)
        return sum(records[n]["state"] in COUNTED for n in drawn)

    def planned(self, number: int, records: Records) -> Planned | None:
        """What a trial is; None while the generations before it are not done, or where
        there is to be no such trial."""
        for start, end in self.generations(records):
            if start <= number < end:
                for one in range(start, number + 1):
                    if one not in self.known:
                        self.known[one] = self._plan(one, start, records)
                return self.known[number]
        return None

    def _plan(self, number: int, start: int, records: Records) -> Planned:
        if number < len(self.baselines):
            name, candidate = self.baselines[number]
            return Planned(number, name, {}, candidate)
        siblings = [self.known[n] for n in range(start, number)]
        seen = {records[n]["key"]: n for n in sorted(range(start), reverse=True)}
        seen |= {one.candidate.key: one.number for one in reversed(siblings)}
        past = self.past({n: records[n] for n in range(start)})
        past += [Past(one.params, None, running=True) for one in siblings]
        drawn, candidate = Drawn({}, {}), Candidate("", "")
        for attempt in range(DRAWS):
            seed = (self.seed, number, attempt)
            drawn = draw(
                self.sampler, seed, self.trials, past, self.choices, self.objectives
            )
            candidate = self.candidate(drawn.params)
            if candidate.key not in seen:
                break
        return Planned(
            number,
            None,
            drawn.params,
            candidate,
            drawn.attributes,
            seen.get(candidate.key),
        )

    def text(self, trial: Mapping[str, Any]) -> str:
        """The spec of a trial by its record, whichever machine did it."""
        if trial["number"] < len(self.baselines):
            return self.baselines[trial["number"]][1].text
        return self.candidate(trial["params"]).text

    def past(self, records: Records) -> list[Past]:
        """Trials as samplers are shown them: what went no further with what is known of it.
        Of amounts the logarithms are, which twice as much is as far from as half."""
        every = [r["values"] for r in records.values() if r["state"] == "complete"]
        unedited = records[0]["values"] if records else {}
        found = []
        for number in sorted(records):
            record = records[number]
            if number < len(self.baselines):
                continue  # it is none of the choices
            values = dict(record["values"])
            for o in self.objectives:
                if o.name in values or not every:
                    continue
                worst = min if o.direction == "maximize" else max
                values[o.name] = worst(v[o.name] for v in every)
            whole = all(o.name in values for o in self.objectives)
            usable = whole and record["state"] in ("complete", "pruned", "refused")
            broken = {c.text: c.broken(values, unedited) for c in self.constraints}
            # What the compiler refuses is as far outside as it gets.
            broken["compiles"] = float(record["state"] == "refused")
            found.append(
                Past(
                    record["params"],
                    {n: _shown(n, v) for n, v in values.items()} if usable else None,
                    broken if usable else {},
                    record["attributes"],
                )
            )
        return found


def _shown(objective: str, value: float) -> float:
    """A value of an objective as a sampler is shown it."""
    return value if objective == "metric" else math.log(max(value, 1e-9))
