"""Training from what a frozen prefix gave: that it is training, and how it is kept."""

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import children
import pytest
import torch
from data_support import some_texts, write_csv
from test_train import check_equals_whole
from transformers import BertConfig, LlamaConfig, ViTConfig
from whole_support import Whole, whole

from generator.ir.job import parameters
from generator.ir.plans import TextPlan

ENCODER: dict[str, Any] = {
    "vocab_size": 14,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": 32,
}
DECODER = {**ENCODER, "num_attention_heads": 4, "num_key_value_heads": 2}
VISION: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "image_size": (12, 8),
    "patch_size": 4,
}
PHOTOS: dict[str, Any] = {"task": "image-classification", "labels": ("no", "yes")}
TWO, ALL = (("embedding", *(f"blocks.{i}" for i in range(count))) for count in (2, 3))
CASES: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "text": (BertConfig, ENCODER, {"frozen": TWO}),
    "all blocks": (BertConfig, ENCODER, {"frozen": ALL}),
    "pairs": (BertConfig, ENCODER, {"frozen": TWO, "pair": True}),
    "decoder": (LlamaConfig, {**DECODER, "pad_token_id": 0}, {"frozen": TWO}),
    "decoder, all": (LlamaConfig, {**DECODER, "pad_token_id": 0}, {"frozen": ALL}),
    "images": (ViTConfig, VISION, {"frozen": TWO, **PHOTOS}),
    "images, all": (ViTConfig, VISION, {"frozen": ALL, **PHOTOS}),
    "a budget of tokens": (
        BertConfig,
        ENCODER,
        {"frozen": TWO, "recipe": {"batch": 0, "batch_tokens": 64}},
    ),
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cuda": {"device": "cuda"},
    "cuda, bf16": {"device": "cuda", "precision": "bf16"},
    "bf16": {"precision": "bf16"},
    "compiled": {"compile": True},
    "accumulated": {"recipe": {"accumulate": 2}},
    "kept in bf16": {"recipe": {"cache": "bf16"}},
    "cuda, kept in bf16": {"device": "cuda", "recipe": {"cache": "bf16"}},
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(folder: Path, case: str = "text", **more: Any) -> Whole:
    config, sizes, options = CASES[case]
    return fill(folder, whole(folder, config(**sizes), **{**options, **more}), case)


def fill(folder: Path, made: Whole, case: str) -> Whole:
    """The package, once its rows are written."""
    for name, count in (("train", 40), ("valid", 12), ("test", 12)):
        texts = some_texts(count)
        labels = ["yes" if "a" in t else "no" for t in texts]
        texts = [f"{name} {t}" for t in texts]
        if case.startswith("images"):
            texts = [_image(folder, f"{name}-{i}.png", i) for i in range(count)]
            labels = [("no", "yes")[i % 2] for i in range(count)]
        rows = [[t, t[::-1]] if case == "pairs" else [t] for t in texts]
        inputs = made.job.data.inputs
        text = isinstance(inputs, TextPlan)
        columns = inputs.columns if text else (inputs.column,)
        write_csv(
            folder / f"{name}.csv",
            [
                (*columns, *made.job.data.label),
                *((*row, label) for row, label in zip(rows, labels, strict=True)),
            ],
        )
    return made


def _image(folder: Path, name: str, number: int) -> str:
    from PIL import Image

    random = torch.Generator().manual_seed(sum(map(ord, name)) * 100 + number)
    pixels = torch.randint(0, 256, (12, 8, 3), generator=random, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(folder / name)
    return name


def opened(made: Whole, folder: Path) -> Any:
    """What a training of the package starts from, with what is frozen kept."""
    train, model = made.module("train"), made.module("model")
    torch.manual_seed(0)
    found = model.load_pretrained(made.weights)
    train.training_mode(found)
    splits = train.data.load_splits(folder, folder / "work")
    return SimpleNamespace(
        train=train,
        data=train.data,
        model=found,
        splits={"train": splits.train, "valid": splits.valid},
        folder=folder / "work" / "cache",
    )


def kept(job: Any) -> list[Any]:
    return job.train.keep(job.model, job.splits, job.folder, True)


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept_is_what_the_prefix_gives(case: str, tmp_path: Path) -> None:
    """Bit for bit in the batches in which it was run, and nearly in any other."""
    job = opened(make(tmp_path, case), tmp_path)
    train, valid = kept(job)
    assert job.model.training and not job.model.blocks[0].training
    for split in (train, valid):
        ours = split.evaluation_batches()
        theirs = job.data.evaluation_batches(split.split)
        for found, whole_batch in zip(ours, theirs, strict=True):
            assert torch.equal(found.rows, whole_batch.rows)
            assert torch.equal(found.targets, whole_batch.targets)
            for mode in (job.model.eval, lambda: job.train.training_mode(job.model)):
                mode()
                torch.manual_seed(1)
                got = job.model.suffix(*found.inputs)
                torch.manual_seed(1)
                assert torch.equal(got, job.model(*whole_batch.inputs))
    ours = train.batches(1, 3)
    theirs = job.data.batches(train.split, 1, 3)
    for found, whole_batch in zip(ours, theirs, strict=True):
        assert torch.equal(found.rows, whole_batch.rows)
        torch.manual_seed(1)
        got = job.model.suffix(*found.inputs)
        torch.manual_seed(1)
        want = job.model(*whole_batch.inputs)
        assert torch.allclose(got, want, atol=1e-6, rtol=0)


def test_only_what_trains_is_the_optimizers(tmp_path: Path) -> None:
    made = make(tmp_path)
    job = opened(made, tmp_path)
    before = {k: x.clone() for k, x in job.model.state_dict().items()}
    optimizer = job.train.make_optimizer(job.model)
    held = {id(p) for part in optimizer.param_groups for p in part["params"]}
    frozen = {p.path for p in parameters(made.job) if p.frozen}
    for name, parameter in job.model.named_parameters():
        assert (id(parameter) in held) == parameter.requires_grad
        assert parameter.requires_grad == (name not in frozen)
    train, _ = kept(job)
    for batch in train.batches(0):
        loss = torch.nn.functional.cross_entropy(
            job.model.suffix(*batch.inputs), batch.targets
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, x in job.model.state_dict().items():
        assert torch.equal(x, before[name]) == (name in frozen), name


def test_what_is_frozen_has_no_dropout(tmp_path: Path) -> None:
    """Also where nothing is kept, since what is frozen is no prefix."""
    made = make(tmp_path, frozen=("blocks.1",))
    assert not made.job.model.cut
    job = opened(made, tmp_path)
    assert job.model.blocks[0].training and not job.model.blocks[1].dropout.training
    job.train.evaluate(job.model, job.splits["valid"])
    assert job.model.blocks[0].training and not job.model.blocks[1].dropout.training


def test_the_type_that_it_is_kept_in(tmp_path: Path) -> None:
    job = opened(make(tmp_path / "a", recipe={"cache": "bf16"}), tmp_path / "a")
    half, _ = kept(job)
    assert half.x.dtype == torch.bfloat16
    found = next(iter(half.evaluation_batches())).inputs[0]
    assert found.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        for batch in job.data.evaluation_batches(job.splits["train"]):
            x = job.model.prefix(*batch.inputs).bfloat16()  # computed in it too
            for row, place in enumerate(batch.rows.tolist()):
                start = int(half.split.tokens.starts[place])
                length = int(half.split.tokens.lengths[place])
                assert torch.equal(half.x[start : start + length], x[row, :length])
    job = opened(make(tmp_path / "b"), tmp_path / "b")
    whole_, _ = kept(job)
    torch.testing.assert_close(half.x.float(), whole_.x, atol=0.05, rtol=0.05)
    sizes = [
        path.stat().st_size
        for folder in ("a", "b")
        for path in (tmp_path / folder / "work" / "cache").glob("train-*")
    ]
    assert sizes[1] == 2 * sizes[0] == 4 * whole_.x.numel()


def test_a_file_serves_again_and_a_stale_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path)
    job = opened(made, tmp_path)
    first = kept(job)
    names = sorted(path.name for path in job.folder.iterdir())
    assert [name.split("-")[0] for name in names] == ["train", "valid"]
    with monkeypatch.context() as patch:
        patch.setattr(job.train, "run_frozen", None)  # whatever is called fails
        again = kept(job)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.x, b.x)

    def changed() -> set[str]:
        kept(job)
        found = sorted(path.name for path in job.folder.iterdir())
        assert [name.split("-")[0] for name in found] == ["train", "valid"]
        new = {b.split("-")[0] for a, b in zip(names, found, strict=True) if a != b}
        names[:] = found
        return new

    with torch.no_grad():  # what trains is no matter
        job.model.blocks[2].ff.up.weight += 1
    assert changed() == set()
    with torch.no_grad():
        job.model.blocks[1].ff.up.weight += 1
    assert changed() == {"train", "valid"}
    tokens = job.splits["valid"].tokens
    tokens.ids[0] += 1
    assert changed() == {"valid"}
    monkeypatch.setattr(job.train, "CACHE", "bfloat16")
    assert changed() == {"train", "valid"}
    made.package.joinpath("model.py").open("a").write("\n")
    assert changed() == {"train", "valid"}


def test_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = opened(make(tmp_path), tmp_path)
    tokens = sum(len(split.tokens.ids) for split in job.splits.values())
    needed = 4 * 24 * tokens
    free = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(SystemExit) as caught:
        kept(job)
    said = str(caught.value)
    assert str(job.folder) in said
    assert f"{needed - 1:,} bytes free" in said and f"needs {needed:,}" in said
    assert '--work, or set cache = "bf16" or cache = "off" in [train]' in said
    assert not [*job.folder.iterdir()]
    free.free += 1
    kept(job)


def test_an_interrupted_run_of_the_prefix_leaves_nothing_to_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = opened(make(tmp_path), tmp_path)
    prefix, seen = job.model.prefix, itertools.count()

    def interrupted(*inputs: Any) -> torch.Tensor:
        if next(seen) == 3:
            raise KeyboardInterrupt
        return prefix(*inputs)

    with monkeypatch.context() as patch:
        patch.setattr(job.model, "prefix", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kept(job)
    (part,) = job.folder.iterdir()
    assert part.suffix == ".0"  # batches that can be relied on
    train, _ = kept(job)
    assert len([*job.folder.iterdir()]) == 2
    fresh = opened(make(tmp_path / "fresh"), tmp_path / "fresh")
    assert torch.equal(train.x, kept(fresh)[0].x)


@pytest.mark.parametrize("case", ["text", "all blocks", "images"])
def test_a_signal_keeps_what_is_there(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch is run twice, and what comes out is as if there had been none."""
    job = opened(make(tmp_path, case), tmp_path)
    prefix, signals, runs = job.model.prefix, [], []

    def counted(*inputs: Any) -> torch.Tensor:
        runs.append(inputs)
        if len(runs) in (3, 4, 11):  # the fourth at once after the third
            signals.append(signal.SIGTERM)
        return prefix(*inputs)

    monkeypatch.setattr(job.model, "prefix", counted)
    for number in (3, 4, 11):
        with pytest.raises(SystemExit) as caught:
            job.train.keep(job.model, job.splits, job.folder, True, signals)
        assert caught.value.code == 75 and len(runs) == number
        signals.clear()
    train, valid = job.train.keep(job.model, job.splits, job.folder, True, signals)
    batches = [job.data.evaluation_batches(split) for split in job.splits.values()]
    assert len(runs) == sum(len([*some]) for some in batches)
    assert len([*job.folder.iterdir()]) == 2
    monkeypatch.undo()
    fresh = opened(make(tmp_path / "fresh", case), tmp_path / "fresh")
    for ours, theirs in zip((train, valid), kept(fresh), strict=True):
        assert torch.equal(ours.x, theirs.x)


def signal_in_prefix(name: str, nth: int, train: Any) -> None:
    """Send itself a signal in a batch of the prefix."""
    prefix, seen = getattr(train.Model, name), itertools.count(1)

    def signalled(self: Any, *inputs: Any) -> torch.Tensor:
        if next(seen) == nth:
            os.kill(os.getpid(), signal.SIGTERM)
        return prefix(self, *inputs)

    setattr(train.Model, name, signalled)


def test_a_signal_before_the_first_step(tmp_path: Path) -> None:
    made = make(tmp_path)
    weights = ("--weights", str(made.weights / "model.safetensors"))
    run = functools.partial(children.run, tmp_path, *weights, name=made.job.name)
    assert run("--work", "whole") == 0, (tmp_path / "log").read_text()
    hook = functools.partial(signal_in_prefix, "prefix", 4)
    for work, again in (("stopped", ("--resume",)), ("stopped-2", ())):
        (tmp_path / "log").unlink(missing_ok=True)
        assert run("--work", work, hook=hook) == 75
        assert "stopped: --resume goes on" in (tmp_path / "log").read_text()
        (part,) = (tmp_path / work / "cache").iterdir()
        assert part.suffix == ".4"
        assert run("--work", work, *again) == 0, (tmp_path / "log").read_text()
        check_equals_whole(tmp_path, work)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("where", ["in a batch", "at the end"])
def test_a_disk_that_fills_up(
    number: int, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said where, and what to do; another error is not taken for that."""
    job = opened(make(tmp_path), tmp_path)

    def full(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if where == "in a batch":  # which a write or a flush does
            patch.setattr(job.model, "prefix", full)
        else:
            patch.setattr(job.train, "flush", full)
        if number == errno.EIO:
            with pytest.raises(OSError, match=os.strerror(number)):
                kept(job)
            return
        with pytest.raises(SystemExit) as caught:
            kept(job)
    said = str(caught.value.code)
    assert said.startswith(f"{job.folder} is full before all is kept that is needed: ")
    assert 'make room, choose another --work, or set cache = "bf16" or cache' in said
    assert not [*job.folder.iterdir()]
    kept(job)


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs a file that is always full"
)
def test_a_write_that_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails, and not a plant of ours."""
    job = opened(make(tmp_path), tmp_path)
    with monkeypatch.context() as patch:
        run_frozen = job.train.run_frozen

        def on_a_full_disk(model: Any, split: Any, path: Path, *rest: Any) -> None:
            path.symlink_to("/dev/full")
            run_frozen(model, split, path, *rest)

        patch.setattr(job.train, "run_frozen", on_a_full_disk)
        with pytest.raises(SystemExit, match="is full before all is kept"):
            kept(job)
    assert not [*job.folder.iterdir()]
    kept(job)


@pytest.mark.parametrize("case", ["text", "all blocks", "decoder", "images"])
def test_steps_from_the_cache_are_steps_through_all(case: str, tmp_path: Path) -> None:
    """Bit for bit, in the batches in which the prefix was run."""
    made = make(tmp_path, case)
    ends = []
    for from_cache in (True, False):
        job = opened(made, tmp_path)
        optimizer = job.train.make_optimizer(job.model)
        train, _ = kept(job)
        for number in range(3):
            batches = (
                train.evaluation_batches()
                if from_cache
                else job.data.evaluation_batches(train.split)
            )
            forward = job.model.suffix if from_cache else job.model
            for batch in batches:
                torch.manual_seed(number)
                criterion = torch.nn.CrossEntropyLoss()
                job.train.step(forward, criterion, optimizer, batch)
        ends.append(job.train.contents(job.model, optimizer))
    ours, theirs = ends
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("adamw.") for name in ours)
    assert not any(name.startswith("adamw.embedding") for name in ours)
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def test_a_run_from_the_cache_learns_as_the_run_without(tmp_path: Path) -> None:
    """In batches of its own, so that what is kept differs in the last bits."""
    ends = []
    for cache in ("fp32", "off"):
        folder = tmp_path / cache
        made = make(folder, recipe={"epochs": 2, "lr": 1e-3, "cache": cache})
        assert bool(made.job.model.cut) == (cache != "off")
        weights = ("--weights", str(made.weights / "model.safetensors"))
        run = functools.partial(children.run, folder, *weights, name=made.job.name)
        assert run("--work", "work") == 0, (folder / "log").read_text()
        lines = (folder / "work" / "metrics.jsonl").read_text().splitlines()
        ends.append([json.loads(line) for line in lines])
        assert (folder / "work" / "cache").exists() == (cache != "off")
    assert len(ends[0]) == len(ends[1]) == 22
    for ours, theirs in zip(*ends, strict=True):
        ours, theirs = (x.get("evaluation", x) for x in (ours, theirs))
        assert ours["step"] == theirs["step"]
        assert abs(ours["loss"] - theirs["loss"]) < 1e-6


@pytest.mark.parametrize("case", ["text", "images"])
def test_it_resumes_as_it_was(case: str, tmp_path: Path) -> None:
    """From the file that is there, and from one that is written anew."""
    made = make(tmp_path, case, recipe={"epochs": 2, "save_every": 4})
    weights = ("--weights", str(made.weights / "model.safetensors"))
    run = functools.partial(children.run, tmp_path, *weights, name=made.job.name)
    assert run("--work", "whole") == 0, (tmp_path / "log").read_text()
    hook = functools.partial(children.kill_after, 7, 0.0)
    for work, lose in (("kept", False), ("lost", True)):
        assert run("--work", work, hook=hook) == -signal.SIGKILL
        if lose:
            shutil.rmtree(tmp_path / work / "cache")
        assert run("--work", work, "--resume") == 0, (tmp_path / "log").read_text()
        check_equals_whole(tmp_path, work)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ["text", "all blocks", "decoder", "images"])
def test_every_form_is_clean_source(case: str, form: str, tmp_path: Path) -> None:
    config, sizes, options = CASES[case]
    made = whole(tmp_path, config(**sizes), **options, **FORMS[form])
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "-q", made.package]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("form", ["cuda", "cuda, kept in bf16", "accumulated"])
def test_other_forms_train(form: str, tmp_path: Path) -> None:
    made = make(tmp_path, **FORMS[form])
    weights = ("--weights", str(made.weights / "model.safetensors"))
    hook = children.on_processor if "cuda" in form else None
    run = functools.partial(children.run, tmp_path, *weights, name=made.job.name)
    assert run("--work", "work", hook=hook) == 0, (tmp_path / "log").read_text()
