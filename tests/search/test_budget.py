"""A search ends within its hours, its end included, and does as much as they allow."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_strategies import quick

from generator.runtime import search as searching
from generator.runtime.search_store import Stored
from generator.search import budget
from generator.search.goals import OBJECTIVES, constraint, front

GOALS = [OBJECTIVES["metric"], OBJECTIVES["latency"]]


def record(number: int, training: float, rest: float, value: float) -> dict[str, Any]:
    return {
        "number": number,
        "state": "complete",
        "seconds": training + rest,
        "rungs": [{"part": 1.0, "seconds": training, "metric": value}],
        "values": {"metric": value, "latency": training},
    }


def ending(records: dict[int, Any], left: float | None, **asked: int) -> budget.End:
    values = {n: r["values"] for n, r in records.items()}
    best = {n: values[n] for n in front(values, GOALS)}
    wanted = {"points": 4, "seeds": 3, "jobs": 1, **asked}
    return budget.end(best, records, GOALS, left=left, **wanted)


def line(count: int) -> dict[int, Any]:
    """Trials that are all in the front, dearer and better one after the other."""
    return {n: record(n, 20.0 + 10 * n, 5.0, 0.5 + n / 100) for n in range(count)}


def test_all_that_is_asked_for_where_there_is_time() -> None:
    records = line(6)
    whole = ending(records, None)
    assert (len(whole.points), whole.seeds) == (4, 3)
    assert ending(records, whole.seconds) == whole
    assert {0, 5} <= {*whole.points}  # the best of each objective


def test_other_points_go_before_the_second_seed_and_the_ends_after_it() -> None:
    records = line(6)
    found = [ending(records, left) for left in range(1000, 0, -5)]
    tried = list(dict.fromkeys((len(e.points), e.seeds) for e in found))
    assert tried == [(4, 3), (4, 2), (3, 2), (2, 2), (4, 1), (3, 1), (2, 1), (1, 1)]


@quick
@given(st.integers(1, 8), st.floats(1, 2000), st.integers(1, 4), st.integers(1, 3))
def test_the_end_keeps_to_the_time_or_is_the_least(
    count: int, left: float, seeds: int, jobs: int
) -> None:
    records = line(count)
    found = ending(records, left, seeds=seeds, jobs=jobs)
    assert found.seconds <= left or (len(found.points), found.seeds) == (1, 1)
    assert found.seconds <= ending(records, None, seeds=seeds, jobs=jobs).seconds


@pytest.mark.parametrize("hours", [0.05, 0.2, 0.4, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_search_is_over_in_time(hours: float, seed: int) -> None:
    """Trials of any length are begun as long as `over` lets them; then comes the end, as
    long as it is predicted to be."""
    draw = Random(seed)
    search = SimpleNamespace(hours=hours, points=4, seeds=3)
    setting: Any = SimpleNamespace(
        search=search,
        objectives=GOALS,
        constraints=[constraint("metric >= unedited - 0.5")],
        jobs=1,
        tests=True,
    )
    planner: Any = SimpleNamespace(done=lambda records: False)
    records: dict[int, Any] = {}
    spent = 0.0
    while not searching.over(planner, records, setting, spent):
        n = len(records)
        training = draw.uniform(10, 60) if n else 60.0
        records[n] = record(n, training, 4.0, draw.uniform(0.5, 0.9))
        spent += records[n]["seconds"]
    assert len(records) > (1 if hours > 0.1 else 0)
    left = 3600 * hours - spent
    end = searching.ending(setting, records.values(), left)
    least = searching.ending(setting, records.values(), 0.0)
    assert spent + end.seconds <= max(3600 * hours, spent + least.seconds)
    assert end.seconds > 0 and left - end.seconds < 0.75 * 3600 * hours
    if hours > 0.1:
        assert spent + end.seconds <= 3600 * hours and end.seeds >= 2
    setting.tests = False
    assert not searching.over(planner, records, setting, 3600 * hours - 65)
    assert searching.over(planner, records, setting, 3600 * hours - 60)


def test_what_nobody_goes_on_with_is_unfinished() -> None:
    begun = Stored(13, 1, False, {"number": 13, "state": "running", "why": ""})
    assert searching._told(begun, 14, False)["state"] == "running"
    fewer, late = (
        searching._told(begun, *asked) for asked in ((12, False), (14, True))
    )
    assert fewer["state"] == late["state"] == "unfinished"
    assert "fewer" in fewer["why"] and "hours" in late["why"]
    ended = Stored(13, 1, True, {"number": 13, "state": "complete", "why": ""})
    assert searching._told(ended, 12, True)["state"] == "complete"
