"""The keys of the spec, one by one, as the reader, the schema and the pages need them.

All of it is derived from the classes in model.py.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from generator.spec.augment import Augment
from generator.spec.clean import Clean
from generator.spec.deploy import Deploy
from generator.spec.distill import Distill
from generator.spec.edits import EDITS
from generator.spec.features import Features
from generator.spec.guard import Guard
from generator.spec.key import Key
from generator.spec.model import Backbone, Data, Spec, Stage, Target, Train
from generator.spec.prune import Prune
from generator.spec.search import Search, Vary
from generator.spec.select import Select


@dataclass(frozen=True)
class Whole:
    """An integer."""


@dataclass(frozen=True)
class Number:
    """A float, or an integer that stands for one."""


@dataclass(frozen=True)
class Flag:
    """true or false."""


@dataclass(frozen=True)
class String:
    """A string, which the key's rule describes."""


@dataclass(frozen=True)
class Choice:
    """One of a few strings."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Anything:
    """Any value at all: what it must be is looked at where it is used."""


@dataclass(frozen=True)
class Items:
    """A list."""

    item: Whole | Number | String | Anything


@dataclass(frozen=True)
class Pairs:
    """A list of pairs of integers."""


@dataclass(frozen=True)
class Lists:
    """A table of lists of strings."""


@dataclass(frozen=True)
class Named:
    """A table of any values."""


Shape = (
    Whole | Number | Flag | String | Choice | Items | Pairs | Lists | Anything | Named
)


@dataclass(frozen=True)
class Entry:
    """A key in its place: all that there is to know about it."""

    section: str  # "" is the top of the file
    attribute: str  # the field's name
    name: str  # as it is written
    shapes: tuple[Shape, ...]  # a value has one of them
    default: Any  # dataclasses.MISSING where there is none
    key: Key

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def listed(self) -> bool:
        """Whether its value is a tuple, whichever way it was written."""
        return any(isinstance(shape, Items) for shape in self.shapes)


SECTIONS: Mapping[str, type] = {
    "": Spec,
    "backbone": Backbone,
    "data": Data,
    "features": Features,
    "train": Train,
    "target": Target,
    "deploy": Deploy,
    "search": Search,
}

# Tables in tables, each under a header of its own.
INNER: Mapping[str, type] = {
    "data.clean": Clean,
    "data.guard": Guard,
    "data.augment": Augment,
    "features.select": Select,
    "train.distill": Distill,
    "train.prune": Prune,
}

# What other tools call the sections.
SECTION_ALIASES = {
    "model": "backbone",
    "base": "backbone",
    "dataset": "data",
    "columns": "features",
    "tabular": "features",
    "training": "train",
    "trainer": "train",
    "optimizer": "train",
    "optim": "train",
    "hyperparameters": "train",
    "runtime": "target",
    "hardware": "target",
    "deployment": "deploy",
    "quantization": "deploy",
    "quantisation": "deploy",
    "serving": "deploy",
}


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every key of the spec, section by section, in the order of the classes."""
    return tuple(e for section, owner in SECTIONS.items() for e in _of(section, owner))


@functools.cache
def edit_entries(do: str) -> Mapping[str, Entry]:
    """The keys of an edit by their names in the file; `do` is not among them."""
    return {e.name: e for e in _of("edit", EDITS[do])}


@functools.cache
def stage_entries() -> Mapping[str, Entry]:
    """The keys of a stage of the training by their names in the file."""
    return {e.name: e for e in _of("train.stage", Stage)}


def stage_doc() -> str:
    """What a stage is: a sentence or two."""
    return " ".join((Stage.__doc__ or "").split())


@functools.cache
def vary_entries() -> Mapping[str, Entry]:
    """The keys of what a search varies by their names in the file."""
    return {e.name: e for e in _of("search.vary", Vary)}


def vary_doc() -> str:
    """What a search varies: a sentence or two."""
    return " ".join((Vary.__doc__ or "").split())


def inner_paths() -> list[str]:
    """The paths of all keys of tables in tables."""
    return [e.path for table in INNER for e in inner_entries(table).values()]


@functools.cache
def inner_entries(path: str) -> Mapping[str, Entry]:
    """The keys of a table in a table by their names in the file."""
    return {e.name: e for e in _of(path, INNER[path])}


def inner_doc(path: str) -> str:
    """What a table in a table is for: some sentences."""
    return " ".join((INNER[path].__doc__ or "").split())


def edit_doc(do: str) -> str:
    """What an edit does: a sentence or two."""
    return " ".join((EDITS[do].__doc__ or "").split())


def _of(section: str, owner: type) -> Iterator[Entry]:
    hints = typing.get_type_hints(owner)
    for f in dataclasses.fields(owner):
        if key := f.metadata.get("key"):
            shapes = tuple(_shapes(hints[f.name]))
            name = key.toml or f.name
            yield Entry(section, f.name, name, shapes, f.default, key)


@functools.cache
def section_entries(section: str) -> Mapping[str, Entry]:
    """The keys of a section by their names in the file."""
    return {e.name: e for e in entries() if e.section == section}


def section_doc(section: str) -> str:
    """What a section is for: a sentence."""
    if not section:
        return "What the job is called and what its model is to do."
    by_name = {f.name: f for f in dataclasses.fields(Spec)}
    return by_name[section].metadata["section"]


def _shapes(hint: Any) -> list[Shape]:
    """The shapes that a type allows; None is no shape: TOML cannot write it."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [shape for part in typing.get_args(hint) for shape in _shapes(part)]
    if typing.get_origin(hint) is Literal:
        return [Choice(typing.get_args(hint))]
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if typing.get_origin(inner) is tuple:
            if typing.get_args(inner) == (int, int):
                return [Pairs()]
            return [Named() if Any in typing.get_args(inner) else Lists()]
        (item,) = _shapes(inner)
        assert isinstance(item, Whole | Number | String | Anything)
        return [Items(item)]
    scalar: dict[Any, list[Shape]] = {
        bool: [Flag()],
        int: [Whole()],
        float: [Number()],
        str: [String()],
        Any: [Anything()],
        type(None): [],
    }
    return scalar[hint]
