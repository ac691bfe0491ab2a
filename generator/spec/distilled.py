"""What the keys of [train.distill] cannot tell each by itself."""

from __future__ import annotations

from generator.spec.entries import inner_entries
from generator.spec.state import State
from generator.spec.words import toml

TABLE = "train.distill"


def check_distill(state: State) -> None:
    """Adds to the problems of the table, whose values are read."""
    values, known = state.values, inner_entries(TABLE)
    changed = [
        name
        for name, entry in known.items()
        if values.get(f"{TABLE}.{name}", entry.default) != entry.default
    ]
    if f"{TABLE}.teacher" not in state.given:
        for name in changed:
            state.add(
                "G010",
                (TABLE, name),
                f"{name} has no meaning without a teacher",
                label="there is none to learn from",
                help=f"add teacher = {toml(known['teacher'].key.example)}",
                at="key",
            )
        return
    inside = {"hidden", "attention"} & {*changed}
    for name, of in (("layers", inside), ("relation_heads", inside - {"hidden"})):
        if f"{TABLE}.{name}" in state.given and not of:
            needs = "hidden and attention" if name == "layers" else "attention"
            state.add(
                "G010",
                (TABLE, name),
                f"{name} has no meaning without {needs.replace(' and ', ' or ')}",
                label=f"what it is about is compared by {needs} alone",
                help=f"add {needs.partition(' and ')[0]} = 1.0, or remove it",
                at="key",
            )
    if state.task == "regression" and "temperature" in changed:
        state.add(
            "G010",
            (TABLE, "temperature"),
            "temperature has no meaning in a regression",
            label="there are no probabilities that it would soften",
            help="remove it",
            at="key",
        )
    weighed = values.get("train.class_weights", "none") != "none"
    if weighed and values.get("train.accumulate", 1) > 1:
        state.add(
            "G010",
            (TABLE, "teacher"),
            "class_weights and accumulate leave no share of a batch that a teacher fits",
            label="the labels' loss counts batches by weights, the teacher's by rows",
            help="remove accumulate or class_weights in [train]",
            at="key",
        )
