"""Random valid specs: whatever is asked for, the source is well formed and clean."""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import black
import pytest
from black.mode import Mode, TargetVersion

from generator.compile import draft
from generator.errors import GenError
from generator.facts import Facts
from generator.render.package import Draft, finished
from generator.spec import read_spec
from generator.spec.entries import Choice, inner_entries, section_entries
from generator.spec.words import toml
from tests.building.build_support import image_facts, spec_text, text_facts

COUNT = 60
MODE = Mode(target_versions={TargetVersion.PY311})
WORDS = ["one", "two", 'three "3"', "four\\", "vier und fünf", "{six}", "7", "日本"]
TASKS = ["text-classification", "multi-label", "regression", "image-classification"]
# As much of one as says how words and masks are written.
TOKENIZER = json.dumps(
    {
        "model": {"continuing_subword_prefix": "##", "vocab": {}},
        "added_tokens": [{"content": "[MASK]"}],
    }
).encode()
FROZEN = ["embedding", "blocks.0.attention", "blocks.0.ff", "classifier.pool"]


def random_spec(seed: int) -> tuple[str, Facts]:
    """A valid spec, every option present in some of them."""
    r = random.Random(seed)
    task = TASKS[seed % 4]
    image, regression = task == "image-classification", task == "regression"
    facts = image_facts() if image else replace(text_facts(), tokenizer=TOKENIZER)
    labels = r.sample(WORDS, r.randint(1 if task in TASKS[1:3] else 2, 5))
    held = image and r.random() < 0.3  # images that lie in the rows
    kinds = [".parquet"] if held else [".csv", ".jsonl", ".parquet"]
    ending = [r.choice(kinds) for _ in range(3)]
    spec: dict[str, Any] = {
        "name": f"job_{seed}",
        "task": task,
        "labels": labels,
        "backbone.from": facts.card.source,
        "data.train": f"data/train{ending[0]}",
    }

    def maybe(key: str, *values: Any) -> None:
        if r.random() < 0.5:
            spec[key] = r.choice(values)

    maybe("backbone.head", "new", "auto")
    maybe("backbone.dropout", 0.0, 0.2)
    for i, name in ((1, "valid"), (2, "test")):
        maybe(f"data.{name}", f"data/{name}{ending[i]}")
        if f"data.{name}" not in spec:
            maybe(f"data.{name}_fraction", 0.05, 0.25)
    if image:
        spec["data.image"] = r.choice(["file", "image path"])
        if held:
            spec["data.image_bytes"] = True
    else:
        spec["data.text"] = r.choice(["text", ["question", "answer {x}"]])
        maybe("data.max_tokens", 16, 512)
        maybe("data.rows", "files", "memory")
    spec["data.label"] = r.choice(["label", 'the "label"'])
    if regression and (len(labels) > 1 or r.random() < 0.5):
        spec["data.label"] = [f"target {i}" for i in range(len(labels))]
    if task == "multi-label":
        maybe("data.separator", "|", "||", "/")
    batch = r.choice(["batch", "batch_tokens"]) if not image else "batch"
    spec[f"train.{batch}"] = r.choice([8, 64]) if batch == "batch" else 4096
    maybe("train.epochs", 1, 12)
    maybe("train.lr", 1e-5, 0.003)
    maybe("train.schedule", "linear", "cosine", "constant")
    maybe("train.warmup", 0, 0.06)
    maybe("train.weight_decay", 0, 0.1)
    maybe("train.layer_decay", 0.8, 1)
    maybe("train.clip", 0, 0.5)
    maybe("train.accumulate", 2, 7)
    if task in ("text-classification", "image-classification"):
        maybe("train.label_smoothing", 0.1)
    if not regression:
        maybe(
            "train.class_weights",
            "balanced",
            [float(i + 1) for i in range(len(labels))],
        )
        maybe("train.sampling", "balanced")
        if r.random() < 0.5:
            spec["train.loss"] = "focal"
            maybe("train.gamma", 1, 0.5)
    maybe("train.early_stopping", 2)
    maybe("train.seed", 3, 2**63 - 1)
    if not image:
        maybe("train.freeze", *([f] for f in FROZEN), FROZEN[:2], 1)
    else:
        maybe("train.freeze", 1)
    maybe("train.cache", "bf16", "off")
    maybe("train.attention_dropout", 0.1)
    maybe("train.evaluate_every", 50)
    maybe("train.save_every", 25)
    maybe("train.max_bad_steps", 1, 3)
    maybe("train.ema", 0.99)
    stages = r.choice([0, 0, 0, 1, 3])
    if stages:
        for name in ("epochs", "freeze", "early_stopping"):
            spec.pop(f"train.{name}", None)
    maybe("target.device", "cuda", "cpu")
    maybe("target.precision", "bf16")
    maybe("target.compile", True)
    tables = [
        f"\n[[train.stage]]\nepochs = {r.choice([1, 3])}\nfreeze = {freeze}\n"
        for freeze in sorted(r.choices(range(2), k=stages), reverse=True)
    ]
    kept = "freeze" in " ".join([*spec, *tables]) and spec.get("train.cache") != "off"
    beside = _features(r, task)
    augment = _augment(r, image, spec, kept, bool(beside))
    own = _clean(r, task, labels) + _guard(r, task) + augment + beside
    own += _deploy(r, spec, bool(beside))
    if 'duplicates = "near"' in own:  # what finds them lies in files
        spec.pop("data.rows", None)
    if regression:
        maybe("train.standardise", False)
    return spec_text(spec) + own + "".join(tables), facts


def _deploy(r: random.Random, spec: dict[str, Any], columns: bool) -> str:
    """A table of some of the keys about the model that predicts, or nothing.

    `columns` are read beside.
    """
    task, labels = spec["task"], spec["labels"]
    values: dict[str, Any] = {
        "export": r.sample(["onnx", "torch", "transformers"], r.randint(1, 3)),
        "temperature": True,
        "thresholds": r.choice(["f1", "accuracy", "balanced-accuracy"]),
    }
    quantised = r.choice(["int8", "int8-static", "int8-weights", "int4-weights", ""])
    if spec.get("target.device") == "cuda":  # whose models are not quantised
        quantised = ""
    if quantised:
        values |= {"quantize": quantised, "leave": ["classifier"]}
        if quantised.endswith("weights"):
            values["group"] = r.choice([16, 64])
        if quantised == "int8-static":
            values["range"] = r.choice(["mse", "percentile", "min-max"])
            values["calibration_rows"] = 64
        else:
            values["quantize_aware"] = True
    else:
        values["precision"] = "bf16"
    if columns:
        del values["export"]
    if task == "regression":
        del values["temperature"]
    if task == "regression" or (task != "multi-label" and len(labels) != 2):
        del values["thresholds"]
    given = {name: v for name, v in values.items() if r.random() < 0.4}
    if "quantize" not in given:
        for name in {*given} - {"export", "temperature", "thresholds", "precision"}:
            del given[name]
    if "quantize_aware" in given:
        given["quantize_after"] = 0.5
    lines = [f"{name} = {toml(v)}" for name, v in given.items()]
    return "\n".join(["\n[deploy]", *lines, ""]) if lines else ""


def _augment(
    r: random.Random, image: bool, spec: dict[str, Any], kept: bool, columns: bool
) -> str:
    """A table of some of the keys of the augmentation, or nothing.

    `kept` is what frozen blocks gave; `columns` are read beside.
    """
    groups = {
        "paraphrases": "paraphrases = 'a\"{x}.jsonl'\nparaphrase = 0.5",
        "synonyms": "synonyms = '\"b\".txt'\nsynonym_swap = 1",
        "word_dropout": "word_dropout = 0.1",
        "span_mask": "span_mask = 0.15\nspan_tokens = 1",
        "policy": 'policy = "rand"\noperations = 3\nmagnitude = 0',
        "erase": "erase = 0.25",
        "mixup": "mixup = 0.2",
        "cutmix": "cutmix = 1",
    }
    keys = {line.split(" = ")[0] for g in groups.values() for line in g.splitlines()}
    assert keys == set(inner_entries("data.augment"))
    names = [*groups][4:] if image else [*groups][:4]
    if image and columns:  # which cannot be mixed
        names = names[:2]
    if not image:
        names = [*names, "mixup"]
    if kept:  # what is frozen runs once over the rows: they cannot change
        names = [] if image else ["mixup"]
    if isinstance(spec.get("data.text"), list) and "paraphrases" in names:
        names.remove("paraphrases")
    lines = [groups[name] for name in names if r.random() < 0.5]
    return "\n".join(["\n[data.augment]", *lines, ""]) if r.random() < 0.5 else ""


def _features(r: random.Random, task: str) -> str:
    """A table of some of the features, or nothing."""
    values: dict[str, list[str]] = {
        "numeric": ['["price"]', '["a \\"b\\"", "{{ c }}"]'],
        "categorical": ['["shop"]', '["kind", "{x}", "\\\\n"]'],
        "dates": ['["written"]'],
        "text": ['["length"]', '["digits", "punctuation", "capitals"]'],
        "patterns": ['["[?]", "\\\\d+ \\"stars\\""]'],
    }
    lines = [
        f"{name} = {r.choice(some)}"
        for name, some in values.items()
        if task in section_entries("features")[name].key.tasks and r.random() < 0.4
    ]
    if any(line.startswith("categorical") for line in lines):
        lines += [f"width = {r.choice([3, 8])}", f"categories = {r.choice([7, 100])}"]
    if lines and r.random() < 0.5:
        lines += ["hidden = 16", f"dropout = {r.choice([0.0, 0.1])}"]
    return "\n".join(["\n[features]", *lines, ""]) if r.random() < 0.4 else ""


def _clean(r: random.Random, task: str, labels: list[str]) -> str:
    """A table of some of the keys of the cleaning, or nothing."""
    values: dict[str, list[str]] = {
        "unicode": ['"NFC"', '"NFKC"'],
        "invisible": ["true"],
        "html": ["true"],
        "mask": ['["url"]', '["number", "email"]'],
        "case": ['"lower"'],
        "whitespace": ["true"],
        "missing": ['["NA", "n\\"a"]'],
        "labels": [f"{{ {toml(labels[0])} = ['{{x}} \"', \"it's\"] }}"],
        "languages": ['["en", "fr"]'],
        "min_chars": ["2"],
        "max_chars": ["999"],
        "min_tokens": ["3"],
        "too_long": ['"quarantine"'],
        "levels": ["true"],
        "alpha": ['"white"'],
        "min_pixels": ["64"],
        "max_pixels": ["89000000"],
        "duplicates": ['"exact"'] if task == TASKS[3] else ['"exact"', '"near"'],
    }
    assert values.keys() == inner_entries("data.clean").keys()
    lines = [
        f"{name} = {r.choice(some)}"
        for name, some in values.items()
        if task in inner_entries("data.clean")[name].key.tasks and r.random() < 0.4
    ]
    return "\n".join(["\n[data.clean]", *lines, ""]) if r.random() < 0.5 else ""


def _guard(r: random.Random, task: str) -> str:
    """A table of some of the checks of the guard, or nothing."""
    lines = []
    for entry in inner_entries("data.guard").values():
        (shape,) = entry.shapes
        assert isinstance(shape, Choice)
        if task in entry.key.tasks and r.random() < 0.4:
            lines.append(f'{entry.name} = "{r.choice(shape.values[1:])}"')
    return "\n".join(["\n[data.guard]", *lines, ""]) if r.random() < 0.5 else ""


def drafts(seed: int) -> dict[str, str]:
    """The Python files of a random job, not yet formatted."""
    text, facts = random_spec(seed)
    try:
        found = draft(read_spec(text, "spec.toml"), facts).drafts
    except GenError as error:
        raise AssertionError(f"not valid: {error}\n{text}") from error
    return {one.path: one.data.decode() for one in found if one.python}


def sources(seed: int) -> dict[str, str]:
    """The same, formatted."""
    return {
        name: finished(Draft(name, source.encode(), True)).decode()
        for name, source in drafts(seed).items()
    }


def write(folder: Path, jobs: Mapping[int, Mapping[str, str]]) -> None:
    for seed, files in jobs.items():
        package = folder / f"job_{seed}"
        package.mkdir(parents=True)
        for name, source in files.items():
            (package / name).write_text(source, encoding="utf-8")


def stable(seed: int) -> None:
    """Formatting twice changes nothing, nor what the source says; every line fits."""
    loose = drafts(seed)
    for name, source in sources(seed).items():
        assert black.format_str(source, mode=MODE) == source, name
        # Docstrings and comments are as templates have them.
        assert all(len(line) <= MODE.line_length for line in source.splitlines()), name
        black.assert_equivalent(loose[name], source)


def run(*args: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def defined(module: ast.Module) -> Iterator[str]:
    """The names that a module gives at its top: one that two parts of it gave would be
    the second one's, for both."""
    for one in module.body:
        match one:
            case ast.FunctionDef() | ast.ClassDef():
                yield one.name
            case ast.Assign():
                for node in (x for target in one.targets for x in ast.walk(target)):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        yield node.id
            case ast.AnnAssign(target=ast.Name() as name):
                yield name.id


def test_random_jobs_are_clean(tmp_path: Path):
    """Parsed, and looked through by ruff with its default rules, all in one go."""
    jobs = {seed: drafts(seed) for seed in range(COUNT)}
    for seed, files in jobs.items():
        for name, source in files.items():
            given = Counter(defined(ast.parse(source, name)))
            assert max(given.values(), default=1) == 1, (
                seed,
                name,
                given.most_common(1),
            )
    write(tmp_path, jobs)
    run("ruff", "check", "--no-cache", "--isolated", ".", cwd=tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_formatting_again_changes_nothing(seed: int):
    stable(seed)


def test_every_option_is_in_some_of_them():
    """So that this file does not go stale when a key is added to the spec."""
    from generator.spec.entries import entries

    text = "\n".join(random_spec(seed)[0] for seed in range(COUNT))
    for entry in entries():
        if entry.section == "search":  # of many jobs: no package has anything of it
            continue
        assert f"\n{entry.name} = " in "\n" + text, f"{entry.section}.{entry.name}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, COUNT))
def test_formatting_any_again_changes_nothing(seed: int):
    stable(seed)


@pytest.mark.slow
def test_random_jobs_have_sound_types(tmp_path: Path):
    write(tmp_path, {seed: sources(seed) for seed in range(10)})
    # torchvision need not be installed; what is asked of it is in its own tests.
    stub = tmp_path / "typings/torchvision/transforms/__init__.pyi"
    stub.parent.mkdir(parents=True)
    stub.write_text("from typing import Any\n\nv2: Any\n")
    (stub.parents[1] / "__init__.pyi").touch()
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "basic"}')
    run("pyright", "--pythonpath", sys.executable, cwd=tmp_path)
