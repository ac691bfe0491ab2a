"""The keys of [deploy]: how the model that predicts differs from the trained one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from generator.ir.plans import Threshold
from generator.spec.key import LABEL_TASKS, TASKS, about
from generator.spec.rules import EXPORT, MODULE


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """How the model that predicts differs from the trained one; not at all by default."""

    quantize: Literal["none", "int8", "int8-weights", "int4-weights"] = field(
        default="none",
        metadata=about(
            'What the matrices of linears are kept in: "int8" multiplies whole numbers of '
            "eight bits, weights with a scale for each output and inputs with one for each "
            'position; "int8-weights" and "int4-weights" keep the weights so and multiply '
            "in floating point, which saves room and not time.",
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
            "What the trained model, in fp32, can be written as by the package's export.py, "
            'with its preprocessing: "onnx", "torch" (a program of torch.export), or '
            '"transformers", a folder for its from_pretrained. Each is checked on rows of '
            "the job.",
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
