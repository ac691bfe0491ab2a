"""Learning from a teacher: the loss, what is kept of its answers, and which are refused."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import children
import pytest
import torch
import train_support as support
from runtime_support import gen, tiny_bert, write_backbone, write_job
from safetensors.torch import load_file, save_file
from test_train import check_equals_whole
from torch import Tensor, nn
from train_support import tiny_job

from generator.compile import draft
from generator.errors import GenError
from generator.ir.plans import DistillPlan
from generator.runtime import build as building
from generator.spec import read_spec

HEADER = "[train]\n"
EDIT = {HEADER: '[[edit]]\ndo = "keep-layers"\nn = 1\n\n[train]\n'}
TEACHER = '\n[train.distill]\nteacher = "tiny_teacher.toml"\nweight = 0.7\n'
WEIGHT, TEMPERATURE = 0.7, 2.0


def write_pair(
    folder: Path,
    edit: Mapping[str, str] = EDIT,
    of_teacher: Mapping[str, str] | None = None,
    more: str = "",
    table: str = TEACHER,
) -> Path:
    """The specs of a teacher and of its pupil, which is given back."""
    write_job(folder, name="tiny_teacher", edit=of_teacher)
    path = write_job(folder, name="tiny_pupil", edit=edit)
    path.write_text(path.read_text() + more + table)
    return path


def build(path: Path, out: Path) -> Any:
    spec_file = building.load_spec(path)
    return building.build(building.plan(spec_file, building.facts_for(spec_file), out))


# ------------------------------------------------------------------------------ the loss


def loss_of(task: str, folder: Path) -> Any:
    plan = DistillPlan("big", WEIGHT, TEMPERATURE, 9)
    return support.train_module(folder, tiny_job(task=task, distill=plan)).distilled


@pytest.fixture(autouse=True)
def an_empty_teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packages of tiny jobs have a teacher.py to import, of which the loss needs nothing."""
    write = support.write_package

    def with_teacher(folder: Path, job: Any, name: str = children.NAME) -> Path:
        found = write(folder, job, name)
        (folder / name / "teacher.py").touch()
        return found

    monkeypatch.setattr(support, "write_package", with_teacher)
    yield


def test_the_loss_of_one_label(tmp_path: Path) -> None:
    """Of rows, the mean of sum p log(p / q) at the temperature, times its square."""
    draw = torch.Generator().manual_seed(0)
    logits, taught = (torch.randn(5, 3, generator=draw) * 3 for _ in range(2))
    found = loss_of("text-classification", tmp_path)(logits, taught, torch.tensor(0.25))
    expected = 0.0
    for row, other in zip(logits.tolist(), taught.tolist()):
        q = [math.exp(x / TEMPERATURE) for x in row]
        p = [math.exp(x / TEMPERATURE) for x in other]
        for a, b in zip(p, q):
            a, b = a / sum(p), b / sum(q)
            expected += a * math.log(a / b) / 5
    expected = WEIGHT * TEMPERATURE**2 * expected + (1 - WEIGHT) * 0.25
    assert found.item() == pytest.approx(expected, rel=1e-5)
    nearest = loss_of("text-classification", tmp_path)(taught, taught, torch.zeros(()))
    assert nearest.item() == pytest.approx(0, abs=1e-6)


def test_the_loss_of_several_labels(tmp_path: Path) -> None:
    """The mean over rows and labels of the divergence of yes and no."""
    draw = torch.Generator().manual_seed(1)
    logits, taught = (torch.randn(4, 3, generator=draw) * 3 for _ in range(2))
    found = loss_of("multi-label", tmp_path)(logits, taught, torch.tensor(0.25))
    expected = 0.0
    for x, y in zip(logits.flatten().tolist(), taught.flatten().tolist()):
        q, p = (1 / (1 + math.exp(-z / TEMPERATURE)) for z in (x, y))
        apart = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        expected += apart / logits.numel()
    expected = WEIGHT * TEMPERATURE**2 * expected + (1 - WEIGHT) * 0.25
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_values(tmp_path: Path) -> None:
    guesses, taught = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]])
    found = loss_of("regression", tmp_path)(guesses, taught, torch.tensor(0.25))
    assert found.item() == pytest.approx(WEIGHT * 2.5 + (1 - WEIGHT) * 0.25)


# ------------------------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of both, trained: the pupil in `whole`, uninterrupted."""
    folder = tmp_path_factory.mktemp("pair")
    build(write_pair(folder / "specs"), folder)
    build(folder / "specs/tiny_teacher.toml", folder)
    work = ("--work", "runs/tiny_teacher")
    assert children.run(folder, *work, *WEIGHTS, name="tiny_teacher") == 0
    assert run(folder, "whole") == 0, (folder / "log").read_text()
    return folder


WEIGHTS = ("--root", "specs", "--weights", "specs/backbone")


def run(folder: Path, work: str, *more: str, hook: children.Hook | None = None) -> int:
    """Train the pupil; its teacher is where it is looked for by default."""
    given = ("--work", work, *WEIGHTS, *more)
    return children.run(folder, *given, hook=hook, name="tiny_pupil")


def module(folder: Path, name: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return importlib.import_module(f"tiny_pupil.{name}")


def test_what_is_kept_is_what_the_teacher_says(pair: Path) -> None:
    data, teacher = module(pair, "data"), module(pair, "teacher")
    (file,) = (pair / "whole/teacher").iterdir()
    train = data.load_splits(pair / "specs", pair / "again").train
    kept = torch.from_file(str(file), size=2 * len(train)).view(-1, 2)
    model = teacher.load_trained(pair / "runs/tiny_teacher/model.safetensors")
    for batch in data.evaluation_batches(train):
        said = model(*batch.inputs)
        torch.testing.assert_close(kept[batch.rows], said, rtol=1e-5, atol=1e-6)
    assert len(kept) == 64 and len(kept.unique(dim=0)) > 32
    theirs = model.state_dict()
    trained = load_file(pair / "runs/tiny_teacher/model.safetensors")
    assert all(torch.equal(x, trained[name]) for name, x in theirs.items())


def test_the_teacher_is_the_model_of_its_own_package(pair: Path) -> None:
    own = (pair / "tiny_teacher/model.py").read_text()
    found = (pair / "tiny_pupil/teacher.py").read_text()
    start, end = "@dataclass(frozen=True)\nclass Config", "\n\n\ndef load_"
    classes = found[found.index(start) : found.index(end)]
    assert len(classes) > 2000 and classes in own
    entry = json.loads((pair / "tiny_pupil/gen.lock").read_text())["teacher"]
    assert entry["job"] == "tiny_teacher"
    card = (pair / "tiny_pupil/README.md").read_text()
    assert "tiny\\_teacher" in card and "`--teacher`" in card


def test_it_is_what_one_would_write_by_hand(pair: Path) -> None:
    """A training written out for this job gives the weights of the run."""
    data, teacher, pupil = (module(pair, n) for n in ("data", "teacher", "model"))
    torch.manual_seed(data.SEED)
    train, valid, _ = data.load_splits(pair / "specs", pair / "by-hand")
    model = pupil.load_pretrained(pair / "specs/backbone")
    guide = teacher.load_trained(pair / "runs/tiny_teacher/model.safetensors")
    plain = [n.endswith("bias") or "norm" in n for n, _ in model.named_parameters()]
    groups: list[list[nn.Parameter]] = [[], []]
    for p, no_decay in zip(model.parameters(), plain):
        groups[no_decay].append(p)
    options = [
        {"params": group, "weight_decay": decay}
        for group, decay in zip(groups, (0.01, 0.0))
    ]
    optimizer = torch.optim.AdamW(options, lr=5e-3, fused=True)
    steps, warm = 16, 2
    best: tuple[float, dict[str, Tensor]] = (-1.0, {})
    step = 0
    for epoch in range(2):
        model.train()
        for batch in data.batches(train, epoch):
            torch.manual_seed((data.SEED * 1_000_003 + step) % 2**63)
            for group in optimizer.param_groups:
                part = step / warm if step < warm else (steps - step) / (steps - warm)
                group["lr"] = 5e-3 * part
            logits = model(*batch.inputs)
            p = (guide(*batch.inputs) / TEMPERATURE).softmax(1)
            q = (logits / TEMPERATURE).softmax(1)
            apart = (p * (p / q).log()).sum(1).mean()
            own = nn.functional.cross_entropy(logits, batch.targets)
            (WEIGHT * TEMPERATURE**2 * apart + (1 - WEIGHT) * own).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        model.eval()
        right = 0
        with torch.no_grad():
            for batch in data.evaluation_batches(valid):
                right += int((model(*batch.inputs).argmax(1) == batch.targets).sum())
        if right > best[0]:
            weights = {n: x.detach().clone() for n, x in model.state_dict().items()}
            best = right, weights
    found = load_file(pair / "whole/model.safetensors")
    assert found.keys() == best[1].keys()
    for name, x in found.items():
        torch.testing.assert_close(x, best[1][name], rtol=0, atol=2e-4, msg=name)


def test_the_certificate_has_the_loss(pair: Path) -> None:
    found = {c.name: c for c in module(pair, "test_model").by_itself(None)}
    one = found["the loss of distillation"]
    assert one.holds and one.measured is not None and one.measured < 1e-12


def test_the_bench_takes_the_steps_of_training(pair: Path, tmp_path: Path) -> None:
    bench, data = module(pair, "bench"), module(pair, "data")
    rows = data.load_splits(pair / "specs", tmp_path).train
    args = Namespace(weights=pair / "specs/backbone", folder=tmp_path)
    bench.package("train", args, [], rows)([torch.arange(8), torch.arange(8, 12)])
    assert len(list((tmp_path / "teacher").iterdir())) == 1


def test_it_resumes_as_it_was(pair: Path) -> None:
    hook = functools.partial(children.signal_at, 6, signal.SIGTERM)
    assert run(pair, "stopped", hook=hook) == 75
    assert run(pair, "stopped", "--resume") == 0, (pair / "log").read_text()
    check_equals_whole(pair, "stopped")


def signal_in_answer(nth: int, train: Any) -> None:
    """Send itself a signal in a batch that the teacher is asked about."""
    forward, seen = train.teacher.Model.forward, 0

    def signalled(self: Any, *inputs: Any) -> Tensor:
        nonlocal seen
        seen += 1
        if seen == nth:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *inputs)

    train.teacher.Model.forward = signalled


def test_a_signal_keeps_what_the_teacher_has_said(pair: Path) -> None:
    hook = functools.partial(signal_in_answer, 3)
    assert run(pair, "early", hook=hook) == 75
    (part,) = (pair / "early/teacher").iterdir()
    assert part.suffix == ".3"
    assert run(pair, "early", "--resume") == 0, (pair / "log").read_text()
    check_equals_whole(pair, "early")


def test_another_teacher_is_another_run(pair: Path) -> None:
    weights = load_file(pair / "runs/tiny_teacher/model.safetensors")
    weights["classifier.label.bias"] += 1
    save_file(weights, pair / "other.safetensors")
    shutil.copytree(pair / "whole", pair / "other")
    assert run(pair, "other", "--resume", "--teacher", "other.safetensors") == 1
    assert "teacher=" in (pair / "log").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "no weights of the teacher"),
        ("backbone", "does not hold the teacher"),
    ],
)
def test_weights_that_are_none_of_the_teacher(name: str, said: str, pair: Path) -> None:
    path = "specs/backbone/model.safetensors" if name == "backbone" else name
    (pair / "log").unlink(missing_ok=True)
    assert run(pair, f"of {name}", "--teacher", path) == 1
    log = (pair / "log").read_text()
    assert said in log and "train tiny_teacher first" in log and "Traceback" not in log


TOGETHER = {
    "frozen, averaged, accumulated": "freeze = 1\nema = 0.9\naccumulate = 2\n",
    "in stages": "ema = 0.9\n\n[[train.stage]]\nfreeze = 2\nepochs = 1\n\n"
    "[[train.stage]]\nfreeze = 1\nepochs = 1\n",
}


@pytest.mark.parametrize("case", TOGETHER)
def test_with_what_else_training_may_have(
    case: str, pair: Path, tmp_path: Path
) -> None:
    """It trains, resumes as it was, and what is frozen is kept beside the answers."""
    edit = {"epochs = 2\n": ""} if "stage" in TOGETHER[case] else {}
    path = write_pair(tmp_path / "specs", edit=edit, more=TOGETHER[case])
    build(path, tmp_path)
    weights = pair / "runs/tiny_teacher/model.safetensors"
    given = ("--teacher", str(weights))
    assert run(tmp_path, "whole", *given) == 0, (tmp_path / "log").read_text()
    assert len(list((tmp_path / "whole/teacher").iterdir())) == 1
    assert len(list((tmp_path / "whole/cache").iterdir())) == 2
    hook = functools.partial(children.signal_at, 3, signal.SIGTERM)
    assert run(tmp_path, "other", *given, hook=hook) == 75
    assert run(tmp_path, "other", *given, "--resume") == 0
    check_equals_whole(tmp_path, "other")


# ------------------------------------------------------------------------ what is refused


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "labels": (
        "G286",
        {"of_teacher": {'["bad", "good"]': '["good", "bad"]'}},
        "good, bad",
    ),
    "tokens": (
        "G287",
        {"of_teacher": {"max_tokens = 16": "max_tokens = 12"}},
        "up to 12 tokens",
    ),
    "columns": (
        "G287",
        {"of_teacher": {'text = "text"': 'text = ["text", "other"]'}},
        "columns text, other",
    ),
    "features": (
        "G288",
        {"of_teacher": {HEADER: '[features]\ntext = ["length"]\n\n[train]\n'}},
        "told more of a row",
    ),
    "augment": ("G289", {"more": "\n[data.augment]\nmixup = 0.2\n"}, "reads them once"),
    "nothing there": (
        "G285",
        {"table": TEACHER.replace("tiny_teacher", "tiny_nobody")},
        "there is no spec",
    ),
    "itself": (
        "G285",
        {"table": TEACHER.replace("tiny_teacher", "tiny_pupil")},
        "learn from itself",
    ),
    "of the same name": (
        "G285",
        {"of_teacher": {'name = "tiny_teacher"': 'name = "tiny_pupil"'}},
        "as this job is",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_who_is_no_teacher(case: str, tmp_path: Path) -> None:
    code, options, said = REFUSED[case]
    path = write_pair(tmp_path, **{"edit": {}, **options})
    with pytest.raises(GenError) as caught:
        spec_file = building.load_spec(path)
        draft(spec_file, building.facts_for(spec_file))
    (found,) = caught.value.diagnostics
    assert found.code == code and found.place is not None
    assert said in f"{found.message}; {found.label}"
    assert found.place.file == str(path)


def test_a_teacher_is_never_left_out(tmp_path: Path) -> None:
    """Where only the text was read there is none to render."""
    path = write_pair(tmp_path)
    facts = building.facts_for(building.load_spec(path))
    with pytest.raises(GenError) as caught:
        draft(read_spec(path.read_text(), str(path)), facts)
    assert caught.value.diagnostics[0].code == "G285"


def test_a_larger_backbone_teaches(tmp_path: Path) -> None:
    """One with the same tokenizer, of other sizes."""
    write_backbone(tmp_path / "larger", tiny_bert(hidden_size=48, num_hidden_layers=3))
    path = write_pair(tmp_path, of_teacher={'"backbone"': '"larger"'})
    spec_file = building.load_spec(path)
    compiled = draft(spec_file, building.facts_for(spec_file))
    (source,) = (d.data.decode() for d in compiled.drafts if d.path == "teacher.py")
    assert "blocks: int = 3" in source and "width: int = 48" in source
    assert compiled.job.distill.teacher == "tiny_teacher"


@pytest.mark.slow
def test_it_has_sound_types(pair: Path) -> None:
    pytest.importorskip("pyright")
    files = [pair / "tiny_pupil" / name for name in ("train.py", "teacher.py")]
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "-q", *files]
    subprocess.run(command, check=True)


def test_other_jobs_have_nothing_of_it() -> None:
    source = support.render(replace(tiny_job(), distill=DistillPlan()))
    assert "teacher" not in source and "distill" not in source


# --------------------------------------------------------------------------------- gen run


@pytest.mark.slow
def test_gen_run_trains_the_teacher_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_pair(tmp_path)
    given = ["run", path, "--out", tmp_path / "out", "--work", tmp_path / "runs/pupil"]
    given += ["--no-bench", "--probe", "off"]
    assert gen(*given) == 0
    said = capfd.readouterr().err
    assert "the teacher, tiny_teacher, is trained first" in said
    weights = tmp_path / "runs/tiny_teacher/model.safetensors"
    figures = json.loads((tmp_path / "runs/pupil/run.json").read_text())
    found = figures["hashes"]["teacher's model.safetensors"]
    assert found == hashlib.sha256(weights.read_bytes()).hexdigest()
    names = [check["name"] for check in figures["certificate"]]
    assert "the loss of distillation" in names

    before = weights.stat().st_mtime_ns
    assert gen(*given, "--resume") == 0
    said = capfd.readouterr().err
    assert "trained first" not in said and "train: finished before" in said
    assert weights.stat().st_mtime_ns == before
    assert gen(*given, "--resume", "--teacher", tmp_path / "nothing") == 2
    assert "G550" in capfd.readouterr().err


def test_weights_for_a_job_without_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_job(tmp_path)
    given = ["run", path, "--out", tmp_path / "out", "--work", tmp_path / "work"]
    assert gen(*given, "--teacher", path) == 2
    assert "has no teacher" in capsys.readouterr().err
