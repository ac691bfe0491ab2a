"""What names of columns tell: labels, texts, images, identifiers, pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Names of columns by what they hold, the surest first.
LABELS = (
    *("label", "labels", "target", "targets", "class", "classes", "y", "category"),
    *("categories", "sentiment", "intent", "topic", "topics", "emotion", "emotions"),
    *("tag", "tags", "genre", "genres", "gold", "answer_label", "polarity", "stance"),
    *("toxic", "toxicity", "spam", "score", "rating", "stars", "grade", "similarity"),
    *("overall", "price", "value"),
)
NUMBERS = frozenset(
    (
        *("score", "rating", "stars", "grade", "similarity", "price", "value", "age"),
        *("year", "count", "amount", "overall"),
    )
)
TEXTS = (
    *("text", "sentence", "review", "content", "body", "document", "comment"),
    *("message", "tweet", "question", "query", "utterance", "premise", "description"),
    *("abstract", "title", "headline", "post", "prompt", "input", "snippet"),
    *("passage", "context", "email"),
)
IMAGES = (
    "image",
    "images",
    "file",
    "path",
    "filename",
    "file_name",
    "picture",
    "photo",
)
IDENTIFIERS = frozenset(
    (
        *("id", "idx", "index", "uuid", "guid", "url", "link", "split", "fold", "row"),
        *("key", "hash", "user", "author", "name", "file", "path", "filename"),
    )
)
NEVER_LABELS = IDENTIFIERS | {
    *("date", "time", "datetime", "timestamp", "created", "updated", "number"),
}
# Columns that are the two texts of a pair, besides those that a number or letter tells
# apart.
PAIRS = (
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "context"),
    ("question", "passage"),
    ("question", "answer"),
    ("query", "document"),
    ("query", "passage"),
    ("query", "text"),
    ("title", "text"),
    ("title", "body"),
    ("title", "content"),
    ("title", "description"),
    ("title", "abstract"),
    ("headline", "body"),
)


def words_of(name: str) -> list[str]:
    """The words of a column's name, in small letters: reviewText has two."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return re.findall(r"[^\W\d_]+|\d+", apart.lower())


def name_rank(name: str, names: Sequence[str]) -> int:
    """How well a name tells, 0 the best; len(names) where it does not."""
    words = words_of(name)
    whole = "_".join(words)
    if whole in names:
        return names.index(whole)
    found = [names.index(w) for w in words if w in names]
    return min(min(found) + len(names) // 2, len(names) - 1) if found else len(names)
