"""Tables on the terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterable

from generator.runtime.tables import Table

WIDTH = 120  # columns where the output is no terminal


def show(tables: Iterable[Table]) -> None:
    """Print tables to standard output; where that is no terminal, without colours."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for table in tables:
        if not table.rows:
            continue
        shown = RichTable(box=box.SIMPLE_HEAD, show_header=table.has_head)
        for name, kind in table.heads:
            justify = "right" if kind == "number" else "left"
            shown.add_column(Text(name), justify=justify)
        for n, row in enumerate(table.rows):
            style = "bold red" if n in table.bad else None
            shown.add_row(*map(Text, row), style=style)
        console.print()
        console.print(Text(table.title, style="bold"))
        console.print(shown)
        if table.note:
            console.print(Text(table.note, style="dim"))
