"""BERT against transformers; what it shares with the others is in encoders.py."""

from __future__ import annotations

import pytest

from tests.archs.encoders import EncoderTests, Family, Shape, model_of
from tests.oracle import assert_parity, job_of, tiny


class TestBert(EncoderTests):
    family = Family(
        "bert",
        label="classifier",
        pool="bert.pooler.dense",
        pooler=True,
        others=(
            "BertModel",
            "BertForMaskedLM",
            "BertForPreTraining",
            "BertForTokenClassification",
            "BertForQuestionAnswering",
            "BertForMultipleChoice",
        ),
        variants=({}, {"pad_token_id": 2}, {"pad_token_id": None}),
        harmless={
            "attention_probs_dropout_prob": 0.5,
            "chunk_size_feed_forward": 1,
            "tie_word_embeddings": False,
            "use_cache": False,
        },
        unsupported={
            "position_embedding_type": "relative_key_query",
            "is_decoder": True,
            "add_cross_attention": True,
        },
    )

    def test_segments_are_an_input_of_pairs_alone(self) -> None:
        _, card, tensors = model_of(self.family)
        single, pair = job_of(card, tensors), job_of(card, tensors, pair=True)
        assert [v.name for v in single.model.main.inputs] == ["ids", "mask"]
        assert [v.name for v in pair.model.main.inputs] == ["ids", "types", "mask"]

    def test_a_pair_needs_two_token_types(self) -> None:
        model, card, tensors = tiny(self.family.config(Shape(token_types=1)))
        assert_parity(job_of(card, tensors), model, tensors=tensors, lengths=[[4, 2]])
        self.refused(card, tensors, "G202", "token types", pair=True)

    @pytest.mark.parametrize("pad", [0, 5])
    def test_the_padding_id_is_the_checkpoints(self, pad: int) -> None:
        _, card, tensors = tiny(self.family.config(pad_token_id=pad))
        job = job_of(card, tensors)
        assert job.data.inputs.pad_id == pad  # type: ignore[union-attr]
