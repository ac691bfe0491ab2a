"""Small checkpoints for tests, and the bytes of safetensors files, sound or not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIZES = {"F32": 4, "F16": 2, "I64": 8, "BOOL": 1}

CONFIG = {
    "architectures": ["BertModel"],
    "hidden_size": 4,
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
    "num_hidden_layers": 1,
    "vocab_size": 9,
}

TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "embeddings.word.weight": ("F32", (9, 4)),
    "encoder.0.weight": ("F32", (4, 4)),
    "encoder.0.bias": ("F32", (4,)),
    "position_ids": ("I64", (1, 6)),
}

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "the"]

README = """---
language: en
license: apache-2.0
tags:
- test
---
# Tiny
"""


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """One tensor's entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def pack(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of that header, which need not be sound."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    count = len(text) if length is None else length
    return count.to_bytes(8, "little") + text + data


def safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """A sound file of tensors of zeros."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for key, (dtype, shape) in tensors.items():
        end = at + math.prod(shape) * SIZES[dtype]
        header[key] = entry(dtype, list(shape), at, end)
        at = end
    return pack(header, bytes(at))


def tokenizer() -> dict[str, Any]:
    """The JSON of a word-piece tokenizer that cuts and pads, as some are published."""
    special = [
        {
            "id": i,
            "content": WORDS[i],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i in range(5)
    ]
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(WORDS)},
        },
    }


TOKENIZER_CONFIG = {
    "do_lower_case": True,
    "tokenizer_class": "BertTokenizer",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def write_checkpoint(folder: Path) -> Path:
    """One weights file, configuration, tokenizer and README."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    (folder / "model.safetensors").write_bytes(safetensors(TENSORS))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(), indent=2))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "README.md").write_text(README)
    return folder


def shard(folder: Path) -> Path:
    """Turn the weights into two shards and an index."""
    keys = sorted(TENSORS)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, part in enumerate((keys[:2], keys[2:]), start=1):
        name = f"model-{number:05}-of-00002.safetensors"
        (folder / name).write_bytes(safetensors({k: TENSORS[k] for k in part}))
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
