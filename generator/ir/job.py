"""The job: everything a package is rendered from, as frozen dataclasses.

A model is a list of modules, each a straight list of operations on named values. A
module holds its parameters and its instances of other modules; what a parameter's value
comes from stands beside it. Import writes every block as modules of its own; grouping
makes one of those that are equal.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from generator.ir.dims import Dim, Type, dim
from generator.ir.plans import (
    DataPlan,
    DeployPlan,
    DistillPlan,
    ExportPlan,
    ReferencePlan,
    StagePlan,
    TargetPlan,
    Task,
    TrainPlan,
)
from generator.ir.sources import (
    ZERO,
    Checkpoint,
    Fold,
    Init,
    Norms,
    Shape,
    Source,
    Take,
    map_children,
    rebuild,
)

Level = Literal["imported", "optimised", "shaped"]
# Of a parameter: a matrix and an embedding decay; a bias and a norm's gain do not.
Role = Literal["matrix", "embedding", "bias", "norm"]
ROLES: tuple[Role, ...] = ("matrix", "embedding", "bias", "norm")
DECAYED: frozenset[Role] = frozenset({"matrix", "embedding"})


@dataclass(frozen=True)
class Const:
    """A use of a named constant, printed as `$name`."""

    name: str


Attr = bool | int | float | str | Const | Dim | tuple[Dim, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Value:
    """A named value. What stands behind a dot in its name only tells it from others."""

    name: str
    type: Type

    @property
    def base(self) -> str:
        return self.name.split(".")[0]


@dataclass(frozen=True)
class Op:
    kind: str
    results: tuple[Value, ...]
    args: tuple[str, ...] = ()
    name: str = ""  # its parameters, or the instance that it calls
    attrs: tuple[tuple[str, Attr], ...] = ()  # sorted by name
    place: str = ""  # the key of the spec that it is there for: "backbone.from"

    @cached_property
    def attrs_dict(self) -> dict[str, Attr]:
        return dict(self.attrs)


@dataclass(frozen=True)
class ParameterDef:
    """A parameter of a module: `q.weight`, where `q` names the operation that reads it."""

    name: str
    type: Type
    role: Role
    source: Source
    place: str = ""
    frozen: bool = False  # it does not train, whatever the job's paths say


@dataclass(frozen=True)
class Instance:
    """A module in a module. With a count, `blocks.0` stands for that many in a row.

    `keys` goes before the checkpoint's keys in it; `{i}` there is the instance's number.
    With `zeros` it is a copy: it may read tensors that another reads, and these of its
    parameters start at 0. `sizes` are those that its module takes, by the module's names
    for them, in dimensions of the module that it stands in. `sources` are where some of
    its parameters come from, by their paths in it, in place of what its module says.
    """

    name: str
    module: str
    keys: str = ""
    depth: int = -1  # distance from the input, for layer-wise decay; -1: its parent's
    count: int = 1
    zeros: tuple[str, ...] = ()
    sizes: tuple[tuple[str, str], ...] = ()
    sources: tuple[tuple[str, Source], ...] = ()

    def within(self, outer: Mapping[str, Dim]) -> dict[str, Dim]:
        """The sizes that its module takes, where those around it are worth `outer`."""
        return {name: outer.get(given, dim(given)) for name, given in self.sizes}

    def given(self, path: str) -> dict[str, Source]:
        """The sources that it says, by the names of parameters under `path`."""
        own = {path + name: source for name, source in self.sources}
        return own | {path + name: ZERO for name in self.zeros}

    def each(self) -> Iterator[tuple[str, str, int]]:
        """Name, keys and depth of each of the instances that it stands for."""
        if self.count == 1 and "{i}" not in self.keys:
            yield self.name, self.keys, self.depth
            return
        stem, _, first = self.name.rpartition(".")
        for step in range(self.count):
            number = int(first) + step
            depth = self.depth if self.depth < 0 else self.depth + step
            yield f"{stem}.{number}", self.keys.replace("{i}", str(number)), depth


@dataclass(frozen=True)
class Module:
    name: str
    inputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    parameters: tuple[ParameterDef, ...] = ()
    instances: tuple[Instance, ...] = ()
    doc: str = ""  # one sentence, for the docstring
    # Dimensions that each instance of it gives: within it they hide the model's own.
    sizes: tuple[str, ...] = ()

    @cached_property
    def types(self) -> dict[str, Type]:
        """The type of every value in it."""
        values = [*self.inputs, *(r for op in self.ops for r in op.results)]
        return {v.name: v.type for v in values}

    @property
    def output_types(self) -> tuple[Type, ...]:
        return tuple(self.types[name] for name in self.outputs)

    def instance(self, name: str) -> Instance:
        return next(i for i in self.instances if i.name == name)


@dataclass(frozen=True)
class DimDef:
    """A dimension. One that varies from batch to batch has no size, perhaps a bound."""

    symbol: str
    size: int | None
    name: str = ""  # its field in Config; "" for one that has none
    bound: int | None = None
    doc: str = ""


@dataclass(frozen=True)
class ConstDef:
    name: str
    value: float | int
    doc: str = ""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the checkpoint, as its header states it."""

    key: str
    dtype: str  # safetensors' name: F32, BF16, ...
    shape: Shape


@dataclass(frozen=True)
class Unused:
    """A tensor of the checkpoint that the model does not read, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class KeptList:
    """Entries of an axis that an edit keeps, ascending; `Take` reads them."""

    name: str  # the path of the module, and a word; the word alone for the whole model
    index: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    title: str  # "BERT encoder"
    dims: tuple[DimDef, ...]
    consts: tuple[ConstDef, ...]
    tensors: tuple[Tensor, ...]
    unused: tuple[Unused, ...]
    modules: tuple[
        Module, ...
    ]  # in the order of their definition; the last is the model
    # The value of the main module up to which it never trains; "" where it does.
    cut: str = ""
    lists: tuple[KeptList, ...] = ()  # of what edits keep

    @property
    def main(self) -> Module:
        return self.modules[-1]

    @cached_property
    def by_name(self) -> dict[str, Module]:
        return {m.name: m for m in self.modules}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Sizes of the dimensions that have one."""
        return {d.symbol: d.size for d in self.dims if d.size is not None}

    @cached_property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """The lists of what edits keep, by their names."""
        return {one.name: one.index for one in self.lists}

    @cached_property
    def varying(self) -> frozenset[str]:
        """Dimensions that change from batch to batch; a call may bind them."""
        return frozenset(d.symbol for d in self.dims if d.size is None)

    @cached_property
    def constants(self) -> dict[str, float | int]:
        return {c.name: c.value for c in self.consts}

    @cached_property
    def scopes(self) -> dict[str, tuple[dict[str, Dim], ...]]:
        """What the sizes that a module takes are worth, wherever it stands, by its name."""
        found: dict[str, list[dict[str, Dim]]] = {m.name: [] for m in self.modules}
        found[self.main.name].append({})
        for module in reversed(self.modules):  # each before those that it is made of
            for instance in module.instances:
                inner = found.get(instance.module, [])
                for outer in found[module.name]:
                    if (scope := instance.within(outer)) not in inner:
                        inner.append(scope)
        return {name: tuple(scopes) for name, scopes in found.items()}

    @property
    def copies(self) -> tuple[str, ...]:
        """The instances of the main module that are copies."""
        return tuple(i.name for i in self.main.instances if i.zeros)

    @cached_property
    def blocks(self) -> tuple[Instance, ...]:
        """The instances of the main module's one list, in order."""
        found = [i for i in self.main.instances if i.name.rpartition(".")[2].isdigit()]
        if len({i.name.rpartition(".")[0] for i in found}) != 1:
            raise ValueError(f"the model's blocks are no single list: {found}")
        return tuple(sorted(found, key=lambda i: int(i.name.rpartition(".")[2])))

    def with_modules(self, changed: Mapping[str, Module]) -> Model:
        """The same with modules replaced by name."""
        return replace(
            self, modules=tuple(changed.get(m.name, m) for m in self.modules)
        )


@dataclass(frozen=True)
class Backbone:
    source: str  # the spec's own string
    revision: str | None  # the hub's commit, where it came from there
    licence: str | None
    architecture: str  # the checkpoint's model_type; for messages and the oracle only


@dataclass(frozen=True)
class Job:
    name: str
    task: Task
    labels: tuple[str, ...]
    backbone: Backbone
    model: Model
    data: DataPlan
    train: TrainPlan
    target: TargetPlan
    frozen: tuple[str, ...] = ()  # paths of modules whose parameters do not train
    level: Level = "imported"
    reference: ReferencePlan = field(default_factory=ReferencePlan)
    # One after the other; none is training in one go. `frozen` is what none of them trains.
    stages: tuple[StagePlan, ...] = ()
    deploy: DeployPlan = field(default_factory=DeployPlan)
    distill: DistillPlan = field(default_factory=DistillPlan)
    export: ExportPlan = field(default_factory=ExportPlan)

    @property
    def block_numbers(self) -> tuple[int, ...]:
        """What number the checkpoint has each block under, from 0; a copy has its
        original's."""
        return self.reference.blocks or tuple(range(len(self.model.blocks)))


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter of the whole model, by its name in the state dict."""

    path: str
    shape: Shape
    role: Role
    decay: bool
    depth: int
    frozen: bool
    source: Source  # with the checkpoint's full keys


def parameters(job: Job) -> tuple[ParameterInfo, ...]:
    """Every parameter, in the order of the modules' definitions."""
    return tuple(walk_parameters(job.model, job.frozen))


def added(job: Job) -> tuple[ParameterInfo, ...]:
    """Parameters of adapters: those of blocks that no tensor is read into."""
    stems = {b.name.rpartition(".")[0] + "." for b in job.model.blocks}
    # What copies of blocks start from is new too.
    zeros = {f"{b.name}.{name}" for b in job.model.blocks for name in b.zeros}
    return tuple(
        p
        for p in parameters(job)
        if p.path.startswith(tuple(stems))
        and p.path not in zeros
        and isinstance(p.source, (Init, Norms))
    )


def inside(model: Model, instance: Instance) -> Iterator[tuple[str, str, Module]]:
    """The module of an instance and those in it: path in it with a dot, keys, module.

    Before grouping every instance has modules of its own.
    """
    module = model.by_name[instance.module]
    yield "", instance.keys, module
    for inner in module.instances:
        for path, keys, one in inside(model, inner):
            yield f"{inner.name}.{path}", instance.keys + keys, one


def walk_parameters(
    model: Model, frozen: tuple[str, ...] = ()
) -> Iterator[ParameterInfo]:
    def walk(
        module: Module,
        path: str,
        prefix: str,
        depth: int,
        scope: Mapping[str, Dim],
        given: Mapping[str, Source],
    ) -> Iterator[ParameterInfo]:
        for p in module.parameters:
            full = path + p.name
            source = absolute(given.get(full, p.source), prefix)
            yield ParameterInfo(
                path=full,
                shape=p.type.substitute(scope).sizes(model.sizes),
                role=p.role,
                decay=p.role in DECAYED,
                depth=depth,
                frozen=p.frozen
                or any(full == f or full.startswith(f + ".") for f in frozen),
                source=listed(source, path, model.kept),
            )
        for instance in module.instances:
            inner = model.by_name[instance.module]
            for name, keys, own in instance.each():
                here = f"{path}{name}."
                yield from walk(
                    inner,
                    here,
                    prefix + keys,
                    depth if own < 0 else own,
                    instance.within(scope),
                    {**instance.given(here), **given},
                )

    yield from walk(model.main, "", "", 0, {}, {})


def listed(source: Source, path: str, kept: Mapping[str, tuple[int, ...]]) -> Source:
    """A module's source with the lists of the place where it stands."""
    if isinstance(source, Take | Fold):
        name = list_name(source.name, path, kept)
        source = replace(source, name=name, index=kept.get(name, ()))
    return map_children(source, lambda part: listed(part, path, kept))


def list_name(name: str, path: str, kept: Mapping[str, tuple[int, ...]]) -> str:
    """What a module at `path`, which ends in a dot or is empty, means by the name of a
    list: its own of that name, or that of the nearest module around it."""
    around = path
    while around and around + name not in kept:
        around = "".join(part + "." for part in around.split(".")[:-2])
    return around + name if around + name in kept else path + name


def next_free(name: str, taken: Container[str]) -> str:
    """The next of a value's numbered names that nothing is called."""
    base, number = name.split(".")[0], 2
    while f"{base}.{number}" in taken:
        number += 1
    return f"{base}.{number}"


def absolute(source: Source, prefix: str) -> Source:
    """A module's source with the checkpoint's full keys."""
    return rebuild(
        source,
        lambda leaf: (
            Checkpoint(prefix + leaf.key) if isinstance(leaf, Checkpoint) else leaf
        ),
    )
