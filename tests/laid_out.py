"""How sources look once a build has laid them out, each worked out once.

That is the dearest step of a build by far, and a pure function. Tests that are not about
it do without (see conftest.py): drafts mean the same.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from generator import compile as compiling
from generator.render import package
from generator.render.package import Draft
from generator.runtime import build as building

finished = functools.lru_cache(maxsize=1000)(package.finished)


def formatted(source: str) -> str:
    """A source as `gen build` writes it."""
    return finished(Draft("draft.py", source.encode(), True)).decode()


def drafted(one: Draft) -> bytes:
    """A file as it is before that; what is no Python is an error all the same."""
    if one.python:
        ast.parse(one.data)
    return one.data


@contextmanager
def builds_write(files: Callable[[Draft], bytes]) -> Iterator[None]:
    """Builds in this process write what `files` makes of drafts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "finished", files)
        patch.setattr(building, "finished", files)
        yield
