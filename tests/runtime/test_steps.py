"""Pruning in steps: the specs of the steps, a whole course, kills, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from runtime_support import gen, last_json, write_job
from safetensors.torch import load_file

from generator import pruning
from generator.compile import compile, draft
from generator.errors import GenError
from generator.facts import load_scores
from generator.locking import digest
from generator.runtime import build as building
from generator.runtime import calibrate, steps
from generator.spec import read_spec

EDITS = """
[[edit]]
do = "prune-ffn"
keep = 0.5
multiple = 2

[[edit]]
do = "prune-heads"
to = 1
"""
PRUNE = "\n[train.prune]\nsteps = 3\nrecover = 0.5\n"
TWO = PRUNE.replace("3", "2")  # which take less time
OFTEN = {"lr = 5e-3": "lr = 5e-3\nsave_every = 1"}


def stepped_job(folder: Path, more: str = TWO + EDITS) -> Path:
    spec = write_job(folder, edit=OFTEN)
    spec.write_text(spec.read_text() + more)
    return spec


@dataclass(frozen=True)
class Ran:
    spec: Path
    figures: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.spec.parent

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def package(self) -> Path:
        return self.folder / "out" / "tiny_job"

    def step(self, number: int) -> Path:
        return self.work / "steps" / str(number)


def arguments(folder: Path, *more: str) -> list[str]:
    where = ["--out", str(folder / "out"), "--work", str(folder / "work")]
    quick = ["--no-bench", "--probe", "off", "--json"]
    return ["run", str(folder / "tiny_job.toml"), *where, *quick, *more]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("steps")
    spec, output = stepped_job(folder), io.StringIO()
    with redirect_stdout(output):
        code = gen(*arguments(folder))
    assert code == 0
    yield Ran(spec, last_json(output.getvalue()))


# ------------------------------------------------------------------- specs of the steps

SIZES = {"H": 12, "D": 32, "F": 1536, "C": 384, "L": 6}
HEAD = """\
name = "a"
task = "text-classification"
labels = ["bad", "good"]
backbone.from = "b"

[data]
train = "train.csv"
text = "text"
label = "label"
"""


def specs_of(more: str, sizes: dict[str, int] = SIZES) -> list[Any]:
    found = pruning.step_specs(read_spec(HEAD + more, "spec.toml"), sizes)
    return [one.spec for one in found]


def test_each_step_leaves_out_as_much():
    more = PRUNE + EDITS.replace("multiple = 2", "multiple = 64").replace("1\n", "6\n")
    first, second = specs_of(more)
    said = [pruning.stays(one, SIZES) for one in (first, second)]
    assert said == [
        ("1,280 of 1,536 units", "10 of 12 heads"),
        ("1,024 of 1,536 units", "8 of 12 heads"),
    ]
    assert first.train.epochs == 1 and first.train.prune == type(first.train.prune)()


def test_what_is_not_scored_is_there_from_the_first_step_and_low_rank_in_the_last():
    more = (
        PRUNE
        + '[[edit]]\ndo = "keep-layers"\nn = 4\n'
        + '[[edit]]\ndo = "low-rank"\non = ["ff.up"]\nrank = 8\n'
        + '[[edit]]\ndo = "prune-width"\nto = 192\n'
    )
    for one in specs_of(more):
        assert [edit.DO for edit in one.edit] == ["keep-layers", "prune-width"]
        assert one.edit[0].n == 4
    assert [one.edit[1].to for one in specs_of(more)] == [320, 256]


def test_blocks_that_are_scored_go_one_after_the_other():
    keep = '[[edit]]\ndo = "keep-layers"\nn = 3\nchoose = "influence"\n'
    assert [one.edit[0].n for one in specs_of(PRUNE + keep)] == [5, 4]


def test_heads_go_with_those_that_share_their_keys():
    sizes = {**SIZES, "G": 4}
    more = PRUNE.replace("3", "2") + '[[edit]]\ndo = "prune-heads"\nto = 6\n'
    assert [one.edit[0].to for one in specs_of(more, sizes)] == [9]


@pytest.mark.parametrize(
    ("recover", "epochs", "part"), [(0.5, 1, 0.5), (2, 2, 1.0), (1.5, 2, 0.75)]
)
def test_how_long_a_step_is_trained(recover, epochs, part):
    spec = read_spec(HEAD + PRUNE.replace("0.5", str(recover)) + EDITS, "s").spec
    assert pruning.recovery(spec) == pruning.Recovery(epochs, part)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (PRUNE, "G291", "nothing of this job is left out by scores"),
        (
            PRUNE.replace("3", "9") + '[[edit]]\ndo = "prune-heads"\nto = 6\n',
            "G291",
            "at most 6",
        ),
        (PRUNE + EDITS + '[[edit]]\ndo = "lora"\n', "G292", "lora"),
        (PRUNE + EDITS + '[[edit]]\ndo = "widen-ffn"\nby = 2\n', "G292", "widen-ffn"),
        (PRUNE + EDITS + "[[train.stage]]\nepochs = 1\n", "G292", "[[train.stage]]"),
        (
            PRUNE + '[[edit]]\ndo = "keep-layers"\nn = 3\nchoose = "taylor"\n'
            '[[edit]]\ndo = "prune-ffn"\nkeep = 0.5\nblocks = [0]\n',
            "G292",
            "blocks",
        ),
    ],
)
def test_what_cannot_go_in_steps(more, code, said):
    with pytest.raises(GenError) as caught:
        specs_of(more)
    (found,) = caught.value.diagnostics
    assert found.code == code and found.place is not None and found.help
    assert said in f"{found.message} {found.label}"


def test_recover_is_of_steps():
    with pytest.raises(GenError) as caught:
        read_spec(HEAD + "[train.prune]\nrecover = 1.0\n", "spec.toml")
    assert [d.code for d in caught.value.diagnostics] == ["G010"]


# ---------------------------------------------------------------------- a whole course


def test_the_steps_are_told_of(ran):
    pruned = ran.figures["pruned"]
    (step,) = pruned["steps"]
    assert step["stays"] == ["28 of 37 units", "2 of 3 heads"]
    assert pruned["stays"] == ["18 of 37 units", "1 of 3 heads"]
    assert step["parameters"] > ran.figures["predicted"]["parameters"]
    for score in (step["before"], step["after"], pruned["before"]["accuracy"]):
        assert 0 <= score <= 1
    for page in (ran.work / "report.md", ran.package / "README.md"):
        assert "Pruned in steps" in page.read_text()
        assert "28 of 37 units" in page.read_text()


def test_each_step_has_a_certificate(ran):
    found = json.loads((ran.step(1) / "work" / "certificate.json").read_text())
    assert found and all(check["holds"] for check in found)
    names = {check["name"] for check in found if check["measured"] is not None}
    assert {"logits, fp64", "gradients, fp64"} <= names
    assert all(check["holds"] for check in ran.figures["certificate"])


def test_a_step_is_a_job_like_any_other(ran):
    """The first one's package is what its spec compiles to, to the byte."""
    spec_file = building.load_spec(ran.step(1) / "spec.toml")
    facts = replace(building.facts_for(building.load_spec(ran.spec)), pruned=None)
    for name, data in compile(spec_file, facts).items():
        assert (ran.step(1) / "tiny_job" / name).read_bytes() == data, name


def test_one_step_is_pruning_at_once(ran):
    """What is compiled of it is the same, and so is what is trained."""
    text, name = ran.spec.read_text(), str(ran.spec)
    facts = replace(building.facts_for(building.load_spec(ran.spec)), pruned=None)
    once = text.replace(TWO, "\n[train.prune]\nsteps = 1\n")
    some, others = (
        draft(read_spec(one, name), facts).drafts
        for one in (once, text.replace(TWO, ""))
    )
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one == other or one.path == "spec.toml"


def units_of(step: Path) -> list[set[int]]:
    """Of each block the units that a step has left, which are not zero."""
    state = load_file(step / "model" / "model.safetensors")
    ups = (f"bert.encoder.layer.{i}.intermediate.dense.weight" for i in range(2))
    return [{*state[up].abs().sum(1).nonzero()[:, 0].tolist()} for up in ups]


def test_nothing_comes_back(ran):
    """What the job keeps was kept by the step before, and the head goes on."""
    spec_file = building.load_spec(ran.spec)
    last = draft(spec_file, building.facts_for(spec_file)).edited.model.kept
    for i, before in enumerate(units_of(ran.step(1))):
        assert len(before) == 28
        assert {*last[f"blocks.{i}.ff.hidden"]} < before
    model = (ran.package / "model.py").read_text()
    assert 'take(f"classifier.{p}")' in model


def test_a_step_leaves_what_it_has_learned(ran):
    """transformers' model of what it leaves computes what the trained package does."""
    import importlib
    import sys

    from transformers import AutoModelForSequenceClassification

    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 4, 8, 3]])
    folder = ran.step(1)
    theirs = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module("tiny_job.model")
    finally:
        sys.path.remove(str(folder))
        for name in [n for n in sys.modules if n.split(".")[0] == "tiny_job"]:
            del sys.modules[name]
    ours = module.Model()
    ours.load_state_dict(load_file(folder / "work" / "model.safetensors"))
    with torch.no_grad():
        there = theirs.eval()(ids, torch.ones_like(ids)).logits
        torch.testing.assert_close(ours.eval()(ids), there, rtol=1e-5, atol=1e-6)


def test_the_course_is_recorded(ran, capsys):
    lock = json.loads((ran.package / "gen.lock").read_text())
    (step,) = lock["pruned"]["steps"]
    data = (ran.step(1) / "model" / "model.safetensors").read_bytes()
    assert step["weights"] == digest(data)
    assert lock["backbone"]["files"]["model.safetensors"] == step["weights"]
    out = ["--out", str(ran.folder / "out")]
    assert gen("check", ran.spec, *out) == 0
    assert gen("build", ran.spec, *out) == 0
    assert "in one step before" in capsys.readouterr().out


def test_again_nothing_is_done_twice(ran, capsys, monkeypatch):
    def never(*_: Any) -> float:
        raise AssertionError("it was trained before")

    monkeypatch.setattr(steps, "_train", never)
    before = {p: p.stat().st_mtime_ns for p in ran.work.rglob("*.safetensors")}
    assert gen(*arguments(ran.folder, "--resume")) == 0
    assert "done before" not in capsys.readouterr().out  # --json is quiet
    assert before == {p: p.stat().st_mtime_ns for p in ran.work.rglob("*.safetensors")}


KILLED = """
import os, runpy, signal, sys, importlib
data = importlib.import_module(f"{sys.argv[2]}.data")
batches = data.batches
def killed(*arguments):
    for number, batch in enumerate(batches(*arguments)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
if sys.argv[1] == "train" and sys.argv[4] == "2":
    data.batches = killed
runpy.run_path(PROGRAM, run_name="__main__")
"""


def begun(ran: Ran, folder: Path, more: str = TWO + EDITS) -> Path:
    """The job in another folder, its backbone scored and no step run."""
    spec = stepped_job(folder, more)
    shutil.copytree(ran.folder / "facts", folder / "facts")
    shutil.rmtree(folder / "facts" / "tiny_job" / "pruned")
    return spec


def taken(spec: Path) -> steps.Reached:
    """All steps but the last, without that one."""
    args = Namespace(
        spec=spec,
        out=spec.parent / "out",
        work=spec.parent / "work",
        root=None,
        fresh=False,
        anyway=False,
        quiet=True,
        json=False,
    )
    course = steps.course(args, building.load_spec(spec))
    return steps.take(course, None, lambda words: None)


def parts_of(path: Path) -> tuple[dict, bytes]:
    """The header of a safetensors file, and the bytes of its tensors.

    In what order the header has its metadata is up to chance in safetensors.
    """
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


@pytest.mark.slow
def test_a_kill_costs_nothing(ran, tmp_path, monkeypatch):
    """In the middle of the second of three steps: the same bytes as without one."""
    spec = begun(ran, tmp_path, PRUNE + EDITS)
    program = tmp_path / "killed.py"
    program.write_text(KILLED.replace("PROGRAM", repr(str(steps.PROGRAM))))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "PROGRAM", program)
        with pytest.raises(steps.Stopped) as stopped:
            taken(spec)
    assert stopped.value.ended.code == 137
    first, second = (tmp_path / "work/steps" / number for number in "12")
    assert (first / "step.json").is_file() and not (second / "step.json").exists()
    assert any((second / "work/checkpoints").iterdir())
    killed = taken(spec)
    for before, after in zip(units_of(first), units_of(second), strict=True):
        assert after < before and len(after) == 24
    second.rename(tmp_path / "aside")
    assert taken(spec).facts == killed.facts
    for name in ("model/model.safetensors", "work/model.safetensors"):
        one, other = second / name, tmp_path / "aside" / name
        assert parts_of(one) == parts_of(other), name


def test_without_its_weights_a_package_says_what_makes_them(ran, tmp_path, capsys):
    shutil.copytree(ran.folder, tmp_path / "there")
    spec = tmp_path / "there" / "tiny_job.toml"
    shutil.rmtree(tmp_path / "there" / "work" / "steps")
    where = ["--out", tmp_path / "there/out", "--work", tmp_path / "there/work"]
    assert gen("certify", spec, *where) == 2
    said = capsys.readouterr().err
    assert "G293" in said and "gen run" in said and "steps = 2" in said


def test_another_course_is_not_taken_for_this_one(ran, tmp_path, capsys):
    """A spec that prunes otherwise is built at once, until its own steps are run."""
    shutil.copytree(ran.folder, tmp_path / "there")
    spec = tmp_path / "there" / "tiny_job.toml"
    spec.write_text(spec.read_text().replace("recover = 0.5", "recover = 1.0"))
    assert gen("build", spec, "--out", tmp_path / "there/out") == 0
    assert "`gen run` prunes in 2 steps" in capsys.readouterr().out
    model = (tmp_path / "there/out/tiny_job/model.py").read_text()
    assert (
        "torch.randn(Config.labels" in model
    )  # a new head: it starts from the backbone
    # What does not change the steps keeps them.
    spec.write_text(
        spec.read_text()
        .replace("recover = 1.0", "recover = 0.5")
        .replace("epochs = 2", "epochs = 3")
    )
    assert gen("build", spec, "--out", tmp_path / "there/out") == 0
    assert "in one step before" in capsys.readouterr().out


def test_a_wrong_certificate_ends_the_course(ran, tmp_path, monkeypatch, capsys):
    begun(ran, tmp_path)
    wrong = {"name": "logits", "measured": 1.0, "bound": 0.0, "holds": False}
    monkeypatch.setattr(steps.certify, "checks", lambda ready: [wrong])
    assert gen(*arguments(tmp_path)) == 2
    said = capsys.readouterr().err
    assert "G294" in said and "step 1" in said
    assert not (tmp_path / "work/steps/1/model").exists()
    assert not (tmp_path / "facts/tiny_job/pruned").exists()


def test_what_is_left_out_never_scores_again(ran):
    """The scores of a step are of all that the backbone has."""
    facts = building.facts_for(building.load_spec(ran.spec))
    assert facts.pruned is not None
    scores = load_scores(facts.pruned.scores, facts.pruned.card, "scores")
    for block in range(2):
        units = scores.values[f"taylor/ff/{block}"]
        heads = scores.values[f"taylor/heads/{block}"]
        assert len(units) == 37 and sum(u == calibrate.LEAST for u in units) == 37 - 28
        assert len(heads) == 3 and sum(h == calibrate.LEAST for h in heads) == 1
    assert facts.card != facts.pruned.card


def test_blocks_that_are_gone_have_scores_for_edits_ahead():
    """Those of units, which prune-ffn asks for where keep-layers stands behind it."""
    job: Any = SimpleNamespace(
        block_numbers=(0, 2),
        model=SimpleNamespace(
            kept={}, blocks=[SimpleNamespace(name=f"blocks.{i}") for i in range(2)]
        ),
    )
    units = {f"taylor/ff/{i}": (1.0 + i, 2.0) for i in range(2)}
    values = units | {"taylor/layers": (3.0, 4.0), "singular/1/ff.up": (5.0,)}
    sizes = {"L": 4, "F": 2, "H": 3}
    least = calibrate.LEAST
    assert dict(calibrate._in_the_backbone(values, job, sizes)) == {
        "taylor/ff/0": (1.0, 2.0),
        "taylor/ff/1": (least, least),
        "taylor/ff/2": (2.0, 2.0),
        "taylor/ff/3": (least, least),
        "taylor/layers": (3.0, least, 4.0, least),
        "singular/2/ff.up": (5.0,),
    }
