"""Zeros of the user's functions: order, directions, restarts, refinement."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from flowsim.engines.user_events import Hit, UserEvents


class Watched:
    """A function with SciPy's attributes; the "model" is the time itself."""

    def __init__(self, of: Any, direction: float = 0.0, terminal: bool | int = False) -> None:
        self.of, self.direction, self.terminal = of, direction, terminal
        self.calls = 0

    def __call__(self, t: float, model: Any) -> Any:
        self.calls += 1
        return self.of(model)


def find(events: UserEvents, times: Any) -> list[tuple[float, Hit]]:
    """Return all zeros over steps that end at `times`, the first of which is the start."""
    found = []
    for t0, t1 in pairwise(times):
        for hit in events.inside(lambda tau, t0=t0: t0 + tau, t0, t1 - t0):
            search = events.refine(hit, t0, t1 - t0)
            tau = next(search)
            while True:
                try:
                    tau = search.send(t0 + tau)
                except StopIteration as end:
                    found.append((t0 + end.value, hit))
                    break
    return found


def test_all_zeros_of_a_cosine_are_found_whatever_the_steps():
    for steps in (3, 7, 50, 200):
        events = UserEvents([Watched(np.cos)])
        found = find(events, np.linspace(0.0, 10.0, steps + 1))
        assert np.allclose([t for t, _ in found], np.pi * (np.arange(3) + 0.5), rtol=0, atol=1e-14)
        assert [(hit.before, hit.after) for _, hit in found] == [(1, -1), (-1, 1), (1, -1)]


def test_two_crossings_inside_one_step_are_both_found():
    gap = 1e-4
    events = UserEvents([Watched(lambda t: (t - 0.5) ** 2 - gap**2)])
    found = find(events, [0.0, 1.0])
    assert np.allclose([t for t, _ in found], [0.5 - gap, 0.5 + gap], rtol=0, atol=1e-13)
    assert [hit.after for _, hit in found] == [-1, 1]


def test_a_touch_from_above_is_no_crossing():
    events = UserEvents([Watched(lambda t: (t - 0.5) ** 2 + 1e-9), Watched(lambda t: np.exp(-t))])
    assert find(events, np.linspace(0.0, 100.0, 101)) == []


@pytest.mark.parametrize(("direction", "expected"), [(0, 4), (1, 2), (-1, 2)])
def test_directions_select_rises_or_falls(direction: int, expected: int):
    found = find(UserEvents([Watched(np.cos, direction)]), np.linspace(0.0, 12.0, 40))
    assert len(found) == expected
    if direction:
        assert {hit.after for _, hit in found} == {direction}


def test_components_and_functions_are_told_apart_and_come_in_order_of_time():
    vector = Watched(lambda t: np.array([t - 0.7, t - 0.2, 0.9 - t, 1.0]))
    events = UserEvents([vector, Watched(lambda t: t - 0.5)])
    found = find(events, [0.0, 1.0])
    assert [(hit.function, hit.component, hit.after) for _, hit in found] == [
        (0, 1, 1), (1, 0, 1), (0, 0, 1), (0, 2, -1),
    ]  # fmt: skip
    assert np.allclose([t for t, _ in found], [0.2, 0.5, 0.7, 0.9], rtol=0, atol=1e-15)


@pytest.mark.parametrize("g", [lambda t: t, lambda t: -t, lambda t: t * (t - 0.5), np.sin])
def test_a_zero_at_the_start_is_none(g: Any):
    found = find(UserEvents([Watched(g)]), np.linspace(0.0, 1.0, 5))
    assert [t for t, _ in found] == ([] if g(0.5) or g is np.sin else [0.5])


def test_a_zero_on_the_border_of_steps_is_found_once():
    for border in (0.5, np.nextafter(0.5, 0.0), np.nextafter(0.5, 1.0)):
        found = find(UserEvents([Watched(lambda t: np.sin(t - 0.5))]), [0.0, border, 0.8, 1.0])
        assert len(found) == 1
        assert abs(found[0][0] - 0.5) <= 1e-15


def test_a_function_that_rests_on_zero_fires_no_more_than_its_crossings():
    clipped = Watched(lambda t: np.clip(t - 1.0, -1.0, 0.0) + np.clip(t - 2.0, 0.0, 1.0))
    found = find(UserEvents([clipped]), np.linspace(0.0, 3.0, 31))
    assert len(found) == 1
    assert found[0][1].before == -1


def test_what_comes_after_a_terminal_crossing_is_left_out():
    events = UserEvents([Watched(lambda t: t - 0.7), Watched(np.cos, 0, 2)])
    hits = events.inside(lambda tau: 10.0 * tau, 0.0, 1.0)
    assert [(hit.function, hit.terminal) for hit in hits] == [(0, False), (1, False), (1, True)]
    assert abs(hits[-1].tau - 0.15 * np.pi) < 1e-4


def test_a_function_with_a_kink_is_located_as_well_as_its_interpolant():
    found = find(UserEvents([Watched(lambda t: abs(t - 0.3) - 0.1)]), np.linspace(0.0, 1.0, 11))
    assert np.allclose([t for t, _ in found], [0.2, 0.4], rtol=0, atol=1e-12)


def test_a_smooth_function_far_from_zero_costs_four_values_a_step():
    g = Watched(lambda t: 2.0 + np.sin(t))
    find(UserEvents([g]), np.linspace(0.0, 10.0, 101))
    assert g.calls == 401


def test_bad_functions_are_named():
    with pytest.raises(TypeError, match="functions g"):
        UserEvents([3])  # pyright: ignore
    with pytest.raises(ValueError, match="terminal"):
        UserEvents([Watched(np.sin, 0, -1)])
    with pytest.raises(ValueError, match="finite"):
        find(UserEvents([Watched(lambda t: np.nan)]), [0.0, 1.0])
    with pytest.raises(ValueError, match="same number"):
        find(UserEvents([Watched(lambda t: np.ones(1 + (t > 0.5)))]), [0.0, 1.0])


def test_zeros_faster_than_the_steps_are_all_found():
    events = UserEvents([Watched(lambda t: np.sin(200.0 * t))])
    hits = events.inside(lambda tau: tau, 0.0, 1.0)
    assert np.allclose([hit.tau for hit in hits], np.pi / 200.0 * np.arange(1, 64), atol=1e-9)


def test_a_jump_is_found_between_the_times_that_it_was_looked_at():
    events = UserEvents([Watched(lambda t: 1.0 if t > 0.7 else -1.0)])
    (hit,) = events.inside(lambda tau: tau, 0.0, 1.0)
    assert abs(hit.tau - 0.7) < 1e-2


@pytest.mark.parametrize("value", ["x", 1j, None, [[1.0], [1.0, 2.0]]])
def test_what_is_no_real_number_is_named(value):
    with pytest.raises(TypeError, match="function 0 returns"):
        find(UserEvents([Watched(lambda t: value)]), [0.0, 1.0])
