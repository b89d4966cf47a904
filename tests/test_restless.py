"""Whoever comes to a hyperplane in a step is among the restless."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from flowsim.cells import TOUCH
from flowsim.engines.piecewise.motion import TILE, tile_of
from flowsim.engines.piecewise.restless import LINES, list_restless

M, PLANES, H, UNIT = 300, 40, 0.8, 0.5


def _group(d: int, spread: float, seed: int):
    """Return hyperplanes, balanced neurons of one cell around a direction, and that cell."""
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((d, PLANES))
    normals /= np.linalg.norm(normals, axis=0)
    centre = rng.standard_normal(d)
    centre /= np.linalg.norm(centre)
    code = np.where(centre @ normals > 0.0, 1, -1).astype(np.int8)
    w = centre + spread * rng.standard_normal((40 * M, d))
    w = w[np.all(code * (w @ normals) > 0.0, axis=1)][:M]
    w /= np.sqrt(2.0) * np.linalg.norm(w, axis=1)[:, None]
    z = np.column_stack([np.linalg.norm(w, axis=1), w])
    return normals, z, code, centre


def _listed(normals, z, code, D, balance=None):
    m, d = len(z), len(normals)
    out = np.empty(m, np.int64)
    count = list_restless(
        H, UNIT, 0, m, np.arange(m), z, np.zeros(m, np.int64) if balance is None else balance, D,
        normals, code, TOUCH, tile_of(d, TILE), np.empty((LINES, TILE)), np.empty(PLANES),
        np.empty(PLANES, np.int64), np.empty(m), out,
    )  # fmt: skip
    return out[:count]


def _least_margin(normals, z, code, D):
    """Return the least margin (m,) on the way, by a general solver."""
    m, d = len(z), len(normals)

    def field(t, flat):
        now = np.polynomial.polynomial.polyval(t, D)
        a, w = flat[:m], flat[m:].reshape(m, d)
        return UNIT * np.concatenate([w @ now, np.outer(a, now).ravel()])

    found = solve_ivp(
        field, (0.0, H), np.concatenate([z[:, 0], z[:, 1:].ravel()]), rtol=1e-10, atol=1e-12,
        t_eval=np.linspace(0.0, H, 400),
    )  # fmt: skip
    w = found.y[m:].reshape(m, d, -1)
    return np.min(code[None, :, None] * np.einsum("mdt,dg->mgt", w, normals), axis=(1, 2))


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize(("spread", "size"), [(0.01, 0.3), (0.2, 0.3), (0.2, 2.0)])
def test_whoever_crosses_is_listed(d: int, spread: float, size: float) -> None:
    met = 0
    for seed in range(4):
        normals, z, code, centre = _group(d, spread, seed)
        rng = np.random.default_rng(100 + seed)
        D = size * rng.standard_normal((8, d)) / np.arange(1, 9)[:, None] ** 2
        D[0] += size * centre
        crossing = np.flatnonzero(_least_margin(normals, z, code, D) < -1e-9)
        met += len(crossing)
        assert set(crossing) <= set(_listed(normals, z, code, D))
    assert met > 0 or (spread, size) == (0.01, 0.3)


def test_aligned_neurons_are_not_listed() -> None:
    """Their field is large, but they turn by next to nothing."""
    normals, z, code, centre = _group(3, 1e-4, seed=1)
    D = np.zeros((8, 3))
    D[0] = centre
    least = np.min(np.abs(z[:, 1:] @ normals), axis=1)
    assert np.min(least) > 1e-3  # the cell is not as small as the group
    assert len(_listed(normals, z, code, D)) == 0


def test_neurons_that_are_not_balanced_are_all_listed() -> None:
    normals, z, code, _ = _group(3, 1e-4, seed=1)
    balance = np.zeros(len(z), np.int64)
    balance[[3, 200]] = 1, -1
    np.testing.assert_array_equal(
        _listed(normals, z, code, np.full((8, 3), 1e-9), balance), [3, 200]
    )


def test_a_member_near_a_hyperplane_that_the_first_is_far_from_is_listed() -> None:
    angle = np.array([0.3, 1e-4])  # above the plane of normal (0, 1), towards which they turn
    w = np.column_stack([np.cos(angle), np.sin(angle)]) / np.sqrt(2.0)
    z = np.column_stack([np.linalg.norm(w, axis=1), w])
    normals = np.repeat([[0.0], [1.0]], PLANES, axis=1)
    D = np.zeros((8, 2))
    D[0, 1] = -1e-3
    np.testing.assert_array_equal(_listed(normals, z, np.ones(PLANES, np.int8), D), [1])
