"""What a trained job is as a checkpoint of transformers: its files but for the weights.

Whether there is such a checkpoint is seen by importing it: the configuration and the names
and shapes of its tensors are given to the architecture, and what comes out has to be the
program of the edited job. So no edit needs to be known here, nor any architecture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from generator import archs
from generator.archs.build import PROBLEMS, Request, Saved
from generator.errors import GenError
from generator.facts import Card
from generator.ir.dims import Dim
from generator.ir.head import classifier, units
from generator.ir.job import (
    Const,
    Job,
    Model,
    Module,
    Op,
    Tensor,
    parameters,
)
from generator.ir.plans import ImagePlan, TextPlan
from generator.ir.saving import Unsaveable, stored
from generator.passes.trim_vocab import kept_tokens

ADAPTED = {"lora_linear": "linear", "dora_linear": "linear", "ia3_linear": "linear"}
# Keys of the tokenizer's configuration that say something of a tokenizer.json.
TOKENS = ("bos", "cls", "eos", "mask", "pad", "sep", "unk")
KEPT = (
    "clean_up_tokenization_spaces",
    "do_lower_case",
    *(f"{t}_token" for t in TOKENS),
)


def names(job: Job) -> Saved:
    """What the classifier of the job's architecture is saved as."""
    return archs.find(job.backbone.architecture).SAVED


def files(job: Job, edited: Job, card: Card, request: Request) -> dict[str, bytes]:
    """The files beside the weights, by name; `edited` is the job as its passes found it.

    Unsaveable where transformers has no class that computes what the job computes.
    """
    if units(job.model) and not classifier(job.model).has_bias:
        raise Unsaveable(
            "its last layer has no bias to take up the mean of the targets, without which "
            "answers mean nothing (standardise = false in [train] does without)"
        )
    config = _config(job, edited, request)
    shapes = {p.path: p.shape for p in parameters(job)}
    pairs = (pair for one in stored(job) for pair in one.shapes(shapes))
    tensors = tuple(Tensor(key, "F32", shape) for key, shape in sorted(pairs))
    _compare(edited, replace(request, config=config, tensors=tensors, head="keep"))
    found = {"config.json": config}
    if isinstance(job.data.inputs, TextPlan):
        found["tokenizer_config.json"] = _tokenizer(job.data.inputs, card)
    elif card.preprocessor is not None:
        found["preprocessor_config.json"] = dict(card.preprocessor)
        if job.reference.size:
            found["preprocessor_config.json"] |= _image_size(job.data.inputs)
    return {name: _json(value) for name, value in found.items()}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=True).encode() + b"\n"


def _config(job: Job, edited: Job, request: Request) -> dict[str, Any]:
    """config.json, with the sizes, the labels and the tokens that there are here."""
    saved, model = names(job), edited.model
    config = dict(request.config)
    sizes = model.sizes
    for symbol, key in saved.sizes.items():
        if symbol in sizes and (symbol != "D" or _own_width(config, sizes)):
            config[key] = sizes[symbol]
    if edited.reference.size:
        config["image_size"] = list(edited.reference.size)
    if isinstance(job.data.inputs, TextPlan) and config.get("pad_token_id") is not None:
        config["pad_token_id"] = job.data.inputs.pad_id
    for key in ("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"):
        if config.get(key) is not None:
            config[key] = _renumbered(edited, config[key])
    config.pop("num_labels", None)  # which follows from these
    if config.get("chunk_size_feed_forward"):  # which takes rows of some lengths alone
        config["chunk_size_feed_forward"] = 0
    config["id2label"] = {str(i): label for i, label in enumerate(job.labels)}
    config["label2id"] = {label: i for i, label in enumerate(job.labels)}
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = "float32"
    return config | {
        "architectures": [saved.classes[job.backbone.architecture]],
        "problem_type": PROBLEMS[job.task],
    }


def _own_width(config: Mapping[str, Any], sizes: Mapping[str, int]) -> bool:
    """Whether a head's width has to be said: it is no part of the model's, or it was."""
    return config.get("head_dim") is not None or sizes["D"] * sizes["H"] != sizes["C"]


def _renumbered(job: Job, given: Any) -> Any:
    """A token's new id, or those of several; None of one that is not kept."""
    kept = kept_tokens(job)
    if not kept:
        return given
    new = {old: i for i, old in enumerate(kept)}
    if isinstance(given, list):
        return [new[one] for one in given if one in new]
    return new.get(given)


def _image_size(plan: ImagePlan) -> dict[str, Any]:
    """What the preprocessor's configuration says instead where images are larger."""
    found: dict[str, Any] = {}
    if plan.resize is not None:
        height, width = plan.resize
        found["size"] = {"height": height, "width": width}
        if plan.resize_mode == "shortest":
            found["size"] = {"shortest_edge": height}
    if plan.crop is not None:
        found["crop_size"] = {"height": plan.crop[0], "width": plan.crop[1]}
    return found


def _tokenizer(plan: TextPlan, card: Card) -> dict[str, Any]:
    """tokenizer_config.json of the tokenizer.json that the package has."""
    config = card.tokenizer_config or {}
    found: dict[str, Any] = {}
    for key in KEPT:
        value = config.get(key)
        value = value.get("content") if isinstance(value, Mapping) else value
        if value is not None:
            found[key] = value
    types = ["token_type_ids"] if plan.token_types else []
    return found | {
        "model_input_names": ["input_ids", *types, "attention_mask"],
        "model_max_length": plan.max_tokens,
        "padding_side": "right",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "truncation_side": "right",
    }


# ------------------------------------------------------------------------- the program


def _compare(edited: Job, request: Request) -> None:
    """Unsaveable where the checkpoint of a request is not the edited job's model."""
    try:
        imported = archs.find(edited.backbone.architecture).build(request).model
    except GenError as error:
        raise Unsaveable(error.diagnostics[0].message) from None
    here, there = list(_steps(edited.model)), list(_steps(imported))
    for ours, theirs in zip(here, there):
        if ours != theirs:
            raise Unsaveable(
                f"where it has {_said(theirs)}, this model has {_said(ours)}"
            )
    if len(here) != len(there):
        longer = max(here, there, key=len)[min(len(here), len(there))]
        whose = "this model" if len(here) > len(there) else "it"
        raise Unsaveable(f"{whose} has {_said(longer)} besides")


Step = tuple[str, tuple[int, ...], tuple[tuple[str, Any], ...], tuple[Any, ...], str]


def _said(step: Step) -> str:
    kind, _, attrs, shapes, where = step
    words = [f"{name} {value}" for name, value in attrs]
    words += [" by ".join(map(str, shape)) for _, shape in shapes]
    return f"{where}: {kind}" + (f" ({', '.join(words)})" if words else "")


def _steps(model: Model) -> Iterator[Step]:
    """The operations that predict, one after the other, with their values by number.

    Adapters count as merged, and two linears that are factors of one as that one. Where
    an operation stands is told by its path, which is for messages and compared as well.
    """
    numbers = iter(range(1 << 30))

    def run(module: Module, path: str, scope: Mapping[str, Dim], given: list[int]):
        known = dict(zip((v.name for v in module.inputs), given, strict=True))
        types = {p.name: p.type for p in module.parameters}
        for op in module.ops:
            args = [known[arg] for arg in op.args]
            if op.kind in ("call", "repeat"):
                instance = module.instance(op.name)
                inner = model.by_name[instance.module]
                for name, _, _ in instance.each():
                    args[: len(inner.outputs)] = yield from run(
                        inner, f"{path}{name}.", instance.within(scope), args
                    )
                results = args[: len(inner.outputs)]
            elif op.kind == "dropout" or op.name.endswith(".reduce"):
                results = args[:1]
            else:
                results = [next(numbers) for _ in op.results]
                yield _step(model, op, path, scope, tuple(args), types)
            for result, number in zip(op.results, results):
                known[result.name] = number
        return [known[name] for name in module.outputs]

    yield from run(model.main, "", {}, [next(numbers) for _ in model.main.inputs])


def _step(
    model: Model,
    op: Op,
    path: str,
    scope: Mapping[str, Dim],
    args: tuple[int, ...],
    types: Mapping[str, Any],
) -> Step:
    value: Callable[[Any], Any] = lambda v: _worth(model, scope, v)
    adapted = op.kind in ADAPTED
    attrs = tuple(
        (name, value(v)) for name, v in op.attrs if not adapted and name != "dropout"
    )
    name = op.name.removesuffix(".expand")
    shapes = []
    for parameter, kind in types.items():
        owner, _, part = parameter.rpartition(".")
        if owner != op.name and parameter != op.name:
            continue
        if adapted and part not in ("weight", "bias"):
            continue
        shape = kind.substitute(scope).sizes(model.sizes)
        if op.name.endswith(".expand") and part == "weight":
            first = types[f"{name}.reduce.weight"].substitute(scope).sizes(model.sizes)
            shape = (shape[0], first[1])
        shapes.append((part, shape))
    kind = ADAPTED.get(op.kind, op.kind)
    return kind, args, attrs, tuple(sorted(shapes)), path + name


def _worth(model: Model, scope: Mapping[str, Dim], value: Any) -> Any:
    """An attribute by what it is worth, whatever it is called."""
    match value:
        case Const(name):
            return model.constants[name]
        case Dim():
            return value.substitute(scope).value(model.sizes)
        case tuple():
            return tuple(_worth(model, scope, one) for one in value)
    return value
