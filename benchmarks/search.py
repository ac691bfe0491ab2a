"""How searches do beside chance, and what kills cost them.

    python benchmarks/search.py --trials 12 40 --json benchmarks/results/search.json
    python benchmarks/search.py --kills 20 --trials 40 --work FOLDER

The first trains a small network for every candidate, in memory, on scikit-learn's digits or
another of its tables: depth, width, rate and dropout vary, the score on validation rows and
the number of parameters count. Each sampler has as many trials and the same seeds; what is
compared is the hypervolume of their fronts, in pairs by seed. It is the planner of
`gen search` that draws.

The second runs `gen search` on a tiny job twice: undisturbed, and with a worker, the program
that it runs, or all of it killed again and again. Both must have the same trials.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from generator.runtime.search_plan import Candidate, Planner
from generator.search.goals import OBJECTIVES, front, hypervolume
from generator.search.space import Choice

ROOT = Path(__file__).parents[1]
SAMPLERS = ("random", "tpe", "nsga2")
GOALS = [OBJECTIVES["metric"], OBJECTIVES["parameters"]]
CHOICES = [
    Choice("depth", "int", low=0, high=3),
    Choice("width", "int", low=4, high=128, log=True, when=(("depth", (1, 2, 3)),)),
    Choice("rate", "float", low=1e-4, high=1e-1, log=True),
    Choice("dropout", "float", low=0.0, high=0.5),
    Choice("activation", "categorical", values=("relu", "gelu", "tanh")),
    Choice("decay", "float", low=1e-5, high=1.0, log=True),
]
WORST = {"metric": 0.5, "parameters": 5.0}  # of the hypervolume, see `volume`
LOADERS = {"digits": load_digits, "cancer": load_breast_cancer}
SPEC = """
[search]
objectives = ["metric", "parameters"]
rungs = [0.5, 1.0]
"""


def train(
    params: Mapping[str, Any], rows: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """The score and the size of a network."""
    torch.manual_seed(0)
    activation = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
    layers: list[nn.Module] = []
    width = rows["x"].shape[1]
    for _ in range(params["depth"]):
        layers += [
            nn.Linear(width, params["width"]),
            activation[params["activation"]](),
        ]
        layers.append(nn.Dropout(params["dropout"]))
        width = params["width"]
    model = nn.Sequential(*layers, nn.Linear(width, int(rows["y"].max()) + 1))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=params["rate"], weight_decay=params["decay"]
    )
    for epoch in range(4):
        order = torch.randperm(
            len(rows["x"]), generator=torch.Generator().manual_seed(epoch)
        )
        for some in order.split(64):
            loss = nn.functional.cross_entropy(model(rows["x"][some]), rows["y"][some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        right = (model(rows["valid_x"]).argmax(1) == rows["valid_y"]).double().mean()
    size = sum(p.numel() for p in model.parameters())
    return {"metric": right.item(), "parameters": float(size)}


def table(name: str) -> dict[str, torch.Tensor]:
    """Rows, each column from 0 to 1."""
    x, y = LOADERS[name](return_X_y=True)
    x = (x - x.min(0)) / np.maximum(x.max(0) - x.min(0), 1e-9)
    x, y = torch.tensor(x).float(), torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    count = round(0.56 * len(x))
    first, rest = order[:count], order[count:]
    return {"x": x[first], "y": y[first], "valid_x": x[rest], "valid_y": y[rest]}


def volume(points: Mapping[int, Mapping[str, float]]) -> float:
    """What the front covers, parameters by their decimal logarithm."""
    best = [points[n] for n in front(points, GOALS)]
    scaled = [{**p, "parameters": float(np.log10(p["parameters"]))} for p in best]
    return hypervolume(scaled, WORST, GOALS)


def searched(
    sampler: str, seed: int, trials: int, rows: Mapping[str, torch.Tensor]
) -> list[float]:
    """The hypervolume of the front after each trial."""

    def candidate(params: Mapping[str, Any]) -> Candidate:
        key = json.dumps(params, sort_keys=True)
        return Candidate(key, key)

    start = {"depth": 1, "width": 64, "rate": 1e-3, "dropout": 0.1, "decay": 0.01}
    first = {**start, "activation": "relu"}
    planner = Planner(
        *(sampler, seed, trials, CHOICES, GOALS, []),
        [("unedited", candidate(first))],
        candidate,
    )
    records: dict[int, dict[str, Any]] = {}
    found = []
    while (planned := planner.planned(len(records), records)) is not None:
        records[planned.number] = {
            "state": "complete",
            "params": planned.params,
            "values": train(planned.params or first, rows),
            "key": planned.candidate.key,
            "attributes": planned.attributes,
        }
        found.append(volume({n: r["values"] for n, r in records.items()}))
    return found


def compared(
    seeds: int, trials: int, name_of_rows: str, samplers: Sequence[str]
) -> dict[str, Any]:
    """The hypervolumes, and how much more than random search's they are, seed by seed."""
    torch.set_num_threads(1)
    rows = table(name_of_rows)
    curves: dict[str, list[list[float]]] = {name: [] for name in samplers}
    for seed in range(seeds):
        for name in samplers:
            curves[name].append(searched(name, seed, trials, rows))
            print(f"seed {seed}, {name}: {curves[name][-1][-1]:.4f}", file=sys.stderr)
    result: dict[str, Any] = {"trials": trials, "seeds": seeds, "hypervolume": {}}
    chance = np.array([c[-1] for c in curves["random"]])
    for name in samplers:
        own = np.array([c[-1] for c in curves[name]])
        result["hypervolume"][name] = {"mean": own.mean(), "seeds": own.tolist()}
        if name != "random":
            more = own - chance
            interval = bootstrap((more,), np.mean, rng=0).confidence_interval
            result["hypervolume"][name] |= {
                "more_than_random": more.mean(),
                "low": interval.low,
                "high": interval.high,
                "wins": int((more > 0).sum()),
            }
    return result


# -------------------------------------------------------------------------------- kills


def tiny_job(folder: Path, trials: int) -> Path:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/runtime")]
    from runtime_support import tiny_bert, write_job

    sizes = {"num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    path = write_job(folder, config=tiny_bert(**sizes), rows=64)
    path.write_text(path.read_text() + SPEC + f"trials = {trials}\n")
    return path


def children(pid: int) -> list[int]:
    """Workers of a search, or what a worker has begun, which are forks of it."""
    found = []
    with suppress(OSError):  # it ended meanwhile
        for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"--join" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(int(one))
    return found


def killed(folder: Path, kills: int, trials: int, jobs: int) -> dict[str, Any]:
    """Both searches, and whether their trials are the same."""
    path = tiny_job(folder, trials)
    found, seconds, done = {}, {}, 0
    draw = random.Random(0)
    for name in ("undisturbed", "killed"):
        work = folder / name
        shutil.rmtree(work, ignore_errors=True)
        command = [sys.executable, "-m", "generator", "search", str(path), "--quiet"]
        command += ["--work", str(work), "--no-test", "--jobs", str(jobs)]
        start = time.perf_counter()
        process = subprocess.Popen(command)
        while process.poll() is None:
            time.sleep(draw.uniform(2, 5))
            if name == "undisturbed" or done == kills:
                continue
            workers = children(process.pid)
            programs = [pid for worker in workers for pid in children(worker)]
            if not workers:
                continue
            done += 1
            if done % 5 == 0:  # the search itself, and so all of its workers
                process.kill()
                process.wait()
                process = subprocess.Popen(command)
            else:
                with suppress(ProcessLookupError):
                    os.kill(draw.choice([*workers, *programs]), 9)
        seconds[name] = time.perf_counter() - start
        found[name] = json.loads((work / "search.json").read_text())["trials"]
    told = [
        [(t["number"], t["state"], t["params"], t["values"]) for t in some]
        for some in found.values()
    ]
    numbers = [t["number"] for t in found["killed"]]
    return {
        "kills": done,
        "trials": len(numbers),
        "accounted_for": numbers == [*range(len(numbers))],
        "the_same": told[0] == told[1],
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs="+", default=[40])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--rows", nargs="+", choices=[*LOADERS], default=["digits"])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.kills:
        if args.work is None:
            parser.error("--kills needs --work")
        result = killed(args.work, args.kills, args.trials[0], args.jobs)
    else:
        result = {
            rows: {
                str(n): compared(args.seeds, n, rows, args.samplers)
                for n in args.trials
            }
            for rows in args.rows
        }
        for rows, by_trials in result.items():
            for trials, found in by_trials.items():
                for name, own in found["hypervolume"].items():
                    print(f"{rows}, {trials} trials, {said(name, own)} of {args.seeds}")
    if args.kills:
        print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def said(name: str, own: Mapping[str, Any]) -> str:
    if "wins" not in own:
        return f"{name}: {own['mean']:.4f}"
    more = "{more_than_random:+.4f} [{low:+.4f}, {high:+.4f}]".format(**own)
    return f"{name}: {own['mean']:.4f}; {more} more than random, in {own['wins']}"


if __name__ == "__main__":
    main()
