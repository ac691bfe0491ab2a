"""Edits of tiny models of every architecture, and transformers' models edited likewise."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from generator.errors import GenError
from generator.ir.job import Job, Op, parameters
from generator.ir.sources import Init, Resize, Source, Stretch, Tile, keys
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from generator.ir.weightmap import WeightMap
from generator.passes import EDITS
from generator.render import kept as lists
from generator.runtime.interpret import evaluate_source, load
from tests.oracle import _blocks, batches_of, job_of, lifted, tiny
from tests.parity.generated import assert_same, generated, name_of
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


# By default 0. Of width 2, as this one is then, a norm gives 1 and -1 and no gradient.
SEEDS = {"ernie": 1}


def make(kind: str, seed: int | None = None, **changes: Any) -> Tiny:
    """A tiny model of an architecture as imported; `changes` are of its configuration."""
    seed = SEEDS.get(kind, 0) if seed is None else seed
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


def as_extended(made: Tiny, job: Job) -> Tiny:
    """With transformers' model as its own configuration of more positions, or of larger
    images, makes it, and the table of positions that goes there."""
    plan = job.reference
    if not plan.positions and not plan.size:
        return made
    config, tensors = copy.deepcopy(made.theirs.config), dict(made.tensors)
    state = made.theirs.state_dict()
    if plan.positions:
        config.max_position_embeddings = plan.positions
        for op in (op for m in job.model.modules for op in m.ops):
            if op.kind == "rope_tables":
                config.rope_parameters = rope_parameters(op)
    else:
        config.image_size = plan.size
    for info in parameters(job):
        if isinstance(info.source, (Tile, Stretch, Resize)):
            (key,) = keys(info.source)
            tensors[key] = longer(made, info.source, plan.size)
            state[made.names[key]] = tensors[key]
    with lifted():
        theirs = type(made.theirs)(config).double().eval()
    theirs.load_state_dict(state)
    return Tiny(job, theirs, tensors)


def rope_parameters(op: Op) -> dict[str, Any]:
    """transformers' of a scaled rope; the rest of them follows from these."""
    names = {"rope_type": "kind", "rope_theta": "theta", "factor": "factor"}
    names["original_max_position_embeddings"] = "original_positions"
    attrs = op.attrs_dict
    return {there: attrs[name] for there, name in names.items() if name in attrs}


def longer(made: Tiny, source: Source, size: tuple[int, ...]) -> Tensor:
    """The table of positions that a source stands for, by hand or by transformers."""
    (key,) = keys(source)
    table = made.tensors[key]
    match source:
        case Tile(_, rows, first):
            order = list(range(len(table)))
            while len(order) < rows:
                order.append(
                    order[first + (len(order) - len(table)) % (len(table) - first)]
                )
            return table[order]
        case Stretch(_, rows, first):
            rest = table[first:]
            lines = torch.nn.functional.interpolate(
                rest.T[None], rows - first, mode="linear", align_corners=True
            )
            return torch.cat([table[:first], lines[0].T])
    embeddings: Any = made.theirs.base_model.embeddings
    height, width = size
    patch = embeddings.patch_size
    there = torch.empty(1, height // patch * (width // patch) + 1, table.shape[2])
    return embeddings.interpolate_pos_encoding(there, height, width).detach()


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
    ours = job.reference.blocks or range(len(before))
    there = [not i.zeros for i in job.model.blocks]
    kept = [theirs for theirs, real in zip(ours, there, strict=True) if real]
    parameters = dict(theirs.named_parameters())
    own = {name: p.detach().clone() for name, p in parameters.items()}
    cut = {key for key, _ in job.reference.ranks}
    with torch.no_grad():
        for key, value in as_cut(made.tensors, job).items():
            if key in cut:
                parameters[names[key]].copy_(value)
        for key, name in job.reference.masked:
            matrix = parameters[names[key]]
            columns = torch.zeros(matrix.shape[1], dtype=torch.float64)
            columns[list(job.model.kept[name])] = 1
            matrix.mul_(columns)
        for key, name in job.reference.masked_rows:
            matrix = parameters[names[key]]
            rows = torch.zeros(matrix.shape[0], dtype=torch.float64)
            rows[list(job.model.kept[name])] = 1
            matrix.mul_(rows[:, None])
    hooks = list(_narrowed(theirs, before, job)) if job.reference.width else []
    for i, block in enumerate(before):
        blocks[i] = block if i in kept else Skipped(block)
    try:
        yield theirs
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for name, value in own.items():
                parameters[name].copy_(value)
        for i, block in enumerate(before):
            blocks[i] = block


WRITERS = (
    "embed_tokens",
    "o_proj",
    "down_proj",
)  # of transformers' Llama, to its stream


def _narrowed(theirs: PreTrainedModel, blocks: list[Any], job: Job) -> Iterator[Any]:
    """Leaves the channels of the width that are kept: what is written to the others is set
    to zero where norms are RMS norms; else norms are of ours alone. The hooks are given.
    """
    ours = torch.tensor(job.model.kept["width"])
    others = torch.ones(job.reference.width, dtype=torch.bool)
    others[ours] = False
    if theirs.config.model_type == "llama":
        for name, module in theirs.named_modules():
            if name.endswith(WRITERS):
                yield module.register_forward_hook(
                    lambda _m, _a, out: out.masked_fill(others, 0)
                )
        return

    def masked(_block: Any, args: Any) -> Any:
        return args[0].masked_fill(others, 0), *args[1:]

    def narrow(norm: Any, args: Any, out: Tensor) -> Tensor:
        x = args[0][..., ours]
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(
            x.var(-1, unbiased=False, keepdim=True) + norm.eps
        )
        y = torch.zeros_like(out)
        y[..., ours] = x * norm.weight[ours] + norm.bias[ours]
        return y

    for block in blocks:
        yield block.register_forward_pre_hook(masked)
    for module in theirs.modules():
        if isinstance(module, nn.LayerNorm) and module.weight.shape == others.shape:
            yield module.register_forward_hook(narrow)


def assert_equal_to_edited(
    made: Tiny,
    job: Job,
    folder: Path,
    tolerance: float = 1e-9,
    ids: list[int] | None = None,
) -> Any:
    """The generated model of an edited job computes what transformers' does, edited
    likewise; it is given back. Its state dict loads strictly.

    `ids` are transformers' own of our tokens, where only some are kept.
    """
    if found := lists.render(job):
        (folder / lists.FILE).write_bytes(found)
    model, _ = generated(job, made.tensors, folder)
    stored, made = made.tensors, as_extended(made, job)
    cut = as_cut(made.tensors, job)
    with as_edited(made, job) as theirs:
        assert_same(
            model,
            job,
            theirs,
            cut,
            names=made.names,
            loaded=stored,
            tolerance=tolerance,
            ids=ids,
        )
    model.load_state_dict(model.state_dict(), strict=True)
    return model


def as_cut(tensors: Mapping[str, Tensor], job: Job) -> dict[str, Tensor]:
    """The checkpoint with the ranks that the job's reference plan says."""
    found = dict(tensors)
    for key, rank in job.reference.ranks:
        u, s, v = torch.linalg.svd(tensors[key], full_matrices=False)
        found[key] = u[:, :rank] @ s[:rank].diag() @ v[:rank]
    return found


def trains(model: Any, job: Job, all_move: bool = True) -> None:
    """Two steps move the blocks' matrices, or some of them, and the model that is saved
    loads strictly."""
    (batch,) = [*batches_of(job)][-1:]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        model(*batch.values()).logsumexp(1).sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
    # What reads one of several embeddings may not move; matrices of the blocks do.
    moved = {
        name: not torch.equal(p, before[name])
        for name, p in model.named_parameters()
        if "blocks" in name and p.ndim == 2
    }
    assert all(moved.values()) if all_move else any(moved.values()), moved
    fresh = type(model)().to(next(model.parameters()).dtype)
    fresh.load_state_dict(model.state_dict(), strict=True)


def refused(do: str, job: Job, **arguments: Any) -> tuple[str, str, str]:
    """The code, the message and the mend with which an edit refuses."""
    with pytest.raises(GenError) as caught:
        EDITS[do].run(job, **arguments)
    (found,) = caught.value.diagnostics
    return found.code, found.message, found.help


def as_mapped(before: Job, after: Job, weights: WeightMap, tensors) -> None:
    """The sources of an edited job say the same as the weight map of the edit."""
    old, new = load(before, tensors), load(after, tensors)
    infos = parameters(after)
    for info in infos:
        value = evaluate_source(weights.source(info.path), old, info.shape)
        assert torch.equal(value, new[info.path]), info.path
    left = {p.path for p in parameters(before)} - {p.path for p in infos}
    assert weights.dropped == left


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
    theirs: PreTrainedModel, job: Job, head: Head, deep: bool = False
) -> Iterator[tuple[PreTrainedModel, dict[str, str]]]:
    """transformers' model with the logits that `head` makes of its last states.

    With `deep` it takes those of every depth, stacked, the last ones as they are given.

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
        output = theirs.base_model(**given, output_hidden_states=deep)
        states = output.last_hidden_state
        if deep:
            states = torch.stack([*output.hidden_states[:-1], states])
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
