"""Estimates from a study: probability of interpolation, threshold, growth with the dimension."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.stats

#: Draws from the posterior of the probabilities, and their seed.
DRAWS, DRAW_SEED = 2000, 0
#: What is outside of the reported intervals.
OUTSIDE = 0.05


def binomial_interval(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's 95 % confidence interval of probabilities; [0, 1] without trials.

    Parameters
    ----------
    successes, trials : integer arrays of one shape

    References
    ----------
    Wilson 1927; Brown, Cai & DasGupta 2001.
    """
    z = scipy.stats.norm.ppf(1.0 - OUTSIDE / 2.0)
    n = np.maximum(trials, 1)
    p = successes / n
    center = (p + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * np.sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n))
    known = trials > 0
    low = np.where(known & (successes > 0), center - half, 0.0)
    high = np.where(known & (successes < trials), center + half, 1.0)
    return low, high


def decreasing(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the decreasing sequence that is nearest to p in weighted squares."""
    return scipy.optimize.isotonic_regression(p, weights=weights, increasing=False).x


def half_crossing(n: np.ndarray, p: np.ndarray) -> float:
    """Return where a decreasing p passes 1/2, linear in ln n between numbers of samples.

    inf if it is above at the largest n, 0 if it is below at the smallest.
    """
    if p[-1] > 0.5:
        return float("inf")
    if p[0] < 0.5:
        return 0.0
    below = int(np.argmax(p <= 0.5))
    if below == 0 or p[below] == 0.5:
        # Where p is 1/2 for several n, the middle of them.
        flat = np.flatnonzero(p == 0.5)
        return float(np.exp(np.mean(np.log(n[flat[[0, -1]]]))))
    high, low = p[below - 1], p[below]
    part = (high - 0.5) / (high - low)
    return float(n[below - 1] * (n[below] / n[below - 1]) ** part)


@dataclass(frozen=True, eq=False)
class ThresholdEstimate:
    """The number of samples at which half of the runs interpolate.

    Attributes
    ----------
    n_star : float
        Where the decreasing (isotonic) regression of the observed fractions passes 1/2, between
        numbers of samples linear in ln n; inf beyond the largest n, 0 below the smallest.
    low, high : float
        95 % interval: the same of fractions drawn from their posteriors
        ``Beta(k + 1/2, N - k + 1/2)`` (Jeffreys), k of N runs interpolating.
    draws : (2000,)
        The thresholds of these draws.
    """

    n_star: float
    low: float
    high: float
    draws: np.ndarray

    @staticmethod
    def of(n: np.ndarray, successes: np.ndarray, trials: np.ndarray) -> ThresholdEstimate:
        """Estimate from k of N runs interpolating at each n; nan if there are no runs."""
        order = np.argsort(n)
        n, k, total = n[order].astype(float), successes[order], trials[order]
        n, k, total = n[total > 0], k[total > 0], total[total > 0]
        if len(n) == 0:
            nan = float("nan")
            return ThresholdEstimate(nan, nan, nan, np.full(DRAWS, nan))
        best = half_crossing(n, decreasing(k / total, total.astype(float)))
        rng = np.random.default_rng(DRAW_SEED)
        p = rng.beta(k + 0.5, total - k + 0.5, (DRAWS, len(n)))
        draws = np.array([half_crossing(n, decreasing(row, total.astype(float))) for row in p])
        # Order statistics, since interpolating between numbers of samples and inf makes no sense.
        low, high = np.quantile(draws, [OUTSIDE / 2.0, 1.0 - OUTSIDE / 2.0], method="nearest")
        return ThresholdEstimate(best, float(low), float(high), draws)


@dataclass(frozen=True)
class PowerLaw:
    """``n* = C d^exponent``, by least squares of logarithms.

    Attributes
    ----------
    factor, exponent : float
        nan with fewer than two dimensions, or where some threshold lies outside the numbers of
        samples.
    low, high : float
        95 % interval of the exponent, from the thresholds' posterior draws; all numbers where too
        many of these lie outside.
    """

    factor: float
    exponent: float
    low: float
    high: float

    @staticmethod
    def of(d: np.ndarray, estimates: list[ThresholdEstimate]) -> PowerLaw:
        """Fit the thresholds of several dimensions."""
        n_star = np.array([e.n_star for e in estimates])
        nan = float("nan")
        if len(n_star) < 2 or not np.all(np.isfinite(n_star) & (n_star > 0.0)):
            return PowerLaw(nan, nan, nan, nan)
        x = np.log(d.astype(float))
        exponent, constant = np.polyfit(x, np.log(n_star), 1)
        draws = np.array([e.draws for e in estimates])
        inside = np.all(np.isfinite(draws) & (draws > 0.0), axis=0)
        low, high = -float("inf"), float("inf")
        if np.mean(~inside) <= OUTSIDE / 2.0:
            slopes = np.polyfit(x, np.log(draws[:, inside]), 1)[0]
            low, high = np.quantile(slopes, [OUTSIDE / 2.0, 1.0 - OUTSIDE / 2.0])
        return PowerLaw(float(np.exp(constant)), float(exponent), float(low), float(high))
