"""The hyperplanes near a walking neuron, compiled: only they are watched until it has turned far.

Between two events a neuron turns little, so that of many hyperplanes it can meet a few. They are
listed with their normals side by side; where the list no longer suffices it is made anew.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.engines.piecewise.detection import first_of_neuron, reach, split
from flowsim.engines.piecewise.jit import inlined
from flowsim.engines.piecewise.margins import norm, project_all

#: A list reaches so many times as far as the neuron may turn before its next event.
FAR = 2.0
#: One that reaches so many times as far is too long.
TOO_FAR = 8.0


class Near(NamedTuple):
    """The list: `count` hyperplanes are filled.

    All others have ``code_g nu_g . u > radius`` where the neuron's direction u is `direction`; a
    negative radius is that of no list.
    """

    planes: np.ndarray  # (G,) int64, ascending
    count: np.ndarray  # (1,) int64
    normals: np.ndarray  # (d, G)
    side: np.ndarray  # (G,) the neuron's codes there, when last looked at
    margin: np.ndarray  # (G,) nu_g . w
    direction: np.ndarray  # (d,)
    radius: np.ndarray  # (1,)
    all: np.ndarray  # (G,) int64, 0, 1, ...
    slope: np.ndarray  # (G,) and these are working memory
    marks: np.ndarray  # (G,) int8
    chosen: np.ndarray  # (G,) int64


def empty(d: int, planes: int) -> Near:
    """Allocate a list."""
    return Near(
        np.zeros(planes, np.int64), np.zeros(1, np.int64), np.zeros((d, planes)),
        np.zeros(planes), np.zeros(planes), np.zeros(d), np.full(1, -1.0), np.arange(planes),
        np.zeros(planes), np.zeros(planes, np.int8), np.zeros(planes, np.int64),
    )  # fmt: skip


@inlined
def gather(radius, touch, normals, w, code, fresh, near):  # pragma: no cover - compiled
    """List the hyperplanes whose margins are within `radius` |w|, fresh ones, and slides."""
    margin, marks, planes = near.slope, near.marks, near.planes
    project_all(normals, w, margin)
    size, count = norm(w), 0
    limit = radius * size + touch
    for g in range(code.shape[0]):  # two loops without branches
        marks[g] = (not code[g] * margin[g] > limit) | fresh[g]
    for g in range(code.shape[0]):
        planes[count] = g
        count += marks[g]
    near.count[0], near.radius[0] = count, radius
    for c in range(count):
        near.margin[c] = margin[planes[c]]
    for i in range(w.shape[0]):
        near.direction[i] = w[i] / size
        row, listed = normals[i], near.normals[i]
        for c in range(count):
            listed[c] = row[planes[c]]


@inlined
def keep_up(h, touch, normals, w, code, fresh, size, along, aside, near):  # pragma: no cover
    """Make the list anew unless it holds what the neuron may meet within `h`, and little else.

    size, along and aside are those of its polynomials (`split`).
    """
    _, _, kept, turn, _ = reach(h, size, along, aside)
    needed = (turn + touch) / (kept * norm(w)) if kept > 0.0 else np.inf
    left = near.radius[0] - _turned(w, near)
    if not (left >= needed and near.radius[0] <= TOO_FAR * needed):
        gather(FAR * needed, touch, normals, w, code, fresh, near)


@inlined
def begin_list(h, touch, normals, w, code, fresh, polynomials, sizes, near):  # pragma: no cover
    """Make the first list where a neuron has come to, as if its `polynomials` went on for `h`."""
    size, along, aside = sizes[0], sizes[1], sizes[2]
    split(polynomials, size, along, aside)
    _, _, kept, turn, _ = reach(h, size, along, aside)
    radius = FAR * (turn + touch) / (kept * norm(w)) if kept > 0.0 else 0.0
    gather(radius, touch, normals, w, code, fresh, near)


@inlined
def update_margins(w, near):  # pragma: no cover - compiled
    """Write the margins of the listed hyperplanes."""
    project_all(near.normals, w, near.margin[: near.count[0]])


@inlined
def first_of_listed(  # pragma: no cover - compiled
    h, code, a, w, balance, sign, touch, table, size, along, aside, poly, basis, near
):
    """Return the time, kind and hyperplane of `first_of_neuron`, of the listed hyperplanes."""
    count, planes, side = near.count[0], near.planes, near.side
    for c in range(count):
        side[c] = code[planes[c]]
    project_all(near.normals, w[1], near.slope[:count])
    at, what, c = first_of_neuron(
        h, near.normals, near.all, side[:count], near.margin[:count], near.slope[:count], a, w,
        balance, sign, touch, table, size, along, aside, poly, basis, near.chosen,
    )  # fmt: skip
    return at, what, planes[c] if c >= 0 else c


@inlined
def leave(plane, touch, code, fresh, near):  # pragma: no cover - compiled
    """Mark other hyperplanes that the neuron has left; return whether it is on `plane` alone."""
    count, planes, margin, marks = near.count[0], near.planes, near.margin, near.marks
    some = 0
    for c in range(count):  # two loops without branches: there are few to look at
        marks[c] = abs(margin[c]) <= touch
    for c in range(count):
        near.chosen[some] = c
        some += marks[c] | fresh[planes[c]]
    alone = True
    for i in range(some):
        g = planes[near.chosen[i]]
        if code[g] == 0 or g == plane:
            continue
        if not marks[near.chosen[i]]:
            fresh[g] = False
        elif not fresh[g]:
            alone = False
    return alone


@inlined
def _turned(w, near):  # pragma: no cover - compiled
    """Return how far w's direction is from where the list was made, up to rounding."""
    f, s = 1.0 / norm(w), 0.0
    for i in range(w.shape[0]):
        s += (w[i] * f - near.direction[i]) ** 2
    return np.sqrt(s) + 1e-15
