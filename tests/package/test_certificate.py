"""test_model.py of packages: it holds where they are right, and not where they are wrong."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import unittest
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    LlamaConfig,
    RobertaConfig,
    ViTConfig,
)
from whole_support import Whole, whole

ENCODER: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": 21,
}
DISTILLED: dict[str, Any] = {
    "vocab_size": 53,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 37,
    "max_position_embeddings": 21,
}
DECODER: dict[str, Any] = {
    **ENCODER,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "image_size": (13, 10),  # pixels are left over, which no patch has
    "patch_size": 4,
}
# transformers takes rows of 8, 16 and so on alone, unless it is told otherwise.
CHUNKED = {**ENCODER, "chunk_size_feed_forward": 8}
CASES: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "bert": (BertConfig, ENCODER, {}),
    "bert, bare": (BertConfig, ENCODER, {"bare": True}),
    "bert, another head": (BertConfig, ENCODER, {"head": "new"}),
    "bert, pairs": (BertConfig, ENCODER, {"pair": True}),
    "bert, labels": (
        BertConfig,
        ENCODER,
        {"task": "multi-label", "labels": ("a", "b", "c"), "bare": True},
    ),
    "bert, a number": (
        BertConfig,
        CHUNKED,
        {"task": "regression", "labels": ("x",), "bare": True},
    ),
    "roberta": (RobertaConfig, ENCODER, {"bare": True}),
    "distilbert": (DistilBertConfig, DISTILLED, {}),
    "electra": (ElectraConfig, {**ENCODER, "embedding_size": 16}, {"bare": True}),
    "ernie": (ErnieConfig, CHUNKED, {}),
    "llama": (LlamaConfig, DECODER, {"bare": True}),
    "vit": (
        ViTConfig,
        VISION,
        {"task": "image-classification", "labels": ("a", "b", "c"), "bare": True},
    ),
}
COMPARED = {
    "stored logits, fp64",
    "stored logits, fp32",
    "blocks, fp64",
    "logits, fp64",
    "gradients, fp64",
    "logits, fp32",
    "errors of blocks in fp32, in transformers' own",
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(case: str, folder: Path, **more: Any) -> Whole:
    config, sizes, options = CASES[case]
    return whole(folder, config(**sizes), **{**options, **more})


@pytest.mark.parametrize("case", CASES)
def test_certificate_holds(case: str, tmp_path: Path) -> None:
    made = make(case, tmp_path)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds] == []
    assert [r for r in found if r.measured is None] == []
    assert {r.name for r in found} > COMPARED


FACTOR = ("low-rank", {"on": ("ff.up", "ff.down", "attention.out"), "rank": 6})
WIDER = ("widen-ffn", {"by": 1.4, "blocks": (1,)})
EDITED: dict[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    "factors": (FACTOR,),
    "factors at full rank": (("low-rank", {"on": ("ff.up", "ff.down"), "rank": 24}),),
    "copies": (WIDER, ("widen-heads", {"to": 8})),
    "fewer blocks of factors and copies": (
        FACTOR,
        WIDER,
        ("widen-heads", {"to": 6, "blocks": (0,)}),
        ("keep-layers", {"layers": (1,)}),
    ),
}


@pytest.mark.parametrize("case", ["bert", "bert, another head", "llama", "vit"])
@pytest.mark.parametrize("edits", EDITED)
def test_certificate_of_an_edited_model_holds(
    case: str, edits: str, tmp_path: Path
) -> None:
    made = make(case, tmp_path, edits=EDITED[edits])
    for file in ("test_model", "model"):
        path = made.package / f"{file}.py"
        subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "-q", path],
            check=True,
        )
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds] == []
    assert [r for r in found if r.measured is None] == []
    factors = {"errors of factors, from their singular values"}
    wanted = COMPARED | (factors if "factors" in edits else set())
    assert {r.name for r in found} > wanted


LONGER: dict[str, tuple[str, tuple[tuple[str, Mapping[str, Any]], ...]]] = {
    f"{case}, {by}": (
        case,
        (("extend-positions", {"to": 50, "by": by, "max_tokens": 50}),),
    )
    for case, ways in {
        "bert": ("tile", "interpolate"),
        "bert, bare": ("tile",),
        "roberta": ("tile", "interpolate"),
        "distilbert": ("tile",),
        "electra": ("interpolate",),
        "ernie": ("tile",),
        "llama": ("linear", "ntk", "yarn"),
    }.items()
    for by in ways
}
LONGER["bert, tile and factors"] = ("bert", (*LONGER["bert, tile"][1], FACTOR))
LONGER["llama, yarn and fewer blocks"] = (
    "llama",
    (*LONGER["llama, yarn"][1], ("keep-layers", {"layers": (1,)})),
)
# Their pictures are squares, so that they can be resized.
CASES["vit, square"] = (ViTConfig, {**VISION, "image_size": 13}, CASES["vit"][2])
RESIZE = ("resize-image", {"size": (20, 16)})
LONGER["vit"] = ("vit, square", (RESIZE,))
LONGER["vit, smaller, and factors"] = (
    "vit, square",
    (("resize-image", {"size": (8, 8)}), FACTOR),
)


@pytest.mark.parametrize("case", LONGER)
def test_certificate_of_longer_rows_and_larger_images_holds(
    case: str, tmp_path: Path
) -> None:
    base, edits = LONGER[case]
    made = make(base, tmp_path, edits=edits)
    if base.startswith("vit"):  # as the checkpoint has it
        about = made.weights / "preprocessor_config.json"
        old = {"height": 13, "width": 13}
        about.write_text(json.dumps({**json.loads(about.read_text()), "size": old}))
    for file in ("test_model", "model"):
        path = made.package / f"{file}.py"
        subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "-q", path],
            check=True,
        )
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds] == []
    assert [r for r in found if r.measured is None] == []
    assert {r.name for r in found} > COMPARED


def test_certificate_with_noise_is_of_the_rest_and_says_so(tmp_path: Path) -> None:
    noisy = ("widen-ffn", {"by": 1.4, "noise": 0.1})
    made = make("bert", tmp_path, edits=[noisy])
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds] == []
    (bare,) = [r for r in found if r.measured is None]
    assert bare.name == "outputs with the noise of copies"


# Faults of what an edit's loader does, and the checks that must say so.
SURGERY: dict[str, tuple[str, str, str, set[str]]] = {
    "copies that are not shared out": (
        "copies",
        "/ index.bincount()[index]",
        "",
        {"blocks, fp64", "logits, fp64", "gradients, fp64"},
    ),
    "a rank too few": (
        "factors",
        "s[:rank].sqrt(), ",
        "s[:rank].sqrt() * (torch.arange(rank) < rank - 1), ",
        {"blocks, fp64", "errors of factors, from their singular values"},
    ),
}


COMPUTED = {"blocks, fp64", "logits, fp64"}
# The same of tables of positions.
OF_POSITIONS: dict[str, tuple[str, str, str]] = {
    "a row too far": ("roberta, tile", "% (len(x) - first)", "% (len(x) - first - 1)"),
    "ends off ends": (
        "roberta, interpolate",
        "align_corners=True",
        "align_corners=False",
    ),
    "bilinear": ("vit", '"bicubic"', '"bilinear"'),
    "angles as they were": ("llama, linear", ") / 2.38", ") / 1.0 + 0 * 2.38"),
}


@pytest.mark.parametrize("fault", OF_POSITIONS)
def test_faults_of_positions_show(fault: str, tmp_path: Path) -> None:
    case, old, new = OF_POSITIONS[fault]
    base, edits = LONGER[case]
    made = make(base, tmp_path, edits=edits)
    made.module("test_model").write_reference(made.weights)
    made.edit("model", old, new)
    found = made.module("test_model").certificate(made.weights)
    assert COMPUTED <= {r.name for r in found if not r.holds}


@pytest.mark.parametrize("fault", SURGERY)
def test_faults_of_edits_show(fault: str, tmp_path: Path) -> None:
    edits, old, new, expected = SURGERY[fault]
    made = make("bert", tmp_path, edits=EDITED[edits])
    made.module("test_model").write_reference(made.weights)
    made.edit("model", old, new)
    found = made.module("test_model").certificate(made.weights)
    assert expected <= {r.name for r in found if not r.holds}


# What is done to a package, and the checks that must say so.
FAULTS: dict[str, tuple[str, str, str, set[str]]] = {
    "activation": (
        "model",
        "F.gelu(",
        "F.relu(",
        {"blocks, fp64", "logits, fp64", "stored logits, fp64", "gradients, fp64"},
    ),
    "epsilon": ("model", "1e-12", "1e-7", {"blocks, fp64", "logits, fp64"}),
    "mask": (
        "model",
        "attn_mask=mask",
        "attn_mask=None",
        {"with or without padding", "blocks, fp64"},
    ),
    "positions": (
        "model",
        "self.position.weight[:",
        "self.position.weight.flip(0)[:",
        {"blocks, fp64", "stored logits, fp32"},
    ),
    "head": ("model", "torch.tanh(", "torch.sin(", {"logits, fp64"}),
    "gradient": (
        "model",
        "x = self.embedding(ids)",
        "x = self.embedding(ids).detach()",
        {"gradients, fp64"},
    ),
    "query for key": (
        "model",
        "q, k, v = qkv",
        "k, q, v = qkv",
        {"blocks, fp64", "gradients, fp64"},
    ),
    "serving": ("predict", "softmax(1)", "sigmoid()", {"training and serving"}),
    "tokens": (
        "data",
        "enable_truncation(MAX_TOKENS",
        "enable_truncation(MAX_TOKENS - 1",
        {"texts tokenised otherwise"},
    ),
    "padding": (
        "data",
        "masked_fill(~mask, PAD)",
        "masked_fill(~mask, 1)",
        set(),  # what is masked may be anything
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_show(fault: str, tmp_path: Path) -> None:
    file, old, new, expected = FAULTS[fault]
    made = make("bert", tmp_path)
    made.module("test_model").write_reference(made.weights)  # transformers' alone
    made.edit(file, old, new)
    found = made.module("test_model").certificate(made.weights)
    wrong = {r.name for r in found if not r.holds}
    assert expected <= wrong
    assert bool(expected) == bool(wrong)


def test_names_the_first_block_that_differs(tmp_path: Path) -> None:
    made = make("bert", tmp_path)
    made.module("test_model").write_reference(made.weights)
    made.edit(
        "model",
        "return self.ff_norm(x + self.dropout(self.ff(x)))\n\n\nclass Classifier",
        "return self.ff_norm(x - self.dropout(self.ff(x)))\n\n\nclass Classifier",
    )
    found = {r.name: r for r in made.module("test_model").certificate(made.weights)}
    assert found["blocks, fp64"].note == "block 1 is the first that differs"
    assert found["stored logits, fp64"].note == "block 1 is the first that differs"


def test_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("bert", tmp_path)
    made.module("test_model").write_reference(made.weights)
    module = made.module("test_model")
    monkeypatch.setitem(sys.modules, "transformers", None)
    module.theirs.cache_clear()
    found = {r.name: r for r in module.certificate(made.weights)}
    assert all(r.holds for r in found.values())
    assert found["stored logits, fp64"].measured is not None
    assert found["as transformers"].note == "transformers is not installed"


def test_without_weights(tmp_path: Path) -> None:
    module = make("bert", tmp_path).module("test_model")
    found = {r.name: r for r in module.certificate(None)}
    assert found["with or without padding"].holds
    assert found["as stored"].measured is None
    assert module.VARIABLE in found["as stored"].note
    with pytest.raises(unittest.SkipTest, match=module.VARIABLE):  # pytest's skip too
        module.test_certificate(module.as_stored)
    module.test_certificate(module.by_itself)


def test_as_a_stranger_runs_it(tmp_path: Path) -> None:
    made = make("bert", tmp_path)
    made.module("test_model").write_reference(made.weights)
    file = made.package / "test_model.py"
    variable = f"{made.job.name.upper()}_WEIGHTS"

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(file)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", variable: str(made.weights)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 passed" in run.stdout, run.stdout


@pytest.mark.parametrize("case", CASES)
def test_is_clean_and_of_one_job(case: str, tmp_path: Path) -> None:
    made = make(case, tmp_path)
    path = made.package / "test_model.py"
    source = path.read_text()
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "-q", path], check=True
    )
    assert ("pixel_values" in source) == case.startswith("vit")
    assert ("token_type_ids" in source) == (case == "bert, pairs")
    assert ("set_default_dtype" in source) == (case == "llama")
    assert ("NEW" in source) == bool(getattr(made.module("test_model"), "NEW", ()))


def test_imports_what_a_package_may(tmp_path: Path) -> None:
    """At the top, the standard library, torch and safetensors; transformers in functions."""
    for case in ("bert", "vit"):
        made = make(case, tmp_path / case)
        tree = ast.parse((made.package / "test_model.py").read_text())
        names = {
            alias.name.split(".")[0]
            for node in tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {
            (node.module or "").split(".")[0]
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and not node.level
        }
        assert names - sys.stdlib_module_names <= {"torch", "safetensors", "PIL"}
