"""The split of a search's rows, whatever seed a package of it is trained with."""

from __future__ import annotations

from typing import Any


def keep(data: Any, seed: int) -> None:
    """Have `load_rows` of a package's data.py split rows by this seed, where fractions say
    how many there are. Its own seed still decides the order of the training rows.

    A model of another seed would else be tested on rows that others were chosen by.
    """
    load = data.load_rows

    def load_rows(*arguments: Any) -> Any:
        own, data.SEED = data.SEED, seed
        try:
            return load(*arguments)
        finally:
            data.SEED = own

    data.load_rows = load_rows
