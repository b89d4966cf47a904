"""Inverses of many small matrices by LU with pivoting, whose triangles are inverted by products.

`jax.numpy.linalg.inv` calls BLAS's triangular solve on every matrix. That starts its threads for
each, which takes up to twenty times as long as the arithmetic if other work keeps the cores busy.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = Any

#: Triangles up to this size are inverted row by row.
LEAF = 16


def invert(matrices: Array) -> Array:
    """Return the inverses of (..., k, k) matrices; not finite where there is none."""
    lu, _, order = jax.lax.linalg.lu(matrices)
    lower = jnp.tril(lu, -1) + jnp.eye(matrices.shape[-1])
    both = _invert_lower(jnp.stack([lower, jnp.swapaxes(jnp.triu(lu), -1, -2)]))
    # Row i of PB is row order[i] of B, so column order[i] of the inverse is column i of (PB)⁻¹.
    back = jnp.argsort(order, axis=-1)
    return jnp.take_along_axis(jnp.swapaxes(both[1], -1, -2) @ both[0], back[..., None, :], axis=-1)


def _invert_lower(L: Array) -> Array:
    """Return the inverses of lower triangular matrices, by doubling the blocks inverted."""
    k = L.shape[-1]
    blocks = 1
    while -(-k // blocks) > LEAF:
        blocks *= 2
    leaf = -(-k // blocks)
    size = blocks * leaf
    lead = [(0, 0)] * (L.ndim - 2)
    L = jnp.pad(L, [*lead, (0, size - k), (0, size - k)])
    pad = jnp.concatenate([jnp.zeros(k), jnp.ones(size - k)])
    L = L + jnp.diag(pad)
    inverse = _substitute(jnp.stack([_block(L, i, i, leaf) for i in range(blocks)], axis=-3))
    while blocks > 1:
        blocks //= 2
        below = jnp.stack([_block(L, 2 * i + 1, 2 * i, leaf) for i in range(blocks)], axis=-3)
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        corner = -second @ (below @ first)
        inverse = jnp.concatenate(
            [
                jnp.concatenate([first, jnp.zeros_like(first)], axis=-1),
                jnp.concatenate([corner, second], axis=-1),
            ],
            axis=-2,
        )
        leaf *= 2
    return inverse[..., 0, :k, :k]


def _block(L: Array, i: int, j: int, size: int) -> Array:
    return L[..., i * size : (i + 1) * size, j * size : (j + 1) * size]


def _substitute(L: Array) -> Array:
    """Return the inverses of small lower triangular matrices, row after row."""
    eye = jnp.eye(L.shape[-1])

    def row(i: Array, inverse: Array) -> Array:
        # Rows from i on are still zero, so only what is known enters.
        left = jax.lax.dynamic_index_in_dim(L, i, axis=-2)
        known = jnp.sum(jnp.swapaxes(left, -1, -2) * inverse, axis=-2)
        diagonal = jax.lax.dynamic_index_in_dim(left, i, axis=-1)[..., 0]
        new = (eye[i] - known) / diagonal
        return jax.lax.dynamic_update_index_in_dim(inverse, new, i, axis=-2)

    return jax.lax.fori_loop(0, len(eye), row, jnp.zeros_like(L))
