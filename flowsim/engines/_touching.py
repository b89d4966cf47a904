"""Which neurons have come onto a hyperplane, compiled."""

from __future__ import annotations

from numba import njit


@njit(cache=True)
def touching(normals, code, fate, fresh, z, touch, out):  # pragma: no cover - compiled
    """Mark (in `out`, (m,) bool) living neurons that have newly come onto a hyperplane.

    `fresh` (m, G) remembers what has been dealt with until the margin has opened again.
    """
    hyperplanes, d = normals.shape
    for j in range(z.shape[0]):
        out[j] = False
        if fate[j] != 0:
            continue
        for g in range(hyperplanes):
            if code[j, g] == 0:
                continue
            s = 0.0
            for i in range(d):
                s += normals[g, i] * z[j, 1 + i]
            if abs(s) > touch:
                fresh[j, g] = False
            elif not fresh[j, g]:
                out[j] = True
