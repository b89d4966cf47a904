"""Extremal vectors: known ones exactly, and all of small random data by independent searches."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import sympy
from scipy.optimize import linprog

import flowsim as fs
from derivations.alignment_fixed_points import attracted, extremal_vectors_2d
from flowsim.alignment.extremal import (
    ExtremalVectors,
    _by_sampling,
    extremal_at,
    extremal_vectors,
    vectors_at,
)
from flowsim.cells import Cells

GROW, SHRINK = True, False


def small_data(seed: int, max_d: int = 3) -> fs.Dataset:
    """Gaussian inputs, a lattice, or a lattice with bias, exact; labels with ties and zeros."""
    rng = np.random.default_rng(seed)
    d, n = int(rng.integers(1, max_d + 1)), int(rng.integers(2, 6))
    kind = seed % 3
    X = rng.integers(-20, 21, (n, d)) if kind == 0 else rng.integers(-1, 2, (n, d))
    if kind == 2:
        X[:, -1] = 1
    X[~X.any(axis=1)] = 1
    return fs.Dataset(X.tolist(), rng.integers(-3, 4, n).tolist())


def by_pattern(vectors: ExtremalVectors) -> dict[str, Any]:
    found = {"".join("0b1"[side + 1] for side in v.pattern): v for v in vectors}
    assert len(found) == len(vectors)
    return found


# -- systems with known answers ---------------------------------------------------------------

FIVE = {
    "00111": (("1/10", "3/50"), {}, 1, GROW),
    "b1111": (("16/325", "24/325"), {0: "48/91"}, -1, SHRINK),
    "11111": (("-1/20", "7/50"), {}, 1, GROW),
    "1111b": (("-33/500", "33/250"), {4: "4/5"}, -1, SHRINK),
    "11110": (("-13/100", "1/10"), {}, 1, GROW),
    "111b0": (("-62/425", "31/850"), {3: "7/34"}, -1, SHRINK),
    "11100": (("-3/20", "1/50"), {}, 1, GROW),
}
HALF = Fraction(1, 2)
KNOWN = [
    (fs.datasets.three_points, {"111": (("-31/120", "2/3"), {}, 1, GROW)}),
    (
        fs.datasets.orthogonal_pair,
        {"b1": ((1, "1/2"), {0: 0}, 1, GROW), "1b": (("1/4", "-1/2"), {1: 0}, -1, GROW)},
    ),
    (fs.datasets.five_points, FIVE),
    (
        fs.datasets.xor,
        {
            "1b0b": (("1/4", "1/4"), {1: HALF, 3: HALF}, 1, GROW),
            "b0b1": (("1/4", "-1/4"), {0: HALF, 2: HALF}, -1, GROW),
            "0b1b": (("-1/4", "-1/4"), {1: HALF, 3: HALF}, 1, GROW),
            "b1b0": (("-1/4", "1/4"), {0: HALF, 2: HALF}, -1, GROW),
        },
    ),
    (
        fs.datasets.symmetric_linear,
        {"1100": ((HALF, 0), {}, 1, GROW), "0011": ((HALF, 0), {}, -1, GROW)},
    ),
    (fs.datasets.one_sample, {"1": ((6, 8), {}, 1, GROW)}),
]


@pytest.mark.parametrize(("make", "expected"), KNOWN, ids=lambda x: getattr(x, "__name__", ""))
def test_the_named_systems_have_these_extremal_vectors_and_none_more(make, expected):
    data = make()
    found = by_pattern(extremal_vectors(data, exact=True))
    assert found.keys() == expected.keys()
    rounded = by_pattern(extremal_vectors(fs.Dataset(data.X, data.y)))
    assert rounded.keys() == expected.keys()
    for pattern, (D, eta, attracts, grows) in expected.items():
        v, approximate = found[pattern], rounded[pattern]
        assert tuple(Fraction(x) for x in D) == v.exact.D
        assert v.exact.multipliers == {k: Fraction(x) for k, x in eta.items()}
        assert v.role == approximate.role == (attracts, grows)
        assert pytest.approx([float(Fraction(x)) for x in D], abs=1e-15) == approximate.D
        for k in range(data.n):
            expected_eta = float(Fraction(eta[k])) if k in eta else np.nan
            assert approximate.multipliers[k] == pytest.approx(expected_eta, abs=1e-14, nan_ok=True)


def test_norms_are_algebraic_and_angles_are_those_of_the_literature():
    found = extremal_vectors(fs.datasets.five_points(), exact=True)
    angles = [v.angle for v in found]
    assert angles == pytest.approx(
        [30.96375653, 56.30993247, 109.65382406, 116.56505118, 142.43140797, 165.96375653,
         172.40535663], abs=5e-9,
    )  # fmt: skip
    assert found[0].exact is not None
    assert found[0].exact.norm == sympy.sqrt(34) / 50
    assert found[1].exact is not None
    assert 8 * sympy.sqrt(13) / 325 == found[1].exact.G
    assert all(
        v.exact and v.exact.norm == sympy.sqrt(2) / 4
        for v in extremal_vectors(fs.datasets.xor(), exact=True)
    )


def test_the_forty_points_and_the_half_spaces_have_those_of_the_literature():
    (v,) = extremal_vectors(fs.datasets.stewart())
    assert pytest.approx([0.0860210214, 0.4299090662], abs=5e-11) == v.D
    assert np.all(v.pattern == 1)
    found = extremal_vectors(fs.datasets.half_spaces())
    assert [v.role.attracts for v in found] == [-1, 1]
    assert len(found) == 2


def test_dead_cells_are_listed_apart():
    found = extremal_vectors(fs.datasets.three_points())
    assert found.zero.tolist() == [[-1, -1, -1]]
    assert len(extremal_vectors(fs.datasets.three_points(), negative_slope=0.1).zero) == 0
    assert len(extremal_vectors(fs.Dataset([[1, 0], [0, 1]], [0, 0]))) == 0


# -- independent searches ---------------------------------------------------------------------


def by_linear_programming(data: fs.Dataset, slope: float = 0.0) -> dict[bytes, np.ndarray]:
    """Try all codes: is there a D in the field's box with tau D strictly inside the face?"""
    cells = Cells.of(data, slope, "half_mean", np.zeros(data.n))
    N, (plus, minus) = cells.normals, cells.sides(cells.y)
    G = len(N)
    found = {}
    for code in product((-1, 0, 1), repeat=G):
        c = np.array(code)
        cut, on = c != 0, c == 0
        base = cells.field(cells.y, c.astype(np.int8))
        for tau in (1, -1):
            if not np.any(cut):
                continue
            # maximise m over zeta: tau c_g nu_g.D >= m, nu_g.D = 0 on K
            pull = N @ N[on].T
            A = np.column_stack([-tau * c[cut, None] * pull[cut], np.ones(cut.sum())])
            low, high = np.minimum(plus, minus)[on], np.maximum(plus, minus)[on]
            result = linprog(
                np.append(np.zeros(on.sum()), -1.0),
                A_ub=A,
                b_ub=tau * c[cut] * (N[cut] @ base),
                A_eq=np.column_stack([pull[on], np.zeros(on.sum())]) if on.any() else None,
                b_eq=-N[on] @ base if on.any() else None,
                bounds=[*zip(low, high, strict=True), (None, 1)],
            )
            if result.status == 0 and -result.fun > 1e-7:
                D = base + result.x[:-1] @ N[on]
                found[c.astype(np.int8).tobytes()] = np.ldexp(D, cells.time_exponent)
    return found


@pytest.mark.parametrize("seed", range(24))
def test_small_data_have_those_of_linear_programming_and_none_more(seed):
    data = small_data(seed)
    slope = (0.0, 0.25)[seed % 2]
    expected = by_linear_programming(data, slope)
    for exact in (False, True):
        found = {
            v.code.tobytes(): v for v in extremal_vectors(data, negative_slope=slope, exact=exact)
        }
        assert found.keys() == expected.keys()
        for code, D in expected.items():
            assert pytest.approx(D, abs=1e-9 * np.abs(data.y).max()) == found[code].D


@pytest.mark.parametrize("seed", range(30))
def test_in_the_plane_they_are_those_of_the_derivation(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    X = rng.integers(-4, 5, (n, 2))
    X[~X.any(axis=1)] = 1
    data = fs.Dataset(X.tolist(), rng.integers(-3, 4, n).tolist())
    expected = {v.pattern: v for v in extremal_vectors_2d(data.X_exact, data.y_exact)}
    found = {tuple(v.pattern.tolist()): v for v in extremal_vectors(data, exact=True)}
    assert found.keys() == expected.keys()
    for pattern, v in expected.items():
        value = found[pattern].exact
        assert value is not None
        assert (value.D, value.sign, value.multipliers) == (v.D, v.tau, v.eta)
        signs = attracted(data.X_exact, data.y_exact, v)
        assert found[pattern].role.attracts == (signs[0] if signs else 0)


@pytest.mark.parametrize("seed", range(40))
def test_floats_and_exact_arithmetic_agree(seed):
    rng = np.random.default_rng(500 + seed)
    d = int(rng.integers(2, 5))
    n = int(rng.integers(3, 12 if d < 4 else 8))
    X = rng.integers(-1, 2, (n, d)).astype(float) if seed % 2 else rng.standard_normal((n, d))
    X[~X.any(axis=1)] = 1.0
    X = np.vstack([X, -X[: seed % 3]])  # antipodal samples share a hyperplane
    data = fs.Dataset(X, rng.standard_normal(len(X)))
    slope = (0.0, 0.0, 0.25)[seed % 3]
    every = extremal_vectors(data, negative_slope=slope, exact=True)
    some = extremal_vectors(data, negative_slope=slope)
    exact, found = ({v.code.tobytes(): v for v in vectors} for vectors in (every, some))
    assert found.keys() == exact.keys()
    assert sorted(some.zero.tolist()) == sorted(every.zero.tolist())
    for code, v in exact.items():
        assert found[code].role == v.role
        assert pytest.approx(v.D, abs=1e-13) == found[code].D


@pytest.mark.parametrize("seed", range(12))
def test_rotated_lattices_keep_theirs_though_they_meet_only_up_to_rounding(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 9))
    X, y = rng.integers(-1, 2, (n, 3)), rng.integers(-2, 3, n)
    X[~X.any(axis=1)] = 1
    Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    before = extremal_vectors(fs.Dataset(X.tolist(), y.tolist()))
    after = extremal_vectors(fs.Dataset(X @ Q, y))
    assert sorted(after.zero.tolist()) == sorted(before.zero.tolist())
    straight, rotated = by_pattern(before), by_pattern(after)
    assert rotated.keys() == straight.keys()
    for pattern, v in straight.items():
        assert rotated[pattern].role == v.role
        assert pytest.approx(v.D @ Q, abs=1e-13) == rotated[pattern].D


@pytest.mark.parametrize("seed", range(24))
def test_roles_are_local_maxima_of_g_around_the_direction(seed):
    """G at points nearby, on all faces: sign(a) = s is attracted iff s G is nowhere larger."""
    data = small_data(seed)
    if data.d == 1:
        return
    rng = np.random.default_rng(seed)
    for v in extremal_vectors(data, exact=True):
        ways = []
        for some in product((False, True), repeat=int(np.sum(v.code == 0))):
            inside = data.normals[np.flatnonzero(v.code == 0)[list(some)]]
            move = rng.standard_normal((200, data.d))
            ways.append(move - move @ np.linalg.pinv(inside) @ inside)
        w = v.direction + 1e-4 * np.vstack(ways)
        w /= np.linalg.norm(w, axis=1)[:, None]
        on = w @ data.X.T
        G = np.maximum(on, 0.0) @ data.y / data.n
        rounding = 1e-14 * np.sum(np.abs(data.y) * data.norms)
        maximal = [s for s in (1, -1) if np.all(s * (G - v.G) <= rounding)]
        assert maximal == ([v.role.attracts] if v.role.attracts else [])
        grows = v.role.attracts * v.G > 0 if v.role.attracts else None
        assert v.role.grows == grows


# -- scales, options, sampling ----------------------------------------------------------------


@pytest.mark.parametrize(("x_scale", "y_scale"), [(2.0**-400, 2.0**-100), (2.0**30, 2.0**200)])
def test_extremal_vectors_scale_with_the_data(x_scale, y_scale):
    data = fs.datasets.linear_teacher(30, 3, noise=2.0, seed=5)
    expected = extremal_vectors(data)
    found = extremal_vectors(fs.Dataset(data.X * x_scale, data.y * y_scale))
    assert len(found) == len(expected) > 2
    for v, scaled in zip(expected, found, strict=True):
        assert scaled.D / y_scale / x_scale == pytest.approx(v.D, rel=1e-13)
        assert scaled.norm / y_scale / x_scale == pytest.approx(v.norm, rel=1e-13)
        assert scaled.role == v.role


def test_the_mean_loss_doubles_them():
    data = fs.datasets.five_points()
    pairs = zip(extremal_vectors(data), extremal_vectors(data, loss="mean"), strict=True)
    assert all(np.array_equal(2 * v.D, doubled.D) for v, doubled in pairs)


def test_a_field_that_touches_a_hyperplane_belongs_to_the_face_inside_it():
    data = fs.datasets.orthogonal_pair()
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(2))
    on_the_ray = extremal_vectors(data)[0]
    beside = extremal_at(cells, np.array([1.0, 0.5001]), np.array([1, 1], dtype=np.int8))
    assert beside is None  # there D has the other sample in it
    beside = extremal_at(cells, np.array([1.0, 0.4999]), np.array([-1, 1], dtype=np.int8))
    assert beside is not None
    assert beside.code.tolist() == on_the_ray.code.tolist() == [0, 1]
    assert pytest.approx(np.array([1.0, 0.5]), abs=1e-15) == beside.D


def test_each_direction_has_its_entry_and_sampling_keeps_verified_ones_alone():
    data = fs.datasets.linear_teacher(30, 3, noise=2.0, seed=5)
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(data.n))
    every = extremal_vectors(data)
    directions = np.array([v.direction for v in every])
    again = vectors_at(cells, directions)
    assert [v.code.tolist() for v in again] == [v.code.tolist() for v in every]
    assert any(np.any(v.pattern == 0) for v in again)
    elsewhere = np.random.default_rng(0).standard_normal((500, 3))
    elsewhere /= np.linalg.norm(elsewhere, axis=1)[:, None]
    both = np.vstack([elsewhere, directions[:2]])
    some = _by_sampling(cells, both, 502)
    assert not some.complete
    codes = {v.code.tobytes() for v in every}
    assert {v.code.tobytes() for v in some} <= codes
    assert len(some) >= 2
    entries = vectors_at(cells, both)
    assert len(entries) == 502
    assert entries[500].code.tobytes() == every[0].code.tobytes()
    plain = [i for i, v in enumerate(entries) if v.code.tobytes() not in codes]
    assert len(plain) > 400
    for v, w in ((entries[i], both[i]) for i in plain):
        D = ((data.X @ w > 0) * data.y) @ data.X / data.n
        assert pytest.approx(D, rel=1e-13, abs=1e-14) == v.D
        assert np.allclose(v.direction, w, rtol=0, atol=1e-15)
        assert pytest.approx(w @ D, abs=1e-13) == v.G
        assert (v.role, np.isnan(v.multipliers).all()) == ((0, None), True)


def test_the_entry_of_a_given_face_has_its_projected_field():
    data = fs.datasets.three_points()
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(data.n))
    code = np.array([0, 1, -1], dtype=np.int8)
    (v,) = vectors_at(cells, np.array([[0.6, 0.8]]), code[None])
    assert v.code.tolist() == [0, 1, -1]
    free = data.X[1] * data.y[1] / 3
    nu = data.normals[0]
    assert pytest.approx(free - (nu @ free) * nu, abs=1e-15) == v.D


@pytest.mark.parametrize("d", [4, 5])
@pytest.mark.parametrize("apart", [1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("seed", range(3))
def test_nearly_parallel_floats_have_those_of_exact_arithmetic(d, apart, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((3, d))
    X = np.vstack([X, X + apart * rng.standard_normal(X.shape)])
    data = fs.Dataset(X, rng.standard_normal(6))
    found, exact = (extremal_vectors(data, exact=e, samples=0) for e in (False, True))
    assert [v.code.tolist() for v in found] == [v.code.tolist() for v in exact]
    assert [v.role for v in found] == [v.role for v in exact]
    assert np.array_equal(found.zero, exact.zero)
    with pytest.raises(ValueError, match="Argument `max_faces` must be at least"):
        extremal_vectors(data, samples=0, max_faces=2000)


@pytest.mark.parametrize(("k", "r", "role"), [(12, 4, (-1, SHRINK)), (40, 9, (0, None))])
def test_roles_along_dependent_hyperplanes_are_decided_or_left_open_when_too_many(k, r, role):
    """G falls from w = e on no ray: it grows by sum_k y_k |u_k . v|, so that only a < 0 stays."""
    U = np.random.default_rng(k).standard_normal((k, r))
    X = np.zeros((2 * k + 1, r + 1))
    X[:k, :r], X[k:-1, :r], X[-1, r] = U, -U, 1.0
    data = fs.Dataset(X, np.ones(2 * k + 1))
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(data.n))
    v = extremal_at(cells, np.eye(r + 1)[r])
    assert v is not None
    assert v.code.tolist() == [0] * k + [1]
    assert v.role == role


def test_tables_state_all_of_it():
    found = extremal_vectors(fs.datasets.five_points(), exact=True)
    assert len(repr(found).splitlines()) == 9
    assert "(16/325, 24/325)" in repr(found)
    assert r"\tfrac{16}{325}" in found.to_latex()
    assert repr(extremal_vectors(fs.datasets.three_points())).startswith(
        "1 nonzero extremal vector,"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative_slope": 1.0}, r"Argument `negative_slope` must be in \[0, 1\), but"),
        ({"loss": "sum"}, "Argument `loss` must be one of half_mean, mean, but"),
        ({"method": "guess"}, "Argument `method` must be one of auto, enumerate, sample, but"),
        ({"method": "enumerate", "max_faces": 3}, "Argument `max_faces` must be at least"),
        ({"exact": True, "max_faces": 3}, "Argument `max_faces` must be at least"),
        ({"exact": True, "method": "sample"}, "Argument `method` must not be"),
        ({"max_faces": "a"}, "Argument `max_faces` must be a real number, but"),
        ({"max_faces": None}, "Argument `max_faces` must be a real number, but"),
        ({"max_faces": np.nan}, "Argument `max_faces` must be a number, but"),
        ({"negative_slope": "x"}, "Argument `negative_slope` must be a real number, but"),
        ({"negative_slope": None}, "Argument `negative_slope` must be a real number, but"),
        ({"exact": "no"}, "Argument `exact` must be True or False, but"),
        ({"seed": -1}, "Argument `seed` must be at least 0, but"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        extremal_vectors(fs.datasets.five_points(), **options)


def test_data_must_be_a_dataset():
    with pytest.raises(TypeError, match="Argument `data` must be"):
        extremal_vectors(np.eye(2))  # type: ignore[arg-type]
