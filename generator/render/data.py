"""data.py of a package: the view of its template, and the text.

The template picks partials by the flags of the view and repeats its lists. Which names
the file imports is read off its body, so that none is missing and none is idle.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from generator.ir.job import Job
from generator.ir.plans import (
    CleanPlan,
    DataPlan,
    Format,
    GuardPlan,
    ImagePlan,
    TextPlan,
)
from generator.render.text import fill

# Endings of files by format; what has another ending has the job's only format.
ENDINGS: Mapping[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".tsv": "tsv",
}
TABLES = {"csv_records": "CSV", "tsv_records": "TSV"}  # readers of text alone

# What a generated file may import, by the name that stands for it there.
STDLIB, INSTALLED, OWN = range(3)
IMPORTS: Mapping[str, tuple[int, str]] = {
    "argparse": (STDLIB, "import argparse"),
    "csv": (STDLIB, "import csv"),
    "ctypes": (STDLIB, "import ctypes"),
    "difflib": (STDLIB, "import difflib"),
    "gc": (STDLIB, "import gc"),
    "functools": (STDLIB, "import functools"),
    "hashlib": (STDLIB, "import hashlib"),
    "html": (STDLIB, "import html"),
    "json": (STDLIB, "import json"),
    "multiprocessing": (STDLIB, "import multiprocessing"),
    "math": (STDLIB, "import math"),
    "os": (STDLIB, "import os"),
    "re": (STDLIB, "import re"),
    "shutil": (STDLIB, "import shutil"),
    "signal": (STDLIB, "import signal"),
    "struct": (STDLIB, "import struct"),
    "sys": (STDLIB, "import sys"),
    "unicodedata": (STDLIB, "import unicodedata"),
    "array": (STDLIB, "from array"),
    "Counter": (STDLIB, "from collections"),
    "deque": (STDLIB, "from collections"),
    "Callable": (STDLIB, "from collections.abc"),
    "Iterable": (STDLIB, "from collections.abc"),
    "Iterator": (STDLIB, "from collections.abc"),
    "Mapping": (STDLIB, "from collections.abc"),
    "Sequence": (STDLIB, "from collections.abc"),
    "Future": (STDLIB, "from concurrent.futures"),
    "ProcessPoolExecutor": (STDLIB, "from concurrent.futures"),
    "ThreadPoolExecutor": (STDLIB, "from concurrent.futures"),
    "ExitStack": (STDLIB, "from contextlib"),
    "dataclass": (STDLIB, "from dataclasses"),
    "chain": (STDLIB, "from itertools"),
    "groupby": (STDLIB, "from itertools"),
    "islice": (STDLIB, "from itertools"),
    "starmap": (STDLIB, "from itertools"),
    "StringIO": (STDLIB, "from io"),
    "NamedTemporaryFile": (STDLIB, "from tempfile"),
    "TemporaryFile": (STDLIB, "from tempfile"),
    "Path": (STDLIB, "from pathlib"),
    "Any": (STDLIB, "from typing"),
    "BinaryIO": (STDLIB, "from typing"),
    "NamedTuple": (STDLIB, "from typing"),
    "TextIO": (STDLIB, "from typing"),
    "pa": (INSTALLED, "import pyarrow as pa"),
    "pq": (INSTALLED, "import pyarrow.parquet as pq"),
    "torch": (INSTALLED, "import torch"),
    "MinHash": (INSTALLED, "from datasketch"),
    "LanguageIdentifier": (INSTALLED, "from py3langid.langid"),
    "MODEL_FILE": (INSTALLED, "from py3langid.langid"),
    "Image": (INSTALLED, "from PIL"),
    "ImageOps": (INSTALLED, "from PIL"),
    "SafetensorError": (INSTALLED, "from safetensors"),
    "shorten": (STDLIB, "from textwrap"),
    "load_file": (INSTALLED, "from safetensors.torch"),
    "tokenizers": (INSTALLED, "import tokenizers"),
    "Encoding": (INSTALLED, "from tokenizers"),
    "Tokenizer": (INSTALLED, "from tokenizers"),
    "Tensor": (INSTALLED, "from torch"),
    "SDPBackend": (INSTALLED, "from torch.nn.attention"),
    "sdpa_kernel": (INSTALLED, "from torch.nn.attention"),
    "TorchFunctionMode": (INSTALLED, "from torch.overrides"),
    "tqdm": (INSTALLED, "from tqdm"),
    "COLUMNS": (OWN, "from .rows"),
    "SORTED": (OWN, "from .rows"),
    "STEP": (OWN, "from .rows"),
    "Row": (OWN, "from .rows"),
    "Rows": (OWN, "from .rows"),
    "by_key": (OWN, "from .rows"),
    "columns_on_disk": (OWN, "from .rows"),
    "hashes": (OWN, "from .rows"),
    "in_columns": (OWN, "from .rows"),
    "in_order": (OWN, "from .rows"),
    "on_disk": (OWN, "from .rows"),
    "open_rows": (OWN, "from .rows"),
    "places": (OWN, "from .rows"),
    "same": (OWN, "from .rows"),
    "starts_of": (OWN, "from .rows"),
    "LABELS": (OWN, "from .model"),
    "Model": (OWN, "from .model"),
}


# The module that reads what else the head is told of a row.
FEATURES: Mapping[str, tuple[int, str]] = {"features": (OWN, "from .")}


@dataclass(frozen=True)
class DataFile:
    split: str
    path: str
    reader: str  # code


@dataclass(frozen=True)
class Part:
    """What is taken out of the training file for a split that has no file."""

    split: str
    share: float


@dataclass(frozen=True)
class StepView:
    """A step that rewrites texts."""

    name: str  # as the key of the spec
    function: str  # code
    partial: str  # of the function; "" where it is Python's own


@dataclass(frozen=True)
class CleanView:
    """What [data.clean] asks for. Where it asks for nothing, all of it is empty."""

    asked: tuple[str, ...]  # a line for each setting
    steps: tuple[StepView, ...]
    form: str  # of Unicode
    masks: tuple[str, ...]
    missing: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...]  # and the label of each
    languages: tuple[str, ...]
    min_chars: int
    max_chars: int
    min_tokens: int
    lengths: bool  # there is a least or a greatest number of characters
    by_tokens: bool  # rows are chosen by their tokens
    overlong: bool  # those that are too long are put aside
    distinct: bool
    near: bool  # and what is nearly the same leaves
    levels: bool
    alpha: bool  # transparent parts become white
    min_pixels: int
    max_pixels: int
    sized: bool  # there is a least or a greatest number of pixels
    recoded: bool  # pixels are rewritten
    rewrites: bool  # of texts, images or labels
    rewritten: tuple[str, ...]  # the steps that are counted
    text_told: str  # code: the argument that is told of rewrites
    label_told: str  # code
    text: str  # code: a row's text made clean
    shortest: str  # code: the characters of its shortest text
    longest: str  # code: of its longest


@dataclass(frozen=True)
class DataView:
    """All that data.py.j2, rows.py.j2 and their partials read. Strings of code are marked as such."""

    name: str
    steps: str  # prose: what the file does to rows
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    files: tuple[DataFile, ...]
    fractions: tuple[Part, ...]
    read_beside: tuple[str, ...]  # files besides the one that is split
    seed: int
    seed_of: str  # prose
    # Rows
    csv: bool
    tsv: bool
    jsonl: bool
    parquet: bool
    tables: str  # prose: those of its formats that hold text alone
    readers: bool  # files differ in format
    reader: str  # code
    wanted: str  # code: the columns
    line_note: str
    images: bool
    in_files: bool  # what is made of texts is kept in files of the work folder
    held: bool  # in the rows themselves
    pair: bool
    columns: tuple[str, ...]
    input_partial: str
    read_partial: str
    text_type: str  # code
    thing: str  # prose: what may not be in two splits
    fields: str  # code: a duplicate's fields for the quarantine
    apart: bool  # files may share rows
    file_of: str  # code
    empty_help: str
    # Targets
    label: tuple[str, ...]
    flags: bool  # the columns say 0 or 1, one for each label
    typed: bool  # values of fields need not be strings
    separator: str | None
    regression: bool
    multi_label: bool
    stratified: str  # prose
    stratified_by: str  # prose
    strata: str  # code: how many
    target_partial: str
    target_type: str  # code
    target_note: str
    targets_note: str
    all_targets_note: str
    targets_kept: str  # code: the type and the shape of a row's target
    strings: str  # code: the shape of what a row has of texts, and of what else is read
    kept_in: str  # code: the argument that says where rows are kept
    clean: CleanView
    receives: str  # prose: what becomes of the work folder
    features: bool  # the head reads more of a row
    beside: str  # code: what its columns say, where rows are compared by that too
    same_else: str  # prose: what rows share, beside the text, of which one is enough
    dates: bool  # some of that are dates
    raw_args: str  # code: what they are read from, in a `record` and its `text`
    raw_of: str  # code: a call that reads them
    guarded: bool  # what is shown of rows has nothing personal in it
    checked: bool  # rows may leave that guard.py finds
    private: bool  # nor has what is put aside
    # Batches
    batch: int
    batch_unit: str  # prose
    by_tokens: bool
    prefetch: bool
    workers: int
    cuda: bool
    inputs_type: str  # code
    inputs_note: str
    inputs_names: str  # code: those beside the mask
    taken: str  # code: what `collate` takes of the columns beside
    inputs_pinned: str  # code
    drawn: bool  # an epoch has rows of each label alike
    changed: bool  # augment.py makes batches too
    # Text
    max_tokens: int
    pad: int
    types: bool
    tokenizer_missing: bool
    bare: bool  # the tokenizer adds no tokens, so that a text may have none
    # Images
    resize: tuple[int, int] | None
    shortest: bool
    resample: str  # code: a member of PIL.Image.Resampling
    crop: tuple[int, int] | None
    rescale: float | None
    normalise: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


def render(job: Job) -> str:
    """The source of data.py, not yet formatted."""
    return fill("data.py.j2", data_view(job))


def data_view(job: Job) -> DataView:
    """The view of a job. ValueError where its data plan contradicts itself."""
    view = _view(job)
    body = fill("partials/data_body.j2", view)
    return replace(view, imports=imports(body, FEATURES if view.features else {}))


def names(job: Job) -> frozenset[str]:
    """What data.py of a job defines."""
    return defined(fill("partials/data_body.j2", _view(job)))


def _view(job: Job) -> DataView:
    """The view without its imports, which are read off the body that it gives."""
    plan, inputs = job.data, job.data.inputs
    images = isinstance(inputs, ImagePlan)
    text = inputs if isinstance(inputs, TextPlan) else TextPlan((), 0, 0, False)
    pixels = inputs if isinstance(inputs, ImagePlan) else _NO_IMAGE
    if images and not job.train.batch:
        raise ValueError("a batch of images is a number of examples, not of tokens")
    if images and not pixels.crop and (not pixels.resize or _shortest(pixels)):
        raise ValueError("images keep their own sizes: a batch needs an exact resize")

    files = _files(plan)
    given = {file.split for file in files}
    fractions = tuple(
        Part(split, share)
        for split, share in (
            ("valid", plan.valid_fraction),
            ("test", plan.test_fraction),
        )
        if split not in given
    )
    formats = {file.reader for file in files}
    pair = len(text.columns) == 2
    regression, multi = job.task == "regression", job.task == "multi-label"
    single, flags = not (regression or multi), multi and len(plan.label) > 1
    cuda = job.target.device == "cuda"
    outputs = len(plan.label if regression else job.labels)
    more = beside(job)
    named = ["x"] if images else ["ids", *["types"] * text.token_types]
    named += more
    return DataView(
        name=job.name,
        steps=(
            "read, checked, kept apart, decoded, batched"
            if images
            else "read, checked, kept apart, tokenised, batched"
        ),
        imports=(),
        files=files,
        fractions=fractions,
        read_beside=tuple(s for s in ("valid", "test") if fractions and s in given),
        seed=job.train.seed,
        seed_of=(
            "the split and of the order of rows" if fractions else "the order of rows"
        ),
        csv="csv" in plan.formats,
        tsv="tsv" in plan.formats,
        jsonl="jsonl" in plan.formats,
        parquet="parquet" in plan.formats,
        tables=" or ".join(TABLES[r] for r in sorted(formats & set(TABLES))),
        readers=len(formats) > 1,
        reader="READERS[split]" if len(formats) > 1 else files[0].reader,
        wanted=_wanted(
            "IMAGE" if images else "*TEXTS" if pair else "TEXT",
            "*TARGETS" if regression else "*FLAGS" if flags else "LABEL",
            bool(plan.features.columns),
        ),
        line_note=_line_note(plan.formats),
        images=images,
        in_files=not images and plan.rows == "files",
        held=pixels.held,
        pair=pair,
        columns=(pixels.column,) if images else text.columns,
        input_partial=f"partials/data_input_{_kind(images, pair)}.j2",
        read_partial=f"partials/data_read_{'image' if images else 'text'}.j2",
        text_type="tuple[str, str]" if pair else "str",
        thing=data_thing(plan),
        fields={
            "text": "{TEXT: row.text}",
            "pair": "dict(zip(TEXTS, row.text))",
            "image": "{IMAGE: row.image}",
        }[_kind(images, pair)],
        apart=len(files) > 1,
        file_of=file_of(plan),
        empty_help=(
            "it needs a larger fraction, or a file with rows that no other split has"
            if fractions
            else "other splits have all of its rows, which it must not share"
        ),
        label=plan.label,
        flags=flags,
        typed=not formats <= set(TABLES),
        separator=(
            plan.separator if multi and not flags and formats & set(TABLES) else None
        ),
        regression=regression,
        multi_label=multi,
        stratified="" if regression else ", of each label alike",
        stratified_by=(
            "all alike" if regression else "the rarest label" if multi else "the label"
        ),
        strata="1" if regression else "len(LABELS) + 1" if multi else "len(LABELS)",
        target_partial=(
            "partials/data_target_values.j2"
            if regression
            else (
                f"partials/data_target_{'flags' if flags else 'labels'}.j2"
                if multi
                else "partials/data_target_label.j2"
            )
        ),
        target_type="int" if single else "list[float]",
        target_note=(
            "`target` is the label's number."
            if single
            else (
                "`target` has 1.0 for each label that it has."
                if multi
                else "`target` is a value for each of TARGETS."
            )
        ),
        targets_note="i64 (B)" if single else "f32 (B, K)",
        all_targets_note="i64 (rows)" if single else "f32 (rows, K)",
        targets_kept=(
            "(torch.int64, ())" if single else f"(torch.float32, ({outputs},))"
        ),
        strings=(
            f"({len(text.columns) + bool(more)},)"
            if len(text.columns) + bool(more) > 1
            else "()"
        ),
        kept_in=", work" if kept_in_files(plan) else "",
        clean=clean_view(plan),
        receives=_receives(plan),
        features=len(more) > 0,
        beside=compared(plan),
        same_else="columns and target" if compared(plan) else "target",
        dates=len(plan.features.dates) > 0,
        raw_args=raw_args(plan),
        raw_of=raw_of(plan),
        guarded=not images and plan.guard != GuardPlan(),
        checked=_checked(plan.guard),
        private=plan.guard.personal != "off",
        batch=job.train.batch or job.train.batch_tokens,
        batch_unit="examples" if job.train.batch else "tokens, padding included",
        by_tokens=not job.train.batch,
        prefetch=images or cuda,
        workers=4 if images else 1,
        cuda=cuda,
        inputs_type=_inputs_type(images, text.token_types, len(more)),
        inputs_note=(
            "ids, types and mask, each (B, T)"
            if text.token_types
            else "ids and mask, each (B, T)"
        ),
        inputs_names=", ".join(named),
        taken=columns_at(job, "columns", "" if images else "[rows]"),
        inputs_pinned=", ".join(f"{name}.pin_memory()" for name in named),
        drawn=job.train.sampling == "balanced",
        changed=plan.augment.rows,
        max_tokens=text.max_tokens,
        pad=text.pad_id,
        types=text.token_types,
        tokenizer_missing=text.tokenizer_missing,
        bare=text.bare,
        resize=pixels.resize,
        shortest=_shortest(pixels),
        resample=pixels.resample.upper(),
        crop=pixels.crop,
        rescale=None if pixels.rescale == 1 else pixels.rescale,
        normalise=any(pixels.mean) or any(value != 1 for value in pixels.std),
        mean=pixels.mean,
        std=pixels.std,
    )


# The steps that rewrite texts, in their order.
STEPS = tuple(
    StepView(name, function, f"partials/data_clean_{name}.j2" if own else "")
    for name, function, own in (
        ("unicode", "normal_form", True),
        ("invisible", "without_invisible", True),
        ("html", "without_markup", True),
        ("personal", "redacted", False),
        ("mask", "masked", True),
        ("case", "str.lower", False),
        ("whitespace", "without_runs", True),
    )
)


def clean_view(plan: DataPlan) -> CleanView:
    """What a plan asks to be done to rows."""
    clean = plan.clean
    pair = isinstance(plan.inputs, TextPlan) and len(plan.inputs.columns) == 2
    given = _given(plan)
    steps = steps_of(plan)
    pixels = ["levels"] * clean.levels + ["alpha"] * (clean.alpha != "off")
    return CleanView(
        asked=tuple(f"{name} = {json.dumps(value)}" for name, value in given.items()),
        steps=steps,
        form=clean.unicode,
        masks=clean.mask,
        missing=clean.missing,
        aliases=tuple((a, label) for label, some in clean.labels for a in some),
        languages=clean.languages,
        min_chars=clean.min_chars,
        max_chars=clean.max_chars,
        min_tokens=clean.min_tokens,
        lengths=bool(clean.min_chars or clean.max_chars),
        by_tokens=bool(clean.min_tokens or clean.too_long == "quarantine"),
        overlong=clean.too_long == "quarantine",
        distinct=clean.duplicates != "off",
        near=clean.duplicates == "near",
        levels=clean.levels,
        alpha=clean.alpha != "off",
        min_pixels=clean.min_pixels,
        max_pixels=clean.max_pixels,
        sized=bool(clean.min_pixels or clean.max_pixels),
        recoded=bool(pixels),
        rewrites=bool(steps or pixels or clean.labels),
        rewritten=(
            *(step.name for step in steps),
            *pixels,
            *["labels"] * bool(clean.labels),
        ),
        text_told=", changes" if steps else "",
        label_told=", changes" if clean.labels else "",
        text=clean_text(plan),
        shortest="min(map(len, text))" if pair else "len(text)",
        longest="max(map(len, text))" if pair else "len(text)",
    )


def _given(plan: DataPlan) -> dict[str, Any]:
    """The settings of a cleaning that are not off; what is redacted is cleaned as well."""
    found = {
        field.name: getattr(plan.clean, field.name)
        for field in fields(CleanPlan)
        if getattr(plan.clean, field.name) != field.default
    }
    if plan.guard.personal == "redact":
        found["personal"] = plan.guard.personal
    return found


def steps_of(plan: DataPlan) -> tuple[StepView, ...]:
    """The steps that texts are rewritten by."""
    return tuple(step for step in STEPS if step.name in _given(plan))


def _checked(guard: GuardPlan) -> bool:
    return any(a in ("report", "quarantine") for a in asdict(guard).values())


def data_thing(plan: DataPlan) -> str:
    """What a row gives the model."""
    if isinstance(plan.inputs, ImagePlan):
        return "image"
    return "pair" if len(plan.inputs.columns) == 2 else "text"


def kept_in_files(plan: DataPlan) -> bool:
    """Whether `read` of data.py keeps rows, or their images, in files of a work folder."""
    if isinstance(plan.inputs, ImagePlan):
        return plan.inputs.held
    return plan.rows == "files"


def file_of(plan: DataPlan) -> str:
    """Code for the file that the rows of `split` come from."""
    whole = plan.valid is not None and plan.test is not None
    return "FILES[split]" if whole else 'FILES.get(split, FILES["train"])'


def clean_text(plan: DataPlan) -> str:
    """Code for a row's `text` as it is used."""
    if not steps_of(plan):
        return "text"
    if isinstance(plan.inputs, TextPlan) and len(plan.inputs.columns) == 2:
        return "(clean(text[0]), clean(text[1]))"
    return "clean(text)"


_ALONE = "receives quarantine.jsonl"
_NO_IMAGE = ImagePlan("", None, "exact", "bilinear", None, 1.0, (0, 0, 0), (1, 1, 1))


def _shortest(plan: ImagePlan) -> bool:
    return plan.resize is not None and plan.resize_mode == "shortest"


def _files(plan: DataPlan) -> tuple[DataFile, ...]:
    named = (("train", plan.train), ("valid", plan.valid), ("test", plan.test))
    return tuple(
        DataFile(split, path, reader_of(path, plan))
        for split, path in named
        if path is not None
    )


def reader_of(path: str, plan: DataPlan) -> str:
    """The function of data.py that reads a file of a job."""
    return f"{_format(path, plan)}_records"


def _format(path: str, plan: DataPlan) -> Format:
    if len(plan.formats) == 1:
        return plan.formats[0]
    for ending, form in ENDINGS.items():
        if path.lower().endswith(ending) and form in plan.formats:
            return form
    raise ValueError(f"the format of {path} does not show in its name")


def _kind(images: bool, pair: bool) -> str:
    return "image" if images else "pair" if pair else "text"


def _wanted(inputs: str, targets: str, beside: bool) -> str:
    """The columns of the data files; `beside` are those of features.py."""
    parts = [inputs, targets]
    parts += ["*features.COLUMNS"] * beside
    return f"({', '.join(parts)})"


def _line_note(formats: tuple[Format, ...]) -> str:
    match formats:
        case ("parquet",):
            return "its number in the file, from 1"
        case _ if "parquet" in formats:
            return "where it begins, or its number in a Parquet file, from 1"
    return "where it begins, from 1"


def _inputs_type(images: bool, types: bool, more: int) -> str:
    """`more` are those that features.py makes."""
    if images:
        return f"tuple[Tensor{', Tensor' * more}]"
    return f"tuple[{'Tensor, ' * (types + more)}Tensor, Tensor | None]"


def beside(job: Job) -> tuple[str, ...]:
    """What of a row `forward` takes beside its text or image, in order."""
    numbers = ("numbers",) * (job.data.numbers > 0)
    return (*numbers, *("categories",) * bool(job.data.features.categorical))


def compared(plan: DataPlan) -> str:
    """Code: what a `row` says in columns, without what is of its text; "" where nothing
    asks whether rows are the same but for their targets, or there are no columns."""
    features = plan.features
    asks = plan.clean.duplicates != "off" or plan.guard.contradictions != "off"
    if not asks or not features.columns:
        return ""
    numbers = len(features.numeric) + 2 * len(features.dates)
    own = [f"row.raw.numbers[:{numbers}]"] * (numbers > 0)
    own += ["row.raw.categories"] * bool(features.categorical)
    return own[0] if len(own) == 1 else f"({', '.join(own)})"


def columns_at(job: Job, columns: str, rows: str) -> str:
    """Code: each of the tensors of `columns`, with the index `rows`."""
    return ", ".join(f"{columns}.{name}{rows}" for name in beside(job))


def _receives(plan: DataPlan) -> str:
    more = ["cleaning.json"] * (plan.clean != CleanPlan())
    more += ["images/"] * (isinstance(plan.inputs, ImagePlan) and plan.inputs.held)
    return f"gets {', '.join(['quarantine.jsonl', *more])}" if more else _ALONE


def raw_of(plan: DataPlan) -> str:
    """Code: the call that reads what else there is of a `record` with its `text`."""
    return f"raw_of(record{', text' * ('text' in raw_args(plan))})"


def raw_args(plan: DataPlan) -> str:
    """Code: what features.py reads of a `record` and its `text`."""
    found = ["record.fields"] * bool(plan.features.columns)
    if plan.features.text or plan.features.patterns:
        found.append("*text" if len(plan.texts) == 2 else "text")
    return ", ".join(found)


def imports(
    body: str,
    beside: Mapping[str, tuple[int, str]] = MappingProxyType({}),
) -> tuple[tuple[str, ...], ...]:
    """Import lines for the names that a body uses, by section, in isort's order.

    `beside` adds to IMPORTS; names that the body defines itself are left out.
    """
    known = {**IMPORTS, **beside}
    found, own = _names(body)
    used = found - own
    sections: tuple[dict[str, list[str]], ...] = ({}, {}, {})
    for name in sorted(used & known.keys(), key=_member_order):
        section, source = known[name]
        sections[section].setdefault(source, []).append(name)
    return tuple(
        tuple(
            source if source.startswith("import ") else import_line(source, some)
            for source, some in sorted(
                section.items(), key=lambda item: _order(item[0])
            )
        )
        for section in sections
        if section
    )


def import_line(source: str, names: Sequence[str], room: int = 88) -> str:
    """`from x import a, b` as black has it: a name a line where one is too long."""
    line = f"{source} import {', '.join(names)}"
    if len(line) <= room:
        return line
    return f"{source} import (\n" + "".join(f"    {n},\n" for n in names) + ")"


def defined(source: str) -> frozenset[str]:
    """Names that a module defines at its top level."""
    return _names(source)[1]


@functools.lru_cache(maxsize=16)  # predict.py asks about data.py as well
def _names(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names that stand anywhere in a module, and those that it defines at its top."""
    tree = ast.parse(source)
    found: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(
                target=ast.Name(id=name)
            ):
                found.add(name)
    there = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    return frozenset(there), frozenset(found)


def _member_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _order(source: str) -> tuple[bool, str]:
    return source.startswith("from "), source.lower()


def processor_sizes(plan: ImagePlan) -> Iterator[tuple[str, str]]:
    """The sizes of a plan as transformers' image processors take them: name and code."""
    if plan.resize is not None and plan.resize_mode == "shortest":
        yield "size", f'{{"shortest_edge": {plan.resize[0]}}}'
    elif plan.resize is not None:
        yield "size", f'{{"height": {plan.resize[0]}, "width": {plan.resize[1]}}}'
    if plan.crop is not None:
        yield "crop_size", f'{{"height": {plan.crop[0]}, "width": {plan.crop[1]}}}'
