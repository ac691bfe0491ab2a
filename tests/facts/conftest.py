"""Shared by the tests of facts: small checkpoints, and a fake hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from facts_hub import FakeHub
from facts_samples import write_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with a tiny BERT-like checkpoint: weights, config, tokenizer, card."""
    return write_checkpoint(tmp_path / "tiny")


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[FakeHub]:
    """A hub that serves that checkpoint as acme/tiny."""
    with FakeHub({"acme/tiny": checkpoint}) as fake:
        yield fake


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Runs Python code in a process of its own and returns what it prints.

    Settings of the hub's client are read when it is imported, so that tests of them need
    one; so do tests of what gets imported.
    """

    def run(code: str, **environment: str) -> str:
        keep = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        settings = {
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(tmp_path / "hf_home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=keep | settings | environment,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
