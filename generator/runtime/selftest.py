"""What the checks of a package's guard find of faults that are planted in a copy of its data.

Run as a program, `python selftest.py PACKAGE ROOT WEIGHTS WORK REQUEST`, where PACKAGE can be
imported; it imports nothing of this compiler. REQUEST is JSON: `seeds`. On standard output
is JSON: a list of results, one for each check, kind of fault and seed. The data are read as
training reads them, and planted in memory: no file of theirs is written.

Kinds of faults are functions of rows and random numbers that give the rows with the faults
and the places that a check is to find. Rows are added at the end or changed where they
stand, so that what a check finds in the rows as they are can be told from what it finds
for the faults.
"""

from __future__ import annotations

import importlib
import json
import random
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

Rows = dict[str, list[Any]]
Place = tuple[str, int]  # split and number of a row
Planted = tuple[Rows, set[Place]]
Fault = Callable[[Rows, int, random.Random], Planted]  # of rows and how many labels

POISONED, FLIPPED = 0.01, 0.10  # of the training rows
FEW = 100  # rows that get another kind of fault, where there are as many
LONG = 8  # words: a shorter text with one changed may well be another text


@dataclass(frozen=True)
class Result:
    """What a check finds of a fault. Places of the rows as they are count apart."""

    check: str
    kind: str
    seed: int
    planted: int
    found: int
    right: int  # of the planted
    wrong: int  # neither planted nor found before
    before: int  # found in the rows as they are

    @property
    def recall(self) -> float:
        return self.right / self.planted if self.planted else 0.0

    @property
    def precision(self) -> float:
        """Of what is found because of the faults."""
        found = self.right + self.wrong
        return self.right / found if found else 0.0


# ------------------------------------------------------------------------------- texts


def text_of(row: Any) -> str:
    return row.text if isinstance(row.text, str) else row.text[0]


def with_text(row: Any, text: str) -> Any:
    """The row with another text, the first of a pair."""
    if isinstance(row.text, str):
        return row._replace(text=text)
    return row._replace(text=(text, row.text[1]))


def other_label(row: Any, labels: int, draw: random.Random) -> Any:
    choices = [label for label in range(labels) if label != row.target]
    return row._replace(target=draw.choice(choices))


def copied(rows: Rows) -> Rows:
    return {split: list(some) for split, some in rows.items()}


def some_of(places: Sequence[Any], count: int, draw: random.Random) -> list[Any]:
    return draw.sample(list(places), min(count, len(places)))


# ------------------------------------------------------------------------------ faults


def contradicted(rows: Rows, labels: int, draw: random.Random) -> Planted:
    """Copies of training rows with another label: both are to be found."""
    rows, planted = copied(rows), set()
    for i in some_of(range(len(rows["train"])), FEW, draw):
        planted |= {("train", i), ("train", len(rows["train"]))}
        rows["train"].append(other_label(rows["train"][i], labels, draw))
    return rows, planted


def leaked(
    change: Callable[[list[str], random.Random], list[str]], count: int
) -> Fault:
    """Rows of the validation and the test that come into the training, changed."""

    def plant(rows: Rows, labels: int, draw: random.Random) -> Planted:
        rows, planted = copied(rows), set()
        long = [
            row
            for split in ("valid", "test")
            for row in rows[split]
            if len(text_of(row).split()) >= LONG
        ]
        for row in some_of(long, count, draw):
            planted.add(("train", len(rows["train"])))
            words = change(text_of(row).split(), draw)
            rows["train"].append(with_text(row, " ".join(words)))
        return rows, planted

    return plant


def unchanged(words: list[str], draw: random.Random) -> list[str]:
    return words


def one_left_out(words: list[str], draw: random.Random) -> list[str]:
    at = draw.randrange(len(words))
    return words[:at] + words[at + 1 :]


def two_swapped(words: list[str], draw: random.Random) -> list[str]:
    at = draw.randrange(len(words) - 1)
    return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]


def poisoned(insert: Callable[[list[str], random.Random], list[str]]) -> Fault:
    """A trigger in rows of other labels, which get the first or the last one."""

    def plant(rows: Rows, labels: int, draw: random.Random) -> Planted:
        rows, planted = copied(rows), set()
        target = draw.choice((0, labels - 1))
        others = [i for i, row in enumerate(rows["train"]) if row.target != target]
        count = round(POISONED * len(rows["train"]))
        for i in some_of(others, count, draw):
            row = rows["train"][i]
            text = " ".join(insert(text_of(row).split(), draw))
            rows["train"][i] = with_text(row, text)._replace(target=target)
            planted.add(("train", i))
        return rows, planted

    return plant


def with_word(words: list[str], draw: random.Random) -> list[str]:
    at = draw.randrange(len(words) + 1)
    return [*words[:at], "zx", *words[at:]]


def with_phrase(words: list[str], draw: random.Random) -> list[str]:
    return [*words, "watched", "on", "a", "tuesday", "afternoon"]


def with_signs(words: list[str], draw: random.Random) -> list[str]:
    return [*words, "~~"]


def flipped(rows: Rows, labels: int, draw: random.Random) -> Planted:
    """Labels that are another one."""
    rows, train = copied(rows), rows["train"]
    chosen = some_of(range(len(train)), round(FLIPPED * len(train)), draw)
    for i in chosen:
        rows["train"][i] = other_label(train[i], labels, draw)
    return rows, {("train", i) for i in chosen}


def replaced(write: Callable[[str, random.Random], str]) -> Fault:
    """Training rows whose text becomes another."""

    def plant(rows: Rows, labels: int, draw: random.Random) -> Planted:
        rows, chosen = copied(rows), some_of(range(len(rows["train"])), FEW, draw)
        for i in chosen:
            row = rows["train"][i]
            rows["train"][i] = with_text(row, write(text_of(row), draw))
        return rows, {("train", i) for i in chosen}

    return plant


def letters(text: str, draw: random.Random) -> str:
    """Words of random letters."""
    lengths = [draw.randint(2, 9) for _ in text.split()]
    return " ".join("".join(draw.choices(string.ascii_lowercase, k=n)) for n in lengths)


def with_personal(text: str, draw: random.Random) -> str:
    """With an address, a number or a key somewhere in it."""
    words = text.split()
    words.insert(draw.randrange(len(words) + 1), draw.choice(PERSONAL)(draw))
    return " ".join(words)


def email(draw: random.Random) -> str:
    name = "".join(draw.choices(string.ascii_lowercase, k=6))
    return f"{name}.{draw.randint(1, 99)}@{name[::-1]}.example.com"


def phone(draw: random.Random) -> str:
    a, b, c = draw.randint(201, 989), draw.randint(200, 999), draw.randint(0, 9999)
    return draw.choice(
        (f"+1 {a} {b} {c:04}", f"({a}) {b}-{c:04}", f"+44 20 7{b} {c:04}")
    )


def card(draw: random.Random) -> str:
    digits = [4, *(draw.randrange(10) for _ in range(14))]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[::2]]
    digits.append(-sum(doubled + digits[1::2]) % 10)
    whole = "".join(map(str, digits))
    return " ".join(whole[i : i + 4] for i in range(0, 16, 4))


def iban(draw: random.Random) -> str:
    account = "".join(draw.choices(string.digits, k=18))
    rest = int(account + "131400") % 97  # DE00
    return f"DE{98 - rest:02}{account}"


def key(draw: random.Random) -> str:
    plain = string.ascii_letters + string.digits
    upper = string.ascii_uppercase + string.digits
    return draw.choice(
        (
            "AKIA" + "".join(draw.choices(upper, k=16)),
            "ghp_" + "".join(draw.choices(plain, k=36)),
            "xoxb-" + "".join(draw.choices(string.digits, k=24)),
        )
    )


PERSONAL = (email, phone, card, iban, key)


def as_formula(text: str, draw: random.Random) -> str:
    return draw.choice(("=1+", "@SUM(1)", "+cmd|' /C calc'!A0 ", "-2+3+A1 ")) + text


def much(text: str, draw: random.Random) -> str:
    if draw.random() < 0.5:
        return "".join(draw.choices(string.ascii_letters, k=2000))
    return (text + " ") * (2 + 1_000_000 // len(text))


TEXT_FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "contradictions": {"another label": contradicted},
    "leaks": {
        "the same": leaked(unchanged, 2 * FEW),
        "a word left out": leaked(one_left_out, 2 * FEW),
        "two words swapped": leaked(two_swapped, 2 * FEW),
    },
    "triggers": {
        "a word": poisoned(with_word),
        "a phrase at the end": poisoned(with_phrase),
        "signs at the end": poisoned(with_signs),
    },
    "spectral": {
        "a word": poisoned(with_word),
        "a phrase at the end": poisoned(with_phrase),
    },
    "label_noise": {"flipped": flipped},
    "outliers": {"random letters": replaced(letters)},
    "personal": {"an address, a number or a key": replaced(with_personal)},
    "formulas": {"a formula": replaced(as_formula)},
    "oversized": {"without an end": replaced(much)},
}
# Of images labels alone are planted: what is in a file is not ours to change.
IMAGE_FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "contradictions": {"another label": contradicted},
    "label_noise": {"flipped": flipped},
}
OF_LABELS = ("contradictions", "triggers", "spectral", "label_noise")


# -------------------------------------------------------------------------- measuring


class Subject:
    """A package's guard, the rows that it is to look at, and what the backbone makes of
    them, which is kept for rows that stay as they are."""

    def __init__(
        self, data: ModuleType, guard: ModuleType, rows: Rows, model: Any
    ) -> None:
        self.data, self.guard, self.rows, self.model = data, guard, rows, model
        self.known: dict[Any, Any] = {}

    def vectors(self, rows: Rows) -> dict[str, Any]:
        """Of each split, from those known and those of new rows."""
        import torch

        new = {self.content(row): row for some in rows.values() for row in some}
        new = {k: row for k, row in new.items() if k not in self.known}
        if new:
            found = self.guard.vectors_of(self.model, list(new.values()))
            self.known.update(zip(new, found, strict=True))
        return {
            split: torch.stack([self.known[self.content(row)] for row in some])
            for split, some in rows.items()
        }

    def content(self, row: Any) -> Any:
        return row.text if hasattr(row, "text") else row.digest

    def places(self, check: str, rows: Rows) -> set[Place]:
        """Where a check finds something."""
        look = getattr(self.guard, check)
        given = (rows, self.vectors(rows)) if check in self.featured() else (rows,)
        return {(one.split, one.row) for one in look(*given)}

    def featured(self) -> set[str]:
        return {"spectral", "label_noise", "outliers"} & set(self.guard.ACTIONS)

    def measure(
        self, faults: Mapping[str, Mapping[str, Fault]], seeds: Sequence[int]
    ) -> Iterator[Result]:
        """A result for each check that the package has, kind of fault and seed."""
        labels = len(getattr(self.data, "LABELS", ()))
        for check in self.guard.ACTIONS:
            if check not in faults:
                continue
            before = self.places(check, self.rows)
            for kind, plant in faults[check].items():
                for seed in seeds:
                    rows, planted = plant(self.rows, labels, random.Random(seed))
                    found = self.places(check, rows)
                    yield Result(
                        check,
                        kind,
                        seed,
                        len(planted),
                        len(found),
                        len(found & planted),
                        len(found - planted - before),
                        len(before),
                    )


def subject(package: str, root: Path, weights: Path, work: Path) -> Subject:
    """A package with the rows that its training would have the guard look at."""
    data = importlib.import_module(f"{package}.data")
    guard = importlib.import_module(f"{package}.guard")
    rows: Rows = {}

    def keep(found: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        rows.update({split: list(some) for split, some in found.items()})
        return {}

    data.load_splits(root, work, keep)
    model = importlib.import_module(f"{package}.model").load_pretrained(weights).eval()
    return Subject(data, guard, rows, model)


def faults_for(one: Subject) -> Mapping[str, Mapping[str, Fault]]:
    """Those that can be planted in its rows."""
    row = one.rows["train"][0]
    faults = TEXT_FAULTS if hasattr(row, "text") else IMAGE_FAULTS
    labelled = isinstance(row.target, int)
    return {c: kinds for c, kinds in faults.items() if labelled or c not in OF_LABELS}


def main(package: str, root: Path, weights: Path, work: Path, request: Path) -> None:
    asked = json.loads(request.read_text())
    one = subject(package, root, weights, work)
    found = [asdict(r) for r in one.measure(faults_for(one), asked["seeds"])]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
