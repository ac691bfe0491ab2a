"""The pictures of a search as SVG, in which every mark knows its trial."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generator.runtime import search_figures as figures
from generator.runtime.plots import (
    FAINT,
    FIRST,
    INK,
    SECOND,
    legend_above,
    new_axes,
    short,
    to_svg,
)
from generator.runtime.search_figures import Trial
from generator.runtime.tables import called, within
from generator.search.goals import Objective

MOST_PAIRS = 3  # of objectives, each a picture
MOST_KEYS = 24  # of a picture of importance or of choices
LOG = 20.0  # how far apart values are that an axis shows by their logarithm
ROOM = 46  # characters across a picture
Picture = tuple[str, str]  # SVG, and what it shows
Place = tuple[float, float]
Measure = Callable[[Sequence[Trial]], list[float]]  # of the first trials, for each


def head(objective: Objective) -> str:
    """What an axis or a column of its values is called."""
    name = called(objective.name)
    return f"{name}, {objective.unit}" if objective.unit else name


@dataclass(frozen=True)
class Group:
    """Trials of one search, and how they are drawn."""

    mark: str  # before the numbers of its trials
    name: str
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    colour: str
    fill: str  # of its marks
    line: str  # the style of its lines


def groups(found: Mapping[str, Any]) -> list[Group]:
    """The search, and the other one where there is one beside it."""
    made = [_group(found, "", "this search", FIRST, "full", "-")]
    if other := found.get("beside"):
        name = figures.SAMPLERS.get(other["sampler"], other["sampler"])
        made.append(_group(other, "b", f"by {name}", SECOND, "none", "--"))
    return made


def _group(found: Mapping[str, Any], mark: str, name: str, *look: str) -> Group:
    trials = figures.finished(found)
    best = figures.front(figures.allowed(found), figures.objectives(found))
    return Group(mark, name, tuple(trials), tuple(best), *look)


def fronts_of(found: Mapping[str, Any]) -> list[Picture]:
    """Each pair of objectives: all finished trials, the front, baselines, constraints."""
    wanted = figures.objectives(found)
    shown = groups(found)
    if not any(group.trials for group in shown):
        return []
    pairs = itertools.islice(itertools.combinations(wanted, 2), MOST_PAIRS)
    return [_pair(found, shown, *_across(*pair), n) for n, pair in enumerate(pairs)]


def _across(a: Objective, b: Objective) -> tuple[Objective, Objective]:
    """What is paid goes across, what is gained up."""
    gained = [o.direction == "maximize" for o in (a, b)]
    return (b, a) if gained == [True, False] else (a, b)


def _pair(
    found: Mapping[str, Any], shown: Sequence[Group], x: Objective, y: Objective, n: int
) -> Picture:
    figure, axes = new_axes(head(y), head(x), (5.2, 3.6))

    def at(trial: Trial) -> Place:
        return trial["values"][x.name], trial["values"][y.name]

    for group in reversed(shown):
        members = {trial["number"] for trial in group.front}
        look = {"marker": "o", "color": group.colour, "fillstyle": group.fill}
        for trial in group.trials:
            if trial.get("baseline"):
                continue
            best = trial["number"] in members
            style = {"markersize": 6} if best else {"markersize": 4.5, "alpha": 0.4}
            _mark(axes, group, trial, at(trial), **look, **style)
        if len(group.front) > 1 and len(found["objectives"]) == 2:
            points = sorted(map(at, group.front))
            axes.step(
                *zip(*points, strict=True),
                where="post" if x.direction == "minimize" else "pre",
                color=group.colour,
                linewidth=1.2,
                linestyle=group.line,
                zorder=1,
            )
        axes.plot([], [], **look, linestyle="none", label=group.name)
    _baselines(axes, shown[0], at)
    _bounds(axes, found, x, y)
    _stretch(axes.set_xscale, [at(t)[0] for g in shown for t in g.trials])
    if len(shown) > 1:
        legend_above(axes, 2)
    words = f"{head(y)} and {head(x)} of every finished trial, with the front."
    return _marked(figure, f"pair{n}"), words


def _baselines(axes: Any, group: Group, at: Callable[[Trial], Place]) -> None:
    names: dict[Place, list[str]] = {}
    for trial in group.trials:
        if name := trial.get("baseline"):
            names.setdefault(at(trial), []).append(name)
            _mark(axes, group, trial, at(trial), marker="D", color=INK)
    for place, there in names.items():
        axes.annotate(
            short(", ".join(there)),
            place,
            (6, 5),
            textcoords="offset points",
            color=INK,
            fontsize=8,
        )


def _mark(axes: Any, group: Group, trial: Trial, place: Place, **style: Any) -> None:
    """A mark that knows its trial."""
    x, y = place
    gid = f"trial-{group.mark}{trial['number']}"
    axes.plot([x], [y], **({"markersize": 6, "linestyle": "none"} | style), gid=gid)


def _bounds(axes: Any, found: Mapping[str, Any], x: Objective, y: Objective) -> None:
    for limit in figures.bounds(found):
        style: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": ":"}
        if limit.value is not None and limit.objective == x.name:
            axes.axvline(limit.value, **style)
        elif limit.value is not None and limit.objective == y.name:
            axes.axhline(limit.value, **style)


def _stretch(set_scale: Any, values: Sequence[float]) -> None:
    if values and min(values) > 0 and max(values) / min(values) > LOG:
        set_scale("log")


TESTED = ("points_from_unedited", "faster_than_transformers")


def tested(found: Mapping[str, Any]) -> list[Picture]:
    """What each point of the front gains and loses on the test rows, with intervals."""
    points = [
        point
        for point in found.get("front") or ()
        if all(point.get(name) for name in TESTED)
    ]
    if not points:
        return []
    title = "Points from unedited, on the test rows"
    figure, axes = new_axes(title, "times faster than transformers", (5.2, 3.6))
    axes.axhline(0, color=INK, linewidth=0.9, linestyle=":")
    for point in points:
        up, across = (point[name] for name in TESTED)
        x, y = across["median"], up["mean"]
        line = {"color": FIRST, "alpha": 0.5, "linewidth": 1.2}
        axes.plot([across["low"], across["high"]], [y, y], **line)
        axes.plot([x, x], [up["low"], up["high"]], **line)
        gid = f"trial-{point['trial']}"
        axes.plot([x], [y], marker="o", color=FIRST, linestyle="none", gid=gid)
        axes.annotate(
            str(point["trial"]),
            (x, y),
            (5, 4),
            textcoords="offset points",
            color=INK,
            fontsize=8,
        )
    axes.set_xlim(left=0)
    return [(_marked(figure, "tested"), f"{title}, by how much faster they predict.")]


# ----------------------------------------------------------------------------- history


def history(found: Mapping[str, Any]) -> list[Picture]:
    """How much the front covers over trials and time, and the best of each objective."""
    shown = groups(found)
    wanted = figures.objectives(found)
    if not any(group.trials for group in shown):
        return []
    pictures = _covered(found, shown, wanted) if len(wanted) > 1 else []
    for n, objective in enumerate(wanted):
        title, measure = f"Best {head(objective)}", _best(found, objective)
        if len(wanted) == 1:
            pictures += _by_time(title, shown, measure, "best-time")
        pictures.append(_by_number(title, shown, measure, f"best{n}", objective))
    return pictures


def _covered(
    found: Mapping[str, Any], shown: Sequence[Group], wanted: Sequence[Objective]
) -> list[Picture]:
    within = figures.box([t for g in shown for t in g.trials], wanted)
    assert within is not None  # there are trials
    kept = {id(t) for t in _kept(found)}

    def measure(trials: Sequence[Trial]) -> list[float]:
        best: list[Trial] = []
        parts = []
        for trial in trials:
            new = figures.front([*best, trial], wanted) if id(trial) in kept else best
            if not parts or new != best:
                parts.append(figures.covered(new, wanted, within))
            else:
                parts.append(parts[-1])
            best = new
        return parts

    title = "Covered by the front"
    by_number = _by_number(title, shown, measure, "covered")
    return [by_number, *_by_time(title, shown, measure, "covered-time")]


def _kept(found: Mapping[str, Any]) -> list[Trial]:
    return [trial for one in _both(found) for trial in figures.allowed(one)]


def _both(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [found, *([found["beside"]] if found.get("beside") else [])]


def _best(found: Mapping[str, Any], objective: Objective) -> Measure:
    """Of trials within the constraints, as those of the front are."""
    kept = _kept(found)
    return lambda trials: figures.best_so_far(trials, objective, kept)


def _by_number(
    title: str,
    shown: Sequence[Group],
    measure: Measure,
    salt: str,
    objective: Objective | None = None,
) -> Picture:
    figure, axes = new_axes(title, "trial")
    for group in shown:
        trials = sorted(group.trials, key=lambda trial: trial["number"])
        if not trials:
            continue
        numbers = [trial["number"] for trial in trials]
        if objective is not None:
            for trial in trials:
                place = trial["number"], trial["values"][objective.name]
                look = {"marker": "o", "color": group.colour, "alpha": 0.5}
                _mark(axes, group, trial, place, **look, markersize=3.5)
        axes.step(
            numbers,
            measure(trials),
            where="post",
            color=group.colour,
            label=group.name,
        )
    if len(shown) > 1:
        legend_above(axes, 2)
    return _marked(figure, salt), f"{title}, over the trials."


def _by_time(
    title: str, shown: Sequence[Group], measure: Measure, salt: str
) -> list[Picture]:
    figure, axes = new_axes(title, "minutes")
    drawn = False
    for group in shown:
        timed = list(figures.in_time(group.trials))
        if not timed:
            continue
        axes.step(
            [seconds / 60 for seconds, _ in timed],
            measure([trial for _, trial in timed]),
            where="post",
            color=group.colour,
            label=group.name,
        )
        drawn = True
    if not drawn:
        return []
    axes.set_xlim(left=0)
    if len(shown) > 1:
        legend_above(axes, 2)
    return [(_marked(figure, salt), f"{title}, over the time spent.")]


# -------------------------------------------------------------------------- importance


def importance(found: Mapping[str, Any]) -> list[Picture]:
    """How much of each objective's spread each choice accounts for."""
    pictures = []
    for n, (name, parts) in enumerate((found.get("importance") or {}).items()):
        known = [(key, part) for key, part in parts.items() if figures.is_number(part)]
        ranked = sorted(known, key=lambda item: -item[1])[:MOST_KEYS]
        if not ranked:
            continue
        height = 1.0 + 0.28 * len(ranked)
        figure, axes = new_axes(called(name), "part of the spread", (4.6, height))
        places = range(len(ranked))
        axes.barh(places, [part for _, part in ranked], 0.6, color=FIRST)
        axes.set_yticks(places, [short(key) for key, _ in ranked])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        words = f"The part of the spread of {within(name)} by each choice."
        pictures.append((_marked(figure, f"importance{n}"), words))
    return pictures


# ---------------------------------------------------------------- parallel coordinates


@dataclass(frozen=True)
class Scale:
    """A line of the picture of choices: where each value is, from 0 to 1."""

    name: str
    places: Mapping[
        Any, float
    ]  # of each trial by its number; who has none is not there
    ticks: tuple[tuple[float, str], ...]


def parallel(found: Mapping[str, Any]) -> list[Picture]:
    """A line for each finished trial through its choices and what came of them."""
    shown = groups(found)[0]
    trials = [t for t in shown.trials if not t.get("baseline")]
    if not trials:
        return []
    best = {trial["number"] for trial in shown.front}
    scales = [
        _choice(choice, trials) for choice in found.get("choices", ())[:MOST_KEYS]
    ]
    scales += [_result(objective, trials) for objective in figures.objectives(found)]
    figure, axes = new_axes("", "", (5.4, 0.3 + 0.58 * len(scales)))
    for trial in sorted(trials, key=lambda t: t["number"] in best):
        way = [
            (scale.places[trial["number"]], n)
            for n, scale in enumerate(scales)
            if trial["number"] in scale.places
        ]
        on_front = trial["number"] in best
        axes.plot(
            *zip(*way, strict=True),
            color=SECOND if on_front else FIRST,
            alpha=0.95 if on_front else 0.3,
            linewidth=1.6 if on_front else 1.0,
            gid=f"trial-{trial['number']}",
        )
    for n, scale in enumerate(scales):
        axes.axhline(n, color=FAINT, linewidth=1, zorder=0)
        axes.text(
            -0.02, n - 0.3, short(scale.name, 40), color=INK, fontsize=9, weight="bold"
        )
        for place, text in scale.ticks:
            side = "left" if place < 0.02 else "right" if place > 0.98 else "center"
            axes.plot([place], [n], marker="|", color=INK, markersize=6, zorder=3)
            axes.text(place, n + 0.3, text, color=INK, fontsize=8, ha=side)
    axes.set_axis_off()
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(len(scales) - 0.4, -0.6)
    words = (
        "The choices of every finished trial, and what came of them; the front apart."
    )
    return [(_marked(figure, "parallel"), words)]


def _choice(choice: Mapping[str, Any], trials: Sequence[Trial]) -> Scale:
    key = choice["key"]
    given = {t["number"]: t["params"][key] for t in trials if key in t["params"]}
    if choice["kind"] == "categorical":
        labels = [figures.label(c) for c in choice["choices"]]
        last = max(1, len(labels) - 1)
        where = {text: n / last for n, text in enumerate(labels)}
        most = max(4, ROOM // max(1, len(labels)))
        ticks = tuple((where[text], short(text, most)) for text in labels)
        places = {n: where.get(figures.label(v)) for n, v in given.items()}
    else:
        low, high = choice["low"], choice["high"]
        places = {
            n: _between(v, low, high, choice.get("log")) for n, v in given.items()
        }
        ticks = ((0.0, figures.label(low)), (1.0, figures.label(high)))
    return Scale(key, {n: p for n, p in places.items() if p is not None}, ticks)


def _between(value: Any, low: float, high: float, log: Any) -> float | None:
    if not figures.is_number(value):
        return None
    if high <= low:
        return 0.5
    if log and low > 0 and value > 0:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _result(objective: Objective, trials: Sequence[Trial]) -> Scale:
    values = {t["number"]: t["values"][objective.name] for t in trials}
    low, high = min(values.values()), max(values.values())
    if high <= low:
        return Scale(
            head(objective), dict.fromkeys(values, 0.5), ((0.5, f"{low:.4g}"),)
        )
    places = {n: (v - low) / (high - low) for n, v in values.items()}
    return Scale(head(objective), places, ((0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")))


def _marked(figure: Any, salt: str) -> str:
    """The picture, in which what is of a trial says so to the page's script."""
    text = to_svg(figure, salt)
    return re.sub(rf'id="{salt}-trial-(\w+)"', r'data-trial="\1"', text)
