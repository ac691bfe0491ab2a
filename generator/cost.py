"""What a job costs, worked out from its IR before anything runs.

FLOPs count the matrix products alone, two for a multiplication and its addition: linear
layers, patches, and in attention the scores and the weighted sum. Norms, activations,
dropout, look-ups, rotations and the optimizer are left out: they move data and hardly
compute; so is DoRA's product of its two factors, once a step. What is counted is what the
IR does: one query where it asks for one position,
one position where the head reads one, and of a causal attention the pairs at and below
the diagonal.

The backward pass has for each product up to two of the same size: the gradient of the
input, counted where anything before it trains, and that of the weight, counted where the
weight trains. So it is twice the forward, less the gradients that nobody asks for: those
of frozen weights, and those of the inputs of frozen parts and of the pixels. Attention
has four products where both queries and keys have a gradient. A kernel that computes the
scores a second time rather than keep them does more than is counted.

Memory is what autograd keeps, tensor by tensor (a tensor that two operations keep
counts once), with the gradients and two moments of each trained parameter in fp32. It
leaves out the interpreter with its libraries, the data, and what an allocator holds back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from generator.ir.cut import halves
from generator.ir.deploy import weight_bytes
from generator.ir.dims import Dim, Type, number
from generator.ir.job import (
    Attr,
    Const,
    Job,
    Model,
    Module,
    Op,
    ParameterInfo,
    parameters,
)
from generator.ir.ops import ADAPTED
from generator.ir.plans import TextPlan
from generator.ir.sources import Tie
from generator.ir.stages import by_stage

ROWS, TOKENS = "B", "T"  # the dimensions that differ from batch to batch
DTYPE_BYTES: Mapping[str, int] = {"f32": 4, "i64": 8, "bool": 1}
# Operations whose result is another view of what they take.
VIEWS = frozenset(
    {"heads", "merge_heads", "first", "flatten", "rest", "narrow", "key_mask"}
)
# What has a weight that its input is multiplied by.
LINEARS = frozenset({"linear", "patches", *ADAPTED})
# Activations whose derivative is worked out from their result; the others keep the input.
BY_RESULT = frozenset({"relu", "tanh"})


@dataclass(frozen=True)
class Flops:
    """FLOPs of a row of T tokens: constant + per_token * T + per_pair * T**2."""

    constant: int = 0
    per_token: int = 0
    per_pair: int = 0

    def __call__(self, tokens: int) -> int:
        return self.constant + self.per_token * tokens + self.per_pair * tokens**2

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            self.constant + other.constant,
            self.per_token + other.per_token,
            self.per_pair + other.per_pair,
        )

    def times(self, n: int) -> Flops:
        return Flops(n * self.constant, n * self.per_token, n * self.per_pair)


@dataclass(frozen=True)
class Cost:
    """What a job costs; memory is for a batch of `rows` rows of `tokens` tokens."""

    parameters: int
    trained: int
    forward: Flops
    prefix: Flops  # of forward: what a cut model runs once, and not in a step
    backward: Flops
    predict: Flops  # the forward pass with adapters merged into the weights
    rows: int
    tokens: int
    train_bytes: int  # most at once in a training step
    predict_bytes: int  # most at once in a prediction
    saved_bytes: int  # of train_bytes: kept by the forward pass for the backward
    file_bytes: int  # the tensors of model.safetensors, without its header

    @property
    def step(self) -> Flops:
        """Forward, but for what has run before, and backward."""
        return self.rest + self.backward

    @property
    def rest(self) -> Flops:
        """What a step has of forward."""
        return self.forward + self.prefix.times(-1)


@dataclass(frozen=True)
class Stage:
    """A job on its way from the backbone to what the spec asks for."""

    name: str  # what was done last
    cost: Cost

    @property
    def figures(self) -> dict[str, str | int]:
        """As JSON files hold them."""
        cost = self.cost
        return {
            "after": self.name,
            "parameters": cost.parameters,
            "forward_flops": cost.forward(cost.tokens),
            "train_bytes": cost.train_bytes,
            "predict_bytes": cost.predict_bytes,
        }


@functools.lru_cache(maxsize=8)  # the model card, the bench and the build all ask
def describe(job: Job, tokens: int | None = None, rows: int | None = None) -> Cost:
    """The cost of a job, with rows of `tokens` tokens and batches of `rows` rows.

    They default to the longest row and the batch of the spec. For images there are no
    tokens to choose, and `tokens` says nothing. A training in stages costs what the stage
    does that takes the most memory, and trains what any of them does.
    """
    if job.stages:
        return replace(
            describe(by_stage(job)[costliest(job)], tokens, rows),
            trained=sum(_product(p.shape) for p in _own(job) if not p.frozen),
        )
    own = _own(job)
    if tokens is None:
        plan = job.data.inputs
        tokens = plan.max_tokens if isinstance(plan, TextPlan) else 1
    if rows is None:
        rows = job.train.batch or max(1, job.train.batch_tokens // tokens)
    steps = trace(job)
    count = sum(_product(p.shape) for p in own)
    trained = sum(_product(p.shape) for p in own if not p.frozen)
    sizes = {**job.model.sizes, ROWS: rows, TOKENS: tokens}
    train = _training(job, steps, sizes)
    prefix = trace(_prefix(job)) if job.model.cut else []
    averaged = job.train.ema > 0  # in a second model
    return Cost(
        parameters=count,
        trained=trained,
        forward=_flops(job.model, [s.forward for s in steps]),
        prefix=_flops(job.model, [s.forward for s in prefix]),
        backward=_flops(job.model, [s.backward for s in steps]),
        predict=_flops(job.model, [s.predict for s in steps]),
        rows=rows,
        tokens=tokens,
        train_bytes=4 * count * (1 + averaged) + 8 * trained + train.peak,
        predict_bytes=weight_bytes(job) + _prediction(job, steps, sizes),
        saved_bytes=train.saved,
        file_bytes=4 * count,
    )


def costliest(job: Job) -> int:
    """The number, from 0, of the stage whose steps take the most memory."""
    sizes = [describe(one).train_bytes for one in by_stage(job)]
    return sizes.index(max(sizes))


def _own(job: Job) -> list[ParameterInfo]:
    """The parameters that are not another one."""
    return [p for p in parameters(job) if not isinstance(p.source, Tie)]


# ------------------------------------------------------------------- the trace of a run


@dataclass(frozen=True)
class Tracked:
    """A value of a run. Views of one tensor have one `storage`, of `stored` elements."""

    type: Type  # in the dimensions of the whole model
    storage: int
    stored: Dim
    bytes_each: int
    needs_grad: bool

    def held(self, sizes: Mapping[str, int]) -> int:
        """Bytes of its storage."""
        return self.bytes_each * self.stored.value(sizes)

    def bytes(self, sizes: Mapping[str, int]) -> int:
        """Bytes of its own elements."""
        return self.bytes_each * elements(self.type).value(sizes)


@dataclass(frozen=True)
class Step:
    """One operation of a run, in its order, with calls written out."""

    op: Op
    args: tuple[Tracked, ...]
    results: tuple[Tracked, ...]
    weights: Mapping[str, tuple[Type, bool]]  # by the end of its name; does it train?
    chance: float  # of its dropout; 0.0 where it has none, or is frozen
    forward: Dim  # FLOPs
    backward: Dim
    predict: Dim  # forward, with an adapter merged into its linear


def trace(job: Job) -> list[Step]:
    """Every operation of a forward pass, in order."""
    return _Tracer(job).run()


def _prefix(job: Job) -> Job:
    """The job with its model up to the cut alone."""
    prefix, _ = halves(job.model)
    return replace(job, model=job.model.with_modules({prefix.name: prefix}))


@dataclass
class _Tracer:
    job: Job
    steps: list[Step] = field(default_factory=list)
    storages: int = 0

    def run(self) -> list[Step]:
        main = self.job.model.main
        inputs = [self._fresh(v.type, False) for v in main.inputs]
        self._module(main, "", inputs, {})
        return self.steps

    def _fresh(self, kind: Type, needs_grad: bool, size: int | None = None) -> Tracked:
        self.storages += 1
        each = size or DTYPE_BYTES[kind.dtype]
        return Tracked(kind, self.storages, elements(kind), each, needs_grad)

    def _module(
        self,
        module: Module,
        path: str,
        inputs: list[Tracked],
        bound: Mapping[str, Dim],
    ) -> list[Tracked]:
        """Trace a module; `bound` gives its varying dimensions the caller's values, and
        the sizes that it takes those of its instance."""
        values = {v.name: t for v, t in zip(module.inputs, inputs, strict=True)}
        for op in module.ops:
            args = [values[a] for a in op.args]
            if op.kind in ("call", "repeat"):
                results = self._call(module, path, op, args, bound)
            else:
                results = self._op(module, path, op, args, bound)
            values.update((r.name, t) for r, t in zip(op.results, results, strict=True))
        return [values[name] for name in module.outputs]

    def _call(
        self,
        module: Module,
        path: str,
        op: Op,
        args: list[Tracked],
        outer: Mapping[str, Dim],
    ) -> list[Tracked]:
        instance = module.instance(op.name)
        inner = self.job.model.by_name[instance.module]
        results: list[Tracked] = []
        for name, _, _ in instance.each():
            bound = {
                str(formal): actual
                for value, given in zip(inner.inputs, args, strict=True)
                for formal, actual in zip(
                    value.type.shape, given.type.shape, strict=True
                )
                if str(formal) in self.job.model.varying
            }
            within = {**bound, **instance.within(outer)}
            results = self._module(inner, f"{path}{name}.", args, within)
            args = [*results, *args[len(results) :]]
        return results

    def _op(
        self,
        module: Module,
        path: str,
        op: Op,
        args: list[Tracked],
        bound: Mapping[str, Dim],
    ) -> list[Tracked]:
        weights = {
            p.name.removeprefix(op.name).removeprefix("."): (
                p.type.substitute(bound),
                not (p.frozen or self._frozen(path + p.name)),
            )
            for p in module.parameters
            if p.name == op.name or p.name.rpartition(".")[0] == op.name
        }
        grad = any(a.needs_grad for a in args) or any(t for _, t in weights.values())
        size = self._bytes_each(op, args)
        drop = 0.0 if self._frozen(path.rstrip(".")) else chance(self.job.model, op)
        results = []
        for value in op.results:
            kind = value.type.substitute(bound)
            if op.kind in VIEWS or (op.kind == "dropout" and not drop):
                results.append(replace(args[0], type=kind))
            else:
                results.append(self._fresh(kind, grad and kind.dtype == "f32", size))
        forward, backward = _products(op, args, results, weights)
        predict = _linear(results[0], weights) if op.kind in ADAPTED else forward
        self.steps.append(
            Step(
                op,
                tuple(args),
                tuple(results),
                weights,
                drop,
                forward,
                backward,
                predict,
            )
        )
        return results

    def _bytes_each(self, op: Op, args: list[Tracked]) -> int | None:
        """Under autocast products give 16 bits and norms fp32; the rest follow suit."""
        if self.job.target.precision == "fp32":
            return None
        if op.kind in (*LINEARS, "attention"):
            return 2
        if op.kind in ("layer_norm", "rms_norm") or not args:
            return None
        floats = [a.bytes_each for a in args if a.type.dtype == "f32"]
        return max(floats, default=None)

    def _frozen(self, path: str) -> bool:
        return any(path == f or path.startswith(f + ".") for f in self.job.frozen)


def chance(model: Model, op: Op) -> float:
    """The dropout of a dropout or an attention operation; 0.0 where there is none."""
    return number_of(model, op.attrs_dict.get("p", op.attrs_dict.get("dropout", 0.0)))


def number_of(model: Model, value: Attr) -> float:
    """An attribute that is a number or a constant."""
    if isinstance(value, Const):
        return float(model.constants[value.name])
    return float(value) if isinstance(value, (int, float)) else 0.0


# ------------------------------------------------------------------------------- FLOPs


def _products(
    op: Op,
    args: list[Tracked],
    results: list[Tracked],
    weights: Mapping[str, tuple[Type, bool]],
) -> tuple[Dim, Dim]:
    """FLOPs of an operation, forward and backward, as polynomials in B and T."""
    none = number(0)
    if op.kind in LINEARS:
        _, trains = weights["weight"]
        once = _linear(results[0], weights)
        # A gain on the input has its gradient through the input's.
        through = args[0].needs_grad or op.attrs_dict.get("of") == "input"
        backward = once * number(int(trains) + int(through))
        if "lora_a" not in weights:
            return once, backward
        # A gives the product of rank R, B what is added. Both train.
        x, rank = args[0].type, weights["lora_a"][0].shape[0]
        down = number(2) * elements(x) * rank
        up = number(2) * elements(results[0].type) * rank
        low = down * number(1 + int(args[0].needs_grad)) + up * number(2)
        return once + down + up, backward + low
    if op.kind == "attention":
        q, k, v = args[:3]
        B, H, S, D = q.type.shape
        T = k.type.shape[2]
        # Of a causal attention T * (T + 1) / 2 pairs count.
        pairs = T * (T + number(1)) if op.attrs_dict["causal"] else number(2) * S * T
        once = B * H * D * pairs
        scores = int(q.needs_grad) + int(k.needs_grad)  # dQ, dK
        sums = int(v.needs_grad) + int(scores > 0)  # dV, and d of the attention weights
        return once * number(2), once * number(scores + sums)
    return none, none


def _linear(result: Tracked, weights: Mapping[str, tuple[Type, bool]]) -> Dim:
    """FLOPs of a weight times its input, forward."""
    once = number(2) * elements(result.type)
    for d in weights["weight"][0].shape[1:]:
        once = once * d
    return once


def elements(kind: Type) -> Dim:
    total = number(1)
    for d in kind.shape:
        total = total * d
    return total


def _flops(model: Model, parts: list[Dim]) -> Flops:
    """A sum of polynomials in B and T as that of one row. Each has the factor B."""
    by_power: dict[int, int] = {}
    for part in parts:
        for names, factor in part.terms:
            if names.count(ROWS) != 1:
                raise ValueError(f"FLOPs that do not grow with the rows: {part}")
            power = names.count(TOKENS)
            for name in names:
                factor *= model.sizes.get(name, 1)
            by_power[power] = by_power.get(power, 0) + factor
    if by_power.keys() - {0, 1, 2}:
        raise ValueError(f"FLOPs grow with powers {sorted(by_power)} of the tokens")
    return Flops(*(by_power.get(power, 0) for power in range(3)))


# ------------------------------------------------------------------------------ memory


@dataclass(frozen=True)
class _Training:
    saved: int
    peak: int


def _training(job: Job, steps: list[Step], sizes: Mapping[str, int]) -> _Training:
    """Bytes of activations and gradients in a step: at most, and as kept for backward.

    Backward goes through the operations in reverse. At each it holds what the earlier
    ones keep, the gradients of the parameters so far, and the gradients of what the
    operation gives and takes.
    """
    kept = [dict(_kept(job, step, sizes)) for step in steps]
    first_keeper: dict[int, int] = {}
    bytes_of: dict[int, int] = {}
    for i, storages in enumerate(kept):
        for storage, size in storages.items():
            first_keeper.setdefault(storage, i)
            bytes_of[storage] = size
    saved = sum(bytes_of.values())
    held, gradients, peak = saved, 0, saved
    for i in reversed(range(len(steps))):
        step = steps[i]
        moving = sum(r.bytes(sizes) for r in step.results if r.needs_grad)
        moving += sum(a.bytes(sizes) for a in step.args if a.needs_grad)
        gradients += 4 * sum(
            elements(t).value(sizes) for t, trains in step.weights.values() if trains
        )
        peak = max(peak, held + gradients + moving)
        held -= sum(bytes_of[s] for s in kept[i] if first_keeper[s] == i)
    return _Training(saved, peak)


def _kept(job: Job, step: Step, sizes: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """What autograd keeps of an operation: storages and their bytes.

    What an operation makes for itself (a mask of dropout, a norm's statistics, a copy in
    bf16) has a number of its own, below zero.
    """
    op, args, results = step.op, step.args, step.results
    if not results or not results[0].needs_grad:
        return
    own = -4 * results[0].storage

    def whole(value: Tracked) -> tuple[int, int]:
        return value.storage, value.held(sizes)

    x = args[0] if args else results[0]
    match op.kind:
        case "linear" | "patches" | "lora_linear" | "dora_linear" | "ia3_linear":
            yield from _kept_of_linear(job, step, sizes)
        case "layer_norm" | "rms_norm":
            yield whole(x)
            positions = elements(Type("f32", x.type.shape[:-1])).value(sizes)
            yield own, (8 if op.kind == "layer_norm" else 4) * positions
        case "activation":
            yield whole(results[0] if op.attrs_dict["kind"] in BY_RESULT else x)
        case "dropout" if step.chance:
            # On a CPU the mask is of the values' own type, on CUDA a byte each.
            each = x.bytes_each if job.target.device == "cpu" else 1
            masks = number_of(job.model, op.attrs_dict.get("samples", 1))
            yield own, int(masks) * each * elements(x.type).value(sizes)
        case "largest":
            yield whole(x)
            yield whole(results[0])
        case "weighted_mean":
            yield whole(x)
            yield own, args[1].bytes(sizes)  # the weights
        case "multiply":
            yield from (whole(a) for a in args)
        case "rotate":
            yield from (whole(a) for a in args[1:])
        case "attention":
            yield from (whole(a) for a in args[:3])
            B, H, S, _ = (d.value(sizes) for d in x.type.shape)
            pairs = B * H * S * args[1].type.shape[2].value(sizes)
            if step.chance and job.target.device == "cpu":
                # No flash attention there: the weights, their mask and their product.
                yield own, 3 * x.bytes_each * pairs
            else:
                yield whole(results[0])
                yield own, 4 * B * H * S  # the logarithms of the sums
        case "embedding":
            yield whole(x)


def _kept_of_linear(
    job: Job, step: Step, sizes: Mapping[str, int]
) -> Iterator[tuple[int, int]]:
    """The input where a factor of it trains, and what an adapter makes on the way."""
    op, x, y = step.op, step.args[0], step.results[0]
    own = -4 * y.storage
    weight, trains = step.weights["weight"]
    products = job.deploy.quantize in ("int8", "int8-static")
    if job.deploy.quantize_aware and (products or not job.target.half):
        # What is left of the weights when they are rounded, and of the inputs.
        if x.needs_grad:
            yield own - 2, 4 * elements(weight).value(sizes)
        if products and trains:
            yield own - 3, 4 * elements(x.type).value(sizes)
            return
    half = job.target.half != ""
    read = trains or "lora_a" in step.weights or op.attrs_dict.get("of") == "input"
    made = 0  # bytes that only the operation itself has
    if read and (half and x.bytes_each != 2):
        made += 2 * elements(x.type).value(sizes)
    elif read:
        yield x.storage, x.held(sizes)
    if "lora_a" in step.weights:
        rank = step.weights["lora_a"][0].shape[0].value(sizes)
        positions = elements(Type("f32", x.type.shape[:-1])).value(sizes)
        made += y.bytes_each * rank * positions
        if chance(job.model, op):  # what dropout gives, and its mask
            made += 2 * x.bytes(sizes)
    if op.kind == "dora_linear" or op.attrs_dict.get("of") == "output":
        made += y.bytes(sizes)  # the product that is scaled
    if made:
        yield own, made
    if half and (trains or x.needs_grad):
        yield own - 1, 2 * elements(weight).value(sizes)


def _prediction(job: Job, steps: list[Step], sizes: Mapping[str, int]) -> int:
    """Most bytes of values at once in a forward pass that keeps nothing."""
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        for value in (*step.args, *step.results):
            last[value.storage] = i
    live: dict[int, int] = {}
    peak = 0
    for i, step in enumerate(steps):
        for value in (*step.args, *step.results):
            live[value.storage] = value.held(sizes)
        peak = max(peak, sum(live.values()))
        live = {storage: size for storage, size in live.items() if last[storage] > i}
    return peak


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
