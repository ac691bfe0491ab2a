"""What the keys of [features.select] cannot tell each by itself."""

from __future__ import annotations

from generator.errors import quote
from generator.spec.entries import inner_entries
from generator.spec.state import State
from generator.spec.words import toml

TABLE = "features.select"


def check_select(state: State) -> None:
    """Adds to the problems of the table, whose values are read: it has all keys or none."""
    known = inner_entries(TABLE)
    for name, entry in known.items():
        if state.given and entry.path not in state.given:
            state.add(
                "G005",
                (TABLE,),
                f"missing key {quote(name)} in [{TABLE}]",
                label="below this line",
                help=f"add {name} = {toml(entry.key.example)}",
            )
    keep = state.values.get(f"{TABLE}.keep")
    if isinstance(keep, float) and keep >= 1 and not keep.is_integer():
        state.add(
            "G007",
            (TABLE, "keep"),
            f"keep {keep:g} is neither a whole number nor a part below 1",
            label=f"{keep:.0f}, or a number below 1",
        )
