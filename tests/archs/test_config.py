"""config.json: every key of transformers' own classes is classified, and its errors."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
import transformers
from transformers.activations import ACT2FN

from generator import archs
from generator.archs import find
from generator.archs.build import ACTIVATIONS, PROBLEMS, Request
from generator.archs.config import HARMLESS, NEUTRAL, Config
from generator.compile import draft
from generator.errors import GenError
from generator.facts import CardTensor
from generator.ir.job import Tensor, parameters
from generator.ir.ops import ACTIVATIONS as OURS
from generator.ir.plans import Task
from generator.spec import read_spec
from tests.building.build_support import drafts_of, spec_text, text_facts
from tests.oracle import job_of

MODEL_TYPES = sorted(
    model_type
    for name in archs.names()
    for model_type in importlib.import_module(f"generator.archs.{name}").MODEL_TYPES
)


class Finished(Exception):
    """Raised where a configuration has been read to its end."""


def keys_known(model_type: str, monkeypatch: pytest.MonkeyPatch, values: Any) -> Config:
    """The configuration as the architecture leaves it."""
    seen: list[Config] = []

    class Recorder(Config):
        def finish(self) -> None:
            seen.append(self)
            super().finish()
            raise Finished

    module = find(model_type)
    monkeypatch.setattr(module, "Config", Recorder)
    tensors = tuple(Tensor(f"t{i}", "F32", (1,)) for i in range(1000))
    task = module.TASKS[0]
    request = Request(values, tensors, task, ("a", "b"), "auto", None, 0.0)
    with pytest.raises(Finished):
        module.build(request)
    return seen[-1]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_key_of_transformers_is_classified(
    model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = transformers.CONFIG_MAPPING[model_type]()
    full = json.loads(config.to_json_string(use_diff=False))
    config = keys_known(model_type, monkeypatch, full)
    assert set(full) <= config.known
    # And of what it is saved with: the class's defaults are not errors.
    assert not config.errors


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_defaults_are_those_of_transformers(
    model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is absent means what it means to transformers."""
    config = transformers.CONFIG_MAPPING[model_type]()
    full = json.loads(config.to_json_string(use_diff=False))
    asked: dict[str, Any] = {}
    original = Config._get

    def record(
        self: Config, key: str, default: Any, check: Callable[[Any], bool], kind: str
    ) -> Any:
        asked[key] = default
        return original(self, key, default, check, kind)

    monkeypatch.setattr(Config, "_get", record)
    keys_known(model_type, monkeypatch, {"model_type": model_type})
    assert asked
    for key, default in asked.items():
        if key in full and not isinstance(full[key], dict):
            assert default == full[key], key


def test_a_key_is_of_one_kind() -> None:
    assert not HARMLESS & NEUTRAL.keys()


def test_activations_are_the_intermediate_representations_own() -> None:
    assert set(ACTIVATIONS.values()) == set(OURS)
    assert set(ACTIVATIONS) <= set(ACT2FN)


def test_tasks_have_transformers_names() -> None:
    assert set(PROBLEMS.values()) == {
        "regression",
        "single_label_classification",
        "multi_label_classification",
    }


def test_an_unknown_architecture_lists_the_known() -> None:
    for model_type in ("bart", None, 3, ["bert"]):
        with pytest.raises(GenError) as caught:
            find(model_type)  # type: ignore[arg-type]
        (found,) = caught.value.diagnostics
        assert found.code == "G201"
        for known in ("bert", "camembert", "distilbert", "electra", "ernie"):
            assert known in found.help


@pytest.mark.parametrize(
    ("spec", "config", "code", "line"),
    [
        ({}, {"model_type": "gpt2"}, "G201", "from ="),
        ({}, {"hidden_act": "mish"}, "G203", "from ="),
        ({"backbone.head": "keep"}, {}, "G206", "labels ="),
        ({"task": "image-classification"}, {}, "G210", "task ="),
    ],
)
def test_errors_say_which_line_of_which_spec(
    spec: dict[str, Any], config: dict[str, Any], code: str, line: str
) -> None:
    values = {"name": "job", "task": "text-classification", "labels": ["a", "b"]}
    column = "image" if "task" in spec else "text"
    values |= {"backbone.from": "tiny", "data.train": "a.csv", "data.label": "label"}
    lines = spec_text(values | {f"data.{column}": "x"} | spec)
    facts = text_facts()
    changed = {**facts.card.config, **config}
    with pytest.raises(GenError) as caught:
        drafts_of(lines, replace(facts, card=replace(facts.card, config=changed)))
    (found,) = caught.value.diagnostics
    assert found.code == code and found.place is not None
    assert found.place.file == "spec.toml"
    assert lines.splitlines()[found.place.line - 1].startswith(line)


@pytest.mark.parametrize("name", archs.names())
def test_every_architecture_names_its_tasks_first(name: str) -> None:
    """Ahead of what else may be wrong with a checkpoint, and of what does not fit data."""
    module = archs.module(name)
    images = module.TASKS == ("image-classification",)
    task: Task = "text-classification" if images else "image-classification"
    card = {"model_type": module.MODEL_TYPES[0]}
    with pytest.raises(GenError) as caught:
        module.build(Request(card, (), task, ("a", "b"), "auto", None, 0.0))
    (found,) = caught.value.diagnostics
    assert found.code == "G210" and module.TASKS[0] in found.help


def test_a_build_tells_of_a_head_that_it_leaves() -> None:
    values = {"name": "job", "task": "text-classification", "labels": ["no", "yes"]}
    values |= {"backbone.from": "tiny", "data.train": "a.csv", "data.label": "label"}
    spec_file = read_spec(spec_text(values | {"data.text": "x"}), "spec.toml")
    facts = text_facts()
    sizes = {"classifier.weight": (2, facts.card.config["hidden_size"])}
    head = [CardTensor(k, "F32", v, "a.safetensors") for k, v in sizes.items()]
    tensors = tuple(sorted((*head, *facts.card.tensors), key=lambda t: t.key))
    plain = replace(facts.card, source="tiny")
    card = replace(plain, tensors=tensors)
    assert "LABEL_0" in draft(spec_file, replace(facts, card=card)).notes[-1]
    notes = draft(spec_file, replace(facts, card=plain)).notes
    assert not any("LABEL_0" in note for note in notes)


def errors_of(read: Callable[[Config], Any], values: dict[str, Any]) -> list[str]:
    config = Config(values)
    read(config)
    try:
        config.finish()
    except GenError as e:
        assert all(d.help for d in e.diagnostics)
        return [f"{d.code} {d.message}" for d in e.diagnostics]
    return []


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (lambda c: c.size("k"), [1, 10**12], [0, -1, 1.0, "1", None, True, [], {}]),
        (lambda c: c.integer("k", 1), [0, -1, 5], [1.0, "1", None, False]),
        (lambda c: c.real("k", 1), [0, -1.5, 2], ["1", None, True, float("inf")]),
        (lambda c: c.positive("k", 1), [1e-12, 2], [0, -1, None, float("nan")]),
        (lambda c: c.fraction("k", 0), [0, 0.5], [1, -0.1, None, "0", 10**400]),
        (lambda c: c.fraction_or_none("k"), [None, 0, 0.5], [1, -0.1, "0", False]),
        (lambda c: c.flag("k", True), [True, False], [0, 1, None, "true"]),
        (lambda c: c.token("k", 0, 9), [None, 0, 8], [-1, 9, 1.0, "1"]),
    ],
    ids=[
        "size",
        "integer",
        "real",
        "positive",
        "fraction",
        "fraction_or_none",
        "flag",
        "token",
    ],
)
def test_readers(
    read: Callable[[Config], Any], good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        assert errors_of(read, {"k": value}) == []
    for value in bad:
        (message,) = errors_of(read, {"k": value})
        assert message.startswith("G202 config.json: k is ")


def test_a_key_without_a_default_is_missing() -> None:
    assert errors_of(lambda c: c.size("width"), {}) == [
        "G202 config.json: width is missing, and should be a positive whole number"
    ]


def test_a_long_value_is_cut() -> None:
    (message,) = errors_of(lambda c: c.size("width"), {"width": "x" * 1000})
    assert len(message) < 150


def test_initial_std() -> None:
    assert Config({"initializer_range": 0.5}).initial_std() == 0.5
    assert Config({"initializer_range": 0}).initial_std() == 0.02
    assert Config({}).initial_std() == 0.02


def test_neutral_keys() -> None:
    for key, value in NEUTRAL.items():
        for harmless in (value, None):
            assert errors_of(lambda c: None, {key: harmless}) == []
        (message,) = errors_of(lambda c: None, {key: {"a": 1}})
        assert message == f"G203 config.json: {key} = {{'a': 1}} is not supported"


def test_aliases() -> None:
    def read(values: dict[str, Any]) -> int:
        config = Config(values)
        config.aliases(hidden_size="dim")
        width = config.size("dim")
        config.finish()
        return width

    assert read({"dim": 3}) == read({"hidden_size": 3}) == 3
    assert read({"dim": 3, "hidden_size": 3}) == 3
    with pytest.raises(GenError, match="hidden_size and dim name one thing"):
        read({"dim": 3, "hidden_size": 4})


# config.json as published, and the longest row with it.
PUBLISHED: dict[str, tuple[str, int]] = {
    "google-bert/bert-base-uncased": (
        """{"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": false, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 3072, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "model_type": "bert",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "transformers_version": "4.6.0.dev0",
        "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522}""",
        512,
    ),
    "FacebookAI/roberta-base": (
        """{"architectures": ["RobertaForMaskedLM"],
        "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 514, "model_type": "roberta",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1,
        "type_vocab_size": 1, "vocab_size": 50265}""",
        512,
    ),
    "FacebookAI/xlm-roberta-base": (
        """{"architectures": ["XLMRobertaForMaskedLM"],
        "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 514, "model_type": "xlm-roberta",
        "num_attention_heads": 12, "num_hidden_layers": 12, "output_past": true,
        "pad_token_id": 1, "position_embedding_type": "absolute",
        "transformers_version": "4.17.0.dev0", "type_vocab_size": 1, "use_cache": true,
        "vocab_size": 250002}""",
        512,
    ),
    "distilbert/distilbert-base-uncased": (
        """{"activation": "gelu", "architectures": ["DistilBertForMaskedLM"],
        "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "hidden_dim": 3072,
        "initializer_range": 0.02, "max_position_embeddings": 512,
        "model_type": "distilbert", "n_heads": 12, "n_layers": 6, "pad_token_id": 0,
        "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": false,
        "tie_weights_": true, "transformers_version": "4.10.0.dev0",
        "vocab_size": 30522}""",
        512,
    ),
    "google/electra-small-discriminator": (
        """{"architectures": ["ElectraForPreTraining"],
        "attention_probs_dropout_prob": 0.1, "embedding_size": 128,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 256,
        "initializer_range": 0.02, "intermediate_size": 1024, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "model_type": "electra",
        "num_attention_heads": 4, "num_hidden_layers": 12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "summary_activation": "gelu",
        "summary_last_dropout": 0.1, "summary_type": "first", "summary_use_proj": true,
        "transformers_version": "4.23.0.dev0", "type_vocab_size": 2, "use_cache": true,
        "vocab_size": 30522}""",
        512,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(name: str) -> None:
    """They are taken as they are, and the job is as large as transformers' model."""
    text, longest = PUBLISHED[name]
    values = json.loads(text)
    config = transformers.CONFIG_MAPPING[values["model_type"]](**values)
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    tensors = {k: p.detach() for k, p in model.named_parameters()}
    job = job_of(values, tensors)
    assert sum(prod(p.shape) for p in parameters(job)) == model.num_parameters()
    assert next(d.bound for d in job.model.dims if d.symbol == "T") == longest
