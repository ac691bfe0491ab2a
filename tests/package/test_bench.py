"""bench.py of packages: what it counts, what it compares, and that it runs."""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertConfig, LlamaConfig, ViTConfig
from whole_support import WORDS, Whole, whole

from generator.cost import describe
from generator.ir.job import Job
from generator.ir.plans import ImagePlan, StagePlan, TargetPlan
from generator.render import bench

ENCODER: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": 32,
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
    "image_size": (12, 8),
    "patch_size": 4,
}
PHOTOS: dict[str, Any] = {"task": "image-classification", "labels": ("a", "b")}
BLOCKS = ("embedding", "blocks.0", "blocks.1")
HEAD, LAST, ALL = (
    StagePlan(epochs=1, lr=1e-3, warmup=0.1, frozen=frozen)
    for frozen in (BLOCKS, BLOCKS[:2], ())
)
CASES: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "text": (BertConfig, ENCODER, {}),
    "a new head": (BertConfig, ENCODER, {"bare": True}),
    "pairs": (BertConfig, ENCODER, {"pair": True}),
    "labels": (BertConfig, ENCODER, {"task": "multi-label", "labels": ("a", "b", "c")}),
    "a number": (BertConfig, ENCODER, {"task": "regression", "labels": ("x",)}),
    "decoder": (LlamaConfig, DECODER, {}),
    "images": (ViTConfig, VISION, PHOTOS),
    "a budget of tokens": (
        BertConfig,
        ENCODER,
        {"recipe": {"batch": 0, "batch_tokens": 64}},
    ),
    "accumulated": (BertConfig, ENCODER, {"recipe": {"accumulate": 2}}),
    "weighted": (BertConfig, ENCODER, {"recipe": {"class_weights": "balanced"}}),
    "smoothed": (BertConfig, ENCODER, {"recipe": {"label_smoothing": 0.1}}),
    "frozen": (BertConfig, ENCODER, {"frozen": ("embedding", "blocks.0")}),
    "stages": (BertConfig, ENCODER, {"stages": (HEAD, ALL)}),
    "stages, all kept": (BertConfig, ENCODER, {"stages": (HEAD, LAST)}),
    "without dropout": (BertConfig, ENCODER, {"dropout": 0.0}),
    "longer": (
        BertConfig,
        {**ENCODER, "max_position_embeddings": 9},
        {"edits": [("extend-positions", {"to": 32, "max_tokens": 32})]},
    ),
    "larger images": (
        ViTConfig,
        {**VISION, "image_size": 8},
        {**PHOTOS, "edits": [("resize-image", {"size": (12, 16)})]},
    ),
    "cuda": (
        BertConfig,
        ENCODER,
        {"device": "cuda", "precision": "bf16", "compile": True},
    ),
    "cuda, images": (ViTConfig, VISION, {**PHOTOS, "device": "cuda"}),
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
def test_is_clean_and_of_one_job(case: str, tmp_path: Path) -> None:
    made = make(case, tmp_path)
    path = made.package / "bench.py"
    source = path.read_text()
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "-q", path], check=True
    )
    images, pairs, cuda = case.endswith("images"), case == "pairs", "cuda" in case
    assert ("pixel_values" in source) == images
    assert ("LONGEST" in source) != images
    assert ("token_type_ids" in source) == pairs
    assert ("torch.cuda" in source) == ("DEVICE" in source) == cuda
    assert ("FROZEN" in source) == (case in ("frozen", "stages, all kept"))
    assert ("torch.compile" in source) == (case == "cuda")
    tree = ast.parse(source)
    top = {
        (node.module or "").split(".")[0]
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and not node.level
    }
    assert top - sys.stdlib_module_names <= {"torch", "safetensors", "tqdm"}


def test_formulas_are_those_of_the_cost(tmp_path: Path) -> None:
    made = make("text", tmp_path)
    module, cost = made.module("bench"), describe(made.job)
    for coefficients, flops in (
        (module.FORWARD, cost.forward),
        (module.BACKWARD, cost.backward),
    ):
        a, b, c = coefficients
        assert a + b * 9 + c * 81 == flops(9)
        assert f"{b:,} T" in module.__doc__
    T = torch.tensor([3, 5])
    split = _split(module, T)
    found = module.timing(lambda batches: None, "train", [torch.tensor([0, 1])], split)
    assert found.flops == sum(cost.step(int(t)) for t in T)
    assert (found.rows, found.tokens, found.padded) == (2, 8, 10)
    found = module.timing(
        lambda batches: None, "one row", [torch.tensor([1, 0])], split
    )
    assert (found.rows, found.flops) == (1, cost.forward(5))


def test_the_floor_of_what_trains_from_a_cache(tmp_path: Path) -> None:
    """Of the forward pass a step has what is behind the cut."""
    made = make("frozen", tmp_path)
    module, cost = made.module("bench"), describe(made.job)
    a, b, c = module.REST
    assert a + b * 9 + c * 81 == cost.rest(9) < cost.forward(9)
    split = _split(module, torch.full((4,), 9))
    some, nothing = [torch.arange(4)], lambda _: None
    train = module.timing(nothing, "train", some, split)
    assert train.flops == 4 * cost.step(9)
    assert module.timing(nothing, "predict", some, split).flops == 4 * cost.forward(9)


def _split(module: Any, lengths: torch.Tensor) -> Any:
    data = sys.modules[f"{module.__package__}.data"]
    starts = lengths.cumsum(0) - lengths
    tokens = data.Tokens(torch.ones(int(lengths.sum())).int(), starts, lengths)
    return data.Split(tokens, torch.zeros(len(lengths)).long())


def test_contenders_get_the_same_rows(tmp_path: Path) -> None:
    module = make("text", tmp_path).module("bench")
    lengths = torch.tensor([9, 2, 5, 7, 3, 8, 4, 6])
    split = _split(module, lengths)
    taken = [torch.tensor([1, 4, 6, 2]), torch.tensor([7, 3, 5, 0])]
    for kind in module.KINDS[:2]:
        for name in (module.OURS, module.DEFAULTS, module.BEST):
            found = module.arrange(name, kind, taken, split)
            assert torch.cat(found).sort().values.tolist() == list(range(8))
            assert [len(some) for some in found] == [4, 4]
    best = torch.cat(module.arrange(module.BEST, "train", taken, split))
    assert lengths[best].tolist() == sorted(lengths.tolist(), reverse=True)
    ordered = torch.cat(module.arrange(module.DEFAULTS, "predict", taken, split))
    assert ordered.tolist() == list(range(8))


def write_rows(folder: Path, pair: bool = False) -> None:
    """A train.csv of forty rows of one to twelve words."""
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "label"] if pair else ["text", "label"])
        for i in range(40):
            text = " ".join(WORDS[(i * j + i) % len(WORDS)] for j in range(1 + i % 12))
            label = ("no", "yes")[i % 2]
            writer.writerow([text, text[::-1], label] if pair else [text, label])


def arguments(made: Whole, folder: Path, **more: Any) -> Namespace:
    options: dict[str, Any] = {
        "root": folder,
        "weights": made.weights,
        "reference": made.weights,
        "against": "transformers",
        "rows": 16,
        "rounds": 2,
        "tokens_per_row": "real",
        "longest": 32,
        "quiet": True,
        "folder": folder,
    }
    return Namespace(**{**options, **more})


@pytest.mark.parametrize(
    "case",
    ["text", "pairs", "decoder", "accumulated", "frozen", "stages", "stages, all kept"],
)
def test_every_contender_works(case: str, tmp_path: Path) -> None:
    made = make(case, tmp_path)
    write_rows(tmp_path, case == "pairs")
    module, args = made.module("bench"), arguments(made, tmp_path)
    module.prepare(args)
    rows, split = module.training_rows(args)
    taken = module.batches_by_length(split)[:2]
    lengths = split.tokens.lengths
    padded = [
        len(some) * int(lengths[some].max()) for some in module.epoch_order(split, 0)
    ]
    some = module.largest(split)
    assert len(some) * int(lengths[some].max()) == max(padded)
    predictions = []
    for name in (module.OURS, module.DEFAULTS, module.BEST):
        module.enter(name, "train", args, rows, split)(taken)
        predict = module.enter(name, "predict", args, rows, split)
        predictions.append(predict(taken))
    ours, defaults, best = predictions
    assert len(ours) == sum(map(len, taken))
    # transformers' two predict the same; its loop asks for logits, ours for labels.
    for a, b in zip(defaults, best, strict=True):
        assert torch.allclose(torch.tensor(a), torch.tensor(b), atol=1e-5)
    logits = torch.tensor([row for batch in defaults for row in batch])
    probabilities = torch.tensor([list(p.probabilities.values()) for p in ours])
    assert torch.allclose(logits.softmax(1), probabilities, atol=1e-5)


def test_every_contender_takes_longer_rows(tmp_path: Path) -> None:
    made = make("longer", tmp_path)
    write_rows(tmp_path)
    module, args = made.module("bench"), arguments(made, tmp_path)
    module.prepare(args)
    rows, split = module.training_rows(args)
    taken = module.batches_by_length(split)[-1:]
    assert int(split.tokens.lengths[taken[0]].max()) > 9
    for name in (module.OURS, module.DEFAULTS, module.BEST):
        for kind in ("train", "predict"):
            module.enter(name, kind, args, rows, split)(taken)


def test_transformers_gets_images_of_the_new_size(tmp_path: Path) -> None:
    made = make("larger images", tmp_path)
    about = made.weights / "preprocessor_config.json"
    old = {"height": 8, "width": 8}
    about.write_text(json.dumps({**json.loads(about.read_text()), "size": old}))
    module, args = made.module("bench"), arguments(made, tmp_path)
    module.prepare(args)
    named = {
        name: json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("preprocessor_config", "config")
    }
    assert named["preprocessor_config"]["size"] == {"height": 12, "width": 16}
    assert named["config"]["image_size"] == [12, 16]


def test_images_of_a_table_are_measured(tmp_path: Path) -> None:
    """Their files are kept where it works, as those that `load_splits` reads are."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def held(job: Job) -> Job:
        inputs = job.data.inputs
        assert isinstance(inputs, ImagePlan)
        plan = replace(
            job.data,
            inputs=replace(inputs, held=True),
            train="train.parquet",
            formats=("parquet",),
        )
        return replace(job, data=plan)

    encoded = []
    for i in range(12):
        file = io.BytesIO()
        Image.new("RGB", (20, 20), (20 * i, 255 - 20 * i, 7)).save(file, "PNG")
        encoded.append(file.getvalue())
    table = {"file": pa.array(encoded, pa.binary()), "label": ["a", "b"] * 6}
    parquet.write_table(pa.table(table), tmp_path / "train.parquet")
    made = make("images", tmp_path, edit=held)
    module, args = made.module("bench"), arguments(made, tmp_path)
    module.prepare(args)
    rows, split = module.training_rows(args)
    taken = module.batches_by_length(split)[:2]
    for name in (module.OURS, module.DEFAULTS, module.BEST):
        module.enter(name, "train", args, rows, split)(taken)
        predicted = module.enter(name, "predict", args, rows, split)(taken)
        assert len(predicted) == (8 if name == module.OURS else 2)  # rows, or batches
    assert len(list((tmp_path / "images").iterdir())) == 12


def test_frozen_is_frozen_for_all(tmp_path: Path) -> None:
    made = make("frozen", tmp_path)
    found = bench.frozen_keys(made.job)
    names = {t.key for t in made.job.model.tensors}
    frozen = {n for n in names if any(part in n for part in found)}
    assert any(n.startswith("bert.embeddings.") for n in frozen)
    assert {n for n in frozen if ".layer." in n} == {
        n for n in names if ".layer.0." in n
    }
    assert not any("classifier" in n or "pooler" in n for n in frozen)


@pytest.mark.parametrize("case", ["text", "pairs"])
def test_rows_of_one_length(case: str, tmp_path: Path) -> None:
    made = make(case, tmp_path)
    write_rows(tmp_path, case == "pairs")
    module = made.module("bench")
    rows, split = module.training_rows(
        arguments(made, tmp_path, tokens_per_row="16", longest=16)
    )
    assert len(rows) > 5
    assert set(split.tokens.lengths.tolist()) == {16}
    assert len(split) == len(rows)


class Here:
    """A pool whose process is this one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def apply(self, call: Any, args: tuple[Any, ...]) -> Any:
        return call(*args)


def test_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but for other processes, whose start takes seconds, and large products
    more than once."""
    made = make("text", tmp_path)
    write_rows(tmp_path)
    module = made.module("bench")
    context = Namespace(Pool=Here)
    monkeypatch.setattr(module.multiprocessing, "get_context", lambda kind: context)
    monkeypatch.setattr(module, "cold_start", lambda name, args, row: float(len(name)))
    rates = itertools.cycle([module.product_rate(), 1e9])
    monkeypatch.setattr(module, "product_rate", lambda: next(rates))
    path = tmp_path / "figures.json"
    options = ["--root", tmp_path, "--weights", made.weights, "--json", path]
    options += ["--rows", 16, "--rounds", 2, "--against", "transformers", "--quiet"]
    assert module.main(list(map(str, options))) == 0
    found = json.loads(path.read_text())
    assert found["rounds"] == 2 and 12 <= found["rows"] <= 20
    for kind in module.KINDS:
        assert list(found[kind]) == [module.OURS, module.DEFAULTS, module.BEST]
        for name, figures in found[kind].items():
            assert figures["examples_per_s"]["median"] > 0
            assert 0 < figures["of_floor"]["median"] < 1
            assert ("ours_is_faster" in figures) == (name != module.OURS)
            spread = figures["flops_per_s"]
            assert spread["low"] <= spread["median"] <= spread["high"]
    ours, defaults = (found["train"][n] for n in (module.OURS, module.DEFAULTS))
    assert ours["padding"] < defaults["padding"] < 1
    assert found["cold_start_s"][module.OURS]["median"] == len(module.OURS)
    assert ours["peak_bytes"] >= found["predict"][module.OURS]["peak_bytes"] > 1e8


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--rows", "0"], "--rows and --rounds are 1 or more"),
        (["--tokens-per-row", "33"], "a number from 2 to"),
        (["--weights", "nowhere"], "no weights at nowhere"),
    ],
)
def test_refuses(
    wrong: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = make("text", tmp_path).module("bench")
    with pytest.raises(SystemExit):
        module.main(["--weights", str(tmp_path), *wrong])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("cut", "no start from"),
        ("of another model", "no start from"),
        ("no safetensors", "no start from"),
        ("no rows", "no file"),
    ],
)
def test_says_in_a_line_what_it_cannot_measure(
    wrong: str, said: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    made = make("text", tmp_path)
    file, module = made.weights / "model.safetensors", made.module("bench")
    if wrong == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif wrong == "of another model":
        save_file({"a": torch.zeros(2)}, file)
    elif wrong == "no safetensors":
        file.write_bytes(b"not weights")
    context = Namespace(Pool=Here)
    monkeypatch.setattr(module.multiprocessing, "get_context", lambda kind: context)
    options = ["--root", tmp_path, "--weights", made.weights, "--quiet"]
    assert module.main(list(map(str, options))) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said} {tmp_path}") and error.count("\n") == 1


def test_a_column_never_becomes_code(tmp_path: Path) -> None:
    """Names of columns reach the child that starts cold as data."""
    made = make("text", tmp_path)
    evil = '"""\n__import__("os").abort() #'
    inputs = made.job.data.inputs
    job = replace(made.job, data=replace(made.job.data, inputs=replace(inputs, columns=(evil,))))  # type: ignore[arg-type]
    tree = ast.parse(bench.render(job))
    assert not [
        n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "__import__"
    ]
    start = next(
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COLD_START"
        if isinstance(node.value, ast.Constant)
    )
    assert isinstance(start, str) and "abort" not in start


def test_cuda_form_measures_there(tmp_path: Path) -> None:
    made = make("text", tmp_path)
    source = bench.render(replace(made.job, target=TargetPlan("cuda", "bf16", True)))
    assert source.count("torch.cuda.synchronize()") == 2
    assert "torch.cuda.max_memory_allocated()" in source
    assert "import resource" not in source
    assert "torch.autocast(" in source


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_losses_are_scaled_for_fp16(tmp_path: Path) -> None:
    """The processor stands in for the device, and scaling is on there too."""
    made = make("text", tmp_path, device="cuda", precision="fp16")
    write_rows(tmp_path)
    module, train = made.module("bench"), made.module("train")
    args = arguments(made, tmp_path)
    module.DEVICE = train.DEVICE = torch.device("cpu")
    rows, split = module.training_rows(args)
    scaled: list[float] = []

    class Seen(torch.amp.GradScaler):
        def scale(self, outputs: Any) -> Any:
            scaled.append(self.get_scale())
            return super().scale(outputs)

    module.GradScaler = Seen
    taken = module.batches_by_length(split)[:2]
    for name, scale in (
        (module.OURS, 2.0**16),
        (module.DEFAULTS, 1),
        (module.BEST, 2.0**16),
    ):
        scaled.clear()
        module.enter(name, "train", args, rows, split)(taken)
        assert scale in scaled, name


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path) -> None:
    made = make("text", tmp_path)
    write_rows(tmp_path)
    path = tmp_path / "figures.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", f"{made.job.name}.bench", "--root", tmp_path),
            *("--weights", made.weights, "--against", "transformers", "--json", path),
            *("--rows", "16", "--rounds", "1"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(path.read_text())
    assert found["cold_start_s"]["transformers, defaults"]["median"] > 0
    assert "of the floor" in run.stdout
