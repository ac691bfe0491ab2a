"""The text form of a job, `.gir`: `parse(print_job(job)) == job`.

It is the boundary between the two halves of the compiler: whatever renders or
interprets a job reads nothing but this. One item a line; an indented line belongs to the
module or the plan above it; a line that starts with `#` is a comment. Strings are JSON.

    module Attention(%x: f32[B,T,C], %mask: bool[B,1,1,T]?) -> %y
      doc "Every token attends to every real token."
      param q.weight: f32[H*D,C] matrix = ckpt "self.query.weight"
      %q: f32[B,T,H*D] = linear q(%x)
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from generator.errors import GenError, Place, fail
from generator.ir.dims import Dim, Type, parse_dim, parse_type
from generator.ir.job import (
    ROLES,
    Attr,
    Backbone,
    Const,
    ConstDef,
    DimDef,
    Instance,
    Job,
    KeptList,
    Level,
    Model,
    Module,
    Op,
    ParameterDef,
    Tensor,
    Unused,
    Value,
)
from generator.ir.plans import (
    AugmentPlan,
    CleanPlan,
    DataPlan,
    DeployPlan,
    DistillPlan,
    ExportPlan,
    FeaturePlan,
    GuardPlan,
    ImagePlan,
    ReferencePlan,
    StagePlan,
    TargetPlan,
    Task,
    TextPlan,
    TrainPlan,
)
from generator.ir.sources import (
    Checkpoint,
    Concatenate,
    Fold,
    Gain,
    Init,
    Left,
    Noise,
    Norms,
    Parameter,
    Repeat,
    Resize,
    Right,
    Row,
    Rows,
    Share,
    Source,
    Stretch,
    Sum,
    Take,
    Tie,
    Tile,
    Transpose,
)

VERSION = 1

# ---------------------------------------------------------------------------- printing


# Plans of their own that are fields of the plan of data; there where they ask for anything.
_OF_DATA = {
    "clean": CleanPlan,
    "guard": GuardPlan,
    "augment": AugmentPlan,
    "features": FeaturePlan,
}


def _q(text: str) -> str:
    return json.dumps(text)


def print_job(job: Job) -> str:
    """The whole job as text, ending in a newline."""
    return "\n".join(_job_lines(job)) + "\n"


def _job_lines(job: Job) -> Iterator[str]:
    yield f"gir {VERSION}"
    yield f"job {_q(job.name)}"
    yield f"level {job.level}"
    yield f"task {job.task}"
    yield f"labels {json.dumps(list(job.labels))}"
    if job.frozen:
        yield f"frozen {json.dumps(list(job.frozen))}"
    yield ""
    yield from _plan_lines("backbone", job.backbone)
    yield from _plan_lines("data", job.data, skip=("inputs", *_OF_DATA))
    for name, owner in _OF_DATA.items():
        if (plan := getattr(job.data, name)) != owner():
            yield from _plan_lines(name, plan)
    kind = "text" if isinstance(job.data.inputs, TextPlan) else "image"
    yield from _plan_lines(kind, job.data.inputs)
    yield from _plan_lines("train", job.train)
    for stage in job.stages:
        yield from _plan_lines("stage", stage)
    yield from _plan_lines("target", job.target)
    if job.distill != DistillPlan():
        yield from _plan_lines("distill", job.distill)
    if job.deploy != DeployPlan():
        yield from _plan_lines("deploy", job.deploy)
    if job.export != ExportPlan():
        yield from _plan_lines("export", job.export)
    if job.reference != ReferencePlan():
        yield from _plan_lines("reference", job.reference)
    yield from _model_lines(job.model)


def _plan_lines(name: str, plan: Any, skip: tuple[str, ...] = ()) -> Iterator[str]:
    yield f"plan {name}"
    for f in fields(plan):
        if f.name not in skip:
            yield f"  {f.name} = {json.dumps(getattr(plan, f.name))}"
    yield ""


def _model_lines(model: Model) -> Iterator[str]:
    yield f"model {_q(model.title)}"
    if model.cut:
        yield f"cut %{model.cut}"
    for d in model.dims:
        bound = "" if d.bound is None else f" <= {d.bound}"
        size = "?" if d.size is None else d.size
        yield f"dim {d.symbol} = {size}{bound} {_q(d.name)} {_q(d.doc)}"
    for c in model.consts:
        yield f"const {c.name} = {c.value!r} {_q(c.doc)}"
    for t in model.tensors:
        yield f"tensor {_q(t.key)} {t.dtype} {list(t.shape)}"
    for u in model.unused:
        yield f"unused {_q(u.key)} because {_q(u.reason)}"
    for one in model.lists:
        yield f"list {_q(one.name)} = [{','.join(map(str, one.index))}]"
    for module in model.modules:
        yield ""
        yield from _module_lines(module)


def _module_lines(m: Module) -> Iterator[str]:
    inputs = ", ".join(f"%{v.name}: {v.type}" for v in m.inputs)
    outputs = ", ".join("%" + o for o in m.outputs)
    sizes = f" sizes {', '.join(m.sizes)}" if m.sizes else ""
    yield f"module {m.name}({inputs}) -> {outputs}{sizes}"
    if m.doc:
        yield f"  doc {_q(m.doc)}"
    for i in m.instances:
        count = f" count {i.count}" if i.count != 1 else ""
        depth = f" depth {i.depth}" if i.depth >= 0 else ""
        zeros = f" zeros {', '.join(i.zeros)}" if i.zeros else ""
        sizes = ", ".join(f"{name}={size}" for name, size in i.sizes)
        sizes = f" sizes {sizes}" if sizes else ""
        reads = ", ".join(f"{path} = {print_source(s)}" for path, s in i.sources)
        reads = f" reads {reads}" if reads else ""
        yield (
            f"  sub {i.name} = {i.module} keys {_q(i.keys)}{depth}{count}{zeros}"
            f"{sizes}{reads}"
        )
    for p in m.parameters:
        source = print_source(p.source)
        role = p.role + (" frozen" if p.frozen else "")
        yield f"  param {p.name}: {p.type} {role} = {source}{_place(p.place)}"
    for op in m.ops:
        yield "  " + print_op(op)


def print_op(op: Op) -> str:
    results = ", ".join(f"%{r.name}: {r.type}" for r in op.results)
    name = f" {op.name}" if op.name else ""
    args = ", ".join("%" + a for a in op.args)
    attrs = "".join(f" {k}={_print_attr(v)}" for k, v in op.attrs)
    return f"{results} = {op.kind}{name}({args}){attrs}{_place(op.place)}"


def _place(place: str) -> str:
    return f" @{place}" if place else ""


def _print_attr(value: Attr) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Const(name):
            return f"${name}"
        case Dim():
            return f"#{value}"
        case tuple() if value and all(isinstance(v, Dim) for v in value):
            return "#[" + ",".join(map(str, value)) + "]"
        case tuple():
            return "[" + ",".join(repr(float(v)) for v in value) + "]"  # type: ignore
        case str():
            return _q(value)
        case _:
            return repr(value)


def print_source(source: Source) -> str:
    match source:
        case Checkpoint(key):
            return f"ckpt {_q(key)}"
        case Parameter(path):
            return f"old {_q(path)}"
        case Tie(path):
            return f"tie {_q(path)}"
        case Init(kind, value):
            return f"init {kind} {value!r}"
        case Concatenate(parts):
            return f"cat({', '.join(map(print_source, parts))})"
        case Sum(parts):
            return f"sum({', '.join(map(print_source, parts))})"
        case Rows(of, start, stop):
            return f"rows({print_source(of)}, {start}, {stop})"
        case Row(of, index):
            return f"row({print_source(of)}, {index})"
        case Take(of, axis, name, index):
            return f"take({print_source(of)}, {axis}, {_list(name, index)})"
        case Transpose(of):
            return f"transpose({print_source(of)})"
        case Repeat(of, rows):
            return f"repeat({print_source(of)}, {rows})"
        case Share(of, columns):
            return f"share({print_source(of)}, {columns})"
        case Noise(of, start, std):
            return f"noise({print_source(of)}, {start}, {std!r})"
        case Left(of, rank):
            return f"left({print_source(of)}, {rank})"
        case Right(of, rank):
            return f"right({print_source(of)}, {rank})"
        case Tile(of, rows, first):
            return f"tile({print_source(of)}, {rows}, {first})"
        case Stretch(of, rows, first):
            return f"stretch({print_source(of)}, {rows}, {first})"
        case Resize(of, before, after):
            grids = f"[{before[0]},{before[1]}], [{after[0]},{after[1]}]"
            return f"resize({print_source(of)}, {grids})"
        case Norms(of):
            return f"norms({print_source(of)})"
        case Gain(of, before, after):
            return f"gain({print_source(of)}, {before}, {after})"
        case Fold(bias, matrix, vector, times, width, name, index):
            parts = ", ".join(map(print_source, (bias, matrix, vector)))
            return f"fold({parts}, {times}, {width}, {_list(name, index)})"


def _list(name: str, index: tuple[int, ...]) -> str:
    """A list of what is kept by its name, and its entries where it has any here."""
    return _q(name) + (f", [{','.join(map(str, index))}]" if index else "")


# ----------------------------------------------------------------------------- parsing

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<value>%[A-Za-z_][\w]*(?:\.[\w]+)*)
    | (?P<type>(?:f32|i64|bool)\[[^\]]*\]\??)
    | (?P<dims>\#(?:\[[^\]]*\]|[\w*+]+))
    | (?P<floats>\[[^\]]*\])
    | (?P<const>\$[A-Za-z_]\w*)
    | (?P<place>@[\w.\-\[\]]+)
    | (?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|-inf)(?![\w.])
    | (?P<arrow>->)
    | (?P<bound><=)
    | (?P<word>[A-Za-z_][\w\-]*(?:\.[\w\-]+)*)
    | (?P<mark>[=(),:?])
    )""",
    re.VERBOSE,
)


@dataclass
class _Line:
    """The tokens of one line and how far they are read."""

    file: str
    number: int
    text: str
    indented: bool
    tokens: list[tuple[str, str, int]]
    at: int = 0

    def error(self, message: str) -> GenError:
        if self.at < len(self.tokens):
            _, text, column = self.tokens[self.at]
            place = Place(self.file, self.number, column + 1, len(text))
        elif not self.tokens:  # JSON, marked as a whole
            column = len(self.text) - len(self.text.lstrip())
            width = len(self.text.strip())
            place = Place(self.file, self.number, column + 1, max(width, 1))
        else:
            place = Place(self.file, self.number, len(self.text) + 1, 1)
        return fail("G301", message, place=place, help="see docs/ir.md for the grammar")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at][:2] if self.at < len(self.tokens) else ("end", "")

    def take(self, *kinds: str) -> str:
        kind, text = self.peek()
        if kind not in kinds:
            raise self.error(f"expected {' or '.join(kinds)}, not {text or 'the end'}")
        self.at += 1
        return text

    def mark(self, text: str) -> None:
        if self.peek()[1] != text:
            raise self.error(f'expected "{text}", not {self.peek()[1] or "the end"}')
        self.at += 1

    def maybe(self, text: str) -> bool:
        if self.peek()[1] == text and self.peek()[0] != "string":
            self.at += 1
            return True
        return False

    def string(self) -> str:
        text = self.take("string")
        try:
            return json.loads(text)
        except ValueError:
            self.at -= 1
            raise self.error(f"not a JSON string: {text}") from None

    def integer(self) -> int:
        text = self.take("number")
        try:
            return int(text)
        except ValueError:
            self.at -= 1
            raise self.error(f"expected a whole number, not {text}") from None

    def real(self) -> int | float:
        if self.peek()[1] in ("inf", "nan"):
            return float(self.take("word"))
        return _number(self.take("number"))

    def done(self) -> None:
        if self.at < len(self.tokens):
            raise self.error(f"nothing is expected here, not {self.peek()[1]}")

    def type(self) -> Type:
        text = self.take("type")
        try:
            return parse_type(text)
        except ValueError as e:
            self.at -= 1
            raise self.error(str(e)) from None


def _lines(text: str, file: str) -> Iterator[_Line]:
    for number, raw in enumerate(text.split("\n"), start=1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        line = _Line(file, number, raw, raw[:1].isspace(), [])
        if re.match(r"\s+[\w]+ = |(labels|frozen) ", raw):
            yield line  # a plan's value is JSON and not made of our tokens
            continue
        at = 0
        while raw[at:].strip():
            match = _TOKEN.match(raw, at)
            if not match:
                line.tokens.append(("?", raw[at:].strip()[:1], at))
                line.at = len(line.tokens) - 1
                raise line.error("not a token of this language")
            kind = match.lastgroup or ""
            line.tokens.append((kind, match[kind], match.start(kind)))
            at = match.end()
        yield line


_PLANS: dict[str, type] = {
    "backbone": Backbone,
    "data": DataPlan,
    **_OF_DATA,
    "text": TextPlan,
    "image": ImagePlan,
    "train": TrainPlan,
    "target": TargetPlan,
    "deploy": DeployPlan,
    "distill": DistillPlan,
    "export": ExportPlan,
    "reference": ReferencePlan,
}
_OPTIONAL = {*_OF_DATA, "text", "image", "deploy", "distill", "export", "reference"}


def parse_job(text: str, file: str = "job.gir") -> Job:
    """The job that a text describes; GenError (G301) at what is not a job's text."""
    head: dict[str, Any] = {}
    plans: dict[str, dict[str, Any]] = {}  # values with their lines
    stages: list[dict[str, Any]] = []
    model: dict[str, Any] = {
        "dims": [],
        "consts": [],
        "tensors": [],
        "unused": [],
        "lists": [],
        "modules": [],
    }
    plan: dict[str, Any] | None = None
    module: dict[str, Any] | None = None
    last: _Line | None = None
    for line in _lines(text, file):
        last = line
        if not line.tokens:  # JSON
            key, _, value = line.text.strip().partition(" ")
            value = value.removeprefix("= ") if line.indented else value
            try:
                parsed = json.loads(value)
            except ValueError:
                raise line.error("expected a JSON value") from None
            into = plan if line.indented else head
            if into is None or key in into:
                raise line.error(f'"{key}" does not belong here, or stands twice')
            if line.indented:
                into[key] = (parsed, line)
                continue
            into[key] = _retype(parsed, Any)
            if not _fits(into[key], tuple[str, ...]):
                raise line.error(f"{key} is a list of strings")
        elif line.indented:
            if module is None:
                raise line.error("an indented line belongs to a module or a plan")
            _module_line(line, module)
            line.done()
        else:
            plan, module = _top_line(line, head, plans, stages, model)
            line.done()
    if last is None:
        raise fail("G301", f"{file} is empty", help="see docs/ir.md for the grammar")
    end = _Line(file, last.number, last.text, False, [("end", "", 0)], at=1)
    for needed in ("gir", "job", "level", "task", "labels", "title"):
        if needed not in head:
            raise end.error(f'the job has no "{needed}" line')
    if set(plans) - _OPTIONAL != set(_PLANS) - _OPTIONAL:
        raise end.error(f"the job has the plans {sorted(plans)} and needs {[*_PLANS]}")
    kinds = [k for k in ("text", "image") if k in plans]
    if len(kinds) != 1:
        raise end.error("the job needs one plan of text or image")
    owned = (("inputs", "text or image"), *((name, name) for name in _OF_DATA))
    for own, word in owned:
        if own in plans["data"]:
            raise end.error(f'"{own}" is a plan of its own, {word}')
    kind = kinds[0]
    inputs = _construct(_PLANS[kind], plans.pop(kind), end)
    plans["data"]["inputs"] = (inputs, end)
    for name, owner in _OF_DATA.items():
        if name in plans:
            plans["data"][name] = (_construct(owner, plans.pop(name), end), end)
    return Job(
        name=head["job"],
        task=head["task"],
        labels=head["labels"],
        backbone=_construct(Backbone, plans["backbone"], end),
        model=Model(
            title=head["title"],
            cut=head.get("cut", ""),
            **{k: tuple(v) for k, v in model.items() if k != "modules"},
            modules=tuple(_finish(m) for m in model["modules"]),
        ),
        data=_construct(DataPlan, plans["data"], end),
        train=_construct(TrainPlan, plans["train"], end),
        target=_construct(TargetPlan, plans["target"], end),
        frozen=head.get("frozen", ()),
        stages=tuple(_construct(StagePlan, stage, end) for stage in stages),
        level=head["level"],
        reference=_construct(ReferencePlan, plans.get("reference", {}), end),
        deploy=_construct(DeployPlan, plans.get("deploy", {}), end),
        distill=_construct(DistillPlan, plans.get("distill", {}), end),
        export=_construct(ExportPlan, plans.get("export", {}), end),
    )


def _construct(kind: type, values: Mapping[str, tuple[Any, _Line]], end: _Line) -> Any:
    """A plan from JSON values; every field must be there and of its type."""
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    typed = {}
    for name, (value, line) in values.items():
        if name not in names:
            raise line.error(f"{kind.__name__} has no {name}")
        typed[name] = _retype(value, hints[name])
        if not _fits(typed[name], hints[name]):
            raise line.error(f"{kind.__name__}.{name} cannot be {value!r}")
    if missing := needed - set(values):
        raise end.error(f"{kind.__name__} needs {sorted(missing)}")
    return kind(**typed)


def _retype(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(_retype(v, Any) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, h) for h in get_args(hint))
    if origin is tuple:
        inner = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if inner[1:] == (Ellipsis,):
            return all(_fits(v, inner[0]) for v in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, hint)


def _top_line(
    line: _Line,
    head: dict[str, Any],
    plans: dict[str, Any],
    stages: list[dict[str, Any]],
    model: dict[str, Any],
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Read a line that is not indented; what the indented ones after it go into."""
    word = line.take("word")
    if word in head or (word == "model" and "title" in head):
        line.at -= 1
        raise line.error(f'"{word}" stands twice')
    match word:
        case "gir":
            if (version := line.integer()) != VERSION:
                line.at -= 1
                raise line.error(f"this reads version {VERSION}, not {version}")
            head["gir"] = version
        case "job":
            head["job"] = line.string()
        case "level" | "task":
            known = get_args(Level if word == "level" else Task)
            head[word] = line.take("word")
            if head[word] not in known:
                line.at -= 1
                raise line.error(
                    f"no {word} {head[word]}; there are {', '.join(known)}"
                )
        case "plan":
            name = line.take("word")
            if name == "stage":
                stages.append({})
                return stages[-1], None
            if name not in _PLANS or name in plans:
                line.at -= 1
                raise line.error(f"there is one plan of each of {[*_PLANS]}")
            plans[name] = {}
            return plans[name], None
        case "model":
            head["title"] = line.string()
        case "cut":
            head["cut"] = line.take("value")[1:]
        case "dim":
            symbol = line.take("word")
            line.mark("=")
            size = None if line.maybe("?") else line.integer()
            bound = line.integer() if line.maybe("<=") else None
            name, doc = line.string(), line.string()
            model["dims"].append(DimDef(symbol, size, name, bound, doc))
        case "const":
            name = line.take("word")
            line.mark("=")
            value = line.real()
            model["consts"].append(ConstDef(name, value, line.string()))
        case "tensor":
            key, dtype = line.string(), line.take("word")
            model["tensors"].append(Tensor(key, dtype, _shape(line)))
        case "list":
            name = line.string()
            line.mark("=")
            model["lists"].append(KeptList(name, _shape(line)))
        case "unused":
            key = line.string()
            line.mark("because")
            model["unused"].append(Unused(key, line.string()))
        case "module":
            module = _module_head(line)
            model["modules"].append(module)
            return None, module
        case _:
            line.at -= 1
            raise line.error(f'no line starts with "{word}"')
    return None, None


def _shape(line: _Line) -> tuple[int, ...]:
    text = line.take("floats")
    try:
        return tuple(int(size) for size in text[1:-1].split(",") if text[1:-1].strip())
    except ValueError:
        line.at -= 1
        raise line.error(f"not a shape: {text}") from None


def _grid(line: _Line) -> tuple[int, int]:
    match _shape(line):
        case rows, columns:
            return rows, columns
    line.at -= 1
    raise line.error("a grid has rows and columns")


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def _values(line: _Line) -> tuple[Value, ...]:
    """`%a: f32[B], %b: f32[B]`, none or more."""
    values = []
    while line.peek()[0] == "value":
        name = line.take("value")[1:]
        line.mark(":")
        values.append(Value(name, line.type()))
        if not line.maybe(","):
            break
    return tuple(values)


def _names(line: _Line) -> tuple[str, ...]:
    names = []
    while line.peek()[0] == "value":
        names.append(line.take("value")[1:])
        if not line.maybe(","):
            break
    return tuple(names)


def _module_head(line: _Line) -> dict[str, Any]:
    name = line.take("word")
    line.mark("(")
    inputs = _values(line)
    line.mark(")")
    line.take("arrow")
    outputs = _names(line)
    sizes = [line.take("word")] if line.maybe("sizes") else []
    while sizes and line.maybe(","):
        sizes.append(line.take("word"))
    return {
        "name": name,
        "inputs": inputs,
        "outputs": outputs,
        "sizes": sizes,
        "ops": [],
        "parameters": [],
        "instances": [],
        "doc": "",
    }


def _finish(module: dict[str, Any]) -> Module:
    lists = {k: tuple(v) for k, v in module.items() if isinstance(v, list)}
    return Module(**{**module, **lists})


def _module_line(line: _Line, module: dict[str, Any]) -> None:
    if line.peek()[0] == "value":
        module["ops"].append(_op(line))
        return
    match line.take("word"):
        case "doc":
            module["doc"] = line.string()
        case "sub":
            name = line.take("word")
            line.mark("=")
            inner = line.take("word")
            line.mark("keys")
            keys = line.string()
            depth = line.integer() if line.maybe("depth") else -1
            count = line.integer() if line.maybe("count") else 1
            zeros = [line.take("word")] if line.maybe("zeros") else []
            while zeros and line.maybe(","):
                zeros.append(line.take("word"))
            sizes = [_given_size(line)] if line.maybe("sizes") else []
            while sizes and line.maybe(","):
                sizes.append(_given_size(line))
            reads = [_given_source(line)] if line.maybe("reads") else []
            while reads and line.maybe(","):
                reads.append(_given_source(line))
            module["instances"].append(
                Instance(
                    name,
                    inner,
                    keys,
                    depth,
                    count,
                    tuple(zeros),
                    tuple(sizes),
                    tuple(reads),
                )
            )
        case "param":
            name = line.take("word")
            line.mark(":")
            kind = line.type()
            role = line.take("word")
            if role not in ROLES:
                line.at -= 1
                raise line.error(f"no role {role}; there are {', '.join(ROLES)}")
            frozen = line.maybe("frozen")
            line.mark("=")
            source = _source(line)
            module["parameters"].append(
                ParameterDef(name, kind, role, source, _parse_place(line), frozen)
            )
        case _:
            line.at -= 1
            raise line.error("a module has doc, sub, param and operations")


def _given_size(line: _Line) -> tuple[str, str]:
    name = line.take("word")
    line.mark("=")
    return name, line.take("word")


def _given_source(line: _Line) -> tuple[str, Source]:
    path = line.take("word")
    line.mark("=")
    return path, _source(line)


def _parse_place(line: _Line) -> str:
    return line.take("place")[1:] if line.peek()[0] == "place" else ""


def _op(line: _Line) -> Op:
    results = _values(line)
    line.mark("=")
    kind = line.take("word")
    name = line.take("word", "number") if line.peek()[0] in ("word", "number") else ""
    line.mark("(")
    args = _names(line)
    line.mark(")")
    attrs = []
    while line.peek()[0] == "word":
        key = line.take("word")
        line.mark("=")
        attrs.append((key, _attr(line)))
    return Op(kind, results, args, name, tuple(attrs), _parse_place(line))


def _attr(line: _Line) -> Attr:
    kind, text = line.peek()
    line.at += 1
    try:
        match kind:
            case "string":
                return json.loads(text)
            case "const":
                return Const(text[1:])
            case "dims" if text.startswith("#["):
                return tuple(parse_dim(d) for d in text[2:-1].split(","))
            case "dims":
                return parse_dim(text[1:])
            case "floats":
                return tuple(float(v) for v in text[1:-1].split(",") if text[1:-1])
            case "number":
                return _number(text)
            case "word" if text in ("inf", "nan"):
                return float(text)
            case "word" if text in ("true", "false"):
                return text == "true"
    except ValueError:
        pass  # the message below says it better than the parser of the part
    line.at -= 1
    raise line.error(f"not a value of an attribute: {text}")


def _source(line: _Line) -> Source:
    word = line.take("word")
    match word:
        case "ckpt":
            return Checkpoint(line.string())
        case "old":
            return Parameter(line.string())
        case "tie":
            return Tie(line.string())
        case "init":
            kind = line.take("word")
            if kind not in ("normal", "constant", "kaiming"):
                line.at -= 1
                raise line.error(f"no initialisation {kind}")
            return Init(kind, float(line.real()))
        case "cat" | "sum":
            line.mark("(")
            parts = [_source(line)]
            while line.maybe(","):
                parts.append(_source(line))
            line.mark(")")
            return (Concatenate if word == "cat" else Sum)(tuple(parts))
        case "rows" | "row" | "transpose" | "norms":
            line.mark("(")
            of = _source(line)
            numbers = []
            while line.maybe(","):
                numbers.append(line.integer())
            line.mark(")")
            if len(numbers) != {"rows": 2, "row": 1}.get(word, 0):
                raise line.error(f"{word} takes another number of rows")
            kinds = {"rows": Rows, "row": Row, "transpose": Transpose, "norms": Norms}
            return kinds[word](of, *numbers)
        case "take":
            line.mark("(")
            of = _source(line)
            line.mark(",")
            axis = line.integer()
            line.mark(",")
            name, index = _kept(line)
            line.mark(")")
            return Take(of, axis, name, index)
        case "fold":
            line.mark("(")
            bias = _source(line)
            line.mark(",")
            matrix = _source(line)
            line.mark(",")
            vector = _source(line)
            line.mark(",")
            times = line.integer()
            line.mark(",")
            width = line.integer()
            line.mark(",")
            name, index = _kept(line)
            line.mark(")")
            return Fold(bias, matrix, vector, times, width, name, index)
        case "repeat" | "share" | "left" | "right":
            line.mark("(")
            of = _source(line)
            line.mark(",")
            size = line.integer()
            line.mark(")")
            return {"repeat": Repeat, "share": Share, "left": Left, "right": Right}[
                word
            ](of, size)
        case "gain":
            line.mark("(")
            of = _source(line)
            line.mark(",")
            before = line.integer()
            line.mark(",")
            after = line.integer()
            line.mark(")")
            return Gain(of, before, after)
        case "noise":
            line.mark("(")
            of = _source(line)
            line.mark(",")
            start = line.integer()
            line.mark(",")
            std = float(line.real())
            line.mark(")")
            return Noise(of, start, std)
        case "tile" | "stretch":
            line.mark("(")
            of = _source(line)
            line.mark(",")
            rows = line.integer()
            line.mark(",")
            first = line.integer()
            line.mark(")")
            return (Tile if word == "tile" else Stretch)(of, rows, first)
        case "resize":
            line.mark("(")
            of = _source(line)
            line.mark(",")
            before = _grid(line)
            line.mark(",")
            after = _grid(line)
            line.mark(")")
            return Resize(of, before, after)
    line.at -= 1
    raise line.error(f"no source {word}")


def _kept(line: _Line) -> tuple[str, tuple[int, ...]]:
    """The name of a list, and its entries where they stand here."""
    return line.string(), _shape(line) if line.maybe(",") else ()
