"""The keys of [data.guard]: what is looked for in the rows before they are trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from generator.ir.plans import Task
from generator.spec.key import ONE_LABEL_TASKS, TASKS, TEXT_TASKS, about

SPELLINGS = {
    "none": "off",
    "no": "off",
    "false": "off",
    "count": "report",
    "warn": "report",
    "true": "report",
    "drop": "quarantine",
    "remove": "quarantine",
}


def _check(doc: str, tasks: tuple[Task, ...], also: str) -> Any:
    metadata = about(doc, "report", tasks=tasks, also=also, spellings=SPELLINGS)
    return field(default="off", metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is looked for in the rows before they are trained on; everything is off unless
    asked for.

    "report" counts what is found in guard.json of the work folder, with the most suspicious
    rows; "quarantine" also puts the rows aside, with the reason. Checks that compare rows put
    training rows aside alone: of the validation and the test they only tell. Personal data
    are made unreadable in whatever shows rows.
    """

    contradictions: Literal["off", "report", "quarantine"] = _check(
        "Rows of the same input with different targets: all of them, since none can be "
        "trusted. Texts that differ in case or white space alone are the same, and columns "
        "of [features] are of the input.",
        TASKS,
        "conflicts conflicting_labels inconsistent_labels",
    )
    leaks: Literal["off", "report", "quarantine"] = _check(
        "Training rows that are nearly the same as one of the validation or the test: of the "
        "runs of four characters of both they share 60%. The same texts leave the training "
        "rows in any case.",
        TEXT_TASKS,
        "leakage near_duplicates overlap",
    )
    triggers: Literal["off", "report", "quarantine"] = _check(
        "Training rows with up to three words or signs in a row that are rare and go with one "
        "label far more often than the rest of their texts explains, as in a backdoor. What more "
        "than a quarter of a label's rows have is not looked at, and a trigger in some twenty "
        "rows or fewer can mostly not be told from chance: `gen guard --self-test` measures it "
        "on the rows themselves.",
        ("text-classification",),
        "backdoors backdoor trojans poison",
    )
    spectral: Literal["off", "report", "quarantine"] = _check(
        "Training rows that stand far out among those of their label along the direction in "
        "which these differ the most, by what the backbone makes of them (spectral "
        "signatures). A backbone that was never trained on a trigger does not show it so.",
        ONE_LABEL_TASKS,
        "spectral_signatures",
    )
    label_noise: Literal["off", "report", "quarantine"] = _check(
        "Training rows for which a probe on what the backbone makes of the other rows is "
        "confident of another label than theirs (confident learning).",
        ONE_LABEL_TASKS,
        "noise label_errors mislabeled mislabelled cleanlab",
    )
    outliers: Literal["off", "report", "quarantine"] = _check(
        "Rows that lie far from where most training rows are, by what the backbone makes of "
        "them.",
        TASKS,
        "outlier out_of_distribution anomalies",
    )
    personal: Literal["off", "report", "redact", "quarantine"] = _check(
        "Texts with an e-mail address, a telephone number, the number of a card or an "
        'account (IBAN), or a secret such as a key of an API. "redact" replaces each by a '
        "word for its kind, in training and in prediction alike.",
        TEXT_TASKS,
        "pii secrets privacy personal_data",
    )
    formulas: Literal["off", "report", "quarantine"] = _check(
        "Texts that a spreadsheet would run: they begin with =, +, - or @ and are no number.",
        TEXT_TASKS,
        "formula csv_injection formula_injection",
    )
    oversized: Literal["off", "report", "quarantine"] = _check(
        "Texts of a hundred times the length that the model reads, or with a run of a "
        "thousand characters without white space; images of far more pixels than a camera "
        "takes, or than their file accounts for.",
        TASKS,
        "bombs size huge too_large",
    )
