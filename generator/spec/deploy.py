"""The keys of [deploy]: how the model that predicts differs from the trained one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from generator.ir.plans import Quantized, Range, Threshold
from generator.spec.key import LABEL_TASKS, TASKS, about
from generator.spec.rules import EXPORT, MODULE


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """How the model that predicts differs from the trained one; not at all by default."""

    quantize: Quantized = field(
        default="none",
        metadata=about(
            'What the matrices of linears are kept in: "int8" multiplies whole numbers of '
            "eight bits, weights with a scale for each output and inputs with one for each "
            'position; "int8-static" has one scale for the inputs of a linear, from the '
            'training rows; "int8-weights" and "int4-weights" keep the weights so and '
            "multiply in floating point, which saves room and not time.",
            "int8",
            spellings={
                "off": "none",
                "no": "none",
                "false": "none",
                "true": "int8",
                "dynamic": "int8",
                "int8-dynamic": "int8",
                "qint8": "int8",
                "w8a8": "int8",
                "static": "int8-static",
                "static-int8": "int8-static",
                "w8a8-static": "int8-static",
                "w8": "int8-weights",
                "w8a16": "int8-weights",
                "int8-weight-only": "int8-weights",
                "int8wo": "int8-weights",
                "int4": "int4-weights",
                "w4": "int4-weights",
                "int4-weight-only": "int4-weights",
                "int4wo": "int4-weights",
            },
            also="quantization quantisation quantise quantized quant",
        ),
    )
    leave: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Modules of the generated model, by their dotted names, whose linears stay as "
            "they are.",
            ["blocks.0.ff", "classifier"],
            rule=MODULE,
            few=dict.fromkeys(TASKS, 0),
            also="skip exclude ignore modules_to_not_convert",
        ),
    )
    group: int = field(
        default=0,
        metadata=about(
            'Weights of a row that share a scale, with "int8-weights" and "int4-weights". '
            "0: all of a row where they have eight bits, and 32 where they have four.",
            64,
            unit="weights",
            at_least=0,
            at_most=4096,
            also="group_size groupsize block_size q_group_size",
        ),
    )
    range: Range = field(
        default="mse",
        metadata=about(
            'How the range of a linear\'s inputs is chosen with "int8-static": "min-max" '
            'is from the least to the largest of the calibration rows, "percentile" leaves '
            'a ten-thousandth out, and "mse" cuts where the squared error of rounding and '
            "cutting is least.",
            "percentile",
            spellings={"minmax": "min-max", "min_max": "min-max", "max": "min-max"},
            also="observer calibration_method calib activation_range",
        ),
    )
    calibration_rows: int = field(
        default=512,
        metadata=about(
            'Training rows that ranges are chosen by, with "int8-static".',
            1024,
            unit="rows",
            at_least=1,
            at_most=1000000,
            also="calibration_samples num_calibration_samples calib_size",
        ),
    )
    quantize_aware: bool = field(
        default=False,
        metadata=about(
            "Whether training computes with the rounded numbers that quantize asks for, so "
            "that the weights learn to do with them; gradients pass through the rounding "
            "as if it were not there.",
            True,
            also="qat quantization_aware quantization_aware_training fake_quantize aware",
        ),
    )
    quantize_after: float = field(
        default=0.0,
        metadata=about(
            "The part of the training steps ahead of the first that rounds, with "
            "quantize_aware.",
            0.5,
            at_least=0,
            below=1,
            also="fake_quant_after_n_steps quantize_from aware_after",
        ),
    )
    precision: Literal["fp32", "bf16"] = field(
        default="fp32",
        metadata=about(
            'What the deployed model computes in: with "bf16" its weights are rounded to '
            "bfloat16, half the size.",
            "bf16",
            spellings={
                "float32": "fp32",
                "f32": "fp32",
                "32": "fp32",
                "bfloat16": "bf16",
                "half": "bf16",
            },
            also="dtype weights_dtype torch_dtype",
        ),
    )
    export: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "What the model can be written as by the package's export.py, with its "
            'preprocessing: "onnx", "torch" (a program of torch.export), or "transformers", '
            "a folder for its from_pretrained. Each is checked on rows of the job. Of a "
            'quantised model "transformers" is of the trained one, in fp32.',
            ["onnx", "transformers"],
            rule=EXPORT,
            few=dict.fromkeys(TASKS, 0),
            many=3,
            also="exports export_to format formats onnx",
        ),
    )
    temperature: bool = field(
        default=False,
        metadata=about(
            "Whether logits are divided by a number that makes the probabilities of the "
            "validation rows as good as they get, by their likelihood. It is fitted once, "
            "after training; which label is the likeliest stays.",
            True,
            tasks=LABEL_TASKS,
            also="temperature_scaling calibrate calibration",
        ),
    )
    thresholds: Threshold = field(
        default="none",
        metadata=about(
            "By what the thresholds of probabilities are chosen, on the validation rows: "
            "one for each label of a multi-label job, and of two labels the one above "
            'which a row is given the second. "f1" is that of each label (of two: the '
            'mean of both), and "balanced-accuracy" the mean of what is found of a label '
            "and of the others.",
            "f1",
            tasks=LABEL_TASKS,
            spellings={"off": "none", "false": "none", "true": "f1", "macro_f1": "f1"},
            also="threshold decision_threshold cutoff",
        ),
    )
