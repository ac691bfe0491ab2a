"""Building, checking, vendoring and comparing, through the command line."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from generator.cli import main
from generator.compile import compile, draft
from generator.errors import GenError
from generator.runtime.build import facts_for, load_spec
from generator.spec import read_spec

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = REPOSITORY / "specs" / "movie_sentiment.toml"
NAME = "movie_sentiment"
PAYLOADS = [
    'a"b', "a'b", '"""', "'''", "a\\", "\\", "\\N{BULLET}", "{{ view }}", "{% if %}",
    "{# x #}", "{x}", "{", "}", "%s", "$x", "__import__('os').system('x')", "# comment",
    "self", "torch", "class", "None", "True", "Model", "import", "lambda", "<b>x</b>",
    "`x`", "|", "[x](y)", "a b", "é", "日本語", "\u202eabc", "\u2066x", "\u200b",
    "\u2028", "\ufeff", "f'{x}'", "b'x'", "r\\x", "\\x41", "\\u0041", "0", "-1",
    "x" * 500, "a\rb", "a\nb", "a\x00b", "*", "~", "${x}", "; rm", "&amp;", "a\tb",
]  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the example's spec and facts; the data stays where it is."""
    shutil.copy(SPEC, tmp_path / SPEC.name)
    facts = tmp_path / "facts" / NAME
    shutil.copytree(REPOSITORY / "specs" / "facts" / NAME, facts)
    return tmp_path


def build(project: Path, *more: str) -> int:
    spec, out = str(project / SPEC.name), str(project / "out")
    return main(["build", spec, "--out", out, "--quiet", *more])


def check(project: Path, capsys) -> tuple[int, dict[str, str]]:
    capsys.readouterr()
    out = str(project / "out")
    code = main(["check", str(project / SPEC.name), "--out", out, "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    return code, {f["path"]: f["state"] for f in found["files"]}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_what_is_generated_is_current():
    specs = [str(p) for p in sorted((REPOSITORY / "specs").glob("*.toml"))]
    out = str(REPOSITORY / "generated")
    assert main(["check", *specs, "--out", out, "--quiet"]) == 0
    names = {load_spec(Path(p)).spec.name for p in specs}
    assert {p.name for p in (REPOSITORY / "generated").iterdir()} == names


def test_a_rebuild_writes_nothing_and_states_are_told_apart(project, capsys):
    assert build(project) == 0
    folder = project / "out" / NAME
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}
    assert build(project) == 0
    after = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()}
    assert before == after
    assert check(project, capsys) == (0, {})
    (folder / "data.py").unlink()
    edit(folder / "model.py", "0.1", "0.2")
    (folder / "stranger.txt").write_text("mine")
    edit(project / SPEC.name, "5e-5", "4e-5")
    code, states = check(project, capsys)
    assert code == 1
    assert states["data.py"] == "missing"
    assert states["model.py"] == "edited"
    assert states["train.py"] == "stale"
    assert states["stranger.txt"] == "orphaned"


def test_an_edit_stops_the_build_and_force_overwrites_it(project, capsys):
    assert build(project) == 0
    folder = project / "out" / NAME
    edit(folder / "model.py", "0.1", "0.2")
    edit(project / SPEC.name, "5e-5", "4e-5")
    before = {p: p.read_bytes() for p in folder.iterdir()}
    assert build(project) == 2
    assert "model.py was edited by hand" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert build(project, "--force") == 0
    assert "0.2" not in (folder / "model.py").read_text()
    assert check(project, capsys) == (0, {})


def test_renaming_a_label_changes_only_lines_that_say_so(project):
    spec_file = load_spec(project / SPEC.name)
    facts = facts_for(spec_file)
    old = compile(spec_file, facts)
    text = spec_file.text.replace('"positive"', '"good"')
    new = compile(read_spec(text, spec_file.file), facts)
    for name in old:
        if name == "gen.lock":
            continue
        lines = old[name].splitlines(), new[name].splitlines()
        changed = [(a, b) for a, b in zip(*lines, strict=True) if a != b]
        assert all(b"positive" in a and b"good" in b for a, b in changed), name


def test_the_same_bytes_whatever_surrounds_the_build(project):
    trees = []
    for i, (seed, zone, language) in enumerate(
        [("0", "UTC", "C"), ("7", "Asia/Tokyo", "de_DE.UTF-8")]
    ):
        out = project / f"out{i}"
        out.mkdir()
        (out / "pyproject.toml").write_text("[tool.black]\nline-length = 40\n")
        variables = {"PYTHONHASHSEED": seed, "TZ": zone, "LANG": language}
        subprocess.run(
            [sys.executable, "-m", "generator", "build", str(project / SPEC.name),
             "--out", str(out), "--quiet"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
            cwd=out if i else project,
            umask=0o077 if i else 0o022,
            check=True,
        )  # fmt: skip
        trees.append({p.name: p.read_bytes() for p in (out / NAME).iterdir()})
    assert trees[0] == trees[1]


def test_building_loads_no_heavy_module(project):
    code = (
        "import sys; from generator.cli import main; "
        f"main(['build', {str(project / SPEC.name)!r}, '--out', {str(project)!r}]); "
        "print(sorted({'torch', 'transformers', 'numpy', 'libcst', "
        "'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def bland(tree: ast.AST) -> str:
    """A syntax tree without its constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = None
    return ast.dump(tree)


@pytest.mark.parametrize(
    "line",
    [
        'labels = ["negative", {}]',
        "text = {}",
        "label = {}",
        'train = {} ',
    ],
)
def test_no_string_of_a_spec_becomes_code(line):
    """Each string field with each payload: refused, or the same syntax tree."""
    spec_file = load_spec(SPEC)
    facts = facts_for(spec_file)
    key = line.partition(" =")[0]
    old = next(x for x in spec_file.text.splitlines() if x.startswith(f"{key} ="))

    def trees(value: str) -> dict[str, str]:
        quoted = json.dumps(value, ensure_ascii=False)
        text = spec_file.text.replace(old, line.replace("{}", quoted))
        drafts = draft(read_spec(text, "spec.toml"), facts).drafts
        return {d.path: bland(ast.parse(d.data)) for d in drafts if d.python}

    end = ".csv" if key == "train" else ""
    want = trees("plain" + end)
    accepted = 0
    for payload in PAYLOADS:
        try:
            got = trees(payload + end)
        except GenError:
            continue
        accepted += 1
        assert got == want, payload
    assert len(PAYLOADS) >= 40 and accepted >= 10


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_string_of_a_checkpoint_becomes_code(payload):
    spec_file = load_spec(SPEC)
    facts = facts_for(spec_file)

    def trees(value: str) -> dict[str, str]:
        card = replace(facts.card, licence=value)
        drafts = draft(spec_file, replace(facts, card=card)).drafts
        return {d.path: bland(ast.parse(d.data)) for d in drafts if d.python}

    assert trees(payload) == trees("mit")


def test_rendering_needs_no_architectures(project, tmp_path):
    """`gen opt | gen render` on the imported text: the same bytes, archs/ deleted."""
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "generator", copy / "generator", ignore=ignore)
    shutil.copytree(REPOSITORY / "templates", copy / "templates")
    spec_file = load_spec(project / SPEC.name)
    compiled = draft(spec_file, facts_for(spec_file))
    from generator.ir.text import print_job

    (copy / "job.gir").write_text(print_job(compiled.imported), encoding="utf-8")
    for path in (copy / "generator" / "archs").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    run = [sys.executable, "-m", "generator"]
    shaped = subprocess.run(
        [*run, "opt", "job.gir"], cwd=copy, capture_output=True, check=True
    )
    subprocess.run(
        [*run, "render", "-", "--out", "done"], cwd=copy, input=shaped.stdout, check=True
    )
    assert build(project) == 0
    for path in sorted((copy / "done").iterdir()):
        assert path.read_bytes() == (project / "out" / NAME / path.name).read_bytes()


def test_no_architecture_is_named_outside_its_folder():
    import re

    from generator import archs

    names = {t for n in archs.names() for t in (n, *archs.module(n).MODEL_TYPES)}
    # Code of a published formula is named after it; an import path is no branch.
    word = re.compile(rf"\b({'|'.join(sorted(names))})\b", re.IGNORECASE)
    for folder in ("generator/passes", "generator/render", "templates"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".j2"):
                text = path.read_text(encoding="utf-8")
                text = text.replace("Llama 3.1", "").replace('"llama3"', "")
                assert not word.findall(text), path


def test_a_vendored_package_imports_and_keeps_edits(project, capsys):
    parent = project / "theirs" / "inner"
    assert main(["vendor", str(project / SPEC.name), str(parent), "--quiet"]) == 0
    for folder in (parent.parent, parent):
        (folder / "__init__.py").write_text("")
    code = f"import theirs.inner.{NAME} as p; print(len(p.Model().state_dict()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 50
    assert (parent / NAME / "LICENCES.md").read_text().startswith("# Licences")
    edit(parent / NAME / "model.py", "0.1", "0.2")
    edit(project / SPEC.name, "5e-5", "4e-5")
    assert main(["vendor", str(project / SPEC.name), str(parent), "--quiet"]) == 2
    assert "edited by hand" in capsys.readouterr().err


def test_diff_tells_what_a_change_does(project, capsys):
    other = project / "other.toml"
    shutil.copy(project / SPEC.name, other)
    same = main(["diff", str(project / SPEC.name), str(other), "--json"])
    assert same == 0 and json.loads(capsys.readouterr().out)["same"]
    edit(other, '"positive"]', '"positive", "neutral"]')
    edit(other, "5e-5", "4e-5")
    assert main(["diff", str(project / SPEC.name), str(other), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["train.lr"] == [5e-5, 4e-5]
    assert found["reshaped"]["classifier.label.weight"] == [[2, 384], [3, 384]]
    assert not found["loads"]
    assert main(["diff", str(project / SPEC.name), str(other)]) == 1
    assert "an old checkpoint does not load" in capsys.readouterr().out


def test_imports_go_one_way():
    """archs, passes and render know the IR and not each other; only runtime is heavy."""
    below = {
        "ir": {"ir", "errors"},
        "archs": {"archs", "ir", "errors"},
        "passes": {"passes", "ir", "errors"},
        "render": {"render", "ir", "errors", "cost"},
        "spec": {"spec", "ir", "errors", "codes"},
    }
    heavy = {"torch", "transformers", "huggingface_hub", "safetensors", "numpy"}
    for path in sorted((REPOSITORY / "generator").rglob("*.py")):
        parts = path.relative_to(REPOSITORY / "generator").parts
        layer = parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == "generator":
                    names = [f"generator.{a.name}" for a in node.names]
            for name in names:
                top = name.split(".")
                if layer != "runtime":
                    assert top[0] not in heavy, f"{path} imports {name}"
                if layer in below and top[0] == "generator" and len(top) > 1:
                    assert top[1] in below[layer], f"{path} imports {name}"
