"""The live view of a search: a line for each trial, or a screen."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from searches import search

from generator.runtime import search_view
from generator.runtime.search_view import View


def part(found: dict[str, Any], trials: int) -> dict[str, Any]:
    """The search when it had so many trials, beside its three baselines."""
    spent = {**found["spent"], "trials": trials}
    return {**found, "trials": found["trials"][: 3 + trials], "spent": spent}


def under_way() -> dict[str, Any]:
    found = search(12, tested=False)
    first, second = found["trials"][-2:]
    rung = {"part": 0.25, "metric": 0.81, "seconds": 12.0}
    first |= {"state": "running", "values": {"latency": 3.1}, "rungs": [rung]}
    second |= {"state": "running", "values": {}, "rungs": []}
    return part(found, 12)


def drawn(found: dict[str, Any], now: float = 0.0, width: int = 200) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with console.capture() as shown:
        console.print(search_view.screen(found, now))
    return shown.get()


def test_each_trial_is_said_once_where_there_is_no_terminal():
    found, stream = under_way(), io.StringIO()
    with View(stream=stream) as view:
        for trials in (-3, 4, 4, 12, 12):
            view.update(part(found, trials))
    lines = stream.getvalue().splitlines()
    ended = [t for t in found["trials"] if t["state"] != "running"]
    said = [line for line in lines if line.startswith("trial ")]
    assert len(said) == len(ended) == 13
    for trial, line in zip(ended, said, strict=True):
        assert line.startswith(f"trial {trial['number']}, {trial['state']}: ")
        for name, value in trial["values"].items():
            assert f"{name} {value:.4g}" in line
        assert trial["why"] in line
    assert [line for line in lines if line not in said] == [
        f"{search_view.progress(one)}; {search_view.states(one)}"
        for one in (part(found, 4), part(found, 12))
    ]


def test_trials_of_an_earlier_run_are_counted_alone():
    found, stream = search(6), io.StringIO()
    with View(stream=stream) as view:
        view.update(part(found, 4))
        view.update(found)
    first, *rest = stream.getvalue().splitlines()
    assert first == "7 trials had ended before"
    assert [line.split(",")[0] for line in rest[:-1]] == ["trial 7", "trial 8"]


def test_nothing_is_said_where_it_is_quiet():
    stream = io.StringIO()
    with View(quiet=True, stream=stream) as view:
        view.update(search(5))
        view.say("words")
    assert stream.getvalue() == ""


def test_a_terminal_has_a_screen_that_goes_away(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with View(stream=stream) as view:
        view.update(under_way())
        assert "movie_search: 12 of 12 trials" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("\x1b[2K")  # the last line is erased


def test_the_screen_has_what_is_under_way_and_what_was_best():
    found = under_way()
    began = search_view.figures.began(found["trials"][-1])
    assert began is not None
    text = drawn(found, began + 31)
    assert "2 running" in text and "31.0 s, being built and measured" in text
    assert "0.81 after 25% of the rows" in text
    kept = [t["values"] for t in search_view.figures.allowed(found)]
    assert f"{max(v['metric'] for v in kept):.4g}" in text
    assert f"{min(v['latency'] for v in kept):.4g} ms" in text
    assert text.count("\ntrial ") == search_view.LAST
    assert all(len(line) <= 60 for line in _plain(drawn(found, width=60)))


def _plain(text: str) -> list[str]:
    from rich.text import Text

    return Text.from_ansi(text).plain.splitlines()


def test_a_screen_without_trials_is_one_too():
    found = {**search(0, tested=False), "trials": []}
    assert "0 trials" in drawn(found) and "front of 0" in drawn(found)


def test_a_trial_cannot_move_the_cursor():
    found = search(3)
    found["name"] = "a\x1b[2Jb"
    found["trials"][-1]["why"] = "bad\x1b[2J\r\nnews"
    stream = io.StringIO()
    with View(stream=stream) as view:
        view.update(part(found, -3))
        view.update(found)
    assert "news" in stream.getvalue()
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
    assert "\x1b[2J" not in drawn(found)


def test_time_left_is_by_trials_or_by_hours_whichever_ends_first():
    found = {"budget": {"trials": 40, "hours": None}}
    spent = {"spent": {"trials": 10, "seconds": 100.0}}
    assert search_view.time_left(found | spent) == 300
    found["budget"]["hours"] = 0.05
    assert search_view.time_left(found | spent) == 80
    none = {"spent": {"trials": 0, "seconds": 5.0}}
    assert (
        search_view.time_left({"budget": {"trials": 40, "hours": None}} | none) is None
    )
