"""What is kept and why, what is refused, and what the real tokenizer comes to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from generator.errors import Diagnostic, GenError
from generator.importing import import_job
from generator.runtime.gather import load_facts
from generator.runtime.vocab import Span, compare, used_tokens
from generator.spec import read_spec
from generator.vocab import Merge, closure, parse, special_tokens, trim


def tokenizer(model: dict[str, Any], **other: Any) -> bytes:
    return json.dumps({"version": "1.0", "model": model, **other}).encode()


WORDS = ["[PAD]", "[UNK]", "a", "##a", "b", "ab", "##ab", "##abb", "abba"]
WORDPIECE = {
    "type": "WordPiece",
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
    "vocab": {word: i for i, word in enumerate(WORDS)},
}
BPE = {
    "type": "BPE",
    "unk_token": None,
    "vocab": {t: i for i, t in enumerate(["a", "b", "c", "ab", "bc", "abc", "abab"])},
    "merges": ["b c", "a b", "ab c", "a bc", "ab ab"],
}
UNIGRAM = {
    "type": "Unigram",
    "unk_id": 0,
    "vocab": [["<unk>", 0.0], ["a", -2.0], ["ab", -3.0], ["aba", -9.5], ["b", -2]],
}


def added(content: str, id: int) -> dict[str, Any]:
    return {
        "id": id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def refused(data: bytes) -> Diagnostic:
    with pytest.raises(GenError) as caught:
        parse(data, "x/tokenizer.json")
    (found,) = caught.value.diagnostics
    assert "x/tokenizer.json" in found.message
    assert found.help
    return found


class TestClosure:
    def test_wordpiece_keeps_characters_and_what_is_added(self):
        vocabulary = parse(tokenizer(WORDPIECE, added_tokens=[added("[PAD]", 0)]))
        assert (vocabulary.kind, vocabulary.unknown) == ("wordpiece", 1)
        assert closure(vocabulary, ()) == (0, 1, 2, 3, 4)
        assert closure(vocabulary, [7], ["abba"]) == (0, 1, 2, 3, 4, 7, 8)

    def test_bpe_keeps_every_part_of_a_part(self):
        vocabulary = parse(tokenizer(BPE))
        assert vocabulary.merges[3] == Merge(0, 4, 5)
        assert closure(vocabulary, [4]) == (0, 1, 2, 4)
        assert closure(vocabulary, [5]) == (0, 1, 2, 3, 4, 5)
        assert closure(vocabulary, (), ["abab"]) == (0, 1, 2, 3, 6)

    def test_the_parts_of_a_merge_with_a_prefix(self):
        model = {
            **BPE,
            "continuing_subword_prefix": "##",
            "vocab": {"a": 0, "##b": 1, "ab": 2, "x": 3},
            "merges": [["a", "##b"]],
        }
        assert parse(tokenizer(model)).merges == (Merge(0, 1, 2),)

    def test_unigram_keeps_the_lowest_score(self):
        assert closure(parse(tokenizer(UNIGRAM)), ()) == (0, 1, 3, 4)

    def test_bytes_are_kept_where_they_stand_for_the_rest(self):
        vocab = [["<unk>", 0.0], ["abc", -1.0], ["<0x0A>", -2.0], ["x", -3.0]]
        for fallback in (True, False):
            model = {**UNIGRAM, "vocab": vocab, "byte_fallback": fallback}
            kept = closure(parse(tokenizer(model)), ())
            assert kept == ((0, 2, 3) if fallback else (0, 3))

    def test_what_a_file_names_is_kept(self):
        template = {
            "type": "TemplateProcessing",
            "single": [],
            "pair": [],
            "special_tokens": {"x": {"id": "x", "ids": [5, 6], "tokens": ["ab", "c"]}},
        }
        bert = {"type": "BertProcessing", "sep": ["##abb", 7], "cls": ["abba", 8]}
        both = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, bert]}
        pad = {"strategy": "BatchLongest", "pad_id": 5, "pad_token": "ab"}
        for other, kept in (
            ({"post_processor": template}, (1, 2, 3, 4, 5, 6)),
            ({"post_processor": both}, (1, 2, 3, 4, 7, 8)),
            ({"padding": pad}, (1, 2, 3, 4, 5)),
        ):
            data = tokenizer(WORDPIECE, **other)
            assert closure(parse(data), ()) == kept
            small = json.loads(trim(data, kept))
            ids = small["model"]["vocab"]
            for text in ("ab", "c", "##abb", "abba"):
                old = WORDPIECE["vocab"].get(text)
                assert (text in ids) == (old in kept)
            if "padding" in other:
                assert small["padding"]["pad_id"] == ids["ab"]
            elif other["post_processor"] is both:
                inner = small["post_processor"]["processors"][1]
                assert inner["sep"] == ["##abb", ids["##abb"]]
                assert inner["cls"] == ["abba", ids["abba"]]
            else:
                token = small["post_processor"]["special_tokens"]["x"]
                assert token == {"id": "x", "ids": [4, 5], "tokens": ["ab", "c"]}

    def test_every_token_that_is_not_there_is_named(self):
        vocabulary = parse(tokenizer(WORDPIECE))
        with pytest.raises(GenError) as caught:
            closure(vocabulary, [3, 99], ["abbb", "a", "zzz", "abbb"])
        found = caught.value.diagnostics
        assert [d.code for d in found] == ["G144"] * 3
        assert "99" in found[0].message
        assert "abbb" in found[1].message
        assert 'did you mean "abba"' in found[1].help
        assert "did you mean" not in found[2].help


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "code", "words"),
        [
            (tokenizer({"type": "WordLevel", "vocab": {"a": 0}}), "G143", "WordLevel"),
            (tokenizer({"vocab": {"a": 0}, "unk_token": "a"}), "G143", "WordLevel"),
            (tokenizer({**BPE, "dropout": 0.1}), "G143", "dropout"),
            (tokenizer(BPE, post_processor={"type": "Odd"}), "G143", "post-processor"),
            (tokenizer(BPE, padding={"pad_id": 7}), "G143", "the id 7"),
            (tokenizer(BPE, added_tokens=[added("x", 9)]), "G143", "reads it as 7"),
            (tokenizer(BPE, added_tokens=[added("c", 7)]), "G143", "reads it as 2"),
            (tokenizer({**BPE, "vocab": {"a": 0, "b": 0}}), "G143", "two tokens"),
            (tokenizer({**UNIGRAM, "vocab": [["a", 0], ["a", 1]]}), "G143", "twice"),
            (tokenizer({**BPE, "merges": None}), "G141", "merges"),
            (tokenizer({**BPE, "merges": ["a b c"]}), "G141", "a b c"),
            (tokenizer({**BPE, "merges": ["c a"]}), "G141", "ca"),
            (tokenizer({**BPE, "vocab": ["a"]}), "G141", "vocab"),
            (tokenizer({**UNIGRAM, "vocab": {"a": 0}}), "G141", "vocab"),
            (tokenizer(BPE, padding={}), "G141", "padding"),
            (tokenizer(BPE, added_tokens=[{"id": 3}]), "G141", "added_tokens"),
            (b'{"model": []}', "G141", "model"),
            (b"{", "G111", "JSON"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_with_a_reason(self, data: bytes, code: str, words: str):
        found = refused(data)
        assert found.code == code
        assert words in found.message

    def test_files_of_old_do_not_say_their_kind(self):
        for model in (WORDPIECE, BPE, UNIGRAM):
            bare = {k: v for k, v in model.items() if k != "type"}
            assert parse(tokenizer(bare)) == parse(tokenizer(model))

    @pytest.mark.parametrize("kept", [(1, 2, 3), (1, 2, 4, 3), (1, 2, 3, 4, 4)])
    def test_ids_that_are_no_closure(self, kept: tuple[int, ...]):
        with pytest.raises(ValueError):
            trim(tokenizer(WORDPIECE), kept)


class TestTexts:
    def test_tokens_are_counted_whole_and_without_a_template(self, minilm_json):
        """The file cuts and pads to 128, and puts [CLS] and [SEP] around."""
        counts = used_tokens(minilm_json, (t for t in ["the film", "the " * 2000]))
        names = parse(minilm_json).tokens
        assert {names[i]: n for i, n in counts.items()} == {"the": 2001, "film": 1}

    def test_what_became_of_texts(self, minilm_json):
        vocabulary = parse(minilm_json)
        used = used_tokens(minilm_json, ["the movie is a delight"])
        new = trim(minilm_json, closure(vocabulary, used))
        texts = ["a movie", "the film is a film", "☃ is", "the delight"]
        found = compare(minilm_json, new, iter(texts), examples=1)
        assert (found.texts, found.whole, found.same) == (4, 3, 3)
        assert (found.broken, found.tokens, found.lost) == (0, 19, 2)
        assert (found.unknown_before, found.unknown_after) == (1, 1)
        (changed,) = found.changed
        assert changed.text == "the film is a film"
        letters = ("f", "##i", "##l", "##m")
        assert changed.spans == (Span(("film",), letters),) * 2

    def test_a_tokenizer_that_breaks_the_claim_is_seen(self, minilm_json):
        """As one would that was not made by `trim`."""
        value = json.loads(minilm_json)
        value["normalizer"]["lowercase"] = False
        found = compare(minilm_json, json.dumps(value).encode(), ["Film", "film"])
        assert (found.whole, found.same, found.broken) == (2, 1, 1)

    def test_no_texts(self, minilm_json):
        assert not used_tokens(minilm_json, [])
        assert compare(minilm_json, minilm_json, []).texts == 0


def test_the_movie_snippets_with_the_real_tokenizer(minilm_json, train, test):
    """The figures of the documentation."""
    vocabulary = parse(minilm_json)
    used = used_tokens(minilm_json, train)
    kept = closure(vocabulary, used)
    assert (len(vocabulary.tokens), len(used), len(kept)) == (30522, 12653, 14566)
    new = trim(minilm_json, kept)
    rows = compare(minilm_json, new, train)
    assert rows.same == rows.texts == len(train)
    rows = compare(minilm_json, new, test)
    assert (rows.texts, rows.whole, rows.same, rows.broken) == (1007, 680, 680, 0)
    assert rows.unknown_after == rows.unknown_before


def test_it_loads_nothing_heavy():
    code = "import generator.vocab, sys; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = set(subprocess.check_output(command, text=True).split())
    assert "generator.vocab" in loaded
    assert not loaded & {"torch", "tokenizers", "safetensors", "numpy"}


BERT = {"type": "BertProcessing", "sep": ["ab", 5], "cls": ["a", 2]}
ROBERTA = {**BERT, "type": "RobertaProcessing", "trim_offsets": True}
ROBERTA["add_prefix_space"] = False
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "two", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [
        {"SpecialToken": {"id": "two", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "b", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "two", "type_id": 1}},
    ],
    "special_tokens": {
        "two": {"id": "two", "ids": [2, 5], "tokens": ["a", "ab"]},
        "b": {"id": "b", "ids": [4], "tokens": ["b"]},
    },
}
BOTH = {"type": "Sequence", "processors": [BYTES, TEMPLATE]}


@pytest.mark.parametrize("processor", [None, BERT, ROBERTA, BYTES, TEMPLATE, BOTH])
def test_the_tokens_around_a_row(processor: Any) -> None:
    data = tokenizer(WORDPIECE, post_processor=processor)
    own = Tokenizer.from_str(data.decode())
    for pair in (False, True):
        assert special_tokens(data, pair) == own.num_special_tokens_to_add(pair)


@pytest.mark.parametrize(
    "text, least", [("text = 'text'", 3), ("text = ['text', 'other']", 5)]
)
def test_a_row_has_room_for_its_texts(text: str, least: int) -> None:
    """[CLS] and [SEP] stand around a text, and another [SEP] between two."""
    specs = Path(__file__).parents[2] / "specs"
    facts = load_facts(specs / "facts/movie_sentiment")
    assert facts is not None
    spec = (specs / "movie_sentiment.toml").read_text()
    spec = spec.replace('text = "text"', text)

    def imported(tokens: int) -> None:
        own = spec.replace("max_tokens = 128", f"max_tokens = {tokens}")
        import_job(read_spec(own, "movie.toml"), facts)

    imported(least)
    with pytest.raises(GenError, match="no room") as caught:
        imported(least - 1)
    (found,) = caught.value.diagnostics
    assert (found.code, found.label) == ("G377", f"at least {least}")
    assert found.place is not None and found.place.file == "movie.toml"
