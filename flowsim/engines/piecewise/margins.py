"""Margins ``nu_g . w`` of one neuron to hyperplanes, and their polynomials; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.jit import compiled, summing


@summing
def project_all(normals, w, out):  # pragma: no cover - compiled
    """Write ``nu_g . w`` for the first hyperplanes, as many as `out` has; normals (d, G)."""
    f, row = w[0], normals[0]
    for g in range(out.shape[0]):
        out[g] = f * row[g]
    for s in range(1, normals.shape[0]):
        f, row = w[s], normals[s]
        for g in range(out.shape[0]):
            out[g] += f * row[g]


@compiled
def project_some(normals, chosen, w, out):  # pragma: no cover - compiled
    """Write ``nu_g . w`` (c,) for the hyperplanes g of chosen (c,); all, if they are so many."""
    if out.shape[0] == normals.shape[1]:
        project_all(normals, w, out)
        return
    for c in range(out.shape[0]):
        g, s = chosen[c], 0.0
        for i in range(normals.shape[0]):
            s += normals[i, g] * w[i]
        out[c] = s


@compiled
def margin_polynomial(normals, g, W, h, out):  # pragma: no cover - compiled
    """Write the coefficients (order+1,) of ``nu_g . w`` in powers of time / h; W (order+1, d)."""
    power = 1.0
    for o in range(out.shape[0]):
        s = 0.0
        for i in range(normals.shape[0]):
            s += normals[i, g] * W[o, i]
        out[o] = s * power
        power *= h


@compiled
def norm(z):  # pragma: no cover - compiled
    """Return the Euclidean norm."""
    s = 0.0
    for i in range(z.shape[0]):
        s += z[i] ** 2
    return np.sqrt(s)
