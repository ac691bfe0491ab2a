"""Trimming a tokenizer's vocabulary to the tokens that a job needs.

`parse` reads a tokenizer.json, `closure` says which tokens stay, and `trim` writes the
tokenizer.json of those alone, numbered from 0 in their old order. All of it is pure.

The claim: a text whose tokens are all kept has the same tokens afterwards. Normalising,
splitting into words, templates, cutting and padding do not look at the vocabulary, but
for the added tokens, and those are all kept. What is left is how the model cuts a word.

WordPiece takes the longest piece that fits, again and again. Where that piece is kept,
none that is longer has come up, and it is taken again. A word that has no piece at some
character is unknown as a whole, and what was tried before that character is not seen in
its tokens: it could become known if one piece fewer was taken first and another reached
over that character. It cannot where each character inside a kept piece is a piece by
itself, as in the vocabularies of BERT and those derived from it: the single characters
are kept, so a character without a piece is inside no piece either.

BPE starts from characters and applies, of all merges that fit, the one listed first and
of its places the leftmost. A merge stays if its parts and its product stay, and every
part of a kept product stays (`_parts`). Each merge that was applied made a final token or
a part of one, so it is still there; no other merge was added; so the first that fits is
the same at every step, and when none fitted none fits now. With `ignore_merges` a word
that is a token is taken whole: it is one now if it was one before and is kept.

Unigram takes the cutting of the highest sum of scores. Without the pieces off that path
every other path has the same sum or is gone, so the best stays the best; of equal sums
the library prefers the one whose last piece begins first, and so it does now. A character
that is no piece costs 10 more than the lowest score of the vocabulary: a piece of that
score is kept, and the single characters, so that nothing else is unknown and it costs the
same.

Other texts fall to shorter pieces: the single characters and the tokens of bytes are
kept, whoever uses them.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from generator.errors import Diagnostic, GenError, fail, quote
from generator.facts import parse_json

Kind = Literal["wordpiece", "bpe", "unigram"]
KINDS: Mapping[str, Kind] = {
    "WordPiece": "wordpiece",
    "BPE": "bpe",
    "Unigram": "unigram",
}
BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))  # of byte fallback


@dataclass(frozen=True)
class Merge:
    """Two neighbours that BPE makes one token; all are ids."""

    left: int
    right: int
    product: int


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer.json, and what says which of them need which."""

    kind: Kind
    tokens: Mapping[int, str]  # by id, ascending; the added tokens too
    unknown: int | None  # what stands for what is no token
    fixed: frozenset[int]  # what stays whatever the texts are
    merges: tuple[Merge, ...]  # of BPE, the first one first


def parse(tokenizer_json: bytes, file: str = "tokenizer.json") -> Vocabulary:
    """The vocabulary of a tokenizer.json, as the tokenizers library would number it.

    GenError (G143) where it is of a kind that cannot be trimmed, (G141) where it is none.
    `file` is what messages call it.
    """
    return _read(_object(tokenizer_json, file), file)


def closure(
    vocabulary: Vocabulary, used: Iterable[int], keep: Iterable[str] = ()
) -> tuple[int, ...]:
    """The ids to keep, ascending, for texts with the ids `used` and the tokens `keep`.

    Beside those: the added tokens, those of the template, padding and unknown words, the
    single characters and bytes, and with BPE the parts of each.
    GenError (G144) names every one of `used` and `keep` that is not in the vocabulary.
    """
    used, keep = set(used), list(dict.fromkeys(keep))
    ids = {token: i for i, token in vocabulary.tokens.items()}
    strange = sorted(used - vocabulary.tokens.keys())
    wrong = [_no_token(token, ids) for token in keep if token not in ids]
    if strange:
        wrong.insert(0, _no_id(strange, vocabulary))
    if wrong:
        raise GenError(wrong)
    kept = vocabulary.fixed | used | {ids[token] for token in keep}
    return tuple(sorted(kept | _parts(vocabulary.merges, kept)))


def trim(
    tokenizer_json: bytes, kept: Sequence[int], file: str = "tokenizer.json"
) -> bytes:
    """The tokenizer.json of the tokens `kept` alone; kept[i] gets the id i.

    `kept` is what `closure` gives; ValueError for anything else, which would not have the
    same tokens. Equal arguments give equal bytes.
    """
    value = _object(tokenizer_json, file)
    vocabulary = _read(value, file)
    if tuple(kept) != closure(vocabulary, kept):
        raise ValueError(
            "the ids to keep are not ascending, or lack some that they need"
        )
    new = {old: i for i, old in enumerate(kept)}
    value["added_tokens"] = [
        {**token, "id": new[token["id"]]} for token in value.get("added_tokens") or []
    ]
    value["model"] = _trimmed(value["model"], vocabulary, new)
    value["post_processor"] = _renumbered(value.get("post_processor"), new)
    if value.get("padding") is not None:
        padding = value["padding"]
        value["padding"] = {**padding, "pad_id": new[padding["pad_id"]]}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


# --------------------------------------------------------------------- words and masks

MASKS = ("[MASK]", "<mask>")  # of BERT and its kin, and of RoBERTa


def word_marks(tokenizer_json: bytes) -> tuple[str, str]:
    """How tokens are told that begin a word: they begin with the first of these, or else
    the others with the second. Both are empty where each token is a word.

    WordPiece marks what goes on with a word. Byte-level BPE writes the space ahead of a
    word as a letter of its own, and tokenizers of sentencepiece as another.
    """
    found = _object(tokenizer_json, "tokenizer.json")
    model = found.get("model") or {}
    entries = model.get("vocab") or ()
    if isinstance(entries, dict) and "merges" not in model:  # WordPiece, WordLevel
        return "", model.get("continuing_subword_prefix", "")
    tokens = entries if isinstance(entries, dict) else [piece for piece, _ in entries]
    counts = {mark: sum(t.startswith(mark) for t in tokens) for mark in "\u0120\u2581"}
    most = max(counts, key=lambda mark: counts[mark])
    return (most if counts[most] else ""), ""


def mask_token(tokenizer_json: bytes) -> str:
    """The token that stands for one that is hidden; "" where there is none."""
    found = _object(tokenizer_json, "tokenizer.json")
    names = [added.get("content") for added in found.get("added_tokens") or ()]
    return next((name for name in MASKS if name in names), "")


@functools.lru_cache(maxsize=4)  # a large one takes half a second, and is asked twice
def special_tokens(tokenizer_json: bytes, pair: bool) -> int:
    """How many tokens stand around a text, or around the two of a pair."""
    found = _object(tokenizer_json, "tokenizer.json")
    return _around(found.get("post_processor"), "pair" if pair else "single")


def _around(value: Any, of: Literal["single", "pair"]) -> int:
    match value:
        case {"type": "Sequence", "processors": list(parts)}:
            return sum(_around(part, of) for part in parts)
        case {"type": "TemplateProcessing", "special_tokens": special}:
            parts = (part.get("SpecialToken") for part in value[of])
            return sum(len(special[part["id"]]["ids"]) for part in parts if part)
        case {"type": "BertProcessing"}:
            return {"single": 2, "pair": 3}[of]
        case {"type": "RobertaProcessing"}:
            return {"single": 2, "pair": 4}[of]
    return 0


# ---------------------------------------------------------------------------- reading


def _object(data: bytes, file: str) -> dict[str, Any]:
    value = parse_json(data, file)
    if not isinstance(value, dict) or not isinstance(value.get("model"), dict):
        _malformed(file, 'it has no "model"')
    return value


def _read(value: Mapping[str, Any], file: str) -> Vocabulary:
    model = value["model"]
    kind = _kind(model, file)
    ids = _model_ids(model, kind, file)
    added = _added_ids(value.get("added_tokens") or [], ids, file)
    tokens = {i: token for token, i in {**ids, **added}.items()}
    if len(tokens) < len({**ids, **added}):
        _unsupported(file, "gives one id to two tokens")
    unknown = (
        model.get("unk_id")
        if kind == "unigram"
        else ids.get(model.get("unk_token") or "")
    )
    named = {
        *([] if unknown is None else [unknown]),
        *_processor_ids(value.get("post_processor"), file),
        *_padding_ids(value.get("padding"), file),
    }
    if strange := sorted(named - tokens.keys()):
        _unsupported(file, f"names the id {strange[0]}, which is no token's")
    return Vocabulary(
        kind,
        dict(sorted(tokens.items())),
        unknown,
        frozenset({*added.values(), *named, *_reserve(model, kind, ids)}),
        tuple(_merges(model, ids, file)) if kind == "bpe" else (),
    )


def _kind(model: Mapping[str, Any], file: str) -> Kind:
    name = model.get("type")
    if name is None:  # files of old; the library tries the kinds in this order
        if "merges" in model:
            name = "BPE"
        elif "max_input_chars_per_word" in model:
            name = "WordPiece"
        else:
            name = "Unigram" if isinstance(model.get("vocab"), list) else "WordLevel"
    if name not in KINDS:
        _unsupported(file, f"has a model of the type {quote(str(name))}")
    if model.get("dropout"):
        _unsupported(file, "leaves merges out at random (`dropout`)")
    return KINDS[name]


def _model_ids(model: Mapping[str, Any], kind: Kind, file: str) -> dict[str, int]:
    vocab = model.get("vocab")
    if kind == "unigram":
        if not isinstance(vocab, list) or not all(_is_piece(p) for p in vocab):
            _malformed(file, 'its "vocab" is no list of pieces and scores')
        ids = {token: i for i, (token, _) in enumerate(vocab)}
        if len(ids) < len(vocab):
            _unsupported(file, "has one piece twice")
        return ids
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        _malformed(file, 'its "vocab" gives no ids to tokens')
    return vocab


def _is_piece(value: Any) -> bool:
    match value:
        case [str(), int() | float()]:
            return True
    return False


def _added_ids(added: Any, ids: Mapping[str, int], file: str) -> dict[str, int]:
    """Ids of the added tokens: the model's own, or the next ones after its last.

    The library numbers them so whatever the file says, and a file that says otherwise
    cannot be what a model was trained with.
    """
    found: dict[str, int] = {}
    following = len(ids)
    for token in added if isinstance(added, list) else [None]:
        match token:
            case {"content": str(content), "id": int(said)}:
                pass
            case _:
                _malformed(file, 'its "added_tokens" are no list of contents and ids')
        if content in ids:
            meant = ids[content]
        else:
            meant, following = following, following + 1
        if said != meant or content in found:
            _unsupported(
                file,
                f"gives the added token {quote(content)} the id {said}, and the "
                f"tokenizers library reads it as {found.get(content, meant)}",
            )
        found[content] = meant
    return found


def _processor_ids(value: Any, file: str) -> Iterator[int]:
    """Ids that a post-processor puts around texts."""
    match value:
        case None | {"type": "ByteLevel"}:
            return
        case {"type": "Sequence", "processors": list(parts)}:
            for part in parts:
                yield from _processor_ids(part, file)
        case {"type": "TemplateProcessing", "special_tokens": dict(special)}:
            for token in special.values():
                if not isinstance(token, dict) or "ids" not in token:
                    _malformed(file, "its template has a token without ids")
                yield from token["ids"]
        case {
            "type": "BertProcessing" | "RobertaProcessing",
            "sep": [str(), int(sep)],
            "cls": [str(), int(cls)],
        }:
            yield from (sep, cls)
        case _:
            _unsupported(file, "has a post-processor of a kind that is not known")


def _padding_ids(value: Any, file: str) -> Iterator[int]:
    match value:
        case None:
            return
        case {"pad_id": int(pad)}:
            yield pad
        case _:
            _malformed(file, 'its "padding" has no "pad_id"')


def _reserve(
    model: Mapping[str, Any], kind: Kind, ids: Mapping[str, int]
) -> Iterator[int]:
    """What unseen words fall to: single characters, bytes; and what unknown ones cost."""
    before = model.get("continuing_subword_prefix") or ""
    after = model.get("end_of_word_suffix") or ""
    for token, i in ids.items():
        bare = token.removeprefix(before).removesuffix(after)
        byte = bool(model.get("byte_fallback")) and token in BYTES
        if byte or len(token) == 1 or len(bare) == 1:
            yield i
    if kind == "unigram" and model["vocab"]:
        scores = [score for _, score in model["vocab"]]
        yield scores.index(min(scores))


def _merges(
    model: Mapping[str, Any], ids: Mapping[str, int], file: str
) -> Iterator[Merge]:
    prefix = len(model.get("continuing_subword_prefix") or "")
    merges = model.get("merges")
    if not isinstance(merges, list):
        _malformed(file, 'its "merges" are no list')
    for merge in merges:
        match merge.split(" ") if isinstance(merge, str) else merge:
            case [str(left), str(right)]:
                product = left + right[prefix:]
            case _:
                _malformed(file, f"{merge!a:.60} is no merge of two tokens")
        for token in (left, right, product):
            if token not in ids:
                _malformed(file, f"a merge has {quote(token)}, which is no token")
        yield Merge(ids[left], ids[right], ids[product])


# --------------------------------------------------------------- keeping and numbering


def _parts(merges: Iterable[Merge], kept: Iterable[int]) -> set[int]:
    """What the tokens `kept` are merged of, and what that is merged of, and so on.

    By every merge that makes them: which of them does so is seen only in a text.
    """
    made = defaultdict(list)
    for merge in merges:
        made[merge.product] += (merge.left, merge.right)
    found = set(kept)
    open_ = list(found)
    while open_:
        for part in made[open_.pop()]:
            if part not in found:
                found.add(part)
                open_.append(part)
    return found


def _trimmed(
    model: Mapping[str, Any], vocabulary: Vocabulary, new: Mapping[int, int]
) -> dict[str, Any]:
    vocab = model["vocab"]
    if vocabulary.kind == "unigram":
        unknown = model.get("unk_id")
        return {
            **model,
            "unk_id": None if unknown is None else new[unknown],
            "vocab": [piece for i, piece in enumerate(vocab) if i in new],
        }
    kept = {token: new[i] for token, i in vocab.items() if i in new}
    if vocabulary.kind == "wordpiece":
        return {**model, "vocab": kept}
    merges = [
        written
        for written, merge in zip(model["merges"], vocabulary.merges, strict=True)
        if merge.left in new and merge.right in new and merge.product in new
    ]
    return {**model, "vocab": kept, "merges": merges}


def _renumbered(value: Any, new: Mapping[int, int]) -> Any:
    """A post-processor that `_processor_ids` has read, with the new ids."""
    match value:
        case {"processors": parts}:
            return {**value, "processors": [_renumbered(part, new) for part in parts]}
        case {"special_tokens": special}:
            tokens = {
                name: {**token, "ids": [new[i] for i in token["ids"]]}
                for name, token in special.items()
            }
            return {**value, "special_tokens": tokens}
        case {"sep": [sep, sep_id], "cls": [cls, cls_id]}:
            return {**value, "sep": [sep, new[sep_id]], "cls": [cls, new[cls_id]]}
    return value


# ----------------------------------------------------------------------------- errors


def _malformed(file: str, why: str) -> NoReturn:
    raise fail(
        "G141",
        f"{file} is not the JSON of a tokenizer: {why}",
        help="fetch it again, or save the tokenizer anew with save_pretrained",
    )


def _unsupported(file: str, what: str) -> NoReturn:
    raise fail(
        "G143",
        f"{file} {what}, and its vocabulary cannot be trimmed",
        help="leave the vocabulary as it is: take trim-vocab out of the spec",
    )


def _no_id(strange: Sequence[int], vocabulary: Vocabulary) -> Diagnostic:
    return Diagnostic(
        "G144",
        f"{len(strange)} of the ids that are used, first {strange[0]}, are not among "
        f"the {len(vocabulary.tokens):,} of the tokenizer",
        help="they were counted with another one: count them again",
    )


def _no_token(token: str, ids: Mapping[str, int]) -> Diagnostic:
    near = difflib.get_close_matches(token, ids, 1, 0.6)
    hint = f"did you mean {quote(near[0])}? " if near else ""
    return Diagnostic(
        "G144",
        f"the token {quote(token)} is to be kept, and the tokenizer has no such token",
        help=f"{hint}tokens are named as tokenizer.json has them, with ## or Ġ or ▁",
    )
