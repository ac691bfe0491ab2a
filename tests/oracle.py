"""transformers as the oracle: tiny random models, and whether a job computes the same.

    config = BertConfig(hidden_size=24, ...)
    model, card, tensors = tiny(config, labels=("no", "yes"))
    job = job_of(card, tensors, "text-classification", ("no", "yes"))
    assert_parity(job, model)

`tiny` gives what a checkpoint on disk would hold: its config.json and its tensors, by
the names that save_pretrained writes. `assert_parity` compares the output of every
block, the logits, and the gradient of every tensor of the checkpoint.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
)
from transformers.utils.logging import disable_progress_bar

from generator.ir.job import Job, parameters
from generator.ir.job import Tensor as Header
from generator.ir.plans import ImagePlan, Task
from generator.ir.sources import Init, Tie
from generator.runtime.interpret import evaluate_source, load, trace
from tests.ir.samples import LABELS, job_from

disable_progress_bar()  # save_pretrained's, once a model
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


# ------------------------------------------------------------------- transformers' side


@contextmanager
def lifted() -> Iterator[None]:
    """transformers' code with fp64 wherever it says fp32, whatever the model's dtype.

    Llama's norms, rotary tables and softmax are computed in fp32 even in a model of fp64;
    in here its own code computes them in fp64. Enter it to build a model (frequencies are
    made then) and to call it. `tiny` and `assert_parity` do.
    """
    with (
        mock.patch.object(torch, "float32", torch.float64),
        mock.patch.object(torch, "float", torch.float64),
        mock.patch.object(Tensor, "float", Tensor.double),
    ):
        yield


def in_its_precision(model: PreTrainedModel) -> AbstractContextManager[None]:
    """`lifted` for a model of fp64; one of fp32 runs as it is."""
    wide = next(model.parameters()).dtype == torch.float64
    return lifted() if wide else nullcontext()


def tiny(
    config: PreTrainedConfig,
    labels: Sequence[str] = LABELS,
    *,
    seed: int = 0,
    attention: str = "eager",
) -> tuple[PreTrainedModel, dict[str, Any], dict[str, Tensor]]:
    """A random classifier in fp64, its config.json, and its tensors as saved.

    Every parameter is random: norms' gains are not 1 and biases not 0, as in a fresh
    model, so that one that is left out shows. The model's own head is for `labels`.
    """
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    image = type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    auto = (
        AutoModelForImageClassification if image else AutoModelForSequenceClassification
    )
    with lifted():
        model = auto.from_config(config, attn_implementation=attention)
        model = model.double().eval()
    shuffle(model, seed)
    card, tensors = saved(model)
    return model, card, tensors


def shuffle(model: torch.nn.Module, seed: int) -> None:
    """Random values for every parameter, of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            if p.ndim < 2:
                gain = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0
                p.copy_(gain + 0.3 * noise)
            else:
                table = p.ndim < 4 and "embed" in name.lower()
                p.copy_(noise if table else noise / p[0].numel() ** 0.5)


def saved(model: PreTrainedModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and the tensors that save_pretrained writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        tensors: dict[str, Tensor] = {}
        for file in sorted(Path(folder).glob("*.safetensors")):
            tensors |= {k: t.clone() for k, t in load_file(file).items()}
    return config, tensors


def without_prefix(
    model: PreTrainedModel, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors as the backbone alone is saved: no prefix, no head."""
    prefix = model.base_model_prefix + "."
    return {
        k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)
    }


# -------------------------------------------------------------------------- gen's side


def headers(tensors: Mapping[str, Tensor]) -> tuple[Header, ...]:
    """What a safetensors header says of tensors, as `Request` wants it."""
    return tuple(
        Header(k, DTYPES[t.dtype], tuple(t.shape)) for k, t in sorted(tensors.items())
    )


def job_of(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    task: Task = "text-classification",
    labels: Sequence[str] = LABELS,
    *,
    pair: bool = False,
    head: str = "auto",
    max_tokens: int | None = None,
    dropout: float | None = None,
    attention_dropout: float = 0.0,
) -> Job:
    """The imported job of a checkpoint, verified, with plain plans around it."""
    return job_from(
        config,
        headers(tensors),
        task,
        labels,
        pair=pair,
        head=head,
        max_tokens=max_tokens,
        dropout=dropout,
        attention_dropout=attention_dropout,
    )


# ---------------------------------------------------------------------------- comparing


def distance(a: Tensor, b: Tensor, total: float = 0.0) -> float:
    """|a - b|, relative to the larger of |b| and a millionth of `total`."""
    size = max(float(b.norm()), 1e-6 * total)
    difference = float((a - b).norm())
    return difference / size if size else difference


def _beside(job: Job, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """What of rows the head reads beside their vectors, where it does."""
    found = {}
    if numbers := job.data.numbers:
        size = (rows, numbers)
        found["numbers"] = torch.randn(size, generator=generator, dtype=torch.float64)
    if columns := job.data.features.categorical:
        size, most = (rows, len(columns)), job.data.features.entries
        found["categories"] = torch.randint(0, most, size, generator=generator)
    return found


def batches_of(
    job: Job,
    lengths: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
    spelt: bool = False,
) -> Iterator[dict[str, Tensor | None]]:
    """Random inputs by the model's own names, a batch for each list of rows' lengths.

    Of images, a list gives as many as it has lengths. Rows are padded on the right. A
    batch without padding comes twice, with a mask and without. With `spelt`, a third of
    the real tokens are the padding token, as where texts spell it out.
    """
    generator = torch.Generator().manual_seed(seed)
    model = job.model
    names = [v.name for v in model.main.inputs]
    plan = job.data.inputs
    if isinstance(plan, ImagePlan):
        shape = [
            d.value(model.sizes | {"B": 1}) for d in model.main.inputs[0].type.shape
        ]
        for rows in lengths or ((1,), (1, 1, 1)):
            size = (len(rows), *shape[1:])
            pixels = torch.randn(size, generator=generator, dtype=torch.float64)
            yield {"pixels": pixels, **_beside(job, len(rows), generator)}
        return
    bound = min(plan.max_tokens, 64)
    for rows in lengths or ((1,), (bound,), (min(5, bound), 1), (bound, bound // 2, 1)):
        rows = [max(1, n) for n in rows]
        ids = torch.full((len(rows), max(rows)), plan.pad_id)
        types = torch.zeros_like(ids)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for row, length in enumerate(rows):
            drawn = torch.randint(
                0, model.sizes["V"] - 1, (length,), generator=generator
            )
            ids[row, :length] = drawn + (drawn >= plan.pad_id)  # never the padding
            if spelt:
                chosen = torch.rand(length, generator=generator) < 1 / 3
                ids[row, :length][chosen] = plan.pad_id
            types[row, length // 2 : length] = 1
            mask[row, :length] = True
        batch: dict[str, Tensor | None] = {"ids": ids, "types": types, "mask": mask}
        batch |= _beside(job, len(rows), generator)
        yield {name: batch[name] for name in names}
        if mask.all():
            yield {name: None if name == "mask" else batch[name] for name in names}


def call_oracle(
    model: PreTrainedModel, inputs: Mapping[str, Tensor | None]
) -> dict[str, Tensor]:
    """transformers' logits and what its blocks give: "embedding", "blocks.0", ...

    "embedding" is what the first block is given.
    """
    seen: dict[str, Tensor] = {}
    blocks = _blocks(model)

    def before(_module: Any, args: Any, kwargs: Any) -> None:
        seen["embedding"] = [*args, *kwargs.values()][0]

    def after(name: str) -> Any:
        def hook(_module: Any, _args: Any, out: Any) -> None:
            seen[name] = out[0] if isinstance(out, tuple) else out

        return hook

    hooks = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    for i, block in enumerate(blocks):
        hooks.append(block.register_forward_hook(after(f"blocks.{i}")))
    dtype = next(model.parameters()).dtype
    theirs = {
        "ids": "input_ids",
        "types": "token_type_ids",
        "mask": "attention_mask",
        "pixels": "pixel_values",
    }
    given = {theirs[k]: v for k, v in inputs.items() if v is not None}
    if "attention_mask" in given:
        given["attention_mask"] = given["attention_mask"].long()
    if "pixel_values" in given:
        given["pixel_values"] = given["pixel_values"].to(dtype)
    try:
        with in_its_precision(model):
            seen["logits"] = model(**given).logits
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The list of the backbone's blocks: the first of as many as the config says."""
    count = model.config.num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise AssertionError(f"{type(model).__name__} has no list of {count} blocks")


def oracle_name(key: str, model: PreTrainedModel) -> str | None:
    """The model's parameter that a tensor of a checkpoint is; None for one it has not.

    Checkpoints of the backbone alone have no prefix; those of old say gamma and beta.
    """
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    modern = key.replace("LayerNorm.gamma", "LayerNorm.weight")
    modern = modern.replace("LayerNorm.beta", "LayerNorm.bias")
    for name in (key, modern, f"{model.base_model_prefix}.{modern}"):
        if name in names:
            return name
    return None


def assert_parity(
    job: Job,
    model: PreTrainedModel,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    new: Mapping[str, str] | None = None,
    lengths: Sequence[Sequence[int]] | None = None,
    tolerance: float = 1e-9,
    gradients: bool = True,
    seed: int = 0,
    spelt: bool = False,
) -> dict[str, float]:
    """The job computes what the model computes; the largest distance of each thing.

    Compared are the outputs of every block and the logits at real positions, relative to
    their own norm, and the gradients of every parameter of the model, relative to the
    larger of its own norm and a millionth of all gradients'. The first that differs is
    named. In a job that passes have changed, a block whose output has another shape is
    not compared.

    `tensors` is the checkpoint that the job was made of, where that is not `model` as
    saved. `new` names, for each parameter that starts afresh, the model's parameter that
    it is: the model then gets the job's value. `spelt` goes to `batches_of`; transformers
    never trains the vector of the padding token, so that its gradients differ there.
    """
    tensors = saved(model)[1] if tensors is None else tensors
    leaves = {
        k: t.detach().clone().requires_grad_(t.is_floating_point())
        for k, t in tensors.items()
    }
    state = _state(job, leaves, new or {}, model)
    worst: dict[str, float] = {}

    def check(name: str, far: float, where: str) -> None:
        worst[name] = max(worst.get(name, 0.0), far)
        # `not <=` also catches a NaN.
        assert far <= tolerance, f"{name} differs by {far:.3g} ({where})"

    for batch in batches_of(job, lengths, seed, spelt):
        first = next(iter(batch.values()))
        assert first is not None
        mask = batch.get("mask")
        where = f"batch {tuple(first.shape)}, " + (
            "no mask" if mask is None else f"lengths {mask.sum(1).tolist()}"
        )
        if "pixels" in batch:
            batch = {"pixels": first.to(next(iter(state.values())).dtype)}
        theirs = call_oracle(model, batch)
        ours = trace(job, state, batch)
        for name, want in theirs.items():
            if name == "embedding" and name not in ours:
                continue  # not a module of its own in this architecture
            assert name in ours, f"the job has no {name}"
            got = ours[name]
            if got.shape != want.shape:
                assert (
                    job.level != "imported"
                ), f"{name} is {tuple(got.shape)}, not {tuple(want.shape)} ({where})"
                continue
            if mask is not None and got.shape[:2] == mask.shape:
                got, want = got[mask], want[mask]
            check(name, distance(got.detach(), want.detach()), where)
        if gradients:
            _check_gradients(
                model, leaves, state, new or {}, ours, theirs, check, where
            )
    return worst


def _state(
    job: Job,
    leaves: Mapping[str, Tensor],
    new: Mapping[str, str],
    model: PreTrainedModel,
) -> dict[str, Tensor]:
    """The job's parameters as functions of the checkpoint's tensors, and new ones."""
    fresh = load(job, leaves)
    state: dict[str, Tensor] = {}
    for info in parameters(job):
        if isinstance(info.source, Tie):
            continue
        if isinstance(info.source, Init):
            assert info.path in new, f"{info.path} is new, and not said to be anything"
            state[info.path] = fresh[info.path].requires_grad_()
            with torch.no_grad():
                model.get_parameter(new[info.path]).copy_(state[info.path])
        else:
            state[info.path] = evaluate_source(info.source, leaves, info.shape)
    return state


def _check_gradients(
    model: PreTrainedModel,
    leaves: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    new: Mapping[str, str],
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    check: Any,
    where: str,
) -> None:
    """Of a random weighing of the logits, so that no loss function comes in."""
    logits = theirs["logits"]
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    weights = weights.to(logits.dtype)
    # Their gradients, by parameter; where one is not read there is none.
    named = dict(model.named_parameters())
    model.zero_grad()
    with in_its_precision(model):
        (logits * weights).sum().backward()
    want = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in named.items()
    }
    model.zero_grad()
    # Ours, by the parameter of theirs that a tensor of the checkpoint is.
    sources: dict[str, Tensor] = {}
    for key, leaf in leaves.items():
        name = oracle_name(key, model)
        if name is not None and leaf.requires_grad:
            sources[name] = leaf
    sources |= {new[path]: t for path, t in state.items() if path in new}
    got = torch.autograd.grad(
        (ours["logits"] * weights).sum(),
        list(sources.values()),
        retain_graph=True,
        allow_unused=True,
    )
    by_name = dict(zip(sources, got, strict=True))
    total = float(torch.stack([g.norm() for g in want.values()]).norm())
    assert total > 0, "no gradient at all"
    for name, gradient in want.items():
        mine = by_name.get(name)
        mine = torch.zeros_like(gradient) if mine is None else mine
        check(f"gradient of {name}", distance(mine, gradient, total), where)
