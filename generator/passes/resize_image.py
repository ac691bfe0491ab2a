"""An edit: images of another size, in more or fewer patches.

param position: f32[M*N+1,C] = row(ckpt "position", 0)
    becomes  resize(row(ckpt "position", 0), [14,14], [24,24])

The positions of the patches are a grid, which is interpolated (bicubic) as transformers'
own `interpolate_pos_encoding` does it; the class token's ahead of them stays. How an image
file becomes pixels changes in proportion.
"""

from __future__ import annotations

from dataclasses import replace

from generator.errors import fail
from generator.ir.dims import Dim
from generator.ir.job import Job, Module, Op
from generator.ir.plans import ImagePlan
from generator.ir.sources import Parameter, Resize
from generator.ir.weightmap import WeightMap, paths_of

Pair = tuple[int, int]


def run(job: Job, *, size: Pair) -> tuple[Job, WeightMap]:
    """The job for images of `size`, height and width in pixels. The size that they have
    already changes nothing."""
    inputs, model = job.data.inputs, job.model
    if not isinstance(inputs, ImagePlan):
        raise fail(
            "G266",
            "resize-image is for images, and this job is of texts",
            help='do = "extend-positions" takes longer ones',
        )
    if job.reference.size:
        raise fail(
            "G265", "the images are resized already", help="remove one of the two"
        )
    sides = job.model.main.inputs[0].type.shape[2:]
    height, width = (d.value(model.sizes) for d in sides)
    if size == (height, width):
        return job, WeightMap()
    module, cut = _patches(job)
    rows, columns = _dim(cut, "rows"), _dim(cut, "columns")
    before = rows.value(model.sizes), columns.value(model.sizes)
    kernel = next(p for p in module.parameters if p.name == f"{cut.name}.weight")
    patch = kernel.type.sizes(model.sizes)[2:]
    if before[0] != before[1] or patch[0] != patch[1]:
        raise fail(
            "G265",
            f"this model has {before[0]} by {before[1]} patches of {patch[0]} by "
            f"{patch[1]} pixels, and transformers, which the result is held to, "
            "interpolates square grids of square patches alone",
            help="remove the edit",
        )
    after = size[0] // patch[0], size[1] // patch[1]
    if size != (after[0] * patch[0], after[1] * patch[1]):
        near = [max(1, round(s / patch[0])) * patch[0] for s in size]
        raise fail(
            "G265",
            f"{size[0]} by {size[1]} pixels are no whole patches of {patch[0]}",
            help=f"size = {near[0] if near[0] == near[1] else near}",
        )
    (old,) = (
        p
        for p in module.parameters
        if p.type.shape[0].names == rows.names | columns.names
    )
    parameters = tuple(
        replace(p, source=Resize(p.source, before, after)) if p is old else p
        for p in module.parameters
    )
    model = model.with_modules({module.name: replace(module, parameters=parameters)})
    model = model.with_modules({m.name: _of_patches(m, sides) for m in model.modules})
    new = {str(rows): after[0], str(columns): after[1]}
    tokens = old.type.shape[0]
    sizes = {**model.sizes, **new}
    dims = tuple(
        replace(
            d,
            size=new.get(d.symbol, d.size),
            bound=tokens.value(sizes) if d.symbol == "T" else d.bound,
        )
        for d in model.dims
    )
    (at,) = paths_of(model)[module.name]
    path = at + old.name
    return (
        replace(
            job,
            model=replace(model, dims=dims),
            data=replace(job.data, inputs=_pixels(inputs, (height, width), size)),
            reference=replace(job.reference, size=size),
        ),
        WeightMap({path: Resize(Parameter(path), before, after)}),
    )


def _patches(job: Job) -> tuple[Module, Op]:
    return next(
        (module, op)
        for module in job.model.modules
        for op in module.ops
        if op.kind == "patches"
    )


def _of_patches(module: Module, sides: tuple[Dim, ...]) -> Module:
    """The module with an image of whole patches: none of these sides has a rest."""
    whole = {side: Dim(tuple(t for t in side.terms if t[0])) for side in sides}
    inputs = (
        replace(
            v, type=replace(v.type, shape=tuple(whole.get(d, d) for d in v.type.shape))
        )
        for v in module.inputs
    )
    return replace(module, inputs=tuple(inputs))


def _dim(op: Op, name: str) -> Dim:
    value = op.attrs_dict[name]
    assert isinstance(value, Dim)
    return value


def _pixels(plan: ImagePlan, old: Pair, new: Pair) -> ImagePlan:
    """The plan whose images come out at another size; what is cut off of them stays in
    proportion."""
    if plan.crop is None:
        return replace(plan, resize=new)
    resize = plan.resize
    if resize is not None:
        sides = list(zip(new, old))
        if plan.resize_mode == "shortest":
            sides = [max(sides, key=lambda side: side[0] / side[1])] * 2
        height, width = (-(-r * n // o) for r, (n, o) in zip(resize, sides))  # upwards
        resize = height, width
    return replace(plan, resize=resize, crop=new)
