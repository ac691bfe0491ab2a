"""Has a process killed when the one that began it ends, whatever ends that (Linux alone).

    python bound.py PID ARGUMENTS

is Python with these arguments, bound to the process of this number.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def die_with(parent: int) -> None:
    """Have this process killed when its parent ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, which exec keeps
    if os.getppid() != parent:  # it ended meanwhile
        os._exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
