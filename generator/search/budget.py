"""What the hours of a search are enough for: one more trial, and the end after the last.

At the end each point of the front is handed over with a certificate, speeds are measured
side by side, the points and the unedited model are trained with more seeds, and all of them
predict the test rows. How long that takes is predicted from what the trials took; nothing
here knows a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generator.search.goals import Objective, Values, spread

Records = Mapping[int, Mapping[str, Any]]  # of trials, by number
START = 6.0  # seconds until a program of its own has torch, its rows and its weights
CERTIFICATE = 3.0  # times what building and measuring a trial takes
SHORT = 2.0  # seconds: whatever was built and measured quicker tells too little
SCORED = 1.5  # seconds in which a model's answers to the test rows are drawn again
REPORT = 10.0  # seconds: which choices counted, and the page
MARGIN = 1.1  # times what is predicted
KEPT = 0.4  # of the hours at most is kept for the end: else there are no trials


@dataclass(frozen=True)
class Took:
    """Seconds of a trial."""

    training: float  # on all training rows
    rest: float  # building it, and measuring it before it is trained


@dataclass(frozen=True)
class End:
    """What is done with the front."""

    points: tuple[int, ...]  # which of it are tested, by their trials
    seeds: int  # that each has at least
    seconds: float  # that it is thought to take


def took(record: Mapping[str, Any]) -> Took:
    rungs = {one["part"]: one["seconds"] for one in record["rungs"]}
    return Took(rungs.get(1.0, 0.0), record["seconds"] - sum(rungs.values()))


def longest(records: Records) -> float:
    """Seconds of the trial that took longest so far, as the next one might."""
    return max((r["seconds"] for r in records.values()), default=0.0)


def repetition(points: Sequence[int], records: Records, jobs: int) -> float:
    """Seconds of one more seed of these trials, `jobs` at a time."""
    each = [took(records[n]).training + START for n in points]
    return MARGIN * max(sum(each) / jobs, max(each, default=0.0))


def test(predictions: Sequence[float], seeds: int) -> float:
    """Seconds of the test, by those in which each point's model predicts the test rows."""
    every = sum(START / 2 + seeds * (seconds + SCORED) for seconds in predictions)
    return MARGIN * (START + every) + REPORT


def fixed(points: Sequence[int], records: Records, seeds: int) -> float:
    """Seconds of all that is no training: certificates, speeds, and the test."""
    rest = max(SHORT, *(took(records[n]).rest for n in {0, *points}))
    certificates = len(points) * (START + CERTIFICATE * rest)
    # The points, the unedited model, and transformers', which takes twice as long.
    speeds = START + (len(points) + 3) * rest
    return MARGIN * (certificates + speeds) + test(
        [rest / 5] * (len(points) + 1), seeds
    )


def end(
    front: Mapping[int, Values],
    records: Records,
    objectives: Sequence[Objective],
    points: int,
    seeds: int,
    jobs: int,
    left: float | None,
) -> End:
    """What to do with a front in the seconds that are left: all that was asked for, where
    they are enough or without end.

    The best of each objective come first, then a second seed, since a single training
    tells nothing of its luck, then other points, then more seeds. The least is one point
    with the seed that it has.
    """
    found = End((), seeds, 0.0)
    most = min(points, len(front))
    ends = min(most, len(objectives))
    for least, fewest in ((ends, min(2, seeds)), (min(1, most), 1)):
        for count in range(most, least - 1, -1):
            chosen = tuple(spread(front, objectives, count))
            for some in range(seeds, fewest - 1, -1):
                seconds = _seconds(chosen, records, some, jobs)
                found = End(chosen, some, seconds)
                if left is None or seconds <= left:
                    return found
    return found


def _seconds(points: Sequence[int], records: Records, seeds: int, jobs: int) -> float:
    trained = sorted({0, *points})
    more = (seeds - 1) * repetition(trained, records, jobs)
    return fixed(points, records, seeds) + more


def reserved(whole: End, hours: float) -> float:
    """Seconds of the hours that are kept for the end."""
    return min(whole.seconds, KEPT * 3600 * hours)
