"""What an attack on certificates has found: each was a false proof, a crash or a hang."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from certificate_support import random_system
from flint import arb

import flowsim as fs
from flowsim.certificates.balls import NotProvedError, ball
from flowsim.certificates.basis import Basis
from flowsim.certificates.certificate import prove
from flowsim.certificates.claim import Claim
from flowsim.certificates.forces import Forces

THREE = fs.datasets.three_points()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "c.json"
    sol = fs.simulate(fs.init.balanced(10, 2, 1e-3, seed=0), THREE)
    sol.final.certificate.save(path)
    return json.loads(path.read_text())


def verify(raw: Any, tmp_path) -> Any:
    path = tmp_path / "t.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return fs.verify(path)


@pytest.mark.parametrize("neurons", [[], "dead"])
def test_nothing_is_fitted_without_a_core(file, tmp_path, neurons):
    raw = json.loads(json.dumps(file))
    some = [x for x in raw["claim"]["neurons"] if x["role"] == neurons]
    raw["claim"] |= {"everything": True, "better": None, "neurons": some}
    raw["says"] |= {
        "kind": "interpolation", "reason": "the core fits every label", "limit_loss": "0",
        "limit_loss_decimal": 0.0, "pieces": [],
    }  # fmt: skip
    found = verify(raw, tmp_path)
    assert not found
    assert "there is no core" in found.message


def test_a_small_label_that_is_not_fitted_is_no_interpolation():
    data = fs.Dataset([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1e-10])
    sol = fs.simulate(fs.TwoLayerReLU([0.5], [[0.5, 0.0]]), data)
    assert sol.final.kind == "local_minimum"
    assert sol.final.limit_loss == pytest.approx(2.5e-21, rel=1e-9)


@pytest.mark.parametrize("size", [1e-15, 1e-100])
def test_an_enclosed_dead_neuron_that_is_off_is_on_no_hyperplane(size):
    """Its loss is locally constant: no way down, however near the hyperplane is."""
    net = fs.TwoLayerReLU([1.0], [[-1.0, -size]])
    engine = fs.engines.Validated()
    sol = fs.simulate(net, fs.Dataset(np.eye(2), [1.0, 2.0]), engine=engine, t1=5.0)
    assert sol.final.certificate.proved
    assert sol.final.kind in ("local_minimum", "spurious_local_minimum")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["X"][0].__setitem__(0, "1e99999999"),
        lambda c: c.update(weight="1e-99999999"),
        lambda c: [x.update(role="removed") for x in c["neurons"]],
        lambda c: c["neurons"][0].update(sign=True),
        lambda c: c["neurons"][0].update(code=["-", "-", "-"]),
        lambda c: c["neurons"][0].update(walls={}),
    ],
)
def test_strange_claims_are_refused_at_once(file, tmp_path, change):
    raw = json.loads(json.dumps(file))
    change(raw["claim"])
    assert not verify(raw, tmp_path)


def test_deep_files_and_what_is_no_path_are_refused(tmp_path):
    assert "cannot be read" in verify("[" * 100_000, tmp_path).message
    others: list[Any] = [None, 5, b"c.json"]
    for wrong in others:
        with pytest.raises(TypeError, match="must be the name of a file"):
            fs.verify(wrong)


def test_rates_of_tiny_data_cannot_be_raised(tmp_path):
    sol = fs.simulate(fs.init.balanced(10, 2, 1e-52, seed=0), fs.Dataset(THREE.X, 1e-100 * THREE.y))
    sol.final.certificate.save(tmp_path / "c.json")
    assert fs.verify(tmp_path / "c.json")
    raw = json.loads((tmp_path / "c.json").read_text())
    raw["says"]["quantities"]["rate"] = 9e-41
    assert not verify(raw, tmp_path)


def test_long_fractions_neither_end_a_run_nor_hide_a_proof():
    rng = np.random.default_rng(0)

    def fraction() -> Fraction:
        low, high = 2**45, 2**46
        return Fraction(2 * int(rng.integers(1, high)) + 1, 2 * int(rng.integers(low, high)) + 1)

    X: Any = [[fraction() for _ in range(6)] for _ in range(30)]
    data = fs.Dataset(X, [sum(row) + fraction() for row in X])
    sol = fs.simulate(fs.TwoLayerReLU([1.0], [[1 / 6] * 6]), data)
    assert sol.final.certificate.proved
    assert len(sol.final.limit_loss_exact) < 2000


@pytest.mark.parametrize(
    ("a", "W"), [([1.0], [[-1.0, 0.0]]), ([1.0], [[0.0, 0.0]]), ([0.0], [[1.0, 1.0]])]
)
def test_rigorous_runs_that_cannot_begin_are_solutions(a, W):
    data = fs.Dataset(np.eye(2), [1.0, 2.0])
    sol = fs.simulate(fs.TwoLayerReLU(a, W), data, engine=fs.engines.Validated(), t1=5.0)
    assert sol.status == "undecided"
    assert sol.t_end == 0.0


def test_events_that_come_after_the_proof_are_not_lost():
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    sol = fs.simulate(net, THREE, events=[lambda t, network: t - 100.0])
    np.testing.assert_allclose(sol.events.where("user").t, 100.0, rtol=1e-9)


def test_a_certified_run_is_not_gone_on_with_to_nonsense():
    sol = fs.simulate(fs.init.balanced(10, 2, 1e-3, seed=0), THREE)
    wrong: Any = 1
    with pytest.raises((TypeError, ValueError), match="Argument `end` must be"):
        fs.resume(sol, end=wrong)


def test_a_turning_bound_below_what_the_residual_can_do_is_not_proved():
    claim = fs.simulate(fs.init.balanced(10, 2, 1e-3, seed=0), THREE).final.certificate.claim
    found = prove(dataclasses.replace(claim, turning=0.1 * claim.turning))
    assert not found.proved
    assert "too large for the core to contract it" in found.reason


def test_a_slide_that_would_end_is_not_proved():
    """With the label of its sample on the other side the hyperplane repels the neuron."""
    for seed in range(20):
        net, data = random_system(seed)
        claim = fs.simulate(net, data).final.certificate.claim
        sliding = [x for x in claim.neurons if x.role == "core" and x.slides]
        if sliding and not claim.everything:
            break
    g = sliding[0].slides[0]
    y = list(claim.data.y)
    for k in claim.data.members[g]:
        y[k] += 10**6 * sliding[0].sign
    found = Forces(
        *_at_rest(dataclasses.replace(claim, data=dataclasses.replace(claim.data, y=tuple(y))))
    )
    with pytest.raises(NotProvedError, match=r"the (attraction|slide)"):
        found.check(0, sliding[0])


def _at_rest(claim: Claim) -> tuple[Any, ...]:
    """Return data, basis, r* and no error: what `Forces` takes at the limit itself."""
    basis = Basis.of(claim)
    r_star = basis.split([ball(y) for y in claim.data.y])[1]
    return claim.data, basis, r_star, arb(0), arb(0)
