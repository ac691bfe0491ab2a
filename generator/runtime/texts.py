"""The texts of a job's splits, read as its package reads them.

Run as a program, `python texts.py PACKAGE ROOT FOLDER`, where PACKAGE can be imported; it
imports nothing of this compiler. FOLDER gets train.jsonl, valid.jsonl and test.jsonl, a
text a line and the two of a pair on two lines. On standard output is JSON: the names of
the data files.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(package: str, root: Path, folder: Path) -> None:
    data: Any = importlib.import_module(f"{package}.data")
    try:
        splits = data.load_rows(root, folder)
    except data.DataError as error:
        sys.exit(str(error))
    for split, rows in splits.items():
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for row in rows:
                texts = (row.text,) if isinstance(row.text, str) else row.text
                file.writelines(json.dumps(text) + "\n" for text in texts)
    print(json.dumps(list(data.FILES.values())))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
