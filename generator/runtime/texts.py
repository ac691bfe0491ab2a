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
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(package: str, root: Path, folder: Path) -> None:
    data: Any = importlib.import_module(f"{package}.data")
    splits = iter(data.Splits._fields)
    encode = data.encode

    def write(texts: Sequence[str | tuple[str, str]]):
        path = folder / f"{next(splits)}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for text in texts:
                file.writelines(
                    json.dumps(one) + "\n"
                    for one in ((text,) if isinstance(text, str) else text)
                )
        return encode(texts)

    data.encode = write  # `load_splits` gives it each split's texts, in their order
    try:
        data.load_splits(root, folder)
    except data.DataError as error:
        sys.exit(str(error))
    print(json.dumps(list(data.FILES.values())))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
