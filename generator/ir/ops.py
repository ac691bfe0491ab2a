"""The operations: what each takes, what it holds, and the type of what it gives.

They are as large as the modules of a hand-written model, so that a rendered model reads
like one. Every operation stands here once with the rule for its types; the renderer and
the interpreter each have one function for it.

Shapes: B batch, T positions, S positions asked for (1 or T), C width, H query heads,
G key and value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from generator.ir.dims import Dim, Type, number
from generator.ir.job import Attr, Const, Model

ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh")
SCALED = ("input", "output")  # what of a linear an (IA)3 may multiply
# The kinds of rotary frequencies, and what each must be told beside theta and width.
ROPE_NEEDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "high_frequency_factor",
        "low_frequency_factor",
        "original_positions",
    ),
    "yarn": ("factor", "original_positions"),
    "longrope": ("attention_factor", "factors"),
}
ROPE_KINDS = tuple(ROPE_NEEDS)
ROPE_NUMBERS = frozenset(
    {
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "factor",
        "high_frequency_factor",
        "low_frequency_factor",
        "original_positions",
        "theta",
    }
)


class OpError(ValueError):
    """An operation that does not fit its operands; the message says what does not."""


Types = tuple[Type, ...]
Params = Mapping[str, Type]
Attrs = Mapping[str, Attr]


@dataclass(frozen=True)
class OpDef:
    """An operation: `parameters` it must and may hold, by what follows its name."""

    kind: str
    infer: Callable[[Types, Params, Attrs], Types]
    parameters: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    attrs: tuple[str, ...] = ()
    optional_attrs: tuple[str, ...] = ()
    # It treats every position alike, so that a later choice of positions may come first.
    positionwise: bool = False


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise OpError(message)


def _one(types: Types, dtype: str = "f32", rank: int | None = None) -> Type:
    _need(len(types) == 1, f"takes one operand, not {len(types)}")
    return _is(types[0], dtype, rank)


def _is(t: Type, dtype: str, rank: int | None = None) -> Type:
    _need(t.dtype == dtype, f"takes {dtype}, not {t}")
    _need(rank is None or len(t.shape) == rank, f"takes {rank} dimensions, not {t}")
    return t


def _solid(types: Types) -> None:
    for t in types:
        _need(not t.optional, f"takes a value that is always there, not {t}")


def _same(a: object, b: object, what: str) -> None:
    _need(a == b, f"{what}: {a} is not {b}")


def _number(attrs: Attrs, *names: str) -> None:
    """Where there are attributes of these names, they are numbers or constants."""
    for name in names:
        value = attrs.get(name, 0)
        _need(
            isinstance(value, (int, float, Const)) and not isinstance(value, bool),
            f"{name} is a number or a constant",
        )


def _dim(attrs: Attrs, name: str) -> Dim:
    value = attrs[name]
    _need(isinstance(value, Dim), f"{name} is a dimension")
    return value  # type: ignore[return-value]


def _dims(attrs: Attrs, name: str) -> tuple[Dim, ...]:
    value = attrs[name]
    _need(
        isinstance(value, tuple) and all(isinstance(d, Dim) for d in value),
        f"{name} is a list of dimensions",
    )
    return value  # type: ignore[return-value]


def _linear(args: Types, params: Params, attrs: Attrs) -> Types:
    x = _one(args)
    weight = _is(params["weight"], "f32", 2)
    _need(len(x.shape) >= 2, f"takes at least 2 dimensions, not {x}")
    _same(x.shape[-1], weight.shape[1], "input width")
    if "bias" in params:
        _same(params["bias"].shape, weight.shape[:1], "bias")
    return (Type("f32", (*x.shape[:-1], weight.shape[0])),)


def _low_rank(args: Types, params: Params, attrs: Attrs) -> Types:
    """LoRA and DoRA: a linear, and a product of rank R beside it."""
    _number(attrs, "scale", "dropout")
    result = _linear(args, params, attrs)
    wide, inner = params["weight"].shape
    a, b = _is(params["lora_a"], "f32", 2), _is(params["lora_b"], "f32", 2)
    _same(a.shape[1], inner, "input width of lora_a")
    _same(b.shape, (wide, a.shape[0]), "lora_b")
    if "magnitude" in params:
        _same(params["magnitude"].shape, (wide,), "magnitude")
    return result


def _scaled(args: Types, params: Params, attrs: Attrs) -> Types:
    """(IA)3: a linear whose input or output is multiplied by a vector."""
    of = attrs["of"]
    _need(of in SCALED, f"of is one of {SCALED}, not {of!r}")
    result = _linear(args, params, attrs)
    wide, inner = params["weight"].shape
    _same(params["gain"].shape, (inner if of == "input" else wide,), "gain")
    return result


def _norm(args: Types, params: Params, attrs: Attrs) -> Types:
    x = _one(args)
    _need(len(x.shape) >= 1, f"takes at least 1 dimension, not {x}")
    _number(attrs, "eps")
    for name, p in params.items():
        _same(p.shape, x.shape[-1:], f"the norm's {name}")
    return (x,)


def _embedding(args: Types, params: Params, attrs: Attrs) -> Types:
    ids = _one(args, "i64", 2)
    table = _is(params["weight"], "f32", 2)
    return (Type("f32", (*ids.shape, table.shape[1])),)


def _positions(args: Types, params: Params, attrs: Attrs) -> Types:
    x = _one(args, "f32", 3)
    table = _is(params["weight"], "f32", 2)
    _same(table.shape[1], x.shape[2], "width")
    return (Type("f32", x.shape[1:]),)


def _token_places(args: Types, params: Params, attrs: Attrs) -> Types:
    _padding(attrs)
    return (_one(args, "i64", 2),)


def _padding(attrs: Attrs) -> None:
    padding = attrs["padding"]
    fits = isinstance(padding, int) and not isinstance(padding, bool) and padding >= 0
    _need(fits, "padding is the id of a token")


def _row(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(not args, "takes no operands")
    table = _is(params["weight"], "f32", 2)
    index = attrs["index"]
    _need(isinstance(index, int) and index >= 0, "index is a row")
    return (Type("f32", table.shape[1:]),)


def _parameter(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(not args, "takes no operands")
    return (params[""],)


def _broadcast(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) == 2, f"takes two operands, not {len(args)}")
    a, b = (_is(t, "f32") for t in args)
    _need(len(a.shape) >= len(b.shape), f"the larger operand comes first: {a}, {b}")
    tail = a.shape[len(a.shape) - len(b.shape) :]
    for x, y in zip(tail, b.shape, strict=True):
        _need(x == y or y == number(1), f"cannot broadcast {b} to {a}")
    return (a,)


def _dropout(args: Types, params: Params, attrs: Attrs) -> Types:
    _number(attrs, "p")
    _need(attrs.get("bits", 16) == 16, "bits of a mask's element are 16, or not said")
    _number(attrs, "samples")
    return (_one(args),)


def _activation(args: Types, params: Params, attrs: Attrs) -> Types:
    kind = attrs["kind"]
    _need(kind in ACTIVATIONS, f"no activation {kind!r}; there are {ACTIVATIONS}")
    return (_one(args),)


def _heads(args: Types, params: Params, attrs: Attrs) -> Types:
    x = _one(args, "f32", 3)
    counts, width = _dims(attrs, "heads"), _dim(attrs, "width")
    _need(bool(counts), "heads is a list of at least one")
    total = Dim(())
    for count in counts:
        total = total + count * width
    _same(x.shape[2], total, "width of all heads")
    B, T, _ = x.shape
    return tuple(Type("f32", (B, count, T, width)) for count in counts)


def _merge_heads(args: Types, params: Params, attrs: Attrs) -> Types:
    B, H, S, D = _one(args, "f32", 4).shape
    return (Type("f32", (B, S, H * D)),)


def _attention(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) in (3, 4), "takes query, key, value and perhaps a mask")
    q, k, v = (_is(t, "f32", 4) for t in args[:3])
    causal = attrs["causal"]
    _need(isinstance(causal, bool), "causal is true or false")
    _need(attrs.get("groups", True) is True, "groups is true, or not there")
    _number(attrs, "dropout")
    _same(k.shape, v.shape, "key and value")
    B, H, S, D = q.shape
    _same((k.shape[0], k.shape[3]), (B, D), "batch and head width of key and query")
    if causal:
        _need(
            len(args) == 3, "a causal attention takes no mask: padding is on the right"
        )
        _same(k.shape[2], S, "positions of key and query")
    if len(args) == 4:
        mask = _is(args[3], "bool", 4)
        _same(mask.shape, (B, number(1), number(1), k.shape[2]), "mask")
    _need("groups" in attrs or k.shape[1] == H, "key and query have as many heads")
    return (q,)


def _key_mask(args: Types, params: Params, attrs: Attrs) -> Types:
    mask = _one(args, "bool", 2)
    B, T = mask.shape
    return (Type("bool", (B, number(1), number(1), T), mask.optional),)


def _first(args: Types, params: Params, attrs: Attrs) -> Types:
    B, _, C = _one(args, "f32", 3).shape
    return (Type("f32", (B, C)),)


def _pooled(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) in (1, 2), "takes positions, and perhaps a mask")
    x = _is(args[0], "f32", 3)
    _real(args[1:], x)
    return (Type("f32", (x.shape[0], x.shape[2])),)


def _weighted_mean(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) in (2, 3), "takes positions, their scores and perhaps a mask")
    x, scores = _is(args[0], "f32", 3), _is(args[1], "f32", 3)
    _same(scores.shape, (*x.shape[:2], number(1)), "scores")
    _real(args[2:], x)
    return (Type("f32", (x.shape[0], x.shape[2])),)


def _real(mask: Types, x: Type) -> None:
    for one in mask:
        _same(_is(one, "bool", 2).shape, x.shape[:2], "mask")


def _join(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) >= 2, f"takes two vectors of a row or more, not {len(args)}")
    B, width = _is(args[0], "f32", 2).shape
    for t in args[1:]:
        rows, more = _is(t, "f32", 2).shape
        _same(rows, B, "batch")
        width = width + more
    return (Type("f32", (B, width)),)


def _flatten(args: Types, params: Params, attrs: Attrs) -> Types:
    B, T, C = _one(args, "f32", 3).shape
    return (Type("f32", (B, T * C)),)


def _rest(args: Types, params: Params, attrs: Attrs) -> Types:
    B, T, C = _one(args, "f32", 3).shape
    _need(((), 1) in T.terms, f"takes one position and others, not {T}")
    return (Type("f32", (B, T + number(-1), C)),)


def _select(args: Types, params: Params, attrs: Attrs) -> Types:
    x = _one(args, "f32", 2)
    _need(isinstance(attrs["by"], str), "by is the name of a list")
    return (Type("f32", (x.shape[0], _dim(attrs, "width"))),)


def _rescale(args: Types, params: Params, attrs: Attrs) -> Types:
    x = _one(args, "f32", 2)
    taken = attrs.get("taken_over", True)
    _need(taken is True, "taken_over is true, or not there")
    return (x,)


def _narrow(args: Types, params: Params, attrs: Attrs) -> Types:
    B, _, C = _one(args, "f32", 3).shape
    return (Type("f32", (B, number(1), C)),)


def _last_index(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) == 2, "takes the ids and the mask")
    ids, mask = _is(args[0], "i64", 2), _is(args[1], "bool", 2)
    _same(mask.shape, ids.shape, "mask and ids")
    if "padding" in attrs:
        _padding(attrs)
    return (Type("i64", ids.shape[:1]),)


def _keys_until(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) == 2, "takes the ids and an index")
    ids, index = _is(args[0], "i64", 2), _is(args[1], "i64", 1)
    _same(index.shape, ids.shape[:1], "index and batch")
    B, T = ids.shape
    return (Type("bool", (B, number(1), number(1), T)),)


def _pick(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) == 2, "takes values and an index")
    x, index = _is(args[0], "f32", 3), _is(args[1], "i64", 1)
    _same(index.shape, x.shape[:1], "index and batch")
    return (Type("f32", (x.shape[0], number(1), x.shape[2])),)


def _pick_rows(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) == 2, "takes a table and an index")
    table, index = _is(args[0], "f32", 2), _is(args[1], "i64", 1)
    one = number(1)
    return (Type("f32", (index.shape[0], one, one, table.shape[1])),)


def _patches(args: Types, params: Params, attrs: Attrs) -> Types:
    x = _one(args, "f32", 4)
    rows, columns = _dim(attrs, "rows"), _dim(attrs, "columns")
    weight = _is(params["weight"], "f32", 4)
    _same(weight.shape[1], x.shape[1], "channels")
    _need(
        _begins(x.shape[2], rows * weight.shape[2])
        and _begins(x.shape[3], columns * weight.shape[3]),
        f"{x} is not {rows} by {columns} patches of {weight}",
    )
    if "bias" in params:
        _same(params["bias"].shape, weight.shape[:1], "bias")
    return (Type("f32", (x.shape[0], rows * columns, weight.shape[0])),)


def _begins(side: Dim, whole: Dim) -> bool:
    """Whether a side is `whole`, or a number of pixels more."""
    rest = dict(side.terms).get((), 0) - dict(whole.terms).get((), 0)
    return rest >= 0 and side == whole + number(rest)


def _prepend(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) == 2, "takes positions and a token")
    x, token = _is(args[0], "f32", 3), _is(args[1], "f32", 1)
    _same(token.shape[0], x.shape[2], "width")
    B, T, C = x.shape
    return (Type("f32", (B, T + number(1), C)),)


def _rope_tables(args: Types, params: Params, attrs: Attrs) -> Types:
    ids = _one(args, "i64", 2)
    kind = attrs["kind"]
    _need(kind in ROPE_KINDS, f"no rope {kind!r}; there are {ROPE_KINDS}")
    for name in ROPE_NEEDS[str(kind)]:
        _need(name in attrs, f"the rope {kind} needs {name}=")
    _number(attrs, *(set(attrs) & ROPE_NUMBERS))
    _need(isinstance(attrs.get("truncate", True), bool), "truncate is true or false")
    factors = attrs.get("factors", ())
    _need(
        isinstance(factors, tuple)
        and not any(isinstance(f, Dim) for f in factors)
        and ("factors" not in attrs or bool(factors)),
        "factors is a list of numbers",
    )
    table = Type("f32", (ids.shape[1], _dim(attrs, "width")))
    return (table, table)


def _rotate(args: Types, params: Params, attrs: Attrs) -> Types:
    _need(len(args) == 3, "takes heads, cosines and sines")
    x, cos, sin = _is(args[0], "f32", 4), _is(args[1], "f32"), _is(args[2], "f32")
    _same(cos.shape, sin.shape, "cosines and sines")
    B, _, T, D = x.shape
    one = number(1)
    _need(
        cos.shape in ((T, D), (B, one, T, D)),
        f"cosines {cos} do not fit {x}",
    )
    return (x,)


OPS: dict[str, OpDef] = {
    op.kind: op
    for op in (
        OpDef("linear", _linear, ("weight",), ("bias",), positionwise=True),
        OpDef(
            "lora_linear",
            _low_rank,
            ("weight", "lora_a", "lora_b"),
            ("bias",),
            ("scale",),
            ("dropout",),
            positionwise=True,
        ),
        OpDef(
            "dora_linear",
            _low_rank,
            ("weight", "lora_a", "lora_b", "magnitude"),
            ("bias",),
            ("scale",),
            ("dropout",),
            positionwise=True,
        ),
        OpDef(
            "ia3_linear",
            _scaled,
            ("weight", "gain"),
            ("bias",),
            ("of",),
            positionwise=True,
        ),
        OpDef("layer_norm", _norm, ("weight",), ("bias",), ("eps",), positionwise=True),
        OpDef("rms_norm", _norm, ("weight",), (), ("eps",), positionwise=True),
        OpDef("embedding", _embedding, ("weight",)),
        OpDef("positions", _positions, ("weight",)),
        OpDef("token_places", _token_places, attrs=("padding",)),
        OpDef("row", _row, ("weight",), (), ("index",)),
        OpDef("parameter", _parameter, ("",)),
        OpDef("add", _broadcast, positionwise=True),
        OpDef("multiply", _broadcast, positionwise=True),
        OpDef(
            "dropout",
            _dropout,
            attrs=("p",),
            optional_attrs=("bits", "samples"),
            positionwise=True,
        ),
        OpDef("activation", _activation, attrs=("kind",), positionwise=True),
        OpDef("heads", _heads, attrs=("heads", "width"), positionwise=True),
        OpDef("merge_heads", _merge_heads, positionwise=True),
        OpDef(
            "attention",
            _attention,
            attrs=("causal",),
            optional_attrs=("dropout", "groups"),
        ),
        OpDef("key_mask", _key_mask),
        OpDef("first", _first),
        OpDef("mean", _pooled),
        OpDef("largest", _pooled),
        OpDef("weighted_mean", _weighted_mean),
        OpDef("join", _join),
        OpDef("flatten", _flatten),
        OpDef("rest", _rest),
        OpDef("select", _select, attrs=("by", "width")),
        OpDef("rescale", _rescale, optional_attrs=("taken_over",)),
        OpDef("narrow", _narrow),
        OpDef("last_index", _last_index, optional_attrs=("padding",)),
        OpDef("keys_until", _keys_until),
        OpDef("pick", _pick),
        OpDef("pick_rows", _pick_rows),
        OpDef("patches", _patches, ("weight",), ("bias",), ("rows", "columns")),
        OpDef("prepend", _prepend),
        OpDef(
            "rope_tables",
            _rope_tables,
            attrs=("kind", "theta", "width"),
            optional_attrs=(
                "factor",
                "low_frequency_factor",
                "high_frequency_factor",
                "original_positions",
                "attention_factor",
                "beta_fast",
                "beta_slow",
                "truncate",
                "factors",
            ),
        ),
        OpDef("rotate", _rotate, positionwise=True),
    )
}
# Linears that an adapter is part of: merged, each is a plain linear.
ADAPTED = ("lora_linear", "dora_linear", "ia3_linear")
# Those that take an optional mask, and how many operands stand before it.
MASKABLE = {
    "key_mask": 0,
    "attention": 3,
    "last_index": 1,
    "mean": 1,
    "largest": 1,
    "weighted_mean": 2,
}


def merges(model: Model) -> bool:
    """Whether there are adapters that can be merged into the weights beside them."""
    return any(op.kind in ADAPTED for m in model.modules for op in m.ops)


def infer(kind: str, args: Types, params: Params, attrs: Attrs) -> Types:
    """The types of an operation's results; OpError where it does not fit."""
    op = OPS.get(kind)
    _need(op is not None, f"no operation {kind!r}")
    assert op is not None
    known = {*op.attrs, *op.optional_attrs}
    for name in op.attrs:
        _need(name in attrs, f"needs {name}=")
    for name in attrs:
        _need(name in known, f"knows no {name}=")
    held = {*op.parameters, *op.optional}
    for name in op.parameters:
        _need(name in params, f"needs the parameter {name or 'of its name'}")
    for name, param in params.items():
        _need(name in held, f"holds no parameter {name}")
        _need(
            param.dtype == "f32" and not param.optional,
            f"its parameter {name or 'of its name'} is f32, not {param}",
        )
    _solid(args[: MASKABLE.get(kind, len(args))])
    return op.infer(args, params, attrs)
