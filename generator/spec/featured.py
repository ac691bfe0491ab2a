"""What the keys of [features] cannot tell by themselves."""

from __future__ import annotations

from generator.errors import quote
from generator.spec.entries import section_entries
from generator.spec.state import State
from generator.spec.words import listed

SECTION = "features"
COLUMNS = ("numeric", "categorical", "dates")
GIVING = (*COLUMNS, "text", "patterns")  # at least a number of a row, each
# Keys that are about others, which have to be given then.
ABOUT = {
    "categories": ("categorical",),
    "width": ("categorical",),
    "hidden": GIVING,
    "dropout": ("hidden",),
}


def check_features(state: State) -> None:
    """Only values that were read well are looked at."""
    values = state.values
    _columns(state)
    for name, others in ABOUT.items():
        path, entry = f"{SECTION}.{name}", section_entries(SECTION)[name]
        if values.get(path, entry.default) == entry.default:
            continue
        if any(f"{SECTION}.{o}" in state.given for o in others):
            continue
        state.add(
            "G010",
            (SECTION, name),
            f"{name} is about {listed([quote(o) for o in others])}, which is not there",
            label=f"without {'it' if len(others) == 1 else 'them'} it has no meaning",
            help="remove it, or add what it is about",
            at="key",
        )
    text = values.get(f"{SECTION}.text", ())
    if "capitals" in text and values.get("data.clean.case") == "lower":
        state.add(
            "G010",
            (SECTION, "text", text.index("capitals")),
            'there are no "capitals" in texts that [data.clean] makes small',
            label="it would be 0 in every row",
            help='remove it, or case = "lower"',
        )
    gives = any(values.get(f"{SECTION}.{name}") for name in GIVING)
    if gives and values.get("backbone.head") == "keep":
        state.add(
            "G010",
            ("backbone", "head"),
            'head = "keep" contradicts [features]',
            label="the checkpoint's head reads the backbone's vector alone",
            help="remove one of the two",
        )


def _columns(state: State) -> None:
    """A column is one thing: the label, the text, or one of the features."""
    values = state.values
    seen = {
        **dict.fromkeys(values.get("data.text", ()), "text of [data]"),
        values.get("data.image"): "image of [data]",
        **dict.fromkeys(values.get("data.label", ()), "label of [data]"),
    }
    for name in COLUMNS:
        for position, column in enumerate(values.get(f"{SECTION}.{name}", ())):
            first = seen.setdefault(column, name)
            if first == name:
                continue
            label = "it would be read twice"
            if first.startswith("label"):
                label = "the model would be given the answer"
            state.add(
                "G010",
                (SECTION, name, position),
                f"{name} and {first} are the same column, {quote(column)}",
                label=label,
                help="remove one of the two",
            )
