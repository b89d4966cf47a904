"""flowsim certify and flowsim verify, and a proof of a whole trajectory."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

import flowsim as fs
from flowsim.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.nc"
    fs.simulate(fs.init.balanced(10, 2, 1e-3, seed=0), fs.datasets.three_points()).save(path)
    return path


def test_a_saved_run_is_certified_and_its_file_verified(run, capsys):
    assert main(["certify", str(run)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("PROVED: The gradient flow from this state keeps its cells for ever")
    assert "256/2925 = 0.0875213675214" in out
    assert main(["verify", str(run.with_name("certificate.json"))]) == 0
    assert capsys.readouterr().out.startswith("PROVED: ")


def test_a_changed_file_is_not_verified(run, tmp_path, capsys):
    path = tmp_path / "c.json"
    assert main(["certify", str(run), "--output", str(path)]) == 0
    raw = json.loads(path.read_text())
    neuron = next(x for x in raw["claim"]["neurons"] if x["role"] == "core")
    neuron["code"] = "-" + neuron["code"][1:]
    path.write_text(json.dumps(raw))
    capsys.readouterr()
    assert main(["verify", str(path)]) == 1
    assert "NOT PROVED" in capsys.readouterr().out


def test_an_early_state_is_not_certified_and_no_file_is_written(tmp_path, capsys):
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    fs.simulate(net, fs.datasets.three_points(), t1=10.0).save(tmp_path / "run.nc")
    assert main(["certify", str(tmp_path / "run.nc")]) == 1
    assert "NOT PROVED: the residual is too large" in capsys.readouterr().out
    assert not (tmp_path / "certificate.json").exists()


def test_files_that_are_no_runs_or_certificates_are_named(tmp_path, capsys):
    assert main(["certify", str(tmp_path / "none.nc")]) == 2
    assert "none.nc" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    (tmp_path / "text.json").write_text("not JSON")
    assert main(["verify", str(tmp_path / "text.json")]) == 1
    assert "cannot be read as a certificate" in capsys.readouterr().out


def test_a_run_from_the_shell_may_go_on_to_rest(tmp_path, capsys):
    arguments = ["run", "three-points", "--m", "10", "--scale", "1e-3"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "Stopped  certified" in out
    assert "Proof    the loss tends to the limit, its excess at least like exp(-" in out
    assert main(["resume", str(tmp_path / "run.nc")]) == 0
    assert "Stopped  stationary" in capsys.readouterr().out
    assert main([*arguments, "--end", "rest", "--output", str(tmp_path / "rest")]) == 0
    assert "Stopped  stationary" in capsys.readouterr().out


def test_a_whole_trajectory_is_proved_to_end_at_a_spurious_local_minimum(tmp_path):
    """Every event enclosed, and the end certified for every state in the enclosure."""
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    data = fs.datasets.three_points()
    sol = fs.simulate(net, data, engine=fs.engines.Validated())
    proof = sol.final.certificate
    assert sol.status == "certified"
    assert proof.limit_loss == Fraction(256, 2925)
    assert proof.kind == "spurious_local_minimum"
    # The claim is of balls, not of their midpoints.
    moving = next(x for x in proof.claim.neurons if x.role == "core")
    assert not any(w.is_exact() for w in moving.w)
    proof.save(tmp_path / "c.json")
    assert fs.verify(tmp_path / "c.json")
    usual = fs.simulate(net, data)
    assert sol.enclosure is not None
    times = [float(e.t.mid()) for e in sol.enclosure.events]
    kinds = np.isin(usual.events.kind, ["pattern", "death"])
    np.testing.assert_allclose(times, usual.events.select(kinds).t, rtol=1e-10)


def test_an_enclosure_that_is_too_wide_is_not_proved(tmp_path):
    net = fs.init.balanced(10, 2, 1e-3, seed=0)
    sol = fs.simulate(net, fs.datasets.three_points(), engine=fs.engines.Validated())
    sol.final.certificate.save(tmp_path / "c.json")
    raw = json.loads((tmp_path / "c.json").read_text())
    for neuron in raw["claim"]["neurons"]:
        if neuron["role"] == "core":
            neuron["w"] = [w.split("~")[0] + "~1p-2" for w in neuron["w"]]
    (tmp_path / "c.json").write_text(json.dumps(raw))
    assert not fs.verify(tmp_path / "c.json")


def test_a_neuron_at_the_origin_is_verified_too(tmp_path):
    """Its a^2 has more digits than a float, and a file has them all."""
    net = fs.TwoLayerReLU([1.0, -0.3], [[0.5, 0.5], [0.0, 0.0]])
    data = fs.Dataset([[1, 0], [0, 1]], [1, 2])
    sol = fs.simulate(net, data)
    roles = [x.role for x in sol.final.certificate.claim.neurons]
    assert roles == ["core", "origin"]
    sol.final.certificate.save(tmp_path / "c.json")
    assert fs.verify(tmp_path / "c.json")
