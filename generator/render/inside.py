"""How train.py learns from what a teacher has inside: the view of its partial."""

from __future__ import annotations

from dataclasses import dataclass

from generator.ir.cut import divisions
from generator.ir.inside import blocks
from generator.ir.job import Job
from generator.ir.plans import TextPlan
from generator.render.sizes import Sizes


@dataclass(frozen=True)
class InsideView:
    """All that train_inside.j2 reads. Strings of code are marked as such."""

    hidden: bool
    attention: bool
    one: bool  # of the last pair of blocks one position of a row is compared
    wide: bool  # tokens have something that is compared
    masked: bool  # and rows have different numbers of them
    projected: bool  # hidden states are, to the width of the teacher's
    some: bool  # there are stages that do not run all of what is compared
    kept: str  # the shape of what tokens have in the teacher
    parts: str  # whose that is, prose
    config: bool  # Config is read
    # Code
    heard: str  # the model that is listened to
    constants: str  # what says which parts of the teacher are kept
    own: str  # the names of what is listened to in the model
    theirs: str  # and in the teacher
    widths: str
    moved: str  # what follows where a tensor is taken
    states: str
    related: str
    compared: str  # the state of a block, as it is compared
    real_states: str  # where that has tokens, as a further argument
    asked: str  # the parts of what tokens have
    places: str  # how many tokens a split has
    ends: str  # the ends of the parts of a file
    end: str  # the last of them
    viewed: str  # the shape of the last part


def inside_view(job: Job) -> InsideView:
    """The view of a job that learns from what its teacher has inside."""
    plan = job.distill
    hidden, attention = plan.hidden > 0, plan.attention > 0
    one = plan.one_position
    many_pairs = len(plan.pairs) > one
    wide = attention or many_pairs
    text = isinstance(job.data.inputs, TextPlan)
    masked = wide and text
    projected = hidden and plan.width != job.model.sizes["C"]
    count = blocks(job.model)[0].op.args[0]
    positions = job.model.main.types[count].shape[1]
    many = "" if text else Sizes(job.model).python(positions, "Config")
    pairs = "PAIRS[:-1]" if one else "PAIRS"
    # Where in the parts of what tokens have relations begin, if states are before them.
    middle = f"len(PAIRS){' - 1' * one}" if hidden and attention else ""
    own, theirs, widths, asked = [], [], [], []
    if hidden:
        own.append('[f"blocks.{own}" for own, _ in PAIRS]')
        theirs.append('[f"blocks.{other}" for _, other in PAIRS]')
    if many_pairs:
        widths.append(f"[teacher.Config.width for _ in {pairs}]")
        asked.append(f'[heard[f"blocks.{{other}}"] for _, other in {pairs}]')
    if attention:
        own.append("[own for (own, _, _), _ in RELATED]")
        theirs.append("[other for _, (other, _, _) in RELATED]")
        widths.append("[stop - start for _, (_, start, stop) in RELATED]")
        asked.append(
            "[heard[name][..., start:stop] for _, (name, start, stop) in RELATED]"
        )
    ends = ["answers", *["last"] * one, *["inside"] * wide]
    device = ".to(DEVICE)" * (job.target.device == "cuda")
    last = [f"self.last[rows]{device}.float()"] if one else []
    return InsideView(
        hidden=hidden,
        attention=attention,
        one=one,
        wide=wide,
        masked=masked,
        projected=projected,
        some=len(job.stages) > 0 and len(divisions(job)) > 0,
        kept="(tokens, ..)" if text else "(rows, T, ..)",
        parts=" and ".join(
            ["the other pairs" if one else "PAIRS"] * many_pairs
            + ["RELATED"] * attention
        ),
        config=projected or wide and not text,
        heard="model" if not job.stages and not job.model.cut else "pupil",
        constants="(PAIRS, RELATED)" if middle else "PAIRS" if hidden else "RELATED",
        own=_together(own),
        theirs=_together(theirs),
        widths=_together(widths),
        moved=device,
        states=f"[{', '.join(['*parts' + f'[: {middle}]' * attention] * many_pairs + last)}]",
        related="[*parts" + f"[{middle} :]" * hidden + "]",
        compared="projection(x)" if projected else "x",
        real_states=(
            ""
            if not masked
            else ", lesson.real[:, : other.shape[1]]" if one else ", lesson.real"
        ),
        asked=_together(asked),
        places="len(split.tokens.ids)" if text else f"({many}) * len(split)",
        ends=", ".join(ends),
        end=ends[-1],
        viewed="-1, sum(WIDTHS)" if text else f"-1, {many}, sum(WIDTHS)",
    )


def _together(lists: list[str]) -> str:
    """Code for one list of what some have."""
    if len(lists) == 1:
        return lists[0]
    return f"[{', '.join(f'*{one}' for one in lists)}]"
