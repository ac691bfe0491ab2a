"""What the cleaning of a package does to rows: each step, what is counted, what leaves."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from data_support import (
    IMAGE,
    PAIR,
    SINGLE,
    load_package,
    make_job,
    quarantined,
    tiny_tokenizer,
    write_csv,
    write_jsonl,
)
from laid_out import formatted
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig
from whole_support import Whole, whole

from generator.ir.plans import CleanPlan
from generator.render import data, predict

EVERY = CleanPlan(
    unicode="NFKC",
    invisible=True,
    html=True,
    mask=("url", "email", "number"),
    case="lower",
    whitespace=True,
)
ALONE = {
    "unicode": CleanPlan(unicode="NFKC"),
    "invisible": CleanPlan(invisible=True),
    "html": CleanPlan(html=True),
    "mask": CleanPlan(mask=("url", "email", "number")),
    "case": CleanPlan(case="lower"),
    "whitespace": CleanPlan(whitespace=True),
}
# A text, what a step makes of it; None where it stays.
ROWS: dict[str, list[tuple[str, str | None]]] = {
    "unicode": [
        ("a ﬁne ｆｉｌｍ", "a fine film"),
        ("cafe\u0301", "caf\u00e9"),
        ("a fine film", None),
    ],
    "invisible": [
        ("fr\u200bee \u202emoney\u202c", "free money"),
        ("so\u00adft\ufeff \x00bell\x07", "soft bell"),
        ("fr\u200dee \u200c", "free "),
        ("a\U000e0041\U000e0042", "a"),
        ("\u2764\ufe0f\u200d\U0001f525", None),  # a joiner of an emoji
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),  # of a Persian word
        ("\u200d\u200d\u0915\u200d\u200d", "\u0915"),
        ("tab\tline\nnext\x85 \u2028", None),
    ],
    "html": [
        ("a <b>fine</b> film<br/>the<p class='x'>best", "a fine film the best"),
        ("q &amp; a &lt;3 &eacute;&#8364;", "q & a <3 \u00e9\u20ac"),
        ("&amp;amp;lt; twice", "< twice"),
        ("<script>run(1 < 2)</script>the <!-- no -->end", " the  end"),
        ("I <3 it, x<y and y>z, List<String>", None),
        ("a <b", None),
    ],
    "mask": [
        ("see https://a.org/b?c=1&d=2.", "see url."),
        ("(www.a.org) mail an.na+x@b-c.co.uk!", "(url) mail email!"),
        (
            "9.5 of 10, 1,000,000 for covid19 4ever",
            "number of number, number for covid19 4ever",
        ),
        ("no one @home, http:// and a@b", None),
    ],
    "case": [("The BEST \u0130", "the best i\u0307"), ("small", None)],
    "whitespace": [(" a\u00a0\u00a0b\n\tc ", "a b c"), ("a b", None)],
}


def module(tmp_path: Path, clean: CleanPlan, **job: Any) -> ModuleType:
    return load_package(tmp_path, make_job(**job, clean=clean))[0]


def cleaned(work: Path) -> dict[str, Any]:
    return json.loads((work / "cleaning.json").read_text())


@pytest.mark.parametrize("step", ALONE)
def test_a_step_alone(tmp_path: Path, step: str):
    """The rows, what became of them, and the counts and examples of it."""
    rows = ROWS[step]
    write_csv(
        tmp_path / "train.csv", [["text", "label"], *([t, "yes"] for t, _ in rows)]
    )
    found = module(tmp_path, ALONE[step])
    with open(tmp_path / "quarantine.jsonl", "w") as file:
        quarantine = found.Quarantine(file)
        texts = [
            row.text for row in found.read(tmp_path, "train", quarantine, tmp_path)
        ]
    assert texts == [before if after is None else after for before, after in rows]
    changed = [before for before, after in rows if after is not None]
    assert quarantine.rewrites.read == {"train.csv": len(rows)}
    assert quarantine.rewrites.counts == {step: {"train.csv": len(changed)}}
    examples = quarantine.rewrites.examples[step]
    assert len(examples) == min(3, len(changed))
    assert all(one["before"] != one["after"] for one in examples)
    assert not (tmp_path / "quarantine.jsonl").read_text()


def test_examples_begin_a_little_ahead_of_the_difference(tmp_path: Path):
    rows = [["text", "label"], ["a film " * 60 + "the  best", "yes"]]
    write_csv(tmp_path / "train.csv", rows)
    found = module(tmp_path, ALONE["whitespace"])
    with open(tmp_path / "quarantine.jsonl", "w") as file:
        quarantine = found.Quarantine(file)
        found.read(tmp_path, "train", quarantine, tmp_path)
    (one,) = quarantine.rewrites.examples["whitespace"]
    assert one["before"].endswith("the  best") and one["after"].endswith("the best")
    assert one["file"] == "train.csv" and one["line"] == 2


def characters(seed: int, count: int, longest: int) -> list[str]:
    """Texts of characters from all of Unicode, and of what cleaning looks for."""
    draw = random.Random(seed)
    parts = [
        "<b>",
        "</b",
        "<",
        ">",
        "&amp;",
        "&lt",
        "&#x200b;",
        "\u200d",
        "\u200c",
        "@",
    ]
    parts += [" ", "\n", ".", "www.", "http://", "a@b.c", "12", "<!--", "-->", "\u0338"]
    parts += ["\uff06", "\uff1c", "\u0130", "\u0345", "e\u0301", "\ufdfa", "<script>"]

    def one() -> str:
        if draw.random() < 0.4:
            return draw.choice(parts)
        code = draw.choice([draw.randrange(0x300), draw.randrange(0x110000)])
        return "x" if 0xD800 <= code < 0xE000 else chr(code)

    return [
        "".join(one() for _ in range(draw.randint(1, longest))) for _ in range(count)
    ]


@pytest.mark.parametrize(
    "clean", [EVERY, replace(EVERY, unicode="NFC"), *ALONE.values()]
)
def test_cleaning_twice_changes_nothing_more(tmp_path: Path, clean: CleanPlan):
    found = module(tmp_path, clean)
    for text in characters(1, 2000, 30):
        once = found.clean(text)
        changes: dict[str, Any] = {}
        assert found.clean(once, changes) == once and not changes, text


def byte_tokenizer() -> Tokenizer:
    """An id for each byte, so that any difference of texts is one of ids."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    found = Tokenizer(models.BPE(vocabulary, []))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
    return found


@pytest.mark.parametrize("pair", [False, True])
def test_training_and_prediction_give_the_same_ids(
    tmp_path: Path, pair: bool, monkeypatch
):
    """10,000 texts, read from a file, given to predict.py as rows and as texts."""
    inputs = replace(PAIR if pair else SINGLE, max_tokens=400)
    columns = list(inputs.columns)
    texts = characters(2, 10_000, 25)
    rows = [
        dict(zip(columns, (text, text[::-1]), strict=False)) | {"label": "yes"}
        for text in texts
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    files = ("train.jsonl", "valid.jsonl", "test.jsonl")
    job = make_job(inputs, files=files, clean=EVERY)
    found, predicting = load_package(tmp_path, job, byte_tokenizer())
    with open(tmp_path / "quarantine.jsonl", "w") as file:
        kept = found.read(tmp_path, "train", found.Quarantine(file), tmp_path)
    put_aside = {row["line"] for row in quarantined(tmp_path)}
    assert len(kept) + len(put_aside) == 10_000 and len(put_aside) < 1500
    want = found.encode([row.text for row in kept])

    seen = []
    monkeypatch.setattr(
        predicting, "encode", lambda texts: seen.append(found.encode(texts)) or seen[-1]
    )
    monkeypatch.setattr(
        predicting,
        "load_trained",
        lambda path: lambda ids, *_: torch.zeros(len(ids), 2),
    )
    predictor = predicting.Predictor(batch=512)
    (records,) = (
        [*itertools.chain(*predicting.chunks(str(tmp_path / "train.jsonl")))],
    )
    answers = list(predicting.answer(predictor, records))
    assert {one["line"] for one in answers if "error" in one} == put_aside
    given = [
        [row[c] for c in columns] for i, row in enumerate(rows, 1) if i not in put_aside
    ]
    predictor.predict([tuple(g) if pair else g[0] for g in given])
    for ids in seen:
        assert torch.equal(ids.ids, want.ids) and torch.equal(ids.lengths, want.lengths)
    assert len(seen) == 2


def test_no_text_takes_a_pattern_back_and_forth(tmp_path: Path):
    """Half a million characters of each kind; where one is quadratic, this takes hours."""
    found = module(tmp_path, EVERY)
    ended = 0
    for part in (
        "<!--",
        "<a ",
        "<script",
        "&amp;",
        "&",
        "<",
        "a@",
        "a.",
        "www.",
        "1.1",
    ):
        text = part * (500_000 // len(part))
        try:
            assert len(found.clean(text)) <= len(text)
        except found.BadRow:  # what does not come to an end in few passes
            continue
        ended += 1
    assert ended >= 8


def test_what_does_not_come_to_an_end_is_put_aside(tmp_path: Path):
    rows = [
        ["text", "label"],
        ["&" + "amp;" * 50, "yes"],
        ["<br>", "no"],
        ["fine", "no"],
    ]
    write_csv(tmp_path / "train.csv", rows)
    found = module(tmp_path, EVERY)
    with open(tmp_path / "quarantine.jsonl", "w") as file:
        (row,) = found.read(tmp_path, "train", found.Quarantine(file), tmp_path)
    assert row.text == "fine"
    assert [(q["line"], q["reason"]) for q in quarantined(tmp_path)] == [
        (2, "cleaning does not come to an end in 8 passes"),
        (3, 'nothing is left of "text" once it is clean'),
    ]


def write_splits(folder: Path, *splits: list[tuple[str, Any]]) -> None:
    for name, rows in zip(("train", "valid", "test"), splits, strict=True):
        write_csv(folder / f"{name}.csv", [["text", "label"], *map(list, rows)])


FINE = [("a film", "no"), ("the best film", "yes")]


@pytest.mark.parametrize("inputs", [SINGLE, PAIR])
def test_languages(tmp_path: Path, inputs: Any):
    """What is surely in another language leaves its file, and is answered in use."""
    own = "a film about the best days of a summer that never ends"
    texts = {
        own: None,
        "film": None,  # too short to tell
        "12 345": None,  # in none
        "bon film": None,
        "Der Film ist sehr langweilig und viel zu lang.": "de",
        "Un film magnifique, à voir absolument": "fr",
        "这部电影很好看": "zh",
    }
    given = list(texts) if inputs == SINGLE else [(own, text) for text in texts]
    job = make_job(inputs, clean=CleanPlan(languages=("en",)))
    found, predicting = load_package(tmp_path, job)
    columns = inputs.columns
    rows = [[*columns, "label"]]
    for i, text in enumerate(given):
        rows.append([*([text] if inputs == SINGLE else text), ("no", "yes")[i % 2]])
    write_csv(tmp_path / "train.csv", rows)
    for split in ("valid", "test"):
        write_csv(
            tmp_path / f"{split}.csv",
            [rows[0], [*[f"{split} of it"] * len(columns), "no"]],
        )
    found.load_splits(tmp_path, tmp_path)
    expected = {
        i: f"in another language: {code}"
        for i, code in enumerate(texts.values(), 2)
        if code
    }
    assert {q["line"]: q["reason"] for q in quarantined(tmp_path)} == expected
    assert not hasattr(predicting, "check_language")


def test_missing_and_lengths(tmp_path: Path):
    """What is put aside in files is answered in use, but for what has no text."""
    rows = [
        ("NA", "yes"),
        (" n/a ", "no"),
        ("nana", "yes"),
        ("na", "no"),
        ("x" * 21, "no"),
    ]
    rows += [("dull", "yes"), ("the best of the year of the film", "yes"), *FINE]
    write_splits(tmp_path, rows, [("plot", "no")], [("plot plot", "yes")])
    clean = CleanPlan(
        missing=("NA", "n/a"),
        min_chars=3,
        max_chars=20,
        min_tokens=4,
        too_long="quarantine",
    )
    clean = replace(clean, max_chars=40)
    inputs = replace(SINGLE, max_tokens=7)
    job = make_job(inputs, clean=clean)
    found, predicting = load_package(tmp_path, job)
    splits = [("plot of a", "no")], [("plot of the", "yes")]
    write_splits(tmp_path, rows, *splits)
    read = found.load_splits(tmp_path, tmp_path)
    assert len(read.train) == 2 and len(read.valid) == len(read.test) == 1
    reasons = {q["line"]: q["reason"] for q in quarantined(tmp_path)}
    assert reasons == {
        2: '"text" is missing: NA',
        3: '"text" is missing: n/a',
        4: "fewer than 4 tokens",
        5: "fewer than 3 characters",
        6: "fewer than 4 tokens",
        7: "fewer than 4 tokens",
        8: "more than 7 tokens",
    }
    about = cleaned(tmp_path)
    assert about["read"] == {"train.csv": 9, "valid.csv": 1, "test.csv": 1}
    assert about["used"] == {"train": 2, "valid": 1, "test": 1}
    assert about["rewritten"] == about["examples"] == {}

    torch.manual_seed(0)
    model = predicting.Model()
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    predictor = predicting.Predictor(tmp_path / "weights.safetensors")
    records = [found.Record(i, {"text": t}) for i, (t, _) in enumerate(rows, 2)]
    answers = list(predicting.answer(predictor, records))
    assert {a["line"] for a in answers if "error" in a} == {2, 3}


def test_a_text_that_is_too_long_in_characters(tmp_path: Path):
    write_splits(tmp_path, [("x" * 21, "no"), *FINE], [("b c", "no")], [("d e", "no")])
    found = module(tmp_path, CleanPlan(max_chars=20))
    assert len(found.load_splits(tmp_path, tmp_path).train) == 2
    (row,) = quarantined(tmp_path)
    assert row["reason"] == "more than 20 characters" and row["row"]["text"] == "x" * 21


def test_malformed_rows_are_put_aside_and_none_is_lost(tmp_path: Path):
    """What came in is what was used and what lies in the quarantine, with its reason."""
    rows: list[Any] = [
        {"text": "\x00fine\x00 &#0;", "label": "yes"},  # NUL bytes go, with a row left
        {"text": "\x00\u200b\ufeff", "label": "yes"},
        {"text": "half \ud800", "label": "yes"},
        {"text": "&#xd800; written out", "label": "no"},
        {"text": 7, "label": "no"},
        {"text": None, "label": "no"},
        {"text": ["a"], "label": "no"},
        {"label": "no"},
        {"text": "<!-- all of it", "label": "no"},
        {"text": "a film", "label": None},
        {"text": "a film", "label": ["no"]},
        ["a film", "no"],
        {"text": "\u0301", "label": "no"},  # a mark that has nothing to be on
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    with open(tmp_path / "train.jsonl", "ab") as file:
        file.write(b'{"text": "\xff", "label": "no"}\n{"text": "a\n')
    files = ("train.jsonl", "valid.jsonl", "test.jsonl")
    clean = replace(EVERY, labels=(("no", ("None", "No")),))
    found = module(tmp_path, clean, files=files)
    with open(tmp_path / "quarantine.jsonl", "w") as file:
        quarantine = found.Quarantine(file)
        kept = found.read(tmp_path, "train", quarantine, tmp_path)
    texts = ["fine \ufffd", "\ufffd written out", "\u0301"]
    assert [row.text for row in kept] == texts
    reasons = {q["line"]: q["reason"] for q in quarantined(tmp_path)}
    assert len(kept) + len(reasons) == len(rows) + 2
    assert quarantine.rewrites.read == {"train.jsonl": len(rows) + 2}
    nothing = 'nothing is left of "text" once it is clean'
    no_text = '"text" is empty or not a text'
    assert reasons == {
        2: nothing,
        3: '"text" is not valid UTF-8',
        **dict.fromkeys((5, 6, 7, 8), no_text),
        9: nothing,
        10: '"label" is missing',
        11: "unknown label ['no']",
        12: "not a JSON object",
        14: "not valid UTF-8",
        15: "not valid JSON",
    }
    assert quarantine.rewrites.counts["labels"] == {}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_aliases_of_labels(tmp_path: Path, form: str):
    aliases = (("no", ("No", "NO ")), ("yes", ("1", "true")))
    rows: list[list[Any]] = [["a", "no"], ["b", "No"], ["c", "NO "], ["d", "1"]]
    rows += [["e", "yes"], ["f", "NO"], ["g", "yes "]]
    if form == "jsonl":
        rows += [["h", 1], ["i", 1.0], ["j", True]]
    files = tuple(f"{name}.{form}" for name in ("train", "valid", "test"))
    for file in files:
        if form == "csv":
            write_csv(tmp_path / file, [["text", "label"], *rows])
        else:
            write_jsonl(
                tmp_path / file, [dict(zip(("text", "label"), r)) for r in rows]
            )
    found = module(tmp_path, CleanPlan(labels=aliases), files=files)
    with open(tmp_path / "quarantine.jsonl", "w") as file:
        quarantine = found.Quarantine(file)
        kept = found.read(tmp_path, "train", quarantine, tmp_path)
    more = [1, 1, 1] if form == "jsonl" else []
    assert [row.target for row in kept] == [0, 0, 0, 1, 1, *more]
    assert quarantine.rewrites.counts == {"labels": {files[0]: 3 + len(more)}}
    assert quarantine.rewrites.examples["labels"][0]["before"] == "No"
    assert quarantine.reasons.total() == 2


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_aliases_of_several_labels(tmp_path: Path, form: str):
    aliases = (("yes", ("Yes", "y")),)
    if form == "csv":
        rows = [["text", "label"], ["a", "no; Yes"], ["b", "y;Yes"], ["c", "yes"]]
        write_csv(tmp_path / "train.csv", rows)
    else:
        listed = [["no", "Yes"], ["y", "Yes"], ["yes"]]
        write_jsonl(
            tmp_path / "train.jsonl",
            [{"text": t, "label": one} for t, one in zip("abc", listed, strict=True)],
        )
    files = (f"train.{form}", f"valid.{form}", f"test.{form}")
    clean = CleanPlan(labels=aliases)
    found = module(tmp_path, clean, task="multi-label", files=files)
    with open(tmp_path / "quarantine.jsonl", "w") as file:
        quarantine = found.Quarantine(file)
        kept = found.read(tmp_path, "train", quarantine, tmp_path)
    assert [row.target for row in kept] == [[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    assert quarantine.rewrites.counts == {"labels": {files[0]: 2}}


def test_duplicates_leave_the_training_rows(tmp_path: Path):
    """What stays follows from the rows and not from their order; contradictions stay."""
    rows = [
        ("Fine", "yes"),
        ("fine ", "yes"),
        ("FINE", "no"),
        ("dull", "no"),
        ("plot", "no"),
    ]
    rows += [
        ("<b>dull</b>", "no"),
        ("plot", "yes"),
        ("year", "yes"),
        ("PLOT\u200b", "no"),
    ]
    valid = [("Year", "yes"), ("b c", "no"), ("b  c", "no")]
    test = [("worst", "no"), ("B C", "yes"), ("of", "yes")]
    clean = replace(EVERY, duplicates="exact")
    found = module(tmp_path, clean)
    kept = set()
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        write_splits(tmp_path, rows, valid, test)
        splits = found.load_splits(tmp_path, tmp_path)
        assert [len(s) for s in splits] == [5, 1, 3]
        about = cleaned(tmp_path)
        assert about["used"] == {"train": 5, "valid": 1, "test": 3}
        # A row that a step changed is counted though it is a duplicate; all came in.
        assert about["read"] == {"train.csv": 9, "valid.csv": 3, "test.csv": 3}
        reasons = sorted(q["reason"] for q in quarantined(tmp_path))
        assert reasons == [
            "the text is also in test",
            "the text is also in test",
            "the text is also in valid",
            *["the text is in train already, with the same target"] * 3,
        ]
        gone = {q["line"] for q in quarantined(tmp_path) if q["file"] == "train.csv"}
        left = [row for i, row in enumerate(rows, 2) if i not in gone]
        kept.add(frozenset((found.clean(text), label) for text, label in left))
    assert kept == {
        frozenset(
            [
                ("fine", "yes"),
                ("fine", "no"),
                ("dull", "no"),
                ("plot", "no"),
                ("plot", "yes"),
            ]
        )
    }


def test_parts_of_one_file_are_apart_by_their_clean_texts(tmp_path: Path):
    texts = [
        f"{word} {i}" for i in range(30) for word in ("film", "FILM", "film\u200b")
    ]
    rows = [
        ["text", "label"],
        *([t, ("no", "yes")[i // 3 % 2]] for i, t in enumerate(texts)),
    ]
    write_csv(tmp_path / "train.csv", rows)
    clean = replace(EVERY, mask=(), duplicates="exact")
    found = module(tmp_path, clean, files=("train.csv", None, None))
    train, valid, test = found.load_splits(tmp_path, tmp_path)
    assert len(valid) % 3 == len(test) % 3 == 0 and len(valid) and len(test)
    assert len(train) == (90 - len(valid) - len(test)) // 3
    assert cleaned(tmp_path)["read"] == {"train.csv": 90}


def test_images_have_aliases_and_no_duplicates(tmp_path: Path):
    from PIL import Image

    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue"), ("d", "green")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    rows = [["image", "label"], ["a.png", "Yes"], ["b.png", "yes"], ["c.png", "no"]]
    write_csv(tmp_path / "train.csv", [*rows, ["bad.png", "Yes"]])
    write_csv(tmp_path / "valid.csv", [["image", "label"], ["d.png", "no"]])
    write_csv(
        tmp_path / "test.csv", [["image", "label"], ["d.png", "no"], ["d.png", "no"]]
    )
    clean = CleanPlan(labels=(("yes", ("Yes",)),), duplicates="exact")
    found = module(tmp_path, clean, inputs=IMAGE, task="image-classification")
    Image.new("RGB", (8, 8), "white").save(tmp_path / "e.png")
    write_csv(tmp_path / "test.csv", [["image", "label"], ["e.png", "no"]])
    splits = found.load_splits(tmp_path, tmp_path)
    assert splits.train.targets.tolist() == [1, 0]
    about = cleaned(tmp_path)
    assert about["rewritten"] == {"labels": {"train.csv": 1}}
    assert about["read"]["train.csv"] == 4 and about["used"]["train"] == 2
    reasons = [q["reason"] for q in quarantined(tmp_path)]
    assert reasons[1] == "the image is in train already, with the same target"
    assert "cannot be read" in reasons[0]


def plans() -> list[CleanPlan]:
    """Each setting alone, and all together."""
    aliases = (("no", ("No", 'N"o')), ("yes", ("Yes",)))
    some = [
        *ALONE.values(),
        CleanPlan(labels=aliases),
        CleanPlan(missing=("NA", 'n"a')),
    ]
    some += [CleanPlan(min_chars=2), CleanPlan(max_chars=9), CleanPlan(min_tokens=4)]
    some += [CleanPlan(too_long="quarantine"), CleanPlan(duplicates="exact")]
    whole = replace(EVERY, labels=aliases, missing=("NA",), min_chars=1, max_chars=99)
    return [
        *some,
        replace(whole, min_tokens=3, too_long="quarantine", duplicates="exact"),
    ]


def test_the_files_are_formatted_and_say_only_what_was_asked_for(tmp_path: Path):
    for clean in plans():
        for inputs, form in ((SINGLE, "csv"), (PAIR, "jsonl")):
            files = (f"train.{form}", f"valid.{form}", f"test.{form}")
            job = make_job(inputs, files=files, clean=clean)
            folder = tmp_path / job.name
            folder.mkdir()
            for name, renderer in (("data", data), ("predict", predict)):
                source = formatted(renderer.render(replace(job, name="package")))
                assert max(map(len, source.splitlines())) <= 88, (clean, name)
                (folder / f"{name}.py").write_text(source)
                assert ("def clean(" in source) == (
                    name == "data" and clean in [*ALONE.values(), plans()[-1]]
                )
    check = [sys.executable, "-m", "ruff", "check", "--isolated", str(tmp_path)]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_without_cleaning_nothing_of_it_is_there(tmp_path: Path):
    write_splits(tmp_path, FINE, [("b c", "no")], [("d e", "no")])
    found, _ = load_package(tmp_path, make_job(), tiny_tokenizer())
    found.load_splits(tmp_path, tmp_path)
    assert not (tmp_path / "cleaning.json").exists() and not hasattr(found, "clean")


# Whole packages


def cleaning_package(folder: Path, clean: CleanPlan, pair: bool = False) -> Whole:
    sizes: dict[str, Any] = {
        "vocab_size": 53,
        "hidden_size": 24,
        "num_hidden_layers": 2,
    }
    sizes |= {"num_attention_heads": 3, "intermediate_size": 37}
    config = BertConfig(**sizes, max_position_embeddings=21)
    return whole(
        folder,
        config,
        pair=pair,
        edit=lambda job: replace(job, data=replace(job.data, clean=clean)),
    )


@pytest.mark.parametrize("pair", [False, True])
def test_the_certificate_is_of_clean_texts(tmp_path: Path, pair: bool):
    """It holds, and does not where prediction leaves the cleaning out."""
    made = cleaning_package(tmp_path, EVERY, pair)
    made.module("test_model").write_reference(made.weights)
    found = made.module("test_model").certificate(made.weights)
    assert [check for check in found if not check.holds] == []
    assert [check for check in found if check.measured is None] == []
    each = "(clean(text[0]), clean(text[1]))" if pair else "clean(text)"
    made.edit("predict", f"[{each} for text in texts]", "texts")
    found = made.module("test_model").certificate(made.weights)
    assert len([check for check in found if not check.holds]) == 1


def test_a_run_goes_on_only_with_the_same_cleaning(tmp_path: Path):
    made = cleaning_package(tmp_path, EVERY)
    for name in ("train", "valid", "test"):
        words = ("fine", "BEST", "dull", "<b>worst</b>")
        rows = [[f"{w} {name} {i}", w in words[:2]] for i in range(3) for w in words]
        named = [[text, ("no", "yes")[good]] for text, good in rows]
        (column,) = made.job.data.inputs.columns  # type: ignore[union-attr]
        header = [column, *made.job.data.label]
        write_csv(tmp_path / f"{name}.csv", [header, *named])

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", f"{made.job.name}.train", "--quiet"]
        program += ["--weights", str(made.weights), *args]
        return subprocess.run(
            program, check=False, cwd=tmp_path, capture_output=True, text=True
        )

    done = run()
    assert done.returncode == 0, done.stderr
    work = tmp_path / "runs" / made.job.name
    assert cleaned(work)["rewritten"]["html"] == {
        f"{name}.csv": 3 for name in ("train", "valid", "test")
    }
    assert run("--resume").returncode == 0
    made.edit("data", "'case = \"lower\"', ", "")
    again = run("--resume")
    assert again.returncode == 1 and "data.CLEANING" in again.stderr
