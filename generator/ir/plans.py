"""The parts of a job beside its model: what to read, how to train, what to run on.

A plan is a frozen dataclass of plain values, resolved: nothing in it refers back to the
spec or to the checkpoint's configuration, so rendering needs nothing but the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Task = Literal[
    "text-classification", "multi-label", "regression", "image-classification"
]
Format = Literal["csv", "jsonl", "parquet", "tsv"]
Mask = Literal["url", "email", "number"]  # in the order in which they are replaced
Trait = Literal["length", "capitals", "digits", "punctuation"]  # a number of a text
Kind = Literal["onnx", "torch", "transformers"]  # of an export, in this order
Threshold = Literal["none", "f1", "accuracy", "balanced-accuracy"]
# What the weights of linears, or their products, are whole numbers of.
Quantized = Literal["none", "int8", "int8-static", "int8-weights", "int4-weights"]
Range = Literal[
    "mse", "percentile", "min-max"
]  # how that of a linear's inputs is chosen
Action = Literal["off", "report", "quarantine"]  # on rows that a check finds


@dataclass(frozen=True)
class TextPlan:
    """How text becomes token ids, by the tokenizer.json that ships in the package."""

    columns: tuple[str, ...]  # one column, or the two of a pair
    max_tokens: int  # longer rows are cut, special tokens included
    pad_id: int  # rows are padded on the right with it, and the padding is masked
    token_types: bool  # whether forward takes the segment (0 or 1) of every token
    # Set where the checkpoint's tokenizer.json was not at hand when this was compiled.
    tokenizer_missing: bool = False
    # The tokenizer puts no tokens around a row, so that a text may have none at all.
    bare: bool = False


@dataclass(frozen=True)
class ImagePlan:
    """How an image file becomes pixels f32 (3, height, width), as the checkpoint wants.

    The steps are in order: convert to RGB, resize, crop, rescale, normalise.
    """

    column: str  # paths, relative to the folder of the data file, or images themselves
    resize: tuple[int, int] | None  # height, width of the resize; None leaves it out
    # "exact" stretches to `resize`; "shortest" keeps the ratio, resize[0] the short side
    resize_mode: Literal["exact", "shortest"]
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    crop: tuple[int, int] | None  # height, width of the centre crop
    rescale: float  # multiplies the 0..255 values; 1.0 leaves it out
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    held: bool = False  # the column has the bytes of an image, and no path


@dataclass(frozen=True)
class CleanPlan:
    """What is done to rows before they are used, in the order of the fields.

    Rewriting texts (unicode to whitespace) and images (levels, alpha) is the same in
    training and in prediction, and so is what counts as missing; the rest is about rows
    of the data files alone.
    """

    unicode: Literal["off", "NFC", "NFKC"] = "off"
    invisible: bool = False  # control and format characters go
    html: bool = False  # markup to the text that a reader would see
    mask: tuple[Mask, ...] = ()  # each by its own name
    case: Literal["off", "lower"] = "off"
    whitespace: bool = False  # runs of it are one space, and none is at the ends
    missing: tuple[str, ...] = ()  # texts that stand for none
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()  # a label, and its aliases
    languages: tuple[str, ...] = ()  # none: all stay
    min_chars: int = 0
    max_chars: int = 0  # 0: no limit
    min_tokens: int = 0  # special tokens included
    too_long: Literal["cut", "quarantine"] = "cut"  # of more than max_tokens
    # "exact": of rows of the same text and target the first alone is trained on.
    # "near": nor on one that is nearly the same, or that the validation or test has so.
    duplicates: Literal["off", "exact", "near"] = "off"
    # Images.
    levels: bool = False  # 16 bits a channel are scaled to 8
    alpha: Literal["off", "white"] = "off"  # what shows through is white
    min_pixels: int = 0
    max_pixels: int = 0  # 0: no limit


@dataclass(frozen=True)
class AugmentPlan:
    """What training does to rows, afresh in every epoch. Everything at 0 is off."""

    # Texts, by their token ids, in this order.
    paraphrase: float = 0.0  # how often a row that has paraphrases is one of them
    paraphrases: str = ""  # a data file, by the spec's own string
    synonym_swap: float = 0.0  # part of the words that have synonyms
    synonyms: str = ""  # a file of lists
    word_dropout: float = 0.0  # part of the words
    span_mask: float = 0.0  # part of the tokens
    span_tokens: int = 3  # of a span, on the average
    # Images.
    policy: Literal["off", "trivial", "rand"] = "off"
    operations: int = 2  # of "rand", for each image
    magnitude: int = 9  # of them, of 30
    erase: float = 0.0  # part of the images
    # Rows in pairs, by shares from a beta distribution of this shape.
    mixup: float = 0.0
    cutmix: float = 0.0  # of images
    # How the tokenizer writes words: what tokens begin with that begin one, or else those
    # that go on with one. Where it writes neither, each token is a word.
    begins: str = ""
    continues: str = ""
    mask: str = ""  # the token that hides others

    @property
    def rows(self) -> bool:
        """Whether rows are changed before they are a batch."""
        shares = (self.paraphrase, self.synonym_swap, self.word_dropout, self.span_mask)
        return any(shares) or self.policy != "off" or self.erase > 0

    @property
    def words(self) -> bool:
        """Whether words are told apart."""
        return self.synonym_swap > 0 or self.word_dropout > 0


@dataclass(frozen=True)
class FeaturePlan:
    """What of a row goes into the head beside the backbone's vector.

    The numbers are those of `scaled`, standardised; six for each date, the sine and the
    cosine of month, weekday and hour; and one for each column of numbers or dates, which
    is 1 where it is missing.
    """

    numeric: tuple[str, ...] = ()  # columns
    categorical: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    text: tuple[Trait, ...] = ()  # of each text
    patterns: tuple[str, ...] = ()  # counted in each text; RE2's
    categories: int = 100  # of a column that have a vector each

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.numeric, *self.categorical, *self.dates)

    def scaled(self, texts: Sequence[str]) -> tuple[str, ...]:
        """What is standardised, by name; `texts` are the columns of the texts."""
        about = [*self.text, *(f"count of {p}" for p in self.patterns)]
        return (
            *self.numeric,
            *(f"{part} of {date}" for date in self.dates for part in ("year", "days")),
            *(f"{what} of {text}" for text in texts for what in about),
        )

    def numbers(self, texts: Sequence[str]) -> int:
        """How many numbers a row has."""
        missing = len(self.numeric) + len(self.dates)
        return len(self.scaled(texts)) + 6 * len(self.dates) + missing

    @property
    def entries(self) -> int:
        """Rows of the table of categories: of each column, the unknown one and the rest."""
        return len(self.categorical) * (1 + self.categories)


@dataclass(frozen=True)
class GuardPlan:
    """What is looked for in the rows that are left, and what becomes of those found."""

    contradictions: Action = "off"
    leaks: Action = "off"
    triggers: Action = "off"
    spectral: Action = "off"
    label_noise: Action = "off"
    outliers: Action = "off"
    personal: Literal["off", "report", "redact", "quarantine"] = "off"
    formulas: Action = "off"
    oversized: Action = "off"


@dataclass(frozen=True)
class DataPlan:
    """Where rows come from and which columns count. Paths are the spec's own strings."""

    train: str
    valid: str | None  # None: a seeded, stratified part of the training rows
    test: str | None
    valid_fraction: float  # used where valid is None
    test_fraction: float  # used where test is None
    formats: tuple[Format, ...]  # those that the files above need, sorted
    inputs: TextPlan | ImagePlan
    # The label column; for several targets (regression), one column each.
    label: tuple[str, ...]
    separator: str  # multi-label in CSV: what stands between two labels of a row
    clean: CleanPlan = CleanPlan()
    augment: AugmentPlan = AugmentPlan()
    guard: GuardPlan = GuardPlan()
    features: FeaturePlan = FeaturePlan()
    # Where texts are kept that can be used; images have files of their own.
    rows: Literal["files", "memory"] = "files"

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of the texts; none where rows are images."""
        return self.inputs.columns if isinstance(self.inputs, TextPlan) else ()

    @property
    def numbers(self) -> int:
        """How many numbers a row has beside its text or image."""
        return self.features.numbers(self.texts)


@dataclass(frozen=True)
class TrainPlan:
    """The recipe. Defaults are resolved; a 0 that means "off" says so."""

    epochs: int
    batch: int  # examples a step; 0 where batch_tokens rules
    batch_tokens: int  # padded tokens a step; 0 where batch rules
    lr: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup: float  # fraction of the steps
    weight_decay: float
    layer_decay: float  # lr factor for each block further from the head; 1 is off
    clip: float  # largest gradient norm; 0 is off
    accumulate: int  # batches an optimizer step
    label_smoothing: float
    class_weights: tuple[float, ...] | Literal["none", "balanced"]
    early_stopping: int  # evaluations without a better score before it ends; 0 is off
    seed: int
    evaluate_every: int  # optimizer steps; 0: at the end of each epoch
    save_every: int  # optimizer steps between checkpoints; 0: at the end of each epoch
    max_bad_steps: int  # steps with a loss that is not finite before it gives up
    # The type that what a frozen prefix gives is kept in; "off" runs it in every step.
    cache: Literal["fp32", "bf16", "off"] = "fp32"
    # "balanced": rows of an epoch are drawn, those of a rare label as often as of others.
    sampling: Literal["all", "balanced"] = "all"
    loss: Literal["standard", "focal"] = "standard"
    gamma: float = 2.0  # of the focal loss
    ema: float = 0.0  # what a moving average of the weights keeps in a step; 0 is off


@dataclass(frozen=True)
class StagePlan:
    """A part of the training: what it does in another way than the rest of the recipe."""

    epochs: int
    lr: float
    warmup: float  # fraction of the stage's steps
    frozen: tuple[str, ...]  # paths of modules whose parameters do not train in it
    # The value of the main module that what is frozen leads to; "" runs it in every step.
    cut: str = ""


@dataclass(frozen=True)
class ReferencePlan:
    """What is done to transformers' model so that it computes what the edited one does.

    Blocks are numbered as the checkpoint has them.
    """

    blocks: tuple[int, ...] = ()  # those that run, in order; none stands for all
    total: int = 0  # how many there are; 0 where all run
    # Of these matrices only the columns in a list of what is kept are not zero: the key
    # of the checkpoint, and the list's name.
    masked: tuple[tuple[str, str], ...] = ()
    # The same of rows: a linear gives its bias alone where its weights are zero.
    masked_rows: tuple[tuple[str, str], ...] = ()
    # How many channels it has where only those of the list "width" are kept; 0 for all.
    width: int = 0
    # Weights by their keys that are replaced by the nearest matrix of a rank.
    ranks: tuple[tuple[str, int], ...] = ()
    # What its configuration says instead: max_position_embeddings, and an image's height
    # and width. The table of positions is made anew for it.
    positions: int = 0
    size: tuple[int, ...] = ()
    head: bool = False  # the head is ours alone: they are compared up to it
    # Its configuration has feed-forwards run over parts of a row, which gives the same, and
    # which it does with rows of certain lengths alone: it is told not to.
    chunked: bool = False


@dataclass(frozen=True)
class TargetPlan:
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp16"]  # the last two are autocast
    compile: bool

    @property
    def half(self) -> str:
        """torch's type of 16 bits that autocast computes in; "" where it does not."""
        return {"bf16": "torch.bfloat16", "fp16": "torch.float16"}.get(
            self.precision, ""
        )


@dataclass(frozen=True)
class DistillPlan:
    """What is learned from the model of another job, whose text is its own."""

    teacher: str = ""  # the name of its job; "" is none
    weight: float = 0.5  # of its part of the loss
    temperature: float = 2.0  # what logits are divided by before they are compared
    parameters: int = 0  # of the teacher
    hidden: float = 0.0  # what the distance of hidden states counts
    attention: float = 0.0  # what the divergence of relations counts
    # Blocks whose states are compared, by their numbers: one of the job's own, one of the
    # teacher's. Of the last pair it may be those of one position of a row alone.
    pairs: tuple[tuple[int, int], ...] = ()
    one_position: bool = False
    width: int = 0  # of the teacher's states
    heads: int = 0  # of relations
    # What has relations: columns of a linear, from and to; the job's own, the teacher's.
    related: tuple[tuple[tuple[str, int, int], tuple[str, int, int]], ...] = ()

    @property
    def inside(self) -> bool:
        """Whether it learns from what the teacher has inside too."""
        return self.hidden > 0 or self.attention > 0


@dataclass(frozen=True)
class DeployPlan:
    """How the model that predicts differs from the trained one."""

    quantize: Quantized = "none"
    leave: tuple[str, ...] = ()  # paths of modules whose linears stay as they are
    precision: Literal["fp32", "bf16"] = "fp32"  # of all weights
    temperature: bool = False  # logits are divided by one, fitted on validation rows
    thresholds: Threshold = "none"  # by what they are chosen there
    group: int = 0  # weights of a row that share a step; 0 is what is usual
    # Of the inputs of linears, where it does not follow from each row by itself.
    range: Range = "mse"
    calibration_rows: int = 512  # training rows that it is chosen by
    quantize_aware: bool = False  # training computes with the rounded numbers
    quantize_after: float = 0.0  # part of the steps before it does

    @property
    def lowered(self) -> bool:
        """Whether it has other weights than the trained one."""
        return self.quantize != "none" or self.precision != "fp32"

    @property
    def grouped(self) -> int:
        """Weights of a row that share a step; 0 is all of them."""
        return self.group or 32 * (self.quantize == "int4-weights")

    @property
    def static(self) -> bool:
        """Whether inputs of linears are rounded by a range that is known beforehand."""
        return self.quantize == "int8-static"

    @property
    def quick(self) -> bool:
        """Whether it is meant to be faster, and refused where it is not."""
        if self.quantize == "none":
            return self.precision == "bf16"
        return self.quantize in ("int8", "int8-static")


@dataclass(frozen=True)
class ExportPlan:
    """What the trained model is written as for other programs.

    For transformers, names of the checkpoint's tensors that belong to the backbone begin
    with `base` in the file; `heads` has the names of layers that no checkpoint needs to
    have, by their paths.
    """

    to: tuple[Kind, ...] = ()
    base: str = ""
    heads: tuple[tuple[str, str], ...] = ()
