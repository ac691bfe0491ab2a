"""DistilBERT: Sanh et al. (2019); transformers' models/distilbert is the reference.

Half of BERT's blocks, no token types and no pooler: the classifier brings a dense layer
of its own. There is no dropout after the attention, and the epsilon is fixed.
"""

from __future__ import annotations

from generator.archs import post_norm
from generator.archs.build import (
    ACTIVATIONS,
    OTHER_HEAD,
    Builder,
    Imported,
    Request,
    Saved,
)
from generator.archs.config import Config
from generator.ir.job import Module

MODEL_TYPES = ("distilbert",)
TASKS = post_norm.TASKS
SAVED = Saved(
    {"distilbert": "DistilBertForSequenceClassification"},
    "distilbert.",
    {"classifier.pool": "pre_classifier", "classifier.label": "classifier"},
    {
        "V": "vocab_size",
        "P": "max_position_embeddings",
        "L": "n_layers",
        "C": "dim",
        "H": "n_heads",
        "F": "hidden_dim",
    },
)
KEYS = post_norm.BlockKeys(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    ff_norm="output_layer_norm",
)


def build(request: Request) -> Imported:
    """The classifier on a DistilBERT checkpoint. GenError where one does not fit."""
    request.check_task(TASKS, "DistilBERT encoder")
    c = Config(request.config)
    settings = _settings(c, request)
    sizes = settings.sizes
    pad = c.token("pad_token_id", 0, sizes.vocab)
    c.finish()

    prefix = request.prefix("embeddings.word_embeddings.weight", ("", "distilbert."))
    dims = post_norm.dims(sizes, len(request.labels), sizes.positions)
    writer = post_norm.Writer(request, dims, prefix)
    head = post_norm.Head("pre_classifier", "classifier", "relu")
    model = writer.model(
        "DistilBERT encoder",
        settings,
        embedding=(_embedding(writer), f"{prefix}embeddings."),
        blocks=[
            writer.block(i, KEYS, settings, drop_attention=False)
            for i in range(sizes.blocks)
        ],
        block_keys=prefix + "transformer.layer.{i}.",
        classifier=writer.classifier(head, settings),
        unused=[
            (r"vocab_(transform|layer_norm|projector)\..*", "the head of pretraining"),
            (r"pre_classifier\..*", OTHER_HEAD),
        ],
    )
    return Imported(model, pad_id=pad)


def _settings(c: Config, request: Request) -> post_norm.Settings:
    c.aliases(
        hidden_size="dim", num_attention_heads="n_heads", num_hidden_layers="n_layers"
    )
    sizes = post_norm.Sizes(
        vocab=c.size("vocab_size", 30522),
        positions=c.size("max_position_embeddings", 512),
        blocks=c.size("n_layers", 6),
        width=c.size("dim", 768),
        heads=c.size("n_heads", 12),
        hidden=c.size("hidden_dim", 3072),
    )
    sizes.check(c, request)
    # The spec says the attention's; positions are what the checkpoint has, sines or not.
    c.harmless("attention_dropout", "qa_dropout", "sinusoidal_pos_embds")
    c.neutral(position_embedding_type="absolute", is_decoder=False)
    return post_norm.Settings(
        sizes,
        activation=c.choice("activation", "gelu", ACTIVATIONS),
        dropout=c.fraction("dropout", 0.1),
        head_dropout=c.fraction("seq_classif_dropout", 0.2),
        eps=1e-12,
        std=c.initial_std(),
    )


def _embedding(writer: post_norm.Writer) -> Module:
    b = Builder("Embedding", writer.size, "Token and position vectors.")
    ids = b.input("ids", post_norm.IDS)
    b.table("token", "f32[V,C]", "word_embeddings.weight")
    b.table("position", "f32[P,C]", "position_embeddings.weight")
    x = b.op("embedding", ids, name="token", out="x")
    x = b.add(x, b.op("positions", x, name="position"), out="x")
    return b.build(b.dropout(writer.norm(b, "norm", x, "LayerNorm")))
