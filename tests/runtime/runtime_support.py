"""Jobs to run in tests: a spec, a tiny random checkpoint, and a few rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from generator.cli import main

GOOD = ("fine", "best", "lovely")
BAD = ("dull", "worst", "flat")
WORDS = ("a", "film", "plot", "the", "of", "year", *GOOD, *BAD)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

SPEC = """\
name = "{name}"
task = "text-classification"
labels = ["bad", "good"]

[backbone]
from = "{backbone}"

[data]
train = "rows/train.csv"
valid = "rows/valid.csv"
test = "rows/test.csv"
text = "text"
label = "label"
max_tokens = 16

[train]
epochs = 2
batch = 8
lr = 5e-3
"""


def tiny_bert(**other: Any) -> BertConfig:
    sizes: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + len(WORDS),
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 37,
        "max_position_embeddings": 21,
    }
    return BertConfig(**{**sizes, **other})


def tiny_llama() -> LlamaConfig:
    sizes = tiny_bert(hidden_size=32, num_attention_heads=4).to_dict()
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    names += ("intermediate_size", "max_position_embeddings")
    return LlamaConfig(
        **{name: sizes[name] for name in names},
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )


def write_photos(folder: Path) -> Path:
    """A job of image classification: a tiny ViT and a few small files."""
    import numpy as np
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=37,
        image_size=16,
        patch_size=8,
    )
    ViTForImageClassification(config).save_pretrained(folder / "backbone")
    size = {"height": 16, "width": 16}
    ViTImageProcessorPil(size=size).save_pretrained(folder / "backbone")
    (folder / "rows").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for split, count in (("train", 24), ("valid", 8), ("test", 8)):
        lines = ["file,label"]
        for i in range(count):
            pixels = draw.integers(0, 90, (20, 18, 3), dtype="uint8")
            pixels[..., i % 2] += 100
            Image.fromarray(pixels).save(folder / "rows" / f"{split}{i}.png")
            lines.append(f"{split}{i}.png,{('bad', 'good')[i % 2]}")
        (folder / "rows" / f"{split}.csv").write_text("\n".join(lines) + "\n")
    text = SPEC.format(name="tiny_photos", backbone="backbone")
    text = text.replace("text-classification", "image-classification")
    text = text.replace('text = "text"\n', 'image = "file"\n')
    text = text.replace("max_tokens = 16\n", "")
    path = folder / "tiny_photos.toml"
    path.write_text(text)
    return path


def write_job(
    folder: Path,
    *,
    name: str = "tiny_job",
    config: PreTrainedConfig | None = None,
    rows: int = 64,
    edit: Mapping[str, str] | None = None,
) -> Path:
    """A spec with its backbone and its rows beside it; `edit` replaces text of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "backbone").is_dir():
        write_backbone(folder / "backbone", config or tiny_bert())
    write_rows(folder / "rows", rows)
    text = SPEC.format(name=name, backbone="backbone")
    for old, new in (edit or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def write_backbone(folder: Path, config: PreTrainedConfig) -> None:
    """What save_pretrained writes: random weights, tokenizer, and a card."""
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    words = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = processors.BertProcessing(  # type: ignore[assignment]
        ("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"])
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        folder
    )
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")


def write_rows(folder: Path, rows: int) -> None:
    """Texts that a word or two of theirs tell apart; one row is of no use."""
    folder.mkdir(exist_ok=True)
    random = Random(0)
    made: dict[str, str] = {}
    while len(made) < 2 * rows:
        label = random.choice(("bad", "good"))
        telling = random.choices(GOOD if label == "good" else BAD, k=2)
        words = [*random.choices(WORDS[:6], k=random.randint(2, 8)), *telling]
        random.shuffle(words)
        made[" ".join(words)] = label
    items = list(made.items())
    parts = {"train": items[:rows], "valid": items[rows : rows + rows // 2]}
    parts["test"] = items[rows + rows // 2 :]
    for split, part in parts.items():
        with open(folder / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(part)
            if split == "train":
                writer.writerow(["a film", "neither"])


def gen(*arguments: str | Path) -> int:
    """`gen` in this process."""
    return main([str(a) for a in arguments])


def last_json(text: str) -> Any:
    """The one JSON object that a command wrote."""
    return json.loads(text)


def cells(markdown: str) -> Sequence[str]:
    """Every cell of the tables of a Markdown page."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [c.strip() for line in lines for c in line.strip("|").split("|")]
