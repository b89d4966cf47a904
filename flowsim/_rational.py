"""Numbers as users write them, kept exactly: floats, integers, fractions and decimal strings."""

from __future__ import annotations

import math
import numbers
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

# Float64 ends at 1.8e308 and 4.9e-324.  Decimals far outside are refused *before* they become
# fractions: "1e999999999" has a billion digits.
_LARGEST_EXPONENT = 308
_SMALLEST_EXPONENT = -324


class Numbers(NamedTuple):
    """An array of numbers, rounded and exact.

    Attributes
    ----------
    values : ndarray of float64
        The correctly rounded values, read-only.
    exact : ndarray of Fraction, or None
        The exact values; None for an array of floats, whose exact values are `values`.
    rational : bool
        Whether no entry came as a float.
    """

    values: np.ndarray
    exact: np.ndarray | None
    rational: bool


def exact(value: Any) -> Fraction:
    """Return the exact value of a number.

    Parameters
    ----------
    value : int, float, Fraction, Decimal or str
        A string holds a decimal ("-0.75", "1e-3") or a quotient ("-3/4"). A float means its
        binary value: ``exact(0.1)`` is not 1/10, ``exact("0.1")`` is.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If `value` is a string that is no number.
    OverflowError
        If `value` is infinite, not a number, or outside the range of float64.
    """
    if isinstance(value, str):
        value = _parse(value)
    if isinstance(value, Decimal):
        if not value.is_finite() or (value and not _in_range(value.adjusted())):
            raise OverflowError(f"{value} is outside the range of float64")
        value = Fraction(value)
    if isinstance(value, numbers.Rational):
        # int(): the numerator of a NumPy integer is a NumPy integer, which would wrap around.
        result = Fraction(int(value.numerator), int(value.denominator))
        if result and float(result) == 0.0:  # at the other end float() raises OverflowError itself
            raise OverflowError(f"{value} is outside the range of float64")
        return result
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise OverflowError(f"{value} is not finite")
        return Fraction(float(value))
    raise TypeError(f"{value!r} is not a real number")


def _parse(text: str) -> Fraction | Decimal:
    """Read a quotient or a decimal; raise ValueError if `text` is neither."""
    try:
        return Fraction(text) if "/" in text else Decimal(text.strip())
    except (ValueError, ZeroDivisionError, InvalidOperation):
        raise ValueError(f"{text!r} is not a number") from None


def _in_range(exponent: int) -> bool:
    return _SMALLEST_EXPONENT <= exponent <= _LARGEST_EXPONENT


def to_numbers(argument: Any, name: str, ndim: int | tuple[int, ...]) -> Numbers:
    """Convert an argument to float64 and keep its exact values.

    Parameters
    ----------
    argument : array_like
        An array, or nested sequences, of numbers as `exact` takes them.
    name : str
        The argument's name, for messages.
    ndim : int or tuple of int
        The number of axes that it must have, or the allowed ones in ascending order.

    Raises
    ------
    TypeError
        If an entry is not a real number.
    ValueError
        If the shape is wrong or ragged, or an entry is no number or not finite.
    """
    array = _object_array(argument, name)
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    # NumPy makes rows of different lengths an array of lists, which lacks an axis.
    if array.ndim == allowed[-1] - 1 and array.size and isinstance(array.flat[0], (list, tuple)):
        raise ValueError(f"Argument `{name}` must have rows of one length, but they differ.")
    if array.ndim not in allowed:
        kinds = " or ".join(f"{axes}-d" for axes in allowed)
        raise ValueError(
            f"Argument `{name}` must be a {kinds} array, but it has {_axes(array.ndim)}."
        )
    if array.dtype.kind == "f":
        values = np.array(array, dtype=np.float64, order="C")
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            place = tuple(bad[0])
            raise ValueError(_not_finite(name, place, values[place]))
        return _frozen(values, None, rational=False)
    return _convert_each(array, name)


def _object_array(argument: Any, name: str) -> np.ndarray:
    """Return `argument` as a float array if it is one, else as objects, none of them rounded."""
    if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
        return argument
    try:
        # dtype=object: NumPy would otherwise round ["0.1", Fraction(1, 3)] or turn 0.5 to "0.5".
        return np.array(argument, dtype=object)
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must have rows of one length, but they differ."
        ) from None


def _convert_each(array: np.ndarray, name: str) -> Numbers:
    values = np.empty(array.shape)
    fractions = np.empty(array.shape, dtype=object)
    rational = True
    for place, entry in np.ndenumerate(array):
        try:
            fractions[place] = exact(entry)
            values[place] = float(fractions[place])
        except OverflowError:
            raise ValueError(_not_finite(name, place, entry)) from None
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"Argument `{name}` must hold real numbers, but {_entry(name, place)} is {entry!r}."
            ) from None
        rational = rational and not _is_float(entry)
    return _frozen(values, fractions, rational)


def _is_float(entry: Any) -> bool:
    return isinstance(entry, numbers.Real) and not isinstance(entry, numbers.Rational)


def _frozen(values: np.ndarray, fractions: np.ndarray | None, rational: bool) -> Numbers:
    values.setflags(write=False)
    return Numbers(values, fractions, rational)


def _axes(ndim: int) -> str:
    return "no axis" if ndim == 0 else "1 axis" if ndim == 1 else f"{ndim} axes"


def _entry(name: str, place: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in place)}]"


def _not_finite(name: str, place: tuple[int, ...], entry: Any) -> str:
    return (
        f"Argument `{name}` must hold finite float64 numbers, but {_entry(name, place)} is {entry}."
    )
