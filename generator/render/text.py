"""From a template and a finished view to text. The only way strings reach source.

A template is given a view, a frozen dataclass that is complete: templates choose and
repeat, and never compute. A string of the user's gets into Python by `py` alone, which
writes a literal, or by `prose`, which writes words into a comment or a docstring.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
if not TEMPLATES.is_dir():  # installed from a wheel, which carries them in the package
    TEMPLATES = Path(__file__).resolve().parents[1] / "_templates"


def py(value: Any) -> str:
    """A Python literal of a plain value; what cannot be printed is escaped."""
    match value:
        case str():
            text = repr(value)
            if text.startswith("'") and '"' not in text:
                return '"' + text[1:-1].replace("\\'", "'") + '"'
            return text
        case bool() | int() | float() | None:
            return repr(value)
        case tuple() | list():
            inside = ", ".join(py(item) for item in value)
            return f"({inside},)" if len(value) == 1 else f"({inside})"
    raise TypeError(f"no literal for {type(value).__name__}")


def prose(value: str) -> str:
    """Words for a comment or a docstring: one line, inert whatever they say."""
    shown = "".join(
        c if c.isprintable() and unicodedata.category(c)[0] != "C" else " "
        for c in str(value)
    )
    return shown.replace("\\", "/").replace('"', "'").replace("`", "'").strip()


def listed(words: Sequence[str], last: str) -> str:
    """Words in a sentence: "a, b and c", where `last` is "and"."""
    *most, end = words or [""]
    return f"{', '.join(most)} {last} {end}" if most else end


def markdown(value: str) -> str:
    """Words for a Markdown page or table cell, with nothing that Markdown acts on."""
    shown = "".join(map(_visible, str(value))).strip()
    escaped = "".join("\\" + c if c in "\\`*_{}[]()#+!|<>~" else c for c in shown)
    # What begins a list or a rule does so at the start of a line alone; the number of
    # a list ends with a point and a space, so that 0.5 is none.
    escaped = re.sub(r"^(\d*)(\.(?!\S)|[-=])", r"\1\\\2", escaped)
    return escaped.replace("&", "&amp;")


def _visible(char: str) -> str:
    """A character of a page: what moves text about, or cannot be seen, is none."""
    if char.isprintable() or char in "\u200c\u200d":  # within emoji and some scripts
        return char
    return " " if char.isspace() else "\ufffd"


@functools.cache
def environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    env.filters["py"] = py
    env.filters["prose"] = prose
    env.filters["markdown"] = markdown
    return env


@functools.cache
def templates_hash() -> str:
    """SHA-256 of the templates of packages, names included."""
    total = hashlib.sha256()
    for path in sorted(TEMPLATES.rglob("*.j2")):
        name = path.relative_to(TEMPLATES).as_posix()
        if name.startswith("report."):  # of a run, and in no package
            continue
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def fill(template: str, view: Any) -> str:
    """The template's text; `view` is its only variable."""
    return environment().get_template(template).render(view=view)
