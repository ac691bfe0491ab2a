"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import warm
from laid_out import builds_write, drafted

from generator.runtime import programs


def pytest_collection_finish() -> None:
    """What torch and transformers made when imported is never garbage: half a million
    objects that every full collection would go through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def warm_programs() -> Iterator[None]:
    """Programs of packages start from a process that has torch already."""
    with pytest.MonkeyPatch.context() as patch:
        quick = {**vars(programs.subprocess), "Popen": warm.Popen}
        patch.setattr(programs, "subprocess", SimpleNamespace(**quick))
        yield


@pytest.fixture(scope="module", autouse=True)
def layout() -> Iterator[None]:
    """Builds write drafts. Where files are compared to the byte, a conftest.py nearer by
    has them laid out."""
    with builds_write(drafted):
        yield
