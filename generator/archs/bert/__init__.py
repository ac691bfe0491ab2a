"""BERT: Devlin et al. (2019); transformers' models/bert is the reference.

Learned positions, two token types, a pooler of the first token ahead of the classifier.
"""

from __future__ import annotations

from generator.archs import post_norm
from generator.archs.build import Builder, Imported, Request, Saved
from generator.archs.config import Config
from generator.ir.job import DimDef, Module

MODEL_TYPES = ("bert",)
TASKS = post_norm.TASKS
SAVED = Saved(
    {"bert": "BertForSequenceClassification"},
    "bert.",
    {"classifier.pool": "bert.pooler.dense", "classifier.label": "classifier"},
    post_norm.SIZES,
)


def build(request: Request) -> Imported:
    """The classifier on a BERT checkpoint. GenError where one of the two does not fit."""
    request.check_task(TASKS, "BERT encoder")
    c = Config(request.config)
    settings = post_norm.read(c, request, post_norm.DEFAULT)
    sizes = settings.sizes
    types = post_norm.segments(c, request)
    pad = c.token("pad_token_id", 0, sizes.vocab)
    c.finish()

    prefix = request.prefix("embeddings.word_embeddings.weight", ("", "bert."))
    dims = post_norm.dims(
        sizes, len(request.labels), sizes.positions, [DimDef("Y", types, "token_types")]
    )
    writer = post_norm.Writer(request, dims, prefix)
    head = post_norm.Head(f"{prefix}pooler.dense", "classifier", "tanh", pooler=True)
    model = writer.model(
        "BERT encoder",
        settings,
        embedding=(_embedding(writer, request.pair), f"{prefix}embeddings."),
        blocks=[writer.block(i, post_norm.KEYS, settings) for i in range(sizes.blocks)],
        block_keys=prefix + "encoder.layer.{i}.",
        classifier=writer.classifier(head, settings),
        unused=[(r"cls\..*", "the heads of pretraining")],
    )
    return Imported(model, token_types=request.pair, pad_id=pad)


def _embedding(writer: post_norm.Writer, pair: bool) -> Module:
    b = Builder("Embedding", writer.size, "Token, position and token-type vectors.")
    ids = b.input("ids", post_norm.IDS)
    types = b.input("types", post_norm.IDS) if pair else ""
    b.table("token", "f32[V,C]", "word_embeddings.weight")
    b.table("position", "f32[P,C]", "position_embeddings.weight")
    b.table("token_type", "f32[Y,C]", "token_type_embeddings.weight")
    x = b.op("embedding", ids, name="token")
    x = writer.add_types(b, x, types)
    x = b.add(x, b.op("positions", x, name="position"), out="x")
    return b.build(b.dropout(writer.norm(b, "norm", x, "LayerNorm")))
