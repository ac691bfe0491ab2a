"""What every command that runs a package does first: build it, and find its weights."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generator import pruning
from generator.compile import TEACHER_SPEC
from generator.cost import costliest
from generator.errors import Diagnostic, GenError, fail, render_diagnostics
from generator.facts import Facts
from generator.ir.deploy import matrices
from generator.ir.dims import Type
from generator.ir.job import Job, parameters
from generator.ir.plans import TextPlan
from generator.ir.stages import by_stage
from generator.locking import digest
from generator.runtime import build as building
from generator.runtime.checkpoint import LocalCheckpoint, resolve
from generator.runtime.files import hash_file
from generator.runtime.gather import facts_match
from generator.runtime.programs import Programs, installed
from generator.runtime.weights import SINGLE, find_weights, weights_path
from generator.spec import SpecFile

STEPS, MODEL = "steps", "model"  # in the work folder, and in that of a step
MOST_ROWS = 1024  # of a product that is measured
PATCHES = 200  # of an image, about
TORCH_DTYPES = {"i64": "int64", "f32": "float32", "bool": "bool"}


@dataclass(frozen=True)
class Package:
    """A built package, and where it runs."""

    spec_file: SpecFile
    built: building.Built
    root: Path  # where the spec's data paths start
    work: Path
    programs: Programs

    @property
    def plan(self) -> building.Plan:
        return self.built.plan

    @property
    def facts(self) -> Facts:
        return self.plan.facts

    @property
    def name(self) -> str:
        return self.spec_file.spec.name


@dataclass(frozen=True)
class Ready(Package):
    """A built package with the weights that it starts from."""

    checkpoint: LocalCheckpoint
    weights: Path  # the file, or the folder with an index

    def reference(self) -> Path:
        """The backbone's folder under the names that transformers looks for."""
        local = self.checkpoint
        weights = find_weights(local)
        if weights.index is not None or weights.files[0] == SINGLE:
            return local.folder
        folder = self.work / "backbone"
        folder.mkdir(parents=True, exist_ok=True)
        for name in local.names():
            link = folder / (SINGLE if name == weights.files[0] else name)
            link.unlink(missing_ok=True)
            os.symlink((local.folder / name).resolve(), link)
        return folder

    def key(self, teacher: Path | None = None) -> str:
        """A digest of what a run depends on: the package's code and the weights, its
        teacher's too."""
        parts = {
            one.path: digest((self.plan.folder / one.path).read_bytes())
            for one in self.plan.compiled.drafts
            if one.path not in ("README.md", "spec.toml", TEACHER_SPEC)
        }
        weights = {f.name: f.sha256 for f in self.facts.card.files}
        about: list[Any] = [parts, weights]
        if teacher is not None and teacher.is_file():
            about.append(hash_file(teacher, str(teacher)))
        return digest(json.dumps(about, sort_keys=True).encode())


def package(args: argparse.Namespace) -> Package:
    """Build as `gen build` does.

    GenError where a file was edited by hand, or the package lacks what it reads data with.
    """
    plan, work = planned(args)
    built = building.build(plan)
    reads(plan)
    root = args.root or Path(plan.spec_file.file).parent
    programs = Programs(args.out, plan.spec_file.spec.name, args.quiet)
    return Package(plan.spec_file, built, root, work, programs)


def planned(args: argparse.Namespace) -> tuple[building.Plan, Path]:
    """What a build would write, and the work folder. GenError where either cannot be."""
    need("torch", "safetensors", "tqdm")
    spec_file = building.load_spec(args.spec)
    facts = building.facts_for(spec_file)
    work = args.work or Path("runs") / spec_file.spec.name
    _apart(work, args.out / spec_file.spec.name)
    building.writable(args.out / spec_file.spec.name)
    return building.plan(spec_file, facts, args.out), work


def reads(plan: building.Plan) -> None:
    """GenError where the package lacks what it reads data with."""
    inputs = plan.compiled.job.data.inputs
    if isinstance(inputs, TextPlan) and plan.facts.tokenizer is None:
        raise fail(
            "G501",
            f"the package {plan.folder} has no tokenizer.json, and cannot read text",
            help=f"gen facts {plan.spec_file.file} --complete fetches it; then run this "
            "again",
        )


def prepare(args: argparse.Namespace) -> Ready:
    """The built package with its weights.

    GenError where they are not at hand, or not those that the package was built for.
    """
    it = package(args)
    pruned = left_by_steps(it)
    checkpoint, weights = (
        find(it.spec_file, it.facts) if pruned is None else matched(it.facts, pruned)
    )
    return Ready(
        it.spec_file, it.built, it.root, it.work, it.programs, checkpoint, weights
    )


def find(spec_file: SpecFile, facts: Facts) -> tuple[LocalCheckpoint, Path]:
    """The backbone on this machine, fetched at the facts' commit, and its weights."""
    source = resolve(
        spec_file.spec.backbone.source,
        Path(spec_file.file).resolve().parent,
        commit=facts.card.revision,
        place=spec_file.place("backbone.from"),
    )
    return matched(facts, source.fetched())


def left_by_steps(it: Package) -> LocalCheckpoint | None:
    """What a job that is pruned in steps starts from, which those before the last have
    left; None of a job that starts from its backbone. GenError where it is not there.
    """
    if it.facts.pruned is None:
        return None
    folder = it.work / STEPS / str(len(it.facts.pruned.steps)) / MODEL
    if not (folder / SINGLE).is_file():
        raise fail(
            "G293",
            f"the weights that {it.name} starts from are not in {folder}",
            place=it.spec_file.place(pruning.KEY),
            label="the steps ahead of the last make them",
            help=f"gen run {it.spec_file.file} runs the steps; --work says where they are",
        )
    return LocalCheckpoint(it.facts.card.source, folder)


def matched(facts: Facts, local: LocalCheckpoint) -> tuple[LocalCheckpoint, Path]:
    """A checkpoint and its weights. GenError where the facts are of others."""
    found = facts_match(facts, local)
    if any(d.severity == "error" for d in found):
        raise GenError(found)
    warn(found)
    return local, weights_path(local)


def warn(found: Sequence[Diagnostic]) -> None:
    """Say what is no error."""
    if found:
        sys.stderr.write(render_diagnostics(found, {}) + "\n")


def need(*modules: str, extra: str = "run") -> None:
    """GenError where a package that running needs is not installed."""
    absent = [m for m in modules if not installed(m)]
    if absent:
        raise fail(
            "G502",
            f"{', '.join(absent)} is needed for this, and is not installed here",
            help=f'pip install "gen-compiler[{extra}]"',
        )


def probe(ready: Ready, *, times: bool = False) -> dict[str, Any] | None:
    """What probe.py counts; None where it fails, which is said on standard error.

    With `times` it also measures what the precision of 16 bits gains, where there is one.
    """
    job = ready.plan.compiled.job
    counted = by_stage(job)[costliest(job)]  # whose cost is predicted
    plan = job.data.inputs
    sizes = {
        **job.model.sizes,
        "B": 1,
        "T": plan.max_tokens if isinstance(plan, TextPlan) else 1,
    }
    inputs = [
        _input(value.type, sizes)
        for value in job.model.main.inputs
        if not value.type.optional
    ]
    ended = ready.programs.python(
        Path(__file__).with_name("probe.py"),
        ready.name,
        json.dumps(inputs),
        json.dumps([p.path for p in parameters(counted) if p.frozen]),
        json.dumps(_product(job) if times and job.target.half else None),
        output="keep",
    )
    try:
        return None if ended.code else json.loads(ended.output)
    except ValueError:
        return None


def _product(job: Job) -> dict[str, Any]:
    """The largest product of a training step, or a part of it, that is measured quickly."""
    largest = max(
        (one for one in matrices(job.model) if one.kind != "embedding"),
        key=lambda one: one.rows * one.columns,
    )
    inputs = job.data.inputs
    tokens = inputs.max_tokens if isinstance(inputs, TextPlan) else PATCHES
    rows = job.train.batch_tokens or job.train.batch * tokens
    return {
        "dtype": job.target.half.removeprefix("torch."),
        "device": job.target.device,
        "rows": min(rows, MOST_ROWS),
        "ins": largest.columns,
        "outs": largest.rows,
    }


def precision_at_hand(ready: Ready, found: dict[str, Any] | None, anyway: bool) -> None:
    """GenError where 16 bits are slower here than 32, unless they are wanted `anyway`."""
    if found is None or found["half"] is None or anyway:
        return
    half = found["half"]
    if half["high"] >= 1:
        return
    where = found["device"] or f"{found['threads']} threads"
    raise fail(
        "G542",
        f'precision "{ready.spec_file.spec.target.precision}" is slower here than "fp32": '
        f"the largest product of a step, of {half['rows']:,} rows, forward and backward, is "
        f"{half['median']:.2f} [{half['low']:.2f}, {half['high']:.2f}] times as fast, {where}",
        place=ready.spec_file.place("target.precision"),
        help='give precision = "fp32", or train so all the same: gen run --anyway',
    )


def _input(kind: Type, sizes: dict[str, int]) -> tuple[str, list[int]]:
    return TORCH_DTYPES[kind.dtype], [d.value(sizes) for d in kind.shape]


def device_at_hand(ready: Ready, found: dict[str, Any] | None) -> None:
    """GenError where the job is for a device that this machine lacks."""
    if found is None:
        raise fail(
            "G503",
            f"the package {ready.plan.folder} cannot be imported here, or its model not "
            "be made; what Python says stands above",
            help='pip install "gen-compiler[run]" brings what packages import',
        )
    card_at_hand(ready.spec_file, found["cuda"])


def card_at_hand(spec_file: SpecFile, there: bool) -> None:
    """GenError where the job is for a card and there is none."""
    if spec_file.spec.target.device == "cuda" and not there:
        raise fail(
            "G504",
            "the job is for CUDA, and torch sees no such device here",
            place=spec_file.place("target.device"),
            help='run it where there is one, or say device = "cpu"',
        )


def _apart(work: Path, package: Path) -> None:
    if work.resolve().is_relative_to(package.resolve()):
        raise fail(
            "G505",
            f"the work folder {work} lies in the generated package",
            help="choose a --work outside; a package holds its source alone",
        )
