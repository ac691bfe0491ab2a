"""RoBERTa: Liu et al. (2019), with XLM-RoBERTa (Conneau et al., 2020) and CamemBERT
(Martin et al., 2020); transformers' models/roberta is the reference.

BERT but for its positions, which count from the row after the padding token's and leave
that token out wherever it stands, and its classifier, which brings a dense layer of its own. Token types, where there is a table,
are all 0: its tokenizers know no other, not for pairs either.
"""

from __future__ import annotations

import re
from dataclasses import replace

from generator.archs import post_norm
from generator.archs.build import Builder, Imported, Request, Saved
from generator.archs.config import Config
from generator.ir.job import DimDef, Module

TITLES = {
    "roberta": "RoBERTa encoder",
    "xlm-roberta": "XLM-RoBERTa encoder",
    "camembert": "CamemBERT encoder",
}
MODEL_TYPES = tuple(TITLES)
TASKS = post_norm.TASKS
SAVED = Saved(
    {
        "roberta": "RobertaForSequenceClassification",
        "xlm-roberta": "XLMRobertaForSequenceClassification",
        "camembert": "CamembertForSequenceClassification",
    },
    "roberta.",
    {
        "classifier.pool": "classifier.dense",
        "classifier.label": "classifier.out_proj",
    },
    post_norm.SIZES,
)
VOCAB = {"roberta": 50265}  # where it is not BERT's


def build(request: Request) -> Imported:
    """The classifier on a RoBERTa checkpoint. GenError where one does not fit."""
    kind = str(request.config.get("model_type"))
    title = TITLES.get(kind, TITLES["roberta"])
    request.check_task(TASKS, title)
    c = Config(request.config)
    settings = post_norm.read(
        c,
        request,
        replace(post_norm.DEFAULT, vocab=VOCAB.get(kind, post_norm.DEFAULT.vocab)),
    )
    sizes = settings.sizes
    types = c.size("type_vocab_size", 2)
    # Unlike BERT's, it says where the positions start, and null will not do.
    pad = c.integer("pad_token_id", 1)
    c.require(
        0 <= pad < min(sizes.vocab, sizes.positions - 1),
        f"pad_token_id is {pad}: a vocabulary of {sizes.vocab} and {sizes.positions} "
        "positions leave no place for a token after it",
    )
    c.finish()

    prefix = request.prefix("embeddings.word_embeddings.weight", ("", "roberta."))
    dims = post_norm.dims(
        sizes,
        len(request.labels),
        sizes.positions - pad - 1,
        [DimDef("Y", types, "token_types")],
    )
    writer = post_norm.Writer(request, dims, prefix)
    head = post_norm.Head(
        "classifier.dense", "classifier.out_proj", "tanh", drop_input=True
    )
    model = writer.model(
        title,
        settings,
        embedding=(_embedding(writer, pad), f"{prefix}embeddings."),
        blocks=[writer.block(i, post_norm.KEYS, settings) for i in range(sizes.blocks)],
        block_keys=prefix + "encoder.layer.{i}.",
        classifier=writer.classifier(head, settings),
        unused=[
            (re.escape(prefix) + r"pooler\..*", "the classifier has its own"),
            (r"lm_head\..*", "the head of pretraining"),
        ],
    )
    return Imported(model, pad_id=pad)


def _embedding(writer: post_norm.Writer, pad: int) -> Module:
    b = Builder("Embedding", writer.size, "Token, position and token-type vectors.")
    ids = b.input("ids", post_norm.IDS)
    b.table("token", "f32[V,C]", "word_embeddings.weight")
    b.table("position", "f32[P,C]", "position_embeddings.weight")
    b.table("token_type", "f32[Y,C]", "token_type_embeddings.weight")
    x = b.op("embedding", ids, name="token")
    x = writer.add_types(b, x, "")
    places = b.op("token_places", ids, padding=pad)
    x = b.add(x, b.op("embedding", places, name="position"), out="x")
    return b.build(b.dropout(writer.norm(b, "norm", x, "LayerNorm")))
