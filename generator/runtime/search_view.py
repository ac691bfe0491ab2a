"""What a search is doing, while it does it: a screen on a terminal, else lines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TextIO

from generator.runtime import search_figures as figures
from generator.runtime.search_figures import Trial
from generator.runtime.tables import called, count, seconds, short

if TYPE_CHECKING:
    from rich.console import RenderableType

LAST = 5  # ended trials that the screen shows
RUNNING = 8  # trials under way that it shows
Found = Mapping[str, Any]


@dataclass
class View:
    """Shows a search, which is told it from time to time as search.json has it.

    All goes to standard error; nothing where it is quiet.
    """

    quiet: bool = False
    stream: TextIO | None = None
    _said: set[int] | None = None  # trials that ended, since the first look
    _open: ExitStack = field(default_factory=ExitStack)
    _live: Any = None

    def __enter__(self) -> Self:
        if self.quiet:
            return self
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self.stream or sys.stderr)
        if console.is_terminal:
            live = Live(console=console, auto_refresh=False, transient=True)
            self._live = self._open.enter_context(live)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._live = None

    def update(self, found: Found) -> None:
        """The search as it is now."""
        if self.quiet:
            return
        ended = {t["number"]: t for t in found["trials"] if t["state"] != "running"}
        if self._said is None and ended:
            self._say(f"{len(ended)} trials had ended before")
        known = ended.keys() if self._said is None else self._said
        news = sorted(ended.keys() - known)
        for number in news:
            self._say(line(ended[number]))
        if news:
            self._say(f"{progress(found)}; {states(found)}")
        self._said = set(ended)
        if self._live is not None:
            self._live.update(screen(found, time.time()), refresh=True)

    def say(self, words: str) -> None:
        """A line for itself, above what the screen shows."""
        if self._live is not None:
            self._live.console.print(plain(words), markup=False, highlight=False)
        elif not self.quiet:
            self._say(words)

    def _say(self, words: str) -> None:
        if self._live is None:
            print(plain(words), file=self.stream or sys.stderr, flush=True)


def line(trial: Trial) -> str:
    """What became of a trial, in one line."""
    values = [f"{name} {short(value)}" for name, value in trial["values"].items()]
    name = trial.get("baseline") or "; ".join(figures.changes(trial))
    parts = (", ".join(values), trial.get("why") or "", name)
    words = "; ".join(filter(None, parts))
    return f"trial {trial['number']}, {trial['state']}: {words or 'nothing changed'}"


def plain(words: str) -> str:
    """Words with nothing that a terminal acts on."""
    return "".join(c if c.isprintable() else " " for c in words)


# ------------------------------------------------------------------------------- screen


def screen(found: Found, now: float) -> RenderableType:
    """All that is known at a time, in seconds since 1970, for rich to draw."""
    from rich.console import Group
    from rich.text import Text

    parts = [
        Text(plain(f"{found['name']}: {progress(found)}"), style="bold"),
        Text(states(found)),
        _best(found),
    ]
    lines = [*running(found, now), "", *last(found)]
    for words in lines:
        parts.append(Text(plain(words), overflow="ellipsis", no_wrap=True))
    return Group(*parts)


def progress(found: Found) -> str:
    """How far it is, and how long it will take."""
    trials = count(found["budget"]["trials"])
    words = f"{done(found)} of {trials} trials in {seconds(found['spent']['seconds'])}"
    left = time_left(found)
    return f"{words}, about {seconds(left)} left" if left else words


def done(found: Found) -> int:
    return found["spent"]["trials"]


def time_left(found: Found) -> float | None:
    """Seconds until the budget ends, by what a trial took so far and by what the end is
    thought to take; None where nothing says so."""
    spent, budget = found["spent"], found["budget"]
    end = (found.get("end") or {}).get("seconds", 0.0)
    guesses = []
    if done(found):
        left = max(0, budget["trials"] - done(found))
        guesses.append(left * spent["seconds"] / done(found) + end)
    if budget.get("hours"):
        guesses.append(max(0.0, 3600 * budget["hours"] - spent["seconds"]))
    return min(guesses, default=None)


def states(found: Found) -> str:
    """How many trials are in each state, and in the front."""
    numbers = Counter(trial["state"] for trial in found["trials"])
    best = figures.front(figures.allowed(found), figures.objectives(found))
    return ", ".join(
        [f"front of {len(best)}", *(f"{n} {state}" for state, n in numbers.items())]
    )


def _best(found: Found) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "unedited", "best so far", "trial"):
        table.add_column(name, justify="right" if name else "left")
    for row in best(found):
        table.add_row(*map(Text, row))
    return table


def best(found: Found) -> Iterator[tuple[str, str, str, str]]:
    """For each objective the unedited value, and the best that keeps the constraints."""
    kept = figures.allowed(found)
    first = next((t for t in kept if t.get("baseline") == "unedited"), None)
    for objective in figures.objectives(found):
        top = figures.best(kept, objective)
        shown = [
            (
                ""
                if t is None
                else f"{short(t['values'][objective.name])} {objective.unit}"
            )
            for t in (first, top)
        ]
        number = "" if top is None else str(top["number"])
        yield called(objective.name), shown[0].strip(), shown[1].strip(), number


def running(found: Found, now: float) -> Iterator[str]:
    """What is under way."""
    under_way = [t for t in found["trials"] if t["state"] == "running"]
    for trial in under_way[:RUNNING]:
        began = figures.began(trial)
        since = "" if began is None else f", {seconds(max(0.0, now - began))}"
        what = trial.get("baseline") or "; ".join(figures.changes(trial)) or "unchanged"
        yield f"▶ trial {trial['number']}{since}, {doing(trial)}: {what}"
    if len(under_way) > RUNNING:
        yield f"▶ and {len(under_way) - RUNNING} more"


def doing(trial: Trial) -> str:
    """What a trial is at, as far as its record tells."""
    rungs = trial.get("rungs") or ()
    if rungs:
        return f"{rungs[-1]['metric']:.4g} after {rungs[-1]['part']:.0%} of the rows"
    return "in training" if trial.get("values") else "being built and measured"


def last(found: Found) -> Iterator[str]:
    """What became of the last few."""
    ended = [t for t in found["trials"] if t["state"] != "running"]
    ended.sort(key=lambda t: ((figures.began(t) or 0) + (t.get("seconds") or 0)))
    for trial in ended[-LAST:]:
        yield line(trial)
