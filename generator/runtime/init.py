"""`gen init DATA`: look at data, and write a commented spec to start from."""

from __future__ import annotations

import argparse
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generator.compile import Compiled, draft
from generator.errors import GenError, Place, fail, quote
from generator.facts import Facts
from generator.propose import (
    UNASKED,
    Asked,
    BackboneFacts,
    Chosen,
    Proposal,
    RowFacts,
    TableFacts,
    choose,
    leaks,
    propose,
    spec_text,
)
from generator.propose.recipe import (
    AT_HAND,
    FEWEST_ROWS,
    backbone_for,
    other_script,
    row_texts,
)
from generator.runtime import label_folder
from generator.runtime.label_folder import Contents, Listing
from generator.runtime.look import SPLITS, count_rows, find_files, look
from generator.runtime.programs import installed
from generator.spec import SpecFile, read_spec
from generator.spec.rules import DATA_FILE, NAME, SOURCE, check_string
from generator.spec.source import FolderSource, parse_source

SPLIT_WORDS = frozenset(
    (*(word for words in SPLITS.values() for word in words), "data")
)


@dataclass(frozen=True)
class Start:
    """A spec to start from, not yet written."""

    path: Path
    text: str
    proposal: Proposal
    table: TableFacts
    rows: RowFacts
    at_hand: bool  # whether the backbone was, so that the spec was compiled


def init(args: argparse.Namespace) -> int:
    """`gen init DATA...`. 0; GenError where a spec cannot be proposed or is there."""
    with listed(args.data, args.out) as (data, lines):
        asked = Asked(tuple(args.label), tuple(args.text))
        quiet = args.quiet or args.json
        start = make(data, args.backbone, args.out, asked, quiet)
        write_new(start.path, start.text)
    if args.json:
        print(json.dumps(_figures(start), indent=1))
    elif not args.quiet:
        print("\n".join([*lines, *_words(start)]))
    return 0


@contextmanager
def listed(
    data: Sequence[Path], out: Path | None
) -> Iterator[tuple[Sequence[Path], list[str]]]:
    """The data files, and what to say of them. A folder of images or texts becomes files
    that list them, beside the spec, which are taken away again where no spec comes of them.
    """
    contents = label_folder.contents_of(data[0]) if len(data) == 1 else None
    if contents is None:
        yield data, []
        return
    found = label_folder.listings(data[0], contents)
    folder = Path() if out is None else out.parent
    paths = label_folder.paths_of(found, contents, data[0], folder)
    for path in paths.values():
        _free(path)
        _free(label_folder.left_out(path))
    try:
        unread = label_folder.write(found, contents, paths)
    except UnicodeEncodeError as error:
        raise fail(
            "G520",
            f"the path of an image is not UTF-8: {error.object!r}",
            help="rename it: a list of images is a text",
        ) from None
    lines = [line for one in found for line in _listed(one, contents, paths, unread)]
    try:
        yield list(paths.values()), lines
    except BaseException:
        for path in paths.values():
            path.unlink()
            label_folder.left_out(path).unlink(missing_ok=True)
        raise


def _listed(
    one: Listing,
    contents: Contents,
    paths: Mapping[str, Path],
    unread: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """What is in a list, and what is not."""
    path, faults = paths[one.split], unread[one.split]
    line = f"{path}: written, {len(one.files) - len(faults):,} {contents.name}"
    yield line + (f"; {one.others:,} other files are left out" if one.others else "")
    if faults:
        yield (
            f"{label_folder.left_out(path)}: written, {len(faults):,} files that are left "
            f"out, as they cannot be read: {faults[0]}" + ", ..." * (len(faults) > 1)
        )


def make(
    data: Sequence[Path],
    backbone: str | None,
    out: Path | None,
    asked: Asked = UNASKED,
    quiet: bool = True,
) -> Start:
    """Look at the data and propose a spec; nothing is written."""
    return start(seen(data, out, asked, quiet), backbone)


@dataclass(frozen=True)
class Seen:
    """What was looked at, for whatever backbone."""

    name: str  # of the job
    path: Path  # of the spec that is to be
    train: Path
    table: TableFacts
    chosen: Chosen
    rows: RowFacts

    @property
    def folder(self) -> Path:
        """That of the spec, without links."""
        return Path(os.path.realpath(self.path.parent))


def seen(
    data: Sequence[Path],
    out: Path | None,
    asked: Asked = UNASKED,
    quiet: bool = True,
) -> Seen:
    """Look at the data; GenError where no spec can be made of them."""
    files = find_files(data)
    name = job_name(files, out)
    path = out or Path(f"{name}.toml")
    _free(path)
    folder = Path(os.path.realpath(path.parent))
    names = {split: _from_folder(file, folder) for split, file in files.items()}
    table = look(files["train"], quiet)
    with _shown_at(files["train"]):
        chosen = choose(table, str(files["train"]), asked)
    rows = count_rows(files, names, chosen, quiet)
    with _shown_at(files["train"]):
        _enough(files["train"], chosen, rows)
    return Seen(name, path, files["train"], table, chosen, rows)


def start(of: Seen, backbone: str | None, why: str = "as --backbone says") -> Start:
    """The spec to start from, with a backbone, or one that suits the data."""
    table, chosen, rows, folder = of.table, of.chosen, of.rows, of.folder
    if backbone is None:
        source, why = _backbone(chosen, table)
    else:
        source = given(backbone, folder)
    found = leaks(table, chosen)
    known = BackboneFacts(source, why)
    proposal = propose(of.name, table, chosen, rows, found, known)
    facts = _facts(proposal, folder)
    if facts is not None:
        known = _at_hand(known, facts, proposal, of.path, table, chosen)
        proposal = propose(of.name, table, chosen, rows, found, known)
    text = spec_text(proposal)
    spec_file = read_spec(text, str(of.path))
    if facts is not None:
        _compiled(spec_file, facts)  # what is written builds
    return Start(of.path, text, proposal, table, rows, facts is not None)


# Names and places --------------------------------------------------------------------


def job_name(files: Mapping[str, Path], out: Path | None) -> str:
    """The name of the job: of the file to write, else of the data, or of its folder."""
    train = Path(os.path.abspath(files["train"]))
    stems = [out.stem] if out is not None else [train.stem, *_parents(train)]
    for stem in stems:
        plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
        words = re.findall(r"[a-z0-9]+", plain.lower())
        if out is None:
            words = [w for w in words if w not in SPLIT_WORDS]
        name = re.sub(r"^[0-9_]+", "", "_".join(words))[:59]
        for one in (name, f"{name}_job"):
            if name and check_string(NAME, one) is None:
                return one
    return "my_job"


def _parents(path: Path) -> list[str]:
    return [parent.name for parent in path.parents[:2]]


def _free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise _taken(path)


def _taken(path: Path) -> GenError:
    return fail(
        "G527",
        f"{path} is there already",
        help="it is not overwritten: name another with --out FILE, or move it",
    )


def _from_folder(file: Path, folder: Path) -> str:
    """A path for the spec in `folder`; GenError where none can stand in a spec."""
    name = _relative(file, folder)
    if finding := check_string(DATA_FILE, name):
        raise fail(
            "G520",
            f"the path {quote(name)} {finding.message}",
            help="rename it: the spec has to name it",
        )
    return name


def given(source: str, folder: Path) -> str:
    """A backbone as the spec in `folder` has it; GenError where it is none."""
    if finding := check_string(SOURCE, source):
        raise fail(
            "G528",
            f"--backbone {finding.message}",
            help="\n".join(filter(None, (finding.label, finding.help))),
        )
    if not isinstance(parse_source(source), FolderSource) or os.path.isabs(source):
        return source
    return _relative(Path(source), folder)


def _relative(path: Path, folder: Path) -> str:
    """The path from a folder; links to folders are followed, since ".." does, too."""
    there = Path(os.path.realpath(path.parent), path.name)
    try:
        return Path(os.path.relpath(there, folder)).as_posix()
    except ValueError:  # another drive
        return there.as_posix()


@contextmanager
def _shown_at(path: Path) -> Iterator[None]:
    """A GenError within has the first line of the file as its place, if it is text."""
    try:
        yield
    except GenError as error:
        if path.suffix == ".parquet":
            raise
        place = Place(str(path), 1, 1, 1)
        raise GenError([replace(d, place=place) for d in error.diagnostics]) from None


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there; GenError (G527) where it is by now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise _taken(path) from None


def _enough(train: Path, chosen: Chosen, rows: RowFacts) -> None:
    if rows.train.usable < FEWEST_ROWS:
        raise fail(
            "G523",
            f"{train} has {rows.train.usable} rows with an input and a label",
            help=f"{FEWEST_ROWS} are the fewest from which some can be set aside",
        )
    fewest = {"regression": 0, "multi-label": 1}.get(chosen.task, 2)
    if sum(count > 0 for count in rows.left.values()) < fewest:
        raise fail(
            "G525",
            f"the rows of {train} that are in no other file have fewer than {fewest} "
            f"labels in {quote(chosen.label)}",
            help="training rows must not be those of valid or test",
        )
    if chosen.task == "regression" and rows.spread == 0:
        raise fail(
            "G525",
            f"all rows of {train} have the same {quote(chosen.label)}",
            help="add rows with another: from one value there is nothing to learn",
        )


# The backbone ------------------------------------------------------------------------


def _backbone(chosen: Chosen, table: TableFacts) -> tuple[str, str]:
    texts = (text for row in row_texts(table, chosen) for text in row)
    module = AT_HAND.removeprefix("package:").partition("/")[0]
    return backbone_for(chosen.task, other_script(texts), installed(module))


def _facts(proposal: Proposal, folder: Path) -> Facts | None:
    """The facts of the backbone; None where it is of the hub and not on this machine.

    GenError where it cannot be read, or is not of the task (G528).
    """
    from generator import archs
    from generator.runtime.checkpoint import read_config, resolve
    from generator.runtime.gather import gather

    said = source = proposal.value("backbone.from")
    hub = source.startswith("hf:")
    if isinstance(parse_source(source), FolderSource):
        # By itself: the spec's folder, from which ".." leads to it, may not be there yet.
        source = os.path.normpath(folder / source)
    if hub and not installed("huggingface_hub"):
        return None
    task = proposal.value("task")
    try:
        checkpoint = resolve(source, folder, allow_network=False)
        config = read_config(checkpoint)
        images = task == "image-classification"
        facts = gather(checkpoint, convert_tokenizer=not images)
    except GenError:
        if hub:  # nothing of it is on this machine, or not all
            return None
        raise
    architecture = archs.find(config["model_type"])
    if task not in architecture.TASKS:
        raise fail(
            "G528",
            f"{said} is for {', '.join(architecture.TASKS)}, and the data are for {task}",
            help="name another --backbone, or none for a proposal",
        )
    return replace(facts, card=replace(facts.card, source=said))


def _at_hand(
    known: BackboneFacts,
    facts: Facts,
    proposal: Proposal,
    path: Path,
    table: TableFacts,
    chosen: Chosen,
) -> BackboneFacts:
    """What the backbone reads, how wide it is, and how many tokens the sample's rows
    have."""
    width = facts.card.config.get("hidden_size") or facts.card.config.get("dim")
    width = width if isinstance(width, int) else None
    if not chosen.text:
        return BackboneFacts(known.source, known.why, None, width)
    model = _compiled(_without_length(proposal, path), facts).imported.model
    bound = next(d.bound for d in model.dims if d.symbol == "T")
    lengths = None
    if facts.tokenizer is not None and installed("tokenizers"):
        lengths = _lengths(facts.tokenizer, row_texts(table, chosen))
    return BackboneFacts(known.source, known.why, bound, width, lengths)


def _compiled(spec_file: SpecFile, facts: Facts) -> Compiled:
    """The spec compiled; a GenError has no place, as the file is not there yet."""
    try:
        return draft(spec_file, facts)
    except GenError as error:
        raise GenError([replace(d, place=None) for d in error.diagnostics]) from None


def _without_length(proposal: Proposal, path: Path) -> SpecFile:
    """The spec with the length left out, which is then what the backbone reads."""
    choices = tuple(c for c in proposal.choices if c.path != "data.max_tokens")
    text = spec_text(Proposal(choices, proposal.seen, proposal.warnings))
    return read_spec(text, str(path))


def _lengths(tokenizer: bytes, rows: Sequence[tuple[str, ...]]) -> list[int]:
    from generator.runtime.tokenizer import TOKENIZER, parse_tokenizer

    found = parse_tokenizer(tokenizer, TOKENIZER)
    lengths: list[int] = []
    for i in range(0, len(rows), 256):
        some = [row[0] if len(row) == 1 else row for row in rows[i : i + 256]]
        lengths += (len(one.ids) for one in found.encode_batch_fast(some))
    return lengths


# What is said ------------------------------------------------------------------------


def _words(start: Start) -> list[str]:
    proposal = start.proposal
    lines = [*proposal.seen]
    for key in ("task", "data.text", "data.image", "data.label", "backbone.from"):
        choice = next((c for c in proposal.choices if c.path == key), None)
        if choice is not None:
            value = choice.value
            shown = value if isinstance(value, str) else ", ".join(value)
            lines.append(
                f"{key.rpartition('.')[2]}: {quote(shown)[1:-1]}; {choice.why}"
            )
    lines += (f"to look at: {line}" for line in proposal.warnings)
    if not start.at_hand:
        lines.append("the backbone is not on this machine: gen build asks the hub")
    lines.append(f"{start.path}: written; gen run {start.path}")
    return lines


def _figures(start: Start) -> dict[str, Any]:
    rows = start.rows
    return {
        "spec": str(start.path),
        "choices": {c.path: c.value for c in start.proposal.choices},
        "why": {c.path: c.why for c in start.proposal.choices if c.why},
        "warnings": list(start.proposal.warnings),
        "sample": len(start.table.sample),
        "files": [
            {
                "split": s.split,
                "file": s.file,
                "rows": s.rows,
                "usable": s.usable,
                "labels": dict(s.labels),
            }
            for s in rows.splits
        ],
        "columns": [
            {"name": c.name, "missing": c.missing, "kinds": dict(c.kinds)}
            for c in start.table.columns
        ],
    }
