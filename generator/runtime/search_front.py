"""The end of a search: points of its front, trained again, tested once, and handed over.

Each point is a folder: its spec, the source that it builds to, trained weights, and the
certificate. How fast they predict is measured beside the unedited package's and transformers'.
Then they are trained with more seeds, as many as the hours have time for, without a look at
the test rows still, and in the end all models predict those, once, for the score.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generator.errors import GenError, fail
from generator.ir.plans import TextPlan
from generator.runtime import build as building
from generator.runtime import certify, gather
from generator.runtime.figures import cores
from generator.runtime.files import write_if_changed
from generator.runtime.programs import Ended, Programs, installed
from generator.runtime.ready import Ready, find
from generator.runtime.search import SPENT, Clock, ending, front_of
from generator.runtime.search_job import DEPLOYED, RESULT, TRAINED, Job, tidy, whole
from generator.runtime.search_plan import Planner
from generator.runtime.search_store import Store
from generator.runtime.search_teach import Untaught
from generator.runtime.search_trial import Setting, autocast, signed
from generator.runtime.tables import counted, seconds
from generator.search import budget
from generator.search.budget import End
from generator.spec import SpecFile, read_spec
from generator.spec.alter import alter

FOLDER = "front"
# What stands beside the weights, where there is one of it.
BESIDE = ("calibration.json", "features.json")
ROUNDS = 5  # of the prediction of the test rows, and one that warms up


@dataclass(frozen=True)
class Point:
    """A trial whose models are tested."""

    trial: Mapping[str, Any]
    job: Job
    text: str
    folder: Path  # of the trial
    device: str
    autocast: str  # what predict.py computes in under it, or ""

    @property
    def number(self) -> int:
        return self.trial["number"]

    @property
    def name(self) -> str:
        return self.job.spec_file.spec.name


@dataclass(frozen=True)
class Model:
    """A point trained with one seed."""

    point: Point
    seed: int
    folder: Path  # which holds the package and, in work, the weights

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def trained(self) -> Path:
        return self.work / TRAINED

    @property
    def contender(self) -> dict[str, str]:
        return {
            "name": self.point.name,
            "parent": str(self.folder.resolve()),
            "trained": str(self.trained.resolve()),
            "deployed": str(self.trained.with_name(DEPLOYED).resolve()),
            "weights": str(self.point.job.weights.resolve()),
            "work": str((self.folder / "speed").resolve()),
            "device": self.point.device,
            "autocast": self.point.autocast,
            "split": str(self.point.job.seed),
        }


def tested(
    setting: Setting,
    store: Store,
    planner: Planner,
    found: dict[str, Any],
    clock: Clock,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The figures of a search with its front. What was tested before is not again.

    What does not depend on the seeds comes first, so that those have all the time that is
    left of the hours, but for the test, whose length is known by then.
    """
    trials = {t["number"]: t for t in found["trials"]}
    numbers = front_of(setting, found["trials"])
    if 0 not in trials or trials[0]["state"] != "complete":
        return found
    search = setting.search
    asked = {
        "front": numbers,
        "points": search.points,
        "seeds": search.seeds,
        "hours": search.hours,
    }
    if store.about().get("tested") == asked:
        return found
    plan = ending(setting, found["trials"], clock.left(search.hours))
    say(_said(plan, len(numbers), setting, clock))
    tried = [trials[n] for n in sorted({0, *plan.points})]
    points = [_point(setting, trial, planner.text(trial)) for trial in tried]
    models = {p.number: _models(setting, p) for p in points}
    firsts = {n: some[0] for n, some in models.items()}
    _train(setting, [*firsts.values()], say)  # whose files are gone
    folder = setting.work / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    say("each gets its folder and its certificate")
    certificates = {}
    for i, n in enumerate(plan.points, 1):
        certificates[n] = _handed_over(setting, folder / str(i), firsts[n])
        clock.note()
    say("their speed is measured, side by side")
    speeds = _speeds(setting, firsts)
    clock.note()
    seeds = _repeated(setting, trials, models, speeds, clock, say)
    say("all predict the test rows, once")
    tests = _test(setting, {n: some[:seeds] for n, some in models.items()})
    front = [
        _figures(setting, folder / str(i), firsts[n], tests, speeds, certificates[n])
        for i, n in enumerate(plan.points, 1)
    ]
    _without_others(setting, found["trials"], numbers)
    store.note("front", front)
    store.note("importance", importance(setting, store))
    clock.note()
    about = store.about()
    spent = about[SPENT] - found["spent"]["seconds"]
    end = {"points": len(plan.points), "seeds": seeds, "seconds": spent}
    store.note("end", {**end, "front": len(numbers)})
    store.note("tested", asked)
    return {
        **found,
        "spent": {**found["spent"], "seconds": about[SPENT]},
        "end": store.about()["end"],
        "front": about["front"],
        "importance": about["importance"],
    }


def _said(plan: End, front: int, setting: Setting, clock: Clock) -> str:
    """In words what is done with the front, and what there is no time for."""
    search, left = setting.search, clock.left(setting.search.hours)
    words = (
        f"{counted(len(plan.points), 'point')} of the front and the unedited model: "
        f"{counted(plan.seeds, 'seed')} each, certificates, speeds and the test, in about "
        f"{seconds(plan.seconds)}"
    )
    if left is None:
        return words
    words += f" of {seconds(max(0.0, left))} that are left"
    most = min(search.points, front)
    if len(plan.points) < most or plan.seeds < search.seeds:
        words += (
            f"; there is no time for {counted(most, 'point')} with "
            f"{counted(search.seeds, 'seed')}"
        )
    return words


def _repeated(
    setting: Setting,
    trials: Mapping[int, Mapping[str, Any]],
    models: Mapping[int, Sequence[Model]],
    speeds: Mapping[str, Sequence[float]],
    clock: Clock,
    say: Callable[[str], None],
) -> int:
    """Train all points with one more seed after the other, as long as the hours last; how
    many seeds all of them have then."""
    search, took = setting.search, 0.0
    predictions = [statistics.median(speeds[str(n)]) for n in models]
    for i in range(1, search.seeds):
        lacking = [some[i] for some in models.values() if not whole(some[i].work)]
        numbers = [m.point.number for m in lacking]
        need = max(took, budget.repetition(numbers, trials, setting.jobs))
        left = clock.left(search.hours)
        need += budget.test(predictions, i + 1)
        if lacking and left is not None and need > left:
            say(f"there is no time for a seed number {i + 1}")
            return i
        before = clock.spent()
        _train(setting, lacking, say)
        took = clock.spent() - before if len(lacking) == len(models) else took
        clock.note()
    return search.seeds


def _without_others(
    setting: Setting, trials: Sequence[Mapping[str, Any]], numbers: Sequence[int]
) -> None:
    """Without the weights of what is not in the front, and never will be again."""
    for trial in trials:
        if trial["number"] not in (0, *numbers):
            for name in (TRAINED, DEPLOYED):
                path = setting.folder(trial["number"]) / "work" / name
                path.unlink(missing_ok=True)


def _point(setting: Setting, trial: Mapping[str, Any], text: str) -> Point:
    folder = setting.folder(trial["number"])  # where this machine did it
    job = setting.others.get(trial["baseline"] or "", setting.job)
    spec = read_spec(text, str(folder / "spec.toml")).spec
    half = autocast(spec.target.precision, spec.deploy.precision)
    return Point(trial, job, text, folder, spec.target.device, half)


def _models(setting: Setting, point: Point) -> list[Model]:
    """The first is the one of the search."""
    first = point.job.seed
    found = [Model(point, first, point.folder)]
    for i in range(1, setting.search.seeds):
        folder = setting.work / "seeds" / str(point.number) / str(first + i)
        found.append(Model(point, first + i, folder))
    return found


def _train(
    setting: Setting,
    models: Sequence[Model],
    say: Callable[[str], None],
) -> None:
    """Whatever is not trained yet."""

    def train(model: Model) -> None:
        _train_one(setting, model)
        say(f"trial {model.point.number} is trained with the seed {model.seed}")

    left = [m for m in models if not whole(m.work)]
    threads = str(max(1, cores() // setting.jobs))
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or threads
    try:
        with ThreadPoolExecutor(setting.jobs) as pool:
            list(pool.map(train, left))
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def _train_one(setting: Setting, model: Model) -> None:
    point, work = model.point, model.work
    text = alter(point.text, {"train.seed": model.seed})
    model.folder.mkdir(parents=True, exist_ok=True)
    path = model.folder / "spec.toml"
    path.write_text(text)
    spec_file, facts = point.job.read(text, str(path))
    building.build(building.plan(spec_file, facts, model.folder), force=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        above = setting.taught(point.job, text, _program, lambda: True)
    except Untaught as error:
        raise fail(
            "G551",
            f"trial {point.number} cannot be trained with the seed {model.seed}: {error}",
            help="mend what it says of itself, and run this again",
        ) from error
    programs = Programs(model.folder, point.name, quiet=True, bound=True)
    ended = programs.python(
        Path(__file__).with_name("search_train.py"),
        *(point.name, "1", str(point.job.seed)),
        *("--root", point.job.root.resolve()),
        *("--work", work.resolve(), "--weights", point.job.weights.resolve()),
        *("--quiet", *above),
        output="drop",
    )
    if ended.code:
        raise fail(
            "G569",
            f"trial {point.number} cannot be trained with the seed {model.seed}: "
            f"train.py ended with exit code {ended.code}",
            help="what it said stands above; mend that, and run this again",
        )
    tidy(work)


def _program(folder: Path, name: str, arguments: list[str | Path]) -> Ended:
    return Programs(folder, name, quiet=True, bound=True).python(
        *arguments, output="keep"
    )


def _test(setting: Setting, models: Mapping[int, Sequence[Model]]) -> dict[str, Any]:
    """Every model on the test rows."""
    points = {str(n): [m.contender for m in some] for n, some in models.items()}
    asked = {"root": str(setting.job.root.resolve()), "points": points}
    return _answer(setting, "search_test.py", asked)


def _speeds(setting: Setting, models: Mapping[int, Model]) -> dict[str, Any]:
    """Seconds of the rounds in which each predicts the test rows."""
    job = setting.unedited.job
    text = isinstance(job.data.inputs, TextPlan)
    contenders: list[dict[str, Any]] = [m.contender for m in models.values()]
    names = [str(n) for n in models]
    if text and installed("transformers"):
        reference = _reference(setting)
        theirs = {"name": "transformers", "weights": str(reference)}
        contenders.append({**theirs, "device": setting.unedited.job.target.device})
        names.append("transformers")
    asked = {
        "kind": "texts" if text else "rows",
        "contenders": contenders,
        "rounds": ROUNDS,
        "least": 0.0,  # the test rows once
        "split": "test",
        "root": str(setting.job.root.resolve()),
        "rows": 1 << 30,
        "labels": len(job.labels),
        "batch": job.train.batch or 32,
        "longest": (
            job.data.inputs.max_tokens if isinstance(job.data.inputs, TextPlan) else 0
        ),
    }
    found = _answer(setting, "search_speed.py", asked)
    return dict(zip(names, found["seconds"], strict=True))


def _reference(setting: Setting) -> Path:
    return _ready(setting.job, setting.work / "reference", setting.work).reference()


def _ready(job: Job, folder: Path, work: Path) -> Ready:
    """A package in a folder with the weights that it starts from."""
    spec_file = job.spec_file
    checkpoint, weights = find(spec_file, job.facts)
    plan = building.plan(spec_file, job.facts, folder)
    built = building.build(plan)
    programs = Programs(folder, spec_file.spec.name, quiet=True, bound=True)
    return Ready(spec_file, built, job.root, work, programs, checkpoint, weights)


def _answer(setting: Setting, program: str, asked: Mapping[str, Any]) -> Any:
    path = setting.work / "asked.json"
    path.write_text(json.dumps(asked))
    name = setting.job.spec_file.spec.name
    ended = Programs(setting.work, name, quiet=True, bound=True).python(
        Path(__file__).with_name(program), path, output="keep"
    )
    if ended.code:
        raise fail(
            "G570",
            f"the front cannot be tested: {program} ended with exit code {ended.code}",
            help="what it said stands above; mend that, and run this again",
        )
    return json.loads(ended.output.splitlines()[-1])


# -------------------------------------------------------------------------- handing over


def _handed_over(setting: Setting, folder: Path, model: Model) -> str:
    """Make the folder of a point: spec, facts, source, weights and certificate. In a word
    how that went."""
    point = model.point
    folder.mkdir(parents=True)
    path, text = folder / "spec.toml", point.text
    if (way := point.job.way(folder)) is not None:
        text = alter(text, {"backbone.from": way})
    path.write_text(text)
    moved = point.job.elsewhere(folder)
    spec_file, facts = moved.read(text, str(path))
    job = replace(moved, spec_file=spec_file, facts=facts)
    gather.save_facts(job.facts, gather.facts_folder(folder, point.name))
    _with_teachers(folder, moved, spec_file)
    for name in (TRAINED, DEPLOYED, *BESIDE):
        if model.trained.with_name(name).is_file():
            shutil.copyfile(model.trained.with_name(name), folder / name)
    return _certificate(job, point, folder)


def _figures(
    setting: Setting,
    folder: Path,
    model: Model,
    tests: Mapping[str, Any],
    speeds: Mapping[str, Any],
    certificate: str,
) -> dict[str, Any]:
    """What is known of a point, which its folder has too."""
    point, key = model.point, str(model.point.number)
    test, valid = tests[key]["metric"], dict(point.trial["values"])
    result = json.loads((model.work / RESULT).read_text())
    figures = {
        "trial": point.number,
        "folder": str(folder),
        "valid": {**valid, "metric": signed(result["valid"])},
        "test": {"metric": test},
        "points_from_unedited": {n: 100 * v for n, v in tests[key]["more"].items()},
        "faster_than_transformers": _ratio(speeds, "transformers", key),
        "faster_than_unedited": _ratio(speeds, "0", key),
        "optimism": signed(result["valid"]) - test["seeds"][0],
        "certificate": certificate,
        "words": words(setting, point.text),
    }
    data = json.dumps(figures, indent=1).encode() + b"\n"
    write_if_changed(folder / "figures.json", data)
    return figures


def _with_teachers(folder: Path, job: Job, spec_file: SpecFile) -> None:
    """Have the specs lie beside a point's that it learned from, with their facts, so that
    it builds as any other; one that is called by a path stays where it is."""
    named = spec_file.spec.train.distill.teacher
    if named is None or Path(named).name != named:
        return
    teacher = job.teacher(named)
    (folder / named).write_text(teacher.spec_file.text)
    facts = gather.facts_folder(folder, teacher.spec_file.spec.name)
    gather.save_facts(teacher.facts, facts)
    _with_teachers(folder, teacher, teacher.spec_file)


def _certificate(job: Job, point: Point, folder: Path) -> str:
    """The checks of the package, written down; in a word how they went."""
    checkpoint, weights = find(job.spec_file, job.facts)
    built = building.build(building.plan(job.spec_file, job.facts, folder))
    programs = Programs(folder, point.name, quiet=True, bound=True)
    work = folder / "work"
    work.mkdir()
    ready = Ready(job.spec_file, built, job.root, work, programs, checkpoint, weights)
    try:
        found = certify.checks(ready)
    except GenError as error:
        found = certify.failed_to_run(error)
    shutil.rmtree(work)
    data = json.dumps(found, indent=1).encode() + b"\n"
    write_if_changed(folder / "certificate.json", data)
    return "holds" if certify.holds(found) else "does not hold"


def _ratio(
    speeds: Mapping[str, Sequence[float]], than: str, key: str
) -> dict[str, float] | None:
    """How many times as fast, by the rounds: the median, the least and the largest."""
    if than not in speeds:
        return None
    pairs = zip(speeds[than], speeds[key], strict=True)
    values = [theirs / ours for theirs, ours in pairs]
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
    }


def words(setting: Setting, text: str) -> list[str]:
    """What a point does otherwise than the unedited spec."""
    from generator.runtime.diff_words import words as told
    from generator.search.space import unedited

    before = read_spec(unedited(setting.job.spec_file.text), "unedited").spec
    return told(before, read_spec(text, "point").spec)


def importance(setting: Setting, store: Store) -> dict[str, dict[str, float]]:
    """How much of each objective's variance follows from each choice; nothing where too
    few trials tell."""
    from generator.runtime.search_draw import important

    done = [t.record for t in store.trials() if t.record.get("state") == "complete"]
    done = [r for r in done if r["params"]]
    return {
        o.name: important(done, setting.choices, setting.objectives, i)
        for i, o in enumerate(setting.objectives)
    }
