"""`gen export`: of jobs that ask for it and of others, and what it refuses."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from runtime_support import gen, last_json, write_job
from transformers import AutoTokenizer

from generator.errors import GenError
from generator.runtime import export, ready
from generator.runtime.programs import Ended, Programs

WEIGHTS = """
import sys, torch
from safetensors.torch import save_file
from exported_job.model import load_pretrained
torch.manual_seed(1)
save_file(load_pretrained(sys.argv[1]).state_dict(), sys.argv[2])
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """A spec whose package is built, and weights in its work folder."""
    folder = tmp_path_factory.mktemp("command")
    spec = write_job(folder, name="exported_job", rows=24)
    assert gen("build", spec, "--out", folder / "out", "--quiet") == 0
    (folder / "work").mkdir()
    weights = folder / "work" / "model.safetensors"
    arguments = [sys.executable, "-c", WEIGHTS, folder / "backbone", weights]
    subprocess.run(arguments, env={"PYTHONPATH": str(folder / "out")}, check=True)
    return spec


def where(job: Path) -> list[str]:
    folder = job.parent
    return ["--out", str(folder / "out"), "--work", str(folder / "work"), "--quiet"]


@pytest.mark.slow
def test_of_a_job_that_does_not_ask_for_it(job: Path, capsys) -> None:
    package = job.parent / "out" / "exported_job"
    before = sorted(path.name for path in package.glob("*.*"))
    found = job.parent / "found"
    arguments = ["--to", "transformers", "--into", found, "--rows", "20", "--json"]
    assert gen("export", job, *arguments, *where(job)) == 0
    figures = last_json(capsys.readouterr().out)
    assert figures == figures | json.loads((found / "export.json").read_text())
    assert figures["labels_differ"] == 0 and figures["rows"] >= 20
    # The package is as it was.
    assert sorted(path.name for path in package.glob("*.*")) == before
    ours, theirs = map(AutoTokenizer.from_pretrained, (found, job.parent / "backbone"))
    texts = ["a fine film", "the worst plot of the year", "unknown words " * 20]
    for text in texts:
        whole = theirs(text)["input_ids"]
        cut = whole if len(whole) <= 16 else [*whole[:15], whole[-1]]
        assert ours(text, truncation=True)["input_ids"] == cut
    assert ours.model_max_length == 16 and ours.pad_token == "[PAD]"
    none = ["--to", "onnx", "--weights", str(job.parent / "none")]
    assert gen("export", job, *none, *where(job)) == 2
    assert "error[G555]" in capsys.readouterr().err


def test_what_is_refused(tmp_path: Path, monkeypatch) -> None:
    def code(to: str = "onnx") -> str:
        it = SimpleNamespace(root=tmp_path, work=tmp_path / "work")
        with pytest.raises(GenError) as caught:
            export.written(it, Programs(tmp_path, "a"), to, tmp_path, tmp_path)  # type: ignore[arg-type]
        return caught.value.diagnostics[0].code

    with monkeypatch.context() as patch:
        patch.setattr(export, "installed", lambda name: name != "onnxruntime")
        assert code() == "G556"
    for ended, expected in ((1, "G557"), (2, "G558")):
        with monkeypatch.context() as patch:
            patch.setattr(
                Programs, "module", lambda *a, code=ended, **k: Ended(code, "", False)
            )
            assert code("torch") == expected
    assert not list(tmp_path.iterdir())


def test_what_deploy_refused_is_not_exported(tmp_path: Path, capsys) -> None:
    deploy = '[deploy]\nquantize = "int8"\nexport = ["transformers", "onnx"]\n\n[train]'
    spec = write_job(tmp_path, edit={"[train]": deploy})
    work = tmp_path / "work"
    options = ["--out", str(tmp_path / "out"), "--work", str(work), "--quiet"]
    assert gen("export", spec, "--to", "onnx", *options) == 2
    said = capsys.readouterr().err
    assert "G555" in said and "gen run" in said and "deploy.py" not in said
    work.mkdir()
    for name in ("model.safetensors", "deployed.json"):
        (work / name).write_text("{}")
    assert gen("export", spec, "--to", "onnx", *options) == 2
    said = capsys.readouterr().err
    assert "no deployed weights" in said and "deploy.py measured" in said
    assert f"gen run {spec} --resume --anyway" in said
    # In a run it is said before any of its exports is made.
    it = ready.package(
        argparse.Namespace(
            spec=spec, out=tmp_path / "out", work=work, root=None, quiet=True
        )
    )
    with pytest.raises(GenError, match="no deployed weights"):
        export.every(it)


@pytest.mark.parametrize("do", ['"pool"\nkind = "mean"', '"head"\nkind = "mlp"'])
def test_a_model_that_transformers_does_not_have(do, tmp_path: Path, capsys) -> None:
    edit = {"[train]": '[deploy]\nexport = ["transformers"]\n\n[train]'}
    spec = write_job(tmp_path, edit=edit)
    with open(spec, "a") as file:
        file.write(f"\n[[edit]]\ndo = {do}\n")
    assert gen("build", spec, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "error[G290]" in said and "tiny_job.toml:17:1" in said, said
    assert "BertForSequenceClassification computes something else" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_calibrates_and_exports(tmp_path: Path, capsys) -> None:
    deploy = '[deploy]\nexport = ["torch"]\ntemperature = true\nthresholds = "f1"\n\n'
    spec = write_job(
        tmp_path, name="run_exported", edit={"[train]": deploy + "[train]"}
    )
    work = tmp_path / "work"
    options = ["--out", tmp_path / "out", "--work", work, "--no-bench"]
    arguments = ["run", spec, *options, "--probe", "off"]
    assert gen(*arguments, "--json") == 0
    figures = last_json(capsys.readouterr().out)
    assert figures["export"]["torch"]["labels_differ"] == 0
    assert (work / "export" / "torch" / "model.pt2").is_file()
    kept = json.loads((work / "calibration.json").read_text())
    assert figures["calibration"] == kept
    # What is copied beside the model is what its probabilities are made by.
    copied = work / "export" / "torch" / "calibration.json"
    assert json.loads(copied.read_text()) == kept
    page = (work / "report.md").read_text()
    assert "Calibration error" in page and f"{kept['threshold']:.3f}" in page
    assert "Exports, read back and compared" in page
