"""Jobs for tests, made without torch: from headers of tensors that are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from generator.archs import find
from generator.archs.build import Request, reference
from generator.ir.job import Backbone, Job, Tensor
from generator.ir.plans import (
    DataPlan,
    ImagePlan,
    TargetPlan,
    Task,
    TextPlan,
    TrainPlan,
)
from generator.ir.verify import verify

LABELS = ("negative", "positive")
TRAIN = TrainPlan(
    epochs=1,
    batch=8,
    batch_tokens=0,
    lr=5e-5,
    schedule="linear",
    warmup=0.1,
    weight_decay=0.01,
    layer_decay=1.0,
    clip=1.0,
    accumulate=1,
    label_smoothing=0.0,
    class_weights="none",
    early_stopping=0,
    seed=0,
    evaluate_every=0,
    save_every=0,
    max_bad_steps=10,
)
TARGET = TargetPlan("cpu", "fp32", False)


def data(inputs: TextPlan | ImagePlan) -> DataPlan:
    return DataPlan("a.csv", None, None, 0.1, 0.1, ("csv",), inputs, ("label",), ";")


def job_from(
    config: Mapping[str, Any],
    headers: Sequence[Tensor],
    task: Task = "text-classification",
    labels: Sequence[str] = LABELS,
    *,
    pair: bool = False,
    head: str = "auto",
    max_tokens: int | None = None,
    dropout: float | None = None,
    attention_dropout: float = 0.0,
) -> Job:
    """The imported job of a checkpoint, verified, with plain plans around it."""
    request = Request(
        config=config,
        tensors=tuple(headers),
        task=task,
        labels=tuple(labels),
        head=head,  # type: ignore[arg-type]
        dropout=dropout,
        attention_dropout=attention_dropout,
        pair=pair,
        max_tokens=max_tokens,
    )
    architecture = str(config["model_type"])
    imported = find(architecture).build(request)
    model = imported.model
    if task == "image-classification":
        height, width = (
            d.value(model.sizes) for d in model.main.inputs[0].type.shape[2:]
        )
        half = (0.5, 0.5, 0.5)
        inputs: TextPlan | ImagePlan = ImagePlan(
            "file", (height, width), "exact", "bilinear", None, 1 / 255, half, half
        )
    else:
        bound = next((d.bound for d in model.dims if d.symbol == "T"), None)
        inputs = TextPlan(
            ("a", "b") if pair else ("text",),
            max_tokens or bound or 512,
            imported.pad_id,
            imported.token_types,
        )
    backbone = Backbone("a/folder", None, None, architecture)
    names = tuple(labels)
    job = Job("tiny", task, names, backbone, model, data(inputs), TRAIN, TARGET)
    job = replace(job, reference=reference(config))
    verify(job)
    return job


def bert_config(**changed: Any) -> dict[str, Any]:
    """A config.json; its sizes differ, so that a wrong one shows."""
    return {
        "model_type": "bert",
        "vocab_size": 31,
        "max_position_embeddings": 13,
        "type_vocab_size": 5,
        "num_hidden_layers": 2,
        "hidden_size": 12,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "hidden_act": "gelu",
        "id2label": {"0": "negative", "1": "positive"},
        **changed,
    }


def bert_headers(
    config: Mapping[str, Any], *, prefix: str = "bert.", pooler: bool = True
) -> tuple[Tensor, ...]:
    """The tensors of a BERT classifier, as its header lists them."""
    C, F = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(key: str, wide: int, inner: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (wide, inner), (wide,)

    def norm(key: str) -> None:
        shapes[f"{key}.weight"] = shapes[f"{key}.bias"] = (C,)

    for name, rows in (
        ("word", config["vocab_size"]),
        ("position", config["max_position_embeddings"]),
        ("token_type", config["type_vocab_size"]),
    ):
        shapes[f"{prefix}embeddings.{name}_embeddings.weight"] = (rows, C)
    norm(f"{prefix}embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        block = f"{prefix}encoder.layer.{i}."
        for part in ("query", "key", "value"):
            linear(f"{block}attention.self.{part}", C, C)
        linear(f"{block}attention.output.dense", C, C)
        norm(f"{block}attention.output.LayerNorm")
        linear(f"{block}intermediate.dense", F, C)
        linear(f"{block}output.dense", C, F)
        norm(f"{block}output.LayerNorm")
    if pooler:
        linear(f"{prefix}pooler.dense", C, C)
    if prefix:
        linear("classifier", len(config["id2label"]), C)
    return tuple(Tensor(k, "F32", s) for k, s in sorted(shapes.items()))


def tiny_bert(**changed: Any) -> Job:
    """An imported BERT of two blocks of width 12, or as the config's keys say."""
    config = bert_config(**changed)
    return job_from(config, bert_headers(config))
