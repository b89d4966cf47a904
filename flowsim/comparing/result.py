"""What a comparison of the flow with descents has found."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.engines.descent.config import Descent
from flowsim.solution import Solution

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False)
class Descended:
    """A descent beside the flow.

    Attributes
    ----------
    run : Solution
    engine : Descent
    name : str
        The optimizer, or "log_norm", and what else is not usual ("gd float32", "momentum 0.5").
    t : (T,)
        Times of steps at which both are compared; none for Adam, whose time is not the flow's.
    loss, flow_loss : (T,)
    distance : (T,)
        ``|theta - theta_flow| / |theta_flow|``.
    output_distance : (T,)
        ``|h - h_flow| / |y|`` at the data; nan without data.
    pattern_distance : (T,)
        Part of the activation codes that differ, but for slides of the flow; nan for models.
    final_pattern_distance : float
        Of both ends; nan for models.
    flips : (T,)
        Part of the neurons whose a has another sign than in the flow.
    gap_drift : (T,)
        ``max_j |change of a_j^2 - |w_j|^2| / (a_j^2 + |w_j|^2)``: zero in the flow. A step of
        gradient descent changes it by ``eta^2 ((w.D)^2 - a^2 |D|^2)``.
    sharpness_t, sharpness : (S,)
        The largest eigenvalue of the Hessian of the loss.
    departure : float
        When `distance` first passes the threshold; infinite if it does not, nan for those that
        have no time of the flow (Adam, optax).
    event_difference : (M,)
        Times of pattern changes minus those in the flow, of those that both have.
    events_matched : float
        Part of the flow's pattern changes that the descent has too; nan without times of the flow.
    modified_t, modified_distance, modified_loss : (U,)
        The descent's distance from the modified flow, and the loss of that.
    modified_status : str
        Why the modified flow has ended; empty if there is none.
    """

    run: Solution
    engine: Descent
    name: str
    t: np.ndarray
    loss: np.ndarray
    flow_loss: np.ndarray
    distance: np.ndarray
    output_distance: np.ndarray
    pattern_distance: np.ndarray
    final_pattern_distance: float
    flips: np.ndarray
    gap_drift: np.ndarray
    sharpness_t: np.ndarray
    sharpness: np.ndarray
    departure: float
    event_difference: np.ndarray
    events_matched: float
    modified_t: np.ndarray
    modified_distance: np.ndarray
    modified_loss: np.ndarray
    modified_status: str

    @property
    def learning_rate(self) -> float:
        """The constant learning rate; nan if there is a schedule, or optax's own."""
        rate = self.engine.learning_rate
        return float("nan") if rate is None or callable(rate) else float(rate)

    @property
    def label(self) -> str:
        """Its name with the learning rate, if that is one number."""
        rate = self.learning_rate
        return self.name if np.isnan(rate) else f"{self.name} {rate:g}"

    @property
    def follows(self) -> bool:
        """Whether its time is that of the flow."""
        return len(self.t) > 0

    @property
    def stability(self) -> float:
        """The sharpness beyond which the descent is unstable: ``2 / eta`` for gradient descent.

        ``2 (1 + mu) / eta`` with heavy-ball momentum mu, ``2 (1 + mu) / ((1 + 2 mu) eta)`` with
        Nesterov's (Cohen et al. 2021, arXiv:2103.00065). nan for Adam, optax and
        schedules, which have no such limit.
        """
        mu = self.engine.momentum
        factor = {"gd": 1.0, "momentum": 1.0 + mu, "nesterov": (1.0 + mu) / (1.0 + 2.0 * mu)}
        return 2.0 * factor.get(self.engine.name, float("nan")) / self.learning_rate

    @property
    def edge(self) -> float:
        """When the sharpness first exceeds `stability`, of the times at which it is known.

        Infinite if it never does, nan if there is no such limit.
        """
        if np.isnan(self.stability):
            return float("nan")
        beyond = np.flatnonzero(self.sharpness > self.stability)
        return float(self.sharpness_t[beyond[0]]) if len(beyond) else float("inf")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The flow and descents from one start.

    Attributes
    ----------
    flow : Solution
    descents : tuple of Descended
    threshold : float
        Of the departure.
    """

    flow: Solution
    descents: tuple[Descended, ...]
    threshold: float

    def order(self, name: str = "gd") -> float:
        """Return the fitted power of the learning rate in the largest distance from the flow.

        Of the descents of that name (`Descended.name`) that have not left the flow; nan if these
        have fewer than two rates.

        Raises
        ------
        ValueError
            If no descent has that name.
        """
        names = list(dict.fromkeys(x.name for x in self.descents))
        if name not in names:
            raise ValueError(f"Argument `name` must be one of {', '.join(names)}, but is {name!r}.")
        kept = [
            (x.learning_rate, float(np.nanmax(x.distance)))
            for x in self.descents
            if x.name == name and x.follows and np.isinf(x.departure) and np.nanmax(x.distance) > 0
        ]
        if len({rate for rate, _ in kept}) < 2:
            return float("nan")
        rates, distances = np.log(np.array(kept)).T
        return float(np.polyfit(rates, distances, 1)[0])

    def why(self, descent: Descended) -> str:
        """Return a sentence on when and why a descent has left the flow, or that it has not."""
        from flowsim.comparing.report import why

        return why(self, descent)

    def table(self) -> str:
        """Return a table of all descents, with `why` of each."""
        from flowsim.comparing.report import table

        return table(self)

    def to_xarray(self) -> xarray.Dataset:
        """Return all that has been measured, with a dimension for descents and one for times."""
        from flowsim.comparing.files import to_xarray

        return to_xarray(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_xarray` to a netCDF file, which replaces one of this name at once.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        from flowsim.comparing.files import save

        save(self, path)

    def plot(self) -> Any:
        """Return a Matplotlib figure: losses, distances, events and final functions."""
        from flowsim.plot.comparison import comparison

        return comparison(self)

    def __repr__(self) -> str:
        names = ", ".join(x.label for x in self.descents)
        return f"Comparison({self.flow!r} with {names})"
