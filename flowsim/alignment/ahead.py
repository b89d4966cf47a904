"""Where the flow with r = y takes one initialisation, walked when asked and no part of it twice."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from flowsim.alignment import _chunks
from flowsim.alignment.flow import (
    AlignmentFlow,
    directions_at,
    in_the_end,
    latest_time,
    prepared,
    scaled_time,
)
from flowsim.data import Dataset
from flowsim.network import TwoLayerReLU


class Ahead:
    """The closed form of one initialisation.

    Parameters
    ----------
    initial, data, loss
        As `net`, `data` and `loss` of `flow`.

    Raises
    ------
    ValueError, TypeError
        As `flow`.
    """

    def __init__(self, initial: TwoLayerReLU, data: Dataset, loss: str) -> None:
        self.initial, self.data, self.loss = initial, data, loss
        self._cells = prepared(initial, data, loss)
        self._walked: _chunks.Walked | None = None

    @property
    def latest_time(self) -> float:
        """The latest time that `direction` takes."""
        return latest_time(self._cells)

    def direction(self, t: float) -> np.ndarray:
        """Return the unit vectors ``w_j / |w_j|`` (m, d) at time t, from which `end` goes on."""
        scaled = scaled_time(self._cells, t)
        walked = _chunks.walk_all(self.initial, self._cells, scaled, record=False)
        if "end" not in vars(self):
            self._walked = walked.copy()
        return directions_at(self._cells, walked, scaled)

    @cached_property
    def end(self) -> AlignmentFlow:
        """All neurons in their last cells, as `until` has them."""
        if self._walked is None:
            walked = _chunks.walk_all(self.initial, self._cells, np.inf, record=False)
        else:
            walked, self._walked = _chunks.walk_further(self._walked, self._cells, np.inf), None
        return in_the_end(self.initial, self.data, self.loss, self._cells, walked, None, False)
