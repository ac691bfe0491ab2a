"""How much the loss would change without each unit, to first order, on training rows.

Run as a program, `python importance.py PACKAGE ROOT WEIGHTS WORK ASKED`, where PACKAGE
can be imported; it imports nothing of this compiler. ASKED is JSON: `units`, for the
path of each linear or norm whose inputs are scored how many units they make; `new`, the
parameters of the head that no checkpoint has, which are fitted first with all else fixed;
`loss`; `rows`. On standard output is JSON: the scores by path.

The score of a unit is the mean over rows of |sum of activation times gradient|, over the
row's tokens (Molchanov et al., 2019; Michel et al., 2019, for heads).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FITTING, LR = 200, 1e-3  # steps of a new head, and their learning rate
LOSSES = {
    "cross-entropy": nn.CrossEntropyLoss,
    "binary": nn.BCEWithLogitsLoss,
    "squared": nn.MSELoss,
}


def main(package: str, root: Path, weights: Path, work: Path, request: Path) -> None:
    asked = json.loads(request.read_text())
    data: Any = importlib.import_module(f"{package}.data")
    torch.manual_seed(0)
    model = importlib.import_module(f"{package}.model").load_pretrained(weights).eval()
    criterion = LOSSES[asked["loss"]]()
    try:
        train = data.load_splits(root, work).train
    except data.DataError as error:
        sys.exit(str(error))

    def batches() -> Iterator[Any]:
        epoch = 0
        while True:
            yield from data.batches(train, epoch)
            epoch += 1

    stream = batches()
    if asked["new"]:
        fit(model, criterion, stream, asked["new"])
    found = {
        path: torch.zeros(n, dtype=torch.float64) for path, n in asked["units"].items()
    }
    rows = 0
    wanted = min(asked["rows"], len(train))
    while rows < wanted:
        batch = next(stream)
        for path, scores in score(model, criterion, batch, asked["units"]):
            found[path] += scores
        rows += len(batch.rows)
    print(json.dumps({path: (s / rows).tolist() for path, s in found.items()}))


def fit(
    model: nn.Module, criterion: nn.Module, stream: Iterator[Any], new: list
) -> None:
    """Train the new parameters alone."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in new)
    optimizer = torch.optim.AdamW([model.get_parameter(name) for name in new], lr=LR)
    for _ in range(FITTING):
        batch = next(stream)
        criterion(model(*batch.inputs), batch.targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.requires_grad_(True)


def score(
    model: nn.Module, criterion: nn.Module, batch: Any, units: dict[str, int]
) -> Iterator[tuple[str, Tensor]]:
    """Of each linear or norm the scores of its units, summed over the rows of a batch."""
    seen: dict[str, Tensor] = {}

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            args[0].retain_grad()
            seen[path] = args[0]

        return hook

    hooks = [
        model.get_submodule(path).register_forward_pre_hook(keep(path))
        for path in units
    ]
    logits = model(*batch.inputs)
    # Of rows one by one: the mean over a batch would be of its size.
    (criterion(logits, batch.targets) * len(batch.rows)).backward()
    for hook in hooks:
        hook.remove()
    model.zero_grad()
    for path, x in seen.items():
        assert x.grad is not None
        each = (x.detach() * x.grad).unflatten(-1, (units[path], -1)).sum(-1)
        each = each.reshape(len(each), -1, units[path])  # (rows, tokens, units)
        yield path, each.sum(1).abs().double().sum(0)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
