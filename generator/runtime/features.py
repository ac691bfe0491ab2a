"""The vectors that a package's frozen model gives for rows, kept in memory-mapped files.

Run as a program, `python features.py PACKAGE ROOT WEIGHTS WORK ASKED`, where PACKAGE can be
imported; it imports nothing of this compiler. ASKED is JSON:

- `folder`, where the files are kept;
- `splits`, those that are run, and `rows`, how many rows of each at most, null for all; or
  `passes`, to how many forward passes for each training row all of it may come;
- `head`, the path of the module whose input is a vector (B, C) of each row, and `joined`,
  how many of its numbers, the last ones, layers that are new make of the columns of rows:
  those columns themselves take their place;
- `states`, that of the module which gives the positions (B, T, C), and those of what is done
  to them after, or none; `skip`, how many positions stand for nothing;
- `trained`, the file of trained weights, or "", `of_trained`, the splits that they are run
  on, and `package`, the parent and the name of the package that they are of: PACKAGE may
  have other passes;
- `cache`, the folder where that package keeps what its frozen part gave for the rows of
  train and valid, or "": the suffix of PACKAGE, or with `own` of that package, goes on
  from there;
- `cuda` and `half`, how to run: torch's type under autocast, "" for none.

On standard output is JSON: for each split the files of its vectors, of its rows and
targets, and of the logits of the trained model, the size of the split, and how many
numbers of each vector are of columns. A file of vectors is f32 (rows, widths side by side).
Its name has a hash of all that it follows from: the weights, the source that runs them, the
rows. A process that ends on its way leaves what it has, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import runpy
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

# A program has what lies beside it, and nothing of the compiler to import it from.
taken_out = runpy.run_path(str(Path(__file__).with_name("guarded.py")))["taken_out"]
SEED = 0  # of the rows that are drawn where not all are wanted
FEWEST = {"train": 500, "valid": 100, "test": 300}  # rows, where there are so many
CATEGORIES = 100  # of a column, the most frequent, have a number of their own


def main(package: str, root: Path, weights: Path, work: Path, request: Path) -> None:
    asked = json.loads(request.read_text())
    data: Any = importlib.import_module(f"{package}.data")
    source = Path(data.__file__ or "")
    torch.manual_seed(0)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            splits = data.load_splits(root, work, **taken_out(data, work))
    except data.DataError as error:
        sys.exit(str(error))
    device = torch.device("cuda" if asked["cuda"] else "cpu")
    code = [source.with_name(name).read_text() for name in ("model.py", "data.py")]
    parent, real = asked["package"]
    sys.path.append(parent)
    name = real if asked["own"] else package
    model = importlib.import_module(f"{name}.model").load_pretrained(weights)
    of = asked["head"], asked["states"], asked["skip"], asked["joined"]
    about = f"{code} {of} {device} {asked['half']}"
    runner = Runner(device, asked["half"], Path(asked["folder"]), about)
    sources = {name: Source(data, getattr(splits, name)) for name in asked["splits"]}
    forward: dict[str, Any] = dict.fromkeys(sources, model)
    if asked["cache"]:
        whole = importlib.import_module(f"{real}.model").load_pretrained(weights)
        keep = importlib.import_module(f"{real}.train").keep
        both = {name: getattr(splits, name) for name in ("train", "valid")}
        kept = keep(whole, both, Path(asked["cache"]), True)
        for name, one in zip(both, kept, strict=True):
            sources[name] = Source(data, both[name], one)
            forward[name] = model.suffix
    counts = dict.fromkeys(asked["splits"], asked["rows"])
    if asked["passes"]:
        sizes = {name: len(getattr(splits, name)) for name in asked["splits"]}
        counts = afforded(sizes, asked["passes"], cached=bool(asked["cache"]))
    give = vectors_of(model, *of)
    found = {
        name: runner.kept(name, source, counts[name], model, forward[name], give)
        for name, source in sources.items()
    }
    if asked["trained"]:
        # The deployed model, where there is one, is another: its module loads both.
        deployed = Path(parent, real, "deploy.py").is_file()
        owner = f"{real}.{'deploy' if deployed else 'predict'}"
        load = importlib.import_module(owner).load_trained
        model = load(asked["trained"])
        for name in asked["of_trained"]:
            some = sources[name], counts[name], model, model, logits_of
            found[name]["logits"] = runner.kept(f"{name}-logits", *some)["vectors"]
    runner.remove_old()
    print(json.dumps(found))


# Of a forward, of inputs as it takes them, of the mask of real positions, if there is one,
# and of the columns of rows (B, Y): what is kept of each row, some tensors (B, C).
Give = Callable[[Callable, Sequence[Any], Tensor | None, Tensor], list[Tensor]]


@dataclass(frozen=True)
class Source:
    """A split, and what gives its batches: the package, or what it keeps of a frozen part."""

    data: Any  # the package's module
    split: Any
    frozen: Any = None

    def batch(self, rows: Tensor) -> Any:
        if self.frozen is not None:
            return self.frozen.batch(rows)
        return self.data.batch_of(self.split, rows)

    def columns(self, rows: Tensor) -> Tensor:
        """What rows have beside the backbone, f32 (B, Y), ahead of layers that are new:
        numbers as they are scaled, and categories as 0 and 1."""
        columns: Any = getattr(self.split, "columns", None)
        some = [torch.zeros(len(rows), 0)]
        if hasattr(columns, "numbers"):
            some.append(columns.numbers[rows])
        if hasattr(columns, "categories"):
            first = 1  # number of a column's table; 0 of it is the unknown category
            for j, known in enumerate(self.split.fitted.categories):
                numbers = torch.arange(first, first + min(len(known), CATEGORIES))
                some.append((columns.categories[rows, j, None] == numbers).float())
                first += 1 + self.data.features.MOST
        return torch.cat(some, 1)

    def batches(self, rows: Tensor) -> list[Tensor]:
        """The numbers of the rows in batches, of like lengths where rows have one."""
        if hasattr(self.split, "tokens"):
            return self.data.cut(self.split.tokens.lengths, rows)
        return list(rows.split(self.data.BATCH))


def vectors_of(
    model: nn.Module, head: str, states: Sequence[str], skip: int, joined: int
) -> Give:
    """The vector that the head reads, and the mean of the positions of `states`, each with
    the columns behind it where any join."""
    seen: dict[str, Tensor] = {}

    def before(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["head"] = args[0]

    def after(_module: nn.Module, args: object, x: Tensor) -> None:
        seen["states"] = x

    model.get_submodule(head).register_forward_pre_hook(before)
    first, *later = map(model.get_submodule, states or [head])
    if states:
        first.register_forward_hook(after)

    def give(
        forward: Callable, inputs: Sequence[Any], mask: Tensor | None, columns: Tensor
    ) -> list[Tensor]:
        forward(*inputs)
        read = seen["head"]
        if joined:
            read = torch.cat([read[:, :-joined], columns], 1)
        if not states:
            return [read]
        # Where the frozen part gave them, they are what is gone on from.
        x = seen.pop("states", inputs[0])
        for module in later:
            x = module(x)
        x = x[:, skip:]
        if mask is None:
            mean = x.mean(1)
        else:
            real = mask[:, :, None]
            mean = (x * real).sum(1) / real.sum(1)
        return [read, torch.cat([mean, columns], 1) if joined else mean]

    return give


def logits_of(
    forward: Callable, inputs: Sequence[Any], mask: Tensor | None, columns: Tensor
) -> list[Tensor]:
    return [forward(*inputs)]


@dataclass
class Runner:
    device: torch.device
    half: str
    folder: Path
    about: str  # the source that runs, and what is asked of it

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.current: set[str] = set()  # names of files that are of use

    def kept(
        self,
        name: str,
        source: Source,
        count: int | None,
        model: nn.Module,
        forward: Callable,
        give: Give,
    ) -> dict[str, Any]:
        """What `give` gives for the rows of a split, from a file; run where it is not
        there yet. `forward` is of the model."""
        model.eval().to(self.device)
        split = source.split
        batches = source.batches(drawn(len(split), count))
        key = self.key(source, batches, model)
        path = self.folder / f"{name}-{key}.f32"
        beside = path.with_suffix(".safetensors")
        self.current |= {path.name, beside.name}
        rows = torch.cat(batches)
        seconds, begun = 0.0, time.perf_counter()
        if not beside.exists():
            part = path.with_suffix(".part")
            widths = self.run(source, batches, part, forward, give)
            path.with_suffix(".part").replace(path)
            # Written last: it says that the other is whole.
            about = {"rows": rows, "targets": split.targets[rows].contiguous()}
            part = beside.with_suffix(".new")
            save_file(about | {"widths": torch.tensor(widths)}, part)
            part.replace(beside)
            seconds = time.perf_counter() - begun
        found = {"vectors": str(path), "about": str(beside), "seconds": seconds}
        columns = source.columns(rows[:1]).shape[1]
        return found | {"size": len(split), "columns": columns}

    def key(self, source: Source, batches: Sequence[Tensor], model: nn.Module) -> str:
        """A hash of the weights, the source that runs them, the rows and how they run."""
        digest = hashlib.sha256(self.about.encode())
        for tensor in model.state_dict().values():
            digest.update(as_bytes(tensor.detach().cpu()))
        for rows in batches:
            batch = source.batch(rows)
            of_rows = batch.targets, rows, source.columns(rows)
            for tensor in (*batch.inputs, *of_rows):
                if tensor is not None:
                    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                    digest.update(as_bytes(tensor))
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def run(
        self,
        source: Source,
        batches: Sequence[Tensor],
        part: Path,
        forward: Callable,
        give: Give,
    ) -> list[int]:
        """Write what is given for each batch after the other; the widths side by side.

        What an earlier process wrote is gone on from, at its last whole batch.
        """
        counts = [len(rows) for rows in batches]
        widths: list[int] = []
        there = part.stat().st_size if part.exists() else 0
        bar = tqdm(total=sum(counts), unit="row", desc="frozen features", disable=None)
        with open(part, "r+b" if there else "wb") as file, bar:
            for rows in batches:
                bar.update(len(rows))
                if widths and there >= file.tell() + 4 * len(rows) * sum(widths):
                    file.seek(4 * len(rows) * sum(widths), os.SEEK_CUR)
                    continue
                with torch.autocast(
                    self.device.type,
                    getattr(torch, self.half or "bfloat16"),
                    enabled=self.half != "",
                ):
                    given = give(forward, *self.inputs(source, rows))
                widths = [x.shape[1] for x in given]
                x = torch.cat([x.float().cpu() for x in given], 1)
                self.room(part, x.nbytes)
                file.write(as_bytes(x))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        return widths

    def inputs(
        self, source: Source, rows: Tensor
    ) -> tuple[list[Any], Tensor | None, Tensor]:
        split, batch = source.split, source.batch(rows)
        inputs = [None if x is None else x.to(self.device) for x in batch.inputs]
        mask = None
        if hasattr(split, "tokens"):
            lengths = split.tokens.lengths[rows].to(self.device)
            mask = (
                torch.arange(int(lengths.max()), device=self.device) < lengths[:, None]
            )
        return inputs, mask, source.columns(rows).to(self.device)

    def room(self, part: Path, size: int) -> None:
        if size > (free := shutil.disk_usage(self.folder).free):
            sys.exit(f"{self.folder} has {free:,} bytes free, too few for {part.name}")

    def remove_old(self) -> None:
        """Files of other weights, code or rows are of no use any more."""
        for path in self.folder.iterdir():
            if path.name not in self.current:
                path.unlink()


def afforded(sizes: dict[str, int], passes: float, cached: bool) -> dict[str, int]:
    """How many rows of each split are run, so that all comes to `passes` forward passes for
    each training row. Those of the test are run twice, and the fewest are enough to tell
    something. What is cached is there for nothing, but for the test."""
    total = int(passes * sizes["train"])
    if cached:
        return sizes | {"test": min(sizes["test"], max(FEWEST["test"], total // 2))}
    test = min(sizes["test"], max(FEWEST["test"], total // 5))
    valid = min(sizes["valid"], max(FEWEST["valid"], total // 10))
    train = max(FEWEST["train"], total - 2 * test - valid)
    return {"train": min(sizes["train"], train), "valid": valid, "test": test}


def drawn(size: int, count: int | None) -> Tensor:
    """The numbers of the rows that are wanted, ascending; more hold fewer."""
    if count is None or count >= size:
        return torch.arange(size)
    random = torch.Generator().manual_seed(SEED)
    return torch.randperm(size, generator=random)[:count].sort().values


def as_bytes(x: Tensor) -> memoryview:
    return x.contiguous().view(-1).view(torch.uint8).numpy().data


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
