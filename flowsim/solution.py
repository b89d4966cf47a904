"""The result of a run: what happened, where it ended, and the state at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.alignment.end import Alignment as Alignment
from flowsim.events import Events
from flowsim.network import TwoLayerReLU

if TYPE_CHECKING:
    import os

    import xarray

    from flowsim.engines.validated.result import Enclosure

#: Why a run can stop, and whether it did so before its end; "running" is that of a checkpoint.
STATUSES = {
    "running": True,
    "certified": False,
    "stationary": False,
    "t1": False,
    "event": False,
    "accepted": False,
    "undecided": True,
    "steps": False,
    "max_steps": True,
    "max_seconds": True,
    "zeno": True,
    "non_finite": True,
    "step_underflow": True,
}


class RunError(RuntimeError):
    """Raised by ``simulate(..., throw=True)``; `solution` holds what was reached."""

    def __init__(self, solution: Solution) -> None:
        super().__init__(f"{solution.status}: {solution.message}")
        self.solution = solution


@dataclass(frozen=True, eq=False)
class History:
    """Scalars at every accepted step, both ends of the run included.

    Attributes
    ----------
    t, loss : (S,)
        Time and training loss in the run's own normalisation.
    speed : (S,)
        ``||theta'||^2 = -dL/dt``.
    rate : (S,)
        Largest ``||D_j||`` (minimal norm) of a living neuron: the fastest
        relative growth or turning, independent of the neurons' sizes.
    alive : (S,) int64
        Number of living neurons.
    """

    t: np.ndarray
    loss: np.ndarray
    speed: np.ndarray
    rate: np.ndarray
    alive: np.ndarray


@dataclass(frozen=True, eq=False)
class States:
    """Full states that dense output restarts from, both ends of the run included.

    Which others are stored, `simulate(..., states=)` says.

    Neuron ``j`` of state ``i`` is ``2**exponent[i, j] * neurons[i, j]``, with
    ``neurons[i, j] = (a_j, w_j)``: exact in binary and free of underflow.

    Attributes
    ----------
    step : (K,) int64
        Index into the history.
    t : (K,) and t_tail : (K,)
        The time is the unevaluated sum of both (scaled by a power of two: exact).
    neurons : (K, m, d+1)
    exponent : (K, m) int64
    sign : (K, m) int8
        Sign of ``a_j``.
    code : (K, m, G) int8
        Side of every neuron at every hyperplane of the data: -1, 0 (slide), 1.
    fate : (K, m) int8
        Index into `flowsim.events.FATES`.
    gap, gap_exponent : (m,)
        The conserved ``a_j^2 - ||w_j||^2 = gap * 4**gap_exponent``.
    """

    step: np.ndarray
    t: np.ndarray
    t_tail: np.ndarray
    neurons: np.ndarray
    exponent: np.ndarray
    sign: np.ndarray
    code: np.ndarray
    fate: np.ndarray
    gap: np.ndarray
    gap_exponent: np.ndarray


@dataclass(frozen=True, eq=False)
class Restart:
    """What a run goes on with from its last state, beside that (piecewise engine).

    Attributes
    ----------
    neuron, hyperplane : (F,) int32
        Neurons that lie on hyperplanes where their side has been chosen already.
    slot : (l,) int32, free : (E,) int32
        Order in which neurons are summed, and in which cells that are new come into it.
    leader : (m,) int32
        Of which of the l neurons that go on each one is a part; empty where all go on.
    share : (m,), share_exponent : (m,) int64
        Neuron j is ``share[j] * 2**share_exponent[j]`` times its leader.
    leaders : (l, d+1), leader_exponent : (l,) int64
        The neurons that go on (scaled by a power of two), as in `States`.
    leader_gap, leader_gap_exponent : (l,)
        Their conserved ``a^2 - ||w||^2``.
    memory : dict
        Numbers that the choice of the next steps, and of states to store, depends on.
    """

    neuron: np.ndarray
    hyperplane: np.ndarray
    slot: np.ndarray
    free: np.ndarray
    leader: np.ndarray
    share: np.ndarray
    share_exponent: np.ndarray
    leaders: np.ndarray
    leader_exponent: np.ndarray
    leader_gap: np.ndarray
    leader_gap_exponent: np.ndarray
    memory: dict[str, float]


@dataclass(frozen=True, eq=False)
class ModelStates:
    """States of a model's run, between which dense output interpolates.

    Attributes
    ----------
    step : (K,) int64
        Index into the history.
    t : (K,)
    parameters, velocity, acceleration : (K, P)
        All parameters in the order of the model's leaves, and their derivatives in time.
    """

    step: np.ndarray
    t: np.ndarray
    parameters: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray


@dataclass(frozen=True, eq=False)
class DescentStates:
    """States of a discrete descent, from which it goes on.

    Attributes
    ----------
    step : (K,) int64
        Index into the history.
    iteration : (K,) int64
        Number of steps taken.
    t, t_tail : (K,)
        The time is the unevaluated sum of both.
    parameters : (K, P)
        All parameters in the order of the model's leaves; of a TwoLayerReLU a and W, or directions
        of w and log-norms.
    memory : (K, Q)
        What the optimizer remembers.
    history_iteration : (S,) int64
        Number of steps taken at every row of the history.
    engine : Descent, optional
        Not in files.
    """

    step: np.ndarray
    iteration: np.ndarray
    t: np.ndarray
    t_tail: np.ndarray
    parameters: np.ndarray
    memory: np.ndarray
    history_iteration: np.ndarray
    engine: Any = None


@dataclass(frozen=True, eq=False)
class Final:
    """The end of the run and its verdict.

    Attributes
    ----------
    t, loss : float
    network : TwoLayerReLU, or the model (for a loss function, its parameters)
    gradient_norm : float
        Norm of the minimal-norm element of the Clarke subdifferential that the
        flow follows, ``||theta'||``.
    kind : str
        ``interpolation``, ``spurious_local_minimum``, ``local_minimum``,
        ``global_minimum`` (of positive loss), ``saddle``, ``not_stationary``
        or ``unknown``.
    limit_loss : float
        Least-squares value of the occupied cells: where the loss tends while
        they hold. nan when the flow has not come to rest.
    limit_loss_exact : str
        The same as a fraction ("256/2925"), computed in rational arithmetic, for
        rational data of moderate size at rest; else empty.
    floor_loss : float
        Infimum of the loss over networks of any width on these data.
    reason : str
        Why the verdict is what it is.
    fate : (m,) int8, code : (m, G) int8
        Fates and cells at the end; empty for models that have none.
    lowest_curvature, highest_curvature : float
        Extreme eigenvalues of the loss's Hessian, for models other than TwoLayerReLU at rest;
        else nan.
    certificate : Certificate or None
        The proof of the verdict, or what keeps it from being proved; None where there can be
        none: other models, discrete descents, a frozen residual.
    """

    t: float
    network: Any
    loss: float
    gradient_norm: float
    kind: str
    limit_loss: float
    floor_loss: float
    reason: str
    fate: np.ndarray
    code: np.ndarray
    limit_loss_exact: str = ""
    lowest_curvature: float = float("nan")
    highest_curvature: float = float("nan")
    certificate: Any = None


@dataclass(frozen=True, eq=False)
class Solution:
    """A gradient-flow trajectory with its events, audit and verdict.

    `network`, `loss` and `residual` are dense. After a run of the piecewise engine they
    restart it from the nearest earlier stored state and so have the accuracy of the run
    itself; after others they are the steps' quintic interpolants. `initial` is what
    `simulate` has been given: a TwoLayerReLU, a model, or a loss function with parameters.
    """

    data: Any  # a Dataset; None after a run of a loss function
    initial: Any
    settings: dict[str, Any]
    status: str
    message: str
    events: Events
    history: History
    states: States | ModelStates | DescentStates
    alignment: Alignment
    final: Final
    audit: dict[str, float]
    provenance: dict[str, str] = field(default_factory=dict)
    restart: Restart | None = None
    enclosure: Enclosure | None = None
    """What a run of the engine Validated has proved; not in files, see `Enclosure.to_json`."""

    @property
    def failed(self) -> bool:
        """Whether the run stopped for a reason other than its end or `t1`."""
        return STATUSES[self.status]

    @property
    def t_end(self) -> float:
        """The last time of the run."""
        return float(self.history.t[-1])

    @property
    def steps(self) -> int:
        """Number of accepted integration steps, or of a descent's."""
        if isinstance(self.states, DescentStates):
            return int(self.states.history_iteration[-1])
        return len(self.history.t) - 1

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: without what dense output has set up, and can again."""
        return {name: value for name, value in vars(self).items() if name != "_trajectory"}

    @cached_property
    def _trajectory(self) -> Any:
        states, settings = self.states, self.settings
        if isinstance(states, ModelStates):
            from flowsim.model_trajectory import ModelTrajectory
            from flowsim.schema_models import SavedModel

            if isinstance(self.initial, SavedModel):
                raise TypeError(
                    "The model must be given to read dense output of its run, by "
                    "flowsim.load(path, model=...), but it was not."
                )
            return ModelTrajectory(self.initial, self.data, settings, states)
        if isinstance(states, DescentStates):
            from flowsim.engines.descent.trajectory import DescentTrajectory

            return DescentTrajectory(self.data, self.initial, settings, states)
        if settings["engine"] in ("piecewise", "validated"):
            from flowsim.engines.piecewise import Trajectory

            return Trajectory(self.data, self.initial, settings, states)
        from flowsim.engines.cell_trajectory import CellTrajectory

        return CellTrajectory(self.data, self.initial, settings, states)

    def network(self, t: float) -> Any:
        """Return the network, or the model, at time `t` in ``[0, t_end]``."""
        return self._trajectory.network(self._time(t))

    def pattern(self, t: float) -> np.ndarray:
        """Return the activation codes (m, n) at time `t`: -1 off, 0 sliding, 1 on.

        Unlike signs of ``w_j . x_k``, which on a slide are those of rounding.

        Raises
        ------
        TypeError
            After a run of a model that has no such patterns.
        """
        if isinstance(self.states, ModelStates):
            raise TypeError("Patterns must be those of a TwoLayerReLU, but this run has none.")
        return self._trajectory.pattern(self._time(t))

    def _time(self, t: Any) -> float:
        if np.ndim(t) != 0:
            raise TypeError("Argument `t` must be one number, but is an array.")
        t = float(t)
        if not 0.0 <= t <= self.t_end:
            raise ValueError(
                f"Argument `t` must lie between 0 and the end of the run ({self.t_end:.6g}), "
                f"but is {t:.6g}."
            )
        return t

    def residual(self, t: Any) -> np.ndarray:
        """Return ``r_k(t) = y_k - h(x_k)``: shape (n,), or (len(t), n) for several times.

        In a run with ``residual="frozen"`` that is y. With p outputs there is a last axis p.

        Raises
        ------
        TypeError
            After a run of a loss function, which has no data.
        """
        if self.data is None:
            raise TypeError("The residual must be that of data, but this run has none.")
        times = np.asarray(t, dtype=np.float64)
        shape = self.data.y.shape
        if self.settings["residual"] == "frozen":
            return np.broadcast_to(self.data.y, (*times.shape, *shape)).copy()
        out = np.empty((times.size, *shape))
        for i in np.argsort(times.ravel(), kind="stable"):
            out[i] = self._residual(float(times.ravel()[i]))
        return out.reshape((*times.shape, *shape))

    def _residual(self, t: float) -> np.ndarray:
        if not isinstance(self.initial, TwoLayerReLU):
            return self.data.y - self._trajectory.outputs(self._time(t)).reshape(self.data.y.shape)
        return self.network(t).residual(self.data)

    def loss(self, t: Any) -> Any:
        """Return the training loss at `t` (scalar or array) in the run's normalisation."""
        times = np.asarray(t, dtype=np.float64)
        if self.data is None:
            value = np.array([self._trajectory.loss(self._time(s)) for s in times.ravel()])
            value = value.reshape(times.shape)
        else:
            factor = 1.0 if self.settings["loss"] == "mean" else 0.5
            square = np.square(self.residual(t))
            value = factor * np.sum(square, axis=tuple(range(times.ndim, square.ndim)))
            value = value / self.data.n
        return float(value) if times.ndim == 0 else value

    def to_xarray(self) -> xarray.DataTree:
        """Return everything as an `xarray.DataTree`, one group a table."""
        from flowsim.files import to_xarray

        return to_xarray(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one netCDF4 file; `flowsim.load` reads it back whole."""
        from flowsim.files import save

        save(self, path)

    def summary(self) -> str:
        """Return a report of the run: why it stopped, what happened when, its audit."""
        from flowsim.report import summary

        return summary(self)

    def __repr__(self) -> str:
        from flowsim.report import short_repr

        return short_repr(self)
