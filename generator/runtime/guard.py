"""`gen guard`: what a job's guard finds in its rows; with --self-test, what it finds of
faults that are planted in a copy of them."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from generator.errors import GenError, fail
from generator.render import guard as rendering
from generator.runtime import build as building
from generator.runtime import figures, tables, terminal
from generator.runtime.ready import Ready, need, prepare

SEEDS = (11, 12, 13)  # of the faults of a self-test


def guard(args: argparse.Namespace) -> int:
    """The command. 0; GenError where the rows cannot be looked at."""
    need("rich")
    spec_file = building.load_spec(args.spec)
    if not {"report", "quarantine"} & {*asdict(spec_file.spec.data.guard).values()}:
        raise fail(
            "G529",
            f"{spec_file.spec.name} asks for no check of its rows",
            place=spec_file.place("data"),
            help='add [data.guard] with checks, such as leaks = "report"',
        )
    ready = prepare(args)
    building.writable(ready.work, "--work")
    if args.self_test:
        found: Any = self_test(ready, SEEDS)
        shown = tables.self_test(found)
    else:
        found = look(ready)
        shown = tables.guard(found)
    if args.json:
        print(json.dumps(found, indent=1))
    elif not args.quiet:
        terminal.show(shown)
    return 0


def look(ready: Ready) -> dict[str, Any]:
    """What guard.py finds, as guard.json has it."""
    given = ["--root", ready.root, "--work", ready.work]
    if any(check.features for check in rendering.checks(ready.plan.compiled.job)):
        given += ["--weights", ready.weights.resolve()]
    ended = ready.programs.module("guard", *given)
    if ended.code:
        raise failed(ready)
    found = figures.guard(ready.work)
    if found is None:
        raise failed(ready)
    return found


def self_test(ready: Ready, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """What each check finds of each kind of fault with each seed."""
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder, "request.json")
        request.write_text(json.dumps({"seeds": seeds}))
        ended = ready.programs.python(
            Path(__file__).with_name("selftest.py"),
            *(ready.name, ready.root, ready.weights.resolve(), folder, request),
            output="keep",
        )
    if ended.code:
        raise failed(ready)
    return json.loads(ended.output.splitlines()[-1])


def failed(ready: Ready) -> GenError:
    return fail(
        "G530",
        f"the rows of {ready.name} cannot be looked at; what went wrong stands above",
        place=ready.spec_file.place("data.train"),
        help="mend the data, or say where its paths start: --root FOLDER",
    )
