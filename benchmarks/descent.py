"""Discrete descent beside the flow and beside PyTorch: time a step, ends, and orders.

1. The three-point experiment as published: MSELoss (mean), learning rate 1e-3, m = 20 000,
   λ = 1e-3, 2 million steps in float32. PyTorch takes the same steps for a while in the same run.
2. Five points, whose saddle gradient descent cannot leave: three seeds, two learning rates.
3. The fitted order of the distance from the flow in the learning rate.

Prints a page and writes benchmarks/descent.json and docs/benchmarks-descent.md. On an idle machine
it takes about 10 minutes.
"""

from __future__ import annotations

import json
import platform
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import flowsim as fs
from flowsim.engines import Descent

ROOT = Path(__file__).resolve().parent.parent
STEPS, TORCH_STEPS = 2_000_000, 4_000
RATE = 1e-3


def published() -> dict[str, Any]:
    """Run the three-point experiment, and the flow from the same start."""
    data = fs.datasets.three_points()
    net = fs.init.balanced(20_000, 2, log10_scale=-3, seed=0)
    small = fs.init.balanced(50, 2, log10_scale=-3, seed=0)
    fs.simulate(small, data, loss="mean")  # compiled code is loaded
    began = time.perf_counter()
    flow = fs.simulate(net, data, loss="mean")
    flow_seconds = time.perf_counter() - began
    engine = Descent("gd", RATE, steps=100, dtype="float32")
    fs.simulate(net, data, loss="mean", engine=engine, stationary_rtol=0.0)
    began = time.perf_counter()
    engine = Descent("gd", RATE, steps=STEPS, dtype="float32")
    run = fs.simulate(net, data, loss="mean", engine=engine, stationary_rtol=0.0)
    seconds = time.perf_counter() - began
    return {
        "flow_seconds": flow_seconds, "flow_loss": flow.final.loss, "flow_kind": flow.final.kind,
        "flow_events": len(flow.events), "seconds": seconds, "loss": run.final.loss,
        "events": len(run.events), "microseconds": 1e6 * seconds / STEPS,
        "outputs": float(np.max(np.abs(run.final.network(data.X) - flow.final.network(data.X)))),
        "torch_microseconds": torch_step(net, data),
    }  # fmt: skip


def torch_step(net: fs.TwoLayerReLU, data: fs.Dataset) -> float:
    """Return the microseconds of PyTorch's step on the same problem; nan without PyTorch."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return float("nan")
    m, d = net.W.shape
    hidden, out = torch.nn.Linear(d, m, bias=False), torch.nn.Linear(m, 1, bias=False)
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(net.W))
        out.weight.copy_(torch.tensor(net.a[None]))
    model = torch.nn.Sequential(hidden, torch.nn.ReLU(), out)
    X = torch.tensor(data.X, dtype=torch.float32)
    y = torch.tensor(data.y[:, None], dtype=torch.float32)
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=RATE), torch.nn.MSELoss()
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(TORCH_STEPS):
            optimizer.zero_grad()
            loss(model(X), y).backward()
            optimizer.step()
        best = min(best, time.perf_counter() - began)
    return 1e6 * best / TORCH_STEPS


def five_points() -> list[dict[str, Any]]:
    """Descend from tiny starts in weights and in log-norms, beside the flow."""
    data, rows = fs.datasets.five_points(), []
    for seed in range(3):
        net = fs.init.balanced(60, 2, log10_scale=-6, seed=seed)
        found = fs.compare(
            net, data, [4e-3, 1e-3], ["gd", "log_norm"], t1=1500.0, modified=False, sharpness=0,
            points=60,
        )  # fmt: skip
        rows += [
            {
                "seed": seed, "name": x.name, "rate": x.learning_rate, "loss": x.run.final.loss,
                "flow": found.flow.final.loss, "flips": round(60 * float(np.max(x.flips))),
                "departure": x.departure, "why": found.why(x),
            }
            for x in found.descents
        ]  # fmt: skip
    return rows


def orders() -> list[dict[str, Any]]:
    """Fit the order of the largest distance from the flow."""
    teacher = fs.datasets.linear_teacher(10, 3, noise=0.0, seed=0)
    systems = {
        "teacher without noise, n=10 d=3 m=10 λ=1e-2": (
            teacher, fs.init.balanced(10, 3, 1e-2, seed=0), 60.0,
        ),
        "three points, m=20 λ=1e-2": (
            fs.datasets.three_points(), fs.init.balanced(20, 2, 1e-2, seed=0), 100.0,
        ),
        "orthogonal pair, m=20 λ=1e-2": (
            fs.datasets.orthogonal_pair(), fs.init.balanced(20, 2, 1e-2, seed=0), 40.0,
        ),
        "xor, m=30 λ=1e-2": (fs.datasets.xor(), fs.init.balanced(30, 2, 1e-2, seed=0), 40.0),
    }  # fmt: skip
    rates = [1e-2, 5e-3, 2.5e-3, 1.25e-3]
    rows = []
    for name, (data, net, t1) in systems.items():
        found = fs.compare(net, data, rates, ["gd", "log_norm"], t1=t1, modified=False, sharpness=0)
        slides = bool(np.any(found.flow.events.where("pattern").after == 0))
        worst = {
            x.name: float(np.max(x.distance)) for x in found.descents if x.learning_rate == rates[0]
        }
        rows.append(
            {"system": name, "slides": slides, "gd": found.order("gd"),
             "log_norm": found.order("log_norm"), "worst": worst}
        )  # fmt: skip
    return rows


def page(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    a = result["published"]
    lines = [
        "# Benchmarks of discrete descent", "",
        "`python benchmarks/descent.py` writes this page, on 2 cores.", "",
        "## Three points as published", "",
        f"`MSELoss` (mean), learning rate 1e-3, m = 20 000, λ = 1e-3, {STEPS:,} steps in float32. "
        "flowsim's steps include looking for changes of activation patterns after each; "
        f"PyTorch's are the usual loop, the best of three times {TORCH_STEPS:,}.", "",
        "| | µs a step | seconds | events | loss | over the flow's time |",
        "|---|---:|---:|---:|---:|---:|",
        f"| gradient flow | | {a['flow_seconds']:.2g} | {a['flow_events']} | "
        f"{a['flow_loss']:.8g} | 1 |",
        f"| `Descent`, float32 | {a['microseconds']:.3g} | {a['seconds']:.3g} | {a['events']} | "
        f"{a['loss']:.8g} | {a['seconds'] / a['flow_seconds']:.3g} |",
        f"| PyTorch | {a['torch_microseconds']:.3g} | "
        f"({a['torch_microseconds'] * STEPS * 1e-6:.3g}) | | | "
        f"({a['torch_microseconds'] * STEPS * 1e-6 / a['flow_seconds']:.3g}) |", "",
        f"A step of PyTorch takes {a['torch_microseconds'] / a['microseconds']:.2g} times one of "
        f"`Descent`. Descent and flow end with the same outputs to {a['outputs']:.1g}.", "",
        "## Five points: m = 60, λ = 1e-6, t = 1500", "",
        "| seed | descent | η | L at the end | L of the flow | signs of a flipped | leaves at t |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for x in result["five_points"]:
        leaves = "never" if np.isinf(x["departure"]) else f"{x['departure']:.4g}"
        lines.append(
            f"| {x['seed']} | {x['name']} | {x['rate']:g} | {x['loss']:.6g} | {x['flow']:.3g} | "
            f"{x['flips']} of 60 | {leaves} |"
        )
    lines += [
        "", f"Of the first one `why` says: {result['five_points'][0]['why']}", "",
        "## Order of the distance from the flow in η", "",
        "Fitted to the largest |θ − θ_flow| / |θ_flow| of η = 1e-2, 5e-3, 2.5e-3, 1.25e-3; the "
        "last columns are those of η = 1e-2.", "",
        "| system | slides | gd | log_norm | distance of gd | of log_norm |",
        "|---|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    for x in result["orders"]:
        lines.append(
            f"| {x['system']} | {'yes' if x['slides'] else 'no'} | {x['gd']:.3f} | "
            f"{x['log_norm']:.3f} | {x['worst']['gd']:.2g} | {x['worst']['log_norm']:.2g} |"
        )
    versions = f"python {platform.python_version()}, flowsim {fs.__version__}, {platform.machine()}"
    return "\n".join([*lines, "", f"({versions})", ""])


def main() -> None:
    """Run the benchmark and write its page."""
    result: dict[str, Any] = {"published": published()}
    result["five_points"] = five_points()
    result["orders"] = orders()
    text = page(result)
    print(text)
    (ROOT / "benchmarks" / "descent.json").write_text(json.dumps(result, indent=1) + "\n")
    (ROOT / "docs" / "benchmarks-descent.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
