"""Trains a candidate of a search on a part of the training rows, without the test rows.

    python search_train.py PACKAGE PART --root FOLDER --work FOLDER --weights FILE

It is the package's own train.py that trains. Where that measures on the test rows at its
end, it is given a few of the validation rows, and what it says of them is not kept: while
candidates are chosen nobody sees how they do on the test.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

FEW = 32  # rows that stand for the test rows


def hidden(load: Callable[..., Any], part: float, seed: int) -> Callable[..., Any]:
    """`load_rows` with a part of the training rows, and validation rows for the test."""

    def rows(*arguments: Any) -> Mapping[str, Any]:
        found = dict(load(*arguments))
        train, valid = found["train"], found["valid"]
        if part < 1:
            count = max(1, round(part * len(train)))
            order = torch.randperm(
                len(train), generator=torch.Generator().manual_seed(seed)
            )
            kept = torch.zeros(len(train), dtype=torch.bool)
            kept[order[:count]] = True
            found["train"] = train.where(kept)
        found["test"] = valid.where(torch.arange(len(valid)) < FEW)
        return found

    return rows


def main() -> int:
    name, part, *rest = sys.argv[1:]
    data = importlib.import_module(f"{name}.data")
    train = importlib.import_module(f"{name}.train")
    data.load_rows = hidden(data.load_rows, float(part), data.SEED)
    code = train.main(rest)
    result = Path(rest[rest.index("--work") + 1], "result.json")
    if not code:
        found = json.loads(result.read_text())
        del found["test"]
        result.write_text(json.dumps(found, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
