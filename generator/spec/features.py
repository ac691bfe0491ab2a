"""The keys of [features]: what of a row goes into the head beside the backbone's vector."""

from __future__ import annotations

from dataclasses import dataclass, field

from generator.spec.key import TASKS, TEXT_TASKS, about
from generator.spec.rules import COLUMN, PATTERN, TRAIT
from generator.spec.select import Select

NONE = dict.fromkeys(TASKS, 0)  # the fewest items of a list


@dataclass(frozen=True, kw_only=True)
class Features:
    """What of a row goes into the head beside the backbone's vector; nothing by default."""

    numeric: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Columns of numbers. Each is standardised by mean and deviation of the "
            "training rows, and has a second number beside it, which is 1 where the "
            "value is missing; the first is then the mean.",
            ["price", "stars"],
            rule=COLUMN,
            few=NONE,
            also="numbers numerical continuous numeric_columns numeric_features",
        ),
    )
    categorical: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Columns of categories, which are those of the training rows. Each has a "
            "learned vector; one that is missing, or that the training rows do not have, "
            "is the unknown category. However a file writes it, a whole number is one: "
            '1, 1.0, "1" and "1.0" are the same, and so are true, "true" and "True".',
            ["shop"],
            rule=COLUMN,
            few=NONE,
            also="categories_columns cat_columns categorical_columns factors nominal",
        ),
    )
    dates: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Columns of dates, perhaps with a time, as ISO 8601 writes them. Each gives "
            "its year and the days since the earliest of the training rows, standardised; "
            "month, weekday and hour as sine and cosine; and a number that is 1 where it "
            "is missing.",
            ["written"],
            rule=COLUMN,
            few=NONE,
            also="date datetime timestamps time date_columns",
        ),
    )
    text: tuple[str, ...] = field(
        default=(),
        metadata=about(
            'Numbers of each text as it is used: any of the logarithm of its "length" in '
            'characters, and what part of them are "capitals", "digits" and '
            '"punctuation". They are standardised.',
            ["length", "capitals"],
            rule=TRAIT,
            few=NONE,
            tasks=TEXT_TASKS,
            also="traits statistics hand_made handmade text_features",
        ),
    )
    patterns: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Regular expressions that are counted in each text, as RE2 has them, whose "
            "time grows with the text alone: no looking ahead or back, no references to "
            "groups. The logarithm of the count, up to 1000, is standardised.",
            ["[?]", "[0-9]+ stars?"],
            rule=PATTERN,
            few=NONE,
            tasks=TEXT_TASKS,
            also="regex regexes regular_expressions pattern",
        ),
    )
    categories: int = field(
        default=100,
        metadata=about(
            "How many categories of a column have a vector of their own: those that the "
            "training rows have most often. The others are the unknown category.",
            50,
            unit="categories",
            at_least=1,
            at_most=1000000,
            also="max_categories cardinality vocabulary",
        ),
    )
    width: int = field(
        default=8,
        metadata=about(
            "The width of the vector of a category.",
            16,
            unit="channels",
            at_least=1,
            at_most=65536,
            also="embedding_dim embedding_size embedding_width",
        ),
    )
    hidden: int | None = field(
        default=None,
        metadata=about(
            "The width of a layer of their own, with a GELU, that all of them go through "
            "before they join the vector. Where it is left out they join it as they are.",
            32,
            unit="channels",
            at_least=1,
            at_most=1048576,
            also="hidden_size units mlp layer",
        ),
    )
    dropout: float = field(
        default=0.0,
        metadata=about(
            "Dropout behind that layer.",
            0.1,
            at_least=0,
            below=1,
            also="drop p dropout_rate",
        ),
    )
    # Under a header of its own, [features.select].
    select: Select = field(default_factory=Select)
