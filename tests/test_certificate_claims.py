"""Claims that are written out, true and false: only what holds is proved."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from certificate_support import data_of, neuron
from flint import arb

from flowsim.certificates.certificate import Certificate, prove
from flowsim.certificates.claim import Cell, Claim, Network, Neuron
from flowsim.certificates.claim_json import decode, encode
from flowsim.certificates.verify import verify

HALF, EIGHTH = Fraction(1, 2), Fraction(1, 8)


def one_cell(*others: Neuron, turning: float = 0.1, **more) -> Claim:
    """All samples are on for the core, a neuron at its limit; r* = (-1/2, -1/2, 1/2)."""
    data = data_of([(1, 0), (1, 1), (2, 1)], (0.5, 1.5, 3.5))
    return Claim(data, (neuron("core", 2.0, (0.5, 0.5), "+++"), *others), False, turning, **more)


def two_cells(*others: Neuron, shares: float = 0.0) -> Claim:
    """Two neurons are on at two samples each, at their limits; none is on at the fifth."""
    rows = [(1, 0), (1, 0.25), (0, 1), (0.25, 1), (-1, -1)]
    y = tuple(
        2 * max(x - z / 2, 0) + 2 * max(z - x / 2, 0) + max(shares * (x + z), 0) for x, z in rows
    )
    core = (
        neuron("core", 2.0, (1.0, -0.5), "++---"),
        neuron("core", 2.0, (-0.5, 1.0), "--++-"),
    )
    return Claim(data_of(rows, (*y[:4], -1.0)), (*core, *others), False, 0.02)


def why_not(claim: Claim) -> str:
    found = prove(claim)
    assert not found.proved
    assert found.kind == "unknown"
    return found.reason


# -- what holds -------------------------------------------------------------------------------


def test_a_core_at_its_limit_is_a_proved_local_minimum():
    found = prove(one_cell())
    assert (found.proved, found.kind, found.limit_loss) == (True, "local_minimum", EIGHTH)
    found = prove(two_cells())
    assert (found.proved, found.kind, found.limit_loss) == (True, "local_minimum", Fraction(1, 10))
    assert [piece.beta for piece in found.pieces] == [(-1, 2), (2, -1)]


# -- what neurons are said to be ----------------------------------------------------------------


def test_a_neuron_with_a_is_not_zero():
    ways = ((1, (1.0, -2.0)),)
    assert prove(one_cell(neuron("zero", 0.0, (0.0, 0.0), "000"), ways=ways)).kind == "saddle"
    claim = one_cell(neuron("zero", 1.0, (0.0, 0.0), "000"), ways=ways)
    assert "is not zero" in why_not(claim)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_neuron_that_leaves_the_origin_is_not_at_rest_there(slope):
    # x and -x: one of them is on, whatever w is.
    data = data_of([(1, 0), (-1, 0), (0, 1)], (2.0, -1.0, 2.0), slope)
    core = neuron("core", 2.0, (1.0, 1.0), "++")
    claim = Claim(data, (core, neuron("origin", 1.0, (0.0, 0.0), "00")), False, 0.01)
    assert "origin" in why_not(claim)


def test_neurons_that_are_removed_are_lighter_than_the_core():
    light = neuron("removed", 2.0**-20, (2.0**-22, -(2.0**-21)), "+--")
    data = data_of([(1, 0), (1, 1), (2, 1)], (1.5, 2.5, 2.5))  # r* = (1/2, 1/2, -1/2)
    claim = replace(one_cell(light), data=data)
    assert prove(claim).kind == "saddle"
    heavy = neuron("removed", 4.0, (1.0, -2.0), "+--")
    assert "not light" in why_not(replace(one_cell(heavy), data=data))


@pytest.mark.parametrize("turning", [float("nan"), 0.0, -1.0])
def test_the_bound_of_the_turning_is_a_positive_number(turning):
    assert "not positive" in why_not(one_cell(turning=turning))


def test_a_cell_that_a_neuron_may_leave_is_not_proved():
    assert "may cross" in why_not(one_cell(turning=1.2))
    claim = two_cells(neuron("carried", 2.0**-9, (2.0**-10, -(2.0**-10)), "+++--"))
    assert "claimed side" in why_not(claim)


def test_a_better_network_has_a_smaller_loss_and_a_fitting_shape():
    # A linear map less what a neuron gives that is off at the second sample fits all labels.
    two = neuron("dead", 1.0, (-1.0, -1.0), "---")
    better = Network((1.0, -3.0), ((3.5, -2.0), (1.0, -1.5)))
    assert prove(one_cell(two, better=better)).kind == "spurious_local_minimum"
    assert "more neurons" in why_not(one_cell(better=better))
    assert "not better" in why_not(one_cell(two, better=Network((0.0,), ((1.0, 1.0),))))
    assert "not better" in why_not(one_cell(two, better=Network((float("nan"),), ((1.0, 1.0),))))
    for wrong in (Network((), ()), Network((1.0,), ((1.0,),)), Network((1.0, 1.0), ((1.0, 1.0),))):
        assert "shapes" in why_not(one_cell(two, better=wrong))


def test_the_rate_is_that_of_the_slowest_part():
    # The second sample's neuron shrinks like exp(-t/2), its output like exp(-t).
    data = data_of([(30,), (-1,)], (15.0, -1.0))
    fading = neuron("fading", 2.0**-30, (-(2.0**-30),), "-")
    core = neuron("core", 1.0, (0.5,), "+")
    alone = Claim(data, (core,), False, 0.01)
    assert prove(alone).quantities["rate"] > 500.0
    found = prove(replace(alone, neurons=(core, fading), turning=0.01, ways=((1, (-1.0,)),)))
    assert (found.proved, found.kind) == (True, "saddle")
    assert 1 - 1e-6 <= found.quantities["rate"] <= 1


# -- pieces -------------------------------------------------------------------------------------


def test_pieces_are_not_told_where_other_cells_have_a_share():
    # A light neuron on at all four: within what the core fits, but no linear map of its cells.
    other = neuron("carried", 0.5, (0.25, 0.25), "++++-")
    found = prove(two_cells(other, shares=0.125))
    assert found.proved
    assert found.limit_loss == Fraction(1, 10)
    assert found.pieces == ()
    same = neuron("carried", 2.0**-9, (2.0**-10, -(2.0**-11)), "++---")
    found = prove(two_cells(same))
    assert found.proved
    assert len(found.pieces) == 2


# -- cells --------------------------------------------------------------------------------------


def test_cells_that_are_told_twice_are_one_and_are_shared_in_a_file():
    other = neuron("carried", 2.0**-9, (2.0**-10, -(2.0**-11)), "++---")
    claim = two_cells(other)
    first, _, last = (x.cell for x in claim.neurons)
    assert first is not last
    assert first == last
    assert len({x.cell for x in claim.neurons}) == 2
    assert first != Cell(first.code, walls=(0,))
    restored = decode(encode(claim))
    first, _, last = (x.cell for x in restored.neurons)
    assert first is last
    assert prove(restored).to_json() == prove(claim).to_json()


def test_neurons_alike_are_told_apart_where_they_differ():
    """Cells are looked at once for many neurons, but each must be where it is said to be."""
    alike = [neuron("dead", 2.0**-k, (-(2.0**-k), -(2.0**-k)), "---") for k in range(3, 9)]
    assert prove(one_cell(*alike)).proved
    held = neuron("dead", 0.5, (-0.5, 0.25), "---", held=(1,))
    assert "does not lie on" in why_not(one_cell(*alike, held))
    crossed = neuron("dead", 0.5, (0.25, -0.5), "---")
    assert "neuron 7 is not shown" in why_not(one_cell(*alike, crossed))
    assert "neuron 7 is not off" in why_not(one_cell(*alike, neuron("dead", 0.5, (-1, -1), "--+")))


# -- files --------------------------------------------------------------------------------------


@pytest.fixture
def proved() -> Certificate:
    return prove(two_cells(), t=1.0)


def tampered(found: Certificate, tmp_path, change) -> tuple[bool, str]:
    raw = json.loads(found.to_json())
    change(raw)
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    result = verify(path)
    return result.proved, result.message


def test_an_honest_file_is_proved_again(proved, tmp_path):
    assert tampered(proved, tmp_path, lambda raw: None)[0]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "global_minimum", "the kind"),
        ("limit_loss", "1/11", "the limit"),
        ("limit_loss", "1p-3~1p40", "the limit"),
        ("limit_loss_decimal", 0.2, "the limit"),
        ("reason", "no network of any width has a smaller loss", "the reason"),
        ("proved", False, "does not say"),
        ("pieces", [], "the pieces"),
        ("pieces", [{"pattern": "++---", "beta": ["1", "0"]}] * 2, "the pieces"),
        ("quantities", {}, "quantities"),
    ],
)
def test_a_file_that_says_something_else_is_not_proved(proved, tmp_path, field, value, message):
    done, text = tampered(proved, tmp_path, lambda raw: raw["says"].update({field: value}))
    assert not done
    assert "NOT PROVED" in text
    assert message in text


@pytest.mark.parametrize("radius", ["", "~1p-60", "~1p0"])
def test_the_ball_of_a_limit_is_narrow(tmp_path, radius):
    claim = two_cells()
    y = (*claim.data.y[:4], Fraction(-1) + Fraction(1, 2**60))  # too long for a fraction
    found = prove(replace(claim, data=replace(claim.data, y=y)), t=1.0)
    assert isinstance(found.limit_loss, arb)
    ball = found.to_json().split('"limit_loss": "')[1].split('"')[0].split("~")[0]
    done, text = tampered(
        found, tmp_path, lambda raw: raw["says"].update(limit_loss=f"{ball}{radius}")
    )
    assert done is (radius != "~1p0"), text


@pytest.mark.parametrize(
    ("field", "value"),
    [("quantities", [1]), ("limit_loss", "1/0"), ("pieces", [{"pattern": "x", "beta": []}]),
     ("limit_loss", 3), ("pieces", 1), ("t", "soon")],
)  # fmt: skip
def test_a_file_that_is_malformed_is_no_certificate(proved, tmp_path, field, value):
    done, text = tampered(proved, tmp_path, lambda raw: raw["says"].update({field: value}))
    assert not done
    assert "cannot be read" in text


@pytest.mark.parametrize(
    ("field", "value"),
    [("turning", "inf"), ("turning", "nan"), ("weight", "1"), ("negative_slope", "3/2"),
     ("negative_slope", "-1/2"), ("everything", True), ("neurons", [])],
)  # fmt: skip
def test_a_claim_that_is_wrong_is_not_proved(proved, tmp_path, field, value):
    assert not tampered(proved, tmp_path, lambda raw: raw["claim"].update({field: value}))[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("w", ["1p0~1p20", "-1p-1"]), ("w", ["0p0~1p0", "0p0~1p0"]), ("gap", "-1p10"),
     ("gap", "bp-2~1p-200"), ("sign", -1), ("sign", 2), ("role", "dead"), ("role", "free"),
     ("role", "origin"), ("role", "zero"), ("role", "removed"), ("code", "+----"),
     ("code", "+0---"), ("held", [2]), ("held", [0, 0]), ("walls", [0]), ("open", [0]),
     ("open", [7]), ("open", [True])],
)  # fmt: skip
def test_a_neuron_that_is_wrong_is_not_proved(proved, tmp_path, field, value):
    def change(raw):
        raw["claim"]["neurons"][0][field] = value

    assert not tampered(proved, tmp_path, change)[0]
