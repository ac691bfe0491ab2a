"""Where a parameter's value comes from: a small algebra of tensors.

A leaf is a tensor of the checkpoint, a parameter of the model before a pass, or an
initialisation; the rest joins, cuts and reshapes. The loader is rendered from it, the
interpreter evaluates it, and the weight maps of passes are written in it, so that the
three cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A tensor of the checkpoint. In a module the key is relative to its instance."""

    key: str


@dataclass(frozen=True)
class Parameter:
    """A parameter of the model before a pass, by its path: a leaf of weight maps."""

    path: str


@dataclass(frozen=True)
class Init:
    """A new value: normal with a standard deviation, a constant, or Kaiming's uniform.

    The last (He et al., 2015) lies within sqrt(6 / ((1 + a**2) * columns)) of 0, where a
    is the slope of a leaky ReLU below 0.
    """

    kind: Literal["normal", "constant", "kaiming"]
    value: float  # the standard deviation, the constant, or the slope


@dataclass(frozen=True)
class Concatenate:
    """Joined along the first axis."""

    parts: tuple[Source, ...]


@dataclass(frozen=True)
class Rows:
    """Rows `start` up to `stop` of the first axis."""

    of: Source
    start: int
    stop: int


@dataclass(frozen=True)
class Row:
    """One row of the first axis, which goes: (R, C) to (C)."""

    of: Source
    index: int


@dataclass(frozen=True)
class Take:
    """The entries `index` of an axis, ascending: what an edit keeps of a tensor.

    In a module there is no index, and the name is relative to where the module stands:
    the model has a list for each place, or one for a module around it and all in there.
    """

    of: Source
    axis: int
    name: str
    index: tuple[int, ...] = ()


@dataclass(frozen=True)
class Transpose:
    """The two axes of a matrix swapped."""

    of: Source


@dataclass(frozen=True)
class Sum:
    """Tensors of one shape, added."""

    parts: tuple[Source, ...]


@dataclass(frozen=True)
class Repeat:
    """The rows over and over, until there are `rows` of them."""

    of: Source
    rows: int


@dataclass(frozen=True)
class Share:
    """The columns of a matrix over and over, until there are `columns` of them, each
    divided by how often it then stands there: its share of the old column's work."""

    of: Source
    columns: int


@dataclass(frozen=True)
class Noise:
    """Normal noise added to the rows from `start` on; its standard deviation is `std`
    times that of the whole tensor."""

    of: Source
    start: int
    std: float


@dataclass(frozen=True)
class Left:
    """The left factor, (R, rank), of the nearest matrix of a rank to one of (R, C).

    That is U sqrt(S) of the singular value decomposition: each factor has the same share
    of the singular values. `Left` times `Right` of one source and rank is that matrix.
    """

    of: Source
    rank: int


@dataclass(frozen=True)
class Right:
    """The right factor, (rank, C): sqrt(S) V^T, see `Left`."""

    of: Source
    rank: int


@dataclass(frozen=True)
class Tile:
    """A table of `rows` rows: those up to `first` stay, and those from there on stand
    over and over."""

    of: Source
    rows: int
    first: int


@dataclass(frozen=True)
class Stretch:
    """A table of `rows` rows: those up to `first` stay, and those from there on are
    interpolated linearly, ends on ends.

    Of `old` rows that become `new`, row i is the one at i (old - 1) / (new - 1) on the
    lines between neighbours: F.interpolate with mode "linear" and align_corners.
    """

    of: Source
    rows: int
    first: int


@dataclass(frozen=True)
class Resize:
    """A table whose last rows are a grid of `before` (rows, columns) with one of `after`.

    Bicubic: along each axis, entry i of `new` is at (i + 1/2) old / new - 1/2, the mean
    of the four around it by Keys' kernel (1981) with a = -3/4, the border going on
    outside. That is F.interpolate with mode "bicubic" and no align_corners.
    """

    of: Source
    before: tuple[int, int]
    after: tuple[int, int]


@dataclass(frozen=True)
class Norms:
    """The length of each row of a matrix: (R, C) to (R)."""

    of: Source


@dataclass(frozen=True)
class Gain:
    """The gain of an RMS norm over `before` channels as one over `after` of them is to have
    it, where the others are zeros: times the square root of before / after."""

    of: Source
    before: int
    after: int


@dataclass(frozen=True)
class Fold:
    """A bias, and what the columns of a matrix that are not kept give of a constant.

    The kept columns are those of a list, as in `Take`. Each `width` entries of the vector
    are for `times` groups of columns in a row, one group after another. Matrix and vector
    are second readings, beside the parameters that they become.
    """

    bias: Source
    matrix: Source
    vector: Source
    times: int
    width: int
    name: str
    index: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tie:
    """The very tensor of another parameter, by its path."""

    path: str


ZERO = Init("constant", 0.0)
Source = (
    Checkpoint
    | Parameter
    | Init
    | Concatenate
    | Rows
    | Row
    | Take
    | Transpose
    | Sum
    | Repeat
    | Share
    | Noise
    | Left
    | Right
    | Tile
    | Stretch
    | Resize
    | Norms
    | Gain
    | Fold
    | Tie
)


class ShapeError(ValueError):
    """A source that does not fit together; the message says what does not."""


def children(source: Source) -> tuple[Source, ...]:
    match source:
        case Concatenate(parts) | Sum(parts):
            return parts
        case Rows(of=of) | Row(of=of) | Take(of=of) | Transpose(of=of) | Norms(of=of):
            return (of,)
        case Repeat() | Share() | Noise() | Left() | Right() | Gain():
            return (source.of,)
        case Fold(bias=bias, matrix=matrix, vector=vector):
            return (bias, matrix, vector)
        case Tile(of=of) | Stretch(of=of) | Resize(of=of):
            return (of,)
        case _:
            return ()


def map_children(source: Source, change: Callable[[Source], Source]) -> Source:
    """The same node with `change` applied to what it is made of."""
    match source:
        case Concatenate(parts) | Sum(parts):
            return replace(source, parts=tuple(map(change, parts)))
        case Rows(of=of) | Row(of=of) | Take(of=of) | Transpose(of=of) | Norms(of=of):
            return replace(source, of=change(of))
        case Repeat() | Share() | Noise() | Left() | Right() | Gain():
            return replace(source, of=change(source.of))
        case Fold(bias=bias, matrix=matrix, vector=vector):
            return replace(
                source,
                bias=change(bias),
                matrix=change(matrix),
                vector=change(vector),
            )
        case Tile(of=of) | Stretch(of=of) | Resize(of=of):
            return replace(source, of=change(of))
    return source


def rebuild(source: Source, change: Callable[[Source], Source]) -> Source:
    """The same tree with `change` applied to every leaf."""
    if children(source):
        return map_children(source, lambda part: rebuild(part, change))
    return change(source)


def leaves(source: Source) -> Iterator[Source]:
    inner = children(source)
    if not inner:
        yield source
    for child in inner:
        yield from leaves(child)


def nodes(source: Source) -> Iterator[Source]:
    """It and all that it is made of."""
    yield source
    for child in children(source):
        yield from nodes(child)


def factors(source: Source) -> Iterator[Left | Right]:
    """The factors in it, each one of two that are worked out together."""
    return (one for one in nodes(source) if isinstance(one, Left | Right))


def keys(source: Source) -> tuple[str, ...]:
    """The checkpoint's tensors that it reads."""
    return tuple(leaf.key for leaf in leaves(source) if isinstance(leaf, Checkpoint))


def first_readings(source: Source) -> tuple[str, ...]:
    """The checkpoint's tensors that it reads, but for what another parameter has too."""
    match source:
        case Checkpoint(key):
            return (key,)
        case Norms():
            return ()
        case Fold(bias=bias):
            return first_readings(bias)
    return tuple(key for child in children(source) for key in first_readings(child))


def whole(source: Source) -> Iterator[str]:
    """The checkpoint's tensors that it reads whole, not by rows; one a reading."""
    match source:
        case Checkpoint(key):
            yield key
        case Rows() | Row() | Take() | Norms():
            return
        case Fold(bias=bias):
            yield from whole(bias)
        case _:
            for child in children(source):
                yield from whole(child)


def shape_of(source: Source, known: Mapping[str, Shape], target: Shape) -> Shape:
    """The shape it evaluates to; `known` has those of leaves by key or path.

    An initialisation takes the shape of its parameter, `target`. ShapeError says what
    does not fit.
    """
    match source:
        case Checkpoint(key):
            if key not in known:
                raise ShapeError(f'the checkpoint has no tensor "{key}"')
            return known[key]
        case Parameter(path) | Tie(path):
            if path not in known:
                raise ShapeError(f'there is no parameter "{path}"')
            return known[path]
        case Init():
            return target
        case Concatenate(parts):
            shapes = [shape_of(p, known, target) for p in parts]
            if not shapes or any(s[1:] != shapes[0][1:] or not s for s in shapes):
                raise ShapeError(
                    f"cannot join the shapes {shapes} along the first axis"
                )
            return (sum(s[0] for s in shapes), *shapes[0][1:])
        case Rows(of, start, stop):
            inner = shape_of(of, known, target)
            if not inner or not 0 <= start < stop <= inner[0]:
                raise ShapeError(f"rows {start}:{stop} of a tensor of shape {inner}")
            return (stop - start, *inner[1:])
        case Row(of, index):
            inner = shape_of(of, known, target)
            if not inner or not 0 <= index < inner[0]:
                raise ShapeError(f"row {index} of a tensor of shape {inner}")
            return inner[1:]
        case Take(of, axis, name, index):
            inner = shape_of(of, known, target)
            if not 0 <= axis < len(inner) or not index or index[-1] >= inner[axis]:
                raise ShapeError(
                    f'"{name}" of axis {axis} of a tensor of shape {inner}'
                )
            if list(index) != sorted(set(index)) or index[0] < 0:
                raise ShapeError(f'"{name}" is not ascending')
            return (*inner[:axis], len(index), *inner[axis + 1 :])
        case Transpose(of):
            inner = shape_of(of, known, target)
            if len(inner) != 2:
                raise ShapeError(f"transpose of a tensor of shape {inner}")
            return (inner[1], inner[0])
        case Norms(of):
            inner = shape_of(of, known, target)
            if len(inner) != 2:
                raise ShapeError(f"lengths of the rows of a tensor of shape {inner}")
            return inner[:1]
        case Gain(of, before, after):
            inner = shape_of(of, known, target)
            if inner != (after,) or not 0 < after <= before:
                raise ShapeError(
                    f"a gain for {after} of {before} channels, of a tensor of shape {inner}"
                )
            return inner
        case Fold(bias, matrix, vector, times, width, name, index):
            shapes = [shape_of(p, known, target) for p in (bias, matrix, vector)]
            offset, wide, constant = shapes
            if len(wide) != 2 or offset != wide[:1] or len(constant) != 1:
                raise ShapeError(f"cannot fold tensors of shapes {shapes}")
            if wide[1] != times * constant[0] or width < 1 or constant[0] % width:
                raise ShapeError(
                    f"a vector of {constant[0]} entries, by {width} for {times} groups "
                    f"each, has not one for each of {wide[1]} columns"
                )
            if not _ascend(index, wide[1]):
                raise ShapeError(f'"{name}" is not ascending columns of {wide[1]}')
            return offset
        case Sum(parts):
            shapes = [shape_of(p, known, target) for p in parts]
            if not shapes or any(s != shapes[0] for s in shapes):
                raise ShapeError(f"cannot add tensors of shapes {shapes}")
            return shapes[0]
        case Repeat(of, rows):
            inner = shape_of(of, known, target)
            if not inner or not 0 < inner[0] <= rows:
                raise ShapeError(f"{rows} rows made of a tensor of shape {inner}")
            return (rows, *inner[1:])
        case Share(of, columns):
            inner = shape_of(of, known, target)
            if len(inner) != 2 or not 0 < inner[1] <= columns:
                raise ShapeError(f"{columns} columns made of a tensor of shape {inner}")
            return (inner[0], columns)
        case Noise(of, start, _):
            inner = shape_of(of, known, target)
            if not inner or not 0 <= start < inner[0]:
                raise ShapeError(f"noise from row {start} of a tensor of shape {inner}")
            return inner
        case Left(of, rank) | Right(of, rank):
            inner = shape_of(of, known, target)
            if len(inner) != 2 or not 0 < rank <= min(inner):
                raise ShapeError(f"factors of rank {rank} of a tensor of shape {inner}")
            return (inner[0], rank) if isinstance(source, Left) else (rank, inner[1])
        case Tile(of, rows, first) | Stretch(of, rows, first):
            inner = shape_of(of, known, target)
            if len(inner) != 2 or not 0 <= first < inner[0] <= rows:
                raise ShapeError(
                    f"{rows} rows, {first} as they are, of a tensor of shape {inner}"
                )
            return (rows, inner[1])
        case Resize(of, before, after):
            inner = shape_of(of, known, target)
            old, new = prod(before), prod(after)
            if len(inner) != 2 or min(*before, *after) < 1 or old > inner[0]:
                raise ShapeError(
                    f"a grid {after} of one {before} in a tensor of shape {inner}"
                )
            return (inner[0] - old + new, inner[1])


def _ascend(index: Shape, size: int) -> bool:
    """Whether it is entries of an axis of a size, each once and in order."""
    return list(index) == sorted(set(index)) and all(0 <= i < size for i in index)
