"""The exact enumeration of extremal vectors for d = 2, which others are compared with."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import flowsim as fs
from derivations.alignment_fixed_points import attracted, extremal_vectors_2d


def listed(X, y) -> list[tuple]:
    names = {1: "1", 0: "b", -1: "0"}
    return [
        ("".join(names[code] for code in v.pattern), v.D, tuple(v.eta.values()), attracted(X, y, v))
        for v in extremal_vectors_2d(X, y)
    ]


def exactly(name: str) -> tuple:
    data = getattr(fs.datasets, name)()
    return data.X_exact, data.y_exact


def test_extremal_vectors_of_the_named_systems():
    assert listed(*exactly("three_points")) == [
        ("111", (Fraction("-31/120"), Fraction("2/3")), (), (1,))
    ]
    assert listed(*exactly("orthogonal_pair")) == [
        ("b1", (Fraction("1"), Fraction("1/2")), (Fraction("0"),), (1,)),
        ("1b", (Fraction("1/4"), Fraction("-1/2")), (Fraction("0"),), (-1,)),
    ]
    assert listed(*exactly("five_points")) == [
        ("00111", (Fraction("0.1"), Fraction("0.06")), (), (1,)),
        ("b1111", (Fraction("16/325"), Fraction("24/325")), (Fraction("48/91"),), (-1,)),
        ("11111", (Fraction("-0.05"), Fraction("0.14")), (), (1,)),
        ("1111b", (Fraction("-0.066"), Fraction("0.132")), (Fraction("0.8"),), (-1,)),
        ("11110", (Fraction("-0.13"), Fraction("0.1")), (), (1,)),
        ("111b0", (Fraction("-62/425"), Fraction("31/850")), (Fraction("7/34"),), (-1,)),
        ("11100", (Fraction("-0.15"), Fraction("0.02")), (), (1,)),
    ]


def test_extremal_vectors_of_xor_lie_on_shared_hyperplanes():
    X, y = exactly("xor")
    found = extremal_vectors_2d(X, y)
    assert [v.norm_squared for v in found] == [Fraction("1/8")] * 4
    assert [set(v.eta.values()) for v in found] == [{Fraction("1/2")}] * 4
    assert [v.tau for v in found] == [1, -1, 1, -1]
    assert [attracted(X, y, v) for v in found] == [(1,), (-1,), (1,), (-1,)]


def test_antipodal_data_of_a_linear_teacher_has_two_extremal_vectors():
    phi = np.deg2rad(np.linspace(-50.0, 50.0, 20))
    half = np.column_stack([np.cos(phi), np.sin(phi)])
    X = np.vstack([half, -half])
    y = X[:, 0] + 0.3 * np.random.default_rng(0).standard_normal(40)
    found = extremal_vectors_2d(X, y)
    assert sorted(v.tau for v in found) == [-1, 1]
    assert sorted(v.pattern for v in found) == [(-1,) * 20 + (1,) * 20, (1,) * 20 + (-1,) * 20]


def test_extremal_vectors_of_one_sample_and_of_no_labels():
    assert listed([[3, 4]], [2]) == [("1", (Fraction("6"), Fraction("8")), (), (1,))]
    assert listed([[3, 4]], [-2]) == [("1", (Fraction("-6"), Fraction("-8")), (), (-1,))]
    assert extremal_vectors_2d([[3, 4], [1, 0]], [0, 0]) == []


@pytest.mark.parametrize("seed", range(8))
def test_extremal_vectors_are_all_local_extrema_of_g_on_the_circle(seed):
    """A scan of G(w) = w.D(w) over angles finds as many, at the same places, of the same kind."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    X, y = rng.standard_normal((n, 2)), rng.standard_normal(n)
    step = 2 * math.pi / 200_003
    phi = step * np.arange(200_003)
    circle = np.column_stack([np.cos(phi), np.sin(phi)])
    G = np.maximum(circle @ X.T, 0.0) @ y / n
    before, after = np.roll(G, 1), np.roll(G, -1)
    live = np.abs(G) > 1e-9
    scan = sorted(
        [(phi[i], 1) for i in np.flatnonzero((before < G) & (after < G) & live)]
        + [(phi[i], -1) for i in np.flatnonzero((before > G) & (after > G) & live)]
    )
    found = []
    for v in extremal_vectors_2d(X, y):
        w = [v.tau * float(x) for x in v.D]
        [sign] = attracted(X, y, v)
        found.append((math.atan2(w[1], w[0]) % (2 * math.pi), sign))
    assert len(found) == len(scan) > 0
    for (place, sign), (scanned, kind) in zip(sorted(found), scan, strict=True):
        assert sign == kind
        assert abs(place - scanned) <= step
