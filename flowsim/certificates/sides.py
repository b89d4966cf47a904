"""Which side of every hyperplane each neuron is on, and how far from it.

Nearly all margins are large: integers of 30 bits tell them, exactly but for the rounding of the
directions to such integers, which is bounded. Only the others need balls.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from flint import arb

from flowsim.certificates.balls import NotProvedError, dot
from flowsim.certificates.placed import Placed
from flowsim.certificates.planes import Data

#: Bits of a unit vector's components.
BITS = 30
#: Components are off by less than this: half a unit, and what float64 has rounded.
UNIT = 2.0 ** (1 - BITS)
#: Neurons that are looked at together.
CHUNK = 1024


def check_sides(data: Data, placed: Sequence[Placed], turning: Sequence[arb | None]) -> arb:
    """Check that no neuron leaves its cell while it turns by `turning`; return the least slack.

    A neuron's angular margin to hyperplane g is ``arcsin(|x_g . w| / (|x_g| max(|a|, |w|)))``; on
    hyperplanes that it may reach or cross it need only be on the claimed side now. None stands
    for a neuron that is not looked at.

    Raises
    ------
    NotProvedError
        With the neuron and the sample.
    """
    looked = [j for j, angle in enumerate(turning) if angle is not None]
    normals = _integers([data.normal[g] for g in range(data.planes)], data.normal_size, data.d)
    blur = 2.0 * sqrt(data.d) * UNIT + data.d * UNIT**2
    slack = arb(1)
    for first in range(0, len(looked), CHUNK):
        rows = looked[first : first + CHUNK]
        some = [placed[j] for j in rows]
        directions = _integers([p.w for p in some], [p.size for p in some], data.d)
        margin = np.ldexp((directions @ normals.T).astype(np.float64), -2 * BITS)
        margin *= np.array([p.neuron.cell.sides for p in some])
        room = margin - _needs([turning[j] for j in rows])[:, None]
        loose = _places([(*p.neuron.walls, *p.neuron.open) for p in some])
        room[loose] = margin[loose]
        room -= blur
        room[_places([p.neuron.held for p in some])] = np.inf
        enough = room > 0.0
        slack = slack.min(arb(float(np.min(room[enough], initial=1.0))))
        for i, g in np.argwhere(~enough).tolist():
            angle = turning[rows[i]]
            assert angle is not None
            slack = slack.min(_closely(data, rows[i], some[i], g, angle))
    return slack


def _integers(rows: Sequence[Sequence[arb]], sizes: Sequence[arb], d: int) -> np.ndarray:
    """Return vectors over their sizes as integers of `BITS` bits."""
    shares, most = [], arb(UNIT / 8.0)
    for row, size in zip(rows, sizes, strict=True):
        for x in row:
            share = x / size
            if not share.rad() < most:
                raise NotProvedError("a neuron's direction is not known well enough")
            shares.append(float(share))
    return np.rint(np.ldexp(np.array(shares).reshape(-1, d), BITS)).astype(np.int64)


def _needs(angles: Sequence[arb | None]) -> np.ndarray:
    """Return what margins must exceed, of angles of which many are one object."""
    known: dict[int, float] = {}
    for angle in angles:
        if id(angle) not in known:
            assert angle is not None
            # The next number above is a bound even where rounding went down.
            known[id(angle)] = np.nextafter(float(_sine(angle).upper()), 2.0)
    return np.array([known[id(angle)] for angle in angles])


def _places(planes: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Return rows and columns of the hyperplanes that each neuron has."""
    rows = [i for i, some in enumerate(planes) for _ in some]
    return rows, [g for some in planes for g in some]


def _sine(angle: arb) -> arb:
    return angle.sin() if angle < 1.5 else arb(1)


def _closely(data: Data, j: int, p: Placed, g: int, angle: arb) -> arb:
    """Return by how much a neuron's margin exceeds what it must, in balls."""
    sample, side = data.leader[g], p.neuron.code[g]
    if side == 0:
        raise NotProvedError(f"neuron {j} slides on sample {sample} without being held there")
    margin = side * dot(data.normal[g], p.w) / (data.normal_size[g] * p.size)
    loose = g in p.neuron.walls or g in p.neuron.open
    need = arb(0) if loose else _sine(angle)
    if margin > need:
        return margin - need
    if not margin > 0:
        raise NotProvedError(
            f"neuron {j} is not shown to be on the claimed side of sample {sample}"
        )
    raise NotProvedError(
        f"neuron {j} may cross the hyperplane of sample {sample}: its margin is "
        f"{float(margin.mid()):.3g}, and it may turn by {float(angle.mid()):.3g}"
    )
