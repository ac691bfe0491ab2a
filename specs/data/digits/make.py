"""Makes the images, the tables and the backbone of this folder.

    python specs/data/digits/make.py

Everything follows from the two seeds. The backbone sees none of the images of the tables
and none of the labels: it learns by how many quarter turns each of the other images was
turned. Takes about a minute on one core.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

FOLDER = Path(__file__).parent
SPLITS = {"train": 300, "valid": 100, "test": 100}
SPLIT_SEED, TRAIN_SEED = 1, 2
SIDE = 8
EPOCHS, BATCH, LR = 60, 128, 2e-3
HELD_OUT = 200  # of the other images, to tell what was learned


def write_tables(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Writes the images and the tables. The numbers of the images that are in none."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pixels))
    images = FOLDER / "images"
    images.mkdir(exist_ok=True)
    start = 0
    for split, rows in SPLITS.items():
        with open(FOLDER / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["image", "label"])
            for i in order[start : start + rows]:
                Image.fromarray(pixels[i]).save(images / f"{i:04}.png", optimize=True)
                writer.writerow([f"images/{i:04}.png", labels[i]])
        start += rows
    return order[start:]


def turned(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image four times, and by how many quarter turns it was turned."""
    turns = torch.arange(4).repeat_interleave(len(x))
    return torch.cat([x.rot90(k, (2, 3)) for k in range(4)]), turns


def train_backbone(pixels: np.ndarray) -> ViTForImageClassification:
    """A ViT that tells how images are turned. Prints how well it does on unseen ones."""
    torch.manual_seed(TRAIN_SEED)
    grey = torch.from_numpy(pixels)[:, None].float()
    x = (grey / 255 - 0.5) / 0.5
    x = x.expand(-1, 3, -1, -1)
    model = ViTForImageClassification(
        ViTConfig(
            image_size=SIDE,
            patch_size=2,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            num_labels=4,
        )
    )
    images, turns = turned(x[HELD_OUT:])
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            if len(rows) < BATCH:
                continue
            loss = F.cross_entropy(model(images[rows]).logits, turns[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    images, turns = turned(x[:HELD_OUT])
    with torch.no_grad():
        right = (model(images).logits.argmax(1) == turns).float().mean()
    print(f"turns of {len(images)} images not trained on: {right:.1%} right")
    return model


def main() -> None:
    torch.set_num_threads(1)
    digits = load_digits()
    # 17 levels, from 0 to 16.
    pixels = (digits.images * 255 / 16).round().astype(np.uint8)
    others = write_tables(pixels, digits.target)
    model = train_backbone(pixels[others])
    model.vit.save_pretrained(FOLDER / "backbone")  # without the head
    size = {"height": SIDE, "width": SIDE}
    ViTImageProcessorPil(size=size).save_pretrained(FOLDER / "backbone")


if __name__ == "__main__":
    main()
