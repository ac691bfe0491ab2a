"""The classifier of a model: what reads a vector from a row's positions, and the head.

Its first operations belong to the backbone (a last norm, say), one makes a vector of all
positions, and those behind it are the head. Where vectors of several blocks are joined,
the main module makes and joins them, and the classifier is the head alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from generator.errors import fail
from generator.ir.cut import blocks_to, reaching
from generator.ir.dims import Dim, Type, dim, parse_type
from generator.ir.emit import Emitter
from generator.ir.job import (
    Const,
    Job,
    Model,
    Module,
    Op,
    ParameterDef,
    Unused,
    Value,
    parameters,
)
from generator.ir.sources import Init, Source, Take, keys
from generator.ir.weightmap import WeightMap

POOLS = frozenset({"first", "mean", "largest", "weighted_mean"})
SELECTED = "W"  # the dimension of the numbers that the head reads, where it is not all
STD = 0.02  # of new weights, where the model has none that say it


@dataclass(frozen=True)
class Classifier:
    call: Op  # in the main module
    module: Module
    pool: Op  # what makes a vector of the positions
    label: Op  # the last linear layer
    rescale: Op | None  # what brings its answers to the units of the targets
    # The pooling joins vectors, in the main module; the classifier takes what it gives.
    joined: bool = False

    @property
    def vector(self) -> str:
        """The value that holds the vector."""
        result = self.pool.results[0].name
        if not self.joined:
            return result
        return self.module.inputs[self.call.args.index(result)].name

    @property
    def states(self) -> str:
        """The value that holds the backbone's last positions; "" where vectors come."""
        if self.joined:
            return ""
        made = {r.name: op for op in self.module.ops for r in op.results}
        name = self.pool.args[0]
        op = made.get(name)
        return op.args[0] if op is not None and op.kind == "rest" else name

    @property
    def backbone(self) -> tuple[Op, ...]:
        """The operations that give the positions."""
        return tuple(reaching(self.module, (self.states,)))

    @property
    def head(self) -> tuple[Op, ...]:
        """The operations behind the vector."""
        if self.joined:
            return self.module.ops
        return self.module.ops[self.module.ops.index(self.pool) + 1 :]

    @property
    def dense(self) -> tuple[Op, ...]:
        """The linear layers between the vector and the labels."""
        return tuple(op for op in self.head if op.kind == "linear")[:-1]

    @property
    def dropout(self) -> Op | None:
        """What stands right before the labels, where that is a dropout."""
        made = {r.name: op for op in self.head for r in op.results}
        op = made.get(self.label.args[0])
        return op if op is not None and op.kind == "dropout" else None

    @property
    def answers(self) -> Dim:
        """How many numbers it gives."""
        return self.label.results[0].type.shape[-1]

    @property
    def has_bias(self) -> bool:
        """Whether the last linear layer has one."""
        return f"{self.label.name}.bias" in (p.name for p in self.module.parameters)

    @property
    def taken_over(self) -> bool:
        """Whether training is to have the checkpoint's last layer answer as it did."""
        return self.rescale is not None and "taken_over" in self.rescale.attrs_dict

    def std(self) -> float:
        """The standard deviation of new weights."""
        found = [p.source for p in self.module.parameters]
        normal = [s.value for s in found if isinstance(s, Init) and s.kind == "normal"]
        return normal[0] if normal else STD


def classifier(model: Model) -> Classifier:
    """The module that gives the logits, in its parts."""
    main = model.main
    (call,) = (op for op in main.ops if op.results[0].name == main.outputs[0])
    module = model.by_name[main.instance(call.name).module]
    made = {r.name: op for op in module.ops for r in op.results}
    label, rescale = made[module.outputs[0]], None
    if label.kind == "rescale":
        label, rescale = made[label.args[0]], label
    pools = [op for op in module.ops if op.kind in POOLS]
    if not pools:
        (pool,) = (
            op
            for op in main.ops
            if op.kind == "join" and op.results[0].name in call.args
        )
        return Classifier(call, module, pool, label, rescale, joined=True)
    (pool,) = pools
    return Classifier(call, module, pool, label, rescale)


def units(model: Model) -> tuple[str, ...]:
    """The names of the tensors that bring answers to the units of the targets, if it has
    any: what they are multiplied by, and what is added."""
    if not any(op.kind == "rescale" for m in model.modules for op in m.ops):
        return ()
    at = classifier(model).call.name
    return f"{at}.scale", f"{at}.shift"


@dataclass(frozen=True)
class Read:
    """One of the vectors that are joined."""

    pool: Op  # in the main module
    layer: int  # how many blocks lead to it


def reads(model: Model) -> tuple[Read, ...]:
    """The vectors of positions that a model joins, in their order."""
    main = model.main
    made = {r.name: op for op in main.ops for r in op.results}
    pools = [made[arg] for arg in classifier(model).pool.args]
    return tuple(Read(pool, blocks_to(main, pool.args[0])) for pool in pools)


def reader(found: Classifier) -> Op:
    """What reads the vector of a row that training starts from: of the operations behind
    the pooling the first with new weights, or the one that gives the labels.

    What lies between it and the pooling, such as a dense layer, came with the checkpoint.
    """
    new = {
        p.name.rpartition(".")[0]
        for p in found.module.parameters
        if isinstance(p.source, Init)
    }
    behind = {found.vector}
    for op in found.head:
        if behind.isdisjoint(op.args):
            continue
        if op.name in new or op == found.label:
            return op
        behind |= {r.name for r in op.results}
    return found.label


def vector(found: Classifier) -> str:
    """The value that feeds the head: what `reader` reads, ahead of a dropout."""
    made = {r.name: op for op in found.module.ops for r in op.results}
    value = reader(found).args[0]
    while value in made and made[value].kind == "dropout":
        value = made[value].args[0]
    return value


@dataclass(frozen=True)
class Selection:
    """Which numbers of a vector the head reads."""

    name: str  # of their list
    total: int  # how many the vector has, with all of them
    matrix: str  # the path of the weight that reads them
    channels: bool = False  # they are the channels of the model's width themselves


def selection(model: Model) -> Selection | None:
    """What select-features has left of the vector; None where all of it is read."""
    found, main = classifier(model), model.main
    matrix = f"{found.call.name}.{reader(found).name}.weight"
    for op in found.module.ops:
        if op.kind == "select":
            last = found.module.types[op.args[0]].shape[-1]
            total, name = last.value(model.sizes), str(op.attrs_dict["by"])
            return Selection(name, total, matrix, channels=last == dim("C"))
    shapes = {t.key: t.shape for t in model.tensors}
    for p in found.module.parameters:  # the rows of a dense layer were left out
        match p.source:
            case Take(axis=0, name=name) if p.type.shape == (dim(SELECTED),):
                (key,) = keys(p.source)
                whole = main.instance(found.call.name).keys + key
                return Selection(name, shapes[whole][0], matrix)
    return None


def states_paths(model: Model) -> tuple[str, ...]:
    """The path of the module that gives positions (B, T, C), and those of what makes the
    backbone's last states of them, one after the other; none where one has no name, or
    where those of several blocks are read."""
    found, main = classifier(model), model.main
    if found.joined:
        return ()
    value = found.backbone[0].args[0] if found.backbone else found.states
    at = [v.name for v in found.module.inputs].index(value)
    value = found.call.args[at]
    picked = picks(main, value)
    value = picked.args[0] if picked else value
    made = {r.name: op for op in main.ops for r in op.results}
    last = [made[value].name] if value in made else [""]
    names = [
        *last,
        *(op.name and f"{found.call.name}.{op.name}" for op in found.backbone),
    ]
    return tuple(names) if all(names) else ()


def first_new(found: Classifier) -> Op:
    """What reads the vector, where no checkpoint's weights are read into it."""
    sources = {p.name: p.source for p in found.module.parameters}
    op = reader(found)
    if isinstance(sources[f"{op.name}.weight"], Init):
        return op
    raise fail(
        "G381",
        "every layer of this head is the checkpoint's, and reads the vector alone",
        help='head = "new" in [backbone] starts the last one afresh',
    )


def new_linear(
    e: Emitter, name: str, x: str, width: Dim, start: Init, place: str
) -> str:
    """x times a new matrix, which starts so, and a new bias; the module gets both."""
    inner = e.types[x].shape[-1]
    new = (
        ParameterDef(
            f"{name}.weight",
            parse_type(f"f32[{width},{inner}]"),
            "matrix",
            start,
            place,
        ),
        ParameterDef(
            f"{name}.bias",
            parse_type(f"f32[{width}]"),
            "bias",
            Init("constant", 0.0),
            place,
        ),
    )
    e.module = replace(e.module, parameters=(*e.module.parameters, *new))
    stub = Value("_", Type("f32", ()))
    return e.put(Op("linear", (stub,), (), name, (), place), [x])[0]


def picks(main: Module, value: str) -> Op | None:
    """The operation that picks one position of each row for a value, if it is one."""
    return next(
        (op for op in main.ops if op.kind == "pick" and op.results[0].name == value),
        None,
    )


def new_parameter(p: ParameterDef, std: float) -> ParameterDef:
    """The parameter with a new value, as training starts from it."""
    new = Init("normal", std) if p.role == "matrix" else Init("constant", 0.0)
    return replace(p, source=new)


def held(
    module: Module, ops: Sequence[Op], known: Sequence[ParameterDef]
) -> tuple[ParameterDef, ...]:
    """Those of `known` that the operations read."""
    names = {op.name for op in ops if op.name}
    return tuple(
        p for p in known if p.name in names or p.name.rpartition(".")[0] in names
    )


def edited(before: Job, model: Model, reason: str) -> tuple[Job, WeightMap]:
    """The job with an edited head, and what that does to its weights.

    Tensors that are read no more are named unused, with the reason; constants that
    nothing has any more go.
    """
    used = {
        value.name
        for module in model.modules
        for op in module.ops
        for _, value in op.attrs
        if isinstance(value, Const)
    }
    model = replace(model, consts=tuple(c for c in model.consts if c.name in used))
    job = replace(before, model=model, reference=replace(before.reference, head=True))
    old = {p.path: p.source for p in parameters(before)}
    new = {p.path: p.source for p in parameters(job)}
    read = {key for source in new.values() for key in keys(source)}
    gone = {key for source in old.values() for key in keys(source)} - read
    unused = {u.key: u for u in model.unused} | {k: Unused(k, reason) for k in gone}
    model = replace(
        model, unused=tuple(unused[t.key] for t in model.tensors if t.key in unused)
    )
    changed: dict[str, Source] = dict(_changed(old, new))
    dropped = frozenset(old.keys() - new.keys())
    return replace(job, model=model), WeightMap(changed, dropped)


def _changed(
    old: dict[str, Source], new: dict[str, Source]
) -> Iterator[tuple[str, Source]]:
    """Parameters that are new, or have a new value where one of the checkpoint's was."""
    for path, source in new.items():
        if isinstance(source, Init) and source != old.get(path):
            yield path, source
