"""`gen export`: the trained model for other programs, by the package's own export.py.

A package has one where its spec asks for it. For the others one is compiled for this run
alone, in a temporary folder, from the same spec with the export asked for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from generator.compile import draft
from generator.errors import fail
from generator.ir.plans import Kind
from generator.render.export import KINDS, deployed
from generator.render.package import finished
from generator.runtime import deployment, tables, terminal
from generator.runtime.programs import Programs, installed
from generator.runtime.ready import Package, package

TRAINED, DEPLOYED, FIGURES = "model.safetensors", deployment.WEIGHTS, "export.json"


def export(args: argparse.Namespace) -> int:
    """The command."""
    it = package(args)
    weights = args.weights or weights_of(it, args.to)
    need_weights(it, weights, "or name a file with --weights")
    folder = args.into or it.work / "export" / args.to
    with programs(it, args.to) as its:
        found = written(it, its, args.to, folder, weights, args.rows)
    if args.json:
        print(json.dumps({"name": it.name, "folder": str(folder), **found}, indent=1))
    elif not args.quiet:
        terminal.show([tables.exports({args.to: found})])
        print(f"Exported: {folder}")
    return 0


def every(it: Package) -> dict[str, dict[str, Any]]:
    """All that the spec asks for, below the work folder; the figures of each."""
    kinds = it.plan.compiled.job.export.to
    weights = {kind: weights_of(it, kind) for kind in kinds}
    for path in weights.values():  # before the first takes its time
        need_weights(it, path)
    return {
        kind: written(it, it.programs, kind, it.work / "export" / kind, weights[kind])
        for kind in kinds
    }


def weights_of(it: Package, kind: str) -> Path:
    """The file of the model that an export is of."""
    return it.work / (DEPLOYED if deployed(it.plan.compiled.job, kind) else TRAINED)


def need_weights(it: Package, weights: Path, otherwise: str = "") -> None:
    """GenError where there are none, which says how they come to be."""
    if weights.is_file():
        return
    which, run = "trained", f"gen run {it.spec_file.file}"
    mend = f"{run} writes them"
    if weights == it.work / DEPLOYED:
        which = "deployed"
        if (it.work / deployment.FILE).is_file():
            mend = (
                f"deploy.py measured that model and refused to write it, by the figures in "
                f"{it.work / deployment.FILE}; {run} --resume --anyway writes it all the same"
            )
    raise fail(
        "G555",
        f"there are no {which} weights at {weights}",
        help=f"{mend}, {otherwise}" if otherwise else mend,
    )


@contextmanager
def programs(it: Package, kind: Kind) -> Iterator[Programs]:
    """The programs of the package, or of one like it that has this export."""
    if kind in it.plan.compiled.job.export.to:
        yield it.programs
        return
    deploy = replace(it.spec_file.spec.deploy, export=(kind,))
    asked = replace(it.spec_file, spec=replace(it.spec_file.spec, deploy=deploy))
    with TemporaryDirectory() as parent:
        folder = Path(parent) / it.name
        folder.mkdir()
        for one in draft(asked, it.facts).drafts:
            (folder / one.path).write_bytes(finished(one))
        yield Programs(Path(parent), it.name, it.programs.quiet)


def written(
    it: Package,
    its: Programs,
    kind: str,
    folder: Path,
    weights: Path,
    rows: int | None = None,
) -> dict[str, Any]:
    """The figures of an export that is in its folder. GenError where it is not."""
    absent = [name for name in KINDS[kind][1] if not installed(name)]
    if absent:
        raise fail(
            "G556",
            f"{', '.join(absent)} is needed to export to {kind}, and is not installed here",
            help='pip install "gen-compiler[export]"',
        )
    arguments = ["--to", kind, "--root", it.root, "--work", it.work]
    arguments += ["--weights", weights, "--out", folder]
    if rows is not None:
        arguments += ["--rows", str(rows)]
    ended = its.module("export", *arguments, output="drop")
    if ended.code == 1:
        raise fail(
            "G557",
            f"what was exported to {kind} does not answer as the model does",
            help="nothing is written; the figures stand above",
        )
    if ended.code:
        raise fail(
            "G558",
            f"the export to {kind} ended with exit code {ended.code}",
            help="what it said stands above; nothing is written",
        )
    return json.loads((folder / FIGURES).read_bytes())
