"""What the machine has, and what a package's model holds and computes, counted.

Run as a program, `python probe.py PACKAGE INPUTS FROZEN HALF`, where PACKAGE can be
imported; it imports nothing of this compiler. INPUTS is JSON: dtype and shape of each input
of `forward`; FROZEN is JSON: what does not train; HALF is JSON: a product to time in 16 bits
beside 32, as `times_as_fast` takes it, or null. The answer is a JSON object on standard
output.

The model is run on the meta device, which has shapes and no numbers: its matrix products
are counted by torch's own counter as they come, forward and backward.
"""

from __future__ import annotations

import importlib
import json
import platform
import statistics
import sys
import time
from typing import Any

ROUNDS = 9  # of products, after one that warms up


def main(
    package: str,
    inputs: list[tuple[str, list[int]]],
    frozen: list[str],
    half: dict[str, Any] | None,
) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    Model = importlib.import_module(f"{package}.model").Model
    cuda = torch.cuda.is_available()
    with torch.device("meta"):
        model = Model()
        given = [torch.empty(shape, dtype=getattr(torch, d)) for d, shape in inputs]
    model.to("meta")  # tables of angles are made on the processor whatever one asks
    for name, parameter in model.named_parameters():
        if any(name == f or name.startswith(f + ".") for f in frozen):
            parameter.requires_grad_(False)
    with FlopCounterMode(display=False) as forward:
        logits = model.eval()(*given)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    answer = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": cuda,
        "device": torch.cuda.get_device_name() if cuda else "",
        "parameters": sum(p.numel() for p in model.parameters()),
        "forward_flops": forward.get_total_flops(),
        "backward_flops": backward.get_total_flops(),
        "half": times_as_fast(**half) if half is not None else None,
    }
    print(json.dumps(answer))


def times_as_fast(
    dtype: str, device: str, rows: int, ins: int, outs: int
) -> dict[str, float]:
    """Quartiles over rounds of how much faster autocast to `dtype` is than fp32 at a linear
    layer (rows, ins) to (rows, outs), forward and backward."""
    import torch

    linear = torch.nn.Linear(ins, outs, device=device)
    x = torch.randn(rows, ins, device=device, requires_grad=True)

    def seconds(low: bool) -> float:
        start = time.perf_counter()
        with torch.autocast(device, getattr(torch, dtype), enabled=low):
            y = linear(x)
        y.float().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    ratios = [seconds(False) / seconds(True) for _ in range(ROUNDS + 1)][1:]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"low": low, "median": median, "high": high, "rows": rows}


if __name__ == "__main__":
    main(sys.argv[1], *map(json.loads, sys.argv[2:]))
