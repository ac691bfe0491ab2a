"""Candidates are compared by the same rows, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_support import gen, write_job

from generator.runtime import build as building
from generator.runtime import search_speed, search_split, search_train
from generator.runtime.build import load_spec
from generator.runtime.search_trial import Enough, _comparable
from generator.spec.alter import alter


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_job(tmp_path_factory.mktemp("job"), rows=20)
    valid, test = (path.parent / "rows" / f"{x}.csv" for x in ("valid", "test"))
    valid.write_text(valid.read_text() + "<br/>,good\n")
    test.with_name("other.csv").write_text(test.read_text() + "a flat plot,bad\n")
    return path


def scored(path: Path, cleaning: dict[str, bool], folder: Path) -> str:
    """The digest of the rows that a candidate which cleans so is scored on."""
    changes = {f"data.clean.{key}": value for key, value in cleaning.items()}
    spec = path.with_name(f"{folder.name}.toml")
    spec.write_text(alter(path.read_text(), changes))
    spec_file = load_spec(spec)
    building.build(building.plan(spec_file, building.facts_for(spec_file), folder))
    data = search_speed.module({"name": "tiny_job", "parent": str(folder)}, "data")
    found: list[str] = []
    load = search_train.hidden(search_train.noted(data.load_rows, found), 0.5, 0)
    rows = load(path.parent, folder / "work")
    assert len(rows["train"]) == 10 and len(rows["test"]) == len(rows["valid"])
    return found[0]


def test_rows_that_are_blank_once_they_are_clean_are_seen(
    job: Path, tmp_path: Path
) -> None:
    own = scored(job, {"whitespace": False}, tmp_path / "own")
    other = scored(job, {"html": True}, tmp_path / "html")
    assert other != own
    records = {0: {"facts": {"rows": own}}}
    _comparable(own, records)
    _comparable(own, {})
    with pytest.raises(Enough) as end:
        _comparable(other, records)
    assert end.value.state == "failed" and "cleaned" in end.value.why


def test_a_model_of_another_seed_has_the_same_split(job: Path, tmp_path: Path) -> None:
    """Where fractions part the rows; else it would be tested on what chose the others."""
    files = {"data.valid": None, "data.test": None, "data.test_fraction": 0.2}
    found = []
    for seed in (0, 1):
        spec = job.with_name(f"seed_{seed}.toml")
        spec.write_text(alter(job.read_text(), {**files, "train.seed": seed}))
        spec_file, folder = load_spec(spec), tmp_path / str(seed)
        building.build(building.plan(spec_file, building.facts_for(spec_file), folder))
        data = search_speed.module({"name": "tiny_job", "parent": str(folder)}, "data")
        own = data.load_rows(job.parent, folder / "own")
        search_split.keep(data, 0)
        kept = data.load_rows(job.parent, folder / "kept")
        assert data.SEED == seed
        found += [[row.text for row in rows["test"]] for rows in (own, kept)]
    assert found[0] == found[1] == found[3] != found[2]


def changes() -> Iterator[tuple[str, str, str]]:
    yield 'labels = ["bad", "good"]', 'labels = ["good", "bad"]', "labels differ"
    yield "rows/test.csv", "rows/other.csv", "data.test differ"
    yield 'test = "rows/test.csv"', "test_fraction = 0.2", "data.test and data.test_fr"


@pytest.mark.parametrize(("old", "new", "differ"), changes())
def test_a_smaller_model_is_of_the_same_rows_and_labels(
    old: str,
    new: str,
    differ: str,
    job: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = job.read_text()
    smaller, searched = job.with_name("small.toml"), job.with_name("searched.toml")
    smaller.write_text(text.replace(old, new).replace("tiny_job", "small"))
    searched.write_text(text + '\n[search]\nsmaller = "small.toml"\n')
    assert gen("search", searched, "--work", tmp_path / "work") == 2
    said = capsys.readouterr().err
    assert "error[G345]" in said and f"its {differ}" in said and "small.toml" in said
