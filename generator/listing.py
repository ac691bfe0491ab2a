"""What there is: the lines of `gen list`. Each kind is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator


def listing(what: str) -> Iterator[str]:
    """A line for each of the archs, edits, passes, tasks, ops or codes."""
    match what:
        case "archs":
            from generator import archs

            for name in archs.names():
                module = archs.module(name)
                types, tasks = ", ".join(module.MODEL_TYPES), ", ".join(module.TASKS)
                yield f"{name:12} {types:36} {tasks}"
        case "edits":
            from generator.passes import EDITS

            for edit in EDITS.values():
                yield f"{edit.name:16} {edit.doc}; equal to {edit.exact}"
        case "passes":
            from generator.passes import PASSES

            for one in PASSES:
                keeps = ", ".join(sorted(one.preserves))
                yield f"{one.name:24} {one.doc}; keeps {keeps}"
        case "tasks":
            from generator.spec.key import TASKS

            yield from TASKS
        case "ops":
            from generator.ir.ops import OPS

            yield from OPS
        case "codes":
            from generator.codes import CODES

            for code in sorted(CODES):
                yield f"{code}  {CODES[code].title}"
