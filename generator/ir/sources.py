"""Where a parameter's value comes from: a small algebra of tensors.

A leaf is a tensor of the checkpoint, a parameter of the model before a pass, or an
initialisation; the rest joins, cuts and reshapes. The loader is rendered from it, the
interpreter evaluates it, and the weight maps of passes are written in it, so that the
three cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
    """A new value: normal with a standard deviation, or a constant."""

    kind: Literal["normal", "constant"]
    value: float  # the standard deviation, or the constant


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

    A list that is long stands beside the package, under `name`; lists of one name are
    equal.
    """

    of: Source
    axis: int
    name: str
    index: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    """The two axes of a matrix swapped."""

    of: Source


@dataclass(frozen=True)
class Sum:
    """Tensors of one shape, added."""

    parts: tuple[Source, ...]


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
    | Tie
)


class ShapeError(ValueError):
    """A source that does not fit together; the message says what does not."""


def children(source: Source) -> tuple[Source, ...]:
    match source:
        case Concatenate(parts) | Sum(parts):
            return parts
        case Rows(of=of) | Row(of=of) | Take(of=of) | Transpose(of=of):
            return (of,)
        case _:
            return ()


def rebuild(source: Source, change: Callable[[Source], Source]) -> Source:
    """The same tree with `change` applied to every leaf."""
    match source:
        case Concatenate(parts) | Sum(parts):
            return replace(source, parts=tuple(rebuild(p, change) for p in parts))
        case Rows(of=of) | Row(of=of) | Take(of=of) | Transpose(of=of):
            return replace(source, of=rebuild(of, change))
        case _:
            return change(source)


def leaves(source: Source) -> Iterator[Source]:
    inner = children(source)
    if not inner:
        yield source
    for child in inner:
        yield from leaves(child)


def keys(source: Source) -> tuple[str, ...]:
    """The checkpoint's tensors that it reads."""
    return tuple(leaf.key for leaf in leaves(source) if isinstance(leaf, Checkpoint))


def whole(source: Source) -> Iterator[str]:
    """The checkpoint's tensors that it reads whole, not by rows; one a reading."""
    match source:
        case Checkpoint(key):
            yield key
        case Rows() | Row() | Take():
            return
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
        case Sum(parts):
            shapes = [shape_of(p, known, target) for p in parts]
            if not shapes or any(s != shapes[0] for s in shapes):
                raise ShapeError(f"cannot add tensors of shapes {shapes}")
            return shapes[0]
