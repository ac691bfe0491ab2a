"""What varies in a search: the spec's own choices, and the ready-made ones.

A choice has a key, which for most is that of the spec. Those of the structure are of edits
that join the spec's own: `prune-ffn.keep` is the key of a `[[edit]]`, and its largest value,
at which nothing is pruned, is no edit at all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from generator.ir.job import Job
from generator.spec import SpecFile
from generator.spec.alter import alter, without_search
from generator.spec.entries import Choice as Choices
from generator.spec.entries import entries
from generator.spec.key import LABEL_TASKS, ONE_LABEL_TASKS
from generator.spec.model import Spec
from generator.spec.search import Vary
from generator.spec.words import toml

Kind = Literal["float", "int", "categorical"]
Params = Mapping[str, Any]
# Of the structure: the edits in the order in which they are made, and the key that each
# choice is of.
EDITS = ("keep-layers", "prune-heads", "prune-ffn")
SCORED = (*EDITS, "prune-width", "low-rank")  # what may choose by scores
DISTILL = "train.distill.teacher"
TEACHER = (
    "unedited.toml"  # the spec whose model, as the search trains it, teaches others
)


@dataclass(frozen=True)
class Choice:
    """One thing that varies."""

    key: str
    kind: Kind
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    values: tuple[Any, ...] = ()  # of a categorical one
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()  # keys, and values that will do

    @property
    def labels(self) -> tuple[str, ...]:
        """The values as they are shown and stored; strings stand for themselves."""
        return tuple(label(value) for value in self.values)

    def value(self, stored: Any) -> Any:
        """What the spec is given for a stored value."""
        if self.kind == "categorical":
            return self.values[self.labels.index(stored)]
        return int(stored) if self.kind == "int" else float(stored)


def label(value: Any) -> str:
    return value if isinstance(value, str) else "off" if value is None else toml(value)


def choices(spec_file: SpecFile, job: Job) -> tuple[Choice, ...]:
    """All that varies; `job` is as imported. What a `[[search.vary]]` names is not varied a
    second time by the ready-made spaces."""
    spec = spec_file.spec
    own = [_own(spec_file, one) for one in spec.search.vary]
    named = {one.key for one in own}
    ready = [
        one
        for name, make in SPACES.items()
        if spec.search.space in ("all", name)
        for one in make(spec, job)
        if one.key not in named
    ]
    if "edit" in named:
        ready = [one for one in ready if one.key.split(".")[0] not in EDITS]
    return tuple(_ordered([*own, *ready]))


def _own(spec_file: SpecFile, one: Vary) -> Choice:
    when = tuple((key, (label_of(key, value, spec_file),)) for key, value in one.when)
    if one.choices:
        return Choice(one.key, "categorical", values=one.choices, when=when)
    assert one.low is not None and one.high is not None
    whole = all(isinstance(x, int) for x in (one.low, one.high, one.step or 1))
    return Choice(
        one.key,
        "int" if whole else "float",
        low=one.low,
        high=one.high,
        log=one.log,
        step=one.step,
        when=when,
    )


def label_of(key: str, value: Any, spec_file: SpecFile) -> Any:
    """A value as the choice of its key stores it."""
    for one in spec_file.spec.search.vary:
        if one.key == key and one.choices:
            return label(value)
    return value


def _ordered(found: Sequence[Choice]) -> Iterator[Choice]:
    """What others depend on comes first; a circle ends where it began."""
    by_key, done = {one.key: one for one in found}, set[str]()

    def visit(one: Choice) -> Iterator[Choice]:
        if one.key in done:
            return
        done.add(one.key)
        for key, _ in one.when:
            if key in by_key:
                yield from visit(by_key[key])
        yield one

    for one in found:
        yield from visit(one)


# ---------------------------------------------------------------------- ready-made spaces


def structure(spec: Spec, job: Job) -> Iterator[Choice]:
    """Blocks, heads and units of the feed-forwards that stay; the most is all of them."""
    given = {edit.DO for edit in spec.edit}
    blocks, sizes = len(job.model.blocks), job.model.sizes
    if blocks > 1 and "keep-layers" not in given:
        yield Choice("keep-layers.n", "int", low=1, high=blocks)
        fewer = (("keep-layers.n", tuple(range(1, blocks))),)
        ways = ("evenly", "first", "taylor")
        yield Choice("keep-layers.choose", "categorical", values=ways, when=fewer)
    if sizes.get("H", 1) >= 4 and "prune-heads" not in given:
        yield Choice("prune-heads.keep", "float", low=0.5, high=1.0, step=0.25)
    if sizes.get("F", 0) >= 32 and "prune-ffn" not in given:
        yield Choice("prune-ffn.keep", "float", low=0.25, high=1.0, step=0.25)


def recipe(spec: Spec, job: Job) -> Iterator[Choice]:
    """How it is trained, around what the spec says."""
    train, blocks = spec.train, len(job.model.blocks)
    low, high = train.lr / 2, min(1.0, train.lr * 4)
    yield Choice("train.lr", "float", low=low, high=high, log=True)
    yield Choice("train.warmup", "categorical", values=(0.0, 0.06, 0.1, 0.2))
    if not train.stage:
        most = train.epochs + 2
        yield Choice("train.epochs", "int", low=1, high=most)
        if blocks >= 3:
            some = (None, blocks // 3)
            yield Choice("train.freeze", "categorical", values=some)
    if train.batch is not None:
        sizes = (max(1, train.batch // 2), train.batch, train.batch * 2)
        yield Choice("train.batch", "categorical", values=tuple(dict.fromkeys(sizes)))
    if blocks > 1:
        yield Choice("train.layer_decay", "categorical", values=(1.0, 0.9, 0.8))
    if spec.task in ONE_LABEL_TASKS and train.loss == "standard":
        yield Choice("train.label_smoothing", "categorical", values=(0.0, 0.1))
    if spec.train.distill.teacher is None and spec.task in LABEL_TASKS:
        yield Choice(DISTILL, "categorical", values=(None, TEACHER))
        taught = ((DISTILL, (TEACHER,)),)
        weights = (0.5, 0.9)
        yield Choice("train.distill.weight", "categorical", values=weights, when=taught)
    yield Choice("target.precision", "categorical", values=_values("target.precision"))


def deploy(spec: Spec, job: Job) -> Iterator[Choice]:
    """How it is stored and computed where it predicts."""
    quantize = Choice(
        "deploy.quantize", "categorical", values=_values("deploy.quantize")
    )
    yield quantize
    whole = ((quantize.key, ("none",)),)  # what is quantized has no other precision
    values = _values("deploy.precision")
    yield Choice("deploy.precision", "categorical", values=values, when=whole)


def _values(path: str) -> tuple[str, ...]:
    """The strings that a key may be."""
    (entry,) = (e for e in entries() if e.path == path)
    (shape,) = (s for s in entry.shapes if isinstance(s, Choices))
    return shape.values


SPACES: Mapping[str, Callable[[Spec, Job], Iterator[Choice]]] = {
    "structure": structure,
    "recipe": recipe,
    "deploy": deploy,
}


# ----------------------------------------------------------------------------- candidates


def candidate(text: str, params: Params, known: Sequence[Choice]) -> str:
    """The spec that these values make of the text of another."""
    by_key = {one.key: one for one in known}
    values = {key: by_key[key].value(stored) for key, stored in params.items()}
    text = without_search(text)
    # A whole list comes before the keys of what is in it.
    paths = {k: v for k, v in values.items() if k.split(".")[0] not in EDITS}
    for path in sorted(paths, key=lambda p: ("[" in p, p)):
        text = alter(text, {path: paths[path]})
    added = [table for do in EDITS if (table := _edit(do, values, by_key))]
    if added:
        there = tomllib.loads(text).get("edit", [])
        # Blocks and units are removed ahead of whatever builds on them.
        text = alter(text, {"edit": [*added, *there]})
    return text


def _edit(
    do: str, values: Params, by_key: Mapping[str, Choice]
) -> dict[str, Any] | None:
    """The table of an edit that removes something; None where all of it stays."""
    mine = {k.split(".")[1]: v for k, v in values.items() if k.split(".")[0] == do}
    for name, value in mine.items():
        one = by_key[f"{do}.{name}"]
        if one.kind != "categorical" and value >= one.high:
            return None
    return {"do": do, **mine} if mine else None


def difference(before: str, after: str) -> list[list[Any]]:
    """What differs between two specs: each key, what it was and what it is."""
    one, two = (_flat(tomllib.loads(text)) for text in (before, after))
    keys = [*one, *(key for key in two if key not in one)]
    pairs = ((key, one.get(key), two.get(key)) for key in keys)
    return [[key, a, b] for key, a, b in pairs if a != b]


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{path}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, table in enumerate(value):
                flat |= _flat(table, f"{path}{name}[{number}].")
        else:
            flat[path + name] = value
    return flat


def unedited(text: str) -> str:
    """The spec without its edits and its search."""
    return alter(without_search(text), {"edit": None})


# Of a frozen model nothing can learn what a teacher has inside.
OUTSIDE = {f"train.distill.{key}": None for key in ("hidden", "attention", "layers")}
OUTSIDE |= {"train.distill.relation_heads": None}
PROBE = {"train.lr": 1e-3, "train.epochs": 10, "train.stage": None, **OUTSIDE}


def probe(text: str, blocks: int) -> str:
    """An unedited spec whose head alone is trained, at what suits a head."""
    return alter(text, {**PROBE, "train.freeze": blocks})


def scoring(text: str, known: Sequence[Choice]) -> str | None:
    """A spec whose edits ask for all scores that candidates may need; None for none."""
    doing = {one.key.split(".")[0] for one in known} & {*EDITS}
    lists = [values for one in known if one.key == "edit" for values in one.values]
    listed = [table for values in lists for table in values if table["do"] in SCORED]
    if not doing and not listed:
        return None
    asked = {
        "keep-layers": {"do": "keep-layers", "n": 1, "choose": "taylor"},
        "prune-heads": {"do": "prune-heads", "keep": 0.5},
        "prune-ffn": {"do": "prune-ffn", "keep": 0.5},
    }
    there = tomllib.loads(text).get("edit", [])
    added = [*(asked[do] for do in EDITS if do in doing), *listed]
    return alter(without_search(text), {"edit": [*added, *there]})
