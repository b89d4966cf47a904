"""Cost of whole runs against the numbers to reach, and how it grows with m, n, d and the scale.

Every run goes to its end on the piecewise engine at the default tolerance, in a process of its
own, after small runs that load the compiled code; seconds are of `simulate`, memory is the
process's peak. Writes benchmarks/scale.json and docs/benchmarks-scale.md.

    python benchmarks/scale.py                 # all
    python benchmarks/scale.py --quick         # without runs of more than 10^6 (m n); prints only
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

import flowsim as fs
from flowsim._cores import available_cores

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that a run has.
BUDGET = 300.0
#: Neurons times samples of the largest quick run.
QUICK = 10**6


@dataclass(frozen=True)
class Case:
    """A run: `data` is "three points", or a linear teacher's (n, d)."""

    title: str
    data: tuple[int, int] | str
    m: int
    log10_scale: float
    goal: str = ""
    rtol: float = 1e-12

    @property
    def size(self) -> int:
        """Neurons times samples."""
        return self.m * (3 if isinstance(self.data, str) else self.data[0])

    def dataset(self) -> fs.Dataset:
        """Return the data: half of the labels' size is noise."""
        if isinstance(self.data, str):
            return fs.datasets.three_points()
        n, d = self.data
        return fs.datasets.linear_teacher(n, d, noise=0.5, seed=0)


@dataclass
class Measured:
    """What a run has come to."""

    title: str
    goal: str
    status: str
    kind: str
    t_end: float
    steps: int
    events: int
    seconds: float
    gibibytes: float
    worst_audit: float


def cases() -> dict[str, list[Case]]:
    """Return the runs of each table."""
    three, teacher = "three points", (100, 5)
    numbers = [
        Case("three points, m=20 000, λ=1e-3", three, 20_000, -3, "< 1 s"),
        Case("teacher n=100 d=5, m=500, λ=1e-6", teacher, 500, -6, "< 4 s, aim for 2"),
        Case("teacher n=1000 d=5, m=10 000, λ=1e-6", (1000, 5), 10_000, -6, "< 60 s, < 4 GiB"),
        Case("the same at rtol=1e-10", (1000, 5), 10_000, -6, "", 1e-10),
        Case("three points, m=10⁶, λ=1e-3", three, 10**6, -3, "< 15 s"),
    ]
    scales = [-1, -3, -6, -12, -100, -300, -3000]
    return {
        "Numbers to reach": numbers,
        "Scale, three points, m=1000": [
            Case(f"λ=1e{e}", three, 1000, e) for e in scales
        ],
        "Scale, teacher n=100 d=5, m=500": [Case(f"λ=1e{e}", teacher, 500, e) for e in scales],
        "Neurons, three points, λ=1e-3": [
            Case(f"m=10^{e}", three, 10**e, -3) for e in range(2, 7)
        ],
        "Neurons, teacher n=100 d=5, λ=1e-6": [
            Case(f"m={m}", teacher, m, -6) for m in (100, 1000, 10_000)
        ],
        "Samples, teacher d=5, m=500, λ=1e-6": [
            Case(f"n={n}", (n, 5), 500, -6) for n in (10, 30, 100, 300, 1000, 2000)
        ],
        "Inputs, teacher n=200, m=200, λ=1e-6": [
            Case(f"d={d}", (200, d), 200, -6) for d in (2, 5, 10, 30, 100)
        ],
    }  # fmt: skip


def measure(case: Case) -> Measured:
    """Run one case; called in a process of its own."""
    data = case.dataset()
    fs.simulate(fs.init.balanced(50, data.d, log10_scale=-6, seed=1), data, t1=30.0)
    # Some kernels run late in a run, or with many neurons, only.
    fs.simulate(fs.init.balanced(5000, 2, log10_scale=-3, seed=1), fs.datasets.three_points())
    net = fs.init.balanced(case.m, data.d, log10_scale=case.log10_scale, seed=0)
    began = time.perf_counter()
    sol = fs.simulate(net, data, max_seconds=BUDGET, rtol=case.rtol)
    seconds = time.perf_counter() - began
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worst = max(value for name, value in sol.audit.items() if name != "dissipation")
    return Measured(
        case.title, case.goal, sol.status, sol.final.kind, sol.t_end, sol.steps,
        len(sol.events), seconds, kilobytes / 2**20, worst,
    )  # fmt: skip


@cache
def of_run(run: Case) -> Measured:
    """Measure a run in a fresh process, whose peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (run,))


def alone(case: Case) -> Measured:
    """Measure a case; one that is in two tables runs once."""
    return replace(of_run(replace(case, title="", goal="")), title=case.title, goal=case.goal)


def table(rows: list[Measured], numbers: bool) -> str:
    """Return a Markdown table."""
    goal = " goal |" if numbers else ""
    lines = [
        f"| | seconds |{goal} steps | events | GiB | ends | worst audit |",
        "|---|---:|" + "---:|" * numbers + "---:|---:|---:|---|---:|",
    ]
    for row in rows:
        ends = row.status
        if row.status in ("stationary", "certified"):
            ends = row.kind.replace("_", " ") + ", certified" * (row.status == "certified")
        cells = [row.title, f"{row.seconds:.2g}", *([row.goal] if numbers else [])]
        cells += [str(row.steps), str(row.events), f"{row.gibibytes:.2f}"]
        cells += [f"{ends}, t={row.t_end:.4g}", f"{row.worst_audit:.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


INTRODUCTION = f"""# Benchmarks of scale

`python benchmarks/scale.py` writes this page. Each run goes to its end on the piecewise engine at
the default tolerance 1e-12, in a process of its own on {available_cores()} cores, after small runs
that load the compiled code. Seconds are of `simulate`, GiB the peak memory of the whole process
with its imports. A run has {BUDGET:g} s, then it ends with `max_seconds`. Teachers are linear, with
Gaussian inputs and noise 0.5. The worst audit is the largest of the run's own audit's figures.
"""


def document(tables: dict[str, list[Measured]]) -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for title, rows in tables.items():
        parts += [f"## {title}", "", table(rows, title == "Numbers to reach"), ""]
    versions = f"(python {platform.python_version()}, flowsim {fs.__version__}, "
    return "\n".join([*parts, versions + f"numpy {np.__version__}, {platform.machine()})", ""])


def main() -> None:
    """Run, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="leave out large runs; print only")
    quick = parser.parse_args().quick
    tables: dict[str, list[Measured]] = {}
    for title, chosen in cases().items():
        tables[title] = []
        for case in chosen:
            if quick and case.size > QUICK:
                continue
            row = alone(case)
            print(title, row, file=sys.stderr, flush=True)
            tables[title].append(row)
    page = document(tables)
    print(page)
    if not quick:
        stored = {title: [asdict(r) for r in rows] for title, rows in tables.items()}
        (ROOT / "benchmarks" / "scale.json").write_text(json.dumps(stored, indent=1) + "\n")
        (ROOT / "docs" / "benchmarks-scale.md").write_text(page)


if __name__ == "__main__":
    main()
