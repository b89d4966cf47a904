"""flowsim's engines beside other packages' solvers on the same systems, at equal achieved error.

Each solver runs at several tolerances; its error is the largest relative error of a unit (neuron,
coordinate) at t1 against a reference. Times and work at the target errors are interpolated in
logarithms between these runs. Compilation is apart: the first call minus the best of the later
ones. Packages that are not installed are left out, and named.

    python benchmarks/engines.py            # all; writes the json and docs/benchmarks-engines.md
    python benchmarks/engines.py --quick    # two systems; prints only
    python benchmarks/engines.py gelu mlp   # these systems; prints only
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from engine_page import page
from engine_solvers import Run, Runner, Solver, flowsim_engine, raw_scipy, solvers
from engine_systems import System, systems

import flowsim as fs
from flowsim.engines import Diffrax, Piecewise

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (1e-6, 1e-9)
TOLERANCES = (1e-3, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-13)
BUDGET = 5.0
#: Runs shorter than this are repeated.
SHORT, REPEATS = 0.3, 3
QUICK_SYSTEMS, QUICK_BUDGET = ("diagonal", "three"), 2.0


@dataclass
class Measured:
    """One run: seconds are the shortest of the repeated calls."""

    rtol: float
    seconds: float
    work: int
    unit: str
    error: float
    note: str


@dataclass
class Curve:
    """All runs of a solver on a system, from loose to tight, and what comes of them."""

    system: str
    package: str
    method: str
    compile: float = float("nan")
    note: str = ""
    runs: list[Measured] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)


def timed(run: Runner, rtol: float, budget: float) -> tuple[float, Run]:
    """Return the time of a call and what it has come to."""
    began = time.perf_counter()
    out = run(rtol, budget)
    return time.perf_counter() - began, out


def measure(
    run: Runner, rtol: float, budget: float, first: float | None
) -> tuple[float, float, Run]:
    """Return the time of the first call, the shortest time of the later ones, and the last run.

    `first` is the budget of a call that may compile; None if nothing is left to compile.
    """
    cold = float("nan")
    if first is not None:
        cold, out = timed(run, rtol, first)
        if out.theta is None:
            return cold, cold, out
    best, out = timed(run, rtol, budget)
    total, calls = best, 1
    while total < SHORT and calls < REPEATS and out.theta is not None:
        seconds, out = timed(run, rtol, budget)
        best, total, calls = min(best, seconds), total + seconds, calls + 1
    return cold, best, out


def curve(solver: Solver, system: System, truth: np.ndarray, budget: float) -> Curve:
    """Run a solver at tighter and tighter tolerances, until it is accurate enough or gives up."""
    result = Curve(system.key, solver.package, solver.method)
    if not solver.installed:
        result.note = "not installed"
        return result
    forget()
    run = solver.prepare(system)
    for rtol in TOLERANCES:
        may_compile = solver.recompiles or rtol == TOLERANCES[0]
        first = budget + solver.allowance if may_compile else None
        cold, seconds, out = measure(run, rtol, budget, first)
        if rtol == TOLERANCES[0] and out.theta is not None:
            result.compile = max(cold - seconds, 0.0)
        error = float("nan") if out.theta is None else system.error(out.theta, truth)
        result.runs.append(Measured(rtol, seconds, out.work, out.unit, error, out.note))
        if out.note == "timed out" or error <= min(TARGETS):
            break  # what has failed otherwise may succeed at a tighter tolerance
    result.targets = [at_error(result.runs, target) for target in TARGETS]
    return result


def forget() -> None:
    """Forget compiled code, so that no solver profits from another one's."""
    import jax

    jax.clear_caches()


def at_error(runs: list[Measured], target: float) -> dict[str, Any]:
    """Return time and work at an error: of the cheapest run that is accurate enough, or between.

    Between means on the straight line, in logarithms, to the most accurate of the cheaper runs.
    Empty if no run is accurate enough.
    """
    enough = [run for run in runs if run.error <= target]
    if not enough:
        return {}
    best = min(enough, key=lambda run: run.seconds)
    cheaper = [run for run in runs if run.error > target and run.seconds < best.seconds]
    if not cheaper or best.error == 0.0:
        return {"seconds": best.seconds, "work": float(best.work), "unit": best.unit}
    near = min(cheaper, key=lambda run: run.error)
    x = np.log(near.error / target) / np.log(near.error / best.error)
    between = lambda a, b: float(a ** (1.0 - x) * b**x)  # noqa: E731
    return {
        "seconds": between(near.seconds, best.seconds),
        "work": between(max(near.work, 1), max(best.work, 1)),
        "unit": best.unit,
    }


def reference(system: System) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the parameters at t1, and how far two references are apart.

    ReLU networks: the piecewise engine, compared with Dopri8 between events. Other models:
    SciPy's DOP853 on the field written by hand, compared with flowsim's Dopri8.
    """
    about: dict[str, Any] = {"key": system.key, "name": system.name, "t1": system.t1}
    about["parameters"] = len(system.start)
    if system.relu:
        sol = fs.simulate(
            system.model, system.data, engine=Piecewise(), t1=system.t1, rtol=1e-15,
            stationary_rtol=0.0,
        )  # fmt: skip
        truth = system.read(sol.final.network)
        patterns = sol.events.kind == "pattern"
        about["changes"] = int(np.sum(patterns))
        about["slides"] = int(np.sum(patterns & (sol.events.after == 0)))
    else:
        truth = raw_scipy("DOP853", system)(1e-13, 300.0).theta
    other = flowsim_engine(Diffrax("Dopri8"))(system)(1e-13, 300.0).theta
    assert truth is not None
    assert other is not None
    about["apart"] = system.error(other, truth)
    return truth, about


def bench(chosen: list[System], budget: float) -> dict[str, Any]:
    """Run every solver on every system."""
    abouts, curves = [], []
    for system in chosen:
        truth, about = reference(system)
        print(about, file=sys.stderr)
        abouts.append(about)
        for solver in solvers():
            if not solver.applies(system):
                continue
            result = curve(solver, system, truth, budget)
            curves.append(asdict(result))
            print(line(result), file=sys.stderr, flush=True)
    return {
        "budget": budget, "targets": TARGETS, "tolerances": TOLERANCES,
        "systems": abouts, "curves": curves,
    }  # fmt: skip


def line(result: Curve) -> str:
    """Return a line of progress."""
    runs = ", ".join(
        f"{run.rtol:g}: {run.error:.1e} in {run.seconds:.3g} s {run.note}" for run in result.runs
    )
    return f"{result.system} {result.package} {result.method} {result.note} {runs}"


def main() -> None:
    """Run, print, and store if everything was run."""
    parser = argparse.ArgumentParser(description="Compare engines and solvers.")
    parser.add_argument("--quick", action="store_true", help="two systems and a small budget")
    parser.add_argument("systems", nargs="*", help="keys of the systems to run; default: all")
    options = parser.parse_args()
    keys = options.systems or (QUICK_SYSTEMS if options.quick else None)
    chosen = [system for system in systems() if keys is None or system.key in keys]
    result = bench(chosen, QUICK_BUDGET if options.quick else BUDGET)
    text = page(result)
    print(text)
    if keys is None:
        stored = json.dumps(result, indent=1)
        (ROOT / "benchmarks" / "engines.json").write_text(stored + "\n")
        (ROOT / "docs" / "benchmarks-engines.md").write_text(text)


if __name__ == "__main__":
    main()
