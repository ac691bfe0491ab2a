"""Dimensions are polynomials: they compare by what they are, and print and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.ir.dims import (
    Dim,
    boolean,
    dim,
    f32,
    i64,
    number,
    parse_dim,
    parse_type,
)
from tests.ir.strategies import NAMES, dims, symbols, types

SIZES = st.fixed_dictionaries({name: st.integers(1, 50) for name in NAMES})


@given(dims, dims, dims)
def test_addition_and_multiplication_are_a_ring(a: Dim, b: Dim, c: Dim):
    assert a + b == b + a and a * b == b * a
    assert (a + b) + c == a + (b + c) and (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a + number(0) == a and a * number(1) == a and a * number(0) == number(0)


@given(dims, dims, SIZES)
def test_a_size_is_that_of_the_parts(a: Dim, b: Dim, sizes: dict[str, int]):
    assert (a + b).value(sizes) == a.value(sizes) + b.value(sizes)
    assert (a * b).value(sizes) == a.value(sizes) * b.value(sizes)


@given(dims)
def test_a_dimension_reads_back(d: Dim):
    assert parse_dim(str(d)) == d
    assert d.names == frozenset(n for names, _ in d.terms for n in names)


@given(types)
def test_a_type_reads_back(t):
    assert parse_type(str(t)) == t


@given(dims, symbols, dims, SIZES)
def test_a_name_written_as_something_else(
    d: Dim, name: str, new: Dim, sizes: dict[str, int]
):
    replaced = d.replace(name, new)
    assert replaced.value(sizes) == d.value({**sizes, name: new.value(sizes)})


def test_names_are_substituted_all_at_once():
    swapped = parse_dim("2*H*D+H").substitute({"H": dim("D"), "D": dim("H")})
    assert swapped == parse_dim("2*H*D+D")


def test_equal_products_are_equal_whatever_their_order():
    assert parse_dim("H*D") == parse_dim("D*H") == dim("H") * dim("D")
    assert parse_dim("C+C+2") == parse_dim("2*C+2")
    assert str(parse_dim("1+D*H+C*3")) == "D*H+3*C+1"


def test_equal_sizes_are_not_equal_dimensions():
    sizes = {"C": 64, "F": 64}
    assert dim("C") != dim("F")
    assert dim("C").value(sizes) == dim("F").value(sizes)


def test_a_name_without_a_size_is_named():
    with pytest.raises(KeyError, match="T"):
        parse_dim("B*T").value({"B": 2})


@pytest.mark.parametrize(
    "text", ["", "+", "C+", "*C", "C**2", "-1*C", "2C", "C D", "é"]
)
def test_what_is_no_dimension(text: str):
    with pytest.raises(ValueError, match="not a dimension"):
        parse_dim(text)


@pytest.mark.parametrize(
    "text", ["f32", "f32[B", "f16[B]", "f32[B]??", "f32[B,]", "f32[B]x", "F32[B]"]
)
def test_what_is_no_type(text: str):
    with pytest.raises(ValueError):
        parse_type(text)


def test_types_by_hand():
    assert str(f32("B", "T", dim("C") * number(3))) == "f32[B,T,3*C]"
    assert str(i64("B", 1)) == "i64[B,1]"
    assert str(boolean("B", 1, 1, "T", optional=True)) == "bool[B,1,1,T]?"
    assert str(f32()) == "f32[]"
    assert f32("B", "2*H").sizes({"B": 3, "H": 5}) == (3, 10)
