"""How rows are prepared and held: in parts, by processes, again, and by their keys."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from data_support import (
    PAIR,
    TYPED,
    WORDS,
    load_package,
    make_job,
    quarantined,
    some_texts,
    write_csv,
)

from generator.ir.plans import CleanPlan

CLEAN = CleanPlan(
    html=True, whitespace=True, min_tokens=4, too_long="quarantine", duplicates="exact"
)
SPLIT = ("train.csv", None, None)


def write_rows(folder: Path, count: int = 400, pair: bool = False) -> None:
    """Rows of three files that share some, that repeat some, and that have bad ones."""
    draw = random.Random(count)
    texts = some_texts(count, 14)
    for name, rows in (("train", count), ("valid", count // 8), ("test", count // 8)):
        made: list[list[Any]] = [
            ["first", "second", "label"] if pair else ["text", "label"]
        ]
        for _ in range(rows):
            text = draw.choice(texts) + draw.choice(["", "", "", " <b>film</b>"])
            label = draw.choice(["yes", "no", "no", "odd"] + ["no"] * 20)
            if draw.random() < 0.03:
                text = draw.choice(["", "<br>", "film", "a,b\nc"])
            made.append(
                [text, *["the year"] * pair, label][: draw.choice([1, *[3] * 40])]
            )
        write_csv(folder / f"{name}.csv", made)


def result(module: ModuleType, root: Path, work: Path) -> list[Any]:
    """All that reading gives: tokens and targets, and what is written beside them."""
    found: list[Any] = []
    for split in module.load_splits(root, work):
        found += [x.tolist() for x in (*split.tokens, split.targets)]
    files = [work / "quarantine.jsonl", work / "cleaning.json"]
    return [*found, *(file.read_text() for file in files if file.exists())]


JOBS: dict[str, dict[str, Any]] = {
    "files": {"clean": CLEAN},
    "fractions": {"files": SPLIT, "clean": CleanPlan(duplicates="exact")},
    "pair": {"inputs": PAIR},
    "types": {"inputs": TYPED, "clean": CLEAN},
    "labels": {"files": SPLIT, "task": "multi-label"},
}


@pytest.mark.parametrize("case", JOBS)
def test_parts_and_processes_change_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part in this process, many in two others, and sorting a few rows at a time."""
    job = make_job(**JOBS[case])
    module, _ = load_package(tmp_path, job)
    write_rows(tmp_path, pair=case in ("pair", "types"))
    whole = result(module, tmp_path, tmp_path / "whole")
    assert len(whole[0]) > 300 and quarantined(tmp_path / "whole")

    rows = __import__(module.__name__.replace(".data", ".rows"), fromlist=["rows"])
    monkeypatch.setattr(module, "PART", 30)
    monkeypatch.setattr(module, "CORES", 2)
    monkeypatch.setattr(module, "FORK_BYTES", 1)
    monkeypatch.setattr(rows, "STEP", 7)
    monkeypatch.setattr(rows, "SORTED", 40)
    assert result(module, tmp_path, tmp_path / "parts") == whole
    monkeypatch.setattr(module, "part_of", None)  # all is there
    assert result(module, tmp_path, tmp_path / "parts") == whole


@pytest.mark.parametrize("case", JOBS)
def test_rows_in_memory_are_the_same(case: str, tmp_path: Path) -> None:
    """The same tokens, targets, reasons and counts, and no file that keeps rows."""
    write_rows(tmp_path, pair=case in ("pair", "types"))
    module, _ = load_package(tmp_path, make_job(**JOBS[case]))
    whole = result(module, tmp_path, tmp_path / "whole")
    module, _ = load_package(tmp_path, make_job(**JOBS[case], rows="memory"))
    assert result(module, tmp_path, tmp_path / "plain") == whole
    assert not (tmp_path / "plain" / "rows").exists()


def test_what_is_too_large_for_memory_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = load_package(tmp_path, make_job(rows="memory"))
    write_rows(tmp_path)
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(module.DataError, match='rows = "files"'):
        module.load_splits(tmp_path, tmp_path / "work")


def test_what_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last part that is whole, also where a file goes further than it."""
    module, _ = load_package(tmp_path, make_job(clean=CLEAN))
    write_rows(tmp_path)
    whole = result(module, tmp_path, tmp_path / "whole")
    monkeypatch.setattr(module, "PART", 50)
    done: list[int] = []
    part_of = module.part_of

    def stopping(name: str, records: list[Any]) -> Any:
        done.append(len(records))
        if len(done) == 4:
            raise KeyboardInterrupt
        return part_of(name, records)

    monkeypatch.setattr(module, "part_of", stopping)
    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        module.load_splits(tmp_path, work)
    (folder,) = (work / "rows").iterdir()
    assert json.loads((folder / "about.json").read_text())["records"] == 150
    with open(folder / "ids", "ab") as file:
        file.write(b"half of a part")
    before = len(done)
    assert result(module, tmp_path, work) == whole
    every = sum(
        1
        for name in ("train", "valid", "test")
        for _ in module.csv_records(tmp_path / f"{name}.csv", ("text", "label"))
    )
    assert sum(done[before:]) == every - 150

    # Of what a loss of power left without its end, all is made anew.
    (folder,) = (work / "rows").glob("train-*")
    with open(folder / "texts", "ab") as file:
        file.truncate(20)
    assert result(module, tmp_path, work) == whole


def test_a_killed_run_leaves_no_process_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = load_package(tmp_path, make_job(clean=CLEAN))
    write_rows(tmp_path)
    whole = result(module, tmp_path, tmp_path / "whole")
    monkeypatch.setattr(module, "PART", 20)
    monkeypatch.setattr(module, "CORES", 2)
    monkeypatch.setattr(module, "FORK_BYTES", 1)
    work, usable = tmp_path / "work", module.usable

    deadline = time.monotonic() + 600

    def slow(*args: Any) -> Any:
        """After both have begun, so that none does all before the other is there."""
        (tmp_path / f"pid-{os.getpid()}").touch()
        while len([*tmp_path.glob("pid-*")]) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        return usable(*args)

    monkeypatch.setattr(module, "usable", slow)
    process = multiprocessing.get_context("fork").Process(
        target=module.load_splits, args=(tmp_path, work)
    )
    process.start()
    assert process.pid
    helpers: list[int] = []
    while len(helpers) < 2 or not [*work.glob("rows/train-*/about.json")]:
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.02)
        helpers = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(helpers) == 2 and process.pid not in helpers
    while any(map(running, helpers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    monkeypatch.setattr(module, "usable", usable)
    assert result(module, tmp_path, work) == whole


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_fault_in_a_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = load_package(tmp_path, make_job())
    write_rows(tmp_path)
    monkeypatch.setattr(module, "CORES", 2)
    monkeypatch.setattr(module, "FORK_BYTES", 1)

    def broken(records: Any, name: str, quarantine: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(module, "usable", broken)
    with pytest.raises(MemoryError, match="no room"):
        module.load_splits(tmp_path, tmp_path / "work")


def test_what_was_prepared_is_of_its_file_and_its_code(tmp_path: Path) -> None:
    """A changed file, tokenizer or label has its rows prepared anew; old ones go."""
    module, _ = load_package(tmp_path, make_job())
    write_rows(tmp_path)
    work, package = tmp_path / "work", Path(module.__file__ or "").parent

    def folders() -> set[str]:
        module.load_splits(tmp_path, work)
        return {path.name for path in (work / "rows").iterdir()}

    first = folders()
    assert len(first) == 3 and folders() == first
    with open(tmp_path / "valid.csv", "a") as file:
        file.write("the best of the year,no\n")
    second = folders()
    assert len(second) == 3 and len(first & second) == 2
    with open(package / "tokenizer.json", "a") as file:
        file.write("\n")
    assert not folders() & second


def test_long_rows_are_tokenised_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cut off of a row is held meanwhile; the tokens are those of each alone."""
    module, _ = load_package(tmp_path, make_job())
    lengths = [*[1] * 1030, *[3000] * 10, 30_000, *[5] * 9]
    texts = ["film " * n + WORDS[i % 9] for i, n in enumerate(lengths)]
    alone = [module.encode([text]).ids for text in texts[1025:]]
    one, given = module.tokenizer(), []

    class Told:
        def encode_batch_fast(self, some: list[str]) -> Any:
            given.append((len(some), sum(map(len, some))))
            return one.encode_batch_fast(some)

    monkeypatch.setattr(module, "tokenizer", Told)
    found = module.encode(texts)
    assert torch.equal(found.ids[found.starts[1025] :], torch.cat(alone))
    # As many as there may be, until the long ones, and until the longest, and the rest.
    assert [rows for rows, _ in given] == [1024, 15, 2, 9]
    assert max(size for _, size in given) < (1 << 17) + len(texts[1040])


def test_rows_are_a_sequence(tmp_path: Path) -> None:
    for inputs in (None, PAIR):
        options: dict[str, Any] = {} if inputs is None else {"inputs": inputs}
        module, _ = load_package(tmp_path, make_job(**options))
        write_rows(tmp_path, pair=inputs is not None)
        rows = module.load_rows(tmp_path, tmp_path / "work")["train"]
        every = list(rows)
        assert len(every) == len(rows) > 300
        assert [rows[i] for i in range(-3, 4)] == every[-3:] + every[:4]
        assert rows[5:9] == every[5:9] and list(rows.at([7, 2])) == [every[7], every[2]]
        kept = torch.tensor([row.line % 3 == 0 for row in every])
        some = rows.where(kept).where(torch.arange(int(kept.sum())) % 2 == 0)
        assert list(some) == [row for row in every if row.line % 3 == 0][::2]
        for found in (rows, some):
            split, texts = module.split_of(found), [row.text for row in found]
            assert all(map(torch.equal, split.tokens, module.encode(texts)))
            assert split.targets.tolist() == [row.target for row in found]
        with pytest.raises(IndexError):
            rows[len(rows)]


def test_keys_come_together_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = load_package(tmp_path, make_job())
    rows: Any = __import__(module.__name__.replace(".data", ".rows"), fromlist=["rows"])
    texts = [str(i % 130) for i in range(300)]
    keys = rows.hashes(texts)
    order = sorted(
        range(300), key=lambda i: (hashlib.blake2b(texts[i].encode()).digest(), i)
    )
    for at_once in (1000, 40, 1):
        monkeypatch.setattr(rows, "SORTED", at_once)
        found = list(rows.by_key(keys[:100], keys[100:]))
        assert torch.cat([numbers for numbers, _ in found]).tolist() == order
        new = torch.cat([new for _, new in found]).tolist()
        assert [texts[i] for i, first in zip(order, new) if first] == list(
            dict.fromkeys(texts[i] for i in order)
        )
    assert list(rows.by_key(keys[:0])) == []


def test_reasons_without_end_are_counted_together(tmp_path: Path) -> None:
    """Each row may have a reason of its own: memory must not grow with them."""
    module, _ = load_package(tmp_path, make_job())
    with open(tmp_path / "aside", "w") as file:
        quarantine = module.Quarantine(file)
        for i in range(12_000):
            quarantine.add("train.csv", i, f"unknown label {i}", {})
        quarantine.merge(
            {"reasons": Counter({"unknown label 7": 3, "new": 2}), "last": "new"}
        )
    assert len(quarantine.reasons) == 10_001
    assert quarantine.reasons.total() == 12_005
    assert quarantine.reasons["unknown label 7"] == 4
    assert quarantine.reasons["other reasons"] == 2002
