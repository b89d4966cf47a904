"""Selection on hyperplanes against a brute-force minimal norm over the neighbouring cells."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import lsq_linear

import flowsim as fs
from flowsim.cells import Cells, multiplier_map, projector
from flowsim.events import ALIVE, DEAD, ORIGIN
from flowsim.selection import _box_least_squares, minimal_norm, select


def cells_of(X, y, slope: float = 0.0) -> Cells:
    data = fs.Dataset(X, y)
    return Cells.of(data, slope, "half_mean", np.zeros(data.n))


def on_planes(rng: np.random.Generator, d: int, k: int, n: int, sign: float):
    """Random data, a residual that attracts on k of n hyperplanes, a code with these touched."""
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n)
    y[:k] = -sign * np.abs(y[:k])
    cells = cells_of(X, y)
    null = np.linalg.svd(X[:k])[2][k:]
    w = rng.standard_normal(len(null)) @ null
    code = np.sign(cells.normals @ w).astype(np.int8)
    code[:k] = 0
    code[-1] = 1  # one sample is on for certain: not dead
    return cells, code, np.arange(k)


def field_of(cells: Cells, code: np.ndarray) -> np.ndarray:
    p, _ = projector(cells.normals[code == 0])
    return p @ cells.field(cells.y, code)


@pytest.mark.parametrize("seed", range(40))
def test_attracting_hyperplanes_give_the_minimal_norm_over_the_box(seed):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 6))
    k = int(rng.integers(1, d))
    sign = float(rng.choice([-1, 1]))
    cells, code, touched = on_planes(rng, d, k, 8, sign)
    chosen = select(cells, cells.y, code, touched, sign)
    plus, minus = cells.sides(cells.y)
    base = cells.field(cells.y, code)

    # D(eta) = base + sum (eta q^+ + (1 - eta) q^-) nu, an independent bounded solver
    steps = ((plus - minus)[:k, None] * cells.normals[:k]).T
    corner = base + minus[:k] @ cells.normals[:k]
    best = lsq_linear(steps, -corner, (0.0, 1.0), tol=1e-15)
    expected = np.linalg.norm(steps @ best.x + corner)
    assert np.linalg.norm(field_of(cells, chosen.code)) == pytest.approx(expected, rel=1e-9)
    assert chosen.fate == ALIVE
    assert not chosen.ambiguous


@pytest.mark.parametrize("seed", range(40))
def test_the_chosen_cell_is_kept_by_its_own_field(seed):
    """Sides agree with their velocities, multipliers with their intervals; mixed labels too."""
    rng = np.random.default_rng(100 + seed)
    d, n = 4, 9
    cells, code, touched = on_planes(rng, d, 3, n, 1.0)
    r = rng.standard_normal(n)
    came = code.copy()
    came[0] = rng.choice([-1, 1])
    sign = float(rng.choice([-1, 1]))
    chosen = select(cells, r, came, touched, sign)
    plus, minus = cells.sides(r)
    slides = np.flatnonzero(chosen.code == 0)
    base = cells.field(r, chosen.code)
    D = projector(cells.normals[slides])[0] @ base
    velocity = sign * (cells.normals @ D)
    for g in touched:
        if chosen.code[g] != 0:
            assert velocity[g] * chosen.code[g] > 0
    if len(slides):
        zeta = multiplier_map(cells.normals[slides]) @ base
        low, high = np.minimum(plus, minus)[slides], np.maximum(plus, minus)[slides]
        assert np.all((low <= zeta) & (zeta <= high))


def test_pivoting_agrees_with_every_active_set():
    """The box least squares equals the best of all 3^k active sets, tiny intervals included."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        k, d = 4, 6
        normals = rng.standard_normal((k, d))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        base = rng.standard_normal(d)
        low = rng.standard_normal(k)
        high = low + np.abs(rng.standard_normal(k)) * 10.0 ** rng.integers(-12, 1, size=k)
        found = _box_least_squares(normals, base, (low, high), 1e-15)
        best = np.inf
        for places in product((-1, 0, 1), repeat=k):
            place = np.array(places)
            zeta = np.where(place < 0, low, high)
            free = place == 0
            held = base + zeta[~free] @ normals[~free]
            if np.any(free):
                zeta[free] = multiplier_map(normals[free]) @ held
            if np.all((low - 1e-14 <= zeta) & (zeta <= high + 1e-14)):
                best = min(best, float(np.linalg.norm(base + zeta @ normals)))
        assert np.linalg.norm(found) == pytest.approx(best, rel=1e-12)


def test_ties_slide_and_deaths_do_not():
    """The orthogonal pair: the off velocity is exactly zero. It slides while the other is on."""
    data = fs.datasets.orthogonal_pair()
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(2))
    a_positive = select(cells, cells.y, np.array([1, 1], dtype=np.int8), np.array([0]), 1.0)
    assert a_positive.code.tolist() == [0, 1]
    off = np.array([1, -1], dtype=np.int8)
    dies = select(cells, cells.y, off, np.array([0]), 1.0)
    assert (dies.fate, dies.code.tolist()) == (DEAD, [-1, -1])


def test_a_leaky_neuron_never_dies():
    data = fs.datasets.orthogonal_pair()
    cells = Cells.of(data, 0.1, "half_mean", np.zeros(2))
    chosen = select(cells, cells.y, np.array([1, -1], dtype=np.int8), np.array([0]), 1.0)
    assert chosen.fate == ALIVE


def test_a_repulsive_start_goes_off_and_says_so():
    """Residual positive, a positive: both velocities point away; sigma'(0) = 0 decides."""
    cells = cells_of([[1.0, 0.0], [0.6, 0.8]], [1.0, -1.6])
    chosen = select(cells, cells.y, np.array([0, 1], dtype=np.int8), np.array([0]), 1.0)
    assert chosen.code.tolist() == [-1, 1]
    assert chosen.ambiguous


def test_at_the_origin_a_neuron_stays_where_all_samples_can_be_off():
    cells = cells_of([[1.0, 1.0], [-1.0, 1.0]], [1.0, 1.0])
    code, both = np.zeros(2, dtype=np.int8), np.array([0, 1])
    assert select(cells, cells.y, code, both, 1.0, at_origin=True).fate == ORIGIN


def test_at_the_origin_a_neuron_leaves_along_a_descent_direction():
    """Inputs all around: no cell is off, and y = |x_1| pulls a neuron with a > 0 outward."""
    X = [[1.0, 0.2], [-1.0, 0.3], [0.1, -1.0]]
    cells = cells_of(X, [1.0, 1.0, 1.0])
    chosen = select(cells, cells.y, np.zeros(3, dtype=np.int8), np.arange(3), 1.0, at_origin=True)
    assert chosen.fate == ALIVE
    assert np.any(chosen.code != 0)
    D = field_of(cells, chosen.code)
    sides = np.sign(cells.normals @ D)
    assert np.all((chosen.code == 0) | (sides == chosen.code))


def test_minimal_norm_of_a_convex_local_loss_is_that_of_the_box():
    """Three lines through one point (dependent normals), all attracting."""
    angles = np.deg2rad([0.0, 60.0, 120.0])
    normals = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(3)])
    base = np.array([0.1, -0.05, 0.7])
    plus, minus = np.full(3, -1.0), np.full(3, 0.5)
    found = minimal_norm(normals, base, plus, minus, 1.0)
    np.testing.assert_allclose(found, [0.0, 0.0, 0.7], atol=1e-9)
