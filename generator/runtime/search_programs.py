"""Programs of candidates' packages, in processes forked from one that has torch already.

The start of Python with torch takes seconds, which a search would pay for every rung. A
worker imports it once, uses it never, and forks. The fork is a process of its own, with
arguments, environment and exit code; it ends with the worker, whatever ends that.
"""

from __future__ import annotations

import errno
import fcntl
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from generator.errors import fail
from generator.runtime.bound import die_with
from generator.runtime.programs import SIGNALLED, TAIL, Ended, Programs

# An optimizer brings torch._dynamo, which takes as long as the rest.
LOADED = ("torch", "torch._dynamo", "safetensors.torch", "tokenizers", "tqdm")
TICK = 0.05  # seconds between two looks at a program
LOOK = 0.1  # seconds between two looks at whether another worker is done
TRIES = 3  # of a program that something kills
Beat = Callable[[], bool]


class Lost(Exception):
    """The trial is another worker's by now."""


def tried(run: Callable[[], Ended]) -> Ended:
    """A program that is run again where something killed it, as the trial of a worker is
    that was killed. Not without end: what lacks memory is killed each time."""
    for _ in range(TRIES - 1):
        ended = run()
        if ended.code < SIGNALLED:
            return ended
    return run()


def why(ended: Ended, otherwise: str) -> str:
    """Why a program failed, by the last line that it said. GenError for a full disk, which
    is no fault of the candidate's."""
    lines = [line for line in ended.output.splitlines() if line.strip()]
    for code in (errno.ENOSPC, errno.EDQUOT):
        found = next((x for x in lines if os.strerror(code) in x), None)
        if found is not None:
            raise fail(
                "G403",
                f"a candidate cannot be built or trained here: {found.strip()[:300]}",
                help="make room, and run this again: its trial is begun again, and those "
                "that are done stay",
            )
    if ended.code >= SIGNALLED:
        number = ended.code - SIGNALLED
        said = f"a signal ended it {TRIES} times ({number})"
        return f"{said}: is there too little memory?" if number == 9 else said
    return lines[-1][:300] if lines else otherwise


@contextmanager
def alone(path: Path, beat: Beat) -> Iterator[None]:
    """Whoever holds this file does it while no other worker of this machine does."""
    with open(path, "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                beat()
                time.sleep(LOOK)
        yield


def warm() -> None:
    """Import what programs of packages do."""
    import importlib

    for name in LOADED:
        importlib.import_module(name)


@dataclass(frozen=True)
class Forked:
    """The programs of the package `name` in `parent`. `beat` is called all the while."""

    parent: Path
    name: str
    beat: Beat
    every: float  # seconds between two beats

    def module(self, module: str, *arguments: str | Path) -> Ended:
        return self._run(["-m", f"{self.name}.{module}", *map(str, arguments)])

    def python(self, *arguments: str | Path) -> Ended:
        return self._run([*map(str, arguments)])

    def _run(self, arguments: Sequence[str]) -> Ended:
        """What it printed is the output; what it complained of too, where it failed."""
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "output"), Path(folder, "errors")
            environment = Programs(self.parent, self.name).environment(os.environ)
            me = os.getpid()
            child = os.fork()
            if not child:
                _be(arguments, environment, files, me)
            try:
                code = self._wait(child)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                raise
            said = files[1].read_text(errors="replace")[-TAIL:]
            output = files[0].read_text(errors="replace")
        return Ended(code if code >= 0 else 128 - code, said if code else output, False)

    def _wait(self, child: int) -> int:
        last = time.monotonic()
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() - last > self.every:
                last = time.monotonic()
                if not self.beat():
                    raise Lost
            time.sleep(TICK)


def _be(
    arguments: Sequence[str],
    environment: dict[str, str],
    files: tuple[Path, Path],
    parent: int,
) -> NoReturn:
    """What the fork does: be Python with these arguments, and end without the cleaning up
    of what is the parent's."""
    code = 1
    try:
        die_with(parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, flags, 0o600), number)
        os.environ.clear()
        os.environ.update(environment)
        mine = environment.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:] = [*mine, *(p for p in sys.path if p and p not in mine)]
        code = _main(list(arguments))
    except BaseException:  # noqa: BLE001, whatever it is, this process ends here
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _main(arguments: list[str]) -> int:
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0
