"""lora, dora, ia3 and adapter: what they change, what trains, and that PEFT agrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import batches_of, call_oracle, distance
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, LlamaConfig, ViTConfig
from whole_support import Whole, whole

from generated import draft_of, generated, load_module
from generator.cost import describe
from generator.errors import GenError
from generator.ir.job import Job, added, parameters
from generator.ir.sources import Init, Norms, Parameter
from generator.passes import EDITS
from generator.passes import run as run_passes
from generator.render.train import train_view
from generator.runtime.interpret import evaluate_source, load
from generator.runtime.interpret import run as interpret
from tests.edits.support import Tiny, edited, make
from tests.parity.test_generated_models import KINDS

LOW: dict[str, Any] = {"rank": 2, "alpha": 6.0, "dropout": 0.0}
QV = {"on": ("attention.q", "attention.v"), **LOW}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", QV),
    "lora everywhere": (
        "lora",
        {"on": ("attention.q", "attention.out", "ff.up", "ff.down"), **LOW},
    ),
    "lora in some": ("lora", {**QV, "blocks": (1,)}),
    "lora in one": ("lora", {"on": ("blocks.2.ff.up", "attention.k"), **LOW}),
    "dora": ("dora", QV),
    "ia3": (
        "ia3",
        {"on": ("attention.k", "attention.v", "ff.down"), "inputs": ("ff.down",)},
    ),
    "adapter": (
        "adapter",
        {"on": ("attention", "ff"), "width": 3, "activation": "relu"},
    ),
    "adapter in one": (
        "adapter",
        {"on": ("blocks.0.ff",), "width": 2, "activation": "gelu"},
    ),
}


def made(kind: str, case: str) -> tuple[Tiny, Job]:
    tiny = make(kind, num_hidden_layers=3)
    do, arguments = CASES[case]
    return tiny, edited(tiny.job, do, **arguments)


def fill(parameters: Mapping[str, Tensor], job: Job, scale: float = 0.1) -> None:
    """Other values for what adapters have, as training leaves them."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in added(job):
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            parameters[p.path].add_((scale * noise).to(parameters[p.path].dtype))


# What is computed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_at_first_nothing_is_changed(kind: str, case: str) -> None:
    tiny, job = made(kind, case)
    old, new = load(tiny.job, tiny.tensors), load(job, tiny.tensors)
    exact = CASES[case][0] != "dora"
    for batch in batches_of(job):
        want, got = interpret(tiny.job, old, batch), interpret(job, new, batch)
        assert torch.equal(got, want) if exact else distance(got, want) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_generated_at_first_equal_to_transformers(kind, case, tmp_path) -> None:
    tiny, job = made(kind, case)
    model, _ = generated(job, tiny.tensors, tmp_path)
    model.load_state_dict(model.state_dict(), strict=True)
    for batch in batches_of(job):
        want = call_oracle(tiny.theirs, batch)["logits"]
        with torch.no_grad():
            got = logits_of(model, [batch])
        assert distance(got, want) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_generated_equal_to_the_interpreter_and_merged(kind, case, tmp_path) -> None:
    tiny, job = made(kind, case)
    model, module = generated(job, tiny.tensors, tmp_path)
    after, _ = run_passes(job)
    state = dict(model.named_parameters())
    fill(state, after)
    batches = list(batches_of(job))
    for batch in batches:
        got, want = model(*batch.values()), interpret(after, state, batch)
        one = interpret(after, state, batch)
        assert distance(got, want) < 1e-9
        names = [p.path for p in added(after)]
        ours = torch.autograd.grad(got.sum(), [state[n] for n in names])
        theirs = torch.autograd.grad(want.sum(), [state[n] for n in names])
        every = torch.autograd.grad(one.sum(), [*state.values()], allow_unused=True)
        total = float(torch.stack([g.norm() for g in every if g is not None]).norm())
        for name, a, b in zip(names, ours, theirs, strict=True):
            assert distance(a, b, total) < 1e-9, name
    if CASES[case][0] == "adapter":
        assert not hasattr(module, "merge")
        return
    with torch.no_grad():
        before = logits_of(model, batches)
        assert distance(logits_of(module.merge(model), batches), before) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][0] != "adapter"])
def test_merged_in_single_precision(kind: str, case: str, tmp_path) -> None:
    """To 1e-6, or where rounding alone is larger, to no more than twice that.

    What the unmerged model is off the same in fp64 is rounding alone.
    """
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
    if kind == "llama":
        sizes |= {"num_key_value_heads": 2, "head_dim": 16}
    tiny = make(kind, num_hidden_layers=3, **sizes)
    do, arguments = CASES[case]
    job = edited(tiny.job, do, **arguments)
    model, module = generated(job, tiny.tensors, tmp_path)
    after, _ = run_passes(job)
    fill(dict(model.named_parameters()), after)
    batches = list(batches_of(job))
    with torch.no_grad():
        exact = logits_of(model, batches)
        before = logits_of(model.float(), batches)
        merged = logits_of(module.merge(model), batches)
        rounding = distance(before.double(), exact)
        assert distance(merged, before) < max(1e-6, 2 * rounding)
        assert rounding < 1e-5


@torch.no_grad()
def logits_of(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> Tensor:
    """Of all batches."""
    dtype = next(model.parameters()).dtype
    given = (
        [x.to(dtype) if n == "pixels" else x for n, x in b.items()] for b in batches
    )
    return torch.cat([model(*inputs) for inputs in given])


@pytest.mark.parametrize("case", CASES)
def test_the_weight_map_says_what_the_sources_say(case: str) -> None:
    tiny = make("bert", num_hidden_layers=3)
    do, arguments = CASES[case]
    job, weights = EDITS[do].run(tiny.job, **arguments)
    old, new = load(tiny.job, tiny.tensors), load(job, tiny.tensors)
    for info in parameters(job):
        source = weights.source(info.path)
        if isinstance(source, Init):
            assert source == info.source
        else:
            value = evaluate_source(source, old, info.shape)
            assert torch.equal(value, new[info.path]), info.path
    assert not weights.dropped
    kinds = {type(weights.source(p.path)) for p in added(job)}
    assert kinds <= {Init, Norms} and Parameter not in kinds


@pytest.mark.parametrize("first", [True, False])
def test_together_with_keep_layers(first: bool, tmp_path) -> None:
    tiny = make("bert", num_hidden_layers=4)
    edits = [("keep-layers", {"layers": (0, 3)}), ("lora", QV)]
    job = tiny.job
    for do, arguments in edits if first else edits[::-1]:
        job = edited(job, do, **arguments)
    model, _ = generated(job, tiny.tensors, tmp_path)
    lora = {n for n, _ in model.named_parameters() if "lora" in n}
    assert {n.split(".")[1] for n in lora} == {"0", "1"} and len(lora) == 8
    assert {p.path for p in added(job)} == lora


def test_several_at_once(tmp_path) -> None:
    tiny = make("llama", num_hidden_layers=3)
    job = tiny.job
    for do, arguments in (
        ("lora", {"on": ("attention.q",), **LOW}),
        ("lora", {"on": ("ff.up",), "rank": 3, "alpha": 3.0, "dropout": 0.2}),
        ("dora", {"on": ("attention.out",), **LOW}),
        ("ia3", {"on": ("ff.down", "attention.v"), "inputs": ("ff.down",)}),
        ("adapter", {"on": ("ff",), "width": 2, "activation": "silu"}),
        ("adapter", {"on": ("attention",), "width": 3, "activation": "silu"}),
    ):
        job = edited(job, do, **arguments)
    model, module = generated(job, tiny.tensors, tmp_path)
    after, _ = run_passes(job)
    state = dict(model.named_parameters())
    fill(state, after)
    trained = {p.path for p in parameters(after) if not p.frozen}
    assert trained == {p.path for p in added(after)} | {
        p.path for p in parameters(after) if p.path.startswith("classifier.")
    }
    assert module.Config.rank == 2 and module.Config.rank2 == 3
    for batch in batches_of(job):
        with torch.no_grad():
            got = model(*batch.values())
            assert distance(got, interpret(after, state, batch)) < 1e-9
    with torch.no_grad():
        got = model(*batch.values())
        assert distance(module.merge(model)(*batch.values()), got) < 1e-12


MIXED = {
    "two ranks": (
        ("lora", {"on": ("attention.q",), "blocks": (0, 1), **LOW}),
        ("lora", {"on": ("attention.q",), "blocks": (2,), "rank": 1, "alpha": 3.0}),
    ),
    "two kinds": (
        ("lora", {"on": ("attention.q",), "blocks": (0, 1), **LOW, "dropout": 0.3}),
        (
            "ia3",
            {
                "on": ("attention.v", "ff.down"),
                "inputs": ("ff.down",),
                "blocks": (1, 2),
            },
        ),
        ("dora", {"on": ("attention.k",), "blocks": (2, 3), **LOW}),
    ),
    "a low rank": (
        ("low-rank", {"on": ("ff.up", "attention.v"), "rank": 2, "blocks": (0, 2)}),
        ("lora", {"on": ("attention.q",), "blocks": (0, 1), **LOW}),
    ),
    "other sizes": (
        ("widen-ffn", {"to": 60, "blocks": (1,)}),
        ("lora", {"on": ("attention.q", "ff.down"), "blocks": (1, 2), **LOW}),
    ),
}


@pytest.mark.parametrize(
    "kind",
    ["bert", *(pytest.param(k, marks=pytest.mark.slow) for k in ("llama", "vit"))],
)
@pytest.mark.parametrize("case", MIXED)
def test_of_several_kinds_in_several_blocks(kind: str, case: str, tmp_path) -> None:
    """One attention serves all blocks, each with the linears that the job says."""
    tiny = make(kind, num_hidden_layers=5)
    job = tiny.job
    for do, arguments in MIXED[case]:
        dropout = {"dropout": 0.0} if do == "lora" else {}
        job = edited(job, do, **{**dropout, **arguments})
    model, module = generated(job, tiny.tensors, tmp_path)
    assert "Attention2" not in vars(module)
    after, _ = run_passes(job)
    state = dict(model.named_parameters())
    fill(state, after)
    for batch in batches_of(job):
        with torch.no_grad():
            got = model(*batch.values())
            assert distance(got, interpret(after, state, batch)) < 1e-9
    model.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert distance(module.merge(model)(*batch.values()), got) < 1e-12


@pytest.mark.parametrize("do", ["lora", "dora"])
def test_dropout_is_of_what_goes_into_the_adapter(do: str, tmp_path) -> None:
    tiny = make("bert", num_hidden_layers=1)
    job = edited(tiny.job, do, **{**QV, "dropout": 0.5})
    model, _ = generated(job, tiny.tensors, tmp_path)
    fill(dict(model.named_parameters()), job)
    linear = model.blocks[0].attention.v
    x = torch.randn(64, linear.in_features, dtype=torch.float64)
    first, second = linear.train()(x), linear(x)
    assert not torch.equal(first, second)
    with torch.no_grad():
        linear.lora_b.zero_()
    assert torch.equal(linear(x), linear.eval()(x))  # the weight's own input is whole
    assert describe(job).saved_bytes > describe(edited(tiny.job, do, **QV)).saved_bytes


@pytest.mark.parametrize("do", ["lora", "dora", "ia3", "adapter"])
def test_in_bf16_by_autocast(do: str, tmp_path) -> None:
    tiny, job = made("llama", do)
    model, module = generated(job, tiny.tensors, tmp_path)
    model = model.float()
    fill(dict(model.named_parameters()), run_passes(job)[0])
    batch = next(iter(batches_of(job)))
    want = logits_of(model, [batch])
    with torch.autocast("cpu", torch.bfloat16):
        got = model(*batch.values())
        got.float().sum().backward()
        assert distance(got.detach().float(), want) < 0.05
    grads = [model.get_parameter(p.path).grad for p in added(job)]
    assert all(g is not None and g.isfinite().all() for g in grads)
    if do == "adapter":
        return
    # Not under the autocast above, which keeps the weights that it has cast.
    merged = module.merge(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert distance(logits_of(merged, [batch]).float(), want) < 0.05


# PEFT

NAMES = {
    "bert": {"attention.q": "query", "attention.v": "value", "ff.down": "output.dense"},
    "llama": {"attention.q": "q_proj", "attention.v": "v_proj", "ff.down": "down_proj"},
}


def theirs_of(do: str, kind: str, theirs: nn.Module) -> PeftModel:
    names = NAMES[kind]
    if do == "ia3":
        # By a pattern: BERT has an output.dense in its attention too.
        down = r".*layer\.\d+\.output\.dense" if kind == "bert" else r".*down_proj"
        value = r".*\.(value|v_proj)"
        config: Any = IA3Config(
            target_modules=f"({down})|({value})", feedforward_modules=down
        )
    else:
        config = LoraConfig(
            r=2,
            lora_alpha=6,
            target_modules=[names["attention.q"], names["attention.v"]],
            use_dora=do == "dora",
        )
    return get_peft_model(theirs, config)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("do", ["lora", "dora", "ia3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_peft(kind: str, do: str, dtype: torch.dtype, tmp_path) -> None:
    tiny = make(kind, num_hidden_layers=3)
    arguments = {"lora": QV, "dora": QV}.get(
        do, {"on": ("attention.v", "ff.down"), "inputs": ("ff.down",)}
    )
    job = edited(tiny.job, do, **arguments)
    model, _ = generated(job, tiny.tensors, tmp_path)
    fill(dict(model.named_parameters()), run_passes(job)[0])
    theirs = theirs_of(do, kind, tiny.theirs).to(dtype).eval()
    copied = 0
    where = {there: ours for ours, there in NAMES[kind].items()}
    kinds = {
        "lora_A": "lora_a",
        "lora_B": "lora_b",
        "lora_magnitude_vector": "magnitude",
    }
    kinds["ia3_l"] = "gain"
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            part = next((ours for k, ours in kinds.items() if f".{k}." in name), None)
            if part is None:
                continue
            number = next(s for s in name.split(".") if s.isdigit())
            stem = name.split(".ia3_l.")[0].split(".lora_")[0]
            linear = next(o for there, o in where.items() if stem.endswith(there))
            p.copy_(
                model.get_parameter(f"blocks.{number}.{linear}.{part}").view(p.shape)
            )
            copied += 1
    assert copied == len(added(job))
    model = model.to(dtype)
    batches = list(batches_of(job))
    base: Any = tiny.theirs.to(dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        want = torch.cat([call_oracle(base, batch)["logits"] for batch in batches])
    far = distance(logits_of(model, batches), want)
    assert far <= (1e-6 if dtype == torch.float32 else 1e-9), far


# What trains


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_only_adapters_and_the_head_train(kind: str, case: str) -> None:
    _, job = made(kind, case)
    after, _ = run_passes(job)
    infos = parameters(after)
    brought = {p.path for p in added(after)}
    head = {p.path for p in infos if p.path.startswith("classifier.")}
    assert brought and head
    assert {p.path for p in infos if not p.frozen} == brought | head
    view = train_view(after)
    assert view.not_trained
    decayed = {p.path.rpartition(".")[2] for p in added(after) if p.decay}
    assert (
        decayed
        == {
            "lora": {"lora_a", "lora_b"},
            "dora": {"lora_a", "lora_b"},
            "ia3": set(),
            "adapter": {"weight"},
        }[CASES[case][0]]
    )


def test_what_trains_is_said_shortly() -> None:
    _, job = made("bert", "lora")
    view = train_view(run_passes(job)[0])
    constants = {name: value for name, value, _ in view.constants}
    assert constants["TRAINED"] == ("classifier", "lora_a", "lora_b")
    assert "FROZEN" not in {name for name, _, _ in view.tables}


def test_frozen_parameters_need_no_gradient_in_the_cost() -> None:
    tiny, job = made("bert", "lora")
    whole, some = (describe(run_passes(j)[0]) for j in (tiny.job, job))
    assert some.trained < whole.trained / 4
    assert some.train_bytes < whole.train_bytes
    # Merged, the products are those that the edit found, though q, k and v are apart.
    assert some.predict == whole.predict == whole.forward
    assert some.forward(8) > whole.forward(8)


def test_the_counted_flops_are_the_predicted(tmp_path) -> None:
    for case in ("lora", "ia3", "adapter"):
        _, job = made("bert", case)
        after, _ = run_passes(job)
        module = load_module(draft_of(job), tmp_path, "counted")
        with torch.device("meta"):
            model = module.Model().eval()
            ids = torch.ones(1, 8, dtype=torch.long)
        for info in parameters(after):
            model.get_parameter(info.path).requires_grad_(not info.frozen)
        with FlopCounterMode(display=False) as forward:
            logits = model(ids)
        with FlopCounterMode(display=False) as backward:
            logits.sum().backward()
        cost = describe(after)
        assert forward.get_total_flops() == cost.forward(8), case
        assert backward.get_total_flops() == cost.backward(8), case


# Whole packages

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 24,
    "vocab_size": 40,
}
CONFIGS: dict[str, Any] = {
    "bert": lambda: BertConfig(max_position_embeddings=64, **SMALL),
    "llama": lambda: LlamaConfig(
        max_position_embeddings=64, num_key_value_heads=1, pad_token_id=0, **SMALL
    ),
    "vit": lambda: ViTConfig(
        image_size=16,
        patch_size=8,
        **{k: v for k, v in SMALL.items() if "vocab" not in k},
    ),
}


def package(folder: Path, kind: str, *cases: str, **more: Any) -> Whole:
    task = "image-classification" if kind == "vit" else "text-classification"
    edits = [CASES[case] for case in cases]
    return whole(
        folder, CONFIGS[kind](), task=task, edits=edits, bare=kind != "vit", **more
    )


@pytest.mark.parametrize("case", ["lora", "dora", "ia3", "adapter"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_certificate_holds(kind: str, case: str, tmp_path: Path) -> None:
    made = package(tmp_path, kind, case)
    module = made.module("test_model")
    module.write_reference(made.weights)
    found = module.certificate(made.weights)
    assert [r for r in found if not r.holds] == []
    assert [r for r in found if r.measured is None] == []
    by_name = {r.name: r.measured for r in found}
    assert by_name["logits without adapters, fp32"] == 0 or case == "dora"
    assert ("adapters merged or not, fp32" in by_name) == (case != "adapter")


@pytest.mark.parametrize(
    ("case", "old", "new", "check"),
    [
        ("lora", "torch.zeros(Config", "torch.ones(Config", "logits without"),
        ("lora", "+= part.scale * ", "+= ", "adapters merged"),
        (
            "dora",
            "part.weight *= (part.magnitude / part.weight.norm(dim=1))[:, None]",
            "pass",
            "adapters merged",
        ),
        ("ia3", "part.bias *= part.gain", "pass", "adapters merged"),
        ("ia3", "(Config.hidden,), 1.0", "(Config.hidden,), 2.0", "logits without"),
        ("adapter", "return x + self.up(", "return self.up(", "logits without"),
    ],
)
def test_faults_show(case, old, new, check, tmp_path: Path) -> None:
    made = package(tmp_path, "bert", case)
    made.edit("model", old, new)
    found = made.module("test_model").certificate(made.weights)
    assert any(r.name.startswith(check) and not r.holds for r in found), found


@pytest.mark.parametrize("case", ["lora", "dora", "ia3", "adapter"])
def test_two_steps_and_a_resumption(case: str, tmp_path: Path) -> None:
    recipe = {"epochs": 2, "lr": 1e-2, "batch": 2, "save_every": 1, "warmup": 0.0}
    made = package(tmp_path, "bert", case, recipe=recipe)
    for name, count in (("train", 4), ("valid", 2), ("test", 2)):
        rows = "".join(
            f"a fine film of {name} {i},{('no', 'yes')[i % 2]}\n" for i in range(count)
        )
        (tmp_path / f"{name}.csv").write_text("text,label\n" + rows)
    train, model = made.module("train"), made.module("model")
    options = ["--root", str(tmp_path), "--weights", str(made.weights), "--quiet"]
    torch.manual_seed(made.job.train.seed)
    before = model.load_pretrained(made.weights).state_dict()
    assert train.main([*options, "--work", str(tmp_path / "whole")]) == 0
    files = sorted((tmp_path / "whole" / "checkpoints").glob("*.safetensors"))
    after = load_file(files[-1])
    changed = {n for n in before if not torch.equal(before[n], after[f"model.{n}"])}
    trained = {p.path for p in parameters(made.job) if not p.frozen}
    assert changed == trained  # and all of them have moved
    state = {n.split(".", 1)[1].rpartition(".")[0] for n in after if n[:5] == "adamw"}
    assert state == trained
    # Stopped after three steps and resumed it ends in the same weights.
    again = tmp_path / "again"
    (again / "checkpoints").mkdir(parents=True)
    third = files[-2]
    (again / "checkpoints" / third.name).write_bytes(third.read_bytes())
    (again / "metrics.jsonl").write_bytes(
        (tmp_path / "whole/metrics.jsonl").read_bytes()
    )
    for name in ("model.safetensors", "splits.json"):
        if (tmp_path / "whole" / name).exists():
            (again / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    assert train.main([*options, "--work", str(again), "--resume"]) == 0
    resumed = load_file(max((again / "checkpoints").glob("*")))
    assert after.keys() == resumed.keys()
    assert all(torch.equal(after[n], resumed[n]) for n in after)
    # What is served is the trained model, merged.
    best = load_file(tmp_path / "whole" / "model.safetensors")
    trained_model = model.Model().eval()
    trained_model.load_state_dict(best, strict=True)
    served = made.module("predict").load_trained(tmp_path / "whole/model.safetensors")
    ids = torch.tensor([[2, 5, 7, 3]])
    with torch.inference_mode():
        assert distance(served(ids), trained_model(ids)) < 1e-6
    parts = [m for m in served.modules() if hasattr(m, "merged")]
    assert all(m.merged for m in parts) and bool(parts) == (case != "adapter")


# What the spec may not ask for


@pytest.mark.parametrize(
    ("do", "arguments", "code", "message", "mend"),
    [
        ("lora", {"on": ("attention.w",)}, "G250", "no linear layer", "attention.q"),
        ("lora", {"on": ("blocks.9.ff.up",)}, "G240", "no block 9", "the last is 2"),
        ("lora", {"blocks": (0, 3)}, "G240", "no block 3", "the last is 2"),
        ("dora", {"rank": 1000}, "G252", "no rank above", "rank = "),
        (
            "ia3",
            {"on": ("ff.up", "blocks.1.ff.up"), "inputs": ()},
            "G253",
            "blocks.1.ff.up has an adapter already",
            "",
        ),
        ("adapter", {"on": ("ff.up",)}, "G250", 'no part "ff.up"', "attention, ff"),
    ],
)
def test_what_the_model_has_not(do, arguments, code, message, mend) -> None:
    tiny = make("bert", num_hidden_layers=3)
    base = {name: a for name, (_, a) in CASES.items()}[do]
    with pytest.raises(GenError) as caught:
        EDITS[do].run(tiny.job, **{**base, **arguments})
    (found,) = caught.value.diagnostics
    assert found.code == code and message in found.message and mend in found.help


def test_a_name_that_is_nearly_right_is_guessed() -> None:
    tiny = make("bert", num_hidden_layers=2)
    with pytest.raises(GenError) as caught:
        EDITS["lora"].run(tiny.job, **{**QV, "on": ("attention.query",)})
    assert 'did you mean "attention.' in caught.value.diagnostics[0].label


def test_a_layer_has_one_adapter() -> None:
    tiny = make("bert", num_hidden_layers=2)
    job = edited(tiny.job, "lora", **QV)
    with pytest.raises(GenError, match="adapter already"):
        EDITS["dora"].run(job, **QV)
    job = edited(tiny.job, "adapter", **CASES["adapter"][1])
    with pytest.raises(GenError, match="adapter already"):
        EDITS["adapter"].run(job, **CASES["adapter"][1])
