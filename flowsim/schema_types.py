"""Arrays and groups of a saved run, apart from what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Attribute = str | int | float | np.ndarray


@dataclass(frozen=True, eq=False)
class Variable:
    """One array with the names of its dimensions and its CF attributes."""

    values: np.ndarray
    dims: tuple[str, ...]
    attrs: dict[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Group:
    """Variables and attributes; the variable `time`, if any, is the others' coordinate."""

    variables: dict[str, Variable]
    attrs: dict[str, Attribute] = field(default_factory=dict)
    time: str | None = None
