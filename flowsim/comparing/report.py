"""A comparison in words: when and why descents have left the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flowsim.comparing.result import Comparison, Descended
    from flowsim.solution import Solution

#: Losses that agree up to this part of the first one are the same.
_SAME = 1e-6
#: More codes than this part that differ are other patterns.
_CODES = 0.0


def why(comparison: Comparison, descent: Descended) -> str:
    """Return a sentence on when and why a descent has left the flow, or that it has not."""
    end = _end(comparison, descent)
    if descent.run.status == "non_finite":
        return f"It diverges by t = {descent.run.t_end:.4g}{_edge(descent)}."
    if not descent.follows:
        return f"It does not discretise the gradient flow; {end}."
    if np.isinf(descent.departure):
        worst = float(np.nanmax(descent.distance))
        until = f" up to t = {descent.run.t_end:.4g}" if _early(descent.run) else ""
        return (
            f"It follows the flow{until}, at most {worst:.2g} of its norm apart{_edge(descent)}; "
            f"{end}."
        )
    reasons = _reasons(descent) or "since errors of its steps have grown"
    later = _edge(descent) if descent.edge > descent.departure else ""
    return f"It leaves the flow at t = {descent.departure:.4g}, {reasons}{later}; {end}."


def _reasons(descent: Descended) -> str:
    """Return what has been wrong at the departure."""
    at = descent.t <= descent.departure
    reasons = []
    flips = float(np.max(descent.flips[at], initial=0.0))
    if flips > 0.0:
        count = round(flips * descent.run.initial.m)
        have = "neurons have" if count > 1 else "neuron has"
        reasons.append(
            f"where {count} {have} another sign of a than in the flow, which forbids to change it "
            "where |a| >= |w|"
        )
    if descent.edge <= descent.departure:
        reasons.append(
            f"where the sharpness exceeds {_limit(descent)} since t = {descent.edge:.3g}"
        )
    if not reasons and np.nanmax(descent.pattern_distance[at], initial=0.0) > _CODES:
        part = float(np.nanmax(descent.pattern_distance[at]))
        reasons.append(f"where up to {100 * part:.2g} % of the activation codes have differed")
    return " and ".join(reasons)


def _edge(descent: Descended) -> str:
    if not np.isfinite(descent.edge):
        return ""
    return f", with a sharpness above {_limit(descent)} from t = {descent.edge:.3g} on"


def _limit(descent: Descended) -> str:
    """Return the formula of the stability limit, and what it is."""
    formulas = {"momentum": "2(1+mu)/eta", "nesterov": "2(1+mu)/((1+2mu)eta)"}
    return f"{formulas.get(descent.engine.name, '2/eta')} = {descent.stability:.3g}"


def _early(run: Solution) -> bool:
    """Whether a budget has ended a run, and nothing that it has reached."""
    return run.status in ("max_steps", "max_seconds", "steps")


def _end(comparison: Comparison, descent: Descended) -> str:
    """Return where it ends, beside the flow."""
    flow, run = comparison.flow, descent.run
    first = max(float(flow.history.loss[0]), 1e-300)
    same = abs(flow.final.loss - run.final.loss) <= _SAME * first
    mine, theirs = (_kind(solution) for solution in (run, flow))
    if _early(run):
        return (
            f"{run.status} cuts it off after {run.steps} steps, at t = {run.t_end:.4g} and "
            f"L = {run.final.loss:.6g} ({mine}), the flow ends at L = {flow.final.loss:.6g} "
            f"({theirs})"
        )
    if same:
        return f"it ends where the flow does, L = {run.final.loss:.6g} ({mine})"
    return (
        f"it ends at L = {run.final.loss:.6g} ({mine}), the flow at L = {flow.final.loss:.6g} "
        f"({theirs})"
    )


def _kind(solution: Solution) -> str:
    return solution.final.kind.replace("_", " ")


def table(comparison: Comparison) -> str:
    """Return a table of all descents, with `why` of each."""
    head = (
        "descent", "eta", "steps", "stops at t", "by", "at L", "kind", "distance", "outputs",
        "modified", "leaves at t", "end patterns", "signs", "gap drift", "sharpness", "limit",
        "events", "off by",
    )  # fmt: skip
    rows = [head, *(_row(x) for x in comparison.descents)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in rows]
    flow = comparison.flow
    title = f"flow: L = {flow.final.loss:.6g} ({_kind(flow)}) at t = {flow.t_end:.6g}"
    orders = [
        f"distance of {name} ~ eta^{order:.3f}"
        for name in dict.fromkeys(x.name for x in comparison.descents)
        if np.isfinite(order := comparison.order(name))
    ]
    reasons = [f"{x.label}: {why(comparison, x)}" for x in comparison.descents]
    return "\n".join([title, "", *lines, "", *orders, *reasons])


def _row(x: Descended) -> tuple[str, ...]:
    def worst(values: np.ndarray) -> str:
        known = values[np.isfinite(values)]
        return f"{np.max(np.abs(known)):.2g}" if len(known) else "-"

    def known(value: float, text: str) -> str:
        return "-" if np.isnan(value) else text

    leaves = "never" if np.isinf(x.departure) else f"{x.departure:.4g}"
    return (
        x.name, known(x.learning_rate, f"{x.learning_rate:g}"), str(x.run.steps),
        f"{x.run.t_end:.4g}", x.run.status, f"{x.run.final.loss:.6g}", x.run.final.kind,
        worst(x.distance), worst(x.output_distance), worst(x.modified_distance),
        known(x.departure, leaves),
        known(x.final_pattern_distance, f"{x.final_pattern_distance:.2g}"),
        worst(x.flips), worst(x.gap_drift), worst(x.sharpness),
        known(x.stability, f"{x.stability:.3g}"),
        known(x.events_matched, f"{100 * x.events_matched:.0f} %"), worst(x.event_difference),
    )  # fmt: skip
