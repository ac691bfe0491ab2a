"""An edit: the least important channels of the model's width are left in the checkpoint.

param q.weight: f32[H*D,C] = ckpt "q.weight"      becomes    take(ckpt "q.weight", 1, "width")
param norm.weight: f32[C] = ckpt "norm.weight"    becomes, of an RMS norm,
    gain(take(ckpt "norm.weight", 0, "width"), 384, 288)

The width is that of the residual stream, which all blocks read and add to, so that one
list is kept of all of them. Heads keep their number and their width, feed-forwards their
units, and a dense layer ahead of the labels what it gives.

What holds depends on the norms. An RMS norm is exact to the reference with the other
channels masked: zeros change the mean of n squares to one of k by k / n alone, and with
s the sum of squares

    x / sqrt(s / n + eps) * gain  =  x / sqrt(s / k + eps * n / k) * gain * sqrt(n / k)

so that the gains are multiplied by sqrt(n / k) and epsilon by n / k. A layer norm is not:
with the others at zero its mean and variance are other numbers than those of the channels
that stay, and no gain makes up for that. There the model is the reference at the smaller
width, its weights cut likewise, and training has to make up for the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from generator.errors import GenError, fail
from generator.ir.dims import Type, dim
from generator.ir.emit import Emitter
from generator.ir.head import classifier
from generator.ir.job import Const, DimDef, Job, KeptList, Model, Module, ParameterDef
from generator.ir.sources import Gain, Init, Norms, Parameter, Source, Take, Tie
from generator.ir.weightmap import WeightMap, paths_of

WIDTH, HEAD_WIDTH = "C", "D"
DENSE = "J"  # what the head's dense layer gives
NAME = "width"  # of the list of kept channels


def run(job: Job, *, kept: Sequence[int]) -> tuple[Job, WeightMap]:
    """The job with the channels `kept` of its width, ascending."""
    index, total = tuple(kept), job.model.sizes[WIDTH]
    if job.reference.width:
        raise fail(
            "G236",
            f"the width was pruned before, from {job.reference.width} to {total}",
            help="say the last width in one prune-width",
        )
    if total <= len(index):
        raise fail(
            "G235",
            f"the width is {total}, not more than {len(index)}",
            help=f"keep fewer than {total}",
        )
    model = _with_dense(job.model)
    cutter = _Cutter(index, total, set(_gains(model)) if of_rms(model) else set())
    changed: dict[str, Source] = {}
    modules: dict[str, Module] = {}
    for name, paths in paths_of(model).items():
        module = model.by_name[name]
        cut = tuple(cutter.parameter(module, p) for p in module.parameters)
        modules[name] = replace(module, parameters=cut)
        for path in paths:
            for p in module.parameters:
                if dim(WIDTH) in p.type.shape:
                    changed[path + p.name] = cutter.mapped(module, p, path)
    model = model.with_modules(modules)
    model = replace(
        model,
        dims=tuple(_sized(d, len(index)) for d in model.dims),
        lists=(*model.lists, KeptList(NAME, index)),
    )
    if of_rms(model):
        model = _with_epsilon(model, total / len(index))
    reference = replace(job.reference, width=total)
    return replace(job, model=model, reference=reference), WeightMap(changed)


def of_rms(model: Model) -> bool:
    """Whether all norms of the width are RMS norms, which go by squares alone."""
    kinds = {
        op.kind
        for module in model.modules
        for op in module.ops
        if op.kind in ("rms_norm", "layer_norm")
        and module.types[op.args[0]].shape[-1] == dim(WIDTH)
    }
    return kinds == {"rms_norm"}


def _gains(model: Model) -> list[tuple[str, str]]:
    """Module and name of the gain of each RMS norm."""
    return [
        (module.name, f"{op.name}.weight")
        for module in model.modules
        for op in module.ops
        if op.kind == "rms_norm"
    ]


class _Cutter:
    """Cuts the sources of parameters to the channels that are kept."""

    def __init__(
        self, index: tuple[int, ...], total: int, gains: set[tuple[str, str]]
    ) -> None:
        self.index, self.total, self.gains = index, total, gains

    def parameter(self, module: Module, p: ParameterDef) -> ParameterDef:
        if any(WIDTH in d.names and d != dim(WIDTH) for d in p.type.shape):
            raise _whole(module, p, "has the width in a size of several parts")
        if dim(WIDTH) in p.type.shape and isinstance(p.source, Tie):
            raise _whole(module, p, f"is the very tensor of {p.source.path}")
        return replace(p, source=self.source(module, p, p.source, ()))

    def mapped(self, module: Module, p: ParameterDef, path: str) -> Source:
        """Its source in terms of the parameters before."""
        if isinstance(p.source, Init):
            return p.source
        if isinstance(p.source, Norms):
            weight = _weight(module, p)
            inner = self.mapped(module, weight, path)
            whole = dim(WIDTH) not in weight.type.shape
            return Norms(Parameter(path + weight.name) if whole else inner)
        return self.source(module, p, Parameter(path + p.name), self.index)

    def source(
        self, module: Module, p: ParameterDef, source: Source, index: tuple[int, ...]
    ) -> Source:
        """A source of the parameter with the channels that are kept."""
        match source:
            case Init():  # is drawn anew, of whatever size
                return source
            case Norms():
                weight = _weight(module, p)
                return Norms(self.source(module, weight, weight.source, index))
        for axis, d in enumerate(p.type.shape):
            if d == dim(WIDTH):
                source = Take(source, axis, NAME, index)
        if (module.name, p.name) in self.gains:
            source = Gain(source, self.total, len(self.index))
        return source


def _weight(module: Module, p: ParameterDef) -> ParameterDef:
    """The weight whose rows a parameter has the lengths of."""
    name = f"{p.name.rpartition('.')[0]}.weight"
    return next(q for q in module.parameters if q.name == name)


def _whole(module: Module, p: ParameterDef, why: str) -> GenError:
    return fail(
        "G237",
        f"{module.name}: {p.name} {why}, so that no channels of it can be left out",
        help="leave out prune-width",
    )


def _sized(d: DimDef, width: int) -> DimDef:
    """From here on the heads do not make up the width, and Config says how wide they
    are."""
    if d.symbol == HEAD_WIDTH:
        return replace(d, name="head_width")
    return replace(d, size=width) if d.symbol == WIDTH else d


def _with_epsilon(model: Model, times: float) -> Model:
    """The model with the epsilon of its RMS norms so many times as large."""
    names = {
        value.name
        for module in model.modules
        for op in module.ops
        if op.kind == "rms_norm"
        for _, value in op.attrs
        if isinstance(value, Const)
    }
    consts = (
        replace(c, value=c.value * times) if c.name in names else c
        for c in model.consts
    )
    return replace(model, consts=tuple(consts))


def _with_dense(model: Model) -> Model:
    """The model with a dimension of its own for what the head's dense layer gives: those
    are no channels of the stream."""
    old = classifier(model)
    module = old.module
    if not old.dense or module.types[old.dense[0].results[0].name].shape[-1] != dim(
        WIDTH
    ):
        return model
    dense, label = old.dense[0].name, old.label.name
    named = {
        f"{dense}.weight": (dim(DENSE), dim(WIDTH)),
        f"{dense}.bias": (dim(DENSE),),
    }

    def sized(p: ParameterDef) -> ParameterDef:
        shape = named.get(p.name, p.type.shape)
        if p.name == f"{label}.weight":
            shape = (shape[0], dim(DENSE))
        return replace(p, type=Type("f32", shape))

    parameters = tuple(map(sized, module.parameters))
    new = DimDef(DENSE, model.sizes[WIDTH], "pooled", doc="the head's dense layer")
    model = replace(model, dims=(*model.dims, new))
    emitter = Emitter(model, replace(module, parameters=parameters), model.by_name)
    for op in module.ops:
        emitter.put(op, op.args)
    return model.with_modules({module.name: emitter.done(module.outputs)})
