"""What no key can tell by itself: keys that contradict or do not fit each other."""

from __future__ import annotations

from generator.errors import quote
from generator.spec.entries import section_entries
from generator.spec.featured import check_features
from generator.spec.key import ONE_LABEL_TASKS, TEXT_TASKS
from generator.spec.state import State
from generator.spec.words import count, toml


def check_together(state: State) -> None:
    """What no key can tell by itself. Only values that were read well are looked at."""
    values = state.values
    _weights_and_columns(state)
    _columns(state)
    _focal(state)
    _deploy(state)
    _half(state)
    _export(state)
    _thresholds(state)
    check_features(state)
    _image_bytes(state)
    fractions = [
        values.get(f"data.{name}_fraction", 0.1)
        for name in ("valid", "test")
        if f"data.{name}" not in state.given
    ]
    if len(fractions) == 2 and not sum(fractions) < 1:
        at = "test" if "data.test_fraction" in state.given else "valid"
        state.add(
            "G010",
            ("data", f"{at}_fraction"),
            f"valid_fraction {fractions[0]} and test_fraction {fractions[1]} leave no "
            "rows to train on",
            label="the two must come to less than 1",
        )
    files: dict[str, str] = {}
    for name in ("train", "valid", "test"):
        file = values.get(f"data.{name}")
        if file is not None and files.setdefault(file, name) != name:
            state.add(
                "G010",
                ("data", name),
                f"{name} and {files[file]} are the same file",
                label=(
                    "what is trained on cannot measure how well it went"
                    if files[file] == "train"
                    else "the test would be on rows that chose the model"
                ),
                help=f"leave {name} out, and rows are set aside for it",
            )
    longest, budget = values.get("data.max_tokens", 128), values.get(
        "train.batch_tokens"
    )
    if budget is not None and state.task in TEXT_TASKS and budget < longest:
        state.add(
            "G010",
            ("train", "batch_tokens"),
            f"batch_tokens {budget} is less than max_tokens {longest} in [data]",
            label="a row of the greatest length would not fit a batch",
        )


def _focal(state: State) -> None:
    values, default = state.values, section_entries("train")["gamma"].default
    other = values.get("train.gamma", default) != default
    if other and values.get("train.loss", "standard") == "standard":
        state.add(
            "G010",
            ("train", "gamma"),
            'gamma has no meaning where loss is "standard"',
            label="it is of the focal loss",
            help='remove it, or give loss = "focal"',
            at="key",
        )


def _half(state: State) -> None:
    values = state.values
    if values.get("target.precision") == "fp16" and (
        values.get("target.device", "cpu") == "cpu"
    ):
        state.add(
            "G010",
            ("target", "precision"),
            'precision "fp16" is for cards',
            label="a processor takes about five times as long for it as for fp32",
            help='give precision = "bf16", or device = "cuda"',
        )


def _deploy(state: State) -> None:
    values = state.values
    kind = values.get("deploy.quantize", "none")
    if values.get("deploy.leave") and kind == "none":
        state.add(
            "G010",
            ("deploy", "leave"),
            'leave has no meaning where quantize is "none"',
            label="nothing is quantised that could be left alone",
            help='remove it, or give quantize = "int8"',
            at="key",
        )
    _apart(state, kind)
    if values.get("deploy.precision") == "bf16" and kind != "none":
        state.add(
            "G010",
            ("deploy", "precision"),
            f'precision "bf16" and quantize "{kind}" are two answers to one question',
            label="what the weights are kept in",
            help="give one of them",
        )


def _apart(state: State, kind: str) -> None:
    """Keys of [deploy] that are of some ways to quantise, or of training alone."""
    values, own = state.values, section_entries("deploy")
    weights, static = ("int8-weights", "int4-weights"), ("int8-static",)
    for name, kinds, label in (
        ("group", weights, "products of whole numbers have one scale for a row"),
        ("range", static, "it is of inputs that have one scale for all rows"),
        ("calibration_rows", static, "no other way to quantise looks at rows"),
        ("quantize_aware", (*weights, *static, "int8"), "there is nothing to round"),
    ):
        default = own[name].default
        label = label if kind != "none" else "there is nothing to round"
        if values.get(f"deploy.{name}", default) != default and kind not in kinds:
            state.add(
                "G010",
                ("deploy", name),
                f'{name} has no meaning where quantize is "{kind}"',
                label=label,
                help=f'remove it, or give quantize = "{kinds[0]}"',
                at="key",
            )
    if values.get("deploy.group", 0) % 16:
        state.add(
            "G010",
            ("deploy", "group"),
            f"group {values['deploy.group']} is no multiple of 16",
            label="groups are of 32, 64 or 128 weights, as a rule",
        )
    if values.get("deploy.quantize_after") and not values.get("deploy.quantize_aware"):
        state.add(
            "G010",
            ("deploy", "quantize_after"),
            "quantize_after has no meaning without quantize_aware",
            label="training rounds nothing that it could begin with later",
            help="remove it, or give quantize_aware = true",
            at="key",
        )


def _export(state: State) -> None:
    values, own = state.values, section_entries("features")
    columns = any(
        values.get(f"features.{name}", own[name].default) != own[name].default
        for name in ("numeric", "categorical", "dates", "text", "patterns")
    )
    if values.get("deploy.export") and columns:
        state.add(
            "G010",
            ("deploy", "export"),
            "a model whose head reads [features] cannot be exported",
            label="its preprocessing is more than a tokenizer or an image's",
            help="remove it, or [features]; predict.py answers rows with columns",
        )


def _thresholds(state: State) -> None:
    values, labels = state.values, state.values.get("labels")
    asked = values.get("deploy.thresholds", "none") != "none"
    if asked and state.task in ONE_LABEL_TASKS and labels and len(labels) != 2:
        state.add(
            "G010",
            ("deploy", "thresholds"),
            f"thresholds of {count(labels, 'label')} of which a row has one",
            label="of two labels there is a threshold, and of a multi-label job",
            help="remove it: the likeliest of several labels is the answer",
            at="key",
        )


def _weights_and_columns(state: State) -> None:
    """What comes once for each label."""
    values, labels = state.values, state.values.get("labels")
    if labels is None and state.task == "regression" and "labels" not in state.given:
        labels = section_entries("")["labels"].default
    if labels is None:
        return
    weights, columns = values.get("train.class_weights"), values.get("data.label")
    if isinstance(weights, tuple) and len(weights) != len(labels):
        state.add(
            "G008",
            ("train", "class_weights"),
            f"class_weights has {count(weights, 'weight')} "
            f"for {count(labels, 'label')}",
            label="one for each label, in their order",
        )
    flags = state.task == "multi-label" and columns is not None and len(columns) > 1
    counted = flags or state.task == "regression"
    if columns and counted and len(columns) != len(labels):
        what = "label" if flags else "target"
        state.add(
            "G008",
            ("data", "label"),
            f"label has {count(columns, 'column')} for {count(labels, what)}",
            label="one for each of labels, in their order",
            help=(
                ""
                if "labels" in state.given
                else f"name the targets at the top: labels = {toml(list(columns))}"
            ),
        )
    # The default may stand there, as it does in a spec that spells out all of them.
    if flags and values.get("data.separator", ";") != ";":
        state.add(
            "G010",
            ("data", "separator"),
            "separator has no meaning where each label has a column of its own",
            label="such columns hold 0 and 1",
            help="remove it",
            at="key",
        )
    if flags:
        return
    separator = values.get("data.separator", ";")
    for position, label in enumerate(labels if state.task == "multi-label" else ()):
        if "data.separator" in state.given and "data.separator" not in values:
            break
        if separator in label:
            state.add(
                "G010",
                ("labels", position),
                f"the label {quote(label)} holds the separator {quote(separator)}",
                label="it would be read as more than one label",
                help="set separator in [data] to something that no label holds",
            )


def _image_bytes(state: State) -> None:
    """Only Parquet holds bytes."""
    for name in ("train", "valid", "test"):
        file = state.values.get(f"data.{name}")
        if not state.values.get("data.image_bytes") or file is None:
            continue
        if not file.lower().endswith(".parquet"):
            state.add(
                "G010",
                ("data", "image_bytes"),
                f"a file of text has no images in its rows, and {name} is {quote(file)}",
                label="images themselves are in .parquet files",
                help="remove it where the column has paths",
                at="key",
            )
            return


def _columns(state: State) -> None:
    """A column is the input or the label, not both."""
    values = state.values
    labels, image = values.get("data.label", ()), values.get("data.image")
    for column in dict.fromkeys(labels):
        for name, inputs in (
            ("text", values.get("data.text", ())),
            ("image", (image,)),
        ):
            if column in inputs:
                state.add(
                    "G010",
                    ("data", "label"),
                    f"{name} and label are the same column, {quote(column)}",
                    label="the model would be given the answer",
                )
