"""test_model.py of a package, its certificate: the view of its template, and the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from generator.ir.cut import reaching
from generator.ir.head import SELECTED, Selection, classifier, reads, selection, units
from generator.ir.job import Job, Model, Module, Op, added, parameters
from generator.ir.plans import FeaturePlan, ImagePlan, TextPlan
from generator.ir.sources import (
    Fold,
    Gain,
    Init,
    Left,
    Noise,
    Norms,
    Repeat,
    Resize,
    Stretch,
    Tile,
    keys,
    nodes,
)
from generator.render import calibrate, data, deploy, kept
from generator.render.data import INSTALLED, OWN, STDLIB
from generator.render.inside import InsideView, inside_view
from generator.render.model import adapted
from generator.render.text import fill, py
from generator.render.train import LOSSES, parts

# Names that data.py's table of imports does not have.
BESIDE: Mapping[str, tuple[int, str]] = {
    "ArgumentParser": (STDLIB, "from argparse"),
    "contextlib": (STDLIB, "import contextlib"),
    "os": (STDLIB, "import os"),
    "Callable": (STDLIB, "from collections.abc"),
    "patch": (STDLIB, "from unittest.mock"),
    "shutil": (STDLIB, "import shutil"),
    "Random": (STDLIB, "from random"),
    "TemporaryDirectory": (STDLIB, "from tempfile"),
    "SkipTest": (STDLIB, "from unittest"),
    "load_file": (INSTALLED, "from safetensors.torch"),
    "save_file": (INSTALLED, "from safetensors.torch"),
    "nn": (INSTALLED, "from torch"),
    "Config": (OWN, "from .model"),
    "load_pretrained": (OWN, "from .model"),
    "merge": (OWN, "from .model"),
    "deepcopy": (STDLIB, "from copy"),
    "Predictor": (OWN, "from .predict"),
    "TEACHER": (OWN, "from .train"),
    "TEMPERATURE": (OWN, "from .train"),
    "distilled": (OWN, "from .train"),
    "RELATIONS": (OWN, "from .train"),
    "relations_apart": (OWN, "from .train"),
    "states_apart": (OWN, "from .train"),
    **{
        name: (OWN, "from .deploy")
        for name in (
            *("GROUP", "LINEARS", "TABLES", "assemble", "lowered", "multiplied"),
            *("in_steps", "observed"),
        )
    },
    "prepare": (OWN, "from .quantize_aware"),
    "set_ranges": (OWN, "from .quantize_aware"),
    **{
        name: (OWN, "from .data")
        for name in (
            "MAX_TOKENS",
            "PAD",
            "IMAGE",
            "Record",
            "TEXT",
            "TEXTS",
            "raw_of",
            "text_of",
            "Split",
            "clean",
            "collate",
            "encode",
            "evaluation_batches",
            "pixels",
        )
    },
}
# How far the logits of the deployed model may be from the trained one's, relatively.
BOUNDS: Mapping[str, float] = {
    "int8": 0.2,
    "int8-static": 0.3,
    "int8-weights": 0.1,
    "int4-weights": 0.6,
    "bf16": 0.05,
}
# Texts on which two tokenizers that differ are likely to differ, as Python has them.
SAMPLES = (
    '"The quick brown fox jumps over the lazy dog."',
    '"UPPER lower MiXeD \\u0130stanbul stra\\u00dfe"',
    '"caf\\u00e9 cafe\\u0301 na\\u00efve"',
    '"  two  spaces, a\\ttab and a\\nnew line"',
    """"don't you're 'quoted' 10% $9.99 1,000,000 -5e-3\"""",
    '"https://example.org/path?q=1&r=2#s name@example.org"',
    '"\\u6771\\u4eac \\uc548\\ub155 \\u041f\\u0440\\u0438 \\u0645\\u0631\\u062d"',
    '"\\U0001f600\\U0001f44d\\U0001f3fd \\u2764\\ufe0f zero\\u200bwidth soft\\u00adhyphen"',
    '"def f(x):  # comment"',
    '"a long row of words " * 40',
    '"x" * 150',
    '""',
)
ACTIVATIONS = {
    "text-classification": ".softmax(1)",
    "image-classification": ".softmax(1)",
    "multi-label": ".sigmoid()",
    "regression": "",
}


# Activations of heads, from their definitions.
BY_HAND = {
    "gelu": "{x} * (1 + torch.erf({x} / 2**0.5)) / 2",
    "relu": "{x} * ({x} > 0)",
    "silu": "{x} / (1 + (-{x}).exp())",
    "tanh": "torch.tanh({x})",
}


# The loader's helpers that make a table of positions anew, and the sources they are for.
REGROWN = {"tiled": Tile, "stretched": Stretch, "resized": Resize}


@dataclass(frozen=True)
class HandView:
    """A head that transformers does not have, written out for its last states."""

    names: str  # code: those of its parameters
    states: str  # which of transformers' it is of
    joined: bool  # the states behind several blocks are read
    signature: str  # code
    lines: tuple[str, ...]  # code
    args: str  # code


@dataclass(frozen=True)
class FeaturesView:
    """What the head is told of a row beside its text or image."""

    drawn: tuple[str, ...]  # code: of an example
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    dates: tuple[str, ...]
    columns: bool  # there are any of these
    of_text: bool  # its numbers are among them
    raw_of: str  # code: what reads it of a record


@dataclass(frozen=True)
class DeployedView:
    """How the deployed model is held against the trained one."""

    whole: bool  # parts of it are whole numbers
    names: str  # code: of these parts
    halved: bool  # linears are of four bits
    products: bool  # of whole numbers
    static: bool  # whose inputs have ranges that are known beforehand
    aware: bool  # training rounds as well
    bound: float


@dataclass(frozen=True)
class CertificateView:
    """All that test_model.py.j2 reads. Strings of code are marked as such."""

    package: str
    program: str
    variable: str  # of the environment
    imports: tuple[tuple[str, ...], ...]  # code: lines by section
    new: tuple[str, ...]
    adapters: tuple[str, ...]  # parts of the names of their parameters
    adapted: str  # code: the classes of those that are merged into weights
    detours: str  # code: the classes of those that are modules of their own, and stay
    exact: float  # the bound of what is compared in fp64
    replaced: tuple[str, ...]
    rope: bool  # the model makes tables of angles
    old_norms: bool  # the checkpoint says gamma and beta
    images: bool
    pair: bool
    types: bool
    # Of the last block: all positions, the first, or one that is picked by row.
    last: Literal["", "first", "pick"]
    last_note: str
    last_index: str  # code: the places of the tokens that are picked
    hand: HandView | None  # where the head is ours alone
    blocks: str  # code: the list of the model's blocks
    lists: str  # the file of long lists; "" where there are none
    trimmed: str  # code: which of transformers' tokens are kept; "" for all
    width: str  # code: which of transformers' channels are kept; "" for all
    channels: int  # as many as it has
    gains: bool  # its norms are RMS norms, and ours rescaled for the masked channels
    narrowed: tuple[str, ...]  # new matrices that read the channels that are kept
    # Code: what of a vector the head reads; "" for all. And the new matrix that reads it,
    # where the head is transformers': elsewhere that one has zeros there.
    selected: str
    reading: str
    columns: str  # code: which of its columns those are there
    kept: tuple[int, ...]  # of transformers' blocks; none stands for all
    total: int  # of them; 0 where they are as many as ours
    copies: tuple[str, ...]  # blocks that transformers does not have, with a dot
    own_blocks: str  # code: ours that it has
    # Code: matrices of transformers', and which of their columns are not set to zero.
    masked: tuple[tuple[str, str], ...]
    masked_rows: tuple[tuple[str, str], ...]  # the same of rows
    # Of transformers' weights by their keys, those that are cut to a rank.
    ranks: tuple[tuple[str, int], ...]
    # What is done to the checkpoint before transformers loads it, prose; "" for nothing
    rewritten: str
    longer: tuple[str, ...]  # code: lines that make its table of positions longer
    config: str  # code: what its configuration says then
    chunked: bool  # its feed-forwards are told to take rows as a whole
    position_doc: str
    resized: tuple[
        int, ...
    ]  # images, height and width; () where the size is the old one
    patches: int  # of such an image, and the class token
    processor_sizes: str  # code: what transformers' image processor is told then
    surgery: bool  # the loader does one of these to weights, beside joining and cutting
    regrown: bool  # it makes a table of positions anew
    repeats: bool
    noise: bool
    factors: bool
    folds: bool
    of_gradients: (
        str  # code: the helpers of the loader that gradients have their own for
    )
    load: str  # code: the model as loaded
    checkpoint: str  # code: the folder that transformers loads
    auto: str  # code: transformers' class
    # The loss of a job that learns from a teacher; "" of others.
    distills: Literal["", "cross-entropy", "bce", "mse"]
    standardised: bool  # what the model ends with brings answers to the targets' units
    inside: InsideView | None  # of what it learns of the teacher's inside
    outputs: int
    vocab: int
    pixels: tuple[int, ...]
    level: float
    samples: tuple[str, ...]  # code
    example_default: str  # code
    example_args: str  # code
    spelt: str  # code: where in a row of n tokens a text may say the padding token
    inputs_type: str  # code
    inputs_note: str
    inputs_names: str  # code
    per_token: int  # how many of them have a number for each token
    features: FeaturesView | None  # where the head reads what features.py makes
    given: str  # code: what transformers' forward takes
    serving_partial: str
    usable: str  # code
    cleaned: str  # code: a `text` as training has it
    encoded: str  # code: `texts` so
    compared: str  # code: the texts that both tokenizers are given
    compared_list: str  # code: the same as a list
    any_target: str  # code: the size of one, or its type
    activation: str  # code
    answer: str  # code
    on_cpu: str  # code
    calibrated: bool  # predict.py reads what calibrate.py writes
    serving_bound: str  # code
    deployed: DeployedView | None  # another model than the trained one predicts
    served_activation: str  # code: of the model that predicts


def render(job: Job) -> str:
    """The source of test_model.py, not yet formatted."""
    return fill("test_model.py.j2", certificate_view(job))


def _stem(job: Job) -> str:
    """What the keys of every block's tensors begin with."""
    return job.model.blocks[0].keys.rstrip("0123456789.")


def certificate_view(job: Job) -> CertificateView:
    plan = job.data.inputs
    images = isinstance(plan, ImagePlan)
    text = plan if isinstance(plan, TextPlan) else TextPlan((), 1, 0, False)
    pair, types = len(text.columns) == 2, text.token_types
    infos = parameters(job)
    copies = tuple(f"{name}." for name in job.model.copies)
    brought = {p.path for p in added(job)}
    fresh = [
        p
        for p in infos
        if isinstance(p.source, Init)
        and p.path not in brought
        and not p.path.startswith(copies)
    ]
    new, whole = tuple(p.path for p in fresh), _at_full_width(job)
    of = selection(job.model)
    reading = next((p for p in fresh if of and p.path == of.matrix), None)
    new_shapes = {whole[path] for path in new}
    lengths = any(isinstance(p.source, Norms) for p in infos)
    shapes = {t.key: t.shape for t in job.model.tensors}
    read = {key for p in infos for key in keys(p.source)}
    made = {type(one) for p in infos for one in nodes(p.source)}
    repeats, factored, folds = Repeat in made, Left in made, Fold in made
    regrown = [n for n, kind in REGROWN.items() if kind in made]
    config = _config(job)
    rewritten = ["its weights cut to their ranks"] * factored
    rewritten += [f"with positions for {_longest(job)} tokens"] * bool(config)
    loads = repeats or factored or folds or Gain in made or bool(regrown)
    features = features_view(job) if job.data.features != FeaturePlan() else None
    named = ["pixels"] if images else ["ids", *["types"] * types]
    names = ", ".join([*named, *data.beside(job), *["mask"] * (not images)])
    each = "ids, types, mask" if types else "ids, mask"
    cleaned = data.clean_text(job.data)
    view = CertificateView(
        package=job.name,
        program=f"python -m {job.name}.test_model",
        variable=f"{job.name.upper()}_WEIGHTS",
        imports=(),
        new=new,
        adapters=parts(brought, {p.path for p in infos} - brought),
        adapted=" | ".join(adapted(job.model)),
        detours=" | ".join(detours(job.model)),
        exact=1e-6 if lengths else 1e-9,
        replaced=tuple(
            u.key
            for u in job.model.unused
            if new and not job.reference.head and shapes[u.key] in new_shapes
            # Of a block that was left out, a tensor may happen to be of such a shape.
            and not u.key.startswith(_stem(job))
        ),
        rope=any(op.kind == "rope_tables" for m in job.model.modules for op in m.ops),
        old_norms=any(t.key.endswith("LayerNorm.gamma") for t in job.model.tensors),
        images=images,
        pair=pair,
        types=types,
        last=last_position(job),
        last_note=", of the last (B, 1, C)" if last_position(job) else "",
        last_index=_last_index(job),
        hand=hand_view(job) if job.reference.head else None,
        blocks=block_list(job),
        lists=kept.FILE if kept.lists(job) else "",
        trimmed=_trimmed(job),
        width=_list(job, "width") if job.reference.width else "",
        channels=job.reference.width,
        gains=Gain in made,
        narrowed=tuple(
            p.path for p in fresh if whole[p.path] != p.shape and p != reading
        ),
        selected=_tensor(job, of.name) if of else "",
        reading=reading.path if reading else "",
        columns=(
            "torch.as_tensor(WIDTH)[FEATURES]"
            if of and of.channels and job.reference.width
            else "FEATURES"
        ),
        kept=_kept(job),
        total=job.reference.total,
        masked=tuple(_masked(job, job.reference.masked)),
        masked_rows=tuple(_masked(job, job.reference.masked_rows)),
        ranks=tuple((k, rank) for k, rank in job.reference.ranks if k in read),
        rewritten=" and ".join(rewritten),
        longer=tuple(_longer(job)),
        config=config,
        chunked=job.reference.chunked,
        position_doc=_position_doc(job),
        resized=job.reference.size,
        patches=_patches(job) if job.reference.size else 0,
        processor_sizes=_processor_sizes(job),
        surgery=loads or bool(config),
        regrown=bool(regrown),
        repeats=repeats,
        noise=Noise in made,
        factors=factored,
        folds=folds,
        of_gradients=", ".join(
            f'"{name}": {own}'
            for name, own, there in (
                ("repeated", "repeated", repeats),
                ("shared", "shared", repeats),
                ("noisy", "bare", Noise in made),
                ("factors", "factors", factored),
                ("folded", "folded", folds),
                ("regained", "regained", Gain in made),
                *((name, "as_it_is", True) for name in regrown),
            )
            if there
        ),
        load=("load(weights, dtype)" if loads else "load_pretrained(weights)"),
        checkpoint="edited" if rewritten else "weights",
        copies=copies,
        own_blocks=_own_blocks(job),
        auto=(
            "AutoModelForImageClassification"
            if images
            else "AutoModelForSequenceClassification"
        ),
        distills=LOSSES[job.task] if job.distill.teacher else "",
        standardised=units(job.model) != (),
        inside=inside_view(job) if job.distill.inside else None,
        outputs=len(job.labels),
        vocab=_vocabulary(job),
        pixels=(2, *_pixels(job)),
        level=_level(plan) if isinstance(plan, ImagePlan) else 0.0,
        samples=(
            tuple(f"({a}, {b})" for a, b in zip(SAMPLES, SAMPLES[::-1]))
            if pair
            else SAMPLES
        ),
        example_default=f"lengths: Sequence[int] = {py(_lengths(text.max_tokens))}",
        example_args=(
            "*given(dtype)"
            if features
            else "example().to(dtype)" if images else "*example()"
        ),
        per_token=1 + types,
        features=features,
        spelt=_spelt(job),
        inputs_type="tuple[Tensor, ...]",
        inputs_note=f"{each}, each (B, T)",
        inputs_names=names,
        given=(
            ('{"input_ids": VOCABULARY[ids]' if _trimmed(job) else '{"input_ids": ids')
            + ', "attention_mask": mask.long()'
            + (', "token_type_ids": types}' if types else "}")
        ),
        serving_partial=f"partials/certificate_serving_{'image' if images else 'text'}.j2",
        cleaned=cleaned,
        encoded="texts" if cleaned == "text" else f"[{cleaned} for text in texts]",
        compared="SAMPLES" if cleaned == "text" else "texts",
        compared_list="list(SAMPLES)" if cleaned == "text" else "texts",
        usable="all(map(str.strip, text))" if pair else "text.strip()",
        any_target=(
            f", {len(job.labels)}"
            if job.task in ("multi-label", "regression")
            else ", dtype=torch.int64"
        ),
        activation=ACTIVATIONS[job.task],
        answer="values" if job.task == "regression" else "probabilities",
        on_cpu=', device="cpu"' if job.target.device == "cuda" else "",
        serving_bound=_serving_bound(job),
        deployed=_deployed(job),
        served_activation=(".float()" if job.deploy.precision == "bf16" else "")
        + ACTIVATIONS[job.task],
        calibrated=calibrate.asked(job),
    )
    classes = (*adapted(job.model), *detours(job.model))
    beside = {**BESIDE, **{name: (OWN, "from .model") for name in classes}}
    if features:
        beside |= data.FEATURES
    body = fill("partials/certificate_body.j2", view)
    if view.calibrated:
        beside |= calibrate.IMPORT
    beside |= deploy.rounding(job)
    return replace(view, imports=data.imports(body, beside))


def _serving_bound(job: Job) -> str:
    """Code: how far apart two batches of the same rows may lie."""
    if job.deploy.lowered:  # what is rounded may fall to either side
        return "0.05"
    return "1e-2" if job.target.half else "SINGLE"


def _deployed(job: Job) -> DeployedView | None:
    if not deploy.asked(job):
        return None
    view = deploy.deploy_view(job)
    return DeployedView(
        whole=view.whole,
        names=f"({view.parts})",
        halved=bool(view.group),
        products=view.packs,
        static=view.static,
        aware=view.aware and view.linears != (),
        bound=BOUNDS[view.kind],
    )


def _at_full_width(job: Job) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters before channels of the width, or of the vector that the
    head reads, were left out."""
    wide = {"C": job.reference.width or job.model.sizes["C"]}
    if of := selection(job.model):
        wide[SELECTED] = wide["C"] if of.channels else of.total
    dims = (replace(d, size=wide.get(d.symbol, d.size)) for d in job.model.dims)
    model = replace(job.model, dims=tuple(dims))
    return {p.path: p.shape for p in parameters(replace(job, model=model))}


def detours(model: Model) -> tuple[str, ...]:
    """The classes of adapters that are modules of their own."""
    found = (i.module for m in model.modules for i in m.instances)
    return tuple(sorted({m for m in found if m.startswith("Adapter")}))


def block_list(job: Job) -> str:
    """The model's attribute that is the list of its blocks."""
    return job.model.blocks[0].name.rpartition(".")[0]


def last_position(job: Job) -> Literal["", "first", "pick"]:
    """Which one position the last block computes, if it does not compute all."""
    main = job.model.main
    stem = block_list(job) + "."
    last = [op for op in main.ops if op.name.startswith(stem)][-1]
    if main.instance(last.name).zeros:
        return ""  # transformers has none such; the ones before it compute all
    if str(last.results[0].type.shape[1]) != "1":
        return ""
    picks = any(op.kind == "last_index" for op in main.ops)
    return "pick" if picks else "first"


def _masked(job: Job, masked: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for key, name in masked:
        yield py(key), _list(job, name)


def _longest(job: Job) -> int:
    return next(d.bound or 0 for d in job.model.dims if d.symbol == "T")


def _longer(job: Job) -> Iterator[str]:
    """The longer table of positions from its definition, which is not the loader's code."""
    made = (one for p in parameters(job) for one in nodes(p.source))
    for source in made:
        if not isinstance(source, (Tile, Stretch)):
            continue
        rows, first = source.rows, source.first
        (key,) = keys(source)
        (old,) = (t.shape[0] - first for t in job.model.tensors if t.key == key)
        yield f"table = held[{py(key)}]"
        rest, ahead = (
            (f"table[{first}:]", f"table[:{first}], ") if first else ("table", "")
        )
        if isinstance(source, Tile):
            times = -(-(rows - first) // old)
            again = f"[{rest}] * {times}"
            every = f"[{ahead}*{again}]" if first else again
            yield f"longer = torch.cat({every})[:{rows}]"
        else:
            yield f"at = torch.linspace(0, {old - 1}, {rows - first}, dtype=table.dtype)"
            yield f"below = at.long().clamp(max={old - 2})"
            start = f"{first} + below" if first else "below"
            yield f"ends = table[{start}], table[{start} + 1]"
            line = "torch.lerp(*ends, (at - below)[:, None])"
            yield f"longer = {f'torch.cat([{ahead}{line}])' if first else line}"
        yield f"held[{py(key)}] = longer"


def _config(job: Job) -> str:
    """What transformers' configuration says of more positions; "" where there are none."""
    if not job.reference.positions:
        return ""
    inside = [f'"max_position_embeddings": {job.reference.positions}']
    for module in job.model.modules:
        ropes = [op for op in module.ops if op.kind == "rope_tables"]
        inside += [f'"rope_scaling": {_rope(op)}' for op in ropes]
    return "{" + ", ".join(inside) + "}"


# transformers' names of a rope's attributes.
ROPE = {
    "kind": "rope_type",
    "theta": "rope_theta",
    "factor": "factor",
    "original_positions": "original_max_position_embeddings",
}


def _rope(op: Op) -> str:
    """What transformers is told of scaled angles; the rest it works out itself."""
    attrs = op.attrs_dict
    inside = (f"{py(there)}: {py(attrs[n])}" for n, there in ROPE.items() if n in attrs)
    return "{" + ", ".join(inside) + "}"


def _position_doc(job: Job) -> str:
    made = {type(p.source) for p in parameters(job)}
    if Tile in made:
        return "the old ones over and over"
    if Stretch in made:
        return "the old ones with others between"
    return "angles by its own formula"


def _patches(job: Job) -> int:
    """The rows of the table of an image's positions."""
    return next(p.shape[0] for p in parameters(job) if isinstance(p.source, Resize))


def _processor_sizes(job: Job) -> str:
    plan = job.data.inputs
    if not isinstance(plan, ImagePlan) or not job.reference.size:
        return ""
    return "".join(f", {name}={size}" for name, size in data.processor_sizes(plan))


def _trimmed(job: Job) -> str:
    for name in job.model.kept:
        if name.rpartition(".")[2] == "vocab":
            return _tensor(job, name)
    return ""


def _tensor(job: Job, name: str) -> str:
    """Code of a list as a tensor."""
    found = _list(job, name)
    return f"torch.tensor({found})" if found.startswith("[") else found


def _list(job: Job, name: str) -> str:
    """Code of a list of what is kept: itself, or where it stands."""
    index = job.model.kept[name]
    return f"LISTS[{py(name)}]" if len(index) > kept.FEW else str(list(index))


def _own_blocks(job: Job) -> str:
    """The list of our blocks without copies, as Python reaches it."""
    every = f"model.{block_list(job)}"
    own = [i for i, copy in enumerate(_blocks(job)) if not copy]
    return f"[{every}[i] for i in {py(tuple(own))}]" if job.model.copies else every


def _kept(job: Job) -> tuple[int, ...]:
    """Those of transformers' blocks that are ours, where not all of them are."""
    job_blocks = zip(_blocks(job), job.reference.blocks, strict=False)
    kept = tuple(theirs for copy, theirs in job_blocks if not copy)
    return () if kept == tuple(range(job.reference.total)) else kept


def _blocks(job: Job) -> Iterator[bool]:
    """Of each of our blocks, in order, whether it is a copy."""
    for instance in job.model.blocks:
        yield from (bool(instance.zeros) for _ in instance.each())


def _last_index(job: Job) -> str:
    ends = [op for op in job.model.main.ops if op.kind == "last_index"]
    if any("padding" not in op.attrs_dict for op in ends):
        return "mask.sum(1) - 1"
    return "(mask * (ids != PAD) * torch.arange(ids.shape[1])).amax(1)"


def hand_view(job: Job) -> HandView:
    """The head from its definition: no dropout, and nothing that model.py has."""
    found = classifier(job.model)
    picked = any(op.kind == "last_index" for op in job.model.main.ops)
    masked = not isinstance(job.data.inputs, ImagePlan)
    path = found.call.name
    head = reaching(found.module, found.module.outputs, found.states)
    written = [(path, found.module, head)]
    joining = [*_joining(job, masked)] if found.joined else []
    for op in job.model.main.ops:
        if op.kind == "call" and op.results[0].name in found.call.args[1:]:
            own = job.model.by_name[job.model.main.instance(op.name).module]
            written.insert(0, (op.name, own, own.ops))
    lines: list[str] = joining
    names: list[str] = []
    for path, module, ops in written:
        selects = any(op.kind == "select" for op in module.ops)
        of = selection(job.model) if selects else None
        hand = _Hand(job, module, path, picked, masked, of)
        lines += [line for op in ops for line in hand.lines(op)]
        names += (
            f"{path}.{p.name}"
            for p in module.parameters
            if p.name.rpartition(".")[0] in {op.name for op in ops}
        )
    lines[-1] = lines[-1].replace("x = ", "return ", 1)
    text = " ".join(lines)
    beside = data.beside(job)
    inputs = [
        name for name in ("ids", "mask", *beside) if re.search(rf"\b{name}\b", text)
    ]
    first = "states: Sequence[Tensor]" if found.joined else "x: Tensor"
    given = ", ".join([first, *(f"{name}: Tensor" for name in inputs)])
    infos = {p.path: p.source for p in parameters(job)}
    new = [n for n, s in infos.items() if isinstance(s, Init)]
    # An image's come in the right type already.
    cast = [f"{x}.to(dtype)" if masked and x == "numbers" else x for x in inputs]
    states = "last states (B, T, C)"
    if found.joined:
        states = "states (B, T, C)"  # of each depth
    return HandView(
        "NEW" if names == new else py(tuple(names)),
        states,
        found.joined,
        f"{given}, p: Mapping[str, Tensor]",
        tuple(lines),
        ", ".join(["states", *cast, "head"]),
    )


def _joining(job: Job, masked: bool) -> Iterator[str]:
    """The lines that make x of the states behind several blocks."""
    main, names = job.model.main, []
    copies = [*_blocks(job)]
    made = {r.name: op for op in main.ops for r in op.results}
    for read in reads(job.model):
        # transformers has no copies: what they read is what they give.
        layer = copies[: read.layer].count(False)
        name = read.pool.results[0].base
        before = reaching(main, read.pool.args[:1])
        picked = any(op.kind == "last_index" for op in before)
        hand = _Hand(job, main, "", picked, masked, None)
        rest = made[read.pool.args[0]]
        ops = [rest, read.pool] if rest.kind == "rest" else [read.pool]
        *lines, last = (line for op in ops for line in hand.lines(op))
        yield f"x = states[{layer}]"
        yield from lines
        yield last.replace("x = ", f"{name} = ", 1)
        names.append(name)
    yield f"x = torch.cat([{', '.join(names)}], 1)"


@dataclass(frozen=True)
class _Hand:
    """Writes the operations of a head out: x is what comes of the states, y the rest."""

    job: Job
    module: Module
    path: str
    picked: bool
    masked: bool
    of: Selection | None  # what of the vector is read, where the others are zeros here

    def lines(self, op: Op) -> Iterator[str]:
        """The lines of an operation, of which the last gives its variable anew."""
        v = self.variable(op.results[0].name)
        match op.kind:
            case "rest":
                yield "x = x[:, 1:]"
            case "first" if self.picked:
                yield f"last = {_last_index(self.job)}"
                yield "x = x[torch.arange(len(x)), last]"
            case "first":
                yield "x = x[:, 0]"
            case "mean" if self.masked:
                yield "x = (x * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]"
            case "mean":
                yield "x = x.mean(1)"
            case "largest" if self.masked:
                yield "x = torch.stack([row[real].amax(0) for row, real in zip(x, mask)])"
            case "largest":
                yield "x = x.amax(1)"
            case "linear" if len(op.results[0].type.shape) == 3:  # scores
                weights = f"(x @ p[{self.weight(op)}].T).exp()"
                mask = " * mask[:, :, None]" if self.masked else ""
                yield f"weights = {weights}{mask}"
            case "weighted_mean":
                yield "x = (weights * x).sum(1) / weights.sum(1)"
            case "linear" if self.of and self.weight(op) == py(self.of.matrix):
                # What reads some numbers has weights for all, zeros for the others.
                wide = f"some.new_zeros(len(some), {self.of.total})"
                wide = f"{wide}.index_copy(1, FEATURES, some)"
                if self.joins:
                    yield f"some, more = p[{self.weight(op)}].tensor_split([{self.chosen}], 1)"
                    wide = f"torch.cat([{wide}, more], 1)"
                else:
                    yield f"some = p[{self.weight(op)}]"
                yield f"wide = {wide}"
                yield f"x = x @ wide.T{self.bias(op)}"
            case "linear":
                x = self.variable(op.args[0])
                yield f"{v} = {x} @ p[{self.weight(op)}].T{self.bias(op)}"
            case "activation":
                formula = BY_HAND[str(op.attrs_dict["kind"])]
                yield f"{v} = {formula.format(x=self.variable(op.args[0]))}"
            case "embedding":
                yield f"{v} = p[{self.weight(op)}][{op.args[0]}]"
            case "rescale":
                pass  # by 1, as long as nothing has trained
            case "flatten":
                yield f"{v} = {self.variable(op.args[0])}.reshape(len({v}), -1)"
            case "join":
                parts = ", ".join(self.variable(arg) for arg in op.args)
                yield f"{v} = torch.cat([{parts}], 1)"

    @property
    def joins(self) -> bool:
        return any(op.kind == "join" for op in self.module.ops)

    @property
    def chosen(self) -> int:
        """How many of the vector's numbers are read."""
        return self.job.model.sizes[SELECTED]

    def bias(self, op: Op) -> str:
        name = f"{self.path}.{op.name}.bias"
        return f" + p[{py(name)}]" if _biased(self.job, name) else ""

    def weight(self, op: Op) -> str:
        return py(f"{self.path}.{op.name}.weight")

    def variable(self, value: str) -> str:
        """What a value is called: an input of features by its name."""
        if value in ("numbers", "categories"):
            return value
        model = self.job.model
        if self.module.name in (classifier(model).module.name, model.main.name):
            return "y" if value == "features" else "x"
        return "y"


def features_view(job: Job) -> FeaturesView:
    plan, sizes = job.data.features, job.model.sizes
    rows = "len(lengths)" if job.data.texts else 2
    drawn = []
    if job.data.numbers:
        drawn.append(f"10 * draw(({rows}, {job.data.numbers}), seed=3)")
    if plan.categorical:
        count = len(plan.categorical)
        numbers = f"random.randrange({sizes['U']}) for _ in range({rows} * {count})"
        drawn.append(f"torch.tensor([{numbers}]).view({rows}, {count})")
    return FeaturesView(
        drawn=tuple(drawn),
        numeric=plan.numeric,
        categorical=plan.categorical,
        dates=plan.dates,
        columns=len(plan.columns) > 0,
        of_text=bool(plan.text or plan.patterns),
        raw_of=data.raw_of(job.data),
    )


def _biased(job: Job, path: str) -> bool:
    return any(p.path == path for p in parameters(job))


def _lengths(longest: int) -> tuple[int, ...]:
    """The lengths of the rows. The last has a padding token in its text."""
    return (*sorted({1, min(7, longest), longest}), min(7, longest))


def _spelt(job: Job) -> str:
    ends = [op for op in job.model.main.ops if op.kind == "last_index"]
    if any("padding" not in op.attrs_dict for op in ends):
        # transformers then takes batches only with a padding token of our choice, which
        # a text may not end with.
        return "(lengths[-1] - 1) // 2"
    return "[(lengths[-1] - 1) // 2, lengths[-1] - 1]"


def _vocabulary(job: Job) -> int:
    """Rows of the table that token ids look up."""
    sizes = job.model.sizes
    for module in job.model.modules:
        for op in module.ops:
            if op.kind == "embedding" and op.args == ("ids",):
                table = next(
                    p for p in module.parameters if p.name == f"{op.name}.weight"
                )
                return table.type.shape[0].value(sizes)
    return 0


def _pixels(job: Job) -> tuple[int, ...]:
    kind = job.model.main.inputs[0].type
    if kind.dtype != "f32":
        return ()
    return tuple(d.value(job.model.sizes) for d in kind.shape[1:])


def _level(plan: ImagePlan) -> float:
    return plan.rescale / min(plan.std)
