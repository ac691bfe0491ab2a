"""Trains a step of a job that is pruned in steps, or measures it ahead of that.

    python step_train.py train PACKAGE PART STEP --root FOLDER --work FOLDER --weights FILE
    python step_train.py measure PACKAGE --root FOLDER --work FOLDER --weights FILE

It is the package's own train.py that trains, on a part of the training rows that each step
draws anew. The test rows are not looked at: a few validation rows stand for them. Measuring
writes `before.json` into the work folder, the figures of the validation rows.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

BEFORE = "before.json"


@torch.inference_mode()
def measured(name: str, root: Path, work: Path, weights: Path) -> dict[str, Any]:
    """Figures of the model on the validation rows, as it is loaded."""
    data, train, model = (
        importlib.import_module(f"{name}.{part}") for part in ("data", "train", "model")
    )
    torch.manual_seed(data.SEED)  # of a head that is new
    loaded = model.load_pretrained(weights).eval()
    splits = data.load_splits(root, work)
    if hasattr(train, "standardise"):  # as training does before its first step
        train.standardise(loaded, splits.train)
    logits, targets = [], []
    for batch in data.evaluation_batches(splits.valid):
        logits.append(loaded(*batch.inputs).float())
        targets.append(batch.targets)
    return train.measure(torch.cat(logits), torch.cat(targets))


def main() -> int:
    what, name, *rest = sys.argv[1:]
    if what == "measure":
        root, work, weights = (
            Path(rest[rest.index(flag) + 1])
            for flag in ("--root", "--work", "--weights")
        )
        work.mkdir(parents=True, exist_ok=True)
        figures = measured(name, root, work, weights)
        (work / BEFORE).write_text(json.dumps(figures, indent=1) + "\n")
        return 0
    part, step, *rest = rest
    sys.path.append(str(Path(__file__).parent))
    data: Any = importlib.import_module(f"{name}.data")
    hidden = importlib.import_module("search_train").hidden
    data.load_rows = hidden(data.load_rows, float(part), data.SEED + int(step))
    return importlib.import_module(f"{name}.train").main(rest)


if __name__ == "__main__":
    sys.exit(main())
