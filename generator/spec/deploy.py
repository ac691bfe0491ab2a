"""The keys of [deploy]: how the model that predicts differs from the trained one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from generator.spec.key import TASKS, about
from generator.spec.rules import MODULE


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
            ["blocks.0.feed_forward", "classifier"],
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
