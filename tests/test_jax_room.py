"""JAX's executables make room before a process has all the memory maps that it may have."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import flowsim as fs
from flowsim import _jax

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not limit the number of memory maps"
)


@pytest.fixture
def executables():
    """Count those that a jitted function has: one."""
    import jax

    function: Any = jax.jit(lambda x: x + 1.0)
    function(np.zeros(3))
    assert function._cache_size() == 1
    return function._cache_size


def run(engine: Any) -> fs.Solution:
    data = fs.Dataset(np.array([[1.0, 0.2], [0.3, 1.0]]), np.array([1.0, -1.0]))
    return fs.simulate(fs.TwoLayerReLU([0.1], [[0.1, 0.0]]), data, t1=0.1, engine=engine)


@pytest.mark.parametrize("engine", [fs.engines.Piecewise(), fs.engines.Diffrax()])
def test_a_run_near_the_limit_forgets_and_gives_the_same(executables, monkeypatch, engine):
    before = run(engine)
    assert executables() == 1  # far from the limit: nothing is forgotten
    monkeypatch.setattr(_jax, "_most_maps", lambda: _jax._maps())
    after = run(engine)
    assert executables() == 0
    np.testing.assert_array_equal(after.final.network.W, before.final.network.W)


def test_what_is_forgotten_gives_its_maps_back():
    import jax

    function = jax.jit(lambda x: x * 2.0)
    for n in range(1, 40):
        function(np.zeros(n))
    before = _jax._maps()
    jax.clear_caches()
    assert _jax._maps() <= before - 39


def test_the_limit_is_the_systems():
    assert _jax._most_maps() > 2 * _jax._maps() > 0
