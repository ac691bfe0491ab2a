"""Training in 16 bits: refused by `gen run` where this machine is slower at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runtime_support import gen, write_job

from generator.runtime import run

SLOWER = {"low": 0.3, "median": 0.4, "high": 0.5, "rows": 128}


class Reached(Exception):
    """Training would begin."""


def test_sixteen_bits_that_are_slower_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = '[target]\nprecision = "bf16"\n\n[train]'
    spec = write_job(tmp_path, edit={"[train]": target})
    counts, seen, measured = run.probe, [], [SLOWER]

    def probe(ready: Any, *, times: bool = False) -> Any:
        found = counts(ready, times=times)
        assert found is not None
        seen.append(found["half"])
        return {**found, "half": measured[0] if times else None}

    def train(*_: Any) -> None:
        raise Reached

    monkeypatch.setattr(run, "probe", probe)
    monkeypatch.setattr(run, "train", train)
    work = tmp_path / "work"
    arguments = ["run", spec, "--out", tmp_path / "out", "--work", work]
    assert gen(*arguments) == 2
    said = capsys.readouterr().err
    assert "error[G542]" in said and 'precision "bf16" is slower here' in said, said
    assert "0.40 [0.30, 0.50] times as fast" in said and "tiny_job.toml:" in said
    # 37 columns of 24, and batches of 8 rows of 16 tokens.
    assert seen[0]["rows"] == 128 and 0 < seen[0]["low"] <= seen[0]["high"]
    with pytest.raises(Reached):
        gen(*arguments, "--anyway")
    measured[0] = {**SLOWER, "high": 1.1}  # a quarter of the rounds is faster
    with pytest.raises(Reached):
        gen(*arguments)
