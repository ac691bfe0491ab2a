"""Running a package's own programs, as a user would: `python -m <package>.train`.

Each is a process of its own, with the package's parent folder as the place to import
from and nothing of this one's. Signals reach it, and its exit code is passed on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

# pass: to this process's standard output; keep: into `Ended.output`; drop: nowhere.
Output = Literal["pass", "keep", "drop"]
BOUND = Path(__file__).with_name("bound.py")
SIGNALLED = 128  # from where an exit code says that a signal ended a program
TAIL = 4000  # characters of what a program said that an error repeats


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int  # as a shell gives it: 128 and the number for a signal
    output: str  # its standard output, where that was kept
    stopped: bool  # whether a signal came meanwhile


@dataclass(frozen=True)
class Programs:
    """The programs of the package `name` in `parent`."""

    parent: Path
    name: str
    quiet: bool = False  # what a program says is shown only if it fails
    bound: bool = False  # a program is killed where this process is (Linux alone)

    def module(
        self,
        module: str,
        *arguments: str | Path,
        output: Output = "pass",
        saves: bool = False,
    ) -> Ended:
        """`python -m name.module arguments`."""
        named = ("-m", f"{self.name}.{module}")
        return self.python(*named, *arguments, output=output, saves=saves)

    def python(
        self, *arguments: str | Path, output: Output = "pass", saves: bool = False
    ) -> Ended:
        """Python with these arguments, where the package can be imported.

        KeyboardInterrupt once it has ended where a signal came meanwhile, unless it
        `saves`: then its exit code says what became of that.
        """
        bound = [BOUND, os.getpid()] if self.bound else []
        command = [sys.executable, *map(str, [*bound, *arguments])]
        environment = self.environment(os.environ)
        with _errors(self.quiet) as errors:
            child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=_STDOUT[output],
                stderr=errors,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            with _signals_to(child) as signals:
                kept, _ = child.communicate()
            said = ""
            if errors is not None:
                errors.seek(0)
                said = errors.read().decode(errors="replace")[-TAIL:]
        if signals and not saves:
            raise KeyboardInterrupt
        code = child.returncode
        if code and said:
            sys.stderr.write(said)
        return Ended(code if code >= 0 else 128 - code, kept or "", bool(signals))

    def environment(self, outer: Mapping[str, str]) -> dict[str, str]:
        """Variables of the process: the package is found, and nothing of the folder
        that it happens to be started in. The programs need no hub."""
        path = [str(self.parent.resolve()), outer.get("PYTHONPATH", "")]
        return {
            **outer,
            "PYTHONPATH": os.pathsep.join(p for p in path if p),
            "PYTHONSAFEPATH": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # those of loading a small file
            # A new head is no news to whoever asked for one.
            "TRANSFORMERS_VERBOSITY": outer.get("TRANSFORMERS_VERBOSITY", "error"),
        }


_STDOUT = {"pass": None, "keep": subprocess.PIPE, "drop": subprocess.DEVNULL}


@contextmanager
def _errors(quiet: bool) -> Iterator[IO[bytes] | None]:
    if not quiet:
        yield None
        return
    with tempfile.TemporaryFile() as file:
        yield file


@contextmanager
def _signals_to(child: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM on as SIGTERM, and wait on for the child to end.

    A terminal sends its interrupt to both; a program that saves on either does so once.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen  # only the main thread may set handlers
        return

    def forward(number: int, frame: object) -> None:
        seen.append(number)
        child.send_signal(signal.SIGTERM)

    before = {
        number: signal.signal(number, forward)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def installed(module: str) -> bool:
    """Whether a package's programs could import it; it is not imported."""
    from importlib.util import find_spec

    return find_spec(module) is not None


def shown(arguments: Sequence[str | Path]) -> str:
    """A command line to show, quoted for a shell."""
    import shlex

    return shlex.join(map(str, arguments))
