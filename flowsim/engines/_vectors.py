"""A `Problem` as solvers of NumPy see it: one vector of float64, and functions of vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from flowsim.engines.problem import Knot, Problem, Tree

#: Columns of a Jacobian that forward mode computes at once: they bound its memory.
_COLUMNS = 128


class Layout(NamedTuple):
    """How the leaves of a pytree lie in a vector; hashable.

    `structure` is JAX's, or None if the tree is one NumPy array, which takes no JAX.
    """

    shapes: tuple[tuple[int, ...], ...]
    structure: Any

    @classmethod
    def of(cls, tree: Tree) -> Layout:
        """Return the layout of a pytree of arrays."""
        if isinstance(tree, np.ndarray):
            return cls((tree.shape,), None)
        import jax

        leaves, structure = jax.tree_util.tree_flatten(tree)
        return cls(tuple(np.shape(leaf) for leaf in leaves), structure)

    @property
    def size(self) -> int:
        """Number of entries P."""
        return sum(prod(shape) for shape in self.shapes)

    def leaves(self, tree: Tree) -> list[Any]:
        """Return the leaves of a tree of this structure."""
        if self.structure is None:
            return [tree]
        import jax

        return jax.tree_util.tree_leaves(tree)

    def flatten(self, tree: Tree, xp: Any) -> Any:
        """Return the entries as one vector (P,); leaves are broadcast to their shapes."""
        leaves = zip(self.leaves(tree), self.shapes, strict=True)
        return xp.concatenate([xp.ravel(xp.broadcast_to(leaf, shape)) for leaf, shape in leaves])

    def unflatten(self, v: Any) -> Tree:
        """Return the tree of an array (..., P), with leaves of shape (..., *shape)."""
        ends = np.cumsum([prod(shape) for shape in self.shapes])
        leaves = [
            v[..., end - prod(shape) : end].reshape((*v.shape[:-1], *shape))
            for end, shape in zip(ends.tolist(), self.shapes, strict=True)
        ]
        return leaves[0] if self.structure is None else self.structure.unflatten(leaves)


class _Functions(NamedTuple):
    """A problem's methods as functions of vectors, and the Jacobian of those that JAX traces."""

    field: Callable[..., Any]
    describe: Callable[..., Any]
    leaves: Callable[..., Any]
    jacobian: Callable[..., Any] | None = None


def _functions(problem: Problem, layout: Layout, xp: Any) -> _Functions:
    def tree(v: Any) -> Tree:
        return layout.unflatten(v)

    def vector(t: Tree) -> Any:
        return layout.flatten(t, xp)

    def field(v: Any, args: Tree) -> Any:
        return vector(problem.field(0.0, tree(v), args))

    def describe(v: Any, args: Tree) -> Any:
        y = tree(v)
        f, s = problem.jet(y, args)
        return vector(f), vector(s), vector(problem.size(y, args)), problem.observe(y, f, args)

    def leaves(before: Any, after: Any, h: Any, args: Tree) -> Any:
        first, last = ([tree(v) for v in knot] for knot in (before, after))
        return problem.leaves(Knot(*first), Knot(*last), h, args)

    return _Functions(field, describe, leaves)


@lru_cache(maxsize=64)
def _compiled(problem: Problem, layout: Layout) -> _Functions:
    """Return the functions compiled by JAX: once for equal problems and layouts."""
    import jax
    import jax.numpy as jnp

    plain = _functions(problem, layout, jnp)

    def forward(v: Any, args: Tree) -> Any:
        """Return df_i/dv_j by pushing unit vectors forward, some columns at a time."""
        _, push = jax.linearize(lambda x: plain.field(x, args), v)
        column = lambda j: push(jnp.zeros_like(v).at[j].set(1.0))  # noqa: E731
        return jax.lax.map(column, jnp.arange(v.size), batch_size=min(v.size, _COLUMNS)).T

    compiled = (jax.jit(function) for function in (*plain[:3], forward))
    return _Functions(*compiled)


@dataclass(frozen=True, eq=False)
class Vectors:
    """A state with what a step needs to know about it, all of shape (P,)."""

    v: np.ndarray
    f: np.ndarray
    s: np.ndarray
    size: np.ndarray
    observed: dict[str, Any]

    @property
    def finite(self) -> bool:
        """Whether state, velocity and acceleration are."""
        return all(bool(np.isfinite(x).all()) for x in (self.v, self.f, self.s, self.size))


class System:
    """A problem with its arguments, on vectors; counts evaluations of the field.

    A problem whose `traceable` is true takes JAX arrays and is compiled; others take NumPy
    arrays. For the former, all methods need `flowsim._jax.x64`.
    """

    def __init__(self, problem: Problem, y: Tree, args: Tree, evaluations: int = 0) -> None:
        self.evaluations = evaluations
        #: Whether the field was finite wherever it was evaluated since this was last set.
        self.finite = True
        self.layout = Layout.of(y)
        self._problem, self._given = problem, args
        if is_traceable(problem):
            import jax

            self._functions = _compiled(problem, self.layout)
            self._args = jax.tree_util.tree_map(jax.numpy.asarray, args)
        else:
            self._functions = _functions(problem, self.layout, np)
            self._args = args

    def describes(self, problem: Problem, y: Tree, args: Tree) -> bool:
        """Return whether this is the system of a problem with these arguments."""
        same_problem = self._problem is problem or self._problem == problem
        return same_problem and self.layout == Layout.of(y) and same(self._given, args)

    def flatten(self, y: Tree) -> np.ndarray:
        """Return a new vector of the entries of a tree."""
        return np.array(self.layout.flatten(y, np), dtype=np.float64)

    def field(self, t: float, v: np.ndarray) -> np.ndarray:
        """Return f(v)."""
        self.evaluations += 1
        f = np.asarray(self._functions.field(v, self._args))
        self.finite = self.finite and bool(np.isfinite(f).all())
        return f

    def describe(self, v: np.ndarray) -> Vectors:
        """Return the state's velocity, acceleration, sizes and observations."""
        f, s, size, observed = self._functions.describe(v, self._args)
        return Vectors(v, np.asarray(f), np.asarray(s), np.asarray(size), observed)

    def leaves(self, before: Vectors, after: Vectors, h: float) -> bool:
        """Return what `Problem.leaves` says of a step."""
        first, last = ((knot.v, knot.f, knot.s) for knot in (before, after))
        return bool(self._functions.leaves(first, last, h, self._args))

    def jacobian(self, kind: str) -> Callable[[float, np.ndarray], np.ndarray] | None:
        """Return (t, v) -> df_i/dv_j, or None for finite differences.

        A problem's own ``jacobian(y, args) -> (P, P)`` is never traced: it gets NumPy arrays
        and the arguments as they were given.

        Raises
        ------
        ValueError
            If the problem has no such Jacobian.
        """
        problem: Any = self._problem
        offered: dict[str, Callable[[np.ndarray], Any]] = {}
        if getattr(problem, "jacobian", None) is not None:
            unflatten = self.layout.unflatten
            offered["analytic"] = lambda v: problem.jacobian(unflatten(v), self._given)
        if (forward := self._functions.jacobian) is not None:
            offered["jax"] = lambda v: forward(v, self._args)
        if kind == "auto":
            kind = next(iter(offered), "finite")
        if kind == "finite":
            return None
        if kind not in offered:
            names = ", ".join(["auto", *offered, "finite"])
            raise ValueError(
                f"Argument `jacobian` must be one of {names} for this problem, but is {kind!r}."
            )
        return lambda t, v: np.asarray(offered[kind](v))


def is_traceable(problem: Problem) -> bool:
    """Return whether JAX can trace a problem's methods."""
    return bool(getattr(problem, "traceable", False))


def same(first: Any, second: Any) -> bool:
    """Return whether two pytrees of arrays are equal, entry by entry; needs no JAX.

    Nodes of other types than tuples, lists and dictionaries are equal only if identical.
    """
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    leaf = isinstance(first, int | float) or hasattr(first, "__array__")
    return leaf and bool(np.array_equal(first, second))
