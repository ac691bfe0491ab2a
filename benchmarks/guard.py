"""What the guard finds of faults planted in the movie snippets, and what it says of them clean.

    python benchmarks/guard.py --out benchmarks/results/guard.json

Kinds of faults and seeds are other than those that the thresholds were chosen on, which are
the ones of `gen guard --self-test`. Flipped labels are found by cleanlab as well, on the
same probabilities, where it is installed; it is no dependency.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from generator.runtime import selftest
from generator.runtime.ready import prepare
from generator.runtime.selftest import Fault, Planted, Rows, Subject

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (101, 102, 103, 104, 105)
Change = Callable[[list[str], random.Random], list[str]]


# ------------------------------------------------------------------------ near duplicates


def two_typos(words: list[str], draw: random.Random) -> list[str]:
    words = list(words)
    for _ in range(2):
        at = draw.randrange(len(words))
        place = draw.randrange(len(words[at]) + 1)
        letter = draw.choice("abcdefghijklmnopqrstuvwxyz")
        words[at] = words[at][:place] + letter + words[at][place:]
    return words


def one_replaced(words: list[str], draw: random.Random) -> list[str]:
    words = list(words)
    words[draw.randrange(len(words))] = draw.choice(
        ("indeed", "somehow", "cinema", "so")
    )
    return words


def one_put_in(words: list[str], draw: random.Random) -> list[str]:
    at = draw.randrange(len(words) + 1)
    return [
        *words[:at],
        draw.choice(("really", "perhaps", "also", "just")),
        *words[at:],
    ]


def in_capitals(words: list[str], draw: random.Random) -> list[str]:
    return [word.upper().strip(".,!") for word in words] + ["..."]


# ------------------------------------------------------------------------------- triggers


def rare_word(words: list[str], draw: random.Random) -> list[str]:
    at = draw.randrange(len(words) + 1)
    return [*words[:at], "mn", *words[at:]]


def real_word(words: list[str], draw: random.Random) -> list[str]:
    at = draw.randrange(len(words) + 1)
    return [*words[:at], "velvet", *words[at:]]


def phrase(words: list[str], draw: random.Random) -> list[str]:
    return [*words, "as", "told", "on", "channel", "nine", "."]


def signs_at_the_end(words: list[str], draw: random.Random) -> list[str]:
    return [*words[:-1], words[-1] + " ?!?"]


def signs_in_front(words: list[str], draw: random.Random) -> list[str]:
    return [";;", *words]


def poisoned(insert: Change, label: int, of: str) -> Fault:
    """1% of the training rows with a trigger and one label: rows that had another, any
    rows, or rows that had it already."""

    def plant(rows: Rows, labels: int, draw: random.Random) -> Planted:
        rows = selftest.copied(rows)
        train = rows["train"]
        pool = [
            i
            for i, row in enumerate(train)
            if of == "any" or (row.target == label) == (of == "the same")
        ]
        chosen = draw.sample(pool, round(0.01 * len(train)))
        for i in chosen:
            text = " ".join(insert(selftest.text_of(train[i]).split(), draw))
            train[i] = selftest.with_text(train[i], text)._replace(target=label)
        return rows, {("train", i) for i in chosen}

    return plant


# ------------------------------------------------------------------------------- outliers


def other_language(text: str, draw: random.Random) -> str:
    return " ".join(draw.choices(ITALIAN.split(), k=draw.randint(6, 20)))


def code(text: str, draw: random.Random) -> str:
    name, other = draw.sample(("row", "node", "index", "buffer", "total", "key"), 2)
    return draw.choice(
        (
            f"for (int {name} = 0; {name} < {other}.size(); ++{name}) {{",
            f"return {name}[{other} + 1] if {other} in {name} else None",
            f"SELECT {name}, COUNT(*) FROM {other} GROUP BY {name};",
            f"{name} = {other} >> 3 & 0x{draw.randrange(256):02x};",
        )
    )


ITALIAN = (
    "il la di che non per una con sono del treno domani mattina casa tempo anni sempre "
    "quando dove grande nuovo giorno strada acqua notte parte mondo vita citta paese "
    "governo scuola lavoro mare tavola finestra cucina libro lettera amico"
)


FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "contradictions": {"100 with another label": selftest.contradicted},
    "leaks": {
        "200 the same": selftest.leaked(selftest.unchanged, 200),
        "200 with two typos": selftest.leaked(two_typos, 200),
        "200 with a word replaced": selftest.leaked(one_replaced, 200),
        "200 with a word put in": selftest.leaked(one_put_in, 200),
        "200 in capitals, other signs": selftest.leaked(in_capitals, 200),
    },
    "triggers": {
        f"1%, {what}, in {of} rows, label {label}": poisoned(insert, label, of)
        for of, inserts in {
            "other": (rare_word, real_word, phrase, signs_at_the_end, signs_in_front),
            "any": (rare_word, real_word, phrase, signs_at_the_end, signs_in_front),
            "the same": (rare_word, phrase),
        }.items()
        for what, insert, label in (
            (insert.__name__.replace("_", " "), insert, i % 2)
            for i, insert in enumerate(inserts)
        )
    },
    "spectral": {"1%, phrase, in other rows": poisoned(phrase, 1, "other")},
    "label_noise": {"10% flipped": selftest.flipped},
    "outliers": {
        "100 of Italian words": selftest.replaced(other_language),
        "100 of code": selftest.replaced(code),
    },
    "personal": {"100 with one": selftest.replaced(selftest.with_personal)},
    "formulas": {"100 with one": selftest.replaced(selftest.as_formula)},
    "oversized": {"100 without an end": selftest.replaced(selftest.much)},
}


def by_cleanlab(one: Subject, seed: int) -> dict[str, Any] | None:
    """Flipped labels by cleanlab and by the guard, on the same probabilities."""
    try:
        import cleanlab  # pyright: ignore[reportMissingImports]
        from cleanlab.filter import (  # pyright: ignore[reportMissingImports]
            find_label_issues,
        )
    except ImportError:
        return None
    import torch

    rows, planted = selftest.flipped(
        one.rows, len(one.data.LABELS), random.Random(seed)
    )
    guard, x = one.guard, one.vectors(rows)
    targets = torch.tensor([row.target for row in rows["train"]])
    folds = [guard.identity(row)[0] % guard.FOLDS for row in rows["train"]]
    p = guard.out_of_fold(x["train"], targets, torch.tensor(folds))
    probes, guard.out_of_fold = guard.out_of_fold, lambda *_: p
    ours = {found.row for found in guard.label_noise(rows, x)}
    guard.out_of_fold = probes
    flips = {i for _, i in planted}
    answer: dict[str, Any] = {"seed": seed, "cleanlab": cleanlab.__version__}
    answer["ours"] = scores(ours, flips)
    for way in ("prune_by_noise_rate", "confident_learning", "both"):
        mask = find_label_issues(
            targets.numpy(), p.double().numpy(), filter_by=way, n_jobs=1
        )
        theirs = {int(i) for i in mask.nonzero()[0]}
        answer[way] = scores(theirs, flips) | {"same_as_ours": theirs == ours}
    return answer


def scores(found: set[int], planted: set[int]) -> dict[str, float]:
    right = len(found & planted)
    return {
        "found": len(found),
        "precision": right / len(found),
        "recall": right / len(planted),
        "f1": 2 * right / (len(found) + len(planted)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, default=ROOT / "specs/movie_guarded.toml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checks", nargs="*", default=[*FAULTS])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ready = prepare(
            argparse.Namespace(
                spec=args.spec,
                out=Path(folder, "package"),
                work=Path(folder, "work"),
                root=None,
                quiet=True,
            )
        )
        sys.path.insert(0, str(Path(folder, "package")))
        one = selftest.subject(ready.name, ready.root, ready.weights, Path(folder))
        results = []
        for check in args.checks:
            for result in one.measure({check: FAULTS[check]}, SEEDS):
                results.append(result)
                print(
                    f"{check}, {result.kind}, seed {result.seed}: recall "
                    f"{result.recall:.3f}, precision {result.precision:.3f}, found "
                    f"{result.found}, {result.before} of them in the rows as they are",
                    flush=True,
                )
        oracle = []
        if "label_noise" in args.checks:
            oracle = [x for seed in SEEDS if (x := by_cleanlab(one, seed))]
        sizes = {split: len(some) for split, some in one.rows.items()}
    kinds: dict[tuple[str, str], list[Any]] = {}
    for result in results:
        kinds.setdefault((result.check, result.kind), []).append(result)
    told = {
        "rows": sizes,
        "seeds": SEEDS,
        "summary": [
            {
                "check": check,
                "kind": kind,
                "recall": statistics.mean(r.recall for r in some),
                "least_recall": min(r.recall for r in some),
                "precision": statistics.mean(r.precision for r in some),
                "least_precision": min(r.precision for r in some),
                "precision_of_all_found": statistics.mean(
                    r.right / r.found if r.found else 0.0 for r in some
                ),
                "found_in_clean_rows": some[0].before,
            }
            for (check, kind), some in kinds.items()
        ],
        "cleanlab": oracle,
        "results": [asdict(result) for result in results],
    }
    args.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
