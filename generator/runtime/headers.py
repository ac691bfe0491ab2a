"""The header of a safetensors file, checked before anything is allocated.

A file is 8 bytes with the length of the header, the header as JSON, and the data:
https://github.com/huggingface/safetensors. The reader here asks for the header only, by
ranges, so that the same code serves a file and a hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from generator.errors import GenError, fail
from generator.facts import ITEMSIZE, CardTensor, parse_json

LENGTH = 8  # bytes of the field in front of the header
LARGEST = 100_000_000  # bytes of a header; the limit of the safetensors library too
MOST_DIMS = 64  # torch's own limit

# Reads `count` bytes from `offset`; fewer only where the file ends.
ReadRange = Callable[[int, int], bytes]

AGAIN = "fetch the file again; what is on disk is damaged or not complete"

RENAMED = (
    "renaming does not convert a file; load it where you trust it, and write it with "
    "safetensors.torch.save_file"
)

# What a file that is no safetensors file often is, by its first bytes.
LOOKALIKES = (
    (
        b"version ",
        "it is the pointer of a file kept in Git LFS",
        "fetch the file itself: git lfs pull",
    ),
    (b"PK\x03\x04", "it is a zip file, as torch.save writes", RENAMED),
    (b"\x80\x02", "it is a pickle file", RENAMED),
    (b"<", "it is a page of HTML or XML", "fetch the file again, from its raw address"),
    (b"GGUF", "it is a GGUF file", "take the checkpoint in safetensors form"),
)


def read_header(read: ReadRange, size: int, file: str) -> tuple[CardTensor, ...]:
    """The tensors of a safetensors file of `size` bytes, sorted by key.

    `file` is the name for messages; the name of each tensor's file is its last part.
    """
    first = read(0, min(size, LENGTH))
    length = _header_length(first, size, file)
    text = read(LENGTH, length)
    if len(text) != length:
        _refuse("G130", file, f"the header ends after {len(text)} of {length} bytes")
    if not text.startswith(b"{"):
        _refuse("G131", file, "the header does not begin with {")
    header = _parse(text, file)
    return _tensors(header, size - LENGTH - length, file)


def _header_length(first: bytes, size: int, file: str) -> int:
    if len(first) < LENGTH:
        _refuse("G130", file, f"it has {size} bytes, too few for a header")
    length = int.from_bytes(first, "little")
    if length > min(LARGEST, size - LENGTH):
        # Only now: each of these could also be the first bytes of a sound length.
        for magic, what, mend in LOOKALIKES:
            if first.startswith(magic):
                raise fail(
                    "G130", f"{file} is not a safetensors file: {what}", help=mend
                )
    if length > LARGEST:
        _refuse(
            "G130",
            file,
            f"its header claims {length} bytes, over the {LARGEST} allowed",
        )
    if length > size - LENGTH:
        _refuse(
            "G130", file, f"its header claims {length} bytes, and the file has {size}"
        )
    if length < 2:
        _refuse("G130", file, f"its header claims {length} bytes")
    return length


def _parse(text: bytes, file: str) -> dict[str, Any]:
    try:
        header = parse_json(text, f"the header of {file}")
    except GenError as error:
        raise fail("G131", error.diagnostics[0].message, help=AGAIN) from None
    if not isinstance(header, dict):
        _refuse("G131", file, "the header is no JSON object")
    return header


def _tensors(header: dict[str, Any], data: int, file: str) -> tuple[CardTensor, ...]:
    """Check each entry, and that together they cover the `data` bytes once."""
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        _refuse("G131", file, "__metadata__ is not a map of strings")
    name = file.replace("\\", "/").rpartition("/")[2]
    spans: list[tuple[int, int, str]] = []
    tensors: list[CardTensor] = []
    for key in sorted(header):
        dtype, shape, begin, end = _entry(key, header[key], data, file)
        spans.append((begin, end, key))
        tensors.append(CardTensor(key, dtype, shape, name))
    _expect_covered(sorted(spans), data, file)
    return tuple(tensors)


def _entry(
    key: str, entry: object, data: int, file: str
) -> tuple[str, tuple[int, ...], int, int]:
    """The dtype, the shape, and the first and the next byte of one tensor."""
    if not key or not key.isprintable():
        _refuse("G132", file, f"the name of a tensor is not printable: {key!a:.80}")
    if not isinstance(entry, Mapping) or entry.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        _refuse(
            "G132", file, f'"{key}" needs a dtype, a shape and data_offsets, no more'
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEMSIZE:
        _refuse(
            "G132",
            file,
            f'"{key}" has the dtype {dtype!a:.40}',
            f"the dtypes read here are {', '.join(sorted(ITEMSIZE))}",
        )
    if not _is_counts(shape) or len(shape) > MOST_DIMS:
        _refuse("G132", file, f'"{key}" has the shape {shape!a:.60}')
    if not _is_counts(offsets) or len(offsets) != 2:
        _refuse("G132", file, f'"{key}" has the data_offsets {offsets!a:.60}')
    begin, end = offsets
    if not begin <= end <= data:
        _refuse(
            "G133",
            file,
            f'"{key}" lies at {begin} to {end} of {data} bytes of data',
        )
    if _bytes(shape, ITEMSIZE[dtype], data) != end - begin:
        _refuse(
            "G133",
            file,
            f'"{key}" has {end - begin} bytes, which is not {dtype} of shape {shape}'[
                :300
            ],
        )
    return dtype, tuple(shape), begin, end


def _is_counts(value: object) -> bool:
    """A list of whole numbers from 0 up that fit 63 bits; true and false are not."""
    return isinstance(value, list) and all(
        type(n) is int and 0 <= n < 2**63 for n in value
    )


def _bytes(shape: list[int], itemsize: int, most: int) -> int:
    """Bytes of a tensor, or some number above `most` (it could be astronomical)."""
    if 0 in shape:
        return 0
    total = itemsize
    for n in shape:
        total *= n
        if total > most:
            break
    return total


def _expect_covered(spans: list[tuple[int, int, str]], data: int, file: str) -> None:
    """The tensors follow each other from the first byte to the last, without gaps."""
    at = 0
    for begin, end, key in spans:
        if begin < at:
            _refuse("G133", file, f'"{key}" overlaps the tensor before it')
        if begin > at:
            _refuse(
                "G133", file, f'{begin - at} bytes before "{key}" belong to no tensor'
            )
        at = end
    if at != data:
        _refuse("G133", file, f"{data - at} bytes at the end belong to no tensor")


def _refuse(code: str, file: str, why: str, mend: str = AGAIN) -> NoReturn:
    raise fail(code, f"{file} is not a sound safetensors file: {why}", help=mend)
