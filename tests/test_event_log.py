"""The log of a run's events: the same table from memory and from disk, and little memory."""

from __future__ import annotations

import gc
import os
import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import flowsim as fs
from flowsim._event_rows import ROW
from flowsim.events import Event, EventLog, Events


def assert_same_events(one: Events, other: Events) -> None:
    for item in fields(Events):
        column, same = getattr(one, item.name), getattr(other, item.name)
        assert column.dtype == same.dtype
        np.testing.assert_array_equal(column, same, err_msg=item.name)


def rows(count: int, seed: int = 0) -> list[Event]:
    """Return events whose times rise, but for some that come late or together."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(0, 3, count)) - rng.integers(0, 6, count) * (rng.random(count) < 0.2)
    return [Event(float(time), "pattern", j, j % 7, -1, 1) for j, time in enumerate(t)]


def filled(events: list[Event], budget: int) -> EventLog:
    log = EventLog(budget)
    for i in range(0, len(events), 10):
        if i % 20:
            log += events[i : i + 10]
        else:
            log.extend(Events.from_rows(events[i : i + 10]))
    return log


@pytest.mark.parametrize("budget", [1, 100, 1000, 2**30])
@pytest.mark.parametrize("count", [0, 1, 17, 1000])
def test_the_table_is_sorted_stably_wherever_it_is_kept(budget, count):
    events = rows(count)
    late = [Event(events[i].t, "plateau") for i in range(0, count, 100)] + [Event(0.0, "plateau")]
    log = filled(events, budget)
    assert len(log) == count
    # Tables are sorted as they are made, which does not change the order of one time.
    expected = Events.from_rows([*events, *late])
    assert_same_events(log.table(late=late), expected)
    scaled = log.table(-3)
    np.testing.assert_array_equal(scaled.t, Events.from_rows(events).t / 8)
    assert_same_events(log.table(), Events.from_rows(events))  # it may be made again


@pytest.mark.parametrize("budget", [100, 2**30])
def test_later_events_are_forgotten(budget):
    events = rows(300)
    log = filled(events, budget)
    log.first(123)
    # A table of ten comes sorted, so only whole ones are compared.
    assert len(log) == 123
    assert_same_events(log.table().select(np.arange(0)), Events.from_rows([]))
    log = filled(events, budget)
    log.first(120)
    assert_same_events(log.table(), Events.from_rows(events[:120]))
    log.until(50.0)
    log += events[120:130]
    kept = [event for event in events[:120] if event.t <= 50.0]
    assert_same_events(log.table(), Events.from_rows(kept + events[120:130]))


def test_a_run_has_the_same_events_on_disk(tmp_path):
    net, data = fs.init.balanced(30, 2, 1e-3, seed=0), fs.datasets.five_points()
    usual = fs.simulate(net, data)
    assert len(usual.events) > 50
    on_disk = fs.simulate(net, data, event_bytes=10 * ROW.itemsize)
    assert_same_events(on_disk.events, usual.events)
    assert isinstance(_owner(on_disk.events.t), np.memmap)
    assert not isinstance(_owner(usual.events.t), np.memmap)
    assert repr(on_disk.events) == repr(usual.events)
    assert_same_events(on_disk.events.where("death"), usual.events.where("death"))
    on_disk.save(tmp_path / "run.nc")
    assert_same_events(fs.load(tmp_path / "run.nc").events, usual.events)
    cut = fs.simulate(net, data, event_bytes=10 * ROW.itemsize, max_steps=usual.steps // 2)
    assert_same_events(fs.resume(cut, max_steps=10**6).events, usual.events)


def _owner(array: np.ndarray) -> object:
    """Return what holds the memory of an array, below all views."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are not listed here")
def test_temporary_files_go_with_the_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def open_here() -> int:
        links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        return sum(str(tmp_path) in os.readlink(link) for link in links if link.is_symlink())

    log = filled(rows(1000), 100)
    table = log.table()
    assert list(tmp_path.iterdir()) == []
    assert open_here() == 2
    del log
    gc.collect()
    assert open_here() == 1
    assert np.all(np.diff(table.t) >= 0.0)
    del table
    gc.collect()
    assert open_here() == 0


def test_events_are_kept_as_bytes_not_as_objects():
    count = 100_000
    block = Events.from_rows(rows(10))
    tracemalloc.start()
    log = EventLog()
    for _ in range(count // 10):
        log.extend(block)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(log) == count
    assert size < 2 * count * ROW.itemsize
    tracemalloc.start()
    log = EventLog(budget=count * ROW.itemsize // 10)
    for event in rows(1000) * (count // 1000):
        log.append(event)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(log) == count
    assert size < count * ROW.itemsize // 5


def test_senseless_budgets_are_refused():
    net, data = fs.init.balanced(3, 2, 1e-3, seed=0), fs.datasets.three_points()
    with pytest.raises(ValueError, match="`event_bytes` must be positive, but is 0"):
        fs.simulate(net, data, event_bytes=0)
