"""What the moving average of the weights gives: movie_ema, beside the same job without it.

    python benchmarks/average.py --work FOLDER --json benchmarks/results/average.json

For each seed both are trained as a user would, on the same rows in the same order, with as
many evaluations; the best of them is what is tested. Prints a table as Markdown: the test
accuracy of each, how much validation accuracies of the last epoch vary, and the difference
of the two with its interval, a bootstrap over test rows of the mean over seeds, in pairs. A
run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from edits import ROOT, Run, interval, ours, words

AVERAGED, PLAIN = "movie_ema", "movie_plain"


def build(seed: int, precision: str, folder: Path) -> None:
    """The packages of both jobs with a seed."""
    specs = folder / "specs"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "specs", specs)
    text = (specs / f"{AVERAGED}.toml").read_text()
    text = text.replace("[train]\n", f"[train]\nseed = {seed}\n")
    text = text.replace("[target]\n", f'[target]\nprecision = "{precision}"\n')
    plain = re.sub(r"^ema = .*\n", "", text, flags=re.MULTILINE)
    assert plain != text
    texts = {AVERAGED: text, PLAIN: plain.replace(f'"{AVERAGED}"', f'"{PLAIN}"')}
    for name, one in texts.items():
        (specs / f"{name}.toml").write_text(one)
    command = ["-m", "generator", "build", "--out", folder, "--quiet"]
    paths = [specs / f"{name}.toml" for name in texts]
    subprocess.run([sys.executable, *map(str, [*command, *paths])], check=True)


def trained(seed: int, precision: str, work: Path) -> dict[str, Run]:
    """Both jobs with a seed, from files where they are there."""
    folder = work / f"seed{seed}"
    if not (folder / PLAIN / "gen.lock").exists():
        build(seed, precision, folder)
    runs = {}
    for name in (PLAIN, AVERAGED):
        path = folder / f"{name}.json"
        if not path.exists():
            run = ours(folder, name)
            path.write_text(json.dumps(asdict(run)))
            print(f"seed {seed}, {name}: {run.accuracy:.4f}", file=sys.stderr)
        runs[name] = Run(**json.loads(path.read_text()))
    return runs


def varies(run: Run) -> float:
    """Points that evaluations of the second half are from one another, standard deviation."""
    accuracies = [100 * accuracy for _, accuracy in run.evaluations]
    return statistics.stdev(accuracies[len(accuracies) // 2 :])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    all_runs = [trained(seed, args.precision, args.work) for seed in args.seeds]
    right = {name: [runs[name].right for runs in all_runs] for name in all_runs[0]}
    gain = interval(right[AVERAGED], right[PLAIN])
    result = {
        "torch": torch.__version__,
        "precision": args.precision,
        "seeds": args.seeds,
        "points": gain,
        "jobs": {
            name: {
                "accuracy": [runs[name].accuracy for runs in all_runs],
                "evaluations": [runs[name].evaluations for runs in all_runs],
                "varies": [varies(runs[name]) for runs in all_runs],
                "examples_per_s": [runs[name].examples_per_s for runs in all_runs],
            }
            for name in right
        },
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print("| | test accuracy | of each seed | validation varies by | examples/s |")
    print("|---|---|---|---|---|")
    for name, j in result["jobs"].items():
        seeds = ", ".join(f"{100 * x:.1f}" for x in j["accuracy"])
        print(
            f"| {name} | {100 * statistics.fmean(j['accuracy']):.2f}% | {seeds} | "
            f"{statistics.fmean(j['varies']):.2f} points | "
            f"{statistics.fmean(j['examples_per_s']):.0f} |"
        )
    print(f"\nWith the average less without: {words(gain)} points.")


if __name__ == "__main__":
    main()
