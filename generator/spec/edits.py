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


_SCORE = {"l2": "magnitude", "norm": "magnitude", "gradient": "taylor"}
_KEEP = "The part of them that stays, rounded to a multiple of `multiple`."
_BLOCKS = "The blocks that are pruned, from 0; all where it is left out."
_METHOD = (
    'What makes a unit important: "taylor" is how much the loss on training rows would '
    'change without it, to first order; "magnitude" the norms of its weights. `gen '
    "calibrate SPEC` works them out."
)


@dataclass(frozen=True, kw_only=True)
class PruneFfn:
    """The most important units of the feed-forwards stay. What is left computes what the
    backbone computes with the other units masked."""

    DO: ClassVar[str] = "prune-ffn"
    ONE_OF: ClassVar[tuple[str, ...]] = ("keep", "to")

    keep: float | None = field(
        default=None,
        metadata=about(
            _KEEP, 0.5, above=0, below=1, unless="to", also="fraction ratio"
        ),
    )
    to: int | None = field(
        default=None,
        metadata=about(
            "How many units stay in each feed-forward.",
            768,
            at_least=1,
            also="hidden size intermediate_size count",
        ),
    )
    multiple: int = field(
        default=8,
        metadata=about("What their number is a multiple of.", 64, at_least=1),
    )
    score: Literal["taylor", "magnitude"] = field(
        default="taylor", metadata=about(_METHOD, "magnitude", spellings=_SCORE)
    )
    blocks: tuple[int, ...] | None = field(
        default=None,
        metadata=about(
            _BLOCKS, [2, 3], at_least=0, few=dict.fromkeys(TASKS, 1), also="layers"
        ),
    )


@dataclass(frozen=True, kw_only=True)
class PruneHeads:
    """The most important heads of attention stay, in whole groups where query heads share
    key heads. What is left computes what the backbone computes with the others masked.
    """

    DO: ClassVar[str] = "prune-heads"
    ONE_OF: ClassVar[tuple[str, ...]] = ("keep", "to")

    keep: float | None = field(
        default=None,
        metadata=about(
            _KEEP, 0.5, above=0, below=1, unless="to", also="fraction ratio"
        ),
    )
    to: int | None = field(
        default=None,
        metadata=about(
            "How many heads stay in each attention.",
            6,
            at_least=1,
            also="heads num_heads num_attention_heads count",
        ),
    )
    multiple: int = field(
        default=1,
        metadata=about("What their number is a multiple of.", 2, at_least=1),
    )
    score: Literal["taylor", "magnitude"] = field(
        default="taylor", metadata=about(_METHOD, "magnitude", spellings=_SCORE)
    )
    blocks: tuple[int, ...] | None = field(
        default=None,
        metadata=about(
            _BLOCKS, [2, 3], at_least=0, few=dict.fromkeys(TASKS, 1), also="layers"
        ),
    )


Edit = KeepLayers | PruneFfn | PruneHeads | TrimVocab
EDITS: Mapping[str, type[Edit]] = {
    one.DO: one for one in (KeepLayers, PruneFfn, PruneHeads, TrimVocab)
}
