"""An edit: what makes one vector of a row's positions, ahead of the labels.

%_.1: f32[B,C] = first(%x)                       becomes, for the mean,
%_.1: f32[B,C] = mean(%x, %mask)

The dense layer that a classifier may have behind its vector was trained on the old one,
and goes with it unless the spec keeps it. A padding position is never read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from generator.errors import fail
from generator.ir.dims import parse_type
from generator.ir.emit import Emitter
from generator.ir.head import Classifier, classifier, edited, held, new_parameter, picks
from generator.ir.job import Job, Model, Module, Op, ParameterDef, Value
from generator.ir.plans import ImagePlan
from generator.ir.sources import Init
from generator.ir.weightmap import WeightMap

Kind = Literal["first", "last", "mean", "max", "attention"]
OPS: dict[str, str] = {
    "first": "first",
    "last": "first",
    "mean": "mean",
    "max": "largest",
    "attention": "weighted_mean",
}
READS: dict[str, str] = {
    "first": "the first token",
    "last": "the last real token",
    "mean": "the mean of the real tokens",
    "max": "the largest values of the real tokens",
    "attention": "the mean of the real tokens, weighted by a learned score",
}
OF_IMAGES: dict[str, str] = {
    "first": "the class token",
    "mean": "the mean of the patches",
    "max": "the largest values of the patches",
    "attention": "the mean of the patches, weighted by a learned score",
}
PLACE = "task"  # the key of the spec that a head is there for
SCORE, KEYS = "score", "keys"


def run(job: Job, *, kind: Kind, dense: bool = False) -> tuple[Job, WeightMap]:
    """The job with its rows read by `kind`, and with the old dense layer or without."""
    old = classifier(job.model)
    check(job, old, kind, dense)
    keeps = dense or job.reference.head or not old.dense
    if keeps and kind == _kind(job.model, old):
        return job, WeightMap()
    pooling = _Pooling(job.model, old, kind, isinstance(job.data.inputs, ImagePlan))
    module = pooling.classifier(keeps)
    modules = {m.name: m for m in job.model.modules} | {module.name: module}
    main = pooling.main(modules)
    return edited(
        job,
        replace(job.model, modules=tuple((modules | {main.name: main}).values())),
        "left out by pool",
    )


def check(job: Job, old: Classifier, kind: Kind, dense: bool) -> None:
    """GenError where the model has no such vector."""
    ops = [op for module in job.model.modules for op in module.ops]
    if kind == "first" and any(op.attrs_dict.get("causal") for op in ops):
        raise fail(
            "G260",
            "the first token of this model has seen no other: its attention is causal",
            help='kind = "last" reads the one that has seen all others',
        )
    if kind == "last" and isinstance(job.data.inputs, ImagePlan):
        raise fail(
            "G260",
            "an image has no last token",
            help='kind = "first" reads its class token',
        )
    if dense and not old.dense:
        raise fail(
            "G260",
            "this classifier has no dense layer ahead of its labels to keep",
            help="leave out dense; an edit `head` after this one makes one",
        )


def _kind(model: Model, old: Classifier) -> str:
    """How the rows are read now."""
    if old.pool.kind == "first" and picks(model.main, old.call.args[0]):
        return "last"
    return next(kind for kind, op in OPS.items() if op == old.pool.kind)


@dataclass(frozen=True)
class _Pooling:
    model: Model
    old: Classifier
    kind: Kind
    images: bool

    @property
    def masked(self) -> bool:
        """Whether there are positions that are not real."""
        return not self.images and self.kind not in ("first", "last")

    def classifier(self, keeps: bool) -> Module:
        """The module with its vector made anew; `keeps` its head as it is."""
        old, module = self.old, self.old.module
        ops = old.head if keeps else short(old)
        states = self.old.states
        parameters = held(module, (*old.backbone, *ops), module.parameters)
        x, *_ = module.inputs
        if self.kind in ("mean", "max", "attention") and has_class_token(self.model):
            x = replace(x, type=self.model.main.types[positions(self.model, old)])
        inputs = (x, Value("mask", parse_type("bool[B,T]?")))[: 1 + self.masked]
        if self.kind == "attention":
            width = module.types[states].shape[-1]
            score = ParameterDef(
                f"{SCORE}.weight",
                parse_type(f"f32[1,{width}]"),
                "matrix",
                Init("constant", 0.0),  # all alike: training starts from the mean
                PLACE,
            )
            parameters = (*parameters, score)
        if not keeps:
            # The labels now read another vector than the one that they were trained on.
            # It may be of another width than what a dense layer made of it.
            narrow = module.types[old.pool.results[0].name].shape[-1]

            def read(p: ParameterDef) -> ParameterDef:
                shape = (*p.type.shape[:1], *([narrow] * (len(p.type.shape) - 1)))
                return replace(
                    new_parameter(p, old.std()), type=replace(p.type, shape=shape)
                )

            parameters = tuple(
                read(p) if p.name.startswith(old.label.name) else p for p in parameters
            )
        reads = OF_IMAGES if self.images else READS
        module = replace(
            module,
            inputs=inputs,
            parameters=parameters,
            doc=f"Reads {reads[self.kind]}.",
        )
        emitter = Emitter(self.model, module, self.model.by_name)
        names = {v.name: v.name for v in inputs}
        for op in old.backbone:
            emitted = emitter.put(op, [names[a] for a in op.args])
            names |= zip((r.name for r in op.results), emitted, strict=True)
        names[old.pool.results[0].name] = self._pool(emitter, names[states])
        for op in ops:
            emitted = emitter.put(op, [names[a] for a in op.args])
            names |= zip((r.name for r in op.results), emitted, strict=True)
        return emitter.done([names[o] for o in module.outputs])

    def _pool(self, emitter: Emitter, states: str) -> str:
        """The vector of the positions `states`."""
        x, mask = states, ["mask"] if self.masked else []
        if self.kind in ("mean", "max", "attention") and has_class_token(self.model):
            x = emitter.new("rest", [x], "x", PLACE)
        scores: list[str] = []
        if self.kind == "attention":
            stub = Value("_", emitter.types[x])
            linear = Op("linear", (stub,), (), SCORE, (), PLACE)
            scores = list(emitter.put(linear, [x]))
        return emitter.new(OPS[self.kind], [x, *scores, *mask], "_", PLACE)

    def main(self, modules: dict[str, Module]) -> Module:
        """The main module, which gives the classifier what it now takes."""
        main, old = self.model.main, self.old
        gone = picking(main, old)
        emitter = Emitter(self.model, main, modules)
        names = {v.name: v.name for v in main.inputs}
        index = ""
        if self.kind == "last":
            index = emitter.new("last_index", ["ids", "mask"], "index", PLACE)
        for op in main.ops:
            if op.kind in gone:
                continue
            args = [names[a] for a in op.args if a in names]
            if op == old.call:
                args = [
                    names[positions(self.model, old)],
                    *(["mask"] if self.masked else []),
                ]
                if index:
                    args = [emitter.new("pick", [args[0], index], "x", PLACE)]
            results = [r.name for r in op.results]
            if op.kind == "key_mask" and self.masked:
                # The classifier reads the mask as well, so that this has its own name.
                op = replace(op, results=(replace(op.results[0], name=KEYS),))
            names |= zip(results, emitter.put(op, args), strict=True)
        return emitter.done([names[o] for o in main.outputs])


def has_class_token(model: Model) -> bool:
    """Whether the first position stands for no part of the input."""
    return any(op.kind == "prepend" for m in model.modules for op in m.ops)


def positions(model: Model, old: Classifier) -> str:
    """The value of the main module that has all positions."""
    name = old.call.args[0]
    picked = picks(model.main, name)
    return picked.args[0] if picked else name


def picking(main: Module, old: Classifier) -> frozenset[str]:
    """The operations that are there to pick a position for the old classifier."""
    picked = picks(main, old.call.args[0])
    return frozenset({"pick", "last_index"} if picked else ())


def short(old: Classifier) -> tuple[Op, ...]:
    """The head without its dense layer: what is dropped ahead of the labels, and they."""
    vector = old.pool.results[0].name
    if old.dropout is None:
        return (replace(old.label, args=(vector,)),)
    return replace(old.dropout, args=(vector,)), old.label
