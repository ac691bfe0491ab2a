"""A proposal as TOML: the keys in the order of the reference, each below its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from generator.propose.recipe import Proposal
from generator.spec.entries import SECTIONS, section_entries
from generator.spec.words import toml

_COLUMNS = 88


def spec_text(proposal: Proposal) -> str:
    """The spec. Strings of the data are in it as TOML strings, or quoted in comments."""
    choices = {choice.path: choice for choice in proposal.choices}
    blocks = ["\n".join(_head(proposal))]
    for section in SECTIONS:
        lines = [f"[{section}]"] if section else []
        for entry in section_entries(section).values():
            choice = choices.pop(entry.path, None)
            if choice is not None:
                if choice.why:
                    lines += _comment(f"{choice.why[0].upper()}{choice.why[1:]}.")
                lines += _key(entry.name, choice.value)
        if len(lines) > bool(section):
            blocks.append("\n".join(lines))
    assert not choices, choices
    return "\n\n".join(blocks) + "\n"


def _head(proposal: Proposal) -> Iterator[str]:
    yield from _comment("A start, proposed by gen init from what is in the data:")
    for line in proposal.seen:
        yield from _comment(line, "- ")
    if proposal.warnings:
        yield "#"
        yield from _comment("To look at before training:")
    for line in proposal.warnings:
        yield from _comment(line, "- ")


def _key(name: str, value: Any) -> list[str]:
    line = f"{name} = {toml(value)}"
    if isinstance(value, tuple) and len(line) > _COLUMNS:
        return [f"{name} = [", *(f"    {toml(item)}," for item in value), "]"]
    return [line]


def _comment(words: str, mark: str = "") -> list[str]:
    lines = textwrap.wrap(
        words,
        _COLUMNS - 2,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_on_hyphens=False,
    )
    return [f"# {line}" for line in lines]
