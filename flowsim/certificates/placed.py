"""The claimed state in balls: neurons put onto their hyperplanes, the residual, projectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flint import arb, arb_mat

from flowsim.certificates.balls import (
    NotProvedError,
    arb_column,
    ball,
    identity,
    matrix,
    square,
)
from flowsim.certificates.claim import Claim, Neuron
from flowsim.certificates.planes import Data

#: Neurons are put onto hyperplanes that they are this near to, relative to their size.
NEAR = 1e-10


class Placed(NamedTuple):
    """A neuron with ``w`` exactly on the hyperplanes it is held on, and ``a`` from its gap."""

    neuron: Neuron
    a: arb
    w: Sequence[arb]
    size: arb  # max(|a|, |w|)

    @property
    def dominated(self) -> bool:
        """Whether ``|a| >= |w|``, for ever."""
        return bool(self.neuron.gap >= 0)


def projector(data: Data, planes: Sequence[int]) -> arb_mat:
    """Return the projector (d, d) orthogonal to the hyperplanes' normals, which are independent."""
    if not planes:
        return identity(data.d)
    N = matrix([data.normal[g] for g in planes])
    return identity(data.d) - N.transpose() * gram_inverse(N) * N


def gram_inverse(N: arb_mat) -> arb_mat:
    """Return ``(N Nᵀ)⁻¹``."""
    try:
        return (N * N.transpose()).inv()
    except ZeroDivisionError:
        raise NotProvedError("a neuron slides on linearly dependent hyperplanes") from None


def place(claim: Claim) -> list[Placed]:
    """Return every neuron of a claim on its hyperplanes.

    Raises
    ------
    NotProvedError
        If a neuron is not on the side of a hyperplane that its code says.
    """
    moved = _moved(claim)
    out = []
    for j, neuron in enumerate(claim.neurons):
        w, gap = neuron.w, neuron.gap
        if neuron.held:
            w = moved[j]
            _check_near(j, neuron, w)
        size, rests = square(w), neuron.role in ("zero", "origin")
        if rests:
            if not all(x == 0 for x in w):
                raise NotProvedError(f"neuron {j} is not at w = 0")
            if neuron.role == "zero" and not gap == 0:
                raise NotProvedError(f"neuron {j} is not zero: a is not")
        total = gap if rests else size + gap
        if not (total > 0 or (neuron.role == "zero" and total == 0)):
            raise NotProvedError(f"the sign of a of neuron {j} cannot be told")
        large = total.sqrt()
        a = large if neuron.sign > 0 else -large
        out.append(Placed(neuron, a, w, large if gap >= 0 else size.sqrt()))
    return out


def _moved(claim: Claim) -> dict[int, tuple[arb, ...]]:
    """Return w on the hyperplanes of each neuron that is held, all that are on the same at once."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for kind in claim.kinds:
        if held := claim.neurons[kind[0]].held:
            alike.setdefault(held, []).extend(kind)
    out: dict[int, tuple[arb, ...]] = {}
    for held, members in alike.items():
        W = arb_mat([claim.neurons[j].w for j in members])
        rows = (W * projector(claim.data, held).transpose()).tolist()
        out.update(zip(members, map(tuple, rows), strict=True))
    return out


def _check_near(j: int, neuron: Neuron, w: Sequence[arb]) -> None:
    """Check that a neuron is put onto its hyperplanes from no farther than rounding."""
    moved = [x - y for x, y in zip(w, neuron.w, strict=True)]
    large = square(w) + neuron.gap if neuron.gap >= 0 else square(w)
    if not square(moved) <= NEAR**2 * large:
        raise NotProvedError(f"neuron {j} is held on hyperplanes that it does not lie on")


def residual(claim: Claim, placed: Sequence[Placed]) -> list[arb]:
    """Return ``r_k = y_k - h(x_k)``: what the neurons of a cell give depends on their sum only."""
    data = claim.data
    r = arb_column([ball(y) for y in data.y])
    for cell, members in claim.cells("core", "carried", "fading", "free").items():
        a = arb_mat(1, len(members), [placed[j].a for j in members])
        total = a * arb_mat([placed[j].w for j in members])
        outputs = (data.x * total.transpose()).entries()
        r -= arb_column([c * x for c, x in zip(data.factors(cell.code), outputs, strict=True)])
    return r.entries()
