"""Builds write what users get."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from laid_out import builds_write, finished


@pytest.fixture(scope="module", autouse=True)
def layout() -> Iterator[None]:
    with builds_write(finished):
        yield
