"""Cells and faces of the data's hyperplanes against counts in closed form and linear programs."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.optimize import linprog

import flowsim as fs
from flowsim.alignment import arrangement
from flowsim.alignment._exact_faces import ExactArrangement, integer_normals
from flowsim.alignment._faces import Faces
from flowsim.alignment._rounded_faces import InconsistentError, RoundedArrangement

CORNERS = [list(corner) for corner in product((-1, 1), repeat=3)]
GRID = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
PENCIL = [[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, -1, 0], [0, 0, 1], [2, 1, 0]]
BIASED = [[-1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 1, 1], [0, -1, 1], [1, 1, 1]]
PLANE = [[1, 2, 3], [4, 5, 6], [5, 7, 9], [3, 3, 3], [1, 0, -1]]
LINE = [[1, 2, 3], [-2, -4, -6]]
SPECIAL = {
    "corners": CORNERS, "grid": GRID, "pencil": PENCIL, "biased": BIASED, "rank 2": PLANE,
    "rank 1": LINE,
}  # fmt: skip


def dataset(X) -> fs.Dataset:
    return fs.Dataset(X, [1] * len(X))


def gaussian(n: int, d: int, seed: int = 0) -> fs.Dataset:
    return dataset(np.random.default_rng(seed).standard_normal((n, d)))


def feasible(normals: np.ndarray, code: tuple[int, ...]) -> bool:
    """Whether some w has these signs, by linear programming: the largest margin is positive."""
    side = np.array(code)
    d = normals.shape[1]
    cut = side != 0
    result = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack([-side[cut, None] * normals[cut], np.ones(cut.sum())]),
        b_ub=np.zeros(cut.sum()),
        A_eq=np.column_stack([normals[~cut], np.zeros((~cut).sum())]) if np.any(~cut) else None,
        b_eq=np.zeros((~cut).sum()) if np.any(~cut) else None,
        bounds=[(-1, 1)] * d + [(None, 1)],
    )
    return result.status == 0 and -result.fun > 1e-7


def brute_force(normals: np.ndarray, sides=(-1, 1)) -> set[tuple[int, ...]]:
    return {c for c in product(sides, repeat=len(normals)) if feasible(normals, c)}


def codes(found: np.ndarray) -> set[tuple[int, ...]]:
    rows = {tuple(row) for row in found.tolist()}
    assert len(rows) == len(found)
    return rows


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 14])
def test_in_general_position_the_cells_number_covers_count(n, d):
    data = gaussian(n, d, seed=n)
    G = len(data.normals)  # for d = 1 all samples share one hyperplane
    expected = 2 * sum(comb(G - 1, k) for k in range(min(d, G)))
    assert arrangement.count(data) == expected
    assert len(codes(arrangement.cells(data))) == expected
    assert codes(arrangement.cells(data, exact=True)) == codes(arrangement.cells(data))
    assert arrangement.cell_count(G, min(d, G)) == expected


def test_large_arrangements_are_counted_without_being_stored():
    assert arrangement.count(gaussian(300, 3)) == 2 * (1 + 299 + comb(299, 2))
    assert arrangement.count(gaussian(25, 5)) == 2 * sum(comb(24, k) for k in range(5))


@pytest.mark.parametrize("d", [2, 3, 4])
def test_in_general_position_the_cells_are_those_of_linear_programming(d):
    data = gaussian(7, d, seed=d)
    assert codes(arrangement.cells(data)) == brute_force(data.normals)


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("rounded", [False, True])
def test_in_special_position_the_cells_are_those_of_linear_programming(name, rounded):
    X = np.array(SPECIAL[name])
    if rounded:  # a rotation leaves the hyperplanes where they meet only up to rounding
        X = X @ np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    data = dataset(X if rounded else X.tolist())
    expected = brute_force(data.normals)
    assert codes(arrangement.cells(data)) == expected
    assert arrangement.count(data) == len(expected)


@pytest.mark.parametrize("name", ["corners", "pencil", "rank 2", "rank 1"])
@pytest.mark.parametrize("kind", ["exact", "rounded"])
def test_all_faces_in_special_position_are_those_of_linear_programming(name, kind):
    data = dataset(SPECIAL[name][:6])
    faces: Faces = (
        ExactArrangement(integer_normals(data))
        if kind == "exact"
        else RoundedArrangement(data.normals)
    )
    # The origin's code is that of the whole lineality space.
    assert faces.faces() == brute_force(data.normals, (-1, 0, 1)) | {(0,) * len(data.normals)}


@pytest.mark.parametrize(("n", "d"), [(6, 2), (6, 3), (7, 4)])
def test_the_estimated_number_of_faces_is_theirs_in_general_position(n, d):
    faces = ExactArrangement(integer_normals(gaussian(n, d))).faces()
    assert len(faces) - 1 == arrangement.face_count(n, d)


def test_special_position_is_noticed_by_the_sweep():
    for name, X in SPECIAL.items():
        N = dataset(X).normals
        N = N @ arrangement.row_space(N)
        if name in ("corners", "rank 2", "rank 1"):  # any r of their normals are independent
            assert arrangement.Sweep(N).count() == arrangement.cell_count(*N.shape)
        else:
            with pytest.raises(arrangement.DegenerateError):
                arrangement.Sweep(N).count()


@pytest.mark.parametrize("apart", [1e-8, 1e-9])
@pytest.mark.parametrize("d", [4, 5])
def test_nearly_parallel_floats_are_cut_in_exact_arithmetic(apart, d):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3, d))
    data = dataset(np.vstack([X, X + apart * rng.standard_normal(X.shape)]))
    with pytest.raises(InconsistentError):
        RoundedArrangement(data.normals).faces()
    expected = codes(arrangement.cells(data, exact=True))
    assert codes(arrangement.cells(data)) == expected
    assert arrangement.count(data) == len(expected) == arrangement.cell_count(6, d)


def test_parallel_and_antipodal_samples_share_a_hyperplane():
    X = np.random.default_rng(4).standard_normal((5, 3))
    assert arrangement.count(dataset(np.vstack([X, -X, 2 * X]))) == arrangement.cell_count(5, 3)


def test_data_must_be_a_dataset():
    with pytest.raises(TypeError, match=r"^Argument `data` must be a flowsim\.Dataset, but"):
        arrangement.count(np.eye(2))  # type: ignore[arg-type]
