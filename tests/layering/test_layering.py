"""What may import what, and who may touch a file: read off the source of the compiler.

    cli, runtime -> compile -> spec, archs, passes, render -> ir, facts, cost -> errors
    cli, runtime -> propose -> spec

Imports inside functions count like those at the top.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from generator import archs

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "generator"
ANYTHING = {
    "archs", "arguments", "checks", "cli", "codes", "compile", "cost", "errors", "facts",
    "freezing", "importing", "ir", "lessons", "listing", "locking", "notes", "parser", "passes",
    "propose", "pruning", "render", "runtime", "saved", "search", "spec", "teacher", "vocab",
}  # fmt: skip
# By layer, the other parts of the compiler that it may import.
MAY: dict[str, set[str]] = {
    "errors": set(),
    "codes": set(),
    "ir": {"errors"},
    "facts": {"errors"},
    "vocab": {"facts", "errors"},
    "cost": {"ir", "errors"},
    "spec": {"ir", "errors", "codes"},
    "archs": {"ir", "errors"},
    "passes": {"ir", "errors"},
    "render": {"ir", "errors", "cost"},
    "lessons": {"spec", "ir", "errors"},
    "teacher": {"spec", "passes", "ir", "errors"},
    "pruning": {"arguments", "spec", "facts", "errors"},
    "arguments": {"spec", "passes", "facts", "vocab", "ir", "errors"},
    "saved": {"archs", "passes", "facts", "ir", "errors"},
    "importing": {"archs", "spec", "facts", "vocab", "ir", "errors"},
    "checks": {"spec", "ir", "errors"},
    "freezing": {"spec", "ir", "errors"},
    "notes": {"passes", "facts", "ir"},
    "locking": set(),
    "compile": {
        "arguments",
        "checks",
        "cost",
        "errors",
        "facts",
        "freezing",
        "importing",
        "ir",
        "lessons",
        "locking",
        "notes",
        "passes",
        "pruning",
        "render",
        "saved",
        "spec",
        "teacher",
        "vocab",
    },
    "propose": {"spec", "ir", "errors"},
    "search": {"spec", "ir", "errors"},
    "listing": {"archs", "passes", "spec", "ir", "codes"},
    "parser": set(),
    "runtime": ANYTHING - {"cli", "parser"},
    "cli": ANYTHING,
    "__main__": {"cli"},
    "__init__": set(),
}
HEAVY = {
    "torch", "transformers", "huggingface_hub", "safetensors", "tokenizers", "numpy",
    "matplotlib", "rich", "PIL", "pyarrow", "sklearn", "scipy", "optuna", "sqlalchemy",
}  # fmt: skip
# What the compiler below cli and runtime may import beside itself.
PURE = {
    "__future__", "abc", "ast", "bisect", "collections", "dataclasses", "datetime", "difflib",
    "enum", "functools", "hashlib", "importlib", "itertools", "json", "keyword", "math",
    "operator", "pkgutil", "re", "string", "struct", "sys", "textwrap", "tomllib", "types",
    "typing", "unicodedata", "black", "jinja2", "tree_sitter", "tree_sitter_toml",
}  # fmt: skip
# A name, and the modules that may use it: reading templates; paths that are only text.
EXCEPTIONS = {
    ("render/text.py", "pathlib"),  # reads the templates
    ("render/loader.py", "os.path"),  # commonprefix, of strings
    ("spec/rules.py", "re2"),  # what it refuses no package could count
}
# Calls that read, write, start or connect.
TOUCHING = {"open", "input", "print", "exec", "eval", "__import__", "breakpoint"}
METHODS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rename",
    "rmdir", "rmtree", "iterdir", "rglob", "glob", "stat", "exists", "is_file", "is_dir",
    "system", "popen", "getenv", "urlopen", "chmod", "symlink_to", "touch",
}  # fmt: skip
# Parts of the compiler that cost nothing to load.
LIGHT = {"generator.errors", "generator.parser"}
# A command line of its own, for the documents that are written from the dataclasses.
COMMANDS = {"spec/__main__.py"}


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the compiler by its path in it."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(PACKAGE.rglob("*.py"))
        if "_templates" not in path.parts
    }


def layer_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imported(file: str) -> Iterator[str]:
    """Full names of all that a module imports, members of packages included."""
    for node in ast.walk(sources()[file]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def pure() -> list[str]:
    """Modules below cli and runtime."""
    above = ("cli", "parser", "runtime", "__main__")
    return [f for f in sources() if layer_of(f) not in above and f not in COMMANDS]


def test_the_table_has_every_part():
    assert {layer_of(file) for file in sources()} == set(MAY)


def test_imports_go_one_way():
    for file in sources():
        own = layer_of(file)
        for name in imported(file):
            top, _, rest = name.partition(".")
            part = rest.split(".")[0]
            if top == "generator" and part in MAY and part != own:
                assert part in MAY[own], f"{file} imports {name}"


def test_architectures_passes_and_rendering_do_not_know_each_other():
    apart = {"archs", "passes", "render"}
    for file in sources():
        own = layer_of(file)
        if own in apart:
            others = {f"generator.{other}" for other in apart - {own}}
            for name in imported(file):
                assert ".".join(name.split(".")[:2]) not in others, f"{file}: {name}"


def test_architectures_do_not_know_each_other():
    folders = set(archs.names())
    for file in sources():
        parts = file.split("/")
        if parts[0] == "archs":
            own = parts[1] if len(parts) > 2 else ""
            for name in imported(file):
                there = name.split(".")
                if there[:2] == ["generator", "archs"] and len(there) > 2:
                    assert there[2] not in folders - {own}, f"{file} imports {name}"


def test_only_the_runtime_imports_what_is_heavy():
    for file in sources():
        for name in imported(file):
            if name.split(".")[0] in HEAVY:
                assert layer_of(file) == "runtime", f"{file} imports {name}"


def test_the_command_line_loads_a_runtime_only_when_it_is_asked_for():
    """Beside the standard library the top of cli.py has errors and arguments alone."""
    for node in sources()["cli.py"].body:
        if isinstance(node, ast.ImportFrom):
            names = {node.module or ""}
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        else:
            continue
        for name in names:
            mine = name.split(".")[0] == "generator"
            assert not mine or name in LIGHT, f"cli.py imports {name}"


def test_the_runtime_imports_torch_and_its_like_inside_functions():
    """So that a build, which uses a part of the runtime, does not pay for them."""
    for file in (
        "build",
        "files",
        "gather",
        "hub",
        "headers",
        "checkpoint",
        "tokenizer",
    ):
        for node in sources()[f"runtime/{file}.py"].body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names]
                first = getattr(node, "module", None) or names[0]
                assert first.split(".")[0] not in HEAVY, f"runtime/{file}.py: {first}"


def test_nothing_below_imports_what_reaches_outside():
    for file in pure():
        for name in imported(file):
            top = name.split(".")[0]
            allowed = top in PURE | {"generator"} or any(
                file == where and name.startswith(what) for where, what in EXCEPTIONS
            )
            assert allowed, f"{file} imports {name}"


def test_nothing_below_reads_writes_or_prints():
    for file in pure():
        for node in ast.walk(sources()[file]):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            if isinstance(function, ast.Name):
                assert (
                    function.id not in TOUCHING
                ), f"{file}:{node.lineno} {function.id}"
            elif isinstance(function, ast.Attribute) and file != "render/text.py":
                assert function.attr not in METHODS, f"{file}:{node.lineno}"


def test_templates_are_read_and_nothing_else():
    """render/text.py may look at files of templates, never write one."""
    writing = {"write_text", "write_bytes", "mkdir", "unlink", "open", "touch"}
    for node in ast.walk(sources()["render/text.py"]):
        if isinstance(node, ast.Attribute):
            assert node.attr not in writing


def test_nothing_depends_on_the_clock_or_on_chance():
    """Below cli and runtime: no time, no random numbers, no variables of the place."""
    for file in pure():
        for name in imported(file):
            top = name.split(".")[0]
            assert top not in {
                "time",
                "random",
                "secrets",
                "uuid",
                "locale",
                "platform",
            }
        for node in ast.walk(sources()[file]):
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"environ", "getcwd", "now", "today"}, file


def test_no_architecture_is_named_by_passes_rendering_and_templates():
    """Neither a folder of archs/ nor a model_type that one answers to, as a word."""
    names = {t for n in archs.names() for t in (n, *archs.module(n).MODEL_TYPES)}
    assert {"bert", "roberta", "vit", "llama", "xlm-roberta"} <= names
    word = re.compile(rf"(?<![\w-])({'|'.join(sorted(names))})(?![\w-])", re.IGNORECASE)
    files = [
        path
        for folder in ("generator/passes", "generator/render", "templates")
        for path in sorted((REPOSITORY / folder).rglob("*"))
        if path.suffix in (".py", ".j2")
    ]
    assert len(files) > 50
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = word.findall(line)
            assert not found, f"{path.relative_to(REPOSITORY)}:{number} names {found}"


def test_passes_and_rendering_do_not_ask_for_the_architecture():
    """`backbone.architecture` is for messages and the oracle."""
    for file in sources():
        if layer_of(file) in ("passes", "render"):
            for node in ast.walk(sources()[file]):
                if isinstance(node, ast.Attribute):
                    assert node.attr not in ("architecture", "model_type"), file


@pytest.mark.parametrize("file", ["cli.py"])
def test_the_command_line_is_thin(file: str):
    """Each command is a function of few lines, and nothing there is deeply nested."""
    for node in ast.walk(sources()[file]):
        if isinstance(node, ast.FunctionDef) and node.name != "parser":
            assert (node.end_lineno or 0) - node.lineno < 50, node.name
    assert len((PACKAGE / file).read_text().splitlines()) < 520


def test_templates_choose_and_repeat_and_do_not_compute():
    """No arithmetic, no assignment, no macro: a view is finished when a template has it."""
    import jinja2
    from jinja2 import nodes

    banned = (nodes.Assign, nodes.AssignBlock, nodes.Macro, nodes.CallBlock, nodes.Import,
              nodes.FromImport, nodes.Extends, nodes.Mul, nodes.Div, nodes.FloorDiv,
              nodes.Mod, nodes.Pow, nodes.Sub)  # fmt: skip
    environment = jinja2.Environment()
    environment.filters.update(py=str, prose=str, markdown=str)
    of_runs = {"report.md.j2", "report.html.j2"}
    for path in sorted((REPOSITORY / "templates").rglob("*.j2")):
        if path.name in of_runs:
            continue
        tree = environment.parse(path.read_text(encoding="utf-8"))
        for kind in banned:
            found = list(tree.find_all(kind))
            assert not found, f"{path.name}:{found and found[0].lineno} {kind.__name__}"
