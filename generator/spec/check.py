"""From the values of a TOML file to a Spec, or to all that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from generator.errors import quote
from generator.spec.edited import EDIT, read_edits
from generator.spec.entries import INNER, SECTIONS, Entry, entries, section_entries
from generator.spec.inner import read_inner
from generator.spec.key import TASKS
from generator.spec.model import Spec
from generator.spec.searched import SECTION as SEARCH
from generator.spec.searched import VARY, Lists, read_vary
from generator.spec.staged import SECTION, STAGE, read_stages
from generator.spec.state import Problem, State
from generator.spec.together import check_together
from generator.spec.value import read_given
from generator.spec.words import is_table, kind, toml

# Tables in tables, and lists of them: what is wrong there is told where they are read.
OWN_TABLES = (
    ("", EDIT),
    (SECTION, STAGE),
    (SEARCH, VARY),
    *(tuple(table.split(".")) for table in INNER),
)


def check(values: Mapping[str, Any]) -> tuple[Spec | None, list[Problem]]:
    """The Spec, or None and every problem. `values` are what tomllib gave."""
    task = values.get("task")
    state = State(
        task if isinstance(task, str) and task in TASKS else None,
        given_paths(values),
    )
    tables = _tables(state, values)
    for section, table in tables.items():
        _unknown_keys(state, section, table)
    _unknown_tables(state, values)
    for section, table in tables.items():
        for entry in section_entries(section).values():
            if entry.name in table:
                read_given(state, entry, table[entry.name])
    _missing(state, tables)
    edits = read_edits(state, values.get(EDIT, []))
    stages = read_stages(state, tables.get(SECTION, {}).get(STAGE, []))
    lists = Lists(
        _tables_of(values.get(EDIT)),
        _tables_of(tables.get(SECTION, {}).get(STAGE)),
    )
    vary = read_vary(state, tables.get(SEARCH, {}).get(VARY, []), lists)
    inner: dict[str, dict[str, Any]] = {}
    for path in INNER:
        section, _, name = path.partition(".")
        given = tables.get(section, {}).get(name, {})
        inner.setdefault(section, {})[name] = read_inner(state, path, given)
    check_together(state)
    if state.problems:
        return None, state.problems
    spec = replace(_build(state), edit=edits)
    spec = replace(spec, train=replace(spec.train, stage=stages))
    spec = replace(spec, search=replace(spec.search, vary=vary))
    for section, own in inner.items():
        table = replace(getattr(spec, section), **own)
        spec = replace(spec, **{section: table})
    return spec, []


def _tables_of(value: Any) -> list[Mapping[str, Any]]:
    """The tables of a list, as far as it is one."""
    return (
        [one for one in value if isinstance(one, dict)]
        if isinstance(value, list)
        else []
    )


def given_paths(values: Mapping[str, Any]) -> frozenset[str]:
    """The known keys that a file gives, as dotted paths such as "train.lr"."""
    found = set()
    for entry in entries():
        table = values.get(entry.section) if entry.section else values
        if isinstance(table, dict) and entry.name in table:
            found.add(entry.path)
    lists = [(EDIT, values.get(EDIT))]
    for section, name in ((SECTION, STAGE), (SEARCH, VARY)):
        table = values.get(section)
        own = table.get(name) if isinstance(table, dict) else None
        lists.append((f"{section}.{name}", own))
    for path, tables in lists:
        for number, table in enumerate(tables if isinstance(tables, list) else []):
            if isinstance(table, dict):
                found |= {f"{path}[{number}].{name}" for name in table}
    for path in INNER:
        section, _, name = path.partition(".")
        around = values.get(section)
        table = around.get(name) if isinstance(around, dict) else None
        if isinstance(table, dict):
            found |= {f"{path}.{key}" for key in table}
    return frozenset(found)


def _tables(state: State, values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sections that the file has, the top of the file among them."""
    tables: dict[str, Mapping[str, Any]] = {"": values}
    for section in SECTIONS:
        if not section or section not in values:
            continue
        if isinstance(values[section], dict):
            tables[section] = values[section]
            continue
        listed = isinstance(values[section], list)
        state.add(
            "G006",
            (section,),
            f"{section} must be a table, not {kind(values[section])}",
            label=f"write [{section}]" + (", in single brackets" if listed else ""),
            at="key",
        )
    return tables


# Keys that are unknown or missing.


def _unknown_keys(state: State, section: str, table: Mapping[str, Any]) -> None:
    known = section_entries(section)
    for name, value in table.items():
        if name in known or (not section and (_section(name) or is_table(value))):
            continue
        if (section, name) in OWN_TABLES:
            continue
        from generator.spec.suggest import suggest_key, suggest_table

        found = suggest_table(name) if is_table(value) else None
        found = found or suggest_key(section, name, state.given)
        state.suggested |= found.paths
        where = f"in [{section}]" if section else "at the top of the spec"
        path = (section, name) if section else (name,)
        message = f"unknown key {quote(name)} {where}"
        state.add("G004", path, message, label=found.label, help=found.help, at="key")


def _unknown_tables(state: State, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if _section(name) or name in section_entries("") or not is_table(value):
            continue
        if name == EDIT:
            continue
        from generator.spec.suggest import suggest_section

        found = suggest_section(name)
        state.suggested |= found.paths
        message = f"unknown table [{quote(name)[1:-1]}]"
        state.add(
            "G004", (name,), message, label=found.label, help=found.help, at="key"
        )


def _section(name: str) -> bool:
    return name != "" and name in SECTIONS


def _missing(state: State, tables: Mapping[str, Mapping[str, Any]]) -> None:
    for section in SECTIONS:
        if section not in tables and _told(state, section):
            continue
        needed = [e for e in section_entries(section).values() if _needs(state, e)]
        needed = [e for e in needed if e.path not in state.given | state.suggested]
        lines = [f"{e.name} = {toml(e.key.example)}" for e in needed]
        if needed and section not in tables:
            message = f"the table [{section}] is missing"
            help = "\n".join(["add it:", f"[{section}]", *lines])
            state.add("G005", (section,), message, help=help)
            continue
        for entry, line in zip(needed, lines, strict=True):
            where = f" in [{section}]" if section else ""
            path = (section, entry.name) if section else (entry.name,)
            state.add(
                "G005",
                path,
                f"missing key {quote(entry.name)}{where}",
                label="below this line" if section else "at the top of the file",
                help=f"add {line}",
            )


def _told(state: State, section: str) -> bool:
    """Whether a message says already what became of a section that is not there."""
    return section in state.suggested or any(
        p.path == (section,) for p in state.problems
    )


def _needs(state: State, entry: Entry) -> bool:
    if state.task is None:
        return entry.key.required == TASKS
    return state.task in entry.key.required


def _build(state: State) -> Spec:
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for entry in entries():
        if entry.path in state.values:
            parts[entry.section][entry.attribute] = state.values[entry.path]
        elif entry.key.unless and f"{entry.section}.{entry.key.unless}" in state.given:
            parts[entry.section][entry.attribute] = None
    made = {
        section: SECTIONS[section](**parts[section]) for section in parts if section
    }
    return Spec(**parts[""], **made)
