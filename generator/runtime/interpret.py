"""An interpreter of the IR: what a job computes, from the definitions of its operations.

It is what rendered models and passes are compared with, so it shares nothing with the
templates and calls none of torch's fused functions: attention is written out, norms are
their formulas. It is slow, differentiable, works in the dtype of the parameters, and
always evaluates: dropout does nothing.

It takes nothing but the printed form of a job: every entry prints the job it is given
and works on what that text parses to.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce

import torch
from torch import Tensor

from generator.ir.dims import Dim
from generator.ir.job import Const, Job, Model, Module, Op
from generator.ir.job import parameters as infos
from generator.ir.sources import (
    Checkpoint,
    Concatenate,
    Fold,
    Gain,
    Init,
    Left,
    Noise,
    Norms,
    Parameter,
    Repeat,
    Resize,
    Right,
    Row,
    Rows,
    Share,
    Source,
    Stretch,
    Sum,
    Take,
    Tie,
    Tile,
    Transpose,
)
from generator.ir.text import parse_job, print_job

Attrs = Mapping[str, object]  # with constants and dimensions replaced by numbers
Params = Mapping[str, Tensor]  # by what follows the operation's name: "weight"


@lru_cache(maxsize=64)
def _parsed(text: str) -> Job:
    return parse_job(text)


def through_text(job: Job) -> Job:
    """The job that its printed form parses to."""
    return _parsed(print_job(job))


# --------------------------------------------------------------------------- parameters


def evaluate_source(
    source: Source,
    tensors: Mapping[str, Tensor],
    shape: Sequence[int],
    generator: torch.Generator | None = None,
) -> Tensor:
    """The value of a source; `tensors` has those of its leaves by key or by path.

    An initialisation is of `shape`, drawn in fp64 from `generator` so that it does not
    depend on the dtype that it is then used in. KeyError names a leaf that is not there.
    """

    def made(inner: Source) -> Tensor:
        return evaluate_source(inner, tensors, shape, generator)

    match source:
        case Checkpoint(name) | Parameter(name) | Tie(name):
            return tensors[name]
        case Init("normal", std):
            noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return noise * std
        case Init("kaiming", slope):
            noise = torch.rand(*shape, generator=generator, dtype=torch.float64)
            return (2 * noise - 1) * math.sqrt(6 / ((1 + slope**2) * shape[-1]))
        case Init(_, value):
            return torch.full(tuple(shape), value, dtype=torch.float64)
        case Concatenate(parts):
            return torch.cat([made(p) for p in parts], 0)
        case Sum(parts):
            return sum_of([made(p) for p in parts])
        case Rows(of, start, stop):
            return made(of)[start:stop]
        case Row(of, index):
            return made(of)[index]
        case Take(of, axis, _, index):
            value = made(of)
            return value.index_select(axis, torch.tensor(index, device=value.device))
        case Transpose(of):
            return made(of).transpose(0, 1)
        case Norms(of):
            rows = made(of)
            return torch.sqrt((rows * rows).sum(1))
        case Repeat(of, rows):
            x = made(of)
            return torch.stack([x[i % len(x)] for i in range(rows)])
        case Share(of, columns):
            x = made(of)
            old = [i % x.shape[1] for i in range(columns)]
            return torch.stack([x[:, i] / old.count(i) for i in old], 1)
        case Noise(of, start, std):
            x = made(of)
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            noise[:start] = 0.0
            return x + (std * x.std() * noise).to(x.dtype)
        case Gain(of, before, after):
            return made(of) * math.sqrt(before / after)
        case Fold(bias, matrix, vector, times, width, _, index):
            total, w, v = made(bias), made(matrix), made(vector)
            for column in sorted(set(range(w.shape[1])) - set(index)):
                group, place = divmod(column, width)
                total = total + w[:, column] * v[group // times * width + place]
            return total
        case Left(of, rank):
            return factors_of(made(of), rank)[0]
        case Right(of, rank):
            return factors_of(made(of), rank)[1]
        case Tile(of, rows, first):
            x = made(of)
            again = len(x) - first
            old = [i if i < first else first + (i - first) % again for i in range(rows)]
            return torch.stack([x[i] for i in old])
        case Stretch(of, rows, first):
            x = made(of)
            return torch.cat([x[:first], _linear_rows(x[first:], rows - first)])
        case Resize(of, before, after):
            x = made(of)
            first = len(x) - math.prod(before)
            grid = x[first:].unflatten(0, before)
            tall, wide = (_keys(n, m).to(x) for n, m in zip(before, after))
            grid = torch.einsum("ir,jc,rcd->ijd", tall, wide, grid)
            return torch.cat([x[:first], grid.flatten(0, 1)])


def factors_of(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """`Left` and `Right` of a matrix, in fp64.

    The sign of a singular vector is free. Here the largest number of each row of the
    right factor is positive, so that two factors made apart fit each other.
    """
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    sign = v.gather(1, v.abs().argmax(1, keepdim=True)).sign()[:rank]
    root = s[:rank].sqrt()[:, None]
    return u[:, :rank] * (sign * root).T, sign * root * v[:rank]


def _linear_rows(x: Tensor, rows: int) -> Tensor:
    """`rows` rows at even steps on the lines from row to row, the ends included."""
    found = []
    for i in range(rows):
        at = i * (len(x) - 1) / max(rows - 1, 1)
        below = int(at)
        above = min(below + 1, len(x) - 1)
        found.append(x[below] * (1 - (at - below)) + x[above] * (at - below))
    return torch.stack(found)


def _keys(old: int, new: int) -> Tensor:
    """(new, old), fp64: the weights of bicubic interpolation along an axis, see `Resize`."""

    def kernel(x: float) -> float:
        a, x = -0.75, abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    weights = torch.zeros(new, old, dtype=torch.float64)
    for i in range(new):
        at = (i + 0.5) * old / new - 0.5
        for near in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[i, min(max(near, 0), old - 1)] += kernel(at - near)
    return weights


def sum_of(values: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, values)


def load(job: Job, tensors: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Every parameter by its name in the state dict, from the checkpoint's tensors.

    A new parameter depends on `seed` and its path alone. All are of one dtype, the widest
    of the checkpoint's and at least f32; a tied one is the very tensor of the other.
    """
    dtype = reduce(
        torch.promote_types,
        (t.dtype for t in tensors.values() if t.is_floating_point()),
        torch.float32,
    )
    loaded: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    for info in infos(through_text(job)):
        if isinstance(info.source, Tie):
            ties[info.path] = info.source.path
            continue
        value = evaluate_source(
            info.source, tensors, info.shape, _generator(seed, info.path)
        )
        loaded[info.path] = value.detach().to(dtype).clone()
    for path in ties:
        loaded[path] = loaded[_tied(path, ties)]
    return loaded


def _generator(seed: int, path: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {path}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def _tied(path: str, ties: Mapping[str, str]) -> str:
    """The parameter at the end of a chain of ties."""
    seen = {path}
    while path in ties:
        path = ties[path]
        if path in seen:
            raise ValueError(f"parameter {path} is tied to itself")
        seen.add(path)
    return path


# -------------------------------------------------------------------------- the model


def run(
    job: Job, parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor | None]
) -> Tensor:
    """The logits (B, K). `inputs` go by the names of the model's; an optional one may
    be None or left out. Of tied parameters, the one that is tied to is read."""
    return trace(job, parameters, inputs)["logits"]


def trace(
    job: Job, parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor | None]
) -> dict[str, Tensor]:
    """What every call gives, by the instance's path ("blocks.0"), and the "logits".

    A second call of one instance is "blocks.0#2"; of a call that gives several values,
    the later ones are "blocks.0:1", "blocks.0:2".
    """
    job = through_text(job)
    ties = {i.path: i.source.path for i in infos(job) if isinstance(i.source, Tie)}
    state = {path: parameters[_tied(path, ties)] for path in {*parameters, *ties}}
    first = next(iter(state.values()))
    machine = _Machine(job.model, state, first.dtype, first.device)
    given = [inputs.get(v.name) for v in job.model.main.inputs]
    for value, tensor in zip(job.model.main.inputs, given, strict=True):
        if tensor is None and not value.type.optional:
            raise ValueError(f'the model needs the input "{value.name}"')
    (logits,) = machine.module(job.model.main, "", given, {})
    assert logits is not None
    machine.seen["logits"] = logits
    return machine.seen


@dataclass
class _Machine:
    """Runs modules and keeps what every call gives."""

    model: Model
    state: Mapping[str, Tensor]
    dtype: torch.dtype
    device: torch.device
    seen: dict[str, Tensor] = field(default_factory=dict)

    def module(
        self,
        module: Module,
        path: str,
        args: Sequence[Tensor | None],
        scope: Mapping[str, Dim],
    ) -> tuple[Tensor | None, ...]:
        """What a module gives; `scope` are the sizes that it takes."""
        values: dict[str, Tensor | None] = {
            v.name: a for v, a in zip(module.inputs, args, strict=True)
        }
        for op in module.ops:
            operands = [values[a] for a in op.args]
            if op.kind in ("call", "repeat"):
                results = self.call(module, op, path, operands, scope)
            else:
                attrs = {name: self.number(value, scope) for name, value in op.attrs}
                if op.kind == "select":
                    attrs["index"] = self.model.kept[str(attrs["by"])]
                params = self.params(module, op, path)
                if op.kind == "rescale":  # its buffers, where something has set them
                    both = {name: path + name for name in ("scale", "shift")}
                    held = {n: at for n, at in both.items() if at in self.state}
                    params |= {n: self.state[at] for n, at in held.items()}
                here = _Here(params, attrs, self.dtype, self.device)
                results = OPERATIONS[op.kind](here, *operands)
            for result, value in zip(op.results, results, strict=True):
                values[result.name] = value
        return tuple(values[name] for name in module.outputs)

    def call(
        self,
        module: Module,
        op: Op,
        path: str,
        args: Sequence[Tensor | None],
        scope: Mapping[str, Dim],
    ) -> tuple[Tensor | None, ...]:
        """A module once, or in a row: what one gives is the first operand of the next."""
        instance = module.instance(op.name)
        inner = self.model.by_name[instance.module]
        results: tuple[Tensor | None, ...] = ()
        within = instance.within(scope)
        for name, _, _ in instance.each():
            results = self.module(inner, f"{path}{name}.", args, within)
            args = [*results, *args[len(results) :]]
            self.keep(path + name, results)
        return results

    def keep(self, path: str, results: tuple[Tensor | None, ...]) -> None:
        time, label = 1, path
        while label in self.seen:
            time += 1
            label = f"{path}#{time}"
        for place, value in enumerate(results):
            if value is not None:
                self.seen[f"{label}:{place}" if place else label] = value

    def params(self, module: Module, op: Op, path: str) -> dict[str, Tensor]:
        """An operation's parameters by what follows its name; its own by ""."""
        found = {}
        for p in module.parameters:
            stem, dot, last = p.name.rpartition(".")
            if p.name == op.name:
                found[""] = self.state[path + p.name]
            elif dot and stem == op.name:
                found[last] = self.state[path + p.name]
        return found

    def number(self, value: object, scope: Mapping[str, Dim]) -> object:
        """An attribute with its constants and dimensions as numbers."""
        match value:
            case Const(name):
                return self.model.constants[name]
            case Dim():
                return value.substitute(scope).value(self.model.sizes)
            case tuple():
                return tuple(self.number(v, scope) for v in value)
            case _:
                return value


# ----------------------------------------------------------------------- the operations
# Shapes: B batch, T positions, S positions asked for, C width, H query heads, G key and
# value heads, D head width, c channels. A mask is true at real tokens.


@dataclass(frozen=True)
class _Here:
    """What an operation has beside its operands."""

    params: Params
    attrs: Attrs
    dtype: torch.dtype
    device: torch.device

    def integer(self, name: str) -> int:
        value = self.attrs[name]
        assert isinstance(value, int)
        return value

    def real(self, name: str, default: float | None = None) -> float:
        value = self.attrs.get(name, default)
        assert isinstance(value, (int, float)), name
        return float(value)


Results = tuple[Tensor, ...]


def _linear(here: _Here, x: Tensor) -> Results:
    y = torch.einsum("...i,oi->...o", x, here.params["weight"])
    return (y + here.params["bias"] if "bias" in here.params else y,)


def _lora_linear(here: _Here, x: Tensor) -> Results:
    """x (W + scale B A)^T + b: LoRA (Hu et al., 2021)."""
    (y,) = _linear(here, x)
    low = torch.einsum("...i,ri->...r", x, here.params["lora_a"])
    added = torch.einsum("...r,or->...o", low, here.params["lora_b"])
    return (y + here.real("scale") * added,)


def _dora_linear(here: _Here, x: Tensor) -> Results:
    """x (m V / |V|)^T + b with V = W + scale B A and |V| its rows' lengths.

    DoRA (Liu et al., 2024). As in its section 4.3 no gradient goes through |V|.
    """
    p = here.params
    direction = p["weight"] + here.real("scale") * p["lora_b"] @ p["lora_a"]
    lengths = torch.sqrt((direction * direction).sum(1)).detach()
    y = torch.einsum("...i,oi->...o", x, direction) * (p["magnitude"] / lengths)
    return (y + p["bias"] if "bias" in p else y,)


def _ia3_linear(here: _Here, x: Tensor) -> Results:
    """A linear of x times a vector, or a linear times one: (IA)3 (Liu et al., 2022)."""
    gain = here.params["gain"]
    if here.attrs["of"] == "input":
        return _linear(here, x * gain)
    (y,) = _linear(here, x)
    return (y * gain,)


def _layer_norm(here: _Here, x: Tensor) -> Results:
    """(x - mean) / sqrt(variance + eps) * weight + bias, variance over all C (not C-1)."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    y = centred / torch.sqrt(variance + here.real("eps")) * here.params["weight"]
    return (y + here.params["bias"] if "bias" in here.params else y,)


def _rms_norm(here: _Here, x: Tensor) -> Results:
    """x / sqrt(mean of squares + eps) * weight."""
    squares = (x * x).mean(-1, keepdim=True)
    return (x / torch.sqrt(squares + here.real("eps")) * here.params["weight"],)


def _embedding(here: _Here, ids: Tensor) -> Results:
    return (here.params["weight"][ids],)


def _positions(here: _Here, x: Tensor) -> Results:
    """The first T rows: (T, C)."""
    return (here.params["weight"][: x.shape[1]],)


def _token_places(here: _Here, ids: Tensor) -> Results:
    """Of every token the number of those up to it, plus padding; of padding, padding."""
    padding = here.integer("padding")
    rows = []
    for row in ids.tolist():
        seen, places = 0, []
        for token in row:
            seen += token != padding
            places.append(padding + (seen if token != padding else 0))
        rows.append(places)
    return (torch.tensor(rows, device=ids.device).view_as(ids),)


def _row(here: _Here) -> Results:
    return (here.params["weight"][here.integer("index")],)


def _parameter(here: _Here) -> Results:
    return (here.params[""],)


def _add(here: _Here, a: Tensor, b: Tensor) -> Results:
    return (a + b,)


def _multiply(here: _Here, a: Tensor, b: Tensor) -> Results:
    return (a * b,)


def _dropout(here: _Here, x: Tensor) -> Results:
    return (x,)


def _activation(here: _Here, x: Tensor) -> Results:
    return (ACTIVATIONS[str(here.attrs["kind"])](x),)


def _sigmoid(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(x / 2))  # the same function, and it never overflows


def _gelu_tanh(x: Tensor) -> Tensor:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + torch.tanh(inner))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "relu": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "silu": lambda x: x * _sigmoid(x),
    "tanh": torch.tanh,
}


def _heads(here: _Here, x: Tensor) -> Results:
    """(B, T, sum of counts * D) to one (B, count, T, D) a count."""
    counts, width = here.attrs["heads"], here.integer("width")
    assert isinstance(counts, tuple)
    B, T, _ = x.shape
    results, start = [], 0
    for count in counts:
        part = x[:, :, start : start + count * width]
        results.append(part.reshape(B, T, count, width).permute(0, 2, 1, 3))
        start += count * width
    return tuple(results)


def _merge_heads(here: _Here, x: Tensor) -> Results:
    B, H, S, D = x.shape
    return (x.permute(0, 2, 1, 3).reshape(B, S, H * D),)


def _attention(
    here: _Here, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> Results:
    """softmax(q k^T / sqrt(D)) v over the keys that a query may see.

    Head h of the H reads key head h*G//H of the G.
    """
    _, H, S, D = q.shape
    G, T = k.shape[1], k.shape[2]
    shared = [h * G // H for h in range(H)]
    scores = torch.einsum("bhsd,bhtd->bhst", q, k[:, shared]) / math.sqrt(D)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    if here.attrs["causal"]:
        i, j = torch.arange(S, device=q.device), torch.arange(T, device=q.device)
        scores = scores.masked_fill(j[None, :] > i[:, None], -math.inf)
    # The largest is taken off before exp, which changes nothing but overflow.
    weights = torch.exp(scores - scores.detach().amax(-1, keepdim=True))
    weights = weights / weights.sum(-1, keepdim=True)
    return (torch.einsum("bhst,bhtd->bhsd", weights, v[:, shared]),)


def _key_mask(here: _Here, mask: Tensor | None) -> tuple[Tensor | None, ...]:
    return (None if mask is None else mask[:, None, None, :],)


def _first(here: _Here, x: Tensor) -> Results:
    return (x[:, 0],)


def _mean(here: _Here, x: Tensor, mask: Tensor | None = None) -> Results:
    """The mean of the real positions of each row: (B, C)."""
    return (_each_row(x, mask, lambda row: row.sum(0) / len(row)),)


def _largest(here: _Here, x: Tensor, mask: Tensor | None = None) -> Results:
    """The largest value of each channel at the real positions of a row: (B, C)."""
    return (_each_row(x, mask, lambda row: row.amax(0)),)


def _weighted_mean(
    here: _Here, x: Tensor, scores: Tensor, mask: Tensor | None = None
) -> Results:
    """sum of softmax(scores) x over the real positions of each row: (B, C)."""

    def mean(row: Tensor) -> Tensor:
        values, score = row[:, :-1], row[:, -1:]
        weights = torch.exp(score - score.detach().amax())
        return (weights * values).sum(0) / weights.sum()

    return (_each_row(torch.cat([x, scores], -1), mask, mean),)


def _each_row(
    x: Tensor, mask: Tensor | None, pool: Callable[[Tensor], Tensor]
) -> Tensor:
    """What `pool` makes of the real positions (n, C) of each row."""
    rows = x if mask is None else [row[real] for row, real in zip(x, mask)]
    return torch.stack([pool(row) for row in rows])


def _join(here: _Here, *parts: Tensor) -> Results:
    """Vectors of each row, one behind the other."""
    rows = [torch.cat(row) for row in zip(*parts, strict=True)]
    return (torch.stack(rows),)


def _flatten(here: _Here, x: Tensor) -> Results:
    """The vectors (B, T, C) of each row, one behind the other: (B, T*C)."""
    return (torch.stack([torch.cat(list(row)) for row in x]),)


def _select(here: _Here, x: Tensor) -> Results:
    index = here.attrs["index"]
    assert isinstance(index, tuple)
    return (torch.stack([x[:, i] for i in index], 1),)


def _rescale(here: _Here, x: Tensor) -> Results:
    scale, shift = here.params.get("scale", 1.0), here.params.get("shift", 0.0)
    return (x * scale + shift,)


def _rest(here: _Here, x: Tensor) -> Results:
    return (x[:, 1:],)


def _narrow(here: _Here, x: Tensor) -> Results:
    return (x[:, :1],)


def _last_index(here: _Here, ids: Tensor, mask: Tensor | None) -> Results:
    """The place of every row's last real token, in a text no padding token; else 0."""
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    if "padding" in here.attrs:
        real = real & (ids != here.integer("padding"))
    found = [[i for i, r in enumerate(row) if r] for row in real.tolist()]
    return (torch.tensor([max(row, default=0) for row in found], device=ids.device),)


def _keys_until(here: _Here, ids: Tensor, index: Tensor) -> Results:
    places = torch.arange(ids.shape[1], device=ids.device)
    return ((places[None, :] <= index[:, None])[:, None, None, :],)


def _pick(here: _Here, x: Tensor, index: Tensor) -> Results:
    """(B, T, C) at one position a row: (B, 1, C)."""
    return (torch.stack([row[i : i + 1] for row, i in zip(x, index.tolist())]),)


def _pick_rows(here: _Here, table: Tensor, index: Tensor) -> Results:
    """(T, D) at one position a row of the batch: (B, 1, 1, D)."""
    return (table[index][:, None, None, :],)


def _patches(here: _Here, pixels: Tensor) -> Results:
    """(B, c, height, width) in patches from left to right, top to bottom: (B, T, C)."""
    weight = here.params["weight"]  # (C, c, patch height, patch width)
    size = (weight.shape[2], weight.shape[3])
    cut = torch.nn.functional.unfold(pixels, size, stride=size)  # (B, c*p*q, T)
    y = torch.einsum("bit,oi->bto", cut, weight.flatten(1))
    return (y + here.params["bias"] if "bias" in here.params else y,)


def _prepend(here: _Here, x: Tensor, token: Tensor) -> Results:
    B, _, C = x.shape
    return (torch.cat([token.reshape(1, 1, C).expand(B, 1, C), x], 1),)


def _rope_tables(here: _Here, ids: Tensor) -> Results:
    """Cosine and sine of position times frequency, twice over: (T, D) each."""
    frequencies, scale = inverse_frequencies(here)
    positions = torch.arange(ids.shape[1], dtype=torch.float64, device=here.device)
    angles = positions[:, None] * frequencies.to(here.device)[None, :]
    angles = torch.cat([angles, angles], -1)
    return (
        (torch.cos(angles) * scale).to(here.dtype),
        (torch.sin(angles) * scale).to(here.dtype),
    )


def _rotate(here: _Here, x: Tensor, cos: Tensor, sin: Tensor) -> Results:
    """Rotates each pair (i, i + D/2) of a head by its angle."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    c, s = cos[..., :half], sin[..., :half]
    return (torch.cat([a * c - b * s, b * c + a * s], -1),)


OPERATIONS: dict[str, Callable[..., tuple[Tensor | None, ...]]] = {
    "linear": _linear,
    "lora_linear": _lora_linear,
    "dora_linear": _dora_linear,
    "ia3_linear": _ia3_linear,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "embedding": _embedding,
    "positions": _positions,
    "token_places": _token_places,
    "row": _row,
    "parameter": _parameter,
    "add": _add,
    "multiply": _multiply,
    "dropout": _dropout,
    "activation": _activation,
    "heads": _heads,
    "merge_heads": _merge_heads,
    "attention": _attention,
    "key_mask": _key_mask,
    "first": _first,
    "mean": _mean,
    "largest": _largest,
    "weighted_mean": _weighted_mean,
    "join": _join,
    "flatten": _flatten,
    "rest": _rest,
    "select": _select,
    "rescale": _rescale,
    "narrow": _narrow,
    "last_index": _last_index,
    "keys_until": _keys_until,
    "pick": _pick,
    "pick_rows": _pick_rows,
    "patches": _patches,
    "prepend": _prepend,
    "rope_tables": _rope_tables,
    "rotate": _rotate,
}


# ------------------------------------------------------------------- rotary frequencies


def inverse_frequencies(here: _Here) -> tuple[Tensor, float]:
    """Radians a position of each of the D/2 pairs (fp64), and the scale of the tables.

    RoFormer (Su et al., 2021): theta^(-2i/D) for pair i. The kinds stretch them for
    longer texts than the model was trained on:

    - linear: position interpolation (Chen et al., 2023), all divided by factor;
    - llama3: Llama 3.1's, only waves longer than the old context are divided;
    - yarn: Peng et al. (2023), a ramp between divided and not, and a temperature;
    - longrope: Ding et al. (2024), a divisor for each pair, and a temperature given.
    """
    width, theta = here.integer("width"), here.real("theta")
    pairs = torch.arange(0, width, 2, dtype=torch.float64)
    plain = theta ** (-pairs / width)
    match here.attrs["kind"]:
        case "default":
            return plain, here.real("attention_factor", 1.0)
        case "linear":
            return plain / here.real("factor"), here.real("attention_factor", 1.0)
        case "llama3":
            return _llama3(here, plain), here.real("attention_factor", 1.0)
        case "yarn":
            factor = here.real("factor")
            scale = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
            return _yarn(here, plain), here.real("attention_factor", scale)
        case "longrope":
            divisors = torch.tensor(here.attrs["factors"], dtype=torch.float64)
            return plain / divisors, here.real("attention_factor")
        case kind:
            raise ValueError(f"no rope {kind!r}")


def _llama3(here: _Here, plain: Tensor) -> Tensor:
    """Waves shorter than context/high stay, longer than context/low are divided."""
    low, high = here.real("low_frequency_factor"), here.real("high_frequency_factor")
    factor, context = here.real("factor"), here.real("original_positions")
    turns = context * plain / (2 * math.pi)  # in the old context
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - share) * plain / factor + share * plain


def _yarn(here: _Here, plain: Tensor) -> Tensor:
    """Pairs that turn more than beta_fast times in the old context stay as they are."""
    width, theta = here.integer("width"), here.real("theta")
    context, factor = here.real("original_positions"), here.real("factor")

    def pair_that_turns(times: float) -> float:
        return width * math.log(context / (times * 2 * math.pi)) / (2 * math.log(theta))

    first = pair_that_turns(here.real("beta_fast", 32.0))
    last = pair_that_turns(here.real("beta_slow", 1.0))
    if here.attrs.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    span = last - first if last != first else 0.001
    pairs = torch.arange(width // 2, dtype=torch.float64)
    divided = ((pairs - first) / span).clamp(0, 1)
    return plain / factor * divided + plain * (1 - divided)
