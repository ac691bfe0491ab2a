"""The page of `gen search`: one HTML file that needs nothing beside it, and its Markdown.

Both are made of what stands in search.json. A search that runs is shown as far as it is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from generator.render.text import TEMPLATES
from generator.runtime import search_figures as figures
from generator.runtime import search_plots as plots
from generator.runtime import tables
from generator.runtime.report import Fact, Page, Section, write_page
from generator.runtime.search_figures import Trial, is_number
from generator.runtime.tables import Table, count, counted, within
from generator.search.goals import OBJECTIVES, Objective

Found = Mapping[str, Any]
GOES_ON = ("complete", "running")  # states of trials that were not left out
NUMBERS = re.compile(r"[\d.,+-]+(?:e[+-]?\d+)?")
MOST_NUMBERS = 12  # of trials that a cell lists


def write(found: Found, folder: Path) -> dict[str, str]:
    """search.html and search.md in the folder; their paths."""
    return write_page(make(found), folder, "search")


def result(found: Found) -> tuple[Table, ...]:
    """What a terminal shows of a search that has ended."""
    front = front_tested(found) if found.get("front") else front_by_validation(found)
    return _there(front, baselines(found))


def make(found: Found) -> Page:
    sections = (
        _front(found),
        Section("Baselines", tables=_there(baselines(found), bounds(found))),
        _beside(found),
        Section("History", plots=tuple(plots.history(found))),
        _importance(found),
        _choices(found),
        Section("What was left out, and why", tables=_there(left_out(found))),
        Section("Notes", notes=tuple(notes(found))),
        Section("All trials", tables=_there(trials(found))),
    )
    return Page(
        found["name"],
        _words(found),
        tuple(headline(found)),
        tuple(s for s in sections if s.words or s.plots or s.tables or s.notes),
        (TEMPLATES / "report.js").read_text(encoding="utf-8"),
    )


def _words(found: Found) -> str:
    wanted = [
        f"the {ENDS[o.direction]} {within(o.name)}" for o in figures.objectives(found)
    ]
    aims = " and ".join([", ".join(wanted[:-1]), wanted[-1]] if wanted[1:] else wanted)
    return (
        f"A search for {aims}, starting from {found['spec']}; candidates by "
        f"{figures.SAMPLERS.get(found['sampler'], found['sampler'])}, seed {found['seed']}."
    )


ENDS = {"maximize": "highest", "minimize": "lowest"}


# ---------------------------------------------------------------------------- headline


def headline(found: Found) -> Iterator[Fact]:
    """The few figures that a reader looks for first."""
    spent, budget = found["spent"], found["budget"]
    trials_of = f" of {count(budget['trials'])}" if budget.get("trials") else ""
    yield Fact("trials", f"{count(spent['trials'])}{trials_of}")
    hours = budget.get("hours")
    time_of = f", of {tables.seconds(3600 * hours)}" if hours else ""
    yield Fact("time", f"{tables.seconds(spent['seconds'])}{time_of}")
    wanted = figures.objectives(found)
    kept = figures.front(figures.allowed(found), wanted)
    yield Fact("points of the front", str(len(kept)))
    for objective in wanted[:3]:
        if top := figures.best(kept, objective):
            name = f"best {within(objective.name)}"
            name += " in validation" if objective.name == "metric" else ""
            value = amount(objective, top["values"][objective.name])
            yield Fact(name, f"{value} {objective.unit}".rstrip())
    times = [
        point["faster_than_transformers"]["median"]
        for point in found.get("front") or ()
        if point.get("faster_than_transformers")
    ]
    if times:
        yield Fact("fastest, against transformers", f"{max(times):.2f} times")


# ------------------------------------------------------------------------------- front


def _front(found: Found) -> Section:
    wanted = figures.objectives(found)
    tested = found.get("front") or ()
    words = (
        "A point of the front is a trial that no other one is better than in one "
        "objective and no worse in the rest, among those that keep every constraint. "
    )
    words += (
        "Values in validation come first; then what the points were on the test rows, "
        "which no trial had seen."
        if any(point.get("test") for point in tested)
        else "All values are of the validation rows: the test rows have not been used."
    )
    if not figures.finished(found):
        words = "No trial has finished, so that there is no front."
    return Section(
        "Front",
        words,
        plots=(
            *(plots.fronts_of(found) if len(wanted) > 1 else ()),
            *plots.tested(found),
        ),
        tables=_there(
            front_by_validation(found),
            front_tested(found),
            front_words(found),
            memory(found),
        ),
    )


def front_by_validation(found: Found) -> Table:
    wanted = figures.objectives(found)
    best = figures.front(figures.allowed(found), wanted)
    return Table(
        "The front in validation",
        ("trial", *(plots.head(o) for o in wanted), *_shown(wanted), "changed"),
        tuple(
            (
                _called(trial),
                *(amount(o, trial["values"][o.name]) for o in wanted),
                *(_fact(trial, name) for name in _shown(wanted)),
                "; ".join(figures.changes(trial)) or "nothing",
            )
            for trial in best
        ),
        marks=tuple(_mark(trial) for trial in best),
    )


# Figures of a trial that are shown although they are no objective.
FACTS = ("parameters", "GFLOP")


def _shown(wanted: Sequence[Objective]) -> tuple[str, ...]:
    """Of these, what has no column as an objective."""
    return tuple(name for name in FACTS if name not in {o.name for o in wanted})


def _fact(trial: Trial, name: str) -> str:
    facts = trial.get("facts") or {}
    value = facts.get("flops") if name == "GFLOP" else facts.get(name)
    if not is_number(value):
        return ""
    return tables.gflop(value) if name == "GFLOP" else count(value)


def front_tested(found: Found) -> Table:
    """Points of the front on the test rows, with intervals."""
    rows, marks = [], []
    for point in _in_order(found):
        test = (point.get("test") or {}).get("metric")
        rows.append(
            (
                str(point["trial"]),
                interval(test, ".4f", "mean"),
                _values(test["seeds"]) if test else "",
                interval(point.get("points_from_unedited"), "+.2f", "mean"),
                _number(point.get("optimism"), "+.4f"),
                interval(point.get("faster_than_transformers"), ".2f"),
                interval(point.get("faster_than_unedited"), ".2f"),
                point.get("certificate") or "",
                "/".join(Path(point.get("folder") or "").parts[-2:]),
            )
        )
        marks.append(str(point["trial"]))
    return Table(
        "The front on the test rows",
        (
            "trial",
            "test",
            "seeds",
            "points from unedited",
            "valid less test",
            "times faster than transformers",
            "than unedited",
            "certificate",
            "folder",
        ),
        tuple(rows),
        note=(
            "In brackets stand intervals of 95%, by resampling the test rows; points are "
            "hundredths of the metric, paired with the unedited model's on the same "
            "rows. Times faster are medians over interleaved rounds of predicting the "
            "test rows, with the least and the largest."
        ),
        marks=tuple(marks),
    )


def _in_order(found: Found) -> list[Mapping[str, Any]]:
    """The tested points, the best of the first objective first."""
    wanted = figures.objectives(found)
    return sorted(
        found.get("front") or (),
        key=lambda point: figures.loss({"values": point["valid"]}, wanted[0]),
    )


def front_words(found: Found) -> Table:
    points = [point for point in _in_order(found) if point.get("words")]
    return Table(
        "What the points changed",
        ("trial", "changed"),
        tuple((str(p["trial"]), " ".join(p["words"])) for p in points),
        words=2,
        marks=tuple(str(p["trial"]) for p in points),
    )


MEMORY = ("memory", "memory_measured", "training_memory", "training_memory_measured")


def memory(found: Found) -> Table:
    """What the front and the unedited model take, as predicted and as measured."""
    best = figures.front(figures.allowed(found), figures.objectives(found))
    unedited = [t for t in found["trials"] if t.get("baseline") == "unedited"]
    rows = {t["number"]: t for t in (*best, *unedited)}
    known = [t for t in rows.values() if is_number(t["facts"].get(MEMORY[-1]))]
    return Table(
        "Memory, MB",
        (
            "trial",
            "predicting, predicted",
            "measured",
            "training, predicted",
            "training, measured",
        ),
        tuple(
            (_called(trial), *(_mega(trial["facts"].get(name)) for name in MEMORY))
            for trial in known
        ),
        note=(
            "What a process takes beside its libraries: predicting one batch, which is "
            "measured where memory is an objective or has a constraint, and training, "
            "which holds the rows too. Predicted is the model alone."
        ),
        marks=tuple(_mark(trial) for trial in known),
    )


def _mega(value: Any) -> str:
    return f"{value / 1e6:.1f}" if is_number(value) else ""


# --------------------------------------------------------------------------- baselines


def baselines(found: Found) -> Table:
    wanted = figures.objectives(found)
    known = [t for t in found["trials"] if t.get("baseline")]
    return Table(
        "Baselines",
        ("", *(plots.head(o) for o in wanted), *_shown(wanted), "note"),
        tuple(
            (
                trial["baseline"],
                *(amount(o, trial.get("values", {}).get(o.name)) for o in wanted),
                *(_fact(trial, name) for name in _shown(wanted)),
                _state(trial),
            )
            for trial in known
        ),
        marks=tuple(_mark(trial) for trial in known),
    )


def _state(trial: Trial) -> str:
    if trial["state"] == "complete":
        return ""
    return ": ".join(filter(None, (trial["state"], trial.get("why"))))


def bounds(found: Found) -> Table:
    """Constraints, and how many of the trials that have such a value keep them."""
    rows = []
    for limit in figures.bounds(found):
        held = [limit.holds(trial) for trial in found["trials"]]
        known = [holds for holds in held if holds is not None]
        objective = OBJECTIVES[limit.objective]
        value = f"{amount(objective, limit.value)} {objective.unit}".strip()
        kept = f"{sum(known)} of {len(known)}" if known else ""
        rows.append((limit.text, value, kept))
    return Table("Constraints", ("", "bound", "kept by"), tuple(rows))


# ------------------------------------------------------------------------ another search


def _beside(found: Found) -> Section:
    if not found.get("beside"):
        return Section("Beside another search")
    return Section(
        "Beside another search",
        "Both try candidates of the same spec for the same objectives, and each measured "
        "the unedited one for itself. How much a front covers is a part of the box between the worst and the best value of each "
        "objective over both.",
        tables=_there(compared(found)),
    )


def compared(found: Found) -> Table:
    wanted = figures.objectives(found)
    searches = [one for _, one in _searches(found)]
    finished = [trial for one in searches for trial in figures.finished(one)]
    within = figures.box(finished, wanted)
    rows = []
    for one in searches:
        kept = figures.allowed(one)
        values = []
        for objective in wanted:
            top = figures.best(kept, objective)
            value = None if top is None else top["values"][objective.name]
            values.append(amount(objective, value))
        rows.append(
            (
                f"{figures.SAMPLERS.get(one['sampler'], one['sampler'])}, seed {one['seed']}",
                count(one["spent"]["trials"]),
                count(len(figures.finished(one))),
                tables.seconds(one["spent"]["seconds"]),
                str(len(figures.front(kept, wanted))),
                f"{figures.covered(kept, wanted, within):.3f}" if within else "",
                *values,
            )
        )
    heads = (f"best {plots.head(o).lower()}" for o in wanted)
    return Table(
        "Beside another search",
        ("candidates by", "trials", "finished", "time", "front", "covered", *heads),
        tuple(rows),
    )


# ----------------------------------------------------------------- importance, choices


def _importance(found: Found) -> Section:
    pictures = plots.importance(found)
    if not pictures:
        return Section("Importance of the choices")
    finished = len([t for t in figures.finished(found) if not t.get("baseline")])
    return Section(
        "Importance of the choices",
        f"How much of the spread of each objective a choice accounts for, as estimated "
        f"from {finished} trials: the fewer there are, the rougher it is.",
        plots=tuple(pictures),
    )


def _choices(found: Found) -> Section:
    rows = []
    for choice in found.get("choices", ()):
        if choice["kind"] == "categorical":
            among = " | ".join(map(figures.label, choice["choices"]))
        else:
            among = f"{figures.label(choice['low'])} to {figures.label(choice['high'])}"
            among += ", by its logarithm" if choice.get("log") else ""
        rows.append((choice["key"], choice["kind"], among))
    return Section(
        "Choices",
        plots=tuple(plots.parallel(found)),
        tables=_there(Table("What varied", ("key", "", "among"), tuple(rows), words=3)),
    )


# ------------------------------------------------------------------------ what was not


def left_out(found: Found) -> Table:
    """Trials that were not trained to the end, by their reason; reasons that differ in
    numbers alone are one."""
    by_reason: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for mark, one in _searches(found):
        for trial in one["trials"]:
            if trial["state"] not in GOES_ON:
                why = trial.get("why") or ""
                group = by_reason[trial["state"], NUMBERS.sub("", why)]
                group.append((why, f"{mark}{trial['number']}"))
    ranked = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return Table(
        "What was left out, and why",
        ("", "why", "trials", "which"),
        tuple(
            (
                state,
                _common([why for why, _ in group]),
                str(len(group)),
                _few([which for _, which in group]),
            )
            for (state, _), group in ranked
        ),
        words=2,
    )


def _common(reasons: Sequence[str]) -> str:
    """The words that reasons share; numbers that they do not are left open."""
    words = zip(*(reason.split(" ") for reason in reasons), strict=True)
    return " ".join(each[0] if len(set(each)) == 1 else "…" for each in words)


def _few(which: Sequence[str]) -> str:
    more = len(which) - MOST_NUMBERS
    shown = ", ".join(which[:MOST_NUMBERS])
    return f"{shown} and {more} more" if more > 0 else shown


def _searches(found: Found) -> Iterator[tuple[str, Found]]:
    yield "", found
    if found.get("beside"):
        yield "b", found["beside"]


# ------------------------------------------------------------------------------- notes


def notes(found: Found) -> Iterator[str]:
    """What a reader must know to judge the figures."""
    tested = [p for p in found.get("front") or () if p.get("test")]
    yield (
        "Candidates were trained on training rows and compared on validation rows; the "
        + (
            f"test rows were used once, at the end, for {counted(len(tested), 'point')} "
            "of the front."
            if tested
            else "test rows have not been used."
        )
    )
    seeds = {len(p["test"]["metric"]["seeds"]) for p in tested}
    if seeds:
        most = counted(max(seeds), "seed")
        some = most if len(seeds) == 1 else f"{min(seeds)} to {most}"
        yield (
            f"Each tested point was trained with {some}, and its test is their mean."
            if max(seeds) > 1
            else "The test of each point is of one training, with one seed."
        )
    yield from _cut_short(found)
    optimism = [p["optimism"] for p in tested if is_number(p.get("optimism"))]
    if optimism:
        mean = sum(optimism) / len(optimism)
        yield (
            "The best of many trials on the same validation rows is partly the luckiest: "
            f"over the tested points validation was {abs(mean):.4f} "
            f"{'above' if mean >= 0 else 'below'} the test, on average."
        )
    finished = [t for t in figures.finished(found) if not t.get("baseline")]
    if finished:
        yield "A value in validation is of one training, with one seed."
    states = _states(found)
    if states:
        yield f"Every trial is accounted for: {states}."
    ready = ("unedited", "probe", "smaller")
    there = {t["baseline"] for t in found["trials"] if t.get("baseline")}
    missing = [name for name in ready if name not in there]
    if missing:
        yield f"Baselines that this search did not have: {', '.join(missing)}."
    broken = [
        t for t in finished if any(b.holds(t) is False for b in figures.bounds(found))
    ]
    if broken:
        yield (
            f"{counted(len(broken), 'finished trial')} broke a constraint, and stood "
            "outside of the front."
        )


def _cut_short(found: Found) -> Iterator[str]:
    """What of the end there was no time for."""
    asked, end = found.get("asked") or {}, found.get("end") or {}
    if not found.get("front") or not asked or "front" not in end:
        return
    most = min(asked["points"], end["front"])
    if end["points"] < most or end["seeds"] < asked["seeds"]:
        yield (
            f"The hours had time for {counted(end['points'], 'point')} of {most} and "
            f"{counted(end['seeds'], 'seed')} of {asked['seeds']}."
        )


def _states(found: Found) -> str:
    numbers: dict[str, int] = defaultdict(int)
    for trial in found["trials"]:
        numbers[trial["state"]] += 1
    return ", ".join(f"{n} {state}" for state, n in numbers.items())


# ---------------------------------------------------------------------------- trials


def trials(found: Found) -> Table:
    """Every trial, with what its spec changes."""
    wanted = figures.objectives(found)
    rows, marks = [], []
    for mark, one in _searches(found):
        for trial in one["trials"]:
            rungs = [r for r in trial.get("rungs") or () if is_number(r.get("metric"))]
            values = trial.get("values") or {}
            rows.append(
                (
                    f"{mark}{trial['number']}",
                    trial.get("baseline") or trial["state"],
                    *(amount(o, values.get(o.name)) for o in wanted),
                    "; ".join(figures.changes(trial)),
                    _number(trial.get("seconds"), ".1f"),
                    *(_fact(trial, name) for name in _shown(wanted)),
                    " ".join(f"{r['part']:g}: {r['metric']:.4f}" for r in rungs),
                    trial.get("why") or "",
                )
            )
            marks.append(f"{mark}{trial['number']}")
    return Table(
        "All trials",
        (
            "trial",
            "state",
            *(plots.head(o) for o in wanted),
            "changed",
            "seconds",
            *_shown(wanted),
            "rungs",
            "why",
        ),
        tuple(rows),
        words=2,
        note="Rungs are parts of the training rows, each with its value in validation."
        + (" Numbers of the other search begin with b." if found.get("beside") else ""),
        marks=tuple(marks),
        tools=True,
    )


# ----------------------------------------------------------------------------- figures


def amount(objective: Objective, value: Any) -> str:
    """A value in the unit of its column."""
    if not is_number(value):
        return ""
    if abs(value) >= 1000:
        return count(value)
    return f"{value:,.2f}" if objective.unit else f"{value:.4f}"


def interval(
    figures: Mapping[str, Any] | None, form: str, middle: str = "median"
) -> str:
    if not figures or not is_number(figures.get(middle)):
        return ""
    shown = f"{figures[middle]:{form}}"
    if is_number(figures.get("low")) and is_number(figures.get("high")):
        shown += f" [{figures['low']:{form}}, {figures['high']:{form}}]"
    return shown


def _number(value: Any, form: str) -> str:
    return f"{value:{form}}" if is_number(value) else ""


def _values(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _called(trial: Trial) -> str:
    name = trial.get("baseline")
    return f"{trial['number']}, {name}" if name else str(trial["number"])


def _mark(trial: Trial) -> str:
    return str(trial["number"])


def _there(*found: Table) -> tuple[Table, ...]:
    return tuple(table for table in found if table.rows)
