"""How much memory a process of its own takes, beyond what it had when it began.

Programs beside this file read it by its path: they have nothing of the compiler to import.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def begin() -> int:
    """Bytes that the process holds now, from where its peak is counted; what is free goes
    back to the system first."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        RESET.write_text("5")  # of the peak, to what is held now (Linux)
    except OSError:
        pass
    return peak()


def peak() -> int:
    """The most bytes that it held at once."""
    if STATUS.is_file():
        # getrusage's figure would be the parent's, where that held more.
        lines = (line.split() for line in STATUS.read_text().splitlines())
        return next(1024 * int(words[1]) for words in lines if words[0] == "VmHWM:")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
