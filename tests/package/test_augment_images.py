"""augment.py of jobs of images: torchvision's transforms, the same in every run.

Where torchvision is not installed, what changes an image is a stand-in that draws as it
does; the mixing of rows is then not tested. One that is built for another torch will do,
since what is used of it is Python.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from data_support import IMAGE, load_package, make_job, write_csv
from laid_out import formatted
from PIL import Image

from generator.ir.job import Job
from generator.ir.plans import AugmentPlan
from generator.render import augment, data

PLANS = {
    "trivial": AugmentPlan(policy="trivial"),
    "rand": AugmentPlan(policy="rand", operations=3, magnitude=14),
    "erase": AugmentPlan(erase=0.5),
    "all": AugmentPlan(policy="trivial", erase=0.25, mixup=0.2, cutmix=1.0),
    "mixup": AugmentPlan(mixup=0.2),
    "cutmix": AugmentPlan(cutmix=1.0),
}


class Noise:
    """Draws as torchvision does, and changes an image by it."""

    def __init__(self, *_: Any, p: float = 1.0, **__: Any) -> None:
        self.p = p

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if torch.rand(1) >= self.p:
            return x
        by = int(torch.randint(1, 9, size=(1,))) * torch.empty(1).uniform_(1, 2).item()
        return (x + by).to(x.dtype)


def stand_in() -> dict[str, ModuleType]:
    """Modules by their names, for as long as augment.py is imported."""
    changing = ("TrivialAugmentWide", "RandAugment", "RandomErasing")
    v2: Any = SimpleNamespace(**dict.fromkeys(changing, Noise))
    v2.MixUp = v2.CutMix = v2.RandomChoice = lambda *_, **__: None
    found = {
        name: ModuleType(name) for name in ("torchvision", "torchvision.transforms")
    }
    vars(found["torchvision.transforms"])["v2"] = v2
    return found


@functools.cache
def torchvision_is_real() -> bool:
    """Whether torchvision is there and can be imported."""
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # its operators cannot be loaded: give their names
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
        globals()["_kept"] = library  # operators go with it
        importlib.import_module("torchvision")
    return True


def module(folder: Path, plan: AugmentPlan, **job: Any) -> tuple[Any, ModuleType]:
    """The training rows of data.py, and augment.py."""
    made = make_job(
        IMAGE, task="image-classification", labels=("a", "b", "c"), augment=plan, **job
    )
    found, _ = load_package(folder, made)
    paths = []
    for i in range(12):
        image = Image.effect_mandelbrot((20 + i, 18), (-2, -1.5, 1, 1.5), 9 + i)
        image.convert("RGB").save(path := folder / f"{i}.png")
        paths.append(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for name, one in ({} if torchvision_is_real() else stand_in()).items():
            patch.setitem(sys.modules, name, one)
        own = importlib.import_module(f"{made.name}.augment")
    return found.Split(paths, torch.arange(12) % 3), own


@pytest.mark.parametrize("kind", ["trivial", "rand", "erase"])
def test_what_becomes_of_an_image_follows_from_seed_epoch_and_number(
    tmp_path: Path, kind: str
):
    split, own = module(tmp_path, PLANS[kind])
    rows = own.Rows(split)
    first = [*rows.batches(2)]
    torch.manual_seed(99)  # other random numbers in this process change nothing
    again = [*rows.batches(2)]
    assert torch.equal(
        torch.cat([b.inputs[0] for b in first]), torch.cat([b.inputs[0] for b in again])
    )
    for batch, later in zip(first[1:], rows.batches(2, 1), strict=True):
        assert torch.equal(batch.inputs[0], later.inputs[0])
        assert torch.equal(batch.rows, later.rows)
        for row, pixels in zip(batch.rows.tolist(), batch.inputs[0]):
            assert torch.equal(rows.changed(2, row), pixels)
    plain = own.data.batch_of(split, torch.arange(12)).inputs[0]
    changed = [
        sum(not torch.equal(rows.changed(e, row), plain[row]) for row in range(12))
        for e in range(10)
    ]
    assert len({rows.changed(e, 0).sum().item() for e in range(10)}) > 2
    share = sum(changed) / 120
    assert 0.35 < share < 0.65 if kind == "erase" else share > 0.5
    assert all(rows.changed(e, 0).shape == plain[0].shape for e in range(3))


def test_batches_are_the_same_with_any_number_of_threads(tmp_path: Path):
    split, own = module(tmp_path, PLANS["trivial"])
    found = []
    for workers in (1, 5):
        own.data.WORKERS = workers
        rows = own.Rows(split)
        found.append(torch.cat([b.inputs[0] for b in rows.batches(1)]))
    assert torch.equal(*found)


def test_draws_do_not_touch_the_numbers_of_the_process(tmp_path: Path):
    split, own = module(tmp_path, PLANS["all"])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(own.Rows(split).batches(0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "all"])
def test_targets_mix_as_pixels_do(tmp_path: Path, kind: str):
    _, own = module(tmp_path, PLANS[kind])
    if not torchvision_is_real():
        pytest.skip("torchvision is not installed")
    # Each image is of one value, its own, so that its part is seen in the mean.
    pixels = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16).contiguous()
    targets = torch.tensor([0, 1, 2, 1])
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        (mixed,), wanted = own.mixed((pixels,), targets)
        assert wanted.shape == (4, 3) and torch.allclose(wanted.sum(1), torch.ones(4))
        share = wanted[1, 1]  # of the second image, mixed with the first
        assert torch.allclose(mixed[1].mean(), share, atol=1e-5)
        seen.add(round(share.item(), 4))
        torch.manual_seed(seed)
        assert torch.equal(own.mixed((pixels,), targets)[1], wanted)
    assert len(seen) > 5


def test_a_job_trains_with_torchvisions_own(tmp_path: Path):
    """From files of images to a model that answers: policy, erasing and both mixtures."""
    if not torchvision_is_real():
        pytest.skip("torchvision is not installed")
    # transformers imports torchvision, whose operators may first have to be named.
    from test_certificate import CASES
    from whole_support import whole

    config, sizes, options = CASES["vit"]

    def edit(job: Job) -> Job:
        return replace(job, data=replace(job.data, augment=PLANS["all"]))

    options = {**options, "labels": ("dark", "light")}
    made = whole(tmp_path, config(**sizes), **options, edit=edit, recipe={"epochs": 2})
    for own, split, count in ((0, "train", 16), (50, "valid", 6), (99, "test", 6)):
        rows = [("file", "label")]
        for i in range(count):
            shade = (40, 200)[i % 2]
            Image.new("RGB", (20, 18), (shade, shade, own + i)).save(
                tmp_path / f"{split}{i}.png"
            )
            rows.append((f"{split}{i}.png", ("dark", "light")[i % 2]))
        write_csv(tmp_path / f"{split}.csv", rows)
    arguments = ["--root", tmp_path, "--work", tmp_path / "work"]
    arguments += ["--weights", made.weights, "--quiet"]
    train = made.module("train")
    assert train.main([*map(str, arguments)]) == 0
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert result["examples"] == 32
    weights = tmp_path / "work" / "model.safetensors"
    predictor = made.module("predict").Predictor(weights)
    (answer,) = predictor.predict([tmp_path / "test0.png"])
    assert set(answer.probabilities) == {"dark", "light"}


def test_the_files_are_formatted_and_say_only_what_was_asked_for(tmp_path: Path):
    for plan, device in [*((p, "cpu") for p in PLANS.values()), (PLANS["all"], "cuda")]:
        job = make_job(IMAGE, task="image-classification", augment=plan, device=device)
        (tmp_path / job.name).mkdir()
        for name, renderer in (("data", data), ("augment", augment)):
            text = renderer.render(job)
            if plan in (PLANS["trivial"], PLANS["all"]):
                text = formatted(text)
                assert max(map(len, text.splitlines())) <= 88, (plan, name)
            (tmp_path / job.name / f"{name}.py").write_text(text)
        assert ("class Rows" in text) == plan.rows
        assert ("def mixed" in text) == bool(plan.mixup or plan.cutmix)
        for word, there in (("Trivial", "trivial"), ("RandAug", "rand")):
            assert (word in text) == (plan.policy == there)
        assert ("Erasing" in text) == (plan.erase > 0)
    check = [sys.executable, "-m", "ruff", "check", "--isolated", str(tmp_path)]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
