"""resize-image: equal to transformers' own interpolation, and refused elsewhere."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracle import batches_of, distance, lifted
from PIL import Image
from runtime_support import gen, last_json
from transformers import AutoModelForImageClassification, ViTConfig
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from generated import generated
from generator.ir.plans import ImagePlan
from generator.passes import EDITS
from generator.passes.resize_image import _pixels
from generator.render.data import processor_sizes
from tests.edits.support import (
    Tiny,
    as_mapped,
    assert_equal_to_edited,
    edited,
    make,
    refused,
    trains,
)

SIZES = [(28, 28), (20, 36), (8, 8), (4, 24)]


def square(seed: int = 0) -> Tiny:
    return make("vit", seed, image_size=(16, 16), patch_size=4, num_hidden_layers=2)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_equal_to_the_reference(size, seed, tmp_path) -> None:
    made = square(seed)
    job = edited(made.job, "resize-image", size=size)
    pixels = next(batches_of(job))["pixels"]
    assert pixels is not None and pixels.shape[2:] == size
    trains(assert_equal_to_edited(made, job, tmp_path), job, all_move=False)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_to_its_own_argument(size, tmp_path) -> None:
    """transformers' model as it is, told to interpolate."""
    made = square()
    job = edited(made.job, "resize-image", size=size)
    model, _ = generated(job, made.tensors, tmp_path)
    for batch in batches_of(job):
        pixels = batch["pixels"]
        with torch.no_grad(), lifted():
            want = made.theirs(pixel_values=pixels, interpolate_pos_encoding=True)
            assert distance(model(pixels), want.logits) < 1e-9


def test_the_old_size_changes_nothing() -> None:
    made = square()
    job, weights = EDITS["resize-image"].run(made.job, size=(16, 16))
    assert job == made.job and not weights.changed


@pytest.mark.parametrize("resize_first", [True, False])
def test_with_other_edits_in_both_orders(resize_first, tmp_path) -> None:
    made = square()
    resize = ("resize-image", {"size": (24, 12)})
    others = [
        ("keep-layers", {"layers": (1,)}),
        ("low-rank", {"on": ("ff.up",), "rank": 2}),
        ("widen-ffn", {"by": 1.5}),
    ]
    job = made.job
    for do, arguments in [resize, *others] if resize_first else [*others, resize]:
        job = edited(job, do, **arguments)
    assert_equal_to_edited(made, job, tmp_path)


def test_the_weight_map_says_what_the_sources_say() -> None:
    made = square()
    job, weights = EDITS["resize-image"].run(made.job, size=(24, 12))
    as_mapped(made.job, job, weights, made.tensors)


def test_only_whole_patches() -> None:
    code, message, mend = refused("resize-image", square().job, size=(25, 24))
    assert code == "G265" and "25 by 24" in message and mend == "size = 24"
    _, _, mend = refused("resize-image", square().job, size=(25, 35))
    assert mend == "size = [24, 36]"


def test_pixels_that_no_patch_had_are_gone(tmp_path) -> None:
    made = make("vit", image_size=(18, 17), patch_size=4, num_hidden_layers=1)
    assert str(made.job.model.main.inputs[0].type) == "f32[B,3,M*P+2,N*P+1]"
    job = edited(made.job, "resize-image", size=(20, 12))
    assert str(job.model.main.inputs[0].type) == "f32[B,3,M*P,N*P]"
    assert_equal_to_edited(made, job, tmp_path)


def test_only_square_grids_and_once() -> None:
    wide = make("vit", image_size=(16, 8), patch_size=4)
    code, message, _ = refused("resize-image", wide.job, size=(16, 16))
    assert code == "G265" and "4 by 2 patches" in message
    job = edited(square().job, "resize-image", size=(24, 24))
    code, message, _ = refused("resize-image", job, size=(16, 16))
    assert code == "G265" and "already" in message


def test_texts_have_another_edit() -> None:
    code, _, mend = refused("resize-image", make("bert").job, size=(16, 16))
    assert code == "G266" and "extend-positions" in mend


PLAN = ImagePlan(
    "image", (16, 16), "exact", "bilinear", None, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
)


@pytest.mark.parametrize(
    ("plan", "size", "resize", "crop"),
    [
        (PLAN, (24, 12), (24, 12), None),
        # DeiT's 256 and 224, and CLIP's shortest side
        (
            replace(PLAN, resize=(256, 256), crop=(224, 224)),
            (384, 384),
            (439, 439),
            (384, 384),
        ),
        (
            replace(PLAN, resize=(224, 224), resize_mode="shortest", crop=(224, 224)),
            (384, 448),
            (448, 448),
            (384, 448),
        ),
        (replace(PLAN, resize=None, crop=(16, 16)), (8, 8), None, (8, 8)),
    ],
)
def test_pixels_come_out_at_the_new_size(plan, size, resize, crop) -> None:
    new = _pixels(plan, plan.crop or plan.resize, size)
    assert (new.resize, new.crop) == (resize, crop)
    assert replace(new, resize=plan.resize, crop=plan.crop) == plan
    named = dict(processor_sizes(new))
    assert ("crop_size" in named) == (crop is not None)
    if resize:
        assert str(resize[0]) in named["size"]


# From the spec to the certificate

SPEC = """
name = "tiny_photos"
task = "image-classification"
labels = ["dark", "light"]

[backbone]
from = "backbone"

[data]
train = "rows/train.csv"
image = "image"
label = "label"

[train]
batch = 4

[[edit]]
do = "resize-image"
size = [20, 16]
"""


def write_photos(folder: Path) -> Path:
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        image_size=12,
        patch_size=4,
    )
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_config(config)
    model.save_pretrained(folder / "backbone")
    size = {"height": 12, "width": 12}
    ViTImageProcessorPil(size=size).save_pretrained(folder / "backbone")
    (folder / "rows").mkdir()
    with open(folder / "rows" / "train.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label"])
        for i in range(24):
            name, light = f"{i}.png", i % 2
            colour = (60 + 100 * light + i,) * 3
            Image.new("RGB", (30, 20), colour).save(folder / "rows" / name)
            rows.writerow([name, ("dark", "light")[light]])
    path = folder / "tiny_photos.toml"
    path.write_text(SPEC)
    return path


def test_from_the_spec_to_the_certificate(tmp_path, capsys) -> None:
    spec, out = write_photos(tmp_path), tmp_path / "out"
    assert gen("build", spec, "--out", out, "--json") == 0
    (built,) = last_json(capsys.readouterr().out)
    before, after = built["edits"]
    assert after["after"] == "resize-image"
    assert after["parameters"] - before["parameters"] == 24 * (5 * 4 - 3 * 3)
    assert after["forward_flops"] > before["forward_flops"]
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = {c["name"]: c for c in last_json(capsys.readouterr().out)["checks"]}
    names = ("logits, fp64", "blocks, fp64", "gradients, fp64")
    for name in (*names, "levels of 255 between the pixels"):
        assert checks[name]["measured"] is not None and checks[name]["holds"]
