"""The claim of a proposal for every state in an enclosure: a proof of one trajectory's end."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from flint import arb

from flowsim.certificates.balls import dot, dyadic
from flowsim.certificates.claim import Claim
from flowsim.certificates.proposal import NoClaimError

if TYPE_CHECKING:
    from flowsim.engines.validated.result import EnclosedState


def enclosing(claim: Claim, state: EnclosedState, planes: np.ndarray) -> Claim:
    """Return the claim with the enclosure's balls in place of the midpoints.

    Parameters
    ----------
    claim : Claim
        Of the midpoints.
    state : EnclosedState
    planes : (G,) int
        The enclosure's hyperplane of each of the claim's.

    Raises
    ------
    NoClaimError
        If the claim puts a neuron onto a hyperplane that it is not proved to lie on.
    """
    neurons = []
    for j, neuron in enumerate(claim.neurons):
        code = state.code[j][planes]
        if neuron.role != "dead" and any(code[g] != 0 for g in neuron.held):
            raise NoClaimError(f"neuron {j} is close to a hyperplane that it does not slide on")
        held = neuron.held
        if neuron.role == "dead":  # where it has died, not where it is merely near
            held = tuple(g for g in held if dot(claim.data.normal[g], state.W[j]).contains(0))
        gap = _exactly(state.gap[j])
        w, sign = tuple(state.W[j]), state.sign[j]
        neurons.append(neuron._replace(w=w, gap=gap, sign=sign, held=held))
    return replace(claim, neurons=tuple(neurons))


def _exactly(gap: Fraction) -> arb:
    """Return a dyadic fraction: sums of squares of floats are."""
    return dyadic(gap.numerator, 1 - gap.denominator.bit_length())
