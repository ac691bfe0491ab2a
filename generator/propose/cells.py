"""What the cells of a column may mean beyond what they say: lists written as texts, words
that stand for nothing, texts that are HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

# A list as Python or JSON writes it, and tags side by side, as Stack Overflow has them.
_LIST = re.compile(r"\s*\[[^\[\]]*\]\s*")
_ANGLES = re.compile(r"\s*(<[^<>]+>\s*)+")
MOSTLY = 0.95  # of the cells
NONE = frozenset(
    (
        *("-", "--", "?", "n/a", "na", "#n/a", "nan", "<na>", "null", "none", "nil"),
        *("undefined", "missing", "[deleted]", "[removed]"),
    )
)
# Entities, and tags of which prose has none.
_HTML = re.compile(
    r"&(?:amp|lt|gt|quot|nbsp|apos|#\d{1,6}|#x[0-9a-f]{1,5});"
    r"|</?(?:p|br|div|span|b|i|em|strong|a|ul|ol|li|table|tr|td|h[1-6]|img)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)


def written_list(cells: Sequence[Any]) -> str | None:
    """One of the cells, where they are lists that were written out as texts."""
    texts = [c for c in cells if isinstance(c, str)]
    for form, marks in ((_LIST, ",'\""), (_ANGLES, ">")):
        found = [text for text in texts if form.fullmatch(text)]
        sure = [text for text in found if any(mark in text for mark in marks)]
        if sure and len(found) >= MOSTLY * len(cells):
            return max(sure[:100], key=len)
    return None


def stands_for_none(text: str) -> bool:
    return text.strip().lower() in NONE


def none_among(texts: Iterable[str]) -> Counter[str]:
    """Texts that may stand for none, as they are written, with their numbers."""
    return Counter(text.strip() for text in texts if stands_for_none(text))


def has_html(text: str) -> bool:
    return _HTML.search(text) is not None
