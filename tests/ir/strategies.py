"""Random parts of jobs, for hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from generator.ir.dims import DTYPES, Dim, Type, dim, number
from generator.ir.job import (
    ROLES,
    Const,
    ConstDef,
    DimDef,
    Instance,
    Model,
    Module,
    Op,
    ParameterDef,
    Tensor,
    Unused,
    Value,
)
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

# Anything that can stand in a key, a label or a sentence: quotes, line ends, marks that
# turn the direction of text, and halves of surrogate pairs, which JSON can escape.
texts = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ['"', "\\", "a\nb", "\r\n", "#", "# not a comment", "{i}", "\u202e", "\ud800", "é"]
)
floats = st.floats(allow_nan=False)

NAMES = ("B", "T", "C", "H", "D", "N", "inf", "e1", "x_2")
symbols: st.SearchStrategy[str] = st.sampled_from(NAMES)
# Values, modules and operations; some look like numbers and words of the language.
words = st.sampled_from(
    ["q", "x", "inf", "nan", "count", "depth", "tensor", "B_1", "f32", "labels", "gir"]
)
paths = st.lists(words | st.sampled_from(["0", "17"]), max_size=2).flatmap(
    lambda rest: words.map(lambda first: ".".join([first, *rest]))
)
places = st.sampled_from(["", "task", "backbone.from", "backbone.edits[0].do", "a-b"])

terms = st.tuples(
    st.lists(symbols, max_size=3).map(lambda names: tuple(sorted(names))),
    st.integers(1, 9),
)


def _sum(parts: Sequence[tuple[tuple[str, ...], int]]) -> Dim:
    total = Dim(())
    for names, n in parts:
        term = number(n)
        for name in names:
            term = term * dim(name)
        total = total + term
    return total


dims: st.SearchStrategy[Dim] = st.lists(terms, max_size=3).map(_sum)
types: st.SearchStrategy[Type] = st.builds(
    Type, st.sampled_from(DTYPES), st.lists(dims, max_size=4).map(tuple), st.booleans()
)
values = st.builds(Value, paths, types)

grids = st.tuples(st.integers(0, 9), st.integers(0, 9))
leaf_sources: st.SearchStrategy[Source] = st.one_of(
    st.builds(Checkpoint, texts),
    st.builds(Parameter, texts),
    st.builds(Tie, texts),
    st.builds(Init, st.sampled_from(["normal", "constant", "kaiming"]), floats),
)
sources: st.SearchStrategy[Source] = st.recursive(
    leaf_sources,
    lambda inner: st.one_of(
        st.builds(Concatenate, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Sum, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Rows, inner, st.integers(0, 9), st.integers(0, 9)),
        st.builds(Row, inner, st.integers(0, 9)),
        st.builds(
            Take,
            inner,
            st.integers(0, 2),
            texts,
            st.lists(st.integers(0, 99), max_size=4).map(tuple),
        ),
        st.builds(Transpose, inner),
        st.builds(Repeat, inner, st.integers(0, 9)),
        st.builds(Share, inner, st.integers(0, 9)),
        st.builds(Noise, inner, st.integers(0, 9), floats),
        st.builds(Left, inner, st.integers(0, 9)),
        st.builds(Right, inner, st.integers(0, 9)),
        st.builds(Norms, inner),
        st.builds(Gain, inner, st.integers(0, 9), st.integers(0, 9)),
        st.builds(
            Fold,
            inner,
            inner,
            inner,
            st.integers(0, 9),
            st.integers(0, 9),
            texts,
            st.lists(st.integers(0, 99), max_size=4).map(tuple),
        ),
        st.builds(Tile, inner, st.integers(0, 9), st.integers(0, 9)),
        st.builds(Stretch, inner, st.integers(0, 9), st.integers(0, 9)),
        st.builds(Resize, inner, grids, grids),
    ),
    max_leaves=6,
)

attrs = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    floats,
    texts,
    st.builds(Const, words),
    dims,
    st.lists(dims, min_size=1, max_size=3).map(tuple),
    st.lists(floats, max_size=3).map(tuple),
)
ops = st.builds(
    Op,
    words,
    st.lists(values, min_size=1, max_size=3).map(tuple),
    st.lists(paths, max_size=3).map(tuple),
    st.just("") | paths,
    st.dictionaries(words, attrs, max_size=3).map(lambda d: tuple(sorted(d.items()))),
    places,
)
parameter_defs = st.builds(
    ParameterDef,
    paths,
    types,
    st.sampled_from(ROLES),
    sources,
    places,
    st.booleans(),
)
instances = st.builds(
    Instance,
    paths,
    words,
    texts,
    st.integers(-1, 99),
    st.integers(0, 99),
    st.lists(paths, max_size=2).map(tuple),
    st.lists(st.tuples(symbols, symbols), max_size=2).map(tuple),
    st.lists(st.tuples(paths, sources), max_size=2).map(tuple),
)
modules = st.builds(
    Module,
    words,
    st.lists(values, max_size=3).map(tuple),
    st.lists(ops, max_size=4).map(tuple),
    st.lists(paths, max_size=3).map(tuple),
    st.lists(parameter_defs, max_size=3).map(tuple),
    st.lists(instances, max_size=2).map(tuple),
    texts,
    st.lists(symbols, max_size=2).map(tuple),
)
models = st.builds(
    Model,
    texts,
    st.lists(
        st.builds(
            DimDef,
            symbols,
            st.none() | st.integers(0, 10**6),
            texts,
            st.none() | st.integers(0, 10**6),
            texts,
        ),
        max_size=3,
    ).map(tuple),
    st.lists(st.builds(ConstDef, words, floats | st.integers(), texts), max_size=3).map(
        tuple
    ),
    st.lists(
        st.builds(
            Tensor,
            texts,
            st.sampled_from(["F32", "BF16", "F8_E4M3", "I64"]),
            st.lists(st.integers(0, 10**6), max_size=4).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    st.lists(st.builds(Unused, texts, texts), max_size=2).map(tuple),
    st.lists(modules, max_size=3).map(tuple),
    st.just("") | paths,
)
