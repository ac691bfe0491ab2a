"""What varies, and the specs that it makes, which the compiler takes or refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from runtime_support import tiny_bert, write_job

from generator.importing import import_job
from generator.runtime import build as building
from generator.runtime.search import _job
from generator.runtime.search_draw import draw
from generator.runtime.search_job import Job
from generator.runtime.search_trial import identify
from generator.search.goals import OBJECTIVES
from generator.search.space import (
    Choice,
    candidate,
    choices,
    difference,
    probe,
    scoring,
    unedited,
)
from generator.spec import read_spec

CONFIG = tiny_bert(
    num_hidden_layers=4,
    num_attention_heads=4,
    hidden_size=32,
    intermediate_size=128,
)
EDITS = """
[search]
space = "structure"

[[search.vary]]
key = "edit"
choices = [[], [{ do = "keep-layers", n = 2 }, { do = "prune-ffn", keep = 0.5 }]]

[[search.vary]]
key = "train.lr"
low = 1e-3
high = 1e-2
when = { edit = [] }
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    path = write_job(tmp_path_factory.mktemp("space"), config=CONFIG, rows=8)
    return _job(building.load_spec(path), None)


def varied(job: Job, more: str = "") -> dict[str, Choice]:
    spec_file = read_spec(job.spec_file.text + more, job.spec_file.file)
    return {c.key: c for c in choices(spec_file, import_job(spec_file, job.facts))}


def test_the_ready_made_spaces(job: Job) -> None:
    every = varied(job)
    structure = varied(job, '\n[search]\nspace = "structure"\n')
    assert list(structure) == [
        "keep-layers.n",
        "keep-layers.choose",
        "prune-heads.keep",
        "prune-ffn.keep",
        "low-rank.rank",
        "prune-width.keep",
    ]
    assert structure["keep-layers.n"].high == 4
    assert structure["low-rank.rank"].labels == ("off", "8", "16")
    recipe = varied(job, '\n[search]\nspace = "recipe"\n')
    deploy = varied(job, '\n[search]\nspace = "deploy"\n')
    assert "train.lr" in recipe and "deploy.quantize" in deploy
    assert every == structure | recipe | deploy
    assert varied(job, '\n[search]\nspace = "none"\n') == {}


def test_what_a_spec_rules_out_is_not_varied(job: Job) -> None:
    rounds = (
        '\n[deploy]\nquantize = "int4-weights"\nquantize_aware = true\ngroup = 16\n'
    )
    found = varied(job, rounds + '\n[search]\nspace = "deploy"\n')
    assert found["deploy.quantize"].values == ("int8-weights", "int4-weights")
    assert "deploy.precision" not in found  # which is of what is not quantised


def test_what_is_named_is_not_varied_a_second_time(job: Job) -> None:
    own = varied(job, EDITS)
    assert list(own) == ["edit", "train.lr"]  # the structure's own are of the list too
    assert own["edit"].labels[0] == "[]"
    assert own["train.lr"].when == (("edit", ("[]",)),)


def test_a_candidate_is_a_spec(job: Job) -> None:
    known = list(varied(job).values())
    params = {
        "keep-layers.n": 2,
        "keep-layers.choose": "first",
        "prune-heads.keep": 1.0,
        "prune-ffn.keep": 0.5,
        "train.lr": 1e-3,
        "train.freeze": "1",
        "train.distill.teacher": "off",
        "deploy.quantize": "none",
    }
    text = candidate(job.spec_file.text + EDITS, params, known)
    spec = read_spec(text, "candidate").spec
    assert [edit.DO for edit in spec.edit] == ["keep-layers", "prune-ffn"]
    assert spec.train.freeze == 1 and spec.train.lr == 1e-3
    assert spec.train.distill.teacher is None and not spec.search.vary
    told = difference(unedited(job.spec_file.text), text)
    assert ["train.lr", 5e-3, 1e-3] in told and ["edit[0].n", None, 2] in told


METRIC = [OBJECTIVES["metric"]]


def edits(job: Job, text: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of a candidate, which the compiler takes."""
    spec_file = read_spec(text, job.spec_file.file)
    known = choices(spec_file, import_job(spec_file, job.facts))
    made = candidate(text, params, known)
    found, compiled = identify(made, job)
    assert compiled is not None, found.refused
    return tomllib.loads(made).get("edit", [])


def test_what_cannot_be_pruned_together_varies_apart(job: Job) -> None:
    known = [*varied(job).values()]
    seen = set()
    for number in range(60):
        params = draw("random", (0, number, 0), 40, [], known, METRIC).params
        asked = {k.split(".")[0] for k in params}
        if "prune-width" in asked:
            assert params["low-rank.rank"] == "off" and params["prune-ffn.keep"] == 1
        if "low-rank" in asked:
            assert params["prune-ffn.keep"] == 1
        seen |= asked
    assert {"low-rank", "prune-width"} <= seen
    whole = {"keep-layers.n": 4, "prune-heads.keep": 1.0, "prune-ffn.keep": 1.0}
    text = job.spec_file.text
    assert edits(job, text, {**whole, "low-rank.rank": "off"}) == []
    two = {
        **whole,
        "low-rank.rank": "8",
        "keep-layers.n": 2,
        "keep-layers.choose": "first",
    }
    assert edits(job, text, two) == [
        {"do": "keep-layers", "n": 2, "choose": "first"},
        {"do": "low-rank", "rank": 8, "on": ["ff.up", "ff.down"]},
    ]


NAMED = """
[[edit]]
do = "lora"
on = ["attention.q"]
rank = 4

[search]
space = "none"

[[search.vary]]
key = "lora.rank"
choices = ["off", 2, 8]

[[search.vary]]
key = "low-rank.rank"
choices = ["off", 8, 16]

[[search.vary]]
key = "low-rank.on"
choices = [["ff.up"], ["ff.up", "ff.down"]]

[[search.vary]]
key = "keep-layers.n"
low = 2
high = 3
"""


def test_edits_vary_by_their_names(job: Job) -> None:
    text = job.spec_file.text + NAMED
    joined = {"low-rank.rank": "16", "low-rank.on": '["ff.up"]', "keep-layers.n": 2}
    assert edits(job, text, {**joined, "lora.rank": "8"}) == [
        {"do": "keep-layers", "n": 2},
        {"do": "low-rank", "rank": 16, "on": ["ff.up"]},
        {"do": "lora", "on": ["attention.q"], "rank": 8},
    ]
    gone = {"low-rank.rank": "off", "low-rank.on": '["ff.up"]', "lora.rank": "off"}
    assert edits(job, text, gone) == []
    known = varied(job, NAMED.replace('"none"', '"structure"'))
    assert "prune-heads.keep" in known
    assert not {"prune-ffn.keep", "prune-width.keep", "keep-layers.choose"} & {*known}
    assert scoring(text, [*known.values()]) is not None


def test_specs_that_build_the_same_are_one_candidate(job: Job) -> None:
    text = job.spec_file.text
    first, compiled = identify(text, job)
    assert compiled is not None and not first.refused
    same = [text + EDITS, "# A comment.\n" + text, text + "\n[train.distill]\n"]
    assert {identify(one, job)[0].key for one in same} == {first.key}
    other = candidate(text, {"train.lr": 1e-3}, [Choice("train.lr", "float", 0, 1)])
    assert identify(other, job)[0].key != first.key


def test_what_the_compiler_refuses_is_told(job: Job) -> None:
    text = job.spec_file.text
    for more, code in (
        ('\n[[edit]]\ndo = "keep-layers"\nn = 9\n', "G2"),
        ('\n[[edit]]\ndo = "keep-layers"\nlayers = 9\n', "G006"),
    ):
        found, compiled = identify(text + more, job)
        assert compiled is None and found.refused.startswith(code)


def test_the_baselines(job: Job) -> None:
    text = job.spec_file.text + EDITS + '\n[[edit]]\ndo = "keep-layers"\nn = 2\n'
    assert unedited(text).rstrip() == job.spec_file.text.rstrip()
    spec = read_spec(probe(unedited(text), 4), "probe").spec
    assert spec.train.freeze == 4 and not spec.edit


def test_scores_are_asked_for_where_candidates_need_them(job: Job) -> None:
    text = job.spec_file.text
    assert (
        scoring(text, list(varied(job, '\n[search]\nspace = "deploy"\n').values()))
        is None
    )
    asked = scoring(text, list(varied(job).values()))
    assert asked is not None
    assert [e.DO for e in read_spec(asked, "asked").spec.edit] == [
        "keep-layers",
        "prune-heads",
        "prune-ffn",
        "prune-width",
    ]
    listed = scoring(text, list(varied(job, EDITS).values()))
    assert listed is not None and "prune-ffn" in listed


def test_a_search_changes_no_byte_of_the_package(job: Job, tmp_path: Path) -> None:
    plain = building.plan(job.spec_file, job.facts, tmp_path)
    text = job.spec_file.text + EDITS
    searched = building.plan(read_spec(text, job.spec_file.file), job.facts, tmp_path)
    assert plain.compiled.drafts == searched.compiled.drafts
