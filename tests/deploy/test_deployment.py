"""The stage of `gen run` that makes the deployed model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from generator.ir.plans import DeployPlan
from generator.runtime import deployment, tables
from generator.runtime.programs import Ended

FIGURES: dict[str, Any] = {
    "kind": "int8",
    "valid": {
        "rows": 12,
        "trained": {"accuracy": 0.75, "confusion": [[1, 2], [3, 4]]},
        "deployed": {"accuracy": 0.7, "confusion": [[1, 2], [3, 4]]},
        "answers_changed": 2,
        "largest_difference": 0.123,
    },
    "times_as_fast": {"low": 0.7, "median": 0.8, "high": 0.9, "rows": 12},
    "where": "2 threads",
    "bytes": {"trained": 4_000_000, "deployed": 1_000_000},
}
FIGURES["test"] = FIGURES["valid"]
# With ranges that are known beforehand, beside a model without.
STATIC = FIGURES | {
    "kind": "int8-static",
    "times_as_fast": {"low": 1.7, "median": 1.8, "high": 1.9, "rows": 12},
    "dynamic": {
        "valid": FIGURES["valid"] | {"deployed": {"accuracy": 0.74}},
        "test": FIGURES["valid"] | {"deployed": {"accuracy": 0.73}},
        "times_as_fast": {"low": 0.95, "median": 1.0, "high": 1.1, "rows": 12},
        "better": True,
    },
}


class Deploys:
    """In the place of the programs of a package: deploy.py writes, and ends."""

    def __init__(self, work: Path, code: int, figures: dict | None) -> None:
        self.work, self.code, self.figures, self.asked = work, code, figures, []

    def module(self, *arguments: Any, **_: Any) -> Ended:
        self.asked.append(arguments)
        assert not (self.work / deployment.WEIGHTS).exists(), "of an earlier run"
        if self.figures is not None:
            (self.work / deployment.FILE).write_text(json.dumps(self.figures))
        if self.code == 0:
            (self.work / deployment.WEIGHTS).touch()
        return Ended(self.code, "", False)


def deploying(work: Path, programs: Deploys, plan: DeployPlan) -> Any:
    """What of a package that is ready to run the stage looks at."""
    job = SimpleNamespace(deploy=plan)
    return SimpleNamespace(
        work=work,
        root=work / "root",
        name="job",
        programs=programs,
        plan=SimpleNamespace(compiled=SimpleNamespace(job=job)),
    )


@pytest.mark.parametrize(
    ("code", "figures", "said"),
    [
        (0, FIGURES, ""),
        (3, FIGURES, "error[G540]: the deployed model (int8) is not faster here: 0.80"),
        (0, STATIC, ""),
        (
            3,
            STATIC,
            (
                "error[G543]: the deployed model (int8-static) does worse here than one with "
                "a scale for each row of the inputs: 1.00 [0.95, 1.10] times as fast, and on "
                "validation rows accuracy 0.7000, the other accuracy 0.7400"
            ),
        ),
        (2, None, "error[G541]: deploy.py ended with exit code 2"),
    ],
)
def test_how_it_ends(code, figures, said, tmp_path, capsys):
    (tmp_path / deployment.WEIGHTS).write_bytes(b"old")
    programs = Deploys(tmp_path, code, figures)
    ready = deploying(tmp_path, programs, DeployPlan("int8"))
    found, written = deployment.deploy(ready, anyway=False)
    assert written == (code == 0) and found == figures
    assert said in capsys.readouterr().err
    assert programs.asked == [("deploy", "--root", ready.root, "--work", ready.work)]


@pytest.mark.parametrize(
    ("plan", "flags"),
    [
        (DeployPlan("int8"), ["--anyway"]),
        (DeployPlan("int8-static"), ["--anyway"]),
        (DeployPlan(precision="bf16"), ["--anyway"]),
        (DeployPlan("int4-weights"), []),  # which is refused nowhere for being slower
    ],
)
def test_slower_ones_are_made_anyway(plan, flags, tmp_path):
    programs = Deploys(tmp_path, 0, FIGURES)
    _, written = deployment.deploy(deploying(tmp_path, programs, plan), anyway=True)
    assert written and [*programs.asked[0][5:]] == flags


def test_the_table():
    assert tables.deployed({}) is None and tables.deployed({"deployed": None}) is None
    table = tables.deployed({"deployed": FIGURES})
    assert table is not None
    assert ("Accuracy, test", "0.7500", "0.7000") in table.rows
    assert ("Answers changed, valid", "", "2 of 12") in table.rows
    assert ("Weights", "4.0 MB", "1.0 MB") in table.rows
    assert "0.80 [0.70, 0.90] times as fast, 2 threads" in table.note
    table = tables.deployed({"deployed": STATIC})
    assert table is not None and table.head[-1] == "a scale for each row"
    assert ("Accuracy, test", "0.7500", "0.7000", "0.7300") in table.rows
    assert {len(row) for row in table.rows} == {4}
    assert "1.00 [0.95, 1.10] times as fast as with a scale" in table.note
