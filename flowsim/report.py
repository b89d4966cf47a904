"""What a run says about itself in words: labels, verdict, milestones, the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flowsim import labels
from flowsim.events import EVENT_KINDS
from flowsim.network import TwoLayerReLU

if TYPE_CHECKING:
    from flowsim.alignment.end import Alignment
    from flowsim.solution import Solution

#: What the flow has done, for each kind of final state; `{loss}` is the loss there.
VERDICTS = {
    "interpolation": "The flow ended at interpolation, a global minimum with {loss}",
    "global_minimum": "The flow ended at a global minimum of positive loss with {loss}",
    "local_minimum": "The flow ended at a local minimum with {loss}",
    "spurious_local_minimum": "The flow ended at a spurious local minimum with {loss}",
    "saddle": "The flow is at a saddle with {loss}",
    "not_stationary": "The flow has not come to rest; it has reached {loss}",
    "unknown": "The flow has reached a state of undecided kind with {loss}",
}

#: Exact limits with more characters are left to the file.
_LONGEST_FRACTION = 24
#: A loss below this part of the initial one is rounding of a zero limit.
_ZERO = 1e-20
_SHOWN_PLATEAUS = 12
#: Vectors of more entries than this are not written out.
_SHOWN_ENTRIES = 4


class Milestone(NamedTuple):
    """A time at which something happened to the run as a whole."""

    t: float
    loss: float
    what: str


def short_repr(solution: Solution) -> str:
    """Return one line: the system, why the run stopped, when and where."""
    relu = isinstance(solution.initial, TwoLayerReLU)
    system = f"{solution.data!r}, m={solution.initial.m}" if relu else system_label(solution)
    return (
        f"Solution({system}: {solution.status} at "
        f"t={solution.t_end:.6g}, {solution.final.kind}, loss={solution.final.loss:.6g}, "
        f"{len(solution.events)} events, {solution.steps} steps)"
    )


def summary(solution: Solution) -> str:
    """Return a report of a run to print.

    Parameters
    ----------
    solution : Solution

    Returns
    -------
    str
        The system, why the run stopped, the verdict and its reason, the milestones
        with their times and losses, counts of events, and the audit's figures.
    """
    sections = [
        [system_label(solution), _settings_label(solution)],
        _outcome(solution),
        ["What happened when", *_milestone_table(solution)],
        ["Early alignment", *_alignment_lines(solution)],
        ["Events", *_event_counts(solution)],
        ["Audit (relative errors; rounding is 2e-16)", *_audit(solution)],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if len(lines) > 1)


def system_label(solution: Solution) -> str:
    """Return the data and the initialisation, as in a title."""
    frozen = solution.settings["residual"] == "frozen"
    if not isinstance(solution.initial, TwoLayerReLU):
        return labels.model_label(solution.data, solution.initial, frozen=frozen)
    return labels.system_label(solution.data, solution.initial, frozen=frozen)


def loss_symbol(solution: Solution) -> str:
    """Return L½ for (1/2n) Σ r² and L₁ for (1/n) Σ r², L for a function of the user's."""
    if solution.data is None:
        return "L"
    return "L₁" if solution.settings["loss"] == "mean" else "L½"


def loss_formula(solution: Solution) -> str:
    """Return the loss with its definition."""
    if solution.data is None:
        return "L(θ)"
    factor = "1/n" if solution.settings["loss"] == "mean" else "1/2n"
    return f"{loss_symbol(solution)} = ({factor}) Σ r²"


def verdict(solution: Solution) -> str:
    """Return one sentence on where the flow is and with which loss."""
    if solution.settings["residual"] == "frozen":
        return f"The residual was kept frozen at y, up to t = {solution.t_end:.6g}."
    template = VERDICTS.get(solution.final.kind, VERDICTS["unknown"])
    if solution.status == "certified":
        template = template.replace("ended at", "tends to").replace("is at", "tends to")
    elif (proof := solution.final.certificate) is not None and proof.quantities.get("removed"):
        template = template.replace("is at", "is near")
    return template.format(loss=f"{loss_symbol(solution)} = {final_loss(solution)}") + "."


def final_loss(solution: Solution) -> str:
    """Return the loss that the flow tends to, as a fraction too where it is known exactly.

    The limit is the least-squares value of the occupied cells; a run that has not
    come to rest has none, and its last loss stands in.
    """
    final = solution.final
    if np.isnan(final.limit_loss):
        return f"{final.loss:.10g}"
    value = final.limit_loss
    if _vanishes(solution, value):
        return "0"
    exact = final.limit_loss_exact
    # A fraction that fills the line says less than its decimals.
    return f"{exact} = {value:.10g}" if 0 < len(exact) <= _LONGEST_FRACTION else f"{value:.10g}"


def plateaus(solution: Solution) -> list[Milestone]:
    """Return the plateaus (local minima in time of the speed) with their losses."""
    times = solution.events.where("plateau").t
    return [Milestone(float(t), _loss_at(solution, float(t)), "plateau") for t in times]


def _loss_at(solution: Solution, t: float) -> float:
    """Return the loss at a time: at a step, of dense output, or without it, near enough."""
    times, loss = solution.history.t, solution.history.loss
    i = int(np.searchsorted(times, t))
    if i == len(times) or times[i] == t:
        return float(loss[min(i, len(times) - 1)])
    try:
        return float(solution.loss(t))
    except (TypeError, ValueError):  # a model without its code, or with few of its states
        return _cubic(solution, t, i)


def _cubic(solution: Solution, t: float, i: int) -> float:
    """Return the loss between steps i - 1 and i from the history, minus the speed its slope."""
    times, loss, speed = solution.history.t, solution.history.loss, solution.history.speed
    h = float(times[i] - times[i - 1])
    x, rise = (t - float(times[i - 1])) / h, float(loss[i] - loss[i - 1])
    first, last = (-h * float(speed[k]) - rise for k in (i - 1, i))
    return float(loss[i - 1]) + x * rise + x * (1.0 - x) * ((1.0 - x) * first - x * last)


def milestones(solution: Solution) -> list[Milestone]:
    """Return the turning points of a run in the order of time."""
    history, alignment = solution.history, solution.alignment
    relu = isinstance(solution.initial, TwoLayerReLU)
    start = f"start, {history.alive[0]} of {solution.initial.m} neurons alive" if relu else "start"
    found = [Milestone(float(history.t[0]), float(history.loss[0]), start)]
    if np.isfinite(alignment.end_time):
        loss = _loss_at(solution, alignment.end_time)
        found.append(Milestone(alignment.end_time, loss, _alignment_label(solution)))
    changes = solution.events.where("pattern").t
    for t, which in zip(changes[[0, -1]] if len(changes) else (), ("first", "last"), strict=False):
        loss = _loss_at(solution, float(t))
        found.append(Milestone(float(t), loss, f"{which} activation change"))
    found += plateaus(solution)
    found.sort(key=lambda milestone: milestone.t)
    end = solution.status.replace("_", " ")
    end += f", {history.alive[-1]} neurons alive" if relu else ""
    return [*found, Milestone(solution.t_end, float(history.loss[-1]), end)]


def _vanishes(solution: Solution, loss: float) -> bool:
    return abs(loss) <= _ZERO * float(np.max(np.abs(solution.history.loss)))


def _settings_label(solution: Solution) -> str:
    settings = solution.settings
    parts = [f"loss {loss_formula(solution)}"]
    if settings.get("engine") == "descent":
        return ", ".join([*parts, _descent_label(settings)])
    parts += [f"{key} {settings[key]:g}" for key in ("rtol",) if key in settings]
    if "engine" in settings:
        solver = settings.get("solver", "taylor")
        parts.append(f"engine {settings['engine']}" + ("" if solver == "taylor" else f" {solver}"))
    return ", ".join(parts)


def _descent_label(settings: dict[str, Any]) -> str:
    """Return the optimizer of a descent, its learning rate and what else is not usual."""
    rate, kind = settings["learning_rate"], settings["solver"]
    parts = [kind if isinstance(rate, float) and rate < 0.0 else f"{kind} with η = {rate}"]
    if kind in ("momentum", "nesterov"):
        parts.append(f"μ = {settings['momentum']:g}")
    if settings["batch_size"] >= 0:
        parts.append(f"batches of {settings['batch_size']}")
    if settings["coordinates"] != "weights":
        parts.append("in direction and log-norm")
    return ", ".join([*parts, settings["dtype"]])


def _outcome(solution: Solution) -> list[str]:
    final = solution.final
    stopped = f"{solution.status.replace('_', ' ')} at t = {solution.t_end:.8g}"
    lines = [
        verdict(solution),
        f"  Reason   {final.reason}",
        f"  Stopped  {stopped}, after {solution.steps} steps",
    ]
    if solution.status not in ("stationary", "certified"):
        lines.append(f"           {solution.message}")
    lines.append(
        f"  Loss     {final.loss:.10g} at the end, gradient norm {final.gradient_norm:.3g}"
    )
    proof = final.certificate
    if proof is not None and proof.proved:
        lines.append(f"  Proof    {_proof_label(proof)}")
    if np.isfinite(final.floor_loss):
        floor = 0.0 if _vanishes(solution, final.floor_loss) else final.floor_loss
        lines.append(f"           {floor:.10g} is the infimum over networks of any width")
    if np.isfinite(final.lowest_curvature):
        ends = f"{final.lowest_curvature:.4g} to {final.highest_curvature:.4g}"
        lines.append(f"  Hessian  eigenvalues from {ends}")
    return lines


def _proof_label(proof: Any) -> str:
    from flowsim.certificates.certificate import rounded_down

    light = int(proof.quantities["removed"])
    if light:
        return (
            f"without its {light} light neurons the loss tends to the limit; they leave near "
            f"t = {proof.escape_time:.4g} (predicted)"
        )
    if proof.quantities["core"] == 0.0:
        return "no neuron moves, and none ever will"
    rate = rounded_down(proof.quantities["rate"])
    return f"the loss tends to the limit, its excess at least like exp(-{rate} t)"


def _alignment_label(solution: Solution) -> str:
    alignment = solution.alignment
    if len(alignment.alive) == 0:
        return "early alignment ends"
    label = f"early alignment ends: {np.sum(alignment.alive)} alive"
    angles = alignment.angle[np.isfinite(alignment.angle)]
    if len(angles):
        median = np.degrees(np.median(angles))
        label += f", half of them within {median:.3g}° of their extremal vector"
    return label


def _end_reason(alignment: Alignment) -> str:
    return {
        "residual": f"r has left y by {alignment.threshold:g}",
        "growth": f"a neuron has grown by λ^-{alignment.epsilon:g}",
        "theory": "by definition",
    }[alignment.definition]


def _alignment_lines(solution: Solution) -> list[str]:
    """Return what the closed form says of the early alignment, beside what was measured."""
    alignment = solution.alignment
    lines = []
    if np.isfinite(alignment.predicted_time):
        parts = "" if alignment.epsilon == 1.0 else f"{alignment.epsilon:g} "
        lines.append(
            f"  Theory's time  {parts}ln(1/λ)/max‖D‖ = {alignment.predicted_time:.6g}; "
            f"the phase ended at {alignment.end_time:.6g}: {_end_reason(alignment)}"
        )
    moved = alignment.frozen_angle[np.isfinite(alignment.frozen_angle)]
    if len(moved):
        largest = np.degrees(np.max(moved))
        lines.append(f"  Coupling       has turned no neuron by more than {largest:.3g}° by then")
    for i, (vector, norm) in enumerate(zip(alignment.D, alignment.norm, strict=True)):
        count = int(np.sum(alignment.extremal == i))
        D = ", ".join(f"{x:.6g}" for x in vector)
        D = f"D = ({D}), " if len(vector) <= _SHOWN_ENTRIES else ""
        lines.append(f"  {count:>7} neurons to {D}‖D‖ = {norm:.6g}")
    nowhere = int(np.sum(alignment.extremal < 0))
    return [*lines, f"  {nowhere:>7} neurons die or rest"] if lines else lines


def _milestone_table(solution: Solution) -> list[str]:
    rows = milestones(solution)
    extra = sum(row.what == "plateau" for row in rows) - _SHOWN_PLATEAUS
    if extra > 0:
        kept = [row for row in rows if row.what == "plateau"][:_SHOWN_PLATEAUS]
        rows = [row for row in rows if row.what != "plateau" or row in kept]
    lines = [f"  {'t':>14}  {'loss ' + loss_symbol(solution):>16}"]
    lines += [f"  {row.t:>14.8g}  {row.loss:>16.10g}  {row.what}" for row in rows]
    return lines + ([f"  and {extra} more plateaus"] if extra > 0 else [])


def _event_counts(solution: Solution) -> list[str]:
    events = solution.events
    counts = np.bincount(events.kind_code, minlength=len(EVENT_KINDS))
    lines = []
    for kind, count in zip(EVENT_KINDS, counts, strict=True):
        if count:
            times = events.where(kind).t
            when = f"t = {times[0]:.6g}" + (f" to {times[-1]:.6g}" if count > 1 else "")
            lines.append(f"  {kind.replace('_', ' '):<14} {count:>7}  {when}")
    return lines or ["  none"]


def _audit(solution: Solution) -> list[str]:
    width = max((len(key) for key in solution.audit), default=0)
    return [
        f"  {key.replace('_', ' '):<{width}}  {value:.2g}" for key, value in solution.audit.items()
    ]
