"""Makes the tables of this folder, of the ground truth that was published with VADER.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    python specs/data/movie_ratings/make.py .../movieReviewSnippets_GroundTruth.txt

Sentences are drawn and split by a hash of their number, so that a row stays where it is
whatever is drawn beside it.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SPLITS = {"train": 2000, "valid": 250, "test": 250}


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line]
    rows.sort(key=lambda row: hashlib.sha256(row[0].encode()).hexdigest())
    start = 0
    for split, count in SPLITS.items():
        with open(FOLDER / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["text", "rating"])
            for _, mean, sentence in rows[start : start + count]:
                writer.writerow([sentence, f"{float(mean):.2f}"])
        start += count


if __name__ == "__main__":
    main()
