"""Neurons that fade: so light that nothing feels them, they shrink along a line, in closed form.

On d - 1 slides a balanced neuron has one direction left, and one unknown, its size:

    |z(t)| = |z(0)| exp(int_0^t sign(a) w/|w| . D).

One that shrinks loses exp(2 |D| h) digits by its Taylor series in a step h, and so would hold up
those of the tail of a run, where it is the fastest neuron and the least important.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.engines.piecewise.jit import compiled
from flowsim.events import ALIVE

if TYPE_CHECKING:
    from flowsim.engines.piecewise.expander import Expansion
    from flowsim.engines.piecewise.integrator import Integrator

#: By this part of the tolerance may all outputs of fading neurons turn others in a step.
NEGLIGIBLE = 1e-2
#: They shrink by at most so many powers of e in a step: the exponent is known to rounding.
LONGEST = 500.0


def find(flow: Integrator, e: Expansion, h: float) -> np.ndarray:
    """Return which groups (groups,) fade in a step `h`."""
    state, groups, d = flow.state, flow.groups, flow.cells.d
    fades = np.zeros(len(e.active), np.bool_)
    felt = 0.0
    on_line = groups.slide_count[e.active] == d - 1
    for q in np.flatnonzero(on_line & (e.rates() > 0.0)):
        own = e.members[e.start[q] : e.start[q + 1]]
        z = state.z[own]
        felt_of = h * flow.spread * float(np.sum(e.mass[own, None] * z**2))
        along = state.sign[own] * (z[:, 1:] @ e.D[q, 0])
        light = felt + felt_of <= NEGLIGIBLE * flow.rtol
        if light and np.all(along < 0.0) and np.all(state.balance[own] == 0):
            fades[q] = np.all(state.fate[own] == ALIVE)
            felt += felt_of
    return fades


def keep_fading(e: Expansion) -> bool:
    """Whether fading neurons shrink all the time until the end of the step, and not too far."""
    size = np.linalg.norm(e.D[e.fades], axis=2)
    first, others = size[:, 0], np.sum(size[:, 1:], axis=1)
    return bool(np.all((others <= first) & (e.unit * (first + others) <= LONGEST)))


def meet_something(e: Expansion, x: np.ndarray) -> bool:
    """Whether some have an event at their x (m,), at which only their sizes are not known."""
    return any(
        bool(np.any(x[e.members[e.start[q] : e.start[q + 1]]] < np.inf))
        for q in np.flatnonzero(e.fades)
    )


@compiled
def fade(x, unit, D, j, z, exponent, sign):  # pragma: no cover - compiled
    """Let neuron j shrink for `x` units in a field D (order+1, d)."""
    ww, along, power = 0.0, 0.0, unit * x
    for i in range(D.shape[1]):
        ww += z[j, 1 + i] ** 2
    for o in range(D.shape[0]):
        dot = 0.0
        for i in range(D.shape[1]):
            dot += D[o, i] * z[j, 1 + i]
        along += dot * power / (o + 1)
        power *= x
    size = 0.0
    for i in range(z.shape[1]):
        size += z[j, i] ** 2
    shrunk = np.log2(np.sqrt(size)) + sign[j] * along / np.sqrt(ww) / np.log(2.0)
    whole = np.floor(shrunk)
    exponent[j] += int(whole) + 1
    scale = 2.0 ** (shrunk - whole - 1.0) / np.sqrt(size)
    ww = 0.0
    for i in range(D.shape[1]):
        z[j, 1 + i] *= scale
        ww += z[j, 1 + i] ** 2
    z[j, 0] = sign[j] * np.sqrt(ww)  # as it is balanced, and rounding does not add up
