"""Jobs that are pruned in steps: the spec of each step, and what the last one starts from.

Every step is a job of its own. Its edits leave out less than the job's do, it trains for a
part of the time, and what it starts from are the weights that the step before has left. The
last step is the job as its spec says it. `gen run` runs the steps; what they led to is a fact
of the job, as the scores of a backbone are.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from generator.arguments import nearest, wanted_of
from generator.errors import fail
from generator.facts import Card, Facts, weights_hash
from generator.spec import SpecFile, read_spec
from generator.spec.alter import alter
from generator.spec.edits import (
    Adapter,
    AddLayers,
    Dora,
    Edit,
    ExtendPositions,
    Ia3,
    KeepLayers,
    Lora,
    LowRank,
    PruneFfn,
    PruneHeads,
    PruneWidth,
    ResizeImage,
    WidenFfn,
    WidenHeads,
)
from generator.spec.model import Spec

KEY = "train.prune.steps"
SCORED = ("taylor", "influence")  # how blocks are chosen by scores
# Of the edits that go in steps, the size that each makes smaller, and words for it.
SIZES: Mapping[type, tuple[str, str]] = {
    PruneHeads: ("H", "heads"),
    PruneFfn: ("F", "units"),
    PruneWidth: ("C", "channels"),
    KeepLayers: ("L", "blocks"),
}
# Edits that no step can have, and why.
REFUSED: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        (Lora, Dora, Ia3, Adapter),
        "the weights beside adapters stay as they are, and could not recover",
    ),
    ((AddLayers, WidenFfn, WidenHeads), "what grows cannot be put back into its shape"),
    (
        (ExtendPositions, ResizeImage),
        "positions that are made anew cannot be put back among the old ones",
    ),
)
# What of a spec no step but the last makes use of.
LAST = (KEY, "train.prune.recover", "train.prune", "deploy", "search")


@dataclass(frozen=True)
class Recovery:
    """How long a step is trained: so many epochs of a part of the training rows."""

    epochs: int
    part: float


def stepped(spec: Spec) -> bool:
    """Whether a job is pruned in several steps."""
    return spec.train.prune.steps > 1


def recovery(spec: Spec) -> Recovery:
    """Whole epochs, as many as `recover` takes, of so many rows that they come to it."""
    epochs = math.ceil(spec.train.prune.recover)
    return Recovery(epochs, spec.train.prune.recover / epochs)


def step_specs(spec_file: SpecFile, sizes: Mapping[str, int]) -> tuple[SpecFile, ...]:
    """The specs of all steps but the last; `sizes` are those of the backbone's model.

    GenError where the job has what no step can have, or where one would leave nothing out.
    """
    spec = spec_file.spec
    _check(spec_file)
    count = spec.train.prune.steps
    going = [e for e in spec.edit if _goal(e, sizes) is not None]
    if not going:
        raise fail(
            "G291",
            "nothing of this job is left out by scores, so that nothing goes in steps",
            place=spec_file.place(KEY),
            help="add an [[edit]]: prune-heads, prune-ffn, prune-width, or keep-layers with "
            'choose = "taylor"; or remove [train.prune]',
        )
    left = [
        tuple(_at(edit, sizes, number / count) for edit in going)
        for number in range(count + 1)
    ]
    distinct = len(set(left)) - 1
    if distinct < count:
        raise fail(
            "G291",
            f"so little is left out that {count} steps cannot each leave out something",
            place=spec_file.place(KEY),
            label=f"at most {distinct}",
            help=(
                f"steps = {distinct}" if distinct > 1 else "prune at once: remove this"
            ),
        )
    found = []
    for number in range(1, count):
        tables = [*_tables(spec_file, sizes, number / count)]
        changes: dict[str, Any] = {name: None for name in LAST}
        changes |= {"edit": tables, "train.epochs": recovery(spec).epochs}
        text = alter(spec_file.text, changes)
        step = read_spec(text, spec_file.file)
        found.append(replace(step, teacher=spec_file.teacher))
    return tuple(found)


def started(spec_file: SpecFile, facts: Facts, sizes: Mapping[str, int]) -> Facts:
    """The facts that the job is compiled with: weights and scores are those that its steps
    have led to, where they were run and are still those of its spec."""
    pruned = facts.pruned
    if pruned is None or facts.card == pruned.card:
        return facts
    steps = step_specs(spec_file, sizes) if stepped(spec_file.spec) else ()
    if not steps or pruned.key != key(spec_file, steps, facts.card):
        # What was measured and stored is of the weights that those steps have led to.
        return replace(facts, pruned=None, measured=None, reference=None)
    return replace(facts, card=pruned.card, scores=pruned.scores)


def key(spec_file: SpecFile, steps: tuple[SpecFile, ...], card: Card) -> str:
    """SHA-256 of what the steps are, and of the weights that the first one starts from."""
    teacher = spec_file.teacher
    about = {
        "steps": [_told(step) for step in steps],
        "recover": spec_file.spec.train.prune.recover,
        "teacher": None if teacher is None else _told(teacher),
        "weights": weights_hash(card),
    }
    return sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def _told(spec_file: SpecFile) -> dict[str, Any]:
    """What a spec says, and no defaults: a key that a later gen adds is no other course."""
    return tomllib.loads(spec_file.text)


def stays(spec: Spec, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """In words what the edits of a spec leave, of what goes in steps."""
    return tuple(
        f"{goal:,} of {sizes[symbol]:,} {what}"
        for edit in spec.edit
        if (goal := _goal(edit, sizes)) is not None
        for symbol, what in (SIZES[type(edit)],)
    )


# -------------------------------------------------------------------------- the sizes


def _goal(edit: Edit, sizes: Mapping[str, int]) -> int | None:
    """What an edit leaves of its size; None of one that does not go in steps."""
    match edit:
        case PruneHeads() | PruneFfn() | PruneWidth():
            total = sizes[SIZES[type(edit)][0]]
            return nearest(wanted_of(edit, total), _multiple(edit, sizes))
        case KeepLayers(n=int(n), choose=choose) if choose in SCORED:
            return n
    return None


def _multiple(
    edit: PruneHeads | PruneFfn | PruneWidth, sizes: Mapping[str, int]
) -> int:
    """What a size is a multiple of; heads that share keys go together."""
    if isinstance(edit, PruneHeads):
        return math.lcm(edit.multiple, sizes["H"] // sizes.get("G", sizes["H"]))
    return edit.multiple


def _at(edit: Edit, sizes: Mapping[str, int], part: float) -> int:
    """What an edit leaves once a part of the steps is done: as much of what goes."""
    goal, total = _goal(edit, sizes), sizes[SIZES[type(edit)][0]]
    assert goal is not None
    left = total - (total - goal) * part
    if isinstance(edit, KeepLayers):
        return max(goal, round(left))
    assert isinstance(edit, PruneHeads | PruneFfn | PruneWidth)
    # All of it is no multiple, perhaps, and it is what stays until one is below it.
    near = nearest(left, _multiple(edit, sizes))
    return total if near >= total else max(goal, near)


def _tables(
    spec_file: SpecFile, sizes: Mapping[str, int], part: float
) -> Iterator[Mapping[str, Any]]:
    """The [[edit]] tables of a step."""
    written = tomllib.loads(spec_file.text)["edit"]
    for edit, table in zip(spec_file.spec.edit, written, strict=True):
        if isinstance(edit, LowRank):  # cut once, when the linears have their last size
            continue
        if _goal(edit, sizes) is None:
            yield table
            continue
        left = _at(edit, sizes, part)
        if left == sizes[SIZES[type(edit)][0]]:
            continue
        size = "n" if isinstance(edit, KeepLayers) else "to"
        rest = {name: value for name, value in table.items() if name != "keep"}
        yield {**rest, size: left}


# ----------------------------------------------------------------------- what is refused


def _check(spec_file: SpecFile) -> None:
    spec = spec_file.spec
    for number, edit in enumerate(spec.edit):
        for kinds, why in REFUSED:
            if isinstance(edit, kinds):
                raise _refused(spec_file, f"edit[{number}].do", edit.DO, why)
    if spec.train.stage:
        why = "there is one recipe to recover by, and stages are several"
        raise _refused(spec_file, "train.stage[0].epochs", "[[train.stage]]", why)
    if spec.features.select.by:
        why = "they are chosen of the vectors of one model, and each step is another"
        raise _refused(spec_file, "features.select.by", "[features.select]", why)
    layers = any(isinstance(e, KeepLayers) and e.choose in SCORED for e in spec.edit)
    for number, edit in enumerate(spec.edit):
        if layers and getattr(edit, "blocks", None):
            why = "blocks have other numbers in each step, as keep-layers leaves more"
            raise _refused(spec_file, f"edit[{number}].blocks", "blocks", why)


def _refused(spec_file: SpecFile, place: str, what: str, why: str) -> Exception:
    return fail(
        "G292",
        f"{what} cannot go together with pruning in steps",
        place=spec_file.place(place),
        label=why,
        help="remove it, or prune at once: remove [train.prune]",
    )
