"""`gen vendor`: the package in another repository, where it runs and keeps its edits."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_support import gen, last_json, write_job

from generator.runtime import vendor
from generator.runtime.licences import LICENCES, licences


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path / "job")


def vendored(job: Path, dest: Path, *more: str) -> int:
    return gen("vendor", job, dest, "--out", job.parent / "out", *more)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_vendored_package_trains_and_predicts_inside_another(job, tmp_path, capsys):
    dest = tmp_path / "theirs" / "app" / "models"
    assert vendored(job, dest, "--json") == 0
    figures = last_json(capsys.readouterr().out)
    assert figures["licence"] == "apache-2.0"
    assert set(figures["written"]) == {p.name for p in (dest / "tiny_job").iterdir()}
    for folder in (dest.parent, dest):
        (folder / "__init__.py").touch()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def program(module: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                f"app.models.tiny_job.{module}",
                *map(str, arguments),
            ],
            cwd=tmp_path / "theirs",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    weights, work = job.parent / "backbone" / "model.safetensors", tmp_path / "work"
    program(
        "train",
        *("--root", job.parent, "--work", work, "--weights", weights, "--quiet"),
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "the best film"}) + "\n")
    trained = work / "model.safetensors"
    answer = json.loads(program("predict", "--weights", trained, "--input", rows))
    assert answer["label"] in ("bad", "good")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, app.models.tiny_job.train; print('generator' in sys.modules)",
        ],
        cwd=tmp_path / "theirs",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_licences_are_part_of_the_package_and_sealed(job, tmp_path):
    assert vendored(job, tmp_path / "theirs", "--quiet") == 0
    folder = tmp_path / "theirs" / "tiny_job"
    page = (folder / LICENCES).read_text()
    assert (
        "apache-2.0" in page and "claim no rights" in page and "tokenizer.json" in page
    )
    lock = json.loads((folder / "gen.lock").read_text())
    assert set(lock["files"]) == {p.name for p in folder.iterdir()} - {"gen.lock"}
    assert lock["backbone"]["licence"] == "apache-2.0"


def test_a_backbone_without_a_licence_is_said_to_have_none(job, tmp_path, capsys):
    (job.parent / "backbone" / "README.md").unlink()
    assert vendored(job, tmp_path / "theirs") == 0
    assert "states no licence" in capsys.readouterr().out
    page = (tmp_path / "theirs" / "tiny_job" / LICENCES).read_text()
    assert "not stated" in page


def test_vendoring_again_writes_what_changed_alone(job, tmp_path, capsys):
    dest = tmp_path / "theirs"
    assert vendored(job, dest, "--quiet") == 0
    assert vendored(job, dest, "--json") == 0
    assert last_json(capsys.readouterr().out)["written"] == []
    job.write_text(job.read_text().replace("lr = 5e-3", "lr = 4e-3"))
    assert vendored(job, dest, "--json") == 0
    written = set(last_json(capsys.readouterr().out)["written"])
    assert {"train.py", "spec.toml", "gen.lock"} <= written
    assert "model.py" not in written and LICENCES not in written


def test_what_was_edited_there_is_kept(job, tmp_path, capsys):
    dest = tmp_path / "theirs"
    assert vendored(job, dest, "--quiet") == 0
    folder = dest / "tiny_job"
    for name in ("data.py", LICENCES):
        path = folder / name
        path.write_text(path.read_text() + "# mine\n")
    before = tree(folder)
    job.write_text(job.read_text().replace("lr = 5e-3", "lr = 4e-3"))
    assert vendored(job, dest) == 2
    said = capsys.readouterr().err
    assert said.count("G407") == 2 and "--force" in said
    assert tree(folder) == before
    assert vendored(job, dest, "--force", "--quiet") == 0
    assert b"# mine" not in tree(folder)["data.py"]


def test_an_edit_where_it_is_built_is_not_left_behind_in_silence(job, tmp_path, capsys):
    out = job.parent / "out"
    assert gen("build", job, "--out", out, "--quiet") == 0
    model = out / "tiny_job" / "model.py"
    model.write_text(model.read_text() + "# mine\n")
    assert vendored(job, tmp_path / "theirs") == 2
    assert "G405" in capsys.readouterr().err
    assert not (tmp_path / "theirs").exists()
    assert vendored(job, tmp_path / "theirs", "--force", "--quiet") == 0
    assert model.read_text().endswith("# mine\n")


def test_a_folder_of_somebody_elses_is_left_alone(job, tmp_path, capsys):
    folder = tmp_path / "theirs" / "tiny_job"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("theirs")
    assert vendored(job, tmp_path / "theirs") == 2
    assert "G406" in capsys.readouterr().err
    assert tree(folder) == {"notes.txt": b"theirs"}


def test_a_first_copy_is_there_whole_or_not_at_all(job, tmp_path, monkeypatch, capsys):
    real = vendor.building.write_if_changed

    def fails(path: Path, data: bytes) -> bool:
        if path.name == "train.py":
            raise OSError(errno.ENOSPC, "no space left on device", str(path))
        return real(path, data)

    dest = tmp_path / "theirs"
    gen("build", job, "--out", job.parent / "out", "--quiet")
    monkeypatch.setattr(vendor.building, "write_if_changed", fails)
    assert vendored(job, dest, "--quiet") == 2
    assert "no space" in capsys.readouterr().err
    assert list(dest.iterdir()) == []


def test_a_licence_is_no_markup(job, tmp_path):
    from generator.facts import Card

    card = Card("a|b\n# c", None, "<b>", {}, (), (), None, None, False)
    page = licences(card, tokenizer=False)
    assert "a\\|b \\# c" in page and "\\<b\\>" in page
    assert "tokenizer.json" not in page


def test_check_and_build_know_a_vendored_folder(job, tmp_path, capsys):
    """There the page of licences is a part of the package, not a stranger in it."""
    dest = tmp_path / "theirs"
    assert vendored(job, dest, "--quiet") == 0
    assert gen("check", job, "--out", dest) == 0
    assert "orphaned" not in capsys.readouterr().out
    job.write_text(job.read_text().replace("lr = 5e-3", "lr = 4e-3"))
    assert gen("check", job, "--out", dest, "--quiet") == 1
    assert gen("build", job, "--out", dest, "--quiet") == 0
    assert (dest / "tiny_job" / LICENCES).is_file()
    assert vendored(job, dest, "--json") == 0
    assert last_json(capsys.readouterr().out)["written"] == []


def test_a_head_can_be_insisted_on_whatever_its_labels_are_called(job, tmp_path):
    """Many checkpoints call their labels LABEL_0 and LABEL_1."""
    for head, new in (("auto", True), ("keep", False), ("new", True)):
        spec = job.read_text().replace("[backbone]", f'[backbone]\nhead = "{head}"')
        path = job.with_name(f"{head}.toml")
        path.write_text(spec.replace('name = "tiny_job"', f'name = "{head}_job"'))
        assert gen("build", path, "--out", tmp_path, "--quiet") == 0
        source = (tmp_path / f"{head}_job" / "model.py").read_text()
        assert ("classifier.label.weight" in source and "torch.randn" in source) == new


def test_a_path_that_is_good_here_alone_is_pointed_out(job, tmp_path, capsys):
    rows = str(job.parent / "rows")
    job.write_text(job.read_text().replace('"rows/', f'"{rows}/'))
    assert gen("build", job, "--out", tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "good on this machine alone" in said
