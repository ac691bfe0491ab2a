"""`gen run` of a job that deploys another model, from end to end."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from runtime_support import gen, last_json, write_job
from safetensors.torch import load_file


@pytest.mark.slow
def test_a_run_deploys_its_model(tmp_path: Path) -> None:
    deploy = '[deploy]\nquantize = "int8-weights"\n\n[train]'
    spec = write_job(tmp_path, edit={"[train]": deploy})
    out, work = tmp_path / "out", tmp_path / "work"
    flags = ["--out", out, "--work", work, "--json", "--no-bench", "--probe", "short"]
    output = io.StringIO()
    with redirect_stdout(output):
        assert gen("run", spec, *flags) == 0
    found = last_json(output.getvalue())
    deployed = found["deployed"]
    assert deployed["kind"] == "int8-weights"
    assert deployed["test"]["trained"]["accuracy"] == found["test"]["accuracy"]
    assert deployed["bytes"]["deployed"] < deployed["bytes"]["trained"]
    assert "deploying and serving" in {c["name"] for c in found["certificate"]}
    held = load_file(work / "deployed.safetensors")
    assert any(name.endswith(".step") for name in held)
    assert "Deployed model, int8-weights" in (work / "report.md").read_text()
    output = io.StringIO()
    with redirect_stdout(output):
        assert gen("run", spec, *flags, "--resume") == 0
    assert last_json(output.getvalue())["deployed"] == deployed
