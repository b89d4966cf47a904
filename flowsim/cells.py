"""Activation cells: the hyperplanes of the data, ternary codes, the field of a cell.

The unit of switching is the *hyperplane* ``{w : nu_g . w = 0}``; parallel and
antipodal samples share one. A neuron's cell is a row of codes, one a hyperplane:
+1 or -1 for the side that ``w`` is on, 0 where it slides on the hyperplane.

With residual ``r`` and the coefficient ``c_k`` that ``sigma'`` takes on each
side (1 or the negative slope), the field is

    D = weight * sum_k c_k r_k x_k = D_0 + sum_g q_g nu_g,

where hyperplane ``g`` contributes ``q_g^+`` or ``q_g^-`` on its two sides and
anything between when ``w`` slides; `flowsim.selection` says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowsim.data import Dataset

EPS = np.finfo(np.float64).eps
#: A margin ``|nu . w| / ||(a, w)||`` below this is on the hyperplane, up to rounding.
TOUCH = 32 * EPS
#: Velocities below this multiple of the summed terms' sizes are zero, up to rounding.
TIE = 64 * EPS
#: The residual's error is taken to be that of this many steps.
TIE_STEPS = 8
#: Singular values below this (relative) are rank deficiency of a set of unit normals.
RANK_TOLERANCE = 1e-11


@dataclass(frozen=True, eq=False)
class Cells:
    """The data as the cells see them, scaled by powers of two to order one.

    With ``x = x_scale * X`` and ``y = y_scale * Y`` the flow in time
    ``t * y_scale * x_scale`` of ``theta * sqrt(x_scale / y_scale)`` is the flow of
    the scaled data; all scalings are powers of two, so nothing is rounded.
    """

    X: np.ndarray  # (n, d), scaled
    y: np.ndarray  # (n,), scaled
    normals: np.ndarray  # (G, d)
    index: np.ndarray  # (n,) hyperplane of each sample
    orientation: np.ndarray  # (n,) +1 / -1
    norms: np.ndarray  # (n,), scaled
    slope: float
    weight: float  # 1/n, or 2/n for the mean loss
    x_exponent: int
    y_exponent: int
    rtol: float = 0.0  # local error of the residual, relative to y

    @classmethod
    def of(
        cls,
        data: Dataset,
        slope: float,
        loss: str,
        initial_output: np.ndarray,
        rtol: float = 0.0,
    ) -> Cells:
        """Scale `data`; where all labels are zero the network's output sets the scale."""
        size = np.max(np.abs(data.y)) or np.max(np.abs(initial_output)) or 1.0
        x_exponent = int(np.round(np.log2(np.max(data.norms))))
        y_exponent = int(np.round(np.log2(size)))
        # sqrt(x_scale / y_scale) must be a power of two as well.
        y_exponent += (x_exponent - y_exponent) % 2
        return cls(
            X=np.ldexp(data.X, -x_exponent),
            y=np.ldexp(data.y, -y_exponent),
            normals=np.ascontiguousarray(data.normals),
            index=np.ascontiguousarray(data.hyperplane, dtype=np.int64),
            orientation=np.ascontiguousarray(data.orientation, dtype=np.float64),
            norms=np.ldexp(data.norms, -x_exponent),
            slope=float(slope),
            weight=(2.0 if loss == "mean" else 1.0) / data.n,
            x_exponent=x_exponent,
            y_exponent=y_exponent,
            rtol=rtol,
        )

    @property
    def n(self) -> int:
        return self.X.shape[0]

    @property
    def d(self) -> int:
        return self.X.shape[1]

    @property
    def n_hyperplanes(self) -> int:
        return self.normals.shape[0]

    @property
    def time_exponent(self) -> int:
        """Scaled time is ``t * 2**time_exponent``."""
        return self.x_exponent + self.y_exponent

    @property
    def size_exponent(self) -> int:
        """Scaled parameters are ``theta * 2**size_exponent``."""
        return (self.x_exponent - self.y_exponent) // 2

    @cached_property
    def single(self) -> np.ndarray:
        """(G,) orientation shared by all samples of a hyperplane, 0 where they differ."""
        low = np.full(self.n_hyperplanes, 2.0)
        high = np.full(self.n_hyperplanes, -2.0)
        np.minimum.at(low, self.index, self.orientation)
        np.maximum.at(high, self.index, self.orientation)
        return np.where(low == high, low, 0.0)

    @cached_property
    def side_coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) values of sigma' at each sample on the + and on the - side."""
        positive = self.orientation > 0
        return np.where(positive, 1.0, self.slope), np.where(positive, self.slope, 1.0)

    @cached_property
    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """(G+1,) offsets and (n,) samples: each hyperplane's samples, one after another."""
        per_plane = np.bincount(self.index, minlength=self.n_hyperplanes)
        return np.append(0, np.cumsum(per_plane)), np.argsort(self.index, kind="stable")

    @cached_property
    def rate_scale(self) -> float:
        """``max_k |y_k| ||x_k||``, the scale of the field at the origin."""
        return float(np.max(np.abs(self.y) * self.norms)) or float(np.max(self.norms))

    def coefficients(self, code: np.ndarray) -> np.ndarray:
        """Return ``c_k`` (…, n) for codes (…, G); 0 on slides, where ``w.x_k = 0``."""
        side = code[..., self.index] * self.orientation
        return np.where(side > 0, 1.0, np.where(side < 0, self.slope, 0.0))

    def sample_codes(self, code: np.ndarray) -> np.ndarray:
        """Return the activation code of each sample, int8: -1 off, 0 slide, 1 on."""
        return code[..., self.index] * self._signs

    @cached_property
    def _signs(self) -> np.ndarray:
        return self.orientation.astype(np.int8)

    def field(self, r: np.ndarray, code: np.ndarray) -> np.ndarray:
        """Return D (d,) without what sliding hyperplanes contribute."""
        return self.weight * ((self.coefficients(code) * r) @ self.X)

    def sides(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (G,) arrays ``q^+`` and ``q^-``."""
        moment = self.weight * r * self.orientation * self.norms
        plus, minus = self.side_coefficients
        size = self.n_hyperplanes
        return (
            np.bincount(self.index, weights=plus * moment, minlength=size),
            np.bincount(self.index, weights=minus * moment, minlength=size),
        )

    def rounding(self, r: np.ndarray) -> float:
        """Return a bound on the rounding error of a component of D."""
        return TIE * self.weight * self._summed(r)

    def tie(self, r: np.ndarray) -> float:
        """Return the size below which a velocity or multiplier cannot be told from zero.

        That is its rounding, or what the local error of the residual makes of it.
        """
        return self.tie_factor * self._summed(r)

    @property
    def tie_factor(self) -> float:
        """The part of ``sum_k (|r_k| + |y_k|) ||x_k||`` that `tie` is."""
        return max(TIE, TIE_STEPS * self.rtol) * self.weight

    def _summed(self, r: np.ndarray) -> float:
        return float(np.sum((np.abs(r) + np.abs(self.y)) * self.norms))


def null_basis(normals: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (d, d - rank) of the complement of the rows."""
    d = normals.shape[1]
    if len(normals) == 0:
        return np.eye(d)
    _, s, vt = np.linalg.svd(normals, full_matrices=True)
    return vt[int(np.sum(s > RANK_TOLERANCE * s[0])) :].T


def projector(normals: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the projector (d, d) orthogonal to the rows, unit vectors, and their rank."""
    if len(normals) == 1:
        return np.eye(normals.shape[1]) - normals.T @ normals, 1
    free = null_basis(normals)
    return free @ free.T, normals.shape[1] - free.shape[1]


def multiplier_map(normals: np.ndarray) -> np.ndarray:
    """Return L with ``zeta = L D_0`` solving ``nu_g . (D_0 + sum zeta_h nu_h) = 0``.

    For independent rows N, unit vectors: ``L = -(N N^T)^{-1} N``.
    """
    if len(normals) == 1:
        return -normals
    return -np.linalg.pinv(normals.T)
