"""What the keys of [train.prune] cannot tell each by itself."""

from __future__ import annotations

from generator.spec.prune import Prune
from generator.spec.state import State

TABLE = "train.prune"


def check_prune(state: State) -> None:
    """Adds to the problems of the table, whose values are read."""
    recover = state.values.get(f"{TABLE}.recover", Prune().recover)
    # The default may stand there, as it does in a spec that spells out all of them.
    if recover != Prune().recover and state.values.get(f"{TABLE}.steps", 1) == 1:
        state.add(
            "G010",
            (TABLE, "recover"),
            "recover has no meaning where pruning has one step",
            label="there is no step that it would come after",
            help="add steps = 3, or remove it",
            at="key",
        )
