"""Runs that are cut short and gone on with are those that have never been interrupted."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowsim as fs
from flowsim import cli
from flowsim.certificates.says import to_text

PAIR = fs.datasets.orthogonal_pair()
TEACHER = fs.datasets.linear_teacher(12, 3, noise=0.5, seed=0)
#: Slides and a plateau; deaths and many crossings; the end of alignment by growth, sign changes;
#: a start in closed form; a residual that stays; neurons that go on as one.
SYSTEMS: dict[str, tuple[fs.TwoLayerReLU, fs.Dataset, dict[str, Any]]] = {
    "slides": (fs.init.balanced(20, 2, 1e-4, seed=0), PAIR, {}),
    "crossings": (fs.init.balanced(12, 3, 1e-3, seed=0), TEACHER, {"stationary_rtol": 1e-8}),
    "growth": (
        fs.init.unbalanced(8, 2, 1e-2, seed=1),
        fs.datasets.five_points(),
        {"t1": 60.0, "loss": "mean", "alignment": "growth"},
    ),
    "tiny": (fs.init.balanced(5, 2, log10_scale=-3000, seed=1), PAIR, {}),
    "frozen": (
        fs.init.balanced(6, 2, 1e-2, seed=0),
        fs.datasets.xor(),
        {"t1": 20.0, "residual": "frozen"},
    ),
    "coalescing": (
        fs.init.balanced(30, 3, 1e-6, seed=0),
        TEACHER,
        {"t1": 100.0, "engine": fs.engines.Piecewise(coalesce=1e-4)},
    ),
}


def assert_same_run(one: Any, other: Any, where: str = "solution") -> None:
    """Compare two solutions bit by bit, but for limits and provenance."""
    assert type(one) is type(other), where
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, err_msg=where)
    elif dataclasses.is_dataclass(one) and not isinstance(one, fs.Dataset):
        for item in dataclasses.fields(one):
            if item.name == "certificate":
                assert to_text(getattr(one, item.name)) == to_text(getattr(other, item.name))
            elif item.name not in ("provenance", "settings", "_cells"):
                name = f"{where}.{item.name}"
                assert_same_run(getattr(one, item.name), getattr(other, item.name), name)
    elif not isinstance(one, fs.Dataset):
        np.testing.assert_equal(one, other, where)


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request) -> tuple[fs.TwoLayerReLU, fs.Dataset, dict[str, Any], fs.Solution]:
    net, data, options = SYSTEMS[request.param]
    return net, data, options, fs.simulate(net, data, **options)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.3, 0.6, 0.9])
def test_a_run_that_is_gone_on_with_is_the_whole_run_bit_by_bit(system, part, tmp_path):
    net, data, options, whole = system
    steps = max(1, int(part * whole.steps))
    cut = fs.simulate(net, data, **options, max_steps=steps)
    assert (cut.status, cut.steps) == ("max_steps", steps)
    cut.save(tmp_path / "cut.nc")
    for run in (cut, tmp_path / "cut.nc"):
        assert_same_run(fs.resume(run, max_steps=10**6), whole)


def test_the_systems_are_cut_before_and_after_alignment_and_on_slides():
    slides, tiny = (fs.simulate(*SYSTEMS[name][:2]) for name in ("slides", "tiny"))
    for run, parts in ((slides, (0.1, 0.9)), (tiny, (0.3, 0.9))):
        early, late = (run.history.t[int(part * run.steps)] for part in parts)
        assert early < run.alignment.end_time < late
    assert np.any(slides.pattern(slides.history.t[int(0.3 * slides.steps)]) == 0)


def test_a_run_is_gone_on_with_many_times():
    net, data, options = SYSTEMS["crossings"]
    whole = fs.simulate(net, data, **options)
    run = fs.simulate(net, data, **options, max_steps=10)
    for steps in range(20, whole.steps, 20):
        run = fs.resume(run, max_steps=steps)
    assert_same_run(fs.resume(run, max_steps=10**6), whole)


@pytest.mark.parametrize("t1", [1.0, 5.0, 30.0])
def test_beyond_its_t1_a_run_has_the_events_of_a_longer_one(t1):
    net, data, options = SYSTEMS["slides"]
    whole = fs.simulate(net, data, **options, end="rest")
    longer = fs.resume(fs.simulate(net, data, t1=t1), t1=float("inf"))
    for kind in ("pattern", "death", "alignment_end"):
        one, other = whole.events.where(kind), longer.events.where(kind)
        np.testing.assert_allclose(other.t, one.t, rtol=1e-10)
        np.testing.assert_array_equal(other.neuron, one.neuron)
    assert longer.status == "stationary"
    assert longer.final.loss == pytest.approx(whole.final.loss, abs=1e-20)
    assert np.all(np.diff(longer.history.t) > 0.0)
    assert len(longer.events.where("plateau")) == len(whole.events.where("plateau"))
    np.testing.assert_allclose(longer.network(t1).W, whole.network(t1).W, atol=1e-12)


def test_a_run_without_what_its_integrator_remembered_is_gone_on_with():
    """As files of older versions lack it: only the choice of steps differs."""
    net, data, options = SYSTEMS["crossings"]
    whole = fs.simulate(net, data, **options)
    cut = fs.simulate(net, data, **options, max_steps=60)
    old = dataclasses.replace(cut, restart=None)
    for name in ("states", "event_bytes"):
        old.settings.pop(name)
    again = fs.resume(old, max_steps=10**6)
    one, other = whole.events.where("pattern"), again.events.where("pattern")
    np.testing.assert_array_equal(other.neuron, one.neuron)
    np.testing.assert_allclose(other.t, one.t, rtol=1e-8)


def test_a_terminal_event_is_passed():
    net, data, _ = SYSTEMS["slides"]

    def half(t, network):
        return network.loss(data) - 0.1

    half.terminal = True
    cut = fs.simulate(net, data, events=[half], end="rest")
    assert cut.status == "event"
    whole = fs.resume(cut, events=[half])
    assert whole.status == "stationary"
    assert len(whole.events.where("user")) == 1


# -- checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_is_a_solution_of_the_run_so_far(tmp_path, monkeypatch):
    net, data, _ = SYSTEMS["slides"]
    path = tmp_path / "run.nc"
    seen: list[fs.Solution] = []
    monkeypatch.setattr("flowsim.engines.piecewise.driver.REPORT_EVERY", 0.0)
    whole = fs.simulate(
        net, data, max_steps=12, checkpoint=path, checkpoint_seconds=1e-9,
        progress=lambda _: seen.append(fs.load(path)),
    )  # fmt: skip
    assert_same_run(whole, fs.simulate(net, data, max_steps=12))
    assert_same_run(whole, fs.load(path))
    assert {run.status for run in seen} == {"running"}
    assert [run.steps for run in seen[:-1]] == list(range(13))
    middle = seen[7]
    assert middle.failed
    assert "resume" in middle.message
    assert "running" in middle.summary()
    np.testing.assert_array_equal(middle.history.loss, whole.history.loss[:8])
    t = 0.7 * middle.t_end
    np.testing.assert_array_equal(middle.network(t).W, whole.network(t).W)
    for run in (seen[0], seen[1], middle):
        assert_same_run(fs.resume(run), whole)


@pytest.mark.parametrize("where", ["between", "inside", "finish"])
def test_an_interrupted_run_is_saved_as_it_was_between_two_steps(where, tmp_path, monkeypatch):
    net, data, options = SYSTEMS["crossings"]
    path, calls = tmp_path / "run.nc", [0]

    def interrupt(*_: Any, **__: Any) -> None:
        calls[0] += 1
        if calls[0] > 30:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"checkpoint": path}
    with monkeypatch.context() as changed:
        if where == "between":
            changed.setattr("flowsim.engines.piecewise.driver.REPORT_EVERY", 0.0)
            arguments["progress"] = interrupt
        elif where == "inside":  # when the state has moved and its events have been noted
            changed.setattr("flowsim.engines.switching.Switching.place", _then(interrupt))
        else:
            calls[0] = 10**6
            changed.setattr("flowsim.endings._proved", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fs.simulate(net, data, **options, **arguments)
    kept = fs.load(path)
    assert kept.status == "running"
    assert kept.steps > 5
    assert_same_run(fs.resume(path), fs.simulate(net, data, **options))


def _then(what: Any) -> Any:
    from flowsim.engines.switching import Switching

    place = Switching.place

    def placed(self: Switching, neurons: np.ndarray) -> None:
        place(self, neurons)
        what()

    return placed


_KILLED = """
import time
import flowsim as fs
from test_resume import SYSTEMS

net, data, options = SYSTEMS["crossings"]
slowly = lambda t, network: time.sleep(0.002) or 1.0
fs.simulate(net, data, **options, events=[slowly], checkpoint="run.nc", checkpoint_seconds=1e-9)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes are not killed so here")
def test_a_killed_run_leaves_a_checkpoint_that_leads_to_the_same_end(tmp_path):
    import os

    path = tmp_path / "run.nc"
    here = Path(__file__).parent
    places = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED], cwd=tmp_path, env={**os.environ, "PYTHONPATH": places}
    )
    try:
        written = 0
        while written < 20 and process.poll() is None:
            before = path.stat().st_mtime_ns if path.exists() else 0
            time.sleep(0.01)
            written += path.exists() and path.stat().st_mtime_ns != before
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    cut = fs.load(path)
    assert cut.status == "running"
    net, data, options = SYSTEMS["crossings"]
    whole = fs.simulate(net, data, **options, events=[lambda t, network: 1.0])
    assert_same_run(fs.resume(path, events=[lambda t, network: 1.0]), whole)


# -- bad arguments ---------------------------------------------------------------------------------


def test_what_cannot_go_on_is_refused_in_one_sentence(tmp_path):
    net, data, _ = SYSTEMS["slides"]
    cut = fs.simulate(net, data, max_steps=5)
    wrong: Any = 5
    cases: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (wrong, {}, TypeError, "`run` must be a Solution or its file, but is of type int"),
        (tmp_path / "no.nc", {}, FileNotFoundError, "is not there"),
        (
            fs.simulate(net, data, end="rest"),
            {},
            ValueError,
            "`run` must be a run that can go on, .* stat",
        ),
        (cut, {}, ValueError, "`max_steps` must be more than the run has reached, 5, but is 5"),
        (cut, {"max_steps": 9, "t1": 1e-9}, ValueError, "`t1` must be more than the run has"),
        (cut, {"max_steps": 9, "max_seconds": -1}, ValueError, "`max_seconds` must be positive"),
        (cut, {"checkpoint": wrong}, TypeError, "`checkpoint` must be the name of a file"),
        (cut, {"checkpoint_seconds": 0}, ValueError, "`checkpoint_seconds` must be positive"),
    ]
    for run, limits, error, text in cases:
        with pytest.raises(error, match=text):
            fs.resume(run, **limits)
    other = fs.simulate(net, data, engine=fs.engines.Scipy(), t1=1.0)
    with pytest.raises(
        ValueError, match=r"must be a run of the engine Piecewise or Descent, but .* scipy"
    ):
        fs.resume(other, t1=2.0)


def test_checkpoints_are_those_of_the_piecewise_engine(tmp_path):
    net, data, _ = SYSTEMS["slides"]
    path = tmp_path / "run.nc"
    for model, engine in ((net, fs.engines.Scipy()), (fs.models.TwoLayer.of(net, "gelu"), None)):
        with pytest.raises(ValueError, match="`checkpoint` must be None but for a TwoLayerReLU"):
            fs.simulate(model, data, engine=engine, checkpoint=path)
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        fs.simulate(net, data, checkpoint=tmp_path / "none" / "run.nc")


# -- from a shell --------------------------------------------------------------------------------


def test_the_command_goes_on_with_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["run", "orthogonal-pair", "--m", "20", "--scale", "1e-4", "--output", "out"]
    assert cli.main([*run, "--max-steps", "20", "--checkpoint", "60", "--states", "ends"]) == 1
    assert cli.main(["resume", "out/run.nc"]) == cli.WRONG_INPUT
    assert "max_steps" in capsys.readouterr().err
    assert cli.main(["resume", "out/run.nc", "--max-steps", "1000", "--checkpoint", "60"]) == 0
    again = fs.load("out/run.nc")
    assert_same_run(again, fs.simulate(*SYSTEMS["slides"][:2], states="ends"))
    assert again.settings["states"] == "ends"
    assert Path("out/timeline.png").exists()
    assert "interpolation" in capsys.readouterr().out


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["run", "orthogonal-pair", "--m", "20", "--scale", "1e-4", "--output", "out"]

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr("flowsim.engines.piecewise.driver.REPORT_EVERY", 0.0)
        changed.setattr("flowsim.progress.ProgressBar.__call__", interrupt)
        assert cli.main([*run, "--checkpoint", "60"]) == cli.INTERRUPTED
    assert "flowsim resume out/run.nc goes on" in capsys.readouterr().err
    assert cli.main(["resume", "out/run.nc"]) == 0
