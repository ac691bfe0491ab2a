"""`gen bench`: a package's own bench, side by side with transformers where installed."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from generator.errors import fail
from generator.runtime import figures, tables, terminal
from generator.runtime.programs import installed
from generator.runtime.ready import Ready, prepare, probe

SHORT_ROUNDS = 3  # of the bench in a run, and one that warms up
SHORT_SECONDS = 75.0  # what these rounds may take together
# Work of a round over that of our training on its rows: ours and two baselines', training
# and predicting; or ours alone.
AGAINST, ALONE = 6.5, 1.5


def bench(args: argparse.Namespace) -> int:
    """The command."""
    ready = prepare(args)
    options: list[str] = []
    for name in ("rows", "rounds", "tokens_per_row"):
        value = getattr(args, name, None)
        if value is not None:
            options += [f"--{name.replace('_', '-')}", str(value)]
    found = measure(ready, options, quiet=args.quiet)
    if args.json:
        print(json.dumps({"name": ready.name, **found}, indent=1))
    elif not args.quiet:
        job = ready.plan.compiled.job
        beside = figures.job_figures(ready.plan) | {
            "bench": found,
            "counted": probe(ready),
            "predicted_of_bench": figures.predicted_of_bench(job, found),
        }
        print(tables.bench_words(found))
        for line in tables.edits_table(ready.plan.compiled.stages):
            print(line)
        terminal.show([*tables.bench(found, narrow=True), tables.predicted(beside)])
    return 0


def measure(ready: Ready, options: list[str], quiet: bool = False) -> dict[str, Any]:
    """Every figure of bench.py. GenError where it ends without them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench.json"
        arguments = ["--root", ready.root, "--weights", ready.weights, "--json", path]
        if installed("transformers"):
            arguments += ["--against", "transformers", "--reference", ready.reference()]
        if quiet:
            arguments.append("--quiet")
        ended = ready.programs.module("bench", *arguments, *options, output="drop")
        if ended.code or not path.is_file():
            raise fail(
                "G512",
                f"the bench of {ready.plan.folder} ended with exit code {ended.code}",
                help="what it said stands above; gen run --no-bench leaves it out",
            )
        return json.loads(path.read_bytes())


def short(ready: Ready, training: Mapping[str, Any]) -> list[str]:
    """Options for a bench that takes little longer, by how fast this job trained here."""
    plan = ready.plan.compiled.job.train
    each = training["seconds"] / max(1, training["examples"])
    work = AGAINST if installed("transformers") else ALONE
    rows = int(SHORT_SECONDS / ((SHORT_ROUNDS + 1) * work * max(each, 1e-6)))
    batch = plan.batch or 1
    rows = max(batch, min(256, rows))
    rows = math.floor(rows / batch) * batch
    return ["--rows", str(rows), "--rounds", str(SHORT_ROUNDS)]
