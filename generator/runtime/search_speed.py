"""Measures how fast packages predict, one beside the other in the same process, and what
one of them takes of memory, alone in it.

    python search_speed.py ASKED.json

Each contender is given the same work in every round, in turn. What is compared is their
ratio to the first of them in a round, which another load of the machine changes little.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import runpy
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Work = Callable[[], object]
MOST = 200  # times that something short is done in a round


def module(contender: Mapping[str, str], part: str) -> Any:
    """A module of a contender's package, read anew: the names of all are the same."""
    name = contender["name"]
    for known in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[known]
    sys.path.insert(0, contender["parent"])
    try:
        return importlib.import_module(f"{name}.{part}")
    finally:
        sys.path.remove(contender["parent"])


def weights_of(contender: Mapping[str, str]) -> Path:
    """The file that predict.py loads: of what was trained, or of the backbone as if it were."""
    trained, deployed = Path(contender["trained"]), Path(contender["deployed"])
    if not trained.is_file():
        torch.manual_seed(0)
        model = module(contender, "model").load_pretrained(contender["weights"])
        trained.parent.mkdir(parents=True, exist_ok=True)
        save(model.state_dict(), trained)
    if not Path(contender["parent"], contender["name"], "deploy.py").is_file():
        return trained
    if not deployed.is_file():
        deploy = module(contender, "deploy")
        ranges = []
        if hasattr(deploy, "find_ranges"):  # of inputs, which change no time
            ranges = [dict.fromkeys(deploy.LINEARS, (-1.0, 1.0))]
        save(deploy.lowered(deploy.load_trained(trained), *ranges), deployed)
    return deployed


def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Whole or not at all: who is killed here leaves no file that seems to be done."""
    part = path.with_suffix(".part")
    save_file(tensors, part)
    part.replace(path)


def model_of(contender: Mapping[str, str]) -> Any:
    """The model that predicts."""
    path = weights_of(contender)
    if path == Path(contender["trained"]):
        return module(contender, "predict").load_trained(path)
    return module(contender, "deploy").load_deployed(path)


def computing(contender: Mapping[str, str]) -> torch.autocast:
    """What predict.py runs the model in."""
    half = contender["autocast"]
    kind = getattr(torch, half or "bfloat16")
    return torch.autocast(contender["device"], kind, enabled=half != "")


def settled(device: str) -> None:
    """Wait until a card has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def batch(asked: Mapping[str, Any], contender: Mapping[str, Any]) -> Work:
    """A batch of rows of one length."""
    device = contender["device"]
    model = model_of(contender).to(device)
    torch.manual_seed(0)
    inputs = []
    for dtype, shape in contender["inputs"]:
        kind = getattr(torch, dtype)
        if kind.is_floating_point:
            inputs.append(torch.randn(shape, dtype=kind).to(device))
        else:
            inputs.append(torch.ones(shape, dtype=kind, device=device))

    @torch.inference_mode()
    def work() -> None:
        with computing(contender):
            model(*inputs)
        settled(device)

    return work


def every(load: Callable[..., Any], split: str, most: int) -> Callable[..., Any]:
    """`load_rows` with at most so many rows of a split: every second, or every tenth, since
    those of a file that is sorted are not all alike."""

    def loaded(*arguments: Any) -> Mapping[str, Any]:
        found = dict(load(*arguments))
        numbers = torch.arange(len(found[split]))
        found[split] = found[split].where(numbers % -(-len(numbers) // most) == 0)
        return found

    return loaded


def rows(asked: dict[str, Any], contender: Mapping[str, Any]) -> Work:
    """Rows of a split in the batches of an evaluation, the same rows for each contender."""
    device, split = contender["device"], asked["split"]
    model = model_of(contender).to(device)
    data = module(contender, "data")
    data.load_rows = every(data.load_rows, split, asked["rows"])
    splits = data.load_splits(Path(asked["root"]), Path(contender["work"]))
    found = getattr(splits, split)
    asked["counted"] = len(found)
    batches = [one.inputs for one in data.evaluation_batches(found)]

    @torch.inference_mode()
    def work() -> None:
        for inputs in batches:
            given = [x if x is None else x.to(device) for x in inputs]
            with computing(contender):
                model(*given)
        settled(device)

    return work


def texts(asked: dict[str, Any], contender: Mapping[str, Any]) -> Work:
    """The texts of the test rows, as a user has them answered."""
    if contender["name"] == "transformers":
        return theirs(asked, contender)
    own = module(contender, "predict").Predictor(weights_of(contender))
    data = module(contender, "data")
    given = data.load_rows(Path(asked["root"]), Path(contender["work"]))["test"]
    asked["texts"] = some = [row.text for row in given]
    if hasattr(own, "of_texts"):  # which are given what else a row says, as it was read
        raw = [row.raw for row in given]
        return lambda: own.of_texts(some, raw)
    return lambda: own.predict(some)


def theirs(asked: Mapping[str, Any], contender: Mapping[str, Any]) -> Work:
    """transformers at its best: fp32, rows of one length together."""
    from transformers import (
        AutoConfig,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    reference = contender["weights"]
    tokenizer = AutoTokenizer.from_pretrained(reference)
    config = AutoConfig.from_pretrained(reference, num_labels=asked["labels"])
    config.chunk_size_feed_forward = 0  # with parts of rows it takes some lengths alone
    model = AutoModelForSequenceClassification.from_pretrained(
        reference,
        config=config,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
    )
    model = model.eval().to(contender["device"])
    texts, size = asked["texts"], asked["batch"]
    pair = isinstance(texts[0], tuple)
    columns = [list(column) for column in zip(*texts)] if pair else [texts]

    @torch.inference_mode()
    def work() -> None:
        made = tokenizer(*columns, truncation=True, max_length=asked["longest"])
        lengths = [len(ids) for ids in made["input_ids"]]
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        for start in range(0, len(order), size):
            some = order[start : start + size]
            batch = {name: [values[i] for i in some] for name, values in made.items()}
            padded = tokenizer.pad(batch, return_tensors="pt")
            padded = padded.to(contender["device"])
            model(**padded).logits.tolist()

    return work


def often(work: Work, least: float) -> int:
    """How many times it is done in `least` seconds, by the quickest of as many tries: one
    that was disturbed would make for rounds that are short beside the next disturbance.
    """
    once, spent = math.inf, 0.0
    while spent < least:
        start = time.perf_counter()
        work()
        took = time.perf_counter() - start
        once, spent = min(once, took), spent + took
    return max(1, min(MOST, round(least / max(once, 1e-6))))


def timed(works: Sequence[Work], rounds: int, least: float) -> list[list[float]]:
    """Seconds of each round, by contender, of each doing its work once. In a round they do
    it so many times that the last of them takes `least` seconds, which is long beside what
    disturbs it; each has warmed up."""
    for work in works:
        work()
    times = often(works[-1], least) if least else 1
    found: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        turn = number % len(works)  # so that each is first in some rounds
        for i in [*range(turn, len(works)), *range(turn)]:
            start = time.perf_counter()
            for _ in range(times):
                works[i]()
            found[i].append((time.perf_counter() - start) / times)
    return found


def held(asked: Mapping[str, Any], contender: Mapping[str, Any]) -> int:
    """Bytes that loading the model and predicting with it takes at most, of a process that
    has done both before: what it then has more of is no code of the libraries. The weights
    must be there."""
    batch(asked, contender)()
    if contender["device"] == "cuda":
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        batch(asked, contender)()
        return torch.cuda.max_memory_allocated() - before
    memory = runpy.run_path(str(Path(__file__).with_name("search_memory.py")))
    before = memory["begin"]()
    work = batch(asked, contender)
    work()
    work()
    return memory["peak"]() - before


def main() -> int:
    asked = json.loads(Path(sys.argv[1]).read_text())
    if asked["kind"] == "size":
        sizes = [weights_of(one).stat().st_size for one in asked["contenders"]]
        print(json.dumps({"medians": sizes}))
        return 0
    if asked["kind"] == "memory":
        taken = [held(asked, one) for one in asked["contenders"]]
        print(json.dumps({"medians": taken}))
        return 0
    kinds = {"batch": batch, "rows": rows, "texts": texts}
    works = [kinds[asked["kind"]](asked, one) for one in asked["contenders"]]
    seconds = timed(works, asked["rounds"], asked["least"])
    medians = [statistics.median(some) for some in seconds]
    counted = asked.get("counted", 1)
    print(json.dumps({"seconds": seconds, "medians": medians, "rows": counted}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
