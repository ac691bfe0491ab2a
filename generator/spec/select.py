"""The keys of [features.select]: which of the numbers that feed the head stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from generator.spec.key import about

By = Literal["variance", "mutual-information", "anova", "l1", "correlation"]


@dataclass(frozen=True, kw_only=True)
class Select:
    """Which of the numbers of a row's vector the head reads: the best by a score of the
    training rows, before any training. `gen calibrate SPEC` works the scores out."""

    by: By | None = field(
        default=None,
        metadata=about(
            'What the score is: the "variance" of a number over the rows; its '
            '"mutual-information" with the label; F of an analysis of variance, "anova", '
            'which of targets is F of a correlation; "l1", when a lasso takes it up, the '
            'first ones first; or "correlation", by which of two numbers that say the '
            "same the one with the smaller F goes, the most alike first.",
            "anova",
            spellings={
                "mutual_info": "mutual-information",
                "mi": "mutual-information",
                "f": "anova",
                "f_classif": "anova",
                "lasso": "l1",
                "correlated": "correlation",
            },
            also="score method criterion",
        ),
    )
    keep: int | float | None = field(
        default=None,
        metadata=about(
            "How many stay: a number from 1 on, or a part below 1.",
            128,
            above=0,
            at_most=1048576,
            also="k n number top fraction n_features n_features_to_select",
        ),
    )
