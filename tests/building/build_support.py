"""What tests of builds share: small facts, specs by their fields, drafts and their shapes."""

from __future__ import annotations

import ast
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from generator.compile import draft
from generator.facts import Card, CardFile, CardTensor, Facts
from generator.render.package import Draft
from generator.runtime.gather import load_facts
from generator.spec import read_spec
from generator.spec.words import toml

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = REPOSITORY / "specs" / "movie_sentiment.toml"
NAME = "movie_sentiment"
BLOCKS = 1  # of the small facts


@functools.cache
def full_facts() -> Facts:
    """The committed facts of the example."""
    found = load_facts(REPOSITORY / "specs" / "facts" / NAME)
    assert found is not None
    return found


@functools.cache
def text_facts() -> Facts:
    """The same encoder with one block and no tokenizer, which is quick to compile."""
    facts = full_facts()
    kept = [
        t
        for t in facts.card.tensors
        if not t.key.startswith("encoder.layer.") or int(t.key.split(".")[2]) < BLOCKS
    ]
    config = {**facts.card.config, "num_hidden_layers": BLOCKS}
    card = replace(facts.card, tensors=tuple(kept), config=config, licence="mit")
    return Facts(card, None, None, None)


@functools.cache
def image_facts() -> Facts:
    """A ViT of one block on images of 32 by 32 pixels."""
    width, hidden, patch = 24, 48, 16
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 5, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    block = {
        "attention.attention.query": (width, width),
        "attention.attention.key": (width, width),
        "attention.attention.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (hidden, width),
        "output.dense": (width, hidden),
        "layernorm_before": (width,),
        "layernorm_after": (width,),
    }
    for name, shape in block.items():
        shapes[f"encoder.layer.0.{name}.weight"] = shape
        shapes[f"encoder.layer.0.{name}.bias"] = shape[:1]
    return Facts(
        Card(
            source="models/images",
            revision=None,
            licence="mit",
            config={
                "model_type": "vit",
                "hidden_size": width,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": hidden,
                "image_size": 32,
                "patch_size": patch,
            },
            tensors=tuple(
                CardTensor(key, "F32", shape, "model.safetensors")
                for key, shape in sorted(shapes.items())
            ),
            files=(CardFile("model.safetensors", None, None),),
            preprocessor={"size": {"height": 32, "width": 32}},
            tokenizer_config=None,
            verified=False,
        ),
        None,
        None,
        None,
    )


def spec_text(values: Mapping[str, Any]) -> str:
    """A spec from its keys: "name", "data.train" and so on."""
    top = [f"{k} = {toml(v)}" for k, v in values.items() if "." not in k]
    tables: dict[str, list[str]] = {}
    for key, value in values.items():
        table, dot, name = key.partition(".")
        if dot:
            tables.setdefault(table, []).append(f"{name} = {toml(value)}")
    lines = top
    for table, inside in tables.items():
        lines = [*lines, "", f"[{table}]", *inside]
    return "\n".join(lines) + "\n"


def drafts_of(text: str, facts: Facts, file: str = "spec.toml") -> tuple[Draft, ...]:
    """The drafts of a spec's text; the facts are taken for those of its backbone."""
    spec_file = read_spec(text, file)
    card = replace(facts.card, source=spec_file.spec.backbone.source)
    return draft(spec_file, replace(facts, card=card)).drafts


@functools.lru_cache(maxsize=512)  # most files of a job have no string of a field
def shape_of(source: bytes | str) -> tuple[Any, ...]:
    """The syntax tree of a source, constants and docstrings left out: a node's type and
    its fields after it, a list with its length before it."""
    found: list[Any] = []
    rest: list[Any] = [ast.parse(source)]
    while rest:
        part = rest.pop()
        if isinstance(part, ast.AST):
            found.append(type(part))
            if not isinstance(part, ast.Constant):
                rest += [getattr(part, name, None) for name in part._fields]
        elif isinstance(part, list):
            found.append(len(part))
            rest += part
        else:
            found.append(part)
    return tuple(found)


def project(folder: Path) -> Path:
    """The example's spec with its facts in a folder of its own; the spec's path."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SPEC, folder / SPEC.name)
    facts = REPOSITORY / "specs" / "facts" / NAME
    shutil.copytree(facts, folder / "facts" / NAME)
    return folder / SPEC.name


def run_gen(
    *args: str | Path,
    cwd: Path,
    tree: Path = REPOSITORY,
    variables: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """`gen` as a process of its own, from the compiler in `tree`; output as text."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-m", "generator", *map(str, args)],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(tree), **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file under a folder by its name there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def copy_of_compiler(folder: Path, without: Sequence[str] = ()) -> Path:
    """generator/ and templates/ in a folder, but for what `without` names."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("generator", "templates"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignore)
    for name in without:
        shutil.rmtree(folder / name)
    return folder
