"""The tokenizer.json that ships in a package.

It is the checkpoint's own, but for two settings: `truncation` and `padding` become null.
Those that a checkpoint carries are left over from whoever saved it (all-MiniLM-L6-v2
cuts and pads every text to 128), and the generated data.py sets both itself, from the
spec's `max_tokens` and the longest row of a batch.

transformers may build a tokenizer from more than that file: settings of
tokenizer_config.json can override it. `check_against_transformers` shows whether they
do; it imports transformers, so that it is called only where asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generator.errors import Diagnostic, fail
from generator.facts import parse_json
from generator.runtime.checkpoint import TOKENIZER_LIMIT, Checkpoint

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

# Files that tokenizers were kept in before tokenizer.json, for a conversion.
VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
SETTINGS = ("special_tokens_map.json", "added_tokens.json", TOKENIZER_CONFIG)

# Texts on which two tokenizers that differ are likely to differ.
SAMPLES = (
    "",
    " ",
    "The quick brown fox jumps over the lazy dog.",
    "UPPER lower MiXeD İstanbul straße ǅ",
    "café cafe\u0301 naïve Ångström",
    "  two  spaces, a\ttab and a\nnew line\r\n",
    "don't you're we'll it's o'clock 'quoted' \"quoted\"",
    "1234567890 3.14159 1,000,000 -5e-3 v2.0.1 10% $9.99",
    "https://example.org/path?q=1&r=2#s name@example.org #tag @user",
    "東京は晴れです。 你好，世界 안녕하세요",
    "Привет мир γειά שלום مرحبا नमस्ते",
    "😀👍🏽 👨‍👩‍👧 ❤️",
    "zero\u200bwidth non\u00a0breaking soft\u00adhyphen \ufeff bom",
    "control\x01 char\x7f and \ufffd replacement",
    "!?...;:()[]{}<>|\\/*&^~`",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 120,
    "a_b-c.d snake_case kebab-case CamelCase",
    "def f(x):\n    return x ** 2  # comment",
)


def find_tokenizer_files(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The files of the checkpoint that say how text becomes tokens."""
    names = checkpoint.names()
    kept = (TOKENIZER,) if TOKENIZER in names else VOCABULARIES
    return tuple(sorted(names & {*kept, *SETTINGS}))


def read_tokenizer(
    checkpoint: Checkpoint, config: Mapping[str, Any], *, convert: bool
) -> bytes | None:
    """The tokenizer.json that ships, or None where the checkpoint has no tokenizer.

    Where only older files exist, `convert` says whether transformers may be imported to
    convert them; otherwise that is an error.
    """
    names, size = checkpoint.names(), vocabulary_size(config)
    if TOKENIZER in names:
        data = checkpoint.read(TOKENIZER, TOKENIZER_LIMIT)
        return clean_tokenizer(data, checkpoint.label(TOKENIZER), size)
    vocabularies = [n for n in VOCABULARIES if n in names]
    if not vocabularies:
        return None
    if not convert:
        raise fail(
            "G140",
            f"{checkpoint.source} has no {TOKENIZER}, only {', '.join(vocabularies)}",
            help="gen facts SPEC converts it, where transformers is installed",
        )
    # Fetch what the conversion reads into one folder; the configuration names the class.
    paths = [
        checkpoint.path(n)
        for n in ("config.json", *find_tokenizer_files(checkpoint))
        if n in names
    ]
    return convert_tokenizer(paths[-1].parent, checkpoint.source, size)


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """How many tokens have a vector, where config.json says it."""
    size = config.get("vocab_size")
    return size if isinstance(size, int) and size > 0 else None


def clean_tokenizer(data: bytes, file: str, size: int | None = None) -> bytes:
    """tokenizer.json with `truncation` and `padding` null, always written the same way.

    Tokens that were added without a vector in a vocabulary of `size` are left out, such as
    a padding token beyond it, which some decoders have: a text that spells one out is then
    read as any other, and does not end the program.
    """
    value = parse_json(data, file)
    if not isinstance(value, dict) or not isinstance(value.get("model"), dict):
        raise fail(
            "G141",
            f'{file} is not the JSON of a tokenizer: it has no "model"',
            help="fetch it again, or save the tokenizer anew with save_pretrained",
        )
    value |= {"truncation": None, "padding": None}
    if size is not None and isinstance(added := value.get("added_tokens"), list):
        value["added_tokens"] = [one for one in added if not _beyond(one, size)]
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _beyond(token: Any, size: int) -> bool:
    number = token.get("id") if isinstance(token, dict) else None
    return isinstance(number, int) and number >= size


def parse_tokenizer(data: bytes, file: str) -> Any:
    """A tokenizers.Tokenizer; a GenError where that library does not take the file."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(data.decode())
    except Exception as error:  # noqa: BLE001 the library raises nothing narrower
        raise fail(
            "G141",
            f"{file} is refused by the tokenizers library: {error}",
            help="upgrade tokenizers, or save the tokenizer anew with save_pretrained",
        ) from None


def check_vocabulary(data: bytes, config: Mapping[str, Any], file: str) -> None:
    """GenError where the file is refused, or gives ids for which there is no vector."""
    found, size = parse_tokenizer(data, file), vocabulary_size(config)
    ids = found.get_vocab(with_added_tokens=False).values()
    # Of a row those that stand around its tokens, which may be none of the vocabulary.
    largest = max([*ids, *found.encode("").ids, *found.encode("", "").ids], default=-1)
    if size is not None and largest >= size:
        raise fail(
            "G141",
            f"{file} gives ids up to {largest}, and the vocab_size of config.json is "
            f"{size}",
            help="tokenizer and model are of different trainings: take both from one",
        )


def convert_tokenizer(folder: Path, source: str, size: int | None = None) -> bytes:
    """tokenizer.json of an older tokenizer in `folder`. Imports transformers."""
    tokenizer = _load_reference(folder, source)
    return clean_tokenizer(tokenizer.backend_tokenizer.to_str().encode(), source, size)


def check_against_transformers(
    data: bytes, folder: Path, source: str, size: int | None = None
) -> list[Diagnostic]:
    """Whether AutoTokenizer of that folder gives the ids that `data` gives, on samples,
    and cuts long rows at the end as a package does.

    `folder` holds the checkpoint's own tokenizer files and its config.json. Tokens without
    a vector in a vocabulary of `size` are not asked about, as no model can read them.
    """
    ours = parse_tokenizer(data, source)
    reference = _load_reference(folder, source)
    found = _cuts_elsewhere(reference, source)
    samples = _samples(reference, size)
    differing = [
        (text, pair)
        for text, pair in samples
        if _ids(ours, text, pair) != list(reference(text, pair)["input_ids"])
    ]
    if not differing:
        return found
    text, pair = differing[0]
    shown = f"{text!a:.60}" + (f" and {pair!a:.60}" if pair is not None else "")
    return [
        *found,
        Diagnostic(
            "G142",
            f"{source}: {TOKENIZER} and transformers' AutoTokenizer give different ids "
            f"for {len(differing)} of {len(samples)} samples, first {shown}: "
            f"{_ids(ours, text, pair)[:12]} and "
            f"{list(reference(text, pair)['input_ids'])[:12]}",
            help=(
                f"settings in {TOKENIZER_CONFIG} override {TOKENIZER}; write one that "
                "says what transformers does, by AutoTokenizer.from_pretrained(folder)"
                ".save_pretrained(folder), and gather the facts again"
            ),
        ),
    ]


def _cuts_elsewhere(reference: Any, source: str) -> list[Diagnostic]:
    if reference.truncation_side == "right":
        return []
    return [
        Diagnostic(
            "G142",
            f"{source}: transformers cuts rows that are too long at their beginning, "
            f"by truncation_side of {TOKENIZER_CONFIG}; a package cuts them at the end",
            help='choose a max_tokens that no row exceeds, or say "truncation_side": '
            f'"right" in {TOKENIZER_CONFIG} and gather the facts again',
        )
    ]


def _samples(reference: Any, size: int | None) -> list[tuple[str, str | None]]:
    """Texts and pairs, some with the tokenizer's own special tokens among words."""
    added: Mapping[str, int] = reference.get_added_vocab()
    beyond = {token for token, i in added.items() if size is not None and i >= size}
    tokens = dict.fromkeys((*reference.all_special_tokens, *sorted(added)[:20]))
    words = [f"before {token} after{token}" for token in tokens if token not in beyond]
    singles = [(text, None) for text in (*SAMPLES, *words)]
    pairs = [(a, b) for a, b in zip(SAMPLES[2:8], SAMPLES[7:1:-1], strict=True)]
    return [*singles, *pairs]


def _ids(tokenizer: Any, text: str, pair: str | None) -> list[int]:
    return tokenizer.encode(text, pair).ids


def _load_reference(folder: Path, source: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise fail(
            "G140",
            f"reading the tokenizer of {source} needs transformers, which is not "
            "installed here",
            help="pip install transformers, or gather the facts where it is installed",
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001 any file can make it raise anything
        raise fail(
            "G141",
            f"transformers cannot read the tokenizer of {source}: "
            f"{type(error).__name__}: {error}"[:400],
            help="install what it asks for, or save the tokenizer anew as tokenizer.json",
        ) from None
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise fail(
            "G140",
            f"the tokenizer of {source} has no form as {TOKENIZER}: "
            f"{type(tokenizer).__name__} is written in Python",
            help="use a checkpoint with a fast tokenizer",
        )
    return tokenizer
