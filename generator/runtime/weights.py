"""Which files of a checkpoint hold its weights, and which tensors are in them.

Only safetensors files are read, and of those only the headers. Pickle files are never
opened: that can run any code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from generator.errors import fail
from generator.facts import CardTensor, parse_json
from generator.runtime.checkpoint import CONFIG, Checkpoint
from generator.runtime.files import MEBIBYTE

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
INDEX_LIMIT = 64 * MEBIBYTE  # the index of a checkpoint of a million tensors

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OTHER_FORMATS = {
    ".h5": "TensorFlow",
    ".index": "TensorFlow",
    ".pb": "TensorFlow",
    ".msgpack": "Flax",
    ".gguf": "GGUF",
    ".onnx": "ONNX",
    ".npz": "NumPy",
    ".mlmodel": "Core ML",
}


@dataclass(frozen=True)
class Weights:
    """The safetensors files of a checkpoint, and the index that joins several."""

    files: tuple[str, ...]
    index: str | None


def weights_path(checkpoint: Checkpoint) -> Path:
    """The file of the weights, or the folder with their index, on this machine.

    The weights of a hub's checkpoint are fetched first, by its own client.
    """
    local = checkpoint.fetched()
    weights = find_weights(local)
    return local.folder if weights.index else local.folder / weights.files[0]


def find_weights(checkpoint: Checkpoint) -> Weights:
    """Which safetensors files hold the weights. Pickle files are never opened.

    A `model.safetensors` goes before an index beside it, as in transformers.
    """
    names = checkpoint.names()
    if SINGLE in names:
        return Weights((SINGLE,), None)
    if INDEX in names:
        return Weights(tuple(sorted(set(_weight_map(checkpoint).values()))), INDEX)
    found = sorted(n for n in names if n.endswith(".safetensors"))
    if found == ["adapter_model.safetensors"]:
        raise fail(
            "G122",
            f"{checkpoint.source} holds an adapter, not a whole model",
            help="merge it into its base model, and save that",
        )
    if len(found) == 1:
        return Weights((found[0],), None)
    if found:
        raise fail(
            "G123",
            f"{checkpoint.source} holds {len(found)} safetensors files and no {INDEX}: "
            + _some(found),
            help=f"keep the one that is meant as {SINGLE}, or add the index of the shards",
        )
    _no_weights(checkpoint, names)


def read_tensors(checkpoint: Checkpoint) -> tuple[CardTensor, ...]:
    """Every tensor of the checkpoint, sorted by key; index and headers must agree."""
    weights = find_weights(checkpoint)
    tensors = [t for name in weights.files for t in checkpoint.header(name)]
    if weights.index is not None:
        _expect_agreement(checkpoint, _weight_map(checkpoint), tensors)
    if not tensors:
        raise fail(
            "G134",
            f"{checkpoint.label(weights.files[0])} holds no tensors",
            help="fetch the file again, or save the model anew",
        )
    return tuple(sorted(tensors, key=lambda t: t.key))


def _weight_map(checkpoint: Checkpoint) -> dict[str, str]:
    """The index's map from key to file: plain names of files that are there.

    Its total_size is not compared: published indices count tied tensors in different ways.
    """
    label = checkpoint.label(INDEX)
    again = "fetch the index again, or save the model anew with save_pretrained"
    index = parse_json(checkpoint.read(INDEX, INDEX_LIMIT), label, again)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise fail("G124", f'{label} has no "weight_map"', help=again)
    names = checkpoint.names()
    for key, file in sorted(weight_map.items()):
        if not isinstance(file, str):
            raise fail("G124", f'{label} gives no file for "{key}"', help=again)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors", file):
            raise fail(
                "G127",
                f'{label} names {file!a:.100} for "{key}": not the plain name of a '
                "safetensors file beside it",
                help="shards lie beside their index; do not use this checkpoint if you "
                "did not expect that path",
            )
        if file not in names:
            raise fail(
                "G125",
                f"{label} names the shard {file}, which is not there",
                help="fetch the missing file; a shard of a download may have failed",
            )
    return weight_map


def _expect_agreement(
    checkpoint: Checkpoint, weight_map: Mapping[str, str], tensors: list[CardTensor]
) -> None:
    label = checkpoint.label(INDEX)
    again = "index and shards are of different savings; fetch or save all of them anew"
    held: dict[str, str] = {}
    for tensor in tensors:
        if tensor.key in held:
            raise fail(
                "G126",
                f'"{tensor.key}" lies in {held[tensor.key]} and in {tensor.file}',
                help=again,
            )
        held[tensor.key] = tensor.file
    for key in sorted(weight_map.keys() | held.keys()):
        if key not in held:
            raise fail(
                "G126",
                f'{label} puts "{key}" into {weight_map[key]}, which does not hold it',
                help=again,
            )
        if weight_map.get(key) != held[key]:
            raise fail(
                "G126",
                f'{held[key]} holds "{key}", and {label} '
                + (
                    f"puts it into {weight_map[key]}"
                    if key in weight_map
                    else "does not name it"
                ),
                help=again,
            )


def _no_weights(checkpoint: Checkpoint, names: frozenset[str]) -> NoReturn:
    pickles = sorted(
        n
        for n in names
        if n.endswith(PICKLES) and n not in ("training_args.bin", "optimizer.bin")
    )
    if pickles:
        raise fail(
            "G120",
            f"{checkpoint.source} has its weights as pickle files, which gen never opens "
            f"because that can run any code: {_some(pickles)}",
            help=_conversion(checkpoint, pickles),
        )
    others = {
        n: OTHER_FORMATS[Path(n).suffix]
        for n in names
        if Path(n).suffix in OTHER_FORMATS
    }
    if others:
        name = min(others)
        raise fail(
            "G121",
            f"{checkpoint.source} has its weights in another format: {name} ({others[name]})",
            help=(
                "load the model with its own library, and save it with "
                "transformers' save_pretrained(folder)"
            ),
        )
    raise fail(
        "G122",
        f"{checkpoint.source} holds no weights: there is no *.safetensors file",
        help=f"put {SINGLE} beside the {CONFIG}, or {INDEX} and its shards",
    )


def _conversion(checkpoint: Checkpoint, pickles: list[str]) -> str:
    """How to write safetensors files, with commands to run where the files are trusted."""
    shards = [n for n in pickles if re.fullmatch(r"pytorch_model-\d+-of-\d+\.bin", n)]
    files = ", ".join(ascii(n) for n in shards or pickles[:1])
    return (
        "convert it once, where you trust the files: in their folder run Python with\n"
        "    import torch\n"
        "    from safetensors.torch import save_file\n"
        "    state = {}\n"
        f"    for name in [{files}]:\n"
        '        state |= torch.load(name, map_location="cpu", weights_only=True)\n'
        "    state = {k: v.clone().contiguous() for k, v in state.items()}\n"
        f'    save_file(state, "{SINGLE}", metadata={{"format": "pt"}})'
    )


def _some(names: list[str]) -> str:
    more = len(names) - 3
    shown = (n if n.isprintable() else ascii(n) for n in names[:3])
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
