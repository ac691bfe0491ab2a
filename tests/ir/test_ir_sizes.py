"""Modules that take sizes: each instance of them has its own, and its own sources."""

from pathlib import Path

import pytest

from generator.cost import describe
from generator.ir.dims import dim
from generator.ir.job import Job, parameters
from generator.ir.text import parse_job, print_job
from generator.ir.verify import problems

SMALL = (Path(__file__).parent / "cases" / "small.gir").read_text()
# The small model with two halves, one of them wider inside, as one module.
CHANGES = [
    ("level imported", "level shaped"),
    ('dim K = 2 "labels" ""', 'dim K = 2 "labels" ""\ndim F = 3 "f" ""\ndim F2 = 5 "g" ""'),
    ('tensor "half.up.weight" F32 [4, 4]\ntensor "half.up.bias" F32 [4]\n', ""),
    (
        SMALL[SMALL.index("module Half") : SMALL.index("module Model")],
        """module Inner(%x: f32[B,C]) -> %y sizes F
  param up.weight: f32[F,C] matrix = init constant 1.0
  param down.weight: f32[C,F] matrix = init constant 2.0
  %_.1: f32[B,F] = linear up(%x)
  %y: f32[B,C] = linear down(%_.1)

module Half(%x: f32[B,C]) -> %y sizes F
  sub inner = Inner keys "" sizes F=F
  %y: f32[B,C] = call inner(%x)

""",
    ),
    (
        'sub half = Half keys "half." depth 1',
        (
            'sub half = Half keys "half." depth 1 sizes F=F\n'
            '  sub other = Half keys "other." depth 2 sizes F=F2 '
            "reads inner.up.weight = init constant 3.0"
        ),
    ),
    (
        "%_.4: f32[B,C] = call half(%_.3)",
        "%_.5: f32[B,C] = call half(%_.3)\n  %_.4: f32[B,C] = call other(%_.5)",
    ),
]  # fmt: skip


@pytest.fixture(name="job")
def two_halves() -> Job:
    text = SMALL
    for old, new in CHANGES:
        assert old in text, old
        text = text.replace(old, new, 1)
    return parse_job(text)


def test_the_job_is_valid_and_its_text_says_all_of_it(job: Job):
    assert list(problems(job)) == []
    assert parse_job(print_job(job)) == job


def test_each_instance_has_its_own_shapes_and_sources(job: Job):
    found = {p.path: (p.shape, p.source) for p in parameters(job)}
    shapes = {path: shape for path, (shape, _) in found.items()}
    assert shapes["half.inner.up.weight"] == (3, 4)
    assert shapes["half.inner.down.weight"] == (4, 3)
    assert shapes["other.inner.up.weight"] == (5, 4)
    assert shapes["other.inner.down.weight"] == (4, 5)
    value = {
        path: getattr(source, "value", None) for path, (_, source) in found.items()
    }
    assert value["half.inner.up.weight"] == 1.0
    assert value["other.inner.up.weight"] == 3.0
    assert value["other.inner.down.weight"] == 2.0


def test_where_a_module_stands_says_what_its_sizes_are(job: Job):
    assert job.model.scopes["Inner"] == ({"F": dim("F")}, {"F": dim("F2")})
    assert job.model.scopes["Model"] == ({},)


def test_each_size_costs_what_it_is(job: Job):
    one = print_job(job).replace("sizes F=F2", "sizes F=F")
    less = describe(parse_job(one))
    cost = describe(job)
    # Two products with two units more, each with four weights; one row.
    assert cost.parameters - less.parameters == 2 * 2 * 4
    assert cost.forward(1) - less.forward(1) == 2 * (2 * 2 * 4)
