"""Of many hyperplanes a neuron looks at a few that it can reach soon, and misses none."""

from __future__ import annotations

import numpy as np
import pytest

import flowsim as fs
from flowsim.alignment import nearby, until
from flowsim.alignment.nearby import ANGLE, COSINE, ROOM, START, WANTED


def _normals(rng: np.random.Generator, d: int, planes: int) -> np.ndarray:
    normals = rng.standard_normal((d, planes))
    return np.ascontiguousarray(normals / np.linalg.norm(normals, axis=0))


@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("angle", [0.003, 0.05, 0.4])
def test_no_hyperplane_that_is_not_listed_is_met_on_a_way_that_holds(d: int, angle: float) -> None:
    """Neurons go on along changing lines as long as their list holds, up to the cone's edge."""
    rng = np.random.default_rng(d)
    normals = _normals(rng, d, 3000)
    near = nearby.empty(d, 3000)
    held = turned = 0.0
    for _ in range(40):
        z = np.concatenate([[0.5], rng.standard_normal(d) * 0.3])
        nearby.gather(angle, normals, z, rng.standard_normal(d), near)
        size = np.linalg.norm(z[1:])
        start = z[1:] / size
        others = np.setdiff1d(np.arange(3000), near.planes[: near.count[0]])
        sides = np.sign(z[1:] @ normals[:, others])
        for _ in range(100):
            D = rng.standard_normal(d)
            q = 4 * angle * size * rng.random()
            if not nearby.holds(z, q, 0.5, D, near.centre, near.cone):
                continue
            held += 1
            z[1:] += q * D
            w = z[1:] / np.linalg.norm(z[1:])
            turned = max(turned, np.arccos(min(w @ start, 1.0)))
            margins = w @ normals[:, others]
            np.testing.assert_array_equal(np.sign(margins), sides)
            assert np.min(np.abs(margins), initial=1.0) > near.cone[ROOM] * (1 - 1e-9)
    assert held > 100
    assert turned > 1.3 * angle  # up to 1.8, since the centre lies ahead


@pytest.mark.parametrize("ahead", [0.01, 0.3, 3.0])
def test_a_way_without_end_holds_where_it_ends_in_the_cone(ahead: float) -> None:
    """w + q D tends to the direction of D: with D close to w no hyperplane beyond is met."""
    normals = _normals(np.random.default_rng(1), 2, 500)
    near = nearby.empty(2, 500)
    z = np.array([1.0, 1.0, 0.0])
    D = np.array([np.cos(ahead), np.sin(ahead)])
    nearby.gather(0.05, normals, z, D, near)
    assert nearby.holds(z, np.inf, 0.0, D, near.centre, near.cone) == (ahead < 0.05)
    nearby.gather(np.inf, normals, z, D, near)
    assert near.count[0] == 500
    assert nearby.holds(z, np.inf, 0.0, D, near.centre, near.cone)


def test_close_to_the_origin_lists_do_not_hold() -> None:
    """There all hyperplanes are reached at once, which a list would not count."""
    normals = _normals(np.random.default_rng(1), 3, 500)
    near = nearby.empty(3, 500)
    z = np.array([0.9, 0.1, 0.2, 0.3])
    nearby.gather(0.05, normals, z, -z[1:], near)
    assert nearby.holds(z, 0.5, 0.9, -z[1:], near.centre, near.cone)
    assert not nearby.holds(z, 1 - 1e-14, 0.9, -z[1:], near.centre, near.cone)
    nearby.gather(0.05, normals, z * np.array([1, 1e-6, 1e-6, 1e-6]), -z[1:], near)
    assert near.count[0] == 500


@pytest.mark.parametrize("d", [2, 5, 20])
def test_lists_grow_and_shrink_to_the_wanted_length(d: int) -> None:
    normals = _normals(np.random.default_rng(d), d, 1000)
    near = nearby.empty(d, 1000)
    z = np.concatenate([[0.5], np.full(d, 0.3)])
    for start in (near.cone[START], 1e-4, 0.4):
        near.cone[ANGLE] = start
        for _ in range(12):
            nearby.gather(near.cone[ANGLE], normals, z, np.eye(d)[0], near)
        assert near.cone[COSINE] > 0.0
        assert 0.7 * near.cone[WANTED] < near.count[0] < 1.4 * near.cone[WANTED] < 120


def _all_listed(d: int, planes: int) -> nearby.Nearby:
    near = EMPTY(d, planes)
    near.cone[START] = np.inf
    return near


EMPTY = nearby.empty


def _by_neuron(end: fs.alignment.AlignmentFlow) -> tuple[np.ndarray, np.ndarray]:
    """Return events, those of one neuron at one time in a fixed order, and their times."""
    e = end.events
    rows = np.column_stack([e.neuron, e.kind_code, e.sample, e.before, e.after])
    first = np.r_[True, np.diff(e.t) > 1e-11 * e.t[1:]]
    order = np.lexsort((*rows.T[:0:-1], np.cumsum(first), rows[:, 0]))
    return rows[order], e.t[order]


@pytest.mark.parametrize("kind", ["balanced", "dominated", "unbalanced"])
@pytest.mark.parametrize(("n", "d", "slope"), [(60, 2, 0.0), (150, 3, 0.1), (300, 8, 0.0)])
def test_a_walk_by_lists_is_that_which_looks_at_all_hyperplanes(
    kind: str, n: int, d: int, slope: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fs.datasets.linear_teacher(n, d, noise=0.5, seed=1)
    net = fs.init.KINDS[kind](60, d, 1e-6, 2, negative_slope=slope)
    lists: list[nearby.Nearby] = []

    def kept(d: int, planes: int) -> nearby.Nearby:
        lists.append(EMPTY(d, planes))
        return lists[-1]

    monkeypatch.setattr(nearby, "empty", kept)
    some = until(net, data)
    assert max(near.count[0] for near in lists) < n / 2
    monkeypatch.setattr(nearby, "empty", _all_listed)
    whole = until(net, data)
    assert some.changes.sum() > 10 * n
    np.testing.assert_array_equal(some.changes, whole.changes)
    np.testing.assert_array_equal(some.limit, whole.limit)
    np.testing.assert_array_equal(some.fate, whole.fate)
    for one, other in zip(_by_neuron(some), _by_neuron(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)
    assert some.audit["cell_violation"] < 1e-14
