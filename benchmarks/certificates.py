"""How many ends of random runs are proved, when, at which cost, and whether the proofs hold.

200 systems with 5 to 60 samples in 2 to 5 dimensions, with a bias or without, and 40 to 100
balanced neurons of scale 1e-6: half of them with the labels of a linear teacher and noise, half
with random labels. Every run goes to its certificate and then on to rest, where what has been
proved is compared with what has happened. Some small ones are followed beyond at 50 digits.

Prints a page and writes benchmarks/certificates.json and docs/benchmarks-certificates.md. On two
idle cores it takes about 20 minutes. An argument gives another number of systems.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import flowsim as fs
from flowsim.certificates.certify import Certifier

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS, STEPS, PRECISE = 200, 20_000, 5


def system(index: int) -> tuple[str, fs.TwoLayerReLU, fs.Dataset]:
    """Return the labels' kind, the network and the data of a system."""
    rng = np.random.default_rng(10_000 + index)
    n, d, m = int(rng.integers(5, 61)), int(rng.integers(2, 6)), int(rng.integers(40, 101))
    X = rng.standard_normal((n, d))
    if rng.integers(2):
        X[:, -1] = 1.0
    y = rng.standard_normal(n)
    labels = ("teacher", "random")[index % 2]
    if labels == "teacher":
        y = X @ rng.standard_normal(d) + 0.5 * y
    return labels, fs.init.balanced(m, d, 1e-6, seed=index), fs.Dataset(X, y)


class Timed:
    """Sums up how long certifying takes."""

    def __init__(self) -> None:
        self.seconds, certify = 0.0, Certifier.certify

        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return certify(*args, **options)
            finally:
                self.seconds += time.perf_counter() - began

        self.restore = lambda: setattr(Certifier, "certify", certify)
        Certifier.certify = timed  # type: ignore[method-assign]  # while one run is timed


def one(index: int) -> dict[str, Any]:
    """Run one system to its certificate and to rest; compare."""
    labels, net, data = system(index)
    with threadpool_limits(1):
        timed, began = Timed(), time.perf_counter()
        sol = fs.simulate(net, data, max_steps=STEPS)
        seconds = time.perf_counter() - began
        timed.restore()
        proof = sol.final.certificate
        row = {
            "labels": labels, "n": data.n, "d": data.d, "m": net.m, "status": sol.status,
            "kind": sol.final.kind, "proved": proof.proved, "reason": proof.reason,
            "t": sol.t_end, "steps": sol.steps, "seconds": seconds, "certifying": timed.seconds,
        }  # fmt: skip
        if sol.status != "certified":
            return row
        rest = fs.resume(sol, end="rest", max_steps=sol.steps + STEPS, stationary_rtol=1e-12)
        return {**row, **compared(sol, rest)}


def compared(sol: fs.Solution, rest: fs.Solution) -> dict[str, Any]:
    """Return what has happened after a proof, against what it says."""
    proof, data = sol.final.certificate, sol.data
    claim = proof.claim
    after = rest.events.where("pattern")
    after = after.select(after.t > sol.t_end)
    left = 0
    for j, g in zip(after.neuron.tolist(), data.hyperplane[after.sample].tolist(), strict=True):
        neuron = claim.neurons[j]
        fixed = neuron.role in ("core", "carried") and g not in (*neuron.walls, *neuron.open)
        left += fixed
    unit = float(np.mean(data.y**2))
    limit = sol.final.limit_loss
    excess = [max(loss - limit, 0.0) for loss in (sol.final.loss, rest.final.loss)]
    bound = excess[0] * np.exp(-proof.quantities["rate"] * (rest.t_end - sol.t_end))
    return {
        "rested": rest.status, "t_rest": rest.t_end, "steps_rest": rest.steps, "left_cells": left,
        "slower": bool(excess[1] > bound * (1 + 1e-9) + 1e-13 * unit),
        "limit_error": abs(rest.final.loss - limit) / unit,
    }  # fmt: skip


def precise(count: int) -> list[dict[str, Any]]:
    """Follow small certified runs far beyond at 50 digits; count neurons that leave their cells."""
    rows: list[dict[str, Any]] = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(4, 9)), 2
        X = rng.standard_normal((n, d))
        data = fs.Dataset(X, X @ rng.standard_normal(d) + 0.5 * rng.standard_normal(n))
        net = fs.init.balanced(8, d, 1e-2, seed=seed)
        sol = fs.simulate(net, data, max_steps=STEPS)
        if sol.status != "certified" or sol.t_end > 60.0:
            continue
        digits = fs.engines.Validated(rigorous=False, digits=50)
        rest = fs.simulate(net, data, engine=digits, t1=3.0 * sol.t_end)
        rows.append({"n": n, "m": net.m, "t": sol.t_end, "t1": rest.t_end,
                     **compared(sol, rest)})  # fmt: skip
        if len(rows) == count:
            break
    return rows


def page(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    rows = result["runs"]
    lines = [
        "# Certificates", "",
        "`python benchmarks/certificates.py` writes this page, on 2 cores.", "",
        f"{len(rows)} random systems with 5 to 60 samples in 2 to 5 dimensions, 40 to 100 balanced "
        "neurons, λ = 1e-6, at most 20 000 steps.", "",
        "| labels | runs | proved | on the way | median t | median t at rest (1e-12) "
        "| steps saved | certifying |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for labels in ("teacher", "random"):
        some = [x for x in rows if x["labels"] == labels]
        early = [x for x in some if x["status"] == "certified"]
        saved = 1 - sum(x["steps"] for x in early) / sum(x["steps_rest"] for x in early)
        cost = sum(x["certifying"] for x in some) / sum(x["seconds"] for x in some)
        lines.append(
            f"| {labels} | {len(some)} | {sum(x['proved'] for x in some)} | {len(early)} "
            f"| {np.median([x['t'] for x in early]):.4g} "
            f"| {np.median([x['t_rest'] for x in early]):.4g} | {saved:.0%} | {cost:.1%} |"
        )
    early = [x for x in rows if "rested" in x]
    rested = [x for x in early if x["rested"] == "stationary"]
    kinds = Counter(x["kind"] for x in rows)
    lines += [
        "", "`certifying` is the time of all tries over that of all runs.", "",
        f"{len(early)} runs went on from their certificates: "
        f"{sum(x['left_cells'] > 0 for x in early)} left a claimed cell, "
        f"{sum(x['slower'] for x in early)} contracted slower than proved; of the {len(rested)} "
        f"that came to rest the loss is off the proved limit by at most "
        f"{max(x['limit_error'] for x in rested):.1g} of the labels' mean square.", "",
        "Kinds: " + ", ".join(f"{name} {count}" for name, count in kinds.most_common()) + ".", "",
    ]  # fmt: skip
    failed = Counter(x["reason"].split(":")[0][:90] for x in rows if not x["proved"])
    lines += ["Not proved: " + ("; ".join(f"{why} ({k})" for why, k in failed.items()) or "none")
              + "."]  # fmt: skip
    small = result["precise"]
    lines += [
        "",
        f"{len(small)} small runs (n ≤ 8, m = 8) followed to three times their certificate's time "
        f"at 50 digits: {sum(x['left_cells'] > 0 for x in small)} left a claimed cell, "
        f"{sum(x['slower'] for x in small)} contracted slower than proved.",
        "",
        f"(python {platform.python_version()}, flowsim {fs.__version__}, {platform.machine()})",
        "",
    ]
    return "\n".join(lines)


def main(count: int) -> None:
    """Run the benchmark and write its page."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        rows = []
        for row in pool.imap(one, range(count)):
            rows.append(row)
            print(f"\r{len(rows)} of {count} runs    ", end="", file=sys.stderr, flush=True)
    result = {"runs": rows, "precise": precise(PRECISE)}
    text = page(result)
    print(text)
    file = ROOT / "benchmarks" / "certificates.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (ROOT / "docs" / "benchmarks-certificates.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SYSTEMS)
