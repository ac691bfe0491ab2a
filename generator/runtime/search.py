"""`gen search`: candidates of a spec, tried until none is left that is better in all.

This process shows how far it is and starts workers, which do the work (search_worker.py)
and share nothing but the storage. Whatever is killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from generator import pruning
from generator.errors import fail
from generator.importing import import_job
from generator.runtime import build as building
from generator.runtime import calibrate, search_report, search_view, terminal
from generator.runtime.figures import cores
from generator.runtime.files import write_if_changed
from generator.runtime.ready import card_at_hand, find, need
from generator.runtime.search_job import Job
from generator.runtime.search_plan import Candidate, Planner, Records
from generator.runtime.search_programs import alone
from generator.runtime.search_store import SCORES, Store, Stored, open_store, used
from generator.runtime.search_trial import Setting, identify, of_params
from generator.runtime.search_view import View
from generator.runtime.vocab import data_file
from generator.search import budget
from generator.search.budget import End
from generator.search.goals import OBJECTIVES, Constraint, constraint, front
from generator.search.space import (
    DISTILL,
    TEACHER,
    Choice,
    choices,
    probe,
    scoring,
    unedited,
)
from generator.spec import SpecFile
from generator.spec.words import listed

FILE = "search.json"
DATABASE = "search.db"
SCORED_ROWS = 512  # by which blocks and units are scored
LOOK = 0.5  # seconds between two looks at the storage
SPENT = "spent"  # under which the storage has the seconds of a search
INTERNAL = ("key", "attributes")  # of a trial, and of no interest outside
RESTARTS = 1000  # of workers that were killed


@dataclass(frozen=True)
class Clock:
    """The seconds that a search takes, over all times that its command was given."""

    store: Store
    before: float  # that it had taken when this command began
    start: float = field(default_factory=time.monotonic)

    def spent(self) -> float:
        return self.before + time.monotonic() - self.start

    def left(self, hours: float | None) -> float | None:
        return None if hours is None else 3600 * hours - self.spent()

    def note(self) -> None:
        self.store.note(SPENT, self.spent())


def search(args: argparse.Namespace) -> int:
    """The command. 0, or 1 where every candidate failed."""
    with used():
        return _search(args)


def _search(args: argparse.Namespace) -> int:
    start = time.monotonic()
    need("torch", "safetensors", "tqdm", "matplotlib", "rich")
    need("optuna", "sqlalchemy", extra="search")
    if args.join:
        from generator.runtime.search_worker import work

        return work(args)
    setting, store = prepare(args)
    clock = Clock(store, float(store.about().get(SPENT, 0.0)), start)
    planner = planner_of(setting)
    other = beside(args.beside, setting) if args.beside else None
    with View(args.quiet or args.json) as view:
        _drive(args, setting, store, planner, view, clock)
        # Of two commands one tests the front, and the other reads what came of it.
        with alone(setting.work / "ending", lambda: True):
            found = _written(setting, summary(setting, store, planner, over=True))
            if setting.tests:
                from generator.runtime.search_front import tested

                found = tested(setting, store, planner, found, clock, view.say)
                found = _written(setting, found)
            found["beside"] = other
            found["report"] = search_report.write(found, setting.work)
    if args.json:
        print(json.dumps(found, indent=1))
    elif not args.quiet:
        show(found)
    return 0 if any(t["state"] == "complete" for t in found["trials"]) else 1


# ---------------------------------------------------------------------------- what is set


def prepare(args: argparse.Namespace) -> tuple[Setting, Store]:
    """Everything that the trials have in common, and where they are kept."""
    spec_file = building.load_spec(args.spec)
    spec = spec_file.spec
    if pruning.stepped(spec):
        raise fail(
            "G292",
            "gen search cannot go together with pruning in steps",
            place=spec_file.place(pruning.KEY),
            label="it trains each candidate in one go",
            help="search without [train.prune], and add it to the point that is chosen",
        )
    if spec.target.device == "cuda":
        card_at_hand(spec_file, _sees_card())
    given = {n: getattr(args, n) for n in ("trials", "hours", "sampler", "storage")}
    asked = replace(spec.search, **{n: v for n, v in given.items() if v is not None})
    work: Path = args.work or Path("runs") / f"{spec.name}_search"
    building.writable(work, "--work")
    work.mkdir(parents=True, exist_ok=True)
    job = _job(spec_file, args.root)
    imported = import_job(spec_file, job.facts)
    varied = choices(spec_file, imported)
    if not varied and asked.trials:
        raise fail(
            "G565",
            'nothing of the spec varies: space is "none", and there is no [[search.vary]]',
            place=spec_file.place("search.space"),
            help='say space = "all", or what is to vary',
        )
    objectives = [OBJECTIVES[name] for name in asked.objectives]
    url = asked.storage or f"sqlite:///{(work / DATABASE).resolve()}"
    others = {}
    if asked.smaller:
        path = Path(spec_file.file).parent / asked.smaller
        smaller = _job(building.load_spec(path), args.root)
        _comparable(spec_file, _asked_of(job), _asked_of(smaller))
        others["smaller"] = smaller
    about = {
        "spec": _unedited_key(job),
        "edit": tomllib.loads(spec_file.text).get("edit", []),
        "smaller": {name: _unedited_key(one) for name, one in others.items()},
        "rows": [
            data_file(job.root, name).sha256 for name in calibrate.data_files(imported)
        ],
        "choices": [choice_figures(one) for one in varied],
        "objectives": list(asked.objectives),
        "constraints": list(asked.constraints),
        "sampler": asked.sampler,
        "seed": asked.seed,
        "rungs": list(asked.rungs),
        "latency_batch": asked.latency_batch,
        "latency_tokens": asked.latency_tokens,
    }
    store = open_store(
        url, f"{spec.name}-{asked.sampler}-{asked.seed}", objectives, about
    )
    if store.about().get(SCORES) is None:
        store.note(SCORES, _scores(spec_file, job, varied))
    if scores := store.about()[SCORES]:
        job = replace(job, facts=replace(job.facts, scores=b64decode(scores)))
    compiled = identify(unedited(spec_file.text), job)[1]
    if compiled is None:  # what is wrong is wrong with every candidate
        building.plan(spec_file, job.facts, work)
        raise AssertionError("the unedited spec is refused, and the spec is not")
    setting = Setting(
        job,
        work,
        asked,
        varied,
        objectives,
        [constraint(text) for text in asked.constraints],
        compiled,
        others,
        jobs=args.jobs,
        tests=not args.no_test,
    )
    return setting, store


def _asked_of(job: Job) -> dict[str, Any]:
    """What a job's models are scored by: the same of all that can be compared."""
    spec = job.spec_file.spec
    found: dict[str, Any] = {"task": spec.task, "labels": spec.labels}
    for split in ("train", "valid", "test"):
        file = getattr(spec.data, split)
        found[f"data.{split}"] = file and data_file(job.root, file).sha256
    for name in ("valid_fraction", "test_fraction"):
        found[f"data.{name}"] = getattr(spec.data, name)
    if spec.data.valid is None or spec.data.test is None:  # split by it
        found["train.seed"] = spec.train.seed
    return found


def _comparable(
    spec_file: SpecFile, own: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    """GenError where the off-the-shelf model beside the search is one of another job."""
    if differ := [key for key, value in own.items() if other.get(key) != value]:
        raise fail(
            "G345",
            f"the smaller model cannot be compared: its {listed(differ, 'and')} differ",
            place=spec_file.place("search.smaller"),
            help="say in its spec the task, the labels in their order, and the files of "
            "this one",
        )


def _unedited_key(job: Job) -> str:
    return identify(unedited(job.spec_file.text), job)[0].key


def _sees_card() -> bool:
    """Asked in a process of its own: what has used CUDA must not fork."""
    ask = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


def _job(spec_file: SpecFile, root: Path | None) -> Job:
    facts = building.facts_for(spec_file)
    _, weights = find(spec_file, facts)
    # What was measured of the spec as it is would be said of every candidate.
    facts = replace(facts, measured=None, reference=None)
    teachers = {name: _job(one, root) for name, one in _teachers(spec_file).items()}
    return Job(spec_file, facts, weights, root or Path(spec_file.file).parent, teachers)


def _teachers(spec_file: SpecFile) -> dict[str, SpecFile]:
    """The specs of other jobs that candidates may learn from, by what a spec calls them."""
    folder, found = Path(spec_file.file).parent, {}
    own = spec_file.spec.train.distill.teacher
    if own is not None and spec_file.teacher is not None:
        found[own] = spec_file.teacher
    for number, one in enumerate(spec_file.spec.search.vary):
        for named in one.choices if one.key == DISTILL else ():
            if not isinstance(named, str) or named in (own, TEACHER):
                continue
            if not (folder / named).is_file():
                raise fail(
                    "G551",
                    f"there is no spec {folder / named} of a teacher",
                    place=spec_file.place(f"search.vary[{number}].choices"),
                    label="looked for from the folder of this spec",
                )
            path = Path(spec_file.file).resolve()
            found[named] = building.load_spec(folder / named, (path,))
    return found


def _scores(spec_file: SpecFile, job: Job, varied: Sequence[Choice]) -> str:
    """Scores of blocks and units, where edits that vary ask for them."""
    text = scoring(spec_file.text, varied)
    if text is None:
        return b64encode(job.facts.scores or b"").decode()
    asked, facts = job.read(text, spec_file.file)
    root = job.root.resolve()
    scored, _, _ = calibrate.score(
        asked, facts, job.weights, root, SCORED_ROWS, quiet=True
    )
    return b64encode(scored.scores or b"").decode()


def planner_of(setting: Setting) -> Planner:
    """Plans this search's trials."""
    job, search = setting.job, setting.search
    text = unedited(job.spec_file.text)
    blocks = len(import_job(job.spec_file, job.facts).model.blocks)
    baselines: list[tuple[str | None, Candidate]] = [
        ("unedited", identify(text, job)[0]),
        ("probe", identify(probe(text, blocks), job)[0]),
    ]
    for name, other in setting.others.items():
        baselines.append((name, identify(unedited(other.spec_file.text), other)[0]))
    if job.spec_file.spec.edit:
        baselines.append((None, of_params({}, setting)))
    return Planner(
        search.sampler,
        search.seed,
        search.trials,
        setting.choices,
        setting.objectives,
        setting.constraints,
        baselines,
        lambda params: of_params(params, setting),
    )


# ------------------------------------------------------------------------------- its course


def ended(trials: Sequence[Stored]) -> Records:
    """The records of the trials that ended."""
    return {t.number: t.record for t in trials if t.ended}


def over(planner: Planner, records: Records, setting: Setting, spent: float) -> bool:
    """Whether no trial is to be begun: all have ended, or what is left of the hours is
    for the end. The first is, since nothing can be said without it."""
    return planner.done(records) or (
        0 in records and not _time_for_one(setting, records, spent)
    )


def _time_for_one(setting: Setting, records: Records, spent: float) -> bool:
    """Whether one as long as the longest so far would leave time for the end."""
    hours = setting.search.hours
    if hours is None:
        return True
    kept = 0.0
    if setting.tests and records[0]["state"] == "complete":
        kept = budget.reserved(ending(setting, records.values(), None), hours)
    return spent + budget.longest(records) + kept <= 3600 * hours


def ending(
    setting: Setting, trials: Iterable[Mapping[str, Any]], left: float | None
) -> End:
    """What there is to do for the front of these trials, in the seconds that are left."""
    done = {t["number"]: t for t in trials if t["state"] == "complete"}
    numbers = front_of(setting, [*done.values()])
    return budget.end(
        {n: done[n]["values"] for n in numbers},
        done,
        setting.objectives,
        setting.search.points,
        setting.search.seeds,
        setting.jobs,
        left,
    )


def _drive(
    args: argparse.Namespace,
    setting: Setting,
    store: Store,
    planner: Planner,
    view: View,
    clock: Clock,
) -> None:
    """Workers, until all is done."""
    if over(planner, ended(store.trials()), setting, clock.before):
        return
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // args.jobs)))
    command = [sys.executable, "-m", "generator", *_worker_arguments(args)]
    workers = [subprocess.Popen(command, env=environment) for _ in range(args.jobs)]
    restarts, last = 0, ""
    try:
        while True:
            time.sleep(LOOK)
            clock.note()
            found = summary(setting, store, planner)
            text = json.dumps(found["trials"])
            if text != last:
                last = text
                _written(setting, found)
            view.update(found)
            codes = [w.poll() for w in workers]
            for i, code in enumerate(codes):
                if code is not None and code < 0 and restarts < RESTARTS:
                    restarts += 1
                    workers[i] = subprocess.Popen(command, env=environment)
                elif code not in (None, 0):
                    raise fail(
                        "G568",
                        f"a worker of the search ended with exit code {code}",
                        help="what it said stands above; mend it, and run this again: "
                        "the trials that are done stay",
                    )
            if all(code == 0 for code in codes):
                break
    finally:
        for one in workers:
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)
        for one in workers:
            one.wait()
        clock.note()


def _worker_arguments(args: argparse.Namespace) -> list[str]:
    parts = ["search", str(args.spec), "--join", "--parent", str(os.getpid())]
    for name in ("work", "root", "jobs", "trials", "hours", "sampler", "storage"):
        if getattr(args, name) is not None:
            parts += [f"--{name}", str(getattr(args, name))]
    return [*parts, "--no-test"] if args.no_test else parts


# ------------------------------------------------------------------------------- its figures


def choice_figures(one: Choice) -> dict[str, Any]:
    ranged = one.kind != "categorical"
    return {
        "key": one.key,
        "kind": one.kind,
        "low": one.low if ranged else None,
        "high": one.high if ranged else None,
        "log": one.log,
        "choices": list(one.labels),
    }


def summary(
    setting: Setting, store: Store, planner: Planner, over: bool = False
) -> dict[str, Any]:
    """The search so far, as search.json has it; its front is not tested yet. `over` says
    that nobody works on its trials any more."""
    search, spec_file = setting.search, setting.job.spec_file
    trials = [t for t in store.trials() if t.record]
    records = ended(trials)
    values = records[0]["values"] if 0 in records else {}
    about = store.about()
    most = planner.generations(records)[-1][1]
    return {
        "name": spec_file.spec.name,
        "spec": spec_file.file,
        "space": search.space,
        "sampler": search.sampler,
        "seed": search.seed,
        "objectives": [
            {"name": o.name, "direction": o.direction, "unit": o.unit}
            for o in setting.objectives
        ],
        "constraints": [
            {"text": c.text, "bound": c.bound(values)} for c in setting.constraints
        ],
        "budget": {"trials": search.trials, "hours": search.hours},
        "asked": {"points": search.points, "seeds": search.seeds},
        "spent": {
            "trials": planner.counted(records, len(trials)),
            "seconds": float(about.get(SPENT, 0.0)),
        },
        "choices": [choice_figures(one) for one in setting.choices],
        "trials": [
            {k: v for k, v in told.items() if k not in INTERNAL}
            for told in (_told(t, most, over) for t in trials)
        ],
        "end": about.get("end") or _expected(setting, records),
        "front": about.get("front", []),
        "importance": about.get("importance", {}),
    }


def _expected(setting: Setting, records: Records) -> dict[str, Any]:
    """What the end would be if it began now."""
    if not setting.tests or 0 not in records or records[0]["state"] != "complete":
        return {}
    whole = ending(setting, records.values(), None)
    return {"points": len(whole.points), "seeds": whole.seeds, "seconds": whole.seconds}


def _told(trial: Stored, most: int, over: bool) -> dict[str, Any]:
    """A trial's record; of one that was begun, and that nobody goes on with, that it is
    unfinished. It is taken up again where the search is given more trials, or hours."""
    if trial.ended or trial.number < most and not over:
        return trial.record
    why = "the hours were over" if trial.number < most else "fewer trials are asked for"
    return {**trial.record, "state": "unfinished", "why": why}


def beside(work: Path, setting: Setting) -> dict[str, Any]:
    """What another search has found, which the report shows beside this one."""
    path = work / FILE
    try:
        found = json.loads(path.read_text())
        same = [o["name"] for o in found["objectives"]] == list(
            setting.search.objectives
        )
        name = found["name"]
    except (OSError, ValueError, TypeError, LookupError) as error:
        why = getattr(error, "strerror", None) or error
        raise fail(
            "G578",
            f"{path} cannot be read as what a search has found: {why}",
            help="--beside is the work folder of a search that has ended, or runs",
        ) from error
    if not same or name != setting.job.spec_file.spec.name:
        raise fail(
            "G579",
            f"{path} is of the spec {name}, or of other objectives than this search",
            help="only searches for the same can be compared",
        )
    return found


def points(
    trials: Sequence[Mapping[str, Any]], constraints: Sequence[Constraint]
) -> dict[int, Mapping[str, float]]:
    """The values of trials that may be in the front: complete ones within the constraints;
    the unedited one is within, being what they are measured by."""
    done = {t["number"]: t for t in trials if t["state"] == "complete"}
    bounds = done[0]["values"] if 0 in done else {}
    return {
        n: t["values"]
        for n, t in done.items()
        if not n or not any(c.broken(t["values"], bounds) for c in constraints)
    }


def front_of(setting: Setting, trials: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers of the trials that no other is better than in all."""
    return front(points(trials, setting.constraints), setting.objectives)


def _written(setting: Setting, found: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(found, indent=1).encode() + b"\n"
    write_if_changed(setting.work / FILE, data)
    return found


def show(found: Mapping[str, Any]) -> None:
    """What a search prints at its end."""
    terminal.show(search_report.result(found))
    print(search_view.states(found))
    print(f"Report: {found['report']['html']}, {found['report']['markdown']}")
