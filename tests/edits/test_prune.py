"""prune-ffn and prune-heads: equal to transformers with the other units masked.

A head is masked to its value bias where the attention's output has a bias too.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from runtime_support import gen, last_json, write_job
from torch import nn

from generated import assert_same, generated, source_of
from generator.errors import GenError
from generator.facts import load_scores
from generator.ir.job import Job, parameters
from generator.ir.sources import Fold, keys
from generator.passes import EDITS
from generator.render import kept as lists
from generator.runtime.gather import facts_folder, load_facts
from generator.runtime.importance import score
from generator.runtime.interpret import evaluate_source, load
from tests.edits.support import as_edited, assert_equal_to_edited, edited, make
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


def biased(seed: int):
    """A tiny Llama with biases in its attention, and heads in groups."""
    changes = {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 4}
    changes["num_hidden_layers"] = 3
    return make("llama", seed, hidden_size=24, attention_bias=True, **changes)


@pytest.mark.parametrize("kind", [*KINDS, "llama with biases"])
def test_what_value_biases_gave_is_in_the_output_bias(kind, tmp_path):
    made = biased(0) if " " in kind else of_heads(kind, 0)
    groups = made.job.model.sizes.get("G", made.job.model.sizes["H"])
    kept = some(made.job, "heads", [0, 1])
    job = edited(made.job, "prune-heads", kept=kept)
    folded = {p.path: p.source for p in parameters(job) if isinstance(p.source, Fold)}
    biases = {p.path: keys(p.source) for p in parameters(made.job)}
    if "blocks.0.attention.v.bias" not in biases:
        assert not folded and job.reference.masked and not job.reference.masked_rows
        return
    assert [*folded] == [f"blocks.{i}.attention.out.bias" for i in (0, 1)]
    assert not job.reference.masked
    before, after = load(made.job, made.tensors), load(job, made.tensors)
    width, each = made.job.model.sizes["D"], made.job.model.sizes["H"] // groups
    for i in (0, 1):
        at = f"blocks.{i}.attention"
        want = before[f"{at}.out.bias"].clone()
        values = before[f"{at}.v.bias"].unflatten(0, (groups, width))
        columns = before[f"{at}.out.weight"].unflatten(1, (groups, each, width))
        for g in set(range(groups)) - set(kept[i]):
            for one in range(each):
                want += columns[:, g, one] @ values[g]
        assert not torch.allclose(want, before[f"{at}.out.bias"])
        torch.testing.assert_close(after[f"{at}.out.bias"], want)
    assert_equal_to_edited(made, job, tmp_path)


def test_a_loader_says_what_it_folds(tmp_path):
    made = of_heads("bert", 0)
    job = edited(made.job, "prune-heads", kept=some(made.job, "heads", [0, 1, 2]))
    source = source_of(job)
    assert "def folded(" in source and source.count("= folded(") == 1
    plain = edited(made.job, "prune-ffn", kept=some(made.job, "ff", [0, 1, 2]))
    assert "folded" not in source_of(plain)


@pytest.mark.parametrize("kind", ["bert", "vit", "llama with biases"])
@pytest.mark.parametrize("first", ["keep-layers", "prune-heads"])
def test_folding_with_blocks_left_out(kind, first, tmp_path):
    made = biased(1) if " " in kind else of_heads(kind, 1)
    job = made.job
    for do in (first, "prune-heads" if first == "keep-layers" else "keep-layers"):
        if do == "keep-layers":
            job = edited(job, do, layers=(1,))
        else:
            there = [*range(len(job.model.blocks))]
            job = edited(job, do, kept=some(job, "heads", there))
    assert len(job.reference.masked_rows) == 1
    assert_equal_to_edited(made, job, tmp_path)


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


def test_nor_one_of_other_heads():
    """Its value biases are not folded, since none of its heads were scored."""
    arguments = {"to": 8, "noise": 0.0, "blocks": (1,)}
    job = edited(of_heads("bert", 0).job, "widen-heads", **arguments)
    with pytest.raises(GenError) as caught:
        EDITS["prune-heads"].run(job, kept=some(job, "heads", [0, 1, 2]))
    (found,) = caught.value.diagnostics
    assert found.code == "G233" and "blocks.1 was edited before" in found.message


@pytest.mark.parametrize("kind", ["vit", "llama", "llama with biases"])
@pytest.mark.parametrize("do", ["prune-ffn", "prune-heads"])
def test_copies_of_pruned_blocks_keep_the_same_units(kind, do, tmp_path):
    made = biased(3) if " " in kind else of_heads(kind, 3)
    what = "ff" if do == "prune-ffn" else "heads"
    job = edited(made.job, do, kept=some(made.job, what, [0, 1, 2]))
    job = edited(job, "add-layers", after=(0, 2))
    lists_of = {name: index for name, index in job.model.kept.items()}
    for copy, old in ((1, 0), (4, 3)):
        own = {n for n in lists_of if n.startswith(f"blocks.{old}.")}
        assert own
        for name in own:
            other = f"blocks.{copy}." + name.removeprefix(f"blocks.{old}.")
            assert lists_of[other] == lists_of[name]
    assert_equal_to_edited(made, job, tmp_path)


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
    assert said["lists"] == 5 + 2 * (method == "taylor")
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


def test_the_certificate_of_pruned_heads_knows_their_biases(tmp_path, capsys):
    edit = EDIT.format(score="magnitude").replace("-ffn", "-heads")
    spec, out = pruned_job(tmp_path, edit), tmp_path / "out"
    assert gen("calibrate", spec, "--quiet") == 0
    assert gen("build", spec, "--out", out, "--quiet") == 0
    package = out / "tiny_job"
    assert "MASKED_ROWS" in (package / "test_model.py").read_text()
    capsys.readouterr()
    certify = ["certify", spec, "--out", out, "--work", tmp_path / "w", "--json"]
    assert gen(*certify) == 0
    checks = {c["name"]: c for c in last_json(capsys.readouterr().out)["checks"]}
    for name in ("logits, fp64", "blocks, fp64", "gradients, fp64"):
        assert checks[name]["measured"] < 1e-9, name
    # A loader that forgets them is seen.
    text = (package / "model.py").read_text()
    assert text.count("bias.double() + more") == 1
    wrong = text.replace("bias.double() + more", "bias.double()")
    (package / "model.py").write_text(wrong)
    assert gen(*certify, "--quiet") != 0


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
