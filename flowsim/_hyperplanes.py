"""The hyperplanes {w : w·x_k = 0} of the samples, where neurons switch on and off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

# Two float directions count as one line if they differ by no more than this: the rounding of the
# samples, of their norms and of the quotients, with a margin.
PARALLEL_TOLERANCE = 16 * np.finfo(np.float64).eps


class Hyperplanes(NamedTuple):
    """The G distinct hyperplanes of n samples, ``x_k = orientation_k ‖x_k‖ normals[index_k]``.

    Attributes
    ----------
    normals : ndarray (G, d)
        Unit normals, each the direction of the first sample on its line; in order of appearance.
    index : ndarray (n,) of int64
        The hyperplane of each sample.
    orientation : ndarray (n,) of int8
        +1 if the sample lies on the positive side of its hyperplane, −1 if on the negative one.
    """

    normals: np.ndarray
    index: np.ndarray
    orientation: np.ndarray


def group_exactly(
    X: np.ndarray, norms: np.ndarray, X_exact: Sequence[Sequence[Fraction]]
) -> Hyperplanes:
    """Group parallel and antipodal rows, decided in exact arithmetic.

    Each row is scaled to its primitive integer vector with a positive first nonzero entry, which
    names the line through it; O(nd).
    """
    leader_of: dict[tuple[int, ...], tuple[int, int]] = {}
    leader = np.empty(len(X_exact), dtype=np.int64)
    orientation = np.empty(len(X_exact), dtype=np.int8)
    for k, row in enumerate(X_exact):
        line, side = _primitive(row)
        first, first_side = leader_of.setdefault(line, (k, side))
        leader[k] = first
        orientation[k] = side * first_side
    return _assemble(X / norms[:, None], leader, orientation)


def _primitive(row: Sequence[Fraction]) -> tuple[tuple[int, ...], int]:
    denominator = math.lcm(*(value.denominator for value in row))
    integers = [value.numerator * (denominator // value.denominator) for value in row]
    side = 1 if next(value for value in integers if value) > 0 else -1
    divisor = side * math.gcd(*integers)
    return tuple(value // divisor for value in integers), side


def group_rounded(X: np.ndarray, norms: np.ndarray) -> Hyperplanes:
    """Group rows whose directions agree up to sign and `PARALLEL_TOLERANCE`.

    Lines that close have nearly the same |p·ν| for any fixed p, so sorting by it leaves short runs
    of candidates: O(n log n + nd) unless the rows conspire with p.
    """
    n, d = X.shape
    directions = X / norms[:, None]
    probe = np.random.default_rng(0).standard_normal(d)
    key = np.abs(directions @ probe)
    order = np.argsort(key, kind="stable")
    # d eps: the rounding of the dot product itself.
    gap = (PARALLEL_TOLERANCE + 2 * d * np.finfo(np.float64).eps) * np.linalg.norm(probe)
    starts = np.flatnonzero(np.diff(key[order]) > gap) + 1

    leader = np.arange(n)
    orientation = np.ones(n, dtype=np.int8)
    for run in np.split(order, starts):
        if run.size > 1:
            _group_run(directions, np.sort(run), leader, orientation)
    return _assemble(directions, leader, orientation)


def _group_run(
    directions: np.ndarray, run: np.ndarray, leader: np.ndarray, orientation: np.ndarray
) -> None:
    """Group the candidates `run`, in order of appearance, around the first of each line."""
    while run.size > 1:
        first, rest = run[0], run[1:]
        same = np.linalg.norm(directions[rest] - directions[first], axis=1) <= PARALLEL_TOLERANCE
        opposite = (
            np.linalg.norm(directions[rest] + directions[first], axis=1) <= PARALLEL_TOLERANCE
        )
        leader[rest[same | opposite]] = first
        orientation[rest[opposite]] = -1
        run = rest[~(same | opposite)]


def _assemble(directions: np.ndarray, leader: np.ndarray, orientation: np.ndarray) -> Hyperplanes:
    # unique sorts the leaders, which are first samples: the order of appearance.
    first, index = np.unique(leader, return_inverse=True)
    result = Hyperplanes(directions[first], index.astype(np.int64), orientation)
    for array in result:
        array.setflags(write=False)
    return result
