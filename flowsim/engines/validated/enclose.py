"""enclose(): the flow with everything about it proved, by interval arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from flowsim._arguments import one_of, real, system as check_system, whole
from flowsim.data import Dataset
from flowsim.engines.validated.attempt import Attempt, enclosed
from flowsim.engines.validated.result import EnclosedState, Enclosure
from flowsim.engines.validated.state import BallState
from flowsim.engines.validated.system import System
from flowsim.network import TwoLayerReLU

#: Sizes up to which a rigorous run is a matter of minutes.
LARGEST = {"m": 20, "n": 10, "d": 3}
#: Neurons that are smaller need more precision than the defaults.
SMALLEST = 1e-14
#: Bits that a run begins with, and that it may go up to.
PRECISION, MAX_PRECISION = 192, 1536
#: Two failures are the same one if their times agree to this part.
SAME_TIME = 1e-9


def enclose(
    net: TwoLayerReLU,
    data: Dataset,
    *,
    t1: float = inf,
    accept: Callable[[EnclosedState], bool] | None = None,
    precision: int = PRECISION,
    max_precision: int = MAX_PRECISION,
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
    max_precision : int
        Bits that are not exceeded.
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
    check_system(net, data)
    for name, value in (("m", net.m), ("n", data.n), ("d", data.d)):
        if value > LARGEST[name]:
            raise ValueError(
                f"Argument `{'net' if name == 'm' else 'data'}` must have {name} <= {LARGEST[name]} "
                f"for a rigorous run, but has {name} = {value}."
            )
    options = Options.checked(
        t1, precision, max_precision, order, residual, loss, max_steps, ends=accept is not None
    )
    return follow(net, data, options, accept)


@dataclass(frozen=True)
class Options:
    """Checked options of a run with balls."""

    t1: float
    precision: int
    max_precision: int
    order: int | None
    residual: str
    loss: str
    max_steps: int
    rigorous: bool = True

    @classmethod
    def checked(
        cls, t1: float, precision: int, max_precision: int, order: int | None, residual: str,
        loss: str, max_steps: int, *, ends: bool, rigorous: bool = True,
    ) -> Options:  # fmt: skip
        """Check the options; `ends` says that a callback may end the run."""
        t1 = real("t1", t1)
        if not t1 > 0.0:
            raise ValueError(f"Argument `t1` must be positive, but is {t1:g}.")
        if t1 == inf and not ends:
            raise ValueError(
                "Argument `t1` must be finite unless `accept` ends the run, but is infinite."
            )
        whole("precision", precision, 64)
        whole("max_precision", max_precision, precision)
        if order is not None:
            whole("order", order, 4)
        one_of("residual", residual, ("full", "frozen"))
        one_of("loss", loss, ("half_mean", "mean"))
        whole("max_steps", max_steps, 1)
        return cls(t1, precision, max_precision, order, residual, loss, max_steps, rigorous)

    def order_at(self, bits: int) -> int:
        """Return the order: a step of length ``rho 2**(-bits/order)`` costs ``order**2``."""
        return max(bits // 3, 8) if self.order is None else self.order


def follow(
    net: TwoLayerReLU,
    data: Dataset,
    options: Options,
    accept: Callable[[EnclosedState], bool] | None = None,
    note: Callable[[int], Callable[[BallState], None]] | None = None,
) -> Enclosure:
    """Run at doubled precisions until everything is proved, or the cap is reached.

    `note` makes, for every attempt, what is told its states.
    """
    from flint import ctx

    bits, last = options.precision, None
    while True:
        with ctx.workprec(bits):
            attempt = _attempt(net, data, options, bits, accept, note)
            attempt.run()
            failure = attempt.failure
            again = (
                failure is not None
                and not failure.final
                and 2 * bits <= options.max_precision
                and not _same(attempt, last)
            )
            if not again:
                return _result(attempt, options)
        bits, last = 2 * bits, attempt


def _attempt(net, data, options: Options, bits: int, accept, note) -> Attempt:
    system = System(
        data, net.negative_slope, options.loss, frozen=options.residual == "frozen"
    )
    return Attempt(
        system, net, options.t1, options.order_at(bits), bits, options.rigorous, accept,
        options.max_steps, None if note is None else note(bits),
    )  # fmt: skip


def _same(attempt: Attempt, last: Attempt | None) -> bool:
    """Whether the last precision failed at the same place: more would, too."""
    if last is None:
        return False
    new, old = attempt.failure, last.failure
    assert new is not None and old is not None
    t, s = float(new.tau.mid()), float(old.tau.mid())
    same = (new.neuron, new.plane, new.reason) == (old.neuron, old.plane, old.reason)
    return same and abs(t - s) <= SAME_TIME * abs(t)


def _result(attempt: Attempt, options: Options) -> Enclosure:
    return Enclosure(
        status=attempt.status,
        message=_message(attempt, options),
        events=tuple(attempt.events),
        state=enclosed(attempt.state),
        t1=options.t1,
        precision=attempt.bits,
        order=attempt.order,
        steps=attempt.steps,
        rigorous=options.rigorous,
    )


def _message(attempt: Attempt, options: Options) -> str:
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
        "t1": f"The run has reached t1 = {options.t1:g}.",
        "accepted": f"The state at t = {t:.9g} has been accepted.",
        "at_rest": f"No neuron moves after t = {t:.9g}.",
        "max_steps": f"The run has used max_steps = {options.max_steps} steps up to t = {t:.9g}; "
        "raise max_steps.",
    }[attempt.status]
