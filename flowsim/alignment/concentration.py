"""How far the fields of finite data are from the population's, over all directions at once.

For a linear teacher ``y = beta*.x + noise`` with inputs symmetric under x -> -x, every neuron of
the population has the same field at small scale, whatever its direction w:

    D = E[sigma'(w.x) y x] = (1 + s)/2 Sigma beta*,    Sigma = E[x x^T], s the negative slope,

since x and -x give the same y x on average and exactly one of them is on. n samples have a field
for each cell, and Boursier & Flammarion (arXiv 2410.02348, theorem 3.1) bound

    sup_w sup_{D in D_n(w)} |D - Sigma beta*/2|,

and so the distance of all extremal vectors, by the order of ``sqrt(d log n / n)`` with high
probability. The rate that measurements are compared with here is the exponent -1/2 of n at fixed
d; the logarithm makes a fitted one slightly larger.

D_n(w) on hyperplanes lies in the convex hull of the cells' fields there (or, where samples are
dependent, in a box that `flowsim.alignment.extremal` allows), so that the sup is taken over cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import comb
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flowsim import datasets
from flowsim._arguments import flag, one_of, real, scalar_labels, whole
from flowsim._rational import to_numbers
from flowsim.alignment import arrangement
from flowsim.alignment._deviations import Concentration as Concentration
from flowsim.alignment._deviations import Deviation as Deviation
from flowsim.cells import Cells
from flowsim.data import Dataset

if TYPE_CHECKING:
    from flowsim.alignment._farthest import Fields

#: Random starts of the search for a lower bound.
_STARTS = 8
#: Cells of hyperplanes in special position are enumerated up to about this many visits.
_SPECIAL_VISITS = 300_000


def concentration(
    ns: Iterable[int] = (50, 100, 200, 400, 800),
    *,
    d: int = 2,
    noise: float = 0.5,
    seeds: Iterable[int] = range(10),
    teacher: ArrayLike | None = None,
    inputs: str = "gaussian",
    negative_slope: float = 0.0,
    method: str = "auto",
    max_cells: int = 20_000_000,
    budget: int = 20_000,
    extremal: bool = True,
) -> Concentration:
    """Measure how the fields of linear-teacher data approach the population's as n grows.

    Parameters
    ----------
    ns : iterable of int
        Numbers of samples.
    d, noise, teacher, inputs
        The data, see `flowsim.datasets.linear_teacher`.
    seeds : iterable of int
        Seeds of the data; all are used for every n.
    negative_slope, method, max_cells, budget, extremal
        As for `deviation`.

    Raises
    ------
    TypeError, ValueError
        As `linear_teacher` and `deviation` do, and if `ns` or `seeds` is empty or holds anything
        but such integers.

    References
    ----------
    Boursier & Flammarion, arXiv 2410.02348, theorem 3.1.
    """
    sizes, draws = _integers("ns", ns, 1), _integers("seeds", seeds, 0)
    found = [
        [
            deviation(
                datasets.linear_teacher(n, d, noise, seed, inputs, teacher),
                negative_slope=negative_slope,
                method=method,
                max_cells=max_cells,
                budget=budget,
                extremal=extremal,
                seed=seed,
            )
            for seed in draws
        ]
        for n in sizes
    ]
    tables = {
        name: np.array([[getattr(one, name) for one in row] for row in found])
        for name in ("lower", "upper", "extremal", "zero", "complete")
    }
    exponent, error = fitted_exponent(sizes, np.median(tables["lower"], axis=1))
    settings = {"d": d, "noise": noise, "inputs": inputs, "negative_slope": negative_slope}
    return Concentration(
        n=np.array(sizes), seed=np.array(draws), **tables,
        exponent=exponent, exponent_error=error, settings=settings,
    )  # fmt: skip


def _integers(name: str, values: Any, low: int) -> list[int]:
    try:
        entries = list(values)
    except TypeError:
        raise TypeError(
            f"Argument `{name}` must be an iterable of integers, but is {values!r}."
        ) from None
    if not entries:
        raise ValueError(f"Argument `{name}` must have at least one entry, but it has none.")
    return [whole(f"{name}[{i}]", value, low) for i, value in enumerate(entries)]


def fitted_exponent(n: Sequence[int], values: np.ndarray) -> tuple[float, float]:
    """Return the least-squares slope of log values against log n, and its standard error."""
    x = np.log(np.asarray(n, dtype=float))
    if len(set(n)) < 2 or not np.all(values > 0):
        return float("nan"), float("nan")
    x = x - x.mean()
    slope = float(x @ np.log(values) / (x @ x))
    rest = np.log(values) - np.mean(np.log(values)) - slope * x
    if len(x) < 3:
        return slope, float("nan")
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (x @ x)))


def deviation(
    data: Dataset,
    *,
    covariance: ArrayLike | None = None,
    negative_slope: float = 0.0,
    method: str = "auto",
    max_cells: int = 20_000_000,
    budget: int = 20_000,
    extremal: bool = True,
    seed: int = 0,
) -> Deviation:
    """Compute ``sup_w |D_n(w) - (1 + s)/2 Sigma beta*|`` for data of a linear teacher.

    Parameters
    ----------
    data : Dataset
        With a teacher; its inputs' distribution must be symmetric under x -> -x.
    covariance : array_like (d, d), optional
        Sigma, by default the identity for Gaussian or symmetric inputs.
    negative_slope : float
        Slope s of the activation, in [0, 1).
    method : {"auto", "enumerate", "bound"}
        Visit all cells, which gives the sup up to rounding, or bound it: from below by the best
        cell that great circles through random directions find, from above by subdividing cones of
        directions, in which undecided samples count with at most half their size. "auto"
        enumerates if `max_cells` allows. The bounds meet for d = 2 and for few samples; else the
        upper one may be several times the lower one.
    max_cells : int
        The largest number of cells to visit.
    budget : int
        How many cones are bisected.
    extremal : bool
        Whether to enumerate the extremal vectors too, if no more than `max_cells` faces allow it:
        most of the cost for d >= 3.
    seed : int
        Seed of the search.

    Raises
    ------
    TypeError
        If `data` is not a Dataset, or another argument is of another type.
    ValueError
        If the data have no teacher, the covariance is missing or has another shape, an option is
        not among its values, or there are more cells than `max_cells` and they must be visited.

    References
    ----------
    Boursier & Flammarion, arXiv 2410.02348, theorem 3.1.
    """
    from flowsim.alignment._farthest import Fields
    from flowsim.alignment.extremal import checked_slope

    _check_data(data)
    slope = checked_slope(negative_slope)
    one_of("method", method, ("auto", "enumerate", "bound"))
    real("max_cells", max_cells)
    budget, seed = whole("budget", budget, 0), whole("seed", seed, 0)
    flag("extremal", extremal)
    moment, moment_exponent = _moment(data, covariance)

    cells = Cells.of(data, slope, "half_mean", np.zeros(data.n))
    scale = _Scale.of(cells, (1.0 + slope) / 2 * moment, moment_exponent)
    basis = arrangement.row_space(cells.normals)
    N = np.ascontiguousarray(cells.normals @ basis)
    fields = Fields(N, scale.plus, scale.minus, scale.goal @ basis)
    outside = float(np.linalg.norm(scale.goal - basis @ (basis.T @ scale.goal)))

    everything = None if method == "bound" else _enumerate(data, fields, max_cells)
    if everything is None and method == "enumerate":
        raise ValueError(
            f"Argument `max_cells` must be at least {arrangement.cell_count(*N.shape)}, the number "
            f'of cells of these data, but it is {max_cells}; method="bound" needs no enumeration.'
        )
    if everything is not None:
        D, count = everything
        lower = upper = fields.distance(D)
    else:
        D, count = fields.search(_STARTS, np.random.default_rng(seed)), None
        D, upper = fields.upper(D, budget)
        lower = fields.distance(D)
    near, far = (float(np.ldexp(np.hypot(x, outside), scale.exponent)) for x in (lower, upper))
    values = _extremal(data, slope, scale, max_cells if extremal else 0)
    D, population = (np.ldexp(v, scale.exponent) for v in (basis @ D, scale.goal))
    return Deviation(near, far, everything is not None, count, D, population, *values)


class _Scale(NamedTuple):
    """Fields and the population's in units of ``2**exponent``, which make the largest order one.

    Distances are taken in these units, where squares neither overflow nor, where it matters,
    underflow; powers of two round nothing.
    """

    plus: np.ndarray
    minus: np.ndarray
    goal: np.ndarray
    exponent: int

    @classmethod
    def of(cls, cells: Cells, goal: np.ndarray, goal_exponent: int) -> _Scale:
        sides = np.array(cells.sides(cells.y))
        own = cells.x_exponent + cells.y_exponent
        sizes = [
            part + _exponent(values)
            for values, part in ((sides, own), (goal, goal_exponent))
            if np.any(values)
        ]
        exponent = max(sizes, default=0)
        plus, minus = np.ldexp(sides, own - exponent)
        return cls(plus, minus, np.ldexp(goal, goal_exponent - exponent), exponent)

    def distance(self, D: np.ndarray) -> float:
        """Return how far a field in the data's units is from the population's."""
        off = np.linalg.norm(np.ldexp(D, -self.exponent) - self.goal)
        return float(np.ldexp(off, self.exponent))


def _exponent(values: np.ndarray) -> int:
    return int(np.frexp(np.max(np.abs(values)))[1])


def _check_data(data: Any) -> None:
    if not isinstance(data, Dataset):
        raise TypeError(
            f"Argument `data` must be a flowsim.Dataset, but it is a {type(data).__name__}."
        )
    scalar_labels(data, "concentration")
    if data.teacher is None:
        raise ValueError(
            "Argument `data` must have a linear teacher, which the population's field depends on, "
            f"but {data!r} has none."
        )


def _moment(data: Dataset, covariance: ArrayLike | None) -> tuple[np.ndarray, int]:
    """Return ``Sigma beta*`` as a vector and the exponent of a power of two to multiply by."""
    assert data.teacher is not None
    own = _exponent(data.teacher)
    teacher = np.ldexp(data.teacher, -own)
    if covariance is None:
        if data.inputs is None:
            raise ValueError(
                "Argument `covariance` must be given for inputs of unknown distribution, but it is "
                "None."
            )
        return teacher, own
    matrix = to_numbers(covariance, "covariance", ndim=2).values
    if matrix.shape != (data.d, data.d):
        raise ValueError(
            f"Argument `covariance` must have shape ({data.d}, {data.d}), but it has "
            f"{matrix.shape}."
        )
    exponent = _exponent(matrix)
    return np.ldexp(matrix, -exponent) @ teacher, own + exponent


def _enumerate(data: Dataset, fields: Fields, max_cells: int) -> tuple[np.ndarray, int] | None:
    """Return the farthest field and the number of cells; None if there are too many."""
    G, r = fields.N.shape
    if arrangement.cell_count(G, r) > max_cells:
        return None
    if r == 2:
        return fields.at(fields.on_circle(*np.eye(2))), 2 * G
    try:
        sweep = arrangement.Sweep(fields.N, fields.plus, fields.minus)
        return sweep.farthest(fields.target)
    except arrangement.DegenerateError:
        pass
    if comb(G, r - 1) * 2 * 3 ** (r - 1) > _SPECIAL_VISITS:
        return None
    codes = arrangement.cells(data)
    D = np.where(codes > 0, fields.plus, fields.minus) @ fields.N
    return D[np.argmax(np.linalg.norm(D - fields.target, axis=1))], len(codes)


def _extremal(data: Dataset, slope: float, scale: _Scale, max_faces: int) -> tuple[float, float]:
    """Return the largest distances of nonzero extremal vectors and of the field 0 of a cell."""
    from flowsim.alignment.extremal import extremal_vectors

    try:
        found = extremal_vectors(
            data, negative_slope=slope, method="enumerate", max_faces=max_faces, samples=0
        )
    except ValueError:  # more faces than that
        return float("nan"), float("nan")
    zero = scale.distance(np.zeros(data.d)) if len(found.zero) else float("nan")
    return max((scale.distance(v.D) for v in found), default=float("nan")), zero
