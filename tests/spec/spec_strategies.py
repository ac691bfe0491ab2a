"""Random specs, valid ones and broken ones, drawn from what the model says of its keys."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from generator.spec.entries import (
    SECTIONS,
    Choice,
    Entry,
    Flag,
    Items,
    Number,
    Shape,
    String,
    Whole,
    entries,
    section_entries,
)
from generator.spec.key import TASKS, TEXT_TASKS
from generator.spec.rules import OBJECTIVES
from generator.spec.words import toml

# The same examples in every run, and nothing kept on disk.
quick = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

Values = dict[str, Any]


def write_toml(values: Values) -> str:
    """A spec's values, or any of the same depth, as TOML."""
    top = [f"{_name(k)} = {_inline(v)}" for k, v in values.items() if not _table(k, v)]
    lines = list(top)
    for name, table in values.items():
        if _table(name, table):
            lines += ["", f"[{_name(name)}]"]
            lines += [f"{_name(k)} = {_inline(v)}" for k, v in table.items()]
    return "\n".join(lines) + "\n"


def _table(name: str, value: Any) -> bool:
    return isinstance(value, dict)


def _name(name: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum()
    return name if plain else toml(name)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{_name(k)} = {_inline(v)}" for k, v in value.items())
        return "{" + inside + "}"
    if isinstance(value, list):
        return f"[{', '.join(_inline(item) for item in value)}]"
    return toml(value)


CONSTRAINTS = ("metric >= unedited - 1 point", "latency <= 5 ms", "disk<=0.5*unedited")
# Words that the rules of strings allow, among them some that look like code.
_printable = st.characters(
    codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters=";|"
)
words = st.one_of(
    st.sampled_from(
        ['"', "\\", "{{ x }}", "{% y %}", "\\N{BULLET}", "a b", "日本", "'''"]
    ),
    st.text(_printable, min_size=1, max_size=12),
).filter(lambda text: text.strip() != "")
_names = st.from_regex(r"\Aj[a-z0-9_]{0,20}x\Z")
_modules = st.from_regex(r"\A[a-z_]{1,5}(\.[a-z0-9_]{1,4}){0,2}\Z")
_sources = st.sampled_from(
    ["models/bert", "C:/x", ".", "package:a.b/c/d-e.f", "package:m", "hf:a/b@main"]
    + ["hf:o-1/n.2@refs/pr/1", "日本/モデル", 'it\'s "here"']
)
_files = st.builds(
    lambda stem, ending: f"data/{stem}{ending}",
    st.from_regex(r"\A[a-zé ]{1,8}\Z"),
    st.sampled_from([".csv", ".jsonl", ".parquet"]),
)


def numbers(entry: Entry, shape: Shape) -> st.SearchStrategy[Any]:
    """Numbers within the bounds of a key."""
    key = entry.key
    low = key.at_least if key.at_least is not None else key.above
    high = key.at_most if key.at_most is not None else key.below
    assert low is not None and high is not None
    if isinstance(shape, Whole):
        return st.integers(int(low), int(high))
    return st.floats(
        low,
        high,
        exclude_min=key.at_least is None,
        exclude_max=key.at_most is None,
        allow_subnormal=False,
    )


@st.composite
def valid_specs(draw: st.DrawFn, task: str | None = None) -> Values:
    """The values of a spec that has no fault."""
    task = task or draw(st.sampled_from(TASKS))
    few = section_entries("")["labels"].key.few[task]
    labels = draw(st.lists(words, min_size=few, max_size=5, unique=True))
    files = draw(st.lists(_files, min_size=3, max_size=3, unique=True))
    columns = draw(st.lists(words, min_size=8, max_size=8, unique=True))
    spec: Values = {"": {}, **{section: {} for section in SECTIONS if section}}
    for entry in entries():
        needed = task in entry.key.required
        if task in entry.key.tasks and (needed or draw(st.booleans())):
            spec[entry.section][entry.name] = draw(_values(entry))
    data, train, top = spec["data"], spec["train"], spec.pop("")
    # What depends on other keys.
    top["task"] = task
    if "labels" in top:
        top["labels"] = labels
    targets = len(top.get("labels", ["score"]))
    data["label"] = columns[0]
    if task == "regression" and (targets > 1 or draw(st.booleans())):
        data["label"] = [f"{columns[0]}{i}" for i in range(targets)]
    if task == "multi-label" and len(labels) > 1 and draw(st.booleans()):
        data["label"] = [f"{columns[0]}{i}" for i in range(len(labels))]
        data.pop("separator", None)
    if "text" in data:
        pair = [f"{columns[6]} text", f"{columns[7]} pair"]
        data["text"] = draw(st.sampled_from([pair[0], pair[:1], pair]))
    if "image" in data:
        data["image"] = f"{columns[6]} image"
    for name, file in zip(("train", "valid", "test"), files, strict=True):
        if name in data:
            data[name] = file
            data.pop(f"{name}_fraction", None)
    if data.get("image_bytes"):
        for name in {"train", "valid", "test"} & data.keys():
            data[name] = f"{data[name].rpartition('.')[0]}.parquet"
    fractions = [n for n in ("valid_fraction", "test_fraction") if n in data]
    for name in fractions:
        data[name] = data[name] / 2.5
    if "separator" in data:
        data["separator"] = draw(st.sampled_from(["|", ";", "||", ";|"]))
    features = spec["features"]
    for name in ("numeric", "categorical", "dates"):
        if name in features:
            features[name] = [f"{c} {name}" for c in features[name]]
    if features:
        features["categorical"] = ["a categorical"]
        features["hidden"] = 8
    if features and spec["backbone"].get("head") == "keep":
        del spec["backbone"]["head"]
    if "batch_tokens" in train:
        train.pop("batch", None)
        train["batch_tokens"] = max(train["batch_tokens"], data.get("max_tokens", 128))
    deploy = spec["deploy"]
    kind = deploy.get("quantize", "none")
    if kind == "none":
        deploy.pop("leave", None)
        deploy.pop("quantize_aware", None)
    else:
        deploy.pop("precision", None)
    if "group" in deploy:
        deploy["group"] = deploy["group"] // 16 * 16
    if not kind.endswith("-weights"):
        deploy.pop("group", None)
    if kind != "int8-static":
        deploy.pop("range", None)
        deploy.pop("calibration_rows", None)
    if not deploy.get("quantize_aware"):
        deploy.pop("quantize_after", None)
    if spec["target"].get("precision") == "fp16":
        spec["target"]["device"] = "cuda"
    if features:
        deploy.pop("export", None)
    if task != "multi-label" and len(labels) != 2:
        deploy.pop("thresholds", None)
    if "gamma" in train:
        train["loss"] = "focal"
    if isinstance(train.get("class_weights"), list):
        weight = st.floats(0.01, 100)
        train["class_weights"] = draw(
            st.lists(weight, min_size=len(labels), max_size=len(labels))
        )
    kept = {s: t for s, t in spec.items() if t or draw(st.booleans())}
    return {**top, **kept}


def _values(entry: Entry) -> st.SearchStrategy[Any]:
    return st.one_of([_shaped(entry, shape) for shape in entry.shapes])


def _shaped(entry: Entry, shape: Shape) -> st.SearchStrategy[Any]:
    match shape:
        case Flag():
            return st.booleans()
        case Choice(values):
            return st.sampled_from(values)
        case Whole() | Number():
            return numbers(entry, shape)
        case String():
            by_rule = {
                "a name": _names,
                "a checkpoint": _sources,
                "a data file": _files,
                "a number of a text": st.sampled_from(
                    ["length", "capitals", "digits", "punctuation"]
                ),
                "what to export as": st.sampled_from(["onnx", "torch", "transformers"]),
                "an objective": st.sampled_from(OBJECTIVES),
                "a constraint": st.sampled_from(CONSTRAINTS),
                "the spec of a job": st.just("smaller.toml"),
                "a database": st.just("sqlite:///searches.db"),
                "a regular expression": st.from_regex(r"\A[a-z]{1,4}[+]?\Z"),
            }
            assert entry.key.rule is not None
            return by_rule.get(entry.key.rule.what, words)
        case Items(String()) if entry.name in ("freeze", "leave"):
            return st.lists(_modules, max_size=3, unique=True)
        case Items(item):
            own = _shaped(entry, item)
            return st.lists(
                own, min_size=1, max_size=3, unique=isinstance(item, String)
            )
    raise AssertionError(shape)


_strange = st.one_of(
    st.sampled_from(
        ["", " ", "\t", "a\nb", "x.json", "\u202eabc", "torch", "../x", "~/x"]
    ),
    st.sampled_from([True, False, 0, -1, 2, 10**19, 0.5, -0.5, 1.0, 1e300]),
    st.sampled_from(
        [[], ["a", "a"], ["a", 1], [1.5], [[1]], {}, {"x": 1}, [{}], "none"]
    ),
    st.text(max_size=8),
    st.integers(-10, 10),
)
_SPELLED = (
    "Labels",
    "batch_size",
    "lr",
    "name",
    "colour",
    "text",
    "dropout",
    "x y",
    "",
)


@st.composite
def broken_specs(draw: st.DrawFn) -> Values:
    """A valid spec with some of its parts exchanged, removed or added."""
    values = draw(valid_specs())
    for _ in range(draw(st.integers(1, 3))):
        sections = [s for s in SECTIONS if isinstance(values.get(s), dict)]
        section = draw(st.sampled_from(["", *sections]))
        table = values[section] if section else values
        change = draw(st.sampled_from(["remove", "exchange", "add", "other"]))
        names = [n for n in table if not isinstance(table[n], dict)]
        if change == "remove" and table:
            del table[draw(st.sampled_from(list(table)))]
        elif change == "exchange" and names:
            table[draw(st.sampled_from(names))] = draw(_strange)
        elif change == "add":
            table[draw(st.sampled_from(_SPELLED))] = draw(_strange)
        else:
            entry = draw(st.sampled_from(entries()))
            owner = values.setdefault(entry.section, {}) if entry.section else values
            if isinstance(owner, dict):
                owner[entry.name] = draw(st.one_of(_values(entry), _strange))
    return values


__all__ = ["TEXT_TASKS", "broken_specs", "quick", "valid_specs", "words", "write_toml"]
