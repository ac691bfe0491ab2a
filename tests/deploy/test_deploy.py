"""deploy.py of packages: what it rounds, what it multiplies, and what it writes."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_cache import fill
from test_certificate import CASES, one_thread  # noqa: F401
from whole_support import Whole, whole

from generator.ir.deploy import LONGEST, weight_bytes
from generator.ir.job import Job
from generator.ir.plans import DeployPlan, FeaturePlan, GuardPlan
from generator.passes import EDITS, join_features
from tests.edits.test_together import ARGUMENTS

KINDS = {
    "int8": DeployPlan("int8"),
    "int8-weights": DeployPlan("int8-weights"),
    "int4-weights": DeployPlan("int4-weights"),
    "int8-static": DeployPlan("int8-static"),
    "int8-weights by 16": DeployPlan("int8-weights", group=16),
    "int4-weights by 64": DeployPlan("int4-weights", group=64),
    "bf16": DeployPlan(precision="bf16"),
}


def make(case: str, plan: DeployPlan, folder: Path, **more: Any) -> Whole:
    config, sizes, options = CASES[case]

    def deployed(job: Job) -> Job:
        return replace(job, deploy=plan)

    return whole(folder, config(**sizes), **options, edit=deployed, **more)


def assert_size(made: Whole) -> None:
    """The size that was predicted is that of the tensors."""
    deploy, model = made.module("deploy"), made.module("model")
    trained = getattr(model, "merge", lambda own: own)(model.Model())
    tensors = lowered(deploy, trained).values()
    assert sum(x.nbytes for x in tensors) == weight_bytes(made.job)


def lowered(deploy: Any, trained: Any) -> dict[str, torch.Tensor]:
    """The tensors of the deployed model; ranges of inputs, if any, are wide."""
    if not hasattr(deploy, "find_ranges"):
        return deploy.lowered(trained)
    return deploy.lowered(trained, dict.fromkeys(deploy.LINEARS, (-4.0, 4.0)))


def assert_certified(made: Whole) -> dict[str, Any]:
    """What the checks that tell of the deployed model found."""
    test = made.module("test_model")
    found = [*test.by_itself(made.weights), *test.as_deployed(made.weights)]
    assert [one for one in found if not one.holds] == []
    return {one.name: one for one in found}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["bert", "llama", "vit"])
def test_every_kind_of_every_family(case: str, kind: str, tmp_path: Path) -> None:
    made = make(case, KINDS[kind], tmp_path)
    found = assert_certified(made)
    assert_size(made)
    assert 0 < found["logits of the deployed model"].measured
    if kind != "bf16":
        assert 0.3 < found["weights rounded, in steps"].measured


def edited(do: str, plan: DeployPlan, folder: Path) -> Whole:
    def edit(job: Job) -> Job:
        job, _ = EDITS[do].run(job, **ARGUMENTS[do](job, Random(3)))
        return replace(job, deploy=plan)

    config, sizes, options = CASES["bert"]
    return whole(folder, config(**sizes), **options, edit=edit)


@pytest.mark.parametrize(
    "do", ["lora", "dora", "ia3", "adapter", "low-rank", "prune-ffn"]
)
def test_edited_models(do: str, tmp_path: Path) -> None:
    made = edited(do, KINDS["int8"], tmp_path)
    assert_certified(made)
    assert_size(made)


@pytest.mark.parametrize("kind", ["int8", "bf16"])
def test_adapters_are_merged_first(kind: str, tmp_path: Path) -> None:
    leave = ("blocks",) if kind == "int8" else ()
    plan = replace(KINDS[kind], leave=leave)
    made = edited("lora", plan, tmp_path)
    deploy, model = made.module("deploy"), made.module("model")
    assert deploy.PLAIN and not hasattr(deploy, "LINEARS")
    trained = model.merge(model.Model().eval())
    tensors = deploy.lowered(trained)
    assert not [name for name in tensors if "lora" in name]
    deployed = deploy.assemble(tensors)
    assert not [m for m in deployed.modules() if isinstance(m, model.LoRALinear)]


def plain(kind: str, weight: torch.Tensor) -> torch.Tensor:
    """The weights as they are kept, element by element, by the definition."""
    kept = torch.zeros_like(weight, dtype=torch.float64)
    for row, line in enumerate(weight.double()):
        _, by, size = kind.partition(" by ")
        four = kind.startswith("int4")
        size = int(size) if by else 32 if four else len(line)
        most = 7 if four else 127
        for start in range(0, len(line), size):
            group = line[start : start + size]
            step = group.abs().max() / most
            kept[row, start : start + size] = (group / step).round() * step
    return kept


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bf16"])
def test_a_linear_is_what_it_is_by_hand(kind: str, tmp_path: Path) -> None:
    made = make("llama", KINDS[kind], tmp_path)
    deploy, model = made.module("deploy"), made.module("model")
    torch.manual_seed(1)
    trained = model.Model().eval()
    deployed = deploy.assemble(lowered(deploy, trained))
    for name in deploy.LINEARS:
        linear, layer = trained.get_submodule(name), deployed.get_submodule(name)
        weight = plain(kind, linear.weight.detach())
        for shape in ((5,), (2, 3), (1, 1), (0,)):
            x = torch.randn(*shape, linear.in_features)
            exact = x.double()
            if kind == "int8":
                step = exact.abs().amax(-1, keepdim=True) / 127 if x.numel() else exact
                exact = ((exact / step) + 0.5).floor() * step
            elif kind == "int8-static":
                exact = (
                    (exact / (8 / 255) + 128 + 0.5).floor().clamp(0, 255) - 128
                ) * (8 / 255)
            want = exact @ weight.T
            got = layer(x).detach()
            assert got.shape == want.shape and got.dtype == torch.float32
            # A number that lies between two steps may go to either, in fp32.
            if want.numel():
                off = (got - want).abs()
                assert off.median() < 1e-6 and off.max() < 0.02


def test_tables_are_rounded_row_by_row(tmp_path: Path) -> None:
    config, sizes, options = CASES["bert"]
    made = whole(
        tmp_path,
        config(**{**sizes, "vocab_size": LONGEST}),
        **options,
        edit=lambda job: replace(job, deploy=KINDS["int8"]),
    )
    assert_certified(made)
    deploy, model = made.module("deploy"), made.module("model")
    assert deploy.TABLES == ("embedding.token",)
    trained = model.Model().eval()
    table = trained.embedding.token.weight.detach()
    rounded = deploy.assemble(deploy.lowered(trained)).embedding.token
    assert_size(made)
    ids = torch.tensor([[3, 1023], [0, 500]])
    assert torch.allclose(rounded(ids).double(), plain("int8", table)[ids], atol=1e-7)


def test_numbers_that_are_not_finite_stay_so(tmp_path: Path) -> None:
    made = make("bert", KINDS["int8"], tmp_path)
    deploy, model = made.module("deploy"), made.module("model")
    deployed = deploy.assemble(deploy.lowered(model.Model()))
    layer = deployed.get_submodule(deploy.LINEARS[0])
    x = torch.randn(4, 24)
    x[1, 3], x[2] = float("nan"), 0.0
    found = layer(x)
    assert found[1].isnan().all() and found[[0, 2, 3]].isfinite().all()
    assert torch.equal(found[2], layer.bias)  # of a row of zeros


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make("bert", KINDS["int8"], tmp_path)
    fill(tmp_path, made, "bert")
    deploy, model = made.module("deploy"), made.module("model")
    work = tmp_path / "work"
    work.mkdir()
    flags = ["--root", str(tmp_path), "--work", str(work), "--anyway"]
    assert deploy.main(flags) == 2  # nothing is trained
    assert f"no weights at {work}" in capsys.readouterr().err
    trained = model.load_pretrained(made.weights)
    save_file(trained.state_dict(), work / "model.safetensors")
    before = (work / "model.safetensors").read_bytes()

    assert deploy.main(flags) == 0
    said = json.loads((work / "deployed.json").read_text())
    assert said["valid"]["rows"] == said["test"]["rows"] == 12
    assert said["bytes"]["deployed"] < said["bytes"]["trained"]
    assert 0 < said["times_as_fast"]["low"] <= said["times_as_fast"]["high"]
    assert "12 rows: loss" in capsys.readouterr().out
    held = load_file(work / "deployed.safetensors")
    assert {held[f"{name}.weight"].dtype for name in deploy.LINEARS} == {torch.int8}
    predictor = made.module("predict").Predictor(work / "deployed.safetensors")
    assert len(predictor.predict(["a fine film", "the worst"])) == 2
    assert (work / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in work.iterdir()) == [
        "deployed.json",
        "deployed.safetensors",
        "model.safetensors",
    ]

    assert deploy.main([*flags[:-1], "--sensitivity"]) == 0
    out = capsys.readouterr().out
    assert out.count("blocks.") >= len(deploy.LINEARS)
    leave = json.loads(out.rpartition("leave = ")[2])
    assert 0 < len(leave) < len(deploy.LINEARS)

    made.edit("deploy", 'found["times_as_fast"]["high"] < 1', "True")
    deploy = made.module("deploy")
    out = work / "again.safetensors"
    assert deploy.main([*flags[:-1], "--out", str(out)]) == deploy.SLOWER
    assert not out.exists() and "--anyway" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        deploy.main([*flags, "--out", str(work / "model.safetensors")])


def test_what_predicts_is_calibrated_on_the_rows_of_training(tmp_path: Path) -> None:
    """By its own answers, and without the rows that the guard took out."""
    config, sizes, options = CASES["bert"]
    plan = DeployPlan("int8", temperature=True, thresholds="f1")

    def edit(job: Job) -> Job:
        data = replace(job.data, guard=GuardPlan(formulas="quarantine"))
        return replace(job, deploy=plan, data=data)

    made = whole(tmp_path, config(**sizes), **options, edit=edit)
    fill(tmp_path, made, "bert")
    for name in ("valid", "test"):
        with open(tmp_path / f"{name}.csv", "a") as file:
            file.write(f"=1+cmd|' /C {name}'!A0,no\n" * 3)
    work, deploy = tmp_path / "work", made.module("deploy")
    work.mkdir()
    trained = made.module("model").load_pretrained(made.weights)
    with torch.no_grad():
        trained.classifier.label.weight.mul_(40)  # sure of itself
    save_file(trained.state_dict(), work / "model.safetensors")
    flags = ["--root", str(tmp_path), "--work", str(work)]
    assert deploy.main([*flags, "--anyway"]) == 0
    said = json.loads((work / "deployed.json").read_text())
    assert said["valid"]["rows"] == said["test"]["rows"] == 12
    assert "calibrate" not in vars(made.module("train"))

    calibrate, data = made.module("calibrate"), made.module("data")
    splits = data.load_splits(tmp_path, tmp_path / "rows")
    assert len(splits.valid) == len(splits.test) == 15
    model = deploy.load_deployed(work / "deployed.safetensors")
    predictor = made.module("predict").Predictor(work / "deployed.safetensors")
    kept = json.loads((work / "calibration.json").read_text())
    assert said["calibration"] == kept
    guard = made.module("guard")
    splits = data.load_splits(
        tmp_path, tmp_path / "rows", lambda rows: guard.inspect(rows, work=work)
    )
    found = calibrate.fitted(*calibrate.logits_of(model, splits.valid))
    assert predictor.calibration == found
    assert found != calibrate.fitted(*calibrate.logits_of(trained.eval(), splits.valid))
    # Again by itself, from the deployed weights.
    (work / "calibration.json").unlink()
    assert calibrate.main(flags) == 0
    again = json.loads((work / "calibration.json").read_text())
    assert again == kept
    left = (work / "quarantine.jsonl").read_text()
    assert left.count("formulas") >= 6


@pytest.mark.parametrize("bad", ["missing", "trained", "garbage", "another"])
def test_files_that_are_not_the_deployed_model(bad: str, tmp_path: Path) -> None:
    made = make("bert", KINDS["int8"], tmp_path)
    deploy, model = made.module("deploy"), made.module("model")
    file = tmp_path / "deployed.safetensors"
    tensors = deploy.lowered(model.Model())
    if bad == "trained":
        save_file(model.Model().state_dict(), file)
    elif bad == "garbage":
        file.write_bytes(b"not safetensors")
    elif bad == "another":
        save_file({**tensors, "classifier.label.bias": torch.zeros(7)}, file)
    with pytest.raises(FileNotFoundError if bad == "missing" else ValueError) as fault:
        deploy.load_deployed(file)
    assert len(str(fault.value).removeprefix(str(file))) < 400  # of all tensors
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("case", ["bert, labels", "bert, a number", "bert, pairs"])
def test_other_tasks(case: str, tmp_path: Path) -> None:
    assert_certified(make(case, KINDS["int8"], tmp_path))


@pytest.mark.parametrize("kind", ["int8", "bf16"])
def test_heads_that_read_columns(kind: str, tmp_path: Path) -> None:
    plan = FeaturePlan(numeric=("price",), categorical=("shop",), categories=5)

    def edit(job: Job) -> Job:
        job, _ = join_features.run(job, plan, width=4, hidden=8, dropout=0.0)
        return replace(job, deploy=KINDS[kind])

    config, sizes, options = CASES["bert"]
    options = {**options, "head": "new"}
    assert_certified(whole(tmp_path, config(**sizes), **options, edit=edit))


def test_the_bench_predicts_with_the_deployed_model(tmp_path: Path) -> None:
    made = make("bert", KINDS["int8"], tmp_path)
    bench = made.module("bench")
    asked = Namespace(weights=made.weights, folder=tmp_path, against=None)
    bench.prepare(asked)
    held = load_file(tmp_path / "ours.safetensors")
    assert torch.int8 in {x.dtype for x in held.values()}
    answers = made.module("predict").Predictor(tmp_path / "ours.safetensors")
    assert len(answers.predict(["a film"])) == 1
