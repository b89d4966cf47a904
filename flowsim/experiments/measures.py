"""What is measured of the end of a run: losses, linear maps, directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.experiments import population
from flowsim.experiments.baselines import HalfSpaces, KernelInterpolator, ordinary_least_squares
from flowsim.inputs import ROTATION_INVARIANT
from flowsim.network import TwoLayerReLU

if TYPE_CHECKING:
    from flowsim.data import Dataset
    from flowsim.solution import Solution

#: Neurons closer than this angle, in radians, have one direction.
SAME_DIRECTION = 1e-3
#: Neurons with less than this part of sum |a_j||w_j| count for no direction.
LEAST_PART = 1e-6
#: Squares of distances below this part of the functions' own are differences of rounded numbers in
#: closed form, so that they are sampled.
CANCELLED = 1e-9
#: Inputs that kernel interpolators are tested on.
KERNEL_SAMPLE = 2**15

Function = Callable[[np.ndarray], np.ndarray]


def excess_loss(network: Any, data: Dataset) -> float:
    """Return ``(1/2) E[(h(x) - β*.x)^2]`` of a network, or of a function of inputs (k, d).

    In closed form for networks and Gaussian, symmetric or spherical inputs, otherwise over a
    fixed sample: of 65 536 inputs, or of 32 768 for a `KernelInterpolator` (to about 1 %). nan
    where the data have no teacher, or no distribution of `flowsim.inputs`.
    """
    if data.teacher is None or data.inputs is None:
        return float("nan")
    if isinstance(network, TwoLayerReLU) and data.inputs in ROTATION_INVARIANT:
        line = population.linear_network(data.teacher, network.negative_slope)
        return 0.5 * population.distance_square(network, line)
    error = _minus_teacher(function_of(network), data.teacher)
    if not isinstance(network, KernelInterpolator):
        return 0.5 * population.sampled_square(error, data.inputs, data.d)
    # Homogeneous, too: on the sphere squares vary less, and so their mean.
    inputs = "sphere" if data.inputs in ROTATION_INVARIANT else data.inputs
    return 0.5 * population.sampled_square(error, inputs, data.d, KERNEL_SAMPLE)


def function_of(network: Any) -> Function:
    """Return a function of inputs (k, d) with outputs (k,)."""
    return lambda X: np.asarray(network(X)).reshape(len(X))


def _minus_teacher(function: Function, teacher: np.ndarray) -> Function:
    return lambda X: function(X) - X @ teacher


def baseline_fields(
    data: Dataset, point_init: str, activation: str, negative_slope: float
) -> dict[str, float]:
    """Return the excess losses of linear least squares, and for relu of the interpolators."""
    if data.teacher is None or data.inputs is None:
        return {}
    error = ordinary_least_squares(data) - data.teacher
    fields = {"linear_excess": 0.5 * float(error @ error)}
    for kind in ("ntk", "random_features") if activation == "relu" else ():
        fitted = KernelInterpolator.of(data, kind, point_init, negative_slope)
        fields[f"{kind}_excess"] = excess_loss(fitted, data)
    return fields


def half_space_fields(network: Any, data: Dataset, negative_slope: float) -> dict[str, float]:
    """Return how far a network is from the half-spaces' least-squares fits, and their losses."""
    if data.teacher is None or not np.any(data.teacher):
        return {}
    halves = HalfSpaces.of(data, negative_slope)
    fields = {
        "ols_loss": halves.network.loss(data),
        "ols_excess": excess_loss(halves.network, data),
        "ols_distance": _distance(network, halves.network, data),
    }
    for sign, name, fitted in ((1.0, "plus", halves.plus), (-1.0, "minus", halves.minus)):
        slope = linear_map(network, sign * data.teacher)
        fields[f"{name}_error"] = float(np.linalg.norm(slope - data.teacher))
        fields[f"{name}_ols_error"] = float(np.linalg.norm(slope - fitted))
    return fields


def _distance(network: Any, halves: TwoLayerReLU, data: Dataset) -> float:
    """Return ``sqrt(E[(h - h_OLS)^2])``, over the samples where the distribution is not known."""
    if isinstance(network, TwoLayerReLU) and data.inputs in ROTATION_INVARIANT:
        square = population.distance_square(network, halves)
        scale = population.mean_square(halves.a, halves.W, halves.negative_slope)
        if square > CANCELLED * scale:
            return float(np.sqrt(square))
    h = function_of(network)
    if data.inputs is None:
        return float(np.sqrt(np.mean(np.square(h(data.X) - halves(data.X)))))
    square = population.sampled_square(lambda X: h(X) - halves(X), data.inputs, data.d)
    return float(np.sqrt(square))


def linear_map(network: Any, x: np.ndarray) -> np.ndarray:
    """Return the network's gradient (d,) in its inputs at x, taken at ``|x| = sqrt(d)``."""
    x = x * (np.sqrt(len(x)) / np.linalg.norm(x))
    if isinstance(network, TwoLayerReLU):
        slopes = np.where(network.W @ x > 0.0, 1.0, network.negative_slope)
        return (network.a * slopes) @ network.W
    import jax

    from flowsim._jax import x64

    with x64():
        return np.asarray(jax.grad(lambda z: network.forward(z).reshape(()))(x))


def direction_count(network: TwoLayerReLU) -> int:
    """Return how many distinct directions (sign of a, w/|w|) the neurons that matter have.

    Those with at least 1e-6 of ``sum |a_j||w_j|``; chains of neurons that are each within 1e-3
    radians of the next have one direction.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    norms = np.linalg.norm(network.W, axis=1)
    sizes = np.abs(network.a) * norms
    kept = sizes > LEAST_PART * np.sum(sizes)
    if not np.any(kept):
        return 0
    units = np.column_stack([np.sign(network.a), network.W / np.maximum(norms, 1e-300)[:, None]])
    # Rounded first, so that thousands of neurons in one direction are few points.
    grid = np.unique(np.round(units[kept] / (0.1 * SAME_DIRECTION)), axis=0)
    points = grid * (0.1 * SAME_DIRECTION)
    pairs = KDTree(points).query_pairs(SAME_DIRECTION, output_type="ndarray")
    ones = np.ones(len(pairs), dtype=bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    return int(connected_components(graph, directed=False, return_labels=False))


def alignment_fields(solution: Solution, data: Dataset) -> dict[str, float]:
    """Return when early alignment has ended, and how its extremal vectors are spread.

    The spread is ``max |D - (1 + s)/2 β*|`` over those that neurons tend to: the population has
    that one D (Boursier & Flammarion, arXiv 2410.02348, theorem 3.1).
    """
    found = solution.alignment
    fields = {"alignment_end": found.end_time}
    if isinstance(solution.initial, TwoLayerReLU):
        fields["alignment_predicted"] = found.predicted_time
        fields["extremal_count"] = len(found.norm)
        if data.teacher is not None and len(found.norm):
            center = 0.5 * (1.0 + solution.initial.negative_slope) * data.teacher
            fields["extremal_spread"] = float(np.max(np.linalg.norm(found.D - center, axis=1)))
    return fields
