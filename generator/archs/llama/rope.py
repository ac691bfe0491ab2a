"""Rotary positions from config.json: transformers' modeling_rope_utils is the reference.

Older files have `rope_theta` and `rope_scaling`, those of transformers 5 have both in
`rope_parameters`. Keys that transformers does not read for a kind are not read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from generator.archs.config import Config
from generator.ir.job import Attr

THETA = 10000.0
KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


@dataclass(frozen=True)
class Rope:
    """`attrs` are those of the operation rope_tables, `bound` the longest row."""

    attrs: Mapping[str, Attr]
    bound: int


def read(c: Config, head_width: int, positions: int) -> Rope:
    """The tables of heads of this width in a model of that many positions.

    Errors are left in `c`. The bound is below `positions` where longer rows would change
    the frequencies of a whole batch: there is one set of them in a model.
    """
    name, table = _table(c)
    r = Config(table, f"config.json, {name}" if name else "config.json")
    kind = r.choice("rope_type", "default", {k: k for k in KINDS})
    r.neutral(partial_rotary_factor=1.0)
    theta = r.real("rope_theta", THETA)
    r.require(theta > 1, f"rope_theta is {theta}, and should be above 1")
    r.require(head_width % 2 == 0, f"heads of {head_width} are not pairs to rotate")
    attrs: dict[str, Attr] = {"kind": kind, "theta": theta}
    bound = positions
    match kind:
        case "linear":
            attrs["factor"] = _positive(r, "factor")
        case "dynamic":
            # It is the plain one up to max_position_embeddings, which bounds a row.
            _positive(r, "factor")
            attrs["kind"] = "default"
        case "llama3":
            attrs |= _llama3(r, _original(c, r, positions))
        case "yarn":
            attrs |= _yarn(r, positions, _original(c, r, positions))
        case "longrope":
            original = _original(c, r, positions)
            attrs |= _longrope(r, positions, original, head_width)
            bound = min(positions, original)
    c.errors += r.errors
    return Rope(attrs, bound)


def _table(c: Config) -> tuple[str, Mapping[str, Any]]:
    """The table and its name, with what stands outside it filled in."""
    found = ""
    for name in ("rope_scaling", "rope_parameters"):  # transformers asks in this order
        value = c.optional(name)
        if value is not None and not isinstance(value, Mapping):
            c.require(False, f"{name} is {value!r}, and should be a table or null")
        elif value and not found:
            found = name
    table = dict(c.values[found]) if found else {}
    for key, value in table.items():
        c.require(
            not isinstance(value, Mapping),
            f"{found} has a table {key!r}: other rotations in some blocks "
            "are not supported",
        )
    if "type" in table:
        table.setdefault("rope_type", table["type"])
    for key in ("rope_theta", "partial_rotary_factor"):
        if c.optional(key) is not None:
            table.setdefault(key, c.values[key])
    return found, table


def _positive(r: Config, key: str, default: float | None = None) -> float:
    """A number above 0. One that is missing and has no default is an error."""
    if default is not None and r.optional(key) is None:
        return default
    return r.positive(key, 1.0) if key in r.values else _missing(r, key)


def _missing(r: Config, key: str) -> float:
    r.require(False, f"{key} is missing")
    return 1.0


def _original(c: Config, r: Config, positions: int) -> int:
    """Positions of the first training: beside the table, else in it, else all."""
    outside = c.maybe_size("original_max_position_embeddings")
    inside = r.maybe_size("original_max_position_embeddings")
    return outside or inside or positions


def _llama3(r: Config, original: int) -> dict[str, Attr]:
    low, high = _positive(r, "low_freq_factor"), _positive(r, "high_freq_factor")
    r.require(low < high, f"low_freq_factor {low} is not below high_freq_factor {high}")
    return {
        "factor": _positive(r, "factor"),
        "low_frequency_factor": low,
        "high_frequency_factor": high,
        "original_positions": original,
    }


def _yarn(r: Config, positions: int, original: int) -> dict[str, Attr]:
    factor = _positive(r, "factor", positions / original)
    scale, all_dim = r.optional("mscale"), r.optional("mscale_all_dim")
    if scale and all_dim:
        temperature = _mscale(factor, r.positive("mscale", 1.0)) / _mscale(
            factor, r.positive("mscale_all_dim", 1.0)
        )
    else:
        temperature = _mscale(factor, 1.0)
    # transformers takes 0 for a value that is not there.
    fast, slow = (
        r.real(key, default) if r.optional(key) else default
        for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
    )
    r.require(
        fast > 0 < slow, f"beta_fast {fast} and beta_slow {slow} are not positive"
    )
    return {
        "factor": factor,
        "attention_factor": _positive(r, "attention_factor", temperature),
        "beta_fast": fast,
        "beta_slow": slow,
        "original_positions": original,
        "truncate": r.flag("truncate", True),
    }


def _mscale(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _longrope(
    r: Config, positions: int, original: int, head_width: int
) -> dict[str, Attr]:
    factor = _positive(r, "factor", positions / original)
    temperature = 1.0
    if factor > 1 and original > 1:
        temperature = math.sqrt(1 + math.log(factor) / math.log(original))
    return {
        "attention_factor": _positive(r, "attention_factor", temperature),
        "factors": _factors(r, "short_factor", head_width // 2),
    }


def _factors(r: Config, key: str, count: int) -> tuple[float, ...]:
    values = r.optional(key)
    fits = isinstance(values, (list, tuple)) and len(values) == count
    r.require(fits, f"{key} should be a list of {count} numbers, one a pair of a head")
    if not fits:
        return ()
    each = Config(dict(zip(map(str, range(count)), values)), f"{r.file}, {key}")
    factors = tuple(each.positive(str(i), 1.0) for i in range(count))
    r.errors += each.errors
    return factors
