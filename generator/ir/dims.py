"""Named dimensions and the types of values.

A dimension is a polynomial in names, so that `3*H*D` and `H*D + 2*G*D` compare by what
they are and not by what they happen to be worth: a width where a feed-forward size
belongs is an error even in a model where the two are equal.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

DType = Literal["f32", "i64", "bool"]
DTYPES: tuple[DType, ...] = ("f32", "i64", "bool")


@dataclass(frozen=True, order=True)
class Dim:
    """A sum of terms, each the names that are multiplied and an integer factor.

    Kept in one normal form (names sorted, terms sorted, no zero factors), so that
    equality of dataclasses is equality of dimensions.
    """

    terms: tuple[tuple[tuple[str, ...], int], ...]

    def __add__(self, other: Dim) -> Dim:
        return _normal([*self.terms, *other.terms])

    def __mul__(self, other: Dim) -> Dim:
        return _normal(
            [((*a, *b), m * n) for a, m in self.terms for b, n in other.terms]
        )

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        return "+".join(
            "*".join([*([str(n)] if n != 1 or not names else []), *names])
            for names, n in self.terms
        )

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for names, _ in self.terms for name in names)

    def value(self, sizes: Mapping[str, int]) -> int:
        """Its size, where every name has one; KeyError names the first that has none."""
        return sum(n * prod(sizes[name] for name in names) for names, n in self.terms)

    def replace(self, old: str, new: Dim) -> Dim:
        """The same with `old` written as `new`."""
        return self.substitute({old: new})

    def substitute(self, new: Mapping[str, Dim]) -> Dim:
        """The same with every name in `new` written as what stands there, all at once."""
        match self.terms:
            case (((name,), 1),):  # most are one name, and a job has thousands
                return new.get(name, self)
        total = Dim(())
        for names, n in self.terms:
            term = number(n)
            for name in names:
                term = term * new.get(name, dim(name))
            total = total + term
        return total


def _normal(terms: list[tuple[tuple[str, ...], int]]) -> Dim:
    total: dict[tuple[str, ...], int] = {}
    for names, n in terms:
        key = tuple(sorted(names))
        total[key] = total.get(key, 0) + n
    # Longest products first, the bare number last: N+1, H*D+2*D*G.
    ordered = sorted(total.items(), key=lambda item: (-len(item[0]), item[0]))
    return Dim(tuple((names, n) for names, n in ordered if n))


def dim(name: str) -> Dim:
    return Dim((((name,), 1),))


def number(n: int) -> Dim:
    return Dim((((), n),) if n else ())


_FACTOR = re.compile(r"[A-Za-z][A-Za-z0-9_]*|\d+")


def parse_dim(text: str) -> Dim:
    """The inverse of str: ValueError where the text is not a dimension."""
    total = Dim(())
    for term in text.split("+"):
        product = number(1)
        for factor in term.split("*"):
            factor = factor.strip()
            if not _FACTOR.fullmatch(factor):
                raise ValueError(f"not a dimension: {text!r}")
            product = product * (
                number(int(factor)) if factor.isdigit() else dim(factor)
            )
        total = total + product
    return total


@dataclass(frozen=True)
class Type:
    """The type of a value or of a parameter."""

    dtype: DType
    shape: tuple[Dim, ...]
    optional: bool = False  # an input that may be None

    def __str__(self) -> str:
        inside = ",".join(map(str, self.shape))
        return f"{self.dtype}[{inside}]{'?' if self.optional else ''}"

    def substitute(self, new: Mapping[str, Dim]) -> Type:
        """The same with every name in `new` written as what stands there."""
        shape = tuple(d.substitute(new) for d in self.shape)
        return Type(self.dtype, shape, self.optional)

    def sizes(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(d.value(sizes) for d in self.shape)


_TYPE = re.compile(r"(f32|i64|bool)\[([^\]]*)\](\?)?")


@functools.lru_cache(maxsize=1024)  # the text of a job has few, each many times
def parse_type(text: str) -> Type:
    """`f32[B,T,3*C]`, `bool[B,T]?`; the inverse of str."""
    match = _TYPE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a type: {text!r}")
    dtype: DType = match[1]  # type: ignore[assignment]
    inside = match[2].strip()
    shape = tuple(parse_dim(d) for d in inside.split(",")) if inside else ()
    return Type(dtype, shape, match[3] is not None)


def f32(*shape: str | int | Dim) -> Type:
    """`f32("B", "T", "3*C")`: a type from text, for whoever builds a job by hand."""
    return Type("f32", tuple(_as_dim(d) for d in shape))


def i64(*shape: str | int | Dim) -> Type:
    return Type("i64", tuple(_as_dim(d) for d in shape))


def boolean(*shape: str | int | Dim, optional: bool = False) -> Type:
    return Type("bool", tuple(_as_dim(d) for d in shape), optional)


def _as_dim(value: str | int | Dim) -> Dim:
    match value:
        case Dim():
            return value
        case int():
            return number(value)
        case str():
            return parse_dim(value)
