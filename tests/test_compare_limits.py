"""Comparisons at the limits of sizes, seconds and arguments."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest

import flowsim as fs
from flowsim.comparing.distance import apart
from flowsim.comparing.modified import ModifiedFlow, modified_flow
from flowsim.engines import Descent

START = fs.TwoLayerReLU([1e-2, -1e-2, 2e-2], [[1e-2, 0.5e-2], [1e-2, -1e-2], [-1e-2, 1e-3]])
#: The module, which the function of that name hides.
COMPARE = importlib.import_module("flowsim.comparing.compare")
DATA = fs.Dataset([[1.0, 0.5], [-0.3, 1.0], [0.2, -1.0]], [1.0, -0.5, 0.3])


def compared(*arguments: Any, net: fs.TwoLayerReLU = START, **options: Any) -> fs.Comparison:
    return fs.compare(net, DATA, *arguments, **{"t1": 5.0, "modified": False, **options})


def test_networks_beyond_float64_have_no_sharpness():
    net = fs.init.balanced(4, 2, log10_scale=-3000, seed=0)
    found = compared([0.1], "log_norm", net=net).descents[0]
    assert len(found.sharpness) > 0
    assert np.all(np.isnan(found.sharpness))
    assert 0.0 < np.max(found.distance) < 0.1


def test_descents_that_diverge_are_compared_too():
    found = compared([20.0], ["gd", "momentum", "log_norm"], t1=500.0)
    gd = found.descents[0]
    assert gd.run.status == "non_finite"
    assert found.why(gd).startswith("It diverges by t = ")
    assert np.isfinite(found.descents[2].departure)


def test_one_rate_has_no_order():
    assert np.isnan(compared([0.1, 0.1]).order())
    assert np.isfinite(compared([0.1, 0.1, 0.01]).order())


def test_zero_stays_zero():
    zero = fs.TwoLayerReLU(np.zeros(3), np.zeros((3, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = compared([0.1], net=zero, modified=True)
        assert "follows the flow" in found.table()
    np.testing.assert_array_equal(found.descents[0].distance, 0.0)
    assert np.isnan(apart(START, zero))


def test_modified_flows_end_with_their_seconds(monkeypatch):
    t = np.linspace(0.0, 0.05, 50)
    whole = modified_flow(START, DATA, 0.1, t, "half_mean", 1e9)
    assert (whole.status, len(whole.t)) == ("t1", 50)
    cut = modified_flow(START, DATA, 0.1, t, "half_mean", 1e-9)
    assert (cut.status, len(cut.t), len(cut.models)) == ("max_seconds", 1, 1)

    def late(net: Any, data: Any, rate: float, t: Any, loss: str, seconds: float) -> ModifiedFlow:
        return modified_flow(net, data, rate, t, loss, 1e-9 * seconds)

    monkeypatch.setattr(COMPARE, "modified_flow", late)
    found = compared([0.1], modified=True, max_seconds=100.0).descents[0]
    assert (found.run.status, found.modified_status) == ("t1", "max_seconds")


def test_optimizers_may_come_from_a_generator():
    found = compared([0.1], (name for name in ("gd", "log_norm")))
    assert [x.name for x in found.descents] == ["gd", "log_norm"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizers": None}, "Argument `optimizers` must be names or engines, but is of type No"),
        ({"optimizers": 3}, "Argument `optimizers` must be names or engines, but is of type int"),
        ({"optimizers": iter(())}, "Argument `optimizers` must name some, but is empty"),
        ({"modified": "x"}, "Argument `modified` must be True or False, but is 'x'"),
        ({"sharpness": -1}, "Argument `sharpness` must be at least 0, but is -1"),
        ({"sharpness": 2.5}, "Argument `sharpness` must be an integer, but is 2.5"),
        ({"progress": 3}, "Argument `progress` must be a function, but is 3"),
    ],
)
def test_arguments_are_looked_at_before_anything_is_computed(options, sentence, monkeypatch):
    monkeypatch.setattr(COMPARE, "simulate", None)
    with pytest.raises((ValueError, TypeError), match=sentence):
        fs.compare(START, DATA, **options)


def test_a_file_has_a_name():
    found = compared([0.1], [Descent("gd", 1.0)], sharpness=0)
    with pytest.raises(TypeError, match="Argument `path` must be the name of a file, but is of ty"):
        found.save(3)  # type: ignore[arg-type]
