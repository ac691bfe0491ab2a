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

from generator.spec.key import LARGEST, TASKS, TEXT_TASKS, about
from generator.spec.rules import MODULE, POOLING, TOKEN

_BLOCKS = about(
    "The blocks that are changed, from 0 and in order; all where it is not given.",
    [8, 9, 10, 11],
    at_least=0,
    at_most=LARGEST,
    few=dict.fromkeys(TASKS, 1),
    also="layers indices",
)
_NOISE = about(
    "Normal noise in the weights that make the copies, by which they can learn apart. Its "
    "standard deviation is this many times the weights' own. At 0 the model computes "
    "exactly what it computed before.",
    0.01,
    at_least=0,
    at_most=1,
    also="noise_std jitter epsilon",
)


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
    choose: Literal["evenly", "first", "last", "taylor", "influence"] = field(
        default="evenly",
        metadata=about(
            'Which of them, where `n` says how many: "evenly" keeps the first and the '
            'last, and spreads the rest between them. "taylor" keeps those without which '
            "the loss on training rows would change most, to first order; "
            '"influence" those that turn what passes them the furthest. `gen calibrate '
            "SPEC` works these two out.",
            "first",
            unless="layers",
            spellings={
                "even": "evenly",
                "uniform": "evenly",
                "top": "last",
                "score": "taylor",
                "similarity": "influence",
                "cosine": "influence",
            },
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


_SCORE = {"l2": "magnitude", "norm": "magnitude", "gradient": "taylor"}
_KEEP = "The part of them that stays, rounded to a multiple of `multiple`."
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
    blocks: tuple[int, ...] | None = field(default=None, metadata=_BLOCKS)


@dataclass(frozen=True, kw_only=True)
class PruneHeads:
    """The most important heads of attention stay, in whole groups where query heads share
    key heads. What is left computes what the backbone computes with the others masked: to
    their value biases, which the output's bias takes up, and to zero where there is none.
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
    blocks: tuple[int, ...] | None = field(default=None, metadata=_BLOCKS)


@dataclass(frozen=True, kw_only=True)
class PruneWidth:
    """The most important channels of the model's width stay, the same in all blocks;
    heads and feed-forwards keep their sizes. With RMS norms (Llama) what is left computes
    what the backbone computes with the other channels masked. Layer norms take their mean
    and variance over the channels that stay, so that it is another function, which
    fine-tuning starts from: the backbone at that width, its weights cut likewise.
    """

    DO: ClassVar[str] = "prune-width"
    ONE_OF: ClassVar[tuple[str, ...]] = ("keep", "to")

    keep: float | None = field(
        default=None,
        metadata=about(
            _KEEP, 0.75, above=0, below=1, unless="to", also="fraction ratio"
        ),
    )
    to: int | None = field(
        default=None,
        metadata=about(
            "How wide the model then is.",
            288,
            at_least=1,
            also="width hidden_size channels d_model count",
        ),
    )
    multiple: int = field(
        default=8,
        metadata=about("What the width is a multiple of.", 64, at_least=1),
    )
    score: Literal["taylor", "magnitude"] = field(
        default="taylor", metadata=about(_METHOD, "magnitude", spellings=_SCORE)
    )


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Linears of the blocks become two each, of a rank between them: the nearest to the
    old one that there are, by its singular values."""

    DO: ClassVar[str] = "low-rank"
    ONE_OF: ClassVar[tuple[str, ...]] = ("rank", "energy")

    on: tuple[str, ...] = field(
        metadata=about(
            "The linears that are factored, by their names in a block of model.py before "
            "any are joined.",
            ["ff.up", "ff.down"],
            required=TASKS,
            rule=MODULE,
            few=dict.fromkeys(TASKS, 1),
            also="modules targets target_modules linears",
        ),
    )
    rank: int | None = field(
        default=None,
        metadata=about(
            "How wide the two are where they meet. At the smaller size of the old one "
            "they are exact.",
            64,
            at_least=1,
            at_most=LARGEST,
            also="r rank_k components",
        ),
    )
    energy: float | None = field(
        default=None,
        metadata=about(
            "The part of the sum of the squared singular values that stays: each linear "
            "gets the least rank with which it does, and one that would not be smaller "
            "then stays as it is. `gen calibrate SPEC` works the values out.",
            0.9,
            above=0,
            below=1,
            unless="rank",
            also="threshold explained_variance kept",
        ),
    )
    multiple: int = field(
        default=8,
        metadata=about(
            "What a rank found by `energy` is a multiple of, rounded up.",
            16,
            at_least=1,
            unless="rank",
        ),
    )
    blocks: tuple[int, ...] | None = field(default=None, metadata=_BLOCKS)


@dataclass(frozen=True, kw_only=True)
class WidenFfn:
    """The feed-forwards of the blocks get more units, which are copies of those there
    are. What reads a unit and its copies divides by their number (Net2Net)."""

    DO: ClassVar[str] = "widen-ffn"
    ONE_OF: ClassVar[tuple[str, ...]] = ("to", "by")

    to: int | None = field(
        default=None,
        metadata=about(
            "How many units a feed-forward then has.",
            4096,
            at_least=1,
            at_most=LARGEST,
            also="hidden width size units intermediate_size",
        ),
    )
    by: float | None = field(
        default=None,
        metadata=about(
            "By what factor it is widened.",
            1.33,
            above=1,
            at_most=64,
            unless="to",
            also="factor times ratio",
        ),
    )
    noise: float = field(default=0.0, metadata=_NOISE)
    blocks: tuple[int, ...] | None = field(default=None, metadata=_BLOCKS)


@dataclass(frozen=True, kw_only=True)
class WidenHeads:
    """The attentions of the blocks get more heads, which are copies of those there are,
    in whole groups where heads share keys. What reads a head and its copies divides by
    their number (Net2Net)."""

    DO: ClassVar[str] = "widen-heads"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    to: int = field(
        metadata=about(
            "How many query heads an attention then has.",
            16,
            required=TASKS,
            at_least=1,
            at_most=LARGEST,
            also="heads n num_heads num_attention_heads",
        ),
    )
    noise: float = field(default=0.0, metadata=_NOISE)
    blocks: tuple[int, ...] | None = field(default=None, metadata=_BLOCKS)


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
            "The blocks in which they are, from 0 and in order; all where it is not given.",
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


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Another way to make one vector of a row, which the labels are read from. Padding is
    left out, and so is the class token of an image but where it alone is read. Vectors of
    several kinds, or of several blocks, stand side by side."""

    DO: ClassVar[str] = "pool"
    ONE_OF: ClassVar[tuple[str, ...]] = ("kind", "kinds")

    kind: Literal["first", "last", "mean", "max", "attention"] | None = field(
        default=None,
        metadata=about(
            "Which vector: of the first token, of the last real one, the mean of all real "
            'ones, the largest value of each channel, or a mean by learned weights ("attention").',
            "mean",
            unless="kinds",
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
    kinds: tuple[str, ...] = field(
        default=(),
        metadata=about(
            'Several of these, each of which gives a vector; not "attention".',
            ["first", "mean"],
            rule=POOLING,
            few=dict.fromkeys(TASKS, 1),
            also="pools poolings modes",
        ),
    )
    layers: tuple[int, ...] = field(
        default=(),
        metadata=about(
            "The blocks whose positions are read, by how many there are up to it: 0 is what "
            "the first one reads, and negative ones count from the end, -1 being the last. "
            "The last is one of them, and is read behind the norm that the backbone may end "
            "with. Where it is not given the last alone is read.",
            [-4, -1],
            at_least=-LARGEST,
            at_most=LARGEST,
            few=dict.fromkeys(TASKS, 1),
            also="blocks hidden_states depths",
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


@dataclass(frozen=True, kw_only=True)
class ExtendPositions:
    """The model reads longer rows. With "tile" rows of the old lengths have the logits
    that they had; with every other way they have others, until training has made up."""

    DO: ClassVar[str] = "extend-positions"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    to: int = field(
        metadata=about(
            "How many tokens a row may then have; `max_tokens` of [data] makes use of it.",
            1024,
            required=TASKS,
            at_least=1,
            at_most=1048576,  # as max_tokens
            also="positions n max_position_embeddings length max_length",
        ),
    )
    by: Literal["tile", "interpolate", "linear", "ntk", "yarn"] | None = field(
        default=None,
        metadata=about(
            'How. Learned positions: "tile" reads the rows of their table over and over, '
            '"interpolate" spreads them out, with rows between them. Rotary ones, whose '
            'angles are made smaller: "linear" all alike, "ntk" by a larger base, "yarn" by '
            "frequency, with a temperature. Where it is not given it is tile, and yarn.",
            "interpolate",
            spellings={
                "repeat": "tile",
                "copy": "tile",
                "interpolation": "interpolate",
                "dynamic": "ntk",
            },
            also="method how rope_type type",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ResizeImage:
    """Images of another size go in, in patches of the same size. The positions of the
    patches are interpolated (bicubic) as transformers does it; the class token's stays.
    """

    DO: ClassVar[str] = "resize-image"
    ONE_OF: ClassVar[tuple[str, ...]] = ()

    size: int | tuple[int, ...] = field(
        metadata=about(
            "The side of an image in pixels, or its height and width.",
            384,
            required=TASKS,
            at_least=1,
            at_most=65536,
            few=dict.fromkeys(TASKS, 2),
            many=2,
            also="to image_size resolution pixels",
        ),
    )


Edit = (
    KeepLayers
    | PruneFfn
    | PruneHeads
    | PruneWidth
    | LowRank
    | WidenFfn
    | WidenHeads
    | AddLayers
    | TrimVocab
    | Pool
    | Head
    | Lora
    | Dora
    | Ia3
    | Adapter
    | ExtendPositions
    | ResizeImage
)
EDITS: Mapping[str, type[Edit]] = {
    one.DO: one
    for one in (
        KeepLayers,
        PruneFfn,
        PruneHeads,
        PruneWidth,
        LowRank,
        WidenFfn,
        WidenHeads,
        AddLayers,
        TrimVocab,
        Pool,
        Head,
        Lora,
        Dora,
        Ia3,
        Adapter,
        ExtendPositions,
        ResizeImage,
    )
}
