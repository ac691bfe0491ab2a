"""The steps of a job that is pruned in several: what `gen run` does ahead of the last one.

Each step has a folder of its own in the work folder, `steps/1` and so on: its spec, its
package, which is certified against what the step before left, its own work folder, and in
`model/` its trained weights in the backbone's shape, with their scores beside it. A step that
is done is not done again; one that was stopped goes on from its newest checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from generator import pruning, saved
from generator.compile import Compiled, draft
from generator.errors import fail
from generator.facts import (
    Card,
    Facts,
    Pruned,
    PrunedStep,
    dump_scores,
    load_scores,
    weights_hash,
)
from generator.importing import import_job, request
from generator.ir.head import classifier, units
from generator.ir.job import Job, parameters
from generator.ir.plans import ExportPlan
from generator.ir.sources import Init
from generator.locking import digest
from generator.runtime import build as building
from generator.runtime import calibrate, certify, gather
from generator.runtime.checkpoint import CONFIG, LocalCheckpoint
from generator.runtime.files import hash_file, write_if_changed
from generator.runtime.programs import Ended, Programs
from generator.runtime.ready import (
    MODEL,
    STEPS,
    Ready,
    device_at_hand,
    find,
    planned,
    precision_at_hand,
    probe,
    reads,
)
from generator.runtime.tables import score_name
from generator.runtime.vocab import data_file
from generator.runtime.weights import SINGLE, find_weights, weights_path
from generator.spec import SpecFile

# In the folder of a step.
SPEC, KEY, DONE, SCORES, WORK = (
    "spec.toml",
    "key.txt",
    "step.json",
    "scores.safetensors",
    "work",
)
CERTIFICATE, UNFINISHED = "certificate.json", "unfinished"
BEFORE = "before.json"  # as step_train.py calls it
PROGRAM = Path(__file__).with_name("step_train.py")
ROWS = 1024  # training rows that are scored on after each step
SAME = 1e-6  # how far weights that went through a file of the old shape may be off


@dataclass(frozen=True)
class Course:
    """A job that is pruned in steps, ahead of them: all that they have in common."""

    spec_file: SpecFile
    facts: Facts  # of the backbone, with the scores of its units
    checkpoint: LocalCheckpoint  # the backbone's
    root: Path
    work: Path  # the job's own
    fresh: bool
    anyway: bool  # in a precision that this processor is slow in
    quiet: bool

    @property
    def name(self) -> str:
        return self.spec_file.spec.name

    @property
    def sizes(self) -> Mapping[str, int]:
        return import_job(self.spec_file, self.facts).model.sizes


@dataclass(frozen=True)
class Reached:
    """Where a course stands: what the next step starts from."""

    facts: Facts
    checkpoint: LocalCheckpoint
    # Of each step that is done, seconds of its training and of all of it.
    seconds: tuple[tuple[float, float], ...] = ()

    @property
    def weights(self) -> Path:
        return weights_path(self.checkpoint)

    @property
    def steps(self) -> tuple[PrunedStep, ...]:
        return self.facts.pruned.steps if self.facts.pruned is not None else ()


class Stopped(Exception):
    """The training of a step did not come to its end."""

    def __init__(self, ready: Ready, ended: Ended) -> None:
        super().__init__(f"train.py ended with {ended.code}")
        self.ready, self.ended = ready, ended


def course(args: argparse.Namespace, spec_file: SpecFile) -> Course:
    """A job's course of steps, its backbone scored where that was not done.

    GenError where the job cannot be built, or could not be once the steps are done: before
    anything runs.
    """
    facts = replace(building.facts_for(spec_file), pruned=None)
    checkpoint, weights = find(spec_file, facts)
    root, quiet = args.root or Path(spec_file.file).parent, args.quiet or args.json
    if facts.scores is None:
        pruning.step_specs(spec_file, import_job(spec_file, facts).model.sizes)
        facts, _, _ = calibrate.score(spec_file, facts, weights, root, ROWS, quiet)
        there = building.facts_for(spec_file)
        gather.save_facts(replace(there, scores=facts.scores), _folder(spec_file))
    plan, work = planned(args)
    reads(plan)
    building.refuse_edits([plan])
    building.writable(work, "--work")
    sizes = import_job(spec_file, facts).model.sizes
    for number, step in enumerate(pruning.step_specs(spec_file, sizes), 1):
        draft(replace(step, file=f"step {number} of {spec_file.file}"), facts)
    return Course(
        spec_file, facts, checkpoint, root, work, args.fresh, args.anyway, quiet
    )


def _folder(spec_file: SpecFile) -> Path:
    """Where the facts of a job lie."""
    here = Path(spec_file.file).resolve().parent
    return gather.facts_folder(here, spec_file.spec.name)


def take(on: Course, teacher: Path | None, say: Callable[[str], None]) -> Reached:
    """Go through all steps but the last, as far as that was not done before.

    Stopped where a training does not come to its end; GenError where a certificate does
    not hold, or a step's weights cannot be put back into the backbone's shape.
    """
    specs = pruning.step_specs(on.spec_file, on.sizes)
    key = pruning.key(on.spec_file, specs, on.facts.card)
    reached = Reached(on.facts, on.checkpoint)
    if on.fresh:
        _put_aside(on.work / STEPS)
    for number, spec_file in enumerate(specs, 1):
        reached = _step(on, reached, spec_file, number, key, teacher, say)
    return reached


def recorded(on: Course, reached: Reached) -> bool:
    """Make what the steps have led to a fact of the job; whether that is news."""
    facts = building.facts_for(on.spec_file)
    now = replace(facts, pruned=reached.facts.pruned)
    if facts.pruned != now.pruned:  # what was measured was of other weights
        now = replace(now, measured=None, reference=None)
    return bool(gather.save_facts(now, _folder(on.spec_file)))


def figures(on: Course, reached: Reached) -> dict[str, Any]:
    """The steps as run.json has them, and what the last one leaves."""
    done = zip(reached.steps, reached.seconds, strict=True)
    return {
        "steps": [
            asdict(step) | {"training_seconds": trained, "seconds": whole}
            for step, (trained, whole) in done
        ],
        "stays": list(pruning.stays(on.spec_file.spec, on.sizes)),
    }


def measure(ready: Ready) -> dict[str, Any] | None:
    """Figures of the validation rows ahead of training; None where that fails, which is
    said on standard error."""
    ended = ready.programs.python(
        PROGRAM,
        *("measure", ready.name, "--root", ready.root.resolve()),
        *("--work", ready.work.resolve(), "--weights", ready.weights.resolve()),
        output="drop",
    )
    return None if ended.code else json.loads((ready.work / BEFORE).read_bytes())


# ---------------------------------------------------------------------------- one step


def _step(
    on: Course,
    reached: Reached,
    spec_file: SpecFile,
    number: int,
    key: str,
    teacher: Path | None,
    say: Callable[[str], None],
) -> Reached:
    start = time.perf_counter()
    folder = on.work / STEPS / str(number)
    spec_file = replace(spec_file, file=str(folder / SPEC))
    facts = replace(reached.facts, measured=None, reference=None)
    compiled = draft(spec_file, facts)
    ready_key = _key(on, reached, compiled, number, teacher)
    if (folder / KEY).is_file() and (folder / KEY).read_text() != ready_key:
        _put_aside(folder)
    done = _done(folder, ready_key)
    words = ", ".join(pruning.stays(spec_file.spec, on.sizes))
    say(f"step {number}: {words}{', done before' * (done is not None)}")
    write_if_changed(folder / SPEC, spec_file.text.encode())
    plan = building.compare(spec_file, compiled, facts, folder / on.name)
    built = building.build(plan, force=True)
    write_if_changed(folder / KEY, ready_key.encode())
    ready = Ready(
        spec_file,
        built,
        on.root,
        folder / WORK,
        Programs(folder, on.name, on.quiet),
        reached.checkpoint,
        reached.weights,
    )
    if done is not None:
        return _reached(on, reached, ready, folder, key, done)
    if number == 1:
        counted = probe(ready, times=True)
        device_at_hand(ready, counted)
        precision_at_hand(ready, counted, on.anyway)
    _certify(ready, number)
    before = measure(ready)
    if before is None:
        raise fail(
            "G294",
            f"the model of step {number} cannot be run over the validation rows; what went "
            "wrong stands above",
            place=on.spec_file.place("data.train"),
            help="mend the data, or say where its paths start: --root FOLDER",
        )
    trained = _train(on, ready, number, teacher)
    _leave(ready, facts, folder)
    result = json.loads((ready.work / "result.json").read_bytes())
    name = score_name(before)
    done = {
        "key": ready_key,
        "score": name,
        "before": before[name],
        "after": result["valid"][name],
        "training_seconds": trained,
        "seconds": time.perf_counter() - start,
    }
    write_if_changed(folder / DONE, json.dumps(done, indent=1).encode() + b"\n")
    return _reached(on, reached, ready, folder, key, done)


def _key(
    on: Course,
    reached: Reached,
    compiled: Compiled,
    number: int,
    teacher: Path | None,
) -> str:
    """A digest of all that a step depends on: code, weights, scores, rows, its teacher."""
    data = compiled.job.data
    files = [f for f in (data.train, data.valid, data.test) if f is not None]
    about = {
        "code": {
            one.path: digest(one.data)
            for one in compiled.drafts
            if one.path not in ("README.md", "spec.toml")
        },
        "weights": {f.name: f.sha256 for f in reached.facts.card.files},
        "scores": digest(reached.facts.scores or b""),
        "rows": [data_file(on.root, name).sha256 for name in files],
        "recovery": asdict(pruning.recovery(on.spec_file.spec)),
        "number": number,
        "teacher": None if teacher is None else hash_file(teacher, str(teacher)),
    }
    return digest(json.dumps(about, sort_keys=True).encode())


def _done(folder: Path, key: str) -> dict[str, Any] | None:
    """What a finished step wrote down; None where it is not finished, or was another."""
    try:
        found = json.loads((folder / DONE).read_bytes())
    except (OSError, ValueError):
        return None
    whole = (folder / MODEL / SINGLE).is_file()
    return found if whole and found.get("key") == key else None


def _put_aside(folder: Path) -> None:
    """Rename what is of another spec, other rows, or not to be gone on with."""
    if folder.exists():
        stem = time.strftime(f"{folder.name}-before-%Y%m%d-%H%M%S")
        aside, number = folder.with_name(stem), 1
        while aside.exists():
            number += 1
            aside = folder.with_name(f"{stem}-{number}")
        folder.rename(aside)


def _certify(ready: Ready, number: int) -> None:
    """GenError where the step's model is not what the step before left, masked."""
    found = certify.checks(ready)
    data = json.dumps(found, indent=1).encode() + b"\n"
    write_if_changed(ready.work / CERTIFICATE, data)
    if wrong := [check for check in found if not check["holds"]]:
        raise fail(
            "G294",
            f"the certificate of step {number} does not hold: {wrong[0]['name']} is "
            f"{wrong[0]['measured']}, at most {wrong[0]['bound']}",
            help=f"run it alone: python -m {ready.name}.test_model --weights "
            f"{ready.reference()}",
        )


def _train(on: Course, ready: Ready, number: int, teacher: Path | None) -> float:
    """Train a step, from its newest checkpoint where there is one; the seconds."""
    start = time.perf_counter()
    resumed = any((ready.work / "checkpoints").glob("*.safetensors"))
    ended = ready.programs.python(
        PROGRAM,
        "train",
        on.name,
        str(pruning.recovery(on.spec_file.spec).part),
        str(number),
        *("--root", on.root.resolve(), "--work", ready.work.resolve()),
        *("--weights", ready.weights.resolve()),
        *(("--teacher", teacher.resolve()) if teacher is not None else ()),
        *(["--resume"] if resumed else []),
        *(["--quiet"] if on.quiet else []),
        output="drop",
        saves=True,
    )
    if ended.code:
        raise Stopped(ready, ended)
    return time.perf_counter() - start


# ------------------------------------------------------------------- what a step leaves


def _leave(ready: Ready, facts: Facts, folder: Path) -> None:
    """Write the trained weights in the backbone's shape, as a checkpoint like it.

    GenError where they do not come back from there as they are.
    """
    from safetensors.torch import load_file, save_file

    from generator.runtime.interpret import load
    from generator.runtime.unpruned import as_saved, unpruned

    job, card = ready.plan.compiled.job, facts.card
    heads = saved.names(job)
    names = ExportPlan((), heads.base, tuple(heads.heads.items()))
    imported = replace(import_job(ready.spec_file, facts), export=names)
    asked = request(ready.spec_file, facts)
    trained = _in_units(job, load_file(ready.work / SINGLE))
    try:
        files = saved.files(imported, imported, card, asked)
        tensors = unpruned(job, trained, _tensors(ready.checkpoint))
    except ValueError as error:
        raise fail(
            "G294",
            f"the weights of {ready.plan.folder} cannot be put back into the backbone's "
            f"shape: {error}",
            place=ready.spec_file.place("backbone.from"),
            help="prune this job at once: remove [train.prune]",
        ) from None
    again, new = load(job, tensors), {}
    for info in parameters(job):
        value = trained[info.path].double()
        if isinstance(info.source, Init):
            new[info.path] = trained[info.path]
        elif (far := (again[info.path].double() - value).abs().max().item()) > SAME:
            raise fail(
                "G294",
                f"{info.path} of {ready.plan.folder} does not come back from the "
                f"backbone's shape as it was: it is off by {far:.2g}",
                help="this is a fault of gen: please report it, with the spec",
            )
    unread = frozenset(u.key for u in imported.model.unused)
    model = folder / MODEL
    model.mkdir(exist_ok=True)
    for name in _beside(ready.checkpoint, card):
        shutil.copyfile(ready.checkpoint.path(name), model / name)
    for name, data in files.items():
        if name == CONFIG or not (model / name).exists():
            write_if_changed(model / name, data)
    # The weights last: a folder with them is whole.
    save_file(as_saved(tensors, new, names, unread), model / UNFINISHED)
    (model / UNFINISHED).rename(model / SINGLE)


def _in_units(job: Job, trained: Mapping[str, Any]) -> dict[str, Any]:
    """The weights with a last layer that answers in the units of the targets by itself."""
    found = dict(trained)
    if names := units(job.model):
        scale, shift = (found[name] for name in names)
        layer = f"{classifier(job.model).call.name}.{classifier(job.model).label.name}"
        found[f"{layer}.weight"] = found[f"{layer}.weight"] * scale[:, None]
        found[f"{layer}.bias"] = found[f"{layer}.bias"] * scale + shift
    return found


def _tensors(checkpoint: LocalCheckpoint) -> dict[str, Any]:
    from safetensors.torch import load_file

    files = [checkpoint.path(name) for name in find_weights(checkpoint).files]
    return {key: x for file in files for key, x in load_file(file).items()}


def _beside(checkpoint: LocalCheckpoint, card: Card) -> list[str]:
    """The files of a checkpoint beside its weights and its configuration."""
    weights = find_weights(checkpoint)
    left_out = {CONFIG, weights.index, *weights.files}
    return [f.name for f in card.files if f.name not in left_out]


def _score(on: Course, step: SpecFile, facts: Facts, folder: Path) -> None:
    """Score what a step has left, and keep that; `facts` are of its weights."""
    weights = folder / MODEL / SINGLE
    found, _, _ = calibrate.score(
        on.spec_file, facts, weights, on.root, ROWS, on.quiet, step
    )
    assert found.scores is not None
    write_if_changed(folder / SCORES, found.scores)


def _reached(
    on: Course,
    reached: Reached,
    ready: Ready,
    folder: Path,
    key: str,
    done: Mapping[str, Any],
) -> Reached:
    """Where the course stands after a step whose weights are there; they are scored where
    that was not done."""
    checkpoint = LocalCheckpoint(reached.facts.card.source, folder / MODEL)
    before, seen = reached.facts.card, gather.gather(checkpoint).card
    card = replace(seen, revision=before.revision, licence=before.licence)
    weights = next(f.sha256 for f in card.files if f.name == SINGLE)
    assert weights is not None
    step = PrunedStep(
        stays=pruning.stays(ready.spec_file.spec, on.sizes),
        parameters=sum(prod(p.shape) for p in parameters(ready.plan.compiled.job)),
        score=done["score"],
        before=done["before"],
        after=done["after"],
        weights=weights,
    )
    # By the scores that led here the same units are chosen, from the new weights.
    assert reached.facts.scores is not None
    old = load_scores(reached.facts.scores, before, str(folder))
    scores = dump_scores(replace(old, weights=weights_hash(card)))
    steps = (*reached.steps, step)
    facts = replace(
        reached.facts,
        card=card,
        scores=scores,
        measured=None,
        reference=None,
        pruned=Pruned(key, card, scores, steps),
    )
    if not (folder / SCORES).is_file():
        _score(on, ready.spec_file, facts, folder)
    scores = (folder / SCORES).read_bytes()
    load_scores(scores, card, str(folder / SCORES))
    facts = replace(facts, scores=scores, pruned=Pruned(key, card, scores, steps))
    seconds = (done["training_seconds"], done["seconds"])
    return Reached(facts, checkpoint, (*reached.seconds, seconds))
