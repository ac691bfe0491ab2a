"""train.py of the generated package: what is written, and what it does when run."""

from __future__ import annotations

import ast
import ctypes
import functools
import importlib.util
import itertools
import json
import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import children
import pytest
import torch
import train_support as support
from laid_out import formatted
from safetensors import safe_open
from torch import nn
from train_support import LABELS, render, tiny_job, train_module

from generator.ir.job import DECAYED, parameters
from generator.ir.plans import DistillPlan
from generator.render import train as render_train

SAVING: dict[str, Any] = {"save_every": 5, "evaluate_every": 7}  # of 24 steps


def variants(count: int, seed: int) -> list[dict[str, Any]]:
    """Random settings that go together, every value of each among them."""
    pick = random.Random(seed)
    choices: dict[str, list[Any]] = {
        "task": list(render_train.LOSSES),
        "source": ["weights/minilm", "package:some_model/files", "hf:a/b@main"],
        "device": ["cpu", "cuda"],
        "precision": ["fp32", "bf16", "fp16"],
        "compile": [False, True],
        "frozen": [(), ("embedding",), ("embedding", "blocks.0")],
        "schedule": ["linear", "cosine", "constant"],
        "warmup": [0.1, 0.0],
        "weight_decay": [0.01, 0.0],
        "layer_decay": [1.0, 0.9],
        "clip": [1.0, 0.0],
        "accumulate": [1, 4],
        "label_smoothing": [0.0, 0.1],
        "class_weights": ["none", "balanced", (1.0, 2.5, 0.5)],
        "sampling": ["all", "balanced"],
        "loss": ["standard", "focal"],
        "early_stopping": [0, 3],
        "ema": [0.0, 0.99],
        "evaluate_every": [0, 7],
        "save_every": [0, 5],
        "distill": [DistillPlan(), DistillPlan("big", 0.3, 4.0, 9)],
    }
    columns = {}
    for key, values in choices.items():
        column = list(itertools.islice(itertools.cycle(values), count))
        pick.shuffle(column)
        columns[key] = column
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values())]
    for row in rows:  # what the spec refuses
        if row["device"] == "cpu" and row["precision"] == "fp16":
            row["precision"] = "bf16"
        if row["task"] == "regression":
            row |= {"class_weights": "none", "loss": "standard", "sampling": "all"}
        if row["task"] in ("regression", "multi-label"):
            row["label_smoothing"] = 0.0
    return rows


# What is written


def test_every_combination_is_clean_source(tmp_path: Path) -> None:
    for number, settings in enumerate(variants(24, seed=1)):
        source = render(tiny_job(**settings))
        ast.parse(source)
        assert "{{" not in source and "{%" not in source
        (tmp_path / f"train_{number}.py").write_text(source)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache"]
    done = subprocess.run([*command, tmp_path], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


def test_the_plain_form_is_short_and_has_no_configuration() -> None:
    source = formatted(render(tiny_job(source="package:some_model/files")))
    assert len(source.splitlines()) <= 350
    for word in ("cuda", "autocast", "compile(", "ACCUMULATE", "PATIENCE", "FROZEN"):
        assert word not in source


def test_strings_of_the_spec_stay_strings() -> None:
    source = 'we"ights\\{LR}\n\'\'\'"""{{ view }}'
    tree = ast.parse(render(tiny_job(source=source)))
    plain = ast.parse(render(tiny_job(source="weights")))
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    assert source in texts
    assert [type(n) for n in ast.walk(tree)] == [type(n) for n in ast.walk(plain)]


def test_a_recipe_that_does_not_fit_the_task_is_refused() -> None:
    with pytest.raises(ValueError, match="class weights"):
        render_train.train_view(tiny_job(task="regression", class_weights="balanced"))
    with pytest.raises(ValueError, match="one label"):
        render_train.train_view(tiny_job(task="multi-label", label_smoothing=0.1))
    with pytest.raises(ValueError, match="no labels that could be rare"):
        render_train.train_view(tiny_job(task="regression", loss="focal"))
    with pytest.raises(ValueError, match="nothing to train"):
        frozen = ("embedding", "blocks", "classifier")
        render_train.train_view(tiny_job(frozen=frozen))


# Rules over names


def test_endings() -> None:
    inside = ["a.norm.weight", "a.x_norm.weight", "a.bias", "b.bias"]
    assert render_train.suffixes(inside, ["a.weight", "b.weight"]) == (
        "bias",
        "norm.weight",
    )
    assert render_train.suffixes([], ["a.weight"]) == ()
    with pytest.raises(ValueError, match="no ending"):
        render_train.suffixes(["weight"], ["a.weight"])


def test_starts() -> None:
    outside = ["head.weight", "token.scale"]
    assert render_train.prefixes(["token.a", "token.b", "body.c"], outside) == (
        "token.a",
        "token.b",
        "body.",
    )
    with pytest.raises(ValueError, match="start of another"):
        render_train.prefixes(["token.a"], ["token.ab"])


def test_depths_that_no_rule_gives_become_a_table() -> None:
    infos = parameters(tiny_job())
    assert render_train.block_rule(infos) == ("blocks.", ("embedding.",))
    renamed = [
        p.path.replace("blocks.0", "first").replace("blocks.1", "next") for p in infos
    ]
    odd = tuple(
        render_train.ParameterInfo(
            path, p.shape, p.role, p.decay, p.depth, False, p.source
        )
        for path, p in zip(renamed, infos, strict=True)
    )
    assert render_train.block_rule(odd) is None
    table = render_train.depth_table(odd)
    assert dict(table) == {"classifier.": 3, "embedding.": 0, "first.": 1, "next.": 2}
    for p in odd:
        assert next(d for start, d in table if p.path.startswith(start)) == p.depth


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layer_decay": 0.8},
        {"layer_decay": 0.8, "weight_decay": 0.0},
        {"frozen": ("embedding", "blocks.0"), "layer_decay": 0.5},
        {"frozen": ("embedding",), "weight_decay": 0.0},
    ],
)
def test_groups_are_those_of_the_ir(settings: dict[str, Any], tmp_path: Path) -> None:
    job = tiny_job(**settings)
    train = train_module(tmp_path, job)
    model = train.Model()
    names = {p: name for name, p in model.named_parameters()}
    optimizer = train.make_optimizer(model)
    found = {
        names[p]: (group["weight_decay"], group.get("scale", 1.0))
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found == {
        p.path: (
            job.train.weight_decay if p.role in DECAYED else 0.0,
            job.train.layer_decay ** (3 - p.depth),
        )
        for p in parameters(job)
        if not p.frozen
    }
    for p in parameters(job):
        assert model.get_parameter(p.path).requires_grad is not p.frozen


# The computation


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25, 1.0])
def test_schedules_are_those_of_transformers(
    schedule: str, warmup: float, tmp_path: Path
) -> None:
    optimization = pytest.importorskip("transformers.optimization")
    train = train_module(tmp_path, tiny_job(schedule=schedule, warmup=warmup))
    for steps in (1, 7, 40):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=train.LR)
        warm = math.ceil(warmup * steps)
        name = f"get_{schedule}_schedule_with_warmup"
        options = {} if schedule == "constant" else {"num_training_steps": steps}
        reference = getattr(optimization, name)(optimizer, warm, **options)
        for step in range(steps):
            expected = reference.get_last_lr()[0]
            assert train.learning_rate(step, steps) == pytest.approx(
                expected, abs=1e-15
            )
            optimizer.step()
            reference.step()


RECIPES = [
    ("text-classification", {}),
    ("text-classification", {"class_weights": (1.0, 5.0, 0.5)}),
    ("text-classification", {"class_weights": "balanced", "label_smoothing": 0.1}),
    ("multi-label", {"class_weights": "balanced"}),
    ("text-classification", {"class_weights": "balanced", "loss": "focal"}),
    ("regression", {"clip": 0.0}),
]


@pytest.mark.parametrize(("task", "settings"), RECIPES)
def test_accumulated_batches_equal_one_large_one(
    task: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    several = train_module(tmp_path, tiny_job(task=task, accumulate=4, **settings))
    single = train_module(tmp_path, tiny_job(task=task, **settings))
    ends = []
    for train in (several, single):
        torch.manual_seed(0)
        model = train.Model().double().eval()
        optimizer = train.make_optimizer(model)
        split = train.data.load_splits(Path(), Path()).train
        criterion = _criterion(train, split).double()
        for start in (0, 30):
            parts = [list(range(start, start + n)) for n in (8, 5, 8, 3)]
            if train is several:
                batches = [_doubled(train.data.collate(split, rows)) for rows in parts]
                train.step(model, criterion, optimizer, batches)
            else:
                rows = [row for part in parts for row in part]
                batch = _doubled(train.data.collate(split, rows))
                train.step(model, criterion, optimizer, batch)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (ends[0] - ends[1]).norm() <= 1e-9 * ends[1].norm()


def _criterion(train: Any, split: Any) -> nn.Module:
    if hasattr(train, "make_criterion"):
        return train.make_criterion(split)
    return nn.MSELoss() if split.targets.dim() == 2 else nn.CrossEntropyLoss()


def _doubled(batch: Any) -> Any:
    if not batch.targets.is_floating_point():
        return batch
    return type(batch)(batch.inputs, batch.targets.double(), batch.rows, batch.tokens)


FOCAL = [
    {},
    {"class_weights": (1.0, 5.0, 0.5)},
    {"class_weights": (1.0, 5.0, 0.5), "label_smoothing": 0.1},
    {"label_smoothing": 0.2},
]


@pytest.mark.parametrize("settings", FOCAL)
def test_focal_loss_of_labels(settings: dict[str, Any], tmp_path: Path) -> None:
    """At gamma 0 it is cross-entropy; at others, each row's own times (1 - p) ** gamma."""
    torch.manual_seed(1)
    logits = torch.randn(9, 3, dtype=torch.float64) * 3
    targets = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 2])
    weight = settings.get("class_weights")
    weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    smoothing = settings.get("label_smoothing", 0.0)
    plain = nn.CrossEntropyLoss(weight, label_smoothing=smoothing)
    for gamma in (0.0, 0.5, 2.0):
        job = tiny_job(loss="focal", gamma=gamma, **settings)
        train = train_module(tmp_path / str(gamma), job)
        made = hasattr(train, "make_criterion")
        focal = train.make_criterion(None) if made else train.FocalLoss()
        found = focal.double()(logits, targets)
        if gamma == 0:
            assert torch.allclose(found, plain(logits, targets), atol=1e-12)
        if not smoothing:
            p = logits.softmax(dim=1)[range(9), targets]
            w = torch.ones(9) if weight is None else weight[targets]
            each = -w * (1 - p) ** gamma * p.log()
            assert torch.allclose(found, each.sum() / w.sum(), atol=1e-6)


def test_focal_loss_of_several_labels(tmp_path: Path) -> None:
    torch.manual_seed(1)
    logits = torch.randn(9, 3, dtype=torch.float64) * 3
    targets = (torch.rand(9, 3) > 0.6).double()
    for gamma, weight in ((0.0, (1.0, 5.0, 0.5)), (2.0, (1.0, 5.0, 0.5)), (2.0, None)):
        weights: dict[str, Any] = {"class_weights": weight} if weight else {}
        job = tiny_job(task="multi-label", loss="focal", gamma=gamma, **weights)
        train = train_module(tmp_path / f"{gamma} {weight is None}", job)
        focal = train.FocalLoss() if weight is None else train.make_criterion(None)
        w = torch.tensor(weight or (1.0, 1.0, 1.0), dtype=torch.float64)
        found = focal.double()(logits, targets)
        if gamma == 0:
            plain = nn.BCEWithLogitsLoss(pos_weight=w)
            assert torch.allclose(found, plain(logits, targets), atol=1e-12)
        p = logits.sigmoid()
        each = w * targets * (1 - p) ** gamma * p.log()
        each += (1 - targets) * p**gamma * (1 - p).log()
        assert torch.allclose(found, -each.mean(), atol=1e-6)


def test_focal_loss_has_a_finite_gradient_where_nothing_is_missing(
    tmp_path: Path,
) -> None:
    for task, targets in (
        ("text-classification", torch.tensor([0])),
        ("multi-label", torch.tensor([[1.0, 0.0, 0.0]])),
    ):
        train = train_module(
            tmp_path / task, tiny_job(task=task, loss="focal", gamma=0.5)
        )
        logits = torch.tensor([[200.0, -200.0, -200.0]], requires_grad=True)
        train.FocalLoss()(logits, targets).backward()
        assert logits.grad is not None and logits.grad.isfinite().all()


def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    train = train_module(tmp_path, tiny_job())
    torch.manual_seed(0)
    model = train.Model()
    optimizer = train.make_optimizer(model)
    split = train.data.load_splits(Path(), Path()).train
    batch = train.data.collate(split, list(range(8)))
    criterion = nn.CrossEntropyLoss()
    loss, bad = train.step(model, criterion, optimizer, batch)
    assert math.isfinite(loss) and not bad
    before = {k: v.clone() for k, v in train.contents(model, optimizer).items()}

    # A loss that is finite, of a gradient that is not.
    hook = model.classifier.label.weight.register_hook(lambda g: g * math.inf)
    loss, bad = train.step(model, criterion, optimizer, batch)
    assert math.isfinite(loss) and bad
    hook.remove()
    # And a loss that is not.
    loss, bad = train.step(lambda *x: model(*x) * math.nan, criterion, optimizer, batch)
    assert math.isnan(loss) and bad
    after = train.contents(model, optimizer)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in model.parameters())


def test_figures_of_labels(tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    train = train_module(tmp_path, tiny_job())
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 3), torch.randint(0, 2, (50,))
    found, guesses = train.measure(logits, targets), logits.argmax(1)
    everything: dict[str, Any] = {"labels": range(3), "zero_division": 0}
    assert found["accuracy"] == metrics.accuracy_score(targets, guesses)
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(targets, guesses, average="macro", **everything)
    )
    expected = metrics.confusion_matrix(targets, guesses, labels=range(3))
    assert found["confusion"] == expected.tolist()
    shown = train.show(found).splitlines()
    assert [row.split() for row in shown] == [
        list(LABELS),
        *(
            [k, *map(str, row)]
            for k, row in zip(LABELS, expected.tolist(), strict=True)
        ),
    ]


def test_figures_of_many_labels(tmp_path: Path) -> None:
    """No matrix of all pairs: it would be 250,000 numbers of 500 labels."""
    metrics = pytest.importorskip("sklearn.metrics")
    labels = tuple(f"label {i}" for i in range(500))
    train = train_module(tmp_path, replace(tiny_job(), labels=labels))
    train.LABELS = labels
    torch.manual_seed(0)
    logits, targets = torch.randn(900, 500), torch.randint(0, 500, (900,))
    logits[torch.arange(300), targets[:300]] = 9.0
    targets[300:310], targets[310:315] = 7, 8
    logits[300:315, 9] = 10.0
    found, guesses = train.measure(logits, targets), logits.argmax(1)
    assert found["accuracy"] == metrics.accuracy_score(targets, guesses)
    everything: dict[str, Any] = {"labels": range(500), "zero_division": 0}
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(targets, guesses, average="macro", **everything)
    )
    expected = metrics.confusion_matrix(targets, guesses, labels=range(500))
    assert found["confused"][:2] == [
        ["label 7", "label 9", 10],
        ["label 8", "label 9", 5],
    ]
    assert len(found["confused"]) == 20
    for true, guess, rows in found["confused"]:
        assert rows == expected[labels.index(true), labels.index(guess)]
    assert train.show(found).splitlines()[0].split() == (
        ["10", "label", "7,", "taken", "for", "label", "9"]
    )


def test_figures_of_several_labels(tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    train = train_module(tmp_path, tiny_job(task="multi-label"))
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 3), torch.randint(0, 2, (50, 3)).float()
    found, guesses = train.measure(logits, targets), (logits > 0).float()
    for average in ("micro", "macro"):
        expected = metrics.f1_score(targets, guesses, average=average)
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert found["subset_accuracy"] == metrics.accuracy_score(targets, guesses)


def test_figures_of_values(tmp_path: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    train = train_module(tmp_path, tiny_job(task="regression"))
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 3), torch.randn(50, 3)
    found = train.measure(logits, targets)
    assert found["mse"] == pytest.approx(nn.MSELoss()(logits, targets).item())
    assert found["mae"] == pytest.approx(nn.L1Loss()(logits, targets).item())
    each = [stats.pearsonr(logits[:, i], targets[:, i])[0] for i in range(3)]
    assert found["pearson"] == pytest.approx(sum(each) / 3)
    constant = train.measure(torch.zeros(50, 3), targets)
    assert constant["pearson"] == 0


# The form for CUDA. Where torch has no such device, its autograd engine refuses tensors
# of one, fake ones too: the backward pass alone then runs on another device.

CUDA: dict[str, Any] = {
    "device": "cuda",
    "precision": "bf16",
    "class_weights": "balanced",
    "label_smoothing": 0.1,
}


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What torch asks a device for even where its tensors are fake, without one."""
    module = importlib.import_module("torch.cuda.amp.common")
    monkeypatch.setattr(module, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    if torch.version.cuda:  # then fake tensors see to the rest
        yield
        return
    # A torch for processors alone has no guard that sets the current CUDA device, and
    # indexing wants one. The guard of the meta device does nothing, and serves.
    (library,) = (Path(torch.__file__).parent / "lib").glob("libc10.*")
    name = "_ZN3c104impl26device_guard_impl_registryE"
    guards = (ctypes.c_void_p * 15).in_dll(ctypes.CDLL(str(library)), name)
    cuda, meta = 1, 14
    guards[cuda] = guards[meta]
    yield
    guards[cuda] = None


@pytest.mark.usefixtures("no_device")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_cuda_form_steps_on_fake_tensors(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    train = train_module(tmp_path, tiny_job(accumulate=accumulate, **CUDA))
    assert train.DEVICE.type == "cuda"
    train.DEVICE = torch.device("cuda:0")  # without a number, torch asks the driver
    split = train.data.load_splits(Path(), Path()).train
    batches = list(itertools.islice(train.data.batches(split, 0), accumulate))
    criterion = train.make_criterion(split)
    seen = []
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        model = train.Model()
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                there = torch.empty(p.shape, device=train.DEVICE)
                setattr(module, name, nn.Parameter(there))
        criterion.weight = torch.empty(len(LABELS), device=train.DEVICE)
        model.classifier.register_forward_hook(lambda *x: seen.append(x[2].dtype))
        optimizer = train.make_optimizer(model)
        batches = [
            type(b)(
                tuple(x if x is None else fake.from_tensor(x) for x in b.inputs),
                fake.from_tensor(b.targets),
                b.rows,
                b.tokens,
            )
            for b in batches
        ]

        def backward(loss: torch.Tensor) -> None:
            assert loss.device == train.DEVICE and loss.dtype == torch.float32
            for p in model.parameters():
                p.grad = torch.empty_like(p)

        if not torch.cuda.is_available():
            monkeypatch.setattr(torch.Tensor, "backward", backward)
        with torch.set_grad_enabled(torch.cuda.is_available()):
            group = batches if accumulate > 1 else batches[0]
            loss, bad = train.step(model, criterion, optimizer, group)
        for x in (loss, bad, *train.contents(model, optimizer).values()):
            assert x.device == train.DEVICE and x.dtype == torch.float32
    assert seen == [torch.bfloat16] * accumulate
    assert len(optimizer.state) == len(list(model.parameters()))


@pytest.mark.usefixtures("no_device")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_cuda_form_goes_backward_on_meta_tensors(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = train_module(tmp_path, tiny_job(accumulate=accumulate, **CUDA))
    train.DEVICE = torch.device("meta")
    split = train.data.load_splits(Path(), Path()).train
    batches = list(itertools.islice(train.data.batches(split, 0), accumulate))
    model = train.Model().to(train.DEVICE)
    criterion = train.make_criterion(split).to(train.DEVICE)
    optimizer = train.make_optimizer(model)
    grads = {}

    def look() -> None:  # the fused kernel has no form for these tensors
        grads.update({name: p.grad for name, p in model.named_parameters()})

    monkeypatch.setattr(optimizer, "step", look)
    train.step(model, criterion, optimizer, batches if accumulate > 1 else batches[0])
    for name, p in model.named_parameters():
        assert grads[name].shape == p.shape and grads[name].device == train.DEVICE


def test_the_cuda_form_computes_what_the_other_does(
    package: Path, tmp_path: Path
) -> None:
    support.write_package(tmp_path, tiny_job(device="cuda", **SAVING))
    # The processor stands in for the device; nothing but its name differs.
    hook = children.on_processor
    assert children.run(tmp_path, "--work", "whole", hook=hook) == 0
    for name in ("model.safetensors", "checkpoints/000000024.safetensors"):
        expected, found = tensors(package / "whole" / name), tensors(
            tmp_path / "whole" / name
        )
        assert expected.keys() == found.keys()
        assert all(torch.equal(x, found[key]) for key, x in expected.items()), name
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    logged = [x["step"] for x in map(json.loads, lines) if "step" in x]
    assert logged == [5, 7, 10, 14, 15, 20, 21, 24]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_the_cuda_form_sets(tmp_path: Path, precision: str) -> None:
    job = tiny_job(device="cuda", precision=precision)
    train = train_module(tmp_path, job)
    before = torch.get_float32_matmul_precision()
    try:
        train.set_up_cuda()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.cudnn_sdp_enabled() == (precision == "fp32")
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cuda.enable_cudnn_sdp(True)


def test_the_cuda_form_skips_and_counts_bad_steps(tmp_path: Path) -> None:
    support.write_package(tmp_path, tiny_job(device="cuda"))
    hook = functools.partial(children.spoil, (3, 5), processor=True)
    assert children.run(tmp_path, "--work", "two", hook=hook) == 0
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["bad_steps"] == 2
    for x in tensors(tmp_path / "two" / "model.safetensors").values():
        assert x.isfinite().all()
    hook = functools.partial(children.spoil, (2, 3, 4), processor=True)
    assert children.run(tmp_path, "--work", "three", hook=hook) == 76
    (path,) = (tmp_path / "three" / "checkpoints").glob("*.safetensors")
    assert path.name == "000000010.safetensors"  # where the count was next read
    assert all(x.isfinite().all() for x in tensors(path).values())


def large_scale(train: Any) -> None:
    """On the processor, where scaling is on too, and begins where gradients overflow."""
    children.on_processor(train)
    train.GradScaler = functools.partial(
        torch.amp.GradScaler, init_scale=2.0**127, growth_interval=5
    )
    forward = train.Model.forward

    def steep(self: Any, *inputs: Any) -> torch.Tensor:
        logits = forward(self, *inputs)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: 1000 * gradient)
        return logits

    train.Model.forward = steep


def test_losses_are_scaled_for_fp16(tmp_path: Path) -> None:
    """Gradients that overflow lower the scale and change no weight, which is no fault.
    The scale is in the checkpoints."""
    folder = support.write_package(
        tmp_path, tiny_job(device="cuda", precision="fp16", **SAVING)
    )
    assert children.run(folder, "--work", "whole", hook=large_scale) == 0
    result = json.loads((folder / "whole/result.json").read_text())
    assert result["bad_steps"] == 0 and result["step"] == 24
    *_, last = sorted((folder / "whole/checkpoints").glob("*.safetensors"))
    with safe_open(last, framework="pt") as file:
        scaler = json.loads(file.metadata()["about"])["scaler"]
    assert scaler["scale"] > 1
    counts = {int(x) for name, x in tensors(last).items() if name.endswith(".step")}
    assert max(counts) < 24  # steps of the optimizer: in some a gradient overflowed
    for x in tensors(folder / "whole/model.safetensors").values():
        assert x.isfinite().all()

    assert children.run(folder, "--work", "other", hook=at_eight) == 75
    assert children.run(folder, "--work", "other", "--resume", hook=large_scale) == 0
    other = folder / "other/checkpoints" / last.name
    assert all(
        torch.equal(x, tensors(other)[name]) for name, x in tensors(last).items()
    )


def at_eight(train: Any) -> None:
    large_scale(train)
    children.signal_at(8, signal.SIGTERM, train)


def test_what_is_not_finite_at_any_scale_is_bad(tmp_path: Path) -> None:
    support.write_package(tmp_path, tiny_job(device="cuda", precision="fp16"))
    hook = functools.partial(children.spoil, (2, 3, 4), processor=True)
    assert children.run(tmp_path, "--work", "three", hook=hook) == 76


# The run


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, and in its folder `whole`, a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("package")
    support.write_package(folder, tiny_job(**SAVING))
    assert children.run(folder, "--work", "whole") == 0
    (folder / "rows").rename(folder / "rows-whole")
    return folder


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())}


def check_equals_whole(folder: Path, work: str) -> None:
    """Weights and moments bit for bit, figures, each metric once, each row once."""
    whole, other = folder / "whole", folder / work
    names = sorted(p.name for p in (whole / "checkpoints").glob("*.safetensors"))
    assert (
        sorted(p.name for p in (other / "checkpoints").glob("*.safetensors")) == names
    )
    for name in ("model.safetensors", f"checkpoints/{names[-1]}"):
        expected, found = tensors(whole / name), tensors(other / name)
        assert expected.keys() == found.keys()
        for key in expected:
            assert torch.equal(expected[key], found[key]), f"{name}: {key}"
    assert (other / "metrics.jsonl").read_text() == (
        whole / "metrics.jsonl"
    ).read_text()
    results = [json.loads((w / "result.json").read_text()) for w in (whole, other)]
    for result in results:
        del result["seconds"], result["metrics_size"]
    assert results[0] == results[1]


def check_rows(path: Path) -> None:
    """Whatever was run again had the same rows; each row is in one batch of an epoch."""
    seen: dict[tuple[int, int], list[int]] = {}
    for line in path.read_text().splitlines():
        epoch, number, rows = json.loads(line)
        assert seen.setdefault((epoch, number), rows) == rows
    for epoch in range(2):
        rows = [row for (e, _), batch in seen.items() for row in batch if e == epoch]
        assert sorted(rows) == list(range(93))
    assert seen[0, 0] != seen[1, 0]


def test_a_run_from_the_command_line(package: Path) -> None:
    command = [sys.executable, "-m", children.NAME + ".train", "--work", "shell"]
    options: dict[str, Any] = {"cwd": package, "capture_output": True, "text": True}
    env = {"OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(command, env=env, check=False, **options)
    assert done.returncode == 0, done.stderr
    assert "24/24" in done.stderr and "tokens/s" in done.stderr
    result = json.loads((package / "shell" / "result.json").read_text())
    assert f"test, 31 rows: loss {result['test']['loss']:.4f}" in done.stdout
    assert done.stdout.splitlines()[1].split() == list(LABELS)
    check_equals_whole(package, "shell")

    lines = (package / "shell" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert [s["step"] for s in steps if "step" in s] == list(range(1, 25))
    evaluated = [s["evaluation"] for s in steps if "evaluation" in s]
    assert [e["step"] for e in evaluated] == [7, 14, 21, 24]
    assert result["valid"] == max(evaluated, key=lambda e: e["accuracy"])
    check_rows(package / "rows-whole")


def test_an_earlier_run_is_kept(package: Path) -> None:
    work = package / "kept"
    assert children.run(package, "--work", "kept") == 0
    before = (work / "model.safetensors").read_bytes()
    (package / "log").unlink()
    assert children.run(package, "--work", "kept") == 1
    assert "--resume" in (package / "log").read_text()
    assert (work / "model.safetensors").read_bytes() == before

    assert children.run(package, "--work", "kept", "--resume") == 0  # only tests again
    check_equals_whole(package, "kept")
    assert children.run(package, "--work", "kept", "--fresh") == 0
    check_equals_whole(package, "kept")
    (aside,) = work.glob("before-*")
    assert (aside / "model.safetensors").read_bytes() == before
    assert len(list((aside / "checkpoints").iterdir())) == 2


def test_weights_that_cannot_be_read(package: Path) -> None:
    (package / "cut.safetensors").write_bytes(b"\xff" * 9)
    (package / "log").write_text("")
    arguments = ("--work", "cut", "--weights", "cut.safetensors")
    assert children.run(package, *arguments) == 1
    said = (package / "log").read_text()
    assert "error: no start from cut.safetensors: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves(number: int, package: Path) -> None:
    work = f"signal-{int(number)}"
    hook = functools.partial(children.signal_at, 8, number)
    assert children.run(package, "--work", work, hook=hook) == 75
    names = [p.name for p in (package / work / "checkpoints").glob("*.safetensors")]
    assert "000000008.safetensors" in names
    assert children.run(package, "--work", work, "--resume") == 0
    check_equals_whole(package, work)


def test_a_second_process_is_refused(package: Path) -> None:
    first = children.start(
        package, "--work", "shared", hook=functools.partial(children.sleep_at, 6)
    )
    try:
        deadline = time.monotonic() + 600
        while not list(package.glob("shared/checkpoints/*.safetensors")):
            assert time.monotonic() < deadline and first.is_alive()
            time.sleep(0.05)
        (package / "log").write_text("")
        assert children.run(package, "--work", "shared", "--resume") == 1
        assert "another process" in (package / "log").read_text()
    finally:
        first.kill()
        first.join()
    assert children.run(package, "--work", "shared", "--resume") == 0
    check_equals_whole(package, "shared")


@pytest.mark.parametrize("damage", ["one bit", "cut short", "the text beside"])
def test_a_damaged_checkpoint_is_passed_over(damage: str, package: Path) -> None:
    work = "damaged-" + damage.replace(" ", "-")
    hook = functools.partial(children.signal_at, 13, signal.SIGTERM)
    assert children.run(package, "--work", work, hook=hook) == 75
    path = package / work / "checkpoints" / "000000013.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "one bit":
        content[-1000] ^= 1
    elif damage == "cut short":
        del content[-1000:]
    else:
        at = content.index(b"bad_steps")
        content[at + 12 : at + 13] = b"7"
    path.write_bytes(content)
    (package / "log").unlink()
    assert children.run(package, "--work", work, "--resume") == 0
    assert "000000013.safetensors is damaged" in (package / "log").read_text()
    assert path.with_suffix(".damaged").exists()
    check_equals_whole(package, work)


def test_where_every_checkpoint_is_damaged_it_starts_again(package: Path) -> None:
    hook = functools.partial(children.signal_at, 6, signal.SIGTERM)
    assert children.run(package, "--work", "all-damaged", hook=hook) == 75
    for path in package.glob("all-damaged/checkpoints/*.safetensors"):
        path.write_bytes(b"")
    assert children.run(package, "--work", "all-damaged", "--resume") == 0
    check_equals_whole(package, "all-damaged")


def test_another_recipe_does_not_go_on(package: Path, tmp_path: Path) -> None:
    support.write_package(tmp_path, tiny_job(lr=2e-3, **SAVING))
    (tmp_path / "other").symlink_to(package / "whole")
    assert children.run(tmp_path, "--work", "other", "--resume") == 1
    said = (tmp_path / "log").read_text()
    assert "LR=0.001" in said and "LR=0.002" in said


def test_bad_steps_are_skipped_and_counted(package: Path) -> None:
    hook = functools.partial(children.spoil, (3, 9))
    assert children.run(package, "--work", "spoilt", hook=hook) == 0
    result = json.loads((package / "spoilt" / "result.json").read_text())
    assert result["bad_steps"] == 2 and result["step"] == 24
    lines = (package / "spoilt" / "metrics.jsonl").read_text().splitlines()
    losses = [x["loss"] for x in map(json.loads, lines) if "loss" in x]
    assert [i for i, loss in enumerate(losses, 1) if loss is None] == [3, 9]
    for x in tensors(package / "spoilt" / "model.safetensors").values():
        assert x.isfinite().all()


def test_too_many_bad_steps_end_it_with_good_weights(package: Path) -> None:
    hook = functools.partial(children.spoil, (2, 3, 4))
    assert children.run(package, "--work", "given-up", hook=hook) == 76
    work = package / "given-up"
    (path,) = (work / "checkpoints").glob("*.safetensors")
    saved = tensors(path)
    assert all(x.isfinite().all() for x in saved.values())
    best = tensors(work / "model.safetensors")
    assert all(torch.equal(x, saved[f"model.{name}"]) for name, x in best.items())
    assert children.run(package, "--work", "given-up", "--resume") == 0


def test_it_stops_early_and_stays_stopped(tmp_path: Path) -> None:
    job = tiny_job(epochs=30, early_stopping=2, evaluate_every=5, save_every=40)
    support.write_package(tmp_path, job)
    assert children.run(tmp_path, "--work", "early") == 0
    result = json.loads((tmp_path / "early" / "result.json").read_text())
    scores = [e["accuracy"] for e in result["evaluations"]]
    assert len(scores) == scores.index(max(scores)) + 3
    assert result["step"] == 5 * len(scores) < 360
    before = (tmp_path / "early" / "metrics.jsonl").read_text()
    assert children.run(tmp_path, "--work", "early", "--resume") == 0
    assert (tmp_path / "early" / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks_train(task: str, tmp_path: Path) -> None:
    support.write_package(tmp_path, tiny_job(task=task, epochs=4, lr=3e-3))
    assert children.run(tmp_path) == 0
    result = json.loads((tmp_path / "runs/tiny_job/result.json").read_text())
    losses = [e["loss"] for e in result["evaluations"]]
    assert losses[-1] < losses[0]


def test_a_full_disk_costs_no_checkpoint(package: Path) -> None:
    hook = functools.partial(children.full_disk_at, 7)
    assert children.run(package, "--work", "full", hook=hook) == 1
    (path,) = (package / "full" / "checkpoints").glob("*.safetensors")
    assert path.name == "000000005.safetensors"
    assert children.run(package, "--work", "full", "--resume") == 0
    check_equals_whole(package, "full")


def kill_and_resume(folder: Path, work: str, hook: children.Hook) -> None:
    (folder / "rows").unlink(missing_ok=True)
    assert children.run(folder, "--work", work, hook=hook) == -signal.SIGKILL
    assert children.run(folder, "--work", work, "--resume") == 0
    check_equals_whole(folder, work)
    check_rows(folder / "rows")


def test_killed_in_a_save_or_a_step(package: Path) -> None:
    cases = {
        "half": functools.partial(children.kill_at, "half written", 3),
        "renamed": functools.partial(children.kill_at, "best model renamed", 1),
        "removed": functools.partial(children.kill_at, "removed", 2),
        "step": functools.partial(children.kill_after, 9, 0.001),
    }
    for name, hook in cases.items():
        kill_and_resume(package, f"killed-{name}", hook)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(22))
def test_killed_anywhere(number: int, package: Path) -> None:
    pick = random.Random(number)
    if number < len(children.POINTS):
        point = children.POINTS[number]
        nth = 1 if point == "best model renamed" else pick.randint(1, 2)
        hook = functools.partial(children.kill_at, point, nth)
    else:
        steps, seconds = pick.randint(1, 20), pick.random() * 0.03
        hook = functools.partial(children.kill_after, steps, seconds)
    kill_and_resume(package, f"anywhere-{number}", hook)


@pytest.mark.parametrize("recipe", [{}, {"batch": 0, "batch_tokens": 64}])
def test_a_whole_package_resumes_as_it_was(
    recipe: dict[str, int], tmp_path: Path
) -> None:
    """With the data.py and the model.py that are generated too."""
    from data_support import some_texts, write_csv
    from transformers import BertConfig
    from whole_support import whole

    config = BertConfig(
        vocab_size=14,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=16,
    )
    made = whole(tmp_path, config, recipe={"epochs": 2, "save_every": 4, **recipe})
    for name, count in (("train", 60), ("valid", 20), ("test", 20)):
        texts = some_texts(count)
        labels = ["yes" if "a" in text else "no" for text in texts]
        rows = zip([f"{name} {t}" for t in texts], labels, strict=True)
        write_csv(tmp_path / f"{name}.csv", [("text", "label"), *rows])
    weights = ("--weights", str(made.weights / "model.safetensors"))
    run = functools.partial(children.run, tmp_path, *weights, name=made.job.name)
    assert run("--work", "whole") == 0, (tmp_path / "log").read_text()
    hook = functools.partial(children.kill_after, 7, 0.0)
    assert run("--work", "killed", hook=hook) == -signal.SIGKILL
    assert run("--work", "killed", "--resume") == 0, (tmp_path / "log").read_text()
    check_equals_whole(tmp_path, "killed")
