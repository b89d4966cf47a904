"""Discrete descent against its definitions, written out in NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_resume import assert_same_run

import flowsim as fs
from flowsim.engines import Descent
from flowsim.models.functional import Arguments
from flowsim.solution import DescentStates

TEACHER = fs.datasets.linear_teacher(7, 3, noise=0.5, seed=0)
START = fs.init.balanced(9, 3, 0.2, seed=1)
THREE = fs.datasets.three_points()

Step = Callable[[np.ndarray, np.ndarray, int, dict[str, Any]], np.ndarray]


def gradient(z: np.ndarray, data: fs.Dataset, slope: float, factor: float, *, frozen: bool = False):
    """Return the gradient of (factor/2n) sum r^2 in neurons z (m, d+1)."""
    a, W = z[:, 0], z[:, 1:]
    pre = data.X @ W.T
    on = np.where(pre > 0, 1.0, slope)
    r = data.y if frozen else data.y - (on * pre) @ a
    D = factor / data.n * (on * r[:, None]).T @ data.X
    return -np.column_stack([np.sum(W * D, axis=1), a[:, None] * D])


def gd(z, g, k, memory):
    return z - 0.05 * g


def momentum(z, g, k, memory):
    memory["v"] = g + 0.9 * memory.get("v", 0.0)
    return z - 0.05 * memory["v"]


def nesterov(z, g, k, memory):
    memory["v"] = g + 0.9 * memory.get("v", 0.0)
    return z - 0.05 * (g + 0.9 * memory["v"])


def adam(z, g, k, memory):
    memory["m"] = 0.9 * memory.get("m", 0.0) + 0.1 * g
    memory["s"] = 0.999 * memory.get("s", 0.0) + 0.001 * g * g
    m, s = memory["m"] / (1 - 0.9 ** (k + 1)), memory["s"] / (1 - 0.999 ** (k + 1))
    return z - 0.05 * m / (np.sqrt(s) + 1e-8)


def iterates(
    step: Step, steps: int, data: fs.Dataset = TEACHER, net: fs.TwoLayerReLU = START, **options: Any
) -> list[np.ndarray]:
    """Return the neurons after 0, 1, ... steps."""
    z, memory = np.column_stack([net.a, net.W]), {}
    found = [z]
    for k in range(steps):
        g = gradient(z, data, net.negative_slope, options.pop("factor", 1.0), **options)
        z = step(z, g, k, memory)
        found.append(z)
    return found


def stored(run: fs.Solution) -> DescentStates:
    assert isinstance(run.states, DescentStates)
    return run.states


def neurons(net: fs.TwoLayerReLU) -> np.ndarray:
    return np.column_stack([net.a, net.W])


def descent(optimizer: Any = "gd", rate: Any = 0.05, **options: Any) -> Descent:
    return Descent(optimizer, rate, **options)


@pytest.mark.parametrize("step", [gd, momentum, nesterov, adam])
def test_steps_are_what_they_are_defined_as(step):
    run = fs.simulate(START, TEACHER, engine=descent(step.__name__, steps=150))
    expected = iterates(step, 150)
    # What a constant gradient moves in a step, in learning rates.
    first = {momentum: 1, nesterov: 2}.get(step)
    moves = np.ones(150) if first is None else (1 - 0.9 ** (np.arange(150) + first)) / 0.1
    t = np.append(0.0, 0.05 * np.cumsum(moves))
    assert (run.status, run.steps) == ("steps", 150)
    assert run.t_end == pytest.approx(t[-1], rel=1e-14)
    for k in (0, 1, 7, 60, 149, 150):
        found = neurons(run.network(min(t[k] * (1 + 1e-12), run.t_end)))
        np.testing.assert_allclose(found, expected[k], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "settings", "options"),
    [
        (fs.init.balanced(9, 3, 0.2, seed=1, negative_slope=0.3), {}, {}),
        (START, {"loss": "mean"}, {"factor": 2.0}),
        (START, {"residual": "frozen", "t1": 10.0}, {"frozen": True}),
    ],
)
def test_losses_and_slopes_are_those_of_the_flow(net, settings, options):
    run = fs.simulate(net, TEACHER, engine=descent(steps=40), **settings)
    z = neurons(net)
    for _ in range(40):
        z = z - 0.05 * gradient(
            z, TEACHER, net.negative_slope, options.get("factor", 1.0),
            frozen=options.get("frozen", False),
        )  # fmt: skip
    np.testing.assert_allclose(neurons(run.final.network), z, rtol=1e-10, atol=1e-13)
    assert run.final.loss == pytest.approx(
        run.final.network.loss(TEACHER, loss=settings.get("loss", "half_mean")), rel=1e-12
    )


def test_single_precision_is_single_precision():
    run = fs.simulate(START, TEACHER, engine=descent(steps=200, dtype="float32"))
    double = fs.simulate(START, TEACHER, engine=descent(steps=200))
    single = stored(run).parameters[-1]
    np.testing.assert_array_equal(single, single.astype(np.float32))
    assert 1e-9 < np.max(np.abs(single - stored(double).parameters[-1])) < 1e-5


def by_hand(found: list[np.ndarray], data: fs.Dataset) -> list[tuple[int, str, int, int]]:
    """Return (step, kind, neuron, sample) of all changes."""
    rows = []
    for k in range(1, len(found)):
        on, before = (z[:, 1:] @ data.X.T > 0 for z in (found[k], found[k - 1]))
        rows += [
            (k, "pattern", int(j), int(i)) for j, i in zip(*np.nonzero(on != before), strict=True)
        ]
        flips = (found[k][:, 0] > 0) != (found[k - 1][:, 0] > 0)
        rows += [(k, "sign_change", int(j), -1) for j in np.flatnonzero(flips)]
        died = ~on.any(axis=1) & before.any(axis=1)
        rows += [(k, "death", int(j), -1) for j in np.flatnonzero(died)]
    return rows


@pytest.mark.parametrize("rate", [0.05, 0.7])
def test_events_are_the_changes_after_every_step(rate):
    net = fs.init.balanced(30, 2, 0.3, seed=3)
    run = fs.simulate(net, THREE, engine=descent(rate=rate, steps=120))
    found = iterates(lambda z, g, k, memory: z - rate * g, 120, THREE, net)
    expected = by_hand(found, THREE)
    e = run.events.select(np.isin(run.events.kind, ["pattern", "sign_change", "death"]))
    mine = [
        (round(t / rate), str(kind), int(j), int(i))
        for t, kind, j, i in zip(e.t, e.kind, e.neuron, e.sample, strict=True)
    ]
    assert sorted(mine) == sorted(expected)
    kinds = {kind for _, kind, _, _ in expected}
    assert "pattern" in kinds
    assert "death" in kinds or "sign_change" in kinds


def test_no_change_of_a_step_with_very_many_is_lost():
    data = fs.datasets.linear_teacher(60, 3, noise=0.5, seed=0)
    net = fs.init.balanced(500, 3, 1.0, seed=0)
    run = fs.simulate(net, data, engine=descent(rate=2.0, steps=3))
    times, counts = np.unique(run.events.where("pattern").t, return_counts=True)
    assert counts.max() > 10_000
    assert set(times) <= {2.0, 4.0, 6.0}
    code = net.pattern(data) > 0
    for j, k, after in zip(
        *(getattr(run.events.where("pattern"), name) for name in ("neuron", "sample", "after")),
        strict=True,
    ):
        assert code[j, k] != (after > 0)
        code[j, k] = after > 0
    np.testing.assert_array_equal(code, run.final.network.pattern(data) > 0)


def test_patterns_need_not_be_looked_at():
    run = fs.simulate(START, TEACHER, engine=descent(steps=100, patterns=False))
    assert len(run.events.where("pattern")) == 0
    whole = fs.simulate(START, TEACHER, engine=descent(steps=100))
    assert len(whole.events.where("pattern")) > 0
    np.testing.assert_array_equal(stored(run).parameters[-1], stored(whole).parameters[-1])


def test_the_alignment_phase_ends_at_a_step():
    net = fs.init.balanced(20, 2, 1e-2, seed=0)
    flow = fs.simulate(net, THREE)
    for definition in ("residual", "growth", "theory"):
        run = fs.simulate(net, THREE, engine=descent(rate=1e-2, steps=800), alignment=definition)
        theirs = fs.simulate(net, THREE, alignment=definition)
        assert run.alignment.end_time == pytest.approx(theirs.alignment.end_time, abs=0.05)
        assert run.alignment.end_time / 1e-2 == pytest.approx(
            round(run.alignment.end_time / 1e-2), abs=1e-6
        )
        np.testing.assert_array_equal(run.alignment.extremal, flow.alignment.extremal)


def test_time_is_the_sum_of_a_schedules_rates():
    schedule = optax.exponential_decay(0.1, 10, 0.9)
    run = fs.simulate(START, TEACHER, engine=Descent("gd", schedule, steps=50))
    rates = 0.1 * 0.9 ** (np.arange(50) / 10)
    assert run.t_end == pytest.approx(np.sum(rates), rel=1e-6)  # optax computes in float32
    z = neurons(START)
    for rate in rates:
        z = z - rate * gradient(z, TEACHER, 0.0, 1.0)
    np.testing.assert_allclose(neurons(run.final.network), z, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("transformation", "name", "rate"),
    [(optax.sgd(0.05), "gd", 0.05), (optax.adam(0.05), "adam", 0.05)],
)
def test_transformations_of_optax_are_taken(transformation, name, rate):
    run = fs.simulate(START, TEACHER, engine=Descent(transformation, steps=60))
    own = fs.simulate(START, TEACHER, engine=Descent(name, rate, steps=60))
    np.testing.assert_allclose(stored(run).parameters[-1], stored(own).parameters[-1], rtol=1e-6)
    assert run.t_end == pytest.approx(own.t_end, rel=1e-6)


# -- mini-batches ----------------------------------------------------------------------------


def test_every_epoch_goes_through_the_data_once():
    from flowsim._jax import x64
    from flowsim.engines.descent.loop import Batches

    with x64():
        X = jnp.arange(7.0)[:, None]
        args = Arguments(X, jnp.zeros(7), jnp.asarray(1.0 / 7), ())
        orders = []
        for epoch in range(3):
            parts = [Batches(3, 7).args(args, 5, jnp.asarray(3 * epoch + i)) for i in range(3)]
            weights = np.array([float(part.weight) for part in parts])
            np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1.0])
            rows = np.concatenate([np.asarray(part.X)[:, 0] for part in parts])
            seen = [*rows[:6], rows[6]]
            assert sorted(seen) == list(range(7))
            assert np.all(rows[7:] == 0.0)
            orders.append(tuple(seen))
    assert len(set(orders)) == 3


def test_batches_are_those_of_the_seed():
    runs = [
        fs.simulate(START, TEACHER, engine=descent(batch_size=2, steps=50, seed=seed))
        for seed in (0, 0, 1)
    ]
    one, same, other = (stored(run).parameters[-1] for run in runs)
    np.testing.assert_array_equal(one, same)
    assert np.max(np.abs(one - other)) > 1e-6
    whole = fs.simulate(START, TEACHER, engine=descent(batch_size=7, steps=50))
    full = fs.simulate(START, TEACHER, engine=descent(steps=50))
    np.testing.assert_array_equal(stored(whole).parameters[-1], stored(full).parameters[-1])


# -- going on, and files -----------------------------------------------------------------------

ENGINES = {
    "gd": descent(rate=0.02),
    "adam": descent("adam", 0.01),
    "batches": descent("momentum", 0.01, batch_size=2),
    "single": descent("nesterov", 0.01, dtype="float32"),
    "log_norm": descent(rate=0.02, coordinates="log_norm"),
    "schedule": Descent("gd", optax.cosine_decay_schedule(0.05, 500)),
}


@pytest.mark.parametrize("name", ENGINES)
def test_a_descent_that_is_gone_on_with_is_the_whole_one_bit_by_bit(name, tmp_path):
    engine = dataclasses.replace(ENGINES[name], steps=700)
    whole = fs.simulate(START, TEACHER, engine=engine, stationary_rtol=0.0)
    cut = fs.simulate(
        START, TEACHER, engine=dataclasses.replace(engine, steps=237), stationary_rtol=0.0
    )
    again = fs.resume(cut, max_steps=700)
    np.testing.assert_array_equal(stored(again).parameters[-1], stored(whole).parameters[-1])
    for column in ("t", "neuron", "sample", "kind_code", "after"):
        np.testing.assert_array_equal(getattr(again.events, column), getattr(whole.events, column))
    assert_same_run(again.alignment, whole.alignment)
    cut.save(tmp_path / "cut.nc")
    engine = engine if name == "schedule" else None
    from_file = fs.resume(tmp_path / "cut.nc", engine=engine, max_steps=700)
    assert_same_run(_plain(from_file), _plain(again))


def _plain(run: fs.Solution) -> fs.Solution:
    return dataclasses.replace(run, states=dataclasses.replace(run.states, engine=None))


def test_files_keep_descents(tmp_path):
    run = fs.simulate(START, TEACHER, engine=descent("adam", 0.01, steps=300))
    run.save(tmp_path / "run.nc")
    loaded = fs.load(tmp_path / "run.nc")
    assert_same_run(_plain(loaded), _plain(run))
    for t in (0.0, 0.37, 1.234, 3.0):
        np.testing.assert_array_equal(loaded.network(t).W, run.network(t).W)
    assert loaded.steps == 300
    assert "adam with η = 0.01, float64" in loaded.summary()
    assert fs.plot.possible(loaded) == ("timeline",)
    assert fs.plot.timeline(loaded).get_lines()
    assert "descent of a two-layer ReLU network" in loaded.to_xarray().attrs["title"]


def test_a_file_of_unknown_code_says_so(tmp_path):
    fs.simulate(START, TEACHER, engine=Descent(optax.sgd(0.1), steps=5)).save(tmp_path / "run.nc")
    with pytest.raises(TypeError, match="Argument `engine` must be given for a descent"):
        fs.resume(tmp_path / "run.nc", max_steps=9)


def test_checkpoints_are_runs_to_go_on_with(tmp_path):
    path = tmp_path / "run.nc"
    seen = []

    def progress(report: Any) -> None:
        seen.append(report)
        if report.steps > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fs.simulate(
            START, TEACHER, engine=descent(rate=1e-4, steps=10**9), checkpoint=path,
            checkpoint_seconds=0.02, progress=progress,
        )  # fmt: skip
    kept = fs.load(path)
    assert kept.status == "running"
    again = fs.resume(path, max_steps=kept.steps + 1000)
    whole = fs.simulate(START, TEACHER, engine=descent(rate=1e-4, steps=kept.steps + 1000))
    np.testing.assert_array_equal(stored(again).parameters[-1], stored(whole).parameters[-1])


# -- ends ------------------------------------------------------------------------------------


def test_every_end_has_its_reason():
    run = lambda engine, **options: fs.simulate(START, TEACHER, engine=engine, **options)  # noqa: E731
    assert run(descent(steps=10)).status == "steps"
    ended = run(descent(rate=0.3), t1=1.0)
    assert (ended.status, ended.t_end, ended.steps) == ("t1", pytest.approx(1.2), 4)
    assert run(descent(), max_steps=10).status == "max_steps"
    assert run(descent(), max_seconds=1e-9).status == "max_seconds"
    rest = fs.simulate(fs.init.balanced(10, 2, 0.1, seed=0), THREE, engine=descent(rate=0.1))
    assert (rest.status, rest.final.kind) == ("stationary", "spurious_local_minimum")
    assert rest.final.loss == pytest.approx(256 / 2925, rel=1e-9)
    wild = run(descent(rate=1e3, steps=1000))
    assert (wild.status, wild.failed, wild.final.kind) == ("non_finite", True, "unknown")
    assert np.all(np.isfinite(wild.final.network.W))


def test_states_are_stored_as_asked():
    run = lambda **options: fs.simulate(  # noqa: E731
        START, TEACHER, engine=descent(steps=200), **options
    )
    every = run(states="all")
    np.testing.assert_array_equal(stored(every).iteration, np.arange(201))
    found = iterates(gd, 200)
    np.testing.assert_allclose(stored(every).parameters[77][:9], found[77][:, 0], rtol=1e-10)
    np.testing.assert_array_equal(stored(run(states="ends")).iteration, [0, 200])
    log = stored(run()).iteration
    assert np.all(np.diff(log) > 0)
    assert len(log) < 80
    few = run(state_bytes=4000)
    assert len(stored(few).iteration) <= 4000 // (36 * 8) + 1
    np.testing.assert_allclose(neurons(few.network(3.3)), found[66], rtol=1e-9, atol=1e-13)


def test_between_steps_it_is_the_step_before():
    run = fs.simulate(START, TEACHER, engine=descent(steps=100))
    np.testing.assert_array_equal(run.network(2.52).W, run.network(2.5).W)
    assert np.any(run.network(2.55).W != run.network(2.5).W)
    assert run.loss(2.5) == pytest.approx(run.network(2.5).loss(TEACHER), rel=1e-14)
    np.testing.assert_array_equal(run.pattern(2.5), run.network(2.5).pattern(TEACHER))


# -- coordinates that keep what the flow keeps ---------------------------------------------------


@pytest.mark.parametrize("init", ["balanced", "dominated", "unbalanced"])
def test_log_norms_keep_the_gap(init):
    net = getattr(fs.init, init)(12, 3, 0.3, seed=0)
    run = fs.simulate(net, TEACHER, engine=descent(rate=0.1, steps=400, coordinates="log_norm"))
    gap = lambda n: n.a**2 - np.sum(n.W**2, axis=1)  # noqa: E731
    size = lambda n: n.a**2 + np.sum(n.W**2, axis=1)  # noqa: E731
    end = run.final.network
    assert np.all(np.abs(gap(end) - gap(net)) <= 1e-13 * np.maximum(size(end), size(net)))
    weights = fs.simulate(net, TEACHER, engine=descent(rate=0.1, steps=400)).final.network
    assert np.max(np.abs(gap(weights) - gap(net)) / size(weights)) > 1e-4


@pytest.mark.parametrize("init", ["balanced", "unbalanced"])
@pytest.mark.parametrize("coordinates", ["weights", "log_norm"])
def test_descents_tend_to_the_flow_in_first_order(init, coordinates):
    data = fs.datasets.linear_teacher(6, 2, noise=0.0, seed=1)
    net = getattr(fs.init, init)(5, 2, 0.3, seed=2)
    flow = fs.simulate(net, data, t1=6.0)
    off = []
    rates = np.array([8e-3, 4e-3, 2e-3, 1e-3])
    for rate in rates.tolist():
        run = fs.simulate(net, data, engine=descent(rate=rate, coordinates=coordinates), t1=6.0)
        off.append(np.linalg.norm(neurons(run.final.network) - neurons(flow.final.network)))
    order = np.polyfit(np.log(rates), np.log(off), 1)[0]
    assert order == pytest.approx(1.0, abs=0.1)


def test_log_norms_have_no_smallest_scale():
    net = fs.init.balanced(8, 2, log10_scale=-1000, seed=1)
    run = fs.simulate(net, THREE, engine=descent(rate=0.02, coordinates="log_norm"), t1=3500.0)
    assert run.final.loss == pytest.approx(256 / 2925, rel=1e-6)
    with pytest.raises(ValueError, match="norms fit into float64 to descend in its weights"):
        fs.simulate(net, THREE, engine=descent())


# -- other models ------------------------------------------------------------------------------


def test_other_models_descend_too():
    net = fs.init.balanced(6, 2, 0.3, seed=0)
    model = fs.models.TwoLayer.of(net, "gelu")
    run = fs.simulate(model, THREE, engine=descent(rate=0.2))
    assert (run.status, run.final.kind) == ("stationary", "interpolation")
    flow = fs.simulate(model, THREE, t1=2.0)
    close = fs.simulate(model, THREE, engine=descent(rate=1e-3), t1=2.0)
    np.testing.assert_allclose(close.final.network.W, flow.final.network.W, atol=1e-3)
    np.testing.assert_allclose(close.residual(1.0), flow.residual(1.0), atol=1e-3)
    assert close.alignment.end_time == pytest.approx(flow.alignment.end_time, abs=2e-3)
    with pytest.raises(TypeError, match="Patterns must be those of a TwoLayerReLU"):
        close.pattern(1.0)


def test_loss_functions_descend_too():
    run = fs.simulate(
        (lambda x: jnp.sum((x - 1.0) ** 2), np.zeros(3)), engine=descent(rate=0.1, steps=20)
    )
    np.testing.assert_allclose(stored(run).parameters[-1], 1.0 - 0.8**20, rtol=1e-12)
    assert run.loss(1.0) == pytest.approx(3 * 0.8**20, rel=1e-12)


# -- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Descent("gd"), "Argument `learning_rate` must be given with the optimizer 'gd'"),
        (lambda: Descent("gd", -1.0), "Argument `learning_rate` must be positive and finite, but"),
        (lambda: Descent("sgd", 1.0), "Argument `optimizer` must be one of gd, momentum, nester"),
        (lambda: Descent(3, 1.0), "Argument `optimizer` must be a name or a transformation of"),
        (lambda: descent(momentum=1.0), r"Argument `momentum` must be in \[0, 1\), but is 1.0"),
        (lambda: descent(batch_size=0), "Argument `batch_size` must be at least 1, but is 0"),
        (lambda: descent(steps=-1), "Argument `steps` must be at least 0, but is -1"),
        (lambda: descent(dtype="float16"), "Argument `dtype` must be one of float64, float32"),
        (lambda: descent("adam", coordinates="log_norm"),
         'Argument `coordinates` must be "weights" but for plain gradient descent'),
        (lambda: fs.simulate(START, TEACHER, engine=descent(batch_size=8)),
         "Argument `batch_size` must be at most the number of samples, 7, but is 8"),
        (lambda: fs.simulate(START, TEACHER, engine=descent(), events=[lambda t, n: t]),
         "Argument `events` must be empty with the engine Descent"),
        (lambda: fs.resume(fs.simulate(START, TEACHER, t1=1.0), t1=2.0, engine=descent()),
         "Argument `engine` must be None but for a descent"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_one_sentence(make, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        make()
