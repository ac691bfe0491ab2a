"""The algebra of weights: the shape that is foretold is the shape that comes out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from generator.ir.job import absolute, listed
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
    ShapeError,
    Share,
    Source,
    Stretch,
    Sum,
    Take,
    Tie,
    Tile,
    Transpose,
    first_readings,
    keys,
    leaves,
    rebuild,
    shape_of,
    whole,
)
from generator.runtime.interpret import evaluate_source
from tests.ir.strategies import sources

SHAPES = {"a": (4, 3), "b": (2, 3), "c": (3, 4), "v": (3,), "w": (4, 3), "y": (4,)}
TENSORS = {
    name: torch.arange(float(math.prod(shape))).reshape(shape)
    for name, shape in SHAPES.items()
}
leaf = st.sampled_from(sorted(SHAPES)).flatmap(
    lambda name: st.sampled_from([Checkpoint(name), Parameter(name), Tie(name)])
)
grids = st.tuples(st.integers(1, 2), st.integers(1, 3))
known: st.SearchStrategy[Source] = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds(Concatenate, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Sum, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Rows, inner, st.integers(0, 3), st.integers(0, 5)),
        st.builds(Row, inner, st.integers(0, 4)),
        st.builds(Transpose, inner),
        st.builds(Repeat, inner, st.integers(0, 9)),
        st.builds(Share, inner, st.integers(0, 9)),
        st.builds(Noise, inner, st.integers(0, 4), st.sampled_from([0.0, 0.5])),
        st.builds(Left, inner, st.integers(0, 4)),
        st.builds(Right, inner, st.integers(0, 4)),
        st.builds(Tile, inner, st.integers(0, 9), st.integers(0, 3)),
        st.builds(Stretch, inner, st.integers(0, 9), st.integers(0, 3)),
        st.builds(Resize, inner, grids, grids),
    ),
    max_leaves=5,
)


@given(known)
def test_a_source_has_the_shape_that_is_foretold(source: Source):
    try:
        shape = shape_of(source, SHAPES, (7,))
    except ShapeError:
        return  # the refusals have tests of their own
    assert tuple(evaluate_source(source, TENSORS, (7,)).shape) == shape


def test_values():
    a, b, v = TENSORS["a"], TENSORS["b"], TENSORS["v"]
    ckpt = Checkpoint

    def value(source: Source) -> list:
        return evaluate_source(source, TENSORS, ()).tolist()

    assert value(Concatenate((ckpt("a"), ckpt("b")))) == a.tolist() + b.tolist()
    assert value(Sum((ckpt("a"), ckpt("w")))) == (2 * a).tolist()
    assert value(Rows(ckpt("a"), 1, 3)) == a.tolist()[1:3]
    assert value(Row(ckpt("a"), 2)) == a.tolist()[2]
    assert value(Take(ckpt("a"), 0, "n", (0, 2))) == a[[0, 2]].tolist()
    assert value(Take(ckpt("a"), 1, "n", (0, 2))) == a[:, [0, 2]].tolist()
    assert shape_of(Take(ckpt("a"), 1, "n", (0, 2)), SHAPES, ()) == (4, 2)
    assert value(Transpose(ckpt("b"))) == [list(c) for c in zip(*b.tolist())]
    assert value(Parameter("v")) == v.tolist()
    assert value(Repeat(ckpt("a"), 10)) == (3 * a.tolist())[:10]
    assert value(Repeat(ckpt("v"), 4)) == [0, 1, 2, 0]
    columns = [[x / 2, y / 2, z, x / 2, y / 2] for x, y, z in b.tolist()]
    assert value(Share(ckpt("b"), 5)) == columns
    rows = a.tolist()
    assert value(Tile(ckpt("a"), 9, 1)) == [*rows, *rows[1:], *rows[1:3]]
    assert value(Tile(ckpt("a"), 6, 0)) == [*rows, *rows[:2]]
    between = [(a[1] + a[2]) / 2, (a[2] + a[3]) / 2]
    wide = [a[0], a[1], between[0], a[2], between[1], a[3]]
    assert value(Stretch(ckpt("a"), 6, 1)) == [row.tolist() for row in wide]
    assert value(Resize(ckpt("a"), (1, 3), (1, 3))) == rows


def test_initial_values():
    draw = torch.Generator().manual_seed(3)
    noise = evaluate_source(Init("normal", 0.02), {}, (300, 200), draw)
    assert noise.shape == (300, 200)
    assert float(noise.std()) == pytest.approx(0.02, rel=0.02)
    assert abs(float(noise.mean())) < 1e-3
    again = torch.Generator().manual_seed(3)
    assert torch.equal(
        noise, evaluate_source(Init("normal", 0.02), {}, (300, 200), again)
    )
    assert evaluate_source(Init("constant", 0.5), {}, (2,)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "source, message",
    [
        (Checkpoint("nope"), 'the checkpoint has no tensor "nope"'),
        (Parameter("nope"), 'there is no parameter "nope"'),
        (Tie("nope"), 'there is no parameter "nope"'),
        (Concatenate(()), "cannot join the shapes [] along the first axis"),
        (
            Concatenate((Checkpoint("a"), Checkpoint("c"))),
            "cannot join the shapes [(4, 3), (3, 4)] along the first axis",
        ),
        (
            Concatenate((Row(Checkpoint("v"), 0),)),
            "cannot join the shapes [()] along the first axis",
        ),
        (Rows(Checkpoint("a"), 0, 5), "rows 0:5 of a tensor of shape (4, 3)"),
        (Rows(Checkpoint("a"), 2, 2), "rows 2:2 of a tensor of shape (4, 3)"),
        (Rows(Checkpoint("a"), -1, 2), "rows -1:2 of a tensor of shape (4, 3)"),
        (Row(Checkpoint("a"), 4), "row 4 of a tensor of shape (4, 3)"),
        (Row(Row(Checkpoint("v"), 0), 0), "row 0 of a tensor of shape ()"),
        (
            Take(Checkpoint("a"), 0, "n", (0, 4)),
            '"n" of axis 0 of a tensor of shape (4, 3)',
        ),
        (
            Take(Checkpoint("a"), 2, "n", (0,)),
            '"n" of axis 2 of a tensor of shape (4, 3)',
        ),
        (
            Take(Checkpoint("a"), 1, "n", ()),
            '"n" of axis 1 of a tensor of shape (4, 3)',
        ),
        (Take(Checkpoint("a"), 1, "n", (2, 0)), '"n" is not ascending'),
        (Take(Checkpoint("a"), 1, "n", (1, 1)), '"n" is not ascending'),
        (Transpose(Checkpoint("v")), "transpose of a tensor of shape (3,)"),
        (Norms(Checkpoint("v")), "lengths of the rows of a tensor of shape (3,)"),
        (
            Sum((Checkpoint("a"), Checkpoint("c"))),
            "cannot add tensors of shapes [(4, 3), (3, 4)]",
        ),
        (Sum(()), "cannot add tensors of shapes []"),
        (Repeat(Checkpoint("a"), 3), "3 rows made of a tensor of shape (4, 3)"),
        (Share(Checkpoint("a"), 2), "2 columns made of a tensor of shape (4, 3)"),
        (Share(Checkpoint("v"), 5), "5 columns made of a tensor of shape (3,)"),
        (
            Noise(Checkpoint("a"), 4, 1.0),
            "noise from row 4 of a tensor of shape (4, 3)",
        ),
        (
            Fold(Checkpoint("c"), Checkpoint("v"), Checkpoint("v"), 1, 1, "n"),
            "cannot fold tensors of shapes [(3, 4), (3,), (3,)]",
        ),
        (
            Fold(Checkpoint("v"), Checkpoint("c"), Checkpoint("v"), 2, 3, "n"),
            "a vector of 3 entries, by 3 for 2 groups each, has not one for each of "
            + "4 columns",
        ),
        (
            Fold(Checkpoint("v"), Checkpoint("c"), Checkpoint("y"), 1, 2, "n", (1, 4)),
            '"n" is not ascending columns of 4',
        ),
        (
            Gain(Checkpoint("v"), 9, 4),
            "a gain for 4 of 9 channels, of a tensor of shape (3,)",
        ),
        (Left(Checkpoint("a"), 4), "factors of rank 4 of a tensor of shape (4, 3)"),
        (Right(Checkpoint("v"), 1), "factors of rank 1 of a tensor of shape (3,)"),
        (
            Tile(Checkpoint("a"), 3, 0),
            "3 rows, 0 as they are, of a tensor of shape (4, 3)",
        ),
        (
            Stretch(Checkpoint("a"), 9, 4),
            "9 rows, 4 as they are, of a tensor of shape (4, 3)",
        ),
        (
            Resize(Checkpoint("a"), (2, 3), (4, 4)),
            "a grid (4, 4) of one (2, 3) in a tensor of shape (4, 3)",
        ),
    ],
)
def test_what_does_not_fit_is_said(source: Source, message: str):
    with pytest.raises(ShapeError) as caught:
        shape_of(source, SHAPES, (7,))
    assert str(caught.value) == message


def test_noise_is_of_the_size_of_the_tensor_and_in_the_rows_asked_for():
    draw = torch.Generator().manual_seed(3)
    x = 7 * torch.randn(400, 300, generator=draw, dtype=torch.float64)
    noisy = evaluate_source(Noise(Checkpoint("x"), 100, 0.1), {"x": x}, (), draw)
    assert torch.equal(noisy[:100], x[:100])
    assert float((noisy - x)[100:].std()) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_two_factors_are_the_nearest_matrix_of_their_rank(shape, rank):
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=draw, dtype=torch.float64)
    left = evaluate_source(Left(Checkpoint("x"), rank), {"x": x}, ())
    right = evaluate_source(Right(Checkpoint("x"), rank), {"x": x}, ())
    values = torch.linalg.svdvals(x)
    error, tail = (x - left @ right).norm(), values[rank:].norm()
    assert float(error) == pytest.approx(float(tail), rel=1e-12, abs=1e-13)
    for factor in (left.T @ left, right @ right.T):  # each has half of the values
        assert torch.allclose(factor, values[:rank].diag(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sizes", [(5, 9), (5, 6), (2, 31), (1, 4), (7, 7)])
def test_rows_between_are_those_of_torch(sizes):
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(sizes[0] + 2, 3, generator=draw, dtype=torch.float64)
    found = evaluate_source(Stretch(Checkpoint("x"), sizes[1] + 2, 2), {"x": x}, ())
    lines = x[None, 2:].transpose(1, 2)
    want = F.interpolate(lines, sizes[1], mode="linear", align_corners=True)[0].T
    assert torch.equal(found[:2], x[:2])
    assert torch.allclose(found[2:], want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("before", [(3, 3), (2, 5), (1, 4)])
@pytest.mark.parametrize("after", [(3, 3), (7, 4), (2, 2), (9, 1)])
def test_grids_are_those_of_torch(before, after):
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(math.prod(before) + 1, 3, generator=draw, dtype=torch.float64)
    found = evaluate_source(Resize(Checkpoint("x"), before, after), {"x": x}, ())
    grid = x[1:].T.reshape(1, 3, *before)
    want = F.interpolate(grid, after, mode="bicubic", align_corners=False)
    assert torch.equal(found[:1], x[:1])
    assert torch.allclose(found[1:], want[0].flatten(1).T, rtol=0, atol=1e-14)


def test_an_initialisation_takes_the_shape_of_its_parameter():
    assert shape_of(Init("normal", 0.02), {}, (5, 6)) == (5, 6)


@given(sources)
def test_leaves_are_visited_in_order_and_rebuilt(source: Source):
    assert rebuild(source, lambda one: one) == source
    seen: list[Source] = []
    rebuild(source, lambda one: seen.append(one) or one)
    assert seen == list(leaves(source))
    assert keys(source) == tuple(s.key for s in seen if isinstance(s, Checkpoint))
    assert set(whole(source)) <= set(keys(source))


def test_lengths_of_rows_and_kaimings_uniform():
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    source = Norms(Checkpoint("a"))
    assert shape_of(source, {"a": (2, 2)}, ()) == (2,)
    assert evaluate_source(source, {"a": rows}, ()).tolist() == [5.0, 2.0]
    drawn = evaluate_source(Init("kaiming", 5**0.5), {}, (300, 16))
    assert 0.249 < drawn.abs().max() <= 0.25
    theirs = torch.nn.init.kaiming_uniform_(torch.empty(300, 16), 5**0.5)
    assert abs(drawn.std() - theirs.std()) < 0.01


def test_what_is_left_out_of_a_matrix_is_folded_into_a_bias():
    """Columns 0 and 1 are a group, 2 and 3 another; the second is kept."""
    bias, matrix, vector = torch.ones(2), torch.arange(8.0).view(2, 4), torch.ones(4)
    known = {"b": bias, "m": matrix, "v": vector, "s": torch.tensor([3.0, 5.0])}
    source = Fold(Checkpoint("b"), Checkpoint("m"), Checkpoint("v"), 1, 2, "n", (2, 3))
    assert evaluate_source(source, known, ()).tolist() == [1 + 0 + 1, 1 + 4 + 5]
    # Both groups share the vector's two entries.
    shared = Fold(Checkpoint("b"), Checkpoint("m"), Checkpoint("s"), 2, 2, "n", (0, 1))
    assert evaluate_source(shared, known, ()).tolist() == [1 + 6 + 15, 1 + 18 + 35]
    shapes = {name: tuple(value.shape) for name, value in known.items()}
    assert shape_of(shared, shapes, ()) == (2,)
    # Its matrix and its vector are those of other parameters, too.
    assert keys(source) == ("b", "m", "v")
    assert first_readings(source) == tuple(whole(source)) == ("b",)


def test_a_gain_for_some_of_the_channels():
    found = evaluate_source(Gain(Checkpoint("v"), 12, 3), TENSORS, ())
    assert found.tolist() == (2 * TENSORS["v"]).tolist()
    assert shape_of(Gain(Checkpoint("v"), 12, 3), SHAPES, ()) == (3,)


def test_a_list_is_that_of_the_nearest_module_around():
    kept = {"width": (0,), "blocks.1.width": (1,), "blocks.1.ff.hidden": (2,)}

    def index(name: str, path: str) -> tuple[int, ...]:
        found = listed(Take(Checkpoint("a"), 0, name), path, kept)
        assert isinstance(found, Take)
        return found.index

    assert index("width", "") == index("width", "blocks.0.ff.") == (0,)
    assert index("width", "blocks.1.") == index("width", "blocks.1.ff.") == (1,)
    assert index("hidden", "blocks.1.ff.") == (2,)
    assert index("hidden", "blocks.1.attention.") == ()


def test_rows_are_not_read_whole():
    source = Concatenate(
        (Checkpoint("a"), Rows(Checkpoint("b"), 0, 1), Row(Checkpoint("c"), 0))
    )
    assert list(whole(source)) == ["a"]


def test_a_module_prefix_goes_before_the_checkpoints_keys_alone():
    source = Concatenate((Checkpoint("q.weight"), Tie("q.weight")))
    assert absolute(source, "layer.3.") == Concatenate(
        (Checkpoint("layer.3.q.weight"), Tie("q.weight"))
    )
