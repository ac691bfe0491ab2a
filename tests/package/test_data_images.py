"""data.py of image jobs: equal to transformers' processors, and kept apart by content."""

from __future__ import annotations

import importlib
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from data_support import IMAGE, load_package, make_job, quarantined, write_csv

from generator.ir.plans import CleanPlan

Image = pytest.importorskip("PIL.Image")
TASK = "image-classification"


def noise(width: int, height: int, seed: int = 0, mode: str = "RGB"):
    """Noise over a gradient, so that neither blur nor shift goes unseen."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 96, (height, width, 3), generator=random)
    pixels += torch.arange(width)[None, :, None] * 159 // width
    raw = bytes(pixels.flatten().tolist())
    return Image.frombytes("RGB", (width, height), raw).convert(mode)


PLANS = {
    "exact": replace(IMAGE, resize=(24, 18)),
    "bilinear": replace(IMAGE, resize=(24, 24), resample="bilinear"),
    "nearest": replace(IMAGE, resize=(30, 70), resample="nearest"),
    "lanczos": replace(IMAGE, resize=(20, 20), resample="lanczos"),
    "shortest": replace(IMAGE, resize=(25, 25), resize_mode="shortest", crop=(20, 20)),
    "odd crop": replace(IMAGE, resize=(21, 21), resize_mode="shortest", crop=(20, 17)),
    "padded": replace(IMAGE, resize=(10, 10), resize_mode="shortest", crop=(17, 14)),
    "crop only": replace(IMAGE, resize=None, crop=(33, 40)),
    "plain": replace(IMAGE, resize=(9, 9), mean=(0, 0, 0), std=(1, 1, 1)),
    "no scale": replace(IMAGE, resize=(9, 9), rescale=1.0),
}


def processor(plan):
    transformers = pytest.importorskip("transformers")
    kind = transformers.models.vit.image_processing_pil_vit.ViTImageProcessorPil
    size = {"height": 1, "width": 1}
    if plan.resize and plan.resize_mode == "shortest":
        size = {"shortest_edge": plan.resize[0]}
    elif plan.resize:
        size = dict(zip(("height", "width"), plan.resize))
    return kind(
        do_resize=plan.resize is not None,
        size=size,
        default_to_square=False,
        resample=Image.Resampling[plan.resample.upper()],
        do_center_crop=plan.crop is not None,
        crop_size=dict(zip(("height", "width"), plan.crop or (1, 1))),
        do_rescale=plan.rescale != 1,
        rescale_factor=plan.rescale,
        do_normalize=any(plan.mean),
        image_mean=list(plan.mean),
        image_std=list(plan.std),
        do_convert_rgb=True,
    )


@pytest.mark.parametrize("name", PLANS)
def test_pixels_equal_those_of_transformers(tmp_path, name):
    plan = PLANS[name]
    module, _ = load_package(tmp_path, make_job(plan, task=TASK))
    theirs = processor(plan)
    from transformers.image_utils import load_image

    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown a quarter turn to the right
    for i, (size, mode, options) in enumerate(
        [
            ((40, 30), "RGB", {}),
            ((31, 47), "RGB", {"exif": turned}),
            ((33, 33), "L", {}),
            ((50, 21), "P", {}),
            ((19, 19), "RGBA", {}),
            ((15, 61), "LA", {}),
        ]
    ):
        path = tmp_path / f"{i}.png"
        noise(*size, seed=i, mode=mode).save(path, **options)
        (own,) = module.collate([module.pixels(path)])
        expected = theirs(load_image(str(path)), return_tensors="pt")["pixel_values"]
        assert own.dtype == torch.float32 and own.shape == expected.shape
        # Far below one step of the 255: only the order of float operations differs.
        scale = plan.rescale * 255 / min(plan.std)
        assert (own - expected).abs().max() <= 1e-5 * scale


def test_images_that_cannot_be_used(tmp_path, capsys):
    module, _ = load_package(tmp_path, make_job(IMAGE, task=TASK))
    folder = tmp_path / "rows"
    (folder / "seen").mkdir(parents=True)
    for i in range(8):
        noise(20, 20, i).save(folder / "seen" / f"{i}.png")
    whole = io.BytesIO()
    noise(200, 200).save(whole, "JPEG")
    (folder / "cut.jpg").write_bytes(whole.getvalue()[:2000])
    (folder / "text.png").write_text("no image")
    (folder / "copy.png").write_bytes((folder / "seen/4.png").read_bytes())
    rows = [
        *((f"seen/{i}.png", ("no", "yes")[i % 2]) for i in range(4)),
        ("cut.jpg", "no"),
        ("text.png", "no"),
        ("none.png", "no"),
        ("", "no"),
        ("seen/0.png", "perhaps"),
        ("copy.png", "yes"),
    ]
    job = make_job(
        IMAGE, task=TASK, files=("rows/train.csv", "rows/valid.csv", "rows/test.csv")
    )
    module, _ = load_package(tmp_path, job)
    head = ("image", "label")
    write_csv(folder / "train.csv", [head, *rows])
    write_csv(folder / "valid.csv", [head, ("seen/4.png", "no"), ("seen/5.png", "yes")])
    write_csv(folder / "test.csv", [head, ("seen/6.png", "no"), ("seen/7.png", "yes")])
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert [len(split) for split in splits] == [4, 2, 2]
    reasons = {row["line"]: row["reason"] for row in quarantined(tmp_path / "work")}
    assert reasons == {
        6: "the image cannot be read (image file is truncated)",
        7: "the image cannot be read (UnidentifiedImageError)",
        8: "the image cannot be read (FileNotFoundError)",
        9: '"image" is empty or not a path',
        10: "unknown label 'perhaps'",
        11: "the image is also in valid",
    }
    order = torch.cat([batch.rows for batch in module.batches(splits.train, 1)])
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    (batch,) = module.evaluation_batches(splits.valid)
    assert batch.inputs[0].shape == (2, 3, 8, 10)
    direct = module.collate([module.pixels(folder / f"seen/{i}.png") for i in (4, 5)])
    assert torch.equal(batch.inputs[0], direct[0])
    capsys.readouterr()


def test_the_digits_are_those_of_scikit_learn(tmp_path, monkeypatch):
    """The images of the example are whole, and say what they say they are."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    repository = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(str(repository / "generated"))
    module = importlib.import_module("digits.data")
    splits = module.load_splits(repository / "specs", tmp_path)
    assert [len(split) for split in splits] == [300, 100, 100]
    assert quarantined(tmp_path) == []
    used = [int(path.stem) for split in splits for path in split.images]
    assert len(set(used)) == 500
    assert (
        digits.target[used].tolist() == torch.cat([s.targets for s in splits]).tolist()
    )
    found = torch.stack([module.pixels(p) for split in splits for p in split.images])
    expected = torch.from_numpy(digits.images[used] * 255 / 16).round()
    assert torch.equal(found.double(), expected[:, None].expand(-1, 3, -1, -1))


def test_images_that_are_not_there_or_change(tmp_path, monkeypatch):
    module, _ = load_package(
        tmp_path, make_job(IMAGE, task=TASK, files=("t.csv", None, None))
    )
    write_csv(tmp_path / "t.csv", [("image", "label"), ("a/1.png", "no")])
    with pytest.raises(module.DataError, match=r"FileNotFoundError\): .*a/1.png"):
        module.load_splits(tmp_path, tmp_path / "work")
    names = [f"{i}.png" for i in range(20)]
    for i, name in enumerate(names):
        noise(9, 9, i).save(tmp_path / name)
    rows = [(name, ("no", "yes")[i % 2]) for i, name in enumerate(names)]
    write_csv(tmp_path / "t.csv", [("image", "label"), *rows])
    train, *_ = module.load_splits(tmp_path, tmp_path / "work")
    train.images[3].write_bytes(b"")
    with pytest.raises(module.DataError, match=f"{train.images[3]} has changed"):
        list(module.batches(train, 0))

    def broken(path):  # as the reader of DDS does
        raise NotImplementedError("Unknown pixel format flags 0")

    monkeypatch.setattr(module.Image, "open", broken)
    with pytest.raises(module.BadRow, match="NotImplementedError"):
        module.pixels(tmp_path / "0.png")


def test_predictions_of_images(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    _, predict = load_package(tmp_path, make_job(IMAGE, task=TASK))
    torch.manual_seed(0)
    save_file(predict.Model().state_dict(), tmp_path / "w.safetensors")
    for i in range(5):
        noise(20 + i, 20, i).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_text("no image")
    predictor = predict.Predictor(tmp_path / "w.safetensors", batch=2)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    together = predictor.predict(paths)
    alone = [predictor.predict([path])[0] for path in paths]
    for a, b in zip(together, alone, strict=True):
        assert a.label == b.label
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-6)
    names = ["0.png", "bad.png", "1.png", "none.png"]
    write_csv(tmp_path / "rows.csv", [("image",), *((name,) for name in names)])
    monkeypatch.chdir("/")  # paths are relative to the file
    out = tmp_path / "out.jsonl"
    code = predict.main(
        ["--input", str(tmp_path / "rows.csv"), "--output", str(out)]
        + ["--weights", str(tmp_path / "w.safetensors")]
    )
    answers = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert code == 1
    assert [("label" in row, "error" in row) for row in answers] == [
        (True, False),
        (False, True),
        (True, False),
        (False, True),
    ]
    assert answers[2]["probabilities"] == pytest.approx(
        together[1].probabilities, abs=1e-6
    )


def deep(path: Path, level: int) -> None:
    """A grey image of 16 bits."""
    Image.frombytes("I;16", (9, 9), level.to_bytes(2, "little") * 81).save(path)


CLEANED = CleanPlan(levels=True, alpha="white", min_pixels=50, max_pixels=400)


def test_images_are_cleaned_and_what_was_done_is_counted(tmp_path):
    job = make_job(IMAGE, task=TASK, files=("t.csv", None, None), clean=CLEANED)
    module, _ = load_package(tmp_path, job)
    for i in range(20):
        noise(9, 9, i).save(tmp_path / f"{i}.png")
    deep(tmp_path / "deep.png", 257 * 77)
    glass = Image.new("RGBA", (9, 9), (10, 20, 30, 255))
    glass.save(tmp_path / "opaque.png")
    glass.paste((200, 0, 0, 0), (0, 0, 9, 4))
    glass.save(tmp_path / "glass.png")
    Image.new("P", (9, 9)).save(tmp_path / "palette.png", transparency=0)
    Image.new("F", (9, 9), 0.5).save(tmp_path / "float.tiff")
    noise(9, 9, 99).convert("CMYK").save(tmp_path / "cmyk.tiff")
    noise(7, 7).save(tmp_path / "small.png")
    noise(21, 20).save(tmp_path / "large.png")
    # Says that it is large, and has no pixels at all: it is not unpacked.
    header = bytearray((tmp_path / "0.png").read_bytes()[:33])
    header[16:24] = (9000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(header + bytes.fromhex("0000000049444154"))
    names = [f"{i}.png" for i in range(20)]
    names += ["deep.png", "opaque.png", "glass.png", "palette.png", "cmyk.tiff"]
    names += ["float.tiff", "small.png", "large.png", "bomb.png"]
    rows = [(name, ("no", "yes")[i % 2]) for i, name in enumerate(names)]
    write_csv(tmp_path / "t.csv", [("image", "label"), *rows])

    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert sum(map(len, splits)) == 25
    aside = {r["row"]["image"]: r["reason"] for r in quarantined(tmp_path / "work")}
    assert aside == {
        "float.tiff": "the image has levels that cannot be scaled (F)",
        "small.png": "fewer than 50 pixels",
        "large.png": "more than 400 pixels",
        "bomb.png": "more than 400 pixels",
    }
    found = json.loads((tmp_path / "work/cleaning.json").read_text())
    assert found["read"] == {"t.csv": 29}
    assert found["rewritten"] == {"levels": {"t.csv": 1}, "alpha": {"t.csv": 2}}
    lines = {e["line"]: (e["before"], e["after"]) for e in found["examples"]["alpha"]}
    assert lines == {24: ("RGBA", "RGB"), 25: ("P", "RGB")}
    assert [e["line"] for e in found["examples"]["levels"]] == [22]


def test_cleaned_pixels_are_those_that_a_viewer_shows(tmp_path):
    plan = replace(IMAGE, resize=(9, 9))
    cleaned, _ = load_package(tmp_path, make_job(plan, task=TASK, clean=CLEANED))
    for level in (0, 256, 30_000, 65_535):
        deep(tmp_path / "deep.png", level)
        found = cleaned.pixels(tmp_path / "deep.png").unique()
        assert len(found) == 1 and abs(found.item() - level / 257) <= 0.5
    random = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (9, 9, 4), generator=random)
    image = Image.frombytes("RGBA", (9, 9), bytes(raw.flatten().tolist()))
    image.save(tmp_path / "glass.png")
    colour, alpha = raw[..., :3].double(), raw[..., 3:].double() / 255
    shown = (colour * alpha + 255 * (1 - alpha)).permute(2, 0, 1)
    assert (cleaned.pixels(tmp_path / "glass.png") - shown).abs().max() <= 1
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=turned)
    found = cleaned.pixels(tmp_path / "turned.png")
    assert torch.equal(found, cleaned.pixels(tmp_path / "glass.png").rot90(-1, (1, 2)))
    # Limits are of files: a row to predict is answered, whatever its size.
    noise(40, 40).save(tmp_path / "large.png")
    assert cleaned.pixels(tmp_path / "large.png").shape == (3, 9, 9)


def test_images_in_the_rows(tmp_path):
    """Bytes alone or {bytes, path}, as in files; what is none is put aside, and no name
    in a row leads to a file."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def encoded(seed: int) -> bytes:
        file = io.BytesIO()
        noise(20, 20, seed).save(file, "PNG")
        return file.getvalue()

    files = ("train.parquet", "valid.parquet", "test.parquet")
    plan = replace(IMAGE, held=True)
    module, _ = load_package(tmp_path, make_job(plan, task=TASK, files=files))

    def write(name: str, images: list, kind: Any) -> None:
        labels = [("no", "yes")[i % 2] for i in range(len(images))]
        table = {"image": pa.array(images, kind), "label": labels}
        parquet.write_table(pa.table(table), tmp_path / f"{name}.parquet")

    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    some = [{"bytes": encoded(i), "path": "a.png"} for i in range(4)]
    noted = {"bytes": b"no image", "path": None}
    write("train", [*some, {"bytes": None, "path": "a.png"}, None, noted], struct)
    write("valid", [encoded(0), encoded(5), b""], pa.binary())
    write("test", [encoded(6), encoded(7)], pa.binary())
    work = tmp_path / "work"
    splits = module.load_splits(tmp_path, work)
    assert [len(split) for split in splits] == [3, 2, 2]
    found = [(row["file"][:5], row["line"], row["reason"]) for row in quarantined(work)]
    assert sorted(found) == [
        ("train", 1, "the image is also in valid"),
        ("train", 5, '"image" holds no image'),
        ("train", 6, '"image" holds no image'),
        ("train", 7, "the image cannot be read (UnidentifiedImageError)"),
        ("valid", 3, '"image" holds no image'),
    ]
    put_aside = next(row for row in quarantined(work) if row["line"] == 7)
    assert (work / "images" / put_aside["row"]["image"]).read_bytes() == b"no image"
    (batch,) = module.evaluation_batches(splits.train)
    for i, pixels in enumerate(batch.inputs[0], 1):
        (tmp_path / "one.png").write_bytes(encoded(i))
        (alone,) = module.collate([module.pixels(tmp_path / "one.png")])
        assert torch.equal(pixels, alone[0])
    before = sorted((work / "images").iterdir())
    module.load_splits(tmp_path, work)
    assert sorted((work / "images").iterdir()) == before

    write("valid", ["train.parquet", "b"], pa.string())
    write("test", [encoded(6), encoded(7)], pa.binary())
    with pytest.raises(module.DataError, match="holds no image"):
        module.load_splits(tmp_path, work)
