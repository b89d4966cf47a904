"""The end of the early alignment phase, under each of the definitions in use.

There is no one definition: the phase has no sharp end for a finite scale λ. With ``R = max |D|``
over the extremal vectors that living neurons grow along, growth from λ to order one takes
``ln(1/λ)/R``, and by λ^(-epsilon) the part epsilon of it (derivations/growth_and_death.py). As
λ -> 0 the time over ``ln(1/λ)/R`` tends to 1 for "residual", to epsilon for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from flowsim._rows import norms, units
from flowsim.cells import Cells
from flowsim.network import TwoLayerReLU

if TYPE_CHECKING:
    from flowsim.alignment.extremal import ExtremalVectors
    from flowsim.alignment.flow import AlignmentFlow

#: The definitions of the end of the phase.
DEFINITIONS = MappingProxyType(
    {
        "residual": "first time t at which ||r(t) - y|| = threshold * ||y||: until then the "
        "residual is y up to that part, and neurons do not feel each other (the assumption of "
        "Maennel, Bousquet & Gelly, arXiv 1803.08367, made quantitative)",
        "growth": "first time t at which some neuron has grown by the factor λ^(-epsilon), the "
        "bound that Boursier & Flammarion, arXiv 2401.10791, theorem 1, keep during the phase",
        "theory": "t = epsilon ln(1/λ) / max ||D||, the time that Boursier & Flammarion, arXiv "
        "2401.10791, theorem 1, state",
    }
)
#: The part of ln(1/λ) that neurons grow by, unless it is given.
EPSILON = MappingProxyType({"residual": 1.0, "growth": 0.25, "theory": 0.25})


@dataclass(frozen=True)
class EndRule:
    """When the phase is over, in scaled time.

    Attributes
    ----------
    definition : str
        A key of `DEFINITIONS`.
    threshold : float
        Of "residual": ``||r - y|| / ||y||``.
    log_growth : float
        Of "growth": ln of the factor.
    time : float
        Of "theory".
    """

    definition: str
    threshold: float
    log_growth: float
    time: float


@dataclass(frozen=True, eq=False, repr=False)
class Alignment:
    """The end of the early alignment phase, and where its neurons were going.

    Attributes
    ----------
    end_time : float
        nan if the run has not reached it.
    definition : str
        A key of `flowsim.alignment.end.DEFINITIONS`, which has the texts and the sources.
    threshold, epsilon : float
        The parameters of the definitions.
    predicted_time : float
        ``epsilon ln(1/λ) / rate``; nan for λ >= 1 or where no neuron grows.
    rate : float
        ``max ||D||`` over the extremal vectors that neurons of this network grow along while
        r = y; nan if there is none.
    alive : (m,) bool
        Whether the neuron was alive at the end time.
    extremal : (m,) int64
        Which of the extremal vectors the neuron tends to while r = y; -1 if it dies or rests.
    angle : (m,)
        Angle in radians at the end time between ``w_j`` and that vector's direction; nan
        without one, or for dead neurons.
    frozen_angle : (m,)
        Angle in radians between ``w_j`` and where the closed form (r = y throughout) has it at
        the end time: what the coupling of the neurons has done; nan for dead neurons.
    D, norm, direction : (V, d), (V,) and (V, d)
        The extremal vectors that living neurons tend to while r = y, their norms and
        directions w; `vectors` describes them.
    code : (V, G) int8
        The cells of neurons on the way there.
    """

    end_time: float
    definition: str
    threshold: float
    epsilon: float
    predicted_time: float
    rate: float
    alive: np.ndarray
    extremal: np.ndarray
    angle: np.ndarray
    frozen_angle: np.ndarray
    D: np.ndarray
    norm: np.ndarray
    direction: np.ndarray
    code: np.ndarray
    _cells: Cells | None

    def __repr__(self) -> str:
        if len(self.alive) == 0:  # of a model that is no two-layer ReLU network
            return f"Alignment({self.definition}: ends at t={self.end_time:.6g})"
        alive = int(np.sum(self.alive))
        return (
            f"Alignment({self.definition}: ends at t={self.end_time:.6g}, "
            f"predicted {self.predicted_time:.6g}; {alive} of {len(self.alive)} neurons alive, "
            f"{len(self.norm)} extremal vectors)"
        )

    @cached_property
    def vectors(self) -> ExtremalVectors:
        """The extremal vectors: ``vectors[extremal[j]]`` is neuron j's."""
        from flowsim.alignment.extremal import vectors_at

        if self._cells is None:
            raise ValueError(
                "Extremal vectors must be those of a two-layer ReLU network, but this is none."
            )
        return vectors_at(self._cells, self.direction, self.code)

    @property
    def dead_fraction(self) -> float:
        """Share of neurons that are not alive at the end time; nan if it was not reached."""
        known = np.isfinite(self.end_time) and len(self.alive)
        return float(np.mean(~self.alive)) if known else float("nan")


def log_scale(net: TwoLayerReLU) -> float:
    """Return ln λ of an initialisation.

    Its own record of λ if it has one; else that of ``w_j ~ N(0, λ²/m I)`` with the same
    ``sum_j |w_j|² = λ² d``. -inf for a zero network.
    """
    known = net.metadata.get("log10_scale")
    if known is not None:
        return float(known) * math.log(10.0)
    share = norms(net.direction[:, 1:])
    with np.errstate(divide="ignore"):
        logs = 2.0 * (net.log_norm + np.log(share))
    top = float(np.max(logs))
    if top == -np.inf:
        return top
    return 0.5 * (top + math.log(float(np.sum(np.exp(logs - top))) / net.d))


def growth_rate(ends: AlignmentFlow) -> float:
    """Return max |D| over the limits along which neurons grow; nan if there is none."""
    tends = ends.limit[ends.limit >= 0]
    grows = ends.grows[ends.limit >= 0]
    rates = ends.limit_norm[tends[grows]]
    return float(rates.max()) if len(rates) else float("nan")


def predicted_time(net: TwoLayerReLU, rate: float, epsilon: float) -> float:
    """Return ``epsilon ln(1/λ) / rate``; nan for λ >= 1, and where the rate is."""
    log_inverse = -log_scale(net)
    return epsilon * log_inverse / rate if log_inverse > 0.0 else float("nan")


def angles(w: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the angles in radians between the rows of two arrays; nan where one is zero.

    ``2 atan2(|u - v|, |u + v|)`` of the unit vectors, which is accurate at every angle.
    """
    u, v = units(w), units(target)
    return 2.0 * np.arctan2(norms(u - v), norms(u + v))
