"""The keys of [train.prune]: what is pruned goes in steps, with training between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from generator.spec.key import about


@dataclass(frozen=True, kw_only=True)
class Prune:
    """What edits leave out by scores (prune-ffn, prune-heads, prune-width, keep-layers)
    goes in steps, and not at once: `gen run` leaves a part of it out, trains what is left
    on training rows, scores that anew, and so on. The last step is the job itself.
    """

    steps: int = field(
        default=1,
        metadata=about(
            "In how many steps, of as much each as whole heads, units and blocks allow; 1 "
            "prunes at once.",
            3,
            at_least=1,
            at_most=64,
            also="n rounds iterations stages",
        ),
    )
    recover: float = field(
        default=0.5,
        metadata=about(
            "How many epochs are trained after each step but the last, by the recipe of "
            "[train]. Of a part of an epoch the rows are drawn anew in each step.",
            0.5,
            above=0,
            at_most=1000,
            also="epochs recovery recover_epochs finetune",
        ),
    )
