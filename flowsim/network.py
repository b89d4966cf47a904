"""Two-layer ReLU networks: parameters of any size, forward pass, loss and gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flowsim._arguments import scalar_labels
from flowsim._rows import largest, norms
from flowsim.data import Dataset

LOSSES: Mapping[str, float] = MappingProxyType({"half_mean": 0.5, "mean": 1.0})
"""Names of the losses and their factor c in ``L = (c/n) Σ_k r_k²``."""

_ARRAYS = ("a", "W", "direction", "log_norm", "_scaled")
_BLOCK_ENTRIES = 2**22  # activations held at once, 32 MiB


@dataclass(frozen=True, eq=False, init=False, repr=False)
class TwoLayerReLU:
    """Represent ``h(x) = Σ_j a_j σ(w_j·x)`` with ``σ(u) = max(u, s u)``, s the negative slope.

    Neuron j is ``exp(log_scale_j) (a_j, w_j)``, so that networks far outside float64's range
    can be held: `direction` and `log_norm` are then accurate, while `a` and `W` underflow to 0
    or overflow to infinity. Arrays are read-only.

    Parameters
    ----------
    a : array_like (m,)
        Output weights.
    W : array_like (m, d)
        Input weights, one neuron a row.
    negative_slope : float
        The slope s of σ on negative numbers, in [0, 1): 0 is ReLU, larger is leaky ReLU.
    log_scale : float or array_like (m,), optional
        Natural logarithm of a factor on each neuron's (a_j, w_j), or on all; −inf makes it zero.
    metadata : mapping, optional
        Where the network comes from, kept for reports.

    Raises
    ------
    TypeError
        If an argument is not numeric.
    ValueError
        If shapes do not match, m or d is 0, an entry is not finite, or the slope is not in [0, 1).
    """

    a: np.ndarray
    W: np.ndarray
    direction: np.ndarray
    """Unit vectors (a_j, w_j)/‖(a_j, w_j)‖, shape (m, d+1); zeros for a neuron that is zero."""
    log_norm: np.ndarray
    """Natural logarithms of ‖(a_j, w_j)‖, shape (m,); −inf for a neuron that is zero."""
    negative_slope: float
    _scaled: np.ndarray  # the rows (a_j, w_j) as given, up to a power of two each
    _metadata: dict[str, Any]

    def __init__(
        self,
        a: ArrayLike,
        W: ArrayLike,
        negative_slope: float = 0.0,
        *,
        log_scale: ArrayLike | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        a, W = _floats(a, "a", ndim=1), _floats(W, "W", ndim=2)
        _check_shapes(a, W)
        scaled, direction, log_norm = _polar(np.column_stack([a, W]))
        if log_scale is not None:
            log_norm = log_norm + _log_scale(log_scale, len(a))
            a, W = _cartesian(direction, log_norm)
            direction[log_norm == -np.inf] = scaled[log_norm == -np.inf] = 0.0
        for array in (a, W, direction, log_norm, scaled):
            array.setflags(write=False)
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "a", a)
        set_field(self, "W", W)
        set_field(self, "direction", direction)
        set_field(self, "log_norm", log_norm)
        set_field(self, "negative_slope", _slope(negative_slope))
        set_field(self, "_scaled", scaled)
        set_field(self, "_metadata", dict(metadata or {}))

    @property
    def m(self) -> int:
        """Number of neurons."""
        return self.W.shape[0]

    @property
    def d(self) -> int:
        """Dimension of the inputs."""
        return self.W.shape[1]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Where the network comes from, read-only."""
        return MappingProxyType(self._metadata)

    def subset(self, index: Any) -> TwoLayerReLU:
        """Return the network of the neurons that `index` picks: a slice, integers, or a mask.

        Raises
        ------
        ValueError
            If it is one number, or picks none.
        IndexError
            If there is no such neuron.
        """
        picked = object.__new__(TwoLayerReLU)  # the constructor would normalise, and so round
        arrays = {name: getattr(self, name)[index] for name in _ARRAYS}
        if arrays["a"].ndim != 1:
            raise ValueError(f"Argument `index` must be a list or a slice, but it is {index!r}.")
        if len(arrays["a"]) == 0:
            raise ValueError("Argument `index` must pick at least one neuron, but it picks none.")
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(picked, name, array)
        object.__setattr__(picked, "negative_slope", self.negative_slope)
        object.__setattr__(picked, "_metadata", {"kind": "subset"})
        return picked

    def __call__(self, X: ArrayLike) -> np.ndarray:
        """Return the outputs ``h(x_k)``, shape (n,), for inputs `X` of shape (n, d).

        Raises
        ------
        TypeError
            If `X` is not numeric.
        ValueError
            If `X` is not an (n, d) array of finite numbers.
        """
        X = _floats(X, "X", ndim=2)
        self._check_width(X.shape[1], "X")
        return np.concatenate([self._outputs(X[rows]) for rows in _blocks(len(X), self.m)])

    def _outputs(self, X: np.ndarray) -> np.ndarray:
        inputs = X @ self.W.T
        return np.maximum(inputs, self.negative_slope * inputs) @ self.a

    def residual(self, data: Dataset) -> np.ndarray:
        """Return ``r_k = y_k − h(x_k)``, shape (n,).

        Raises
        ------
        ValueError
            If the data's labels are vectors, or the dimensions of network and data differ.
        """
        scalar_labels(data, "a TwoLayerReLU")
        return data.y - self(data.X)

    def loss(self, data: Dataset, loss: str = "half_mean") -> float:
        """Return ``(1/2n) Σ_k r_k²`` ("half_mean") or ``(1/n) Σ_k r_k²`` ("mean").

        Raises
        ------
        ValueError
            If `loss` is neither, or the dimensions of network and data differ.
        """
        return float(loss_factor(loss) * np.mean(self.residual(data) ** 2))

    def gradient(self, data: Dataset, loss: str = "half_mean") -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient of the loss with respect to a and W, shapes (m,) and (m, d).

        With ``D_j = (2c/n) Σ_k σ'(w_j·x_k) r_k x_k``, c the factor of `LOSSES`, it is ``−w_j·D_j``
        and ``−a_j D_j``. At ``w_j·x_k = 0`` the derivative of σ is taken as the one of its
        negative side, s; one element of the Clarke subdifferential, not always the smallest.

        Raises
        ------
        ValueError
            If `loss` is no loss, or the dimensions of network and data differ.
        """
        residual = 2 * loss_factor(loss) / data.n * self.residual(data)
        slopes = np.where(self.pattern(data) > 0, 1.0, self.negative_slope)
        D = slopes @ (residual[:, None] * data.X)
        return -np.sum(self.W * D, axis=1), -self.a[:, None] * D

    def pattern(self, data: Dataset) -> np.ndarray:
        """Return the signs of ``w_j·x_k``, shape (m, n), int8: 1 on, −1 off, 0 on the boundary.

        Samples of one hyperplane get consistent signs, and neurons too small for float64 correct
        ones.

        Raises
        ------
        ValueError
            If the dimensions of network and data differ.
        """
        self._check_width(data.d, "data")
        # The numbers as given rather than unit vectors, whose rounding would move a neuron that
        # lies on a hyperplane off it.
        _, first = np.unique(data.hyperplane, return_index=True)
        sides = np.sign(self._scaled[:, 1:] @ data.X[first].T).astype(np.int8)
        return sides[:, data.hyperplane] * data.orientation

    def _check_width(self, d: int, name: str) -> None:
        if d != self.d:
            raise ValueError(
                f"Argument `{name}` must have inputs of dimension {self.d}, as the network's, but "
                f"theirs is {d}."
            )

    def __repr__(self) -> str:
        return f"TwoLayerReLU(m={self.m}, d={self.d}, {self._size()})"

    def _size(self) -> str:
        """Describe the scale if the initialisation stated one, otherwise the norm of (a, W)."""
        if "log10_scale" in self._metadata:
            return f"scale={_format_power(self._metadata['log10_scale'])}"
        largest = np.max(self.log_norm)
        if largest == -np.inf:
            return "norm=0"
        log_norm = largest + np.log(np.sum(np.exp(2 * (self.log_norm - largest)))) / 2
        return f"norm={_format_power(log_norm / np.log(10))}"


def loss_factor(loss: str) -> float:
    """Return the factor c of the loss ``(c/n) Σ_k r_k²``.

    Raises
    ------
    ValueError
        If `loss` is not in `LOSSES`.
    """
    if loss not in LOSSES:
        raise ValueError(f"Argument `loss` must be one of {', '.join(LOSSES)}, but it is {loss!r}.")
    return LOSSES[loss]


def _format_power(log10: float) -> str:
    """Format 10**log10 to three digits, whatever its size: −3000.3 gives "5.01e-3001"."""
    if abs(log10) < 300:
        return f"{10.0**log10:.3g}"
    exponent = int(np.floor(log10))
    mantissa = f"{10.0 ** (log10 - exponent):.3g}"
    return f"1e{exponent + 1}" if mantissa == "10" else f"{mantissa}e{exponent}"


def _polar(neurons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows scaled by a power of two to about 1, their directions, and all log-norms."""
    _, exponent = np.frexp(largest(neurons))
    scaled = np.ldexp(neurons, -exponent[:, None])
    norm = norms(scaled)
    direction = np.divide(scaled, norm[:, None], out=np.zeros_like(scaled), where=norm[:, None] > 0)
    with np.errstate(divide="ignore"):
        return scaled, direction, np.log(norm) + exponent * np.log(2.0)


def _cartesian(direction: np.ndarray, log_norm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a and W; beyond float64's range they are 0 or infinite, direction and norm are not."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        neurons = np.where(direction == 0.0, 0.0, direction * np.exp(log_norm)[:, None])
    return neurons[:, 0].copy(), neurons[:, 1:].copy()


def _blocks(n: int, m: int) -> Iterator[slice]:
    """Split n rows so that a block holds `_BLOCK_ENTRIES` activations; one block if n is 0."""
    size = max(1, _BLOCK_ENTRIES // m)
    return (slice(start, start + size) for start in range(0, max(n, 1), size))


def _floats(argument: ArrayLike, name: str, ndim: int) -> np.ndarray:
    """Return a float64 copy, checked to be finite and of `ndim` axes."""
    try:
        array = np.array(argument, dtype=np.float64)
    except TypeError:
        raise TypeError(f"Argument `{name}` must hold real numbers, but it does not.") from None
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must be a {ndim}-d array of numbers, but it is none."
        ) from None
    if array.ndim != ndim:
        raise ValueError(
            f"Argument `{name}` must be a {ndim}-d array, but its shape is {array.shape}."
        )
    bad = np.argwhere(~np.isfinite(array))
    if bad.size:
        place = ", ".join(str(i) for i in bad[0])
        raise ValueError(
            f"Argument `{name}` must hold finite numbers, but {name}[{place}] is "
            f"{array[tuple(bad[0])]}."
        )
    return array


def _check_shapes(a: np.ndarray, W: np.ndarray) -> None:
    m, d = W.shape
    if m == 0 or d == 0:
        raise ValueError(
            f"Argument `W` must have at least one row and one column, but its shape is {W.shape}."
        )
    if len(a) != m:
        raise ValueError(
            f"Argument `a` must have one entry for each of the {m} rows of W, but it has {len(a)}."
        )


def _log_scale(log_scale: ArrayLike, m: int) -> np.ndarray:
    array = np.asarray(log_scale, dtype=np.float64)
    if array.shape not in ((), (m,)):
        raise ValueError(
            f"Argument `log_scale` must be a number or have shape ({m},), but its shape is "
            f"{array.shape}."
        )
    if not np.all(array < np.inf):
        raise ValueError("Argument `log_scale` must be finite or −inf, but it is not everywhere.")
    return array


def _slope(negative_slope: float) -> float:
    slope = float(negative_slope)
    if not 0 <= slope < 1:
        raise ValueError(f"Argument `negative_slope` must be in [0, 1), but it is {slope}.")
    return slope
