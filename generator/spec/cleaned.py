"""What the keys of [data.clean] cannot tell each by itself."""

from __future__ import annotations

from generator.errors import quote
from generator.spec.state import State
from generator.spec.words import listed

IMAGES = "image-classification"
ALIASES = "data.clean.labels"


def check_clean(state: State) -> None:
    """Adds to the problems of the table, whose values are read."""
    values = state.values
    _aliases(state, values.get("labels", ()), values.get("data.separator", ";"))
    _lengths(state, values.get("data.max_tokens", 128))
    near = values.get("data.clean.duplicates") == "near" and state.task != IMAGES
    if near and values.get("data.rows", "files") == "memory":
        state.add(
            "G010",
            ("data.clean", "duplicates"),
            'duplicates "near" and rows = "memory" in [data] contradict each other',
            label="what near duplicates are found by lies in files",
            help='duplicates = "exact", or remove rows from [data]',
        )
    columns = values.get("data.label", ())
    if state.task == "multi-label" and len(columns) > 1 and values.get(ALIASES):
        state.add(
            "G010",
            ("data.clean", "labels"),
            "labels has no meaning where each label has a column of its own",
            label="such columns hold 0 and 1, and no names",
            help="remove it",
            at="key",
        )
    if values.get("data.clean.duplicates") == "near" and state.task == IMAGES:
        state.add(
            "G011",
            ("data.clean", "duplicates"),
            f'duplicates "near" has no meaning for {IMAGES}',
            label="it is about texts",
            help='duplicates = "exact" is about equal files',
        )


def _aliases(state: State, labels: tuple[str, ...], separator: str) -> None:
    """Aliases are of labels, and are none themselves. Without labels nothing is told."""
    for label, aliases in state.values.get("data.clean.labels", ()) if labels else ():
        path = ("data.clean", "labels", label)
        if label not in labels:
            from generator.spec.suggest import near

            meant = near(label, labels, 0.6)
            state.add(
                "G012",
                path,
                f"there is no label {quote(label)} to have aliases",
                label=f"did you mean {quote(meant)}?" if meant else "",
                help=f"labels is {listed([quote(x) for x in labels], 'and')}",
                at="key",
            )
        for position, alias in enumerate(aliases):
            if alias in labels:
                state.add(
                    "G010",
                    (*path, position),
                    f"the alias {quote(alias)} is a label itself",
                    label="rows of it would change their label",
                    help="remove it here, or from labels",
                )
            elif state.task == "multi-label" and separator in alias:
                state.add(
                    "G010",
                    (*path, position),
                    f"the alias {quote(alias)} holds the separator {quote(separator)}",
                    label="it would be read as more than one label",
                )


def _lengths(state: State, longest: int) -> None:
    """A least length or size that is above the greatest leaves no rows."""
    values = state.values
    most, largest = (values.get(f"data.clean.max_{x}") for x in ("chars", "pixels"))
    for name, bound, words in (
        ("min_chars", most, f"max_chars {most}"),
        ("min_pixels", largest, f"max_pixels {largest}"),
        ("min_tokens", longest, f"max_tokens {longest} in [data]"),
    ):
        least = values.get(f"data.clean.{name}", 0)
        if bound is not None and least > bound:
            state.add(
                "G010",
                ("data.clean", name),
                f"{name} {least} is more than {words}",
                label="no row would be left",
            )
