"""Copying a package into another repository, where it imports and runs on its own.

The copy obeys the same seals as a build: what was edited there is never overwritten. Its
imports are relative, so that it may stand inside any package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from generator.compile import LOCK, compile, digest, read_lock
from generator.errors import Diagnostic, GenError, fail
from generator.facts import Facts
from generator.render.text import markdown
from generator.runtime.build import facts_for, load_spec, writable
from generator.runtime.files import write_if_changed

LICENCES = "LICENCES.md"


def vendor(args: argparse.Namespace) -> int:
    """`gen vendor SPEC DEST`: writes DEST/<name>/."""
    spec_file = load_spec(args.spec)
    facts = facts_for(spec_file)
    folder = args.dest / spec_file.spec.name
    writable(folder)
    files = {LICENCES: licences(facts), **compile(spec_file, facts)}
    _unedited(folder, files)
    written = [n for n in files if n != LOCK and write_if_changed(folder / n, files[n])]
    if write_if_changed(folder / LOCK, files[LOCK]):
        written.append(LOCK)
    if args.json:
        print(json.dumps({"folder": str(folder), "written": written}, indent=1))
    elif not args.quiet:
        print(f"{folder}: {len(written)} of {len(files)} files written")
    return 0


def licences(facts: Facts) -> bytes:
    """What the copy's new owner may do with it."""
    card = facts.card
    licence = (
        card.licence or "not stated by its publisher: ask before you share weights"
    )
    source, licence = markdown(card.source), markdown(licence)
    return (
        "# Licences\n\n"
        "The source files here were generated for you; they are yours, without "
        "conditions.\n\n"
        f"The backbone's weights and tokenizer, {source}, are under: {licence}.\n"
    ).encode()


def _unedited(folder: Path, files: dict[str, bytes]) -> None:
    """GenError (G401, G402) where something in `folder` is not as gen left it."""
    try:
        data = (folder / LOCK).read_bytes()
    except FileNotFoundError:
        data = None
    lock = None if data is None else read_lock(data)
    if data is not None and lock is None:
        raise fail(
            "G402",
            f"{folder / LOCK} is not a lock that this gen reads",
            help="restore it from version control; without it no edit can be told",
        )
    seals = {} if lock is None else {n: f["seal"] for n, f in lock["files"].items()}
    edited = []
    for name, new in files.items():
        path = folder / name
        if name == LOCK or not path.exists():
            continue
        there = path.read_bytes()
        if there != new and digest(there) != seals.get(name):
            edited.append(path)
    if edited:
        raise GenError(
            [
                Diagnostic(
                    "G401",
                    f"{path} was edited by hand, and is not overwritten",
                    help="move it aside, vendor again, and put the edit back in",
                )
                for path in edited
            ]
        )
