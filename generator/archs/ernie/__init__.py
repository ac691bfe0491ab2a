"""ERNIE: Sun et al. (2019), and its versions 2.0 and 3.0; transformers' models/ernie is
the reference.

BERT, with a further table of task types in the later versions, of which row 0 is read.
"""

from __future__ import annotations

import re

from generator.archs import post_norm
from generator.archs.build import Builder, Imported, Request, Saved
from generator.archs.config import Config
from generator.ir.job import DimDef, Module

MODEL_TYPES = ("ernie",)
TASKS = post_norm.TASKS
SAVED = Saved(
    {"ernie": "ErnieForSequenceClassification"},
    "ernie.",
    {"classifier.pool": "ernie.pooler.dense", "classifier.label": "classifier"},
    {**post_norm.SIZES, "Z": "task_type_vocab_size"},
)


def build(request: Request) -> Imported:
    """The classifier on an ERNIE checkpoint. GenError where one of the two does not fit."""
    request.check_task(TASKS, "ERNIE encoder")
    c = Config(request.config)
    settings = post_norm.read(c, request, post_norm.DEFAULT)
    sizes = settings.sizes
    types = post_norm.segments(c, request)
    tasks = c.size("task_type_vocab_size", 3)
    has_tasks = c.flag("use_task_id", False)
    pad = c.token("pad_token_id", 0, sizes.vocab)
    c.finish()

    prefix = request.prefix("embeddings.word_embeddings.weight", ("", "ernie."))
    tables = [DimDef("Y", types, "token_types")]
    if has_tasks:
        tables.append(DimDef("Z", tasks, "task_types"))
    dims = post_norm.dims(sizes, len(request.labels), sizes.positions, tables)
    writer = post_norm.Writer(request, dims, prefix)
    head = post_norm.Head(f"{prefix}pooler.dense", "classifier", "tanh", pooler=True)
    model = writer.model(
        "ERNIE encoder",
        settings,
        embedding=(
            _embedding(writer, request.pair, has_tasks),
            f"{prefix}embeddings.",
        ),
        blocks=[writer.block(i, post_norm.KEYS, settings) for i in range(sizes.blocks)],
        block_keys=prefix + "encoder.layer.{i}.",
        classifier=writer.classifier(head, settings),
        unused=[
            (r"cls\..*", "the heads of pretraining"),
            (
                re.escape(prefix) + r"embeddings\.task_type_embeddings\..*",
                "config.json says that task types are not used",
            ),
        ],
    )
    return Imported(model, token_types=request.pair, pad_id=pad)


def _embedding(writer: post_norm.Writer, pair: bool, has_tasks: bool) -> Module:
    b = Builder("Embedding", writer.size, "Token, position and token-type vectors.")
    ids = b.input("ids", post_norm.IDS)
    types = b.input("types", post_norm.IDS) if pair else ""
    b.table("token", "f32[V,C]", "word_embeddings.weight")
    b.table("position", "f32[P,C]", "position_embeddings.weight")
    b.table("token_type", "f32[Y,C]", "token_type_embeddings.weight")
    x = b.op("embedding", ids, name="token")
    x = writer.add_types(b, x, types)
    x = b.add(x, b.op("positions", x, name="position"), out="x")
    if has_tasks:
        b.table("task_type", "f32[Z,C]", "task_type_embeddings.weight")
        x = b.add(x, b.op("row", name="task_type", index=0), out="x")
    return b.build(b.dropout(writer.norm(b, "norm", x, "LayerNorm")))
