"""The proofs' code against the derivations of kernels, walls and limits."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from certificate_support import data_of, neuron
from flint import arb, ctx

from derivations import certificate_kernel, certificate_limits, certificate_walls, saddle_escape
from flowsim.certificates.balls import PRECISION, NotProvedError, dot
from flowsim.certificates.basis import Basis
from flowsim.certificates.claim import Network
from flowsim.certificates.contraction import _check_turning
from flowsim.certificates.forces import Forces
from flowsim.certificates.minimum import loss_of, psi
from flowsim.certificates.placed import Placed
from flowsim.certificates.planes import Data

# -- kernels ------------------------------------------------------------------------------------


def test_kernels_of_neurons_that_are_not_balanced_shrink_as_bounded():
    rng = np.random.default_rng(0)
    for _ in range(4000):
        w, v, D = rng.standard_normal((3, 3))
        a = rng.standard_normal() * rng.choice([0.1, 1.0, 3.0])
        D /= np.linalg.norm(D)
        rho = math.hypot(a, float(np.linalg.norm(w))) / abs(a)
        t = rng.uniform(0.0, math.log1p(1 / rho))
        along = float(w @ D)
        b = a * math.cosh(t) + along * math.sinh(t)
        u = w + (a * math.sinh(t) + along * (math.cosh(t) - 1)) * D
        before = math.hypot(a * float(np.linalg.norm(v)), float(w @ v))
        after = math.hypot(b * float(np.linalg.norm(v)), float(u @ v))
        bound = certificate_kernel.kernel_bound(rho, t)
        assert after >= bound * before - 1e-12


def test_the_kernel_bound_is_attained_to_first_order():
    a, w, t = 1.0, 1e3, 1e-6
    rho = math.hypot(a, w) / a
    after = a * math.cosh(t) - w * math.sinh(t)  # w against D, v orthogonal to w
    assert (1 - after) / (1 - certificate_kernel.kernel_bound(rho, t)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("a", [0.25, 1.0])
def test_what_the_proof_needs_of_q_is_the_integral(a):
    core = Placed(neuron("core", a, (1.0, 1.0), "+"), arb(a), [arb(1), arb(1)], arb(2).sqrt())
    rho = math.sqrt(a * a + 2) / a
    turning = 0.4 * math.log1p(1 / rho)
    room = certificate_kernel.room(rho, turning)
    steps = (np.arange(2000) + 0.5) / 2000 * turning
    bound = np.array([certificate_kernel.kernel_bound(rho, x) for x in steps])
    assert room == pytest.approx(np.mean(bound**2) * turning, rel=1e-6)
    worst = _check_turning(arb(room * (1 - 1e-9)), arb(turning), [core])
    assert float(worst.mid()) == pytest.approx(
        certificate_kernel.kernel_bound(rho, turning) ** 2, rel=1e-9
    )
    with pytest.raises(NotProvedError, match="too large"):
        _check_turning(arb(room * (1 + 1e-9)), arb(turning), [core])


# -- slides and walls ---------------------------------------------------------------------------


def forces(data: Data, r: tuple[float, ...], size: float = 0.0) -> Forces:
    return Forces(data, Basis(data.n, None, None), [arb(x) for x in r], arb(size), arb(0))


def test_multipliers_are_those_of_the_derivation():
    rows = [(1, 0, 2), (0, 1, -1), (2, 1, 1), (-1, 3, 1)]
    data = data_of(rows, (0.0,) * 4)
    sliding = neuron("carried", 1.0, (1.0, 1.0, 1.0), "00+-")
    r = (-1, 2, -3, 5)
    field = [-3 * x for x in rows[2]]
    expected = certificate_walls.multipliers([list(rows[0]), list(rows[1])], field)
    rules = forces(data, r)
    found = [
        row for _, what, row, _ in rules._conditions(sliding) if what == "the slide"
    ]  # ζ − u⁺, u⁻ − ζ of both
    values = [float(dot(row, [arb(x) for x in r]).mid()) for row in found]
    plus = [Fraction(-1), Fraction(2)]
    wanted = [expected[0] - plus[0], -expected[0], expected[1] - plus[1], -expected[1]]
    assert values == pytest.approx([float(x) / 4 for x in wanted], abs=1e-14)


@pytest.mark.parametrize(("pull", "holds"), [(-0.5, True), (-1.5, False), (0.5, True)])
def test_a_wall_is_as_strong_as_what_pushes_back(pull, holds):
    # The wall's sample pushes with 1 back to its off side, the second sample pulls along (1, 2).
    data = data_of([(1, 0), (1, 2)], (0.0, 0.0))
    at_wall = neuron("carried", 1.0, (1.0, 1.0), "++", walls=(0,))
    # Own side on: behind the wall is only the second sample, which must push back.
    rules = forces(data, (-1.0, pull))
    if pull > 0:
        rules.check(0, at_wall)
    else:
        with pytest.raises(NotProvedError, match="the wall"):
            rules.check(0, at_wall)
    # Own side off: behind the wall its sample pushes back, and must exceed the second.
    off = neuron("carried", 1.0, (-1.0, 1.0), "-+", walls=(0,))
    rules = forces(data, (-1.0, -pull))
    if holds:
        rules.check(0, off)
    else:
        with pytest.raises(NotProvedError, match="the wall"):
            rules.check(0, off)


@pytest.mark.parametrize("exponent", [8, 80, 300])
def test_a_narrow_wedge_of_walls_does_not_hold_what_is_pressed_into_it(exponent):
    # Each wall alone holds; both together would need multipliers of order 1/ε.
    thin = Fraction(1, 2**exponent)
    rows = ((1, 0, 0), (-1, thin, 0), (0, 1, 1))
    data = Data(
        tuple(tuple(Fraction(x) for x in row) for row in rows),
        (Fraction(0),) * 3, Fraction(0), Fraction(1, 3),
    )  # fmt: skip
    r = (-1.0, -1.0, -1.0)
    first = neuron("carried", 2.0, (1.0, 0.0, 1.0), "+++", walls=(0,))
    forces(data, r).check(0, first)
    both = neuron("carried", 2.0, (0.0, 0.0, 1.0), "+++", walls=(0, 1))
    with pytest.raises((NotProvedError, ZeroDivisionError)):
        forces(data, r).check(0, both)


# -- limits -------------------------------------------------------------------------------------


def test_a_light_neuron_lowers_the_loss_by_its_growth():
    data = data_of([(1, 0), (1, 1), (2, 1)], (0.5, 1.5, 3.5), slope=0.25)
    r = [arb(-0.5), arb(-0.5), arb(0.5)]
    u = [arb(0.75), arb(-1)]
    value = float(psi(data, r, u).mid())
    limit = Network((2.0,), ((0.5, 0.5),))
    for sign in (1.0, -1.0):
        for eps in (2.0**-10, 2.0**-16):
            more = Network((2.0, sign * eps), ((0.5, 0.5), (0.75 * eps, -eps)))
            with ctx.workprec(PRECISION):
                change = float((loss_of(data, more) - loss_of(data, limit)).mid())
            assert change / eps**2 == pytest.approx(-sign * value, abs=2 * eps**2)


def test_the_escape_is_predicted_as_for_a_saddle():
    assert certificate_limits.escape_time(1e-6, 0.1) == pytest.approx(math.log(1e6) / 0.1)
    assert saddle_escape.CLAIM
