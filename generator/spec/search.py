"""The keys of [search] and of [[search.vary]]: what `gen search` tries, and for what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from generator.spec.key import LARGEST, TASKS, TEXT_TASKS, about
from generator.spec.rules import CONSTRAINT, KEY, OBJECTIVE, SPEC_FILE, STORAGE

Space = Literal["all", "structure", "recipe", "deploy", "none"]
Sampler = Literal["tpe", "nsga2", "random"]

ANY = dict.fromkeys(TASKS, 0)  # the fewest items of a list


@dataclass(frozen=True, kw_only=True)
class Vary:
    """A key of the spec that is varied, beside what `space` has ready: within a range or
    among choices, which may be whole lists."""

    key: str = field(
        metadata=about(
            'The key by its path, as in "train.lr". That of an edit is written with what '
            'the edit does, as in "prune-ffn.keep": of the spec\'s own edit, or of one that '
            'joins them; or with its place, as in "edit[0].keep". "edit" is the whole list '
            "of edits.",
            "train.lr",
            rule=KEY,
            required=TASKS,
            also="path name parameter",
        )
    )
    low: int | float | None = field(
        default=None,
        metadata=about(
            "The least value.",
            1e-5,
            at_least=-LARGEST,
            at_most=LARGEST,
            also="min minimum from start",
        ),
    )
    high: int | float | None = field(
        default=None,
        metadata=about(
            "The largest value.",
            2e-4,
            at_least=-LARGEST,
            at_most=LARGEST,
            also="max maximum to stop end",
        ),
    )
    log: bool = field(
        default=False,
        metadata=about(
            "Whether ten times as much is as far as a tenth.",
            True,
            also="log_scale logarithmic",
        ),
    )
    step: int | float | None = field(
        default=None,
        metadata=about(
            "What lies between two values.",
            0.05,
            above=0,
            at_most=LARGEST,
            also="q grid by",
        ),
    )
    choices: tuple[Any, ...] = field(
        default=(),
        metadata=about(
            "The values, instead of a range: whatever the key takes. Of an edit's key "
            '"off" is that there is no such edit, as is a `keep` of 1.',
            [16, 32, 64],
            few=dict.fromkeys(TASKS, 1),
            also="values options categorical among",
        ),
    )
    when: tuple[tuple[str, Any], ...] = field(
        default=(),
        metadata=about(
            "Other keys that vary, with the value that each must have for this one to be "
            "varied; else it stays as the spec has it.",
            {"train.schedule": "cosine"},
            also="if condition only_if depends",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Search:
    """What `gen search` varies, measures and stops at. It is no part of the package."""

    objectives: tuple[str, ...] = field(
        default=("metric", "latency"),
        metadata=about(
            'What is to be best: "metric" is the score on the validation rows; "latency" '
            'the milliseconds of a batch, "throughput" the validation rows predicted a '
            'second, and "memory" what predicting a batch as long as rows get takes beside '
            'the libraries, all measured; "parameters"; "disk" the size of the weights; '
            '"training_time" in seconds.',
            ["metric", "latency"],
            rule=OBJECTIVE,
            few=dict.fromkeys(TASKS, 1),
            also="goals targets metrics optimize optimise",
        ),
    )
    constraints: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "What must hold of a point of the front: an objective, <= or >=, and a number "
            'with its unit, or "unedited" for what the spec gives without its edits, '
            "perhaps with a number more, less or times. What breaks one before any "
            "training is not trained.",
            ["metric >= unedited - 0.01", "latency <= 5 ms"],
            rule=CONSTRAINT,
            few=ANY,
            also="limits bounds subject_to requirements",
        ),
    )
    latency_batch: int = field(
        default=1,
        metadata=about(
            "Rows of the batch whose latency is measured.",
            8,
            unit="rows",
            at_least=1,
            at_most=65536,
            also="latency_batch_size",
        ),
    )
    latency_tokens: int = field(
        default=64,
        metadata=about(
            "The length of its rows, at most `max_tokens`.",
            128,
            unit="tokens",
            at_least=1,
            at_most=1048576,
            tasks=TEXT_TASKS,
            also="latency_length",
        ),
    )
    space: Space = field(
        default="all",
        metadata=about(
            'What is varied without being named: "structure" removes blocks, heads and '
            'neurons, or lowers the rank of the feed-forwards or the width; "recipe" is how '
            'it is trained; "deploy" how it is stored and computed where it predicts; '
            '"none" leaves all to [[search.vary]].',
            "structure",
            also="spaces preset search_space",
        ),
    )
    sampler: Sampler = field(
        default="tpe",
        metadata=about(
            "How the next candidates are chosen from what the earlier ones gave.",
            "nsga2",
            spellings={"nsga": "nsga2", "nsga-ii": "nsga2", "nsgaii": "nsga2"},
            also="algorithm optimizer strategy",
        ),
    )
    trials: int = field(
        default=40,
        metadata=about(
            "How many candidates are tried, beside the baselines.",
            100,
            at_least=0,
            at_most=1000000,
            also="n_trials max_trials budget iterations",
        ),
    )
    hours: float | None = field(
        default=None,
        metadata=about(
            "How long all of it takes, the test of the front too: no trial is begun that "
            "leaves too little time for that, and of points and seeds there are as many as "
            "the time is enough for. What runs then ends, and one point is always tested.",
            0.5,
            unit="hours",
            above=0,
            at_most=10000,
            also="time timeout time_budget max_hours",
        ),
    )
    rungs: tuple[float, ...] = field(
        default=(0.25, 1.0),
        metadata=about(
            "Parts of the training rows that a candidate is trained on, one after the "
            "other: whatever is not among the better half goes no further. In a search of "
            "a dozen trials nearly all are, and [1.0] is less work.",
            [0.1, 0.3, 1.0],
            above=0,
            at_most=1,
            few=dict.fromkeys(TASKS, 1),
            also="fidelities budgets halving fractions",
        ),
    )
    seed: int = field(
        default=0,
        metadata=about(
            "Decides which candidates are tried.",
            1,
            at_least=0,
            at_most=LARGEST,
            also="random_seed random_state",
        ),
    )
    seeds: int = field(
        default=3,
        metadata=about(
            "How often each point of the front is trained in all, before it is tested, as "
            "far as `hours` allow.",
            5,
            at_least=1,
            at_most=1000,
            also="repeats n_seeds repetitions",
        ),
    )
    points: int = field(
        default=8,
        metadata=about(
            "How many points of the front are tested: the ends, and those that are "
            "furthest from each other.",
            4,
            at_least=1,
            at_most=1000,
            also="front max_points",
        ),
    )
    smaller: str | None = field(
        default=None,
        metadata=about(
            "The spec of a smaller model off the shelf, on the same rows, which is tried "
            "as it is beside the others.",
            "movie_tiny.toml",
            rule=SPEC_FILE,
            also="baseline small_model",
        ),
    )
    storage: str | None = field(
        default=None,
        metadata=about(
            "The database of the trials as a URL of SQLAlchemy's, for workers on several "
            "machines. Where it is left out, it is a file of SQLite in the work folder.",
            "postgresql+psycopg://me@host/searches",
            rule=STORAGE,
            also="database db url storage_url",
        ),
    )
    # Each under a header of its own, [[search.vary]].
    vary: tuple[Vary, ...] = ()
