"""What a change of spec means, in words: a sentence for each thing that changed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from generator.spec import edits
from generator.spec.edits import Edit
from generator.spec.model import Spec
from generator.spec.words import toml

# What a reader calls a key; every other one is called by its path.
NAMES = {
    "backbone.from": "the backbone",
    "backbone.dropout": "dropout in the backbone",
    "data.max_tokens": "the largest number of tokens in a row",
    "deploy.calibration_rows": "the number of rows that ranges are chosen by",
    "deploy.group": "the number of weights that share a scale",
    "deploy.leave": "the list of what stays unquantised",
    "deploy.precision": "the precision of prediction",
    "deploy.quantize": "the quantisation for prediction",
    "deploy.quantize_after": "the part of the training before it rounds",
    "deploy.quantize_aware": "quantisation in training",
    "deploy.range": "what chooses the ranges of inputs",
    "target.precision": "the precision of the training",
    "train.batch": "the number of rows in a batch",
    "train.batch_tokens": "the number of tokens in a batch",
    "train.ema": "what the average of the weights keeps in a step",
    "train.epochs": "the number of epochs",
    "train.freeze": "what is frozen",
    "train.label_smoothing": "label smoothing",
    "train.layer_decay": "the decay of the learning rate by block",
    "train.lr": "the learning rate",
    "train.seed": "the seed",
    "train.standardise": "standardisation of the targets",
    "train.warmup": "the part of the training that warms up",
    "train.weight_decay": "weight decay",
}
OFF = (None, ())  # values that say that there is no such thing
LONG = 12  # items of a list from which on it is told what differs
SHOWN = 6  # of those


def words(a: Spec, b: Spec) -> list[str]:
    """What B does otherwise than A: its structure first, then everything else."""
    return [*_structure(a.edit, b.edit), *_keys(a, b)]


# ------------------------------------------------------------------------------- edits


def _structure(before: Sequence[Edit], after: Sequence[Edit]) -> Iterator[str]:
    gone, new = Counter(before) - Counter(after), Counter(after) - Counter(before)
    for edit in dict.fromkeys(before):
        for _ in range(gone[edit]):
            yield f"No longer: {_lower(sentence(edit))}"
    for edit in dict.fromkeys(after):
        for _ in range(new[edit]):
            yield sentence(edit)
    if not gone and not new and list(before) != list(after):
        yield f"The edits are in another order: {', '.join(e.DO for e in after)}."


def sentence(edit: Edit) -> str:
    """What an edit does, with its own figures."""
    match edit:
        case edits.KeepLayers(layers=None):
            stay = "1 block stays" if edit.n == 1 else f"{edit.n} blocks stay"
            return f"{stay} ({edit.choose}), the others are left out."
        case edits.KeepLayers():
            stay = _listed(edit.layers or ())
            return f"Of the blocks {stay} stay, the others are left out."
        case edits.AddLayers():
            return f"Copies stand behind the blocks {_listed(edit.after)}."
        case edits.PruneFfn():
            kept = _kept(edit, "their units") + _where(edit.blocks)
            return f"Feed-forwards keep {kept}, chosen by {edit.score}."
        case edits.PruneHeads():
            kept = _kept(edit, "their heads") + _where(edit.blocks)
            return f"Attentions keep {kept}, chosen by {edit.score}."
        case edits.PruneWidth():
            kept = _kept(edit, "its channels")
            return f"The width of the model keeps {kept}, chosen by {edit.score}."
        case edits.LowRank():
            to = (
                f"of rank {edit.rank}"
                if edit.rank is not None
                else f"that keep {_share(edit.energy)} of their energy"
            )
            on = _listed(edit.on)
            return f"{_upper(on)} become products of two{_where(edit.blocks)}, {to}."
        case edits.WidenFfn():
            to = f"to {edit.to} units" if edit.to is not None else f"{edit.by} times"
            return f"Feed-forwards are widened {to}{_where(edit.blocks)}."
        case edits.WidenHeads():
            return f"Attentions have {edit.to} heads{_where(edit.blocks)}."
        case edits.TrimVocab():
            return "Tokens that no training row uses leave the vocabulary."
        case edits.Lora():
            on = _listed(edit.on)
            kind = {"lora": "LoRA", "dora": "DoRA"}[edit.DO]
            return (
                f"{kind} of rank {edit.rank} trains beside {on}{_where(edit.blocks)}."
            )
        case edits.Ia3():
            return f"Vectors train that scale {_listed(edit.on)}{_where(edit.blocks)}."
        case edits.Adapter():
            on = _listed(edit.on)
            return (
                f"Detours of width {edit.width} train behind {on}{_where(edit.blocks)}."
            )
        case edits.Pool():
            kinds = edit.kinds or (edit.kind,) * (edit.kind is not None)
            how = f": {_listed(kinds)}" if kinds else ""
            layers = f", of the layers {_listed(edit.layers)}" if edit.layers else ""
            return f"A row's vector is made in another way{how}{layers}."
        case edits.ExtendPositions():
            return f"Rows may have {edit.to} tokens."
    given = ", ".join(
        f"{f.name} = {_value(value)}"
        for f in dataclasses.fields(edit)
        if (value := getattr(edit, f.name)) != f.default
    )
    return f"{_upper(edit.DO)} is applied{f' ({given})' if given else ''}."


def _kept(
    edit: edits.PruneFfn | edits.PruneHeads | edits.PruneWidth, units: str
) -> str:
    part = str(edit.to) if edit.to is not None else _share(edit.keep)
    return f"{part} of {units}"


def _share(part: float | None) -> str:
    return f"{100 * (part or 0):g}%"


def _where(blocks: Sequence[int] | None) -> str:
    if blocks is None:
        return ""
    return f" in block{'s' * (len(blocks) > 1)} {_listed(blocks)}"


def _listed(items: Sequence[Any]) -> str:
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last


# -------------------------------------------------------------------------------- keys


def _keys(a: Spec, b: Spec) -> Iterator[str]:
    old, new = dict(_flat(a)), dict(_flat(b))
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if before == after or (before in OFF and after in OFF):
            continue
        name = NAMES.get(key, key)
        if after in OFF:
            yield f"{_upper(name)} is no longer {_value(before)}: it is not set."
        elif before in OFF:
            yield f"{_upper(name)} is {_value(after)}; it was not set."
        elif key in NAMES and isinstance(after, bool):
            now, was = ("on", "off") if after else ("off", "on")
            yield f"{_upper(name)} is {now} instead of {was}."
        elif _long(before, after):
            yield f"{_upper(name)} has {_differing(before, after)}."
        else:
            is_now, was = _value(after), _value(before)
            if is_now == was:  # but for digits that are left out
                is_now, was = str(after), str(before)
            yield f"{_upper(name)} is {is_now} instead of {was}."


def _long(before: Any, after: Any) -> bool:
    """Whether both are lists, and one of them a long one; `freeze` may be a number too."""
    lists = isinstance(before, tuple) and isinstance(after, tuple)
    return lists and max(len(before), len(after)) >= LONG


def _differing(before: Sequence[Any], after: Sequence[Any]) -> str:
    """What a long list has otherwise."""
    new = [one for one in after if one not in before]
    gone = [one for one in before if one not in after]
    if not new and not gone:
        return f"its {len(after)} items in another order"
    found = f"{len(after)} items instead of {len(before)}"
    for what, items in (("new", new), ("gone", gone)):
        if items:
            shown = [_value(one) for one in items[:SHOWN]]
            more = len(items) - len(shown)
            found += f"; {what}: {', '.join(shown)}" + (
                f" and {more} more" * (more > 0)
            )
    return found


def _flat(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a spec by its path in the file, but for its name, its edits, and what
    a search of it varies."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if not path and field.name in ("name", "edit", "search"):
            continue
        known = field.metadata.get("key")
        name = (known.toml if known else "") or field.name
        here = f"{path}.{name}" if path else name
        if dataclasses.is_dataclass(value):
            yield from _flat(value, here)
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            for number, item in enumerate(value, 1):
                yield from _flat(item, f"{here} {number}")
        else:
            yield here, value


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else toml(value)


def _upper(text: str) -> str:
    """As a sentence begins; a path or the name of a module stays as it is."""
    plain = text.split(" ")[0].isalpha()
    return text[:1].upper() + text[1:] if plain else text


def _lower(text: str) -> str:
    """As it stands within a sentence; a name in capitals stays as it is."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
