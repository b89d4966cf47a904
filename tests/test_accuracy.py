"""Errors against a 40-digit integration, across crossings, slides, deaths and sign changes."""

from __future__ import annotations

import numpy as np
import pytest
from support import PRECISE, Reference, simulate

TOLERANCES = (1e-6, 1e-8, 1e-10, 1e-12, 1e-14)


@pytest.fixture(scope="module", params=PRECISE)
def ladder(request):
    reference = Reference(request.param)
    return reference, [reference.run(rtol=rtol) for rtol in TOLERANCES]


def test_errors_fall_as_the_tolerance_falls(ladder):
    """Each error is at its tolerance: eight decades of the one buy eight of the other."""
    reference, runs = ladder
    times = np.array([reference.time_error(sol) for sol in runs])
    ends = np.array([reference.end_error(sol) for sol in runs])
    for errors in (times, ends):
        bound = np.maximum(100 * np.array(TOLERANCES), 1e-12)
        assert np.all(errors <= bound), errors


def test_the_tightest_tolerance_reaches_twelve_digits(ladder):
    reference, runs = ladder
    assert reference.time_error(runs[-1]) <= 1e-12
    assert reference.end_error(runs[-1]) <= 1e-12
    assert abs(runs[-1].final.loss - reference.loss) <= 1e-12 * reference.loss


def test_the_default_tolerance_reaches_ten_digits(ladder):
    reference, _ = ladder
    sol = reference.run()
    assert reference.time_error(sol) <= 1e-8
    assert reference.end_error(sol) <= 1e-10


def test_a_run_takes_a_few_steps_an_event_at_every_tolerance(ladder):
    reference, runs = ladder
    events = len({round(e[0], 9) for e in reference.events})
    for sol in runs:
        assert sol.steps <= 60 + 3 * events


def test_dense_output_is_as_accurate_as_the_run(ladder):
    """The state at a time in the middle equals the end of a run to that time."""
    reference, runs = ladder
    for t in (0.21 * reference.t1, 0.6 * reference.t1):
        dense = runs[-1].network(t)
        direct = simulate(reference.start, reference.data, t1=t, rtol=1e-14).final.network
        z, exact = (np.column_stack([net.a, net.W]) for net in (dense, direct))
        error = np.linalg.norm(z - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert np.max(error) <= 1e-12


def test_dense_output_agrees_with_a_run_to_thirty_digits():
    """In the middle of a run, across a neuron that goes on and off at once."""
    reference = Reference("precise_double_crossing")
    dense = reference.run(rtol=1e-14)
    for part in (0.21, 0.6):
        t = part * reference.t1
        net, exact = dense.network(t), reference.to_digits(30, t1=t).final.network
        error = np.column_stack([net.a - exact.a, net.W - exact.W])
        size = np.column_stack([exact.a, exact.W])
        relative = np.linalg.norm(error, axis=1) / np.linalg.norm(size, axis=1)
        assert np.max(relative) <= 1e-12
