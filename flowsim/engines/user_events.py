"""Zeros of the user's functions along a run, as `scipy.integrate.solve_ivp` has them.

A function ``g(t, model)`` is sampled along the step's interpolant at Chebyshev points, and the
polynomial through the samples has its first roots isolated in the Bernstein basis, one after
another: two crossings inside a step do not hide each other. Each root is then refined on
states that the engine has integrated to. A zero at the start of the run is none, and one that
has been found does not count again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from flowsim.engines.refinement import secants
from flowsim.events import Event

#: Degrees of the polynomial through the samples, tried in turn; their points are nested.
DEGREES = (4, 8, 16)
#: The last two Chebyshev coefficients, relative to the distance from zero, of a good fit.
FIT = 1e-3
#: The same relative to the largest coefficient, where there is a zero.
SHARP = 1e-9
#: Steps are halved so often where no polynomial fits: fast oscillations, kinks, jumps.
HALVINGS = 6
#: Values below this part of the largest that the function has had are zero.
TOUCH = 1e-13
#: First secant, in parts of the step.
NUDGE = 1e-4
#: A refined zero stays this close to the interpolant's, in parts of the step.
MOST = 0.1

#: From a time after the start of a step to the model there.
Evaluate = Callable[[float], Any]


@dataclass(frozen=True)
class Hit:
    """A zero inside a step.

    Attributes
    ----------
    tau : float
        Time after the start of the step.
    function, component : int
        Who has it.
    before, after : int
        Signs.
    terminal : bool
        The run ends here.
    reach : float
        No other zero of the component is closer to `tau`.
    """

    tau: float
    function: int
    component: int
    before: int
    after: int
    terminal: bool
    reach: float

    def row(self, t: float) -> Event:
        """Return the event at the time `t`."""
        return Event(t, "user", self.function, self.component, self.before, self.after)


class UserEvents:
    """Watch the functions of one run.

    Parameters
    ----------
    functions : sequence of callables
        ``g(t, model)`` returns a number, or an array whose components are watched one by one.
        Attributes, as in SciPy: ``direction`` > 0 watches only rises through zero, < 0 only
        falls; ``terminal`` ends the run, True at the first crossing, a number at that one.

    Raises
    ------
    TypeError
        If one of them cannot be called.
    ValueError
        If ``terminal`` is a negative or a fractional number.
    """

    def __init__(self, functions: Sequence[Callable[[float, Any], Any]]) -> None:
        self.functions = list(functions)
        for function in self.functions:
            if not callable(function):
                raise TypeError(
                    "Argument `events` must hold functions g(t, model), but one is of type "
                    f"{type(function).__name__}."
                )
        self._direction = [_direction(g) for g in self.functions]
        self._left = [_patience(g) for g in self.functions]
        self._side: list[np.ndarray] = []  # signs that components have had last; 0: not yet one
        self._largest: list[np.ndarray] = []
        self._last: list[np.ndarray] | None = None

    def __bool__(self) -> bool:
        return bool(self.functions)

    def values(self, t: float, model: Any) -> list[np.ndarray]:
        """Return each function's components at a state.

        Raises
        ------
        ValueError
            If a component is not finite, or their number has changed.
        """
        found = [_numbers(i, g(t, model)) for i, g in enumerate(self.functions)]
        for i, value in enumerate(found):
            if not np.all(np.isfinite(value)):
                raise ValueError(
                    f"Argument `events` must have finite values, but function {i} has none at "
                    f"t = {t:.6g}."
                )
            if self._side and value.shape != self._side[i].shape:
                raise ValueError(
                    "Argument `events` must have the same number of components at all times, "
                    f"but function {i} has {len(value)} at t = {t:.6g}, not {len(self._side[i])}."
                )
        return found

    def inside(self, evaluate: Evaluate, t0: float, h: float) -> list[Hit]:
        """Return the zeros inside a step, in order, up to the first that is terminal.

        Parameters
        ----------
        evaluate : callable
            The model at a time in ``[0, h]`` after `t0`, on the step's interpolant.
        t0, h : float
            Start and length of the step. Steps come in order, each once, and each starts in
            the state that the last one ended in.
        """
        if not self.functions:
            return []
        if self._last is None:
            self._last = self.values(t0, evaluate(0.0))
            self._side = [np.zeros(len(value), dtype=np.int64) for value in self._last]
            self._largest = [np.abs(value) for value in self._last]
        return self._within(evaluate, t0, 0.0, h, HALVINGS)

    def _within(
        self, evaluate: Evaluate, t0: float, start: float, h: float, halvings: int
    ) -> list[Hit]:
        """Return the zeros in a part of the step; in its halves where no polynomial fits."""
        samples = _Samples(self.values, lambda x: evaluate(start + x), t0 + start, h, self._last)
        if halvings and not all(samples.fits(i, self._largest) for i in range(len(self.functions))):
            first = self._within(evaluate, t0, start, 0.5 * h, halvings - 1)
            if first and first[-1].terminal:
                return first
            return first + self._within(evaluate, t0, start + 0.5 * h, 0.5 * h, halvings - 1)
        hits = self._zeros(samples)
        return [replace(hit, tau=start + hit.tau) for hit in hits]

    def _zeros(self, samples: _Samples) -> list[Hit]:
        """Return the zeros of the polynomials through the samples."""
        hits = [hit for i in range(len(self.functions)) for hit in self._crossings(i, samples)]
        hits.sort(key=lambda hit: hit.tau)
        self._last = samples.at(1.0)
        ends = [i for i, hit in enumerate(hits) if hit.terminal]
        return hits[: ends[0] + 1] if ends else hits

    def _crossings(self, i: int, samples: _Samples) -> list[Hit]:
        c, values = samples.fit(i)
        np.maximum(self._largest[i], np.max(np.abs(values), axis=0), out=self._largest[i])
        known = self._side[i]
        # Most components are far from zero, and their coefficients alone prove it.
        quiet = known * c[0] > np.sum(np.abs(c[1:]), axis=0)
        hits = []
        for k in np.flatnonzero(~quiet):
            touch = TOUCH * float(self._largest[i][k])
            side = int(known[k]) or _first_side(values[:, k], touch)
            zeros = _roots(_to_powers(c[:, k]), side, touch) if side else []
            reach = _half_gaps(zeros)
            for x, near in zip(zeros, reach, strict=True):
                if side * self._direction[i] <= 0.0:
                    hits.append((x, int(k), side, near))
                side = -side
            known[k] = side
        out = []
        for x, k, side, near in sorted(hits):
            self._left[i] -= 1
            end = self._left[i] == 0
            out.append(Hit(x * samples.h, i, k, side, -side, end, near * samples.h))
        return out

    def refine(self, hit: Hit, t0: float, h: float) -> Generator[float, Any, float]:
        """Return when after `t0` a zero is, from states that the engine has integrated to.

        Yields times after `t0` and is sent the model there: secants from the zero on the
        interpolant, that stay closer to it than other zeros. Where they do not settle, as for
        a function with kinks, the interpolant's zero stands.
        """
        g = self.functions[hit.function]
        nudge = min(NUDGE * h, 0.5 * hit.reach)
        other = hit.tau + nudge if hit.tau + nudge <= h else hit.tau - nudge
        low, high = max(hit.tau - hit.reach, 0.0), min(hit.tau + hit.reach, h)
        # What moves by less cannot be told apart in time, nor the values there by `g`.
        search = secants(hit.tau, other, low, high, 4e-16 * max(abs(t0), h))
        tau = next(search)
        while True:
            model = yield tau
            values = np.asarray(g(t0 + tau, model), dtype=np.float64).ravel()
            try:
                tau = search.send(float(values[hit.component]))
            except StopIteration as end:
                return hit.tau if end.value is None else end.value


def _numbers(i: int, value: Any) -> np.ndarray:
    """Return what a function has returned as a vector of its own."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":  # not bools: they jump, and have no zero
            raise TypeError
        return array.astype(np.float64).ravel()
    except (TypeError, ValueError):
        raise TypeError(
            "Argument `events` must have functions that return real numbers or arrays of them, but "
            f"function {i} returns {type(value).__name__}."
        ) from None


def _direction(function: Any) -> float:
    value = getattr(function, "direction", 0.0)
    if not isinstance(value, Real) or value != value:
        raise ValueError(
            "Argument `events` must have functions whose `direction` is a number, but one has "
            f"{value!r}."
        )
    return float(value)


def _patience(function: Any) -> int:
    """Return at which crossing a function ends the run; 0 for never."""
    terminal = getattr(function, "terminal", False)
    if isinstance(terminal, bool | np.bool_):
        return 1 if terminal else 0
    if terminal is None:
        return 0
    count = float(terminal) if isinstance(terminal, Real) else -1.0
    if not (count >= 0.0 and count.is_integer()):
        raise ValueError(
            "Argument `events` must have functions whose `terminal` is True, False or a number "
            f"of crossings, but one has {terminal!r}."
        )
    return int(count)


class _Samples:
    """Values of all functions at nested Chebyshev points of one step, each computed once."""

    def __init__(
        self,
        values: Callable[[float, Any], list[np.ndarray]],
        evaluate: Evaluate,
        t0: float,
        h: float,
        first: list[np.ndarray] | None,
    ) -> None:
        self.values, self.evaluate, self.t0, self.h = values, evaluate, t0, h
        self._known = {} if first is None else {0.0: first}
        self._fine: set[int] = set()

    def at(self, x: float) -> list[np.ndarray]:
        """Return the values at the part `x` of the step."""
        if x not in self._known:
            model = self.evaluate(self.h if x == 1.0 else x * self.h)
            self._known[x] = self.values(self.t0 + x * self.h, model)
        return self._known[x]

    def fit(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return Chebyshev coefficients (p+1, K) of a function, and its values (p+1, K)."""
        c, values = np.zeros((1, 0)), np.zeros((1, 0))
        for degree in DEGREES:
            points = 0.5 - 0.5 * np.cos(np.pi * np.arange(degree + 1) / degree)
            values = np.array([self.at(float(x))[i] for x in points])
            c = np.linalg.solve(chebyshev.chebvander(2.0 * points - 1.0, degree), values)
            tail = np.sum(np.abs(c[-2:]), axis=0)
            clear = np.abs(np.sum(np.sign(values), axis=0)) == degree + 1
            distance = np.where(clear, np.min(np.abs(values), axis=0), 0.0)
            if np.all((tail <= FIT * distance) | (tail <= SHARP * np.max(np.abs(c), axis=0))):
                self._fine.add(i)
                break
        return c, values

    def fits(self, i: int, largest: list[np.ndarray]) -> bool:
        """Whether a polynomial fits a function: well, or to the rounding of what it has been."""
        c, _ = self.fit(i)
        if i in self._fine:
            return True
        tail = np.sum(np.abs(c[-2:]), axis=0)
        return bool(len(largest)) and bool(np.all(tail <= SHARP * largest[i]))


def _first_side(values: np.ndarray, touch: float) -> int:
    """Return the sign of the first value that is not zero to rounding; 0 if none is."""
    away = np.flatnonzero(np.abs(values) > touch)
    return int(np.sign(values[away[0]])) if len(away) else 0


def _to_powers(c: np.ndarray) -> np.ndarray:
    """Turn Chebyshev coefficients on [0, 1] into coefficients of powers."""
    series = chebyshev.Chebyshev(c, domain=[0.0, 1.0])
    power = series.convert(kind=np.polynomial.Polynomial).coef
    return np.concatenate([power, np.zeros(len(c) - len(power))])


def _roots(power: np.ndarray, side: int, touch: float) -> list[float]:
    """Return where ``side * c`` falls to zero, then ``-side * c``, and so on, in [0, 1]."""
    from flowsim.engines.piecewise.roots import binomials, first_exit  # its package imports this

    table = binomials(len(power) - 1)
    found: list[float] = []
    start = 0.0
    while start < 1.0:
        rest = _from(power, start)
        # Behind a zero, the value is one of rounding.
        near = max(touch, 2.0 * abs(float(rest[0]))) if found else touch
        x = float(first_exit(rest, side, near, table))
        if x < 0.0 or (found and x == 0.0):
            break
        start += x * (1.0 - start)
        found.append(start)
        side = -side
    return found


def _half_gaps(zeros: list[float]) -> list[float]:
    """Return half the distance from each zero to the nearest other, at most MOST."""
    gaps = [2.0 * MOST, *(b - a for a, b in pairwise(zeros)), 2.0 * MOST]
    return [min(MOST, 0.5 * a, 0.5 * b) for a, b in pairwise(gaps)][: len(zeros)]


def _from(power: np.ndarray, start: float) -> np.ndarray:
    """Return the coefficients of a polynomial on [start, 1], mapped to [0, 1]."""
    shifted = np.array(power)
    for low in range(len(shifted) - 1):  # Horner's scheme, once for each coefficient
        for i in range(len(shifted) - 2, low - 1, -1):
            shifted[i] += start * shifted[i + 1]
    return shifted * (1.0 - start) ** np.arange(len(shifted))
