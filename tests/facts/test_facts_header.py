"""The header reader: every way in which a file can be wrong is one clear error."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest
from facts_samples import TENSORS, entry, pack, safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.errors import GenError
from generator.facts import CardTensor
from generator.runtime.headers import read_header


def read(data: bytes, size: int | None = None) -> tuple[CardTensor, ...]:
    stream = io.BytesIO(data)

    def read_range(offset: int, count: int) -> bytes:
        stream.seek(offset)
        return stream.read(count)

    return read_header(read_range, len(data) if size is None else size, "w.safetensors")


def one(**changes: object) -> dict[str, object]:
    """A sound header of one tensor of 16 bytes, with changes to its entry."""
    return {"x": entry("F32", [4], 0, 16) | changes}


DATA = bytes(16)
TWO = {"x": entry("F32", [2], 0, 8), "y": entry("F32", [2], 8, 16)}

MALFORMED: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "G130", "0 bytes"),
    "seven bytes": (bytes(7), "G130", "7 bytes"),
    "length zero": (bytes(8), "G130", "claims 0 bytes"),
    "length one": (pack(b"{"), "G130", "claims 1 bytes"),
    "length over the file": (pack(one(), DATA, 10_000), "G130", "the file has"),
    "length over the limit": (pack(one(), DATA, 2**40), "G130", "over the"),
    "length all ones": (pack(one(), DATA, 2**64 - 1), "G130", "over the"),
    "a git lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "G130",
        "Git LFS",
    ),
    "a zip of torch": (b"PK\x03\x04" + b"\x14\x00\x08\x08" + bytes(99), "G130", "zip"),
    "a pickle": (b"\x80\x02}q\x00X\x05\x00\x00\x00abc.", "G130", "pickle"),
    "a web page": (b"<!DOCTYPE html><html>", "G130", "HTML"),
    "a gguf file": (b"GGUF\x03\x00\x00\x00" + b"\xff" * 8, "G130", "GGUF"),
    "not json": (pack(b"{not json}"), "G131", "not valid JSON"),
    "cut json": (pack(b'{"x": {"dtype"'), "G131", "not valid JSON"),
    "not utf-8": (pack(b'{"\xff": 1}'), "G131", "not UTF-8"),
    "a list": (pack([1]), "G131", "begin with {"),
    "leading space": (pack(b" {}"), "G131", "begin with {"),
    "text after it": (pack(b"{} {}"), "G131", "not valid JSON"),
    "nan": (pack(b'{"x": NaN}'), "G131", "NaN"),
    "huge number": (pack(b'{"x": 1e999}'), "G131", "too large"),
    "endless digits": (pack(b'{"x": ' + b"1" * 5000 + b"}"), "G131", "not valid JSON"),
    "deep": (pack(b'{"x":' * 100_000), "G131", "nested too deeply"),
    "a key twice": (
        pack(b'{"x": 1, "x": 2}'),
        "G131",
        'the key "x" stands there twice',
    ),
    "a field twice": (
        pack(b'{"x":{"dtype":"F32","dtype":"F16","shape":[4],"data_offsets":[0,16]}}'),
        "G131",
        'the key "dtype" stands there twice',
    ),
    "half a surrogate": (pack(b'{"\\ud800": 1}'), "G131", "surrogate"),
    "metadata of numbers": (pack({"__metadata__": {"a": 1}}), "G131", "__metadata__"),
    "metadata a list": (pack({"__metadata__": []}), "G131", "__metadata__"),
    "entry a number": (pack({"x": 1}), "G132", '"x"'),
    "entry null": (pack({"x": None}), "G132", '"x"'),
    "no dtype": (pack({"x": {"shape": [4], "data_offsets": [0, 16]}}), "G132", '"x"'),
    "one field more": (pack(one(device="cpu"), DATA), "G132", '"x"'),
    "unknown dtype": (pack(one(dtype="F31"), DATA), "G132", "'F31'"),
    "dtype a list": (pack(one(dtype=["F32"]), DATA), "G132", "dtype"),
    "lower case dtype": (pack(one(dtype="f32"), DATA), "G132", "'f32'"),
    "shape a number": (pack(one(shape=4), DATA), "G132", "shape"),
    "shape negative": (pack(one(shape=[-4]), DATA), "G132", "[-4]"),
    "shape of floats": (pack(one(shape=[4.0]), DATA), "G132", "[4.0]"),
    "shape of booleans": (pack(one(shape=[True, 4]), DATA), "G132", "[True, 4]"),
    "shape of text": (pack(one(shape=["4"]), DATA), "G132", "['4']"),
    "shape over 63 bits": (pack(one(shape=[2**63]), DATA), "G132", "shape"),
    "too many dims": (pack(one(shape=[1] * 65 + [4]), DATA), "G132", "shape"),
    "shape astronomical": (pack(one(shape=[2**62] * 60), DATA), "G133", "is not F32"),
    "one offset": (pack(one(data_offsets=[0]), DATA), "G132", "[0]"),
    "three offsets": (pack(one(data_offsets=[0, 8, 16]), DATA), "G132", "[0, 8, 16]"),
    "offset negative": (pack(one(data_offsets=[-8, 8]), DATA), "G132", "[-8, 8]"),
    "offset a float": (pack(one(data_offsets=[0, 16.0]), DATA), "G132", "16.0"),
    "offsets backwards": (pack(one(data_offsets=[16, 0]), DATA), "G133", "16 to 0"),
    "offset over the end": (pack(one(data_offsets=[0, 17]), DATA), "G133", "0 to 17"),
    "data cut": (pack(one(), bytes(15)), "G133", "0 to 16 of 15"),
    "shape smaller": (pack(one(shape=[3]), DATA), "G133", "is not F32 of shape [3]"),
    "shape larger": (pack(one(shape=[5]), DATA), "G133", "is not F32 of shape [5]"),
    "dtype smaller": (pack(one(dtype="F16"), DATA), "G133", "is not F16"),
    "shape zero": (pack(one(shape=[0, 4]), DATA), "G133", "[0, 4]"),
    "overlap": (
        pack(TWO | {"y": entry("F32", [2], 4, 12)}, bytes(12)),
        "G133",
        "overlaps",
    ),
    "the same bytes": (
        pack(TWO | {"y": entry("F32", [2], 0, 8)}, bytes(8)),
        "G133",
        "overlaps",
    ),
    "gap in front": (pack({"y": TWO["y"]}, DATA), "G133", '8 bytes before "y"'),
    "gap between": (
        pack(TWO | {"y": entry("F32", [1], 12, 16)}, DATA),
        "G133",
        '4 bytes before "y"',
    ),
    "data left over": (pack(one(), bytes(20)), "G133", "4 bytes at the end"),
    "data of nothing": (pack({}, b"x"), "G133", "1 bytes at the end"),
    "empty name": (pack({"": entry("F32", [4], 0, 16)}, DATA), "G132", "printable"),
    "newline in a name": (
        pack({"a\nb": entry("F32", [4], 0, 16)}, DATA),
        "G132",
        "a\\nb",
    ),
    "bidirectional name": (
        pack({"a\u202eb": entry("F32", [4], 0, 16)}, DATA),
        "G132",
        "a\\u202eb",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    data, code, says = MALFORMED[name]
    with pytest.raises(GenError) as caught:
        read(data)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert says in found.message
    assert "w.safetensors" in found.message
    assert found.help


def test_sound() -> None:
    found = read(safetensors(TENSORS))
    assert [t.key for t in found] == sorted(TENSORS)
    assert {t.key: (t.dtype, t.shape) for t in found} == TENSORS
    assert {t.file for t in found} == {"w.safetensors"}


def test_padded_empty_and_scalar() -> None:
    text = json.dumps({"s": entry("F64", [], 0, 8), "e": entry("I8", [0, 3], 8, 8)})
    found = read(pack(text.encode() + b"   ", bytes(8)))
    assert [(t.key, t.shape) for t in found] == [("e", (0, 3)), ("s", ())]
    assert read(pack({})) == ()


def test_agrees_with_the_library(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    save = pytest.importorskip("safetensors.numpy").save
    arrays = {
        "b": numpy.zeros((2, 3), "float32"),
        "a": numpy.zeros(5, "int64"),
        "c": numpy.zeros((), "float16"),
        "d": numpy.zeros((0, 2), "bool"),
    }
    found = read(save(arrays, metadata={"format": "np"}))
    assert {t.key: t.shape for t in found} == {k: v.shape for k, v in arrays.items()}
    assert [t.dtype for t in found] == ["I64", "F32", "F16", "BOOL"]


def test_nothing_is_allocated_by_a_false_length() -> None:
    tracemalloc.start()
    with pytest.raises(GenError):
        read(pack(one(), DATA, 99_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_file_that_shrinks_while_it_is_read() -> None:
    data = safetensors(TENSORS)
    with pytest.raises(GenError) as caught:
        read(data[:50], size=len(data))
    assert caught.value.diagnostics[0].code == "G130"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_only_give_an_error(data: bytes) -> None:
    try:
        read(data)
    except GenError as error:
        assert error.diagnostics[0].code in ("G130", "G131", "G132", "G133")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", "x", "__metadata__"]), inner
    ),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BOOL", "I64", "F4", ""]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 20), min_size=2, max_size=2)
        | json_values,
    }
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text(max_size=3), entries | json_values, max_size=3),
    st.binary(max_size=20),
)
def test_random_headers_only_give_an_error(
    header: dict[str, object], data: bytes
) -> None:
    try:
        found = read(pack(header, data))
    except GenError as error:
        assert error.diagnostics[0].code in ("G131", "G132", "G133")
    else:
        assert len(found) == len(header.keys() - {"__metadata__"})


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 399), st.integers(0, 255))
def test_one_wrong_byte_only_gives_an_error(at: int, byte: int) -> None:
    data = bytearray(safetensors(TENSORS))
    data[at % len(data)] = byte
    try:
        read(bytes(data))
    except GenError as error:
        assert error.diagnostics[0].help
