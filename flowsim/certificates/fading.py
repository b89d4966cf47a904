"""Neurons that shrink to zero on a ray, to which d - 1 slides pin them, outside of what V holds.

What such a neuron adds to the outputs keeps its direction and falls, so that all it will ever
change in e is bounded by what it adds now; it never changes the core's fields by its part outside
of V, to which these are orthogonal.
"""

from __future__ import annotations

from collections.abc import Sequence

from flint import arb, arb_mat

from flowsim.certificates.balls import NotProvedError, ball, min_of, norm
from flowsim.certificates.claim import Neuron
from flowsim.certificates.forces import Forces
from flowsim.certificates.placed import Placed
from flowsim.certificates.planes import Data


def check_role(data: Data, j: int, neuron: Neuron, *, everything: bool) -> None:
    """Check what the role says of a cell: d - 1 independent slides, nothing else in reach."""
    slides = neuron.slides
    pinned = len(slides) == data.d - 1 and data.independent(slides)
    if not pinned or set(neuron.held) != set(slides) or neuron.walls or neuron.open:
        raise NotProvedError(f"neuron {j} is not pinned to a ray by its slides")
    if everything:
        raise NotProvedError(f"neuron {j} is not one that fades")


def reach(data: Data, placed: Sequence[Placed]) -> arb:
    """Return ``ω^½ Σ |a| |diag(c) X w|`` of the fading neurons."""
    total = arb(0)
    for p in placed:
        if p.neuron.role == "fading":
            total += abs(p.a) * norm(_outputs(data, p))
    return ball(data.weight).sqrt() * total


def check(placed: Sequence[Placed], forces: Forces) -> tuple[arb, arb | None]:
    """Check that fading neurons stay on their slides and shrink for ever.

    Returns
    -------
    slack, rate : arb
        The slack, and the least rate of decay of ``|a||w|``; None if there are none.
    """
    slack, rates, seen = arb(1), [], set()
    for j, p in enumerate(placed):
        if p.neuron.role != "fading":
            continue
        if (p.neuron.cell, p.neuron.sign) not in seen:
            seen.add((p.neuron.cell, p.neuron.sign))
            slack = slack.min(forces.check(j, p.neuron))
        size = norm(p.w)
        row = [-p.neuron.sign * x / size for x in _outputs(forces.data, p)]
        slack = slack.min(forces.positive(row, arb(0), f"the fading of neuron {j}"))
        value, reach = forces.range(row, arb(0))
        rates.append(2 * ball(forces.data.weight) * (value - reach))
    return slack, min_of(rates) if rates else None


def _outputs(data: Data, p: Placed) -> list[arb]:
    """Return ``diag(c) X w``."""
    s = (data.x * arb_mat(data.d, 1, p.w)).entries()
    return [c * x for c, x in zip(data.factors(p.neuron.code), s, strict=True)]
