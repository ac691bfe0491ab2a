"""What a fitted temperature and threshold give: movie_calibrated, before and after.

    python benchmarks/calibrated.py --work FOLDER --json benchmarks/results/calibrated.json

Trains the job as a user would, for each seed, and reads what its calibration.json says of the
test rows, which took no part in the fit. Prints a table as Markdown: means over the seeds, and
the figures of each. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from edits import ROOT, WEIGHTS

NAME = "movie_calibrated"
FIGURES = {
    "nll": "negative log-likelihood",
    "ece": "calibration error, 15 bins",
    "accuracy": "accuracy",
    "macro_f1": "mean F1 of both labels",
}


def build(seed: int, precision: str, folder: Path) -> None:
    """The job's package with a seed."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "specs", folder / "specs")
    spec = folder / f"specs/{NAME}.toml"
    text = spec.read_text()
    text = text.replace("[train]\n", f"[train]\nseed = {seed}\n")
    text = text.replace("[target]\n", f'[target]\nprecision = "{precision}"\n')
    spec.write_text(text)
    command = ["-m", "generator", "build", spec, "--out", folder, "--quiet"]
    subprocess.run([sys.executable, *map(str, command)], check=True)


def trained(seed: int, precision: str, work: Path) -> dict:
    """What the job says of its calibration, from its work folder where it is there."""
    folder = work / f"seed{seed}"
    if not (folder / NAME / "gen.lock").exists():
        build(seed, precision, folder)
    runs = folder / "runs"
    if not (runs / "calibration.json").exists():
        command = ["-m", f"{NAME}.train", "--root", folder / "specs", "--work", runs]
        command += ["--weights", WEIGHTS, "--quiet"]
        if any((runs / "checkpoints").glob("*.safetensors")):
            command.append("--resume")
        command = [sys.executable, *map(str, command)]
        subprocess.run(command, cwd=folder, check=True)
    return json.loads((runs / "calibration.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = [trained(seed, args.precision, args.work) for seed in args.seeds]
    if args.json:
        result = {
            "torch": torch.__version__,
            "precision": args.precision,
            "seeds": dict(zip(map(str, args.seeds), found, strict=True)),
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(
        "| test rows | as trained | calibrated | of each seed |",
        "|---|---|---|---|",
        sep="\n",
    )
    for key, words in FIGURES.items():
        before, after = (
            [f["test"][when][key] for f in found] for when in ("before", "after")
        )
        each = ", ".join(
            f"{b:.3f} to {a:.3f}" for b, a in zip(before, after, strict=True)
        )
        means = (f"{statistics.fmean(v):.3f}" for v in (before, after))
        print(f"| {words} | {' | '.join(means)} | {each} |")
    print("\ntemperatures:", ", ".join(f"{f['temperature']:.2f}" for f in found))
    print("thresholds:", ", ".join(f"{f['threshold']:.2f}" for f in found))


if __name__ == "__main__":
    main()
