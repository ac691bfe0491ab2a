"""The page of a search: what it shows is what search.json holds, and nothing else runs."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from searches import best, search

from generator.errors import GenError
from generator.runtime import search_figures as figures
from generator.runtime import search_report
from generator.runtime.search import beside
from generator.runtime.search_report import interval

CHROMIUM = shutil.which("chromium")


class Reader(HTMLParser):
    """The elements of a page, the texts of its tables' cells, and what rows are of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()  # but for what is in pictures
        self.drawn: set[str] = set()  # in them
        self.addresses: list[str] = []
        self.marks: Counter[str] = Counter()  # of the pictures
        self.rows: dict[str, list[list[str]]] = {}  # by the trial that a row is of
        self._row: list[str] | None = None
        self._svg = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._svg:
            self.drawn.add(tag)
        else:
            self.tags[tag] += 1
        known = dict(attrs)
        self.addresses += [known[a] or "" for a in ("src", "href") if a in known]
        mark = known.get("data-trial")
        self._svg += tag == "svg"
        if mark and self._svg:
            self.marks[mark] += 1
        if tag == "tr":
            self._row = []
            if mark:
                self.rows.setdefault(mark, []).append(self._row)
        if tag in ("td", "th") and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag: str) -> None:
        self._svg -= tag == "svg"

    def handle_data(self, data: str) -> None:
        if self._row:
            self._row[-1] += data


def page(found: dict[str, Any], folder: Path) -> tuple[str, str, Reader]:
    """HTML, Markdown, and what a reader sees."""
    paths = search_report.write(found, folder)
    html, text = (Path(paths[kind]).read_text() for kind in ("html", "markdown"))
    reader = Reader()
    reader.feed(html)
    return html, text, reader


def with_no_trial() -> dict[str, Any]:
    return {**search(0, tested=False), "trials": []}


def with_one_trial() -> dict[str, Any]:
    found = search(4, tested=False)
    return {**found, "trials": [t for t in found["trials"] if not t["baseline"]][:1]}


def with_failed_trials() -> dict[str, Any]:
    found = search(5, tested=False)
    for trial in found["trials"]:
        trial |= {"state": "failed", "why": "train.py ended with 1", "values": {}}
    return found


def with_one_under_way() -> dict[str, Any]:
    found = search(9, tested=False)
    found["trials"][-1] |= {"state": "running", "values": {"latency": 3.0}, "rungs": []}
    return found


SEARCHES = {
    "two": lambda: search(14),
    "beside": lambda: search(7, beside=True),
    "three": lambda: search(8, ("metric", "latency", "disk")),
    "one": lambda: search(8, ("metric",), tested=False),
    "none": with_no_trial,
    "first": with_one_trial,
    "failed": with_failed_trials,
    "running": with_one_under_way,
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_every_trial_is_in_the_page_and_in_its_markdown(kind: str, tmp_path: Path):
    found = SEARCHES[kind]()
    html, text, reader = page(found, tmp_path)
    assert reader.tags["script"] == 1 and reader.tags["style"] == 1
    assert all(a.startswith("#") for a in reader.addresses)
    assert "http:" not in html and "https:" not in html and "@import" not in html
    everything = {str(t["number"]): t for t in found["trials"]}
    for trial in found.get("beside", {"trials": []})["trials"]:
        everything[f"b{trial['number']}"] = trial
    assert set(reader.rows) == set(everything)
    heading = text.index("## All trials") if everything else len(text)
    for mark, trial in everything.items():
        row = max(reader.rows[mark], key=len)  # of the table of all trials
        assert row[1] in (trial["baseline"], trial["state"])
        assert f"\n| {mark} | {row[1]} |" in text[heading:]
        if "metric" in trial["values"]:
            assert f"{trial['values']['metric']:.4f}" in row
    finished = {m for m, t in everything.items() if figures.finished_one(t, found)}
    assert set(reader.marks) == finished


def test_each_finished_trial_is_a_mark_of_each_picture_that_has_it(tmp_path: Path):
    found = search(8)
    _, _, reader = page(found, tmp_path)
    tested = {p["trial"] for p in found["front"]}
    for trial in figures.finished(found):
        number = trial["number"]
        # The front, the best of two objectives, the choices, and the test.
        pictures = 3 + (not trial["baseline"]) + (number in tested)
        assert reader.marks[str(number)] == pictures


def with_words(words: str) -> dict[str, Any]:
    """A search in which a spec's own words are these."""
    found = search(6)
    found |= {"name": words, "spec": words, "importance": {"metric": {words: 0.5}}}
    found["choices"] = [dict(choice) for choice in found["choices"]]
    found["choices"][0]["key"] = words
    found["choices"][3] |= {"choices": [words, "other"]}
    for trial in found["trials"]:
        trial["params"] = {words: 1e-4, **trial["params"]}
        trial |= {"why": words, "diff": [[words, [], [{"do": words}]]]}
        if trial["baseline"] == "smaller":
            trial["baseline"] = words
    for point in found["front"]:
        point |= {"words": [words], "folder": words, "certificate": words}
    return found


def test_what_a_spec_says_is_words_and_nothing_else(tmp_path: Path):
    bad = '</script></svg><script>alert("1")</script> $x_1$ <b> & | \u202e\x1b'
    _, text, reader = page(with_words(bad), tmp_path / "bad")
    _, plain, harmless = page(with_words("words"), tmp_path / "plain")
    assert reader.tags == harmless.tags and reader.drawn == harmless.drawn
    assert reader.marks == harmless.marks and "script" not in reader.drawn
    assert len(text.splitlines()) == len(plain.splitlines())
    assert not re.search(r"(?<!\\)<", text)
    assert "\x1b" not in text and "\u202e" not in text


def test_the_page_is_the_same_each_time(tmp_path: Path):
    first, second = (page(search(3), tmp_path / n)[0] for n in "ab")
    assert first == second


# ------------------------------------------------------------------------------ tables


def test_the_front_is_what_nothing_beats():
    for seed in range(4):
        found = search(30, ("metric", "latency", "disk"), seed=seed)
        wanted = figures.objectives(found)
        kept = figures.front(figures.allowed(found), wanted)
        assert kept and {t["number"] for t in kept} == {
            t["number"] for t in best(found)
        }
        scores = [t["values"]["metric"] for t in kept]
        assert scores == sorted(scores, reverse=True)


def test_what_was_left_out_adds_up():
    found = search(40, beside=True)
    for one, why in ((found, "latency <= 9 ms: it is 10.2"), (found["beside"], "")):
        one["trials"][5] |= {"state": "pruned", "why": why}
    found["trials"][6] |= {"state": "pruned", "why": "latency <= 9 ms: it is 9.75"}
    table = search_report.left_out(found)
    both = found["trials"] + found["beside"]["trials"]
    numbers = Counter(t["state"] for t in both if t["state"] != "complete")
    told: Counter[str] = Counter()
    for state, _, count, which in table.rows:
        told[state] += int(count)
        assert which.count(",") < search_report.MOST_NUMBERS
    assert told == numbers
    merged = ("pruned", "latency <= 9 ms: it is …", "2", "5, 6")
    assert merged in table.rows
    assert ("pruned", "", "1", "b5") in table.rows


def test_constraints_are_counted_where_there_is_a_value():
    found = search(30)
    by_text = {row[0]: row[1:] for row in search_report.bounds(found).rows}
    own = [t["values"] for t in found["trials"] if t["values"]]
    kept = sum(v["metric"] >= 0.835 for v in own)
    assert 0 < kept < len(own)
    assert by_text["metric >= unedited - 0.03"] == ("0.8350", f"{kept} of {len(own)}")
    assert by_text["latency <= 9 ms"] == ("9.00 ms", f"{len(own)} of {len(own)}")


def test_another_search_is_measured_in_the_same_box():
    found = search(30, beside=True)
    ours, chance = search_report.compared(found).rows
    assert (ours[0], chance[0]) == ("TPE, seed 0", "chance, seed 0")
    assert 0 < float(chance[5]) < float(ours[5]) <= 1
    found["beside"] = {**found, "beside": None}
    same = search_report.compared(found).rows
    assert same[0] == same[1]


def test_another_search_is_one_for_the_same(tmp_path: Path):
    spec = SimpleNamespace(name="movie_search")
    setting: Any = SimpleNamespace(
        search=SimpleNamespace(objectives=("metric", "latency")),
        job=SimpleNamespace(spec_file=SimpleNamespace(spec=spec)),
    )

    def code(text: str | None) -> str:
        (tmp_path / "search.json").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "search.json").write_text(text)
        with pytest.raises(GenError) as raised:
            beside(tmp_path, setting)
        return raised.value.diagnostics[0].code

    assert [code(text) for text in (None, "{", "[]", "{}")] == ["G578"] * 4
    other = search(2, ("metric", "disk"))
    assert code(json.dumps(other)) == "G579"
    assert code(json.dumps(search(2) | {"name": "another"})) == "G579"
    same = search(2)
    (tmp_path / "search.json").write_text(json.dumps(same))
    assert beside(tmp_path, setting) == same


def test_points_of_the_front_have_their_intervals():
    found = search(20)
    found["front"][0]["faster_than_transformers"] = None
    found["front"][-1]["points_from_unedited"] = {
        "mean": -0.31,
        "low": -1.2,
        "high": 0.6,
    }
    rows = {row[0]: row for row in search_report.front_tested(found).rows}
    first, last = (found["front"][i] for i in (0, -1))
    test = first["test"]["metric"]
    shown = f"{test['mean']:.4f} [{test['low']:.4f}, {test['high']:.4f}]"
    assert rows[str(first["trial"])][1] == shown
    assert rows[str(first["trial"])][5] == ""
    assert rows[str(last["trial"])][3] == "-0.31 [-1.20, +0.60]"
    assert interval({"median": 2.0}, ".1f") == "2.0" and interval(None, ".1f") == ""


def test_what_is_an_objective_has_one_column():
    found = search(objectives=("metric", "latency"))
    found["objectives"].append(
        {"name": "parameters", "direction": "minimize", "unit": ""}
    )
    for one in found["trials"]:
        if "metric" in one["values"]:
            one["values"]["parameters"] = one["facts"]["parameters"]
    report = search_report
    for made in (report.front_by_validation, report.baselines, report.trials):
        table = made(found)
        heads = [head.lower() for head, _ in table.heads]
        assert heads.count("parameters") == 1 and heads.count("gflop") == 1
        assert {*map(len, table.rows)} == {len(heads)}


def test_a_section_of_pictures_alone_is_not_in_the_markdown(tmp_path: Path):
    paths = search_report.write(search(), tmp_path)
    titles = [line for line in Path(paths["markdown"]).read_text().splitlines() if line]
    sections = [i for i, line in enumerate(titles) if line.startswith("## ")]
    assert not {i + 1 for i in sections} & {*sections, len(titles)}
    assert "## History" not in titles
    assert "<h2>History</h2>" in Path(paths["html"]).read_text()


def test_notes_say_what_is_so():
    before, after = search(20, tested=False), search(20)
    words = " ".join(search_report.notes(before))
    assert "test rows have not been used" in words and "seeds" not in words
    words = " ".join(search_report.notes(after))
    assert f"for {len(after['front'])} points" in words and "with 3 seeds" in words
    for point in (once := search(20))["front"]:
        del point["test"]["metric"]["seeds"][1:]
    (said,) = (w for w in search_report.notes(once) if "test of each point" in w)
    assert said == "The test of each point is of one training, with one seed."
    assert "validation was 0.0060 above the test" in words
    numbers = Counter(t["state"] for t in after["trials"])
    for state, number in numbers.items():
        assert f"{number} {state}" in words
    after["trials"] = [t for t in after["trials"] if t["baseline"] != "smaller"]
    assert "did not have: smaller." in " ".join(search_report.notes(after))


# ----------------------------------------------------------------------------- figures


def trial(number: int, started: str, seconds: float, **values: float) -> dict[str, Any]:
    start = f"2026-11-26T{started}+00:00"
    one = {"number": number, "state": "complete", "values": values}
    return one | {"started": start, "seconds": seconds}


def test_time_runs_while_a_trial_does():
    trials = [
        trial(0, "10:00:00", 60),
        trial(1, "10:00:30", 60),  # beside the first
        trial(2, "11:00:00", 10),  # after a break
        trial(3, "11:00:00", 5),
    ]
    found = [(t["number"], at) for at, t in figures.in_time(trials)]
    assert found == [(0, 60), (1, 90), (3, 95), (2, 100)]
    assert list(figures.in_time([{**trials[0], "started": None}])) == []


def test_covered_is_a_part_of_the_box():
    found = {"objectives": search(0)["objectives"]}
    wanted = figures.objectives(found)
    ends = [
        trial(0, "10:00:00", 1, metric=0.9, latency=10.0),
        trial(1, "10:00:00", 1, metric=0.5, latency=2.0),
    ]
    within = figures.box(ends, wanted)
    assert within is not None
    assert figures.covered([], wanted, within) == 0
    assert figures.covered(ends, wanted, within) == pytest.approx(0)
    middle = trial(2, "10:00:00", 1, metric=0.8, latency=4.0)
    assert figures.covered([*ends, middle], wanted, within) == pytest.approx(
        0.75 * 0.75
    )
    other = trial(3, "10:00:00", 1, metric=0.7, latency=3.0)
    more = figures.covered([*ends, middle, other], wanted, within)
    assert more == pytest.approx(0.75 * 0.75 + 0.5 * 0.125)


def test_the_best_so_far_never_gets_worse():
    metric, latency = figures.objectives(search(0))
    values = [(0.7, 9.0), (0.9, 8.0), (0.8, 3.0), (0.95, 4.0)]
    trials = [
        trial(n, "10:00:00", 1, metric=metric, latency=latency)
        for n, (metric, latency) in enumerate(values)
    ]
    assert figures.best_so_far(trials, metric, trials) == [0.7, 0.9, 0.9, 0.95]
    assert figures.best_so_far(trials, latency, trials) == [9.0, 8.0, 3.0, 3.0]
    # What breaks a constraint is not the best of anything.
    within = figures.best_so_far(trials, latency, [trials[1], trials[3]])
    assert math.isnan(within[0]) and within[1:] == [8.0, 8.0, 4.0]
    assert figures.best([], metric) is None


def test_values_are_said_in_few_words():
    edits = [{"do": "keep-layers", "n": 3}, {"do": "prune-ffn", "keep": 0.5}]
    assert figures.label(edits) == "keep-layers n=3 + prune-ffn keep=0.5"
    assert figures.label([]) == "nothing" and figures.label(True) == "true"
    assert figures.label(1.23456789e-4) == "0.0001235"
    assert figures.label(["a", "b"]) == "a, b"


def test_a_table_that_is_new_or_gone_is_one_change():
    diff = [
        ["train.lr", 5e-5, 2e-4],
        ["train.ema", None, 0.999],
        ["train.freeze", 3, None],
        ["edit[0].do", None, "keep-layers"],
        ["edit[0].n", None, 3],
        ["edit[1].keep", 0.5, 0.25],
        ["edit[1].multiple", None, 8],
        ["edit[2].do", "trim-vocab", None],
    ]
    assert figures.changes({"diff": diff}) == [
        "train.lr: 5e-05 → 0.0002",
        "train.ema = 0.999",
        "train.freeze: 3 → nothing",
        "edit[0] = keep-layers n=3",
        "edit[1].keep: 0.5 → 0.25",
        "edit[1].multiple = 8",
        "without edit[2] = trim-vocab",
    ]
    assert figures.changes({}) == []


# ------------------------------------------------------------------- in a real browser


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_script_sorts_filters_and_lights_up(tmp_path: Path):
    found = search(20)
    html, _, _ = page(found, tmp_path)
    checks = """
    const table = document.querySelector("table[data-tools]");
    const texts = (i) => [...table.tBodies[0].rows].filter((r) => !r.hidden)
      .map((r) => r.cells[i].textContent.trim());
    const said = {};
    const heads = [...table.tHead.rows[0].cells];
    const press = (i) => heads[i].querySelector("button").click();
    press(2); said.rising = texts(2); press(2); said.falling = texts(2);
    const input = document.querySelector(".tools input");
    input.value = "int8 complete"; input.dispatchEvent(new Event("input"));
    said.filtered = texts(0); said.told = document.querySelector(".tools span").textContent;
    const dot = document.querySelector('svg [data-trial="0"] use');
    dot.dispatchEvent(new PointerEvent("pointermove", {bubbles: true}));
    said.lit = document.querySelectorAll(".lit").length;
    said.tip = document.querySelector("#tip").textContent;
    document.body.replaceChildren(JSON.stringify(said));
    """
    path = tmp_path / "driven.html"
    path.write_text(html.replace("</body>", f"<script>{checks}</script></body>"))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    dom = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=600)
    said = json.loads(dom.decode().partition("<body>")[2].partition("</body>")[0])
    metrics = [t["values"].get("metric") for t in found["trials"]]
    known = sorted(f"{m:.4f}" for m in metrics if m is not None)
    empty = [""] * metrics.count(None)
    assert said["rising"] == known + empty
    assert said["falling"] == known[::-1] + empty
    wanted = {
        str(t["number"])
        for t in found["trials"]
        if t["state"] == "complete" and "int8" in str(t["diff"])
    }
    assert set(said["filtered"]) == wanted
    assert said["told"] == f"{len(wanted)} of {len(metrics)} rows"
    assert said["lit"] >= 4 and said["tip"].startswith("trial 0")
    assert "state unedited" in said["tip"]


def test_what_there_was_no_time_for_and_what_memory_was() -> None:
    found = search(8)
    found["asked"] = {"points": 4, "seeds": 3}
    found["end"] = {"points": 2, "seeds": 2, "seconds": 60.0, "front": 5}
    assert "The hours had time for 2 points of 4 and 2 seeds of 3." in [
        *search_report.notes(found)
    ]
    found["end"] = {"points": 4, "seeds": 3, "seconds": 60.0, "front": 5}
    assert not [n for n in search_report.notes(found) if "The hours" in n]
    names = dict(zip(search_report.MEMORY, (5e6, 6.5e6, 50e6, 80e6), strict=True))
    found["trials"][0]["facts"] |= names
    (row,) = search_report.memory(found).rows
    assert row[1:] == ("5.0", "6.5", "50.0", "80.0")
    found["trials"].append({**found["trials"][-1], "number": 99, "state": "unfinished"})
    assert any("unfinished" in row for row in search_report.left_out(found).rows)
