"""A head that reads one position needs one query in the last block, and no more.

Demand runs backwards through the model: what reads one position of a value makes
whatever computes that value, position by position, compute only that one. It stops at an
attention, whose keys and values every query needs, and at the inputs, where the position
is taken: the first, or one that differs by row (`pick`), with its rotation and, in place
of causality, with a mask of the keys up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from generator.ir.dims import boolean, i64, number
from generator.ir.emit import Emitter
from generator.ir.job import Job, Model, Module, Op, Value
from generator.ir.ops import OPS
from generator.ir.weightmap import WeightMap

FULL, FIRST, PICK = "full", "first", "pick"
PREFIX = {FIRST: "FirstToken", PICK: "LastToken"}
DOC = {
    FIRST: "Of the last block only the first token is read: it alone asks.",
    PICK: "Of the last block only the last real token is read: it alone asks.",
}
INDEX, KEYS = "index", "keys"  # what a block that picks its position takes besides


def run(job: Job) -> tuple[Job, WeightMap]:
    """Parameters keep their names and values, so that the weight map changes nothing."""
    narrower = _Narrower(job.model, {m.name: m for m in job.model.modules})
    main = narrower.main(job.model.main)
    if main is None:
        return job, WeightMap()
    narrower.modules[main.name] = main
    order = [narrower.renamed.get(m.name, m.name) for m in job.model.modules]
    modules = tuple(narrower.modules[name] for name in order)
    return replace(job, model=replace(job.model, modules=modules)), WeightMap()


def demands(model: Model, module: Module, outputs: str) -> dict[str, str]:
    """What is asked of each value where `outputs` is asked of what the module returns."""
    asked: dict[str, str] = {}

    def ask(name: str, what: str) -> None:
        before = asked.get(name)
        asked[name] = what if before in (None, what) else FULL

    for name in module.outputs:
        ask(name, outputs)
    for op in reversed(module.ops):
        wanted = {asked.get(r.name, FULL) for r in op.results}
        what = wanted.pop() if len(wanted) == 1 else FULL
        for name, ask_for in zip(
            op.args, _of_args(model, module, op, what), strict=True
        ):
            ask(name, ask_for)
    return asked


def _of_args(model: Model, module: Module, op: Op, what: str) -> list[str]:
    """What an operation asks of its operands, where `what` is asked of its result."""
    if op.kind in ("first", "narrow"):
        return [FIRST]
    if op.kind == "pick":
        return [PICK, FULL]
    if op.kind == "call":
        inner = model.by_name[module.instance(op.name).module]
        # A callee whose result has no positions may itself read only one.
        asked = demands(model, inner, what if _has_positions(op) else FULL)
        return [asked.get(v.name, FULL) for v in inner.inputs]
    if what == FULL or not can_narrow(module, op, what):
        return [FULL] * len(op.args)
    if op.kind == "attention":
        return [what] + [FULL] * (len(op.args) - 1)
    if op.kind == "rotate":
        return [what, FULL, FULL]
    return [what] * len(op.args)


def _has_positions(op: Op) -> bool:
    return len(op.results[0].type.shape) == 3


def can_narrow(module: Module, op: Op, what: str) -> bool:
    """Whether an operation can give one position alone, from that one of its operands."""
    if op.kind == "attention":
        # The first query of a causal attention sees nothing but itself: not this pass.
        return what == PICK or not op.attrs_dict["causal"]
    if op.kind == "rotate":
        return what == PICK
    if op.kind == "heads" and len(op.results) > 1:
        return False
    if not OPS[op.kind].positionwise:
        return False
    # A table that is added has its positions in front, and is not cut here.
    ranks = {len(module.types[a].shape) for a in op.args}
    return len(ranks) == 1


@dataclass
class _Narrower:
    model: Model
    modules: dict[str, Module]

    def __post_init__(self) -> None:
        self.renamed: dict[str, str] = {}

    def main(self, main: Module) -> Module | None:
        """The model with its last positions narrowed; None where nothing reads one."""
        asked = demands(self.model, main, FULL)
        blocks = [
            op
            for op in main.ops
            if op.kind == "call"
            and asked.get(op.results[0].name) in (FIRST, PICK)
            and op.results[0].type.shape[1] != number(1)  # it gives one already
            and self._attends(main.instance(op.name).module)
        ]
        if not blocks:
            return None
        what = asked[blocks[-1].results[0].name]
        return self._rewrite(main, asked, what, main)

    def _attends(self, name: str) -> bool:
        module = self.model.by_name[name]
        return any(op.kind == "attention" for op in module.ops) or any(
            self._attends(i.module) for i in module.instances
        )

    def _causal(self, module: Module) -> bool:
        """Whether a causal attention is in it, which then needs a mask of its keys."""
        return any(op.attrs_dict.get("causal") for op in module.ops) or any(
            self._causal(self.model.by_name[i.module]) for i in module.instances
        )

    def _variant(self, module: Module, what: str) -> Module:
        """The module with one position asked of its result; its inputs come whole."""
        if what == PICK:
            extra = [Value(INDEX, i64("B"))]
            if self._causal(module):
                extra.append(Value(KEYS, boolean("B", 1, 1, "T")))
            module = replace(module, inputs=(*module.inputs, *extra))
        asked = demands(self.model, module, what)
        attends = any(op.kind == "attention" for op in module.ops)
        doc = DOC[what] if attends else module.doc
        named = replace(module, name=PREFIX[what] + module.name, doc=doc)
        after = self._rewrite(named, asked, what, module)
        self.renamed[module.name] = after.name
        self.modules[after.name] = after
        return after

    def _rewrite(
        self, module: Module, asked: Mapping[str, str], what: str, before: Module
    ) -> Module:
        emitter = Emitter(self.model, module, self.modules)
        whole = {v.name: v.name for v in module.inputs}  # old name: new, all positions
        narrow: dict[str, str] = {}  # old name: new, one position
        main = module.name == self.model.main.name
        index = _index(before) if main else INDEX

        def one(name: str) -> str:
            """A value at the one position."""
            if name not in narrow:
                place = module.ops[0].place
                if what == FIRST:
                    narrow[name] = emitter.new("narrow", [whole[name]], "_", place)
                else:
                    narrow[name] = emitter.new(
                        "pick", [whole[name], whole.get(index, index)], "_", place
                    )
            return narrow[name]

        for op in _hoisted(module.ops, index) if main else module.ops:
            is_narrow = asked.get(op.results[0].name) == what and what != FULL
            if op.kind in ("narrow", "pick") and op.args[0] in narrow:
                narrow[op.results[0].name] = whole[op.results[0].name] = narrow[
                    op.args[0]
                ]
                continue
            if op.kind == "first" and op.args[0] in narrow:
                names = emitter.put(op, [narrow[op.args[0]]])
            elif op.kind == "call":
                names = self._call(
                    emitter, op, is_narrow, what, one, whole, narrow, index
                )
            elif is_narrow and can_narrow(before, op, what):
                names = self._narrowed(emitter, op, what, one, whole, index)
            else:
                names = emitter.put(op, [whole[a] for a in op.args])
                is_narrow = False
            for old, new in zip(op.results, names, strict=True):
                (narrow if is_narrow else whole)[old.name] = new
        outputs = [
            narrow.get(o, whole.get(o, "")) if main or asked[o] != what else one(o)
            for o in module.outputs
        ]
        return replace(emitter.done(outputs), instances=emitter.module.instances)

    def _narrowed(
        self,
        emitter: Emitter,
        op: Op,
        what: str,
        one: Callable[[str], str],
        whole: Mapping[str, str],
        index: str,
    ) -> tuple[str, ...]:
        if op.kind == "attention":
            rest = [whole[a] for a in op.args[1:]]
            if what == PICK and op.attrs_dict["causal"]:
                # The one query sees what a causal attention lets it: up to itself.
                attrs = tuple((k, False if k == "causal" else v) for k, v in op.attrs)
                op, rest = replace(op, attrs=attrs), [*rest, KEYS]
            return emitter.put(op, [one(op.args[0]), *rest])
        if op.kind == "rotate":
            rows = [
                emitter.new("pick_rows", [whole[t], index], "_", op.place)
                for t in op.args[1:]
            ]
            return emitter.put(op, [one(op.args[0]), *rows])
        return emitter.put(op, [one(a) for a in op.args])

    def _call(
        self,
        emitter: Emitter,
        op: Op,
        is_narrow: bool,
        what: str,
        one: Callable[[str], str],
        whole: Mapping[str, str],
        narrow: Mapping[str, str],
        index: str,
    ) -> tuple[str, ...]:
        instance = emitter.module.instance(op.name)
        inner = self.model.by_name[instance.module]
        if not is_narrow:  # it may still be the one that reads a single position
            args = [narrow.get(a) or whole[a] for a in op.args]
            return emitter.put(op, args)
        if not self._attends(inner.name):
            return emitter.put(op, [one(a) for a in op.args])
        variant = self._variant(inner, what)
        emitter.module = replace(
            emitter.module,
            instances=tuple(
                replace(i, module=variant.name) if i is instance else i
                for i in emitter.module.instances
            ),
        )
        args = [whole[a] for a in op.args]
        if what == PICK:
            found = whole.get(index, index)
            args.append(found)
            if self._causal(inner):
                if KEYS not in emitter.types:
                    emitter.new("keys_until", ["ids", found], KEYS, op.place)
                args.append(KEYS)
        return emitter.put(op, args)


def _index(main: Module) -> str:
    """The value that says which position is picked; "" where none is."""
    return next((op.args[1] for op in main.ops if op.kind == "pick"), "")


def _hoisted(ops: tuple[Op, ...], index: str) -> list[Op]:
    """The operations with the one that finds the index first: it reads inputs alone."""
    finder = [op for op in ops if op.results[0].name == index]
    return finder + [op for op in ops if op not in finder]
