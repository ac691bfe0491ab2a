"""Edits of tiny models of every architecture, and transformers' models edited likewise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from generator.ir.job import Job
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from generator.passes import EDITS
from tests.oracle import _blocks, job_of, tiny
from tests.parity.generated import name_of
from tests.parity.test_generated_models import KINDS


@dataclass(frozen=True)
class Tiny:
    job: Job
    theirs: PreTrainedModel
    tensors: dict[str, Tensor]

    @cached_property
    def names(self) -> dict[str, str]:
        """transformers' names of the checkpoint's tensors."""
        return {
            key: name_of(key, value, self.theirs)
            for key, value in self.tensors.items()
            if value.is_floating_point()
        }


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
def as_edited(made: Tiny, job: Job) -> Iterator[PreTrainedModel]:
    """transformers' model with what the job's reference plan says done to it."""
    theirs, names = made.theirs, made.names
    blocks = _blocks(theirs)
    before = list(blocks)
    kept = job.reference.blocks or range(len(before))
    parameters = dict(theirs.named_parameters())
    saved = {name: p.detach().clone() for name, p in parameters.items()}
    for key, name in job.reference.masked:
        named = names[key]
        columns = torch.zeros(parameters[named].shape[1], dtype=torch.float64)
        columns[list(job.model.kept[name])] = 1
        with torch.no_grad():
            parameters[named].mul_(columns)
    for i, block in enumerate(before):
        blocks[i] = block if i in kept else Skipped(block)
    try:
        yield theirs
    finally:
        with torch.no_grad():
            for name, value in saved.items():
                parameters[name].copy_(value)
        for i, block in enumerate(before):
            blocks[i] = block
