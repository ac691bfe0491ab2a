"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import warm

from generator.runtime import programs


@pytest.fixture(scope="session", autouse=True)
def warm_programs() -> Iterator[None]:
    """Programs of packages start from a process that has torch already."""
    with pytest.MonkeyPatch.context() as patch:
        quick = {**vars(programs.subprocess), "Popen": warm.Popen}
        patch.setattr(programs, "subprocess", SimpleNamespace(**quick))
        yield
