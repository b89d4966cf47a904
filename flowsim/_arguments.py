"""Checks of arguments: each gives one sentence, "Argument `x` must ..., but ..."."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np


def real(name: str, value: Any) -> float:
    """Return a real number as a float; text, None, arrays and complex numbers are none.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it does not fit into float64, or is not a number.
    """
    if not isinstance(value, Real):
        raise TypeError(
            f"Argument `{name}` must be a real number, but is of type {type(value).__name__}."
        )
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"Argument `{name}` must fit into float64, but does not.") from None
    if number != number:
        raise ValueError(f"Argument `{name}` must be a number, but is nan.")
    return number


def whole(name: str, value: Any, low: int | None = None) -> int:
    """Return an integer of at least `low`.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is too small.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"Argument `{name}` must be an integer, but is {value!r}.") from None
    if low is not None and number < low:
        raise ValueError(f"Argument `{name}` must be at least {low}, but is {number}.")
    return number


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return one of some words, as a plain string.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    words = list(allowed)
    if not isinstance(value, str) or value not in words:
        raise ValueError(f"Argument `{name}` must be one of {', '.join(words)}, but is {value!r}.")
    return str(value)


def flag(name: str, value: Any) -> bool:
    """Return True or False.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"Argument `{name}` must be True or False, but is {value!r}.")
    return bool(value)


def system(net: Any, data: Any) -> None:
    """Check that a network and data are what they must be, and fit together.

    Raises
    ------
    TypeError
        If `net` is no TwoLayerReLU or `data` no Dataset.
    ValueError
        If their input dimensions differ, or the labels are vectors.
    """
    from flowsim.data import Dataset
    from flowsim.network import TwoLayerReLU

    for name, value, kind in (("net", net, TwoLayerReLU), ("data", data, Dataset)):
        if not isinstance(value, kind):
            raise TypeError(
                f"Argument `{name}` must be a {kind.__name__}, but is of type "
                f"{type(value).__name__}."
            )
    if net.d != data.d:
        raise ValueError(
            f"Argument `net` must have the data's input dimension {data.d}, but has {net.d}."
        )
    scalar_labels(data, "two-layer ReLU networks")


def scalar_labels(data: Any, purpose: str) -> None:
    """Check that a Dataset's labels are numbers, `y` of shape (n,).

    Raises
    ------
    ValueError
        If they are vectors.
    """
    if data.y.ndim != 1:
        raise ValueError(
            f"Argument `data` must have scalar labels for {purpose}, but has p={data.p}, y of "
            f"shape {data.y.shape}."
        )
