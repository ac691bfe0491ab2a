"""Reading config.json: the keys that an architecture knows, and no others.

Every key is one of three: read here, harmless (it does not change what this job
computes), or refused unless it has the value under which it does nothing. A test holds
that the keys of transformers' own configuration classes are all one of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from generator.errors import Diagnostic, GenError

T = TypeVar("T")

_HARMLESS = """
_name_or_path name_or_path _commit_hash architectures model_type tokenizer_class
transformers_version torch_dtype dtype torchscript language prefix
id2label label2id num_labels problem_type finetuning_task task_specific_params
bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id
decoder_start_token_id initializer_range initializer_factor
output_attentions output_hidden_states return_dict use_return_dict use_cache
gradient_checkpointing chunk_size_feed_forward tie_word_embeddings
_attn_implementation attn_implementation
attn_implementation_autoset _attn_implementation_autoset
classifier_dropout_prob directionality pooler_fc_size pooler_num_attention_heads
pooler_num_fc_layers pooler_size_per_head pooler_type
"""
# Say nothing about the computation, in every architecture.
HARMLESS = frozenset(_HARMLESS.split())
# Change the computation of any architecture unless they are this, null or absent.
NEUTRAL: Mapping[str, Any] = {
    "is_encoder_decoder": False,
    "pruned_heads": {},
    "per_layer_config": {},
    "quantization_config": {},
}


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Config:
    """A checkpoint's config.json while it is read. Errors are collected till `finish`.

    `file` goes before every message: a table inside the file, or another file, may be
    read in the same way.
    """

    def __init__(self, values: Mapping[str, Any], file: str = "config.json") -> None:
        self.values = values
        self.file = file
        self.read: set[str] = set()
        self.errors: list[Diagnostic] = []

    def _get(self, key: str, default: Any, check: Callable[[Any], bool], kind: str):
        self.read.add(key)
        value = self.values.get(key, default)
        if not check(value):
            self.errors.append(
                Diagnostic(
                    "G202",
                    f"{self.file}: {key} is {self._shown(key)}, and should be {kind}",
                    help="the checkpoint's configuration cannot be used as it is",
                )
            )
            return default
        return value

    def _shown(self, key: str) -> str:
        shown = repr(self.values[key]) if key in self.values else "missing"
        return shown if len(shown) <= 60 else f"{shown[:57]}..."

    def size(self, key: str, default: int | None = None) -> int:
        """A positive whole number; 1 stands for one that is missing, until `finish`."""
        value = self._get(
            key,
            default,
            _positive,
            "a positive whole number",
        )
        return 1 if value is None else value

    def maybe_size(self, key: str) -> int | None:
        """A positive whole number, or None where it is missing or null."""
        return None if self.optional(key) is None else self.size(key)

    def pair(self, key: str, default: int) -> tuple[int, int]:
        """Height and width: a positive whole number for both, or a list of the two."""
        self.read.add(key)
        value = self.values.get(key, default)
        both = value if isinstance(value, (list, tuple)) else (value, value)
        if len(both) == 2 and all(map(_positive, both)):
            return (both[0], both[1])
        self._get(key, default, lambda _: False, "a positive whole number, or two")
        return (default, default)

    def integer(self, key: str, default: int) -> int:
        return self._get(
            key,
            default,
            lambda v: isinstance(v, int) and not isinstance(v, bool),
            "a whole number",
        )

    def real(self, key: str, default: float) -> float:
        return float(self._get(key, default, _finite, "a number"))

    def positive(self, key: str, default: float) -> float:
        """A number above 0: the epsilon of a norm."""
        return float(
            self._get(key, default, lambda v: _finite(v) and v > 0, "a number above 0")
        )

    def fraction(self, key: str, default: float) -> float:
        """A number from 0 up to 1, without 1: the part of something that is dropped."""
        return float(self._get(key, default, _fraction, FRACTION))

    def fraction_or_none(self, key: str) -> float | None:
        """The same, where null and a missing key say that another key stands for it."""
        value = self._get(key, None, lambda v: v is None or _fraction(v), FRACTION)
        return None if value is None else float(value)

    def initial_std(self, default: float = 0.02) -> float:
        """The standard deviation of new weights; transformers reads 0 as the default."""
        value = self._get(
            "initializer_range",
            default,
            lambda v: _finite(v) and v >= 0,
            "a number that is not negative",
        )
        return float(value) or default

    def token(self, key: str, default: int, vocab: int) -> int:
        """A token's id, a row of the vocabulary; null is as good as absent."""
        if self.values.get(key, default) is None:
            self.read.add(key)
            return default
        value = self.integer(key, default)
        self.require(
            key not in self.values or 0 <= value < vocab,
            f"{key} is {value}, and the vocabulary has {vocab} tokens",
        )
        return value

    def flag(self, key: str, default: bool) -> bool:
        return self._get(key, default, lambda v: isinstance(v, bool), "true or false")

    def optional(self, key: str) -> Any:
        """The value as it is, None where it is missing: for the caller to check."""
        self.read.add(key)
        return self.values.get(key)

    def choice(self, key: str, default: str, choices: Mapping[str, T]) -> T:
        """One of the names on the left; gives what stands on the right."""
        self.read.add(key)
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in choices:
            self.errors.append(
                Diagnostic(
                    "G203",
                    f"{self.file}: {key} = {self._shown(key)} is not supported",
                    help=f"supported are {', '.join(choices)}",
                )
            )
            value = next(iter(choices))
        return choices[value]

    def unsupported(self, key: str, supported: Iterable[str]) -> None:
        """The value of a key that was read is none that there is (G203)."""
        self.errors.append(
            Diagnostic(
                "G203",
                f"{self.file}: {key} = {self._shown(key)} is not supported",
                help=f"supported are {', '.join(supported)}",
            )
        )

    def neutral(self, **expected: Any) -> None:
        """Keys that change the computation unless they have this value or are absent."""
        for key, value in expected.items():
            self.read.add(key)
            if key in self.values and self.values[key] not in (value, None):
                self.errors.append(
                    Diagnostic(
                        "G203",
                        f"{self.file}: {key} = {self._shown(key)} is not supported",
                        help=f"only {value!r} is; it changes what the model computes",
                    )
                )

    def harmless(self, *keys: str) -> None:
        self.read.update(keys)

    def require(self, holds: bool, message: str) -> None:
        """A condition between keys, as an error G202 where it does not hold."""
        if not holds:
            self.errors.append(
                Diagnostic(
                    "G202",
                    f"{self.file}: {message}",
                    help="the checkpoint's configuration cannot be used as it is",
                )
            )

    @property
    def known(self) -> frozenset[str]:
        """Every key that this architecture has classified so far: read, harmless, neutral."""
        return frozenset(self.read) | HARMLESS | NEUTRAL.keys()

    def aliases(self, **names: str) -> None:
        """Other names of keys, `alias="key"`: transformers reads either of the two."""
        values = dict(self.values)
        for alias, key in names.items():
            self.read.add(alias)
            if alias in values:
                self.require(
                    values.get(key, values[alias]) == values[alias],
                    f"{alias} and {key} name one thing, and are {values[alias]!r} "
                    f"and {values.get(key)!r}",
                )
                values.setdefault(key, values[alias])
        self.values = values

    def finish(self) -> None:
        """GenError with all that was found. Other keys are not read by anybody."""
        self.neutral(**{k: v for k, v in NEUTRAL.items() if k not in self.read})
        if self.errors:
            raise GenError(self.errors)


FRACTION = "a number from 0 up to 1, without 1"


def _finite(value: Any) -> bool:
    # A JSON reader takes NaN, Infinity, and whole numbers that no float can hold.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def _fraction(value: Any) -> bool:
    return _finite(value) and 0 <= value < 1
