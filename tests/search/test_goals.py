"""Constraints, fronts, and what is in the better half."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_strategies import quick

from generator.search.goals import (
    OBJECTIVES,
    constraint,
    dominates,
    front,
    hypervolume,
    promoted,
    ranks,
    spread,
)

BOTH = [OBJECTIVES["metric"], OBJECTIVES["latency"]]
UNEDITED = {"metric": 0.8, "latency": 4.0, "disk": 90.0}


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("metric >= unedited - 0.01", 0.79),
        ("metric >= unedited - 1 point", 0.79),
        ("metric>=unedited+2%", 0.82),
        ("latency <= 5 ms", 5.0),
        ("latency <= 0.1 s", 100.0),
        ("latency <= 0.5 * unedited", 2.0),
        ("disk <= 0.5*unedited + 5 MB", 50.0),
        ("disk <= 2 GB", 2000.0),
        ("parameters <= 1.5 M", 1.5e6),
        ("training_time <= 2 min", 120.0),
        ("throughput >= 1e3 rows/s", 1000.0),
    ],
)
def test_the_bound_of_a_constraint(text: str, bound: float) -> None:
    assert constraint(text).bound(UNEDITED) == pytest.approx(bound)


def test_how_far_a_constraint_is_broken() -> None:
    least, most = constraint("metric >= unedited - 0.01"), constraint("latency <= 5 ms")
    assert least.broken({"metric": 0.7}, UNEDITED) == pytest.approx(0.09)
    assert least.broken({"metric": 0.79 + 1e-9}, UNEDITED) == 0
    assert most.broken({"latency": 7.0}, {}) == pytest.approx(2)
    assert (
        least.broken({"metric": 0.1}, {}) == 0
    )  # nothing is known of the unedited yet
    assert most.broken({"metric": 0.1}, UNEDITED) == 0


points = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12
)


@quick
@given(points)
def test_a_front_is_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    values = {i: {"metric": a, "latency": b} for i, (a, b) in enumerate(pairs)}
    found = front(values, BOTH)
    for n, one in values.items():
        beaten = any(dominates(other, one, BOTH) for other in values.values())
        same = any(values[m] == one for m in values if m < n)
        assert (n in found) == (not beaten and not same)
    rank = ranks(values, BOTH)
    assert set(found) == {n for n, r in rank.items() if r == 0}
    for n, r in rank.items():
        above = [m for m in values if rank[m] == r - 1]
        assert r == 0 or any(
            dominates(values[m], values[n], BOTH) or values[m] == values[n]
            for m in above
        )


def test_the_better_half_goes_on() -> None:
    line = {i: {"metric": 0.5 + i / 10, "latency": 1.0} for i in range(5)}
    assert [n for n in line if promoted(n, line, BOTH)] == [2, 3, 4]
    apart = {i: {"metric": i / 10, "latency": float(i)} for i in range(5)}
    assert all(promoted(n, apart, BOTH) for n in apart)


def test_the_ends_of_a_front_and_what_is_far_from_them() -> None:
    values = {i: {"metric": i / 10, "latency": float(i)} for i in range(11)}
    assert spread(values, BOTH, 3) == [0, 5, 10]
    assert spread(values, BOTH, 20) == list(values)


def test_a_hypervolume_is_what_random_points_say() -> None:
    three = [OBJECTIVES[name] for name in ("metric", "latency", "disk")]
    draw = Random(0)
    some = [{o.name: draw.random() for o in three} for _ in range(6)]
    reference = {"metric": 0.0, "latency": 1.0, "disk": 1.0}
    every = [{o.name: draw.random() for o in three} for _ in range(20000)]
    inside = sum(any(dominates(p, q, three) for p in some) for q in every) / len(every)
    assert hypervolume(some, reference, three) == pytest.approx(inside, abs=0.01)
    assert hypervolume([], reference, three) == 0
