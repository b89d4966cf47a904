"""Where random initialisations end: the shares of the extremal vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flowsim import init
from flowsim.alignment._limits import SAME_DIRECTION
from flowsim.alignment.flow import until
from flowsim.alignment.vectors import ExtremalVectors
from flowsim.data import Dataset


@dataclass(frozen=True, eq=False)
class Ends:
    """The ends of random balanced neurons, ``w ~ N(0, I)`` with a random sign of a.

    Attributes
    ----------
    samples : int
    direction : (V, d)
        The unit vectors that they tend to.
    count : (V,) int64
        How many neurons tend to each.
    nowhere : int
        How many die, or rest where D = 0. The others are those that tend to no direction.
    """

    samples: int
    direction: np.ndarray
    count: np.ndarray
    nowhere: int


def random_ends(data: Dataset, slope: float, loss: str, samples: int, seed: int) -> Ends:
    """Follow `samples` neurons of `flowsim.init.balanced` with this seed to their ends."""
    net = init.balanced(samples, data.d, 1.0, seed, negative_slope=slope)
    ends = until(net, data, loss=loss, record=False)
    count = np.bincount(ends.limit[ends.limit >= 0], minlength=len(ends.limit_direction))
    nowhere = int(np.sum(ends.settled & (ends.limit < 0)))
    return Ends(samples, ends.limit_direction, count, nowhere)


def with_shares(vectors: ExtremalVectors, ends: Ends) -> ExtremalVectors:
    """Return the vectors with the share of `ends` that tends to each.

    The standard error is that of a binomial, ``sqrt(p (1 - p) / samples)``. Ends that are none of
    the vectors, within rounding, make up `other_share`, so that all shares sum to 1.
    """
    count = np.zeros(len(vectors))
    if len(vectors) and len(ends.direction):
        known = np.array([vector.direction for vector in vectors])
        for direction, number in zip(ends.direction, ends.count, strict=True):
            distance = np.linalg.norm(known - direction, axis=1)
            nearest = int(np.argmin(distance))
            # Directions within SAME_DIRECTION of each other are one limit.
            if distance[nearest] <= 2 * SAME_DIRECTION:
                count[nearest] += number
    share = count / ends.samples
    error = np.sqrt(share * (1.0 - share) / ends.samples)
    shared = tuple(
        replace(vector, share=float(p), share_error=float(e))
        for vector, p, e in zip(vectors, share, error, strict=True)
    )
    other = ends.samples - ends.nowhere - int(count.sum())
    return replace(
        vectors,
        nonzero=shared,
        dead_share=ends.nowhere / ends.samples,
        other_share=other / ends.samples,
    )
