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


Edit = KeepLayers | TrimVocab
EDITS: Mapping[str, type[Edit]] = {one.DO: one for one in (KeepLayers, TrimVocab)}
