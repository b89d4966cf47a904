"""The flow of early alignment, r = y, in closed form: every event, no integrator."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flowsim._arguments import flag, one_of, real, system
from flowsim._rows import units
from flowsim.alignment import _chunks, motion, neurons
from flowsim.alignment._limits import fields_of, invariant_drift, limits_of
from flowsim.alignment._log import events_of, path_of
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.events import DEAD, Events
from flowsim.network import LOSSES, TwoLayerReLU
from flowsim.state import network_of

if TYPE_CHECKING:
    from flowsim.alignment.extremal import ExtremalVectors

#: Paths are kept by default up to so many activation codes, m times the hyperplanes.
RECORDED = 10**7
#: Neurons grow by at most e to this power, which their exponents hold.
LARGEST_EXPONENT = 1e18
#: Closer to their limits neurons need not come.
SMALLEST_ANGLE = 1e-100


class Path(NamedTuple):
    """One neuron's cells: activation `pattern[i]` (n,) holds from time `t[i]` on."""

    t: np.ndarray  # (k+1,)
    pattern: np.ndarray  # (k+1, n)


@dataclass(frozen=True, eq=False)
class AlignmentFlow:
    """All neurons at time `t` of the flow with the residual frozen at y.

    Attributes
    ----------
    t : float
    network : TwoLayerReLU
        The neurons at time t, of whatever size.
    fate : (m,) int64
        Index into `flowsim.events.FATES`.
    settled : (m,) bool
        Whether no event can follow: the neuron stays in its cell for ever.
    last_event, changes : (m,)
        Time of each neuron's last event up to t (0 if none), and how often it has crossed,
        entered or left a hyperplane.
    limit : (m,) int64
        The row of `limit_direction` to which the neuron's w tends; -1 if it is not settled,
        dead, or at rest where D = 0.
    limit_direction, limit_D, limit_norm : (V, d), (V, d) and (V,)
        Directions w in which settled neurons end, D there, and |D|; `limits` describes them.
    limit_code : (V, G) int8
        The cell of one of the neurons that end there.
    grows : (m,) bool
        Whether the neuron tends to grow as ``e^{|D| t}`` there, rather than to shrink or rest.
    angle : (m,)
        Angle in radians between w_j and its limit; nan without one.
    status, message : str
        "settled", "t", or "stuck" if events piled up without progress in time.
    audit : dict
        `cell_violation`: the largest distance (relative to its neuron) by which w_j is not
        where its activation codes say; `invariant_drift`: of a_j^2 - |w_j|^2.
    """

    data: Dataset
    initial: TwoLayerReLU
    loss: str
    t: float
    network: TwoLayerReLU
    fate: np.ndarray
    settled: np.ndarray
    last_event: np.ndarray
    changes: np.ndarray
    limit: np.ndarray
    limit_direction: np.ndarray
    limit_D: np.ndarray
    limit_norm: np.ndarray
    limit_code: np.ndarray
    grows: np.ndarray
    angle: np.ndarray
    status: str
    message: str
    audit: dict[str, float]
    recorded: bool
    _cells: Cells = field(repr=False)
    _walked: _chunks.Walked = field(repr=False)

    @property
    def log_growth(self) -> np.ndarray:
        """(m,) natural logarithm of how much ``|(a_j, w_j)|`` has grown; nan if it is 0."""
        with np.errstate(invalid="ignore"):
            return self.network.log_norm - self.initial.log_norm

    @property
    def direction(self) -> np.ndarray:
        """(m, d) unit vectors ``w_j / |w_j|``; nan where w_j = 0."""
        return units(self._walked.z[:, 1:])

    @property
    def dead_fraction(self) -> float:
        """Share of neurons that are dead at time t."""
        return float(np.mean(self.fate == DEAD))

    @property
    def pattern(self) -> np.ndarray:
        """(m, n) activation codes at time t: -1 off, 0 slide, 1 on."""
        return self._cells.sample_codes(self._walked.codes)[self._walked.cell]

    @cached_property
    def limits(self) -> ExtremalVectors:
        """The extremal vectors in which settled neurons end: ``limits[limit[j]]``."""
        from flowsim.alignment.extremal import vectors_at

        return vectors_at(self._cells, self.limit_direction, self.limit_code)

    @cached_property
    def events(self) -> Events:
        """The table of all events up to t, as `simulate` gives it.

        Raises
        ------
        ValueError
            If paths were not recorded.
        """
        self._check_recorded()
        return events_of(self._walked.rows, self._walked.times, self._cells)

    def path(self, j: int) -> Path:
        """Return the cells that neuron `j` has been in, and since when.

        Raises
        ------
        ValueError
            If paths were not recorded.
        IndexError
            If there is no such neuron.
        """
        self._check_recorded()
        last = self._walked.codes[self._walked.cell[j]]
        own = self._walked.rows[:, 0] == range(self.network.m)[j]
        t, codes = path_of(self._walked.rows[own], self._walked.times[own], last)
        return Path(np.ldexp(t, -self._cells.time_exponent), self._cells.sample_codes(codes))

    def summary(self) -> str:
        """Return a report to print: which neurons go where, how fast, and until when."""
        from flowsim.alignment import _report

        return _report.summary(self)

    def _check_recorded(self) -> None:
        if not self.recorded:
            raise ValueError(
                "Argument `record` must be true for paths and events to be kept, but is false "
                f"(the default beyond {RECORDED:.0e} neurons times hyperplanes)."
            )

    def __repr__(self) -> str:
        return (
            f"AlignmentFlow({self.data.name}, m={self.network.m}: {self.status} at "
            f"t={self.t:.6g}, {np.mean(self.settled):.0%} settled, "
            f"{self.dead_fraction:.0%} dead, {int(self.changes.sum())} activation changes)"
        )


def flow(
    net: TwoLayerReLU,
    data: Dataset,
    t: float,
    *,
    loss: str = "half_mean",
    record: bool | None = None,
) -> AlignmentFlow:
    """Return the network at time `t` of the flow with the residual frozen, r = y.

    While the network is small, r = y, neurons do not see each other, and each obeys

        a' = w . D,   w' = a D,   D = (1/n) sum_k c_k y_k x_k,

    with D constant in a cell and on a slide, so that its path is a chain of hyperbolic
    arcs: each crossing time is the root of a quadratic in e^{|D| t}. Filippov's rules
    (docs/engine.md) choose what follows; sizes do not matter, and the cost of a crossing is
    O(number of hyperplanes), times d on slides. Uses all cores; the result does not depend on
    how many.

    Parameters
    ----------
    net : TwoLayerReLU
        The initialisation: ReLU or leaky ReLU, balanced or not, of any scale.
    data : Dataset
    t : float
        Time, at least 0 and finite.
    loss : {"half_mean", "mean"}
        As in `flowsim.simulate`; the flow of "mean" runs twice as fast.
    record : bool, optional
        Keep all events (about 28 bytes each); by default if ``m`` times the number of
        hyperplanes is at most 10^7.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense.

    References
    ----------
    Maennel, Bousquet & Gelly, arXiv 1803.08367; Boursier & Flammarion, arXiv 2401.10791,
    section 3. Derived in derivations/linear_flow.py and crossing_times.py.
    """
    cells = prepared(net, data, loss)
    t = real("t", t)
    scaled, record = scaled_time(cells, t), _records(net, cells, record)
    walked = _chunks.walk_all(net, cells, scaled, record=record)
    return at_time(net, data, loss, cells, walked, t, record)


def scaled_time(cells: Cells, t: float) -> float:
    """Return a time in the units of `cells`.

    Raises
    ------
    ValueError
        If it is no time, or neurons leave their range by then.
    """
    if not 0.0 <= t < np.inf:
        raise ValueError(f"Argument `t` must be finite and at least 0, but is {t}.")
    with np.errstate(over="ignore"):
        scaled = float(np.ldexp(t, cells.time_exponent))
    if t > latest_time(cells):
        raise ValueError(
            f"Argument `t` must be at most {latest_time(cells):.3g}, where sizes leave the range "
            f"of their exponents, but is {t:g}."
        )
    return scaled


def at_time(
    net: TwoLayerReLU, data: Dataset, loss: str, cells: Cells, walked: _chunks.Walked, t: float,
    record: bool,
) -> AlignmentFlow:  # fmt: skip
    """Return the flow at time `t` of neurons that have walked to their last events before it."""
    return _result(net, data, loss, cells, walked, scaled_time(cells, t), t, record)


def directions_at(cells: Cells, walked: _chunks.Walked, scaled: float) -> np.ndarray:
    """Return the unit vectors ``w_j / |w_j|`` (m, d), nan where w_j = 0, at a (scaled) time.

    The neurons have walked to their last events before it; `walked` is used up.
    """
    _advance(cells, walked, scaled)
    return units(walked.z[:, 1:])


def latest_time(cells: Cells) -> float:
    """Return the time after which sizes may leave the range of their exponents."""
    fastest = max(cells.weight * float(np.sum(np.abs(cells.y) * cells.norms)), 1.0)
    return float(np.ldexp(LARGEST_EXPONENT / fastest, -cells.time_exponent))


def until(
    net: TwoLayerReLU,
    data: Dataset,
    *,
    angle: float | None = None,
    loss: str = "half_mean",
    record: bool | None = None,
) -> AlignmentFlow:
    """Run the flow with r = y until every neuron is in its last cell, and close to its limit.

    Parameters
    ----------
    net, data, loss, record
        As in `flow`.
    angle : float, optional
        Go on until every living neuron's w is within this many radians of its limit, in
        (0, pi/2). By default the result is at the time of the last event.

    Returns
    -------
    AlignmentFlow
        With `limit` for every neuron that does not die or rest.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense.
    """
    cells = prepared(net, data, loss)
    if angle is not None:
        angle = real("angle", angle)
        if not SMALLEST_ANGLE <= angle < np.pi / 2:
            raise ValueError(
                f"Argument `angle` must lie between {SMALLEST_ANGLE:g} and pi/2 radians, but is "
                f"{angle}."
            )
    record = _records(net, cells, record)
    walked = _chunks.walk_all(net, cells, np.inf, record=record)
    return in_the_end(net, data, loss, cells, walked, angle, record)


def in_the_end(
    net: TwoLayerReLU, data: Dataset, loss: str, cells: Cells, walked: _chunks.Walked,
    angle: float | None, record: bool,
) -> AlignmentFlow:  # fmt: skip
    """Return the flow at the time of the last event of all, or when all are close to their limits.

    The neurons have walked to their last events.
    """
    times = walked.real[:, neurons.TIME].copy()
    if angle is not None:
        fields, rank = fields_of(cells, walked.codes)
        motion.times_to_angle(
            angle, walked.z, walked.real, walked.whole, fields, rank, walked.cell,
            cells.tie(cells.y), times,
        )  # fmt: skip
    scaled = float(times.max())
    t = float(np.ldexp(scaled, -cells.time_exponent))
    return _result(net, data, loss, cells, walked, scaled, t, record)


def prepared(net: Any, data: Any, loss: str) -> Cells:
    """Return the cells of the flow with r = y, once the arguments are checked."""
    system(net, data)
    if not np.all(net.log_norm < np.inf):
        raise ValueError("Argument `net` must have finite weights, but some are not.")
    one_of("loss", loss, LOSSES)
    return Cells.of(data, net.negative_slope, str(loss), np.zeros(data.n))


def _records(net: TwoLayerReLU, cells: Cells, record: bool | None) -> bool:
    return net.m * cells.n_hyperplanes <= RECORDED if record is None else flag("record", record)


def _advance(
    cells: Cells, walked: _chunks.Walked, scaled: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move all neurons to a common time.

    Returns the fields (C, d) of their cells, where they tend (m,), and the angles (m,) to there.
    """
    fields, rank = fields_of(cells, walked.codes)
    m = len(walked.z)
    tends, angle = np.zeros(m, dtype=np.int64), np.empty(m)
    motion.advance(
        scaled, walked.z, walked.real, walked.whole, fields, rank, walked.cell,
        cells.tie(cells.y), tends, angle,
    )  # fmt: skip
    return fields, tends, angle


def _result(
    net: TwoLayerReLU, data: Dataset, loss: str, cells: Cells, walked: _chunks.Walked,
    scaled: float, t: float, record: bool,
) -> AlignmentFlow:  # fmt: skip
    """Move all neurons to the common time and say where they go."""
    violation = walked.violation
    fields, tends, angle = _advance(cells, walked, scaled)
    whole = walked.whole
    settled = whole[:, neurons.STATUS] == neurons.SETTLED
    tends[~settled] = motion.NOWHERE
    limit, direction, D, code = limits_of(walked, tends, fields)
    angle[limit < 0] = np.nan
    drift = invariant_drift(walked)
    walked.z[:, 0] *= whole[:, neurons.SIGN]
    network = network_of(
        walked.z, whole[:, neurons.EXPONENT] - cells.size_exponent, net.negative_slope
    )
    stuck = int(np.sum(whole[:, neurons.STATUS] == neurons.STUCK))
    status = "stuck" if stuck else "settled" if settled.all() else "t"
    return AlignmentFlow(
        data=data, initial=net, loss=loss, t=t, network=network, fate=whole[:, neurons.FATE],
        settled=settled, last_event=np.ldexp(walked.real[:, neurons.TIME], -cells.time_exponent),
        changes=whole[:, neurons.CHANGES], limit=limit, limit_direction=direction,
        limit_D=np.ldexp(D, cells.time_exponent), limit_code=code,
        limit_norm=np.ldexp(np.linalg.norm(D, axis=1), cells.time_exponent),
        grows=tends == motion.GROWS, angle=angle,
        status=status,
        message=_message(status, stuck, t),
        audit={"cell_violation": violation, "invariant_drift": drift},
        recorded=record, _cells=cells, _walked=walked,
    )  # fmt: skip


def _message(status: str, stuck: int, t: float) -> str:
    return {
        "settled": "No event can follow: every neuron is in its last cell.",
        "t": f"The flow has reached t = {t:g}; some neurons have events to come.",
        "stuck": f"Events of {stuck} neuron(s) pile up without progress in time; perturb the "
        "initialisation, or report these data as a defect.",
    }[status]
