"""The JSON Schema of the spec, for editors (taplo and others): draft 7, from model.py.

It says all that a schema can; sums, equal counts and names of the standard library are
for the reader alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from generator.spec.edits import EDITS
from generator.spec.entries import (
    INNER,
    SECTIONS,
    Anything,
    Choice,
    Entry,
    Flag,
    Items,
    Lists,
    Named,
    Number,
    Pairs,
    Shape,
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
from generator.spec.key import TASKS
from generator.spec.rules import Rule
from generator.spec.searched import SECTION as SEARCH
from generator.spec.searched import VARY
from generator.spec.staged import CLASHING, SECTION, STAGE


def json_schema() -> dict[str, Any]:
    """The schema as plain values, its keys in a fixed order."""
    top = _table("")
    for section in SECTIONS:
        if section:
            top["properties"][section] = _table(section)
    top["properties"]["edit"] = _edits()
    for path in INNER:
        section, _, name = path.partition(".")
        top["properties"][section]["properties"][name] = _inner(path)
    _all_or_none(top["properties"]["features"]["properties"]["select"])
    top["properties"][SECTION]["properties"][STAGE] = _list_of(
        stage_doc(), stage_entries()
    )
    varied = _list_of(vary_doc(), vary_entries())
    top["properties"][SEARCH]["properties"][VARY] = varied
    top["properties"][SECTION]["allOf"] += [
        {"not": {"required": [name, STAGE], "properties": {STAGE: {"minItems": 1}}}}
        for name in CLASHING
    ]
    top["required"] += [s for s in SECTIONS if s and _required(s)]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gen spec, version 1",
        "description": "A fine-tuning job, which gen compiles to plain PyTorch source.",
        **top,
        "allOf": [_of_task(task) for task in TASKS],
    }


def _edits() -> dict[str, Any]:
    """A list of tables; `do` says which keys each may have."""
    every = {"do": {"description": "What the edit does.", "enum": [*EDITS]}}
    cases = []
    for do, owner in EDITS.items():
        known = edit_entries(do)
        then: dict[str, Any] = {
            "description": edit_doc(do),
            "properties": {
                "do": {"const": do},
                **{name: _property(entry) for name, entry in known.items()},
            },
            "additionalProperties": False,
        }
        if limits := _contradictions(known):
            then["allOf"] = limits
        if needed := [e.name for e in known.values() if e.key.required]:
            then["required"] = needed
        if owner.ONE_OF:
            then["anyOf"] = [{"required": [name]} for name in owner.ONE_OF]
        named = {"properties": {"do": {"const": do}}, "required": ["do"]}
        cases.append({"if": named, "then": then})
    return {
        "description": "What changes the structure of the backbone, in this order.",
        "type": "array",
        "items": {
            "type": "object",
            "properties": every,
            "required": ["do"],
            "allOf": cases,
        },
    }


def _inner(path: str) -> dict[str, Any]:
    known = inner_entries(path)
    return {
        "description": inner_doc(path),
        "type": "object",
        "properties": {name: _property(entry) for name, entry in known.items()},
        "additionalProperties": False,
    }


def _all_or_none(select: dict[str, Any]) -> None:
    """The selection has none of its keys, or all; a part of the whole is below 1."""
    keys = select["properties"]
    select["dependencies"] = {name: [*keys] for name in keys}
    part = {"type": "number", "exclusiveMaximum": 1}
    whole, other = keys["keep"]["anyOf"]
    keys["keep"]["anyOf"] = [whole, {**other, **part}]


def _list_of(doc: str, known: Mapping[str, Entry]) -> dict[str, Any]:
    """A list of tables of the same keys."""
    return {
        "description": doc,
        "type": "array",
        "items": {
            "type": "object",
            "properties": {name: _property(entry) for name, entry in known.items()},
            "required": [e.name for e in known.values() if e.key.required],
            "additionalProperties": False,
        },
    }


def _contradictions(known: Mapping[str, Entry]) -> list[dict[str, Any]]:
    pairs = [(e.name, e.key.unless) for e in known.values() if e.key.unless]
    return [{"not": {"required": list(pair)}} for pair in pairs]


def _table(section: str) -> dict[str, Any]:
    known = section_entries(section)
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(entry) for name, entry in known.items()},
        "required": _required(section),
    }
    if section:
        schema = {"description": section_doc(section), **schema}
    if limits := _contradictions(known):
        schema["allOf"] = limits
    return schema


def _required(section: str) -> list[str]:
    return [
        e.name for e in section_entries(section).values() if e.key.required == TASKS
    ]


def _property(entry: Entry) -> dict[str, Any]:
    shapes: list[Shape] = list(entry.shapes)
    if entry.key.single:
        shapes.insert(0, String())
    forms = [_shape(entry, shape) for shape in shapes]
    schema: dict[str, Any] = {"description": describe(entry)}
    schema |= forms[0] if len(forms) == 1 else {"anyOf": forms}
    if entry.default not in (dataclasses.MISSING, None, ()) and not entry.key.required:
        schema["default"] = entry.default
    schema["examples"] = [entry.key.example]
    return schema


def describe(entry: Entry) -> str:
    """What a key means, with its unit."""
    return entry.key.doc + (f" In {entry.key.unit}." if entry.key.unit else "")


def _shape(entry: Entry, shape: Shape) -> dict[str, Any]:
    key = entry.key
    match shape:
        case Flag():
            return {"type": "boolean"}
        case Choice(values):
            return {"type": "string", "enum": list(values)}
        case String():
            return _string(key.rule) if key.rule else {"type": "string"}
        case Whole() | Number():
            limits = {
                "minimum": key.at_least,
                "exclusiveMinimum": key.above,
                "maximum": key.at_most,
                "exclusiveMaximum": key.below,
            }
            kind = "integer" if isinstance(shape, Whole) else "number"
            return {
                "type": kind,
                **{name: x for name, x in limits.items() if x is not None},
            }
        case Items(item):
            schema: dict[str, Any] = {"type": "array", "items": _shape(entry, item)}
            schema["minItems"] = min(key.few.values())
            if key.many is not None:
                schema["maxItems"] = key.many
            if isinstance(item, String):
                schema["uniqueItems"] = True
            return schema
        case Pairs():
            whole = _shape(entry, Whole())
            pair = {"type": "array", "items": whole, "minItems": 2, "maxItems": 2}
            return {"type": "array", "items": pair, "minItems": 1}
        case Anything():
            return {}
        case Named():
            return {"type": "object"}
        case Lists():
            strings = _string(key.rule) if key.rule else {"type": "string"}
            items = {"type": "array", "items": strings, "minItems": 1}
            return {
                "type": "object",
                "additionalProperties": {**items, "uniqueItems": True},
            }
    raise AssertionError(shape)


def _string(rule: Rule) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "string",
        "minLength": 1,
        "maxLength": rule.longest,
    }
    if rule.pattern:
        schema["pattern"] = rule.pattern
    refused: list[dict[str, Any]] = [{"pattern": rule.refused}]
    if rule.reserved:
        refused.append({"enum": list(rule.reserved)})
    schema["not"] = refused[0] if len(refused) == 1 else {"anyOf": refused}
    return schema


def _of_task(task: str) -> dict[str, Any]:
    """What holds for specs of one task only."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for section in SECTIONS:
        keys: dict[str, Any] = {}
        needed: list[str] = []
        for entry in section_entries(section).values():
            if task not in entry.key.tasks:
                keys[entry.name] = False
            elif entry.key.single and task not in entry.key.lists:
                keys[entry.name] = {"type": "string"}
            elif entry.key.few.get(task, 0) > min(entry.key.few.values(), default=0):
                keys[entry.name] = {"minItems": entry.key.few[task]}
            if task in entry.key.required and entry.key.required != TASKS:
                needed.append(entry.name)
        for path in INNER:
            around, _, name = path.partition(".")
            own = inner_entries(path).values() if around == section else ()
            closed = {e.name: False for e in own if task not in e.key.tasks}
            if closed:
                keys[name] = {"properties": closed}
        if not section:
            properties |= keys
            required += needed
        elif keys or needed:
            table: dict[str, Any] = {"properties": keys} if keys else {}
            properties[section] = table | ({"required": needed} if needed else {})
    then: dict[str, Any] = {"properties": properties}
    if required:
        then["required"] = required
    named = {"properties": {"task": {"const": task}}, "required": ["task"]}
    return {"if": named, "then": then}
