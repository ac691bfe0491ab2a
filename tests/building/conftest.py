"""Formatting is the dearest step of a build, and a pure function: it is done once here."""

from __future__ import annotations

import functools

import pytest

from generator import compile as compiling
from generator.render import package
from generator.runtime import build as building


@pytest.fixture(scope="session", autouse=True)
def formatted_once():
    finished = functools.lru_cache(maxsize=1000)(package.finished)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "finished", finished)
        patch.setattr(building, "finished", finished)
        yield
