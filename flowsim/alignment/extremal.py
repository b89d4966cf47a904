"""Extremal vectors: the directions that early alignment can end in.

With the residual frozen at y, the field of a neuron in direction w is

    D(w) = weight * sum_k c_k y_k x_k,    c_k = sigma'(w . x_k),

a set if w lies on hyperplanes: hyperplane g then contributes ``zeta_g nu_g`` with any ``zeta_g``
between the ``q_g^-`` and ``q_g^+`` of its sides. A vector D != 0 is *extremal* if for some unit w

    D in D(w)  and  D = +-|D| w                                                       (1)

(Boursier & Flammarion, arXiv 2410.02348, definition 1): w is a critical point of
``G(w) = w . D(w)`` on the sphere. In the interior of a cell, (1) says that D or -D lies in it. On
hyperplanes, D is the projection of the cell's field on their intersection. Some D may be extremal
at both w and -w; these are two entries.

Every face of the hyperplanes' arrangement holds at most one critical direction with D != 0, so
that visiting the faces finds all: proposals come from a compiled sweep with tolerances, and
`extremal_at` decides each up to rounding, ties included.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from math import comb
from typing import Any

import numpy as np

from flowsim._arguments import flag, one_of, real, scalar_labels, whole
from flowsim.alignment import arrangement
from flowsim.alignment._exact_faces import ExactArrangement, integer_normals
from flowsim.alignment._faces import Code, compose
from flowsim.alignment._rounded_faces import InconsistentError, RoundedArrangement
from flowsim.alignment.critical import extremal_at as extremal_at
from flowsim.alignment.critical import plain_vector
from flowsim.alignment.exact import Found, enumerate_exactly
from flowsim.alignment.roles import Role as Role
from flowsim.alignment.shares import random_ends, with_shares
from flowsim.alignment.vectors import ExtremalVector as ExtremalVector
from flowsim.alignment.vectors import ExtremalVectors as ExtremalVectors
from flowsim.cells import RANK_TOLERANCE, Cells
from flowsim.data import Dataset

#: Visits in exact arithmetic are this much dearer than compiled ones.
_EXACT_COST = 20
#: Rational data with fewer visits than this, a tenth of a second, are not worth a compilation.
_QUICK = 3000


def extremal_vectors(
    data: Dataset,
    *,
    negative_slope: float = 0.0,
    loss: str = "half_mean",
    exact: bool = False,
    method: str = "auto",
    max_faces: int = 20_000_000,
    samples: int = 10_000,
    seed: int = 0,
) -> ExtremalVectors:
    """Find the extremal vectors of a data set, one entry for each critical direction.

    ``D = weight sum_k c_k y_k x_k = +-|D| w`` with ``c_k = sigma'(w . x_k)``, see the module.

    Parameters
    ----------
    data : Dataset
        The data.
    negative_slope : float
        Slope of the activation for negative inputs, in [0, 1).
    loss : {"half_mean", "mean"}
        ``weight`` is 1/n for ``(1/2n) sum r^2`` and 2/n for ``(1/n) sum r^2``.
    exact : bool
        Decide everything in exact arithmetic, with floats taken as their binary values.
    method : {"auto", "enumerate", "sample"}
        Visit all faces, or follow the alignment flow of random neurons, which may miss some.
        "auto" enumerates if `max_faces` allows.
    max_faces : int
        The largest number of faces to visit. One in exact arithmetic, also used for rational
        inputs in special position and for floats so nearly in it that rounding does not tell,
        counts as 20.
    samples, seed : int
        Number of random balanced neurons (`flowsim.init.balanced`) that are followed to find
        the shares, and vectors if sampling, and the seed of their draw. 0 for no shares.

    Raises
    ------
    TypeError
        If `data` is not a Dataset, or an option is of another type.
    ValueError
        If an option is not among its values, or there are more faces than `max_faces` and they
        must be enumerated.

    Notes
    -----
    The random neurons are followed in float64 even if `exact`. Where hyperplanes meet up to
    rounding, ties may then go another way than among the faces, and neurons end in directions
    that are none of the vectors: `ExtremalVectors.other_share` says how many.

    References
    ----------
    Boursier & Flammarion, arXiv 2410.02348 and 2401.10791; roles: `flowsim.alignment.roles`.
    """
    slope = _check(data, negative_slope, loss, exact, method)
    real("max_faces", max_faces)
    samples = whole("samples", samples, 1 if method == "sample" else 0)
    seed = whole("seed", seed, 0)
    cells = Cells.of(data, slope, loss, np.zeros(data.n))
    if not np.any(cells.y):
        none = _collect(cells, [], True, "exact", np.empty((0, data.n), np.int8), 0)
        return replace(none, dead_share=1.0, other_share=0.0) if samples else none
    vectors = None
    if method != "sample":
        required = exact or method == "enumerate" or samples == 0
        vectors = _by_faces(data, cells, loss, exact, max_faces, required)
    if samples == 0:
        assert vectors is not None
        return vectors
    ends = random_ends(data, slope, loss, samples, seed)
    if vectors is None:
        vectors = _by_sampling(cells, ends.direction, samples)
    return with_shares(vectors, ends)


def _by_faces(
    data: Dataset, cells: Cells, loss: str, exact: bool, max_faces: int, required: bool
) -> ExtremalVectors | None:
    """Visit all faces in the way that suits the data; None if they are too many, or an error."""
    rank = arrangement.row_space(cells.normals).shape[1]
    if not exact and not _quick_exactly(data, cells, rank):
        faces = arrangement.face_count(cells.n_hyperplanes, rank)
        if faces <= max_faces:
            try:
                return _by_sweep(cells, faces)
            except arrangement.DegenerateError:
                pass
        elif required:
            raise _too_many(faces, max_faces)
    visits = _EXACT_COST * _exact_visits(cells, rank)
    if visits <= max_faces and not exact and not data.rational:
        with suppress(InconsistentError):
            return _by_rays(cells)
        visits = _EXACT_COST * _exact_visits(cells, ExactArrangement(integer_normals(data)).rank)
    if visits <= max_faces:
        return _exactly(data, cells, loss, exact)
    if required:
        raise _too_many(visits, max_faces)
    return None


def _check(data: Any, negative_slope: Any, loss: Any, exact: Any, method: Any) -> float:
    if not isinstance(data, Dataset):
        raise TypeError(
            f"Argument `data` must be a flowsim.Dataset, but it is a {type(data).__name__}."
        )
    scalar_labels(data, "extremal vectors")
    slope = checked_slope(negative_slope)
    one_of("loss", loss, ("half_mean", "mean"))
    one_of("method", method, ("auto", "enumerate", "sample"))
    flag("exact", exact)
    if exact and method == "sample":
        raise ValueError(
            'Argument `method` must not be "sample" if `exact` is true, but it is "sample".'
        )
    return slope


def checked_slope(negative_slope: Any) -> float:
    """Return it as a float; raise TypeError or ValueError if it is no number in [0, 1)."""
    slope = real("negative_slope", negative_slope)
    if not 0 <= slope < 1:
        raise ValueError(f"Argument `negative_slope` must be in [0, 1), but it is {slope}.")
    return slope


def _exact_visits(cells: Cells, rank: int) -> int:
    """Return the number of visits to faces in exact arithmetic, in general position."""
    return comb(cells.n_hyperplanes, rank - 1) * 2 * 3 ** (rank - 1)


def _quick_exactly(data: Dataset, cells: Cells, rank: int) -> bool:
    """Whether exact arithmetic beats loading the compiled sweep."""
    return data.rational and _exact_visits(cells, rank) <= _QUICK


def _too_many(faces: int, max_faces: int) -> ValueError:
    return ValueError(
        f"Argument `max_faces` must be at least {faces}, the cost of visiting all faces of these "
        f'data, but it is {max_faces}; method="sample" looks at some of them.'
    )


# -- three ways to find them ------------------------------------------------------------------


def _by_sweep(cells: Cells, faces: int) -> ExtremalVectors:
    """Visit all faces of hyperplanes in general position."""
    basis = arrangement.row_space(cells.normals)
    plus, minus = cells.sides(cells.y)
    # D is summed over the hyperplanes one after the other.
    tol = cells.tie(cells.y) * (4.0 + 0.05 * cells.n_hyperplanes)
    sweep = arrangement.Sweep(np.ascontiguousarray(cells.normals @ basis), plus, minus)
    codes, points = sweep.extremal(tol)
    still = ~np.any(points, axis=1)
    vectors = [
        extremal_at(cells, basis @ point, code)
        for code, point in zip(codes[~still], points[~still], strict=True)
    ]
    zero = np.unique(cells.sample_codes(codes[still]), axis=0)
    return _collect(cells, vectors, True, "enumerate", zero, faces)


def _by_rays(cells: Cells) -> ExtremalVectors:
    """Visit all faces of float hyperplanes, of which some meet in special position."""
    faces = RoundedArrangement(cells.normals)
    plus, minus = cells.sides(cells.y)
    tie = cells.tie(cells.y)
    vectors: list[ExtremalVector | None] = []
    zero: set[Code] = set()
    visited = 0
    for ray, sign, local in faces.visits():
        visited += 1
        code = np.array(compose(ray, sign, local), dtype=np.int8)
        D = np.where(code > 0, plus, np.where(code < 0, minus, 0.0)) @ cells.normals
        on = [g for g in ray.on if code[g] == 0]
        if on:
            D = D - np.linalg.pinv(cells.normals[on], RANK_TOLERANCE) @ (cells.normals[on] @ D)
        velocity = (cells.normals @ D) * code
        forwards, backwards = np.any(velocity > tie), np.any(velocity < -tie)
        if forwards != backwards:
            vectors.append(extremal_at(cells, D if forwards else -D, code))
        elif not forwards and not on:
            zero.add(tuple(code.tolist()))
    codes = np.array(sorted(zero), dtype=np.int8).reshape(-1, cells.n_hyperplanes)
    return _collect(cells, vectors, True, "enumerate", cells.sample_codes(codes), visited)


def _exactly(data: Dataset, cells: Cells, loss: str, exact: bool) -> ExtremalVectors:
    """Visit all faces in exact arithmetic."""
    result = enumerate_exactly(data, cells.slope, loss)
    vectors: list[ExtremalVector | None] = [_from_exact(cells, found) for found in result.found]
    if not exact:
        vectors = [replace(v, exact=None) for v in vectors if v]
    zero = np.array(result.zero, dtype=np.int8).reshape(-1, cells.n_hyperplanes)
    method = "exact" if exact else "enumerate"
    return _collect(cells, vectors, True, method, cells.sample_codes(zero), result.visited)


def vectors_at(
    cells: Cells, directions: np.ndarray, codes: np.ndarray | None = None
) -> ExtremalVectors:
    """Return one vector for each unit direction (p, d), in their order.

    Where `extremal_at` finds none, since rounding decides a tie differently there, the entry
    describes the direction's face (`plain_vector`): multipliers nan, the role of a saddle.
    `codes` (p, G) are the faces, where signs of ``nu . w`` do not tell.
    """
    faces = [None] * len(directions) if codes is None else codes
    found = tuple(
        extremal_at(cells, w, code) or plain_vector(cells, w, code)
        for w, code in zip(directions, faces, strict=True)
    )
    none = np.empty((0, cells.n), np.int8)
    return ExtremalVectors(found, False, "given", none, len(directions))


def _by_sampling(cells: Cells, directions: np.ndarray, samples: int) -> ExtremalVectors:
    """Turn unit directions that the flow has led to into the extremal vectors among them."""
    found = [extremal_at(cells, w) for w in directions]
    return _collect(cells, found, False, "sample", np.empty((0, cells.n), np.int8), samples)


def _collect(
    cells: Cells,
    vectors: Iterable[ExtremalVector | None],
    complete: bool,
    method: str,
    zero: np.ndarray,
    visited: int,
) -> ExtremalVectors:
    """Keep one vector for each face, in order."""
    found = {v.code.tobytes(): v for v in vectors if v is not None}
    key = (lambda v: v.angle) if cells.d == 2 else (lambda v: (-v.norm, *v.direction.tolist()))
    return ExtremalVectors(tuple(sorted(found.values(), key=key)), complete, method, zero, visited)


def _from_exact(cells: Cells, found: Found) -> ExtremalVector:
    value = found.value
    code = np.array(found.code, dtype=np.int8)
    D = np.array([float(x) for x in value.D])
    size = np.max(np.abs(D))  # squares of D might underflow
    direction = value.sign * (D / size) / np.linalg.norm(D / size)
    norm = float(size * np.linalg.norm(D / size))
    eta = np.full(cells.n, np.nan)
    for k, multiplier in value.multipliers.items():
        eta[k] = float(multiplier)
    return ExtremalVector(
        D, direction, norm, value.sign * norm, cells.sample_codes(code), code, eta,
        found.role, exact=value,
    )  # fmt: skip
