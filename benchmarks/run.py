"""Work and accuracy of flowsim beside SciPy's solvers on the same systems, in one run.

SciPy's solvers get what a user would give them: the right-hand side with
``sigma'(0) = 0`` and atol = rtol * the median norm of the initial neurons. Each runs at
rtol 1e-6 and 1e-10 with a time-out. The error is the largest relative error of a neuron
at t1 against flowsim at rtol 1e-15. Prints a table, writes benchmarks/results.json and
docs/benchmarks.md. Kernels are compiled before anything is timed.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy
from scipy.integrate import solve_ivp

import flowsim as fs

TIMEOUT = 30.0
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Row:
    """One solver on one system."""

    system: str
    solver: str
    seconds: float
    evaluations: int
    error: float
    note: str = ""


class SolverTimeoutError(Exception):
    """Raised inside a right-hand side to stop a solver."""


def systems() -> dict[str, tuple[fs.Dataset, fs.TwoLayerReLU, float]]:
    """Return name -> (data, initial network, t1)."""
    return {
        "three points, m=50, λ=1e-6": (
            fs.datasets.three_points(),
            fs.init.balanced(50, 2, 1e-6, seed=0),
            60.0,
        ),
        "orthogonal pair (slides), m=20, λ=1e-4": (
            fs.datasets.orthogonal_pair(),
            fs.init.balanced(20, 2, 1e-4, seed=0),
            40.0,
        ),
        "linear teacher n=20 d=5, m=30, λ=1e-4": (
            fs.datasets.linear_teacher(20, 5, noise=0.5, seed=0),
            fs.init.balanced(30, 5, 1e-4, seed=0),
            30.0,
        ),
    }


def relative_error(net: fs.TwoLayerReLU, truth: fs.TwoLayerReLU) -> float:
    """Return the largest error of a neuron relative to its norm."""
    difference = np.column_stack([net.a - truth.a, net.W - truth.W])
    norm = np.sqrt(truth.a**2 + np.sum(truth.W**2, axis=1))
    return float(np.max(np.linalg.norm(difference, axis=1) / norm))


def run_flowsim(name: str, data: fs.Dataset, net: fs.TwoLayerReLU, t1: float, rtol: float):
    """Time one flowsim run to t1."""
    began = time.perf_counter()
    sol = fs.simulate(net, data, t1=t1, rtol=rtol, stationary_rtol=0.0)
    return Row(name, f"flowsim rtol={rtol:g}", time.perf_counter() - began, sol.steps, 0.0), sol


def run_scipy(
    name: str, data: fs.Dataset, net: fs.TwoLayerReLU, t1: float, method: str, rtol: float
) -> tuple[Row, fs.TwoLayerReLU | None]:
    """Time one SciPy run to t1, or to the time-out."""
    m, d, X, y = net.m, net.d, data.X, data.y
    began = time.perf_counter()
    count = 0

    def field(_: float, theta: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        if time.perf_counter() - began > TIMEOUT:
            raise SolverTimeoutError
        a, W = theta[:m], theta[m:].reshape(m, d)
        pre = X @ W.T
        r = y - np.maximum(pre, 0.0) @ a
        D = ((pre > 0.0) * r[:, None]).T @ X / len(y)
        return np.concatenate([np.einsum("ij,ij->i", W, D), (a[:, None] * D).ravel()])

    start = np.concatenate([net.a, net.W.ravel()])
    atol = rtol * float(np.median(np.linalg.norm(np.column_stack([net.a, net.W]), axis=1)))
    solver = f"SciPy {method} rtol={rtol:g}"
    try:
        out = solve_ivp(field, (0.0, t1), start, method=method, rtol=rtol, atol=atol)
    except SolverTimeoutError:
        return Row(name, solver, TIMEOUT, count, float("nan"), "timed out"), None
    except ValueError as error:  # Radau's Jacobian can overflow at a kink
        seconds = time.perf_counter() - began
        return Row(name, solver, seconds, count, float("nan"), f"failed: {error}"), None
    end = fs.TwoLayerReLU(out.y[:m, -1], out.y[m:, -1].reshape(m, d))
    note = "" if out.success else out.message
    return Row(name, solver, time.perf_counter() - began, count, 0.0, note), end


def bench() -> list[Row]:
    """Run everything; rows in the order in which they ran."""
    rows: list[Row] = []
    for name, (data, net, t1) in systems().items():
        fs.simulate(net, data, t1=1e-3)  # compile
        _, truth = run_flowsim(name, data, net, t1, 1e-15)
        for rtol in (1e-6, 1e-12):
            row, sol = run_flowsim(name, data, net, t1, rtol)
            row.error = relative_error(sol.final.network, truth.final.network)
            rows.append(row)
        for method in ("LSODA", "RK45", "Radau"):
            for rtol in (1e-6, 1e-10):
                row, end = run_scipy(name, data, net, t1, method, rtol)
                if end is not None:
                    row.error = relative_error(end, truth.final.network)
                rows.append(row)
                print(row, file=sys.stderr)
    return rows


def table(rows: list[Row]) -> str:
    """Return a Markdown table; times as ratios to flowsim at its default tolerance."""
    base = {row.system: row.seconds for row in rows if row.solver == "flowsim rtol=1e-12"}
    lines = [
        "| system | solver | time / flowsim's | steps or evaluations | error at t1 |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        ratio = row.seconds / base[row.system]
        shown = f"> {ratio:.0f} (timed out)" if row.note == "timed out" else f"{ratio:.2g}"
        if row.note.startswith("failed"):
            shown = "failed"
        error = "—" if np.isnan(row.error) else f"{row.error:.1e}"
        lines.append(f"| {row.system} | {row.solver} | {shown} | {row.evaluations} | {error} |")
    return "\n".join(lines)


INTRODUCTION = f"""# Benchmarks

`make bench` writes this page. SciPy's solvers get what a user would give them: the right-hand
side with σ'(0) = 0, and atol = rtol × the median norm of the initial neurons; each has
{TIMEOUT:g} s. Times are ratios to flowsim at its default tolerance in one run, kernels compiled
beforehand. A looser tolerance makes flowsim lower the order, not take fewer steps, because events
end the steps. The error is the largest relative error of a neuron at t1 against flowsim at
rtol 1e-15, which the tests compare with 40-digit integrations of other systems.
"""


def document(text: str, rows: list[Row], versions: dict[str, str]) -> str:
    """Return the page: what was run, the table, absolute times, versions."""
    lines = [
        f"- {row.system}, to t1 = {systems()[row.system][2]:g}: {row.seconds:.2g} s"
        for row in rows
        if row.solver == "flowsim rtol=1e-12"
    ]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(
        [INTRODUCTION, text, "", "flowsim's own times:", "", *lines, "", f"({listed})", ""]
    )


def main() -> None:
    """Run, print, store."""
    rows = bench()
    text = table(rows)
    print(text)
    versions = {"python": platform.python_version(), "scipy": scipy.__version__}
    versions |= {"flowsim": fs.__version__, "machine": platform.machine()}
    result = {"versions": versions, "rows": [asdict(row) for row in rows]}
    (ROOT / "benchmarks" / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    doc = ROOT / "docs" / "benchmarks.md"
    doc.write_text(document(text, rows, versions))


if __name__ == "__main__":
    main()
