"""A large system on the piecewise engine and on other packages' raw solvers, at equal error.

The teacher's data with n = 100, d = 5 and 1000 neurons at λ = 1e-6, from the start to where flowsim
comes to rest. Each solver has FACTOR times flowsim's own time at each tolerance, from loose to
tight, and ends with the first that reaches the error, or that it has no time for. Gradient
descent is PyTorch's, with the step that its first-order error needs; it is run for its time, and
how far it would have to go is said. Writes benchmarks/peers.json and docs/benchmarks-peers.md.

    python benchmarks/peers.py              # all; writes the files
    python benchmarks/peers.py --quick      # ten times flowsim's time only; prints
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from engine_fields import of_torch
from engine_page import versions
from engine_solvers import Run, Solver, flowsim_engine, solvers
from engine_systems import System, two_layer

import flowsim as fs
from flowsim._cores import available_cores
from flowsim.engines import Piecewise

ROOT = Path(__file__).resolve().parent.parent
#: The largest error of a neuron, relative to it, at the end.
TARGET = 1e-8
#: Times flowsim's seconds that a solver has.
FACTOR = 100.0
TOLERANCES = (1e-8, 1e-10, 1e-12)
#: Methods, the best of each package for systems with kinks (docs/benchmarks-engines.md).
METHODS = (
    ("diffrax", "Tsit5"), ("SciPy", "DOP853"), ("CVODE", "BDF"), ("torchdiffeq", "dopri5"),
)  # fmt: skip


@dataclass
class Row:
    """What a solver has come to; `seconds` are those of its last tolerance."""

    solver: str
    rtol: float
    seconds: float
    error: float
    work: int
    unit: str
    note: str


def large(end: float | None = None) -> System:
    """Return the system, to where flowsim comes to rest unless its `end` is known."""
    data = fs.datasets.linear_teacher(100, 5, noise=0.5, seed=0)
    net = fs.init.balanced(1000, 5, log10_scale=-6, seed=0)
    end = fs.simulate(net, data).t_end if end is None else end
    name = "linear teacher n=100 d=5, m=1000, λ=1e-6"
    return two_layer("large", name, data, net, end, kinks=True)


def timed(solver: Solver, system: System, truth: Any, budget: float) -> Row:
    """Run a solver at tighter and tighter tolerances until it is accurate enough or gives up."""
    run = solver.prepare(system)
    row = Row(solver.name, 0.0, 0.0, float("nan"), 0, "", "")
    for rtol in TOLERANCES:
        began = time.perf_counter()
        out: Run = run(rtol, budget)
        seconds = time.perf_counter() - began
        error = float("nan") if out.theta is None else system.error(out.theta, truth)
        row = Row(solver.name, rtol, seconds, error, out.work, out.unit, out.note)
        if error <= TARGET or out.theta is None:
            break
    return row


def descent(system: System, budget: float) -> Row:
    """Run gradient descent with a step of TARGET / t1, for as long as the others have."""
    torch: Any = import_module("torch")
    torch.set_num_threads(1)
    field = system.field(of_torch())
    theta = torch.tensor(system.start, dtype=torch.float64)
    step, done = TARGET / system.t1, 0
    began = time.perf_counter()
    with torch.no_grad():
        while (seconds := time.perf_counter() - began) < budget:
            theta += step * field(theta)
            done += 1
    note = f"timed out: {done} of {system.t1 / step:.0e} steps of {step:.0e}"
    return Row("PyTorch gradient descent", step, seconds, float("nan"), done, "steps", note)


def job(work: tuple[tuple[str, str] | None, float, np.ndarray, float]) -> Row | None:
    """Run one solver, or gradient descent, in a process of its own; None if it is not installed."""
    key, end, truth, budget = work
    system = large(end)
    if key is None:
        return descent(system, budget)
    solver = next(s for s in solvers() if (s.package, s.method) == key)
    return timed(solver, system, truth, budget) if solver.installed else None


def bench(factor: float) -> dict[str, Any]:
    """Run flowsim, and then all that is installed."""
    system = large()
    piecewise = flowsim_engine(Piecewise())(system)
    truth = flowsim_engine(Piecewise())(system)(1e-14, 600.0).theta
    assert truth is not None
    seconds, error, rtol = float("inf"), float("inf"), 1e-9
    while not error <= TARGET:
        rtol *= 0.1
        began = time.perf_counter()
        out = piecewise(rtol, 600.0)
        seconds = time.perf_counter() - began
        assert out.theta is not None
        error = system.error(out.theta, truth)
    rows = [Row("flowsim Piecewise", rtol, seconds, error, out.work, out.unit, "")]
    print(rows[0], file=sys.stderr)
    missing = [s.name for s in solvers() if (s.package, s.method) in METHODS and not s.installed]
    jobs = [(key, system.t1, truth, factor * seconds) for key in [*METHODS, None]]
    with multiprocessing.get_context("spawn").Pool(available_cores()) as pool:
        for row in pool.imap(job, jobs, chunksize=1):
            print(row, file=sys.stderr, flush=True)
            rows += [] if row is None else [row]
    stored = [asdict(row) for row in rows]
    return {"t1": system.t1, "factor": factor, "rows": stored, "missing": missing}


INTRODUCTION = """# A large system on general solvers

`python benchmarks/peers.py` writes this page: a linear teacher's data with n = 100, d = 5 and noise
0.5, m = 1000, λ = 1e-6, to t = {t1:.4g}, where flowsim comes to rest. The error is the largest
one of a neuron, relative to it, against the piecewise engine at rtol 1e-14; {target:g} is asked
for. Seconds are those of the tolerance shown; a solver has {factor:g} times flowsim's, and one core
while another runs on the next; flowsim has all of them.

| solver | tolerance | seconds | times flowsim's | error | work | |
|---|---:|---:|---:|---:|---:|---|
"""


def page(result: dict[str, Any]) -> str:
    """Return the Markdown page."""
    rows = [Row(**row) for row in result["rows"]]
    lines = []
    for row in rows:
        more = "> " if row.note.startswith("timed out") else ""
        ratio = f"{more}{row.seconds / rows[0].seconds:.2g}"
        error = f"{row.error:.0e}" if row.error == row.error else ""
        cells = (
            row.solver, f"{row.rtol:.0e}", f"{row.seconds:.3g}", ratio, error,
            f"{row.work} {row.unit}", row.note,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if result["missing"]:
        lines += ["", f"Not installed: {', '.join(result['missing'])}."]
    head = INTRODUCTION.format(t1=result["t1"], target=TARGET, factor=result["factor"])
    return head + "\n".join([*lines, "", versions(), ""])


def main() -> None:
    """Run, print, and store if everything was run."""
    parser = argparse.ArgumentParser(description="Compare a large system with general solvers.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time; print only")
    options = parser.parse_args()
    result = bench(FACTOR / 10.0 if options.quick else FACTOR)
    print(page(result))
    if not options.quick:
        (ROOT / "benchmarks" / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
        (ROOT / "docs" / "benchmarks-peers.md").write_text(page(result))


if __name__ == "__main__":
    main()
