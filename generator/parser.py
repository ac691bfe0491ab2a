"""The arguments of every command: what `gen --help` shows, and nothing that runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WHAT = ("archs", "edits", "passes", "tasks", "codes", "ops")  # of `gen list`
EXPORTS = ("onnx", "torch", "transformers")
Run = Callable[[argparse.Namespace], int]


class _Version(argparse.Action):
    """Looks the version up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        try:
            version = metadata.version("gen-compiler")
        except metadata.PackageNotFoundError:  # run from a checkout
            version = "of a checkout that is not installed"
        print(f"gen {version}")
        parser.exit()


def parser(functions: Mapping[str, Run]) -> argparse.ArgumentParser:
    """The parser; `run` of what it parses is the function of the command's name."""
    top = argparse.ArgumentParser(
        prog="gen", description="Compiles a fine-tuning job to plain PyTorch source."
    )
    top.add_argument("--version", nargs=0, action=_Version, help="print it and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=functions[name])
        return sub

    build = command("build", "write the packages of specs")
    build.add_argument("specs", nargs="+", type=Path, metavar="SPEC")
    _out(build)
    build.add_argument("--force", action="store_true", help="overwrite hand edits")
    build.add_argument(
        "--explain-defaults",
        action="store_true",
        help="print the specs with every default filled in, and write nothing",
    )
    build.add_argument("--offline", action="store_true", help="never ask the hub")
    _long(build)

    init = command("init", "look at data and write a spec to start from")
    init.add_argument("data", nargs="+", type=Path, metavar="DATA")
    init.add_argument(
        "--label",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="of the label, or one of 0 and 1 for each; default: by names and values",
    )
    init.add_argument(
        "--text",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="of the text, or the two of a pair; default: by names and lengths",
    )
    init.add_argument("--backbone", help="default: one that suits the data")
    init.add_argument("--out", type=Path, metavar="FILE", help="default: NAME.toml")
    _long(init)

    suggest = command("suggest", "which backbone to start from, by frozen features")
    suggest.add_argument("data", nargs="+", type=Path, metavar="DATA-OR-SPEC")
    suggest.add_argument(
        "--backbone",
        action="append",
        required=True,
        help="one to try; once for each of them",
    )
    suggest.add_argument(
        "--rows", type=_at_least_one, default=2000, help="training rows to try them on"
    )
    suggest.add_argument(
        "--root", type=Path, help="where data paths start; the spec's folder"
    )
    suggest.add_argument("--work", type=Path, help="default: runs/<name>_suggest")
    suggest.add_argument(
        "--out", type=Path, metavar="FILE", help="the spec to write; of data NAME.toml"
    )
    _long(suggest)

    check = command("check", "is everything generated current and unedited?")
    check.add_argument("specs", nargs="+", type=Path, metavar="SPEC")
    _out(check)
    _long(check)

    facts = command("facts", "gather what builds may know beside specs")
    facts.add_argument("specs", nargs="+", type=Path, metavar="SPEC")
    facts.add_argument("--refresh", action="store_true", help="gather them anew")
    facts.add_argument(
        "--complete", action="store_true", help="fill in what was unverified"
    )
    facts.add_argument(
        "--vocabulary",
        action="store_true",
        help="count the tokens that the training rows use",
    )
    facts.add_argument(
        "--root", type=Path, help="where data paths start; the spec's folder"
    )
    _long(facts)

    calibrate = command("calibrate", "score what edits may prune")
    calibrate.add_argument("specs", nargs="+", type=Path, metavar="SPEC")
    calibrate.add_argument(
        "--root", type=Path, help="where data paths start; the spec's folder"
    )
    calibrate.add_argument(
        "--rows", type=_at_least_one, default=2048, help="training rows to score on"
    )
    _long(calibrate)

    guard = command("guard", "look for what is suspicious in a job's rows")
    guard.add_argument("spec", type=Path, metavar="SPEC")
    _out(guard)
    guard.add_argument("--work", type=Path, help="default: runs/<name>")
    guard.add_argument(
        "--root", type=Path, help="where data paths start; the spec's folder"
    )
    guard.add_argument(
        "--self-test",
        action="store_true",
        help="plant faults in a copy of the rows, and measure what is found of them",
    )
    _long(guard)

    run = command("run", "build, train, test, certify, bench and report a job")
    run.add_argument("spec", type=Path, metavar="SPEC")
    _out(run)
    run.add_argument("--work", type=Path, help="default: runs/<name>")
    run.add_argument(
        "--root", type=Path, help="where data paths start; the spec's folder"
    )
    run.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE",
        help="the teacher's weights; it is trained first where there are none",
    )
    run.add_argument("--resume", action="store_true", help="go on with a stopped run")
    run.add_argument(
        "--fresh", action="store_true", help="start over; an earlier run is put aside"
    )
    run.add_argument(
        "--record", action="store_true", help="make what is measured part of the facts"
    )
    run.add_argument("--no-bench", action="store_true", help="leave the bench out")
    run.add_argument(
        "--anyway",
        action="store_true",
        help="train in 16 bits, and deploy, though it is slower here",
    )
    run.add_argument(
        "--probe",
        choices=("short", "full", "off"),
        default="short",
        help="of a linear probe beside the result: few rows, all of them, or none",
    )
    _long(run)

    search = command("search", "try candidates of a spec, and keep the best of them")
    search.add_argument("spec", type=Path, metavar="SPEC")
    search.add_argument("--work", type=Path, help="default: runs/<name>_search")
    search.add_argument(
        "--root", type=Path, help="where data paths start; the spec's folder"
    )
    search.add_argument(
        "--jobs", type=_at_least_one, default=1, help="worker processes"
    )
    search.add_argument("--trials", type=_at_least_one, help="instead of the spec's")
    search.add_argument("--hours", type=_hours, help="instead of the spec's")
    search.add_argument(
        "--sampler",
        choices=("tpe", "nsga2", "random"),
        help="instead of the spec's",
    )
    search.add_argument("--storage", metavar="URL", help="instead of the spec's")
    search.add_argument(
        "--join", action="store_true", help="work for a search that runs elsewhere"
    )
    search.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    search.add_argument(
        "--no-test", action="store_true", help="leave the test of the front for later"
    )
    search.add_argument(
        "--beside",
        type=Path,
        metavar="WORK",
        help="the work folder of another search of the same, for the report",
    )
    _long(search)

    for name, help in (
        ("data", "prepare a job's rows, and report what became of them"),
        ("certify", "run a job's certificate and print it"),
        ("bench", "measure a job, side by side with transformers"),
    ):
        sub = command(name, help)
        sub.add_argument("spec", type=Path, metavar="SPEC")
        _out(sub)
        sub.add_argument("--work", type=Path, help="default: runs/<name>")
        sub.add_argument("--root", type=Path, help="where data paths start")
        _long(sub)
        if name == "bench":
            sub.add_argument("--rows", type=_at_least_one, help="rows of a round")
            sub.add_argument("--rounds", type=_at_least_one, help="rounds to time")
            sub.add_argument(
                "--tokens-per-row",
                type=_tokens,
                metavar="N",
                help="join and cut the rows of text to N tokens, or real: as they are",
            )

    export = command("export", "write a job's trained model for other programs")
    export.add_argument("spec", type=Path, metavar="SPEC")
    export.add_argument("--to", choices=EXPORTS, required=True, help="as what")
    export.add_argument("--weights", type=Path, help="default: what gen run trained")
    export.add_argument(
        "--into", type=Path, metavar="FOLDER", help="default: export/TO in --work"
    )
    export.add_argument(
        "--rows", type=_at_least_one, help="how many rows it is checked on; 1000"
    )
    _out(export)
    export.add_argument("--work", type=Path, help="default: runs/<name>")
    export.add_argument("--root", type=Path, help="where data paths start")
    _long(export)

    vendor = command("vendor", "copy a job's package into another repository")
    vendor.add_argument("spec", type=Path, metavar="SPEC")
    vendor.add_argument("dest", type=Path, metavar="DEST")
    _out(vendor)
    vendor.add_argument("--force", action="store_true", help="overwrite hand edits")
    _long(vendor)

    diff = command("diff", "what differs between two specs' models")
    diff.add_argument("a", type=Path, metavar="A")
    diff.add_argument("b", type=Path, metavar="B")
    _long(diff)

    dump = command("dump", "print a job's IR")
    dump.add_argument("spec", type=Path, metavar="SPEC")
    dump.add_argument(
        "--after",
        metavar="PASS",
        help="after this pass, or import: as it is before all of them",
    )
    dump.add_argument(
        "--after-all", action="store_true", help="after every pass in turn"
    )

    opt = command("opt", "run passes on IR text")
    opt.add_argument("file", help="a .gir file, or - for standard input")
    opt.add_argument("--passes", help="names with commas between; default: all of them")

    render = command("render", "write the source files of IR text")
    render.add_argument("file", nargs="?", default="-", help="a .gir file, or -")
    render.add_argument("--out", type=Path, help="a folder; default: standard output")

    lists = command("list", "what there is of tasks, archs, edits, passes or codes")
    lists.add_argument("what", choices=WHAT)

    schema = command("schema", "print the JSON Schema of specs")
    schema.add_argument("--reference", action="store_true", help="the reference page")
    return top


def _out(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--out", type=Path, default=Path("generated"), help="default: generated"
    )


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 10000:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 10000")
    return hours


def _tokens(text: str) -> str:
    if text != "real" and (not text.isdecimal() or int(text) < 2):
        raise argparse.ArgumentTypeError(f"{text} is neither real nor 2 or more")
    return text


def _long(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--quiet", action="store_true", help="say nothing but errors")
    sub.add_argument("--json", action="store_true", help="one JSON object, all figures")
