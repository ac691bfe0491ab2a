"""How fast the rows of a job are prepared, beside the tokenizer alone and datasets' map.

    python benchmarks/data.py --work FOLDER --rows 500000 --json benchmarks/results/data.json

The file has rows made of the movie snippets' (halves of two of them and a number), so that
nearly all differ. In each round every contender starts anew in a process of its own, whose
imports are not timed, and is run once:

- gen: `load_splits` of movie_sentiment with its rows in files, from the CSV file to the splits;
- tokenizer: the texts, which are in memory, through encode_batch, 1,000 at a time (as
  datasets would), with the threads that the library takes; its results are thrown away;
- tokenizer, fast: the same through encode_batch_fast, which leaves out offsets;
- datasets: load_dataset of the CSV file, then `map` of the same tokenizer, in batches, in
  as many processes as there are cores.

Wall time is what the bar is of. CPU time, of the process and its children, says what others
on the machine cannot have changed so much. Prints a table as Markdown, and the ratios to
each round's tokenizer.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from data_large import build

ROOT = Path(__file__).parents[1]
SNIPPETS = ROOT / "specs/data/movie_snippets"
TOKENIZER = ROOT / "generated/movie_sentiment/tokenizer.json"


def write_rows(folder: Path, rows: int) -> None:
    """train.csv of so many rows, where the package looks for it, beside the others."""
    folder = folder / "data/movie_snippets"
    if (folder / "train.csv").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for split in ("train", "valid", "test"):
        with open(SNIPPETS / f"{split}.csv", newline="") as file:
            found += list(csv.reader(file))[1:]
    for split in ("valid", "test"):
        (folder / f"{split}.csv").write_bytes((SNIPPETS / f"{split}.csv").read_bytes())
    draw = random.Random(0)
    with open(folder / "unfinished", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            (first, label), (second, _) = draw.choice(found), draw.choice(found)
            words, others = first.split(), second.split()
            made = words[: len(words) // 2] + others[len(others) // 2 :] + [str(i)]
            writer.writerow([" ".join(made), label])
    (folder / "unfinished").rename(folder / "train.csv")


def texts_of(root: Path) -> list[str]:
    with open(root / "data/movie_snippets/train.csv", newline="") as file:
        return [text for text, _ in csv.reader(file)][1:]


def gen(root: Path) -> Callable[[], Any]:
    sys.path.insert(0, str(root / "package"))
    from movie_sentiment import data  # type: ignore[import-not-found]

    return lambda: data.load_splits(root, root / f"work-{os.getpid()}")


def tokenizer(root: Path, fast: bool = False) -> Callable[[], Any]:
    from tokenizers import Tokenizer

    found, texts = Tokenizer.from_file(str(TOKENIZER)), texts_of(root)
    found.enable_truncation(128)
    found.no_padding()
    encode = found.encode_batch_fast if fast else found.encode_batch

    def run() -> None:
        for i in range(0, len(texts), 1000):
            encode(texts[i : i + 1000])

    return run


def tokenizer_fast(root: Path) -> Callable[[], Any]:
    return tokenizer(root, fast=True)


def datasets(root: Path) -> Callable[[], Any]:
    import datasets as library  # type: ignore[import-not-found]
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(TOKENIZER))
    found.enable_truncation(128)
    found.no_padding()
    cache = root / f"work-{os.getpid()}"

    def run() -> None:
        rows = library.load_dataset(
            "csv",
            data_files=str(root / "data/movie_snippets/train.csv"),
            cache_dir=str(cache),
            split="train",
        )
        rows.map(
            lambda some: {"ids": [x.ids for x in found.encode_batch(some["text"])]},
            batched=True,
            num_proc=len(os.sched_getaffinity(0)),
        )

    return run


CONTENDERS = {
    "gen": gen,
    "tokenizer": tokenizer,
    "tokenizer, fast": tokenizer_fast,
    "datasets": datasets,
}


def cpu() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(name: str, root: Path) -> dict[str, float]:
    """In a process of its own."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    run = CONTENDERS[name](root)
    before, start = cpu(), time.perf_counter()
    run()
    return {"wall": time.perf_counter() - start, "cpu": cpu() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--work",
        type=Path,
        required=True,
        help="a folder for the file and what is made",
    )
    add("--rows", type=int, default=500_000)
    add("--rounds", type=int, default=3)
    add("--json", type=Path)
    args = parser.parse_args()
    write_rows(args.work, args.rows)
    build(args.work / "package")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    load = []
    context = multiprocessing.get_context("spawn")
    for number in range(args.rounds):
        names = list(CONTENDERS)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            load.append(os.getloadavg()[0])
            with ProcessPoolExecutor(1, context) as pool:
                one = pool.submit(measure, name, args.work).result()
            found[name].append(one)
            print(f"{name}: {one} load {load[-1]:.1f}", file=sys.stderr)
            for old in args.work.glob("work-*"):
                shutil.rmtree(old)
    report(found, args.rows, load)
    if args.json:
        about = {
            "rows": args.rows,
            "cores": os.cpu_count(),
            "load": load,
            "found": found,
        }
        args.json.write_text(json.dumps(about, indent=1) + "\n")


def report(
    found: dict[str, list[dict[str, float]]], rows: int, load: list[float]
) -> None:
    print(f"{rows:,} rows; load {min(load):.1f} to {max(load):.1f}\n")
    print("| | wall s | rows/s | CPU s | of the tokenizer's wall | of its CPU |")
    print("|---|---|---|---|---|---|")
    for name, some in found.items():
        wall, used = (
            statistics.median(x[kind] for x in some) for kind in ("wall", "cpu")
        )
        ratios = [
            statistics.median(
                x[kind] / y[kind] for x, y in zip(some, found["tokenizer"], strict=True)
            )
            for kind in ("wall", "cpu")
        ]
        print(
            f"| {name} | {wall:.1f} | {rows / wall:,.0f} | {used:.1f} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
