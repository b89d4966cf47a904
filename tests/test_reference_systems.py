"""Random systems with complete event tables (computed elsewhere, without flowsim)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import PRECISE, REFERENCE, TABLES, Reference, pattern_rows


@pytest.fixture(scope="module", params=[*TABLES, *PRECISE])
def case(request):
    reference = Reference(request.param)
    return reference, reference.run()


def test_the_event_table_is_reproduced(case):
    reference, sol = case
    assert reference.time_error(sol) < 1e-9


def by_time(rows) -> list[set]:
    """Return the sets of rows (without times) that share a time, in order."""
    groups: list[tuple[float, set]] = []
    for t, *row in sorted(rows):
        if not groups or t - groups[-1][0] > 1e-9:
            groups.append((t, set()))
        groups[-1][1].add(tuple(row))
    return [group for _, group in groups]


def test_each_neuron_has_the_events_of_the_table_in_their_order(case):
    reference, sol = case
    rows = pattern_rows(sol)
    for j in range(reference.start.m):
        expected = by_time(e for e in reference.events if e[1] == j)
        assert by_time(e for e in rows if e[1] == j) == expected


def test_the_end_state_is_reproduced(case):
    reference, sol = case
    assert sol.status == "t1"
    assert reference.end_error(sol) < 1e-9


def test_the_loss_at_the_end_is_reproduced(case):
    reference, sol = case
    assert abs(sol.final.loss - reference.loss) < 1e-9 * reference.loss
    assert sol.loss(reference.t1) == pytest.approx(sol.final.loss, rel=1e-13)


def test_the_reference_files_are_what_their_program_writes(tmp_path):
    """The oracle is reproducible: the program regenerates a file to the last digit."""
    program = REFERENCE / "high_precision.py"
    subprocess.run([sys.executable, program, tmp_path, "leaky"], check=True, timeout=300)
    name = "precise_leaky.json"
    assert (tmp_path / name).read_text() == (REFERENCE / name).read_text()


def test_the_precise_systems_cover_crossings_slides_deaths_and_sign_changes():
    systems = {name.removeprefix("precise_"): Reference(name) for name in PRECISE}

    def kinds(name):
        return {event[3:] for event in systems[name].events}

    assert kinds("crossings") == {(-1, 1), (1, -1)}
    assert kinds("slides") == {(-1, 1), (1, -1), (-1, 0), (1, 0), (0, -1), (0, 1)}
    assert kinds("dominated") == kinds("slides")
    assert len(systems["unbalanced"].sign_changes) == 4
    for reference in systems.values():
        halving = reference.raw["step_halving_relative_difference"]
        assert max(halving.values()) < 1e-45
        assert reference.raw["event_time_change_if_start_moves_1e-9"] < 1e-7
    assert len(systems) == 9
