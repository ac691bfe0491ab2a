"""Programs of packages in processes that have torch and transformers already.

A program that a test starts spends most of its time importing them. Here a server that has
imported them once forks for each program instead: a process of its own all the same, with
its own arguments, environment, folder and exit code. How programs are started for real is
what tests/runtime/test_programs.py is about.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any

from generator.runtime.programs import BOUND

LOADED = [
    "torch",
    "torch._dynamo",  # which torch.optim imports when it is first used
    "torch.utils.flop_counter",
    "safetensors.torch",
    "tokenizers",
    "tqdm",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.models.vit.modeling_vit",
]
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(LOADED)


def program(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: str | None,
    errors: str | None,
) -> None:
    """What the forked process does: be Python with these arguments."""
    for path, number in ((os.devnull, 0), (output, 1), (errors, 2)):
        if path is not None:
            flags = (
                os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            )
            os.dup2(os.open(path, flags, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    mine = environment.get("PYTHONPATH", "").split(os.pathsep)
    # What pytest put there is of the tests alone.
    here = Path(__file__).parent
    tests = (str(here), os.path.join(here, ""))
    others = (p for p in sys.path if p and p != str(here.parent))
    sys.path[:] = [*mine, *(p for p in others if p != tests[0] and tests[1] not in p)]
    first, *rest = arguments
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


class Popen:
    """As much of subprocess.Popen as programs.py uses."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdout: int | None,
        stderr: IO[bytes] | None,
        **_: Any,
    ) -> None:
        assert command[0] == sys.executable
        self.stdout, self.stderr = stdout, stderr
        self.folder = tempfile.TemporaryDirectory()
        self.files = [os.path.join(self.folder.name, n) for n in ("output", "errors")]
        arguments = list(command[1:])
        if arguments[0] == str(
            BOUND
        ):  # to this process, and here the server is above it
            del arguments[:2]
        if arguments[0] == "-c":
            file = Path(self.folder.name, "program.py")
            file.write_text(arguments[1])
            arguments[:2] = [str(file)]
        self.child: Any = SERVER.Process(
            target=program, args=(arguments, dict(env), *self.files)
        )
        self.child.start()
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.child.is_alive():
            os.kill(self.child.pid, number)

    def communicate(self) -> tuple[str | None, None]:
        self.child.join()
        self.returncode = self.child.exitcode
        output, errors = (
            Path(f).read_bytes() if os.path.exists(f) else b"" for f in self.files
        )
        if self.stderr is not None:
            self.stderr.write(errors)
        else:
            os.write(2, errors)
        if self.stdout is None:
            os.write(1, output)
        self.folder.cleanup()
        kept = self.stdout == subprocess.PIPE
        return (output.decode(errors="replace") if kept else None), None
