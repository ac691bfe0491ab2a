"""`gen suggest DATA-OR-SPEC --backbone A --backbone B`: which backbone to start from.

Each is run once, frozen, over the same training rows, and probed in folds: how well a
linear model of its vectors does on rows that it was not fitted on, with an interval, and
with LogME beside. The spec of the best is what is written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from generator.compile import draft, unselected
from generator.cost import describe
from generator.errors import Diagnostic, GenError, fail
from generator.facts import Facts
from generator.ir.plans import Task
from generator.runtime import build as building
from generator.runtime import frozen, linear, tables, terminal
from generator.runtime.gather import gather_facts
from generator.runtime.init import Seen, given, seen, start, write_new
from generator.runtime.ready import find, need
from generator.runtime.tables import Table
from generator.spec import SpecFile, read_spec
from generator.spec.model import Backbone, Train
from generator.spec.words import listed, toml

FOLDS = 5
FEWEST = 4 * FOLDS  # rows, from which on folds tell something


@dataclass(frozen=True)
class Told:
    """What a backbone gives for the rows, before any training."""

    source: str
    score: float  # of the probes, on the rows that each was not fitted on
    low: float
    high: float
    log_evidence: float  # LogME
    vector: str  # the one that most folds chose
    parameters: int
    rows_per_s: float  # frozen, on this machine
    seconds: float  # of all that was done for it
    logits: Any  # (N, K), of the rows in their order
    rows: Any  # (N) their numbers
    targets: Any


@dataclass(frozen=True)
class Ranking:
    """The best first, and those that could not be tried with the reason."""

    task: Task
    told: tuple[Told, ...]
    left: tuple[tuple[str, Diagnostic], ...]
    # How much worse than the best each one is on the same rows: an interval, None where
    # the rows are not the same ones.
    behind: tuple[linear.Difference | None, ...]

    @property
    def level(self) -> tuple[Told, ...]:
        """Those that the rows do not tell from the best."""
        pairs = zip(self.told[1:], self.behind[1:], strict=True)
        return tuple(t for t, d in pairs if d is not None and d.low <= 0 <= d.high)


def suggest(args: argparse.Namespace) -> int:
    """The command. 0; GenError where no backbone can be tried."""
    need("torch", "safetensors", "tqdm", "sklearn", "rich")
    sources = list(dict.fromkeys(args.backbone))
    of = _of(args)
    ranking = ranked(of, sources, args)
    best = ranking.told[0]
    text, path = of.written(best, why(ranking))
    if path is not None:
        write_new(path, text)
    if args.json:
        print(json.dumps(figures(ranking, path), indent=1))
    elif not args.quiet:
        terminal.show([table(ranking), *left(ranking)])
        print(f"Start from {best.source}: {why(ranking)}")
        print(f"{path}: written; gen run {path}" if path else said(of, best))
    return 0


# ------------------------------------------------------------------- what it is asked of


@dataclass(frozen=True)
class Asked:
    """The rows, and the specs of backbones for them."""

    root: Path  # where data paths start
    name: str
    # Of a source the spec that it is tried with, and of a backbone that was tried and the
    # reason for it the text to start from, and where that is written; None is nowhere.
    spec: Callable[[str], SpecFile]
    written: Callable[[Told, str], tuple[str, Path | None]]


def _of(args: argparse.Namespace) -> Asked:
    if len(args.data) == 1 and args.data[0].suffix == ".toml":
        return of_spec(building.load_spec(args.data[0]), args.out, args.root)
    looked = seen(args.data, args.out)
    return of_data(looked, args.root)


def of_data(looked: Seen, root: Path | None) -> Asked:
    def spec(source: str) -> SpecFile:
        return read_spec(start(looked, source).text, str(looked.path))

    def written(best: Told, reason: str) -> tuple[str, Path]:
        return start(looked, best.source, reason).text, looked.path

    return Asked(root or looked.folder, looked.name, spec, written)


def of_spec(spec_file: SpecFile, out: Path | None, root: Path | None) -> Asked:
    """Its data and cleaning with other backbones; a spec that is there is never changed."""
    folder = Path(spec_file.file).resolve().parent
    to = folder if out is None else out.resolve().parent
    if out is not None and out.exists():
        raise fail(
            "G527",
            f"{out} is there already",
            help="it is not overwritten: name another with --out FILE, or move it",
        )

    def spec(source: str) -> SpecFile:
        plain = Backbone(source=given(source, folder))
        return replace(spec_file, spec=replace(spec_file.spec, backbone=plain))

    def written(best: Told, reason: str) -> tuple[str, Path | None]:
        return with_source(spec_file, given(best.source, to)), out

    return Asked(root or folder, spec_file.spec.name, spec, written)


def with_source(spec_file: SpecFile, source: str) -> str:
    """The text of a spec with another backbone, and nothing else changed."""
    place = spec_file.place("backbone.from")
    lines = spec_file.text.split("\n")
    line = lines[place.line - 1]
    before, after = line[: place.column - 1], line[place.column - 1 + place.width :]
    lines[place.line - 1] = f"{before}{toml(source)}{after}"
    return "\n".join(lines)


def said(of: Asked, best: Told) -> str:
    """What to do with the best, where no spec is written."""
    return f"from = {toml(best.source)} in [backbone] of {of.name}, or --out FILE"


# ------------------------------------------------------------------------- the ranking


def ranked(of: Asked, sources: Sequence[str], args: argparse.Namespace) -> Ranking:
    """Every backbone tried. GenError (G536) where none can be."""
    told: list[Told] = []
    left: list[tuple[str, Diagnostic]] = []
    task: Task = "text-classification"
    for source in sources:
        try:
            spec_file = plain(of.spec(source))
            task = spec_file.spec.task
            told.append(tried(spec_file, source, of, args))
        except GenError as error:
            left.append((source, error.diagnostics[0]))
    if not told:
        raise GenError(
            [
                Diagnostic(
                    "G536",
                    f"{source} cannot be tried: {found.message}",
                    help=found.help or "name others with --backbone",
                )
                for source, found in left
            ]
        )
    told.sort(key=lambda one: (-one.score, one.parameters, one.source))
    best = told[0]
    behind = tuple(
        (
            linear.compared(task, one.logits, best.logits, best.targets)
            if same_rows(one, best)
            else None
        )
        for one in told
    )
    return Ranking(task, tuple(told), tuple(left), behind)


def same_rows(one: Told, other: Told) -> bool:
    import numpy as np

    return np.array_equal(one.rows, other.rows) and np.array_equal(
        one.targets, other.targets
    )


def plain(spec_file: SpecFile) -> SpecFile:
    """The spec without what is done to its backbone or in training, and with one name
    whatever it will be called: what was run is then found again."""
    spec = replace(unselected(spec_file).spec, name="tried", edit=(), train=Train())
    return replace(spec_file, spec=spec)


def tried(
    spec_file: SpecFile, source: str, of: Asked, args: argparse.Namespace
) -> Told:
    """A backbone on the rows."""
    import time

    begun = time.perf_counter()
    spec = spec_file.spec
    facts = facts_of(spec_file)
    _, weights = find(spec_file, facts)
    job = draft(spec_file, facts).job
    name = sha256(spec.backbone.source.encode()).hexdigest()[:12]
    work = (args.work or Path("runs") / f"{of.name}_suggest") / name
    work.mkdir(parents=True, exist_ok=True)
    asked = frozen.Asked(splits=("train",), rows=args.rows)
    where = (of.root, weights, work, work / "features")
    found = frozen.vectors(spec_file, facts, *where, asked, args.quiet or args.json)
    rows = in_order(found["train"])
    if len(rows.rows) < FEWEST:
        raise fail(
            "G523",
            f"there are {len(rows.rows)} training rows to try it on",
            help=f"{FEWEST} are the fewest that tell something",
        )
    labels = len(spec.labels)
    logits, vector = out_of_folds(spec.task, labels, rows)
    low, high = linear.interval(spec.task, logits, rows.targets)
    return Told(
        source=source,
        score=linear.score(spec.task, logits, rows.targets),
        low=low,
        high=high,
        log_evidence=max(
            linear.log_evidence(x, rows.targets, labels, spec.task)
            for x in rows.of.values()
        ),
        vector=vector,
        parameters=describe(job).parameters,
        rows_per_s=rows.per_s,
        seconds=time.perf_counter() - begun,
        logits=logits,
        rows=rows.rows,
        targets=rows.targets,
    )


def facts_of(spec_file: SpecFile) -> Facts:
    """Of the backbone; they are not kept, as the spec may not be there yet."""
    folder = Path(spec_file.file).resolve().parent
    source, text = spec_file.spec.backbone.source, bool(spec_file.spec.data.text)
    facts = gather_facts(source, folder, convert_tokenizer=text)
    return facts if text else replace(facts, tokenizer=None)


def in_order(found: frozen.Vectors) -> frozen.Vectors:
    """The rows by their numbers, whatever their lengths: the same for every backbone."""
    order = found.rows.argsort()
    of = {name: x[order] for name, x in found.of.items()}
    rows, targets = found.rows[order], found.targets[order]
    return replace(found, rows=rows, targets=targets, of=of)


def out_of_folds(task: str, labels: int, found: frozen.Vectors) -> tuple[Any, str]:
    """The logits (N, K) of probes that were not fitted on a row, and the vector that most
    of them are of. Vector and penalty are chosen within the rows that each is fitted on.
    """
    import numpy as np

    logits: Any = None
    votes: dict[str, int] = {}
    for number, (inside, outside) in enumerate(linear.folds(len(found.rows), FOLDS, 0)):
        fit, choose = next(linear.folds(len(inside), FOLDS, 1 + number))
        y, best = found.targets[inside], {}
        for name, x in found.of.items():
            x = x[inside]
            best[name] = linear.chosen(
                task, labels, (x[fit], y[fit]), (x[choose], y[choose])
            )
        name = min(best, key=lambda name: best[name][1])
        votes[name] = votes.get(name, 0) + 1
        strength = best[name][0].strength
        probe = linear.fit(task, labels, found.of[name][inside], y, strength)
        some = probe.logits(found.of[name][outside])
        if logits is None:
            logits = np.zeros((len(found.rows), some.shape[1]))
        logits[outside] = some
    return logits, max(votes, key=lambda name: votes[name])


# ------------------------------------------------------------------------ what is said


def table(ranking: Ranking) -> Table:
    score = tables.within(linear.score_name(ranking.task))
    rows = []
    for one, apart in zip(ranking.told, ranking.behind, strict=True):
        far = ""
        if one is not ranking.told[0] and apart is not None:
            gap = apart.first - apart.second
            far = f"{gap:+.4f} [{-apart.high:+.4f}, {-apart.low:+.4f}]"
        rows.append(
            (
                one.source,
                f"{one.score:.4f} [{one.low:.4f}, {one.high:.4f}]",
                far,
                f"{one.log_evidence:.4f}",
                f"{one.parameters:,}",
                f"{one.rows_per_s:,.0f}" if one.rows_per_s else "kept",
                tables.seconds(one.seconds),
            )
        )
    count = len(ranking.told[0].rows)
    note = (
        f"Linear probes of the frozen backbones in {FOLDS} folds of {count:,} training "
        "rows, each row told by a probe that was not fitted on it. Intervals are of 95%, "
        "by a bootstrap over rows, that of the difference over pairs. LogME is the log "
        "evidence a row of a Bayesian linear model, higher is better."
    )
    head = ("backbone", score, "to the best", "LogME", "parameters", "rows/s", "took")
    return Table("Backbones", head, tuple(rows), note=note)


def left(ranking: Ranking) -> list[Table]:
    rows = tuple((source, found.message) for source, found in ranking.left)
    return [Table("Not tried", ("backbone", "why"), rows, words=2)] if rows else []


def why(ranking: Ranking) -> str:
    best, score = ranking.told[0], linear.score_name(ranking.task)
    words = (
        f"best of {len(ranking.told)} frozen, by a linear probe of {len(best.rows):,} "
        f"training rows: {tables.within(score)} {best.score:.4f} "
        f"[{best.low:.4f}, {best.high:.4f}]"
    )
    if len(ranking.told) == 1:
        words = words.replace("best of 1 frozen", "the only one that was tried")
    if ranking.level:
        named = listed([one.source for one in ranking.level], "and")
        words += f"; the rows do not tell it from {named}"
    return words


def figures(ranking: Ranking, path: Path | None) -> dict[str, Any]:
    """As JSON values."""

    def one(told: Told) -> dict[str, Any]:
        big = ("logits", "rows", "targets")
        values = {n: v for n, v in vars(told).items() if n not in big}
        return values | {"rows": len(told.rows)}

    return {
        "score": linear.score_name(ranking.task),
        "backbones": [
            one(told) | {"behind": asdict(far) if far is not None else None}
            for told, far in zip(ranking.told, ranking.behind, strict=True)
        ],
        "not_tried": [
            {"source": source, "code": found.code, "why": found.message}
            for source, found in ranking.left
        ],
        "spec": str(path) if path else None,
    }
