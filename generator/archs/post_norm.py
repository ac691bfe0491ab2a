"""What the encoders after BERT share: blocks that normalise after each addition.

Vaswani et al., "Attention is all you need" (2017). Architectures differ in their
embedding, their head and the names in their checkpoints, which they pass in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from generator.archs.build import (
    ACTIVATIONS,
    OTHER_HEAD,
    Builder,
    Request,
    dropouts,
    finish,
    norm_keys,
)
from generator.archs.config import Config
from generator.ir.job import Const, ConstDef, DimDef, Model, Module
from generator.ir.plans import Task

TASKS: tuple[Task, ...] = ("text-classification", "multi-label", "regression")

X = "f32[B,T,C]"
IDS = "i64[B,T]"
MASK = "bool[B,1,1,T]?"


@dataclass(frozen=True)
class BlockKeys:
    """The checkpoint's names in a block, relative to it; without .weight and .bias."""

    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    ff_norm: str


@dataclass(frozen=True)
class Head:
    """The classifier on the first token: a dense layer, an activation, the labels.

    The dense layer may be the backbone's own pooler, which stays where the labels are
    new; transformers gives that one a new value only where the checkpoint has none.
    """

    pool: str  # the checkpoint's names, in full; without .weight and .bias
    label: str
    activation: str
    pooler: bool = False  # the dense layer belongs to the backbone
    drop_input: bool = False  # dropout also ahead of the dense layer


# What checkpoints hold for other tasks, and what this job does not read of them.
OTHER_HEADS: tuple[tuple[str, str], ...] = (
    (r"classifier\..*", OTHER_HEAD),
    (r"(qa_outputs|sequence_summary)\..*", "a head of another task"),
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of an encoder, from its configuration."""

    vocab: int
    positions: int
    blocks: int
    width: int
    heads: int
    hidden: int

    def check(self, c: Config, request: Request) -> None:
        """Adds to the errors of the configuration what the sizes cannot be."""
        if c.errors:
            return  # a default stands where a size is wrong, and fits nothing
        c.require(
            self.width % self.heads == 0,
            f"a width of {self.width} is no multiple of {self.heads} heads",
        )
        # A block has sixteen tensors: do not write a million blocks to find none of them.
        c.require(
            self.blocks <= len(request.tensors),
            f"{self.blocks} blocks, and the checkpoint has {len(request.tensors)} tensors",
        )


# BERT's, which later encoders took over: names in a block, and the sizes that
# transformers' class has where a configuration is silent.
KEYS = BlockKeys(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    ff_norm="output.LayerNorm",
)
DEFAULT = Sizes(vocab=30522, positions=512, blocks=12, width=768, heads=12, hidden=3072)


# The keys of the configuration that sizes are read from.
SIZES = {
    "V": "vocab_size",
    "P": "max_position_embeddings",
    "L": "num_hidden_layers",
    "C": "hidden_size",
    "H": "num_attention_heads",
    "F": "intermediate_size",
    "Y": "type_vocab_size",
}


@dataclass(frozen=True)
class Settings:
    """What a configuration says of an encoder, under whatever names."""

    sizes: Sizes
    activation: str
    dropout: float
    head_dropout: float
    eps: float  # of every norm
    std: float  # of new weights

    def consts(self, request: Request) -> list[ConstDef]:
        return [
            *dropouts(request, self.dropout, self.head_dropout),
            ConstDef("norm_eps", self.eps),
        ]


def read(c: Config, request: Request, default: Sizes) -> Settings:
    """The keys that BERT and the encoders after it share; `default` is their class's."""
    sizes = Sizes(
        vocab=c.size("vocab_size", default.vocab),
        positions=c.size("max_position_embeddings", default.positions),
        blocks=c.size("num_hidden_layers", default.blocks),
        width=c.size("hidden_size", default.width),
        heads=c.size("num_attention_heads", default.heads),
        hidden=c.size("intermediate_size", default.hidden),
    )
    sizes.check(c, request)
    dropout = c.fraction("hidden_dropout_prob", 0.1)
    head_dropout = c.fraction_or_none("classifier_dropout")
    c.harmless("attention_probs_dropout_prob")  # the spec says it
    c.neutral(
        position_embedding_type="absolute", is_decoder=False, add_cross_attention=False
    )
    return Settings(
        sizes,
        activation=c.choice("hidden_act", "gelu", ACTIVATIONS),
        dropout=dropout,
        head_dropout=dropout if head_dropout is None else head_dropout,
        eps=c.positive("layer_norm_eps", 1e-12),
        std=c.initial_std(),
    )


def segments(c: Config, request: Request, default: int = 2) -> int:
    """The number of token types; a pair of texts needs two."""
    types = c.size("type_vocab_size", default)
    c.require(not request.pair or types >= 2, "a pair of texts needs 2 token types")
    return types


def dims(
    sizes: Sizes, labels: int, bound: int, tables: Sequence[DimDef] = ()
) -> list[DimDef]:
    """The dimensions; `bound` is the longest row, special tokens included.

    `tables` are those of the embedding beside tokens and positions.
    """
    return [
        DimDef("B", None, doc="batch"),
        DimDef("T", None, bound=bound, doc="tokens"),
        DimDef("V", sizes.vocab, "vocab"),
        DimDef("P", sizes.positions, "positions"),
        *tables,
        DimDef("L", sizes.blocks, "blocks"),
        DimDef("C", sizes.width, "width", doc="width"),
        DimDef("H", sizes.heads, "heads", doc="heads"),
        DimDef("D", sizes.width // sizes.heads, doc="head width"),
        DimDef("F", sizes.hidden, "hidden", doc="feed-forward"),
        DimDef("K", labels, "labels", doc="labels"),
    ]


@dataclass(frozen=True)
class Writer:
    """Writes the modules of one encoder."""

    request: Request
    dims: Sequence[DimDef]
    prefix: str  # of the backbone's keys

    @cached_property
    def size(self) -> dict[str, int]:
        """The size of every dimension that has one, by its symbol."""
        return {d.symbol: d.size for d in self.dims if d.size is not None}

    def norm(self, b: Builder, name: str, x: str, key: str, out: str = "_") -> str:
        gain, offset = "weight", "bias"
        if key.endswith("LayerNorm"):
            gain, offset = norm_keys(self.request, self.prefix)
        return b.layer_norm(name, x, f"{key}.{gain}", f"{key}.{offset}", out=out)

    def attention(self, i: int, keys: BlockKeys) -> Module:
        b = Builder(
            f"Attention{i}", self.size, "Every token attends to every real token."
        )
        x, mask = b.input("x", X), b.input("mask", MASK)
        q, k, v = (
            b.heads(b.linear(name, x, "H*D", key), "H", out=name)
            for name, key in (("q", keys.query), ("k", keys.key), ("v", keys.value))
        )
        attrs: dict[str, Any] = {"causal": False}
        if self.request.attention_dropout:
            attrs["dropout"] = Const("attention_dropout")
        y = b.op("attention", q, k, v, mask, out="y", **attrs)
        return b.build(b.linear("out", b.op("merge_heads", y), "C", keys.out))

    def feed_forward(self, i: int, keys: BlockKeys, activation: str) -> Module:
        b = Builder(f"FeedForward{i}", self.size)
        x = b.input("x", X)
        y = b.activation(b.linear("up", x, "F", keys.up), activation)
        return b.build(b.linear("down", y, "C", keys.down))

    def block(
        self,
        i: int,
        keys: BlockKeys,
        settings: Settings,
        *,
        drop_attention: bool = True,
    ) -> Sequence[Module]:
        """Attention, feed-forward and the block of the two.

        `drop_attention` says whether there is dropout after the attention too.
        """
        attention = self.attention(i, keys)
        feed_forward = self.feed_forward(i, keys, settings.activation)
        b = Builder(f"Block{i}", self.size)
        x, mask = b.input("x", X), b.input("mask", MASK)
        y = b.call("attention", attention, x, mask, out="_")
        y = b.dropout(y) if drop_attention else y
        x = self.norm(b, "attention_norm", b.add(x, y), keys.attention_norm, out="x")
        y = b.dropout(b.call("ff", feed_forward, x, out="_"))
        return (
            attention,
            feed_forward,
            b.build(self.norm(b, "ff_norm", b.add(x, y), keys.ff_norm)),
        )

    def add_types(self, b: Builder, x: str, types: str) -> str:
        """x plus the vectors of the token types; "" says that all of them are 0."""
        if types:
            kind = b.op("embedding", types, name="token_type")
        else:
            kind = b.op("row", name="token_type", index=0)
        return b.add(x, kind, out="x")

    def classifier(self, head: Head, settings: Settings) -> Module:
        request, std = self.request, settings.std
        names = {const.name for const in settings.consts(request)}
        drop = "head_dropout" if "head_dropout" in names else "dropout"
        keep = request.keeps_head(f"{head.label}.weight")
        there = head.pooler and f"{head.pool}.weight" in request.keys
        b = Builder("Classifier", self.size, place="task")
        x = b.op("first", b.input("x", X))
        x = b.dropout(x, drop) if head.drop_input else x
        x = b.linear("pool", x, "C", head.pool, new=None if keep or there else std)
        x = b.dropout(b.activation(x, head.activation, out="x"), drop)
        return b.build(b.linear("label", x, "K", head.label, new=None if keep else std))

    def model(
        self,
        title: str,
        settings: Settings,
        embedding: tuple[Module, str],
        blocks: Sequence[Sequence[Module]],
        block_keys: str,
        classifier: Module,
        unused: Sequence[tuple[str, str]],
    ) -> Model:
        """The whole model. The embedding comes with the prefix of its keys.

        `block_keys` is the prefix of a block's, with `{i}` for its number; a block is its
        modules, itself the last. `unused` is as in `finish`.
        """
        b = Builder("Model", self.size)
        # The embedding reads the ids, and perhaps the types: the model takes the same.
        inputs = [b.input(v.name, str(v.type)) for v in embedding[0].inputs]
        mask = b.op("key_mask", b.input("mask", "bool[B,T]?"), out="mask")
        x = b.call("embedding", embedding[0], *inputs, keys=embedding[1], depth=0)
        for i, block in enumerate(blocks):
            keys = block_keys.replace("{i}", str(i))
            x = b.call(f"blocks.{i}", block[-1], x, mask, keys=keys, depth=i + 1)
        depth = len(blocks) + 1
        main = b.build(b.call("classifier", classifier, x, depth=depth, out="_"))
        return finish(
            self.request,
            title,
            self.dims,
            settings.consts(self.request),
            [embedding[0], *(m for block in blocks for m in block), classifier, main],
            [
                (
                    re.escape(self.prefix) + r"embeddings\.(position|token_type)_ids",
                    "a constant",
                ),
                *OTHER_HEADS,
                *unused,
            ],
        )
