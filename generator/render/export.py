"""export.py of a package, and what goes into the folders that it writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from generator.ir.deploy import linears
from generator.ir.head import classifier, units
from generator.ir.job import Job
from generator.ir.plans import ImagePlan, TextPlan
from generator.ir.saving import Stored, stored
from generator.render import calibrate, data, deploy, guard
from generator.render.data import CleanView, DataView
from generator.render.text import fill, py

FILE, EXAMPLE, ABOUT = "export.py", "onnx_example.py", "preprocess.json"
# Of each kind: what it is called, what it is made by beside torch, and how near its logits
# have to come to the model's. transformers computes the same in the same order, nearly.
KINDS: Mapping[str, tuple[str, tuple[str, ...], float]] = {
    "onnx": (
        "a file for ONNX Runtime and others",
        ("onnx", "onnxruntime", "onnxscript"),
        1e-4,
    ),
    "torch": ("a program of torch.export", (), 1e-4),
    "transformers": ("a folder for from_pretrained", ("transformers",), 1e-5),
}
# Of deployed models those that graphs are written of.
PORTABLE = ("int8", "int8-weights", "int4-weights", "bf16")
# Of products of whole numbers: how near logits have to come, and the part of the rows that
# may have another label. What lies between two whole numbers goes to either.
PRODUCTS_BOUND, CHANGED = 0.1, 0.01
# Of sums in bfloat16, which are rounded in another order where a mask is always given.
BF16_BOUND = 0.02
DEPLOY = ("SMALLEST", "assemble", "load_deployed")  # of deploy.py
# What forward takes, by transformers' names.
THEIRS = {"ids": "input_ids", "types": "token_type_ids", "mask": "attention_mask"}


@dataclass(frozen=True)
class NameView:
    """A parameter of some blocks, or of none; `{i}` is the block, `{p}` weight and bias."""

    ours: str
    theirs: tuple[str, ...]
    blocks: str  # code
    rows: tuple[int, ...]  # of each of theirs
    tables: tuple[tuple[int, int], ...]
    reduced: str

    @property
    def alike(self) -> bool:
        return len(set(self.rows)) == 1


@dataclass(frozen=True)
class ExportView:
    """All that export.py.j2 and its partials read. Strings of code are marked as such."""

    name: str
    program: str
    work: str
    to: tuple[tuple[str, str], ...]  # and, in prose, what each is
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    needed: tuple[tuple[str, tuple[str, ...]], ...]  # modules of each kind
    bounds: str  # code
    graphs: bool  # the model is traced
    onnx: bool
    torch: bool
    transformers: bool
    deployed: tuple[str, ...]  # kinds that are of another model than the trained one
    trained: tuple[tuple[str, str], ...]  # the others beside them, and in prose why
    kind: str  # what the deployed model is kept in
    products: str  # code: those of whole numbers, by kind; "" where there are none
    bias: str  # "all", "some" or "none" of the rounded linears
    changed: float  # part of the rows that may have another label
    weights: str  # the file that is read
    writer: str  # prose: what wrote it
    inspecting: str  # code: what leaves out rows as in training; "" where nothing does
    calibrated: bool  # the probabilities are not those of the logits alone
    images: bool
    regression: bool
    units: tuple[str, ...]  # names of tensors that answers are scaled and shifted by
    head: str  # code: what of the model gives them
    outputs: str  # prose: how many numbers a row gets
    inputs: tuple[str, ...]  # of forward, by name
    example: str  # code: inputs but for the mask
    pixels: str  # code: the shape of some images
    beside: tuple[str, ...]  # files that go with a graph
    files: tuple[str, ...]  # and with a folder for transformers
    found_label: str  # code
    expected_label: str  # code
    others: str  # code: how many rows have other labels
    auto: str  # code: transformers' class
    alone: bool  # its model takes a row at a time
    taken: str  # code: the inputs, unpacked
    given: str  # code: the same as arguments
    names: tuple[NameView, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    tables: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
    factors: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ExampleView:
    """All that onnx_example.py.j2 reads."""

    name: str
    answers: str  # prose
    things: str  # prose
    needed: str  # prose: packages
    arguments: str  # prose: of the command line
    files: str  # prose
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    images: bool
    pair: bool
    types: bool
    regression: bool
    multi_label: bool
    temperature: bool
    text_type: str  # code
    encoded: str  # code
    row: str  # what a row is called in the answer
    redacts: bool
    clean: CleanView
    data: DataView


def asked(job: Job) -> bool:
    return len(job.export.to) > 0


def deployed(job: Job, kind: str) -> bool:
    """Whether an export is of the deployed model, where that is another one."""
    return job.deploy.lowered and not why_trained(job, kind)


def why_trained(job: Job, kind: str) -> str:
    """Why an export is of the trained model though another one predicts, in prose."""
    if not job.deploy.lowered:
        return ""
    if kind == "transformers":
        return "its classes have no such weights"
    own = deploy.kind(job)
    if own not in PORTABLE:
        return f'"{own}" multiplies by what the other program has not'
    if kind == "onnx" and own == "bf16":
        return "ONNX Runtime has no products of bfloat16 on a processor"
    return ""


def render(job: Job) -> str:
    """The source of export.py, not yet formatted."""
    view = export_view(job)
    body = fill("partials/export_body.j2", view)
    return fill("export.py.j2", replace(view, imports=data.imports(body, _beside(job))))


def _beside(job: Job) -> dict[str, tuple[int, str]]:
    """Imports of the names that are export.py's own affair."""
    found = {
        "find_spec": (data.STDLIB, "from importlib.util"),
        "version": (data.STDLIB, "from importlib.metadata"),
        "product": (data.STDLIB, "from itertools"),
        "logging": (data.STDLIB, "import logging"),
        "mkdtemp": (data.STDLIB, "from tempfile"),
        "warnings": (data.STDLIB, "import warnings"),
        "save_file": (data.INSTALLED, "from safetensors.torch"),
        "data": (data.OWN, "from ."),
        "load_trained": (data.OWN, f"from .{deploy.trained_in(job)}"),
        "partial": (data.STDLIB, "from functools"),
        "nn": (data.INSTALLED, "from torch"),
        "load_file": (data.INSTALLED, "from safetensors.torch"),
        **{name: (data.OWN, "from .deploy") for name in DEPLOY},
    }
    found |= {**calibrate.IMPORT, **guard.IMPORT}
    if isinstance(job.data.inputs, TextPlan):
        found["MAX_TOKENS"] = (data.OWN, "from .data")
    return found


def export_view(job: Job) -> ExportView:
    """The view of a job that is exported."""
    to, inputs = job.export.to, job.data.inputs
    of_deployed = tuple(kind for kind in to if deployed(job, kind))
    products = deploy.exported_as_products(job) and len(linears(job)) > 0
    bounds = {kind: KINDS[kind][2] for kind in to}
    if products:
        bounds |= dict.fromkeys(of_deployed, PRODUCTS_BOUND)
    halved = deploy.kind(job) == "bf16" and len(of_deployed) > 0
    if halved:
        bounds |= dict.fromkeys(of_deployed, BF16_BOUND)
    images = isinstance(inputs, ImagePlan)
    names = [value.name for value in job.model.main.inputs]
    multi, regression = job.task == "multi-label", job.task == "regression"
    folder = "transformers" in to
    stores = tuple(_names(job)) if folder else ()
    label = "({} > 0)" if multi else "{}.argmax(1)"
    auto = "Image" if images else "Sequence"
    shape = job.model.main.inputs[0].type.shape
    sizes = [str(d.value({**job.model.sizes, "B": 2})) for d in shape] if images else []
    tokenizer = [] if images else ["tokenizer.json"]
    config = "preprocessor_config.json" if images else "tokenizer_config.json"
    return ExportView(
        name=job.name,
        program=f"python -m {job.name}.export",
        work=f"runs/{job.name}",
        to=tuple((kind, KINDS[kind][0]) for kind in to),
        imports=(),
        needed=tuple((kind, KINDS[kind][1]) for kind in to),
        bounds="{" + ", ".join(f"{py(k)}: {py(x)}" for k, x in bounds.items()) + "}",
        graphs=to != ("transformers",),
        onnx="onnx" in to,
        torch="torch" in to,
        transformers=folder,
        deployed=of_deployed,
        trained=tuple((kind, why) for kind in to if (why := why_trained(job, kind))),
        kind=deploy.kind(job) if job.deploy.lowered else "",
        products=(
            "{" + ", ".join(f"{py(k)}: {k}_product" for k in of_deployed) + "}"
            if products
            else ""
        ),
        bias=deploy.biased(linears(job)) if products else "",
        changed=CHANGED if (products or halved) and not regression else 0.0,
        weights="deployed.safetensors" if of_deployed else "model.safetensors",
        writer="deploy.py" if of_deployed else "training",
        inspecting=guard.as_in_training(job, "work"),
        calibrated=calibrate.asked(job),
        images=images,
        regression=regression,
        units=units(job.model),
        head=classifier(job.model).call.name,
        outputs="targets" if regression else "labels",
        inputs=tuple(names),
        example=", ".join(["ids", *["torch.zeros_like(ids)"] * (len(names) - 2)]),
        pixels=", ".join(sizes),
        beside=(ABOUT, *tokenizer),
        files=("config.json", config, *tokenizer),
        found_label=label.format("found"),
        expected_label=label.format("expected"),
        others="others.any(1).sum()" if multi else "others.sum()",
        auto=f"AutoModelFor{auto}Classification",
        alone=_alone(job),
        taken=", ".join(names),
        given=", ".join(f"{THEIRS[name]}={name}" for name in names if name in THEIRS),
        names=stores,
        rows=tuple((one.ours, one.rows) for one in stores if not one.alike),
        tables=tuple((one.ours, one.tables) for one in stores if one.tables),
        factors=tuple((one.ours, one.reduced) for one in stores if one.reduced),
    )


def _alone(job: Job) -> bool:
    """Whether rows end at their last token, whatever token that is: then the checkpoint
    names no padding token, without which transformers takes no batch."""
    return any(
        op.kind == "last_index" and "padding" not in op.attrs_dict
        for module in job.model.modules
        for op in module.ops
    )


def _names(job: Job) -> Iterator[NameView]:
    """The parameters, those of blocks that differ in their numbers alone as one."""
    stem = job.model.blocks[0].name.rpartition(".")[0]
    grouped: dict[tuple, list[int]] = {}
    for one in stored(job):
        block = re.match(rf"{re.escape(stem)}\.(\d+)\.", one.path)
        number = int(block[1]) if block else -1
        grouped.setdefault(_without_number(one, stem, number), []).append(number)
    every = [*grouped.items()]
    layers = {key[0].removesuffix(".weight"): key for key, _ in every}
    for key, blocks in every:
        ours, theirs, *rest = key
        layer, _, part = ours.rpartition(".")
        other = layers.get(layer)
        both = other is not None and grouped.get(_of(other, "bias")) == blocks
        if part == "bias" and both and grouped.get(_of(key, "weight")) == blocks:
            continue
        if part == "weight" and both:
            ours, theirs, *rest = _of(key, "{p}")
        yield NameView(ours, theirs, _numbers(blocks), *rest)


def _of(key: tuple, part: str) -> tuple:
    """The same of another part of a layer."""
    ours, theirs, *rest = key

    def named(name: str) -> str:
        return re.sub(r"\.(weight|bias)$", f".{part}", name)

    return named(ours), tuple(map(named, theirs)), *rest


def _without_number(one: Stored, stem: str, number: int) -> tuple:
    def general(name: str) -> str:
        return re.sub(rf"(^|\.){number}\.", r"\1{i}.", name, count=1)

    if number < 0:
        return one.path, one.keys, one.rows, one.tables, one.reduced
    return (
        general(one.path),
        tuple(map(general, one.keys)),
        one.rows,
        one.tables,
        general(one.reduced),
    )


def _numbers(blocks: Sequence[int]) -> str:
    if blocks == [-1]:
        return "ONCE"
    if [*blocks] == [*range(blocks[0], blocks[-1] + 1)]:
        first = f"{blocks[0]}, " if blocks[0] else ""
        return f"range({first}{blocks[-1] + 1})"
    return py(tuple(blocks))


# --------------------------------------------------------------- what lies beside a model


def about(job: Job) -> bytes:
    """preprocess.json: what is done to a row, and what the answers are."""
    inputs = job.data.inputs
    found: dict[str, Any] = {
        "inputs": [value.name for value in job.model.main.inputs],
        "labels": list(job.labels),
        "answer": {"multi-label": "sigmoid", "regression": "values"}.get(
            job.task, "softmax"
        ),
    }
    if isinstance(inputs, TextPlan):
        found |= {
            "columns": list(inputs.columns),
            "clean": [line for line in data.clean_view(job.data).asked],
            "max_tokens": inputs.max_tokens,
            "pad": inputs.pad_id,
        }
    else:
        image: dict[str, Any] = {"resize": inputs.resize, "crop": inputs.crop}
        image |= {
            "mode": inputs.resize_mode,
            "resample": inputs.resample.upper(),
            "rescale": inputs.rescale,
            "mean": inputs.mean,
            "std": inputs.std,
        }
        found |= {"column": inputs.column, "image": image}
    return json.dumps(found, indent=1).encode() + b"\n"


def example(job: Job) -> str:
    """The source of a program that answers by the ONNX file, not yet formatted."""
    view = example_view(job)
    body = fill("partials/onnx_example_body.j2", view)
    installed = {
        "np": (data.INSTALLED, "import numpy as np"),
        "InferenceSession": (data.INSTALLED, "from onnxruntime"),
    }
    imports = data.imports(body, installed)
    return fill("onnx_example.py.j2", replace(view, imports=imports))


def example_view(job: Job) -> ExampleView:
    inputs, regression = job.data.inputs, job.task == "regression"
    images = isinstance(inputs, ImagePlan)
    pair = len(job.data.texts) == 2
    view = data.data_view(job)
    thing, clean = data.data_thing(job.data), data.clean_text(job.data)
    return ExampleView(
        name=job.name,
        answers="Values" if regression else "Probabilities of labels",
        things={"image": "images", "pair": "pairs of texts", "text": "texts"}[thing],
        needed=f"numpy onnxruntime {'pillow' if images else 'tokenizers'}",
        arguments={
            "image": "a.png b.png",
            "pair": "'a text' 'the other'",
            "text": "'a text' 'and one more'",
        }[thing],
        files=(
            "model.onnx and preprocess.json"
            if images
            else "model.onnx, preprocess.json and tokenizer.json"
        ),
        imports=(),
        images=images,
        pair=pair,
        types=view.types,
        regression=regression,
        multi_label=job.task == "multi-label",
        temperature=job.deploy.temperature,
        text_type="tuple[str, str]" if pair else "str",
        encoded="list(texts)" if clean == "text" else f"[{clean} for text in texts]",
        row=thing,
        redacts=job.data.guard.personal == "redact",
        clean=view.clean,
        data=view,
    )
