"""What `flowsim.alignment.concentration` returns: deviations of one data set, and of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True, eq=False)
class Deviation:
    """The largest distance of the fields of one data set from the population's.

    Attributes
    ----------
    lower, upper : float
        ``sup_w |D_n(w) - D|`` lies between them; equal if all cells were visited.
    complete : bool
        Whether all cells were visited.
    cells : int or None
        How many there are, if they were.
    D : (d,)
        The field of a cell at the distance `lower`.
    population : (d,)
        The population's field.
    extremal : float
        The largest distance of a nonzero extremal vector; nan if there is none, or if they were
        not enumerated.
    zero : float
        The distance of D = 0 if it is the field of a cell, such as one in which all samples are
        off; else nan, likewise.
    """

    lower: float
    upper: float
    complete: bool
    cells: int | None
    D: np.ndarray
    population: np.ndarray
    extremal: float
    zero: float


@dataclass(frozen=True, eq=False, repr=False)
class Concentration:
    """Deviations of random data sets of growing size.

    Attributes
    ----------
    n, seed : (N,), (S,)
        Sizes, and seeds of the data of each size.
    lower, upper, extremal, zero : (N, S)
        As in `Deviation`.
    complete : (N, S) bool
    exponent, exponent_error : float
        Least-squares slope of ``log median_seed(lower)`` against ``log n`` with its standard
        error; nan for fewer than two or three sizes.
    """

    n: np.ndarray
    seed: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    extremal: np.ndarray
    zero: np.ndarray
    complete: np.ndarray
    exponent: float
    exponent_error: float
    settings: dict[str, Any]
    #: The exponent of n in the theorem's bound.
    expected: ClassVar[float] = -0.5

    def __repr__(self) -> str:
        return (
            f"Concentration(n={self.n.tolist()}, {len(self.seed)} seeds: sup ~ "
            f"n^({self.exponent:.3f} ± {self.exponent_error:.3f}))"
        )

    def to_xarray(self) -> Any:
        """Return an xarray Dataset with dimensions n and seed."""
        import xarray as xr

        names = ("lower", "upper", "extremal", "zero", "complete")
        return xr.Dataset(
            {name: (("n", "seed"), getattr(self, name)) for name in names},
            coords={"n": self.n, "seed": self.seed},
            attrs={
                "exponent": self.exponent,
                "exponent_error": self.exponent_error,
                **self.settings,
            },
        )
