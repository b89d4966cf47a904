"""Theorems C and D in balls: what kind of point the flow of a claim converges to.

Near the limit ``L - L_∞ >= -ω r* . h``, and each neuron's share of ``r* . h`` is
``sign(a) |a| Σ_k r*_k (σ(s_k) - c_k s_k)``: zero in its cell, not positive at slides and walls with
``a r* . b_g < 0``. What does not move decides the rest: docs/certificates.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flint import arb, arb_mat, fmpz_mat

from flowsim.certificates.balls import (
    NotProvedError,
    arb_column,
    ball,
    column,
    dot,
    matrix,
    min_of,
    norm,
    square,
)
from flowsim.certificates.claim import Claim, Network
from flowsim.certificates.contraction import Contraction
from flowsim.certificates.placed import Placed
from flowsim.certificates.planes import Data, rational_column

#: Residuals below this part of the largest label are the rounding of labels that V fits.
ROUNDED = 1e-13
#: Why the limit is zero where V is not everything.
IN_RANGE = "the labels lie in the range of the core's features"


def kind_of(claim: Claim, found: Contraction) -> tuple[str, str]:
    """Return what the limit is, one of the kinds of `flowsim.solution.Final`, and why.

    Raises
    ------
    NotProvedError
        With what is not decided.
    """
    data = claim.data
    if claim.having("removed"):
        return _removed(claim, found)
    if claim.everything:
        return "interpolation", "the core fits every label"
    span = found.basis.span
    assert span is not None
    if span.contains(rational_column(data.y)):
        return "interpolation", IN_RANGE
    if _fits_rounded(data, found.r_star):
        return "interpolation", f"the core fits every label to {ROUNDED:g} of the largest"
    if _is_attainable(claim, found):
        return "global_minimum", "no network of any width has a smaller loss"
    way = _way_down(claim, found)
    if way is not None:
        return "saddle", way
    _check_still(claim, found)
    if claim.better is not None:
        _check_better(claim, found.limit_loss)
        return (
            "spurious_local_minimum",
            "no neuron can lower the loss from here, and a better network of this width is "
            "exhibited",
        )
    return "local_minimum", "no neuron can lower the loss from here"


def _fits_rounded(data: Data, r_star: Sequence[arb]) -> bool:
    """Whether every residual in the limit is the rounding of the labels."""
    largest = ball(max(abs(y) for y in data.y))
    return all(abs(r) < ROUNDED * largest for r in r_star)


def _removed(claim: Claim, found: Contraction) -> tuple[str, str]:
    """Theorem D: without its smallest neurons the state tends to a saddle."""
    best = None
    lightest = min_of([_square_of(found.placed[j]) for j in claim.having("core")])
    for j in claim.having("removed"):
        if not _square_of(found.placed[j]) < lightest:
            raise NotProvedError(f"neuron {j} has been removed, but is not light")
    for j in claim.having("removed"):
        rate = growth(claim.data, found.r_star, claim, j, found)
        if rate > 0 and (best is None or rate > best):
            best = rate
    if best is None:
        raise NotProvedError("no neuron that has been removed is shown to grow")
    return (
        "saddle",
        f"without {len(claim.having('removed'))} light neuron(s) the flow tends to a point from "
        f"which they lower the loss; they grow like exp({float(best.mid()):.4g} t)",
    )


def growth(data: Data, r_star: Sequence[arb], claim: Claim, j: int, found: Contraction) -> arb:
    """Return ``sign(a) ψ*(u)`` of a neuron, ``u = w / |w|``: its rate of growth at the limit."""
    p = found.placed[j]
    return p.neuron.sign * psi(data, r_star, p.w) / norm(p.w)


def _square_of(p: Placed) -> arb:
    return square([p.a, *p.w])


def psi(
    data: Data, r: Sequence[arb], u: Sequence[arb], samples: Iterable[int] | None = None
) -> arb:
    """Return ``ω Σ_k r_k σ(u . x_k)``, over some samples or all."""
    outputs = (data.x * arb_column(u)).entries()
    total = arb(0)
    for k in range(data.n) if samples is None else samples:
        total += r[k] * _activated(data, outputs[k])
    return ball(data.weight) * total


def _activated(data: Data, s: arb) -> arb:
    """Return σ(s)."""
    zero = arb(0)
    on = s.max(zero)
    return on + ball(data.slope) * s.min(zero) if data.slope else on


def _is_attainable(claim: Claim, found: Contraction) -> bool:
    """Whether V holds the outputs of all networks: those of every kink, and linear ones."""
    data, span = claim.data, found.basis.span
    assert span is not None
    if span.size < data.planes:
        return False
    whole = tuple([1] * data.planes)
    linear: fmpz_mat = data.columns(whole, ())  # on one side of all hyperplanes, or of -w
    if not all(span.contains(data.kink_column(g)) for g in range(data.planes)):
        return False
    return span.contains(linear)


def _way_down(claim: Claim, found: Contraction) -> str | None:
    """Return how a neuron that does not move could lower the loss, if a way is exhibited."""
    data = claim.data
    for j, direction in claim.ways:
        neuron = claim.neurons[j]
        u = [arb(x) for x in direction]
        samples = None
        if neuron.role == "dead":
            samples = [k for g in neuron.held for k in data.members[g]]
        elif neuron.role not in ("origin", "zero", "fading"):
            continue
        gain = psi(data, found.r_star, u, samples)
        # At zero it may take either sign.
        gain = neuron.sign * gain if neuron.role in ("dead", "origin") else abs(gain)
        if gain > 0:
            where = {"dead": "on its last hyperplane", "fading": "that shrinks to zero"}.get(
                neuron.role, "at the origin"
            )
            return f"neuron {j}, {where}, could lower the loss"
    return None


def _check_still(claim: Claim, found: Contraction) -> None:
    """Check that no neuron that does not move can lower the loss."""
    data, span = claim.data, found.basis.span
    assert span is not None

    checked: set[tuple[int, int]] = set()

    def repelled(sign: int, g: int, j: int) -> None:
        if (sign, g) in checked:
            return
        checked.add((sign, g))
        pull = sum((ball(s) * found.r_star[k] for k, s in data.kink(g)), arb(0))
        if not (sign * pull < 0 or span.contains(data.kink_column(g))):
            raise NotProvedError(f"neuron {j} might lower the loss at sample {data.leader[g]}")

    for kind in claim.kinds_of("dead", "origin", "zero", "fading"):
        j, neuron = kind[0], claim.neurons[kind[0]]
        planes: Sequence[int] = neuron.held
        if neuron.role in ("zero", "fading"):
            raise NotProvedError(f"neuron {j} is zero in the limit and may take either sign")
        if neuron.role == "origin":
            if data.planes < data.n:
                raise NotProvedError(f"neuron {j} is at the origin of data with parallel samples")
            planes = range(data.planes)
        for g in planes:
            repelled(neuron.sign, g, j)


def loss_of(data: Data, network: Network) -> arb:
    """Return the loss of a network of floats."""
    outputs = (data.x * matrix(network.W).transpose()).tolist()
    features = arb_mat([[_activated(data, s) for s in row] for row in outputs])
    h = (features * column(network.a)).entries()
    rest = [ball(y) - x for y, x in zip(data.y, h, strict=True)]
    return ball(data.weight) / 2 * dot(rest, rest)


def _check_better(claim: Claim, limit: arb) -> None:
    better = claim.better
    assert better is not None
    shapes = {len(w) for w in better.W}
    if len(better.a) != len(better.W) or shapes != {claim.data.d}:
        raise NotProvedError("the better network's shapes do not fit")
    if len(better.a) > len(claim.neurons):
        raise NotProvedError("the better network has more neurons")
    if not loss_of(claim.data, better) < limit:
        raise NotProvedError("the network that is exhibited is not better")
