"""From preprocessor_config.json to the plan of how an image becomes pixels.

transformers' image processors of the plain kind are the reference: convert to RGB,
resize, crop, rescale, normalise. A key that asks for anything else is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from generator.archs.config import Config
from generator.errors import fail
from generator.ir.plans import ImagePlan

FILE = "preprocessor_config.json"
Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
# Pillow's codes.
RESAMPLES: tuple[Resample, ...] = (
    "nearest",
    "lanczos",
    "bilinear",
    "bicubic",
    "box",
    "hamming",
)
Triple = tuple[float, float, float]
HALF: Triple = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Processor:
    """What a class of transformers does where the file does not say."""

    size: Mapping[str, int]
    resample: Resample
    crop: int | None = None  # None: it does not crop, and has no size for it
    square: bool = True  # how a size of one number is meant
    mean: Triple = HALF
    std: Triple = HALF


PROCESSORS = {
    "ViT": Processor({"height": 224, "width": 224}, "bilinear"),
    "DeiT": Processor({"height": 256, "width": 256}, "bicubic", crop=224),
    "CLIP": Processor(
        {"shortest_edge": 224},
        "bicubic",
        crop=224,
        square=False,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    ),
}
# The endings of a class's name, of transformers' versions.
ENDINGS = (
    "ImageProcessorPil",
    "ImageProcessorFast",
    "ImageProcessor",
    "FeatureExtractor",
)
# Name and version things, or say how tensors come back, which is the package's matter.
HARMLESS = (
    "feature_extractor_type",
    "image_processor_type",
    "processor_class",
    "default_to_square",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "_valid_processor_keys",
    "image_processor_version",
    "image_seq_length",
    "transformers_version",
    "_processor_class",
    "do_convert_rgb",  # done to every image
)


def image_plan(
    preprocessor: Mapping[str, Any] | None, column: str, height: int, width: int
) -> ImagePlan:
    """The plan for a model of images of `height` by `width`, read from `column`.

    GenError where there is no file (G208; transformers refuses too), where a value is
    malformed or not supported (G202, G203), and where the images that come out are not
    those that the model takes (G202).
    """
    if preprocessor is None:
        raise fail(
            "G208",
            f"the checkpoint has no {FILE}, which says how an image becomes pixels",
            help="save it with the processor: AutoImageProcessor.from_pretrained(...)"
            ".save_pretrained(folder)",
        )
    c = Config(preprocessor, FILE)
    defaults = _defaults(c)
    resize, mode = (
        _size(c, defaults) if _flag(c, "do_resize", True) else (None, "exact")
    )
    resample = _resample(c, defaults.resample)
    crop = None
    if _flag(c, "do_center_crop", defaults.crop is not None):
        crop = _crop(c, defaults)
    rescale = 1.0
    if _flag(c, "do_rescale", True):
        rescale = c.positive("rescale_factor", 1 / 255)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if _flag(c, "do_normalize", True):
        mean = _triple(c, "image_mean", defaults.mean)
        std = _triple(c, "image_std", defaults.std)
        c.require(0.0 not in std, "image_std has a 0, by which pixels are divided")
    _refuse_others(c)
    result = crop or (resize if mode == "exact" else None)
    if not c.errors and result != (height, width):
        made = f"{result[0]} by {result[1]}" if result else "of any size"
        c.require(
            False,
            f"images come out {made}, and the model takes {height} by {width} "
            "(config.json: image_size)",
        )
    c.finish()
    return ImagePlan(column, resize, mode, resample, crop, rescale, mean, std)


def _defaults(c: Config) -> Processor:
    """Those of the class that the file names; ViT's where it names none."""
    old, new = "feature_extractor_type", "image_processor_type"
    key = new if c.optional(new) is not None else old
    name = c.optional(key)
    if name is None:
        return PROCESSORS["ViT"]
    for ending in ENDINGS:
        if isinstance(name, str) and name.removesuffix(ending) in PROCESSORS:
            return PROCESSORS[name.removesuffix(ending)]
    c.unsupported(key, (f"{n}ImageProcessor" for n in PROCESSORS))
    return PROCESSORS["ViT"]


def _flag(c: Config, key: str, default: bool) -> bool:
    """As transformers takes it: null is no, a key that is not there the default."""
    null = key in c.values and c.optional(key) is None
    return False if null else c.flag(key, default)


def _size(
    c: Config, defaults: Processor
) -> tuple[tuple[int, int], Literal["exact", "shortest"]]:
    size = c.values.get("size", defaults.size)
    square = _flag(c, "default_to_square", defaults.square)
    match size:
        case int() if square:
            size = {"height": size, "width": size}
        case int():
            size = {"shortest_edge": size}
        case [first, second]:
            size = {"height": first, "width": second}
    match size:
        case {"height": int(h), "width": int(w), **rest} if h > 0 < w and not rest:
            return (h, w), "exact"
        case {"shortest_edge": int(edge), **rest} if edge > 0 and not rest:
            return (edge, edge), "shortest"
    c.unsupported("size", ["a number", "height and width", "shortest_edge alone"])
    return (1, 1), "exact"


def _crop(c: Config, defaults: Processor) -> tuple[int, int]:
    match c.values.get("crop_size", defaults.crop):
        case int(n) if n > 0:
            return n, n
        case [int(h), int(w)] if h > 0 < w:
            return h, w
        case {"height": int(h), "width": int(w), **rest} if h > 0 < w and not rest:
            return h, w
    c.unsupported("crop_size", ["a number", "height and width"])
    return 1, 1


def _resample(c: Config, default: Resample) -> Resample:
    code = c.values.get("resample", RESAMPLES.index(default))
    if code is None:
        return "bilinear"
    if type(code) is int and 0 <= code < len(RESAMPLES):
        return RESAMPLES[code]
    c.unsupported("resample", [f"{i} ({n})" for i, n in enumerate(RESAMPLES)])
    return default


def _triple(c: Config, key: str, default: Triple) -> Triple:
    """A number for each of red, green and blue, or one for the three."""
    value = c.values.get(key, default)
    three = value if isinstance(value, (list, tuple)) else (value, value, value)
    each = Config(dict(zip(("red", "green", "blue"), three)), f"{FILE}, {key}")
    c.require(
        len(three) == 3, f"{key} is {value!r}, and should be a number or a list of 3"
    )
    if len(three) != 3:
        return default
    numbers = (each.real("red", 0), each.real("green", 0), each.real("blue", 0))
    c.errors += each.errors
    return default if each.errors else numbers


def _refuse_others(c: Config) -> None:
    """Steps that this plan does not have; other keys transformers does not read either."""
    c.read.update(HARMLESS)
    c.neutral(size_divisor=None, crop_pct=None, use_square_size=False)
    c.neutral(offset=False, auto_map=None, max_image_size=None)
    for key in sorted(c.values):
        if key.startswith("do_") and key not in c.read:
            c.neutral(**{key: False})
