"""What augment.py of a package does to rows: each step on hand-made rows, and the same in
every run."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch
from data_support import (
    SINGLE,
    TYPED,
    load_package,
    make_job,
    quarantined,
    write_csv,
    write_jsonl,
)
from laid_out import formatted
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from torch import nn
from transformers import BertConfig
from whole_support import Whole, whole

from generator.ir.plans import AugmentPlan
from generator.render import augment, data

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
PIECES = ["a", "fine", "film", "##s", "##ing", "dull", "nice", "good", "plot", "best"]
TEXT = replace(SINGLE, max_tokens=12)
WORDPIECE: dict[str, Any] = {"continues": "##", "mask": "[MASK]"}


def wordpiece() -> Tokenizer:
    names = {word: i for i, word in enumerate([*SPECIAL, *PIECES])}
    found = Tokenizer(models.WordPiece(names, unk_token="[UNK]"))
    found.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    found.add_special_tokens(SPECIAL)
    found.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    found.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return found


def byte_level() -> Tokenizer:
    """Words of letters, those behind a space told from those at the start."""
    words = ["fine", "\u0120fine", "good", "\u0120good", "\u0120film"]
    letters = sorted({*"finegoodlm", "\u0120"})
    names = {word: i for i, word in enumerate([*SPECIAL, *letters])}
    merges = []
    for word in words:
        made = word[0]
        for letter in word[1:]:
            if (made, letter) not in merges:
                merges.append((made, letter))
            made += letter
            names.setdefault(made, len(names))
    found = Tokenizer(models.BPE(names, merges))
    found.add_special_tokens(SPECIAL)
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
    found.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return found


def module(
    folder: Path, plan: AugmentPlan, tokenizer: Tokenizer | None = None, **job: Any
) -> tuple[ModuleType, ModuleType]:
    """data.py and augment.py of a job."""
    made = make_job(job.pop("inputs", TEXT), augment=plan, **job)
    found, _ = load_package(folder, made, tokenizer or wordpiece())
    sys.path.insert(0, str(folder))
    try:
        return found, importlib.import_module(f"{made.name}.augment")
    finally:
        sys.path.remove(str(folder))


def tokens_of(found: ModuleType, ids: list[int]) -> list[str]:
    return [found.tokenizer().id_to_token(i) for i in ids]


def split_of(found: ModuleType, texts: list[Any]) -> Any:
    return found.Split(found.encode(texts), torch.arange(len(texts)) % 2)


# What becomes of rows


def test_words_are_whole_and_special_tokens_stay(tmp_path: Path):
    found, own = module(tmp_path, AugmentPlan(word_dropout=0.5, **WORDPIECE))
    rows = own.Rows(split_of(found, ["a fine films filming", "dull"]))
    seen = {tuple(tokens_of(found, rows.changed(epoch, 0))) for epoch in range(200)}
    words = [["a"], ["fine"], ["film", "##s"], ["film", "##ing"]]
    some = [chosen for n in range(1, 5) for chosen in itertools.combinations(words, n)]
    assert seen == {("[CLS]", *itertools.chain(*each), "[SEP]") for each in some}
    # A row that would lose all of its words keeps them.
    assert {tuple(rows.changed(epoch, 1)) for epoch in range(50)} == {(1, 10, 2)}


def test_as_many_words_go_as_were_asked_for(tmp_path: Path):
    found, own = module(tmp_path, AugmentPlan(word_dropout=0.2, **WORDPIECE))
    rows = own.Rows(split_of(found, ["a fine film a dull plot best good"]))
    left = sum(len(rows.changed(epoch, 0)) - 2 for epoch in range(500))
    assert 0.77 < left / (8 * 500) < 0.83


def test_types_go_with_their_words(tmp_path: Path):
    plan = AugmentPlan(word_dropout=0.4, **WORDPIECE)
    found, own = module(tmp_path, plan, inputs=replace(TYPED, max_tokens=12))
    rows = own.Rows(split_of(found, [("a fine film", "dull plot")] * 3))
    for epoch in range(30):
        ids, types = rows.changed(epoch, 0)
        first = ids.index(2) + 1  # behind the first [SEP]
        assert types == [0] * first + [1] * (len(ids) - first)
        batch = rows.batch(epoch, torch.arange(3))
        kinds, mask = batch.inputs[1], batch.inputs[2]
        length = len(ids)
        assert kinds[0, :length].tolist() == types
        assert mask is None or mask[0].sum() == length


def test_synonyms(tmp_path: Path):
    """Groups replace each other, unknown words are left out, and rows do not outgrow."""
    (tmp_path / "words.txt").write_text("fine, Nice,good films\n\nunheard,dull\nplot\n")
    plan = AugmentPlan(synonym_swap=1.0, synonyms="words.txt", **WORDPIECE)
    found, own = module(tmp_path, plan)
    rows = own.Rows(
        split_of(found, ["fine film", "dull plot", "fine " * 8]),
        own.read_synonyms(tmp_path),
    )

    def seen(row: int) -> set[str]:
        return {" ".join(tokens_of(found, rows.changed(e, row))) for e in range(60)}

    others = {"nice", "good film ##s"}
    assert seen(0) == {f"[CLS] {other} film [SEP]" for other in others}
    assert seen(1) == {"[CLS] dull plot [SEP]"}
    assert max(len(one.split()) for one in seen(2)) == 12  # of max_tokens


def test_synonyms_keep_the_space_ahead_of_a_word(tmp_path: Path):
    (tmp_path / "words.txt").write_text("fine,good\n")
    plan = AugmentPlan(
        synonym_swap=1.0, synonyms="words.txt", begins="\u0120", mask="[MASK]"
    )
    found, own = module(tmp_path, plan, byte_level())
    rows = own.Rows(split_of(found, ["fine film fine"]), own.read_synonyms(tmp_path))
    ids = rows.changed(0, 0)
    assert found.tokenizer().decode(ids) == "good film good"
    assert ids == found.tokenizer().encode("good film good").ids


def test_synonyms_that_cannot_be_read(tmp_path: Path):
    plan = AugmentPlan(synonym_swap=1.0, synonyms="words.txt", **WORDPIECE)
    found, own = module(tmp_path, plan)
    with pytest.raises(found.DataError, match="cannot be read"):
        own.read_synonyms(tmp_path)
    (tmp_path / "words.txt").write_bytes(b"a,\xff\n")
    with pytest.raises(found.DataError, match="cannot be read"):
        own.read_synonyms(tmp_path)


@pytest.mark.parametrize("span", [1, 3])
def test_spans_are_masked(tmp_path: Path, span: int):
    plan = AugmentPlan(span_mask=0.3, span_tokens=span, **WORDPIECE)
    found, own = module(tmp_path, plan)
    text = "a fine film a dull plot best good a nice"
    ids = found.encode([text]).ids.tolist()
    rows = own.Rows(split_of(found, [text]))
    counts, runs = Counter[int](), 0
    for epoch in range(300):
        changed = rows.changed(epoch, 0)
        assert len(changed) == 12 and (changed[0], changed[-1]) == (1, 2)
        hidden = [i for i, (new, old) in enumerate(zip(changed, ids)) if new != old]
        assert {changed[i] for i in hidden} <= {4}
        counts[len(hidden)] += 1
        runs += sum(i - 1 not in hidden for i in hidden)
    assert counts == {3: 300}  # 0.3 of ten tokens
    each = 3 * 300 / runs  # tokens of a run
    assert each > 1.8 if span == 3 else each < 1.6
    short = own.Rows(split_of(found, ["fine film"]))
    some = Counter(short.changed(epoch, 0).count(4) for epoch in range(500))
    assert set(some) == {0, 1} and 0.5 < some[1] / 500 < 0.7  # 0.6 of a token


def write_splits(folder: Path) -> None:
    rows = {
        "train": ["a fine film", "dull plot", "best film", "a  plot"],
        "valid": ["good film", "dull film"],
        "test": ["nice film", "dull a"],
    }
    for name, texts in rows.items():
        labels = ["yes", "no", "yes", "no"]
        write_csv(folder / f"{name}.csv", [["text", "label"], *zip(texts, labels)])


def test_paraphrases_and_what_cannot_be_used(tmp_path: Path):
    """The row, what became of it, and the counts."""
    write_splits(tmp_path)
    write_jsonl(
        tmp_path / "other.jsonl",
        [
            {"text": "a fine film", "paraphrase": ["a good film", "nice film"]},
            {"text": "a plot", "paraphrase": "a dull a plot"},
            {"text": "a fine  film", "paraphrase": "fine"},
            {"text": "no such text", "paraphrase": "good"},
            {"text": "dull plot", "paraphrase": [" ", 3]},
            {"text": "best film", "paraphrase": "good film"},
            {"text": "", "paraphrase": "good"},
        ],
    )
    plan = AugmentPlan(paraphrase=0.5, paraphrases="other.jsonl")
    found, own = module(tmp_path, plan, formats=("csv", "jsonl"))
    splits = found.load_splits(tmp_path, tmp_path)
    rows = own.Rows(splits.train, *own.read_paraphrases(tmp_path, tmp_path, splits))
    seen = [
        {" ".join(tokens_of(found, rows.changed(e, row))[1:-1]) for e in range(40)}
        for row in range(4)
    ]
    assert seen == [
        {"a fine film", "a good film", "fine"},
        {"dull plot"},
        {"best film"},
        {"a plot", "a dull a plot"},
    ]
    assert [(q["file"], q["line"], q["reason"]) for q in quarantined(tmp_path)] == [
        ("other.jsonl", 5, 'of a paraphrase: "text" is empty or not a text'),
        ("other.jsonl", 5, 'of a paraphrase: "text" is empty or not a text'),
        ("other.jsonl", 7, '"text" is empty or not a text'),
        ("other.jsonl", 1, "the paraphrase is a text of valid or test"),
        ("other.jsonl", 4, "it is a paraphrase of no training text"),
        ("other.jsonl", 6, "the paraphrase is a text of valid or test"),
    ]
    share = sum(rows.changed(e, 3) != rows.changed(0, 1) for e in range(1)) + sum(
        len(rows.changed(e, 3)) == 6 for e in range(400)
    )
    assert 160 < share < 240


def test_paraphrases_of_a_csv_file_and_none_at_all(tmp_path: Path):
    write_splits(tmp_path)
    head = ["text", "paraphrase"]
    write_csv(tmp_path / "other.csv", [head, ["dull plot", "dull"], ["dull plot", "a"]])
    plan = AugmentPlan(paraphrase=1.0, paraphrases="other.csv")
    found, own = module(tmp_path, plan)
    splits = found.load_splits(tmp_path, tmp_path)
    rows = own.Rows(splits.train, *own.read_paraphrases(tmp_path, tmp_path, splits))
    assert {tuple(rows.changed(e, 1)) for e in range(20)} == {(1, 10, 2), (1, 5, 2)}
    write_csv(tmp_path / "other.csv", [head, ["dull plot", ""]])
    with pytest.raises(found.DataError, match="no usable paraphrases"):
        own.read_paraphrases(tmp_path, tmp_path, splits)
    write_csv(tmp_path / "other.csv", [["text", "other"], ["dull plot", "x"]])
    with pytest.raises(found.DataError, match='no column "paraphrase"'):
        own.read_paraphrases(tmp_path, tmp_path, splits)
    (tmp_path / "other.csv").unlink()
    with pytest.raises(found.DataError, match="no file"):
        own.read_paraphrases(tmp_path, tmp_path, splits)


def test_batches_of_tokens_are_cut_by_the_paraphrases_that_they_have(tmp_path: Path):
    """A budget of padded tokens holds, and each row is in one batch."""
    texts = ["fine", "dull", "good", "nice", "best", "plot"]
    write_csv(tmp_path / "valid.csv", [["text", "label"], ["a a", "no"]])
    write_csv(tmp_path / "test.csv", [["text", "label"], ["a a a", "no"]])
    both = [["text", "label"], *zip(texts, itertools.cycle(["yes", "no"]))]
    write_csv(tmp_path / "train.csv", both)
    longer = [["text", "paraphrase"], *((t, f"{t} a a a a a a") for t in texts)]
    write_csv(tmp_path / "other.csv", longer)
    plan = AugmentPlan(paraphrase=0.5, paraphrases="other.csv")
    sizes = {"batch": 0, "batch_tokens": 12}
    found, own = module(tmp_path, plan, train=sizes)
    splits = found.load_splits(tmp_path, tmp_path)
    rows = own.Rows(splits.train, *own.read_paraphrases(tmp_path, tmp_path, splits))
    counts = set()
    for epoch in range(12):
        batches = [*rows.batches(epoch)]
        assert len(batches) == rows.batch_count(epoch)
        assert max(batch.inputs[0].numel() for batch in batches) <= 12
        assert sorted(x for b in batches for x in b.rows.tolist()) == [*range(6)]
        counts.add(len(batches))
    assert len(counts) > 1


# The same in every run


ALL = AugmentPlan(
    synonym_swap=0.5,
    synonyms="words.txt",
    word_dropout=0.2,
    span_mask=0.2,
    **WORDPIECE,
)


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # which has batches made by threads
def test_what_becomes_of_a_row_follows_from_seed_epoch_and_number(
    tmp_path: Path, device: str
):
    (tmp_path / "words.txt").write_text("fine,good,nice\ndull,plot\n")
    random = Random(5)
    words = [p for p in PIECES if "#" not in p]
    texts = [" ".join(random.choices(words, k=random.randint(3, 9))) for _ in range(30)]
    found, own = module(tmp_path, ALL, device=device)
    split = split_of(found, texts)
    rows = own.Rows(split, own.read_synonyms(tmp_path))

    def seen(batches: Any) -> list[list[Any]]:
        return [[b.inputs[0].tolist(), b.rows.tolist(), b.tokens] for b in batches]

    first = seen(rows.batches(3))
    assert seen(rows.batches(3)) == first and seen(rows.batches(4)) != first
    assert seen(rows.batches(3, 5)) == first[5:]
    assert sum(len(numbers) for _, numbers, _ in first) == 30
    for ids, numbers, count in first:
        own_ids = [rows.changed(3, n) for n in numbers]
        assert [row[: len(x)] for row, x in zip(ids, own_ids)] == own_ids
        assert count == sum(map(len, own_ids))
    # Alone or in another batch, a row is the same; the rows of data.py stay.
    alone = rows.batch(3, torch.tensor([7])).inputs[0][0].tolist()
    assert alone == rows.changed(3, 7)
    assert [b.rows.tolist() for b in found.batches(split, 3)] == [
        n for _, n, _ in first
    ]
    assert all(
        b.tokens != count for b, (_, _, count) in zip(found.batches(split, 3), first)
    )


def test_numbers_are_the_same_on_any_machine(tmp_path: Path):
    found, own = module(tmp_path, AugmentPlan(word_dropout=0.5, **WORDPIECE))
    rows = own.Rows(split_of(found, ["a fine film dull plot best good a nice"]))
    texts = [" ".join(tokens_of(found, rows.changed(e, 0))[1:-1]) for e in range(3)]
    assert texts == EXPECTED


EXPECTED = ["dull a", "film dull plot nice", "fine dull plot good a nice"]


# Rows in pairs


@pytest.mark.parametrize("task", ["text-classification", "multi-label", "regression"])
def test_mixing_logits_is_mixing_what_the_last_layer_takes(tmp_path: Path, task: str):
    _, own = module(tmp_path, AugmentPlan(mixup=0.4), task=task)
    torch.manual_seed(0)
    last, x = nn.Linear(8, 3), torch.randn(5, 8)
    one = task == "text-classification"
    targets = torch.tensor([0, 1, 2, 2, 1]) if one else torch.rand(5, 3)
    shares = []
    for seed in range(200):
        torch.manual_seed(seed)
        logits, wanted = own.mixed(last(x), targets)
        torch.manual_seed(seed)
        again = own.mixed(last(x), targets)
        assert torch.equal(again[0], logits) and torch.equal(again[1], wanted)
        rows = nn.functional.one_hot(targets, 3).float() if one else targets
        share = ((wanted - rows.roll(1, 0))[0] / (rows - rows.roll(1, 0))[0])[0].item()
        mixture = share * x + (1 - share) * x.roll(1, 0)
        assert torch.allclose(logits, last(mixture), atol=1e-4)
        mixture = share * rows + (1 - share) * rows.roll(1, 0)
        assert torch.allclose(wanted, mixture, atol=1e-4)
        if one:
            assert torch.allclose(wanted.sum(dim=1), torch.ones(5))
        shares.append(share)
    mean = sum(shares) / 200
    spread = sum((s - mean) ** 2 for s in shares) / 200
    assert abs(mean - 0.5) < 0.1 and abs(spread - 1 / (4 * 1.8)) < 0.04  # of Beta


# Epochs of rows that are drawn


def test_balanced_epochs_have_each_label_alike_often(tmp_path: Path):
    found, _ = load_package(tmp_path, make_job(train={"sampling": "balanced"}))
    texts = ["a", "fine", "film"] * 50
    targets = torch.tensor([0] * 135 + [1] * 15)
    split = found.Split(found.encode(texts), targets)
    order = [torch.cat(found.epoch_order(split, epoch)) for epoch in range(20)]
    assert all(len(one) == 150 for one in order)
    share = torch.cat([targets[one].float() for one in order]).mean().item()
    assert 0.47 < share < 0.53
    seen = torch.bincount(torch.cat(order), minlength=150)
    assert seen.min() > 0 and seen[135:].float().mean() > 8 * seen[:135].float().mean()
    again = torch.cat(found.epoch_order(split, 3))
    assert torch.equal(again, order[3]) and not torch.equal(again, order[4])


def test_a_row_of_several_labels_is_drawn_as_one_of_its_rarest(tmp_path: Path):
    job = make_job(
        task="multi-label", labels=("x", "y"), train={"sampling": "balanced"}
    )
    found, _ = load_package(tmp_path, job)
    targets = torch.tensor([[1.0, 0]] * 6 + [[1, 1]] * 2 + [[0, 0]] * 4)
    split = found.Split(found.encode(["a"] * 12), targets)
    expected = [1 / 8] * 6 + [1 / 2] * 2 + [1 / 4] * 4
    assert found.chances(split).tolist() == pytest.approx(expected)


# Whole packages


def test_the_files_are_formatted_and_say_only_what_was_asked_for(tmp_path: Path):
    some = {
        "word_dropout": AugmentPlan(word_dropout=0.1, continues="##"),
        "synonym": AugmentPlan(synonym_swap=0.1, synonyms="{{x}}", begins="\u2581"),
        "masked": AugmentPlan(span_mask=0.1, mask='[M"ASK]'),
        "paraphrase": AugmentPlan(paraphrase=0.1, paraphrases='a"b.csv'),
        "mixed": AugmentPlan(mixup=0.1),
    }
    every = replace(ALL, paraphrase=0.1, paraphrases="a.csv", mixup=0.2)
    for plan in (*some.values(), every):
        for inputs, device in ((TEXT, "cpu"), (TYPED, "cuda")):
            if plan.paraphrase and inputs is TYPED:
                continue
            job = make_job(inputs, augment=plan, device=device)
            (tmp_path / job.name).mkdir()
            for name, renderer in (("data", data), ("augment", augment)):
                text = renderer.render(job)
                if name == "augment" or plan is every:
                    text = formatted(text)
                    assert max(map(len, text.splitlines())) <= 88, (plan, name)
                (tmp_path / job.name / f"{name}.py").write_text(text)
            for word, other in some.items():
                assert (f"def {word}" in text or word in text.casefold()) == (
                    plan in (other, every)
                ), (word, plan)
    check = [sys.executable, "-m", "ruff", "check", "--isolated", str(tmp_path)]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert not augment.asked(make_job())


def package(folder: Path, plan: AugmentPlan, **recipe: Any) -> Whole:
    sizes: dict[str, Any] = {"vocab_size": 53, "hidden_size": 24}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 3}
    config = BertConfig(**sizes, intermediate_size=37, max_position_embeddings=21)
    made = whole(
        folder,
        config,
        recipe={"epochs": 3, "save_every": 2, **recipe},
        edit=lambda job: replace(job, data=replace(job.data, augment=plan)),
    )
    for name in ("train", "valid", "test"):
        rows = [
            [f"{word} film {name} {'a ' * i}", label]
            for i in range(4)
            for word, label in (("fine", "yes"), ("dull", "no"), ("best", "yes"))
        ]
        (column,) = made.job.data.inputs.columns  # type: ignore[union-attr]
        write_csv(folder / f"{name}.csv", [[column, *made.job.data.label], *rows])
    return made


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path):
    """Dropped words, pairs of rows, drawn rows and focal loss, bit for bit."""
    plan = AugmentPlan(word_dropout=0.3, mixup=0.4)
    made = package(tmp_path, plan, sampling="balanced", loss="focal")
    train = made.module("train")

    def run(work: str, *args: str, stop: int = 0) -> int:
        step = train.step
        left = itertools.count(stop - 1, -1)

        def stopping(*given: Any) -> Any:
            found = step(*given)
            if next(left) == 0:
                raise KeyboardInterrupt
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "step", stopping)
            patch.setattr(train.signal, "signal", lambda *_: None)
            paths = ["--root", str(tmp_path), "--work", str(tmp_path / work)]
            return train.main(
                [*paths, "--weights", str(made.weights), "--quiet", *args]
            )

    assert run("whole") == 0
    with pytest.raises(KeyboardInterrupt):
        run("parts", stop=5)
    assert (tmp_path / "parts" / "checkpoints" / "000000004.safetensors").exists()
    (tmp_path / "parts" / "lock").unlink()  # held by this very process
    assert run("parts", "--resume") == 0
    results = [
        json.loads((tmp_path / work / "result.json").read_text())
        for work in ("whole", "parts")
    ]
    for one in results:
        one.pop("seconds")
        one.pop("metrics_size")
    assert results[0] == results[1]
    models_ = [
        (tmp_path / work / "checkpoints" / "000000009.safetensors").read_bytes()[-5000:]
        for work in ("whole", "parts")
    ]
    assert models_[0] == models_[1]
