"""RoBERTa, XLM-RoBERTa and CamemBERT against transformers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.archs.encoders import (
    EncoderTests,
    Family,
    Shape,
    longest_row,
    model_of,
    randomly,
)
from tests.oracle import assert_parity, call_oracle, job_of, tiny

FAMILY = Family(
    "roberta",
    label="classifier.out_proj",
    pool="classifier.dense",
    pooler=False,
    segments=False,
    lost=2,
    others=(
        "RobertaModel",
        "RobertaForMaskedLM",
        "RobertaForTokenClassification",
        "RobertaForQuestionAnswering",
        "RobertaForMultipleChoice",
    ),
    harmless={
        "attention_probs_dropout_prob": 0.5,
        "chunk_size_feed_forward": 1,
        "tie_word_embeddings": False,
    },
    unsupported={
        "position_embedding_type": "relative_key",
        "is_decoder": True,
        "add_cross_attention": True,
    },
)


class TestRoberta(EncoderTests):
    family = FAMILY

    @pytest.mark.parametrize("model_type", ["xlm-roberta", "camembert"])
    def test_relatives(self, model_type: str) -> None:
        family = replace(FAMILY, model_type=model_type)
        for seed in range(3):
            randomly(family, seed)

    def test_titles(self) -> None:
        _, card, tensors = model_of(self.family)
        titles = [
            job_of(card | {"model_type": t}, tensors).model.title
            for t in ("roberta", "xlm-roberta", "camembert")
        ]
        assert titles == ["RoBERTa encoder", "XLM-RoBERTa encoder", "CamemBERT encoder"]

    @pytest.mark.parametrize("pad", [0, 1, 4])
    def test_positions_start_after_the_padding(self, pad: int) -> None:
        model, card, tensors = tiny(self.family.config(pad_token_id=pad))
        job = job_of(card, tensors)
        longest = 19 - pad - 1
        assert longest_row(job) == longest
        lengths = [[longest], [longest, 3, 1], [1]]
        assert_parity(job, model, tensors=tensors, lengths=lengths)
        with pytest.raises((IndexError, RuntimeError)):
            call_oracle(model, {"ids": torch.full((1, longest + 1), 9)})

    def test_padding_that_leaves_no_position(self) -> None:
        _, card, tensors = model_of(self.family)
        self.refused(card | {"pad_token_id": 18}, tensors, "G202", "pad_token_id is 18")
        self.refused(card | {"pad_token_id": None}, tensors, "G202", "pad_token_id")

    @pytest.mark.parametrize("types", [1, 2])
    def test_pairs_have_no_segments(self, types: int) -> None:
        """Its tokenizers give none, so that every token's type is 0."""
        model, card, tensors = tiny(self.family.config(Shape(token_types=types)))
        job = job_of(card, tensors, pair=True)
        assert [v.name for v in job.model.main.inputs] == ["ids", "mask"]
        assert_parity(job, model, tensors=tensors, lengths=[[4, 2]])

    def test_a_pooler_is_not_read(self) -> None:
        model, card, tensors = model_of(self.family)
        pooler = {
            "roberta.pooler.dense.weight": torch.zeros(15, 15),
            "roberta.pooler.dense.bias": torch.zeros(15),
        }
        job = job_of(card, tensors | pooler)
        assert {u.key for u in job.model.unused} == set(pooler)
        assert_parity(job, model, tensors=tensors | pooler, lengths=[[4, 2]])
