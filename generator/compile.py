"""The pure function: a spec and its facts to the files of a package.

    spec, facts --import_job--> Job --passes--> Job --render--> Draft --format--> bytes

No I/O, no clock, no environment; neither torch nor transformers is imported. Formatting
is the dearest step, so that it stands apart: whoever has the files of an earlier build
formats only the drafts that differ from theirs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod

from generator import pruning, saved, vocab
from generator.arguments import arguments, features_to_keep
from generator.checks import check_augment, check_deploy
from generator.cost import Cost, Stage, describe
from generator.errors import Diagnostic, GenError, fail
from generator.facts import Facts, dump_card
from generator.freezing import with_frozen
from generator.importing import features, import_job, request
from generator.ir.head import classifier
from generator.ir.job import Job, parameters
from generator.ir.plans import DistillPlan, FeaturePlan, TextPlan
from generator.ir.saving import Unsaveable
from generator.ir.stages import always_frozen, covers
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from generator.ir.weightmap import WeightMap
from generator.lessons import inside
from generator.locking import LOCK, LOCK_VERSION, digest
from generator.notes import notes, unread
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
from generator.passes.trim_vocab import kept_tokens
from generator.render.package import Draft, finished, render_package, render_teacher
from generator.spec import SpecFile
from generator.spec.alter import without_search
from generator.spec.edits import ExtendPositions, ResizeImage
from generator.spec.model import Spec
from generator.spec.prune import Prune
from generator.spec.select import Select
from generator.teacher import check_teacher

TEACHER_SPEC = "teacher.toml"  # the spec of the job that a package learns from
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
    ready = with_frozen(spec_file, named[-1].job)
    teacher = _teacher(spec_file, facts, ready)
    if teacher is not None:
        ready = _with_teacher(spec_file, ready, teacher)
    done = (*edits, *named, *steps(ready, NAMED))
    job = done[-1].job
    check_augment(spec_file, job)
    check_deploy(spec_file, job)
    stages = tuple(_stages(imported, edits, ready))
    saved_as: tuple[Draft, ...] = ()
    if "transformers" in job.export.to:  # ahead of rendering, which takes it as given
        edited = edits[-1].job if edits else imported
        saved_as = tuple(_saved(spec_file, facts, job, edited))
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
    drafts += saved_as
    if facts.reference is not None:
        drafts += (Draft("reference.safetensors", facts.reference, python=False),)
    told = notes(job, facts)
    if left := request(spec_file, facts).head_left(imported.model):
        told.append(left)
    if note := unread(imported, job):
        told.append(note)
    if to_come:
        told.append(to_come)
    return Compiled(job, imported, done, stages, drafts, tuple(told))


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
        joined = features(spec_file.spec.features) != FeaturePlan()
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
    plan = features(spec_file.spec.features)
    return replace(job, data=replace(job.data, features=plan))


def unselected(spec_file: SpecFile) -> SpecFile:
    """The spec with all features: what they are chosen from."""
    features = replace(spec_file.spec.features, select=Select())
    return replace(spec_file, spec=replace(spec_file.spec, features=features))


def _joined(spec: Spec, job: Job) -> Iterator[Step]:
    """The job whose head reads what [features] says, where it says any."""
    plan, own = features(spec.features), spec.features
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


def _templates() -> str:
    from generator.render.text import templates_hash

    return templates_hash()


# ------------------------------------------------------------------------- the import
