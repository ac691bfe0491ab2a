"""The curves of a run as SVG, by matplotlib, for a page that is light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from generator.runtime.tables import called, score_name

# Stand-ins in matplotlib's output for the page's own colours, and what they become.
INK, FAINT, FIRST, SECOND = "#010203", "#040506", "#070809", "#0a0b0c"
VARIABLES = {INK: "--ink", FAINT: "--line", FIRST: "--first", SECOND: "--second"}
COLOURS = (FIRST, SECOND, INK)  # of the splits
MOST_LABELS = 16  # of a picture
SIZE = (
    4.6,
    2.8,
)  # inches of 72 points: as wide as a phone shows without shrinking much


def curves(
    steps: Sequence[tuple[int, float]], figures: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The loss and the score over the steps, each as SVG with its description."""
    evaluations = figures["training"]["evaluations"]
    score = score_name(figures["test"])
    at = [e["step"] for e in evaluations]
    plots = [_loss(steps, at, [e["loss"] for e in evaluations])]
    if score != "loss":
        values = [e[score] for e in evaluations]
        plots.append(_score(called(score), at, values, figures["test"][score]))
    return plots


def _loss(
    steps: Sequence[tuple[int, float]], at: Sequence[int], valid: Sequence[float]
) -> tuple[str, str]:
    figure, axes = new_axes("Loss")
    numbers = [number for number, _ in steps]
    losses = [loss for _, loss in steps]
    axes.plot(numbers, losses, color=FIRST, alpha=0.25, linewidth=0.8)
    window = max(1, len(losses) // 25)
    axes.plot(numbers, smooth(losses, window), color=FIRST, label="training, smoothed")
    axes.plot(at, valid, color=SECOND, marker="o", markersize=4, label="validation")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=INK)
    return to_svg(figure, "loss"), "Training and validation loss over the steps."


def _score(
    name: str, at: Sequence[int], values: Sequence[float], test: float
) -> tuple[str, str]:
    figure, axes = new_axes(name)
    axes.plot(at, values, color=SECOND, marker="o", markersize=4, label="validation")
    axes.axhline(
        test, color=FIRST, linewidth=1, linestyle="--", label="test, at the end"
    )
    axes.set_xlim(left=0)
    axes.legend(frameon=False, labelcolor=INK)
    return to_svg(figure, "score"), f"{name} on the validation rows over the steps."


def lengths(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How long rows are: the part of each split's rows by their tokens."""
    splits = {name: one["lengths"] for name, one in found["splits"].items()}
    words = "The part of the rows of each split by how many tokens they have."
    return [(_histogram("Tokens of a row", splits, "tokens", "lengths"), words)]


def targets(splits: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The part of each split's rows by the value of each target."""
    found = []
    for n, target in enumerate(splits["train"]["targets"]):
        each = {name: one["targets"][target] for name, one in splits.items()}
        svg = _histogram(target, each, "value", f"target{n}")
        found.append((svg, f"The part of the rows of each split by {target}."))
    return found


def labels(splits: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The part of each split's rows that have a label, the most frequent first."""
    counts = splits["train"]["labels"]
    names = sorted(counts, key=lambda label: -counts[label])[:MOST_LABELS]
    # Without a title, which would run into the legend: long names push it to the right.
    height = max(SIZE[1], 0.8 + 0.22 * len(names))
    figure, axes = new_axes("", "part of the rows", (SIZE[0], height))
    high = 0.8 / len(splits)
    for n, ((name, one), colour) in enumerate(
        zip(splits.items(), COLOURS, strict=True)
    ):
        at = [i + (n - (len(splits) - 1) / 2) * high for i in range(len(names))]
        parts = [one["labels"][label] / max(1, one["rows"]) for label in names]
        axes.barh(at, parts, high, color=colour, label=name)
    axes.set_yticks(range(len(names)), [short(label) for label in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    legend_above(axes)
    return [(to_svg(figure, "labels"), "The part of the rows that have each label.")]


def _histogram(title: str, splits: Mapping[str, Any], unit: str, salt: str) -> str:
    figure, axes = new_axes(title, unit)
    for (name, one), colour in zip(splits.items(), COLOURS, strict=True):
        total = max(1, sum(one["counts"]))
        parts = [n / total for n in one["counts"]]
        axes.stairs(parts, one["edges"], color=colour, label=name, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("part of the rows", color=INK)
    legend_above(axes)
    return to_svg(figure, salt)


def legend_above(axes: Any, columns: int = 3) -> None:
    """Where no bar or line can be behind it."""
    axes.legend(
        frameon=False,
        labelcolor=INK,
        ncols=columns,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0,
        fontsize=9,
        handlelength=1,
    )


def short(label: str, most: int = 24) -> str:
    """A label as it fits into a picture."""
    # A dollar sign would begin a formula.
    text = label if len(label) <= most else label[: most - 1] + "…"
    return text.replace("$", r"\$")


def smooth(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value with those up to `window` before and after it."""
    found = []
    for i in range(len(values)):
        near = values[max(0, i - window) : i + window + 1]
        found.append(sum(near) / len(near))
    return found


def new_axes(
    title: str, unit: str = "step", size: tuple[float, float] = SIZE
) -> tuple[Any, Any]:
    """A figure and its axes, in the stand-ins of the page's colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title.replace("$", r"\$"), loc="left", color=INK, fontsize=11)
    axes.set_xlabel(unit, color=INK)
    axes.tick_params(colors=INK)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    return figure, axes


def to_svg(figure: Any, salt: str) -> str:
    """An <svg> element for a page: no prologue, no metadata, no addresses."""
    import matplotlib

    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt}
    with matplotlib.rc_context(settings), io.StringIO() as file:
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # of all the page
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # Names are of this picture alone, on a page that holds several.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{salt}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{salt}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{salt}-\1)", text)
    for colour, name in VARIABLES.items():
        text = text.replace(colour, f"var({name})")
    return re.sub(r"font-family: [^;\"]*; ", "", text)  # that of the page
