"""Generated models, run: rendered, written to a folder, imported, and compared.

    model = generated(job, tensors, folder)
    assert_same(model, job, theirs)

compares the outputs of every block, the logits and the gradient of every parameter with
transformers' model, in fp64.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from black import format_str
from black.mode import Mode, TargetVersion
from oracle import batches_of, call_oracle, distance, lifted, oracle_name
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from generator.ir.job import Job, parameters
from generator.ir.sources import Init, keys
from generator.ir.text import parse_job, print_job
from generator.passes import run as run_passes
from generator.render import model as render_model
from generator.runtime.interpret import evaluate_source

MODE = Mode(target_versions={TargetVersion.PY311})


def source_of(job: Job) -> str:
    """model.py of an imported job, as a build writes it."""
    after, _ = run_passes(job)
    text = render_model.render(parse_job(print_job(after)))
    return format_str(text, mode=MODE)


def load_module(source: str, folder: Path, name: str = "generated_model") -> ModuleType:
    """The source as a module, from a file so that tracebacks show it."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


def generated(
    job: Job, tensors: Mapping[str, Tensor], folder: Path
) -> tuple[Any, ModuleType]:
    """The generated model in fp64 with the weights that its own loader read."""
    module = load_module(source_of(job), folder)
    file = folder / "model.safetensors"
    exact = {
        k: t.double().contiguous() if t.is_floating_point() else t
        for k, t in tensors.items()
    }
    save_file(exact, file)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of tables that are worked out
    try:
        # The checkpoint is fp64 here, and a loader casts what is not fp32.
        source = source_of(job).replace(".get_tensor(key).float()", ".get_tensor(key)")
        module = load_module(source, folder)
        model = module.load_pretrained(file).double().eval()
    finally:
        torch.set_default_dtype(default)
    return model, module


def name_of(key: str, value: Tensor, theirs: PreTrainedModel) -> str:
    """transformers' parameter that a saved tensor is: by its name, else by its value.

    Some models are saved under other names than they have in memory.
    """
    name = oracle_name(key, theirs)
    if name is not None:
        return name
    for name, p in theirs.named_parameters():
        if p.shape == value.shape and torch.equal(p.detach(), value.to(p.dtype)):
            return name
    raise AssertionError(f"transformers' model has no {key}")


def assert_same(
    model: Any,
    job: Job,
    theirs: PreTrainedModel,
    tensors: Mapping[str, Tensor],
    *,
    new: Mapping[str, str] | None = None,
    tolerance: float = 1e-9,
    spelt: bool = False,
) -> None:
    """GenError-free parity, block by block; the first that differs is named."""
    after, _ = run_passes(job)
    infos = parameters(after)
    state = model.state_dict()
    assert list(state) == sorted(state, key=list(state).index)
    assert {i.path for i in infos} == set(state), "names in the state dict"
    with torch.no_grad():
        for ours, name in (new or {}).items():
            theirs.get_parameter(name).copy_(state[ours])
    for batch in batches_of(job, None, 0, spelt):
        inputs = list(batch.values())
        if "pixels" in batch:
            inputs = [t.double() for t in inputs if t is not None]
            batch = {"pixels": inputs[0]}
        mask = batch.get("mask")
        want = call_oracle(theirs, batch)
        seen: dict[str, Tensor] = {}
        hooks = [
            block.register_forward_hook(
                lambda _m, _a, out, name=f"blocks.{i}", to=seen: to.update({name: out})
            )
            for i, block in enumerate(model.blocks)
        ]
        seen["logits"] = model(*inputs)
        for hook in hooks:
            hook.remove()
        ran = job.reference.blocks or range(len(model.blocks))
        for name, got in seen.items():
            stem, _, number = name.partition(".")
            reference = want[f"{stem}.{ran[int(number)]}" if number else name]
            if got.shape != reference.shape:  # the one position that is read
                index = torch.zeros(len(got), dtype=torch.long)
                if "LastToken" in type(model.blocks[-1]).__name__:
                    real = batch["ids"] != theirs.config.pad_token_id
                    real = real if mask is None else real & mask
                    index = (torch.arange(reference.shape[1]) * real).amax(1)
                reference = reference[torch.arange(len(got)), index][:, None]
            elif mask is not None and got.shape[:2] == mask.shape:
                got, reference = got[mask], reference[mask]
            far = distance(got.detach(), reference.detach())
            assert far <= tolerance, f"{name} differs by {far:.3g}"
        if spelt:  # transformers never trains the vector of the padding token
            continue
        named = {
            key: name_of(key, tensors[key], theirs)
            for info in infos
            for key in keys(info.source)
        }
        pair = seen["logits"], want["logits"]
        copies = tuple(f"{name}." for name in job.model.copies)
        _gradients(model, infos, theirs, named, *pair, new, tolerance, copies)


def _gradients(
    model, infos, theirs, saved, ours, logits, new, tolerance, copies
) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(logits.shape, generator=generator, dtype=logits.dtype)
    model.zero_grad()
    theirs.zero_grad()
    (ours * weights).sum().backward()
    with lifted():
        (logits * weights).sum().backward()
    total = torch.stack(
        [p.grad.norm() for p in theirs.parameters() if p.grad is not None]
    ).norm()
    named = dict(theirs.named_parameters(remove_duplicate=False))

    def gradient(name: str) -> Tensor:
        grad = named[name].grad
        return torch.zeros_like(named[name]) if grad is None else grad

    for info in infos:
        if info.path.startswith(copies):
            continue  # transformers has no such block
        got = model.get_parameter(info.path).grad
        if isinstance(info.source, Init):
            want = gradient((new or {})[info.path])
        else:
            found = {}
            for key in keys(info.source):
                found[key] = gradient(saved[key])
            want = evaluate_source(info.source, found, info.shape)
        scale = max(float(want.norm()), 1e-6 * float(total))
        far = float((got - want).norm()) / scale
        assert far <= tolerance, f"gradient of {info.path} differs by {far:.3g}"
