"""Learning what a teacher has inside: the losses, what is kept, which blocks are compared."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import signal
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import children
import pytest
import torch
from runtime_support import (
    tiny_bert,
    tiny_llama,
    write_backbone,
    write_photos,
)
from safetensors.torch import load_file, save_file
from test_distill import TEACHER, WEIGHTS, build, write_pair
from test_train import check_equals_whole
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from generator.compile import Compiled, draft
from generator.errors import GenError
from generator.runtime import build as building

BOTH = "hidden = 0.5\nattention = 2.0\n"
KEPT = "n = 2\n"
FOUR = {"num_hidden_layers": 4}


def compiled(path: Path) -> Compiled:
    spec_file = building.load_spec(path)
    return draft(spec_file, building.facts_for(spec_file))


def module(folder: Path, name: str) -> Any:
    """A module of the pupil's package, apart from those of other folders."""
    package = f"{folder.name}.tiny_pupil"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder.parent)
        return importlib.import_module(f"{package}.{name}")


def run(folder: Path, work: str, *more: str, hook: children.Hook | None = None) -> int:
    given = ("--work", work, *WEIGHTS, "--teacher", "teacher.safetensors", *more)
    return children.run(folder, *given, hook=hook, name="tiny_pupil")


def write_teacher(folder: Path) -> None:
    """The backbone as it came, with the head it came with, as a trained teacher."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder.parent)
        model = importlib.import_module(f"{folder.name}.tiny_teacher.model")
    spec = (folder / "specs/tiny_teacher.toml").read_text()
    backbone = "larger" if '"larger"' in spec else "backbone"
    torch.manual_seed(1)
    weights = model.load_pretrained(folder / "specs" / backbone).state_dict()
    save_file(weights, folder / "teacher.safetensors")


# ------------------------------------------------------------------------------ the losses


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pupil of two of its teacher's four blocks, with mean pooling in both: all blocks
    give all tokens."""
    folder = tmp_path_factory.mktemp("kept")
    pool = '[[edit]]\ndo = "pool"\nkind = "mean"\n\n[train]\n'
    write_backbone(folder / "specs/backbone", tiny_bert(initializer_range=0.2, **FOUR))
    keep = '[[edit]]\ndo = "keep-layers"\nlayers = [0, 2]\n\n'
    path = write_pair(
        folder / "specs",
        edit={"[train]\n": keep + pool},
        of_teacher={"[train]\n": pool},
        table=TEACHER + BOTH,
    )
    build(path, folder)
    build(folder / "specs/tiny_teacher.toml", folder)
    write_teacher(folder)
    return folder


def reference(kept: Path, blocks: tuple[int, ...]) -> Any:
    """transformers' model of some of the blocks."""
    model = AutoModelForSequenceClassification.from_pretrained(kept / "specs/backbone")
    layers = model.bert.encoder.layer
    model.bert.encoder.layer = nn.ModuleList(layers[i] for i in blocks)
    return model.eval()


def seen(model: Any, batch: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The hidden states behind each block, and the last block's q, k and v."""
    ids, mask = batch.inputs
    given = {"input_ids": ids, "attention_mask": mask}
    states = model(**given, output_hidden_states=True).hidden_states
    last = model.bert.encoder.layer[-1].attention.self
    return list(states[1:]), [f(states[-2]) for f in (last.query, last.key, last.value)]


def by_hand(own: Any, other: Any, pairs: Any, lengths: list[int], heads: int) -> Tensor:
    """TinyBERT's and MiniLMv2's losses, row by row and head by head."""
    total = torch.zeros(())
    for row, n in enumerate(lengths):
        for mine, theirs in pairs:
            apart = own[0][mine][row, :n] - other[0][theirs][row, :n]
            total = total + 0.5 * apart.square().mean() / len(lengths)
        for x, y in zip(own[1], other[1], strict=True):
            for q, p in zip(x[row, :n].chunk(heads, 1), y[row, :n].chunk(heads, 1)):
                q, p = ((z @ z.T / z.shape[1] ** 0.5).softmax(1) for z in (q, p))
                apart = (p * (p.log() - q.log())).sum(1).mean()
                total = total + 2.0 * apart / heads / len(lengths)
    return total


def a_lesson(
    train: Any, batch: Any, states: list[Tensor], related: list[Tensor]
) -> Any:
    return train.Lesson(torch.zeros(()), states, related, batch.inputs[1])


@torch.no_grad()
def test_the_loss_by_its_definition_on_transformers_states(kept: Path) -> None:
    train, data, pupil = (module(kept, n) for n in ("train", "data", "model"))
    rows = data.load_splits(kept / "specs", kept / "work").train
    batch = data.batch_of(rows, torch.arange(7))
    assert batch.inputs[1] is not None and train.PAIRS == ((0, 0), (1, 2))
    teacher = seen(reference(kept, (0, 1, 2)), batch)
    model = pupil.load_pretrained(kept / "specs/backbone").eval()
    with train.listening(model, train.OWN) as heard:
        model(*batch.inputs)
    states = [teacher[0][0], teacher[0][2]]
    lesson = a_lesson(train, batch, states, teacher[1])
    found = train.with_inside(torch.tensor(0.25), heard, lesson)
    lengths = rows.tokens.lengths[:7].tolist()
    own = seen(reference(kept, (0, 2)), batch)
    expected = 0.25 + by_hand(own, teacher, train.PAIRS, lengths, train.RELATIONS)
    assert train.RELATIONS == 3 and expected > 0.26
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_a_student_that_is_its_teacher_has_nothing_to_learn(kept: Path) -> None:
    train, data, pupil = (module(kept, n) for n in ("train", "data", "model"))
    rows = data.load_splits(kept / "specs", kept / "work").train
    batch = data.batch_of(rows, torch.arange(7))
    model = pupil.load_pretrained(kept / "specs/backbone").eval()
    with train.listening(model, train.OWN) as heard:
        model(*batch.inputs)
    states = [heard[f"blocks.{own}"] for own, _ in train.PAIRS]
    related = [heard[name][..., a:b] for (name, a, b), _ in train.RELATED]
    lesson = a_lesson(train, batch, states, related)
    assert train.with_inside(torch.zeros(()), heard, lesson) == 0
    assert not any(m._forward_hooks for m in model.modules())  # they are gone again


@torch.no_grad()
def test_what_is_kept_is_what_the_teacher_has_inside(kept: Path) -> None:
    """Every token's states and vectors, as transformers has them, in bf16."""
    train, data, teacher = (module(kept, n) for n in ("train", "data", "teacher"))
    rows = data.load_splits(kept / "specs", kept / "work").train
    model = teacher.load_trained(kept / "teacher.safetensors")
    (taught,) = train.ask(model, {"train": rows}, kept / "inside", True)
    torch_model = reference(kept, (0, 1, 2, 3))
    batch = data.batch_of(rows, torch.arange(len(rows)))
    ids, mask = batch.inputs
    given = {"input_ids": ids, "attention_mask": mask}
    states = torch_model(**given, output_hidden_states=True).hidden_states
    block = torch_model.bert.encoder.layer[2].attention.self
    expected = [states[1], states[3]]
    expected += [f(states[2]) for f in (block.query, block.key, block.value)]
    lesson = taught.lesson(torch.arange(len(rows)))
    assert torch.equal(lesson.real, mask)
    for x, y in zip([*lesson.states, *lesson.related], expected, strict=True):
        y = y.bfloat16().float()
        torch.testing.assert_close(x[mask], y[mask], rtol=2**-7, atol=1e-6)
        assert (x[mask] == y[mask]).float().mean() > 0.99
    answers = model(*batch.inputs)
    torch.testing.assert_close(lesson.answers, answers, rtol=1e-5, atol=1e-6)
    (file,) = (kept / "inside").iterdir()
    size = 4 * 2 * len(rows) + 2 * (2 + 3) * 24 * int(rows.tokens.lengths.sum())
    assert file.stat().st_size == size == train.layout(rows)[-1]


def test_a_full_disk_is_said_before(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, data, teacher = (module(kept, n) for n in ("train", "data", "teacher"))
    rows = data.load_splits(kept / "specs", kept / "work").train
    model = teacher.load_trained(kept / "teacher.safetensors")
    size = train.layout(rows)[-1]
    usage = shutil.disk_usage(kept)._replace(free=size - 1)
    monkeypatch.setattr(train.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SystemExit) as caught:
        train.ask(model, {"train": rows}, kept / "full", True)
    assert f"needs {size:,}" in str(caught.value)
    assert "compare fewer layers" in str(caught.value)
    assert not list((kept / "full").iterdir())


def test_the_certificate_has_the_losses(kept: Path) -> None:
    found = {c.name: c for c in module(kept, "test_model").by_itself(None)}
    for name in ("hidden states", "relations"):
        one = found[f"the loss of {name}"]
        assert one.holds and one.measured is not None and one.measured < 1e-12


def test_the_model_is_the_same_without(tmp_path: Path) -> None:
    """Only what trains knows of it: model.py, predict.py and the rest stay as they are."""
    path = write_pair(tmp_path)
    before = {d.path: d.data for d in compiled(path).drafts}
    path.write_text(path.read_text() + BOTH)
    after = {d.path: d.data for d in compiled(path).drafts}
    changed = {name for name, data in after.items() if before[name] != data}
    assert changed == {"train.py", "test_model.py", "README.md", "spec.toml"}
    assert b"listening" not in before["train.py"] and before.keys() == after.keys()


# ------------------------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pupil of a wider and deeper teacher, trained: in `whole`, uninterrupted."""
    folder = tmp_path_factory.mktemp("wider")
    config = tiny_bert(hidden_size=32, num_attention_heads=4, **FOUR)
    write_backbone(folder / "specs/larger", config)
    path = write_pair(
        folder / "specs",
        edit={},
        of_teacher={'"backbone"': '"larger"'},
        table=TEACHER + BOTH,
    )
    build(path, folder)
    build(folder / "specs/tiny_teacher.toml", folder)
    write_teacher(folder)
    assert run(folder, "whole") == 0, (folder / "log").read_text()
    return folder


def test_a_wider_teacher_is_learned_from_through_projections(pair: Path) -> None:
    train = module(pair, "train")
    assert train.PAIRS == ((0, 1), (1, 3)) and train.RELATIONS == 4
    *_, last = sorted((pair / "whole/checkpoints").iterdir())
    tensors = load_file(last)
    matrices = {name: x for name, x in tensors.items() if "projections" in name}
    assert {n for n in matrices if n.startswith("projections")} == {
        "projections.0.weight",
        "projections.1.weight",
    }
    assert all(x.shape in ((32, 24), ()) for x in matrices.values())
    assert tensors["adamw.projections.1.weight.exp_avg"].abs().max() > 0
    saved = load_file(pair / "whole/model.safetensors")
    assert not any("projections" in name for name in saved)
    lines = [json.loads(x) for x in (pair / "whole/metrics.jsonl").open()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_it_resumes_as_it_was(pair: Path) -> None:
    hook = functools.partial(children.signal_at, 6, signal.SIGTERM)
    assert run(pair, "stopped", hook=hook) == 75
    assert run(pair, "stopped", "--resume") == 0, (pair / "log").read_text()
    check_equals_whole(pair, "stopped")


def signal_in_answer(nth: int, train: Any) -> None:
    """Send itself a signal in a batch that the teacher is asked about."""
    forward, seen = train.teacher.Model.forward, 0

    def signalled(self: Any, *inputs: Any) -> Tensor:
        nonlocal seen
        seen += 1
        if seen == nth:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *inputs)

    train.teacher.Model.forward = signalled


def test_a_signal_keeps_what_the_teacher_had_inside(pair: Path) -> None:
    assert run(pair, "early", hook=functools.partial(signal_in_answer, 3)) == 75
    (part,) = (pair / "early/teacher").iterdir()
    assert part.suffix == ".3"
    assert run(pair, "early", "--resume") == 0, (pair / "log").read_text()
    check_equals_whole(pair, "early")


@pytest.mark.parametrize("name", ["kept", "pair"])
def test_the_bench_takes_the_steps_of_training(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    bench, data = module(folder, "bench"), module(folder, "data")
    rows = data.load_splits(folder / "specs", folder / "work").train
    args = Namespace(weights=folder / "specs/backbone", folder=tmp_path)
    bench.package("train", args, [], rows)([torch.arange(8), torch.arange(8, 12)])
    assert len(list((tmp_path / "teacher").iterdir())) == 1


TOGETHER = {
    "averaged, accumulated, by layers": "ema = 0.9\naccumulate = 2\nlayer_decay = 0.8\n",
    "frozen": "freeze = 1\n",
    "in stages": "ema = 0.9\n\n[[train.stage]]\nfreeze = 2\nepochs = 1\n\n"
    "[[train.stage]]\nfreeze = 1\nepochs = 1\n\n[[train.stage]]\nepochs = 1\n",
    "of half precision": 'batch_tokens = 64\n\n[target]\nprecision = "bf16"\n',
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if "stages" in case else pytest.mark.slow)
        for case in TOGETHER
    ],
)
def test_with_what_else_training_may_have(
    case: str, pair: Path, tmp_path: Path
) -> None:
    """It trains, and resumes as it was."""
    edit = {"epochs = 2\n": ""} if "stage" in TOGETHER[case] else {}
    edit |= {"batch = 8\n": ""} if "batch_tokens" in TOGETHER[case] else {}
    shutil.copytree(pair / "specs/larger", tmp_path / "specs/larger")
    path = write_pair(
        tmp_path / "specs",
        edit=edit,
        of_teacher={'"backbone"': '"larger"'},
        more=TOGETHER[case],
        table=TEACHER + BOTH,
    )
    build(path, tmp_path)
    shutil.copy(pair / "teacher.safetensors", tmp_path)
    assert run(tmp_path, "whole") == 0, (tmp_path / "log").read_text()
    hook = functools.partial(children.signal_at, 3, signal.SIGTERM)
    assert run(tmp_path, "other", hook=hook) == 75
    assert run(tmp_path, "other", "--resume") == 0, (tmp_path / "log").read_text()
    check_equals_whole(tmp_path, "other")
    pairs = compiled(path).job.distill.pairs
    assert pairs == (((1, 3),) if "frozen" in case else ((0, 1), (1, 3)))


def test_images_have_it_too(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    path = write_photos(folder / "specs")
    text = path.read_text()
    teacher = path.with_name("tiny_teacher.toml")
    teacher.write_text(text.replace("tiny_photos", "tiny_teacher"))
    path = path.with_name("tiny_pupil.toml")
    path.write_text(text.replace("tiny_photos", "tiny_pupil") + TEACHER + BOTH)
    build(path, folder)
    build(teacher, folder)
    write_teacher(folder)
    train, data, guide = (module(folder, n) for n in ("train", "data", "teacher"))
    rows = data.load_splits(folder / "specs", folder / "work").train
    model = guide.load_trained(folder / "teacher.safetensors")
    (taught,) = train.ask(model, {"train": rows}, folder / "inside", True)
    batch, *_ = data.evaluation_batches(rows)
    with torch.no_grad(), train.listening(model, train.THEIRS) as heard:
        model(*batch.inputs)
    lesson = taught.lesson(batch.rows)
    first, last = lesson.states
    assert first.shape[1:] == (5, 24) and last.shape[1:] == (1, 24)
    close = functools.partial(torch.testing.assert_close, rtol=2**-7, atol=1e-6)
    close(first, heard["blocks.0"])
    close(last, heard["blocks.1"])
    for x, (_, (name, start, stop)) in zip(lesson.related, train.RELATED, strict=True):
        close(x, heard[name][..., start:stop])
    assert len(lesson.related) == 2  # of the last block one query alone is asked for
    pupil = module(folder, "model").load_pretrained(folder / "specs/backbone").train()
    given = (nn.CrossEntropyLoss(), train.make_optimizer(pupil), taught, batch)
    loss, bad = train.step(pupil, *given)
    assert loss > 0 and not bad
    found = {c.name: c for c in module(folder, "test_model").by_itself(None)}
    assert (
        found["the loss of hidden states"].holds
        and found["the loss of relations"].holds
    )


# ------------------------------------------------------------------------- what is compared


def of(tmp_path: Path, table: str, **more: Any) -> Any:
    write_backbone(tmp_path / "backbone", more.pop("config", None) or tiny_bert(**FOUR))
    path = write_pair(tmp_path, table=TEACHER + table, **more)
    return compiled(path).job.distill


def edits(*names: str) -> Mapping[str, str]:
    return {"[train]\n": "".join(f"[[edit]]\n{n}\n\n" for n in names) + "[train]\n"}


KEEP = 'do = "keep-layers"\nlayers = [0, 3]'
MEAN = 'do = "pool"\nkind = "mean"'


def test_blocks_that_are_kept_learn_from_themselves(tmp_path: Path) -> None:
    found = of(tmp_path, BOTH, edit=edits(KEEP))
    assert found.pairs == ((0, 0), (1, 3)) and found.one_position
    assert found.related == (
        (("blocks.1.attention.kv", 0, 24), ("blocks.3.attention.kv", 0, 24)),
        (("blocks.1.attention.kv", 24, 48), ("blocks.3.attention.kv", 24, 48)),
    )
    assert (found.width, found.heads) == (24, 3)


def test_relations_where_every_token_asks(tmp_path: Path) -> None:
    found = of(tmp_path, "attention = 1.0\n", edit=edits(KEEP, MEAN))
    assert found.pairs == () and not found.one_position
    # Of the teacher's last block only the first token asks: queries are left out.
    assert [own for own, _ in found.related] == [
        ("blocks.1.attention.qkv", 24, 48),
        ("blocks.1.attention.qkv", 48, 72),
    ]
    found = of(
        tmp_path / "2", "attention = 1.0\nlayers = [[0, 2]]\n", edit=edits(KEEP, MEAN)
    )
    assert [other for _, other in found.related] == [
        ("blocks.2.attention.qkv", 24 * i, 24 * i + 24) for i in range(3)
    ]


def test_heads_of_relations_are_what_all_have_in_common(tmp_path: Path) -> None:
    config = tiny_bert(hidden_size=20, num_attention_heads=5)
    write_backbone(tmp_path / "larger", config)
    other = {'"backbone"': '"larger"'}
    found = of(tmp_path, "attention = 1.0\n", edit=edits(KEEP), of_teacher=other)
    assert found.heads == 1 and len(found.related) == 2
    found = of(
        tmp_path / "2", "attention = 1.0\nrelation_heads = 8\n", edit=edits(KEEP)
    )
    assert found.heads == 8


def test_the_last_token_is_compared_with_the_last(tmp_path: Path) -> None:
    found = of(tmp_path, BOTH, config=tiny_llama(), edit={})
    assert found.pairs == ((0, 0), (1, 1)) and found.one_position
    pooled = of(tmp_path / "2", BOTH, config=tiny_llama(), edit=edits(MEAN))
    assert pooled.pairs == ((0, 0),) and not pooled.one_position


@pytest.mark.parametrize(
    ("own", "theirs", "expected"),
    [
        (3, 6, ((0, 1), (1, 3), (2, 5))),
        (4, 6, ((0, 0), (1, 2), (2, 3), (3, 5))),
        (6, 3, ((1, 0), (3, 1), (5, 2))),
    ],
)
def test_blocks_go_with_each_other_evenly(
    own: int, theirs: int, expected: Any, tmp_path: Path
) -> None:
    write_backbone(tmp_path / "larger", tiny_bert(num_hidden_layers=theirs))
    other = {'"backbone"': '"larger"'}
    config = tiny_bert(num_hidden_layers=own)
    found = of(tmp_path, BOTH, config=config, edit={}, of_teacher=other)
    assert found.pairs == expected


def test_other_jobs_have_nothing_of_it(tmp_path: Path) -> None:
    (source,) = (
        d.data for d in compiled(write_pair(tmp_path)).drafts if d.path == "train.py"
    )
    for word in (b"HIDDEN", b"listening", b"Lesson", b"PAIRS", b"projections"):
        assert word not in source


# ------------------------------------------------------------------------ what is refused


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such block": (
        "G283",
        {"table": "hidden = 1.0\nlayers = [[0, 4]]\n"},
        "no block 4",
    ),
    "none of its own": (
        "G283",
        {"table": "hidden = 1.0\nlayers = [[2, 3]]\n"},
        "no block 2",
    ),
    "not ascending": (
        "G283",
        {"table": "hidden = 1.0\nlayers = [[0, 2], [1, 2]]\n"},
        "ascend",
    ),
    "frozen": (
        "G283",
        {"more": "freeze = 1\n", "table": "hidden = 1.0\nlayers = [[0, 0]]\n"},
        "frozen",
    ),
    "all frozen": (
        "G283",
        {"more": "freeze = 2\n", "table": "attention = 1.0\n"},
        "frozen",
    ),
    "heads": (
        "G284",
        {"table": "attention = 1.0\nrelation_heads = 5\n"},
        "24 is the most",
    ),
    "compiled": (
        "G284",
        {"more": "\n[target]\ncompile = true\n", "table": "hidden = 1.0\n"},
        "while it runs",
    ),
    "layers of nothing": ("G010", {"table": "layers = [[0, 0]]\n"}, "hidden"),
    "heads of nothing": (
        "G010",
        {"table": "hidden = 1.0\nrelation_heads = 4\n"},
        "attention",
    ),
    "no pair": ("G006", {"table": "hidden = 1.0\nlayers = [[0], [1, 3]]\n"}, "pair"),
    "no integers": ("G006", {"table": "hidden = 1.0\nlayers = [0]\n"}, "pair"),
    "nothing given": ("G008", {"table": "hidden = 1.0\nlayers = []\n"}, "0 items"),
    "below 0": ("G007", {"table": "hidden = 1.0\nlayers = [[0, -1]]\n"}, "-1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learned(case: str, tmp_path: Path) -> None:
    code, options, said = REFUSED[case]
    given = {"edit": edits(KEEP), **options}
    with pytest.raises(GenError) as caught:
        of(tmp_path, given.pop("table"), **given)
    (found,) = caught.value.diagnostics
    assert found.code == code and found.place is not None
    assert said in f"{found.message}; {found.label}"
