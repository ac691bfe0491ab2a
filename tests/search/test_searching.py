"""`gen search` on tiny jobs: whole searches, killed ones, and workers of one database."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_support import tiny_bert, write_job

SEARCH = """
[search]
objectives = ["metric", "parameters"]
space = "none"
trials = 2
rungs = [0.5, 1.0]
seeds = 1
points = 1

[[search.vary]]
key = "edit"
choices = [[], [{ do = "keep-layers", n = 1 }], [{ do = "keep-layers", n = 9 }]]

[[search.vary]]
key = "train.lr"
low = 1e-3
high = 1e-2
"""


def job(folder: Path, **edit: str) -> Path:
    path = write_job(folder, config=tiny_bert(num_hidden_layers=2), rows=32)
    text = SEARCH
    for name, value in edit.items():
        text = text.replace(f"{name} = ", f"{name} = {value}  # ", 1)
    path.write_text(path.read_text() + text)
    return path


def command(path: Path, *more: str) -> list[str]:
    work = path.parent / "work"
    own = [sys.executable, "-m", "generator", "search", str(path), "--work", str(work)]
    return [*own, "--quiet", *more]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def run(path: Path, *more: str) -> dict[str, Any]:
    ended = subprocess.run(
        command(path, *more),
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert not ended.returncode, ended.stderr
    return json.loads((path.parent / "work" / "search.json").read_text())


@pytest.mark.slow
def test_a_search_from_a_spec_to_a_tested_front(tmp_path: Path) -> None:
    path = job(tmp_path / "a")
    process = subprocess.Popen(command(path, "--jobs", "2"), env=environment())
    # The workers and then the search itself are killed, in the middle of trials.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    trials = path.parent / "work" / "trials"
    while len([*trials.glob("*/spec.toml")]) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    workers = [int(pid) for pid in children.read_text().split()]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    time.sleep(1)
    process.kill()
    process.wait()
    found = run(path)

    states = {t["number"]: t["state"] for t in found["trials"]}
    assert [*states] == [*range(len(states))]
    assert [t["baseline"] for t in found["trials"][:2]] == ["unedited", "probe"]
    assert set(states.values()) <= {"complete", "pruned", "refused", "duplicate"}
    counted = [s for n, s in states.items() if n > 1 and s in ("complete", "pruned")]
    assert found["spent"]["trials"] == len(counted) == 2
    for number, state in states.items():
        result = path.parent / "work" / "trials" / str(number) / "work" / "result.json"
        if state == "complete":
            assert "test" not in json.loads(result.read_text())
    assert 1 == len(found["front"])
    for point in found["front"]:
        folder = Path(point["folder"])
        assert {p.name for p in folder.iterdir()} >= {
            "spec.toml",
            "tiny_job",
            "model.safetensors",
            "certificate.json",
        }
        test = point["test"]["metric"]
        assert len(test["seeds"]) == 1
        assert test["mean"] == pytest.approx(test["seeds"][0])
        assert test["low"] <= test["mean"] <= test["high"]
        assert point["certificate"] == "holds"
        assert point["faster_than_transformers"]["median"] > 0

    before = {p: p.stat().st_mtime_ns for p in (path.parent / "work").rglob("*.toml")}
    again = run(path)
    after = {p: p.stat().st_mtime_ns for p in (path.parent / "work").rglob("*.toml")}
    assert before == after  # nothing was built or trained again
    assert again["trials"] == found["trials"] and again["front"] == found["front"]


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URL of a server on loopback, in a folder of its own."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), Path("/usr/local/bin")]
    found = [p for p in places if (p / "initdb").is_file() and (p / "pg_ctl").is_file()]
    pytest.importorskip("psycopg")
    if not found:
        pytest.skip("there is no PostgreSQL here")
    account: list[str] = []
    if os.getuid() == 0:  # which the server refuses to run as
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no account to run PostgreSQL as")
        account = ["runuser", "-u", "postgres", "--"]
    folder = Path("/tmp") / f"gen-search-{os.getpid()}"
    folder.mkdir()
    if account:
        shutil.chown(folder, "postgres")

    def tool(name: str, *arguments: str) -> None:
        subprocess.run(
            [*account, str(found[0] / name), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        tool("initdb", "-D", f"{folder}/data", "-U", "gen", "-A", "trust", "-N")
        options = f"-p {port} -k {folder} -h 127.0.0.1 -F"
        log, wait = f"{folder}/log", ("-w", "-t", "600")
        tool("pg_ctl", "-D", f"{folder}/data", "-l", log, "-o", options, *wait, "start")
        try:
            yield f"postgresql+psycopg://gen@127.0.0.1:{port}/postgres"
        finally:
            tool("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", *wait, "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_workers_of_one_server(tmp_path: Path, postgres: str) -> None:
    """Two searches that know of each other through PostgreSQL alone, in folders apart."""
    one, two = job(tmp_path / "one", trials="2"), job(tmp_path / "two", trials="3")
    shutil.rmtree(two.parent / "backbone")
    shutil.copytree(one.parent / "backbone", two.parent / "backbone")
    there = ("--storage", postgres)
    other = subprocess.Popen(
        command(two, *there, "--join"), env=environment(), stderr=subprocess.PIPE
    )
    found = run(one, *there, "--no-test")
    _, said = other.communicate()
    assert not other.returncode, said.decode()
    # The other may have done its third before this one wrote down what it saw.
    assert found["spent"]["trials"] in (2, 3)
    here, elsewhere = (
        {int(p.name) for p in (x.parent / "work" / "trials").glob("*")}
        for x in (one, two)
    )
    found = run(one, *there, "--no-test")
    trials = found["trials"]
    assert [t["number"] for t in trials] == [*range(len(trials))]
    assert all(t["state"] != "failed" for t in trials)
    drawn = [t for t in trials if not t["baseline"]]
    counted = [t["number"] for t in drawn if t["state"] in ("complete", "pruned")]
    assert found["spent"]["trials"] == len(counted) == 3
    # Each trial was one worker's, and the third of the one that was asked for three.
    assert here.isdisjoint(elsewhere) and here | elsewhere <= {*range(len(trials))}
    assert counted[2] in elsewhere
    assert here == {int(p.name) for p in (one.parent / "work" / "trials").glob("*")}
