"""A pruned model's trained weights in the shape of the checkpoint that it was pruned from.

What was left out is zero there, so that a unit or a head gives nothing; its value bias is
zero too, as the output's bias has taken it up. What the model has is where it came from:
its sources, read backwards. The next step of pruning starts from that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from generator.ir.job import Job, parameters
from generator.ir.plans import ExportPlan
from generator.ir.sources import (
    Checkpoint,
    Concatenate,
    Fold,
    Gain,
    Init,
    Row,
    Rows,
    Source,
    Take,
    Tie,
    Transpose,
    shape_of,
)
from generator.runtime.interpret import evaluate_source


def unpruned(
    job: Job, trained: Mapping[str, Tensor], before: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of the checkpoint, fp32, as `before` has them but for what was trained.

    `trained` goes by the parameters of the job, which was loaded from `before`. New
    parameters are not among the tensors.
    """
    found = {key: x.float() for key, x in before.items()}
    for info in parameters(job):
        if not isinstance(info.source, Tie | Init):
            _put(info.source, trained[info.path].float(), found)
    return found


def _put(source: Source, value: Tensor, tensors: dict[str, Tensor]) -> None:
    """Have `tensors` be such that the source evaluates to this value."""
    match source:
        case Checkpoint(key):
            tensors[key] = value.contiguous()
        case Concatenate(parts):
            rows = [_shape(part, tensors)[0] for part in parts]
            for part, some in zip(parts, value.split(rows), strict=True):
                _put(part, some, tensors)
        case Take(of, axis, _, index):
            whole = torch.zeros(_shape(of, tensors))
            _put(of, whole.index_copy(axis, torch.tensor(index), value), tensors)
        case Row(of, index):
            whole = evaluate_source(of, tensors, ()).clone()
            whole[index] = value
            _put(of, whole, tensors)
        case Rows(of, start, stop):
            whole = evaluate_source(of, tensors, ()).clone()
            whole[start:stop] = value
            _put(of, whole, tensors)
        case Transpose(of):
            _put(of, value.transpose(0, 1), tensors)
        case Fold(bias=bias):
            _put(bias, value, tensors)
        case Gain(of, was, now):
            _put(of, value / math.sqrt(was / now), tensors)
        case _:
            raise ValueError(f"{type(source).__name__} cannot be read backwards")


def _shape(source: Source, tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    return shape_of(source, {key: tuple(x.shape) for key, x in tensors.items()}, ())


def as_saved(
    tensors: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    names: ExportPlan,
    left: frozenset[str],
) -> dict[str, Tensor]:
    """The tensors under the names that transformers' classifier has them by.

    `new` are parameters that no checkpoint had, by their paths here, and are there where
    the classifier has such a layer; the tensors of the keys `left` are no part of it.
    """
    heads = dict(names.heads)
    own = (names.base, *(f"{head}." for head in heads.values()))
    found = {
        key if key.startswith(own) else names.base + key: x
        for key, x in tensors.items()
        if key not in left
    }
    for path, value in new.items():
        layer, _, part = path.rpartition(".")
        if layer in heads:
            found[f"{heads[layer]}.{part}"] = value.float().contiguous()
    return found
