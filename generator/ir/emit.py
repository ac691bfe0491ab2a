"""Writing operations in order, with names that are free and types that are inferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from generator.ir.dims import Type
from generator.ir.job import Attr, Model, Module, Op, ParameterDef, Value
from generator.ir.ops import infer
from generator.ir.verify import bind


def parameter_types(parameters: Sequence[ParameterDef], name: str) -> dict[str, Type]:
    """The parameters of the operation `name`, by what follows it in their names."""
    found = {}
    for p in parameters:
        stem, dot, last = p.name.rpartition(".")
        if p.name == name:
            found[""] = p.type
        elif dot and stem == name:
            found[last] = p.type
    return found


@dataclass
class Emitter:
    """A module while it is rewritten; `model` has the modules that it may call."""

    model: Model
    module: Module  # its parameters and instances are those the operations may use
    modules: Mapping[str, Module]  # by name, changed ones included
    ops: list[Op] = field(default_factory=list)
    types: dict[str, Type] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in self.module.inputs:
            self.types[value.name] = value.type

    def free(self, name: str) -> str:
        """`name`, or the next of its numbered forms that nothing is called."""
        base = name.split(".")[0]
        number = 1
        while name in self.types:
            number += 1
            name = f"{base}.{number}"
        return name

    def put(self, op: Op, args: Sequence[str]) -> tuple[str, ...]:
        """An operation as it was, on other operands; the names of its results."""
        given = tuple(self.types[a] for a in args)
        if op.kind in ("call", "repeat"):
            inner = self.modules[self.module.instance(op.name).module]
            types = bind(self.model, inner, given)
        else:
            params = parameter_types(self.module.parameters, op.name)
            types = infer(op.kind, given, params, op.attrs_dict)
        names = []
        for old, kind in zip(op.results, types, strict=True):
            name = self.free(old.name)
            self.types[name] = kind
            names.append(name)
        results = tuple(Value(n, self.types[n]) for n in names)
        self.ops.append(replace(op, results=results, args=tuple(args)))
        return tuple(names)

    def new(
        self, kind: str, args: Sequence[str], out: str, place: str, /, **attrs: Attr
    ) -> str:
        """A new operation of one result that holds no parameters."""
        stub = Value(out, Type("f32", ()))
        op = Op(kind, (stub,), (), "", tuple(sorted(attrs.items())), place)
        return self.put(op, args)[0]

    def done(self, outputs: Sequence[str]) -> Module:
        return replace(self.module, ops=tuple(self.ops), outputs=tuple(outputs))
