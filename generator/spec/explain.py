"""A spec with every default filled in, as TOML with a comment on each key."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from generator.spec.entries import (
    INNER,
    SECTIONS,
    Entry,
    Lists,
    Named,
    edit_doc,
    edit_entries,
    inner_doc,
    inner_entries,
    section_doc,
    section_entries,
    stage_doc,
    stage_entries,
    vary_doc,
    vary_entries,
)
from generator.spec.model import Spec
from generator.spec.reader import SpecFile
from generator.spec.searched import SECTION as SEARCH
from generator.spec.searched import VARY
from generator.spec.staged import CLASHING, SECTION, STAGE
from generator.spec.words import toml

_COLUMNS = 88


def explain_defaults(spec_file: SpecFile) -> str:
    """The whole spec as TOML. Reading it gives the same Spec again.

    Keys that are not in the file are marked as defaults; keys that would contradict it
    or have no meaning for its task are left out.
    """
    spec, blocks = spec_file.spec, []
    for section in SECTIONS:
        table = getattr(spec, section) if section else spec
        lines = []
        if section:
            lines += [*_comment(section_doc(section)), f"[{section}]"]
        for entry in section_entries(section).values():
            given = entry.path in spec_file.given
            if given or _applies(spec, entry):
                lines += ["", *_key(entry, getattr(table, entry.attribute), given)]
        blocks.append("\n".join(lines).strip("\n"))
        for inner in INNER:
            if inner.startswith(f"{section}.") and (shown := _inner(spec_file, inner)):
                blocks.append(shown)
        if section == SECTION:
            blocks += _stages(spec_file)
        if section == SEARCH:
            blocks += _varied(spec_file)
    for number, edit in enumerate(spec.edit):
        lines = [*_comment(edit_doc(edit.DO)), "[[edit]]", f"do = {toml(edit.DO)}"]
        for entry in edit_entries(edit.DO).values():
            value = getattr(edit, entry.attribute)
            given = f"edit[{number}].{entry.name}" in spec_file.given
            other = entry.key.unless
            if given or not other or getattr(edit, other) is None:
                lines += ["", *_key(entry, value, given)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _inner(spec_file: SpecFile, table: str) -> str:
    section, _, name = table.partition(".")
    own = getattr(getattr(spec_file.spec, section), name)
    if all(value is None for value in vars(own).values()):  # a table of none or all
        return ""
    lines = [*_comment(inner_doc(table)), f"[{table}]"]
    for entry in inner_entries(table).values():
        if spec_file.spec.task in entry.key.tasks:
            value = getattr(own, entry.attribute)
            lines += ["", *_key(entry, value, entry.path in spec_file.given)]
    return "\n".join(lines)


def _stages(spec_file: SpecFile) -> Iterator[str]:
    for number, stage in enumerate(spec_file.spec.train.stage):
        lines = [*_comment(stage_doc()), f"[[{SECTION}.{STAGE}]]"]
        for entry in stage_entries().values():
            given = f"{SECTION}.{STAGE}[{number}].{entry.name}" in spec_file.given
            lines += ["", *_key(entry, getattr(stage, entry.attribute), given)]
        yield "\n".join(lines)


def _varied(spec_file: SpecFile) -> Iterator[str]:
    for number, one in enumerate(spec_file.spec.search.vary):
        lines = [*_comment(vary_doc()), f"[[{SEARCH}.{VARY}]]"]
        for entry in vary_entries().values():
            given = f"{SEARCH}.{VARY}[{number}].{entry.name}" in spec_file.given
            value = getattr(one, entry.attribute)
            if given or value not in (None, ()):
                lines += ["", *_key(entry, value, given)]
        yield "\n".join(lines)


def _applies(spec: Spec, entry: Entry) -> bool:
    if spec.task not in entry.key.tasks:
        return False
    if entry.section == SECTION and entry.name in CLASHING and spec.train.stage:
        return False
    if not entry.key.unless:
        return True
    other = section_entries(entry.section)[entry.key.unless]
    return getattr(getattr(spec, entry.section), other.attribute) is None


def _key(entry: Entry, value: Any, given: bool) -> list[str]:
    lines = _comment(entry.key.doc)
    if value is None:
        return [*lines, f"# {entry.name} = {toml(entry.key.example)}  # not given"]
    if isinstance(value, tuple) and entry.key.single and len(value) == 1:
        value = value[0]
    if entry.shapes in ((Lists(),), (Named(),)):
        value = dict(value)
    mark = "" if given else "  # default"
    line = f"{entry.name} = {toml(value)}{mark}"
    if isinstance(value, tuple) and len(line) > _COLUMNS:
        items = [f"    {toml(item)}," for item in value]
        return [*lines, f"{entry.name} = [{mark}", *items, "]"]
    return [*lines, line]


def _comment(words: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(words, _COLUMNS - 2)]
