"""How much memory the rows of a large file take while they are prepared.

    python benchmarks/data_large.py --work FOLDER --json benchmarks/results/data-large.json

Files are made of the movie snippets: a row is some of them joined and a number, so that
nearly all differ. Each is prepared once by a job's own `load_splits`, in a process of its
own: of movie_sentiment with its rows in files, and of the same job that also looks for near
duplicates, which are made by the way (a row in fifty is an earlier one with another end). A
quarter of a file stands beside the whole, to tell what grows.

Memory is what all processes of the run hold together that is not a map of a file (Pss_Anon
and Pss_Shmem of smaps_rollup), looked at ten times a second; the maps are given beside it,
as the kernel may drop them at any time. Prints a table as Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SNIPPETS = ROOT / "specs/data/movie_snippets"
SPEC = ROOT / "specs/movie_sentiment.toml"
RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from movie_sentiment import data
splits = data.load_splits(Path(sys.argv[2]), Path(sys.argv[3]))
print(len(splits.train), len(splits.train.tokens.ids))
"""


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    texts: int  # snippets joined in a row
    near: bool


@dataclass(frozen=True)
class Found:
    name: str
    rows: int
    bytes: int  # of the file
    near: bool
    kept: int  # training rows that stay
    tokens: int
    seconds: float
    memory: int  # bytes, the most that was held at a time
    mapped: int  # bytes of maps at that time
    processes: int


def write_rows(root: Path, case: Case) -> Path:
    """The files of a job where its package looks for them."""
    folder = root / "data/movie_snippets"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[list[str]] = []
    for split in ("train", "valid", "test"):
        with open(SNIPPETS / f"{split}.csv", newline="") as file:
            found += list(csv.reader(file))[1:]
    for split in ("valid", "test"):
        shutil.copy(SNIPPETS / f"{split}.csv", folder)
    draw, earlier = random.Random(0), ""
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(case.rows):
            some = draw.choices(found, k=case.texts + 1)
            text = " ".join(text for text, _ in some) + f" {i}"
            if case.near and i % 50 == 49:
                text = f"{earlier} {i % 10}"
            if i % 50 == 0:
                earlier = text
            writer.writerow([text, some[0][1]])
    return folder / "train.csv"


def build(out: Path, near: bool = False) -> None:
    """The package with rows in files, and its spec and facts beside it."""
    out.mkdir(parents=True, exist_ok=True)
    text = SPEC.read_text()
    assert 'rows = "memory"' in text
    text = text.replace('rows = "memory"', 'rows = "files"')
    if near:
        text = text.replace(
            "[train]", '[data.clean]\nduplicates = "near"\n\n[train]', 1
        )
    spec = out / SPEC.name
    spec.write_text(text)
    shutil.copytree(SPEC.parent / "facts", out / "facts", dirs_exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "generator",
        "build",
        spec,
        "--out",
        out,
        "--quiet",
    ]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def tree(pid: int) -> list[int]:
    """A process and those that come of it."""
    found = [pid]
    for one in found:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                path = Path(f"/proc/{one}/task/{task}/children")
                found += map(int, path.read_text().split())
        except OSError:  # it has ended
            continue
    return found


def held(pid: int) -> tuple[int, int]:
    """What a process holds, and what it has mapped, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    sizes = {line.split()[0]: int(line.split()[1]) << 10 for line in lines}
    own = sizes.get("Pss_Anon:", 0) + sizes.get("Pss_Shmem:", 0)
    return own, sizes.get("Pss_File:", 0)


def run(case: Case, work: Path) -> Found:
    root = work / "root"
    path = write_rows(root, case)
    package, kept = work / "package", work / "run"
    shutil.rmtree(package, ignore_errors=True)
    build(package, case.near)
    command = [sys.executable, "-c", RUN, package, root, kept]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    most, mapped, processes, over = 0, 0, 1, threading.Event()

    def look() -> None:
        nonlocal most, mapped, processes
        while not over.wait(0.1):
            pids = tree(child.pid)
            each = [held(pid) for pid in pids]
            own = sum(one for one, _ in each)
            processes = max(processes, len(pids))
            if own > most:
                most, mapped = own, sum(one for _, one in each)

    watching = threading.Thread(target=look)
    watching.start()
    said, _ = child.communicate()
    seconds = time.perf_counter() - start
    over.set()
    watching.join()
    if child.returncode:
        sys.exit(f"{case.name} ended with {child.returncode}")
    rows, tokens = map(int, said.split())
    found = Found(
        case.name,
        case.rows,
        path.stat().st_size,
        case.near,
        rows,
        tokens,
        seconds,
        most,
        mapped,
        processes,
    )
    shutil.rmtree(root)
    shutil.rmtree(kept)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--long", type=int, default=1_600_000, help="rows of 20 snippets"
    )
    parser.add_argument("--short", type=int, default=2_000_000, help="rows of one")
    parser.add_argument(
        "--near", type=int, default=200_000, help="rows, with near ones"
    )
    parser.add_argument(
        "--huge", type=int, default=0, help="rows of 20 snippets, without a quarter"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = [
        Case(f"{name}{part}", count // divisor, texts, near)
        for name, count, texts, near in (
            ("long rows", args.long, 20, False),
            ("short rows", args.short, 1, False),
            ("near duplicates", args.near, 1, True),
        )
        for part, divisor in ((", a quarter", 4), ("", 1))
        if count
    ]
    if args.huge:
        cases.append(Case("a huge file", args.huge, 20, False))
    print(
        "| case | rows | MB | rows/s | held, MB | maps, MB |\n|---|---|---|---|---|---|"
    )
    found = []
    for case in cases:
        one = run(case, args.work)
        found.append(one)
        print(
            f"| {one.name} | {one.rows:,} | {one.bytes / 1e6:,.0f} "
            f"| {one.rows / one.seconds:,.0f} | {one.memory / 1e6:,.0f} "
            f"| {one.mapped / 1e6:,.0f} |",
            flush=True,
        )
        if args.json:
            about = {"cores": len(os.sched_getaffinity(0)), "torch": torch_version()}
            text = json.dumps({**about, "cases": [*map(asdict, found)]}, indent=1)
            args.json.write_text(text + "\n")


def torch_version() -> str:
    import importlib.metadata

    return importlib.metadata.version("torch")


if __name__ == "__main__":
    main()
