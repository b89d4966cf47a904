"""simulate(): run the gradient flow of a network on data until it comes to rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowsim._arguments import one_of, real, system
from flowsim.alignment.end import DEFINITIONS, EPSILON
from flowsim.alignment.flow import AlignmentFlow, until
from flowsim.alignment.phase import alignment_of, end_rule
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.piecewise import (
    Integrator,
    Limits,
    Progress,
    Record,
    StateStore,
    integrate,
    snapshot,
)
from flowsim.events import ALIVE, Event, Events
from flowsim.network import LOSSES, TwoLayerReLU
from flowsim.provenance import provenance
from flowsim.solution import Final, History, RunError, Solution, States
from flowsim.state import State
from flowsim.stationarity.classify import Verdict, classify
from flowsim.stationarity.exact import exact_limit_loss

#: Default memory for stored states; denser runs are thinned and replayed between.
STATE_BYTES = 32 * 2**20
#: A plateau is a local minimum of ||theta'||^2 this factor below its surroundings.
PLATEAU_DEPTH = 100.0


def simulate(
    net: TwoLayerReLU,
    data: Dataset,
    *,
    t1: float = float("inf"),
    rtol: float = 1e-12,
    residual: str = "full",
    loss: str = "half_mean",
    stationary_rtol: float = 1e-11,
    alignment: str = "residual",
    alignment_threshold: float = 1e-3,
    alignment_epsilon: float | None = None,
    max_steps: int = 1_000_000,
    max_seconds: float = float("inf"),
    state_bytes: int = STATE_BYTES,
    progress: Callable[[Progress], None] | None = None,
    throw: bool = False,
) -> Solution:
    """Integrate the gradient flow of the square loss from `net` on `data`.

    With ``r_k = y_k - h(x_k)`` and ``D_j = (1/n) sum_k c_jk r_k x_k``, ``c_jk`` the
    (leaky) ReLU's slope at ``w_j . x_k``, the flow of ``L = (1/2n) sum_k r_k^2`` is

        a_j' = w_j . D_j,     w_j' = a_j D_j,

    a differential inclusion where ``w_j . x_k = 0``, of which the element of minimal
    norm is followed.

    Parameters
    ----------
    net : TwoLayerReLU
        The initialisation.
    data : Dataset
    t1 : float
        Latest time; infinite by default: until the flow comes to rest.
    rtol : float
        Local error of a step relative to every neuron and to y, in [1e-15, 1e-2].
    residual : {"full", "frozen"}
        "frozen" keeps ``r = y`` (early alignment); it never rests, so give `t1`.
    loss : {"half_mean", "mean"}
        ``(1/2n) sum r^2`` or torch's ``(1/n) sum r^2``, whose time runs twice as fast.
    stationary_rtol : float
        The flow is at rest when every living neuron's ``||D_j||`` is below this times
        ``max_k |y_k| ||x_k||`` and the residual is at the least-squares residual of
        the occupied cells. 0 switches this stop off.
    alignment : {"residual", "growth", "theory"}
        What ends the early alignment phase: ``||r - y||`` first reaches `alignment_threshold`
        times ``||y||``; some neuron has grown by the factor λ^(-epsilon); or the theory's
        time, ``epsilon ln(1/λ) / max ||D||``. Sources: `flowsim.alignment.end.DEFINITIONS`.
    alignment_threshold : float
        Of "residual".
    alignment_epsilon : float, optional
        Of the other two, and of the predicted time; 1 by default for "residual", else 1/4.
    max_steps, max_seconds : int, float
        Budgets; a run that exhausts one says so.
    state_bytes : int
        Memory for stored states, from which dense output restarts.
    progress : callable, optional
        Called a few times a second with a `Progress`.
    throw : bool
        Raise `RunError` (with the solution) when the run failed.

    Returns
    -------
    Solution
        With `status` and `message` that say why the run stopped.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, before anything is computed.
    RunError
        With ``throw=True``.
    """
    t1, rtol = real("t1", t1), real("rtol", rtol)
    stationary_rtol = real("stationary_rtol", stationary_rtol)
    alignment_threshold = real("alignment_threshold", alignment_threshold)
    max_seconds = real("max_seconds", max_seconds)
    max_steps = _whole("max_steps", max_steps)
    state_bytes = _whole("state_bytes", state_bytes)
    residual = one_of("residual", residual, ("full", "frozen"))
    loss = one_of("loss", loss, LOSSES)
    alignment = one_of("alignment", alignment, DEFINITIONS)
    _check(net, data, t1, rtol, residual, stationary_rtol, alignment_threshold)
    epsilon = _checked_epsilon(alignment, alignment_epsilon)
    _check_budgets(max_steps, max_seconds, state_bytes)
    cells = Cells.of(data, net.negative_slope, loss, net(data.X), float(rtol))
    settings: dict[str, Any] = {
        "engine": "piecewise",
        "rtol": float(rtol),
        "residual": residual,
        "loss": loss,
        "t1": float(t1),
        "stationary_rtol": float(stationary_rtol),
        "alignment": alignment,
        "alignment_threshold": float(alignment_threshold),
        "alignment_epsilon": epsilon,
        "max_steps": int(max_steps),
        "max_seconds": float(max_seconds),
        "state_bytes": int(state_bytes),
    }
    integrator = Integrator(cells, State.of(net, cells), float(rtol), residual == "frozen")
    limits = Limits(
        float(np.ldexp(t1, cells.time_exponent)), stationary_rtol, max_steps, max_seconds
    )
    store = StateStore(state_bytes)
    ends = until(net, data, loss=loss, record=False)
    rule = end_rule(ends, settings, cells)
    # What overflows is found by its infinities and ends the run with a status.
    with np.errstate(over="ignore", invalid="ignore"):
        record = integrate(integrator, limits, rule, store, progress)
        solution = _solution(net, data, settings, integrator, record, store, ends)
    if throw and solution.failed:
        raise RunError(solution)
    return solution


def _check(
    net: Any, data: Any, t1: float, rtol: float, residual: str,
    stationary_rtol: float, threshold: float,
) -> None:  # fmt: skip
    system(net, data)
    if not np.all(np.isfinite(net.a)) or not np.all(np.isfinite(net(data.X))):
        raise ValueError(
            "Argument `net` must have finite weights and outputs on the data, but some overflow."
        )
    if not t1 > 0.0:
        raise ValueError(f"Argument `t1` must be positive, but is {t1}.")
    if residual == "frozen" and not np.isfinite(t1):
        raise ValueError(
            'Argument `t1` must be finite with residual="frozen", which never comes to rest, '
            "but is infinite."
        )
    for name, value, low, high in (
        ("rtol", rtol, 1e-15, 1e-2),
        ("stationary_rtol", stationary_rtol, 0.0, 1e-2),
        ("alignment_threshold", threshold, 1e-12, 1.0),
    ):
        if not low <= value <= high:
            raise ValueError(
                f"Argument `{name}` must lie between {low:g} and {high:g}, but is {value}."
            )


def _checked_epsilon(alignment: str, epsilon: Any) -> float:
    value = EPSILON[alignment] if epsilon is None else real("alignment_epsilon", epsilon)
    if not 0.0 < value <= 1.0:
        raise ValueError(f"Argument `alignment_epsilon` must lie between 0 and 1, but is {value}.")
    return value


def _whole(name: str, value: Any) -> int:
    number = real(name, value)
    if not number == np.floor(number) or np.isinf(number):
        raise ValueError(f"Argument `{name}` must be a whole number, but is {value}.")
    return int(number)


def _check_budgets(max_steps: int, max_seconds: float, state_bytes: int) -> None:
    for name, value in (
        ("max_steps", max_steps),
        ("max_seconds", max_seconds),
        ("state_bytes", state_bytes),
    ):
        if not value > 0:
            raise ValueError(f"Argument `{name}` must be positive, but is {value}.")


# -- from the record to the solution ----------------------------------------------------


def _solution(
    net: TwoLayerReLU,
    data: Dataset,
    settings: dict[str, Any],
    integrator: Integrator,
    record: Record,
    store: StateStore,
    ends: AlignmentFlow,
) -> Solution:
    cells = integrator.cells
    to_time = lambda s: np.ldexp(np.asarray(s), -cells.time_exponent)  # noqa: E731
    history = History(
        t=to_time(record.time),
        loss=np.ldexp(record.loss, 2 * cells.y_exponent),
        speed=np.ldexp(record.speed, 2 * cells.y_exponent + cells.time_exponent),
        rate=np.ldexp(record.rate, cells.time_exponent),
        alive=np.array(record.alive, dtype=np.int64),
    )
    rows = [
        Event(float(to_time(e.t)), e.kind, e.neuron, e.sample, e.before, e.after)
        for e in record.rows
    ]
    if settings["residual"] == "full":
        rows += [Event(t, "plateau") for t in _plateaus(history)]
    if record.status == "stationary":
        rows.append(Event(float(history.t[-1]), "stationary"))
    final = _final(net, data, integrator, record, history)
    return Solution(
        data=data,
        initial=net,
        settings=settings,
        status=record.status,
        message=_message(record.status, settings, final),
        events=Events.from_rows(rows),
        history=history,
        states=_states(store, cells),
        alignment=alignment_of(
            ends, settings, float(to_time(record.alignment_time)), record.alignment_state
        ),
        final=final,
        audit=_audit(net, data, integrator, record, history, final, settings),
        provenance=provenance(),
    )


def _final(
    net: TwoLayerReLU, data: Dataset, integrator: Integrator, record: Record, history: History
) -> Final:
    cells, state = integrator.cells, integrator.state
    frozen = integrator.frozen
    if record.status == "non_finite":
        nan = float("nan")
        verdict = Verdict("unknown", nan, nan, "the state is not finite")
    else:
        stationary = record.status == "stationary"
        verdict = classify(snapshot(integrator, integrator.residual()), stationary=stationary)
    if frozen:
        verdict = Verdict(
            "not_stationary", float("nan"), verdict.floor_loss, "the residual was kept frozen"
        )
    unit = 2 * cells.y_exponent
    return Final(
        t=float(history.t[-1]),
        network=state.network(net, cells),
        loss=float(history.loss[-1]),
        gradient_norm=float(np.sqrt(history.speed[-1])),
        kind=verdict.kind,
        limit_loss=float(np.ldexp(verdict.limit_loss, unit)),
        floor_loss=float(np.ldexp(verdict.floor_loss, unit)),
        reason=verdict.reason,
        fate=state.fate.astype(np.int8),
        code=state.code.copy(),
        limit_loss_exact=_exact_limit(data, integrator, verdict),
    )


def _exact_limit(data: Dataset, integrator: Integrator, verdict: Verdict) -> str:
    if not np.isfinite(verdict.limit_loss):
        return ""
    state = integrator.state
    view = snapshot(integrator, integrator.residual())
    counted = (state.fate == ALIVE) & ~view.vanished(view.fields(view.r))
    exact = exact_limit_loss(data, integrator.cells, state.code[counted])
    return "" if exact is None else str(exact)


def _states(store: StateStore, cells: Cells) -> States:
    states = [row[3] for row in store.rows]
    return States(
        step=np.array([row[0] for row in store.rows], dtype=np.int64),
        t=np.ldexp([row[1] for row in store.rows], -cells.time_exponent),
        t_tail=np.ldexp([row[2] for row in store.rows], -cells.time_exponent),
        neurons=np.array([s.z for s in states]),
        exponent=np.array([s.exponent for s in states]) - cells.size_exponent,
        sign=np.array([s.sign for s in states], dtype=np.int8),
        code=np.array([s.code for s in states]),
        fate=np.array([s.fate for s in states], dtype=np.int8),
        gap=states[0].gap,
        gap_exponent=states[0].gap_exponent - cells.size_exponent,
    )


def _plateaus(history: History) -> list[float]:
    """Return the times of speed minima that a factor PLATEAU_DEPTH surrounds on both sides."""
    speed = history.speed
    found: list[float] = []
    falling, top, bottom = False, 0, 0
    for i in range(len(speed)):
        if not falling:
            if speed[i] >= speed[top]:
                top = i
            elif speed[i] * PLATEAU_DEPTH <= speed[top]:
                falling, bottom = True, i
        elif speed[i] <= speed[bottom]:
            bottom = i
        elif speed[i] >= PLATEAU_DEPTH * speed[bottom] > 0.0:
            found.append(float(history.t[bottom]))
            falling, top = False, i
    return found


def _message(status: str, settings: dict[str, Any], final: Final) -> str:
    kind = final.kind.replace("_", " ")
    if settings["residual"] == "frozen" and status == "t1":
        return f"The run has reached t1 = {settings['t1']:g} with the residual frozen at y."
    return {
        "stationary": f"The flow has come to rest: {kind} ({final.reason}).",
        "t1": f"The run has reached t1 = {settings['t1']:g}; there the state is {kind} "
        f"({final.reason}). Raise t1 to go on.",
        "max_steps": f"The run has used max_steps = {settings['max_steps']} steps before it "
        "came to rest; raise max_steps or stationary_rtol, or set t1.",
        "max_seconds": f"The run has used max_seconds = {settings['max_seconds']:g} before it "
        "came to rest; raise max_seconds or stationary_rtol, or set t1.",
        "zeno": "Events have piled up without progress in time; perturb the initialisation, or "
        "report these data as a defect.",
        "non_finite": "The state is no longer finite; check the scales of the data and of the "
        "initialisation.",
        "step_underflow": "The step has fallen below the resolution of time; the flow is too "
        "fast at this scale for its elapsed time.",
    }[status]


def _audit(
    net: TwoLayerReLU, data: Dataset, integrator: Integrator, record: Record,
    history: History, final: Final, settings: dict[str, Any],
) -> dict[str, float]:  # fmt: skip
    """Measure what every exact run satisfies; all figures are relative and should be tiny."""
    audit = {"invariant_drift": _invariant_drift(integrator.state), "correction": integrator.drift}
    if settings["residual"] == "full":
        rises = np.diff(history.loss)
        audit["loss_increase"] = float(rises.max(initial=0.0) / max(history.loss[0], 1e-300))
        audit["dissipation"] = max(record.dissipation, 0.0)
        again = final.network.loss(data, loss=settings["loss"])
        audit["loss_recomputed"] = abs(again - final.loss) / max(history.loss[0], 1e-300)
    return {key: float(value) for key, value in audit.items()}


def _invariant_drift(state: State) -> float:
    """Return max_j |a^2 - ||w||^2 - const_j| / (a^2 + ||w||^2) at the end."""
    square = state.z**2
    shift = np.clip(2 * (state.gap_exponent - state.exponent), -2000, 1000).astype(np.int32)
    const = np.ldexp(state.gap, shift)
    size = np.sum(square, axis=1)
    gap = square[:, 0] - np.sum(square[:, 1:], axis=1) - const
    return float(np.max(np.abs(gap[size > 0]) / size[size > 0], initial=0.0))
