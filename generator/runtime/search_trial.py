"""One trial of a search: from a candidate's spec to its figures, the dear ones last.

What is known without training comes first, the constraints and the better half decide after
each step whether the next is worth its time. The test rows are not looked at.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from generator.compile import Compiled, draft
from generator.cost import describe
from generator.errors import GenError
from generator.ir.plans import TextPlan
from generator.locking import LOCK, digest
from generator.runtime import build as building
from generator.runtime.programs import Ended, Programs
from generator.runtime.ready import TORCH_DTYPES
from generator.runtime.search_job import DEPLOYED, TRAINED, Job, tidy
from generator.runtime.search_plan import Candidate, Planned, Records
from generator.runtime.search_programs import Beat, Forked, alone, tried, why
from generator.runtime.search_teach import Run, Untaught, keep, lend, taught
from generator.runtime.tables import score_name, short
from generator.search.goals import Constraint, Objective, promoted
from generator.search.space import Choice, candidate, difference, unedited
from generator.spec.alter import without_search
from generator.spec.search import Search

MB = 1e6
UNTRAINED = "untrained"  # a folder of weights that are as the backbone has them
ROUNDS = 7  # of a latency; the median counts
LEAST = 0.15  # seconds that a round of the trial's package takes, about
ROWS = 256  # validation rows by which throughput is measured, at most
HOPE = 0.9  # of each cheap figure: who has less, and the best score, leaves no hope
SPEED = Path(__file__).with_name("search_speed.py")


@dataclass(frozen=True)
class Setting:
    """All that trials have in common."""

    job: Job
    work: Path
    search: Search
    choices: Sequence[Choice]
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint]
    unedited: Compiled
    others: Mapping[str, Job] = field(
        default_factory=dict
    )  # baselines of other backbones
    jobs: int = 1  # trials that are worked on at a time
    tests: bool = True  # whether the front is tested at the end

    def wanted(self, name: str) -> bool:
        """Whether an objective or a constraint is about it."""
        asked = {o.name for o in self.objectives}
        return name in asked | {c.objective for c in self.constraints}

    def job_of(self, planned: Planned) -> Job:
        return self.others.get(planned.baseline or "", self.job)

    def folder(self, number: int) -> Path:
        return self.work / "trials" / str(number)

    def taught(self, job: Job, text: str, run: Run, beat: Beat) -> list[str | Path]:
        """What train.py is told of a candidate's teacher, whose weights are there then."""
        return taught(self.work, self.folder(0) / "work", job, text, run, beat)


# -------------------------------------------------------------------------- its identity


def identify(text: str, job: Job) -> tuple[Candidate, Compiled | None]:
    """A spec compiled as far as what it is: a digest of all its code and its weights."""
    file = "spec.toml"
    try:
        compiled = draft(*job.read(text, file))
    except GenError as error:
        first = error.diagnostics[0]
        refused = f"{first.code}: {first.message}"
        return Candidate(text, digest(text.encode()), refused), None
    parts = {
        one.path: digest(one.data)
        for one in compiled.drafts
        if one.path not in ("README.md", "spec.toml")
    }
    weights = {f.name: f.sha256 for f in job.facts.card.files}
    key = digest(json.dumps([parts, weights], sort_keys=True).encode())
    return Candidate(text, key), compiled


def of_params(params: Mapping[str, Any], setting: Setting) -> Candidate:
    """The candidate that values of the choices make."""
    text = candidate(setting.job.spec_file.text, params, setting.choices)
    return identify(text, setting.job)[0]


# ------------------------------------------------------------------------------ the trial


class Enough(Exception):
    """The trial ends here: its state, and why."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state, self.why = state, why


def evaluate(
    planned: Planned,
    records: Records,
    setting: Setting,
    beat: Beat,
    every: float,
    progress: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """All that is found out about a trial, as search.json has it, with what the search
    wants to know later. `records` are those of earlier generations."""
    start = time.perf_counter()
    base = setting.job.spec_file.text
    record: dict[str, Any] = {
        "number": planned.number,
        "state": "running",
        "why": "",
        "baseline": planned.baseline,
        "params": planned.params,
        "values": {},
        "facts": {},
        "rungs": [],
        "diff": difference(without_search(base), planned.candidate.text),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "key": planned.candidate.key,
        "attributes": planned.attributes,
    }
    progress(record)
    try:
        _steps(planned, records, setting, Trial(setting, planned, beat, every), record)
        record["state"] = "complete"
    except Enough as end:
        record["state"], record["why"] = end.state, end.why
    if planned.number:  # the unedited one is what the others are measured beside
        shutil.rmtree(setting.folder(planned.number) / UNTRAINED, ignore_errors=True)
    record["seconds"] = time.perf_counter() - start
    return record


def _steps(
    planned: Planned,
    records: Records,
    setting: Setting,
    trial: Trial,
    record: dict[str, Any],
) -> None:
    if planned.candidate.refused:
        raise Enough("refused", planned.candidate.refused)
    if planned.same_as is not None:
        raise Enough("duplicate", f"the same as trial {planned.same_as}")
    values, facts = record["values"], record["facts"]
    bounds = records[0]["values"] if 0 in records else {}
    trial.build()
    facts |= trial.predicted()
    if setting.wanted("parameters"):
        values["parameters"] = facts["parameters"]
        _held(planned, values, bounds, setting)
    if setting.wanted("disk"):
        facts["disk"] = trial.disk(facts["disk"])
        values["disk"] = facts["disk"] / MB
        _held(planned, values, bounds, setting)
    if setting.wanted("memory"):
        facts["memory_measured"] = trial.memory()
        values["memory"] = facts["memory_measured"] / MB
        _held(planned, values, bounds, setting)
    if setting.wanted("latency"):
        values["latency"] = trial.latency(records)
    if setting.wanted("throughput"):
        values["throughput"] = trial.throughput(records)
    _held(planned, values, bounds, setting)
    _hope(planned, values, records, setting)
    for part in _rungs(setting.search):
        found = trial.train(part)
        facts["training_memory_measured"] = found.pop("memory")
        facts["rows"] = found.pop("rows")
        _comparable(facts["rows"], records)
        record["rungs"].append(found)
        values["metric"] = found["metric"]
        if part < 1 and planned.baseline is None:
            _half(planned, values, records, setting, part)
    if setting.wanted("training_time"):
        values["training_time"] = record["rungs"][-1]["seconds"]
    if not setting.wanted("metric"):
        record["facts"]["metric"] = values.pop("metric")


def _comparable(rows: str, records: Records) -> None:
    """Ends a trial that was scored on other rows than the unedited model, as texts that are
    blank once they are cleaned leave them."""
    first = records[0]["facts"] if 0 in records else {}
    if rows != first.get("rows", rows):
        raise Enough(
            "failed",
            "its validation or test rows are not those of the unedited model: they are "
            "read, split or cleaned in another way",
        )


def _rungs(search: Search) -> list[float]:
    """From the least to the whole."""
    return sorted({*search.rungs, 1.0})


def _held(
    planned: Planned,
    values: Mapping[str, float],
    bounds: Mapping[str, float],
    setting: Setting,
) -> None:
    """Ends a trial that breaks a constraint. A baseline stands whatever it breaks."""
    if planned.baseline is not None:
        return
    for one in setting.constraints:
        known = {n: v for n, v in values.items() if n != "metric"}
        if one.broken(known, bounds):
            value = short(values[one.objective])
            raise Enough("pruned", f"{one.text}: it is {value}")


def _hope(
    planned: Planned,
    values: Mapping[str, float],
    records: Records,
    setting: Setting,
) -> None:
    """Ends a trial when another is a tenth better in all that is known, and has the best
    score of all: it would have to beat what nothing has beaten, to be dominated less.
    """
    cheap = [o for o in setting.objectives if o.cheap]
    if planned.baseline is not None or not cheap or not setting.wanted("metric"):
        return
    done = {n: r["values"] for n, r in records.items() if r["state"] == "complete"}
    best = max((v["metric"] for v in done.values()), default=None)
    for number, other in done.items():
        if other["metric"] != best:
            continue
        if all(_far(o, other[o.name], values[o.name]) for o in cheap):
            raise Enough("pruned", f"trial {number} is better by far, and scores best")


def _far(objective: Objective, a: float, b: float) -> bool:
    """Whether `a` is better than `b` by a tenth."""
    return a <= HOPE * b if objective.direction == "minimize" else HOPE * a >= b


def _half(
    planned: Planned,
    values: Mapping[str, float],
    records: Records,
    setting: Setting,
    part: float,
) -> None:
    """Ends a trial that is not in the better half of those that came as far."""
    objectives = [o for o in setting.objectives if o.name != "training_time"]
    points = {}
    for number, record in records.items():
        known = {r["part"]: r["metric"] for r in record["rungs"]}
        found = {**record["values"], "metric": known.get(part)}
        if found["metric"] is not None and all(o.name in found for o in objectives):
            points[number] = found
    points[planned.number] = dict(values)
    if not promoted(planned.number, points, objectives):
        raise Enough("pruned", f"not in the better half, of {len(points)} at {part:g}")


# ------------------------------------------------------------------- what it takes to tell


@dataclass
class Trial:
    """The package of a trial, and what is measured of it."""

    setting: Setting
    planned: Planned
    beat: Beat
    every: float
    compiled: Compiled | None = None

    @property
    def folder(self) -> Path:
        return self.setting.folder(self.planned.number)

    @property
    def job(self) -> Job:
        return self.setting.job_of(self.planned)

    @property
    def name(self) -> str:
        return self.job.spec_file.spec.name

    @property
    def programs(self) -> Forked:
        return Forked(self.folder, self.name, self.beat, self.every)

    def _program(self, folder: Path, name: str, arguments: list[str | Path]) -> Ended:
        return Forked(folder, name, self.beat, self.every).python(*arguments)

    def build(self) -> None:
        """Write the spec and its package."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "spec.toml"
        path.write_text(self.planned.candidate.text)
        spec_file, facts = self.job.read(self.planned.candidate.text, str(path))
        plan = building.plan(spec_file, facts, self.folder)
        building.build(plan, force=True)
        self.compiled = plan.compiled

    def predicted(self) -> dict[str, Any]:
        """What the cost model says."""
        assert self.compiled is not None
        cost = describe(self.compiled.job)
        return {
            "parameters": cost.parameters,
            "flops": cost.predict(cost.tokens),
            "memory": cost.predict_bytes,
            "training_memory": cost.train_bytes,
            "disk": cost.file_bytes,
        }

    def disk(self, trained: int) -> int:
        """Bytes of the weights that predict, which are of another file where the model is
        deployed as another."""
        if not (self.folder / self.name / "deploy.py").is_file():
            return trained
        return self._size()

    def _size(self) -> int:
        """Bytes of the file that is predicted from, which is made where it is not there."""
        assert self.compiled is not None
        mine = self._contender(self.planned.number, self.job, self.compiled)
        answer = self._measured({"kind": "size", "contenders": [mine]})
        return int(answer["medians"][0])

    def memory(self) -> int:
        """Bytes that predicting a batch takes at most, in a process of its own: as many
        rows, as long, as the cost model counts."""
        assert self.compiled is not None
        self._size()  # what makes the weights would count too
        cost = describe(self.compiled.job)
        mine = self._contender(self.planned.number, self.job, self.compiled)
        mine["inputs"] = inputs_of(self.compiled, cost.rows, cost.tokens)
        path = self._asked({"kind": "memory", "contenders": [mine]})
        programs = Programs(self.folder, self.name, quiet=True, bound=True)
        self.beat()
        ended = tried(lambda: programs.python(SPEED, path, output="keep"))
        return int(_answer(ended)["medians"][0])

    def latency(self, records: Records) -> float:
        """Milliseconds of a batch."""
        return 1000 * self._beside("batch", "latency", records)

    def throughput(self, records: Records) -> float:
        """Validation rows that are predicted a second."""
        return 1 / self._beside("rows", "throughput", records)

    def _beside(self, kind: str, name: str, records: Records) -> float:
        """Seconds of a batch, or of a row, by its ratio to the unedited package's, which
        runs beside it; the unedited one's own are as they are."""
        assert self.compiled is not None
        mine = self._contender(self.planned.number, self.job, self.compiled)
        contenders = [mine]
        if self.planned.number:
            contenders = [self._unedited(), mine]
        asked = {
            "kind": kind,
            "contenders": contenders,
            "rounds": ROUNDS,
            "least": LEAST,
            "split": "valid",
            "rows": ROWS,
            "root": str(self.job.root.resolve()),
        }
        with alone(self.setting.work / "measuring", self.beat):
            answer = self._measured(asked)
        if not self.planned.number:
            return answer["medians"][0] / answer["rows"]
        known = records[0]["values"][name]
        reference = known / 1000 if name == "latency" else 1 / known
        rounds = zip(*answer["seconds"], strict=True)
        return reference * statistics.median(own / first for first, own in rounds)

    def _unedited(self) -> dict[str, Any]:
        """The first trial's, whose package is built where another machine did that one."""
        setting, job = self.setting, self.setting.job
        folder = setting.folder(0)
        with alone(setting.work / "unedited", self.beat):
            if not (folder / job.spec_file.spec.name / LOCK).is_file():
                text = unedited(job.spec_file.text)
                spec_file, facts = job.read(text, str(folder / "spec.toml"))
                plan = building.plan(spec_file, facts, folder)
                building.build(plan, force=True)
        return self._contender(0, job, setting.unedited)

    def _contender(self, number: int, job: Job, compiled: Compiled) -> dict[str, Any]:
        folder, search = self.setting.folder(number), self.setting.search
        target, deploy = compiled.job.target, compiled.job.deploy
        return {
            "name": job.spec_file.spec.name,
            "parent": str(folder.resolve()),
            "weights": str(job.weights.resolve()),
            "trained": str((folder / UNTRAINED / TRAINED).resolve()),
            "deployed": str((folder / UNTRAINED / DEPLOYED).resolve()),
            "work": str((folder / "speed").resolve()),
            "inputs": inputs_of(compiled, search.latency_batch, search.latency_tokens),
            "device": target.device,
            "autocast": autocast(target.precision, deploy.precision),
        }

    def _asked(self, asked: Mapping[str, Any]) -> Path:
        path = self.folder / "asked.json"
        path.write_text(json.dumps(asked))
        return path

    def _measured(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        path = self._asked(asked)
        return _answer(tried(lambda: self.programs.python(SPEED, path)))

    def train(self, part: float) -> dict[str, Any]:
        """Train on a part of the rows: the score on the validation rows, and the time."""
        whole = part == 1
        work = self.folder / ("work" if whole else f"rung-{part:g}")
        rows = self.setting.work / "rows"
        said = self.setting.work / f"teacher-{part:g}"  # what teachers say of the rows
        text = self.planned.candidate.text
        try:
            above = self.setting.taught(self.job, text, self._program, self.beat)
        except Untaught as error:
            raise Enough("failed", str(error)) from error
        start = 0.0

        def run() -> Ended:
            nonlocal start
            shutil.rmtree(work, ignore_errors=True)  # of one that was killed
            work.mkdir(parents=True)
            if rows.is_dir():
                shutil.copytree(rows, work / "rows")
            lend(said, work / "teacher")
            start = time.perf_counter()
            return self.programs.python(
                Path(__file__).with_name("search_train.py"),
                *(self.name, str(part), str(self.job.seed)),
                *("--root", self.job.root.resolve(), "--work", work.resolve()),
                *("--weights", self.job.weights.resolve(), "--quiet"),
                *above,
            )

        ended = tried(run)
        if ended.code:
            raise Enough("failed", why(ended, f"train.py ended with {ended.code}"))
        result = json.loads((work / "result.json").read_text())
        if not self.planned.number and (work / "rows").is_dir() and not rows.exists():
            # What the others start from is there whole, or not at all.
            copy = rows.with_suffix(".part")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(work / "rows", copy).rename(rows)
        keep(work / "teacher", said)
        tidy(work)
        if not whole:
            for name in (TRAINED, DEPLOYED):
                (work / name).unlink(missing_ok=True)
        metric = signed(result["valid"])
        if not math.isfinite(metric):  # which no storage has, and nothing compares with
            raise Enough("failed", f"its score is {metric}")
        return {
            "part": part,
            "metric": metric,
            "seconds": time.perf_counter() - start,
            "memory": result["memory"],
            "rows": result["rows"],
        }


def _answer(ended: Ended) -> dict[str, Any]:
    """What search_speed.py printed."""
    if ended.code:
        raise Enough("failed", why(ended, "it cannot be run"))
    return json.loads(ended.output.splitlines()[-1])


def inputs_of(
    compiled: Compiled, rows: int, tokens: int
) -> list[tuple[str, list[int]]]:
    """Types and shapes of what the model is given for a batch of so many rows, as long as
    that or as rows get."""
    model, plan = compiled.job.model, compiled.job.data.inputs
    longest = plan.max_tokens if isinstance(plan, TextPlan) else 1
    sizes = {**model.sizes, "B": rows, "T": min(tokens, longest)}
    return [
        (TORCH_DTYPES[v.type.dtype], [d.value(sizes) for d in v.type.shape])
        for v in model.main.inputs
        if not v.type.optional
    ]


def autocast(target: str, weights: str) -> str:
    """What predict.py computes in under autocast, by the precisions of [target] and of
    [deploy]; "" where in that of the weights."""
    half = {"bf16": "bfloat16", "fp16": "float16"}
    return "" if weights == "bf16" else half.get(target, "")


def signed(figures: Mapping[str, Any]) -> float:
    """The figure that sums up an evaluation, the more the better."""
    name = score_name(figures)
    return -figures[name] if name == "loss" else figures[name]
