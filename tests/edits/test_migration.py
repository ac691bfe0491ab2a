"""A checkpoint that was trained before an edit was added to the spec."""

from __future__ import annotations

import pytest
import torch

from generator.compile import draft
from generator.ir.job import parameters
from generator.ir.sources import Noise, keys, nodes
from generator.runtime.interpret import evaluate_source
from generator.runtime.migrate import migration
from generator.spec import read_spec
from tests.building.build_support import SPEC, text_facts

EDITS = {
    "low-rank": 'on = ["ff.up", "attention.q"]\nrank = 16',
    "widen-ffn": "by = 1.5\nnoise = 0.1",
    "widen-heads": "to = 16",
    "extend-positions": "to = 700",
}


def compiled(edit: str = ""):
    text = SPEC.read_text() + ("\n[[edit]]\n" + edit if edit else "")
    return draft(read_spec(text, "job.toml"), text_facts())


@pytest.mark.parametrize("do", EDITS)
def test_trained_weights_are_carried_into_the_edited_model(do: str) -> None:
    a, b = compiled(), compiled(f'do = "{do}"\n{EDITS[do]}\n')
    found = migration(a, b)
    assert found.kind == "map" and not found.missing and not found.unused
    draw = torch.Generator().manual_seed(0)
    held = {p.path: torch.randn(p.shape, generator=draw) for p in parameters(a.job)}
    for p in parameters(b.job):
        if p.path in found.sources:
            source = found.sources[p.path]
            assert not keys(source)
            assert evaluate_source(source, held, p.shape).shape == p.shape
        else:
            assert held[p.path].shape == p.shape
    noisy = [
        s for s in found.sources.values() for n in nodes(s) if isinstance(n, Noise)
    ]
    assert bool(noisy) == ("noise" in EDITS[do])


def test_an_edited_model_s_own_weights_load_strictly_and_do_not_go_back() -> None:
    edit = f'do = "low-rank"\n{EDITS["low-rank"]}\n'
    a, b = compiled(edit), compiled(edit)
    assert migration(a, b).kind == "strict"
    found = migration(a, compiled())
    assert found.kind == "no"
    assert set(found.missing.values()) == {
        "of blocks.0.ff.up.weight, the old model keeps only a part",
        "of blocks.0.attention.q.weight, the old model keeps only a part",
    }
