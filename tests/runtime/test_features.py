"""The vectors of a frozen model: what they are, and the files that they are kept in."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runtime_support import tiny_bert, tiny_llama, write_job, write_photos
from transformers import AutoModel

from generator.compile import draft
from generator.errors import GenError
from generator.runtime import build, features, frozen
from generator.runtime.frozen import HEAD, MEAN, Asked

ALL = Asked()


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> Path:
    return write_job(tmp_path_factory.mktemp("job"), config=tiny_bert())


def made(spec: Path, work: Path, asked: Asked = ALL) -> dict[str, frozen.Vectors]:
    spec_file = build.load_spec(spec)
    weights = spec.parent / "backbone" / "model.safetensors"
    work.mkdir(exist_ok=True)
    where = (spec.parent, weights, work, work / "features")
    return frozen.vectors(spec_file, build.facts_for(spec_file), *where, asked)


def test_vectors_are_the_references(spec, tmp_path):
    """What the head reads is transformers' pooler, the mean that of its last states."""
    found = made(spec, tmp_path / "work", Asked(splits=("train", "test")))
    again = made(spec, tmp_path / "work", Asked(splits=("train", "test")))
    model = AutoModel.from_pretrained(spec.parent / "backbone").eval()
    rows = package_rows(spec, tmp_path)
    for name in ("train", "test"):
        one, split = found[name], getattr(rows, name)
        assert sorted(one.rows) == list(range(len(split)))
        for i in (0, 1, len(split) - 1):
            row = int(one.rows[i])
            start, length = split.tokens.starts[row], split.tokens.lengths[row]
            ids = split.tokens.ids[start : start + length].long()[None]
            with torch.inference_mode():
                given = model(ids)
            mean = given.last_hidden_state.mean(1)[0].numpy()
            assert np.allclose(one.of[HEAD][i], given.pooler_output[0], atol=1e-5)
            assert np.allclose(one.of[MEAN][i], mean, atol=1e-5)
            assert one.targets[i] == split.targets[row]
        assert np.array_equal(one.of[MEAN], again[name].of[MEAN])


def package_rows(spec: Path, folder: Path) -> Any:
    """The rows of a job, by its package's own data.py, which may be called several times."""
    return package(spec, folder).load_splits(spec.parent, folder / "rows")


def package(spec: Path, folder: Path, name: str = "frozen_rows") -> Any:
    """The data.py of a job's package, under another name."""
    spec_file = build.load_spec(spec)
    compiled = draft(spec_file, build.facts_for(spec_file), frozen.LEFT_OUT)
    frozen.write(compiled, folder / name)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(f"{name}.data")
    finally:
        sys.path.remove(str(folder))


def test_no_rows_of_other_splits_change_those_of_training(spec, tmp_path):
    shutil.copytree(spec.parent, tmp_path / "job")
    other = tmp_path / "job" / spec.name
    test = other.parent / "rows" / "test.csv"
    lines = test.read_text().splitlines()
    test.write_text("\n".join([lines[0], *lines[5:]]) + "\n")
    asked = Asked(splits=("train",))
    one = made(spec, tmp_path / "one", asked)["train"]
    two = made(other, tmp_path / "two", asked)["train"]
    assert np.array_equal(one.of[MEAN], two.of[MEAN])
    assert np.array_equal(one.rows, two.rows)


def test_a_stopped_extraction_goes_on_at_its_last_whole_batch(spec, tmp_path):
    data = package(spec, tmp_path, "frozen_stopped")
    rows = data.load_splits(spec.parent, tmp_path / "rows").train
    split, calls = features.Source(data, rows), 0

    def give(forward: Any, inputs: Any, *_: Any) -> list[torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt
        ids = inputs[0].float()
        return [ids[:, :2], ids.sum(1, keepdim=True)]

    def runner(folder: str) -> features.Runner:
        where = tmp_path / folder
        return features.Runner(torch.device("cpu"), "", where, "about")

    model, stop = torch.nn.Linear(1, 1), -1
    whole = runner("whole").kept("train", split, None, model, model, give)
    total, calls, stop = calls, 0, 5
    with pytest.raises(KeyboardInterrupt):
        runner("parts").kept("train", split, None, model, model, give)
    (part,) = (tmp_path / "parts").glob("*.part")
    with open(part, "ab") as file:  # as a process leaves it that is killed on its way
        file.write(b"torn")
    calls, stop = 0, -1
    gone_on = runner("parts").kept("train", split, None, model, model, give)
    assert calls == total - 3  # the first tells the widths
    for name in ("vectors", "about"):
        one, two = Path(whole[name]), Path(gone_on[name])
        assert one.name == two.name and one.read_bytes() == two.read_bytes()
    assert not list((tmp_path / "parts").glob("*.part"))
    calls = 0
    runner("parts").kept("train", split, None, model, model, give)
    assert calls == 0
    other = torch.nn.Linear(1, 1)
    changed = runner("parts").kept("train", split, None, other, other, give)
    assert changed["vectors"] != gone_on["vectors"]


def test_which_rows_are_drawn_follows_from_how_many_there_are():
    few, more = (set(features.drawn(100, n).tolist()) for n in (20, 40))
    assert len(few) == 20 and few < more
    assert features.drawn(10, 40).tolist() == list(range(10))
    sizes = {"train": 8058, "valid": 1007, "test": 1007}
    rows = features.afforded(sizes, 0.3, cached=False)
    assert rows["train"] + rows["valid"] + 2 * rows["test"] <= 0.3 * 8058
    assert features.afforded(sizes, 30.0, cached=False) == sizes
    assert features.afforded(sizes, 1e-6, cached=False) == features.FEWEST
    assert features.afforded(sizes, 0.1, cached=True) == sizes | {"test": 402}


@pytest.mark.parametrize("kind", ["llama", "photos"])
def test_other_architectures(kind, tmp_path):
    if kind == "photos":
        spec = write_photos(tmp_path / "job")
    else:
        spec = write_job(tmp_path / "job", config=tiny_llama(), rows=16)
    found = made(spec, tmp_path / "work", Asked(splits=("test",)))["test"]
    model = AutoModel.from_pretrained(spec.parent / "backbone").eval()
    data = package(spec, tmp_path, f"frozen_{kind}")
    split = data.load_splits(spec.parent, tmp_path / "rows").test
    batch = data.batch_of(split, torch.from_numpy(found.rows[:1]))
    with torch.inference_mode():
        states = model(batch.inputs[0]).last_hidden_state[0].numpy()
    read, mean = (states[0], states[1:].mean(0)) if kind == "photos" else (
        states[-1], states.mean(0))  # fmt: skip
    assert np.allclose(found.of[HEAD][0], read, atol=1e-5)
    assert np.allclose(found.of[MEAN][0], mean, atol=1e-5)


def test_columns_are_told_ahead_of_the_layers_that_read_them(tmp_path):
    """Numbers as they are scaled, a 1 for each category: no random layer mixes them."""
    table = "\n[features]\nnumeric = ['place']\ncategorical = ['shop']\nhidden = 2\n"
    edit = {"\n[train]": table + "\n[train]"}
    spec = write_job(tmp_path / "job", config=tiny_bert(), rows=16, edit=edit)
    for path in (spec.parent / "rows").glob("*.csv"):
        head, *rows = path.read_text().splitlines()
        rows = [f"{row},{i},{'abc'[i % 3]}" for i, row in enumerate(rows)]
        path.write_text("\n".join([f"{head},place,shop", *rows]) + "\n")
    asked = Asked(splits=("train", "test"))
    found = made(spec, tmp_path / "work", asked)
    data = package(spec, tmp_path, "frozen_table")
    splits = data.load_splits(spec.parent, tmp_path / "rows")
    for name in asked.splits:
        one, split = found[name], getattr(splits, name)
        rows = torch.from_numpy(one.rows)
        category = split.columns.categories[rows, 0]
        each = torch.stack([category == i for i in (1, 2, 3)], 1)
        beside = torch.cat([split.columns.numbers[rows], each], 1)
        assert one.columns == beside.shape[1] == 5 and category.min() > 0
        for x in one.of.values():
            assert np.array_equal(x[:, -5:], beside)


def test_what_cannot_be_run_says_why(spec, tmp_path, capfd):
    shutil.copytree(spec.parent, tmp_path / "job")
    (tmp_path / "job" / "rows" / "test.csv").unlink()
    with pytest.raises(GenError) as caught:
        made(tmp_path / "job" / spec.name, tmp_path / "work")
    assert caught.value.diagnostics[0].code == "G535"
    assert "test.csv" in capfd.readouterr().err
