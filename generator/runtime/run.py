"""`gen run`: build, train, test, probe, certify, bench and report a job.

Each stage is a program of the package, run as a user would. What it writes lies in the
work folder; nothing but `--record` changes the facts or the package.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generator import pruning
from generator.errors import Diagnostic, GenError, fail, render_diagnostics
from generator.runtime import (
    baseline,
    certify,
    data_report,
    deployment,
    export,
    figures,
    measure,
    report,
    steps,
    tables,
    terminal,
)
from generator.runtime import build as building
from generator.runtime.files import write_if_changed
from generator.runtime.programs import Ended, shown
from generator.runtime.ready import (
    Ready,
    device_at_hand,
    need,
    precision_at_hand,
    prepare,
    probe,
)
from generator.runtime.state import Stages
from generator.spec import SpecFile

RESULT, RUN = "result.json", "run.json"
# By stage, what it leaves in the work folder.
FILES = {name: f"{name}.json" for name in ("probe", "certificate", "bench", "export")}
STOPPED, GAVE_UP = 75, 76  # exit codes of train.py


def run(args: argparse.Namespace) -> int:
    """The command. 0; 1 where a check fails or a stage does; or train.py's own code."""
    if args.resume and args.fresh:
        raise fail(
            "G506",
            "--resume goes on with a run and --fresh drops it: both cannot be meant",
            help="choose one of the two",
        )
    need("matplotlib", "rich", *(["sklearn"] if args.probe != "off" else []))
    told, start = Told(args), time.perf_counter()
    begun = begin(args, told)
    if isinstance(begun, int):
        return begun
    ready, teacher = begun.ready, begun.teacher
    stages = Stages(ready.work, ready.key(teacher), args.resume)
    stages.seconds["build"] = time.perf_counter() - start - begun.seconds
    found: dict[str, Any] = figures.job_figures(ready.plan)
    found["pruned"] = begun.steps
    told.stage(f"{ready.plan.folder}: {_built(ready)}")
    with stages.timed("count"):
        counted = probe(ready, times=not stages.finished("train", ready.work / RESULT))
        device_at_hand(ready, counted)
        precision_at_hand(ready, counted, args.anyway)

    if begun.steps is not None:
        found["pruned"] = {**begun.steps, "before": as_pruned(ready, stages)}
    ended = train(ready, stages, args, told, teacher)
    if ended is not None and ended.code:
        return not_trained(ready, ended, args)
    found |= figures.training_figures(ready.work)
    with stages.timed("data"):
        found["data"] = data_report.counted(ready)

    found["deployed"], deploy_failed = deployed(ready, stages, told, args.anyway)
    if found["deployed"] is not None:  # which predicts, and is calibrated for it
        found["calibration"] = found["deployed"].get("calibration")
    found["probe"], probe_failed = None, False
    if args.probe != "off":
        found["probe"], probe_failed = once(
            ready,
            stages,
            told,
            "probe",
            lambda: baseline.probe(ready, asked=args.probe, quiet=told.silent),
            lambda probe: probe["asked"] == args.probe,
        )
    found["certificate"] = certificate(ready, stages, told)
    benched, bench_failed = None, False
    if not args.no_bench:
        options = measure.short(ready, found["training"])
        benched, bench_failed = once(
            ready,
            stages,
            told,
            "bench",
            lambda: measure.measure(ready, options, quiet=args.quiet),
        )
    found["bench"] = benched
    found["predicted_of_bench"] = figures.predicted_of_bench(
        ready.plan.compiled.job, benched
    )
    found["export"], export_failed = None, False
    if ready.plan.compiled.job.export.to:
        found["export"], export_failed = once(
            ready, stages, told, "export", lambda: export.every(ready)
        )
    found["counted"] = counted
    found["environment"] = figures.environment(counted or {})
    found["seconds"] = stages.seconds

    holds = certify.holds(found["certificate"])
    found["recorded"] = []
    if args.record:
        found["recorded"] = record(ready, found, args.out, holds and not bench_failed)
    found["hashes"] = figures.hashes(ready, teacher)
    found["report"] = report.write(found, ready.work)
    if found["data"] is not None:
        found["data"]["report"] = data_report.write(found["data"], ready.work)
    data = json.dumps(found, indent=1).encode() + b"\n"
    write_if_changed(ready.work / RUN, data)
    if args.json:
        sys.stdout.write(data.decode())
    elif not args.quiet:
        summary(found)
    return (
        0
        if holds
        and not (bench_failed or probe_failed or export_failed or deploy_failed)
        else 1
    )


class Told:
    """Says on standard error which stage begins; nothing where that is not wanted."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.silent = args.quiet or args.json

    def stage(self, words: str) -> None:
        if not self.silent:
            print(words, file=sys.stderr, flush=True)


def _built(ready: Ready) -> str:
    written = len(ready.built.written)
    return f"{written} file{'s' * (written != 1)} written" if written else "current"


# ----------------------------------------------------------------------------- stages


@dataclass(frozen=True)
class Begun:
    """A job that can be trained: what other jobs and earlier steps had to do is done."""

    ready: Ready
    teacher: Path | None  # the weights of its teacher
    steps: Mapping[str, Any] | None = None  # of pruning ahead of the last
    seconds: float = 0.0  # that the teacher and the steps have taken


def begin(args: argparse.Namespace, told: Told) -> Begun | int:
    """The built package with what it is trained from, or train.py's exit code where the
    training of a teacher or of a step does not come to its end; that is said then.

    A job is compiled before anything of it runs, so that its errors come first.
    """
    spec_file = building.load_spec(args.spec)
    if not pruning.stepped(spec_file.spec):
        ready = prepare(args)
        building.writable(ready.work, "--work")
        start = time.perf_counter()
        teacher, code = teacher_weights(spec_file, ready.work, args, told)
        seconds = time.perf_counter() - start
        return code or Begun(ready, teacher, seconds=seconds)
    course = steps.course(args, spec_file)
    start = time.perf_counter()
    teacher, code = teacher_weights(spec_file, course.work, args, told)
    if code:
        return code
    try:
        reached = steps.take(course, teacher, told.stage)
    except steps.Stopped as stopped:
        return not_trained(stopped.ready, stopped.ended, args)
    if steps.recorded(course, reached):
        told.stage(f"{course.name}: its facts say what the steps have led to")
    seconds = time.perf_counter() - start
    return Begun(prepare(args), teacher, steps.figures(course, reached), seconds)


def teacher_weights(
    spec_file: SpecFile, beside: Path, args: argparse.Namespace, told: Told
) -> tuple[Path | None, int]:
    """The weights of the job's teacher, and 0. None where it has no teacher.

    Those that `--teacher` names, or of the teacher's own work folder beside the job's,
    where it is trained first if that has not been done. What is said of a training that
    does not come to its end is said then, and the exit code is not 0.
    """
    teacher = spec_file.teacher
    if args.teacher is not None:
        if teacher is None or not args.teacher.is_file():
            raise fail(
                "G550",
                (
                    f"there are no weights {args.teacher}"
                    if teacher is not None
                    else f"{spec_file.spec.name} has no teacher whose weights --teacher "
                    "could name"
                ),
                help="leave --teacher out",
            )
        return args.teacher, 0
    if teacher is None:
        return None, 0
    work = beside.parent / teacher.spec.name
    weights = work / "model.safetensors"
    if weights.is_file() and (work / RESULT).is_file():
        return weights, 0
    told.stage(f"the teacher, {teacher.spec.name}, is trained first")
    started = any((work / "checkpoints").glob("*.safetensors"))
    own = {"spec": Path(teacher.file), "work": work, "resume": started, "fresh": False}
    options = argparse.Namespace(**{**vars(args), **own})
    begun = begin(options, told)
    if isinstance(begun, int):
        return weights, begun
    its, above = begun.ready, begun.teacher
    counted = probe(its, times=True)
    device_at_hand(its, counted)
    precision_at_hand(its, counted, args.anyway)
    ended = train(its, Stages(work, its.key(above), True), options, told, above)
    if ended is not None and ended.code:
        return weights, not_trained(its, ended, args)
    return weights, 0


def train(
    ready: Ready,
    stages: Stages,
    args: argparse.Namespace,
    told: Told,
    teacher: Path | None = None,
) -> Ended | None:
    """Train and test by train.py, which decides what becomes of an earlier run there.

    None where the run was finished already. Its standard output is left out: what it
    says at the end stands in result.json.
    """
    if stages.finished("train", ready.work / RESULT):
        told.stage("train: finished before")
        return None
    told.stage("train")
    flags = [
        f"--{name}" for name in ("resume", "fresh", "quiet") if getattr(args, name)
    ]
    taught = ("--teacher", teacher) if teacher is not None else ()
    with stages.timed("train"):
        ended = ready.programs.module(
            "train",
            *("--root", ready.root, "--work", ready.work, "--weights", ready.weights),
            *taught,
            *flags,
            output="drop",
            saves=True,
        )
    if not ended.code:
        stages.finish("train")
    return ended


def as_pruned(ready: Ready, stages: Stages) -> dict[str, Any] | None:
    """Figures of the last step's model on the validation rows, ahead of its training."""
    if stages.finished("as pruned", ready.work / steps.BEFORE):
        return json.loads((ready.work / steps.BEFORE).read_bytes())
    with stages.timed("as pruned"):
        found = steps.measure(ready)
    if found is not None:
        stages.finish("as pruned")
    return found


def not_trained(ready: Ready, ended: Ended, args: argparse.Namespace) -> int:
    """Say why there is no trained model, and what to do; train.py's exit code."""
    again = [a for a in _command(args) if a not in ("--resume", "--fresh")]
    code = ended.code
    if code == STOPPED:
        what = Diagnostic(
            "G507",
            f"training was stopped, and everything that it needs to go on is in "
            f"{ready.work}",
            help=f"go on with: {shown([*again, '--resume'])}",
        )
    elif code == GAVE_UP:
        what = Diagnostic(
            "G508",
            "training gave up: too many steps whose loss or gradient is not finite",
            help=f"{ready.work / 'metrics.jsonl'} has the losses; a lower lr, or a longer "
            "warmup, in the spec may mend it. The last good weights are kept",
        )
    elif ended.stopped:
        raise KeyboardInterrupt
    else:
        what = Diagnostic(
            "G509",
            f"train.py ended with exit code {code}; what it said stands above",
            help=(
                f"an earlier run in {ready.work} is gone on with by --resume, and put "
                "aside by --fresh"
                if any((ready.work / "checkpoints").glob("*.safetensors"))
                else "mend that, and run this again"
            ),
        )
    sys.stderr.write(render_diagnostics([what], {}) + "\n")
    if args.json:
        answer = {"name": ready.name, "stage": "train", "exit": code}
        print(json.dumps(answer | {"code": what.code, "message": what.message}))
    return code


def _command(args: argparse.Namespace) -> list[str]:
    """The command line that these arguments came from."""
    parts = ["gen", "run", str(args.spec)]
    if args.out != Path("generated"):
        parts += ["--out", str(args.out)]
    for name in ("work", "root", "teacher"):
        if getattr(args, name) is not None:
            parts += [f"--{name}", str(getattr(args, name))]
    if args.probe != "short":
        parts += ["--probe", args.probe]
    flags = ("resume", "fresh", "record", "no_bench", "anyway", "quiet", "json")
    parts += [f"--{n.replace('_', '-')}" for n in flags if getattr(args, n)]
    return parts


def once(
    ready: Ready,
    stages: Stages,
    told: Told,
    name: str,
    find: Callable[[], Any],
    still: Callable[[Any], bool] = lambda found: True,
) -> tuple[Any, bool]:
    """What a stage finds, and whether it failed, which is said then and finds None.

    It lies in a file of the work folder, and is read from there where the stage was
    finished before and `still` says that it is what is asked for.
    """
    path = ready.work / FILES[name]
    if stages.finished(name, path):
        found = json.loads(path.read_bytes())
        if still(found):
            told.stage(f"{name}: finished before")
            return found, False
    told.stage(name)
    with stages.timed(name):
        try:
            found = find()
        except GenError as error:
            sys.stderr.write(render_diagnostics(error.diagnostics, {}) + "\n")
            return None, True
    write_if_changed(path, json.dumps(found, indent=1).encode() + b"\n")
    stages.finish(name)
    return found, False


def deployed(
    ready: Ready, stages: Stages, told: Told, anyway: bool
) -> tuple[dict[str, Any] | None, bool]:
    """What the deployed model is beside the trained one, and whether making it failed."""
    if not deployment.asked(ready):
        return None, False
    if stages.finished("deploy", ready.work / deployment.WEIGHTS):
        told.stage("deploy: finished before")
        return json.loads((ready.work / deployment.FILE).read_bytes()), False
    told.stage("deploy")
    with stages.timed("deploy"):
        found, written = deployment.deploy(ready, anyway)
    if written:
        stages.finish("deploy")
    return found, not written


def certificate(ready: Ready, stages: Stages, told: Told) -> list[dict[str, Any]]:
    """The checks; one that ends without an answer is a check that does not hold."""
    path = ready.work / FILES["certificate"]
    if stages.finished("certificate", path):
        told.stage("certificate: finished before")
        return json.loads(path.read_bytes())
    told.stage("certificate")
    with stages.timed("certificate"):
        try:
            found = certify.checks(ready)
        except GenError as error:
            sys.stderr.write(render_diagnostics(error.diagnostics, {}) + "\n")
            return certify.failed_to_run(error)
    write_if_changed(path, json.dumps(found, indent=1).encode() + b"\n")
    if certify.holds(found):
        stages.finish("certificate")
    return found


# --------------------------------------------------------------------------- recording


def record(ready: Ready, found: Mapping[str, Any], out: Path, sound: bool) -> list[str]:
    """Make figures part of the facts, and build the model card that shows them.

    The files that were written; none, with a warning, where a stage failed.
    """
    if not sound:
        warning = Diagnostic(
            "G513",
            "nothing is recorded, because the certificate or the bench failed",
            help="mend that, and run again with --resume --record",
            severity="warning",
        )
        sys.stderr.write(render_diagnostics([warning], {}) + "\n")
        return []
    facts = replace(ready.facts, measured=recorded(found))
    certify.store(ready, facts)
    plan = building.plan(ready.spec_file, facts, out)
    return list(building.build(plan).written)


def recorded(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures for the model card: names and numbers, one a line."""
    test, training, machine = found["test"], found["training"], found["environment"]
    values: dict[str, Any] = {
        f"Test {tables.within(name)}": value
        for name, value in test.items()
        if isinstance(value, float)
    }
    if found["deployed"] is not None:
        deployed = found["deployed"]
        values |= {
            f"Test {tables.within(name)}, deployed as {deployed['kind']}": value
            for name, value in deployed["test"]["deployed"].items()
            if isinstance(value, float)
        }
        values["Deployed model, times as fast"] = deployed["times_as_fast"]["median"]
    values["Training examples/s"] = training["examples_per_s"]
    values["Training steps"] = training["steps"]
    values["Certificate"] = report.verdict(found["certificate"])
    threads = machine["threads"]
    values["Measured on"] = (
        f"{machine['gpu'] or machine['processor']}, {threads} threads, "
        f"torch {machine['versions']['torch']}"
    )
    for kind, contenders in (found["bench"] or {}).items():
        if kind not in tables.KINDS:
            continue
        title = tables.KINDS[kind]
        for name, f in contenders.items():
            if "ours_is_faster" in f:
                values[f"{title}, times as fast as {name}"] = f["ours_is_faster"][
                    "median"
                ]
            else:
                values[f"{title}, examples/s"] = f["examples_per_s"]["median"]
                values[f"{title}, of the floor"] = f["of_floor"]["median"]
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


# ----------------------------------------------------------------------------- summary


def summary(found: Mapping[str, Any]) -> None:
    """What a run prints at its end."""
    shown_tables: list[tables.Table | None] = [
        tables.scores(found),
        tables.by_label(found),
        tables.steps(found),
        tables.probe(found),
        tables.deployed(found),
        tables.calibration(found),
        tables.certificate(found["certificate"]),
    ]
    if found["export"]:
        shown_tables.append(tables.exports(found["export"]))
    if found["bench"] is not None:
        shown_tables += tables.bench(found["bench"], narrow=True)
    shown_tables.append(tables.predicted(found))
    terminal.show(t for t in shown_tables if t is not None)
    score = tables.score_name(found["test"])
    print(f"Test {tables.within(score)}: {found['test'][score]:.4f}")
    if found["probe"] is not None:
        print(f"Linear probe: {tables.probe_words(found['probe'])}")
    print(f"Certificate: {report.verdict(found['certificate'])}")
    for path in found["recorded"]:
        print(f"Recorded: {path}")
    print(f"Report: {found['report']['html']}, {found['report']['markdown']}")
    if found["data"] is not None:
        print(f"Data: {found['data']['report']['html']}")
