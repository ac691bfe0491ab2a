"""What the passes of edits take: the keys of the spec, and what the facts say of weights
and data where a key asks for it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

from generator import vocab
from generator.errors import fail
from generator.facts import Facts, Scores, load_scores, load_used
from generator.ir.head import classifier, vector
from generator.ir.job import Job
from generator.ir.text import print_job
from generator.passes.chosen_blocks import chosen, too_many
from generator.spec import SpecFile
from generator.spec.edits import (
    Edit,
    ExtendPositions,
    KeepLayers,
    LowRank,
    PruneFfn,
    PruneHeads,
    PruneWidth,
    ResizeImage,
    TrimVocab,
)


def arguments(
    edit: Edit, spec_file: SpecFile, facts: Facts, job: Job
) -> dict[str, Any]:
    """What an edit's pass takes: its keys, and what facts say where it needs them."""
    match edit:
        case KeepLayers(n=int(n), choose="taylor" | "influence" as method):
            return {"layers": _layers_to_keep(n, method, spec_file, facts, job)}
        case LowRank(on=on, rank=rank, blocks=blocks):
            ranks = rank or _ranks(edit, spec_file, facts, job)
            return {"on": on, "rank": ranks, "blocks": blocks}
        case TrimVocab(keep=keep):
            return {"kept": _tokens_to_keep(keep, spec_file, facts)}
        case PruneFfn():
            return {
                "kept": _units_to_keep(
                    edit, "ff", job.model.sizes["F"], spec_file, facts, job
                )
            }
        case PruneHeads():
            return {
                "kept": _units_to_keep(
                    edit, "heads", job.model.sizes["H"], spec_file, facts, job
                )
            }
        case ExtendPositions():
            return {**asdict(edit), "max_tokens": spec_file.spec.data.max_tokens}
        case ResizeImage(size=size):
            return {"size": size if isinstance(size, tuple) else (size, size)}
        case PruneWidth():
            total = job.model.sizes["C"]
            return {"kept": _channels_to_keep(edit, total, spec_file, facts)}
    return asdict(edit)


def features_to_keep(spec_file: SpecFile, facts: Facts, job: Job) -> tuple[int, ...]:
    """The numbers of the vector with the highest scores; `job` is before the selection."""
    select = spec_file.spec.features.select
    assert select.by is not None and select.keep is not None
    found = classifier(job.model)
    kind = found.module.types[vector(found)]
    total = kind.shape[-1].value(job.model.sizes)
    count = round(select.keep * total) if select.keep < 1 else int(select.keep)
    if not 0 < count < total:
        raise fail(
            "G391",
            f"the head reads {total} numbers of a row, of which {count} cannot be chosen",
            place=spec_file.place("features.select.keep"),
            help=f"keep = {max(1, total // 3)}, or any other number below {total}",
        )
    again = _calibrate(spec_file)
    place = spec_file.place("features.select.by")
    if facts.scores is None:
        raise fail(
            "G390",
            "choosing features needs their scores on the training rows",
            place=place,
            help=again,
        )
    scores = load_scores(facts.scores, facts.card, "the facts' scores")
    values = scores.values.get(features_list(select.by, job))
    if values is None or len(values) != total:
        old = any(name.startswith(f"{select.by}/features/") for name in scores.values)
        raise fail(
            "G390",
            (
                f"the facts' {select.by} scores are of other vectors: the data, the "
                "cleaning or the edits have changed"
                if old
                else f"the facts have no {select.by} scores of features"
            ),
            place=place,
            help=again,
        )
    return _highest(values, count)


def features_list(by: str, job: Job) -> str:
    """The name of the scores of the vectors of a job. It has a hash of all that they follow
    from beside the weights and the files: the model, and how rows are read."""
    text = print_job(replace(job, name="job"))
    # Not where rows are kept, whether transformers is told to take them whole, and what
    # is said of the tokenizer, which is one of the files.
    chunked = json.dumps(job.reference.chunked)
    rows = f'  rows = "{job.data.rows}"'
    for line in (rows, f"  chunked = {chunked}", "  bare = false", "  bare = true"):
        text = text.replace(f"{line}\n", "")
    parts = text.split("\n\n")
    about = [p for p in parts if not p.startswith(("plan train", "plan target"))]
    return f"{by}/features/{sha256(chr(10).join(about).encode()).hexdigest()[:16]}"


def _tokens_to_keep(
    keep: Sequence[str], spec_file: SpecFile, facts: Facts
) -> tuple[int, ...]:
    if facts.tokenizer is None or facts.vocabulary is None:
        what = "--complete" if facts.tokenizer is None else "--vocabulary"
        raise fail(
            "G232",
            (
                "trim-vocab needs to know which tokens the training rows use"
                if facts.tokenizer
                else "trim-vocab needs the tokenizer, which was not at hand"
            ),
            help=f"gen facts {spec_file.file} {what}",
        )
    used = load_used(facts.vocabulary, facts.tokenizer, "the facts' vocabulary")
    return vocab.closure(vocab.parse(facts.tokenizer), used.ids, keep)


def _units_to_keep(
    edit: PruneFfn | PruneHeads,
    kind: str,
    total: int,
    spec_file: SpecFile,
    facts: Facts,
    job: Job,
) -> dict[int, tuple[int, ...]]:
    """By block, the units with the highest scores, as many as the edit asks for.

    Heads that share key heads are counted one by one, and are chosen in their groups.
    """
    groups = job.model.sizes.get("G", total) if kind == "heads" else total
    each = total // groups
    what = "heads" if kind == "heads" else "units"
    count = _count(edit, total, math.lcm(edit.multiple, each), what, "G233")
    scores = _scores(
        f"{edit.DO} needs to know how important each part is", facts, spec_file
    )
    numbers = job.block_numbers
    found = {}
    for instance in chosen(job.model, edit.blocks):
        block = job.model.blocks.index(instance)
        values = scores.values.get(f"{edit.score}/{kind}/{numbers[block]}")
        if values is None or len(values) != total:
            raise fail(
                "G234",
                f"the facts have no {edit.score} scores of {total} parts for block "
                f"{numbers[block]} of the checkpoint",
                help=f"{_calibrate(spec_file)}; a block is pruned once",
            )
        sums = [sum(values[g * each : (g + 1) * each]) for g in range(groups)]
        found[block] = _highest(sums, count // each)
    return found


def _channels_to_keep(
    edit: PruneWidth, total: int, spec_file: SpecFile, facts: Facts
) -> tuple[int, ...]:
    """The channels of the width with the highest scores, as many as the edit asks for."""
    count = _count(edit, total, edit.multiple, "channels", "G235")
    scores = _scores(
        "prune-width needs to know how important each channel is", facts, spec_file
    )
    values = scores.values.get(f"{edit.score}/width")
    if values is None:
        raise fail(
            "G234",
            f"the facts have no {edit.score} scores of the width",
            help=_calibrate(spec_file),
        )
    return _highest(values, count)


def _count(
    edit: PruneFfn | PruneHeads | PruneWidth,
    total: int,
    step: int,
    what: str,
    code: str,
) -> int:
    """How many of `total` stay: as many as the edit asks for, a multiple of `step`."""
    wanted = wanted_of(edit, total)
    count = nearest(wanted, step)
    if (edit.to is not None and count != edit.to) or count >= total:
        near = min(count, (total - 1) // step * step)
        raise fail(
            code,
            f"{wanted:g} of {total} {what} is none of {step}, {2 * step}, ... below {total}",
            help=f"to = {near}" if near else f"there are only {total}: leave it out",
        )
    return count


def wanted_of(edit: PruneFfn | PruneHeads | PruneWidth, total: int) -> float:
    """What the spec asks for of `total`, which is not yet a multiple of anything."""
    wanted = total * edit.keep if edit.keep is not None else edit.to
    assert wanted is not None  # the spec has one of the two
    return wanted


def nearest(wanted: float, step: int) -> int:
    """The multiple of `step` that is nearest, and at least one."""
    return max(step, round(wanted / step) * step)


def _highest(values: Sequence[float], count: int) -> tuple[int, ...]:
    """The numbers of the highest values, ascending; of equal ones the first."""
    ranked = sorted(range(len(values)), key=lambda i: (-values[i], i))
    return tuple(sorted(ranked[:count]))


def _layers_to_keep(
    n: int, method: str, spec_file: SpecFile, facts: Facts, job: Job
) -> tuple[int, ...]:
    """The `n` blocks with the highest scores, in order; all where there are no more."""
    scores = _scores(
        "keep-layers needs to know how important each block is", facts, spec_file
    )
    values = scores.values.get(f"{method}/layers")
    numbers = job.block_numbers
    if values is None:
        raise fail(
            "G234",
            f"the facts have no {method} scores of blocks",
            help=_calibrate(spec_file),
        )
    if n > len(numbers):
        raise too_many(n, len(numbers))
    # What a copy of a block adds is 0 until it has learned.
    copies = [bool(block.zeros) for block in job.model.blocks]
    scored = zip(numbers, copies, strict=True)
    return _highest([0.0 if copy else values[number] for number, copy in scored], n)


def _ranks(
    edit: LowRank, spec_file: SpecFile, facts: Facts, job: Job
) -> dict[str, int]:
    """By the path of a linear the least rank that keeps the energy, rounded up."""
    assert edit.energy is not None
    scores = _scores("low-rank needs the singular values", facts, spec_file)
    numbers = job.block_numbers
    found = {}
    for instance in chosen(job.model, edit.blocks):
        number = numbers[job.model.blocks.index(instance)]
        for name in edit.on:
            # What is not there is the pass's to say: it knows the linears of a block.
            if values := scores.values.get(f"singular/{number}/{name}"):
                squares = [value**2 for value in values]
                goal = edit.energy * sum(squares)
                kept = itertools.accumulate(squares)
                rank = next(
                    (i for i, x in enumerate(kept, 1) if x >= goal), len(values)
                )
                rank = math.ceil(rank / edit.multiple) * edit.multiple
                found[f"{instance.name}.{name}"] = min(rank, len(values))
    return found


def _scores(need: str, facts: Facts, spec_file: SpecFile) -> Scores:
    if facts.scores is None:
        raise fail("G234", need, help=_calibrate(spec_file))
    return load_scores(facts.scores, facts.card, "the facts' scores")


def _calibrate(spec_file: SpecFile) -> str:
    return f"gen calibrate {spec_file.file}"
