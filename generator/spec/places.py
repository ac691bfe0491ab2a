"""Where each key and value stands in a TOML text, by tree-sitter's grammar of TOML.

`tomllib` says what a file means and not where, and this says where and not what. It is
made only when a place is asked for. Trees with errors in them give what they can.
"""

from __future__ import annotations

import bisect
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from generator.errors import Place

if TYPE_CHECKING:
    from tree_sitter import Node

# Names of tables and keys, and positions in lists.
Path = tuple[str | int, ...]
# A part of the text, in bytes of its UTF-8: from the first up to the second.
Span = tuple[int, int]


# What is deeper is no spec, and its paths would take time and memory of its square.
_DEEPEST = 64


@dataclass(frozen=True)
class Repeat:
    """A key or header that stands a second time, and the text that this rules out."""

    path: Path
    span: Span
    first: Span
    whole: Span
    header: bool


@dataclass
class PlaceIndex:
    """Spans of keys, values and table headers by path; build it with `index_places`."""

    file: str
    data: bytes
    keys: dict[Path, Span] = field(default_factory=dict)
    values: dict[Path, Span] = field(default_factory=dict)
    headers: dict[Path, Span] = field(default_factory=dict)
    repeats: list[Repeat] = field(default_factory=list)
    errors: list[Span] = field(default_factory=list)
    openers: list[Span] = field(default_factory=list)  # brackets, quotes in the errors
    starts: list[int] = field(default_factory=list)  # of each line

    def at(self, path: Path, part: str = "value") -> Place:
        """The place of a value or a key; of what it stands in, where it is not written.

        A default has the place of the header of its table, or the first line.
        """
        tables = (self.keys, self.values) if part == "key" else (self.values, self.keys)
        for length in range(len(path), 0, -1):
            head = path[:length]
            for table in (*tables, self.headers):
                if span := table.get(head):
                    return self.place(span)
        return self.place((0, 0))

    def place(self, span: Span) -> Place:
        """A span as line, column and width in characters, cut where its line ends."""
        line = bisect.bisect_right(self.starts, span[0]) - 1
        start = self.starts[line]
        after = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.data)
        before = self.data[start : span[0]].decode(errors="replace")
        marked = self.data[span[0] : min(span[1], after)].decode(errors="replace")
        width = max(len(marked.rstrip()), 1)
        return Place(self.file, line + 1, len(before) + 1, width)


def index_places(text: str, file: str) -> PlaceIndex:
    """Where everything in a text stands."""
    import tree_sitter
    import tree_sitter_toml

    data = text.encode()
    language = tree_sitter.Language(tree_sitter_toml.language())
    root = tree_sitter.Parser(language).parse(data).root_node
    index = PlaceIndex(file, data)
    index.starts = [0] + [i + 1 for i, byte in enumerate(data) if byte == 0x0A]
    lists: dict[Path, int] = {}  # how many tables each [[list]] has so far
    for node in root.children:
        match node.type:
            case "pair":
                _pair(index, (), node)
            case "table" | "table_array_element":
                _table(index, node, lists)
    if root.has_error:
        _errors(index, root)
    return index


def _table(index: PlaceIndex, node: Node, lists: dict[Path, int]) -> None:
    """A [table] or one [[element]], and the pairs below it."""
    many = node.type == "table_array_element"
    names = _key_parts(node.children[1]) if len(node.children) > 1 else []
    if not names:
        return
    end = next((c.end_byte for c in node.children if c.type in ("]", "]]")), None)
    header = (node.start_byte, end or names[-1][1][1])
    path: Path = ()
    for position, (name, span) in enumerate(names):
        path += (name,)
        last = position == len(names) - 1
        if path in lists and not last:
            path += (lists[path] - 1,)
        elif not last:
            index.keys.setdefault(path, span)
    if many:
        index.headers.setdefault(path, header)
        lists[path] = lists.get(path, 0) + 1
        path += (lists[path] - 1,)
    if first := index.headers.get(path) or index.values.get(path):
        whole = (node.start_byte, node.end_byte)
        index.repeats.append(Repeat(path, header, first, whole, header=True))
        return
    index.headers[path] = header
    for child in node.children:
        if child.type == "pair":
            _pair(index, path, child)


def _pair(index: PlaceIndex, prefix: Path, node: Node) -> None:
    """A key and its value, and what is inside of that; without recursion."""
    todo: list[tuple[Path, Node]] = [(prefix, node)]
    while todo:
        path, node = todo.pop()
        if node.type == "pair":
            if inner := _key(index, path, node):
                todo.append(inner)
            continue
        index.values[path] = (node.start_byte, node.end_byte)
        if len(path) > _DEEPEST:
            continue
        if node.type == "array":
            items = [c for c in node.children if c.is_named and c.type != "comment"]
            todo += [((*path, i), c) for i, c in enumerate(items)]
        elif node.type == "inline_table":
            # The last first, since the end of the list is taken up next.
            pairs = [c for c in node.children if c.type == "pair"]
            todo += [(path, c) for c in reversed(pairs)]


def _key(index: PlaceIndex, prefix: Path, node: Node) -> tuple[Path, Node] | None:
    """Notes the key of a pair; gives its path and its value's node."""
    children = [c for c in node.children if c.type != "comment"]
    if len(children) < 3:
        return None
    names = _key_parts(children[0])
    if not names:
        return None
    path = prefix
    for name, span in names[:-1]:
        path += (name,)
        index.keys.setdefault(path, span)
    path += (names[-1][0],)
    span = names[-1][1]
    if first := index.values.get(path) or index.headers.get(path):
        first = index.keys.get(path, first)
        before = node.prev_sibling  # in braces, the comma goes with the pair
        comma = before is not None and before.type == ","
        start = before.start_byte if before and comma else node.start_byte
        whole = (start, node.end_byte)
        index.repeats.append(Repeat(path, span, first, whole, header=False))
        return None
    index.keys[path] = span
    return path, children[2]


def _key_parts(node: Node) -> list[tuple[str, Span]]:
    """The names of a dotted key in order; none of a key that cannot be read."""
    parts: list[tuple[str, Span]] = []
    todo = [node]
    while todo:
        node = todo.pop()
        span = (node.start_byte, node.end_byte)
        if node.type == "dotted_key":
            todo += reversed([c for c in node.children if c.is_named])
            continue
        text: str | None = (node.text or b"").decode(errors="replace")
        if node.type == "quoted_key" and text:
            text = _unquoted(text)
        elif node.type != "bare_key":
            text = None
        if text is None or len(parts) == _DEEPEST:
            return []
        parts.append((text, span))
    return parts


def _unquoted(text: str) -> str | None:
    try:
        parsed: dict[str, Any] = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return None
    return next(iter(parsed), None)


def _errors(index: PlaceIndex, root: Node) -> None:
    """Notes the parts of the tree that the grammar could not read."""
    todo = [root]
    while todo:
        node = todo.pop()
        if node.is_error or node.is_missing:
            index.errors.append((node.start_byte, node.end_byte))
        # A list with an error in it may have taken the bracket of a later header.
        if node.is_error or node.type in ("array", "inline_table"):
            index.openers += [
                (c.start_byte, c.end_byte)
                for c in node.children
                if c.type in ("[", "{", '"', "'", '"""', "'''")
            ]
        todo += [c for c in node.children if c.has_error or c.is_error]
    index.errors.sort()
    index.openers.sort()
