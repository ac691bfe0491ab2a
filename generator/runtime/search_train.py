"""Trains a candidate of a search on a part of the training rows, without the test rows.

    python search_train.py PACKAGE PART SEED --root FOLDER --work FOLDER --weights FILE

It is the package's own train.py that trains, on the split of rows that SEED makes. Where the model that predicts is another, made by
the package's deploy.py, that one is made and scored too. Where that measures on the test rows at its
end, it is given a few of the validation rows, and what it says of them is not kept: while
candidates are chosen nobody sees how they do on the test.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

# A program has what lies beside it, and nothing of the compiler to import it from.
keep = runpy.run_path(str(Path(__file__).with_name("search_split.py")))["keep"]
taken_out = runpy.run_path(str(Path(__file__).with_name("guarded.py")))["taken_out"]
memory = runpy.run_path(str(Path(__file__).with_name("search_memory.py")))
SCORED = ("valid", "test")  # splits that candidates are compared by
FEW = 32  # rows that stand for the test rows
TRAINED, DEPLOYED = "model.safetensors", "deployed.safetensors"


def noted(load: Callable[..., Any], scored: list[str]) -> Callable[..., Any]:
    """`load_rows`, of which `scored` gets a digest of what is asked of SCORED."""

    def rows(*arguments: Any) -> Mapping[str, Any]:
        found = load(*arguments)
        scored[:] = [digest(found[split].column("targets") for split in SCORED)]
        return found

    return rows


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


def digest(columns: Iterable[torch.Tensor]) -> str:
    found = hashlib.sha256()
    for column in columns:
        found.update(str(column.shape).encode())
        found.update(column.contiguous().numpy().data)
    return found.hexdigest()


@torch.inference_mode()
def deployed(name: str, root: Path, work: Path) -> dict[str, Any] | None:
    """Figures of the deployed model on the validation rows, and its weights in `work`; None
    where the trained one is deployed as it is."""
    if importlib.util.find_spec(f"{name}.deploy") is None:
        return None
    deploy, data, train = (
        importlib.import_module(f"{name}.{part}")
        for part in ("deploy", "data", "train")
    )
    splits = data.load_splits(root, work, **taken_out(data, work))
    model, ranges = deploy.load_trained(work / TRAINED), []
    if hasattr(deploy, "find_ranges"):  # of what linears are given
        files = work / TRAINED, work / DEPLOYED
        ranges = [deploy.find_ranges(model, splits.train, *files)]
    save_file(deploy.lowered(model, *ranges), work / DEPLOYED)
    model = deploy.load_deployed(work / DEPLOYED)
    if hasattr(deploy, "DEVICE"):  # of a card
        model = model.to(deploy.DEVICE)
    if importlib.util.find_spec(f"{name}.calibrate") is not None:
        calibrate = importlib.import_module(f"{name}.calibrate")
        calibrate.calibrate(model, splits.valid, splits.test, work / DEPLOYED)
    batches = [*data.evaluation_batches(splits.valid)]
    targets = torch.cat([batch.targets for batch in batches])
    # Of a regression, what its loss is measured in.
    scale = [model.classifier.scale.cpu()] if hasattr(train, "standardise") else []
    return train.measure(deploy.answers(model, batches), targets, *scale)


def main() -> int:
    name, part, seed, *rest = sys.argv[1:]
    data: Any = importlib.import_module(f"{name}.data")
    train = importlib.import_module(f"{name}.train")
    keep(data, int(seed))
    scored: list[str] = []
    load = noted(data.load_rows, scored)
    data.load_rows = hidden(load, float(part), data.SEED)
    before = memory["begin"]()
    code = train.main(rest)
    taken = memory["peak"]() - before
    root, work = (Path(rest[rest.index(flag) + 1]) for flag in ("--root", "--work"))
    result = work / "result.json"
    if not code:
        found = json.loads(result.read_text())
        del found["test"]
        found["memory"], (found["rows"],) = taken, scored
        if (figures := deployed(name, root, work)) is not None:
            found["trained"], found["valid"] = found["valid"], figures
        result.write_text(json.dumps(found, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
