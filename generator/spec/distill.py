"""The keys of [train.distill]: what a model learns from another one."""

from __future__ import annotations

from dataclasses import dataclass, field

from generator.spec.key import about
from generator.spec.rules import SPEC_FILE


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Training learns from a teacher beside the labels: from the model of another job, as
    trained, which says of each training row how likely every label is. None unless named.
    What its blocks give inside can be learned too, by `hidden` and `attention`.
    """

    teacher: str | None = field(
        default=None,
        metadata=about(
            "The spec of the teacher's job, from the folder of this one. It reads the same "
            "rows: the same columns by the same tokenizer, of the same labels.",
            "movie_sentiment.toml",
            rule=SPEC_FILE,
            also="teacher_model teacher_spec from",
        ),
    )
    weight: float = field(
        default=0.5,
        metadata=about(
            "The part of the loss that is the teacher's: how far the model's answer is from "
            "its answer. The rest is the loss of the labels.",
            0.9,
            above=0,
            at_most=1,
            also="alpha distill_weight kd_weight",
        ),
    )
    temperature: float = field(
        default=2.0,
        metadata=about(
            "What the outputs of both are divided by before they are compared: above 1, "
            "what the teacher holds of unlikely labels counts more.",
            4.0,
            at_least=0.01,
            at_most=1000,
            also="t tau kd_temperature",
        ),
    )
    hidden: float = field(
        default=0.0,
        metadata=about(
            "The weight of a loss beside those two: the squared distance of the hidden "
            "states that blocks give from those of the teacher's blocks (TinyBERT), through "
            "a learned projection where the widths differ. 0 is none.",
            1.0,
            at_least=0,
            at_most=1000,
            also="hidden_weight beta hidden_states",
        ),
    )
    attention: float = field(
        default=0.0,
        metadata=about(
            "The weight of another one, of the last pair of `layers`: how far the relations "
            "of its queries, of its keys and of its values are from the teacher's (MiniLMv2). "
            "Queries count where both have one for every token. 0 is none.",
            1.0,
            at_least=0,
            at_most=1000,
            also="attention_weight relations attention_relations",
        ),
    )
    layers: tuple[tuple[int, int], ...] | None = field(
        default=None,
        metadata=about(
            "Which blocks are compared, from 0: pairs of one of this job and one of the "
            "teacher, both ascending. Unless given, the blocks that `keep-layers` has left "
            "of the teacher's own with those they come from, and else evenly: the last with "
            "the last.",
            [[0, 1], [1, 3], [2, 5]],
            at_least=0,
            at_most=100_000,
            also="layer_map mapping layer_mapping",
        ),
    )
    relation_heads: int | None = field(
        default=None,
        metadata=about(
            "Into how many parts queries, keys and values are cut for their relations, "
            "whatever heads the blocks have. Unless given, as many as the teacher's block "
            "has heads, or the most that divide those and every width.",
            48,
            at_least=1,
            at_most=100_000,
            also="num_relation_heads",
        ),
    )
