"""A step behind all edits: what else is known of a row joins its vector ahead of the head.

%_.1: f32[B,C] = first(%x)                       becomes
%_.2: f32[B,K] = linear label(%_.1)

%_.1: f32[B,C] = first(%x)
%x.2: f32[B,C+O] = join(%_.1, %features)
%_.2: f32[B,K] = linear label(%x.2)

It joins ahead of the first layer of the head that is new, behind those of the checkpoint,
which read the vector alone. `%features` comes from a module of its own, or is the numbers
as they are where there is nothing else to do.
"""

from __future__ import annotations

from dataclasses import replace

from generator.ir.dims import dim, parse_type
from generator.ir.emit import Emitter
from generator.ir.head import Classifier, classifier, edited, first_new, new_linear
from generator.ir.job import (
    Const,
    ConstDef,
    DimDef,
    Instance,
    Job,
    Model,
    Module,
    Op,
    ParameterDef,
    Value,
)
from generator.ir.plans import FeaturePlan
from generator.ir.sources import Init
from generator.ir.weightmap import WeightMap

PLACE = "features"  # the key of the spec that all of it is there for
NUMBERS, CATEGORIES, FEATURES = "numbers", "categories", "features"
DROPOUT = "features_dropout"
# The dimensions: numbers, columns of categories, rows of their table, its width, hidden.
X, A, U, I, O = "X", "A", "U", "I", "O"


def run(
    job: Job,
    plan: FeaturePlan,
    *,
    width: int = 8,
    hidden: int | None = None,
    dropout: float = 0.0,
) -> tuple[Job, WeightMap]:
    """The job with a head that reads the features too, after a layer of their own or not.

    `width` is that of a category's vector, `hidden` that of the layer.
    """
    job = replace(job, data=replace(job.data, features=plan))
    model, old = _with_sizes(job, width, hidden, dropout), classifier(job.model)
    inputs = [Value(NUMBERS, parse_type(f"f32[B,{X}]"))] * (job.data.numbers > 0)
    inputs += [Value(CATEGORIES, parse_type(f"i64[B,{A}]"))] * bool(plan.categorical)
    made = tuple(inputs)
    modules = list(model.modules)
    own: Module | None = None
    given = inputs[0]
    if plan.categorical or hidden:
        own = _features(model, made, hidden, dropout, old.std())
        modules.insert(modules.index(old.module), own)
        given = Value(FEATURES, own.output_types[0])
    model = replace(model, modules=tuple(modules))
    head = _joined(model, old, given)
    model = model.with_modules({head.name: head})
    main = _main(model, old, made, own, given.name)
    return edited(job, model.with_modules({main.name: main}), "left out by features")


def _with_sizes(job: Job, width: int, hidden: int | None, dropout: float) -> Model:
    plan, model = job.data.features, job.model
    dims, consts = list(model.dims), list(model.consts)
    if job.data.numbers:
        dims.append(DimDef(X, job.data.numbers, "numbers", doc="numbers of a row"))
    if plan.categorical:
        dims += [
            DimDef(
                A,
                len(plan.categorical),
                "category_columns",
                doc="columns of categories",
            ),
            DimDef(U, plan.entries, "categories", doc="categories of all of them"),
            DimDef(I, width, "category_width", doc="the width of a category"),
        ]
    if hidden:
        dims.append(DimDef(O, hidden, "features_hidden", doc="their hidden layer"))
    if hidden and dropout:
        consts.append(ConstDef(DROPOUT, dropout))
    return replace(model, dims=tuple(dims), consts=tuple(consts))


def _features(
    model: Model,
    inputs: tuple[Value, ...],
    hidden: int | None,
    dropout: float,
    std: float,
) -> Module:
    """The module that makes one vector of the numbers and the categories."""
    module = Module("Features", inputs, (), (), doc="What is known of a row beside it.")
    e = Emitter(model, module, model.by_name)
    parts = [v.name for v in inputs]
    if CATEGORIES in parts:
        table = ParameterDef(
            "category.weight",
            parse_type(f"f32[{U},{I}]"),
            "embedding",
            Init("normal", std),
            PLACE,
        )
        e.module = replace(e.module, parameters=(table,))
        stub = Value("_", table.type)
        op = Op("embedding", (stub,), (), "category", (), PLACE)
        vectors = e.put(op, [CATEGORIES])
        parts[-1] = e.new("flatten", vectors, "_", PLACE)
    name = "x" if hidden else "_"
    x = e.new("join", parts, name, PLACE) if len(parts) > 1 else parts[0]
    if hidden:
        x = new_linear(e, "hidden", x, dim(O), Init("kaiming", 5**0.5), PLACE)
        x = e.new("activation", [x], "x" if dropout else "_", PLACE, kind="gelu")
    if hidden and dropout:
        x = e.new("dropout", [x], "_", PLACE, p=Const(DROPOUT))
    return e.done([x])


def _joined(model: Model, old: Classifier, given: Value) -> Module:
    """The classifier with what is given joined to its vector."""
    module, at = old.module, first_new(old)
    wide = f"{at.name}.weight"
    more = given.type.shape[1]

    def widened(p: ParameterDef) -> ParameterDef:
        if p.name != wide:
            return p
        rows, inner = p.type.shape
        return replace(p, type=replace(p.type, shape=(rows, inner + more)))

    module = replace(
        module,
        inputs=(*module.inputs, given),
        parameters=tuple(map(widened, module.parameters)),
    )
    e = Emitter(model, module, model.by_name)
    names = {v.name: v.name for v in module.inputs}
    for op in module.ops:
        args = [names[a] for a in op.args]
        if op == at:
            args = [e.new("join", [*args, given.name], "x", PLACE)]
        names |= zip((r.name for r in op.results), e.put(op, args), strict=True)
    return e.done([names[o] for o in module.outputs])


def _main(
    model: Model,
    old: Classifier,
    made: tuple[Value, ...],
    own: Module | None,
    given: str,
) -> Module:
    """The main module, which takes what there is of a row, ahead of the mask."""
    main = model.main
    at = sum(not v.type.optional for v in main.inputs)
    instances = list(main.instances)
    head = main.instance(old.call.name)
    if own is not None:
        one = Instance(FEATURES, own.name, depth=head.depth)
        instances.insert(instances.index(head), one)
    main = replace(
        main,
        inputs=(*main.inputs[:at], *made, *main.inputs[at:]),
        instances=tuple(instances),
    )
    e = Emitter(model, main, model.by_name)
    names = {v.name: v.name for v in main.inputs}
    for op in main.ops:
        args = [names[a] for a in op.args]
        if op == old.call:
            if own is not None:
                stub = Value(FEATURES, own.output_types[0])
                call = Op("call", (stub,), (), FEATURES, (), PLACE)
                (given,) = e.put(call, [v.name for v in made])
            args.append(given)
        names |= zip((r.name for r in op.results), e.put(op, args), strict=True)
    return e.done([names[o] for o in main.outputs])
