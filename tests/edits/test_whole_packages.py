"""Any three edits on random tiny jobs, through their whole packages.

The certificate of each holds, train.py takes two steps, and what it writes loads strictly.
`GEN_ALL_EDITS=1 pytest tests/edits/test_whole_packages.py` runs all 200; CI takes a sample.
test_together.py has the models alone, of other sizes; trim-vocab, which needs a tokenizer
that can be cut, is tried there and in test_trim_vocab.py.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_cache import fill
from test_certificate import CASES
from whole_support import whole

from generator.errors import GenError
from generator.ir.job import Job
from generator.ir.verify import verify
from generator.passes import EDITS
from tests.edits.test_together import ARGUMENTS

QUICK, ALL = 6, 200 if os.environ.get("GEN_ALL_EDITS") else 24
KINDS = [case for case in CASES if "," not in case]


def pool(job: Job, draw: random.Random) -> dict[str, Any]:
    kind = draw.choice(["first", "last", "mean", "max", "attention"])
    return {"kind": kind, "dense": draw.random() < 0.3}


def head(job: Job, draw: random.Random) -> dict[str, Any]:
    kind = draw.choice(["linear", "mlp"])
    hidden = draw.choice([None, 7]) if kind == "mlp" else None
    return {"kind": kind, "hidden": hidden, "samples": draw.choice([1, 3])}


DRAWN = {**ARGUMENTS, "pool": pool, "head": head}


def check(seed: int, folder: Path) -> None:
    draw = random.Random(f"packages {seed}")
    case = draw.choice(KINDS)
    config, sizes, options = CASES[case]
    layers = "n_layers" if "n_layers" in sizes else "num_hidden_layers"
    done: list[tuple[str, dict[str, Any]]] = []

    def edit(job: Job) -> Job:
        for do in draw.choices([d for d in DRAWN if d != "trim-vocab"], k=8):
            if len(done) == 3:
                break
            if (do == "extend-positions" and case == "vit") or (
                do == "resize-image" and case != "vit"
            ):
                continue
            arguments = DRAWN[do](job, draw)
            try:
                after, _ = EDITS[do].run(job, **arguments)
                verify(after, after=do)
            except GenError:  # an order that is not admitted, and says so
                continue
            job = after
            done.append((do, arguments))
        print(case, done)  # shown where it fails
        return job

    sizes = {**sizes, layers: draw.randint(2, 4)}
    options = {**options, "labels": ("no", "yes"), "recipe": {"epochs": 1}}
    made = whole(folder, config(**sizes), **options, edit=edit)
    test = made.module("test_model")
    test.write_reference(made.weights)
    found = test.certificate(made.weights)
    assert [r for r in found if not r.holds and not _of_few_units(r)] == []
    assert sum(r.measured is not None for r in found) > 5

    fill(folder, made, "images" if case == "vit" else case)
    work = folder / "work"
    arguments = ["--root", folder, "--work", work, "--weights", made.weights, "--quiet"]
    assert made.module("train").main([*map(str, arguments)]) == 0
    result = json.loads((work / "result.json").read_text())
    assert result["step"] >= 2 and result["bad_steps"] == 0
    trained = load_file(work / "model.safetensors")
    assert all(t.isfinite().all() for t in trained.values())
    fresh = made.module("model").Model()
    fresh.load_state_dict(trained, strict=True)
    before = made.module("model").load_pretrained(made.weights).state_dict()
    assert any(not torch.equal(before[name], t) for name, t in trained.items())


def _of_few_units(result: Any) -> bool:
    """Whether it is merging in fp32, off by the rounding of random weights a few wide."""
    return result.name == "adapters merged or not, fp32" and result.measured < 5e-6


@pytest.mark.parametrize("seed", range(QUICK))
def test_three_edits(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_more_of_three_edits(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path)


def test_every_edit_is_tried() -> None:
    assert set(DRAWN) == set(EDITS)
