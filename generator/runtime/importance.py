"""How much the loss would change without each unit, to first order, on training rows.

Run as a program, `python importance.py PACKAGE ROOT WEIGHTS WORK ASKED`, where PACKAGE
can be imported; it imports nothing of this compiler. ASKED is JSON: `units`, for the
path of each linear or norm whose inputs are scored how many units they make; `blocks`, the paths
of the blocks, in order; `new`, the parameters of the head that no checkpoint has, which
are fitted first with all else fixed; `loss`, of which "standardised" is train.py's own; `rows`. On standard output is JSON: the
scores of `units` by path, and of the blocks under "taylor" and "influence".

The score of a unit is the mean over rows of |sum of activation times gradient|, over the
row's tokens (Molchanov et al., 2019; Michel et al., 2019, for heads). That of a block is
the same of what it adds, its result less its input: the change of the loss without it, to
first order. Its influence is 1 less the cosine of its input and its result, on average
over tokens (Men et al., 2024).
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

METHODS = ("taylor", "influence")  # of blocks
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
    try:
        train = data.load_splits(root, work).train
    except data.DataError as error:
        sys.exit(str(error))
    if asked["loss"] == "standardised":
        trains: Any = importlib.import_module(f"{package}.train")
        trains.standardise(model, train)
        criterion = trains.StandardisedError(model.classifier.scale)
    else:
        criterion = LOSSES[asked["loss"]]()

    def batches() -> Iterator[Any]:
        epoch = 0
        while True:
            yield from data.batches(train, epoch)
            epoch += 1

    stream = batches()
    if asked["new"]:
        fit(model, criterion, stream, asked["new"])
    sizes = {**asked["units"], **dict.fromkeys(METHODS, len(asked["blocks"]))}
    found = {path: torch.zeros(n, dtype=torch.float64) for path, n in sizes.items()}
    rows = 0
    wanted = min(asked["rows"], len(train))
    while rows < wanted:
        batch = next(stream)
        lengths = train.tokens.lengths[batch.rows] if hasattr(train, "tokens") else None
        for path, scores in score(
            model, criterion, batch, asked["units"], asked["blocks"], lengths
        ):
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
    model: nn.Module,
    criterion: nn.Module,
    batch: Any,
    units: dict[str, int],
    blocks: list[str],
    lengths: Tensor | None,
) -> Iterator[tuple[str, Tensor]]:
    """The scores of the units of each linear or norm, and of the blocks, summed over the rows of a
    batch; `lengths` are the tokens of each, without padding."""
    seen: dict[str, Tensor] = {}
    passed: list[tuple[Tensor, Tensor]] = []

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            args[0].retain_grad()
            seen[path] = args[0]

        return hook

    def around(_module: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        y.retain_grad()
        passed.append((args[0], y))

    hooks = [
        model.get_submodule(path).register_forward_pre_hook(keep(path))
        for path in units
    ]
    hooks += [model.get_submodule(b).register_forward_hook(around) for b in blocks]
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
    if not passed:
        return
    tokens = passed[0][0].shape[1]
    real = torch.ones(len(batch.rows), tokens, dtype=torch.bool)
    if lengths is not None:
        real = torch.arange(tokens) < lengths[:, None]
    taylor, influence = [], []
    for x, y in passed:
        assert y.grad is not None
        x, y, gradient = x.detach().double(), y.detach().double(), y.grad.double()
        taylor.append(((y - x) * gradient).sum((1, 2)).abs().sum())
        turned = 1 - nn.functional.cosine_similarity(x, y, dim=-1)
        influence.append(((turned * real).sum(1) / real.sum(1)).sum())
    yield "taylor", torch.stack(taylor)
    yield "influence", torch.stack(influence)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
