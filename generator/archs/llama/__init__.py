"""Llama: Touvron et al. (2023); transformers' models/llama is the reference.

A decoder: causal attention with rotary positions and perhaps fewer key heads than query
heads, gated feed-forwards, RMS norms before each. The classifier reads the last real
token, which by then has seen all others. Padding is on the right, where no real token
sees it, so that attention takes no mask and the padding's id does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from generator.archs.build import (
    ACTIVATIONS,
    OTHER_HEAD,
    Builder,
    Imported,
    Request,
    Saved,
    finish,
)
from generator.archs.config import Config
from generator.archs.llama import rope as rotary
from generator.errors import fail
from generator.ir.dims import dim
from generator.ir.job import Const, ConstDef, DimDef, Module

MODEL_TYPES = ("llama",)
TASKS = ("text-classification", "multi-label", "regression")
SAVED = Saved(
    {"llama": "LlamaForSequenceClassification"},
    "model.",
    {"classifier.label": "score"},
    {
        "V": "vocab_size",
        "L": "num_hidden_layers",
        "C": "hidden_size",
        "H": "num_attention_heads",
        "G": "num_key_value_heads",
        "D": "head_dim",
        "F": "intermediate_size",
    },
)
X = "f32[B,T,C]"
TABLE = "f32[T,D]"


@dataclass(frozen=True)
class Sizes:
    """The sizes of a Llama, from its configuration."""

    vocab: int
    blocks: int
    width: int
    heads: int
    key_heads: int
    head_width: int
    hidden: int


@dataclass(frozen=True)
class Writer:
    """Writes the modules of one Llama."""

    request: Request
    size: Mapping[str, int]  # of every dimension by symbol
    activation: str
    attention_bias: bool
    ff_bias: bool
    padding: int | None  # the token that config.json names for it

    def builder(self, name: str, doc: str = "") -> Builder:
        return Builder(name, self.size, doc)

    def attention(self, i: int) -> Module:
        b = self.builder(
            f"Attention{i}", "Every token attends to itself and to those before it."
        )
        x, cos, sin = b.input("x", X), b.input("cos", TABLE), b.input("sin", TABLE)
        grouped = "G" in self.size
        heads = {"q": "H", "k": "G" if grouped else "H", "v": "G" if grouped else "H"}
        q, k, v = (
            b.heads(self._project(b, name, x, f"{count}*D"), count, out=name)
            for name, count in heads.items()
        )
        q, k = b.op("rotate", q, cos, sin, out="q"), b.op(
            "rotate", k, cos, sin, out="k"
        )
        attrs: dict[str, bool | Const] = {"causal": True}
        if grouped:
            attrs["groups"] = True
        if self.request.attention_dropout:
            attrs["dropout"] = Const("attention_dropout")
        y = b.op("merge_heads", b.op("attention", q, k, v, name="", out="y", **attrs))
        key = "self_attn.o_proj"
        return b.build(b.linear("out", y, "C", key, bias=self.attention_bias))

    def _project(self, b: Builder, name: str, x: str, width: str) -> str:
        key = f"self_attn.{name}_proj"
        return b.linear(name, x, width, key, bias=self.attention_bias)

    def feed_forward(self, i: int) -> Module:
        b = self.builder(f"FeedForward{i}", "What goes up passes a gate.")
        x, bias = b.input("x", X), self.ff_bias
        gate = b.linear("gate", x, "F", "mlp.gate_proj", bias=bias)
        up = b.linear("up", x, "F", "mlp.up_proj", bias=bias)
        y = b.op("multiply", b.activation(gate, self.activation), up)
        return b.build(b.linear("down", y, "C", "mlp.down_proj", bias=bias))

    def block(self, i: int) -> tuple[Module, Module, Module]:
        """Attention, feed-forward and the block of the two."""
        attention, feed_forward = self.attention(i), self.feed_forward(i)
        b = self.builder(f"Block{i}", "Normalises before each of its halves.")
        x, cos, sin = b.input("x", X), b.input("cos", TABLE), b.input("sin", TABLE)
        y = b.rms_norm("attention_norm", x, "input_layernorm.weight")
        x = b.add(x, b.call("attention", attention, y, cos, sin, out="_"), out="x")
        y = b.rms_norm("ff_norm", x, "post_attention_layernorm.weight")
        x = b.add(x, b.call("ff", feed_forward, y, out="_"))
        return attention, feed_forward, b.build(x)

    def classifier(self, prefix: str, std: float) -> Module:
        b = self.builder("Classifier", "Reads the last real token.")
        x = b.input("x", X)
        x = b.rms_norm("norm", x, f"{prefix}norm.weight")
        b.place = "task"
        x = b.op("first", x)
        new = None if self.request.keeps_head("score.weight") else std
        return b.build(b.linear("label", x, "K", "score", bias=False, new=new))

    def main(
        self,
        prefix: str,
        rope: rotary.Rope,
        blocks: list[Module],
        classifier: Module,
    ) -> Module:
        b = self.builder("Model")
        ids, mask = b.input("ids", "i64[B,T]"), b.input("mask", "bool[B,T]?")
        b.table("embedding", "f32[V,C]", f"{prefix}embed_tokens.weight")
        x = b.op("embedding", ids, name="embedding", out="x")
        attrs = {**rope.attrs, "width": dim("D")}
        cos, sin = b.op("rope_tables", ids, name="", out=("cos", "sin"), **attrs)
        for i, block in enumerate(blocks):
            keys = f"{prefix}layers.{i}."
            x = b.call(f"blocks.{i}", block, x, cos, sin, keys=keys, depth=i + 1)
        b.place = "task"
        # transformers norms and scores all positions, and then picks: the same numbers.
        named: dict[str, Any] = (
            {} if self.padding is None else {"padding": self.padding}
        )
        index = b.op("last_index", ids, mask, out="index", **named)
        x = b.op("pick", x, index, out="x")
        depth = len(blocks) + 1
        return b.build(b.call("classifier", classifier, x, depth=depth, out="_"))


def build(request: Request) -> Imported:
    """The classifier on a Llama checkpoint. GenError where one of the two does not fit.

    Where config.json names a padding token, a text that ends with it is read at the last
    other token, as transformers does. Where it names none, rows are padded with id 0.
    """
    request.check_task(TASKS, "Llama decoder")
    if request.dropout:
        raise fail(
            "G209",
            "a Llama has no dropout of hidden states",
            help="leave out dropout of [backbone]; attention_dropout of [train] there is",
        )
    c = Config(request.config)
    sizes = _sizes(c)
    positions = c.size("max_position_embeddings", 2048)
    rope = rotary.read(c, sizes.head_width, positions)
    activation = c.choice("hidden_act", "silu", ACTIVATIONS)
    eps = c.positive("rms_norm_eps", 1e-6)
    std = c.initial_std()
    attention_bias, ff_bias = c.flag("attention_bias", False), c.flag("mlp_bias", False)
    pad = c.optional("pad_token_id")
    if pad == -1:  # as early files say that there is none
        pad = None
    c.require(
        pad is None
        or isinstance(pad, int)
        and not isinstance(pad, bool)
        and 0 <= pad < sizes.vocab,
        f"pad_token_id is {pad!r}, and the vocabulary has {sizes.vocab} tokens",
    )
    c.harmless("attention_dropout")  # the spec says it
    c.neutral(pretraining_tp=1)
    c.finish()

    prefix = request.prefix("embed_tokens.weight", ("", "model."))
    dims = _dims(sizes, len(request.labels), rope.bound)
    size = {d.symbol: d.size for d in dims if d.size is not None}
    writer = Writer(request, size, activation, attention_bias, ff_bias, pad)
    blocks = [writer.block(i) for i in range(sizes.blocks)]
    classifier = writer.classifier(prefix, std)
    main = writer.main(prefix, rope, [block[-1] for block in blocks], classifier)
    model = finish(
        request,
        "Llama decoder",
        dims,
        [
            ConstDef("attention_dropout", request.attention_dropout),
            ConstDef("norm_eps", eps),
        ],
        [*(m for block in blocks for m in block), classifier, main],
        [
            (r"lm_head\.weight", "the head of pretraining"),
            (r"score\.(weight|bias)", OTHER_HEAD),
            (r".*\.rotary_emb\.inv_freq", "worked out from the configuration"),
        ],
    )
    return Imported(model, pad_id=pad or 0)


def _sizes(c: Config) -> Sizes:
    width, heads = c.size("hidden_size", 4096), c.size("num_attention_heads", 32)
    key_heads = c.maybe_size("num_key_value_heads") or heads
    c.require(
        width % heads == 0, f"hidden_size {width} is no multiple of {heads} heads"
    )
    c.require(
        heads % key_heads == 0,
        f"{heads} heads do not share num_key_value_heads {key_heads} evenly",
    )
    return Sizes(
        vocab=c.size("vocab_size", 32000),
        blocks=c.size("num_hidden_layers", 32),
        width=width,
        heads=heads,
        key_heads=key_heads,
        head_width=c.maybe_size("head_dim") or width // heads,
        hidden=c.size("intermediate_size", 11008),
    )


def _dims(sizes: Sizes, labels: int, bound: int) -> list[DimDef]:
    own_width = sizes.head_width * sizes.heads != sizes.width
    grouped = [DimDef("G", sizes.key_heads, "key_heads", doc="key and value heads")]
    return [
        DimDef("B", None, doc="batch"),
        DimDef("T", None, bound=bound, doc="tokens"),
        DimDef("V", sizes.vocab, "vocab"),
        DimDef("L", sizes.blocks, "blocks"),
        DimDef("C", sizes.width, "width", doc="width"),
        DimDef("H", sizes.heads, "heads", doc="heads"),
        *(grouped if sizes.key_heads != sizes.heads else []),
        DimDef(
            "D", sizes.head_width, "head_width" if own_width else "", doc="head width"
        ),
        DimDef("F", sizes.hidden, "hidden", doc="feed-forward"),
        DimDef("K", labels, "labels", doc="labels"),
    ]
