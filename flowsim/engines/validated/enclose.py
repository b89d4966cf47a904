"""enclose(): the flow with everything about it proved, by interval arithmetic."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
from flint import ctx

from flowsim._arguments import one_of, real, whole
from flowsim._arguments import system as check_system
from flowsim.data import Dataset
from flowsim.engines.validated.attempt import Attempt, enclosed
from flowsim.engines.validated.config import PRECISION, Validated
from flowsim.engines.validated.result import EnclosedState, Enclosure
from flowsim.engines.validated.state import BallState
from flowsim.engines.validated.system import System
from flowsim.network import TwoLayerReLU

#: Sizes up to which a rigorous run is a matter of minutes.
LARGEST = {"m": 20, "n": 10, "d": 3}
#: Neurons that are smaller need more precision than the defaults.
SMALLEST = 1e-14
#: Two failures are the same one if their times agree to this part.
SAME_TIME = 1e-9


def enclose(
    net: TwoLayerReLU,
    data: Dataset,
    *,
    t1: float = inf,
    accept: Callable[[EnclosedState], bool] | None = None,
    precision: int = PRECISION,
    max_precision: int | None = None,
    order: int | None = None,
    residual: str = "full",
    loss: str = "half_mean",
    max_steps: int = 100_000,
) -> Enclosure:
    """Enclose the flow of `net` on `data`: every event, its time, and the state at the end, proved.

    The equations are those of `flowsim.simulate`; docs/validated.md says how each step is proved.

    Parameters
    ----------
    net : TwoLayerReLU
        At most 20 neurons, none smaller than 1e-14; its float64 weights are taken exactly.
    data : Dataset
        At most 10 samples in at most 3 dimensions, taken exactly.
    t1 : float
        Where to end.
    accept : callable, optional
        Of an `EnclosedState`: whether to end there; asked whenever the time has grown by a tenth.
    precision : int
        Bits of the arithmetic to begin with; doubled, from the start, where something cannot be
        proved.
    max_precision : int, optional
        Bits that are not exceeded; by default 1536, or `precision` if that is more.
    order : int, optional
        Order of the Taylor polynomials; by default a third of the precision.
    residual : {"full", "frozen"}
    loss : {"half_mean", "mean"}
    max_steps : int

    Returns
    -------
    Enclosure
        With the status "undecided" where something cannot be proved; it holds all that is, up to
        there.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said, or neither `t1` nor `accept` ends the run.
    """
    check_sizes(net, data)
    engine = Validated(precision, max_precision, order, accept=accept)
    whole("max_steps", max_steps, 1)
    return follow(net, data, engine, Limits.checked(t1, residual, loss, max_steps, engine))


def check_sizes(net: TwoLayerReLU, data: Dataset) -> None:
    """Check that a system is one for a rigorous run.

    Raises
    ------
    TypeError, ValueError
        If it is not.
    """
    check_system(net, data)
    for name, value in (("m", net.m), ("n", data.n), ("d", data.d)):
        if value > LARGEST[name]:
            raise ValueError(
                f"Argument `{'net' if name == 'm' else 'data'}` must have {name} <= "
                f"{LARGEST[name]} for a rigorous run, but has {name} = {value}."
            )
    size = np.sqrt(net.a**2 + np.sum(net.W**2, axis=1))
    small = (size < SMALLEST) & np.isfinite(net.log_norm)
    if np.any(small):
        raise ValueError(
            f"Argument `net` must have no neuron smaller than {SMALLEST:g} for a rigorous run, but "
            f"neuron {np.flatnonzero(small)[0]} is {size[small][0]:.3g}."
        )


@dataclass(frozen=True)
class Limits:
    """What to follow, and how far."""

    t1: float
    residual: str = "full"
    loss: str = "half_mean"
    max_steps: int = 100_000
    max_seconds: float = inf

    @classmethod
    def checked(
        cls, t1: float, residual: str, loss: str, max_steps: int, engine: Validated
    ) -> Limits:
        """Check what a run is to do."""
        t1 = real("t1", t1)
        if not t1 > 0.0:
            raise ValueError(f"Argument `t1` must be positive, but is {t1:g}.")
        check_end(t1, engine)
        one_of("residual", residual, ("full", "frozen"))
        one_of("loss", loss, ("half_mean", "mean"))
        return cls(t1, residual, loss, max_steps)


def check_end(t1: float, engine: Validated) -> None:
    """Check that something ends a run.

    Raises
    ------
    ValueError
        If nothing does.
    """
    if t1 == inf and engine.accept is None:
        raise ValueError(
            "Argument `t1` must be finite for the engine Validated unless `accept` ends the run, "
            "but is infinite."
        )


def follow(
    net: TwoLayerReLU,
    data: Dataset,
    engine: Validated,
    limits: Limits,
    note: Callable[[], Callable[[BallState], None]] | None = None,
) -> Enclosure:
    """Run at doubled precisions until everything is proved, or the cap is reached.

    `note` makes, for every attempt, what is told its states.
    """
    bits, last = engine.bits, None
    began = clock.monotonic()
    while True:
        with ctx.workprec(bits):
            attempt = _attempt(net, data, engine, limits, bits)
            attempt.note = None if note is None else note()
            attempt.deadline = began + limits.max_seconds
            attempt.run()
            failure = attempt.failure
            again = (
                failure is not None
                and not failure.final
                and 2 * bits <= engine.most_bits
                and not _same(attempt, last)
            )
            if not again:
                return _result(attempt, limits)
        bits, last = 2 * bits, attempt


def _attempt(
    net: TwoLayerReLU, data: Dataset, engine: Validated, limits: Limits, bits: int
) -> Attempt:
    system = System(data, net.negative_slope, limits.loss, frozen=limits.residual == "frozen")
    order = max(bits // 3, 8) if engine.order is None else engine.order
    return Attempt(
        system, net, limits.t1, order, bits, engine.rigorous, engine.accept, limits.max_steps
    )


def _same(attempt: Attempt, last: Attempt | None) -> bool:
    """Whether the last precision failed at the same place: more would, too."""
    if last is None:
        return False
    new, old = attempt.failure, last.failure
    assert new is not None
    assert old is not None
    t, s = float(new.tau.mid()), float(old.tau.mid())
    same = (new.neuron, new.plane, new.reason) == (old.neuron, old.plane, old.reason)
    return same and abs(t - s) <= SAME_TIME * abs(t)


def _result(attempt: Attempt, limits: Limits) -> Enclosure:
    return Enclosure(
        status=attempt.status,
        message=_message(attempt, limits),
        events=tuple(attempt.events),
        state=enclosed(attempt.state),
        t1=limits.t1,
        precision=attempt.bits,
        order=attempt.order,
        steps=attempt.steps,
        rigorous=attempt.rigorous,
    )


def _message(attempt: Attempt, limits: Limits) -> str:
    t = float(attempt.state.t.mid())
    if attempt.failure is not None:
        failure, system = attempt.failure, attempt.system
        where = f"at t = {float(failure.tau.mid()):.9g}"
        if failure.neuron >= 0:
            where += f", neuron {failure.neuron}"
        if failure.plane >= 0:
            where += f", sample {system.samples(failure.plane)[0]}"
        return f"Nothing is proved beyond t = {t:.9g}: {failure.reason} ({where})."
    return {
        "t1": f"The run has reached t1 = {limits.t1:g}.",
        "accepted": f"The state at t = {t:.9g} has been accepted.",
        "at_rest": f"No neuron moves after t = {t:.9g}.",
        "max_steps": f"The run has used max_steps = {limits.max_steps} steps up to t = {t:.9g}; "
        "raise max_steps.",
        "max_seconds": f"The run has used max_seconds = {limits.max_seconds:g} up to t = {t:.9g}; "
        "raise max_seconds.",
    }[attempt.status]
