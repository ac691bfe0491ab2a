"""What [data.augment] of a spec may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from generator.spec.key import IMAGE_TASKS, TEXT_TASKS, about
from generator.spec.rules import DATA_FILE, WORD_FILE


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What training does to rows, afresh in every epoch; everything is off unless asked for.

    What becomes of a row follows from the seed, the epoch and its number alone. Validation,
    test and prediction see rows as they are. Texts are changed in the order of these keys.
    """

    paraphrases: str | None = field(
        default=None,
        metadata=about(
            "A file of other wordings of training texts: the column of the text, and a "
            'column "paraphrase" (in JSON lines also a list of them). A wording that the '
            "validation or the test has as a text is put aside, as is one of no "
            "training text.",
            "data/paraphrases.jsonl",
            rule=DATA_FILE,
            tasks=TEXT_TASKS,
            also="paraphrase_file back_translations",
        ),
    )
    paraphrase: float = field(
        default=0.0,
        metadata=about(
            "How often a row that has paraphrases is replaced by one of them.",
            0.5,
            at_least=0,
            at_most=1,
            tasks=TEXT_TASKS,
            also="paraphrase_probability back_translation",
        ),
    )
    synonyms: str | None = field(
        default=None,
        metadata=about(
            "A text file of words that stand for each other: a group on each line, with "
            "commas between them.",
            "data/synonyms.txt",
            rule=WORD_FILE,
            tasks=TEXT_TASKS,
            also="synonym_file thesaurus",
        ),
    )
    synonym_swap: float = field(
        default=0.0,
        metadata=about(
            "The part of the words with synonyms that one of them replaces. No row grows "
            "beyond max_tokens.",
            0.1,
            at_least=0,
            at_most=1,
            tasks=TEXT_TASKS,
            also="synonym_replacement swap_synonyms",
        ),
    )
    word_dropout: float = field(
        default=0.0,
        metadata=about(
            "The part of the words that is left out. A row keeps one at least.",
            0.1,
            at_least=0,
            below=1,
            tasks=TEXT_TASKS,
            also="token_dropout random_deletion delete_words",
        ),
    )
    span_mask: float = field(
        default=0.0,
        metadata=about(
            "The part of the tokens that the tokenizer's mask token hides, in spans.",
            0.15,
            at_least=0,
            at_most=0.9,
            tasks=TEXT_TASKS,
            also="mask_tokens token_masking span_masking",
        ),
    )
    span_tokens: int = field(
        default=3,
        metadata=about(
            "How long spans are on the average; the longest are ten times as long.",
            1,
            unit="tokens",
            at_least=1,
            at_most=100,
            tasks=TEXT_TASKS,
            also="span_length",
        ),
    )
    policy: Literal["off", "trivial", "rand"] = field(
        default="off",
        metadata=about(
            'How images are changed: "trivial" is TrivialAugment, one operation of any '
            'strength; "rand" is RandAugment, several of one strength.',
            "trivial",
            tasks=IMAGE_TASKS,
            spellings={
                "trivialaugment": "trivial",
                "trivial-augment": "trivial",
                "randaugment": "rand",
                "rand-augment": "rand",
                "none": "off",
            },
            also="auto_augment autoaugment aa trivial_augment rand_augment",
        ),
    )
    operations: int = field(
        default=2,
        metadata=about(
            'How many operations "rand" does to an image.',
            3,
            at_least=1,
            at_most=14,
            tasks=IMAGE_TASKS,
            also="num_ops num_operations",
        ),
    )
    magnitude: int = field(
        default=9,
        metadata=about(
            'How strong the operations of "rand" are.',
            7,
            at_least=0,
            at_most=30,
            tasks=IMAGE_TASKS,
            also="strength",
        ),
    )
    erase: float = field(
        default=0.0,
        metadata=about(
            "The part of the images in which a rectangle is erased (RandomErasing).",
            0.25,
            at_least=0,
            at_most=1,
            tasks=IMAGE_TASKS,
            also="random_erasing random_erase reprob cutout",
        ),
    )
    mixup: float = field(
        default=0.0,
        metadata=about(
            "Rows of a batch are mixed in pairs, inputs and targets, by a share from a "
            "beta distribution of this shape: of images the pixels, of texts the vectors "
            "that the last layer reads. 0 is off.",
            0.2,
            at_least=0,
            at_most=100,
            also="mixup_alpha mix_up",
        ),
    )
    cutmix: float = field(
        default=0.0,
        metadata=about(
            "The same, by pasting a rectangle of one image into the other (CutMix). With "
            "both, each batch has one of the two.",
            1.0,
            at_least=0,
            at_most=100,
            tasks=IMAGE_TASKS,
            also="cutmix_alpha cut_mix",
        ),
    )
