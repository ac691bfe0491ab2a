"""prune-ffn and prune-heads: equal to transformers with the other units masked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from runtime_support import gen, last_json, write_job
from torch import nn

from generated import assert_same, generated
from generator.errors import GenError
from generator.facts import load_scores
from generator.ir.job import Job, parameters
from generator.passes import EDITS
from generator.render import kept as lists
from generator.runtime.gather import facts_folder, load_facts
from generator.runtime.importance import score
from generator.runtime.interpret import evaluate_source, load
from tests.edits.support import as_edited, edited, make
from tests.parity.test_generated_models import KINDS


def some(job: Job, kind: str, blocks: list[int], seed: int = 0) -> dict[int, tuple]:
    """About half of the units, or of the groups of heads, of each block."""
    sizes, draw = job.model.sizes, random.Random(seed)
    total = sizes["F"] if kind == "ff" else sizes.get("G", sizes["H"])
    count = max(1, total // 2)
    return {b: tuple(sorted(draw.sample(range(total), count))) for b in blocks}


def of_heads(kind: str, seed: int):
    """A tiny model with heads to drop."""
    changes = {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 4}
    if kind == "llama":
        changes |= {"num_key_value_heads": 2, "head_dim": 6}
    return make(kind, seed, **changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [[0, 1, 2], [1], [0, 2]], ids=str)
@pytest.mark.parametrize("what", ["ff", "heads"])
def test_equal_to_the_reference_with_units_masked(kind, blocks, what, tmp_path):
    made = of_heads(kind, len(blocks))
    do = "prune-ffn" if what == "ff" else "prune-heads"
    kept = some(made.job, what, blocks)
    job = edited(made.job, do, kept=kept)
    if found := lists.render(job):
        (tmp_path / lists.FILE).write_bytes(found)
    model, _ = generated(job, made.tensors, tmp_path)
    with as_edited(made, job) as theirs:
        assert_same(model, job, theirs, made.tensors, names=made.names)
    model.load_state_dict(model.state_dict(), strict=True)
    assert sum(p.numel() for p in model.parameters()) < sum(
        torch.Size(p.shape).numel() for p in parameters(made.job)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_with_other_edits_in_any_order(kind, order, tmp_path):
    made = of_heads(kind, 5)
    job, number = made.job, [0, 1, 2]
    for step in order:
        here = [*range(len(number))]
        match step:
            case 0:
                job, number = edited(job, "keep-layers", layers=(0, 2)), [0, 2]
            case 1:
                job = edited(job, "prune-ffn", kept=some(job, "ff", here, 1))
            case 2:
                job = edited(job, "prune-heads", kept=some(job, "heads", here[-1:], 2))
    if found := lists.render(job):
        (tmp_path / lists.FILE).write_bytes(found)
    model, _ = generated(job, made.tensors, tmp_path)
    with as_edited(made, job) as theirs:
        assert_same(model, job, theirs, made.tensors, names=made.names)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["ff", "heads"])
def test_the_weight_map_says_what_the_sources_say(kind, what):
    made = of_heads(kind, 1)
    do = "prune-ffn" if what == "ff" else "prune-heads"
    job, weights = EDITS[do].run(made.job, kept=some(made.job, what, [0, 1, 2]))
    old, new = load(made.job, made.tensors), load(job, made.tensors)
    for info in parameters(job):
        value = evaluate_source(weights.source(info.path), old, info.shape)
        assert torch.equal(value, new[info.path]), info.path


@pytest.mark.parametrize("what", ["ff", "heads"])
def test_more_than_there_are(what):
    made = of_heads("bert", 0)
    do = "prune-ffn" if what == "ff" else "prune-heads"
    total = made.job.model.sizes["F" if what == "ff" else "H"]
    with pytest.raises(GenError) as caught:
        EDITS[do].run(made.job, kept={0: tuple(range(total))})
    assert caught.value.diagnostics[0].code == "G233"


def test_a_block_of_another_width_is_not_passed_over():
    """After widening one block, what is scored is not what that block has."""
    job = edited(
        of_heads("bert", 0).job,
        "widen-ffn", to=99, by=None, noise=0.0, blocks=(1,),
    )  # fmt: skip
    with pytest.raises(GenError) as caught:
        EDITS["prune-ffn"].run(job, kept=some(job, "ff", [0, 1, 2]))
    (found,) = caught.value.diagnostics
    assert found.code == "G233" and "blocks.1 was edited before" in found.message


# Scores


def test_a_score_is_the_derivative_by_a_mask():
    """|sum of activation times gradient| is the size of the loss's derivative by a factor
    before the unit, row by row."""
    torch.manual_seed(0)

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 6), nn.Linear(6, 2)
            self.mask = torch.ones(3)

        def forward(self, x):
            factors = self.mask.repeat_interleave(2)
            return self.down(torch.tanh(self.up(x)) * factors).mean(1)

    class Batch:
        inputs = (torch.randn(4, 5, 3),)
        targets = torch.tensor([0, 1, 1, 0])
        rows = range(4)

    model, criterion = Tiny(), nn.CrossEntropyLoss()
    ((path, found),) = score(model, criterion, Batch(), {"down": 3}, [], None)
    want = torch.zeros(3, dtype=torch.float64)
    for x, y in zip(*Batch.inputs, Batch.targets, strict=True):
        model.mask = torch.ones(3, requires_grad=True)
        criterion(model(x[None]), y[None]).backward()
        assert model.mask.grad is not None
        want += model.mask.grad.abs().double()
    assert path == "down"
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-7)


EDIT = """
[[edit]]
do = "prune-ffn"
keep = 0.5
multiple = 2
score = "{score}"
"""


def pruned_job(folder: Path, edit: str) -> Path:
    spec = write_job(folder)
    spec.write_text(spec.read_text() + edit)
    return spec


def test_scores_come_first(tmp_path, capsys):
    spec = pruned_job(tmp_path, EDIT.format(score="taylor"))
    assert gen("build", spec, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "G234" in said and "gen calibrate" in said and 'score = "taylor"' in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["taylor", "magnitude"])
def test_from_the_spec_to_the_certificate(method, tmp_path, capsys):
    spec, out = pruned_job(tmp_path, EDIT.format(score=method)), tmp_path / "out"
    assert gen("calibrate", spec, "--rows", "32", "--json") == 0
    (said,) = last_json(capsys.readouterr().out)
    assert said["methods"] == [method]
    assert said["lists"] == 4 + 2 * (method == "taylor")
    facts = load_facts(facts_folder(tmp_path, "tiny_job"))
    assert facts is not None and facts.scores is not None
    scores = load_scores(facts.scores, facts.card, "scores")
    values = scores.values[f"{method}/ff/1"]
    assert len(values) == 37 and min(values) >= 0 and len(set(values)) > 30
    assert bool(scores.files) == (method == "taylor")
    assert gen("build", spec, "--out", out, "--json") == 0
    (built,) = last_json(capsys.readouterr().out)
    assert [e["after"] for e in built["edits"]] == [
        "the backbone as it is",
        "prune-ffn",
    ]
    ranked = sorted(range(37), key=lambda i: (-values[i], i))
    from safetensors.torch import load_file

    found = load_file(out / "tiny_job" / lists.FILE)["blocks.1.ff.hidden"].tolist()
    assert found == sorted(ranked[:18])
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = {c["name"]: c for c in last_json(capsys.readouterr().out)["checks"]}
    for name in ("logits, fp64", "blocks, fp64", "gradients, fp64"):
        assert checks[name]["measured"] < 1e-9, name
    # The same again changes nothing.
    before = facts.scores
    assert gen("calibrate", spec, "--rows", "32", "--quiet") == 0
    facts = load_facts(facts_folder(tmp_path, "tiny_job"))
    assert facts is not None and facts.scores == before


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ('do = "prune-ffn"\nto = 37', "G233"),
        ('do = "prune-ffn"\nto = 20\nmultiple = 8', "to = 16"),
        ('do = "prune-ffn"\nkeep = 0.5\nblocks = [2]', "G240"),
        ('do = "prune-heads"\nto = 3', "to = 2"),
        ('do = "prune-heads"\nto = 2\nkeep = 0.5', "G010"),
        ('do = "prune-ffn"\nkeep = 1.0', "G007"),
    ],
)
def test_what_cannot_be(edit, said, tmp_path, capsys):
    spec = pruned_job(tmp_path, EDIT.format(score="magnitude"))
    assert gen("calibrate", spec, "--quiet") == 0
    text = spec.read_text()
    text = text[: text.index("[[edit]]")] + f'[[edit]]\n{edit}\nscore = "magnitude"\n'
    spec.write_text(text)
    capsys.readouterr()
    assert gen("build", spec, "--out", tmp_path / "out", "--quiet") == 2
    assert said in capsys.readouterr().err


def test_once_a_block(tmp_path, capsys):
    edit = EDIT.format(score="magnitude")
    spec = pruned_job(tmp_path, edit + edit)
    assert gen("calibrate", spec, "--quiet") == 0
    assert gen("build", spec, "--out", tmp_path / "out", "--quiet") == 2
    assert "a block is pruned once" in capsys.readouterr().err
