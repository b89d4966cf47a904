"""Training data: inputs, targets, and the hyperplanes that the inputs define."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flowsim import _hyperplanes, _tables
from flowsim._rational import Numbers, to_numbers
from flowsim.inputs import DISTRIBUTIONS

ExactArrayLike = ArrayLike | Sequence[Any]
"""Arrays or nested sequences of floats, integers, Fractions, Decimals or number strings."""

_SMALLEST_SQUARE = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Dataset:
    """Hold n samples ``(x_k, y_k)`` with ``x_k`` in R^d, in float64 and exactly.

    A bias is an input coordinate equal to 1 (`Dataset.univariate`). Arrays are read-only.

    Parameters
    ----------
    X : array_like (n, d)
        Inputs, one a row, none of them zero. Integers, Fractions, Decimals and strings ("0.1",
        "-3/4") are kept as exact rationals beside their float64 values; a float means its binary
        value, so 1.1 is not 11/10.
    y : array_like (n,) or (n, p)
        Targets, likewise. Rows of p are for the general engines and models with vector outputs;
        two-layer ReLU networks, and so alignment and the piecewise engine, need numbers.
    name : str
        A name for reports.
    teacher : array_like (d,), optional
        The vector β* of a linear teacher ``y = β*·x + noise``.
    noise : float, optional
        Standard deviation of the noise in `y`.
    inputs : {"gaussian", "symmetric", "sphere", "uniform"}, optional
        The distribution that the inputs were drawn from.

    Raises
    ------
    TypeError
        If an entry is not a real number.
    ValueError
        If shapes do not match, an entry is not finite, a row of `X` is zero, or squares of `X` or
        `y` leave the range of float64.

    Examples
    --------
    >>> Dataset([["0.5", 1], [-2, 1]], ["0.25", "1/3"], name="pair")
    Dataset(pair: n=2, d=2)
    """

    X: np.ndarray
    y: np.ndarray
    name: str
    teacher: np.ndarray | None
    noise: float | None
    inputs: str | None
    _X_numbers: Numbers
    _y_numbers: Numbers

    def __init__(
        self,
        X: ExactArrayLike,
        y: ExactArrayLike,
        *,
        name: str = "custom",
        teacher: ArrayLike | None = None,
        noise: float | None = None,
        inputs: str | None = None,
    ) -> None:
        noise, inputs = _noise(noise), _inputs(inputs)
        X_numbers = to_numbers(X, "X", ndim=2)
        y_numbers = to_numbers(y, "y", ndim=(1, 2))
        _check_shapes(X_numbers.values, y_numbers.values)
        _check_rows(X_numbers.values)
        _check_targets(y_numbers.values)
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "X", X_numbers.values)
        set_field(self, "y", y_numbers.values)
        set_field(self, "name", str(name))
        set_field(self, "teacher", _teacher(teacher, self.d))
        set_field(self, "noise", noise)
        set_field(self, "inputs", inputs)
        set_field(self, "_X_numbers", X_numbers)
        set_field(self, "_y_numbers", y_numbers)

    @classmethod
    def univariate(cls, x: ExactArrayLike, y: ExactArrayLike, **kwargs: Any) -> Dataset:
        """Create data on the real line, each scalar input x lifted to ``(x, 1)``.

        Parameters
        ----------
        x : array_like (n,)
            Inputs, exact where they are given exactly.
        y : array_like (n,) or (n, p)
            Targets, likewise.
        **kwargs
            As for `Dataset`.

        Raises
        ------
        TypeError, ValueError
            As for `Dataset`, of `x` and `y`.
        """
        numbers = to_numbers(x, "x", ndim=1)
        column = numbers.values if numbers.exact is None else numbers.exact
        return cls([[value, 1] for value in column.tolist()] or np.empty((0, 2)), y, **kwargs)

    @classmethod
    def from_csv(
        cls, path: _tables.StrPath, *, target: int | str | None = None, bias: bool = False
    ) -> Dataset:
        """Load a comma-separated table, one sample a line; its decimals are kept exactly.

        Blank lines and lines that start with ``#`` are skipped; a first row without any number is
        a header.

        Parameters
        ----------
        path : path-like
            The file, in UTF-8.
        target : int or str, optional
            The column of y, by index or by name in the header; the last one by default. All
            others are inputs.
        bias : bool
            Append an input coordinate equal to 1.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a table of finite numbers with at least two columns, with the line at
            fault, or if it holds no valid data for `Dataset`.
        """
        table = _tables.read_csv(path)
        column = _tables.target_column(target, table, path)
        X = [row[:column] + row[column + 1 :] + ["1"] * bias for row in table.rows]
        y = [row[column] for row in table.rows]
        return cls(X, y, name=Path(path).stem)

    @classmethod
    def from_npz(cls, path: _tables.StrPath) -> Dataset:
        """Load arrays ``X`` (n, d), or ``x`` (n,) for univariate data, and ``y`` (n,) or (n, p).

        Reads back all that `save` writes.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not an NPZ file with these arrays, or they are no valid data for `Dataset`.
        """
        arrays = _tables.read_npz(path)
        if "y" not in arrays or not ("X" in arrays or "x" in arrays):
            found = ", ".join(arrays) or "nothing"
            raise ValueError(
                f"Argument `path` must name a file with arrays X and y, or x and y, but {path} "
                f"has: {found}."
            )
        y = arrays.get("y_exact", arrays["y"])
        details = {
            "name": str(arrays["name"]) if "name" in arrays else Path(path).stem,
            "teacher": arrays.get("teacher"),
            "noise": arrays.get("noise"),
            "inputs": str(arrays["inputs"]) if "inputs" in arrays else None,
        }
        if "X" in arrays:
            return cls(arrays.get("X_exact", arrays["X"]), y, **details)
        return cls.univariate(arrays["x"], y, **details)

    @classmethod
    def from_file(cls, path: _tables.StrPath) -> Dataset:
        """Load a ``.csv`` or an ``.npz`` file, told by its suffix.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If the suffix is another one, or as `from_csv` and `from_npz` do.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".csv":
            return cls.from_csv(path)
        if suffix == ".npz":
            return cls.from_npz(path)
        raise ValueError(f"Argument `path` must end in .csv or .npz, but it is {path}.")

    def save(self, path: _tables.StrPath) -> None:
        """Write an NPZ file that `from_npz` reads back, exact values included."""
        arrays: dict[str, Any] = {"X": self.X, "y": self.y, "name": self.name}
        if self._X_numbers.rational:
            arrays["X_exact"] = np.array([[str(value) for value in row] for row in self.X_exact])
        if self._y_numbers.rational:
            exact = [str(value) for value in _exact_or_rounded(self._y_numbers).flat]
            arrays["y_exact"] = np.array(exact).reshape(self.y.shape)
        for key in ("teacher", "noise", "inputs"):
            if getattr(self, key) is not None:
                arrays[key] = getattr(self, key)
        with open(path, "wb") as file:  # given a name, savez would append a suffix to it
            np.savez(file, **arrays)

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.X.shape[0]

    @property
    def d(self) -> int:
        """Dimension of the inputs, a bias coordinate included."""
        return self.X.shape[1]

    @property
    def p(self) -> int:
        """Number of targets a sample: 1 for `y` of shape (n,)."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    @property
    def rational(self) -> bool:
        """Whether no entry of X or y came as a float."""
        return self._X_numbers.rational and self._y_numbers.rational

    @cached_property
    def X_exact(self) -> tuple[tuple[Fraction, ...], ...]:
        """The exact inputs, a tuple of n rows."""
        return tuple(tuple(_fractions(row)) for row in _exact_or_rounded(self._X_numbers))

    @cached_property
    def y_exact(self) -> tuple[Any, ...]:
        """The exact targets: n Fractions, or n rows of p of them."""
        numbers = _exact_or_rounded(self._y_numbers)
        if numbers.ndim == 1:
            return tuple(_fractions(numbers))
        return tuple(tuple(_fractions(row)) for row in numbers)

    @cached_property
    def norms(self) -> np.ndarray:
        """Norms ‖x_k‖, shape (n,)."""
        norms = np.linalg.norm(self.X, axis=1)
        norms.setflags(write=False)
        return norms

    @property
    def normals(self) -> np.ndarray:
        """Unit normals of the G distinct hyperplanes ``{w : w·x_k = 0}``, shape (G, d).

        Parallel and antipodal samples share one, whose normal is the direction of the first of
        them. They are told exactly where X is rational, otherwise up to 16 units of rounding.
        """
        return self._hyperplanes.normals

    @property
    def hyperplane(self) -> np.ndarray:
        """Index into `normals` of each sample's hyperplane, shape (n,), int64."""
        return self._hyperplanes.index

    @property
    def orientation(self) -> np.ndarray:
        """Signs with ``x_k = orientation_k norms_k normals[hyperplane_k]``, shape (n,), int8."""
        return self._hyperplanes.orientation

    @cached_property
    def _hyperplanes(self) -> _hyperplanes.Hyperplanes:
        if self._X_numbers.rational:
            return _hyperplanes.group_exactly(self.X, self.norms, self.X_exact)
        return _hyperplanes.group_rounded(self.X, self.norms)

    def __repr__(self) -> str:
        targets = f", p={self.p}" if self.y.ndim == 2 else ""
        return f"Dataset({self.name}: n={self.n}, d={self.d}{targets})"


def _exact_or_rounded(numbers: Numbers) -> np.ndarray:
    return numbers.values if numbers.exact is None else numbers.exact


def _fractions(values: np.ndarray) -> list[Fraction]:
    return [Fraction(value) for value in values.tolist()]


def _check_shapes(X: np.ndarray, y: np.ndarray) -> None:
    n, d = X.shape
    if n == 0 or d == 0:
        raise ValueError(
            f"Argument `X` must have at least one row and one column, but its shape is {X.shape}."
        )
    if len(y) != n:
        raise ValueError(
            f"Argument `y` must have one entry for each of the {n} rows of X, but it has {len(y)}."
        )
    if y.size == 0:
        raise ValueError(f"Argument `y` must have at least one column, but its shape is {y.shape}.")


def _check_rows(X: np.ndarray) -> None:
    zero = np.flatnonzero(~X.any(axis=1))
    if zero.size:
        raise ValueError(
            f"Argument `X` must have no zero rows, but X[{zero[0]}] is zero, where every network "
            "without bias is 0."
        )
    with np.errstate(over="ignore", under="ignore"):
        squares = np.sum(X**2, axis=1)
    extreme = np.flatnonzero((squares < _SMALLEST_SQUARE) | ~np.isfinite(squares))
    if extreme.size:
        raise ValueError(
            "Argument `X` must have rows whose squares neither underflow nor overflow, but "
            f"X[{extreme[0]}] has entries up to {np.max(np.abs(X[extreme[0]])):.2g}."
        )


def _check_targets(y: np.ndarray) -> None:
    with np.errstate(over="ignore", under="ignore"):
        square = np.sum(y**2)
    if not np.isfinite(square) or (y.any() and square < _SMALLEST_SQUARE):
        raise ValueError(
            "Argument `y` must have squares that neither underflow nor overflow, but its entries "
            f"go up to {np.max(np.abs(y)):.2g}."
        )


def _teacher(teacher: ArrayLike | None, d: int) -> np.ndarray | None:
    if teacher is None:
        return None
    vector = to_numbers(teacher, "teacher", ndim=1).values
    if len(vector) != d:
        raise ValueError(
            f"Argument `teacher` must have one entry for each of the {d} input coordinates, but it "
            f"has {len(vector)}."
        )
    return vector


def _noise(noise: float | None) -> float | None:
    if noise is None:
        return None
    if not 0 <= float(noise) < np.inf:
        raise ValueError(f"Argument `noise` must be finite and at least 0, but it is {noise}.")
    return float(noise)


def _inputs(inputs: str | None) -> str | None:
    if inputs is not None and inputs not in DISTRIBUTIONS:
        raise ValueError(
            f"Argument `inputs` must be one of {', '.join(DISTRIBUTIONS)}, or None, but it "
            f"is {inputs!r}."
        )
    return inputs
