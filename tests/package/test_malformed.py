"""Inputs that are broken: each is a clear error or a counted quarantine; nothing is lost."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from data_support import IMAGE, load_package, make_job, quarantined, some_texts

GOOD = [(text, ("yes", "no")[i % 2]) for i, text in enumerate(some_texts(40))]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in GOOD)
JSON = "".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in GOOD)
REST = "text,label\nthe one of a kind film,yes\nthe other kind of plot,no\n"
LONG = "a film " * 15_000_000  # 105 MB


def files(folder: Path, raw: bytes, ending: str, test: str = REST) -> None:
    """The training rows as given, and two splits that are sound."""
    (folder / f"train.{ending}").write_bytes(raw)
    (folder / "valid.csv").write_text(REST.replace("kind", "sort"))
    (folder / "test.csv").write_text(test)


_modules: dict[str, ModuleType] = {}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModuleType]:
    """data.py of a job whose training file has that ending."""

    def made(ending: str) -> ModuleType:
        if ending not in _modules:
            job = make_job(files=(f"train.{ending}", "valid.csv", "test.csv"))
            folder = tmp_path_factory.mktemp("package")
            _modules[ending] = load_package(folder, job)[0]
        return _modules[ending]

    return made


def counted(module: ModuleType, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Training rows that are used, and all rows that were put aside."""
    splits = module.load_splits(folder, folder / "work")
    return len(splits.train), quarantined(folder / "work")


# What is added to forty good rows, and how many rows leave, with what reason.
ROWS: dict[str, tuple[str, bytes, int, str]] = {
    "invalid UTF-8": ("csv", b"caf\xe9 au lait,yes\n", 1, "not valid UTF-8"),
    "cut in a character": (
        "csv",
        "café".encode()[:-1] + b",yes\n",
        1,
        "not valid UTF-8",
    ),
    "NUL bytes": ("csv", b"a\x00b film,yes\n", 0, ""),
    "NUL bytes alone": ("csv", b"\x00\x00,yes\n", 0, ""),
    "a text of spaces": (
        "csv",
        "\u00a0 \u3000,yes\n".encode(),
        1,
        "empty or not a text",
    ),
    "an unbalanced quote": ("csv", b'"open,yes\n', 1, "not valid CSV"),
    "a quote in a text": ("csv", b'"a" film,yes\n', 1, "not valid CSV"),
    "too many fields": ("csv", b"a,b,c,d\n", 1, "4 fields where the header has 2"),
    "a row of 200,000 fields": ("csv", b"," * 200_000 + b"\n", 1, "200001 fields"),
    "one field": ("csv", b"alone\n", 1, "1 fields where the header has 2"),
    "a field of 2 MB": ("csv", b"x" * (2 << 20) + b",yes\n", 1, "field larger"),
    "a line of 9 MB": ("csv", b"x," * (9 << 19) + b"\n", 1, "a line of more than"),
    "labels that are unseen": (
        "csv",
        b"a film,maybe\na plot,nan\n",
        2,
        "unknown label",
    ),
    "a label with a space": ("csv", b"a film, yes\n", 1, "unknown label"),
    "no label": ("csv", b"a film,\n", 1, "unknown label ''"),
    "blank lines": ("csv", b"\n\r\n\n", 0, ""),
    "an old end of file": ("csv", b"\x1a\n", 1, "1 fields"),
    "no JSON": ("jsonl", b"{text: 1}\n", 1, "not valid JSON"),
    "half a line": ("jsonl", b'{"text": "a film", "lab', 1, "not valid JSON"),
    "deep JSON": ("jsonl", b"[" * 200_000 + b"\n", 1, "not valid JSON"),
    "a deep field": (
        "jsonl",
        b'{"text": "a film", "label": "yes", "x": ' + b"[" * 700 + b"]" * 700 + b"}\n",
        0,
        "",
    ),
    "a deep label": (
        "jsonl",
        b'{"text": "a film", "label": ' + b"[" * 700 + b"]" * 700 + b"}\n",
        1,
        "unknown label",
    ),
    "a huge integer": (
        "jsonl",
        b'{"text": "a film", "label": 1' + b"0" * 5000 + b"}\n",
        1,
        "not valid JSON",
    ),
    "a large integer": (
        "jsonl",
        b'{"text": "a film", "label": 1' + b"0" * 4000 + b"}\n",
        1,
        "unknown label",
    ),
    "half a pair": (
        "jsonl",
        b'{"text": "a \\udc80", "label": "no"}\n',
        1,
        "valid UTF-8",
    ),
    "numbers that are none": (
        "jsonl",
        b'{"text": "a", "label": NaN}\n',
        1,
        "label nan",
    ),
    "texts that are none": ("jsonl", b'{"text": {}, "label": "no"}\n', 1, "not a text"),
    "no label at all": (
        "jsonl",
        b'{"text": "a film"}\n{"text": "a plot", "label": null}\n',
        2,
        '"label" is missing',
    ),
    "a list": ("jsonl", b'[1, 2]\n"text"\n3\nnull\n', 4, "not a JSON object"),
    "keys that come twice": (
        "jsonl",
        b'{"text": "a", "text": "a second", "label": "no"}\n',
        0,
        "",
    ),
    "a JSON line of 9 MB": (
        "jsonl",
        b'{"text": "' + b"x" * (9 << 20) + b'"}\n',
        1,
        "a line",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_that_are_broken(case: str, tmp_path: Path, package: Any) -> None:
    ending, raw, leave, reason = ROWS[case]
    files(tmp_path, (CSV if ending == "csv" else JSON).encode() + raw, ending)
    used, aside = counted(package(ending), tmp_path)
    lines = len([line for line in raw.splitlines() if line.strip()])
    assert used + len(aside) == 40 + lines and len(aside) == leave
    for row in aside:
        assert reason in row["reason"] and row["file"] == f"train.{ending}"
        assert row["line"] > 40 and row["row"]
    before = (tmp_path / "work/quarantine.jsonl").read_bytes()
    assert len(before) < 13 << 20
    # Again, from what was kept, and by processes.
    module = package(ending)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FORK_BYTES", 1)
        patch.setattr(module, "CORES", 2)
        for work in ("work", "other"):
            again = module.load_splits(tmp_path, tmp_path / work)
            assert len(again.train) == used
            assert (tmp_path / work / "quarantine.jsonl").read_bytes() == before


def zipped(raw: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train.csv", raw)
    return made.getvalue()


# Whole files, and what is said of them; "" where they can be used.
FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("csv", b"", "is empty: it needs a header"),
    "a header alone": ("csv", b"text,label\n", "no usable rows: it has none"),
    "blank lines alone": ("csv", b"\n\n\n", "is empty"),
    "no such column": ("csv", b"txt,label\na,yes\n", 'no column "text"'),
    "a column twice": ("csv", b"text,label,text\na,yes,b\n", "more than one column"),
    "one class": ("csv", CSV.replace(",no", ",yes").encode(), "has the label 'no'"),
    "a byte order mark": ("csv", b"\xef\xbb\xbf" + CSV.encode(), ""),
    "UTF-16": ("csv", CSV.encode("utf-16"), "not in UTF-8"),
    "UTF-32": ("csv", CSV.encode("utf-32"), "not in UTF-8"),
    "carriage returns alone": ("csv", CSV.replace("\n", "\r").encode(), ""),
    "ends of lines of two kinds": ("csv", CSV.replace("no\n", "no\r\n").encode(), ""),
    "semicolons": ("csv", CSV.replace(",", ";").encode(), "save it with commas"),
    "gzip": ("csv", gzip.compress(CSV.encode()), "no column|not CSV"),
    "a zip bomb": ("csv", zipped("x" * (64 << 20)), "no column|not CSV"),
    "zeros": ("csv", bytes(1 << 20), "no column|not CSV"),
    "no object": ("jsonl", b"[]\n", "not a JSON object"),
    "no JSON at all": ("jsonl", CSV.encode(), "not valid JSON"),
    "JSON over many lines": ("jsonl", b'[\n {"text": 1}\n]\n', 'no column "label"'),
    "no text in JSON": (
        "jsonl",
        JSON.replace('"text"', '"t"').encode(),
        'column "text"',
    ),
    "JSON in UTF-16": ("jsonl", JSON.encode("utf-16"), "not valid JSON"),
    "empty JSON": ("jsonl", b"", "it has none"),
    "no Parquet": ("parquet", CSV.encode(), "not a Parquet file"),
    "empty Parquet": ("parquet", b"", "not a Parquet file"),
    "half a Parquet file": ("parquet", b"PAR1" + bytes(100), "not a Parquet file"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_broken(case: str, tmp_path: Path, package: Any) -> None:
    ending, raw, message = FILES[case]
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    files(tmp_path, raw, ending)
    module = package(ending)
    if not message:
        assert counted(module, tmp_path) == (40, [])
        return
    for _ in range(2):  # and again, from what was kept
        with pytest.raises(module.DataError, match=message) as caught:
            module.load_splits(tmp_path, tmp_path / "work")
        assert len(str(caught.value)) < 2500 and str(caught.value).isprintable()


def test_labels_of_the_test_that_are_unseen(tmp_path: Path, package: Any) -> None:
    files(tmp_path, CSV.encode(), "csv", REST + "a new film,sometimes\n")
    used, (row,) = counted(package("csv"), tmp_path)
    assert used == 40 and row["file"] == "test.csv"
    assert row["reason"] == "unknown label 'sometimes'"


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "dangling", "refused"])
def test_what_is_no_file(kind: str, tmp_path: Path, package: Any) -> None:
    """A pipe would be waited for without end."""
    files(tmp_path, CSV.encode(), "csv")
    path, module = tmp_path / "train.csv", package("csv")
    if kind != "refused":
        path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in ("loop", "dangling"):
        path.symlink_to("train.csv" if kind == "loop" else "nowhere")
    with pytest.MonkeyPatch.context() as patch:
        if kind == "refused":

            def refuse(*args: Any, **options: Any) -> Any:
                raise PermissionError(13, "Permission denied")

            patch.setattr(module.hashlib, "file_digest", refuse)
        with pytest.raises(
            module.DataError, match="no file|cannot be read: Permission"
        ):
            module.load_splits(tmp_path, tmp_path / "work")


def peak(module: ModuleType, folder: Path, found: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used, aside = counted(module, folder)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found.send((used, [(row["line"], row["reason"]) for row in aside], more))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_line_of_100_megabytes(ending: str, tmp_path: Path, package: Any) -> None:
    start, end = ("", ",yes\n") if ending == "csv" else ('{"text": "', '"}\n')
    good = CSV if ending == "csv" else JSON
    raw = (start + LONG + end + good[good.index("\n") + 1 :]).encode()
    files(tmp_path, good[: good.index("\n") + 1].encode() + raw, ending)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=peak, args=(package(ending), tmp_path, there)
    )
    process.start()
    used, aside, more = here.recv()
    process.join()
    assert (used, len(aside)) == (40, 1) and aside[0][0] == 2
    assert (
        "a line of more than 4,194,304" in aside[0][1] or "field larger" in aside[0][1]
    )
    assert more < 120_000  # KB


def test_parquet_of_other_types(tmp_path: Path, package: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    module, count = package("parquet"), len(GOOD)
    texts, labels = [list(x) for x in zip(*GOOD, strict=True)]
    lists = pa.array([["a"]] * count)
    for column, values, reason in (
        ("text", pa.array(range(count)), '"text" is empty or not a text'),
        ("text", lists, '"text" is empty or not a text'),
        ("text", pa.array([b"\xff"] * count), '"text" is empty or not a text'),
        ("text", pa.array([None] * count), '"text" is empty or not a text'),
        ("label", pa.array([float("nan")] * count), "unknown label nan"),
        ("label", lists, "unknown label"),
        ("label", pa.array([None] * count, pa.string()), '"label" is missing'),
    ):
        columns = {"text": pa.array(texts), "label": pa.array(labels), column: values}
        made = io.BytesIO()
        pq.write_table(pa.table(columns), made)
        files(tmp_path, made.getvalue(), "parquet")
        with pytest.raises(module.DataError, match="no usable rows"):
            module.load_splits(tmp_path, tmp_path / "work")
        aside = quarantined(tmp_path / "work")
        assert len(aside) == count and all(reason in row["reason"] for row in aside)
    # What Python has no value for: the year 275,760, and a duration of 30 billion years.
    for values in (
        pa.array([10**8] * count, pa.int32()).cast(pa.date32()),
        pa.array([10**18] * count, pa.duration("s")),
    ):
        made = io.BytesIO()
        pq.write_table(pa.table({"text": pa.array(texts), "label": values}), made)
        files(tmp_path, made.getvalue(), "parquet")
        with pytest.raises(module.DataError, match="damaged after row 0"):
            module.load_splits(tmp_path, tmp_path / "work")
    # A little file that holds much: a value of a megabyte, thirty times.
    much = pa.array(["x" * (1 << 20)]).take(pa.array([0] * 30))
    made = io.BytesIO()
    columns = {"text": much, "label": pa.array(labels)[:30]}
    pq.write_table(pa.table(columns), made)
    assert len(made.getvalue()) < 1 << 20
    files(tmp_path, made.getvalue(), "parquet")
    rows = module.load_rows(tmp_path, tmp_path / "work")["train"]
    assert len(rows) == 30 and len(rows[29].text) == 1 << 20


def test_images_that_are_broken(tmp_path: Path) -> None:
    from PIL import Image

    task = "image-classification"
    names = ("train.csv", "valid.csv", "test.csv")
    module, _ = load_package(tmp_path, make_job(IMAGE, task=task, files=names))
    for i in range(8):
        Image.new("RGB", (9, 9), (i, 2 * i, 3)).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:50])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "zip.png").write_bytes(zipped("x" * 10_000))
    Image.new("1", (14_000, 14_000)).save(tmp_path / "bomb.png")
    Image.new("1", (60_000, 1)).save(tmp_path / "line.png")
    (tmp_path / "program.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    )
    broken = [path.name for path in sorted(tmp_path.glob("[a-z]*.png"))]
    broken += ["none.png", "", "\x00.png", "x" * 300 + ".png"]
    for name, rows in zip(names, (["0", "1", "2", "3"], ["4", "5"], ["6", "7"])):
        some = [f"{x}.png,{('yes', 'no')[i % 2]}" for i, x in enumerate(rows)]
        some += [f"{x},no" for x in broken] if name == "train.csv" else []
        (tmp_path / name).write_text("\n".join(["image,label", *some]) + "\n")
    splits = module.load_splits(tmp_path, tmp_path / "work")
    used, aside = len(splits.train), quarantined(tmp_path / "work")
    assert used == 4 and len(aside) == len(broken) == 14
    reasons = {row["row"]["image"]: row["reason"] for row in aside}
    assert all("image" in reason for reason in reasons.values())
    assert reasons["line.png"] == "the image is too long (60000 x 1)"
    assert reasons["program.png"] == "the image is PostScript"  # not run
