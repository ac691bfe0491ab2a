"""What a pass does to the weights: each parameter after it, in terms of those before.

Maps compose, so that loading a checkpoint, migrating an old one and carrying an
optimizer's state over a change of structure are one algebra.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from generator.ir.job import Model
from generator.ir.sources import Parameter, Source, rebuild


@dataclass(frozen=True)
class WeightMap:
    """Parameters that are not named keep their name and value."""

    changed: Mapping[str, Source] = field(default_factory=dict)  # leaves: Parameter
    dropped: frozenset[str] = frozenset()  # names that are no parameter's after

    def source(self, path: str) -> Source:
        """Where the parameter `path` after the pass comes from."""
        return self.changed.get(path, Parameter(path))

    def then(self, later: WeightMap) -> WeightMap:
        """This map followed by another."""
        through = {
            path: rebuild(source, self._leaf) for path, source in later.changed.items()
        }
        kept = {
            path: source
            for path, source in self.changed.items()
            if path not in later.dropped and path not in through
        }
        return WeightMap({**kept, **through}, self.dropped | later.dropped)

    def _leaf(self, leaf: Source) -> Source:
        return self.source(leaf.path) if isinstance(leaf, Parameter) else leaf


def paths_of(model: Model) -> dict[str, tuple[str, ...]]:
    """The paths, each ending in a dot or empty, at which a module stands."""
    found: dict[str, list[str]] = {}

    def walk(name: str, path: str) -> Iterator[tuple[str, str]]:
        yield name, path
        for instance in model.by_name[name].instances:
            for one, _, _ in instance.each():
                yield from walk(instance.module, f"{path}{one}.")

    for name, path in walk(model.main.name, ""):
        found.setdefault(name, []).append(path)
    return {name: tuple(paths) for name, paths in found.items()}
