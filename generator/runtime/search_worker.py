"""A worker of a search: takes trials, one after the other, until there are none left."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from generator.runtime.bound import die_with
from generator.runtime.search import ended, over, planner_of, prepare
from generator.runtime.search_plan import Planner
from generator.runtime.search_programs import Lost, warm
from generator.runtime.search_store import BEAT, Store, Stored
from generator.runtime.search_trial import Setting, evaluate

WAIT = 0.3  # seconds, where others have all that can be done now


def work(args: argparse.Namespace) -> int:
    """`gen search --join`: 0 when all is done."""
    if args.parent is not None:
        die_with(args.parent)
    warm()
    setting, store = prepare(args)
    planner = planner_of(setting)
    while (trial := next_trial(store, planner, setting)) is not None:
        if isinstance(trial, Stored):
            one(trial, store, planner, setting)
        else:
            time.sleep(WAIT)
    return 0


def next_trial(
    store: Store, planner: Planner, setting: Setting
) -> Stored | bool | None:
    """A trial that is this worker's; False where it has to wait, None at the end."""
    trials = store.trials()
    records = ended(trials)
    if over(planner, records, setting, float(store.about().get("spent", 0.0))):
        return None
    end = planner.generations(records)[-1][1]
    if found := store.adopt([t for t in trials if t.number < end]):
        return found
    if len(trials) < end:
        return store.take() or False
    return False


def one(trial: Stored, store: Store, planner: Planner, setting: Setting) -> None:
    """Do a trial, and write down what came of it."""
    records = ended(store.trials())
    planned = planner.planned(trial.number, records)
    if (
        planned is None
    ):  # two workers began the last of a generation, and this is the other
        store.release(trial)
        return
    start = next(s for s, e in planner.generations(records) if s <= trial.number < e)
    earlier = {n: r for n, r in records.items() if n < start}

    def progress(record: Mapping[str, Any]) -> None:
        store.progress(trial, record)

    try:
        record = evaluate(
            planned,
            earlier,
            setting,
            lambda: store.beat(trial.number),
            BEAT,
            progress,
        )
    except Lost:
        return
    store.finish(trial, record, setting.choices, setting.objectives)
