"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import warm
from hypothesis import HealthCheck, settings
from laid_out import builds_write, drafted

from generator.runtime import programs

# How long drawing takes says more about the machine than about what is drawn.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


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
