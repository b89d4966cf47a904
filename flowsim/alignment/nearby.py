"""The hyperplanes that a neuron can reach soon, compiled: of many, only they are looked at.

While D is constant, on a slide too, w moves along a straight line. A cone around a `centre`
narrower than a half-space is convex: a line that begins and ends in it does not leave it, and
meets no hyperplane that misses the cone. Those that do not miss it are listed, normals side by
side; a list serves until a neuron's next event, as the list has it, lies outside the cone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.alignment.switching import compiled, inlined
from flowsim.cells import EPS, TOUCH

#: So few hyperplanes are all listed, always.
FEW = 48
#: A wider cone (radians) is not tried: all hyperplanes are listed.
WIDEST = 0.5
#: The centre lies ahead of the neuron by this part of the cone's angle.
AHEAD = 0.8
#: Hyperplanes that miss the cone by less than this part of its angle are listed too, so that
#: no rounding brings the neuron close to one that is not.
SLACK = 1 / 16
#: A cone is narrowed by at most so much, or widened, after the list of another.
NARROWER, WIDER = 0.25, 2.0
#: One that does not suffice until the next event is replaced by one so many times as wide.
WIDENED = 4.0
#: Entries of `Nearby.cone`.
COSINE, ROOM, ANGLE, START, WANTED = range(5)


class Nearby(NamedTuple):
    """The list: `count` hyperplanes are filled.

    cone: its angle's COSINE, -inf if all are listed; while w is in it, the others have
    ``|nu_g . w| > ROOM |w|``; the ANGLE of the next list, that of a neuron's first, and how many
    hyperplanes a list should hold.
    """

    planes: np.ndarray  # (G,) int64, ascending
    count: np.ndarray  # (1,) int64
    normals: np.ndarray  # (d, G)
    centre: np.ndarray  # (d,)
    margin: np.ndarray  # (G,) nu_g . centre, of all
    cone: np.ndarray  # (5,)


def empty(d: int, planes: int) -> Nearby:
    """Allocate a list.

    Making one costs about what looking at G hyperplanes once does. Of random normals it holds
    about ``2 angle G sqrt(d / 2 pi)`` and serves ``1.8 angle G / pi`` crossings: a crossing is
    cheapest where it holds ``sqrt(1.4 G sqrt(d))``.
    """
    wanted = np.sqrt(1.4 * planes * np.sqrt(d))
    start = wanted / planes * np.sqrt(np.pi / 2 / d)
    return Nearby(
        np.zeros(planes, np.int64), np.zeros(1, np.int64), np.zeros((d, planes)), np.zeros(d),
        np.zeros(planes), np.array([np.inf, 0.0, start, start, wanted]),
    )  # fmt: skip


@compiled
def gather(angle, normals, z, D, near):  # pragma: no cover - compiled
    """List what meets a cone of `angle` that holds w and, as far as it can, the way to D."""
    d, planes = normals.shape
    cone, centre, margin = near.cone, near.centre, near.margin
    size = 0.0
    for i in range(d):
        size += z[1 + i] ** 2
    size = np.sqrt(size)
    # 1 - cos must be known well, and w's direction.
    if not 1e-5 < angle <= WIDEST or size < 1e-4 * z[0]:
        list_all(normals, near)
        return
    _aim(AHEAD * angle, z, size, D, centre)
    cone[COSINE] = np.cos(angle)
    cone[ROOM] = SLACK * angle
    limit = np.sqrt((1.0 - cone[COSINE]) * (1.0 + cone[COSINE])) + cone[ROOM]
    margin[:] = 0.0
    for i in range(0, d - 1, 2):  # in pairs, since writing takes longest
        e, f = centre[i], centre[i + 1]
        for g in range(planes):
            margin[g] += e * normals[i, g] + f * normals[i + 1, g]
    if d % 2:
        for g in range(planes):
            margin[g] += centre[d - 1] * normals[d - 1, g]
    count, listed = 0, near.planes
    for g in range(planes):
        listed[count] = g
        count += int(abs(margin[g]) <= limit)
    near.count[0] = count
    for i in range(d):
        for c in range(count):
            near.normals[i, c] = normals[i, listed[c]]
    factor = cone[WANTED] / max(count, 1)
    cone[ANGLE] = min(angle * min(max(factor, NARROWER), WIDER), 0.5 * WIDEST)


@inlined
def list_all(normals, near):  # pragma: no cover - compiled
    """List all hyperplanes: that serves wherever the neuron goes."""
    d, planes = normals.shape
    near.cone[COSINE] = -np.inf
    if near.count[0] == planes:
        return
    near.count[0] = planes
    for g in range(planes):
        near.planes[g] = g
    for i in range(d):
        for g in range(planes):
            near.normals[i, g] = normals[i, g]


@inlined
def _aim(ahead, z, size, D, centre):  # pragma: no cover - compiled
    """Put the centre on the way from w to D, `ahead` of w, whose size is given."""
    d = D.shape[0]
    along, aside, rho, length = 0.0, 0.0, 0.0, 0.0
    for i in range(d):
        along += z[1 + i] * D[i]
        rho += D[i] ** 2
    along /= size**2
    for i in range(d):
        centre[i] = D[i] - along * z[1 + i]
        aside += centre[i] ** 2
    f, g = 0.0, 1.0 / size  # on the line through D there is no way
    if aside > (64 * EPS) ** 2 * rho:
        aside = np.sqrt(aside)
        ahead = min(ahead, np.arctan2(aside, along * size))
        f, g = np.sin(ahead) / aside, np.cos(ahead) / size
    for i in range(d):
        centre[i] = f * centre[i] + g * z[1 + i]
        length += centre[i] ** 2
    length = np.sqrt(length)
    for i in range(d):
        centre[i] /= length


@inlined
def holds(z, q, a, D, centre, cone):  # pragma: no cover - compiled
    """Return whether what is listed is all that lies between w and ``w + q D``, or near it.

    Sharp: hyperplanes with ``|nu_g . centre| > sin(angle)`` miss the cone ``w . centre >=
    cos(angle) |w|``, all others cut it. w is in the cone since the list was made.
    a: the neuron's first component at q, which may be infinite.
    """
    d = centre.shape[0]
    far = not q < np.inf
    start, way = (0.0, 1.0) if far else (1.0, q)
    along, size = 0.0, 0.0
    for i in range(d):
        w = start * z[1 + i] + way * D[i]
        along += w * centre[i]
        size += w**2
    size = np.sqrt(size)
    # Rounding may be that of the larger numbers from which w came; |z| was below 2.
    near = not far and cone[ROOM] * size <= 4 * TOUCH * (2.0 + size + a)
    narrow = cone[COSINE] + (16 + d) * EPS
    # Nothing is wider than all.
    return cone[COSINE] < -1.0 or (along >= narrow * size and size < np.inf and not near)
