"""The reader and the JSON Schema come from one model; they must say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from spec_strategies import broken_specs, quick, valid_specs, write_toml

from generator.errors import GenError
from generator.spec import json_schema, read_spec

SPECS = sorted((Path(__file__).resolve().parents[2] / "specs").glob("*.toml"))
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def refusal(values: dict[str, Any]) -> GenError | None:
    """What the reader says against values, written as TOML."""
    try:
        read_spec(write_toml(values), "spec.toml")
    except GenError as error:
        return error
    return None


def beyond_the_schema(error: GenError) -> bool:
    """Whether all that the reader refused is what a JSON Schema cannot say."""
    return all(
        d.code == "G010"  # sums, equal files and columns, a separator in a label
        or (d.code == "G008" and " for " in d.message)  # as many as labels
        or (d.code == "G009" and re.search("library|keyword", d.label))
        or (d.code == "G006" and "an integer, not a float" in d.message)  # 3.0
        or (d.code == "G016" and " holds " in d.message and "pattern" in d.message)
        for d in error.diagnostics
    )


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@quick
@given(valid_specs())
def test_valid_specs_pass_both(values: dict[str, Any]) -> None:
    error = refusal(values)
    assert error is None, error and error.diagnostics
    VALIDATOR.validate(values)


@quick
@given(broken_specs())
def test_neither_refuses_alone(values: dict[str, Any]) -> None:
    error = refusal(values)
    valid = VALIDATOR.is_valid(values)
    if error is None:
        assert valid, list(VALIDATOR.iter_errors(values))
    elif valid:
        assert beyond_the_schema(error), error.diagnostics


BASE: dict[str, Any] = {
    "name": "job",
    "task": "text-classification",
    "labels": ["a", "b"],
    "backbone": {"from": "models/x"},
    "data": {"train": "a.csv", "text": "t", "label": "l"},
    "train": {},
    "target": {},
    "deploy": {},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The base with one value set, or removed where it is None."""
    values = {k: dict(v) if isinstance(v, dict) else v for k, v in BASE.items()}
    *section, name = path.split(".")
    table = values[section[0]] if section else values
    if value is None:
        del table[name]
    else:
        table[name] = value
    return values


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", None),
        ("name", "Job"),
        ("name", "1job"),
        ("name", "torch"),
        ("name", "a" * 64),
        ("task", "classification"),
        ("labels", ["a"]),
        ("labels", ["a", "a"]),
        ("labels", ["a", ""]),
        ("labels", ["a", " "]),
        ("labels", ["a", "b\n"]),
        ("labels", ["a", 3]),
        ("labels", "a"),
        ("backbone", None),
        ("backbone", "models/x"),
        ("backbone.from", "hf:bert"),
        ("backbone.from", "hf:a/b"),
        ("backbone.from", "hf:a/../b@main"),
        ("backbone.from", "package:../x"),
        ("backbone.from", "package:a/../x"),
        ("backbone.from", "s3://bucket/x"),
        ("backbone.from", "x/model.safetensors"),
        ("backbone.from", "~/x"),
        ("backbone.from", "a\u202eb"),
        ("backbone.dropout", 1.0),
        ("backbone.dropout", -0.1),
        ("backbone.head", "old"),
        ("data.train", "a.json"),
        ("data.train", ".csv"),
        ("data.train", "~/a.csv"),
        ("data.train", "a.CSV"),
        ("data.text", ["a", "b", "c"]),
        ("data.text", []),
        ("data.text", ["a", "a"]),
        ("data.text", None),
        ("data.image", "i"),
        ("data.label", ["l"]),
        ("data.separator", "|"),
        ("data.max_tokens", 0),
        ("data.max_tokens", 1.5),
        ("data.valid_fraction", 0),
        ("data.rows", 3),
        ("data.clean", True),
        ("data.clean", {"colour": 1}),
        ("data.clean", {"html": 1}),
        ("data.clean", {"unicode": "NFD"}),
        ("data.clean", {"mask": ["phone"]}),
        ("data.clean", {"mask": "url"}),
        ("data.clean", {"mask": ["url", "url"]}),
        ("data.clean", {"missing": [""]}),
        ("data.clean", {"min_chars": -1}),
        ("data.clean", {"max_chars": 0}),
        ("data.clean", {"alpha": "white"}),
        ("data.clean", {"labels": ["x"]}),
        ("data.clean", {"labels": {"a": []}}),
        ("data.clean", {"labels": {"a": "x"}}),
        ("data.clean", {"labels": {"a": [1]}}),
        ("data.clean", {"labels": {"a": [" "]}}),
        ("data.clean", {"labels": {"a": ["x", "x"]}}),
        ("data.augment", True),
        ("data.augment", {"colour": 1}),
        ("data.augment", {"word_dropout": 1}),
        ("data.augment", {"synonyms": "a/"}),
        ("data.augment", {"paraphrases": "a.txt"}),
        ("data.augment", {"span_mask": 1.0}),
        ("data.augment", {"mixup": -0.1}),
        ("data.augment", {"policy": "trivial"}),
        ("features", {"colour": 1}),
        ("train", {"distill": "movie.toml"}),
        ("train", {"distill": {"teacher": "movie.csv"}}),
        ("train", {"distill": {"teacher": "movie.toml", "weight": 0.0}}),
        ("train", {"prune": 3}),
        ("train", {"prune": {"steps": 0}}),
        ("train", {"prune": {"steps": 3, "recover": 0.0}}),
        ("train", {"distill": {"teacher": "movie.toml", "hidden_states": 1.0}}),
        ("train", {"distill": {"teacher": "movie.toml", "hidden": -1.0}}),
        ("train", {"distill": {"teacher": "m.toml", "hidden": 1, "layers": [[0]]}}),
        ("train", {"distill": {"teacher": "m.toml", "hidden": 1, "layers": []}}),
        ("train", {"distill": {"teacher": "m.toml", "hidden": 1, "layers": [[-1, 0]]}}),
        ("features", {"select": True}),
        ("features", {"select": {"by": "anova"}}),
        ("features", {"select": {"keep": 3}}),
        ("features", {"select": {"by": "luck", "keep": 3}}),
        ("features", {"select": {"by": "anova", "keep": 0}}),
        ("features", {"select": {"by": "anova", "keep": 1.5}}),
        ("features", {"select": {"by": "anova", "keep": "all"}}),
        ("features", {"select": {"by": "anova", "keep": 3, "seed": 1}}),
        ("train.lr", 0),
        ("train.lr", 1.1),
        ("train.lr", True),
        ("train.epochs", False),
        ("train.epochs", 0),
        ("train.seed", 2**63),
        ("train.class_weights", "some"),
        ("train.class_weights", []),
        ("train.class_weights", [1.0, 0.0]),
        ("train.class_weights", [1.0, True]),
        ("train.freeze", ["blocks[0]"]),
        ("train.freeze", "blocks"),
        ("train.freeze", 0),
        ("train.freeze", True),
        ("train.freeze", 1.5),
        ("train.cache", "fp16"),
        ("train.cache", False),
        ("train.label_smoothing", 1),
        ("target.compile", "true"),
        ("target.compile", 1),
        ("target.device", "gpu"),
        ("deploy.quantize", "int4"),
        ("deploy.leave", ["blocks[0]"]),
        ("deploy.precision", "fp16"),
        ("deploy.export", ["coreml"]),
        ("deploy.temperature", 1.5),
        ("deploy.thresholds", "precision"),
        ("deploy.export", ["onnx", "onnx"]),
        ("optimizer", {}),
    ],
)
def test_both_refuse(path: str, value: Any) -> None:
    assert refusal(BASE) is None and VALIDATOR.is_valid(BASE)
    values = changed(path, value)
    error = refusal(values)
    assert error is not None and len(error.diagnostics) == 1
    assert not VALIDATOR.is_valid(values)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("data.valid", "v.csv"), ("data.valid_fraction", 0.1)),
        (("data.test", "t.csv"), ("data.test_fraction", 0.1)),
        (("train.batch", 8), ("train.batch_tokens", 4096)),
    ],
)
def test_both_refuse_two_keys_that_contradict(first: Any, second: Any) -> None:
    values = changed(*first)
    section, name = second[0].split(".")
    values[section][name] = second[1]
    error = refusal(values)
    assert error is not None and [d.code for d in error.diagnostics] == ["G010"]
    assert not VALIDATOR.is_valid(values)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("name", "json", "G009"),
        ("name", "lambda", "G009"),
        ("data.valid", "a.csv", "G010"),
        ("deploy.leave", ["classifier"], "G010"),
        ("data.label", "t", "G010"),
        ("data.valid_fraction", 0.95, "G010"),
        ("train.class_weights", [1.0], "G008"),
        ("train.batch_tokens", 100, "G010"),
        ("train.epochs", 3.0, "G006"),
    ],
)
def test_the_reader_alone_refuses(path: str, value: Any, code: str) -> None:
    values = changed(path, value)
    error = refusal(values)
    assert error is not None and [d.code for d in error.diagnostics] == [code]
    assert beyond_the_schema(error)
    assert VALIDATOR.is_valid(values)


@pytest.mark.parametrize("file", SPECS, ids=lambda f: f.name)
def test_the_specs_here_pass_both(file: Path) -> None:
    text = file.read_text()
    assert read_spec(text, file.name).spec.name == file.stem
    VALIDATOR.validate(tomllib.loads(text))
