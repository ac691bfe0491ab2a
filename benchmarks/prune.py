"""What pruning in steps gives: beside pruning at once, trained on as many rows in all.

    python benchmarks/prune.py --work FOLDER --json benchmarks/results/prune.json

For each seed `gen run` runs specs/movie_pruned_steps.toml, and the same without
[train.prune], whose one fine-tuning is as long as those of all steps together. Prints a
table as Markdown: the test accuracy of each, the difference of the two and its interval, a
bootstrap over test rows of the mean over seeds, in pairs. A run that was stopped goes on
where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distill import ROOT, ROWS, interval, replaced

STEPS, ONCE = "movie_pruned_steps", "movie_pruned_once"
JOBS = (ONCE, STEPS)
PREDICT = """
import csv, json, sys
sys.path.insert(0, sys.argv[1])
from importlib import import_module
predictor = import_module(f"{sys.argv[2]}.predict").Predictor(sys.argv[3])
with open(sys.argv[4], newline="") as file:
    rows = list(csv.DictReader(file))
answers = predictor.predict([row["text"] for row in rows])
print(json.dumps([a.label == row["label"] for a, row in zip(answers, rows)]))
"""


def write(seed: int, folder: Path, args: argparse.Namespace) -> None:
    """The two specs with a seed, their facts but for those of steps, and their rows."""
    specs = folder / "specs"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "specs" / ROWS, specs / ROWS)
    if args.rows:
        path = specs / ROWS / "train.csv"
        with open(path, newline="") as file:
            kept = list(csv.reader(file))[: args.rows + 1]
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows(kept)
    steps = (ROOT / "specs" / f"{STEPS}.toml").read_text()
    for table, name, value in (
        ("train", "seed", seed),
        ("train.prune", "steps", args.steps),
        ("train.prune", "recover", args.recover),
        ("target", "precision", f'"{args.precision}"'),
    ):
        steps = replaced(steps, table, name, value)
    before, _, after = steps.partition("[train.prune]\n")
    once = before + "[" + after.partition("\n[")[2]
    whole = 1 + (args.steps - 1) * args.recover
    assert whole == int(whole), "one fine-tuning has whole epochs"
    once = replaced(once, "train", "epochs", int(whole))
    texts = {STEPS: steps, ONCE: once.replace(f'"{STEPS}"', f'"{ONCE}"')}
    for name, text in texts.items():
        (specs / f"{name}.toml").write_text(text)
    command = ["-m", "generator", "calibrate", "--quiet"]
    paths = [specs / f"{name}.toml" for name in JOBS]
    subprocess.run([sys.executable, *command, *map(str, paths)], check=True)


def trained(folder: Path, name: str) -> dict[str, Any]:
    """Run a job; which test rows it then gets right."""
    work, spec = folder / "runs" / name, folder / "specs" / f"{name}.toml"
    done = work / "right.json"
    if done.exists():
        return json.loads(done.read_text())
    start = time.perf_counter()
    # Whether 16 bits are fast here is not the question: the same figures come of them.
    flags = ["--out", folder, "--work", work, "--no-bench", "--probe", "off"]
    flags += ["--anyway"]
    flags += ["--resume"] if (work / "checkpoints").is_dir() else []
    command = [sys.executable, "-m", "generator", "run", spec, *flags, "--quiet"]
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    found = json.loads((work / "run.json").read_text())
    tried = [sys.executable, "-c", PREDICT, folder, name, work / "model.safetensors"]
    tried.append(folder / "specs" / ROWS / "test.csv")
    ended = subprocess.run([*map(str, tried)], check=True, stdout=subprocess.PIPE)
    before = found["pruned"]["steps"] if found["pruned"] else []
    trained = found["training"]["seconds"] + sum(s["training_seconds"] for s in before)
    found = {
        "right": json.loads(ended.stdout),
        "seconds": seconds,
        "training_seconds": trained,
        "valid": found["valid"]["accuracy"],
        "steps": before,
    }
    done.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, required=True)
    add("--json", type=Path)
    add("--seeds", type=int, default=3)
    add("--steps", type=int, default=3)
    add("--recover", type=float, default=0.5)
    add("--rows", type=int, default=0, help="of the training rows; 0 is all of them")
    add("--precision", choices=("fp32", "bf16"), default="bf16")
    args = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in JOBS}
    for seed in range(args.seeds):
        folder = args.work / f"seed-{seed}"
        if not (folder / "specs" / "facts" / STEPS / "scores.safetensors").exists():
            write(seed, folder, args)
        for name in JOBS:
            runs[name].append(trained(folder, name))
    right = {
        name: np.array([run["right"] for run in some], dtype=float)
        for name, some in runs.items()
    }
    gain = (right[STEPS] - right[ONCE]).mean(axis=0)
    low, high = interval(gain)
    each = (right[STEPS] - right[ONCE]).mean(axis=1)
    print(
        f"{args.seeds} seeds, {right[ONCE].shape[1]} test rows, {args.precision}, "
        f"{torch.get_num_threads()} threads\n"
    )
    head = "| | test accuracy | of each seed | seconds of training | of all |"
    print(f"{head}\n|---|---|---|---|---|")
    shown = {ONCE: "at once", STEPS: f"in {args.steps} steps"}
    for name in JOBS:
        seeds = ", ".join(f"{100 * x:.1f}" for x in right[name].mean(axis=1))
        took = [
            statistics.median(run[key] for run in runs[name])
            for key in ("training_seconds", "seconds")
        ]
        mean = 100 * right[name].mean()
        print(
            f"| {shown[name]} | {mean:.2f}% | {seeds} | {took[0]:.0f} | {took[1]:.0f} |"
        )
    print(
        f"\nIn steps less at once: {100 * gain.mean():+.2f} points "
        f"[{100 * low:+.2f}, {100 * high:+.2f}], by seed "
        f"{', '.join(f'{100 * x:+.1f}' for x in each)}."
    )
    if args.json:
        found = {
            "precision": args.precision,
            "torch": torch.__version__,
            "rows": args.rows,
            "accuracy": {n: x.mean(axis=1).tolist() for n, x in right.items()},
            "valid": {n: [run["valid"] for run in some] for n, some in runs.items()},
            "seconds": {n: [run["seconds"] for run in r] for n, r in runs.items()},
            "steps": [run["steps"] for run in runs[STEPS]],
            "gain": {"mean": gain.mean(), "low": low, "high": high},
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
