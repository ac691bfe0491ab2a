"""Nothing of the user's is lost: edits, strangers, and files when a write is cut short."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from generator.cli import main
from generator.runtime import build as building
from generator.runtime import files
from tests.building.build_support import NAME, SPEC, project, tree_of

Tree = dict[str, bytes]


class Project:
    """A spec in a folder of its own, and what the commands make of it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.spec = project(folder)
        self.out = folder / "out"
        self.package = self.out / NAME
        self.capsys = capsys

    def build(self, *more: str) -> int:
        return main(["build", str(self.spec), "--out", str(self.out), *more])

    def check(self) -> tuple[int, dict[str, str]]:
        self.capsys.readouterr()
        code = main(["check", str(self.spec), "--out", str(self.out), "--json"])
        (found,) = json.loads(self.capsys.readouterr().out)
        return code, {f["path"]: f["state"] for f in found["files"]}

    def said(self) -> str:
        out, err = self.capsys.readouterr()
        return out + err

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.spec if name == "spec" else self.package / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def tree(self) -> Tree:
        return tree_of(self.package)


@pytest.fixture
def built(tmp_path: Path, capsys) -> Project:
    made = Project(tmp_path, capsys)
    assert made.build() == 0
    assert made.check() == (0, {})
    return made


def test_every_file_is_sealed_on_its_own(built: Project):
    """Whichever file was edited, the build stops, names it and writes nothing."""
    original = built.tree()
    built.edit("spec", "5e-5", "4e-5")
    for name, data in original.items():
        if name == "gen.lock":
            continue
        path = built.package / name
        path.write_bytes(data + b"\n# mine\n")
        before = built.tree()
        assert built.build() == 2
        said = built.said()
        assert "error[G401]" in said and str(path) in said and "--force" in said
        assert built.tree() == before
        assert built.check()[1][name] == "edited"
        path.write_bytes(data)
    assert built.build() == 0


def test_an_edit_without_a_change_of_the_spec_stops_too(built: Project):
    built.edit("train.py", "LR", "RATE")
    before = built.tree()
    assert built.build() == 2
    assert built.tree() == before


def test_all_edits_are_named_at_once(built: Project):
    for name in ("model.py", "data.py", "README.md"):
        (built.package / name).write_bytes(b"mine\n")
    assert built.build() == 2
    assert built.said().count("error[G401]") == 3


def test_an_edit_in_one_package_keeps_the_others_from_being_written(
    built: Project, tmp_path: Path
):
    other = tmp_path / "other" / "other.toml"
    project(other.parent)
    (other.parent / SPEC.name).rename(other)
    text = other.read_text().replace(f'"{NAME}"', '"other_job"')
    other.write_text(text)
    (other.parent / "facts" / NAME).rename(other.parent / "facts" / "other_job")
    built.edit("model.py", "0.1", "0.2")
    # The one with the edit comes last.
    assert main(["build", str(other), str(built.spec), "--out", str(built.out)]) == 2
    assert not (built.out / "other_job").exists()


def test_force_overwrites_and_seals_anew(built: Project):
    original = built.tree()
    built.edit("model.py", "0.1", "0.2")
    (built.package / "spec.toml").write_text("mine")
    assert built.build("--force") == 0
    assert built.tree() == original
    assert built.check() == (0, {})


def test_an_edit_that_says_what_the_build_would_say_is_none(built: Project):
    """Whoever applied a change of the spec by hand, to the letter, has no conflict."""
    built.edit("spec", "lr = 5e-5", "lr = 4e-5")
    built.edit("train.py", "LR = 5e-05", "LR = 4e-05")
    assert built.check()[1]["train.py"] == "stale"
    assert built.build() == 0
    assert built.check() == (0, {})


def test_deleted_files_come_back(built: Project):
    original = built.tree()
    for name in original:
        (built.package / name).unlink()
        assert built.check() == (1, {name: "missing"})
        if name in ("model.py", "README.md", "gen.lock"):  # the rest go all at once
            assert built.build() == 0
            assert built.tree() == original, name
        (built.package / name).write_bytes(original[name])
    for name in original:
        (built.package / name).unlink()
    assert built.build() == 0
    assert built.tree() == original


def test_a_folder_without_its_lock(built: Project):
    """What says what a build would say is not edited; what does not, is."""
    original = built.tree()
    (built.package / "gen.lock").unlink()
    built.edit("data.py", "SEED", "SEED1")
    code, states = built.check()
    assert (code, states["gen.lock"], states["data.py"]) == (1, "missing", "edited")
    assert built.build() == 2
    assert built.build("--force") == 0
    assert built.tree() == original


@pytest.mark.parametrize(
    "lock",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"version": 99, "files": {}}',
     b'{"version": 1}', b'{"version": 1, "files": []}',
     b'{"version": 1, "files": {"model.py": {}}}',
     b'{"version": 1, "files": {"model.py": {"draft": 1, "seal": null}}}',
     b"<<<<<<< HEAD\n"],
)  # fmt: skip
def test_a_broken_lock_stops_everything(built: Project, lock: bytes):
    (built.package / "gen.lock").write_bytes(lock)
    before = built.tree()
    for command in ("build", "check"):
        assert main([command, str(built.spec), "--out", str(built.out)]) == 2
        said = built.said()
        assert "error[G402]" in said and "gen.lock" in said and "help:" in said
    assert built.tree() == before


def test_a_mend_is_a_command_that_a_shell_takes() -> None:
    """And it builds where the check has looked."""
    spec, default = Path("my specs/job.toml"), Path("generated")
    assert building.command(spec, default) == "gen build 'my specs/job.toml'"
    assert building.command("job.toml", Path("src/jobs"), "--force") == (
        "gen build job.toml --out src/jobs --force"
    )


def test_a_lock_with_both_sides_of_a_merge(built: Project):
    """git leaves such a one wherever two branches have built. Either side will do: what
    git has merged in the other files is what a build says, and no edit."""
    lock = built.package / "gen.lock"
    first, *lines = whole = lock.read_text().splitlines(keepends=True)
    sides = ["<<<<<<< HEAD\n", *lines, "=======\n", *lines, ">>>>>>> other\n"]
    lock.write_text("".join([first, *sides]))
    assert main(["check", str(built.spec), "--out", str(built.out)]) == 2
    said = built.said()
    assert "both sides of a merge" in said and f"git checkout --ours {lock}" in said
    # The side that was built before the other one has changed model.py.
    model = built.package / "model.py"
    sealed = hashlib.sha256(model.read_bytes()).hexdigest()
    old = "".join(whole).replace(sealed, "0" * 64)
    draft = json.loads("".join(whole))["files"]["model.py"]["draft"]
    lock.write_text(old.replace(draft, "1" * 64))
    before = model.read_bytes()
    assert built.build() == 0
    assert model.read_bytes() == before


def test_what_an_earlier_build_wrote_and_this_one_does_not(built: Project):
    """A package whose facts had a reference, which they no longer have."""
    reference = built.spec.parent / "facts" / NAME / "reference.safetensors"
    reference.write_bytes(b"a fixture")
    assert built.build() == 0
    assert (built.package / reference.name).read_bytes() == b"a fixture"
    reference.unlink()
    assert built.check() == (1, {reference.name: "orphaned"})
    (built.package / reference.name).write_bytes(b"edited")
    assert built.check() == (1, {reference.name: "edited"})
    assert built.build() == 2
    (built.package / reference.name).write_bytes(b"a fixture")
    assert built.build() == 0
    assert "removed reference.safetensors" in built.said()
    assert not (built.package / reference.name).exists()
    assert built.check() == (0, {})


def test_a_stranger_is_reported_and_left_alone(built: Project):
    stranger = built.package / "notes" / "mine.txt"
    stranger.parent.mkdir()
    stranger.write_text("mine")
    assert built.check() == (1, {"notes/mine.txt": "orphaned"})
    assert built.build() == 0
    assert "left alone" in built.said()
    assert built.build("--force") == 0
    assert stranger.read_text() == "mine"


def test_byte_code_is_no_stranger(built: Project):
    cache = built.package / "__pycache__"
    cache.mkdir()
    (cache / "model.cpython-311.pyc").write_bytes(b"")
    assert built.check() == (0, {})


def test_check_names_the_command_that_mends_each_state(built: Project):
    (built.package / "data.py").unlink()
    (built.package / "stranger.txt").write_text("mine")
    built.edit("model.py", "0.1", "0.2")
    built.edit("spec", "5e-5", "4e-5")
    built.said()
    assert main(["check", str(built.spec), "--out", str(built.out)]) == 1
    lines = {
        Path(line.split(": ")[0]).name: line.split(": ", 1)[1]
        for line in built.said().splitlines()
    }
    mend = f"gen build {built.spec} --out {built.out}"
    assert lines["data.py"] == f"missing; {mend}"
    assert lines["train.py"] == f"stale; {mend}"
    assert lines["model.py"].startswith("edited; ") and "--force" in lines["model.py"]
    assert lines["stranger.txt"].startswith("orphaned; remove it")
    assert "predict.py" not in lines


def test_check_writes_nothing_and_tells_bad_input_apart(built: Project, tmp_path: Path):
    built.edit("spec", "5e-5", "4e-5")
    before = tree_of(tmp_path)
    assert built.check()[0] == 1
    assert tree_of(tmp_path) == before
    built.edit("spec", "4e-5", '"fast"')
    assert main(["check", str(built.spec), "--out", str(built.out)]) == 2
    assert "error[G" in built.said()
    assert main(["check", str(tmp_path / "none.toml"), "--out", str(built.out)]) == 2


def test_a_lock_of_other_templates_is_stale(built: Project):
    path = built.package / "gen.lock"
    lock = json.loads(path.read_text())
    lock["templates"] = "0" * 64
    path.write_text(json.dumps(lock, indent=1) + "\n")
    assert built.check() == (1, {"gen.lock": "stale"})
    assert built.build() == 0
    assert built.check() == (0, {})


# ------------------------------------------------------------------- writes cut short


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_error_while_writing_leaves_whole_files(
    built: Project, monkeypatch: pytest.MonkeyPatch, after: int
):
    old = built.tree()
    built.edit("spec", "lr = 5e-5", "lr = 4e-5\nepochs = 2")
    built.edit("spec", "epochs = 1\n", "")
    replaced: list[Any] = []
    real = os.replace

    def failing(source: Any, target: Any) -> None:
        if len(replaced) == after:
            raise OSError(28, "No space left on device", str(target))
        replaced.append(target)
        real(source, target)

    monkeypatch.setattr(files.os, "replace", failing)
    assert built.build() == 2
    said = built.said()
    assert "error[G403]" in said and "No space left on device" in said
    monkeypatch.undo()
    mixed = built.tree()
    assert not [name for name in mixed if name.startswith(".")], "a temporary is left"
    assert built.build() == 0  # what it wrote itself is no edit by hand
    assert built.check() == (0, {})
    _old_or_new_tree(mixed, old, built.tree())


def _old_or_new_tree(mixed: Tree, old: Tree, new: Tree) -> None:
    assert mixed.keys() == old.keys()
    for name, data in mixed.items():
        assert data in (old[name], new[name]), f"{name} is neither old nor new"


@pytest.mark.parametrize("at", ["write", "replace"])
def test_a_killed_build_leaves_whole_files(built: Project, at: str):
    """The process ends in the middle of its second file, without a chance to clean up."""
    old = built.tree()
    built.edit("spec", "5e-5", "4e-5")
    killed = f"""
import os, sys
from generator.runtime import files
calls = []
if {at!r} == "replace":
    real = os.replace
    def replace(source, target):
        calls.append(target)
        os._exit(9) if len(calls) == 2 else real(source, target)
    files.os.replace = replace
else:
    real = os.fdopen
    def fdopen(*args):
        calls.append(args)
        stream = real(*args)
        if len(calls) == 2:
            stream.write(b"half a file")
            stream.flush()
            os._exit(9)
        return stream
    files.os.fdopen = fdopen
from generator.cli import main
main({["build", str(built.spec), "--out", str(built.out)]!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", killed], env={**os.environ}, check=False
    )
    assert done.returncode == 9
    mixed = built.tree()
    assert any(name.startswith(".") for name in mixed)
    assert built.build() == 0
    new = {n: d for n, d in built.tree().items() if not n.startswith(".")}
    for name, data in mixed.items():
        if not name.startswith("."):
            assert data in (old[name], new[name]), f"{name} is neither old nor new"
    states = built.check()[1]
    assert set(states.values()) == {"orphaned"}  # the temporary file, which is named


# --------------------------------------------------------- places that cannot be written


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys, monkeypatch):
    spec = project(tmp_path)
    monkeypatch.setattr(building.os, "access", lambda path, mode: False)
    assert main(["build", str(spec), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "error[G403]" in said and str(tmp_path) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path, capsys):
    spec = project(tmp_path)
    (tmp_path / "out").mkdir(mode=0o555)
    assert main(["build", str(spec), "--out", str(tmp_path / "out")]) == 2
    assert "error[G403]" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["out", "out/deep", f"out/{NAME}"])
def test_a_file_where_a_folder_goes(tmp_path: Path, capsys, place: str):
    spec = project(tmp_path)
    file = tmp_path / ("out" if place == "out/deep" else place)
    file.parent.mkdir(exist_ok=True)
    file.write_text("a file")
    out = tmp_path / ("out/deep" if place == "out/deep" else "out")
    assert main(["build", str(spec), "--out", str(out)]) == 2
    assert "error[G403]" in capsys.readouterr().err
    assert file.read_text() == "a file"


def test_a_folder_where_a_file_goes(built: Project):
    (built.package / "model.py").unlink()
    (built.package / "model.py").mkdir()
    before = built.tree()
    assert built.build() == 2
    assert "error[G403]" in built.said()
    assert built.tree() == before


def test_a_link_is_replaced_and_what_it_names_is_not_touched(
    built: Project, tmp_path: Path
):
    """A file that was made a link, to where somebody keeps an edit."""
    mine = tmp_path / "mine.py"
    mine.write_text("mine")
    (built.package / "model.py").unlink()
    (built.package / "model.py").symlink_to(mine)
    assert built.build() == 2
    assert built.build("--force") == 0
    assert mine.read_text() == "mine"
    assert built.check() == (0, {})
