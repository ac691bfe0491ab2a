"""Gather facts, compare them with the weights, and read and write their files.

Gathering imports neither torch nor transformers, unless an older tokenizer has to be
converted and that was asked for. Its dear part is hashing: about 0.1 s for 90 MB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from generator import archs
from generator.errors import Diagnostic, GenError, Place, fail
from generator.facts import (
    Card,
    CardFile,
    CardTensor,
    Facts,
    Pruned,
    dump_card,
    dump_measured,
    dump_steps,
    load_card,
    load_steps,
    parse_json,
)
from generator.runtime.checkpoint import (
    CONFIG,
    SMALL,
    TOKENIZER_LIMIT,
    Checkpoint,
    read_config,
    read_mapping,
    resolve,
)
from generator.runtime.files import read_small, write_if_changed
from generator.runtime.headers import LARGEST
from generator.runtime.tokenizer import (
    TOKENIZER,
    TOKENIZER_CONFIG,
    check_vocabulary,
    clean_tokenizer,
    find_tokenizer_files,
    parse_tokenizer,
    read_tokenizer,
    vocabulary_size,
)
from generator.runtime.weights import (
    find_weights,
    read_tensors,
)

PREPROCESSOR = "preprocessor_config.json"
CARD = "card.json"
MEASURED = "measured.json"
REFERENCE = "reference.safetensors"
VOCABULARY = "vocabulary.safetensors"
SCORES = "scores.safetensors"
PRUNED, STEPS = (
    "pruned",
    "steps.json",
)  # a folder, and what is in it beside card and scores

# Keys of config.json that say who wrote it, not what is computed.
BOOKKEEPING = frozenset({"_name_or_path", "transformers_version"})

REFRESH = "gather them again, and build: gen facts SPEC --refresh"


def gather_facts(
    source: str,
    root: Path,
    *,
    allow_network: bool = True,
    convert_tokenizer: bool = False,
    place: Place | None = None,
) -> Facts:
    """The facts of the backbone that a spec's `from` names, seen now.

    `convert_tokenizer` allows importing transformers where there is no tokenizer.json.
    """
    checkpoint = resolve(source, root, allow_network=allow_network, place=place)
    try:
        return gather(checkpoint, convert_tokenizer=convert_tokenizer)
    except GenError as error:  # what a checkpoint lacks has no place of its own
        found = [d if d.place else replace(d, place=place) for d in error.diagnostics]
        raise GenError(found) from None


def gather(checkpoint: Checkpoint, *, convert_tokenizer: bool = False) -> Facts:
    """The facts of a checkpoint that was resolved already."""
    config = read_config(checkpoint)
    archs.find(config.get("model_type"))  # else nothing that follows would help
    weights = find_weights(checkpoint)
    tensors = read_tensors(checkpoint)
    tokenizer = read_tokenizer(checkpoint, config, convert=convert_tokenizer)
    if tokenizer is not None:
        check_vocabulary(tokenizer, config, f"{checkpoint.source}: {TOKENIZER}")
    read = {CONFIG, PREPROCESSOR, *find_tokenizer_files(checkpoint), *weights.files}
    if weights.index is not None:
        read.add(weights.index)
    names = sorted(read & checkpoint.names())
    files = tuple(CardFile(n, checkpoint.size(n), checkpoint.sha256(n)) for n in names)
    card = Card(
        source=checkpoint.source,
        revision=checkpoint.revision,
        licence=checkpoint.licence(),
        config=config,
        tensors=tensors,
        files=files,
        preprocessor=read_mapping(checkpoint, PREPROCESSOR),
        tokenizer_config=read_mapping(checkpoint, TOKENIZER_CONFIG),
        verified=all(f.sha256 is not None for f in files),
    )
    return Facts(card, tokenizer, measured=None, reference=None)


def card_from_config(
    config: Mapping[str, Any],
    names_and_shapes: Mapping[str, tuple[str, tuple[int, ...]]],
    *,
    source: str,
    licence: str | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
    preprocessor: Mapping[str, Any] | None = None,
    files: tuple[str, ...] = (CONFIG,),
    weights: str = "model.safetensors",
) -> Card:
    """A card of a checkpoint that nobody has seen here, from what is known of it.

    `names_and_shapes` maps each key to its dtype ("F32") and shape; all of them are put
    into the file `weights`. Sizes and hashes stay None, and so does the revision unless
    `source` names a commit. The card is not verified: `complete` fills in the rest where
    the checkpoint can be reached.
    """
    commit = re.search(r"(?<=@)[0-9a-f]{40}$", source)
    return Card(
        source=source,
        revision=commit[0] if commit else None,
        licence=licence,
        config=dict(config),
        tensors=tuple(
            CardTensor(key, *names_and_shapes[key], weights)
            for key in sorted(names_and_shapes)
        ),
        files=tuple(CardFile(n, None, None) for n in sorted({*files, weights})),
        preprocessor=preprocessor,
        tokenizer_config=tokenizer_config,
        verified=False,
    )


def meta_names_and_shapes(
    config: Mapping[str, Any], class_name: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes as transformers' `class_name` would save them, F32.

    The model is built on the meta device, without memory for its weights; of tied
    parameters only the first name is given, as save_pretrained does. Imports torch and
    transformers. What a published checkpoint of that class holds may differ: older ones
    have other names and more buffers.
    """
    import torch
    import transformers

    settings = dict(config)
    model_config = transformers.AutoConfig.for_model(
        settings.pop("model_type"), **settings
    )
    with torch.device("meta"):
        model = getattr(transformers, class_name)(model_config)
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    return {
        name: ("F32", tuple(value.shape))
        for name, value in model.named_parameters()
        if name not in tied
    }


def facts_match(facts: Facts, checkpoint: Checkpoint) -> list[Diagnostic]:
    """What the facts say otherwise than the checkpoint; empty where they agree.

    What nobody had seen is no difference; if that is all, one warning says so.
    """
    card = facts.card
    found = [
        *_compare_files(card, checkpoint),
        *_compare_config(card, read_config(checkpoint)),
        *_compare_tensors(card.tensors, read_tensors(checkpoint)),
        *_compare_tokenizer(facts, checkpoint),
    ]
    if card.revision and checkpoint.revision and card.revision != checkpoint.revision:
        found.insert(
            0,
            _differs(
                f"{card.source} is now at commit {checkpoint.revision}, and the facts "
                f"are of {card.revision}",
                "name that commit in the spec, after an @; or " + REFRESH,
            ),
        )
    if not found and not card.verified:
        found.append(
            Diagnostic(
                "G152",
                f"the facts of {card.source} were written without seeing all of its "
                "files; what they say agrees with them",
                help="record sizes and hashes: gen facts SPEC --complete",
                severity="warning",
            )
        )
    return found


def complete(
    facts: Facts, checkpoint: Checkpoint, *, convert_tokenizer: bool = False
) -> Facts:
    """The same facts with all that can be seen now filled in.

    Whatever the facts already claim has to be true: a contradiction is a GenError, since
    what was built from them would change.
    """
    wrong = [d for d in facts_match(facts, checkpoint) if d.severity == "error"]
    if wrong:
        raise GenError([replace(d, code="G153") for d in wrong])
    seen = gather(checkpoint, convert_tokenizer=convert_tokenizer)
    return replace(
        seen,
        card=replace(seen.card, source=facts.card.source),
        tokenizer=facts.tokenizer or seen.tokenizer,
        measured=facts.measured,
        reference=facts.reference,
        vocabulary=facts.vocabulary,
        scores=facts.scores,
        pruned=facts.pruned,
    )


def keep_measured(old: Facts | None, new: Facts) -> Facts:
    """The new facts with what was measured on the old, where the weights are the same,
    and what was counted, where the tokenizer is."""
    if old is None:
        return new
    if old.tokenizer == new.tokenizer:
        new = replace(new, vocabulary=old.vocabulary)
    if _weights_of(old) != _weights_of(new):
        return new
    return replace(
        new,
        measured=old.measured,
        reference=old.reference,
        scores=old.scores,
        pruned=old.pruned,
    )


def facts_folder(spec_folder: Path, job: str) -> Path:
    """Where the facts of a job lie."""
    return spec_folder / "facts" / job


def load_facts(folder: Path) -> Facts | None:
    """The facts in that folder, or None where it has no card."""
    card = folder / CARD
    if not card.exists():
        return None
    text = _read(card, LARGEST)
    assert text is not None
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise fail("G150", f"{card} is not UTF-8", help=REFRESH) from None
    tokenizer = _read(folder / TOKENIZER, TOKENIZER_LIMIT)
    if tokenizer is not None:
        clean = clean_tokenizer(tokenizer, str(folder / TOKENIZER))
        if clean != tokenizer:
            raise fail(
                "G150",
                f"{folder / TOKENIZER} was changed after it was gathered",
                help="facts are gathered, not edited: gen facts SPEC --refresh",
            )
    measured = _read(folder / MEASURED, SMALL)
    figures = None if measured is None else parse_json(measured, str(folder / MEASURED))
    if figures is not None and not isinstance(figures, dict):
        raise fail("G150", f"{folder / MEASURED} is not a JSON object", help=REFRESH)
    return Facts(
        card=load_card(decoded, str(card)),
        tokenizer=tokenizer,
        measured=figures,
        reference=_read(folder / REFERENCE, TOKENIZER_LIMIT),
        vocabulary=_read(folder / VOCABULARY, TOKENIZER_LIMIT),
        scores=_read(folder / SCORES, TOKENIZER_LIMIT),
        pruned=_pruned(folder / PRUNED),
    )


def _pruned(folder: Path) -> Pruned | None:
    """What the last step of a job starts from; None where no steps were run."""
    steps, card = _read(folder / STEPS, SMALL), _read(folder / CARD, LARGEST)
    scores = _read(folder / SCORES, TOKENIZER_LIMIT)
    if steps is None or card is None or scores is None:
        return None
    try:
        text, said = card.decode(), steps.decode()
    except UnicodeDecodeError:
        raise fail(
            "G150", f"{folder} has a file that is not UTF-8", help="gen run SPEC"
        ) from None
    return load_steps(
        said, load_card(text, str(folder / CARD)), scores, str(folder / STEPS)
    )


def save_facts(facts: Facts, folder: Path) -> list[Path]:
    """Make the folder say just these facts; the files that were written or removed."""
    measured = None if facts.measured is None else dump_measured(facts.measured)
    wanted = {
        CARD: dump_card(facts.card).encode(),
        TOKENIZER: facts.tokenizer,
        MEASURED: None if measured is None else measured.encode(),
        REFERENCE: facts.reference,
        VOCABULARY: facts.vocabulary,
        SCORES: facts.scores,
    }
    pruned = facts.pruned
    wanted |= {
        f"{PRUNED}/{name}": data
        for name, data in {
            CARD: None if pruned is None else dump_card(pruned.card).encode(),
            SCORES: None if pruned is None else pruned.scores,
            STEPS: None if pruned is None else dump_steps(pruned).encode(),
        }.items()
    }
    changed = []
    for name, data in wanted.items():
        path = folder / name
        if data is not None and write_if_changed(path, data):
            changed.append(path)
        elif data is None and path.exists():
            path.unlink()
            changed.append(path)
    return changed


def _read(path: Path, limit: int) -> bytes | None:
    return read_small(path, str(path), limit) if path.exists() else None


def _weights_of(facts: Facts) -> tuple[Any, ...]:
    """What has to be equal for figures to hold: weights, configuration, tokenizer."""
    card = facts.card
    hashes = [f for f in card.files if f.name.endswith(".safetensors")]
    return card.verified, hashes, card.tensors, dict(card.config), facts.tokenizer


def _differs(message: str, help: str = REFRESH) -> Diagnostic:
    return Diagnostic("G151", message, help=help)


def _compare_files(card: Card, checkpoint: Checkpoint) -> list[Diagnostic]:
    names = checkpoint.names()
    found = []
    for file in card.files:
        if file.name not in names:
            if file.size is not None:
                found.append(_differs(f"{checkpoint.label(file.name)} is not there"))
            continue
        size = checkpoint.size(file.name)
        if file.size is not None and size != file.size:
            found.append(
                _differs(
                    f"{checkpoint.label(file.name)} has {size} bytes, and the facts are "
                    f"of a file of {file.size}"
                )
            )
        elif file.sha256 is not None:
            digest = checkpoint.sha256(file.name)
            if digest is not None and digest != file.sha256:
                found.append(
                    _differs(
                        f"{checkpoint.label(file.name)} is not the file that the facts "
                        f"are of: SHA-256 {digest[:12]}, not {file.sha256[:12]}"
                    )
                )
    return found


def _compare_config(card: Card, config: Mapping[str, Any]) -> list[Diagnostic]:
    keys = sorted((card.config.keys() | config.keys()) - BOOKKEEPING)
    return [
        _differs(
            f'{card.source}: "{key}" is {_shown(config, key)} in its {CONFIG}, and '
            f"{_shown(card.config, key)} in the facts"
        )
        for key in keys
        if _typed(config, key) != _typed(card.config, key)
    ]


def _typed(config: Mapping[str, Any], key: str) -> tuple[bool, type, Any]:
    # 1, 1.0 and true are equal in Python
    value = config.get(key)
    return key in config, type(value), value


def _shown(config: Mapping[str, Any], key: str) -> str:
    return f"{config[key]!a:.60}" if key in config else "absent"


def _compare_tensors(
    said: tuple[CardTensor, ...], seen: tuple[CardTensor, ...]
) -> list[Diagnostic]:
    """One message a kind of difference, with a count: a wrong model differs everywhere."""
    before = {t.key: (t.dtype, t.shape) for t in said}
    now = {t.key: (t.dtype, t.shape) for t in seen}
    missing = sorted(before.keys() - now.keys())
    extra = sorted(now.keys() - before.keys())
    other = sorted(k for k in before.keys() & now.keys() if before[k] != now[k])
    found = []
    if missing:
        found.append(
            _differs(
                f'the weights lack {len(missing)} tensors of the facts, first "{missing[0]}"'
            )
        )
    if extra:
        found.append(
            _differs(
                f'the weights have {len(extra)} tensors more than the facts, first "{extra[0]}"'
            )
        )
    if other:
        key = other[0]
        found.append(
            _differs(
                f"{len(other)} tensors have another dtype or shape than in the facts, "
                f'first "{key}": {now[key][0]} {list(now[key][1])}, not '
                f"{before[key][0]} {list(before[key][1])}"
            )
        )
    return found


def _compare_tokenizer(facts: Facts, checkpoint: Checkpoint) -> list[Diagnostic]:
    """By what the tokenizers library reads, since it may be written in several ways.

    Older files are compared by their hashes alone: converting needs transformers.
    """
    if TOKENIZER not in checkpoint.names():
        return []
    label = checkpoint.label(TOKENIZER)
    data = checkpoint.read(TOKENIZER, TOKENIZER_LIMIT)
    size = vocabulary_size(facts.card.config)
    seen = clean_tokenizer(data, label, size)
    said = facts.tokenizer
    if said is None:
        if not facts.card.verified:
            return []
        return [_differs(f"the facts have no tokenizer, and {label} is one")]
    if said == seen or _canonical(said, TOKENIZER) == _canonical(seen, label):
        return []
    return [_differs(f"{label} is not the tokenizer of the facts")]


def _canonical(tokenizer: bytes, file: str) -> str:
    return parse_tokenizer(tokenizer, file).to_str()
