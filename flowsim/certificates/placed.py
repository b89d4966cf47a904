"""The claimed state in balls: neurons put onto their hyperplanes, the residual, projectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flint import arb, arb_mat

from flowsim.certificates.balls import NotProvedError, ball, dot, identity, matrix, norm
from flowsim.certificates.claim import Claim, Neuron
from flowsim.certificates.planes import Code, Data

#: Neurons are put onto hyperplanes that they are this near to, relative to their size.
NEAR = 1e-10


@dataclass(frozen=True, eq=False)
class Placed:
    """A neuron with ``w`` exactly on the hyperplanes it is held on, and ``a`` from its gap."""

    neuron: Neuron
    a: arb
    w: list[arb]
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
    projectors: dict[tuple[int, ...], arb_mat] = {}
    out = []
    for j, neuron in enumerate(claim.neurons):
        w = list(neuron.w)
        if neuron.held:
            if neuron.held not in projectors:
                projectors[neuron.held] = projector(claim.data, neuron.held)
            w = (projectors[neuron.held] * arb_mat(len(w), 1, w)).entries()
            _check_near(j, neuron, w)
        square = dot(w, w) + neuron.gap
        if neuron.role in ("zero", "origin"):
            if not all(x == 0 for x in w):
                raise NotProvedError(f"neuron {j} is not at w = 0")
            if neuron.role == "zero" and not neuron.gap == 0:
                raise NotProvedError(f"neuron {j} is not zero: a is not")
            square = neuron.gap
        if not (square > 0 or (neuron.role == "zero" and square == 0)):
            raise NotProvedError(f"the sign of a of neuron {j} cannot be told")
        a = neuron.sign * square.sqrt()
        out.append(Placed(neuron, a, w, abs(a) if neuron.gap >= 0 else norm(w)))
    return out


def _check_near(j: int, neuron: Neuron, w: Sequence[arb]) -> None:
    """Check that a neuron is put onto its hyperplanes from no farther than rounding."""
    moved = [x - y for x, y in zip(w, neuron.w, strict=True)]
    large = dot(w, w) + neuron.gap if neuron.gap >= 0 else dot(w, w)
    if not dot(moved, moved) <= NEAR**2 * large:
        raise NotProvedError(f"neuron {j} is held on hyperplanes that it does not lie on")


def residual(data: Data, placed: Sequence[Placed]) -> list[arb]:
    """Return ``r_k = y_k - h(x_k)``: what the neurons of a cell give depends on their sum only."""
    sums: dict[Code, list[arb]] = {}
    for p in placed:
        if p.neuron.role not in ("core", "carried", "fading", "free"):
            continue
        total = sums.setdefault(p.neuron.code, [arb(0)] * data.d)
        for i, x in enumerate(p.w):
            total[i] += p.a * x
    r = [ball(y) for y in data.y]
    for code, total in sums.items():
        outputs = (data.x * arb_mat(data.d, 1, total)).entries()
        for k, c in enumerate(data.coefficients(code)):
            if c:
                r[k] -= ball(c) * outputs[k]
    return r
