"""Builds write what users get."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from laid_out import finished

from generator import compile as compiling
from generator.runtime import build as building


@pytest.fixture(scope="module", autouse=True)
def layout() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "finished", finished)
        patch.setattr(building, "finished", finished)
        yield
