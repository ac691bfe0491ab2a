"""What the keys of [data.augment] cannot tell each by itself."""

from __future__ import annotations

from generator.spec.entries import inner_entries
from generator.spec.state import State
from generator.spec.words import toml

TABLE = "data.augment"
# A share and the file that it is of.
FILES = (("paraphrase", "paraphrases"), ("synonym_swap", "synonyms"))
# What says how, and what it says it of.
OF = (
    ("span_tokens", "span_mask", (), "span_mask = 0.15"),
    ("operations", "policy", ("off", "trivial"), 'policy = "rand"'),
    ("magnitude", "policy", ("off", "trivial"), 'policy = "rand"'),
)


def check_augment(state: State) -> None:
    """Adds to the problems of the table, whose values are read."""
    values, known = state.values, inner_entries(TABLE)
    for share, file in FILES:
        part, path = values.get(f"{TABLE}.{share}", 0.0), values.get(f"{TABLE}.{file}")
        example = toml(known[file if part else share].key.example)
        if part and path is None and f"{TABLE}.{file}" not in state.given:
            state.add(
                "G010",
                (TABLE, share),
                f"{share} {part} has no file to take them from",
                label=f"{file} is missing",
                help=f"{file} = {example}",
                at="key",
            )
        elif path is not None and not part:
            state.add(
                "G010",
                (TABLE, file),
                f"{file} are given and never used",
                label=f"{share} is 0",
                help=f"{share} = {example}",
                at="key",
            )
    for name, of, without, mend in OF:
        value, default = (
            values.get(f"{TABLE}.{of}", known[of].default),
            known[name].default,
        )
        other = values.get(f"{TABLE}.{name}", default) != default
        if other and (not value or value in without):
            state.add(
                "G010",
                (TABLE, name),
                f"{name} has no meaning where {of} is {toml(value)}",
                label="it would change nothing",
                help=f"remove it, or give {mend}",
                at="key",
            )
    if len(values.get("data.text", ())) == 2 and f"{TABLE}.paraphrases" in values:
        state.add(
            "G010",
            (TABLE, "paraphrases"),
            "paraphrases are of one text, and the rows have two",
            label="remove it",
            at="key",
        )
    _distinct_files(state)


def _distinct_files(state: State) -> None:
    """Paraphrases are not read from a file of rows."""
    path = state.values.get(f"{TABLE}.paraphrases")
    for split in ("train", "valid", "test"):
        if path is not None and state.values.get(f"data.{split}") == path:
            state.add(
                "G010",
                (TABLE, "paraphrases"),
                f"paraphrases and {split} of [data] are the same file",
                label="its rows are texts, and not wordings of other ones",
            )
