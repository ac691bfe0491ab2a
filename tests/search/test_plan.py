"""What a search tries does not depend on who works on it, how fast, and who is killed.

A stand-in for training gives each candidate figures that follow from its values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from generator.errors import GenError
from generator.runtime import search_store, search_worker
from generator.runtime.search_plan import Candidate, Planned, Planner
from generator.runtime.search_store import Store, lives, open_store, owner
from generator.search.goals import OBJECTIVES, constraint
from generator.search.space import Choice

GOALS = [OBJECTIVES["metric"], OBJECTIVES["parameters"]]
CHOICES = [
    Choice("n", "int", low=1, high=6),
    Choice(
        "how", "categorical", values=("first", "evenly"), when=(("n", (1, 2, 3, 4, 5)),)
    ),
    Choice("lr", "float", low=1e-5, high=1e-3, log=True),
    Choice("keep", "float", low=0.25, high=1.0, step=0.25),
]
BOUNDS = [constraint("metric >= unedited - 0.3")]
SETTING: Any = SimpleNamespace(
    search=SimpleNamespace(hours=None), choices=CHOICES, objectives=GOALS
)


def candidate(params: Mapping[str, Any]) -> Candidate:
    """One whose learning rate counts by its first digit, so that some are the same."""
    key = ",".join(
        f"{k}={v:.0e}" if k == "lr" else f"{k}={v}" for k, v in params.items()
    )
    refused = "G000: too small" if (params["n"], params["keep"]) == (1, 0.25) else ""
    return Candidate(key, key, refused)


def planner(sampler: str = "tpe", trials: int = 10, seed: int = 0) -> Planner:
    baselines = [("unedited", Candidate("0", "0")), ("probe", Candidate("p", "p"))]
    return Planner(sampler, seed, trials, CHOICES, GOALS, BOUNDS, baselines, candidate)


def evaluate(planned: Planned, records: Any, *_: Any) -> dict[str, Any]:
    """What training would find."""
    p = {"n": 6, "keep": 1.0, "lr": 1e-4, **planned.params}
    state, values = "complete", {}
    if planned.candidate.refused:
        state = "refused"
    elif planned.same_as is not None:
        state = "duplicate"
    else:
        values = {
            "metric": 0.5 + 0.05 * p["n"] + 0.1 * p["keep"] - 50 * abs(p["lr"] - 2e-4),
            "parameters": p["n"] * p["keep"] * 100,
        }
    return {
        "number": planned.number,
        "state": state,
        "params": planned.params,
        "values": values,
        "rungs": [],
        "key": planned.candidate.key,
        "attributes": planned.attributes,
    }


def store(folder: Path, name: str = "a") -> Store:
    return open_store(f"sqlite:///{folder / 'search.db'}", name, GOALS, {"seed": 0})


def worked(one: Store, plan: Planner) -> dict[int, dict[str, Any]]:
    """Everything done by one worker, and the records."""
    while (trial := search_worker.next_trial(one, plan, SETTING)) is not None:
        assert not isinstance(trial, bool)
        search_worker.one(trial, one, plan, SETTING)
    return {t.number: t.record for t in one.trials()}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_worker, "evaluate", evaluate)
    monkeypatch.setattr(search_worker, "WAIT", 0.0)


def tried(plan: Planner) -> dict[int, dict[str, Any]]:
    """The records of a search, one trial after the other."""
    records: dict[int, dict[str, Any]] = {}
    while (planned := plan.planned(len(records), records)) is not None:
        records[planned.number] = evaluate(planned, records)
    return records


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_seed_decides_what_is_tried(sampler: str) -> None:
    first = tried(planner(sampler))
    assert tried(planner(sampler)) == first
    other = tried(planner(sampler, seed=1))
    assert [r["params"] for r in other.values()] != [
        r["params"] for r in first.values()
    ]
    counted = [n for n, r in first.items() if n >= 2 and r["state"] == "complete"]
    assert len(counted) == 10


def test_the_spec_of_a_trial_follows_from_its_record() -> None:
    """Another machine may have done it, and have its folder."""
    plan, shown = planner(), planner()
    records = tried(plan)
    for number, record in json.loads(json.dumps(records)).items():
        planned = plan.known[int(number)]
        assert shown.text(record) == planned.candidate.text, number


def test_a_trial_is_drawn_without_those_before_it() -> None:
    """A worker that comes late to a generation draws the rest of it by itself."""
    first = tried(planner())
    for start, end in planner().generations(first):
        earlier = {n: first[n] for n in range(start)}
        late = planner().planned(end - 1, earlier)
        assert late is not None and late.params == first[end - 1]["params"]


def test_the_unedited_model_comes_before_all_others() -> None:
    """What is measured of the other baselines is measured beside it."""
    assert planner().generations({})[-1] == (0, 1)
    first = {0: tried(planner())[0]}
    assert planner().generations(first)[-1] == (1, 2)
    assert planner().planned(1, {}) is None


def test_a_search_that_is_done_may_be_given_more_trials() -> None:
    done = tried(planner())
    assert planner().planned(len(done), done) is None
    more = tried(planner(trials=12))
    assert {n: more[n] for n in done} == done and len(more) > len(done)


def test_no_candidate_is_trained_twice() -> None:
    found = tried(planner("random", trials=60)).values()
    keys = [r["key"] for r in found if r["state"] == "complete"]
    assert len(keys) == len(set(keys)) > 40
    assert {r["state"] for r in found} >= {"complete", "refused"}
    for record in found:
        if params := record["params"]:
            assert ("how" in params) == (params["n"] < 6)


def test_a_space_that_is_used_up_ends_the_search() -> None:
    plan = planner(trials=8)
    plan.choices = [Choice("n", "int", low=1, high=2), *CHOICES[3:]]
    records = tried(plan)
    states = [r["state"] for r in records.values()]
    assert states.count("complete") == 2 + 7 and "duplicate" in states
    assert len(records) == 2 + 4 * 8


def test_workers_that_die_anywhere_change_nothing(tmp_path: Path) -> None:
    """Each has a storage and a planner of its own, and some end in the middle."""
    expected = worked(store(tmp_path, "a"), planner())
    draw, killed = Random(0), 0
    here = owner(1).rpartition("|")[0].rpartition("|")[0]
    assert lives(f"{here}|4194303|1") is False
    alive = [(store(tmp_path, "b"), planner()) for _ in range(3)]
    for number in range(10_000):
        i = draw.randrange(3)
        own, plan = alive[i]
        # Each is an owner of its own; all of them are this process.
        own.me = f"{owner(1).partition('|')[0]}-{i}|x|1|1"
        doomed = killed < 20 and draw.random() < 0.8
        own.me = f"{here}|{4194303 - killed}|1" if doomed else own.me
        trial = search_worker.next_trial(own, plan, SETTING)
        if trial is None:
            break
        if isinstance(trial, bool):
            continue
        if doomed:
            killed += 1
            if draw.random() < 0.5:  # after a part of it
                own.progress(trial, {"number": trial.number, "state": "running"})
            alive[i] = (store(tmp_path, "b"), planner())
            continue
        ready = all(t.ended for t in own.trials() if t.number < trial.number)
        if ready or plan.planned(trial.number, search_worker.ended(own.trials())):
            search_worker.one(trial, own, plan, SETTING)
        else:
            raise AssertionError(f"{number}: a trial was taken that cannot be planned")
    assert killed == 20
    assert {t.number: t.record for t in alive[0][0].trials()} == expected


def test_without_an_unedited_model_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*given: Any) -> dict[str, Any]:
        return {**evaluate(*given), "state": "failed", "why": "no rows"}

    monkeypatch.setattr(search_worker, "evaluate", failed)
    mine = store(tmp_path)
    with pytest.raises(GenError) as error:
        worked(mine, planner())
    assert error.value.diagnostics[0].code == "G571"
    assert "no rows" in error.value.diagnostics[0].message
    assert [t.ended for t in mine.trials()] == [False]  # so that it is begun again


def test_a_trial_begun_too_early_is_left_to_whoever_looks_next(tmp_path: Path) -> None:
    """Its worker has the rest of the generation before it to do, where others died."""
    mine, plan = store(tmp_path), planner()
    for _ in range(2):
        trial = mine.take()
        assert trial is not None
    search_worker.one(trial, mine, plan, SETTING)  # the second, ahead of the first
    assert [t.ended for t in mine.trials()] == [False, False]
    other = store(tmp_path)
    other.me = "elsewhere|x|1|1"
    assert other.adopt(other.trials()[1:]) == other.trials()[1]


def test_a_trial_is_taken_over_once(tmp_path: Path) -> None:
    first, second, third = (store(tmp_path) for _ in range(3))
    trial = first.take()
    assert trial is not None and first.beat(trial.number)
    with first.engine.begin() as connection:
        host = owner(1).partition("|")[0]
        connection.execute(
            search_store.CLAIMS.update().values(
                owner=f"{host}|{search_store._space()}|4194303|1"
            )
        )
    second.me, third.me = "elsewhere|x|1|1", "elsewhere|x|2|1"
    assert second.adopt(second.trials()) == trial
    assert third.adopt(third.trials()) is None
    record = evaluate(Planned(0, "unedited", {}, Candidate("0", "0")), {})
    assert not first.finish(trial, record, CHOICES, GOALS)  # it was taken for dead
    assert second.finish(trial, record, CHOICES, GOALS)
    assert [t.ended for t in third.trials()] == [True]


def test_a_worker_elsewhere_is_dead_when_its_claim_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = store(tmp_path), store(tmp_path)
    theirs.me = "elsewhere|x|1|1"
    trial = theirs.take()
    assert trial is not None
    clock = [0.0]
    monkeypatch.setattr(search_store.time, "monotonic", lambda: clock[0])
    assert mine.adopt(mine.trials()) is None
    clock[0] = search_store.STILL - 1
    assert theirs.beat(trial.number) and mine.adopt(mine.trials()) is None
    clock[0] = 2 * search_store.STILL - 2
    assert mine.adopt(mine.trials()) is None
    clock[0] = 2 * search_store.STILL
    assert mine.adopt(mine.trials()) == trial
    assert not theirs.beat(trial.number)


def test_two_commands_may_make_the_tables_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = search_store.RDBStorage
    tried = []

    def late(*given: Any, **options: Any) -> Any:
        tried.append(given)
        if len(tried) == 1:  # what SQLite says where Optuna's tables came in between
            made(*given, **options)
            raise search_store.sqlalchemy.exc.IntegrityError("INSERT", {}, Exception())
        return made(*given, **options)

    monkeypatch.setattr(search_store, "RDBStorage", late)
    monkeypatch.setattr(search_store, "MAKING", 0.0)
    assert store(tmp_path).take() is not None and len(tried) == 2


def test_a_database_that_fails_says_so(tmp_path: Path) -> None:
    """A full disk, a server that is gone: in the middle of a search."""
    mine = store(tmp_path)
    with mine.engine.begin() as connection:
        connection.execute(search_store.sql.text("DROP TABLE trials"))
        connection.execute(search_store.sql.text("DROP TABLE gen_claims"))
    for use in (mine.trials, mine.take, lambda: mine.beat(0)):
        with pytest.raises(GenError) as error, search_store.used():
            use()
        assert error.value.diagnostics[0].code == "G566"
        assert "no such table" in error.value.diagnostics[0].message


def test_another_search_is_not_gone_on_with(tmp_path: Path) -> None:
    store(tmp_path).note(search_store.SCORES, "of the first")
    url = f"sqlite:///{tmp_path / 'search.db'}"
    # What came to nothing may be mended: there is no trial that the change is not true of.
    mended = open_store(url, "a", GOALS, {"seed": 1})
    assert mended.about()["about"] == {"seed": 1}
    assert mended.about()[search_store.SCORES] is None
    assert mended.take() is not None  # and somebody is at work on it
    with pytest.raises(GenError) as error:
        open_store(url, "a", GOALS, {"seed": 2, "rows": []})
    assert error.value.diagnostics[0].code == "G567"
    assert "with other seed and rows" in error.value.diagnostics[0].message
    with pytest.raises(GenError) as error:
        open_store("sqlite:////nowhere/at/all.db", "a", GOALS, {})
    assert error.value.diagnostics[0].code == "G566"
