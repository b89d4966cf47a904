"""Two-level steps of the piecewise engine against a restart at every event, on random systems.

Each system runs with both options at flowsim's default tolerance, to rest, or as far as STEPS
steps from event to event take it; `tests/run_comparison.py` draws the systems and compares the
runs. Systems near a separatrix, whose events change if the start moves by 1e-9, are replaced by
the next ones, and counted. Writes benchmarks/two_level.json and docs/benchmarks-two-level.md.

    python benchmarks/two_level.py                     # 100 systems; writes the files
    python benchmarks/two_level.py --systems 5         # prints only
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import numba
import numpy as np

import flowsim as fs
from flowsim.engines import Piecewise

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))
from run_comparison import (  # noqa: E402  # pyright: ignore[reportMissingImports]
    System,
    compare_runs,
    random_system,
    within,
)

SYSTEMS = 100
#: Steps from event to event after which a run is cut.
STEPS = 6000
#: Dense output from thinned states would integrate again for each of the times compared.
STATE_BYTES = 2**31
#: Event times may move by this, relative, if the start moves by 1e-9.
SENSITIVE = 1e-5
#: What the two may differ by: times relative, losses to the first one, states to their norms.
TIME, LOSS, STATE = 1e-9, 1e-10, 1e-8
#: Quantiles of the summary.
QUANTILES = {"least": 0.0, "median": 0.5, "largest": 1.0}


@dataclass
class Row:
    """One system; differences are from the run with a restart at every event."""

    system: str
    seed: int
    status: str
    t1: float
    events: int
    slides: int
    sensitivity: float
    same_events: bool
    time: float
    loss: float
    state: float
    end: float
    same_kind: bool
    same_limit: bool
    agrees: bool
    steps_every: int
    steps_two: int
    seconds_every: float
    seconds_two: float


def timed(system: System, every_event: bool) -> tuple[fs.Solution, float]:
    """Run a system; return the run and its seconds."""
    began = time.perf_counter()
    sol = system.run(engine=Piecewise(every_event=every_event), state_bytes=STATE_BYTES)
    return sol, time.perf_counter() - began


def study(seed: int) -> Row:
    """Run one system with both options."""
    system, _ = within(random_system(seed), STEPS)
    every, seconds_every = timed(system, True)
    two, seconds_two = timed(system, False)
    c = compare_runs(every, two)
    agrees = (
        c.same_events
        and c.time <= TIME
        and c.loss <= LOSS
        and max(c.state, c.end) <= STATE
        and c.same_kind
        and c.same_limit
    )
    patterns = every.events.where("pattern")
    return Row(
        system.name, seed, every.status, system.t1, len(patterns), int(np.sum(patterns.after == 0)),
        system.sensitivity(every), c.same_events, c.time, c.loss, c.state, c.end, c.same_kind,
        c.same_limit, agrees, every.steps, two.steps, seconds_every, seconds_two,
    )  # fmt: skip


def bench(systems: int) -> tuple[list[Row], int]:
    """Study so many systems away from separatrices; return the rows, and how many were left out."""
    rows: list[Row] = []
    left_out = 0
    study(0)  # compiles
    for seed in count():
        row = study(seed)
        near = row.sensitivity > SENSITIVE
        said = "near a separatrix" if near else "agrees" if row.agrees else "differs"
        print(f"{row.system}: {said}", file=sys.stderr)
        left_out += near
        if not near:
            rows.append(row)
        if len(rows) == systems:
            return rows, left_out
    raise AssertionError("there is no last seed")


def summary(rows: list[Row]) -> str:
    """Return a Markdown table of agreement and work, over all systems."""
    agree = sum(row.agrees for row in rows)
    same = sum(row.same_events for row in rows)
    worst = [np.nanmax([getattr(row, name) for row in rows]) for name in ("time", "loss", "state")]
    steps = [row.steps_every / max(row.steps_two, 1) for row in rows]
    seconds = [row.seconds_every / row.seconds_two for row in rows]
    lines = [
        f"{agree} of {len(rows)} systems agree, {same} have the same events; the largest",
        f"differences are {worst[0]:.0e} (event times), {worst[1]:.0e} (losses) and",
        f"{worst[2]:.0e} (states).",
        "",
        "| every event / two-level | " + " | ".join(QUANTILES) + " | in total |",
        "|---|" + "---:|" * (len(QUANTILES) + 1),
    ]
    totals = {
        "steps": (steps, sum(r.steps_every for r in rows) / sum(r.steps_two for r in rows)),
        "seconds": (seconds, sum(r.seconds_every for r in rows) / sum(r.seconds_two for r in rows)),
    }
    for name, (ratios, total) in totals.items():
        cells = [f"{np.quantile(ratios, q):.1f}" for q in QUANTILES.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {total:.1f} |")
    return "\n".join(lines)


def table(rows: list[Row]) -> str:
    """Return a Markdown table, a line a system."""
    lines = [
        "| system | ends | pattern changes | onto slides | moved by | event times | losses "
        "| states | ends by | agrees | steps | two-level | seconds | two-level |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        end = "at rest" if row.status == "stationary" else f"cut at t = {row.t1:g}"
        figures = (row.sensitivity, row.time, row.loss, row.state, row.end)
        cells = [
            row.system, end, str(row.events), str(row.slides), *[f"{x:.0e}" for x in figures],
            "yes" if row.agrees else "no", str(row.steps_every), str(row.steps_two),
            f"{row.seconds_every:.2f}", f"{row.seconds_two:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


INTRODUCTION = f"""# Two-level steps and a restart at every event

`python benchmarks/two_level.py` writes this page. Random two-layer ReLU networks (balanced,
dominated, unbalanced; some leaky, some with a bias; n ≤ 30, d ≤ 4, m ≤ 40, λ from 1e-8 to 1e-3) run
at the default `rtol = 1e-12` with `Piecewise(every_event=True)` and with `Piecewise()`, to rest, or
as far as {STEPS} steps take the first. Differences are between the two: *event times* relative;
*losses* from dense output at 100 times, half of them in the middle of steps, relative to the loss
at the start; *states* those of the neurons at the last common time, each relative to its norm;
*ends by* that of the final networks, which come to rest at times of their own. *Agrees* means: the
same events in the same order but for those closer than 1e-6, times to {TIME:g}, losses to {LOSS:g},
states and ends to {STATE:g}, the same verdict and the same exact limit of the loss.

A system is near a separatrix if its events are others, or move by more than {SENSITIVE:g} relative,
when its start moves by 1e-9; these are left out. *Moved by* is how much the events move otherwise.
Either run, with errors of 1e-12 in each step, knows events to no less than a thousandth of that.
Seconds are of one run each, one after another, once all is compiled.
"""


def document(rows: list[Row], left_out: int, versions: dict[str, str]) -> str:
    """Return the page."""
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(
        [
            INTRODUCTION,
            f"{len(rows)} systems; {left_out} near a separatrix left out.",
            "",
            summary(rows),
            "",
            table(rows),
            "",
            f"({listed})",
            "",
        ]
    )


def main() -> None:
    """Run, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", type=int, default=SYSTEMS)
    chosen = parser.parse_args()
    rows, left_out = bench(chosen.systems)
    versions = {"python": platform.python_version(), "numba": numba.__version__}
    versions |= {"numpy": np.__version__, "flowsim": fs.__version__}
    versions |= {"machine": platform.machine()}
    page = document(rows, left_out, versions)
    print(page)
    if chosen.systems == SYSTEMS:
        result = {
            "versions": versions, "left_out": left_out, "rows": [asdict(row) for row in rows],
        }  # fmt: skip
        (ROOT / "benchmarks" / "two_level.json").write_text(json.dumps(result, indent=1) + "\n")
        (ROOT / "docs" / "benchmarks-two-level.md").write_text(page)


if __name__ == "__main__":
    main()
