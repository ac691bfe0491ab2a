"""What a package's data are, counted by the package's own code.

Run as a program, `python data_counts.py PACKAGE ROOT WORK`, where PACKAGE can be imported;
it imports nothing of this compiler. The rows are read, cleaned and split as train.py does
it, so that quarantine.jsonl and its like are written to WORK. The answer is a JSON object
on standard output.
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

# A program has what lies beside it, and nothing of the compiler to import it from.
taken_out = runpy.run_path(str(Path(__file__).with_name("guarded.py")))["taken_out"]
BINS = 30  # of a histogram, at most
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def main(package: str, root: Path, work: Path) -> int:
    data = importlib.import_module(f"{package}.data")
    regression = hasattr(data, "TARGETS")
    names = data.TARGETS if regression else data.LABELS
    try:
        splits = data.load_splits(root, work, **taken_out(data, work))
    except data.DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    each = splits._asdict()
    found: dict[str, dict[str, Any]] = {n: {"rows": len(x)} for n, x in each.items()}
    if regression:
        for i, target in enumerate(names):
            columns = {n: x.targets.view(len(x), -1)[:, i] for n, x in each.items()}
            for name, figures in spreads(columns).items():
                found[name].setdefault("targets", {})[target] = figures
    else:
        for name, split in each.items():
            counts = label_counts(split.targets, len(names))
            found[name]["labels"] = dict(zip(names, counts))
    if limit := getattr(data, "MAX_TOKENS", None):
        tokens = {name: split.tokens.lengths for name, split in each.items()}
        for name, figures in spreads(tokens).items():
            found[name]["lengths"] = figures
            found[name]["at_limit"] = int((tokens[name] >= limit).sum())
    about = {"splits": found, "max_tokens": limit}
    if features := getattr(data, "features", None):
        about["features"] = fitted(features, each)
    print(json.dumps(about))
    return 0


def fitted(features: Any, splits: dict[str, Any]) -> dict[str, Any]:
    """What the training rows decide of the features, and what the splits lack of them."""
    found, numbers, categories = splits["train"].fitted, [], []
    missable = tuple(getattr(features, "MISSABLE", ()))
    scaled = getattr(features, "SCALED", ())
    for i, name in enumerate(scaled):
        lacks = {}
        if i in missable:  # a column of its own says so, those behind all the others
            at = missable.index(i) - len(missable)
            lacks = {
                s: x.columns.numbers[:, at].mean().item() for s, x in splits.items()
            }
        one = {"mean": found.means[i], "deviation": found.deviations[i]}
        numbers.append({"name": name, **one, "missing": lacks})
    for j, column in enumerate(getattr(features, "CATEGORICAL", ())):
        unknown = (1 + features.MOST) * j
        lacks = {
            s: (x.columns.categories[:, j] == unknown).double().mean().item()
            for s, x in splits.items()
        }
        known = found.categories[j]
        categories.append({"column": column, "known": known, "unknown": lacks})
    return {"numbers": numbers, "categories": categories}


def label_counts(targets: Any, labels: int) -> list[int]:
    """How many rows have each label: numbers (rows), or 0 and 1 (rows, labels)."""
    if targets.dim() == 2:
        return targets.sum(0).long().tolist()
    return targets.bincount(minlength=labels).tolist()


def spreads(splits: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Quantiles of the numbers (rows) of each split, and histograms with common edges."""
    import torch

    every = torch.cat([x.double() for x in splits.values()])
    low, high = every.min().item(), every.max().item()
    whole = bool((every == every.round()).all())
    bins = min(BINS, int(high - low) + 1) if whole else BINS
    if whole:  # as many whole numbers in each bin as in the next
        width = -(-(high - low + 1) // bins)
        low, high = low - 0.5, low - 0.5 + width * bins
    elif high == low:
        low, high = low - 0.5, high + 0.5
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64).tolist()
    found = {}
    for name, values in splits.items():
        ordered, last = values.double().sort().values, len(values) - 1
        found[name] = {
            "mean": ordered.mean().item(),
            "least": ordered[0].item(),
            "quantiles": {str(q): ordered[round(q * last)].item() for q in QUANTILES},
            "edges": edges,
            "counts": torch.histc(ordered, bins, low, high).long().tolist(),
        }
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
