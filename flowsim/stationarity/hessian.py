"""Verdict on a rest point of a smooth model: the signs of its Hessian's extreme eigenvalues.

Hessian-vector products are derivatives of the gradient along a vector; Lanczos' method with full
reorthogonalisation (matfree) finds the extreme eigenvalues from few of them. Small Hessians are
formed and diagonalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from matfree import decomp

from flowsim._jax import x64
from flowsim.stationarity.classify import SAME_LOSS, Verdict

#: Hessians up to this size are formed.
DENSE = 200
#: Lanczos steps, tried in turn until the lowest eigenvalue is known.
DEPTHS = (32, 128, 512)
#: Bytes that the Lanczos vectors may take.
MEMORY = 256 * 2**20
#: Eigenvalues within this part of the largest are zero.
FLAT = 1e-6
#: The lowest eigenvalue's error that is aimed at, relative to the largest.
ACCURACY = 1e-8

#: A pytree of arrays.
Tree = Any


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The ends of a Hessian's spectrum.

    Attributes
    ----------
    lowest, highest : float
        Extreme eigenvalues. By Lanczos' method the lowest is an upper bound, and the highest,
        which only gives the scale, a lower one.
    vector : (P,)
        Unit eigenvector of the lowest, flat.
    error : float
        ``|H v - lowest v|``: some eigenvalue is that close.
    flat : int
        Number of eigenvalues within `FLAT` of zero, relative to the largest; -1 if some are
        but not all are known.
    products : int
        Hessian-vector products taken.
    """

    lowest: float
    highest: float
    vector: np.ndarray
    error: float
    flat: int
    products: int

    @property
    def largest(self) -> float:
        """The largest absolute value of an eigenvalue."""
        return max(abs(self.lowest), abs(self.highest))

    @property
    def descends(self) -> bool:
        """Whether the lowest eigenvalue is negative beyond doubt: there is a way down."""
        return self.lowest < -FLAT * self.largest


def spectrum(functional: Any, parameters: Tree, args: Tree) -> Spectrum:
    """Return the extreme eigenvalues of the Hessian of a loss, and the lowest one's vector.

    Parameters
    ----------
    functional : hashable
        Has ``loss(parameters, args)``, see `flowsim.models.Objective`.
    parameters, args : pytrees
        Where.

    Raises
    ------
    FloatingPointError
        If the Hessian is not finite.
    """
    with x64():
        flat = np.asarray(jax.flatten_util.ravel_pytree(parameters)[0])
        if flat.size <= DENSE:
            return _dense(_hessian(functional, parameters, args))
        # Deterministic, and as a Gaussian it has a part along every eigenvector.
        start = np.random.default_rng(0).standard_normal(flat.size)
        found: Spectrum | None = None
        for depth in _depths(flat.size):
            found = _lanczos(functional, depth, parameters, start, args)
            if found.error <= ACCURACY * found.largest:
                break
            if found.lowest < -10.0 * max(FLAT * found.largest, found.error):
                break
        assert found is not None
        return found


def limit_loss(functional: Any, parameters: Tree, args: Tree) -> float:
    """Return where Newton's step leads: ``L - g.H⁺g / 2`` with the curved directions of H.

    What is left of the loss while the flow relaxes exponentially to its rest point.
    """
    with x64():
        value, slope = _value_and_grad(functional, parameters, args)
        g = np.asarray(jax.flatten_util.ravel_pytree(slope)[0])
        size = _norm(g)
        if not size > 0.0:
            return float(value)
        if g.size <= DENSE:
            values, vectors = np.linalg.eigh(np.asarray(_hessian(functional, parameters, args)))
            parts = vectors.T @ (g / size)
        else:
            depth = _depths(g.size)[0]
            T, _ = _krylov(functional, depth, parameters, g / size, args)
            values, vectors = np.linalg.eigh(T)
            parts = vectors[0]
        curved = values > FLAT * np.max(np.abs(values))
        gain = float(np.sum(parts[curved] ** 2 / values[curved])) if np.any(curved) else 0.0
        return float(value) - 0.5 * size * size * gain


def classify(
    functional: Any,
    parameters: Tree,
    args: Tree,
    *,
    stationary: bool,
    initial_loss: float,
    known: Spectrum | None = None,
) -> Verdict:
    """Return the verdict on a state of a smooth model.

    Parameters
    ----------
    functional, parameters, args
        The loss and where it is looked at.
    stationary : bool
        Whether the flow has come to rest there.
    initial_loss : float
        The loss at the start of the run: what a loss that vanishes is small against, as it is
        against that of the zero function.
    known : Spectrum, optional
        The Hessian's at these parameters, if it has been computed.

    Returns
    -------
    Verdict
        ``interpolation``: the loss vanishes, or will; ``saddle``: the Hessian has a negative
        eigenvalue; ``local_minimum``: it has none, to second order; ``unknown``: its lowest
        eigenvalue has not been found well enough; ``not_stationary``.
    """
    nan = float("nan")
    if not stationary:
        return Verdict("not_stationary", nan, nan, "the parameters are still moving")
    limit = limit_loss(functional, parameters, args)
    if getattr(args, "y", None) is not None:
        scale = max(0.5 * float(args.weight) * float(np.sum(np.square(args.y))), initial_loss)
        with x64():
            loss = float(_value_and_grad(functional, parameters, args)[0])
        if loss <= SAME_LOSS * scale and limit <= SAME_LOSS**2 * scale:
            return Verdict("interpolation", max(limit, 0.0), nan, "the model fits every label")
    ends = spectrum(functional, parameters, args) if known is None else known
    kind, reason = _second_order(ends)
    if kind == "local_minimum" and ends.flat and getattr(args, "y", None) is None:
        kind = "unknown"  # networks have flat directions by their symmetries, others need not
    return Verdict(kind, limit, nan, reason)


def _second_order(ends: Spectrum) -> tuple[str, str]:
    if ends.largest == 0.0:
        return "unknown", "the Hessian is zero"
    if ends.descends:
        return "saddle", (
            f"the Hessian's lowest eigenvalue is {ends.lowest:.4g}, the highest "
            f"{ends.highest:.4g}: the flow escapes like exp({-ends.lowest:.4g} t)"
        )
    if ends.error > FLAT * ends.largest:
        return "unknown", (
            f"the Hessian's lowest eigenvalue is known to {ends.error / ends.largest:.1g} of the "
            "largest only"
        )
    if ends.flat:
        many = "some" if ends.flat < 0 else str(ends.flat)
        return "local_minimum", (
            f"no curvature is negative; along {many} flat direction(s) higher orders, which are "
            "not looked at, decide"
        )
    return "local_minimum", "the curvature is positive in every direction"


# -- computing ---------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def _value_and_grad(functional: Any, parameters: Tree, args: Tree) -> Any:
    return jax.value_and_grad(functional.loss)(parameters, args)


def _product(functional: Any, parameters: Tree, args: Tree) -> Any:
    """Return the function v -> H v of flat vectors."""
    flat, tree = jax.flatten_util.ravel_pytree(parameters)

    def slope(flat: Any) -> Any:
        g = jax.grad(functional.loss)(tree(flat), args)
        return jax.flatten_util.ravel_pytree(g)[0]

    return lambda v: jax.jvp(slope, (flat,), (v,))[1]


@partial(jax.jit, static_argnums=0)
def _hessian(functional: Any, parameters: Tree, args: Tree) -> Any:
    product = _product(functional, parameters, args)
    size = jax.flatten_util.ravel_pytree(parameters)[0].size
    H = jax.lax.map(product, jnp.eye(size), batch_size=32)
    return 0.5 * (H + H.T)


def _dense(H: Any) -> Spectrum:
    H = np.asarray(H)
    _demand_finite(H)
    values, vectors = np.linalg.eigh(H)
    largest = float(np.max(np.abs(values)))
    v = vectors[:, 0]
    return Spectrum(
        lowest=float(values[0]),
        highest=float(values[-1]),
        vector=v,
        error=_norm(H @ v - values[0] * v),
        flat=int(np.sum(np.abs(values) <= FLAT * largest)),
        products=len(values),
    )


def _depths(size: int) -> list[int]:
    most = max(min(size, MEMORY // (8 * size)), 8)
    return sorted({min(depth, most) for depth in DEPTHS})


@partial(jax.jit, static_argnums=(0, 1))
def _tridiagonal(
    functional: Any, depth: int, parameters: Tree, start: Any, unit: Any, args: Tree
) -> Any:
    decompose = decomp.tridiag_sym(depth, reortho="full", custom_vjp=False)
    product = _product(functional, parameters, args)
    return decompose(lambda v: product(v) / unit, start)


@partial(jax.jit, static_argnums=0)
def _apply(functional: Any, parameters: Tree, v: Any, args: Tree) -> Any:
    return _product(functional, parameters, args)(v)


def _krylov(
    functional: Any, depth: int, parameters: Tree, start: np.ndarray, args: Tree
) -> tuple[np.ndarray, np.ndarray]:
    """Return T (k, k) and Lanczos vectors (k, P): H is ``QᵀTQ`` on their span."""
    once = np.asarray(_apply(functional, parameters, start, args))
    _demand_finite(once)
    largest = float(np.max(np.abs(once)))
    if largest == 0.0:
        return np.zeros((1, 1)), (start / np.linalg.norm(start))[None]
    # Squares of a Hessian of 1e-200 would vanish.
    unit = np.ldexp(1.0, np.clip(np.frexp(largest)[1], -1000, 1000))
    found = _tridiagonal(functional, depth, parameters, start, unit, args)
    Q, T, rest = (np.asarray(x) for x in found[:3])
    # Beyond an invariant subspace there are only noise, and 0/0.
    couplings = np.append(np.diagonal(T, 1), np.linalg.norm(rest))
    size, end = 0.0, len(T)
    for k in range(len(T)):
        size = max(size, abs(T[k, k]))
        if not couplings[k] > 8 * len(T) * np.finfo(float).eps * size:
            end = k + 1
            break
        size = max(size, couplings[k])
    return unit * T[:end, :end], Q[:end]


def _lanczos(
    functional: Any, depth: int, parameters: Tree, start: np.ndarray, args: Tree
) -> Spectrum:
    T, Q = _krylov(functional, depth, parameters, start, args)
    values, vectors = np.linalg.eigh(T)
    v = vectors[:, 0] @ Q
    v /= np.linalg.norm(v)
    error = np.asarray(_apply(functional, parameters, v, args)) - values[0] * v
    largest = float(np.max(np.abs(values)))
    near = np.abs(values) <= FLAT * largest
    whole = len(T) == len(v)
    return Spectrum(
        lowest=float(values[0]),
        highest=float(values[-1]),
        vector=v,
        error=_norm(error),
        flat=int(np.sum(near)) if whole else -int(np.any(near)),
        products=depth + 2,
    )


def _norm(v: np.ndarray) -> float:
    """Return the Euclidean norm, without squares out of range."""
    largest = float(np.max(np.abs(v), initial=0.0))
    return largest * float(np.linalg.norm(v / largest)) if largest > 0.0 else 0.0


def _demand_finite(H: Any) -> None:
    if not np.all(np.isfinite(H)):
        raise FloatingPointError("The Hessian of the loss is not finite.")
