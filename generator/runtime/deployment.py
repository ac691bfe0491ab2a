"""The stage of `gen run` that makes the deployed model of the trained one, by deploy.py."""

from __future__ import annotations

import json
import sys
from typing import Any

from generator.errors import Diagnostic, render_diagnostics
from generator.runtime.ready import Ready
from generator.runtime.tables import spread, within

FILE, WEIGHTS = "deployed.json", "deployed.safetensors"
SLOWER = 3  # deploy.py's exit code where it wrote nothing for that


def asked(ready: Ready) -> bool:
    """Whether the job predicts with other weights than the trained ones."""
    return ready.plan.compiled.job.deploy.lowered


def dynamic_is_better(found: dict[str, Any]) -> bool:
    """Whether products with a scale for each row of the inputs are faster or more right."""
    dynamic = found.get("dynamic")
    return dynamic is not None and (
        dynamic["better"] or dynamic["times_as_fast"]["high"] < 1
    )


def scores(found: dict[str, Any]) -> str:
    """Those of the validation rows, in words."""
    return ", ".join(
        f"{within(name)} {value:.4f}"
        for name, value in found["valid"]["deployed"].items()
        if isinstance(value, float)
    )


def deploy(ready: Ready, anyway: bool) -> tuple[dict[str, Any] | None, bool]:
    """What deploy.py measured, and whether the deployed model is there: it is not where
    it is slower, unless it is wanted `anyway`."""
    path = ready.work / FILE
    for name in (FILE, WEIGHTS):  # of an earlier run, and of its weights
        (ready.work / name).unlink(missing_ok=True)
    flags = ["--root", ready.root, "--work", ready.work]
    if anyway and ready.plan.compiled.job.deploy.quick:
        flags.append("--anyway")
    ended = ready.programs.module("deploy", *flags, output="drop")
    found = json.loads(path.read_bytes()) if path.is_file() else None
    if ended.code == 0:
        return found, True
    if ended.code == SLOWER and found is not None and dynamic_is_better(found):
        dynamic = found["dynamic"]
        problem = Diagnostic(
            "G543",
            f"the deployed model ({found['kind']}) does worse here than one with a scale "
            f"for each row of the inputs: {spread(dynamic['times_as_fast'], '.2f')} times "
            f"as fast, and on validation rows {scores(found)}, the other {scores(dynamic)}",
            help='give quantize = "int8" in the spec, or write it all the same: '
            "gen run --resume --anyway",
        )
    elif ended.code == SLOWER and found is not None:
        times = found["times_as_fast"]
        problem = Diagnostic(
            "G540",
            f"the deployed model ({found['kind']}) is not faster here: "
            f"{times['median']:.2f} [{times['low']:.2f}, {times['high']:.2f}] times as "
            f"fast as the trained one, {found['where']}",
            help="remove [deploy] from the spec, or write it all the same: "
            "gen run --resume --anyway",
        )
    else:
        problem = Diagnostic(
            "G541",
            f"deploy.py ended with exit code {ended.code}; what it said stands above",
            help="mend that, and run this again with --resume",
        )
    sys.stderr.write(render_diagnostics([problem], {}) + "\n")
    return found, False
