"""Data files, looked at as a stream: all rows are counted, and some are kept.

Reads as the generated packages do, but for what they would put into quarantine row by
row: a file that cannot be read as what it says it is ends the look, with its place.
Memory does not grow with a file: rows are drawn into a reservoir of fixed size, values
are counted up to a number of them, and duplicates are followed by 64 bits of a digest, of
as many inputs as fit.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TextIO

from generator.errors import Diagnostic, GenError, Place, fail, quote
from generator.propose import ColumnFacts, Overlap, RowFacts, SplitFacts, TableFacts
from generator.propose.columns import Chosen
from generator.propose.facts import (
    LONGEST_VALUE,
    MOST_VALUES,
    Kind,
    image_bytes,
    is_missing,
    kind_of,
    label_name,
    label_names,
    mark_of,
)
from generator.propose.names import words_of
from generator.runtime.programs import installed
from generator.runtime.ready import need
from generator.spec.rules import DATA_ENDINGS, DATA_FILE, check_string

SAMPLE = 4096  # rows that are kept
SAMPLE_CELLS = 32_768  # characters that are kept of a row, in all its cells
SAMPLE_CELL = 8192  # and of a cell
MOST_COLUMNS = 1000
LONGEST_FIELD = 1 << 20  # characters, as the packages have it
LONGEST_ROW = 1 << 24  # characters or bytes of a row
MOST_LABELS = 4096
FOLLOWED = 1 << 19  # inputs of which duplicates are known
IMAGES_TRIED = 32
SHOWN_AFTER = 1.0  # seconds of reading, from which on there is a bar
SPLITS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
BITS = {split: 1 << place for place, split in enumerate(SPLITS)}
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

Row = tuple[int, Mapping[str, Any]]  # its line, or its number in Parquet; its cells


# Files -------------------------------------------------------------------------------


def find_files(paths: Sequence[Path]) -> dict[str, Path]:
    """The file of each split, "train" first, of files or one folder that are named.

    GenError (G520) where one is not there or of no kind that is read, and (G521) where
    it is not clear which is which.
    """
    found = [one for path in paths for one in _inside(path)]
    if wrong := [d for path in found if (d := _unreadable(path)) is not None]:
        raise GenError(wrong)
    if len(found) == 1:
        return {"train": found[0]}
    splits: dict[str, Path] = {}
    for path in found:
        split = _split_of(path)
        if split is None and not any(p.is_dir() for p in paths):
            raise _unclear(f"{path} could be train, valid or test")
        if split in splits:
            raise fail(
                "G521",
                f"{splits[split]} and {path} are both named {split}",
                help="each split is one file: join them, or name those to look at",
            )
        if split is not None:
            splits[split] = path
    if "train" not in splits:
        raise _unclear("none of the files is named train")
    return {split: splits[split] for split in SPLITS if split in splits}


def _inside(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in DATA_ENDINGS)
    if not found:
        raise fail(
            "G520",
            f"the folder {path} holds no .csv, .tsv, .jsonl or .parquet file",
            help="name the files; images or .txt files lie in folders named as their "
            "labels, or a .csv file beside images has a column of their paths and one of "
            "their labels",
        )
    return found


def _unreadable(path: Path) -> Diagnostic | None:
    if not path.exists():
        return Diagnostic(
            "G520", f"there is no file {path}", help="check the path of the data"
        )
    if not path.is_file():
        return Diagnostic(
            "G520",
            f"{path} is not a regular file",
            help="data are read twice: put them into a file",
        )
    finding = check_string(DATA_FILE, path.as_posix())
    if finding is None:
        return None
    help = finding.help or finding.label or "rename it"
    return Diagnostic("G520", f"{path} {finding.message}", help=help)


def _split_of(path: Path) -> str | None:
    words = words_of(path.stem)
    found = [s for s, names in SPLITS.items() if set(words) & set(names)]
    return found[0] if len(found) == 1 else None


def _unclear(message: str) -> GenError:
    return fail(
        "G521",
        message,
        help="name one file, or several with train, valid and test in their names",
    )


# Rows --------------------------------------------------------------------------------


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file; GenError (G522) at the first place that cannot be read."""
    match path.suffix:
        case ".csv":
            return _csv_rows(path)
        case ".tsv":
            return _tsv_rows(path)
        case ".jsonl":
            return _jsonl_rows(path)
    return _parquet_rows(path)


def _with_bar(path: Path, quiet: bool) -> Iterator[Row]:
    """The rows of a file, with a bar where standard error is a terminal."""
    found = read_rows(path)
    if quiet or not sys.stderr.isatty() or not installed("tqdm"):
        return found
    from tqdm import tqdm

    return iter(tqdm(found, path.name, unit=" rows", delay=SHOWN_AFTER, leave=False))


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    raw: list[str] = []  # lines of the row that is being read
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(_lines(file, path, raw), strict=True)
        header: list[str] = []
        while True:
            raw.clear()
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise _bad_csv(path, line, str(error)) from None
            if not fields:  # a blank line is no row
                continue
            if bad := _bad_character("".join(raw)):
                raise _bad_text(path, line, "".join(raw), *bad)
            if not header:
                header = _header(path, line, fields)
            elif fields == header:
                raise _header_again(path, line)
            elif len(fields) != len(header):
                raise fail(
                    "G522",
                    f"a row of {path} has {len(fields)} fields where the header has "
                    f"{len(header)}",
                    place=Place(str(path), line, 1, 1),
                    help="put quotes around a field that has a comma in it",
                )
            else:
                yield line, dict(zip(header, fields, strict=True))


def _tsv_rows(path: Path) -> Iterator[Row]:
    header: list[str] = []
    raw: list[str] = []  # the line that is being read
    with open(
        path, encoding="utf-8-sig", errors="surrogateescape", newline="\n"
    ) as file:
        for line, text in enumerate(_lines(file, path, raw), 1):
            raw.clear()
            whole = text.removesuffix("\n").removesuffix("\r")
            if not whole:  # a blank line is no row
                continue
            if bad := _bad_character(whole):
                raise _bad_text(path, line, whole, *bad)
            fields = whole.split("\t")
            if not header:
                header = _header(path, line, fields, "tabs", ";,|")
            elif fields == header:
                raise _header_again(path, line)
            elif len(fields) != len(header):
                raise fail(
                    "G522",
                    f"a row of {path} has {len(fields)} fields where the header has "
                    f"{len(header)}",
                    place=Place(str(path), line, 1, 1),
                    help="a field holds neither a tab nor a line break"
                    + "; what has fields in quotes is CSV: save it with commas, as .csv"
                    * ('"' in whole),
                )
            else:
                yield line, dict(zip(header, fields, strict=True))


def _lines(file: TextIO, path: Path, raw: list[str]) -> Iterator[str]:
    number, size = 0, 0
    while line := file.readline(LONGEST_ROW + 1):
        number += 1
        size = len(line) if not raw else size + len(line)
        if size > LONGEST_ROW:
            raise _too_long(path, number)
        raw.append(line)
        yield line


def _header(
    path: Path,
    line: int,
    fields: Sequence[str],
    between: str = "commas",
    others: str = ";\t|",
) -> list[str]:
    place = Place(str(path), line, 1, 1)
    _few_enough(path, len(fields), place)
    mark = next((m for m in others if len(fields) == 1 and m in fields[0]), "")
    if mark:
        raise fail(
            "G522",
            f"{path} has {mark!r} between its fields",
            place=place,
            help=f"save it with {between}"
            + (", or let its name end in .tsv" if mark == "\t" else ""),
        )
    # What has no name cannot be in a spec, and tables have several at their end.
    twice = [name for name, count in Counter(fields).items() if name and count > 1]
    if twice:
        raise fail(
            "G522",
            f"{path} has more than one column {quote(twice[0])}",
            place=place,
            help="give each column a name of its own",
        )
    return list(fields)


def _header_again(path: Path, line: int) -> GenError:
    return fail(
        "G522",
        f"a row of {path} has the names of the columns again",
        place=Place(str(path), line, 1, 1),
        help="it comes of files that were joined: take it out",
    )


def _bad_csv(path: Path, line: int, error: str) -> GenError:
    help = "a quote inside a field in quotes is written twice"
    if "field larger" in error:
        error = f"a field has more than {LONGEST_FIELD:,} characters"
        help = "a quote that is not closed takes in all that follows: close it"
    elif "unexpected end" in error:
        error = "a quote is not closed"
        help = "it takes in all that follows: close it, or write it twice inside quotes"
    return fail(
        "G522",
        f"{path} is not valid CSV: {error}",
        place=Place(str(path), line, 1, 1),
        help=help,
    )


def _bad_character(text: str) -> tuple[int, str] | None:
    """Where a text has a byte that is not UTF-8 or a NUL, and which."""
    if text.isascii() and "\0" not in text:
        return None
    found = re.search("[\0\ud800-\udfff]", text)
    return None if found is None else (found.start(), found.group())


def check_text(path: Path, text: str) -> None:
    """GenError (G522) where a file's text has a byte that is not UTF-8, or a NUL."""
    if bad := _bad_character(text):
        raise _bad_text(path, 1, text, *bad)


def _bad_text(path: Path, line: int, text: str, at: int, char: str) -> GenError:
    """`line` is where `text`, which may have several lines, begins."""
    before = text[:at]
    column = at - (before.rfind("\n") + 1) + 1
    if char == "\0":
        what, help = "a NUL character", "save it as UTF-8 text, without NULs"
    else:
        what = f"the byte 0x{ord(char) - 0xDC00:02X}, which is not UTF-8"
        where, code = _code_of(text)
        help = (
            f"save it as UTF-8; where it {where}: "
            f"iconv -f {code} -t UTF-8 {shlex.quote(path.name)} > new{path.suffix}"
        )
    return fail(
        "G522",
        f"{path} has {what}",
        place=Place(str(path), line + before.count("\n"), column, 1),
        help=help,
    )


def _code_of(text: str) -> tuple[str, str]:
    """What text that is not UTF-8 may be, and its name to iconv."""
    if text.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        wide = text.startswith("\udcff\udcfe\0\0")
        return "has a byte order mark, as here", "UTF-32" if wide else "UTF-16"
    # In Latin letters one or two in a row are not ASCII, in other scripts whole words.
    if re.search("[\udc80-\udcff]{4}", text):
        return "is Chinese of Windows (else WINDOWS-1251, SHIFT_JIS, ...)", "GB18030"
    return "comes from Windows or is Latin-1", "WINDOWS-1252"


def _too_long(path: Path, line: int) -> GenError:
    return fail(
        "G522",
        f"a row of {path} is longer than {LONGEST_ROW >> 20} MiB",
        place=Place(str(path), line, 1, 1),
        help="is it such a file? Rows end with a line break, and quotes are closed",
    )


def _few_enough(path: Path, count: int, place: Place | None) -> None:
    if count > MOST_COLUMNS:
        raise fail(
            "G522",
            f"{path} has {count:,} columns, the most is {MOST_COLUMNS:,}",
            place=place,
            help="keep the columns that count: an input, a label",
        )


def _jsonl_rows(path: Path) -> Iterator[Row]:
    line = 0
    with open(path, "rb") as file:
        while raw := file.readline(LONGEST_ROW + 1):
            line += 1
            if len(raw) > LONGEST_ROW:
                raise _too_long(path, line)
            if raw.strip():  # a blank line is no row
                row = _json_row(path, line, raw)
                _few_enough(path, len(row), Place(str(path), line, 1, 1))
                yield line, row


def _json_row(path: Path, line: int, raw: bytes) -> dict[str, Any]:
    text = raw.decode("utf-8-sig", "surrogateescape")
    if bad := _bad_character(text):
        raise _bad_text(path, line, text, *bad)
    row, column, why = None, 1, "it is no object"
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        column, why = error.colno, error.msg
    except RecursionError:
        why = "it is nested too deeply"
    except ValueError as error:  # a number of thousands of digits
        why = str(error)
    if isinstance(row, dict):
        if b"\\u" in raw:
            _whole_characters(path, line, row)
        return row
    help = 'each line is one object, such as {"text": "...", "label": "..."}'
    if line == 1 and text.lstrip().startswith("["):
        help += f"; of a list: jq -c '.[]' {shlex.quote(path.name)} > new{path.suffix}"
    raise fail(
        "G522",
        f"a line of {path} is not a row of JSON: {why}",
        place=Place(str(path), line, column, 1),
        help=help,
    )


def _whole_characters(path: Path, line: int, row: Mapping[str, Any]) -> None:
    """GenError where an escape of JSON stands for half a character, or for NUL."""
    cells = [*row, *row.values()]
    lists = (one for cell in cells if isinstance(cell, list) for one in cell)
    for text in (*cells, *lists):
        if isinstance(text, str) and (bad := _bad_character(text)):
            raise fail(
                "G522",
                f"{path} has \\u{ord(bad[1]):04x} in a text, which is no character",
                place=Place(str(path), line, 1, 1),
                help="take it out, or write both of its halves",
            )


def _parquet_rows(path: Path) -> Iterator[Row]:
    need("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        _few_enough(path, len(names), None)
        if len(set(names)) < len(names):
            raise fail(
                "G522",
                f"{path} has two columns of one name",
                help="give each column a name of its own",
            )
        # Images themselves may be in it, which are large.
        holds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_struct)
        large = any(is_one(t) for t in file.schema_arrow.types for is_one in holds)
        for batch in file.iter_batches(16 if large else 256):
            for cells in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                line += 1
                row = dict(zip(names, cells, strict=True))
                if any(isinstance(c, str) and "\0" in c for c in cells):
                    raise fail(
                        "G522",
                        f"row {line:,} of {path} has a NUL character in it",
                        help="take it out",
                    )
                yield line, row
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise fail(
            "G522",
            f"{path} cannot be read as Parquet after row {line:,}: {error}"[:400],
            help="write it again; text in it has to be UTF-8, and dates of the years 1 to 9999",
        ) from None


# The training file -------------------------------------------------------------------


@dataclass
class _Column:
    """The counts of a column while its rows are read."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    values: Counter[str] | None = field(default_factory=Counter)
    low: float = math.inf
    high: float = -math.inf

    def add(self, cell: Any) -> None:
        if is_missing(cell):
            return
        kind = kind_of(cell)
        self.kinds[kind] += 1
        if kind in ("integer", "number"):
            try:
                number = float(cell)
            except OverflowError:
                number = math.inf
            self.low, self.high = min(self.low, number), max(self.high, number)
        if self.values is not None:
            self._count(cell, kind)

    def _count(self, cell: Any, kind: Kind) -> None:
        assert self.values is not None
        if (
            kind in ("date", "list", "image", "other")
            or len(name := label_name(cell)) > LONGEST_VALUE
        ):
            self.values = None
            return
        self.values[name] += 1
        if len(self.values) > MOST_VALUES:
            self.values = None


def look(path: Path, quiet: bool = True) -> TableFacts:
    """What is in a training file; GenError (G522, G523) where it cannot be read, or has
    no rows."""
    columns: dict[str, _Column] = {}
    sample: list[Mapping[str, Any]] = []
    rows, draw = 0, Random(0)
    for _, row in _with_bar(path, quiet):
        rows += 1
        for name, cell in row.items():
            if name not in columns:
                _few_enough(path, len(columns) + 1, None)
                columns[name] = _Column()
            columns[name].add(cell)
        if len(sample) < SAMPLE:
            sample.append(_kept(row))
        elif (place := draw.randrange(rows)) < SAMPLE:
            sample[place] = _kept(row)
    if not rows:
        raise _no_rows(path)
    facts = tuple(
        ColumnFacts(
            name,
            rows - c.kinds.total(),
            dict(c.kinds),
            None if c.values is None else dict(c.values),
            *((c.low, c.high) if c.low <= c.high else (None, None)),
        )
        for name, c in columns.items()
    )
    held = {c.name for c in facts if c.kinds.get("image", 0) > 0.9 * c.present}
    images = _images(path, columns, sample)
    return TableFacts(rows, facts, tuple(sample), images, frozenset(held))


def _no_rows(path: Path) -> GenError:
    return fail(
        "G523", f"{path} is empty", help="it needs a header and rows, or lines of JSON"
    )


def _kept(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with long cells cut, and what is neither text, number nor list left out."""
    most = min(SAMPLE_CELL, max(64, SAMPLE_CELLS // max(len(row), 1)))
    return {name: _cut(cell, most) for name, cell in row.items()}


def _cut(cell: Any, most: int) -> Any:
    match cell:
        case str():
            return cell[:most]
        case list():
            return [_cut(one, LONGEST_VALUE + 1) for one in cell[:64]]
        case bool() | int() | float() | None:
            return cell
    return None


def _images(
    path: Path, columns: Mapping[str, _Column], sample: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """The columns whose cells are image files, by their endings and a few of them."""
    found = {}
    for name in columns:
        cells = [row[name] for row in sample if not is_missing(row.get(name))]
        if not cells or not all(isinstance(c, str) for c in cells):
            continue
        named = [c for c in cells if c.lower().endswith(IMAGE_ENDINGS)]
        if len(named) < 0.9 * len(cells):
            continue
        tried = named[:: max(1, len(named) // IMAGES_TRIED)]
        there = sum(os.path.isfile(path.parent / one) for one in tried)
        if there:
            found[name] = there / len(tried)
    return found


# All files, for the chosen columns ---------------------------------------------------


class _Seen(NamedTuple):
    """What is known of an input."""

    splits: int  # that have it, as bits
    rows: int  # that have it in the last of them
    label: int  # a digest of the first label there
    contrary: bool  # whether it has another there, too


class _Followed:
    """Digests of inputs, in which splits they are and with which labels.

    Where there are more than fit, those below a bound are followed, and the bound is
    halved: it depends on the inputs alone, so that every file has the same ones.
    """

    def __init__(self) -> None:
        self.part = 1.0
        self.known: dict[int, _Seen] = {}

    def add(self, split: str, key: int, label: int) -> bool:
        """Whether an input is in no other split that was read."""
        if key >= self.part * 2**64:
            return True
        bit = BITS[split]
        seen = self.known.get(key, _Seen(0, 0, label, False))
        if not seen.splits & bit:
            seen = _Seen(seen.splits | bit, 0, label, False)
        contrary = seen.contrary or seen.label != label
        self.known[key] = _Seen(seen.splits, seen.rows + 1, seen.label, contrary)
        while len(self.known) > FOLLOWED:
            self.part /= 2
            bound = self.part * 2**64
            self.known = {k: one for k, one in self.known.items() if k < bound}
        return seen.splits == bit

    def overlap(self) -> Overlap:
        """Training is added last, so that rows and labels are of it."""
        repeated = contrary = 0
        shared: Counter[tuple[str, str]] = Counter()
        for seen in self.known.values():
            if seen.splits & BITS["train"]:
                repeated += seen.rows - 1
                contrary += seen.contrary
            there = [split for split in SPLITS if seen.splits & BITS[split]]
            shared.update(combinations(there, 2))

        def of_all(count: int) -> int:
            return round(count / self.part)

        return Overlap(
            self.part,
            of_all(repeated),
            of_all(contrary),
            {pair: of_all(count) for pair, count in sorted(shared.items())},
        )


@dataclass
class _Numbers:
    """Mean and spread of numbers, one after the other."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, number: float) -> None:
        self.count += 1
        before = number - self.mean
        self.mean += before / self.count
        self.squares += before * (number - self.mean)
        self.low, self.high = min(self.low, number), max(self.high, number)

    @property
    def spread(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count else 0.0


def count_rows(
    files: Mapping[str, Path],
    names: Mapping[str, str],
    chosen: Chosen,
    quiet: bool = True,
) -> RowFacts:
    """Every file read for the chosen columns; `names` are the files as the spec has them.

    GenError (G522) where a file cannot be read or lacks a column, (G523) where one has no
    row that can be used.
    """
    followed, numbers = _Followed(), _Numbers()
    found: dict[str, SplitFacts] = {}
    left: Counter[str] = Counter()
    for split in ("test", "valid", "train"):  # as the packages keep them apart
        if split not in files:
            continue
        rows = usable = 0
        labels: Counter[str] = Counter()
        seen: set[str] = set()
        for _, row in _with_bar(files[split], quiet):
            rows += 1
            if len(seen) < len({*chosen.inputs, *chosen.targets}):
                seen |= row.keys() & {*chosen.inputs, *chosen.targets}
            target = _target(row, chosen)
            key = _key(row, chosen)
            if target is None or key is None:
                continue
            usable += 1
            apart = followed.add(split, key, _hash_of(str(target)))
            if isinstance(target, list):
                _count_labels(labels, target)
                if split == "train" and (apart or followed.part < 1):
                    _count_labels(left, target)
            elif split == "train":
                numbers.add(target)
        _complete(files[split], rows, usable, seen, chosen)
        size = files[split].stat().st_size
        found[split] = SplitFacts(split, names[split], rows, usable, dict(labels), size)
    return RowFacts(
        tuple(found[split] for split in SPLITS if split in found),
        followed.overlap(),
        dict(left),
        *((numbers.low, numbers.high) if numbers.count else (0.0, 0.0)),
        numbers.mean,
        numbers.spread,
    )


def _count_labels(counts: Counter[str], names: Sequence[str]) -> None:
    """Of as many labels as are few enough for a spec; more are not remembered."""
    for name in names:
        if name in counts or (len(counts) < MOST_LABELS and len(name) <= LONGEST_VALUE):
            counts[name] += 1


def _hash_of(text: str) -> int:
    return _hash_of_bytes(text.encode())


def _hash_of_bytes(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _target(row: Mapping[str, Any], chosen: Chosen) -> float | list[str] | None:
    """The number of a row, or its labels; None where a package would not use it."""
    if chosen.flags:
        marks = {name: mark_of(row.get(name)) for name in chosen.flags}
        if None in marks.values():
            return None
        return [name for name, mark in marks.items() if mark]
    cell = row.get(chosen.label)
    if chosen.task == "regression":
        try:
            number = float(cell)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None
        return number if abs(number) <= 3.4e38 else None
    if chosen.separator is not None:
        return None if cell is None else label_names(cell, chosen.separator)
    return None if is_missing(cell) else [label_name(cell)]


def _key(row: Mapping[str, Any], chosen: Chosen) -> int | None:
    """A digest of a row's input, equal for texts that differ in white space alone."""
    parts = []
    for column in chosen.inputs:
        text = row.get(column)
        if chosen.held:
            image = image_bytes(text)
            return None if image is None else _hash_of_bytes(image)
        if not isinstance(text, str) or not text.strip():
            return None
        parts.append(text if chosen.image is not None else " ".join(text.split()))
    return _hash_of("\n".join(parts))


def _complete(
    path: Path, rows: int, usable: int, seen: set[str], chosen: Chosen
) -> None:
    if not rows:
        raise _no_rows(path)
    for column in (*chosen.inputs, *chosen.targets):
        if column not in seen:
            raise fail(
                "G522",
                f"{path} has no column {quote(column)}, which the training file has",
                help="give the files the same columns, or leave this one out",
            )
    if not usable:
        raise fail(
            "G523",
            f"no row of {path} has both {' and '.join(map(quote, chosen.inputs))} and "
            f"{' and '.join(map(quote, chosen.targets))}",
            help="add rows that have both",
        )
