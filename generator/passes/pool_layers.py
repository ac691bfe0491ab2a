"""An edit: vectors of several kinds, or of several blocks, side by side ahead of the labels.

%x.3 = call blocks.2(%x.2)                       becomes, for the mean behind blocks 3 and 6,
%x.6 = call blocks.5(%x.5)
%logits = call classifier(%x.6)

%x.3 = call blocks.2(%x.2)
%mean_3: f32[B,C] = mean(%x.3, %mask)
%x.6 = call blocks.5(%x.5)
%mean_6: f32[B,C] = mean(%x.6, %mask)
%vector: f32[B,2*C] = join(%mean_3, %mean_6)
%logits = call classifier(%vector)

What the backbone ends with, such as a last norm, stands in a module of its own ahead of the
last of them. So all that leads to the vector may be frozen, and the vector then is what is
kept of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from generator.errors import GenError, fail
from generator.ir.dims import Type, number
from generator.ir.emit import Emitter
from generator.ir.head import Classifier, classifier, edited, held, new_parameter
from generator.ir.job import Instance, Job, Module, Op, ParameterDef, Value
from generator.ir.plans import ImagePlan
from generator.ir.sources import Init, Parameter
from generator.ir.weightmap import WeightMap
from generator.passes import pool

ENDING, MODULE = (
    "ending",
    "Ending",
)  # what the backbone ends with: its instance, its module
VECTOR = "vector"


def run(
    job: Job,
    *,
    kind: pool.Kind | None = None,
    kinds: Sequence[pool.Kind] = (),
    layers: Sequence[int] = (),
    dense: bool = False,
) -> tuple[Job, WeightMap]:
    """The job with its rows read by `kind`, or by each of `kinds`, behind each of `layers`.

    `layers` count blocks, and from the end where they are negative; none is the last.
    """
    if classifier(job.model).joined:
        raise refused(
            "this model reads vectors of several kinds or blocks already",
            "one edit pool says all of them",
        )
    each = tuple(dict.fromkeys(kinds)) or ((kind,) if kind else ())
    total = job.model.sizes["L"]
    counted = sorted({_counted(layer, total) for layer in layers}) or [total]
    if len(each) == 1 and counted == [total]:
        return pool.run(job, kind=each[0], dense=dense)
    old = classifier(job.model)
    _check(job, old, each, counted, dense)
    for one in each:
        pool.check(job, old, one, dense)
    joining = _Joining(job, old, each, tuple(counted))
    ending = joining.ending()
    head = joining.classifier()
    modules = [m for m in job.model.modules if m not in (old.module, job.model.main)]
    modules += [*ending, head]
    main = joining.main({m.name: m for m in modules}, ends=len(ending) > 0)
    model = replace(job.model, modules=(*modules, main))
    job, weights = edited(job, model, "left out by pool")
    moved = {
        f"{ENDING}.{p.name}": Parameter(f"{old.call.name}.{p.name}")
        for module in ending
        for p in module.parameters
    }
    return job, replace(weights, changed={**weights.changed, **moved})


def refused(message: str, help: str) -> GenError:
    return fail("G260", message, help=help)


def _counted(layer: int, total: int) -> int:
    if not -total - 1 <= layer <= total:
        raise refused(
            f"the model has {total} block{'s' if total > 1 else ''}, and layers has {layer}",
            f"layers count from 0, ahead of the first, to {total}; or -1 is the last",
        )
    return layer if layer >= 0 else total + 1 + layer


def _check(
    job: Job,
    old: Classifier,
    kinds: Sequence[pool.Kind],
    layers: Sequence[int],
    dense: bool,
) -> None:
    total = job.model.sizes["L"]
    if layers[-1] != total:
        blocks = f"block{'s' if layers[-1] > 1 else ''}"
        raise refused(
            f"nothing reads what is behind the first {layers[-1]} {blocks}",
            "leave the others out above this edit: "
            f'do = "keep-layers" with n = {layers[-1]} and choose = "first"',
        )
    if "attention" in kinds:
        raise refused(
            "a mean by learned weights is of one vector of one block",
            'kinds = ["first", "mean"] are two of each block, or leave out layers',
        )
    if dense:
        raise refused(
            "a dense layer of the checkpoint reads one vector, and these are several",
            "leave out dense; an edit `head` below this one makes one",
        )


@dataclass(frozen=True)
class _Joining:
    job: Job
    old: Classifier
    kinds: tuple[pool.Kind, ...]
    layers: tuple[int, ...]  # counted from 0, ascending

    @property
    def images(self) -> bool:
        return isinstance(self.job.data.inputs, ImagePlan)

    @property
    def masked(self) -> bool:
        """Whether a mask says which positions a vector is of."""
        return not self.images and not {"mean", "max"}.isdisjoint(self.kinds)

    def ending(self) -> tuple[Module, ...]:
        """The module of what the backbone ends with, where that is something."""
        old = self.old
        if not old.backbone:
            return ()
        x, *_ = old.module.inputs
        module = Module(
            MODULE,
            (x,),
            (),
            (),
            held(old.module, old.backbone, old.module.parameters),
            doc="What the backbone ends with.",
        )
        e = Emitter(self.job.model, module, self.job.model.by_name)
        names = {x.name: x.name}
        for op in old.backbone:
            emitted = e.put(op, [names[a] for a in op.args])
            names |= zip((r.name for r in op.results), emitted, strict=True)
        return (e.done([names[old.states]]),)

    def classifier(self) -> Module:
        """The head, whose first layer is as wide as all vectors."""
        old, module = self.old, self.old.module
        ops = old.head if self.job.reference.head else pool.short(old)
        width = module.types[old.vector].shape[-1]
        count = len(self.kinds) * len(self.layers)
        wide = number(count) * width
        batch = module.inputs[0].type.shape[:1]
        inputs = (Value("x", Type("f32", (*batch, wide))),)
        first = _first_linear(old, ops).name

        def widened(p: ParameterDef) -> ParameterDef:
            """What reads the vectors has seen none like them, and starts anew."""
            if p.name.rpartition(".")[0] != first:
                return p
            if not isinstance(p.source, Init):
                p = new_parameter(p, old.std())
            if p.role != "matrix":
                return p
            return replace(p, type=Type("f32", (p.type.shape[0], wide)))

        module = replace(
            module,
            inputs=inputs,
            parameters=tuple(map(widened, held(module, ops, module.parameters))),
            doc=f"Reads {count} vectors of a row, side by side.",
        )
        e = Emitter(self.job.model, module, self.job.model.by_name)
        names = {old.vector: "x"}
        for op in ops:
            emitted = e.put(op, [names[a] for a in op.args])
            names |= zip((r.name for r in op.results), emitted, strict=True)
        return e.done([names[o] for o in module.outputs])

    def main(self, modules: dict[str, Module], ends: bool) -> Module:
        """The main module, which pools behind blocks and joins ahead of the head.

        With `ends` the module of what the backbone ends with goes ahead of the last.
        """
        main, old, model = self.job.model.main, self.old, self.job.model
        total = model.sizes["L"]
        if ends:
            call = main.instance(old.call.name)
            last = Instance(ENDING, MODULE, call.keys, depth=total)
            at = main.instances.index(call)
            instances = (*main.instances[:at], last, *main.instances[at:])
            main = replace(main, instances=instances)
        e = Emitter(model, main, modules)
        names = {v.name: v.name for v in main.inputs}
        last_states = pool.positions(model, old)
        index = ""
        if "last" in self.kinds:
            index = e.new("last_index", ["ids", "mask"], "index", pool.PLACE)
        taken = {op.name: op.args[0] for op in main.ops if op.kind == "call"}
        states = {taken[b.name]: n for n, b in enumerate(model.blocks)}
        states[last_states] = total
        vectors: list[str] = []
        for op in main.ops:
            if op.kind in pool.picking(main, old) or op == old.call:
                continue
            results = [r.name for r in op.results]
            if op.kind == "key_mask" and self.masked:
                # Vectors read the mask as well, so that this has its own name.
                op = replace(op, results=(replace(op.results[0], name=pool.KEYS),))
            emitted = e.put(op, [names[a] for a in op.args])
            names |= zip(results, emitted, strict=True)
            for name in results:
                if states.get(name) in self.layers:
                    x = names[name]
                    if ends and name == last_states:
                        stub = Value("x", e.types[x])
                        (x,) = e.put(Op("call", (stub,), (), ENDING), [x])
                    vectors += self._vectors(e, x, states[name], index)
        joined = e.new("join", vectors, VECTOR, pool.PLACE)
        emitted = e.put(old.call, [joined])
        names |= zip((r.name for r in old.call.results), emitted, strict=True)
        return e.done([names[o] for o in main.outputs])

    def _vectors(self, e: Emitter, x: str, layer: int, index: str) -> list[str]:
        """One vector of each kind, of the positions behind so many blocks."""
        found: list[str] = []
        for kind in self.kinds:
            given, mask = x, ["mask"] if self.masked else []
            if kind == "last":
                given = e.new("pick", [x, index], "_", pool.PLACE)
            if kind in ("first", "last"):
                mask = []
            elif pool.has_class_token(self.job.model):
                given = e.new("rest", [x], "_", pool.PLACE)
            out = f"{kind}_{layer}"
            found.append(e.new(pool.OPS[kind], [given, *mask], out, pool.PLACE))
        return found


def _first_linear(old: Classifier, ops: Sequence[Op]) -> Op:
    """Of some operations the linear that reads the vector, perhaps behind a dropout."""
    carries = {old.vector}
    for op in ops:
        if carries.isdisjoint(op.args):
            continue
        if op.kind == "linear":
            return op
        carries |= {r.name for r in op.results}
    return old.label
