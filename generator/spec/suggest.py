"""What a user may have meant: the nearest key here, elsewhere, or of another tool."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from generator.spec.entries import INNER, SECTION_ALIASES, SECTIONS, Entry, entries


@dataclass(frozen=True)
class Suggestion:
    """The words for it, and the keys and sections that they name, as dotted paths."""

    label: str = ""
    help: str = ""
    paths: frozenset[str] = frozenset()


def near(word: str, choices: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The choice that is spelled most like a word, if one is at all."""
    folded = {fold(choice): choice for choice in choices}
    found = difflib.get_close_matches(fold(word), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def fold(word: str) -> str:
    """A key without the differences that do not count: case, dashes, spaces."""
    return "_".join(word.strip().lower().replace("-", " ").replace("_", " ").split())


def suggest_key(section: str, word: str, given: Collection[str]) -> Suggestion:
    """For a key that `section` does not have; `given` are the paths in the file."""
    here = [e for e in entries() if e.section == section]
    free = [e for e in here if e.path not in given]
    other = [e for e in entries() if e.section != section]
    word = fold(word)
    same = [e for e in free if e.name == word]
    moved = [e for e in other if e.name == word]
    close = _nearest(word, free, 0.8)
    known = [e for e in (*free, *other) if word in e.key.also]
    for found in (same, [*close, *moved], known[:1]):
        if found:
            return _of_keys(section, found, explained=found is not same)
    if not section and (name := _section_of(word)):
        return Suggestion(f"did you mean [{name}]?", paths=frozenset({name}))
    if found := close or _nearest(word, free, 0.7) or _nearest(word, other, 0.8):
        return _of_keys(section, found, explained=True)
    return Suggestion(help=_all_of(section))


def suggest_table(word: str) -> Suggestion | None:
    """For a table in a table that is none, or one that lacks the table around it."""
    inner = {path.partition(".")[2]: path for path in INNER}
    found = near(word, inner)
    return None if found is None else Suggestion(f"did you mean [{inner[found]}]?")


def suggest_section(word: str) -> Suggestion:
    """For a table that the spec does not have."""
    if found := suggest_table(word):
        return found
    if name := _section_of(fold(word)):
        return Suggestion(f"did you mean [{name}]?", paths=frozenset({name}))
    names = ", ".join(f"[{name}]" for name in SECTIONS if name)
    return Suggestion(help=f"the tables of a spec are {names}")


def _section_of(word: str) -> str | None:
    names = [name for name in SECTIONS if name]
    alias = SECTION_ALIASES.get(word)
    return alias or near(word, names)


def _nearest(word: str, among: list[Entry], cutoff: float) -> list[Entry]:
    name = near(word, (e.name for e in among), cutoff)
    return [e for e in among if e.name == name][:1]


def _of_keys(section: str, found: list[Entry], explained: bool) -> Suggestion:
    words = [_words(section, e) for e in found]
    help = ""
    if explained and len(found) == 1:
        help = found[0].key.doc.partition(". ")[0].rstrip(".")
    if any(e.section == "" for e in found) and section:
        help = "keys of the top of the file stand before its first [table]"
    return Suggestion(
        f"did you mean {' or '.join(words)}?", help, frozenset(e.path for e in found)
    )


def _words(section: str, entry: Entry) -> str:
    if entry.section == section:
        return f'"{entry.name}"'
    return f'"{entry.name}" ' + (
        f"in [{entry.section}]" if entry.section else "at the top of the file"
    )


def _all_of(section: str) -> str:
    names = [e.name for e in entries() if e.section == section]
    where = f"[{section}]" if section else "the top of the file"
    lines, line = [], f"the keys of {where} are"
    for position, name in enumerate(names):
        word = name + ("," if position < len(names) - 1 else "")
        if len(line) + 1 + len(word) > 72:
            lines.append(line)
            line = word
        else:
            line += " " + word
    return "\n".join([*lines, line])
