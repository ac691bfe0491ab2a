"""Every template serves some job, and a fault in it turns a test red."""

from __future__ import annotations

import ast
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
from oracle import job_of, tiny
from transformers import BertConfig, LlamaConfig
from whole_support import whole

from generated import assert_same, generated
from generator.render import text
from tests.building import faults
from tests.building.build_support import REPOSITORY

PARTS = 4  # that may run side by side


def test_every_template_has_a_fault_that_keeps_it_well_formed():
    names = {
        path.relative_to(text.TEMPLATES).as_posix()
        for path in text.TEMPLATES.rglob("*")
        if path.is_file()
    }
    assert names - faults.OF_RUNS == {fault.template for fault in faults.FAULTS}
    for fault in faults.FAULTS:
        assert fault.old != fault.new and fault.tests
        environment = faults.faulty_environment(fault)
        assert environment.get_template(fault.template) is not None
        for file in fault.tests[:1]:
            assert (REPOSITORY / file).is_file(), file


def test_a_view_without_what_a_template_reads_is_an_error():
    """A name that was forgotten in a view never becomes an empty string."""
    for path in sorted(text.TEMPLATES.rglob("*.j2")):
        name = path.relative_to(text.TEMPLATES).as_posix()
        if name in faults.OF_RUNS or "view." not in path.read_text():
            continue
        with pytest.raises((jinja2.UndefinedError, TypeError)):
            text.fill(name, object())


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_fault_in_each_template_turns_a_test_red(part: int):
    """Those tests are green without a fault: they are among those that run by themselves."""
    some = [fault.template for fault in faults.FAULTS[part::PARTS]]
    done = subprocess.run(
        [sys.executable, "-m", "tests.building.faults", *some],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    missed = [r["template"] for r in found if r["code"] != 1]
    assert not missed, f"no test sees the fault in {missed}"
    assert {r["template"] for r in found} >= {*some}


@pytest.mark.parametrize("kind", ["default", "longrope"])
def test_tables_of_positions_are_those_of_transformers(tmp_path: Path, kind: str):
    """LongRoPE's within the context that it was trained on: rows take short factors."""
    draw = random.Random(0)
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 1e4}
    if kind == "longrope":
        rope |= {
            "short_factor": [1 + draw.random() for _ in range(4)],
            "long_factor": [4 + draw.random() for _ in range(4)],
            "original_max_position_embeddings": 64,
        }
    config = LlamaConfig(
        vocab_size=41,
        hidden_size=24,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=8,
        num_hidden_layers=2,
        intermediate_size=30,
        max_position_embeddings=64,
        pad_token_id=0,
        rope_parameters=rope,
    )
    theirs, card, tensors = tiny(config, ("no", "yes"), seed=0)
    job = job_of(card, tensors, "text-classification", ("no", "yes"))
    model, module = generated(job, tensors, tmp_path)
    source = Path(module.__file__ or "").read_text()
    assert ("FACTORS = (" in source) == (kind == "longrope")
    assert_same(model, job, theirs, tensors)


def test_a_step_descends_by_the_loss_that_it_gives(tmp_path: Path):
    """The first loss is the cross-entropy of the rows, and steps make it small."""
    config = BertConfig(
        vocab_size=53,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=37,
        max_position_embeddings=21,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    made = whole(tmp_path, config, recipe={"lr": 1e-2, "weight_decay": 0.0})
    train, data = made.module("train"), made.module("data")
    model = made.module("model").load_pretrained(made.weights).train()
    ids = torch.arange(4, 40).view(4, 9)
    targets = torch.tensor([0, 1, 1, 0])
    batch = data.Batch((ids, None), targets, torch.arange(4), ids.numel())
    want = torch.nn.functional.cross_entropy(model(ids), targets).item()
    optimizer, criterion = train.make_optimizer(model), torch.nn.CrossEntropyLoss()
    losses = [train.step(model, criterion, optimizer, batch)[0] for _ in range(15)]
    assert losses[0] == pytest.approx(want, rel=1e-6)
    assert losses[-1] < 0.2 * losses[0]


def test_faults_are_python_still():
    """What a faulty template gives is well formed, so that no parser does the work."""
    from tests.building.build_support import drafts_of, text_facts
    from tests.building.test_injection import bland_text

    real = text.environment
    try:
        for fault in faults.FAULTS:
            if fault.template in ("model.py.j2", "train.py.j2", "init.py.j2"):
                faults.plant(fault)
                for one in drafts_of(bland_text("text"), text_facts()):
                    if one.python:
                        ast.parse(one.data)
    finally:
        text.environment = real
