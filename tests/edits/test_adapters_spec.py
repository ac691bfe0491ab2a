"""Adapters from the text of a spec: what is built of it, and what is said of faults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from generator.compile import Compiled, draft
from generator.cost import describe
from generator.errors import Diagnostic, GenError
from generator.ir.job import added, parameters
from generator.ir.sources import Parameter
from generator.runtime.migrate import migration
from generator.spec import read_spec
from tests.building.build_support import REPOSITORY, full_facts, text_facts

SPEC = """\
name = "job"
task = "text-classification"
labels = ["no", "yes"]

[backbone]
from = "{source}"

[data]
train = "train.csv"
text = "text"
label = "label"

[train]
freeze = {freeze}
"""


def spec(*edits: str, freeze: str = "[]") -> str:
    head = SPEC.format(source=text_facts().card.source, freeze=freeze)
    return head + "".join(f"\n[[edit]]\n{edit}\n" for edit in edits)


def built(*edits: str, freeze: str = "[]") -> Compiled:
    return draft(read_spec(spec(*edits, freeze=freeze), "job.toml"), text_facts())


def refused(*edits: str) -> tuple[Diagnostic, str]:
    """What is said, and the text that it points to."""
    with pytest.raises(GenError) as caught:
        built(*edits)
    (found,) = caught.value.diagnostics
    place = found.place
    assert place is not None
    line = spec(*edits).split("\n")[place.line - 1]
    return found, line[place.column - 1 :][: place.width]


@pytest.mark.parametrize("do", ["lora", "dora", "ia3", "adapter"])
def test_the_build_says_what_trains(do: str) -> None:
    compiled = built(f'do = "{do}"' + ("\nrank = 2" if do.endswith("ra") else ""))
    note = next(n for n in compiled.notes if "train" in n)
    infos = parameters(compiled.job)
    every = sum(_size(p.shape) for p in infos)
    trained = sum(_size(p.shape) for p in infos if not p.frozen)
    assert f"of {every:,} parameters {trained:,} train" in note
    assert "classifier; the rest is frozen" in note
    assert not any("blocks" in n for n in compiled.notes)
    assert [s.name for s in compiled.stages] == ["the backbone as it is", do]
    before, after = (s.cost for s in compiled.stages)
    assert after.trained < before.trained and after.train_bytes < before.train_bytes


def test_the_build_says_which_adapters_never_train() -> None:
    lora = 'do = "lora"\nrank = 2'
    assert "never change" not in " ".join(built(lora).notes)
    compiled = built(lora, freeze='["blocks.0"]')
    notes = " ".join(compiled.notes)
    assert "the adapters in blocks.0 are frozen with what they are in" in notes
    # All of them are in that block: what trains is the head alone.
    assert "train, " in notes and "the adapters, " not in notes


def test_stages_train_no_more_than_adapters_leave() -> None:
    stages = "\n[[train.stage]]\nepochs = 1\n"
    text = spec('do = "lora"\nrank = 2').replace("freeze = []\n", "") + stages
    notes = " ".join(draft(read_spec(text, "job.toml"), text_facts()).notes)
    assert "stage 1 of 1 trains all that trains" in notes


def test_the_example_is_short_and_needs_little_memory() -> None:
    file = REPOSITORY / "specs" / "movie_lora.toml"
    compiled = draft(read_spec(file.read_text(), file.name), full_facts())
    cost = describe(compiled.job)
    # AdamW has two numbers for each that trains.
    assert cost.trained <= 0.05 * cost.parameters
    lines = [
        len((REPOSITORY / "generated" / name / "model.py").read_text().split("\n"))
        for name in ("movie_sentiment", "movie_lora")
    ]
    assert lines[1] <= 1.2 * lines[0]


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


@pytest.mark.parametrize(
    ("edit", "code", "at"),
    [
        ('do = "lora"\non = ["attention.query"]', "G250", '["attention.query"]'),
        ('do = "lora"\nblocks = [0, 99]', "G240", "[0, 99]"),
        ('do = "dora"\nrank = 9999', "G252", "9999"),
        (
            'do = "ia3"\non = ["ff.up", "blocks.0.ff.up"]',
            "G253",
            '["ff.up", "blocks.0.ff.up"]',
        ),
        ('do = "adapter"\non = ["ff.up"]', "G250", '["ff.up"]'),
    ],
)
def test_faults_have_their_place(edit: str, code: str, at: str) -> None:
    found, text = refused(edit)
    assert (found.code, text) == (code, at)


def test_a_second_adapter_on_a_layer_is_refused_where_it_stands() -> None:
    found, text = refused('do = "lora"\nrank = 2', 'do = "dora"\nrank = 2')
    assert found.code == "G253" and text == '"dora"'
    assert found.place is not None and found.place.line > 20


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ('do = "lora"\nrank = 0', "G007"),
        ('do = "lora"\nr = 8', "G004"),
        ('do = "lora"\nalpha = 0', "G007"),
        ('do = "lora"\ndropout = 1.0', "G007"),
        ('do = "lora"\non = []', "G008"),
        ('do = "lora"\non = ["attention q"]', "G017"),
        ('do = "adapter"\nactivation = "sine"', "G012"),
        ('do = "ia3"\nrank = 2', "G004"),
    ],
)
def test_faults_of_the_text(edit: str, code: str) -> None:
    with pytest.raises(GenError) as caught:
        built(edit)
    assert [d.code for d in caught.value.diagnostics] == [code]


def test_the_head_may_be_frozen_too_and_not_all() -> None:
    some = built('do = "lora"\nrank = 2', freeze='["classifier"]')
    trained = {p.path for p in parameters(some.job) if not p.frozen}
    assert trained == {p.path for p in added(some.job)}
    with pytest.raises(GenError, match="nothing is left to train"):
        built('do = "lora"\nrank = 2', freeze='["classifier", "blocks"]')


def test_trained_adapters_are_carried_over() -> None:
    """To a job with other labels' names, or with more blocks adapted; never mixed up."""
    one = built('do = "lora"\nrank = 2')
    other = built('do = "lora"\nrank = 2\non = ["attention.q"]')
    found = migration(one, other)
    assert found.kind == "map" and not found.missing
    for path, source in found.sources.items():
        assert "lora" not in path or source == Parameter(path)
    found = migration(other, one)
    assert found.kind == "no"
    new = {p.path for p in added(one.job)} - {p.path for p in added(other.job)}
    assert set(found.missing) == new


@pytest.mark.parametrize("do", ["lora", "dora", "ia3"])
def test_linears_that_all_have_a_bias_are_not_asked_about_it(do: str) -> None:
    """Nor are Llama's, of which none has one, asked for anything else."""
    compiled = built(f'do = "{do}"' + ("\nrank = 2" if do.endswith("ra") else ""))
    drafts = {d.path: d.data.decode() for d in compiled.drafts}
    assert "bias=True" not in drafts["model.py"] and "bias)" not in drafts["model.py"]
    # What has no weight decay is said by what there is: no norm trains.
    assert "biases and norms" not in drafts["train.py"]
    assert "weight decay leaves out biases" in drafts["train.py"]


def test_one_start_of_names_is_no_tuple() -> None:
    text = spec().replace("freeze = []", "layer_decay = 0.9")
    drafts = draft(read_spec(text, "job.toml"), text_facts()).drafts
    train = next(d.data.decode() for d in drafts if d.path == "train.py")
    assert 'name.startswith("embedding.") else' in train


def test_what_is_not_read_is_said_ahead_of_its_lines() -> None:
    facts = text_facts()
    kept = tuple(t for t in facts.card.tensors if not t.key.endswith("position_ids"))
    facts = replace(facts, card=replace(facts.card, tensors=kept))
    text = spec('do = "head"')
    drafts = draft(read_spec(text, "job.toml"), facts).drafts
    model = next(d.data.decode() for d in drafts if d.path == "model.py")
    assert (
        '    for key in ("pooler.dense.bias", "pooler.dense.weight"):\n'
        "        holds.pop(key, None)\n" in model
    )
    assert "    # Not read: " in model
