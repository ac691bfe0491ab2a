"""Sources have sound types, in one go: pyright reads torch once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_cache
import test_stages
import train_support as support
from test_train import variants
from train_support import tiny_job
from whole_support import whole


def trained(folder: Path) -> Iterator[Path]:
    """train.py of many recipes."""
    for number, settings in enumerate(variants(12, seed=2)):
        settings.pop("distill")  # whose teacher.py is that of another job
        name = f"recipe_{number}"
        support.write_package(folder, tiny_job(**settings), name)
        yield folder / name / "train.py"


def kept(folder: Path) -> Iterator[Path]:
    """Packages that keep what a frozen prefix gives."""
    for case, form in (("text", "plain"), ("images", "cuda"), ("decoder", "bf16")):
        config, sizes, options = test_cache.CASES[case]
        options = {**options, **test_cache.FORMS[form]}
        made = whole(folder / case, config(**sizes), **options)
        yield from (made.package / "train.py", made.package / "model.py")


def staged(folder: Path) -> Iterator[Path]:
    """Packages that train in stages."""
    for case, kind, form in (
        ("text", "three", "plain"),
        ("images", "three", "cuda"),
        ("decoder", "all kept", "cuda, bf16"),
        ("text", "none kept", "accumulated"),
        ("pairs", "not frozen", "compiled"),
    ):
        stages = test_stages.KINDS[kind]
        form = test_stages.FORMS[form]
        made = test_stages.make(folder / f"{case} {kind}", case, stages=stages, **form)
        yield from (made.package / "train.py", made.package / "model.py")


def test_every_form_has_sound_types(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    files = [f for write in (trained, kept, staged) for f in write(tmp_path)]
    assert len(files) == 12 + 2 * 3 + 2 * 5
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
