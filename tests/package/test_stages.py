"""Training in stages: what each freezes and starts from, and that it can be cut short."""

from __future__ import annotations

import functools
import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import children
import pytest
import torch
from test_cache import (
    ALL,
    DECODER,
    ENCODER,
    FORMS,
    PHOTOS,
    TWO,
    VISION,
    fill,
    signal_in_prefix,
)
from test_train import check_equals_whole, tensors
from transformers import BertConfig, LlamaConfig, ViTConfig
from whole_support import Whole, whole

from generator.ir.cut import divisions
from generator.ir.plans import StagePlan
from generator.ir.text import parse_job, print_job

# The head alone, then the last block too, then everything.
HEAD, LAST, EVERYTHING = (
    StagePlan(epochs=1, lr=1e-2, warmup=0.0, frozen=ALL),
    StagePlan(epochs=1, lr=2e-3, warmup=0.1, frozen=TWO),
    StagePlan(epochs=1, lr=5e-4, warmup=0.2, frozen=()),
)
STAGES = (HEAD, LAST, EVERYTHING)
MIDDLE = StagePlan(epochs=1, lr=1e-3, warmup=0.0, frozen=("blocks.1",))
PADDED = {**DECODER, "pad_token_id": 0}
CASES: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "text": (BertConfig, ENCODER, {}),
    "pairs": (BertConfig, ENCODER, {"pair": True}),
    "a budget of tokens": (
        BertConfig,
        ENCODER,
        {"recipe": {"batch": 0, "batch_tokens": 64}},
    ),
    "decoder": (LlamaConfig, PADDED, {}),
    "images": (ViTConfig, VISION, PHOTOS),
}
KINDS: dict[str, tuple[StagePlan, ...]] = {
    "three": STAGES,
    "one": (LAST,),
    "the head alone": (HEAD, HEAD),
    "all kept": (HEAD, LAST),
    "none kept": (EVERYTHING, MIDDLE),
    "not frozen": (EVERYTHING, EVERYTHING),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(
    folder: Path,
    case: str = "text",
    stages: tuple[StagePlan, ...] = STAGES,
    **more: Any,
) -> Whole:
    config, sizes, options = CASES[case]
    made = whole(folder, config(**sizes), stages=stages, **{**options, **more})
    assert parse_job(print_job(made.job)) == made.job
    return fill(folder, made, case)


def runner(folder: Path, made: Whole) -> Any:
    weights = ("--weights", str(made.weights / "model.safetensors"))
    return functools.partial(children.run, folder, *weights, name=made.job.name)


def lines(work: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (work / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES)
def test_it_trains_and_does_so_again(case: str, tmp_path: Path) -> None:
    made = make(tmp_path, case)
    assert len(divisions(made.job)) == 2
    run = runner(tmp_path, made)
    assert run("--work", "whole") == 0, (tmp_path / "log").read_text()
    assert run("--work", "again") == 0
    check_equals_whole(tmp_path, "again")
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert result["stage"] == 3 and result["epoch"] == 3 and result["batch"] == 0
    steps = [x for x in lines(tmp_path / "whole") if "step" in x]
    assert [x["step"] for x in steps] == list(range(1, result["step"] + 1))
    assert [x["stage"] for x in steps] == sorted(x["stage"] for x in steps)
    found = [e["stage"] for e in result["evaluations"]]
    assert found == [1, 2, 3]
    assert result["valid"] == max(result["evaluations"], key=lambda e: e["accuracy"])
    # What the last stage that kept something had is still there, and nothing else.
    assert len([*(tmp_path / "whole" / "cache").iterdir()]) == 2


@pytest.mark.parametrize("cache", ["off", "fp32"])
def test_it_is_what_one_would_write_by_hand(cache: str, tmp_path: Path) -> None:
    """Bit for bit, but for the last bits of what was kept in other batches."""
    stages = (HEAD, LAST, StagePlan(epochs=2, lr=5e-4, warmup=0.2, frozen=()))
    made = make(tmp_path, stages=stages, recipe={"cache": cache, "weight_decay": 0.1})
    assert runner(tmp_path, made)("--work", "work") == 0, (tmp_path / "log").read_text()
    ours = tensors(tmp_path / "work" / "model.safetensors")
    theirs, figures = by_hand(made, tmp_path)
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert [e["accuracy"] for e in result["evaluations"]] == figures
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        if cache == "off":
            assert torch.equal(ours[name], x), name
        else:
            assert torch.allclose(ours[name], x, atol=2e-5, rtol=0), name


def by_hand(made: Whole, folder: Path) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The best weights and every accuracy of a training written out for this job."""
    model_py, data = made.module("model"), made.module("data")
    torch.manual_seed(data.SEED)
    model = model_py.load_pretrained(made.weights / "model.safetensors")
    splits = data.load_splits(folder, folder / "by-hand")
    step, ahead, best, figures = itertools.count(), 0, {}, []
    for stage in made.job.stages:
        if best:
            model.load_state_dict(best)
        groups: list[dict[str, Any]] = [
            {"params": [], "weight_decay": 0.1},
            {"params": [], "weight_decay": 0.0},
        ]
        for name, p in model.named_parameters():
            p.requires_grad = not f"{name}.".startswith(
                tuple(f"{path}." for path in stage.frozen)
            )
            plain = name.endswith("bias") or "norm" in name.split(".")[-2]
            if p.requires_grad:
                groups[plain]["params"].append(p)
        optimizer = torch.optim.AdamW(groups, lr=stage.lr, fused=True)
        count = stage.epochs * data.batch_count(splits.train, 0)
        warm = math.ceil(stage.warmup * count)
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda n, warm=warm, count=count: (
                n / warm if n < warm else (count - n) / max(1, count - warm)
            ),
        )
        for epoch in range(ahead, ahead + stage.epochs):
            model.train()
            for path in stage.frozen:
                model.get_submodule(path).eval()
            for batch in data.batches(splits.train, epoch):
                torch.manual_seed((data.SEED * 1_000_003 + next(step)) % 2**63)
                logits = model(*batch.inputs)
                torch.nn.functional.cross_entropy(logits, batch.targets).backward()
                trained = [p for group in groups for p in group["params"]]
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                rate.step()
            model.eval()
            right = total = 0
            with torch.no_grad():
                for batch in data.evaluation_batches(splits.valid):
                    guesses = model(*batch.inputs).argmax(dim=1)
                    right += int((guesses == batch.targets).sum())
                    total += len(batch.targets)
            if not figures or right / total > max(figures):
                best = {k: x.detach().clone() for k, x in model.state_dict().items()}
            figures.append(right / total)
        ahead += stage.epochs
    return best, figures


@pytest.mark.parametrize("case", ["text", "decoder", "images"])
def test_what_a_stage_keeps_is_what_its_prefix_gives(case: str, tmp_path: Path) -> None:
    """Bit for bit in the batches in which it was run; a stage's files take the place of
    those of the one before, and follow the weights that it starts from."""
    made = make(tmp_path, case)
    train, model_py = made.module("train"), made.module("model")
    torch.manual_seed(0)
    model = model_py.load_pretrained(made.weights)
    splits = train.data.load_splits(tmp_path, tmp_path / "work")
    given, names = {"train": splits.train, "valid": splits.valid}, set()
    for stage in train.STAGES[:2]:
        train.make_optimizer(model, stage)
        folder = tmp_path / "work" / "cache"
        kept = train.keep(model, stage, given, folder, True)
        train.training_mode(model, stage)
        assert not model.blocks[1].training
        assert model.blocks[2].training == (stage.kept == 2)
        there = {path.name for path in folder.iterdir()}
        assert len(there) == 2 and not there & names
        names |= there
        suffix = getattr(model, f"suffix_{stage.kept}")
        for split, rows in zip(kept, given.values(), strict=True):
            ours = split.evaluation_batches()
            for found, batch in zip(
                ours, train.data.evaluation_batches(rows), strict=True
            ):
                assert torch.equal(found.rows, batch.rows)
                torch.manual_seed(1)
                got = suffix(*found.inputs)
                torch.manual_seed(1)
                assert torch.equal(got, model(*batch.inputs))
        before = {path.name for path in folder.iterdir()}
        with torch.no_grad():  # the head, which no prefix has
            next(model.classifier.parameters()).add_(1)
        train.keep(model, stage, given, folder, True)
        assert {path.name for path in folder.iterdir()} == before
        with torch.no_grad():
            next(model.blocks[1].parameters()).add_(1)
        train.keep(model, stage, given, folder, True)
        assert not {path.name for path in folder.iterdir()} & before


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Whole]:
    """A package, and in its folder `whole`, a run of 30 steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("staged")
    made = make(folder, recipe={"save_every": 4})
    assert runner(folder, made)("--work", "whole") == 0, (folder / "log").read_text()
    return folder, made


@pytest.mark.parametrize("steps", [3, 7, 10, 13, 17, 20, 24, 29])
def test_it_resumes_in_every_stage_as_it_was(
    steps: int, package: tuple[Path, Whole]
) -> None:
    folder, made = package
    run, work = runner(folder, made), f"killed-{steps}"
    hook = functools.partial(children.kill_after, steps, 0.0)
    assert run("--work", work, hook=hook) == -signal.SIGKILL
    if steps % 2:
        shutil.rmtree(folder / work / "cache", ignore_errors=True)
    if not [*(folder / work / "checkpoints").glob("*.safetensors")]:
        shutil.rmtree(folder / work)
    assert run("--work", work, "--resume") == 0, (folder / "log").read_text()
    check_equals_whole(folder, work)


@pytest.mark.parametrize("steps", [5, 10, 11, 20, 25, 30])
def test_a_signal_finishes_the_step_in_every_stage(
    steps: int, package: tuple[Path, Whole]
) -> None:
    """Also in the last step of one."""
    folder, made = package
    run, work = runner(folder, made), f"signal-{steps}"
    hook = functools.partial(children.signal_at, steps, signal.SIGTERM)
    assert run("--work", work, hook=hook) == 75
    names = [p.name for p in (folder / work / "checkpoints").glob("*.safetensors")]
    assert f"{steps:09}.safetensors" in names
    assert run("--work", work, "--resume") == 0, (folder / "log").read_text()
    check_equals_whole(folder, work)


@pytest.mark.parametrize("blocks", [3, 2])
def test_a_signal_before_the_first_step_of_a_stage(
    blocks: int, package: tuple[Path, Whole]
) -> None:
    folder, made = package
    run, work = runner(folder, made), f"signal-in-prefix-{blocks}"
    hook = functools.partial(signal_in_prefix, f"prefix_{blocks}", 5)
    assert run("--work", work, hook=hook) == 75
    (part,) = (folder / work / "cache").iterdir()
    assert part.suffix == ".5"
    assert run("--work", work, "--resume") == 0, (folder / "log").read_text()
    check_equals_whole(folder, work)


@pytest.mark.parametrize("point", ["renamed", "best model renamed", "removed"])
@pytest.mark.parametrize("nth", [2, 3])
def test_killed_in_a_save(point: str, nth: int, package: tuple[Path, Whole]) -> None:
    folder, made = package
    run, work = runner(folder, made), f"{point}-{nth}".replace(" ", "-")
    hook = functools.partial(children.kill_at, point, nth)
    code = run("--work", work, hook=hook)
    if code == 0:  # there were not as many better scores
        assert point == "best model renamed"
    else:
        assert code == -signal.SIGKILL
        assert run("--work", work, "--resume") == 0, (folder / "log").read_text()
    check_equals_whole(folder, work)


def test_a_stage_starts_from_the_best_weights_so_far(tmp_path: Path) -> None:
    """Where a stage ends worse than it began, its weights are forgotten."""
    ruin = StagePlan(epochs=1, lr=1.0, warmup=0.0, frozen=())
    made = make(tmp_path, stages=(HEAD, ruin, LAST))
    run = runner(tmp_path, made)
    hook = functools.partial(children.signal_at, 20, signal.SIGTERM)
    assert run("--work", "work", hook=hook) == 75, (tmp_path / "log").read_text()
    work = tmp_path / "work"
    found = [x["evaluation"] for x in lines(work) if "evaluation" in x]
    assert found[0]["accuracy"] >= found[1]["accuracy"]
    first, second = (
        tensors(work / "checkpoints" / f"{n:09}.safetensors") for n in (10, 20)
    )
    assert not any(name.startswith("adamw.") for name in (*first, *second))
    assert all(torch.equal(x, second[name]) for name, x in first.items())
    best = tensors(work / "model.safetensors")
    assert all(torch.equal(x, second[f"model.{name}"]) for name, x in best.items())
    assert run("--work", "work", "--resume") == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", ["fp32", "off"])
def test_other_stages_train(kind: str, cache: str, tmp_path: Path) -> None:
    made = make(tmp_path, stages=KINDS[kind], recipe={"cache": cache})
    run = runner(tmp_path, made)
    assert run("--work", "whole") == 0, (tmp_path / "log").read_text()
    hook = functools.partial(children.kill_after, 9, 0.0)
    assert run("--work", "killed", hook=hook) == -signal.SIGKILL
    shutil.rmtree(tmp_path / "killed")
    assert run("--work", "killed") == 0
    check_equals_whole(tmp_path, "killed")


def test_adapters_in_stages(tmp_path: Path) -> None:
    """The head first, then the adapters too; what they are put on never trains."""
    on = {"on": ("attention.q", "attention.v"), "rank": 2, "alpha": 4.0}
    lora = ("lora", {**on, "dropout": 0.1})
    made = make(tmp_path, edits=[lora], stages=(HEAD, EVERYTHING))
    train = made.module("train")
    model = made.module("model").load_pretrained(made.weights)
    for stage, some in zip(train.STAGES, (False, True), strict=True):
        train.make_optimizer(model, stage)
        moving = {n for n, p in model.named_parameters() if p.requires_grad}
        assert any("lora" in name for name in moving) == some
        assert all("lora" in n or n.startswith("classifier") for n in moving)
    assert runner(tmp_path, made)("--work", "whole") == 0, (
        tmp_path / "log"
    ).read_text()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["three", "all kept", "none kept", "not frozen"])
def test_every_form_is_clean_source(kind: str, form: str, tmp_path: Path) -> None:
    for case in ("text", "images") if kind == "three" else ("text",):
        made = make(tmp_path / case, case, stages=KINDS[kind], **FORMS[form])
        for name in ("train", "model", "bench"):
            assert "{{" not in (made.package / f"{name}.py").read_text()
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "-q"]
        subprocess.run([*command, made.package], check=True)


@pytest.mark.parametrize("form", ["cuda", "cuda, kept in bf16", "accumulated", "bf16"])
def test_other_forms_train(form: str, tmp_path: Path) -> None:
    made = make(tmp_path, **FORMS[form])
    hook = children.on_processor if "cuda" in form else None
    run = runner(tmp_path, made)
    assert run("--work", "work", hook=hook) == 0, (tmp_path / "log").read_text()
