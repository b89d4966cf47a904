"""The codes of cells: what they mean, and where two differ, a run of them at once; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.jit import inlined

#: Codes of a run: that many are compared without a branch, which fills vector registers. They are
#: counted in a byte.
RUN = 64


@inlined
def slope_at(side, slope):  # pragma: no cover - compiled
    """Return the slope of sigma on a side, 0 on a slide."""
    return 1.0 * (side > 0) + slope * (side < 0)


@inlined
def differences(a, b, limit):  # pragma: no cover - compiled
    """Return in how many places a and b differ, or `limit` if that is less."""
    count, runs = 0, a.shape[0] - a.shape[0] % RUN
    for k0 in range(0, runs, RUN):
        if count >= limit:
            return limit
        own, other, some = a[k0 : k0 + RUN], b[k0 : k0 + RUN], np.uint8(0)
        for k in range(RUN):
            some += np.uint8(own[k] != other[k])
        count += some
    for k in range(runs, a.shape[0]):
        count += a[k] != b[k]
    return min(count, limit)


@inlined
def list_differences(a, b, out):  # pragma: no cover - compiled
    """List in `out` the places where a and b differ; return how many."""
    count, runs = 0, a.shape[0] - a.shape[0] % RUN
    for k0 in range(0, runs, RUN):
        own, other, some = a[k0 : k0 + RUN], b[k0 : k0 + RUN], np.uint8(0)
        for k in range(RUN):
            some |= np.uint8(own[k] != other[k])
        for k in range(k0, k0 + RUN if some else k0):
            if a[k] != b[k]:
                out[count] = k
                count += 1
    for k in range(runs, a.shape[0]):
        if a[k] != b[k]:
            out[count] = k
            count += 1
    return count


@inlined
def list_zeros(a, out):  # pragma: no cover - compiled
    """List in `out` the places where a is 0; return how many."""
    count, runs = 0, a.shape[0] - a.shape[0] % RUN
    for k0 in range(0, runs, RUN):
        own, some = a[k0 : k0 + RUN], np.uint8(0)
        for k in range(RUN):
            some |= np.uint8(own[k] == 0)
        for k in range(k0, k0 + RUN if some else k0):
            if a[k] == 0:
                out[count] = k
                count += 1
    for k in range(runs, a.shape[0]):
        if a[k] == 0:
            out[count] = k
            count += 1
    return count
