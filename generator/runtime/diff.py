"""What a change of spec does: to the model, its weights, its cost and its training."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generator.compile import Compiled, draft
from generator.cost import describe
from generator.ir.job import Job, parameters
from generator.runtime.build import facts_for, load_spec


@dataclass(frozen=True)
class Difference:
    """Two jobs, side by side. A pair is what stood in A and what stands in B."""

    classes: dict[str, str]  # class: added, removed or changed
    added: dict[str, list[int]]  # weights and their shapes
    removed: dict[str, list[int]]
    reshaped: dict[str, list[list[int]]]
    settings: dict[str, list[Any]]
    cost: dict[str, list[int]]
    loads: bool  # a checkpoint of A in B, strictly
    why: str

    @property
    def same(self) -> bool:
        return not (
            self.classes or self.added or self.removed or self.reshaped or self.settings
        )


def diff(args: argparse.Namespace) -> int:
    """`gen diff A B`: 0 where they are the same, 1 where they differ."""
    a, b = (_compiled(path) for path in (args.a, args.b))
    found = difference(a.job, b.job)
    if args.json:
        print(json.dumps({"same": found.same, **asdict(found)}, indent=1))
    elif not args.quiet:
        print("\n".join(described(found)))
    return 0 if found.same else 1


def _compiled(path: Path) -> Compiled:
    spec_file = load_spec(path)
    return draft(spec_file, facts_for(spec_file))


def difference(a: Job, b: Job) -> Difference:
    """What differs between two finished jobs."""
    old = {p.path: list(p.shape) for p in parameters(a)}
    new = {p.path: list(p.shape) for p in parameters(b)}
    added = {p: s for p, s in new.items() if p not in old}
    removed = {p: s for p, s in old.items() if p not in new}
    reshaped = {p: [old[p], s] for p, s in new.items() if p in old and old[p] != s}
    costs = describe(a), describe(b)
    names = ("parameters", "trained", "train_bytes", "predict_bytes", "file_bytes")
    cost = {n: [getattr(c, n) for c in costs] for n in names}
    cost["forward_flops"] = [c.forward(c.tokens) for c in costs]
    loads = not (added or removed or reshaped)
    why = "the names and shapes of all weights are the same"
    if a.labels != b.labels and loads:
        why += "; but the labels differ, and its head was trained for the old ones"
    elif not loads:
        why = (
            f"{len(added)} weights are new, {len(removed)} are gone and "
            f"{len(reshaped)} have another shape"
        )
    return Difference(
        classes=_classes(a, b),
        added=added,
        removed=removed,
        reshaped=reshaped,
        settings=_settings(a, b),
        cost={n: pair for n, pair in cost.items() if pair[0] != pair[1]},
        loads=loads,
        why=why,
    )


def _classes(a: Job, b: Job) -> dict[str, str]:
    old, new = a.model.by_name, b.model.by_name
    found = {n: "removed" for n in old if n not in new}
    found |= {n: "added" for n in new if n not in old}
    found |= {n: "changed" for n in new if n in old and old[n] != new[n]}
    return dict(sorted(found.items()))


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
    for name in ("backbone", "data", "train", "target"):
        for key, value in asdict(getattr(job, name)).items():
            if isinstance(value, dict):
                flat |= {f"{name}.{key}.{k}": v for k, v in value.items()}
            else:
                flat[f"{name}.{key}"] = value
    flat |= {f"model.{d.name}": d.size for d in job.model.dims if d.name}
    flat |= {f"model.{c.name}": c.value for c in job.model.consts}
    return flat


def described(found: Difference) -> list[str]:
    """The difference as lines to read."""
    if found.same:
        return ["the two build the same model and training"]
    lines = [f"class {name}: {what}" for name, what in found.classes.items()]
    lines += [
        f"{key}: {old!r} -> {new!r}" for key, (old, new) in found.settings.items()
    ]
    lines += [f"{name}: {old:,} -> {new:,}" for name, (old, new) in found.cost.items()]
    lines += [f"weight + {path} {shape}" for path, shape in found.added.items()]
    lines += [f"weight - {path} {shape}" for path, shape in found.removed.items()]
    lines += [
        f"weight ~ {p} {old} -> {new}" for p, (old, new) in found.reshaped.items()
    ]
    answer = "loads" if found.loads else "does not load"
    lines.append(f"an old checkpoint {answer}: {found.why}")
    return lines
