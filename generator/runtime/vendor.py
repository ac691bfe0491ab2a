"""`gen vendor`: a package in another repository, with its licences and its lock.

The package is compiled anew rather than copied, so that what arrives is what the spec
says. There it is under the same rules as where it is built: the lock seals each file,
and one that was edited by hand is never overwritten. Its imports are relative, so that
it may stand inside any package.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path

from generator.compile import draft
from generator.errors import Diagnostic, GenError, fail
from generator.locking import LOCK
from generator.runtime import build as building
from generator.runtime.licences import LICENCES, with_licences


def vendor(args: argparse.Namespace) -> int:
    """`gen vendor SPEC DEST`. 0; GenError where something of the user's would be lost."""
    spec_file = building.load_spec(args.spec)
    facts = building.facts_for(spec_file)
    compiled = draft(spec_file, facts)
    if not args.force:
        built = args.out / spec_file.spec.name
        _expect_no_edits(building.compare(spec_file, compiled, facts, built))
    compiled = with_licences(compiled, facts.card)
    folder = args.dest / spec_file.spec.name
    building.writable(folder)
    plan = building.compare(spec_file, compiled, facts, folder)
    _expect_ours(plan)
    edited = plan.those("edited")
    if edited and not args.force:
        raise GenError([_edited(folder / path, args.spec) for path in edited])
    written, removed = put(plan, args.force)
    figures = {
        "name": spec_file.spec.name,
        "folder": str(folder),
        "written": written,
        "removed": removed,
        "licence": facts.card.licence,
    }
    if args.json:
        print(json.dumps(figures, indent=1))
    elif not args.quiet:
        count = f"{len(written)} written" if written else "nothing to do"
        print(f"{folder}: {count}, {len(compiled.drafts) + 1} files")
        for path in removed:
            print(f"  removed {path}, which is no longer part of it")
        if facts.card.licence is None:
            print(f"  the backbone states no licence: see {folder / LICENCES}")
    return 0


def put(plan: building.Plan, force: bool) -> tuple[list[str], list[str]]:
    """Write the package; where there was none, it is there whole or not at all."""
    if plan.folder.exists():
        built = building.build(plan, force=force)
        return list(built.written), list(built.removed)
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own inside, so that it has the usual permissions.
    with tempfile.TemporaryDirectory(
        dir=plan.folder.parent, prefix=f".{plan.folder.name}."
    ) as unfinished:
        inner = Path(unfinished) / plan.folder.name
        built = building.build(replace(plan, folder=inner))
        os.rename(inner, plan.folder)
    return list(built.written), []


def _expect_no_edits(plan: building.Plan) -> None:
    """What was edited where the package is built would not be in the copy."""
    edited = plan.those("edited")
    if edited:
        raise GenError(
            [
                Diagnostic(
                    "G405",
                    f"{plan.folder / path} was edited by hand, and the copy, which is "
                    "compiled from the spec, would not have the edit",
                    help="undo it, or leave it behind: "
                    f"gen vendor {shlex.quote(plan.spec_file.file)} DEST --force",
                )
                for path in edited
            ]
        )


def _expect_ours(plan: building.Plan) -> None:
    """A folder that is there already has to be one of gen's."""
    folder = plan.folder
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LOCK).is_file():
        raise fail(
            "G406",
            f"{folder} is there already, and has no {LOCK}: it is no package of gen's",
            help="choose another DEST, or another name in the spec",
        )


def _edited(path: Path, spec: Path) -> Diagnostic:
    dest = path.parent.parent
    return Diagnostic(
        "G407",
        f"{path} was edited by hand since it was vendored, and is not overwritten",
        help="keep the edit elsewhere, then: "
        + shlex.join(["gen", "vendor", str(spec), str(dest), "--force"]),
    )
