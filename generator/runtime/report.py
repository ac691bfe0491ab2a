"""The report of a run: one HTML file that needs nothing beside it, and its Markdown.

Both are made of the same tables, and the tables of the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generator.render.text import environment as templates
from generator.render.text import markdown
from generator.runtime import figures as all_figures
from generator.runtime import tables
from generator.runtime.files import write_if_changed
from generator.runtime.tables import Table


@dataclass(frozen=True)
class Section:
    title: str
    words: str = ""
    plots: tuple[tuple[str, str], ...] = ()  # SVG, and what it shows
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()  # a list of sentences


@dataclass(frozen=True)
class Fact:
    """A figure of the headline."""

    name: str
    value: str


@dataclass(frozen=True)
class Page:
    """All that the templates read."""

    name: str
    words: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    script: str = ""  # which shows what belongs together, and sorts and filters rows


def write(figures: Mapping[str, Any], work: Path) -> dict[str, str]:
    """report.html and report.md in the work folder; their paths."""
    return write_page(make(figures, work), work, "report")


def write_page(page: Page, work: Path, name: str) -> dict[str, str]:
    """The page as HTML and as Markdown in the work folder; their paths."""
    environment = templates()
    html = environment.overlay(autoescape=True).get_template("report.html.j2")
    text = environment.get_template("report.md.j2")
    told = tuple(s for s in page.sections if s.words or s.tables or s.notes)
    unseen = replace(page, sections=told)  # Markdown has no pictures
    files = {
        "html": (work / f"{name}.html", html.render(page=page)),
        "markdown": (work / f"{name}.md", text.render(page=unseen, cell=cell)),
    }
    for path, content in files.values():
        write_if_changed(path, content.encode())
    return {kind: str(path) for kind, (path, _) in files.items()}


def cell(value: str) -> str:
    """A cell of a Markdown table."""
    return markdown(value) or " "


def make(figures: Mapping[str, Any], work: Path) -> Page:
    """The page, section by section. The step losses are read from the work folder."""
    from generator.runtime.plots import curves

    test = figures["test"]
    steps = list(all_figures.read_steps(work))
    sections = [
        Section(
            "Result",
            tables=_there(
                tables.scores(figures),
                tables.by_label(figures),
                tables.probe(figures),
                tables.deployed(figures),
            )
            + _there(tables.calibration(figures)),
        ),
        Section(
            "Training",
            plots=tuple(curves(steps, figures)),
            tables=_there(
                tables.steps(figures),
                tables.training(figures),
                tables.evaluations(figures),
                tables.losses(figures),
                tables.not_used(figures),
            ),
        ),
        *_cleaning(figures["cleaning"]),
        *_guard(figures["guard"]),
        Section(
            "Certificate",
            certificate_words(figures["certificate"]),
            tables=_there(tables.certificate(figures["certificate"])),
        ),
    ]
    if exported := figures.get("export"):
        sections.append(Section("Exports", tables=(tables.exports(exported),)))
    if figures["bench"] is not None:
        words = tables.bench_words(figures["bench"])
        sections.append(
            Section("Speed", words, (), tuple(tables.bench(figures["bench"])))
        )
    sections += [
        Section("Predicted and measured", tables=(tables.predicted(figures),)),
        Section(
            "Where it comes from",
            tables=_there(
                tables.job(figures),
                tables.recipe(figures),
                tables.environment(figures),
                tables.durations(figures),
                tables.hashes(figures),
            ),
        ),
    ]
    return Page(
        figures["name"],
        f"{figures['model']} for {figures['task']}, from {figures['backbone']['source']}.",
        tuple(headline(figures, test)),
        tuple(sections),
    )


def _cleaning(found: Mapping[str, Any] | None) -> list[Section]:
    if found is None:
        return []
    return [Section("Cleaning", tables=_there(*tables.cleaning(found)))]


def _guard(found: Mapping[str, Any] | None) -> list[Section]:
    if found is None:
        return []
    return [Section("Guard", tables=_there(*tables.guard(found)))]


def headline(figures: Mapping[str, Any], test: Mapping[str, Any]) -> list[Fact]:
    """The few figures that a reader looks for first."""
    score = tables.score_name(test)
    found = [
        Fact(f"test {tables.within(score)}", f"{test[score]:.4f}"),
        Fact("trained in", tables.seconds(figures["training"]["seconds"])),
        Fact("certificate", verdict(figures["certificate"])),
    ]
    if found_probe := figures.get("probe"):
        found.insert(1, Fact("linear probe", f"{found_probe['first']:.4f}"))
    bench = figures["bench"] or {}
    for name, f in bench.get("train", {}).items():
        if "ours_is_faster" in f:
            faster = f"{f['ours_is_faster']['median']:.2f} times"
            found.append(Fact(f"training, against {name}", faster))
    return found


def verdict(checks: list[dict[str, Any]]) -> str:
    """In a word or two."""
    failed = sum(not c["holds"] for c in checks)
    ran = sum(c["measured"] is not None for c in checks)
    return f"{failed} of {len(checks)} fail" if failed else f"{ran} checks hold"


def certificate_words(checks: list[dict[str, Any]]) -> str:
    skipped = sum(c["holds"] and c["measured"] is None for c in checks)
    words = (
        "The package against the implementation that its backbone comes from, and "
        "against itself. Differences are relative to the norm of what is compared."
    )
    if skipped:
        were = "was" if skipped == 1 else "were"
        words += f" {skipped} of {len(checks)} {were} skipped; the note says why."
    return words


def _there(*found: Table | None) -> tuple[Table, ...]:
    return tuple(t for t in found if t is not None and t.rows)
