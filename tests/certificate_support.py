"""Helpers of the tests of certificates; what they compute is independent of flowsim's proofs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb

import flowsim as fs
from flowsim.certificates.claim import Cell, Neuron
from flowsim.certificates.planes import Data


def random_system(seed: int, *, labels: str = "teacher") -> tuple[fs.TwoLayerReLU, fs.Dataset]:
    """Return a small-scale network and data with 5 to 30 samples, with a bias or without."""
    rng = np.random.default_rng(seed)
    n, d, m = int(rng.integers(5, 31)), int(rng.integers(2, 5)), int(rng.integers(20, 61))
    X = rng.standard_normal((n, d))
    if rng.integers(2):
        X[:, -1] = 1.0
    y = rng.standard_normal(n)
    if labels == "teacher":
        y = X @ rng.standard_normal(d) + 0.5 * y
    return fs.init.balanced(m, d, 1e-6, seed=seed), fs.Dataset(X, y)


def later(sol: fs.Solution) -> fs.Solution:
    """Return the run that goes on from a certified state until it rests."""
    return fs.resume(sol, end="rest", max_steps=sol.steps + 20_000)


def angles(first: fs.TwoLayerReLU, last: fs.TwoLayerReLU) -> np.ndarray:
    """Return how far each neuron has turned, of ``(w, sqrt(a^2 - |w|^2))`` where |a| >= |w|."""
    lifted = []
    for net in (first, last):
        w = net.direction[:, 1:]
        height = np.sqrt(np.maximum(net.direction[:, 0] ** 2 - np.sum(w**2, axis=1), 0.0))
        v = np.column_stack([w, height])
        lifted.append(v / np.maximum(np.linalg.norm(v, axis=1), 1e-300)[:, None])
    chord = np.linalg.norm(lifted[0] - lifted[1], axis=1)
    return 2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))


def bounds(certificate: fs.Certificate) -> dict[int, Any]:
    """Return, for each neuron whose cell is claimed, the hyperplanes that it may not reach."""
    claim = certificate.claim
    assert claim is not None
    out = {}
    for j, neuron in enumerate(claim.neurons):
        if neuron.role in ("core", "carried"):
            loose = {*neuron.walls, *neuron.open}
            out[j] = [g for g in range(claim.data.planes) if g not in loose]
    return out


def fractions(*numbers: float) -> tuple[Fraction, ...]:
    return tuple(Fraction(x) for x in numbers)


def data_of(rows: Sequence[tuple[float, ...]], y: tuple[float, ...], slope: float = 0.0) -> Data:
    return Data(
        tuple(fractions(*x) for x in rows), fractions(*y), Fraction(slope), Fraction(1, len(y))
    )


def neuron(
    role: str, a: float, w: tuple[float, ...], code: str, held: tuple[int, ...] = (), **planes
) -> Neuron:
    cell = Cell(tuple("-0+".index(side) - 1 for side in code), **planes)
    gap = arb(a * a - sum(x * x for x in w))
    return Neuron(role, 1 if a > 0 else -1, tuple(arb(x) for x in w), gap, cell, held)
