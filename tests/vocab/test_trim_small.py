"""Every text of a few letters, for 900 tokenizers made at random.

Small alphabets make what is rare in language common: overlapping pieces, equal scores,
merges in odd orders, letters that are no token.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer

from generator.vocab import closure, parse, trim

TEXTS = [
    "".join(letters)
    for n in range(1, 6)
    for letters in itertools.product("abcd", repeat=n)
]


def tokenizer_of(model: dict[str, Any]) -> bytes:
    value = {"version": "1.0", "added_tokens": [], "model": model}
    return json.dumps(value).encode()


def pieces(rng: random.Random, letters: str, count: int) -> list[str]:
    """Letters, and some longer strings of the four letters of the texts."""
    longer = {
        "".join(rng.choices("abcd", k=rng.randint(2, 4))) for _ in range(count)
    }  # fmt: skip
    return [*letters, *sorted(longer, key=lambda _: rng.random())]


def wordpiece(rng: random.Random, letters: str) -> dict[str, Any]:
    found = [p for p in pieces(rng, letters, 9) if set(p) <= set(letters)]
    found += ["##" + p for p in found if len(p) == 1 or rng.random() < 0.7]
    vocab = {p: i for i, p in enumerate(["[UNK]", *found])}
    return {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 4,
        "vocab": vocab,
    }


def bpe(rng: random.Random, letters: str) -> dict[str, Any]:
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if rng.random() < 0.3 else []
    tokens = ["<unk>", *bytes_, *letters]
    made = list(letters)
    merges: list[list[str]] = []
    for _ in range(14):
        left, right = rng.choice(made), rng.choice(made)
        if len(left + right) < 5 and [left, right] not in merges:
            merges.append([left, right])
            made.append(left + right)
    rng.shuffle(merges)
    tokens += dict.fromkeys(made[len(letters) :])
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": rng.choice(["<unk>", None]),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": rng.random() < 0.5,
        "byte_fallback": bool(bytes_),
        "ignore_merges": rng.random() < 0.3,
        "vocab": {t: i for i, t in enumerate(dict.fromkeys(tokens))},
        "merges": merges,
    }


def unigram(rng: random.Random, letters: str) -> dict[str, Any]:
    found = [p for p in pieces(rng, letters, 12) if len(p) > 1 or rng.random() < 0.8]
    scores = [-float(rng.randint(1, 40)) / rng.choice([1, 3]) for _ in found]
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if rng.random() < 0.3 else []
    vocab = [
        ["<unk>", 0.0],
        *zip(found, scores, strict=True),
        *((b, 0.0) for b in bytes_),
    ]
    return {
        "type": "Unigram",
        "unk_id": 0,
        "byte_fallback": bool(bytes_),
        "vocab": [list(p) for p in vocab],
    }


@pytest.mark.parametrize("letters", ["abcd", "abc"], ids=["known", "one-unknown"])
@pytest.mark.parametrize("make", [wordpiece, bpe, unigram])
def test_every_text_of_kept_tokens_is_the_same(make, letters):
    rng = random.Random(letters)
    compared = 0
    for _ in range(150):
        data = tokenizer_of(make(rng, letters))
        vocabulary = parse(data)
        some = rng.sample(sorted(vocabulary.tokens), rng.randint(0, 8))
        kept = closure(vocabulary, some)
        small = Tokenizer.from_str(trim(data, kept).decode())
        compared += agree(Tokenizer.from_str(data.decode()), small, kept)
    assert compared > 10_000


def agree(old: Any, new: Any, kept: Sequence[int]) -> int:
    allowed, compared = set(kept), 0
    both = zip(TEXTS, old.encode_batch(TEXTS), new.encode_batch(TEXTS), strict=True)
    for text, before, after in both:
        if allowed.issuperset(before.ids):
            compared += 1
            assert before.ids == [kept[i] for i in after.ids], text
            assert before.offsets == after.offsets
    return compared


def test_a_word_that_is_unknown_may_become_known():
    """The one case that is let be: see the docstring of generator.vocab."""
    vocab = {"[UNK]": 0, "a": 1, "ab": 2, "b": 3, "##b": 4, "##bc": 5}
    data = tokenizer_of(
        {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        }
    )
    kept = closure(parse(data), [5])
    assert kept == (0, 1, 3, 4, 5)
    new = Tokenizer.from_str(trim(data, kept).decode())
    assert Tokenizer.from_str(data.decode()).encode("abc").tokens == ["[UNK]"]
    assert new.encode("abc").tokens == ["a", "##bc"]
