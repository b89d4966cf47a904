"""Early alignment: the closed form beside the engine and SciPy on the same systems, in one run.

First the closed form alone, at the sizes of the design's targets: crossings a second on all
cores (events counted without their being stored), and a million neurons with the memory that
they take. Then the same flow, r = y, by three methods, each neuron's end compared with the
closed form's. Last, the enumeration of extremal vectors. Prints tables, writes
benchmarks/alignment.json and docs/benchmarks-alignment.md.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy.integrate import solve_ivp

import flowsim as fs
from flowsim._cores import available_cores

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 30.0
REPEATS = 5


def timed(call: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, float, Any]:
    """Return the median and the shortest time of some calls, and the last result."""
    seconds, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)), min(seconds), result


def teacher(n: int, m: int) -> tuple[fs.Dataset, fs.TwoLayerReLU]:
    """Return a linear teacher's data in d = 5 and a balanced network."""
    return fs.datasets.linear_teacher(n, 5, noise=0.5, seed=0), fs.init.balanced(m, 5, 1e-6, seed=1)


# -- crossings a second ----------------------------------------------------------------------


def rates() -> list[dict[str, Any]]:
    """Measure crossings a second."""
    rows = []
    for n, m in ((100, 20_000), (1000, 4_000)):
        data, net = teacher(n, m)
        fs.alignment.until(net, data, record=False)
        median, best, end = timed(lambda: fs.alignment.until(net, data, record=False))  # noqa: B023
        changes = int(end.changes.sum())
        rows.append({"n": n, "m": m, "crossings": changes, "seconds": median, "best": best})
    return rows


def million() -> dict[str, Any]:
    """Walk 10^6 neurons to their ends in a process of its own; return time and peak memory."""
    code = (
        "import json, resource, time, flowsim as fs\n"
        "data = fs.datasets.linear_teacher(100, 5, noise=0.5, seed=0)\n"
        "net = fs.init.balanced(10**6, 5, 1e-6, seed=1)\n"
        "began = time.perf_counter()\n"
        "end = fs.alignment.until(net, data)\n"
        "print(json.dumps({'seconds': time.perf_counter() - began,"
        " 'crossings': int(end.changes.sum()), 'settled': float(end.settled.mean()),"
        " 'peak_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


# -- the same flow by other methods -------------------------------------------------------------


class SolverTimeoutError(Exception):
    """Raised inside a right-hand side to stop a solver."""


def by_scipy(
    data: fs.Dataset, net: fs.TwoLayerReLU, t: float, rtol: float
) -> tuple[float, fs.TwoLayerReLU | None]:
    """Integrate with RK45 and sigma'(0) = 0, as a user would; None after the time-out."""
    m, d, X, y = net.m, net.d, data.X, data.y
    began = time.perf_counter()

    def field(_: float, theta: np.ndarray) -> np.ndarray:
        if time.perf_counter() - began > TIMEOUT:
            raise SolverTimeoutError
        a, W = theta[:m], theta[m:].reshape(m, d)
        D = ((X @ W.T > 0.0) * y[:, None]).T @ X / len(y)
        return np.concatenate([np.einsum("ij,ij->i", W, D), (a[:, None] * D).ravel()])

    start = np.concatenate([net.a, net.W.ravel()])
    atol = rtol * float(np.median(np.abs(net.a)))
    try:
        out = solve_ivp(field, (0.0, t), start, method="RK45", rtol=rtol, atol=atol)
    except SolverTimeoutError:
        return TIMEOUT, None
    end = fs.TwoLayerReLU(out.y[:m, -1], out.y[m:, -1].reshape(m, d))
    return time.perf_counter() - began, end


def angle_between(net: fs.TwoLayerReLU, truth: fs.TwoLayerReLU) -> float:
    """Return the largest angle (radians) between the same neuron's (a, w) in two networks."""
    u, v = net.direction, truth.direction
    halves = np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))
    return float(2 * halves.max())


def methods() -> list[dict[str, Any]]:
    """Compare the closed form with the engine at r = y and with SciPy."""
    rows = []
    systems = {
        "linear teacher n=100 d=5, m=100": (*teacher(100, 100), 20.0),
        "five points (slides), m=100": (
            fs.datasets.five_points(), fs.init.balanced(100, 2, 1e-6, seed=0), 60.0,
        ),
    }  # fmt: skip
    for name, (data, net, t) in systems.items():
        seconds, _, here = timed(lambda: fs.alignment.flow(net, data, t))  # noqa: B023
        rows.append({"system": name, "method": "closed form", "seconds": seconds, "error": 0.0})
        fs.simulate(net, data, residual="frozen", t1=1e-3)
        seconds, _, run = timed(
            lambda: fs.simulate(net, data, residual="frozen", t1=t), 1  # noqa: B023
        )  # fmt: skip
        error = angle_between(run.final.network, here.network)
        rows.append({"system": name, "method": "Taylor engine", "seconds": seconds, "error": error})
        for rtol in (1e-6, 1e-9):
            seconds, end = by_scipy(data, net, t, rtol)
            error = float("nan") if end is None else angle_between(end, here.network)
            method = f"SciPy RK45 rtol={rtol:g}"
            rows.append({"system": name, "method": method, "seconds": seconds, "error": error})
    return rows


# -- extremal vectors -----------------------------------------------------------------------------


def enumerations() -> list[dict[str, Any]]:
    """Time complete enumerations (without shares)."""
    rows = []
    for n, d in ((100, 2), (1000, 2), (100, 3), (1000, 3), (40, 4), (60, 5)):
        data = fs.datasets.linear_teacher(n, d, noise=0.5, seed=0)
        call = lambda: fs.extremal_vectors(  # noqa: E731
            data, method="enumerate", max_faces=10**10, samples=0  # noqa: B023
        )  # fmt: skip
        call()
        seconds, _, found = timed(call, 1)
        rows.append(
            {"n": n, "d": d, "visited": found.visited, "found": len(found), "seconds": seconds}
        )
    for name in ("three_points", "five_points", "xor", "half_spaces"):
        data = getattr(fs.datasets, name)()
        seconds, _, found = timed(
            lambda: fs.extremal_vectors(data, exact=True, samples=0), 1  # noqa: B023
        )  # fmt: skip
        rows.append(
            {"n": data.n, "d": data.d, "visited": found.visited, "found": len(found),
             "seconds": seconds, "exact": name}
        )  # fmt: skip
    return rows


# -- the page ------------------------------------------------------------------------------------

INTRODUCTION = f"""# Benchmarks of early alignment

`make bench` writes this page. All times are wall times with kernels compiled, on
{available_cores()} cores.
"""


def page(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    lines = [INTRODUCTION, "## Crossings a second", ""]
    lines += [
        "Linear teacher, d = 5, σ = 0.5, balanced neurons, each followed to its last cell; median "
        f"of {REPEATS} runs (and the shortest).", "",
        "| n | m | activation changes | seconds | 10⁶ changes a second |",
        "|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for row in result["rates"]:
        speed, best = (row["crossings"] / row[key] / 1e6 for key in ("seconds", "best"))
        lines.append(
            f"| {row['n']} | {row['m']} | {row['crossings']} | {row['seconds']:.2f} | "
            f"{speed:.2f} ({best:.2f}) |"
        )
    big = result["million"]
    lines += [
        "",
        f"A million neurons, n = 100: {big['crossings'] / 1e6:.0f}·10⁶ changes in "
        f"{big['seconds']:.0f} s, {big['settled']:.0%} of the neurons in their last cells, peak "
        f"memory of the process {big['peak_mib']:.0f} MiB.",
        "", "## The same flow, r = y, by other methods", "",
        "SciPy gets the right-hand side with σ'(0) = 0 and atol = rtol × the median |a_j|, and has "
        f"{TIMEOUT:g} s. The error is the largest angle between the same neuron's (a, w) and the "
        "closed form's at the end.", "",
        "| system | method | time / closed form's | error (rad) |", "|---|---|---:|---:|",
    ]  # fmt: skip
    base = {row["system"]: row["seconds"] for row in result["methods"] if not row["error"]}
    for row in result["methods"]:
        ratio, late = row["seconds"] / base[row["system"]], np.isnan(row["error"])
        shown = f"> {ratio:.0f} (timed out)" if late else f"{ratio:.3g}"
        error = "—" if late else f"{row['error']:.1e}"
        lines.append(f"| {row['system']} | {row['method']} | {shown} | {error} |")
    lines += [
        "", "## Complete enumeration of extremal vectors", "",
        "| data | n | d | visits to faces | nonzero vectors | seconds |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for row in result["enumerations"]:
        what = f"{row['exact']}, exact" if "exact" in row else "linear teacher"
        lines.append(
            f"| {what} | {row['n']} | {row['d']} | {row['visited']} | {row['found']} | "
            f"{row['seconds']:.2g} |"
        )
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    return "\n".join([*lines, "", f"({versions})", ""])


def main() -> None:
    """Run, print, store."""
    result: dict[str, Any] = {
        "rates": rates(),
        "million": million(),
        "methods": methods(),
        "enumerations": enumerations(),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": {
            "python": platform.python_version(), "scipy": scipy.__version__,
            "flowsim": fs.__version__, "machine": platform.machine(),
        },
    }  # fmt: skip
    text = page(result)
    print(text)
    (ROOT / "benchmarks" / "alignment.json").write_text(json.dumps(result, indent=1) + "\n")
    (ROOT / "docs" / "benchmarks-alignment.md").write_text(text)


if __name__ == "__main__":
    main()
