"""The text form: what is printed reads back, and what is not a job says where."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generator.errors import GenError
from generator.ir.dims import f32
from generator.ir.job import Backbone, Job, Model, Op, Value
from generator.ir.plans import (
    AugmentPlan,
    CleanPlan,
    DataPlan,
    DeployPlan,
    DistillPlan,
    ExportPlan,
    FeaturePlan,
    GuardPlan,
    ImagePlan,
    Quantized,
    Range,
    StagePlan,
    TargetPlan,
    TextPlan,
    TrainPlan,
)
from generator.ir.text import parse_job, print_job
from generator.ir.verify import verify
from tests.ir.samples import TRAIN, bert_config, bert_headers, job_from, tiny_bert
from tests.ir.strategies import floats, models, texts

CASES = sorted(Path(__file__).parent.glob("cases/*.gir"))
strings = st.lists(texts, max_size=3).map(tuple)
text_plans = st.builds(
    TextPlan,
    strings,
    st.integers(),
    st.integers(),
    token_types=st.booleans(),
    tokenizer_missing=st.booleans(),
    bare=st.booleans(),
)
columns = st.tuples(texts, st.integers(0, 9), st.integers(0, 9))
pair = st.none() | st.tuples(st.integers(), st.integers())
image_plans = st.builds(
    ImagePlan,
    texts,
    pair,
    st.sampled_from(["exact", "shortest"]),
    st.sampled_from(["nearest", "lanczos", "box"]),
    pair,
    floats,
    st.tuples(floats, floats, floats),
    st.tuples(floats, floats, floats),
)
jobs = st.builds(
    Job,
    texts,
    st.sampled_from(["text-classification", "multi-label", "image-classification"]),
    strings,
    st.builds(Backbone, texts, st.none() | texts, st.none() | texts, texts),
    models,
    st.builds(
        DataPlan,
        texts,
        st.none() | texts,
        st.none() | texts,
        floats,
        floats,
        st.lists(st.sampled_from(["csv", "jsonl"]), max_size=2).map(tuple),
        text_plans | image_plans,
        strings,
        texts,
        st.just(CleanPlan())
        | st.builds(
            CleanPlan,
            unicode=st.sampled_from(["off", "NFC", "NFKC"]),
            html=st.booleans(),
            mask=st.sampled_from([(), ("url", "number")]),
            missing=strings,
            labels=st.lists(st.tuples(texts, strings), max_size=2).map(tuple),
            languages=st.sampled_from([(), ("en", "de")]),
            min_chars=st.integers(0, 99),
            levels=st.booleans(),
            alpha=st.sampled_from(["off", "white"]),
            max_pixels=st.integers(0, 99),
        ),
        guard=st.just(GuardPlan())
        | st.builds(
            GuardPlan,
            leaks=st.sampled_from(["off", "report", "quarantine"]),
            personal=st.sampled_from(["off", "redact"]),
        ),
        augment=st.just(AugmentPlan())
        | st.builds(
            AugmentPlan,
            paraphrase=floats,
            paraphrases=texts,
            span_tokens=st.integers(1, 9),
            policy=st.sampled_from(["off", "trivial", "rand"]),
            begins=texts,
        ),
        features=st.just(FeaturePlan())
        | st.builds(
            FeaturePlan,
            numeric=strings,
            dates=strings,
            text=st.sampled_from([(), ("length", "digits")]),
            patterns=strings,
            categories=st.integers(1, 99),
        ),
    ),
    st.builds(
        replace,
        st.just(TRAIN),
        lr=floats,
        class_weights=st.sampled_from(["none", "balanced"])
        | st.lists(floats, max_size=3).map(tuple),
    ),
    st.builds(
        TargetPlan,
        st.sampled_from(["cpu", "cuda"]),
        st.sampled_from(["fp32", "bf16", "fp16"]),
        st.booleans(),
    ),
    strings,
    st.sampled_from(["imported", "optimised", "shaped"]),
    stages=st.lists(
        st.builds(
            StagePlan,
            st.integers(1, 99),
            floats,
            floats,
            st.lists(texts, max_size=2).map(tuple),
            texts,
        ),
        max_size=3,
    ).map(tuple),
    distill=st.builds(
        DistillPlan,
        texts,
        floats,
        floats,
        st.integers(0, 10**9),
        floats,
        floats,
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2).map(
            tuple
        ),
        st.booleans(),
        st.integers(0, 9),
        st.integers(0, 9),
        st.lists(st.tuples(columns, columns), max_size=2).map(tuple),
    ),
    deploy=st.builds(
        DeployPlan,
        st.sampled_from(get_args(Quantized)),
        st.lists(texts, max_size=2).map(tuple),
        st.sampled_from(["fp32", "bf16"]),
        st.booleans(),
        st.sampled_from(["none", "f1", "accuracy", "balanced-accuracy"]),
        st.integers(0, 4096),
        st.sampled_from(get_args(Range)),
        st.integers(1, 10**6),
        st.booleans(),
        floats,
    ),
    export=st.builds(
        ExportPlan,
        st.lists(st.sampled_from(["onnx", "torch", "transformers"])).map(tuple),
        texts,
        st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    ),
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(jobs)
def test_any_job_reads_back(job: Job):
    text = print_job(job)
    assert parse_job(text) == job
    assert print_job(parse_job(text)) == text
    assert text.isascii()


@pytest.mark.parametrize("pair", [False, True])
def test_an_imported_job_reads_back(pair: bool):
    config = bert_config()
    job = job_from(config, bert_headers(config), pair=pair, attention_dropout=0.1)
    text = print_job(job)
    assert parse_job(text) == job
    assert print_job(parse_job(text)) == text


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_a_file_written_by_hand_is_valid_and_reads_back(path: Path):
    text = path.read_text()
    job = parse_job(text, path.name)
    verify(job)
    assert parse_job(print_job(job)) == job


def test_there_are_files_written_by_hand():
    assert len(CASES) >= 3


def test_spaces_comments_and_line_ends_do_not_matter():
    job = tiny_bert()
    lines = print_job(job).split("\n")
    spread = "\r\n".join(f"{line}  \r\n\r\n  # a remark" for line in lines)
    assert parse_job(spread) == job


def test_a_label_cannot_leave_its_line():
    evil = 'a"]\nmodule Evil() -> %x\n\\u0022 #'
    job = replace(tiny_bert(), labels=(evil, "b"))
    text = print_job(job)
    assert parse_job(text).labels == (evil, "b")
    assert "\nmodule Evil" not in text


# --------------------------------------------------------------------------- the errors


def line_of(text: str, start: str) -> int:
    return next(i for i, line in enumerate(text.split("\n")) if line.startswith(start))


def changed(start: str, old: str, new: str) -> tuple[str, int]:
    """The tiny job's text with a change in the first line that starts so."""
    lines = print_job(tiny_bert()).split("\n")
    at = line_of("\n".join(lines), start)
    assert old in lines[at], lines[at]
    lines[at] = lines[at].replace(old, new, 1)
    return "\n".join(lines), at + 1


ERRORS = [
    # line to change, from, to, the marked text, the message
    ("gir", "1", "2", "2", "this reads version 1, not 2"),
    ("gir", "1", "x", "x", "expected number, not x"),
    ("gir", "1", "1.5", "1.5", "expected a whole number, not 1.5"),
    ("gir", "1", "1 1", "1", "nothing is expected here, not 1"),
    ("job", '"tiny"', "tiny", "tiny", "expected string, not tiny"),
    ("job", '"tiny"', "", "", "expected string, not the end"),
    ("job", '"tiny"', '"t\\x"', '"t\\x"', 'not a JSON string: "t\\x"'),
    ("job", "job", "jib", "jib", 'no line starts with "jib"'),
    ("job", 'job "tiny"', "gir 1", "gir", '"gir" stands twice'),
    ("job", 'job "tiny"', "é", "é", "not a token of this language"),
    (
        "level",
        "imported",
        "raw",
        "raw",
        "no level raw; there are imported, optimised, shaped",
    ),
    (
        "task",
        "text-classification",
        "chess",
        "chess",
        "no task chess; there are text-classification, multi-label, ",
    ),
    ("labels", "[", "", "labels", "expected a JSON value"),
    ("labels", '"negative"', "1", "labels", "labels is a list of strings"),
    (
        "labels",
        '["negative", "positive"]',
        '"np"',
        "labels",
        "labels is a list of strings",
    ),
    ("plan data", "data", "dada", "dada", "there is one plan of each of "),
    ("plan data", "data", "backbone", "backbone", "there is one plan of each of "),
    ("plan data", "plan", "plam", "plam", 'no line starts with "plam"'),
    ("  epochs =", "1", "one", "epochs = one", "expected a JSON value"),
    ("model", "model", "dim X = 1", "", "expected string, not the end"),
    ("dim B", "?", '"?"', '"?"', 'expected number, not "?"'),
    ("dim B", "=", ":", ":", 'expected "=", not :'),
    ("const norm_eps", "1e-12", "small", "small", "expected number, not small"),
    ("tensor", "F32", "32", "32", "expected word, not 32"),
    ("tensor", "[12]", "[12,]", "[12,]", "not a shape: [12,]"),
    ("tensor", "[12]", "[1.5]", "[1.5]", "not a shape: [1.5]"),
    ("tensor", "[12]", "12", "12", "expected floats, not 12"),
    ("module Block0", "(", "[", "[%x: f32[B,T,C]", None),
    ("module Block0", "->", "%y", "%y", "expected arrow, not %y"),
    (
        "module Block0",
        "f32[B,T,C]",
        "f32[B,t c]",
        "f32[B,t c]",
        "not a dimension: 't c'",
    ),
    ("module Block0", "f32[B,T,C]", "f64[B,T]", "f64", "expected type, not f64"),
    ("  doc", "doc", "dog", "dog", "a module has doc, sub, param and operations"),
    ("  sub", "keys", "key", "key", 'expected "keys", not key'),
    ("  sub", '""', '"" depth x', "x", "expected number, not x"),
    ("  param", "embedding =", "table =", "table", None),
    ("  param", "ckpt", "file", "file", "no source file"),
    ("  param", "ckpt", "init uniform", "uniform", "no initialisation uniform"),
    (
        "  param",
        "ckpt",
        "rows(ckpt",
        "@backbone.from",
        'expected ")", not @backbone.from',
    ),
    ("  %", "%_.1: f32[B,T,C] =", "%_.1 =", "=", 'expected ":", not ='),
    ("  %", "embedding", "?", "?", "expected word, not ?"),
    ("  %", "(%ids)", "(%ids", "@backbone.from", 'expected ")", not @backbone.from'),
    ("  %", " @backbone", " k= @backbone", "@backbone.from", None),
    (
        "  %",
        " @backbone",
        " k=yes @backbone",
        "yes",
        "not a value of an attribute: yes",
    ),
    ("  %", " @backbone", " k=#[H,] @backbone", "#[H,]", None),
    ("  %", " @backbone", " k=[1,x] @backbone", "[1,x]", None),
    ("  %", " @backbone", " k 1 @backbone", "1", 'expected "=", not 1'),
    (
        "  %",
        "@backbone.from",
        "@backbone.from )",
        ")",
        "nothing is expected here, not )",
    ),
]


@pytest.mark.parametrize(
    "start, old, new, marked, message", ERRORS, ids=[f"{e[0]}-{e[2]}" for e in ERRORS]
)
def test_an_error_names_its_place(start, old, new, marked, message):
    text, number = changed(start, old, new)
    with pytest.raises(GenError) as caught:
        parse_job(text, "my.gir")
    (found,) = caught.value.diagnostics
    assert found.code == "G301"
    if message is not None:
        assert found.message.startswith(message)
    place = found.place
    assert place is not None and place.file == "my.gir"
    assert place.line == number
    line = text.split("\n")[number - 1]
    start_column = place.column - 1
    assert line[start_column : start_column + place.width].startswith(marked)
    if not marked:
        assert start_column == len(line)
    assert "docs/ir.md" in found.help


@pytest.mark.parametrize(
    "name, numbers, ok",
    [
        ("rows", ", 0, 1", True),
        ("rows", ", 0", False),
        ("row", "", False),
        ("row", ", 1", True),
        ("row", ", 1.5", False),
        ("transpose", "", True),
        ("transpose", ", 1", False),
    ],
)
def test_sources_take_their_own_numbers(name: str, numbers: str, ok: bool):
    text, _ = changed(
        "  param",
        'ckpt "word_embeddings.weight"',
        f'{name}(ckpt "w"{numbers})',
    )
    if ok:
        parse_job(text)
    else:
        with pytest.raises(GenError):
            parse_job(text)


def without(start: str) -> str:
    lines = print_job(tiny_bert()).split("\n")
    del lines[line_of("\n".join(lines), start)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "start, message",
    [
        ("gir", 'the job has no "gir" line'),
        ("job", 'the job has no "job" line'),
        ("level", 'the job has no "level" line'),
        ("task", 'the job has no "task" line'),
        ("labels", 'the job has no "labels" line'),
        ("model", 'the job has no "title" line'),
        ("  seed", "TrainPlan needs ['seed']"),
        ("  columns", "TextPlan needs ['columns']"),
        ("plan backbone", '"source" does not belong here, or stands twice'),
    ],
)
def test_what_is_missing_is_named(start: str, message: str):
    with pytest.raises(GenError) as caught:
        parse_job(without(start))
    assert caught.value.diagnostics[0].message == message
    assert caught.value.diagnostics[0].place is not None


def plan_with(name: str, value: object, of: str = "train") -> str:
    lines = print_job(tiny_bert()).split("\n")
    at = line_of("\n".join(lines), f"plan {of}") + 1
    stop = lines.index("", at)
    kept = [x for x in lines[at:stop] if not x.startswith(f"  {name} = ")]
    lines[at:stop] = [*kept, f"  {name} = {json.dumps(value)}"]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("epochs", 1.5, "TrainPlan.epochs cannot be 1.5"),
        ("epochs", True, "TrainPlan.epochs cannot be True"),
        ("lr", "fast", "TrainPlan.lr cannot be 'fast'"),
        ("schedule", "cubic", "TrainPlan.schedule cannot be 'cubic'"),
        ("class_weights", "some", "TrainPlan.class_weights cannot be 'some'"),
        ("class_weights", ["a"], "TrainPlan.class_weights cannot be ['a']"),
        ("speed", 1, "TrainPlan has no speed"),
    ],
)
def test_plans_are_of_their_types(name: str, value: object, message: str):
    with pytest.raises(GenError) as caught:
        parse_job(plan_with(name, value))
    assert caught.value.diagnostics[0].message == message


def test_a_whole_number_may_stand_for_a_fraction():
    assert parse_job(plan_with("clip", 1)).train.clip == 1.0


def test_inputs_are_a_plan_of_their_own():
    with pytest.raises(GenError, match="text or image"):
        parse_job(plan_with("inputs", 1, of="data"))
    with pytest.raises(GenError, match="one plan of text or image"):
        parse_job(
            print_job(tiny_bert()).replace("plan text", "plan image", 1)
            + "\nplan text\n"
        )
    with pytest.raises(GenError, match="ImagePlan has no"):
        parse_job(print_job(tiny_bert()).replace("plan text", "plan image", 1))


def test_an_empty_file_and_a_missing_plan():
    with pytest.raises(GenError, match="my.gir is empty"):
        parse_job("\n# nothing\n", "my.gir")
    text = print_job(tiny_bert())
    start = text.index("plan target")
    stop = text.index("\n\n", start)
    with pytest.raises(GenError, match="the job has the plans"):
        parse_job(text[:start] + text[stop:])


def test_a_field_of_a_plan_stands_once():
    text = print_job(tiny_bert()).replace("  epochs = 1", "  epochs = 1\n  epochs = 2")
    with pytest.raises(
        GenError, match='"epochs" does not belong here, or stands twice'
    ):
        parse_job(text)


def test_an_indented_line_belongs_to_something():
    with pytest.raises(
        GenError, match="an indented line belongs to a module or a plan"
    ):
        parse_job('gir 1\n  doc "x"\n')


def test_a_value_of_the_job_that_has_no_text_is_refused_by_the_verifier_first():
    """An operation without results cannot be printed; the verifier refuses it."""
    job = tiny_bert()
    main = job.model.main
    bare = replace(main, ops=(*main.ops, Op("dropout", (), (main.ops[0].args[0],))))
    broken = replace(job, model=job.model.with_modules({main.name: bare}))
    with pytest.raises(GenError, match="dropout"):
        verify(broken)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_text_parses_or_fails_with_a_place(data: st.DataObject):
    """Whatever happens to a line: never anything but a job or one clear error."""
    lines = print_job(tiny_bert(num_hidden_layers=1)).split("\n")
    at = data.draw(st.integers(0, len(lines) - 2))
    line = lines[at]
    cut = data.draw(st.integers(0, len(line)))
    match data.draw(st.sampled_from(["cut", "insert", "swap", "drop"])):
        case "cut":
            lines[at] = line[:cut]
        case "insert":
            junk = data.draw(
                st.text('%"#[](){}=:,?@$-<>x1. \\', min_size=1, max_size=4)
            )
            lines[at] = line[:cut] + junk + line[cut:]
        case "swap":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        case "drop":
            del lines[at]
    try:
        job = parse_job("\n".join(lines))
    except GenError as e:
        assert all(d.code == "G301" and d.place for d in e.diagnostics)
    else:
        assert isinstance(job.model, Model)
        assert parse_job(print_job(job)) == job


def test_names_that_look_like_numbers():
    """inf and nan are numbers where a number stands and names where a name stands."""
    job = tiny_bert()
    main = replace(job.model.main, name="inf")
    model = replace(job.model, modules=(*job.model.modules[:-1], main))
    assert parse_job(print_job(replace(job, model=model))).model.main.name == "inf"
    value = Value("nan.1", f32("B"))
    op = Op("inf", (value,), ("nan",), "nan", (("nan", float("inf")),))
    odd = replace(main, ops=(op,))
    model = replace(job.model, modules=(*job.model.modules[:-1], odd))
    assert parse_job(print_job(replace(job, model=model))).model.main.ops == (op,)


def test_plans_keep_their_fields_in_the_text():
    text = print_job(tiny_bert())
    for plan in (TrainPlan, TargetPlan, TextPlan):
        for name in plan.__dataclass_fields__:
            assert f"\n  {name} = " in text
