"""trim-vocab: equal to transformers on the tokens that are kept, and refused elsewhere."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from oracle import batches_of, call_oracle, distance
from runtime_support import SPECIAL, WORDS, gen, last_json, write_job
from safetensors.torch import load_file

from generated import generated
from generator.errors import GenError
from generator.ir.job import parameters
from generator.ir.plans import TextPlan
from generator.ir.sources import Take
from generator.passes import EDITS
from generator.passes.trim_vocab import kept_tokens
from generator.render import kept as lists
from generator.runtime.interpret import evaluate_source, load
from tests.edits.support import edited, make
from tests.parity.test_generated_models import KINDS

TEXT = sorted(KINDS.keys() - {"vit"})


def some_tokens(vocab: int, seed: int) -> tuple[int, ...]:
    """The first few, where special tokens are, and half of the others."""
    draw = random.Random(seed)
    return (*range(3), *sorted(draw.sample(range(3, vocab), vocab // 2)))


@pytest.mark.parametrize("kind", TEXT)
@pytest.mark.parametrize("seed", range(2))
def test_equal_to_the_reference_on_kept_tokens(kind, seed, tmp_path, monkeypatch):
    made = make(kind, seed)
    kept = some_tokens(made.job.model.sizes["V"], seed)
    job = edited(made.job, "trim-vocab", kept=kept)
    assert kept_tokens(job) == kept and job.model.sizes["V"] == len(kept)
    (tmp_path / lists.FILE).write_bytes(lists.render(job) or b"")
    model, _ = generated(job, made.tensors, tmp_path)
    (tmp_path / "whole").mkdir()
    whole, _ = generated(made.job, made.tensors, tmp_path / "whole")
    for batch in batches_of(job, spelt=bool(seed)):
        theirs = {**batch, "ids": torch.tensor(kept)[batch["ids"]]}
        want = call_oracle(made.theirs, theirs)["logits"]
        with torch.no_grad():
            got = model(*batch.values())
            assert distance(got, want) < 1e-9
            assert torch.equal(got, whole(*theirs.values()))


@pytest.mark.parametrize("kind", TEXT)
def test_the_weight_map_says_what_the_sources_say(kind):
    made = make(kind)
    kept = some_tokens(made.job.model.sizes["V"], 1)
    job, weights = EDITS["trim-vocab"].run(made.job, kept=kept)
    old, new = load(made.job, made.tensors), load(job, made.tensors)
    for info in parameters(job):
        value = evaluate_source(weights.source(info.path), old, info.shape)
        assert torch.equal(value, new[info.path]), info.path


def test_a_short_list_stands_in_the_source(tmp_path):
    made = make("bert")
    job = edited(made.job, "trim-vocab", kept=(0, 1, 5, 9))
    assert lists.render(job) is None
    model, _ = generated(job, made.tensors, tmp_path)
    assert "[0, 1, 5, 9]" in (tmp_path / "generated_model.py").read_text()
    (take,) = [p.source for p in parameters(job) if isinstance(p.source, Take)]
    table = made.tensors["bert.embeddings.word_embeddings.weight"]
    assert take.name == "embedding.vocab" and take.index == (0, 1, 5, 9)
    assert torch.equal(model.embedding.token.weight.detach(), table[[0, 1, 5, 9]])


def test_padding_keeps_its_meaning():
    """Its id is another one now, and it is still the same token."""
    made = make("llama")
    theirs = made.job.data.inputs
    assert isinstance(theirs, TextPlan)
    roberta = make("roberta")
    with pytest.raises(GenError) as caught:
        EDITS["trim-vocab"].run(roberta.job, kept=(1, 2, 3))
    (found,) = caught.value.diagnostics
    assert found.code == "G231" and "would have 0" in found.message


@pytest.mark.parametrize("kind", ["vit"])
def test_images_have_no_vocabulary(kind):
    with pytest.raises(GenError) as caught:
        EDITS["trim-vocab"].run(make(kind).job, kept=(0, 1))
    assert caught.value.diagnostics[0].code == "G231"


def test_once_is_enough():
    job = edited(make("bert").job, "trim-vocab", kept=(0, 1, 2))
    with pytest.raises(GenError) as caught:
        EDITS["trim-vocab"].run(job, kept=(0, 1))
    assert "already" in caught.value.diagnostics[0].message


# From the spec to the certificate


def trimmed_job(folder: Path, edit: str = '\n[[edit]]\ndo = "trim-vocab"\n') -> Path:
    spec = write_job(folder)
    path = folder / "backbone" / "tokenizer.json"
    value = json.loads(path.read_text())
    words = [*SPECIAL, *WORDS[:-1], "flatly"]  # in place of "flat"; no row has it
    value["model"] = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: i for i, word in enumerate(words)},
    }
    path.write_text(json.dumps(value))
    spec.write_text(spec.read_text() + edit)
    return spec


def test_counting_comes_first(tmp_path, capsys):
    spec = trimmed_job(tmp_path)
    assert gen("build", spec, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "G232" in said and 'do = "trim-vocab"' in said and "--vocabulary" in said
    assert not (tmp_path / "out").exists()


def test_from_the_spec_to_the_certificate(tmp_path, capsys):
    spec, out = trimmed_job(tmp_path), tmp_path / "out"
    assert gen("facts", spec, "--vocabulary", "--json") == 0
    (figures,) = last_json(capsys.readouterr().out)
    become = figures["tokens"]["become"]["test"]
    assert become["texts"] == become["same"] > 0 and become["broken"] == 0
    assert gen("build", spec, "--out", out, "--json") == 0
    (built,) = last_json(capsys.readouterr().out)
    before, after = built["edits"]
    assert after["after"] == "trim-vocab"
    assert before["parameters"] - after["parameters"] == 24  # one token of width 24
    words = json.loads((out / "tiny_job" / "tokenizer.json").read_text())
    assert "flatly" not in words["model"]["vocab"]
    kept = load_file(out / "tiny_job" / lists.FILE)["embedding.vocab"].tolist()
    assert kept == list(range(15))
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = {c["name"]: c for c in last_json(capsys.readouterr().out)["checks"]}
    for name in ("logits, fp64", "blocks, fp64", "gradients, fp64"):
        assert checks[name]["measured"] < 1e-9, name
    assert checks["kept tokens otherwise"]["measured"] == 0


def test_a_token_to_keep_stays(tmp_path, capsys):
    edit = '\n[[edit]]\ndo = "trim-vocab"\nkeep = ["flatly"]\n'
    spec, out = trimmed_job(tmp_path, edit), tmp_path / "out"
    assert gen("facts", spec, "--vocabulary", "--quiet") == 0
    assert gen("build", spec, "--out", out, "--quiet") == 0
    words = json.loads((out / "tiny_job" / "tokenizer.json").read_text())
    assert "flatly" in words["model"]["vocab"]
    spec.write_text(spec.read_text().replace("flatly", "flat"))
    capsys.readouterr()
    assert gen("build", spec, "--out", out, "--quiet") == 2
    assert "G144" in capsys.readouterr().err
