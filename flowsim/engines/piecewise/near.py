"""The hyperplanes near a walking neuron, compiled: only they are watched until it has turned far.

Between two events a neuron turns little, so that of many hyperplanes it can meet a few. They are
listed with their normals side by side; where the list no longer suffices it is made anew.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.engines.piecewise.detection import reach, split
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
    code: np.ndarray  # (G,) int8
    margin: np.ndarray  # (G,) nu_g . w
    direction: np.ndarray  # (d,)
    radius: np.ndarray  # (1,)


def empty(d: int, planes: int) -> Near:
    """Allocate a list."""
    return Near(
        np.zeros(planes, np.int64), np.zeros(1, np.int64), np.zeros((d, planes)),
        np.zeros(planes, np.int8), np.zeros(planes), np.zeros(d), np.full(1, -1.0),
    )  # fmt: skip


@inlined
def gather(radius, touch, normals, w, code, fresh, near, margin):  # pragma: no cover - compiled
    """List the hyperplanes whose margins are within `radius` |w|, fresh ones, and slides.

    margin (G,) is working memory.
    """
    project_all(normals, w, margin)
    size, count = norm(w), 0
    limit = radius * size + touch
    for g in range(code.shape[0]):  # two loops without branches
        near.code[g] = (not code[g] * margin[g] > limit) | fresh[g]
    for g in range(code.shape[0]):
        near.planes[count] = g
        count += near.code[g]
    near.count[0], near.radius[0] = count, radius
    for c in range(count):
        near.margin[c] = margin[near.planes[c]]
    for i in range(w.shape[0]):
        near.direction[i] = w[i] / size
        row, listed = normals[i], near.normals[i]
        for c in range(count):
            listed[c] = row[near.planes[c]]


@inlined
def keep_up(
    h, touch, normals, w, code, fresh, size, along, aside, near, margin
):  # pragma: no cover
    """Make the list anew unless it holds what the neuron may meet within `h`, and little else.

    size, along and aside are those of its polynomials (`split`); margin (G,) is working memory.
    """
    _, _, kept, turn, _ = reach(h, size, along, aside)
    needed = (turn + touch) / (kept * norm(w)) if kept > 0.0 else np.inf
    left = near.radius[0] - _turned(w, near)
    if not (left >= needed and near.radius[0] <= TOO_FAR * needed):
        gather(FAR * needed, touch, normals, w, code, fresh, near, margin)


@inlined
def begin_list(
    h, touch, normals, w, code, fresh, polynomials, sizes, near, margin
):  # pragma: no cover
    """Make the first list where a neuron has come to, as if its `polynomials` went on for `h`."""
    size, along, aside = sizes[0], sizes[1], sizes[2]
    split(polynomials, size, along, aside)
    _, _, kept, turn, _ = reach(h, size, along, aside)
    radius = FAR * (turn + touch) / (kept * norm(w)) if kept > 0.0 else 0.0
    gather(radius, touch, normals, w, code, fresh, near, margin)


@inlined
def update_margins(w, near):  # pragma: no cover - compiled
    """Write the margins of the listed hyperplanes."""
    count = near.count[0]
    project_all(near.normals[:, :count], w, near.margin[:count])


@inlined
def leave(plane, touch, code, fresh, near):  # pragma: no cover - compiled
    """Mark other hyperplanes that the neuron has left; return whether it is on `plane` alone."""
    alone = True
    for c in range(near.count[0]):
        g = near.planes[c]
        if abs(near.margin[c]) > touch:
            if fresh[g] and code[g] != 0 and g != plane:
                fresh[g] = False
        elif not fresh[g] and code[g] != 0 and g != plane:
            alone = False
    return alone


@inlined
def _turned(w, near):  # pragma: no cover - compiled
    """Return how far w's direction is from where the list was made, up to rounding."""
    f, s = 1.0 / norm(w), 0.0
    for i in range(w.shape[0]):
        s += (w[i] * f - near.direction[i]) ** 2
    return np.sqrt(s) + 1e-15
