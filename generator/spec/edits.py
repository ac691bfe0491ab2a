"""The edits of a spec: what changes the structure of the backbone, one class for each.

    [[edit]]
    do = "keep-layers"
    n = 4

They are applied in the order in which they are written. A key of `ONE_OF` must be given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from generator.spec.key import TASKS, TEXT_TASKS, about
from generator.spec.rules import TOKEN


@dataclass(frozen=True, kw_only=True)
class KeepLayers:
    """Some blocks stay and the others are left out. What is left computes exactly what
    the backbone computes with those blocks skipped."""

    DO: ClassVar[str] = "keep-layers"
    ONE_OF: ClassVar[tuple[str, ...]] = ("layers", "n")

    layers: tuple[int, ...] | None = field(
        default=None,
        metadata=about(
            "The blocks that stay, from 0 and in order.",
            [0, 1, 4, 5],
            at_least=0,
            few=dict.fromkeys(TASKS, 1),
            also="keep blocks indices",
        ),
    )
    n: int | None = field(
        default=None,
        metadata=about(
            "How many blocks stay.",
            4,
            at_least=1,
            unless="layers",
            also="count number num_layers num_hidden_layers",
        ),
    )
    choose: Literal["evenly", "first", "last"] = field(
        default="evenly",
        metadata=about(
            'Which of them, where `n` says how many: "evenly" keeps the first and the '
            "last, and spreads the rest between them.",
            "first",
            unless="layers",
            spellings={"even": "evenly", "uniform": "evenly", "top": "last"},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class AddLayers:
    """Copies of blocks stand behind them. The last layers of their halves start at 0, so
    that the model computes what it computed until training moves them; that is so where
    blocks normalise first (Llama, ViT), and elsewhere it is an error."""

    DO: ClassVar[str] = "add-layers"
    ONE_OF: ClassVar[tuple[str, ...]] = ("after",)

    after: tuple[int, ...] = field(
        metadata=about(
            "The blocks, from 0, each of which a copy stands behind; named twice, two.",
            [1, 3],
            at_least=0,
            few=dict.fromkeys(TASKS, 1),
            also="layers blocks behind repeat",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class TrimVocab:
    """The tokens that the training rows use stay, with those that words fall to without
    them; the others leave the tokenizer and the model. `gen facts SPEC --vocabulary`
    counts what is used."""

    DO: ClassVar[str] = "trim-vocab"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    keep: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Tokens that stay although no training row uses them, as the tokenizer "
            "writes them.",
            ["##ness"],
            rule=TOKEN,
            few=dict.fromkeys(TASKS, 0),
            tasks=TEXT_TASKS,
            also="extra tokens words",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Another way to make one vector of a row, which the labels are read from. Padding is
    left out, and so is the class token of an image but where it alone is read."""

    DO: ClassVar[str] = "pool"
    ONE_OF: ClassVar[tuple[str, ...]] = ("kind",)

    kind: Literal["first", "last", "mean", "max", "attention"] = field(
        metadata=about(
            "Which vector: of the first token, of the last real one, the mean of all real "
            'ones, the largest value of each channel, or a mean by learned weights ("attention").',
            "mean",
            spellings={
                "cls": "first",
                "average": "mean",
                "avg": "mean",
                "maximum": "max",
                "attn": "attention",
            },
            also="pooling mode type",
        ),
    )
    dense: bool = field(
        default=False,
        metadata=about(
            "Whether the dense layer that the classifier has behind the old vector (BERT's "
            "pooler) stays. Without it the labels' own layer starts anew.",
            True,
            also="pooler keep_dense",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Head:
    """A new head on the vector of a row: all that stood between that and the labels goes,
    BERT's dense layer too."""

    DO: ClassVar[str] = "head"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    kind: Literal["linear", "mlp"] = field(
        default="linear",
        metadata=about(
            'One linear layer, or two with an activation between them ("mlp").',
            "mlp",
            also="type",
        ),
    )
    hidden: int | None = field(
        default=None,
        metadata=about(
            "The width between the two layers of an MLP; the backbone's where it is not "
            "said.",
            384,
            at_least=1,
            also="hidden_size width size",
        ),
    )
    activation: Literal["gelu", "relu", "silu", "tanh"] | None = field(
        default=None,
        metadata=about(
            'The activation between them; "gelu" where it is not said.',
            "relu",
            also="act hidden_act",
        ),
    )
    dropout: float | None = field(
        default=None,
        metadata=about(
            "Dropout right before the labels; where it is not said, as it was there.",
            0.1,
            at_least=0,
            below=1,
            also="p drop rate",
        ),
    )
    samples: int = field(
        default=1,
        metadata=about(
            "Multi-sample dropout: the logits are the mean over this many masks.",
            5,
            at_least=1,
            also="masks multi_sample num_samples",
        ),
    )


Edit = KeepLayers | AddLayers | TrimVocab | Pool | Head
EDITS: Mapping[str, type[Edit]] = {
    one.DO: one for one in (KeepLayers, AddLayers, TrimVocab, Pool, Head)
}
