"""`gen run`, whole: a tiny job is built, trained, certified, measured and reported."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from runtime_support import (
    cells,
    gen,
    last_json,
    tiny_llama,
    write_job,
    write_photos,
)
from safetensors.torch import load_file, save_file

from generator.runtime import certify, gather, measure, report
from generator.runtime.programs import Programs

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    spec: Path
    out: Path
    work: Path
    figures: dict[str, Any]

    @property
    def package(self) -> Path:
        return self.out / "tiny_job"

    def arguments(self) -> list[str]:
        where = [str(self.spec), "--out", str(self.out), "--work", str(self.work)]
        return ["run", *where]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[Ran]:
    """A run with its bench, which leaves transformers out: that takes half a minute."""
    folder = tmp_path_factory.mktemp("run")
    cleaning = "[data.clean]\nhtml = true\nwhitespace = true\n\n[train]"
    spec = write_job(folder, edit={"[train]": cleaning})
    out, work = folder / "out", folder / "work"
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(measure, "installed", lambda name: False)
        patch.setattr(measure, "SHORT_ROUNDS", 1)  # each starts a process
        code = gen("run", spec, "--out", out, "--work", work, "--json")
    assert code == 0
    yield Ran(spec, out, work, last_json(output.getvalue()))


@pytest.fixture
def ran(finished: Ran, tmp_path: Path) -> Ran:
    """A copy of the finished run, to spoil."""
    return copied(finished, tmp_path / "run")


def copied(ran: Ran, folder: Path) -> Ran:
    there = ran.spec.parent
    shutil.copytree(there, folder)
    spec, out, work = (
        folder / p.relative_to(there) for p in (ran.spec, ran.out, ran.work)
    )
    return replace(ran, spec=spec, out=out, work=work)


@pytest.fixture(scope="module")
def certified(finished: Ran, tmp_path_factory) -> Ran:
    """A copy of the run whose package has its reference."""
    made = copied(finished, tmp_path_factory.mktemp("certified") / "run")
    output = io.StringIO()
    with redirect_stdout(output):
        assert gen("certify", *made.arguments()[1:], "--json") == 0
    return replace(made, figures=last_json(output.getvalue()))


def test_json_has_what_the_stages_wrote(finished):
    figures, work = finished.figures, finished.work
    result = json.loads((work / "result.json").read_text())
    assert figures["test"] == result["test"]
    assert figures["valid"] == result["valid"]
    assert figures["training"]["steps"] == 16
    assert figures["training"]["rows"] == 64
    assert figures["not_used"] == {"unknown label 'neither'": 1}
    assert figures["cleaning"]["used"]["train"] == 64
    assert figures["cleaning"]["rewritten"].keys() == {"html", "whitespace"}
    assert figures["certificate"] == json.loads((work / "certificate.json").read_text())
    assert figures["bench"] == json.loads((work / "bench.json").read_text())
    assert json.loads((work / "run.json").read_text()) == figures
    assert {"build", "count", "train", "data", "probe", "certificate", "bench"} == set(
        figures["seconds"]
    )
    probe = figures["probe"]
    assert probe == json.loads((work / "probe.json").read_text())
    assert probe["rows"] == {"train": 64, "valid": 32, "test": 32}
    # All test rows are compared, so that the trained model is as good as it said.
    assert probe["second"] == pytest.approx(figures["test"]["accuracy"])
    assert all(len(value) == 64 for value in figures["hashes"].values())
    assert figures["environment"]["threads"] >= 1


def test_what_was_predicted_is_what_torch_counts(finished):
    told, counted = finished.figures["predicted"], finished.figures["counted"]
    for name in ("parameters", "forward_flops", "backward_flops"):
        assert told[name] == counted[name]


def test_every_check_that_could_run_holds(finished):
    checks = finished.figures["certificate"]
    assert all(check["holds"] for check in checks)
    assert sum(check["measured"] is not None for check in checks) >= 8


def test_nothing_but_source_lies_in_the_package(finished):
    names = {p.name for p in finished.package.iterdir()} - {"__pycache__"}
    lock = json.loads((finished.package / "gen.lock").read_text())
    assert names == {*lock["files"], "gen.lock"}


class Page(HTMLParser):
    """What a page loads, and the cells of its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action", "poster", "srcset"):
                self.loads.append(value or "")
        if tag in ("td", "th"):
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


def parsed(work: Path) -> tuple[Page, str]:
    text = (work / "report.html").read_text()
    page = Page()
    page.feed(text)
    return page, text


def test_the_page_needs_nothing_beside_it(finished):
    page, text = parsed(finished.work)
    assert all(address.startswith("#") for address in page.loads)
    assert not page.tags & {"script", "link", "iframe", "img", "object", "embed"}
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert text.count("<svg") == 2
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    used = re.findall(r'(?:href="|url\()#([^")]+)', text)
    assert used and set(used) <= set(names)


def test_both_reports_have_the_same_figures(finished):
    page, _ = parsed(finished.work)
    text = re.sub(r"\\(.)", r"\1", (finished.work / "report.md").read_text())
    there = [" ".join(c.split()) for c in page.cells]
    words = {w for c in cells(text) for w in [" ".join(c.split())]}
    assert not [c for c in there if c and c not in words]
    facts = re.findall(r"<dd>(.*?)</dd>", parsed(finished.work)[1])
    assert len(facts) >= 3 and set(facts) <= words


def test_json_has_every_figure_of_the_report(finished, tmp_path):
    """The report is made again from the JSON alone, and the losses for the curves."""
    shutil.copy(finished.work / "metrics.jsonl", tmp_path)
    report.write(finished.figures, tmp_path)
    for name in ("report.html", "report.md"):
        assert (tmp_path / name).read_bytes() == (finished.work / name).read_bytes()


def test_examples_of_rewrites_are_no_markup(finished, tmp_path):
    shutil.copy(finished.work / "metrics.jsonl", tmp_path)
    one = {
        "file": "a|b.csv",
        "line": 2,
        "before": "<script>x</script>  y",
        "after": "y",
    }
    cleaning = {**finished.figures["cleaning"], "examples": {"html": [one]}}
    report.write({**finished.figures, "cleaning": cleaning}, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert (
        "<script" not in page
        and "&lt;script&gt;x" in page
        and "Rows in and out" in page
    )
    text = (tmp_path / "report.md").read_text()
    assert "a\\|b" in text and "<script" not in text.replace("\\<", "")


def test_labels_are_no_markup(finished, tmp_path):
    shutil.copy(finished.work / "metrics.jsonl", tmp_path)
    figures = {**finished.figures, "labels": ["<script>alert(1)</script>", "a|b"]}
    report.write(figures, tmp_path)
    assert "<script" not in (tmp_path / "report.html").read_text()
    assert "a\\|b" in (tmp_path / "report.md").read_text()


def test_a_second_run_is_refused_and_told_how_to_go_on(ran, capfd):
    before = (ran.work / "result.json").read_bytes()
    assert gen(*ran.arguments(), "--no-bench") == 1
    said = capfd.readouterr().err
    assert "holds a run" in said
    assert "G509" in said and "--resume" in said and "--fresh" in said
    assert (ran.work / "result.json").read_bytes() == before


def test_resume_does_no_finished_stage_again(ran, capsys, monkeypatch):
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"run again: {arguments}")

    monkeypatch.setattr(Programs, "module", never)
    assert gen(*ran.arguments(), "--resume") == 0
    shown = capsys.readouterr()
    assert "train: finished before" in shown.err
    assert f"{ran.figures['test']['accuracy']:.4f}" in shown.out
    for words in ("Confusion matrix", "Certificate", "Training steps", "report.html"):
        assert words in shown.out
    assert "Against a linear probe" in shown.out and "Linear probe: " in shown.out


def test_fresh_puts_the_earlier_run_aside(ran, capsys):
    assert gen(*ran.arguments(), "--fresh", "--no-bench", "--probe=off", "--quiet") == 0
    assert capsys.readouterr().out == ""
    (aside,) = ran.work.glob("before-*")
    assert (aside / "result.json").is_file()
    figures = json.loads((ran.work / "run.json").read_text())
    assert figures["bench"] is None
    assert figures["probe"] is None
    text = (ran.work / "report.md").read_text()
    assert "Speed" not in text and "linear probe" not in text
    assert figures["test"] == ran.figures["test"]  # the same seed, the same run


def test_record_makes_figures_facts_and_shows_them_in_the_model_card(ran, capsys):
    card = ran.package / "README.md"
    assert "Nothing is recorded yet" in card.read_text()
    assert gen(*ran.arguments(), "--resume", "--record", "--json") == 0
    figures = last_json(capsys.readouterr().out)
    assert "README.md" in figures["recorded"]
    facts = ran.spec.parent / "facts" / "tiny_job" / gather.MEASURED
    measured = json.loads(facts.read_text())
    assert measured["Test accuracy"] == figures["test"]["accuracy"]
    assert f"{measured['Test accuracy']:.4g}" in card.read_text()
    assert gen("check", ran.spec, "--out", ran.out, "--quiet") == 0
    assert gen(*ran.arguments(), "--resume", "--record", "--json") == 0
    assert last_json(capsys.readouterr().out)["recorded"] == []


def test_without_record_no_fact_and_no_file_of_the_package_changes(ran):
    def tree() -> dict[Path, bytes]:
        folders = (ran.spec.parent / "facts", ran.package)
        files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
        return {p: p.read_bytes() for p in files if "__pycache__" not in p.parts}

    before = tree()
    assert gen(*ran.arguments(), "--resume", "--quiet") == 0
    assert tree() == before


def test_a_check_that_fails_is_exit_code_1_and_nothing_is_recorded(
    certified, tmp_path, capsys
):
    ran = copied(certified, tmp_path / "run")
    folder = ran.spec.parent / "facts" / "tiny_job"
    stored = folder / gather.REFERENCE
    wrong = {name: tensor + 1 for name, tensor in load_file(stored).items()}
    save_file(wrong, stored)
    code = gen(*ran.arguments(), "--resume", "--no-bench", "--record", "--json")
    shown = capsys.readouterr()
    assert code == 1
    figures = last_json(shown.out)
    failed = [c["name"] for c in figures["certificate"] if not c["holds"]]
    assert failed and all("stored" in name for name in failed)
    assert "G513" in shown.err and figures["recorded"] == []
    assert 'class="bad"' in (ran.work / "report.html").read_text()
    assert "| NO |" in (ran.work / "report.md").read_text()


def test_a_certificate_without_an_answer_is_a_check_that_fails(
    ran, capsys, monkeypatch
):
    (ran.work / "certificate.json").unlink()

    def crash(self: Programs, module: str, *arguments: Any, **options: Any):
        assert module == "test_model"
        return self.python("-c", "import sys; print('['); sys.exit(3)", output="keep")

    monkeypatch.setattr(Programs, "module", crash)
    assert gen(*ran.arguments(), "--resume", "--json") == 1
    shown = capsys.readouterr()
    assert "G510" in shown.err and "exit code 3" in shown.err
    (check,) = last_json(shown.out)["certificate"]
    assert not check["holds"]


def test_an_edited_file_stops_the_run(ran, capsys):
    model = ran.package / "model.py"
    model.write_text(model.read_text() + "# mine\n")
    assert gen(*ran.arguments(), "--resume") == 2
    assert "G401" in capsys.readouterr().err
    assert model.read_text().endswith("# mine\n")


def test_other_weights_than_the_facts_stop_the_run(ran, capsys, monkeypatch):
    weights = ran.spec.parent / "backbone" / "model.safetensors"
    save_file({k: t + 1 for k, t in load_file(weights).items()}, weights)
    monkeypatch.setattr(Programs, "module", None)
    assert gen(*ran.arguments(), "--resume") == 2
    assert "G151" in capsys.readouterr().err


def test_what_cannot_be_meant_is_said_before_anything_starts(tmp_path, capsys):
    spec, out = write_job(tmp_path), tmp_path / "out"
    where = ("run", spec, "--out", out)
    assert gen(*where, "--resume", "--fresh") == 2
    assert "G506" in capsys.readouterr().err
    assert not out.exists()
    assert gen(*where, "--work", out / "tiny_job" / "runs") == 2
    assert "G505" in capsys.readouterr().err


def test_a_job_for_a_device_that_is_not_there(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    spec = write_job(tmp_path)
    spec.write_text(spec.read_text() + '\n[target]\ndevice = "cuda"\n')
    assert gen("run", spec, "--out", tmp_path / "out", "--work", tmp_path / "w") == 2
    said = capsys.readouterr().err
    assert "G504" in said and 'device = "cuda"' in said
    assert not (tmp_path / "w").exists()


def test_rows_that_are_not_there_are_the_programs_own_error(tmp_path, capfd):
    spec = write_job(tmp_path)
    (tmp_path / "rows" / "test.csv").unlink()
    code = gen(
        "run", spec, "--out", tmp_path / "out", "--work", tmp_path / "w", "--json"
    )
    shown = capfd.readouterr()
    assert code == 1
    assert "test.csv" in shown.err and "Traceback" not in shown.err
    assert last_json(shown.out)["stage"] == "train"


def test_a_signal_stops_and_saves(tmp_path):
    """SIGTERM to gen reaches train.py, whose exit code and checkpoint come through."""
    spec = write_job(tmp_path, edit={"epochs = 2": "epochs = 3000"})
    work = tmp_path / "work"
    command = [sys.executable, "-m", "generator", "run", str(spec), "--no-bench"]
    command += ["--out", str(tmp_path / "out"), "--work", str(work), "--json"]
    child = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = work / "metrics.jsonl"
    while not metrics.is_file() or metrics.stat().st_size <= 2000:
        assert child.poll() is None, child.communicate()
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    output, said = child.communicate(timeout=600)
    assert child.returncode == 75, said
    assert "G507" in said and "--resume" in said
    assert last_json(output) | {"exit": 75, "stage": "train"} == last_json(output)
    assert list((work / "checkpoints").glob("*.safetensors"))
    assert not (work / "result.json").exists()


def test_certify_stores_the_reference_once(certified, capsys):
    first = certified.figures
    assert first["reference_written"]
    stored = [c for c in first["checks"] if "stored" in c["name"]]
    assert stored and all(c["measured"] is not None for c in stored)
    assert any(c["name"] == "tokenizer, all samples" for c in first["checks"])
    there = certified.spec.parent / "facts" / "tiny_job" / gather.REFERENCE
    assert (certified.package / gather.REFERENCE).read_bytes() == there.read_bytes()
    where = (certified.spec, "--out", certified.out)
    assert gen("check", *where, "--quiet") == 0
    assert gen("certify", *certified.arguments()[1:], "--json") == 0
    assert not last_json(capsys.readouterr().out)["reference_written"]


def test_references_that_differ_in_the_last_digits_are_the_same(tmp_path):
    import torch

    def stored(name: str, values: torch.Tensor) -> bytes:
        save_file({"logits": values}, tmp_path / name)
        return (tmp_path / name).read_bytes()

    values = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    old = stored("a", values)
    assert certify.same(old, stored("b", values * (1 + 1e-14)))
    assert not certify.same(old, stored("c", values * (1 + 1e-9)))
    assert not certify.same(old, stored("d", values[:, :1]))
    assert not certify.same(b"damaged", old)


def test_a_decoder_runs(tmp_path, capsys):
    spec = write_job(tmp_path, config=tiny_llama())
    where = ("--out", tmp_path / "out", "--work", tmp_path / "work")
    assert gen("run", spec, *where, "--no-bench", "--json") == 0
    found = last_json(capsys.readouterr().out)
    told, counted = found["predicted"], found["counted"]
    assert told["parameters"] == counted["parameters"]
    # torch counts the pairs too that a causal attention leaves out, and that is said.
    assert told["causal"] and told["forward_flops"] < counted["forward_flops"]
    assert "causal" in (tmp_path / "work" / "report.md").read_text()


def test_a_row_of_images_is_an_image(tmp_path, capsys):
    spec, out, work = write_photos(tmp_path), tmp_path / "out", tmp_path / "work"
    assert gen("build", spec, "--out", out) == 0
    built = capsys.readouterr().out
    assert "to predict an image (" in built and "tokens" not in built
    assert gen("run", spec, "--out", out, "--work", work, "--no-bench", "--quiet") == 0
    text = (work / "report.md").read_text()
    assert "Memory is of a batch of 8 images" in text and " tokens" not in text
    card = (out / "tiny_photos" / "README.md").read_text()
    assert "the column file, the path of an image" in card


def test_the_run_of_another_job_is_not_gone_on_with(ran, capfd):
    """The two recipes and shapes are the same, and the labels mean something else."""
    other = ran.spec.with_name("other_job.toml")
    text = ran.spec.read_text().replace("tiny_job", "other_job")
    other.write_text(text)
    where = ("--out", ran.out, "--work", ran.work, "--no-bench")
    assert gen("run", other, *where, "--resume") == 1
    said = capfd.readouterr().err
    assert "the checkpoint is of tiny_job " in said and "G509" in said


def test_places_that_cannot_be_written(tmp_path, capsys):
    spec, out = write_job(tmp_path), tmp_path / "out"
    (tmp_path / "file").touch()
    where = ("run", spec, "--out", out, "--no-bench", "--probe=off", "--quiet")
    assert gen(*where, "--work", tmp_path / "file") == 2
    said = capsys.readouterr().err
    assert "G403" in said and "--work" in said and said.endswith("\n")
    (tmp_path / "work" / "report.html").mkdir(parents=True)
    assert gen(*where, "--work", tmp_path / "work") == 2
    said = capsys.readouterr().err
    assert "G403" in said and "report.html" in said


@pytest.mark.parametrize(
    "wrong",
    [("--rows", "0"), ("--rounds", "-1"), ("--rows", "x"), ("--tokens-per-row", "1")],
)
def test_a_bench_of_nothing_is_refused_before_it_starts(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        gen("bench", tmp_path / "none.toml", *wrong)
    assert ended.value.code == 2
    assert f"gen bench: error: argument {wrong[0]}" in capsys.readouterr().err


def test_the_job_as_imported_is_input_of_passes(tmp_path, capsys):
    spec = write_job(tmp_path)
    assert gen("dump", spec, "--after", "import") == 0
    file = tmp_path / "job.gir"
    file.write_text(capsys.readouterr().out)
    assert gen("opt", file) == 0
    passed = capsys.readouterr().out
    assert gen("dump", spec) == 0
    assert capsys.readouterr().out == passed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "decoder", "images"])
def test_bench_beside_transformers(kind, tmp_path, capsys):
    if kind == "images":
        spec = write_photos(tmp_path)
    else:
        spec = write_job(tmp_path, config=tiny_llama() if kind == "decoder" else None)
    where = ("--out", tmp_path / "out", "--work", tmp_path / "work")
    options = ("--rows", "16", "--rounds", "1", "--json", "--quiet")
    assert gen("bench", spec, *where, *options) == 0
    found = last_json(capsys.readouterr().out)
    contenders = {spec.stem, "transformers, defaults", "transformers, best"}
    for work in ("train", "predict", "one row"):
        assert set(found[work]) == contenders
        assert all(f["examples_per_s"]["median"] > 0 for f in found[work].values())
    assert found["cold_start_of_theirs"]["median"] > 0
