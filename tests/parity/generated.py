"""Generated models, run: rendered, written to a folder, imported, and compared.

    model = generated(job, tensors, folder)
    assert_same(model, job, theirs)

compares the outputs of every block, the logits and the gradient of every parameter with
transformers' model, in fp64.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
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
from generator.ir.sources import (
    Concatenate,
    Fold,
    Gain,
    Init,
    Left,
    Norms,
    Repeat,
    Resize,
    Right,
    Share,
    Source,
    Stretch,
    Take,
    Tile,
    keys,
)
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
    # Else safetensors does not save it.
    assert all(x.is_contiguous() for x in model.state_dict().values())
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
    names: Mapping[str, str] | None = None,
    loaded: Mapping[str, Tensor] | None = None,
    ids: list[int] | None = None,
) -> None:
    """GenError-free parity, block by block; the first that differs is named.

    `tensors` has transformers' own weights, `loaded` what the model was loaded from where
    that differs; `ids` are theirs of our tokens, where they have other numbers.
    """
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
        asked = (
            batch if ids is None else {**batch, "ids": torch.tensor(ids)[batch["ids"]]}
        )
        want = call_oracle(theirs, asked)
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
            if number and job.reference.width:
                reference = reference[..., list(job.model.kept["width"])]
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
            key: (names or {}).get(key) or name_of(key, tensors[key], theirs)
            for info in infos
            for key in keys(info.source)
        }
        pair = seen["logits"], want["logits"]
        chain = Chain(loaded or tensors, model)
        copies = tuple(f"{name}." for name in job.model.copies)
        _gradients(model, infos, theirs, named, *pair, new, tolerance, chain, copies)


@dataclass(frozen=True)
class Chain:
    """The chain rule through a source: what a parameter's gradient is, by those of the
    checkpoint's tensors. Copies of a unit have equal shares of what is the unit's."""

    values: Mapping[str, Tensor]  # by key
    model: Any  # its module has the helpers of its loader

    def gradient(self, source: Source, of_keys: Mapping[str, Tensor]) -> Tensor:
        match source:
            case Repeat(of, rows):
                g = self.gradient(of, of_keys)
                index = torch.arange(rows) % len(g)
                times = index.bincount().view(-1, *[1] * (g.ndim - 1))
                return (g / times)[index]
            case Share(of, columns):
                g = self.gradient(of, of_keys)
                return g[:, torch.arange(columns) % g.shape[1]]
            case Left(of, rank):
                right, _ = self.factors(of, rank)
                return self.gradient(of, of_keys) @ right.T
            case Right(of, rank):
                _, left = self.factors(of, rank)
                return left.T @ self.gradient(of, of_keys)
            case Take(of, axis, _, index):
                return self.gradient(of, of_keys).index_select(
                    axis, torch.tensor(index)
                )
            case Gain(of, before, after):
                return self.gradient(of, of_keys) / math.sqrt(before / after)
            case Fold(bias=bias):
                return self.gradient(bias, of_keys)
            case Tile(of=of) | Stretch(of=of) | Resize(of=of):
                return self.gradient(of, of_keys)  # transformers' table is as long
            case Concatenate(parts):
                return torch.cat([self.gradient(p, of_keys) for p in parts])
            case _:
                return evaluate_source(source, of_keys, ())

    def factors(self, of: Source, rank: int) -> tuple[Tensor, Tensor]:
        """As the model's own loader makes them: the signs are free."""
        made = sys.modules[type(self.model).__module__].factors
        return made(evaluate_source(of, self.values, ()), rank)


def _gradients(
    model, infos, theirs, saved, ours, logits, new, tolerance, chain, copies
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
        if info.path not in (new or {}) and isinstance(info.source, Init | Norms):
            continue  # of an adapter: transformers has none
        if info.path.startswith(copies):
            continue  # transformers has no such block
        got = model.get_parameter(info.path).grad
        if isinstance(info.source, Init):
            want = gradient((new or {})[info.path])
        else:
            found = {}
            for key in keys(info.source):
                found[key] = gradient(saved[key])
            want = chain.gradient(info.source, found)
        scale = max(float(want.norm()), 1e-6 * float(total))
        far = float((got - want).norm()) / scale
        assert far <= tolerance, f"gradient of {info.path} differs by {far:.3g}"
