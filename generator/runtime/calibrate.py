"""`gen calibrate`: how important the units of each block are, for edits that prune.

Magnitudes are read off the weights. The Taylor scores come from the unedited package, run
on training rows (importance.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from generator.compile import as_read, import_job
from generator.errors import fail
from generator.facts import Facts, Scores, dump_scores, weights_hash
from generator.ir.dims import Dim, dim
from generator.ir.job import Job, Module, parameters
from generator.ir.sources import Init
from generator.runtime import build as building
from generator.runtime import gather
from generator.runtime.checkpoint import resolve
from generator.runtime.programs import Programs
from generator.runtime.ready import need
from generator.runtime.vocab import data_file
from generator.runtime.weights import weights_path
from generator.spec import SpecFile
from generator.spec.edits import PruneFfn, PruneHeads

METHODS = ("magnitude", "taylor")
LOSSES = {"multi-label": "binary", "regression": "squared"}
# Of each kind of unit its dimension, and that of the axis which the units make.
KINDS: Mapping[str, tuple[str, Dim]] = {
    "ff": ("F", dim("F")),
    "heads": ("H", dim("H") * dim("D")),
}


def calibrate(args: argparse.Namespace) -> int:
    """The command. 0; GenError where something cannot be scored."""
    need("torch", "safetensors")
    figures = [_one(args, building.load_spec(path)) for path in args.specs]
    if args.json:
        print(json.dumps(figures, indent=1))
    return 0


def _one(args: argparse.Namespace, spec_file: SpecFile) -> dict[str, Any]:
    # As it is before any edit: blocks and units are those of the checkpoint.
    unedited = as_read(spec_file)
    here = Path(spec_file.file).resolve().parent
    facts = building.facts_for(spec_file)
    job = import_job(unedited, facts)
    weights = weights_path(resolve(spec_file.spec.backbone.source, here))
    wanted = {
        edit.score
        for edit in spec_file.spec.edit
        if isinstance(edit, (PruneFfn, PruneHeads))
    }
    methods = sorted(wanted) or [*METHODS]
    values: dict[str, tuple[float, ...]] = {}
    files = ()
    if "magnitude" in methods:
        values |= _magnitudes(job, weights)
    if "taylor" in methods:
        root = (args.root or here).resolve()
        quiet = args.quiet or args.json
        found, files = _taylor(unedited, facts, job, weights, root, args.rows, quiet)
        values |= found
    scores = Scores(values, weights_hash(facts.card), files)
    folder = gather.facts_folder(here, spec_file.spec.name)
    gather.save_facts(replace(facts, scores=dump_scores(scores)), folder)
    if not (args.quiet or args.json):
        print(f"{folder / gather.SCORES}: {', '.join(methods)}, {len(values)} lists")
    return {"folder": str(folder), "methods": methods, "lists": len(values)}


def _magnitudes(job: Job, weights: Path) -> dict[str, tuple[float, ...]]:
    """Of each unit the product of the norms of its weights, biases left out."""
    import torch
    from safetensors.torch import load_file

    from generator.runtime.interpret import load

    files = (
        sorted(weights.glob("model*.safetensors")) if weights.is_dir() else [weights]
    )
    tensors = {key: t for file in files for key, t in load_file(file).items()}
    state = load(job, tensors)
    found = {}
    for number, kind, module, path in _units(job):
        symbol, whole = KINDS[kind]
        count = job.model.sizes[symbol]
        groups = job.model.sizes.get("G", count)
        score = torch.ones(count, dtype=torch.float64)
        for p in module.parameters:
            value = state[path + p.name].double()
            for axis, d in enumerate(p.type.shape):
                if value.ndim < 2:
                    continue
                rows = value.movedim(axis, 0)
                if d == whole:
                    score *= rows.unflatten(0, (count, -1)).flatten(1).norm(dim=1)
                elif kind == "heads" and d == dim("G") * dim("D"):
                    shared = rows.unflatten(0, (groups, -1)).flatten(1).norm(dim=1)
                    score *= shared.repeat_interleave(count // groups)
        found[f"magnitude/{kind}/{number}"] = tuple(score.tolist())
    return found


def _taylor(
    spec_file: SpecFile,
    facts: Facts,
    job: Job,
    weights: Path,
    root: Path,
    rows: int,
    quiet: bool,
) -> tuple[dict[str, tuple[float, ...]], tuple]:
    units, names = {}, {}
    for number, kind, module, path in _units(job):
        symbol, whole = KINDS[kind]
        for p in module.parameters:
            if len(p.type.shape) == 2 and p.type.shape[1] == whole:
                linear = path + p.name.removesuffix(".weight")
                units[linear] = job.model.sizes[symbol]
                names[linear] = f"taylor/{kind}/{number}"
    asked = {
        "units": units,
        "new": [p.path for p in parameters(job) if isinstance(p.source, Init)],
        "loss": LOSSES.get(job.task, "cross-entropy"),
        "rows": rows,
    }
    with tempfile.TemporaryDirectory() as folder:
        out, work = Path(folder, "out"), Path(folder, "work")
        work.mkdir()
        building.build(building.plan(spec_file, facts, out))
        request = Path(folder, "asked.json")
        request.write_text(json.dumps(asked))
        ended = Programs(out, job.name, quiet).python(
            Path(__file__).with_name("importance.py"),
            job.name, root, weights.resolve(), work, request,
            output="keep",
        )  # fmt: skip
        if ended.code:
            raise fail(
                "G145",
                f"the units of {job.name} cannot be scored; what went wrong stands above",
                place=spec_file.place("data.train"),
                help="mend the data, or say where its paths start: --root FOLDER",
            )
    found = json.loads(ended.output.splitlines()[-1])
    return (
        {names[path]: tuple(values) for path, values in found.items()},
        tuple(data_file(root, one) for one in _data_files(job)),
    )


def _data_files(job: Job) -> list[str]:
    return [f for f in (job.data.train, job.data.valid, job.data.test) if f is not None]


def _units(job: Job) -> Iterator[tuple[int, str, Module, str]]:
    """Number, kind, module and path of whatever makes and reads units in each block."""
    model = job.model
    for number, block in enumerate(model.blocks):
        todo = [(block.module, f"{block.name}.")]
        while todo:
            name, path = todo.pop()
            module = model.by_name[name]
            todo += [(i.module, f"{path}{i.name}.") for i in module.instances]
            shapes = {d for p in module.parameters for d in p.type.shape}
            for kind, (_, whole) in KINDS.items():
                if whole in shapes:
                    yield number, kind, module, path
