"""Checks of a trajectory against the definition of the flow, written without flowsim."""

from __future__ import annotations

import numpy as np
from support import codes, forward, half_mean_loss

import flowsim as fs

#: Angles to a hyperplane below which a sign is not read off a rounded state.
ANGLE = 1e-7


def margins(net: fs.TwoLayerReLU, X: np.ndarray) -> np.ndarray:
    """Return x.w / (||x|| ||(a, w)||): (m, n)."""
    return net.direction[:, 1:] @ (X / np.linalg.norm(X, axis=1, keepdims=True)).T


def assert_codes_are_signs(sol: fs.Solution, t: float) -> None:
    """The event table's codes at t are the signs of w.x; slides are on their hyperplanes."""
    X = np.asarray(sol.data.X)
    net, code = sol.network(t), codes(sol, t)
    margin = margins(net, X)
    clear = np.abs(margin) > ANGLE
    assert np.array_equal(np.sign(margin)[clear & (code != 0)], code[clear & (code != 0)])
    assert np.all(np.abs(margin[code == 0]) <= 1e-12)


def assert_loss_is_that_of_the_network(sol: fs.Solution, t: float) -> None:
    X, y = np.asarray(sol.data.X), np.asarray(sol.data.y)
    net = sol.network(t)
    loss = half_mean_loss(net, X, y)
    assert abs(sol.loss(t) - loss) <= 1e-12 * (loss + 0.5 * float(np.mean(y * y)))
    assert np.allclose(sol.residual(t), y - forward(net, X), rtol=0, atol=1e-12 * np.max(np.abs(y)))


def velocity(sol: fs.Solution, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Return D (m, d) by the definition, and whether each neuron's slides are admissible (m,).

    D_j is the least-norm element of {(1/n) sum_k c_k r_k x_k}, c_k free in [slope, 1] on the
    hyperplanes that j slides on; on those it must be reached with c_k inside the interval.
    """
    X, net = np.asarray(sol.data.X), sol.network(t)
    r = np.asarray(sol.data.y) - forward(net, X)
    slope, n = net.negative_slope, len(X)
    D = np.zeros((net.m, X.shape[1]))
    admissible = np.ones(net.m, dtype=bool)
    for j, code in enumerate(codes(sol, t)):
        c = np.where(code > 0, 1.0, np.where(code < 0, slope, 0.0))
        K = np.flatnonzero(code == 0)
        D[j] = (c * r) @ X / n
        if len(K):
            load, *_ = np.linalg.lstsq(X[K].T, -D[j])
            D[j] += load @ X[K]
            if np.linalg.matrix_rank(X[K]) == len(K):
                eta, size = n * load / r[K], np.max(np.abs(r))
                slack = 1e-9 * size / np.abs(r[K]) * np.linalg.norm(np.linalg.pinv(X[K]))
                slack *= np.max(np.abs(X))
                admissible[j] = np.all((eta >= slope - slack) & (eta <= 1 + slack))
    return D, admissible


def assert_the_flow_is_followed(sol: fs.Solution, t: float, h: float) -> None:
    """Central differences of the dense output over [t - h, t + h] are the field at t."""
    before, net, after = sol.network(t - h), sol.network(t), sol.network(t + h)
    D, admissible = velocity(sol, t)
    assert np.all(admissible), f"a slide is kept beyond its multiplier's range at t = {t}"
    scale = np.exp(net.log_norm)
    z = [np.column_stack([q.a, q.W]) for q in (before, net, after)]
    found = (z[2] - z[0]) / (2 * h)
    exact = np.column_stack([np.einsum("jd,jd->j", net.W, D), net.a[:, None] * D])
    rate = np.max(np.linalg.norm(D, axis=1), initial=0.0)
    error = np.linalg.norm(found - exact, axis=1)
    assert np.all(error <= scale * (1e-6 * rate + 1e-13 / h))


def longest_steps(sol: fs.Solution, count: int) -> list[tuple[float, float]]:
    """Return (middle, length) of the longest steps, in proportion to the rates in them."""
    t = sol.history.t
    length = np.diff(t)
    reach = length * sol.history.rate[:-1]
    picked = np.argsort(-reach)[:count]
    return [(float(t[i] + 0.5 * length[i]), float(length[i])) for i in picked if reach[i] > 1e-6]
