"""The edits of a spec: what changes the structure of the backbone, one class for each.

    [[edit]]
    do = "keep-layers"
    n = 4

They are applied in the order in which they are written. A key of `ONE_OF` must be given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from generator.spec.key import TASKS, about
from generator.spec.rules import MODULE


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


def _on(doc: str, default: tuple[str, ...]) -> Any:
    return field(
        default=default,
        metadata=about(
            f"{doc} by their names within a block of the generated model, or in one "
            "block alone: `blocks.3.ff.up`.",
            ["attention.q", "blocks.3.ff.up"],
            rule=MODULE,
            few=dict.fromkeys(TASKS, 1),
            also="target_modules modules layers",
        ),
    )


def _blocks() -> Any:
    return field(
        default=None,
        metadata=about(
            "The blocks in which they are, from 0; all where it is not given.",
            [3, 4, 5],
            at_least=0,
            few=dict.fromkeys(TASKS, 1),
            also="layers_to_transform layers",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Beside linear layers a product of low rank trains, and they stay as they are. Only
    it and the head train; for prediction it is merged into the weights."""

    DO: ClassVar[str] = "lora"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    on: tuple[str, ...] = _on("The linear layers,", ("attention.q", "attention.v"))
    rank: int = field(
        default=8,
        metadata=about("The rank of what is added.", 8, at_least=1, also="r lora_r"),
    )
    alpha: float = field(
        default=16.0,
        metadata=about(
            "What is added is scaled by alpha / rank.",
            16,
            above=0,
            at_most=1e6,
            also="lora_alpha",
        ),
    )
    dropout: float = field(
        default=0.0,
        metadata=about(
            "Dropout of what goes into the added product.",
            0.05,
            at_least=0,
            below=1,
            also="lora_dropout",
        ),
    )
    blocks: tuple[int, ...] | None = _blocks()


@dataclass(frozen=True, kw_only=True)
class Dora(Lora):
    """As lora, with the length of each row of the weights as a parameter of its own, so
    that the product of low rank decides on directions alone."""

    DO: ClassVar[str] = "dora"


@dataclass(frozen=True, kw_only=True)
class Ia3:
    """Vectors that scale what linear layers give or take train, and the layers stay as
    they are. Only they and the head train; for prediction they are merged into the
    weights."""

    DO: ClassVar[str] = "ia3"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    on: tuple[str, ...] = _on(
        "The linear layers,", ("attention.k", "attention.v", "ff.down")
    )
    inputs: tuple[str, ...] = field(
        default=("ff.down",),
        metadata=about(
            "Those of them whose input is scaled; of the others it is the output.",
            ["ff.down"],
            rule=MODULE,
            few=dict.fromkeys(TASKS, 0),
            also="feedforward_modules",
        ),
    )
    blocks: tuple[int, ...] | None = _blocks()


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Behind parts of a block a narrow detour, two linear layers with an activation
    between, is added to what passes. Only they and the head train. They cannot be
    merged, so that prediction has them too."""

    DO: ClassVar[str] = "adapter"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    on: tuple[str, ...] = field(
        default=("attention", "ff"),
        metadata=about(
            "The parts that they stand behind, by their names within a block.",
            ["ff"],
            rule=MODULE,
            few=dict.fromkeys(TASKS, 1),
            also="target_modules modules",
        ),
    )
    width: int = field(
        default=64,
        metadata=about(
            "How wide the detour is.",
            64,
            at_least=1,
            also="size bottleneck adapter_size bottleneck_size",
        ),
    )
    activation: Literal["gelu", "relu", "silu", "tanh"] = field(
        default="gelu",
        metadata=about(
            "What stands between its two layers.",
            "relu",
            spellings={"swish": "silu"},
            also="non_linearity",
        ),
    )
    blocks: tuple[int, ...] | None = _blocks()


Edit = KeepLayers | Lora | Dora | Ia3 | Adapter
EDITS: Mapping[str, type[Edit]] = {
    one.DO: one for one in (KeepLayers, Lora, Dora, Ia3, Adapter)
}
