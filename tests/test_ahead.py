"""Where r = y takes an initialisation is the same whether it is walked at once or in two parts."""

import numpy as np
import pytest

import flowsim as fs
from flowsim.alignment import ahead, flow, until


def angle(u, v):
    return np.linalg.norm(u - v, axis=1)


@pytest.mark.parametrize("part", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_two_parts_end_where_one_does(seed, part):
    data = fs.datasets.linear_teacher(12, 3, noise=0.5, seed=seed)
    net = fs.init.balanced(600, 3, 1e-6, seed=seed)
    once = until(net, data, record=False)
    asked = ahead.Ahead(net, data, "half_mean")
    there = asked.direction(part * once.t)
    known = flow(net, data, part * once.t, record=False).direction
    np.testing.assert_array_equal(there, known)
    np.testing.assert_array_equal(asked.end.limit, once.limit)
    np.testing.assert_array_equal(asked.end.changes, once.changes)
    np.testing.assert_allclose(asked.end.limit_direction, once.limit_direction, atol=1e-13)
    np.testing.assert_allclose(asked.end.t, once.t, rtol=1e-12)
    assert np.max(angle(asked.end.direction, once.direction)) < 1e-9


def test_what_has_been_walked_to_the_end_is_not_used_for_earlier_times():
    data = fs.datasets.three_points()
    net = fs.init.balanced(50, 2, 1e-6, seed=0)
    asked = ahead.Ahead(net, data, "half_mean")
    end = asked.end
    np.testing.assert_array_equal(asked.direction(0.5), flow(net, data, 0.5).direction)
    assert asked.end is end
