"""What a trained network is compared with: least squares, and minimum-norm interpolators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from flowsim.data import Dataset
from flowsim.experiments.population import derivative_kernel, kernel
from flowsim.network import TwoLayerReLU

#: E[a²] / E[w_1²] of the random initialisations in d dimensions.
_OUTPUT_WEIGHT = {
    "balanced": lambda d: d,
    "mirrored": lambda d: d,
    "dominated": lambda d: d + 1,
    "unbalanced": lambda d: 1,
}


def ordinary_least_squares(data: Dataset) -> np.ndarray:
    """Return the linear fit (d,) to all samples, of minimal norm if there are several."""
    return np.linalg.lstsq(data.X, data.y, rcond=None)[0]


@dataclass(frozen=True, eq=False)
class HalfSpaces:
    """The linear fits on the two half-spaces of a linear teacher.

    Beyond the optimization threshold the flow from a small initialisation ends at

        h(x) = (b₊.x)₊ - (-b₋.x)₊,

    b± the least-squares fits to the samples with ±β*.x > 0.

    Attributes
    ----------
    plus, minus : (d,)
        b₊ and b₋, of minimal norm where a half-space has fewer than d samples.
    network : TwoLayerReLU
        h, of two neurons. With a negative slope s their directions are
        ``(b± - s b∓) / (1 - s²)``, up to sign: h is b±.x where both agree on the side.

    References
    ----------
    Boursier & Flammarion, arXiv 2410.02348, theorem 4.1.
    """

    plus: np.ndarray
    minus: np.ndarray
    network: TwoLayerReLU

    @staticmethod
    def of(data: Dataset, negative_slope: float = 0.0) -> HalfSpaces:
        """Fit both half-spaces of the data's teacher.

        Raises
        ------
        ValueError
            If the data have no teacher, or it is zero.
        """
        if data.teacher is None or not np.any(data.teacher):
            raise ValueError("Argument `data` must have a teacher that is not zero, but has none.")
        side = data.X @ data.teacher
        plus, minus = (
            np.linalg.lstsq(data.X[rows], data.y[rows], rcond=None)[0]
            if np.any(rows)
            else np.zeros(data.d)
            for rows in (side > 0.0, side < 0.0)
        )
        s = negative_slope
        u, v = (plus - s * minus) / (1.0 - s * s), (minus - s * plus) / (1.0 - s * s)
        return HalfSpaces(plus, minus, TwoLayerReLU([1.0, -1.0], np.stack([u, -v]), s))


@dataclass(frozen=True, eq=False)
class KernelInterpolator:
    """The interpolator of minimal norm of an infinitely wide network's linearisation.

        f(x) = K(x, X) K(X, X)^{-1} y.

    "random_features" trains the output weights only, ``K = E[sigma(w.x) sigma(w.x')]``; "ntk" all
    weights, ``K + c (x.x') E[sigma'(w.x) sigma'(w.x')]``, which is where the flow from a large
    scale tends to (Jacot et al. 2018; Chizat et al. 2019). c is E[a²]/E[w_1²] of the
    initialisation: d for balanced networks.

    Attributes
    ----------
    X : (n, d) and weights : (n,)
        Samples and coefficients.
    c : float
        0 for random features.
    negative_slope : float
    """

    X: np.ndarray
    weights: np.ndarray
    c: float
    negative_slope: float

    @staticmethod
    def of(
        data: Dataset, kind: str = "ntk", init: str = "balanced", negative_slope: float = 0.0
    ) -> KernelInterpolator:
        """Fit the data; in the sense of least squares where the kernel matrix is singular."""
        c = float(_OUTPUT_WEIGHT[init](data.d)) if kind == "ntk" else 0.0
        gram = _kernel(data.X, data.X, c, negative_slope)
        try:
            weights = scipy.linalg.cho_solve(scipy.linalg.cho_factor(gram), data.y)
        except np.linalg.LinAlgError:
            weights = np.linalg.lstsq(gram, data.y, rcond=None)[0]
        return KernelInterpolator(data.X, weights, c, negative_slope)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Return its outputs (k,) at inputs (k, d)."""
        rows = max(1, 2**22 // len(self.X))
        blocks = [X[i : i + rows] for i in range(0, len(X), rows)]
        outputs = [_kernel(b, self.X, self.c, self.negative_slope) @ self.weights for b in blocks]
        return np.concatenate(outputs)


def _kernel(U: np.ndarray, V: np.ndarray, c: float, negative_slope: float) -> np.ndarray:
    K = kernel(U, V, negative_slope)
    return K + c * (U @ V.T) * derivative_kernel(U, V, negative_slope) if c else K
