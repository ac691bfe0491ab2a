"""The view of model.py: a job's modules as classes, its sizes as Config, its loader."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from generator.ir.cut import Division, divisions
from generator.ir.dims import Dim, dim
from generator.ir.emit import parameter_types
from generator.ir.job import Attr, Const, Instance, Job, Model, Module, Op
from generator.ir.ops import ADAPTED
from generator.ir.plans import TextPlan
from generator.render import low_rank, parts
from generator.render.code import LINE, Body
from generator.render.loader import LoaderView, loader_view
from generator.render.parts import Classes, Given, Linear
from generator.render.sizes import Sizes
from generator.render.text import fill, prose, py

NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


# The classes of linears that are no plain ones.
CLASSES = {
    "lora_linear": "LoRALinear",
    "dora_linear": "DoRALinear",
    "ia3_linear": "IA3Linear",
    low_rank.KIND: "LowRankLinear",
}
# What variables of partial ones are called.
LOCAL = {
    "LoRALinear": "lora",
    "DoRALinear": "dora",
    "IA3Linear": "ia3",
    "LowRankLinear": "low_rank",
}
# What their constructors call attributes by other names.
KEYWORDS: dict[str, str] = {}
# What begins the value of an attribute that is a module, not a number.
MODULES = ("nn.", "Dropout(")


@dataclass(frozen=True)
class FieldView:
    name: str
    kind: str
    value: str
    comment: str


@dataclass(frozen=True)
class PartView:
    """A method that does a part of forward."""

    signature: str
    doc: str
    body: tuple[str, ...]


@dataclass(frozen=True)
class ClassView:
    name: str
    doc: str
    given: str  # what its constructor takes beside Config: ", hidden: int"
    buffers: tuple[str, ...]  # tensors that are no parameters
    init: tuple[str, ...]
    signature: str
    forward_doc: tuple[str, ...]
    body: tuple[str, ...]
    parts: tuple[PartView, ...]  # of forward, where it is divided


@dataclass(frozen=True)
class RopeView:
    """The tables of a rotary embedding, by the formula of its kind; all are code."""

    kind: str
    theta: str
    width: str  # of a head
    bare_width: str  # the same as an operand
    attrs: dict[str, str]
    scale: str  # of the tables; "" for 1
    factors: tuple[str, ...]  # of each pair, where they have their own
    first: str  # the pairs between which a ramp goes
    last: str


@dataclass(frozen=True)
class ModelView:
    doc: tuple[str, ...]
    labels: str
    fields: tuple[FieldView, ...]
    functions: tuple[str, ...]
    rope: RopeView | None
    classes: tuple[ClassView, ...]
    loader: LoaderView
    adapted: tuple[str, ...]  # the classes of linears with an adapter to merge
    dora_bias: Literal["all", "some", "none"]  # of those of DoRA has a bias
    low_rank_dropout: bool  # one of them has dropout
    unbiased: tuple[str, ...]  # classes of linears of which one at least has no bias
    uses_f: bool
    uses_math: bool
    uses_partial: bool
    uses_callable: bool


def model_view(job: Job) -> ModelView:
    model = low_rank.with_pairs(job.model)
    sizes = Sizes(model)
    kinds = parts.classes(model)
    functions: set[str] = set()
    consts: set[str] = set()
    classes = []
    divided = divisions(job)
    for module in model.modules:
        if kinds.of[module.name] != module.name:
            continue
        cut = divided if module is model.main else ()
        inside = sizes.within(kinds.sizes[module.name])
        bodies = [
            Body(one.model, half, inside)
            for one in cut
            for half in (one.prefix, one.suffix)
        ] or [Body(model, module, inside)]
        lines = [tuple(body.write()) for body in bodies]
        body = bodies[0]
        for other in bodies[1:]:
            body.setup |= other.setup
            body.functions |= other.functions
        functions |= body.functions
        for one in kinds.members(module.name):
            consts |= {
                v.name for op in one.ops for _, v in op.attrs if isinstance(v, Const)
            }
        classes.append(
            ClassView(
                name=module.name,
                doc=prose(module.doc),
                given="".join(f", {text}" for text in _takes(module, kinds, sizes)),
                buffers=tuple(_buffers(body, module)),
                init=tuple(_init(module, body, inside, kinds)),
                signature=_signature(module, main=module is model.main),
                forward_doc=_forward_doc(job) if module is model.main else (),
                body=(_composed(job, cut[0]),) if cut else lines[0],
                parts=tuple(_parts(job, cut, lines)),
            )
        )
    special = {op.kind for m in model.modules for op in m.ops if op.kind in CLASSES}
    loader = loader_view(job, sizes)
    rope = _rope(model, sizes)
    return ModelView(
        doc=tuple(_doc(job)),
        labels=py(job.labels),
        fields=tuple(_fields(model, sizes, consts, rope is not None)),
        functions=tuple(sorted({*functions, *special} - {"rope_tables", "select"})),
        rope=rope,
        classes=tuple(classes),
        loader=loader,
        adapted=adapted(model),
        dora_bias=_biased(model, "dora_linear"),
        low_rank_dropout=any(
            op.kind in ADAPTED and "dropout" in op.attrs_dict
            for module in model.modules
            for op in module.ops
        ),
        unbiased=_unbiased(model),
        uses_f=any("F." in line for c in classes for line in c.body)
        or loader.stretches
        or loader.resizes,
        uses_math=rope is not None and rope.kind == "llama3",
        uses_partial=any("partial(" in line for c in classes for line in c.init),
        uses_callable=any("Callable[" in c.given for c in classes),
    )


def render(job: Job) -> str:
    return fill("model.py.j2", model_view(job))


def _doc(job: Job) -> list[str]:
    licence = f" ({prose(job.backbone.licence)})" if job.backbone.licence else ""
    weights = f"{prose(job.backbone.source)}{licence}, by `load_pretrained`."
    return described(f"{summary(job)}, all in this file.", weights, job)


def described(summary: str, weights: str, job: Job) -> list[str]:
    """A docstring's lines: what the model is, where its weights are, and its letters."""
    letters = ", ".join(f"{d.symbol} {d.doc}" for d in job.model.dims if d.doc)
    return [
        *_wrap(summary, 0, 85),
        "",
        *_wrap(f"Weights  {weights}", 9),
        *_wrap(f"Shapes   {prose(letters)}.", 9),
    ]


def summary(job: Job) -> str:
    """The model in a few words, prose."""
    model = job.model
    named = {d.name: d.size for d in model.dims}
    n = len(job.labels)
    count = NUMBERS[n] if n < len(NUMBERS) else str(n)
    head = {
        "regression": f"a regression head of {count} number{'s' if n > 1 else ''}",
        "multi-label": f"a head of {count} independent labels",
    }.get(job.task, f"a {count}-label classifier")
    blocks = named.get("blocks")
    shape = f", {blocks} blocks of width {named['width']}" if blocks else ""
    return f"{prose(model.title)}{shape}, with {head}"


def _wrap(text: str, indent: int, width: int = 88) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fields(
    model: Model, sizes: Sizes, consts: set[str], rope: bool
) -> list[FieldView]:
    fields = []
    derived = {d.symbol for d in model.dims if d.size is not None and not d.name}
    for d in model.dims:
        if d.size is None:
            if d.bound is not None and rope:
                fields.append(
                    FieldView("positions", "int", str(d.bound), "the longest row")
                )
            continue
        if not d.name or (d.symbol not in sizes.used and d.name != "blocks"):
            continue
        comment = d.symbol if d.doc else ""
        if d.symbol == "H":
            widths = [f"{s} = {model.sizes[s]}" for s in sorted(derived)]
            comment = ", so ".join([comment, *widths]) if widths else comment
        fields.append(FieldView(d.name, "int", str(d.size), comment))
    for c in model.consts:
        if c.name in consts:
            kind = "int" if isinstance(c.value, int) else "float"
            fields.append(FieldView(c.name, kind, py(c.value), prose(c.doc)))
    return fields


def _signature(module: Module, main: bool) -> str:
    args = ["self"]
    for value in module.inputs:
        kind = "Tensor | None" if value.type.optional else "Tensor"
        default = " = None" if main and value.type.optional else ""
        args.append(f"{value.name}: {kind}{default}")
    n = len(module.outputs)
    result = "Tensor" if n == 1 else f"tuple[{', '.join(['Tensor'] * n)}]"
    return f"def forward({', '.join(args)}) -> {result}:"


def _composed(job: Job, cut: Division) -> str:
    """The body of a forward that is the one of its parts after the other."""
    first = ", ".join(v.name for v in cut.prefix.inputs)
    rest = ", ".join(["", *(v.name for v in cut.suffix.inputs[1:])])
    by = f"_{cut.blocks}" if job.stages else ""
    return f"return self.suffix{by}(self.prefix{by}({first}){rest})"


def _parts(
    job: Job, cuts: Sequence[Division], bodies: Sequence[tuple[str, ...]]
) -> Iterator[PartView]:
    """The methods of a model that is cut: what is frozen, and the rest, for each cut."""
    for number, cut in enumerate(cuts):
        value = cut.suffix.inputs[0]
        x, shape = value.base, Sizes(job.model).shape(value.type.shape)
        by, what = "", f"What is frozen, up to {x} {shape}: the same in every epoch."
        if job.stages:
            count = f"{cut.blocks} blocks" if cut.blocks > 1 else "block"
            by = f"_{cut.blocks}"
            what = f"{x} {shape} behind the first {count}, for stages that freeze them."
        docs = what, f"Logits (B, K) of what `prefix{by}` gives."
        for name, half, doc, body in zip(
            ("prefix", "suffix"),
            (cut.prefix, cut.suffix),
            docs,
            bodies[2 * number :],
        ):
            named = tuple(replace(v, name=v.base) for v in half.inputs)
            signature = _signature(replace(half, inputs=named), main=False)
            yield PartView(signature.replace("forward", name + by, 1), doc, body)


def _forward_doc(job: Job) -> tuple[str, ...]:
    plan = job.data.inputs
    beside = _beside(job)
    if not isinstance(plan, TextPlan):
        text = f"Logits (B, K) of images (B, 3, height, width).{beside}"
        return tuple(textwrap.wrap(text, 77, break_on_hyphens=False))
    text = "Logits (B, K) of token ids (B, T), padded on the right. "
    if plan.token_types:
        text += "`types` (B, T) is 0 on the first text of a row and 1 on the second. "
    text += "`mask` (B, T) is true on real tokens; None says that every token is real."
    text += beside
    return tuple(textwrap.wrap(text, 77, break_on_hyphens=False))


def _beside(job: Job) -> str:
    """What forward is told of a row beside its text or image."""
    numbers, categories = job.data.numbers, job.data.features.categorical
    parts = ["`numbers` (B, X)"] * (numbers > 0)
    parts += ["`categories` (B, A)"] * bool(categories)
    return f" {' and '.join(parts)} are what features.py makes of rows." * bool(parts)


def _takes(module: Module, kinds: Classes, sizes: Sizes) -> list[str]:
    """What the constructor of a class takes beside Config: sizes, and what makes parts."""
    found = [f"{sizes.named[s]}: int" for s in kinds.sizes[module.name]]
    for one in kinds.given[module.name]:
        kind = "Callable[..., nn.Module]" if one.linears else "type[nn.Module]"
        found.append(f"{one.name}: {kind}")
    return found


def _init(module: Module, body: Body, sizes: Sizes, kinds: Classes) -> list[str]:
    """The lines of `__init__`: sizes, then parts in the order of their parameters."""
    lines = [
        f"self.{name} = {value}"
        for name, value in body.setup.items()
        if not value.startswith(MODULES)
    ]
    done: set[str] = set()
    for op in module.ops:
        if op.kind in ("call", "repeat"):
            stem, dot, number = op.name.rpartition(".")
            name = stem if dot and number.isdigit() else op.name
            if name not in done:
                lines += _instances(module, name, sizes, kinds)
        elif op.name and op.name not in done:
            name = op.name
            stem = name.rpartition(".")[0]
            if stem and stem not in done:  # two of low rank, of which one is special
                lines.append(f"self.{stem} = nn.Module()")
                done.add(stem)
            lines.append(f"self.{name} = {_part(module, op, sizes, kinds)}")
        else:
            continue
        done.add(name)
    lines += [
        f"self.{name} = {value}"
        for name, value in body.setup.items()
        if value.startswith(MODULES)
    ]
    for op in module.ops:
        if op.kind == "select":  # which they are comes with the weights
            width = op.attrs_dict["width"]
            assert isinstance(width, Dim)
            few = f"torch.arange({sizes.python(width)})"
            lines.append("# Of a row's vector; which they are comes with the weights.")
            lines.append(f'self.register_buffer("{op.attrs_dict["by"]}", {few})')
    for op in module.ops:
        if op.kind == "rescale":
            wide = sizes.python(op.results[0].type.shape[-1])
            lines += [
                "# Deviations and means of the targets; training sets them.",
                f'self.register_buffer("scale", torch.ones({wide}))',
                f'self.register_buffer("shift", torch.zeros({wide}))',
            ]
    if "rope_tables" in body.functions:
        lines += [
            "cos, sin = rope_tables(c)",
            'self.register_buffer("cos", cos, persistent=False)',
            'self.register_buffer("sin", sin, persistent=False)',
        ]
    return lines


def _buffers(body: Body, module: Module) -> Iterator[str]:
    """The names of tensors that are no parameters."""
    if "rope_tables" in body.functions:
        yield from ("cos", "sin")
    yield from (str(op.attrs_dict["by"]) for op in module.ops if op.kind == "select")
    if any(op.kind == "rescale" for op in module.ops):
        yield from ("scale", "shift")


def _part(module: Module, op: Op, sizes: Sizes, kinds: Classes) -> str:
    """What holds an operation's parameters."""
    types = parameter_types(module.parameters, op.name)
    bias = "" if "bias" in types else ", bias=False"
    if given := kinds.argument(module, (op.name, "")):
        wide, inner = types["weight"].shape
        return f"{given.name}({sizes.python(inner)}, {sizes.python(wide)}{bias})"
    match op.kind:
        case "linear":
            wide, inner = types["weight"].shape
            return f"nn.Linear({sizes.python(inner)}, {sizes.python(wide)}{bias})"
        case kind if kind in CLASSES:
            wide, inner = types["weight"].shape
            given = [sizes.python(inner), sizes.python(wide)]
            if low := types.get("lora_a") or types.get(low_rank.REDUCE):
                given.append(sizes.python(low.shape[0]))
            names = ("scale", "dropout", "of")
            numbers = [op.attrs_dict[n] for n in names if n in op.attrs_dict]
            given += [number(n) for n in numbers]
            return f"{CLASSES[op.kind]}({', '.join(given)}{bias})"
        case "layer_norm" | "rms_norm":
            kind = "LayerNorm" if op.kind == "layer_norm" else "RMSNorm"
            eps = op.attrs_dict["eps"]
            text = number(eps)
            extra = bias if op.kind == "layer_norm" else ""
            return f"nn.{kind}({sizes.python(types['weight'].shape[0])}, {text}{extra})"
        case "embedding" | "positions" | "row":
            rows, width = types["weight"].shape
            return f"nn.Embedding({sizes.python(rows)}, {sizes.python(width)})"
        case "parameter":
            shape = ", ".join(sizes.python(d) for d in types[""].shape)
            return f"nn.Parameter(torch.zeros({shape}))"
        case "patches":
            wide, channels, high, across = types["weight"].shape
            kernel = sizes.python(high)
            if high != across:
                kernel = f"({kernel}, {sizes.python(across)})"
            return (
                f"nn.Conv2d({sizes.python(channels)}, {sizes.python(wide)}, "
                f"{kernel}, stride={kernel}{bias})"
            )
    raise ValueError(f"{op.kind} holds no parameters")


def _biased(model: Model, kind: str) -> Literal["all", "some", "none"]:
    """How many of the operations of a kind have a bias."""
    found = {
        "bias" in parameter_types(module.parameters, op.name)
        for module in model.modules
        for op in module.ops
        if op.kind == kind
    }
    if len(found) == 2:
        return "some"
    return "all" if True in found else "none"


def _unbiased(model: Model) -> tuple[str, ...]:
    """The classes of linears whose constructor has to be told that there is no bias."""
    found = {
        CLASSES[op.kind]
        for module in model.modules
        for op in module.ops
        if op.kind in CLASSES
        and "bias" not in parameter_types(module.parameters, op.name)
    }
    return tuple(sorted(found))


def adapted(model: Model) -> tuple[str, ...]:
    """The classes of the linears that an adapter is part of."""
    kinds = {op.kind for module in model.modules for op in module.ops}
    return tuple(CLASSES[kind] for kind in ADAPTED if kind in kinds)


def number(value: Attr) -> str:
    """An attribute as an expression."""
    return f"c.{value.name}" if isinstance(value, Const) else py(value)


def _instances(module: Module, name: str, sizes: Sizes, kinds: Classes) -> list[str]:
    """The line of one instance, or the lines of a list of them."""
    members = [i for i in module.instances if i.name.rpartition(".")[0] == name]
    if members:
        return _list(module, name, members, sizes, kinds)
    one = module.instance(name)
    given = kinds.argument(module, (name, ""))
    kind = given.name if given else kinds.of[one.module]
    args = ", ".join(["c", *_given(module, one, sizes, kinds)])
    return [f"self.{name} = {kind}({args})"]


def _given(
    module: Module, instance: Instance, sizes: Sizes, kinds: Classes
) -> tuple[str, ...]:
    """What an instance's constructor is given beside Config, in code of its module's."""
    kind = kinds.of[instance.module]
    found = [
        sizes.python(dim(given))
        for size, given in instance.sizes
        if size in kinds.sizes[kind]
    ]
    scope, *_ = kinds.model.scopes[module.name]
    values = kinds.values(instance.module, instance.within(scope))
    for name, value in values.items():
        handed = kinds.argument(module, (instance.name, name))
        found.append(handed.name if handed else _maker(value, sizes))
    return tuple(found)


def _maker(value: Given, sizes: Sizes) -> str:
    """What makes a part, called with its sizes: its class, with what else that takes."""
    if not isinstance(value, Linear):
        return value
    if value.kind == "linear":
        return "nn.Linear"
    given = [CLASSES[value.kind]]
    if value.rank:
        given.append(f"rank={sizes.python(value.rank)}")
    given += [f"{KEYWORDS.get(n, n)}={number(v)}" for n, v in reversed(value.attrs)]
    return f"partial({', '.join(given)})"


def _list(
    module: Module, name: str, members: list[Instance], sizes: Sizes, kinds: Classes
) -> list[str]:
    """A ModuleList of members in a row; one class after another."""
    model = kinds.model
    each = [(kinds.of[i.module], _given(module, i, sizes, kinds), i) for i in members]
    runs = [(kind, [*some]) for kind, some in groupby(each, lambda one: one[0])]
    total = sum(i.count for i in members)
    is_blocks = model.sizes.get("L") == total and "L" in sizes.named
    lines: list[str] = []
    if len(runs) > 2 and not any(given for _, given, _ in each):
        one = name.removesuffix("s")
        order = _data([((kind,), i.count) for kind, _, i in each], one)
        return _over(f"self.{name} = nn.ModuleList", f"{one}(c)", one, order)
    for at, (kind, some) in enumerate(runs):
        n = sum(i.count for _, _, i in some)
        given = [(own, i.count) for _, own, i in some]
        start = f"self.{name}.extend" if at else f"self.{name} = nn.ModuleList"
        if len({own for own, _ in given}) > 1:
            names = [sizes.named[s] for s in kinds.sizes[kind]]
            names += [one.name for one in kinds.given[kind]]
            named, given = _rows(given)
            lines += named
            made = f"{kind}({', '.join(['c', *names])})"
            rows = ", ".join(names)
            lines += _over(start, made, rows, _data(given, rows))
            continue
        made = f"{kind}({', '.join(['c', *given[0][0]])})"
        count = str(n)
        if is_blocks and n > 1:
            sizes.used.add("L")
            left = total - n
            count = f"c.{sizes.named['L']}" + (f" - {left}" if left else "")
        if n > 1:
            lines += _over(start, made, "_", f"range({count})")
        elif at:
            lines.append(f"self.{name}.append({made})")
        else:
            lines.append(f"{start}([{made}])")
    return lines


Rows = list[tuple[tuple[str, ...], int]]  # what members are given, and how many of them


def _rows(given: Rows) -> tuple[list[str], Rows]:
    """Names for what makes linears with more than their sizes, and the rows by them.

    Where rows have nothing but such, a whole row has a name.
    """
    makers = ("nn.Linear", "partial(")
    whole = all(cell.startswith(makers) for row, _ in given for cell in row)
    if not any(cell.startswith("partial(") for row, _ in given for cell in row):
        return [], given
    names: dict[tuple[str, ...], str] = {}
    taken: Counter[str] = Counter()
    for row, _ in given:
        for part in [row] if whole else [(cell,) for cell in row]:
            special = next((c for c in part if c.startswith("partial(")), None)
            if part in names or not (special or (whole and len(row) > 1)):
                continue
            called = "plain"
            if special:
                cls = special.removeprefix("partial(").partition(",")[0]
                called = LOCAL[cls]
            taken[called] += 1
            number = taken[called]
            names[part] = called + (f"_{number}" if number > 1 else "")
    lines = [f"{name} = {', '.join(part)}" for part, name in names.items()]
    if whole:
        return lines, [((names.get(row, row[0]),), n) for row, n in given]
    return lines, [(tuple(names.get((c,), c) for c in row), n) for row, n in given]


def _data(given: Sequence[tuple[tuple[str, ...], int]], names: str) -> str:
    """What members in a row are given as a list: `[c.hidden] * 3 + [c.hidden_2]`.

    `names` are what a comprehension over it calls them.
    """
    runs: list[tuple[str, int]] = []
    for own, n in given:
        text = own[0] if len(own) == 1 else f"({', '.join(own)})"
        if runs and runs[-1][0] == text:
            runs[-1] = (text, runs[-1][1] + n)
        else:
            runs.append((text, n))
    each = f"({', '.join(text for text, n in runs for _ in range(n))})"
    alternate = len(runs) == sum(n for _, n in runs) or len(runs) > 3
    if alternate and len(f"    for {names} in {each}") <= LINE:
        return each
    return " + ".join(f"[{text}]" + (f" * {n}" if n > 1 else "") for text, n in runs)


def _over(start: str, made: str, name: str, data: str) -> list[str]:
    """A call with a comprehension, over as many lines as it needs."""
    line = f"{start}({made} for {name} in {data})"
    if len(line) <= LINE:
        return [line]
    inside = f"    {made} for {name} in {data}"
    if len(inside) <= LINE:
        return [f"{start}(", inside, ")"]
    return [f"{start}(", f"    {made}", f"    for {name} in {data}", ")"]


def _rope(model: Model, sizes: Sizes) -> RopeView | None:
    found = [op for m in model.modules for op in m.ops if op.kind == "rope_tables"]
    if not found:
        return None
    attrs = found[0].attrs_dict
    width, factors = attrs["width"], attrs.get("factors", ())
    assert isinstance(width, Dim) and isinstance(factors, tuple)
    text = sizes.python(width)
    scale = attrs.get("attention_factor", 1.0)
    first, last = _ramp(attrs, width.value(model.sizes))
    return RopeView(
        kind=str(attrs["kind"]),
        theta=py(attrs["theta"]),
        width=text.removeprefix("(").removesuffix(")"),
        bare_width=text,
        attrs={
            k: py(v)
            for k, v in attrs.items()
            if isinstance(v, (int, float)) and not isinstance(v, bool)
        },
        scale="" if scale == 1.0 else py(scale),
        factors=tuple(py(f) for f in factors),
        first=py(first),
        last=py(last),
    )


def _ramp(attrs: Mapping[str, Attr], width: int) -> tuple[float, float]:
    """YaRN's first and last pair: those that turn beta times in the first context."""
    if attrs["kind"] != "yarn":
        return 0, 1
    theta, context = attrs["theta"], attrs["original_positions"]
    fast, slow = attrs["beta_fast"], attrs["beta_slow"]
    assert isinstance(theta, float) and isinstance(context, int)
    assert isinstance(fast, float) and isinstance(slow, float)

    def pair(turns: float) -> float:
        return width * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(fast), pair(slow)
    if attrs.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    # A ramp of no length is a step; the reference makes it this long.
    return first, last if last != first else last + 0.001
