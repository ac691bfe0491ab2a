"""All figures of a run as one JSON object: what `--json` prints and the report shows."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from generator.cost import describe
from generator.facts import Facts
from generator.ir.job import Job
from generator.locking import LOCK
from generator.runtime import build as building
from generator.runtime.files import hash_file
from generator.runtime.ready import Ready

PARTS = 10  # of a run, for its mean losses
PACKAGES = (
    "torch",
    "safetensors",
    "tokenizers",
    "transformers",
    "numpy",
    "tqdm",
    "pyarrow",
    "pillow",
)


def job_figures(plan: building.Plan) -> dict[str, Any]:
    """What is known when a job is built."""
    job = plan.compiled.job
    cost, before = describe(job), describe(plan.compiled.edited)
    return {
        "name": job.name,
        "task": job.task,
        "labels": list(job.labels),
        "model": job.model.title,
        "spec": plan.spec_file.file,
        "package": str(plan.folder),
        "backbone": _backbone(job, plan.facts),
        "notes": list(plan.compiled.notes),
        "recipe": _recipe(job),
        "predicted": {
            "rows": cost.rows,
            "tokens": cost.tokens,
            "causal": any(
                op.attrs_dict.get("causal") is True
                for module in job.model.modules
                for op in module.ops
            ),
            "parameters": cost.parameters,
            "trained": cost.trained,
            "forward_flops": cost.forward(cost.tokens),
            "backward_flops": cost.backward(cost.tokens),
            "forward_flops_before_passes": before.forward(before.tokens),
            "train_bytes": cost.train_bytes,
            "predict_bytes": cost.predict_bytes,
        },
        "edits": [stage.figures for stage in plan.compiled.stages],
    }


def predicted_of_bench(job: Job, bench: Mapping[str, Any] | None) -> dict[str, Any]:
    """The memory that is predicted for the batch of the bench; nothing without one."""
    batch = (bench or {}).get("memory")
    if not batch:
        return {}
    cost = describe(job, batch.get("tokens"), batch["rows"])
    return {
        "rows": cost.rows,
        "tokens": cost.tokens,
        "train_bytes": cost.train_bytes,
        "predict_bytes": cost.predict_bytes,
    }


def _recipe(job: Job) -> dict[str, Any]:
    """The training and target settings as JSON values."""
    settings = {**asdict(job.train), **asdict(job.target)}
    settings = {n: list(v) if isinstance(v, tuple) else v for n, v in settings.items()}
    stages = [asdict(stage) for stage in job.stages]
    return settings | {"frozen": list(job.frozen), "stages": stages}


def _backbone(job: Job, facts: Facts) -> dict[str, Any]:
    card = facts.card
    return {
        "source": card.source,
        "revision": card.revision,
        "licence": card.licence,
        "verified": card.verified,
        "architecture": job.backbone.architecture,
    }


def training_figures(work: Path) -> dict[str, Any]:
    """What training wrote: `training`, `valid`, `test`, and rows that were not used."""
    result = json.loads((work / "result.json").read_text())
    steps = list(read_steps(work))
    seconds = result["seconds"]
    training: dict[str, Any] = {
        "steps": result["step"],
        "epochs": result["epoch"],
        "examples": result["examples"],
        "seconds": seconds,
        "examples_per_s": result["examples"] / seconds if seconds else 0.0,
        "bad_steps": result["bad_steps"],
        "loss": parts_of(steps),
        "evaluations": result["evaluations"],
    }
    if result["epoch"] and not result["batch"]:
        training["rows"] = result["examples"] // result["epoch"]
    if "tokens" in result:
        training["tokens"] = result["tokens"]
        training["tokens_per_s"] = result["tokens"] / seconds if seconds else 0.0
    return {
        "training": training,
        "valid": result["valid"],
        "test": result["test"],
        "calibration": result.get("calibration"),
        "not_used": dict(not_used(work)),
        "cleaning": cleaning(work),
        "guard": guard(work),
    }


def read_steps(work: Path) -> Iterator[tuple[int, float]]:
    """Step and loss of every step whose loss was finite."""
    for line in (work / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry.get("loss") is not None:
            yield entry["step"], entry["loss"]


def parts_of(steps: Sequence[tuple[int, float]]) -> list[dict[str, float]]:
    """Mean losses of PARTS parts of a run, each with its first and its last step."""
    if not steps:
        return []
    count = min(PARTS, len(steps))
    edges = [round(i * len(steps) / count) for i in range(count + 1)]
    found = []
    for start, end in pairwise(edges):
        part = steps[start:end]
        mean = sum(loss for _, loss in part) / len(part)
        found.append({"from": part[0][0], "to": part[-1][0], "loss": mean})
    return found


def not_used(work: Path) -> list[tuple[str, int]]:
    """Why rows were put aside, and how many for each reason."""
    path = work / "quarantine.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text().splitlines()
    return Counter(json.loads(line)["reason"] for line in lines).most_common()


def cleaning(work: Path) -> dict[str, Any] | None:
    """What became of the rows, by the file of each split; None where none are cleaned.

    `put_aside` has the rows of quarantine.jsonl, those of other reasons among them.
    """
    path = work / "cleaning.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    put_aside: dict[str, Counter[str]] = {}
    for line in (work / "quarantine.jsonl").read_text().splitlines():
        row = json.loads(line)
        put_aside.setdefault(row["reason"], Counter())[row["file"]] += 1
    most = sorted(put_aside.items(), key=lambda item: -item[1].total())
    found["put_aside"] = {reason: dict(counts) for reason, counts in most}
    return found


def guard(work: Path) -> dict[str, Any] | None:
    """What the guard found; None where none looked at the rows."""
    path = work / "guard.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    return {name: found[name] for name in ("actions", "sizes", "counts", "worst")}


def environment(probe: Mapping[str, Any]) -> dict[str, Any]:
    """Versions and the machine."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    versions["torch"] = probe.get("torch", versions.get("torch", ""))
    return {
        "versions": versions,
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "cores": cores(),
        "threads": probe.get("threads"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": probe.get("device") or None,
    }


def processor() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.machine()


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hashes(ready: Ready, teacher: Path | None = None) -> dict[str, str]:
    """SHA-256 of what went in and of what came out."""
    found = {
        f"backbone {f.name}": f.sha256
        for f in ready.facts.card.files
        if f.name.endswith(".safetensors") and f.sha256
    }
    paths = {
        "spec": Path(ready.spec_file.file),
        "gen.lock": ready.plan.folder / LOCK,
        "trained model.safetensors": ready.work / "model.safetensors",
        "deployed.safetensors": ready.work / "deployed.safetensors",
    }
    if teacher is not None:
        paths["teacher's model.safetensors"] = teacher
    for name, path in paths.items():
        if path.is_file():
            found[name] = hash_file(path, str(path))
    return found
