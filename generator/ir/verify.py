"""What a valid job is, by level. Run after import and after every pass.

Every message has a code of its own and a test. A job that fails here is a fault of the
compiler or of a hand-written `.gir`, never of a spec: those are refused before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from keyword import iskeyword

from generator.errors import Diagnostic, GenError
from generator.ir.cut import CALLS, owned, reaching, trained
from generator.ir.dims import Dim, DType, Type, dim
from generator.ir.job import (
    Const,
    Instance,
    Job,
    Model,
    Module,
    Op,
    ParameterDef,
    walk_parameters,
)
from generator.ir.ops import OpError, infer
from generator.ir.plans import CleanPlan, GuardPlan, ImagePlan, TextPlan
from generator.ir.sources import (
    Checkpoint,
    Init,
    Left,
    Parameter,
    Right,
    ShapeError,
    Source,
    Tie,
    factors,
    first_readings,
    keys,
    leaves,
    shape_of,
    whole,
)
from generator.ir.stages import always_frozen, by_stage

LEVELS = ("imported", "optimised", "shaped")
# safetensors' names of the dtypes that a parameter may be stored in.
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
# What the data gives: dtype and number of dimensions.
INPUTS: dict[str, tuple[str, int]] = {
    "ids": ("i64", 2),
    "types": ("i64", 2),
    "mask": ("bool", 2),
    "pixels": ("f32", 4),
}
# What of a row the head reads beside its vector.
BESIDE: dict[str, DType] = {"numbers": "f32", "categories": "i64"}


def verify(job: Job, after: str = "") -> None:
    """GenError with everything that is wrong; `after` names the pass that ran."""
    found = list(problems(job))
    if found:
        where = f" after {after}" if after else ""
        raise GenError(
            [
                Diagnostic(
                    d.code, f"invalid job{where}: {d.message}", d.place, help=d.help
                )
                for d in found
            ]
        )


def problems(job: Job) -> Iterator[Diagnostic]:
    """Everything that is wrong with a job, in the order of its text."""
    yield from _head(job)
    yield from _cleaning(job)
    yield from _augmentation(job)
    yield from _guard(job)
    yield from _dims(job.model)
    structure = list(_structure(job.model))
    yield from structure
    for module in job.model.modules:
        yield from _Checker(job.model, module).problems()
    if not structure:  # a walk over instances needs them to be there and finite
        yield from _weights(job)
        yield from _stages(job)
        for stage in by_stage(job):
            yield from _cut(stage)
        yield from _level(job)
        yield from _interface(job)


def _head(job: Job) -> Iterator[Diagnostic]:
    if job.level not in LEVELS:
        yield Diagnostic("G310", f"no level {job.level!r}; there are {LEVELS}")
    if not _is_name(job.name):
        yield Diagnostic("G321", f"job {job.name!r} cannot be a name in Python")
    if not job.labels or len(set(job.labels)) != len(job.labels):
        yield Diagnostic("G311", "labels are at least one, and no two are the same")


def _cleaning(job: Job) -> Iterator[Diagnostic]:
    """Aliases lead to one label each, and only texts are rewritten or measured."""
    clean = job.data.clean
    for label, _ in clean.labels:
        flags = job.task == "multi-label" and len(job.data.label) > 1
        if label not in job.labels or job.task == "regression" or flags:
            yield Diagnostic("G342", f"aliases are of {label!r}, which is no label")
    uses = Counter(alias for _, some in clean.labels for alias in some)
    for alias, count in uses.items():
        if alias in job.labels or count > 1:
            yield Diagnostic(
                "G342", f"the alias {alias!r} is a label itself, or stands twice"
            )
    images = isinstance(job.data.inputs, ImagePlan)
    if clean.duplicates == "near" and job.data.rows == "memory":
        yield Diagnostic("G342", "near duplicates are looked for in files alone")
    near = clean.duplicates == "near"  # which is about texts
    of_any = replace(clean, labels=(), duplicates="near" if near else "off")
    pixels = replace(of_any, levels=False, alpha="off", min_pixels=0, max_pixels=0)
    if images and pixels != CleanPlan():
        yield Diagnostic("G342", "images have no texts to clean")
    if not images and pixels != of_any:
        yield Diagnostic("G342", "texts have no pixels to clean")


def _augmentation(job: Job) -> Iterator[Diagnostic]:
    """Texts are not changed as images are, nor the other way round."""
    plan = job.data.augment
    images = isinstance(job.data.inputs, ImagePlan)
    of_images = plan.policy != "off" or plan.erase or plan.cutmix
    if images and (plan.paraphrase or plan.words or plan.span_mask):
        yield Diagnostic("G342", "images have no words to change")
    if not images and of_images:
        yield Diagnostic("G342", "texts have no pixels to change")


def _guard(job: Job) -> Iterator[Diagnostic]:
    """Texts are looked at where there are texts, and labels where a row has one."""
    guard = job.data.guard
    of_any = GuardPlan(
        contradictions=guard.contradictions,
        spectral=guard.spectral,
        label_noise=guard.label_noise,
        outliers=guard.outliers,
        oversized=guard.oversized,
    )
    if isinstance(job.data.inputs, ImagePlan) and guard != of_any:
        yield Diagnostic("G375", "images have no texts to guard")
    asked = [
        name
        for name in ("triggers", "spectral", "label_noise")
        if getattr(guard, name) != "off"
    ]
    if asked and job.task in ("multi-label", "regression"):
        yield Diagnostic("G375", f"{asked[0]} is of rows that have one label each")


def _dims(model: Model) -> Iterator[Diagnostic]:
    for symbol, n in Counter(d.symbol for d in model.dims).items():
        if n > 1:
            yield Diagnostic("G312", f"dimension {symbol} is defined {n} times")
    for name, n in Counter(d.name for d in model.dims if d.name).items():
        if n > 1:
            yield Diagnostic("G312", f"two dimensions are named {name}")
    for d in model.dims:
        if d.size is not None and d.size < 1:
            yield Diagnostic("G313", f"dimension {d.symbol} is {d.size}, not positive")
        if d.bound is not None and (d.size is not None or d.bound < 1):
            yield Diagnostic("G313", f"the bound of dimension {d.symbol} cannot hold")
    for name in [d.symbol for d in model.dims] + [d.name for d in model.dims if d.name]:
        if not _is_name(name):
            yield Diagnostic("G321", f"dimension {name} cannot be a name in Python")
    for c in model.consts:
        if not _is_name(c.name):
            yield Diagnostic("G321", f"constant {c.name} cannot be a name in Python")
    for name, n in Counter(c.name for c in model.consts).items():
        if n > 1:
            yield Diagnostic("G314", f"constant {name} is defined {n} times")


def _structure(model: Model) -> Iterator[Diagnostic]:
    """Modules exist, are defined before their use, and are all reached."""
    if not model.modules:
        yield Diagnostic("G315", "the model has no modules")
        return
    if model.main.sizes:
        yield Diagnostic("G374", f"{model.main.name} is the model, and takes sizes")
    seen: set[str] = set()
    used: set[str] = {model.main.name}
    for module in model.modules:
        if module.name in seen:
            yield Diagnostic("G316", f"module {module.name} is defined twice")
        for instance in module.instances:
            used.add(instance.module)
            if instance.module not in seen:
                yield Diagnostic(
                    "G317",
                    f"{module.name}.{instance.name} is a {instance.module}, "
                    "which is not defined before it",
                )
            if instance.count < 1:
                yield Diagnostic("G318", f"{module.name}.{instance.name} counts none")
            if instance.depth < -1:
                yield Diagnostic(
                    "G318", f"{module.name}.{instance.name} is at a negative depth"
                )
            numbered = instance.count > 1 or "{i}" in instance.keys
            if numbered and not re.fullmatch(r".+\.[0-9]+", instance.name):
                yield Diagnostic(
                    "G318", f"{module.name}.{instance.name} repeats and has no number"
                )
            yield from _given(model, module, instance)
        for name in module.sizes:
            if name not in model.sizes:
                yield Diagnostic(
                    "G374", f"{module.name} takes {name}, which is no size"
                )
        seen.add(module.name)
    for name in sorted(seen - used):
        yield Diagnostic("G319", f"module {name} is never used")


def _given(model: Model, module: Module, instance: Instance) -> Iterator[Diagnostic]:
    """What an instance gives is what its module takes, and has."""
    where = f"{module.name}.{instance.name}"
    inner = model.by_name.get(instance.module)
    if inner is None:
        return  # said above
    names = tuple(name for name, _ in instance.sizes)
    if names != inner.sizes:
        yield Diagnostic(
            "G374",
            f"{where} gives the sizes {[*names]}, and {inner.name} takes "
            f"{[*inner.sizes]}",
        )
    for name, size in instance.sizes:
        if size not in model.sizes:
            yield Diagnostic(
                "G374", f"{where} gives {name} as {size}, which is no size"
            )
    for path, n in Counter(path for path, _ in instance.sources).items():
        if n > 1 or not _has(model, inner, path):
            yield Diagnostic("G374", f"{where} has no {path} to read, or has it twice")


def _has(model: Model, module: Module, path: str) -> bool:
    """Whether a module has a parameter at this path in it."""
    if any(p.name == path for p in module.parameters):
        return True
    return any(
        path.startswith(f"{name}.")
        and i.module in model.by_name
        and _has(model, model.by_name[i.module], path.removeprefix(f"{name}."))
        for i in module.instances
        for name, _, _ in i.each()
    )


def _is_name(text: str) -> bool:
    """Whether a text is a name in Python, and in the text form."""
    plain = text.isidentifier() and text.isascii()
    return plain and not iskeyword(text) and text != "self"


def _size(dim: Dim, sizes: Mapping[str, int]) -> int | None:
    """The size of a dimension; None where a name in it has none."""
    return dim.value(sizes) if dim.names <= sizes.keys() else None


def _bounds(model: Model) -> dict[str, int]:
    """The largest sizes of the dimensions that vary, where they are stated."""
    return {d.symbol: d.bound for d in model.dims if d.bound is not None}


class _Checker:
    """One module: its values, their types, and that nothing in it is left over."""

    def __init__(self, model: Model, module: Module) -> None:
        self.model = model
        self.module = module
        self.params: dict[str, ParameterDef] = {p.name: p for p in module.parameters}
        self.known_dims = {d.symbol for d in model.dims}

    def error(self, code: str, message: str) -> Diagnostic:
        return Diagnostic(code, f"{self.module.name}: {message}")

    def problems(self) -> Iterator[Diagnostic]:
        m = self.module
        yield from self._names()
        types: dict[str, Type] = {}
        uses: Counter[str] = Counter(m.outputs)
        read: set[str] = set()
        called: Counter[str] = Counter()
        for value in m.inputs:
            if value.name in types:
                yield self.error("G323", f"%{value.name} is defined twice")
            types[value.name] = value.type
            yield from self._known(value.type)
        for p in m.parameters:
            yield from self._known(p.type)
        for op in m.ops:
            missing = [a for a in op.args if a not in types]
            for name in missing:
                yield self.error("G322", f"%{name} is used before it is defined")
            uses.update(op.args)
            if not missing:
                yield from self._op(op, types, read, called)
            for result in op.results:
                if result.name in types:
                    yield self.error("G323", f"%{result.name} is defined twice")
                types[result.name] = result.type
                yield from self._known(result.type)
        for name in m.outputs:
            if name not in types:
                yield self.error("G322", f"%{name} is returned and not defined")
        if not m.outputs:
            yield self.error("G324", "returns nothing")
        for name in sorted(set(types) - set(uses)):
            yield self.error("G325", f"%{name} is never used")
        for name in sorted(set(self.params) - read):
            yield self.error("G326", f"parameter {name} is never read")
        for instance in m.instances:
            if instance.name not in called:
                yield self.error("G327", f"{instance.name} is never called")

    def _names(self) -> Iterator[Diagnostic]:
        m = self.module
        names = [p.name for p in m.parameters] + [i.name for i in m.instances]
        for name, n in Counter(names).items():
            if n > 1:
                yield self.error("G320", f"{name} is defined {n} times")
        stems = {p.name.split(".")[0] for p in m.parameters}
        for name in sorted(stems & {i.name.split(".")[0] for i in m.instances}):
            yield self.error("G320", f"{name} is an operation and an instance")
        values = [v.base for v in m.inputs]
        values += [r.base for op in m.ops for r in op.results]
        # A number may stand in a path, "blocks.0", but not at its start.
        parts = [
            part
            for name in names
            for i, part in enumerate(name.split("."))
            if i == 0 or not re.fullmatch("[0-9]+", part)
        ]
        for name in sorted({*parts, *values}):
            if not _is_name(name):
                yield self.error("G321", f"{name} cannot be a name in Python")

    def _known(self, kind: Type) -> Iterator[Diagnostic]:
        for d in kind.shape:
            for name in sorted(d.names - self.known_dims):
                yield self.error("G328", f"there is no dimension {name}")

    def _op(
        self,
        op: Op,
        types: Mapping[str, Type],
        read: set[str],
        called: Counter[str],
    ) -> Iterator[Diagnostic]:
        args = tuple(types[a] for a in op.args)
        for name, value in op.attrs:
            if isinstance(value, Const) and value.name not in self.model.constants:
                yield self.error("G329", f"{op.kind} {name}: no constant {value.name}")
            used = (
                [value]
                if isinstance(value, Dim)
                else (
                    [v for v in value if isinstance(v, Dim)]
                    if isinstance(value, tuple)
                    else []
                )
            )
            yield from self._known(Type("f32", tuple(used)))
            for d in used:
                if d.names & self.model.varying:
                    yield self.error("G334", f"{op.kind} {name}: {d} has no size")
        named = [name for name, _ in op.attrs]
        if named != sorted(set(named)):
            yield self.error("G330", f"{op.kind}: attributes are not in order")
        if op.kind in CALLS:
            yield from self._call(op, args, called)
            return
        params: dict[str, Type] = {}
        for name, p in self.params.items():
            stem, dot, last = name.rpartition(".")
            if name == op.name or (dot and stem == op.name):
                params["" if name == op.name else last] = p.type
                if name in read:
                    yield self.error("G331", f"parameter {name} is read twice")
                read.add(name)
        try:
            expected = infer(op.kind, args, params, dict(op.attrs))
        except OpError as e:
            yield self.error("G332", f"{op.kind} {op.name}: {e}".replace(" :", ":"))
            return
        stated = tuple(r.type for r in op.results)
        if stated != expected:
            yield self.error(
                "G333",
                f"{op.kind} {op.name} gives {', '.join(map(str, expected))}, "
                f"not {', '.join(map(str, stated))}",
            )
            return
        for scope in self.model.scopes[self.module.name]:
            yield from self._sizes(
                replace(
                    op,
                    results=tuple(
                        replace(r, type=r.type.substitute(scope)) for r in op.results
                    ),
                ),
                [kind.substitute(scope) for kind in args],
                {name: kind.substitute(scope) for name, kind in params.items()},
            )

    def _sizes(
        self, op: Op, args: Sequence[Type], params: Mapping[str, Type]
    ) -> Iterator[Diagnostic]:
        """What depends on how large dimensions are, where that is known."""
        sizes, attrs = self.model.sizes, op.attrs_dict
        shape = op.results[0].type.shape
        if op.kind in ("positions", "row"):
            rows = _size(params["weight"].shape[0], sizes)
            last = attrs.get("index")
            if op.kind == "positions":
                # The longest row decides, where one is stated.
                longest = _size(shape[0], {**_bounds(self.model), **sizes})
                last = (longest or 1) - 1
            if rows is not None and isinstance(last, int) and last >= rows:
                yield self.error("G334", f"{op.kind} {op.name}: row {last} of {rows}")
        if op.kind == "select":
            index = self.model.kept.get(str(attrs["by"]), ())
            wide, few = (
                _size(t.shape[-1], sizes) for t in (args[0], op.results[0].type)
            )
            ascend = [*index] == sorted(set(index))
            if len(index) != few or not ascend or (wide and index[-1] >= wide):
                yield self.error(
                    "G334", f"the list {attrs['by']} is not {few} numbers of {wide}"
                )
        if op.kind == "patches":
            sides, parts = args[0].shape[2:], params["weight"].shape[2:]
            for name, *each in zip(("rows", "columns"), sides, parts):
                side, part = (_size(d, sizes) for d in each)
                given = attrs[name]
                count = _size(given, sizes) if isinstance(given, Dim) else None
                if side and part and side // part != count:
                    yield self.error(
                        "G334", f"{side} pixels are {side // part} {name} of {part}"
                    )
        if op.kind == "attention" and "groups" in attrs:
            h, g = (_size(args[i].shape[1], sizes) for i in (0, 1))
            if h and g and h % g:
                yield self.error("G334", f"{h} heads do not share {g} key heads evenly")
        if op.kind == "rope_tables":
            width = _size(shape[1], sizes)
            factors = attrs.get("factors", ())
            assert isinstance(factors, tuple)
            if width and width % 2:
                yield self.error("G334", f"heads of width {width} are not pairs")
            elif width and factors and 2 * len(factors) != width:
                yield self.error(
                    "G334", f"{len(factors)} factors for heads of width {width}"
                )

    def _call(
        self, op: Op, args: tuple[Type, ...], called: Counter[str]
    ) -> Iterator[Diagnostic]:
        found = [i for i in self.module.instances if i.name == op.name]
        if not found:
            yield self.error("G335", f"there is no instance {op.name}")
            return
        called[op.name] += 1
        instance = found[0]
        inner = self.model.by_name.get(instance.module)
        if inner is None or not set(inner.outputs) <= set(inner.types):
            return  # said by the checks of the structure and of that module
        if (instance.count > 1) != (op.kind == "repeat"):
            yield self.error("G336", f"{op.kind} of {op.name}, count {instance.count}")
        if len(args) != len(inner.inputs):
            yield self.error(
                "G337", f"{op.name} takes {len(inner.inputs)} values, not {len(args)}"
            )
            return
        try:
            expected = bind(self.model, inner, args, instance.within({}))
        except OpError as e:
            yield self.error("G338", f"{op.kind} {op.name}: {e}")
            return
        stated = tuple(r.type for r in op.results)
        if stated != expected:
            yield self.error(
                "G333",
                f"{op.kind} {op.name} gives {', '.join(map(str, expected))}, "
                f"not {', '.join(map(str, stated))}",
            )
        if op.kind == "repeat" and expected != args[: len(expected)]:
            yield self.error("G339", f"{op.name} repeats and changes its type")


def bind(
    model: Model,
    inner: Module,
    args: tuple[Type, ...],
    sizes: Mapping[str, Dim] | None = None,
) -> tuple[Type, ...]:
    """The types that a call gives: the varying dimensions take the caller's values, and
    those that the module takes the `sizes` that its instance gives."""
    bound = dict(sizes or {})
    for value, given in zip(inner.inputs, args, strict=True):
        want = value.type
        if want.dtype != given.dtype or len(want.shape) != len(given.shape):
            raise OpError(f"%{value.name} is {want}, not {given}")
        if given.optional and not want.optional:
            raise OpError(f"%{value.name} is always there, and {given} is not")
        for formal, actual in zip(want.shape, given.shape, strict=True):
            name = str(formal)
            if name in model.varying and bound.setdefault(name, actual) != actual:
                raise OpError(f"{name} is both {bound[name]} and {actual}")

    for value, given in zip(inner.inputs, args, strict=True):
        if value.type.substitute(bound).shape != given.shape:
            want = value.type.substitute(sizes or {})
            raise OpError(f"%{value.name} is {want}, not {given}")
    return tuple(t.substitute(bound) for t in inner.output_types)


def _weights(job: Job) -> Iterator[Diagnostic]:
    """Every tensor is used once or named unused; every source gives its shape."""
    model = job.model
    shapes = {t.key: t.shape for t in model.tensors}
    dtypes = {t.key: t.dtype for t in model.tensors}
    for key, n in Counter(t.key for t in model.tensors).items():
        if n > 1:
            yield Diagnostic("G350", f'tensor "{key}" is listed {n} times')
    try:
        infos = list(walk_parameters(model, job.frozen))
    except (KeyError, ValueError, StopIteration) as e:
        yield Diagnostic("G351", f"a parameter's shape has no size: {e}")
        return
    paths = {p.path: p.shape for p in infos}
    ties = {p.path for p in infos if isinstance(p.source, Tie)}
    for path, n in Counter(p.path for p in infos).items():
        if n > 1:
            yield Diagnostic("G352", f"parameter {path} stands {n} times")
    used: Counter[str] = Counter()
    owned: Counter[str] = Counter()  # without what copies read
    copies = tuple(f"{name}." for name in model.copies)
    paired: Counter[tuple[type[Left | Right], Source, int]] = Counter()
    for info in infos:
        halves = list(factors(info.source))
        paired.update((type(half), half.of, half.rank) for half in halves)
        if not any(isinstance(half, Right) for half in halves):
            # A right factor is its left one's.
            used.update(set(first_readings(info.source)))
            if not info.path.startswith(copies):
                owned.update(set(first_readings(info.source)))
        for key, n in Counter(whole(info.source)).items():
            if n > 1:
                yield Diagnostic("G358", f'tensor "{key}" is used twice by {info.path}')
        for leaf in leaves(info.source):
            match leaf:
                case Init() if leaf is not info.source:
                    yield Diagnostic(
                        "G353", f"{info.path}: a part of it is initialised"
                    )
                case Tie() if leaf is not info.source:
                    yield Diagnostic("G353", f"{info.path}: a part of it is tied")
                case Tie(path) if path in ties:
                    yield Diagnostic(
                        "G362", f"{info.path} is tied to {path}, which is tied itself"
                    )
                case Parameter(path):
                    yield Diagnostic(
                        "G361", f"{info.path}: {path} is a parameter before a pass"
                    )
                case Checkpoint(key) if key in dtypes and dtypes[key] not in FLOATS:
                    yield Diagnostic(
                        "G363", f'{info.path}: tensor "{key}" is of {dtypes[key]}'
                    )
        tied = isinstance(info.source, Tie)
        try:
            shape = shape_of(info.source, paths if tied else shapes, info.shape)
        except ShapeError as e:
            yield Diagnostic("G354", f"{info.path}: {e}")
            continue
        if shape != info.shape:
            yield Diagnostic(
                "G355", f"{info.path} is {info.shape}, and its source gives {shape}"
            )
    for (side, of, rank), n in paired.items():
        other = paired[Right if side is Left else Left, of, rank]
        if n != 1 or other != 1:
            named = ", ".join(keys(of))
            yield Diagnostic(
                "G367",
                f"{side.__name__} of rank {rank} of {named}: {n}, not one of two",
            )
    unused = Counter(u.key for u in model.unused)
    for key in shapes:
        if used[key] + unused[key] == 0:
            yield Diagnostic("G356", f'tensor "{key}" is neither used nor named unused')
        if used[key] and unused[key]:
            yield Diagnostic("G357", f'tensor "{key}" is used and named unused')
        if owned[key] > 1:
            yield Diagnostic("G358", f'tensor "{key}" is used by two parameters')
        if unused[key] > 1:
            yield Diagnostic("G357", f'tensor "{key}" is named unused twice')
    for instance in model.main.instances:
        for zero in instance.zeros:
            if f"{instance.name}.{zero}" not in paths or instance.count > 1:
                yield Diagnostic(
                    "G368", f"{instance.name} has no {zero} of its own to start at 0"
                )
    for key in unused:
        if key not in shapes:
            yield Diagnostic("G359", f'"{key}" is named unused, and is not there')
    for path in (*job.frozen, *(p for stage in job.stages for p in stage.frozen)):
        if not any(p == path or p.startswith(path + ".") for p in paths):
            yield Diagnostic("G360", f"{path} is frozen, and is no part of the model")


def _stages(job: Job) -> Iterator[Diagnostic]:
    """A job of stages says by itself what they have in common, and no more."""
    if not job.stages:
        return
    if job.model.cut:
        yield Diagnostic("G369", f"%{job.model.cut} cuts a model of several stages")
    if job.frozen != always_frozen([stage.frozen for stage in job.stages]):
        yield Diagnostic("G369", "what is frozen is not what all stages freeze")
    epochs = sum(stage.epochs for stage in job.stages)
    if job.train.epochs != epochs:
        yield Diagnostic(
            "G369", f"the stages have {epochs} epochs, the job {job.train.epochs}"
        )


def _cut(job: Job) -> Iterator[Diagnostic]:
    """Up to its cut the model never trains, and nothing else goes past it."""
    main, cut = job.model.main, job.model.cut
    if not cut:
        return
    made = {r.name: r.type for op in main.ops for r in op.results}
    kind = None if cut.startswith("_") else made.get(cut)
    of_rows = kind is not None and kind.dtype == "f32" and kind.shape[0] == dim("B")
    if kind is None or not of_rows or len(kind.shape) not in (2, 3):
        yield Diagnostic(
            "G364",
            f"%{cut} is no vector of each row or position that {main.name} works out and "
            "names",
        )
        return
    before, after = reaching(main, (cut,)), reaching(main, main.outputs, cut)
    for op in after:
        if op in before and owned(main, op):
            yield Diagnostic("G365", f"{op.name} is read before and after %{cut}")
    try:
        moving = trained(job, [path for op in before for path in owned(main, op)])
    except (KeyError, ValueError, StopIteration):
        return  # said by the weights' check
    if moving:
        yield Diagnostic("G366", f"{moving[0]} is before %{cut}, and trains")


def _interface(job: Job) -> Iterator[Diagnostic]:
    """What the data plan promises is what the model takes, and logits are (B, K)."""
    main = job.model.main
    plan = job.data.inputs
    if isinstance(plan, TextPlan):
        first, last = ["ids", "types"] if plan.token_types else ["ids"], ["mask"]
    else:
        first, last = ["pixels"], []
    features = job.data.features
    beside = ["numbers"] * (job.data.numbers > 0)
    beside += ["categories"] * bool(features.categorical)
    want = [*first, *beside, *last]
    got = [v.name for v in main.inputs]
    if got != want:
        yield Diagnostic("G340", f"the model takes {got}, and the data gives {want}")
    else:
        yield from _inputs(job)
    if not set(main.outputs) <= set(main.types):
        return  # said by the module's check
    if len(main.output_types) != 1:
        yield Diagnostic("G341", "the model returns one value, the logits")
        return
    logits = main.output_types[0]
    batch = main.inputs[0].type.shape[:1] if main.inputs else ()
    size = _size(logits.shape[-1], job.model.sizes) if logits.shape else None
    if (
        logits != Type("f32", logits.shape)
        or len(logits.shape) != 2
        or logits.shape[:1] != batch
        or size != len(job.labels)
    ):
        yield Diagnostic(
            "G341", f"the logits are {logits} for {len(job.labels)} labels"
        )


def _inputs(job: Job) -> Iterator[Diagnostic]:
    """The types of the model's inputs, and the sizes that the data comes in."""
    model, plan = job.model, job.data.inputs
    first = model.main.inputs[0].type
    yield from _features(job)
    for value in model.main.inputs:
        kind = value.type
        if value.name in BESIDE:
            continue
        dtype, rank = INPUTS[value.name]
        if (kind.dtype, len(kind.shape)) != (dtype, rank) or kind.shape != first.shape:
            yield Diagnostic(
                "G340",
                f"the input {value.name} is {kind}, and the data gives {dtype} of "
                f"{rank} dimensions, the same for all",
            )
            return
    if isinstance(plan, TextPlan):
        longest = _size(first.shape[1], {**_bounds(model), **model.sizes})
        if longest is not None and plan.max_tokens > longest:
            yield Diagnostic(
                "G340",
                f"the model takes {longest} tokens, and a row may have "
                f"{plan.max_tokens}",
            )
        return
    cut = plan.crop or (plan.resize if plan.resize_mode == "exact" else None)
    size = tuple(_size(d, model.sizes) for d in first.shape[2:])
    if cut is not None and None not in size and size != cut:
        yield Diagnostic("G340", f"the model takes pixels {size}, and images are {cut}")


def _features(job: Job) -> Iterator[Diagnostic]:
    """The model takes as much of a row as there is, and knows every category."""
    model, features = job.model, job.data.features
    batch = model.main.inputs[0].type.shape[0]
    there = {"numbers": job.data.numbers, "categories": len(features.categorical)}
    if not job.data.texts and (features.text or features.patterns):
        yield Diagnostic("G380", "images have no text whose numbers a head could read")
    for value in model.main.inputs:
        if value.name not in BESIDE:
            continue
        kind, count = value.type, there[value.name]
        want = Type(BESIDE[value.name], (batch, *kind.shape[1:2]))
        if kind != want or _size(kind.shape[1], model.sizes) != count:
            yield Diagnostic(
                "G380",
                f"the input {value.name} is {kind}, and a row has {count} of them",
            )
    for module in model.modules:
        for op in module.ops:
            if op.kind != "embedding" or op.args != ("categories",):
                continue
            tables = [p for p in module.parameters if p.name == f"{op.name}.weight"]
            rows = [_size(p.type.shape[0], model.sizes) for p in tables]
            if rows != [features.entries]:
                yield Diagnostic(
                    "G380",
                    f"the table of categories has {rows[0]} rows for {features.entries}",
                )


def _level(job: Job) -> Iterator[Diagnostic]:
    model = job.model
    for module in model.modules:
        if not _is_name(module.name):
            yield Diagnostic("G371", f"{module.name} cannot name a class")
    uses = Counter(i.module for m in model.modules for i in m.instances)
    if job.level != "shaped":
        for module in model.modules:
            if uses[module.name] > 1:
                yield Diagnostic(
                    "G370", f"module {module.name} stands twice before grouping"
                )
            if module.sizes:
                yield Diagnostic("G374", f"{module.name} takes sizes before grouping")
        return
    bodies: dict[object, str] = {}
    for module in model.modules:
        body = (
            module.inputs,
            module.ops,
            module.outputs,
            module.parameters,
            module.instances,
            module.sizes,
        )
        if body in bodies:
            yield Diagnostic(
                "G372", f"{module.name} and {bodies[body]} are equal, and not grouped"
            )
        bodies[body] = module.name
