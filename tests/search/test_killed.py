"""What is left of programs of a search that something ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from generator.errors import GenError
from generator.runtime import search_speed
from generator.runtime.programs import BOUND, Ended
from generator.runtime.search_job import MEMORY, RESULT, TRAINED, whole
from generator.runtime.search_programs import Forked, tried, why
from generator.runtime.search_store import lives, owner

KILLED = Ended(128 + signal.SIGKILL, "", False)


def test_a_program_that_is_killed_is_run_again(tmp_path: Path) -> None:
    """By itself, as a worker's trial is; here the first that runs kills itself."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, pathlib\n"
        f"path = pathlib.Path({str(tmp_path / 'seen')!r})\n"
        "if not path.exists():\n"
        "    path.touch()\n"
        "    os.kill(os.getpid(), 9)\n"
        "os.write(1, b'done')\n"
    )
    forked = Forked(tmp_path, "a", lambda: True, 1.0)
    ended = tried(lambda: forked.python(program))
    assert (ended.code, ended.output) == (0, "done")


def test_what_is_killed_each_time_fails_and_says_so() -> None:
    left = [KILLED] * 9
    assert tried(left.pop) == KILLED and len(left) == 6
    assert (
        why(KILLED, "") == "a signal ended it 3 times (9): is there too little memory?"
    )
    bad = [Ended(1, "Traceback\nValueError: no\n\n", False), KILLED]
    assert why(tried(lambda: bad.pop(0)), "") == "ValueError: no" and len(bad) == 1


def test_a_full_disk_is_no_fault_of_a_candidate() -> None:
    said = "Traceback\nOSError: [Errno 28] No space left on device: 'model'\n"
    with pytest.raises(GenError) as error:
        why(Ended(1, said, False), "")
    assert error.value.diagnostics[0].code == "G403"
    assert "'model'" in error.value.diagnostics[0].message


def test_a_training_is_done_when_what_predicts_is_made(tmp_path: Path) -> None:
    """train.py's own result is there before that."""
    assert not whole(tmp_path)
    (tmp_path / TRAINED).touch()
    (tmp_path / RESULT).write_text(json.dumps({"valid": {}, "test": {}}))
    assert not whole(tmp_path)
    (tmp_path / RESULT).write_text('{"valid"')  # killed while it was written
    assert not whole(tmp_path)
    (tmp_path / RESULT).write_text(json.dumps({"valid": {}, MEMORY: 1}))
    assert whole(tmp_path)


def test_weights_are_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(search_speed, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        search_speed.save({"a": torch.ones(1)}, tmp_path / TRAINED)
    assert not (tmp_path / TRAINED).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")
def test_a_bound_program_ends_with_whoever_began_it(tmp_path: Path) -> None:
    seen = tmp_path / "pid"
    child = f"import os, time; open({str(seen)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import os, subprocess, sys; subprocess.run([sys.executable, "
        f"{str(BOUND)!r}, str(os.getpid()), '-c', {child!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    while not seen.exists() or not seen.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    pid = int(seen.read_text())
    program, deadline = owner(pid), time.monotonic() + 120
    while lives(program):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("it is still there")
        time.sleep(0.05)
