"""The lists of what edits keep, beside the package: kept.safetensors.

A list of a few entries stands in model.py itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from generator.ir.job import Job

FILE = "kept.safetensors"
FEW = 8  # the most entries that a line of source has


def render(job: Job) -> bytes | None:
    """The file's bytes, the lists by their names; None where there are none."""
    found = lists(job)
    if not found:
        return None
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, index in sorted(found.items()):
        stop = start + 8 * len(index)
        header[name] = {
            "dtype": "I64",
            "shape": [len(index)],
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(
        struct.pack(f"<{len(index)}q", *index) for _, index in sorted(found.items())
    )
    return len(text).to_bytes(8, "little") + text + data


def lists(job: Job) -> Mapping[str, tuple[int, ...]]:
    """The lists that are too long for a line, by their names."""
    return {n: index for n, index in job.model.kept.items() if len(index) > FEW}
