"""Exports of jobs that predict with another model than the trained one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from export_support import batches, made, trained
from safetensors.torch import load_file, save_file
from test_graphs import rows
from whole_support import Whole

from generator.ir.job import Job
from generator.ir.plans import DeployPlan

INT8 = DeployPlan("int8")


def package(
    folder: Path, plan: DeployPlan, to: tuple[str, ...], case: str, **sizes: int
) -> Whole:
    def edit(job: Job) -> Job:
        return replace(job, deploy=plan)

    return made(folder, case, to=to, edit=edit, sizes=sizes)


def written(it: Whole, to: str, folder: Path) -> dict[str, Any]:
    """How far what is written of the deployed model is from it."""
    deploy, export = it.module("deploy"), it.module("export")
    weights = folder / "deployed.safetensors"
    save_file(deploy.lowered(trained(it)), weights)
    model, portable = export.opened(to, weights)
    (folder / to).mkdir()
    answer = export.WRITERS[to](portable, folder / to)
    found = export.compared(answer, model, batches(it))
    assert found["largest_difference"] <= export.BOUNDS[to], found
    assert found["labels_differ"] == 0
    # It is not the trained one.
    before = export.compared(trained(it).eval(), model, batches(it))
    assert found["largest_difference"] < before["largest_difference"] / 3
    return found


@pytest.mark.parametrize("case", ["bert, pairs", "llama"])
def test_whole_numbers_by_torch_export(case: str, tmp_path: Path) -> None:
    it = package(tmp_path, INT8, ("torch",), case)
    written(it, "torch", tmp_path)
    program = torch.export.load(tmp_path / "torch/model.pt2")
    kept = load_file(tmp_path / "deployed.safetensors")
    for name in it.module("deploy").LINEARS:
        held = program.state_dict[f"{name}.weight"]
        assert held.dtype == torch.int8 and torch.equal(held, kept[f"{name}.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "int8-weights", "int4-weights"])
def test_whole_numbers_in_onnx(kind: Any, tmp_path: Path) -> None:
    import onnx

    # Matrices of more than 8,192 numbers: smaller ones the exporter multiplies out itself.
    sizes = {"hidden_size": 144, "intermediate_size": 160}
    it = package(tmp_path, DeployPlan(kind), ("onnx",), "bert", **sizes)
    written(it, "onnx", tmp_path)
    graph = onnx.load(tmp_path / "onnx/model.onnx").graph
    linears = it.module("deploy").LINEARS
    small = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    held = sum(len(x.raw_data) for x in graph.initializer if x.data_type in small)
    kept = load_file(tmp_path / "deployed.safetensors")
    assert held >= sum(kept[f"{name}.weight"].nbytes for name in linears)
    if kind == "int8":
        products = [node for node in graph.node if node.op_type == "MatMulInteger"]
        assert len(products) == len(linears)


@pytest.mark.slow
def test_bfloat16_by_torch_export(tmp_path: Path) -> None:
    it = package(tmp_path, DeployPlan(precision="bf16"), ("torch",), "bert")
    written(it, "torch", tmp_path)


def test_sums_in_bfloat16_may_be_rounded_otherwise(tmp_path: Path) -> None:
    it = package(tmp_path, DeployPlan(precision="bf16"), ("torch",), "bert")
    export = it.module("export")
    assert export.BOUNDS == {"torch": 0.02} and export.CHANGED == 0.01
    plain = package(tmp_path / "plain", DeployPlan("int8-weights"), ("torch",), "bert")
    assert plain.module("export").BOUNDS == {"torch": 1e-4}


def test_what_cannot_be_exported_so_is_the_trained_model_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = DeployPlan("int8", temperature=True)
    it = package(tmp_path, plan, ("transformers",), "bert")
    deploy, export = it.module("deploy"), it.module("export")
    work, weights = tmp_path / "work", rows(it, tmp_path)
    work.mkdir()
    weights.rename(work / "model.safetensors")
    flags = ["--root", str(tmp_path), "--work", str(work)]
    assert deploy.main([*flags, "--anyway"]) == 0
    assert export.main(["--to", "transformers", *flags, "--rows", "30"]) == 0
    out = work / "export/transformers"
    figures = json.loads((out / "export.json").read_text())
    assert (
        figures["model"] == "trained, fp32" and "no such weights" in figures["because"]
    )
    assert figures["labels_differ"] == 0 and figures["largest_difference"] <= 1e-5
    assert "trained, fp32 since its classes have no such" in capsys.readouterr().out
    # Each model has the temperature that suits it.
    theirs = json.loads((out / "calibration.json").read_text())["temperature"]
    ours = json.loads((work / "calibration.json").read_text())["temperature"]
    calibrate, data = it.module("calibrate"), it.module("data")
    valid = data.load_splits(tmp_path, tmp_path / "rows").valid
    for model, found in (
        (deploy.load_trained(work / "model.safetensors"), theirs),
        (deploy.load_deployed(work / "deployed.safetensors"), ours),
    ):
        expected = calibrate.temperature_of(*calibrate.logits_of(model, valid))
        assert found == pytest.approx(expected, rel=1e-6)
    # The weights of the one are none of the other.
    flags += ["--weights", str(work / "deployed.safetensors")]
    assert export.main(["--to", "transformers", *flags]) == 2
    assert "does not hold this model" in capsys.readouterr().err
