"""What the log of a walk keeps of a crossing, see `walk_arrays.Log`; compiled."""

from __future__ import annotations

from flowsim.engines.piecewise.jit import inlined
from flowsim.engines.piecewise.margins import norm
from flowsim.engines.piecewise.own import onto_slides, vector_at


@inlined
def note_arrival(  # pragma: no cover - compiled
    x, g, rank, a, exponent, normals, base, basis, steep
):
    """Write what `Log.steep` has of a crossing, as if the neuron died there."""
    d = normals.shape[0]
    normal, bend = steep[3 : 3 + d], steep[3 + d :]
    field_at(x, rank, base, basis, bend)
    steep[0], steep[1], steep[2] = a**2 * 2.0 ** max(2 * exponent, -2000), 0.0, 0.0
    for i in range(d):
        steep[1] += normals[i, g] * bend[i]
        bend[i] = -bend[i]
        normal[i] = normals[i, g]
    onto_slides(rank, basis, normal)


@inlined
def note_leaving(x, g, rank, normals, base, basis, D, steep):  # pragma: no cover - compiled
    """Add what a crossing has behind it to its `Log.steep`; D (d,) is working memory."""
    d = normals.shape[0]
    field_at(x, rank, base, basis, D)
    for i in range(d):
        steep[2] += normals[i, g] * D[i]
        steep[3 + d + i] += D[i]


@inlined
def note_end(g, rank, normals, basis, steep):  # pragma: no cover - compiled
    """Write what `Log.steep` has of a slide on `g` that a crossing has ended.

    That is the direction in which the neuron was not free before it.
    """
    free = steep[3 : 3 + normals.shape[0]]
    for i in range(normals.shape[0]):
        free[i] = normals[i, g]
    onto_slides(rank, basis, free)
    size = norm(free)
    for i in range(normals.shape[0]):
        free[i] = free[i] / size if size > 0.0 else 0.0
    steep[0] = 1.0


@inlined
def field_at(x, rank, base, basis, D):  # pragma: no cover - compiled
    """Write the field D (d,) of the present cell at `x`, projected onto the slides."""
    vector_at(base, x, D)
    onto_slides(rank, basis, D)
