"""The typing rule of every operation: what it gives, and what it refuses."""

import pytest

from generator.ir.dims import Dim, Type, dim, number, parse_dim, parse_type
from generator.ir.job import Const
from generator.ir.ops import ACTIVATIONS, OPS, ROPE_KINDS, OpError, infer

EPS = {"eps": Const("eps")}
HEADS = {"heads": (dim("H"),), "width": dim("D")}
QKV = {"heads": (dim("H"), dim("G"), dim("G")), "width": dim("D")}
PATCHES = {"rows": dim("R"), "columns": dim("S")}
ROPE = {"kind": "default", "theta": 1e4, "width": dim("D")}
LLAMA3 = ROPE | {
    "kind": "llama3",
    "factor": 8.0,
    "low_frequency_factor": 1.0,
    "high_frequency_factor": 4.0,
    "original_positions": 8192,
}
X, MASK = "f32[B,T,C]", "bool[B,1,1,T]?"
Q, K = "f32[B,H,T,D]", "f32[B,G,T,D]"
W = {"weight": "f32[F,C]"}

LOW = W | {"lora_a": "f32[R,C]", "lora_b": "f32[F,R]"}
GOOD = [
    # kind, operands, parameters, attributes, results
    ("linear", [X], W, {}, ["f32[B,T,F]"]),
    ("linear", ["f32[B,C]"], W | {"bias": "f32[F]"}, {}, ["f32[B,F]"]),
    ("lora_linear", [X], LOW, {"scale": 2.0}, ["f32[B,T,F]"]),
    (
        "lora_linear",
        ["f32[B,C]"],
        LOW | {"bias": "f32[F]"},
        {"scale": Const("s"), "dropout": 0.1},
        ["f32[B,F]"],
    ),
    (
        "dora_linear",
        [X],
        LOW | {"magnitude": "f32[F]"},
        {"scale": 2.0},
        ["f32[B,T,F]"],
    ),
    ("ia3_linear", [X], W | {"gain": "f32[F]"}, {"of": "output"}, ["f32[B,T,F]"]),
    ("ia3_linear", [X], W | {"gain": "f32[C]"}, {"of": "input"}, ["f32[B,T,F]"]),
    ("layer_norm", [X], {"weight": "f32[C]", "bias": "f32[C]"}, EPS, [X]),
    ("layer_norm", [X], {"weight": "f32[C]"}, {"eps": 1e-5}, [X]),
    ("rms_norm", ["f32[B,1,C]"], {"weight": "f32[C]"}, EPS, ["f32[B,1,C]"]),
    ("embedding", ["i64[B,T]"], {"weight": "f32[V,C]"}, {}, [X]),
    ("positions", [X], {"weight": "f32[P,C]"}, {}, ["f32[T,C]"]),
    ("token_places", ["i64[B,T]"], {}, {"padding": 1}, ["i64[B,T]"]),
    ("row", [], {"weight": "f32[Y,C]"}, {"index": 0}, ["f32[C]"]),
    ("parameter", [], {"": "f32[1,C]"}, {}, ["f32[1,C]"]),
    ("add", [X, X], {}, {}, [X]),
    ("add", [X, "f32[T,C]"], {}, {}, [X]),
    ("multiply", [X, "f32[B,1,C]"], {}, {}, [X]),
    ("multiply", [X, "f32[]"], {}, {}, [X]),
    ("dropout", [X], {}, {"p": 0.1}, [X]),
    ("activation", [X], {}, {"kind": "relu"}, [X]),
    ("heads", ["f32[B,T,H*D]"], {}, HEADS, [Q]),
    ("heads", ["f32[B,T,H*D+2*G*D]"], {}, QKV, [Q, K, K]),
    ("merge_heads", [Q], {}, {}, ["f32[B,T,H*D]"]),
    ("attention", [Q, Q, Q], {}, {"causal": True}, [Q]),
    ("attention", [Q, Q, Q, MASK], {}, {"causal": False}, [Q]),
    ("attention", [Q, K, K], {}, {"causal": True, "groups": True}, [Q]),
    (
        "attention",
        ["f32[B,H,1,D]", Q, Q, "bool[B,1,1,T]"],
        {},
        {"causal": False, "dropout": Const("p")},
        ["f32[B,H,1,D]"],
    ),
    ("key_mask", ["bool[B,T]?"], {}, {}, [MASK]),
    ("key_mask", ["bool[B,T]"], {}, {}, ["bool[B,1,1,T]"]),
    ("first", [X], {}, {}, ["f32[B,C]"]),
    ("dropout", [X], {}, {"p": 0.1, "samples": 5}, [X]),
    ("mean", [X], {}, {}, ["f32[B,C]"]),
    ("mean", [X, "bool[B,T]?"], {}, {}, ["f32[B,C]"]),
    ("largest", [X, "bool[B,T]"], {}, {}, ["f32[B,C]"]),
    ("weighted_mean", [X, "f32[B,T,1]"], {}, {}, ["f32[B,C]"]),
    ("weighted_mean", [X, "f32[B,T,1]", "bool[B,T]?"], {}, {}, ["f32[B,C]"]),
    ("join", ["f32[B,C]", "f32[B,F]", "f32[B,2]"], {}, {}, ["f32[B,C+F+2]"]),
    ("flatten", [X], {}, {}, ["f32[B,T*C]"]),
    ("rest", ["f32[B,T+1,C]"], {}, {}, [X]),
    ("rest", ["f32[B,M*N+1,C]"], {}, {}, ["f32[B,M*N,C]"]),
    ("narrow", [X], {}, {}, ["f32[B,1,C]"]),
    (
        "select",
        ["f32[B,C]"],
        {},
        {"by": "kept", "width": dim("K")},
        ["f32[B,K]"],
    ),
    ("rescale", ["f32[B,K]"], {}, {}, ["f32[B,K]"]),
    ("rescale", ["f32[B,K]"], {}, {"taken_over": True}, ["f32[B,K]"]),
    ("last_index", ["i64[B,T]", "bool[B,T]?"], {}, {}, ["i64[B]"]),
    ("last_index", ["i64[B,T]", "bool[B,T]?"], {}, {"padding": 0}, ["i64[B]"]),
    ("keys_until", ["i64[B,T]", "i64[B]"], {}, {}, ["bool[B,1,1,T]"]),
    ("pick", [X, "i64[B]"], {}, {}, ["f32[B,1,C]"]),
    ("pick_rows", ["f32[T,D]", "i64[B]"], {}, {}, ["f32[B,1,1,D]"]),
    (
        "patches",
        ["f32[B,I,P*R,Q*S]"],
        {"weight": "f32[C,I,P,Q]", "bias": "f32[C]"},
        PATCHES,
        ["f32[B,R*S,C]"],
    ),
    (
        "patches",
        ["f32[B,I,P*R,Q*S+2]"],
        {"weight": "f32[C,I,P,Q]"},
        PATCHES,
        ["f32[B,R*S,C]"],
    ),
    ("prepend", [X, "f32[C]"], {}, {}, ["f32[B,T+1,C]"]),
    ("rope_tables", ["i64[B,T]"], {}, ROPE, ["f32[T,D]", "f32[T,D]"]),
    ("rope_tables", ["i64[B,T]"], {}, LLAMA3, ["f32[T,D]", "f32[T,D]"]),
    ("rotate", [K, "f32[T,D]", "f32[T,D]"], {}, {}, [K]),
    (
        "rotate",
        ["f32[B,H,1,D]", "f32[B,1,1,D]", "f32[B,1,1,D]"],
        {},
        {},
        ["f32[B,H,1,D]"],
    ),
]
BAD = [
    # kind, operands, parameters, attributes, what is said
    ("fourier", [X], {}, {}, "no operation 'fourier'"),
    ("linear", [X], {}, {}, "needs the parameter weight"),
    ("linear", [X], W | {"gain": "f32[F]"}, {}, "holds no parameter gain"),
    (
        "linear",
        [X],
        {"weight": "i64[F,C]"},
        {},
        "its parameter weight is f32, not i64[F,C]",
    ),
    ("linear", [X], {"weight": "f32[F,C]?"}, {}, "weight is f32, not f32[F,C]?"),
    ("linear", [X], W, {"p": 0.1}, "knows no p="),
    ("linear", [X, X], W, {}, "takes one operand, not 2"),
    ("linear", ["i64[B,T]"], W, {}, "takes f32, not i64[B,T]"),
    ("linear", ["f32[C]"], W, {}, "takes at least 2 dimensions, not f32[C]"),
    ("linear", ["f32[B,T,F]"], W, {}, "input width: F is not C"),
    ("linear", [X], {"weight": "f32[C]"}, {}, "takes 2 dimensions, not f32[C]"),
    ("linear", [X], W | {"bias": "f32[C]"}, {}, "bias"),
    ("linear", ["f32[B,C]?"], W, {}, "takes a value that is always there"),
    (
        "lora_linear",
        [X],
        LOW | {"lora_a": "f32[R,F]"},
        {"scale": 1},
        "lora_a: F is not",
    ),
    ("lora_linear", [X], LOW | {"lora_b": "f32[F,C]"}, {"scale": 1}, "lora_b"),
    ("lora_linear", [X], LOW, {"scale": "large"}, "scale is a number"),
    ("lora_linear", [X], LOW, {"scale": 1, "dropout": True}, "dropout is a number"),
    ("dora_linear", [X], LOW, {"scale": 1}, "needs the parameter magnitude"),
    (
        "dora_linear",
        [X],
        LOW | {"magnitude": "f32[C]"},
        {"scale": 1},
        "magnitude",
    ),
    ("ia3_linear", [X], W | {"gain": "f32[C]"}, {"of": "output"}, "gain"),
    ("ia3_linear", [X], W | {"gain": "f32[F]"}, {"of": "both"}, "of is one of"),
    ("layer_norm", [X], {"weight": "f32[F]"}, EPS, "the norm's weight"),
    ("layer_norm", [X], {"weight": "f32[C]", "bias": "f32[F]"}, EPS, "the norm's bias"),
    ("layer_norm", [X], {"weight": "bool[C]"}, EPS, "its parameter weight is f32"),
    ("layer_norm", [X], {"weight": "f32[C]"}, {}, "needs eps="),
    ("layer_norm", [X], {"weight": "f32[C]"}, {"eps": "small"}, "eps is a number"),
    ("layer_norm", [X], {"weight": "f32[C]"}, {"eps": True}, "eps is a number"),
    ("layer_norm", ["f32[]"], {"weight": "f32[]"}, EPS, "takes at least 1 dimension"),
    ("rms_norm", [X], {"weight": "f32[C]", "bias": "f32[C]"}, EPS, "no parameter bias"),
    ("embedding", [X], {"weight": "f32[V,C]"}, {}, "takes i64"),
    ("embedding", ["i64[B]"], {"weight": "f32[V,C]"}, {}, "takes 2 dimensions"),
    ("positions", [X], {"weight": "f32[P,F]"}, {}, "width: F is not C"),
    ("token_places", ["i64[B,T]"], {}, {"padding": -1}, "padding is the id of a token"),
    (
        "token_places",
        ["i64[B,T]"],
        {},
        {"padding": 0.5},
        "padding is the id of a token",
    ),
    ("row", [X], {"weight": "f32[Y,C]"}, {"index": 0}, "takes no operands"),
    ("row", [], {"weight": "f32[Y,C]"}, {"index": -1}, "index is a row"),
    ("parameter", [X], {"": "f32[C]"}, {}, "takes no operands"),
    ("parameter", [], {}, {}, "needs the parameter of its name"),
    ("parameter", [], {"": "i64[C]"}, {}, "its parameter of its name is f32"),
    ("add", [X], {}, {}, "takes two operands, not 1"),
    ("add", [X, "f32[B,T,F]"], {}, {}, "cannot broadcast f32[B,T,F] to f32[B,T,C]"),
    ("add", ["f32[T,C]", X], {}, {}, "the larger operand comes first"),
    ("add", ["f32[B,1,C]", X], {}, {}, "cannot broadcast"),
    ("add", [X, "i64[C]"], {}, {}, "takes f32"),
    ("multiply", [X, "f32[F]"], {}, {}, "cannot broadcast f32[F] to f32[B,T,C]"),
    ("dropout", [X], {}, {}, "needs p="),
    ("dropout", [X], {}, {"p": "0.1"}, "p is a number"),
    ("activation", [X], {}, {"kind": "mish"}, "no activation 'mish'"),
    ("activation", [X], {}, {"kind": 3}, "no activation 3"),
    ("heads", [X], {}, HEADS, "width of all heads: C is not D*H"),
    ("heads", ["f32[B,T,H*D]"], {}, {"heads": (), "width": dim("D")}, "at least one"),
    (
        "heads",
        ["f32[B,T,H*D]"],
        {},
        {"heads": dim("H"), "width": dim("D")},
        "a list of",
    ),
    (
        "heads",
        ["f32[B,T,H*D]"],
        {},
        {"heads": (dim("H"),), "width": 4},
        "width is a dimension",
    ),
    ("merge_heads", [X], {}, {}, "takes 4 dimensions"),
    ("attention", [Q, Q], {}, {"causal": True}, "takes query, key, value"),
    ("attention", [Q, K, Q], {}, {"causal": True}, "key and value"),
    ("attention", [Q, K, K], {}, {"causal": True}, "as many heads"),
    (
        "attention",
        [Q, Q, Q, MASK],
        {},
        {"causal": True},
        "a causal attention takes no mask",
    ),
    (
        "attention",
        ["f32[B,H,1,D]", Q, Q],
        {},
        {"causal": True},
        "positions of key and query",
    ),
    (
        "attention",
        [Q, "f32[B,H,T,F]", "f32[B,H,T,F]"],
        {},
        {"causal": True},
        "batch and head width",
    ),
    ("attention", [Q, Q, Q, "bool[B,T]"], {}, {"causal": False}, "takes 4 dimensions"),
    ("attention", [Q, Q, Q, "bool[B,1,T,T]"], {}, {"causal": False}, "mask"),
    ("attention", [Q, Q, Q], {}, {"causal": 1}, "causal is true or false"),
    ("attention", [Q, K, K], {}, {"causal": True, "groups": 2}, "groups is true"),
    (
        "attention",
        [Q, Q, Q],
        {},
        {"causal": True, "dropout": "x"},
        "dropout is a number",
    ),
    ("attention", [f"{Q}?", Q, Q], {}, {"causal": True}, "always there"),
    ("key_mask", ["i64[B,T]"], {}, {}, "takes bool"),
    ("first", ["f32[B,C]"], {}, {}, "takes 3 dimensions"),
    ("narrow", ["f32[B,C]"], {}, {}, "takes 3 dimensions"),
    ("select", [X], {}, {"by": "kept", "width": dim("K")}, "takes 2 dimensions"),
    ("select", ["f32[B,C]"], {}, {"by": 3, "width": dim("K")}, "name of a list"),
    ("select", ["f32[B,C]"], {}, {"by": "kept", "width": 3}, "is a dimension"),
    ("rescale", [X], {}, {}, "takes 2 dimensions"),
    ("rescale", ["f32[B,K]"], {}, {"taken_over": False}, "is true, or not there"),
    ("dropout", [X], {}, {"p": 0.1, "samples": "5"}, "samples is a number"),
    ("mean", [X, X], {}, {}, "takes bool"),
    ("mean", [X, "bool[B,C]?"], {}, {}, "mask: "),
    ("mean", [X, "bool[B,T]", "bool[B,T]"], {}, {}, "takes positions"),
    ("largest", ["f32[B,C]"], {}, {}, "takes 3 dimensions"),
    ("weighted_mean", [X], {}, {}, "takes positions, their scores"),
    ("weighted_mean", [X, X], {}, {}, "scores: "),
    ("weighted_mean", [X, "f32[B,T,1]", "bool[B,C]"], {}, {}, "mask: "),
    ("join", ["f32[B,C]"], {}, {}, "two vectors of a row or more, not 1"),
    ("join", ["f32[B,C]", "f32[T,C]"], {}, {}, "batch: T is not B"),
    ("join", ["f32[B,C]", X], {}, {}, "takes 2 dimensions"),
    ("join", ["f32[B,C]", "i64[B,C]"], {}, {}, "takes f32"),
    ("flatten", ["f32[B,C]"], {}, {}, "takes 3 dimensions"),
    ("rest", [X], {}, {}, "one position and others"),
    ("last_index", ["i64[B,T]"], {}, {}, "takes the ids and the mask"),
    ("last_index", ["i64[B,T]", "bool[B,T]"], {}, {"padding": -1}, "id of a token"),
    ("keys_until", ["i64[B,T]"], {}, {}, "takes the ids and an index"),
    ("keys_until", ["i64[B,T]", "i64[C]"], {}, {}, "index and batch"),
    ("token_places", ["f32[B,T]"], {}, {"padding": 1}, "takes i64"),
    ("last_index", ["i64[B,T]", "bool[B,C]"], {}, {}, "mask and ids"),
    ("last_index", ["i64[B,T]?", "bool[B,T]"], {}, {}, "always there"),
    ("pick", [X], {}, {}, "takes values and an index"),
    ("pick", [X, "i64[T]"], {}, {}, "index and batch"),
    ("pick_rows", ["f32[T,D]"], {}, {}, "takes a table and an index"),
    ("pick_rows", [X, "i64[B]"], {}, {}, "takes 2 dimensions"),
    ("patches", ["f32[B,J,P*R,Q*S]"], {"weight": "f32[C,I,P,Q]"}, PATCHES, "channels"),
    (
        "patches",
        ["f32[B,I,P*R+T,Q*S]"],
        {"weight": "f32[C,I,P,Q]"},
        PATCHES,
        "is not R by S patches of f32[C,I,P,Q]",
    ),
    (
        "patches",
        ["f32[B,I,P*R,Q*R]"],
        {"weight": "f32[C,I,P,Q]"},
        PATCHES,
        "is not R by S patches of f32[C,I,P,Q]",
    ),
    (
        "patches",
        ["f32[B,I,P*R,Q*S]"],
        {"weight": "f32[C,I,P,Q]", "bias": "f32[I]"},
        PATCHES,
        "bias",
    ),
    ("prepend", [X], {}, {}, "takes positions and a token"),
    ("prepend", [X, "f32[F]"], {}, {}, "width: F is not C"),
    ("rope_tables", ["i64[B,T]"], {}, ROPE | {"kind": "ntk"}, "no rope 'ntk'"),
    ("rope_tables", ["i64[B,T]"], {}, ROPE | {"theta": "x"}, "theta is a number"),
    (
        "rope_tables",
        ["i64[B,T]"],
        {},
        ROPE | {"kind": "yarn"},
        "the rope yarn needs factor=",
    ),
    (
        "rope_tables",
        ["i64[B,T]"],
        {},
        {k: v for k, v in LLAMA3.items() if k != "original_positions"},
        "the rope llama3 needs original_positions=",
    ),
    (
        "rope_tables",
        ["i64[B,T]"],
        {},
        ROPE | {"truncate": 1.0},
        "truncate is true or false",
    ),
    (
        "rope_tables",
        ["i64[B,T]"],
        {},
        ROPE | {"factors": 1.0},
        "factors is a list of numbers",
    ),
    ("rope_tables", ["i64[B,T]"], {}, ROPE | {"width": 4}, "width is a dimension"),
    ("rotate", [Q], {}, {}, "takes heads, cosines and sines"),
    ("rotate", [Q, "f32[T,D]", "f32[T,C]"], {}, {}, "cosines and sines"),
    ("rotate", [Q, "f32[D,T]", "f32[D,T]"], {}, {}, "do not fit"),
]


def types(texts) -> tuple[Type, ...]:
    return tuple(parse_type(t) for t in texts)


def given(params: dict[str, str]) -> dict[str, Type]:
    return {name: parse_type(text) for name, text in params.items()}


@pytest.mark.parametrize("kind, args, params, attrs, results", GOOD)
def test_what_an_operation_gives(kind, args, params, attrs, results):
    assert infer(kind, types(args), given(params), attrs) == types(results)


@pytest.mark.parametrize("kind, args, params, attrs, message", BAD)
def test_what_an_operation_refuses(kind, args, params, attrs, message):
    with pytest.raises(OpError) as caught:
        infer(kind, types(args), given(params), attrs)
    assert message in str(caught.value)


def test_every_operation_is_tested_both_ways():
    assert {case[0] for case in GOOD} == set(OPS)
    assert {case[0] for case in BAD} == {*OPS, "fourier"}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_every_activation_is_known(kind: str):
    assert infer("activation", types([X]), {}, {"kind": kind}) == types([X])


@pytest.mark.parametrize("kind, args, params, attrs, results", GOOD)
def test_every_attribute_and_parameter_that_is_needed(
    kind, args, params, attrs, results
):
    """Without one that must be there, an operation is refused."""
    for name in OPS[kind].attrs:
        less = {k: v for k, v in attrs.items() if k != name}
        with pytest.raises(OpError, match=f"needs {name}="):
            infer(kind, types(args), given(params), less)
    for name in OPS[kind].parameters:
        less = {k: v for k, v in params.items() if k != name}
        with pytest.raises(OpError, match="needs the parameter"):
            infer(kind, types(args), given(less), attrs)


def test_positionwise_operations_keep_positions():
    """A positionwise operation at one position is that operation on one position."""
    for kind, args, params, attrs, results in GOOD:
        if not OPS[kind].positionwise or kind == "rotate":
            continue
        one = [a.replace("T", "1") for a in args]
        assert infer(kind, types(one), given(params), attrs) == types(
            [r.replace("T", "1") for r in results]
        )


def test_kinds_of_rope():
    assert set(ROPE_KINDS) == {"default", "linear", "llama3", "yarn", "longrope"}
    assert isinstance(number(1), Dim) and parse_dim("1") == number(1)
