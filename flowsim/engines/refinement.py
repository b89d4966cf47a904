"""Roots of functions whose values come from elsewhere: search as a generator."""

from __future__ import annotations

from collections.abc import Generator

#: Refinements by the secant method before it counts as not settling.
SECANTS = 8


def secants(
    x: float, other: float, low: float, high: float, resolution: float
) -> Generator[float, float, float | None]:
    """Search for a root by secants from two guesses, `x` the better one.

    Yields places, is sent the function's values there, and returns the root: where the
    secant moves by less than `resolution`. None if it leaves ``[low, high]`` or does not settle.
    """
    there = yield other
    value = yield x
    for _ in range(SECANTS):
        if value == 0.0:
            return x
        if value == there:
            return None
        new = x - value * (x - other) / (value - there)
        if not low <= new <= high:
            return None
        if abs(new - x) <= resolution:
            return new
        other, there, x = x, value, new
        value = yield x
    return None
