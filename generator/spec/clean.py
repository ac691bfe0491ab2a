"""The keys of [data.clean]: what is done to rows before they are used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from generator.spec.key import (
    IMAGE_TASKS,
    LABEL_TASKS,
    LARGEST,
    TASKS,
    TEXT_TASKS,
    about,
)
from generator.spec.rules import LABEL, LANGUAGE, MASK, MISSING


@dataclass(frozen=True, kw_only=True)
class Clean:
    """What is done to rows before they are used; everything is off unless asked for.

    Texts are rewritten in the order of these keys, over and over until nothing changes, and
    images once, the same in training and in prediction. Every rewrite is counted in
    cleaning.json of the work folder, with examples, and every row that leaves is in
    quarantine.jsonl with its reason.
    """

    unicode: Literal["off", "NFC", "NFKC"] = field(
        default="off",
        metadata=about(
            "The normal form of Unicode: NFC writes the same characters in one way, NFKC "
            "also what only looks different, such as full-width letters and ligatures.",
            "NFC",
            tasks=TEXT_TASKS,
            spellings={"nfc": "NFC", "nfkc": "NFKC", "none": "off"},
            also="normalize normalise normalization unicode_form",
        ),
    )
    invisible: bool = field(
        default=False,
        metadata=about(
            "Whether control and format characters go that nobody sees: zero-width "
            "spaces, marks of direction, soft hyphens, tags. Joiners stay where they "
            "belong, in emoji and in scripts from Arabic on.",
            True,
            tasks=TEXT_TASKS,
            also="zero_width control_characters bidi",
        ),
    )
    html: bool = field(
        default=False,
        metadata=about(
            "Whether HTML becomes text: entities are written out; tags of HTML, comments, "
            "scripts and styles go, those that part lines for a space.",
            True,
            tasks=TEXT_TASKS,
            also="strip_html tags entities unescape",
        ),
    )
    mask: tuple[str, ...] = field(
        default=(),
        metadata=about(
            'What is replaced by its own name: any of "url", "email" and "number", in '
            "this order. A number is one that stands alone.",
            ["url", "email"],
            rule=MASK,
            few=dict.fromkeys(TASKS, 0),
            tasks=TEXT_TASKS,
            also="masks replace anonymise anonymize redact",
        ),
    )
    case: Literal["off", "lower"] = field(
        default="off",
        metadata=about(
            "Whether letters become small ones. What the tokenizer does of itself is not "
            "touched.",
            "lower",
            tasks=TEXT_TASKS,
            spellings={"none": "off", "lowercase": "lower", "true": "lower"},
            also="lowercase lower do_lower_case",
        ),
    )
    whitespace: bool = field(
        default=False,
        metadata=about(
            "Whether runs of white space become one space, and go at both ends.",
            True,
            tasks=TEXT_TASKS,
            also="strip collapse_whitespace spaces",
        ),
    )
    missing: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Texts that stand for none, as the file has them but for white space around "
            "them: such rows are put aside, as blank ones always are. In columns of "
            "[features] they are gaps.",
            ["NA", "n/a"],
            rule=MISSING,
            few=dict.fromkeys(TASKS, 0),
            tasks=TEXT_TASKS,
            also="na_values na null nan missing_values",
        ),
    )
    labels: tuple[tuple[str, tuple[str, ...]], ...] = field(
        default=(),
        metadata=about(
            "Other ways in which files write a label, for each that has any.",
            {"negative": ["neg", "NEGATIVE "]},
            rule=LABEL,
            tasks=LABEL_TASKS,
            also="aliases label_aliases label_map mapping",
        ),
    )
    languages: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Rows of a data file whose text is rather in another language than these are "
            "put aside, by py3langid. A text too short to tell stays, and prediction "
            "answers all. Where it is left out all languages stay.",
            ["en"],
            rule=LANGUAGE,
            few=dict.fromkeys(TASKS, 0),
            single=True,
            tasks=TEXT_TASKS,
            also="language lang langs language_filter",
        ),
    )
    min_chars: int = field(
        default=0,
        metadata=about(
            "Rows of a data file with a text that is shorter once it is clean are put "
            "aside. Prediction answers them.",
            3,
            unit="characters",
            at_least=0,
            at_most=LARGEST,
            tasks=TEXT_TASKS,
            also="min_length minimum_length",
        ),
    )
    max_chars: int | None = field(
        default=None,
        metadata=about(
            "The same of longer texts. Where it is left out there is no limit.",
            20000,
            unit="characters",
            at_least=1,
            at_most=LARGEST,
            tasks=TEXT_TASKS,
            also="maximum_length",
        ),
    )
    min_tokens: int = field(
        default=0,
        metadata=about(
            "Rows of a data file with fewer tokens are put aside, special tokens included.",
            5,
            unit="tokens",
            at_least=0,
            at_most=1048576,
            tasks=TEXT_TASKS,
            also="minimum_tokens",
        ),
    )
    too_long: Literal["cut", "quarantine"] = field(
        default="cut",
        metadata=about(
            "What becomes of rows of a data file with more tokens than max_tokens of "
            "[data]. Prediction always cuts.",
            "quarantine",
            tasks=TEXT_TASKS,
            spellings={"truncate": "cut", "drop": "quarantine"},
            also="truncation truncate overflow",
        ),
    )
    duplicates: Literal["off", "exact", "near"] = field(
        default="off",
        metadata=about(
            'With "exact", of training rows with the same input and the same label the '
            "first alone stays. Texts that differ in white space alone are the same, and "
            "columns of [features] are of the input. Texts that the validation or the test "
            'has as well leave the training rows in any case. With "near" this is also so of '
            "texts that are nearly the same: of their runs of five characters they share 80%.",
            "exact",
            spellings={"none": "off", "drop": "exact"},
            also="deduplicate dedup drop_duplicates",
        ),
    )
    levels: bool = field(
        default=False,
        metadata=about(
            "Whether grey images of 16 bits are scaled to 8. Otherwise what is brighter "
            "than 255 is white, as it is to transformers. Images of 32 bits, whose range "
            "nobody knows, are then put aside.",
            True,
            tasks=IMAGE_TASKS,
            also="bits bit_depth depth sixteen_bit",
        ),
    )
    alpha: Literal["off", "white"] = field(
        default="off",
        metadata=about(
            "What shows through where an image is transparent. Otherwise it has the colour "
            "that the file has there unseen, as it has to transformers.",
            "white",
            tasks=IMAGE_TASKS,
            spellings={"none": "off", "true": "white"},
            also="transparency transparent background",
        ),
    )
    min_pixels: int = field(
        default=0,
        metadata=about(
            "Rows of a data file with an image of fewer pixels, height times width, are "
            "put aside. Prediction answers them.",
            64,
            unit="pixels",
            at_least=0,
            at_most=LARGEST,
            tasks=IMAGE_TASKS,
            also="min_size minimum_size min_resolution",
        ),
    )
    max_pixels: int | None = field(
        default=None,
        metadata=about(
            "The same of larger images, by what the file says ahead of its pixels, so that "
            "none is unpacked that is too large. Where it is left out there is no limit.",
            50000000,
            unit="pixels",
            at_least=1,
            at_most=LARGEST,
            tasks=IMAGE_TASKS,
            also="max_size maximum_size max_resolution",
        ),
    )
