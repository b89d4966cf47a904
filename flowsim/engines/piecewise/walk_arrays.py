"""Neurons on their walk, their log, and working memory, as arrays for the compiled walk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.alignment import switching
from flowsim.alignment.plan import Plan
from flowsim.engines.piecewise import near
from flowsim.engines.piecewise.motion import Tile, tile_of
from flowsim.engines.piecewise.walk_sums import Ridden

#: How a neuron's walk stands: under way; at its end; `flowsim.selection` must choose its cell;
#: only a step that ends here can go on; the log is full.
GOING, DONE, ASKS, CUT, FULL = range(5)


class Walkers(NamedTuple):
    """The neurons that walk in a step, as rows of their own arrays.

    x is where a neuron is, in units of time since the step began; what, where and side its
    next event, where that is known (`begun` is false then, and group and member its place
    in the expansion).
    """

    z: np.ndarray  # (K, d+1)
    exponent: np.ndarray  # (K,) int64, and likewise:
    sign: np.ndarray
    balance: np.ndarray
    gap: np.ndarray  # (K,) float64
    gap_exponent: np.ndarray
    fate: np.ndarray
    code: np.ndarray  # (K, G) int8
    fresh: np.ndarray  # (K, G) bool
    x: np.ndarray  # (K,) float64
    what: np.ndarray
    where: np.ndarray
    side: np.ndarray
    group: np.ndarray
    member: np.ndarray
    begun: np.ndarray  # (K,) bool
    status: np.ndarray
    idle: np.ndarray


class Log(NamedTuple):
    """What happened, in the order of each walker; `count` rows are filled.

    `steep` has of a crossing a^2, with the neuron's mass, nu . D before and behind it, nu
    projected onto the slides before it, and by how much D is more behind it; of a slide that it has
    ended 1 and the direction that has become free.
    """

    rows: np.ndarray  # (R, 5) int32: walker, kind, hyperplane, before, after
    x: np.ndarray  # (R,)
    steep: np.ndarray  # (R, 3 + 2d)
    count: np.ndarray  # (1,) int64


class Scratch(NamedTuple):
    """Working memory of one thread."""

    q: np.ndarray  # (2, G)
    line: np.ndarray  # (G,)
    poly: np.ndarray  # (order+1,)
    bernstein: np.ndarray  # (order+1,)
    ends: np.ndarray  # (2, G, order+1), those of the slides from where the neuron is
    exits: np.ndarray  # (2, order+1)
    sizes: np.ndarray  # (3, order+1)
    a: np.ndarray  # (order+1,)
    w: np.ndarray  # (order+1, d)
    base: np.ndarray  # (order+1, d): what sides add to D, from the step's beginning
    local: np.ndarray  # (order+1, d): the same from where the neuron is
    D: np.ndarray  # (order+1, d): its projection onto the slides
    new: np.ndarray  # (d+1,)
    tile: Tile  # of one neuron
    steep: np.ndarray  # (3 + 2d,)
    multipliers: np.ndarray  # (d, d)
    slides: np.ndarray  # (G,) int64
    sides: np.ndarray  # (G+1,) int64
    choice: switching.Scratch
    near: near.Near
    ridden: Ridden


def scratch(order: int, d: int, planes: int) -> Scratch:
    """Allocate the working memory of one thread."""
    p = order + 1
    return Scratch(
        np.zeros((2, planes)), np.zeros(planes), np.zeros(p), np.zeros(p),
        np.zeros((2, planes, p)), np.zeros((2, p)), np.zeros((3, p)), np.zeros(p),
        np.zeros((p, d)), np.zeros((p, d)), np.zeros((p, d)), np.zeros((p, d)), np.zeros(d + 1),
        tile_of(d, 1), np.zeros(3 + 2 * d), np.zeros((d, d)),
        np.zeros(planes, np.int64), np.zeros(planes + 1, np.int64),
        switching.scratch(d, planes), near.empty(d, planes),
        Ridden(np.zeros(p), np.zeros((p, d))),
    )  # fmt: skip


def log(rows: int, d: int) -> Log:
    """Allocate a log of so many rows."""
    return Log(
        np.empty((rows, 5), np.int32), np.empty(rows), np.empty((rows, 3 + 2 * d)),
        np.zeros(1, np.int64),
    )  # fmt: skip


def with_sides(plan: Plan, work: Scratch) -> Plan:
    """Return a plan whose q is this thread's own."""
    return plan._replace(q=work.q)
