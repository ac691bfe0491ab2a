"""The card as text: it reads back, its bytes are fixed, and edits are noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import safetensors.numpy

from generator.errors import GenError
from generator.facts import (
    Card,
    CardFile,
    CardTensor,
    Facts,
    UsedTokens,
    _hash,
    dump_card,
    dump_used,
    facts_hash,
    load_card,
    load_used,
    parse_json,
)

CARD = Card(
    source="models/tiny",
    revision="0123456789abcdef0123456789abcdef01234567",
    licence="mit",
    config={
        "model_type": "bert",
        "eps": 1e-12,
        "name": "Zoë\u2028",
        "deep": {"b": [1]},
    },
    tensors=(
        CardTensor("a", "F32", (3, 4), "model.safetensors"),
        CardTensor("b", "I64", (), "model.safetensors"),
    ),
    files=(
        CardFile("config.json", 10, "00" * 32),
        CardFile("model.safetensors", 80, "11" * 32),
    ),
    preprocessor=None,
    tokenizer_config={"do_lower_case": True},
    verified=True,
)

UNSEEN = replace(
    CARD,
    revision=None,
    licence=None,
    files=(CardFile("model.safetensors", None, None),),
    tokenizer_config=None,
    preprocessor={"size": 224},
    verified=False,
)


@pytest.mark.parametrize("card", [CARD, UNSEEN])
def test_reads_back(card: Card) -> None:
    text = dump_card(card)
    assert load_card(text, "card.json") == card
    assert dump_card(load_card(text, "card.json")) == text
    assert text.endswith("}\n")
    assert text.isascii()


def test_key_order_does_not_matter() -> None:
    turned = replace(CARD, config=dict(reversed(list(CARD.config.items()))))
    assert dump_card(turned) == dump_card(CARD)


def test_a_tensor_is_a_line() -> None:
    wider = replace(CARD.tensors[0], shape=(3, 5))
    before = dump_card(CARD).splitlines()
    after = dump_card(replace(CARD, tensors=(wider, CARD.tensors[1]))).splitlines()
    differing = [a for a, b in zip(after, before, strict=True) if a != b]
    assert len(differing) == 2  # the tensor and the hash
    assert '"shape": [3, 5]' in differing[1]


def rehashed(change: Callable[[dict[str, Any]], object]) -> str:
    """The card's text after a change, with a hash that agrees."""
    body = json.loads(dump_card(CARD))
    del body["hash"]
    change(body)
    return json.dumps(body | {"hash": _hash(body)})


def test_an_edit_is_noticed() -> None:
    text = dump_card(CARD).replace('"licence": "mit"', '"licence": "gpl"')
    with pytest.raises(GenError) as caught:
        load_card(text, "facts/x/card.json")
    (found,) = caught.value.diagnostics
    assert found.code == "G150"
    assert "facts/x/card.json was changed after it was gathered" in found.message
    assert "--refresh" in found.help


def test_reformatting_is_no_edit() -> None:
    text = json.dumps(json.loads(dump_card(CARD)))
    assert load_card(text, "card.json") == CARD


BROKEN: dict[str, tuple[str, str, str]] = {
    "merge conflict": ("<<<<<<< HEAD\n" + dump_card(CARD), "G111", "not valid JSON"),
    "cut": (dump_card(CARD)[:-40], "G111", "not valid JSON"),
    "a list": ("[]", "G150", "is not a JSON object"),
    "no hash": (json.dumps({"format": 1}), "G150", "hash does not agree"),
    "next format": (rehashed(lambda b: b.update(format=2)), "G150", "format 2"),
    "unknown key": (rehashed(lambda b: b.update(x=1)), "G150", 'unknown "x"'),
    "no files": (rehashed(lambda b: b.pop("files")), "G150", 'lacks "files"'),
    "config a list": (rehashed(lambda b: b.update(config=[])), "G150", '"config"'),
    "verified a number": (rehashed(lambda b: b.update(verified=1)), "G150", "verified"),
    "source null": (rehashed(lambda b: b.update(source=None)), "G150", '"source"'),
    "row a number": (rehashed(lambda b: b["tensors"].append(1)), "G150", "no object"),
    "row without key": (
        rehashed(lambda b: b["tensors"][0].pop("key")),
        "G150",
        '"key"',
    ),
    "unknown dtype": (
        rehashed(lambda b: b["tensors"][0].update(dtype="F31")),
        "G150",
        "unknown dtype",
    ),
    "negative shape": (
        rehashed(lambda b: b["tensors"][0].update(shape=[-1])),
        "G150",
        "wrong shape",
    ),
    "size a text": (
        rehashed(lambda b: b["files"][0].update(size="10")),
        "G150",
        '"size"',
    ),
    "not sorted": (rehashed(lambda b: b["tensors"].reverse()), "G150", "sorted"),
    "a key twice": (
        rehashed(lambda b: b["tensors"].append(b["tensors"][1])),
        "G150",
        "twice",
    ),
    "unseen but verified": (
        rehashed(lambda b: b["files"][0].update(sha256=None)),
        "G150",
        "verified",
    ),
    "unlisted file": (
        rehashed(lambda b: b["tensors"][0].update(file="other.safetensors")),
        "G150",
        "unlisted",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    text, code, says = BROKEN[name]
    with pytest.raises(GenError) as caught:
        load_card(text, "card.json")
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert says in found.message
    assert "card.json" in found.message
    assert found.help


USED = UsedTokens(
    ids=(0, 7, 2**31 - 1),
    counts=(1, 2**40, 3),
    texts=12,
    tokenizer=hashlib.sha256(b"{}").hexdigest(),
    files=(CardFile("data/träin.csv", 5, "22" * 32),),
)


class TestUsedTokens:
    @pytest.mark.parametrize("used", [USED, replace(USED, ids=(), counts=(), files=())])
    def test_reads_back(self, used: UsedTokens) -> None:
        data = dump_used(used)
        assert load_used(data, b"{}", "v") == used
        assert dump_used(load_used(data, b"{}", "v")) == data

    def test_is_a_safetensors_file(self) -> None:
        tensors = safetensors.numpy.load(dump_used(USED))
        assert tensors["ids"].tolist() == list(USED.ids)
        assert tensors["counts"].tolist() == list(USED.counts)

    def test_every_edit_is_noticed(self) -> None:
        data = dump_used(USED)
        spoiled = [
            data[:i] + bytes([b ^ 1]) + data[i + 1 :] for i, b in enumerate(data)
        ]
        for wrong in (*spoiled, *(data[:i] for i in range(len(data))), data + b" "):
            with pytest.raises(GenError) as caught:
                load_used(wrong, b"{}", "v")
            (found,) = caught.value.diagnostics
            assert (found.code, "--vocabulary" in found.help) == ("G150", True)

    def test_another_tokenizer_is_noticed(self) -> None:
        with pytest.raises(GenError) as caught:
            load_used(dump_used(USED), b"{} ", "v")
        assert caught.value.diagnostics[0].code == "G151"

    @pytest.mark.parametrize("ids", [(0, 7), (0, 7, 7), (7, 0, 9)])
    def test_contradictions(self, ids: tuple[int, ...]) -> None:
        with pytest.raises(ValueError):
            replace(USED, ids=ids)


def test_facts_hash_sees_every_part() -> None:
    facts = Facts(CARD, b"{}", {"accuracy": 0.9}, b"ref")
    variants = [
        facts,
        replace(facts, card=UNSEEN),
        replace(facts, tokenizer=None),
        replace(facts, tokenizer=b""),
        replace(facts, measured=None),
        replace(facts, measured={"accuracy": 0.91}),
        replace(facts, reference=None),
        replace(facts, tokenizer=b"ref", reference=b"{}"),
        replace(facts, vocabulary=b"ref"),
    ]
    assert len({facts_hash(f) for f in variants}) == len(variants)
    assert facts_hash(facts) == facts_hash(replace(facts, measured={"accuracy": 0.9}))


def test_json_errors_have_a_place() -> None:
    with pytest.raises(GenError) as caught:
        parse_json('{\n "a": 1,\n "b" 2\n}', "x.json")
    place = caught.value.diagnostics[0].place
    assert place is not None
    assert (place.file, place.line, place.column) == ("x.json", 3, 6)


def test_importing_is_light(python: Callable[..., str]) -> None:
    code = "import sys, generator.facts; print(' '.join(sys.modules))"
    loaded = set(python(code).split())
    assert "generator.facts" in loaded
    assert not loaded & {"torch", "transformers", "huggingface_hub", "tokenizers"}
    assert not any(name.startswith("generator.runtime") for name in loaded)
