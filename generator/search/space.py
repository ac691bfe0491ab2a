"""What varies in a search: the spec's own choices, and the ready-made ones.

A choice has a key, which for most is that of the spec. `prune-ffn.keep` is the key of the
`[[edit]]` that does prune-ffn: of the spec's own, or of one that joins them. Where it has a
value at which nothing is pruned, there is no such edit.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from generator.errors import GenError
from generator.ir.dims import dim
from generator.ir.job import Instance, Job, Model, inside
from generator.ir.sources import Checkpoint, Tie
from generator.spec import SpecFile, read_spec
from generator.spec.alter import alter, without_search
from generator.spec.edits import EDITS as KINDS
from generator.spec.entries import Choice as Choices
from generator.spec.entries import entries
from generator.spec.key import LABEL_TASKS, ONE_LABEL_TASKS
from generator.spec.model import Spec
from generator.spec.search import Vary
from generator.spec.searched import OFF
from generator.spec.words import toml

Kind = Literal["float", "int", "categorical"]
Params = Mapping[str, Any]
# Of the structure: the edits in the order in which they are made, ahead of all that build
# on what they leave.
EDITS = ("keep-layers", "low-rank", "prune-heads", "prune-ffn", "prune-width")
APART = {"low-rank", "prune-ffn", "prune-width"}  # which change the same weights

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
    # Of an edit: at which values there is none, and the keys that it has beside.
    nothing: tuple[Any, ...] = ()
    beside: tuple[tuple[str, Any], ...] = ()

    @property
    def edit(self) -> str | None:
        """The edit that it is a key of by its name; None for what is said elsewhere."""
        do = self.key.split(".")[0]
        return do if do in KINDS else None

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
    return value if isinstance(value, str) else OFF if value is None else toml(value)


def choices(spec_file: SpecFile, job: Job) -> tuple[Choice, ...]:
    """All that varies; `job` is as imported. What a `[[search.vary]]` names is not varied a
    second time by the ready-made spaces."""
    spec = spec_file.spec
    own = [_own(spec_file, one) for one in spec.search.vary]
    named = {one.key for one in own}
    edits = {one.edit for one in own if one.edit is not None}
    ready = [
        one
        for name, make in SPACES.items()
        if spec.search.space in ("all", name)
        for one in make(spec, job)
        if one.key not in named and one.edit not in edits
    ]
    if edits & APART:
        ready = [one for one in ready if one.edit not in APART]
    if "edit" in named:
        ready = [one for one in ready if one.edit is None]
    text = without_search(spec_file.text)
    ready = [_readable(one, text, spec_file.file) for one in ready]
    there = {one.key: one for one in ready if one.kind != "categorical" or one.values}
    ready = [one for one in there.values() if _may_vary(one, there)]
    return tuple(_ordered([*own, *ready]))


def _readable(one: Choice, text: str, file: str) -> Choice:
    """With the values alone that go with what the spec says elsewhere: where training
    rounds, as in [deploy], there is something to round. None of them if that leaves one.
    """
    if one.kind != "categorical" or one.edit is not None:
        return one
    around = {key: values[0] for key, values in one.when}

    def reads(value: Any) -> bool:
        try:
            read_spec(alter(text, {**around, one.key: value}), file)
        except GenError:
            return False
        return True

    values = tuple(value for value in one.values if reads(value))
    return replace(one, values=values if len(values) > 1 else ())


def _may_vary(one: Choice, there: Mapping[str, Choice]) -> bool:
    """Whether what it depends on varies, and may be as it has to be for that."""
    return all(
        key in there
        and (there[key].kind != "categorical" or {*values} & {*there[key].labels})
        for key, values in one.when
    )


def _own(spec_file: SpecFile, one: Vary) -> Choice:
    when = tuple((key, (label_of(key, value, spec_file),)) for key, value in one.when)
    of_edit = one.key.split(".")[0] in KINDS
    nothing = ((None, 1, 1.0) if one.key.endswith(".keep") else (None,)) * of_edit
    if one.choices:
        values = tuple(None if of_edit and v == OFF else v for v in one.choices)
        return Choice(one.key, "categorical", values=values, when=when, nothing=nothing)
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
        nothing=nothing,
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
    """Blocks, heads and units of the feed-forwards that stay; where no units go, the rank
    of the feed-forwards, and where that stays too, the width. The most is all of them.
    """
    given = {edit.DO for edit in spec.edit}
    model, blocks, sizes = job.model, len(job.model.blocks), job.model.sizes
    if blocks > 1 and "keep-layers" not in given:
        yield Choice("keep-layers.n", "int", low=1, high=blocks, nothing=(blocks,))
        fewer = (("keep-layers.n", tuple(range(1, blocks))),)
        ways = ("evenly", "first", "taylor")
        yield Choice("keep-layers.choose", "categorical", values=ways, when=fewer)
    if sizes.get("H", 1) >= 4 and "prune-heads" not in given:
        yield _kept("prune-heads", 0.5)
    if sizes.get("F", 0) < 32 or given & APART:
        return
    yield _kept("prune-ffn", 0.25)
    whole: tuple[tuple[str, tuple[Any, ...]], ...] = (("prune-ffn.keep", (1.0,)),)
    if linears := _wide(model):
        some, more = sizes["C"] // 4, sizes["C"] // 2
        yield Choice(
            "low-rank.rank",
            "categorical",
            values=(None, some, more),
            when=whole,
            nothing=(None,),
            beside=(("on", list(linears)),),
        )
        whole = (*whole, ("low-rank.rank", (OFF,)))
    if sizes.get("C", 0) >= 32 and _may_narrow(model):
        yield _kept("prune-width", 0.5, when=whole)


def _kept(
    do: str, least: float, when: tuple[tuple[str, tuple[Any, ...]], ...] = ()
) -> Choice:
    """A part that stays, in quarters."""
    return Choice(
        f"{do}.keep",
        "float",
        low=least,
        high=1.0,
        step=0.25,
        when=when,
        nothing=(1.0,),
    )


def _wide(model: Model) -> tuple[str, ...]:
    """The linears of the feed-forwards that two of half the width's rank are smaller than,
    by their names in every block."""

    def names(block: Instance) -> Iterator[str]:
        for path, _, module in inside(model, block):
            for op in module.ops:
                if op.kind != "linear":
                    continue
                name = f"{op.name}.weight"
                weight = next(p for p in module.parameters if p.name == name)
                sizes = weight.type.sizes(model.sizes)
                smaller = model.sizes["C"] // 2 * sum(sizes) < sizes[0] * sizes[1]
                wide = dim("F") in weight.type.shape
                if wide and smaller and isinstance(weight.source, Checkpoint):
                    yield path + op.name

    first, *rest = ([*names(block)] for block in model.blocks)
    return tuple(name for name in first if all(name in other for other in rest))


def _may_narrow(model: Model) -> bool:
    """Whether every parameter of the width can do with a part of it."""
    width = dim("C")
    return all(
        d == width and not isinstance(p.source, Tie)
        for module in model.modules
        for p in module.parameters
        for d in p.type.shape
        if "C" in d.names
    )


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
    augment = job.data.augment
    varies = augment.rows or augment.mixup or augment.cutmix
    more = spec.features
    told = more.numeric or more.categorical or more.text or more.patterns
    # A teacher answers once, by the rows alone.
    free = spec.train.distill.teacher is None and not told and not varies
    if free and spec.task in LABEL_TASKS:
        yield Choice(DISTILL, "categorical", values=(None, TEACHER))
        taught = ((DISTILL, (TEACHER,)),)
        weights = (0.5, 0.9)
        yield Choice("train.distill.weight", "categorical", values=weights, when=taught)
    values = tuple(
        v
        for v in _values("target.precision")
        if v != "fp16" or spec.target.device == "cuda"
    )
    yield Choice("target.precision", "categorical", values=values)


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
    varied = [one for one in known if one.key in params]
    values = {one.key: one.value(params[one.key]) for one in varied}
    text = without_search(text)
    # A whole list comes before the keys of what is in it.
    paths = [one.key for one in varied if one.edit is None]
    for path in sorted(paths, key=lambda p: ("[" in p, p)):
        text = alter(text, {path: values[path]})
    there = tomllib.loads(text).get("edit", [])
    edits = _edited(there, [one for one in varied if one.edit], values)
    return alter(text, {"edit": edits}) if edits != there else text


def _edited(
    there: Sequence[Mapping[str, Any]], varied: Sequence[Choice], values: Params
) -> list[Mapping[str, Any]]:
    """The edits of a spec where keys of some vary, by the names of these."""
    edits = [*there]
    joining: dict[str, Mapping[str, Any]] = {}
    for do in dict.fromkeys(one.edit for one in varied):
        assert do is not None
        mine = [one for one in varied if one.edit == do]
        table: dict[str, Any] = {}
        for one in mine:
            table |= {one.key.partition(".")[2]: values[one.key], **dict(one.beside)}
        gone = any(values[one.key] in one.nothing for one in mine)
        at = next((i for i, edit in enumerate(edits) if edit["do"] == do), None)
        if at is None and not gone:
            joining[do] = {"do": do, **table}
        elif at is not None:
            edits[at : at + 1] = [] if gone else [{**edits[at], **table}]
    # Blocks and units are removed ahead of whatever builds on them.
    first = [joining[do] for do in EDITS if do in joining]
    return [*first, *edits, *(joining[do] for do in joining if do not in EDITS)]


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


# What asks for all the scores by which an edit may choose.
ASKED: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "keep-layers": ({"n": 1, "choose": "taylor"},),
    "prune-heads": ({"keep": 0.5},),
    "prune-ffn": ({"keep": 0.5},),
    "prune-width": ({"keep": 0.5},),
}


def scoring(text: str, known: Sequence[Choice]) -> str | None:
    """A spec whose edits ask for all scores that candidates may need; None for none."""
    there = tomllib.loads(text).get("edit", [])
    asked: list[Mapping[str, Any]] = []
    for do in (do for do in EDITS if do in {one.edit for one in known}):
        own = [*ASKED.get(do, ()), *_methods(do, known, there)]
        asked += [
            {"do": do, **own[i]} for i in range(len(own)) if own[i] not in own[:i]
        ]
    lists = [values for one in known if one.key == "edit" for values in one.values]
    asked += [table for values in lists for table in values if table["do"] in EDITS]
    if not asked:
        return None
    return alter(without_search(text), {"edit": [*asked, *there]})


def _methods(
    do: str, known: Sequence[Choice], there: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Tables with what varies of the way in which an edit chooses."""
    values = {
        one.key.partition(".")[2]: [v for v in one.values if v is not None]
        for one in known
        if one.edit == do
    }
    for method in values.get("choose", ()):
        if method not in ("evenly", "first", "last"):
            yield {"n": 1, "choose": method}
    for method in values.get("score", ()):
        yield {"keep": 0.5, "score": method}
    if "energy" in values:
        own = [edit["on"] for edit in there if edit["do"] == do and "on" in edit]
        for on in values.get("on", own):
            yield {"on": on, "energy": 0.5}
