"""ELECTRA against transformers."""

from __future__ import annotations

import pytest

from tests.archs.encoders import EncoderTests, Family, Shape, model_of
from tests.oracle import assert_parity, job_of, tiny


class TestElectra(EncoderTests):
    family = Family(
        "electra",
        label="classifier.out_proj",
        pool="classifier.dense",
        pooler=False,
        others=(
            "ElectraModel",
            "ElectraForPreTraining",
            "ElectraForMaskedLM",
            "ElectraForTokenClassification",
            "ElectraForQuestionAnswering",
            "ElectraForMultipleChoice",
        ),
        variants=({"embedding_size": 7}, {"embedding_size": 3}, {"embedding_size": 61}),
        harmless={
            "attention_probs_dropout_prob": 0.5,
            "summary_type": "mean",
            "summary_use_proj": False,
            "summary_activation": "relu",
            "summary_last_dropout": 0.9,
            "chunk_size_feed_forward": 1,
        },
        unsupported={
            "position_embedding_type": "relative_key_query",
            "is_decoder": True,
            "add_cross_attention": True,
        },
    )

    @pytest.mark.parametrize("pair", [False, True])
    def test_embeddings_as_wide_as_the_blocks(self, pair: bool) -> None:
        model, card, tensors = tiny(self.family.config(embedding_size=15))
        assert not any("embeddings_project" in key for key in tensors)
        job = job_of(card, tensors, pair=pair)
        assert "E" not in job.model.sizes
        assert_parity(job, model, tensors=tensors, lengths=[[4, 2]])

    def test_a_projection_that_the_configuration_does_not_have(self) -> None:
        _, card, tensors = tiny(self.family.config(Shape(), embedding_size=7))
        self.refused(card | {"embedding_size": 0}, tensors, "G202", "embedding_size")
        left = {k: t for k, t in tensors.items() if "embeddings_project" not in k}
        self.refused(card, left, "G204", "electra.embeddings_project.weight")

    def test_a_pair_needs_two_token_types(self) -> None:
        _, card, tensors = tiny(self.family.config(Shape(token_types=1)))
        self.refused(card, tensors, "G202", "token types", pair=True)

    def test_the_last_layer_is_new_with_its_dense_layer(self) -> None:
        """Both belong to the head, other than BERT's pooler."""
        _, card, tensors = model_of(self.family)
        job = job_of(card, tensors, labels=("no", "yes"))
        unused = sorted(u.key for u in job.model.unused)
        assert unused == [
            "classifier.dense.bias",
            "classifier.dense.weight",
            "classifier.out_proj.bias",
            "classifier.out_proj.weight",
        ]
