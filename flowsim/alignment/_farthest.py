"""How far the fields of all cells can be from a target: compiled circles, bounds over cones.

On a great circle the cells change one hyperplane at a time, so that sorting finds the farthest
field exactly (and in d = 2 that is all). Beyond what can be enumerated, circles through the best
cell so far give a lower bound, and subdivided cones of directions an upper one.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numba import njit

EPS = np.finfo(np.float64).eps
#: All signs of so many hyperplanes are tried to bound a field.
_ALL_SIGNS = 6


@njit(cache=True, nogil=True)
def _scan(alpha, beta, N, plus, minus, target):  # pragma: no cover - compiled
    """Visit all cells on the circle ``cos(phi) p + sin(phi) q``; alpha, beta = N p, N q.

    Returns the angle of the cell whose field is farthest from the target.
    """
    G, r = N.shape
    angle = np.empty(G)
    for g in range(G):
        angle[g] = np.arctan2(-alpha[g], beta[g]) % np.pi
    order = np.argsort(angle)
    D, total = np.zeros(r), np.zeros(r)
    for g in range(G):
        rises = beta[g] * np.cos(angle[g]) - alpha[g] * np.sin(angle[g]) > 0.0
        before = minus[g] if rises else plus[g]
        for u in range(r):
            D[u] += before * N[g, u]
            total[u] += (plus[g] + minus[g]) * N[g, u]
    best, where = -1.0, 0.0
    for i in range(G):
        g = order[i]
        rises = beta[g] * np.cos(angle[g]) - alpha[g] * np.sin(angle[g]) > 0.0
        step = plus[g] - minus[g] if rises else minus[g] - plus[g]
        here = 0.0
        opposite = 0.0
        for u in range(r):
            D[u] += step * N[g, u]
            here += (D[u] - target[u]) ** 2
            opposite += (total[u] - D[u] - target[u]) ** 2
        following = angle[order[i + 1]] if i + 1 < G else angle[order[0]] + np.pi
        if following - angle[g] <= 16 * EPS:  # one ray, up to rounding
            continue
        middle = 0.5 * (angle[g] + following)
        if here > best:
            best, where = here, middle
        if opposite > best:
            best, where = opposite, middle + np.pi
    return where


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of the cells of an arrangement, and the target that they are compared with.

    Parameters
    ----------
    N, plus, minus : (G, r), (G,), (G,)
        As for `flowsim.alignment.arrangement.Sweep`.
    target : (r,)
    """

    N: np.ndarray
    plus: np.ndarray
    minus: np.ndarray
    target: np.ndarray

    def at(self, w: np.ndarray) -> np.ndarray:
        """Return D (r,) at a direction inside a cell."""
        return np.where(self.N @ w > 0, self.plus, self.minus) @ self.N

    def distance(self, D: np.ndarray) -> float:
        return float(np.linalg.norm(D - self.target))

    def on_circle(self, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return the direction on the circle through orthonormal p, q with the farthest field."""
        angle = _scan(self.N @ p, self.N @ q, self.N, self.plus, self.minus, self.target)
        return np.cos(angle) * p + np.sin(angle) * q

    def search(self, starts: int, rng: np.random.Generator) -> np.ndarray:
        """Return the farthest field that circles find, each through the best direction so far.

        The first circle through a direction also passes the way that D deviates there; then they
        are random, until 4 r of them in a row have found nothing better.
        """
        r = self.N.shape[1]
        best = self.at(np.eye(r)[0])
        for _ in range(starts):
            w = _unit(rng.standard_normal(r))
            D, failures = self.at(w), 0
            way = D - self.target
            while failures < 4 * r:
                across = way - (way @ w) * w
                if np.linalg.norm(across) > 1e-8 * np.linalg.norm(way):
                    found = self.on_circle(w, _unit(across))
                    if self.distance(self.at(found)) > self.distance(D):
                        w, D, failures = found, self.at(found), 0
                        way = D - self.target
                        continue
                failures += 1
                way = rng.standard_normal(r)
            if self.distance(D) > self.distance(best):
                best = D
        return best

    def cone(self, edges: np.ndarray, cut: np.ndarray, decided: np.ndarray) -> _Cone:
        """Bound the distance over the directions in a simplicial cone.

        Parameters
        ----------
        edges : (r, r)
            Unit vectors, as rows.
        cut : (k,) int
            Hyperplanes that may cut it.
        decided : (r,)
            What all others contribute to the field there.

        Notes
        -----
        A hyperplane that does cut it contributes ``(center +- half) nu``. Few of them are bounded
        by all their signs, k of them by ``min(sum half, sqrt(k) |diag(half) nu|_2)``, with the
        spectral norm.
        """
        margins = self.N[cut] @ edges.T
        positive, negative = np.all(margins >= 0, axis=1), np.all(margins <= 0, axis=1)
        q = np.where(positive, self.plus[cut], np.where(negative, self.minus[cut], 0.0))
        decided = decided + q @ self.N[cut]
        cut = cut[np.flatnonzero((positive | negative) == 0)]
        center = decided + 0.5 * (self.plus[cut] + self.minus[cut]) @ self.N[cut]
        steps = (0.5 * np.abs(self.plus[cut] - self.minus[cut]))[:, None] * self.N[cut]
        if len(cut) <= _ALL_SIGNS:
            signs = np.array(list(product((1.0, -1.0), repeat=len(cut)))).reshape(
                2 ** len(cut), len(cut)
            )
            bound = float(np.max(np.linalg.norm(center + signs @ steps - self.target, axis=1)))
        else:
            spectral = np.sqrt(len(cut) * np.linalg.eigvalsh(steps.T @ steps)[-1])
            reach = min(float(np.sum(np.linalg.norm(steps, axis=1))), float(spectral))
            bound = self.distance(center) + reach
        return _Cone(bound, edges, cut, decided)

    def upper(self, best: np.ndarray, budget: int) -> tuple[np.ndarray, float]:
        """Bisect up to `budget` cones, the one with the worst bound first.

        They start as the orthants, or as one bound for the sphere if there are too many. Returns
        the farthest field known, `best` or that of a cone inside one cell, and an upper bound,
        both up to rounding.
        """
        r = self.N.shape[1]
        every, nothing = np.arange(len(self.N)), np.zeros(r)
        if 2**r > max(budget, 2):
            # Edges that span nothing: all hyperplanes count as cutting it.
            whole = np.vstack([np.ones(r), -np.ones(r)])
            return best, max(self.distance(best), self.cone(whole, every, nothing).bound)
        orthants = [np.diag(signs) for signs in product((1.0, -1.0), repeat=r)]
        cones = [self.cone(edges, every, nothing) for edges in orthants]
        heap = [(-cone.bound, i, cone) for i, cone in enumerate(cones)]
        heapq.heapify(heap)
        for i in range(budget):
            cone = heap[0][2]
            if cone.bound <= self.distance(best) * (1 + 1e-12):
                break
            if len(cone.cut) == 0:
                best = cone.decided
                break
            heapq.heappop(heap)
            for j, edges in enumerate(_halves(cone.edges)):
                half = self.cone(edges, cone.cut, cone.decided)
                heapq.heappush(heap, (-half.bound, len(cones) + 2 * i + j, half))
        return best, max(self.distance(best), heap[0][2].bound)


class _Cone(NamedTuple):
    bound: float
    edges: np.ndarray
    cut: np.ndarray
    decided: np.ndarray


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _halves(cone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bisect a cone across its widest edge."""
    cosines = cone @ cone.T
    i, j = np.unravel_index(np.argmin(cosines), cosines.shape)
    middle = _unit(cone[i] + cone[j])
    one, other = cone.copy(), cone.copy()
    one[i], other[j] = middle, middle
    return one, other
