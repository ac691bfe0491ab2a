"""Faults to plant in an imported BERT, each of them ill-typed by construction.

A mutation takes a random source and a valid job and gives a job that no verifier may let
pass, or None where that job has no place for it. Why each is ill-typed stands with it;
what would be well-typed (query for key, an addition for a product, another constant) is
left out by the mutation itself, never by asking the verifier.

Two facts are used throughout. The type of an operation's result follows from its
operands, so that every other stated type is wrong. And no two dimensions are equal, so
that writing one for another is wrong even where their sizes are the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from generator.ir.dims import DTYPES, Dim, Type, dim, number
from generator.ir.job import (
    Attr,
    Const,
    Instance,
    Job,
    Module,
    Op,
    ParameterDef,
    Tensor,
    Unused,
    Value,
    walk_parameters,
)
from generator.ir.ops import OPS
from generator.ir.plans import TextPlan
from generator.ir.sources import (
    Checkpoint,
    Concatenate,
    Init,
    Left,
    Parameter,
    Right,
    Row,
    Rows,
    Source,
    Sum,
    Tie,
    Transpose,
    keys,
)
from tests.ir.samples import bert_config, bert_headers, job_from

T = TypeVar("T")
Mutation = Callable[[random.Random, Job], Job | None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(run: Mutation) -> Mutation:
    MUTATIONS[getattr(run, "__name__", "")] = run
    return run


def random_bert(r: random.Random) -> Job:
    """An imported BERT of random sizes: 1 to 3 blocks, with and without pooler."""
    heads, width = r.randint(1, 4), r.randint(2, 5)
    config = bert_config(
        num_hidden_layers=r.randint(1, 3),
        hidden_size=heads * width,
        num_attention_heads=heads,
        intermediate_size=r.randint(21, 30),
        vocab_size=r.randint(31, 60),
        max_position_embeddings=r.randint(61, 80),
        type_vocab_size=r.randint(2, 4),
        hidden_act=r.choice(["gelu", "relu", "tanh"]),
    )
    pooler = r.random() < 0.7
    headers = bert_headers(config, prefix=r.choice(["", "bert."]), pooler=pooler)
    return job_from(
        config,
        headers,
        pair=r.random() < 0.5,
        head=r.choice(["auto", "new"]) if pooler else "new",
        attention_dropout=r.choice([0.0, 0.1]),
    )


# --------------------------------------------------------------- changing parts of a job


def pick(r: random.Random, some: Sequence[T]) -> T | None:
    return r.choice(some) if some else None


def in_module(job: Job, module: Module, **changed: object) -> Job:
    new = replace(module, **changed)  # type: ignore[arg-type]
    return replace(job, model=job.model.with_modules({module.name: new}))


def in_model(job: Job, **changed: object) -> Job:
    return replace(job, model=replace(job.model, **changed))  # type: ignore[arg-type]


def swapped(items: Sequence[T], old: T, *new: T) -> tuple[T, ...]:
    """The items with `new` in the place of `old`."""
    at = next(i for i, item in enumerate(items) if item is old)
    return (*items[:at], *new, *items[at + 1 :])


def with_op(job: Job, module: Module, old: Op, *new: Op) -> Job:
    return in_module(job, module, ops=swapped(module.ops, old, *new))


def with_parameter(
    job: Job, module: Module, old: ParameterDef, *new: ParameterDef
) -> Job:
    return in_module(job, module, parameters=swapped(module.parameters, old, *new))


def all_ops(job: Job) -> list[tuple[Module, Op]]:
    return [(m, op) for m in job.model.modules for op in m.ops]


def all_parameters(job: Job) -> list[tuple[Module, ParameterDef]]:
    return [(m, p) for m in job.model.modules for p in m.parameters]


def all_instances(job: Job) -> list[tuple[Module, Instance]]:
    return [(m, i) for m in job.model.modules for i in m.instances]


def read_keys(job: Job) -> list[str]:
    return [k for info in walk_parameters(job.model) for k in keys(info.source)]


def other_dim(r: random.Random, job: Job, old: Dim) -> Dim:
    """A dimension that is not `old`, by name and by size."""
    sizes = job.model.sizes
    size = old.value(sizes) if old.names <= sizes.keys() else None
    symbols = [d.symbol for d in job.model.dims]
    choices = [dim(s) for s in symbols if size is None or sizes.get(s) != size]
    choices += [old + number(1), old * number(2), number(97)]
    return r.choice([d for d in choices if d != old])


def other_shape(r: random.Random, job: Job, kind: Type) -> Type:
    """A type with another dimension, one less or one more."""
    shape = list(kind.shape)
    at = r.randrange(len(shape))
    match r.randrange(4):
        case 0 | 1:
            shape[at] = other_dim(r, job, shape[at])
        case 2:
            del shape[at]
        case 3:
            shape.insert(at, number(1))
    return replace(kind, shape=tuple(shape))


def other_dtype(r: random.Random, kind: Type) -> Type:
    return replace(kind, dtype=r.choice([d for d in DTYPES if d != kind.dtype]))


def with_result(job: Job, module: Module, op: Op, old: Value, kind: Type) -> Job:
    results = swapped(op.results, old, replace(old, type=kind))
    return with_op(job, module, op, replace(op, results=results))


def with_input(job: Job, module: Module, old: Value, kind: Type) -> Job:
    inputs = swapped(module.inputs, old, replace(old, type=kind))
    return in_module(job, module, inputs=inputs)


# -------------------------------------------------------------------------------- types


@mutation
def a_results_shape(r: random.Random, job: Job) -> Job:
    """A result's type follows from the operands, so another shape is wrong."""
    module, op = r.choice(all_ops(job))
    value = r.choice(op.results)
    return with_result(job, module, op, value, other_shape(r, job, value.type))


@mutation
def a_results_dtype(r: random.Random, job: Job) -> Job:
    """As for the shape."""
    module, op = r.choice(all_ops(job))
    value = r.choice(op.results)
    return with_result(job, module, op, value, other_dtype(r, value.type))


@mutation
def a_result_that_may_be_missing(r: random.Random, job: Job) -> Job:
    """As for the shape."""
    module, op = r.choice(all_ops(job))
    value = r.choice(op.results)
    kind = replace(value.type, optional=not value.type.optional)
    return with_result(job, module, op, value, kind)


@mutation
def an_inputs_shape(r: random.Random, job: Job) -> Job:
    """The caller gives what it gave before; and the model's inputs fix what follows.

    A varying name in another place would be bound to two things, for every input here
    has its B and T.
    """
    module = r.choice(job.model.modules)
    value = r.choice(module.inputs)
    return with_input(job, module, value, other_shape(r, job, value.type))


@mutation
def an_inputs_dtype(r: random.Random, job: Job) -> Job:
    """As for the shape."""
    module = r.choice(job.model.modules)
    value = r.choice(module.inputs)
    return with_input(job, module, value, other_dtype(r, value.type))


@mutation
def an_input_that_may_be_missing(r: random.Random, job: Job) -> Job:
    """Nothing takes a missing value but masks; and theirs is missing in the caller."""
    module = r.choice(job.model.modules)
    value = r.choice(module.inputs)
    kind = replace(value.type, optional=not value.type.optional)
    return with_input(job, module, value, kind)


@mutation
def a_parameters_shape(r: random.Random, job: Job) -> Job:
    """Another size than its source gives; an initialised one no longer fits its use."""
    module, p = r.choice(all_parameters(job))
    new = replace(p, type=other_shape(r, job, p.type))
    return with_parameter(job, module, p, new)


@mutation
def a_parameters_dtype(r: random.Random, job: Job) -> Job:
    """Every parameter is f32."""
    module, p = r.choice(all_parameters(job))
    return with_parameter(job, module, p, replace(p, type=other_dtype(r, p.type)))


@mutation
def a_parameter_that_may_be_missing(r: random.Random, job: Job) -> Job:
    """Every parameter is there."""
    module, p = r.choice(all_parameters(job))
    new = replace(p, type=replace(p.type, optional=True))
    return with_parameter(job, module, p, new)


@mutation
def a_size(r: random.Random, job: Job) -> Job:
    """The tensors keep their shapes. L, the number of blocks, is no tensor's size."""
    d = r.choice([d for d in job.model.dims if d.size is not None and d.symbol != "L"])
    new = replace(d, size=r.choice([0, (d.size or 0) + 1]))
    return in_model(job, dims=swapped(job.model.dims, d, new))


@mutation
def a_dimension_that_is_gone(r: random.Random, job: Job) -> Job:
    """Types name all of them but L."""
    d = r.choice([d for d in job.model.dims if d.symbol != "L"])
    return in_model(job, dims=swapped(job.model.dims, d))


# ---------------------------------------------------------------------- where weights come from


def with_source(job: Job, module: Module, p: ParameterDef, source: Source) -> Job:
    return with_parameter(job, module, p, replace(p, source=source))


def from_checkpoint(r: random.Random, job: Job) -> tuple[Module, ParameterDef, str]:
    module, p = r.choice(
        [(m, p) for m, p in all_parameters(job) if isinstance(p.source, Checkpoint)]
    )
    assert isinstance(p.source, Checkpoint)
    return module, p, p.source.key


@mutation
def another_key(r: random.Random, job: Job) -> Job:
    """A key of the same module: that tensor is then used twice and this one not at all."""
    module, p, key = from_checkpoint(r, job)
    others = [k for q in module.parameters for k in keys(q.source) if k != key]
    new = r.choice([*others, key + ".", ""]) if others else key + "."
    return with_source(job, module, p, Checkpoint(new))


@mutation
def a_source_dropped(r: random.Random, job: Job) -> Job:
    """A new value instead: the checkpoint's tensor is used by nobody."""
    module, p, _ = from_checkpoint(r, job)
    return with_source(job, module, p, Init("normal", 0.02))


@mutation
def a_key_used_twice(r: random.Random, job: Job) -> Job:
    """Whether joined or added: it is one tensor, twice."""
    module, p, _ = from_checkpoint(r, job)
    kind = r.choice([Concatenate, Sum])
    return with_source(job, module, p, kind((p.source, p.source)))


@mutation
def a_part_of_a_source(r: random.Random, job: Job) -> Job:
    """Fewer rows or dimensions than the parameter has."""
    module, p, _ = from_checkpoint(r, job)
    rows = p.type.shape[0].value(job.model.sizes)
    source = r.choice(
        [
            Rows(p.source, 0, rows - 1),
            Rows(p.source, 1, rows + 1),
            Row(p.source, 0),
            Row(p.source, rows),
        ]
    )
    return with_source(job, module, p, source)


@mutation
def a_transpose(r: random.Random, job: Job) -> Job | None:
    """Of a vector, or of a matrix that is not square."""
    sizes = job.model.sizes
    found = [
        (m, p)
        for m, p in all_parameters(job)
        if isinstance(p.source, Checkpoint)
        and len(set(p.type.sizes(sizes))) == 2
        or len(p.type.shape) == 1
    ]
    chosen = pick(r, [(m, p) for m, p in found if not isinstance(p.source, Init)])
    if chosen is None:
        return None
    module, p = chosen
    return with_source(job, module, p, Transpose(p.source))


@mutation
def one_factor_of_two(r: random.Random, job: Job) -> Job | None:
    """Of a square matrix, at its full rank, so that the shape is right."""
    sizes = job.model.sizes
    found = [
        (m, p)
        for m, p in all_parameters(job)
        if isinstance(p.source, Checkpoint)
        and len(shape := p.type.sizes(sizes)) == 2
        and len(set(shape)) == 1
    ]
    chosen = pick(r, found)
    if chosen is None:
        return None
    module, p = chosen
    rank = p.type.shape[0].value(sizes)
    return with_source(job, module, p, r.choice([Left, Right])(p.source, rank))


@mutation
def a_tie(r: random.Random, job: Job) -> Job:
    """The checkpoint's tensor is then used by nobody, whatever it is tied to."""
    module, p, _ = from_checkpoint(r, job)
    paths = [info.path for info in walk_parameters(job.model)]
    return with_source(job, module, p, Tie(r.choice([*paths, "nobody"])))


@mutation
def a_parameter_before_a_pass(r: random.Random, job: Job) -> Job:
    """There is none in a job; it is a leaf of weight maps."""
    module, p = r.choice(all_parameters(job))
    paths = [info.path for info in walk_parameters(job.model)]
    return with_source(job, module, p, Parameter(r.choice(paths)))


@mutation
def a_parameter_dropped(r: random.Random, job: Job) -> Job:
    """Its tensor is then used by nobody."""
    module, p, _ = from_checkpoint(r, job)
    return with_parameter(job, module, p)


@mutation
def a_parameter_twice(r: random.Random, job: Job) -> Job:
    module, p = r.choice(all_parameters(job))
    return with_parameter(job, module, p, p, p)


@mutation
def a_parameter_of_another_name(r: random.Random, job: Job) -> Job:
    """No operation reads it, and one lacks it or leaves out a bias of the checkpoint."""
    module, p = r.choice(all_parameters(job))
    name = r.choice(["z." + p.name.partition(".")[2], p.name + "2", "lambda.weight"])
    return with_parameter(job, module, p, replace(p, name=name))


def used_tensors(job: Job) -> list[Tensor]:
    read = set(read_keys(job))
    return [t for t in job.model.tensors if t.key in read]


@mutation
def a_tensors_shape(r: random.Random, job: Job) -> Job:
    """Of a tensor that is read: no other fits its parameter."""
    t = r.choice(used_tensors(job))
    shape = list(t.shape)
    at = r.randrange(len(shape))
    match r.randrange(3):
        case 0:
            shape[at] += 1
        case 1:
            del shape[at]
        case 2:
            shape.insert(at, 1)
    new = replace(t, shape=tuple(shape))
    return in_model(job, tensors=swapped(job.model.tensors, t, new))


@mutation
def a_tensors_dtype(r: random.Random, job: Job) -> Job:
    """A parameter is made of floats."""
    t = r.choice(used_tensors(job))
    new = replace(t, dtype=r.choice(["I64", "BOOL", "U8"]))
    return in_model(job, tensors=swapped(job.model.tensors, t, new))


@mutation
def a_tensor_gone_twice_or_new(r: random.Random, job: Job) -> Job:
    """One is missing, listed twice, or accounted for by nobody."""
    t = r.choice(used_tensors(job))
    new = r.choice([(), (t, t), (t, replace(t, key="stray"))])
    return in_model(job, tensors=swapped(job.model.tensors, t, *new))


@mutation
def an_unused_tensor(r: random.Random, job: Job) -> Job:
    """One that is used, or that is not there; or one is left out or named twice."""
    unused = job.model.unused
    first = unused[:1]
    new = r.choice(
        [
            (*unused, Unused(r.choice(used_tensors(job)).key, "why")),
            (*unused, Unused("stray", "why")),
            *([(*unused, *first), unused[1:]] if first else []),
        ]
    )
    return in_model(job, unused=new)


# --------------------------------------------------------------------------- operations


def scopes(module: Module) -> Iterator[tuple[Op, dict[str, Type]]]:
    """Every operation and the values that are there before it."""
    scope = {v.name: v.type for v in module.inputs}
    for op in module.ops:
        yield op, dict(scope)
        scope.update({v.name: v.type for v in op.results})


# What these give does not follow from all that their operand is, or another operand may
# be broadcast: their operands are not exchanged.
LOOSE = frozenset({"positions", "first", "add", "multiply"})


@mutation
def an_operand_of_another_type(r: random.Random, job: Job) -> Job | None:
    """The result would be of another type than is stated, if there is one at all."""
    module = r.choice(job.model.modules)
    places = [
        (op, i, name)
        for op, scope in scopes(module)
        if op.kind not in LOOSE
        for i, arg in enumerate(op.args)
        for name, kind in scope.items()
        if kind != scope[arg]
    ]
    chosen = pick(r, places)
    if chosen is None:
        return None
    op, i, name = chosen
    args = (*op.args[:i], name, *op.args[i + 1 :])
    return with_op(job, module, op, replace(op, args=args))


@mutation
def an_operand_that_is_not_there(r: random.Random, job: Job) -> Job:
    """Never defined, or only by this very operation."""
    module, op = r.choice([(m, op) for m, op in all_ops(job) if op.args])
    i = r.randrange(len(op.args))
    name = r.choice(["nobody", op.results[0].name])
    args = (*op.args[:i], name, *op.args[i + 1 :])
    return with_op(job, module, op, replace(op, args=args))


@mutation
def too_few_or_many_operands(r: random.Random, job: Job) -> Job:
    """All take so many and no others. Attention may do without a mask, but then the
    mask, which is an input of its module, is used by nobody."""
    module, op = r.choice([(m, op) for m, op in all_ops(job) if op.args])
    args = r.choice([op.args[:-1], (*op.args, op.args[-1])])
    return with_op(job, module, op, replace(op, args=args))


@mutation
def an_operation_dropped(r: random.Random, job: Job) -> Job:
    """Somebody uses its result: a valid job has none that is not used."""
    module, op = r.choice(all_ops(job))
    return with_op(job, module, op)


@mutation
def an_operation_twice(r: random.Random, job: Job) -> Job:
    """Its results are defined twice."""
    module, op = r.choice(all_ops(job))
    return with_op(job, module, op, op, op)


@mutation
def two_operations_in_the_wrong_order(r: random.Random, job: Job) -> Job:
    """The second reads what the first gives."""
    found = [
        (m, a, b)
        for m in job.model.modules
        for a, b in zip(m.ops, m.ops[1:])
        if {v.name for v in a.results} & set(b.args)
    ]
    module, a, b = r.choice(found)
    at = module.ops.index(a)
    ops = (*module.ops[:at], b, a, *module.ops[at + 2 :])
    return in_module(job, module, ops=ops)


@mutation
def another_operation(r: random.Random, job: Job) -> Job:
    """Each has other operands, parameters, attributes or results than all others, but
    for addition and multiplication."""
    module, op = r.choice([(m, op) for m, op in all_ops(job) if op.kind != "add"])
    kinds = [*OPS, "call", "repeat", "fourier"]
    kind = r.choice([k for k in kinds if k != op.kind])
    return with_op(job, module, op, replace(op, kind=kind))


@mutation
def another_name(r: random.Random, job: Job) -> Job:
    """Of an operation with parameters or of a call: it then has none, or another's."""
    module, op = r.choice([(m, op) for m, op in all_ops(job) if op.name])
    return with_op(job, module, op, replace(op, name=op.name + "2"))


def with_attr(op: Op, name: str, value: Attr | None) -> Op:
    attrs = dict(op.attrs)
    attrs.pop(name, None)
    if value is not None:
        attrs[name] = value
    return replace(op, attrs=tuple(sorted(attrs.items())))


@mutation
def an_attribute_removed(r: random.Random, job: Job) -> Job:
    """One that must be there."""
    module, op = r.choice(
        [(m, op) for m, op in all_ops(job) if op.kind in OPS and OPS[op.kind].attrs]
    )
    return with_op(job, module, op, with_attr(op, r.choice(OPS[op.kind].attrs), None))


@mutation
def an_attribute_added(r: random.Random, job: Job) -> Job:
    """One that no operation of the kind knows."""
    module, op = r.choice([(m, op) for m, op in all_ops(job) if op.kind in OPS])
    return with_op(job, module, op, with_attr(op, "zeal", r.choice([1, True, "x"])))


# A value that is wrong for the attribute whatever else is there.
WRONG: dict[str, tuple[Attr, ...]] = {
    "eps": ("small", True, Const("nobody"), dim("C")),
    "p": ("half", True, Const("nobody"), (0.1, 0.2)),
    "dropout": ("half", Const("nobody")),
    "kind": ("mish", 3, Const("dropout")),
    "heads": ((dim("H"), dim("H")), dim("H"), "H", ()),
    "width": (dim("C") + number(1), 4, "D"),
    "causal": (1, "no", True),  # true, of an attention that has a mask
    "padding": (-1, 0.5, "0", True),
    "samples": ("five", True, Const("nobody")),
    "index": (-1, 0.5, "0", 1000),
}


@mutation
def an_attributes_value(r: random.Random, job: Job) -> Job:
    module, op, name = r.choice(
        [(m, op, name) for m, op in all_ops(job) for name, _ in op.attrs]
    )
    return with_op(job, module, op, with_attr(op, name, r.choice(WRONG[name])))


@mutation
def attributes_out_of_order(r: random.Random, job: Job) -> Job | None:
    chosen = pick(r, [(m, op) for m, op in all_ops(job) if op.attrs])
    if chosen is None:
        return None
    module, op = chosen
    wrong = op.attrs[::-1] if len(op.attrs) > 1 else (*op.attrs, *op.attrs)
    return with_op(job, module, op, replace(op, attrs=wrong))


@mutation
def a_constant_that_is_gone(r: random.Random, job: Job) -> Job:
    """Import keeps those that are used."""
    c = r.choice(job.model.consts)
    return in_model(job, consts=swapped(job.model.consts, c))


# ------------------------------------------------------------------ modules and the job


@mutation
def what_a_module_returns(r: random.Random, job: Job) -> Job:
    """Nothing, a value that is not there, or another: then the old one is not used."""
    module = r.choice(job.model.modules)
    others = [v.name for v in module.inputs]
    outputs = r.choice([(), ("nobody",), (r.choice(others),), module.outputs * 2])
    return in_module(job, module, outputs=outputs)


@mutation
def an_instance_of_another_module(r: random.Random, job: Job) -> Job:
    """Before grouping every module stands once: another would stand twice."""
    module, i = r.choice(all_instances(job))
    names = [m.name for m in job.model.modules if m.name != i.module] + ["Nobody"]
    new = replace(i, module=r.choice(names))
    return in_module(job, module, instances=swapped(module.instances, i, new))


@mutation
def an_instance_changed(r: random.Random, job: Job) -> Job:
    """Gone, of another name, twice, never called, or repeated under one call."""
    module, i = r.choice(all_instances(job))
    new = r.choice(
        [
            (),
            (replace(i, name=i.name + "2"),),
            (i, i),
            (i, replace(i, name="spare")),
            (replace(i, count=2),),
            (replace(i, count=0),),
        ]
    )
    return in_module(job, module, instances=swapped(module.instances, i, *new))


@mutation
def keys_of_an_instance(r: random.Random, job: Job) -> Job:
    """No tensor is there under the new prefix. (A classifier may read no tensor.)"""
    found = [
        (m, i)
        for m, i in all_instances(job)
        if any(
            isinstance(p.source, Checkpoint)
            for p in job.model.by_name[i.module].parameters
        )
    ]
    module, i = r.choice(found)
    new = replace(i, keys=r.choice(["x." + i.keys, i.keys + "x.", i.keys + "{i}"]))
    return in_module(job, module, instances=swapped(module.instances, i, new))


@mutation
def modules_out_of_order(r: random.Random, job: Job) -> Job:
    """One is used before its definition, or by nobody, or defined twice."""
    modules = list(job.model.modules)
    at = r.randrange(len(modules) - 1)
    match r.randrange(3):
        case 0:
            modules.insert(0, modules.pop())
        case 1:
            del modules[at]
        case 2:
            modules.insert(at, modules[at])
    return in_model(job, modules=tuple(modules))


@mutation
def labels(r: random.Random, job: Job) -> Job:
    """There is a logit for each of two."""
    new = r.choice([(), ("one",), ("a", "a"), ("a", "b", "c")])
    return replace(job, labels=new)


@mutation
def what_the_data_gives(r: random.Random, job: Job) -> Job:
    """The other inputs, or longer rows than there are positions."""
    plan = job.data.inputs
    assert isinstance(plan, TextPlan)
    new = r.choice(
        [
            replace(plan, token_types=not plan.token_types),
            replace(plan, max_tokens=plan.max_tokens + 1),
        ]
    )
    return replace(job, data=replace(job.data, inputs=new))


@mutation
def what_is_frozen(r: random.Random, job: Job) -> Job:
    """A path at which nothing is."""
    return replace(job, frozen=(r.choice(["blocks.9", "block", "x", "embedding."]),))


@mutation
def where_it_is_cut(r: random.Random, job: Job) -> Job:
    """At what is no value of the model, or behind something that trains."""
    trains = [
        op.results[0].name
        for op in job.model.main.ops
        if op.kind in ("call", "repeat") and len(op.results[0].type.shape) == 3
    ]
    cut = r.choice(["nothing", job.model.main.inputs[0].name, *trains[-1:]])
    return replace(job, model=replace(job.model, cut=cut), frozen=())
