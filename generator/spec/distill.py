"""The keys of [train.distill]: what a model learns from another one."""

from __future__ import annotations

from dataclasses import dataclass, field

from generator.spec.key import about
from generator.spec.rules import SPEC_FILE


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Training learns from a teacher beside the labels: from the model of another job, as
    trained, which says of each training row how likely every label is. None unless named.
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
