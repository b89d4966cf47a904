"""Neurons at one time, whatever they come from, as the pictures of alignment need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowsim.events import ALIVE, DEAD
from flowsim.plot.style import neuron_states

if TYPE_CHECKING:
    from flowsim.alignment.flow import AlignmentFlow
    from flowsim.network import TwoLayerReLU
    from flowsim.solution import Solution

#: At most so many neurons are drawn; more would only blacken the picture.
MAX_NEURONS = 400


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Some neurons at time t: unit vectors w (m, d), ln of their growth, sign of a, dead or not."""

    t: float
    direction: np.ndarray
    growth: np.ndarray
    sign: np.ndarray
    dead: np.ndarray

    @property
    def movable(self) -> np.ndarray:
        """(m,) whether a neuron is alive and has a direction."""
        return ~self.dead & np.isfinite(self.direction).all(axis=1)

    @property
    def largest(self) -> float:
        """The largest |ln of growth| of the neurons that move."""
        return float(np.max(np.abs(self.growth[self.movable]), initial=0.0))


def chosen(m: int) -> np.ndarray:
    """Return which of m neurons are drawn, evenly spread."""
    return np.unique(np.linspace(0, m - 1, min(m, MAX_NEURONS)).astype(int))


def of_flow(flow: AlignmentFlow, which: np.ndarray) -> Snapshot:
    """Return some neurons of an alignment flow, at its time."""
    return _snapshot(
        flow.t, flow.network, flow.initial, which, flow.fate[which] == DEAD
    )  # fmt: skip


def of_solution(solution: Solution, t: float, which: np.ndarray) -> Snapshot:
    """Return some neurons of a run at time t."""
    states = neuron_states(solution)
    row = max(int(np.searchsorted(states.t, t, side="right")) - 1, 0)
    dead = states.fate[row, which] != ALIVE
    return _snapshot(t, solution.network(t), solution.initial, which, dead)


def _snapshot(
    t: float, net: TwoLayerReLU, initial: TwoLayerReLU, which: np.ndarray, dead: np.ndarray
) -> Snapshot:
    w = net.direction[which, 1:]
    with np.errstate(invalid="ignore"):
        direction = w / np.linalg.norm(w, axis=1)[:, None]
        growth = net.log_norm[which] - initial.log_norm[which]
    sign = np.sign(net.direction[which, 0]).astype(int)
    return Snapshot(float(t), direction, np.nan_to_num(growth), sign, dead)
