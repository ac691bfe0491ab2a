"""One test for each message of the verifier, on the smallest jobs that have it."""

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import generator.ir.verify
from generator.errors import GenError
from generator.ir.dims import f32
from generator.ir.job import Instance, Job, Op, Value
from generator.ir.sources import Init
from generator.ir.text import parse_job
from generator.ir.verify import problems, verify

CASES = Path(__file__).parent / "cases"
SMALL = (CASES / "small.gir").read_text()
DECODER = (CASES / "decoder.gir").read_text()
IMAGE = (CASES / "image.gir").read_text()
LLAMA3 = re.search("factor=8.0 .*(?=theta)", DECODER)[0]  # type: ignore[index]


def guard(line: str) -> list[tuple[str, str]]:
    """The change that gives a job a guard."""
    return [("plan train", f"plan guard\n  {line}\n\nplan train")]


def clean(line: str) -> list[tuple[str, str]]:
    """The change that gives a job a cleaning."""
    return [("plan train", f"plan clean\n  {line}\n\nplan train")]


def beside(line: str, value: str) -> list[tuple[str, str]]:
    """The changes that give a job features, and the model an input for them."""
    return [
        ("plan train", f"plan features\n  {line}\n\nplan train"),
        ("Model(%ids: i64[B,T], %mask", f"Model(%ids: i64[B,T], {value}, %mask"),
    ]


def augment(line: str) -> list[tuple[str, str]]:
    """The change that gives a job an augmentation."""
    return [("plan train", f"plan augment\n  {line}\n\nplan train")]


def stage(epochs: int, frozen: str) -> str:
    """A stage of a training as text."""
    return (
        f"plan stage\n  epochs = {epochs}\n  lr = 0.1\n  warmup = 0.0\n"
        f'  frozen = {frozen}\n  cut = ""\n\n'
    )


MASK_SAID = (
    "the input mask is bool[B,B]?, and the data gives bool of 2 dimensions, "
    "the same for all"
)


def edited(base: str, *changes: tuple[str, str]) -> Job:
    for old, new in changes:
        assert base.count(old) >= 1, old
        base = base.replace(old, new, 1)
    return parse_job(base)


def found(job: Job) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in problems(job)]


# What is changed in small.gir, and what is then said, among perhaps other things.
IN_SMALL: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "G311",
        "labels are at least one, and no two are the same",
        [('"no", "yes"', '"yes", "yes"')],
    ),
    (
        "G342",
        "aliases are of 'maybe', which is no label",
        clean('labels = [["maybe", ["m"]]]'),
    ),
    (
        "G342",
        "the alias 'no' is a label itself, or stands twice",
        clean('labels = [["yes", ["no"]]]'),
    ),
    (
        "G342",
        "the alias 'y' is a label itself, or stands twice",
        clean('labels = [["yes", ["y"]], ["no", ["y"]]]'),
    ),
    (
        "G342",
        "near duplicates are looked for in files alone",
        [
            *clean('duplicates = "near"'),
            ("plan data\n", 'plan data\n  rows = "memory"\n'),
        ],
    ),
    ("G342", "texts have no pixels to change", augment("cutmix = 0.1")),
    ("G342", "texts have no pixels to clean", clean("levels = true")),
    (
        "G375",
        "label_noise is of rows that have one label each",
        [
            ("task text-classification", "task multi-label"),
            *guard('label_noise = "report"'),
        ],
    ),
    (
        "G334",
        "Half: the list kept is not 4 numbers of 4",
        [
            ('because "a counter"', 'because "a counter"\nlist "kept" = [0, 1, 3]'),
            ("= dropout(%_.2)", "= dropout(%_.3)"),
            (
                "  %y: f32",
                '  %_.3: f32[B,C] = select(%_.2) by="kept" width=#C\n  %y: f32',
            ),
        ],
    ),
    (
        "G312",
        "dimension T is defined 2 times",
        [('dim V = 11 "vocab"', 'dim T = 11 "v"')],
    ),
    (
        "G374",
        "Model is the model, and takes sizes",
        [("-> %logits", "-> %logits sizes C")],
    ),
    ("G374", "Half takes Q, which is no size", [("-> %y", "-> %y sizes Q")]),
    ("G374", "Half takes T, which is no size", [("-> %y", "-> %y sizes T")]),
    (
        "G374",
        "Half takes sizes before grouping",
        [("-> %y", "-> %y sizes C"), ("depth 1", "depth 1 sizes C=C")],
    ),
    (
        "G374",
        "Model.half gives the sizes ['C'], and Half takes []",
        [('"half." depth 1', '"half." depth 1 sizes C=C')],
    ),
    (
        "G374",
        "Model.half gives C as T, which is no size",
        [("-> %y", "-> %y sizes C"), ("depth 1", "depth 1 sizes C=T")],
    ),
    (
        "G374",
        "Model.half has no up.gain to read, or has it twice",
        [("depth 1", "depth 1 reads up.gain = init constant 1.0")],
    ),
    (
        "G374",
        "Model.half has no up.bias to read, or has it twice",
        [("depth 1", 'depth 1 reads up.bias = ckpt "b", up.bias = ckpt "b"')],
    ),
    (
        "G338",
        "Model: call half: %x is f32[B,K], not f32[B,C]",
        [("-> %y", "-> %y sizes C"), ("depth 1", "depth 1 sizes C=K")],
    ),
    (
        "G355",
        "half.up.bias is (4,), and its source gives (4, 4)",
        [("depth 1", 'depth 1 reads up.bias = ckpt "up.weight"')],
    ),
    ("G312", "two dimensions are named width", [('"labels" ""', '"width" ""')]),
    ("G313", "dimension V is 0, not positive", [("dim V = 11", "dim V = 0")]),
    ("G313", "the bound of dimension V cannot hold", [("V = 11", "V = 11 <= 12")]),
    ("G313", "the bound of dimension T cannot hold", [("<= 9", "<= 0")]),
    ("G314", "constant eps is defined 2 times", [("const dropout", "const eps")]),
    (
        "G316",
        "module Half is defined twice",
        [("module Model", "module Half(%x: f32[B,C]) -> %x\n\nmodule Model")],
    ),
    (
        "G317",
        "Model.half is a Whole, which is not defined before it",
        [("half = Half", "half = Whole")],
    ),
    (
        "G317",
        "Model.half is a Model, which is not defined before it",
        [("= Half", "= Model")],
    ),
    ("G318", "Model.half counts none", [("depth 1", "depth 1 count 0")]),
    ("G318", "Model.half repeats and has no number", [("depth 1", "count 2")]),
    ("G318", "Model.half repeats and has no number", [('"half."', '"half.{i}."')]),
    (
        "G319",
        "module Other is never used",
        [("module Half", "module Other(%x: f32[B,C]) -> %x\n\nmodule Half")],
    ),
    (
        "G320",
        "Half: up.bias is defined 2 times",
        [
            (
                "param up.bias",
                "param up.bias: f32[C] bias = init constant 0.0\n  param up.bias",
            )
        ],
    ),
    (
        "G320",
        "Model: half is an operation and an instance",
        [("label.weight", "half.weight")],
    ),
    (
        "G321",
        "Half: lambda cannot be a name in Python",
        [("param norm", "param lambda")],
    ),
    (
        "G321",
        "Half: self cannot be a name in Python",
        [("%x: f32[B,C]) -> %y", "%self: f32[B,C]) -> %y")],
    ),
    (
        "G321",
        "Half: a-b cannot be a name in Python",
        [("param up.bias", "param a-b.bias")],
    ),
    (
        "G321",
        "job 'two words' cannot be a name in Python",
        [('job "small"', 'job "two words"')],
    ),
    ("G321", "dimension class cannot be a name in Python", [('"width"', '"class"')]),
    (
        "G321",
        "dimension two words cannot be a name in Python",
        [('"width"', '"two words"')],
    ),
    ("G321", "constant if cannot be a name in Python", [("const eps", "const if")]),
    (
        "G322",
        "Half: %_.9 is used before it is defined",
        [("dropout(%_.2)", "dropout(%_.9)")],
    ),
    (
        "G322",
        "Half: %y is used before it is defined",
        [("linear up(%x)", "linear up(%y)")],
    ),
    ("G322", "Half: %z is returned and not defined", [("-> %y", "-> %z")]),
    ("G322", "Model: %z is returned and not defined", [("-> %logits", "-> %z")]),
    ("G323", "Half: %_.1 is defined twice", [("%_.2: f32", "%_.1: f32")]),
    ("G323", "Half: %x is defined twice", [("Half(%x", "Half(%x: f32[B,C], %x")]),
    ("G324", "Half: returns nothing", [("-> %y", "-> ")]),
    ("G325", "Half: %z is never used", [("Half(%x", "Half(%z: f32[B,C], %x")]),
    ("G325", "Half: %y is never used", [("-> %y", "-> %_.2")]),
    (
        "G326",
        "Half: parameter old.weight is never read",
        [
            (
                "  param up.bias",
                "  param old.weight: f32[C] norm = init constant 1.0\n  param up.bias",
            )
        ],
    ),
    (
        "G327",
        "Model: quarter is never called",
        [("  sub half", '  sub quarter = Half keys "q." depth 1\n  sub half')],
    ),
    ("G328", "Half: there is no dimension X", [("%_.1: f32[B,C]", "%_.1: f32[B,X]")]),
    (
        "G328",
        "Half: there is no dimension X",
        [("Half(%x: f32[B,C]", "Half(%x: f32[B,X]")],
    ),
    ("G328", "Half: there is no dimension X", [("up.bias: f32[C]", "up.bias: f32[X]")]),
    ("G329", "Half: layer_norm eps: no constant epsilon", [("$eps", "$epsilon")]),
    (
        "G330",
        "Half: dropout: attributes are not in order",
        [("p=$dropout", "p=0.1 p=0.2")],
    ),
    (
        "G330",
        "Half: dropout: attributes are not in order",
        [("p=$dropout", "p=0.1 a=0.2")],
    ),
    (
        "G331",
        "Half: parameter up.weight is read twice",
        [("dropout(%_.2) p=$dropout", "linear up(%_.2)")],
    ),
    ("G332", "Half: drop: no operation 'drop'", [("= dropout(", "= drop(")]),
    ("G332", "Half: linear up: takes one operand, not 2", [("up(%x)", "up(%x, %x)")]),
    (
        "G333",
        "Half: linear up gives f32[B,C], not f32[B,K]",
        [("%_.1: f32[B,C] = linear", "%_.1: f32[B,K] = linear")],
    ),
    (
        "G333",
        "Model: call half gives f32[B,C], not f32[B,K]",
        [("%_.4: f32[B,C] = call", "%_.4: f32[B,K] = call")],
    ),
    (
        "G333",
        "Half: linear up gives f32[B,C], not f32[B,C], f32[B,C]",
        [("%_.1: f32[B,C] = linear", "%_.1: f32[B,C], %_.5: f32[B,C] = linear")],
    ),
    (
        "G334",
        "Model: positions position: row 11 of 11",
        [("dim T = ? <= 9", "dim T = ? <= 12")],
    ),
    ("G335", "Model: there is no instance other", [("call half", "call other")]),
    ("G336", "Model: repeat of half, count 1", [("call half", "repeat half")]),
    ("G337", "Model: half takes 1 values, not 2", [("half(%_.3)", "half(%_.3, %_.3)")]),
    (
        "G338",
        "Model: call half: %x is f32[B,C], not f32[B,1,C]",
        [("call half(%_.3)", "call half(%_.2)")],
    ),
    (
        "G340",
        "the model takes ['ids', 'mask'], and the data gives ['ids', 'types', 'mask']",
        [("token_types = false", "token_types = true")],
    ),
    (
        "G340",
        "the model takes 9 tokens, and a row may have 10",
        [("max_tokens = 9", "max_tokens = 10")],
    ),
    (
        "G340",
        MASK_SAID,
        [("%mask: bool[B,T]?", "%mask: bool[B,B]?")],
    ),
    (
        "G341",
        "the model returns one value, the logits",
        [("-> %logits", "-> %logits, %_.4")],
    ),
    (
        "G341",
        "the logits are f32[B,K] for 3 labels",
        [('"no", "yes"', '"no", "yes", "?"')],
    ),
    ("G341", "the logits are f32[B,1,C] for 2 labels", [("-> %logits", "-> %_.2")]),
    ("G341", "the logits are i64[B] for 2 labels", [("-> %logits", "-> %last")]),
    (
        "G350",
        'tensor "token" is listed 2 times',
        [('tensor "steps"', 'tensor "token"')],
    ),
    (
        "G351",
        "a parameter's shape has no size: 'T'",
        [("position.weight: f32[V,C]", "position.weight: f32[T,C]")],
    ),
    (
        "G353",
        "position.weight: a part of it is initialised",
        [('rows(ckpt "position", 0, 1)', "init normal 0.02")],
    ),
    (
        "G353",
        "position.weight: a part of it is tied",
        [('rows(ckpt "position", 0, 1)', 'tie "token.weight"')],
    ),
    (
        "G354",
        'token.weight: the checkpoint has no tensor "tokens"',
        [('= ckpt "token"', '= ckpt "tokens"')],
    ),
    (
        "G355",
        "half.up.weight is (4, 4), and its source gives (4,)",
        [('matrix = ckpt "up.weight"', 'matrix = ckpt "up.bias"')],
    ),
    (
        "G356",
        'tensor "steps" is neither used nor named unused',
        [('unused "steps" because "a counter"\n', "")],
    ),
    (
        "G357",
        'tensor "token" is used and named unused',
        [('unused "steps"', 'unused "token"')],
    ),
    (
        "G357",
        'tensor "steps" is named unused twice',
        [("unused", 'unused "steps" because "twice"\nunused')],
    ),
    (
        "G358",
        'tensor "token" is used by two parameters',
        [("init normal 0.02", 'rows(ckpt "token", 0, 2)')],
    ),
    (
        "G358",
        'tensor "position" is used twice by position.weight',
        [('rows(ckpt "position", 0, 1)', 'ckpt "position"')],
    ),
    (
        "G359",
        '"step" is named unused, and is not there',
        [('unused "steps"', 'unused "step"')],
    ),
    ("G360", "hal is frozen, and is no part of the model", [('["half"]', '["hal"]')]),
    (
        "G361",
        "label.weight: token.weight is a parameter before a pass",
        [("init normal 0.02", 'rows(old "token.weight", 0, 2)')],
    ),
    (
        "G362",
        "label.weight is tied to label.weight, which is tied itself",
        [("init normal 0.02", 'tie "label.weight"')],
    ),
    ("G363", 'token.weight: tensor "token" is of I32', [("BF16", "I32")]),
    (
        "G367",
        "Left of rank 4 of half.up.weight: 1, not one of two",
        [('matrix = ckpt "up.weight"', 'matrix = left(ckpt "up.weight", 4)')],
    ),
    (
        "G371",
        "ha.lf cannot name a class",
        [("module Half", "module ha.lf"), ("= Half", "= ha.lf")],
    ),
    (
        "G371",
        "class cannot name a class",
        [("module Half", "module class"), ("= Half", "= class")],
    ),
]
# The same in the two other files.
ELSEWHERE: list[tuple[str, str, str, list[tuple[str, str]]]] = [
    (
        DECODER,
        "G334",
        "Attention: 4 heads do not share 3 key heads evenly",
        [("dim G = 2", "dim G = 3")],
    ),
    (
        DECODER,
        "G334",
        "Model: heads of width 5 are not pairs",
        [("dim D = 4", "dim D = 5")],
    ),
    (
        IMAGE,
        "G334",
        "Model: 9 pixels are 4 rows of 2",
        [("P*R", "P*R+3"), ("resize = [6, 8]", "resize = [9, 8]")],
    ),
    (
        DECODER,
        "G334",
        "Model: 1 factors for heads of width 4",
        [
            (
                LLAMA3,
                'attention_factor=1.0 factors=[2.0] kind="longrope" ',
            )
        ],
    ),
    (
        DECODER,
        "G334",
        "Attention: heads heads: T has no size",
        [("heads=#[H,G,G]", "heads=#[T,G,G]")],
    ),
    (
        DECODER,
        "G336",
        "Model: call of blocks.0, count 2",
        [("repeat blocks.0", "call blocks.0")],
    ),
    (
        DECODER,
        "G338",
        "Model: repeat blocks.0: T is both T and K",
        [("%sin: f32[T,D] = rope", "%sin: f32[K,D] = rope")],
    ),
    (
        DECODER,
        "G338",
        "Model: repeat blocks.0: %cos is f32[T,D], not f32[T,G]",
        [
            (
                "%cos: f32[T,D], %sin: f32[T,D] = rope",
                "%cos: f32[T,G], %sin: f32[T,D] = rope",
            )
        ],
    ),
    (
        DECODER,
        "G338",
        "Model: call final: %mask is always there, and bool[B,1,1,T]? is not",
        [("%mask: bool[B,1,1,T]?, %last", "%mask: bool[B,1,1,T], %last")],
    ),
    (
        DECODER,
        "G339",
        "Model: blocks.0 repeats and changes its type",
        [("%sin: f32[T,D]) -> %x.3", "%sin: f32[T,D]) -> %_.8, %_.7")],
    ),
    (
        DECODER,
        "G352",
        "parameter blocks.1.gate.weight stands 2 times",
        [("  sub final", '  sub blocks.1 = Block keys "b." depth 1\n  sub final')],
    ),
    (
        DECODER,
        "G354",
        'label.weight: there is no parameter "tipe.weight"',
        [('tie "type.weight"', 'tie "tipe.weight"')],
    ),
    (
        DECODER,
        "G355",
        "label.weight is (2, 6), and its source gives (17, 6)",
        [('tie "type.weight"', 'tie "embedding.weight"')],
    ),
    (
        DECODER,
        "G364",
        "%x.9 is no vector of each row or position that Model works out and names",
        [('model "a decoder"', 'model "a decoder"\ncut %x.9')],
    ),
    (
        DECODER,
        "G364",
        "%cos is no vector of each row or position that Model works out and names",
        [('model "a decoder"', 'model "a decoder"\ncut %cos')],
    ),
    (
        DECODER,
        "G364",
        "%_.2 is no vector of each row or position that Model works out and names",
        [('model "a decoder"', 'model "a decoder"\ncut %_.2')],
    ),
    (
        DECODER,
        "G365",
        "embedding is read before and after %x.2",
        [
            ('model "a decoder"', 'model "a decoder"\ncut %x.2'),
            ("repeat blocks.0(%x.2,", "repeat blocks.0(%x.4,"),
            (
                "  %x.3: f32[B,T,C] = repeat",
                "  %x.4: f32[B,T,C] = add(%x.2, %x)\n  %x.3: f32[B,T,C] = repeat",
            ),
        ],
    ),
    (
        DECODER,
        "G366",
        "embedding.weight is before %x.3, and trains",
        [('model "a decoder"', 'model "a decoder"\ncut %x.3')],
    ),
    (
        DECODER,
        "G369",
        "%x.3 cuts a model of several stages",
        [
            ('model "a decoder"', 'model "a decoder"\ncut %x.3'),
            ("plan target", stage(1, "[]") + "plan target"),
        ],
    ),
    (
        DECODER,
        "G369",
        "what is frozen is not what all stages freeze",
        [("plan target", stage(1, '["embedding"]') + "plan target")],
    ),
    (
        DECODER,
        "G369",
        "the stages have 2 epochs, the job 1",
        [("plan target", stage(2, "[]") + "plan target")],
    ),
    (
        DECODER,
        "G372",
        "Copy and Attention are equal, and not grouped",
        [
            (
                "module Block",
                DECODER[
                    DECODER.index("module Attention") : DECODER.index("module Block")
                ].replace("Attention", "Copy")
                + "module Block",
            ),
            ("  sub attention", '  sub copy = Copy keys ""\n  sub attention'),
        ],
    ),
    (
        DECODER,
        "G370",
        "module Block stands twice before grouping",
        [
            ("level shaped", "level imported"),
            ("  sub final", '  sub more = Block keys "m."\n  sub final'),
        ],
    ),
    (IMAGE, "G334", "Model: row zero: row 1 of 1", [("index=0", "index=1")]),
    (
        IMAGE,
        "G334",
        "Model: positions position: row 6 of 6",
        [("position.weight: f32[R*S+1,C]", "position.weight: f32[R*S,C]")],
    ),
    (IMAGE, "G342", "images have no texts to clean", clean("html = true")),
    (
        IMAGE,
        "G380",
        "images have no text whose numbers a head could read",
        [("plan train", 'plan features\n  text = ["length"]\n\nplan train')],
    ),
    (
        SMALL,
        "G380",
        "the input numbers is f32[B,C], and a row has 2 of them",
        beside('numeric = ["price"]', "%numbers: f32[B,C]"),
    ),
    (
        SMALL,
        "G380",
        "the table of categories has 11 rows for 404",
        [
            *beside('categorical = ["a", "b", "c", "d"]', "%categories: i64[B,C]"),
            (
                "  param token.weight",
                (
                    "  param category.weight: f32[V,C] embedding = init normal 1.0\n"
                    "  param token.weight"
                ),
            ),
            (
                "  %x: f32[B,T,C] = embedding token(%ids)",
                (
                    "  %y: f32[B,C,C] = embedding category(%categories)\n"
                    "  %x: f32[B,T,C] = embedding token(%ids)"
                ),
            ),
        ],
    ),
    (IMAGE, "G342", "images have no words to change", augment("word_dropout = 0.1")),
    (IMAGE, "G375", "images have no texts to guard", guard('leaks = "report"')),
    (
        IMAGE,
        "G340",
        "the model takes pixels (6, 8), and images are (6, 9)",
        [("resize = [6, 8]", "resize = [6, 9]")],
    ),
    (
        IMAGE,
        "G340",
        "the model takes pixels (6, 8), and images are (5, 8)",
        [("crop = null", "crop = [5, 8]")],
    ),
]
TEXT_CASES = [(SMALL, *case) for case in IN_SMALL] + ELSEWHERE


def of_model(change: Callable[[Job], Job]) -> Job:
    return change(parse_job(SMALL))


def with_main(**changes) -> Callable[[Job], Job]:
    def change(job: Job) -> Job:
        main = replace(job.model.main, **changes)
        return replace(job, model=job.model.with_modules({main.name: main}))

    return change


# What no text says, since parsing refuses it.
IN_OBJECTS: list[tuple[str, str, Callable[[Job], Job]]] = [
    (
        "G310",
        "no level 'raw'; there are ('imported', 'optimised', 'shaped')",
        lambda job: replace(job, level="raw"),  # type: ignore[arg-type]
    ),
    (
        "G311",
        "labels are at least one, and no two are the same",
        lambda job: replace(job, labels=()),
    ),
    (
        "G315",
        "the model has no modules",
        lambda job: replace(job, model=replace(job.model, modules=())),
    ),
    (
        "G318",
        "Model.half is at a negative depth",
        with_main(instances=(Instance("half", "Half", "half.", depth=-2),)),
    ),
    (
        "G368",
        "half has no up.gain of its own to start at 0",
        with_main(
            instances=(Instance("half", "Half", "half.", depth=1, zeros=("up.gain",)),)
        ),
    ),
    (
        "G333",
        "Model: add  gives f32[B,K], not ",
        lambda job: with_main(
            ops=(*job.model.main.ops, Op("add", (), ("logits", "logits")))
        )(job),
    ),
    (
        "G341",
        "the logits are f32[] for 2 labels",
        lambda job: with_main(
            ops=(*job.model.main.ops, Op("add", (Value("z", f32()),), ("logits", "z"))),
            outputs=("z",),
        )(job),
    ),
]


@pytest.mark.parametrize(
    "base, code, message, changes",
    TEXT_CASES,
    ids=[f"{c[1]}-{c[2][:40]}" for c in TEXT_CASES],
)
def test_message(base: str, code: str, message: str, changes: list[tuple[str, str]]):
    assert (code, message) in found(edited(base, *changes))


@pytest.mark.parametrize(
    "code, message, change", IN_OBJECTS, ids=[c[0] for c in IN_OBJECTS]
)
def test_message_about_what_no_text_says(code: str, message: str, change):
    assert (code, message) in found(of_model(change))


@pytest.mark.parametrize("base", [SMALL, DECODER, IMAGE])
def test_the_files_are_valid(base: str):
    assert found(parse_job(base)) == []


def test_verify_raises_everything_that_is_wrong():
    job = edited(SMALL, ("$eps", "$epsilon"), ('["half"]', '["hal"]'))
    with pytest.raises(GenError) as caught:
        verify(job, after="a-pass")
    said = [d.message for d in caught.value.diagnostics]
    assert said == [
        "invalid job after a-pass: Half: layer_norm eps: no constant epsilon",
        "invalid job after a-pass: hal is frozen, and is no part of the model",
    ]
    with pytest.raises(GenError, match="^invalid job: Half"):
        verify(edited(SMALL, ("$eps", "$epsilon")))


def test_a_size_that_nobody_knows_is_no_crash():
    """Checks of sizes leave out what has none; others say that it has none."""
    job = edited(SMALL, ("position.weight: f32[V,C]", "position.weight: f32[Z,C]"))
    assert {code for code, _ in found(job)} == {"G328", "G351"}


def test_an_initial_value_takes_any_shape():
    job = parse_job(SMALL)
    assert any(isinstance(p.source, Init) for p in job.model.main.parameters)


def _messages() -> list[tuple[str, str]]:
    """Code and message, as a pattern, of every place in verify.py that yields one."""
    tree = ast.parse(Path(generator.ir.verify.__file__).read_text())
    places = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        code = node.args[0]
        if name not in ("error", "Diagnostic") or not isinstance(code, ast.Constant):
            continue
        prefix = ".+: " if name == "error" else ""
        places.append((str(code.value), prefix + _pattern(node.args[1])))
    return places


def _pattern(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(_pattern(p) for p in parts)
        case ast.FormattedValue():
            return ".*"
        case ast.Call(func=ast.Attribute(value=of, attr="replace")):
            return _pattern(of).replace(r"\ ", " ?")
    raise AssertionError(ast.dump(node))


def test_every_message_of_the_verifier_has_a_test():
    places = _messages()
    assert len(places) > 55
    said = [(code, message) for _, code, message, _ in TEXT_CASES]
    said += [(code, message) for code, message, _ in IN_OBJECTS]
    for code, pattern in places:
        assert any(
            c == code and re.fullmatch(pattern, m) for c, m in said
        ), f"no test of {code}: {pattern}"
