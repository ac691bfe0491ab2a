"""Modules that differ only in what they are made of are one class, which is given that.

Of blocks with two kinds of attention, `Block(c, attention)` is told which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from generator.ir.job import Model, Module
from generator.ir.sources import ZERO


@dataclass(frozen=True)
class Classes:
    """The class of each module, and the instances whose classes that is given."""

    of: Mapping[str, str]  # by module
    given: Mapping[str, tuple[str, ...]]  # by class


def classes(model: Model) -> Classes:
    """A class for each module but for those that are made of other parts alone."""
    alike: dict[object, list[Module]] = {}
    for module in model.modules:
        alike.setdefault(_but_for_parts(module), []).append(module)
    of: dict[str, str] = {}
    given: dict[str, tuple[str, ...]] = {}
    for first, *others in alike.values():
        every = [first, *others]
        of |= {module.name: first.name for module in every}
        given[first.name] = tuple(
            instance.name
            for at, instance in enumerate(first.instances)
            if len({module.instances[at].module for module in every}) > 1
        )
    return Classes(of, given)


def _but_for_parts(module: Module) -> object:
    return replace(
        module,
        name="",
        parameters=tuple(replace(p, source=ZERO) for p in module.parameters),
        instances=tuple(
            replace(i, module="", keys="", sources=()) for i in module.instances
        ),
    )
