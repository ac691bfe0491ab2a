"""No string of a spec or of a checkpoint becomes code, markup or a line of its own.

Drafts with a hostile string are compared with those of the same job with bland strings,
by their syntax trees without constants; the model card by its tree of Markdown.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from generator.compile import draft, finished
from generator.errors import GenError
from generator.facts import CardTensor, Facts
from generator.ir.text import parse_job, print_job
from generator.render.package import render_package
from generator.render.text import markdown, prose, py
from generator.runtime.licences import licences
from generator.spec import read_spec
from tests.building.build_support import (
    drafts_of,
    image_facts,
    shape_of,
    spec_text,
    text_facts,
)

PAYLOADS = [
    # Quotes and backslashes
    'a"b', "a'b", "'\"", '"""', "'''", '"""\nimport os\n"""', '")\nimport os #', "a\\",
    "\\", "\\\\", '\\"', "\\'", '\\"""', "r\\x", "\\x41", "\\u0041", "\\N{BULLET}",
    "\\n", "\\\n",
    # Ends of lines and what else cannot be seen
    "a\rb", "a\nb", "a\r\nb", "a\x00b", "a\tb", "a\x0bb", "a\x0cb", "a\x1bb[31m",
    "a\x85b", "a\u2028b", "a\u2029b", "a\u200bb", "a\u200db", "a\ufeffb", "a\u202eb",
    "a\u2066b\u2069", "a\u00adb", "a\u00a0b", "\ud800", "\ue000", "\U0010ffff",
    # Templates and formats
    "{{ view }}", "{{ 7 * 7 }}", "{% if %}", "{% raw %}", "{# x #}", "#}", "%}", "{x}",
    "{", "}", "{{", "{x!r:>{y}}", "{i}", "{p}", "{at}", "%s", "%(x)d", "%", "%%", "$x",
    "${x}", "$(id)", "`id`", "f'{x}'", "b'x'",
    # Code
    "__import__('os').system('x')", "# comment", "x  # noqa", "; import os", "a=b",
    "self", "torch", "class", "None", "True", "Model", "Config", "import", "lambda",
    "print", "nn", "F", "view", "0", "-1", "1e9", "nan", "...", "@x", "*x", "**",
    # Markup
    "<b>x</b>", "<!-- x", "<script>", "&amp;", "&lt;", "&#60;", "`x`", "```", "|", "a|b",
    "[x](y)", "![x](y)", "[x]: y", "<http://x.org>", "# x", "> x", "- x", "+ x", "* x",
    "1. x", "2) x", "---", "***", "___", "===", "~~~", "~~x~~", "_x_", "**x**", ":x:",
    # Length and scripts
    "x" * 900, "x " * 400 + "x", "é", "日本語", "🙂", "مرحبا", "e\u0301", "İ", "ﬁ",
]  # fmt: skip
# Fields of one job that may hold the payload at the same time, and what they say else.
# `{}` stands for the payload: what must differ from another field says so around it.
TEXT_FIELDS = {
    "labels.0": "{}",
    "labels.1": "2{}",
    "backbone.from": "{}",
    "data.train": "{}.csv",
    "data.valid": "v{}.csv",
    "data.test": "t/{}.csv",
    "data.text": "{}",
    "data.label": "2{}",
    "data.clean.missing.0": "{}",
}
PAIR_FIELDS = {
    "labels.0": "{}",
    "labels.1": "2{}",
    "backbone.from": "models/{}",
    "data.train": "a/{}.jsonl",
    "data.valid": "{}/b.csv",
    "data.text.0": "{}",
    "data.text.1": "2{}",
    "data.label": "3{}",
    "features.numeric.0": "4{}",
    "features.categorical.0": "5{}",
    "features.dates.0": "6{}",
    "features.patterns.0": "7{}",
}
SEPARATOR_FIELDS = {  # alone: no label may hold it
    "data.separator": "{}",
    "data.train": "a/{}.csv",
    "data.text": "{}",
    "data.label": "2{}",
}
REGRESSION_FIELDS = {
    "labels.0": "{}",
    "labels.1": "2{}",
    "data.train": "{}.parquet",
    "data.text": "{}",
    "data.label.0": "1{}",
    "data.label.1": "2{}",
}
IMAGE_FIELDS = {
    "labels.0": "{}",
    "labels.1": "2{}",
    "backbone.from": "./{}",
    "data.train": "{}.csv",
    "data.image": "{}",
    "data.label": "2{}",
}
JOBS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "text": (TEXT_FIELDS, {"task": "text-classification"}),
    "pair": (PAIR_FIELDS, {"task": "multi-label"}),
    "separator": (SEPARATOR_FIELDS, {"task": "multi-label", "labels": ["one", "two"]}),
    "regression": (REGRESSION_FIELDS, {"task": "regression"}),
    "image": (IMAGE_FIELDS, {"task": "image-classification"}),
}
Shape = dict[str, Any]


def facts_of(job: str) -> Facts:
    return image_facts() if job == "image" else text_facts()


def bland_text(job: str, **other: str) -> str:
    """The spec of a job with bland strings but for `other`."""
    fields, fixed = JOBS[job]
    plain = {key: form.replace("{}", "plain") for key, form in fields.items()}
    plain = {"name": "a_job", "backbone.from": "models/plain", **plain}
    chosen = {key: other.get(key, value) for key, value in plain.items()}
    lists: dict[str, Any] = {}
    for key, value in chosen.items():
        stem, _, last = key.rpartition(".")
        if last.isdigit():
            lists.setdefault(stem, []).append(value)
        else:
            lists[key] = value
    extra = {k: v for k, v in other.items() if k not in chosen}
    return spec_text({**fixed, **lists, **extra})


def shapes(drafts: Any) -> Shape:
    """The shape of each file; a string that became code or markup makes it another."""
    found: Shape = {}
    for one in drafts:
        if one.python:
            found[one.path] = shape_of(one.data)
        elif one.path == "README.md":
            found[one.path] = card_shape(one.data.decode())
    return found


@functools.lru_cache(maxsize=512)
def card_shape(text: str) -> list[str]:
    """The kinds of Markdown's tokens, and how many lines there are."""
    parser = MarkdownIt("commonmark", {"linkify": False}).enable("table")
    kinds: list[str] = [str(text.count("\n"))]
    for token in parser.parse(text):
        kinds.append(token.type)
        kinds += [inner.type for inner in token.children or [] if inner.type != "text"]
    return [kind for kind in kinds if kind != "text_special"]


def accepted(job: str, field: str, value: str) -> bool:
    """Whether the spec is taken with this one value; else it is refused, with a place."""
    try:
        read_spec(bland_text(job, **{field: value}), "spec.toml")
    except GenError as error:
        assert all(d.code and d.message for d in error.diagnostics)
        return False
    return True


def assert_inert(job: str, values: dict[str, str], want: Shape) -> None:
    got = shapes(drafts_of(bland_text(job, **values), facts_of(job)))
    if got == want:
        return
    for field, value in values.items():  # which one was it?
        alone = shapes(drafts_of(bland_text(job, **{field: value}), facts_of(job)))
        bad = [name for name in want if alone.get(name) != want[name]]
        assert not bad, f"{field} = {value!r} changes {', '.join(bad)}"
    raise AssertionError(f"together, {values} change the output")


@pytest.mark.parametrize("job", JOBS)
def test_strings_of_a_spec_are_inert_or_refused(job: str):
    """Every payload in every free string of a job; those that are taken go together."""
    fields = JOBS[job][0]
    want = shapes(drafts_of(bland_text(job), facts_of(job)))
    taken = dict.fromkeys(fields, 0)
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 40
    # The other jobs have half of them, since they are the same code but for the task.
    chosen = PAYLOADS if job == "text" else PAYLOADS[::2]
    for payload in chosen:
        values = {field: form.replace("{}", payload) for field, form in fields.items()}
        try:
            read_spec(bland_text(job, **values), "spec.toml")
        except GenError:  # some are refused: the others go on
            values = {f: v for f, v in values.items() if accepted(job, f, v)}
        for field in values:
            taken[field] += 1
        if values:
            assert_inert(job, values, want)
    # What refuses nearly everything would make this test an empty one.
    assert all(n >= 40 for f, n in taken.items()), taken


@pytest.mark.parametrize(
    ("field", "form", "code"),
    [
        ("name", "{}", {"G009", "G001", "G002", "G016"}),
        ("backbone.from", "hf:owner/name@{}", {"G015", "G001", "G002", "G016"}),
        ("backbone.from", "hf:{}/name@main", {"G015", "G001", "G002", "G016"}),
        ("backbone.from", "package:mod/{}", {"G015", "G001", "G002", "G016"}),
        ("backbone.from", "package:{}/x", {"G015", "G001", "G002", "G016"}),
        ("train.freeze", "{}", {"G017", "G001", "G002", "G016", "G222"}),
    ],
)
def test_strings_of_narrow_fields_are_refused_or_inert(
    field: str, form: str, code: set
):
    want = shapes(drafts_of(bland_text("text"), text_facts()))
    refused = 0
    for payload in PAYLOADS:
        value: Any = form.replace("{}", payload)
        value = [value] if field == "train.freeze" else value
        try:
            got = drafts_of(bland_text("text", **{field: value}), text_facts())
        except GenError as error:
            refused += 1
            assert {d.code for d in error.diagnostics} <= code, payload
            continue
        assert (
            payload.isascii()
            and payload.replace(".", "").isidentifier()
            or ("package:" in form or "hf:" in form)
        )
        # A source of the hub or of a package has one line of source of its own.
        assert set(shapes(got)) == set(want)
    assert refused >= 40


@pytest.mark.parametrize(
    "key",
    ["task", "backbone.head", "train.schedule", "train.class_weights", "target.device",
     "target.precision"],
)  # fmt: skip
def test_choices_take_no_other_string(key: str):
    for payload in PAYLOADS:
        with pytest.raises(GenError):
            read_spec(bland_text("text", **{key: payload}), "spec.toml")


@pytest.mark.parametrize(
    "name",
    ["x", "c", "f", "nn_x", "model", "data", "labels", "forward", "tensor", "view"],
)
def test_a_name_that_shadows_is_a_word_like_any_other(name: str):
    want = shapes(drafts_of(bland_text("text"), text_facts()))
    got = shapes(drafts_of(bland_text("text", name=name), text_facts()))
    assert got == want


def with_strings(payload: str) -> Facts:
    """Facts with a payload wherever a checkpoint has a string of its own choice."""
    facts = text_facts()
    card = facts.card
    tensors = [
        *card.tensors,
        CardTensor(f"cls.{payload}", "F32", (7,), card.tensors[0].file),
        CardTensor(f"qa_outputs.{payload}", "F32", (7,), card.tensors[0].file),
        CardTensor("qa_outputs.second", "F32", (7,), card.tensors[0].file),
    ]
    config = {
        **card.config,
        "_name_or_path": payload,
        "architectures": [payload],
        "transformers_version": payload,
        "finetuning_task": payload,
        "id2label": {"0": payload, "1": "2" + payload},
        "label2id": {payload: 0},
    }
    card = replace(
        card,
        revision=payload,
        licence=payload,
        config=config,
        tensors=tuple(sorted(tensors, key=lambda t: t.key)),
        tokenizer_config={"tokenizer_class": payload, "name_or_path": payload},
    )
    return Facts(card, None, {payload: payload, f"{payload} 2": 0.5}, None)


def test_strings_of_a_checkpoint_are_inert_or_refused():
    text = bland_text("text")
    want = shapes(drafts_of(text, with_strings("plain")))
    taken = 0
    for payload in PAYLOADS:
        try:
            got = shapes(drafts_of(text, with_strings(payload)))
        except GenError as error:
            # A line break in a tensor's name matches no name that is known.
            assert {d.code for d in error.diagnostics} <= {"G205"}, payload
            card = replace(
                with_strings(payload).card, tensors=text_facts().card.tensors
            )
            got = shapes(drafts_of(text, Facts(card, None, {payload: payload}, None)))
            card = replace(
                with_strings("plain").card, tensors=text_facts().card.tensors
            )
            bland = drafts_of(text, Facts(card, None, {"plain": "plain"}, None))
            assert got == shapes(bland), payload
            continue
        taken += 1
        bad = [name for name in want if got[name] != want[name]]
        assert not bad, f"{payload!r} changes {bad}"
    assert taken >= 80


def test_a_head_named_by_the_checkpoint_is_inert():
    """Labels that agree with id2label have the checkpoint's own head loaded."""

    def facts(first: str, second: str) -> Facts:
        card = text_facts().card
        file = card.tensors[0].file
        more = (
            CardTensor("classifier.bias", "F32", (2,), file),
            CardTensor("classifier.weight", "F32", (2, 384), file),
        )
        config = {**card.config, "id2label": {"0": first, "1": second}}
        config["architectures"] = ["BertForSequenceClassification"]
        tensors = tuple(sorted((*card.tensors, *more), key=lambda t: t.key))
        return Facts(replace(card, config=config, tensors=tensors), None, None, None)

    want = shapes(drafts_of(bland_text("text"), facts("plain", "2plain")))
    new = shapes(drafts_of(bland_text("text"), facts("plain", "three")))
    assert want != new  # the head is loaded in the one, started afresh in the other
    for payload in PAYLOADS:
        values = {"labels.0": payload, "labels.1": "2" + payload}
        if not all(accepted("text", k, v) for k, v in values.items()):
            continue
        text = bland_text("text", **values)
        assert shapes(drafts_of(text, facts(*values.values()))) == want, payload


def test_the_titles_and_words_of_a_model_are_inert():
    """What an architecture names: never a user's, and held to the same."""
    facts = text_facts()
    text = bland_text("text", **{"backbone.from": facts.card.source})
    job = draft(read_spec(text, "spec.toml"), facts).job

    def changed(word: str) -> Shape:
        model = job.model
        docs = [replace(m, doc=word) for m in model.modules]
        consts = [replace(c, doc=word) for c in model.consts]
        dims = [replace(d, doc=word if d.doc else "") for d in model.dims]
        unused = [replace(u, reason=word) for u in model.unused]
        model = replace(
            model,
            title=word,
            modules=tuple(docs),
            consts=tuple(consts),
            dims=tuple(dims),
            unused=tuple(unused),
        )
        printed = print_job(replace(job, model=model))
        return shapes(render_package(parse_job(printed), None))

    want = changed("plain")
    for payload in PAYLOADS:
        if payload.isprintable() and prose(payload):
            assert changed(payload) == want, payload


# ------------------------------------------------------------------ the filters alone


@pytest.mark.parametrize("payload", PAYLOADS)
def test_filters_hold_by_themselves(payload: str):
    assert ast.literal_eval(py(payload)) == payload
    assert py(payload).isprintable()  # a terminal or a viewer shows what is there
    words = prose(payload)
    assert len(words.splitlines()) <= 1 and words.isprintable()
    source = f'"""{words} x"""\nx = 1  # {words}\n'
    tree = ast.parse(source)
    assert len(tree.body) == 2
    shown = markdown(payload)
    assert len(shown.splitlines()) <= 1
    want = card_shape("0. plain\n\n| a | b |\n|---|---|\n| plain | x |\n\nplain x\n")
    got = card_shape(
        f"0. {shown}\n\n| a | b |\n|---|---|\n| {shown} | x |\n\n{shown} x\n"
    )
    if shown:  # an empty item is one without a paragraph
        assert got == want, shown


def test_licences_of_a_vendored_package_gain_no_line():
    want = card_shape(licences(with_strings("mit").card, tokenizer=True))
    for payload in PAYLOADS:
        got = licences(with_strings(payload).card, tokenizer=True)
        assert card_shape(got) == want, payload


# ------------------------------------------------------------------------ and it runs


def test_the_commands_of_a_hostile_package_show_their_help(
    tmp_path: Path, capsys, monkeypatch
):
    """argparse formats its help with %, and would trip over a path that has one."""
    values = {
        "name": "hostile_strings",
        "labels.0": 'a"""\\',
        "labels.1": "{x} %s %(prog)d",
        "backbone.from": "100% {x} %(prog)d \\ '\"",
        "data.train": "%s {x}\\.csv",
        "data.text": "te\"xt'''",
        "data.label": "%(prog)d",
    }
    folder = tmp_path / "hostile_strings"
    folder.mkdir()
    for one in drafts_of(bland_text("text", **values), text_facts()):
        (folder / one.path).write_bytes(finished(one))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("train", "predict", "bench", "test_model"):
        module = importlib.import_module(f"hostile_strings.{name}")
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as end:
            module.main(["--help"]) if name != "test_model" else module.main()
        assert end.value.code == 0, name
        assert "usage:" in capsys.readouterr().out
    assert importlib.import_module("hostile_strings").LABELS == (
        'a"""\\',
        "{x} %s %(prog)d",
    )
    assert argparse  # the modules above use it
