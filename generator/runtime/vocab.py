"""Which tokens texts use, and what becomes of texts under a trimmed vocabulary.

`generator.vocab` decides what is kept and writes the smaller tokenizer.json; this counts
and compares, with the tokenizers library, over texts that are read as a stream.
"""

from __future__ import annotations

import difflib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from generator.compile import as_read
from generator.errors import fail
from generator.facts import CardFile, Facts, UsedTokens
from generator.locking import digest
from generator.runtime import build as building
from generator.runtime.files import file_size, hash_file
from generator.runtime.programs import Programs
from generator.runtime.ready import need
from generator.runtime.tokenizer import TOKENIZER, parse_tokenizer
from generator.spec import SpecFile
from generator.vocab import closure, parse, trim

BATCH = 1024  # texts that are tokenised at once


@dataclass(frozen=True)
class Span:
    """Tokens of a text, and those that are there now."""

    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Changed:
    """A text that has other tokens now, and where it has."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Comparison:
    """What became of texts. `whole` texts had only tokens that are kept."""

    texts: int
    whole: int
    same: int  # texts with the same tokens as before
    broken: int  # whole, and yet not the same: the certificate wants 0
    tokens: int  # of all texts, before
    lost: int  # of those, the ones that are not kept
    unknown_before: int  # unknown tokens
    unknown_after: int
    changed: tuple[Changed, ...]  # the first ones


def used_tokens(tokenizer_json: bytes, texts: Iterable[str]) -> Counter[int]:
    """How often each id occurs in the texts, without what a template adds.

    Texts count whole, beyond where a job cuts them: a cut row has the same tokens for
    certain only if what follows it is kept too.
    """
    tokenizer = _whole(tokenizer_json)
    found: Counter[int] = Counter()
    for some in _batches(texts):
        for row in tokenizer.encode_batch_fast(some, add_special_tokens=False):
            found.update(row.ids)
    return found


def training_tokens(
    spec_file: SpecFile,
    facts: Facts,
    root: Path,
    *,
    keep: Iterable[str] = (),
    quiet: bool = False,
) -> tuple[UsedTokens, dict[str, Comparison]]:
    """The tokens of a job's training rows, those that its package would train on.

    Beside them, by split, what becomes of the other rows' texts where those tokens and
    `keep` are kept. `root` is where the spec's data paths start. GenError (G145) where there is no text,
    or it cannot be read.
    """
    tokenizer, name = facts.tokenizer, spec_file.spec.name
    if tokenizer is None:
        raise fail(
            "G145",
            f"{name} has no tokenizer whose tokens could be counted",
            place=spec_file.place("task"),
            help="only a job that reads text has tokens; gen facts SPEC --complete "
            "fetches a tokenizer that was not at hand",
        )
    need("torch", "tokenizers", "safetensors")
    with tempfile.TemporaryDirectory() as folder:
        out, texts = Path(folder, "out"), Path(folder, "texts")
        texts.mkdir()
        # As the backbone reads them: an edit that trims has to know this first.
        building.build(building.plan(as_read(spec_file), facts, out))
        program = Path(__file__).with_name("texts.py")
        ended = Programs(out, name, quiet).python(
            program, name, root, texts, output="keep"
        )
        if ended.code:
            raise fail(
                "G145",
                f"the rows of {name} cannot be read; what its package says stands above",
                place=spec_file.place("data.train"),
                help="mend the data, or say where its paths start: --root FOLDER",
            )
        counts = used_tokens(tokenizer, _lines(texts / "train.jsonl"))
        ids = sorted(counts)
        used = UsedTokens(
            ids=tuple(ids),
            counts=tuple(counts[i] for i in ids),
            texts=sum(1 for _ in _lines(texts / "train.jsonl")),
            tokenizer=digest(tokenizer),
            files=tuple(data_file(root, one) for one in json.loads(ended.output)),
        )
        small = trim(tokenizer, closure(parse(tokenizer), ids, keep))
        return used, {
            split: compare(tokenizer, small, _lines(texts / f"{split}.jsonl"))
            for split in ("valid", "test")
        }


def compare(
    old_json: bytes, new_json: bytes, texts: Iterable[str], *, examples: int = 5
) -> Comparison:
    """Both tokenizers over the same texts. `new_json` is what `trim` made of `old_json`.

    Tokens are compared by what they are called; a call of `trim` changes only ids.
    """
    was, now = parse(old_json), parse(new_json)
    old, new = _whole(old_json), _whole(new_json)
    kept = frozenset(now.tokens.values())
    count = dict.fromkeys(_COUNTS, 0)
    changed: list[Changed] = []
    for some in _batches(texts):
        befores, afters = old.encode_batch_fast(some), new.encode_batch_fast(some)
        for text, before, after in zip(some, befores, afters, strict=True):
            a = [was.tokens[i] for i in before.ids]
            b = [now.tokens[i] for i in after.ids]
            lost = sum(token not in kept for token in a)
            count["texts"] += 1
            count["whole"] += not lost
            count["same"] += a == b
            count["broken"] += not lost and a != b
            count["tokens"] += len(a)
            count["lost"] += lost
            count["unknown_before"] += before.ids.count(was.unknown)
            count["unknown_after"] += after.ids.count(now.unknown)
            if a != b and len(changed) < examples:
                changed.append(Changed(text, _apart(a, b)))
    return Comparison(**count, changed=tuple(changed))


_COUNTS = tuple(field.name for field in fields(Comparison) if field.name != "changed")


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def data_file(root: Path, name: str) -> CardFile:
    path = root / name
    return CardFile(name, file_size(path, str(path)), hash_file(path, str(path)))


def _whole(tokenizer_json: bytes) -> Any:
    """The tokenizer, without cutting and padding."""
    tokenizer = parse_tokenizer(tokenizer_json, TOKENIZER)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while some := list(itertools.islice(rest, BATCH)):
        yield some


def _apart(before: Sequence[str], after: Sequence[str]) -> tuple[Span, ...]:
    found = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return tuple(
        Span(tuple(before[a:b]), tuple(after[c:d]))
        for kind, a, b, c, d in found
        if kind != "equal"
    )
