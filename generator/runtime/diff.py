"""`gen diff`: what a change of spec does to the model, its weights, cost and training."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from generator.compile import Compiled, draft
from generator.cost import describe
from generator.facts import Facts, dump_card
from generator.ir.head import units
from generator.ir.job import Job, Module, parameters
from generator.ir.text import print_op, print_source
from generator.locking import LOCK, digest, read_lock
from generator.runtime import gather, terminal
from generator.runtime.build import load_packaged, load_spec
from generator.runtime.diff_words import words
from generator.runtime.migrate import Migration, migration
from generator.runtime.tables import Table, count, mib
from generator.spec import SpecFile
from generator.spec.source import FolderSource, parse_source

BYTES = ("train_bytes", "predict_bytes", "file_bytes")
LONGEST = 200  # characters of a value in a table


@dataclass(frozen=True)
class Side:
    """One of the two: a spec, and the facts that it compiles with."""

    path: Path
    spec_file: SpecFile
    facts: Facts
    compiled: Compiled
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """Two jobs, side by side. A pair is what stood in A and what stands in B."""

    classes: dict[str, dict[str, Any]]  # by class: what became of it
    added: dict[str, list[int]]  # weights and their shapes
    removed: dict[str, list[int]]
    reshaped: dict[str, list[list[int]]]
    settings: dict[str, list[Any]]
    cost: dict[str, list[int]]
    load: str  # of a checkpoint of A in B: strict, map or no
    why: list[str]
    map: dict[str, str]  # B's weights in terms of A's, where they differ
    notes: list[str]
    words: list[str]  # what B's spec does otherwise, a sentence each

    @property
    def same(self) -> bool:
        return not (
            self.classes or self.added or self.removed or self.reshaped or self.settings
        )

    @property
    def loads(self) -> bool:
        return self.load == "strict"


def diff(args: argparse.Namespace) -> int:
    """`gen diff A B`: 0 where they are the same, 1 where they differ. Writes nothing."""
    a, b = sides(args.a, args.b)
    found = difference(a, b)
    if args.json:
        figures = {"same": found.same, "loads": found.loads, **asdict(found)}
        print(json.dumps(figures, indent=1))
    elif not args.quiet:
        show(found)
    return 0 if found.same else 1


# ---------------------------------------------------------------------- the two sides


def sides(a: Path, b: Path) -> tuple[Side, Side]:
    """Both, each a spec or the folder of a package, which has its spec in it."""
    files = [_read(path, other) for path, other in ((a, b), (b, a))]
    own = [_own_facts(path, file) for path, file in zip((a, b), files, strict=True)]
    found = []
    for i, (path, spec_file) in enumerate(zip((a, b), files, strict=True)):
        other = b if i == 0 else a
        root = other.parent if path.is_dir() and other.is_file() else path.parent
        facts = own[i] or _borrowed(own[1 - i], spec_file)
        facts = facts or _gathered(spec_file, root)
        facts = _with_teacher(facts, spec_file, root if path.is_dir() else None)
        compiled = draft(spec_file, facts)
        notes = tuple(_other_facts(path, facts))
        found.append(Side(path, spec_file, facts, compiled, notes))
    return found[0], found[1]


def _read(path: Path, other: Path) -> SpecFile:
    """The spec of a side, with its teacher's."""
    if not path.is_dir():
        return load_spec(path)
    return load_packaged(path, other.parent if other.is_file() else None)


def _gathered(spec_file: SpecFile, root: Path) -> Facts:
    return gather.gather_facts(
        spec_file.spec.backbone.source,
        root.resolve(),
        convert_tokenizer=bool(spec_file.spec.data.text),
        place=spec_file.place("backbone.from"),
    )


def _with_teacher(facts: Facts, spec_file: SpecFile, root: Path | None) -> Facts:
    """The facts with those of the job that this one learns from, whose paths start at
    `root` where they do not at the folder of its spec."""
    teacher = spec_file.teacher
    if teacher is None:
        return replace(facts, teacher=None)
    path = Path(teacher.file)
    own = _own_facts(path, teacher) or _borrowed(facts, teacher)
    own = own or _gathered(teacher, root or path.parent)
    return replace(facts, teacher=_with_teacher(own, teacher, root))


def _own_facts(path: Path, spec_file: SpecFile) -> Facts | None:
    """The facts beside a spec; a package has none."""
    if path.is_dir():
        return None
    root = path.resolve().parent
    facts = gather.load_facts(gather.facts_folder(root, spec_file.spec.name))
    return _borrowed(facts, spec_file)


def _borrowed(facts: Facts | None, spec_file: SpecFile) -> Facts | None:
    """Facts that are of this spec's backbone too."""
    if facts is None or facts.card.source != spec_file.spec.backbone.source:
        return None
    return facts


def _other_facts(path: Path, facts: Facts) -> Iterator[str]:
    """Whether a package was built from facts other than those it is compared with."""
    lock = path / LOCK
    if not (path.is_dir() and lock.is_file()):
        return
    content = read_lock(lock.read_bytes())
    if content and content["backbone"]["card"] != digest(
        dump_card(facts.card).encode()
    ):
        yield (
            f"{path} was built from other facts of its backbone than those that it is "
            "compared with"
        )


# --------------------------------------------------------------------- the difference


def difference(a: Side, b: Side) -> Difference:
    """What differs between two finished jobs."""
    b = _called_alike(a, b)
    old_job, new_job = a.compiled.job, b.compiled.job
    old = {p.path: list(p.shape) for p in parameters(old_job)}
    new = {p.path: list(p.shape) for p in parameters(new_job)}
    costs = [_cost(job) for job in (old_job, new_job)]
    moved = migration(a.compiled, b.compiled)
    classes = _classes(old_job, new_job)
    return Difference(
        classes=classes,
        added={p: s for p, s in new.items() if p not in old},
        removed={p: s for p, s in old.items() if p not in new},
        reshaped={p: [old[p], s] for p, s in new.items() if p in old and old[p] != s},
        settings=_settings(old_job, new_job),
        cost={n: [c[n] for c in costs] for n in costs[0] if costs[0][n] != costs[1][n]},
        load=moved.kind,
        why=_why(moved),
        map={path: print_source(s) for path, s in moved.sources.items()},
        notes=[*a.notes, *b.notes, *_meanings(a, b, classes)],
        words=words(a.spec_file.spec, b.spec_file.spec),
    )


def _called_alike(a: Side, b: Side) -> Side:
    """B. Where its backbone is the very folder of A's, as A calls it."""
    folder = _folder(b)
    if folder is None or folder != _folder(a):
        return b
    source = a.spec_file.spec.backbone.source
    spec, job = b.spec_file.spec, b.compiled.job
    spec = replace(spec, backbone=replace(spec.backbone, source=source))
    job = replace(job, backbone=replace(job.backbone, source=source))
    return replace(
        b,
        spec_file=replace(b.spec_file, spec=spec),
        compiled=replace(b.compiled, job=job),
    )


def _folder(side: Side) -> Path | None:
    """The folder of a backbone; None where it is none, and of a package, whose paths
    start elsewhere."""
    source = side.spec_file.spec.backbone.source
    if side.path.is_dir() or not isinstance(parse_source(source), FolderSource):
        return None
    return (side.path.parent / source).resolve()


def _cost(job: Job) -> dict[str, int]:
    cost = describe(job)
    found = {"forward_flops": cost.forward(cost.tokens)}
    found["backward_flops"] = cost.backward(cost.tokens)
    names = ("parameters", "trained", *BYTES)
    return {n: getattr(cost, n) for n in names} | found


def _why(moved: Migration) -> list[str]:
    if moved.kind == "strict":
        return ["the names and shapes of all weights are the same"]
    if not moved.alike:
        return ["the architectures differ, and so does what weights of one name mean"]
    why = [f"{path}: {reason}" for path, reason in moved.missing.items()]
    if moved.kind == "map":
        why.append("every weight of B can be made of those of A")
    if moved.unused:
        why.append(f"B does not read {', '.join(moved.unused)}")
    return why


def _meanings(a: Side, b: Side, classes: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Why weights that load would mean something else."""
    old, new = a.compiled.job, b.compiled.job
    if old.backbone.architecture != new.backbone.architecture:
        yield "the architectures differ: the same weights would compute something else"
    if old.task != new.task:
        yield f"the task was {old.task} and is {new.task}"
    if old.labels != new.labels and len(old.labels) == len(new.labels):
        yield "the labels differ: a trained head answers with the old ones"
    if a.facts.tokenizer != b.facts.tokenizer:
        yield "the tokenizers differ: the ids that the weights know mean other tokens"
    if any("operations" in change for change in classes.values()):
        yield "operations differ: the same weights may compute something else"
    kept = [
        {n: v for n, v in job.model.constants.items() if "dropout" not in n}
        for job in (old, new)
    ]
    if kept[0] != kept[1]:
        yield "constants differ: the same weights compute something else"


def _classes(a: Job, b: Job) -> dict[str, dict[str, Any]]:
    old, new = a.model.by_name, b.model.by_name
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            found[name] = {"change": "removed"}
        elif name not in old:
            found[name] = {"change": "added"}
        elif detail := _change(old[name], new[name]):
            found[name] = {"change": "changed", **detail}
    return found


def _change(a: Module, b: Module) -> dict[str, Any]:
    """What differs in a class: its operations, parameters and parts; not its words."""
    found: dict[str, Any] = {}
    listed = {
        "operations": [[print_op(op) for op in _placeless(m)] for m in (a, b)],
        "parameters": [[f"{p.name}: {p.type}" for p in m.parameters] for m in (a, b)],
        "parts": [
            [f"{i.name}: {i.count} {i.module}" for i in m.instances] for m in (a, b)
        ],
    }
    for name, (before, after) in listed.items():
        if before != after:
            found[name] = {
                "removed": [x for x in before if x not in after],
                "added": [x for x in after if x not in before],
            }
    return found


def _placeless(module: Module) -> Iterator[Any]:
    return (replace(op, place="") for op in module.ops)


def _settings(a: Job, b: Job) -> dict[str, list[Any]]:
    """Everything of the plans, the task and the sizes that differs, by its name."""
    pairs = [_flat(job) for job in (a, b)]
    keys = sorted(pairs[0].keys() | pairs[1].keys())
    both = {key: [flat.get(key) for flat in pairs] for key in keys}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _flat(job: Job) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "task": job.task,
        "labels": list(job.labels),
        "frozen": list(job.frozen),
    }
    if job.task == "regression":
        flat["train.standardise"] = units(job.model) != ()
    names = {field.name for field in fields(job)} - {"model", "reference"}
    plans = {name: getattr(job, name) for name in sorted(names)}
    for name, plan in plans.items():
        if not is_dataclass(plan) or isinstance(plan, type):
            continue
        for key, value in asdict(plan).items():
            if isinstance(value, dict):
                flat |= {f"{name}.{key}.{k}": v for k, v in value.items()}
            else:
                flat[f"{name}.{key}"] = value
    for number, stage in enumerate(job.stages, 1):
        flat |= {f"stage {number}.{k}": v for k, v in asdict(stage).items()}
    flat |= {f"model.{d.name}": d.size for d in job.model.dims if d.name}
    flat |= {f"model.{c.name}": c.value for c in job.model.consts}
    return flat


# ------------------------------------------------------------------------- to read it

ANSWERS = {
    "strict": "an old checkpoint loads strictly",
    "map": "an old checkpoint does not load as it is; a map makes it one that does",
    "no": "an old checkpoint does not load",
}


def show(found: Difference) -> None:
    """The difference as tables and lines."""
    if found.same:
        print("the two build the same model and training")
    for sentence in found.words:
        print(sentence)
    terminal.show(_tables(found))
    if not found.same:
        print(f"{ANSWERS[found.load]}: {'; '.join(found.why)}")
    for note in found.notes:
        print(f"note: {note}")


def _tables(found: Difference) -> list[Table]:
    classes = []
    for name, change in found.classes.items():
        details = [
            f"{sign} {line}"
            for what in ("parts", "parameters", "operations")
            for sign, key in (("-", "removed"), ("+", "added"))
            for line in change.get(what, {}).get(key, ())
        ]
        classes.append((name, change["change"], "\n".join(details)))
    weights = [(p, "added", "", str(s)) for p, s in found.added.items()]
    weights += [(p, "removed", str(s), "") for p, s in found.removed.items()]
    weights += [(p, "reshaped", str(a), str(b)) for p, (a, b) in found.reshaped.items()]
    settings = [
        (name, *(_setting(value) for value in pair))
        for name, pair in found.settings.items()
    ]
    cost = [
        (name.replace("_", " "), *(_amount(name, value) for value in pair))
        for name, pair in found.cost.items()
    ]
    mapped = tuple(found.map.items()) if found.load == "map" else ()
    return [
        Table("Settings", ("", "A", "B"), tuple(settings), words=3),
        Table("Classes", ("class", "", "what"), tuple(classes), words=3),
        Table("Weights", ("weight", "", "A", "B"), tuple(weights), words=2),
        Table("Predicted", ("", "A", "B"), tuple(cost)),
        Table("Map", ("weight of B", "from A"), mapped, words=2),
    ]


def _setting(value: Any) -> str:
    """JSON, cut where it is long: what differs in a list is told in words."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _amount(name: str, value: int) -> str:
    return mib(value) if name.endswith("bytes") else count(value)
