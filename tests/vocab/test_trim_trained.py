"""Texts of kept tokens have the same tokens, for real and trained tokenizers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from generator.runtime.vocab import used_tokens
from generator.vocab import Vocabulary, closure, parse, trim

ODD = (
    "", " ", "\t\n", "naïve café", "東京は晴れ", "😀👨‍👩‍👧", "\u0301", "zero\u200bwidth",
    "Ǆ İstanbul", "\x01\x7f", "x" * 300, "a<s>b</s> <mask> [MASK] <|begin|> <unk> [UNK]",
    "<0x41> ##ing ▁the Ġthe </w>", "moviegoers unmoviegoers", "\U0010ffff \ufffd",
)  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(tokenizer_json: bytes) -> Vocabulary:
    return parse(tokenizer_json)


@pytest.fixture(scope="module")
def used(tokenizer_json: bytes, train: Sequence[str]) -> list[int]:
    return sorted(used_tokens(tokenizer_json, train[:3000]))


def read(data: bytes) -> Any:
    return Tokenizer.from_str(data.decode())


def seen(encoding: Any, ids: Sequence[int]) -> tuple[Any, ...]:
    """All that a package reads of a row, with the ids that are given for its own."""
    return (
        list(ids),
        encoding.tokens,
        encoding.type_ids,
        encoding.attention_mask,
        encoding.special_tokens_mask,
        encoding.offsets,
    )


def assert_same(old: Any, new: Any, kept: Sequence[int], texts: Sequence[Any]) -> int:
    """Rows of kept tokens are the same; how many there were."""
    whole, allowed = 0, set(kept)
    for text in texts:
        pair = text if isinstance(text, tuple) else (text,)
        before = old.encode(*pair)
        parts = [before, *before.overflowing]
        if not all(allowed.issuperset(part.ids) for part in parts):
            continue
        whole += 1
        after = new.encode(*pair)
        now = [after, *after.overflowing]
        assert [seen(p, p.ids) for p in parts] == [
            seen(p, [kept[i] for i in p.ids]) for p in now
        ], text
    return whole


def made_up(old: Any, kept: Sequence[int], rng: random.Random, count: int) -> list[str]:
    """Texts that kept tokens are written as; tokenising may give others."""
    return [
        old.decode(rng.choices(kept, k=rng.randint(1, 8)), skip_special_tokens=False)
        for _ in range(count)
    ]


def test_what_the_training_rows_use_is_enough_for_them(
    tokenizer_json, vocabulary, used, train, test
):
    kept = closure(vocabulary, used)
    assert len(kept) < len(vocabulary.tokens)
    old, new = read(tokenizer_json), read(trim(tokenizer_json, kept))
    for tokenizer in (old, new):
        tokenizer.no_truncation()
    assert assert_same(old, new, kept, train[:3000]) == 3000
    assert assert_same(old, new, kept, test) > 300


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9, 0.98])
def test_texts_of_kept_tokens_are_the_same(
    tokenizer_json, vocabulary, used, train, test, share
):
    rng = random.Random(str(share))
    kept = closure(vocabulary, rng.sample(used, int(len(used) * share)))
    old, new = read(tokenizer_json), read(trim(tokenizer_json, kept))
    words = [word for text in test for word in text.split()]
    phrases = [" ".join(rng.choices(words, k=rng.randint(1, 6))) for _ in range(2000)]
    texts = [*test, *phrases, *words[:2000], *made_up(old, kept, rng, 3000), *ODD]
    assert assert_same(old, new, kept, texts) > 1000
    pairs = list(zip(texts[-2500:], reversed(texts[-2500:]), strict=True))
    assert assert_same(old, new, kept, pairs) > 50


def test_cutting_and_padding_are_the_same(tokenizer_json, vocabulary, used, train):
    kept = closure(vocabulary, used)
    new_json = trim(tokenizer_json, kept)
    old, new = read(tokenizer_json), read(new_json)
    assert old.padding is None or new.padding == {
        **old.padding,
        "pad_id": kept.index(old.padding["pad_id"]),
    }
    assert old.truncation == new.truncation
    texts = [*train[:20], "short"]
    for length in (None, 5, 40):
        for tokenizer in (old, new):
            if length is not None:
                tokenizer.enable_truncation(length, stride=1)
        before, after = old.encode_batch(texts), new.encode_batch(texts)
        assert [seen(e, e.ids) for e in before] == [
            seen(e, [kept[i] for i in e.ids]) for e in after
        ]


def test_the_file_is_read_as_it_is_written(tokenizer_json, vocabulary, used):
    kept = closure(vocabulary, used)
    data = trim(tokenizer_json, kept)
    assert data == trim(tokenizer_json, list(kept))
    small = parse(data)
    assert small.kind == vocabulary.kind
    assert list(small.tokens) == list(range(len(kept)))
    assert list(small.tokens.values()) == [vocabulary.tokens[i] for i in kept]
    tokenizer = read(data)
    assert tokenizer.get_vocab() == {t: i for i, t in small.tokens.items()}
    # It is as small as it can be, and cut again it stays as it is.
    assert closure(small, [kept.index(i) for i in used]) == tuple(small.tokens)
    assert trim(data, tuple(small.tokens)) == data
    # Nothing but the vocabulary changes.
    before, after = json.loads(tokenizer_json), json.loads(data)
    for key in before.keys() - {"model", "added_tokens", "post_processor", "padding"}:
        assert before[key] == after[key]


def test_with_everything_kept_nothing_changes(tokenizer_json, vocabulary):
    everything = closure(vocabulary, vocabulary.tokens)
    assert everything == tuple(vocabulary.tokens)
    assert json.loads(trim(tokenizer_json, everything)) == json.loads(tokenizer_json)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_has_kept_tokens(smallest, text):
    """Of an empty job, with what is kept in any case."""
    old, new, kept, vocabulary = smallest
    before, after = old.encode(text), new.encode(text)
    assert all(i < len(kept) for i in after.ids)
    assert_same(old, new, kept, [text])
    if vocabulary.kind != "wordpiece":  # no word becomes unknown for want of pieces
        unknown = vocabulary.unknown
        now = [kept[i] for i in after.ids]
        assert (unknown in now) == (unknown in before.ids)


@pytest.fixture(scope="module")
def smallest(tokenizer_json, vocabulary):
    kept = closure(vocabulary, ())
    new = read(trim(tokenizer_json, kept))
    return read(tokenizer_json), new, kept, vocabulary
