"""Descents that diverge, or whose weights are very small; limits of its arguments."""

from __future__ import annotations


import numpy as np
import pytest

import flowsim as fs
from flowsim.engines import Descent

SMALL = fs.TwoLayerReLU(
    [1e-2, -1e-2, 2e-2], [[1e-2, 0.5e-2], [1e-2, -1e-2], [-1e-2, 1e-3]]
)  # fmt: skip
DATA = fs.Dataset([[1.0, 0.5], [-0.3, 1.0], [0.2, -1.0]], [1.0, -0.5, 0.3])
THREE = fs.datasets.three_points()


# -- small weights -------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "dtype"), [(1e-200, "float64"), (1e-24, "float32")])
def test_growth_of_very_small_weights_ends_the_alignment(scale, dtype):
    net = fs.init.balanced(4, 2, scale, seed=0)
    options = {"alignment": "growth", "alignment_epsilon": 0.1}
    run = fs.simulate(net, THREE, engine=Descent("gd", 0.05, dtype=dtype), t1=1500.0, **options)
    end = run.alignment.end_time
    grown = lambda t: np.max(run.network(t).log_norm - net.log_norm)  # noqa: E731
    needed = -0.1 * np.log(scale)
    assert grown(end) == pytest.approx(needed, rel=0.03)
    assert grown(end - 0.05) < needed


@pytest.mark.parametrize("init", ["unbalanced", "dominated"])
def test_log_norms_of_any_neurons_have_no_smallest_scale(init):
    net = getattr(fs.init, init)(4, 2, log10_scale=-3000, seed=0)
    run = fs.simulate(net, THREE, engine=Descent("gd", 0.05, coordinates="log_norm"))
    flow = fs.simulate(net, THREE)
    assert (run.status, flow.status) == ("stationary", "stationary")
    assert run.final.loss == pytest.approx(flow.final.loss, rel=1e-9)
    # Several neurons may grow together; what they compute has one limit.
    np.testing.assert_allclose(
        run.final.network(THREE.X), flow.final.network(THREE.X), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(run.t_end, flow.t_end, rtol=0.1)


def test_log_norms_follow_neurons_through_zero():
    """Two of these neurons have |a| > |w|, and their w goes past 0 at less than 1/100 of a."""
    net = fs.init.unbalanced(4, 2, 1e-1, seed=0)
    flow = fs.simulate(net, DATA, t1=12.0)
    part = lambda t: np.linalg.norm(flow.network(t).direction[:, 1:], axis=1)  # noqa: E731
    assert np.sum(np.min([part(t) for t in np.linspace(0, 4, 81)], axis=0) < 1e-2) == 2
    gap = lambda n: n.a**2 - np.sum(n.W**2, axis=1)  # noqa: E731
    for rate in (5e-2, 1e-2, 1e-3):
        run = fs.simulate(net, DATA, engine=Descent("gd", rate, coordinates="log_norm"), t1=12.0)
        end = run.final.network
        assert run.status == "t1"
        assert np.linalg.norm(end.W - flow.final.network.W) < 0.15 * rate
        np.testing.assert_allclose(gap(end), gap(net), rtol=0, atol=1e-14)
