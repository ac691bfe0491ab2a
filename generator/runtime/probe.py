"""What the machine has, and what a package's model holds and computes, counted.

Run as a program, `python probe.py PACKAGE INPUTS FROZEN`, where PACKAGE can be imported;
it imports nothing of this compiler. INPUTS is JSON: dtype and shape of each input of
`forward`; FROZEN is JSON: what does not train. The answer is a JSON object
on standard output.

The model is run on the meta device, which has shapes and no numbers: its matrix products
are counted by torch's own counter as they come, forward and backward.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys


def main(package: str, inputs: list[tuple[str, list[int]]], frozen: list[str]) -> None:
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
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], *map(json.loads, sys.argv[2:]))
