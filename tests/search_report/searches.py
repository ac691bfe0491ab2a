"""Searches to draw: what search.json holds, from a made-up job whose figures behave."""

from __future__ import annotations

import datetime
import math
import random
from collections.abc import Sequence
from typing import Any

OBJECTIVES = {
    "metric": {"name": "metric", "direction": "maximize", "unit": ""},
    "latency": {"name": "latency", "direction": "minimize", "unit": "ms"},
    "disk": {"name": "disk", "direction": "minimize", "unit": "MB"},
}
EDITS = ["none", "prune-ffn keep=0.5", "prune-heads keep=0.5", "low-rank rank=64"]
QUANTIZE = ["none", "int8", "int8-weights"]
CHOICES = [
    {"key": "train.lr", "kind": "float", "low": 2e-5, "high": 4e-4, "log": True},
    {"key": "train.epochs", "kind": "int", "low": 1, "high": 3, "log": False},
    {"key": "blocks", "kind": "int", "low": 2, "high": 6, "log": False},
    {"key": "edit", "kind": "categorical", "choices": EDITS},
    {"key": "deploy.quantize", "kind": "categorical", "choices": QUANTIZE},
]
BEFORE = {
    "train.lr": 5e-5,
    "train.epochs": 1,
    "blocks": 6,
    "edit": "none",
    "deploy.quantize": "none",
}
START = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)


def search(
    trials: int = 40,
    objectives: Sequence[str] = ("metric", "latency"),
    *,
    seed: int = 0,
    tested: bool = True,
    beside: bool = False,
    sampler: str = "tpe",
) -> dict[str, Any]:
    """A search of so many trials beside three baselines; with `beside`, one by chance."""
    chance = random.Random(f"{seed} {sampler}")
    found: dict[str, Any] = {
        "name": "movie_search",
        "spec": "movie_search.toml",
        "space": "all",
        "sampler": sampler,
        "seed": seed,
        "objectives": [OBJECTIVES[name] for name in objectives],
        "constraints": [
            {"text": "metric >= unedited - 0.03", "bound": 0.835},
            {"text": "latency <= 9 ms", "bound": 9.0},
        ],
        "budget": {"trials": trials, "hours": 0.4},
        "choices": CHOICES,
        "trials": [],
        "front": [],
    }
    clock = 0.0
    for name, metric, latency in (
        ("unedited", 0.865, 8.1),
        ("probe", 0.742, 8.1),
        ("smaller", 0.851, 4.6),
    ):
        values = {
            "metric": metric,
            "latency": latency,
            "disk": 90 * latency / 8,
        }
        one = trial(len(found["trials"]), "complete", clock, 20.0, values, objectives)
        found["trials"].append(one | {"baseline": name})
        clock += 20
    for _ in range(trials):
        one = candidate(len(found["trials"]), chance, clock, objectives, sampler)
        found["trials"].append(one)
        clock += one["seconds"]
    found["spent"] = {"trials": trials, "seconds": clock}
    if trials > 3:
        found["importance"] = {
            name: {c["key"]: 1 / (2 + n + i) for i, c in enumerate(CHOICES)}
            for n, name in enumerate(objectives)
        }
    if tested:
        found["front"] = [point(one) for one in best(found)]
    if beside:
        found["beside"] = search(trials, objectives, seed=seed, sampler="random")
    return found


def trial(
    number: int,
    state: str,
    clock: float,
    seconds: float,
    values: dict[str, float],
    objectives: Sequence[str],
) -> dict[str, Any]:
    return {
        "number": number,
        "state": state,
        "why": "",
        "baseline": None,
        "params": {},
        "values": {n: v for n, v in values.items() if n in objectives},
        "facts": {"parameters": 22_713_602, "flops": 2_469_692_928, "seconds": seconds},
        "rungs": [],
        "diff": [],
        "started": (START + datetime.timedelta(seconds=clock)).isoformat(),
        "seconds": seconds,
    }


def candidate(
    number: int,
    chance: random.Random,
    clock: float,
    objectives: Sequence[str],
    sampler: str,
) -> dict[str, Any]:
    better = 0.0 if sampler == "random" else min(1.0, number / 40)
    params: dict[str, Any] = {
        "train.lr": math.exp(
            chance.uniform(math.log(2e-5), math.log(4e-4)) * (1 - 0.5 * better)
            + math.log(1.2e-4) * 0.5 * better
        ),
        "train.epochs": chance.randint(1, 3),
        "blocks": chance.randint(2, 6),
        "edit": chance.choice(EDITS),
        "deploy.quantize": chance.choice(QUANTIZE),
    }
    part = params["blocks"] / 6 * (1.0 if params["edit"] == "none" else 0.75)
    int8 = params["deploy.quantize"] == "int8"
    metric = (
        0.872
        - 0.06 * (1 - part) ** 1.5
        - 0.02 * abs(math.log(params["train.lr"] / 1.2e-4))
        + 0.004 * params["train.epochs"]
        - 0.003 * int8
        + chance.gauss(0, 0.004)
    )
    values = {
        "metric": metric,
        "latency": 8.1 * part * (0.42 if int8 else 1.0) + chance.uniform(0, 0.15),
        "disk": 90 * part * (0.3 if params["deploy.quantize"] != "none" else 1),
    }
    seconds = 15 + 40 * part * params["train.epochs"]
    dice = chance.random()
    state, why = "complete", ""
    if dice < 0.12:
        state, why, seconds = (
            "refused",
            "G382: keep-layers keeps more than there are",
            0.2,
        )
    elif dice < 0.22:
        state, why, seconds = "pruned", "metric below the median at 0.25", seconds / 4
    elif dice < 0.26:
        state, why, seconds = "failed", "train.py ended with exit code 76", 9.0
    elif dice < 0.3:
        state, why, seconds = "duplicate", "as trial 5", 0.1
    made = trial(number, state, clock, seconds, values, objectives)
    if state != "complete":
        made["values"] = {}
    elif "metric" in objectives:
        made["rungs"] = [
            {"part": 0.25, "metric": metric - 0.02, "seconds": seconds / 4},
            {"part": 1.0, "metric": metric, "seconds": seconds},
        ]
    made["facts"]["parameters"] = int(22_713_602 * part)
    made["facts"]["flops"] = int(2_469_692_928 * part)
    diff = [[k, BEFORE.get(k), v] for k, v in params.items() if v != BEFORE.get(k)]
    if params["blocks"] < 6:
        diff = [d for d in diff if d[0] != "blocks"]
        diff += [
            ["edit[0].do", None, "keep-layers"],
            ["edit[0].n", None, params["blocks"]],
        ]
    return made | {"why": why, "params": params, "diff": diff}


def best(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Finished trials that none is better than, by hand."""
    wanted = found["objectives"]

    def losses(one: dict[str, Any]) -> list[float]:
        sign = {"maximize": -1, "minimize": 1}
        return [sign[o["direction"]] * one["values"][o["name"]] for o in wanted]

    done = [t for t in found["trials"] if t["state"] == "complete"]
    done = [t for t in done if t["values"].get("metric", 1) >= 0.835]
    done = [t for t in done if t["values"].get("latency", 0) <= 9]
    points = [losses(t) for t in done]
    return [
        t
        for t, p in zip(done, points, strict=True)
        if not any(all(a <= b for a, b in zip(q, p)) and q != p for q in points)
    ]


def point(one: dict[str, Any]) -> dict[str, Any]:
    metric = one["values"].get("metric", 0.85) - 0.006
    times = 16 / one["values"].get("latency", 4)
    return {
        "trial": one["number"],
        "folder": f"front/{one['number']}",
        "valid": one["values"],
        "test": {
            "metric": {
                "mean": metric,
                "low": metric - 0.012,
                "high": metric + 0.012,
                "seeds": [metric - 0.003, metric, metric + 0.003],
            }
        },
        "points_from_unedited": {
            "mean": 100 * (metric - 0.86),
            "low": -2.1,
            "high": 0.9,
        },
        "faster_than_transformers": {
            "median": times,
            "low": times * 0.95,
            "high": times * 1.04,
        },
        "faster_than_unedited": {
            "median": times / 1.2,
            "low": times * 0.79,
            "high": times * 0.85,
        },
        "optimism": 0.006,
        "certificate": "11 checks hold",
        "words": [
            "3 blocks stay (evenly), the others are left out.",
            "The learning rate is 0.0002 instead of 5e-05.",
        ],
    }
