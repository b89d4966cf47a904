"""The page of the engines' benchmark: tables of ratios."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import flowsim as fs
from flowsim._cores import available_cores

PACKAGES = ("flowsim", "diffrax", "SciPy", "CVODE", "torchdiffeq", "heyoka")
PEERS = ("numpy", "scipy", "jax", "diffrax", "scikit-sundae", "torch", "torchdiffeq", "heyoka")

INTRODUCTION = """# Benchmarks of the engines

`make bench` writes this page. Each solver runs at tolerances from {loose:g} to {tight:g} until its
error is below {smallest:g}. The error is the largest error of a unit (a neuron, a coordinate; in
the perceptron a row of a matrix) relative to its norm at t1, against a reference. What is shown is
time and work *at equal achieved error*, interpolated in logarithms between a solver's runs; where
even the loosest tolerance is more accurate, that run's. Times are wall times on {cores} cores, the
shortest of up to three calls, as ratios to the fastest of flowsim's engines at that error: below 1
is faster than flowsim. Compilation is apart: the first call minus the shortest later one. A run has
{budget:g} s, then it is "timed out"; "not reached" has the smallest error of all tolerances.

flowsim's times are those of `simulate(..., stationary_rtol=0)`, which besides the end state gives
the history, events, dense output and an audit. The others compute the end state only, and get what
a careful user gives them: the field written by hand (compiled for diffrax, NumPy for SciPy and
CVODE, symbols for heyoka), JAX's Jacobian for Radau and LSODA, GMRES for CVODE, float64, and atol =
rtol × the median norm of a unit at the start. On ReLU networks they integrate the discontinuous
field with σ'(0) = 0; where neurons change their patterns heyoka, whose Taylor series cannot see a
kink, has terminal events at all kinks, which switch patterns. None of the others knows slides. Work
is evaluations of the field, or steps, marked "s", where these are not known.
"""


def page(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    targets, tolerances = result["targets"], result["tolerances"]
    introduction = INTRODUCTION.format(
        loose=tolerances[0], tight=tolerances[-1], smallest=min(targets),
        cores=available_cores(), budget=result["budget"],
    )  # fmt: skip
    lines = [
        introduction,
        "## The best method of each package", "",
    ]  # fmt: skip
    for i, target in enumerate(targets):
        lines += summary(result, i, target)
    for system in result["systems"]:
        lines += section(system, result)
    return "\n".join([*lines, f"({versions()})", ""])


def summary(result: dict[str, Any], i: int, target: float) -> list[str]:
    """Return the table of the packages' best methods at one target."""
    lines = [
        f"At error {target:g}, as ratios to flowsim's best engine, whose time is given:", "",
        "| system | " + " | ".join(PACKAGES) + " |", "|---" * (len(PACKAGES) + 1) + "|",
    ]  # fmt: skip
    for system in result["systems"]:
        curves = [c for c in result["curves"] if c["system"] == system["key"]]
        base = best(curves, "flowsim", i)
        cells = [system["name"]]
        for package in PACKAGES:
            own = [c for c in curves if c["package"] == package]
            winner = best(own, package, i)
            if winner is None:
                cells.append(least(own, base, i, result["budget"]))
            elif package == "flowsim":
                cells.append(f"{winner['targets'][i]['seconds']:.2g} s ({winner['method']})")
            else:
                cells.append(f"{ratio(winner, base, i)} ({winner['method']})")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def best(curves: list[dict[str, Any]], package: str, i: int) -> dict[str, Any] | None:
    """Return the fastest curve of a package at a target, if any reaches it."""
    reaching = [c for c in curves if c["package"] == package and c["targets"] and c["targets"][i]]
    return min(reaching, key=lambda c: c["targets"][i]["seconds"], default=None)


def least(curves: list[dict[str, Any]], base: dict[str, Any] | None, i: int, budget: float) -> str:
    """Return what to say of a package none of whose methods reaches a target."""
    notes = {shown_time(c, base, i, budget) for c in curves}
    late = [note for note in notes if "timed out" in note]
    return late[0] if late else min(notes, default="—")


def ratio(curve: dict[str, Any], base: dict[str, Any] | None, i: int) -> str:
    """Return the time of a curve at a target as a ratio, or in seconds without a base."""
    seconds = curve["targets"][i]["seconds"]
    if base is None:
        return f"{seconds:.2g} s"
    return two_digits(seconds / base["targets"][i]["seconds"])


def two_digits(x: float) -> str:
    """Return a number with two digits, large ones without an exponent."""
    return f"{x:.0f}" if x >= 100 else f"{x:.2g}"


def section(system: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """Return the table of one system."""
    targets, budget = result["targets"], result["budget"]
    curves = [c for c in result["curves"] if c["system"] == system["key"]]
    bases = [best(curves, "flowsim", i) for i in range(len(targets))]
    facts = f"{system['parameters']} parameters, to t1 = {system['t1']:g}"
    if "changes" in system:
        facts += f", {system['changes']} changes of activation, {system['slides']} slides begin"
    times = " and ".join(
        f"{base['targets'][i]['seconds']:.2g} s at {targets[i]:g}"
        for i, base in enumerate(bases)
        if base is not None
    )
    heads = [f"time at {target:g} | work" for target in targets]
    lines = [
        f"## {system['name']}", "",
        f"{facts[0].upper()}{facts[1:]}. Two references are {system['apart']:.1g} apart. "
        f"flowsim's fastest: {times or '—'}.",
        "", "| solver | " + " | ".join(heads) + " | compilation (s) |",
        "|---|" + "---:|" * (2 * len(targets) + 1),
    ]  # fmt: skip
    for c in curves:
        cells = [f"{c['package']} {c['method']}"]
        for i in range(len(targets)):
            cells += [shown_time(c, bases[i], i, budget), shown_work(c, i)]
        seconds = c["compile"]
        cells.append(f"{seconds:.1f}" if seconds == seconds else "—")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def shown_time(c: dict[str, Any], base: dict[str, Any] | None, i: int, budget: float) -> str:
    """Return a cell: a ratio, or why there is none."""
    if c["note"]:
        return c["note"]
    if c["targets"][i]:
        return ratio(c, base, i)
    note = c["runs"][-1]["note"]
    if note == "timed out":
        if base is None:
            return "timed out"
        return f"> {two_digits(budget / base['targets'][i]['seconds'])} (timed out)"
    if note:
        return "failed"
    errors = [run["error"] for run in c["runs"] if run["error"] == run["error"]]  # no nan
    return f"not reached ({min(errors):.0e})"


def shown_work(c: dict[str, Any], i: int) -> str:
    """Return a cell: evaluations, or steps."""
    if not c["targets"] or not c["targets"][i]:
        return "—"
    at = c["targets"][i]
    return f"{at['work']:.0f}" + (" s" if at["unit"] == "steps" else "")


def versions() -> str:
    """Return the versions of what took part."""
    found = {"python": platform.python_version(), "flowsim": fs.__version__}
    for name in PEERS:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "not installed"
    found["machine"] = platform.machine()
    return ", ".join(f"{name} {value}" for name, value in found.items())
