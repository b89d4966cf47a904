"""What the log of a walk keeps of a crossing, see `walk_arrays.Log`; compiled."""

from __future__ import annotations

from flowsim.engines.piecewise.expansion import inlined
from flowsim.engines.piecewise.own import onto_slides
from flowsim.engines.piecewise.roots import horner


@inlined
def note_arrival(x, g, rank, a, exponent, plan, work):  # pragma: no cover - compiled
    """Write what `Log.steep` has of a crossing into work.steep, as if the neuron died there."""
    d, steep = plan.normals.shape[0], work.steep
    normal, bend = steep[3 : 3 + d], steep[3 + d :]
    field_at(x, rank, work, bend)
    steep[0], steep[1], steep[2] = a**2 * 2.0 ** max(2 * exponent, -2000), 0.0, 0.0
    for i in range(d):
        steep[1] += plan.normals[i, g] * bend[i]
        bend[i] = -bend[i]
        normal[i] = plan.normals[i, g]
    onto_slides(rank, work.choice.basis, normal)


@inlined
def note_leaving(x, g, rank, plan, work, steep):  # pragma: no cover - compiled
    """Add what a crossing has behind it to its `Log.steep`."""
    d, D = plan.normals.shape[0], work.new[1:]
    field_at(x, rank, work, D)
    for i in range(d):
        steep[2] += plan.normals[i, g] * D[i]
        steep[3 + d + i] += D[i]


@inlined
def field_at(x, rank, work, D):  # pragma: no cover - compiled
    """Write the field D (d,) of the present cell at `x`, projected onto the slides."""
    for i in range(D.shape[0]):
        D[i] = horner(work.base[:, i], x)
    onto_slides(rank, work.choice.basis, D)
