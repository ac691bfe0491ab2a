"""train.py in processes of their own, which end as it says, or by SIGKILL.

They are forked from a server that has imported torch. Each imports this module, where
what is done to train.py there is: it needs no more than the standard library.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warm import SERVER

NAME = "tiny_job"

Hook = Callable[[Any], None]


def start(folder: Path, *argv: str, hook: Hook | None = None, name: str = NAME) -> Any:
    """train.py in a process of its own; what it says goes to `folder`/log."""
    process = SERVER.Process(target=_child, args=(str(folder), name, argv, hook))
    process.start()
    return process


def run(folder: Path, *argv: str, hook: Hook | None = None, name: str = NAME) -> int:
    """The exit code of train.py; the negative of a signal's number, if it was killed."""
    process = start(folder, *argv, hook=hook, name=name)
    process.join(600)
    assert process.exitcode is not None, "train.py hangs"
    return process.exitcode


def _child(folder: str, name: str, argv: tuple[str, ...], hook: Hook | None) -> None:
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.path.insert(0, folder)
    train = importlib.import_module(f"{name}.train")
    record_rows(train)
    if hook:
        hook(train)
    sys.exit(train.main([*argv, "--quiet"]))


def record_rows(train: Any) -> None:
    """Have the rows of every batch written to `rows`, with its epoch and number."""
    batches = train.data.batches

    def recorded(split: Any, epoch: int, start: int = 0) -> Any:
        for number, batch in enumerate(batches(split, epoch, start), start):
            with open("rows", "a") as file:
                rows = [int(row) for row in batch.rows]
                file.write(json.dumps([epoch, number, rows]) + "\n")
            yield batch

    train.data.batches = recorded


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


POINTS = (
    "metrics flushed",
    "before writing",
    "half written",
    "written",
    "flushed",
    "before renaming",
    "renamed",
    "folder flushed",
    "best model renamed",
    "before removing",
    "removed",
)


def kill_at(point: str, nth: int, train: Any) -> None:
    """Die the nth time that a save comes to a point."""
    left = itertools.count(nth - 1, -1)

    def here(name: str) -> None:
        if name == point and next(left) == 0:
            die()

    save_file, flush = train.save_file, train.flush
    replace_, unlink = os.replace, Path.unlink

    def saving(tensors: Any, path: Path, metadata: Any) -> None:
        here("before writing")
        save_file(tensors, path, metadata)
        if point == "half written":
            os.truncate(path, path.stat().st_size // 2)
        here("half written")
        here("written")

    def flushing(path: Path) -> None:
        flush(path)
        here("folder flushed" if path.is_dir() else "flushed")
        if path.name == "metrics.jsonl":
            here("metrics flushed")

    def replacing(source: Path, target: Path) -> None:
        here("before renaming")
        replace_(source, target)
        here("renamed")
        if target.name == "model.safetensors":
            here("best model renamed")

    def unlinking(self: Path, *args: Any, **kwargs: Any) -> None:
        here("before removing")
        unlink(self, *args, **kwargs)
        here("removed")

    train.save_file, train.flush = saving, flushing
    os.replace, Path.unlink = replacing, unlinking  # type: ignore[assignment]


def kill_after(steps: int, seconds: float, train: Any) -> None:
    """Die some time after a step, wherever it is by then, and before the process ends."""

    def late() -> None:
        time.sleep(seconds)
        die()

    at_step(steps, lambda: threading.Thread(target=late).start(), train)


def signal_at(steps: int, number: int, train: Any) -> None:
    """Send itself a signal in a step."""
    at_step(steps, lambda: os.kill(os.getpid(), number), train)


def sleep_at(steps: int, train: Any) -> None:
    at_step(steps, lambda: time.sleep(3600), train)


def full_disk_at(steps: int, train: Any) -> None:
    """No file can grow beyond what a checkpoint needs, from a step on."""
    import resource

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    at_step(steps, full, train)


def at_step(steps: int, act: Callable[[], None], train: Any) -> None:
    step, seen = train.step, itertools.count(1)

    def counted(*args: Any) -> Any:
        result = step(*args)
        if next(seen) == steps:
            act()
        return result

    train.step = counted


def on_processor(train: Any) -> None:
    """Run the form for CUDA here."""
    import torch

    train.DEVICE = torch.device("cpu")


def spoil(steps: tuple[int, ...], train: Any, processor: bool = False) -> None:
    """Make the loss of some steps of this process not a number."""
    if processor:
        on_processor(train)
    forward, seen = train.Model.forward, itertools.count(1)

    def spoilt(self: Any, *inputs: Any) -> Any:
        logits = forward(self, *inputs)
        if self.training and next(seen) in steps:
            return logits * math.nan
        return logits

    train.Model.forward = spoilt
