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
    times = asked["times"]

    @torch.inference_mode()
    def work() -> None:
        for _ in range(times):
            with computing(contender):
                model(*inputs)
        settled(device)

    return work


def rows(asked: Mapping[str, Any], contender: Mapping[str, Any]) -> Work:
    """Validation rows in the batches of an evaluation."""
    device = contender["device"]
    model = model_of(contender).to(device)
    data = module(contender, "data")
    found = data.load_splits(Path(asked["root"]), Path(contender["work"])).valid
    batches = []
    for one in data.evaluation_batches(found):
        batches.append(one.inputs)
        if len(batches) * data.BATCH >= asked["rows"]:
            break

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


def timed(works: Sequence[Work], rounds: int) -> list[list[float]]:
    """Seconds of each round, by contender; a first round warms up."""
    found: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        turn = number % len(works)  # so that each is first in some rounds
        for i in [*range(turn, len(works)), *range(turn)]:
            start = time.perf_counter()
            works[i]()
            found[i].append(time.perf_counter() - start)
    return [seconds[1:] for seconds in found]


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
    seconds = timed(works, asked["rounds"])
    medians = [statistics.median(some) for some in seconds]
    print(json.dumps({"seconds": seconds, "medians": medians}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
