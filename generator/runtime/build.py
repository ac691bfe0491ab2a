"""Building on disk: which files are written, which are left alone, which stop the build.

A package is what its gen.lock says. A file whose seal is broken was edited by hand and is
never overwritten; a file whose draft is the lock's is not even formatted.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from generator.compile import TEACHER_SPEC, Compiled, draft, finished, lock, started
from generator.errors import Diagnostic, GenError, fail
from generator.facts import Facts
from generator.locking import LOCK, digest, read_lock
from generator.runtime.files import read_small, write_if_changed
from generator.runtime.licences import LICENCES, with_licences
from generator.spec import SpecFile, decode_spec, read_spec
from generator.spec.reader import LARGEST_SPEC

SPEC = "spec.toml"  # of a package
State = Literal["current", "missing", "stale", "edited", "orphaned"]


@dataclass(frozen=True)
class FileState:
    """What `gen check` says of one file of a package."""

    path: str
    state: State


@dataclass(frozen=True)
class Plan:
    """A compiled job beside what its folder holds; nothing is written yet."""

    spec_file: SpecFile
    compiled: Compiled
    facts: Facts
    folder: Path
    states: tuple[FileState, ...]
    seals: Mapping[str, str]  # of the files that need no formatting, from the lock

    def those(self, *states: State) -> tuple[str, ...]:
        return tuple(f.path for f in self.states if f.state in states)


@dataclass(frozen=True)
class Built:
    """What a build wrote and removed."""

    plan: Plan
    written: tuple[str, ...]
    removed: tuple[str, ...]


def load_packaged(folder: Path, teachers: Path | None = None) -> SpecFile:
    """The spec in a package, with its teacher's, which lies beside it there. Whom that one
    learned from is nothing that the package follows from.

    Packages of earlier versions have no teacher's: it is looked for from `teachers`.
    """
    spec_file, teacher = _read(folder / SPEC), folder / TEACHER_SPEC
    if spec_file.spec.train.distill.teacher is None or not teacher.is_file():
        return load_spec(folder / SPEC, teachers=teachers)
    return replace(spec_file, teacher=_read(teacher))


def _read(path: Path) -> SpecFile:
    data = read_small(path, str(path), LARGEST_SPEC)
    return read_spec(decode_spec(data, str(path)), str(path))


def load_spec(
    path: Path, pupils: Sequence[Path] = (), teachers: Path | None = None
) -> SpecFile:
    """The spec in a file, with its teacher's and so on; `pupils` learn from this one.

    Its teacher is looked for from its folder, or from `teachers`. GenError where a spec
    cannot be read, or is none.
    """
    spec_file = _read(path)
    named = spec_file.spec.train.distill.teacher
    if named is None:
        return spec_file
    teacher = (teachers or path.parent) / named
    place = spec_file.place("train.distill.teacher")
    pupils = (*pupils, path.resolve())
    if teacher.resolve() in pupils:
        raise fail(
            "G285",
            f"{teacher} would learn from itself",
            place=place,
            label="it is the job's own pupil, or the job itself",
            help="a teacher is another job",
        )
    if not teacher.is_file():
        raise fail(
            "G285",
            f"there is no spec {teacher}",
            place=place,
            label="looked for from the folder of this spec",
        )
    found = load_spec(teacher, pupils)
    if found.spec.name == spec_file.spec.name:
        raise fail(
            "G285",
            f'the teacher is named "{found.spec.name}", as this job is',
            place=spec_file.place("name"),
            label="the package and the work folder of one would be the other's",
            help="give each its own name",
        )
    return replace(spec_file, teacher=found)


def facts_for(spec_file: SpecFile, *, allow_network: bool = True) -> Facts:
    """The facts beside a spec, and beside its teacher's; those that are missing and cheap
    are gathered and saved."""
    found = _own_facts(spec_file, allow_network)
    if spec_file.teacher is None:
        return found
    teacher = facts_for(spec_file.teacher, allow_network=allow_network)
    return replace(found, teacher=teacher)


def _own_facts(spec_file: SpecFile, allow_network: bool) -> Facts:
    from generator.runtime.gather import facts_folder, load_facts

    spec = spec_file.spec
    root = Path(spec_file.file).resolve().parent
    folder = facts_folder(root, spec.name)
    found = load_facts(folder)
    if found is not None and found.card.source == spec.backbone.source:
        return found
    return refresh_facts(spec_file, allow_network=allow_network)


def refresh_facts(spec_file: SpecFile, *, allow_network: bool = True) -> Facts:
    """The facts of a spec's backbone, seen now and saved beside the spec."""
    from generator.runtime import gather

    spec = spec_file.spec
    root = Path(spec_file.file).resolve().parent
    folder = gather.facts_folder(root, spec.name)
    seen = gather.gather_facts(
        spec.backbone.source,
        root,
        allow_network=allow_network,
        convert_tokenizer=bool(spec.data.text),
        place=spec_file.place("backbone.from"),
    )
    if not spec.data.text:  # images have no tokenizer
        seen = Facts(seen.card, None, seen.measured, seen.reference)
    facts = gather.keep_measured(gather.load_facts(folder), seen)
    gather.save_facts(facts, folder)
    return facts


def plan(
    spec_file: SpecFile, facts: Facts, out: Path, left_out: Collection[str] = ()
) -> Plan:
    """Compile, and compare with what is there; `left_out` are passes that are not run.
    GenError where the spec is wrong."""
    folder = out / spec_file.spec.name
    return compare(spec_file, draft(spec_file, facts, left_out), facts, folder)


def compare(
    spec_file: SpecFile, compiled: Compiled, facts: Facts, folder: Path
) -> Plan:
    """A compiled job beside what the folder holds."""
    facts = started(spec_file, facts)
    old = _lock(folder)
    known: Mapping[str, Any] = {} if old is None else old["files"]
    if LICENCES in known and not any(d.path == LICENCES for d in compiled.drafts):
        compiled = with_licences(compiled, facts.card)  # `gen vendor` wrote the folder
    states: list[FileState] = []
    seals: dict[str, str] = {}
    for one in compiled.drafts:
        there = _bytes(folder / one.path)
        entry = known.get(one.path)
        if entry is not None and entry["draft"] == digest(one.data):
            seals[one.path] = entry["seal"]
        if there is None:
            states.append(FileState(one.path, "missing"))
        elif entry is None:  # never sealed, but it may say the same
            same = there == finished(one)
            states.append(FileState(one.path, "current" if same else "edited"))
        elif digest(there) != entry["seal"]:
            # An edit that says what the build would say is none.
            same = one.path not in seals and there == finished(one)
            states.append(FileState(one.path, "stale" if same else "edited"))
        else:
            current = one.path in seals
            states.append(FileState(one.path, "current" if current else "stale"))
    expected = {one.path for one in compiled.drafts} | {LOCK}
    states.extend(_left_over(folder, expected, known))
    plan = Plan(spec_file, compiled, facts, folder, tuple(states), seals)
    return plan if old is not None or not folder.exists() else _without_lock(plan)


def _without_lock(plan: Plan) -> Plan:
    """A folder without a lock: its lock is missing, and what differs was edited."""
    states = (*plan.states, FileState(LOCK, "missing"))
    return Plan(
        plan.spec_file, plan.compiled, plan.facts, plan.folder, states, plan.seals
    )


def _left_over(
    folder: Path, expected: set[str], known: Mapping[str, Any]
) -> list[FileState]:
    """Files that an earlier build wrote and this one does not, and strangers."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name in expected or "__pycache__" in path.parts:
            continue
        entry = known.get(name)
        edited = entry is not None and digest(_bytes(path) or b"") != entry["seal"]
        found.append(FileState(name, "edited" if edited else "orphaned"))
    return found


def command(spec: Path | str, out: Path, *flags: str) -> str:
    """What builds a spec into a folder, as a shell takes it."""
    where = [] if out == Path("generated") else ["--out", str(out)]
    return shlex.join(["gen", "build", str(spec), *where, *flags])


def refuse_edits(plans: Sequence[Plan]) -> None:
    """GenError (G401) that names every file of the packages that was edited by hand."""
    found = [
        Diagnostic(
            "G401",
            f"{plan.folder / path} was edited by hand, and is not overwritten",
            help="keep the edit elsewhere, then: "
            + command(plan.spec_file.file, plan.folder.parent, "--force"),
        )
        for plan in plans
        for path in plan.those("edited")
    ]
    if found:
        raise GenError(found)


def build(plan: Plan, *, force: bool = False) -> Built:
    """Write what differs, each file whole or not at all, the lock last.

    GenError (G401) where a file was edited by hand and `force` is off: nothing is written
    then. GenError (G403) where a file cannot be written.
    """
    if not force:
        refuse_edits([plan])
    known = _lock(plan.folder) or {"files": {}}
    files: dict[str, bytes] = {}
    written: list[str] = []
    current = set(plan.those("current"))
    for one in plan.compiled.drafts:
        path = plan.folder / one.path
        if one.path in current:
            files[one.path] = path.read_bytes()
            continue
        files[one.path] = finished(one)
    files[LOCK] = lock(plan.compiled, plan.facts, files)
    removed = []
    try:
        for name in [n for n in files if n != LOCK] + [LOCK]:
            if name not in current and write_if_changed(
                plan.folder / name, files[name]
            ):
                written.append(name)
        for name in plan.those("orphaned", "edited"):
            if name in known["files"] and name not in files:
                (plan.folder / name).unlink()
                removed.append(name)
    except OSError as error:
        raise fail(
            "G403",
            f"{error.filename or plan.folder} cannot be written: {error.strerror}",
            help="the files that are there are whole; mend it, and build again",
        ) from None
    return Built(plan, tuple(written), tuple(removed))


def check(plan: Plan) -> tuple[FileState, ...]:
    """What is not as a build would leave it; the lock is compared too."""
    wrong = [f for f in plan.states if f.state != "current"]
    if not wrong:
        files = {
            one.path: (plan.folder / one.path).read_bytes()
            for one in plan.compiled.drafts
        }
        if _bytes(plan.folder / LOCK) != lock(plan.compiled, plan.facts, files):
            wrong.append(FileState(LOCK, "stale"))
    return tuple(wrong)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # a folder stands there, say
        raise fail(
            "G403",
            f"{path} cannot be read: {error.strerror}",
            help="move it aside, then build again",
        ) from None


def _lock(folder: Path) -> dict[str, Any] | None:
    data = _bytes(folder / LOCK)
    if data is None:
        return None
    content = read_lock(data)
    if content is None and data.lstrip().startswith(b"{") and b"\n<<<<<<< " in data:
        raise fail(
            "G402",
            f"{folder / LOCK} has both sides of a merge in it",
            help=f"keep either: git checkout --ours {shlex.quote(str(folder / LOCK))}; "
            "then build again",
        )
    if content is None:
        raise fail(
            "G402",
            f"{folder / LOCK} is not a lock that this gen reads",
            help="restore it from version control, or move the folder aside and build "
            "again: without it no edit can be told",
        )
    return content


def writable(folder: Path, of: str = "the package") -> None:
    """GenError (G403) where a folder cannot be made, or nothing be written into it."""
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise fail(
            "G403",
            f"{folder} cannot be made: {parent} is no folder that can be written",
            help=f"choose another folder for {of}",
        )
