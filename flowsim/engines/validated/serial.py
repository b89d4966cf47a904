"""Rigorous results as JSON: every number exact, every field checked when it is read.

A ball is ``[mantissa, exponent, mantissa, exponent]`` of its midpoint and its radius,
mantissas as hexadecimal strings: ``mantissa * 2**exponent``.
"""

from __future__ import annotations

import json
import os
from fractions import Fraction
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from flint import arb

from flowsim.engines.validated.result import OUTCOMES, EnclosedEvent, EnclosedState, Enclosure
from flowsim.events import EVENT_KINDS, FATES
from flowsim.files import replacing

FORMAT = "flowsim enclosure 1"
#: Mantissas of radii have this many bits.
RADIUS_BITS = 30


def dumps(result: Enclosure) -> str:
    """Return a result as JSON text."""
    state = result.state
    return json.dumps(
        {
            "format": FORMAT,
            "status": result.status,
            "message": result.message,
            "rigorous": result.rigorous,
            "t1": None if result.t1 == inf else result.t1.hex(),
            "precision": result.precision,
            "order": result.order,
            "steps": result.steps,
            "events": [
                [ball_to_list(e.t), e.kind, e.neuron, e.sample, e.before, e.after]
                for e in result.events
            ],
            "state": {
                "t": ball_to_list(state.t),
                "a": [ball_to_list(v) for v in state.a],
                "W": [[ball_to_list(v) for v in w] for w in state.W],
                "sign": list(state.sign),
                "gap": [str(v) for v in state.gap],
                "code": state.code.tolist(),
                "fate": state.fate.tolist(),
                "error": ball_to_list(state.error),
            },
        }
    )


def loads(text: str) -> Enclosure:
    """Read what `dumps` has written.

    Raises
    ------
    ValueError
        If it is something else, or damaged.
    """
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise ValueError(f"its format is {raw['format']!r}")
        return _checked(raw)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(
            f"Argument `source` must hold an enclosure in the format {FORMAT!r}, but something in "
            f"it is missing or wrong: {error}."
        ) from None


def write(text: str, path: str | os.PathLike[str]) -> None:
    """Write a file that is complete or not there."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def read(path: str | os.PathLike[str]) -> str:
    """Read a file.

    Raises
    ------
    OSError
        One sentence that names it.
    ValueError
        If it is no text.
    """
    try:
        return Path(path).read_text()
    except OSError as error:
        raise type(error)(
            f"Argument `source` must name a file that can be read, but {path} cannot."
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"Argument `source` must name a text file, but {path} is none.") from None


def ball_to_list(x: arb) -> list[Any]:
    """Return a ball as mantissas and exponents."""
    mantissa, exponent = x.mid().man_exp()
    size, power = x.rad().man_exp()
    return [hex(int(mantissa)), int(exponent), hex(int(size)), int(power)]


def ball_of(raw: Any) -> arb:
    """Return the ball that `ball_to_list` has written, bit by bit.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(raw, list) or len(raw) != 4:
        raise ValueError(f"{raw!r} is no ball")
    mantissa, size = int(raw[0], 16), int(raw[2], 16)
    exponent, power = _integer(raw[1]), _integer(raw[3])
    if size < 0 or max(abs(exponent), abs(power)) > 10**9:
        raise ValueError(f"{raw!r} is no ball")
    centre = arb((mantissa, exponent))
    if size == 0:
        return centre
    if size.bit_length() > RADIUS_BITS:
        raise ValueError(f"{raw!r} has a radius of more than {RADIUS_BITS} bits")
    # A ball that is made of two numbers has its radius rounded up by a unit in the last place,
    # even if it fits: give the number before it.
    shift = RADIUS_BITS - size.bit_length()
    last, power = size << shift, power - shift
    if last == 1 << (RADIUS_BITS - 1):
        last, power = 2 * last, power - 1
    ball = arb(centre, arb((last - 1, power)))
    return ball if ball.rad() >= arb((last, power)) else arb(centre, arb((last, power)))


def _checked(raw: dict[str, Any]) -> Enclosure:
    if raw["status"] not in OUTCOMES:
        raise ValueError(f"{raw['status']!r} is no status")
    t1 = inf if raw["t1"] is None else float.fromhex(raw["t1"])
    if raw["t1"] is not None and not (isfinite(t1) and t1 > 0.0):
        raise ValueError(f"t1 is {t1}")
    state = _state(raw["state"])
    events = tuple(_event(row, len(state.a)) for row in raw["events"])
    return Enclosure(
        status=raw["status"],
        message=_text(raw["message"]),
        events=events,
        state=state,
        t1=t1,
        precision=_integer(raw["precision"]),
        order=_integer(raw["order"]),
        steps=_integer(raw["steps"]),
        rigorous=_flag(raw["rigorous"]),
    )


def _state(raw: dict[str, Any]) -> EnclosedState:
    a = [ball_of(v) for v in raw["a"]]
    W = [[ball_of(v) for v in w] for w in raw["W"]]
    sign = tuple(_integer(v) for v in raw["sign"])
    gap = tuple(Fraction(_text(v)) for v in raw["gap"])
    code, fate = np.array(raw["code"]), np.array(raw["fate"])
    m = len(a)
    if not (m > 0 and len(W) == len(sign) == len(gap) == len(code) == len(fate) == m):
        raise ValueError("its neurons differ in number")
    if len({len(w) for w in W}) != 1 or code.ndim != 2 or fate.ndim != 1:
        raise ValueError("its neurons differ in shape")
    if not (np.isin(code, (-1, 0, 1)).all() and np.isin(fate, range(len(FATES))).all()):
        raise ValueError("a code or a fate is none")
    if not set(sign) <= {-1, 1}:
        raise ValueError("a sign is none")
    return EnclosedState(
        ball_of(raw["t"]), a, W, sign, gap, code.astype(np.int8), fate.astype(np.int8),
        ball_of(raw["error"]),
    )  # fmt: skip


def _event(row: Any, m: int) -> EnclosedEvent:
    t, kind, *numbers = row
    neuron, sample, before, after = (_integer(v) for v in numbers)
    if kind not in EVENT_KINDS or not 0 <= neuron < m:
        raise ValueError(f"{row!r} is no event")
    return EnclosedEvent(ball_of(t), kind, neuron, sample, before, after)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no integer")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value
