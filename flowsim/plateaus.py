"""Plateaus of a run: local minima in time of a speed, deep enough to be saddles passed."""

from __future__ import annotations

from collections.abc import Iterable

#: A plateau is a local minimum that this factor surrounds on both sides.
PLATEAU_DEPTH = 100.0


class PlateauScan:
    """Find plateaus in a series that arrives value by value.

    Attributes
    ----------
    bottom : int or None
        Index of the lowest value since the last fall by `PLATEAU_DEPTH`: a plateau if the
        series rises by as much again.
    seen : int
        Number of values so far.
    """

    def __init__(self) -> None:
        self.bottom: int | None = None
        self.seen = 0
        self._extreme = 0.0  # the top while rising, the bottom while falling

    def offer(self, value: float, noise: float = 0.0) -> int | None:
        """Take the next value; return the index of a plateau that it completes, if any.

        A rise counts from `noise` on: below, values say nothing.
        """
        i = self.seen
        self.seen += 1
        if self.bottom is None:
            if i == 0 or value >= self._extreme:
                self._extreme = value
            elif value * PLATEAU_DEPTH <= self._extreme:
                self.bottom, self._extreme = i, value
        elif value <= self._extreme:
            self.bottom, self._extreme = i, value
        elif value >= PLATEAU_DEPTH * max(self._extreme, noise) > 0.0:
            found, self.bottom, self._extreme = self.bottom, None, value
            return found
        return None


def plateau_indices(series: Iterable[float]) -> list[int]:
    """Return the indices of minima that a factor `PLATEAU_DEPTH` surrounds on both sides.

    Parameters
    ----------
    series : (S,) of float
        Nonnegative, in the order of time; a minimum of exactly 0 is none.
    """
    scan = PlateauScan()
    found = (scan.offer(float(value)) for value in series)
    return [i for i in found if i is not None]
