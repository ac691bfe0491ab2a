"""How a package's programs are started, and what becomes of signals and of failures."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from generator.runtime import measure, state, tables
from generator.runtime import programs as starting
from generator.runtime.figures import parts_of
from generator.runtime.plots import smooth
from generator.runtime.programs import Programs


@pytest.fixture(scope="module", autouse=True)
def cold() -> Iterator[None]:
    """Programs start as they do for users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting, "subprocess", subprocess)
        yield


PRINT_PATH = "import sys, json; print(json.dumps(sys.path))"


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    package = tmp_path / "here" / "thing"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "say.py").write_text("import sys\nprint('said', *sys.argv[1:])\n")
    return Programs(tmp_path / "here", "thing")


def test_a_package_is_found_and_the_folder_it_starts_in_is_not(
    programs, tmp_path, monkeypatch
):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    ended = programs.python("-c", PRINT_PATH, output="keep")
    assert ended.code == 0
    path = json.loads(ended.output)
    assert str(programs.parent.resolve()) in path
    assert "" not in path and str(tmp_path) not in path
    assert programs.module("say", "a", Path("b"), output="keep").output == "said a b\n"


def test_exit_codes_are_those_of_a_shell(programs):
    assert programs.python("-c", "import sys; sys.exit(75)").code == 75
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert programs.python("-c", kill).code == 137


def test_quiet_says_nothing_unless_it_fails(programs, capfd):
    quiet = Programs(programs.parent, programs.name, quiet=True)
    talk = "import sys; print('note', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    quiet.python("-c", talk, "0")
    assert capfd.readouterr().err == ""
    quiet.python("-c", talk, "4")
    assert capfd.readouterr().err == "note\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_go_to_the_program_and_handlers_come_back(programs, number, tmp_path):
    ready = tmp_path / "ready"
    wait = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(30)\n"
    )

    def send() -> None:
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    threading.Thread(target=send).start()
    ended = programs.python("-c", wait, ready, saves=True)
    assert (ended.code, ended.stopped) == (75, True)
    assert signal.getsignal(number) is handler
    ready.unlink()
    threading.Thread(target=send).start()
    with pytest.raises(KeyboardInterrupt):
        programs.python("-c", wait, ready)


def test_a_stage_is_finished_only_for_the_same_package(tmp_path):
    result = tmp_path / "result.json"
    stages = state.Stages(tmp_path, "key", resume=False)
    with stages.timed("train"):
        result.write_text("{}")
    stages.finish("train")
    assert not stages.finished("train", result)  # not asked to resume
    again = state.Stages(tmp_path, "key", resume=True)
    assert again.finished("train", result)
    assert again.seconds == stages.seconds
    assert not again.finished("bench", result)
    assert not state.Stages(tmp_path, "other", resume=True).finished("train", result)
    result.unlink()
    assert not again.finished("train", result)
    (tmp_path / state.FILE).write_text("not json")
    result.write_text("{}")
    assert not again.finished("train", result)


def test_a_stage_that_raises_is_not_timed(tmp_path):
    stages = state.Stages(tmp_path, "key", resume=False)
    with pytest.raises(RuntimeError), stages.timed("train"):
        raise RuntimeError
    assert stages.seconds == {}


def test_losses_in_parts_cover_every_step():
    steps = [(n, float(n)) for n in range(1, 24)]
    parts = parts_of(steps)
    assert len(parts) == 10
    assert (parts[0]["from"], parts[-1]["to"]) == (1, 23)
    assert all(a["to"] + 1 == b["from"] for a, b in itertools.pairwise(parts))
    assert parts_of([]) == []
    assert parts_of(steps[:1]) == [{"from": 1, "to": 1, "loss": 1.0}]


def test_smoothing_keeps_a_constant_and_the_length():
    assert smooth([2.0] * 7, 2) == [2.0] * 7
    assert smooth([0.0, 3.0], 1) == [1.5, 1.5]


def test_cells_in_words():
    assert tables.seconds(0.5) == "0.50 s"
    assert tables.seconds(61) == "61.0 s"
    assert tables.seconds(150) == "2 min 30 s"
    spread = {"median": 2.0, "low": 1.0, "high": 3.0}
    assert tables.spread(spread) == "2.0 [1.0, 3.0]"
    assert tables.score_name({"loss": 1.0, "pearson": 0.5}) == "pearson"
    names = ("accuracy", "macro_f1", "pearson", "mse")
    words = ["accuracy", "macro F1", "Pearson's r", "mean squared error"]
    assert [tables.within(name) for name in names] == words


def test_no_matter_where_gen_runs_the_python_is_its_own(programs):
    show = "import sys; print(sys.executable)"
    assert programs.python("-c", show, output="keep").output.strip() == sys.executable


def test_installed_does_not_import():
    assert measure.installed("json")
    assert not measure.installed("no_such_module_anywhere")


def test_a_table_of_many_labels_or_reasons_has_the_first_of_them() -> None:
    """A matrix of 13 labels fits no terminal; reasons may be as many as bad rows."""
    labels = [f"label {i}" for i in range(13)]
    matrix = [
        [5 * (i == k) + (k == i + 1) * (i + 1) for k in range(13)] for i in range(13)
    ]
    few = {
        "labels": labels[:12],
        "test": {"confusion": [row[:12] for row in matrix[:12]]},
    }
    shown = tables.by_label(few)
    assert shown is not None and len(shown.head) == 13 and shown.rows[0][1] == "5"
    shown = tables.by_label({"labels": labels, "test": {"confusion": matrix}})
    assert shown is not None and len(shown.rows) == 12
    assert shown.rows[0] == ("label 11", "label 12", "12")
    diagonal = [[int(i == k) for k in range(13)] for i in range(13)]
    nothing = tables.by_label({"labels": labels, "test": {"confusion": diagonal}})
    assert nothing is None

    reasons = {f"unknown label {i}": 1 + (i == 7) for i in range(1000)}
    found = tables.not_used({"not_used": reasons})
    assert len(found.rows) == tables.MOST_REASONS + 1
    assert found.rows[0] == ("unknown label 7", "2")
    assert found.rows[-1] == ("988 other reasons", "988")
