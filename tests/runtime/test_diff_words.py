"""The words of `gen diff`: a sentence for each thing that changed."""

from __future__ import annotations

import json

import pytest

from generator.runtime.diff_words import words
from generator.spec import read_spec
from generator.spec.model import Spec

START = """
name = "job"
task = "text-classification"
labels = ["bad", "good"]
backbone.from = "backbone"
data.train = "train.csv"
data.text = "text"
data.label = "label"
"""


def spec(more: str = "", name: str = "job") -> Spec:
    return read_spec(START.replace('"job"', f'"{name}"') + more, "spec.toml").spec


def edit(keys: str) -> str:
    return f"\n[[edit]]\n{keys}\n"


def test_what_is_the_same_has_no_words():
    assert words(spec(), spec(name="other")) == []
    assert words(spec(), spec("search.trials = 7\n")) == []


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            'do = "keep-layers"\nn = 3',
            "3 blocks stay (evenly), the others are left out.",
        ),
        (
            'do = "keep-layers"\nn = 1\nchoose = "first"',
            "1 block stays (first), the others are left out.",
        ),
        (
            'do = "keep-layers"\nlayers = [0, 2, 5]',
            "Of the blocks 0, 2 and 5 stay, the others are left out.",
        ),
        (
            'do = "prune-ffn"\nkeep = 0.5',
            "Feed-forwards keep 50% of their units, chosen by taylor.",
        ),
        (
            'do = "prune-ffn"\nto = 64\nscore = "magnitude"\nblocks = [1]',
            "Feed-forwards keep 64 of their units in block 1, chosen by magnitude.",
        ),
        (
            'do = "prune-heads"\nto = 6\nblocks = [1, 2]',
            "Attentions keep 6 of their heads in blocks 1 and 2, chosen by taylor.",
        ),
        (
            'do = "prune-width"\nkeep = 0.75',
            "The width of the model keeps 75% of its channels, chosen by taylor.",
        ),
        (
            'do = "low-rank"\non = ["ff.up", "ff.down"]\nrank = 64',
            "ff.up and ff.down become products of two, of rank 64.",
        ),
        (
            'do = "low-rank"\non = ["ff.up"]\nenergy = 0.9\nblocks = [0]',
            "ff.up become products of two in block 0, that keep 90% of their energy.",
        ),
        ('do = "widen-ffn"\nby = 2.0', "Feed-forwards are widened 2.0 times."),
        ('do = "widen-heads"\nto = 16', "Attentions have 16 heads."),
        ('do = "add-layers"\nafter = [1, 3]', "Copies stand behind the blocks 1 and 3."),
        (
            'do = "trim-vocab"',
            "Tokens that no training row uses leave the vocabulary.",
        ),
        (
            'do = "lora"\nrank = 4',
            "LoRA of rank 4 trains beside attention.q and attention.v.",
        ),
        (
            'do = "dora"\non = ["ff.up"]\nblocks = [3]',
            "DoRA of rank 8 trains beside ff.up in block 3.",
        ),
        ('do = "ia3"', "Vectors train that scale attention.k, attention.v and ff.down."),
        ('do = "adapter"', "Detours of width 64 train behind attention and ff."),
        (
            'do = "pool"\nkind = "mean"',
            "A row's vector is made in another way: mean.",
        ),
        (
            'do = "pool"\nkinds = ["first", "mean"]\nlayers = [-4, -1]',
            "A row's vector is made in another way: first and mean, of the layers "
            + "-4 and -1.",
        ),
        ('do = "extend-positions"\nto = 1024', "Rows may have 1024 tokens."),
        (
            'do = "head"\nkind = "mlp"\nhidden = 96',
            "Head is applied (kind = mlp, hidden = 96).",
        ),
    ],
)  # fmt: skip
def test_an_edit_is_said_and_taken_back(keys: str, sentence: str):
    plain, edited = spec(), spec(edit(keys))
    assert words(plain, edited) == [sentence]
    (back,) = words(edited, plain)
    assert back.startswith("No longer: ") and back.endswith(sentence[1:])
    assert words(edited, edited) == []


def test_edits_in_another_order_are_said():
    first, second = edit('do = "keep-layers"\nn = 3'), edit('do = "trim-vocab"')
    assert words(spec(first + second), spec(second + first)) == [
        "The edits are in another order: trim-vocab, keep-layers."
    ]
    twice = words(spec(first), spec(first + first))
    assert twice == ["3 blocks stay (evenly), the others are left out."]


def test_an_edit_with_another_figure_is_both():
    three, two = (spec(edit(f'do = "keep-layers"\nn = {n}')) for n in (3, 2))
    assert words(three, two) == [
        "No longer: 3 blocks stay (evenly), the others are left out.",
        "2 blocks stay (evenly), the others are left out.",
    ]


def test_every_other_key_is_named():
    recipe = spec("[train]\nlr = 2e-4\nepochs = 5\nbatch_tokens = 4096\nclip = 0\n")
    assert words(spec(), recipe) == [
        "The number of epochs is 5 instead of 3.",
        "The number of rows in a batch is no longer 32: it is not set.",
        "The number of tokens in a batch is 4096; it was not set.",
        "The learning rate is 0.0002 instead of 5e-05.",
        "train.clip is 0 instead of 1.",
    ]
    aware = spec('deploy = { quantize = "int8", quantize_aware = true }\n')
    plain = spec('deploy = { quantize = "int8" }\n')
    assert words(aware, plain) == ["Quantisation in training is off instead of on."]
    staged = spec("[[train.stage]]\nepochs = 2\nfreeze = 6\n")
    found = words(spec(), staged)
    assert "train.stage 1.epochs is 2; it was not set." in found
    assert "train.stage 1.freeze is 6; it was not set." in found
    two, one = spec("train.freeze = 3\n"), spec('train.freeze = ["embedding"]\n')
    assert words(two, one) == ['What is frozen is ["embedding"] instead of 3.']
    away = spec('data.clean.unicode = "NFKC"\ndata.clean.html = true\n')
    assert words(spec(), away) == [
        "data.clean.unicode is NFKC instead of off.",
        "data.clean.html is true instead of false.",
    ]


def test_of_long_lists_it_is_told_what_differs():
    names = [f"label {i}" for i in range(30)]

    def labels(names: list[str]) -> Spec:
        text = START.replace('["bad", "good"]', json.dumps(names))
        return read_spec(text, "spec.toml").spec

    assert words(labels(names), labels([*names[1:], *"abcdefgh"])) == [
        "Labels has 37 items instead of 30; new: a, b, c, d, e, f and 2 more; gone: label 0."
    ]
    assert words(labels(names), labels(names[::-1])) == [
        "Labels has its 30 items in another order."
    ]
    (said,) = words(spec(), labels(names))
    assert said.startswith("Labels has 30 items instead of 2; new: label 0, label 1,")
    assert said.endswith("and 24 more; gone: bad, good.")


def test_digits_are_left_out_where_they_tell_nothing():
    a, b, c = (spec(f"train.lr = {lr}\n") for lr in (0.00012345678, 2e-4, 2.00001e-4))
    assert words(a, b) == ["The learning rate is 0.0002 instead of 0.0001235."]
    assert words(b, c) == ["The learning rate is 0.000200001 instead of 0.0002."]


def test_what_predicts_is_said():
    int8 = 'deploy.quantize = "int8"\ndeploy.leave = ["classifier"]\n'
    assert words(spec(), spec(int8)) == [
        "The quantisation for prediction is int8 instead of none.",
        'The list of what stays unquantised is ["classifier"]; it was not set.',
    ]
