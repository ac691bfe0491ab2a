"""What compiling may know beside the spec.

Everything here is pure: `generator.runtime` gathers facts, reads and writes their files,
and compares them with the weights; compiling only takes them as values. They lie beside
the spec, in `facts/<job name>/`, as `card.json`, `tokenizer.json`, `measured.json`,
`reference.safetensors` and `vocabulary.safetensors`; `pruned/` has what the last step of a
job starts from that is pruned in several.

What could not be seen is `None`, and the card says `verified: false`; nothing is guessed
in its place.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

from generator.errors import Place, fail

FORMAT = 1  # of card.json; raised when its meaning changes

# Bytes of an element, by the name that safetensors gives the dtype.
ITEMSIZE: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}


@dataclass(frozen=True)
class CardTensor:
    """One tensor of the checkpoint."""

    key: str
    dtype: str  # as safetensors names it: "F32", "BF16", "I64"
    shape: tuple[int, ...]
    file: str  # the file of the checkpoint that holds it


@dataclass(frozen=True)
class CardFile:
    """One file of the checkpoint that the job depends on."""

    name: str
    size: int | None  # bytes; None where nobody has seen it
    sha256: str | None  # 64 hexadecimal digits; None where nobody has seen it


@dataclass(frozen=True)
class Card:
    """A backbone as compiling sees it: its configuration, its tensors, its files."""

    source: str  # as the spec's `from` says it
    revision: str | None  # the hub's 40-digit commit
    licence: str | None  # as the model's README names it: "apache-2.0"
    config: Mapping[str, Any]  # config.json as read
    tensors: tuple[CardTensor, ...]  # sorted by key
    files: tuple[CardFile, ...]  # sorted by name
    preprocessor: Mapping[str, Any] | None  # preprocessor_config.json as read
    tokenizer_config: Mapping[str, Any] | None  # tokenizer_config.json as read
    verified: bool  # every tensor and the hash of every file were seen

    def __post_init__(self) -> None:
        _require_sorted("tensors", [t.key for t in self.tensors])
        _require_sorted("files", [f.name for f in self.files])
        if self.verified and any(
            f.size is None or f.sha256 is None for f in self.files
        ):
            raise ValueError("a verified card has the size and the hash of every file")

    def tensor(self, key: str) -> CardTensor | None:
        """The tensor of that key, or None."""
        return next((t for t in self.tensors if t.key == key), None)


@dataclass(frozen=True)
class UsedTokens:
    """Which tokens the training rows have, each text whole, and what was counted."""

    ids: tuple[int, ...]  # ascending
    counts: tuple[int, ...]  # how often each occurs
    texts: int  # two a row where a row is a pair
    tokenizer: str  # SHA-256 of the tokenizer.json that they were cut with
    files: tuple[CardFile, ...]  # every split's, since a row is left to one of them

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.counts):
            raise ValueError("there is a count for each id")
        if any(a >= b for a, b in itertools.pairwise(self.ids)):
            raise ValueError("ids are ascending")


@dataclass(frozen=True)
class Scores:
    """How important the units of each block are, as `gen calibrate` found it.

    Lists are named by method, kind and block: "taylor/ff/3", "magnitude/heads/0"; those
    of whole blocks "taylor/layers", of the channels of the width, which all blocks share,
    "taylor/width"; the singular values of a linear by its path in a block:
    "singular/3/ff.up". Blocks are numbered as the checkpoint has them.
    """

    values: Mapping[str, tuple[float, ...]]
    weights: str  # what `weights_hash` gives of the card
    files: tuple[CardFile, ...]  # of data that were read; none for magnitudes alone


@dataclass(frozen=True)
class PrunedStep:
    """A step of a job that is pruned in steps, as `gen run` found it."""

    stays: tuple[str, ...]  # in words: "10 of 12 heads"
    parameters: int
    score: str  # the figure that sums up an evaluation: "accuracy"
    before: float  # that of the validation rows, as pruned
    after: float  # and once trained
    weights: str  # SHA-256 of what the next step starts from


@dataclass(frozen=True)
class Pruned:
    """What the last step of a job that is pruned in steps starts from.

    Its weights are those that the steps before have left, as a checkpoint like the
    backbone: of the same sizes, with zeros for what is left out.
    """

    key: str  # of the steps that led to it; see generator/pruning.py
    card: Card
    scores: bytes  # what `dump_scores` wrote, of these weights
    steps: tuple[PrunedStep, ...]


@dataclass(frozen=True)
class Facts:
    """All that compiling a job may know beside its spec."""

    card: Card
    tokenizer: bytes | None  # tokenizer.json exactly as it ships in the package
    measured: Mapping[str, Any] | None  # figures for the model card
    reference: bytes | None  # a safetensors file of inputs and the reference's logits
    vocabulary: bytes | None = None  # what `dump_used` wrote, where that was asked for
    scores: bytes | None = None  # what `dump_scores` wrote, likewise
    teacher: Facts | None = None  # those of the job that this one learns from
    pruned: Pruned | None = None  # what its last step starts from, where it has several


def dump_card(card: Card) -> str:
    """The text of card.json: one line a tensor and a file, so that a diff shows which."""
    body = _card_body(card)
    lines = [f' "{key}": {_indented(value)}' for key, value in body.items()]
    lines.insert(1, f' "hash": "{_hash(body)}"')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_card(text: str, file: str) -> Card:
    """The card that `dump_card` wrote; a GenError where it is damaged or was edited."""
    body = parse_json(text, file)
    if not isinstance(body, dict):
        _bad_card(file, "is not a JSON object")
    written = body.pop("hash", None)
    if body.get("format") != FORMAT:
        raise fail(
            "G150",
            f"{file} has format {body.get('format')!r}; this gen reads format {FORMAT}",
            help="gather the facts again: gen facts SPEC --refresh",
        )
    if written != _hash(body):
        _bad_card(file, "was changed after it was gathered: its hash does not agree")
    body.pop("format")
    _expect_keys(body, _names(Card), file)
    tensors = [_entry(row, CardTensor, file) for row in _list(body, "tensors", file)]
    files = [_entry(row, CardFile, file) for row in _list(body, "files", file)]
    try:
        card = Card(
            source=_typed(body, "source", (str,), file),
            revision=_typed(body, "revision", (str, type(None)), file),
            licence=_typed(body, "licence", (str, type(None)), file),
            config=_typed(body, "config", (dict,), file),
            tensors=tuple(_tensor(row, file) for row in tensors),
            files=tuple(_file(row, file) for row in files),
            preprocessor=_typed(body, "preprocessor", (dict, type(None)), file),
            tokenizer_config=_typed(body, "tokenizer_config", (dict, type(None)), file),
            verified=_typed(body, "verified", (bool,), file),
        )
    except ValueError as error:
        _bad_card(file, f"contradicts itself: {error}")
    names = {f.name for f in card.files}
    for tensor in card.tensors:
        if tensor.file not in names:
            _bad_card(file, f'puts "{tensor.key}" in the unlisted file "{tensor.file}"')
    return card


def dump_measured(measured: Mapping[str, Any]) -> str:
    """The text of measured.json."""
    return json.dumps(measured, indent=1, sort_keys=True, allow_nan=False) + "\n"


def dump_used(used: UsedTokens) -> bytes:
    """vocabulary.safetensors: `ids` (n) I32 and `counts` (n) I64, and what they are of."""
    n = len(used.ids)
    tensors = struct.pack(f"<{n}q", *used.counts) + struct.pack(f"<{n}i", *used.ids)
    said = {
        "format": str(FORMAT),
        "texts": str(used.texts),
        "tokenizer": used.tokenizer,
        "files": json.dumps([_row(f) for f in used.files]),
    }
    header = {
        "__metadata__": {**said, "hash": _hash({**said, "tensors": _digest(tensors)})},
        "counts": {"dtype": "I64", "shape": [n], "data_offsets": [0, 8 * n]},
        "ids": {"dtype": "I32", "shape": [n], "data_offsets": [8 * n, 12 * n]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + tensors


def load_used(data: bytes, tokenizer: bytes, file: str) -> UsedTokens:
    """What `dump_used` wrote; a GenError where it is damaged, was edited, or is of
    another tokenizer than that of the facts."""
    try:
        used = _used(data)
    except (ValueError, LookupError, TypeError, struct.error, RecursionError):
        used = None
    count = "count the tokens again: gen facts SPEC --vocabulary"
    if used is None or dump_used(used) != data:
        raise fail(
            "G150",
            f"{file} is damaged, or was changed after it was gathered",
            help=count,
        )
    if used.tokenizer != _digest(tokenizer):
        raise fail("G151", f"{file} is of another tokenizer than the facts", help=count)
    return used


def _used(data: bytes) -> UsedTokens:
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    said, (n,) = header["__metadata__"], header["ids"]["shape"]
    return UsedTokens(
        ids=struct.unpack_from(f"<{n}i", data, start + 8 * n),
        counts=struct.unpack_from(f"<{n}q", data, start),
        texts=int(said["texts"]),
        tokenizer=said["tokenizer"],
        files=tuple(CardFile(**row) for row in json.loads(said["files"])),
    )


def dump_scores(scores: Scores) -> bytes:
    """scores.safetensors: a list of F32 for each name, and what they are of."""
    header: dict[str, Any] = {}
    start, values = 0, []
    for name, some in sorted(scores.values.items()):
        stop = start + 4 * len(some)
        header[name] = {
            "dtype": "F32",
            "shape": [len(some)],
            "data_offsets": [start, stop],
        }
        values.append(struct.pack(f"<{len(some)}f", *some))
        start = stop
    tensors = b"".join(values)
    said = {
        "format": str(FORMAT),
        "weights": scores.weights,
        "files": json.dumps([_row(f) for f in scores.files]),
    }
    said["hash"] = _hash({**said, "names": [*header], "tensors": _digest(tensors)})
    text = json.dumps({"__metadata__": said, **header}).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + tensors


def load_scores(data: bytes, card: Card, file: str) -> Scores:
    """What `dump_scores` wrote; a GenError where it is damaged, was edited, or is of
    other weights than those of the card."""
    again = "score the weights again: gen calibrate SPEC"
    try:
        scores = _scores(data)
    except (ValueError, LookupError, TypeError, struct.error, RecursionError):
        scores = None
    if scores is None or dump_scores(scores) != data:
        raise fail(
            "G150",
            f"{file} is damaged, or was changed after it was gathered",
            help=again,
        )
    if scores.weights != weights_hash(card):
        raise fail("G151", f"{file} is of other weights than the facts", help=again)
    return scores


def _scores(data: bytes) -> Scores:
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    said = header.pop("__metadata__")
    values = {}
    for name, about in header.items():
        (n,), (first, _) = about["shape"], about["data_offsets"]
        values[name] = struct.unpack_from(f"<{n}f", data, start + first)
    return Scores(
        values=values,
        weights=said["weights"],
        files=tuple(CardFile(**row) for row in json.loads(said["files"])),
    )


def weights_hash(card: Card) -> str:
    """SHA-256 of what the weights are, as far as the card knows it."""
    return _hash(
        {"tensors": [_row(t) for t in card.tensors]}
        | {"files": [_row(f) for f in card.files if f.name.endswith(".safetensors")]}
    )


def facts_hash(facts: Facts) -> str:
    """SHA-256 of everything in the facts, in hexadecimal."""
    measured = None if facts.measured is None else dump_measured(facts.measured)
    parts = {
        "card": _hash(_card_body(facts.card)),
        "tokenizer": _digest(facts.tokenizer),
        "measured": _digest(None if measured is None else measured.encode()),
        "reference": _digest(facts.reference),
        "vocabulary": _digest(facts.vocabulary),
        "scores": _digest(facts.scores),
        "pruned": None if facts.pruned is None else pruned_hash(facts.pruned),
    }
    return _hash(parts)


def pruned_hash(pruned: Pruned) -> str:
    """SHA-256 of what the last step starts from, and of how that was made."""
    steps = _digest(dump_steps(pruned).encode())
    return _hash([_hash(_card_body(pruned.card)), _digest(pruned.scores), steps])


def dump_steps(pruned: Pruned) -> str:
    """The text of steps.json: what led to the weights of the last step."""
    body = {
        "format": FORMAT,
        "key": pruned.key,
        "steps": [asdict(step) for step in pruned.steps],
    }
    return json.dumps(body, indent=1, allow_nan=False) + "\n"


def load_steps(text: str, card: Card, scores: bytes, file: str) -> Pruned:
    """What `dump_steps` wrote, with the card and the scores beside it; a GenError where it
    is damaged or was edited."""
    try:
        body = parse_json(text, file)
        steps = tuple(
            PrunedStep(**{**step, "stays": tuple(step["stays"])})
            for step in body["steps"]
        )
        found = Pruned(body["key"], card, scores, steps)
    except (LookupError, TypeError):
        found = None
    if found is None or dump_steps(found) != text:
        raise fail(
            "G150",
            f"{file} is damaged, or was changed after it was gathered",
            help="prune anew: gen run SPEC",
        )
    return found


def parse_json(data: str | bytes, file: str, help: str = "") -> Any:
    """JSON as RFC 8259 means it: UTF-8, finite numbers, no key twice.

    Python's own reader takes NaN and the last of two equal keys; other readers of the
    same file would not, or would take the first.
    """
    mend = help or "write the file anew, or fetch it again from where it came"
    text = data if isinstance(data, str) else _decode(data, file, mend)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if "\\u" in text:  # half of a surrogate pair cannot be written out again
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = Place(file, error.lineno, error.colno, 1)
        message = f"{file} is not valid JSON: {error.msg}"
        raise fail("G111", message, place=place, help=mend) from None
    except UnicodeEncodeError:
        raise fail(
            "G111", f"{file} has half of a surrogate pair in a string", help=mend
        ) from None
    except RecursionError:
        raise fail("G111", f"{file} is nested too deeply", help=mend) from None
    except ValueError as error:
        raise fail("G111", f"{file} is not valid JSON: {error}", help=mend) from None
    return value


def _decode(data: bytes, file: str, mend: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail(
            "G111", f"{file} is not UTF-8: byte {error.start} is wrong", help=mend
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f'the key "{key}" stands there twice')
            seen.add(key)
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number")
    return number


def _card_body(card: Card) -> dict[str, Any]:
    """The card as JSON values, in the order of the file."""
    return {
        "format": FORMAT,
        "source": card.source,
        "revision": card.revision,
        "licence": card.licence,
        "verified": card.verified,
        "config": dict(card.config),
        "preprocessor": None if card.preprocessor is None else dict(card.preprocessor),
        "tokenizer_config": (
            None if card.tokenizer_config is None else dict(card.tokenizer_config)
        ),
        "files": [_row(f) for f in card.files],
        "tensors": [_row(t) for t in card.tensors],
    }


def _row(entry: CardTensor | CardFile) -> dict[str, Any]:
    values = ((field.name, getattr(entry, field.name)) for field in fields(entry))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values}


def _indented(value: Any) -> str:
    """A list with one entry a line, a mapping indented, anything else on its line."""
    if isinstance(value, list) and value:
        rows = (f"  {json.dumps(row, allow_nan=False)}" for row in value)
        return "[\n" + ",\n".join(rows) + "\n ]"
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    return text.replace("\n", "\n ")


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _require_sorted(what: str, names: list[str]) -> None:
    if any(a >= b for a, b in itertools.pairwise(names)):
        raise ValueError(
            f"the {what} of a card are sorted, and none stands there twice"
        )


def _bad_card(file: str, what: str) -> NoReturn:
    raise fail(
        "G150",
        f"{file} {what}",
        help="facts are gathered, not edited: gen facts SPEC --refresh",
    )


def _names(cls: type) -> set[str]:
    return {field.name for field in fields(cls)}


def _expect_keys(found: Mapping[str, Any], names: set[str], file: str) -> None:
    for key in sorted(names ^ found.keys()):
        _bad_card(file, f'{"lacks" if key in names else "has an unknown"} "{key}"')


def _list(body: Mapping[str, Any], key: str, file: str) -> list[Any]:
    return _typed(body, key, (list,), file)


def _typed(
    body: Mapping[str, Any], key: str, types: tuple[type, ...], file: str
) -> Any:
    value = body[key]
    # bool is a kind of int in Python, but not here
    if type(value) not in types:
        _bad_card(file, f'has a wrong type of value for "{key}"')
    return value


def _entry(row: Any, cls: type, file: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        _bad_card(file, f"has a row that is no object: {row!r:.60}")
    _expect_keys(row, _names(cls), file)
    return row


def _tensor(row: Mapping[str, Any], file: str) -> CardTensor:
    key = _typed(row, "key", (str,), file)
    dtype = _typed(row, "dtype", (str,), file)
    shape = _typed(row, "shape", (list,), file)
    if dtype not in ITEMSIZE:
        _bad_card(file, f'has an unknown dtype for "{key}": "{dtype}"')
    if not all(type(n) is int and n >= 0 for n in shape):
        _bad_card(file, f'has a wrong shape for "{key}"')
    return CardTensor(key, dtype, tuple(shape), _typed(row, "file", (str,), file))


def _file(row: Mapping[str, Any], file: str) -> CardFile:
    return CardFile(
        name=_typed(row, "name", (str,), file),
        size=_typed(row, "size", (int, type(None)), file),
        sha256=_typed(row, "sha256", (str, type(None)), file),
    )
