"""What an edit of a spec cannot do is said at the key that asks for it."""

from __future__ import annotations

import pytest

from generator.compile import draft
from generator.errors import GenError
from generator.ir.plans import ImagePlan
from generator.spec import read_spec
from tests.building.build_support import (
    BLOCKS,
    SPEC,
    image_facts,
    spec_text,
    text_facts,
)

IMAGES = spec_text(
    {
        "name": "photos",
        "task": "image-classification",
        "labels": ["no", "yes"],
        "backbone.from": "models/images",
        "data.train": "a.csv",
        "data.image": "image",
        "data.label": "label",
    }
)
LOW_RANK = '[[edit]]\ndo = "low-rank"\non = ["ff.up"]\nrank = 8\n'
CASES = [
    (LOW_RANK.replace("ff.up", "ff.gate"), "G241", "on", "ff.down"),
    (LOW_RANK.replace("8", "500"), "G242", "rank", "rank = 384"),
    (LOW_RANK + "blocks = [1]\n", "G240", "blocks", "the last is 0"),
    (2 * LOW_RANK, "G241", "on", "there are"),
    ('[[edit]]\ndo = "widen-ffn"\nto = 1000\n', "G243", "to", "to = 1537"),
    ('[[edit]]\ndo = "widen-ffn"\nby = 1.0001\n', "G243", "by", "to = 1537"),
    ('[[edit]]\ndo = "widen-heads"\nto = 12\n', "G243", "to", "to = 13"),
    ('[[edit]]\ndo = "extend-positions"\nto = 512\n', "G263", "to", "to = 513"),
    (
        '[[edit]]\ndo = "extend-positions"\nto = 600\nby = "yarn"\n',
        "G264",
        "by",
        "tile or interpolate",
    ),
    (
        '[[edit]]\ndo = "lora"\n[[edit]]\ndo = "widen-heads"\nto = 13\n',
        "G255",
        "do",
        "write widen-heads above lora",
    ),
    ('[[edit]]\ndo = "resize-image"\nsize = 384\n', "G266", "do", "extend-positions"),
]


@pytest.mark.parametrize(("edit", "code", "key", "mend"), CASES)
def test_the_place_is_the_key_s(edit: str, code: str, key: str, mend: str) -> None:
    assert BLOCKS == 1
    text = SPEC.read_text() + "\n" + edit
    with pytest.raises(GenError) as caught:
        draft(read_spec(text, "job.toml"), text_facts())
    (found,) = caught.value.diagnostics
    assert found.code == code and mend in found.help
    assert found.place is not None
    line = text.splitlines()[found.place.line - 1]
    assert line.startswith(f"{key} = ")
    last = [n for n, one in enumerate(text.splitlines(), 1) if one == line][-1]
    assert found.place.line == last  # of the edit that cannot, not of one above it


@pytest.mark.parametrize(
    ("size", "key", "code", "mend"),
    [
        ("50", "size", "G265", "size = 48"),
        ("[50, 64]", "size", "G265", "size = [48, 64]"),
        ("[64]", "size", "G008", ""),
        ("[64, 64, 64]", "size", "G008", ""),
    ],
)
def test_the_place_of_an_image_s_size(size, key, code, mend) -> None:
    text = f'{IMAGES}\n[[edit]]\ndo = "resize-image"\nsize = {size}\n'
    with pytest.raises(GenError) as caught:
        draft(read_spec(text, "job.toml"), image_facts())
    (found,) = caught.value.diagnostics
    assert found.code == code and mend in (found.help or "")
    assert found.place is not None
    assert text.splitlines()[found.place.line - 1].startswith(f"{key} = ")


@pytest.mark.parametrize(
    ("size", "height", "width"), [("64", 64, 64), ("[48, 80]", 48, 80)]
)
def test_a_side_or_two(size: str, height: int, width: int) -> None:
    text = f'{IMAGES}\n[[edit]]\ndo = "resize-image"\nsize = {size}\n'
    job = draft(read_spec(text, "job.toml"), image_facts()).job
    assert isinstance(job.data.inputs, ImagePlan)
    assert job.data.inputs.resize == (height, width)
    assert job.model.sizes["M"] * 16 == height and job.model.sizes["N"] * 16 == width
