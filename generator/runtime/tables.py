"""The tables of a report, from its figures: the same for terminal, HTML and Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from generator.cost import Stage
from generator.ir.job import Job
from generator.ir.plans import TextPlan

KINDS = {
    "train": "Training steps",
    "predict": "Prediction",
    "one row": "Prediction, one row at a time",
}
SPECIAL = {"macro_f1": "Macro F1", "micro_f1": "Micro F1", "mse": "Mean squared error"}
SPECIAL |= {"mae": "Mean absolute error", "pearson": "Pearson's r"}


WIDEST, CONFUSED = 12, 20  # labels of a confusion matrix; pairs where there are more
FAR = 0.15  # how far off a prediction may be before that is said
WORDS = (
    "note",
    "holds",
    "folder",
    "which",
    "certificate",
)  # heads of columns that hold words
SENTENCES = ("changed", "why")  # and of those that hold many


@dataclass(frozen=True)
class Cell:
    main: str
    aside: str  # the quartiles in brackets, which may stand below
    kind: str  # "text", "number" or "sentence"
    heat: str | None  # how much of the colour of the page is behind it


@dataclass(frozen=True)
class Row:
    cells: tuple[Cell, ...]
    bad: bool
    mark: str  # what it is of, where pictures of the page show that too


@dataclass(frozen=True)
class Table:
    """Finished cells. The first `words` columns hold words, the others numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    note: str = ""
    heat: tuple[tuple[float, ...], ...] = ()  # 0 to 1 for each cell after the first
    bad: frozenset[int] = frozenset()  # rows that tell of a check that does not hold
    marks: tuple[str, ...] = ()  # of each row
    tools: bool = False  # whether a page lets its reader sort and filter the rows

    @property
    def kinds(self) -> tuple[str, ...]:
        """ "text", "number" or "sentence" for each column."""
        return tuple(
            (
                "sentence"
                if name in SENTENCES
                else "text" if i < self.words or name in WORDS else "number"
            )
            for i, name in enumerate(self.head)
        )

    @property
    def heads(self) -> tuple[tuple[str, str], ...]:
        return tuple(zip(self.head, self.kinds, strict=True))

    @property
    def has_head(self) -> bool:
        return any(self.head)

    @property
    def cells(self) -> tuple[Row, ...]:
        found = []
        for n, row in enumerate(self.rows):
            heat = (
                [None, *(f"{0.6 * h:.2f}" for h in self.heat[n])] if self.heat else ()
            )
            cells = tuple(
                Cell(*_split(value, kind), kind, heat[i] if heat else None)
                for i, (value, kind) in enumerate(zip(row, self.kinds, strict=True))
            )
            mark = self.marks[n] if self.marks else ""
            found.append(Row(cells, n in self.bad, mark))
        return tuple(found)


def _split(value: str, kind: str) -> tuple[str, str]:
    main, space, aside = value.partition(" [")
    return (main, f"[{aside}") if space and kind == "number" else (value, "")


# ---------------------------------------------------------------------------- figures


def count(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """In four digits, or whole where there are more before the point."""
    return count(value) if abs(value) >= 1e4 else f"{value:.4g}"


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def share(value: float) -> str:
    return f"{value:.1%}"


def mib(value: float) -> str:
    return f"{value / 2**20:,.{0 if value >= 10 * 2**20 else 2}f} MiB"


def gflop(value: float) -> str:
    """In billions; small models have three digits too."""
    return f"{value / 1e9:.2f}" if value >= 1e8 else f"{value / 1e9:.3g}"


def edits_table(stages: Sequence[Stage]) -> list[str]:
    """What each edit changes, a line a stage, in columns."""
    if not stages:
        return []
    rows = [("after", "parameters", "GFLOP", "training", "prediction")]
    rows += [
        (
            stage.name,
            f"{stage.cost.parameters:,}",
            gflop(stage.cost.predict(stage.cost.tokens)),
            mib(stage.cost.train_bytes),
            mib(stage.cost.predict_bytes),
        )
        for stage in stages
    ]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        row[0].ljust(wide[0])
        + "".join(cell.rjust(n + 2) for cell, n in zip(row[1:], wide[1:], strict=True))
        for row in rows
    ]


def one_row(job: Job) -> str:
    """What a row of a job is, with the length that costs are given for."""
    plan = job.data.inputs
    text = isinstance(plan, TextPlan)
    return f"a row of {plan.max_tokens} tokens" if text else "an image"


def seconds(value: float) -> str:
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value // 60:.0f} min {value % 60:.0f} s"


def small(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def spread(figures: Mapping[str, float], form: str = ",.1f", scale: float = 1.0) -> str:
    """The median, and the quartiles in brackets."""
    low, median, high = (figures[k] * scale for k in ("low", "median", "high"))
    return f"{median:{form}} [{low:{form}}, {high:{form}}]"


def called(name: str) -> str:
    """A figure's name in words."""
    return SPECIAL.get(name, name.replace("_", " ").capitalize())


def within(name: str) -> str:
    """The same within a sentence: "macro F1", and Pearson's name as it is."""
    words = called(name)
    return words if name == "pearson" else words[:1].lower() + words[1:]


# ----------------------------------------------------------------------------- results


def score_name(test: Mapping[str, Any]) -> str:
    """The figure that sums up a test."""
    return next(n for n in ("accuracy", "micro_f1", "pearson", "loss") if n in test)


def scores(figures: Mapping[str, Any]) -> Table:
    """Every single figure of the best validation and of the test."""
    valid, test = figures["valid"], figures["test"]
    names = [n for n, v in test.items() if isinstance(v, float)]
    rows = [(called(n), f"{valid[n]:.4f}", f"{test[n]:.4f}") for n in names]
    if "confusion" in test:
        total = [sum(map(sum, part["confusion"])) for part in (valid, test)]
        rows.append(("Rows", count(total[0]), count(total[1])))
    note = f"The weights are those of step {valid['step']}, the best on the validation rows."
    return Table("Scores", ("", "validation", "test"), tuple(rows), note=note)


def by_label(figures: Mapping[str, Any]) -> Table | None:
    """The confusion matrix, the labels most often confused, or F1 by label; None where
    there is none of them."""
    test, labels = figures["test"], figures["labels"]
    matrix: Sequence[Sequence[int]] = test.get("confusion", ())
    if matrix and len(labels) <= WIDEST:
        rows = tuple(
            (label, *map(count, row)) for label, row in zip(labels, matrix, strict=True)
        )
        heat = tuple(tuple(n / max(1, sum(row)) for n in row) for row in matrix)
        note = "A row is a true label, a column a predicted one."
        head = ("true", *labels)
        return Table("Confusion matrix of the test rows", head, rows, 1, note, heat)
    if confused := test.get("confused") or _confused(labels, matrix):
        rows = tuple((true, guess, count(n)) for true, guess, n in confused)
        head = ("true", "predicted", "rows")
        note = (
            "The whole matrix is in result.json of the work folder." if matrix else ""
        )
        title = "Labels most often confused, test rows"
        return Table(title, head, rows, words=2, note=note)
    if "f1" in test:
        rows = tuple((label, f"{value:.4f}") for label, value in test["f1"].items())
        return Table("F1 of each label, test rows", ("label", "F1"), rows)
    return None


def _confused(
    labels: Sequence[str], matrix: Sequence[Sequence[int]]
) -> list[tuple[str, str, int]]:
    """The pairs of labels with the most rows: the true one, and what it was taken for."""
    pairs = [
        (true, guess, n)
        for true, row in zip(labels, matrix)
        for guess, n in zip(labels, row, strict=True)
        if n and guess != true
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:CONFUSED]


VECTORS = {
    "head": "what the head reads of the frozen backbone",
    "mean": "the mean of the frozen backbone's last positions",
}


def probe(figures: Mapping[str, Any]) -> Table | None:
    """The linear probe beside what was trained, on the same test rows."""
    found = figures.get("probe")
    if found is None:
        return None
    gain = found["second"] - found["first"]
    rows = (
        ("linear probe", f"{found['first']:.4f}", ""),
        ("trained model", f"{found['second']:.4f}", _interval(gain, found)),
    )
    beside = ""
    if columns := found.get("columns"):
        beside = f", and {columns} of [features] as they are"
    note = (
        f"{_sentence(probe_words(found))} The probe is of {VECTORS[found['vector']]}, "
        f"{found['width']} numbers a row{beside}: fitted on {_part(found, 'train')} training "
        f"rows, its penalty chosen on {_part(found, 'valid')} of valid, tested on "
        f"{_part(found, 'test')} of test, as the trained model here. In brackets is the "
        "interval of the difference (95%, bootstrap of pairs)"
    )
    if found["p"] is not None:
        note += f"; McNemar's exact p is {found['p']:.2g}"
    note += "."
    if found["rows"] != found["of"]:
        note += " gen run --probe full takes all rows."
    head = ("", within(found["score"]), "difference")
    bad = frozenset() if found["verdict"] == "better" else frozenset({1})
    return Table("Against a linear probe", head, rows, note=note, bad=bad)


def calibration(figures: Mapping[str, Any]) -> Table | None:
    """What the temperature and the thresholds change; None where there are none."""
    found = figures.get("calibration")
    if found is None:
        return None
    heads = [
        (split, when)
        for split in ("validation", "test")
        for when in ("before", "after")
    ]
    parts = [
        found[split][when]
        for split in ("valid", "test")
        for when in ("before", "after")
    ]
    names = {"nll": "Negative log-likelihood", "ece": "Calibration error"}
    rows = tuple(
        (names.get(name) or called(name), *(f"{part[name]:.4f}" for part in parts))
        for name in parts[0]
    )
    said = []
    if "temperature" in found:
        said.append(f"the temperature {found['temperature']:.3f}")
    if "threshold" in found:
        said.append(f"the threshold {found['threshold']:.3f}")
    if "thresholds" in found:
        each = (f"{label} {t:.3f}" for label, t in found["thresholds"].items())
        said.append(f"the thresholds {', '.join(each)}")
    note = (
        f"Chosen on the validation rows: {' and '.join(said)}. The calibration error is "
        f"that of probabilities in {found['bins']} bins."
    )
    head = ("", *(f"{split}, {when}" for split, when in heads))
    return Table("Calibration", head, rows, note=note)


def _part(found: Mapping[str, Any], split: str) -> str:
    few, every = found["rows"][split], found["of"][split]
    return count(few) if few == every else f"{count(few)} of {count(every)}"


def _interval(gain: float, found: Mapping[str, Any]) -> str:
    return f"{gain:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"


def probe_words(found: Mapping[str, Any]) -> str:
    """What the probe says of the training, in a line."""
    score, gain = within(found["score"]), found["second"] - found["first"]
    much = f"{score} {found['first']:.4f}, difference {_interval(gain, found)}"
    if found["rows"]["train"] < found["of"]["train"]:
        much += f", the probe on {_part(found, 'train')} training rows"
    return {
        "better": f"the trained model beats it; {much}",
        "level": f"the trained model does NOT clearly beat it; {much}",
        "worse": f"the trained model is WORSE; {much}",
    }[found["verdict"]]


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."


def training(figures: Mapping[str, Any]) -> Table:
    found = figures["training"]
    rows = [
        ("Steps", count(found["steps"])),
        ("Epochs", count(found["epochs"])),
        ("Examples", count(found["examples"])),
    ]
    if "rows" in found:
        rows.append(("Rows an epoch", count(found["rows"])))
    rows.append(("Examples/s", f"{found['examples_per_s']:,.1f}"))
    if "tokens" in found:
        rows.append(("Tokens", count(found["tokens"])))
        rows.append(("Tokens/s", count(found["tokens_per_s"])))
    rows += [
        ("Time in steps", seconds(found["seconds"])),
        ("Steps left out, not finite", count(found["bad_steps"])),
    ]
    return Table("Training", ("", ""), tuple(rows))


def losses(figures: Mapping[str, Any]) -> Table:
    """The curve of the training loss, in parts."""
    rows = tuple(
        (_steps(p["from"], p["to"]), f"{p['loss']:.4f}")
        for p in figures["training"]["loss"]
    )
    return Table("Training loss", ("steps", "mean"), rows)


def _steps(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def evaluations(figures: Mapping[str, Any]) -> Table:
    """The validation figures over the run."""
    found = figures["training"]["evaluations"]
    names = [n for n, v in found[0].items() if isinstance(v, float)] if found else []
    places = [n for n in ("stage", "step") if found and n in found[0]] or ["step"]
    rows = tuple(
        (*(str(one[n]) for n in places), *(f"{one[name]:.4f}" for name in names))
        for one in found
    )
    head = (*places, *map(called, names))
    return Table("Validation", head, rows, words=len(places))


MOST_REASONS = 12  # of a table


def not_used(figures: Mapping[str, Any]) -> Table:
    every = sorted(figures["not_used"].items(), key=lambda one: -one[1])
    rows = [(reason, count(n)) for reason, n in every[:MOST_REASONS]]
    if rest := every[MOST_REASONS:]:
        rows.append((f"{len(rest):,} other reasons", count(sum(n for _, n in rest))))
    note = "They lie in quarantine.jsonl of the work folder, each with its line."
    return Table("Rows that were not used", ("reason", "rows"), tuple(rows), note=note)


SUSPICIOUS = 5  # rows of a check in a table


def cleaning(found: Mapping[str, Any]) -> list[Table]:
    """Rows in and out of the cleaning, by step and by split, and examples of each step."""
    files, used = found["files"], found["used"]

    def counts(by_file: Mapping[str, int]) -> list[str]:
        """For each split that has a file; the others are parts of one."""
        here = [files.get(split) for split in used]
        return ["" if f is None else count(by_file.get(f, 0)) for f in here]

    rows = [("read", *counts(found["read"]))]
    rows += [(f"rewritten: {s}", *counts(n)) for s, n in found["rewritten"].items()]
    reasons = list(found["put_aside"].items())
    rows += [(f"put aside: {why}", *counts(n)) for why, n in reasons[:MOST_REASONS]]
    if rest := reasons[MOST_REASONS:]:
        total = sum((Counter(n) for _, n in rest), Counter[str]())
        rows.append((f"put aside: {len(rest)} other reasons", *counts(total)))
    rows.append(("used", *map(count, used.values())))
    note = (
        "Rewrites are of rows that could be used. All that is put aside lies in "
        "quarantine.jsonl of the work folder, with its line and reason. "
        "Asked for: " + ", ".join(found["cleaning"]) + "."
    )
    examples = [
        (
            step,
            f"{one['file']}:{one['line']}",
            spaced(one["before"]),
            spaced(one["after"]),
        )
        for step, some in found["examples"].items()
        for one in some
    ]
    head = ("step", "row", "before", "after")
    return [
        Table("Rows in and out", ("", *used), tuple(rows), note=note),
        Table("Examples of rewrites", head, tuple(examples), words=4),
    ]


def guard(found: Mapping[str, Any]) -> list[Table]:
    """What the guard found, by check and split, and the most suspicious rows of each check."""
    splits = list(found["sizes"])
    rows = tuple(
        (check, action, *(count(found["counts"][check].get(s, 0)) for s in splits))
        for check, action in found["actions"].items()
    )
    note = (
        f"Of {', '.join(f'{count(n)} {s}' for s, n in found['sizes'].items())} rows. What "
        "compares rows puts training rows aside alone; of the others it tells."
    )
    worst = tuple(
        (check, f"{one['file']}:{one['line']}", one["note"], spaced(one["row"]))
        for check, some in found["worst"].items()
        for one in some[:SUSPICIOUS]
    )
    return [
        Table("Rows that the guard found", ("check", "action", *splits), rows, 2, note),
        Table("The most suspicious", ("check", "row", "why", "what"), worst, words=4),
    ]


# Of k rows that should have a label with probability p, all k having it is a matter of
# sqrt(k (1 - p) / p) standard deviations; guard.py asks for 8, which at p = 1/4 are 22 rows.
FEW_POISONED = 22


def self_test(found: Sequence[Mapping[str, Any]]) -> list[Table]:
    """What each check found of each kind of fault, over the seeds."""
    by_kind: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in found:
        by_kind.setdefault((one["check"], one["kind"]), []).append(one)
    rows = []
    for (check, kind), some in by_kind.items():
        planted, right, wrong = (
            sum(one[name] for one in some) for name in ("planted", "right", "wrong")
        )
        recall = f"{right / planted:.3f}" if planted else ""
        precision = f"{right / (right + wrong):.3f}" if right + wrong else ""
        before = count(some[0]["before"])
        rows.append((check, kind, count(planted), recall, precision, before))
    seeds = sorted({one["seed"] for one in found})
    note = (
        f"Seeds {', '.join(map(str, seeds))}, in copies of the rows. Precision is of what is "
        "found beside that which is found without faults, the last column: alarms that may "
        "be false, or true ones."
    )
    poisoned = [one["planted"] for one in found if one["check"] == "triggers"]
    if poisoned and 0 < min(poisoned) < FEW_POISONED:
        note += (
            f" Triggers were put into {min(poisoned):,} rows each time, a hundredth of the "
            "training rows: in so few one can hardly be told from chance, and mostly is not "
            "found."
        )
    if any(one["planted"] == 0 for one in found):
        note += (
            " Where nothing was planted no row was fit for it: a text that leaks with a "
            "change has eight words, with spaces between them."
        )
    head = ("check", "fault", "planted", "recall", "precision", "found without")
    return [Table("Faults found", head, tuple(rows), 2, note)]


def spaced(text: str) -> str:
    """With white space to be seen where a page would not show it."""
    return re.sub("^ | $| (?= )|(?<= ) ", "\u2423", text)


def certificate(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for check in found:
        measured = check["measured"]
        ran = measured is not None
        verdict = ("yes" if ran else "skipped") if check["holds"] else "NO"
        value, bound = (small(measured), small(check["bound"])) if ran else ("", "")
        rows.append((check["name"], verdict, value, bound, check["note"]))
    head = ("check", "holds", "measured", "at most", "note")
    bad = frozenset(i for i, check in enumerate(found) if not check["holds"])
    return Table("Certificate", head, tuple(rows), bad=bad)


def deployed(figures: Mapping[str, Any]) -> Table | None:
    """The deployed model beside the trained one; None where there is no such."""
    found = figures.get("deployed")
    if found is None:
        return None
    rows = []
    dynamic = found.get("dynamic")  # beside a model whose inputs have known ranges
    others = [found, dynamic] if dynamic else [found]
    for split in ("valid", "test"):
        own = [other[split] for other in others]
        for name, value in own[0]["trained"].items():
            if isinstance(value, float):
                after = [f"{one['deployed'][name]:.4f}" for one in own]
                rows.append((f"{called(name)}, {split}", f"{value:.4f}", *after))
        if "answers_changed" in own[0]:
            count = [f"{one['answers_changed']:,} of {one['rows']:,}" for one in own]
            rows.append((f"Answers changed, {split}", "", *count))
        off = [f"{one['largest_difference']:.3g}" for one in own]
        rows.append((f"Largest difference of outputs, {split}", "", *off))
    sizes = [f"{found['bytes'][k] / 1e6:,.1f} MB" for k in ("trained", "deployed")]
    rows.append(("Weights", *sizes, *[""] * (len(others) - 1)))
    note = (
        f"The deployed model is {spread(found['times_as_fast'], '.2f')} times as fast, "
        f"{found['where']}"
    )
    head = ["", "trained", "deployed"]
    if dynamic:
        times = spread(dynamic["times_as_fast"], ".2f")
        note += f"; {times} times as fast as with a scale for each row of the inputs"
        head.append("a scale for each row")
    title = f"Deployed model, {found['kind']}"
    return Table(title, tuple(head), tuple(rows), note=note)


def steps(figures: Mapping[str, Any]) -> Table | None:
    """The steps of pruning ahead of the last, and that; None where there is one alone."""
    pruned = figures.get("pruned")
    if pruned is None:
        return None
    found = pruned["steps"]
    rows = [
        (
            str(number),
            ", ".join(step["stays"]),
            f"{step['parameters']:,}",
            f"{step['before']:.4f}",
            f"{step['after']:.4f}",
            seconds(step["seconds"]),
        )
        for number, step in enumerate(found, 1)
    ]
    score = found[0]["score"]
    before, after = pruned["before"], figures["valid"][score]
    last = (
        str(len(rows) + 1),
        ", ".join(pruned["stays"]),
        f"{figures['predicted']['parameters']:,}",
        f"{before[score]:.4f}" if before else "",
        f"{after:.4f}",
        seconds(figures["training"]["seconds"]),
    )
    head = (
        "step",
        "stays",
        "parameters",
        "as pruned",
        "once trained",
        "seconds",
    )
    note = (
        f"{called(score)} of the validation rows; the last step is the job's training"
    )
    return Table("Pruned in steps", head, (*rows, last), words=2, note=note)


def exports(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """What was written for other programs, and how near it comes to the model."""
    rows = tuple(
        (
            kind,
            f.get("model", "trained, fp32"),
            count(f["rows"]),
            count(f["labels_differ"]) if "labels_differ" in f else "",
            small(f["largest_difference"]),
            small(f["bound"]),
            f"{f['bytes'] / 2**20:,.1f}",
        )
        for kind, f in found.items()
    )
    head = ("to", "of", "rows", "other labels", "logits differ by", "at most", "MiB")
    why = [
        f"{kind} is of the trained model, since {f['because']}"
        for kind, f in found.items()
        if "because" in f
    ]
    note = _sentence("; ".join(why)) if why else ""
    return Table("Exports, read back and compared", head, rows, note=note)


def rate(figures: Mapping[str, float]) -> str:
    return spread(figures, ",.0f" if figures["median"] >= 1000 else ",.1f")


def bench(found: Mapping[str, Any], *, narrow: bool = False) -> list[Table]:
    """What bench.py measured: a table a kind of work, and the cold starts.

    `narrow` leaves out columns, so that a terminal shows the rest on a line.
    """
    tables = []
    for kind, title in KINDS.items():
        if kind not in found:
            continue
        contenders = found[kind]
        tokens = any("tokens_per_s" in f for f in contenders.values()) and not narrow
        against = any("ours_is_faster" in f for f in contenders.values())
        head = ["", "examples/s"]
        head += ["tokens/s", "padding"] * tokens
        head += ["of the floor", "peak memory"] + ["ours is faster"] * against
        rows = []
        for name, f in contenders.items():
            row = [name, rate(f["examples_per_s"])]
            if tokens:
                row += [rate(f["tokens_per_s"]), share(f["padding"])]
            row.append(f"{f['of_floor']['median']:.0%}")
            row.append(mib(f["peak_bytes"]) if f["peak_bytes"] else "")
            if against:
                faster = f.get("ours_is_faster")
                row.append(spread(faster, ".2f") if faster else "")
            rows.append(tuple(row))
        tables.append(Table(title, tuple(head), tuple(rows)))
    if "cold_start_s" in found:
        rows = [(n, spread(s, ".2f")) for n, s in found["cold_start_s"].items()]
        if "cold_start_of_theirs" in found:
            rows.append(
                ("ours over theirs", spread(found["cold_start_of_theirs"], ".2f"))
            )
        head = ("process start to first prediction", "s")
        tables.append(Table("Cold start", head, tuple(rows)))
    return tables


def bench_words(found: Mapping[str, Any]) -> str:
    """How the tables of the bench were measured."""
    rate = spread(found["product_flops_per_s"], scale=1e-9)
    return (
        f"{found['rounds']} rounds of {count(found['rows'])} rows, in turn, on "
        f"{found['device']} with {found['threads']} threads. Medians, with the quartiles "
        f"in brackets. A large matrix product reaches {rate} GFLOP/s; the floor is the "
        "time that the matrix products alone take at that rate."
    )


def predicted(figures: Mapping[str, Any]) -> Table:
    """What the build predicted beside what was counted and measured.

    Memory is predicted for the batch that it was measured on, where there is one.
    """
    told, counted = figures["predicted"], figures.get("counted") or {}
    bench = figures.get("bench") or {}
    batch = figures.get("predicted_of_bench") or told
    memory = bench.get("memory") or {}
    without = memory.get("without") or {}
    rows, far = [], set()

    def row(name: str, of_build: float, found: float | None, shown: Any) -> None:
        differs = "" if not found or not of_build else f"{found / of_build - 1:+.1%}"
        if differs and abs(found / of_build - 1) > FAR:  # type: ignore[operator]
            far.add(len(rows))
        there = "" if found is None else shown(found)
        rows.append((name, shown(of_build), there, differs))

    row("Parameters", told["parameters"], counted.get("parameters"), count)
    for way in "forward", "backward":
        name = f"{way}_flops"
        row(f"FLOPs of a row, {way}", told[name], counted.get(name), count)
    for kind, name in ("train", "training"), ("predict", "prediction"):
        peak = bench.get(kind, {}).get(figures["name"], {}).get("peak_bytes")
        found = peak - without.get(kind, 0) if memory and peak else None
        row(f"Peak memory, {name}", batch[f"{kind}_bytes"], found, mib)
    images = figures["task"] == "image-classification"

    def words(of: Mapping[str, Any]) -> str:
        each = "" if images else f" of {count(of['tokens'])} tokens"
        return f"{count(of['rows'])} {'images' if images else 'rows'}{each}"

    note = (
        f"FLOPs are of matrix products alone{'' if images else ', of a row of '}"
        f"{'' if images else count(told['tokens']) + ' tokens'}, and counted by torch"
    )
    if told["causal"]:
        note += (
            ", which counts the pairs of tokens too that a causal attention leaves out"
        )
    note += f". Memory is of a batch of {words(batch)}"
    if without:
        note += (
            f", without the {mib(without['train'])} in training and "
            f"{mib(without['predict'])} in prediction that Python, its libraries and the "
            "rows take"
        )
    if far:
        names = ", ".join(rows[i][0] for i in sorted(far))
        note += f". The prediction is off by more than {FAR:.0%} for: {names}"
    return Table(
        "Predicted and measured",
        ("", "predicted", "measured", "differs by"),
        tuple(rows),
        note=note + ".",
        bad=frozenset(far),
    )


# -------------------------------------------------------------------------- provenance


def job(figures: Mapping[str, Any]) -> Table:
    backbone = figures["backbone"]
    rows = [
        ("Task", figures["task"]),
        ("Labels", ", ".join(figures["labels"])),
        ("Model", figures["model"]),
        ("Backbone", backbone["source"]),
        ("Revision", backbone["revision"] or "none: not from a hub"),
        ("Its licence", backbone["licence"] or "not stated"),
        ("Parameters", count(figures["predicted"]["parameters"])),
        ("of them trained", count(figures["predicted"]["trained"])),
        ("Spec", figures["spec"]),
        ("Package", figures["package"]),
    ]
    return Table("Job", ("", ""), tuple(rows), words=2)


def recipe(figures: Mapping[str, Any]) -> Table:
    rows = []
    for name, value in figures["recipe"].items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append((name, shown))
    return Table("Recipe", ("", ""), tuple(rows), words=2)


def environment(figures: Mapping[str, Any]) -> Table:
    found = figures["environment"]
    rows = [
        ("Processor", found["processor"]),
        ("Cores", str(found["cores"])),
        ("Threads of torch", str(found["threads"])),
        ("Memory", mib(found["memory_bytes"])),
        ("System", found["system"]),
    ]
    if found["gpu"]:
        rows.insert(0, ("GPU", found["gpu"]))
    rows += found["versions"].items()
    return Table("Machine and versions", ("", ""), tuple(rows), words=2)


def durations(figures: Mapping[str, Any]) -> Table:
    found = figures["seconds"]
    rows = [(name, seconds(value)) for name, value in found.items()]
    rows.append(("together", seconds(sum(found.values()))))
    return Table("Durations", ("stage", "time"), tuple(rows))


def hashes(figures: Mapping[str, Any]) -> Table:
    rows = tuple(figures["hashes"].items())
    return Table("SHA-256", ("file", "hash"), rows, words=2)
