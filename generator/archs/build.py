"""Writing the modules of an architecture down, with types worked out on the way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from generator.archs.config import Config
from generator.errors import Diagnostic, GenError, fail, quote
from generator.ir.dims import Dim, Type, parse_dim, parse_type
from generator.ir.job import (
    Attr,
    Const,
    ConstDef,
    DimDef,
    Instance,
    Model,
    Module,
    Op,
    ParameterDef,
    ParameterInfo,
    Role,
    Tensor,
    Unused,
    Value,
    walk_parameters,
)
from generator.ir.ops import infer
from generator.ir.plans import ImagePlan, ReferencePlan, Task
from generator.ir.sources import (
    Checkpoint,
    Init,
    ShapeError,
    Source,
    Tie,
    keys,
    leaves,
    shape_of,
)
from generator.ir.verify import bind

FROM = "backbone.from"  # the key of the spec that imported operations are there for
# transformers' names of activations, and ours.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


# transformers' names of the tasks.
PROBLEMS: Mapping[str, str] = {
    "text-classification": "single_label_classification",
    "image-classification": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}
# transformers' classes whose head is for something else: BertForTokenClassification.
OTHER_TASK = re.compile(r"For(?!(Sequence|Image)Classification$)[A-Z]\w*$")
# Why a last layer is not read: it has other labels, or the spec asks for a new one.
OTHER_HEAD = "the checkpoint's own head"
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})  # safetensors' names


@dataclass(frozen=True)
class Request:
    """What is asked of an architecture, from the spec and the checkpoint's card."""

    config: Mapping[str, Any]  # config.json
    tensors: tuple[Tensor, ...]
    task: Task
    labels: tuple[str, ...]
    head: Literal["auto", "keep", "new"]
    dropout: float | None  # None: the checkpoint's own
    attention_dropout: float
    pair: bool = False  # a row is two texts
    max_tokens: int | None = None
    preprocessor: Mapping[str, Any] | None = None  # preprocessor_config.json
    image_column: str = ""

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(t.key for t in self.tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return next(t.shape for t in self.tensors if t.key == key)

    def check_task(self, tasks: Sequence[Task], title: str) -> None:
        """GenError G210 where an architecture does not serve the task."""
        if self.task not in tasks:
            raise fail(
                "G210",
                f"a {title} does not do {self.task}",
                help=f"its tasks are {', '.join(tasks)}",
            )

    def prefix(self, key: str, candidates: Sequence[str]) -> str:
        """What stands before the backbone's keys: the first under which `key` is."""
        for prefix in candidates:
            if prefix + key in self.keys:
                return prefix
        help = "is it a checkpoint of the architecture that its config.json names?"
        # As a wrapper saves it (DistributedDataParallel, torch.compile), or another task.
        if wrapped := sorted(k for k in self.keys if k.endswith(f".{key}")):
            more = wrapped[0].removesuffix(key)
            for inner in filter(None, candidates):
                more = more.removesuffix(inner)
            help = (
                f'it has "{wrapped[0]}": save it anew from the model inside, under names '
                f'that do not begin with "{more}"'
            )
        raise fail(
            "G204",
            f'the checkpoint has no tensor "{key}", under any of the prefixes '
            + ", ".join(f'"{c}"' for c in candidates),
            help=help,
        )

    def keeps_head(self, weight: str) -> bool:
        """Whether the checkpoint's own last layer, of this key, is this task's.

        It is where it has a row a label and its config.json names the same labels. With
        head = "keep" the names are not asked about.
        """
        if self.head == "new":
            return False
        rows = len(self.labels)
        there = weight in self.keys and self.shape(weight)[:1] == (rows,)
        if self.head == "keep":
            if not there:
                raise fail(
                    "G206",
                    f'head = "keep", but the checkpoint has no head "{weight}" '
                    f"with {len(self.labels)} rows",
                    help='take head = "new", or the labels of that head',
                )
            return True
        if not there or not self._same_problem():
            return False
        theirs = self._head_labels(rows)
        if theirs != self.labels and sorted(theirs) == sorted(self.labels):
            raise fail(
                "G206",
                "the checkpoint's head has these labels in another order: "
                + ", ".join(theirs),
                help='write labels in that order, or head = "new" to train a new one',
            )
        return theirs == self.labels

    def head_left(self, model: Model) -> str:
        """What to tell of a head of this task and size that `model` does not read, since
        head = "auto" goes by the labels; "" where there is none.
        """
        if self.head != "auto" or not self._same_problem():
            return ""
        rows = len(self.labels)
        left = [u.key for u in model.unused if u.reason == OTHER_HEAD]
        fits = any(k.endswith(".weight") and self.shape(k)[:1] == (rows,) for k in left)
        theirs = self._head_labels(rows)
        if not fits or len(theirs) != rows:
            return ""
        return (
            f"the checkpoint's own head of {rows} outputs is not used: its labels are "
            f'{", ".join(map(quote, theirs))}. Where they mean those of the spec, in that '
            'order, head = "keep" of [backbone] takes it'
        )

    def _same_problem(self) -> bool:
        """Whether the checkpoint's head was trained for this task, as far as it says."""
        named = self.config.get("architectures")
        for name in named if isinstance(named, (list, tuple)) else ():
            # A head for each token, say, may have these very names and shapes.
            if OTHER_TASK.search(str(name)):
                return False
        problem = self.config.get("problem_type")
        return problem is None or problem == PROBLEMS.get(self.task)

    def _head_labels(self, rows: int) -> tuple[str, ...]:
        """The labels of the checkpoint's head; () where its config.json is unclear."""
        named = self.config.get("id2label")
        if named is None:  # transformers does not write its own names of two labels
            return tuple(f"LABEL_{i}" for i in range(rows))
        if not isinstance(named, Mapping):
            return ()
        try:
            return tuple(str(named[k]) for k in sorted(named, key=int))
        except (TypeError, ValueError):
            return ()


@dataclass(frozen=True)
class Saved:
    """What transformers' classifier of an architecture is saved as.

    `classes` are its names by model_type, and `heads` those of the layers that a checkpoint
    of the backbone alone lacks, by their paths here. `sizes` are the keys of config.json by
    the symbols of dimensions.
    """

    classes: Mapping[str, str]
    base: str  # stands before the names of the backbone's tensors
    heads: Mapping[str, str]
    sizes: Mapping[str, str]


@dataclass(frozen=True)
class Imported:
    """What an architecture gives back."""

    model: Model
    token_types: bool = False  # forward takes segments
    pad_id: int = 0
    image: ImagePlan | None = None  # what the model's pixels are, where it takes any


def reference(config: Mapping[str, Any]) -> ReferencePlan:
    """What transformers' model of a configuration is told, whatever its architecture."""
    return ReferencePlan(chunked=bool(config.get("chunk_size_feed_forward")))


@dataclass
class Builder:
    """One module while it is written. Values are referred to by the names it returns.

    A value called "_" is a step on the way: where it is used once, it is rendered inside
    the expression that uses it.
    """

    name: str
    dims: Mapping[str, int]  # sizes by symbol, for the rules that need a number
    doc: str = ""
    place: str = FROM
    inputs: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    parameters: list[ParameterDef] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    types: dict[str, Type] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def input(self, name: str, kind: str) -> str:
        """An input of a type in text: `f32[B,T,C]`, `bool[B,T]?`."""
        value = Value(name, parse_type(kind))
        self.inputs.append(value)
        self.types[name] = value.type
        self._counts[name] += 1
        return name

    def parameter(self, name: str, kind: str, role: Role, source: Source) -> None:
        self.parameters.append(
            ParameterDef(name, parse_type(kind), role, source, self.place)
        )

    def op(
        self,
        kind: str,
        /,
        *args: str,
        name: str = "",
        out: str | Sequence[str] = "_",
        **attrs: Attr,
    ) -> Any:
        """Append an operation; the name of its result, or a tuple of them for several.

        Its parameters are those added before whose names start with `name`.
        """
        params = {}
        for p in self.parameters:
            if p.name == name:
                params[""] = p.type
            elif p.name.rpartition(".")[0] == name and name:
                params[p.name.rpartition(".")[2]] = p.type
        types = infer(kind, tuple(self.types[a] for a in args), params, attrs)
        return self._append(kind, args, name, types, out, attrs)

    def call(
        self,
        instance: str,
        module: Module,
        *args: str,
        keys: str = "",
        out="x",
        depth: int = -1,
        model: Model | None = None,
    ) -> str:
        """Call a module, of which this makes an instance."""
        self.instances.append(Instance(instance, module.name, keys, depth))
        varying = Model("", _varying(), (), (), (), ())
        types = bind(varying, module, tuple(self.types[a] for a in args))
        return self._append("call", args, instance, types, out, {})

    def _append(self, kind, args, name, types, out, attrs) -> Any:
        bases = [out] * len(types) if isinstance(out, str) else list(out)
        results = []
        for base, t in zip(bases, types, strict=True):
            self._counts[base] += 1
            n = self._counts[base]
            value = base if n == 1 and base != "_" else f"{base}.{n}"
            results.append(Value(value, t))
            self.types[value] = t
        self.ops.append(
            Op(
                kind,
                tuple(results),
                tuple(args),
                name,
                tuple(sorted(attrs.items())),
                self.place,
            )
        )
        names = tuple(r.name for r in results)
        return names[0] if len(names) == 1 else names

    # The operations that take a line more than a call.

    def linear(
        self,
        name: str,
        x: str,
        wide: str,
        key: str,
        *,
        bias: bool = True,
        new: float | None = None,
        out: str = "_",
    ) -> str:
        """x times a matrix to width `wide`; `key` is the checkpoint's, without .weight.

        `new` is the standard deviation of a matrix that the checkpoint does not have.
        """
        inner = self.types[x].shape[-1]
        weight: Source = Checkpoint(f"{key}.weight")
        offset: Source = Checkpoint(f"{key}.bias")
        if new is not None:
            weight, offset = Init("normal", new), Init("constant", 0.0)
        self.parameter(f"{name}.weight", f"f32[{wide},{inner}]", "matrix", weight)
        if bias:
            self.parameter(f"{name}.bias", f"f32[{wide}]", "bias", offset)
        return self.op("linear", x, name=name, out=out)

    def layer_norm(
        self, name: str, x: str, weight: str, bias: str, *, eps="norm_eps", out="_"
    ) -> str:
        """`weight` and `bias` are the checkpoint's keys: old ones say gamma and beta."""
        inner = self.types[x].shape[-1]
        self.parameter(f"{name}.weight", f"f32[{inner}]", "norm", Checkpoint(weight))
        self.parameter(f"{name}.bias", f"f32[{inner}]", "bias", Checkpoint(bias))
        return self.op("layer_norm", x, name=name, out=out, eps=Const(eps))

    def rms_norm(self, name: str, x: str, weight: str, *, eps="norm_eps", out="_"):
        inner = self.types[x].shape[-1]
        self.parameter(f"{name}.weight", f"f32[{inner}]", "norm", Checkpoint(weight))
        return self.op("rms_norm", x, name=name, out=out, eps=Const(eps))

    def table(self, name: str, kind: str, key: str) -> None:
        """A table of vectors, read by an operation of that name."""
        self.parameter(f"{name}.weight", kind, "embedding", Checkpoint(key))

    def add(self, a: str, b: str, out: str = "_") -> str:
        return self.op("add", a, b, out=out)

    def dropout(self, x: str, p: str = "dropout", out: str = "_") -> str:
        return self.op("dropout", x, out=out, p=Const(p))

    def activation(self, x: str, kind: str, out: str = "_") -> str:
        return self.op("activation", x, out=out, kind=kind)

    def heads(self, x: str, heads: str, out: str, width: str = "D") -> str:
        return self.op(
            "heads", x, out=out, heads=(parse_dim(heads),), width=parse_dim(width)
        )

    def build(self, *outputs: str) -> Module:
        return Module(
            self.name,
            tuple(self.inputs),
            tuple(self.ops),
            tuple(outputs),
            tuple(self.parameters),
            tuple(self.instances),
            self.doc,
        )


def _varying() -> tuple[DimDef, ...]:
    return (DimDef("B", None), DimDef("T", None))


def norm_keys(request: Request, prefix: str) -> tuple[str, str]:
    """The relative names of a norm's gain and bias: checkpoints of old say gamma, beta."""
    old = any(
        k.startswith(prefix) and k.endswith("LayerNorm.gamma") for k in request.keys
    )
    return ("gamma", "beta") if old else ("weight", "bias")


def dim_def(
    symbol: str, size: int | None, name: str, doc: str = "", bound=None
) -> DimDef:
    return DimDef(symbol, size, name, bound, doc)


def dropouts(request: Request, hidden: float, head: float) -> list[ConstDef]:
    """The constants `dropout`, and where they are asked for or differ, the others."""
    if request.dropout is not None:
        hidden = head = request.dropout
    consts = [ConstDef("dropout", hidden)]
    if head != hidden:
        consts.append(ConstDef("head_dropout", head))
    if request.attention_dropout:
        consts.append(ConstDef("attention_dropout", request.attention_dropout))
    return consts


def finish(
    request: Request,
    title: str,
    dims: Sequence[DimDef],
    consts: Sequence[ConstDef],
    modules: Sequence[Module],
    unused: Sequence[tuple[str, str]],
) -> Model:
    """The model, once the checkpoint is seen to fit it.

    `unused` names tensors that this job does not read, as pairs of a regular expression
    and the reason. A tensor that is missing, of another shape, or known to nobody is an
    error, each said once (G204, G205, G207, G211).
    """
    used_names = {
        v.name
        for m in modules
        for op in m.ops
        for _, v in op.attrs
        if isinstance(v, Const)
    }
    consts = tuple(c for c in consts if c.name in used_names)
    model = Model(title, tuple(dims), consts, request.tensors, (), tuple(modules))
    shapes = {t.key: t.shape for t in request.tensors}
    dtypes = {t.key: t.dtype for t in request.tensors}
    read: set[str] = set()
    missing: list[str] = []
    found: list[Diagnostic] = []
    for info in walk_parameters(model):
        used = keys(info.source)
        read.update(used)
        absent = [key for key in used if key not in shapes]
        missing += absent
        tied = any(isinstance(leaf, Tie) for leaf in leaves(info.source))
        if not absent and not tied:
            found += _shape_problems(info, shapes)
    packed = [key for key in sorted(read & set(shapes)) if dtypes[key] not in FLOATS]
    if packed:
        found.append(
            Diagnostic(
                "G211",
                f"the checkpoint's weights are not floating point: {_some(packed)}",
                help=f"is it quantised? The dtypes read here are {', '.join(sorted(FLOATS))}",
            )
        )
    if missing:
        found.append(
            Diagnostic(
                "G204",
                f"the checkpoint lacks {_some(missing)}",
                help="is it complete, and of the architecture its config.json names?",
            )
        )
    left: list[Unused] = []
    unknown: list[str] = []
    for key in sorted(set(shapes) - read):
        reason = next((why for p, why in unused if re.fullmatch(p, key)), None)
        if reason is None:
            unknown.append(key)
        else:
            left.append(Unused(key, reason))
    if unknown:
        found.append(
            Diagnostic(
                "G205",
                f"the checkpoint has tensors that this architecture does not know: "
                f"{_some(unknown)}",
                help="a model that ignored them would not compute what it computes",
            )
        )
    if found:
        raise GenError(found)
    return Model(
        title, tuple(dims), consts, request.tensors, tuple(left), tuple(modules)
    )


def _shape_problems(
    info: ParameterInfo, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Diagnostic]:
    """A parameter whose tensors do not give its shape (G207)."""
    try:
        if shape_of(info.source, shapes, info.shape) == info.shape:
            return
    except ShapeError:
        pass  # too few axes, say: the shapes below tell
    for key in keys(info.source):
        whole = isinstance(info.source, Checkpoint)
        yield Diagnostic(
            "G207",
            f'tensor "{key}" is {list(shapes[key])}, and config.json makes '
            f"{'it' if whole else f'{info.path}, which is read from it,'} "
            f"{list(info.shape)}",
            help="the checkpoint and its config.json do not belong together",
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{n}"' for n in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


__all__ = [
    "ACTIVATIONS",
    "OTHER_HEAD",
    "Builder",
    "Config",
    "ConstDef",
    "Dim",
    "Imported",
    "Instance",
    "Request",
    "Saved",
    "dim_def",
    "dropouts",
    "finish",
    "norm_keys",
]
