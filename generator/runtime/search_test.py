"""Tests the points of a front on the test rows, once, in pairs with the unedited model.

    python search_test.py ASKED.json

Each point has models of several seeds. Its figure is the mean over them, and the intervals
are of bootstraps over the test rows: of the figure, and of its difference to the unedited
model's on the same rows.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

# A program has what lies beside it, and nothing of the compiler to import it from.
speed = runpy.run_path(str(Path(__file__).with_name("search_speed.py")))
module, computing = speed["module"], speed["computing"]
taken_out = runpy.run_path(str(Path(__file__).with_name("guarded.py")))["taken_out"]
keep = runpy.run_path(str(Path(__file__).with_name("search_split.py")))["keep"]
SAMPLES = 1000
SCORES = ("accuracy", "micro_f1", "pearson", "loss")  # what sums up an evaluation
Score = Callable[[Tensor, Tensor], float]


@torch.inference_mode()
def logits_of(contender: Mapping[str, str], root: Path) -> tuple[Tensor, Tensor]:
    """Of the test rows, as the trained model predicts them, with their targets."""
    deployed = Path(contender["deployed"])
    if deployed.is_file():
        model = module(contender, "deploy").load_deployed(deployed)
    else:
        model = module(contender, "predict").load_trained(contender["trained"])
    device = contender["device"]
    model = model.to(device)
    data = module(contender, "data")
    keep(data, int(contender["split"]))
    left = taken_out(data, Path(contender["trained"]).parent)
    test = data.load_splits(root, Path(contender["work"]), **left).test
    logits: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in data.evaluation_batches(test):
        inputs = [x if x is None else x.to(device) for x in batch.inputs]
        with computing(contender):
            found = model(*inputs).float().cpu()
        logits.append((batch.rows, found, batch.targets))
    # In the order of the rows, which the batches of each package may cut in its own way.
    order = torch.cat([rows for rows, _, _ in logits]).argsort()
    every = torch.cat([x for _, x, _ in logits])[order]
    return every, torch.cat([y for _, _, y in logits])[order]


def score_of(contender: Mapping[str, str]) -> Score:
    measure = module(contender, "train").measure

    def score(logits: Tensor, targets: Tensor) -> float:
        figures = measure(logits, targets)
        name = next(n for n in SCORES if n in figures)
        return -figures[name] if name == "loss" else figures[name]

    return score


def interval(values: Sequence[float], mean: float) -> dict[str, float]:
    low, high = torch.tensor(values, dtype=torch.float64).quantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    return {"mean": mean, "low": low.item(), "high": high.item()}


def main() -> int:
    asked = json.loads(Path(sys.argv[1]).read_text())
    root = Path(asked["root"])
    found = {
        name: [logits_of(one, root) for one in seeds]
        for name, seeds in asked["points"].items()
    }
    score = score_of(asked["points"]["0"][0])
    draw = torch.Generator().manual_seed(0)
    targets = found["0"][0][1]
    samples = [
        torch.randint(len(targets), (len(targets),), generator=draw)
        for _ in range(SAMPLES)
    ]

    def mean(seeds: Sequence[tuple[Tensor, Tensor]], rows: Tensor) -> float:
        return sum(score(x[rows], y[rows]) for x, y in seeds) / len(seeds)

    every = torch.arange(len(targets))
    resampled = {n: [mean(seeds, s) for s in samples] for n, seeds in found.items()}
    whole = {n: mean(seeds, every) for n, seeds in found.items()}
    answer = {}
    for name, seeds in found.items():
        pairs = zip(resampled[name], resampled["0"], strict=True)
        answer[name] = {
            "metric": {
                **interval(resampled[name], whole[name]),
                "seeds": [score(x, y) for x, y in seeds],
            },
            "more": interval([a - b for a, b in pairs], whole[name] - whole["0"]),
        }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
