"""A folder for transformers: its own class reads it, and computes what the model does."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from export_support import batches, made, trained
from test_certificate import CASES

from generator.errors import GenError
from generator.ir.job import Job
from generator.ir.saving import Unsaveable
from generator.ir.verify import verify
from generator.passes import EDITS
from tests.edits.test_together import ARGUMENTS, _fits

BOUND = 1e-5


def far(it: Any, folder: Path) -> float:
    """The largest difference of a logit, once transformers has read the folder."""
    folder.mkdir()
    module, model = it.module("export"), trained(it)
    answer = module.to_transformers(model, folder)
    figures = module.compared(answer, model, batches(it))
    assert figures["rows"] > 4
    return figures["largest_difference"]


@pytest.mark.parametrize("case", CASES)
def test_transformers_computes_the_same(case: str, tmp_path: Path) -> None:
    it = made(tmp_path, case, to=("transformers",))
    assert far(it, tmp_path / "out") <= BOUND
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(config["id2label"].values()) == list(it.job.labels)


QUICK, MORE = 8, 80 if os.environ.get("GEN_ALL_EDITS") else 24


def check(seed: int, folder: Path) -> bool:
    """Whether any three edits leave a model that transformers has; then it is equal."""
    draw = random.Random(f"exported {seed}")
    case = draw.choice([case for case in CASES if "," not in case])
    done: list[tuple[str, dict[str, Any]]] = []

    def edit(job: Job) -> Job:
        for do in draw.choices([*ARGUMENTS], k=6):
            if len(done) == 2:
                break
            if not _fits(case, do):
                continue
            arguments = ARGUMENTS[do](job, draw)
            try:
                after, _ = EDITS[do].run(job, **arguments)
                verify(after, after=do)
            except GenError:  # an order that is not admitted, and says so
                continue
            job = after
            done.append((do, arguments))
        print(case, done)  # shown where it fails
        return job

    layers = "n_layers" if case == "distilbert" else "num_hidden_layers"
    try:
        it = made(
            folder,
            case,
            to=("transformers",),
            edit=edit,
            sizes={layers: draw.randint(2, 4)},
            labels=("no", "yes"),
        )
    except Unsaveable as error:
        print(error)
        return False
    assert far(it, folder / "out") <= BOUND
    return True


@pytest.mark.parametrize("seed", range(QUICK))
def test_edited_models(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, MORE))
def test_more_edited_models(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)
