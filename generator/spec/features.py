"""The keys of [features]: what of a row feeds the head."""

from __future__ import annotations

from dataclasses import dataclass, field

from generator.spec.select import Select


@dataclass(frozen=True, kw_only=True)
class Features:
    """What of a row feeds the head."""

    # Under a header of its own, [features.select].
    select: Select = field(default_factory=Select)
