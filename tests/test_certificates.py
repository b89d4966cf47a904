"""Certificates: what is proved of known systems, and that the flow does what has been proved."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from certificate_support import angles, bounds, later, random_system

import flowsim as fs
from flowsim.cells import Cells
from flowsim.certificates.certificate import rounded_down
from flowsim.certificates.claim import ROLES
from flowsim.certificates.slides import open_planes

THREE = fs.datasets.three_points()


@pytest.fixture(scope="module")
def three() -> fs.Solution:
    return fs.simulate(fs.init.balanced(10, 2, 1e-3, seed=0), THREE)


def test_the_limit_of_three_points_is_proved_as_a_fraction(three):
    """CASES: the affine least squares (-4/65, 251/390), L = 256/2925, for any m >= 2."""
    proof = three.final.certificate
    assert three.status == "certified"
    assert proof.proved
    assert proof.limit_loss == Fraction(256, 2925)
    assert three.final.limit_loss_exact == "256/2925"
    assert three.final.kind == "spurious_local_minimum"
    (piece,) = proof.pieces
    assert piece.pattern == (1, 1, 1)
    assert piece.beta == (Fraction(-4, 65), Fraction(251, 390))


def test_it_is_proved_long_before_the_flow_rests(three):
    """The excess decays at the proved rate at least, in the run that goes on."""
    rest = later(three)
    assert rest.status == "stationary"
    assert three.t_end < 0.2 * rest.t_end
    assert rest.final.loss == pytest.approx(256 / 2925, rel=1e-12)
    assert len(rest.events.where("pattern")) == len(three.events.where("pattern"))
    proof = three.final.certificate
    times = np.linspace(three.t_end, three.t_end + 40.0, 9)
    excess = rest.loss(times) - 256 / 2925
    bound = excess[0] * np.exp(-proof.quantities["rate"] * (times - three.t_end))
    assert np.all(excess <= bound * (1 + 1e-9))


@pytest.mark.parametrize(
    ("data", "m", "kind", "limit"),
    [
        (fs.datasets.orthogonal_pair(), 60, "interpolation", 0.0),
        (fs.datasets.five_points(), 60, "interpolation", 0.0),
        (fs.datasets.xor(), 60, "interpolation", 0.0),
        (fs.datasets.half_spaces(), 100, "spurious_local_minimum", 0.025979557845),
    ],
    ids=["orthogonal pair", "five points", "xor", "half spaces"],
)
def test_known_systems_are_proved(data, m, kind, limit):
    sol = fs.simulate(fs.init.balanced(m, 2, 1e-6, seed=0), data)
    assert sol.final.certificate.proved
    assert sol.final.kind == kind
    assert sol.final.limit_loss == pytest.approx(limit, abs=1e-11)


def test_xor_without_the_neurons_of_a_group_costs_an_eighth_for_each():
    """CASES: each group that no neuron serves costs exactly 1/8."""
    net = fs.init.balanced(60, 2, 1e-6, seed=0)
    positive = net.subset(np.flatnonzero(net.a > 0))
    sol = fs.simulate(positive, fs.datasets.xor())
    assert sol.final.certificate.proved
    assert sol.final.certificate.limit_loss == Fraction(1, 4)


def test_a_plateau_is_a_proved_saddle_and_its_end_is_predicted():
    """CASES: the plateau at 0.03181578947 near t = 200 to 300, then an escape."""
    net = fs.init.balanced(60, 2, 1e-6, seed=0)
    data = fs.datasets.five_points()
    at = fs.simulate(net, data, t1=230.0)
    proof = at.final.certificate
    assert proof.proved
    assert at.final.kind == "saddle"
    assert proof.limit_loss == Fraction(1209, 38000)
    sol = fs.simulate(net, data, end="rest")
    left = sol.history.t[np.argmax((sol.history.t > 230.0) & (sol.history.loss < 0.9 * 0.0318))]
    assert proof.escape_time == pytest.approx(left, rel=0.15)


def test_a_state_before_alignment_is_not_proved_and_says_so():
    sol = fs.simulate(fs.init.balanced(10, 2, 1e-3, seed=0), THREE, t1=10.0)
    proof = sol.final.certificate
    assert not proof.proved
    assert sol.final.kind in ("not_stationary", "saddle", "unknown")
    assert "too large" in proof.reason
    assert "more time" in proof.remedy
    assert proof.wait > 0.0
    with pytest.raises(ValueError, match="must be proved"):
        proof.to_json()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("labels", ["teacher", "random"])
def test_certified_flows_stay_in_their_cells_and_contract_as_proved(seed, labels):
    net, data = random_system(seed, labels=labels)
    sol = fs.simulate(net, data, max_steps=20_000)
    proof = sol.final.certificate
    assert proof.proved, proof.reason
    rest = later(sol) if sol.status == "certified" else sol
    # No neuron leaves the cell that is claimed for it.
    fixed = bounds(proof)
    after = rest.events.where("pattern")
    after = after.select(after.t > sol.t_end)
    planes = data.hyperplane[after.sample]
    for j, g in zip(after.neuron.tolist(), planes.tolist(), strict=True):
        assert j not in fixed or g not in fixed[j], (j, g)
    # None turns by more than is claimed, and the loss falls as fast.
    core = [j for j, neuron in enumerate(proof.claim.neurons) if neuron.role == "core"]
    turned = angles(sol.final.network, rest.final.network)[core]
    assert np.all(turned <= proof.quantities["turning"] + 1e-9)
    limit = sol.final.limit_loss
    excess = sol.final.loss - limit
    noise = 1e-13 * float(np.mean(data.y**2))
    for t in np.linspace(sol.t_end, rest.t_end, 5):
        bound = excess * np.exp(-proof.quantities["rate"] * (t - sol.t_end))
        assert rest.loss(t) - limit <= bound * (1 + 1e-9) + noise
    if rest.status == "stationary" and rest.final.certificate.proved:
        assert rest.final.kind == sol.final.kind
        assert abs(rest.final.limit_loss - limit) <= 1e-12 * np.mean(data.y**2)


@pytest.mark.parametrize("init", [fs.init.unbalanced, fs.init.dominated])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_other_starts_and_slopes_are_proved(init, slope):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((12, 3))
    data = fs.Dataset(X, X @ rng.standard_normal(3) + 0.3 * rng.standard_normal(12))
    net = init(30, 3, 1e-4, seed=3)
    sol = fs.simulate(fs.TwoLayerReLU(net.a, net.W, slope), data, loss="mean")
    proof = sol.final.certificate
    assert proof.proved, proof.reason
    rest = later(sol)
    assert rest.final.loss == pytest.approx(sol.final.limit_loss, rel=1e-9)
    assert rest.t_end > sol.t_end


def test_the_limit_scales_as_the_loss_does():
    """y -> c^2 y, theta -> c theta is the same run in time t / c^2, scaled."""
    net, data = random_system(4)
    one = fs.simulate(net, data)
    other = fs.simulate(
        fs.TwoLayerReLU(8.0 * net.a, 8.0 * net.W), fs.Dataset(data.X, 64.0 * data.y)
    )
    assert other.final.kind == one.final.kind
    assert other.final.certificate.proved
    assert other.final.limit_loss == pytest.approx(64.0**2 * one.final.limit_loss, rel=1e-12)
    assert other.t_end == pytest.approx(one.t_end / 64.0, rel=1e-9)


@pytest.mark.parametrize("log10_scale", [-6.0, -300.0, -3000.0])
def test_any_scale_is_proved(log10_scale):
    net = fs.init.balanced(50, 2, log10_scale=log10_scale, seed=0)
    sol = fs.simulate(net, THREE)
    assert sol.final.certificate.limit_loss == Fraction(256, 2925)


def test_a_run_may_ask_for_rest_and_is_proved_there():
    net, data = random_system(1)
    sol = fs.simulate(net, data, end="rest")
    assert sol.status == "stationary"
    assert sol.final.certificate.proved
    with pytest.raises(ValueError, match="Argument `end` must be"):
        fs.simulate(net, data, end="soon")


def test_a_time_that_is_asked_for_is_reached(three):
    """With t1 the flow is wanted until then: it ends at rest before, at the earliest."""
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    sol = fs.simulate(net, THREE, t1=2.0 * three.t_end)
    assert sol.status == "t1"
    assert sol.final.certificate.proved
    early = fs.simulate(net, THREE, t1=2.0 * three.t_end, end="certificate")
    assert early.status == "certified"


def test_going_on_from_a_certified_run_is_the_run_to_rest(three):
    rest = later(three)
    straight = fs.simulate(fs.init.balanced(10, 2, 1e-3, seed=0), THREE, end="rest")
    np.testing.assert_array_equal(rest.history.t, straight.history.t)
    np.testing.assert_array_equal(rest.final.network.W, straight.final.network.W)
    with pytest.raises(ValueError, match='must be "rest"'):
        fs.resume(three, end="certificate")


def test_runs_that_cannot_have_a_certificate_have_none():
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    assert fs.simulate(net, THREE, residual="frozen", t1=1.0).final.certificate is None
    frozen = fs.simulate(net, THREE, residual="frozen", t1=1.0)
    with pytest.raises(ValueError, match="kept frozen"):
        fs.certify(frozen)
    descent = fs.simulate(net, THREE, engine=fs.engines.Descent("gd", 0.1), t1=1.0)
    with pytest.raises(TypeError, match="gradient flow of a TwoLayerReLU"):
        fs.certify(descent)


def test_a_saved_run_keeps_what_its_certificate_says(three, tmp_path):
    path = tmp_path / "run.nc"
    three.save(path)
    loaded = fs.load(path).final.certificate
    ours = three.final.certificate
    for name in ("proved", "kind", "limit_loss", "reason", "quantities", "t"):
        assert getattr(loaded, name) == getattr(ours, name)
    assert loaded.pieces[0].beta == ours.pieces[0].beta
    with pytest.raises(ValueError, match=r"flowsim\.certify"):
        loaded.to_json()
    again = fs.certify(path)
    assert again.proved
    assert again.limit_loss == Fraction(256, 2925)


def test_other_engines_are_proved_where_they_rest():
    """The state of a general solver is proved like any other: its errors are in the state."""
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    sol = fs.simulate(net, THREE, engine=fs.engines.Scipy("DOP853"))
    assert sol.final.certificate.limit_loss == Fraction(256, 2925)


def test_verifying_needs_nothing_of_the_engine():
    """Only exact and ball arithmetic: no kernel, no float state, no engine is imported."""
    code = (
        "import sys; from flowsim.certificates.verify import verify; "
        "print([m for m in sys.modules if m.startswith(('numba', 'jax', 'flowsim.engines', "
        "'flowsim.cells', 'flowsim.state', 'flowsim.stationarity', 'flowsim.selection'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_certified_runs_can_be_pickled_and_copied(three):
    """Runs come back from the workers of a pool."""
    for again in (pickle.loads(pickle.dumps(three)), copy.deepcopy(three)):
        proof = again.final.certificate
        assert proof.limit_loss == Fraction(256, 2925)
        assert proof.to_json() == three.final.certificate.to_json()


def test_a_way_down_is_found_between_the_samples_directions():
    """A zero neuron could lower the loss, but in no direction of a sample."""
    net = fs.TwoLayerReLU([0.0, 1e-3], [[0.0, 0.0], [1e-4, 2e-4]])
    sol = fs.simulate(net, THREE)
    assert sol.final.certificate.proved
    assert sol.final.kind == "saddle"


def test_printed_rates_are_not_more_than_proved(three):
    rate = three.final.certificate.quantities["rate"]
    assert float(rounded_down(rate)) <= rate <= float(rounded_down(rate)) * 1.001
    assert rounded_down(0.07005999) == "0.07005"
    assert f"exp(-{rounded_down(rate)} t)" in three.summary()


def test_the_summary_of_a_plateau_says_that_light_neurons_will_leave():
    net = fs.init.balanced(60, 2, 1e-6, seed=0)
    text = fs.simulate(net, fs.datasets.five_points(), t1=230.0).summary()
    assert "The flow is near a saddle" in text
    assert "without its 14 light neurons the loss tends to the limit" in text
    assert "they leave near t = 393.8 (predicted)" in text


def test_hyperplanes_are_open_where_the_core_fits_their_kink():
    data = fs.Dataset([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.ones(4))
    cells = Cells.of(data, 0.0, "half", np.zeros(4))
    kink = np.where(cells.index == 0, cells.norms, 0.0)
    for off, expected in ((0.0, True), (1e-10, True), (1e-5, False), (0.1, False)):
        columns = np.column_stack([kink + off * np.eye(4)[2], [0.0, 0.0, 1.0, 1.0]])
        np.testing.assert_array_equal(
            open_planes(cells, np.linalg.qr(columns)[0]), [expected, False, False]
        )


def test_neurons_of_a_kind_are_kept_together():
    """Ten copies of each neuron are as many kinds as the neurons, and as many cells."""
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    many = fs.TwoLayerReLU(np.repeat(net.a, 10) / 10**0.5, np.repeat(net.W, 10, axis=0) / 10**0.5)
    one, ten = (fs.simulate(x, THREE).final.certificate for x in (net, many))
    assert one.proved
    assert ten.proved
    assert len(ten.claim.kinds) == len(one.claim.kinds)
    assert len({id(x.cell) for x in ten.claim.neurons}) == len(one.claim.cells(*ROLES))
    assert sorted(j for kind in ten.claim.kinds for j in kind) == list(range(100))
    assert ten.limit_loss == one.limit_loss


def test_a_proof_that_would_cost_more_than_the_run_is_left_to_who_asks(monkeypatch) -> None:
    monkeypatch.setattr("flowsim.certificates.watch.WORK_AT_END", 1.0)
    data = fs.datasets.three_points()
    run = fs.simulate(fs.init.balanced(20, 2, log10_scale=-3, seed=0), data, end="rest")
    assert run.status == "stationary"
    assert not run.final.certificate.proved
    assert "too many cells" in run.final.reason
    assert "flowsim.certify tries it" in run.final.reason
    assert fs.certify(run).proved
