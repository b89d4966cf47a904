"""The summary and the verdict say what happened, and nothing that did not."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

import flowsim as fs
from flowsim import report
from flowsim.solution import STATUSES, Final


@pytest.fixture(scope="module")
def three_points() -> fs.Solution:
    return fs.simulate(
        fs.init.balanced(20, 2, 1e-3, seed=0), fs.datasets.three_points(), end="rest"
    )


@pytest.fixture(scope="module")
def five_points() -> fs.Solution:
    return fs.simulate(fs.init.balanced(60, 2, 1e-6, seed=0), fs.datasets.five_points(), end="rest")


def with_final(solution: fs.Solution, **changes: Any) -> fs.Solution:
    final = dataclasses.replace(solution.final, **changes)
    return dataclasses.replace(solution, final=final)


def test_the_verdict_names_the_exact_limit(three_points: fs.Solution) -> None:
    assert report.verdict(three_points) == (
        "The flow ended at a spurious local minimum with L½ = 256/2925 = 0.08752136752."
    )


def test_the_mean_loss_has_its_own_name_and_value() -> None:
    net = fs.init.balanced(20, 2, 1e-3, seed=0)
    solution = fs.simulate(net, fs.datasets.three_points(), loss="mean")
    assert "L₁ = 512/2925 = 0.175042735." in report.verdict(solution)
    assert "L₁ = (1/n) Σ r²" in solution.summary()


def test_interpolation_has_loss_zero_whatever_rounding_has_left(five_points: fs.Solution) -> None:
    assert report.verdict(five_points).endswith("interpolation, a global minimum with L½ = 0.")


def test_the_summary_says_what_happened_when(five_points: fs.Solution) -> None:
    text = five_points.summary()
    (plateau,) = report.plateaus(five_points)
    assert plateau.loss == pytest.approx(0.03181578947, rel=1e-4)
    assert f"{plateau.t:.8g}" in text
    assert f"{five_points.alignment.end_time:.8g}" in text
    for line in (
        "five_points (n = 5, d = 2), m = 60, balanced, λ = 1e-6, seed 0",
        report.verdict(five_points),
        "What happened when",
        "plateau",
        "Audit",
        "invariant drift",
    ):
        assert line in text
    assert not re.search(r"\bnan\b", text)


def test_milestones_are_in_the_order_of_time(five_points: fs.Solution) -> None:
    rows = report.milestones(five_points)
    times = [row.t for row in rows]
    assert times == sorted(times)
    assert rows[0].what.startswith("start")
    assert rows[-1].t == five_points.t_end
    losses = [row.loss for row in rows]
    assert np.all(np.diff(losses) <= 0.0)


def test_every_event_is_counted_once(five_points: fs.Solution) -> None:
    section = five_points.summary().split("Events\n")[1].split("\n\n")[0]
    counts = [int(match) for match in re.findall(r"^  [a-z ]+?\s{2,}(\d+)  t =", section, re.M)]
    assert sum(counts) == len(five_points.events)


@pytest.mark.parametrize("status", [status for status, failed in STATUSES.items() if failed])
def test_a_failed_run_shows_its_message_with_the_remedy(
    three_points: fs.Solution, status: str
) -> None:
    failed = dataclasses.replace(three_points, status=status, message="Raise the budget.")
    assert "Raise the budget." in failed.summary()
    assert status.replace("_", " ") in failed.summary()


def test_an_unfinished_run_claims_no_limit() -> None:
    net = fs.init.balanced(20, 2, 1e-3, seed=0)
    solution = fs.simulate(net, fs.datasets.three_points(), t1=5.0)
    assert np.isnan(solution.final.limit_loss)
    assert report.verdict(solution).startswith("The flow has not come to rest")
    assert "/" not in report.final_loss(solution)


def test_a_frozen_residual_makes_no_claim_about_the_loss() -> None:
    net = fs.init.balanced(5, 2, 1e-3, seed=0)
    solution = fs.simulate(net, fs.datasets.three_points(), residual="frozen", t1=3.0)
    assert report.verdict(solution) == "The residual was kept frozen at y, up to t = 3."


def test_there_is_a_verdict_for_every_kind(three_points: fs.Solution) -> None:
    documented = set(re.findall(r"``([a-z_]+)``", Final.__doc__ or "")) - {"theta"}
    assert set(report.VERDICTS) <= documented
    for kind in report.VERDICTS:
        sentence = report.verdict(with_final(three_points, kind=kind))
        assert sentence.startswith("The flow ")
        assert sentence.endswith(".")
        assert "L½ = " in sentence


def test_many_plateaus_are_cut_to_a_dozen(five_points: fs.Solution) -> None:
    events = five_points.events
    plateau = events.where("plateau")
    many = {
        item.name: np.concatenate(
            [getattr(events, item.name), np.repeat(getattr(plateau, item.name), 29)]
        )
        for item in dataclasses.fields(events)
    }
    many["t"][-29:] += np.arange(1, 30)
    crowded = dataclasses.replace(five_points, events=type(events)(**many))
    table = crowded.summary().split("What happened when")[1].split("\n\n")[0]
    assert table.count("  plateau\n") == 12
    assert "and 18 more plateaus" in table


@pytest.mark.parametrize(
    ("net", "label"),
    [
        (fs.init.balanced(4, 2, 1e-12, seed=3), "balanced, λ = 1e-12, seed 3"),
        (fs.init.dominated(4, 2, 0.25, seed=3), "dominated, λ = 0.25, seed 3"),
        (fs.init.balanced(4, 2, log10_scale=-3000, seed=3), "balanced, λ = 10^-3000, seed 3"),
        (fs.init.from_arrays([1.0], [[1.0, 0.0]]), "m = 1, arrays"),
        (fs.TwoLayerReLU([1.0], [[1.0, 0.0]]), "(n = 3, d = 2), m = 1"),
        (fs.init.balanced(4, 2, 1.0, seed=3, negative_slope=0.1), "leaky ReLU with slope 0.1"),
    ],
)
def test_the_label_names_the_initialisation(net: fs.TwoLayerReLU, label: str) -> None:
    solution = fs.simulate(net, fs.datasets.three_points(), max_steps=2)
    assert label in report.system_label(solution)


def test_the_repr_is_one_line(three_points: fs.Solution) -> None:
    assert repr(three_points).startswith("Solution(Dataset(three_points: n=3, d=2), m=20: stat")
    assert "\n" not in repr(three_points)
