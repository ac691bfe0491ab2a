"""`gen certify`: run a package's certificate, store its reference, and print it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from generator.errors import GenError, fail
from generator.ir.plans import TextPlan
from generator.runtime import build as building
from generator.runtime import gather, tables, terminal
from generator.runtime.programs import Ended, installed
from generator.runtime.ready import Ready, prepare, warn
from generator.runtime.tokenizer import (
    TOKENIZER_CONFIG,
    check_against_transformers,
    vocabulary_size,
)

# Two references that differ by less are the same: threads round differently.
SAME = 1e-11
WRITE = """
import sys
from pathlib import Path
from importlib import import_module
import_module(sys.argv[1]).write_reference(Path(sys.argv[2]), Path(sys.argv[3]))
"""


def certify(args: argparse.Namespace) -> int:
    """The command. 0 if every check that could run holds, else 1."""
    ready = prepare(args)
    refreshed = False
    if installed("transformers"):
        ready, refreshed = refresh_reference(ready, args)
    found = checks(ready)
    if installed("transformers"):
        found += tokenizer_checks(ready)
    figures = {
        "name": ready.name,
        "package": str(ready.plan.folder),
        "reference_written": refreshed,
        "checks": found,
    }
    if args.json:
        print(json.dumps(figures, indent=1))
    elif not args.quiet:
        if refreshed:
            print(f"{ready.plan.folder / gather.REFERENCE}: written, with its facts")
        terminal.show([tables.certificate(found)])
    return 0 if holds(found) else 1


def holds(found: list[dict[str, Any]]) -> bool:
    return all(check["holds"] for check in found)


def checks(ready: Ready) -> list[dict[str, Any]]:
    """What test_model.py finds. GenError where it ends without an answer."""
    ended = ready.programs.module(
        "test_model", "--weights", ready.reference(), "--json", output="keep"
    )
    found = answer(ended)
    if found is None:
        raise fail(
            "G510",
            f"the certificate of {ready.plan.folder} ended with exit code {ended.code} "
            "and without an answer",
            help="what it said stands above; run it alone: "
            f"python -m {ready.name}.test_model --weights {ready.reference()}",
        )
    return found


def answer(ended: Ended) -> list[dict[str, Any]] | None:
    """The checks that a certificate printed; None where it did not."""
    if ended.code not in (0, 1):
        return None
    for line in reversed(ended.output.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        return found if isinstance(found, list) else None
    return None


def tokenizer_checks(ready: Ready) -> list[dict[str, Any]]:
    """The package's tokenizer against transformers', on more samples than it carries."""
    data, folder = ready.facts.tokenizer, ready.reference()
    text = isinstance(ready.plan.compiled.job.data.inputs, TextPlan)
    if data is None or not text or not (folder / TOKENIZER_CONFIG).is_file():
        return []
    card = ready.facts.card
    with _to_errors():
        wrong = check_against_transformers(
            data, folder, card.source, vocabulary_size(card.config)
        )
    warn(wrong)
    return [
        {
            "name": "tokenizer, all samples",
            "measured": float(len(wrong)),
            "bound": 0.0,
            "holds": not wrong,
            "note": wrong[0].message if wrong else "",
        }
    ]


@contextmanager
def _to_errors() -> Iterator[None]:
    """Keep standard output for the answer: libraries print what they please."""
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        yield


def refresh_reference(ready: Ready, args: argparse.Namespace) -> tuple[Ready, bool]:
    """Store what transformers computes as a fact, and build the package with it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / gather.REFERENCE
        module = f"{ready.name}.test_model"
        ended = ready.programs.python(
            "-c", WRITE, module, ready.reference(), path, output="drop"
        )
        if ended.code or not path.is_file():
            raise fail(
                "G511",
                "transformers' own outputs could not be stored: exit code "
                f"{ended.code}",
                help="what it said stands above; transformers must know the backbone",
            )
        data = path.read_bytes()
    old = ready.facts.reference
    if old is not None and same(old, data):
        return ready, False
    spec_file = ready.spec_file
    facts = replace(ready.facts, reference=data)
    store(ready, facts)
    plan = building.plan(spec_file, facts, args.out)
    return replace(ready, built=building.build(plan)), True


def store(ready: Ready, facts: gather.Facts) -> None:
    """Save what was measured and stored among the facts beside the spec; the rest is as it
    is there, which of a job that is pruned in steps says more than what it starts from.
    """
    root = Path(ready.spec_file.file).resolve().parent
    folder = gather.facts_folder(root, ready.name)
    there = gather.load_facts(folder) or facts
    new = replace(there, measured=facts.measured, reference=facts.reference)
    gather.save_facts(new, folder)


def same(a: bytes, b: bytes) -> bool:
    """Whether two references agree but for the last digits."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        old, new = load(a), load(b)
    except SafetensorError:
        return False
    if {k: v.shape for k, v in old.items()} != {k: v.shape for k, v in new.items()}:
        return False
    return all(
        abs(old[k] - new[k]).max(initial=0.0) <= SAME * abs(new[k]).max(initial=0.0)
        for k in new
    )


def failed_to_run(error: GenError) -> list[dict[str, Any]]:
    """A certificate that gave no answer, as one check that does not hold."""
    note = "; ".join(d.message for d in error.diagnostics)
    check = {"name": "certificate", "measured": None, "bound": 0.0, "holds": False}
    return [check | {"note": note}]
