"""The import: a spec and its facts to the job as its architecture writes it down.

Every block is written out, and nothing is fused. Beside the model the job has the plans of
data, training, target and deployment, which are what the spec says, with the facts that they
need; and what cannot be read at all is refused here.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import get_args

from generator import archs, vocab
from generator.archs.build import Imported, Request, Saved, reference
from generator.errors import GenError, fail
from generator.facts import Facts
from generator.ir.job import Backbone, Job, Tensor
from generator.ir.plans import (
    AugmentPlan,
    CleanPlan,
    DataPlan,
    DeployPlan,
    ExportPlan,
    FeaturePlan,
    Format,
    GuardPlan,
    Kind,
    Mask,
    TargetPlan,
    TextPlan,
    TrainPlan,
    Trait,
)
from generator.ir.verify import verify
from generator.spec import SpecFile
from generator.spec.clean import Clean
from generator.spec.edits import ExtendPositions
from generator.spec.features import Features
from generator.spec.model import Spec

# The keys of the spec that errors of architectures are about, where not the backbone.
PLACES = {"G206": "labels", "G209": "backbone.dropout", "G210": "task"}
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".tsv": "tsv",
}


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
        head="new" if features(spec.features) != FeaturePlan() else head,
        dropout=spec.backbone.dropout,
        attention_dropout=spec.train.attention_dropout,
        pair=len(spec.data.text) == 2,
        max_tokens=spec.data.max_tokens,
        preprocessor=card.preprocessor,
        image_column=spec.data.image or "",
    )


def _export(spec: Spec, names: Saved) -> ExportPlan:
    to = tuple(kind for kind in get_args(Kind) if kind in spec.deploy.export)
    if "transformers" not in to:
        return ExportPlan(to)
    return ExportPlan(to, names.base, tuple(names.heads.items()))


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
            facts.tokenizer is not None
            and not vocab.special_tokens(facts.tokenizer, pair=len(data.text) == 2),
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
    if facts.tokenizer is None:
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


def features(features: Features) -> FeaturePlan:
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
