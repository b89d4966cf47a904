"""Which neurons a critical direction of ``G(w) = w . D(w)`` attracts.

With the residual frozen at y a neuron's direction climbs G on the sphere if a > 0 and descends it
if a < 0. So a critical direction w, with ``D = tau |D| w``, attracts neurons with ``sign(a) =
sigma`` if ``sigma G`` has a local maximum there. Along the hyperplanes K through w, with
multipliers zeta,

    G(w + v) = G(w) + D . v + sum_{g in K} phi_g(nu_g . v) + O(|v|^2),
    phi_g(s) = (q_g^+ - zeta_g) s  for s > 0,   (q_g^- - zeta_g) s  for s < 0,

whose sum is linear on each cell around w, so that its sign is decided on rays. Where it vanishes,
and inside the face of w, D does not change and the curvature of the sphere makes w a maximum of
``tau G``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Role(NamedTuple):
    """What a critical direction does to neurons nearby.

    Attributes
    ----------
    attracts : int
        The sign of a of the neurons that it attracts from all sides; 0 for a saddle. In data
        with ties (zero labels, D on a hyperplane) a saddle can attract from some sides: its
        share is then positive. In d = 1, where directions do not move, the sign of neurons
        that grow.
    grows : bool or None
        Whether attracted neurons grow there, ``a w . D > 0``, or shrink; None for a saddle.
    """

    attracts: int
    grows: bool | None


def role(changes: Sequence[Any], tau: int, dimension: int, tie: float = 0.0) -> Role:
    """Return the role of a critical direction.

    Parameters
    ----------
    changes : sequence
        ``sum_g phi_g(nu_g . v)`` along all rays v around w of the hyperplanes through it.
    tau : {+1, -1}
        The sign of ``w . D``.
    dimension : int
        The dimension of the face of w in R^d; 1 if w is its only direction.
    tie : float
        Changes up to this size are zero.
    """
    for sigma in (tau, -tau):
        falls = all(sigma * change <= tie for change in changes)
        strictly = all(sigma * change < -tie for change in changes)
        if falls and (sigma == tau or (strictly and dimension == 1)):
            return Role(sigma, sigma == tau)
    return Role(0, None)
