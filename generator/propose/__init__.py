"""From what is in a table to a spec to start from: pure, each choice with its reason.

`facts` is what is known of the data, `columns` chooses what they are for (by `names` and
by `cells`, below a `header`), `leaks` finds columns that give the answer away, and `beside`
those that the head could be told of; `recipe` decides the rest, `text` writes it down.
"""

from generator.propose.columns import UNASKED, Asked, Chosen, choose
from generator.propose.facts import (
    BackboneFacts,
    ColumnFacts,
    Overlap,
    RowFacts,
    SplitFacts,
    TableFacts,
)
from generator.propose.leaks import Leak, leaks
from generator.propose.recipe import Proposal, propose
from generator.propose.text import spec_text

__all__ = [
    "UNASKED",
    "Asked",
    "BackboneFacts",
    "Chosen",
    "ColumnFacts",
    "Leak",
    "Overlap",
    "Proposal",
    "RowFacts",
    "SplitFacts",
    "TableFacts",
    "choose",
    "leaks",
    "propose",
    "spec_text",
]
