"""Claims as JSON: every number exact, so that a file says what was proved and no more.

Fractions are strings; a binary number is ``"<hexadecimal mantissa>p<exponent>"``, a ball has its
radius after ``~``.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from flint import arb

from flowsim.certificates.balls import dyadic
from flowsim.certificates.claim import ROLES, Cell, Claim, Network, Neuron
from flowsim.certificates.planes import Data

#: Integers of more bits are written in hexadecimal.
LONG = 4000
_FRACTION = re.compile(r"(-?0x[0-9a-f]+)/(0x[0-9a-f]+)|-?[0-9]+(?:/[0-9]+)?")
_BALL = re.compile(r"(-?[0-9a-f]+)p(-?[0-9]+)(?:~([0-9a-f]+)p(-?[0-9]+))?")


def encode_ball(x: arb) -> str:
    """Return a ball as text, exactly."""
    text = _encode_exact(x.mid())
    return text if x.is_exact() else f"{text}~{_encode_exact(x.rad())}"


def _encode_exact(x: arb) -> str:
    mantissa, exponent = x.man_exp()
    return f"{int(mantissa):x}p{int(exponent)}"


def decode_ball(text: Any) -> arb:
    """Return the ball of a text."""
    found = _BALL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not a ball")
    middle = dyadic(int(found[1], 16), int(found[2]))
    if found[3] is None:
        return middle
    return arb(middle, dyadic(int(found[3], 16), int(found[4])))


def encode_fraction(x: Fraction) -> str:
    """Return a fraction as text; long ones in hexadecimal, which is read at once."""
    if max(x.numerator.bit_length(), x.denominator.bit_length()) <= LONG:
        return str(x)
    return f"{x.numerator:#x}/{x.denominator:#x}"


def decode_fraction(text: Any) -> Fraction:
    """Return the fraction of a text."""
    found = _FRACTION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not a fraction")
    if found[1] is not None:
        return Fraction(int(found[1], 16), int(found[2], 16))
    if len(text) > LONG:
        raise ValueError("a decimal fraction is too long")
    return Fraction(text)


def encode(claim: Claim) -> dict[str, Any]:
    """Return a claim as what JSON holds."""
    data, better = claim.data, claim.better
    cells = dict.fromkeys(neuron.cell for neuron in claim.neurons)
    texts = {cell: "".join("-0+"[side + 1] for side in cell.code) for cell in cells}
    return {
        "X": [[encode_fraction(x) for x in row] for row in data.X],
        "y": [encode_fraction(y) for y in data.y],
        "negative_slope": encode_fraction(data.slope),
        "weight": encode_fraction(data.weight),
        "everything": claim.everything,
        "turning": claim.turning.hex(),
        "neurons": [_encode_neuron(neuron, texts) for neuron in claim.neurons],
        "better": None if better is None else {
            "a": [x.hex() for x in better.a], "W": [[x.hex() for x in w] for w in better.W],
        },
        "ways": [{"neuron": j, "direction": [x.hex() for x in u]} for j, u in claim.ways],
    }  # fmt: skip


def _encode_neuron(neuron: Neuron, texts: dict[Cell, str]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "role": neuron.role,
        "sign": neuron.sign,
        "w": [encode_ball(x) for x in neuron.w],
        "gap": encode_ball(neuron.gap),
        "code": texts[neuron.cell],
    }
    for name in ("walls", "open", "held"):
        if getattr(neuron, name):
            out[name] = list(getattr(neuron, name))
    return out


def decode(raw: Any) -> Claim:
    """Return the claim of what JSON held.

    Raises
    ------
    ValueError
        With what is wrong.
    """
    try:
        data = Data(
            tuple(tuple(decode_fraction(x) for x in row) for row in raw["X"]),
            tuple(decode_fraction(y) for y in raw["y"]),
            decode_fraction(raw["negative_slope"]), decode_fraction(raw["weight"]),
        )  # fmt: skip
        _check_data(data)
        known: dict[tuple[str, tuple[int, ...], tuple[int, ...]], Cell] = {}
        neurons = tuple(_decode_neuron(x, data, known) for x in raw["neurons"])
        better = raw["better"]
        claim = Claim(
            data, neurons, _flag(raw["everything"]), float.fromhex(raw["turning"]),
            None if better is None else Network(
                tuple(float.fromhex(x) for x in better["a"]),
                tuple(tuple(float.fromhex(x) for x in w) for w in better["W"]),
            ),
            tuple((_index(x["neuron"], len(neurons)),
                   tuple(float.fromhex(u) for u in x["direction"])) for x in raw["ways"]),
        )  # fmt: skip
    except (KeyError, TypeError, ZeroDivisionError, AttributeError, OverflowError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else f"it is no claim ({error})"
        raise ValueError(said) from None
    if any(len(u) != data.d for _, u in claim.ways):
        raise ValueError("a direction has another dimension than the data")
    return claim


def _check_data(data: Data) -> None:
    if not data.X or any(len(row) != data.d for row in data.X) or len(data.y) != data.n:
        raise ValueError("the shapes of X and y do not fit")
    if data.d == 0 or not all(any(row) for row in data.X):
        raise ValueError("X has a zero row")
    if not 0 <= data.slope < 1 or data.weight * data.n not in (1, 2):
        raise ValueError("the slope or the weight of the loss is none that there is")


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _index(value: Any, size: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
        raise ValueError(f"{value!r} is no index below {size}")
    return value


def _decode_neuron(
    raw: Any, data: Data, known: dict[tuple[str, tuple[int, ...], tuple[int, ...]], Cell]
) -> Neuron:
    """Return a neuron; neurons of one of the `known` cells refer to it."""
    for name, kind in {"code": str, "role": str, "sign": int, "w": list}.items():
        if type(raw[name]) is not kind:
            raise ValueError(f"a neuron's {name} is {raw[name]!r}")
    w = tuple(decode_ball(x) for x in raw["w"])
    gap = decode_ball(raw["gap"])
    if len(raw["code"]) != data.planes or len(w) != data.d:
        raise ValueError("a neuron's shapes do not fit the data")
    if raw["role"] not in ROLES or raw["sign"] not in (1, -1) or not gap.is_exact():
        raise ValueError("a neuron's role, sign or gap is none that there is")
    walls, loose, held = (
        tuple(_index(g, data.planes) for g in _listed(raw.get(name, [])))
        for name in ("walls", "open", "held")
    )
    key = raw["code"], walls, loose
    if key not in known:
        known[key] = Cell(tuple("-0+".index(side) - 1 for side in raw["code"]), walls, loose)
    return Neuron(raw["role"], raw["sign"], w, gap, known[key], held)
