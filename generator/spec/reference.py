"""The reference page of the spec, docs/reference.md, from model.py."""

from __future__ import annotations

import dataclasses
import textwrap

from generator.spec.edits import EDITS
from generator.spec.entries import (
    INNER,
    SECTIONS,
    Choice,
    Entry,
    Items,
    Lists,
    Number,
    String,
    Whole,
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
from generator.spec.key import TASKS, TEXT_TASKS
from generator.spec.searched import SECTION as SEARCH
from generator.spec.staged import CLASHING, SECTION
from generator.spec.words import bounds, listed, toml, wanted

_HEAD = """\
# The spec, version 1

Written from `generator/spec/model.py` by `python -m generator.spec`; not to be edited.

A spec is a TOML file of about 20 lines. What is not marked as required has a default;
`gen build --explain-defaults` prints a spec with all of them filled in. Editors that
know JSON Schema complete and check it with this first line, the path as seen from the
spec:

    #:schema ../docs/spec.schema.json

Unknown keys, wrong types, values out of range and keys that contradict each other are
errors, all shown at once; each has [a page](errors/README.md). Where a number is asked
for, an integer does as well. No string may hold control characters or line breaks;
names, paths and `from` no invisible characters either.
"""


_EDITS = """\
## [[edit]]

What changes the structure of the backbone: none, or several, each under a header of its
own and with a key `do`, applied in the order in which they are written.
"""


def reference_markdown() -> str:
    """The page: a section for each table, a heading for each key."""
    parts = [_HEAD, _tasks()]
    for section in SECTIONS:
        title = f"## [{section}]" if section else "## The top of the file"
        parts.append(f"{title}\n\n{_fill(section_doc(section))}\n")
        parts += [_key(entry) for entry in section_entries(section).values()]
        for table in INNER:
            if table.startswith(f"{section}."):
                parts.append(f"## [{table}]\n\n{_fill(inner_doc(table))}\n")
                parts += [_key(entry) for entry in inner_entries(table).values()]
        if section == SECTION:
            parts.append(f"## [[train.stage]]\n\n{_fill(_stages())}\n")
            parts += [_key(entry) for entry in stage_entries().values()]
        if section == SEARCH:
            parts.append(f"## [[search.vary]]\n\n{_fill(vary_doc())}\n")
            parts += [_key(entry) for entry in vary_entries().values()]
    parts.append(_EDITS)
    for do in EDITS:
        parts.append(f"### do = {toml(do)}\n\n{_fill(edit_doc(do))}\n")
        parts += [_key(entry, "####") for entry in edit_entries(do).values()]
    return "\n".join(parts)


def _stages() -> str:
    clashing = listed([_code(name) for name in CLASHING], "and")
    return (
        f"{stage_doc()} There are none, or several, each under a header of its own, and "
        f"then {clashing} do not stand in [train]."
    )


def _tasks() -> str:
    """A table of the keys that are not for every task."""
    rows = [
        "## Tasks",
        "",
        "Keys not listed are for every task.",
        "",
        "| task | required | may be given |",
        "|---|---|---|",
    ]
    own = [
        e
        for section in SECTIONS
        for e in section_entries(section).values()
        if e.key.tasks != TASKS or e.key.required not in ((), TASKS)
    ]
    for task in TASKS:
        needed = [_code(e.path) for e in own if task in e.key.required]
        free = [
            _code(e.path)
            for e in own
            if task in e.key.tasks and task not in e.key.required
        ]
        rows.append(f"| {task} | {', '.join(needed)} | {', '.join(free)} |")
    return "\n".join(rows) + "\n"


def _key(entry: Entry, level: str = "###") -> str:
    facts = [("type", _type(entry)), *_limits(entry)]
    facts.append(("default", _default(entry)))
    if entry.key.tasks != TASKS:
        facts.append(("tasks", ", ".join(entry.key.tasks)))
    if entry.key.unless:
        facts.append(("contradicts", _code(entry.key.unless)))
    facts.append(("example", _code(f"{entry.name} = {toml(entry.key.example)}")))
    if entry.key.also:
        facts.append(("elsewhere called", ", ".join(_code(a) for a in entry.key.also)))
    lines = [f"- {name}: {words}" for name, words in facts if words]
    body = "\n".join(_fill(line, "  ") for line in lines)
    return f"{level} {_code(entry.name)}\n\n{_fill(entry.key.doc)}\n\n{body}\n"


def _type(entry: Entry) -> str:
    shapes = list(entry.shapes)
    if entry.key.single:
        shapes.insert(0, String())
    words = [
        _code(word) if isinstance(shape, Choice) else word
        for shape in shapes
        for word in wanted(shape)
    ]
    unit = f", in {entry.key.unit}" if entry.key.unit else ""
    lists = ""
    if entry.key.single and entry.key.lists != TASKS:
        lists = f" (a list for {listed(entry.key.lists, 'and')} only)"
    return listed(words) + unit + lists


def _limits(entry: Entry) -> list[tuple[str, str]]:
    found = []
    numbers = any(
        isinstance(s.item if isinstance(s, Items) else s, Whole | Number)
        for s in entry.shapes
    )
    if numbers and bounds(entry):
        found.append(("range", bounds(entry)))
    few = entry.key.few
    if few and max(few.values()) > 0:
        least = sorted(set(few.values()))
        words = " or ".join(str(n) for n in least) + " or more"
        if entry.key.many:
            words = f"{least[0]} to {entry.key.many}"
        elif len(least) > 1:
            words = ", ".join(f"{few[t]} or more for {t}" for t in TASKS)
        found.append(("items", words))
    if entry.key.rule and entry.key.rule.form:
        found.append(("form", entry.key.rule.form))
    return found


def _default(entry: Entry) -> str:
    if entry.key.required == TASKS:
        return "none, required"
    if entry.default in (dataclasses.MISSING, None) or entry.key.required == TEXT_TASKS:
        words = "not given"
    elif entry.shapes == (Lists(),):
        words = _code(toml(dict(entry.default)))
    else:
        words = _code(toml(entry.default))
    if entry.key.required and entry.key.required != entry.key.tasks:
        return f"{words}; required for {listed(entry.key.required, 'and')}"
    return "none, required" if entry.key.required else words


def _code(text: str) -> str:
    return f"`{text}`"


def _fill(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        88,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
