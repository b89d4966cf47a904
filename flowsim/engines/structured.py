"""Structured implicit steps: root finders for diffrax's implicit solvers.

A two-layer network never needs the dense Jacobian of its flow: its implicit steps are solved
through a block a neuron and one system as large as the outputs are many. A problem that is one
says so by a method

    two_layer(y, args) -> TwoLayerView | None

that returns the network at the state y: a `FrozenTwoLayer` (ReLU, patterns frozen) or a
`SmoothTwoLayer` (any activation), or None if the model is none after all. Which one, or None,
may depend on the problem and on shapes alone, since this is called while JAX traces. `a` and `W`
of the view must hold each entry of y once, unchanged and in any order; everything else comes from
`args`. The view's flow must be ``problem.field``, whose Jacobian is then never asked for.

Problems without the method, or for which it returns None, are linearised densely or, if large,
by Jacobian-vector products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowsim._arguments import one_of
from flowsim.engines.problem import Tree
from flowsim.engines.structured_blocks import FrozenTwoLayer, SmoothTwoLayer, TwoLayerView
from flowsim.engines.structured_chord import StructuredChord
from flowsim.engines.structured_solve import Dense, Krylov, Linearisation, MatrixFree, Woodbury

__all__ = [
    "FrozenTwoLayer",
    "SmoothTwoLayer",
    "StructuredChord",
    "TwoLayerView",
    "structured_root_finder",
]

#: More parameters than this are never linearised densely: the matrix would exceed 200 MB.
MOST_PARAMETERS = 5000
#: More outputs than this never make a dense system: it would exceed 72 MB.
MOST_OUTPUTS = 3000
#: More numbers than this are never stored for the blocks of a network: 480 MB, a few times over
#: inside a step.
MOST_STORED = 60_000_000
KINDS = ("auto", "dense", "structured", "krylov")


def structured_root_finder(problem: Any, rtol: float, kind: str = "auto") -> StructuredChord | None:
    """Return a root finder for diffrax's implicit solvers of ``y' = problem.field(t, y, args)``.

    Pass it as ``diffrax.Kvaerno5(root_finder=...)``; `StructuredChord` says what else it needs.

    Parameters
    ----------
    problem : Problem
        Static and hashable; with a method `two_layer` (see above) if it is such a network.
    rtol : float
        Tolerance of the steps, relative to variables of order one; root finding is finer.
    kind : str, optional
        "dense": the whole matrix. "structured": blocks and the system of the outputs. "krylov":
        GMRES on that system, or on all variables for problems that are no two-layer network.
        "auto", the default, chooses by the sizes of the state and of the data, see `cheapest`.

    Returns
    -------
    StructuredChord or None
        None for "structured" if `problem` has no `two_layer`.

    Raises
    ------
    ValueError
        For a kind that does not exist; on the first step, if kind "structured" meets a problem
        whose `two_layer` returns None.
    """
    one_of("kind", kind, KINDS)
    if kind == "structured" and not hasattr(problem, "two_layer"):
        return None
    return StructuredChord(problem=problem, rtol=rtol, atol=rtol, choose=_CHOICES[kind])


class Sizes(NamedTuple):
    """What decides how to linearise."""

    parameters: int
    outputs: int = 0  # N = n p; 0 for what is no two-layer network
    neurons: int = 0
    width: int = 0  # of a block that is factored; 0 for closed forms
    samples: int = 0
    slides: int = 0


def cheapest(sizes: Sizes) -> str:
    """Return "dense", "woodbury", "krylov" or "matrix_free": least work within bounded memory.

    Work is counted in multiplications of one factorisation, which a step does once: P²n + P³/3
    for the dense matrix, and N³/3 with the blocks' shares for a network.
    """
    P, N, m, width, n, slides = sizes
    stored = m * width**2
    if N == 0 or stored > MOST_STORED:
        return "dense" if MOST_PARAMETERS >= P else "matrix_free"
    if width:
        blocks = m * (2 * width**3 + width**2 * (n + N) + width * N**2)
    else:
        blocks = m * (2 + slides) * N**2
    dense = P**2 * n + P**3 // 3 if MOST_PARAMETERS >= P else None
    woodbury = blocks + N**3 // 3 if MOST_OUTPUTS >= N else None
    if woodbury is not None and (dense is None or woodbury <= dense):
        return "woodbury"
    return "krylov" if dense is None else "dense"


def measure(problem: Any, y: Tree, args: Tree) -> Sizes:
    """Return the sizes of a problem from shapes alone."""
    parameters = sum(jnp.size(leaf) for leaf in jax.tree.leaves(y))
    view = _shape_of_view(problem, y, args)
    if view is None:
        return Sizes(parameters)
    (m, d), n, outputs = view.W.shape, len(view.X), view.labels.size
    width = outputs // n + min(d, n) if isinstance(view, SmoothTwoLayer) else 0
    slides = view.slides.shape[1] if isinstance(view, FrozenTwoLayer) else 0
    return Sizes(parameters, outputs, m, width, n, slides)


def _shape_of_view(problem: Any, y: Tree, args: Tree) -> TwoLayerView | None:
    if not hasattr(problem, "two_layer"):
        return None
    return jax.eval_shape(problem.two_layer, y, args)


def _auto(problem: Any, y: Tree, args: Tree) -> Linearisation:
    return _WAYS[cheapest(measure(problem, y, args))]


def _dense(problem: Any, y: Tree, args: Tree) -> Linearisation:
    return Dense()


def _structured(problem: Any, y: Tree, args: Tree) -> Linearisation:
    if _shape_of_view(problem, y, args) is None:
        raise ValueError(
            "Argument `kind` must not be structured unless the model is a two-layer network, but "
            "it is."
        )
    return Woodbury()


def _krylov(problem: Any, y: Tree, args: Tree) -> Linearisation:
    return MatrixFree() if _shape_of_view(problem, y, args) is None else Krylov()


_WAYS = {
    "dense": Dense(),
    "woodbury": Woodbury(),
    "krylov": Krylov(),
    "matrix_free": MatrixFree(),
}
_CHOICES = {"auto": _auto, "dense": _dense, "structured": _structured, "krylov": _krylov}
