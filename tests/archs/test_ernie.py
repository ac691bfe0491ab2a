"""ERNIE against transformers."""

from __future__ import annotations

import pytest

from tests.archs.encoders import EncoderTests, Family, Shape
from tests.oracle import assert_parity, job_of, tiny


class TestErnie(EncoderTests):
    family = Family(
        "ernie",
        label="classifier",
        pool="ernie.pooler.dense",
        pooler=True,
        others=(
            "ErnieModel",
            "ErnieForMaskedLM",
            "ErnieForPreTraining",
            "ErnieForTokenClassification",
            "ErnieForQuestionAnswering",
            "ErnieForMultipleChoice",
        ),
        variants=(
            {},
            {"use_task_id": True},
            {"use_task_id": True, "task_type_vocab_size": 1},
        ),
        harmless={
            "attention_probs_dropout_prob": 0.5,
            "chunk_size_feed_forward": 1,
            "task_type_vocab_size": 7,
        },
        unsupported={
            "position_embedding_type": "relative_key",
            "is_decoder": True,
            "add_cross_attention": True,
        },
    )

    @pytest.mark.parametrize("pair", [False, True])
    def test_task_types(self, pair: bool) -> None:
        model, card, tensors = tiny(self.family.config(use_task_id=True))
        job = job_of(card, tensors, pair=pair)
        assert job.model.sizes["Z"] == 3
        assert_parity(job, model, tensors=tensors)

    def test_task_types_that_are_not_used(self) -> None:
        """The checkpoint has the table, and config.json says not to read it."""
        with_table, card, tensors = tiny(self.family.config(use_task_id=True))
        key = "ernie.embeddings.task_type_embeddings.weight"
        job = job_of(card | {"use_task_id": False}, tensors)
        (unused,) = job.model.unused
        assert unused.key == key
        without = type(with_table)(self.family.config())
        without.double().eval().load_state_dict(with_table.state_dict(), strict=False)
        assert_parity(job, without, tensors=tensors, lengths=[[4, 2]])
        left = {k: t for k, t in tensors.items() if k != key}
        self.refused(card, left, "G204", key)

    def test_the_flag_is_a_flag(self) -> None:
        _, card, tensors = tiny(self.family.config(Shape(token_types=1)))
        self.refused(card | {"use_task_id": "no"}, tensors, "G202", "use_task_id")
        self.refused(card, tensors, "G202", "token types", pair=True)
