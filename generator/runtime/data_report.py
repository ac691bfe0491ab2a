"""`gen data`: prepare a job's rows as its training would, and report what they are.

One HTML page that needs nothing beside it, and its Markdown: rows in and out of each
step with examples, labels, lengths and splits. `gen run` writes the same page.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from generator.ir.head import selection
from generator.runtime import build as building
from generator.runtime import figures, plots, report, tables, terminal
from generator.runtime.ready import Package, need, package
from generator.runtime.report import Fact, Page, Section
from generator.runtime.tables import Table, count, share

EXAMPLES = 3  # of rows that were put aside for a reason
MOST = 40  # labels of a table
ROOM = 120  # characters of an excerpt
# What excerpts do not show: addresses and long numbers.
PRIVATE = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\+?\d(?:[ ().-]{0,2}\d){6,}")


def data(args: argparse.Namespace) -> int:
    """The command. 0, or 1 where the rows cannot serve the job."""
    need("matplotlib", "rich")
    ready = package(args)
    building.writable(ready.work, "--work")
    found = counted(ready)
    if found is None:
        return 1
    found["report"] = write(found, ready.work)
    if args.json:
        print(json.dumps(found, indent=1))
    elif not args.quiet:
        terminal.show(t for section in sections(found) for t in section.tables)
        print(f"Report: {found['report']['html']}, {found['report']['markdown']}")
    return 0


def counted(ready: Package) -> dict[str, Any] | None:
    """Figures of the rows. None where none can be used; standard error says why."""
    ended = ready.programs.python(
        Path(__file__).with_name("data_counts.py"),
        *(ready.name, ready.root, ready.work),
        output="keep",
    )
    if ended.code:
        return None
    job = ready.plan.compiled.job
    return {
        "name": ready.name,
        "task": job.task,
        **json.loads(ended.output),
        "selected": selected(ready),
        "put_aside": put_aside(ready.work),
        "cleaning": figures.cleaning(ready.work),
    }


def selected(ready: Package) -> dict[str, Any] | None:
    """Which numbers of the vector the head reads, where not all."""
    model = ready.plan.compiled.job.model
    if (found := selection(model)) is None:
        return None
    kept = next(one.index for one in model.lists if one.name == found.name)
    by = ready.spec_file.spec.features.select.by
    return {"by": by, "kept": list(kept), "of": found.total}


def quarantined(work: Path) -> Iterator[dict[str, Any]]:
    path = work / "quarantine.jsonl"
    if path.is_file():
        with path.open() as lines:
            yield from map(json.loads, lines)


def put_aside(work: Path) -> list[dict[str, Any]]:
    """Reasons for which rows were put aside, the most frequent first: how many rows of
    each file, and the first few of them."""
    counts: dict[str, Counter[str]] = {}
    examples: dict[str, list[dict[str, Any]]] = {}
    for row in quarantined(work):
        reason = row["reason"]
        counts.setdefault(reason, Counter())[row["file"]] += 1
        some = examples.setdefault(reason, [])
        if len(some) < EXAMPLES:
            text = ", ".join(str(value) for value in row["row"].values())
            some.append(
                {"file": row["file"], "line": row["line"], "text": excerpt(text)}
            )
    most = sorted(counts.items(), key=lambda item: -item[1].total())
    return [
        {"reason": reason, "files": dict(files), "examples": examples[reason]}
        for reason, files in most
    ]


def excerpt(text: str) -> str:
    """The beginning of a text, without what is of a person."""
    text = PRIVATE.sub("…", text[: 4 * ROOM])
    return text if len(text) <= ROOM else text[: ROOM - 1] + "…"


# ------------------------------------------------------------------------------ page


def write(found: Mapping[str, Any], work: Path) -> dict[str, str]:
    """data.html and data.md in the work folder; their paths."""
    return report.write_page(page(found), work, "data")


def page(found: Mapping[str, Any]) -> Page:
    rows = {name: split["rows"] for name, split in found["splits"].items()}
    aside = sum(sum(one["files"].values()) for one in found["put_aside"])
    facts = [Fact(f"{name} rows", count(n)) for name, n in rows.items()]
    facts.append(Fact("put aside", count(aside)))
    return Page(
        f"Data of {found['name']}",
        "The rows as training, evaluation and the test see them, after all that is done "
        "to them. Excerpts leave addresses and long numbers out; quarantine.jsonl of the "
        "work folder has the whole rows, and is to be kept as the data is.",
        tuple(facts),
        tuple(sections(found)),
    )


def sections(found: Mapping[str, Any]) -> list[Section]:
    splits = found["splits"]
    shown = [
        Section("Splits", tables=(split_table(found),)),
        targets(splits),
    ]
    if "lengths" in splits["train"]:
        shown.append(Section("Lengths", plots=tuple(plots.lengths(found))))
    if found["cleaning"] is not None:
        shown.append(
            Section("Cleaning", tables=_some(tables.cleaning(found["cleaning"])))
        )
    if found.get("features") or found["selected"]:
        shown.append(
            Section("Features", chosen(found["selected"]), (), feature_tables(found))
        )
    if found["put_aside"]:
        some = [*aside_table(found["put_aside"], bool(found["cleaning"]))]
        shown.append(Section("Put aside", tables=_some(some)))
    return shown


def split_table(found: Mapping[str, Any]) -> Table:
    splits = found["splits"]
    total = sum(one["rows"] for one in splits.values())
    rows = [("rows", *(_part(one["rows"], total) for one in splits.values()))]
    if "lengths" in splits["train"]:
        names = {"0.5": "median", "0.9": "90%", "0.99": "99%", "1.0": "longest"}
        for q, name in names.items():
            each = (one["lengths"]["quantiles"][q] for one in splits.values())
            rows.append((f"tokens, {name}", *map(count, each)))
        each = ((one["at_limit"], one["rows"]) for one in splits.values())
        limit = f"rows of {found['max_tokens']:,} tokens, the limit"
        rows.append((limit, *(_part(n, of) for n, of in each)))
    note = "Longer rows are cut at the limit." if found["max_tokens"] else ""
    return Table("Splits", ("", *splits), tuple(rows), note=note)


def targets(splits: Mapping[str, Any]) -> Section:
    train = splits["train"]
    if "labels" not in train:
        rows = [
            (
                f"{target}, {what}",
                *(pick(one["targets"][target]) for one in splits.values()),
            )
            for target in train["targets"]
            for what, pick in (
                ("mean", lambda x: f"{x['mean']:.4g}"),
                ("least", lambda x: f"{x['least']:.4g}"),
                ("median", lambda x: f"{x['quantiles']['0.5']:.4g}"),
                ("largest", lambda x: f"{x['quantiles']['1.0']:.4g}"),
            )
        ]
        table = Table("Targets", ("", *splits), tuple(rows))
        return Section("Targets", "", tuple(plots.targets(splits)), (table,))
    rows = [
        (name, *(_part(one["labels"][name], one["rows"]) for one in splits.values()))
        for name in train["labels"]
    ]
    note = ""
    if len(rows) > MOST:
        rows.sort(key=lambda row: -train["labels"][row[0]])
        note = f"{len(rows) - MOST:,} rarer labels are not shown."
        rows = rows[:MOST]
    table = Table("Labels", ("label", *splits), tuple(rows), note=note)
    return Section("Labels", "", tuple(plots.labels(splits)), (table,))


def chosen(selected: Mapping[str, Any] | None) -> str:
    """Prose: which numbers of the vector are kept."""
    if selected is None:
        return ""
    kept = selected["kept"]
    return (
        f"Of the {selected['of']:,} numbers of a row's vector the head reads {len(kept):,}, "
        f"those with the highest scores by {selected['by']}: "
        f"{', '.join(map(str, kept[:MOST]))}{', ...' if len(kept) > MOST else '.'}"
    )


def feature_tables(found: Mapping[str, Any]) -> tuple[Table, ...]:
    """What the training rows decide of the features beside the vector."""
    fitted, splits = found.get("features"), found["splits"]
    if not fitted:
        return ()
    lacking = tuple(f"{split}, missing" for split in splits)
    numbers = tuple(
        (
            one["name"],
            f"{one['mean']:.4g}",
            f"{one['deviation']:.4g}",
            *(share(one["missing"][s]) if one["missing"] else "" for s in splits),
        )
        for one in fitted["numbers"]
    )
    categories = tuple(
        (
            one["column"],
            _known(one["known"]),
            *(share(one["unknown"][s]) for s in splits),
        )
        for one in fitted["categories"]
    )
    none = tuple(f"{split}, none of them" for split in splits)
    note = ""
    if not all(one["deviation"] for one in fitted["numbers"]):
        note = (
            "What has deviation 0 is the same in all training rows, and says nothing."
        )
    return _some(
        [
            Table(
                "Numbers", ("number", "mean", "deviation", *lacking), numbers, note=note
            ),
            Table(
                "Categories", ("column", "those that are known", *none), categories, 2
            ),
        ]
    )


def _known(names: Sequence[str]) -> str:
    """Categories, the first of them by name."""
    shown = ", ".join(excerpt(name) for name in names[:MOST])
    more = len(names) - MOST
    return f"{shown} and {more:,} more" if more > 0 else shown


def aside_table(found: list[Mapping[str, Any]], cleaned: bool) -> Iterator[Table]:
    """Rows that were put aside, by reason, where the cleaning does not count them
    already; and some of them."""
    files = sorted({file for one in found for file in one["files"]})
    most = found[: tables.MOST_REASONS]
    if not cleaned:
        rows = [
            (one["reason"], *(count(one["files"].get(f, 0)) for f in files))
            for one in most
        ]
        if rest := found[tables.MOST_REASONS :]:
            each = (sum(one["files"].get(f, 0) for one in rest) for f in files)
            rows.append((f"{len(rest)} other reasons", *map(count, each)))
        yield Table("Rows put aside", ("reason", *files), tuple(rows))
    some = [
        (one["reason"], f"{row['file']}:{row['line']}", row["text"])
        for one in most
        for row in one["examples"]
    ]
    note = (
        "All of them lie in quarantine.jsonl of the work folder, each with its reason."
    )
    yield Table("Some of them", ("reason", "row", "what it has"), tuple(some), 3, note)


def _part(n: int, of: int) -> str:
    return f"{count(n)} [{share(n / of)}]" if of else count(n)


def _some(found: list[Table]) -> tuple[Table, ...]:
    return tuple(table for table in found if table.rows)
