"""ELECTRA: Clark et al. (2020); transformers' models/electra is the reference.

BERT but for its vectors of tokens, which may be narrower than the blocks and are then
projected, and its classifier, which brings a dense layer of its own.
"""

from __future__ import annotations

from dataclasses import replace

from generator.archs import post_norm
from generator.archs.build import Builder, Imported, Request, Saved
from generator.archs.config import Config
from generator.ir.job import DimDef, Module

MODEL_TYPES = ("electra",)
TASKS = post_norm.TASKS
SAVED = Saved(
    {"electra": "ElectraForSequenceClassification"},
    "electra.",
    {
        "classifier.pool": "classifier.dense",
        "classifier.label": "classifier.out_proj",
    },
    {**post_norm.SIZES, "E": "embedding_size"},
)


def build(request: Request) -> Imported:
    """The classifier on an ELECTRA checkpoint. GenError where one does not fit."""
    request.check_task(TASKS, "ELECTRA encoder")
    c = Config(request.config)
    settings = post_norm.read(
        c, request, replace(post_norm.DEFAULT, width=256, heads=4, hidden=1024)
    )
    sizes = settings.sizes
    narrow = c.size("embedding_size", 128)
    types = post_norm.segments(c, request)
    pad = c.token("pad_token_id", 0, sizes.vocab)
    c.harmless(  # of the head for multiple choice
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_last_dropout",
    )
    c.finish()

    prefix = request.prefix("embeddings.word_embeddings.weight", ("", "electra."))
    tables = [DimDef("Y", types, "token_types")]
    projected = narrow != sizes.width
    if projected:
        tables.append(DimDef("E", narrow, "embedding", doc="embedding width"))
    dims = post_norm.dims(sizes, len(request.labels), sizes.positions, tables)
    writer = post_norm.Writer(request, dims, prefix)
    head = post_norm.Head(
        "classifier.dense", "classifier.out_proj", "gelu", drop_input=True
    )
    model = writer.model(
        "ELECTRA encoder",
        settings,
        embedding=(_embedding(writer, request.pair, projected), prefix),
        blocks=[writer.block(i, post_norm.KEYS, settings) for i in range(sizes.blocks)],
        block_keys=prefix + "encoder.layer.{i}.",
        classifier=writer.classifier(head, settings),
        unused=[
            (
                r"(discriminator_predictions|generator_predictions|generator_lm_head)\..*",
                "the heads of pretraining",
            )
        ],
    )
    return Imported(model, token_types=request.pair, pad_id=pad)


def _embedding(writer: post_norm.Writer, pair: bool, projected: bool) -> Module:
    b = Builder("Embedding", writer.size, "Token, position and token-type vectors.")
    width = "E" if projected else "C"
    ids = b.input("ids", post_norm.IDS)
    types = b.input("types", post_norm.IDS) if pair else ""
    b.table("token", f"f32[V,{width}]", "embeddings.word_embeddings.weight")
    b.table("position", f"f32[P,{width}]", "embeddings.position_embeddings.weight")
    b.table("token_type", f"f32[Y,{width}]", "embeddings.token_type_embeddings.weight")
    x = b.op("embedding", ids, name="token")
    x = writer.add_types(b, x, types)
    x = b.add(x, b.op("positions", x, name="position"), out="x")
    x = b.dropout(writer.norm(b, "norm", x, "embeddings.LayerNorm"))
    return b.build(
        b.linear("project", x, "C", "embeddings_project") if projected else x
    )
