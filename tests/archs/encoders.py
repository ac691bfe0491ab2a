"""What every encoder after BERT is held to; a test file names its family and its own.

class TestBert(EncoderTests):
    family = Family("bert", ...)
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from generator.archs import find
from generator.archs.build import ACTIVATIONS, OTHER_HEAD, Request
from generator.errors import GenError
from generator.ir.job import Const, Job, Model, Module, parameters
from generator.ir.plans import Task
from generator.ir.sources import Init, keys
from tests.oracle import (
    assert_parity,
    call_oracle,
    headers,
    job_of,
    saved,
    tiny,
    without_prefix,
)

TASKS: tuple[Task, ...] = ("text-classification", "multi-label", "regression")


@dataclass(frozen=True)
class Shape:
    """The sizes of a model, under our names."""

    vocab: int = 37
    positions: int = 19
    blocks: int = 2
    heads: int = 3
    head_width: int = 5
    hidden: int = 22
    token_types: int = 2
    activation: str = "gelu"


@dataclass(frozen=True, eq=False)  # by identity, to be a key of a cache
class Family:
    """An architecture as transformers has it, and where its head is."""

    model_type: str
    label: str  # the last layer, as the checkpoint names it
    pool: str  # the layer before it
    pooler: bool  # which belongs to the backbone
    segments: bool = True  # forward takes token types for a pair
    lost: int = 0  # positions that no token can have
    others: tuple[str, ...] = ()  # transformers' classes for other tasks
    # Of the configuration: what else a random model may vary, what does not matter, and
    # what is not supported.
    variants: tuple[Mapping[str, Any], ...] = ({},)
    harmless: Mapping[str, Any] = field(default_factory=dict)
    unsupported: Mapping[str, Any] = field(default_factory=dict)
    # transformers' names of sizes, where not BERT's.
    names: Mapping[str, str] = field(default_factory=dict)
    dropouts: tuple[str, str] = ("hidden_dropout_prob", "classifier_dropout")

    def name(self, key: str) -> str:
        return self.names.get(key, key)

    def config(self, shape: Shape = Shape(), /, **more: Any) -> PreTrainedConfig:
        sizes = {
            "vocab_size": shape.vocab,
            "max_position_embeddings": shape.positions,
            "num_hidden_layers": shape.blocks,
            "num_attention_heads": shape.heads,
            "hidden_size": shape.heads * shape.head_width,
            "intermediate_size": shape.hidden,
            "hidden_act": shape.activation,
        }
        if self.segments or self.lost:
            sizes["type_vocab_size"] = shape.token_types
        named = {self.name(key): value for key, value in sizes.items()}
        kind = transformers.CONFIG_MAPPING[self.model_type]
        return kind(**{**named, **more})

    @property
    def new_label(self) -> dict[str, str]:
        """What assert_parity needs where the last layer is new."""
        return {
            "classifier.label.weight": f"{self.label}.weight",
            "classifier.label.bias": f"{self.label}.bias",
        }

    @property
    def new_pool(self) -> dict[str, str]:
        return {
            "classifier.pool.weight": f"{self.pool}.weight",
            "classifier.pool.bias": f"{self.pool}.bias",
        }

    @property
    def new_head(self) -> dict[str, str]:
        return self.new_label | ({} if self.pooler else self.new_pool)


Tiny = tuple[PreTrainedModel, dict[str, Any], dict[str, Tensor]]


@cache
def _model_of(family: Family) -> Tiny:
    return tiny(family.config())


def model_of(family: Family) -> Tiny:
    """The family's model of plain sizes; a copy, since parity writes new heads to it."""
    return copy.deepcopy(_model_of(family))


def old_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As checkpoints converted from TensorFlow name the norms."""
    return {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for k, t in tensors.items()
    }


def longest_row(job: Job) -> int:
    """The bound of T, special tokens included."""
    bound = next(d.bound for d in job.model.dims if d.symbol == "T")
    assert bound is not None
    return bound


def is_new(job: Job, path: str) -> bool:
    return any(p.path == path and isinstance(p.source, Init) for p in parameters(job))


def dropped(model: Model) -> list[float]:
    """The p of every dropout, in the order of execution."""

    def walk(module: Module) -> Iterator[float]:
        for op in module.ops:
            if op.kind == "call":
                yield from walk(model.by_name[module.instance(op.name).module])
            elif op.kind == "dropout":
                p = op.attrs_dict["p"]
                assert isinstance(p, Const)
                yield float(model.constants[p.name])

    return list(walk(model.main))


def dropped_by_transformers(model: PreTrainedModel) -> list[float]:
    """The same of its model; the attention's is no call of a module there."""
    seen: list[float] = []

    def record(module: torch.nn.Module, _args: Any, _out: Any) -> None:
        assert isinstance(module, torch.nn.Dropout)
        seen.append(module.p)

    hooks = [
        module.register_forward_hook(record)
        for module in model.modules()
        if isinstance(module, torch.nn.Dropout)
    ]
    model.train()
    try:
        call_oracle(model, {"ids": torch.tensor([[3, 4, 5]])})
    finally:
        model.eval()
        for hook in hooks:
            hook.remove()
    return seen


def randomly(family: Family, seed: int) -> None:
    """A model of random sizes, saved in a random way, imported for a random job."""
    r = random.Random(f"{family.model_type} {seed}")
    heads, head_width = r.randint(1, 5), r.randint(1, 9)
    if heads * head_width < 3:
        # The norm of one or two numbers is 0 or 1 whatever they are, and its gradient is
        # rounding over the root of epsilon: there is nothing to compare to 1e-9.
        head_width = 3
    shape = Shape(
        vocab=r.randrange(11, 98, 2),
        positions=r.randint(3 + family.lost, 33),
        blocks=r.randint(1, 5),
        heads=heads,
        head_width=head_width,
        hidden=r.randint(1, 50),
        token_types=r.randint(2, 4),
        activation=r.choice(sorted(ACTIVATIONS)),
    )
    task = r.choice(TASKS)
    count = r.randint(1 if task != "text-classification" else 2, 5)
    labels = tuple(f"label {i}" for i in range(count))
    config = family.config(shape, **r.choice(family.variants))
    model, card, tensors = tiny(config, labels, seed=seed)
    keep = r.random() < 0.5
    new = {}
    if not keep:
        labels = tuple(f"other {i}" for i in range(count))
        new = family.new_head
        if r.random() < 0.5:
            tensors = without_prefix(model, tensors)
            if family.pooler and r.random() < 0.5:
                tensors = {k: t for k, t in tensors.items() if "pooler" not in k}
                new = family.new_label | family.new_pool
    if r.random() < 0.3:
        tensors = old_names(tensors)
    job = job_of(card, tensors, task, labels, pair=r.random() < 0.5)
    assert is_new(job, "classifier.label.weight") != keep
    assert_parity(job, model, tensors=tensors, new=new, seed=seed)


class EncoderTests:
    """Inherited by a class with the family; pytest collects it there."""

    family: Family

    def refused(
        self,
        config: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        code: str,
        *says: str,
        **request: Any,
    ) -> None:
        """Importing is one clear error of this code, with a mend."""
        with pytest.raises(GenError) as caught:
            job_of(config, tensors, **request)
        (found,) = caught.value.diagnostics
        assert found.code == code, found
        assert found.help
        for text in says:
            assert text in found.message + found.help, found

    # ---------------------------------------------------------------------- parity

    @pytest.mark.parametrize("seed", range(4))
    def test_random_models(self, seed: int) -> None:
        randomly(self.family, seed)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(100, 160))
    def test_more_random_models(self, seed: int) -> None:
        randomly(self.family, seed)

    @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
    def test_every_activation(self, activation: str) -> None:
        shape = Shape(blocks=1, activation=activation)
        model, card, tensors = tiny(self.family.config(shape))
        assert_parity(job_of(card, tensors), model, tensors=tensors, lengths=[[7, 3]])

    @pytest.mark.parametrize("pair", [False, True])
    def test_every_length(self, pair: bool) -> None:
        for variant in self.family.variants:
            shape = Shape(blocks=1, heads=1, head_width=3, hidden=4, positions=9)
            model, card, tensors = tiny(self.family.config(shape, **variant))
            job = job_of(card, tensors, pair=pair)
            longest = longest_row(job)
            assert longest == 9 - self.family.lost
            single = [[n] for n in range(1, longest + 1)]
            padded = [[longest, n] for n in range(1, longest)]
            lengths = [*single, *padded]
            assert_parity(job, model, tensors=tensors, lengths=lengths)

    def test_the_longest_row_is_transformers_longest(self) -> None:
        model, card, tensors = model_of(self.family)
        longest = longest_row(job_of(card, tensors))
        call_oracle(model, {"ids": torch.full((1, longest), 5)})
        with pytest.raises((IndexError, RuntimeError)):
            call_oracle(model, {"ids": torch.full((1, longest + 1), 5)})

    def test_the_padding_token_spelt_out_in_a_text(self) -> None:
        for seed in range(3):
            model, card, tensors = model_of(self.family)
            job = job_of(card, tensors)
            assert_parity(
                job, model, tensors=tensors, gradients=False, seed=seed, spelt=True
            )

    def test_single_precision(self) -> None:
        model, card, tensors = model_of(self.family)
        model.float()
        tensors = {k: t.float() for k, t in tensors.items()}
        job = job_of(card, tensors)
        assert_parity(job, model, tensors=tensors, tolerance=1e-5, gradients=False)

    def test_full_size(self) -> None:
        """The sizes of the class's defaults: as many parameters as transformers has."""
        config = transformers.CONFIG_MAPPING[self.family.model_type]()
        with torch.device("meta"):
            auto = transformers.AutoModelForSequenceClassification
            model = auto.from_config(config)
        tensors = {k: p.detach() for k, p in model.named_parameters()}
        job = job_of(json.loads(config.to_json_string(use_diff=False)), tensors)
        ours = sum(prod(p.shape) for p in parameters(job))
        assert ours == model.num_parameters() > 10**7
        assert is_new(job, "classifier.label.weight")

    @pytest.mark.parametrize("task", TASKS)
    def test_tasks(self, task: Task) -> None:
        for labels in (("a", "b", "c"), ("a",)):
            if task == "text-classification" and len(labels) == 1:
                continue
            model, card, tensors = tiny(self.family.config(), labels)
            job = job_of(card, tensors, task, labels)
            assert not is_new(job, "classifier.label.weight")
            assert_parity(job, model, tensors=tensors, lengths=[[4, 2]])

    def test_values_that_do_not_matter(self) -> None:
        config = self.family.config(**self.family.harmless)
        model, card, tensors = tiny(config)
        for key in self.family.harmless:
            assert key in card
        assert_parity(job_of(card, tensors), model, tensors=tensors, lengths=[[4, 2]])

    def test_epsilon(self) -> None:
        """DistilBERT does not read it, neither here nor there."""
        model, card, tensors = tiny(self.family.config(layer_norm_eps=0.7))
        assert card["layer_norm_eps"] == 0.7
        assert_parity(job_of(card, tensors), model, tensors=tensors, lengths=[[4, 2]])

    # ----------------------------------------------------------------- checkpoints

    @pytest.mark.parametrize("old", [False, True], ids=["weight", "gamma"])
    @pytest.mark.parametrize("prefix", [False, True], ids=["backbone", "task model"])
    def test_a_backbone(self, prefix: bool, old: bool) -> None:
        model, card, tensors = model_of(self.family)
        backbone = without_prefix(model, tensors)
        if prefix:
            kept = {f"{model.base_model_prefix}.{k}" for k in backbone}
            backbone = {k: t for k, t in tensors.items() if k in kept}
        backbone = old_names(backbone) if old else backbone
        job = job_of(card, backbone)
        assert is_new(job, "classifier.label.weight")
        assert not job.model.unused
        assert_parity(
            job,
            model,
            tensors=backbone,
            new=self.family.new_head,
            lengths=[[4, 2]],
        )

    def test_no_pooler(self) -> None:
        model, card, tensors = model_of(self.family)
        backbone = {
            k: t
            for k, t in without_prefix(model, tensors).items()
            if not k.startswith("pooler.")
        }
        assert_parity(
            job_of(card, backbone),
            model,
            tensors=backbone,
            new=self.family.new_label | self.family.new_pool,
            lengths=[[4, 2]],
        )

    def test_the_head_is_kept_where_its_labels_are_ours(self) -> None:
        _, card, tensors = model_of(self.family)
        labels = ("negative", "positive")
        weight = "classifier.label.weight"
        assert not is_new(job_of(card, tensors, labels=labels), weight)
        assert is_new(job_of(card, tensors, labels=labels, head="new"), weight)
        assert is_new(job_of(card, tensors, labels=("no", "yes")), weight)
        assert is_new(job_of(card, tensors, labels=("a", "b", "c")), weight)
        assert not is_new(
            job_of(card, tensors, labels=("no", "yes"), head="keep"), weight
        )
        # Trained for another task, as far as its configuration says.
        other = card | {"problem_type": "multi_label_classification"}
        assert is_new(job_of(other, tensors, labels=labels), weight)
        assert not is_new(job_of(other, tensors, "multi-label", labels), weight)
        tokens = card | {"architectures": ["BertForTokenClassification"]}
        assert is_new(job_of(tokens, tensors, labels=labels), weight)
        for unclear in ({"a": "negative"}, ["negative", "positive"], {"0": "negative"}):
            assert is_new(
                job_of(card | {"id2label": unclear}, tensors, labels=labels), weight
            )
        # transformers does not write the names that it gives two labels itself.
        unnamed = {k: v for k, v in card.items() if k not in ("id2label", "label2id")}
        assert is_new(job_of(unnamed, tensors, labels=labels), weight)
        theirs = ("LABEL_0", "LABEL_1")
        assert not is_new(job_of(unnamed, tensors, labels=theirs), weight)

    def test_a_new_head_says_what_it_leaves_out(self) -> None:
        _, card, tensors = model_of(self.family)
        job = job_of(card, tensors, labels=("no", "yes"))
        unused = {u.key: u.reason for u in job.model.unused}
        expected = {f"{self.family.label}.{p}" for p in ("weight", "bias")}
        if not self.family.pooler:
            expected |= {f"{self.family.pool}.{p}" for p in ("weight", "bias")}
        assert set(unused) == expected
        assert set(unused.values()) == {OTHER_HEAD}

    def test_a_head_that_is_left_for_its_labels_is_told(self) -> None:
        _, card, tensors = model_of(self.family)
        own = tuple(card["id2label"].values())

        def told(labels: tuple[str, ...], head: Any = "auto", **change: Any) -> str:
            config = card | change
            request = Request(
                config, headers(tensors), "text-classification", labels, head, None, 0.0
            )
            job = job_of(config, tensors, labels=labels, head=head)
            return request.head_left(job.model)

        message = told(("no", "yes"))
        assert all(f'"{label}"' in message for label in own) and '"keep"' in message
        assert not told(("no", "yes"), "new")
        assert not told(("no", "yes"), "keep")
        assert not told(own)
        assert not told(("a", "b", "c"))
        assert not told(("no", "yes"), architectures=["XForTokenClassification"])
        assert not told(("no", "yes"), problem_type="regression")

    def test_new_weights_start_as_in_transformers(self) -> None:
        for said, std in ((0.7, 0.7), (0.0, 0.02)):
            shape = Shape(heads=4, head_width=16, blocks=1)
            config = self.family.config(shape, initializer_range=said)
            config.id2label = dict(enumerate("abcdef"))
            model = transformers.AutoModelForSequenceClassification.from_config(config)
            card, tensors = saved(model)
            drop = (self.family.label, self.family.pool)
            left = {k: t for k, t in tensors.items() if not k.startswith(drop)}
            job = job_of(card, left, labels=tuple("uvwxyz"))
            sources = {p.path: p.source for p in parameters(job)}
            for layer, theirs in (("label", drop[0]), ("pool", drop[1])):
                weight = sources[f"classifier.{layer}.weight"]
                bias = sources[f"classifier.{layer}.bias"]
                assert weight == Init("normal", std)
                assert bias == Init("constant", 0.0)
                got = model.get_parameter(f"{theirs}.weight")
                assert abs(float(got.detach().std()) / std - 1) < 0.2
                assert not model.get_parameter(f"{theirs}.bias").any()

    def test_checkpoints_of_other_tasks(self) -> None:
        """Their backbone is read, and whatever else they hold is named unused."""
        labels = ("negative", "positive")
        for name in self.family.others:
            torch.manual_seed(0)
            kind = getattr(transformers, name)
            config = self.family.config()
            config.id2label = dict(enumerate(labels))
            model = kind(config).double().eval()
            card, tensors = saved(model)
            word = next(k for k in tensors if k.endswith("word_embeddings.weight"))
            constant = word.replace("word_embeddings.weight", "position_ids")
            tensors[constant] = torch.arange(19)[None]
            job = job_of(card, tensors, labels=labels)
            assert is_new(job, "classifier.label.weight"), name
            read = {key for p in parameters(job) for key in keys(p.source)}
            unused = {u.key: u.reason for u in job.model.unused}
            assert read | unused.keys() == tensors.keys()
            prefix = word.removesuffix("embeddings.word_embeddings.weight")
            assert all(key.startswith(prefix) for key in read)
            assert unused.pop(constant) == "a constant"
            # Whatever else is of the backbone is read, but for a pooler.
            if prefix:
                assert all("pooler" in k for k in unused if k.startswith(prefix)), name

    # --------------------------------------------------------------------- dropout

    def test_dropout_is_where_transformers_has_it(self) -> None:
        hidden, head = self.family.dropouts
        config = self.family.config(Shape(), **{hidden: 0.25, head: 0.125})
        model, card, tensors = tiny(config)
        expected = dropped_by_transformers(model)
        assert 0.25 in expected and 0.125 in expected
        assert dropped(job_of(card, tensors).model) == expected

    def test_dropout_of_the_spec(self) -> None:
        _, card, tensors = model_of(self.family)
        model = job_of(card, tensors, dropout=0.3).model
        assert set(dropped(model)) == {0.3}
        assert [c.name for c in model.consts] == ["dropout", "norm_eps"]
        attention = job_of(card, tensors, attention_dropout=0.2).model
        assert attention.constants["attention_dropout"] == 0.2
        kinds = {
            op.attrs_dict.get("dropout")
            for m in attention.modules
            for op in m.ops
            if op.kind == "attention"
        }
        assert kinds == {Const("attention_dropout")}

    # ---------------------------------------------------------------------- errors

    def test_missing_tensors(self) -> None:
        _, card, tensors = model_of(self.family)
        one = next(k for k in sorted(tensors) if ".0." in k and k.endswith("weight"))
        left = {k: t for k, t in tensors.items() if k != one}
        self.refused(card, left, "G204", f'"{one}"')
        norm = next(k for k in tensors if k.endswith("embeddings.LayerNorm.bias"))
        left = {k: t for k, t in tensors.items() if k != norm}
        self.refused(card, left, "G204", f'"{norm}"')
        word = next(k for k in tensors if k.endswith("word_embeddings.weight"))
        left = {k: t for k, t in tensors.items() if k != word}
        self.refused(card, left, "G204", '"embeddings.word_embeddings.weight"')
        # A head that is kept is kept whole.
        left = {k: t for k, t in tensors.items() if not k.startswith(self.family.pool)}
        self.refused(card, left, "G204", self.family.pool)

    def test_many_missing_tensors_are_counted(self) -> None:
        _, card, tensors = model_of(self.family)
        left = {k: t for k, t in tensors.items() if ".1." not in k}
        self.refused(card, left, "G204", " and 11 more")

    def test_wrong_shapes(self) -> None:
        _, card, tensors = model_of(self.family)
        word = next(k for k in tensors if k.endswith("word_embeddings.weight"))
        wrong = tensors | {word: tensors[word][:-1]}
        width = tensors[word].shape[1]
        said = (f"[36, {width}]", f"[37, {width}]")
        self.refused(card, wrong, "G207", f'"{word}"', *said)
        wrong = tensors | {word: tensors[word].flatten()}
        self.refused(card, wrong, "G207", f'"{word}"')

    def test_unknown_tensors(self) -> None:
        _, card, tensors = model_of(self.family)
        base = self.family.pool.split(".")[0] if self.family.pooler else "adapter"
        for key in ("lora_A.weight", f"{base}.extra.bias", "encoder.layer.0.gate"):
            more = tensors | {key: torch.zeros(3, dtype=torch.float64)}
            self.refused(card, more, "G205", f'"{key}"')

    def test_buffers_of_old_files(self) -> None:
        model, card, tensors = model_of(self.family)
        word = next(k for k in tensors if k.endswith("word_embeddings.weight"))
        at = word.removesuffix("word_embeddings.weight")
        numbers = {
            f"{at}{n}_ids": torch.arange(5)[None] for n in ("position", "token_type")
        }
        assert_parity(job_of(card, tensors | numbers), model, tensors=tensors | numbers)

    def test_names_of_a_wrapper_are_recognised(self) -> None:
        _, card, tensors = model_of(self.family)
        wrapped = {f"module.{key}": value for key, value in tensors.items()}
        self.refused(card, wrapped, "G204", 'do not begin with "module."')

    def test_a_block_more_than_the_configuration_says(self) -> None:
        _, card, tensors = model_of(self.family)
        fewer = card | {self.family.name("num_hidden_layers"): 1}
        self.refused(fewer, tensors, "G205", "layer.1.")

    def test_weights_that_are_not_floating_point(self) -> None:
        _, card, tensors = model_of(self.family)
        one = next(k for k in sorted(tensors) if ".0." in k and k.endswith("weight"))
        self.refused(card, tensors | {one: tensors[one].long()}, "G211", f'"{one}"')

    def test_labels_in_another_order(self) -> None:
        _, card, tensors = model_of(self.family)
        swapped = ("positive", "negative")
        self.refused(card, tensors, "G206", "negative, positive", labels=swapped)
        job = job_of(card, tensors, labels=swapped, head="new")
        assert is_new(job, "classifier.label.weight")

    def test_a_head_to_keep_that_is_not_there(self) -> None:
        model, card, tensors = model_of(self.family)
        backbone = without_prefix(model, tensors)
        self.refused(card, backbone, "G206", 'head = "keep"', head="keep")
        self.refused(
            card, tensors, "G206", "3 rows", head="keep", labels=("a", "b", "c")
        )

    def test_an_unsupported_activation_lists_those_that_are(self) -> None:
        _, card, tensors = model_of(self.family)
        key = self.family.name("hidden_act")
        for value in ("mish", "gelu_10", None, 3, ["gelu"]):
            self.refused(
                card | {key: value}, tensors, "G203", key, ", ".join(ACTIVATIONS)
            )

    def test_values_that_change_the_computation(self) -> None:
        _, card, tensors = model_of(self.family)
        refused = {
            "is_encoder_decoder": True,
            "pruned_heads": {"0": [1]},
            "quantization_config": {"quant_method": "gptq"},
            **self.family.unsupported,
        }
        for key, value in refused.items():
            self.refused(card | {key: value}, tensors, "G203", f"{key} = {value!r}")

    def test_malformed_values(self) -> None:
        _, card, tensors = model_of(self.family)
        name = self.family.name
        dropout, head_dropout = self.family.dropouts
        wrong: Sequence[tuple[str, Any]] = (
            (name("vocab_size"), "37"),
            (name("vocab_size"), 0),
            (name("hidden_size"), 15.0),
            (name("num_hidden_layers"), True),
            (name("num_hidden_layers"), 10**9),
            (name("num_attention_heads"), 4),
            (name("intermediate_size"), None),
            (name("max_position_embeddings"), -1),
            ("initializer_range", "0.02"),
            ("initializer_range", -1),
            (dropout, "0.1"),
            (dropout, 1),
            (dropout, float("nan")),
            (dropout, 10**400),
            (head_dropout, True),
            ("pad_token_id", 1.5),
            ("pad_token_id", 37),
            ("pad_token_id", -1),
        )
        for key, value in wrong:
            self.refused(card | {key: value}, tensors, "G202")

    def test_every_error_at_once(self) -> None:
        _, card, tensors = model_of(self.family)
        name = self.family.name
        wrong = card | {
            name("vocab_size"): "many",
            name("hidden_act"): "mish",
            "is_encoder_decoder": True,
        }
        with pytest.raises(GenError) as caught:
            job_of(wrong, tensors)
        codes = [d.code for d in caught.value.diagnostics]
        assert sorted(codes) == ["G202", "G203", "G203"]

    def test_another_task(self) -> None:
        _, card, tensors = model_of(self.family)
        request = Request(
            card, headers(tensors), "image-classification", ("a",), "auto", None, 0.0
        )
        with pytest.raises(GenError) as caught:
            find(self.family.model_type).build(request)
        (found,) = caught.value.diagnostics
        assert found.code == "G210"
        assert "text-classification, multi-label, regression" in found.help
