"""compare(): the flow and discrete descents on one problem, at matched times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flowsim._arguments import flag, real, whole
from flowsim.comparing.distance import apart, gaps, vector_of
from flowsim.comparing.events import Matched, matched
from flowsim.comparing.modified import modified_flow, smooth
from flowsim.comparing.names import names_of
from flowsim.comparing.result import Comparison, Descended
from flowsim.data import Dataset
from flowsim.engines.descent.config import Descent
from flowsim.engines.record import Progress
from flowsim.network import TwoLayerReLU
from flowsim.simulate import simulate
from flowsim.solution import DescentStates, Solution

#: Learning rates unless others are given.
RATES = (1e-1, 1e-2, 1e-3)
#: Descents that get no time of the gradient flow: only their ends are compared.
OFF_THE_CLOCK = ("adam", "optax")
#: Modified flows of larger systems are left out unless asked for: their code is general.
MODIFIED_SIZE = 2_000
#: Sharpness of larger models is left out unless asked for.
SHARPNESS_SIZE = 20_000


def compare(
    net: Any,
    data: Dataset | None = None,
    learning_rates: Sequence[float] = RATES,
    optimizers: Sequence[str | Descent] = ("gd",),
    *,
    t1: float | None = None,
    loss: str = "half_mean",
    rtol: float = 1e-12,
    threshold: float = 0.1,
    permute: bool = False,
    points: int = 200,
    sharpness: int | None = None,
    modified: bool | None = None,
    max_steps: int = 10_000_000,
    max_seconds: float = float("inf"),
    progress: Callable[[Progress], None] | None = None,
) -> Comparison:
    """Run the gradient flow and descents from one start, and measure how far apart they are.

    Parameters
    ----------
    net, data : as of `flowsim.simulate`
    learning_rates : sequence of float
        Each optimizer runs with each of them.
    optimizers : sequence of str or Descent
        Names as of `flowsim.engines.Descent`, "log_norm" for gradient descent in its coordinates
        of that name; or engines, whose learning rate and steps are replaced. Those of optax and
        those with a schedule run once, as they are.
    t1 : float, optional
        Latest time; by default the end of the flow, 1.1 times over, since descents need
        not be at rest there.
    loss, rtol
        Of the flow, as of `flowsim.simulate`.
    threshold : float
        A descent has left the flow where ``|theta - theta_flow| / |theta_flow|`` first passes it.
    permute : bool
        Compare neurons in the order in which they are closest, at every time.
    points : int
        Times to compare at, about as many in each descent, log-spaced and each that of a step.
    sharpness : int, optional
        Times at which the largest eigenvalue of the Hessian is computed, 24 by default; none for
        models of more than 20 000 parameters.
    modified : bool, optional
        Follow the modified flow ``theta' = -grad L - (eta/4) grad |grad L|^2`` of gradient descent
        too; by default for up to 2000 pairs of a parameter and a sample.
    max_steps, max_seconds : int, float
        Budgets of each descent, the seconds of each modified flow, too; `Comparison.why` and its
        table say which has run out.
    progress : callable, optional

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense.

    Notes
    -----
    Adam, and an optax optimizer of unknown kind, do not discretise the gradient flow: their ends
    are compared with the flow's, and no states on the way.
    """
    threshold = real("threshold", threshold)
    if not threshold > 0.0:
        raise ValueError(f"Argument `threshold` must be positive, but is {threshold}.")
    flag("permute", permute)
    whole("points", points, 2)
    if sharpness is not None:
        whole("sharpness", sharpness, 0)
    if modified is not None:
        flag("modified", modified)
    if progress is not None and not callable(progress):
        raise TypeError(f"Argument `progress` must be a function, but is {progress!r}.")
    engines = descents(learning_rates, optimizers)
    until: dict[str, Any] = {"end": "rest"} if t1 is None else {"t1": t1}
    flow = simulate(net, data, loss=loss, rtol=rtol, progress=progress, **until)
    last = (1.1 * flow.t_end or 1.0) if t1 is None else float(t1)
    end = last if flow.status == "stationary" else min(last, flow.t_end)  # where it rests, it stays
    size = vector_of(net).size
    samples = 0 if data is None else data.n
    looks = (24 if size <= SHARPNESS_SIZE else 0) if sharpness is None else sharpness
    if modified is None:
        modified = size * samples <= MODIFIED_SIZE
    found = []
    for engine, name in zip(engines, names_of(engines), strict=True):
        run = simulate(
            net, data, engine=engine, loss=loss, t1=last, max_steps=max_steps,
            max_seconds=max_seconds, state_bytes=2**30, progress=progress,
        )  # fmt: skip
        found.append(_descended(flow, run, engine, name, end, threshold, permute, points, looks))
        rate = engine.learning_rate
        plain = engine.name == "gd" and engine.batch_size is None and not callable(rate)
        if modified and plain and engine.coordinates == "weights":
            found[-1] = _with_modified(found[-1], net, data, loss, max_seconds)
    return Comparison(flow, tuple(found), threshold)


def descents(rates: Sequence[float], optimizers: Sequence[str | Descent]) -> list[Descent]:
    """Return the engines that are asked for, by optimizer and then by learning rate."""
    if isinstance(optimizers, str | Descent):
        optimizers = [optimizers]
    if not isinstance(optimizers, Iterable):
        raise TypeError(
            "Argument `optimizers` must be names or engines, but is of type "
            f"{type(optimizers).__name__}."
        )
    optimizers = list(optimizers)
    if not optimizers:
        raise ValueError("Argument `optimizers` must name some, but is empty.")
    rates = [real("learning_rates", rate) for rate in np.atleast_1d(np.asarray(rates, object))]
    engines: list[Descent] = []
    for optimizer in optimizers:
        own = isinstance(optimizer, Descent) and optimizer.name == "optax"
        if isinstance(optimizer, Descent) and (own or callable(optimizer.learning_rate)):
            engines.append(optimizer)
            continue
        if not rates:
            raise ValueError("Argument `learning_rates` must hold some, but is empty.")
        for rate in sorted(rates, reverse=True):
            if isinstance(optimizer, Descent):
                engines.append(replace(optimizer, learning_rate=rate, steps=None))
            elif optimizer == "log_norm":
                engines.append(Descent("gd", rate, coordinates="log_norm"))
            else:
                engines.append(Descent(optimizer, rate))
    return engines


def _descended(
    flow: Solution, run: Solution, engine: Descent, name: str, end: float, threshold: float,
    permute: bool, points: int, looks: int,
) -> Descended:  # fmt: skip
    """Measure a descent against the flow."""
    states = run.states
    assert isinstance(states, DescentStates)
    follows = engine.name not in OFF_THE_CLOCK
    rows = np.flatnonzero(states.t <= end * (1 + 1e-12)) if follows else np.zeros(0, int)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, points).astype(int))] if len(rows) else rows
    t = states.t[rows]
    pairs = [(run.network(x), flow.network(min(x, flow.t_end))) for x in t.tolist()]
    distance = np.array([apart(one, other, permute=permute) for one, other in pairs])
    relu = isinstance(flow.initial, TwoLayerReLU)
    events = matched(run.events, flow.events) if follows else Matched(np.zeros(0), float("nan"))
    look = rows if follows else np.arange(len(states.t))
    seen = look[np.unique(np.linspace(0, len(look) - 1, looks).astype(int))] if looks else look[:0]
    passed = np.flatnonzero(distance > threshold)
    return Descended(
        run=run,
        engine=engine,
        name=name,
        t=t,
        loss=np.array([run.history.loss[states.step[row]] for row in rows]),
        flow_loss=np.array([flow.loss(min(x, flow.t_end)) for x in t.tolist()]),
        distance=distance,
        output_distance=_outputs_apart(flow, pairs),
        pattern_distance=_patterns_apart(run, flow, t) if relu else np.full(len(t), np.nan),
        final_pattern_distance=_codes_apart(
            run.final.network.pattern(flow.data), flow.pattern(flow.t_end)
        )
        if relu
        else float("nan"),
        flips=np.array([_flips(one, other) for one, other in pairs]) if relu else 0.0 * t,
        gap_drift=np.array([_drift(one, flow.initial) for one, _ in pairs]) if relu else 0.0 * t,
        sharpness_t=states.t[seen],
        sharpness=np.array([_sharpness(run, float(x)) for x in states.t[seen]]),
        departure=float(t[passed[0]] if len(passed) else "inf" if follows else "nan"),
        event_difference=events.difference,
        events_matched=events.fraction,
        modified_t=np.zeros(0),
        modified_distance=np.zeros(0),
        modified_loss=np.zeros(0),
        modified_status="",
    )


def _outputs_apart(flow: Solution, pairs: list[tuple[Any, Any]]) -> np.ndarray:
    """Return ``|h - h_flow| / |y|`` at the data."""
    data = flow.data
    if data is None:
        return np.full(len(pairs), np.nan)
    size = float(np.linalg.norm(data.y)) or 1.0
    return np.array(
        [np.linalg.norm(_outputs(one, data) - _outputs(other, data)) / size for one, other in pairs]
    )


def _outputs(model: Any, data: Dataset) -> np.ndarray:
    if isinstance(model, TwoLayerReLU):
        return model(data.X)
    from flowsim._jax import x64

    with x64():
        return np.array([np.asarray(model(x)) for x in data.X]).reshape(data.y.shape)


def _patterns_apart(run: Solution, flow: Solution, t: np.ndarray) -> np.ndarray:
    """Return which part of all codes differ, those of slides in the flow apart."""
    pairs = ((run.pattern(x), flow.pattern(min(x, flow.t_end))) for x in t.tolist())
    return np.array([_codes_apart(mine, theirs) for mine, theirs in pairs], dtype=np.float64)


def _codes_apart(mine: np.ndarray, theirs: np.ndarray) -> float:
    settled = theirs != 0
    differ = (mine > 0)[settled] != (theirs > 0)[settled]
    return float(np.mean(differ)) if len(differ) else 0.0


def _flips(net: TwoLayerReLU, flow: TwoLayerReLU) -> float:
    """Return which part of the neurons has another sign of a than in the flow."""
    return float(np.mean(net.direction[:, 0] * flow.direction[:, 0] < 0.0))


def _drift(net: TwoLayerReLU, start: TwoLayerReLU) -> float:
    """Return the largest change of ``a^2 - |w|^2``, over ``a^2 + |w|^2`` of the neuron now."""
    with np.errstate(over="ignore", invalid="ignore"):
        grown = np.exp(2.0 * (start.log_norm - net.log_norm))
        change = np.abs(gaps(net) - gaps(start) * grown)
    return float(np.max(change[np.isfinite(change)], initial=0.0))


def _sharpness(run: Solution, t: float) -> float:
    """Return the largest eigenvalue of the Hessian at `t`; nan where it is not finite."""
    from flowsim.models.objective import Objective
    from flowsim.stationarity.hessian import spectrum

    given = isinstance(run.initial, tuple)
    try:
        model = (run.initial[0], run.network(t)) if given else smooth(run.network(t))
        objective = Objective.of(model, run.data, loss=run.settings["loss"])
        return spectrum(objective.functional, objective.parameters, objective.args).highest
    except (FloatingPointError, ValueError):
        return float("nan")


def _with_modified(
    found: Descended, net: Any, data: Dataset | None, loss: str, seconds: float
) -> Descended:
    """Follow the modified flow, and measure the descent against it as far as it gets."""
    flow = modified_flow(net, data, found.learning_rate, found.t, loss, seconds)
    pairs = list(zip(flow.t.tolist(), flow.models, strict=True))
    return replace(
        found,
        modified_t=flow.t,
        modified_distance=np.array([apart(found.run.network(t), model) for t, model in pairs]),
        modified_loss=np.array([_loss_of(model, data, loss) for _, model in pairs]),
        modified_status=flow.status,
    )


def _loss_of(model: Any, data: Dataset | None, loss: str) -> float:
    if data is None:
        return float("nan")
    r = data.y - _outputs(model, data)
    return (1.0 if loss == "mean" else 0.5) * float(np.sum(r * r)) / data.n
