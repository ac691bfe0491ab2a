"""An edit: another head between a row's vector and the labels, with new weights.

%_.2: f32[B,K] = linear label(%_.1)              becomes, for an MLP,
%_.2: f32[B,J] = linear hidden(%_.1)
%x.2: f32[B,J] = activation(%_.2) kind="gelu"
%x.3: f32[B,J] = dropout(%x.2) p=$head_dropout
%_.3: f32[B,K] = linear label(%x.3)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from generator.errors import fail
from generator.ir.dims import dim
from generator.ir.emit import Emitter
from generator.ir.head import Classifier, classifier, edited, held, new_linear
from generator.ir.job import (
    Attr,
    Const,
    ConstDef,
    DimDef,
    Job,
    Module,
)
from generator.ir.sources import Init
from generator.ir.weightmap import WeightMap

PLACE = "task"  # the key of the spec that a head is there for
HIDDEN, DROPOUT, SAMPLES = "hidden", "head_dropout", "samples"
WIDTH = "J"  # of the hidden layer


def run(
    job: Job,
    *,
    kind: Literal["linear", "mlp"] = "linear",
    hidden: int | None = None,
    activation: str | None = None,
    dropout: float | None = None,
    samples: int = 1,
) -> tuple[Job, WeightMap]:
    """The job with a head of one linear layer, or of two.

    `hidden` is the width between the two, the backbone's where it is None. `dropout` is
    right before the labels; None leaves it as it is there. `samples` masks of it are
    averaged.
    """
    model, old = job.model, classifier(job.model)
    if kind == "linear" and (hidden is not None or activation is not None):
        raise fail(
            "G261",
            f'a linear head has no {"hidden" if hidden is not None else "activation"}',
            help='kind = "mlp" has a hidden layer with an activation',
        )
    drop, chance = _dropout(job, old, dropout)
    if samples > 1 and not chance:
        raise fail(
            "G261",
            f"samples = {samples} averages masks of a dropout, and this head has none",
            help="dropout = 0.1, or leave out samples",
        )
    dims = tuple(d for d in model.dims if d.symbol != WIDTH)
    if kind == "mlp":
        width = hidden or model.sizes["C"]
        dims += (DimDef(WIDTH, width, "head_hidden", doc="the head's hidden layer"),)
    consts = tuple(c for c in model.consts if c.name not in (DROPOUT, SAMPLES))
    if dropout:
        consts += (ConstDef(DROPOUT, dropout),)
    elif drop == Const(DROPOUT):
        consts += (ConstDef(DROPOUT, chance),)
    if samples > 1:
        consts += (ConstDef(SAMPLES, samples),)
    model = replace(model, dims=dims, consts=consts)
    attrs: dict[str, Attr] = {} if drop is None else {"p": drop}
    if samples > 1:
        attrs[SAMPLES] = Const(SAMPLES)
    writer = _Writer(Emitter(model, old.module, model.by_name), old.std())
    module = writer.module(old, (activation or "gelu") if kind == "mlp" else "", attrs)
    return edited(job, model.with_modules({module.name: module}), "left out by head")


def _dropout(
    job: Job, old: Classifier, asked: float | None
) -> tuple[Attr | None, float]:
    """The probability of the dropout before the labels: as an attribute, as a number."""
    if asked is not None:
        return (Const(DROPOUT), asked) if asked else (None, 0.0)
    if old.dropout is None:
        return None, 0.0
    p = old.dropout.attrs_dict["p"]
    assert isinstance(p, Const)  # as every architecture writes it
    return p, float(job.model.constants[p.name])


class _Writer:
    """Writes a classifier with the pooling of the old one and another head."""

    def __init__(self, emitter: Emitter, std: float) -> None:
        self.emitter, self.start = emitter, Init("normal", std)

    def module(
        self, old: Classifier, activation: str, dropout: dict[str, Attr]
    ) -> Module:
        """`activation` is that of a hidden layer, "" where there is none."""
        e = self.emitter
        before = old.module.ops[: len(old.module.ops) - len(old.head)]
        e.module = replace(
            old.module, parameters=held(old.module, before, old.module.parameters)
        )
        for op in before:
            e.put(op, op.args)
        x = old.vector
        if activation:
            x = new_linear(e, HIDDEN, x, dim(WIDTH), self.start, PLACE)
            x = e.new("activation", [x], "x", PLACE, kind=activation)
        if dropout:
            out = "x" if SAMPLES in dropout else "_"
            x = e.new("dropout", [x], out, PLACE, **dropout)
        label = old.module.types[old.label.results[0].name].shape[-1]
        return e.done([new_linear(e, "label", x, label, self.start, PLACE)])
