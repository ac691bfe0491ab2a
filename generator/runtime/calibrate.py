"""`gen calibrate`: how important blocks and their units are, and the singular values of
their linears, for edits that choose by them.

Magnitudes and singular values are read off the weights. The other scores come from the
unedited package, run on training rows (importance.py), where every block has all its
positions. Channels of the width, which all blocks share, are scored where norms take
them: there the stream is as the blocks before have left it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from generator.arguments import features_list
from generator.compile import as_read, chosen_from, unselected
from generator.errors import fail
from generator.facts import Facts, Scores, dump_scores, weights_hash
from generator.importing import import_job
from generator.ir.dims import Dim, dim
from generator.ir.head import classifier, vector
from generator.ir.job import Job, Module, parameters
from generator.ir.sources import Init
from generator.ir.weightmap import paths_of
from generator.passes.chosen_blocks import symbols_in
from generator.runtime import build as building
from generator.runtime import gather
from generator.runtime.checkpoint import resolve
from generator.runtime.programs import SIGNALLED, Programs
from generator.runtime.ready import need
from generator.runtime.vocab import data_file
from generator.runtime.weights import weights_path
from generator.spec import SpecFile
from generator.spec.edits import KeepLayers, LowRank, PruneFfn, PruneHeads, PruneWidth
from generator.spec.select import By

METHODS = ("magnitude", "taylor")
OF_BLOCKS = ("taylor", "influence")  # methods that score whole blocks
LEFT_OUT = ("only-needed-positions",)  # of the passes
LOSSES = {"multi-label": "binary", "regression": "squared"}
# Of each kind of unit its dimension, and that of the axis which the units make.
KINDS: Mapping[str, tuple[str, Dim]] = {
    "ff": ("F", dim("F")),
    "heads": ("H", dim("H") * dim("D")),
}
LISTS = {"ff": "hidden", "heads": "heads"}  # what lists of those that stay are called
WIDTH = "C"  # of the residual stream, whose channels are units of all blocks
BLOCKS = "L"
LEAST = -1.0  # what is left out already: scores are not negative
NORMS = ("layer_norm", "rms_norm")


def calibrate(args: argparse.Namespace) -> int:
    """The command. 0; GenError where something cannot be scored."""
    need("torch", "safetensors")
    figures = [_one(args, building.load_spec(path)) for path in args.specs]
    if args.json:
        print(json.dumps(figures, indent=1))
    return 0


def _one(args: argparse.Namespace, spec_file: SpecFile) -> dict[str, Any]:
    here = Path(spec_file.file).resolve().parent
    facts = building.facts_for(spec_file)
    weights = weights_path(resolve(spec_file.spec.backbone.source, here))
    root = (args.root or here).resolve()
    quiet = args.quiet or args.json
    facts, methods, lists = score(spec_file, facts, weights, root, args.rows, quiet)
    folder = gather.facts_folder(here, spec_file.spec.name)
    gather.save_facts(facts, folder)
    if not quiet:
        print(f"{folder / gather.SCORES}: {', '.join(methods)}, {lists} lists")
    return {"folder": str(folder), "methods": methods, "lists": lists}


def score(
    spec_file: SpecFile,
    facts: Facts,
    weights: Path,
    root: Path,
    rows: int,
    quiet: bool,
    step: SpecFile | None = None,
) -> tuple[Facts, list[str], int]:
    """The facts with the scores that the spec's edits and features ask for, by which
    methods, and how many lists they are. GenError where something cannot be scored.

    What is scored is the model before any edit, whose blocks and units are those of the
    checkpoint; or that of a `step`, which has left some of them out already.
    """
    unedited = as_read(spec_file)
    job = import_job(unedited, facts)
    sizes = job.model.sizes
    if step is not None:
        unedited, job = step, chosen_from(step, facts)
    edits = spec_file.spec.edit
    wanted = {
        e.score for e in edits if isinstance(e, (PruneFfn, PruneHeads, PruneWidth))
    }
    chosen = {e.choose for e in edits if isinstance(e, KeepLayers)}
    wanted |= chosen & {*OF_BLOCKS}
    by = spec_file.spec.features.select.by
    factored = [e for e in edits if isinstance(e, LowRank) and e.energy is not None]
    methods = sorted(wanted)
    if not methods and not factored and not by:  # the spec asks for nothing yet
        methods = [*METHODS]
    values: dict[str, tuple[float, ...]] = {}
    files = ()
    if "magnitude" in methods:
        values |= _magnitudes(job, weights)
    if factored:
        values |= _singular_values(job, weights, {n for e in factored for n in e.on})
        methods.append("singular")
    if {*OF_BLOCKS} & {*methods}:
        found, files = _taylor(unedited, facts, job, weights, root, rows, quiet)
        values |= found
    if step is not None:
        values = dict(_in_the_backbone(values, job, sizes))
    if by:
        # Of the model as edited, for which the scores above may be needed.
        found = Scores(values, weights_hash(facts.card), files)
        scored = replace(facts, scores=dump_scores(found)) if values else facts
        values |= _features(spec_file, scored, by, weights, root, rows, quiet)
        methods.append(by)
        files = tuple(data_file(root, one) for one in data_files(job))
    scores = Scores(values, weights_hash(facts.card), files)
    return replace(facts, scores=dump_scores(scores)), methods, len(values)


def _in_the_backbone(
    values: Mapping[str, tuple[float, ...]], job: Job, sizes: Mapping[str, int]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The scores of an edited job for all that the backbone has, of these sizes: what is
    left out counts least, so that nothing comes back."""
    numbers, kept = job.block_numbers, job.model.kept

    def among(total: int, index: Sequence[int], some: tuple[float, ...]):
        found = [LEAST] * total
        for i, value in zip(index, some, strict=True):
            found[i] = value
        return tuple(found)

    for name, some in values.items():
        match name.split("/"):
            case [_, "layers"]:
                yield name, among(sizes[BLOCKS], numbers, some)
            case [_, "width"]:
                total = sizes[WIDTH]
                yield name, among(total, kept.get("width", range(total)), some)
            case [method, "ff" | "heads" as kind, number]:
                block = job.model.blocks[int(number)].name
                index: Sequence[int] = range(sizes[KINDS[kind][0]])
                for one, entries in kept.items():
                    if one.startswith(f"{block}.") and one.endswith(f".{LISTS[kind]}"):
                        each = sizes["D"] if kind == "heads" else 1
                        index = sorted({entry // each for entry in entries})
                there = f"{method}/{kind}/{numbers[int(number)]}"
                yield there, among(sizes[KINDS[kind][0]], index, some)
            case [method, number, linear]:
                yield f"{method}/{numbers[int(number)]}/{linear}", some

    # An edit ahead of the one that leaves blocks out chooses in these as well.
    gone = [number for number in range(sizes[BLOCKS]) if number not in numbers]
    parts = {tuple(name.split("/")[:2]) for name in values}
    for method, kind in sorted(part for part in parts if part[1] in KINDS):
        for number in gone:
            yield f"{method}/{kind}/{number}", (LEAST,) * sizes[KINDS[kind][0]]


def _features(
    spec_file: SpecFile,
    facts: Facts,
    by: By,
    weights: Path,
    root: Path,
    rows: int,
    quiet: bool,
) -> dict[str, tuple[float, ...]]:
    """Of each number of the vector that the head reads, after all edits, on training rows."""
    need("sklearn")
    from generator.runtime import frozen, selection

    whole = unselected(spec_file)
    job = chosen_from(whole, facts)
    found = classifier(job.model)
    width = found.module.types[vector(found)].shape[-1].value(job.model.sizes)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work")
        work.mkdir()
        asked = frozen.Asked(splits=("train",), rows=rows, means=False)
        where = (root, weights, work, Path(folder, "features"))
        made = frozen.vectors(whole, facts, *where, asked, quiet)
        train = made["train"]
        x = train.of[frozen.HEAD][:, :width]  # what joins it stands behind
        scored = selection.scores(by, job.task, x, train.targets)
    return {features_list(by, job): scored}


def _magnitudes(job: Job, weights: Path) -> dict[str, tuple[float, ...]]:
    """Of each unit the product of the norms of its weights, biases left out."""
    import torch

    state = _state(job, weights)
    found = {}
    for number, kind, module, path, symbol in _units(job):
        count, whole = job.model.sizes[symbol], _axis(kind, symbol)
        shared_by = symbol.replace("H", "G")  # key heads
        groups = job.model.sizes.get(shared_by, count)
        score = torch.ones(count, dtype=torch.float64)
        for p in module.parameters:
            value = state[path + p.name].double()
            for axis, d in enumerate(p.type.shape):
                if value.ndim < 2:
                    continue
                rows = value.movedim(axis, 0)
                if d == whole:
                    score *= rows.unflatten(0, (count, -1)).flatten(1).norm(dim=1)
                elif kind == "heads" and d == dim(shared_by) * dim("D"):
                    shared = rows.unflatten(0, (groups, -1)).flatten(1).norm(dim=1)
                    score *= shared.repeat_interleave(count // groups)
        found[f"magnitude/{kind}/{number}"] = tuple(score.tolist())
    shares = torch.zeros(job.model.sizes[WIDTH], dtype=torch.float64)
    for path, axis in _of_width(job):
        squares = state[path].double().movedim(axis, 0).flatten(1).square().sum(1)
        shares += squares / squares.sum().clamp(min=1e-300)
    found["magnitude/width"] = tuple(shares.tolist())
    return found


def _singular_values(
    job: Job, weights: Path, names: Collection[str]
) -> dict[str, tuple[float, ...]]:
    """Of the linears of these names in each block, the largest first."""
    import torch

    state, found = _state(job, weights), {}
    for number, block in enumerate(job.model.blocks):
        for name in names:
            matrix = state.get(f"{block.name}.{name}.weight")
            if matrix is not None and matrix.ndim == 2:
                values = torch.linalg.svdvals(matrix.double())
                found[f"singular/{number}/{name}"] = tuple(values.tolist())
    return found


def _state(job: Job, weights: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    from generator.runtime.interpret import load

    files = (
        sorted(weights.glob("model*.safetensors")) if weights.is_dir() else [weights]
    )
    return load(job, {key: t for file in files for key, t in load_file(file).items()})


def _of_width(job: Job) -> Iterator[tuple[str, int]]:
    """The matrices and tables of the checkpoint that write the width's channels or read
    them, and on which axis. Each counts by the parts that its channels have of its squares:
    a table of many rows counts no more than another."""
    new = {p.path for p in parameters(job) if isinstance(p.source, Init)}
    for name, paths in paths_of(job.model).items():
        for p in job.model.by_name[name].parameters:
            if len(p.type.shape) > 1 and dim(WIDTH) in p.type.shape:
                # The last of two: what a dense layer of the head gives is no channel.
                axis = max(i for i, d in enumerate(p.type.shape) if d == dim(WIDTH))
                yield from (
                    (at + p.name, axis) for at in paths if at + p.name not in new
                )


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
    for number, kind, module, path, symbol in _units(job):
        for p in module.parameters:
            if len(p.type.shape) == 2 and p.type.shape[1] == _axis(kind, symbol):
                linear = path + p.name.removesuffix(".weight")
                units[linear] = job.model.sizes[symbol]
                names[linear] = f"taylor/{kind}/{number}"
    for path in _norms(job):
        units[path], names[path] = job.model.sizes[WIDTH], "taylor/width"
    asked = {
        "units": units,
        "blocks": [block.name for block in job.model.blocks],
        "new": [p.path for p in parameters(job) if isinstance(p.source, Init)],
        "loss": (
            "standardised"
            if job.task == "regression" and spec_file.spec.train.standardise
            else LOSSES.get(job.task, "cross-entropy")
        ),
        "rows": rows,
    }
    with tempfile.TemporaryDirectory() as folder:
        out, work = Path(folder, "out"), Path(folder, "work")
        work.mkdir()
        building.build(building.plan(spec_file, facts, out, LEFT_OUT))
        request = Path(folder, "asked.json")
        request.write_text(json.dumps(asked))
        ended = Programs(out, job.name, quiet).python(
            Path(__file__).with_name("importance.py"),
            job.name, root, weights.resolve(), work, request,
            output="keep",
        )  # fmt: skip
        if ended.code >= SIGNALLED:
            raise fail(
                "G145",
                f"the units of {job.name} were not scored: a signal ended the program "
                f"({ended.code - SIGNALLED})",
                help="run this again, with more memory free where that was the reason",
            )
        if ended.code:
            raise fail(
                "G145",
                f"the units of {job.name} cannot be scored; what went wrong stands above",
                place=spec_file.place("data.train"),
                help="mend the data, or say where its paths start: --root FOLDER",
            )
    names |= {method: f"{method}/layers" for method in OF_BLOCKS}
    found: dict[str, tuple[float, ...]] = {}
    for path, values in json.loads(ended.output.splitlines()[-1]).items():
        so_far = found.get(names[path], (0.0,) * len(values))
        found[names[path]] = tuple(a + b for a, b in zip(so_far, values, strict=True))
    return (
        found,
        tuple(data_file(root, one) for one in data_files(job)),
    )


def data_files(job: Job) -> list[str]:
    """Of a job's rows, from its root."""
    return [f for f in (job.data.train, job.data.valid, job.data.test) if f is not None]


def _norms(job: Job) -> Iterator[str]:
    """The paths of the norms over the width."""
    for name, paths in paths_of(job.model).items():
        module = job.model.by_name[name]
        for op in module.ops:
            if op.kind in NORMS and module.types[op.args[0]].shape[-1] == dim(WIDTH):
                yield from (at + op.name for at in paths)


def _axis(kind: str, symbol: str) -> Dim:
    """The axis that units make, where their number is another dimension in some blocks."""
    usual, whole = KINDS[kind]
    return whole.substitute({usual: dim(symbol)})


def _units(job: Job) -> Iterator[tuple[int, str, Module, str, str]]:
    """Number, kind, module and path of whatever makes and reads units in each block, and
    the dimension that says how many these are."""
    model = job.model
    for number, block in enumerate(model.blocks):
        todo = [(block.module, f"{block.name}.")]
        while todo:
            name, path = todo.pop()
            module = model.by_name[name]
            todo += [(i.module, f"{path}{i.name}.") for i in module.instances]
            shapes = {d for p in module.parameters for d in p.type.shape}
            for kind, (usual, _) in KINDS.items():
                for symbol in sorted(symbols_in(module, usual)):
                    if _axis(kind, symbol) in shapes:
                        yield number, kind, module, path, symbol
