"""DistilBERT against transformers."""

from __future__ import annotations

import pytest

from tests.archs.encoders import EncoderTests, Family, Shape, model_of
from tests.oracle import assert_parity, job_of, tiny


class TestDistilBert(EncoderTests):
    family = Family(
        "distilbert",
        label="classifier",
        pool="pre_classifier",
        pooler=False,
        segments=False,
        others=(
            "DistilBertModel",
            "DistilBertForMaskedLM",
            "DistilBertForTokenClassification",
            "DistilBertForQuestionAnswering",
            "DistilBertForMultipleChoice",
        ),
        variants=({}, {"sinusoidal_pos_embds": True}, {"pad_token_id": None}),
        harmless={
            "attention_dropout": 0.5,
            "qa_dropout": 0.7,
            "chunk_size_feed_forward": 1,
            "tie_word_embeddings": False,
        },
        unsupported={"position_embedding_type": "relative_key", "is_decoder": True},
        names={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
        },
        dropouts=("dropout", "seq_classif_dropout"),
    )

    def test_other_names_of_sizes(self) -> None:
        """transformers takes these names as well as its own for this architecture."""
        model, card, tensors = model_of(self.family)
        renamed = {
            "dim": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
        }
        other = {renamed.get(k, k): v for k, v in card.items()}
        assert "dim" not in other
        theirs = type(self.family.config())(**other)
        assert (theirs.dim, theirs.n_layers, theirs.n_heads) == (15, 2, 3)
        job = job_of(other, tensors)
        assert job == job_of(card, tensors)
        assert_parity(job, model, tensors=tensors, lengths=[[4, 2]])

    def test_two_names_that_disagree(self) -> None:
        _, card, tensors = model_of(self.family)
        assert job_of(card | {"hidden_size": 15}, tensors) == job_of(card, tensors)
        both = card | {"hidden_size": 30}
        self.refused(both, tensors, "G202", "hidden_size and dim", "30", "15")

    @pytest.mark.parametrize("pair", [False, True])
    def test_there_are_no_segments(self, pair: bool) -> None:
        model, card, tensors = tiny(self.family.config(Shape(blocks=1)))
        job = job_of(card, tensors, pair=pair)
        assert [v.name for v in job.model.main.inputs] == ["ids", "mask"]
        assert_parity(job, model, tensors=tensors, lengths=[[4, 2]])
