"""The vectors that a job's model gives for its rows before any training.

The package is built apart, with all positions of its last block, and run by features.py.
The vectors come back memory-mapped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from generator.compile import Compiled, draft
from generator.errors import Place, fail
from generator.facts import Facts
from generator.ir.cut import halves
from generator.ir.head import classifier, reader, states_paths
from generator.ir.job import Job, Model
from generator.runtime.programs import Programs
from generator.spec import SpecFile

LEFT_OUT = ("only-needed-positions",)  # of the passes: the mean is of all positions
HEAD, MEAN = "head", "mean"  # what the head reads; the mean of the positions
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Vectors:
    """Of some rows of a split, in one order."""

    rows: Any  # (N) their numbers in the split
    targets: Any  # (N), or (N, K)
    of: Mapping[str, Any]  # (N, C), f32: HEAD, and MEAN where that is another
    columns: int = 0  # how many of C, the last ones, rows have in columns of [features]
    logits: Any = None  # (N, K) of the trained model, where it was run
    per_s: float = 0.0  # rows a second; 0 where they were there already
    size: int = 0  # rows of the whole split


@dataclass(frozen=True)
class Asked:
    """Which vectors are wanted."""

    splits: Sequence[str] = SPLITS
    rows: int | None = None  # of each split at most
    # Or: to how many forward passes for each training row all may come; 0 is no matter.
    passes: float = 0.0
    means: bool = True  # the mean of the positions too
    # Weights whose logits on the test rows are wanted, and the folder of their package.
    trained: tuple[Path, Path] | None = None
    # Where that package keeps what its frozen part gave, if it does.
    cache: Path | None = None


def vectors(
    spec_file: SpecFile,
    facts: Facts,
    root: Path,
    weights: Path,
    work: Path,
    folder: Path,
    asked: Asked,
    quiet: bool = True,
) -> dict[str, Vectors]:
    """By split; the files are kept in `folder`. GenError where they cannot be made."""
    compiled = draft(spec_file, facts, LEFT_OUT)
    job = compiled.edited
    trained, package = asked.trained or ("", Path())
    name = f"{job.name}_frozen"  # beside the package that was trained
    # The cache of the package, of which the last block may give one position alone.
    cut = draft(spec_file, facts).job.model if asked.cache else None
    kept = cut is not None and bool(cut.cut) and asked.cache is not None
    own = cut is not None and kept and not alike(cut, compiled.job.model)
    request = {
        "folder": str(folder.resolve()),
        "splits": [*asked.splits],
        "rows": asked.rows,
        "passes": asked.passes,
        **places(job, asked.means and not own),
        "cache": str(asked.cache.resolve()) if kept and asked.cache else "",
        "own": own,
        "trained": str(Path(trained).resolve()) if trained else "",
        "of_trained": ["test"],
        "package": [str(package.resolve().parent), package.name],
        "cuda": job.target.device == "cuda",
        "half": job.target.half.removeprefix("torch."),
    }
    with tempfile.TemporaryDirectory() as temporary:
        out, path = Path(temporary, "out"), Path(temporary, "asked.json")
        write(compiled, out / name)
        path.write_text(json.dumps(request))
        ended = Programs(out, name, quiet).python(
            Path(__file__).with_name("features.py"),
            *(name, root.resolve(), weights.resolve(), work.resolve(), path),
            output="keep",
        )
    if ended.code:
        raise failed(job.name, spec_file.place("data.train"))
    found = json.loads(ended.output.splitlines()[-1])
    return {name: _read(files) for name, files in found.items()}


def alike(one: Model, other: Model) -> bool:
    """Whether two models go on from the same value of their frozen part."""
    if one.cut != other.cut:
        return False
    (a, _), (b, _) = (halves(model) for model in (one, other))
    return a.output_types == b.output_types


def failed(name: str, place: Place | None) -> Exception:
    return fail(
        "G535",
        f"the frozen model of {name} cannot be run over the rows; what went wrong stands "
        "above",
        place=place,
        help="mend the data, or say where its paths start: --root FOLDER",
    )


def write(compiled: Compiled, folder: Path) -> None:
    """The files of a package that nobody will read: they are not formatted."""
    for one in compiled.drafts:
        path = folder / one.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.data)


def places(job: Job, means: bool) -> dict[str, Any]:
    """Where in the model the vectors are, for features.py."""
    found = classifier(job.model)
    read = reader(found)
    plain = found.pool.kind == "mean" and read.args == (found.vector,)
    types = found.module.types
    wide = types[read.args[0]].shape[-1].value(job.model.sizes)
    made = {r.name: op for op in found.module.ops for r in op.results}
    given = made.get(read.args[0])  # what comes joined is the backbone's alone
    beside = 0
    if given is not None and given.kind == "join":
        beside = wide - types[given.args[0]].shape[-1].value(job.model.sizes)
    ops = [op for module in job.model.modules for op in module.ops]
    return {
        "head": f"{found.call.name}.{read.name}",
        "states": [*states_paths(job.model)] if means and not plain else [],
        "joined": beside,
        "skip": int(any(op.kind == "prepend" for op in ops)),  # a class token
    }


def _read(files: Mapping[str, Any]) -> Vectors:
    import numpy as np
    from safetensors.numpy import load_file

    about = load_file(files["about"])
    rows, widths = about["rows"], about["widths"].tolist()
    x = _mapped(files["vectors"], len(rows))
    edges = np.cumsum([0, *widths])
    parts = [x[:, a:b] for a, b in pairwise(edges)]
    logits = _mapped(files["logits"], len(rows)) if "logits" in files else None
    of: dict[str, Any] = dict(zip((HEAD, MEAN), parts, strict=False))
    per_s = len(rows) / files["seconds"] if files["seconds"] else 0.0
    columns, size = files["columns"], files["size"]
    return Vectors(rows, about["targets"], of, columns, logits, per_s, size)


def _mapped(path: str, rows: int) -> Any:
    import numpy as np

    return np.memmap(path, np.float32, "r").reshape(rows, -1)
