"""From a module's operations to the body of a `forward`: expressions and statements.

A value called "_" is written inside the expression that uses it, as long as the line
stays readable; every other value is a variable of its name. Names come back (`x`, then
`x` again) wherever the older value is no longer needed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from generator.ir.dims import Dim, Type, number
from generator.ir.job import Const, Model, Module, Op
from generator.render.sizes import Sizes
from generator.render.text import py

LINE = 88 - 8  # what a statement of a method may take
LONG = 71  # an expression longer than this is not put inside another


@dataclass(frozen=True)
class Parts:
    """What an operation needs around its expression."""

    text: str
    binary: bool = False  # needs parentheses before an attribute or an index
    comment: bool = False  # its shape deserves a comment


@dataclass
class Body:
    """The statements of one forward, and what they need of `__init__` and of the file."""

    model: Model
    module: Module
    sizes: Sizes
    lines: list[str] = field(default_factory=list)
    setup: dict[str, str] = field(default_factory=dict)  # attribute: its value
    functions: set[str] = field(default_factory=set)  # helpers of the file
    holder: dict[str, str] = field(default_factory=dict)  # variable: value it holds
    variable: dict[str, str] = field(default_factory=dict)  # value: its variable
    pending: dict[str, tuple[Parts, Op]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uses = Counter(a for op in self.module.ops for a in op.args)
        self.uses.update(self.module.outputs)
        for value in self.module.inputs:
            self._hold(value.base, value.name)

    # ------------------------------------------------------------------- statements

    def write(self) -> list[str]:
        ops = list(self.module.ops)
        at = 0
        while at < len(ops):
            loop = loop_at(self.module, ops, at)
            if loop:
                self._loop(ops[at : at + loop])
                at += loop
                continue
            self._op(ops[at])
            at += 1
        self.lines.append(
            "return " + ", ".join(self._use(o) for o in self.module.outputs)
        )
        return self.lines

    def _op(self, op: Op) -> None:
        if len(op.results) != 1:
            self._several(op)
            return
        (result,) = op.results
        for arg in op.args:
            if arg in self.pending and self._twice(op, arg):
                self._settle(arg)
        parts = self._expression(op)
        if len(parts.text) > LONG:
            # Too much for one line: the largest of what it is made of gets a name.
            inner = [a for a in op.args if a in self.pending and "(" in self._peek(a)]
            if inner:
                self._settle(max(inner, key=lambda a: len(self._peek(a))))
                parts = self._expression(op)
        inline = result.base == "_" and self.uses[result.name] == 1
        for arg in op.args:
            self._used(arg)
        if inline and op.kind != "repeat":
            self.pending[result.name] = (parts, op)
        else:
            self._assign(result.name, parts, result.type)

    def _twice(self, op: Op, arg: str) -> bool:
        """Whether an operation's expression says its operand more than once."""
        quick = op.kind == "activation" and op.attrs_dict["kind"] == "quick_gelu"
        return quick or op.kind == "pick" or op.args.count(arg) > 1

    def _several(self, op: Op) -> None:
        for arg in op.args:
            if arg in self.pending and op.kind != "heads":
                self._settle(arg)
        first = None
        if op.kind == "heads":
            first = self._heads(op)
            names = [self._name(r.name) for r in op.results]
            right = first
        else:
            names = [self._name(r.name) for r in op.results]
            right = self._tables(op)
        for arg in op.args:
            self._used(arg)
        left = ", ".join(names)
        self._line(f"{left} = {right}", op.results[0].type, each=True)
        for result, name in zip(op.results, names, strict=True):
            self._hold(name, result.name)

    def _assign(self, value: str, parts: Parts, kind: Type) -> None:
        name = self._name(value)
        self._line(f"{name} = {parts.text}", kind if parts.comment else None)
        self._hold(name, value)

    def _line(self, text: str, kind: Type | None, each: bool = False) -> None:
        if kind is not None:
            comment = f"  # {'each ' if each else ''}{self.sizes.shape(kind.shape)}"
            if len(text) + len(comment) <= LINE:
                text += comment
        self.lines.append(text)

    def _name(self, value: str) -> str:
        """The variable for a value: its base name, unless that one is still needed."""
        base = value.split(".")[0]
        wanted = "y" if base == "_" else base
        name, n = wanted, 1
        while (held := self.holder.get(name)) is not None and self._needed(held, name):
            n += 1
            name = f"{wanted}{n}"
        return name

    def _needed(self, value: str, name: str) -> bool:
        waiting = any(
            re.search(rf"\b{re.escape(name)}\b", parts.text)
            for parts, _ in self.pending.values()
        )
        return self.uses[value] > 0 or waiting

    def _hold(self, name: str, value: str) -> None:
        self.holder[name] = value
        self.variable[value] = name

    def _used(self, value: str) -> None:
        self.uses[value] -= 1
        self.pending.pop(value, None)

    def _settle(self, value: str) -> None:
        """Give a value that waits inside an expression a line of its own."""
        parts, op = self.pending.pop(value)
        self._assign(value, parts, op.results[0].type)

    def _peek(self, value: str) -> str:
        return self.pending[value][0].text

    def _use(self, value: str, tight: bool = False) -> str:
        """A value's text where it is used; `tight` before an attribute or an index."""
        if value in self.pending:
            parts = self.pending[value][0]
            return f"({parts.text})" if tight and parts.binary else parts.text
        return self.variable[value]

    # ------------------------------------------------------------------ expressions

    def _expression(self, op: Op) -> Parts:
        return getattr(self, f"_{op.kind}")(op)

    def _field(self, const: object) -> str:
        return f"c.{const.name}" if isinstance(const, Const) else py(const)

    def _self(self, d: Dim, name: str) -> str:
        """A size that the forward needs, as an attribute that `__init__` sets."""
        symbols = [s for s in d.names if s in self.sizes.named]
        if len(symbols) == 1 and str(d) == symbols[0]:
            name = self.sizes.named[symbols[0]]
        self.setup[name] = self.sizes.python(d)
        return f"self.{name}"

    def _held(self, op: Op) -> Parts:
        return Parts(f"self.{op.name}({', '.join(self._use(a) for a in op.args)})")

    _linear = _layer_norm = _rms_norm = _held

    def _adapted(self, op: Op) -> Parts:
        self.functions.add(op.kind)
        return self._held(op)

    _lora_linear = _dora_linear = _ia3_linear = _low_rank_linear = _adapted

    def _embedding(self, op: Op) -> Parts:
        return Parts(self._held(op).text, comment=True)

    def _positions(self, op: Op) -> Parts:
        rows = f"{self._use(op.args[0], tight=True)}.shape[1]"
        return Parts(f"self.{op.name}.weight[: {rows}]")

    def _token_places(self, op: Op) -> Parts:
        self.functions.add("token_places")
        return Parts(f"token_places({self._use(op.args[0])}, {self._padding(op)})")

    def _padding(self, op: Op) -> str:
        return f"padding={op.attrs_dict['padding']}"

    def _row(self, op: Op) -> Parts:
        return Parts(f"self.{op.name}.weight[{op.attrs_dict['index']}]")

    def _parameter(self, op: Op) -> Parts:
        return Parts(f"self.{op.name}")

    def _add(self, op: Op) -> Parts:
        a, b = op.args
        inside = any(p in self.pending and self.pending[p][0].comment for p in op.args)
        text = f"{self._use(a)} + {self._use(b)}"
        return Parts(text, binary=True, comment=inside)

    def _multiply(self, op: Op) -> Parts:
        a, b = (self._use(a, tight=True) for a in op.args)
        return Parts(f"{a} * {b}", binary=True)

    def _dropout(self, op: Op) -> Parts:
        p = op.attrs_dict["p"]
        name = p.name if isinstance(p, Const) else "dropout"
        kind = "nn.Dropout"
        if "bits" in op.attrs_dict:
            kind = "Dropout"
            self.functions.add("dropout")
        self.setup[name] = f"{kind}({self._field(p)})"
        x = self._use(op.args[0])
        if "samples" in op.attrs_dict:
            self.functions.add("mean_dropout")
            self.setup["samples"] = self._field(op.attrs_dict["samples"])
            return Parts(f"mean_dropout(self.{name}, {x}, self.samples)")
        return Parts(f"self.{name}({x})")

    def _activation(self, op: Op) -> Parts:
        x = self._use(op.args[0])
        match op.attrs_dict["kind"]:
            case "gelu_tanh":
                return Parts(f'F.gelu({x}, approximate="tanh")')
            case "quick_gelu":
                return Parts(f"{x} * torch.sigmoid(1.702 * {x})", binary=True)
            case "tanh":
                return Parts(f"torch.tanh({x})")
            case kind:
                return Parts(f"F.{kind}({x})")

    def _heads(self, op: Op) -> Parts | str:  # type: ignore[override]
        """One result: an expression. Several: what the names on the left take."""
        x = self._use(op.args[0], tight=True)
        counts, width = op.attrs_dict["heads"], op.attrs_dict["width"]
        assert isinstance(counts, tuple) and isinstance(width, Dim)
        count = counts[0]
        assert isinstance(count, Dim)
        if len(counts) == 1:
            heads = self._self(count, "heads")
            return Parts(
                f"{x}.unflatten(-1, ({heads}, -1)).transpose(1, 2)", comment=True
            )
        joined = re.sub(r"\W.*", "", x.removeprefix("self.")) or "heads"
        if len(set(counts)) == 1:
            heads = self._self(count, "heads")
            B, _, T, D = op.results[0].type.shape
            kind = Type("f32", (B, T, number(len(counts)), count, D))
            self._line(
                f"{joined} = {x}.unflatten(-1, ({len(counts)}, {heads}, -1))", kind
            )
            return f"{joined}.permute(2, 0, 3, 1, 4)"
        total = Dim(())
        for n in counts:
            assert isinstance(n, Dim)
            total = total + n
        B, _, T, D = op.results[0].type.shape
        wide = self._self(width, "head_width")
        kind = Type("f32", (B, total, T, D))
        text = f"{joined} = {x}.unflatten(-1, (-1, {wide})).transpose(1, 2)"
        self._line(text, kind)
        each = ", ".join(self._self(n, "heads") for n in counts)  # type: ignore
        return f"{joined}.split(({each}), dim=1)"

    def _merge_heads(self, op: Op) -> Parts:
        x = self._use(op.args[0], tight=True)
        return Parts(f"{x}.transpose(1, 2).flatten(2)")

    def _attention(self, op: Op) -> Parts:
        attrs = op.attrs_dict
        given = [self._use(a) for a in op.args[:3]]
        if len(op.args) == 4:
            given.append(f"attn_mask={self._use(op.args[3])}")
        if attrs["causal"]:
            given.append("is_causal=True")
        if "dropout" in attrs:
            p = attrs["dropout"]
            self.setup["attention_dropout"] = self._field(p)
            given.append("dropout_p=self.attention_dropout if self.training else 0.0")
        if attrs.get("groups"):
            given.append("enable_gqa=True")
        return Parts(f"F.scaled_dot_product_attention({', '.join(given)})")

    def _key_mask(self, op: Op) -> Parts:
        mask = self._use(op.args[0])
        return Parts(
            f"None if {mask} is None else {mask}[:, None, None, :]", binary=True
        )

    def _first(self, op: Op) -> Parts:
        return Parts(f"{self._use(op.args[0], tight=True)}[:, 0]", comment=True)

    def _rest(self, op: Op) -> Parts:
        return Parts(f"{self._use(op.args[0], tight=True)}[:, 1:]", comment=True)

    def _join(self, op: Op) -> Parts:
        parts = ", ".join(self._use(a) for a in op.args)
        return Parts(f"torch.cat([{parts}], dim=1)", comment=True)

    def _flatten(self, op: Op) -> Parts:
        return Parts(f"{self._use(op.args[0], tight=True)}.flatten(1)", comment=True)

    def _mean(self, op: Op) -> Parts:
        return self._pooled(op, "mean")

    def _largest(self, op: Op) -> Parts:
        return self._pooled(op, "amax")

    def _pooled(self, op: Op, method: str) -> Parts:
        """Over all positions, or by a function of the file over those of a mask."""
        if len(op.args) == 1:
            x = self._use(op.args[0], tight=True)
            return Parts(f"{x}.{method}(dim=1)", comment=True)
        self.functions.add(op.kind)
        x, mask = (self._use(a) for a in op.args)
        return Parts(f"{op.kind}({x}, {mask})", comment=True)

    def _weighted_mean(self, op: Op) -> Parts:
        if len(op.args) == 2:
            x, scores = (self._use(a, tight=True) for a in op.args)
            return Parts(f"({scores}.softmax(dim=1) * {x}).sum(dim=1)", comment=True)
        self.functions.add("weighted_mean")
        given = ", ".join(self._use(a) for a in op.args)
        return Parts(f"weighted_mean({given})", comment=True)

    def _select(self, op: Op) -> Parts:
        self.functions.add("select")
        x = self._use(op.args[0], tight=True)
        return Parts(f"{x}[:, self.{op.attrs_dict['by']}]", comment=True)

    def _rescale(self, op: Op) -> Parts:
        x = self._use(op.args[0], tight=True)
        return Parts(f"{x} * self.scale + self.shift", binary=True)

    def _narrow(self, op: Op) -> Parts:
        return Parts(f"{self._use(op.args[0], tight=True)}[:, :1]", comment=True)

    def _last_index(self, op: Op) -> Parts:
        ids, mask = (self._use(a) for a in op.args)
        if "padding" not in op.attrs_dict:
            self.functions.add("last_index")
            return Parts(f"last_index({ids}, {mask})", comment=True)
        self.functions.add("last_index_of_text")
        given = f"{ids}, {mask}, {self._padding(op)}"
        return Parts(f"last_index_of_text({given})", comment=True)

    def _keys_until(self, op: Op) -> Parts:
        ids, index = (self._use(a, tight=True) for a in op.args)
        self.functions.add("keys_until")
        return Parts(f"keys_until({ids}, {index})", comment=True)

    def _pick(self, op: Op) -> Parts:
        x, index = (self._use(a, tight=True) for a in op.args)
        self.functions.add("pick")
        return Parts(f"pick({x}, {index})", comment=True)

    def _pick_rows(self, op: Op) -> Parts:
        table, index = (self._use(a, tight=True) for a in op.args)
        return Parts(f"{table}[{index}][:, None, None]", comment=True)

    def _patches(self, op: Op) -> Parts:
        x = self._use(op.args[0])
        return Parts(f"self.{op.name}({x}).flatten(2).transpose(1, 2)", comment=True)

    def _prepend(self, op: Op) -> Parts:
        x, token = (self._use(a, tight=True) for a in op.args)
        return Parts(
            f"torch.cat([{token}.expand({x}.shape[0], 1, -1), {x}], dim=1)",
            comment=True,
        )

    def _tables(self, op: Op) -> str:
        self.functions.add("rope_tables")
        rows = f"{self._use(op.args[0], tight=True)}.shape[1]"
        return f"self.cos[:{rows}], self.sin[:{rows}]"

    def _rotate(self, op: Op) -> Parts:
        self.functions.add("rotate")
        return Parts(
            f"rotate({', '.join(self._use(a) for a in op.args)})", comment=True
        )

    # ------------------------------------------------------------------------ calls

    def _call(self, op: Op) -> Parts:
        args = ", ".join(self._use(a) for a in op.args)
        return Parts(f"self.{attribute(self.module, op.name)}({args})")

    def _loop(self, ops: list[Op]) -> None:
        """Calls of one list's members in a row."""
        first, last = ops[0], ops[-1]
        for arg in first.args:
            if arg in self.pending:
                self._settle(arg)
        stem = first.name.rpartition(".")[0]
        total = sum(
            i.count for i in self.module.instances if i.name.startswith(stem + ".")
        )
        start = int(first.name.rpartition(".")[2])
        stop = start + sum(self.module.instance(op.name).count for op in ops)
        one = stem.removesuffix("s") if stem.endswith("s") else f"each_{stem}"
        # Of a model that is cut both parts count from the input.
        end = stop if self.model.cut else stop - total
        members = f"self.{stem}" + _slice(start, stop, total, end)
        carried = self.variable[first.args[0]]
        rest = [self._use(a) for a in first.args[1:]]
        for op in ops:
            for arg in op.args:
                self.uses[arg] -= 1
        value = last.results[0].name
        if self._needed(first.args[0], carried):  # it is read again after the loop
            name = self._name(value)
            self.lines.append(f"{name} = {carried}")
            carried = name
        self.lines.append(f"for {one} in {members}:")
        self.lines.append(f"    {carried} = {one}({', '.join([carried, *rest])})")
        self._hold(carried, value)


def loop_at(module: Module, ops: list[Op], at: int) -> int:
    """How many operations from `at` on are calls of one list's members in a row."""
    first = ops[at]
    stem, dot, last = first.name.rpartition(".")
    if first.kind not in ("call", "repeat") or not dot or not last.isdigit():
        return 0
    n, following = 0, int(last)
    for op in ops[at:]:
        if op.kind not in ("call", "repeat") or op.name != f"{stem}.{following}":
            break
        if n and (
            op.args[1:] != first.args[1:]
            or op.args[0] != ops[at + n - 1].results[0].name
        ):
            break
        following += module.instance(op.name).count
        n += 1
    return n if n > 1 or first.kind == "repeat" else 0


def _slice(start: int, stop: int, total: int, end: int) -> str:
    """What takes members from `start` up to `stop`, which is written as `end`."""
    if (start, stop) == (0, total):
        return ""
    left = str(start) if start else ""
    right = "" if stop == total else str(end)
    return f"[{left}:{right}]"


def attribute(module: Module, name: str) -> str:
    """`blocks.5` as Python reaches it: `blocks[5]`, the last one `blocks[-1]`."""
    stem, dot, last = name.rpartition(".")
    if not dot or not last.isdigit():
        return name
    total = sum(i.count for i in module.instances if i.name.startswith(stem + "."))
    return f"{stem}[{-1 if int(last) == total - 1 else last}]"
