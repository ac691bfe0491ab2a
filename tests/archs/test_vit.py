"""ViT: parity with transformers in fp64, the plan of its pixels, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, ViTConfig, ViTModel
from transformers.image_utils import PILImageResampling
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from generator.archs import find
from generator.archs.build import ACTIVATIONS, Imported, Request
from generator.archs.config import Config
from generator.archs.images import image_plan
from generator.errors import GenError
from generator.ir.job import Job, parameters
from generator.ir.plans import ImagePlan
from generator.runtime.interpret import load, run
from tests.oracle import (
    assert_parity,
    call_oracle,
    headers,
    job_of,
    saved,
    tiny,
    without_prefix,
)

LABELS = ("cat", "dog", "owl")
TASK = "image-classification"
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "image_size": 12,
    "patch_size": 4,
    "layer_norm_eps": 1e-6,
}


def sizes(**changes: Any) -> dict[str, Any]:
    return {**SIZES, **changes}


def in_memory(model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors by transformers 5's own names, which save_pretrained does not write."""
    return {k: p.detach() for k, p in model.named_parameters()}


def parity(config: ViTConfig, **more: Any) -> Job:
    """Both of a checkpoint as it is saved, and of one by transformers' names in memory."""
    model, card, tensors = tiny(config, LABELS)
    job = job_of(card, in_memory(model), TASK, LABELS, **more)
    assert_parity(job, model, tensors=in_memory(model))
    as_saved = job_of(card, tensors, TASK, LABELS, **more)
    for name, parameter in load(as_saved, tensors).items():
        assert torch.equal(parameter, load(job, in_memory(model))[name]), name
    assert as_saved.model.main.ops == job.model.main.ops
    return as_saved


# ------------------------------------------------------------------------------- parity


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"image_size": [8, 20]}, id="a wide image"),
        pytest.param({"image_size": [20, 4]}, id="a tall image"),
        pytest.param({"image_size": [9, 8], "patch_size": [3, 4]}, id="oblong patches"),
        pytest.param({"image_size": 4}, id="one patch"),
        pytest.param({"image_size": [15, 14]}, id="pixels that no patch has"),
        pytest.param(
            {"image_size": [2, 3], "patch_size": 1}, id="patches of one pixel"
        ),
        pytest.param({"qkv_bias": False}, id="no bias of q, k and v"),
        pytest.param({"num_attention_heads": 1}, id="one head"),
        pytest.param({"num_hidden_layers": 5}, id="5 blocks"),
        pytest.param({"num_hidden_layers": 1, "layer_norm_eps": 0.1}, id="1 block"),
        pytest.param({"hidden_size": 130, "num_attention_heads": 13}, id="width 130"),
        pytest.param({"head_dim": 5}, id="heads of a width of their own"),
        pytest.param({"hidden_dropout_prob": 0.3}, id="dropout, which is off here"),
    ],
)
def test_every_part(changes: dict[str, Any]) -> None:
    parity(ViTConfig(**sizes(**changes)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    parity(ViTConfig(**sizes(hidden_act=activation, num_hidden_layers=1)))


def test_a_checkpoint_as_it_is_saved_computes_the_same() -> None:
    model, card, tensors = tiny(ViTConfig(**SIZES), LABELS)
    assert any("encoder.layer.0.attention.attention.query" in k for k in tensors)
    job = job_of(card, tensors, TASK, LABELS)
    pixels = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    ours = run(job, load(job, tensors), {"pixels": pixels})
    theirs = call_oracle(model, {"pixels": pixels})["logits"]
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_in_fp32() -> None:
    model, card, _ = tiny(ViTConfig(**sizes(image_size=[8, 20])), LABELS)
    model = model.float()
    job = job_of(card, in_memory(model), TASK, LABELS)
    assert_parity(job, model, tensors=in_memory(model), tolerance=1e-5, gradients=False)


@pytest.mark.parametrize("pooler", [False, True])
def test_the_backbone_alone_and_a_new_head(pooler: bool) -> None:
    """transformers saves the backbone with a pooler that its classifier does not have."""
    config = ViTConfig(**SIZES)
    model, card, _ = tiny(config, LABELS)
    bare = without_prefix(model, in_memory(model))
    more = saved(ViTModel(config))[1]
    extra = {k: t for k, t in more.items() if k.startswith("pooler.")}
    assert len(extra) == 2
    job = job_of(card, {**bare, **(extra if pooler else {})}, TASK, LABELS)
    assert {u.key for u in job.model.unused} == (set(extra) if pooler else set())
    new = {
        f"classifier.label.{name}": f"classifier.{name}" for name in ("weight", "bias")
    }
    assert_parity(job, model, tensors=bare, new=new)


def test_the_mask_token_is_unused() -> None:
    _, card, tensors = tiny(ViTConfig(**SIZES), LABELS)
    key = "vit.embeddings.mask_token"
    job = job_of(card, {**tensors, key: torch.zeros(1, 1, 24)}, TASK, LABELS)
    assert [u.key for u in job.model.unused] == [key]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_sizes(seed: int) -> None:
    draw = random.Random(seed)
    heads = draw.randint(1, 4)
    patch = [draw.randint(1, 5), draw.randint(1, 5)]
    patch_size = patch if draw.random() < 0.5 else patch[0]
    height, width = patch if isinstance(patch_size, list) else (patch[0], patch[0])
    parity(
        ViTConfig(
            hidden_size=heads * draw.randint(4, 12),
            num_hidden_layers=draw.randint(1, 5),
            num_attention_heads=heads,
            intermediate_size=draw.randint(1, 90),
            hidden_act=draw.choice(list(ACTIVATIONS)),
            image_size=[
                side * draw.randint(1, 5) + draw.randrange(side)
                for side in (height, width)
            ],
            patch_size=patch_size,
            layer_norm_eps=10 ** draw.uniform(-8, -1),
            qkv_bias=draw.random() < 0.5,
        )
    )


# --------------------------------------------------------------------- what is imported


def test_types_and_names_of_an_oblong_image() -> None:
    job = parity(ViTConfig(**sizes(image_size=[8, 20])))
    (pixels,) = job.model.main.inputs
    assert str(pixels) and str(pixels.type) == "f32[B,3,M*P,N*P]"
    named = {d.name: d.size for d in job.model.dims if d.name}
    assert (named["rows"], named["columns"], named["patch"]) == (2, 5, 4)
    assert next(d.bound for d in job.model.dims if d.symbol == "T") == 11
    paths = {p.path: p.shape for p in parameters(job)}
    assert paths["embedding.token"] == (24,)
    assert paths["embedding.position"] == (11, 24)
    assert paths["embedding.patch.weight"] == (24, 3, 4, 4)


@pytest.mark.parametrize(
    ("own", "asked", "drops"),
    [(0.0, None, 0.0), (0.3, None, 0.3), (0.3, 0.0, 0.0), (0.0, 0.2, 0.2)],
)
def test_dropout_is_there_only_where_something_drops(
    own: float, asked: float | None, drops: float
) -> None:
    config = ViTConfig(**SIZES, hidden_dropout_prob=own)
    _, card, tensors = tiny(config, LABELS)
    job = job_of(card, tensors, TASK, LABELS, dropout=asked)
    ops = [op for m in job.model.modules for op in m.ops if op.kind == "dropout"]
    # After the embedding, and after both halves of each of two blocks.
    assert len(ops) == (5 if drops else 0)
    assert job.model.constants.get("dropout", 0.0) == drops


def test_attention_dropout_is_the_specs() -> None:
    config = ViTConfig(**SIZES, attention_probs_dropout_prob=0.3)
    _, card, tensors = tiny(config, LABELS)
    assert (
        "attention_dropout" not in job_of(card, tensors, TASK, LABELS).model.constants
    )
    job = job_of(card, tensors, TASK, LABELS, attention_dropout=0.1)
    assert job.model.constants["attention_dropout"] == 0.1


def test_every_key_is_classified(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []
    finish = Config.finish
    monkeypatch.setattr(Config, "finish", lambda c: (seen.append(c), finish(c))[1])
    _, card, tensors = tiny(ViTConfig(**SIZES), LABELS)
    job_of(card, tensors, TASK, LABELS)
    known = frozenset().union(*(c.known for c in seen))
    assert set(ViTConfig().to_dict()) - known == set()


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"num_channels": 1}, "G203", "num_channels = 1 is not supported"),
        ({"hidden_act": "mish"}, "G203", "hidden_act = 'mish'"),
        ({"image_size": [12, 3]}, "G202", "less than patch_size"),
        ({"image_size": [12, 12, 12]}, "G202", "image_size is [12, 12, 12]"),
        ({"image_size": "12"}, "G202", "image_size is '12'"),
        ({"patch_size": [4, 0]}, "G202", "patch_size is [4, 0]"),
        ({"patch_size": True}, "G202", "patch_size is True"),
        ({"hidden_size": 25}, "G202", "no multiple of 3 heads"),
        ({"qkv_bias": 1}, "G202", "qkv_bias is 1"),
        ({"layer_norm_eps": 0}, "G202", "layer_norm_eps is 0"),
        ({"hidden_dropout_prob": 1.0}, "G202", "hidden_dropout_prob is 1.0"),
        ({"head_dim": -1}, "G202", "head_dim is -1"),
    ],
)
def test_what_config_json_may_not_say(
    changes: dict[str, Any], code: str, said: str
) -> None:
    _, card, tensors = tiny(ViTConfig(**sizes(num_hidden_layers=1)), LABELS)
    with pytest.raises(GenError) as caught:
        job_of({**card, **changes}, tensors, TASK, LABELS)
    found = [(d.code, d.message) for d in caught.value.diagnostics]
    assert any(c == code and said in message for c, message in found), found


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("vit.embeddings.cls_token", (2, 1, 24)),
        ("vit.embeddings.cls_token", (1, 1, 23)),
        ("vit.embeddings.cls_token", (24,)),
        ("vit.embeddings.position_embeddings", (2, 10, 24)),
        ("vit.embeddings.position_embeddings", (1, 9, 24)),
        ("vit.embeddings.patch_embeddings.projection.weight", (24, 3, 4, 5)),
    ],
)
def test_tensors_of_another_shape(key: str, shape: tuple[int, ...]) -> None:
    _, card, tensors = tiny(ViTConfig(**SIZES), LABELS)
    with pytest.raises(GenError) as caught:
        job_of(card, {**tensors, key: torch.zeros(shape)}, TASK, LABELS)
    (found,) = caught.value.diagnostics
    assert found.code == "G207" and key in found.message


# ------------------------------------------------------------------ the plan of pixels

FULL = {
    "crop_size": {"height": 200, "width": 100},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.1, 0.2, 0.3],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.4, 0.5, 0.6],
    "resample": 3,
    "rescale_factor": 0.01,
    "size": {"shortest_edge": 250},
}
PROCESSORS = {
    "ViT": ViTImageProcessorPil,
    "DeiT": DeiTImageProcessorPil,
    "CLIP": CLIPImageProcessorPil,
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(
    ("given", "height", "width"),
    [
        pytest.param({}, 224, 224, id="nothing said"),
        pytest.param({"size": 224}, 224, 224, id="a size of old"),
        pytest.param({"size": [224, 224], "resample": 0}, 224, 224, id="a list"),
        pytest.param(FULL, 200, 100, id="everything said"),
        pytest.param(
            {"crop_size": None, "do_center_crop": None, "resample": None}
            | {"do_convert_rgb": None, "do_pad": None, "pad_size": None}
            | {"size": {"height": 30, "width": 50}},
            30,
            50,
            id="null",
        ),
        pytest.param(
            {"do_normalize": None, "image_std": None, "do_rescale": None}
            | {"rescale_factor": None},
            224,
            224,
            id="null for steps",
        ),
        pytest.param({"do_normalize": False}, 224, 224, id="not normalised"),
        pytest.param({"do_rescale": False, "resample": 1}, 224, 224, id="not rescaled"),
        pytest.param({"image_mean": 0.2, "image_std": 0.3}, 224, 224, id="one number"),
        pytest.param(
            {"do_center_crop": True, "crop_size": 224, "do_resize": False},
            224,
            224,
            id="only cropped",
        ),
        pytest.param(
            {"do_center_crop": False, "size": {"height": 30, "width": 50}},
            30,
            50,
            id="oblong",
        ),
        pytest.param(
            {"size": 256, "default_to_square": False, "do_center_crop": True}
            | {"crop_size": 224},
            224,
            224,
            id="the short side",
        ),
    ],
)
def test_the_plan_is_what_transformers_does(
    name: str, given: dict[str, Any], height: int, width: int
) -> None:
    """Each field against the attributes of transformers' processor of the same file."""
    values = {**given, "image_processor_type": f"{name}ImageProcessor"}
    plan = image_plan(values, "file", height, width)
    theirs = PROCESSORS[name](**given)
    assert plan == _plan_of(theirs)


def _three(value: Any) -> tuple[float, float, float]:
    red, green, blue = value if isinstance(value, (list, tuple)) else (value,) * 3
    return red, green, blue


def _plan_of(p: Any) -> ImagePlan:
    exact = not p.size.shortest_edge
    resize = (p.size.height, p.size.width) if exact else (p.size.shortest_edge,) * 2
    filter = PILImageResampling(2 if p.resample is None else p.resample)
    return ImagePlan(
        column="file",
        resize=resize if p.do_resize else None,
        resize_mode="exact" if exact or not p.do_resize else "shortest",
        resample=filter.name.lower(),  # type: ignore[arg-type]
        crop=(p.crop_size.height, p.crop_size.width) if p.do_center_crop else None,
        rescale=p.rescale_factor if p.do_rescale else 1.0,
        mean=_three(p.image_mean if p.do_normalize else 0.0),
        std=_three(p.image_std if p.do_normalize else 1.0),
    )


@pytest.mark.parametrize("name", ["ViTFeatureExtractor", "ViTImageProcessorFast"])
def test_names_of_other_versions(name: str) -> None:
    for key in ("feature_extractor_type", "image_processor_type"):
        assert image_plan({key: name}, "f", 224, 224) == image_plan({}, "f", 224, 224)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (None, "G208", "no preprocessor_config.json"),
        (
            {"image_processor_type": "BeitImageProcessor"},
            "G203",
            "'BeitImageProcessor'",
        ),
        ({"image_processor_type": 3}, "G203", "image_processor_type = 3"),
        ({"size": {"longest_edge": 224}}, "G203", "size = {'longest_edge': 224}"),
        (
            {"size": {"shortest_edge": 224, "longest_edge": 300}},
            "G203",
            "size = {'shortest_edge': 224, 'longest_edge': 300}",
        ),
        ({"size": 0}, "G203", "size = 0"),
        ({"size": "224"}, "G203", "size = '224'"),
        ({"size": None}, "G203", "size = None"),
        ({"image_mean": None}, "G202", "image_mean: red is None"),
        ({"rescale_factor": None}, "G202", "rescale_factor is None"),
        ({"size": [224]}, "G203", "size = [224]"),
        ({"size": 384}, "G202", "images come out 384 by 384"),
        ({"size": {"shortest_edge": 224}}, "G202", "images come out of any size"),
        ({"do_resize": False}, "G202", "images come out of any size"),
        ({"do_resize": "yes"}, "G202", "do_resize is 'yes'"),
        ({"resample": 6}, "G203", "resample = 6"),
        ({"resample": "bicubic"}, "G203", "resample = 'bicubic'"),
        ({"do_center_crop": True}, "G203", "crop_size"),
        (
            {"do_center_crop": True, "crop_size": {"shortest_edge": 3}},
            "G203",
            "crop_size = {'shortest_edge': 3}",
        ),
        ({"rescale_factor": 0}, "G202", "rescale_factor is 0"),
        ({"image_mean": [0.5, 0.5]}, "G202", "image_mean is [0.5, 0.5]"),
        ({"image_mean": [0.5, "x", 0.5]}, "G202", "image_mean: green is 'x'"),
        ({"image_std": [0.5, 0, 0.5]}, "G202", "image_std has a 0"),
        ({"image_std": "0.5"}, "G202", "image_std: red is '0.5'"),
        ({"do_pad": True}, "G203", "do_pad = True"),
        ({"do_flip_channel_order": True}, "G203", "do_flip_channel_order = True"),
        ({"do_reduce_labels": True}, "G203", "do_reduce_labels = True"),
        ({"crop_pct": 0.9}, "G203", "crop_pct = 0.9"),
        ({"auto_map": {"AutoImageProcessor": "x.y"}}, "G203", "auto_map"),
    ],
)
def test_what_preprocessor_config_may_not_say(
    given: dict[str, Any] | None, code: str, said: str
) -> None:
    with pytest.raises(GenError) as caught:
        image_plan(given, "file", 224, 224)
    found = [(d.code, d.message) for d in caught.value.diagnostics]
    assert any(c == code and said in message for c, message in found), found


def test_what_does_nothing_may_be_said() -> None:
    quiet = {"do_pad": False, "do_reduce_labels": False, "processor_class": "X"}
    assert image_plan(quiet, "file", 224, 224) == image_plan({}, "file", 224, 224)


def _imported(
    card: dict[str, Any], tensors: dict[str, Tensor], **more: Any
) -> Imported:
    request = Request(
        config=card,
        tensors=headers(tensors),
        task=TASK,
        labels=LABELS,
        head="auto",
        dropout=None,
        attention_dropout=0.0,
        **more,
    )
    return find("vit").build(request)


def test_the_plan_comes_with_the_model() -> None:
    _, card, tensors = tiny(ViTConfig(**sizes(image_size=[8, 20])), LABELS)
    given = {"size": {"height": 8, "width": 20}, "resample": 2}
    plan = _imported(card, tensors, preprocessor=given, image_column="path").image
    assert plan == image_plan(given, "path", 8, 20)
    assert _imported(card, tensors, preprocessor=given).image is None
    with pytest.raises(GenError, match="images come out 9 by 20"):
        bad = {"size": {"height": 9, "width": 20}}
        _imported(card, tensors, preprocessor=bad, image_column="path")
    with pytest.raises(GenError, match="no preprocessor_config.json"):
        _imported(card, tensors, image_column="path")
