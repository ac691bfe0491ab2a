"""Edits of tiny models of every architecture, and transformers' models edited likewise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from generator.ir.job import Job, parameters
from generator.ir.sources import Init, keys
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from generator.passes import EDITS
from tests.oracle import _blocks, job_of, tiny
from tests.parity.test_generated_models import KINDS


@dataclass(frozen=True)
class Tiny:
    job: Job
    theirs: PreTrainedModel
    tensors: dict[str, Tensor]


def make(kind: str, seed: int = 0, **changes: Any) -> Tiny:
    """A tiny model of an architecture as imported; `changes` are of its configuration."""
    config = KINDS[kind](random.Random(f"{kind}-{seed}"))
    for name, value in changes.items():
        name = {v: k for k, v in config.attribute_map.items()}.get(name, name)
        name = config.attribute_map.get(name, name)
        setattr(config, name, value)
    theirs, card, tensors = tiny(config, seed=seed)
    task = "image-classification" if kind == "vit" else "text-classification"
    return Tiny(job_of(card, tensors, task), theirs, tensors)


def in_double(batch: Mapping[str, Tensor | None]) -> dict[str, Any]:
    """The batch with its pixels, if it has any, as a model of fp64 takes them."""
    return {
        name: t.double() if t is not None and name == "pixels" else t
        for name, t in batch.items()
    }


def edited(job: Job, do: str, **arguments: Any) -> Job:
    """The job after an edit, as its text says it again."""
    after, _ = EDITS[do].run(job, **arguments)
    verify(after, after=do)
    assert parse_job(print_job(after)) == after
    return after


class Skipped(nn.Module):
    """A block that gives what it takes, in the form in which the block gives it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        out = self.block(x, *args, **kwargs)
        return (x, *out[1:]) if isinstance(out, tuple) else x


@contextmanager
def as_edited(theirs: PreTrainedModel, job: Job) -> Iterator[PreTrainedModel]:
    """transformers' model with what the job's reference plan says done to it."""
    blocks = _blocks(theirs)
    before = list(blocks)
    ours = job.reference.blocks or range(len(before))
    own = [not i.zeros for i in job.model.blocks]
    kept = [theirs for theirs, there in zip(ours, own, strict=True) if there]
    for i, block in enumerate(before):
        blocks[i] = block if i in kept else Skipped(block)
    try:
        yield theirs
    finally:
        for i, block in enumerate(before):
            blocks[i] = block


def vectors(kind: str, pool: str, x: Tensor, mask: Tensor | None, p: Any) -> Tensor:
    """The vector of each row, one row after another."""
    if kind == "vit" and pool != "first":
        x = x[:, 1:]  # the class token is no patch
    rows = list(x) if mask is None else [row[real] for row, real in zip(x, mask)]

    def one(row: Tensor) -> Tensor:
        match pool:
            case "first":
                return row[0]
            case "last":
                return row[-1]
            case "mean":
                return row.mean(0)
            case "max":
                return row.max(0).values
        return (row @ p["score.weight"][0]).softmax(0) @ row

    return torch.stack(list(map(one, rows)))


def labels(x: Tensor, p: Any) -> Tensor:
    return x @ p["label.weight"].T + p.get("label.bias", 0)


Head = Callable[[Tensor, Any, Any], Tensor]


@contextmanager
def with_head(
    theirs: PreTrainedModel, job: Job, head: Head
) -> Iterator[tuple[PreTrainedModel, dict[str, str]]]:
    """transformers' model with the logits that `head` makes of its last states.

    `head` also takes the real positions, or None, and its parameters by their names in
    our classifier. With the model come the names in it of our new parameters.
    """
    sources = {p.path: p for p in parameters(job) if p.path.startswith("classifier.")}
    new = {
        path: f"hand.{path.replace('.', '_')}"
        for path, p in sources.items()
        if isinstance(p.source, Init)
    }
    theirs.hand = nn.ParameterDict(
        {
            name.removeprefix("hand."): torch.zeros(sources[path].shape).double()
            for path, name in new.items()
        }
    )

    def forward(attention_mask: Tensor | None = None, **given: Any) -> Any:
        if attention_mask is not None:
            given["attention_mask"] = attention_mask
        states = theirs.base_model(**given).last_hidden_state
        p = {
            path.removeprefix("classifier."): theirs.get_parameter(
                new.get(path) or keys(info.source)[0]
            )
            for path, info in sources.items()
        }
        mask = None if attention_mask is None else attention_mask.bool()
        return SimpleNamespace(logits=head(states, mask, p))

    theirs.forward = forward  # type: ignore[method-assign]
    try:
        yield theirs, new
    finally:
        del theirs.forward, theirs.hand
