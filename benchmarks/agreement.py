"""Agreement of the engines on random ReLU systems, at flowsim's default tolerance.

Each system runs on the piecewise engine to rest, or as far as STEPS steps take it, and on each of
the others; `tests/run_comparison.py` draws the systems and compares the runs. Systems near a
separatrix, whose events change if the start moves by 1e-9, are replaced by the next ones, and
counted. Writes benchmarks/agreement.json and docs/benchmarks-agreement.md.

    python benchmarks/agreement.py                     # 50 systems; writes the files
    python benchmarks/agreement.py --systems 3         # prints only
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import diffrax
import jax
import numpy as np
import scipy

import flowsim as fs
from flowsim._cores import available_cores
from flowsim.engines import Diffrax, Scipy

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))
from run_comparison import (  # noqa: E402  # pyright: ignore[reportMissingImports]
    compare_runs,
    random_system,
    within,
)

ENGINES: dict[str, Any] = {
    "Scipy DOP853": Scipy("DOP853"),
    "Scipy LSODA": Scipy("LSODA"),
    "Scipy BDF": Scipy("BDF"),
    "Scipy Radau": Scipy("Radau"),
    "Diffrax auto": Diffrax(),
    "Diffrax Kvaerno5": Diffrax("Kvaerno5"),
}
#: Methods of dense algebra or low order, which take thousands of steps: only up to so many
#: parameters.
MOST_PARAMETERS = {"Scipy BDF": 60, "Scipy Radau": 60}
SYSTEMS = 50
#: (n, d, m) in turn: what JAX has compiled for one system serves others of its shape.
SHAPES = ((30, 4, 40), (20, 3, 24), (12, 2, 16), (24, 2, 32), (8, 3, 10))
#: Steps of the piecewise engine after which a run is cut.
STEPS = 400
#: Seconds that an engine has for a system.
BUDGET = 60.0
#: Dense output from thinned states would integrate again for each of the times compared.
STATE_BYTES = 2**31
#: Event times may move by this, relative, if the start moves by 1e-9.
SENSITIVE = 1e-5


@dataclass
class Row:
    """One engine on one system; differences are from the piecewise engine's run."""

    system: str
    engine: str
    status: str
    events: int
    same_events: bool
    time: float
    loss: float
    state: float
    end: float
    same_kind: bool
    same_limit: bool
    agrees: bool
    steps: int
    seconds: float


def study(seed: int) -> tuple[str, dict[str, Any], list[Row]]:
    """Run one system on all engines; return its name, what it is like, and the rows.

    No rows mean that it is near a separatrix.
    """
    system, expected = within(random_system(seed, SHAPES[seed % len(SHAPES)]), STEPS)
    sensitivity = system.sensitivity(expected)
    patterns = expected.events.where("pattern")
    about = {
        "seed": seed, "status": expected.status, "kind": expected.final.kind, "t1": system.t1,
        "events": len(patterns), "slides": int(np.sum(patterns.after == 0)),
        "steps": expected.steps, "sensitivity": sensitivity,
    }  # fmt: skip
    if sensitivity > SENSITIVE:
        return system.name, about, []
    parameters = system.net.m * (system.net.d + 1)
    rows = []
    for name, engine in ENGINES.items():
        if parameters > MOST_PARAMETERS.get(name, parameters):
            continue
        began = time.perf_counter()
        found = system.run(engine=engine, max_seconds=BUDGET, state_bytes=STATE_BYTES)
        seconds = time.perf_counter() - began
        if found.status == "max_seconds":
            rows.append(unfinished(system.name, name, found, seconds))
            continue
        c = compare_runs(expected, found)
        rows.append(
            Row(
                system.name, name, found.status, c.events, c.same_events, c.time, c.loss, c.state,
                c.end, c.same_kind, c.same_limit, c.agrees(), found.steps, seconds,
            )
        )  # fmt: skip
    return system.name, about, rows


def unfinished(system: str, engine: str, found: fs.Solution, seconds: float) -> Row:
    """Return the row of a run that has not come to its end."""
    nan = float("nan")
    return Row(
        system, engine, found.status, 0, False, nan, nan, nan, nan, False, False, False,
        found.steps, seconds,
    )  # fmt: skip


def bench(systems: int, jobs: int) -> tuple[dict[str, Any], list[Row]]:
    """Study so many systems away from separatrices; return what they are like, and the rows."""
    about: dict[str, Any] = {}
    rows: list[Row] = []
    studied = 0

    def take(results: Iterable[tuple[str, dict[str, Any], list[Row]]]) -> None:
        nonlocal studied
        for name, what, found in results:
            about[name] = what
            rows.extend(found)
            studied += bool(found)
            others = [row.engine for row in found if not row.agrees]
            said = f"{', '.join(others)} differ" if others else "done"
            print(f"{name}: {said if found else 'near a separatrix'}", file=sys.stderr)
            if studied == systems:
                return

    if jobs == 1:
        take(map(study, count()))
    else:
        # Fresh processes: JAX's threads do not survive a fork, nor do its caches a long life.
        with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=5) as pool:
            take(pool.imap(study, range(2 * systems)))
    return about, rows


def largest(rows: list[Row], figure: str) -> float:
    """Return the largest figure of all rows that have it."""
    return float(np.nanmax([getattr(row, figure) for row in rows]))


def table(rows: list[Row]) -> str:
    """Return a Markdown table, a line an engine: the worst of all systems."""
    lines = [
        "| engine | systems | agree | same events | event times | losses | states | ends "
        "| verdicts | steps, median | seconds, median |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for engine in ENGINES:
        own = [row for row in rows if row.engine == engine]
        ended = [row for row in own if row.status != "max_seconds"]
        if not ended:
            continue
        worst = [largest(ended, name) for name in ("time", "loss", "state", "end")]
        verdicts = sum(row.same_kind and row.same_limit for row in ended)
        figures = [f"{x:.0e}" for x in worst]
        late = len(own) - len(ended)
        cells = [
            engine,
            f"{len(ended)}" + f" ({late} timed out)" * bool(late),
            str(sum(row.agrees for row in ended)),
            str(sum(row.same_events for row in ended)),
            *figures,
            str(verdicts),
            f"{np.median([row.steps for row in ended]):.0f}",
            f"{np.median([row.seconds for row in ended]):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def systems_table(about: dict[str, Any], rows: list[Row]) -> str:
    """Return a Markdown table, a line a system: the worst of all engines."""
    lines = [
        "| system | ends | pattern changes | onto slides | moved by | event times | losses "
        "| states | agree |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, what in about.items():
        own = [row for row in rows if row.system == name and row.status != "max_seconds"]
        if not own:
            continue
        worst = [largest(own, figure) for figure in ("time", "loss", "state")]
        end = what["kind"] if what["status"] == "stationary" else f"cut at t = {what['t1']:g}"
        cells = [
            name, end.replace("_", " "), str(what["events"]), str(what["slides"]),
            f"{what['sensitivity']:.0e}", *[f"{x:.0e}" for x in worst],
            f"{sum(row.agrees for row in own)}/{len(own)}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


INTRODUCTION = f"""# Agreement of the engines

`python benchmarks/agreement.py` writes this page. Random two-layer ReLU networks (balanced,
dominated, unbalanced; some leaky, some with a bias; n ≤ 30, d ≤ 4, m ≤ 40, λ from 1e-8 to 1e-3) run
on all engines at the default `rtol = 1e-12`, to rest, or as far as {STEPS} steps from event to
event take the piecewise engine. Differences are from its run: *event times* relative; *losses* from
dense output at 100 times, half of them in the middle of steps, relative to the loss at the start;
*states* those of the neurons at the last common time, each relative to its norm; *ends* those of
the final networks. *Agree* means: the same events in the same order but for those closer than 1e-6,
times to 1e-6, losses to 1e-8, states and ends to 1e-7, the same verdict and the same exact limit of
the loss.

A system is near a separatrix if its events are others, or move by more than {SENSITIVE:g} relative,
when its start moves by 1e-9; these are left out. *Moved by* is how much the events move otherwise.
BDF and Radau only run systems of at most {MOST_PARAMETERS["Scipy Radau"]} parameters. Seconds, with
what is compiled for each new shape, are of a run beside others on the same machine; an engine
has {BUDGET:g} s.
"""


def document(about: dict[str, Any], rows: list[Row], versions: dict[str, str]) -> str:
    """Return the page."""
    left_out = sum(what["sensitivity"] > SENSITIVE for what in about.values())
    kept = len(about) - left_out
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(
        [
            INTRODUCTION,
            f"{kept} systems; {left_out} near a separatrix left out.",
            "",
            table(rows),
            "",
            systems_table(about, rows),
            "",
            f"({listed})",
            "",
        ]
    )


def main() -> None:
    """Run, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", type=int, default=SYSTEMS)
    parser.add_argument("--jobs", type=int, default=available_cores())
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as compiled:
        # For the processes that are started here.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        about, rows = bench(chosen.systems, chosen.jobs)
    versions = {"python": platform.python_version(), "scipy": scipy.__version__}
    versions |= {"jax": jax.__version__, "diffrax": diffrax.__version__}
    versions |= {"flowsim": fs.__version__, "machine": platform.machine()}
    page = document(about, rows, versions)
    print(page)
    if chosen.systems == SYSTEMS:
        result = {"versions": versions, "systems": about, "rows": [asdict(row) for row in rows]}
        (ROOT / "benchmarks" / "agreement.json").write_text(json.dumps(result, indent=1) + "\n")
        (ROOT / "docs" / "benchmarks-agreement.md").write_text(page)


if __name__ == "__main__":
    main()
