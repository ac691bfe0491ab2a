"""What `gen calibrate` finds of blocks and linears, and the edits that choose by it."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runtime_support import gen, last_json, tiny_bert, write_job
from safetensors.torch import load_file
from torch import nn

from generator.arguments import arguments
from generator.facts import Scores, dump_scores, load_scores, weights_hash
from generator.passes import EDITS
from generator.runtime.gather import facts_folder, load_facts
from generator.runtime.importance import score
from generator.spec.edits import KeepLayers
from tests.building.build_support import text_facts
from tests.edits.support import as_cut, assert_equal_to_edited, edited, make, refused
from tests.edits.test_prune import of_heads
from tests.parity.test_generated_models import KINDS

KEEP = '\n[[edit]]\ndo = "keep-layers"\nn = 2\nchoose = "{}"\n'
FACTOR = '\n[[edit]]\ndo = "low-rank"\non = ["ff.up"]\nenergy = {}\nmultiple = 1\n'


def with_edit(folder, edit: str):
    spec = write_job(folder, config=tiny_bert(num_hidden_layers=4))
    spec.write_text(spec.read_text() + edit)
    return spec


def scores_of(folder):
    facts = load_facts(facts_folder(folder, "tiny_job"))
    assert facts is not None and facts.scores is not None
    return load_scores(facts.scores, facts.card, "scores").values


class Residual(nn.Module):
    """A block that adds something."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.factor = nn.Linear(6, 6), torch.ones(())

    def forward(self, x):
        return x + self.factor * torch.tanh(self.inner(x))


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual() for _ in range(3))
        self.label = nn.Linear(6, 2)

    def forward(self, x, lengths):
        for block in self.blocks:
            x = block(x)
        real = torch.arange(x.shape[1]) < lengths[:, None]
        return self.label((x * real[..., None]).sum(1) / lengths[:, None])


def scored():
    torch.manual_seed(0)
    model, lengths = Stack(), torch.tensor([5, 3, 4, 1])
    x, targets = torch.randn(4, 5, 6), torch.tensor([0, 1, 1, 0])
    batch = SimpleNamespace(inputs=(x, lengths), targets=targets, rows=range(4))
    paths = [f"blocks.{i}" for i in range(3)]
    found = dict(score(model, nn.CrossEntropyLoss(), batch, {}, paths, lengths))
    return model, x, lengths, targets, found


def test_taylor_of_a_block_is_the_derivative_by_what_it_adds():
    model, x, lengths, targets, found = scored()
    for number, block in enumerate(model.blocks):
        want = 0.0
        for i in range(4):
            block.factor = torch.ones((), requires_grad=True)
            logits = model(x[i : i + 1], lengths[i : i + 1])
            nn.functional.cross_entropy(logits, targets[i : i + 1]).backward()
            assert block.factor.grad is not None
            want += float(block.factor.grad.abs())
        block.factor = torch.ones(())
        assert float(found["taylor"][number]) == pytest.approx(want, rel=1e-5)


def test_influence_is_how_far_real_tokens_turn():
    model, x, lengths, _, found = scored()
    for number, block in enumerate(model.blocks):
        y = block(x).detach()
        want = sum(
            float(1 - torch.cosine_similarity(x[i, :n], y[i, :n], dim=-1).mean())
            for i, n in enumerate(lengths.tolist())
        )
        assert float(found["influence"][number]) == pytest.approx(want, rel=1e-5)
        x = y


@pytest.mark.parametrize("method", ["taylor", "influence"])
def test_the_blocks_with_the_highest_scores_stay(method, tmp_path, capsys):
    spec, out = with_edit(tmp_path, KEEP.format(method)), tmp_path / "out"
    assert gen("build", spec, "--out", out) == 2
    said = capsys.readouterr().err
    assert "G234" in said and "gen calibrate" in said and "choose" in said
    assert gen("calibrate", spec, "--rows", "32", "--quiet") == 0
    values = scores_of(tmp_path)[f"{method}/layers"]
    assert len(values) == 4 and len(set(values)) == 4 and min(values) > 0
    best = sorted(sorted(range(4), key=lambda i: -values[i])[:2])
    assert gen("build", spec, "--out", out, "--json") == 0
    (built,) = last_json(capsys.readouterr().out)
    assert built["edits"][-1]["after"] == "keep-layers"
    said = (out / "tiny_job" / "test_model.py").read_text()
    assert f"{tuple(best)}" in said
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = last_json(capsys.readouterr().out)["checks"]
    assert all(c["holds"] for c in checks) and any(c["measured"] for c in checks)


def test_more_blocks_than_there_are(tmp_path, capsys):
    spec = with_edit(tmp_path, KEEP.format("taylor").replace("n = 2", "n = 5"))
    assert gen("calibrate", spec, "--rows", "16", "--quiet") == 0
    assert gen("build", spec, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "G240" in said and "n = 4" in said


def test_energy_decides_on_the_rank_of_each_linear(tmp_path, capsys):
    spec, out = with_edit(tmp_path, FACTOR.format(0.6)), tmp_path / "out"
    assert gen("build", spec, "--out", out) == 2
    said = capsys.readouterr().err
    assert "G234" in said and "gen calibrate" in said and "energy" in said
    assert gen("calibrate", spec, "--json") == 0
    (said,) = last_json(capsys.readouterr().out)
    assert said["methods"] == ["singular"] and said["lists"] == 4
    weights = load_file(tmp_path / "backbone" / "model.safetensors")
    assert gen("build", spec, "--out", out, "--quiet") == 0
    code = (out / "tiny_job" / "model.py").read_text()
    ranks = set()
    for number in range(4):
        matrix = weights[f"bert.encoder.layer.{number}.intermediate.dense.weight"]
        values = torch.linalg.svdvals(matrix.double())
        torch.testing.assert_close(
            torch.tensor(scores_of(tmp_path)[f"singular/{number}/ff.up"]),
            values.float(),
        )
        kept = values.square().cumsum(0) / values.square().sum()
        ranks.add(int((kept < 0.6).sum()) + 1)
    assert "LowRankLinear" in code
    for rank in ranks:
        assert f"{rank}" in code
    assert gen("certify", spec, "--out", out, "--work", tmp_path / "w", "--json") == 0
    checks = last_json(capsys.readouterr().out)["checks"]
    assert all(c["holds"] for c in checks)


def test_too_much_energy_makes_nothing_smaller(tmp_path, capsys):
    spec = with_edit(tmp_path, FACTOR.format(0.999))
    assert gen("calibrate", spec, "--quiet") == 0
    assert gen("build", spec, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "G242" in said and "a lower energy" in said and "energy = 0.999" in said


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_that_differ_and_linears_that_stay(kind, tmp_path):
    made = of_heads(kind, 0)
    sizes = made.job.model.sizes
    ranks = {
        "blocks.0.ff.up": 2,
        "blocks.0.ff.down": 1,
        "blocks.1.ff.up": 1,
        "blocks.1.ff.down": min(sizes["C"], sizes["F"]),  # no smaller: it stays
        "blocks.2.ff.up": 2,
        "blocks.2.ff.down": 2,
    }
    before = copy.deepcopy(ranks)
    job = edited(made.job, "low-rank", on=("ff.up", "ff.down"), rank=ranks)
    assert ranks == before
    assert [r for _, r in job.reference.ranks] == [2, 1, 1, 2, 2]
    model = assert_equal_to_edited(made, job, tmp_path)
    names = {name for name, _ in model.named_parameters()}
    assert "blocks.1.ff.down.weight" in names
    assert "blocks.0.ff.down.expand.weight" in names
    assert as_cut(made.tensors, job).keys() == made.tensors.keys()


def test_a_linear_without_a_rank_is_named():
    made = make("bert", num_hidden_layers=1)
    code, message, _ = refused("low-rank", made.job, on=("ff.up",), rank={})
    assert code == "G234" and "blocks.0.ff.up" in message
    assert refused("low-rank", made.job, on=("up",), rank={})[0] == "G241"
    assert EDITS["low-rank"].exact


def test_a_copy_of_a_block_adds_nothing_yet():
    """Otherwise a block and its copy would stay, and a block that does something go."""
    facts = text_facts()
    values = {"taylor/layers": (1.0, 3.0)}
    scores = dump_scores(Scores(values, weights_hash(facts.card), ()))
    job = edited(make("llama", num_hidden_layers=2).job, "add-layers", after=(1,))
    assert job.block_numbers == (0, 1, 1)
    edit = KeepLayers(n=2, choose="taylor")
    spec_file: Any = SimpleNamespace(file="spec.toml")  # which errors alone name
    given = arguments(edit, spec_file, replace(facts, scores=scores), job)
    assert given == {"layers": (0, 1)}
