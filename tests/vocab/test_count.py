"""`gen facts --vocabulary`: what is counted, what is recorded, what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from runtime_support import SPECIAL, WORDS, gen, last_json, write_job

from generator.facts import Facts, UsedTokens, load_used
from generator.runtime.gather import facts_folder, load_facts
from generator.vocab import parse

PAIR = {'text = "text"\n': 'text = ["text", "other"]\n'}


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A job whose tokenizer is WordPiece, with letters for unseen words."""
    spec = write_job(tmp_path)
    wordpiece(tmp_path / "backbone" / "tokenizer.json")
    return spec


def wordpiece(path: Path) -> None:
    """The words of the rows as pieces, and one that no row has."""
    value = json.loads(path.read_text())
    words = [*SPECIAL, *WORDS[:-1], "flatly"]  # in place of "flat"
    value["model"] = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {word: i for i, word in enumerate(words)},
    }
    path.write_text(json.dumps(value))


def counted(spec: Path) -> tuple[UsedTokens, Facts]:
    facts = load_facts(facts_folder(spec.parent, "tiny_job"))
    assert facts is not None
    assert facts.vocabulary is not None and facts.tokenizer is not None
    return load_used(facts.vocabulary, facts.tokenizer, "v"), facts


def words_of(path: Path, columns: list[str]) -> list[str]:
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] != "neither"]
    return [word for row in rows for c in columns for word in row[c].split()]


def named(used: UsedTokens, facts: Facts) -> dict[str, int]:
    tokens = parse(facts.tokenizer or b"").tokens
    return {tokens[i]: n for i, n in zip(used.ids, used.counts, strict=True)}


def test_the_rows_of_training_are_counted(spec: Path, capsys: pytest.CaptureFixture):
    assert gen("facts", spec, "--vocabulary", "--json") == 0
    (figures,) = last_json(capsys.readouterr().out)
    used, facts = counted(spec)
    words = words_of(spec.parent / "rows" / "train.csv", ["text"])
    words = ["[UNK]" if word == "flat" else word for word in words]
    assert named(used, facts) == {w: words.count(w) for w in set(words)}
    assert "[UNK]" in words
    assert used.texts == 64  # without the one whose label is unknown
    assert [f.name for f in used.files] == [
        f"rows/{s}.csv" for s in ("train", "valid", "test")
    ]
    assert all(f.size == (spec.parent / f.name).stat().st_size for f in used.files)
    become = figures["tokens"].pop("become")
    assert set(become) == {"valid", "test"} and become["test"]["broken"] == 0
    assert figures["tokens"] == {
        "texts": 64,
        "used": len(used.ids),
        "kept": len(set(words) | set(SPECIAL)),
        "vocabulary": 16,
    }


def test_a_row_that_another_split_has_is_not_counted(spec: Path):
    rows = spec.parent / "rows"
    with open(rows / "train.csv", "a") as train, open(rows / "test.csv", "a") as test:
        train.write("flatly flatly,good\n")
        test.write("flatly flatly,good\n")
    assert gen("facts", spec, "--vocabulary", "--quiet") == 0
    assert "flatly" not in named(*counted(spec))


def test_texts_count_beyond_where_they_are_cut(spec: Path):
    with open(spec.parent / "rows" / "train.csv", "a") as train:
        train.write("a film " * 20 + "flatly,good\n")
    assert gen("facts", spec, "--vocabulary", "--quiet") == 0
    assert named(*counted(spec))["flatly"] == 1


def test_both_texts_of_a_pair_are_counted(spec: Path):
    spec.write_text(spec.read_text().replace(*next(iter(PAIR.items()))))
    for split in ("train", "valid", "test"):
        path = spec.parent / "rows" / f"{split}.csv"
        header, *lines = path.read_text().splitlines()
        texts = [f"{line},flatly {i}" for i, line in enumerate(lines)]
        path.write_text("\n".join([f"{header},other", *texts]) + "\n")
    assert gen("facts", spec, "--vocabulary", "--quiet") == 0
    used, facts = counted(spec)
    assert used.texts == 128
    assert named(used, facts)["flatly"] == 64


def test_counts_stay_with_their_tokenizer(spec: Path):
    assert gen("facts", spec, "--vocabulary", "--quiet") == 0
    assert gen("facts", spec, "--refresh", "--quiet") == 0
    counted(spec)
    path = spec.parent / "backbone" / "tokenizer.json"
    path.write_text(path.read_text().replace("flatly", "flatty"))
    assert gen("facts", spec, "--refresh", "--quiet") == 0
    facts = load_facts(facts_folder(spec.parent, "tiny_job"))
    assert facts is not None and facts.vocabulary is None


def test_a_damaged_count_is_counted_again(spec: Path):
    assert gen("facts", spec, "--vocabulary", "--quiet") == 0
    path = facts_folder(spec.parent, "tiny_job") / "vocabulary.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert gen("facts", spec, "--vocabulary", "--quiet") == 0
    assert path.read_bytes() == good


def refusal(capsys: pytest.CaptureFixture, *arguments: Any) -> str:
    assert gen("facts", *arguments, "--vocabulary") == 2
    return capsys.readouterr().err


def test_what_cannot_be_counted(spec: Path, capfd: pytest.CaptureFixture):
    """A tokenizer of whole words; data that is elsewhere; a job without a tokenizer."""
    said = refusal(capfd, spec, "--root", spec.parent / "backbone")
    assert "error[G145]" in said and "--root" in said
    assert "no file" in said and "Traceback" not in said
    other = write_job(spec.parent / "words")
    assert "error[G143]" in refusal(capfd, other)
    facts = load_facts(facts_folder(other.parent, "tiny_job"))
    assert facts is not None and facts.vocabulary is None
    (other.parent / "facts" / "tiny_job" / "tokenizer.json").unlink()
    assert "error[G145]" in refusal(capfd, other)
