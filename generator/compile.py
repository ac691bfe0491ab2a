"""The pure function: a spec and its facts to the files of a package.

    spec, facts --import_job--> Job --passes--> Job --render--> Draft --format--> bytes

No I/O, no clock, no environment; neither torch nor transformers is imported. Formatting
is the dearest step, so that it stands apart: whoever has the files of an earlier build
formats only the drafts that differ from theirs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, get_args

from generator import archs, pruning, saved, vocab
from generator.archs.build import Imported, Request, Saved, reference
from generator.arguments import arguments, features_to_keep
from generator.cost import Cost, Stage, describe
from generator.errors import Diagnostic, GenError, fail
from generator.facts import Facts, dump_card
from generator.ir.deploy import linears, matrices, tables, weight_bytes
from generator.ir.dims import dim
from generator.ir.head import classifier, selection
from generator.ir.job import Backbone, Job, Tensor, added, parameters
from generator.ir.ops import merges
from generator.ir.plans import (
    AugmentPlan,
    CleanPlan,
    DataPlan,
    DeployPlan,
    DistillPlan,
    ExportPlan,
    FeaturePlan,
    Format,
    GuardPlan,
    ImagePlan,
    Kind,
    Mask,
    StagePlan,
    TargetPlan,
    TextPlan,
    TrainPlan,
    Trait,
)
from generator.ir.saving import Unsaveable
from generator.ir.sources import Init
from generator.ir.stages import always_frozen, by_stage, covers, cuts
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from generator.ir.weightmap import WeightMap
from generator.lessons import inside
from generator.passes import (
    EDITS,
    NAMED,
    NAMING,
    Step,
    join_features,
    select_features,
    standardise,
    steps,
)
from generator.passes.prune_width import of_rms
from generator.passes.trim_vocab import kept_tokens
from generator.render.package import (
    Draft,
    finished,
    render_package,
    render_teacher,
)
from generator.spec import SpecFile
from generator.spec.alter import without_search
from generator.spec.clean import Clean
from generator.spec.edits import ExtendPositions, ResizeImage
from generator.spec.features import Features
from generator.spec.model import Spec
from generator.spec.prune import Prune
from generator.spec.select import Select
from generator.teacher import check_teacher

LOCK = "gen.lock"
TEACHER_SPEC = "teacher.toml"  # the spec of the job that a package learns from
LOCK_VERSION = 1
# The keys of the spec that errors of architectures are about, where not the backbone.
PLACES = {"G206": "labels", "G209": "backbone.dropout", "G210": "task"}
# The keys of an edit that its errors are about: the first that is given.
EDIT_PLACES = {
    "G232": ("do",),
    "G233": ("to", "keep"),
    "G234": ("score", "choose", "energy"),
    "G235": ("to", "keep"),
    "G236": ("to", "keep"),
    "G237": ("do",),
    "G240": ("blocks", "layers", "n", "after", "on"),
    "G241": ("on",),
    "G242": ("rank", "energy"),
    "G243": ("to", "by"),
    "G250": ("on",),
    "G252": ("rank",),
    "G253": ("on",),
    "G254": ("on",),
    "G260": ("layers", "kinds", "kind"),
    "G261": ("samples", "hidden", "activation"),
    "G262": ("after",),
    "G263": ("to",),
    "G264": ("by",),
    "G265": ("size",),
    "G266": ("do",),
}
SELECT = "select-features"  # the step behind the edits
STANDARDISE = "standardise"  # and that ahead of the passes, of a regression
# Edits that change the blocks or channels that a pooling of several layers reads.
COUNTED = ("keep-layers", "add-layers", "prune-width")
ADAPTING = ("lora", "dora", "ia3", "adapter")
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".tsv": "tsv",
}


@dataclass(frozen=True)
class Compiled:
    """A job after its passes and the drafts of its files; `notes` are for the user."""

    job: Job
    imported: Job
    steps: tuple[Step, ...]  # the edits, with the features behind them, then the passes
    stages: tuple[Stage, ...]  # as imported and after each edit; none without edits
    drafts: tuple[Draft, ...]
    notes: tuple[str, ...]

    @property
    def edited(self) -> Job:
        """The job after the edits and before the passes."""
        edits = max(0, len(self.stages) - 1)
        return self.steps[edits - 1].job if edits else self.imported

    @property
    def weights(self) -> WeightMap:
        """The weight maps of all passes as one."""
        total = WeightMap()
        for step in self.steps:
            total = total.then(step.weights)
        return total


def compile(spec_file: SpecFile, facts: Facts) -> dict[str, bytes]:
    """Every file of the package, by its name in it. GenError where one cannot be made."""
    facts = started(spec_file, facts)
    compiled = draft(spec_file, facts)
    files = {d.path: finished(d) for d in compiled.drafts}
    files[LOCK] = lock(compiled, facts, files)
    return files


def started(spec_file: SpecFile, facts: Facts) -> Facts:
    """The facts as a job is compiled with them: one that is pruned in steps starts from
    what these have left, once they were run."""
    if facts.pruned is None:
        return facts
    sizes = import_job(spec_file, facts).model.sizes
    return pruning.started(spec_file, facts, sizes)


def draft(
    spec_file: SpecFile, facts: Facts, left_out: Collection[str] = ()
) -> Compiled:
    """All of `compile` but for the formatting and the lock, without the passes `left_out`."""
    facts = started(spec_file, facts)
    imported = import_job(spec_file, facts)
    to_come = _to_come(spec_file, facts, imported)
    edits, named = _named(spec_file, facts, imported, left_out)
    ready = _with_frozen(spec_file, named[-1].job)
    teacher = _teacher(spec_file, facts, ready)
    if teacher is not None:
        ready = _with_teacher(spec_file, ready, teacher)
    done = (*edits, *named, *steps(ready, NAMED))
    job = done[-1].job
    _check_augment(spec_file, job)
    _check_deploy(spec_file, job)
    stages = tuple(_stages(imported, edits, ready))
    # What renders a job reads its text and nothing else.
    printed = print_job(job)
    drafts = render_package(parse_job(printed), facts.measured, stages, _before(facts))
    if teacher is not None:
        assert spec_file.teacher is not None
        text = without_search(spec_file.teacher.text)
        drafts += (render_teacher(job.name, parse_job(print_job(teacher))),)
        drafts += (Draft(TEACHER_SPEC, text.encode(), python=False),)
    text = spec_file.text
    if "search" in text:  # which is no part of the package
        text = without_search(text)
    drafts += (Draft("spec.toml", text.encode(), python=False),)
    if facts.tokenizer is not None and isinstance(job.data.inputs, TextPlan):
        tokenizer = facts.tokenizer
        if ids := kept_tokens(job):
            tokenizer = vocab.trim(tokenizer, ids)
        drafts += (Draft("tokenizer.json", tokenizer, python=False),)
    if "transformers" in job.export.to:
        edited = edits[-1].job if edits else imported
        drafts += tuple(_saved(spec_file, facts, job, edited))
    if facts.reference is not None:
        drafts += (Draft("reference.safetensors", facts.reference, python=False),)
    notes = _notes(job, facts)
    if left := request(spec_file, facts).head_left(imported.model):
        notes.append(left)
    if unread := _unread(imported, job):
        notes.append(unread)
    if to_come:
        notes.append(to_come)
    return Compiled(job, imported, done, stages, drafts, tuple(notes))


def _to_come(spec_file: SpecFile, facts: Facts, imported: Job) -> str:
    """What to tell of steps that were run, or will be; "" of a job that has none. GenError
    where they cannot be."""
    if not pruning.stepped(spec_file.spec):
        return ""
    sizes = imported.model.sizes
    steps = pruning.step_specs(spec_file, sizes)
    if facts.pruned is not None:
        led = "one step" if len(steps) == 1 else f"{len(steps)} steps"
        done = ", ".join(f"{s.score} {s.after:.4f}" for s in facts.pruned.steps)
        return (
            f"starts from weights that were pruned and trained in {led} before this one (on "
            f"the validation rows, {done}): they lie in the work folder of "
            "gen run"
        )
    each = [
        " and ".join(pruning.stays(one, sizes))
        for one in (*(step.spec for step in steps), spec_file.spec)
    ]
    recover = spec_file.spec.train.prune.recover
    return (
        f"`gen run` prunes in {len(each)} steps, to {'; to '.join(each)}, with "
        f"{recover:g} epoch{'s' * (recover != 1)} of training after each but the last, and "
        "builds this package anew from there. Until then it prunes at once"
    )


def _before(facts: Facts) -> list[tuple[str, ...]]:
    """A row of the model card for each step of pruning that came before the last."""
    steps = facts.pruned.steps if facts.pruned is not None else ()
    return [
        (
            str(number),
            ", ".join(step.stays),
            f"{step.parameters:,}",
            f"{step.score} {step.before:.4f}",
            f"{step.after:.4f}",
        )
        for number, step in enumerate(steps, 1)
    ]


def _named(
    spec_file: SpecFile, facts: Facts, imported: Job, left_out: Collection[str]
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The edits, and the passes up to where parameters have the names that they keep."""
    edits = tuple(_edits(spec_file, facts, imported))
    edits += tuple(_selected(spec_file, facts, edits[-1].job if edits else imported))
    edits += tuple(_joined(spec_file.spec, edits[-1].job if edits else imported))
    job = edits[-1].job if edits else imported
    ready = tuple(_standardised(spec_file, job))
    naming = [name for name in NAMING if name not in left_out]
    return edits, (*ready, *steps(ready[-1].job if ready else job, naming))


def _teacher(spec_file: SpecFile, facts: Facts, job: Job) -> Job | None:
    """The job that this one learns from, of which nothing is frozen: it only answers.

    GenError where it is not one that this job can learn from.
    """
    if spec_file.spec.train.distill.teacher is None:
        return None
    if spec_file.teacher is None or facts.teacher is None:
        raise fail(
            "G285",
            "the teacher's spec and facts were not read with this one",
            place=spec_file.place("train.distill.teacher"),
            label="a teacher is that of a job in a file of its own",
            help="gen build and gen run read both; gen search does not yet",
        )
    own = started(spec_file.teacher, facts.teacher)
    imported = import_job(spec_file.teacher, own)
    _, named = _named(spec_file.teacher, own, imported, ())
    *_, done = steps(named[-1].job, NAMED)
    tokenizers = facts.tokenizer, facts.teacher.tokenizer
    check_teacher(spec_file, job, done.job, tokenizers)
    return done.job


def _with_teacher(spec_file: SpecFile, job: Job, teacher: Job) -> Job:
    asked, found = spec_file.spec.train.distill, inside(spec_file, job, teacher)
    plan = DistillPlan(
        teacher=teacher.name,
        weight=float(asked.weight),
        temperature=1.0 if job.task == "regression" else float(asked.temperature),
        parameters=sum(prod(p.shape) for p in parameters(teacher)),
        hidden=float(asked.hidden),
        attention=float(asked.attention),
        pairs=found.pairs,
        one_position=found.one_position,
        width=found.width,
        heads=found.heads,
        related=found.related,
    )
    return replace(job, distill=plan)


def _saved(spec_file: SpecFile, facts: Facts, job: Job, edited: Job) -> Iterator[Draft]:
    """The files of a folder for transformers, but for the weights."""
    try:
        found = saved.files(job, edited, facts.card, request(spec_file, facts))
    except Unsaveable as error:
        raise fail(
            "G290",
            f"this model cannot be exported for transformers: {error}",
            place=spec_file.place("deploy.export"),
            label=f"there {saved.names(job).classes[job.backbone.architecture]} computes "
            "something else",
            help='remove "transformers", or the edit that it does not know; "onnx" and '
            '"torch" take every model',
        ) from None
    for name, data in found.items():
        yield Draft(name, data, python=False)


def _edits(spec_file: SpecFile, facts: Facts, job: Job) -> Iterator[Step]:
    """The job after each edit of the spec in turn, verified."""
    for number, edit in enumerate(spec_file.spec.edit):
        at = f"edit[{number}]"
        if edit.DO in COUNTED and classifier(job.model).joined:
            raise fail(
                "G267",
                f"{edit.DO} would change which blocks, or what of them, pool has joined",
                place=spec_file.place(f"{at}.do"),
                help=f"write {edit.DO} above pool",
            )
        try:
            given = arguments(edit, spec_file, facts, job)
            job, weights = EDITS[edit.DO].run(job, **given)
        except GenError as error:  # edits know of no file: say which one it is
            raise GenError(
                [
                    replace(d, place=spec_file.place(f"{at}.{_key(spec_file, at, d)}"))
                    for d in error.diagnostics
                ]
            ) from None
        try:
            verify(job, after=edit.DO)
        except GenError:
            above = [e.DO for e in spec_file.spec.edit[:number] if e.DO in ADAPTING]
            if not above:
                raise
            raise fail(
                "G255",
                f"{edit.DO} cannot change layers that {above[-1]} has put adapters on",
                place=spec_file.place(f"{at}.do"),
                help=f"write {edit.DO} above {above[-1]}",
            ) from None
        yield Step(edit.DO, job, weights)


def _selected(spec_file: SpecFile, facts: Facts, job: Job) -> Iterator[Step]:
    """The job whose head reads the chosen numbers of its vector alone."""
    if spec_file.spec.features.select.by:
        kept = features_to_keep(spec_file, facts, _with_features(spec_file, job))
        joined = _features(spec_file.spec.features) != FeaturePlan()
        job, weights = select_features.run(job, kept=kept, cuts=not joined)
        verify(job, after=SELECT)
        yield Step(SELECT, job, weights)


def chosen_from(spec_file: SpecFile, facts: Facts) -> Job:
    """The job whose vector features are chosen of: behind the edits, and ahead of what
    joins it, whose weights have learned nothing that could be told of them."""
    job = import_job(spec_file, facts)
    for step in _edits(spec_file, facts, job):
        job = step.job
    return _with_features(spec_file, job)


def _with_features(spec_file: SpecFile, job: Job) -> Job:
    """The job with the columns that its rows are read with: some rows leave by them."""
    plan = _features(spec_file.spec.features)
    return replace(job, data=replace(job.data, features=plan))


def unselected(spec_file: SpecFile) -> SpecFile:
    """The spec with all features: what they are chosen from."""
    features = replace(spec_file.spec.features, select=Select())
    return replace(spec_file, spec=replace(spec_file.spec, features=features))


def _joined(spec: Spec, job: Job) -> Iterator[Step]:
    """The job whose head reads what [features] says, where it says any."""
    plan, own = _features(spec.features), spec.features
    if plan != FeaturePlan():
        job, weights = join_features.run(
            job, plan, width=own.width, hidden=own.hidden, dropout=own.dropout
        )
        verify(job, after="features")
        yield Step("features", job, weights)


def _standardised(spec_file: SpecFile, job: Job) -> Iterator[Step]:
    """The job whose last layer answers in standard deviations of the targets."""
    if job.task != "regression" or not spec_file.spec.train.standardise:
        return
    job, weights = standardise.run(job)
    if pruning.stepped(spec_file.spec) and not classifier(job.model).has_bias:
        raise fail(
            "G292",
            "standardised targets cannot go together with pruning in steps, as the last "
            "layer of this model has no bias",
            place=spec_file.place("train.standardise"),
            label="no step could hand on their mean to the next",
            help="standardise = false, or prune at once: remove [train.prune]",
        )
    verify(job, after=STANDARDISE)
    yield Step(STANDARDISE, job, weights)


def as_read(spec_file: SpecFile) -> SpecFile:
    """The spec with those edits alone that its rows need: of longer ones, larger images."""
    spec_file = unselected(spec_file)
    reading = tuple(
        edit
        for edit in spec_file.spec.edit
        if isinstance(edit, (ExtendPositions, ResizeImage))
    )
    train = replace(spec_file.spec.train, prune=Prune())  # which leaves nothing out
    return replace(spec_file, spec=replace(spec_file.spec, edit=reading, train=train))


def _key(spec_file: SpecFile, at: str, found: Diagnostic) -> str:
    """The key of an edit that an error is about, among those that the spec gives."""
    about = [*EDIT_PLACES.get(found.code, ()), "do"]
    return next(key for key in about if f"{at}.{key}" in spec_file.given)


def _stages(imported: Job, edits: Sequence[Step], ready: Job) -> Iterator[Stage]:
    """What the job costs before and after each edit, with all passes, and as frozen as
    the last one is."""
    if edits:
        yield Stage("the backbone as it is", _cost(imported, ready))
    for step in edits:
        yield Stage(step.name, _cost(step.job, ready))


def _cost(job: Job, ready: Job) -> Cost:
    *_, named = steps(job, NAMING)
    paths = [p.path for p in parameters(named.job)]

    def there(frozen: Sequence[str]) -> tuple[str, ...]:
        return tuple(f for f in frozen if any(covers((f,), path) for path in paths))

    frozen = there(ready.frozen)
    stages = tuple(replace(s, frozen=there(s.frozen)) for s in ready.stages)
    if stages:
        frozen = always_frozen([stage.frozen for stage in stages])
    *_, done = steps(replace(named.job, frozen=frozen, stages=stages), NAMED)
    return describe(done.job)


def lock(compiled: Compiled, facts: Facts, files: Mapping[str, bytes]) -> bytes:
    """gen.lock: what the package was built from, and a seal per file."""
    card = facts.card
    content = {
        "version": LOCK_VERSION,
        "job": compiled.job.name,
        "spec": digest(files["spec.toml"]),
        "templates": _templates(),
        "backbone": {
            "source": card.source,
            "revision": card.revision,
            "licence": card.licence,
            "verified": card.verified,
            "card": digest(dump_card(card).encode()),
            "files": {f.name: f.sha256 for f in card.files},
        },
        "files": {
            d.path: {"draft": digest(d.data), "seal": digest(files[d.path])}
            for d in sorted(compiled.drafts, key=lambda d: d.path)
        },
    }
    if teacher := facts.teacher:
        content["teacher"] = {
            "job": compiled.job.distill.teacher,
            "source": teacher.card.source,
            "card": digest(dump_card(teacher.card).encode()),
        }
    if facts.pruned is not None:
        content["pruned"] = {
            "key": facts.pruned.key,
            "scores": digest(facts.pruned.scores),
            "steps": [asdict(step) for step in facts.pruned.steps],
        }
    if compiled.stages:
        content["edits"] = [stage.figures for stage in compiled.stages]
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _templates() -> str:
    from generator.render.text import templates_hash

    return templates_hash()


# ------------------------------------------------------------------------- the import


def import_job(spec_file: SpecFile, facts: Facts) -> Job:
    """The job as its architecture writes it down: every block out, nothing fused."""
    spec = spec_file.spec
    card = facts.card
    if card.source != spec.backbone.source:
        raise fail(
            "G220",
            f'the facts are those of "{card.source}"',
            place=spec_file.place("backbone.from"),
            help=f"gen facts {spec_file.file} --refresh gathers those of this one",
        )
    try:
        architecture = archs.find(card.config.get("model_type"))
        imported: Imported = architecture.build(request(spec_file, facts))
    except GenError as error:  # architectures know of no file: say which spec it is
        raise GenError(
            [
                replace(d, place=spec_file.place(PLACES.get(d.code, "backbone.from")))
                for d in error.diagnostics
            ]
        ) from None
    job = Job(
        name=spec.name,
        task=spec.task,
        labels=spec.labels,
        backbone=Backbone(
            card.source, card.revision, card.licence, str(card.config["model_type"])
        ),
        model=imported.model,
        data=_data(spec_file, imported, facts),
        train=_train(spec),
        target=TargetPlan(
            spec.target.device, spec.target.precision, spec.target.compile
        ),
        deploy=DeployPlan(
            spec.deploy.quantize,
            spec.deploy.leave,
            spec.deploy.precision,
            temperature=spec.deploy.temperature,
            thresholds=spec.deploy.thresholds,
            group=spec.deploy.group,
            range=spec.deploy.range,
            calibration_rows=spec.deploy.calibration_rows,
            quantize_aware=spec.deploy.quantize_aware,
            quantize_after=float(spec.deploy.quantize_after),
        ),
        export=_export(spec, architecture.SAVED),
        reference=reference(card.config),
    )
    verify(job, after="import")
    return job


def _export(spec: Spec, names: Saved) -> ExportPlan:
    to = tuple(kind for kind in get_args(Kind) if kind in spec.deploy.export)
    if "transformers" not in to:
        return ExportPlan(to)
    return ExportPlan(to, names.base, tuple(names.heads.items()))


def request(spec_file: SpecFile, facts: Facts) -> Request:
    spec, card = spec_file.spec, facts.card
    head = spec.backbone.head
    if head == "new" and facts.pruned is not None:  # the steps before have begun it
        head = "auto"
    return Request(
        config=card.config,
        tensors=tuple(Tensor(t.key, t.dtype, t.shape) for t in card.tensors),
        task=spec.task,
        labels=spec.labels,
        # With features the last layer reads another vector than the checkpoint's did.
        head="new" if _features(spec.features) != FeaturePlan() else head,
        dropout=spec.backbone.dropout,
        attention_dropout=spec.train.attention_dropout,
        pair=len(spec.data.text) == 2,
        max_tokens=spec.data.max_tokens,
        preprocessor=card.preprocessor,
        image_column=spec.data.image or "",
    )


def _data(spec_file: SpecFile, imported: Imported, facts: Facts) -> DataPlan:
    spec = spec_file.spec
    data = spec.data
    inputs = imported.image
    if inputs is not None:
        inputs = replace(inputs, held=data.image_bytes)
    else:
        bound = next(d.bound for d in imported.model.dims if d.symbol == "T")
        longest = data.max_tokens
        if bound is not None and longest > bound:
            # An edit may give it more positions, and reads the longer rows then.
            more = [e.to for e in spec.edit if isinstance(e, ExtendPositions)]
            most = max([bound, *more])
            if longest > most and "data.max_tokens" in spec_file.given:
                raise fail(
                    "G221",
                    f"this backbone reads at most {most} tokens",
                    place=spec_file.place("data.max_tokens"),
                    label=f"at most {most}",
                    help=f"max_tokens = {most}",
                )
            longest = bound
        _check_room(spec_file, facts, longest)
        inputs = TextPlan(
            data.text,
            longest,
            imported.pad_id,
            imported.token_types,
            facts.tokenizer is None,
        )
    read = (data.train, data.valid, data.test, data.augment.paraphrases)
    files = [f for f in read if f is not None]
    formats: set[Format] = {FORMATS[f[f.rindex(".") :].lower()] for f in files}
    return DataPlan(
        train=data.train,
        valid=data.valid,
        test=data.test,
        valid_fraction=data.valid_fraction or 0.0,
        test_fraction=data.test_fraction or 0.0,
        formats=tuple(sorted(formats)),
        inputs=inputs,
        label=data.label,
        separator=data.separator,
        clean=_clean(data.clean),
        augment=_augment(spec_file, facts),
        guard=GuardPlan(**asdict(data.guard)),
        rows=data.rows,
    )


def _check_room(spec_file: SpecFile, facts: Facts, longest: int) -> None:
    """A row of `longest` tokens has some of each of its texts among them."""
    # A large tokenizer takes a second to read, and no template has as many tokens.
    if facts.tokenizer is None or longest > 64:
        return
    texts = len(spec_file.spec.data.text)
    special = vocab.special_tokens(facts.tokenizer, pair=texts == 2)
    if longest < special + texts:
        of = "either of its texts" if texts == 2 else "its text"
        raise fail(
            "G377",
            f"a row of {longest} tokens has no room for {of}: the tokenizer puts "
            f"{special} special tokens around {'the two' if texts == 2 else 'it'}",
            place=spec_file.place("data.max_tokens"),
            label=f"at least {special + texts}",
            help="max_tokens = 128 is enough for a few sentences",
        )


def _features(features: Features) -> FeaturePlan:
    order = [trait for trait in get_args(Trait) if trait in features.text]
    return FeaturePlan(
        numeric=features.numeric,
        categorical=features.categorical,
        dates=features.dates,
        text=tuple(order),
        patterns=features.patterns,
        # Without a column of them it is about nothing, and as good as not said.
        categories=(
            features.categories if features.categorical else FeaturePlan.categories
        ),
    )


def _clean(clean: Clean) -> CleanPlan:
    order = [mask for mask in get_args(Mask) if mask in clean.mask]
    return CleanPlan(
        unicode=clean.unicode,
        invisible=clean.invisible,
        html=clean.html,
        mask=tuple(order),
        case=clean.case,
        whitespace=clean.whitespace,
        missing=clean.missing,
        labels=clean.labels,
        languages=clean.languages,
        min_chars=clean.min_chars,
        max_chars=clean.max_chars or 0,
        min_tokens=clean.min_tokens,
        too_long=clean.too_long,
        duplicates=clean.duplicates,
        levels=clean.levels,
        alpha=clean.alpha,
        min_pixels=clean.min_pixels,
        max_pixels=clean.max_pixels or 0,
    )


def _augment(spec_file: SpecFile, facts: Facts) -> AugmentPlan:
    asked = spec_file.spec.data.augment
    plan = AugmentPlan(
        paraphrase=float(asked.paraphrase),
        paraphrases=asked.paraphrases or "",
        synonym_swap=float(asked.synonym_swap),
        synonyms=asked.synonyms or "",
        word_dropout=float(asked.word_dropout),
        span_mask=float(asked.span_mask),
        span_tokens=asked.span_tokens,
        policy=asked.policy,
        operations=asked.operations,
        magnitude=asked.magnitude,
        erase=float(asked.erase),
        mixup=float(asked.mixup),
        cutmix=float(asked.cutmix),
    )
    if not (plan.words or plan.span_mask):
        return plan
    needing = "span_mask" if plan.span_mask else "word_dropout"
    if plan.synonym_swap:
        needing = "synonym_swap"
    if facts.tokenizer is None:
        raise fail(
            "G270",
            f"{needing} needs the tokenizer, which was not at hand",
            place=spec_file.place(f"data.augment.{needing}"),
            label="how it writes words and masks is read from it",
            help=f"gen facts {spec_file.file} --complete fetches it",
        )
    begins, continues = vocab.word_marks(facts.tokenizer) if plan.words else ("", "")
    mask = vocab.mask_token(facts.tokenizer) if plan.span_mask else ""
    if plan.span_mask and not mask:
        raise fail(
            "G270",
            "this backbone's tokenizer has no mask token",
            place=spec_file.place("data.augment.span_mask"),
            label="there is nothing that would hide a token",
            help="word_dropout leaves words out instead",
        )
    return replace(plan, begins=begins, continues=continues, mask=mask)


def _check_augment(spec_file: SpecFile, job: Job) -> None:
    """What frozen blocks gave for a row is kept: the row must stay as it is. And what the
    head reads beside an image does not mix."""
    plan, images = job.data.augment, isinstance(job.data.inputs, ImagePlan)
    if images and (plan.mixup or plan.cutmix) and job.data.features != FeaturePlan():
        raise fail(
            "G272",
            "images cannot be mixed where the head reads columns beside them",
            place=spec_file.place(
                "data.augment.mixup" if plan.mixup else "data.augment.cutmix"
            ),
            label="of two categories there is no mixture",
            help="remove it, or [features]",
        )
    if not (plan.rows or images and (plan.mixup or plan.cutmix)) or not cuts(job):
        return
    given = [key for key in spec_file.given if key.startswith("data.augment.")]
    raise fail(
        "G271",
        "rows cannot be changed in each epoch where what is frozen runs over them once",
        place=spec_file.place(min(given)),
        label="what the frozen blocks give is kept, of the rows as they are",
        help='cache = "off" in [train] runs the frozen blocks in every step',
    )


def _check_deploy(spec_file: SpecFile, job: Job) -> None:
    """What is left alone is there, and something is not."""
    plan = job.deploy
    if plan.quantize == "none":
        return
    if plan.quantize in ("int8", "int8-static") and job.target.device != "cpu":
        raise fail(
            "G282",
            f'quantize "{plan.quantize}" is for a processor, and the target is '
            f"{job.target.device}",
            place=spec_file.place("deploy.quantize"),
            label="its products of whole numbers are a CPU's",
            help='quantize = "int8-weights" takes as little room',
        )
    names = [one.name for one in matrices(job.model)]
    for number, path in enumerate(plan.leave):
        if any(covers((path,), name) for name in names):
            continue
        parts = [name.split(".") for name in names]
        known = {".".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}
        near = difflib.get_close_matches(path, sorted(known), n=1, cutoff=0.5)
        raise fail(
            "G280",
            f'the model has no linear in "{path}"',
            place=spec_file.place(f"deploy.leave[{number}]"),
            label=f'did you mean "{near[0]}"?' if near else "",
            help=f"linears are {', '.join(names[:4])} and so on",
        )
    if not linears(job) and not tables(job):
        raise fail(
            "G281",
            "leave names every linear, so that nothing is quantised",
            place=spec_file.place("deploy.leave" if plan.leave else "deploy.quantize"),
            help="leave less alone, or remove [deploy]",
        )
    if plan.quantize_aware:
        _check_aware(spec_file, job)


def _check_aware(spec_file: SpecFile, job: Job) -> None:
    """What is rounded in training is there in training, and what is looked at trains."""
    place = spec_file.place("deploy.quantize_aware")
    if merges(job.model):
        raise fail(
            "G385",
            "training cannot round weights that adapters are merged into at its end",
            place=place,
            label="what is rounded to predict is their sum, which training never has",
            help="remove it, or the adapters",
        )
    frozen = [path for one in by_stage(job) for path in one.frozen if one.deploy.static]
    still = [one.name for one in linears(job) if covers(frozen, one.name)]
    if still:
        raise fail(
            "G386",
            f'the ranges of "int8-static" are followed in training, and {still[0]} is '
            "frozen",
            place=place,
            label="what is frozen runs as in prediction, where no range is followed",
            help=f"leave = {json.dumps(sorted(frozen))} keeps it as it is; or give "
            'quantize = "int8", whose ranges follow from each row',
        )


def _train(spec: Spec) -> TrainPlan:
    t = spec.train
    return TrainPlan(
        epochs=sum(s.epochs for s in t.stage) if t.stage else t.epochs,
        batch=0 if t.batch_tokens else t.batch or 0,
        batch_tokens=t.batch_tokens or 0,
        lr=float(t.lr),
        schedule=t.schedule,
        warmup=float(t.warmup),
        weight_decay=float(t.weight_decay),
        layer_decay=float(t.layer_decay),
        clip=float(t.clip),
        accumulate=t.accumulate,
        label_smoothing=float(t.label_smoothing),
        class_weights=t.class_weights,
        early_stopping=t.early_stopping,
        seed=t.seed,
        evaluate_every=t.evaluate_every,
        save_every=t.save_every,
        max_bad_steps=t.max_bad_steps,
        cache=t.cache,
        sampling=t.sampling,
        loss=t.loss,
        gamma=float(t.gamma),
        ema=float(t.ema),
    )


def _with_frozen(spec_file: SpecFile, job: Job) -> Job:
    """The job with what it freezes, in each stage and in all of them."""
    train = spec_file.spec.train
    if not train.stage:
        frozen = _frozen(spec_file, job, "train.freeze", train.freeze)
        return replace(job, frozen=frozen)
    stages = tuple(
        StagePlan(
            epochs=stage.epochs,
            lr=float(train.lr if stage.lr is None else stage.lr),
            warmup=float(train.warmup if stage.warmup is None else stage.warmup),
            frozen=_frozen(
                spec_file, job, f"train.stage[{number}].freeze", stage.freeze
            ),
        )
        for number, stage in enumerate(train.stage)
    )
    frozen = always_frozen([stage.frozen for stage in stages])
    return replace(job, frozen=frozen, stages=stages)


def _frozen(
    spec_file: SpecFile, job: Job, key: str, freeze: tuple[str, ...] | int
) -> tuple[str, ...]:
    """The frozen paths, once each is seen to be a module of the finished model."""
    if freeze == 0:
        return ()
    if isinstance(freeze, int):
        return _first_blocks(spec_file, job, key, freeze)
    infos = parameters(job)
    modules: set[str] = set()
    for info in infos:
        parts = info.path.split(".")
        modules |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    found: list[Diagnostic] = []
    for i, path in enumerate(freeze):
        if path not in modules:
            near = difflib.get_close_matches(path, sorted(modules), n=1, cutoff=0.5)
            top = sorted({m.split(".")[0] for m in modules})
            found.append(
                Diagnostic(
                    "G222",
                    f'the model has no module "{path}"',
                    spec_file.place(f"{key}[{i}]"),
                    f'did you mean "{near[0]}"?' if near else "",
                    f"at the top are {', '.join(top)}",
                )
            )
    if found:
        raise GenError(found)
    if freeze and all(p.frozen or covers(freeze, p.path) for p in infos):
        raise fail(
            "G223",
            "every part of the model is frozen, so that nothing is left to train",
            place=spec_file.place(key),
            help="leave at least the classifier out of freeze",
        )
    return freeze


def _first_blocks(
    spec_file: SpecFile, job: Job, key: str, count: int
) -> tuple[str, ...]:
    """What lies no further from the input than the first `count` blocks."""
    main, blocks = job.model.main, job.model.sizes["L"]
    if count > blocks:
        has = f"{blocks} block{'s' if blocks > 1 else ''}"
        raise fail(
            "G224",
            f"the model has {has}, and freeze counts {count}",
            place=spec_file.place(key),
            label=f"at most {blocks}",
            help=f"freeze = {blocks}",
        )
    own = [p.name.rpartition(".")[0] or p.name for p in main.parameters]
    parts = [part for i in main.instances for part in i.each()]
    return (*dict.fromkeys(own), *(name for name, _, far in parts if far <= count))


def _notes(job: Job, facts: Facts) -> list[str]:
    notes = []
    infos = parameters(job)
    brought = added(job)
    if brought:
        trained = [p for p in infos if not p.frozen]
        count, every = (sum(prod(p.shape) for p in some) for some in (trained, infos))
        head = {p.path.split(".")[0] for p in trained if p not in brought}
        notes.append(
            f"of {every:,} parameters {count:,} train, {count / every:.1%}: the adapters, "
            f"{sum(prod(p.shape) for p in brought):,}, and {', '.join(sorted(head))}; "
            "the rest is frozen"
        )
    new = sorted(
        {
            p.path.rpartition(".")[0]
            for p in infos
            if isinstance(p.source, Init) and p not in brought
        }
    )
    if new:
        notes.append(f"newly initialised, for training to fill: {', '.join(new)}")
    if job.reference.width:
        total, width = job.reference.width, job.model.sizes["C"]
        notes.append(
            f"of the width {width} of {total} channels stay: "
            + (
                "the model computes what the backbone computes with the others masked, "
                "its norms rescaled"
                if of_rms(job.model)
                else "its layer norms take mean and variance over these alone, so that "
                "it is the backbone at that width, its weights cut likewise, and not the "
                "backbone with the others masked"
            )
        )
    if of := selection(job.model):
        notes.append(
            f"of the {of.total} numbers of a row's vector the head reads "
            f"{len(job.model.kept[of.name])}, those that score highest on training rows"
        )
    if job.deploy.lowered:
        plan = job.deploy
        kind = plan.quantize if plan.quantize != "none" else plan.precision
        whole = 4 * sum(prod(p.shape) for p in infos)
        notes.append(
            f"deployed as {kind}: weights of {weight_bytes(job) / 1e6:,.1f} MB, and not "
            f"the {whole / 1e6:,.1f} MB of the trained model"
        )
    if job.deploy.quantize_aware:
        after = 100 * job.deploy.quantize_after
        notes.append(
            "training rounds what predicts is rounded"
            + (f", behind the first {after:g}% of its steps" if after else "")
            + ": a step takes longer, and what is evaluated is the rounded model"
        )
    for number, stage in enumerate(job.stages, 1):
        notes.append(
            f"stage {number} of {len(job.stages)} trains "
            + (f"all but {', '.join(stage.frozen)}" if stage.frozen else "everything")
        )
    if job.frozen and not job.stages:
        notes.append(
            f"frozen, and so run in evaluation mode, without dropout: "
            f"{', '.join(job.frozen)}"
        )
    each = [_kept(job, cut) for cut in cuts(job)]
    if each:
        when = "the first epoch of a stage" if job.stages else "the first epoch"
        notes.append(
            f"what is frozen runs once, before {when}, and training goes on "
            f"from what it gave, which takes {' or '.join(each)} in the work "
            'folder; cache = "off" in [train] runs it in every step'
        )
    if room := _room_of_teacher(job):
        notes.append(
            f"what {job.distill.teacher} has inside for a training row is kept in the work "
            f"folder, which takes {room}"
        )
    if "attention_dropout" in job.model.constants:
        notes.append(
            "attention_dropout is on: it rules out flash attention, and a step is slower"
        )
    if isinstance(job.data.inputs, TextPlan) and facts.tokenizer is None:
        notes.append(
            "the tokenizer was not at hand: the package has no tokenizer.json until "
            "`gen facts --complete` has fetched it"
        )
    paths = [job.backbone.source, job.data.train, job.data.valid, job.data.test]
    if absolute := [path for path in paths if path and path.startswith("/")]:
        notes.append(
            f"{', '.join(absolute)} stands in the package as the spec says it, and is "
            "good on this machine alone: a path from the spec's own folder, or from "
            "--root, would be good on others"
        )
    if not facts.card.verified:
        notes.append(
            "the facts are unverified: `gen facts --complete` checks them against the "
            "checkpoint, where it is at hand"
        )
    return notes


def _unread(imported: Job, job: Job) -> str:
    """What to tell of further positions that no row comes to; "" where rows do."""
    inputs = job.data.inputs
    bound = next(d.bound for d in imported.model.dims if d.symbol == "T")
    if not isinstance(inputs, TextPlan) or not job.reference.positions:
        return ""
    if bound is None or inputs.max_tokens > bound:
        return ""
    return (
        f"rows are cut to max_tokens = {inputs.max_tokens}, and the backbone reads {bound} "
        "as it is: none comes to the positions of extend-positions. max_tokens in [data] "
        "makes rows longer"
    )


def _kept(job: Job, cut: str) -> str:
    """How much room what a prefix gives takes, and for what."""
    _, *places, width = job.model.main.types[cut].shape
    room = width.value(job.model.sizes) * (4 if job.train.cache == "fp32" else 2)
    if not places:
        return f"{room:,} bytes a row"
    (positions,) = places
    if positions == dim("T"):
        return f"{room:,} bytes a token"
    count = positions.value(job.model.sizes)
    each = "a row" if count == 1 else f"for each of {count} positions of a row"
    return f"{room:,} bytes {each}"


def _room_of_teacher(job: Job) -> str:
    """How much room what is kept of the teacher's inside takes; "" where it is nothing."""
    plan = job.distill
    if not plan.inside:
        return ""
    states = 2 * plan.width
    of_row = states * plan.one_position
    of_token = states * (len(plan.pairs) - plan.one_position)
    of_token += 2 * sum(stop - start for _, (_, start, stop) in plan.related)
    parts = [f"{of_token:,} bytes a token"] * (of_token > 0)
    return " and ".join(parts + [f"{of_row:,} bytes a row"] * (of_row > 0))


def read_lock(data: bytes) -> dict[str, Any] | None:
    """A lock's content; None where it is none of ours."""
    try:
        content = json.loads(data)
    except ValueError:
        return None
    match content:
        case {"version": version, "files": dict(files)} if version == LOCK_VERSION:
            return content if all(map(_is_sealed, files.values())) else None
    return None


def _is_sealed(entry: Any) -> bool:
    match entry:
        case {"draft": str(), "seal": str()}:
            return True
    return False
