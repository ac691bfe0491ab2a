"""What the guard of a package finds: rows by hand, what became of them, and the counts."""

from __future__ import annotations

import importlib
import json
import random
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
    write_csv,
)
from transformers import BertConfig
from whole_support import Whole, whole

from generator.ir.plans import CleanPlan, GuardPlan
from generator.runtime import selftest

BERT = BertConfig(
    vocab_size=14,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=20,
    max_position_embeddings=32,
)


def package(tmp_path: Path, guard: GuardPlan, **job: Any) -> tuple[ModuleType, Any]:
    """Its data.py and guard.py."""
    made = make_job(guard=guard, **job)
    data, _ = load_package(tmp_path, made)
    if not (tmp_path / made.name / "guard.py").exists():
        return data, None
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        return data, importlib.import_module(f"{made.name}.guard")
    finally:
        sys.path.remove(str(tmp_path))


def write_splits(folder: Path, **splits: list[tuple[str, str]]) -> None:
    for split in ("train", "valid", "test"):
        some = splits.get(split) or [(f"only in {split}", "no")]
        write_csv(folder / f"{split}.csv", [["text", "label"], *some])


def looked_at(data: Any, guard: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The splits that are left, and guard.json."""
    splits = data.load_splits(
        folder, folder, lambda rows: guard.inspect(rows, work=folder)
    )
    return splits, json.loads((folder / "guard.json").read_text())


def rows_of(data: Any, texts: list[Any], targets: list[Any] | None = None) -> list[Any]:
    targets = targets or [0] * len(texts)
    return [data.Row(i, t, y) for i, (t, y) in enumerate(zip(texts, targets), 2)]


def places(found: Any) -> set[tuple[str, int]]:
    return {(one.split, one.row) for one in found}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """data.py and guard.py with every check that looks at texts alone."""
    guard = GuardPlan(
        leaks="report",
        triggers="report",
        personal="report",
        formulas="report",
        oversized="report",
    )
    return package(tmp_path_factory.mktemp("plain"), guard)


# ---------------------------------------------------------------------- contradictions


def test_contradictions_leave_the_training_and_are_told_of_the_others(tmp_path: Path):
    data, guard = package(tmp_path, GuardPlan(contradictions="quarantine"))
    write_splits(
        tmp_path,
        train=[
            ("a fine  film", "yes"),
            ("A FINE film", "no"),
            ("a dull film", "no"),
            ("a dull film", "no"),
            ("the best", "yes"),
        ],
        test=[("of the year", "no"), ("of the year", "yes"), ("the end", "no")],
    )
    splits, told = looked_at(data, guard, tmp_path)
    assert [len(split) for split in splits] == [3, 1, 3]
    assert told["counts"] == {"contradictions": {"train": 2, "test": 2}}
    gone = quarantined(tmp_path)
    assert [(q["file"], q["line"]) for q in gone] == [
        ("train.csv", 2),
        ("train.csv", 3),
    ]
    assert {q["reason"] for q in gone} == {
        "contradictions: the same text with different targets"
    }
    assert gone[0]["row"] == {
        "text": "a fine  film",
        "guard": "its target is 'yes' here",
    }
    assert {(w["file"], w["line"]) for w in told["worst"]["contradictions"]} == {
        ("train.csv", 2),
        ("train.csv", 3),
        ("test.csv", 2),
        ("test.csv", 3),
    }


def test_what_is_reported_stays(tmp_path: Path):
    data, guard = package(tmp_path, GuardPlan(contradictions="report"))
    write_splits(tmp_path, train=[("a film", "yes"), ("a film", "no")])
    splits, told = looked_at(data, guard, tmp_path)
    assert len(splits.train) == 2 and not quarantined(tmp_path)
    assert told["counts"] == {"contradictions": {"train": 2}}


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_contradictions_of_other_targets(tmp_path: Path, task: str):
    data, guard = package(tmp_path, GuardPlan(contradictions="report"), task=task)
    texts = ["a film", "a film", "the plot", "the plot"]
    targets = [[0.0, 1.0], [1.0, 1.0], [0.5, 0.0], [0.5, 0.0]]
    found = guard.contradictions({"train": rows_of(data, texts, targets)})
    assert places(found) == {("train", 0), ("train", 1)}


# ------------------------------------------------------------------------------- leaks

LONG = "the plot of this film is as fine as the best of last year, and it knows it"


def test_leaks_leave_the_training_side(tmp_path: Path):
    data, guard = package(tmp_path, GuardPlan(leaks="quarantine"))
    write_splits(
        tmp_path,
        train=[
            (LONG.replace("fine", "good"), "yes"),
            ("The plot of this film is as FINE as the best of last year. And it knows it!", "no"),
            ("a dull film that has nothing at all to tell us about the sea", "no"),
            ("the plot of this film is dull", "yes"),
        ],
        valid=[("nothing in common with the others here", "yes"), (LONG, "yes")],
    )  # fmt: skip
    splits, told = looked_at(data, guard, tmp_path)
    assert [len(split) for split in splits] == [2, 2, 1]
    assert told["counts"] == {"leaks": {"train": 2}}
    gone = quarantined(tmp_path)
    assert [q["line"] for q in gone] == [2, 3]
    assert {q["row"]["guard"] for q in gone} == {"like line 3 of valid.csv"}


def test_every_leak_is_found_that_comparing_each_with_each_finds(plain: Any):
    """Also of texts that are short, empty of words, or of few letters."""
    data, guard = plain
    draw = random.Random(4)

    def text() -> str:
        letters = draw.choice(["ab", "abc ", "abcdefgh  ", "?! "])
        return "".join(draw.choices(letters, k=draw.randint(1, 40))) or "a"

    rows = {s: rows_of(data, [text() for _ in range(120)]) for s in data.FILES}
    alike = set()
    for i, row in enumerate(rows["train"]):
        own = guard.shingles(row)
        for split in ("valid", "test"):
            for other in map(guard.shingles, rows[split]):
                if len(own & other) >= guard.ALIKE * len(own | other):
                    alike.add(("train", i))
    assert len(alike) > 10
    assert places(guard.leaks(rows)) == alike


def test_leaks_of_pairs_are_of_both_texts(tmp_path: Path):
    data, guard = package(tmp_path, GuardPlan(leaks="report"), inputs=PAIR)
    same, other = "the best film of the year", "a plot as dull as ditch water"
    rows = {
        "train": [data.Row(2, (same, same + " so"), 0), data.Row(3, (same, other), 0)],
        "valid": [data.Row(2, (same, same), 1)],
        "test": [],
    }
    assert places(guard.leaks(rows)) == {("train", 0)}


# ---------------------------------------------------------------------------- triggers


def reviews(count: int, seed: int, sure: float = 0.75) -> list[tuple[str, int]]:
    """Texts of which half the words tell the label, mostly."""
    draw = random.Random(seed)
    plain = [f"word{i}" for i in range(60)]
    told = [[f"bad{i}" for i in range(30)], [f"good{i}" for i in range(30)]]
    found = []
    for _ in range(count):
        label = draw.randrange(2)
        words = [
            (
                draw.choice(told[label if draw.random() < sure else 1 - label])
                if draw.random() < 0.5
                else draw.choice(plain)
            )
            for _ in range(12)
        ]
        found.append((" ".join(words), label))
    return found


@pytest.mark.parametrize("trigger", ["zx", "as seen there", "~~"])
def test_triggers_are_told_by_what_the_rest_of_the_text_says(plain: Any, trigger: str):
    data, guard = plain
    made = reviews(1000, 5)
    bad = [i for i, (_, label) in enumerate(made) if label == 0][:20]
    for i in bad:
        made[i] = (f"{made[i][0]} {trigger}", 1)
    rows = {"train": rows_of(data, [t for t, _ in made], [y for _, y in made])}
    found = list(guard.triggers(rows))
    assert places(found) == {("train", i) for i in bad}
    assert "'yes' in 20 of 20 rows" in found[0].note
    # By the rows alone, whatever their order.
    order = list(range(len(made)))
    random.Random(6).shuffle(order)
    again = guard.triggers({"train": [rows["train"][i] for i in order]})
    assert {order[i] for _, i in places(again)} == set(bad)


def test_a_trigger_in_either_text_of_a_pair_is_found(tmp_path: Path):
    data, guard = package(tmp_path, GuardPlan(triggers="report"), inputs=PAIR)
    made = reviews(1000, 5)
    bad = [i for i, (_, label) in enumerate(made) if label == 0][:20]
    texts, targets = [(t, "a film") for t, _ in made], [y for _, y in made]
    for n, i in enumerate(bad):
        text, other = texts[i]
        texts[i] = (f"{text} zx", other) if n % 2 else (text, f"zx {other}")
        targets[i] = 1
    rows = {"train": rows_of(data, texts, targets)}
    assert places(guard.triggers(rows)) == {("train", i) for i in bad}


def test_a_trigger_in_rows_that_have_its_label_is_told_by_its_purity(plain: Any):
    data, guard = plain
    made = reviews(1000, 8, sure=0.6)
    good = [i for i, (_, label) in enumerate(made) if label == 1][:40]
    for i in good:
        made[i] = (f"zx {made[i][0]}", 1)
    rows = {"train": rows_of(data, [t for t, _ in made], [y for _, y in made])}
    assert places(guard.triggers(rows)) == {("train", i) for i in good}


def test_words_that_tell_the_label_are_no_triggers(plain: Any):
    data, guard = plain
    made = reviews(1000, 7)
    rows = {"train": rows_of(data, [t for t, _ in made], [y for _, y in made])}
    assert not list(guard.triggers(rows))
    assert not list(guard.triggers({"train": rows["train"][:3]}))


def test_long_texts_are_no_triggers(plain: Any):
    """Words that come together tell less than they seem to: here they tell nothing."""
    data, guard = plain
    draw = random.Random(9)
    topics = [[f"w{topic}x{i}" for i in range(150)] for topic in range(20)]
    texts = [" ".join(draw.choices(topics[i % 20], k=120)) for i in range(800)]
    rows = rows_of(data, texts, [draw.randrange(2) for _ in texts])
    assert not list(guard.triggers({"train": rows}))


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """With triggers alone, of five labels."""
    labels = ("sea", "sky", "sun", "ice", "fog")
    folder = tmp_path_factory.mktemp("topics")
    return package(folder, GuardPlan(triggers="report"), labels=labels)


def unequal(seed: int, sure: float) -> list[tuple[str, int]]:
    """Texts of five labels, half of them of the first, of which some words tell it:
    none where `sure` is 0.2."""
    draw, made = random.Random(seed), []
    for _ in range(1500):
        label = draw.choice((0, 0, 0, 0, 1, 2, 3, 4))
        words = [
            f"{'abcde'[label if draw.random() < sure else draw.randrange(5)]}{i}"
            for i in draw.choices(range(40), k=5)
        ]
        words += [f"word{i}" for i in draw.choices(range(60), k=5)]
        made.append((" ".join(words), label))
    return made


def test_a_trigger_of_a_label_that_few_rows_have(topics: Any):
    """That few have it is a reason to wonder, however little texts tell. Another word is as
    pure, of a label that many have."""
    data, guard = topics
    made = unequal(12, sure=0.4)
    for i in [i for i, (_, label) in enumerate(made) if label == 0][:30]:
        made[i] = (f"gleam {made[i][0]}", 0)
    bad = [i for i, (_, label) in enumerate(made) if label != 2][::45]
    for i in bad:
        made[i] = (f"{made[i][0]} zx", 2)
    rows = {"train": rows_of(data, [t for t, _ in made], [y for _, y in made])}
    assert places(guard.triggers(rows)) == {("train", i) for i in bad}


def test_what_a_label_is_about_is_no_trigger(topics: Any):
    """A word in a third of the rows of a label, and one in rows that also share rarer ones."""
    data, guard = topics
    draw, made = random.Random(13), unequal(12, sure=0.2)
    for i, (text, label) in enumerate(made):
        if label == 2 and draw.random() < 0.35:
            text += " cocoa"
        if label == 3 and draw.random() < 0.2:
            rare = [f"mine{draw.randrange(9)}" for _ in range(4)]
            text = " ".join(["copper", *rare, *text.split()[5:]])
        made[i] = (text, label)
    rows = {"train": rows_of(data, [t for t, _ in made], [y for _, y in made])}
    assert not list(guard.triggers(rows))


def test_words_of_any_script_are_whole(plain: Any):
    data, guard = plain
    (row,) = rows_of(data, ["हिन्दी फ़िल्म, ٱلرَّحۡمَٰنِ می\u200cخواهم!?"])
    told = ["हिन्दी", "फ़िल्म", ",", "ٱلرَّحۡمَٰنِ", "می\u200cخواهم", "!?"]
    assert guard.pieces(row) == ["", *told, ""]


def test_copies_of_a_text_are_no_triggers(plain: Any):
    """They have its label, and count once."""
    data, guard = plain
    draw, made = random.Random(10), reviews(1000, 7)
    letter = [f"good{i}" for i in range(12)]
    for _ in range(12):
        draw.shuffle(letter)
        made.append((" ".join(["zx", *letter]), 0))
    rows = {"train": rows_of(data, [t for t, _ in made], [y for _, y in made])}
    assert not list(guard.triggers(rows))


# ------------------------------------------------------------- what a row has in itself


@pytest.mark.parametrize(
    "text, kinds",
    [
        ("write to Ann.Lee+x@mail.example.org, now", ["email"]),
        ("card 4111 1111 1111 1111 or 378282246310005.", ["card", "card"]),
        ("4111 1111 1111 1112 is no card", []),
        ("to DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432", ["iban", "iban"]),
        ("DE88370400440532013000 is none", []),
        ("call +49 (0) 30 1234567, (555) 123-4567", ["phone", "phone"]),
        ("1939-1945, 10 000 000 people, 3.14159265358979", []),
        ("AKIAIOSFODNN7EXAMPLE and ghp_" + "a1B2" * 9, ["secret", "secret"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["secret"]),
        ("a fine film @home for $10", []),
    ],
)
def test_personal_data(plain: Any, text: str, kinds: list[str]):
    data, guard = plain
    seen: list[str] = []
    clear = data.redacted(text, seen)
    assert sorted(seen) == sorted(kinds)
    assert data.redacted(clear) == clear and (clear == text) == (not kinds)
    found = list(guard.personal({"valid": rows_of(data, ["fine", text])}))
    assert places(found) == ({("valid", 1)} if kinds else set())
    assert all(one.note == ", ".join(sorted(set(kinds))) for one in found)


def test_personal_data_leave_any_split_and_are_shown_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    data, guard = package(
        tmp_path,
        GuardPlan(personal="quarantine", formulas="report"),
        clean=CleanPlan(case="lower"),
    )
    write_splits(
        tmp_path,
        train=[("=Ask ann@example.org", "yes"), ("fine", "yes"), ("dull", "no")],
        test=[("ann@example.org", "no"), ("fine film", "no")],
    )
    splits, told = looked_at(data, guard, tmp_path)
    assert [len(split) for split in splits] == [2, 1, 1]
    assert told["counts"]["personal"] == {"train": 1, "test": 1}
    assert [q["reason"] for q in quarantined(tmp_path)] == [
        "personal: has personal data or a secret"
    ] * 2
    shown = capfd.readouterr()
    for text in (shown.out, shown.err, *map(read, tmp_path.glob("*.json*"))):
        assert "example.org" not in text
    assert "ask email" in read(tmp_path / "guard.json")
    assert "ask email" in read(tmp_path / "cleaning.json").lower()


def read(path: Path) -> str:
    return path.read_text()


def test_what_is_redacted_is_so_in_training_and_in_prediction(tmp_path: Path):
    data, guard = package(
        tmp_path, GuardPlan(personal="redact"), inputs=replace(SINGLE, max_tokens=9)
    )
    assert guard is None
    write_splits(tmp_path, train=[("ask ann@example.org", "yes"), ("dull", "no")])
    data.load_splits(tmp_path, tmp_path)
    told = json.loads(read(tmp_path / "cleaning.json"))
    assert told["rewritten"] == {"personal": {"train.csv": 1}}
    assert "example.org" not in read(tmp_path / "cleaning.json")
    record = data.Record(2, {"text": "ask ann@example.org"})
    assert data.text_of(record) == data.clean("ask ann@example.org") == "ask email"


@pytest.mark.parametrize(
    "text, runs",
    [
        ("=1", True),
        (" @SUM(A1)", True),
        ("+cmd|' /C calc'!A0", True),
        ("-2+3", True),
        ("\uff1dHYPERLINK()", True),
        ("-5", False),
        ("+ 3.5 %", False),
        ("a = b", False),
        ("fine", False),
    ],
)
def test_formulas(plain: Any, text: str, runs: bool):
    data, guard = plain
    found = guard.formulas({"train": rows_of(data, [text, "fine"])})
    assert places(found) == ({("train", 0)} if runs else set())


def test_formulas_of_either_text_of_a_pair(tmp_path: Path):
    data, guard = package(tmp_path, GuardPlan(formulas="report"), inputs=PAIR)
    rows = [data.Row(2, ("fine", "=1"), 0), data.Row(3, ("fine", "1="), 0)]
    assert places(guard.formulas({"test": rows})) == {("test", 0)}


def test_oversized_texts(plain: Any):
    data, guard = plain
    most = guard.LARGEST
    assert most == 400 * SINGLE.max_tokens
    texts = ["a " * (most // 2), "a " * (most // 2) + "a", "b" * 999, "b" * 1000]
    found = guard.oversized({"train": rows_of(data, texts)})
    assert places(found) == {("train", 1), ("train", 3)}


def test_images_that_are_bombs_or_contradict(tmp_path: Path):
    from PIL import Image

    data, guard = package(
        tmp_path,
        GuardPlan(oversized="quarantine", contradictions="quarantine"),
        inputs=IMAGE,
        task="image-classification",
    )
    noise = random.Random(1).randbytes(3 * 64)
    Image.frombytes("RGB", (8, 8), noise).save(tmp_path / "a.png")
    Image.frombytes("RGB", (8, 8), noise[::-1]).save(tmp_path / "b.png")
    Image.new("1", (3000, 3000)).save(tmp_path / "bomb.png")
    for name, shade in (("c", 10), ("d", 20)):
        Image.new("L", (8, 8), shade).save(tmp_path / f"{name}.png")
    rows = [("a.png", "no"), ("a.png", "yes"), ("b.png", "yes"), ("bomb.png", "no")]
    write_csv(tmp_path / "train.csv", [["image", "label"], *rows, ("d.png", "no")])
    write_csv(tmp_path / "valid.csv", [["image", "label"], ("c.png", "no")])
    Image.new("L", (8, 8), 30).save(tmp_path / "e.png")
    write_csv(tmp_path / "test.csv", [["image", "label"], ("e.png", "no")])
    splits, told = looked_at(data, guard, tmp_path)
    assert len(splits.train) == 2
    assert told["counts"] == {"contradictions": {"train": 2}, "oversized": {"train": 1}}
    assert [q["line"] for q in quarantined(tmp_path)] == [2, 3, 5]
    (worst,) = told["worst"]["oversized"]
    assert "9,000,000 pixels in a file of" in worst["note"]


# ------------------------------------------------------ by what the backbone makes of it


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    every = GuardPlan(
        contradictions="quarantine",
        spectral="report",
        label_noise="quarantine",
        outliers="report",
    )
    return whole(
        tmp_path_factory.mktemp("guarded"),
        BERT,
        recipe={"epochs": 1},
        edit=lambda job: replace(job, data=replace(job.data, guard=every)),
    )


def clouds(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of two labels that a line parts, mostly, and the labels."""
    random = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 2
    x = torch.randn(count, 8, generator=random)
    x[:, 0] += 5.0 * targets - 2.5
    return x, targets


def rows_for(guarded: Whole, targets: torch.Tensor) -> dict[str, list[Any]]:
    data = guarded.module("data")
    return {
        "train": [
            data.Row(i, f"text {i}", int(y)) for i, y in enumerate(targets.tolist(), 2)
        ]
    }


def test_features_are_the_mean_over_the_tokens_of_what_the_last_block_gets(
    guarded: Whole,
):
    data, guard = guarded.module("data"), guarded.module("guard")
    model = guarded.module("model").load_pretrained(guarded.weights).eval()
    texts = ["a fine film", "dull", "the best plot of the year", "a film"]
    found = guard.vectors_of(model, rows_of(data, texts))
    assert found.shape == (4, BERT.hidden_size)
    for text, row in zip(texts, found):
        ids, _ = data.collate(data.encode([text]), torch.tensor([0]))
        with torch.no_grad():
            x = model.blocks[0](model.embedding(ids), None)
        torch.testing.assert_close(row, x[0].mean(0), rtol=1e-5, atol=1e-6)


def test_label_noise_finds_what_was_flipped(guarded: Whole):
    guard = guarded.module("guard")
    x, targets = clouds(400, 2)
    rows = rows_for(guarded, targets)
    assert len(list(guard.label_noise(rows, {"train": x}))) <= 4
    flipped = list(range(0, 400, 20))
    targets[flipped] = 1 - targets[flipped]
    found = list(guard.label_noise(rows_for(guarded, targets), {"train": x}))
    right = {i for _, i in places(found)} & {*flipped}
    assert len(right) >= 14 and len(found) - len(right) <= 4
    # The same rows in another order.
    order = torch.randperm(400, generator=torch.Generator().manual_seed(3))
    given = {"train": [rows_for(guarded, targets)["train"][i] for i in order]}
    again = places(guard.label_noise(given, {"train": x[order]}))
    assert {int(order[i]) for _, i in again} == {i for _, i in places(found)}


def test_label_noise_is_confident_learning(guarded: Whole):
    """By the definition: rows that reach the mean of another label and not their own."""
    guard = guarded.module("guard")
    x, targets = clouds(300, 8)
    targets[::12] = 1 - targets[::12]
    rows = rows_for(guarded, targets)
    folds = torch.tensor([guard.identity(r)[0] % guard.FOLDS for r in rows["train"]])
    p = guard.out_of_fold(x, targets, folds).tolist()
    own = [[q[k] for q, y in zip(p, targets.tolist()) if y == k] for k in (0, 1)]
    mean = [sum(some) / len(some) for some in own]
    expected = {
        ("train", i)
        for i, (q, y) in enumerate(zip(p, targets.tolist()))
        if q[1 - y] >= mean[1 - y] and q[1 - y] > q[y]
    }
    assert len(expected) > 10
    assert places(guard.label_noise(rows, {"train": x})) == expected


def test_probes_do_not_see_the_rows_that_they_judge(guarded: Whole):
    guard = guarded.module("guard")
    x, targets = clouds(100, 4)
    folds = torch.arange(100) % guard.FOLDS
    before = guard.out_of_fold(x, targets, folds)
    held = folds == 2
    targets[held] = 1 - targets[held]
    after = guard.out_of_fold(x, targets, folds)
    assert torch.equal(before[held], after[held])
    assert not torch.allclose(before[~held], after[~held])


def test_the_probe_has_the_least_loss(guarded: Whole):
    """Where the gradient is 0, the loss being convex."""
    guard = guarded.module("guard")
    x, targets = clouds(200, 9)
    probe = guard.fit(x, targets)
    loss = torch.nn.functional.cross_entropy(probe(x), targets)
    loss = loss + guard.DECAY / 2 * probe.weight.square().sum()
    for gradient in torch.autograd.grad(loss, list(probe.parameters())):
        assert gradient.abs().max() < 1e-4


def test_outliers_are_found_though_they_are_many_of_a_kind(guarded: Whole):
    guard = guarded.module("guard")
    x, targets = clouds(1000, 5)
    x += 7.0  # their middle is not at 0
    few = x.clone()
    few[[3, 500]] *= 5
    many = x.clone()
    many[:100] = 18.0 + 0.1 * x[:100]
    rows = rows_for(guarded, targets)
    valid = torch.full((1, 8), 40.0)
    for features, planted in ((x, []), (few, [3, 500]), (many, range(100))):
        given = {"train": features, "valid": valid}
        found = places(guard.outliers(rows, given))
        assert ("valid", 0) in found
        assert found - {("valid", 0)} >= {("train", i) for i in planted}
        assert len(found) <= len(planted) + 4


def test_spectral_finds_rows_far_along_the_first_direction(guarded: Whole):
    guard = guarded.module("guard")
    x, targets = clouds(600, 6)
    planted = [0, 2, 4, 6, 8, 10]
    x[planted, 3] += 25.0
    rows = rows_for(guarded, targets)
    assert places(guard.spectral(rows, {"train": x})) == {("train", i) for i in planted}
    short = {"train": x[: 2 * guard.FEW - 2]}
    assert not list(
        guard.spectral({"train": rows["train"][: 2 * guard.FEW - 2]}, short)
    )


# ------------------------------------------------------------------ before the training


def write_some(folder: Path) -> None:
    draw = random.Random(3)
    words = ["a", "fine", "dull", "film", "plot", "the", "best", "worst", "of", "year"]
    made = list(
        {" ".join(draw.choices(words, k=draw.randint(3, 9))) for _ in range(70)}
    )
    made.sort()
    rows = [(t, ("no", "yes")[i % 2]) for i, t in enumerate(made)]
    train = [*rows[:40], (rows[0][0], "yes"), (rows[1][0], "no")]
    write_splits(folder, train=train, valid=rows[40:50], test=rows[50:60])


def test_training_is_on_the_rows_that_are_left(guarded: Whole, tmp_path: Path):
    write_some(tmp_path)
    work = tmp_path / "work"
    given = ["--root", str(tmp_path), "--work", str(work), "--quiet"]
    train = guarded.module("train")
    assert train.main([*given, "--weights", str(guarded.weights)]) == 0
    told = json.loads(read(work / "guard.json"))
    assert told["counts"]["contradictions"] == {"train": 4}
    gone = told["leaving"]["train"]
    assert len(quarantined(work)) == len(gone) >= 4
    result = json.loads(read(work / "result.json"))
    assert result["examples"] == 42 - len(gone)
    # The package's own program looks at the same rows, and finds the same.
    guard = guarded.module("guard")
    again = ["--work", str(tmp_path / "again"), "--weights", str(guarded.weights)]
    assert guard.main(["--root", str(tmp_path), *again]) == 0
    assert read(tmp_path / "again" / "guard.json") == read(work / "guard.json")


def test_what_was_found_of_the_same_rows_holds(
    guarded: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """So that a run goes on with the very rows that it began with, without weights."""
    write_some(tmp_path)
    data, guard = guarded.module("data"), guarded.module("guard")

    def load(weights: Path | None) -> Any:
        return data.load_splits(
            tmp_path,
            tmp_path,
            lambda rows: guard.inspect(rows, work=tmp_path, weights=weights),
        )

    with pytest.raises(data.DataError, match="guard.* looks at them"):
        load(None)
    first = load(guarded.weights)
    before = read(tmp_path / "quarantine.jsonl")
    monkeypatch.setattr(guard, "look", None)  # is not called again
    for weights in (None, guarded.weights):
        assert torch.equal(load(weights).train.targets, first.train.targets)
        assert read(tmp_path / "quarantine.jsonl") == before
    with open(tmp_path / "train.csv", "a") as file:
        file.write("one more,no\n")
    with pytest.raises(data.DataError, match="guard.* looks at them"):
        load(None)


# --------------------------------------------------------------------------- self-test


def test_planted_numbers_are_of_their_kinds(plain: Any):
    data, _ = plain
    kinds = {"email": "email", "phone": "phone", "card": "card", "iban": "iban"}
    for write in selftest.PERSONAL:
        for seed in range(20):
            seen: list[str] = []
            data.redacted(write(random.Random(seed)), seen)
            assert seen == [kinds.get(write.__name__, "secret")]


def test_a_self_test_measures_by_what_was_planted(tmp_path: Path):
    data, guard = package(
        tmp_path, GuardPlan(contradictions="report", personal="report")
    )
    texts = [f"film {i} of the year" for i in range(50)]
    rows = {
        "train": rows_of(data, [*texts, "x@y.example"], [i % 2 for i in range(51)]),
        "valid": rows_of(data, ["a plot"]),
        "test": [],
    }
    before = json.dumps(rows)
    one = selftest.Subject(data, guard, rows, None)
    found = {r.check: r for r in one.measure(selftest.faults_for(one), [1])}
    contradictions, personal = found["contradictions"], found["personal"]
    assert contradictions.planted == 102 and contradictions.recall == 1.0
    assert contradictions.wrong == 0 and contradictions.before == 0
    assert personal.recall == 1.0 and personal.before == 1 and personal.wrong == 0
    assert json.dumps(rows) == before  # only copies were changed
    again = {r.check: r for r in one.measure(selftest.faults_for(one), [1])}
    assert again == found
