"""ViT: Dosovitskiy et al. (2021); transformers' models/vit is the reference.

Patches of an image and a class token, learned positions, blocks that normalise before
attention and feed-forward, and a classifier on the class token. There is no pooler in
transformers' classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from generator.archs.build import (
    ACTIVATIONS,
    OTHER_HEAD,
    Builder,
    Imported,
    Request,
    Saved,
    dropouts,
    finish,
)
from generator.archs.config import Config
from generator.archs.images import image_plan
from generator.errors import fail
from generator.ir.dims import dim
from generator.ir.job import Const, ConstDef, DimDef, Module
from generator.ir.sources import Checkpoint, Row

MODEL_TYPES = ("vit",)
TASKS = ("image-classification",)
SAVED = Saved(
    {"vit": "ViTForImageClassification"},
    "vit.",
    {"classifier.label": "classifier"},
    {
        "L": "num_hidden_layers",
        "C": "hidden_size",
        "H": "num_attention_heads",
        "D": "head_dim",
        "F": "intermediate_size",
    },
)
X = "f32[B,T,C]"
TOKENS = "M*N+1"  # patches and the class token


@dataclass(frozen=True)
class Sizes:
    """The sizes of a ViT. An image is `rows` by `columns` patches of `patch` pixels.

    `rest` is how many pixels are left over, at the bottom and at the right: they are not
    read, as the convolution of transformers does not.
    """

    rows: int
    columns: int
    patch: tuple[int, int]  # height, width
    rest: tuple[int, int]
    blocks: int
    width: int
    heads: int
    head_width: int
    hidden: int


@dataclass(frozen=True)
class BlockKeys:
    """The checkpoint's names in a block, relative to it; without .weight and .bias."""

    query: str
    key: str
    value: str
    out: str
    up: str
    down: str


# What save_pretrained writes, and what transformers 5 names them in memory.
ON_DISK = BlockKeys(
    query="attention.attention.query",
    key="attention.attention.key",
    value="attention.attention.value",
    out="attention.output.dense",
    up="intermediate.dense",
    down="output.dense",
)
IN_MEMORY = BlockKeys(
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    out="attention.o_proj",
    up="mlp.fc1",
    down="mlp.fc2",
)


@dataclass(frozen=True)
class Writer:
    """Writes the modules of one ViT."""

    request: Request
    size: Mapping[str, int]  # of every dimension by symbol
    keys: BlockKeys
    activation: str
    qkv_bias: bool
    drops: bool  # whether there is any dropout

    def builder(self, name: str, doc: str = "") -> Builder:
        return Builder(name, self.size, doc)

    def dropout(self, b: Builder, x: str) -> str:
        return b.dropout(x) if self.drops else x

    def embedding(self, patch_width: str, rest: tuple[int, int]) -> Module:
        """Relative to `embeddings.`; transformers' tables have an axis too many."""
        left = "; what is over is not read" if any(rest) else ""
        b = self.builder(
            "Embedding", f"Patches from left to right, top to bottom{left}."
        )
        more = [f"+{pixels}" if pixels else "" for pixels in rest]
        shape = f"f32[B,3,M*P{more[0]},N*{patch_width}{more[1]}]"
        pixels = b.input("pixels", shape)
        conv = "patch_embeddings.projection"
        kernel = f"f32[C,3,P,{patch_width}]"
        b.parameter("patch.weight", kernel, "matrix", Checkpoint(f"{conv}.weight"))
        b.parameter("patch.bias", "f32[C]", "bias", Checkpoint(f"{conv}.bias"))
        token = Row(Row(Checkpoint("cls_token"), 0), 0)
        b.parameter("token", "f32[C]", "embedding", token)
        table = Row(Checkpoint("position_embeddings"), 0)
        b.parameter("position", f"f32[{TOKENS},C]", "embedding", table)
        grid = {"rows": dim("M"), "columns": dim("N")}
        x = b.op("patches", pixels, name="patch", out="x", **grid)
        x = b.op("prepend", x, b.op("parameter", name="token"), out="x")
        x = b.add(x, b.op("parameter", name="position"))
        return b.build(self.dropout(b, x))

    def attention(self, i: int) -> Module:
        b = self.builder(f"Attention{i}", "Every token attends to every token.")
        x = b.input("x", X)
        q, k, v = (
            b.heads(b.linear(name, x, "H*D", key, bias=self.qkv_bias), "H", out=name)
            for name, key in (
                ("q", self.keys.query),
                ("k", self.keys.key),
                ("v", self.keys.value),
            )
        )
        attrs: dict[str, bool | Const] = {"causal": False}
        if self.request.attention_dropout:
            attrs["dropout"] = Const("attention_dropout")
        y = b.op("attention", q, k, v, name="", out="y", **attrs)
        return b.build(b.linear("out", b.op("merge_heads", y), "C", self.keys.out))

    def feed_forward(self, i: int) -> Module:
        b = self.builder(f"FeedForward{i}")
        x = b.input("x", X)
        y = b.activation(b.linear("up", x, "F", self.keys.up), self.activation)
        return b.build(b.linear("down", y, "C", self.keys.down))

    def block(self, i: int) -> tuple[Module, Module, Module]:
        """Attention, feed-forward and the block of the two."""
        attention, feed_forward = self.attention(i), self.feed_forward(i)
        b = self.builder(f"Block{i}", "Normalises before each of its halves.")
        x = b.input("x", X)
        y = norm(b, "attention_norm", x, "layernorm_before")
        y = self.dropout(b, b.call("attention", attention, y, out="_"))
        x = b.add(x, y, out="x")
        y = norm(b, "ff_norm", x, "layernorm_after")
        y = self.dropout(b, b.call("ff", feed_forward, y, out="_"))
        return attention, feed_forward, b.build(b.add(x, y))

    def classifier(self, prefix: str, std: float) -> Module:
        b = self.builder("Classifier", "Reads the class token.")
        x = b.input("x", X)
        x = norm(b, "norm", x, f"{prefix}layernorm")
        b.place = "task"
        x = b.op("first", x)
        keep = self.request.keeps_head("classifier.weight")
        new = None if keep else std
        return b.build(b.linear("label", x, "K", "classifier", new=new))


def norm(b: Builder, name: str, x: str, key: str) -> str:
    return b.layer_norm(name, x, f"{key}.weight", f"{key}.bias")


def build(request: Request) -> Imported:
    """The classifier on a ViT checkpoint. GenError where one of the two does not fit.

    The plan of the pixels is made where the request names a column of images.
    """
    request.check_task(TASKS, "ViT encoder")
    c = Config(request.config)
    sizes = _sizes(c)
    activation = c.choice("hidden_act", "gelu", ACTIVATIONS)
    dropout = c.fraction("hidden_dropout_prob", 0.0)
    eps = c.positive("layer_norm_eps", 1e-12)
    std = c.initial_std()
    qkv_bias = c.flag("qkv_bias", True)
    c.harmless("attention_probs_dropout_prob")  # the spec says it
    # Of masked image modelling, and of a pooler that a classifier does not have.
    c.harmless("encoder_stride", "pooler_output_size", "pooler_act")
    c.neutral(num_channels=3)
    c.finish()

    prefix = request.prefix("embeddings.cls_token", ("", "vit."))
    for name in ("cls_token", "position_embeddings"):
        _leading_one(request, f"{prefix}embeddings.{name}")
    saved = f"{prefix}encoder.layer.0.{ON_DISK.query}.weight" in request.keys
    keys = ON_DISK if saved else IN_MEMORY
    block_keys = prefix + ("encoder.layer.{i}." if saved else "layers.{i}.")
    dims = _dims(sizes, len(request.labels))
    size = {d.symbol: d.size for d in dims if d.size is not None}
    consts = [*dropouts(request, dropout, dropout), ConstDef("norm_eps", eps)]
    drops = any(const.name == "dropout" and const.value for const in consts)
    writer = Writer(request, size, keys, activation, qkv_bias, drops)
    square = sizes.patch[0] == sizes.patch[1]
    embedding = writer.embedding("P" if square else "Q", sizes.rest)
    blocks = [writer.block(i) for i in range(sizes.blocks)]
    classifier = writer.classifier(prefix, std)

    b = writer.builder("Model")
    pixels = b.input("pixels", str(embedding.inputs[0].type))
    x = b.call("embedding", embedding, pixels, keys=f"{prefix}embeddings.", depth=0)
    for i, block in enumerate(blocks):
        x = b.call(
            f"blocks.{i}", block[-1], x, keys=block_keys.format(i=i), depth=i + 1
        )
    x = b.call("classifier", classifier, x, depth=len(blocks) + 1, out="_")
    model = finish(
        request,
        "ViT encoder",
        dims,
        consts,
        [embedding, *(m for block in blocks for m in block), classifier, b.build(x)],
        [
            (r"(vit\.)?pooler\..*", "the classifier reads the class token itself"),
            (
                r"(vit\.)?embeddings\.mask_token",
                "stands for patches hidden in training",
            ),
            (r"decoder\..*", "the head of pretraining"),
            (r"classifier\..*", OTHER_HEAD),
        ],
    )
    height, width = (d.value(size) for d in b.inputs[0].type.shape[2:])
    column = request.image_column
    plan = image_plan(request.preprocessor, column, height, width) if column else None
    return Imported(model, image=plan)


def _sizes(c: Config) -> Sizes:
    width = c.size("hidden_size", 768)
    heads = c.size("num_attention_heads", 12)
    head_width = c.maybe_size("head_dim")
    image, patch = c.pair("image_size", 224), c.pair("patch_size", 16)
    c.require(
        image[0] >= patch[0] and image[1] >= patch[1],
        f"image_size {image[0]} by {image[1]} is less than patch_size "
        f"{patch[0]} by {patch[1]}",
    )
    c.require(
        head_width is not None or width % heads == 0,
        f"hidden_size {width} is no multiple of {heads} heads",
    )
    return Sizes(
        rows=image[0] // patch[0],
        columns=image[1] // patch[1],
        patch=patch,
        rest=(image[0] % patch[0], image[1] % patch[1]),
        blocks=c.size("num_hidden_layers", 12),
        width=width,
        heads=heads,
        head_width=head_width or width // heads,
        hidden=c.size("intermediate_size", 3072),
    )


def _dims(sizes: Sizes, labels: int) -> list[DimDef]:
    height, width = sizes.patch
    own_width = sizes.head_width * sizes.heads != sizes.width
    patch = (
        [DimDef("P", height, "patch", doc="pixels a patch")]
        if height == width
        else [
            DimDef("P", height, "patch_height", doc="pixels a patch, downwards"),
            DimDef("Q", width, "patch_width", doc="pixels a patch, across"),
        ]
    )
    return [
        DimDef("B", None, doc="batch"),
        DimDef("T", None, bound=sizes.rows * sizes.columns + 1, doc="tokens"),
        DimDef("M", sizes.rows, "rows", doc="rows of patches"),
        DimDef("N", sizes.columns, "columns", doc="columns of patches"),
        *patch,
        DimDef("L", sizes.blocks, "blocks"),
        DimDef("C", sizes.width, "width", doc="width"),
        DimDef("H", sizes.heads, "heads", doc="heads"),
        DimDef(
            "D",
            sizes.head_width,
            "head_width" if own_width else "",
            doc="head width",
        ),
        DimDef("F", sizes.hidden, "hidden", doc="feed-forward"),
        DimDef("K", labels, "labels", doc="labels"),
    ]


def _leading_one(request: Request, key: str) -> None:
    """The axis that is dropped has one entry, so that no row of a tensor is lost."""
    if key in request.keys and request.shape(key)[:1] != (1,):
        raise fail(
            "G207",
            f'tensor "{key}" is {list(request.shape(key))}, and should begin with 1',
            help="the checkpoint and its config.json do not belong together",
        )
