"""Two-layer networks as their implicit steps see them: a block a neuron, coupled by outputs.

In the variables ``z_j = (a_j, w_j)``, the neuron's weights over its scale s_j, the Jacobian of
the flow is

    J = blockdiag(H_j) - U Ω Vᵀ,   Ω = diag(weight),

where H_j is neuron j's own Jacobian for a constant residual, V has the gradients of the N = n p
outputs and U what each residual adds to the velocities. So ``I - sJ = B + s U Ω Vᵀ`` with
``B = blockdiag(I - s H_j)``, whose inverse is known block by block. Derived in
derivations/structured_step.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from flowsim.engines.structured_inverse import invert

#: Numbers that may be held at a time while neurons are gone through in chunks: 64 MiB.
CHUNK = 1 << 23
#: A block ``I - sM`` counts as singular if ``|1 - s²|D|²|`` is below this: half the digits go.
SINGULAR = 1e-8

Array = Any
#: Entries of a vector that belong to output weights, like `a`, and to input weights, like `W`.
Pair = tuple[Array, Array]


class TwoLayerView(eqx.Module):
    """One state of a two-layer network: what `Problem.two_layer` returns.

    `a` and `W` hold every entry of the state once, as they are in the problem's variables.
    """

    a: eqx.AbstractVar[Array]
    W: eqx.AbstractVar[Array]
    X: eqx.AbstractVar[Array]
    labels: eqx.AbstractVar[Array]
    weight: eqx.AbstractVar[Array]
    feels: eqx.AbstractVar[Array]

    @abstractmethod
    def factor(self, s: Array) -> Any:
        """Return what `solve` needs to apply B⁻¹: a pytree of arrays."""

    @abstractmethod
    def regular(self, stored: Any) -> Array:
        """Return whether B can be inverted (a bool scalar)."""

    @abstractmethod
    def solve(self, stored: Any, b: Pair) -> Pair:
        """Return B⁻¹ b."""

    @abstractmethod
    def outputs(self, b: Pair) -> Array:
        """Return Vᵀ b (N,): how the outputs change along b."""

    @abstractmethod
    def velocities(self, c: Array) -> Pair:
        """Return U c: what residuals c (N,) of weight one add to the velocities."""

    @abstractmethod
    def capacitance(self, stored: Any) -> Array:
        """Return Vᵀ B⁻¹ U (N, N)."""

    def omega(self) -> Array:
        """Return the diagonal of Ω (N,); 0 where the residual is frozen."""
        per_sample = jnp.broadcast_to(self.weight * self.feels, self.labels.shape[:1])
        return jnp.repeat(per_sample, self.labels.size // len(self.labels))


class FrozenTwoLayer(TwoLayerView):
    """A two-layer ReLU network with frozen activation patterns, its neurons inside a cell.

    The flow is ``a_j' = w_j·D_j``, ``w_j' = a_j D_j``,
    ``D_j = alive_j P_j Σ_k weight_k coef_jk r_k x_k``, ``P_j = I - slides_jᵀ slides_j``,
    ``r = labels - feels h``, ``h_k = Σ_j mass_j a_j coef_jk w_j·x_k``. Its blocks are
    ``H_j = [[0, D_jᵀ], [D_j, 0]]``.

    Attributes
    ----------
    a : (m,)
    W : (m, d)
    X : (n, d)
    labels : (n,)
    weight : () or (n,)
        Of a sample in the loss ``Σ_k weight_k r_k² / 2``.
    coef : (m, n)
        Slope of the activation.
    mass : (m,)
        Square of a neuron's scale; may be 0.
    alive : (m,)
        1.0, or 0.0 for neurons that do not move.
    slides : (m, s, d)
        Orthonormal rows, or rows of zeros; s may be 0.
    feels : ()
        1.0, or 0.0 with the residual frozen at the labels.
    """

    a: Array
    W: Array
    X: Array
    labels: Array
    weight: Array
    coef: Array
    mass: Array
    alive: Array
    slides: Array
    feels: Array

    def factor(self, s: Array) -> Array:
        """Return ``s D_j`` (m, d)."""
        h = _over_neurons(self.coef, self.mass * self.a, self.W, self.X)
        return s * self._field(self.weight * (self.labels - self.feels * h))

    def regular(self, stored: Array) -> Array:
        """Return whether no ``1 - s²|D_j|²`` vanishes."""
        return jnp.all(jnp.abs(_determinant(stored)) > SINGULAR)

    def solve(self, stored: Array, b: Pair) -> Pair:
        """Apply ``(I - sM)⁻¹ = I + (sM + s²M²)/(1 - s²|D|²)`` to every neuron."""
        a = (b[0] + jnp.sum(stored * b[1], axis=1)) / _determinant(stored)
        return a, b[1] + a[:, None] * stored

    def outputs(self, b: Pair) -> Array:
        """Return ``Σ_j mass_j coef_jk x_k·(w_j b_aj + a_j b_wj)``."""
        direction = self.W * b[0][:, None] + self.a[:, None] * b[1]
        return _over_neurons(self.coef, self.mass, direction, self.X)

    def velocities(self, c: Array) -> Pair:
        """Return the velocities that the field of the residuals c gives."""
        D = self._field(c)
        return jnp.sum(self.W * D, axis=1), self.a[:, None] * D

    def capacitance(self, stored: Array) -> Array:
        """Return Vᵀ B⁻¹ U in O((2 + slides) m n²): with α = coef w·x, β = coef a sD·x, it is

        Σ_j mass_j ((α + β)_k (α^P + β)_l / (1 - s²|D_j|²) + a_j² coef_jk coef_jl x_k·P_j x_l).
        """

        def part(of: tuple[FrozenTwoLayer, Array]) -> Array:
            view, delta = of
            inner = view.W @ view.X.T
            beta = view.a[:, None] * (delta @ view.X.T)
            left = view.coef * (inner + beta) * (view.mass / _determinant(delta))[:, None]
            seen = view.alive[:, None] * view.coef
            heavy = view.mass * view.a**2
            total = (view.X @ view.X.T) * ((heavy[:, None] * view.coef).T @ seen)
            if view.slides.shape[1]:
                normal = jnp.einsum("msd,nd->msn", view.slides, view.X)
                along = jnp.einsum("msd,md->ms", view.slides, view.W)
                inner = inner - jnp.einsum("ms,msn->mn", along, normal)
                off = jnp.einsum("m,mk,msk->msk", heavy, view.coef, normal)
                total = total - jnp.einsum("msk,ml,msl->kl", off, seen, normal)
            return total + left.T @ (seen * inner + view.coef * beta)

        n, s = len(self.labels), self.slides.shape[1]
        return accumulate(part, self, stored, CHUNK // ((6 + 3 * s) * n))

    def _field(self, c: Array) -> Array:
        """Return ``alive_j P_j Σ_k coef_jk c_k x_k`` (m, d)."""
        D = (self.coef * c) @ self.X
        if self.slides.shape[1]:
            along = jnp.einsum("msd,md->ms", self.slides, D)
            D = D - jnp.einsum("msd,ms->md", self.slides, along)
        return self.alive[:, None] * D

    def neurons(self) -> tuple[str, ...]:
        """Return which attributes have one entry a neuron."""
        return ("a", "W", "coef", "mass", "alive", "slides")


class SmoothTwoLayer(TwoLayerView):
    """A two-layer network ``h(x) = Σ_j s_j a_j φ(s_j w_j·x)``, a_j a number or (p,), any φ.

    The flow is ``z' = -∇L(s z)/s`` for ``L = Σ_k weight_k |r_k|² / 2``, r = labels - h, or for
    ``-Σ_k weight_k labels_k·h_k`` if `feels` is 0. Its blocks, symmetric and p + d wide, are

        H_j = Σ_k weight_k [[0, φ' r_k x_kᵀ], [φ' x_k r_kᵀ, s_j (a_j·r_k) φ'' x_k x_kᵀ]].

    Their inverses are stored, m (p + min(n, d))² numbers: from d > n inputs on, blocks are
    the identity orthogonally to the samples, so they are factored in the samples' span.

    Attributes
    ----------
    a : (m,) or (m, p)
    W : (m, d)
    X : (n, d)
    labels : (n,) or (n, p)
    weight : () or (n,)
    scale : (m,)
        Of each neuron: its weights are ``scale_j (a_j, w_j)``.
    phi : callable
        The activation: acts on arrays entry by entry, twice differentiable by JAX, hashable.
    feels : ()
        1.0, or 0.0 with the residual frozen at the labels.
    """

    a: Array
    W: Array
    X: Array
    labels: Array
    weight: Array
    scale: Array
    phi: Callable[[Array], Array] = eqx.field(static=True)
    feels: Array

    def factor(self, s: Array) -> tuple[Array, Array]:
        """Return the inverse blocks (m, p + r, p + r), and rows (r, d) that span the samples."""
        n, d = self.X.shape
        basis = jnp.linalg.qr(self.X.T)[0].T if d > n else jnp.zeros((0, d))
        X, R = self._samples(basis), self._pull()
        p = R.shape[1]
        first, second = _derivatives(self.phi)

        def inverse(of: tuple[Array, Array, Array]) -> Array:
            a, w, scale = of
            u = scale * (self.X @ w)
            edge = (R * first(u)[:, None]).T @ X
            bend = (scale * (R @ a) * second(u))[:, None] * X
            block = jnp.block([[jnp.zeros((p, p)), edge], [edge.T, bend.T @ X]])
            return invert(jnp.eye(len(block)) - s * block)

        width = p + X.shape[1]
        size = max(CHUNK // (width * (4 * width + n)), 1)
        neurons = (self._a(), self.W, self.scale)
        return jax.lax.map(inverse, neurons, batch_size=min(size, len(self.W))), basis

    def regular(self, stored: tuple[Array, Array]) -> Array:
        """Return whether all blocks could be inverted."""
        return jnp.all(jnp.isfinite(stored[0]))

    def solve(self, stored: tuple[Array, Array], b: Pair) -> Pair:
        """Apply the stored inverses."""
        inverse, basis = stored
        first = b[0].reshape(len(self.W), -1)
        p = first.shape[1]
        inside = b[1] @ basis.T if len(basis) else b[1]
        x = jnp.einsum("mij,mj->mi", inverse, jnp.concatenate([first, inside], axis=1))
        rest = b[1] + (x[:, p:] - inside) @ basis if len(basis) else x[:, p:]
        return x[:, :p].reshape(b[0].shape), rest

    def outputs(self, b: Pair) -> Array:
        """Return ``Σ_j s_j (φ b_aj + s_j a_j φ' x·b_wj)``, sample by sample."""
        u = self._u()
        first = _derivatives(self.phi)[0](u)
        pulled = (self.scale[:, None] * first * (b[1] @ self.X.T)).T @ (
            self.scale[:, None] * self._a()
        )
        direct = self.phi(u).T @ (self.scale[:, None] * b[0].reshape(len(u), -1))
        return (direct + pulled).ravel()

    def velocities(self, c: Array) -> Pair:
        """Return ``Σ_k (φ c_k / s_j, (a_j·c_k) φ' x_k)``."""
        u, R = self._u(), c.reshape(len(self.X), -1)
        first = _derivatives(self.phi)[0](u)
        direct = (self.phi(u) / self.scale[:, None]) @ R
        return direct.reshape(self.a.shape), ((self._a() @ R.T) * first) @ self.X

    def capacitance(self, stored: tuple[Array, Array]) -> Array:
        """Return Vᵀ B⁻¹ U = Σ_j G_jᵀ B_j⁻¹ G_j, G_j the gradients of the outputs (p + r, N).

        Uses U_j = G_j / s_j, V_j = s_j G_j: the scales cancel, and none can overflow.
        """
        X, p = self._samples(stored[1]), self._pull().shape[1]
        first = _derivatives(self.phi)[0]
        width, N = p + X.shape[1], len(X) * p

        def gradient(a: Array, w: Array, scale: Array) -> Array:
            u = scale * (self.X @ w)
            direct = jnp.eye(p)[:, None, :] * self.phi(u)[None, :, None]
            pulled = (first(u)[:, None] * X).T[:, :, None] * (scale * a)
            return jnp.concatenate([direct, pulled]).reshape(width, N)

        def part(of: tuple[SmoothTwoLayer, Array]) -> Array:
            view, inverse = of
            G = jax.vmap(gradient)(view._a(), view.W, view.scale)
            return jnp.tensordot(G, inverse @ G, axes=((0, 1), (0, 1)))

        return accumulate(part, self, stored[0], CHUNK // (3 * width * N))

    def neurons(self) -> tuple[str, ...]:
        """Return which attributes have one entry a neuron."""
        return ("a", "W", "scale")

    def _a(self) -> Array:
        return self.a.reshape(len(self.W), -1)

    def _u(self) -> Array:
        return self.scale[:, None] * (self.W @ self.X.T)

    def _samples(self, basis: Array) -> Array:
        """Return the samples (n, r) in the coordinates of `basis`, if that is used."""
        return self.X @ basis.T if len(basis) else self.X

    def _pull(self) -> Array:
        """Return ``weight_k r_k`` (n, p)."""
        Y = self.labels.reshape(len(self.X), -1)
        h = self.phi(self._u()).T @ (self.scale[:, None] * self._a())
        weight = jnp.broadcast_to(self.weight, Y.shape[:1])
        return weight[:, None] * (Y - self.feels * h)


def accumulate(
    part: Callable[[tuple[Any, Array]], Array], view: Any, stored: Array, size: int
) -> Array:
    """Return the sum of ``part((view, stored))`` over chunks of at most `size` neurons."""
    m, size = len(view.W), max(size, 1)
    if m <= size:
        return part((view, stored))
    names = view.neurons()
    arrays = ([getattr(view, name) for name in names], stored)

    def chunk(values: Any) -> Array:
        where = lambda tree: [getattr(tree, name) for name in names]  # noqa: E731
        return part((eqx.tree_at(where, view, values[0]), values[1]))

    whole = m // size * size
    heads = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), arrays)
    like = jax.eval_shape(chunk, jax.tree.map(lambda x: x[0], heads))
    zero = jnp.zeros(like.shape, like.dtype)
    total, _ = jax.lax.scan(lambda sum_, values: (sum_ + chunk(values), None), zero, heads)
    if whole < m:
        total = total + chunk(jax.tree.map(lambda x: x[whole:], arrays))
    return total


def _over_neurons(coef: Array, factor: Array, directions: Array, X: Array) -> Array:
    """Return ``Σ_j factor_j coef_jk x_k·directions_j`` (n,)."""
    return factor @ (coef * (directions @ X.T))


def _determinant(delta: Array) -> Array:
    """Return ``1 - |δ_j|²`` (m,), free of cancellation near 1."""
    size = jnp.linalg.norm(delta, axis=1)
    return (1.0 - size) * (1.0 + size)


def _derivatives(
    phi: Callable[[Array], Array],
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Return φ' and φ'' of an activation that acts entry by entry."""

    def derivative(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return lambda u: jax.jvp(f, (u,), (jnp.ones_like(u),))[1]

    return derivative(phi), derivative(derivative(phi))
