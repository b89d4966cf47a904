"""The flow beside discrete descents: how far apart they are, when and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import optax
import pytest
import xarray as xr

import flowsim as fs
from flowsim import cli
from flowsim.comparing.distance import apart, gaps
from flowsim.comparing.events import matched
from flowsim.comparing.modified import modified_flow
from flowsim.engines import Descent
from flowsim.solution import DescentStates

#: No neuron slides here.
TEACHER = fs.datasets.linear_teacher(10, 3, noise=0.0, seed=0)
START = fs.init.balanced(10, 3, 1e-2, seed=0)
THREE = fs.datasets.three_points()


@pytest.fixture(scope="module")
def without_slides() -> fs.Comparison:
    return fs.compare(START, TEACHER, [1e-2, 5e-3, 2.5e-3], ["gd", "log_norm"], t1=60.0)


@pytest.fixture(scope="module")
def three() -> fs.Comparison:
    net = fs.init.balanced(12, 2, 1e-2, seed=0)
    return fs.compare(net, THREE, [0.1, 2.5], ["gd", "adam", "momentum"], t1=40.0)


def test_without_slides_distances_are_of_first_order(without_slides):
    codes = without_slides.flow.states.code
    assert not np.any((codes == 0) & (without_slides.flow.states.fate == 0)[:, :, None])
    assert without_slides.order("gd") == pytest.approx(1.0, abs=0.05)
    assert without_slides.order("log_norm") == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ValueError, match="`name` must be one of gd, log_norm, but is 'adam'"):
        without_slides.order("adam")


def test_distances_are_those_of_the_networks(without_slides):
    found, flow = without_slides.descents[0], without_slides.flow
    for i in (0, 40, len(found.t) - 1):
        t = float(found.t[i])
        one, other = found.run.network(t), flow.network(t)
        off = np.sqrt(np.sum((one.a - other.a) ** 2) + np.sum((one.W - other.W) ** 2))
        size = np.sqrt(np.sum(other.a**2) + np.sum(other.W**2))
        assert found.distance[i] == pytest.approx(off / size, rel=1e-9, abs=1e-15)
        h = np.linalg.norm(one(TEACHER.X) - other(TEACHER.X)) / np.linalg.norm(TEACHER.y)
        assert found.output_distance[i] == pytest.approx(h, rel=1e-9, abs=1e-15)
        assert found.loss[i] == pytest.approx(one.loss(TEACHER), rel=1e-12)
        assert found.flow_loss[i] == pytest.approx(other.loss(TEACHER), rel=1e-9)
        codes = np.mean((one.pattern(TEACHER) > 0) != (flow.pattern(t) > 0))
        assert found.pattern_distance[i] == pytest.approx(codes)
    end = found.run.final.network.pattern(TEACHER) > 0
    differ = np.mean(end != (flow.pattern(flow.t_end) > 0))
    assert found.final_pattern_distance == pytest.approx(differ)
    steps = found.t / found.learning_rate
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)


def test_the_gap_drifts_as_eulers_does(without_slides):
    """One step changes a^2 - |w|^2 by eta^2 ((w.D)^2 - a^2 |D|^2)."""
    run = fs.simulate(START, TEACHER, engine=Descent("gd", 0.5, steps=1))
    r = START.residual(TEACHER)
    D = ((START.pattern(TEACHER) > 0) * r) @ TEACHER.X / TEACHER.n
    change = 0.25 * (np.sum(START.W * D, axis=1) ** 2 - START.a**2 * np.sum(D**2, axis=1))
    end = run.final.network
    np.testing.assert_allclose(end.a**2 - np.sum(end.W**2, axis=1), change, atol=1e-17)
    assert np.all(change <= 0.0)
    gd, log_norm = (
        next(x for x in without_slides.descents if x.name == name) for name in ("gd", "log_norm")
    )
    assert np.max(gd.gap_drift) > 1e-3
    assert np.max(log_norm.gap_drift) < 1e-13
    assert np.all(np.abs(gaps(START)) < 1e-15)


def test_events_are_matched_one_by_one(without_slides):
    for found in without_slides.descents:
        assert found.events_matched == 1.0
        assert np.max(np.abs(found.event_difference)) < 30 * found.learning_rate
    flow = without_slides.flow.events
    assert matched(flow, flow).fraction == 1.0
    assert not np.any(matched(flow, flow).difference)
    assert np.isnan(matched(flow, flow.where("death")).fraction)


def test_what_follows_the_flow_is_said_to(without_slides):
    for found in without_slides.descents:
        assert np.isinf(found.departure)
        assert without_slides.why(found).startswith("It follows the flow, at most 0.0")


def test_the_modified_flow_is_followed_in_second_order():
    """In one activation cell, and for smooth models."""
    model = fs.models.TwoLayer.of(fs.init.balanced(4, 2, 0.5, seed=0), "tanh")
    found = fs.compare(model, THREE, [0.2, 0.1, 0.05], t1=4.0, modified=True)
    rates = np.log([x.learning_rate for x in found.descents])
    slope = lambda name: np.polyfit(  # noqa: E731
        rates, np.log([np.max(getattr(x, name)) for x in found.descents]), 1
    )[0]
    assert slope("modified_distance") == pytest.approx(2.0, abs=0.15)
    assert slope("distance") == pytest.approx(1.0, abs=0.1)
    assert all(x.modified_status == "t1" for x in found.descents)


def test_the_modified_flow_of_a_square_is_a_slower_decay():
    """Of L = (theta - y)^2/2 the rate is 1 + eta/2."""
    data = fs.Dataset(np.array([[1.0]]), np.array([0.0]))
    model = fs.models.DeepLinear([np.array([[2.0]])])
    flow = modified_flow(model, data, 0.3, np.array([0.0, 1.0, 2.0]), "half_mean")
    values = [float(np.ravel(m(np.array([1.0])))[0]) for m in flow.models]
    np.testing.assert_allclose(values, 2.0 * np.exp(-1.15 * flow.t), rtol=1e-7)


def test_five_points_euler_stays_at_a_plateau_that_the_flow_leaves():
    net = fs.init.balanced(60, 2, log10_scale=-6, seed=0)
    found = fs.compare(
        net, fs.datasets.five_points(), [4e-3], ["gd", "log_norm"], t1=1500.0, modified=False,
        sharpness=0, points=60,
    )  # fmt: skip
    euler, log_norm = found.descents
    assert found.flow.final.loss < 1e-12
    assert euler.run.final.loss == pytest.approx(0.03181578947, rel=1e-9)
    assert log_norm.run.final.loss < 1e-12
    assert np.max(log_norm.flips) == 0.0
    assert np.max(log_norm.distance) < 1e-2
    assert np.max(euler.flips) > 0.0
    assert "another sign of a than in the flow, which forbids" in found.why(euler)
    assert found.why(euler).startswith("It leaves the flow at t = ")


def test_the_edge_of_stability_is_told(three):
    small, large = (next(x for x in three.descents if x.learning_rate == r) for r in (0.1, 2.5))
    assert large.name == small.name == "gd"
    assert np.isinf(small.edge)
    assert np.max(small.sharpness) < 2 / 0.1
    assert large.edge < three.flow.t_end
    assert large.sharpness[large.sharpness_t == large.edge][0] > 2 / 2.5
    assert "2/eta = 0.8" in three.why(large)


def test_the_sharpness_is_that_of_finite_differences(three):
    found = three.descents[1]
    t = float(found.sharpness_t[-1])
    net = found.run.network(t)
    z = np.column_stack([net.a, net.W])

    def grad(z: np.ndarray) -> np.ndarray:
        a, W = fs.TwoLayerReLU(z[:, 0], z[:, 1:]).gradient(THREE)
        return np.column_stack([a, W]).ravel()

    columns = []
    for i in range(z.size):
        e = np.zeros(z.size)
        e[i] = 1e-7
        e = e.reshape(z.shape)
        columns.append((grad(z + e) - grad(z - e)) / 2e-7)
    assert found.sharpness[-1] == pytest.approx(np.linalg.eigvalsh(columns)[-1], rel=1e-5)


def test_adam_is_compared_at_its_end_only(three):
    adam = next(x for x in three.descents if x.name == "adam")
    assert not adam.follows
    assert len(adam.distance) == 0
    assert three.why(adam).startswith("It does not discretise the gradient flow; it ends ")
    momentum = next(x for x in three.descents if x.name == "momentum")
    assert momentum.follows
    moves = 1 - 0.9 ** np.arange(1, momentum.run.steps + 1)  # of a constant gradient, over 1 - mu
    assert momentum.run.t_end == pytest.approx(np.sum(moves) * momentum.learning_rate / 0.1)
    assert momentum.stability == pytest.approx(2 * 1.9 / momentum.learning_rate)


def test_what_diverges_is_said_to():
    found = fs.compare(START, TEACHER, [1e3], t1=1e5, max_steps=1000, modified=False)
    assert found.descents[0].run.status == "non_finite"
    assert found.why(found.descents[0]).startswith("It diverges by t = ")


def test_neurons_may_be_compared_in_any_order():
    order = np.random.default_rng(0).permutation(START.m)
    other = fs.TwoLayerReLU(START.a[order], START.W[order])
    assert apart(other, START) > 0.1
    assert apart(other, START, permute=True) == 0.0
    found = fs.compare(START, TEACHER, [1e-2], t1=5.0, permute=True, sharpness=0, points=5)
    plain = fs.compare(START, TEACHER, [1e-2], t1=5.0, sharpness=0, points=5)
    assert np.all(found.descents[0].distance <= plain.descents[0].distance)


def test_other_models_and_engines_are_compared():
    model = fs.models.TwoLayer.of(fs.init.balanced(4, 2, 0.5, seed=0), "gelu")
    engines = [Descent("gd", 1.0, batch_size=2), Descent(optax.adam(1e-2), steps=50), "nesterov"]
    found = fs.compare(model, THREE, [1e-2], engines, t1=3.0, sharpness=2)
    assert [x.name for x in found.descents] == ["gd batch 2", "optax", "nesterov"]
    assert found.descents[0].engine.batch_size == 2
    assert found.descents[0].learning_rate == 1e-2
    assert np.all(np.isnan(found.descents[0].pattern_distance))
    assert found.descents[1].run.steps == 50
    assert "outputs" in found.table()


def test_a_comparison_is_a_file_and_a_picture(three, tmp_path):
    three.save(tmp_path / "compare.nc")
    with xr.open_dataset(tmp_path / "compare.nc", engine="h5netcdf") as loaded:
        assert loaded.sizes["descent"] == 6
        np.testing.assert_array_equal(loaded.learning_rate, [2.5, 0.1] * 3)
        row = loaded.distance.values[1]
        np.testing.assert_array_equal(row[np.isfinite(row)], three.descents[1].distance)
        assert str(loaded.why.values[1]) == three.why(three.descents[1])
        assert loaded.attrs["flow_kind"] == three.flow.final.kind
    figure = three.plot()
    assert len(figure.axes) == 4
    lines = figure.axes[1].get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), three.descents[0].distance)


def test_the_command_writes_table_file_and_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = "--m 6 --scale 1e-2 --lr 0.1 0.05 --optimizer gd adam --t1 10 --output out"
    assert cli.main(["compare", "three-points", *options.split()]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("flow: L = ")
    assert "gd 0.05: It follows the flow" in printed
    assert sorted(path.name for path in Path("out").iterdir()) == ["compare.nc", "compare.png"]
    Path("study.toml").write_text(
        '[data]\nsource = "three-points"\n[init]\nm = 4\nscale = 1e-2\n[run]\nt1 = 2\n'
    )
    assert cli.main(["compare", "study.toml", "--lr", "0.1", "--output", "two"]) == 0
    assert "at t = 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"learning_rates": [-1.0]}, "Argument `learning_rate` must be positive and finite"),
        ({"learning_rates": []}, "Argument `learning_rates` must hold some, but is empty"),
        ({"optimizers": []}, "Argument `optimizers` must name some, but is empty"),
        ({"optimizers": ["sgd"]}, "Argument `optimizer` must be one of gd, momentum"),
        ({"threshold": 0.0}, "Argument `threshold` must be positive, but is 0.0"),
        ({"points": 1}, "Argument `points` must be at least 2, but is 1"),
        ({"sharpness": -1}, "Argument `sharpness` must be at least 0, but is -1"),
        ({"t1": -1.0}, "Argument `t1` must be positive, but is -1.0"),
    ],
)
def test_arguments_that_make_no_sense_are_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        fs.compare(START, TEACHER, **options)


def test_a_descent_keeps_its_own_options():
    engine = Descent("gd", 1.0, dtype="float32", steps=3)
    found = fs.compare(START, TEACHER, [1e-2], [engine], t1=1.0, sharpness=0, modified=False)
    states = found.descents[0].run.states
    assert isinstance(states, DescentStates)
    assert states.engine == dataclasses.replace(engine, learning_rate=1e-2, steps=None)
