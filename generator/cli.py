"""The command line: arguments in, files and words out. Each command is one function.

Heavy modules are imported by the commands that need them: `gen build` loads neither
torch nor transformers.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generator.errors import Diagnostic, GenError, fail, render_diagnostics
from generator.parser import parser

OK, DIFFERS, WRONG = 0, 1, 2
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk, which no file's name comes with
LARGEST_SHOWN = 1 << 24  # bytes of a file of which a line is shown below a message


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 it differs or fails, 2 bad input."""
    args = parser(FUNCTIONS).parse_args(argv)
    try:
        return args.run(args)
    except GenError as error:
        sys.stderr.write(explained(error.diagnostics))
        return WRONG
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough; without this, closing it complains again.
        sys.stderr.close()
        return OK
    except OSError as error:
        # What is known beforehand, as of --out and --work, is looked at there.
        place = error.filename2 or error.filename
        if place is None and error.errno not in FULL:
            raise
        wrong = Diagnostic(
            "G403",
            f"{place or 'a file'} cannot be read or written: {error.strerror}",
            help="mend that, and run this again",
        )
        sys.stderr.write(explained([wrong]))
        return WRONG


def explained(diagnostics: Sequence[Diagnostic]) -> str:
    """The diagnostics with the lines of the files that they name."""
    sources: dict[str, str] = {}
    for d in diagnostics:
        if d.place is not None and d.place.file not in sources:
            try:
                if Path(d.place.file).stat().st_size > LARGEST_SHOWN:
                    continue
                data = Path(d.place.file).read_bytes()
            except OSError:
                continue
            sources[d.place.file] = data.decode("utf-8-sig", errors="replace")
    return render_diagnostics(diagnostics, sources) + "\n"


def say(args: argparse.Namespace, text: str) -> None:
    if not (args.quiet or args.json):
        print(text)


def give(args: argparse.Namespace, figures: Any) -> None:
    if args.json:
        print(json.dumps(figures, indent=1))


# --------------------------------------------------------------------------- building


def run_build(args: argparse.Namespace) -> int:
    from generator.runtime import build as building
    from generator.spec import explain_defaults

    specs = [building.load_spec(path) for path in _all_or_none(args.specs)]
    if args.explain_defaults:
        for spec_file in specs:
            sys.stdout.write(explain_defaults(spec_file))
        return OK
    _distinct([s.spec.name for s in specs])
    plans = []
    for spec_file in specs:
        facts = building.facts_for(spec_file, allow_network=not args.offline)
        building.writable(args.out / spec_file.spec.name)
        plans.append(building.plan(spec_file, facts, args.out))
    if not args.force:
        building.refuse_edits(plans)  # of all specs, before any is written
    figures = []
    for plan in plans:
        built = building.build(plan, force=args.force)
        figures.append(_built(args, built))
    give(args, figures)
    return OK


def run_init(args: argparse.Namespace) -> int:
    from generator.runtime.init import init

    return init(args)


def _all_or_none(paths: Sequence[Path]) -> Sequence[Path]:
    """Every spec is read before any is built, so that all errors come at once."""
    from generator.runtime.build import load_spec

    found: list[Diagnostic] = []
    for path in paths:
        try:
            load_spec(path)
        except GenError as error:
            found.extend(error.diagnostics)
    if found:
        raise GenError(found)
    return paths


def _distinct(names: Sequence[str]) -> None:
    for name in {n for n in names if names.count(n) > 1}:
        raise fail(
            "G404",
            f'two of the specs are named "{name}", and would write the same folder',
            help="give each its own name, or build them with another --out",
        )


def _built(args: argparse.Namespace, built: Any) -> dict[str, Any]:
    from generator.cost import describe
    from generator.runtime.tables import edits_table, gflop, mib, one_row

    plan = built.plan
    job = plan.compiled.job
    cost, before = describe(job), describe(plan.compiled.edited)
    what = f"{len(built.written)} written" if built.written else "nothing to do"
    say(args, f"{plan.folder}: {what}, {len(plan.compiled.drafts) + 1} files")
    for path in built.removed:
        say(args, f"  removed {path}, which is no longer part of it")
    for name in plan.those("orphaned"):
        if name not in built.removed:
            say(args, f"  {name} is no file of the package; it is left alone")
    say(
        args,
        f"  {cost.parameters:,} parameters, {cost.trained:,} trained; "
        f"{gflop(cost.predict(cost.tokens))} GFLOP to predict {one_row(job)} "
        f"({gflop(before.forward(before.tokens))} before the passes)",
    )
    say(
        args,
        f"  predicted peak memory: {mib(cost.train_bytes)} in training, "
        f"{mib(cost.predict_bytes)} in prediction",
    )
    for line in edits_table(plan.compiled.stages):
        say(args, f"  {line}")
    for note in plan.compiled.notes:
        say(args, f"  note: {note}")
    return {
        "name": job.name,
        "folder": str(plan.folder),
        "written": list(built.written),
        "removed": list(built.removed),
        "parameters": cost.parameters,
        "trained": cost.trained,
        "forward_flops": cost.forward(cost.tokens),
        "train_bytes": cost.train_bytes,
        "predict_bytes": cost.predict_bytes,
        "edits": [stage.figures for stage in plan.compiled.stages],
        "notes": list(plan.compiled.notes),
    }


def run_check(args: argparse.Namespace) -> int:
    from generator.runtime import build as building

    figures = []
    for path in _all_or_none(args.specs):
        again = building.command(path, args.out)
        mends = {
            "missing": again,
            "stale": again,
            "edited": f"move the edit into the spec, then {again} --force",
            "orphaned": "remove it: no build writes it",
        }
        spec_file = building.load_spec(path)
        facts = building.facts_for(spec_file, allow_network=False)
        plan = building.plan(spec_file, facts, args.out)
        wrong = building.check(plan)
        for one in wrong:
            say(args, f"{plan.folder / one.path}: {one.state}; {mends[one.state]}")
        if not wrong:
            say(args, f"{plan.folder}: current")
        figures.append(
            {
                "name": spec_file.spec.name,
                "folder": str(plan.folder),
                "files": [{"path": f.path, "state": f.state} for f in wrong],
            }
        )
    give(args, figures)
    return DIFFERS if any(f["files"] for f in figures) else OK


def run_facts(args: argparse.Namespace) -> int:
    from generator.runtime.facts import facts

    _all_or_none(args.specs)
    return facts(args)


# ---------------------------------------------------------------------------- running


def run_run(args: argparse.Namespace) -> int:
    from generator.runtime.run import run

    return run(args)


def run_search(args: argparse.Namespace) -> int:
    from generator.runtime.search import search

    return search(args)


def run_suggest(args: argparse.Namespace) -> int:
    from generator.runtime.suggest import suggest

    return suggest(args)


def run_certify(args: argparse.Namespace) -> int:
    from generator.runtime.certify import certify

    return certify(args)


def run_calibrate(args: argparse.Namespace) -> int:
    from generator.runtime.calibrate import calibrate

    return calibrate(args)


def run_data(args: argparse.Namespace) -> int:
    from generator.runtime.data_report import data

    return data(args)


def run_guard(args: argparse.Namespace) -> int:
    from generator.runtime.guard import guard

    return guard(args)


def run_bench(args: argparse.Namespace) -> int:
    from generator.runtime.measure import bench

    return bench(args)


def run_export(args: argparse.Namespace) -> int:
    from generator.runtime.export import export

    return export(args)


def run_vendor(args: argparse.Namespace) -> int:
    from generator.runtime.vendor import vendor

    return vendor(args)


def run_diff(args: argparse.Namespace) -> int:
    from generator.runtime.diff import diff

    return diff(args)


# --------------------------------------------------------------------------------- IR


def run_dump(args: argparse.Namespace) -> int:
    from generator.compile import draft
    from generator.ir.text import print_job
    from generator.runtime import build as building

    spec_file = building.load_spec(args.spec)
    compiled = draft(spec_file, building.facts_for(spec_file))
    names = ["import", *(step.name for step in compiled.steps)]
    if args.after is not None and args.after not in names:
        raise fail(
            "G305", f'no pass "{args.after}"', help=f"there are {', '.join(names)}"
        )
    if args.after_all:
        print("# after import")
    if args.after_all or args.after == "import":
        sys.stdout.write(print_job(compiled.imported))
    for step in compiled.steps:
        if args.after_all:
            print(f"\n# after {step.name}")
        if args.after_all or step.name == args.after:
            sys.stdout.write(print_job(step.job))
    if not args.after_all and args.after is None:
        sys.stdout.write(print_job(compiled.job))
    return OK


def _read_job(file: str):
    from generator.ir.text import parse_job
    from generator.ir.verify import verify

    if file == "-":
        text = sys.stdin.read()
    else:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise fail(
                "G302", f"cannot read {file}: {why}", help="name a .gir file"
            ) from None
    job = parse_job(text, "standard input" if file == "-" else file)
    verify(job)
    return job


def run_opt(args: argparse.Namespace) -> int:
    from generator.ir.text import print_job
    from generator.passes import run

    names = None
    if args.passes is not None:
        names = [name for name in args.passes.split(",") if name]
    job, _ = run(_read_job(args.file), names)
    sys.stdout.write(print_job(job))
    return OK


def run_render(args: argparse.Namespace) -> int:
    from generator.render.package import finished, render_python
    from generator.runtime.files import write_if_changed

    job = _read_job(args.file)
    if job.level != "shaped":
        raise fail(
            "G307",
            f"rendering takes a job that is shaped, not {job.level}",
            help=f"gen opt {args.file} | gen render",
        )
    for one in render_python(job):
        if args.out is None:
            sys.stdout.write(f"# {'-' * 70} {one.path}\n{finished(one).decode()}")
        else:
            write_if_changed(args.out / one.path, finished(one))
    return OK


def run_list(args: argparse.Namespace) -> int:
    from generator.listing import listing

    print("\n".join(listing(args.what)))
    return OK


def run_schema(args: argparse.Namespace) -> int:
    from generator.spec import json_schema, reference_markdown

    if args.reference:
        sys.stdout.write(reference_markdown())
    else:
        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return OK


FUNCTIONS = {
    "build": run_build,
    "init": run_init,
    "search": run_search,
    "suggest": run_suggest,
    "check": run_check,
    "facts": run_facts,
    "calibrate": run_calibrate,
    "data": run_data,
    "guard": run_guard,
    "run": run_run,
    "certify": run_certify,
    "bench": run_bench,
    "export": run_export,
    "vendor": run_vendor,
    "diff": run_diff,
    "dump": run_dump,
    "opt": run_opt,
    "render": run_render,
    "list": run_list,
    "schema": run_schema,
}


if __name__ == "__main__":
    sys.exit(main())
